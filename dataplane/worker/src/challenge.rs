//! SYN cookies at the door of a service: a SYN is answered here, out of a hash, and the ACK that brings the cookie back opens
//! the session, with a SYN to the backend in the client's name. Until then nothing is kept and no backend hears of it.
//!
//! The window of the answer is 0, so that the client says nothing before its backend has answered. The firewall is asked
//! twice: at the SYN for its word alone, at the ACK with limits and counters, which a forged source can thus not use up.

use frame::Buffer;
use session::{Kind, Tuple};
use stage::balancer::SegmentClamp;
use stage::firewall::Action;
use stage::heavy_hitters::Outcome;
use stage::syn_cookie::{CookieMode, Handshake, Offer, stamp};
use stage::{DropReason, balancer};
use units::{RuleId, ServiceId};
use wire::emit::{self, Segment};
use wire::tcp_options::{OPTIONS_MAX, Timestamps};
use wire::{Content, Endpoints, Facts, SeqNumber, Tcp, TcpFlags, TcpOptions, Transport};

use crate::command::Event;
use crate::family::Family;
use crate::flow::Flow;
use crate::next_hop::Way;
use crate::open::{Applicant, Bound};
use crate::packet::{Answer, Packet, Verdict};
use crate::shard::Shard;
use crate::splice::Splice;

/// The window scale the client is told for the backend's windows: Linux's own choice, which allows 8 MiB.
pub(crate) const OFFERED_SCALE: u8 = 7;

/// Segment sizes a client is assumed to take when it does not say (RFC 9293 section 3.7.1).
const SIZE_V4: u16 = 536;
const SIZE_V6: u16 = 1_220;

/// A cookie that was brought back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    service: ServiceId,
    offer: Offer,
    clocks: Option<[u32; 2]>,
}

const fn handshake(facts: &Facts, tcp: &Tcp, sequence: SeqNumber) -> Handshake {
    Handshake {
        endpoints: facts.endpoints,
        source_port: tcp.source_port,
        destination_port: tcp.destination_port,
        sequence,
    }
}

impl<B: Buffer> Shard<B> {
    /// Puts `segment` in the place of a packet, behind the link layer it has; what the packet carried is gone, in all its
    /// fragments. False when the buffer is too small.
    pub(crate) fn become_segment(
        &mut self,
        packet: &mut Packet<B>,
        endpoints: &Endpoints,
        hop_limit: u8,
        segment: &Segment<'_>,
    ) -> bool {
        self.leave_rest(packet);
        let network = usize::from(packet.frame.link.payload);
        let len = emit::tcp_segment_len(network, endpoints.is_v6(), segment.options.len() + segment.payload.len());
        if !packet.buffer.resize(len)
            || emit::tcp_segment(packet.buffer.bytes_mut(), network, endpoints, hop_limit, segment).is_none()
        {
            return false;
        }
        packet.read_again()
    }

    /// Answers a SYN with a cookie where its service asks for proof; `None` where it goes the ordinary way.
    pub(crate) fn challenge(&mut self, packet: &mut Packet<B>, applicant: &Applicant) -> Option<Verdict> {
        let Bound::Service(id) = applicant.bound else { return None };
        let snapshot = std::sync::Arc::clone(&self.snapshot);
        let service = snapshot.services.service(id)?;
        let mode = service.spec().syn_cookies;
        if mode == CookieMode::Off || applicant.proof.is_some() {
            return None;
        }
        let Content::Ip(facts) = packet.frame.content else { return None };
        let Transport::Tcp(tcp) = facts.transport else { return None };
        if !tcp.flags.contains(TcpFlags::SYN) || tcp.flags.contains(TcpFlags::ACK) {
            return None;
        }
        let pressed = service.guard().press(mode, self.now);
        if pressed.turned {
            self.tell_turn(id, service, true);
        }
        let serves = || service.members().iter().any(balancer::Member::selectable);
        if !pressed.proof || self.rejudged(&applicant.candidate).action != Action::Allow || !serves() {
            return None;
        }
        let verdict = if self.answer_syn(packet, &facts, &tcp, service) {
            service.guard().asked(self.now);
            self.note(Outcome::Challenged, applicant.candidate.tenant, &facts.endpoints);
            self.answered(packet, facts.endpoints.source())
        } else {
            Verdict::Drop(DropReason::BuffersExhausted)
        };
        Some(verdict)
    }

    fn answer_syn(&mut self, packet: &mut Packet<B>, facts: &Facts, tcp: &Tcp, service: &balancer::Service) -> bool {
        let v6 = facts.endpoints.is_v6();
        let offered = TcpOptions::of(packet.buffer.bytes(), facts);
        let offer = Offer {
            segment_size: offered.segment_size.unwrap_or(if v6 { SIZE_V6 } else { SIZE_V4 }),
            window_scale: offered.window_scale,
            sack_permitted: offered.sack_permitted,
        };
        let guard = service.guard();
        let cookie = guard.key().seal(&handshake(facts, tcp, tcp.sequence), &offer, self.now);
        let headers = if v6 { 60 } else { 40 };
        let mtu = self.snapshot.port(packet.port).map_or(0, |port| port.mtu);
        // What the real SYN-ACK would be lowered to: the client never sees that one.
        let (mtu, most) = match service.spec().mss_clamp {
            None => (mtu, u16::MAX),
            Some(SegmentClamp::ToPath) => (mtu.min(self.snapshot.mtu_behind(service.id())), u16::MAX),
            Some(SegmentClamp::To(size)) => (mtu, size),
        };
        let timestamps = offered
            .timestamps
            .filter(|_| guard.offers_timestamps(self.now))
            .map(|theirs| Timestamps { value: stamp(offered.window_scale, self.now), echo: theirs.value });
        // What names the client needs room as well.
        let longer = service.spec().introduction.map_or(0, |how| how.longer(v6));
        let room = mtu.saturating_sub(headers).max(SIZE_V4).min(most).saturating_sub(longer);
        let options = TcpOptions {
            segment_size: Some(room),
            window_scale: offered.window_scale.map(|_| OFFERED_SCALE),
            sack_permitted: offered.sack_permitted,
            timestamps,
        };
        let mut bytes = [0; OPTIONS_MAX];
        let len = options.write(&mut bytes);
        let link = packet.frame.link;
        let segment = Segment {
            source_port: tcp.destination_port,
            destination_port: tcp.source_port,
            sequence: cookie,
            acknowledgment: tcp.sequence.add(1),
            flags: TcpFlags::SYN | TcpFlags::ACK,
            window: 0,
            options: bytes.get(..len).unwrap_or_default(),
            payload: &[],
        };
        if link.source.is_multicast()
            || !self.become_segment(packet, &facts.endpoints.reversed(), emit::HOP_LIMIT, &segment)
        {
            return false;
        }
        crate::act::set_macs(packet.buffer.bytes_mut(), link.source, link.destination);
        true
    }

    /// The cookie a segment of no session brings back, if it does.
    pub(crate) fn proof(&self, packet: &Packet<B>, facts: &Facts, tcp: &Tcp, bound: Bound) -> Option<Proof> {
        let Bound::Service(id) = bound else { return None };
        let service = self.snapshot.services.service(id)?;
        if !tcp.flags.contains(TcpFlags::ACK)
            || tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST | TcpFlags::FIN)
            || !service.guard().expects(self.now)
        {
            return None;
        }
        let opener = SeqNumber::new(tcp.sequence.get().wrapping_sub(1));
        let cookie = SeqNumber::new(tcp.acknowledgment.get().wrapping_sub(1));
        let offer = service.guard().key().open(&handshake(facts, tcp, opener), cookie, self.now)?;
        let timestamps = TcpOptions::of(packet.buffer.bytes(), facts).timestamps;
        let clocks = timestamps.map(|Timestamps { value, echo }| [value, echo]);
        Some(Proof { service: id, offer: offer.refined(clocks.map(|[_, echo]| echo)), clocks })
    }

    /// Opens the session of a client that has proven itself: its ACK becomes a SYN to a backend.
    pub(crate) fn open_proven(
        &mut self,
        packet: &mut Packet<B>,
        applicant: &Applicant,
        proof: &Proof,
        rule: Option<RuleId>,
    ) -> Verdict {
        let Content::Ip(facts) = packet.frame.content else { return Verdict::Drop(DropReason::NoSession) };
        match Flow::of(&facts) {
            Some(Flow::V4(kind, tuple)) => self.open_for(packet, &facts, kind, tuple, applicant, proof, rule),
            Some(Flow::V6(kind, tuple)) => self.open_for(packet, &facts, kind, tuple, applicant, proof, rule),
            None => Verdict::Drop(DropReason::NoSession),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what the two families share of one step")]
    fn open_for<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        kind: Kind,
        tuple: Tuple<A>,
        applicant: &Applicant,
        proof: &Proof,
        rule: Option<RuleId>,
    ) -> Verdict {
        let Transport::Tcp(ack) = facts.transport else { return Verdict::Drop(DropReason::NoSession) };
        let table = A::table(&self.sessions);
        if table.contains(kind, &tuple) {
            // An earlier packet of this burst has opened it: what this one says will be said again.
            return Verdict::Drop(DropReason::AwaitsBackend);
        }
        let opener = SeqNumber::new(ack.sequence.get().wrapping_sub(1));
        let cookie = SeqNumber::new(ack.acknowledgment.get().wrapping_sub(1));
        let mut splice = Splice::new(proof.service, opener, cookie, proof.offer);
        splice.clocks = proof.clocks;
        splice.window = ack.window;
        let mut options = [0; OPTIONS_MAX];
        let len = splice.syn_options().write(&mut options);
        let syn = Segment {
            source_port: ack.source_port,
            destination_port: ack.destination_port,
            sequence: opener,
            acknowledgment: SeqNumber::new(0),
            flags: TcpFlags::SYN,
            window: splice.syn_window(),
            options: options.get(..len).unwrap_or_default(),
            payload: &[],
        };
        if !self.become_segment(packet, &facts.endpoints, facts.hop_limit, &syn) {
            return Verdict::Drop(DropReason::BuffersExhausted);
        }
        let Content::Ip(opening) = packet.frame.content else { return Verdict::Drop(DropReason::NoSession) };
        let opened = self.open(packet, &opening, kind, tuple, applicant, rule);
        let table = A::table(&self.sessions);
        let slot = table.lookup(table.hash(kind, &tuple), kind, &tuple).map(|(slot, _)| slot);
        match (opened, slot) {
            (Ok(verdict), Some(slot)) => {
                self.begin_splice::<A>(slot, splice);
                verdict
            }
            (Ok(verdict), None) => verdict,
            (Err(reason), _) => {
                // The client believes that it is connected: it is told otherwise, in answer to what it sent.
                let segment = Segment {
                    sequence: ack.sequence,
                    acknowledgment: ack.acknowledgment,
                    flags: TcpFlags::ACK,
                    options: &[],
                    ..syn
                };
                if self.become_segment(packet, &facts.endpoints, facts.hop_limit, &segment) {
                    Verdict::Refuse(reason, Answer::Reset)
                } else {
                    Verdict::Drop(reason)
                }
            }
        }
    }

    /// Ties a session that was just opened to what is known of its client.
    fn begin_splice<A: Family>(&mut self, slot: session::Slot, mut splice: Splice) {
        let session = A::table(&self.sessions).session(slot);
        if let Some(service) = self.snapshot.services.service(splice.service) {
            service.guard().answered();
        }
        let v6 = A::endpoints(&session.tuple(session::Direction::Original)).is_v6();
        self.prepare_introduction(&mut splice, v6);
        if self.attach_splice::<A>(slot, splice).is_none() {
            // There are as many entries as sessions.
            return;
        }
        self.press::<A>(slot);
        // The client was answered the way its SYN came; from now on it is sent to like anybody else.
        let back = self.hop_of::<A>(slot, session::Direction::Reply);
        if let Some(Way::Wait { ask: Some((port, address)) }) = self.next_hops.way(back, self.tick) {
            self.tell(Event::Resolve { port, address });
        }
    }
}

impl<B> Shard<B> {
    /// Looks after connections whose backends do not answer, and once a tick whether floods are over.
    pub(crate) fn watch_handshakes(&mut self) {
        self.press_backends();
        if self.relaxed < self.tick {
            self.relaxed = self.tick;
            self.relax_guards();
        }
    }

    /// Whether a service has room for one more handshake that nobody has proven.
    pub(crate) fn may_begin_handshake(&self, id: ServiceId, kind: Kind) -> bool {
        let Some(service) = self.snapshot.services.service(id) else { return true };
        let room = |limit| service.guard().counts().half_open < limit;
        kind != Kind::Tcp || service.spec().half_open_limit.is_none_or(room)
    }

    /// Turns cookies off where the flood is over.
    fn relax_guards(&self) {
        let snapshot = std::sync::Arc::clone(&self.snapshot);
        for service in snapshot.services.iter() {
            let mode = service.spec().syn_cookies;
            if service.guard().relax(mode, self.now) {
                self.tell_turn(service.id(), service, false);
            }
        }
    }

    fn tell_turn(&self, id: ServiceId, service: &balancer::Service, engaged: bool) {
        let half_open = service.guard().counts().half_open;
        let generation = self.snapshot.generation;
        self.tell(Event::SynCookies { generation, service: id, engaged, half_open });
    }
}
