//! Sessions that leave with another source: which outside address and port they get, and what they give back at their end.
//!
//! Two ways. Where every session has a port of its own towards its far end, the session table alone tells which are
//! free, so two sessions can never collide. Where a rule asks for more (a client keeps its port for all far ends, others
//! may answer it, ports are limited for each source), a mapping (`stage::translate::Mappings`) is kept beside the
//! sessions. Both try a bounded number of ports, those given back last at the end, so that a pool that is used up serves
//! again with the first port that comes free (STX-11).

use std::net::IpAddr;

use frame::Buffer;
use session::{Direction, Kind, NewSession, Session, Slot};
use stage::DropReason;
use stage::balancer::Service;
use stage::translate::{Inside, Mapped, MappingId, NoMapping, Outside, Pool, PortSlice, SourceNatRule};

use crate::establish::translate;
use crate::family::Family;
use crate::shard::Shard;
use crate::snapshot::Snapshot;

/// Session flag: it was opened from outside, through a mapping. The far end is its source.
pub(crate) const INBOUND: u8 = 2;
/// Session flag: a forward brought it to its server.
pub(crate) const FORWARDED: u8 = 4;

/// Ports tried for one session before its addresses count as used up: bounds the work of one packet.
pub(crate) const PORTS_TRIED: usize = 256;
/// Of those, at least so many on each address but the client's own; of more addresses than that leaves room for, the first.
const TRIED_ELSEWHERE: usize = 16;

/// How many ports are tried on each of so many addresses: half of all on the client's own, which it should keep (RFC 4787
/// REQ-2), the other half shared by the others.
pub(crate) fn tries(addresses: usize) -> impl Iterator<Item = usize> {
    let others = addresses.saturating_sub(1);
    let own = if others == 0 { PORTS_TRIED } else { PORTS_TRIED / 2 };
    let each = (PORTS_TRIED / 2).checked_div(others).unwrap_or(0).max(TRIED_ELSEWHERE);
    core::iter::once(own).chain(core::iter::repeat_n(each, others))
}

/// So many ports of a slice, if it has more: three quarters of them `preferred` and others of its parity (RFC 4787
/// section 4.2.2), the rest of the other parity. Hosts that connect from ports of one parity would otherwise have only half of
/// a pool.
pub(crate) fn ports(slice: &PortSlice, preferred: u16, start: u32, count: usize) -> impl Iterator<Item = u16> + use<> {
    let others = if slice.len() > count { count / 4 } else { 0 };
    slice.candidates(preferred, start).take(count - others).chain(slice.candidates(preferred ^ 1, start).take(others))
}

/// Ports given back that are remembered.
const FREED: usize = 64;

/// Set in the lease of a session that has no mapping; the rest is the number of its pool. Otherwise a lease is the number
/// of a mapping, 0 for none.
pub(crate) const POOL_ONLY: u32 = 1 << 31;

/// An outside port of a pool.
type Place = (u16, IpAddr, u16);

/// The ports given back last, by all pools.
#[derive(Debug)]
pub(crate) struct Freed {
    places: [Option<Place>; FREED],
    next: usize,
}

impl Default for Freed {
    fn default() -> Self {
        Self { places: [None; FREED], next: 0 }
    }
}

impl Freed {
    /// Those of this pool.
    pub(crate) fn of(&self, pool: u16) -> impl Iterator<Item = (IpAddr, u16)> {
        let places = self.places.iter().flatten().filter(move |(number, ..)| *number == pool);
        places.map(|&(_, address, port)| (address, port))
    }

    fn push(&mut self, place: Place) {
        if let Some(slot) = self.places.get_mut(self.next) {
            *slot = Some(place);
        }
        self.next = if self.next + 1 < FREED { self.next + 1 } else { 0 };
    }
}

/// What a session of source NAT gives back at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leased {
    lease: u32,
    far: IpAddr,
    outside: (IpAddr, u16),
}

impl Leased {
    /// What this session has leased.
    pub(crate) fn of<A: Family>(session: &Session<A>) -> Self {
        let (original, reply) = (session.tuple(Direction::Original), session.tuple(Direction::Reply));
        let far = if session.flags() & INBOUND != 0 { original.source } else { original.destination };
        let outside = (reply.destination.into_ip(), reply.destination_port);
        Self { lease: session.lease(), far: far.into_ip(), outside }
    }

    /// The same, of a session that keeps its lease elsewhere.
    pub(crate) const fn with_lease(self, lease: u32) -> Self {
        Self { lease, ..self }
    }
}

/// The number a mapping knows a protocol by.
pub(crate) const fn protocol_number(kind: Kind) -> u8 {
    kind as u8
}

/// The addresses a session may leave with, and this worker's ports of them.
struct Cover<'a> {
    pool: &'a Pool,
    slice: PortSlice,
    number: u16,
}

impl<B: Buffer> Shard<B> {
    /// Adds a session that the source NAT rule at `position` hides.
    pub(crate) fn hide<A: Family>(
        &mut self,
        snapshot: &Snapshot,
        position: usize,
        new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let nat = &snapshot.source_nat;
        let (Some(rule), Some(pool), Some(number)) = (nat.rule(position), nat.pool(position), nat.number(position))
        else {
            return Err(DropReason::NatPortsExhausted);
        };
        let cover = Cover { pool, slice: self.slice.within(rule.ports), number };
        // A protocol without ports has nothing to keep: one conversation with each far address.
        let hidden = if rule.keeps_mappings() && new.kind != Kind::Other {
            self.hide_mapped(&cover, rule, number, new)
        } else {
            self.hide_plain(&cover, new)
        };
        count_hidden(snapshot, number, hidden.err());
        hidden
    }

    /// Adds a session of a `full-nat` service, whose client one of its addresses hides.
    pub(crate) fn hide_client<A: Family>(
        &mut self,
        snapshot: &Snapshot,
        service: &Service,
        new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let number = snapshot.pool_of(service.id()).ok_or(DropReason::NatPortsExhausted)?;
        let hidden = self.hide_plain(&Cover { pool: service.pool(), slice: self.slice, number }, new);
        count_hidden(snapshot, number, hidden.err());
        hidden
    }

    /// A session with an outside port that is free towards its far end.
    fn hide_plain<A: Family>(&mut self, cover: &Cover<'_>, mut new: NewSession<A>) -> Result<Slot, DropReason> {
        new.lease = POOL_ONLY | u32::from(cover.number);
        if new.kind == Kind::Other {
            for address in A::pool(cover.pool, new.original.source) {
                new.reply.destination = address;
                translate(&mut new);
                match self.insert(&new) {
                    Err(DropReason::TupleInUse) => {}
                    done => return done,
                }
            }
            return Err(DropReason::NatPortsExhausted);
        }
        let free = self.free_port(cover, &mut new, |_, _| true);
        free.ok_or(DropReason::NatPortsExhausted)?;
        translate(&mut new);
        self.insert(&new)
    }

    /// A session whose client keeps its outside port, with the mapping it has or a new one.
    fn hide_mapped<A: Family>(
        &mut self,
        cover: &Cover<'_>,
        rule: &SourceNatRule,
        number: u16,
        mut new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let (client, port) = (new.original.source.into_ip(), new.original.source_port);
        let far = new.original.destination.into_ip();
        let held_for = rule.mapping.far(far, new.original.destination_port);
        let protocol = protocol_number(new.kind);
        let inside = Inside { pool: number, protocol, address: client, port, far: held_for, aside: 0 };
        if let Some(id) = self.mappings.find(&inside)
            && let Some(&Mapped { outside, .. }) = self.mappings.get(id)
            && !self.is_of_another_policy(cover, id, &outside)
        {
            let address = A::from_ip(outside.address).ok_or(DropReason::NatPortsExhausted)?;
            set_outside(&mut new, address, outside.port);
            new.lease = id.get();
            translate(&mut new);
            return self.insert_mapped(&new, id, far);
        }
        let free = self.free_port(cover, &mut new, |shard, (address, port)| {
            !shard.mappings.is_taken(&Outside { protocol, address, port, far: held_for })
        });
        let (address, port) = free.ok_or(DropReason::NatPortsExhausted)?;
        let outside = Outside { protocol, address, port, far: held_for };
        let mapped = Mapped { inside, outside, filtering: rule.filtering };
        let id = self.mappings.open(mapped, rule.ports_per_source).map_err(|why| match why {
            NoMapping::Full => DropReason::SessionTableFull,
            NoMapping::SourceLimit => DropReason::NatSourceLimit,
        })?;
        if let Some(pool) = self.snapshot.pool_uses.get(number) {
            pool.mapped();
        }
        new.lease = id.get();
        translate(&mut new);
        self.insert_mapped(&new, id, far)
    }

    /// Adds a session of a mapping, which ends if that fails and it has no other. The mapping is held first: what a full table
    /// gives up for the new session may be the mapping's last.
    pub(crate) fn insert_mapped<A: Family>(
        &mut self,
        new: &NewSession<A>,
        id: MappingId,
        far: IpAddr,
    ) -> Result<Slot, DropReason> {
        self.mappings.retain(id, far);
        let inserted = self.insert(new);
        if inserted.is_err() {
            self.release_mapping(id, far);
        }
        inserted
    }

    /// Whether the rule would not give this mapping any more; then it is set aside, and its sessions run out beside new ones.
    fn is_of_another_policy(&mut self, cover: &Cover<'_>, id: MappingId, outside: &Outside) -> bool {
        let gone = !cover.pool.has(outside.address) || !cover.slice.contains(outside.port);
        if gone {
            self.mappings.set_aside(id);
        }
        gone
    }

    /// Gives `new` an outside address and port that no session has towards the same far end, that is no service's or
    /// forward's, and that `and` agrees to. The client's own port first, then others of its parity, then those given back last.
    fn free_port<A: Family>(
        &mut self,
        cover: &Cover<'_>,
        new: &mut NewSession<A>,
        and: impl Fn(&Self, (IpAddr, u16)) -> bool,
    ) -> Option<(IpAddr, u16)> {
        let start = self.dice.roll();
        let fits = |address: A, port: u16, new: &mut NewSession<A>| {
            set_outside(new, address, port);
            let outside = (address.into_ip(), port);
            let free = !A::table(&self.sessions).contains_in(new.tenant, new.kind, &new.reply)
                && !self.is_served(new.kind, outside)
                && and(self, outside);
            free.then_some(outside)
        };
        let (slice, preferred) = (cover.slice, new.original.source_port);
        let addresses = A::pool(cover.pool, new.original.source);
        let shares = tries(addresses.size_hint().0);
        let tried = addresses
            .zip(shares)
            .flat_map(|(address, share)| ports(&slice, preferred, start, share).map(move |port| (address, port)));
        for (address, port) in tried.take(PORTS_TRIED) {
            if let Some(outside) = fits(address, port, new) {
                return Some(outside);
            }
        }
        let freed = self.freed.of(cover.number);
        // The rule may have had other addresses and ports when they were given back.
        for (address, port) in freed.filter(|&(address, port)| cover.slice.contains(port) && cover.pool.has(address)) {
            if let Some(address) = A::from_ip(address)
                && let Some(outside) = fits(address, port, new)
            {
                return Some(outside);
            }
        }
        None
    }

    /// Whether clients ask something else of this address and port.
    pub(crate) fn is_served(&self, kind: Kind, (address, port): (IpAddr, u16)) -> bool {
        let protocol = match kind {
            Kind::Tcp => 6,
            Kind::Udp => 17,
            Kind::Icmp | Kind::Other => return false,
        };
        self.snapshot.services.find(address, protocol, port).is_some()
            || self.snapshot.destination_nat.find(address, protocol, port).is_some()
    }
}

impl<B> Shard<B> {
    /// Whether the outside address of this session is no longer ours: nobody answers for it on its link any more.
    pub(crate) fn outside_is_gone<A: Family>(&self, slot: Slot) -> bool {
        let session = A::table(&self.sessions).session(slot);
        // NAT64 knows its own end.
        if !session.is_translated() || session.lingers() {
            return false;
        }
        let (asked, answered) = (session.tuple(Direction::Original), session.tuple(Direction::Reply));
        let ours = |address: A| self.snapshot.ours.contains(&address.into_ip());
        let came_in = session.flags() & INBOUND != 0;
        answered.destination != asked.source && !ours(answered.destination) || came_in && !ours(asked.destination)
    }

    /// A session that had leased this has ended.
    pub(crate) fn give_back(&mut self, leased: &Leased) {
        if leased.lease == 0 {
            return;
        }
        let pool = if leased.lease & POOL_ONLY != 0 {
            let pool = u16::try_from(leased.lease & !POOL_ONLY).unwrap_or(u16::MAX);
            let (address, port) = leased.outside;
            self.freed.push((pool, address, port));
            pool
        } else {
            let id = MappingId::new(leased.lease);
            let Some(pool) = self.mappings.get(id).map(|mapped| mapped.inside.pool) else { return };
            self.release_mapping(id, leased.far);
            pool
        };
        if let Some(pool) = self.snapshot.pool_uses.get(pool) {
            pool.closed();
        }
    }

    /// A mapping has one session less; with the last it ends, and its outside end is free.
    fn release_mapping(&mut self, id: MappingId, far: IpAddr) {
        let Some(Mapped { inside, outside, .. }) = self.mappings.release(id, far) else { return };
        self.freed.push((inside.pool, outside.address, outside.port));
        if let Some(pool) = self.snapshot.pool_uses.get(inside.pool) {
            pool.unmapped();
        }
    }
}

/// Counts what has become of a session that was to be hidden.
fn count_hidden(snapshot: &Snapshot, number: u16, refused: Option<DropReason>) {
    let Some(pool) = snapshot.pool_uses.get(number) else { return };
    match refused {
        None => pool.opened(),
        Some(DropReason::NatPortsExhausted) => pool.ran_out(),
        Some(DropReason::NatSourceLimit) => pool.limit_reached(),
        Some(_) => {}
    }
}

/// Gives the answers of a session this destination. An echo has one identifier for both ends.
fn set_outside<A>(new: &mut NewSession<A>, address: A, port: u16) {
    new.reply.destination = address;
    new.reply.destination_port = port;
    if new.kind == Kind::Icmp {
        new.reply.source_port = port;
    }
}
