//! A set of addresses that is asked about strangers: nearly every address it is asked about is not in it. A row of bits in
//! front of the set says so at the cost of one read. Built when a policy is compiled, read by workers, never changed.

use core::ops::Deref;
use std::collections::HashSet;
use std::net::IpAddr;

use crate::Keyed;

/// Bits for each address: of the strangers, one in so many is looked for in the set.
const BITS_EACH: usize = 64;
/// Bits at least: half a kilobyte.
const BITS_LEAST: usize = 4_096;
/// Bits at most, so that they stay in the nearest cache.
const BITS_MOST: usize = 1 << 18;

/// A set of addresses.
#[derive(Clone, Debug)]
pub struct AddressSet {
    addresses: HashSet<IpAddr, Keyed>,
    /// Has the bit of each address.
    bits: Box<[u64]>,
    /// How far a mixed address is shifted to name a bit.
    shift: u32,
}

impl AddressSet {
    /// Whether `address` is in it.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.may_contain(*address) && self.addresses.contains(address)
    }

    #[inline]
    fn may_contain(&self, address: IpAddr) -> bool {
        let bit = bit_of(address) >> self.shift;
        let word = usize::try_from(bit >> 6).ok().and_then(|place| self.bits.get(place));
        word.is_none_or(|word| word >> (bit & 63) & 1 == 1)
    }
}

impl Deref for AddressSet {
    type Target = HashSet<IpAddr, Keyed>;

    fn deref(&self) -> &Self::Target {
        &self.addresses
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let addresses: HashSet<IpAddr, Keyed> = addresses.into_iter().collect();
        let count = addresses.len().saturating_mul(BITS_EACH).clamp(BITS_LEAST, BITS_MOST).next_power_of_two();
        let shift = u64::BITS - count.trailing_zeros();
        let mut bits = vec![0_u64; count / 64].into_boxed_slice();
        for &address in &addresses {
            let bit = bit_of(address) >> shift;
            if let Some(word) = usize::try_from(bit >> 6).ok().and_then(|place| bits.get_mut(place)) {
                *word |= 1 << (bit & 63);
            }
        }
        Self { addresses, bits, shift }
    }
}

impl Default for AddressSet {
    fn default() -> Self {
        Self::from_iter([])
    }
}

/// An address mixed, its highest bits best. Without a secret: who finds addresses that share a bit with one of the set
/// makes a question cost what it would without the bits.
#[inline]
fn bit_of(address: IpAddr) -> u64 {
    let word = match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits are joined")]
            let folded = (bits >> 64) as u64 ^ (bits as u64).rotate_left(29);
            folded
        }
    };
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn address(number: u32) -> IpAddr {
        if number.is_multiple_of(2) {
            Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761)).into()
        } else {
            Ipv6Addr::from_bits(u128::from(number) << 64 | u128::from(number)).into()
        }
    }

    proptest! {
        #[test]
        fn it_has_what_was_put_in_and_nothing_else(
            inside in prop::collection::hash_set(0..2_000_u32, 0..300),
            asked in prop::collection::vec(0..2_000_u32, 100),
        ) {
            let set: AddressSet = inside.iter().copied().map(address).collect();
            prop_assert_eq!(set.len(), inside.len());
            for number in asked.into_iter().chain(inside.iter().copied()) {
                prop_assert_eq!(set.contains(&address(number)), inside.contains(&number), "{}", number);
            }
        }
    }

    #[test]
    fn few_strangers_are_looked_for() {
        for own in [1, 100, 4_000_u32] {
            let set: AddressSet = (0..own).map(|host| Ipv4Addr::from_bits(0xc633_6400 + host).into()).collect();
            let strangers =
                (0..100_000_u32).filter(|host| set.may_contain(Ipv4Addr::from_bits(0x6440_0000 + host).into()));
            assert!(strangers.count() < 4_000, "{own}");
        }
        assert!(!AddressSet::default().may_contain(Ipv4Addr::LOCALHOST.into()));
    }
}
