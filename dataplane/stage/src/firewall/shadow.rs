//! Rules that can never match: because one earlier rule takes all they would match, or because nothing can match them.
//! Pure; called in management, by `check` and when a policy is loaded.
//!
//! Every rule reported is truly without effect. Not every one without effect is reported: several earlier rules that
//! cover a rule only together go unnoticed, and so does what would take more than `STEPS_MAX` steps to find. Ten
//! thousand rules stay far below that even if all of them differ in nothing but their ports.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;
use units::{RuleId, ZoneId};

use super::Rule;
use super::normal::{Normal, Part, Traffic};
use crate::PortRange;

/// Comparisons after which the search ends with what it has: about a second's worth.
const STEPS_MAX: u64 = 400_000_000;

/// A rule that can never match, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shadowed {
    /// The rule that never matches.
    pub rule: RuleId,
    /// An earlier rule that takes everything it would match; `None` when nothing at all can match it, such as an IPv4
    /// source with an IPv6 destination.
    pub by: Option<RuleId>,
}

/// Finds the rules that can never match, in their order. [`RuleId`]s are places in `rules`.
#[must_use]
pub fn shadowed(rules: &[Rule]) -> Vec<Shadowed> {
    search(rules).0
}

/// The shadowed rules and the steps it took to find them.
fn search(rules: &[Rule]) -> (Vec<Shadowed>, u64) {
    let normal: Vec<Normal> = rules.iter().map(Normal::of).collect();
    let mut search = Search { rules: &normal, sources: Index::default(), destinations: Index::default(), steps: 0 };
    let mut found = Vec::new();
    for (id, rule) in (0..).map(RuleId::new).zip(&normal) {
        let Some(part) = rule.v4.as_ref().or(rule.v6.as_ref()) else {
            found.push(Shadowed { rule: id, by: None });
            continue;
        };
        let by = search.cover_of(rule, part);
        if by.is_some() {
            // Whatever this rule would cover, the rule that covers it covers as well: it need not be searched.
            found.push(Shadowed { rule: id, by });
        } else {
            search.insert(id, rule);
        }
        if search.steps > STEPS_MAX {
            break;
        }
    }
    (found, search.steps)
}

/// The rules so far, found by any of their prefixes.
struct Search<'a> {
    rules: &'a [Normal],
    sources: Index,
    destinations: Index,
    steps: u64,
}

/// Rules by the prefixes they name.
#[derive(Default)]
struct Index {
    places: HashMap<IpNet, Vec<Place>>,
    /// The lengths there are, by family.
    lengths: BTreeSet<(bool, u8)>,
}

/// A rule in an index, with what rules most pairs out at one look.
#[derive(Clone, Copy)]
struct Place {
    rule: RuleId,
    outline: Outline,
}

/// The smallest box around all that a rule matches in one family. A rule covers another only if its outline does.
#[derive(Clone, Copy)]
struct Outline {
    from: (ZoneId, ZoneId),
    to: (ZoneId, ZoneId),
    protocol: Option<u8>,
    source_ports: PortRange,
    destination_ports: PortRange,
}

impl Search<'_> {
    /// The first rule so far that covers `rule`, of which `part` is one family's part.
    fn cover_of(&mut self, rule: &Normal, part: &Part) -> Option<RuleId> {
        // A covering rule has a source prefix that contains this rule's first one, and likewise a destination prefix.
        let by_source = self.sources.containing(*part.sources.first()?);
        let by_destination = self.destinations.containing(*part.destinations.first()?);
        let count = |lists: &[&[Place]]| lists.iter().map(|list| list.len()).sum::<usize>();
        let lists = if count(&by_source) <= count(&by_destination) { by_source } else { by_destination };
        let outline = Outline::of(rule, part);
        let mut first: Option<RuleId> = None;
        for list in lists {
            for place in list {
                self.steps += 1;
                if place.outline.covers(&outline)
                    && first.is_none_or(|first| place.rule < first)
                    && self.rules.get(place.rule.index()).is_some_and(|earlier| covers(earlier, rule, &mut self.steps))
                {
                    first = Some(place.rule);
                    break;
                }
            }
        }
        first
    }

    fn insert(&mut self, id: RuleId, rule: &Normal) {
        for part in [&rule.v4, &rule.v6].into_iter().flatten() {
            let place = Place { rule: id, outline: Outline::of(rule, part) };
            self.sources.insert(&part.sources, place);
            self.destinations.insert(&part.destinations, place);
        }
    }
}

impl Index {
    fn insert(&mut self, prefixes: &[IpNet], place: Place) {
        for prefix in prefixes {
            self.lengths.insert((is_v6(prefix), prefix.prefix_len()));
            self.places.entry(*prefix).or_default().push(place);
        }
    }

    /// The rules under every prefix that contains `prefix`.
    fn containing(&self, prefix: IpNet) -> Vec<&[Place]> {
        let family = is_v6(&prefix);
        let lengths = self.lengths.range((family, 0)..=(family, prefix.prefix_len()));
        let shorter = lengths.filter_map(|&(_, length)| IpNet::new(prefix.addr(), length).ok());
        shorter.filter_map(|shorter| self.places.get(&shorter.trunc()).map(Vec::as_slice)).collect()
    }
}

const fn is_v6(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

impl Outline {
    fn of(rule: &Normal, part: &Part) -> Self {
        let protocol = part.traffic.first().and_then(|traffic| traffic.protocol);
        let same = part.traffic.iter().all(|traffic| traffic.protocol == protocol);
        Self {
            from: hull_of_zones(&rule.from),
            to: hull_of_zones(&rule.to),
            protocol: protocol.filter(|_| same),
            source_ports: hull(part.traffic.iter().flat_map(|traffic| &traffic.source_ports)),
            destination_ports: hull(part.traffic.iter().flat_map(|traffic| &traffic.destination_ports)),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        (self.protocol.is_none() || self.protocol == other.protocol)
            && holds(self.destination_ports, other.destination_ports)
            && holds(self.source_ports, other.source_ports)
            && self.from.0 <= other.from.0
            && other.from.1 <= self.from.1
            && self.to.0 <= other.to.0
            && other.to.1 <= self.to.1
    }
}

fn hull_of_zones(zones: &[ZoneId]) -> (ZoneId, ZoneId) {
    zones.first().copied().zip(zones.last().copied()).unwrap_or((ZoneId::new(0), ZoneId::new(u8::MAX)))
}

fn hull<'a>(ranges: impl Iterator<Item = &'a PortRange>) -> PortRange {
    let join = |one: PortRange, other: PortRange| {
        PortRange::new(one.first().min(other.first()), one.last().max(other.last())).unwrap_or(PortRange::ANY)
    };
    ranges.copied().reduce(join).unwrap_or(PortRange::ANY)
}

const fn holds(outer: PortRange, inner: PortRange) -> bool {
    outer.first() <= inner.first() && inner.last() <= outer.last()
}

/// Whether `earlier` matches everything that `later` does.
fn covers(earlier: &Normal, later: &Normal, steps: &mut u64) -> bool {
    zones_within(&later.from, &earlier.from)
        && zones_within(&later.to, &earlier.to)
        && part_covers(earlier.v4.as_ref(), later.v4.as_ref(), steps)
        && part_covers(earlier.v6.as_ref(), later.v6.as_ref(), steps)
}

fn part_covers(earlier: Option<&Part>, later: Option<&Part>, steps: &mut u64) -> bool {
    let Some(later) = later else { return true };
    let Some(earlier) = earlier else { return false };
    later.traffic.iter().all(|traffic| traffic_within(traffic, &earlier.traffic, steps))
        && prefixes_within(&later.destinations, &earlier.destinations, steps)
        && prefixes_within(&later.sources, &earlier.sources, steps)
}

/// Sorted zones; an empty list is every zone.
fn zones_within(inner: &[ZoneId], outer: &[ZoneId]) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|zone| outer.binary_search(zone).is_ok()))
}

/// Merged prefixes: what contains one is the last that does not sort behind it.
fn prefixes_within(inner: &[IpNet], outer: &[IpNet], steps: &mut u64) -> bool {
    inner.iter().all(|prefix| {
        *steps += 1;
        let behind = outer.partition_point(|candidate| candidate <= prefix);
        outer.get(..behind).and_then(<[_]>::last).is_some_and(|candidate| candidate.contains(prefix))
    })
}

/// Whether each range of source ports, with all destination ports, lies in one of `outer`.
fn traffic_within(inner: &Traffic, outer: &[Traffic], steps: &mut u64) -> bool {
    inner.source_ports.iter().all(|&source_ports| {
        outer.iter().any(|outer| {
            (outer.protocol.is_none() || outer.protocol == inner.protocol)
                && range_within(source_ports, &outer.source_ports)
                && inner.destination_ports.iter().all(|&destination_ports| {
                    *steps += 1;
                    range_within(destination_ports, &outer.destination_ports)
                })
        })
    })
}

/// Merged ranges: what holds one is the last that does not begin behind it.
fn range_within(inner: PortRange, outer: &[PortRange]) -> bool {
    let behind = outer.partition_point(|range| range.first() <= inner.first());
    outer.get(..behind).and_then(<[_]>::last).is_some_and(|&range| holds(range, inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::tests::rule_for_all;
    use crate::firewall::{IcmpMatch, ProtocolMatch};

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn found(rules: &[Rule]) -> Vec<(u32, Option<u32>)> {
        shadowed(rules).iter().map(|shadowed| (shadowed.rule.get(), shadowed.by.map(RuleId::get))).collect()
    }

    #[test]
    fn everything_behind_a_rule_for_everything_is_shadowed() {
        let web =
            Rule { protocol: ProtocolMatch::Tcp, destination_port: vec![PortRange::single(80)], ..rule_for_all() };
        assert_eq!(found(&[web.clone(), rule_for_all(), web, rule_for_all()]), [(2, Some(0)), (3, Some(1))]);
    }

    #[test]
    fn the_first_rule_that_covers_is_named_whatever_its_prefixes() {
        let from = |texts: &[&str]| Rule { source: prefixes(texts), ..rule_for_all() };
        let rules = [from(&["10.1.0.0/16"]), from(&["10.0.0.0/8"]), from(&["10.1.2.0/24"]), from(&["10.2.0.0/16"])];
        assert_eq!(found(&rules), [(2, Some(0)), (3, Some(1))]);
    }

    #[test]
    fn a_rule_is_shadowed_only_in_both_families() {
        let v4 = Rule { source: prefixes(&["0.0.0.0/0"]), ..rule_for_all() };
        let v6 = Rule { source: prefixes(&["::/0"]), ..rule_for_all() };
        assert_eq!(found(&[v4.clone(), rule_for_all(), v6, v4]), [(2, Some(1)), (3, Some(0))]);
    }

    #[test]
    fn a_set_is_covered_by_a_set_that_adds_up_to_it() {
        let from = |texts: &[&str]| Rule { source: prefixes(texts), ..rule_for_all() };
        let halves = from(&["10.0.0.0/25", "192.0.2.0/24", "10.0.0.128/25"]);
        assert_eq!(found(&[halves, from(&["10.0.0.0/24", "192.0.2.7/32"])]), [(1, Some(0))]);
    }

    #[test]
    fn two_rules_that_cover_only_together_are_not_reported() {
        let from = |texts: &[&str]| Rule { source: prefixes(texts), ..rule_for_all() };
        assert_eq!(found(&[from(&["10.0.0.0/25"]), from(&["10.0.0.128/25"]), from(&["10.0.0.0/24"])]), []);
    }

    #[test]
    fn what_nothing_can_match_is_shadowed_by_none() {
        let mixed =
            Rule { source: prefixes(&["10.0.0.0/8"]), destination: prefixes(&["2001:db8::/32"]), ..rule_for_all() };
        let icmp = IcmpMatch { v6: true, kind: 128, code: None };
        let wrong_icmp = Rule { source: prefixes(&["10.0.0.0/8"]), icmp: vec![icmp], ..rule_for_all() };
        let ports = vec![PortRange::single(80)];
        let ports_of_icmp = Rule { protocol: ProtocolMatch::Icmp, destination_port: ports, ..rule_for_all() };
        assert_eq!(found(&[mixed, wrong_icmp, ports_of_icmp, rule_for_all()]), [(0, None), (1, None), (2, None)]);
    }

    #[test]
    fn zones_ports_and_protocols_all_count() {
        let wide = Rule {
            from: vec![ZoneId::new(1), ZoneId::new(3)],
            protocol: ProtocolMatch::Tcp,
            destination_port: vec![PortRange::new(80, 90).unwrap(), PortRange::new(100, 110).unwrap()],
            ..rule_for_all()
        };
        let inside =
            Rule { from: vec![ZoneId::new(3)], destination_port: vec![PortRange::single(105)], ..wide.clone() };
        assert_eq!(found(&[wide.clone(), inside.clone()]), [(1, Some(0))]);
        for outside in [
            Rule { from: vec![ZoneId::new(2)], ..inside.clone() },
            Rule { from: vec![], ..inside.clone() },
            Rule { protocol: ProtocolMatch::Any, ..inside.clone() },
            Rule { destination_port: vec![PortRange::single(95)], ..inside.clone() },
            Rule { destination_port: vec![], ..inside },
        ] {
            assert_eq!(found(&[wide.clone(), outside.clone()]), [], "{outside:?}");
        }
    }

    /// What takes longest: rules that share every prefix and differ in ports, zones or lists only.
    #[test]
    fn ten_thousand_rules_stay_below_the_limit_of_steps_at_their_worst() {
        let ports: Vec<Rule> = (0..10_000)
            .map(|port| Rule { destination_port: vec![PortRange::single(port * 2)], ..rule_for_all() })
            .collect();
        let zones: Vec<Rule> = (0..10_000_u32)
            .map(|number| {
                let [_, _, high, low] = number.to_be_bytes();
                let zones = |zone| vec![ZoneId::new(0), ZoneId::new(zone), ZoneId::new(255)];
                Rule { from: zones(high + 1), to: zones(low), ..rule_for_all() }
            })
            .collect();
        let pairs: Vec<Rule> = (0..10_000_u32)
            .map(|number| {
                let prefix = |place: u32| vec![format!("10.0.{place}.0/24").parse().unwrap()];
                Rule { source: prefix(number / 100), destination: prefix(number % 100), ..rule_for_all() }
            })
            .collect();
        for (what, rules, most) in
            [("ports", ports, STEPS_MAX / 2), ("zones", zones, STEPS_MAX / 2), ("pairs", pairs, 2_000_000)]
        {
            let (found, steps) = search(&rules);
            assert!(steps < most, "{what}: {steps}");
            assert!(found.iter().all(|shadowed| shadowed.by.is_some()), "{what}");
        }
    }
}
