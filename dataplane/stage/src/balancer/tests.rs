//! Facts of the balancer as a whole: the worked examples of the specification, the algorithms over changing health, and
//! what survives a change of policy.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use units::limits::DRAINED_ABSENT_MAX;
use units::{Nanos, ServiceId};

use super::*;
use crate::PortRange;
use crate::syn_cookie::CookieMode;

const NOW: Nanos = Nanos::from_secs(100);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client(n: u32) -> IpAddr {
    IpAddr::V4((0xc000_0200 + n).into())
}

fn backend(n: u8, weight: u32, hops: u32) -> BackendSpec {
    let address = address(&format!("10.0.0.{n}"));
    BackendSpec { name: format!("b{n}"), address, port: Some(8080), weight, hops, server_id: None, disabled: false }
}

fn spec(name: &str, algorithm: Algorithm, backends: Vec<BackendSpec>) -> ServiceSpec {
    ServiceSpec {
        attract: Attract::OwnAddress,
        tiers: Vec::new(),
        marker_vlan: None,
        name: name.into(),
        address: address("198.51.100.10"),
        protocol: ServiceProtocol::Tcp,
        ports: vec![PortRange::single(80)],
        algorithm,
        mode: Mode::Nat,
        source_address: Vec::new(),
        tunnel_source: Vec::new(),
        mss_clamp: None,
        introduction: None,
        persistence: None,
        quic: None,
        one_shot: false,
        drain_timeout: Nanos::from_secs(30),
        on_backend_failure: OnBackendFailure::Reselect,
        syn_cookies: CookieMode::Off,
        half_open_limit: None,
        backends,
        probed: true,
    }
}

/// One service whose backends are all up.
fn up(spec: ServiceSpec) -> Services {
    let services = Services::compile(vec![spec], None);
    set_health(&services, Health::Up);
    services.rebuilt()
}

fn set_health(services: &Services, health: Health) {
    for member in services.iter().flat_map(Service::members) {
        member.backend.set_health(health);
    }
}

fn only(services: &Services) -> &Service {
    services.service(ServiceId::new(0)).unwrap()
}

/// Picks, and counts what was picked, as a worker does.
fn open(service: &Service, from: IpAddr, port: u16, turn: &mut u32) -> usize {
    let position = service.pick(from, port, turn).unwrap();
    service.members()[position].backend.opened();
    position
}

fn load(service: &Service, sessions: &[u32]) {
    for (member, &count) in service.members().iter().zip(sessions) {
        (0..count).for_each(|_| member.backend.opened());
    }
}

fn active(service: &Service) -> Vec<u64> {
    service.members().iter().map(|member| member.backend.active()).collect()
}

#[test]
fn topological_choice_weighs_sessions_by_distance() {
    // SE-57, worked example E1: L is 20, 16 and 10.
    let backends = |hops: [u32; 3]| (1..).zip(hops).map(|(n, hops)| backend(n, 1, hops)).collect();
    let near = up(spec("e1", Algorithm::LeastLoad, backends([0, 3, 1])));
    load(only(&near), &[20, 4, 5]);
    assert_eq!(only(&near).pick(client(1), 1, &mut 0), Some(2));
    // The same sessions by count alone: Q.
    let count = up(spec("e1", Algorithm::LeastConnections, backends([0, 3, 1])));
    load(only(&count), &[20, 4, 5]);
    assert_eq!(only(&count).pick(client(1), 1, &mut 0), Some(1));
    // SE-62: another appliance, hops 1, 0, 4: loads 40, 4, 25.
    let far = up(spec("e1", Algorithm::LeastLoad, backends([1, 0, 4])));
    load(only(&far), &[20, 4, 5]);
    assert_eq!(only(&far).pick(client(1), 1, &mut 0), Some(1));
}

#[test]
fn least_connections_fills_the_emptiest_and_breaks_ties_by_order() {
    // SE-55, SE-56, SE-67, worked example E2.
    let services = up(spec("e2", Algorithm::LeastConnections, (1..=3).map(|n| backend(n, 1, 0)).collect()));
    let service = only(&services);
    load(service, &[10, 5, 2]);
    assert_eq!(open(service, client(1), 1, &mut 0), 2);
    assert_eq!(active(service), [10, 5, 3]);
    assert_eq!((open(service, client(1), 2, &mut 0), open(service, client(1), 3, &mut 0)), (2, 2));
    assert_eq!(open(service, client(1), 4, &mut 0), 1, "a tie at 5");
    assert_eq!(active(service), [10, 6, 5]);
}

#[test]
fn least_connections_goes_by_weight() {
    let services = up(spec("w", Algorithm::LeastConnections, vec![backend(1, 1, 0), backend(2, 3, 0)]));
    for n in 0..400 {
        open(only(&services), client(n), 1, &mut 0);
    }
    assert_eq!(active(only(&services)), [100, 300]);
}

#[test]
fn among_idle_backends_the_nearest_then_the_first_is_chosen() {
    // SE-63.
    let services = up(spec("t", Algorithm::LeastLoad, vec![backend(1, 1, 4), backend(2, 1, 2), backend(3, 1, 2)]));
    assert_eq!(only(&services).pick(client(1), 1, &mut 0), Some(1));
    // Equal loads that are not zero: 2 x 3 and 3 x 2, and again by order (SE-56).
    let equal = up(spec("t", Algorithm::LeastLoad, vec![backend(1, 1, 2), backend(2, 1, 1)]));
    load(only(&equal), &[2, 3]);
    assert_eq!(only(&equal).pick(client(1), 1, &mut 0), Some(0));
}

#[test]
fn load_saturates_instead_of_wrapping() {
    // SE-64: u32::MAX hops and many sessions stay the largest load.
    let services = up(spec("s", Algorithm::LeastLoad, vec![backend(1, 1, u32::MAX), backend(2, 1, 0)]));
    load(only(&services), &[9, 1_000]);
    assert_eq!(only(&services).pick(client(1), 1, &mut 0), Some(1));
}

#[test]
fn round_robin_goes_round_by_weight() {
    let services = up(spec("rr", Algorithm::RoundRobin, vec![backend(1, 1, 0), backend(2, 2, 0)]));
    let mut turn = 0;
    let order: Vec<usize> = (0..6).map(|n| open(only(&services), client(n), 1, &mut turn)).collect();
    assert_eq!(order, [1, 0, 1, 1, 0, 1]);
}

#[test]
fn maglev_spreads_ports_and_source_hash_keeps_them_together() {
    let backends = || (1..=10).map(|n| backend(n, 1, 0)).collect();
    let chosen = |algorithm| {
        let services = up(spec("h", algorithm, backends()));
        (0..1_000).map(|port| open(only(&services), client(7), port, &mut 0)).collect::<HashSet<_>>().len()
    };
    assert_eq!((chosen(Algorithm::Maglev), chosen(Algorithm::SourceHash)), (10, 1));
}

#[test]
fn nobody_selectable_is_no_backend_for_every_algorithm() {
    // SE-53.
    for algorithm in ALGORITHMS {
        let services = up(spec("x", algorithm, vec![backend(1, 1, 0), backend(2, 1, 0)]));
        set_health(&services, Health::Failed);
        for services in [services.clone(), services.rebuilt()] {
            assert_eq!(only(&services).pick(client(1), 1, &mut 7), None, "{algorithm:?}");
        }
    }
}

#[test]
fn failed_drained_disabled_and_weightless_backends_get_nothing_new() {
    // SE-52, FOV-06; before the tables are rebuilt and after.
    for algorithm in ALGORITHMS {
        let mut written: Vec<_> = (1..=6).map(|n| backend(n, 1, 0)).collect();
        written[1].weight = 0;
        written[2].disabled = true;
        let before = up(spec("x", algorithm, written));
        only(&before).members()[3].backend.set_health(Health::Failed);
        only(&before).members()[4].backend.drain(Nanos::from_secs(1_000));
        assert!(matches!(algorithm, Algorithm::LeastConnections | Algorithm::LeastLoad) || before.is_outdated());
        for services in [before.clone(), before.rebuilt()] {
            let (mut turn, mut seen) = (0, HashSet::new());
            for n in 0..500 {
                seen.insert(open(only(&services), client(n), 1, &mut turn));
            }
            assert_eq!(seen, HashSet::from([0, 5]), "{algorithm:?}");
        }
    }
}

#[test]
fn probed_backends_wait_for_their_first_rise_and_others_do_not() {
    let mut written = spec("p", Algorithm::RoundRobin, vec![backend(1, 1, 0)]);
    let services = Services::compile(vec![written.clone()], None);
    assert_eq!(only(&services).pick(client(1), 1, &mut 0), None);
    written.probed = false;
    let services = Services::compile(vec![written], None);
    assert_eq!(only(&services).pick(client(1), 1, &mut 0), Some(0));
}

#[test]
fn only_the_sessions_of_a_dead_backend_move() {
    // FOV-04, over the ring.
    let before = up(spec("m", Algorithm::Maglev, (1..=10).map(|n| backend(n, 1, 0)).collect()));
    let choice = |services: &Services, n: u32| {
        only(services).pick(client(n % 256), u16::try_from(n / 256).unwrap(), &mut 0).unwrap()
    };
    let first: Vec<usize> = (0..10_000).map(|n| choice(&before, n)).collect();
    only(&before).members()[3].backend.set_health(Health::Failed);
    let after = before.rebuilt();
    let moved = (0..10_000u32).filter(|&n| first[n as usize] != 3 && choice(&after, n) != first[n as usize]).count();
    assert!(moved <= 100, "{moved} of 10,000 that need not");
    // And back: the same ring as before.
    only(&before).members()[3].backend.set_health(Health::Up);
    let again = after.rebuilt();
    assert!((0..10_000u32).all(|n| choice(&again, n) == first[n as usize]));
}

#[test]
fn the_order_of_listing_does_not_move_a_client() {
    // FOV-03: what an appliance that lists the same backends in another order chooses, by name.
    let written: Vec<_> = (1..=12).map(|n| backend(n, 1 + u32::from(n % 3), 0)).collect();
    let names = |backends: Vec<BackendSpec>| -> Vec<String> {
        let services = up(spec("f", Algorithm::Maglev, backends));
        let name =
            |n| only(&services).members()[only(&services).pick(client(n), 9, &mut 0).unwrap()].backend.name().into();
        (0..200).map(name).collect()
    };
    let reference = names(written.clone());
    let mut listed = written;
    for turn in 0..100u64 {
        let place = stable_hash::below(stable_hash::mix(turn + 1), listed.len());
        let moved = listed.remove(place);
        listed.insert(stable_hash::below(stable_hash::mix(turn + 1_000), listed.len() + 1), moved);
        assert_eq!(names(listed.clone()), reference);
    }
}

#[test]
fn clients_of_ring_version_one_go_where_they_went() {
    assert_eq!(RING_VERSION, 1);
    let services = up(spec("golden", Algorithm::Maglev, (1..=10).map(|n| backend(n, 1, 0)).collect()));
    let chosen: Vec<usize> = (0..12).map(|n| only(&services).pick(client(n), 40_000, &mut 0).unwrap()).collect();
    assert_eq!(chosen, [4, 6, 5, 6, 1, 9, 0, 9, 8, 7, 8, 0]);
    let v6 = address("2001:db8::7");
    assert_eq!(only(&services).pick(v6, 40_000, &mut 0), Some(3));
}

#[test]
fn racing_workers_share_fairly() {
    // Each worker is at most one opening behind the others.
    for algorithm in [Algorithm::LeastConnections, Algorithm::LeastLoad] {
        let services = up(spec("race", algorithm, (1..=4).map(|n| backend(n, 1, 0)).collect()));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let service = only(&services);
                scope.spawn(move || (0..1_000).for_each(|n| _ = open(service, client(n), worker, &mut 0)));
            }
        });
        let counts = active(only(&services));
        assert_eq!(counts.iter().sum::<u64>(), 4_000);
        let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        assert!(spread <= 8, "{algorithm:?}: {counts:?}");
    }
}

#[test]
fn a_source_returns_to_its_backend_until_that_cannot_take_it() {
    // SE-78, SE-80, worked example E6 on one appliance.
    let mut written = spec("p", Algorithm::LeastConnections, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    written.persistence = Some(Nanos::from_secs(1_800));
    let services = up(written);
    let service = only(&services);
    let choose = |now| service.choose(client(50), 1, &mut 0, now);
    assert_eq!(choose(Nanos::from_secs(1)), Some(0));
    load(service, &[9, 0]);
    assert_eq!(choose(Nanos::from_secs(311)), Some(0), "the balancer alone would take the other");
    assert_eq!(service.choose(client(51), 1, &mut 0, Nanos::from_secs(311)), Some(1));
    service.members()[0].backend.set_health(Health::Failed);
    assert_eq!(choose(Nanos::from_secs(312)), Some(1), "SE-80");
    service.members()[0].backend.set_health(Health::Up);
    // The old session's end does not bring the old mapping back.
    service.remember(client(50), &service.members()[0].backend, Nanos::from_secs(313));
    load(service, &[0, 99]);
    assert_eq!(choose(Nanos::from_secs(314)), Some(1), "replaced for good");
    assert_eq!(choose(Nanos::from_secs(314 + 1_801)), Some(0), "SE-79");
}

#[test]
fn a_long_session_keeps_its_source() {
    let mut written = spec("p", Algorithm::LeastConnections, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    written.persistence = Some(Nanos::from_secs(300));
    let services = up(written);
    let service = only(&services);
    assert_eq!(service.choose(client(50), 1, &mut 0, NOW), Some(0));
    load(service, &[9, 0]);
    service.remember(client(50), &service.members()[0].backend, NOW + Nanos::from_secs(290));
    assert_eq!(service.choose(client(50), 2, &mut 0, NOW + Nanos::from_secs(580)), Some(0));
}

#[test]
fn services_are_found_by_address_protocol_and_port() {
    let mut shop = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0)]);
    shop.ports = vec![PortRange::new(8000, 8100).unwrap(), PortRange::single(80)];
    let mut resolver = spec("resolver", Algorithm::RoundRobin, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    resolver.protocol = ServiceProtocol::Udp;
    resolver.ports = vec![PortRange::single(53)];
    resolver.backends[1].port = None;
    resolver.source_address = vec![address("10.0.0.254")];
    let mut v6 = spec("shop6", Algorithm::Maglev, vec![backend(1, 1, 0)]);
    v6.address = address("2001:db8:51::10");
    v6.backends[0].address = address("2001:db8:10::11");
    let services = Services::compile(vec![shop, resolver, v6], None);
    let find = |text, protocol, port| services.find(address(text), protocol, port).map(ServiceId::get);
    assert_eq!(find("198.51.100.10", 6, 80), Some(0));
    assert_eq!((find("198.51.100.10", 6, 8000), find("198.51.100.10", 6, 8100)), (Some(0), Some(0)));
    assert_eq!((find("198.51.100.10", 6, 79), find("198.51.100.10", 6, 81)), (None, None));
    assert_eq!((find("198.51.100.10", 6, 8101), find("198.51.100.10", 6, 53)), (None, None));
    assert_eq!((find("198.51.100.10", 17, 53), find("198.51.100.10", 132, 53)), (Some(1), None));
    assert_eq!((find("2001:db8:51::10", 6, 80), find("198.51.100.11", 6, 80)), (Some(2), None));

    assert!(services.owns(address("198.51.100.10")) && !services.owns(address("10.0.0.1")));
    assert_eq!(services.virtual_addresses().count(), 2);
    assert_eq!(services.pool_addresses().collect::<Vec<_>>(), [address("10.0.0.254")]);
    let numbers: Vec<u32> = services.iter().flat_map(Service::members).map(|member| member.id.get()).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(services.by_name("resolver").map(|service| service.id().get()), Some(1));
}

#[test]
fn a_policy_change_carries_running_backends_and_memory_over() {
    let mut written = spec("shop", Algorithm::LeastConnections, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    written.persistence = Some(Nanos::from_secs(300));
    let old = up(written.clone());
    load(only(&old), &[3, 4]);
    written.backends.swap(0, 1);
    written.backends[0].weight = 9;
    written.backends.push(backend(3, 1, 0));
    written.backends.push(BackendSpec { port: Some(81), ..backend(1, 1, 0) });
    let new = Services::compile(vec![written], Some(&old));
    let [second, first, fresh, moved] = only(&new).members() else { unreachable!() };
    assert!(Arc::ptr_eq(&second.backend, &only(&old).members()[1].backend));
    assert!(Arc::ptr_eq(&first.backend, &only(&old).members()[0].backend));
    assert_eq!((second.weight, only(&old).members()[1].weight), (9, 1), "the policy in force is not touched");
    assert_eq!((fresh.backend.active(), moved.backend.active()), (0, 0), "SE-51");
    assert_eq!(new.locate(&first.backend), Some((ServiceId::new(0), 1)));
    assert!(std::ptr::eq(only(&old).persistence().unwrap(), only(&new).persistence().unwrap()));
}

#[test]
fn what_leaves_the_policy_drains_and_what_returns_serves() {
    let both = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    let one = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0)]);
    let mut disabled = both.clone();
    disabled.backends[1].disabled = true;
    let old = up(both.clone());
    let gone = Arc::clone(&only(&old).members()[1].backend);
    let end = NOW + Nanos::from_secs(30);

    for without in [one, disabled] {
        let new = Services::compile(vec![without], Some(&old));
        assert!(gone.is_enabled(), "compiling changes nothing");
        new.enact(Some(&old), NOW);
        assert_eq!((gone.admin(NOW), gone.fate(NOW)), (Admin::Draining, Fate::Stays));
        assert_eq!((gone.admin(end), gone.fate(end)), (Admin::Disabled, Fate::Drained));
        let back = Services::compile(vec![both.clone()], Some(&old));
        back.enact(Some(&new), NOW + Nanos::from_secs(10));
        assert_eq!((gone.is_enabled(), gone.fate(end)), (true, Fate::Stays));
    }
    let none = Services::default();
    assert_eq!(none.enact(Some(&old), NOW).len(), 2);
    assert!(none.is_empty() && none.locate(&gone).is_none());
}

#[test]
fn what_is_taken_out_and_put_back_keeps_its_sessions() {
    // A rollback: the policy without the backend is in force for a while, another change comes between.
    let both = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    let one = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0)]);
    let old = up(both.clone());
    load(only(&old), &[3, 4]);
    let user = Arc::clone(&only(&old).members()[1].backend);
    let mut force = old;
    for (step, written) in [&one, &one, &both].into_iter().enumerate() {
        let next = Services::compile(vec![written.clone()], Some(&force)).rebuilt();
        next.enact(Some(&force), NOW + Nanos::from_secs(step as u64));
        force = next;
    }
    let [first, back] = only(&force).members() else { unreachable!() };
    assert!(Arc::ptr_eq(&back.backend, &user));
    assert_eq!((back.backend.active(), back.backend.fate(NOW + Nanos::from_secs(60))), (4, Fate::Stays));
    assert_eq!((first.backend.health(), back.backend.health()), (Health::Up, Health::Unknown));
    assert!(!back.selectable(), "new sessions wait for the probes");
    back.backend.set_health(Health::Up);
    assert!(back.selectable());
}

#[test]
fn who_has_no_sessions_left_returns_as_a_new_backend() {
    let both = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    let old = up(both.clone());
    load(only(&old), &[3, 4]);
    let gone = Arc::downgrade(&only(&old).members()[0].backend);
    let without = Services::compile(Vec::new(), Some(&old));
    drop((without.enact(Some(&old), NOW), old));
    assert!(gone.upgrade().is_none(), "nothing keeps it alive");
    let back = Services::compile(vec![both], Some(&without));
    assert_eq!(active(only(&back)), [0, 0], "SE-51");
}

#[test]
fn what_returns_stays_drained_when_the_operator_drained_it() {
    let written = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0)]);
    let old = up(written.clone());
    let user = Arc::clone(&only(&old).members()[0].backend);
    user.drain(NOW);
    let without = Services::compile(Vec::new(), Some(&old));
    without.enact(Some(&old), NOW);
    let back = Services::compile(vec![written], Some(&without));
    back.enact(Some(&without), NOW);
    assert!(!user.is_enabled());
    user.undrain();
    assert!(user.is_enabled());
}

/// Deployments that give every backend a new name: the appliance remembers so many that were drained, not all there ever were.
#[test]
fn drained_backends_that_left_long_ago_are_forgotten() {
    let named = |number: usize| {
        let only = BackendSpec { name: format!("b{number}"), ..backend(1, 1, 0) };
        spec("shop", Algorithm::RoundRobin, vec![only])
    };
    let mut force = up(named(0));
    let mut forgotten = Vec::new();
    for number in 1..DRAINED_ABSENT_MAX + 4 {
        let leaves = Arc::clone(&only(&force).members()[0].backend);
        leaves.drain(NOW);
        forgotten.push(Arc::downgrade(&leaves));
        force = Services::compile(vec![named(number)], Some(&force));
    }
    let alive: Vec<bool> = forgotten.iter().map(|left| left.upgrade().is_some()).collect();
    assert_eq!(alive.iter().filter(|alive| **alive).count(), DRAINED_ABSENT_MAX);
    assert!(alive.ends_with(&[true; 3]) && alive.starts_with(&[false; 3]));
    let back = Services::compile(vec![named(3)], Some(&force));
    assert!(only(&back).members()[0].backend.is_drained(), "the oldest of those that are remembered");
}

/// What a service keeps beside its backends it finds again as long as one of them has sessions.
#[test]
fn a_service_finds_again_what_it_kept() {
    let written = ServiceSpec {
        persistence: Some(Nanos::from_secs(60)),
        ..spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0)])
    };
    for used in [true, false] {
        let old = up(written.clone());
        let user = used.then(|| Arc::clone(&only(&old).members()[0].backend));
        let (guard, kept) =
            (Arc::clone(only(&old).guard()), std::ptr::from_ref(only(&old).persistence().unwrap()).addr());
        let mut force = Services::compile(Vec::new(), Some(&old));
        drop(old);
        force = Services::compile(Vec::new(), Some(&force));
        force = Services::compile(vec![written.clone()], Some(&force));
        assert_eq!(Arc::ptr_eq(only(&force).guard(), &guard), used);
        if used {
            assert_eq!(std::ptr::from_ref(only(&force).persistence().unwrap()).addr(), kept);
        }
        drop(user);
    }
}

#[test]
fn a_backend_no_longer_probed_counts_as_up() {
    let mut written = spec("shop", Algorithm::RoundRobin, vec![backend(1, 1, 0)]);
    let old = up(written.clone());
    only(&old).members()[0].backend.set_health(Health::Failed);
    written.probed = false;
    let new = Services::compile(vec![written], Some(&old));
    new.enact(Some(&old), NOW);
    assert_eq!(only(&new).members()[0].backend.fate(NOW), Fate::Stays);
}

#[test]
fn rebuilding_shares_what_did_not_change() {
    let other =
        ServiceSpec { address: address("198.51.100.11"), ..spec("other", Algorithm::Maglev, vec![backend(9, 1, 0)]) };
    let shop = spec("shop", Algorithm::Maglev, vec![backend(1, 1, 0), backend(2, 1, 0)]);
    let services = Services::compile(vec![shop, other], None);
    set_health(&services, Health::Up);
    assert!(services.is_outdated());
    let risen = services.rebuilt();
    assert!(!risen.is_outdated());
    only(&risen).members()[0].backend.set_health(Health::Failed);
    let rebuilt = risen.rebuilt();
    let ring = |services: &Services, n| match services.service(ServiceId::new(n)).unwrap().plan() {
        services::Plan::Ring(ring) => Arc::as_ptr(ring),
        _ => unreachable!(),
    };
    let specs = risen.iter().map(|service| service.spec().clone()).collect();
    assert_eq!(ring(&Services::compile(specs, Some(&rebuilt)), 0), ring(&rebuilt, 0), "a new policy shares it too");
    assert_ne!(ring(&risen, 0), ring(&rebuilt, 0));
    assert_eq!(ring(&risen, 1), ring(&rebuilt, 1));
    assert!(rebuilt.memory() > 2 * units::limits::MAGLEV_TABLE);
}

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::LeastLoad,
    Algorithm::Maglev,
    Algorithm::SourceHash,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_changes_only_the_selectable_are_picked(
        weights in prop::collection::vec(0u32..4, 1..6),
        failed: [bool; 6],
        algorithm in prop::sample::select(&ALGORITHMS[..3]),
        mut turn: u32,
    ) {
        let backends = (1..).zip(&weights).map(|(n, &weight)| backend(n, weight, u32::from(n))).collect();
        let services = up(spec("any", algorithm, backends));
        for (member, failed) in only(&services).members().iter().zip(failed) {
            member.backend.set_health(if failed { Health::Failed } else { Health::Up });
        }
        for services in [services.clone(), services.rebuilt()] {
            let service = only(&services);
            let someone = service.members().iter().any(Member::selectable);
            for n in 0..20 {
                let picked = service.pick(client(n), 1, &mut turn);
                prop_assert_eq!(picked.is_some(), someone);
                prop_assert!(picked.is_none_or(|position| service.members()[position].selectable()));
            }
        }
    }

    #[test]
    fn least_connections_agrees_with_a_sort(weights in prop::collection::vec(1u32..5, 1..6), steps in 1usize..60) {
        let backends = (1..).zip(&weights).map(|(n, &weight)| backend(n, weight, 0)).collect();
        let services = up(spec("any", Algorithm::LeastConnections, backends));
        let mut model: HashMap<usize, u32> = (0..weights.len()).map(|position| (position, 0)).collect();
        for _ in 0..steps {
            let expected = (0..weights.len())
                .min_by(|&a, &b| (model[&a] * weights[b]).cmp(&(model[&b] * weights[a])).then(a.cmp(&b)))
                .unwrap();
            prop_assert_eq!(open(only(&services), client(1), 1, &mut 0), expected);
            *model.get_mut(&expected).unwrap() += 1;
        }
    }
}
