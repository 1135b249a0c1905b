//! The Maglev lookup table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4): every backend fills a nearly equal share of a prime number of slots, in the order of its own
//! permutation, so that one backend's coming or going moves few of the others' slots.
//!
//! Built in management and control, read by workers, never changed. The ring depends only on who the backends are, their
//! weights and the number of slots, not on the order they are listed in.

use super::stable_hash::{StableHash, below};

/// The permutation of one backend: slot `(offset + j * skip) mod slots` is its j-th choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permutation {
    offset: usize,
    skip: usize,
}

/// One backend as a ring sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimant<'a> {
    /// Its position in the service's list, which the slots hold.
    pub(super) position: u16,
    /// Where it is, as a hash: its identity in the ring.
    pub(super) identity: u64,
    /// Its name, which orders backends of one identity.
    pub(super) name: &'a str,
    /// Its share; 0 takes no slot.
    pub(super) weight: u32,
}

/// A filled table: each slot holds the position of a backend. One byte a slot where positions fit, two otherwise: each
/// choice waits for a slot's line, and thousands of services have a ring each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// All positions are below 256.
    Narrow(Box<[u8]>),
    /// Some are not.
    Wide(Box<[u16]>),
}

impl Ring {
    /// Fills a table of `slots` (a prime) for these claimants. Empty when nobody has weight.
    pub(super) fn new(claimants: &[Claimant<'_>], slots: usize) -> Self {
        let mut order: Vec<&Claimant<'_>> = claimants.iter().filter(|claimant| claimant.weight > 0).collect();
        order.sort_by_key(|claimant| (claimant.identity, claimant.name));
        let shares: Vec<Share> = order
            .iter()
            .map(|claimant| Share {
                position: claimant.position,
                weight: u64::from(claimant.weight),
                permutation: Permutation {
                    offset: below(StableHash::new(2).word(claimant.identity).finish(), slots),
                    skip: 1 + below(StableHash::new(3).word(claimant.identity).finish(), slots.saturating_sub(1)),
                },
            })
            .collect();
        if order.iter().all(|claimant| u8::try_from(claimant.position).is_ok()) {
            Self::Narrow(fill(&shares, slots, |position| position.to_le_bytes()[0]))
        } else {
            Self::Wide(fill(&shares, slots, |position| position))
        }
    }

    /// The backend of the slot that `hash` falls into.
    pub(super) fn get(&self, hash: u64) -> Option<usize> {
        match self {
            Self::Narrow(slots) => slots.get(below(hash, slots.len())).map(|&position| usize::from(position)),
            Self::Wide(slots) => slots.get(below(hash, slots.len())).map(|&position| usize::from(position)),
        }
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Narrow(slots) => size_of_val(&**slots),
            Self::Wide(slots) => size_of_val(&**slots),
        }
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> Vec<u16> {
        match self {
            Self::Narrow(slots) => slots.iter().map(|&position| u16::from(position)).collect(),
            Self::Wide(slots) => slots.to_vec(),
        }
    }
}

/// A claimant on its way through its permutation.
struct Share {
    position: u16,
    weight: u64,
    permutation: Permutation,
}

/// Slots that are taken: a bit each, so that looking for a free one stays in the processor's nearest cache (8 KiB of bits for
/// 65,537 slots). A policy with thousands of rings spends its time here.
struct Taken(Vec<u64>);

impl Taken {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }

    /// Takes a slot; false when it was taken already.
    fn take(&mut self, slot: usize) -> bool {
        let Some(word) = self.0.get_mut(slot / 64) else { return false };
        let bit = 1 << (slot % 64);
        let is_free = *word & bit == 0;
        *word |= bit;
        is_free
    }
}

/// The paper's population loop. In each round a backend takes its next free slot; with weights the heaviest takes one
/// every round and the others as often as their weight is of its.
fn fill<P: Copy + Default>(shares: &[Share], slots: usize, narrowed: impl Fn(u16) -> P) -> Box<[P]> {
    let Some(heaviest) = shares.iter().map(|share| share.weight).max() else {
        return Box::default();
    };
    let mut table = vec![P::default(); slots];
    let mut taken = Taken::new(slots);
    let mut next: Vec<usize> = shares.iter().map(|share| share.permutation.offset).collect();
    let mut credit: Vec<u64> = vec![0; shares.len()];
    let mut filled = 0;
    while filled < slots {
        for ((share, next), credit) in shares.iter().zip(&mut next).zip(&mut credit) {
            *credit += share.weight;
            if *credit < heaviest || filled == slots {
                continue;
            }
            *credit -= heaviest;
            // A prime number of slots makes every skip a generator: a free slot is found before the walk comes round.
            loop {
                let slot = *next;
                *next += share.permutation.skip;
                if *next >= slots {
                    *next -= slots;
                }
                if taken.take(slot) {
                    if let Some(place) = table.get_mut(slot) {
                        *place = narrowed(share.position);
                    }
                    filled += 1;
                    break;
                }
            }
        }
    }
    table.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::limits::MAGLEV_TABLE;

    fn claimants(count: u16) -> Vec<Claimant<'static>> {
        (0..count)
            .map(|position| Claimant {
                position,
                identity: StableHash::new(9).word(u64::from(position)).finish(),
                name: "",
                weight: 1,
            })
            .collect()
    }

    fn shares_of(ring: &Ring, backends: usize) -> Vec<usize> {
        let mut shares = vec![0; backends];
        for position in ring.slots() {
            shares[usize::from(position)] += 1;
        }
        shares
    }

    /// Slots that moved although their backend is in both rings.
    fn collateral(before: &Ring, after: &Ring, gone: u16) -> usize {
        before.slots().into_iter().zip(after.slots()).filter(|&(was, is)| was != gone && was != is).count()
    }

    #[test]
    fn paper_example_gives_the_paper_table() {
        // FOV-01: table 1 of the paper: permutations 3 0 4 1 5 2 6, 0 2 4 6 1 3 5 and 3 4 5 6 0 1 2.
        let share = |position, offset, skip| Share { position, weight: 1, permutation: Permutation { offset, skip } };
        let all = [share(0, 3, 4), share(1, 0, 2), share(2, 3, 1)];
        assert_eq!(*fill(&all, 7, |position| position), [1, 0, 1, 0, 2, 2, 0]);
        assert_eq!(*fill(&[share(0, 3, 4), share(2, 3, 1)], 7, |position| position), [0, 0, 0, 0, 2, 2, 2]);
    }

    #[test]
    fn shares_are_within_one_percent_of_even() {
        // FOV-02.
        for count in [10u16, 100, 1_000] {
            let shares = shares_of(&Ring::new(&claimants(count), MAGLEV_TABLE), usize::from(count));
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count}: {least} to {most}");
            assert!(most * usize::from(count) * 100 <= MAGLEV_TABLE * 101, "{count}: {most}");
        }
    }

    #[test]
    fn one_backend_less_moves_at_most_one_percent_of_the_others() {
        // FOV-02: the mean over every choice of the one that goes (each is a table of its own).
        for count in [10u16, 100] {
            let all = claimants(count);
            let before = Ring::new(&all, MAGLEV_TABLE);
            let gone: Vec<u16> = (0..count).step_by(usize::from(count / 10)).collect();
            let moved: usize = gone
                .iter()
                .map(|&gone| {
                    let rest: Vec<_> = all.iter().filter(|claimant| claimant.position != gone).copied().collect();
                    collateral(&before, &Ring::new(&rest, MAGLEV_TABLE), gone)
                })
                .sum();
            let mean = moved / gone.len();
            println!("{count} backends, one less: {mean} of {MAGLEV_TABLE} slots of others moved");
            assert!(mean * 100 <= MAGLEV_TABLE, "{count}: {mean}");
        }
    }

    #[test]
    fn listing_order_does_not_matter() {
        // FOV-03, by identity: position 5 is another backend in each listing.
        let all = claimants(20);
        let reference = Ring::new(&all, MAGLEV_TABLE);
        for turn in 1..20 {
            let mut listed = all.clone();
            listed.rotate_left(turn);
            if turn % 2 == 0 {
                listed.reverse();
            }
            assert_eq!(Ring::new(&listed, MAGLEV_TABLE), reference);
        }
    }

    #[test]
    fn weights_are_shares_and_weight_zero_is_none() {
        let mut all = claimants(4);
        for (claimant, weight) in all.iter_mut().zip([0, 1, 2, 5]) {
            claimant.weight = weight;
        }
        let shares = shares_of(&Ring::new(&all, MAGLEV_TABLE), 4);
        assert_eq!(shares[0], 0);
        for (share, weight) in shares.iter().zip([0, 1, 2, 5]).skip(1) {
            let expected = MAGLEV_TABLE * weight / 8;
            assert!(share.abs_diff(expected) <= 2, "{share} for weight {weight}");
        }
    }

    #[test]
    fn a_ring_is_as_narrow_as_its_backends_allow_and_says_the_same() {
        for count in [1_u16, 255, 256, 257, 600] {
            let ring = Ring::new(&claimants(count), MAGLEV_TABLE);
            assert_eq!(matches!(ring, Ring::Narrow(_)), count <= 256, "{count}");
            assert_eq!(ring.memory(), MAGLEV_TABLE * if count <= 256 { 1 } else { 2 });
            let slots = ring.slots();
            assert_eq!(
                (ring.get(0), ring.get(u64::MAX)),
                (Some(slots[0].into()), Some(slots[MAGLEV_TABLE - 1].into()))
            );
            assert!(shares_of(&ring, usize::from(count)).iter().all(|&share| share > 0));
        }
    }

    #[test]
    fn one_backend_owns_every_slot_and_nobody_owns_an_empty_ring() {
        let ring = Ring::new(&claimants(1), MAGLEV_TABLE);
        assert_eq!((ring.get(0), ring.get(u64::MAX)), (Some(0), Some(0)));
        assert_eq!(Ring::new(&[], MAGLEV_TABLE).get(7), None);
    }

    #[test]
    fn extreme_weights_still_fill_the_table() {
        let mut all = claimants(3);
        for (claimant, weight) in all.iter_mut().zip([u32::MAX, 1, u32::MAX - 1]) {
            claimant.weight = weight;
        }
        assert_eq!(Ring::new(&all, 251).slots().len(), 251);
    }

    #[test]
    fn ring_of_version_one_is_what_it_was() {
        assert_eq!(super::super::stable_hash::VERSION, 1);
        let digest = Ring::new(&claimants(10), MAGLEV_TABLE)
            .slots()
            .iter()
            .fold(StableHash::new(0), |digest, &position| digest.word(u64::from(position)))
            .finish();
        assert_eq!(digest, 4_117_470_905_231_751_040, "the golden digest of ring version 1");
    }
}
