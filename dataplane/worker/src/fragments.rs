//! Fragments of datagrams to one station: collected until their datagram is complete and sound, so that the firewall sees
//! whole datagrams only, with their ports, their length and a checksum that is right (RFC 1858, RFC 3128, RFC 5722). The first
//! fragment then takes the way of a packet, with the facts of the whole; what becomes of it becomes of the others
//! ([`depart`](crate::depart)).
//!
//! With several workers all fragments between two addresses meet on one, since only the first has ports; who owns the
//! session shows when the datagram is complete, and all its fragments go there.

use frame::Buffer;
use stage::DropReason;
use stage::reassembly::{DatagramId, Held, Key, Taken, Waiting};
use units::{PortId, WorkerId};
use wire::fragment::{self, Piece};
use wire::{Content, Facts, Frame, Malformed, Verify, dissect};

use crate::across::Crossing;
use crate::identification::Identifications;
use crate::local::{self, Audience};
use crate::packet::{Origin, Packet};
use crate::shard::Shard;
use crate::steer;
use crate::tunnel::Tunnel;

/// Datagrams whose time is over that are forgotten in one turn.
const EXPIRED_AT_ONCE: usize = 64;

/// What one worker needs for fragments.
#[derive(Debug)]
pub(crate) struct Fragments<B> {
    pub(crate) waiting: Waiting<B>,
    pub(crate) identifications: Identifications,
}

/// The other fragments of a datagram whose first fragment is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) datagram: DatagramId,
    /// Bytes of all fragments as IP packets, the first among them.
    pub(crate) bytes: u32,
    /// Bytes of the largest.
    pub(crate) largest: u16,
    /// Bytes of the transport in all fragments, its header included.
    pub(crate) segment: u16,
    pub(crate) follow: Follow,
}

/// How the other fragments follow the first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Follow {
    /// Rewritten as it was.
    AsTheFirst,
    /// Into the tunnel it has gone into, over a path that carries this much.
    IntoTunnel(Tunnel, Option<u16>),
    /// As fragments of the other version.
    Across(Crossing),
}

/// What became of a fragment.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "lives for one call, on the stack")]
pub(crate) enum Gathered<B> {
    /// It waits, or was dropped and counted.
    Gone,
    /// It is another worker's to collect.
    Elsewhere(B, WorkerId),
    /// It was the last: the datagram, and the worker that owns its session if that is another.
    Whole(Packet<B>, Option<WorkerId>),
    /// It was the last of an outer packet of a tunnel that ends here, put together.
    Outer(Packet<B>),
}

impl<B: Buffer> Shard<B> {
    /// Whether the fragments of such a datagram are collected: those to one station. Neighbor discovery never comes in
    /// fragments (RFC 6980), and what is for groups of this link is the kernel's matter.
    pub(crate) fn collects(&self, frame: &Frame, facts: &Facts) -> bool {
        !frame.link.destination.is_multicast()
            && local::audience(&self.snapshot, facts.endpoints.destination()) == Audience::One
            && !local::is_discovery_message(facts)
    }

    /// Takes in a fragment, whose facts these are. `steer` says that it may be another worker's.
    #[cold]
    pub(crate) fn gather(&mut self, packet: Packet<B>, facts: &Facts, steer: bool) -> Gathered<B> {
        let tenant = self.snapshot.tenant_of(&packet);
        let Packet { buffer, port, origin, .. } = packet;
        if steer {
            let collector = steer::collector(&facts.endpoints, &self.snapshot, self.workers);
            if collector != self.id {
                return Gathered::Elsewhere(buffer, collector);
            }
        }
        let Some(piece) = fragment::piece(buffer.bytes(), facts) else {
            self.counters.drop_one(Malformed::FragmentLength.into());
            return Gathered::Gone;
        };
        let key = Key {
            endpoints: facts.endpoints,
            protocol: if facts.endpoints.is_v6() { 0 } else { facts.protocol },
            identification: piece.identification,
            zone: self.snapshot.zone(port),
            tenant,
        };
        let counters = &self.counters;
        let mut lost = |reason: DropReason, many| (0..many).for_each(|_| counters.drop_one(reason));
        let held = Held { buffer, piece, packet: facts.end.saturating_sub(facts.network) };
        let limits = &self.snapshot.fragments.limits;
        let same = |one: &Held<B>, other: &Held<B>| payload(one) == payload(other);
        match self.fragments.waiting.take(key, held, self.now, limits, same, &mut lost) {
            Taken::Waits => Gathered::Gone,
            Taken::Dropped(reason) => {
                self.counters.drop_one(reason);
                Gathered::Gone
            }
            Taken::Complete(datagram) => self.complete(datagram, port, origin),
        }
    }

    /// Judges a datagram that is complete, and makes its first fragment the packet that stands for it.
    fn complete(&mut self, datagram: DatagramId, port: PortId, origin: Origin) -> Gathered<B> {
        let waiting = &mut self.fragments.waiting;
        let (total, bytes, largest) = waiting.measure(datagram);
        let frame = match judge(waiting, datagram, origin) {
            Ok(frame) => frame,
            Err(reason) => {
                while waiting.next(datagram).is_some() {
                    self.counters.drop_one(reason.into());
                }
                return Gathered::Gone;
            }
        };
        // What comes out of a tunnel is never taken out of another.
        if origin == Origin::Wire && self.is_outer(datagram, &frame) {
            return self.put_together(datagram, frame, port).map_or(Gathered::Gone, Gathered::Outer);
        }
        let Some(head) = self.fragments.waiting.next(datagram) else { return Gathered::Gone };
        let mut packet = Packet { buffer: head.buffer, frame, port, origin, rest: None };
        let Content::Ip(facts) = &packet.frame.content else { return Gathered::Whole(packet, None) };
        let before_transport = facts.transport_offset.saturating_sub(head.piece.begin);
        let segment = u16::try_from(total).unwrap_or(u16::MAX).saturating_sub(before_transport);
        packet.rest = Some(Rest { datagram, bytes, largest, segment, follow: Follow::AsTheFirst });
        let owner = steer::owner(&steer::Ends::of(facts), &self.snapshot, &self.slice, self.workers);
        let owner = (owner != self.id).then_some(owner);
        Gathered::Whole(packet, owner)
    }

    /// Forgets datagrams whose time is over, a bounded number a turn.
    pub(crate) fn forget_fragments(&mut self) {
        let counters = &self.counters;
        let mut lost = |reason: DropReason, many| (0..many).for_each(|_| counters.drop_one(reason));
        let limits = &self.snapshot.fragments.limits;
        self.fragments.waiting.expire(self.now, limits, EXPIRED_AT_ONCE, &mut lost);
    }
}

/// The bytes a fragment carries.
pub(crate) fn payload<B: Buffer>(held: &Held<B>) -> &[u8] {
    let Piece { begin, len, .. } = held.piece;
    let begin = usize::from(begin);
    held.buffer.bytes().get(begin..begin + usize::from(len)).unwrap_or_default()
}

/// The facts of a complete datagram, in its first fragment's frame. The kernel knows what it sends.
fn judge<B: Buffer>(waiting: &Waiting<B>, datagram: DatagramId, origin: Origin) -> Result<Frame, Malformed> {
    let (total, ..) = waiting.measure(datagram);
    let mut fragments = waiting.fragments(datagram);
    let head = fragments.next().ok_or(Malformed::FragmentLength)?;
    let mut frame = dissect(head.buffer.bytes(), Verify::Nothing)?;
    if let Content::Ip(facts) = &mut frame.content {
        let verify = origin != Origin::Kernel;
        *facts = fragment::whole(head.buffer.bytes(), facts, total, fragments.map(payload), verify)?;
    }
    Ok(frame)
}
