//! The session log as packets make it: what opens and what ends is told once, with addresses before and after translation, what has
//! passed, and why it ended; nobody waits for a log that is full.

use std::net::IpAddr;

use millrace_tests::packet::{Packet, end, ping, pong, tcp, udp};
use millrace_tests::rules::NAT64;
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS, Talk};
use session::{Kind, State};
use stage::DropReason::FirewallDenied;
use units::{Nanos, PortId};
use worker::{Ending, Ends, LogRecord, Turn};

const LOG: &str = "[session_log]\nformat = \"json\"\ncollector = \"/run/log.sock\"\nqueue = 1_024\n";

/// Everything is allowed; servers are hidden, and a shop is balanced in both versions.
const POLICY: &str = r#"
[firewall]
default = "allow"
[[source_nat]]
name = "out"
from = ["dmz"]
address = ["198.51.100.20"]
[[virtual_service]]
name = "shop"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service]]
name = "shop6"
address = "2001:db8:51::10"
protocol = "tcp"
ports = ["80"]
mode = "full-nat"
source_address = ["2001:db8:10::1"]
[[virtual_service.backend]]
name = "a"
address = "2001:db8:10::11"
port = 8080
"#;

/// With a log, and with clients that reach IPv4 by NAT64.
fn logged(keys: &str) -> Rig {
    Rig::new(&format!("{POLICY}{NAT64}ports = \"10000-49999\"\n{LOG}{keys}\n"))
}

/// An end as `end` writes it.
fn seen(source: &str, destination: &str) -> Ends {
    let parts = |written: &str| -> (IpAddr, u16) {
        let (address, port) = written.rsplit_once(':').expect("an address and a port");
        (address.trim_matches(['[', ']']).parse().expect("an address"), port.parse().expect("a port"))
    };
    let ((source, source_port), (destination, destination_port)) = (parts(source), parts(destination));
    Ends { source, source_port, destination, destination_port }
}

/// Puts a packet in and lets everything happen.
fn send(rig: &mut Rig, side: Side, packet: &Packet) {
    rig.put(side, packet);
    rig.settle();
    rig.take();
}

/// The one record there is.
fn only(rig: &mut Rig) -> LogRecord {
    let mut told = rig.told();
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

fn silence(rig: &mut Rig) {
    rig.leap(Nanos::from_secs(9_000));
}

#[test]
fn a_connection_is_told_when_it_opens_and_when_it_is_over() {
    for (client, server) in [("198.51.100.7:40000", "10.0.0.11:81"), ("[2001:db8:51::7]:40000", "[2001:db8:10::11]:81")]
    {
        let mut rig = logged("");
        let talk = Talk::tcp((OUTSIDE, client, server), (INSIDE, client, server));
        talk.syn(&mut rig);
        let opened = only(&mut rig);
        assert_eq!((opened.turn, opened.kind, opened.state), (Turn::Opened, Kind::Tcp, State::SynSent));
        assert_eq!((opened.original, opened.is_translated()), (seen(client, server), false));
        assert_eq!((opened.sent.packets, opened.answered.packets, opened.egress), (1, 0, Some(PortId::new(1))));
        rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
        rig.passes("ACK", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)));
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
        assert!(rig.told().is_empty(), "it lingers: what is under way may still come");
        silence(&mut rig);
        let closed = only(&mut rig);
        assert_eq!((closed.turn, closed.state), (Turn::Closed(Ending::Finished), State::TimeWait));
        assert_eq!((closed.original, closed.reply), (opened.original, opened.reply));
        assert_eq!((closed.sent.packets, closed.answered.packets), (5, 3));
        assert_eq!((closed.ingress, closed.egress), (PortId::new(0), Some(PortId::new(1))));
        assert_eq!(closed.opened, opened.opened);
        assert!(closed.at > opened.at && closed.sent.bytes > opened.sent.bytes);
    }
}

/// Each way a session can end, in both versions.
#[test]
fn why_a_session_ended_is_told() {
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        let (from, to) = (end(client, 4_000), end(server, 81));
        let talk = Talk::tcp((OUTSIDE, &from, &to), (INSIDE, &from, &to));
        let mut rig = logged("");
        for (packet, answer) in [(udp(&from, &to), udp(&to, &from)), (ping(client, server, 7), pong(server, client, 7))]
        {
            send(&mut rig, OUTSIDE, &packet);
            send(&mut rig, INSIDE, &answer);
            silence(&mut rig);
            let told = rig.told();
            assert_eq!(told.len(), 2, "{told:?}");
            assert_eq!((told[1].turn, told[1].answered.packets), (Turn::Closed(Ending::Idle), 1));
        }
        talk.open(&mut rig);
        rig.passes("RST", talk.down(|p| p.rst().seq(ANSWERER + 1)));
        silence(&mut rig);
        assert_eq!(rig.told()[1].turn, Turn::Closed(Ending::Finished), "a reset");
        // RFC 6335: the same ports again, while the first connection lingers.
        talk.open(&mut rig);
        talk.close(&mut rig);
        rig.told();
        rig.passes("anew", talk.up(|p| p.syn().seq(900_000)));
        let told = rig.told();
        assert_eq!([told[0].turn, told[1].turn], [Turn::Closed(Ending::Finished), Turn::Opened]);
        // The policy has changed its mind.
        rig.publish_more(&format!("{}{LOG}", POLICY.replace("default = \"allow\"", "default = \"deny\"")));
        rig.drops_all("no longer welcome", &[talk.up(|p| p.syn().seq(900_000)).0], FirewallDenied);
        assert_eq!(only(&mut rig).turn, Turn::Closed(Ending::Forced));
    }
}

#[test]
fn what_a_full_table_gives_up_is_told() {
    let text = format!("{TWO_PORTS}{POLICY}{LOG}").replace("capacity = 4_096", "capacity = 8");
    let mut rig = Rig::of(&text);
    for port in 1..=10 {
        send(&mut rig, OUTSIDE, &tcp(&end("198.51.100.7", port), "10.0.0.11:81").syn().seq(1));
    }
    let told = rig.told();
    let given_up: Vec<_> = told
        .iter()
        .filter(|told| told.turn == Turn::Closed(Ending::NoRoom))
        .map(|told| told.original.source_port)
        .collect();
    assert_eq!((told.len(), given_up), (12, vec![1, 2]), "the oldest, each before the new one");
}

/// A sentence, the first packet and where it comes from, its addresses and ports, those it leaves with, and whose it becomes.
type Translation<'t> = (&'t str, Side, Packet, Ends, Ends, Option<&'t str>);

#[test]
fn translations_are_told_with_both_looks() {
    let client6 = "[2001:db8:10::11]:33000";
    let rows: [Translation<'_>; 5] = [
        (
            "a server behind source NAT",
            INSIDE,
            udp("10.0.0.11:5000", "198.51.100.7:53"),
            seen("10.0.0.11:5000", "198.51.100.7:53"),
            seen("198.51.100.20:5000", "198.51.100.7:53"),
            None,
        ),
        (
            "a client of a service",
            OUTSIDE,
            tcp("198.51.100.7:4000", "198.51.100.10:80").syn().seq(1),
            seen("198.51.100.7:4000", "198.51.100.10:80"),
            seen("198.51.100.7:4000", "10.0.0.11:8080"),
            Some("shop"),
        ),
        (
            "a client that is hidden from the service's backends",
            OUTSIDE,
            tcp("[2001:db8:51::7]:4000", "[2001:db8:51::10]:80").syn().seq(1),
            seen("[2001:db8:51::7]:4000", "[2001:db8:51::10]:80"),
            seen("[2001:db8:10::1]:4000", "[2001:db8:10::11]:8080"),
            Some("shop6"),
        ),
        (
            "an IPv6 client of an IPv4 server",
            INSIDE,
            tcp(client6, "[64:ff9b::198.51.100.7]:443").syn().seq(1),
            seen(client6, "[64:ff9b::198.51.100.7]:443"),
            seen("198.51.100.64:33000", "198.51.100.7:443"),
            None,
        ),
        (
            "a ping behind source NAT",
            INSIDE,
            ping("10.0.0.11", "198.51.100.7", 5_001),
            seen("10.0.0.11:5001", "198.51.100.7:5001"),
            seen("198.51.100.20:5001", "198.51.100.7:5001"),
            None,
        ),
    ];
    for keys in ["", "events = [\"nat\"]"] {
        let mut rig = logged(keys);
        for (sentence, side, packet, original, leaves, service) in &rows {
            send(&mut rig, *side, packet);
            let opened = only(&mut rig);
            assert_eq!((opened.turn, opened.original), (Turn::Opened, *original), "{sentence}");
            // Which port hides a client is the appliance's choice.
            let leaves = Ends { source_port: opened.leaves_with().source_port, ..*leaves };
            assert_eq!(opened.leaves_with(), leaves, "{sentence}");
            assert!(opened.is_translated(), "{sentence}");
            let far = if *side == INSIDE { OUTSIDE } else { INSIDE };
            assert_eq!((opened.ingress, opened.egress), (side.port(), Some(far.port())), "{sentence}");
            assert_eq!(opened.backend.as_ref().map(|backend| backend.service()), *service, "{sentence}");
            silence(&mut rig);
            let closed = only(&mut rig);
            assert_eq!((closed.turn, closed.leaves_with()), (Turn::Closed(Ending::Idle), leaves), "{sentence}");
        }
        send(&mut rig, OUTSIDE, &udp("198.51.100.7:1", "10.0.0.11:1"));
        assert_eq!(rig.told().is_empty(), !keys.is_empty(), "what is not rewritten is none of NAT's events");
    }
}

#[test]
fn only_what_is_wanted_is_told() {
    for (keys, turns) in [
        ("events = [\"open\"]", [true, false]),
        ("events = [\"close\"]", [false, true]),
        ("events = [\"open\", \"close\"]", [true, true]),
    ] {
        let mut rig = logged(keys);
        send(&mut rig, OUTSIDE, &udp("198.51.100.7:1", "10.0.0.11:1"));
        let opened = rig.told();
        silence(&mut rig);
        let closed = rig.told();
        assert_eq!([!opened.is_empty(), !closed.is_empty()], turns, "{keys}");
    }
}

/// The log's own way to its collector, and probes of backends, would fill it.
#[test]
fn what_the_appliances_own_kernel_opens_is_not_told() {
    let mut rig = logged("");
    send(&mut rig, OUTSIDE_KERNEL, &udp("198.51.100.1:5000", "198.51.100.7:4739"));
    send(&mut rig, INSIDE_KERNEL, &tcp("10.0.0.1:5000", "10.0.0.11:8080").syn().seq(1));
    assert_eq!(rig.session_count(), 2);
    silence(&mut rig);
    assert!(rig.told().is_empty());
    // Who speaks to it is.
    send(&mut rig, OUTSIDE, &tcp("198.51.100.7:5000", "198.51.100.1:22").syn().seq(1));
    assert_eq!(only(&mut rig).original, seen("198.51.100.7:5000", "198.51.100.1:22"));
}

/// Nobody takes the records: the ring fills, what follows is counted, and packets pass as ever.
#[test]
fn a_log_that_is_full_holds_up_no_packet() {
    let mut rig = logged("");
    for number in 0..3_000_u16 {
        let (from, to) = (end("198.51.100.7", 1 + number), end("10.0.0.11", 81));
        rig.passes("a datagram", ((OUTSIDE, udp(&from, &to)), (INSIDE, udp(&from, &to).routed())));
    }
    assert_eq!((rig.count(|c| &c.log_records), rig.count(|c| &c.log_records_lost)), (1_024, 1_976));
    assert_eq!(rig.told().len(), 1_024);
    silence(&mut rig);
    assert_eq!((rig.count(|c| &c.log_records), rig.count(|c| &c.log_records_lost)), (2_048, 1_976 + 1_976));
    assert_eq!(rig.count(|c| &c.log_entries_lost), 1_976 + 1_976);
    assert_eq!(rig.drops().len(), 0);
    // Of what is rewritten, each record is two entries.
    for number in 0..10_u16 {
        send(&mut rig, INSIDE, &udp(&end("10.0.0.11", 1 + number), "198.51.100.7:53"));
    }
    assert_eq!(rig.count(|c| &c.log_records_lost), 1_976 + 1_976 + 10);
    assert_eq!(rig.count(|c| &c.log_entries_lost), 1_976 + 1_976 + 20);
}

/// IANA, flowEndMilliseconds: the last packet's moment, not that of the session's end.
#[test]
fn how_long_a_session_was_silent_before_it_ended_is_told() {
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        let mut rig = logged("events = [\"open\", \"close\"]");
        send(&mut rig, OUTSIDE, &udp(&end(client, 4_000), &end(server, 81)));
        rig.leap(Nanos::from_secs(5));
        send(&mut rig, OUTSIDE, &udp(&end(client, 4_000), &end(server, 81)));
        let last = rig.now();
        silence(&mut rig);
        let told = rig.told();
        assert_eq!((told[0].idle, told.len()), (0, 2), "{told:?}");
        let silent = told[1].at.since(last).as_millis();
        assert!(silent >= 10_000, "one-way datagrams are remembered for longer: {silent} ms");
        assert!(u64::from(told[1].idle).abs_diff(silent / 250) <= 1, "{} ticks, {silent} ms", told[1].idle);
    }
}

#[test]
fn a_policy_turns_the_log_on_and_off_under_traffic() {
    let mut rig = Rig::new(POLICY);
    send(&mut rig, OUTSIDE, &udp("198.51.100.7:1", "10.0.0.11:1"));
    rig.publish_more(&format!("{POLICY}{LOG}"));
    assert!(rig.told().is_empty());
    send(&mut rig, OUTSIDE, &udp("198.51.100.7:2", "10.0.0.11:1"));
    // Another policy with the same log: what waits in it is not lost.
    rig.publish_more(&format!("{POLICY}{LOG}").replace("/run/log.sock", "/run/other.sock"));
    assert_eq!(only(&mut rig).original.source_port, 2);
    silence(&mut rig);
    let told = rig.told();
    assert_eq!(told.len(), 2, "one that was opened before anybody wanted to know ends, too");
    assert!(told.iter().all(|told| told.turn == Turn::Closed(Ending::Idle)));
    rig.publish_more(POLICY);
    send(&mut rig, OUTSIDE, &udp("198.51.100.7:3", "10.0.0.11:1"));
    silence(&mut rig);
    assert_eq!(rig.count(|c| &c.log_records), 3);
}

/// A service that cannot take a client has opened nothing, and nothing is told.
#[test]
fn a_session_is_told_as_often_as_it_opens_and_ends() {
    let text = format!("{TWO_PORTS}{POLICY}{LOG}").replace("workers = [1]", "workers = [1, 2]");
    let mut rig = Rig::laid_out(&text, Layout { workers: 2, queues: 2, ..Layout::default() });
    let mut told = Vec::new();
    for number in 0..400_u16 {
        for destination in ["10.0.0.11:81", "198.51.100.10:80", "198.51.100.10:81", "10.0.0.250:81"] {
            send(&mut rig, OUTSIDE, &tcp(&end("198.51.100.7", 1_000 + number), destination).syn().seq(1));
        }
        told.extend(rig.told());
    }
    silence(&mut rig);
    told.extend(rig.told());
    let opened = told.iter().filter(|told| told.turn == Turn::Opened).count() as u64;
    assert_eq!(opened, rig.count(|c| &c.sessions_opened));
    assert_eq!(told.len() as u64 - opened, rig.count(|c| &c.sessions_closed));
    assert_eq!(told.iter().map(|told| told.owner.index()).max(), Some(1), "both workers tell");
}
