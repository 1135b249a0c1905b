//! A packet on its way through one worker, and what becomes of it.

use arrayvec::ArrayVec;
use frame::Buffer;
use stage::DropReason;
use units::limits::{BURST, WORKERS_MAX};
use units::{PortId, WorkerId};
use wire::emit::IcmpErrorKind;
use wire::{Facts, Frame, Verify, dissect};

use crate::binding::BindingId;
use crate::fragments::Rest;
use crate::next_hop::NextHopId;

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the wire, through the port's device.
    Wire,
    /// From the wire, out of a tunnel that ends here.
    Tunnel,
    /// From the wire of a paired port, on its way to another station than this appliance.
    InLine,
    /// From the kernel, through the port's kernel interface.
    Kernel,
    /// From the wire, handed back by an instance: it has passed so many tiers of the service it asks. Known once its session is.
    Tier(u8),
}

/// A packet, its bytes owned, its facts read.
#[derive(Debug)]
pub(crate) struct Packet<B> {
    /// The bytes.
    pub buffer: B,
    /// What they say.
    pub frame: Frame,
    /// The port it came by.
    pub port: PortId,
    /// From the wire or the kernel.
    pub origin: Origin,
    /// The other fragments of the datagram this is the first of; the facts are those of the whole datagram then.
    pub rest: Option<Rest>,
}

impl<B: Buffer> Packet<B> {
    /// Reads the packet again after its bytes were changed; false when they make no packet.
    pub(crate) fn read_again(&mut self) -> bool {
        let Ok(frame) = dissect(self.buffer.bytes(), Verify::Nothing) else { return false };
        self.frame = frame;
        true
    }
}

impl<B> Packet<B> {
    /// How many tiers of its service it has passed.
    pub(crate) const fn tiers_passed(&self) -> u8 {
        match self.origin {
            Origin::Tier(passed) => passed,
            Origin::Wire | Origin::Tunnel | Origin::InLine | Origin::Kernel => 0,
        }
    }

    /// Bytes of the IP packet, in all its fragments. `facts` are its own.
    pub(crate) fn len(&self, facts: &Facts) -> u32 {
        self.rest.map_or_else(|| u32::from(facts.end.saturating_sub(facts.network)), |rest| rest.bytes)
    }

    /// Bytes of the IP packet, or of the largest of its fragments.
    pub(crate) fn largest(&self, facts: &Facts) -> u16 {
        self.rest.map_or_else(|| facts.end.saturating_sub(facts.network), |rest| rest.largest)
    }
}

/// The workers that a packet's session was not found at: a bit for each. In bytes, so that it fits between the other words
/// of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked([u8; 8]);

const _: () = assert!(WORKERS_MAX <= 64);

impl Asked {
    /// None was asked: the packet goes to the owner of its session.
    pub(crate) const NOBODY: Self = Self([0; 8]);
    /// Nobody knows it: whoever gets the packet opens its session.
    pub(crate) const ALL: Self = Self([u8::MAX; 8]);

    /// These and `worker`.
    pub(crate) const fn and(self, worker: WorkerId) -> Self {
        Self((u64::from_ne_bytes(self.0) | 1 << (worker.get() & 63)).to_ne_bytes())
    }

    /// Whether `worker` is among them.
    pub(crate) const fn has(self, worker: WorkerId) -> bool {
        u64::from_ne_bytes(self.0) >> (worker.get() & 63) & 1 == 1
    }
}

/// How a burst came to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The port it came by.
    pub port: PortId,
    /// From the wire or the kernel.
    pub origin: Origin,
    /// Whether its packets may belong to other workers.
    pub steer: bool,
    /// Who was asked for the sessions of its packets before.
    pub asked: Asked,
    /// Whether another policy is in force where it was handed over.
    pub stale: bool,
}

impl Arrival {
    /// Straight from a port or its kernel interface.
    pub(crate) const fn first(port: PortId, origin: Origin) -> Self {
        Self { port, origin, steer: true, asked: Asked::NOBODY, stale: false }
    }
}

/// What packets have in common that one worker hands over to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// The port they came by.
    pub(crate) port: PortId,
    /// From the wire or the kernel.
    pub(crate) origin: Origin,
    /// Who has been asked.
    pub(crate) asked: Asked,
    /// The policy by which they go there, as sessions remember it.
    pub(crate) generation: u16,
}

/// Packets on their way to the worker that owns their sessions, or may have them: as many as fit into one place of its ring,
/// since what a ring costs, it costs for each place. Never empty.
#[derive(Debug)]
pub struct Handover<B> {
    pub(crate) label: Label,
    pub(crate) buffers: ArrayVec<B, BURST>,
}

impl<B> Handover<B> {
    /// One packet; others follow.
    pub(crate) fn of(label: Label, buffer: B) -> Self {
        let mut buffers = ArrayVec::new_const();
        buffers.push(buffer);
        Self { label, buffers }
    }
}

/// What the sender of a refused packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// TCP: a reset; anything else: ICMP administratively prohibited.
    Reject,
    /// TCP: a reset; anything else: nothing.
    Reset,
    /// An ICMP error.
    Icmp(IcmpErrorKind),
}

/// What becomes of a packet. Every packet gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its bytes are ready for the wire behind this port.
    Forward(PortId),
    /// Ready but for the destination MAC: it waits for the next hop to answer.
    Hold(NextHopId),
    /// Too large for the tunnel of this binding to the backend of this key: it is cut, and each piece wrapped.
    Cut(BindingId, u64),
    /// For the kernel, through the interface beside this port.
    Punt(PortId),
    /// It has become the answer to itself and leaves through this port.
    Answered(PortId),
    /// For the worker that owns its session, or may have it; these were asked.
    HandOver(WorkerId, Asked),
    /// Its purpose is fulfilled.
    Consumed,
    /// Dropped, silently.
    Drop(DropReason),
    /// Dropped, and its sender told.
    Refuse(DropReason, Answer),
}
