//! The network functions as pure code over facts: firewall, limiter, balancer, address translation, forwarding, and the
//! registry of drop reasons. Nothing here sees a socket, a clock, TOML or an mbuf; what varies arrives as an argument.
//!
//! Written by management when a policy is compiled, read by every worker; what workers change (counters, limiter cells,
//! persistence) is atomic and bounded.
#![forbid(unsafe_code)]

pub mod address_set;
pub mod anti_spoof;
pub mod balancer;
pub mod blocklist;
pub mod drop_reason;
pub mod extension_policy;
pub mod firewall;
pub mod forward;
pub mod heavy_hitters;
pub mod introduction;
pub mod keyed_hash;
pub mod limiter;
pub mod port_range;
pub mod reassembly;
pub mod shared_table;
pub mod syn_cookie;
pub mod translate;
pub mod tunnel;

pub use address_set::AddressSet;
pub use drop_reason::DropReason;
pub use keyed_hash::Keyed;
pub use port_range::PortRange;
