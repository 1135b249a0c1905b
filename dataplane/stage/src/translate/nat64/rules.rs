//! NAT64 rules as an operator means them, and as workers ask them. Compiled in management, never changed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use units::ZoneId;

use super::Nat64Prefix;
use crate::translate::{Filtering, Pool, PoolUses};
use crate::{Keyed, PortRange};

/// IPv6 clients that ask for an address behind this prefix reach the IPv4 address inside it, from one of these addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat64Rule {
    /// The operator's name for it, unique in the policy.
    pub name: String,
    /// The prefix; no two rules' prefixes overlap.
    pub prefix: Nat64Prefix,
    /// Zones of its clients; empty for all.
    pub from: Vec<ZoneId>,
    /// Prefixes of its clients; empty for all.
    pub source: Vec<IpNet>,
    /// The IPv4 addresses that hide the clients.
    pub address: Vec<Ipv4Addr>,
    /// The ports they may leave with.
    pub ports: PortRange,
    /// Which servers may open conversations with a client that has a port outside.
    pub filtering: Filtering,
    /// Outside ports one client may have at a time; `None` for as many as there are.
    pub ports_per_source: Option<u32>,
    /// The largest IPv6 packet made of an IPv4 packet that may be cut: what every path on the IPv6 side carries (RFC 7915
    /// section 4), bytes.
    pub largest: u16,
}

impl Nat64Rule {
    /// Whether it is for clients of this zone and address.
    #[must_use]
    pub fn is_for(&self, from: ZoneId, source: IpAddr) -> bool {
        (self.from.is_empty() || self.from.contains(&from))
            && (self.source.is_empty() || self.source.iter().any(|prefix| prefix.contains(&source)))
    }
}

#[derive(Clone, Debug)]
struct Compiled {
    rule: Nat64Rule,
    pool: Pool,
    number: u16,
}

/// The NAT64 of one policy.
#[derive(Clone, Debug, Default)]
pub struct Nat64 {
    rules: Box<[Compiled]>,
    addresses: HashSet<Ipv4Addr, Keyed>,
}

impl Nat64 {
    /// Compiles these rules. The pools of `uses` from `first` on are theirs, in the same order.
    #[must_use]
    pub fn new(rules: Vec<Nat64Rule>, uses: &PoolUses, first: usize) -> Self {
        let addresses = rules.iter().flat_map(|rule| rule.address.iter().copied()).collect();
        let compiled = |(position, rule): (usize, Nat64Rule)| {
            let addresses: Vec<IpAddr> = rule.address.iter().copied().map(IpAddr::V4).collect();
            Compiled { pool: Pool::new(&addresses), number: uses.number(first + position), rule }
        };
        Self { rules: rules.into_iter().enumerate().map(compiled).collect(), addresses }
    }

    /// Whether there are no rules.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule whose prefix this address is behind, by its position, and the IPv4 address inside.
    #[must_use]
    pub fn find(&self, destination: Ipv6Addr) -> Option<(usize, Ipv4Addr)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find_map(|(position, it)| Some((position, it.rule.prefix.extract(destination)?)))
    }

    /// The rule that an IPv6 address is behind the prefix of, if any.
    #[must_use]
    pub fn behind(&self, address: IpAddr) -> Option<&Nat64Rule> {
        match address {
            IpAddr::V6(v6) if !self.is_empty() => self.find(v6).and_then(|(position, _)| self.rule(position)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// The rule whose pool has this number.
    #[must_use]
    pub fn of_pool(&self, number: u16) -> Option<&Nat64Rule> {
        self.rules.iter().find(|it| it.number == number).map(|it| &it.rule)
    }

    /// The rule at this position.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<&Nat64Rule> {
        self.rules.get(position).map(|it| &it.rule)
    }

    /// The addresses of the rule at this position.
    #[must_use]
    pub fn pool(&self, position: usize) -> Option<&Pool> {
        self.rules.get(position).map(|it| &it.pool)
    }

    /// The number of the pool of the rule at this position, in `PoolUses`.
    #[must_use]
    pub fn number(&self, position: usize) -> Option<u16> {
        self.rules.get(position).map(|it| it.number)
    }

    /// Whether clients may leave with this address.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if self.addresses.contains(&v4))
    }

    /// Every address that clients may leave with once, in no particular order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().map(IpAddr::V4)
    }

    /// The rules in the order written, each with the number of its pool.
    pub fn iter(&self) -> impl Iterator<Item = (&Nat64Rule, u16)> {
        self.rules.iter().map(|it| (&it.rule, it.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::nat64::MTU_V6_MIN;

    fn rule(name: &str, prefix: &str, length: u8) -> Nat64Rule {
        Nat64Rule {
            name: name.to_owned(),
            prefix: Nat64Prefix::new(prefix.parse().unwrap(), length).unwrap(),
            from: vec![ZoneId::new(2)],
            source: vec!["2001:db8:10::/64".parse().unwrap()],
            address: vec![Ipv4Addr::new(198, 51, 100, 64)],
            ports: PortRange::ANY,
            filtering: Filtering::default(),
            ports_per_source: None,
            largest: MTU_V6_MIN,
        }
    }

    #[test]
    fn the_prefix_decides_which_rule_takes_a_packet() {
        let names = ["source".to_owned(), "a".to_owned(), "b".to_owned()];
        let uses = PoolUses::compile(&names, None);
        let nat = Nat64::new(vec![rule("a", "64:ff9b::", 96), rule("b", "2001:db8:64::", 48)], &uses, 1);
        let server = Ipv4Addr::new(192, 0, 2, 33);
        assert_eq!(nat.find("64:ff9b::192.0.2.33".parse().unwrap()), Some((0, server)));
        assert_eq!(nat.find("2001:db8:64:c000:2:2100::".parse().unwrap()), Some((1, server)));
        assert_eq!(nat.find("2001:db8:65::1".parse().unwrap()), None);
        assert_eq!((nat.number(0), nat.number(1)), (Some(uses.number(1)), Some(uses.number(2))));
        assert!(nat.owns("198.51.100.64".parse().unwrap()) && !nat.owns("::1".parse().unwrap()));
        let first = nat.rule(0).unwrap();
        assert!(first.is_for(ZoneId::new(2), "2001:db8:10::5".parse().unwrap()));
        assert!(!first.is_for(ZoneId::new(1), "2001:db8:10::5".parse().unwrap()));
        assert!(!first.is_for(ZoneId::new(2), "2001:db8:11::5".parse().unwrap()));
    }
}
