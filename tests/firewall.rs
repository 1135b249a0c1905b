//! The firewall as packets meet it: what passes, what is refused and how its sender is told, what is counted and logged,
//! and what a new policy does to sessions that the old one admitted.

use control::event::Note;
use millrace_tests::packet::{ACK, FIN, Packet, SYN, host, icmp, icmp_error, ip, ping, pong, tcp, udp};
use millrace_tests::rules::WEB;
use millrace_tests::{INSIDE, INSIDE_KERNEL, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
use stage::DropReason::{
    FirewallDenied, FirewallRejected, IcmpErrorUnmatched, IcmpUnwanted, MulticastUnwanted, NoSession, RuleRateLimited,
    SourceOwnAddress, SourceRateLimited,
};
use stage::firewall::Action;
use units::{Nanos, ZoneId};

const CLIENT: &str = "198.51.100.7:40000";
const SERVER: &str = "10.0.0.11:80";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SERVER6: &str = "[2001:db8:10::11]:80";

fn v4_and_v6() -> [(&'static str, &'static str); 2] {
    [(CLIENT, SERVER), (CLIENT6, SERVER6)]
}

/// SE-34, SE-38: permitted packets go on towards their destination; everything else is dropped, and ends there.
#[test]
fn what_a_rule_allows_passes_both_ways_and_nothing_else_does() {
    let mut rig = Rig::new(WEB);
    for (client, server) in v4_and_v6() {
        let (up, down) = (tcp(client, server), tcp(server, client));
        rig.case(
            "the first packet of an allowed connection",
            &[(OUTSIDE, up.clone().syn().seq(1000))],
            &[(INSIDE, up.clone().syn().seq(1000).routed())],
            &[],
        );
        rig.case(
            "its answer needs no rule",
            &[(INSIDE, down.clone().syn_ack(1001).seq(5000))],
            &[(OUTSIDE, down.clone().syn_ack(1001).seq(5000).routed())],
            &[],
        );
        rig.case(
            "data both ways",
            &[
                (OUTSIDE, up.clone().ack(5001).seq(1001).data(b"GET /")),
                (INSIDE, down.clone().ack(1006).seq(5001).data(b"200 OK")),
            ],
            &[
                (INSIDE, up.clone().ack(5001).seq(1001).data(b"GET /").routed()),
                (OUTSIDE, down.clone().ack(1006).seq(5001).data(b"200 OK").routed()),
            ],
            &[],
        );
        rig.drops_all("another port", &[(OUTSIDE, up.clone().to(&server.replace(":80", ":81")).syn())], FirewallDenied);
        rig.drops_all(
            "the same port the other way, which the zones of the rule do not cover",
            &[(
                INSIDE,
                tcp(server, client).from(&server.replace(":80", ":50000")).to(&client.replace("40000", "80")).syn(),
            )],
            FirewallDenied,
        );
        rig.drops_all("another protocol", &[(OUTSIDE, udp(client, server))], FirewallDenied);
        rig.drops_all(
            "a protocol without ports",
            &[(OUTSIDE, ip(host(client), host(server), 132, b"sctp"))],
            FirewallDenied,
        );
    }
    assert_eq!(rig.session_count(), 2);
    assert_eq!(rig.hits("web"), (2, 0, 0), "hits count sessions, not packets");
    assert_eq!(rig.snapshot().rules.default_hits(), 8);
}

/// SE-40, RFC 9293 section 3.10.7.1: the reset acknowledges exactly what was sent.
#[test]
fn a_rejected_connection_is_reset_with_the_numbers_it_expects() {
    let mut rig = Rig::new(WEB);
    for (client, server) in v4_and_v6() {
        let target = server.replace(":80", ":23");
        let (up, reset) = (tcp(client, &target), tcp(&target, client).window(0).atomic());
        rig.case(
            "a SYN is acknowledged by the reset",
            &[(OUTSIDE, up.clone().syn().seq(0xffff_ffff))],
            &[(OUTSIDE, reset.clone().rst_ack(0))],
            &[FirewallRejected],
        );
        rig.case(
            "a SYN with data, all of it",
            &[(OUTSIDE, up.clone().syn().seq(7000).data(b"early"))],
            &[(OUTSIDE, reset.clone().rst_ack(7006))],
            &[FirewallRejected],
        );
    }
    assert_eq!(rig.hits("telnet"), (4, 0, 0));
    assert_eq!(rig.session_count(), 0, "what is rejected leaves no session");
}

/// SE-40: what is not TCP is told by ICMP, administratively prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
#[test]
fn a_rejected_datagram_is_answered_by_icmp() {
    let mut rig = Rig::new(WEB);
    let question = udp("198.51.100.7:40000", "10.0.0.11:37");
    let told = icmp_error("198.51.100.1", "198.51.100.7", 3, 13, 0, &question, 548).class(0xc0).atomic();
    rig.case("IPv4", &[(OUTSIDE, question)], &[(OUTSIDE, told)], &[FirewallRejected]);

    let question = udp("[2001:db8:51::7]:40000", "[2001:db8:10::11]:37");
    let told = icmp_error("2001:db8:51::1", "2001:db8:51::7", 1, 1, 0, &question, 1232);
    rig.case("IPv6", &[(OUTSIDE, question)], &[(OUTSIDE, told)], &[FirewallRejected]);

    let long = udp("198.51.100.7:40000", "10.0.0.11:37").data(&[b'x'; 1_400]);
    let told = icmp_error("198.51.100.1", "198.51.100.7", 3, 13, 0, &long, 548).class(0xc0).atomic();
    rig.case("as much of a long one as fits 576 bytes", &[(OUTSIDE, long)], &[(OUTSIDE, told)], &[FirewallRejected]);
}

/// RFC 1812 section 4.3.2.7: nobody is answered who must not be.
#[test]
fn what_must_not_be_answered_is_rejected_in_silence() {
    let mut rig = Rig::new("[firewall]\ndefault = \"reject\"\n");
    rig.drops_all("a reset", &[(OUTSIDE, tcp(CLIENT, SERVER).rst().seq(5))], NoSession);
    rig.drops_all(
        "a SYN that was sent to every station of the link",
        &[(OUTSIDE, tcp(CLIENT, SERVER).syn().destination_mac(wire::MacAddr::BROADCAST))],
        MulticastUnwanted,
    );
    let error = icmp_error("198.51.100.7", "10.0.0.11", 3, 3, 0, &udp("10.0.0.11:7", "198.51.100.7:7"), 28);
    rig.drops_all("an ICMP error about nothing known", &[(OUTSIDE, error)], IcmpErrorUnmatched);
}

/// SE-36, SE-37, EVA-21: what opens nothing is judged by no rule.
#[test]
fn segments_of_no_connection_open_none() {
    let mut rig = Rig::new(WEB);
    for (client, server) in v4_and_v6() {
        let segment = tcp(client, server).seq(1).acknowledging(2);
        rig.drops_all("an ACK", &[(OUTSIDE, segment.clone().flags(ACK))], NoSession);
        rig.drops_all("a SYN-ACK", &[(OUTSIDE, segment.clone().flags(SYN | ACK))], NoSession);
        rig.drops_all("a FIN-ACK", &[(OUTSIDE, segment.clone().flags(FIN | ACK))], NoSession);
        rig.drops_all("a reset", &[(OUTSIDE, segment.clone().rst())], NoSession);
    }
    assert_eq!((rig.session_count(), rig.hits("web").0), (0, 0));
}

/// SE-37: with `reject_unknown` such a segment is answered, so that an end that lost its peer learns of it.
#[test]
fn an_unknown_segment_is_reset_where_that_is_asked_for() {
    let text = format!("{TWO_PORTS}{WEB}").replace("capacity = 4_096", "capacity = 4_096\nreject_unknown = true");
    let mut rig = Rig::of(&text);
    for (client, server) in v4_and_v6() {
        let segment = tcp(client, server).ack(9000).seq(1);
        let reset = tcp(server, client).rst().seq(9000).window(0).atomic();
        rig.case("an ACK is reset where it is acknowledged", &[(OUTSIDE, segment)], &[(OUTSIDE, reset)], &[NoSession]);
    }
    rig.drops_all("never a reset for a reset", &[(OUTSIDE, tcp(CLIENT, SERVER).rst().seq(1))], NoSession);
}

/// EVA-21: loose pickup opens a session for a segment in the middle, when the rules allow it.
#[test]
fn a_connection_is_joined_in_its_middle_where_that_is_asked_for() {
    let text = format!("{TWO_PORTS}{WEB}").replace("capacity = 4_096", "capacity = 4_096\nmidstream = \"loose\"");
    let mut rig = Rig::of(&text);
    let (up, down) = (tcp(CLIENT, SERVER), tcp(SERVER, CLIENT));
    let middle = up.clone().ack(70_000).seq(50_000).data(b"more");
    rig.case("data", &[(OUTSIDE, middle.clone())], &[(INSIDE, middle.routed())], &[]);
    let answer = down.clone().ack(50_004).seq(70_000).data(b"and more");
    rig.case("its answer", &[(INSIDE, answer.clone())], &[(OUTSIDE, answer.routed())], &[]);
    rig.drops_all("denied all the same", &[(OUTSIDE, up.to("10.0.0.11:81").ack(7).seq(5))], FirewallDenied);
    rig.drops_all("a reset joins nothing", &[(INSIDE, down.to("198.51.100.8:4").rst().seq(5))], NoSession);
}

/// Zones are where a packet comes by and where its route leads; `appliance` is the appliance itself.
#[test]
fn zones_are_where_packets_come_from_and_go_to() {
    let mut rig = Rig::new(
        r#"
        [[firewall.rule]]
        name = "ssh"
        action = "allow"
        from = ["dmz"]
        to = ["appliance"]
        protocol = "tcp"
        destination_port = ["22"]
        [[firewall.rule]]
        name = "out"
        action = "allow"
        from = ["dmz"]
        to = ["wan"]
        "#,
    );
    let admin = tcp("10.0.0.99:50000", "10.0.0.1:22").syn().seq(1);
    rig.case("to the appliance's own address", &[(INSIDE, admin.clone())], &[(INSIDE_KERNEL, admin)], &[]);
    let other = tcp("10.0.0.99:50001", "198.51.100.1:22").syn();
    rig.case("to its address on the other port", &[(INSIDE, other.clone())], &[(INSIDE_KERNEL, other)], &[]);
    rig.drops_all("from the other zone", &[(OUTSIDE, tcp(CLIENT, "198.51.100.1:22").syn())], FirewallDenied);
    let out = udp("10.0.0.99:50000", "198.51.100.7:53");
    rig.case("dmz to wan", &[(INSIDE, out.clone())], &[(OUTSIDE, out.routed())], &[]);
    rig.drops_all("dmz to itself", &[(INSIDE, udp("10.0.0.99:50000", "10.0.0.98:53"))], FirewallDenied);
    rig.drops_all("wan to dmz", &[(OUTSIDE, udp("198.51.100.7:50000", "10.0.0.98:53"))], FirewallDenied);
}

#[test]
fn named_sets_stand_for_their_addresses() {
    let mut rig = Rig::new(
        r#"
        [[firewall.set]]
        name = "offices"
        addresses = ["203.0.113.0/25", "198.51.100.7", "2001:db8:99::/64"]
        [[firewall.rule]]
        name = "offices"
        action = "allow"
        source = ["@offices"]
        to = ["dmz"]
        [[firewall.rule]]
        name = "not-the-database"
        action = "allow"
        source = ["192.0.2.0/24", "@offices"]
        destination = ["10.0.0.5"]
        "#,
    );
    for (source, destination) in [
        ("203.0.113.127:9", "10.0.0.11:9"),
        ("198.51.100.7:9", "10.0.0.11:9"),
        ("[2001:db8:99::8]:9", "[2001:db8:10::11]:9"),
    ] {
        let packet = udp(source, destination);
        rig.case(source, &[(OUTSIDE, packet.clone())], &[(INSIDE, packet.routed())], &[]);
    }
    for (source, destination) in [
        ("203.0.113.128:9", "10.0.0.11:9"),
        ("198.51.100.8:9", "10.0.0.11:9"),
        ("[2001:db8:99:1::8]:9", "[2001:db8:10::11]:9"),
    ] {
        rig.drops_all(source, &[(OUTSIDE, udp(source, destination))], FirewallDenied);
    }
}

/// EVA-24: echo is what ICMP can open; the rest of it is never passed on by itself.
#[test]
fn of_icmp_only_what_a_rule_names_and_routers_pass_goes_through() {
    let mut rig = Rig::new(WEB);
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        let asks = ping(client, server, 77);
        rig.case("an echo request", &[(OUTSIDE, asks.clone())], &[(INSIDE, asks.routed())], &[]);
        let answers = pong(server, client, 77);
        rig.case("its reply", &[(INSIDE, answers.clone())], &[(OUTSIDE, answers.routed())], &[]);
        rig.drops_all("a reply nobody asked for", &[(INSIDE, pong(server, client, 78))], NoSession);
    }
    // Redirect, router advertisement and solicitation, timestamp, information, address mask: obsolete, or of one link.
    for kind in [5, 9, 10, 13, 14, 15, 16, 17, 18] {
        let sentence = format!("ICMP type {kind}");
        rig.drops_all(&sentence, &[(OUTSIDE, icmp("198.51.100.7", "10.0.0.11", kind, 0, 0, &[0; 28]))], IcmpUnwanted);
    }
    for kind in [130, 131, 132, 133, 134, 137, 138, 139, 140, 143, 200] {
        let packet = icmp("2001:db8:51::7", "2001:db8:10::11", kind, 0, 0, &[0; 28]);
        rig.drops_all(&format!("ICMPv6 type {kind}"), &[(OUTSIDE, packet)], IcmpUnwanted);
    }
    let mut rig = Rig::new("[[firewall.rule]]\nname = \"no-icmp\"\naction = \"deny\"\nprotocol = \"icmp\"\n");
    rig.drops_all("a ping nobody allows", &[(OUTSIDE, ping("198.51.100.7", "10.0.0.11", 1))], FirewallDenied);
}

/// First match wins, in the order of the file.
#[test]
fn the_first_rule_that_matches_decides() {
    let mut rig = Rig::new(
        r#"
        [firewall]
        default = "allow"
        [[firewall.rule]]
        name = "except-one"
        action = "deny"
        source = ["198.51.100.66"]
        [[firewall.rule]]
        name = "dns-of-all"
        action = "allow"
        protocol = "udp"
        destination_port = ["53"]
        [[firewall.rule]]
        name = "no-low-ports"
        action = "deny"
        protocol = "udp"
        destination_port = ["1-1023"]
        "#,
    );
    let ask = |source: &str, port: u16| udp(&format!("{source}:5000"), &format!("10.0.0.11:{port}"));
    rig.drops_all("denied by the first", &[(OUTSIDE, ask("198.51.100.66", 53))], FirewallDenied);
    let packet = ask("198.51.100.7", 53);
    rig.case("allowed by the second", &[(OUTSIDE, packet.clone())], &[(INSIDE, packet.routed())], &[]);
    rig.drops_all("denied by the third", &[(OUTSIDE, ask("198.51.100.7", 123))], FirewallDenied);
    let packet = ask("198.51.100.7", 1024);
    rig.case("allowed by default", &[(OUTSIDE, packet.clone())], &[(INSIDE, packet.routed())], &[]);
    let hits = ["except-one", "dns-of-all", "no-low-ports"].map(|rule| rig.hits(rule).0);
    assert_eq!((hits, rig.snapshot().rules.default_hits()), ([1, 1, 1], 1));
}

const LIMITS: &str = r#"
[[firewall.rule]]
name = "ten"
action = "allow"
protocol = "udp"
destination_port = ["53"]
new_sessions_per_second = 10
[[firewall.rule]]
name = "three-each"
action = "allow"
protocol = "udp"
destination_port = ["123"]
new_sessions_per_source = 3
"#;

#[test]
fn a_rule_grants_so_many_new_sessions_a_second_and_no_more() {
    let mut rig = Rig::new(LIMITS);
    let ask = |port: u16| udp(&format!("198.51.100.7:{port}"), "10.0.0.11:53");
    for port in 1..=10 {
        rig.case("granted", &[(OUTSIDE, ask(port))], &[(INSIDE, ask(port).routed())], &[]);
    }
    rig.drops_all("the eleventh in one moment", &[(OUTSIDE, ask(11))], RuleRateLimited);
    rig.case("sessions that exist are not limited", &[(OUTSIDE, ask(3))], &[(INSIDE, ask(3).routed())], &[]);
    rig.leap(Nanos::from_millis(100));
    rig.case("a tenth of a second earns one", &[(OUTSIDE, ask(12))], &[(INSIDE, ask(12).routed())], &[]);
    rig.drops_all("and no second one", &[(OUTSIDE, ask(13))], RuleRateLimited);
    assert_eq!(rig.hits("ten"), (13, 2, 0));
}

/// The limit of one source is its own; IPv6 sources are counted by their /64.
#[test]
fn a_source_gets_so_many_new_sessions_a_second_and_others_do_not_suffer() {
    let mut rig = Rig::new(LIMITS);
    let ask = |source: &str, port: u16| udp(&format!("{source}:{port}"), "10.0.0.11:123");
    for port in 1..=3 {
        let packet = ask("198.51.100.7", port);
        rig.case("granted", &[(OUTSIDE, packet.clone())], &[(INSIDE, packet.routed())], &[]);
    }
    rig.drops_all("the fourth of one source", &[(OUTSIDE, ask("198.51.100.7", 4))], SourceRateLimited);
    let packet = ask("198.51.100.8", 4);
    rig.case("another source", &[(OUTSIDE, packet.clone())], &[(INSIDE, packet.routed())], &[]);
    let six = |host: u16| udp(&format!("[2001:db8:51::{host:x}]:5"), "[2001:db8:10::11]:123");
    for host in 7..10 {
        rig.case("one /64", &[(OUTSIDE, six(host))], &[(INSIDE, six(host).routed())], &[]);
    }
    rig.drops_all("a fourth host of it", &[(OUTSIDE, six(10))], SourceRateLimited);
    rig.leap(Nanos::from_millis(334));
    rig.case("a third of a second earns one", &[(OUTSIDE, six(10))], &[(INSIDE, six(10).routed())], &[]);
    assert_eq!(rig.hits("three-each"), (10, 0, 2));
}

/// SE-39: a record for each first packet a rule with `log` decides about, at most `log_rate` a second.
#[test]
fn rules_that_log_tell_who_wanted_what_and_not_too_often() {
    let mut rig = Rig::new(
        r#"
        [firewall]
        log_rate = 5
        [[firewall.rule]]
        name = "quiet"
        action = "allow"
        protocol = "udp"
        destination_port = ["1"]
        [[firewall.rule]]
        name = "watched"
        action = "deny"
        log = true
        from = ["wan"]
        "#,
    );
    let quiet = udp("198.51.100.7:4", "10.0.0.11:1");
    rig.case("a rule without log", &[(OUTSIDE, quiet.clone())], &[(INSIDE, quiet.routed())], &[]);
    assert!(rig.notes().is_empty());
    rig.drops_all("a rule with log", &[(OUTSIDE, udp("198.51.100.7:4", "10.0.0.11:2"))], FirewallDenied);
    let notes = rig.notes();
    let [Note::Rule { at, rule, action, candidate, .. }] = notes.as_slice() else { panic!("one record: {notes:?}") };
    assert_eq!((*at, rule.map(|rule| rule.get()), *action), (rig.now(), Some(1), Action::Deny));
    assert_eq!((candidate.from, candidate.to), (ZoneId::new(1), ZoneId::new(2)));
    assert_eq!((candidate.protocol, candidate.source_port, candidate.destination_port), (17, 4, 2));
    assert_eq!(candidate.endpoints.source().to_string(), "198.51.100.7");
    for _ in 0..20 {
        rig.drops_all("a flood", &[(OUTSIDE, udp("198.51.100.7:4", "10.0.0.11:2"))], FirewallDenied);
    }
    assert_eq!((rig.notes().len(), rig.count(|c| &c.log_suppressed)), (4, 16));
    rig.leap(Nanos::from_secs(1));
    for _ in 0..20 {
        rig.drops_all("a second later", &[(OUTSIDE, udp("198.51.100.7:4", "10.0.0.11:2"))], FirewallDenied);
    }
    assert_eq!(rig.notes().len(), 5);
}

/// Opens a connection through the rig: sequence numbers go on at 1001 and 5001.
fn opened(rig: &mut Rig, client: &str, server: &str) {
    let (up, down) = (tcp(client, server), tcp(server, client));
    let steps: [(&str, Side, Side, Packet); 3] = [
        ("SYN", OUTSIDE, INSIDE, up.clone().syn().seq(1000)),
        ("SYN-ACK", INSIDE, OUTSIDE, down.syn_ack(1001).seq(5000)),
        ("ACK", OUTSIDE, INSIDE, up.ack(5001).seq(1001)),
    ];
    for (sentence, from, to, packet) in steps {
        rig.case(sentence, &[(from, packet.clone())], &[(to, packet.routed())], &[]);
    }
}

/// SE-36, RLD-03: a session that a new policy denies is cut at its next packet.
#[test]
fn a_new_rule_ends_the_sessions_it_denies_at_their_next_packet() {
    for (client, server) in v4_and_v6() {
        let mut rig = Rig::new(WEB);
        opened(&mut rig, client, server);
        let source = host(client);
        let rule = format!("[[firewall.rule]]\nname = \"no\"\naction = \"deny\"\nsource = [\"{source}\"]\n");
        let denied = WEB.replacen("[[firewall.rule]]", &format!("{rule}[[firewall.rule]]"), 1);
        rig.publish_more(&denied);
        assert_eq!(rig.session_count(), 1, "nothing is cut before its next packet");
        let data = tcp(client, server).ack(5001).seq(1001).data(b"GET /");
        rig.drops_all("the next packet", &[(OUTSIDE, data.clone())], FirewallDenied);
        assert_eq!(rig.session_count(), 0);
        rig.drops_all("and the one after it", &[(OUTSIDE, data)], NoSession);
    }
}

/// SE-40: where the rule rejects, both ends are told with the numbers they expect.
#[test]
fn a_new_rule_that_rejects_resets_both_ends() {
    for (client, server) in v4_and_v6() {
        let mut rig = Rig::new(WEB);
        opened(&mut rig, client, server);
        let rule = "[[firewall.rule]]\nname = \"no\"\naction = \"reject\"\nprotocol = \"tcp\"\n";
        rig.publish_more(&WEB.replacen("[[firewall.rule]]", &format!("{rule}[[firewall.rule]]"), 1));
        let (up, down) = (tcp(client, server).window(0).atomic(), tcp(server, client).window(0).atomic());
        rig.case(
            "the next packet",
            &[(INSIDE, tcp(server, client).ack(1001).seq(5001).data(b"200"))],
            &[(OUTSIDE, down.rst_ack(1001).seq(5001)), (INSIDE, up.rst_ack(5001).seq(1001))],
            &[FirewallRejected],
        );
        assert_eq!(rig.session_count(), 0);
    }
}

/// A session the new policy still allows goes on, under the rule that allows it now, and counters carry on by name.
#[test]
fn a_session_that_stays_allowed_notices_nothing() {
    let mut rig = Rig::new(WEB);
    opened(&mut rig, CLIENT, SERVER);
    let renamed = WEB.replace("name = \"ping\"", "name = \"echo\"");
    for generation in 2..5 {
        rig.publish_more(if generation % 2 == 0 { &renamed } else { WEB });
        let data = tcp(CLIENT, SERVER).ack(5001).seq(1001).data(b"again");
        rig.case("data", &[(OUTSIDE, data.clone())], &[(INSIDE, data.routed())], &[]);
        let answer = tcp(SERVER, CLIENT).ack(1006).seq(5001);
        rig.case("its answer", &[(INSIDE, answer.clone())], &[(OUTSIDE, answer.routed())], &[]);
        assert_eq!(rig.count(|c| &c.generation), generation);
    }
    assert_eq!(rig.hits("web"), (1, 0, 0), "a second look is not a second session");
}

const E3: &str = r#"
[[firewall.rule]]
name = "net"
action = "deny"
source = ["198.51.100.0/24"]
[[firewall.rule]]
name = "rest"
action = "allow"
[[virtual_service]]
name = "shop"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
algorithm = "round-robin"
mode = "nat"
health = { kind = "none" }
[[virtual_service.backend]]
name = "b1"
address = "10.0.0.11"
port = 80
[[virtual_service.backend]]
name = "b2"
address = "10.0.0.12"
port = 80
"#;

/// SE-34, SE-36, worked example E3: the firewall comes first, and its drop moves nothing of the balancer.
#[test]
fn a_drop_of_the_firewall_moves_no_counter_of_the_balancer() {
    let routes = "[[route]]\nto = \"192.0.2.0/24\"\nvia = \"198.51.100.254\"\n";
    let mut rig = Rig::new(&format!("{routes}{E3}"));
    rig.drops_all("a SYN of the denied net", &[(OUTSIDE, tcp(CLIENT, "198.51.100.10:80").syn())], FirewallDenied);
    assert_eq!(rig.active("shop"), [0, 0]);
    let syn = tcp("192.0.2.9:4000", "198.51.100.10:80").via("198.51.100.254").syn().seq(1);
    let forwarded = tcp("192.0.2.9:4000", "10.0.0.11:80").syn().seq(1).routed();
    rig.case("a SYN of another", &[(OUTSIDE, syn)], &[(INSIDE, forwarded)], &[]);
    assert_eq!(rig.active("shop"), [1, 0]);

    let zero = "[[firewall.rule]]\nname = \"zero\"\naction = \"deny\"\nsource = [\"192.0.2.9\"]\n";
    rig.publish_more(&format!("{routes}{zero}{E3}"));
    let data = tcp("192.0.2.9:4000", "198.51.100.10:80").via("198.51.100.254").ack(9).seq(2).data(b"x");
    rig.drops_all("its next packet under the new rule", &[(OUTSIDE, data)], FirewallDenied);
    let total = |rig: &Rig| ["b1", "b2"].map(|name| rig.backend("shop", name).total());
    assert_eq!((rig.active("shop"), total(&rig)), (vec![0, 0], [1, 0]), "the balancer was not consulted");
}

/// What the kernel beside a port sends needs no rule, and its answers find back; others do not get in by it.
#[test]
fn the_appliances_own_connections_need_no_rule() {
    let mut rig = Rig::new("[firewall]\ndefault = \"deny\"\n");
    let syn = tcp("198.51.100.1:33000", "198.51.100.7:443").syn().seq(1);
    rig.case("a SYN of the kernel", &[(OUTSIDE_KERNEL, syn.clone())], &[(OUTSIDE, syn)], &[]);
    let answer = tcp("198.51.100.7:443", "198.51.100.1:33000").syn_ack(2).seq(9);
    rig.case("its answer", &[(OUTSIDE, answer.clone())], &[(OUTSIDE_KERNEL, answer)], &[]);
    rig.drops_all(
        "another port of that host",
        &[(OUTSIDE, tcp("198.51.100.7:444", "198.51.100.1:33000").syn())],
        FirewallDenied,
    );
    rig.drops_all(
        "somebody who speaks in the appliance's name",
        &[(OUTSIDE, tcp("198.51.100.1:33000", "198.51.100.7:443").ack(10).seq(2))],
        SourceOwnAddress,
    );
    rig.drops_all(
        "or opens something in its name",
        &[(INSIDE, tcp("198.51.100.1:33000", "10.0.0.11:443").syn())],
        SourceOwnAddress,
    );
}

/// SE-36: several copies of a first packet that come at once are one session and one hit; the rules see a copy only when the
/// first was refused.
#[test]
fn copies_of_a_first_packet_in_one_burst_are_judged_once() {
    let dns =
        "[[firewall.rule]]\nname = \"dns\"\naction = \"allow\"\nprotocol = \"udp\"\ndestination_port = [\"53\"]\n";
    let mut rig = Rig::new(&format!("{WEB}{dns}"));
    for (client, server) in v4_and_v6() {
        let (other, ask) = (client.replace(":40000", ":40001"), server.replace(":80", ":53"));
        for (rule, first, neighbor) in [
            ("web", tcp(client, server).syn().seq(1000), tcp(&other, server).syn().seq(9000)),
            ("dns", udp(client, &ask).data(b"who"), udp(&other, &ask).data(b"who")),
            ("ping", ping(host(client), host(server), 7), ping(host(client), host(server), 8)),
        ] {
            let (hits, sessions) = (rig.hits(rule).0, rig.session_count());
            let came = [first.clone(), first.clone(), neighbor, first];
            let went = came.clone().map(|packet| (INSIDE, packet.routed()));
            rig.case(rule, &came.map(|packet| (OUTSIDE, packet)), &went, &[]);
            assert_eq!((rig.hits(rule).0 - hits, rig.session_count() - sessions), (2, 2), "{rule}");
        }
        for (rule, reason, first) in [
            ("telnet", FirewallRejected, tcp(client, &server.replace(":80", ":23")).syn()),
            ("time", FirewallRejected, udp(client, &server.replace(":80", ":37"))),
        ] {
            let hits = rig.hits(rule).0;
            for _ in 0..3 {
                rig.put(OUTSIDE, &first);
            }
            let dropped = rig.dropped(reason);
            rig.settle();
            rig.take();
            assert_eq!((rig.hits(rule).0 - hits, rig.dropped(reason) - dropped), (3, 3), "{rule}");
        }
    }
}
