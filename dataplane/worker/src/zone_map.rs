//! Which zone each address is routed to, in one policy, as far as it decides whose sessions source NAT keeps together: apart from
//! the route table, so that it can be compared with another policy's and outlive the tables it was made of.
//!
//! Built when a policy is compiled, read by workers; addresses in order, neighbors with one zone together.

use core::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;
use units::ZoneId;

/// From one address on, up to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: u128,
    zone: Option<ZoneId>,
}

/// The zones of all addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ZoneMap {
    v4: Box<[Stretch]>,
    v6: Box<[Stretch]>,
}

const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits() as u128,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Cuts prefixes that lie in each other into stretches that do not.
fn stretches(prefixes: impl Iterator<Item = (IpNet, ZoneId)>) -> Box<[Stretch]> {
    let mut prefixes: Vec<(u128, u128, ZoneId)> =
        prefixes.map(|(net, zone)| (number(net.network()), number(net.broadcast()), zone)).collect();
    // Of those that begin together the wider comes first, and the narrower takes its place.
    prefixes.sort_by_key(|&(first, last, _)| (first, Reverse(last)));
    let mut stretches = vec![Stretch { first: 0, zone: None }];
    let mut around: Vec<(u128, ZoneId)> = Vec::new();
    for (first, last, zone) in prefixes {
        leave(&mut around, &mut stretches, |end| end < first);
        around.push((last, zone));
        begin(&mut stretches, first, Some(zone));
    }
    leave(&mut around, &mut stretches, |_| true);
    stretches.dedup_by_key(|stretch| stretch.zone);
    stretches.into()
}

/// Ends the innermost prefixes as long as they are over.
fn leave(around: &mut Vec<(u128, ZoneId)>, stretches: &mut Vec<Stretch>, is_over: impl Fn(u128) -> bool) {
    while let Some((end, _)) = around.pop_if(|(end, _)| is_over(*end)) {
        if let Some(first) = end.checked_add(1) {
            begin(stretches, first, around.last().map(|&(_, zone)| zone));
        }
    }
}

fn begin(stretches: &mut Vec<Stretch>, first: u128, zone: Option<ZoneId>) {
    match stretches.last_mut() {
        Some(last) if last.first == first => last.zone = zone,
        _ => stretches.push(Stretch { first, zone }),
    }
}

impl ZoneMap {
    /// The zones these prefixes are routed to; of those that lie in each other the narrowest counts.
    pub(crate) fn new(routes: &[(IpNet, ZoneId)]) -> Self {
        let of = |is_v4: bool| routes.iter().copied().filter(move |(net, _)| net.addr().is_ipv4() == is_v4);
        Self { v4: stretches(of(true)), v6: stretches(of(false)) }
    }

    /// The zone an address is routed to, if it is.
    pub(crate) fn zone(&self, address: IpAddr) -> Option<ZoneId> {
        let (stretches, number) = (if address.is_ipv4() { &self.v4 } else { &self.v6 }, number(address));
        let behind = stretches.partition_point(|stretch| stretch.first <= number);
        stretches.get(behind.checked_sub(1)?)?.zone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(routes: &[(&str, u8)]) -> ZoneMap {
        ZoneMap::new(&routes.iter().map(|&(net, zone)| (net.parse().unwrap(), ZoneId::new(zone))).collect::<Vec<_>>())
    }

    #[test]
    fn the_narrowest_prefix_counts() {
        let map = map(&[
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 2),
            ("10.1.0.0/24", 3),
            ("10.1.255.0/24", 1),
            ("255.255.255.255/32", 4),
            ("::/0", 5),
            ("2001:db8::/32", 6),
            ("ffff::/16", 7),
        ]);
        for (address, zone) in [
            ("9.255.255.255", None),
            ("10.0.0.0", Some(1)),
            ("10.1.0.255", Some(3)),
            ("10.1.1.0", Some(2)),
            ("10.1.254.255", Some(2)),
            ("10.1.255.0", Some(1)),
            ("10.2.0.0", Some(1)),
            ("11.0.0.0", None),
            ("255.255.255.254", None),
            ("255.255.255.255", Some(4)),
            ("::", Some(5)),
            ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", Some(5)),
            ("2001:db8::1", Some(6)),
            ("2001:db9::", Some(5)),
            ("ffff:ffff::1", Some(7)),
        ] {
            assert_eq!(map.zone(address.parse().unwrap()), zone.map(ZoneId::new), "{address}");
        }
    }

    #[test]
    fn routes_that_lead_to_the_same_zones_are_the_same() {
        let one = map(&[("0.0.0.0/0", 1), ("10.0.0.0/8", 2)]);
        assert_eq!(one, map(&[("10.0.0.0/9", 2), ("10.128.0.0/9", 2), ("0.0.0.0/0", 1), ("192.0.2.0/24", 1)]));
        assert_ne!(one, map(&[("0.0.0.0/0", 1), ("10.0.0.0/9", 2)]));
        assert_eq!(ZoneMap::default().zone("10.0.0.1".parse().unwrap()), None);
    }

    proptest::proptest! {
        /// As a search over all prefixes says it.
        #[test]
        fn it_is_what_the_longest_match_is(
            routes in proptest::collection::vec((0..=u8::MAX, 0..=8_u8, 0..3_u8), 0..12),
            asked in 0..=u8::MAX,
        ) {
            let net = |byte: u8, len: u8| IpNet::new(IpAddr::from([byte, 0, 0, 0]), len).unwrap().trunc();
            let mut written: Vec<(IpNet, ZoneId)> =
                routes.iter().map(|&(byte, len, zone)| (net(byte, len), ZoneId::new(zone))).collect();
            written.sort();
            written.dedup_by_key(|(net, _)| *net);
            let address = IpAddr::from([asked, 1, 2, 3]);
            let longest = written.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
            proptest::prop_assert_eq!(ZoneMap::new(&written).zone(address), longest.map(|&(_, zone)| zone));
        }
    }
}
