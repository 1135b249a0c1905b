//! The plain classifier: every rule is asked in turn, as it was written. It is the definition of what rules mean, the
//! oracle in the tests of every other classifier, and good enough for short rule lists without DPDK.

use std::net::IpAddr;

use ipnet::IpNet;
use units::{RuleId, ZoneId};

use super::{Candidate, Classifier, IcmpMatch, ProtocolMatch, Rule};
use crate::PortRange;

/// IANA protocol number of `ICMPv4`.
pub(super) const ICMPV4: u8 = 1;
/// IANA protocol number of TCP.
pub(super) const TCP: u8 = 6;
/// IANA protocol number of UDP.
pub(super) const UDP: u8 = 17;
/// IANA protocol number of `ICMPv6`.
pub(super) const ICMPV6: u8 = 58;

/// First match by trying one rule after the other. Cost: rules x the length of their lists for each candidate.
#[derive(Clone, Debug)]
pub struct Linear {
    rules: Vec<Rule>,
}

impl Linear {
    /// The classifier of these rules; [`RuleId`]s are their places.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        Self { rules: rules.to_vec() }
    }
}

impl Classifier for Linear {
    fn classify(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]) {
        for (candidate, found) in candidates.iter().zip(matches) {
            *found =
                (0..).map(RuleId::new).zip(&self.rules).find(|(_, rule)| rule.matches(candidate)).map(|(id, _)| id);
        }
    }

    fn memory(&self) -> usize {
        self.rules.iter().map(bytes).sum()
    }
}

impl Rule {
    /// Whether this rule speaks of `candidate`: every list that is not empty holds something that matches.
    ///
    /// A rule with ports speaks of TCP and UDP only, a rule with ICMP types of `ICMPv4` in IPv4 and `ICMPv6` in IPv6
    /// only, whatever its protocol allows beyond them.
    #[must_use]
    pub fn matches(&self, candidate: &Candidate) -> bool {
        let v6 = candidate.endpoints.is_v6();
        zone_in(&self.from, candidate.from)
            && zone_in(&self.to, candidate.to)
            && protocol_fits(self.protocol, candidate.protocol, v6)
            && address_in(&self.source, candidate.endpoints.source())
            && address_in(&self.destination, candidate.endpoints.destination())
            && self.ports_fit(candidate)
            && self.icmp_fits(candidate, v6)
    }

    fn ports_fit(&self, candidate: &Candidate) -> bool {
        (self.source_port.is_empty() && self.destination_port.is_empty())
            || (matches!(candidate.protocol, TCP | UDP)
                && port_in(&self.source_port, candidate.source_port)
                && port_in(&self.destination_port, candidate.destination_port))
    }

    fn icmp_fits(&self, candidate: &Candidate, v6: bool) -> bool {
        let fits = |icmp: &IcmpMatch| {
            icmp.v6 == v6
                && u16::from(icmp.kind) == candidate.source_port
                && icmp.code.is_none_or(|code| u16::from(code) == candidate.destination_port)
        };
        self.icmp.is_empty() || (candidate.protocol == icmp_of(v6) && self.icmp.iter().any(fits))
    }
}

/// The ICMP of a family.
pub(super) const fn icmp_of(v6: bool) -> u8 {
    if v6 { ICMPV6 } else { ICMPV4 }
}

fn zone_in(zones: &[ZoneId], zone: ZoneId) -> bool {
    zones.is_empty() || zones.contains(&zone)
}

fn address_in(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&address))
}

fn port_in(ranges: &[PortRange], port: u16) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(port))
}

fn protocol_fits(wanted: ProtocolMatch, protocol: u8, v6: bool) -> bool {
    match wanted {
        ProtocolMatch::Any => true,
        ProtocolMatch::Tcp => protocol == TCP,
        ProtocolMatch::Udp => protocol == UDP,
        ProtocolMatch::Icmp => protocol == icmp_of(v6),
        ProtocolMatch::Number(number) => protocol == number,
    }
}

fn bytes(rule: &Rule) -> usize {
    size_of::<Rule>()
        + rule.name.len()
        + size_of::<ZoneId>() * (rule.from.len() + rule.to.len())
        + size_of::<IpNet>() * (rule.source.len() + rule.destination.len())
        + size_of::<PortRange>() * (rule.source_port.len() + rule.destination_port.len())
        + size_of::<IcmpMatch>() * rule.icmp.len()
}

#[cfg(test)]
mod tests {
    use units::TenantId;
    use wire::Endpoints;

    use super::*;
    use crate::firewall::tests::rule_for_all;

    /// From zone 1 to zone 2, 198.51.100.7 to 203.0.113.9.
    fn v4(protocol: u8, source_port: u16, destination_port: u16) -> Candidate {
        let endpoints =
            Endpoints::V4 { source: "198.51.100.7".parse().unwrap(), destination: "203.0.113.9".parse().unwrap() };
        let (from, to, tenant) = (ZoneId::new(1), ZoneId::new(2), TenantId::NONE);
        Candidate { from, to, tenant, protocol, endpoints, source_port, destination_port }
    }

    /// From zone 1 to zone 2, `2001:db8:51::7` to `2001:db8:113::9`.
    fn v6(protocol: u8, source_port: u16, destination_port: u16) -> Candidate {
        let endpoints = Endpoints::V6 {
            source: "2001:db8:51::7".parse().unwrap(),
            destination: "2001:db8:113::9".parse().unwrap(),
        };
        Candidate { endpoints, ..v4(protocol, source_port, destination_port) }
    }

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ports(first: u16, last: u16) -> Vec<PortRange> {
        vec![PortRange::new(first, last).unwrap()]
    }

    #[test]
    fn a_rule_of_empty_lists_matches_everything() {
        assert!(
            [v4(6, 1, 2), v6(17, 3, 4), v4(1, 8, 0), v6(58, 128, 0), v4(47, 0, 0)]
                .iter()
                .all(|it| rule_for_all().matches(it))
        );
    }

    #[test]
    fn every_list_must_hold_something_that_fits() {
        let web = Rule {
            from: vec![ZoneId::new(3), ZoneId::new(1)],
            to: vec![ZoneId::new(2)],
            source: prefixes(&["192.0.2.0/24", "198.51.100.0/25", "2001:db8:51::/48"]),
            destination: prefixes(&["203.0.113.9/32", "2001:db8:113::/64"]),
            protocol: ProtocolMatch::Tcp,
            source_port: ports(1_024, 65_535),
            destination_port: [ports(80, 80), ports(8_000, 8_100)].concat(),
            ..rule_for_all()
        };
        assert!(web.matches(&v4(6, 1_024, 80)) && web.matches(&v6(6, 65_535, 8_100)));
        for (what, other) in [
            ("from another zone", Candidate { from: ZoneId::new(2), ..v4(6, 1_024, 80) }),
            ("to another zone", Candidate { to: ZoneId::APPLIANCE, ..v4(6, 1_024, 80) }),
            ("the other way round", Candidate { endpoints: v4(6, 0, 0).endpoints.reversed(), ..v4(6, 1_024, 80) }),
            ("another protocol", v4(17, 1_024, 80)),
            ("a low source port", v4(6, 1_023, 80)),
            ("a port between the ranges", v4(6, 1_024, 81)),
            ("a port behind the ranges", v6(6, 1_024, 8_101)),
        ] {
            assert!(!web.matches(&other), "{what}");
        }
    }

    #[test]
    fn a_prefix_with_host_bits_means_its_network() {
        assert!(Rule { source: prefixes(&["198.51.100.200/24"]), ..rule_for_all() }.matches(&v4(6, 1, 1)));
    }

    #[test]
    fn icmp_means_the_familys_own() {
        let icmp = Rule { protocol: ProtocolMatch::Icmp, ..rule_for_all() };
        assert!(icmp.matches(&v4(1, 8, 0)) && icmp.matches(&v6(58, 128, 0)));
        assert!(!icmp.matches(&v4(58, 128, 0)) && !icmp.matches(&v6(1, 8, 0)) && !icmp.matches(&v4(6, 8, 0)));
        let by_number = Rule { protocol: ProtocolMatch::Number(58), ..rule_for_all() };
        assert!(by_number.matches(&v4(58, 128, 0)) && by_number.matches(&v6(58, 128, 0)));
    }

    #[test]
    fn icmp_types_are_of_one_family_with_any_code_or_one() {
        let kind = |v6, kind, code| IcmpMatch { v6, kind, code };
        let some = Rule { icmp: vec![kind(false, 3, Some(4)), kind(true, 128, None)], ..rule_for_all() };
        assert!(some.matches(&v4(1, 3, 4)) && some.matches(&v6(58, 128, 0)) && some.matches(&v6(58, 128, 9)));
        assert!(!some.matches(&v4(1, 3, 3)) && !some.matches(&v6(58, 3, 4)) && !some.matches(&v4(1, 128, 0)));
        assert!(!some.matches(&v4(6, 3, 4)), "ports are not types");
    }

    #[test]
    fn ports_speak_of_tcp_and_udp_only() {
        let dns = Rule { destination_port: ports(53, 53), ..rule_for_all() };
        assert!(dns.matches(&v4(6, 9, 53)) && dns.matches(&v6(17, 9, 53)));
        assert!(!dns.matches(&v4(1, 8, 53)) && !dns.matches(&v4(132, 0, 53)));
    }

    #[test]
    fn the_first_of_several_is_found_for_each_candidate() {
        let port = |port| Rule { destination_port: ports(port, port), ..rule_for_all() };
        let linear =
            Linear::new(&[port(80), port(443), port(80), Rule { protocol: ProtocolMatch::Udp, ..rule_for_all() }]);
        let mut found = [Some(RuleId::new(9)); 5];
        linear.classify(&[v4(6, 1, 443), v4(6, 1, 80), v4(6, 1, 22), v4(17, 1, 22)], &mut found);
        assert_eq!(found.map(|id| id.map(RuleId::get)), [Some(1), Some(0), None, Some(3), Some(9)]);
        assert!(linear.memory() > 4 * size_of::<Rule>());
    }
}
