//! Rule classification and routes against their plain oracles: whatever `Linear` and `LinearRoutes` say is right.
#![allow(missing_docs, reason = "tests name themselves")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it did not expect")]

mod runtime;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::RwLock;
use std::time::Instant;

use dpdk::{Acl, Fib};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{FailurePersistence, FileFailurePersistence};
use runtime::eal;
use stage::PortRange;
use stage::firewall::{Action, Candidate, Classifier, IcmpMatch, Linear, ProtocolMatch, Rule, expand};
use stage::forward::{LinearRoutes, Route, RouteTable};
use units::limits::{BURST_MAX, CLASSIFIER_BUILD_BYTES};
use units::{PortId, RuleId, TenantId, ZoneId};
use wire::Endpoints;

/// Memory is told by what the heap had before and has after: whoever asks for it lets nobody else build meanwhile.
static HEAP: RwLock<()> = RwLock::new(());

/// A world so small that everything overlaps.
const PREFIXES: [&str; 16] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.2/31",
    "10.0.0.1/32",
    "10.0.1.0/24",
    "128.0.0.0/1",
    "::/0",
    "2001:db8::/32",
    "2001:db8::/48",
    "2001:db8:0:1::/64",
    "2001:db8::2/128",
    "2001:db8::/127",
    "8000::/1",
    "2001:db8::/33",
];
const ADDRESSES: [&str; 14] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.1.9",
    "192.0.2.1",
    "255.255.255.255",
    "2001:db8::",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8:0:1::1",
    "2001:db8:8000::1",
    "2001:db9::1",
    "ffff::1",
];
const PORTS: [u16; 9] = [0, 1, 8, 79, 80, 81, 255, 256, 65_535];

/// Where a case that failed is written down: beside this file, to be tried first from then on.
fn stored() -> Option<Box<dyn FailurePersistence>> {
    Some(Box::new(FileFailurePersistence::WithSource("regressions")))
}

fn rule_for_all() -> Rule {
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

fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    vec(select(&PREFIXES[..]).prop_map(|text| text.parse().unwrap()), 0..3)
}

fn ranges() -> impl Strategy<Value = Vec<PortRange>> {
    let end = select(&PORTS[..]);
    vec((end.clone(), end).prop_map(|(one, other)| PortRange::new(one.min(other), one.max(other)).unwrap()), 0..3)
}

fn zones() -> impl Strategy<Value = Vec<ZoneId>> {
    vec(select(vec![0, 1, 2, 254]).prop_map(ZoneId::new), 0..3)
}

prop_compose! {
    fn rule()(
        from in zones(), to in zones(), source in prefixes(), destination in prefixes(),
        protocol in select(vec![ProtocolMatch::Any, ProtocolMatch::Tcp, ProtocolMatch::Udp, ProtocolMatch::Icmp, ProtocolMatch::Number(47)]),
        source_port in ranges(), destination_port in ranges(), kind in 0_u8..3, code in proptest::option::of(0_u8..3), v6: bool,
    ) -> Rule {
        let transport = matches!(protocol, ProtocolMatch::Tcp | ProtocolMatch::Udp);
        let icmp = if protocol == ProtocolMatch::Icmp && kind > 0 { vec![IcmpMatch { v6, kind, code }] } else { vec![] };
        Rule {
            from, to, source, destination, protocol, icmp,
            source_port: if transport { source_port } else { vec![] },
            destination_port: if transport { destination_port } else { vec![] },
            ..rule_for_all()
        }
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().unwrap())
}

prop_compose! {
    fn candidate()(
        from in select(vec![0, 1, 2, 3, 254]), to in select(vec![0, 1, 2, 3, 254]), protocol in select(vec![1, 6, 17, 47, 58]),
        pair in (address(), address()).prop_filter_map("of one family", |pair| match pair {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Endpoints::V4 { source, destination }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Endpoints::V6 { source, destination }),
            _ => None,
        }),
        source_port in select(&PORTS[..]), destination_port in select(&PORTS[..]),
    ) -> Candidate {
        let (from, to, tenant) = (ZoneId::new(from), ZoneId::new(to), TenantId::NONE);
        Candidate { from, to, tenant, protocol, endpoints: pair, source_port, destination_port }
    }
}

/// What a classifier says of these candidates, asked a burst at a time; every place holds nonsense before.
fn answers(classifier: &dyn Classifier, candidates: &[Candidate]) -> Vec<Option<RuleId>> {
    let mut matches = vec![Some(RuleId::new(u32::MAX)); candidates.len()];
    for (candidates, matches) in candidates.chunks(BURST_MAX).zip(matches.chunks_mut(BURST_MAX)) {
        classifier.classify(candidates, matches);
    }
    matches
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: stored(), ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_classifier_agrees_with_its_oracle(rules in vec(rule(), 0..12), candidates in vec(candidate(), 1..150)) {
        let _shared = HEAP.read();
        let acl = Acl::new(&eal(), expand(&rules).unwrap(), CLASSIFIER_BUILD_BYTES).unwrap();
        prop_assert_eq!(answers(&acl, &candidates), answers(&Linear::new(&rules), &candidates));
    }
}

#[test]
fn no_rules_match_nothing_and_take_nothing() {
    let _alone = HEAP.write();
    let acl = Acl::new(&eal(), expand(&[]).unwrap(), CLASSIFIER_BUILD_BYTES).unwrap();
    let endpoints = Endpoints::V6 { source: Ipv6Addr::LOCALHOST, destination: Ipv6Addr::LOCALHOST };
    let zone = ZoneId::new(1);
    let tenant = TenantId::NONE;
    let candidate =
        Candidate { from: zone, to: zone, tenant, protocol: 6, endpoints, source_port: 1, destination_port: 2 };
    assert_eq!(answers(&acl, &[candidate]), [None]);
    assert_eq!(acl.memory(), 0);
}

#[test]
fn ten_thousand_rules_load_and_answer_as_the_oracle_does() {
    let _alone = HEAP.write();
    // A policy as large sites have them: networks to servers, ports and ranges, both families, a few wide rules between.
    let rules: Vec<Rule> = (0..10_000_u32)
        .map(|number| {
            let [_, high, middle, low] = number.wrapping_mul(2_654_435_761).to_be_bytes();
            let (source, destination) = if number % 3 == 0 {
                (format!("2001:db8:{high:x}:{middle:x}::/64"), format!("2001:db8:ff:{low:x}::{number:x}/128"))
            } else {
                (format!("10.{high}.{middle}.0/24"), format!("192.168.{low}.{}/32", number % 256))
            };
            let first = u16::try_from(number % 60_000).unwrap();
            Rule {
                from: vec![ZoneId::new(u8::try_from(number % 4).unwrap())],
                source: vec![source.parse().unwrap()],
                destination: if number % 100 == 0 { vec![] } else { vec![destination.parse().unwrap()] },
                protocol: if number % 2 == 0 { ProtocolMatch::Tcp } else { ProtocolMatch::Udp },
                destination_port: vec![PortRange::new(first, first + u16::try_from(number % 50).unwrap()).unwrap()],
                ..rule_for_all()
            }
        })
        .collect();
    let entries = expand(&rules).unwrap();
    let numbers = (entries.v4.len(), entries.v6.len());
    let start = Instant::now();
    let acl = Acl::new(&eal(), entries, CLASSIFIER_BUILD_BYTES).unwrap();
    println!("{} + {} entries, {:?}, {} bytes", numbers.0, numbers.1, start.elapsed(), acl.memory());
    assert!(acl.memory() > 0);
    assert_eq!(acl.tables(), 2, "one for each family");
    // Of each rule a packet that it matches (an earlier one may as well), and one beside its ports.
    let candidates: Vec<Candidate> = rules
        .iter()
        .step_by(7)
        .flat_map(|rule| {
            let source = rule.source[0].addr();
            let destination = rule.destination.first().map_or(source, IpNet::addr);
            let endpoints = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => Endpoints::V4 { source, destination },
                (IpAddr::V6(source), IpAddr::V6(destination)) => Endpoints::V6 { source, destination },
                _ => unreachable!("both of one family"),
            };
            let protocol = if rule.protocol == ProtocolMatch::Tcp { 6 } else { 17 };
            let at = |destination_port| Candidate {
                from: rule.from[0],
                to: ZoneId::new(1),
                tenant: TenantId::NONE,
                protocol,
                endpoints,
                source_port: 1_024,
                destination_port,
            };
            [at(rule.destination_port[0].last()), at(rule.destination_port[0].last() + 1)]
        })
        .collect();
    let expected = answers(&Linear::new(&rules), &candidates);
    assert!(expected.iter().filter(|answer| answer.is_some()).count() >= candidates.len() / 2);
    assert_eq!(answers(&acl, &candidates), expected);
}

/// Servers that everybody reaches, and behind them sources that reach nothing: whoever writes the one names no source, and the
/// other no destination.
fn crossing(servers: u32, sources: u32) -> Vec<Rule> {
    let of = |text: String| vec![text.parse::<IpNet>().unwrap()];
    let to_server = |number: u32| Rule {
        destination: of(format!("192.168.{}.{}/32", number / 256, number % 256)),
        destination_port: vec![PortRange::single(443)],
        protocol: ProtocolMatch::Tcp,
        ..rule_for_all()
    };
    let from_source = |number: u32| {
        let [_, high, middle, low] = number.wrapping_mul(2_654_435_761).to_be_bytes();
        Rule { action: Action::Deny, source: of(format!("10.{high}.{middle}.{low}/32")), ..rule_for_all() }
    };
    (0..servers).map(to_server).chain((0..sources).map(from_source)).collect()
}

/// Packets of every source and to every server of these rules, and of each to each.
fn packets_across(rules: &[Rule]) -> Vec<Candidate> {
    let first = |nets: &[IpNet]| nets.first().map(IpNet::addr);
    let servers: Vec<IpAddr> = rules.iter().filter_map(|rule| first(&rule.destination)).collect();
    let sources: Vec<IpAddr> = rules.iter().filter_map(|rule| first(&rule.source)).collect();
    let strangers = ["203.0.113.9".parse().unwrap(), "10.0.0.0".parse().unwrap()];
    (0..2_000)
        .map(|number| {
            let source = [&strangers[..], &sources].concat()[number * 31 % (sources.len() + 2)];
            let destination = [&strangers[..], &servers].concat()[number * 17 % (servers.len() + 2)];
            let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else {
                unreachable!("IPv4 alone")
            };
            Candidate {
                from: ZoneId::new(1),
                to: ZoneId::new(2),
                tenant: TenantId::NONE,
                protocol: 6,
                endpoints: Endpoints::V4 { source, destination },
                source_port: 1_024,
                destination_port: if number.is_multiple_of(3) { 444 } else { 443 },
            }
        })
        .collect()
}

/// In one table these take more than a gigabyte.
#[test]
fn rules_that_cross_each_other_are_divided_and_stay_within_their_allowance() {
    let _alone = HEAP.write();
    let rules = crossing(100, 2_000);
    let acl = Acl::new(&eal(), expand(&rules).unwrap(), 256 << 20).unwrap();
    assert!(acl.tables() > 1 && acl.tables() < 6, "{}", acl.tables());
    assert!(acl.taken() <= 256 << 20, "{}", acl.taken());
    let candidates = packets_across(&rules);
    assert_eq!(answers(&acl, &candidates), answers(&Linear::new(&rules), &candidates));
}

#[test]
fn more_entries_than_one_table_takes_answer_as_the_oracle_does() {
    let _alone = HEAP.write();
    let rules = crossing(40_000, 300);
    let acl = Acl::new(&eal(), expand(&rules).unwrap(), CLASSIFIER_BUILD_BYTES).unwrap();
    assert!((4..=6).contains(&acl.tables()), "a few for servers, one for sources: {}", acl.tables());
    let candidates = packets_across(&rules);
    assert_eq!(answers(&acl, &candidates), answers(&Linear::new(&rules), &candidates));
}

#[test]
fn what_does_not_fit_however_it_is_divided_is_refused_with_a_sentence() {
    let _alone = HEAP.write();
    let error = Acl::new(&eal(), expand(&crossing(300, 300)).unwrap(), 1 << 20).unwrap_err();
    assert!(error.to_string().contains("1 MiB of memory"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: stored(), ..ProptestConfig::with_cases(20) })]

    /// With so little memory nearly every case is divided; where even that is too little, it has to be said.
    #[test]
    fn divided_tables_agree_with_the_oracle(rules in vec(rule(), 30..90), candidates in vec(candidate(), 100..300)) {
        let _shared = HEAP.read();
        match Acl::new(&eal(), expand(&rules).unwrap(), 17 << 20) {
            Ok(acl) => prop_assert_eq!(answers(&acl, &candidates), answers(&Linear::new(&rules), &candidates)),
            Err(error) => prop_assert!(matches!(error, dpdk::Error::BuildMemory { .. }), "{}", error),
        }
    }
}

fn route(to: IpNet, number: u16) -> Route {
    let via = match to {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    Route { to, via: number.is_multiple_of(2).then_some(via), port: PortId::new(number) }
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    let near_v4 = (0_u32..1_024, 0_u8..=32)
        .prop_map(|(low, length)| IpNet::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + low)), length).unwrap());
    let near_v6 = (0_u128..1_024, 0_u8..=128)
        .prop_map(|(low, length)| IpNet::new(IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) + low)), length).unwrap());
    let far = (any::<IpAddr>(), 0_u8..=32).prop_map(|(address, length)| IpNet::new(address, length).unwrap());
    prop_oneof![4 => near_v4, 4 => near_v6, 1 => far]
}

proptest! {
    // Each case fills and clears tens of mebibytes.
    #![proptest_config(ProptestConfig { failure_persistence: stored(), ..ProptestConfig::with_cases(60) })]

    #[test]
    fn the_route_table_agrees_with_its_oracle(prefixes in vec(any_prefix(), 0..40), others in vec(any::<IpAddr>(), 0..20)) {
        let _shared = HEAP.read();
        let routes: Vec<Route> = (0..).zip(&prefixes).map(|(number, &to)| route(to, number)).collect();
        let (fib, oracle) = (Fib::new(&eal(), &routes).unwrap(), LinearRoutes::new(&routes));
        let edges = prefixes.iter().flat_map(|net| [net.addr(), net.network(), net.broadcast()]);
        for destination in edges.chain(others) {
            prop_assert_eq!(fib.lookup(destination), oracle.lookup(destination), "{}", destination);
        }
    }
}

#[test]
fn routes_beyond_one_byte_of_answers_are_found() {
    let _alone = HEAP.write();
    let v4 = (0..1_000_u16).map(|n| format!("10.{}.{}.0/25", n / 250, n % 250));
    let v6 = (0..1_000_u16).map(|n| format!("2001:db8:{n:x}::/48"));
    let routes: Vec<Route> = (0..).zip(v4.chain(v6)).map(|(n, to)| route(to.parse().unwrap(), n)).collect();
    let (fib, oracle) = (Fib::new(&eal(), &routes).unwrap(), LinearRoutes::new(&routes));
    for route in &routes {
        for address in [route.to.network(), route.to.broadcast()] {
            assert_eq!(fib.lookup(address), oracle.lookup(address));
        }
    }
    assert_eq!(fib.lookup("10.0.0.128".parse().unwrap()), None);
    assert!(fib.memory() > 32 << 20);
}

#[test]
fn no_routes_lead_nowhere_and_take_no_table() {
    let _alone = HEAP.write();
    let fib = Fib::new(&eal(), &[]).unwrap();
    assert_eq!(fib.lookup(IpAddr::V4(Ipv4Addr::LOCALHOST)), None);
    assert_eq!(fib.lookup(IpAddr::V6(Ipv6Addr::LOCALHOST)), None);
    assert_eq!(fib.memory(), 0);
}
