//! Our own traffic: clients on one side of the appliance, servers on the other, both in one thread that owns two DPDK
//! devices. Datagrams and TCP connections with real handshakes and closes, for as many clients as wanted, at a rate the
//! counter paces, stamped so that loss and time under way are seen.
//!
//! ```text
//!             stream (clients)                              server (answers what it is sent)
//!                 |   ^                                              ^   |
//!   trial:      offer | arrive                                arrive |   | send
//!                 v   |                                              |   v
//!             outside device  ------  appliance, or a wire  ------  inside device
//! ```
//!
//! `pace` says when, `clients` who, `stream` what; `frame` and `stamp` are the bytes, `connection` and `server` the two ends
//! of TCP, `trial` the loop, `tally` what it counts. Only `running` knows DPDK: it owns the thread.

pub mod clients;
pub mod connection;
pub mod frame;
pub mod latency;
#[cfg(test)]
pub(crate) mod memory;
pub mod pace;
pub mod running;
pub mod server;
pub mod stamp;
pub mod stream;
pub mod tally;
pub mod trial;

pub use clients::{Clients, Families};
pub use connection::{Habits, State};
pub use stream::{Side, Stream};
pub use tally::Tally;
pub use trial::{Trial, Wires};
