//! A packet on its way through one worker, and what becomes of it.

use stage::DropReason;
use units::{PortId, WorkerId};
use wire::emit::IcmpErrorKind;
use wire::{Facts, Frame};

use crate::binding::BindingId;
use crate::fragments::Rest;
use crate::next_hop::NextHopId;

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the wire, through the port's device.
    Wire,
    /// From the wire, out of a tunnel that ends here.
    Tunnel,
    /// From the kernel, through the port's kernel interface.
    Kernel,
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

impl<B> Packet<B> {
    /// Bytes of the IP packet, in all its fragments. `facts` are its own.
    pub(crate) fn len(&self, facts: &Facts) -> u32 {
        self.rest.map_or_else(|| u32::from(facts.end.saturating_sub(facts.network)), |rest| rest.bytes)
    }

    /// Bytes of the IP packet, or of the largest of its fragments.
    pub(crate) fn largest(&self, facts: &Facts) -> u16 {
        self.rest.map_or_else(|| facts.end.saturating_sub(facts.network), |rest| rest.largest)
    }
}

/// A packet on its way to the worker that owns its session.
#[derive(Debug)]
pub struct Handover<B> {
    /// The bytes.
    pub buffer: B,
    /// The port it came by.
    pub port: PortId,
    /// From the wire or the kernel.
    pub origin: Origin,
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
    /// For the worker that owns its session.
    HandOver(WorkerId),
    /// Its purpose is fulfilled.
    Consumed,
    /// Dropped, silently.
    Drop(DropReason),
    /// Dropped, and its sender told.
    Refuse(DropReason, Answer),
}
