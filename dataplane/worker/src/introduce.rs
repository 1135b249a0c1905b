//! Backends are told of their clients ([`Introduction`]), where their service says so, when the handshake is complete and before
//! the client's first byte.
//!
//! ```text
//! PROXY protocol   client: SYN, SYN-ACK, ACK        backend: SYN, SYN-ACK, header, data ...
//! TCP option       client: SYN, SYN-ACK, ACK ...    backend: SYN, SYN-ACK, ACK + option ... until it has said something
//! ```
//!
//! The header is a segment of the appliance's: the client's ACK becomes it, so that a client which waits to be spoken to hears
//! something; until the backend has acknowledged it, it is sent again with whatever the client sends, once a tick at most, and by
//! the clock ([`splice`](crate::splice)). It takes sequence numbers, so the client's stream is counted that much further on the
//! backend's side for good ([`Shift`](stage::translate::Shift)), and the client is told of that much less room until it is heard.
//! Data in a SYN would come before it: such a SYN is dropped, and the client sends one without.
//!
//! The option takes room in the header alone: where there is none, or the segment would not fit the link, it is left out. Once the
//! backend has said anything after the handshake the session is one like all others, and takes their way.

use frame::Buffer;
use session::{Direction, Slot, State, TcpOutcome, tcp_state};
use stage::DropReason;
use stage::introduction::{HEADER_MAX, Introduction, insert_option, option_len, proxy_header};
use stage::syn_cookie::Offer;
use units::ServiceId;
use wire::emit::Segment;
use wire::tcp_options::{OPTIONS_MAX, Timestamps};
use wire::{Content, Endpoints, Facts, SeqNumber, Tcp, TcpFlags, TcpOptions, Transport};

use crate::act::Acted;
use crate::family::Family;
use crate::next_hop::NextHopId;
use crate::packet::{Packet, Verdict};
use crate::shard::Shard;
use crate::splice::{Introducing, Phase, Splice};

impl<B> Shard<B> {
    /// How the backends of a service are told of their clients.
    fn introduction_of(&self, service: ServiceId) -> Option<Introduction> {
        self.snapshot.services.service(service)?.spec().introduction
    }

    /// Whether this is a SYN whose data would reach the backend before its client's introduction.
    pub(crate) fn speaks_too_early(&self, service: ServiceId, facts: &Facts) -> bool {
        let Transport::Tcp(tcp) = facts.transport else { return false };
        tcp.flags.contains(TcpFlags::SYN)
            && tcp.payload > 0
            && self.introduction_of(service) == Some(Introduction::ProxyV2)
    }

    /// What a connection of this service that begins with `opener` is told by, if anything: put into its splice.
    pub(crate) fn prepare_introduction(&self, splice: &mut Splice, v6: bool) {
        let Some(how) = self.introduction_of(splice.service) else { return };
        splice.introducing = Some(Introducing::new(how));
        splice.shift.ahead = how.ahead(v6);
        splice.shift.unheard = Some(splice.opener.add(1)).filter(|_| splice.shift.ahead > 0);
    }

    /// The client's and the service's ends of a session, as the client knows them.
    fn asked_ends<A: Family>(&self, slot: Slot) -> (Endpoints, [u16; 2]) {
        let asked = A::table(&self.sessions).session(slot).tuple(Direction::Original);
        (A::endpoints(&asked), [asked.source_port, asked.destination_port])
    }
}

impl<B: Buffer> Shard<B> {
    /// Begins to keep what the introduction of a session's client needs; false when there is no room. The packet is its SYN.
    pub(crate) fn begin_introduction<A: Family>(
        &mut self,
        packet: &Packet<B>,
        facts: &Facts,
        slot: Slot,
        service: ServiceId,
    ) -> bool {
        let Transport::Tcp(tcp) = facts.transport else { return true };
        // A connection taken up in its middle has been introduced, or cannot be any more.
        if self.introduction_of(service).is_none() || !tcp.flags.contains(TcpFlags::SYN) {
            return true;
        }
        let options = TcpOptions::of(packet.buffer.bytes(), facts);
        let offer = Offer {
            segment_size: options.segment_size.unwrap_or(0),
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
        };
        let mut splice = Splice::new(service, tcp.sequence, SeqNumber::new(0), offer);
        splice.phase = Phase::Through;
        self.prepare_introduction(&mut splice, facts.endpoints.is_v6());
        self.attach_splice::<A>(slot, splice).is_some()
    }

    /// Introduces a client as it says something, where that is still to be done; what becomes of its packet if that is decided.
    pub(crate) fn introduce<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        splice: &Splice,
    ) -> Option<Acted> {
        let introducing = splice.introducing.filter(|it| !it.heard)?;
        let Content::Ip(facts) = packet.frame.content else { return None };
        let Transport::Tcp(tcp) = facts.transport else { return None };
        if !completes(&tcp) || self.is_unanswered::<A>(slot) {
            return None;
        }
        match introducing.how {
            Introduction::ProxyV2 => {
                let due = introducing.told.is_none_or(|told| told < self.tick);
                due.then(|| self.send_header::<A>(packet, &facts, &tcp, slot, splice)).flatten()
            }
            Introduction::TcpOption => {
                self.add_option::<A>(packet, &facts, slot);
                None
            }
        }
    }

    fn is_unanswered<A: Family>(&self, slot: Slot) -> bool {
        matches!(A::table(&self.sessions).session(slot).state(), State::SynSent | State::SynCrossed)
    }

    /// Takes in what a backend says that has to be told: its scale, and whether it has heard. Its session has believed it.
    pub(crate) fn listen<A: Family>(&mut self, packet: &Packet<B>, tcp: &Tcp, slot: Slot, splice: &Splice) {
        let Content::Ip(facts) = &packet.frame.content else { return };
        if splice.introducing.is_none_or(|it| it.heard) {
            return;
        }
        let Some(kept) = self.splice_mut::<A>(slot) else { return };
        if tcp.flags.contains(TcpFlags::SYN) {
            if splice.phase == Phase::Through {
                let scale = TcpOptions::of(packet.buffer.bytes(), facts).window_scale;
                let scale = scale.filter(|_| splice.offer.window_scale.is_some()).unwrap_or(0);
                kept.shift.backend_scale = [scale; 2];
                if let Some(introducing) = &mut kept.introducing {
                    introducing.acknowledgment = tcp.sequence.add(1);
                }
            }
            return;
        }
        let heard = match splice.shift.unheard {
            None => true,
            Some(first) => {
                let acknowledged = tcp.acknowledgment.get().wrapping_sub(first.get());
                tcp.flags.contains(TcpFlags::ACK)
                    && (u32::from(splice.shift.ahead)..u32::MAX / 2).contains(&acknowledged)
            }
        };
        if !heard {
            return;
        }
        kept.shift.unheard = None;
        if let Some(introducing) = &mut kept.introducing {
            introducing.heard = true;
        }
        if splice.phase == Phase::Through && splice.shift.ahead == 0 {
            self.detach_splice::<A>(slot);
        }
    }

    /// Sends the header: in place of the client's packet where that says nothing, else before it.
    fn send_header<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tcp: &Tcp,
        slot: Slot,
        splice: &Splice,
    ) -> Option<Acted> {
        let (first, ahead) = (splice.opener.add(1), splice.shift.ahead);
        let seen = splice.shift.as_backend_sees(tcp);
        let introducing = splice.introducing?;
        if introducing.told.is_none() && seen.acknowledgment != introducing.acknowledgment {
            // It completes another handshake, or none.
            return Some(Acted::Verdict(Verdict::Drop(DropReason::TcpOutOfWindow)));
        }
        let said = TcpOptions::of(packet.buffer.bytes(), facts).timestamps;
        let timestamps = said
            .map(|Timestamps { value, echo }| Timestamps { value, echo: echo.wrapping_sub(splice.shift.timestamp) });
        let header = Tcp { sequence: first, payload: ahead, flags: TELLS, window_scale: None, ..seen };
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        let outcome = tcp_state::observe(session, Direction::Original, &header);
        if matches!(outcome, TcpOutcome::Drop(_) | TcpOutcome::Reopen) {
            // The packet is judged by itself.
            return None;
        }
        self.told::<A>(slot, seen.acknowledgment, seen.window, timestamps);
        let (asked, ports) = self.asked_ends::<A>(slot);
        if tcp.payload == 0 && !tcp.flags.contains(TcpFlags::FIN) {
            let (mut options, mut bytes) = ([0; OPTIONS_MAX], [0; HEADER_MAX]);
            let options_len = TcpOptions { timestamps: said, ..TcpOptions::default() }.write(&mut options);
            let len = proxy_header(&mut bytes, &asked, ports);
            // In the client's numbers, which are changed on the way like those of any segment of its own.
            let segment = Segment {
                source_port: tcp.source_port,
                destination_port: tcp.destination_port,
                sequence: first.add(u32::from(ahead).wrapping_neg()),
                acknowledgment: tcp.acknowledgment,
                flags: TELLS,
                window: tcp.window,
                options: options.get(..options_len)?,
                payload: bytes.get(..len)?,
            };
            if !self.become_segment(packet, &facts.endpoints, facts.hop_limit, &segment) {
                return Some(Acted::Verdict(Verdict::Drop(DropReason::BuffersExhausted)));
            }
            return Some(self.follow::<A>(packet, slot, Direction::Original, outcome));
        }
        if outcome == TcpOutcome::PassAndRetime {
            let _ = self.retime::<A>(slot);
        }
        let numbers = (first, seen.acknowledgment);
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        let _ = self.make_for::<A>(slot, numbers, TELLS, seen.window, options, Some((asked, ports)));
        None
    }

    /// Introduces the client as the handshake with a backend is completed in its name; false where that is not asked for.
    pub(crate) fn introduce_first<A: Family>(
        &mut self,
        slot: Slot,
        acknowledgment: SeqNumber,
        window: u16,
        timestamps: Option<Timestamps>,
    ) -> bool {
        let Some(splice) = self.splice_of::<A>(slot).copied() else { return false };
        if !splice.introducing.is_some_and(|it| it.how == Introduction::ProxyV2 && !it.heard) {
            return false;
        }
        let header = Tcp {
            source_port: 0,
            destination_port: 0,
            sequence: splice.opener.add(1),
            acknowledgment,
            window,
            flags: TELLS,
            payload: splice.shift.ahead,
            window_scale: None,
        };
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        let _ = tcp_state::observe(session, Direction::Original, &header);
        self.told::<A>(slot, acknowledgment, window, timestamps);
        let Some(splice) = self.splice_of::<A>(slot).copied() else { return false };
        self.introduce_again::<A>(slot, &splice)
    }

    /// Remembers that the backend is told, and with which words. From the first time on the clock repeats it.
    fn told<A: Family>(&mut self, slot: Slot, acknowledgment: SeqNumber, window: u16, timestamps: Option<Timestamps>) {
        let now = self.tick;
        let Some(splice) = self.splice_mut::<A>(slot) else { return };
        let Some(introducing) = &mut splice.introducing else { return };
        let first_time = introducing.told.is_none();
        *introducing = Introducing { told: Some(now), acknowledgment, window, timestamps, ..*introducing };
        if first_time {
            self.press::<A>(slot);
        }
    }

    /// Adds the option that names the client, where it fits.
    fn add_option<A: Family>(&mut self, packet: &mut Packet<B>, facts: &Facts, slot: Slot) {
        let (asked, [port, _]) = self.asked_ends::<A>(slot);
        let client = asked.source();
        let len = option_len(client);
        let hop = self.hop_of::<A>(slot, Direction::Original);
        let mtu = self.next_hops.port(hop).map_or(0, |port| self.mtu(port));
        let grown = usize::from(facts.end.saturating_sub(facts.network)) + len;
        if packet.rest.is_some() || grown > usize::from(mtu) || !packet.buffer.resize(usize::from(facts.end)) {
            return;
        }
        let Some(bytes) = packet.buffer.prepend(len) else { return };
        if !insert_option(bytes, facts, (client, port)) {
            packet.buffer.trim_front(len);
            return;
        }
        let end = facts.end.saturating_add(u16::try_from(len).unwrap_or(0));
        packet.frame.content = Content::Ip(Facts { end, ..*facts });
    }
}

impl<B> Shard<B> {
    /// Sends the header again, or for the first time without a packet of the client's.
    pub(crate) fn introduce_again<A: Family>(&mut self, slot: Slot, splice: &Splice) -> bool {
        let Some(introducing) = splice.introducing else { return false };
        let numbers = (splice.opener.add(1), introducing.acknowledgment);
        let options = TcpOptions { timestamps: introducing.timestamps, ..TcpOptions::default() };
        let asked = self.asked_ends::<A>(slot);
        self.make_for::<A>(slot, numbers, TELLS, introducing.window, options, Some(asked))
    }

    /// Ends what is kept beside a session that is one like all others from now on.
    fn detach_splice<A: Family>(&mut self, slot: Slot) {
        let entry = A::table(&self.sessions).session(slot).lease();
        let (hops, lease) = self.splices.release(entry);
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        for (way, hop) in Direction::BOTH.into_iter().zip(hops) {
            session.set_next_hop(way, NextHopId::get(hop));
        }
        session.set_lease(lease);
    }
}

/// The flags of the segment that carries a header.
const TELLS: TcpFlags = TcpFlags::new(TcpFlags::ACK.bits() | TcpFlags::PSH.bits());

/// Whether a client's segment can be one after the handshake.
fn completes(tcp: &Tcp) -> bool {
    tcp.flags.contains(TcpFlags::ACK) && !tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST)
}
