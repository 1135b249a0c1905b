//! What the pipeline knows of packets and devices: a buffer with bytes, a burst of them, a queue pair to take them from
//! and give them to. `dpdk` implements these over mbufs and ethdevs, [`memory`] over plain memory.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod burst;
pub mod memory;
pub mod nic;

pub use buffer::{Buffer, BufferPool, ReceivedChecksum};
pub use burst::Burst;
pub use nic::Nic;
