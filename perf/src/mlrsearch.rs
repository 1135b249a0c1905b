//! The highest rate a device keeps under a loss, found as `MLRsearch` does (draft-ietf-bmwg-mlrsearch): short trials far
//! from the answer, long ones near it, all goals (no loss, a little loss) from the same trials. In the last phase a load is
//! judged by the majority of its trials, so that one stall of a machine that does other things too does not decide; with
//! one trial a load it is the binary search of RFC 2544 section 26.1. Pure: trials are a function the caller gives.

use std::time::Duration;

use crate::statistics::precise;

/// The phases: the length of their trials as a share of the last phase's, and how much wider bounds may stay.
const PHASES: [(f64, f64); 3] = [(0.1, 4.0), (0.3, 2.0), (1.0, 1.0)];

/// A generator that offers less than this share of what it is asked for is at its limit.
const REACHED_MIN: f64 = 0.9;

/// One trial's outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Packets (or connections) offered.
    pub offered: u64,
    /// Of those, lost.
    pub lost: u64,
    /// The share of the rate asked for that the generator really offered.
    pub reached: f64,
}

/// What is searched for, and how long it may take.
#[derive(Clone, Debug)]
pub struct Search {
    /// The lowest rate of interest, a second.
    pub least: f64,
    /// The highest.
    pub most: f64,
    /// The share of loss that each goal allows, least first: 0 for the no-drop rate.
    pub goals: Vec<f64>,
    /// How close lower and upper bound have to come, as a share of the upper.
    pub width: f64,
    /// Length of the last phase's trials.
    pub trial: Duration,
    /// Trials of the last phase that judge a load.
    pub majority: usize,
    /// Trials for one goal, at most; what is not settled then keeps the bounds it has.
    pub trials_max: usize,
}

/// What was found for one goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The highest rate that kept the goal; 0 when even the lowest missed it.
    pub lower: f64,
    /// The lowest rate that missed it; infinite when none did.
    pub upper: f64,
    /// What was really offered in the trials of `lower`, a second: a little less where the generator stumbled.
    pub offered: f64,
    /// Whether the generator held the rate down: the device can do more.
    pub generator_limited: bool,
}

impl Bounds {
    const UNKNOWN: Self = Self { lower: 0.0, upper: f64::INFINITY, offered: 0.0, generator_limited: false };
}

/// The trials made at one rate and length.
#[derive(Clone, Debug)]
struct Load {
    rate: f64,
    length: Duration,
    losses: Vec<f64>,
    /// The shares the generator reached, summed over the trials.
    reached: f64,
}

/// What a load's trials say of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Kept, with this rate really offered.
    Kept(f64),
    /// Kept, at the most the generator can offer.
    KeptShort(f64),
    Missed,
}

/// A search under way.
struct Hunt<'a, F> {
    search: &'a Search,
    measure: F,
    loads: Vec<Load>,
    left: usize,
}

impl Search {
    /// Searches. `measure` runs one trial at a rate for a time; bounds come back in the order of the goals.
    ///
    /// # Errors
    /// What `measure` returns.
    pub fn run<E>(&self, measure: impl FnMut(f64, Duration) -> Result<Measured, E>) -> Result<Vec<Bounds>, E> {
        let mut hunt = Hunt { search: self, measure, loads: Vec::new(), left: 1 };
        // What goes through when far too much is offered is near every answer (the draft's MRR).
        let start = hunt.pass_through()?;
        let mut found = Vec::new();
        for &goal in &self.goals {
            let mut bounds = Bounds::UNKNOWN;
            hunt.left = self.trials_max;
            for (index, (share, wider)) in PHASES.into_iter().enumerate() {
                let majority = if index + 1 == PHASES.len() { self.majority.max(1) } else { 1 };
                let hint = if bounds.lower > 0.0 { bounds.lower } else { start };
                let length = self.trial.mul_f64(share);
                let made = hunt.close_in(goal, length, majority, self.width * wider, hint)?;
                // A phase that ran out of trials before it knew anything leaves what the one before knew.
                if made != Bounds::UNKNOWN {
                    bounds = made;
                }
            }
            found.push(bounds);
        }
        Ok(found)
    }
}

impl<E, F: FnMut(f64, Duration) -> Result<Measured, E>> Hunt<'_, F> {
    fn trial(&mut self, rate: f64, length: Duration) -> Result<Measured, E> {
        self.left = self.left.saturating_sub(1);
        (self.measure)(rate, length)
    }

    fn pass_through(&mut self) -> Result<f64, E> {
        let (least, most) = (self.search.least, self.search.most);
        let length = self.search.trial.mul_f64(PHASES.first().map_or(1.0, |phase| phase.0));
        let measured = self.trial(most, length)?;
        let kept = 1.0 - precise(measured.lost) / precise(measured.offered.max(1));
        Ok((most * measured.reached.min(1.0) * kept).clamp(least, most))
    }

    /// Bounds of `goal` by trials of `length`, from `rate` outwards until there is one on each side, then by halves.
    fn close_in(
        &mut self,
        goal: f64,
        length: Duration,
        majority: usize,
        width: f64,
        mut rate: f64,
    ) -> Result<Bounds, E> {
        let mut bounds = Bounds::UNKNOWN;
        let mut step = width;
        while let Some(verdict) = self.judge(rate, length, majority, goal)? {
            match verdict {
                Verdict::Kept(offered) => (bounds.lower, bounds.offered) = (rate, offered),
                Verdict::KeptShort(offered) => {
                    return Ok(Bounds { lower: offered, offered, generator_limited: true, ..bounds });
                }
                Verdict::Missed => bounds.upper = rate,
            }
            let Bounds { lower, upper, .. } = bounds;
            rate = if upper.is_infinite() {
                if lower >= self.search.most {
                    break;
                }
                (lower * (1.0 + step)).min(self.search.most)
            } else if lower <= 0.0 {
                if upper <= self.search.least {
                    break;
                }
                (upper * (1.0 - step.min(0.5))).max(self.search.least)
            } else if upper - lower <= width * upper {
                break;
            } else {
                f64::midpoint(lower, upper)
            };
            step *= 2.0;
        }
        Ok(bounds)
    }

    /// What the majority of the trials at this rate says, made now or before; `None` when no trials are left.
    fn judge(&mut self, rate: f64, length: Duration, majority: usize, goal: f64) -> Result<Option<Verdict>, E> {
        let known = self.loads.iter().position(|load| load.length == length && (load.rate - rate).abs() < 0.5);
        let mut load = match known {
            Some(place) => self.loads.swap_remove(place),
            None => Load { rate, length, losses: Vec::new(), reached: 0.0 },
        };
        let verdict = loop {
            let kept = load.losses.iter().filter(|&&loss| loss <= goal).count();
            let missed = load.losses.len() - kept;
            if kept > majority / 2 {
                let reached = load.reached / precise(load.losses.len() as u64);
                let offered = rate * reached.min(1.0);
                break Some(if reached < REACHED_MIN { Verdict::KeptShort(offered) } else { Verdict::Kept(offered) });
            }
            if missed > majority / 2 {
                break Some(Verdict::Missed);
            }
            if self.left == 0 {
                break None;
            }
            let measured = self.trial(rate, length)?;
            load.losses.push(precise(measured.lost) / precise(measured.offered.max(1)));
            load.reached += measured.reached;
        };
        self.loads.push(load);
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn search() -> Search {
        Search {
            least: 1_000.0,
            most: 20_000_000.0,
            goals: vec![0.0, 0.005],
            width: 0.01,
            trial: Duration::from_secs(1),
            majority: 3,
            trials_max: 200,
        }
    }

    /// A device that forwards `rate` and keeps `buffer` packets; a generator that offers at most `reach`.
    fn device(rate: f64, buffer: f64, reach: f64) -> impl FnMut(f64, Duration) -> Result<Measured, Infallible> {
        move |load, length| {
            let offered = load.min(reach) * length.as_secs_f64();
            let lost = (offered - rate * length.as_secs_f64() - buffer).max(0.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
            let whole = |value: f64| value as u64;
            Ok(Measured { offered: whole(offered), lost: whole(lost), reached: (reach / load).min(1.0) })
        }
    }

    fn near(found: f64, truth: f64) -> bool {
        (found / truth - 1.0).abs() < 0.012
    }

    #[test]
    fn both_goals_are_found_wherever_the_truth_lies() {
        for rate in [2_000.0, 77_777.0, 1_234_567.0, 9_999_999.0] {
            let mut trials = 0;
            let mut device = device(rate, 0.0, f64::INFINITY);
            let found = search()
                .run(|load, length| {
                    trials += 1;
                    device(load, length)
                })
                .unwrap();
            assert!(
                near(found[0].lower, rate) && found[0].lower <= rate && found[0].upper >= rate,
                "{rate}: {found:?}"
            );
            // 0.5 % lost means that 0.995 of the load is the device's rate.
            assert!(near(found[1].lower, rate / 0.995), "{rate}: {found:?}");
            assert!(found.iter().all(|bounds| bounds.upper - bounds.lower <= 0.0101 * bounds.upper), "{found:?}");
            assert!(!found.iter().any(|bounds| bounds.generator_limited) && trials < 90, "{rate}: {trials}");
        }
    }

    #[test]
    fn short_trials_are_not_believed_when_a_buffer_hides_the_loss() {
        // The buffer swallows what a tenth of a second loses, not what a second does.
        let found = search().run(device(1_000_000.0, 20_000.0, f64::INFINITY)).unwrap();
        assert!(near(found[0].lower, 1_020_000.0), "{found:?}");
    }

    #[test]
    fn a_stall_now_and_then_does_not_decide() {
        let mut device = device(3_000_000.0, 0.0, f64::INFINITY);
        let mut trials = 0_u32;
        let found = search()
            .run(|load, length| {
                trials += 1;
                let mut measured = device(load, length)?;
                if trials.is_multiple_of(5) && length == Duration::from_secs(1) {
                    measured.lost += measured.offered / 50;
                }
                Ok::<_, Infallible>(measured)
            })
            .unwrap();
        assert!(near(found[0].lower, 3_000_000.0), "{found:?}");
    }

    #[test]
    fn the_generators_own_limit_is_told_apart() {
        let found = search().run(device(9_000_000.0, 0.0, 4_000_000.0)).unwrap();
        assert!(found.iter().all(|bounds| bounds.generator_limited && near(bounds.lower, 4_000_000.0)), "{found:?}");
    }

    #[test]
    fn a_device_that_loses_always_or_never_ends_the_search() {
        let lossy =
            |load: f64, _| Ok::<_, Infallible>(Measured { offered: 100, lost: u64::from(load > 0.0), reached: 1.0 });
        let found = search().run(lossy).unwrap();
        assert_eq!((found[0].lower, found[0].upper), (0.0, 1_000.0));
        let found = search().run(device(1e9, 0.0, f64::INFINITY)).unwrap();
        assert_eq!((found[0].lower, found[0].upper), (20_000_000.0, f64::INFINITY));
    }

    #[test]
    fn the_number_of_trials_is_bounded() {
        let mut trials = 0;
        let mut device = device(1_234_567.0, 0.0, f64::INFINITY);
        let few = Search { trials_max: 12, ..search() };
        let found = few
            .run(|load, length| {
                trials += 1;
                device(load, length)
            })
            .unwrap();
        assert!(trials <= 1 + 2 * 12 && found[0].lower > 1e6, "{trials}: {found:?}");
    }
}
