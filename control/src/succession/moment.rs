//! Moments that two processes agree about: by the time since the machine was started, which no clock set by hand disturbs, and where it
//! was started anew meanwhile, by the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use units::Nanos;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The start of the machine it lies in, as the kernel calls it; 0 where that is not known.
    pub(super) boot: u128,
    /// Since that start, the time it slept included.
    pub(super) up: Nanos,
    /// Since 1970.
    pub(super) wall: Nanos,
}

/// The number of a boot as the kernel writes it.
fn boot_of(text: &str) -> u128 {
    let digits: String = text.trim().chars().filter(|&letter| letter != '-').collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let up = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(up.tv_sec).unwrap_or(0);
        let more = u64::try_from(up.tv_nsec).unwrap_or(0);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { boot: boot_of(&boot), up: Nanos::from_secs(seconds) + Nanos::new(more), wall: wall.into() }
    }

    /// The time since an earlier one; `None` when that lies ahead, because the wall clock was set back.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Nanos> {
        let (now, then) =
            if self.boot == earlier.boot && self.boot != 0 { (self.up, earlier.up) } else { (self.wall, earlier.wall) };
        (now >= then).then(|| now.since(then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_counts_only_across_starts_of_the_machine() {
        let at = |boot, up, wall| Moment { boot, up: Nanos::new(up), wall: Nanos::new(wall) };
        for (now, then, span) in [
            (at(7, 50, 10), at(7, 20, 999), Some(30)),
            (at(7, 50, 10), at(7, 51, 5), None),
            (at(8, 50, 1_000), at(7, 900, 400), Some(600)),
            (at(8, 950, 300), at(7, 900, 400), None),
            (at(0, 50, 1_000), at(0, 20, 400), Some(600)),
        ] {
            assert_eq!(now.since(&then), span.map(Nanos::new), "{now:?} {then:?}");
        }
    }

    #[test]
    fn this_machine_knows_its_moments() {
        let (first, second) = (Moment::now(), Moment::now());
        assert!(first.boot != 0 && second.since(&first).is_some_and(|span| span < Nanos::from_secs(3_600)));
        assert_eq!(boot_of("0f6c1a1e-0000-0000-0000-000000000001\n") & 0xff, 1);
        assert_eq!(boot_of("nonsense"), 0);
    }
}
