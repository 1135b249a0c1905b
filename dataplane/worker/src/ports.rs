//! A worker's access to the ports: the queue pairs it polls, and a way out through every port.
//!
//! A queue pair belongs to one worker. A worker without a queue of its own on a port (a device with fewer queues than
//! there are workers) hands what it sends to the owner of one, over a ring. Packets wait in a short batch until the end
//! of the turn; what the device does not take stays for the next turn, and when the batch is full is dropped and counted.
//! A device may go and another come in its place; a pair without a device is not polled.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use frame::{Burst, Nic};
use units::PortId;

use crate::capture::Tap;

/// Packets worth a call of the driver's by themselves; fewer wait for others until the end of the turn.
const DIRECT: usize = 16;

/// One queue pair this worker polls, its batch of packets to send, and the ring other workers send through it by.
#[derive(Debug)]
pub struct QueuePair<N: Nic> {
    port: PortId,
    nic: N,
    batch: Burst<N::Buffer>,
    others: Option<Arc<ArrayQueue<N::Buffer>>>,
    /// Who sees what is sent.
    pub(crate) tap: Option<Tap>,
}

impl<N: Nic> QueuePair<N> {
    /// The queue pair `nic` of `port`; `others` is the ring of packets that other workers send through it.
    pub fn new(port: PortId, nic: N, others: Option<Arc<ArrayQueue<N::Buffer>>>) -> Self {
        Self { port, nic, batch: Burst::new_const(), others, tap: None }
    }

    /// The port this queue belongs to.
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// Takes what has arrived.
    pub fn receive(&mut self, burst: &mut Burst<N::Buffer>) -> usize {
        self.nic.receive(burst)
    }

    /// Puts a packet in the batch.
    ///
    /// # Errors
    /// The packet comes back when the batch is full and the device takes nothing.
    pub fn push(&mut self, packet: N::Buffer) -> Result<(), N::Buffer> {
        if self.batch.is_full() {
            self.transmit_batch();
        }
        self.batch.try_push(packet).map_err(|full| full.element())
    }

    /// Sends a whole burst on: at once when it is worth a call of the driver's and nothing waits before it. What finds no
    /// room stays in the burst.
    #[inline(always)]
    pub(crate) fn push_all(&mut self, packets: &mut Burst<N::Buffer>) {
        if self.batch.is_empty() && packets.len() >= DIRECT {
            match &mut self.tap {
                None => self.nic.transmit(packets),
                Some(tap) => tap.watch(&mut self.nic, packets),
            };
        }
        if !packets.is_empty() {
            self.gather(packets);
        }
    }

    /// Puts packets in the batch, as many as it takes.
    #[inline(never)]
    fn gather(&mut self, packets: &mut Burst<N::Buffer>) {
        if self.batch.len() + packets.len() > self.batch.capacity() {
            self.transmit_batch();
        }
        let room = self.batch.remaining_capacity().min(packets.len());
        self.batch.extend(packets.drain(..room));
    }

    /// Sends the batch and what other workers left. Returns how many packets the device took.
    pub fn flush(&mut self) -> usize {
        if let Some(others) = &self.others {
            while !self.batch.is_full()
                && let Some(packet) = others.pop()
            {
                self.batch.push(packet);
            }
        }
        if self.batch.is_empty() { 0 } else { self.transmit_batch() }
    }

    fn transmit_batch(&mut self) -> usize {
        match &mut self.tap {
            None => self.nic.transmit(&mut self.batch),
            Some(tap) => tap.watch(&mut self.nic, &mut self.batch),
        }
    }
}

/// What stays of a queue pair while its port has no device.
#[derive(Debug)]
pub(crate) struct Unplugged<B> {
    port: PortId,
    others: Option<Arc<ArrayQueue<B>>>,
    pub(crate) tap: Option<Tap>,
}

impl<N: Nic> QueuePair<N> {
    /// Takes the device out. What waited to be sent is lost: so many packets.
    pub(crate) fn unplug(self) -> (N, Unplugged<N::Buffer>, u64) {
        let Self { port, nic, batch, others, tap } = self;
        let lost = batch.len() as u64 + others.as_deref().map_or(0, discard);
        (nic, Unplugged { port, others, tap }, lost)
    }
}

impl<B> Unplugged<B> {
    /// The port it belongs to.
    pub(crate) const fn port(&self) -> PortId {
        self.port
    }

    /// Puts a device in. What other workers left before they knew that there was none is lost: so many packets.
    pub(crate) fn plug<N: Nic<Buffer = B>>(self, nic: N) -> (QueuePair<N>, u64) {
        let Self { port, others, tap } = self;
        let lost = others.as_deref().map_or(0, discard);
        (QueuePair { port, nic, batch: Burst::new_const(), others, tap }, lost)
    }
}

/// Drops what is in a ring now, not what is still being put there.
fn discard<B>(ring: &ArrayQueue<B>) -> u64 {
    (0..ring.len()).map_while(|_| ring.pop()).count() as u64
}

/// How this worker sends through one port.
#[derive(Debug)]
pub enum Output<B> {
    /// Through the queue pair at this position of the worker's own.
    Own(usize),
    /// Through another worker's queue pair.
    Ring(Arc<ArrayQueue<B>>),
    /// Not at all: the port has no device. The ring is the way as soon as it has one, if it is another worker's.
    Away(Option<Arc<ArrayQueue<B>>>),
    /// As the worker's own table says, and written down on the way.
    Noted,
}
