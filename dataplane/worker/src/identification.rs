//! Fresh IP identifications for datagrams that leave in pieces under another address than their sender's: two senders behind
//! one address number their datagrams without knowing of each other, and a receiver would mix their pieces (RFC 6864 section
//! 5.3). Of a worker; the numbers of two workers never meet.

use wire::fragment::Example;

use crate::dice::Dice;

/// Counters of IPv4: datagrams to destinations that share one use the numbers up faster, no more.
const COUNTERS: usize = 1_024;

/// Where the numbers of this worker's datagrams come from.
#[derive(Debug)]
pub(crate) struct Identifications {
    secret: u64,
    worker: u32,
    workers: u32,
    v4: Box<[u16]>,
    v6: u32,
}

impl Identifications {
    /// Those of worker `worker` among `workers`; they begin as `dice` falls.
    pub(crate) fn new(worker: usize, workers: usize, dice: &mut Dice) -> Self {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            secret: u64::from(dice.roll()) << 32 | u64::from(dice.roll()),
            worker: narrow(worker),
            workers: narrow(workers).max(1),
            v4: (0..COUNTERS).map(|_| dice.roll_short()).collect(),
            v6: dice.roll(),
        }
    }

    /// The number of the next datagram that leaves as `example` does. Between two that leave with the same addresses and
    /// the same number lie 65,536 others at least, divided by the number of workers.
    pub(crate) fn next(&mut self, example: &Example, is_v6: bool) -> u32 {
        if is_v6 {
            self.v6 = self.v6.wrapping_add(1);
            let rounds = u32::MAX / self.workers;
            return (self.v6 % rounds) * self.workers + self.worker;
        }
        let place = usize::try_from(example.mix(self.secret) >> 54).unwrap_or(0);
        let rounds = u32::from(u16::MAX).saturating_add(1) / self.workers;
        let Some(counter) = self.v4.get_mut(place) else { return 0 };
        let number = u32::from(*counter) % rounds;
        *counter = u16::try_from((number + 1) % rounds).unwrap_or(0);
        number * self.workers + self.worker
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use units::WorkerId;
    use wire::{Content, Verify, dissect};

    use super::*;

    fn example() -> Example {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 9, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 1, 0, 1, 0, 8, 0, 0]);
        let Content::Ip(facts) = dissect(&frame, Verify::Nothing).unwrap().content else { panic!("an IP packet") };
        Example::of(&frame, &facts).unwrap()
    }

    fn numbers(worker: usize, workers: usize) -> Identifications {
        Identifications::new(worker, workers, &mut Dice::new([7; 32], WorkerId::new(0)))
    }

    /// RFC 6864: no number comes again before all others have been used, and no other worker has it.
    #[test]
    fn numbers_do_not_repeat_and_workers_do_not_meet() {
        for workers in [1, 2, 3] {
            let mut seen = HashSet::new();
            let mut count = 0;
            for worker in 0..workers {
                let mut numbers = numbers(worker, workers);
                for _ in 0..65_536 / workers {
                    let number = numbers.next(&example(), false);
                    assert!(number <= 0xffff && seen.insert(number), "{number} again, of {workers}");
                    count += 1;
                }
            }
            assert!(count > 65_530);
            let mut six = HashSet::new();
            for worker in 0..workers {
                let mut numbers = numbers(worker, workers);
                assert!((0..10_000).all(|_| six.insert(numbers.next(&example(), true))));
            }
        }
    }
}
