//! Two small but correct TCP endpoints talk through the tracker over a network that loses, repeats and reorders on both
//! sides of it. Nothing they send may be dropped, everything arrives, and the session ends in `TimeWait`.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A generator of its own, so that one seed replays one run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    flags: TcpFlags,
    sequence: u64,
    acknowledgment: u64,
    len: u64,
    window: u64,
}

/// An endpoint. Sequence numbers are counted in 64 bits from the SYN (0) and wrapped on the wire.
#[derive(Debug)]
struct End {
    initial: u32,
    scale: u8,
    syn_sent: bool,
    syn_received: bool,
    unacknowledged: u64,
    next: u64,
    /// The right edge of what the peer allows.
    allowed: u64,
    /// Where the data ends; the FIN is the number after.
    total: u64,
    expected: u64,
    /// Received beyond `expected`.
    early: Vec<(u64, u64)>,
    /// The number of the peer's FIN, once known.
    peer_fin: Option<u64>,
    buffer: u64,
    unread: u64,
    owes_acknowledgment: bool,
}

impl End {
    fn new(initial: u32, scale: u8, total: u64, buffer: u64) -> Self {
        Self {
            initial,
            scale,
            syn_sent: false,
            syn_received: false,
            unacknowledged: 0,
            next: 0,
            allowed: 1,
            total: total + 1,
            expected: 0,
            early: Vec::new(),
            peer_fin: None,
            buffer,
            unread: 0,
            owes_acknowledgment: false,
        }
    }

    fn is_open(&self) -> bool {
        self.syn_received && self.unacknowledged > 0
    }

    fn is_done(&self) -> bool {
        self.unacknowledged > self.total && self.peer_fin.is_some_and(|fin| self.expected > fin)
    }

    /// What the peer may still send, rounded down to what the field can say.
    fn window(&self) -> u64 {
        (self.buffer - self.unread).min(65_535 << self.scale) >> self.scale << self.scale
    }

    fn stamped(&mut self, flags: TcpFlags, sequence: u64, len: u64) -> Segment {
        self.owes_acknowledgment = false;
        Segment { flags: flags | ACK, sequence, acknowledgment: self.expected, len, window: self.window() }
    }

    /// SYN or SYN with ACK.
    fn syn(&mut self) -> Segment {
        self.syn_sent = true;
        self.next = self.next.max(1);
        let flags = if self.syn_received { SYN | ACK } else { SYN };
        self.owes_acknowledgment = false;
        Segment { flags, sequence: 0, acknowledgment: self.expected, len: 0, window: self.window().min(65_535) }
    }

    /// A segment from `sequence`, of at most `most` bytes and what is allowed.
    fn data(&mut self, sequence: u64, most: u64) -> Option<Segment> {
        let len = most.min(self.total.saturating_sub(sequence)).min(self.allowed.saturating_sub(sequence));
        let fin = sequence + len == self.total && self.allowed > self.total;
        if len == 0 && !fin {
            return None;
        }
        self.next = self.next.max(sequence + len + u64::from(fin));
        let flags = if fin { TcpFlags::FIN } else { TcpFlags::PSH };
        Some(self.stamped(flags, sequence, len))
    }

    /// One thing an endpoint may do of its own accord.
    fn act(&mut self, random: &mut Random) -> Option<Segment> {
        if self.syn_sent && !self.is_open() {
            return Some(self.syn());
        }
        if !self.is_open() {
            return None;
        }
        self.unread -= random.below(self.unread + 1);
        match random.below(10) {
            0..=4 if self.next <= self.total => self.data(self.next, random.below(9_000) + 1),
            // Retransmission, of the first or of any part under way.
            5 if self.unacknowledged < self.next => self.data(self.unacknowledged, random.below(9_000) + 1),
            6 if self.unacknowledged < self.next => {
                let from = self.unacknowledged + random.below(self.next - self.unacknowledged);
                self.data(from, random.below(3_000) + 1)
            }
            // Keepalive and window probe, behind what is acknowledged.
            7 if self.unacknowledged == self.next => Some(self.stamped(TcpFlags::NONE, self.next - 1, 0)),
            7 => Some(self.stamped(TcpFlags::NONE, self.unacknowledged - 1, 0)),
            // Window update.
            8 => Some(self.stamped(TcpFlags::NONE, self.next, 0)),
            _ if self.owes_acknowledgment => Some(self.stamped(TcpFlags::NONE, self.next, 0)),
            _ => None,
        }
    }

    fn receive(&mut self, segment: Segment) {
        if segment.flags.contains(SYN) && self.expected == 0 {
            self.syn_received = true;
            self.expected = 1;
            self.owes_acknowledgment = true;
            // A SYN without ACK is answered with one.
            self.syn_sent = self.syn_sent || !segment.flags.contains(ACK);
        } else if segment.flags.contains(SYN) {
            self.owes_acknowledgment = true;
        }
        if segment.flags.contains(ACK) && segment.acknowledgment <= self.next {
            self.unacknowledged = self.unacknowledged.max(segment.acknowledgment);
            self.allowed = self.allowed.max(segment.acknowledgment + segment.window);
        }
        if !self.syn_received || segment.flags.contains(SYN) {
            return;
        }
        if segment.flags.contains(TcpFlags::FIN) {
            self.peer_fin = Some(segment.sequence + segment.len);
        }
        let occupied = segment.len + u64::from(segment.flags.contains(TcpFlags::FIN));
        if occupied == 0 {
            self.owes_acknowledgment |= segment.sequence < self.expected;
            return;
        }
        self.owes_acknowledgment = true;
        self.early.push((segment.sequence, segment.sequence + occupied));
        while let Some(&(_, end)) = self.early.iter().find(|(from, end)| *from <= self.expected && *end > self.expected)
        {
            self.unread = (self.unread + end - self.expected).min(self.buffer);
            self.expected = end;
        }
        let expected = self.expected;
        self.early.retain(|(_, end)| *end > expected);
    }
}

/// A stretch of network in one direction.
#[derive(Debug, Default)]
struct Path(VecDeque<Segment>);

impl Path {
    fn send(&mut self, segment: Segment, loss: u64, random: &mut Random) {
        if !random.chance(loss) {
            self.0.push_back(segment);
        }
        if random.chance(3) {
            self.0.push_back(segment);
        }
    }

    fn take(&mut self, random: &mut Random) -> Option<Segment> {
        let ahead = if random.chance(20) { random.below(4) } else { 0 };
        self.0.remove(usize::try_from(ahead).unwrap().min(self.0.len().saturating_sub(1)))
    }
}

fn on_the_wire(segment: Segment, from: &End, to: &End) -> Tcp {
    let is_syn = segment.flags.contains(SYN);
    let window = if is_syn { segment.window } else { segment.window >> from.scale };
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are taken modulo 2^32")]
    let (sequence, acknowledgment) =
        (from.initial.wrapping_add(segment.sequence as u32), to.initial.wrapping_add(segment.acknowledgment as u32));
    Tcp {
        source_port: 1,
        destination_port: 2,
        sequence: SeqNumber::new(sequence),
        acknowledgment: SeqNumber::new(if segment.flags.contains(ACK) { acknowledgment } else { 0 }),
        window: u16::try_from(window).unwrap(),
        flags: segment.flags,
        payload: u16::try_from(segment.len).unwrap(),
        window_scale: is_syn.then_some(from.scale),
    }
}

/// Runs one connection to its end and returns the steps it took.
fn run(seed: u64, ends: [End; 2], loss: u64, both_open: bool) -> Result<u64, TestCaseError> {
    let mut random = Random(seed | 1);
    let mut ends = ends;
    // Of each direction: before the tracker, and behind it.
    let mut before = [Path::default(), Path::default()];
    let mut behind = [Path::default(), Path::default()];
    let first = ends[0].syn();
    if both_open {
        let crossing = ends[1].syn();
        before[1].0.push_back(crossing);
    }
    let mut connection = Connection::opened_by(&on_the_wire(first, &ends[0], &ends[1]));
    behind[0].0.push_back(first);
    for step in 0..400_000_u64 {
        let side = usize::from(random.chance(50));
        match random.below(3) {
            0 => {
                if let Some(segment) = ends[side].act(&mut random) {
                    before[side].send(segment, loss, &mut random);
                }
            }
            1 => {
                if let Some(segment) = before[side].take(&mut random) {
                    let tcp = on_the_wire(segment, &ends[side], &ends[1 - side]);
                    let direction = Direction::BOTH[side];
                    let outcome = connection.observe(direction, &tcp);
                    prop_assert!(
                        matches!(outcome, Pass | PassAndRetime),
                        "seed {seed} step {step}: {outcome:?} for {direction:?} {segment:?}\n{:?}\n{ends:#?}",
                        connection.table.session(connection.slot)
                    );
                    behind[side].send(segment, loss, &mut random);
                }
            }
            _ => {
                if let Some(segment) = behind[side].take(&mut random) {
                    ends[1 - side].receive(segment);
                }
            }
        }
        let quiet = before.iter().chain(&behind).all(|path| path.0.is_empty());
        if ends.iter().all(End::is_done) && quiet {
            prop_assert_eq!(connection.state(), State::TimeWait, "seed {}", seed);
            return Ok(step);
        }
    }
    Err(TestCaseError::fail(format!("seed {seed}: the endpoints never finished\n{ends:#?}\n{:?}", connection.state())))
}

proptest! {
    #[test]
    fn nothing_correct_endpoints_send_is_dropped(
        seed: u64,
        initial: [u32; 2],
        scales in prop::array::uniform2(0_u8..=14),
        totals in prop::array::uniform2(prop_oneof![Just(0_u64), 1..2_000_000_u64]),
        buffers in prop::array::uniform2(2_000_u64..4_000_000),
        loss in 0_u64..25,
        both_open: bool,
    ) {
        let end = |i: usize| End::new(initial[i], scales[i], totals[i], buffers[i].max(1 << (scales[i] + 1)));
        run(seed, [end(0), end(1)], loss, both_open)?;
    }
}
