//! New sessions, for packets the firewall has allowed: which backend or source address they get, and the entry that
//! remembers all of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use frame::Buffer;
use session::{Direction, InsertError, Kind, NewSession, Pickup, Slot, Tuple, tcp_state};
use stage::DropReason;
use stage::balancer::{Backend, Mode, Service};
use stage::firewall::Candidate;
use stage::heavy_hitters::Outcome;
use stage::translate::{Covered, Deltas};
use units::{RuleId, ServiceId, TenantId};
use wire::emit::IcmpErrorKind;
use wire::{Facts, TcpFlags, Transport};

use crate::act::{Acted, FROM_KERNEL, HALF_OPEN};
use crate::family::{Family, ends};
use crate::flow::Flow;
use crate::local::is_ours;
use crate::next_hop::NextHopId;
use crate::open::{Applicant, Bound};
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::session_log::Ending;
use crate::shard::Shard;
use crate::snapshot::Pair;
use crate::source_sessions::COUNTED_OF_SOURCE;

impl<B: Buffer> Shard<B> {
    /// Opens the session of a packet the firewall has allowed, and sends the packet on its way.
    pub(crate) fn open<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        kind: Kind,
        tuple: Tuple<A>,
        applicant: &Applicant,
        rule: Option<RuleId>,
    ) -> Result<Verdict, DropReason> {
        // An earlier packet of this burst may have opened it.
        let tenant = applicant.candidate.tenant;
        let hash = A::table(&self.sessions).hash_in(tenant, kind, &tuple);
        if let Some((slot, direction)) = A::table(&self.sessions).lookup_in(tenant, hash, kind, &tuple) {
            return match self.act::<A>(packet, slot, direction) {
                Acted::Verdict(verdict) => Ok(verdict),
                Acted::Anew => Err(DropReason::NoSession),
            };
        }
        let mut new = NewSession::new(kind, tuple, tuple.reversed());
        new.generation = self.snapshot.generation.short();
        new.rule = rule;
        new.tenant = tenant;
        new.ingress = [packet.port; 2];
        new.next_hop = [NextHopId::NONE.get(); 2];
        let opens = match facts.transport {
            Transport::Tcp(tcp) => {
                new.tcp = tcp_state::open(&tcp, self.pickup(applicant.bound));
                new.tcp.is_some()
            }
            _ => true,
        };
        let opened = match applicant.bound {
            Bound::Here => {
                return self.open_here(packet, facts, new, opens);
            }
            Bound::Through | Bound::Backend(..) => self.open_through(applicant.bound, new),
            Bound::Service(service) if opens => {
                if applicant.proof.is_none() && !self.may_begin_handshake(service, kind) {
                    return Err(DropReason::HalfOpenLimited);
                }
                if self.speaks_too_early(service, facts) {
                    return Err(DropReason::TcpInvalidState);
                }
                if !self.may_enter_tiers(packet, service) {
                    return Err(DropReason::NoBackend);
                }
                let named = self.named_backend(service, packet, facts);
                let pair = if packet.origin == Origin::InLine { self.snapshot.pair(packet.port) } else { None };
                self.open_service(service, new, named, pair)
            }
            Bound::Service(_) => Err(DropReason::SessionTableFull),
            Bound::Forward(forward) => self.open_forward(forward, applicant, new),
            Bound::Mapped(mapping) => self.open_mapped(mapping, applicant, new),
            Bound::Across(rule) => self.open_across(rule, new),
            Bound::Hairpin(rule, mapping) => self.open_hairpin(rule, mapping, new),
            // A session of the other version (`open_inward`).
            Bound::Inward(_) => Err(DropReason::NoSession),
            Bound::Beyond => self.open_beyond(applicant, new, packet.origin),
        };
        let slot = match (opened, applicant.bound) {
            (Err(DropReason::SessionTableFull), Bound::Service(service)) if packet.origin != Origin::InLine => {
                return self.forward_untracked(packet, facts, service, &tuple);
            }
            (opened, _) => opened?,
        };
        if let Bound::Service(service) = applicant.bound
            && applicant.proof.is_none()
            && (!self.begin_introduction::<A>(packet, facts, slot, service)
                || !self.enter_tiers::<A>(packet, slot, service))
        {
            self.counters.sessions_opened.add(1);
            self.close::<A>(slot);
            return Err(DropReason::SessionTableFull);
        }
        self.count_first::<A>(packet.len(facts), slot);
        self.note(Outcome::Opened, tenant, &facts.endpoints);
        Ok(self.dispatch::<A>(packet, facts, slot, Direction::Original))
    }

    pub(crate) fn count_first<A: Family>(&mut self, len: u32, slot: Slot) {
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        // The first never fills the counters.
        let _ = session.count(Direction::Original, len);
        self.counters.sessions_opened.add(1);
        self.tell_opened::<A>(slot);
    }

    /// A packet for the appliance itself. Echo is answered at once, without a session that a flood of pings could fill the
    /// table with; the rest is the kernel's, and what opens a conversation with it gets a session so that the kernel's
    /// answers are known.
    fn open_here<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        mut new: NewSession<A>,
        opens: bool,
    ) -> Result<Verdict, DropReason> {
        let destination = facts.endpoints.destination();
        let ours = is_ours(&self.snapshot, destination);
        if ours && matches!(facts.transport, Transport::Echo { request: true, .. }) {
            return Ok(self.echo(packet, facts));
        }
        if ours && !self.snapshot.own.contains_key(&destination) {
            return Err(DropReason::NoService);
        }
        if !opens {
            return Ok(Verdict::Punt(packet.port));
        }
        new.next_hop = [NextHopId::KERNEL.get(), NextHopId::NONE.get()];
        let slot = self.insert(&new)?;
        self.count_first::<A>(packet.len(facts), slot);
        self.note(Outcome::Opened, TenantId::NONE, &facts.endpoints);
        Ok(Verdict::Punt(packet.port))
    }

    /// A packet of a service whose backends answer directly, while the table is full, or of a connection that began then: the
    /// backend follows from the client alone, so that every packet of it finds the same one without being remembered.
    pub(crate) fn forward_untracked<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        service: ServiceId,
        tuple: &Tuple<A>,
    ) -> Result<Verdict, DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let service = snapshot.services.service(service).ok_or(DropReason::NoBackend)?;
        if !service.spec().can_go_untracked() {
            return Err(DropReason::SessionTableFull);
        }
        if facts.hop_limit <= 1 {
            let exceeded = Answer::Icmp(IcmpErrorKind::TimeExceeded);
            return Ok(Verdict::Refuse(DropReason::HopLimitExceeded, exceeded));
        }
        if self.is_full() {
            service.untracked().passes(self.tick);
        }
        let (client, port) = (tuple.source.into_ip(), tuple.source_port);
        let member = service.without_memory(client, port).ok_or(DropReason::NoBackend)?;
        let verdict = if let Mode::Tunnel(encapsulation) = service.spec().mode {
            let tunnel = self.tunnel_to(service.spec(), encapsulation, &member.backend)?;
            let path = member.backend.path().get(self.tick);
            self.encapsulate(packet, facts, &tunnel, path, self.clamp_of(facts, &member.backend))
        } else {
            let hop = self.hop_to(member.backend.address())?;
            self.send::<A>(packet, facts, hop, None)
        };
        if matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_)) {
            self.counters.forwarded_untracked.add(1);
        }
        Ok(verdict)
    }

    /// The backend that a datagram names by its QUIC connection id.
    fn named_backend(&self, service: ServiceId, packet: &Packet<B>, facts: &Facts) -> Option<usize> {
        if !matches!(facts.transport, Transport::Udp { .. }) {
            return None;
        }
        let begin = usize::from(facts.transport_offset) + wire::udp::UdpHeader::LEN;
        let datagram = packet.buffer.bytes().get(begin..usize::from(facts.end))?;
        self.snapshot.services.service(service)?.named_by(datagram, self.now)
    }

    /// A session of a virtual service: the backend its first packet names, the one its client had before, or the
    /// balancer's choice. With `pair`, its packets pass in line.
    fn open_service<A: Family>(
        &mut self,
        id: ServiceId,
        mut new: NewSession<A>,
        named: Option<usize>,
        pair: Option<Pair>,
    ) -> Result<Slot, DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let service = snapshot.services.service(id).ok_or(DropReason::NoBackend)?;
        let client = new.original.source.into_ip();
        let turn = self.turns.get_mut(id.index()).ok_or(DropReason::NoBackend)?;
        let chosen = named.or_else(|| service.choose(client, new.original.source_port, turn, self.now));
        new.one_shot = service.spec().one_shot;
        let position = chosen.ok_or(DropReason::NoBackend)?;
        let member = service.members().get(position).ok_or(DropReason::NoBackend)?;
        let backend = &member.backend;
        let mode = service.spec().mode;
        match pair {
            Some(pair) => self.lead_through(&mut new, pair, backend)?,
            None => {
                let tunneled = matches!(mode, Mode::Tunnel(_));
                let forth = if tunneled { NextHopId::TUNNEL } else { self.hop_to(backend.address())? };
                new.next_hop = [forth.get(), self.hop_back(client).get()];
            }
        }
        let asked = new.original.destination_port;
        let slot = match mode {
            Mode::Direct | Mode::Tunnel(_) => {
                new.one_sided = true;
                self.insert(&new)?
            }
            Mode::Nat => {
                if backend.address() == client {
                    return Err(DropReason::ClientIsBackend);
                }
                new.reply.source = A::from_ip(backend.address()).ok_or(DropReason::NoBackend)?;
                new.reply.source_port = backend.port_for(asked);
                translate(&mut new);
                self.insert(&new)?
            }
            Mode::FullNat => {
                new.reply.source = A::from_ip(backend.address()).ok_or(DropReason::NoBackend)?;
                new.reply.source_port = backend.port_for(asked);
                self.hide_client(&snapshot, service, new)?
            }
        };
        self.bind::<A>(slot, service, backend);
        if pair.is_some() {
            self.hold_station::<A>(slot)?;
        }
        Ok(slot)
    }

    /// Binds a session that was just inserted to a backend of its service.
    pub(crate) fn bind<A: Family>(&mut self, slot: Slot, service: &Service, backend: &Arc<Backend>) {
        let binding = self.bindings.open(backend);
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        session.set_binding(binding.get());
        if service.spec().counts_handshakes()
            && session.state().is_embryonic()
            && self.bindings.begin_handshake(binding, service.guard())
        {
            session.set_flags(session.flags() | HALF_OPEN);
        }
    }

    /// A session that is only forwarded, hidden behind a pool address where source NAT says so.
    fn open_beyond<A: Family>(
        &mut self,
        applicant: &Applicant,
        mut new: NewSession<A>,
        origin: Origin,
    ) -> Result<Slot, DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let forth = self.hop_to(new.original.destination.into_ip())?;
        let back = self.hop_back(new.original.source.into_ip());
        new.next_hop = [forth.get(), back.get()];
        let Candidate { from, to, .. } = applicant.candidate;
        let source = new.original.source.into_ip();
        match snapshot.source_nat.find(from, to, source) {
            Some(rule) => self.hide(&snapshot, rule, new),
            None => {
                // Who gets packets out of a tunnel answers by any way.
                new.one_sided = origin == Origin::Tunnel;
                self.insert(&new)
            }
        }
    }

    /// The next hop of the answers. There may be no route back now: the first answer looks again.
    pub(crate) fn hop_back(&mut self, client: IpAddr) -> NextHopId {
        self.hop_to(client).unwrap_or(NextHopId::NONE)
    }

    /// Whether there is no room for a session that the kernel did not open.
    pub(crate) fn is_full(&self) -> bool {
        self.sessions.len().saturating_sub(self.kernel_sessions) >= self.capacity
    }

    /// Adds a session. A full table gives up what has been half open for longest before it refuses what is new; what is
    /// established is never given up. A conversation that is over makes room for a new one with the same tuple.
    pub(crate) fn insert<A: Family>(&mut self, new: &NewSession<A>) -> Result<Slot, DropReason> {
        let table = A::table(&self.sessions);
        let hashes = [&new.original, &new.reply].map(|tuple| table.hash_in(new.tenant, new.kind, tuple));
        let slot = self.insert_held(new, hashes)?;
        for hop in new.next_hop {
            self.next_hops.retain(NextHopId::new(hop));
        }
        Ok(slot)
    }

    /// As [`insert`](Self::insert), for tuples whose hashes are known and next hops that are held already.
    #[inline]
    pub(crate) fn insert_held<A: Family>(&mut self, new: &NewSession<A>, hashes: [u64; 2]) -> Result<Slot, DropReason> {
        let counted = self.take_from_source(new)?;
        let inserted = self.insert_counted(new, hashes);
        if counted {
            match inserted {
                Ok(slot) => {
                    let session = A::table_mut(&mut self.sessions).session_mut(slot);
                    session.set_flags(session.flags() | COUNTED_OF_SOURCE);
                }
                Err(_) => self.give_back_to_source((new.tenant, new.ingress[0]), new.original.source.into_ip()),
            }
        }
        inserted
    }

    #[inline]
    fn insert_counted<A: Family>(&mut self, new: &NewSession<A>, hashes: [u64; 2]) -> Result<Slot, DropReason> {
        let from_kernel = new.flags & FROM_KERNEL != 0;
        if !from_kernel && self.is_full() && !self.give_up_half_open() {
            return Err(DropReason::SessionTableFull);
        }
        let mut inserted = A::insert(&mut self.sessions, new, hashes, self.tick);
        if inserted == Err(InsertError::TupleInUse) && self.clear_the_way(new) {
            inserted = A::insert(&mut self.sessions, new, hashes, self.tick);
        }
        let slot = inserted.map_err(|error| match error {
            InsertError::Full => DropReason::SessionTableFull,
            InsertError::TupleInUse => DropReason::TupleInUse,
        })?;
        self.kernel_sessions += usize::from(from_kernel);
        Ok(slot)
    }

    /// Ends the session that has the reply tuple of a new one, if it is over anyway.
    #[cold]
    fn clear_the_way<A: Family>(&mut self, new: &NewSession<A>) -> bool {
        let table = A::table(&self.sessions);
        let hash = table.hash_in(new.tenant, new.kind, &new.reply);
        let in_the_way = table.lookup_in(new.tenant, hash, new.kind, &new.reply);
        match in_the_way {
            Some((slot, _)) if table.session(slot).state().is_over() => {
                self.close::<A>(slot);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Ends the session that has been half open for longest, of either family. There is room then: those of the kernel, which
    /// take none of it, are not among them.
    #[cold]
    fn give_up_half_open(&mut self) -> bool {
        match (self.sessions.v4.oldest_half_open(), self.sessions.v6.oldest_half_open()) {
            (Some((v4, _)), Some((v6, slot))) if v6 < v4 => self.close_for::<Ipv6Addr>(slot, Ending::NoRoom),
            (Some((_, slot)), _) => self.close_for::<Ipv4Addr>(slot, Ending::NoRoom),
            (None, Some((_, slot))) => self.close_for::<Ipv6Addr>(slot, Ending::NoRoom),
            (None, None) => return false,
        }
        self.counters.half_open_given_up.add(1);
        true
    }

    /// A packet the appliance's own kernel sends, of no session yet: it goes out as the kernel made it, and its replies
    /// find their way back. What opens nothing (resets, ICMP errors) goes out without a session.
    pub(crate) fn open_for_kernel(&mut self, packet: &mut Packet<B>, facts: &Facts) -> Verdict {
        let opens = match facts.transport {
            Transport::Tcp(tcp) => tcp.flags.contains(TcpFlags::SYN) && !tcp.flags.contains(TcpFlags::ACK),
            Transport::Udp { .. } | Transport::Other => true,
            Transport::Echo { request, .. } => request,
            Transport::Icmp { .. } | Transport::IcmpError { .. } | Transport::Unknown => false,
        };
        if !opens {
            return Verdict::Forward(packet.port);
        }
        let opened = match Flow::of(facts) {
            Some(Flow::V4(kind, tuple)) => self.open_kernels(packet, facts, kind, tuple),
            Some(Flow::V6(kind, tuple)) => self.open_kernels(packet, facts, kind, tuple),
            None => Ok(()),
        };
        match opened {
            Ok(()) => Verdict::Forward(packet.port),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn open_kernels<A: Family>(
        &mut self,
        packet: &Packet<B>,
        facts: &Facts,
        kind: Kind,
        tuple: Tuple<A>,
    ) -> Result<(), DropReason> {
        let mut new = NewSession::new(kind, tuple, tuple.reversed());
        new.generation = self.snapshot.generation.short();
        new.ingress = [packet.port; 2];
        new.flags = FROM_KERNEL;
        new.kept = true;
        new.next_hop = [NextHopId::NONE.get(), NextHopId::KERNEL.get()];
        if let Transport::Tcp(tcp) = facts.transport {
            new.tcp = tcp_state::open(&tcp, Pickup::Strict);
        }
        match self.insert(&new) {
            Ok(slot) => {
                self.count_first::<A>(packet.len(facts), slot);
                Ok(())
            }
            Err(DropReason::TupleInUse) => Err(DropReason::KernelAddressInUse),
            Err(reason) => Err(reason),
        }
    }
}

/// Marks a session whose tuples differ as translated, and stores what that does to checksums.
pub(crate) fn translate<A: Family>(new: &mut NewSession<A>) {
    let leaves = new.reply.reversed();
    new.translated = leaves != new.original;
    let covered = match (new.kind, A::endpoints(&new.original).is_v6()) {
        (Kind::Tcp | Kind::Udp, _) => Covered::AddressesAndPorts,
        (Kind::Icmp, false) => Covered::Identifier,
        (Kind::Icmp, true) => Covered::AddressesAndIdentifier,
        (Kind::Other, _) => Covered::Addresses,
    };
    let deltas = Deltas::between(&ends(&new.original), &ends(&leaves), covered);
    new.deltas = session::Deltas { network: deltas.network, transport: deltas.transport };
}
