//! Sessions of NAT64 (RFC 6146): which first packets are for it, what they open, and whether a new policy still has them. How
//! their packets change version is [`across`](crate::across)'s.
//!
//! ```text
//!                 client's side (IPv6)                      server's side (IPv4, as ::ffff:a.b.c.d)
//! asked by a client    original: client -> prefix:server    reply:    server -> outside address and port
//! asked by a server    reply:    client -> prefix:server    original: server -> outside address and port
//! ```
//!
//! A session lives in the IPv6 table with both its sides: IPv4 addresses stand there in a form that may not be on a wire
//! (RFC 4291 section 2.5.5.2). The plain path does not look for that form, so such a session names special next hops both ways,
//! [`NextHopId::ACROSS`] and [`NextHopId::INSIDE`], which leave it to the full path, where `wire` has refused what says it is from
//! there: no IPv6 packet can pass for an IPv4 one. Its true next hops stand beside and are held like any session's. The
//! client's outside end is a mapping
//! (`stage::translate::Mappings`), the same for all servers; who else than the asked one may use it is the rule's filtering.
//! Two clients that reach each other by their outside ends (hairpinning, RFC 6146 section 3.8) have an ordinary translated
//! IPv6 session: what would happen to a packet that crosses twice happens at once. A ping between them needs its mapping on
//! the worker it comes to, which several workers do not promise.
//!
//! The firewall is asked with the addresses the sender wrote, and the zone the packet goes to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use frame::Buffer;
use session::{Direction, Kind, NewSession, Slot, Tuple, tcp_state};
use stage::DropReason;
use stage::heavy_hitters::Outcome;
use stage::translate::{Inside, Mapped, MappingId, NoMapping, Outside};
use units::{PortId, RuleId, TenantId};
use wire::emit::IcmpErrorKind;
use wire::{Endpoints, Facts, Transport};

use crate::across::mapped;
use crate::establish::translate;
use crate::family::Family;
use crate::flow::Flow;
use crate::hide::{INBOUND, PORTS_TRIED, ports, protocol_number, tries};
use crate::local::is_ours;
use crate::next_hop::NextHopId;
use crate::open::Bound;
use crate::packet::{Answer, Packet, Verdict};
use crate::shard::Shard;

/// An end of a conversation.
type End = (IpAddr, u16);

/// What NAT64 does not carry; its sender hears it.
const fn unsupported(why: IcmpErrorKind) -> Verdict {
    Verdict::Refuse(DropReason::Nat64Unsupported, Answer::Icmp(why))
}

impl<B> Shard<B> {
    /// Whom on the other side a first IPv6 packet asks for; `None` when NAT64 has nothing to do with it.
    pub(crate) fn bound_across(&self, port: PortId, facts: &Facts) -> Result<Option<Bound>, Verdict> {
        let nat64 = &self.snapshot.nat64;
        let Endpoints::V6 { source, destination } = facts.endpoints else { return Ok(None) };
        let Some((position, server)) = nat64.find(destination).filter(|_| !nat64.is_empty()) else { return Ok(None) };
        let Some(rule) = nat64.rule(position) else { return Ok(None) };
        if !rule.is_for(self.snapshot.zone(port), source.into()) {
            return Ok(None);
        }
        let Some(Flow::V6(kind @ (Kind::Tcp | Kind::Udp | Kind::Icmp), tuple)) = Flow::of(facts) else {
            // RFC 6146 section 3.5: other protocols are told that nobody listens.
            return Err(unsupported(IcmpErrorKind::PortUnreachable));
        };
        if nat64.owns(server.into()) {
            let asked = (server.into(), tuple.destination_port);
            let mapping = self.mapping_for_neighbor(position, kind, (source.into(), tuple.source_port), asked);
            return mapping.map(|id| Some(Bound::Hairpin(position, id))).ok_or(Verdict::Drop(DropReason::NoService));
        }
        if !rule.prefix.reaches(server) || is_ours(&self.snapshot, server.into()) {
            return Err(unsupported(IcmpErrorKind::NetUnreachable));
        }
        Ok(Some(Bound::Across(position)))
    }

    /// The mapping of the client that another client asks for by its outside end, if its rule lets that one in.
    fn mapping_for_neighbor(&self, position: usize, kind: Kind, client: End, asked: End) -> Option<MappingId> {
        let nat64 = &self.snapshot.nat64;
        let protocol = protocol_number(kind);
        let inside = self.inside(position, kind, client)?;
        let known = self.mappings.find(&inside).and_then(|id| self.mappings.get(id)).map(|mapped| mapped.outside);
        let seen_at = match known.map(|outside| outside.address) {
            Some(IpAddr::V4(address)) => address,
            _ => nat64.pool(position)?.v4_of(client.0).next()?,
        };
        self.admitted(protocol, asked, seen_at)
    }

    /// Who is meant by a first IPv4 packet from `far` to an outside end, if its rule lets that sender in.
    pub(crate) fn bound_inward(&self, kind: Kind, far: IpAddr, outside: End) -> Option<Bound> {
        let IpAddr::V4(far) = far else { return None };
        if !self.snapshot.nat64.owns(outside.0) {
            return None;
        }
        self.admitted(protocol_number(kind), outside, far).map(Bound::Inward)
    }

    /// The mapping of an outside end that lets this IPv4 host in, by the rule of today.
    fn admitted(&self, protocol: u8, (address, port): End, far: Ipv4Addr) -> Option<MappingId> {
        let mapped = self.mappings.get(self.mappings.behind(protocol, address, port)?)?;
        let rule = self.snapshot.nat64.of_pool(mapped.inside.pool)?;
        // The policy may have become stricter since the mapping was made.
        let as_strict = rule.filtering <= mapped.filtering;
        let id = self.mappings.admits(protocol, address, port, rule.prefix.embed(far).into());
        id.filter(|_| as_strict)
    }

    fn inside(&self, position: usize, kind: Kind, (address, port): End) -> Option<Inside> {
        let pool = self.snapshot.nat64.number(position)?;
        Some(Inside { pool, protocol: protocol_number(kind), address, port, far: None, aside: 0 })
    }

    /// Where a packet to `destination` is routed: of an address behind a prefix, where the IPv4 address inside is.
    pub(crate) fn across_or(&self, destination: IpAddr) -> IpAddr {
        match destination {
            IpAddr::V6(v6) if !self.snapshot.nat64.is_empty() => {
                self.snapshot.nat64.find(v6).map_or(destination, |(_, server)| server.into())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => destination,
        }
    }

    /// Whether the policy in force no longer has what this session crosses by: its prefix, for its client, or its outside end.
    pub(crate) fn crossing_is_gone<A: Family>(&self, slot: Slot) -> bool {
        let session = A::table(&self.sessions).session(slot);
        if !session.lingers() {
            return false;
        }
        let inbound = session.flags() & INBOUND != 0;
        let (client, server) =
            if inbound { (Direction::Reply, Direction::Original) } else { (Direction::Original, Direction::Reply) };
        let (asks, seen) = (session.tuple(client), session.tuple(server));
        let nat64 = &self.snapshot.nat64;
        let Some(rule) = nat64.behind(asks.destination.into_ip()) else { return true };
        let zone = self.snapshot.zone(session.ingress(Direction::Original));
        let is_for = inbound || rule.is_for(zone, asks.source.into_ip());
        let outside = self.across_or(seen.destination.into_ip()).to_canonical();
        !(is_for && nat64.owns(outside) && rule.ports.contains(seen.destination_port))
    }

    /// The next hop on one side of a session of NAT64, which does not stand where plain packets look for it.
    pub(crate) fn hop_beside<A: Family>(&self, slot: Slot, direction: Direction) -> NextHopId {
        let words = A::table(&self.sessions).session(slot).beside();
        NextHopId::new(*direction.of(&words))
    }
}

impl<B: Buffer> Shard<B> {
    /// A session between a client and an IPv4 server.
    pub(crate) fn open_across<A: Family>(
        &mut self,
        position: usize,
        mut new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let server = self.across_or(new.original.destination.into_ip());
        let hops = self.hold_ways(server, new.original.source.into_ip())?;
        new.next_hop = [NextHopId::ACROSS, NextHopId::INSIDE].map(NextHopId::get);
        let opened = self.insert_across(position, server, new);
        self.name_ways::<A>(hops, opened)
    }

    /// The next hops of a session both ways, held from now on; the way back may not be known yet.
    fn hold_ways(&mut self, forth: IpAddr, back: IpAddr) -> Result<[NextHopId; 2], DropReason> {
        let forth = self.hop_to(forth)?;
        // Before the other is asked for: what nobody holds may be given up for it.
        self.next_hops.retain(forth);
        let back = self.hop_back(back);
        self.next_hops.retain(back);
        Ok([forth, back])
    }

    /// Gives a session the next hops that are held for it; without session they are let go.
    fn name_ways<A: Family>(
        &mut self,
        hops: [NextHopId; 2],
        opened: Result<Slot, DropReason>,
    ) -> Result<Slot, DropReason> {
        match opened {
            Ok(slot) => A::table_mut(&mut self.sessions).session_mut(slot).set_beside(hops.map(NextHopId::get)),
            Err(_) => hops.into_iter().for_each(|hop| self.next_hops.release(hop)),
        }
        opened
    }

    /// Adds a session between a client and an IPv4 server, under the mapping of the client.
    fn insert_across<A: Family>(
        &mut self,
        position: usize,
        server: IpAddr,
        mut new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        let (id, is_new, outside) = self.client_mapping(position, &new)?;
        let far_port = new.original.destination_port;
        new.reply = Tuple {
            source: mapped(server).ok_or(DropReason::NoRoute)?,
            destination: mapped(outside.0).ok_or(DropReason::NoRoute)?,
            source_port: if new.kind == Kind::Icmp { outside.1 } else { far_port },
            destination_port: outside.1,
        };
        self.insert_leased(&mut new, position, (id, is_new))
    }

    /// A session between two clients, one of which asks for the other's outside end.
    pub(crate) fn open_hairpin<A: Family>(
        &mut self,
        position: usize,
        asked: MappingId,
        mut new: NewSession<A>,
    ) -> Result<Slot, DropReason> {
        // Between the firewall's word and now, another packet of this burst may have ended it.
        let meant = *self.mappings.get(asked).ok_or(DropReason::NoSession)?;
        let destination = (self.across_or(new.original.destination.into_ip()), new.original.destination_port);
        let neighbor = A::from_ip(meant.inside.address).ok_or(DropReason::NoSession)?;
        if destination != (meant.outside.address, meant.outside.port) {
            return Err(DropReason::NoSession);
        }
        if neighbor == new.original.source {
            return Err(DropReason::ClientIsBackend);
        }
        let forth = self.hop_to(meant.inside.address)?;
        let back = self.hop_back(new.original.source.into_ip());
        let (id, is_new, outside) = self.client_mapping(position, &new)?;
        let rule = self.snapshot.nat64.rule(position).ok_or(DropReason::NoSession)?;
        let IpAddr::V4(address) = outside.0 else { return Err(DropReason::NoSession) };
        let seen_at = A::from_ip(rule.prefix.embed(address).into()).ok_or(DropReason::NoSession)?;
        new.next_hop = [forth.get(), back.get()];
        new.reply = Tuple {
            source: neighbor,
            destination: seen_at,
            source_port: meant.inside.port,
            // An echo has one identifier for both ends.
            destination_port: if new.kind == Kind::Icmp { meant.inside.port } else { outside.1 },
        };
        translate(&mut new);
        self.insert_leased(&mut new, position, (id, is_new))
    }

    /// Opens the session of a packet from the IPv4 side, through its client's mapping, and sends the packet on its way.
    pub(crate) fn open_inward(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        (kind, tuple): (Kind, &Tuple<Ipv4Addr>),
        mapping: MappingId,
        rule: Option<RuleId>,
    ) -> Result<Verdict, DropReason> {
        // An earlier packet of this burst may have opened it, or have ended the mapping.
        if let Some(verdict) = self.bring_across(packet) {
            return Ok(verdict);
        }
        let Mapped { inside, outside, .. } = *self.mappings.get(mapping).ok_or(DropReason::NoSession)?;
        if (outside.address, outside.port) != (tuple.destination.into(), tuple.destination_port) {
            return Err(DropReason::NoSession);
        }
        let nat64 = &self.snapshot.nat64;
        let prefix = nat64.of_pool(inside.pool).ok_or(DropReason::NoSession)?.prefix;
        let IpAddr::V6(client) = inside.address else { return Err(DropReason::NoSession) };
        let server = prefix.embed(tuple.source);
        let original = Tuple {
            source: tuple.source.to_ipv6_mapped(),
            destination: tuple.destination.to_ipv6_mapped(),
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
        };
        let reply = Tuple {
            source: client,
            destination: server,
            source_port: inside.port,
            destination_port: if kind == Kind::Icmp { inside.port } else { tuple.source_port },
        };
        let mut new = NewSession::new(kind, original, reply);
        if let Transport::Tcp(tcp) = facts.transport {
            new.tcp = tcp_state::open(&tcp, self.snapshot.midstream.pickup());
        }
        new.generation = self.snapshot.generation.short();
        new.rule = rule;
        new.ingress = [packet.port; 2];
        new.next_hop = [NextHopId::INSIDE, NextHopId::ACROSS].map(NextHopId::get);
        new.flags = INBOUND;
        new.lease = mapping.get();
        new.lingers = true;
        let hops = self.hold_ways(client.into(), tuple.source.into())?;
        let opened = self.insert_mapped(&new, mapping, new.original.source.into());
        let slot = self.name_ways::<std::net::Ipv6Addr>(hops, opened)?;
        if let Some(pool) = self.snapshot.pool_uses.get(inside.pool) {
            pool.opened();
        }
        self.count_first::<std::net::Ipv6Addr>(packet.len(facts), slot);
        self.note(Outcome::Opened, TenantId::NONE, &facts.endpoints);
        Ok(match self.become_v6(packet, facts, slot, Direction::Original) {
            Ok(facts) => self.dispatch::<std::net::Ipv6Addr>(packet, &facts, slot, Direction::Original),
            Err(verdict) => verdict,
        })
    }

    /// Adds a session that its client's mapping was found or made for.
    fn insert_leased<A: Family>(
        &mut self,
        new: &mut NewSession<A>,
        position: usize,
        (id, is_new): (MappingId, bool),
    ) -> Result<Slot, DropReason> {
        new.lease = id.get();
        new.lingers = true;
        let snapshot = Arc::clone(&self.snapshot);
        let pool = snapshot.nat64.number(position).and_then(|number| snapshot.pool_uses.get(number));
        if let Some(pool) = pool.filter(|_| is_new) {
            pool.mapped();
        }
        let slot = self.insert_mapped(new, id, new.original.destination.into_ip())?;
        if let Some(pool) = pool {
            pool.opened();
        }
        Ok(slot)
    }

    /// The mapping of a client's end, whether it is new, and the outside end. What is refused is counted with the pool.
    fn client_mapping<A: Family>(
        &mut self,
        position: usize,
        new: &NewSession<A>,
    ) -> Result<(MappingId, bool, End), DropReason> {
        let client = (new.original.source.into_ip(), new.original.source_port);
        let inside = self.inside(position, new.kind, client).ok_or(DropReason::NatPortsExhausted)?;
        let found = self.find_or_map(position, new.kind, inside);
        if let Some(pool) = self.snapshot.pool_uses.get(inside.pool) {
            match found {
                Err(DropReason::NatPortsExhausted) => pool.ran_out(),
                Err(DropReason::NatSourceLimit) => pool.limit_reached(),
                Ok(_) | Err(_) => {}
            }
        }
        found
    }

    fn find_or_map(
        &mut self,
        position: usize,
        kind: Kind,
        inside: Inside,
    ) -> Result<(MappingId, bool, End), DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let (Some(rule), Some(pool)) = (snapshot.nat64.rule(position), snapshot.nat64.pool(position)) else {
            return Err(DropReason::NatPortsExhausted);
        };
        if let Some(id) = self.mappings.find(&inside)
            && let Some(&Mapped { outside, .. }) = self.mappings.get(id)
        {
            if pool.has(outside.address) && rule.ports.contains(outside.port) {
                return Ok((id, false, (outside.address, outside.port)));
            }
            // One of an earlier policy, which this one would not give, goes with its last session.
            self.mappings.set_aside(id);
        }
        let (slice, start) = (self.slice.within(rule.ports), self.dice.roll());
        let at =
            |address: Ipv4Addr, port| Outside { protocol: inside.protocol, address: address.into(), port, far: None };
        let addresses = pool.v4_of(inside.address);
        let shares = tries(addresses.size_hint().0);
        let tried = addresses
            .zip(shares)
            .flat_map(|(address, share)| ports(&slice, inside.port, start, share).map(move |port| (address, port)));
        let given_back = self.freed.of(inside.pool).filter_map(|(address, port)| match address {
            IpAddr::V4(address) if slice.contains(port) && pool.has(address.into()) => Some((address, port)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
        let is_free = |&(address, port): &(Ipv4Addr, u16)| {
            !self.mappings.is_taken(&at(address, port)) && !self.is_served(kind, (address.into(), port))
        };
        let (address, port) =
            tried.take(PORTS_TRIED).chain(given_back).find(is_free).ok_or(DropReason::NatPortsExhausted)?;
        let opened = self
            .mappings
            .open(Mapped { inside, outside: at(address, port), filtering: rule.filtering }, rule.ports_per_source);
        opened.map(|id| (id, true, (address.into(), port))).map_err(|why| match why {
            NoMapping::Full => DropReason::SessionTableFull,
            NoMapping::SourceLimit => DropReason::NatSourceLimit,
        })
    }
}
