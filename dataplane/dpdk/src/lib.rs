//! The one safe door to DPDK: everything the appliance uses of it, behind types that cannot be misused from safe code.
//!
//! ```text
//! Eal::init ──> Pool::new ──> Port::open ──> (Port, Vec<Queue>)      Acl::new, Fib::new
//!    │            Mbuf            │ stats, link      │ receive, transmit
//!    └─ Lcore::register on each worker thread        └─ one worker each
//! ```
//!
//! Ownership, in one paragraph: the runtime is shut down when the last handle that needs it is gone (an [`Eal`], [`Pool`],
//! [`Port`], [`Queue`], [`Lcore`], [`Acl`] or [`Fib`]); a device is stopped and closed when its `Port` and all its queues
//! are; a pool's memory is given back only when every buffer has come home, and otherwise stays mapped until the process
//! ends. So no order of dropping can leave a pointer to memory that is gone. An [`Mbuf`] is not `Clone`: it cannot be
//! freed twice.
//!
//! Opening, closing and compiling belong to control and management threads; on the packet path are only
//! [`Queue`]'s `receive` and `transmit`, [`Mbuf`], [`Pool`]'s `allocate`, [`Clock`]'s `now`, and the look-ups of [`Acl`] and [`Fib`].
//! DPDK's own log goes to the `log` crate under the target `dpdk`.

mod acl;
mod af_packet;
mod allowance;
mod clock;
mod device;
mod diagnose;
pub mod doctor;
mod eal;
mod error;
mod ethdev;
mod fib;
mod heap;
mod lcore;
mod mbuf;
mod mempool;
mod multicast;
mod plan;
mod port;
mod queue;
mod rss;
mod said;
mod stats;

pub use acl::Acl;
pub use clock::Clock;
pub use device::{Device, DeviceKind};
pub use eal::{Eal, EalOptions};
pub use error::{Errno, Error};
pub use fib::Fib;
pub use lcore::Lcore;
pub use mbuf::Mbuf;
pub use mempool::{Pool, PoolOptions};
pub use multicast::Multicast;
pub use port::{Port, PortOptions};
pub use queue::Queue;
pub use rss::{Rss, Side};
pub use stats::{Link, PortStats};
