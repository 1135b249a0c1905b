//! While it is operated: large policies follow each other, everything is read and metrics are scraped, and no packet is lost that
//! all of them allow; a restart with 100,000 rules (CRS-09); how far a change has come, on a terminal; an interface that is deleted under
//! a port (RLD-13). `MILLRACE_OPERATED_SECONDS` sets how long.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_tests::net::{
    Appliance, Claims, Configuration, Enough, Lab, binary, eventually, number_from_environment, unanswered,
};

/// What is read ten times a second: every document of the API, and the metrics.
const READ: [&str; 15] = [
    "/api/v1/ports",
    "/api/v1/workers",
    "/api/v1/sessions",
    "/api/v1/services",
    "/api/v1/firewall",
    "/api/v1/neighbors",
    "/api/v1/routes",
    "/api/v1/nat",
    "/api/v1/drops",
    "/api/v1/top",
    "/api/v1/memory",
    "/api/v1/policy",
    "/api/v1/staged",
    "/api/v1/progress",
    "/metrics",
];

/// `edge`, and before its own rules so many others for IPv4 and IPv6 in turn, none of them for any packet of the lab's. Policies
/// of another `turn` have other rules under the same names.
fn with_rules(edge: &Configuration, rules: usize, turn: usize) -> Configuration {
    let mut all = String::new();
    for rule in 0..rules {
        let (high, middle, low) = (rule >> 16, rule >> 8 & 0xff, rule & 0xff);
        let (source, destination) = match rule % 2 {
            0 => (format!("{}.{middle}.{low}.0/24", 20 + high), format!("192.0.2.{}", rule % 250)),
            _ => (
                format!("2001:db8:{:x}:{middle:x}{low:02x}::/64", 0x8000 + high),
                format!("2001:db8:99::{:x}", rule % 250),
            ),
        };
        let port = 1 + (rule + turn) % 60_000;
        write!(
            all,
            "[[firewall.rule]]\nname = \"rule-{rule}\"\naction = \"deny\"\nsource = [\"{source}\"]\n\
             destination = [\"{destination}\"]\nprotocol = \"tcp\"\ndestination_port = [\"{port}\"]\n\n"
        )
        .expect("a string takes everything");
    }
    let first = "[[firewall.rule]]\nname = \"clients-to-shop\"";
    edge.clone().replacing(first, &format!("{all}{first}"))
}

#[test]
fn policies_that_follow_each_other_lose_no_packet_that_all_of_them_allow() {
    let test = "policies_that_follow_each_other_lose_no_packet_that_all_of_them_allow";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    // Rings that hold what comes while a worker is not given its processor for some seconds.
    let edge = ["mr-out0", "mr-in0"].iter().fold(lab.edge(), |edge, name| {
        edge.replacing(&format!("iface={name}\""), &format!("iface={name},framecnt=4096\""))
    });
    let policies = [0, 1].map(|turn| with_rules(&edge, 10_000, turn));
    let appliance = Appliance::start(&lab, &policies[0]);
    let seconds = number_from_environment("MILLRACE_OPERATED_SECONDS", 60);
    // A packet each way every five milliseconds, in both families, and connections that open all the while. Several programs: what
    // one of them has not read yet has to fit in its socket.
    let targets = ["10.0.0.11", "2001:db8:10::11"].iter().cycle().take(8).zip(1..);
    let pings: Vec<_> = targets
        .map(|(target, number)| {
            let line = format!("ping -n -e {number} -i 0.02 -w {} -c {} {target}", seconds + 600, seconds * 50);
            lab.client.start(&line, &lab.file(&format!("ping-{number}.log")))
        })
        .collect();
    let (enough, readings) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut applied = 0;
    std::thread::scope(|scope| {
        let _over = Enough(&enough);
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let begun = Instant::now();
                READ.iter().for_each(|what| drop(appliance.get(what)));
                readings.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100).saturating_sub(begun.elapsed()));
            }
        });
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                claims.hundred_requests_are_answered("198.51.100.10");
                claims.hundred_requests_are_answered("[2001:db8:51::10]");
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            applied += 1;
            let done = appliance.apply(&policies[applied % 2]);
            assert!(done.success, "{}", done.err);
        }
    });
    assert_eq!(appliance.show("policy")["generation"].as_u64(), Some(applied as u64 + 1));
    assert!(readings.load(Ordering::Relaxed) > 0);
    for mut ping in pings {
        let ended = ping.ends_within(Duration::from_secs(120)).expect("the pings end");
        let missing = unanswered(&ping.output());
        assert!(ended.success() && missing.is_empty(), "of {applied} policies: {missing:?}");
    }
    claims.clients_reach_the_shop();
    appliance.stop();
}

/// CRS-09.
#[test]
fn a_hundred_thousand_rules_come_back_after_a_kill() {
    let Some(lab) = Lab::wired("a_hundred_thousand_rules_come_back_after_a_kill", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let mut appliance = Appliance::launch(&lab, &lab.edge());
    let applied = appliance.apply(&with_rules(&lab.edge(), 100_000, 0));
    assert!(applied.success, "{}", applied.err);
    appliance.kill();
    // How long a start may take is the appliance's own limit in the harness; perf has the figures.
    let appliance = Appliance::resume(&lab, &lab.edge());
    assert_eq!(appliance.show("firewall")["rules"].as_array().map(Vec::len), Some(100_004));
    appliance.wait_for_backends();
    claims.clients_reach_the_shop();
    appliance.stop();
}

/// On a terminal `apply` shows what the appliance says it is doing; elsewhere it shows nothing but the outcome.
#[test]
fn a_terminal_sees_how_far_a_large_policy_is() {
    let Some(lab) = Lab::wired("a_terminal_sees_how_far_a_large_policy_is", &["script"]) else { return };
    let appliance = Appliance::launch(&lab, &lab.edge());
    let file = lab.file("large.toml");
    std::fs::write(&file, with_rules(&lab.edge(), 100_000, 0).text()).expect("the lab's directory takes a file");
    let millrace = binary().expect("skipped where it is not built");
    // The harness splits command lines at spaces, so what script(1) gives a terminal is a file.
    let order = lab.file("apply.sh");
    let line = format!("{} --socket {} apply {}", millrace.display(), lab.edge().socket().display(), file.display());
    std::fs::write(&order, format!("#!/bin/sh\nexec {line}\n")).expect("the lab's directory takes a file");
    std::fs::set_permissions(&order, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let seen = lab.appliance.run(&format!("script --quiet --return --command {} /dev/null", order.display()));
    assert!(seen.success && seen.out.contains("compiling rules"), "{}", seen.out);
    assert!(seen.out.contains("generation 2 is in force"), "{}", seen.out);
    let quiet = appliance.apply(&lab.edge());
    assert!(quiet.success && quiet.err.is_empty(), "{}", quiet.err);
    appliance.stop();
}

/// RLD-13: the port is down, the rest goes on, and so does a stop; `vanishing` has the way back without one.
#[test]
fn an_interface_that_vanishes_takes_its_port_down_and_nothing_else() {
    let test = "an_interface_that_vanishes_takes_its_port_down_and_nothing_else";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let mut appliance = Appliance::start(&lab, &lab.edge());
    let link = |appliance: &Appliance<'_>, name: &str| {
        let ports = appliance.show("ports");
        let mut ports = ports.as_array().into_iter().flatten();
        ports.find(|port| port["name"] == name).map(|port| port["link"].clone())
    };
    let load = lab.client.start("ping -q -i 0.002 10.0.0.11", &lab.file("load.log"));
    lab.appliance.must("ip link delete mr-out0");
    eventually(5, "the port is down", || link(&appliance, "outside") == Some("down".into()));
    assert_eq!(link(&appliance, "inside"), Some("up".into()));
    lab.appliance.must("ping -c 3 -W 10 10.0.0.11");
    let status = appliance.terminate();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", appliance.output());
    assert!(!appliance.output().contains("panicked"), "{}", appliance.output());
    drop((load, appliance));
    lab.wire_outside();
    let appliance = Appliance::start(&lab, &lab.edge());
    claims.clients_reach_the_shop();
    appliance.stop();
}
