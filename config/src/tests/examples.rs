//! The files an operator starts from load as they are written; those for what is not built yet say so.

use std::net::IpAddr;
use std::path::Path;

use stage::balancer::{Algorithm, Mode};
use stage::firewall::Action;
use units::{Nanos, PerSecond, PortId, ZoneId};

use super::{FULL, codes, faults, valid};
use crate::load;
use crate::policy::Probe;

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap()
}

fn address(written: &str) -> IpAddr {
    written.parse().unwrap()
}

#[test]
fn edge_loads_without_a_word_and_means_what_it_says() {
    let checked = valid(&example("edge.toml"));
    assert_eq!(checked.warnings, []);
    let policy = checked.policy;
    assert_eq!(policy.appliance.control_socket, Path::new("/run/millrace/control.sock"));
    assert_eq!((policy.cores.control, &*policy.cores.workers), (0, &[1][..]));
    assert_eq!((policy.dpdk.hugepages, policy.dpdk.memory), (false, 512 << 20));
    assert_eq!(policy.dpdk.buffers, policy.buffers_wanted());
    assert_eq!(policy.sessions.capacity, 100_000);
    assert_eq!(policy.zones, ["appliance", "wan", "dmz"]);
    let outside = &policy.ports[0];
    assert_eq!((&*outside.name, outside.zone, outside.mtu), ("outside", ZoneId::new(1), 1500));
    assert_eq!(outside.addresses[0].to_string(), "198.51.100.1/24");
    assert_eq!(outside.kernel_interface.as_deref(), Some("mr-outside"));
    assert_eq!((policy.routes[0].via, policy.routes[0].port), (Some(address("198.51.100.254")), PortId::new(0)));
    assert_eq!(policy.route_table().len(), 5);
    let rules = &policy.firewall.rules;
    assert_eq!(
        rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>(),
        ["clients-to-shop", "ping", "dns-in-limit", "servers-may-browse"]
    );
    assert_eq!((rules[0].action, rules[0].destination.len(), rules[0].destination_port.len()), (Action::Allow, 2, 2));
    assert_eq!(rules[2].new_sessions_per_source, Some(PerSecond::new(20)));
    assert!(rules[3].log);
    assert_eq!(policy.source_nat[0].address, [address("198.51.100.1")]);
    let [shop, shop6, resolver] = &policy.services[..] else { panic!("three services") };
    assert_eq!((shop.spec.algorithm, shop.spec.mode), (Algorithm::LeastConnections, Mode::Nat));
    assert_eq!(shop.spec.drain_timeout, Nanos::from_secs(30));
    assert!(matches!(&shop.health.kind, Probe::Http { path, .. } if path == "/healthz"));
    assert_eq!(shop.health.timeout, Nanos::from_millis(500));
    assert_eq!(shop.probe_port(&shop.spec.backends[0]), 8080);
    assert_eq!((&shop6.health.kind, shop6.spec.probed), (&Probe::Tcp, true));
    assert_eq!((&resolver.health.kind, resolver.spec.probed), (&Probe::None, false));
    assert_eq!((resolver.spec.mode, resolver.spec.persistence), (Mode::FullNat, Some(Nanos::from_secs(300))));
    assert_eq!(resolver.spec.backends[1].hops, 3);
}

#[test]
fn bench_loads_without_a_word() {
    let checked = valid(&example("bench.toml"));
    assert_eq!(checked.warnings, []);
    assert_eq!(checked.policy.dpdk.buffers, 1_300_000);
    assert_eq!(checked.policy.neighbors.len(), 2);
    assert_eq!(checked.policy.services[0].health.kind, Probe::None);
}

#[test]
fn every_example_but_those_of_later_features_loads() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !["pair.toml", "graph.toml"].contains(&name) {
            load(&example(name), &path).unwrap_or_else(|faults| panic!("{faults}"));
        }
    }
}

#[test]
fn what_is_not_built_yet_is_refused_by_name_and_line() {
    for (name, tables) in
        [("pair.toml", &["[replication]", "[[shared_address]]"][..]), ("graph.toml", &["[[function]]", "[[graph]]"])]
    {
        let text = example(name);
        // These files are what edge.toml adds: alone they lack its ports, too.
        let faults = load(&text, Path::new(name)).unwrap_err();
        for table in tables {
            let fault = faults.as_slice().iter().find(|fault| fault.message == format!("{table} is not supported yet"));
            let fault = fault.unwrap_or_else(|| panic!("{table} in {faults}"));
            assert_eq!(fault.code, "not-yet-supported");
            let line = text.lines().nth(fault.place.unwrap().line - 1).unwrap();
            assert!(line.starts_with(table), "{line}");
        }
    }
    let both = example("edge.toml") + &example("graph.toml");
    assert_eq!(codes(&both), ["not-yet-supported"; 3]);
    let message = "`sources` of [[tenant]] \"acme\" is not supported yet";
    let sources = faults(&both).into_iter().find(|fault| fault.message == message).unwrap();
    assert_eq!(
        both.lines().nth(sources.place.unwrap().line - 1),
        Some("sources = [\"203.0.113.0/25\"]        # who belongs to it")
    );
}

#[test]
fn the_file_with_every_key_is_valid() {
    let checked = valid(FULL);
    assert_eq!(checked.warnings, []);
    assert_eq!(checked.policy.ports[0].kernel_interface.as_deref(), Some("wan0"));
    assert_eq!(checked.policy.ports[1].kernel_interface, None);
    assert_eq!(checked.policy.firewall.rules[0].source.len(), 3);
    assert_eq!(checked.policy.firewall.rules[1].icmp.len(), 3);
}

#[test]
fn one_policy_is_equal_to_itself_and_to_no_other() {
    assert_eq!(valid(FULL).policy, valid(&FULL.replace('#', "##")).policy);
    assert_ne!(valid(FULL).policy, valid(&FULL.replace("mtu = 1500", "mtu = 1400")).policy);
}
