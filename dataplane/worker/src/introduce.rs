//! Backends are told of their clients ([`Introduction`]), where their service says so, when the handshake is complete and before
//! the client's first byte.
//!
//! ```text
//! PROXY protocol   client: SYN, SYN-ACK, ACK        backend: SYN, SYN-ACK, header, data ...
//! TCP option       client: SYN, SYN-ACK, ACK ...    backend: SYN, SYN-ACK, option + ACK ... until it has taken something
//! ```
//!
//! Backends believe what they are told, so it is the appliance's word alone: until the backend has heard, nothing of the client's
//! goes ahead of it on the wire, and nothing ever gets into its place ([`opener`](crate::opener)).
//!
//! The header goes in front of what the client sends first, in one segment; where there is no room for both it goes alone, and the
//! client says the rest again. A client that waits to be spoken to thus hears something. Until the backend has acknowledged it, it is
//! sent again with what the client sends, once a tick at most, and by the clock ([`splice`](crate::splice)). It takes
//! sequence numbers, so the client's stream is counted that much further on the backend's side for good
//! ([`Lead`](stage::translate::Lead)), and the client is told of that much less room until it is heard.
//!
//! The option stands before all others, in every segment until the backend has taken one; what the client says in an option of that
//! number is erased for as long as the connection lives. A segment without room for it (in fragments, too long for the link, full
//! of other options) goes as an acknowledgment alone at first; once the backend was told in an earlier tick it goes as it is, and an
//! acknowledgment with the option beside it: a client that has no other segments is not kept out.
//!
//! Data in a SYN would come before either: such a SYN is dropped, and the client sends one without.

use frame::Buffer;
use session::{Direction, Pickup, Slot, State, tcp_state};
use stage::DropReason;
use stage::introduction::{
    HEADER_MAX, Introduction, OPTION_MAX, erase_options, insert_header, insert_option, option, proxy_header,
};
use stage::syn_cookie::Offer;
use stage::translate::{Lead, Progress, clamp_segment_size};
use units::ServiceId;
use wire::emit::Segment;
use wire::tcp_options::{OPTIONS_MAX, Timestamps};
use wire::{Content, Facts, SeqNumber, Tcp, TcpFlags, TcpOptions, Transport};

use crate::act::Acted;
use crate::family::Family;
use crate::made::Named;
use crate::open::Bound;
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
        tcp.flags.contains(TcpFlags::SYN) && tcp.payload > 0 && self.introduction_of(service).is_some()
    }

    /// Whether a connection to there may be joined in its middle: never where its backend is told of its client, which it has been by
    /// then, or cannot be any more.
    pub(crate) fn pickup(&self, bound: Bound) -> Pickup {
        match bound {
            Bound::Service(service) if self.introduction_of(service).is_some() => Pickup::Strict,
            _ => self.snapshot.midstream.pickup(),
        }
    }

    /// What a connection of this service that begins with `opener` is told by, if anything: put into its splice.
    pub(crate) fn prepare_introduction(&self, splice: &mut Splice, v6: bool) {
        let Some(how) = self.introduction_of(splice.service) else { return };
        splice.introducing = Some(Introducing::new(how));
        splice.shift.lead = Some(Lead::of(splice.opener, how, v6));
    }

    /// How the client of a session is named to its backend: by its own and the service's ends, as it knows them.
    fn named<A: Family>(&self, slot: Slot, how: Introduction) -> Named {
        let asked = A::table(&self.sessions).session(slot).tuple(Direction::Original);
        Named { how, asked: A::endpoints(&asked), ports: [asked.source_port, asked.destination_port] }
    }

    fn is_unanswered<A: Family>(&self, slot: Slot) -> bool {
        matches!(A::table(&self.sessions).session(slot).state(), State::SynSent | State::SynCrossed)
    }

    /// Remembers that the backend is told, and with which words. From the first time on the clock repeats a header.
    fn told<A: Family>(&mut self, slot: Slot, acknowledgment: SeqNumber, window: u16, timestamps: Option<Timestamps>) {
        let now = self.tick;
        let Some(splice) = self.splice_mut::<A>(slot) else { return };
        let (Some(introducing), Some(lead)) = (&mut splice.introducing, &mut splice.shift.lead) else { return };
        let told = match introducing.how {
            Introduction::ProxyV2 => now,
            Introduction::TcpOption => introducing.told.unwrap_or(now),
        };
        *introducing = Introducing { told: Some(told), acknowledgment, window, timestamps, ..*introducing };
        if lead.progress == Progress::Untold {
            lead.progress = Progress::Told(0);
            let repeats = lead.len > 0;
            splice.look_anew();
            if repeats {
                self.press::<A>(slot);
            }
        }
    }

    /// Tells the backend again, or for the first time, without a packet of the client's.
    pub(crate) fn introduce_again<A: Family>(&mut self, slot: Slot, splice: &Splice) {
        let Some(introducing) = splice.introducing else { return };
        let numbers = (splice.opener.add(1), introducing.acknowledgment);
        let options = TcpOptions { timestamps: introducing.timestamps, ..TcpOptions::default() };
        let named = self.named::<A>(slot, introducing.how);
        let flags = if introducing.how == Introduction::ProxyV2 { TELLS } else { TcpFlags::ACK };
        let _ = self.make_for::<A>(slot, numbers, flags, introducing.window, options, Some(named));
    }
}

impl<B: Buffer> Shard<B> {
    /// Begins to keep what the introduction of a session's client needs; false when there is no room. The packet is its SYN.
    pub(crate) fn begin_introduction<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        service: ServiceId,
    ) -> bool {
        let Transport::Tcp(tcp) = facts.transport else { return true };
        let Some(how) = self.introduction_of(service) else { return true };
        let options = TcpOptions::of(packet.buffer.bytes(), facts);
        let offer = Offer {
            segment_size: options.segment_size.unwrap_or(0),
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
        };
        if how == Introduction::TcpOption {
            erase_options(packet.buffer.bytes_mut(), facts);
        }
        let mut splice = Splice::new(service, tcp.sequence, SeqNumber::new(0), offer);
        splice.phase = Phase::Through;
        self.prepare_introduction(&mut splice, facts.endpoints.is_v6());
        self.attach_splice::<A>(slot, splice).is_some()
    }

    /// Introduces a client as it says something, where that is still to be done: its packet is changed for it, or decided on.
    pub(crate) fn introduce<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        splice: &Splice,
    ) -> Option<Acted> {
        let (introducing, lead) = (splice.introducing?, splice.shift.lead?);
        let Content::Ip(facts) = packet.frame.content else { return None };
        let Transport::Tcp(tcp) = facts.transport else { return None };
        if introducing.how == Introduction::TcpOption {
            erase_options(packet.buffer.bytes_mut(), &facts);
        }
        if !completes(&tcp) || self.is_unanswered::<A>(slot) {
            return None;
        }
        match introducing.how {
            Introduction::ProxyV2 => {
                let due = !lead.is_heard() && introducing.told.is_none_or(|told| told < self.tick);
                due.then(|| self.send_header::<A>(packet, &facts, &tcp, slot, splice)).flatten()
            }
            // A backend that has forgotten its connection may take the first segment for a beginning.
            Introduction::TcpOption if lead.is_heard() && tcp.sequence != lead.first => None,
            Introduction::TcpOption => self.send_option::<A>(packet, &facts, &tcp, slot, splice),
        }
    }

    /// Takes in what a backend says that has to be told: its scale, and whether it has heard. Its session has believed it.
    pub(crate) fn listen<A: Family>(&mut self, packet: &mut Packet<B>, tcp: &Tcp, slot: Slot, splice: &Splice) {
        let (Content::Ip(facts), Some(introducing), Some(mut lead)) =
            (&packet.frame.content, splice.introducing, splice.shift.lead)
        else {
            return;
        };
        if tcp.flags.contains(TcpFlags::SYN) {
            let options = TcpOptions::of(packet.buffer.bytes(), facts);
            // Room for what its segments grow by.
            let most = options.segment_size.unwrap_or(0).saturating_sub(lead.longer);
            clamp_segment_size(packet.buffer.bytes_mut(), facts, most);
            let answers =
                splice.phase == Phase::Through && lead.progress == Progress::Untold && tcp.acknowledgment == lead.first;
            if answers && let Some(kept) = self.splice_mut::<A>(slot) {
                let scale = options.window_scale.filter(|_| splice.offer.window_scale.is_some()).unwrap_or(0);
                kept.shift.backend_scale = [scale; 2];
                kept.introducing = Some(Introducing { acknowledgment: tcp.sequence.add(1), ..introducing });
            }
            return;
        }
        if !tcp.flags.contains(TcpFlags::ACK) || tcp.flags.contains(TcpFlags::RST) {
            return;
        }
        let floor = match introducing.how {
            Introduction::ProxyV2 => {
                let heard = lead.confirm(tcp.acknowledgment);
                if heard { splice.floor_at(tcp.acknowledgment, &lead) } else { splice.floor }
            }
            Introduction::TcpOption => {
                // It may refuse a segment with the number it expects: it has taken one when it says more than that.
                let said = tcp.payload > 0 || tcp.flags.contains(TcpFlags::FIN);
                if lead.progress != Progress::Untold && (said || tcp.acknowledgment.after(lead.first)) {
                    lead.progress = Progress::Heard;
                }
                splice.floor
            }
        };
        if let Some(kept) = self.splice_mut::<A>(slot) {
            (kept.shift.lead, kept.floor) = (Some(lead), floor);
        }
    }

    /// Sends the header: in front of what the client's packet says, in its place, or behind it where the backend was told before.
    fn send_header<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tcp: &Tcp,
        slot: Slot,
        splice: &Splice,
    ) -> Option<Acted> {
        let (introducing, lead) = (splice.introducing?, splice.shift.lead?);
        let untold = introducing.told.is_none();
        let seen = splice.shift.as_backend_sees(tcp);
        if untold && seen.acknowledgment != introducing.acknowledgment {
            // It completes another handshake, or none.
            return Some(Acted::Verdict(Verdict::Drop(DropReason::TcpOutOfWindow)));
        }
        let said = TcpOptions::of(packet.buffer.bytes(), facts).timestamps;
        let timestamps = splice.as_backend_reads(said);
        let Named { asked, ports, .. } = self.named::<A>(slot, introducing.how);
        let mut bytes = [0; HEADER_MAX];
        let len = proxy_header(&mut bytes, &asked, ports);
        let header = bytes.get(..len)?;
        let first = tcp.sequence == lead.first && !tcp.flags.contains(TcpFlags::URG);
        if first && self.grow::<A>(packet, facts, slot, len, |frame| insert_header(frame, facts, header)) {
            self.told::<A>(slot, seen.acknowledgment, seen.window, timestamps);
            return None;
        }
        if untold || tcp.payload == 0 && !tcp.flags.contains(TcpFlags::FIN) {
            // In the client's numbers, which are changed on the way like those of any segment of its own.
            let sequence = lead.first.add(u32::from(lead.len).wrapping_neg());
            if !self.say_instead(packet, facts, &Tcp { sequence, flags: TELLS, ..*tcp }, &[], said, header) {
                return Some(Acted::Verdict(Verdict::Drop(DropReason::BuffersExhausted)));
            }
            self.told::<A>(slot, seen.acknowledgment, seen.window, timestamps);
            return None;
        }
        self.told::<A>(slot, seen.acknowledgment, seen.window, timestamps);
        if let Some(splice) = self.splice_of::<A>(slot).copied() {
            self.introduce_again::<A>(slot, &splice);
        }
        None
    }

    /// Sends the option that names the client: before all others of its packet; where that has no room for it, with the
    /// acknowledgment alone, and beside the packet once the backend was told before.
    fn send_option<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tcp: &Tcp,
        slot: Slot,
        splice: &Splice,
    ) -> Option<Acted> {
        let Named { asked, ports: [port, _], .. } = self.named::<A>(slot, Introduction::TcpOption);
        let mut bytes = [0; OPTION_MAX];
        let len = option(&mut bytes, (asked.source(), port));
        let option = bytes.get(..len)?;
        let said = TcpOptions::of(packet.buffer.bytes(), facts).timestamps;
        let fits = self.grow::<A>(packet, facts, slot, len, |frame| insert_option(frame, facts, option));
        let told_before = splice.introducing?.told.is_some_and(|told| told < self.tick);
        if !fits && !told_before {
            let alone = Tcp { flags: TcpFlags::ACK, ..*tcp };
            if !self.say_instead(packet, facts, &alone, option, said, &[]) {
                return Some(Acted::Verdict(Verdict::Drop(DropReason::BuffersExhausted)));
            }
        }
        let seen = splice.shift.as_backend_sees(tcp);
        self.told::<A>(slot, seen.acknowledgment, seen.window, splice.as_backend_reads(said));
        if !fits
            && told_before
            && let Some(splice) = self.splice_of::<A>(slot).copied()
        {
            self.introduce_again::<A>(slot, &splice);
        }
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
        let (Some(introducing), Some(lead)) = (splice.introducing, splice.shift.lead) else { return false };
        if lead.is_heard() && introducing.how == Introduction::ProxyV2 {
            return false;
        }
        let header = Tcp {
            source_port: 0,
            destination_port: 0,
            sequence: lead.first,
            acknowledgment,
            window,
            flags: TELLS,
            payload: lead.len,
            window_scale: None,
        };
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        let _ = tcp_state::observe(session, Direction::Original, &header);
        self.told::<A>(slot, acknowledgment, window, timestamps);
        let Some(splice) = self.splice_of::<A>(slot).copied() else { return false };
        self.introduce_again::<A>(slot, &splice);
        true
    }

    /// Lets a packet grow by `len` bytes in front and `fill` them; false, and nothing changed, where it would not fit the link to its
    /// backend, came in fragments, or cannot be filled.
    fn grow<A: Family>(
        &self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let hop = self.hop_of::<A>(slot, Direction::Original);
        let mtu = self.next_hops.port(hop).map_or(0, |port| self.mtu(port));
        let grown = usize::from(facts.end.saturating_sub(facts.network)) + len;
        if packet.rest.is_some() || grown > usize::from(mtu) || !packet.buffer.resize(usize::from(facts.end)) {
            return false;
        }
        let Some(bytes) = packet.buffer.prepend(len) else { return false };
        if !fill(bytes) {
            packet.buffer.trim_front(len);
            return false;
        }
        packet.read_again()
    }

    /// Puts in the place of a client's packet a segment with its numbers and clock, these options before it, and this payload.
    fn say_instead(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tcp: &Tcp,
        first: &[u8],
        timestamps: Option<Timestamps>,
        payload: &[u8],
    ) -> bool {
        let (mut clock, mut options) = ([0; OPTIONS_MAX], [0; OPTIONS_MAX + OPTION_MAX]);
        let len = TcpOptions { timestamps, ..TcpOptions::default() }.write(&mut clock);
        for (place, byte) in options.iter_mut().zip(first.iter().chain(clock.iter().take(len))) {
            *place = *byte;
        }
        let segment = Segment {
            source_port: tcp.source_port,
            destination_port: tcp.destination_port,
            sequence: tcp.sequence,
            acknowledgment: tcp.acknowledgment,
            flags: tcp.flags,
            window: tcp.window,
            options: options.get(..first.len() + len).unwrap_or_default(),
            payload,
        };
        self.become_segment(packet, &facts.endpoints, facts.hop_limit, &segment)
    }
}

/// The flags of the segment that carries a header.
const TELLS: TcpFlags = TcpFlags::new(TcpFlags::ACK.bits() | TcpFlags::PSH.bits());

/// Whether a client's segment can be one after the handshake.
fn completes(tcp: &Tcp) -> bool {
    tcp.flags.contains(TcpFlags::ACK) && !tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST)
}
