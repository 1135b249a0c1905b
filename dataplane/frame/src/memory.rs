//! A network card of plain memory: bounded buffers that return to their pool, a wire that can be put packets on and taken
//! from, and a jam for when nothing is taken. Tests run workers over it, and so does whoever asks where a packet would go.
//!
//! All memory is taken when the pool is made, so that a worker over it allocates only where the worker itself would.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use units::limits::BURST;

use crate::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};

/// Bytes in front of a frame, as DPDK leaves.
const HEADROOM: usize = 128;
/// The bytes of a buffer, headroom included.
type Storage = Box<[u8]>;

/// A bounded pool of buffers.
#[derive(Clone)]
pub struct MemoryPool {
    free: Arc<ArrayQueue<Storage>>,
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPool").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl MemoryPool {
    /// A pool of `buffers` buffers, each with room for a frame of `frame_bytes`.
    #[must_use]
    pub fn new(buffers: usize, frame_bytes: usize) -> Self {
        let free = ArrayQueue::new(buffers);
        for _ in 0..buffers {
            let _ = free.push(vec![0; HEADROOM + frame_bytes].into());
        }
        Self { free: Arc::new(free) }
    }

    /// Buffers that somebody owns (A3).
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.free.capacity() - self.free.len()
    }

    /// A buffer with these bytes; `None` when the pool is used up or they are too many.
    #[must_use]
    pub fn filled(&self, bytes: &[u8], checksum: ReceivedChecksum) -> Option<MemoryBuffer> {
        let mut buffer = self.allocate()?;
        buffer.checksum = checksum;
        if !buffer.resize(bytes.len()) {
            return None;
        }
        buffer.bytes_mut().copy_from_slice(bytes);
        Some(buffer)
    }
}

impl BufferPool for MemoryPool {
    type Buffer = MemoryBuffer;

    fn allocate(&self) -> Option<MemoryBuffer> {
        let storage = self.free.pop()?;
        Some(MemoryBuffer {
            storage: Some(storage),
            begin: HEADROOM,
            len: 0,
            chained: false,
            checksum: ReceivedChecksum::Unchecked,
            home: Arc::clone(&self.free),
        })
    }
}

/// One packet; goes back to its pool when it is dropped.
pub struct MemoryBuffer {
    storage: Option<Storage>,
    begin: usize,
    len: usize,
    chained: bool,
    checksum: ReceivedChecksum,
    home: Arc<ArrayQueue<Storage>>,
}

impl MemoryBuffer {
    /// Marks the packet as continued in another buffer.
    #[must_use]
    pub const fn chained(mut self) -> Self {
        self.chained = true;
        self
    }

    /// Its bytes, headroom included; it has them until it is dropped.
    fn storage(&self) -> &[u8] {
        self.storage.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for MemoryBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for MemoryBuffer {
    fn drop(&mut self) {
        if let Some(storage) = self.storage.take() {
            let _ = self.home.push(storage);
        }
    }
}

impl Buffer for MemoryBuffer {
    fn bytes(&self) -> &[u8] {
        self.storage().get(self.begin..self.begin + self.len).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let (begin, len) = (self.begin, self.len);
        let storage = self.storage.as_deref_mut().unwrap_or_default();
        storage.get_mut(begin..begin + len).unwrap_or_default()
    }

    fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.begin = self.begin.checked_sub(len)?;
        self.len += len;
        Some(self.bytes_mut())
    }

    fn trim_front(&mut self, len: usize) -> bool {
        let fits = len <= self.len;
        if fits {
            self.begin += len;
            self.len -= len;
        }
        fits
    }

    fn resize(&mut self, len: usize) -> bool {
        let fits = self.begin + len <= self.storage().len();
        if fits {
            let before = self.len;
            self.len = len;
            if let Some(added) = self.bytes_mut().get_mut(before..) {
                added.fill(0);
            }
        }
        fits
    }

    fn is_chained(&self) -> bool {
        self.chained
    }

    fn received_checksum(&self) -> ReceivedChecksum {
        self.checksum
    }
}

/// The cable of one queue: what has arrived, what was sent.
#[derive(Debug)]
pub struct Wire {
    arrived: ArrayQueue<MemoryBuffer>,
    sent: ArrayQueue<MemoryBuffer>,
    jammed: AtomicBool,
}

impl Wire {
    /// An empty cable with room for this many packets each way.
    #[must_use]
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            arrived: ArrayQueue::new(places),
            sent: ArrayQueue::new(places),
            jammed: AtomicBool::new(false),
        })
    }

    /// Puts a packet on the cable.
    ///
    /// # Errors
    /// The packet comes back when there is no place: the device drops it, as devices do.
    pub fn arrive(&self, packet: MemoryBuffer) -> Result<(), MemoryBuffer> {
        self.arrived.push(packet)
    }

    /// Takes what was sent, oldest first.
    #[must_use]
    pub fn take(&self) -> Option<MemoryBuffer> {
        self.sent.pop()
    }

    /// From now on nothing is sent, or everything again.
    pub fn jam(&self, jammed: bool) {
        self.jammed.store(jammed, Ordering::Relaxed);
    }

    /// Packets that have arrived and were not received yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.arrived.len()
    }
}

/// One queue pair on a [`Wire`].
#[derive(Debug)]
pub struct MemoryNic {
    wire: Arc<Wire>,
}

impl MemoryNic {
    /// The device at this end of the cable.
    #[must_use]
    pub const fn new(wire: Arc<Wire>) -> Self {
        Self { wire }
    }
}

impl Nic for MemoryNic {
    type Buffer = MemoryBuffer;

    fn receive(&mut self, burst: &mut Burst<MemoryBuffer>) -> usize {
        let mut received = 0;
        while received < BURST
            && !burst.is_full()
            && let Some(packet) = self.wire.arrived.pop()
        {
            burst.push(packet);
            received += 1;
        }
        received
    }

    fn transmit(&mut self, burst: &mut Burst<MemoryBuffer>) -> usize {
        if self.wire.jammed.load(Ordering::Relaxed) {
            return 0;
        }
        let room = (self.wire.sent.capacity() - self.wire.sent.len()).min(burst.len());
        for packet in burst.drain(..room) {
            let _ = self.wire.sent.push(packet);
        }
        room
    }
}
