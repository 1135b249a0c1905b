//! The two rings between a worker and the pump thread, one pair for each port with a kernel interface, and the counters
//! of what happened behind them.
//!
//! A worker calls [`KernelRings::punt`] and [`KernelRings::receive`] only: no allocation, lock or system call, and never a
//! wait. Everything else is the pump's.

use core::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use units::limits::KERNEL_RING;

/// The rings of one port. Shared by the pump and by the workers that poll the port.
#[derive(Debug)]
pub struct KernelRings<B> {
    to_kernel: ArrayQueue<B>,
    from_kernel: ArrayQueue<B>,
    counters: Counters,
}

/// What the pump counts; written by it alone.
#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    refused: AtomicU64,
    sent: AtomicU64,
    oversized: AtomicU64,
}

/// What went through a port's kernel interface since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Frames the kernel took.
    pub delivered: u64,
    /// Frames the kernel did not take: the interface was set down, or the frame was chained.
    pub refused: u64,
    /// Frames the kernel sent that reached the ring.
    pub sent: u64,
    /// Frames the kernel sent that are larger than the appliance's packet buffers.
    pub oversized: u64,
}

impl<B> Default for KernelRings<B> {
    fn default() -> Self {
        Self::new(KERNEL_RING)
    }
}

impl<B> KernelRings<B> {
    /// Empty rings with this many places each, at least one.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self { to_kernel: ArrayQueue::new(places), from_kernel: ArrayQueue::new(places), counters: Counters::default() }
    }

    /// Hands a frame to the kernel.
    ///
    /// # Errors
    /// The frame itself, when the ring is full: the caller counts it (`kernel_full`).
    pub fn punt(&self, frame: B) -> Result<(), B> {
        self.to_kernel.push(frame)
    }

    /// The next frame the kernel sends through this port.
    #[must_use]
    pub fn receive(&self) -> Option<B> {
        self.from_kernel.pop()
    }

    /// Whether the kernel has sent nothing: one load, for workers that look often.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.from_kernel.is_empty()
    }

    /// Frames in both rings.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.to_kernel.len() + self.from_kernel.len()
    }

    /// What went through since start.
    #[must_use]
    pub fn counters(&self) -> KernelCounters {
        let Counters { delivered, refused, sent, oversized } = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KernelCounters {
            delivered: read(delivered),
            refused: read(refused),
            sent: read(sent),
            oversized: read(oversized),
        }
    }

    /// The next frame for the kernel.
    pub fn next_for_kernel(&self) -> Option<B> {
        self.to_kernel.pop()
    }

    /// Whether a frame from the kernel would find a place.
    pub fn has_room_from_kernel(&self) -> bool {
        !self.from_kernel.is_full()
    }

    /// Puts in a frame from the kernel; the pump looked for room and is the only one that fills this ring.
    pub fn push_from_kernel(&self, frame: B) {
        if self.from_kernel.push(frame).is_ok() {
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a frame that was written to the kernel.
    pub fn count_written(&self, taken: bool) {
        let counter = if taken { &self.counters.delivered } else { &self.counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a frame from the kernel that fits no buffer.
    pub fn count_oversized(&self) {
        self.counters.oversized.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets go of every frame, so that no buffer is held when the pump has stopped.
    pub fn clear(&self) {
        while self.to_kernel.pop().is_some() {}
        while self.from_kernel.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_gives_the_frame_back() {
        let rings = KernelRings::new(1);
        assert_eq!(rings.punt(1), Ok(()));
        assert_eq!(rings.punt(2), Err(2));
        assert_eq!(rings.waiting(), 1);
        assert_eq!(rings.next_for_kernel(), Some(1));
        assert_eq!(rings.punt(3), Ok(()));
    }

    #[test]
    fn frames_from_the_kernel_come_in_order() {
        let rings = KernelRings::new(4);
        assert!(rings.is_quiet());
        rings.push_from_kernel("a");
        rings.push_from_kernel("b");
        assert!(!rings.is_quiet());
        assert_eq!((rings.receive(), rings.receive(), rings.receive()), (Some("a"), Some("b"), None));
        assert_eq!(rings.counters().sent, 2);
    }

    #[test]
    fn clearing_lets_go_of_every_buffer() {
        let buffer = std::sync::Arc::new(());
        let rings = KernelRings::new(4);
        rings.punt(buffer.clone()).unwrap();
        rings.push_from_kernel(buffer.clone());
        rings.clear();
        assert_eq!(std::sync::Arc::strong_count(&buffer), 1);
    }
}
