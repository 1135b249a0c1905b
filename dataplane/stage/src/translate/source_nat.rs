//! Source NAT rules as an operator means them, and as workers ask them.
//!
//! Compiled in management, read by workers at the first packet of a session, never changed.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use units::ZoneId;

use super::Pool;

/// Sessions from these zones and prefixes to those zones leave with one of these addresses. First match wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNatRule {
    /// The operator's name for it, unique in the policy.
    pub name: String,
    /// Zones the session comes from; empty for all.
    pub from: Vec<ZoneId>,
    /// Zones it goes to; empty for all.
    pub to: Vec<ZoneId>,
    /// Source prefixes; empty for all.
    pub source: Vec<IpNet>,
    /// The addresses it may leave with, all of one family or of both (each session uses those of its own).
    pub address: Vec<IpAddr>,
}

impl SourceNatRule {
    fn matches(&self, from: ZoneId, to: ZoneId, source: IpAddr) -> bool {
        (self.from.is_empty() || self.from.contains(&from))
            && (self.to.is_empty() || self.to.contains(&to))
            && (self.source.is_empty() || self.source.iter().any(|prefix| prefix.contains(&source)))
    }
}

/// The source NAT of one policy.
#[derive(Clone, Debug, Default)]
pub struct SourceNat {
    rules: Box<[(SourceNatRule, Pool)]>,
    addresses: HashSet<IpAddr>,
}

impl SourceNat {
    /// Compiles these rules.
    #[must_use]
    pub fn new(rules: Vec<SourceNatRule>) -> Self {
        let addresses = rules.iter().flat_map(|rule| rule.address.iter().copied()).collect();
        let rules = rules.into_iter().map(|rule| (Pool::new(&rule.address), rule)).map(|(pool, rule)| (rule, pool));
        Self { rules: rules.collect(), addresses }
    }

    /// The position of the first rule that hides this source, or `None` when it leaves as it is. A rule without an
    /// address of the source's family does not match it.
    #[must_use]
    pub fn find(&self, from: ZoneId, to: ZoneId, source: IpAddr) -> Option<usize> {
        self.rules.iter().position(|(rule, pool)| pool.serves(source) && rule.matches(from, to, source))
    }

    /// The rule at this position.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<&SourceNatRule> {
        self.rules.get(position).map(|(rule, _)| rule)
    }

    /// The addresses of the rule at this position.
    #[must_use]
    pub fn pool(&self, position: usize) -> Option<&Pool> {
        self.rules.get(position).map(|(_, pool)| pool)
    }

    /// Whether sessions may leave with this address.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Every address that sessions may leave with, once, in no particular order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN: ZoneId = ZoneId::new(1);
    const DMZ: ZoneId = ZoneId::new(2);

    fn rule(name: &str, from: &[ZoneId], to: &[ZoneId], source: &[&str], address: &[&str]) -> SourceNatRule {
        SourceNatRule {
            name: name.into(),
            from: from.into(),
            to: to.into(),
            source: source.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            address: address.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn found(nat: &SourceNat, from: ZoneId, to: ZoneId, source: &str) -> Option<String> {
        let position = nat.find(from, to, source.parse().unwrap())?;
        nat.rule(position).map(|rule| rule.name.clone())
    }

    #[test]
    fn first_rule_that_matches_zones_and_source_wins() {
        let nat = SourceNat::new(vec![
            rule("one-host", &[DMZ], &[WAN], &["10.0.0.7/32"], &["198.51.100.7"]),
            rule("servers-out", &[DMZ], &[WAN], &["10.0.0.0/24"], &["198.51.100.1"]),
            rule("rest", &[], &[WAN], &[], &["198.51.100.2"]),
        ]);
        assert_eq!(found(&nat, DMZ, WAN, "10.0.0.7").as_deref(), Some("one-host"));
        assert_eq!(found(&nat, DMZ, WAN, "10.0.0.8").as_deref(), Some("servers-out"));
        assert_eq!(found(&nat, DMZ, WAN, "10.0.1.8").as_deref(), Some("rest"));
        assert_eq!(found(&nat, WAN, DMZ, "10.0.0.8"), None);
        assert_eq!(found(&SourceNat::default(), DMZ, WAN, "10.0.0.8"), None);
    }

    #[test]
    fn a_rule_without_addresses_of_the_family_is_passed_over() {
        let nat = SourceNat::new(vec![
            rule("v4", &[], &[], &[], &["198.51.100.1"]),
            rule("both", &[], &[], &[], &["198.51.100.2", "2001:db8::2"]),
        ]);
        assert_eq!(found(&nat, DMZ, WAN, "2001:db8:10::5").as_deref(), Some("both"));
        assert_eq!(found(&nat, DMZ, WAN, "10.0.0.8").as_deref(), Some("v4"));
        assert_eq!(nat.pool(1).unwrap().iter().count(), 2);
    }

    #[test]
    fn owned_addresses_are_those_of_every_rule() {
        let nat = SourceNat::new(vec![rule("v4", &[], &[], &[], &["198.51.100.1", "2001:db8::2"])]);
        assert!(nat.owns("198.51.100.1".parse().unwrap()) && nat.owns("2001:db8::2".parse().unwrap()));
        assert!(!nat.owns("198.51.100.2".parse().unwrap()));
        assert_eq!(nat.addresses().count(), 2);
    }
}
