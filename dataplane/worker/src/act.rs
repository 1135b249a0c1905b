//! Packets of sessions that exist: state, policy, rewrite, next hop. Everything was decided at the first packet; here it is
//! looked up, checked, applied and counted.

use std::net::IpAddr;

use frame::Buffer;
use session::{Direction, Kind, Session, Slot, TcpFault, TcpOutcome, datagram, tcp_state};
use stage::DropReason;
use stage::balancer::Fate;
use stage::firewall::{Action, Candidate};
use stage::translate::{Deltas, Toward, decrement_hop_limit};
use units::PortId;
use wire::emit::{self, IcmpErrorKind};
use wire::{Content, Facts, MacAddr, Transport};

use crate::across;
use crate::binding::BindingId;
use crate::command::Event;
use crate::family::Family;
use crate::in_line;
use crate::next_hop::{NextHopId, Way};
use crate::open::Bound;
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::shard::Shard;

/// Session flag: the appliance's own kernel opened it, and the firewall is not asked.
pub(crate) const FROM_KERNEL: u8 = 1;

/// Session flag: its service counts it as half open.
pub(crate) const HALF_OPEN: u8 = 0x80;

/// What a session says of one of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acted {
    /// This becomes of it.
    Verdict(Verdict),
    /// The session is gone and the packet opens a new one (a SYN on a closed session, a backend that failed, one in line that
    /// gives way).
    Anew,
}

impl<B: Buffer> Shard<B> {
    /// Treats a packet of the session in `slot`.
    pub(crate) fn act<A: Family>(&mut self, packet: &mut Packet<B>, slot: Slot, direction: Direction) -> Acted {
        let session = A::table(&self.sessions).session(slot);
        if packet.origin != Origin::Kernel && speaks_for_kernel(session, direction) {
            return Acted::Verdict(Verdict::Drop(DropReason::SourceOwnAddress));
        }
        if !self.is_of_the_same_way(packet, session) {
            if self.gives_way_to(packet, session) {
                self.close::<A>(slot);
                return Acted::Anew;
            }
            return Acted::Verdict(Verdict::Drop(DropReason::TupleInUse));
        }
        if session.generation() != self.snapshot.generation.short()
            && let Err(verdict) = self.judge_again::<A>(slot)
        {
            return Acted::Verdict(in_line::told(packet, verdict));
        }
        if let Some(acted) = self.act_on_journey::<A>(packet, slot, direction) {
            return acted;
        }
        let Content::Ip(facts) = packet.frame.content else {
            return Acted::Verdict(Verdict::Drop(DropReason::UnknownEthertype));
        };
        if let Some(verdict) = self.ends_here::<A>(packet, &facts, slot, direction) {
            return Acted::Verdict(verdict);
        }
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        if session.next_hop(direction) == NextHopId::SPLICED.get() {
            return self.act_spliced::<A>(packet, &facts, slot, direction);
        }
        let outcome = match facts.transport {
            Transport::Tcp(tcp) => tcp_state::observe(session, direction, &tcp),
            _ if datagram::observe(session, direction) => TcpOutcome::PassAndRetime,
            _ => TcpOutcome::Pass,
        };
        self.follow::<A>(packet, slot, direction, outcome)
    }

    /// Refuses a packet that cannot reach the other end, before its session has taken it in: what the receiver never sees
    /// must not be followed here (insertion by hop limit or by size; Ptacek and Newsham, 1998, section 4.1).
    fn ends_here<A: Family>(
        &self,
        packet: &Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Option<Verdict> {
        let hop = self.hop_of::<A>(slot, direction);
        // In line nothing is taken from the hop limit, and both links are alike.
        if matches!(packet.origin, Origin::Kernel | Origin::InLine) || hop == NextHopId::KERNEL {
            return None;
        }
        if facts.hop_limit <= 1 {
            return Some(Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded)));
        }
        self.too_big(packet, facts, self.next_hops.port(hop)?)
    }

    /// Goes on with a packet that its session in `slot` has taken in with this outcome.
    pub(crate) fn follow<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        direction: Direction,
        outcome: TcpOutcome,
    ) -> Acted {
        let Content::Ip(facts) = packet.frame.content else {
            return Acted::Verdict(Verdict::Drop(DropReason::UnknownEthertype));
        };
        let retimed = match outcome {
            TcpOutcome::Pass => false,
            TcpOutcome::PassAndRetime => true,
            TcpOutcome::Drop(TcpFault::OutOfWindow) => {
                return Acted::Verdict(Verdict::Drop(DropReason::TcpOutOfWindow));
            }
            TcpOutcome::Drop(TcpFault::InvalidState) => {
                return Acted::Verdict(Verdict::Drop(DropReason::TcpInvalidState));
            }
            TcpOutcome::Reopen => {
                self.close::<A>(slot);
                return Acted::Anew;
            }
        };
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        let len = packet.len(&facts);
        session.touch(self.tick);
        if session.count(direction, len) {
            self.bindings.collect(session);
        }
        if retimed && self.retime::<A>(slot) {
            let verdict = self.dispatch::<A>(packet, &facts, slot, direction);
            self.close::<A>(slot);
            return Acted::Verdict(verdict);
        }
        self.go_on::<A>(packet, &facts, slot, direction)
    }

    /// Goes on with a packet that its session has taken in: on its way, unless its backend has failed or drained.
    pub(crate) fn go_on<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Acted {
        let binding = BindingId::new(A::table(&self.sessions).session(slot).binding());
        match self.bindings.fate(binding) {
            Fate::Stays => Acted::Verdict(self.dispatch::<A>(packet, facts, slot, direction)),
            fate => match self.bereaved::<A>(facts, slot, direction, binding, fate) {
                Acted::Verdict(verdict) => Acted::Verdict(in_line::told(packet, verdict)),
                Acted::Anew => Acted::Anew,
            },
        }
    }

    /// The state of a session has changed: its timeout follows. What the kernel opened and finished is let go at once,
    /// since the kernel itself remembers what may still come; so is a question that has its answer, where the service
    /// says so.
    pub(crate) fn retime<A: Family>(&mut self, slot: Slot) -> bool {
        let session = A::table(&self.sessions).session(slot);
        if session.flags() & FROM_KERNEL != 0 && session.state().is_over() || datagram::is_over(session) {
            return true;
        }
        if session.flags() & HALF_OPEN != 0 && !session.state().is_embryonic() {
            self.bindings.end_handshake(BindingId::new(session.binding()));
            let session = A::table_mut(&mut self.sessions).session_mut(slot);
            session.set_flags(session.flags() & !HALF_OPEN);
        }
        A::table_mut(&mut self.sessions).refresh_expiry(slot, self.tick);
        false
    }

    /// Puts a session admitted by an earlier policy before the firewall of today, and finds its way anew.
    #[cold]
    pub(crate) fn judge_again<A: Family>(&mut self, slot: Slot) -> Result<(), Verdict> {
        if self.forward_is_gone::<A>(slot) || self.crossing_is_gone::<A>(slot) {
            self.end::<A>(slot);
            return Err(Verdict::Drop(DropReason::NoService));
        }
        if self.outside_is_gone::<A>(slot) {
            self.end::<A>(slot);
            return Err(Verdict::Drop(DropReason::SourceAddressGone));
        }
        let session = A::table(&self.sessions).session(slot);
        let (original, kind, tenant) = (session.tuple(Direction::Original), session.kind(), session.tenant());
        let mut rule = session.rule();
        if session.flags() & FROM_KERNEL == 0 {
            let came = session.ingress(Direction::Original);
            let endpoints = across::as_sent(A::endpoints(&original));
            if let Some(reason) = self.snapshot.disowns_source(came, endpoints.source()) {
                self.disown::<A>(slot);
                return Err(Verdict::Drop(reason));
            }
            let (source_port, destination_port, protocol) = match (kind, endpoints.is_v6()) {
                (Kind::Tcp, _) => (original.source_port, original.destination_port, 6),
                (Kind::Udp, _) => (original.source_port, original.destination_port, 17),
                (Kind::Icmp, false) => (8, 0, 1),
                (Kind::Icmp, true) => (128, 0, 58),
                (Kind::Other, _) => (0, 0, u8::try_from(original.source_port).unwrap_or(u8::MAX)),
            };
            let candidate = Candidate {
                from: self.snapshot.zone(came),
                to: self.zone_behind::<A>(slot, protocol),
                tenant,
                protocol,
                endpoints,
                source_port,
                destination_port,
            };
            let judgement = self.rejudged(&candidate);
            if self.noted.on {
                self.note_decision(Bound::Beyond, &candidate, &judgement, true);
            }
            rule = judgement.rule;
            match judgement.action {
                Action::Allow => {}
                Action::Deny => {
                    self.close::<A>(slot);
                    return Err(Verdict::Drop(DropReason::FirewallDenied));
                }
                Action::Reject => {
                    self.end::<A>(slot);
                    return Err(Verdict::Drop(DropReason::FirewallRejected));
                }
            }
        }
        for direction in [Direction::Original, Direction::Reply] {
            self.find_way_again::<A>(slot, direction);
        }
        self.plan_journey_again::<A>(slot);
        // What a session's entry holds before a journey must be there again.
        if !self.goes_on_as_it_began::<A>(slot) {
            self.end::<A>(slot);
            return Err(Verdict::Drop(DropReason::TcpInvalidState));
        }
        let short = self.snapshot.generation.short();
        A::table_mut(&mut self.sessions).session_mut(slot).readmit(short, rule);
        Ok(())
    }

    /// Looks up the next hop of one direction of a session again: routes may have changed.
    pub(crate) fn find_way_again<A: Family>(&mut self, slot: Slot, direction: Direction) {
        let session = A::table(&self.sessions).session(slot);
        let old = match self.hop_of::<A>(slot, direction) {
            NextHopId::ACROSS => self.hop_beside::<A>(slot, direction),
            hop => hop,
        };
        let settled = matches!(old, NextHopId::KERNEL | NextHopId::TUNNEL) || old.is_through();
        if settled || speaks_for_kernel(session, direction) {
            return;
        }
        // A packet of one direction travels to the source of the other.
        let target = match direction {
            Direction::Original => self
                .bindings
                .backend(BindingId::new(session.binding()))
                .map_or_else(|| session.tuple(Direction::Reply).source.into_ip(), |backend| backend.address()),
            Direction::Reply => session.tuple(Direction::Original).source.into_ip(),
        };
        // The IPv4 side of NAT64 is routed as it is on the wire.
        let new = self.hop_to(target.to_canonical()).unwrap_or(NextHopId::NONE);
        self.next_hops.retain(new);
        self.next_hops.release(old);
        self.set_hop::<A>(slot, direction, new);
    }

    /// Sends off a packet that has become the answer to itself, for `to`: to the station it came from. Out of a tunnel that
    /// was the tunnel's other end, so there the answer takes the route.
    pub(crate) fn answered(&mut self, packet: &mut Packet<B>, to: IpAddr) -> Verdict {
        if !matches!(packet.origin, Origin::Tunnel | Origin::Tier(_)) {
            return Verdict::Answered(packet.port);
        }
        match self.hop_to(to).and_then(|hop| Ok((hop, self.way_over(hop)?))) {
            Ok((hop, (port, mac, ready))) => {
                let own = self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac);
                set_macs(packet.buffer.bytes_mut(), mac, own);
                if ready { Verdict::Answered(port) } else { Verdict::Hold(hop) }
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Turns an echo request into its reply.
    pub(crate) fn echo(&mut self, packet: &mut Packet<B>, facts: &Facts) -> Verdict {
        if emit::echo_reply_in_place(packet.buffer.bytes_mut(), &packet.frame) {
            self.answered(packet, facts.endpoints.source())
        } else {
            Verdict::Drop(DropReason::IcmpUnwanted)
        }
    }

    /// Sends a packet on its session's way: to the kernel, back as an echo, or rewritten to the next hop.
    pub(crate) fn dispatch<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        if packet.origin == Origin::Kernel {
            // The kernel has routed and addressed it.
            return Verdict::Forward(packet.port);
        }
        if direction == Direction::Original
            && let Some(verdict) = self.send_on_journey::<A>(packet, slot)
        {
            return verdict;
        }
        let mut hop = self.hop_of::<A>(slot, direction);
        match hop {
            NextHopId::KERNEL => return Verdict::Punt(packet.port),
            NextHopId::TUNNEL => return self.send_to_tunnel::<A>(packet, facts, slot),
            NextHopId::ACROSS => return self.send_as_v4::<A>(packet, facts, slot, direction),
            pair if pair.is_through() => return self.send_through::<A>(packet, facts, slot, direction),
            NextHopId::NONE => {
                self.find_way_again::<A>(slot, direction);
                hop = self.hop_of::<A>(slot, direction);
            }
            _ => {}
        }
        if facts.hop_limit <= 1 {
            return Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded));
        }
        self.send::<A>(packet, facts, hop, Some((slot, direction)))
    }

    /// Sends a packet to a next hop, rewritten as its session says if it has one.
    pub(crate) fn send<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        hop: NextHopId,
        session: Option<(Slot, Direction)>,
    ) -> Verdict {
        let (port, mac, ready) = match self.way_out(hop) {
            Ok(way) => way,
            Err(verdict) => return verdict,
        };
        if let Some(verdict) = self.too_big(packet, facts, port) {
            return verdict;
        }
        if let Some((slot, _)) = session {
            self.clamp_segments::<A>(packet, facts, slot, port);
        }
        let bytes = packet.buffer.bytes_mut();
        if let Some((slot, direction)) = session {
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
            if let Some(shift) = self.shift_of::<A>(slot) {
                let toward = if direction == Direction::Original { Toward::Backend } else { Toward::Client };
                if !shift.apply(bytes, facts, toward) {
                    return Verdict::Drop(DropReason::UnknownEthertype);
                }
            }
        }
        self.leave(bytes, facts, port, mac);
        if ready { Verdict::Forward(port) } else { Verdict::Hold(hop) }
    }

    /// The way out through a next hop: its port, its MAC, and whether it answers already.
    pub(crate) fn way_out(&mut self, hop: NextHopId) -> Result<(PortId, MacAddr, bool), Verdict> {
        match self.next_hops.way(hop, self.tick) {
            Some(Way::Open(port, mac)) => Ok((port, mac, true)),
            Some(Way::Wait { ask }) => {
                if let Some((port, address)) = ask {
                    self.tell(Event::Resolve { port, address });
                }
                let port = self.next_hops.port(hop).ok_or(Verdict::Drop(DropReason::NoRoute))?;
                Ok((port, MacAddr::ZERO, false))
            }
            Some(Way::Closed(_)) => {
                let unreachable = Answer::Icmp(IcmpErrorKind::HostUnreachable);
                Err(Verdict::Refuse(DropReason::NeighborUnresolved, unreachable))
            }
            None => Err(Verdict::Refuse(DropReason::NoRoute, Answer::Icmp(IcmpErrorKind::NetUnreachable))),
        }
    }

    /// The last changes to a routed packet: hop limit and MACs.
    pub(crate) fn leave(&self, bytes: &mut [u8], facts: &Facts, port: PortId, mac: MacAddr) {
        let _ = decrement_hop_limit(bytes, facts);
        let source = self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac);
        set_macs(bytes, mac, source);
    }

    /// Refuses a packet that does not fit through `port` and may not be cut (RFC 1191, RFC 8201).
    pub(crate) fn too_big(&self, packet: &Packet<B>, facts: &Facts, port: PortId) -> Option<Verdict> {
        let mtu = self.snapshot.port(port)?.mtu;
        let refused = packet.largest(facts) > mtu && facts.dont_fragment;
        refused.then_some(Verdict::Refuse(DropReason::PacketTooBig, Answer::Icmp(IcmpErrorKind::TooBig { mtu })))
    }
}

impl<B> Shard<B> {
    /// The next hop on the way to `target`.
    pub(crate) fn hop_to(&mut self, target: IpAddr) -> Result<NextHopId, DropReason> {
        let route = self.snapshot.routes.lookup(target).ok_or(DropReason::NoRoute)?;
        self.next_hops.obtain(route.port, route.next_hop(target)).ok_or(DropReason::NextHopsFull)
    }

    /// The way over a next hop: its port, its MAC, and whether that is known. Control is asked where it is not.
    pub(crate) fn way_over(&mut self, hop: NextHopId) -> Result<(PortId, MacAddr, bool), DropReason> {
        match self.next_hops.way(hop, self.tick) {
            Some(Way::Open(port, mac)) => Ok((port, mac, true)),
            Some(Way::Wait { ask }) => {
                if let Some((port, address)) = ask {
                    self.tell(Event::Resolve { port, address });
                }
                let port = self.next_hops.port(hop).ok_or(DropReason::NoRoute)?;
                Ok((port, MacAddr::ZERO, false))
            }
            Some(Way::Closed(_)) => Err(DropReason::NeighborUnresolved),
            None => Err(DropReason::NoRoute),
        }
    }
}

/// Whether a session may end with a change of its state, and not only by silence: see [`Shard::retime`].
pub(crate) const fn may_end_by_state<A: Family>(session: &Session<A>) -> bool {
    session.flags() & FROM_KERNEL != 0 || session.is_one_shot()
}

/// Whether packets of this direction are sent by the appliance's own kernel, so that none may come from the wire.
fn speaks_for_kernel<A: Family>(session: &Session<A>, direction: Direction) -> bool {
    session.next_hop(direction) == NextHopId::NONE.get()
        && session.next_hop(direction.opposite()) == NextHopId::KERNEL.get()
}

/// Writes both MACs.
pub(crate) fn set_macs(bytes: &mut [u8], destination: MacAddr, source: MacAddr) {
    if let Some(header) = bytes.first_chunk_mut::<12>() {
        let (front, back) = header.split_at_mut(6);
        front.copy_from_slice(&destination.octets());
        back.copy_from_slice(&source.octets());
    }
}
