//! Values by prefix, found by address: what contains it, longest prefix first.
//!
//! One hash look-up for each prefix length in use, so that thousands of rules or routes are checked against thousands
//! of addresses in no time.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

/// Values by prefix; a prefix has one value.
#[derive(Clone, Debug)]
pub(crate) struct PrefixMap<T> {
    values: HashMap<IpNet, T>,
    v4_lengths: BTreeSet<u8>,
    v6_lengths: BTreeSet<u8>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), v4_lengths: BTreeSet::new(), v6_lengths: BTreeSet::new() }
    }
}

impl<T> PrefixMap<T> {
    /// The value of exactly this prefix.
    pub(crate) fn get(&self, prefix: IpNet) -> Option<&T> {
        self.values.get(&prefix.trunc())
    }

    /// The place of this prefix's value.
    pub(crate) fn entry(&mut self, prefix: IpNet) -> std::collections::hash_map::Entry<'_, IpNet, T> {
        let lengths = if prefix.addr().is_ipv4() { &mut self.v4_lengths } else { &mut self.v6_lengths };
        lengths.insert(prefix.prefix_len());
        self.values.entry(prefix.trunc())
    }

    /// Every prefix that contains `address`, longest first.
    pub(crate) fn containing(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, &T)> {
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths.iter().rev().filter_map(move |&length| {
            let prefix = IpNet::new(address, length).ok()?.trunc();
            Some((prefix, self.values.get(&prefix)?))
        })
    }

    /// Every prefix and its value, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &T)> {
        self.values.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn look_ups_agree_with_trying_each(
            prefixes in prop::collection::vec((0_u32..64, 24_u8..=32), 0..20),
            address in 0_u32..64,
        ) {
            let net = |bits: u32, length| IpNet::new(Ipv4Addr::from_bits(bits).into(), length).unwrap().trunc();
            let mut map = PrefixMap::default();
            for (place, &(bits, length)) in prefixes.iter().enumerate() {
                map.entry(net(bits, length)).or_insert(place);
            }
            let address = IpAddr::V4(Ipv4Addr::from_bits(address));
            let found: Vec<_> = map.containing(address).map(|(prefix, _)| prefix).collect();
            let mut expected: Vec<_> = prefixes.iter().map(|&(b, l)| net(b, l)).filter(|p| p.contains(&address)).collect();
            expected.sort_by_key(|prefix| core::cmp::Reverse(prefix.prefix_len()));
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }
}
