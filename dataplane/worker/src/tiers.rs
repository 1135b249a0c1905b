//! Packets of services with tiers (SE-70 to SE-73): from their client to an instance of the first tier, from that to
//! one of the second, and from one of the last to the backend. Nothing of such a packet changes but its MACs, its hop
//! limit and its marker, so that it is found in the same session each time. Answers go back to the client at once, like
//! those of any service.
//!
//! ```text
//!   client -> appliance -> tier 1 -> appliance -> tier 2 -> appliance -> backend
//!                ^----------------- answers -------------------------------'
//! ```
//!
//! Which tiers a packet has passed is told by the VLAN it comes back in, where the service has markers, else by the MAC
//! it comes from and the port it comes by: those of an instance this session was given (SE-72). A marker counts only at
//! the ports behind which its tier has instances, so that it cannot be forged elsewhere. What cannot be told begins
//! with the first tier, never behind one; each round costs a hop, so that nothing goes round for ever.
//!
//! A packet is followed, counted and held to its windows when its client sends it; what instances hand back is only led
//! on.

use std::net::IpAddr;
use std::sync::Arc;

use frame::Buffer;
use session::{Direction, Kind, Slot, Traffic, Tuple};
use stage::DropReason;
use stage::balancer::Service;
use units::{PortId, ServiceId};
use wire::emit::IcmpErrorKind;
use wire::{Content, Facts, Frame, MacAddr, Quote, QuotedTransport};

use crate::act::Acted;
use crate::burst::Door;
use crate::family::Family;
use crate::flow::Flow;
use crate::journey::{Journey, Stop};
use crate::local;
use crate::next_hop::NextHopId;
use crate::open::Bound;
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::shard::Shard;
use crate::tag::{put_tag, retag, tag_of};
use crate::tiering::{count_of, passed_in};

impl<B> Shard<B> {
    /// Asks where the instances of all tiers are, so that they are known by their MACs before they are sent to: a
    /// worker may be handed back what another has sent.
    pub(crate) fn look_for_instances(&mut self) {
        let tiering = Arc::clone(&self.snapshot.tiering);
        for (port, address) in tiering.all() {
            let _ = self.station_of_instance(port, address);
        }
    }

    /// The next hop of an instance and where it is, if that is known here; else control is asked.
    fn station_of_instance(&mut self, port: PortId, address: IpAddr) -> Option<(NextHopId, MacAddr)> {
        let hop = self.next_hops.obtain(port, address)?;
        let (_, mac, known) = self.way_over(hop).ok()?;
        known.then_some((hop, mac))
    }

    /// The instance of a service's tiers at this station, and the tiers its packets have passed: the first where one
    /// station is in several.
    fn instance_at(&mut self, service: ServiceId, port: PortId, station: MacAddr) -> Option<(u8, NextHopId)> {
        let tiering = Arc::clone(&self.snapshot.tiering);
        tiering.instances(service, port).find_map(|(passed, address)| {
            let (hop, mac) = self.station_of_instance(port, address)?;
            (mac == station).then_some((passed, hop))
        })
    }

    /// The instances of a session at this station, each with the tiers its packets have passed.
    fn stops_at(&self, journey: &Journey, port: PortId, station: MacAddr) -> impl Iterator<Item = (u8, Stop)> {
        let is_there = move |hop: NextHopId| self.next_hops.station(hop) == Some((port, station));
        let stops = (1u8..).zip(journey.stops().iter().copied());
        stops.filter(move |(_, stop)| is_there(stop.hop) || is_there(stop.before))
    }
}

impl<B: Buffer> Shard<B> {
    /// Whether an instance of a tier hands this packet back, whatever service of that address it asks.
    fn is_handed_back(&mut self, packet: &Packet<B>) -> bool {
        let Content::Ip(facts) = &packet.frame.content else { return false };
        let tiering = Arc::clone(&self.snapshot.tiering);
        let asked = tiering.asked(facts.endpoints.destination());
        let link = &packet.frame.link;
        let mut by_instance = |&service: &ServiceId| self.instance_at(service, packet.port, link.source).is_some();
        packet.origin == Origin::Wire && !asked.is_empty() && (link.tags > 0 || asked.iter().any(&mut by_instance))
    }

    /// Why the source of a packet may open nothing; `None` when it may. What an instance hands back need not have come
    /// the way back to its client.
    pub(crate) fn refuses_source(&mut self, packet: &Packet<B>) -> Option<DropReason> {
        let Content::Ip(facts) = &packet.frame.content else { return None };
        let refused = self.snapshot.refuses_source(packet.port, facts.endpoints.source(), packet.origin)?;
        let excused = refused == DropReason::ReversePathFailed && self.is_handed_back(packet);
        (!excused).then_some(refused)
    }

    /// Whether a tagged frame may be what an instance of a tier says.
    pub(crate) fn is_marked(&self, buffer: &B, frame: &Frame, door: Door) -> bool {
        door.origin != Origin::Kernel
            && frame.link.tags == 1
            && tag_of(buffer.bytes()).is_some()
            && self.snapshot.tiering.admits(&self.snapshot.services, door.port, frame)
    }

    /// What becomes of a tagged frame before its session is asked: neighbors are answered in the VLAN they asked in,
    /// and only packets of the services that the VLAN marks go on.
    pub(crate) fn sort_marked(&self, packet: &mut Packet<B>) -> Option<Verdict> {
        let vlan = packet.frame.link.vlan;
        if !self.snapshot.tiering.admits(&self.snapshot.services, packet.port, &packet.frame) {
            return Some(Verdict::Drop(DropReason::UnknownVlan));
        }
        let tell = &mut |event| self.tell(event);
        let decided = match packet.frame.content {
            Content::Arp(arp) => local::arp(&self.snapshot, packet, &arp, tell),
            Content::Ip(facts) if local::is_discovery_message(&facts) => {
                local::discovery(&self.snapshot, packet, &facts, tell)
            }
            Content::Ip(_) | Content::Other => return None,
        };
        Some(match decided {
            // The answer was written over the frame from its beginning, without a tag.
            Verdict::Answered(_) if !put_tag(&mut packet.buffer, vlan) => Verdict::Drop(DropReason::BuffersExhausted),
            // The kernel has no interface in this VLAN.
            Verdict::Punt(_) => Verdict::Consumed,
            decided => decided,
        })
    }

    /// Notes how many tiers a first packet has passed of the service it asks, and takes its marker off (SE-71).
    pub(crate) fn come_back(&mut self, packet: &mut Packet<B>, bound: Bound) -> Result<(), DropReason> {
        let Bound::Service(id) = bound else { return Ok(()) };
        let Some(spec) = self.snapshot.services.service(id).map(Service::spec) else { return Ok(()) };
        if spec.tiers.is_empty() || packet.origin != Origin::Wire {
            return Ok(());
        }
        let (link, marker, count) = (&packet.frame.link, spec.marker_vlan, count_of(spec));
        let passed = match marker {
            Some(base) if link.tags > 0 => passed_in(link.vlan, base, count),
            Some(_) => 0,
            None => self.instance_at(id, packet.port, link.source).map_or(0, |(passed, _)| passed),
        };
        handed_back(packet, passed)
    }

    /// Whether every tier that a first packet has not passed has an instance for its session: without, nobody is asked
    /// in vain.
    pub(crate) fn may_enter_tiers(&self, packet: &Packet<B>, service: ServiceId) -> bool {
        let service = self.snapshot.services.service(service);
        service.is_none_or(|service| self.has_instances(service.spec(), packet.tiers_passed()))
    }

    /// Leads a new session through the tiers of its service that its first packet has not passed; false when there is
    /// no room.
    pub(crate) fn enter_tiers<A: Family>(&mut self, packet: &Packet<B>, slot: Slot, service: ServiceId) -> bool {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(spec) = snapshot.services.service(service).map(Service::spec) else { return true };
        if spec.tiers.is_empty() {
            return true;
        }
        let passed = packet.tiers_passed();
        let met = if spec.marker_vlan.is_none() && passed > 0 {
            self.instance_at(service, packet.port, packet.frame.link.source)
        } else {
            None
        };
        let met = met.filter(|&(behind, _)| behind == passed).map(|(_, hop)| hop);
        self.begin_journey::<A>(slot, spec, passed, met)
    }

    /// Takes a packet towards the backend of a session with tiers in. `None` for one that its client sends, which is
    /// treated like any other from here on; what an instance hands back is led on, since it was taken in before.
    pub(crate) fn act_on_journey<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        direction: Direction,
    ) -> Option<Acted> {
        if direction != Direction::Original {
            return None;
        }
        let journey = *self.journey_of::<A>(slot)?;
        let passed = match self.passed_on(&journey, packet) {
            Ok(passed) => passed,
            Err(reason) => return Some(Acted::Verdict(Verdict::Drop(reason))),
        };
        if let Err(reason) = handed_back(packet, passed) {
            return Some(Acted::Verdict(Verdict::Drop(reason)));
        }
        let Content::Ip(facts) = packet.frame.content else { return None };
        if passed <= journey.begins {
            if let Some(journey) = self.journey_mut::<A>(slot) {
                journey.begins = passed;
            }
            return None;
        }
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        session.touch(self.tick);
        Some(self.go_on::<A>(packet, &facts, slot, direction))
    }

    /// How many tiers a packet of a session has passed.
    ///
    /// # Errors
    /// `TierAmbiguous` when only the MAC tells, and it is that of instances of two tiers.
    fn passed_on(&self, journey: &Journey, packet: &Packet<B>) -> Result<u8, DropReason> {
        let link = &packet.frame.link;
        match packet.origin {
            Origin::Tier(passed) => Ok(passed),
            Origin::Wire if journey.base > 0 => {
                Ok(if link.tags > 0 { passed_in(link.vlan, journey.base, journey.count()) } else { 0 })
            }
            Origin::Wire => {
                let mut stops = self.stops_at(journey, packet.port, link.source);
                match (stops.next(), stops.next()) {
                    (found, None) => Ok(found.map_or(0, |(passed, _)| passed)),
                    (_, Some(_)) => Err(DropReason::TierAmbiguous),
                }
            }
            Origin::Tunnel | Origin::InLine | Origin::Kernel => Ok(0),
        }
    }

    /// Sends a packet of the session in `slot` to the first tier it has not passed; `None` when it has passed all of
    /// them, and is the backend's.
    pub(crate) fn send_on_journey<A: Family>(&mut self, packet: &mut Packet<B>, slot: Slot) -> Option<Verdict> {
        let journey = self.journey_of::<A>(slot)?;
        let (passed, base) = (packet.tiers_passed(), journey.base);
        if passed >= journey.count() {
            return None;
        }
        let Content::Ip(facts) = packet.frame.content else { return None };
        if facts.hop_limit <= 1 {
            let exceeded = Answer::Icmp(IcmpErrorKind::TimeExceeded);
            return Some(Verdict::Refuse(DropReason::HopLimitExceeded, exceeded));
        }
        let stop = match self.stop_at::<A>(slot, passed) {
            Ok(stop) => stop,
            Err(reason) => return Some(Verdict::Drop(reason)),
        };
        let (port, mac, ready) = match self.way_out(stop.hop) {
            Ok(way) => way,
            Err(verdict) => return Some(verdict),
        };
        if let Some(verdict) = self.too_big(packet, &facts, port) {
            return Some(verdict);
        }
        let traffic = Traffic { packets: 1, bytes: u64::from(packet.len(&facts)) };
        let marker = (base > 0).then(|| base.saturating_add(1).saturating_add(u16::from(passed)));
        if !retag(&mut packet.buffer, &mut packet.frame, marker) {
            return Some(Verdict::Drop(DropReason::BuffersExhausted));
        }
        let Content::Ip(facts) = packet.frame.content else { return None };
        self.bindings.count(stop.binding, traffic);
        self.leave(packet.buffer.bytes_mut(), &facts, port, mac);
        Some(if ready { Verdict::Forward(port) } else { Verdict::Hold(stop.hop) })
    }

    /// Treats an ICMP error that an instance of a tier sends about a packet it was to hand back: its client's, as the
    /// client sent it. `None` when it is about another.
    #[cold]
    pub(crate) fn error_from_tier(&mut self, packet: &mut Packet<B>, facts: &Facts, quote: &Quote) -> Option<Verdict> {
        let QuotedTransport::Ports { destination_port, .. } = quote.transport else { return None };
        let service = self.snapshot.services.find(quote.endpoints.destination(), quote.protocol, destination_port)?;
        if self.snapshot.services.service(service)?.spec().tiers.is_empty() {
            return None;
        }
        match Flow::against(quote)? {
            Flow::V4(kind, tuple) => self.error_of_instance(packet, facts, quote, kind, &tuple.reversed()),
            Flow::V6(kind, tuple) => self.error_of_instance(packet, facts, quote, kind, &tuple.reversed()),
        }
    }

    fn error_of_instance<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        quote: &Quote,
        kind: Kind,
        quoted: &Tuple<A>,
    ) -> Option<Verdict> {
        let table = A::table(&self.sessions);
        let (slot, direction) = table.lookup(table.hash(kind, quoted), kind, quoted)?;
        if direction != Direction::Original {
            return None;
        }
        if table.session(slot).generation() != self.snapshot.generation.short()
            && let Err(verdict) = self.judge_again::<A>(slot)
        {
            return Some(verdict);
        }
        let (port, link) = (packet.port, packet.frame.link);
        let (_, stop) = self.stops_at(self.journey_of::<A>(slot)?, port, link.source).next()?;
        let session = A::table(&self.sessions).session(slot);
        let sent = match quote.transport {
            QuotedTransport::Ports { sequence, .. } => session.has_sent(Direction::Original, sequence),
            QuotedTransport::Echo { .. } | QuotedTransport::Other => false,
        };
        if !sent || !self.comes_from_beyond(port, facts.endpoints.source(), stop.hop) {
            return Some(Verdict::Drop(DropReason::IcmpErrorUnmatched));
        }
        if !self.error_limit.passes(slot, facts.endpoints.is_v6(), self.tick) {
            return Some(Verdict::Drop(DropReason::IcmpErrorsLimited));
        }
        Some(self.tell_client::<A>(packet, slot, stop))
    }

    /// Sends an error to the client of the session in `slot`, as it is.
    fn tell_client<A: Family>(&mut self, packet: &mut Packet<B>, slot: Slot, stop: Stop) -> Verdict {
        if !retag(&mut packet.buffer, &mut packet.frame, None) {
            return Verdict::Drop(DropReason::BuffersExhausted);
        }
        let Content::Ip(facts) = packet.frame.content else { return Verdict::Drop(DropReason::IcmpErrorUnmatched) };
        if facts.hop_limit <= 1 {
            return Verdict::Drop(DropReason::HopLimitExceeded);
        }
        let back = match self.hop_of::<A>(slot, Direction::Reply) {
            NextHopId::NONE => match self.hop_to(facts.endpoints.destination()) {
                Ok(hop) => hop,
                Err(reason) => return Verdict::Drop(reason),
            },
            hop => hop,
        };
        let (port, mac, ready) = match self.way_over(back) {
            Ok(way) => way,
            Err(reason) => return Verdict::Drop(reason),
        };
        if let Some(verdict) = self.too_big(packet, &facts, port) {
            return verdict;
        }
        let traffic = Traffic { packets: 1, bytes: u64::from(packet.len(&facts)) };
        self.bindings.count(stop.binding, traffic);
        self.leave(packet.buffer.bytes_mut(), &facts, port, mac);
        if ready { Verdict::Forward(port) } else { Verdict::Hold(back) }
    }
}

/// Notes that a packet has passed so many tiers, and takes its marker off.
fn handed_back<B: Buffer>(packet: &mut Packet<B>, passed: u8) -> Result<(), DropReason> {
    if !retag(&mut packet.buffer, &mut packet.frame, None) {
        return Err(DropReason::BuffersExhausted);
    }
    if passed > 0 {
        packet.origin = Origin::Tier(passed);
    }
    Ok(())
}
