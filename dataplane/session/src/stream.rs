//! What is remembered of one direction of a TCP connection: which of its bytes were sent, acknowledged and allowed.
//!
//! Eight bytes, so that both directions lie on a session's first line. The rules over them are in `tcp_state`; the idea
//! is van Rooij's (Real Stateful TCP Packet Filtering in IP Filter, 2001): the highest byte sent, the highest
//! acknowledged, and the largest window ever offered bound what either side may legally send next.
//!
//! ```text
//!            acknowledged           end
//!  ---------------|------------------|--------------------|----->  sequence numbers of this direction
//!                  <---- flight ----> (27 bits, exact)
//!                  <---------- window: largest ever, 2^n >= it --->
//! ```
//!
//! Rounding only ever widens what passes: the window is kept as the next power of two. More than 128 MiB in flight does
//! not fit; then `acknowledged` is moved up so that `end` stays exact, and [`Stream::is_strained`] tells.

use wire::SeqNumber;

use crate::StreamHistory;

/// Sequence space behind the bounds that still passes: a retransmission whose acknowledgment was lost behind us is at
/// most one window old; the rest is for windows rounded, shrunk, or never seen. Twice the largest unscaled window, so
/// that an acknowledged segment may come again after 67 kB (EVA-18).
const SLACK: i64 = 65_536;

/// Bits of the second word that hold the flight; the other five hold the window's exponent.
const FLIGHT_BITS: u32 = 27;
const FLIGHT_MAX: u32 = (1 << FLIGHT_BITS) - 1;

/// Exponent for "no bound": a connection that was picked up in its middle, or of which one direction is never seen.
const UNBOUNDED: u32 = 31;

/// One direction's sequence space. Eight bytes; all zero is a stream of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Stream {
    acknowledged: u32,
    /// Window exponent (5 bits) | bytes in flight (27 bits).
    packed: u32,
}

const _: () = assert!(size_of::<Stream>() == 8);

/// Where a segment or an acknowledgment lies in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Within what the bounds allow.
    Inside,
    /// Behind everything that can still be under way.
    Behind,
    /// Beyond what was allowed, or what was sent.
    Beyond,
}

impl Stream {
    /// A stream that begins at `first` and has sent `len` sequence numbers. No window is known yet, so none binds.
    pub(crate) const fn starting(first: SeqNumber, len: u32) -> Self {
        Self { acknowledged: first.get(), packed: if len > FLIGHT_MAX { FLIGHT_MAX } else { len } }
    }

    /// Begins anew at `first`, under the windows offered so far.
    pub(crate) const fn restart(&mut self, first: SeqNumber, len: u32) {
        let window = self.packed & !FLIGHT_MAX;
        *self = Self::starting(first, len);
        self.packed |= window;
    }

    /// Whether `acknowledgment` confirms the first thing this stream sent, its SYN.
    pub(crate) const fn is_started_by(self, acknowledgment: SeqNumber) -> bool {
        let advance = acknowledgment.distance(self.acknowledged());
        advance >= 1 && advance as i64 <= self.flight() as i64
    }

    /// A stream whose bounds never bind.
    pub(crate) const fn unbounded(first: SeqNumber, len: u32) -> Self {
        let start = Self::starting(first, len);
        Self { acknowledged: start.acknowledged, packed: start.packed | UNBOUNDED << FLIGHT_BITS }
    }

    /// A stream that goes on elsewhere.
    pub(crate) const fn resuming(history: StreamHistory) -> Self {
        let StreamHistory { acknowledged, flight, window } = history;
        let flight = if flight > FLIGHT_MAX { FLIGHT_MAX } else { flight };
        Self { acknowledged, packed: (window as u32 & UNBOUNDED) << FLIGHT_BITS | flight }
    }

    /// What is known of it, for it to go on elsewhere.
    pub(crate) fn history(self) -> StreamHistory {
        let window = u8::try_from(self.packed >> FLIGHT_BITS).unwrap_or(0);
        StreamHistory { acknowledged: self.acknowledged, flight: self.flight(), window }
    }

    /// The highest acknowledgment the other side has sent: what it expects next, unless more is on its way to it.
    pub(crate) const fn acknowledged(self) -> SeqNumber {
        SeqNumber::new(self.acknowledged)
    }

    /// The sequence number after the highest one sent.
    pub(crate) const fn end(self) -> SeqNumber {
        self.acknowledged().add(self.flight())
    }

    /// Sequence numbers sent and not acknowledged.
    pub(crate) const fn flight(self) -> u32 {
        self.packed & FLIGHT_MAX
    }

    /// Whether more is in flight than can be told exactly, so that `acknowledged` is only an upper bound.
    pub(crate) const fn is_strained(self) -> bool {
        self.flight() == FLIGHT_MAX
    }

    /// Whether no bound is known for this stream, ever.
    pub(crate) const fn is_unbounded(self) -> bool {
        self.packed >> FLIGHT_BITS == UNBOUNDED
    }

    /// The largest window offered to this stream so far, rounded up to a power of two; 0 when none was seen.
    const fn window(self) -> i64 {
        match self.packed >> FLIGHT_BITS {
            0 => 0,
            exponent => 1 << exponent,
        }
    }

    /// Judges the segment from `sequence` of `len` sequence numbers: it must begin within the window and must not end
    /// more than a window behind what was already sent.
    #[inline]
    pub(crate) fn place_segment(self, sequence: SeqNumber, len: u32) -> Place {
        let (window, begin) = (self.window(), i64::from(sequence.distance(self.acknowledged())));
        if self.is_unbounded() {
            Place::Inside
        } else if begin + i64::from(len) < i64::from(self.flight()) - window - SLACK {
            Place::Behind
        } else if begin > window.max(i64::from(self.flight())) && window != 0 {
            Place::Beyond
        } else {
            Place::Inside
        }
    }

    /// Judges an acknowledgment of this stream: nothing unsent, and nothing older than a window (RFC 5961 section 5.2).
    #[inline]
    pub(crate) fn place_acknowledgment(self, acknowledgment: SeqNumber) -> Place {
        let offset = i64::from(acknowledgment.distance(self.acknowledged()));
        if self.is_unbounded() {
            Place::Inside
        } else if offset > i64::from(self.flight()) {
            Place::Beyond
        } else if offset < -(self.window() + SLACK) {
            Place::Behind
        } else {
            Place::Inside
        }
    }

    /// Remembers that everything up to `end` was sent.
    #[inline]
    pub(crate) fn sent(&mut self, end: SeqNumber) {
        let Ok(flight) = u32::try_from(end.distance(self.acknowledged())) else { return };
        if flight <= self.flight() {
            return;
        }
        let excess = flight.saturating_sub(FLIGHT_MAX);
        self.acknowledged = self.acknowledged.wrapping_add(excess);
        self.set_flight(flight - excess);
    }

    /// Remembers an acknowledgment. One beyond what was sent counts only where nothing bounds the stream: there, what
    /// was sent may have passed before we were there.
    #[inline]
    pub(crate) fn acknowledge(&mut self, acknowledgment: SeqNumber) {
        let Ok(advance) = u32::try_from(acknowledgment.distance(self.acknowledged())) else { return };
        if advance > self.flight() && !self.is_unbounded() {
            return;
        }
        self.acknowledged = acknowledgment.get();
        self.set_flight(self.flight().saturating_sub(advance));
    }

    /// Remembers a window that was offered to this stream, in bytes.
    #[inline]
    pub(crate) fn offered(&mut self, window: u32) {
        // 0 and 1 share an exponent of zero with "none seen": neither allows anything worth checking.
        let exponent = u32::BITS - window.saturating_sub(1).leading_zeros();
        if exponent > self.packed >> FLIGHT_BITS {
            self.packed = exponent.min(UNBOUNDED - 1) << FLIGHT_BITS | self.flight();
        }
    }

    /// The stream with the segment from `sequence` of `len` numbers sent, and whether it ends where all that was sent ends,
    /// or behind that, and begins within the window: what [`place_segment`](Self::place_segment) lets in and
    /// [`sent`](Self::sent) remembers, as far as it needs no care. Else the stream is of no use.
    #[inline(always)]
    pub(crate) const fn next_to(self, sequence: SeqNumber, len: u32) -> (Self, bool) {
        // Backwards is far beyond every window.
        let begin = sequence.get().wrapping_sub(self.acknowledged);
        let end = begin.wrapping_add(len);
        let fits = (begin <= 1 << (self.packed >> FLIGHT_BITS)) & (end >= self.flight()) & (end <= FLIGHT_MAX);
        (Self { acknowledged: self.acknowledged, packed: self.packed & !FLIGHT_MAX | end & FLIGHT_MAX }, fits)
    }

    /// The stream acknowledged up to there and offered `window`, and whether nothing unsent, and nothing again, is
    /// acknowledged and the window is none larger than before: what
    /// [`place_acknowledgment`](Self::place_acknowledgment) lets in and [`acknowledge`](Self::acknowledge) and
    /// [`offered`](Self::offered) remember, as far as it needs no care. Else the stream is of no use.
    #[inline(always)]
    pub(crate) const fn acknowledged_to(self, acknowledgment: SeqNumber, window: u32) -> (Self, bool) {
        let advance = acknowledgment.get().wrapping_sub(self.acknowledged);
        let fits = (advance <= self.flight()) & (window <= 1 << (self.packed >> FLIGHT_BITS));
        (Self { acknowledged: acknowledgment.get(), packed: self.packed.wrapping_sub(advance) }, fits)
    }

    const fn set_flight(&mut self, flight: u32) {
        self.packed = self.packed & !FLIGHT_MAX | flight & FLIGHT_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn seq(value: u32) -> SeqNumber {
        SeqNumber::new(value)
    }

    #[test]
    fn a_window_is_kept_as_the_next_power_of_two_and_never_shrinks() {
        let mut stream = Stream::starting(seq(100), 0);
        for (offered, kept) in [(0, 0), (1, 0), (2, 2), (1_000, 1_024), (1_024, 1_024), (64, 1_024), (65_535, 65_536)] {
            stream.offered(offered);
            assert_eq!(stream.window(), kept, "{offered}");
        }
        stream.offered(65_535 << 14);
        assert_eq!(stream.window(), 1 << 30);
        stream.offered(u32::MAX);
        assert!(!stream.is_unbounded());
        assert_eq!((stream.acknowledged(), stream.end()), (seq(100), seq(100)));
    }

    #[test]
    fn end_stays_exact_with_more_in_flight_than_fits() {
        let mut stream = Stream::starting(seq(u32::MAX - 5), 1);
        stream.offered(1 << 30);
        stream.sent(seq(200_000_000));
        assert_eq!(stream.end(), seq(200_000_000));
        assert!(stream.is_strained());
        stream.acknowledge(seq(200_000_000));
        assert_eq!((stream.flight(), stream.acknowledged()), (0, seq(200_000_000)));
    }

    #[test]
    fn only_what_was_sent_can_be_acknowledged() {
        let mut stream = Stream::starting(seq(10), 5);
        stream.offered(1_000);
        assert_eq!(stream.place_acknowledgment(seq(15)), Place::Inside);
        assert_eq!(stream.place_acknowledgment(seq(16)), Place::Beyond);
        stream.acknowledge(seq(16));
        assert_eq!(stream.acknowledged(), seq(10));
        stream.acknowledge(seq(13));
        assert_eq!((stream.acknowledged(), stream.flight()), (seq(13), 2));
        stream.acknowledge(seq(11));
        assert_eq!((stream.acknowledged(), stream.end()), (seq(13), seq(15)));
    }

    #[test]
    fn an_unbounded_stream_adopts_what_it_is_told() {
        let mut stream = Stream::unbounded(seq(10), 0);
        assert_eq!(stream.place_acknowledgment(seq(1_000_000)), Place::Inside);
        stream.acknowledge(seq(1_000_000));
        assert_eq!(stream.end(), seq(1_000_000));
        stream.offered(5_000);
        assert!(stream.is_unbounded());
    }

    proptest! {
        /// What the short ways accept, the long ways accept and remember alike.
        #[test]
        fn the_short_ways_agree_with_the_long_ones(
            first: u32, flight in 0..=FLIGHT_MAX, exponent in 0..=31_u32, near in -300_000..300_000_i64, len in 0..70_000_u32,
            window in prop_oneof![0..70_000_u32, any::<u32>().prop_map(|window| window >> 2)], at_end: bool,
        ) {
            let stream = Stream { acknowledged: first, packed: exponent << FLIGHT_BITS | flight };
            let from = if at_end { i64::from(flight) } else { 0 };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32")]
            let number = seq(first.wrapping_add((from + near / 100 * (near & 1)) as u32));
            let (short, fits) = stream.next_to(number, len);
            if fits {
                prop_assert_eq!(stream.place_segment(number, len), Place::Inside);
                let mut long = stream;
                long.sent(number.add(len));
                prop_assert_eq!(short, long);
            }
            prop_assert!(fits || number != stream.end() || flight + len > FLIGHT_MAX || flight > 1 << exponent);
            let (short, fits) = stream.acknowledged_to(number, window);
            if fits {
                prop_assert_eq!(stream.place_acknowledgment(number), Place::Inside);
                let mut long = stream;
                long.acknowledge(number);
                long.offered(window);
                prop_assert_eq!(short, long);
            }
            prop_assert!(fits || number != stream.end() || window > 1 << exponent);
        }

        /// Against plain 64-bit arithmetic: end and acknowledged are exact below 128 MiB in flight, and end always.
        #[test]
        fn agrees_with_unwrapped_arithmetic(start: u32, steps in prop::collection::vec((any::<bool>(), 0_u64..100_000_000), 1..60)) {
            let (mut acknowledged, mut end) = (u64::from(start), u64::from(start));
            let mut stream = Stream::starting(seq(start), 0);
            stream.offered(1 << 30);
            #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are taken modulo 2^32")]
            let wrap = |value: u64| seq(value as u32);
            for (send, amount) in steps {
                if send && end + amount - acknowledged < 1 << 30 {
                    end += amount;
                    stream.sent(wrap(end));
                } else if !send {
                    acknowledged += amount.min(end - acknowledged);
                    stream.acknowledge(wrap(acknowledged));
                }
                prop_assert_eq!(stream.end(), wrap(end));
                if !stream.is_strained() && stream.acknowledged() != wrap(acknowledged) {
                    // It was strained: still an upper bound.
                    prop_assert!(stream.acknowledged().after(wrap(acknowledged)));
                }
                if end - acknowledged < u64::from(FLIGHT_MAX) && stream.acknowledged() == wrap(acknowledged) {
                    prop_assert_eq!(u64::from(stream.flight()), end - acknowledged);
                }
                prop_assert_eq!(stream.place_segment(wrap(acknowledged), 1), Place::Inside);
                prop_assert_eq!(stream.place_acknowledgment(wrap(acknowledged)), Place::Inside);
            }
        }
    }
}
