//! What is kept per session. The first cache line holds everything an established IPv4 packet reads or writes; the
//! rest is touched when a session opens, changes state, is harvested or shown.
//!
//! | bytes | IPv4 | IPv6 |
//! |---|---|---|
//! | 0..40 | TCP streams, counters, next hops, binding, checksum deltas, generation, last seen, meta | the same |
//! | 40.. | both tuples, to 64 | both tuples, to 112 |
//! | then | cold half, to 128 | cold half, to 176, padding to 192 |
//!
//! Only the worker that owns the table touches a session. All zero is a vacant one: plain integers throughout.

use std::net::{Ipv4Addr, Ipv6Addr};

use units::limits::PORTS_MAX;
use units::{PortId, RuleId, TenantId, Tick};

use crate::expiry::Ring;
use crate::stream::{Place, Stream};
use crate::{Address, Direction, History, Kind, State, TcpOpening, Tuple, WireTuple};

/// Bits of the packed counters that hold bytes; the others hold packets. The highest of each are set when there is room for
/// one more packet, and for no more.
const COUNTED_BYTES_BITS: u32 = 22;
const COUNTED_BYTES: u32 = (1 << COUNTED_BYTES_BITS) - 1;
const COUNTED_FULL: u32 = 1 << 31 | 1 << (COUNTED_BYTES_BITS - 1);

// The layout of `meta`.
const KIND: u16 = 0x0003;
const STATE_SHIFT: u32 = 2;
const STATE: u16 = 0x000f << STATE_SHIFT;
const SCALE_SHIFT: [u32; 2] = [6, 10];
const SCALE: u16 = 0x000f;
const TRANSLATED: u16 = 1 << 14;
const OCCUPIED: u16 = 1 << 15;

// The layout of `flags`. The low byte is the caller's.
const CALLER_FLAGS: u16 = 0x00ff;
const ONE_SIDED: u16 = 1 << 8;
const CHALLENGED: u16 = 1 << 9;
const CHALLENGED_REPLY: u16 = 1 << 10;
const ONE_SHOT: u16 = 1 << 11;
const LINGERS: u16 = 1 << 12;
const KEPT: u16 = 1 << 13;

/// Window scale nibble of a side whose SYN offered none.
pub(crate) const SCALE_ABSENT: u8 = 15;

/// "No rule": the session was admitted by the default action or by the appliance itself.
const NO_RULE: u32 = u32::MAX;

/// What rewriting a packet of the original direction adds to its checksums, one's complement (RFC 1624); the reply
/// direction subtracts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deltas {
    /// For the IPv4 header checksum.
    pub network: u16,
    /// For the TCP, UDP or ICMP checksum.
    pub transport: u16,
}

/// Packets and the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Bytes of IP.
    pub bytes: u64,
}

impl Traffic {
    /// What a packed counter holds.
    const fn unpack(counted: u32) -> Self {
        Self { packets: (counted >> COUNTED_BYTES_BITS) as u64, bytes: (counted & COUNTED_BYTES) as u64 }
    }

    /// Adds more.
    pub const fn add(&mut self, more: Self) {
        self.packets = self.packets.wrapping_add(more.packets);
        self.bytes = self.bytes.wrapping_add(more.bytes);
    }
}

/// A SYN that was let through on a connection already known (RFC 5961 section 4): what its answer is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) direction: Direction,
    pub(crate) sequence: wire::SeqNumber,
}

/// One tracked conversation, both directions. Shape: 128 bytes for IPv4, 192 for IPv6, on a line of its own.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Session<A: Address> {
    streams: [Stream; 2],
    counted: [u32; 2],
    next_hop: [u16; 2],
    binding: u16,
    deltas: [u16; 2],
    generation: u16,
    last_seen: u16,
    meta: u16,
    tuples: [WireTuple<A>; 2],
    // The cold half.
    totals: [Traffic; 2],
    rule: u32,
    created: u32,
    /// The slot before this one in its timer list, 0 for none.
    pub(crate) previous: u32,
    /// The slot after this one in its timer list, 0 for none.
    pub(crate) next: u32,
    /// The timer list it is on, as `expiry` numbers them.
    pub(crate) list: u16,
    tenant: u16,
    ingress: [u8; 2],
    flags: u16,
    lease: u32,
    challenge: u32,
}

const _: () = assert!(PORTS_MAX <= 1 << u8::BITS, "the number of a port is one byte");
const _: () = assert!(size_of::<Session<Ipv4Addr>>() == 128);
const _: () = assert!(size_of::<Session<Ipv6Addr>>() == 192);
const _: () = assert!(core::mem::offset_of!(Session<Ipv4Addr>, totals) == 64, "the hot half of IPv4 is one line");
const _: () = assert!(core::mem::offset_of!(Session<Ipv6Addr>, totals) == 112);

/// What a session begins with. [`NewSession::new`] fills in a session without translation, service or rule.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<A> {
    /// Whose addresses its tuples speak of.
    pub tenant: TenantId,
    /// Protocol kind.
    pub kind: Kind,
    /// The tuple of packets from who opens.
    pub original: Tuple<A>,
    /// The tuple of the answers, as they are on the wire when they reach us.
    pub reply: Tuple<A>,
    /// What the first TCP segment said, from [`open`](crate::open); ignored for other kinds. TCP without it is followed
    /// without window checks.
    pub tcp: Option<TcpOpening>,
    /// Only the original direction passes here (the backend answers its client directly): nothing may be concluded
    /// from the silence of the other.
    pub one_sided: bool,
    /// It is over when its questions are answered ([`datagram`](crate::datagram)).
    pub one_shot: bool,
    /// Its silence is borne as RFC 6146 section 4 has it ([`Lingering`](crate::Lingering)).
    pub lingers: bool,
    /// It is never given up for another, even while it is half open.
    pub kept: bool,
    /// The policy that admitted it, `Generation::short`.
    pub generation: u16,
    /// The rule that admitted it.
    pub rule: Option<RuleId>,
    /// Next hops, by direction, as the worker numbers them.
    pub next_hop: [u16; 2],
    /// The backend binding, as the worker numbers them; 0 for none.
    pub binding: u16,
    /// Whether addresses or ports are rewritten.
    pub translated: bool,
    /// Checksum deltas of the rewrite.
    pub deltas: Deltas,
    /// The ports packets come in by, by direction.
    pub ingress: [PortId; 2],
    /// What was leased for it (a port of a NAT pool, ...), as the worker encodes it.
    pub lease: u32,
    /// Eight bits of the worker's own.
    pub flags: u8,
}

impl<A: Address> NewSession<A> {
    /// A session of no tenant between these tuples and nothing else.
    #[must_use]
    pub const fn new(kind: Kind, original: Tuple<A>, reply: Tuple<A>) -> Self {
        Self {
            tenant: TenantId::NONE,
            kind,
            original,
            reply,
            tcp: None,
            one_sided: false,
            one_shot: false,
            lingers: false,
            kept: false,
            generation: 0,
            rule: None,
            next_hop: [0; 2],
            binding: 0,
            translated: false,
            deltas: Deltas { network: 0, transport: 0 },
            ingress: [PortId::new(0); 2],
            lease: 0,
            flags: 0,
        }
    }
}

impl<A: Address> Session<A> {
    /// Writes a new session over a vacant one, on no timer list.
    #[inline]
    pub(crate) fn begin(&mut self, new: &NewSession<A>, now: Tick) {
        *self = Self {
            streams: [Stream::default(); 2],
            counted: [0; 2],
            next_hop: new.next_hop,
            binding: new.binding,
            deltas: [new.deltas.network.to_be(), new.deltas.transport.to_be()],
            generation: new.generation,
            last_seen: now.short(),
            meta: OCCUPIED | new.kind as u16 | if new.translated { TRANSLATED } else { 0 },
            tuples: [new.original.into(), new.reply.into()],
            totals: [Traffic::default(); 2],
            rule: new.rule.map_or(NO_RULE, RuleId::get),
            created: u32::try_from(now.get()).unwrap_or(u32::MAX),
            previous: 0,
            next: 0,
            list: 0,
            tenant: new.tenant.get(),
            ingress: new.ingress.map(short),
            flags: u16::from(new.flags)
                | if new.one_sided { ONE_SIDED } else { 0 }
                | if new.one_shot { ONE_SHOT } else { 0 }
                | if new.lingers { LINGERS } else { 0 }
                | if new.kept { KEPT } else { 0 },
            lease: new.lease,
            challenge: 0,
        };
        self.set_state(State::OneWay);
        if new.kind == Kind::Tcp {
            self.begin_tcp(new.tcp.as_ref());
        }
    }

    /// Makes the session vacant, so that no stale hint finds it.
    pub(crate) const fn vacate(&mut self) {
        self.meta = 0;
    }

    /// Whether there is a session here.
    #[inline]
    #[must_use]
    pub const fn is_occupied(&self) -> bool {
        self.meta & OCCUPIED != 0
    }

    /// Whether packets of this kind and tuple run through this session in `direction`, of whatever tenant.
    #[inline]
    pub(crate) fn matches(&self, kind: Kind, tuple: WireTuple<A>, direction: Direction) -> bool {
        self.meta & (KIND | OCCUPIED) == kind as u16 | OCCUPIED && *direction.of(&self.tuples) == tuple
    }

    /// As [`Session::matches`], of packets of this tenant. Reads the cold half of a session that matches.
    #[inline]
    pub(crate) fn is_of(&self, tenant: TenantId, kind: Kind, tuple: WireTuple<A>, direction: Direction) -> bool {
        self.matches(kind, tuple, direction) && self.tenant == tenant.get()
    }

    /// Whose addresses its tuples speak of.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        TenantId::new(self.tenant)
    }

    /// Protocol kind.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::from_bits(self.meta)
    }

    /// Where the conversation stands.
    #[inline]
    #[must_use]
    pub const fn state(&self) -> State {
        State::from_bits(self.meta >> STATE_SHIFT)
    }

    /// Whether it is none of TCP's and no answer was seen.
    #[inline(always)]
    pub(crate) const fn is_one_way(&self) -> bool {
        self.meta & STATE == (State::OneWay as u16) << STATE_SHIFT
    }

    pub(crate) const fn set_state(&mut self, state: State) {
        self.meta = self.meta & !STATE | (state as u16) << STATE_SHIFT;
    }

    /// The tuple of packets that run in `direction`, as they are when they reach us.
    #[inline]
    #[must_use]
    pub fn tuple(&self, direction: Direction) -> Tuple<A> {
        self.wire_tuple(direction).into()
    }

    /// As [`Session::tuple`], as it lies in a frame.
    #[inline(always)]
    #[must_use]
    pub const fn wire_tuple(&self, direction: Direction) -> WireTuple<A> {
        *direction.of(&self.tuples)
    }

    /// Addresses and ports a packet of `direction` leaves with: those of an answer, reversed. Equal to
    /// [`Session::tuple`] where nothing is translated.
    #[inline]
    #[must_use]
    pub fn outgoing(&self, direction: Direction) -> Tuple<A> {
        self.wire_outgoing(direction).into()
    }

    /// As [`Session::outgoing`], as it lies in a frame.
    #[inline(always)]
    #[must_use]
    pub fn wire_outgoing(&self, direction: Direction) -> WireTuple<A> {
        direction.opposite().of(&self.tuples).reversed()
    }

    /// Whether addresses or ports are rewritten.
    #[inline]
    #[must_use]
    pub const fn is_translated(&self) -> bool {
        self.meta & TRANSLATED != 0
    }

    /// Checksum deltas of the original direction's rewrite.
    #[inline]
    #[must_use]
    pub const fn deltas(&self) -> Deltas {
        let [network, transport] = self.deltas;
        Deltas { network: u16::from_be(network), transport: u16::from_be(transport) }
    }

    /// Checksum deltas of packets in `direction`, network and transport, as words lie in a frame. Without a branch, since
    /// directions come in no order; a delta that changes nothing may come out as the other zero, which changes nothing
    /// either.
    #[inline(always)]
    #[must_use]
    pub const fn wire_deltas(&self, direction: Direction) -> [u16; 2] {
        let flip = (direction as u16).wrapping_neg();
        let [network, transport] = self.deltas;
        [network ^ flip, transport ^ flip]
    }

    /// Two words of the worker's own in the place of the deltas, which only a translated session has.
    #[must_use]
    pub const fn beside(&self) -> [u16; 2] {
        self.deltas
    }

    /// Keeps two words in the place of the deltas, of a session that is not translated.
    pub const fn set_beside(&mut self, words: [u16; 2]) {
        debug_assert!(!self.is_translated());
        self.deltas = words;
    }

    /// The next hop of packets in `direction`.
    #[inline]
    #[must_use]
    pub const fn next_hop(&self, direction: Direction) -> u16 {
        *direction.of(&self.next_hop)
    }

    /// Changes the next hop of packets in `direction`.
    #[inline]
    pub const fn set_next_hop(&mut self, direction: Direction, next_hop: u16) {
        *direction.of_mut(&mut self.next_hop) = next_hop;
    }

    /// The backend binding; 0 for none.
    #[inline]
    #[must_use]
    pub const fn binding(&self) -> u16 {
        self.binding
    }

    /// Changes the backend binding.
    pub const fn set_binding(&mut self, binding: u16) {
        self.binding = binding;
    }

    /// The policy that last admitted it, `Generation::short`.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> u16 {
        self.generation
    }

    /// Remembers the policy and rule that admitted it anew.
    pub fn readmit(&mut self, generation: u16, rule: Option<RuleId>) {
        self.generation = generation;
        self.rule = rule.map_or(NO_RULE, RuleId::get);
    }

    /// The rule that admitted it, by its place in the policy [`Session::generation`] names.
    #[must_use]
    pub const fn rule(&self) -> Option<RuleId> {
        if self.rule == NO_RULE { None } else { Some(RuleId::new(self.rule)) }
    }

    /// Remembers that a packet was seen.
    #[inline]
    pub const fn touch(&mut self, now: Tick) {
        self.last_seen = now.short();
    }

    /// When a packet was last seen, `Tick::short`.
    #[inline]
    #[must_use]
    pub const fn last_seen(&self) -> u16 {
        self.last_seen
    }

    /// Ticks since a packet was last seen.
    #[must_use]
    pub const fn idle(&self, now: Tick) -> u16 {
        now.since_short(self.last_seen)
    }

    /// When it was opened.
    #[must_use]
    pub fn created(&self) -> Tick {
        Tick::new(u64::from(self.created))
    }

    /// Counts one packet; no packet has 2 MiB. True when the hot counters are full, with 512 packets or 2 MiB of one
    /// direction: they are to be harvested before the next packet.
    #[inline(always)]
    #[must_use]
    pub const fn count(&mut self, direction: Direction, bytes: u32) -> bool {
        let counted = direction.of_mut(&mut self.counted);
        let bytes = if bytes < COUNTED_BYTES / 2 { bytes } else { COUNTED_BYTES / 2 };
        *counted = counted.wrapping_add(1 << COUNTED_BYTES_BITS | bytes);
        *counted & COUNTED_FULL != 0
    }

    /// Whether there is anything to harvest.
    #[inline]
    #[must_use]
    pub const fn has_counted(&self) -> bool {
        let [original, reply] = self.counted;
        original | reply != 0
    }

    /// What there is to harvest, both directions together.
    #[must_use]
    pub const fn counted(&self) -> Traffic {
        let [original, reply] = self.counted;
        let mut counted = Traffic::unpack(original);
        counted.add(Traffic::unpack(reply));
        counted
    }

    /// Empties the hot counters into the totals. Returns what was in them, both directions together.
    pub fn harvest(&mut self) -> Traffic {
        let harvested = self.counted();
        for direction in Direction::BOTH {
            let counted = core::mem::take(direction.of_mut(&mut self.counted));
            direction.of_mut(&mut self.totals).add(Traffic::unpack(counted));
        }
        harvested
    }

    /// Gives the session a past: what has passed, and for how long it has been silent and there.
    pub(crate) fn set_past(&mut self, history: &History, now: Tick) {
        self.counted = [0; 2];
        self.totals = history.traffic;
        self.last_seen = now.short().wrapping_sub(u16::try_from(history.idle).unwrap_or(u16::MAX));
        self.created = u32::try_from(now.get().saturating_sub(history.age)).unwrap_or(u32::MAX);
    }

    /// Packets and bytes of `direction` since the session was opened.
    #[must_use]
    pub const fn counters(&self, direction: Direction) -> (u64, u64) {
        let mut traffic = *direction.of(&self.totals);
        traffic.add(Traffic::unpack(*direction.of(&self.counted)));
        (traffic.packets, traffic.bytes)
    }

    /// The port packets of `direction` came in by.
    #[must_use]
    pub const fn ingress(&self, direction: Direction) -> PortId {
        PortId::new(*direction.of(&self.ingress) as u16)
    }

    /// What was leased for it, as the worker encodes it.
    #[must_use]
    pub const fn lease(&self) -> u32 {
        self.lease
    }

    /// Changes what was leased for it.
    pub const fn set_lease(&mut self, lease: u32) {
        self.lease = lease;
    }

    /// Eight bits of the worker's own.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        (self.flags & CALLER_FLAGS) as u8
    }

    /// Changes the worker's own bits.
    pub const fn set_flags(&mut self, flags: u8) {
        self.flags = self.flags & !CALLER_FLAGS | flags as u16;
    }

    /// Whether only the original direction passes here.
    #[must_use]
    pub const fn is_one_sided(&self) -> bool {
        self.flags & ONE_SIDED != 0
    }

    /// Whether it is over when its questions are answered.
    #[must_use]
    pub const fn is_one_shot(&self) -> bool {
        self.flags & ONE_SHOT != 0
    }

    /// Whether its silence is borne longer.
    #[must_use]
    pub const fn lingers(&self) -> bool {
        self.flags & LINGERS != 0
    }

    /// The timers it belongs to. Nothing is concluded from the silence of a side that does not pass here.
    pub(crate) fn ring(&self) -> Ring {
        let half_open = match self.state() {
            State::SynSent | State::SynCrossed => Ring::Asked,
            State::SynReceived => Ring::Answered,
            State::OneWay if !self.is_one_sided() => Ring::OneWay,
            _ => return Ring::Settled,
        };
        match self.flags & (KEPT | LINGERS) {
            0 => half_open,
            LINGERS => Ring::Lingering,
            _ => Ring::Settled,
        }
    }

    /// Whether packets came from the answering side as well.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        !matches!(self.state(), State::SynSent | State::OneWay)
    }

    /// What a reset in the name of the sender of `direction` must carry, so that its receiver takes it: sequence number
    /// and acknowledgment (RFC 9293 section 3.10.7, RFC 5961 section 3.2). It follows all that passed here on the same
    /// way, so its receiver expects what comes after that, acknowledged or not.
    #[must_use]
    pub const fn reset_numbers(&self, direction: Direction) -> (wire::SeqNumber, wire::SeqNumber) {
        (direction.of(&self.streams).end(), direction.opposite().of(&self.streams).end())
    }

    /// What was acknowledged of the stream of `direction` last.
    #[must_use]
    pub const fn acknowledged(&self, direction: Direction) -> wire::SeqNumber {
        direction.of(&self.streams).acknowledged()
    }

    /// Forgets a SYN that was let through: its answer is none of this connection's.
    pub fn forget_challenge(&mut self) {
        self.set_challenge(None);
    }

    /// Whether a segment of this sequence number was sent in `direction` lately: what an ICMP error that quotes one has to
    /// show (RFC 5927 section 4.1). True for other kinds, and where no bound is known.
    #[must_use]
    pub fn has_sent(&self, direction: Direction, sequence: wire::SeqNumber) -> bool {
        self.kind() != Kind::Tcp || self.stream(direction).place_acknowledgment(sequence) == Place::Inside
    }

    pub(crate) const fn stream(&self, direction: Direction) -> &Stream {
        direction.of(&self.streams)
    }

    pub(crate) const fn stream_mut(&mut self, direction: Direction) -> &mut Stream {
        direction.of_mut(&mut self.streams)
    }

    /// The window scale in force for windows announced in `direction`; [`SCALE_ABSENT`] before the handshake settled it.
    pub(crate) const fn scale(&self, direction: Direction) -> u8 {
        (self.meta >> *direction.of(&SCALE_SHIFT) & SCALE) as u8
    }

    pub(crate) const fn set_scale(&mut self, direction: Direction, scale: u8) {
        let shift = *direction.of(&SCALE_SHIFT);
        self.meta = self.meta & !(SCALE << shift) | (scale as u16 & SCALE) << shift;
    }

    pub(crate) fn challenge(&self) -> Option<Challenge> {
        (self.flags & CHALLENGED != 0).then(|| Challenge {
            direction: if self.flags & CHALLENGED_REPLY == 0 { Direction::Original } else { Direction::Reply },
            sequence: wire::SeqNumber::new(self.challenge),
        })
    }

    pub(crate) fn set_challenge(&mut self, challenge: Option<Challenge>) {
        self.flags &= !(CHALLENGED | CHALLENGED_REPLY);
        if let Some(Challenge { direction, sequence }) = challenge {
            self.flags |= CHALLENGED | if direction == Direction::Reply { CHALLENGED_REPLY } else { 0 };
            self.challenge = sequence.get();
        }
    }
}

/// The number of a port, as a session keeps it.
#[expect(clippy::cast_possible_truncation, reason = "no port has a larger number")]
const fn short(port: PortId) -> u8 {
    port.get() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use proptest::prelude::*;

    fn session() -> Session<Ipv4Addr> {
        let tuple = Tuple {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
            source_port: 1,
            destination_port: 2,
        };
        let mut table = crate::Table::new(1, crate::HashSecret::from_seed(1)).unwrap();
        let slot = table.insert(&NewSession::new(Kind::Tcp, tuple, tuple.reversed()), Tick::new(0)).unwrap();
        table.session(slot).clone()
    }

    /// The fields of `meta` do not touch each other.
    #[test]
    fn packed_fields_keep_out_of_each_others_bits() {
        let mut session = session();
        for state in State::ALL {
            for scale in 0..=15 {
                session.set_state(state);
                session.set_scale(Direction::Original, scale);
                session.set_scale(Direction::Reply, 15 - scale);
                assert_eq!((session.kind(), session.state(), session.is_translated()), (Kind::Tcp, state, false));
                assert_eq!(Direction::BOTH.map(|direction| session.scale(direction)), [scale, 15 - scale]);
                assert!(session.is_occupied());
            }
        }
    }

    #[test]
    fn a_challenge_is_remembered_beside_the_flags() {
        let mut session = session();
        session.set_flags(0xff);
        for direction in Direction::BOTH {
            let challenge = Some(Challenge { direction, sequence: wire::SeqNumber::new(0xfedc_ba98) });
            session.set_challenge(challenge);
            assert_eq!((session.challenge(), session.flags()), (challenge, 0xff));
            session.set_challenge(None);
            assert_eq!((session.challenge(), session.flags()), (None, 0xff));
        }
    }

    #[test]
    fn only_what_was_sent_can_be_quoted() {
        let mut session = session();
        *session.stream_mut(Direction::Original) = Stream::starting(wire::SeqNumber::new(100_000), 1_000);
        let sent = |sequence| session.has_sent(Direction::Original, wire::SeqNumber::new(sequence));
        assert!(sent(100_000) && sent(100_999));
        assert!(!sent(101_001) && !sent(1) && !sent(3_000_000_000));
    }

    #[test]
    fn a_reset_carries_what_its_receiver_expects() {
        let mut session = session();
        *session.stream_mut(Direction::Original) = Stream::starting(wire::SeqNumber::new(100), 5);
        *session.stream_mut(Direction::Reply) = Stream::starting(wire::SeqNumber::new(900), 0);
        let (sequence, acknowledgment) = session.reset_numbers(Direction::Original);
        assert_eq!((sequence.get(), acknowledgment.get()), (105, 900));
    }

    proptest! {
        /// Packets and bytes are exact whatever their sizes and number, and both directions apart.
        #[test]
        fn counters_lose_nothing(sizes in prop::collection::vec((any::<bool>(), sizes_of_frames()), 1..6_000)) {
            let mut session = session();
            let (mut expected, mut harvested) = ([(0, 0); 2], Traffic::default());
            for (reply, bytes) in sizes {
                let direction = if reply { Direction::Reply } else { Direction::Original };
                if session.count(direction, bytes) {
                    harvested.add(session.harvest());
                }
                let (packets, total) = &mut expected[direction.index()];
                *packets += 1;
                *total += u64::from(bytes);
            }
            prop_assert_eq!(Direction::BOTH.map(|direction| session.counters(direction)), expected);
            harvested.add(session.harvest());
            prop_assert!(!session.has_counted());
            prop_assert_eq!(Direction::BOTH.map(|direction| session.counters(direction)), expected);
            let [(packets, bytes), (reply_packets, reply_bytes)] = expected;
            prop_assert_eq!((harvested.packets, harvested.bytes), (packets + reply_packets, bytes + reply_bytes));
        }
    }

    /// Sizes of frames, and some that no frame has but that would be counted.
    fn sizes_of_frames() -> impl Strategy<Value = u32> {
        prop_oneof![6 => 60_u32..1_514, 2 => Just(0), 1 => 9_000_u32..70_000, 1 => 0_u32..1 << 21]
    }
}
