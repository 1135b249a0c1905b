//! The keyed hash of a tuple. The secret is drawn at each start, so that nobody outside can choose tuples that collide.
//!
//! Where the CPU has AES instructions, each 16-byte block goes through three AES rounds under its own key (after three
//! rounds every output bit depends on every input bit), the blocks are joined and two rounds follow where there are
//! several. Elsewhere a folded 64 x 64-bit multiply does it; its values differ, its distribution does not. Which of the
//! two is chosen when a table is made, not per call.

use core::fmt;
use std::hash::{BuildHasher, RandomState};

use units::TenantId;

use crate::{Address, Kind, WireTuple, arch};

/// Words of key material: three blocks with four round keys of two words each.
const WORDS: usize = 24;

/// Words of key material that are not the hash's.
const APART: usize = 4;

/// The key of the hash, and a seed drawn with it. `Debug` does not show it.
#[derive(Clone)]
pub struct HashSecret {
    words: [u64; WORDS],
    apart: [u64; APART],
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSecret")
    }
}

impl HashSecret {
    /// A secret drawn from the operating system's randomness (through the standard library's keyed hasher).
    #[must_use]
    pub fn random() -> Self {
        let state = RandomState::new();
        Self::from_words(|position| state.hash_one(position))
    }

    fn from_words(mut word: impl FnMut(usize) -> u64) -> Self {
        let words = core::array::from_fn(&mut word);
        Self { words, apart: core::array::from_fn(|position| word(WORDS + position)) }
    }

    /// Key material for a generator of random numbers, independent of what the hash uses.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        for (place, word) in seed.chunks_exact_mut(8).zip(self.apart) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        seed
    }

    /// A secret that follows from a seed (SplitMix64): for tests and replays.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut state = seed;
        Self::from_words(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        })
    }
}

/// A secret made ready for the instructions this CPU has.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Aes(arch::AesKeys),
    Portable(HashSecret),
}

impl Hasher {
    /// The faster of both ways this CPU knows.
    pub(crate) fn new(secret: HashSecret) -> Self {
        arch::AesKeys::new(&secret.words).map_or_else(|| Self::portable(secret), Self::Aes)
    }

    /// The way every CPU knows.
    pub(crate) const fn portable(secret: HashSecret) -> Self {
        Self::Portable(secret)
    }

    #[inline(always)]
    pub(crate) fn hash<A: Address>(&self, tenant: TenantId, kind: Kind, tuple: WireTuple<A>) -> u64 {
        let blocks = A::blocks(tenant, kind, tuple);
        match self {
            Self::Aes(keys) => keys.hash(blocks.as_ref()),
            // Its own copy: what is handed on by address would be put into memory for both.
            Self::Portable(secret) => fold_blocks(secret, A::blocks(tenant, kind, tuple).as_ref()),
        }
    }
}

fn fold_blocks(secret: &HashSecret, blocks: &[u128]) -> u64 {
    let (keys, _) = secret.words.as_chunks::<8>();
    let mut state = 0;
    for (block, key) in blocks.iter().zip(keys) {
        let value = *block;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
        let (low, high) = (value as u64, (value >> 64) as u64);
        let [first, second, third, fourth, ..] = *key;
        state = fold(state ^ fold(low ^ first, high ^ second) ^ third, fourth ^ low.rotate_left(29) ^ high);
    }
    fold(state ^ 0x9e37_79b9_7f4a_7c15, keys.first().map_or(1, |key| key[7] | 1))
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the product are joined")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use crate::Tuple;

    fn tuple(host: u32, port: u16) -> Tuple<Ipv4Addr> {
        Tuple {
            source: Ipv4Addr::from_bits(0x0a00_0000 + host),
            destination: Ipv4Addr::new(192, 0, 2, 80),
            source_port: port,
            destination_port: 443,
        }
    }

    fn v6(tuple: Tuple<Ipv4Addr>) -> Tuple<Ipv6Addr> {
        Tuple {
            source: tuple.source.to_ipv6_mapped(),
            destination: tuple.destination.to_ipv6_mapped(),
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
        }
    }

    fn both() -> [Hasher; 2] {
        [Hasher::new(HashSecret::from_seed(1)), Hasher::portable(HashSecret::from_seed(1))]
    }

    /// Flips every input bit of many keys and counts how often each output bit follows.
    #[test]
    fn every_input_bit_moves_every_output_bit_half_the_time() {
        for hasher in both() {
            let mut flips = [0_u32; 64];
            let mut trials = 0;
            for host in 0..200 {
                let base = tuple(host * 77, 1_024);
                let hash = hasher.hash(TenantId::NONE, Kind::Tcp, base.into());
                for bit in 0..96 {
                    let mut changed = base;
                    match bit {
                        0..32 => changed.source = Ipv4Addr::from_bits(base.source.to_bits() ^ 1 << bit),
                        32..64 => {
                            changed.destination = Ipv4Addr::from_bits(base.destination.to_bits() ^ 1 << (bit - 32));
                        }
                        64..80 => changed.source_port ^= 1 << (bit - 64),
                        _ => changed.destination_port ^= 1 << (bit - 80),
                    }
                    let difference = hash ^ hasher.hash(TenantId::NONE, Kind::Tcp, changed.into());
                    for (position, count) in flips.iter_mut().enumerate() {
                        *count += u32::from(difference >> position & 1 == 1);
                    }
                    trials += 1;
                }
            }
            for (bit, count) in flips.iter().enumerate() {
                let share = f64::from(*count) / f64::from(trials);
                assert!((0.47..0.53).contains(&share), "{hasher:?}: output bit {bit} follows {share}");
            }
        }
    }

    /// Neighbouring hosts and ports, as real traffic has them, spread over buckets like random numbers.
    #[test]
    fn neighbouring_tuples_spread_evenly() {
        for hasher in both() {
            for family_is_v6 in [false, true] {
                let mut buckets = vec![0_u32; 1 << 12];
                for host in 0..64 {
                    for port in 0..1_024 {
                        let tuple = tuple(host, port);
                        let hash = if family_is_v6 {
                            hasher.hash(TenantId::NONE, Kind::Udp, v6(tuple).into())
                        } else {
                            hasher.hash(TenantId::NONE, Kind::Udp, tuple.into())
                        };
                        buckets[usize::try_from(((hash & 0xffff_ffff) * 4_096) >> 32).unwrap()] += 1;
                    }
                }
                // 65,536 over 4,096: chi-squared has mean 4,095 and standard deviation 90.
                let chi: f64 = buckets.iter().map(|&count| (f64::from(count) - 16.0).powi(2) / 16.0).sum();
                assert!((3_600.0..4_600.0).contains(&chi), "{hasher:?} v6 {family_is_v6}: {chi}");
            }
        }
    }

    #[test]
    fn tenant_kind_direction_and_secret_all_matter() {
        for hasher in both() {
            let tuple = tuple(1, 2);
            let mut hashes: HashSet<_> =
                Kind::ALL.iter().map(|&kind| hasher.hash(TenantId::NONE, kind, tuple.into())).collect();
            hashes.extend(Kind::ALL.iter().map(|&kind| hasher.hash(TenantId::NONE, kind, tuple.reversed().into())));
            hashes.extend(Kind::ALL.iter().map(|&kind| hasher.hash(TenantId::NONE, kind, v6(tuple).into())));
            hashes.extend((1..=1_000).map(|number| hasher.hash(TenantId::new(number), Kind::Tcp, tuple.into())));
            hashes.extend((1..=1_000).map(|number| hasher.hash(TenantId::new(number), Kind::Tcp, v6(tuple).into())));
            assert_eq!(hashes.len(), 2_012);
        }
        let hash = |seed| Hasher::new(HashSecret::from_seed(seed)).hash(TenantId::NONE, Kind::Tcp, tuple(1, 2).into());
        assert_ne!(hash(1), hash(2));
        assert_eq!(hash(1), hash(1));
    }

    #[test]
    fn a_random_secret_is_a_new_one_and_is_not_shown() {
        let (one, other) = (HashSecret::random(), HashSecret::random());
        assert_ne!(one.words, other.words);
        assert_eq!(format_args!("{one:?}").to_string(), "HashSecret");
    }
}
