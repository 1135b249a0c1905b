//! Time on the packet path: nanoseconds since start, read once a burst, and the coarse ticks that sessions are aged by.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Nanoseconds, as a moment since the appliance started or as a span. 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Nanos(u64);

impl Nanos {
    /// The moment of start, or no time at all.
    pub const ZERO: Self = Self(0);

    /// This many nanoseconds.
    #[must_use]
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// This many milliseconds (saturating).
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// This many seconds (saturating).
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The number of nanoseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The span from `earlier` to `self`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// The tick this moment lies in.
    #[must_use]
    pub const fn tick(self) -> Tick {
        Tick(self.0 / Tick::NANOS)
    }
}

impl From<Duration> for Nanos {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(span: Nanos) -> Self {
        Self::from_nanos(span.0)
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, span: Self) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A quarter of a second, counted since start: the resolution of session timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Tick(u64);

impl Tick {
    /// Nanoseconds in a tick.
    pub const NANOS: u64 = 250_000_000;

    /// The tick with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The low 16 bits, as a session remembers when it was last seen. They wrap after 4 h 33 min,
    /// longer than the longest timeout, so the distance to a tick that a session remembers is never ambiguous.
    #[must_use]
    pub const fn short(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// Ticks passed since the recent tick whose low 16 bits are `short`.
    #[must_use]
    pub const fn since_short(self, short: u16) -> u16 {
        self.short().wrapping_sub(short)
    }

    /// The tick `span` later, rounded up so that nothing ends early.
    #[must_use]
    pub const fn after(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0.div_ceil(Self::NANOS)))
    }

    /// The moment this tick begins.
    #[must_use]
    pub const fn start(self) -> Nanos {
        Nanos(self.0.saturating_mul(Self::NANOS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_round_up_so_that_nothing_ends_early() {
        assert_eq!(Tick::new(4).after(Nanos::new(1)), Tick::new(5));
        assert_eq!(Tick::new(4).after(Nanos::from_millis(500)), Tick::new(6));
        assert_eq!(Nanos::from_secs(1).tick(), Tick::new(4));
    }

    #[test]
    fn short_ticks_measure_across_their_wrap() {
        let seen = Tick::new(65_530);
        assert_eq!(Tick::new(65_546).since_short(seen.short()), 16);
    }
}
