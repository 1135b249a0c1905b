//! Packets to an outside address of ours that are meant for someone inside: a client behind source NAT whose mapping lets
//! others in (RFC 4787 sections 5 and 6).
//!
//! The firewall is asked with the address the sender wrote, and the zone of the client: filtering says what translation
//! admits, the rules what is allowed. A sender that is itself behind source NAT is hidden too, so that the answers come
//! back this way (hairpinning, RFC 4787 REQ-9). With several workers it may be seen at another port than elsewhere,
//! because the port of the one it asks for decides which worker the conversation is on.

use std::sync::Arc;

use frame::Buffer;
use session::{Direction, Kind, NewSession, Slot};
use stage::DropReason;
use stage::firewall::Candidate;
use stage::translate::MappingId;
use units::ZoneId;
use wire::Facts;

use crate::establish::translate;
use crate::family::Family;
use crate::flow::Flow;
use crate::hide::{INBOUND, protocol_number};
use crate::open::{Applicant, Bound};
use crate::shard::Shard;

impl<B> Shard<B> {
    /// Who inside a first packet to an address of ours is meant for.
    pub(crate) fn bound_inside(&self, facts: &Facts) -> Option<Bound> {
        if self.mappings.is_empty() {
            return None;
        }
        let (kind, port) = match Flow::of(facts)? {
            Flow::V4(kind, tuple) => (kind, tuple.destination_port),
            Flow::V6(kind, tuple) => (kind, tuple.destination_port),
        };
        let (far, address) = (facts.endpoints.source(), facts.endpoints.destination());
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
        let route = client.and_then(|client| self.snapshot.routes.lookup(client));
        route.map_or(ZoneId::APPLIANCE, |route| self.snapshot.zone(route.port))
    }
}

impl<B: Buffer> Shard<B> {
    /// The zone behind a session, as rules see it: that of whoever its first packet was brought to.
    pub(crate) fn zone_behind<A: Family>(&self, slot: Slot, protocol: u8) -> ZoneId {
        let session = A::table(&self.sessions).session(slot);
        let asked = session.tuple(Direction::Original);
        let inside = session.tuple(Direction::Reply).source;
        let destination = asked.destination.into_ip();
        let service = self.snapshot.services.find(destination, protocol, asked.destination_port).is_some();
        if service || inside == asked.destination {
            return self.zone_of(destination, protocol, asked.destination_port);
        }
        let route = self.snapshot.routes.lookup(inside.into_ip());
        route.map_or(ZoneId::APPLIANCE, |route| self.snapshot.zone(route.port))
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
        let slot = self.insert(&new)?;
        self.mappings.retain(mapping, sender);
        if let Some(pool) = snapshot.pool_uses.get(mapped.inside.pool) {
            pool.opened();
        }
        Ok(slot)
    }
}
