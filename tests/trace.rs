//! Tracing: what is told of packets is what happens to them, nothing happens differently because somebody looks, and
//! whoever asks where a packet would go changes nothing.

use control::status::{TraceStatus, TraceStep};
use millrace_tests::packet::{Packet, arp_request, ip, ping, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
use proptest::prelude::*;
use units::Nanos;
use worker::PacketMatch;

const POLICY: &str = r#"
[firewall]
default = "deny"
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
protocol = "tcp"
destination_port = ["80"]
[[firewall.rule]]
name = "names"
action = "allow"
from = ["wan"]
protocol = "udp"
destination_port = ["53"]
new_sessions_per_second = 2
[[firewall.rule]]
name = "no"
action = "reject"
destination = ["10.0.0.66", "2001:db8:10::66"]
[[firewall.rule]]
name = "out"
action = "allow"
from = ["dmz"]
[[source_nat]]
name = "hide"
from = ["dmz"]
to = ["wan"]
source = ["10.0.0.0/24"]
address = ["198.51.100.1"]
[[virtual_service]]
name = "shop"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
algorithm = "maglev"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service.backend]]
name = "b"
address = "10.0.0.12"
port = 8080
[[virtual_service]]
name = "kept"
address = "198.51.100.11"
protocol = "tcp"
ports = ["80"]
algorithm = "round-robin"
persistence = { by = "source", timeout = "5m" }
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service.backend]]
name = "b"
address = "10.0.0.12"
port = 8080
[[virtual_service]]
name = "wrapped"
address = "198.51.100.30"
protocol = "tcp"
ports = ["80"]
mode = "gre"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.31"
"#;

/// A rig that has run for a while: it knows its neighbors.
fn settled() -> Rig {
    let mut rig = Rig::new(POLICY);
    for host in ["10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.31"] {
        rig.put(OUTSIDE, &tcp("198.51.100.200:1", &format!("{host}:80")).syn().seq(1));
    }
    for host in ["198.51.100.7", "198.51.100.8", "198.51.100.9"] {
        rig.put(INSIDE, &udp("10.0.0.200:1", &format!("{host}:53")));
    }
    rig.settle();
    rig.take();
    rig
}

const CLIENT: &str = "198.51.100.7:4000";

/// The one way that was told.
fn way(rig: &mut Rig, side: Side, packet: &Packet) -> TraceStatus {
    let follower = rig.follow(PacketMatch::default(), 1);
    rig.put(side, packet);
    rig.settle();
    let mut seen = rig.seen(&follower);
    assert_eq!((seen.ways.len(), seen.end), (1, Some(true)), "{seen:?}");
    rig.take();
    seen.ways.remove(0)
}

fn step<'a>(way: &'a TraceStatus, stage: &str) -> &'a TraceStep {
    way.steps.iter().find(|step| step.stage == stage).unwrap_or_else(|| panic!("no step {stage} in {way:#?}"))
}

fn stages(way: &TraceStatus) -> Vec<&str> {
    way.steps.iter().map(|step| step.stage.as_str()).collect()
}

#[test]
fn a_connection_to_a_service_is_told_from_the_port_to_the_backend() {
    let mut rig = settled();
    let told = way(&mut rig, OUTSIDE, &tcp(CLIENT, "198.51.100.10:80").syn().seq(1));
    assert_eq!((told.outcome.as_str(), &told.reason), ("forwarded", &None), "{told:#?}");
    assert_eq!((told.port.as_str(), told.zone.as_str()), ("outside", "wan"));
    assert_eq!(
        stages(&told),
        ["receive", "parse", "session", "firewall", "balancer", "translate", "route", "exit"],
        "{told:#?}"
    );
    let packet = told.packet.clone().unwrap();
    assert_eq!(
        (packet.protocol.as_str(), packet.source_port, packet.flags.as_deref()),
        ("tcp", Some(4_000), Some("SYN"))
    );
    assert!(step(&told, "session").text.starts_with("none; this packet opened one: syn_sent"));
    let firewall = step(&told, "firewall");
    assert_eq!((firewall.rule.as_deref(), firewall.action.as_deref()), (Some("web"), Some("allow")));
    assert_eq!(firewall.text, "from zone wan to zone dmz: rule web allows it");
    let balancer = step(&told, "balancer");
    assert_eq!(balancer.service.as_deref(), Some("shop"));
    assert!(balancer.text.ends_with("by the hash of the client's address and port (maglev)"), "{}", balancer.text);
    let backend = if balancer.backend.as_deref() == Some("a") { "10.0.0.11" } else { "10.0.0.12" };
    assert_eq!(step(&told, "translate").text, format!("destination 198.51.100.10:80 becomes {backend}:8080"));
    let route = step(&told, "route");
    assert_eq!(route.next_hop, Some(backend.parse().unwrap()));
    assert_eq!(step(&told, "exit").port.as_deref(), Some("inside"));

    // The answer, by its session.
    let told = way(&mut rig, INSIDE, &tcp(&format!("{backend}:8080"), CLIENT).syn().ack(2).seq(9));
    assert_eq!(told.outcome, "forwarded", "{told:#?}");
    let session = step(&told, "session");
    assert!(session.text.contains("in the direction of the answers, admitted by rule web"), "{}", session.text);
    assert!(step(&told, "balancer").text.ends_with("its session has it"));
    assert_eq!(step(&told, "translate").text, format!("source {backend}:8080 becomes 198.51.100.10:80"));
    assert_eq!(step(&told, "exit").port.as_deref(), Some("outside"));
}

#[test]
fn refusals_are_told_with_the_rule_and_the_reason() {
    let mut rig = Rig::new(POLICY);
    let told = way(&mut rig, OUTSIDE, &udp(CLIENT, "10.0.0.13:81"));
    assert_eq!((told.outcome.as_str(), told.reason.as_deref()), ("dropped", Some("firewall_denied")));
    assert_eq!(step(&told, "firewall").text, "from zone wan to zone dmz: the default denies it");
    let told = way(&mut rig, OUTSIDE, &udp(CLIENT, "10.0.0.66:81"));
    assert_eq!(
        (told.reason.as_deref(), step(&told, "firewall").rule.as_deref()),
        (Some("firewall_rejected"), Some("no"))
    );
    assert!(step(&told, "exit").text.starts_with("answered by port outside: icmp"), "{told:#?}");
    let told = way(&mut rig, OUTSIDE, &tcp(CLIENT, "10.0.0.13:80").ack(1).seq(1));
    assert_eq!(told.reason.as_deref(), Some("no_session"));
    let told = way(&mut rig, OUTSIDE, &udp(CLIENT, "10.0.0.13:53").wrong_ip_checksum(1));
    assert_eq!(told.reason.as_deref(), Some("ipv4_checksum"));
    assert_eq!(told.sentence, "dropped: the IPv4 header checksum is wrong");
    let told = way(&mut rig, OUTSIDE, &tcp(CLIENT, "10.0.0.13:80").cut(50));
    assert_eq!((told.reason.as_deref(), told.packet.is_none()), (Some("ipv4_total_length"), true));
    for (number, reason) in [(1, None), (2, None), (3, Some("rule_rate_limited"))] {
        let told = way(&mut rig, OUTSIDE, &udp(&format!("198.51.100.7:{number}"), "10.0.0.13:53"));
        assert_eq!(told.reason.as_deref(), reason, "{told:#?}");
    }
}

#[test]
fn sources_that_are_hidden_and_backends_that_are_remembered_are_told() {
    let mut rig = settled();
    let told = way(&mut rig, INSIDE, &udp("10.0.0.99:7000", "198.51.100.7:53"));
    assert_eq!(step(&told, "translate").text, "source 10.0.0.99:7000 becomes 198.51.100.1:7000");
    let told = way(&mut rig, OUTSIDE, &tcp(CLIENT, "198.51.100.11:80").syn().seq(1));
    assert!(step(&told, "balancer").text.ends_with("the next in turn (round-robin)"), "{told:#?}");
    let first = step(&told, "balancer").backend.clone();
    let told = way(&mut rig, OUTSIDE, &tcp("198.51.100.7:4001", "198.51.100.11:80").syn().seq(1));
    assert!(step(&told, "balancer").text.ends_with("its source had it before (persistence)"), "{told:#?}");
    assert_eq!(step(&told, "balancer").backend, first);
    let told = way(&mut rig, OUTSIDE, &tcp(CLIENT, "198.51.100.30:80").syn().seq(1));
    assert!(step(&told, "tunnel").text.starts_with("wrapped (gre): "), "{told:#?}");
    assert!(!stages(&told).contains(&"translate"));
}

#[test]
fn what_the_appliance_answers_or_keeps_is_told() {
    let mut rig = Rig::new(POLICY);
    let told = way(&mut rig, OUTSIDE, &arp_request("198.51.100.7", "198.51.100.10"));
    assert_eq!((told.outcome.as_str(), told.packet.unwrap().protocol.as_str()), ("consumed", "arp"));
    let datagram = udp("10.0.0.99:700", "198.51.100.7:53").data(&[3; 1_000]).pieces(600);
    let told = way(&mut rig, INSIDE, &datagram[0]);
    assert_eq!(told.outcome, "waits_for_fragments");
    rig.silence("10.0.0.140");
    let told = way(&mut rig, OUTSIDE, &tcp(CLIENT, "10.0.0.140:80").syn().seq(1));
    assert_eq!(told.outcome, "waits_for_neighbor", "{told:#?}");
    let told = way(&mut rig, INSIDE, &udp("10.0.0.98:7000", "198.51.100.7:53"));
    assert_eq!(told.outcome, "waits_for_neighbor", "{told:#?}");
    assert_eq!(step(&told, "translate").text, "source 10.0.0.98:7000 becomes 198.51.100.1:7000");
    let told = way(&mut rig, OUTSIDE_KERNEL, &udp("198.51.100.1:99", "198.51.100.7:123"));
    assert_eq!(told.outcome, "forwarded");
    assert!(step(&told, "receive").text.starts_with("from the appliance's own kernel"));
}

#[test]
fn only_what_matches_is_told() {
    let mut rig = settled();
    for (terms, matches) in [
        ("", 3),
        ("protocol=udp", 1),
        ("protocol=tcp", 1),
        ("protocol=arp", 1),
        ("source=198.51.100.7 protocol=tcp", 1),
        ("source=10.0.0.0/8", 0),
        ("address=10.0.0.13", 1),
        ("port=4000", 2),
        ("source-port=80", 0),
        ("destination-port=80", 1),
        ("ingress=outside", 3),
        ("ingress=inside", 0),
        ("from-kernel=true", 0),
        ("owner=0", 3),
        ("owner=1", 0),
    ] {
        let follower = rig.follow_matching(terms, 10);
        rig.put(OUTSIDE, &udp(CLIENT, "10.0.0.13:81"));
        rig.put(OUTSIDE, &arp_request("198.51.100.7", "198.51.100.10"));
        rig.put(OUTSIDE, &tcp(CLIENT, "198.51.100.10:80").syn().seq(1));
        rig.settle();
        assert_eq!(rig.seen(&follower).ways.len(), matches, "{terms}");
        rig.take();
        drop(follower);
        rig.leap(Nanos::from_secs(1));
    }
}

#[test]
fn a_trace_ends_by_count_by_time_and_when_nobody_listens() {
    let mut rig = Rig::new(POLICY);
    let packets = |rig: &mut Rig, count: u16| {
        for port in 0..count {
            rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{}", 1_000 + port), "10.0.0.13:81"));
        }
        rig.settle();
    };
    let follower = rig.follow(PacketMatch::default(), 3);
    packets(&mut rig, 5);
    let seen = rig.seen(&follower);
    assert_eq!((seen.ways.len(), seen.end), (3, Some(true)));

    let follower = rig.follow_for(PacketMatch::default(), 100, Nanos::from_secs(2));
    let other = rig.follow(PacketMatch::default(), 1);
    assert!(rig.seen(&other).busy, "one at a time");
    packets(&mut rig, 2);
    rig.leap(Nanos::from_secs(3));
    packets(&mut rig, 2);
    let seen = rig.seen(&follower);
    assert_eq!((seen.ways.len(), seen.end), (2, Some(false)));

    drop(rig.follow(PacketMatch::default(), 100));
    rig.leap(Nanos::from_secs(1));
    let follower = rig.follow(PacketMatch::default(), 1);
    packets(&mut rig, 1);
    assert_eq!(rig.seen(&follower).ways.len(), 1, "the trace before has ended");
}

/// Control does not come to take the records: what finds no room is counted, and treated like all others.
#[test]
fn what_finds_no_room_is_counted() {
    let mut rig = Rig::new(POLICY);
    let follower = rig.follow(PacketMatch::default(), 10_000);
    rig.turn();
    for round in 0..10 {
        for port in 0..100 {
            rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{}", 1 + round * 100 + port), "10.0.0.13:81"));
        }
        while rig.turn() {}
    }
    assert_eq!(rig.drops()["firewall_denied"], 1_000);
    rig.settle();
    let seen = rig.seen(&follower);
    assert_eq!(seen.ways.len() as u64 + seen.lost, 1_000);
    assert!(seen.lost > 500, "{}", seen.lost);
}

/// Of two workers, the one that has the session tells; the one that handed the packet over does not tell it again.
#[test]
fn each_packet_is_told_once_whoever_received_it() {
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), Layout { workers: 2, ..Layout::default() });
    let follower = rig.follow_matching("protocol=tcp", 1_000);
    for port in 0..64 {
        rig.put(OUTSIDE, &tcp(&format!("198.51.100.7:{}", 2_000 + port), "198.51.100.10:80").syn().seq(1));
    }
    rig.settle();
    let seen = rig.seen(&follower);
    let workers: Vec<_> = seen.ways.iter().filter(|way| way.steps[0].text.contains("handed it over")).collect();
    assert_eq!(seen.ways.len(), 64);
    assert!((10..55).contains(&workers.len()), "{}", workers.len());
    rig.take();
}

/// Packets that meet most of what the policy can do with them.
fn any_packet() -> impl Strategy<Value = (Side, Packet)> {
    let host = prop_oneof![Just(7_u8), Just(8), Just(9)];
    let target = prop_oneof![
        Just("198.51.100.10:80"),
        Just("198.51.100.11:80"),
        Just("198.51.100.30:80"),
        Just("10.0.0.13:80"),
        Just("10.0.0.66:80"),
        Just("10.0.0.13:53"),
        Just("203.0.113.9:80"),
        Just("198.51.100.1:22"),
    ];
    (host, 1_u16..6, target, 0_u8..10).prop_map(|(host, port, target, kind)| {
        let client = format!("198.51.100.{host}:{port}");
        let address = target.split(':').next().unwrap();
        match kind {
            0..=2 => (OUTSIDE, tcp(&client, target).syn().seq(1)),
            3 => (OUTSIDE, tcp(&client, target).ack(9).seq(2).data(b"GET /")),
            4 => (OUTSIDE, udp(&client, target)),
            5 => (OUTSIDE, ping(&format!("198.51.100.{host}"), address, port)),
            // No two servers ask from one port: it is kept outside, and none is drawn.
            6 => (INSIDE, udp(&format!("10.0.0.{host}:{}", 20_000 + 16 * u16::from(host) + port), "198.51.100.7:53")),
            7 => (INSIDE, tcp("10.0.0.11:8080", &client).syn().ack(2).seq(7)),
            8 => (OUTSIDE, udp(&client, target).hops(1)),
            _ => (INSIDE, ip(&format!("10.0.0.{host}"), "198.51.100.7", 47, b"tunnel")),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same comes out, is counted and remembered, whether somebody looks or not.
    #[test]
    fn nothing_happens_differently_because_somebody_looks(packets in prop::collection::vec(any_packet(), 1..40)) {
        let text = format!("{TWO_PORTS}{POLICY}");
        let mut rigs = [Rig::of(&text), Rig::of(&text).watched()];
        let mut outcomes = Vec::new();
        for rig in &mut rigs {
            for burst in packets.chunks(3) {
                for (side, packet) in burst {
                    rig.put(*side, packet);
                }
                rig.settle();
            }
            // Which packet gets which random number depends on the order within a burst: tunnels' identifications are such.
            let mut out = rig.take();
            for (_, frame) in &mut out {
                if frame.get(23) == Some(&47) {
                    frame.get_mut(18..20).into_iter().for_each(|identification| identification.fill(0));
                    frame.get_mut(24..26).into_iter().for_each(|checksum| checksum.fill(0));
                }
            }
            out.sort();
            let counted = [
                rig.count(|c| &c.forwarded),
                rig.count(|c| &c.consumed),
                rig.count(|c| &c.originated),
                rig.count(|c| &c.sessions_opened),
                rig.count(|c| &c.encapsulated),
                rig.count(|c| &c.bursts),
            ];
            let hits = ["web", "names", "no", "out"].map(|rule| rig.hits(rule));
            outcomes.push((out, rig.drops(), counted, hits, [rig.active("shop"), rig.active("kept")]));
        }
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
    }

    /// What is told of a packet that is only supposed is what happens to it, and asking changes nothing.
    #[test]
    fn what_is_supposed_is_what_happens((side, packet) in any_packet()) {
        let mut rig = settled();
        let before = (rig.drops(), ["web", "names", "no", "out"].map(|rule| rig.hits(rule)), rig.session_count());
        let supposed = rig.suppose(&[(side, packet.clone())]).remove(0);
        let after = (rig.drops(), ["web", "names", "no", "out"].map(|rule| rig.hits(rule)), rig.session_count());
        prop_assert_eq!(before, after);
        prop_assert!(rig.take().is_empty());
        let told = way(&mut rig, side, &packet);
        prop_assert_eq!((&supposed.outcome, &supposed.reason), (&told.outcome, &told.reason));
        prop_assert_eq!(stages(&supposed), stages(&told));
        for stage in ["firewall", "translate", "exit", "route"] {
            let of = |way: &TraceStatus| way.steps.iter().find(|step| step.stage == stage).map(|step| step.text.clone());
            let chance = told.steps.iter().any(|step| step.text.contains("round-robin"))
                || supposed.depends.iter().any(|depends| depends.contains("outside port"));
            prop_assert!(chance || of(&supposed) == of(&told), "{:#?}\n{:#?}", supposed, told);
        }
    }
}

/// A question takes what it needs from the running appliance: who failed, who is drained, who had which backend.
#[test]
fn a_question_knows_the_state_of_backends_and_of_sources() {
    let mut rig = Rig::new(POLICY);
    let ask = |rig: &mut Rig| {
        let told = rig.suppose(&[(OUTSIDE, tcp(CLIENT, "198.51.100.11:80").syn().seq(1))]).remove(0);
        (told.outcome.clone(), told.steps.iter().find(|step| step.stage == "balancer").cloned(), told.depends)
    };
    rig.put(OUTSIDE, &tcp(CLIENT, "198.51.100.11:80").syn().seq(1));
    rig.settle();
    rig.take();
    let had = if rig.active("kept")[0] == 1 { "a" } else { "b" };
    let (_, balancer, depends) = ask(&mut rig);
    let balancer = balancer.unwrap();
    assert_eq!(balancer.backend.as_deref(), Some(had));
    assert!(balancer.text.ends_with("its source had it before (persistence)"), "{balancer:?}");
    assert!(depends.iter().any(|why| why.contains("room for another session")), "{depends:?}");
    rig.health("kept", had, stage::balancer::Health::Failed);
    let other = if had == "a" { "b" } else { "a" };
    assert_eq!(ask(&mut rig).1.unwrap().backend.as_deref(), Some(other));
    rig.drain("kept", other);
    let (outcome, balancer, _) = ask(&mut rig);
    assert_eq!(outcome, "dropped");
    assert!(balancer.unwrap().text.ends_with("no backend was given"));
}

/// Packets of a file are judged one after the other: the second of a connection finds what the first would have opened.
#[test]
fn later_packets_find_what_earlier_ones_would_have_opened() {
    let mut rig = Rig::new(POLICY);
    let told = rig.suppose(&[
        (OUTSIDE, tcp(CLIENT, "198.51.100.10:80").syn().seq(1)),
        (OUTSIDE, tcp(CLIENT, "198.51.100.10:80").syn().seq(1)),
        (OUTSIDE, tcp(CLIENT, "198.51.100.10:81").syn().seq(1)),
    ]);
    assert!(step(&told[1], "session").text.starts_with("found: syn_sent"), "{:#?}", told[1]);
    assert_eq!(told[2].reason.as_deref(), Some("firewall_denied"));
    assert_eq!(rig.session_count(), 0);
}

/// Whoever asks for the outer packets of a tunnel is told of each, whichever worker has what was inside.
#[test]
fn packets_out_of_a_tunnel_are_told_where_they_were_unwrapped() {
    let ending = "[firewall]\ndefault = \"allow\"\n[[decapsulate]]\nname = \"it\"\naddress = \"198.51.100.1\"\n\
        from = [\"198.51.100.50\"]\nkind = \"gre\"\n";
    let layout = Layout { workers: 2, ..Layout::default() };
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ending}"), layout);
    let mut wanted = PacketMatch::default();
    wanted.terms.push(worker::PacketTerm::Protocol(47));
    let follower = rig.follow(wanted, 100);
    for port in 1..=16 {
        let inside = udp(&format!("203.0.113.7:{port}"), "10.0.0.11:53").bytes_of_ip();
        let outer = ip("198.51.100.50", "198.51.100.1", 47, &[&[0, 0, 8, 0][..], &inside].concat());
        rig.put(OUTSIDE, &outer);
        rig.settle();
    }
    let _ = rig.take();
    let ways = rig.seen(&follower).ways;
    assert_eq!(ways.len(), 16, "{ways:#?}");
    assert!(ways.iter().any(|way| way.outcome == "handed_over"), "{ways:#?}");
}
