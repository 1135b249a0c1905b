//! Packets of connections that began with a SYN cookie. While the backend has not answered, what its client says waits for
//! being said again; when it answers, both halves are joined: the backend is acknowledged, the client is given a window,
//! and from then on every segment is shifted on its way (`stage::translate::splice`).
//!
//! The session itself follows the backend's count, so that windows are judged as for any other.

use std::net::{Ipv4Addr, Ipv6Addr};

use frame::{Buffer, BufferPool, Nic};
use session::{Direction, Slot, TcpFault, TcpOutcome, tcp_state};
use stage::DropReason;
use stage::translate::{Shift, Toward};
use wire::emit::Segment;
use wire::tcp_options::{OPTIONS_MAX, Timestamps};
use wire::{Content, Facts, SeqNumber, Tcp, TcpFlags, TcpOptions, Transport};

use crate::act::Acted;
use crate::challenge::OFFERED_SCALE;
use crate::exits::Exits;
use crate::family::Family;
use crate::made::{Made, Named};
use crate::next_hop::{NextHopId, Way};
use crate::packet::{Packet, Verdict};
use crate::shard::Shard;
use crate::splice::{Due, Phase, Splice};

/// Waiting connections looked after in one turn.
const LOOKED_AFTER: usize = 32;

const fn dropped(reason: DropReason) -> Acted {
    Acted::Verdict(Verdict::Drop(reason))
}

impl<B> Shard<B> {
    /// What is kept of a connection that began with a cookie; `None` for every other session.
    pub(crate) fn splice_of<A: Family>(&self, slot: Slot) -> Option<&Splice> {
        let session = A::table(&self.sessions).session(slot);
        let spliced = session.next_hop(Direction::Original) == NextHopId::SPLICED.get();
        if spliced { self.splices.get(session.lease()) } else { None }
    }

    /// Begins to keep something beside a session: it names its entry from now on, and the entry its next hops.
    pub(crate) fn attach_splice<A: Family>(&mut self, slot: Slot, mut splice: Splice) -> Option<()> {
        let session = A::table(&self.sessions).session(slot);
        splice.lease = session.lease();
        splice.hops = Direction::BOTH.map(|way| NextHopId::new(session.next_hop(way)));
        let entry = self.splices.take(splice)?;
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        for way in Direction::BOTH {
            session.set_next_hop(way, NextHopId::SPLICED.get());
        }
        session.set_lease(entry);
        Some(())
    }

    /// Looks after a connection until its backend answers.
    pub(crate) fn press<A: Family>(&mut self, slot: Slot) {
        let session = A::table(&self.sessions).session(slot);
        let v6 = A::endpoints(&session.tuple(Direction::Original)).is_v6();
        self.splices.wait(slot, v6, session.lease(), self.tick);
    }

    pub(crate) fn splice_mut<A: Family>(&mut self, slot: Slot) -> Option<&mut Splice> {
        let session = A::table(&self.sessions).session(slot);
        self.splices.get_mut(session.lease())
    }

    /// The next hop of one direction of a session; towards the IPv4 side of NAT64, that its packets become IPv4 first; of one
    /// with tiers, the backend's.
    pub(crate) fn hop_of<A: Family>(&self, slot: Slot, direction: Direction) -> NextHopId {
        match NextHopId::new(A::table(&self.sessions).session(slot).next_hop(direction)) {
            NextHopId::SPLICED => {
                self.splice_of::<A>(slot).map_or(NextHopId::NONE, |splice| *direction.of(&splice.hops))
            }
            NextHopId::TIERED => self.journey_of::<A>(slot).map_or(NextHopId::NONE, |journey| journey.last),
            NextHopId::INSIDE => self.hop_beside::<A>(slot, direction),
            hop => hop,
        }
    }

    /// Changes the next hop of one direction of a session.
    pub(crate) fn set_hop<A: Family>(&mut self, slot: Slot, direction: Direction, hop: NextHopId) {
        if direction == Direction::Original
            && let Some(journey) = self.journey_mut::<A>(slot)
        {
            journey.last = hop;
            return;
        }
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        match NextHopId::new(session.next_hop(direction)) {
            NextHopId::SPLICED => {
                if let Some(splice) = self.splice_mut::<A>(slot) {
                    *direction.of_mut(&mut splice.hops) = hop;
                }
            }
            side if side.crosses() => {
                let mut words = session.beside();
                *direction.of_mut(&mut words) = hop.get();
                session.set_beside(words);
            }
            _ => session.set_next_hop(direction, hop.get()),
        }
    }

    /// A sequence number of a session's stream of `direction`, as whoever receives that stream counts it.
    pub(crate) fn as_received<A: Family>(&self, slot: Slot, direction: Direction, sequence: SeqNumber) -> SeqNumber {
        match (self.splice_of::<A>(slot), direction) {
            (Some(splice), Direction::Reply) => match splice.phase {
                Phase::Waiting => splice.cookie.add(1),
                Phase::Joined(_) | Phase::Through => splice.shift.as_client_counts(sequence),
            },
            _ => sequence,
        }
    }

    /// An acknowledgment of a session's stream against `direction`, as whoever receives the stream of `direction` counts it.
    pub(crate) fn as_acknowledged<A: Family>(
        &self,
        slot: Slot,
        direction: Direction,
        acknowledgment: SeqNumber,
    ) -> SeqNumber {
        match (self.splice_of::<A>(slot), direction) {
            (Some(splice), Direction::Reply) => splice.shift.acknowledged(acknowledgment).0,
            _ => acknowledgment,
        }
    }

    /// What shifts segments of a session, once both halves are joined.
    pub(crate) fn shift_of<A: Family>(&self, slot: Slot) -> Option<Shift> {
        let splice = self.splice_of::<A>(slot)?;
        (splice.phase != Phase::Waiting).then_some(splice.shift)
    }

    /// Puts a segment to the backend, in the client's name, among those that are sent this turn. False when the backend
    /// cannot be reached at once.
    fn make<A: Family>(
        &mut self,
        slot: Slot,
        numbers: (SeqNumber, SeqNumber),
        flags: TcpFlags,
        window: u16,
        options: TcpOptions,
    ) -> bool {
        self.make_for::<A>(slot, numbers, flags, window, options, None)
    }

    /// As [`make`](Self::make), of a segment that may introduce the client.
    pub(crate) fn make_for<A: Family>(
        &mut self,
        slot: Slot,
        numbers: (SeqNumber, SeqNumber),
        flags: TcpFlags,
        window: u16,
        options: TcpOptions,
        introduces: Option<Named>,
    ) -> bool {
        let hop = self.hop_of::<A>(slot, Direction::Original);
        let Some(Way::Open(port, destination_mac)) = self.next_hops.way(hop, self.tick) else { return false };
        let Some(source_mac) = self.snapshot.port(port).map(|facts| facts.mac) else { return false };
        let tuple = A::table(&self.sessions).session(slot).outgoing(Direction::Original);
        let (sequence, acknowledgment) = numbers;
        let made = Made {
            port,
            source_mac,
            destination_mac,
            endpoints: A::endpoints(&tuple),
            ports: [tuple.source_port, tuple.destination_port],
            sequence,
            acknowledgment,
            flags,
            window,
            options,
            introduces,
        };
        self.splices.made.try_push(made).is_ok()
    }

    /// Sends a backend again what it has not answered: the SYN, or who its client is.
    fn repeat<A: Family>(&mut self, slot: Slot) {
        let Some(splice) = self.splice_of::<A>(slot).copied() else { return };
        // A client that has reset the connection has nobody to be introduced.
        if A::table(&self.sessions).session(slot).state().is_over() {
            return;
        }
        if splice.phase != Phase::Waiting {
            self.introduce_again::<A>(slot, &splice);
            return;
        }
        let numbers = (splice.opener, SeqNumber::new(0));
        let _ = self.make::<A>(slot, numbers, TcpFlags::SYN, splice.syn_window(), splice.syn_options());
    }

    /// Repeats what backends have not answered, and gives up on those that do not: their clients are told.
    pub(crate) fn press_backends(&mut self) {
        for _ in 0..LOOKED_AFTER {
            if !self.splices.has_room(1) || !self.can_tell_both_ends() {
                return;
            }
            let Some((waiting, due)) = self.splices.next_due(self.tick) else { return };
            match (due, waiting.v6) {
                (Due::Nothing, _) => {}
                (Due::Repeat, false) => self.repeat::<Ipv4Addr>(waiting.slot),
                (Due::Repeat, true) => self.repeat::<Ipv6Addr>(waiting.slot),
                (Due::GiveUp, _) if !self.splices.waits(&waiting) => {}
                (Due::GiveUp, false) => self.end::<Ipv4Addr>(waiting.slot),
                (Due::GiveUp, true) => self.end::<Ipv6Addr>(waiting.slot),
            }
        }
    }
}

impl<B: Buffer> Shard<B> {
    /// Sends the segments made in this turn.
    pub(crate) fn send_made<N, P>(&mut self, exits: &mut Exits<N, P>)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        for made in self.splices.made.drain(..) {
            let buffer = exits.pool().allocate().and_then(|mut buffer| {
                let written = buffer.resize(Made::LONGEST).then(|| made.write(buffer.bytes_mut()))??;
                buffer.resize(written).then_some(buffer)
            });
            match buffer {
                Some(buffer) => exits.originate(&self.counters, made.port, buffer),
                None => self.counters.originated_lost.add(1),
            }
        }
    }

    /// Treats a packet of a session that began with a cookie, or whose backend is told of its client.
    pub(crate) fn act_spliced<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
    ) -> Acted {
        let (Transport::Tcp(tcp), Some(splice)) = (facts.transport, self.splice_of::<A>(slot).copied()) else {
            return dropped(DropReason::TcpInvalidState);
        };
        let over = A::table(&self.sessions).session(slot).state().is_over();
        if over
            && splice.phase == Phase::Waiting
            && tcp.flags.contains(TcpFlags::SYN)
            && direction == Direction::Original
        {
            return self.follow::<A>(packet, slot, direction, TcpOutcome::Reopen);
        }
        let answers = direction == Direction::Reply && tcp.flags.contains(TcpFlags::SYN | TcpFlags::ACK);
        match splice.phase {
            Phase::Waiting if answers && tcp.acknowledgment == splice.opener.add(1) => {
                self.join::<A>(packet, facts, &tcp, slot, &splice)
            }
            Phase::Waiting => self.wait_on::<A>(packet, &tcp, slot, direction, &splice),
            // The acknowledgment of the handshake was lost.
            Phase::Joined(server) if answers && tcp.sequence == server => {
                self.greet::<A>(packet, facts, &tcp, slot, &splice)
            }
            Phase::Joined(_) | Phase::Through => {
                if let Some(acted) = self.keep_to_opener::<A>(packet, &tcp, slot, direction, &splice) {
                    return acted;
                }
                if direction == Direction::Original
                    && let Some(acted) = self.introduce::<A>(packet, slot, &splice)
                {
                    return acted;
                }
                // Both may have changed by what the packet was made to say.
                let (Content::Ip(Facts { transport: Transport::Tcp(tcp), .. }), Some(splice)) =
                    (packet.frame.content, self.splice_of::<A>(slot).copied())
                else {
                    return dropped(DropReason::TcpInvalidState);
                };
                let seen = match direction {
                    Direction::Original => splice.shift.as_backend_sees(&tcp),
                    Direction::Reply => tcp,
                };
                let session = A::table_mut(&mut self.sessions).session_mut(slot);
                let outcome = tcp_state::observe(session, direction, &seen);
                if direction == Direction::Reply && !matches!(outcome, TcpOutcome::Drop(_) | TcpOutcome::Reopen) {
                    self.listen::<A>(packet, &tcp, slot, &splice);
                }
                self.follow::<A>(packet, slot, direction, outcome)
            }
        }
    }

    /// A packet while the backend has not answered.
    fn wait_on<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        tcp: &Tcp,
        slot: Slot,
        direction: Direction,
        splice: &Splice,
    ) -> Acted {
        let resets = tcp.flags.contains(TcpFlags::RST);
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        match direction {
            // The client gives up, and so does its SYN at the backend.
            Direction::Original if resets => {
                let bare = Tcp { flags: TcpFlags::RST, ..*tcp };
                let outcome = tcp_state::observe(session, direction, &bare);
                self.follow::<A>(packet, slot, direction, outcome)
            }
            Direction::Original => dropped(DropReason::AwaitsBackend),
            // The backend refuses: the client, which believes that it is connected, hears it in its own numbers.
            Direction::Reply if resets => {
                let outcome = tcp_state::observe(session, direction, tcp);
                if matches!(outcome, TcpOutcome::Drop(_)) || session.state().is_embryonic() {
                    return self.follow::<A>(packet, slot, direction, outcome);
                }
                let tuple = session.tuple(Direction::Reply);
                let refusal = Segment {
                    source_port: tuple.source_port,
                    destination_port: tuple.destination_port,
                    sequence: splice.cookie.add(1),
                    acknowledgment: splice.opener.add(1),
                    flags: TcpFlags::RST | TcpFlags::ACK,
                    window: 0,
                    options: &[],
                    payload: &[],
                };
                let Content::Ip(facts) = packet.frame.content else { return dropped(DropReason::TcpInvalidState) };
                if !self.become_segment(packet, &facts.endpoints, facts.hop_limit, &refusal) {
                    return dropped(DropReason::BuffersExhausted);
                }
                self.follow::<A>(packet, slot, direction, outcome)
            }
            Direction::Reply => {
                // It remembers an older connection of these ends: as the client would, the appliance resets that one, and
                // its SYN comes again.
                if tcp.flags.contains(TcpFlags::ACK) && tcp.acknowledgment != splice.opener.add(1) {
                    let numbers = (tcp.acknowledgment, SeqNumber::new(0));
                    let _ = self.make::<A>(slot, numbers, TcpFlags::RST, 0, TcpOptions::default());
                }
                dropped(DropReason::TcpInvalidState)
            }
        }
    }

    /// The backend has answered: both halves become one connection.
    fn join<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tcp: &Tcp,
        slot: Slot,
        splice: &Splice,
    ) -> Acted {
        if !self.splices.has_room(1) {
            // It will say so again.
            return dropped(DropReason::AwaitsBackend);
        }
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        if let TcpOutcome::Drop(fault) = tcp_state::observe(session, Direction::Reply, tcp) {
            return dropped(match fault {
                TcpFault::OutOfWindow => DropReason::TcpOutOfWindow,
                TcpFault::InvalidState => DropReason::TcpInvalidState,
            });
        }
        let options = TcpOptions::of(packet.buffer.bytes(), facts);
        let client = splice.offer.window_scale.unwrap_or(0);
        let scaled = splice.offer.window_scale.and(options.window_scale);
        let offered = if splice.offer.window_scale.is_some() { OFFERED_SCALE } else { 0 };
        let clocks = splice.clocks.zip(options.timestamps);
        let shift = Shift {
            sequence: splice.cookie.get().wrapping_sub(tcp.sequence.get()),
            timestamp: clocks.map_or(0, |([_, told], own)| told.wrapping_sub(own.value)),
            client_scale: [client, if scaled.is_some() { client } else { 0 }],
            backend_scale: [scaled.unwrap_or(0), offered],
            ..splice.shift
        };
        if let Some(splice) = self.splice_mut::<A>(slot) {
            splice.phase = Phase::Joined(tcp.sequence);
            splice.shift = shift;
        }
        if splice.clocks.is_some()
            && options.timestamps.is_none()
            && let Some(service) = self.snapshot.services.service(splice.service)
        {
            service.guard().missed_timestamps(self.now);
        }
        let Some(splice) = self.splice_of::<A>(slot).copied() else { return dropped(DropReason::TcpInvalidState) };
        // The acknowledgment the backend is about to get.
        let ack = Tcp {
            sequence: splice.opener.add(1),
            acknowledgment: tcp.sequence.add(1),
            flags: TcpFlags::ACK,
            window: shift.window(splice.window, TcpFlags::ACK, Toward::Backend),
            payload: 0,
            window_scale: None,
            ..*tcp
        };
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        let _ = tcp_state::observe(session, Direction::Original, &ack);
        self.greet::<A>(packet, facts, tcp, slot, &splice)
    }

    /// Acknowledges the backend's answer, and makes of it the window the client waits for.
    fn greet<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tcp: &Tcp,
        slot: Slot,
        splice: &Splice,
    ) -> Acted {
        let timestamps = TcpOptions::of(packet.buffer.bytes(), facts).timestamps;
        let numbers = (splice.opener.add(1), tcp.sequence.add(1));
        let window = splice.shift.window(splice.window, TcpFlags::ACK, Toward::Backend);
        let echo = splice.clocks.zip(timestamps).map(|([value, _], own)| Timestamps { value, echo: own.value });
        let options = TcpOptions { timestamps: echo, ..TcpOptions::default() };
        if !self.introduce_first::<A>(slot, numbers.1, window, echo) {
            let _ = self.make::<A>(slot, numbers, TcpFlags::ACK, window, options);
        }
        let mut bytes = [0; OPTIONS_MAX];
        let len = TcpOptions { timestamps, ..TcpOptions::default() }.write(&mut bytes);
        let [scale, _] = splice.shift.backend_scale;
        let update = Segment {
            source_port: tcp.source_port,
            destination_port: tcp.destination_port,
            sequence: tcp.sequence.add(1),
            acknowledgment: splice.opener.add(1),
            flags: TcpFlags::ACK,
            window: tcp.window >> scale.min(14),
            options: bytes.get(..len).unwrap_or_default(),
            payload: &[],
        };
        if !self.become_segment(packet, &facts.endpoints, facts.hop_limit, &update) {
            return dropped(DropReason::BuffersExhausted);
        }
        self.follow::<A>(packet, slot, Direction::Reply, TcpOutcome::PassAndRetime)
    }
}
