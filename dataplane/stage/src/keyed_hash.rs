//! A hash for small maps that workers ask at each first packet: by address, by neighbor, by number. A few cycles, where the
//! standard library's takes fifty; keyed with a secret of each map, so that nobody outside chooses which entries collide.
//!
//! Not for tables that outlive a process and not for sessions, which have hashes of their own.

use core::hash::{BuildHasher, Hasher};
use std::hash::RandomState;

/// Makes hashers with one secret.
#[derive(Clone, Debug)]
pub struct Keyed {
    keys: [u64; 2],
}

impl Default for Keyed {
    fn default() -> Self {
        let drawn = RandomState::new();
        // Odd, so that a factor never loses what it is multiplied with.
        Self { keys: [drawn.hash_one(0_u8), drawn.hash_one(1_u8) | 1] }
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        let [state, factor] = self.keys;
        KeyedHasher { state, factor }
    }
}

/// A running hash: bytes and 64-bit words are folded in by a 64 x 64-bit multiplication (as wyhash does); what comes before
/// them (lengths, which of several kinds, ports) is only shifted in.
#[derive(Clone, Copy, Debug)]
pub struct KeyedHasher {
    state: u64,
    factor: u64,
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the product are joined")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

impl KeyedHasher {
    #[inline]
    const fn shift_in(&mut self, number: u64) {
        self.state = self.state.rotate_left(17) ^ number;
    }
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.state = fold(self.state ^ u64::from_ne_bytes(*word), self.factor);
        }
        if let Ok(half) = <[u8; 4]>::try_from(rest) {
            self.state = fold(self.state ^ u64::from(u32::from_ne_bytes(half)), self.factor);
        } else if !rest.is_empty() {
            let word = rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.state = fold(self.state ^ word, self.factor);
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.shift_in(u64::from(number));
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.shift_in(u64::from(number));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.state = fold(self.state ^ number, self.factor);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.shift_in(number as u64);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.shift_in(number.cast_unsigned() as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, self.factor.rotate_left(32))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    /// Buckets are chosen by low bits, tags by the seven highest (hashbrown): both must spread.
    fn spread(hashes: &[u64]) {
        let mut low = vec![0_u32; 1 << 10];
        let mut high = vec![0_u32; 1 << 7];
        for hash in hashes {
            low[usize::try_from(hash & 0x3ff).unwrap()] += 1;
            high[usize::try_from(hash >> 57).unwrap()] += 1;
        }
        for buckets in [low, high] {
            let mean =
                f64::from(u32::try_from(hashes.len()).unwrap()) / f64::from(u32::try_from(buckets.len()).unwrap());
            let chi: f64 = buckets.iter().map(|&count| (f64::from(count) - mean).powi(2) / mean).sum();
            let freedom = f64::from(u32::try_from(buckets.len()).unwrap());
            // Ten standard deviations: the secret is another one each time.
            assert!(chi - freedom < 10.0 * (2.0 * freedom).sqrt(), "{chi} of {freedom}");
        }
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len(), "no two are the same");
    }

    #[test]
    fn neighbouring_addresses_places_and_numbers_spread() {
        let keyed = Keyed::default();
        let v4 = |n: u32| keyed.hash_one(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        let v6 = |n: u32| keyed.hash_one(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n))));
        let subnet = |n: u32| keyed.hash_one(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 64)));
        spread(&(0..65_536).map(v4).collect::<Vec<_>>());
        spread(&(0..65_536).map(v6).collect::<Vec<_>>());
        spread(&(0..65_536).map(subnet).collect::<Vec<_>>());
        spread(&(0..65_536_u64).map(|n| keyed.hash_one(0x7f00_1234_0000 + n * 192)).collect::<Vec<_>>());
        spread(&(0..65_536_u64).map(|n| keyed.hash_one(n)).collect::<Vec<_>>());
    }

    #[test]
    fn every_map_has_a_secret_of_its_own() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_ne!(Keyed::default().hash_one(address), Keyed::default().hash_one(address));
    }

    #[test]
    fn lengths_that_fill_no_word_count_too() {
        let keyed = Keyed::default();
        let hashes: HashSet<_> = (0..20).map(|len| keyed.hash_one(vec![1_u8; len])).collect();
        assert_eq!(hashes.len(), 20);
    }
}
