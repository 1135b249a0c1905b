//! A token bucket in one atomic word, by the generic cell rate algorithm (ITU-T I.371, the virtual scheduling form):
//! the word is the moment up to which the bucket's tokens are spent. Taking a token moves it one interval on; it may
//! run ahead of the clock by the burst, one second's worth of tokens. Nothing has to refill it, and any worker may
//! take.

use core::sync::atomic::{AtomicU64, Ordering};

use units::limits::WORKERS_MAX;
use units::{Nanos, PerSecond};

/// Parts of a nanosecond that moments are kept in, so that intervals of high rates are exact enough: at 100 million a
/// second the error is below one percent. 64 bits last 36 years.
const PARTS: u64 = 16;

/// A rate, ready for buckets. The burst is one second's worth: a full bucket gives as many tokens at once as the rate
/// gives in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two tokens, in parts of a nanosecond, rounded up so that a rate is never exceeded.
    interval: u64,
    /// How far spending may run ahead of the clock, in parts of a nanosecond.
    window: u64,
}

impl Rate {
    /// So many tokens in a second; a rate of 0 gives none.
    #[must_use]
    pub const fn new(rate: PerSecond) -> Self {
        let tokens = rate.get() as u64;
        if tokens == 0 {
            return Self { interval: 1, window: 0 };
        }
        let interval = (Nanos::from_secs(1).get() * PARTS).div_ceil(tokens);
        Self { interval, window: interval * tokens }
    }

    /// Takes a token from a bucket spent up to `spent` (0 for a full one): what it is spent up to then, or `None` when
    /// it has no token left.
    #[must_use]
    pub const fn take(self, spent: u64, now: Nanos) -> Option<u64> {
        let now = now.get().saturating_mul(PARTS);
        let from = if spent > now { spent } else { now };
        let spent = from.saturating_add(self.interval);
        if spent - now <= self.window { Some(spent) } else { None }
    }
}

/// A bucket that workers share. The rate comes with each call, so a bucket outlives a change of its rate.
#[derive(Debug, Default)]
pub struct TokenBucket {
    /// As [`Rate::take`] has it.
    spent: AtomicU64,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new() -> Self {
        Self { spent: AtomicU64::new(0) }
    }

    /// Takes one token, if there is one. Workers whose clocks differ a little may share it: an earlier `now` finds the
    /// bucket no fuller.
    ///
    /// Refusing writes nothing. Should every other worker get in between [`WORKERS_MAX`] times, it refuses too.
    #[must_use]
    pub fn take(&self, rate: Rate, now: Nanos) -> bool {
        let mut spent = self.spent.load(Ordering::Relaxed);
        for _ in 0..WORKERS_MAX {
            let Some(next) = rate.take(spent, now) else { return false };
            match self.spent.compare_exchange_weak(spent, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => spent = seen,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const NOW: Nanos = Nanos::from_secs(1_000);

    fn taken(bucket: &TokenBucket, rate: Rate, now: Nanos, attempts: usize) -> usize {
        (0..attempts).filter(|_| bucket.take(rate, now)).count()
    }

    #[test]
    fn a_full_bucket_gives_one_seconds_worth_at_once() {
        for tokens in [1, 2, 3, 7, 20, 999, 1_000, 65_537] {
            let rate = Rate::new(PerSecond::new(tokens));
            let bucket = TokenBucket::new();
            assert_eq!(taken(&bucket, rate, NOW, tokens as usize + 50), tokens as usize, "{tokens} a second");
            assert_eq!(taken(&bucket, rate, NOW + Nanos::from_secs(5), tokens as usize + 50), tokens as usize);
        }
    }

    #[test]
    fn an_empty_bucket_fills_at_its_rate() {
        let rate = Rate::new(PerSecond::new(10));
        let bucket = TokenBucket::new();
        taken(&bucket, rate, NOW, 10);
        assert_eq!(taken(&bucket, rate, NOW + Nanos::from_millis(99), 10), 0);
        assert_eq!(taken(&bucket, rate, NOW + Nanos::from_millis(100), 10), 1);
        assert_eq!(taken(&bucket, rate, NOW + Nanos::from_millis(400), 10), 3);
    }

    #[test]
    fn a_rate_of_zero_gives_nothing() {
        assert_eq!(taken(&TokenBucket::new(), Rate::new(PerSecond::new(0)), NOW, 3), 0);
    }

    #[test]
    fn the_highest_rate_works() {
        assert_eq!(taken(&TokenBucket::new(), Rate::new(PerSecond::new(u32::MAX)), NOW, 1_000), 1_000);
    }

    #[test]
    fn an_earlier_clock_finds_the_bucket_no_fuller() {
        let rate = Rate::new(PerSecond::new(5));
        let bucket = TokenBucket::new();
        assert_eq!(taken(&bucket, rate, NOW, 5), 5);
        assert_eq!(taken(&bucket, rate, NOW - Nanos::from_millis(300), 5), 0);
        assert_eq!(taken(&bucket, rate, Nanos::ZERO, 5), 0);
    }

    #[test]
    fn the_clock_may_stand_at_its_ends() {
        let rate = Rate::new(PerSecond::new(5));
        assert_eq!(taken(&TokenBucket::new(), rate, Nanos::ZERO, 9), 5);
        let bucket = TokenBucket::new();
        assert!(bucket.take(rate, Nanos::new(u64::MAX)));
    }

    #[test]
    fn workers_together_take_no_more_than_one_would() {
        let rate = Rate::new(PerSecond::new(1_000));
        let bucket = TokenBucket::new();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| total.fetch_add(taken(&bucket, rate, NOW, 5_000), Ordering::Relaxed));
            }
        });
        assert_eq!(total.into_inner(), 1_000);
    }

    proptest! {
        #[test]
        fn no_span_of_time_gives_more_than_burst_and_rate(
            tokens in 1_u32..2_000_000,
            steps in proptest::collection::vec(0_u64..50_000_000, 1..400),
        ) {
            let rate = Rate::new(PerSecond::new(tokens));
            let bucket = TokenBucket::new();
            let mut now = NOW;
            let mut taken_at = Vec::new();
            for step in steps {
                now = now + Nanos::new(step);
                if bucket.take(rate, now) {
                    taken_at.push(now);
                }
            }
            for (place, &start) in taken_at.iter().enumerate() {
                for (count, &end) in (1_u128..).zip(&taken_at[place..]) {
                    let span = u128::from(end.since(start).get());
                    let may = u128::from(tokens) + u128::from(tokens) * span / 1_000_000_000;
                    prop_assert!(count <= may, "{count} of {may} in {span} ns");
                }
            }
        }

        #[test]
        fn a_sender_within_its_rate_is_not_refused(tokens in 2_u32..1_000_000, early in any::<u64>()) {
            let rate = Rate::new(PerSecond::new(tokens));
            let bucket = TokenBucket::new();
            let interval = 1_000_000_000_u64.div_ceil(u64::from(tokens));
            for number in 0..300 {
                let jitter = if early >> (number % 64) & 1 == 1 { interval / 2 } else { 0 };
                prop_assert!(bucket.take(rate, NOW + Nanos::new(number * interval) - Nanos::new(jitter)));
            }
        }
    }
}
