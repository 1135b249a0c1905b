//! One packet's bytes. A buffer is owned by exactly one place at a time and returns to its pool when dropped; it is
//! never `Clone`, so safe code can neither free it twice nor use it after handing it on.

use core::fmt;

/// What the device found about the checksums of a received packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceivedChecksum {
    /// The device did not look: the pipeline must.
    #[default]
    Unchecked,
    /// The IP header's and the transport's checksum are both right.
    Good,
    /// The IP header's checksum is wrong.
    BadIp,
    /// The transport's checksum is wrong.
    BadTransport,
    /// A virtual device of the same kernel: the sender left the transport checksum to hardware that never was. When the
    /// transport checksum does not verify but equals the folded sum of the pseudo header, the receiver completes it.
    Partial,
}

/// One packet, contiguous in memory.
pub trait Buffer: Send + fmt::Debug {
    /// The frame, from the first byte of the Ethernet header, without the frame check sequence.
    fn bytes(&self) -> &[u8];

    /// The frame, to be changed in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Makes room for `len` bytes in front and returns the whole frame, or `None` when the headroom is too small.
    fn prepend(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Takes `len` bytes off the front; false, and nothing changed, when the frame is shorter.
    fn trim_front(&mut self, len: usize) -> bool;

    /// Sets the frame's length: shorter cuts the end, longer adds zeroed bytes; false, and nothing changed, when the
    /// buffer has no room for it.
    fn resize(&mut self, len: usize) -> bool;

    /// Whether the packet continues in further buffers the pipeline cannot see (a frame larger than the pool's buffers).
    fn is_chained(&self) -> bool;

    /// What the device found about the checksums.
    fn received_checksum(&self) -> ReceivedChecksum;

    /// Asks for the memory of the packet's description and of its headers, where another processor has had it.
    fn prefetch(&self) {}
}

/// Where buffers come from: shared by every thread, taken from without locks.
pub trait BufferPool: Send + Sync {
    /// The buffers of this pool.
    type Buffer: Buffer;

    /// An empty buffer (length 0, with headroom), or `None` when the pool is used up.
    fn allocate(&self) -> Option<Self::Buffer>;
}
