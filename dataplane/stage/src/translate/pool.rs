//! The addresses that sessions may leave with. A client keeps one address for all its sessions as long as the pool does
//! not change (paired pooling, RFC 4787 section 4.1); which one depends on nothing but the client and the pool.
//!
//! Built when a policy is compiled, read by workers at the first packet of a session, never changed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Keyed;
use crate::balancer::stable_hash::{StableHash, below};

/// Addresses of both families, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    v4: Box<[Ipv4Addr]>,
    v6: Box<[Ipv6Addr]>,
    all: HashSet<IpAddr, Keyed>,
}

impl Pool {
    /// The pool of these addresses, each counted once.
    #[must_use]
    pub fn new(addresses: &[IpAddr]) -> Self {
        let (mut v4, mut v6, mut all) = (Vec::new(), Vec::new(), HashSet::default());
        for &address in addresses.iter().filter(|&&address| all.insert(address)) {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        Self { v4: v4.into(), v6: v6.into(), all }
    }

    /// The IPv4 addresses for this client: first its own, then the others, for when the ports of its own are used up.
    pub fn v4(&self, client: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
        from_own(&self.v4, IpAddr::V4(client))
    }

    /// The IPv4 addresses for a client of either version, its own first.
    pub fn v4_of(&self, client: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
        from_own(&self.v4, client)
    }

    /// The IPv6 addresses for this client: first its own, then the others.
    pub fn v6(&self, client: Ipv6Addr) -> impl Iterator<Item = Ipv6Addr> {
        from_own(&self.v6, IpAddr::V6(client))
    }

    /// Whether it has addresses of the family of `like`.
    #[must_use]
    pub fn serves(&self, like: IpAddr) -> bool {
        if like.is_ipv6() { !self.v6.is_empty() } else { !self.v4.is_empty() }
    }

    /// Whether this is one of its addresses.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.all.contains(&address)
    }

    /// Every address.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().copied().map(IpAddr::V4).chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}

fn from_own<A: Copy>(addresses: &[A], client: IpAddr) -> impl Iterator<Item = A> {
    let own = below(StableHash::new(5).address(client).finish(), addresses.len());
    addresses.iter().copied().cycle().skip(own).take(addresses.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3", "192.0.2.1"];
        Pool::new(&addresses.map(|address| address.parse().unwrap()))
    }

    #[test]
    fn a_client_keeps_its_address_and_falls_back_to_each_other_once() {
        // RFC 4787 REQ-2: paired.
        for client in 0..100u32 {
            let choices: Vec<Ipv4Addr> = pool().v4(client.into()).collect();
            assert_eq!(choices, pool().v4(client.into()).collect::<Vec<_>>());
            let mut sorted = choices.clone();
            sorted.sort_unstable();
            assert_eq!(sorted.iter().map(|address| address.octets()[3]).collect::<Vec<_>>(), [1, 2, 3]);
        }
    }

    #[test]
    fn clients_spread_over_the_addresses() {
        let mut hits = [0u32; 4];
        for client in 0..30_000u32 {
            hits[usize::from(pool().v4(client.into()).next().unwrap().octets()[3])] += 1;
        }
        assert!(hits[1..].iter().all(|&n| (9_500..10_500).contains(&n)), "{hits:?}");
    }

    #[test]
    fn families_are_kept_apart() {
        let pool = pool();
        assert_eq!(pool.v6("2001:db8:9::1".parse().unwrap()).count(), 1);
        assert!(pool.serves("::1".parse().unwrap()));
        assert!(!Pool::default().serves("127.0.0.1".parse().unwrap()));
        assert_eq!(Pool::default().v4(Ipv4Addr::LOCALHOST).next(), None);
        assert_eq!(pool.iter().count(), 4);
        assert!(pool.iter().all(|address| pool.has(address)) && !pool.has("192.0.2.4".parse().unwrap()));
    }
}
