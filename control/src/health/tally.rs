//! Answers and misses in a row, and the health they make. A pure state machine: no clock, no socket.
//!
//! ```text
//!            rise answers in a row              fall misses in a row
//! Unknown ------------------------> Up      Unknown, Up ------------------------> Failed
//! Failed  ------------------------> Up
//! ```

use stage::balancer::Health;

/// The standing of one target (SE-85, SE-87).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    health: Health,
    /// Probes in a row that spoke against `health`; for `Unknown`, that agreed with each other.
    streak: u32,
    last: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self { health: Health::Unknown, streak: 0, last: false }
    }
}

impl Tally {
    /// The health as it stands.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one probe into account: `rise` answers in a row make up, `fall` misses in a row make failed (both at least
    /// 1). Returns whether the health changed.
    pub fn record(&mut self, answered: bool, rise: u32, fall: u32) -> bool {
        let towards = if answered { Health::Up } else { Health::Failed };
        if self.health == towards {
            self.streak = 0;
            return false;
        }
        self.streak = if answered == self.last { self.streak.saturating_add(1) } else { 1 };
        self.last = answered;
        if self.streak < if answered { rise } else { fall } {
            return false;
        }
        *self = Self { health: towards, streak: 0, last: answered };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs probes (`+` answered, `-` missed) and returns the health after each (`?` unknown, `U` up, `F` failed).
    fn after(probes: &str, rise: u32, fall: u32) -> String {
        let mut tally = Tally::default();
        probes
            .chars()
            .map(|probe| {
                tally.record(probe == '+', rise, fall);
                match tally.health() {
                    Health::Unknown => '?',
                    Health::Up => 'U',
                    Health::Failed => 'F',
                }
            })
            .collect()
    }

    #[test]
    fn rise_answers_make_up_and_fall_misses_make_failed() {
        for (probes, healths, rise, fall) in [
            ("+++", "?UU", 2, 3),
            ("+---+++", "???FFUU", 2, 3),
            ("-+-+-+", "??????", 2, 2),
            ("---", "??F", 2, 3),
            ("++--+--+", "?UUUUUUU", 2, 3),
            ("++---+-++", "?UUUFFFFU", 2, 3),
            ("+-+-", "UFUF", 1, 1),
        ] {
            assert_eq!(after(probes, rise, fall), healths, "{probes} rise {rise} fall {fall}");
        }
    }

    #[test]
    fn a_change_is_told_once() {
        let mut tally = Tally::default();
        let changes: Vec<_> =
            [true, true, true, false, false, false].map(|answered| tally.record(answered, 2, 2)).into();
        assert_eq!(changes, [false, true, false, false, true, false]);
    }

    /// FOV-07: a backend that goes up and down a hundred times in ten seconds, probed a hundred times meanwhile: however its
    /// probes fall, its health (and with it the tables) changes once for `rise` and `fall` probes together at most, and not
    /// at all when no two probes agree.
    #[test]
    fn a_flapping_backend_changes_no_more_often_than_its_probes_agree() {
        for (rise, fall) in [(1, 1), (2, 2), (2, 3), (3, 3)] {
            for pace in 1..=10 {
                let mut tally = Tally::default();
                let changes = (0..100).filter(|probe| tally.record(probe / pace % 2 == 0, rise, fall)).count();
                let bound = 1 + 2 * 100 / usize::try_from(rise + fall).unwrap();
                assert!(changes <= bound, "{changes} changes, rise {rise}, fall {fall}, {pace} probes alike");
                assert!(rise == 1 || pace > 1 || changes == 0, "{changes} changes while no two agree");
            }
        }
    }

    proptest::proptest! {
        /// SE-85, SE-87 as an oracle: the health follows from the last run that was long enough.
        #[test]
        fn the_health_is_that_of_the_last_long_run(
            probes in proptest::collection::vec(proptest::bool::ANY, 0..64),
            rise in 1u32..5,
            fall in 1u32..5,
        ) {
            let mut tally = Tally::default();
            let (mut oracle, mut run, mut last) = (Health::Unknown, 0, None);
            for answered in probes {
                run = if last == Some(answered) { run + 1 } else { 1 };
                last = Some(answered);
                if answered && run >= rise { oracle = Health::Up; }
                if !answered && run >= fall { oracle = Health::Failed; }
                tally.record(answered, rise, fall);
                proptest::prop_assert_eq!(tally.health(), oracle);
            }
        }
    }
}
