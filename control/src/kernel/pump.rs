//! The thread that moves frames between the rings and the kernel interfaces, all ports in one loop.
//!
//! A busy-polling worker fills `to_kernel` and must not make the system call that would wake a sleeper, so the pump looks
//! again after a short timed wait: 50 µs while there is traffic, growing to 1 ms. Frames of the kernel wake it at once.
//! Where a worker does not keep up, or the pool is used up, frames stay in the kernel's own queue, which then tells the
//! senders: nothing is lost between.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use frame::{Buffer, BufferPool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use super::interface::Interface;
use worker::KernelRings;

/// Frames moved in each direction of a lane before the next lane has its turn.
const TURN: usize = 64;

/// The wait after a turn that moved something, in nanoseconds; it doubles with each idle turn.
const WAIT_MIN: i64 = 50_000;

/// The longest wait, in nanoseconds: what a frame for the kernel may be late.
const WAIT_MAX: i64 = 1_000_000;

/// Ethernet header and one VLAN tag: what a frame is longer than the MTU.
const FRAMING: usize = 18;

/// One port's way to the kernel.
pub struct Lane<B> {
    device: Arc<SyncDevice>,
    rings: Arc<KernelRings<B>>,
    frame_max: usize,
    spare: Option<B>,
    /// The interface was taken away while the appliance ran: there is nothing more to wait for.
    removed: bool,
}

impl<B> std::fmt::Debug for Lane<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("frame_max", &self.frame_max).finish_non_exhaustive()
    }
}

impl<B: Buffer> Lane<B> {
    /// The way between this interface and these rings. It keeps the interface alive until the pump stops.
    #[must_use]
    pub fn new(interface: &Interface, rings: Arc<KernelRings<B>>) -> Self {
        let frame_max = usize::from(interface.spec().mtu) + FRAMING;
        Self { device: interface.device(), rings, frame_max, spare: None, removed: false }
    }

    /// Writes what waits for the kernel. Returns how many frames were moved.
    fn deliver(&self) -> usize {
        let mut moved = 0;
        while moved < TURN {
            let Some(frame) = self.rings.next_for_kernel() else { break };
            let taken = !frame.is_chained() && self.device.send(frame.bytes()).is_ok();
            self.rings.count_written(taken);
            moved += 1;
        }
        moved
    }

    /// Reads what the kernel sends. Returns how many frames were moved.
    fn collect<P: BufferPool<Buffer = B>>(&mut self, pool: &P) -> usize {
        let mut moved = 0;
        while moved < TURN && self.can_collect(pool) {
            let Some(mut frame) = self.spare.take() else { break };
            let room = frame.bytes().len();
            match self.device.recv(frame.bytes_mut()) {
                Ok(len) if len < room && frame.resize(len) => self.rings.push_from_kernel(frame),
                Ok(_) => self.rings.count_oversized(),
                Err(_) => {
                    self.spare = Some(frame);
                    break;
                }
            }
            moved += 1;
        }
        moved
    }

    /// Whether a frame of the kernel would find a buffer and a place in the ring.
    fn can_collect<P: BufferPool<Buffer = B>>(&mut self, pool: &P) -> bool {
        if self.removed || !self.rings.has_room_from_kernel() {
            return false;
        }
        if self.spare.is_none() {
            self.spare = pool.allocate().map(|mut frame| {
                // One byte more than the largest frame, so that one which fills the buffer was cut off; a buffer that is
                // too small for that takes what it can.
                let mut room = self.frame_max + 1;
                while !frame.resize(room) && room > 0 {
                    room /= 2;
                }
                frame
            });
        }
        self.spare.is_some()
    }
}

/// The running thread. Dropping it stops it.
#[derive(Debug)]
pub struct Pump {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Starts the thread over these lanes (without any there is none), taking buffers for the kernel's frames from `pool`. `begin` is the first thing
    /// the thread does: what an environment wants of every thread that touches its buffers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<P>(lanes: Vec<Lane<P::Buffer>>, pool: P, begin: impl FnOnce() + Send + 'static) -> io::Result<Self>
    where
        P: BufferPool + 'static,
        P::Buffer: 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        if lanes.is_empty() {
            return Ok(Self { stop, thread: None });
        }
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("kernel-pump".into()).spawn(move || {
            begin();
            run(lanes, &pool, &told);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops the thread and waits for it, a few milliseconds. The rings are empty afterwards and the interfaces are gone
    /// once their [`Interface`]s are dropped.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the kernel pump ended by a fault");
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.halt();
    }
}

/// The loop.
fn run<P: BufferPool>(mut lanes: Vec<Lane<P::Buffer>>, pool: &P, stop: &AtomicBool) {
    let mut wait = WAIT_MIN;
    while !stop.load(Ordering::Acquire) {
        let moved: usize = lanes.iter_mut().map(|lane| lane.deliver() + lane.collect(pool)).sum();
        if moved > 0 {
            wait = WAIT_MIN;
            continue;
        }
        let mut listening: Vec<&mut Lane<P::Buffer>> =
            lanes.iter_mut().filter_map(|lane| lane.can_collect(pool).then_some(lane)).collect();
        let mut sleepers: Vec<PollFd<'_>> =
            listening.iter().map(|lane| PollFd::from_borrowed_fd(lane.device.as_fd(), PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait };
        // An error is a signal's interruption or lasts: in both cases the next turn looks at everything anyway.
        let _ = poll(&mut sleepers, Some(&timeout));
        let woken: Vec<PollFlags> = sleepers.iter().map(PollFd::revents).collect();
        for (lane, flags) in listening.iter_mut().zip(woken) {
            if flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
                log::warn!("a kernel interface was removed while the appliance runs; restart to have it back");
                lane.removed = true;
            }
        }
        wait = (wait * 2).min(WAIT_MAX);
    }
    for lane in &lanes {
        lane.rings.clear();
    }
}
