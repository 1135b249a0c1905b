//! The ways out of a worker: its own queues, the rings to other workers' queues, to the workers that own other sessions,
//! and to the kernel. Whatever finds its way out full is dropped and counted.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use frame::{Buffer, BufferPool, Burst, Nic};
use stage::DropReason;
use units::limits::{BURST_MAX, WORKERS_MAX};
use units::{PortId, WorkerId};

use crate::counters::WorkerCounters;
use crate::kernel_rings::KernelRings;
use crate::packet::{Handover, Label};
use crate::poll::HandoverRing;
use crate::ports::{Output, QueuePair};
use crate::trace::{DEPARTURES_MAX, Departure};
use crate::watch;

/// The kernel interface beside a port, as one worker knows it.
#[derive(Debug)]
pub struct KernelSide<B> {
    /// The port.
    pub port: PortId,
    /// Its rings.
    pub rings: Arc<KernelRings<B>>,
    /// Whether this worker is the one that takes what the kernel sends.
    pub reads: bool,
}

/// The ways out of one worker.
#[derive(Debug)]
pub struct Exits<N: Nic, P> {
    pool: P,
    pub(crate) queues: Vec<QueuePair<N>>,
    outputs: Vec<Output<N::Buffer>>,
    /// In the place of `outputs` while what leaves is written down; they are here then.
    aside: Vec<Output<N::Buffer>>,
    departures: ArrayVec<Departure, DEPARTURES_MAX>,
    pub(crate) kernel: Vec<KernelSide<N::Buffer>>,
    peers: Vec<HandoverRing<N::Buffer>>,
    /// What is about to be handed over, by worker.
    leaving: Vec<Option<Handover<N::Buffer>>>,
    /// A bit for each worker something is about to be handed over to.
    addressed: u64,
    /// A bit for each worker that was handed packets and has not been seen to have room since.
    handed: u64,
}

const _: () = assert!(WORKERS_MAX <= 64);

impl<N: Nic, P: BufferPool<Buffer = N::Buffer>> Exits<N, P> {
    /// These ways out: `outputs` by port, `peers` by worker (this worker's own ring among them, never used).
    pub fn new(
        pool: P,
        queues: Vec<QueuePair<N>>,
        outputs: Vec<Output<N::Buffer>>,
        kernel: Vec<KernelSide<N::Buffer>>,
        peers: Vec<HandoverRing<N::Buffer>>,
    ) -> Self {
        let aside = outputs.iter().map(|_| Output::Noted).collect();
        let departures = ArrayVec::new();
        let leaving = peers.iter().map(|_| None).collect();
        Self { pool, queues, outputs, aside, departures, kernel, peers, leaving, addressed: 0, handed: 0 }
    }

    /// Where buffers come from.
    pub const fn pool(&self) -> &P {
        &self.pool
    }

    /// Puts a packet on its way through a port.
    ///
    /// # Errors
    /// The packet comes back when there is no room.
    #[inline]
    pub(crate) fn send(&mut self, port: PortId, buffer: N::Buffer) -> Result<(), N::Buffer> {
        match self.outputs.get(port.index()) {
            Some(Output::Own(position)) => match self.queues.get_mut(*position) {
                Some(queue) => queue.push(buffer),
                None => Err(buffer),
            },
            Some(Output::Ring(ring)) => ring.push(buffer),
            Some(Output::Noted) => self.send_noted(port, buffer),
            None => Err(buffer),
        }
    }

    /// From now on what leaves is written down.
    pub(crate) fn note_departures(&mut self) {
        self.departures.clear();
        core::mem::swap(&mut self.outputs, &mut self.aside);
    }

    /// What has left since then; nothing more is written down.
    pub(crate) fn departures(&mut self) -> ArrayVec<Departure, DEPARTURES_MAX> {
        core::mem::swap(&mut self.outputs, &mut self.aside);
        core::mem::take(&mut self.departures)
    }

    /// Sends a packet and writes down what it was.
    #[cold]
    #[inline(never)]
    fn send_noted(&mut self, port: PortId, buffer: N::Buffer) -> Result<(), N::Buffer> {
        let departure = watch::departure(port, buffer.bytes());
        let sent = match self.aside.get(port.index()) {
            Some(Output::Own(position)) => match self.queues.get_mut(*position) {
                Some(queue) => queue.push(buffer),
                None => Err(buffer),
            },
            Some(Output::Ring(ring)) => ring.push(buffer),
            Some(Output::Noted) | None => Err(buffer),
        };
        if sent.is_ok() {
            let _ = self.departures.try_push(departure);
        }
        sent
    }

    /// Sends a whole burst on through one port.
    #[inline(always)]
    pub(crate) fn forward_all(&mut self, counters: &WorkerCounters, port: PortId, packets: &mut Burst<N::Buffer>) {
        let count = packets.len();
        match self.outputs.get(port.index()) {
            Some(&Output::Own(position)) => {
                if let Some(queue) = self.queues.get_mut(position) {
                    queue.push_all(packets);
                }
            }
            Some(Output::Ring(ring)) => push_while_room(ring, packets),
            Some(Output::Noted) => self.send_all_noted(port, packets),
            None => {}
        }
        counters.forwarded.add((count - packets.len()) as u64);
        if !packets.is_empty() {
            packets.drain(..).for_each(|_| counters.drop_one(DropReason::TransmitFull));
        }
    }

    /// As [`send_noted`](Self::send_noted), of a burst; what finds no room stays in it.
    fn send_all_noted(&mut self, port: PortId, packets: &mut Burst<N::Buffer>) {
        let burst = core::mem::take(packets);
        for buffer in burst {
            if let Err(buffer) = self.send_noted(port, buffer) {
                packets.push(buffer);
            }
        }
    }

    /// Sends a packet on.
    pub fn forward(&mut self, counters: &WorkerCounters, port: PortId, buffer: N::Buffer) {
        match self.send(port, buffer) {
            Ok(()) => counters.forwarded.add(1),
            Err(_) => counters.drop_one(DropReason::TransmitFull),
        }
    }

    /// Sends a packet the appliance made.
    pub fn originate(&mut self, counters: &WorkerCounters, port: PortId, buffer: N::Buffer) {
        match self.send(port, buffer) {
            Ok(()) => counters.originated.add(1),
            Err(_) => counters.originated_lost.add(1),
        }
    }

    /// Gives a packet to the kernel.
    pub fn punt(&self, counters: &WorkerCounters, port: PortId, buffer: N::Buffer) {
        let Some(side) = self.kernel.iter().find(|side| side.port == port) else {
            counters.drop_one(DropReason::NoKernelInterface);
            return;
        };
        match side.rings.punt(buffer) {
            Ok(()) => counters.punted.add(1),
            Err(_) => counters.drop_one(DropReason::KernelFull),
        }
    }

    /// Gives a packet to the worker that owns its session, together with those before it that have as much in common, at the
    /// end of the turn at the latest.
    pub(crate) fn hand_over(&mut self, counters: &WorkerCounters, owner: WorkerId, label: Label, buffer: N::Buffer) {
        let Some(leaving) = self.leaving.get_mut(owner.index()) else {
            return counters.drop_one(DropReason::HandoverFull);
        };
        if let Some(handover) = leaving
            && handover.label == label
            && !handover.buffers.is_full()
        {
            return handover.buffers.push(buffer);
        }
        self.addressed |= bit(owner.index());
        if let Some(whole) = leaving.replace(Handover::of(label, buffer)) {
            self.put_over(counters, owner.index(), whole);
        }
    }

    /// Puts packets on the ring of another worker.
    fn put_over(&mut self, counters: &WorkerCounters, owner: usize, handover: Handover<N::Buffer>) {
        self.handed |= bit(owner);
        let count = handover.buffers.len();
        match self.peers.get(owner).map(|ring| ring.push(handover)) {
            Some(Ok(())) => counters.handed_over.add(count as u64),
            Some(Err(_)) | None => (0..count).for_each(|_| counters.drop_one(DropReason::HandoverFull)),
        }
    }

    /// Whether the workers that were handed packets lately have room for whatever a burst may bring. Others are not asked:
    /// their rings are memory that somebody else writes to.
    pub(crate) fn has_room_between_workers(&mut self) -> bool {
        if self.handed != 0 {
            for (owner, ring) in self.peers.iter().enumerate() {
                if self.handed & bit(owner) != 0 && ring.len() + BURST_MAX <= ring.capacity() {
                    self.handed &= !bit(owner);
                }
            }
        }
        self.handed == 0
    }

    /// Sends what has gathered, through the ports and to other workers.
    pub fn flush(&mut self, counters: &WorkerCounters) {
        for queue in &mut self.queues {
            queue.flush();
        }
        if self.addressed != 0 {
            self.flush_to_workers(counters);
        }
    }

    /// Sends what has gathered to other workers.
    pub(crate) fn flush_to_workers(&mut self, counters: &WorkerCounters) {
        for owner in 0..self.leaving.len() {
            if let Some(handover) = self.leaving.get_mut(owner).and_then(Option::take) {
                self.put_over(counters, owner, handover);
            }
        }
        self.addressed = 0;
    }
}

/// The bit of a worker.
const fn bit(worker: usize) -> u64 {
    if worker < 64 { 1 << worker } else { 0 }
}

/// Puts packets on the ring of another worker's queue; those behind the first that finds no room stay.
fn push_while_room<B>(ring: &ArrayQueue<B>, packets: &mut Burst<B>) {
    let mut refused = Burst::new_const();
    for packet in packets.drain(..) {
        if let Err(packet) = ring.push(packet) {
            refused.push(packet);
        }
    }
    *packets = refused;
}
