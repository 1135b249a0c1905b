//! Source NAT rules as an operator means them, and as workers ask them.
//!
//! Compiled in management, read by workers at the first packet of a session, never changed.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use units::ZoneId;
use units::limits::{NAT_PORT_MAX, NAT_PORT_MIN};

use super::{Filtering, Mapping, Pool, PoolUses};
use crate::PortRange;

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
    /// The ports (and identifiers of echo) it may leave with, from 1024 on.
    pub ports: PortRange,
    /// For which far ends a client keeps its outside address and port.
    pub mapping: Mapping,
    /// Which far ends may open conversations with it; never looser than `mapping`.
    pub filtering: Filtering,
    /// Outside ports that one source may have at a time (RFC 6888 REQ-4), however many conversations share one; `None` for as many as there are.
    pub ports_per_source: Option<u32>,
}

impl SourceNatRule {
    /// A rule for everything that leaves with these addresses, with every default.
    #[must_use]
    pub fn new(name: &str, address: Vec<IpAddr>) -> Self {
        Self {
            name: name.to_owned(),
            from: Vec::new(),
            to: Vec::new(),
            source: Vec::new(),
            address,
            ports: Self::PORTS,
            mapping: Mapping::default(),
            filtering: Filtering::default(),
            ports_per_source: None,
        }
    }

    /// The ports where a rule does not say.
    pub const PORTS: PortRange = match PortRange::new(NAT_PORT_MIN, NAT_PORT_MAX) {
        Some(range) => range,
        None => PortRange::ANY,
    };

    /// Whether mappings are kept beside the sessions; otherwise each session has a port of its own towards its far end,
    /// and the session table alone knows which are free.
    #[must_use]
    pub fn keeps_mappings(&self) -> bool {
        self.mapping != Mapping::default() || self.ports_per_source.is_some()
    }

    fn hides(&self, from: ZoneId, source: IpAddr) -> bool {
        (self.from.is_empty() || self.from.contains(&from))
            && (self.source.is_empty() || self.source.iter().any(|prefix| prefix.contains(&source)))
    }

    fn matches(&self, from: ZoneId, to: ZoneId, source: IpAddr) -> bool {
        (self.to.is_empty() || self.to.contains(&to)) && self.hides(from, source)
    }
}

/// How the sessions of one client must be kept together on one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// Those of one address and port: they share a mapping.
    Endpoint,
    /// Those of one address: its ports are counted.
    Address,
}

#[derive(Clone, Debug)]
struct Compiled {
    rule: SourceNatRule,
    pool: Pool,
    number: u16,
}

/// The source NAT of one policy.
#[derive(Clone, Debug, Default)]
pub struct SourceNat {
    rules: Box<[Compiled]>,
    addresses: HashSet<IpAddr>,
    keeps_mappings: bool,
}

impl SourceNat {
    /// Compiles these rules. The first pools of `uses` are theirs, in the same order.
    #[must_use]
    pub fn new(rules: Vec<SourceNatRule>, uses: &PoolUses) -> Self {
        let addresses = rules.iter().flat_map(|rule| rule.address.iter().copied()).collect();
        let keeps_mappings = rules.iter().any(SourceNatRule::keeps_mappings);
        let compiled = |(position, rule): (usize, SourceNatRule)| Compiled {
            pool: Pool::new(&rule.address),
            number: uses.number(position),
            rule,
        };
        Self { rules: rules.into_iter().enumerate().map(compiled).collect(), addresses, keeps_mappings }
    }

    /// The position of the first rule that hides this source, or `None` when it leaves as it is. A rule without an
    /// address of the source's family does not match it.
    #[must_use]
    pub fn find(&self, from: ZoneId, to: ZoneId, source: IpAddr) -> Option<usize> {
        self.rules.iter().position(|it| it.pool.serves(source) && it.rule.matches(from, to, source))
    }

    /// As [`find`](Self::find), for a client that asks for an outside address of this appliance and comes back in
    /// (RFC 4787 section 6, hairpinning): the rule that would hide it on its way out, wherever `to` is. A rule that names
    /// neither zones nor sources of clients hides only those whose conversation stays in their zone.
    #[must_use]
    pub fn find_hairpin(&self, from: ZoneId, to: ZoneId, source: IpAddr) -> Option<usize> {
        let named = |rule: &SourceNatRule| from == to || !rule.from.is_empty() || !rule.source.is_empty();
        self.rules.iter().position(|it| it.pool.serves(source) && it.rule.hides(from, source) && named(&it.rule))
    }

    /// What has to stay on one worker of a source that one of these rules hides; `None` when its sessions may be spread.
    #[must_use]
    pub fn together(&self, from: ZoneId, to: ZoneId, source: IpAddr) -> Option<Together> {
        let rule = self.find(from, to, source).and_then(|position| self.rule(position))?;
        match (rule.ports_per_source, rule.keeps_mappings()) {
            (Some(_), _) => Some(Together::Address),
            (None, true) => Some(Together::Endpoint),
            (None, false) => None,
        }
    }

    /// Whether any rule keeps mappings.
    #[must_use]
    pub const fn keeps_mappings(&self) -> bool {
        self.keeps_mappings
    }

    /// The number of the pool of the rule at this position, in `PoolUses`.
    #[must_use]
    pub fn number(&self, position: usize) -> Option<u16> {
        self.rules.get(position).map(|it| it.number)
    }

    /// The rule at this position.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<&SourceNatRule> {
        self.rules.get(position).map(|it| &it.rule)
    }

    /// The addresses of the rule at this position.
    #[must_use]
    pub fn pool(&self, position: usize) -> Option<&Pool> {
        self.rules.get(position).map(|it| &it.pool)
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

    /// The rules, first match first, each with the number of its pool.
    pub fn iter(&self) -> impl Iterator<Item = (&SourceNatRule, u16)> {
        self.rules.iter().map(|it| (&it.rule, it.number))
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
            from: from.into(),
            to: to.into(),
            source: source.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            ..SourceNatRule::new(name, address.iter().map(|address| address.parse().unwrap()).collect())
        }
    }

    fn compiled(rules: Vec<SourceNatRule>) -> SourceNat {
        let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        SourceNat::new(rules, &PoolUses::compile(&names, None))
    }

    fn found(nat: &SourceNat, from: ZoneId, to: ZoneId, source: &str) -> Option<String> {
        let position = nat.find(from, to, source.parse().unwrap())?;
        nat.rule(position).map(|rule| rule.name.clone())
    }

    #[test]
    fn first_rule_that_matches_zones_and_source_wins() {
        let nat = compiled(vec![
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
        let nat = compiled(vec![
            rule("v4", &[], &[], &[], &["198.51.100.1"]),
            rule("both", &[], &[], &[], &["198.51.100.2", "2001:db8::2"]),
        ]);
        assert_eq!(found(&nat, DMZ, WAN, "2001:db8:10::5").as_deref(), Some("both"));
        assert_eq!(found(&nat, DMZ, WAN, "10.0.0.8").as_deref(), Some("v4"));
        assert_eq!(nat.pool(1).unwrap().iter().count(), 2);
    }

    #[test]
    fn what_shares_a_mapping_or_a_limit_stays_together() {
        let out = |name: &str, source: &str| rule(name, &[DMZ], &[WAN], &[source], &["198.51.100.1"]);
        let nat = compiled(vec![
            SourceNatRule { mapping: Mapping::EndpointIndependent, ..out("games", "10.0.1.0/24") },
            SourceNatRule { ports_per_source: Some(9), ..out("few", "10.0.2.0/24") },
            out("rest", "10.0.0.0/16"),
        ]);
        let together = |from, to, source: &str| nat.together(from, to, source.parse().unwrap());
        assert_eq!(together(DMZ, WAN, "10.0.1.1"), Some(Together::Endpoint));
        assert_eq!(together(DMZ, WAN, "10.0.2.1"), Some(Together::Address));
        assert_eq!(together(DMZ, WAN, "10.0.3.1"), None);
        assert_eq!(together(WAN, DMZ, "10.0.1.1"), None);
        assert_eq!(nat.find_hairpin(DMZ, DMZ, "10.0.2.1".parse().unwrap()), Some(1));
        assert_eq!(nat.find_hairpin(WAN, DMZ, "10.0.2.1".parse().unwrap()), None);
        assert!(nat.keeps_mappings() && !compiled(vec![out("rest", "10.0.0.0/16")]).keeps_mappings());
    }

    #[test]
    fn owned_addresses_are_those_of_every_rule() {
        let nat = compiled(vec![rule("v4", &[], &[], &[], &["198.51.100.1", "2001:db8::2"])]);
        assert!(nat.owns("198.51.100.1".parse().unwrap()) && nat.owns("2001:db8::2".parse().unwrap()));
        assert!(!nat.owns("198.51.100.2".parse().unwrap()));
        assert_eq!(nat.addresses().count(), 2);
    }
}
