//! When the next packet is due: a rate in packets a second against the time stamp counter. The trial asks once a turn how
//! many are owed by now; a generator that falls behind catches up by little bursts only, and what it cannot make up for is
//! counted as late, so that a rate the generator did not reach is never taken for one the appliance was offered.

/// Packets that may be owed at once. More would arrive as one burst that no sender at this rate would make, and fill the
/// receiver's ring for reasons of our own.
const OWED_MAX: u64 = 64;

/// Fractional bits of packets a cycle.
const FRACTION: u32 = 48;

/// A paced series of packets.
#[derive(Clone, Debug)]
pub struct Pace {
    start: u64,
    /// Packets a cycle, with [`FRACTION`] fractional bits.
    per_cycle: u64,
    granted: u64,
    late: u64,
}

impl Pace {
    /// `per_second` packets, beginning when the counter stands at `start`; the counter makes `hertz` cycles a second.
    #[must_use]
    pub fn new(per_second: f64, hertz: f64, start: u64) -> Self {
        let scale = 2_f64.powi(i32::try_from(FRACTION).unwrap_or(0));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and rates are positive"
        )]
        let per_cycle = (per_second / hertz * scale).ceil() as u64;
        Self { start, per_cycle, granted: 0, late: 0 }
    }

    /// How many packets to send now, at most `most`; they count as sent.
    #[inline]
    pub fn due(&mut self, now: u64, most: u64) -> u64 {
        let passed = now.saturating_sub(self.start);
        let planned = (u128::from(passed) * u128::from(self.per_cycle)) >> FRACTION;
        let planned = u64::try_from(planned).unwrap_or(u64::MAX);
        let owed = planned.saturating_sub(self.granted + self.late);
        if owed > OWED_MAX {
            self.late += owed - OWED_MAX;
        }
        let grant = owed.min(OWED_MAX).min(most);
        self.granted += grant;
        grant
    }

    /// Packets that should have been sent and never were, because the generator was late.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Packets granted.
    #[must_use]
    pub const fn granted(&self) -> u64 {
        self.granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERTZ: f64 = 2_596_000_000.0;

    #[test]
    fn the_rate_is_kept_over_a_long_time() {
        for rate in [1.0, 999.0, 1_000_000.0, 14_880_952.0] {
            let mut pace = Pace::new(rate, HERTZ, 1_000);
            let mut now = 1_000;
            let mut sent = 0;
            while now < 1_000 + 2_596_000_000 {
                // Turns of uneven length, far shorter than 64 packets at the highest of these rates.
                now += 1_000 + now % 777;
                sent += pace.due(now, 32);
            }
            assert!((rate * 0.999_9 - 64.0..=rate * 1.000_1 + 1.0).contains(&(sent as f64)), "{rate}: {sent}");
            assert_eq!((pace.late(), pace.granted()), (0, sent));
        }
    }

    #[test]
    fn a_stall_is_not_made_up_for_by_a_flood() {
        let mut pace = Pace::new(1_000_000.0, 1_000_000_000.0, 0);
        assert_eq!(pace.due(10_000, 64), 10);
        // 10 ms in which 10,000 should have gone.
        assert_eq!(pace.due(10_010_000, 32), 32);
        assert_eq!(pace.due(10_010_000, 64), 32);
        assert_eq!(pace.due(10_010_000, 64), 0);
        assert_eq!(pace.late(), 10_000 - 64);
        assert_eq!(pace.due(10_011_000, 64), 1);
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        let mut pace = Pace::new(1e6, 1e9, 5_000);
        assert_eq!(pace.due(0, 64) + pace.due(5_000, 64), 0);
    }
}
