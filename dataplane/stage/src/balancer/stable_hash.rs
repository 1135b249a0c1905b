//! The hash behind the balancer's ring and its choice for a client. It has no secret and never changes, because appliances
//! that share a policy must place the same client on the same backend; [`VERSION`] names it for formats that outlive a
//! process. Nothing that an attacker could fill a table with is keyed by it.

use std::net::IpAddr;

/// Version of this hash and of the ring built from it; a golden test holds both.
pub const VERSION: u8 = 1;

/// The finaliser of `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014, with variant 13 of Stafford's constants): a bijection
/// in which every input bit reaches every output bit.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A running hash over 64-bit words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StableHash(u64);

impl StableHash {
    /// A hash with its own seed, so that two hashes of one value are independent.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// Takes in one word.
    pub(crate) const fn word(self, word: u64) -> Self {
        Self(mix(self.0.rotate_left(23) ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    /// Takes in an address; an IPv4 address and the IPv6 one that maps it differ.
    pub(crate) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.word(4).word(u64::from(u32::from(address))),
            IpAddr::V6(address) => {
                let (high, low) = halves(u128::from(address));
                self.word(6).word(high).word(low)
            }
        }
    }

    /// Takes in text, its length first.
    pub(crate) fn text(self, text: &str) -> Self {
        let mut hash = self.word(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let word = chunk.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte));
            hash = hash.word(word);
        }
        hash
    }

    /// The hash of what was taken in.
    pub(crate) const fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// A hash of a name of the configuration: the same on every appliance and in every policy.
#[must_use]
pub fn key_of_name(name: &str) -> u64 {
    StableHash::new(7).text(name).finish()
}

/// A place below `bound`, evenly, without a division (Lemire, TOMACS 2019).
pub(crate) fn below(hash: u64, bound: usize) -> usize {
    let (high, _) = halves(u128::from(hash) * bound as u128);
    usize::try_from(high).unwrap_or(0)
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half is shifted down, the lower is masked by intent")]
const fn halves(word: u128) -> (u64, u64) {
    ((word >> 64) as u64, word as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> u64 {
        StableHash::new(0).address(address.parse().unwrap()).finish()
    }

    #[test]
    fn places_are_even_and_below_their_bound() {
        let mut hits = [0u32; 7];
        for n in 0..70_000 {
            hits[below(StableHash::new(1).word(n).finish(), 7)] += 1;
        }
        assert!(hits.iter().all(|&n| (9_500..10_500).contains(&n)), "{hits:?}");
        assert_eq!((below(u64::MAX, 7), below(0, 7), below(u64::MAX, 0)), (6, 0, 0));
    }

    #[test]
    fn one_changed_bit_changes_half_of_the_hash() {
        let base = of("192.0.2.1");
        let mut flipped = 0;
        for bit in 0..32 {
            let other = u32::from(std::net::Ipv4Addr::new(192, 0, 2, 1)) ^ (1 << bit);
            let hash = StableHash::new(0).address(IpAddr::V4(other.into())).finish();
            flipped += (hash ^ base).count_ones();
        }
        assert!((28 * 32..36 * 32).contains(&flipped), "{flipped}");
    }

    #[test]
    fn families_seeds_and_lengths_are_told_apart() {
        assert_ne!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        let seeded = |seed| StableHash::new(seed).text("shop-a").finish();
        assert_ne!(seeded(0), seeded(1));
        assert_ne!(StableHash::new(0).text("a").finish(), StableHash::new(0).text("a\0").finish());
    }
}
