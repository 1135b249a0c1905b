//! What is kept of a session whose service has tiers (SE-68): the instances it was given, one a tier, and what its
//! entry held before. Such a session names the special next hop [`NextHopId::TIERED`] towards its backend, and its
//! journey in its lease; the packets themselves are in [`tiers`](crate::tiers).
//!
//! An instance is chosen when the first packet comes to its tier, by that tier's own loads (SE-70, SE-74), and counted
//! there as a backend is. One that has failed or drained is replaced at the next packet. A new policy is the policy of
//! old sessions, too: from their next packet on they pass the tiers there are then.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use session::{Direction, Slot};
use stage::DropReason;
use stage::balancer::{Backend, Fate, Service, ServiceSpec};
use units::ServiceId;
use units::limits::TIERS_MAX;

use crate::binding::BindingId;
use crate::family::Family;
use crate::next_hop::NextHopId;
use crate::shard::Shard;
use crate::tiering::count_of;

/// One instance on a session's way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) binding: BindingId,
    pub(crate) hop: NextHopId,
    /// The instance before it, from which packets may still come.
    pub(crate) before: NextHopId,
}

impl Stop {
    /// Not chosen yet.
    const NONE: Self = Self { binding: BindingId::NONE, hop: NextHopId::NONE, before: NextHopId::NONE };
}

/// The way of one session through its tiers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Journey {
    stops: [Stop; TIERS_MAX],
    count: u8,
    /// How many tiers those packets have passed that the session's other end sends: none, unless it is an instance
    /// itself or another appliance led them through.
    pub(crate) begins: u8,
    /// The VLAN of the first tier less one; 0 without markers.
    pub(crate) base: u16,
    /// The backend's next hop, and what the session has leased of a pool.
    pub(crate) last: NextHopId,
    lease: u32,
}

impl Journey {
    /// The instances, in order.
    pub(crate) fn stops(&self) -> &[Stop] {
        self.stops.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// What the session's entry held before: the backend's next hop and the lease.
    pub(crate) const fn before(&self) -> (NextHopId, u32) {
        (self.last, self.lease)
    }

    /// How many tiers there are.
    pub(crate) const fn count(&self) -> u8 {
        self.count
    }
}

impl<B> Shard<B> {
    /// The journey of the session in `slot`; `None` for those of services without tiers.
    pub(crate) fn journey_of<A: Family>(&self, slot: Slot) -> Option<&Journey> {
        let session = A::table(&self.sessions).session(slot);
        let tiered = session.next_hop(Direction::Original) == NextHopId::TIERED.get();
        if tiered { self.journeys.get(session.lease()) } else { None }
    }

    /// As [`journey_of`](Self::journey_of), to change.
    pub(crate) fn journey_mut<A: Family>(&mut self, slot: Slot) -> Option<&mut Journey> {
        let session = A::table(&self.sessions).session(slot);
        let tiered = session.next_hop(Direction::Original) == NextHopId::TIERED.get();
        if tiered { self.journeys.get_mut(session.lease()) } else { None }
    }

    /// Whether every tier of a service behind the first `passed` has an instance for a new session.
    pub(crate) fn has_instances(&self, spec: &ServiceSpec, passed: u8) -> bool {
        let services = &self.snapshot.services;
        let mut tiers = spec.tiers.iter().skip(usize::from(passed)).filter_map(|&tier| services.service(tier));
        tiers.all(|tier| tier.members().iter().any(stage::balancer::Member::selectable))
    }

    /// Leads a session through the tiers of its service behind the first `passed`; `met` is the instance it came from.
    /// False when there is no room.
    pub(crate) fn begin_journey<A: Family>(
        &mut self,
        slot: Slot,
        spec: &ServiceSpec,
        passed: u8,
        met: Option<NextHopId>,
    ) -> bool {
        let session = A::table(&self.sessions).session(slot);
        let mut journey = Journey {
            stops: [Stop::NONE; TIERS_MAX],
            count: count_of(spec),
            begins: passed,
            base: spec.marker_vlan.unwrap_or(0),
            last: NextHopId::new(session.next_hop(Direction::Original)),
            lease: session.lease(),
        };
        if let Some(hop) = met
            && let Some(stop) = usize::from(passed).checked_sub(1).and_then(|place| journey.stops.get_mut(place))
        {
            stop.hop = hop;
        }
        let Some(number) = self.journeys.keep(journey) else { return false };
        met.into_iter().for_each(|hop| self.next_hops.retain(hop));
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        session.set_next_hop(Direction::Original, NextHopId::TIERED.get());
        session.set_lease(number);
        true
    }

    /// Gives back the journey of a session that has ended; returns its backend's next hop and its lease.
    pub(crate) fn end_journey(&mut self, number: u32) -> (NextHopId, u32) {
        let Some(journey) = self.journeys.give_back(number) else { return (NextHopId::NONE, 0) };
        for stop in journey.stops {
            self.leave_stop(stop);
        }
        (journey.last, journey.lease)
    }

    fn leave_stop(&mut self, stop: Stop) {
        self.bindings.close(stop.binding);
        self.next_hops.release(stop.hop);
        self.next_hops.release(stop.before);
    }

    /// Has the session in `slot` pass the tiers its service has in the policy of today.
    pub(crate) fn plan_journey_again<A: Family>(&mut self, slot: Slot) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(service) = self.service_of::<A>(slot).and_then(|id| snapshot.services.service(id)) else { return };
        let spec = service.spec();
        let session = A::table(&self.sessions).session(slot);
        let lease = session.lease();
        match (self.journey_of::<A>(slot).copied(), spec.tiers.is_empty()) {
            (None, true) => {}
            (None, false) => {
                let served = self.bindings.backend(BindingId::new(session.binding()));
                let own = served.and_then(|backend| snapshot.services.locate(backend));
                // What began with a SYN cookie, or passes in line, stays as it is.
                let way = NextHopId::new(session.next_hop(Direction::Original));
                let leads_on = way == NextHopId::TUNNEL || self.next_hops.port(way).is_some();
                if leads_on && own.is_some_and(|(id, _)| id == service.id()) {
                    // Without room for it the session goes on as it began.
                    let _ = self.begin_journey::<A>(slot, spec, 0, None);
                }
            }
            (Some(_), true) => {
                let (last, lease) = self.end_journey(lease);
                let session = A::table_mut(&mut self.sessions).session_mut(slot);
                session.set_next_hop(Direction::Original, last.get());
                session.set_lease(lease);
            }
            (Some(mut journey), false) => {
                journey.count = count_of(spec);
                journey.begins = journey.begins.min(journey.count);
                for (place, stop) in journey.stops.iter_mut().enumerate() {
                    let backend = self.bindings.backend(stop.binding);
                    let tier = backend.and_then(|backend| snapshot.services.locate(backend)).map(|(tier, _)| tier);
                    let stays = tier.is_some() && spec.tiers.get(place).copied() == tier;
                    if !stays && place >= usize::from(journey.begins) {
                        self.leave_stop(core::mem::replace(stop, Stop::NONE));
                    }
                }
                journey.base = spec.marker_vlan.unwrap_or(0);
                if let Some(kept) = self.journeys.get_mut(lease) {
                    *kept = journey;
                }
            }
        }
    }

    /// The service that the session in `slot` asks.
    fn service_of<A: Family>(&self, slot: Slot) -> Option<ServiceId> {
        let session = A::table(&self.sessions).session(slot);
        let protocol = match session.kind() {
            session::Kind::Tcp => 6,
            session::Kind::Udp => 17,
            session::Kind::Icmp | session::Kind::Other => return None,
        };
        let asked = session.tuple(Direction::Original);
        self.snapshot.services.find(asked.destination.into_ip(), protocol, asked.destination_port)
    }

    /// The instance of a session's tier behind the first `passed`: the one it has, or another where that has failed or
    /// drained.
    pub(crate) fn stop_at<A: Family>(&mut self, slot: Slot, passed: u8) -> Result<Stop, DropReason> {
        let place = usize::from(passed);
        let stops = self.journey_of::<A>(slot).map(Journey::stops);
        let stop = *stops.and_then(|stops| stops.get(place)).ok_or(DropReason::NoBackend)?;
        if stop.binding != BindingId::NONE && self.bindings.fate(stop.binding) == Fate::Stays {
            return Ok(stop);
        }
        let snapshot = Arc::clone(&self.snapshot);
        let service = self.service_of::<A>(slot).and_then(|id| snapshot.services.service(id));
        let tier = service.and_then(|service| service.spec().tiers.get(place).copied()).ok_or(DropReason::NoBackend)?;
        let tier = snapshot.services.service(tier).ok_or(DropReason::NoBackend)?;
        let chosen = if let Some(met) = self.met_at(tier, stop) {
            Stop { binding: self.bindings.open(met), ..stop }
        } else {
            let client = A::table(&self.sessions).session(slot).tuple(Direction::Original);
            let instance = self.choose_instance(tier, client.source.into_ip(), client.source_port)?;
            let hop = self.hop_to(instance.address())?;
            self.next_hops.retain(hop);
            self.bindings.close(stop.binding);
            self.next_hops.release(stop.before);
            Stop { binding: self.bindings.open(instance), hop, before: stop.hop }
        };
        if let Some(kept) = self.journey_mut::<A>(slot).and_then(|journey| journey.stops.get_mut(place)) {
            *kept = chosen;
        }
        Ok(chosen)
    }

    /// The instance of a tier that handed back the first packet of a session and was given none itself: it goes on with it, if
    /// it can.
    fn met_at<'s>(&self, tier: &'s Service, stop: Stop) -> Option<&'s Arc<Backend>> {
        let address = self.next_hops.address(stop.hop).filter(|_| stop.binding == BindingId::NONE)?;
        let there = |member: &&stage::balancer::Member| member.backend.address() == address;
        tier.members().iter().find(there).filter(|member| member.selectable()).map(|member| &member.backend)
    }

    fn choose_instance<'s>(
        &mut self,
        tier: &'s Service,
        client: IpAddr,
        port: u16,
    ) -> Result<&'s Arc<Backend>, DropReason> {
        let turn = self.turns.get_mut(tier.id().index()).ok_or(DropReason::NoBackend)?;
        let position = tier.choose(client, port, turn, self.now).ok_or(DropReason::NoBackend)?;
        tier.members().get(position).map(|member| &member.backend).ok_or(DropReason::NoBackend)
    }

    /// The instances the session in `slot` was given, in order.
    pub(crate) fn instances_of<A: Family>(&self, slot: Slot) -> ArrayVec<Arc<Backend>, TIERS_MAX> {
        let stops = self.journey_of::<A>(slot).map_or(&[][..], Journey::stops);
        stops.iter().filter_map(|stop| self.bindings.backend(stop.binding).cloned()).collect()
    }

    /// Whether the session in `slot` was given an instance that is being flushed.
    pub(crate) fn passes_flushed<A: Family>(&self, slot: Slot) -> bool {
        let stops = self.journey_of::<A>(slot).map_or(&[][..], Journey::stops);
        stops.iter().any(|stop| self.bindings.is_flushed(stop.binding))
    }
}
