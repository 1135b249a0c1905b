//! Interfaces that vanish from under a port and are made anew (RLD-13): the port has the new one, without a restart, and sessions live on.
//! How long that takes is printed; what is asserted is that it comes.

use std::time::{Duration, Instant};

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, Web, eventually, unanswered};

/// Behind the appliance, in both families.
const TARGETS: [&str; 2] = ["10.0.0.11", "2001:db8:10::11"];

/// What `show ports` says of a port.
fn port(appliance: &Appliance<'_>, name: &str) -> serde_json::Value {
    let ports = appliance.show("ports");
    let found = ports.as_array().into_iter().flatten().find(|port| port["name"] == name);
    found.cloned().expect("a port of the policy")
}

fn is_up(appliance: &Appliance<'_>, name: &str) -> bool {
    port(appliance, name)["link"] == "up"
}

/// Waits until clients reach the servers in both families; how long that took.
fn recovery(lab: &Lab) -> Duration {
    let begun = Instant::now();
    for target in TARGETS {
        eventually(30, &format!("{target} answers again"), || {
            lab.client.run(&format!("ping -c 1 -W 0.2 {target}")).success
        });
    }
    begun.elapsed()
}

/// Threads and descriptors of the appliance.
fn holdings(appliance: &Appliance<'_>) -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", appliance.id())).map_or(0, Iterator::count);
    (count("task"), count("fd"))
}

/// Deletes the outside interface and makes it anew, so many times, with clients under way, and with an apply and a trace in the
/// middle.
fn vanishes_under_load(lab: &Lab, edge: &Configuration, rounds: usize) {
    let claims = Claims::serve(lab);
    let appliance = Appliance::start(lab, edge);
    claims.clients_reach_the_shop();
    let before = holdings(&appliance);
    let inside = TARGETS.map(|target| {
        let line = format!("ping -n -i 0.02 -w 600 -c {} {target}", rounds * 100);
        lab.appliance.start(&line, &lab.file(&format!("inside-{target}.log")))
    });
    let downloads = ["198.51.100.10", "[2001:db8:51::10]"];
    let mut downloads = [0, 1].map(|number| claims.download(downloads[number], number));
    eventually(5, "both downloads are under way", || [0, 1].iter().all(|number| claims.downloaded(*number) > 0));
    let load = TARGETS
        .map(|target| lab.client.start(&format!("ping -q -i 0.01 {target}"), &lab.file(&format!("load-{target}.log"))));
    let counted = |appliance: &Appliance<'_>| {
        let port = port(appliance, "outside");
        ["rx_packets", "rx_bytes", "rx_missed", "tx_packets", "tx_bytes", "tx_dropped"]
            .map(|name| port[name].as_u64().expect("a count"))
    };
    let mut last = counted(&appliance);
    for round in 0..rounds {
        lab.appliance.must("ip link delete mr-out0");
        eventually(5, "the port is down", || !is_up(&appliance, "outside"));
        assert!(is_up(&appliance, "inside"));
        if round == 1 {
            let applied = appliance
                .apply(&edge.clone().replacing("new_sessions_per_second = 1000", "new_sessions_per_second = 999"));
            assert!(applied.success, "{}", applied.err);
        }
        lab.wire_outside();
        let took = recovery(lab);
        eprintln!("round {round}: pings of both families pass {} ms after the wire is in place", took.as_millis());
        eventually(5, "the port is up", || is_up(&appliance, "outside"));
        let now = counted(&appliance);
        assert!(last.iter().zip(now).all(|(last, now)| now >= *last), "counters go on: {last:?} {now:?}");
        last = now;
    }
    drop(load);
    for (number, download) in downloads.iter_mut().enumerate() {
        let ended = download.ends_within(Duration::from_secs(60));
        assert!(ended.is_some_and(|status| status.success()), "{}", download.output());
        assert_eq!(claims.downloaded(number), Web::SLOW, "a connection from before came to its end");
    }
    for mut ping in inside {
        let ended = ping.ends_within(Duration::from_secs(60));
        let missing = unanswered(&ping.output());
        assert!(
            ended.is_some_and(|status| status.success()) && missing.is_empty(),
            "the other port goes on: {missing:?}"
        );
    }
    appliance.wait_for_backends();
    claims.hold(&appliance);
    eventually(30, &format!("threads and descriptors return to {before:?}"), || {
        let now = holdings(&appliance);
        now.0 <= before.0 && now.1 <= before.1
    });
    appliance.stop();
}

#[test]
fn an_interface_that_is_made_anew_is_the_ports_again_ten_times() {
    let test = "an_interface_that_is_made_anew_is_the_ports_again_ten_times";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    vanishes_under_load(&lab, &lab.edge(), 10);
}

#[test]
fn two_workers_have_its_queues_again_one_each_or_one_for_both() {
    let test = "two_workers_have_its_queues_again_one_each_or_one_for_both";
    for device in ["iface=mr-out0", "iface=mr-out0,qpairs=2"] {
        let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
        let edge = lab.edge().replacing("workers = [1]", "workers = [0, 1]").replacing("iface=mr-out0", device);
        vanishes_under_load(&lab, &edge, 1);
    }
}

#[test]
fn both_ports_may_vanish_together() {
    let Some(lab) = Lab::wired("both_ports_may_vanish_together", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    for _ in 0..2 {
        lab.appliance.must("ip link delete mr-out0");
        lab.appliance.must("ip link delete mr-in0");
        eventually(5, "both are down", || !is_up(&appliance, "outside") && !is_up(&appliance, "inside"));
        lab.wire_inside();
        lab.wire_outside();
        eprintln!("pings of both families pass {} ms after both wires are in place", recovery(&lab).as_millis());
    }
    appliance.wait_for_backends();
    claims.hold(&appliance);
    appliance.stop();
}

/// Ten times in a row, as fast as it goes, while everything is read and a capture runs.
#[test]
fn an_interface_that_flaps_leaves_nothing_behind() {
    let Some(lab) = Lab::wired("an_interface_that_flaps_leaves_nothing_behind", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    let before = holdings(&appliance);
    let events = appliance.start_asking("events --json", "events.log");
    let file = lab.file("flaps.pcapng");
    let line = format!("capture --port outside --write {} --for 10m --filter icmp", file.display());
    let mut capture = appliance.start_asking(&line, "capture.log");
    eventually(5, "it captures", || file.metadata().is_ok_and(|file| file.len() > 0));
    for _ in 0..10 {
        lab.appliance.must("ip link delete mr-out0");
        lab.appliance.wire("mr-out0", &lab.client, "eth0");
        assert!(is_up(&appliance, "inside"));
    }
    lab.appliance.must("ip link delete mr-out0");
    eventually(5, "an event tells that the port is down", || {
        events.output().lines().any(|line| line.contains("\"port\"") && line.contains("\"down\""))
    });
    lab.wire_outside();
    eprintln!("pings of both families pass {} ms after the last wire is in place", recovery(&lab).as_millis());
    eventually(5, "an event tells that it is up", || {
        events.output().lines().any(|line| line.contains("\"port\"") && line.contains("\"up\""))
    });
    capture.signal("INT");
    assert!(capture.ends_within(Duration::from_secs(10)).is_some(), "{}", capture.output());
    let seen = lab.client.must(&format!("tcpdump -nn -r {}", file.display()));
    assert!(seen.contains("ICMP echo request") && seen.contains("ICMP echo reply"), "{seen}");
    drop((events, capture));
    claims.clients_reach_the_shop();
    eventually(30, &format!("threads and descriptors return to {before:?}"), || {
        let now = holdings(&appliance);
        now.0 <= before.0 && now.1 <= before.1
    });
    appliance.stop();
}

/// What cannot be opened, another kind of interface or one too small, keeps the port down, says so once, and is taken as soon as it can be.
#[test]
fn an_interface_that_comes_back_too_small_is_taken_when_it_has_grown() {
    let test = "an_interface_that_comes_back_too_small_is_taken_when_it_has_grown";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    let forwarding = |name: &str| lab.appliance.must(&format!("sysctl -n net.ipv4.conf.{name}.arp_ignore"));
    assert_eq!(forwarding("mr-out0").trim(), "8", "Linux answers for nothing there");
    lab.appliance.must("ip link delete mr-out0");
    eventually(5, "the port is down", || !is_up(&appliance, "outside"));
    lab.appliance.must("ip tuntap add mr-out0 mode tun");
    eventually(5, "it is told what is wrong", || appliance.output().contains("the interface mr-out0 has no Ethernet"));
    lab.appliance.must("ip link delete mr-out0");
    let far = lab.client.name();
    lab.appliance.must(&format!("ip link add mr-out0 mtu 1400 type veth peer name eth0 netns {far}"));
    lab.client.raise("eth0");
    let said = "`ip link set mr-out0 mtu 1500`";
    eventually(5, "it is told what is wrong", || appliance.output().contains(said));
    // Three attempts and more.
    lab.appliance.must("ping -q -c 20 -i 0.1 -W 2 10.0.0.11");
    assert_eq!(appliance.output().matches(said).count(), 1, "{}", appliance.output());
    assert!(!is_up(&appliance, "outside"));
    lab.appliance.must("ip link set mr-out0 mtu 1500");
    lab.client.must("ip link set eth0 mtu 1500");
    lab.address_client();
    eprintln!("pings of both families pass {} ms after the MTU is right", recovery(&lab).as_millis());
    assert_eq!(forwarding("mr-out0").trim(), "8", "nor does it on the one that came back");
    claims.clients_reach_the_shop();
    // A stop while the port has no device.
    lab.appliance.must("ip link delete mr-out0");
    eventually(5, "the port is down", || !is_up(&appliance, "outside"));
    appliance.stop();
}
