//! What every test of the whole pipeline stands on: packets that read aloud, a network card of plain memory, a clock that
//! obeys, and a rig that is the appliance without its devices. `net` is the other harness, of network namespaces and the
//! real program.
//!
//! Nothing here sleeps or depends on the machine's speed. A rig that is dropped asserts what must hold after every
//! scenario (A2 to A5 of the catalogue of cases); see [`Rig`].

#![expect(clippy::missing_panics_doc, reason = "a harness panics wherever something is not as it was said to be")]

pub mod case;
pub mod clock;
pub mod fragmented;
pub mod introduced;
pub mod joined;
pub mod net;
pub mod packet;
pub mod rig;
pub mod rules;
pub mod shop;
pub mod talk;

pub use clock::ManualClock;
pub use rig::{ADDRESSES, INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
pub use talk::Talk;

/// Packets of a flood: as many as `MILLRACE_FLOOD` says, for a run in full (1,000,000), else `usual`.
#[must_use]
pub fn flood_of(usual: u32) -> u32 {
    u32::try_from(net::number_from_environment("MILLRACE_FLOOD", usual.into())).unwrap_or(usual)
}
