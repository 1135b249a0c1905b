//! The ways out of a worker: its own queues, the rings to other workers' queues, to the workers that own other sessions,
//! and to the kernel. Whatever finds its way out full is dropped and counted.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use frame::{Buffer, BufferPool, Burst, Nic};
use stage::DropReason;
use units::limits::{BURST_MAX, WORKERS_MAX};
use units::{PortId, WorkerId};

use crate::capture::Tap;
use crate::counters::WorkerCounters;
use crate::exchange::{Exchange, Exchanged};
use crate::kernel_rings::KernelRings;
use crate::packet::{Handover, Label};
use crate::poll::HandoverRing;
use crate::ports::{Output, QueuePair, Unplugged};
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
    /// What stays of the queue pairs whose ports have no device.
    unplugged: Vec<Unplugged<N::Buffer>>,
    exchange: Option<Arc<Exchange<N>>>,
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
        Self {
            pool,
            unplugged: Vec::with_capacity(queues.len()),
            exchange: None,
            queues,
            outputs,
            aside,
            departures,
            kernel,
            peers,
            leaving,
            addressed: 0,
            handed: 0,
        }
    }

    /// The same, with devices that may be exchanged here.
    #[must_use]
    pub fn exchanging(self, exchange: Arc<Exchange<N>>) -> Self {
        Self { exchange: Some(exchange), ..self }
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
            Some(Output::Away(_)) | None => Err(buffer),
        }
    }

    /// Why a port did not take a packet.
    #[cold]
    pub(crate) fn refusal(&self, port: PortId) -> DropReason {
        let is_away = |outputs: &[Output<N::Buffer>]| matches!(outputs.get(port.index()), Some(Output::Away(_)));
        if is_away(&self.outputs) || is_away(&self.aside) { DropReason::PortVanished } else { DropReason::TransmitFull }
    }

    /// Takes the device out of a port. What is sent through it from now on is dropped; the queue pair, if it is this
    /// worker's, goes to the exchange.
    pub(crate) fn unplug(&mut self, port: PortId) {
        let mut answer = Exchanged { port, nic: None, lost: 0 };
        let Some(place) = self.outputs.get_mut(port.index()) else { return self.answer(answer) };
        let before = core::mem::replace(place, Output::Away(None));
        let after = match before {
            Output::Own(position) if position < self.queues.len() => {
                let (nic, unplugged, lost) = self.queues.swap_remove(position).unplug();
                self.unplugged.push(unplugged);
                answer.nic = Some(nic);
                answer.lost = lost;
                // The last queue pair has its place now.
                let last = self.queues.len();
                for output in &mut self.outputs {
                    if let Output::Own(at) = output
                        && *at == last
                    {
                        *at = position;
                    }
                }
                Output::Away(None)
            }
            Output::Ring(ring) => Output::Away(Some(ring)),
            other @ (Output::Own(_) | Output::Away(_) | Output::Noted) => other,
        };
        if let Some(place) = self.outputs.get_mut(port.index()) {
            *place = after;
        }
        self.answer(answer);
    }

    /// Puts the device that lies at the exchange in a port, or finds the way through another worker's again. A device that
    /// has no place here goes back.
    pub(crate) fn plug(&mut self, port: PortId) {
        let mut answer = Exchanged { port, nic: None, lost: 0 };
        let offered = self.exchange.as_ref().and_then(|exchange| exchange.take());
        let idle = self.unplugged.iter().position(|unplugged| unplugged.port() == port);
        match (offered, idle) {
            (Some((of, nic)), Some(idle)) if of == port => {
                let (pair, lost) = self.unplugged.swap_remove(idle).plug(nic);
                answer.lost = lost;
                if let Some(place) = self.outputs.get_mut(port.index()) {
                    *place = Output::Own(self.queues.len());
                }
                self.queues.push(pair);
            }
            (offered, _) => {
                answer.nic = offered.map(|(_, nic)| nic);
                if let Some(Output::Away(ring)) = self.outputs.get_mut(port.index())
                    && let Some(ring) = ring.take()
                    && let Some(place) = self.outputs.get_mut(port.index())
                {
                    *place = Output::Ring(ring);
                }
            }
        }
        self.answer(answer);
    }

    fn answer(&self, answer: Exchanged<N>) {
        if let Some(exchange) = &self.exchange {
            exchange.give(answer);
        }
    }

    /// The captures of what is sent, by port; those of ports without a device go on when they have one.
    pub(crate) fn taps(&mut self) -> impl Iterator<Item = (PortId, &mut Option<Tap>)> {
        let plugged = self.queues.iter_mut().map(|queue| (queue.port(), &mut queue.tap));
        plugged.chain(self.unplugged.iter_mut().map(|unplugged| (unplugged.port(), &mut unplugged.tap)))
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
            Some(Output::Noted | Output::Away(_)) | None => Err(buffer),
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
            Some(Output::Away(_)) | None => {}
        }
        counters.forwarded.add((count - packets.len()) as u64);
        if !packets.is_empty() {
            let reason = self.refusal(port);
            packets.drain(..).for_each(|_| counters.drop_one(reason));
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
            Err(_) => counters.drop_one(self.refusal(port)),
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
