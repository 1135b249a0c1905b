//! Packets to an outside address of ours that are meant for someone inside: a server behind a forward (destination NAT), or
//! a client behind source NAT whose mapping lets others in (RFC 4787 sections 5 and 6).
//!
//! The firewall is asked with the address the sender wrote, and the zone of whoever is inside: translation says who is
//! meant, the rules who is allowed. A sender that is itself behind source NAT is hidden too where its answers would
//! otherwise not come back this way (hairpinning, RFC 4787 REQ-9). A client that asks for another's mapping may, with several
//! workers, be seen at another port than elsewhere, because the port it asks for decides which worker the conversation is
//! on.

use std::sync::Arc;

use frame::Buffer;
use session::{Direction, Kind, NewSession, Slot};
use stage::DropReason;
use stage::firewall::Candidate;
use stage::translate::MappingId;
use std::net::IpAddr;

use units::{PortId, ZoneId};
use wire::{Facts, Transport};

use crate::establish::translate;
use crate::family::Family;
use crate::flow::Flow;
use crate::hide::{FORWARDED, INBOUND, protocol_number};
use crate::next_hop::NextHopId;
use crate::open::{Applicant, Bound};
use crate::shard::Shard;

impl<B> Shard<B> {
    /// Who inside a first packet to an address of ours is meant for.
    pub(crate) fn bound_inside(&self, port: PortId, facts: &Facts) -> Option<Bound> {
        let asked = match facts.transport {
            Transport::Tcp(tcp) => tcp.destination_port,
            Transport::Udp { destination_port, .. } => destination_port,
            _ => 0,
        };
        let forwards = &self.snapshot.destination_nat;
        if let Some(position) = forwards.find(facts.endpoints.destination(), facts.protocol, asked) {
            let rule = forwards.rule(position)?;
            let is_for = rule.is_for(self.snapshot.zone(port), facts.endpoints.source());
            return is_for.then_some(Bound::Forward(position));
        }
        if self.mappings.is_empty() {
            return None;
        }
        let (kind, port) = match Flow::of(facts)? {
            Flow::V4(kind, tuple) => (kind, tuple.destination_port),
            Flow::V6(kind, tuple) => (kind, tuple.destination_port),
        };
        let (far, address) = (facts.endpoints.source(), facts.endpoints.destination());
        if let Some(bound) = self.bound_inward(kind, far, (address, port)) {
            return Some(bound);
        }
        let id = self.mappings.admits(protocol_number(kind), address, port, far)?;
        // The policy may have become stricter since the mapping was made.
        let mapped = self.mappings.get(id)?;
        let mut rules = self.snapshot.source_nat.iter();
        let (rule, _) = rules.find(|&(_, number)| number == mapped.inside.pool)?;
        (rule.filtering <= mapped.filtering).then_some(Bound::Mapped(id))
    }

    /// The zone of the client a mapping serves.
    pub(crate) fn zone_of_client(&self, mapping: MappingId) -> ZoneId {
        let client = self.mappings.get(mapping).map(|mapped| mapped.inside.address);
        client.map_or(ZoneId::APPLIANCE, |client| self.zone_inside(client))
    }

    /// The zone of the server a forward leads to.
    pub(crate) fn zone_of_server(&self, forward: usize) -> ZoneId {
        let rule = self.snapshot.destination_nat.rule(forward);
        rule.map_or(ZoneId::APPLIANCE, |rule| self.zone_inside(rule.to_address))
    }

    /// The zone of who is inside; of an IPv4 server behind NAT64 the address as it is on the wire.
    fn zone_inside(&self, address: IpAddr) -> ZoneId {
        let route = self.snapshot.routes.lookup(address.to_canonical());
        route.map_or(ZoneId::APPLIANCE, |route| self.snapshot.zone(route.port))
    }

    /// Whether the policy in force no longer leads this session, which a forward has opened, to the same server.
    pub(crate) fn forward_is_gone<A: Family>(&self, slot: Slot) -> bool {
        let session = A::table(&self.sessions).session(slot);
        if session.flags() & FORWARDED == 0 {
            return false;
        }
        let (asked, server) = (session.tuple(Direction::Original), session.tuple(Direction::Reply));
        let (client, address) = (asked.source.into_ip(), asked.destination.into_ip());
        let protocol = if session.kind() == Kind::Tcp { 6 } else { 17 };
        let forwards = &self.snapshot.destination_nat;
        let rule =
            forwards.find(address, protocol, asked.destination_port).and_then(|position| forwards.rule(position));
        !rule.is_some_and(|rule| {
            rule.is_for(self.snapshot.zone(session.ingress(Direction::Original)), client)
                && rule.to_address == server.source.into_ip()
                && rule.port_for(asked.destination_port) == server.source_port
        })
    }
}

impl<B: Buffer> Shard<B> {
    /// The zone behind a session, as rules see it: that of whoever its first packet was brought to.
    pub(crate) fn zone_behind<A: Family>(&self, slot: Slot, protocol: u8) -> ZoneId {
        let session = A::table(&self.sessions).session(slot);
        if NextHopId::new(session.next_hop(Direction::Original)).is_through() {
            return self.snapshot.zone(session.ingress(Direction::Reply));
        }
        let asked = session.tuple(Direction::Original);
        let inside = session.tuple(Direction::Reply).source;
        let destination = asked.destination.into_ip();
        let service = self.snapshot.services.find(destination, protocol, asked.destination_port).is_some();
        if service || inside == asked.destination {
            return self.zone_of(destination, protocol, asked.destination_port);
        }
        self.zone_inside(inside.into_ip())
    }

    /// A session with the server of a forward. The client stays visible, unless source NAT hides it from that zone, or it
    /// is in the same zone and the server would answer it directly.
    pub(crate) fn open_forward<A: Family>(
        &mut self,
        position: usize,
        applicant: &Applicant,
        mut new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let rule = snapshot.destination_nat.rule(position).ok_or(DropReason::NoService)?;
        new.reply.source = A::from_ip(rule.to_address).ok_or(DropReason::NoService)?;
        new.reply.source_port = rule.port_for(new.original.destination_port);
        new.flags |= FORWARDED;
        let client = new.original.source.into_ip();
        let forth = self.hop_to(rule.to_address)?;
        let back = self.hop_back(client);
        new.next_hop = [forth.get(), back.get()];
        let Candidate { from, to, .. } = applicant.candidate;
        let hairpin = || snapshot.source_nat.find_hairpin(from, to, client).filter(|_| from == to);
        let slot = match snapshot.source_nat.find(from, to, client).or_else(hairpin) {
            Some(hides) => self.hide(&snapshot, hides, new)?,
            None if client == rule.to_address => return Err(DropReason::ClientIsBackend),
            None => {
                translate(&mut new);
                self.insert(&new)?
            }
        };
        snapshot.destination_nat.opened(position);
        Ok(slot)
    }

    /// A session with the client of a mapping, opened from the other side.
    pub(crate) fn open_mapped<A: Family>(
        &mut self,
        mapping: MappingId,
        applicant: &Applicant,
        mut new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let asked = (new.original.destination.into_ip(), new.original.destination_port);
        // Between the firewall's word and now, another packet of this burst may have ended it.
        let mapped = *self.mappings.get(mapping).ok_or(DropReason::NoSession)?;
        let client = A::from_ip(mapped.inside.address).ok_or(DropReason::NoSession)?;
        if asked != (mapped.outside.address, mapped.outside.port) {
            return Err(DropReason::NoSession);
        }
        new.reply.source = client;
        new.reply.source_port = mapped.inside.port;
        if new.kind == Kind::Icmp {
            new.reply.destination_port = mapped.inside.port;
        }
        let sender = new.original.source.into_ip();
        let forth = self.hop_to(mapped.inside.address)?;
        let back = self.hop_back(sender);
        new.next_hop = [forth.get(), back.get()];
        let Candidate { from, to, .. } = applicant.candidate;
        if let Some(rule) = snapshot.source_nat.find_hairpin(from, to, sender) {
            return self.hide(&snapshot, rule, new);
        }
        new.lease = mapping.get();
        new.flags |= INBOUND;
        translate(&mut new);
        let slot = self.insert_mapped(&new, mapping, sender)?;
        if let Some(pool) = snapshot.pool_uses.get(mapped.inside.pool) {
            pool.opened();
        }
        Ok(slot)
    }
}
