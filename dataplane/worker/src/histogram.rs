//! How often what was: counts in buckets whose width is a quarter of their power of two, so that every value is known to an
//! eighth. Written by one worker, read by management at any time; the size is fixed, whatever comes.

use crate::counters::Counter;

/// Buckets to a power of two.
const PARTS: u32 = 4;
const PART_BITS: u32 = PARTS.trailing_zeros();

/// Values from here on are counted in the last bucket: in nanoseconds, 68 seconds.
const POWERS: u32 = 36;

/// Buckets there are.
const BUCKETS: usize = (PARTS * (POWERS - PART_BITS + 1)) as usize;

/// Counts of values.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: core::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

/// The bucket of a value.
fn place(value: u64) -> usize {
    let power = value.checked_ilog2().unwrap_or(0);
    if power < PART_BITS {
        return usize::try_from(value).unwrap_or(0);
    }
    let part = (value >> (power - PART_BITS)) & u64::from(PARTS - 1);
    let first = PARTS * (power - PART_BITS + 1);
    usize::try_from(u64::from(first) + part).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn largest(place: usize) -> u64 {
    let place = place as u64;
    let (row, part) = (place / u64::from(PARTS), place % u64::from(PARTS));
    match row.checked_sub(1) {
        None => part,
        Some(shift) => ((u64::from(PARTS) + part + 1) << shift) - 1,
    }
}

impl Histogram {
    /// Counts `times` times the value; only the owning worker calls this.
    pub fn add(&self, value: u64, times: u64) {
        if let Some(bucket) = self.buckets.get(place(value)) {
            bucket.add(times);
        }
        self.sum.add(value.saturating_mul(times));
    }

    /// The buckets with anything in them: the largest value of each, and its count.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let all = self.buckets.iter().enumerate().map(|(place, count)| (largest(place), count.get()));
        all.filter(|(_, count)| *count > 0)
    }

    /// All values together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_ends_at_or_above_it() {
        let values = (0..2_000).chain((0..36).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1]));
        for value in values {
            let place = place(value);
            assert!(value <= largest(place), "{value} in {place}");
            assert!(place == 0 || value > largest(place - 1), "{value} in {place}");
            assert!(largest(place) - value <= value / 4, "{value} is told as {}", largest(place));
        }
        assert_eq!(place(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn counts_and_sum_are_of_what_was_added() {
        let histogram = Histogram::default();
        histogram.add(3, 2);
        histogram.add(1_000, 5);
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [(3, 2), (1_023, 5)]);
        assert_eq!(histogram.sum(), 5_006);
    }
}
