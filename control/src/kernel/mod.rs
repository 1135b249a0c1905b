//! The kernel beside each port: a TAP interface with the port's MAC address, MTU and addresses, so that what is addressed
//! to the appliance itself and not claimed by the data plane reaches ordinary sockets, and what those send reaches the
//! wire.
//!
//! ```text
//! worker -- to_kernel ring --> pump thread --> TAP --> kernel: sshd, BIRD, health probes
//! worker <-- from_kernel ring -- pump thread <-- TAP <-- kernel
//! ```
//!
//! - [`interface`]: one TAP interface, made at start and gone at stop.
//! - [`KernelRings`]: the two rings a worker and the pump meet at; the worker's crate has them.
//! - [`pump`]: the thread that moves frames.
//! - [`isolate`]: keeps the Linux stack from also treating what arrives on an interface that a port has taken over.
//! - `netlink`, `features`: the few messages to the kernel all this needs.
//!
//! Nothing here knows DPDK: buffers come from a [`frame::BufferPool`]. No worker ever makes a system call for it.

pub(crate) mod features;
pub mod interface;
pub mod isolate;
mod netlink;
pub mod pump;

pub use interface::{Interface, InterfaceError, InterfaceSpec};
pub use isolate::Isolation;
pub use pump::{Lane, Pump};
pub use worker::KernelRings;
