//! TCP sequence numbers. They wrap at 2^32, so order and distance are defined here once (RFC 9293 section 3.4).

use core::fmt;

/// A sequence or acknowledgment number. It is not `Ord`: two numbers are in order only within half the circle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct SeqNumber(u32);

impl SeqNumber {
    /// The sequence number with this value.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value, in host order.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number `count` bytes further on.
    #[must_use]
    pub const fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Bytes from `earlier` to this one; negative when `earlier` is in truth later. Exactly half the circle is negative.
    #[must_use]
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Whether this comes before `other`.
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether this comes after `other`.
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }
}

impl From<u32> for SeqNumber {
    fn from(value: u32) -> Self {
        Self(value)
    }
}

impl fmt::Display for SeqNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let (late, early) = (SeqNumber::new(5), SeqNumber::new(u32::MAX - 4));
        assert_eq!(late.distance(early), 10);
        assert_eq!(early.distance(late), -10);
        assert!(early.before(late) && late.after(early));
        assert!(!early.after(late) && !late.before(early));
        assert_eq!(early.add(10), late);
    }

    #[test]
    fn a_number_is_neither_before_nor_after_itself() {
        let number = SeqNumber::new(7);
        assert!(!number.before(number) && !number.after(number));
    }
}
