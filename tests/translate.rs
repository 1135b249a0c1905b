//! Translation as packets meet it: sources hidden behind pool addresses, ports that collide and run out, and ICMP errors
//! that cross a translation in both directions with the packet they quote put right.

use millrace_tests::packet::{Packet, end, host, icmp, icmp_error, ip, ping, pong, tcp, udp};
use millrace_tests::{INSIDE, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS, Talk};
use stage::DropReason::{
    IcmpErrorUnmatched, IcmpErrorsLimited, IcmpMtuFloor, IcmpUnwanted, KernelAddressInUse, NatPortsExhausted,
    NoSession, TcpOutOfWindow,
};
use wire::Malformed;

/// Servers browse behind the appliance's own addresses; nothing else is allowed.
const BROWSE: &str = r#"
[[firewall.rule]]
name = "browse"
action = "allow"
from = ["dmz"]
to = ["wan"]
[[source_nat]]
name = "out"
from = ["dmz"]
to = ["wan"]
source = ["10.0.0.0/24"]
address = ["198.51.100.1"]
[[source_nat]]
name = "out6"
from = ["dmz"]
to = ["wan"]
source = ["2001:db8:10::/64"]
address = ["2001:db8:51::1"]
"#;

const WEB: &str = "198.51.100.7:443";
const WEB6: &str = "[2001:db8:51::7]:443";

/// One of [`Talk`]'s makers.
type Maker = fn((Side, &str, &str), (Side, &str, &str)) -> Talk;

fn hidden(write: Maker) -> [Talk; 2] {
    [
        write((INSIDE, "10.0.0.11:33000", WEB), (OUTSIDE, "198.51.100.1:33000", WEB)),
        write((INSIDE, "[2001:db8:10::11]:33000", WEB6), (OUTSIDE, "[2001:db8:51::1]:33000", WEB6)),
    ]
}

/// The port (or identifier) a packet that came out was sent from.
fn source_port(bytes: &[u8]) -> u16 {
    let at = if bytes[12] == 0x08 { 34 } else { 54 };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[test]
fn a_connection_is_hidden_behind_the_pool_address() {
    let mut rig = Rig::new(BROWSE);
    for talk in hidden(Talk::tcp) {
        talk.open(&mut rig);
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
    }
}

#[test]
fn datagrams_are_hidden_and_a_missing_checksum_stays_missing() {
    let mut rig = Rig::new(BROWSE);
    for talk in hidden(Talk::udp) {
        rig.passes("a question", talk.up(|p| p));
        rig.passes("its answer", talk.down(|p| p.data(b"an answer")));
        rig.passes("an empty one", talk.up(|p| p.data(b"")));
    }
    let [v4, _] = hidden(Talk::udp);
    rig.passes("without checksum", v4.up(Packet::no_checksum));
    rig.passes("and back", v4.down(Packet::no_checksum));
}

/// RFC 3022 section 2.2: a ping is known by its identifier.
#[test]
fn pings_are_hidden_by_their_identifier() {
    let mut rig = Rig::new(BROWSE);
    for (inside, shown, server) in
        [("10.0.0.11", "198.51.100.1", "198.51.100.7"), ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7")]
    {
        let asks = (INSIDE, ping(inside, server, 5_000));
        rig.passes("a ping", (asks, (OUTSIDE, ping(shown, server, 5_000).routed())));
        let answers = (OUTSIDE, pong(server, shown, 5_000));
        rig.passes("its answer", (answers, (INSIDE, pong(server, inside, 5_000).routed())));
        rig.drops_all("an answer nobody waits for", &[(OUTSIDE, pong(server, shown, 5_001))], NoSession);
    }
}

/// A port below 1024 is not handed out: the session gets another, and its answers come back to the low one.
#[test]
fn a_low_port_is_given_a_high_one() {
    let mut rig = Rig::new(BROWSE);
    rig.put(INSIDE, &udp("10.0.0.11:500", "198.51.100.7:500"));
    rig.settle();
    let out = rig.take();
    let port = source_port(&out[0].1);
    assert!(port >= 1_024, "{port}");
    let shown = format!("198.51.100.1:{port}");
    let talk = Talk::udp((INSIDE, "10.0.0.11:500", "198.51.100.7:500"), (OUTSIDE, &shown, "198.51.100.7:500"));
    rig.passes("the answer", talk.down(|p| p));
    rig.passes("the next", talk.up(|p| p));
}

/// Two hosts on one port towards one server: the second gets another port, and neither hears the other's answers.
#[test]
fn sources_that_collide_get_ports_of_their_own() {
    let mut rig = Rig::new(BROWSE);
    for (first, second, server, shown) in [
        ("10.0.0.11:33000", "10.0.0.12:33000", WEB, "198.51.100.1"),
        ("[2001:db8:10::11]:33000", "[2001:db8:10::12]:33000", WEB6, "[2001:db8:51::1]"),
    ] {
        let kept = Talk::tcp((INSIDE, first, server), (OUTSIDE, &format!("{shown}:33000"), server));
        kept.open(&mut rig);
        rig.put(INSIDE, &tcp(second, server).syn().seq(1_000));
        rig.settle();
        let out = rig.take();
        let port = source_port(&out[0].1);
        assert!(port >= 1_024 && port != 33_000, "{port}");
        let other = Talk::tcp((INSIDE, second, server), (OUTSIDE, &format!("{shown}:{port}"), server));
        rig.passes("SYN again", other.up(|p| p.syn().seq(1_000)));
        rig.passes("SYN-ACK", other.down(|p| p.syn_ack(1_001).seq(5_000)));
        rig.passes("ACK", other.up(|p| p.ack(5_001).seq(1_001)));
        kept.chat(&mut rig);
        other.chat(&mut rig);
    }
    let elsewhere =
        Talk::tcp((INSIDE, "10.0.0.12:33000", "198.51.100.8:443"), (OUTSIDE, "198.51.100.1:33000", "198.51.100.8:443"));
    elsewhere.open(&mut rig);
}

/// RFC 4787 REQ-2: one inside host is always seen behind one of several addresses.
#[test]
fn a_host_is_always_behind_the_same_address_of_a_pool() {
    let two = BROWSE.replace("[\"198.51.100.1\"]", "[\"198.51.100.20\", \"198.51.100.21\"]");
    let mut rig = Rig::new(&two);
    let mut used = std::collections::BTreeSet::new();
    let mut address_of = |host: u32, port: u16| {
        rig.put(INSIDE, &udp(&format!("10.0.0.{host}:{port}"), "198.51.100.9:9"));
        rig.settle();
        rig.take()[0].1[29]
    };
    for host in 11..60 {
        let [first, second, third] = [3_000, 3_001, 65_000].map(|port| address_of(host, port));
        assert!(first == second && second == third, "host {host}");
        used.insert(first);
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [20, 21], "both addresses are used");
}

/// STX-11: every port in use, towards one server: refused by that name, others unaffected; freed with the sessions.
#[test]
fn when_every_port_is_taken_new_sessions_are_refused_until_one_is_free() {
    let text = format!("{TWO_PORTS}{BROWSE}").replace("capacity = 4_096", "capacity = 70_000");
    let mut rig = Rig::of(&text);
    let server = "198.51.100.7:53";
    let ports: Vec<u16> = (1_024..=65_535).collect();
    // Whom a packet waits for is another matter: the way out is known before.
    rig.put(INSIDE, &ping("10.0.0.11", "198.51.100.7", 5_000));
    rig.settle();
    rig.take();
    for chunk in ports.chunks(1_024) {
        for port in chunk {
            rig.put(INSIDE, &udp(&format!("10.0.0.11:{port}"), server));
        }
        rig.settle();
        let shown: Vec<_> = rig.take().iter().map(|(_, bytes)| source_port(bytes)).collect();
        assert!(shown == chunk, "each keeps its port: {} of {}", shown.len(), chunk.len());
    }
    assert_eq!(rig.session_count(), ports.len() + 1);
    rig.drops_all("one more host", &[(INSIDE, udp("10.0.0.12:33000", server))], NatPortsExhausted);
    let same = udp("10.0.0.11:33000", server);
    let shown = udp("198.51.100.1:33000", server).routed();
    rig.passes("who is there already goes on", ((INSIDE, same), (OUTSIDE, shown)));
    let other = udp("10.0.0.12:33000", "198.51.100.7:54");
    let shown = udp("198.51.100.1:33000", "198.51.100.7:54").routed();
    rig.passes("another port of that server", ((INSIDE, other), (OUTSIDE, shown)));
    rig.wait(40);
    let talk = Talk::udp((INSIDE, "10.0.0.12:33000", server), (OUTSIDE, "198.51.100.1:33000", server));
    rig.passes("a minute later", talk.up(|p| p));
    assert_eq!(rig.session_count(), 1);
}

/// A protocol without ports: one conversation with each far address.
#[test]
fn a_protocol_without_ports_is_hidden_by_its_addresses() {
    let mut rig = Rig::new(BROWSE);
    for (inside, shown, server) in
        [("10.0.0.11", "198.51.100.1", "198.51.100.7"), ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7")]
    {
        let there = |packet: Packet| ((INSIDE, packet.clone()), (OUTSIDE, packet.from(shown).routed()));
        rig.passes("GRE", there(ip(inside, server, 47, b"tunnelled")));
        let back = ip(server, shown, 47, b"and back");
        rig.passes("its answer", ((OUTSIDE, back.clone()), (INSIDE, back.to(inside).routed())));
        let second = inside.replace("11", "12");
        rig.drops_all("a second host to the same", &[(INSIDE, ip(&second, server, 47, b"x"))], NatPortsExhausted);
        rig.passes("the first goes on", there(ip(inside, server, 47, b"more")));
    }
}

/// First match wins among translations too; what none names leaves as it is.
#[test]
fn only_what_a_translation_names_is_translated() {
    let mut rig = Rig::new(&BROWSE.replace("10.0.0.0/24", "10.0.0.0/28"));
    let plain = udp("10.0.0.99:33000", WEB);
    rig.passes("another source", ((INSIDE, plain.clone()), (OUTSIDE, plain.routed())));
    let mut rig = Rig::new(&BROWSE.replace("from = [\"dmz\"]\nto = [\"wan\"]\n", ""));
    let inward = udp("198.51.100.7:33000", "10.0.0.11:53");
    rig.passes("another direction", ((OUTSIDE, inward.clone()), (INSIDE, inward.routed())));
}

/// EVA-25: a live mapping is for its own far end, and a guessed reset does not end it.
#[test]
fn nobody_else_gets_in_through_a_mapping() {
    let mut rig = Rig::new(BROWSE);
    let [talk, _] = hidden(Talk::tcp);
    talk.open(&mut rig);
    for intruder in ["198.51.100.8:443", "198.51.100.7:444"] {
        let segment = tcp(intruder, "198.51.100.1:33000");
        rig.drops_all("a SYN", &[(OUTSIDE, segment.clone().syn())], stage::DropReason::FirewallDenied);
        rig.drops_all("an ACK", &[(OUTSIDE, segment.ack(1_001).seq(5_001))], stage::DropReason::FirewallDenied);
    }
    let guessed = tcp(WEB, "198.51.100.1:33000").rst();
    for sequence in [0, 4_000, 100_000, 0x9000_0000] {
        rig.drops_all("a guessed reset", &[(OUTSIDE, guessed.clone().seq(sequence))], TcpOutOfWindow);
    }
    talk.chat(&mut rig);
}

/// EVA-16: 100,000 resets with the right addresses, guessed ports and sequence numbers, at a hundred mappings.
#[test]
fn guessed_resets_end_no_mapping() {
    let mut rig = Rig::new(BROWSE);
    let talks: Vec<_> = (0..100)
        .map(|number| {
            let (inside, shown) =
                (format!("10.0.0.11:{}", 33_000 + number), format!("198.51.100.1:{}", 33_000 + number));
            Talk::tcp((INSIDE, &inside, WEB), (OUTSIDE, &shown, WEB))
        })
        .collect();
    for talk in &talks {
        talk.open(&mut rig);
    }
    let mut random = 0x0123_4567_89ab_cdef_u64;
    let mut guess = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(random >> 32).unwrap()
    };
    for _ in 0..100 {
        for number in 0..1_000 {
            // Every other one knows the ports that are in use.
            let port = if number % 2 == 0 { 33_000 + guess() % 100 } else { 1_024 + guess() % 64_512 };
            rig.put(OUTSIDE, &tcp(WEB, &format!("198.51.100.1:{port}")).rst().seq(guess()));
        }
        rig.settle();
    }
    let passed = rig.take().len();
    // Expected of 100,000 in a window of 65,535: 1.5, and three standard deviations of 1.2.
    assert!(passed <= 5, "{passed} resets got through");
    let lost = rig.sessions().iter().filter(|session| session.state != session::State::Established).count();
    assert_eq!(lost, 0, "only an exact number closes");
    for talk in &talks {
        talk.chat(&mut rig);
    }
}

/// The kernel shares the pool address and may choose a port that is in use: it is told no, and the session lives.
#[test]
fn the_kernel_cannot_take_a_port_that_hides_a_session() {
    let mut rig = Rig::new(BROWSE);
    let [talk, _] = hidden(Talk::tcp);
    talk.open(&mut rig);
    rig.drops_all(
        "the kernel on the same port to the same server",
        &[(OUTSIDE_KERNEL, tcp("198.51.100.1:33000", WEB).syn().seq(9))],
        KernelAddressInUse,
    );
    talk.chat(&mut rig);
    let own = tcp("198.51.100.1:33001", WEB).syn().seq(9);
    rig.passes("on another port", ((OUTSIDE_KERNEL, own.clone()), (OUTSIDE, own)));
    // And the other way round: the kernel was first, a session has to take another port.
    rig.put(INSIDE, &tcp("10.0.0.11:33001", WEB).syn().seq(1));
    rig.settle();
    let out = rig.take();
    assert!(out.len() == 1 && source_port(&out[0].1) != 33_001);
}

/// RFC 5508 REQ-4: an error from the path reaches the hidden host, with the packet it sent inside.
#[test]
fn an_error_from_outside_reaches_the_host_behind_the_address() {
    for quoted in [28, 60, 548] {
        let mut rig = Rig::new(BROWSE);
        let sent = udp("10.0.0.11:33000", "198.51.100.7:53").data(&[7; 600]);
        let seen = sent.clone().from("198.51.100.1:33000").routed();
        rig.passes("a question", ((INSIDE, sent.clone()), (OUTSIDE, seen.clone())));
        // A router further on: what it quotes has travelled, and names the address it came from.
        let (there, here) = (seen.hops(1), sent.hops(1));
        let error = icmp_error("198.51.100.99", "198.51.100.1", 11, 0, 0, &there, quoted);
        let restored = icmp_error("198.51.100.99", "10.0.0.11", 11, 0, 0, &here, quoted).routed();
        rig.passes("time exceeded", ((OUTSIDE, error), (INSIDE, restored)));
        let error = icmp_error("198.51.100.99", "198.51.100.1", 3, 4, 1_280, &there, quoted);
        let restored = icmp_error("198.51.100.99", "10.0.0.11", 3, 4, 1_280, &here, quoted).routed();
        rig.passes("too big", ((OUTSIDE, error), (INSIDE, restored)));
    }
    for quoted in [48, 100, 1_232] {
        let mut rig = Rig::new(BROWSE);
        let sent = udp("[2001:db8:10::11]:33000", "[2001:db8:51::7]:53").data(&[7; 1_300]);
        let seen = sent.clone().from("[2001:db8:51::1]:33000").routed();
        rig.passes("a question", ((INSIDE, sent.clone()), (OUTSIDE, seen.clone())));
        let (there, here) = (seen.hops(1), sent.hops(1));
        let error = icmp_error("2001:db8:51::99", "2001:db8:51::1", 2, 0, 1_280, &there, quoted);
        let restored = icmp_error("2001:db8:51::99", "2001:db8:10::11", 2, 0, 1_280, &here, quoted).routed();
        rig.passes("too big", ((OUTSIDE, error), (INSIDE, restored)));
    }
}

/// RFC 5508 REQ-5: an error of the hidden host leaves in the name of the address that hides it.
#[test]
fn an_error_from_the_hidden_host_leaves_in_the_pools_name() {
    for (inside, shown, server, kind, code) in [
        ("10.0.0.11", "198.51.100.1", "198.51.100.7", 3, 3),
        ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7", 1, 4),
    ] {
        let mut rig = Rig::new(BROWSE);
        let talk = Talk::udp(
            (INSIDE, &end(inside, 33_000), &end(server, 53)),
            (OUTSIDE, &end(shown, 33_000), &end(server, 53)),
        );
        rig.passes("a question", talk.up(|p| p));
        let ((_, answer), (_, delivered)) = talk.down(|p| p.data(b"too late"));
        rig.passes("its answer", ((OUTSIDE, answer.clone()), (INSIDE, delivered.clone())));
        let error = icmp_error(inside, server, kind, code, 0, &delivered, 1_000);
        let seen = icmp_error(shown, server, kind, code, 0, &answer.routed(), 1_000).routed();
        rig.passes("port unreachable", ((INSIDE, error), (OUTSIDE, seen)));
    }
}

/// An error about a ping is translated by the ping's identifier.
#[test]
fn an_error_about_a_ping_crosses_too() {
    for (inside, shown, server, router, kind, quoted) in [
        ("10.0.0.11", "198.51.100.1", "198.51.100.7", "198.51.100.99", 11, 28),
        ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7", "2001:db8:51::99", 3, 48),
    ] {
        for quoted in [quoted, 400] {
            let mut rig = Rig::new(BROWSE);
            // Two hosts with one identifier: the second one's is another outside.
            rig.passes(
                "a ping",
                ((INSIDE, ping(inside, server, 5_000)), (OUTSIDE, ping(shown, server, 5_000).routed())),
            );
            let second = inside.replace("11", "12");
            rig.put(INSIDE, &ping(&second, server, 5_000));
            rig.settle();
            let out = rig.take();
            let bytes = &out[0].1;
            let at = if inside.contains(':') { 58 } else { 38 };
            let identifier = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            assert_ne!(identifier, 5_000);
            let there = ping(shown, server, identifier).hops(1);
            let here = ping(&second, server, 5_000).hops(1);
            let error = icmp_error(router, shown, kind, 0, 0, &there, quoted);
            let restored = icmp_error(router, &second, kind, 0, 0, &here, quoted).routed();
            rig.passes("time exceeded", ((OUTSIDE, error), (INSIDE, restored)));
        }
    }
}

/// Errors about balanced sessions, both directions: clients see the virtual address, backends the client.
#[test]
fn errors_about_balanced_sessions_cross_in_both_directions() {
    let service = |name: &str, address: &str, mode: &str, backend: &str| {
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n{mode}\n\
             [[virtual_service.backend]]\nname = \"a\"\naddress = \"{backend}\"\nport = 8080\n"
        )
    };
    let text = "[firewall]\ndefault = \"allow\"\n".to_owned()
        + &service("nat", "198.51.100.10", "", "10.0.0.11")
        + &service("nat6", "2001:db8:51::10", "", "2001:db8:10::11")
        + &service("full", "198.51.100.20", "mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", "10.0.0.21");
    let mut rig = Rig::new(&text);
    for (client, vip, shown, server, kinds) in [
        ("198.51.100.7:40000", "198.51.100.10:80", "198.51.100.7:40000", "10.0.0.11:8080", [(3, 1), (3, 3)]),
        (
            "[2001:db8:51::7]:40000",
            "[2001:db8:51::10]:80",
            "[2001:db8:51::7]:40000",
            "[2001:db8:10::11]:8080",
            [(1, 3), (1, 4)],
        ),
        ("198.51.100.7:40000", "198.51.100.20:80", "10.0.0.1:40000", "10.0.0.21:8080", [(3, 1), (3, 3)]),
    ] {
        let talk = Talk::tcp((OUTSIDE, client, vip), (INSIDE, shown, server));
        talk.open(&mut rig);
        let ((_, sent), (_, delivered)) = talk.up(|p| p.ack(5_001).seq(1_001).data(b"GET /"));
        let [(kind, code), _] = kinds;
        // The backend's host says it is not there: the client hears it of the virtual address.
        let error = icmp_error(host(server), host(shown), kind, code, 0, &delivered, 100);
        let heard = icmp_error(host(vip), host(client), kind, code, 0, &sent.routed(), 100).routed();
        rig.passes("from the backend", ((INSIDE, error), (OUTSIDE, heard)));
        let ((_, answer), (_, received)) = talk.down(|p| p.ack(1_006).seq(5_001).data(b"200"));
        let [_, (kind, code)] = kinds;
        let error = icmp_error(host(client), host(vip), kind, code, 0, &received, 100);
        let heard = icmp_error(host(shown), host(server), kind, code, 0, &answer.routed(), 100).routed();
        rig.passes("from the client", ((OUTSIDE, error), (INSIDE, heard)));
    }
}

/// EVA-22: of an error about a live session only the true one passes.
#[test]
fn only_an_error_about_what_was_really_sent_passes() {
    for (inside, shown, server, router, kind, min) in [
        ("10.0.0.11", "198.51.100.1", "198.51.100.7", "198.51.100.99", 3_u8, 28_usize),
        ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7", "2001:db8:51::99", 1, 48),
    ] {
        let mut rig = Rig::new(BROWSE);
        let talk = Talk::tcp(
            (INSIDE, &end(inside, 33_000), &end(server, 443)),
            (OUTSIDE, &end(shown, 33_000), &end(server, 443)),
        );
        talk.open(&mut rig);
        rig.passes("data", talk.up(|p| p.ack(5_001).seq(1_001).data(b"GET /")));
        let sent = tcp(&end(shown, 33_000), &end(server, 443)).ack(5_001).seq(1_001).data(b"GET /").hops(1);
        let about = |quote: &Packet| icmp_error(router, shown, kind, 0, 0, quote, 1_000);
        let other_port = sent.clone().to(&end(server, 444));
        let other_host = sent.clone().to(&server.replace("::7", "::8").replace(".7", ".8"));
        let other_source = sent.clone().from(&end(shown, 33_001));
        let swapped = tcp(&end(server, 443), &end(shown, 33_000)).ack(1_006).seq(5_001);
        let untranslated = sent.clone().from(&end(inside, 33_000));
        let far_out = sent.clone().seq(0x7000_0000);
        for (sentence, quote) in [
            ("about another port", &other_port),
            ("about another host", &other_host),
            ("about another source port", &other_source),
            ("about what the far end sent", &swapped),
            ("about what nobody outside has seen", &untranslated),
            ("about a segment outside the window", &far_out),
        ] {
            rig.drops_all(sentence, &[(OUTSIDE, about(quote))], IcmpErrorUnmatched);
        }
        let to_another =
            icmp_error(router, &shown.replace("::1", "::2").replace("100.1", "100.2"), kind, 0, 0, &sent, 1_000);
        rig.drops_all("to another than the sender", &[(OUTSIDE, to_another)], IcmpErrorUnmatched);
        // Nobody on the side it came from has met the packet, and nobody beyond has these addresses.
        rig.drops_all("from the side of the sender", &[(INSIDE, about(&sent))], IcmpErrorUnmatched);
        for elsewhere in
            [inside.replace("11", "99"), shown.replace("51::1", "10::1").replace("198.51.100.1", "10.0.0.1")]
        {
            let error = icmp_error(&elsewhere, shown, kind, 0, 0, &sent, 1_000);
            rig.drops_all("from an address of the other side", &[(OUTSIDE, error)], IcmpErrorUnmatched);
        }
        let about_an_error = icmp_error(router, shown, kind, 0, 0, &about(&sent), 1_000);
        rig.drops_all("about an error", &[(OUTSIDE, about_an_error)], Malformed::IcmpQuote);
        let short = icmp_error(router, shown, kind, 0, 0, &sent, min - 1);
        rig.drops_all("that quotes no ports", &[(OUTSIDE, short)], Malformed::IcmpQuote);
        rig.drops_all("with a wrong checksum", &[(OUTSIDE, about(&sent).wrong_checksum(1))], Malformed::IcmpChecksum);
        let restored = sent.from(&end(inside, 33_000));
        let delivered = icmp_error(router, inside, kind, 0, 0, &restored, 1_000).routed();
        let true_one = tcp(&end(shown, 33_000), &end(server, 443)).ack(5_001).seq(1_001).data(b"GET /").hops(1);
        rig.passes("the true one", ((OUTSIDE, about(&true_one)), (INSIDE, delivered)));
        talk.chat(&mut rig);
    }
}

/// EVA-22: the same of a ping, which has an identifier instead of numbers and ports.
#[test]
fn only_an_error_about_a_ping_that_was_sent_passes() {
    for (inside, shown, server, router, kind) in [
        ("10.0.0.11", "198.51.100.1", "198.51.100.7", "198.51.100.99", 3_u8),
        ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7", "2001:db8:51::99", 1),
    ] {
        let mut rig = Rig::new(BROWSE);
        let sent = ping(shown, server, 5_000).routed();
        rig.passes("a ping", ((INSIDE, ping(inside, server, 5_000)), (OUTSIDE, sent.clone())));
        let about = |quote: &Packet| icmp_error(router, shown, kind, 0, 0, quote, 1_000);
        for (sentence, quote) in [
            ("with a wrong id", ping(shown, server, 5_001)),
            ("of another host", ping(shown, router, 5_000)),
            ("that is an answer", pong(shown, server, 5_000)),
            ("of the far end", ping(server, shown, 5_000)),
            ("as nobody outside has seen it", ping(inside, server, 5_000)),
        ] {
            rig.drops_all(&format!("about a ping {sentence}"), &[(OUTSIDE, about(&quote))], IcmpErrorUnmatched);
        }
        let restored = icmp_error(router, inside, kind, 0, 0, &ping(inside, server, 5_000).routed(), 1_000).routed();
        rig.passes("the true one", ((OUTSIDE, about(&sent)), (INSIDE, restored)));
    }
}

/// EVA-23: an MTU that no link has is not believed; the least that is, passes.
#[test]
fn errors_that_claim_a_tiny_link_are_dropped() {
    let mut rig = Rig::new(BROWSE);
    for (inside, shown, server, router, kind, code, tiny, least) in [
        ("10.0.0.11", "198.51.100.1", "198.51.100.7", "198.51.100.99", 3, 4, &[0, 68, 551][..], 552),
        ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7", "2001:db8:51::99", 2, 0, &[0, 1_279], 1_280),
    ] {
        let sent = udp(&end(inside, 33_000), &end(server, 53)).data(&[7; 400]);
        let seen = udp(&end(shown, 33_000), &end(server, 53)).data(&[7; 400]).routed();
        rig.passes("a question", ((INSIDE, sent.clone()), (OUTSIDE, seen.clone())));
        for &mtu in tiny {
            let error = icmp_error(router, shown, kind, code, mtu, &seen, 1_000);
            rig.drops_all(&format!("an MTU of {mtu}"), &[(OUTSIDE, error)], IcmpMtuFloor);
        }
        let error = icmp_error(router, shown, kind, code, least, &seen, 1_000);
        let restored = icmp_error(router, inside, kind, code, least, &sent.routed(), 1_000).routed();
        rig.passes("the least there is", ((OUTSIDE, error), (INSIDE, restored)));
        // Another code says nothing about an MTU, whatever stands in its field.
        let (kind, code) = if kind == 3 { (3, 1) } else { (1, 0) };
        let error = icmp_error(router, shown, kind, code, 0, &seen, 1_000);
        let sent = udp(&end(inside, 33_000), &end(server, 53)).data(&[7; 400]);
        let restored = icmp_error(router, inside, kind, code, 0, &sent.routed(), 1_000).routed();
        rig.passes("unreachable", ((OUTSIDE, error), (INSIDE, restored)));
    }
}

/// EVA-24: what no router passes on, in both directions, about live sessions too.
#[test]
fn obsolete_messages_do_not_cross() {
    let mut rig = Rig::new(
        &BROWSE.replace("to = [\"wan\"]\n[[source_nat]]\nname = \"out\"\n", "[[source_nat]]\nname = \"out\"\n"),
    );
    let sent = udp("10.0.0.11:33000", "198.51.100.7:53");
    let seen = udp("198.51.100.1:33000", "198.51.100.7:53").routed();
    rig.passes("a question", ((INSIDE, sent), (OUTSIDE, seen.clone())));
    for (sentence, packet) in [
        ("redirect", icmp_error("198.51.100.99", "198.51.100.1", 5, 1, 0x0a00_0063, &seen, 28)),
        ("source quench (RFC 6633)", icmp_error("198.51.100.99", "198.51.100.1", 4, 0, 0, &seen, 28)),
        ("timestamp", icmp("198.51.100.7", "10.0.0.11", 13, 0, 1, &[0; 12])),
        ("timestamp reply", icmp("198.51.100.7", "10.0.0.11", 14, 0, 1, &[0; 12])),
        ("router advertisement", icmp("198.51.100.7", "10.0.0.11", 9, 0, 0x0102_0000, &[0; 8])),
        ("router solicitation", icmp("198.51.100.7", "10.0.0.11", 10, 0, 0, &[])),
        ("address mask", icmp("198.51.100.7", "10.0.0.11", 17, 0, 1, &[0; 4])),
        ("redirect", icmp("2001:db8:51::7", "2001:db8:10::11", 137, 0, 0, &[0; 32]).hops(255)),
        ("router advertisement", icmp("2001:db8:51::7", "2001:db8:10::11", 134, 0, 0, &[0; 8]).hops(255)),
        ("an error nobody has defined", icmp("2001:db8:51::7", "2001:db8:10::11", 100, 0, 0, &[0; 48])),
        ("node information", icmp("2001:db8:51::7", "2001:db8:10::11", 139, 0, 0, &[0; 24])),
    ] {
        rig.drops_all(sentence, &[(OUTSIDE, packet)], IcmpUnwanted);
    }
    let inside = icmp("10.0.0.11", "198.51.100.7", 13, 0, 1, &[0; 12]);
    rig.drops_all("timestamp, outwards", &[(INSIDE, inside)], IcmpUnwanted);
}

/// Errors about one session are passed on up to a bound; others' are not affected, and a second later all is as before.
#[test]
fn errors_about_one_session_are_limited() {
    let mut rig = Rig::new(BROWSE);
    let mut errors = Vec::new();
    for host in [11, 12] {
        let sent = udp(&format!("10.0.0.{host}:{}", 33_000 + host), "198.51.100.7:53");
        let seen = udp(&format!("198.51.100.1:{}", 33_000 + host), "198.51.100.7:53").routed();
        rig.passes("a question", ((INSIDE, sent.clone()), (OUTSIDE, seen.clone())));
        let error = icmp_error("198.51.100.99", "198.51.100.1", 11, 0, 0, &seen, 28);
        let restored = icmp_error("198.51.100.99", &format!("10.0.0.{host}"), 11, 0, 0, &sent.routed(), 28).routed();
        errors.push(((OUTSIDE, error), (INSIDE, restored)));
    }
    rig.passes("the first, which finds the way", errors[0].clone());
    for _ in 1..300 {
        let (side, error) = &errors[0].0;
        rig.put(*side, error);
    }
    rig.settle();
    assert_eq!((rig.take().len(), rig.dropped(IcmpErrorsLimited)), (99, 200));
    rig.passes("about another session", errors[1].clone());
    rig.leap(units::Nanos::from_secs(1));
    rig.passes("a second later", errors[0].clone());
}

/// RFC 768, RFC 3022 section 4.3: a quoted datagram without checksum stays without.
#[test]
fn a_quoted_datagram_without_checksum_stays_so() {
    let mut rig = Rig::new(BROWSE);
    let sent = udp("10.0.0.11:33000", "198.51.100.7:53").no_checksum();
    let seen = udp("198.51.100.1:33000", "198.51.100.7:53").no_checksum().routed();
    rig.passes("a question", ((INSIDE, sent.clone()), (OUTSIDE, seen.clone())));
    let error = icmp_error("198.51.100.99", "198.51.100.1", 11, 0, 0, &seen, 100);
    let restored = icmp_error("198.51.100.99", "10.0.0.11", 11, 0, 0, &sent.routed(), 100).routed();
    rig.passes("time exceeded", ((OUTSIDE, error), (INSIDE, restored)));
}

/// An error about a datagram in fragments quotes the first, with the identification it left with; one that quotes another
/// fragment can be about anybody.
#[test]
fn errors_about_fragments_cross_when_they_show_whose_they_are() {
    let mut rig = Rig::new(BROWSE);
    for (inside, shown, server, router, kind, code) in [
        ("10.0.0.11", "198.51.100.1", "198.51.100.7", "198.51.100.99", 11, 1),
        ("2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::7", "2001:db8:51::99", 3, 1),
    ] {
        let write = |source: &str| udp(&end(source, 33_000), &end(server, 53)).data(&[7; 2_000]);
        rig.passes(
            "the way is known",
            ((INSIDE, ping(inside, server, 5_000)), (OUTSIDE, ping(shown, server, 5_000).routed())),
        );
        for piece in write(inside).pieces(1_024) {
            rig.put(INSIDE, &piece);
        }
        rig.settle();
        let out = rig.take();
        assert_eq!(out.len(), 2);
        let first = &out[0].1;
        let id = match kind {
            11 => u16::from_be_bytes([first[18], first[19]]),
            _ => u16::from_be_bytes([first[60], first[61]]),
        };
        let quote = |source: &str, piece: usize| write(source).id(id).pieces(1_024)[piece].clone().routed();
        let about = |piece| icmp_error(router, shown, kind, code, 0, &quote(shown, piece), 500);
        let restored = icmp_error(router, inside, kind, code, 0, &quote(inside, 0), 500).routed();
        rig.passes("about the first", ((OUTSIDE, about(0)), (INSIDE, restored)));
        rig.drops_all("about the second", &[(OUTSIDE, about(1))], Malformed::IcmpQuote);
    }
}
