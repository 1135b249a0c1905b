//! Cycles from counters, and the few numbers a series of windows is told by. Pure arithmetic over values read elsewhere.

use std::thread;
use std::time::{Duration, Instant};

use dpdk::Clock;
use serde::{Deserialize, Serialize};

/// Cycles of the time stamp counter in a second, measured over a fifth of one.
#[must_use]
pub fn hertz() -> f64 {
    let (started, before) = (Instant::now(), Clock::cycles());
    thread::sleep(Duration::from_millis(200));
    let (cycles, took) = (Clock::cycles().wrapping_sub(before), started.elapsed());
    precise(cycles) / took.as_secs_f64()
}

/// A count as a number to divide: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of packets and cycles of a run stay below 2^53")]
#[must_use]
pub const fn precise(count: u64) -> f64 {
    count as f64
}

/// A stretch of time in which a subject passed packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// How long it was.
    pub seconds: f64,
    /// Packets that came out.
    pub packets: u64,
}

impl Window {
    /// TSC cycles that went by for each packet; infinite without packets.
    #[must_use]
    pub fn cycles_per_packet(&self, hertz: f64) -> f64 {
        self.seconds * hertz / precise(self.packets)
    }
}

/// A series of figures, told by the middle and both ends. Disturbance only ever raises a cost, so where a machine does
/// other things too, the low end is nearest the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The lowest.
    pub lowest: f64,
    /// A twentieth are lower or the same.
    pub p5: f64,
    /// The middle one.
    pub median: f64,
    /// A twentieth are higher or the same.
    pub p95: f64,
    /// How many there were.
    pub count: usize,
}

impl Figures {
    /// Of these figures; those that are no numbers are left out, and without any all is zero.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        // The nearest rank, counted from both ends alike.
        let at = |twentieths: usize| {
            let rank = (sorted.len().saturating_sub(1) * twentieths + 10) / 20;
            sorted.get(rank).copied().unwrap_or_default()
        };
        Self { lowest: at(0), p5: at(1), median: at(10), p95: at(19), count: sorted.len() }
    }

    /// Of the cycles a packet cost in each window.
    #[must_use]
    pub fn of_windows(windows: &[Window], hertz: f64) -> Self {
        Self::of(windows.iter().map(|window| window.cycles_per_packet(hertz)))
    }

    /// How far the ends are apart, as a share of the middle: the disturbance, where nothing else changed.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.median > 0.0 { (self.p95 - self.p5) / self.median } else { 0.0 }
    }

    /// What is left when the other's cost is taken off, middle from middle and low end from low end.
    #[must_use]
    pub fn less(&self, other: &Self) -> Net {
        Net { median: self.median - other.median, p5: self.p5 - other.p5 }
    }
}

/// Cycles a packet above another subject's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Net {
    /// Between the middles.
    pub median: f64,
    /// Between the low ends.
    pub p5: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_told_by_its_middle_and_its_ends() {
        let hundred_and_one = (0..=100).rev().map(f64::from);
        let expected = Figures { lowest: 0.0, p5: 5.0, median: 50.0, p95: 95.0, count: 101 };
        assert_eq!(Figures::of(hundred_and_one), expected);
        let three = Figures::of([9.0, 1.0, 3.0]);
        assert_eq!((three.lowest, three.p5, three.median, three.p95), (1.0, 1.0, 3.0, 9.0));
        assert_eq!(Figures::of([]), Figures::default());
        assert_eq!(Figures::of([f64::NAN, f64::INFINITY, 2.0]).median, 2.0);
    }

    #[test]
    fn a_window_without_packets_counts_for_nothing() {
        let windows =
            [Window { seconds: 0.1, packets: 1_000_000 }, Window { seconds: 0.1, packets: 0 }, Window::default()];
        let figures = Figures::of_windows(&windows, 2.0e9);
        assert_eq!((figures.count, figures.median), (1, 200.0));
    }

    #[test]
    fn net_is_taken_middle_from_middle_and_end_from_end() {
        let base = Figures::of([20.0, 22.0, 30.0]);
        let total = Figures::of([70.0, 75.0, 99.0]);
        assert_eq!(total.less(&base), Net { median: 53.0, p5: 50.0 });
        assert!((base.spread() - 10.0 / 22.0).abs() < 1e-12);
        assert_eq!(Figures::default().spread(), 0.0);
    }

    #[test]
    fn the_counter_runs() {
        assert!(hertz() > 1.0e8);
    }
}
