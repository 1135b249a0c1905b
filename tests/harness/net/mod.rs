//! End-to-end tests' view of the machine: network namespaces, the wires between them, real clients and servers in them,
//! and the `millrace` binary started on a configuration of the test's own.
//!
//! Called by the tests in `tests/e2e`, on their own thread. Not here: packets made by hand and the in-process data plane,
//! which need no privileges.
//!
//! Everything made here carries the test process's number, and is taken away when the [`Lab`] goes, whether the test
//! ended well or panicked. Only processes started here are ever signalled, by their number. One lab stands at a time in
//! a process: the machine has few processors and each appliance keeps some of them busy.

#![expect(clippy::missing_panics_doc, reason = "a harness panics wherever the machine does not do as it was told")]

mod appliance;
mod claims;
mod configuration;
mod eventually;
mod guest;
mod iperf;
mod lab;
mod namespace;
mod process;
mod servers;
mod skip;
mod tables;

pub use appliance::{Appliance, binary};
pub use claims::Claims;
pub use configuration::{Configuration, taps_named_as_wires};
pub use eventually::{Enough, eventually, holds_within, number_from_environment};
pub use guest::{Guest, Nic};
pub use iperf::{Iperf, Run};
pub use lab::Lab;
pub use namespace::{Finished, Namespace, in_url, unanswered};
pub use process::Process;
pub use servers::{Resolver, Web};
pub use skip::{skipped, skipping};
pub use tables::{Account, Backend};
