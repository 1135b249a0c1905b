//! Packets of NAT64's sessions on their way from one IP version to the other (RFC 7915). What a client sends becomes IPv4 as it
//! leaves; what comes from the IPv4 side becomes IPv6 at the door, and is from then on a packet of its session like any other.
//!
//! Sizes are told in the terms of whoever sent the packet: IPv6 headers are 20 bytes longer. An IPv4 packet that routers may
//! cut becomes IPv6 fragments of the rule's `largest` bytes where it has to (RFC 7915 section 4), an IPv6 packet of 1,280 bytes or
//! less an IPv4 packet that may be cut. Fragments of a datagram follow its first one as [`Crossing`] says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use frame::Buffer;
use session::{Direction, Kind, Slot, Tuple};
use stage::DropReason;
use stage::translate::NewEndpoints;
use stage::translate::nat64::{self, Carried, LONGER, MTU_V6_MIN, Segment};
use units::PortId;
use wire::emit::IcmpErrorKind;
use wire::fragment::{Cut, Example, set_identification};
use wire::{Content, Endpoints, Facts, Fragment, Frame, Link, MacAddr, Transport, Verify, checksum, dissect};

use crate::act::{Acted, set_macs};
use crate::family::{Family, ends};
use crate::flow::Flow;
use crate::fragments::{Follow, payload};
use crate::next_hop::NextHopId;
use crate::packet::{Answer, Packet, Verdict};
use crate::shard::Shard;

/// What NAT64 cannot carry: a header its facts do not fit.
const TOO_EXOTIC: Verdict = Verdict::Drop(DropReason::Nat64Unsupported);

/// How the fragments of a datagram become fragments of the other version.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crossing {
    /// IPv4's, all with one fresh identification (RFC 6864 section 5.3), since many clients share an address.
    ToV4 { ends: (Ipv4Addr, Ipv4Addr), ttl: u8, identification: u16 },
    /// IPv6's, with the identification they came with: their sender's address is still in theirs.
    ToV6 { ends: (Ipv6Addr, Ipv6Addr), hop_limit: u8, limit: u16 },
}

/// An IPv4 address as NAT64's sessions have it.
pub(crate) fn mapped<A: Family>(address: IpAddr) -> Option<A> {
    match address {
        IpAddr::V4(v4) => A::from_ip(v4.to_ipv6_mapped().into()),
        IpAddr::V6(_) => None,
    }
}

/// The ends of a session's packets as they are on the wire.
pub(crate) const fn as_sent(endpoints: Endpoints) -> Endpoints {
    match endpoints {
        Endpoints::V6 { source, destination } => match (source.to_ipv4_mapped(), destination.to_ipv4_mapped()) {
            (Some(source), Some(destination)) => Endpoints::V4 { source, destination },
            _ => endpoints,
        },
        Endpoints::V4 { .. } => endpoints,
    }
}

/// The tuple of a session's IPv4 side as the translator knows it.
pub(crate) fn ends_v4<A: Family>(tuple: &Tuple<A>) -> Option<NewEndpoints<Ipv4Addr>> {
    let Endpoints::V4 { source, destination } = as_sent(A::endpoints(tuple)) else { return None };
    let Tuple { source_port, destination_port, .. } = *tuple;
    Some(NewEndpoints { source, destination, source_port, destination_port })
}

/// The tuple an IPv4 packet's session is found by.
pub(crate) const fn as_kept(tuple: &Tuple<Ipv4Addr>) -> Tuple<Ipv6Addr> {
    Tuple {
        source: tuple.source.to_ipv6_mapped(),
        destination: tuple.destination.to_ipv6_mapped(),
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    }
}

impl Crossing {
    /// Lets a fragment follow the first of its datagram, which has left with these MACs. False when it cannot.
    pub(crate) fn lead<B: Buffer>(&self, packet: &mut Packet<B>, facts: &Facts, macs: [u8; 12]) -> bool {
        let Some(carried) = Carried::read(packet.buffer.bytes(), facts) else { return false };
        let buffer = &mut packet.buffer;
        if !buffer.resize(usize::from(facts.end)) {
            return false;
        }
        let cut = match *self {
            Self::ToV4 { ends, ttl, identification } => carried.write_v4(buffer.bytes_mut(), ends, ttl, identification),
            Self::ToV6 { ends, hop_limit, limit } => {
                let grown = buffer.prepend(carried.growth(limit)).is_some();
                grown.then(|| carried.write_v6(buffer.bytes_mut(), ends, hop_limit, limit)).flatten()
            }
        };
        if !cut.is_some_and(|cut| buffer.trim_front(cut)) {
            return false;
        }
        if let Some(place) = buffer.bytes_mut().first_chunk_mut::<12>() {
            *place = macs;
        }
        // Should it be cut once more, its own header says how.
        dissect(buffer.bytes(), Verify::Nothing).map(|frame| packet.frame = frame).is_ok()
    }
}

impl<B> Shard<B> {
    /// The MTU of a port.
    pub(crate) fn mtu(&self, port: PortId) -> u16 {
        self.snapshot.port(port).map_or(MTU_V6_MIN, |facts| facts.mtu)
    }

    /// The session of NAT64 that an IPv4 packet belongs to.
    pub(crate) fn found_across(&self, kind: Kind, tuple: &Tuple<Ipv4Addr>) -> Option<(Slot, Direction)> {
        if !self.snapshot.nat64.owns(tuple.destination.into()) {
            return None;
        }
        let (asked, table) = (as_kept(tuple), &self.sessions.v6);
        table.lookup(table.hash(kind, &asked), kind, &asked)
    }

    /// How an IPv6 packet that leaves through a port with this MTU has to be cut, if it has to be: only one that NAT64 has
    /// made of an IPv4 packet is, and has a fragment header for that.
    pub(crate) fn cut_across(&self, frame: &[u8], network: usize, mtu: u16) -> Option<Cut> {
        if self.snapshot.nat64.is_empty() {
            return None;
        }
        let source = Ipv6Addr::from(*frame.get(network + 8..)?.first_chunk::<16>()?);
        let rule = self.snapshot.nat64.behind(source.into())?;
        Cut::new_v6(frame, network, rule.largest.min(mtu))
    }
}

impl<B: Buffer> Shard<B> {
    /// The next hop on the IPv4 side of a session, looked up where it was not known.
    fn hop_across<A: Family>(&mut self, slot: Slot, direction: Direction) -> NextHopId {
        if self.hop_beside::<A>(slot, direction) == NextHopId::NONE {
            self.find_way_again::<A>(slot, direction);
        }
        self.hop_beside::<A>(slot, direction)
    }

    /// What the header of a packet says, of a datagram in fragments that of the first.
    fn carried(packet: &Packet<B>, facts: &Facts) -> Option<Carried> {
        let fragment = if packet.rest.is_some() { Fragment::First } else { facts.fragment };
        Carried::read(packet.buffer.bytes(), &Facts { fragment, ..*facts })
    }

    /// What the checksum of a packet's transport covers.
    fn segment(&self, packet: &Packet<B>, facts: &Facts) -> Segment {
        let Some(rest) = packet.rest else {
            return Segment { len: facts.end.saturating_sub(facts.transport_offset), rest: 0 };
        };
        let others = match facts.transport {
            Transport::Udp { no_checksum: true, .. } => Some(self.fragments.waiting.fragments(rest.datagram)),
            _ => None,
        };
        let sums = others.into_iter().flatten().map(|held| checksum::sum(payload(held)));
        Segment { len: rest.segment, rest: sums.fold(0, u32::saturating_add) }
    }

    /// Sends a packet of the session in `slot` on to its IPv4 side.
    pub(crate) fn send_as_v4<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        if facts.hop_limit <= 1 {
            return Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded));
        }
        let Some(to) = ends_v4(&A::table(&self.sessions).session(slot).outgoing(direction)) else { return TOO_EXOTIC };
        let hop = self.hop_across::<A>(slot, direction);
        let (port, mac, ready) = match self.way_out(hop) {
            Ok(way) => way,
            Err(verdict) => return verdict,
        };
        let Some(carried) = Self::carried(packet, facts) else { return TOO_EXOTIC };
        let mtu = self.mtu(port);
        if carried.length_v4() > mtu && !carried.may_be_cut_as_v4() {
            let mtu = mtu.saturating_add(LONGER).max(MTU_V6_MIN);
            return Verdict::Refuse(DropReason::PacketTooBig, Answer::Icmp(IcmpErrorKind::TooBig { mtu }));
        }
        let segment = self.segment(packet, facts);
        let (ends, ttl) = ((to.source, to.destination), facts.hop_limit - 1);
        let bytes = packet.buffer.bytes_mut();
        let written = nat64::transport_to_v4(bytes, facts, &to, segment)
            .and_then(|()| carried.write_v4(bytes, ends, ttl, 0))
            .filter(|&cut| packet.buffer.resize(usize::from(facts.end)) && packet.buffer.trim_front(cut));
        let Some(cut) = written else { return TOO_EXOTIC };
        let endpoints = Endpoints::V4 { source: to.source, destination: to.destination };
        let dont_fragment = !carried.may_be_cut_as_v4();
        let place = (Carried::transport_v4(), usize::from(facts.end).saturating_sub(cut));
        let facts = turned(
            &Facts { dont_fragment, hop_limit: ttl, ..*facts },
            endpoints,
            place,
            to.source_port,
            to.destination_port,
        );
        if !dont_fragment && let Some(example) = Example::of(packet.buffer.bytes(), &facts) {
            let fresh = self.fragments.identifications.next(&example, false);
            let _ = set_identification(packet.buffer.bytes_mut(), &facts, fresh);
            if let Some(rest) = &mut packet.rest {
                let identification = u16::try_from(fresh & 0xffff).unwrap_or(0);
                rest.follow = Follow::Across(Crossing::ToV4 { ends, ttl, identification });
            }
        }
        self.address(packet, facts, port, mac);
        if ready { Verdict::Forward(port) } else { Verdict::Hold(hop) }
    }

    /// Writes the MACs of a packet that has become one of the other version, and what it is now.
    fn address(&self, packet: &mut Packet<B>, facts: Facts, port: PortId, mac: MacAddr) {
        let source = self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac);
        set_macs(packet.buffer.bytes_mut(), mac, source);
        packet.frame = frame_of(facts, mac, source);
    }

    /// Treats an IPv4 packet of a session of NAT64; `None` when it is none.
    pub(crate) fn bring_across(&mut self, packet: &mut Packet<B>) -> Option<Verdict> {
        let Content::Ip(facts) = packet.frame.content else { return None };
        let Some(Flow::V4(kind, tuple)) = Flow::of(&facts) else { return None };
        let (slot, direction) = self.found_across(kind, &tuple)?;
        Some(match self.become_v6(packet, &facts, slot, direction) {
            Ok(_) => match self.act::<Ipv6Addr>(packet, slot, direction) {
                // An answer to what it has become would reach nobody.
                Acted::Verdict(Verdict::Refuse(reason, _)) => Verdict::Drop(reason),
                Acted::Verdict(verdict) => verdict,
                // What would open a new session is sent again.
                Acted::Anew => Verdict::Drop(DropReason::NoSession),
            },
            Err(verdict) => verdict,
        })
    }

    /// Makes an IPv4 packet the IPv6 packet its session in `slot` has for it; returns the facts of what it is now.
    pub(crate) fn become_v6(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Result<Facts, Verdict> {
        if facts.hop_limit <= 1 {
            return Err(Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded)));
        }
        let to = ends(&self.sessions.v6.session(slot).outgoing(direction));
        let hop = self.hop_of::<Ipv6Addr>(slot, direction);
        let mtu = self.next_hops.port(hop).map_or(MTU_V6_MIN, |port| self.mtu(port));
        let largest = self.snapshot.nat64.behind(to.source.into()).map_or(MTU_V6_MIN, |rule| rule.largest);
        let limit = largest.min(mtu);
        let carried = Self::carried(packet, facts).ok_or(TOO_EXOTIC)?;
        if carried.length_v6() > mtu && !carried.may_be_cut() {
            let mtu = mtu.saturating_sub(LONGER);
            return Err(Verdict::Refuse(DropReason::PacketTooBig, Answer::Icmp(IcmpErrorKind::TooBig { mtu })));
        }
        let segment = self.segment(packet, facts);
        let (growth, ends) = (carried.growth(limit), (to.source, to.destination));
        nat64::transport_to_v6(packet.buffer.bytes_mut(), facts, &to, segment).ok_or(TOO_EXOTIC)?;
        if !packet.buffer.resize(usize::from(facts.end)) || packet.buffer.prepend(growth).is_none() {
            return Err(Verdict::Drop(DropReason::BuffersExhausted));
        }
        let cut = carried.write_v6(packet.buffer.bytes_mut(), ends, facts.hop_limit, limit).ok_or(TOO_EXOTIC)?;
        packet.buffer.trim_front(cut);
        if let Some(rest) = &mut packet.rest {
            let hop_limit = facts.hop_limit - 1;
            rest.follow = Follow::Across(Crossing::ToV6 { ends, hop_limit, limit });
        }
        let endpoints = Endpoints::V6 { source: to.source, destination: to.destination };
        let place = (carried.transport_v6(limit), (usize::from(facts.end) + growth).saturating_sub(cut));
        let facts = Facts { dont_fragment: !carried.may_be_cut(), ..*facts };
        let facts = turned(&facts, endpoints, place, to.source_port, to.destination_port);
        packet.frame = frame_of(facts, MacAddr::ZERO, MacAddr::ZERO);
        Ok(facts)
    }
}

/// The facts of a packet that has become one of the other version, in a frame without tags whose transport begins and ends at
/// `place`.
fn turned(
    facts: &Facts,
    endpoints: Endpoints,
    place: (usize, usize),
    source_port: u16,
    destination_port: u16,
) -> Facts {
    let narrow = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
    let mut transport = facts.transport;
    match &mut transport {
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port) = (source_port, destination_port),
        Transport::Udp { source_port: source, destination_port: destination, no_checksum } => {
            (*source, *destination, *no_checksum) = (source_port, destination_port, false);
        }
        Transport::Echo { identifier, .. } => *identifier = source_port,
        _ => {}
    }
    let protocol = match (facts.transport, endpoints.is_v6()) {
        (Transport::Echo { .. }, true) => wire::icmpv6::PROTOCOL,
        (Transport::Echo { .. }, false) => wire::icmpv4::PROTOCOL,
        _ => facts.protocol,
    };
    let (transport_offset, end) = (narrow(place.0), narrow(place.1));
    Facts { endpoints, network: NETWORK, transport_offset, end, protocol, transport, ..*facts }
}

/// Where the IP header begins in a frame without tags.
const NETWORK: u16 = 14;

/// A frame without tags, with these facts.
const fn frame_of(facts: Facts, destination: MacAddr, source: MacAddr) -> Frame {
    let ethertype = if facts.endpoints.is_v6() { 0x86dd } else { 0x0800 };
    let link = Link { destination, source, tags: 0, vlan: 0, ethertype, payload: NETWORK };
    Frame { link, content: Content::Ip(facts) }
}
