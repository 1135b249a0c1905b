//! Health of backends: probes over ordinary sockets, which reach the backends through the kernel interfaces of the ports.
//!
//! - [`Target`]: what is probed, from the policy.
//! - `tally`: answers and misses to up and failed; pure.
//! - `probe`: one probe of each kind.
//! - [`Prober`]: a task for each target, replaced when the policy changes.
//!
//! Probes run on a thread of their own; policies come from the management threads. What is found is told to a callback, once for
//! every probe.

mod icmp;
mod probe;
mod prober;
mod tally;
mod target;

pub use prober::{Prober, Report};
pub use tally::Tally;
pub use target::{Target, targets};
