//! How long packets were under way, in cycles: an HDR histogram, three digits exact, and the words for it. Made before a
//! trial and filled during it without allocating.

use std::fmt;

use hdrhistogram::Histogram;

/// The longest time told apart: about 4 s at 2.6 GHz; what takes longer counts as this.
const CYCLES_MAX: u64 = 10_000_000_000;

/// Times under way.
#[derive(Clone)]
pub struct Latency {
    cycles: Histogram<u64>,
    hertz: f64,
}

impl Latency {
    /// An empty one, of a counter that makes `hertz` cycles a second.
    ///
    /// # Errors
    /// Never with these bounds; the histogram's own words otherwise.
    pub fn new(hertz: f64) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self { cycles: Histogram::new_with_bounds(1, CYCLES_MAX, 3)?, hertz })
    }

    /// Counts one packet.
    #[inline]
    pub fn record(&mut self, cycles: u64) {
        self.cycles.saturating_record(cycles.max(1));
    }

    /// Packets counted.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.cycles.len()
    }

    /// The time that this share of the packets (0 to 100) did not exceed, in microseconds.
    #[must_use]
    pub fn percentile_us(&self, percent: f64) -> f64 {
        self.micros(self.cycles.value_at_percentile(percent))
    }

    /// The longest, in microseconds.
    #[must_use]
    pub fn max_us(&self) -> f64 {
        self.micros(self.cycles.max())
    }

    /// Points of the distribution for a plot: share of packets in percent, and microseconds; denser towards the slowest.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let steps = self.cycles.iter_quantiles(5);
        steps.map(|step| (step.quantile() * 100.0, self.micros(step.value_iterated_to()))).collect()
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing of the other can be out of range.
        let _ = self.cycles.add(&other.cycles);
    }

    fn micros(&self, cycles: u64) -> f64 {
        crate::statistics::precise(cycles) / self.hertz * 1e6
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency").field("packets", &self.packets()).field("max_us", &self.max_us()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_packets_are_told_in_microseconds() {
        let mut latency = Latency::new(2e9).unwrap();
        for micros in 1..=1_000 {
            latency.record(micros * 2_000);
        }
        latency.record(u64::MAX);
        assert_eq!(latency.packets(), 1_001);
        assert!((latency.percentile_us(50.0) - 501.0).abs() < 2.0, "{latency:?}");
        assert!((latency.percentile_us(99.0) - 991.0).abs() < 2.0, "{latency:?}");
        assert!((latency.max_us() - 5e6).abs() < 1e4, "{latency:?}");
        let mut twice = latency.clone();
        twice.add(&latency);
        assert_eq!(twice.packets(), 2_002);
        assert!(latency.curve().is_sorted());
    }

    #[test]
    fn nothing_measured_is_nothing() {
        let latency = Latency::new(2e9).unwrap();
        assert_eq!((latency.packets(), latency.percentile_us(99.9)), (0, 0.0));
    }
}
