//! What passes through a pair of ports and is no plain packet of a session: frames that are not IP, first packets, tagged
//! and fragmented ones, ICMP errors, and packets that are taken out of the passing traffic for a virtual service (SE-15).
//! Plain packets of sessions are in [`pair`](crate::pair).
//!
//! Every frame leaves by the other port as it came. IP packets have to be allowed by the firewall, from the zone of the one
//! port to the zone of the other, and belong to sessions like routed ones; what neighbors say among themselves (ARP,
//! neighbor and listener discovery) and all that is not IP is not judged. What is said about addresses of the appliance is
//! answered and alarmed as at any port, and not passed on; the appliance has none in a VLAN, so there others may have them.

use frame::Buffer;
use session::{Direction, NewSession, Slot, Traffic, tcp_state};
use stage::DropReason;
use stage::balancer::{Attract, Backend};
use stage::firewall::Candidate;
use stage::forward::Evidence;
use stage::translate::{Deltas, outer_addresses};
use units::{PortId, ServiceId};
use wire::ndp::{Neighbor, neighbor_message};
use wire::{Arp, Content, Facts, Frame, MacAddr, Malformed, Quote, Transport};

use std::net::IpAddr;
use std::sync::Arc;

use crate::binding::BindingId;
use crate::burst::Door;
use crate::command::Event;
use crate::family::{Family, ends};
use crate::icmp::ErrorFamily;
use crate::lane::Task;
use crate::local::{self, answers_for, is_discovery_message, is_ours};
use crate::next_hop::NextHopId;
use crate::open::{Applicant, Bound, ports_of};
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::pair::{leads_to, lease_of, set_station};
use crate::shard::Shard;
use crate::snapshot::{Pair, Snapshot};

/// Where a frame comes from that was read in full: at a paired port it is on its way through, unless it is for the port's
/// own station.
pub(crate) fn origin_of(frame: &Frame, door: Door) -> Origin {
    match door.origin {
        Origin::InLine if frame.link.destination == door.station => Origin::Wire,
        origin => origin,
    }
}

/// Whether a fault does not matter to who only passes frames on: they are no IP packets.
pub(crate) const fn is_no_matter(fault: Malformed) -> bool {
    matches!(fault, Malformed::ArpTruncated | Malformed::ArpUnsupported | Malformed::ArpSender)
}

/// What becomes of a packet whose session was ended. The appliance keeps no MACs of sessions in line, so whoever speaks
/// next is told, in the other's name.
pub(crate) fn told<B>(packet: &Packet<B>, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Drop(reason @ DropReason::FirewallRejected) if packet.origin == Origin::InLine => {
            Verdict::Refuse(reason, Answer::Reject)
        }
        Verdict::Drop(reason @ (DropReason::BackendDrained | DropReason::BackendFailed))
            if packet.origin == Origin::InLine =>
        {
            Verdict::Refuse(reason, Answer::Reset)
        }
        verdict => verdict,
    }
}

/// Whether an `ICMPv6` message is multicast listener discovery (RFC 2710, RFC 3810): between a host and its router.
const fn is_listener_message(facts: &Facts) -> bool {
    matches!(facts.transport, Transport::Icmp { kind: 130..=132 | 143, .. } if facts.protocol == 58)
}

/// Whether an ARP packet is about the appliance.
fn arp_concerns_us(snapshot: &Snapshot, port: PortId, arp: &Arp) -> bool {
    let (sender, target) = (IpAddr::V4(arp.sender), IpAddr::V4(arp.target));
    is_ours(snapshot, sender) || (arp.request && arp.sender != arp.target && answers_for(snapshot, port, target))
}

/// Whether a message of neighbor discovery is about the appliance.
fn discovery_concerns_us(snapshot: &Snapshot, port: PortId, facts: &Facts, message: Neighbor) -> bool {
    match message {
        Neighbor::Solicitation { target, .. } => {
            is_ours(snapshot, facts.endpoints.source()) || answers_for(snapshot, port, IpAddr::V6(target))
        }
        Neighbor::Advertisement { target, .. } => is_ours(snapshot, IpAddr::V6(target)),
    }
}

impl<B: Buffer> Shard<B> {
    /// As [`sort`](Shard::sort), of a packet that passes in line.
    pub(crate) fn sort_in_line(&self, packet: &mut Packet<B>, verdict: &mut Verdict) -> Task {
        let port = packet.port;
        let Some(pair) = self.snapshot.pair(port) else {
            *verdict = Verdict::Drop(DropReason::NotOurMac);
            return Task::Done;
        };
        let on = Verdict::Forward(pair.other);
        let tell = &mut |event| self.tell(event);
        let untagged = packet.frame.link.tags == 0;
        *verdict = match packet.frame.content {
            Content::Other => on,
            Content::Arp(arp) if untagged && arp_concerns_us(&self.snapshot, port, &arp) => {
                local::arp(&self.snapshot, packet, &arp, tell)
            }
            Content::Arp(arp) => {
                self.watch(port, IpAddr::V4(arp.sender), Some(arp.sender_mac));
                on
            }
            Content::Ip(facts) if is_discovery_message(&facts) => {
                match neighbor_message(packet.buffer.bytes(), &facts) {
                    _ if facts.fragment != wire::Fragment::No => Verdict::Drop(DropReason::NeighborDiscoveryInvalid),
                    Some(message) if untagged && discovery_concerns_us(&self.snapshot, port, &facts, message) => {
                        local::discovery(&self.snapshot, packet, &facts, tell)
                    }
                    Some(Neighbor::Solicitation { source_link, .. }) => {
                        self.watch(port, facts.endpoints.source(), source_link);
                        on
                    }
                    Some(Neighbor::Advertisement { target, link, .. }) => {
                        self.watch(port, IpAddr::V6(target), link);
                        on
                    }
                    None => on,
                }
            }
            Content::Ip(facts) if is_listener_message(&facts) => on,
            Content::Ip(_) => return self.unicast(packet, verdict),
        };
        Task::Done
    }

    /// Tells control what a backend says of itself.
    fn watch(&self, port: PortId, address: IpAddr, mac: Option<MacAddr>) {
        if self.snapshot.watched.contains(&address) {
            self.tell(Event::Seen { port, address, mac, evidence: Evidence::Gratuitous });
        }
    }

    /// Whether a packet goes the way its session goes: through the pair it came by, or routed. A conversation does one of
    /// both; a packet that comes the other way is not judged by what was allowed for this one.
    pub(crate) fn is_of_the_same_way<A: Family>(&self, packet: &Packet<B>, session: &session::Session<A>) -> bool {
        let way = NextHopId::new(session.next_hop(Direction::Original));
        match packet.origin {
            Origin::InLine => {
                let through = |pair| NextHopId::through_for(pair, session.tenant());
                self.snapshot.pair(packet.port).is_some_and(|pair| way == through(pair))
            }
            // What instances of tiers mark is for sessions with tiers.
            Origin::Wire => !way.is_through() && (packet.frame.link.tags == 0 || way == NextHopId::TIERED),
            Origin::Tunnel | Origin::Kernel | Origin::Tier(_) => !way.is_through(),
        }
    }

    /// Whether a session gives way to a packet that comes another way: one in line does to what the appliance itself says or is
    /// told. In a VLAN others may have its addresses, and must not keep it from its own conversations.
    #[cold]
    pub(crate) fn gives_way_to<A: Family>(&self, packet: &Packet<B>, session: &session::Session<A>) -> bool {
        let Content::Ip(facts) = packet.frame.content else { return false };
        let is_about_us = match packet.origin {
            Origin::Kernel => true,
            Origin::Wire => packet.frame.link.tags == 0 && is_ours(&self.snapshot, facts.endpoints.destination()),
            Origin::InLine | Origin::Tunnel | Origin::Tier(_) => false,
        };
        is_about_us && NextHopId::new(session.next_hop(Direction::Original)).is_through()
    }

    /// What a packet asks for that passes in line and has no session, or why it may not ask.
    pub(crate) fn apply_in_line(&self, packet: &Packet<B>) -> Result<Applicant, Verdict> {
        let (Content::Ip(facts), Some(pair)) = (&packet.frame.content, self.snapshot.pair(packet.port)) else {
            return Err(Verdict::Drop(DropReason::UnknownEthertype));
        };
        if let Some(reason) = self.snapshot.refuses_source(packet.port, facts.endpoints.source(), packet.origin) {
            return Err(Verdict::Drop(reason));
        }
        let (source_port, destination_port) = ports_of(facts)?;
        if packet.frame.link.tags == 0 && is_ours(&self.snapshot, facts.endpoints.source()) {
            return Err(Verdict::Drop(DropReason::SourceOwnAddress));
        }
        if let Transport::Tcp(tcp) = facts.transport
            && tcp_state::open(&tcp, self.snapshot.midstream.pickup()).is_none()
        {
            return Err(self.unknown());
        }
        let candidate = Candidate {
            from: self.snapshot.zone(packet.port),
            to: self.snapshot.zone(pair.other),
            tenant: self.snapshot.tenant_of(packet),
            protocol: facts.protocol,
            endpoints: facts.endpoints,
            source_port,
            destination_port,
        };
        let bound = self.taken_in(facts.endpoints.destination(), facts.protocol, destination_port);
        Ok(Applicant { bound, candidate, proof: None })
    }

    /// Whether a service attracts what is asked here out of the passing traffic (SE-15): by its own address, or by that of
    /// one of its backends.
    fn taken_in(&self, destination: IpAddr, protocol: u8, port: u16) -> Bound {
        let (services, quiet) = (&self.snapshot.services, &self.snapshot.quiet);
        let attracts = |id: &ServiceId| quiet.takes_in(*id, port);
        let in_line = |id| services.service(id).filter(|service| service.spec().attract == Attract::InLine);
        if let Some(service) = services.find(destination, protocol, port).filter(attracts).and_then(in_line) {
            return Bound::Service(service.id());
        }
        services
            .of_backend_in_line(destination, protocol, port)
            .filter(|id| quiet.takes_in_backends(*id))
            .and_then(|id| services.service(id))
            .and_then(|service| {
                let is_asked = |backend: &Backend| {
                    backend.address() == destination && backend.port().is_none_or(|own| own == port)
                };
                let place = service.members().iter().position(|member| is_asked(&member.backend))?;
                Some(Bound::Backend(service.id(), place))
            })
            .unwrap_or(Bound::Through)
    }

    /// A session that passes as it came: of its own, or of the backend it asks, which counts it.
    pub(crate) fn open_through<A: Family>(&mut self, bound: Bound, mut new: NewSession<A>) -> Result<Slot, DropReason> {
        let [port, _] = new.ingress;
        let pair = self.snapshot.pair(port).ok_or(DropReason::NoRoute)?;
        new.next_hop = [NextHopId::through_for(pair, new.tenant).get(); 2];
        new.ingress = [port, pair.other];
        let slot = self.insert(&new)?;
        if let Bound::Backend(service, place) = bound {
            let snapshot = Arc::clone(&self.snapshot);
            let member = snapshot.services.service(service).and_then(|service| service.members().get(place));
            if let Some(member) = member {
                let binding = self.bindings.open(&member.backend);
                A::table_mut(&mut self.sessions).session_mut(slot).set_binding(binding.get());
            }
        }
        Ok(slot)
    }

    /// Leads a new session of a service through the pair to this backend. What keeps the backend's next hop is
    /// [`hold_station`](Self::hold_station), once the session has its binding.
    pub(crate) fn lead_through<A: Family>(
        &mut self,
        new: &mut NewSession<A>,
        pair: Pair,
        backend: &Backend,
    ) -> Result<(), DropReason> {
        let [port, _] = new.ingress;
        new.next_hop = [NextHopId::through_for(pair, new.tenant).get(); 2];
        new.ingress = [port, pair.other];
        let address = backend.address();
        let routed = self.snapshot.routes.lookup(address).filter(|route| route.port == pair.other);
        let station = routed.map_or(address, |route| route.next_hop(address));
        let hop = self.next_hops.obtain(pair.other, station).ok_or(DropReason::NextHopsFull)?;
        new.lease = lease_of(hop);
        Ok(())
    }

    /// Keeps the next hop of a new session's backend for as long as there is the session. Without a binding it could not be
    /// told from sessions that lead to nobody, so it ends then.
    pub(crate) fn hold_station<A: Family>(&mut self, slot: Slot) -> Result<(), DropReason> {
        match leads_to(A::table(&self.sessions).session(slot), Direction::Original) {
            Some(hop) => {
                self.next_hops.retain(hop);
                Ok(())
            }
            None => {
                self.counters.sessions_opened.add(1);
                self.close::<A>(slot);
                Err(DropReason::NoBackend)
            }
        }
    }

    /// Sends a packet of the session in `slot` through the pair it came by.
    pub(crate) fn send_through<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        let Some(pair) = self.snapshot.pair(packet.port) else { return Verdict::Drop(DropReason::NoRoute) };
        let (station, verdict) = match self.station_of::<A>(slot, direction, pair) {
            Ok(found) => found,
            Err(reason) => return Verdict::Drop(reason),
        };
        self.clamp_segments::<A>(packet, facts, slot, pair.other);
        let bytes = packet.buffer.bytes_mut();
        let session = A::table(&self.sessions).session(slot);
        if session.is_translated() {
            let deltas = Deltas { network: session.deltas().network, transport: session.deltas().transport };
            let deltas = match direction {
                Direction::Original => deltas,
                Direction::Reply => deltas.negated(),
            };
            if !A::rewrite(bytes, facts, &session.outgoing(direction), deltas) {
                return Verdict::Drop(DropReason::UnknownEthertype);
            }
        }
        if let Some(station) = station {
            set_station(bytes, station);
        }
        verdict
    }

    /// The MAC a packet of this direction gets, if it gets another, and what becomes of it.
    fn station_of<A: Family>(
        &mut self,
        slot: Slot,
        direction: Direction,
        pair: Pair,
    ) -> Result<(Option<MacAddr>, Verdict), DropReason> {
        let Some(hop) = leads_to(A::table(&self.sessions).session(slot), direction) else {
            return Ok((None, Verdict::Forward(pair.other)));
        };
        let (port, mac, ready) = self.way_over(hop)?;
        Ok(if ready { (Some(mac), Verdict::Forward(port)) } else { (None, Verdict::Hold(hop)) })
    }

    /// Whether an ICMP error comes by the side that packets of its direction come by: only there is somebody whom the packet
    /// it quotes has met.
    pub(crate) fn comes_back<A: Family>(&self, port: PortId, slot: Slot, direction: Direction) -> bool {
        let session = A::table(&self.sessions).session(slot);
        self.snapshot.zone(port) == self.snapshot.zone(session.ingress(direction))
    }

    /// Sends an ICMP error about a session in line through the pair it came by.
    pub(crate) fn error_through<A: ErrorFamily>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        quote: &Quote,
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        let Some(pair) = self.snapshot.pair(packet.port) else { return Verdict::Drop(DropReason::NoRoute) };
        let (station, verdict) = match self.station_of::<A>(slot, direction, pair) {
            Ok(found) => found,
            Err(reason) => return Verdict::Drop(reason),
        };
        let bytes = u64::from(packet.len(facts));
        let traffic = Traffic { packets: 1, bytes };
        let session = A::table(&self.sessions).session(slot);
        let binding = BindingId::new(session.binding());
        let bytes = packet.buffer.bytes_mut();
        if session.is_translated() {
            let quoted = ends(&session.tuple(direction).reversed());
            let restored = ends(&session.tuple(direction.opposite()));
            let Some(source) = A::from_ip(facts.endpoints.source()) else {
                return Verdict::Drop(DropReason::IcmpErrorUnmatched);
            };
            let outer = outer_addresses(source, &quoted, &restored);
            if !A::rewrite_error(bytes, facts, quote, outer, &restored) {
                return Verdict::Drop(DropReason::IcmpErrorUnmatched);
            }
        }
        if let Some(station) = station {
            set_station(bytes, station);
        }
        self.bindings.count(binding, traffic);
        verdict
    }
}
