//! Sessions: one object per tracked conversation, found by either of its two tuples, owned by one worker.
//!
//! [`Table`] is a worker's shard for one address family, [`Sessions`] both families under one capacity. A worker calls
//! everything here from its own thread; but for [`Backing`], memory that is still to be used, nothing is shared, locked, allocated or read from a clock after start. What a
//! policy decided is stored in the session and only carried here; its meaning belongs to `stage` and `worker`.
//!
//! ```text
//! tuple -> hash -> index (64-byte buckets of tags) -> Session -> observe (tcp_state, datagram) -> forward
//!                                                        ^
//!                                  expiry (timer wheel) -+- removes what fell silent
//! ```
//!
//! Unsafe code lives in two audited files: `memory` (zeroed arrays) and `arch` (what a CPU does better than Rust).
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests tell in words what failed"))]

mod arch;
mod backing;
pub mod datagram;
mod direction;
mod entry;
mod expiry;
mod hash;
mod history;
mod index;
mod key;
mod memory;
mod sessions;
mod state;
mod stream;
mod table;
pub mod tcp_state;
mod timeouts;

pub use backing::Backing;
pub use direction::Direction;
pub use entry::{Deltas, NewSession, Session, Traffic};
pub use hash::HashSecret;
pub use history::{History, StreamHistory};
pub use index::CAPACITY_MAX;
pub use key::{Address, Kind, Tuple, WireTuple};
pub use memory::OutOfMemory;
pub use sessions::Sessions;
pub use state::State;
pub use table::{Hint, InsertError, Slot, Table};
pub use tcp_state::{Pickup, TcpFault, TcpOpening, TcpOutcome, open};
pub use timeouts::{Lingering, Timeouts};
