//! One worker's share of the ports that source NAT may hand out. The port of a reply tells which worker owns its session
//! (see the design's sharding), so the ports of every pool address are split among the workers, in pairs of an even and
//! the next odd port that go round: pair `p` belongs to worker `p mod workers`. Every slice so has both parities and the
//! whole range of numbers, and for a power of two of workers a NIC can steer by a mask over the port.
//!
//! Pure arithmetic: which ports are in use, the session table knows. Called at the first packet of a session, and
//! [`PortSlice::owner`] for replies that no session of the receiving worker answers to.

use crate::PortRange;
use units::WorkerId;
use units::limits::{NAT_PORT_MAX, NAT_PORT_MIN, WORKERS_MAX};

/// Pairs of ports in the whole range.
const PAIRS: u32 = (NAT_PORT_MAX as u32 + 1 - NAT_PORT_MIN as u32) / 2;
const _: () =
    assert!(NAT_PORT_MIN.is_multiple_of(2) && !NAT_PORT_MAX.is_multiple_of(2) && PAIRS as usize >= WORKERS_MAX);

/// The ports one worker hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSlice {
    worker: u32,
    workers: u32,
    /// 2^32 over `workers`, rounded up: a multiplication by it and a shift divide every pair's number exactly.
    reciprocal: u64,
    /// Pairs of the worker that come before this slice's first.
    skipped: u32,
    /// Pairs in this slice.
    pairs: u32,
    /// The ports it is cut to.
    range: PortRange,
}

/// Every port that source NAT may hand out.
const ALL: PortRange = match PortRange::new(NAT_PORT_MIN, NAT_PORT_MAX) {
    Some(range) => range,
    None => PortRange::ANY,
};

impl PortSlice {
    /// The slice of `worker` among `workers` (at least one; the worker's number is taken modulo).
    #[must_use]
    pub fn new(worker: WorkerId, workers: usize) -> Self {
        let workers = u32::try_from(workers.clamp(1, WORKERS_MAX)).unwrap_or(1);
        let worker = u32::from(worker.get()) % workers;
        let reciprocal = (1u64 << 32).div_ceil(u64::from(workers));
        Self { worker, workers, reciprocal, skipped: 0, pairs: (PAIRS - worker).div_ceil(workers), range: ALL }
    }

    /// The ports of this slice that lie in `range` as well.
    #[must_use]
    pub fn within(&self, range: PortRange) -> Self {
        let first = range.first().max(self.range.first());
        let last = range.last().min(self.range.last());
        let pair = |port: u16| self.split(u32::from(port - NAT_PORT_MIN) / 2);
        let Some(range) = PortRange::new(first, last) else { return Self { pairs: 0, ..*self } };
        let (before, worker) = pair(range.first());
        let skipped = before + u32::from(worker > self.worker);
        let (end, worker) = pair(range.last());
        let end = end + u32::from(worker >= self.worker);
        Self { skipped, pairs: end.saturating_sub(skipped), range, ..*self }
    }

    /// The worker that hands out `port`; `None` for ports source NAT never hands out.
    #[must_use]
    pub fn owner(&self, port: u16) -> Option<WorkerId> {
        let pair = u32::from(port.checked_sub(NAT_PORT_MIN)?) / 2;
        u16::try_from(self.split(pair).1).ok().map(WorkerId::new)
    }

    /// Whether `port` is of this slice.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.range.contains(port) && self.owns(port)
    }

    /// How many ports the slice has.
    #[must_use]
    pub fn len(&self) -> usize {
        // A range may begin or end in the middle of a pair.
        let ends = [self.range.first() ^ 1, self.range.last() ^ 1];
        let cut = ends.into_iter().filter(|&port| !self.range.contains(port) && self.owns(port)).count();
        (self.pairs as usize * 2).saturating_sub(cut)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn owns(&self, port: u16) -> bool {
        self.owner(port).is_some_and(|owner| u32::from(owner.get()) == self.worker)
    }

    /// Every port of the slice exactly once: `preferred` first if it is of the slice, then those of its parity
    /// (RFC 4787 section 4.2.2), then the others, each in an order that `start` (a hash or random number) decides
    /// (RFC 6056). Trying them all costs a lookup each; a caller that wants to bound the work of one packet takes fewer.
    #[must_use]
    pub fn candidates(&self, preferred: u16, start: u32) -> Candidates {
        Candidates {
            slice: *self,
            preferred: self.contains(preferred).then_some(preferred),
            first: true,
            odd: preferred & 1,
            place: start % self.pairs.max(1),
            step: coprime_step(start, self.pairs),
            left: self.pairs * 2,
        }
    }

    /// Quotient and remainder of a pair's number by the number of workers, without a division.
    fn split(&self, pair: u32) -> (u32, u32) {
        let quotient = u32::try_from((u64::from(pair) * self.reciprocal) >> 32).unwrap_or(0);
        (quotient, pair - quotient * self.workers)
    }

    fn port(&self, place: u32, odd: u16) -> u16 {
        let pair = (self.skipped + place) * self.workers + self.worker;
        NAT_PORT_MIN.saturating_add(u16::try_from(pair * 2).unwrap_or(0)) | odd
    }
}

/// A step without a common divisor with `pairs`, so that walking by it visits every pair.
fn coprime_step(start: u32, pairs: u32) -> u32 {
    // Primes larger than 2, none of which divides every slice; among them one always fits, and 1 does in any case.
    const PRIMES: [u32; 8] = [10_007, 7_919, 4_001, 2_003, 1_009, 503, 251, 127];
    let from = (start >> 24) as usize;
    let mut tried = PRIMES.iter().cycle().skip(from % PRIMES.len()).take(PRIMES.len());
    tried.find(|&&prime| prime < pairs && !pairs.is_multiple_of(prime)).copied().unwrap_or(1)
}

/// Ports to try, in order; see [`PortSlice::candidates`].
#[derive(Clone, Debug)]
pub struct Candidates {
    slice: PortSlice,
    preferred: Option<u16>,
    first: bool,
    odd: u16,
    place: u32,
    step: u32,
    left: u32,
}

impl Iterator for Candidates {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if core::mem::take(&mut self.first) && self.preferred.is_some() {
            return self.preferred;
        }
        while self.left > 0 {
            let port = self.slice.port(self.place, self.odd);
            self.place += self.step;
            if self.place >= self.slice.pairs {
                self.place -= self.slice.pairs;
            }
            self.left -= 1;
            if self.left == self.slice.pairs {
                self.odd ^= 1;
            }
            if Some(port) != self.preferred && self.slice.range.contains(port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn slice(worker: u16, workers: usize) -> PortSlice {
        PortSlice::new(WorkerId::new(worker), workers)
    }

    #[test]
    fn slices_share_out_every_port_and_owner_agrees() {
        for workers in [1usize, 2, 3, 5, 7, 16, 63, 64] {
            let mut seen = HashSet::new();
            for worker in 0..u16::try_from(workers).unwrap() {
                let slice = slice(worker, workers);
                let ports: Vec<u16> = slice.candidates(0, 12_345).collect();
                assert_eq!(ports.len(), slice.len());
                for port in ports {
                    assert!(seen.insert(port), "{port} twice");
                    assert_eq!(slice.owner(port), Some(WorkerId::new(worker)));
                }
            }
            assert_eq!(seen.len(), usize::from(NAT_PORT_MAX - NAT_PORT_MIN) + 1, "{workers} workers");
        }
    }

    #[test]
    fn owner_is_pair_modulo_workers() {
        for workers in 1..=WORKERS_MAX {
            let slice = slice(0, workers);
            for port in NAT_PORT_MIN..=NAT_PORT_MAX {
                let expected = (usize::from(port - NAT_PORT_MIN) / 2) % workers;
                assert_eq!(slice.owner(port).unwrap().index(), expected);
            }
        }
        assert_eq!(slice(0, 4).owner(NAT_PORT_MIN - 1), None);
    }

    #[test]
    fn preferred_port_of_the_slice_comes_first_and_only_once() {
        let ports: Vec<u16> = slice(0, 2).candidates(1_025, 99).collect();
        assert_eq!(ports[0], 1_025);
        assert_eq!(ports.iter().filter(|&&port| port == 1_025).count(), 1);
        assert_eq!(ports.len(), slice(0, 2).len());
    }

    #[test]
    fn parity_of_the_preferred_port_is_kept_as_long_as_there_is_one() {
        // RFC 4787 REQ-4; port 80 is below the range and only lends its parity.
        let slice = slice(1, 3);
        let ports: Vec<u16> = slice.candidates(80, 7).collect();
        let (even, odd) = ports.split_at(slice.len() / 2);
        assert!(even.iter().all(|port| port % 2 == 0) && odd.iter().all(|port| port % 2 == 1));
    }

    #[test]
    fn different_starts_begin_elsewhere() {
        let firsts: HashSet<u16> =
            (0..1_000u32).filter_map(|n| slice(0, 1).candidates(80, n.wrapping_mul(2_654_435_761)).next()).collect();
        assert!(firsts.len() > 950, "{}", firsts.len());
    }

    #[test]
    fn a_range_too_narrow_for_every_worker_leaves_some_without() {
        let range = PortRange::new(2_000, 2_003).unwrap();
        let lens: Vec<usize> = (0..4).map(|worker| slice(worker, 4).within(range).len()).collect();
        assert_eq!(lens.iter().sum::<usize>(), 4);
        assert_eq!(lens.iter().filter(|&&len| len == 0).count(), 2);
        assert!(slice(0, 1).within(PortRange::single(2_001)).candidates(80, 7).eq([2_001]));
    }

    proptest! {
        /// RFC 4787 REQ-3: the operator's range is shared out among the workers, every port of it once, none beside it.
        #[test]
        fn a_range_is_shared_out_exactly(workers in 1usize..=64, a in 1_024u16.., b in 1_024u16.., preferred: u16, start: u32) {
            let range = PortRange::new(a.min(b), a.max(b)).unwrap();
            let mut seen = HashSet::new();
            for worker in 0..u16::try_from(workers).unwrap() {
                let slice = slice(worker, workers).within(range);
                let ports: Vec<u16> = slice.candidates(preferred, start).collect();
                prop_assert_eq!(ports.len(), slice.len());
                prop_assert_eq!(slice.is_empty(), ports.is_empty());
                for port in ports {
                    prop_assert!(range.contains(port) && slice.contains(port) && seen.insert(port));
                }
            }
            prop_assert_eq!(seen.len(), usize::from(range.last() - range.first()) + 1);
        }

        #[test]
        fn candidates_are_each_port_of_the_slice_once(
            workers in 1usize..=64, worker in 0u16..64, preferred: u16, start: u32,
        ) {
            let slice = slice(worker, workers);
            let ports: HashSet<u16> = slice.candidates(preferred, start).collect();
            prop_assert_eq!(ports.len(), slice.len());
            prop_assert_eq!(slice.candidates(preferred, start).count(), slice.len());
            prop_assert!(ports.iter().all(|&port| slice.contains(port)));
        }
    }
}
