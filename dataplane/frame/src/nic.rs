//! One queue pair of a port, as one worker polls it.

use crate::{Buffer, Burst};

/// A receive and a transmit queue, used by one thread at a time.
pub trait Nic: Send {
    /// The buffers this device fills and sends.
    type Buffer: Buffer;

    /// Appends what has arrived, at most 32 packets and never more than the burst has room for. Returns how many.
    fn receive(&mut self, burst: &mut Burst<Self::Buffer>) -> usize;

    /// Sends from the front of the burst; what the device did not take stays in it, in order. Returns how many went.
    fn transmit(&mut self, burst: &mut Burst<Self::Buffer>) -> usize;
}
