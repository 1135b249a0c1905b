//! From images to sessions: what an earlier process has written down goes on here, before the first packet. Called by management with
//! the shards of workers that do not run yet.
//!
//! Everything an image names is looked up in the policy in force: its ports, its backend, the pool its outside address and port
//! are of, which have to be free and of this worker. What is not there any more is not taken up, and the reason is told. Next hops are
//! found by the routes of today, and its next packet is judged as after a change of policy, so that no rule, forward or
//! blocklist of today is got round. Its silence, the time between the processes included, counts against its timeout.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use frame::Buffer;
use session::{Kind, NewSession, Slot, Tuple};
use stage::DropReason;
use stage::PortRange;
use stage::balancer::{Backend, Service, key_of_name};
use stage::translate::{Inside, Mapped, MappingId, NoMapping, Outside, Pool, SourceNatRule};
use units::{Nanos, PortId, ServiceId, TenantId, Tick, WorkerId};
use wire::Endpoints;

use crate::across::as_sent;
use crate::establish::translate;
use crate::family::Family;
use crate::hide::{INBOUND, POOL_ONLY, protocol_number};
use crate::image::{Course, Lease, SessionImage};
use crate::next_hop::NextHopId;
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::splice::Splice;
use crate::splice_image::SpliceImage;
use crate::steer;
use crate::sweep::Ends;

/// Why a session was not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotTakenUp {
    /// It has been silent for too long.
    Expired,
    /// The policy has no such port, or not in such a place.
    NoPort,
    /// The policy has no such tenant.
    NoTenant,
    /// The policy has no such backend.
    NoBackend,
    /// The policy does not give its outside address and port, or gives it to another.
    NoOutsidePort,
    /// Its two directions belong to two workers: there are other workers than before, or the policy shares sessions out in
    /// another way.
    TwoWorkers,
    /// Its source has as many sessions as it may.
    SourceLimited,
    /// The table is full.
    TableFull,
    /// Another session has one of its tuples.
    TupleInUse,
    /// It contradicts itself.
    Unsound,
}

impl NotTakenUp {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Expired,
        Self::NoPort,
        Self::NoTenant,
        Self::NoBackend,
        Self::NoOutsidePort,
        Self::TwoWorkers,
        Self::SourceLimited,
        Self::TableFull,
        Self::TupleInUse,
        Self::Unsound,
    ];

    /// The name scripts know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NoPort => "no_port",
            Self::NoTenant => "no_tenant",
            Self::NoBackend => "no_backend",
            Self::NoOutsidePort => "no_outside_port",
            Self::TwoWorkers => "two_workers",
            Self::SourceLimited => "source_limited",
            Self::TableFull => "table_full",
            Self::TupleInUse => "tuple_in_use",
            Self::Unsound => "unsound",
        }
    }

    const fn of(reason: DropReason) -> Self {
        match reason {
            DropReason::SessionTableFull | DropReason::NextHopsFull => Self::TableFull,
            DropReason::TupleInUse => Self::TupleInUse,
            DropReason::SourceSessionsLimited => Self::SourceLimited,
            DropReason::NoRoute => Self::NoPort,
            DropReason::NoBackend => Self::NoBackend,
            _ => Self::Unsound,
        }
    }
}

/// Who gives outside addresses and ports.
#[derive(Clone, Copy, Debug)]
enum Giver {
    /// The rule of source NAT at this position.
    SourceNat(usize),
    /// A service, in mode `full-nat`.
    Service(ServiceId),
    /// The rule of NAT64 at this position.
    Nat64(usize),
}

/// What the keys in images stand for in one policy, and how much time lies between the processes.
#[derive(Debug)]
pub struct Places {
    ports: HashMap<u64, PortId>,
    tenants: HashMap<u64, TenantId>,
    /// By key: the number of the pool, and whose it is.
    pools: HashMap<u64, (u16, Giver)>,
    silence: u64,
    now: Nanos,
}

impl Places {
    /// What keys stand for in these tables, `now`, for images that are older by `silence`.
    #[must_use]
    pub fn of(snapshot: &Snapshot, silence: Nanos, now: Nanos) -> Self {
        let ports = (0..).map(PortId::new).zip(&snapshot.ports);
        let source_nat =
            snapshot.source_nat.iter().enumerate().map(|(place, (_, number))| (number, Giver::SourceNat(place)));
        let nat64 = snapshot.nat64.iter().enumerate().map(|(place, (_, number))| (number, Giver::Nat64(place)));
        let services = snapshot.services.iter().filter_map(|service| {
            let number = snapshot.pool_of(service.id())?;
            Some((number, Giver::Service(service.id())))
        });
        let pools = source_nat.chain(nat64).chain(services).filter_map(|(number, giver)| {
            let pool = snapshot.pool_uses.get(number)?;
            Some((key_of_name(pool.name()), (number, giver)))
        });
        Self {
            ports: ports.map(|(id, port)| (key_of_name(&port.name), id)).collect(),
            tenants: snapshot.tenants.iter().map(|tenant| (key_of_name(&tenant.name), tenant.id)).collect(),
            pools: pools.collect(),
            silence: Tick::new(0).after(silence).get(),
            now,
        }
    }
}

/// The protocol of a session's packets.
fn protocol(kind: Kind, endpoints: Endpoints, port: u16) -> u8 {
    match (kind, endpoints.is_v6()) {
        (Kind::Tcp, _) => 6,
        (Kind::Udp, _) => 17,
        (Kind::Icmp, false) => 1,
        (Kind::Icmp, true) => 58,
        (Kind::Other, _) => u8::try_from(port).unwrap_or(u8::MAX),
    }
}

/// These ends as a tuple of a family; `None` when they are of another.
fn tuple<A: Family>(ends: &Ends) -> Option<Tuple<A>> {
    let Ends { source, destination, source_port, destination_port } = *ends;
    Some(Tuple { source: A::from_ip(source)?, destination: A::from_ip(destination)?, source_port, destination_port })
}

impl<B> Shard<B> {
    /// The worker that packets of this session will come to.
    ///
    /// # Errors
    /// Those of its two directions come to two.
    pub fn owner_of(&self, image: &SessionImage) -> Result<WorkerId, NotTakenUp> {
        let owner = match image.original.source {
            IpAddr::V4(_) => self.owner_in_family::<Ipv4Addr>(image),
            IpAddr::V6(_) => self.owner_in_family::<Ipv6Addr>(image),
        };
        owner.ok_or(NotTakenUp::Unsound)?
    }

    fn owner_in_family<A: Family>(&self, image: &SessionImage) -> Option<Result<WorkerId, NotTakenUp>> {
        let of = |tuple: Tuple<A>| {
            let endpoints = as_sent(A::endpoints(&tuple));
            let protocol = protocol(image.kind, endpoints, tuple.source_port);
            let [from, to] =
                if image.kind == Kind::Other { [0; 2] } else { [tuple.source_port, tuple.destination_port] };
            steer::owner(&steer::Ends::new(endpoints, protocol, from, to), &self.snapshot, &self.slice, self.workers)
        };
        let (forth, back) = (of(tuple(&image.original)?), of(tuple(&image.reply)?));
        Some(if forth == back || image.one_sided { Ok(forth) } else { Err(NotTakenUp::TwoWorkers) })
    }
}

impl<B: Buffer> Shard<B> {
    /// Has a session go on here that is this worker's. Before the first packet only.
    ///
    /// # Errors
    /// Why it cannot; nothing has changed then.
    pub fn take_up(&mut self, image: &SessionImage, places: &Places) -> Result<(), NotTakenUp> {
        (self.now, self.tick) = (places.now, places.now.tick());
        match image.original.source {
            IpAddr::V4(_) => self.take_up_in_family::<Ipv4Addr>(image, places),
            IpAddr::V6(_) => self.take_up_in_family::<Ipv6Addr>(image, places),
        }
    }

    fn take_up_in_family<A: Family>(&mut self, image: &SessionImage, places: &Places) -> Result<(), NotTakenUp> {
        let history = image.history.after(places.silence);
        if !A::table(&self.sessions).outlives(image.kind, &history, image.lingers) {
            return Err(NotTakenUp::Expired);
        }
        let snapshot = Arc::clone(&self.snapshot);
        let served = match image.backend {
            Some(key) => Some(snapshot.services.with_key(key).ok_or(NotTakenUp::NoBackend)?),
            None => None,
        };
        let splice = match &image.splice {
            Some(splice) => Some(Self::splice_again(splice, image, served).ok_or(NotTakenUp::Unsound)?),
            None => None,
        };
        let mut new = self.beginning::<A>(image, places)?;
        let hops = self.lead::<A>(image, &mut new, served.map(|(_, backend)| backend))?;
        // Held first: what a full table gives up for it may be the last to hold them.
        hops.into_iter().for_each(|hop| self.next_hops.retain(hop));
        let inserted = self.insert_leased_anew(image, places, new);
        let slot = inserted.inspect_err(|_| hops.into_iter().for_each(|hop| self.next_hops.release(hop)))?;
        let table = A::table_mut(&mut self.sessions);
        if image.course == Course::Across {
            table.session_mut(slot).set_beside(hops.map(NextHopId::get));
        }
        table.resume(slot, &history, self.tick);
        if let Some((service, backend)) = served {
            self.bind::<A>(slot, service, backend);
            service.remember(image.original.source, backend, self.now);
        }
        if let Some(splice) = splice
            && self.attach_splice::<A>(slot, splice).is_none()
        {
            self.counters.sessions_opened.add(1);
            self.close::<A>(slot);
            return Err(NotTakenUp::TableFull);
        }
        if image.course == Course::Attracted {
            self.hold_station::<A>(slot).map_err(NotTakenUp::of)?;
        }
        self.counters.sessions_opened.add(1);
        Ok(())
    }

    /// What is kept beside a session of this backend; `None` where nothing can be.
    fn splice_again(
        splice: &SpliceImage,
        image: &SessionImage,
        served: Option<(&Service, &Arc<Backend>)>,
    ) -> Option<Splice> {
        let (service, _) = served.filter(|_| image.kind == Kind::Tcp)?;
        let leads_on = matches!(image.course, Course::Routed | Course::Tunnel);
        splice.splice(service.id(), image.original.source.is_ipv6()).filter(|_| leads_on)
    }

    /// What does not depend on the way a session goes.
    fn beginning<A: Family>(&self, image: &SessionImage, places: &Places) -> Result<NewSession<A>, NotTakenUp> {
        let tuple = |ends| tuple::<A>(ends).ok_or(NotTakenUp::Unsound);
        let mut new = NewSession::new(image.kind, tuple(&image.original)?, tuple(&image.reply)?);
        // IPv4 in IPv6's clothes has its place on one side of NAT64, and nowhere else.
        let [asked, answered] =
            [&new.original, &new.reply].map(|tuple| as_sent(A::endpoints(tuple)) != A::endpoints(tuple));
        if (asked != answered) != (image.course == Course::Across) || asked && answered {
            return Err(NotTakenUp::Unsound);
        }
        let port = |key: u64| places.ports.get(&key).copied().ok_or(NotTakenUp::NoPort);
        if let Some(key) = image.tenant {
            new.tenant = places.tenants.get(&key).copied().ok_or(NotTakenUp::NoTenant)?;
        }
        let [came, answers] = image.ports;
        new.ingress = [port(came)?, port(answers)?];
        // Of another policy, so that its next packet is judged.
        new.generation = self.generation.wrapping_sub(1);
        new.flags = image.flags;
        new.one_sided = image.one_sided;
        new.one_shot = image.one_shot;
        new.lingers = image.lingers;
        if image.course != Course::Across {
            translate(&mut new);
        }
        Ok(new)
    }

    /// Gives a session its next hops. Returns those that stand beside it, where they do.
    fn lead<A: Family>(
        &mut self,
        image: &SessionImage,
        new: &mut NewSession<A>,
        backend: Option<&Arc<Backend>>,
    ) -> Result<[NextHopId; 2], NotTakenUp> {
        let client = new.original.source.into_ip().to_canonical();
        let server = backend.map_or_else(|| new.reply.source.into_ip().to_canonical(), |backend| backend.address());
        let own = |address: IpAddr| self.snapshot.own.contains_key(&address);
        let [came, answers] = new.ingress;
        let pair = || self.snapshot.pair(came).filter(|pair| pair.other == answers).ok_or(NotTakenUp::NoPort);
        let beside = [NextHopId::NONE; 2];
        let hops = match (image.course, backend) {
            // There may be no route now: the next packet looks again.
            (Course::Routed, _) => [self.hop_back(server), self.hop_back(client)],
            (Course::Here, _) if own(new.original.destination.into_ip()) => [NextHopId::KERNEL, NextHopId::NONE],
            (Course::Here, _) => return Err(NotTakenUp::NoPort),
            (Course::Tunnel, Some(_)) => [NextHopId::TUNNEL, self.hop_back(client)],
            (Course::InLine, _) => [NextHopId::through_for(pair()?, new.tenant); 2],
            (Course::Attracted, Some(backend)) => {
                let pair = pair()?;
                return self.lead_through(new, pair, backend).map(|()| beside).map_err(NotTakenUp::of);
            }
            (Course::Across, _) => {
                let sides = [NextHopId::ACROSS, NextHopId::INSIDE];
                let [forth, back] = if new.flags & INBOUND == 0 { sides } else { [sides[1], sides[0]] };
                new.next_hop = [forth.get(), back.get()];
                return Ok([self.hop_back(server), self.hop_back(client)]);
            }
            (Course::Tunnel | Course::Attracted, None) => return Err(NotTakenUp::Unsound),
        };
        new.next_hop = hops.map(NextHopId::get);
        Ok(beside)
    }

    /// Adds a session with what it had leased.
    fn insert_leased_anew<A: Family>(
        &mut self,
        image: &SessionImage,
        places: &Places,
        mut new: NewSession<A>,
    ) -> Result<Slot, NotTakenUp> {
        let (number, inserted) = match image.lease {
            Lease::None => return self.insert(&new).map_err(NotTakenUp::of),
            Lease::Port { pool } => {
                let outside = (new.reply.destination.into_ip(), new.reply.destination_port);
                let (number, _) = self.claim(places, pool, new.kind, outside)?;
                new.lease = POOL_ONLY | u32::from(number);
                (number, self.insert(&new))
            }
            Lease::Mapping { pool, filtering, inside: (address, port), outside, far } => {
                let (number, limit) = self.claim(places, pool, new.kind, outside)?;
                let protocol = protocol_number(new.kind);
                let inside = Inside { pool: number, protocol, address, port, far, aside: 0 };
                let outside = Outside { protocol, address: outside.0, port: outside.1, far };
                let id = self.map_again(Mapped { inside, outside, filtering }, limit)?;
                new.lease = id.get();
                let far = if new.flags & INBOUND == 0 { new.original.destination } else { new.original.source };
                (number, self.insert_mapped(&new, id, far.into_ip()))
            }
        };
        let slot = inserted.map_err(NotTakenUp::of)?;
        if let Some(pool) = self.snapshot.pool_uses.get(number) {
            pool.opened();
        }
        Ok(slot)
    }

    /// The number of a pool that gives this outside address and port on this worker, and how many ports a source may have of it.
    fn claim(
        &self,
        places: &Places,
        pool: u64,
        kind: Kind,
        outside: (IpAddr, u16),
    ) -> Result<(u16, Option<u32>), NotTakenUp> {
        let (number, giver) = *places.pools.get(&pool).ok_or(NotTakenUp::NoOutsidePort)?;
        let snapshot = &self.snapshot;
        let found: Option<(&Pool, PortRange, Option<u32>)> = match giver {
            Giver::SourceNat(place) => {
                let rule = snapshot.source_nat.rule(place);
                snapshot.source_nat.pool(place).zip(rule).map(|(pool, rule)| (pool, rule.ports, rule.ports_per_source))
            }
            Giver::Nat64(place) => {
                let rule = snapshot.nat64.rule(place);
                snapshot.nat64.pool(place).zip(rule).map(|(pool, rule)| (pool, rule.ports, rule.ports_per_source))
            }
            Giver::Service(id) => {
                snapshot.services.service(id).map(|service| (service.pool(), SourceNatRule::PORTS, None))
            }
        };
        let (address, port) = outside;
        // A protocol without ports has nothing else to be known by.
        let gives =
            |pool: &Pool, ports| pool.has(address) && (kind == Kind::Other || self.slice.within(ports).contains(port));
        let found = found.filter(|&(pool, ports, _)| gives(pool, ports) && !self.is_served(kind, outside));
        found.map(|(.., limit)| (number, limit)).ok_or(NotTakenUp::NoOutsidePort)
    }

    /// This mapping, as another session has brought it already, or made anew.
    fn map_again(&mut self, mapped: Mapped, limit: Option<u32>) -> Result<MappingId, NotTakenUp> {
        if let Some(id) = self.mappings.find(&mapped.inside) {
            let same = self.mappings.get(id).is_some_and(|known| known.outside == mapped.outside);
            return if same { Ok(id) } else { Err(NotTakenUp::NoOutsidePort) };
        }
        if self.mappings.is_taken(&mapped.outside) {
            return Err(NotTakenUp::NoOutsidePort);
        }
        let id = self.mappings.open(mapped, limit).map_err(|why| match why {
            NoMapping::Full => NotTakenUp::TableFull,
            NoMapping::SourceLimit => NotTakenUp::NoOutsidePort,
        })?;
        if let Some(pool) = self.snapshot.pool_uses.get(mapped.inside.pool) {
            pool.mapped();
        }
        Ok(id)
    }
}
