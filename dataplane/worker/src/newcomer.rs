//! First packets of the common kind: plain, to a service in `nat` or `direct` mode or to somewhere behind a port, allowed.
//! All of a burst are taken together, step by step, so that the memory each needs is on its way while others are treated:
//!
//! ```text
//! announce  whose it is; what is not common goes back, to be read in full (open, establish)
//! judge     the firewall over all of them at once
//! choose    the backend
//! prepare   next hops and the reply's tuple; its bucket and a vacant session are asked for
//! settle    the session, and the packet on its way; when some others have been prepared
//! ```
//!
//! A further packet of a flow whose first is in the same burst waits until that has its session: it is judged by the rules
//! only when that was refused. Everything here means what [`open`](crate::open) means; a function that wants more of a first
//! packet says so in [`announce`](Shard::announce), and the packet comes to `open`.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use frame::Buffer;
use session::{Direction, Kind, NewSession, Slot, TcpOpening, Tuple, tcp_state};
use stage::DropReason;
use stage::balancer::Mode;
use stage::firewall::{Action, Candidate, Judgement};
use stage::heavy_hitters::Outcome;
use stage::syn_cookie::CookieMode;
use units::limits::BURST_MAX;
use units::{PortId, RuleId, ServiceId, TenantId, ZoneId};
use wire::plain::{is_ordinary, plain_opening};
use wire::{Content, Verify, dissect};

use crate::act::Acted;
use crate::establish::translate;
use crate::family::Family;
use crate::lane::{Head, Known, LAG, Lane, Others, Task};
use crate::next_hop::{Exit, NextHopId};
use crate::open::{Bound, refusal};
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::pass::leaving;
use crate::shard::Shard;
use crate::snapshot::Snapshot;

/// A burst's packets, as far as first packets are concerned.
pub(crate) struct Crowd<'a, B> {
    pub(crate) buffers: &'a mut [Option<B>],
    pub(crate) lanes: &'a mut [Lane],
    pub(crate) others: &'a mut Others<B>,
    /// The port they came by.
    pub(crate) port: PortId,
}

/// A plain packet at the firewall's door.
#[derive(Clone, Copy)]
struct Announced<A> {
    position: usize,
    hash: u64,
    kind: Kind,
    head: Head<A>,
    bound: Bound,
    tcp: Option<TcpOpening>,
}

/// An allowed packet, and of its session what cannot be told from the packet.
#[derive(Clone, Copy)]
struct Prepared<A> {
    rule: Option<RuleId>,
    /// The backend's place among the members of its service.
    member: usize,
    next_hop: [NextHopId; 2],
    reply: Tuple<A>,
    reply_hash: u64,
    /// What the rewriting does to checksums, if there is any.
    deltas: Option<session::Deltas>,
}

/// What the packets before had in common with this one, most likely: the service they asked.
struct Asked<A> {
    kind: Kind,
    destination: A,
    port: u16,
    service: ServiceId,
    to: ZoneId,
}

/// What sessions of one burst with the same backend share. Its next hop is held by the first of them.
#[derive(Clone, Copy)]
struct Reached<A> {
    service: ServiceId,
    member: usize,
    asked: u16,
    forth: NextHopId,
    source: A,
    source_port: u16,
    deltas: Option<session::Deltas>,
}

/// What one burst has found out: what is asked for next was most likely asked for just now.
struct Found<A> {
    reached: [Option<Reached<A>>; REACHED],
    /// The way back to the last client behind a router: the port, the router, its next hop.
    back: Option<(PortId, IpAddr, NextHopId)>,
}

/// Backends of one burst that are remembered.
const REACHED: usize = 8;

/// Which hashes were seen; now and then one that was not.
#[derive(Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Whether this one may have been here before.
    fn again(&mut self, hash: u64) -> bool {
        let bit = 1 << (hash >> 58);
        let Some(word) = self.0.get_mut((hash >> 56 & 3) as usize) else { return true };
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }
}

impl<B: Buffer> Shard<B> {
    /// Opens the sessions of the plain packets at `positions`, none of which has one. What is left to be done with a packet
    /// is in its lane afterwards, or among the others; those that are to be read in full are returned.
    pub(crate) fn welcome<A: Family>(
        &mut self,
        crowd: &mut Crowd<'_, B>,
        positions: &[usize],
    ) -> ArrayVec<usize, BURST_MAX> {
        let mut unusual = ArrayVec::new();
        if positions.is_empty() {
            return unusual;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let mut announced = ArrayVec::<Announced<A>, BURST_MAX>::new();
        let mut candidates = ArrayVec::<Candidate, BURST_MAX>::new();
        let mut waiting = ArrayVec::<usize, BURST_MAX>::new();
        let (mut seen, mut hashes) = (Seen::default(), ArrayVec::<u64, BURST_MAX>::new());
        let mut asked = None;
        let suspicious = snapshot.sources.asks(snapshot.zone(crowd.port));
        for &position in positions {
            let (Some(Some(buffer)), Some(&Lane::Known(Known { hash, kind, .. }))) =
                (crowd.buffers.get(position), crowd.lanes.get(position))
            else {
                continue;
            };
            if seen.again(hash) && hashes.contains(&hash) {
                waiting.push(position);
                continue;
            }
            hashes.push(hash);
            let Some(head) = A::head(buffer.bytes()) else {
                unusual.push(position);
                continue;
            };
            // What answers a client of NAT64 looks like a newcomer until its session is found, of the other IP version.
            if suspicious
                && !snapshot.nat64.owns(head.tuple.destination.into_ip())
                && let Some(reason) = snapshot.refuses_source(crowd.port, head.tuple.source.into_ip(), Origin::Wire)
            {
                // What an instance of a tier hands back may be excused, and is read in full.
                if snapshot.tiering.asked(head.tuple.destination.into_ip()).is_empty() {
                    self.turn_away(crowd, position, &head.tuple, Verdict::Drop(reason));
                } else {
                    unusual.push(position);
                }
                continue;
            }
            match Self::announce(&snapshot, buffer, kind, &head, crowd.port, &mut asked) {
                Some((bound, to, tcp)) => {
                    candidates.push(Candidate {
                        from: snapshot.zone(crowd.port),
                        to,
                        tenant: TenantId::NONE,
                        protocol: if kind == Kind::Tcp { 6 } else { 17 },
                        endpoints: A::endpoints(&head.tuple),
                        source_port: head.tuple.source_port,
                        destination_port: head.tuple.destination_port,
                    });
                    announced.push(Announced { position, hash, kind, head, bound, tcp });
                }
                None => unusual.push(position),
            }
        }
        let mut judgements = [Judgement::DENIED; BURST_MAX];
        if let Some(judgements) = judgements.get_mut(..candidates.len()) {
            snapshot.rules.judge(self.id, &candidates, self.now, judgements);
        }
        if self.noted.on
            && let (Some(newcomer), Some(candidate), [judgement, ..]) =
                (announced.first(), candidates.first(), &judgements)
        {
            self.note_decision(newcomer.bound, candidate, judgement, false);
        }
        let mut members = [None; BURST_MAX];
        for ((newcomer, judgement), member) in announced.iter().zip(&judgements).zip(&mut members) {
            *member = self.choose(&snapshot, newcomer, judgement);
        }
        let mut prepared = ArrayVec::<(&Announced<A>, Prepared<A>), BURST_MAX>::new();
        let mut settled = 0;
        let mut found = Found { reached: [None; REACHED], back: None };
        for (((newcomer, candidate), judgement), member) in
            announced.iter().zip(&candidates).zip(&judgements).zip(members)
        {
            if judgement.log {
                self.log(candidate, judgement);
            }
            match self.prepare(&snapshot, newcomer, judgement, member, &mut found) {
                Ok(ready) => prepared.push((newcomer, ready)),
                Err(verdict) => self.turn_away(crowd, newcomer.position, &newcomer.head.tuple, verdict),
            }
            let waiting = prepared.len() - settled;
            A::table(&self.sessions).prefetch_vacant(u32::try_from(waiting.saturating_sub(1)).unwrap_or(0));
            // Its memory has come when as many others as this have been prepared.
            if waiting > LAG
                && let Some((newcomer, ready)) = prepared.get(settled)
            {
                self.settle(&snapshot, crowd, newcomer, ready);
                settled += 1;
            }
        }
        for (newcomer, ready) in prepared.iter().skip(settled) {
            self.settle(&snapshot, crowd, newcomer, ready);
        }
        self.bindings.tell_opened();
        // Found where the first of its flow has opened a session; else the firewall sees it, too.
        unusual.extend(waiting);
        unusual
    }

    /// Whose a plain packet is, and what it opens; `None` for what is not common.
    #[inline]
    fn announce<A: Family>(
        snapshot: &Snapshot,
        buffer: &B,
        kind: Kind,
        head: &Head<A>,
        port: PortId,
        asked: &mut Option<Asked<A>>,
    ) -> Option<(Bound, ZoneId, Option<TcpOpening>)> {
        let Tuple { source, destination, source_port, destination_port } = head.tuple;
        if !is_ordinary(&A::endpoints(&head.tuple), source_port, destination_port, kind == Kind::Tcp)
            || !A::is_everywhere(source)
            || A::is_broadcast(snapshot, source)
            || snapshot.ours.contains(&source.into_ip())
            || snapshot.nat64.behind(source.into_ip()).is_some()
        {
            return None;
        }
        let (protocol, tcp) = match kind {
            Kind::Tcp => {
                let segment = plain_opening(buffer.bytes(), A::TRANSPORT, head.length)?;
                (6, Some(tcp_state::open(&segment, snapshot.midstream.pickup())?))
            }
            _ => (17, None),
        };
        Some(match asked {
            Some(asked) if asked.destination == destination && asked.port == destination_port && asked.kind == kind => {
                (Bound::Service(asked.service), asked.to, tcp)
            }
            _ => match snapshot.services.find(destination.into_ip(), protocol, destination_port) {
                Some(service) => {
                    let spec = snapshot.services.service(service)?.spec();
                    let common = matches!(spec.mode, Mode::Nat | Mode::Direct)
                        && !spec.algorithm.counts_sessions()
                        && spec.quic.is_none()
                        && spec.tiers.is_empty()
                        && !spec.one_shot
                        && (kind != Kind::Tcp
                            || (spec.mss_clamp.is_none()
                                && spec.introduction.is_none()
                                && spec.syn_cookies == CookieMode::Off
                                && spec.half_open_limit.is_none()));
                    if !common {
                        return None;
                    }
                    let to = snapshot.service_zone(service);
                    *asked = Some(Asked { kind, destination, port: destination_port, service, to });
                    (Bound::Service(service), to, tcp)
                }
                None => {
                    let to = Self::zone_beyond(snapshot, source, destination, snapshot.zone(port))?;
                    (Bound::Beyond, to, tcp)
                }
            },
        })
    }

    /// The zone of a destination that is neither ours nor a service; `None` where more than forwarding is to be done.
    fn zone_beyond<A: Family>(snapshot: &Snapshot, source: A, destination: A, from: ZoneId) -> Option<ZoneId> {
        if !A::is_everywhere(destination)
            || A::is_broadcast(snapshot, destination)
            || snapshot.ours.contains(&destination.into_ip())
            || snapshot.nat64.behind(destination.into_ip()).is_some()
        {
            return None;
        }
        let to = snapshot.zone(snapshot.routes.lookup(destination.into_ip())?.port);
        snapshot.source_nat.find(from, to, source.into_ip()).is_none().then_some(to)
    }

    /// The backend of an allowed packet to a service, by its place among the members. A step of its own, because each choice
    /// waits for memory, and the choices do not wait for each other.
    #[inline]
    fn choose<A: Family>(
        &mut self,
        snapshot: &Snapshot,
        newcomer: &Announced<A>,
        judgement: &Judgement,
    ) -> Option<usize> {
        let Bound::Service(id) = newcomer.bound else { return None };
        if judgement.drop_reason().is_some() {
            return None;
        }
        let Tuple { source, source_port, .. } = newcomer.head.tuple;
        let turn = self.turns.get_mut(id.index())?;
        snapshot.services.service(id)?.choose(source.into_ip(), source_port, turn, self.now)
    }

    /// Prepares the session of a judged packet, or says what becomes of the packet instead. The next hops of what is
    /// prepared are held.
    #[inline]
    fn prepare<A: Family>(
        &mut self,
        snapshot: &Snapshot,
        newcomer: &Announced<A>,
        judgement: &Judgement,
        member: Option<usize>,
        found: &mut Found<A>,
    ) -> Result<Prepared<A>, Verdict> {
        if let Some(reason) = judgement.drop_reason() {
            let rejects = judgement.action == Action::Reject;
            return Err(if rejects { Verdict::Refuse(reason, Answer::Reject) } else { Verdict::Drop(reason) });
        }
        let tuple = &newcomer.head.tuple;
        let mut reply = tuple.reversed();
        let mut deltas = None;
        let forth = match newcomer.bound {
            Bound::Service(id) => {
                let member = member.ok_or(Verdict::Drop(DropReason::NoBackend))?;
                let reached = self.reach(snapshot, id, member, newcomer, found)?;
                if reached.source == tuple.source {
                    return Err(Verdict::Drop(DropReason::ClientIsBackend));
                }
                (reply.source, reply.source_port, deltas) = (reached.source, reached.source_port, reached.deltas);
                reached.forth
            }
            Bound::Beyond
            | Bound::Forward(_)
            | Bound::Mapped(_)
            | Bound::Across(_)
            | Bound::Hairpin(..)
            | Bound::Inward(_)
            | Bound::Backend(..)
            | Bound::Through
            | Bound::Here => self.hop_to(tuple.destination.into_ip()).map_err(refusal)?,
        };
        self.next_hops.retain(forth);
        let back = self.way_back(snapshot, tuple.source.into_ip(), found);
        self.next_hops.retain(back);
        let table = A::table(&self.sessions);
        let reply_hash = table.hash(newcomer.kind, &reply);
        table.prefetch_bucket(reply_hash);
        Ok(Prepared {
            rule: judgement.rule,
            member: member.unwrap_or_default(),
            next_hop: [forth, back],
            reply,
            reply_hash,
            deltas,
        })
    }

    /// What sessions with this member of a service share: found before in this burst, or now.
    #[inline]
    fn reach<A: Family>(
        &mut self,
        snapshot: &Snapshot,
        id: ServiceId,
        member: usize,
        newcomer: &Announced<A>,
        found: &mut Found<A>,
    ) -> Result<Reached<A>, Verdict> {
        let asked = newcomer.head.tuple.destination_port;
        let place = found.reached.get_mut((member ^ id.index()) % REACHED);
        if let Some(Some(reached)) = &place
            && (reached.service, reached.member, reached.asked) == (id, member, asked)
        {
            return Ok(*reached);
        }
        let service = snapshot.services.service(id);
        let backend = service.zip(service.and_then(|service| service.members().get(member)));
        let (service, backend) = backend.ok_or(Verdict::Drop(DropReason::NoBackend))?;
        let (mode, backend) = (service.spec().mode, &backend.backend);
        let forth = self.hop_to(backend.address()).map_err(refusal)?;
        let tuple = newcomer.head.tuple;
        let mut new = NewSession::new(newcomer.kind, tuple, tuple.reversed());
        if mode == Mode::Nat {
            new.reply.source = A::from_ip(backend.address()).ok_or(Verdict::Drop(DropReason::NoBackend))?;
            new.reply.source_port = backend.port_for(asked);
            if new.reply.source == tuple.source {
                return Err(Verdict::Drop(DropReason::ClientIsBackend));
            }
            // What a translated destination does to checksums does not depend on the source, which stays.
            translate(&mut new);
        }
        let (source, source_port) = (new.reply.source, new.reply.source_port);
        let deltas = new.translated.then_some(new.deltas);
        let reached = Reached { service: id, member, asked, forth, source, source_port, deltas };
        if let Some(place) = place {
            *place = Some(reached);
        }
        Ok(reached)
    }

    /// The next hop of the answers, none for now when there is no route back.
    #[inline]
    fn way_back<A>(&mut self, snapshot: &Snapshot, client: IpAddr, found: &mut Found<A>) -> NextHopId {
        let Some(route) = snapshot.routes.lookup(client) else { return NextHopId::NONE };
        if let (Some(via), Some((port, router, hop))) = (&route.via, &found.back)
            && route.port == *port
            && via == router
        {
            return *hop;
        }
        let Some(hop) = self.next_hops.obtain(route.port, route.next_hop(client)) else { return NextHopId::NONE };
        if let Some(via) = route.via {
            found.back = Some((route.port, via, hop));
        }
        hop
    }

    /// Puts a prepared session into the table and sends its packet on.
    #[inline]
    fn settle<A: Family>(
        &mut self,
        snapshot: &Snapshot,
        crowd: &mut Crowd<'_, B>,
        newcomer: &Announced<A>,
        ready: &Prepared<A>,
    ) {
        let &Announced { position, hash, kind, ref head, bound, tcp } = newcomer;
        let mut new = NewSession::new(kind, head.tuple, ready.reply);
        new.generation = self.generation;
        new.rule = ready.rule;
        new.ingress = [crowd.port; 2];
        let [forth, back] = ready.next_hop;
        new.next_hop = [forth.get(), back.get()];
        new.tcp = tcp;
        let service = if let Bound::Service(id) = bound { snapshot.services.service(id) } else { None };
        if let Some(service) = service {
            new.one_sided = service.spec().mode == Mode::Direct;
        }
        if let Some(deltas) = ready.deltas {
            (new.translated, new.deltas) = (true, deltas);
        }
        let slot = match self.insert_held(&new, [hash, ready.reply_hash]) {
            Ok(slot) => slot,
            Err(reason) => {
                for hop in ready.next_hop {
                    self.next_hops.release(hop);
                }
                return match (service, reason) {
                    (Some(service), DropReason::SessionTableFull) => {
                        self.settle_untracked(crowd, position, service.id(), &head.tuple);
                    }
                    (_, DropReason::TupleInUse) => self.settle_crossed(crowd, newcomer),
                    _ => self.turn_away(crowd, position, &head.tuple, refusal(reason)),
                };
            }
        };
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        // The first never fills the counters.
        let _ = session.count(Direction::Original, u32::from(head.length));
        if let Some(member) = service.and_then(|service| service.members().get(ready.member)) {
            let binding = self.bindings.open_in_burst(&member.backend);
            session.set_binding(binding.get());
        }
        self.counters.sessions_opened.add(1);
        self.tell_opened::<A>(slot);
        self.note(Outcome::Opened, TenantId::NONE, &A::endpoints(&head.tuple));
        let (Some(lane), Some(Some(buffer))) = (crowd.lanes.get_mut(position), crowd.buffers.get_mut(position)) else {
            return;
        };
        match self.send_first(buffer, kind, head, slot) {
            Some(port) => *lane = Lane::Forward(port),
            None => self.send_in_full(crowd, position, |shard, packet, facts| {
                shard.dispatch::<A>(packet, facts, slot, Direction::Original)
            }),
        }
    }

    /// The port a session's first packet leaves through, its bytes ready; `None` when something stands in its way.
    #[inline]
    fn send_first<A: Family>(&mut self, buffer: &mut B, kind: Kind, head: &Head<A>, slot: Slot) -> Option<PortId> {
        let session = A::table(&self.sessions).session(slot);
        let &Exit { port, hop, mtu, .. } = self.next_hops.exit(session.next_hop(Direction::Original))?;
        if head.hop_limit <= 1 || head.length > mtu {
            return None;
        }
        let leaving = session.is_translated().then(|| leaving(session, Direction::Original));
        A::pass(buffer.bytes_mut(), kind == Kind::Tcp, hop, leaving).then_some(port)
    }

    /// A service's first packet while the table is full.
    #[cold]
    #[inline(never)]
    fn settle_untracked<A: Family>(
        &mut self,
        crowd: &mut Crowd<'_, B>,
        position: usize,
        service: ServiceId,
        tuple: &Tuple<A>,
    ) {
        self.send_in_full(crowd, position, |shard, packet, facts| {
            shard.forward_untracked(packet, facts, service, tuple).unwrap_or_else(refusal)
        });
    }

    /// A first packet whose tuple is taken: most likely by the session that the other end has opened in the same burst, of
    /// which it is then a packet like any other.
    #[cold]
    #[inline(never)]
    fn settle_crossed<A: Family>(&mut self, crowd: &mut Crowd<'_, B>, newcomer: &Announced<A>) {
        let &Announced { position, hash, kind, ref head, .. } = newcomer;
        let Some((slot, direction)) = A::table(&self.sessions).lookup(hash, kind, &head.tuple) else {
            return self.turn_away(crowd, position, &head.tuple, refusal(DropReason::TupleInUse));
        };
        self.send_in_full(crowd, position, |shard, packet, _| match shard.act::<A>(packet, slot, direction) {
            Acted::Verdict(verdict) => verdict,
            Acted::Anew => Verdict::Drop(DropReason::NoSession),
        });
    }

    /// Drops a first packet; its sender is told where there is an answer.
    #[cold]
    #[inline(never)]
    fn turn_away<A: Family>(&mut self, crowd: &mut Crowd<'_, B>, position: usize, tuple: &Tuple<A>, verdict: Verdict) {
        let Verdict::Drop(reason) = verdict else {
            return self.send_in_full(crowd, position, |_, _, _| verdict);
        };
        self.counters.drop_one(reason);
        self.note(Outcome::Dropped, TenantId::NONE, &A::endpoints(tuple));
        if let (Some(lane), Some(place)) = (crowd.lanes.get_mut(position), crowd.buffers.get_mut(position)) {
            *lane = Lane::Gone;
            *place = None;
        }
    }

    /// Reads a plain packet in full, for what is not done from its few words; `decide` says what becomes of it.
    #[cold]
    #[inline(never)]
    fn send_in_full(
        &mut self,
        crowd: &mut Crowd<'_, B>,
        position: usize,
        decide: impl FnOnce(&mut Self, &mut Packet<B>, &wire::Facts) -> Verdict,
    ) {
        let (Some(lane), Some(buffer)) =
            (crowd.lanes.get_mut(position), crowd.buffers.get_mut(position).and_then(Option::take))
        else {
            return;
        };
        *lane = Lane::Gone;
        match dissect(buffer.bytes(), Verify::Nothing) {
            Ok(frame) => {
                let mut packet = Packet { buffer, frame, port: crowd.port, origin: Origin::Wire, rest: None };
                let verdict = match frame.content {
                    Content::Ip(facts) => decide(self, &mut packet, &facts),
                    Content::Arp(_) | Content::Other => Verdict::Drop(DropReason::UnknownEthertype),
                };
                *lane = Lane::Other(crowd.others.push(packet, Task::Done, verdict));
            }
            Err(fault) => self.counters.drop_one(fault.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// What lets sessions of one burst share their deltas.
    #[test]
    fn a_translated_destination_does_the_same_to_checksums_whatever_the_source() {
        let deltas = |source: u32, source_port, kind| {
            let tuple = Tuple {
                source: Ipv4Addr::from_bits(source),
                destination: Ipv4Addr::new(198, 51, 100, 10),
                source_port,
                destination_port: 53,
            };
            let reply = Tuple { source: Ipv4Addr::new(10, 0, 0, 11), source_port: 8_053, ..tuple.reversed() };
            let mut new = NewSession::new(kind, tuple, reply);
            translate(&mut new);
            new.deltas
        };
        let first = deltas(1, 1, Kind::Udp);
        for n in 0..70_000_u32 {
            let port = u16::try_from(n & 0xffff).unwrap();
            assert_eq!(deltas(n.wrapping_mul(0x9e37_79b9), port, Kind::Udp), first, "{n}");
            assert_eq!(deltas(u32::MAX - n, !port, Kind::Tcp), first, "{n}");
        }
    }

    #[test]
    fn what_was_seen_is_always_known_again() {
        let mut seen = Seen::default();
        let hashes = (1..200_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let new = hashes.clone().take(32).filter(|&hash| !seen.again(hash)).count();
        assert!(new > 24, "few are taken for one another: {new}");
        assert!(hashes.take(32).all(|hash| seen.again(hash)));
    }
}
