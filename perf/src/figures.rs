//! Cycles from rates, and the numbers a series is told by.

use std::thread;
use std::time::{Duration, Instant};

/// Cycles of the time stamp counter in a second, measured over a fifth of one.
#[must_use]
pub fn hertz() -> f64 {
    let (started, before) = (Instant::now(), counter());
    thread::sleep(Duration::from_millis(200));
    let (took, cycles) = (started.elapsed(), counter().wrapping_sub(before));
    precise(cycles) / took.as_secs_f64()
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    // Elsewhere figures are in nanoseconds.
    u64::try_from(Instant::now().duration_since(start()).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(not(target_arch = "x86_64"))]
fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A count as a number to divide: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of packets and cycles of a run stay below 2^53")]
#[must_use]
pub const fn precise(count: u64) -> f64 {
    count as f64
}

/// The middle and the lowest of some figures. On a machine that does other things too, the lowest is nearest the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Series {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
}

impl Series {
    /// Of these figures; zeroes when there are none.
    #[must_use]
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let median = figures.get(figures.len() / 2).copied().unwrap_or_default();
        Self { median, lowest: figures.first().copied().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_told_by_its_middle_and_its_lowest() {
        assert_eq!(Series::of(vec![3.0, 1.0, 9.0]), Series { median: 3.0, lowest: 1.0 });
        assert_eq!(Series::of(Vec::new()), Series::default());
    }
}
