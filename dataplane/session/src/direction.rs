//! Which way a packet runs through its session, and the pairs of facts that are kept one for each way.

/// The way a packet runs, seen from who opened the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the side that sent the first packet.
    Original = 0,
    /// From the side that answers.
    Reply = 1,
}

impl Direction {
    /// Both, the original first.
    pub const BOTH: [Self; 2] = [Self::Original, Self::Reply];

    /// The other way.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }

    /// 0 for the original, 1 for the reply direction.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The direction with this lowest bit; other bits are ignored.
    pub(crate) const fn from_bit(bits: u32) -> Self {
        if bits & 1 == 0 { Self::Original } else { Self::Reply }
    }

    /// What belongs to this direction in a pair.
    ///
    /// Found by its place, not by a choice between two: directions come in no order.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "one bit is within two")]
    pub const fn of<T>(self, pair: &[T; 2]) -> &T {
        &pair[self as usize & 1]
    }

    /// What belongs to this direction in a pair, to change it.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "one bit is within two")]
    pub const fn of_mut<T>(self, pair: &mut [T; 2]) -> &mut T {
        &mut pair[self as usize & 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_read_by_direction() {
        let mut pair = [1, 2];
        *Direction::Reply.of_mut(&mut pair) = 3;
        assert_eq!(pair, [1, 3]);
        for direction in Direction::BOTH {
            assert_eq!(direction.opposite().opposite(), direction);
            assert_eq!(*direction.of(&pair), pair[direction.index()]);
            assert_eq!(Direction::from_bit(u32::from(direction as u8)), direction);
        }
    }
}
