//! The random numbers of one worker: where the search for an outside port begins, identifications of the packets it makes.
//! Strangers see parts of what is drawn, and nothing of it may tell them what others get (RFC 6056 section 3.1, RFC 5452
//! section 9.2): the key stream of `ChaCha8`, under a secret of the boot, a stream for each worker.
//!
//! Four blocks are made at once, so that a draw costs a few instructions. No system call after [`Dice::new`].

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use units::WorkerId;

/// A worker's generator.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The generator of this worker, from the seed of the boot.
    pub(crate) fn new(seed: [u8; 32], worker: WorkerId) -> Self {
        let mut stream = ChaCha8Rng::from_seed(seed);
        stream.set_stream(u64::from(worker.get()));
        Self(stream)
    }

    /// The next random number.
    #[inline]
    pub(crate) fn roll(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// The next one of 16 bits.
    #[inline]
    pub(crate) fn roll_short(&mut self) -> u16 {
        let [high, low, ..] = self.roll().to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn dice(seed: u8, worker: u16) -> Dice {
        Dice::new([seed; 32], WorkerId::new(worker))
    }

    /// The length of the shortest linear recurrence that makes these bits (Massey, 1969).
    fn linear_complexity(bits: &[bool]) -> usize {
        let (mut current, mut before) = (vec![true], vec![true]);
        let (mut length, mut since) = (0, 1);
        for place in 0..bits.len() {
            let taps = current.iter().take(length + 1).enumerate();
            let wrong = taps.filter(|&(back, &tap)| tap && bits[place - back]).count() % 2 == 1;
            if wrong {
                let kept = current.clone();
                current.resize(current.len().max(before.len() + since), false);
                for (at, &tap) in before.iter().enumerate() {
                    current[at + since] ^= tap;
                }
                if 2 * length <= place {
                    (length, before, since) = (place + 1 - length, kept, 0);
                }
            }
            since += 1;
        }
        length
    }

    /// A generator whose state is linear in its bits is solved from a few draws: so many as the state has bits say all of it.
    #[test]
    fn what_is_seen_of_draws_tells_nothing_of_the_next() {
        for bit in [0, 8, 15, 31] {
            let mut dice = dice(7, 0);
            let bits: Vec<bool> = (0..600).map(|_| dice.roll() >> bit & 1 == 1).collect();
            assert!((280..=320).contains(&linear_complexity(&bits)), "bit {bit}");
        }
    }

    /// The same recurrence is found where there is one, in the generator this one took the place of.
    #[test]
    fn linear_generators_are_told() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let bits: Vec<bool> = (0..600)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state >> 40 & 1 == 1
            })
            .collect();
        assert!(linear_complexity(&bits) <= 64);
    }

    #[test]
    fn every_worker_and_every_boot_has_a_stream_of_its_own() {
        let starts: HashSet<Vec<u32>> = [(1, 0), (1, 1), (1, 2), (2, 0)]
            .into_iter()
            .map(|(seed, worker)| {
                let mut dice = dice(seed, worker);
                (0..4).map(|_| dice.roll()).collect()
            })
            .collect();
        assert_eq!(starts.len(), 4);
        let short: HashSet<u16> = (0..64)
            .map({
                let mut dice = dice(1, 0);
                move |_| dice.roll_short()
            })
            .collect();
        assert!(short.len() > 60);
    }
}
