//! A rule in normal form: one part for each family, prefixes and ranges sorted and merged until nothing in a list
//! touches or contains its neighbour. Expansion multiplies it out, the search for shadowed rules compares it; both rely
//! on the form being unique: a prefix lies in a union of prefixes exactly when it lies in one prefix of the merged
//! list, and the same holds for ranges.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use units::ZoneId;

use super::linear::{TCP, UDP, icmp_of};
use super::{ProtocolMatch, Rule};
use crate::PortRange;

/// A rule, reduced to what it matches.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    /// Zones the packet comes from, sorted; empty for every zone.
    pub(super) from: Vec<ZoneId>,
    /// Zones the packet goes to, sorted; empty for every zone.
    pub(super) to: Vec<ZoneId>,
    /// What it matches in IPv4; `None` when nothing.
    pub(super) v4: Option<Part>,
    /// What it matches in IPv6; `None` when nothing.
    pub(super) v6: Option<Part>,
}

/// What a rule matches in one family: each source with each destination and each traffic. No list is empty.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Merged source prefixes.
    pub(super) sources: Vec<IpNet>,
    /// Merged destination prefixes.
    pub(super) destinations: Vec<IpNet>,
    /// The protocols and ports.
    pub(super) traffic: Vec<Traffic>,
}

/// One protocol with ports: each source range with each destination range. For ICMP the ranges hold type and code.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    /// The protocol; `None` for every one.
    pub(super) protocol: Option<u8>,
    /// Merged ranges of source ports or ICMP types.
    pub(super) source_ports: Vec<PortRange>,
    /// Merged ranges of destination ports or ICMP codes.
    pub(super) destination_ports: Vec<PortRange>,
}

impl Normal {
    /// The normal form of `rule`: matches exactly what [`Rule::matches`] does.
    pub(super) fn of(rule: &Rule) -> Self {
        Self { from: zones(&rule.from), to: zones(&rule.to), v4: Part::of(rule, false), v6: Part::of(rule, true) }
    }

    /// How many flat entries it multiplies out to.
    pub(super) fn entries(&self) -> u64 {
        let zones = product([self.from.len().max(1), self.to.len().max(1)]);
        let parts =
            [&self.v4, &self.v6].into_iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(part.entries()));
        zones.saturating_mul(parts)
    }
}

impl Part {
    fn of(rule: &Rule, v6: bool) -> Option<Self> {
        let part = Self {
            sources: prefixes(&rule.source, v6),
            destinations: prefixes(&rule.destination, v6),
            traffic: traffic(rule, v6),
        };
        let empty = part.sources.is_empty() || part.destinations.is_empty() || part.traffic.is_empty();
        (!empty).then_some(part)
    }

    fn entries(&self) -> u64 {
        let traffic = self.traffic.iter().fold(0, |sum: u64, traffic| {
            sum.saturating_add(product([traffic.source_ports.len(), traffic.destination_ports.len()]))
        });
        product([self.sources.len(), self.destinations.len()]).saturating_mul(traffic)
    }
}

fn product(factors: [usize; 2]) -> u64 {
    factors.into_iter().fold(1, |product, factor| product.saturating_mul(u64::try_from(factor).unwrap_or(u64::MAX)))
}

fn zones(zones: &[ZoneId]) -> Vec<ZoneId> {
    let mut zones = zones.to_vec();
    zones.sort_unstable();
    zones.dedup();
    zones
}

/// The prefixes of one family; an empty list as written means every address of both.
fn prefixes(written: &[IpNet], v6: bool) -> Vec<IpNet> {
    if written.is_empty() {
        return vec![if v6 { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) }];
    }
    merge_prefixes(written.iter().filter(|prefix| matches!(prefix, IpNet::V6(_)) == v6).map(IpNet::trunc).collect())
}

/// Drops prefixes that another contains and joins siblings, until neither is left. The result is sorted.
fn merge_prefixes(mut prefixes: Vec<IpNet>) -> Vec<IpNet> {
    prefixes.sort_unstable();
    let mut merged: Vec<IpNet> = Vec::with_capacity(prefixes.len());
    for mut prefix in prefixes {
        // Sorted by address, then length: whatever contains `prefix` came before it, and is the last one kept.
        if merged.last().is_some_and(|last| last.contains(&prefix)) {
            continue;
        }
        while let Some(parent) = merged.last().filter(|last| last.is_sibling(&prefix)).and_then(IpNet::supernet) {
            merged.pop();
            prefix = parent;
        }
        merged.push(prefix);
    }
    merged
}

/// Joins ranges that overlap or touch. The result is sorted; an empty list means every port.
fn merge_ranges(written: &[PortRange]) -> Vec<PortRange> {
    if written.is_empty() {
        return vec![PortRange::ANY];
    }
    let mut ranges = written.to_vec();
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.first() <= last.last().saturating_add(1) => {
                if let Some(joined) = PortRange::new(last.first(), last.last().max(range.last())) {
                    *last = joined;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn traffic(rule: &Rule, v6: bool) -> Vec<Traffic> {
    let with_ports = !rule.source_port.is_empty() || !rule.destination_port.is_empty();
    let with_icmp = !rule.icmp.is_empty();
    let wanted = match rule.protocol {
        ProtocolMatch::Any => None,
        ProtocolMatch::Tcp => Some(TCP),
        ProtocolMatch::Udp => Some(UDP),
        ProtocolMatch::Icmp => Some(icmp_of(v6)),
        ProtocolMatch::Number(number) => Some(number),
    };
    match (with_ports, with_icmp) {
        (true, true) => Vec::new(),
        (false, false) => vec![plain(wanted)],
        (true, false) => [TCP, UDP]
            .into_iter()
            .filter(|&protocol| wanted.is_none_or(|wanted| wanted == protocol))
            .map(|protocol| Traffic {
                protocol: Some(protocol),
                source_ports: merge_ranges(&rule.source_port),
                destination_ports: merge_ranges(&rule.destination_port),
            })
            .collect(),
        (false, true) if wanted.is_none_or(|wanted| wanted == icmp_of(v6)) => icmp_traffic(rule, v6),
        (false, true) => Vec::new(),
    }
}

fn plain(protocol: Option<u8>) -> Traffic {
    Traffic { protocol, source_ports: vec![PortRange::ANY], destination_ports: vec![PortRange::ANY] }
}

/// Types meant with every code form one traffic; types of which the same codes are meant form one more each.
fn icmp_traffic(rule: &Rule, v6: bool) -> Vec<Traffic> {
    let mut codes_of: BTreeMap<u8, Vec<PortRange>> = BTreeMap::new();
    for icmp in rule.icmp.iter().filter(|icmp| icmp.v6 == v6) {
        let codes = icmp.code.map_or(PortRange::ANY, |code| PortRange::single(u16::from(code)));
        codes_of.entry(icmp.kind).or_default().push(codes);
    }
    let mut kinds_of: BTreeMap<Vec<PortRange>, Vec<PortRange>> = BTreeMap::new();
    for (kind, codes) in codes_of {
        kinds_of.entry(merge_ranges(&codes)).or_default().push(PortRange::single(u16::from(kind)));
    }
    kinds_of
        .into_iter()
        .map(|(codes, kinds)| Traffic {
            protocol: Some(icmp_of(v6)),
            source_ports: merge_ranges(&kinds),
            destination_ports: codes,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::IcmpMatch;
    use crate::firewall::tests::rule_for_all;

    fn merged(texts: &[&str]) -> Vec<String> {
        merge_prefixes(texts.iter().map(|text| text.parse::<IpNet>().unwrap().trunc()).collect())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn prefixes_lose_what_they_contain_and_join_their_siblings() {
        assert_eq!(merged(&["10.0.1.0/24", "10.0.0.0/16", "10.0.0.0/16"]), ["10.0.0.0/16"]);
        assert_eq!(merged(&["10.0.0.3/32", "10.0.0.0/31", "10.0.0.2/32"]), ["10.0.0.0/30"]);
        assert_eq!(merged(&["10.0.1.0/24", "10.0.2.0/24"]), ["10.0.1.0/24", "10.0.2.0/24"], "neighbours, not siblings");
        assert_eq!(merged(&["255.255.255.255/32", "255.255.255.254/32"]), ["255.255.255.254/31"]);
        assert_eq!(merged(&["128.0.0.0/1", "0.0.0.0/1"]), ["0.0.0.0/0"]);
        assert_eq!(merged(&["8000::/1", "::/2", "4000::/2", "2001:db8::/32"]), ["::/0"]);
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let range = |first, last| PortRange::new(first, last).unwrap();
        assert_eq!(merge_ranges(&[range(90, 100), range(80, 89), range(1, 2)]), [range(1, 2), range(80, 100)]);
        assert_eq!(merge_ranges(&[range(0, 65_535), range(65_535, 65_535), range(5, 6)]), [PortRange::ANY]);
        assert_eq!(merge_ranges(&[]), [PortRange::ANY]);
    }

    #[test]
    fn icmp_types_with_the_same_codes_share_a_traffic() {
        let kind = |kind, code| IcmpMatch { v6: false, kind, code };
        let icmp = vec![kind(8, None), kind(0, None), kind(3, Some(4)), kind(3, Some(3)), kind(8, Some(1))];
        let rule = Rule { from: vec![ZoneId::new(2), ZoneId::new(1), ZoneId::new(2)], icmp, ..rule_for_all() };
        let normal = Normal::of(&rule);
        assert!(normal.v6.is_none(), "no ICMPv6 type is named");
        assert_eq!(normal.from, [ZoneId::new(1), ZoneId::new(2)]);
        let traffic: Vec<_> = normal
            .v4
            .as_ref()
            .unwrap()
            .traffic
            .iter()
            .map(|traffic| {
                let show = |ranges: &[PortRange]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                (traffic.protocol, show(&traffic.source_ports), show(&traffic.destination_ports))
            })
            .collect();
        let wanted = [(Some(1), "0,8".to_owned(), "0-65535".to_owned()), (Some(1), "3".to_owned(), "3-4".to_owned())];
        assert_eq!(traffic, wanted);
        assert_eq!(normal.entries(), 6);
    }
}
