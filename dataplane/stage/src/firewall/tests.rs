//! What the files of the firewall promise each other: the entries of an expansion match what the rules match, rules are
//! reported as shadowed exactly when an earlier one takes all of theirs, and ten thousand rules load and work.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use units::{Nanos, RuleId, TenantId, WorkerId, ZoneId};
use wire::Endpoints;

use super::*;
use crate::PortRange;

/// Small enough a world that rules overlap, touch and contain each other all the time.
const PREFIXES: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.2/31",
    "10.0.0.3/31",
    "10.0.0.1/32",
    "10.0.0.2/32",
    "255.255.255.255/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8::/64",
    "2001:db8:0:1::/64",
    "2001:db8::2/128",
    "2001:db8::3/127",
];
const ADDRESSES_V4: [&str; 6] = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1", "255.255.255.255"];
const ADDRESSES_V6: [&str; 5] = ["2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8:0:1::1", "2001:db9::1"];
const PORTS: [u16; 8] = [0, 1, 8, 80, 81, 82, 8_080, 65_535];
const PROTOCOLS: [u8; 5] = [1, 6, 17, 47, 58];

/// A rule that allows everything; tests say what is different about theirs.
pub(super) fn rule_for_all() -> Rule {
    Rule {
        name: String::new(),
        action: Action::Allow,
        from: vec![],
        to: vec![],
        source: vec![],
        destination: vec![],
        protocol: ProtocolMatch::Any,
        source_port: vec![],
        destination_port: vec![],
        icmp: vec![],
        log: false,
        new_sessions_per_second: None,
        new_sessions_per_source: None,
    }
}

fn prefix() -> impl Strategy<Value = IpNet> {
    select(&PREFIXES[..]).prop_map(|text| text.parse().unwrap())
}

fn zone() -> impl Strategy<Value = ZoneId> {
    (0_u8..4).prop_map(ZoneId::new)
}

fn range() -> impl Strategy<Value = PortRange> {
    (select(&PORTS[..]), select(&PORTS[..]))
        .prop_map(|(one, other)| PortRange::new(one.min(other), one.max(other)).unwrap())
}

fn protocol_match() -> impl Strategy<Value = ProtocolMatch> {
    let fixed = vec![ProtocolMatch::Any, ProtocolMatch::Tcp, ProtocolMatch::Udp, ProtocolMatch::Icmp];
    prop_oneof![4 => select(fixed), 1 => select(&PROTOCOLS[..]).prop_map(ProtocolMatch::Number)]
}

fn icmp() -> impl Strategy<Value = IcmpMatch> {
    (any::<bool>(), select(vec![1, 8, 80]), proptest::option::of(select(vec![0, 1, 80])))
        .prop_map(|(v6, kind, code)| IcmpMatch { v6, kind, code })
}

/// Any rule, contradictory ones included, with lists of up to `most` things.
fn rule(most: usize) -> impl Strategy<Value = Rule> {
    let ways = (vec(zone(), 0..=most), vec(zone(), 0..=most), vec(prefix(), 0..=most), vec(prefix(), 0..=most));
    let ports = (vec(range(), 0..=most), vec(range(), 0..=most));
    // Ports and ICMP types at once match nothing: mostly one of them.
    let traffic = prop_oneof![
        3 => ports.prop_map(|(source, destination)| (source, destination, vec![])),
        2 => vec(icmp(), 0..=most).prop_map(|icmp| (vec![], vec![], icmp)),
        1 => (vec(range(), 1..=2), vec(icmp(), 1..=2)).prop_map(|(source, icmp)| (source, vec![], icmp)),
    ];
    let action = select(vec![Action::Allow, Action::Deny, Action::Reject]);
    (ways, traffic, protocol_match(), action).prop_map(
        |((from, to, source, destination), traffic, protocol, action)| Rule {
            name: String::new(),
            action,
            from,
            to,
            source,
            destination,
            protocol,
            source_port: traffic.0,
            destination_port: traffic.1,
            icmp: traffic.2,
            log: false,
            new_sessions_per_second: None,
            new_sessions_per_source: None,
        },
    )
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let v4 = || select(&ADDRESSES_V4[..]).prop_map(|text| text.parse().unwrap());
    let v6 = || select(&ADDRESSES_V6[..]).prop_map(|text| text.parse().unwrap());
    prop_oneof![
        (v4(), v4()).prop_map(|(source, destination)| Endpoints::V4 { source, destination }),
        (v6(), v6()).prop_map(|(source, destination)| Endpoints::V6 { source, destination }),
    ]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    (zone(), zone(), select(&PROTOCOLS[..]), endpoints(), select(&PORTS[..]), select(&PORTS[..])).prop_map(
        |(from, to, protocol, endpoints, source_port, destination_port)| Candidate {
            from,
            to,
            tenant: TenantId::NONE,
            protocol,
            endpoints,
            source_port,
            destination_port,
        },
    )
}

fn entry_matches(entry: &Entry, candidate: &Candidate) -> bool {
    entry.from.is_none_or(|zone| zone == candidate.from)
        && entry.to.is_none_or(|zone| zone == candidate.to)
        && entry.protocol.is_none_or(|protocol| protocol == candidate.protocol)
        && entry.source.contains(&candidate.endpoints.source())
        && entry.destination.contains(&candidate.endpoints.destination())
        && entry.source_port.contains(candidate.source_port)
        && entry.destination_port.contains(candidate.destination_port)
}

fn first_entry(entries: &Entries, candidate: &Candidate) -> Option<RuleId> {
    let family = if candidate.endpoints.is_v6() { &entries.v6 } else { &entries.v4 };
    family.iter().filter(|entry| entry_matches(entry, candidate)).map(|entry| entry.rule).min()
}

fn first_rule(rules: &[Rule], candidate: &Candidate) -> Option<RuleId> {
    let mut found = [None];
    Linear::new(rules).classify(&[*candidate], &mut found);
    found[0]
}

/// Every packet that this world's rules tell apart, of one family, as far as `rule` matches it.
fn world(rule: &Rule) -> Vec<Candidate> {
    let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
    let mut world = Vec::new();
    for family in [ADDRESSES_V4.map(|text| parse(&text)).to_vec(), ADDRESSES_V6.map(|text| parse(&text)).to_vec()] {
        for (&source, &destination) in family.iter().flat_map(|one| family.iter().map(move |other| (one, other))) {
            let endpoints = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => Endpoints::V4 { source, destination },
                (IpAddr::V6(source), IpAddr::V6(destination)) => Endpoints::V6 { source, destination },
                _ => continue,
            };
            for protocol in PROTOCOLS.into_iter().chain([200]) {
                for source_port in PORTS.into_iter().chain([2]) {
                    for destination_port in PORTS.into_iter().chain([2]) {
                        for zones in 0..25 {
                            let (from, to) = (ZoneId::new(zones / 5), ZoneId::new(zones % 5));
                            let tenant = TenantId::NONE;
                            let candidate =
                                Candidate { from, to, tenant, protocol, endpoints, source_port, destination_port };
                            if rule.matches(&candidate) {
                                world.push(candidate);
                            }
                        }
                    }
                }
            }
        }
    }
    world
}

proptest! {
    #[test]
    fn entries_match_what_the_rules_match(rules in vec(rule(3), 0..8), candidates in vec(candidate(), 100)) {
        let entries = expand(&rules).unwrap();
        for candidate in &candidates {
            prop_assert_eq!(first_entry(&entries, candidate), first_rule(&rules, candidate), "{:?}", candidate);
        }
    }

    #[test]
    fn entries_of_one_rule_are_as_many_as_counted_and_none_is_there_twice(rule in rule(4)) {
        let entries = expand(std::slice::from_ref(&rule)).unwrap();
        let mut all: Vec<_> = entries.v4.iter().chain(&entries.v6).collect();
        prop_assert_eq!(u64::try_from(all.len()).unwrap(), normal::Normal::of(&rule).entries());
        let of_family = |entry: &Entry, v6| {
            [entry.source, entry.destination].iter().all(|it| matches!(it, IpNet::V6(_)) == v6)
        };
        prop_assert!(entries.v4.iter().all(|entry| of_family(entry, false)));
        prop_assert!(entries.v6.iter().all(|entry| of_family(entry, true)));
        all.sort_by_key(|entry| format!("{entry:?}"));
        prop_assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_rule_reported_as_shadowed_matches_nothing_of_its_own(
        rules in vec(rule(2), 1..12),
        candidates in vec(candidate(), 200),
    ) {
        for Shadowed { rule, by } in shadowed(&rules) {
            for candidate in candidates.iter().filter(|candidate| rules[rule.index()].matches(candidate)) {
                let by = by.expect("a rule that matches something is not one that nothing can match");
                prop_assert!(by < rule && rules[by.index()].matches(candidate), "{:?}", candidate);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Against every packet there is: complete where one earlier rule covers a later one, and never wrong.
    #[test]
    fn rules_covered_by_one_earlier_rule_are_all_reported(rules in vec(rule(1), 1..6)) {
        let reported = shadowed(&rules);
        for (place, later) in rules.iter().enumerate() {
            let world = world(later);
            let covered = rules[..place].iter().any(|earlier| world.iter().all(|candidate| earlier.matches(candidate)));
            let found = reported.iter().find(|shadowed| shadowed.rule.index() == place);
            prop_assert_eq!(covered || world.is_empty(), found.is_some(), "rule {} of {:?}", place, &rules);
            prop_assert_eq!(world.is_empty(), found.is_some_and(|shadowed| shadowed.by.is_none()));
        }
    }
}

/// Ten thousand rules as a provider has them: customers' prefixes, services, a few with ports of their own.
fn ten_thousand() -> Vec<Rule> {
    (0..10_000_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            let source: IpNet = format!("10.{}.{}.0/24", high, low).parse().unwrap();
            let destination: IpNet = format!("203.0.{}.{}/32", number % 7, low).parse().unwrap();
            Rule {
                name: format!("rule-{number}"),
                action: if number % 3 == 0 { Action::Deny } else { Action::Allow },
                from: vec![ZoneId::new(1)],
                source: vec![source],
                destination: vec![destination],
                protocol: if number % 2 == 0 { ProtocolMatch::Tcp } else { ProtocolMatch::Udp },
                destination_port: vec![PortRange::single(80 + u16::from(low)), PortRange::new(8_000, 8_100).unwrap()],
                ..rule_for_all()
            }
        })
        .collect()
}

fn towards(rule: &Rule, destination_port: u16) -> Candidate {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (rule.source[0].addr(), rule.destination[0].addr()) else {
        panic!("these rules are for IPv4")
    };
    Candidate {
        from: ZoneId::new(1),
        to: ZoneId::new(2),
        tenant: TenantId::NONE,
        protocol: if rule.protocol == ProtocolMatch::Tcp { 6 } else { 17 },
        endpoints: Endpoints::V4 { source, destination },
        source_port: 50_000,
        destination_port,
    }
}

#[test]
fn ten_thousand_rules_load_and_work() {
    let rules = ten_thousand();
    let entries = expand(&rules).unwrap();
    assert_eq!((entries.v4.len(), entries.v6.len()), (20_000, 0));
    assert_eq!(shadowed(&rules), []);
    let ruleset = Ruleset::new(rules.clone(), Action::Reject, Box::new(Linear::new(&rules)), None);
    let asked: Vec<Candidate> = rules.iter().step_by(97).map(|rule| towards(rule, 8_050)).collect();
    let mut judgements = vec![Judgement::DENIED; asked.len()];
    ruleset.judge(WorkerId::new(0), &asked, Nanos::ZERO, &mut judgements);
    for (judgement, (number, rule)) in judgements.iter().zip((0..).zip(&rules).step_by(97)) {
        assert_eq!((judgement.rule, judgement.action), (Some(RuleId::new(number)), rule.action));
    }
    ruleset.judge(WorkerId::new(0), &[towards(&rules[5], 22)], Nanos::ZERO, &mut judgements);
    assert_eq!((judgements[0].action, ruleset.default_hits()), (Action::Reject, 1));
}

#[test]
fn ten_thousand_rules_ending_in_a_copy_have_one_shadowed_rule() {
    let mut rules = ten_thousand();
    rules.push(rules[4_711].clone());
    assert_eq!(shadowed(&rules), [Shadowed { rule: RuleId::new(10_000), by: Some(RuleId::new(4_711)) }]);
}
