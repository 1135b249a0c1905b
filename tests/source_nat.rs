//! Source NAT with behavior (RFC 4787, RFC 5382, RFC 5508, RFC 6888): mappings that hold for several far ends, who may
//! answer them, clients that ask for each other's outside addresses, limits, and ports that run out.

use std::collections::{BTreeMap, BTreeSet};

use millrace_tests::packet::{Packet, end, icmp_error, ping, pong, tcp, udp};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS, Talk};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use stage::DropReason::{FirewallDenied, NatPortsExhausted, NatSourceLimit, SourceAddressGone};

/// Clients browse behind a pool of its own, and whoever translation admits is allowed in.
const BROWSE: &str = r#"
[[firewall.rule]]
name = "browse"
action = "allow"
from = ["dmz"]
[[firewall.rule]]
name = "in"
action = "allow"
to = ["dmz"]
destination = ["198.51.100.20/30", "2001:db8:51::20/126"]
[[source_nat]]
name = "out"
from = ["dmz"]
to = ["wan"]
address = ["198.51.100.20", "2001:db8:51::20"]
"#;

fn with(keys: &str) -> String {
    format!("{BROWSE}{keys}\n")
}

fn eim(filtering: &str) -> String {
    with(&format!("mapping = \"endpoint-independent\"\nfiltering = \"{filtering}\""))
}

/// Source port (or identifier) of a packet that came out, and the last byte of its source address.
fn shown(bytes: &[u8]) -> (u8, u16) {
    let (address, at) = if bytes[12] == 0x08 { (29, 34) } else { (37, 54) };
    let echo = bytes[12] == 0x08 && bytes[23] == 1 || bytes[12] == 0x86 && bytes[20] == 58;
    let at = if echo { at + 4 } else { at };
    (bytes[address], u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Sends a packet and tells how it looks outside; `None` when nothing came out.
fn leaves(rig: &mut Rig, packet: &Packet) -> Option<(u8, u16)> {
    rig.put(INSIDE, packet);
    rig.settle();
    let out = rig.take();
    assert!(out.len() <= 1);
    out.first().map(|(_, bytes)| shown(bytes))
}

/// A mapping lives as long as one of its sessions, also where the table is full and what gives way for a new session is the
/// mapping's last (hole punching: one port, several peers). No other client gets its outside end meanwhile, and at the
/// end nothing is left of it, in the counts neither.
#[test]
fn a_mapping_outlives_what_a_full_table_gives_up() {
    for inbound in [false, true] {
        let policy = format!("{TWO_PORTS}{}", eim("endpoint-independent")).replace("= 4_096", "= 16");
        let mut rig = Rig::of(&policy);
        let settled: Vec<_> = (0..15)
            .map(|number| {
                let (client, shown) = (end("10.0.0.12", 6_000 + number), end("198.51.100.20", 6_000 + number));
                Talk::tcp((INSIDE, &client, "198.51.100.7:80"), (OUTSIDE, &shown, "198.51.100.7:80"))
            })
            .collect();
        settled.iter().for_each(|talk| talk.open(&mut rig));
        let ask = |client: &str, peer: u16| udp(client, &end("198.51.100.7", peer));
        let mut shown = BTreeSet::new();
        for peer in 1..5 {
            shown.insert(leaves(&mut rig, &ask("10.0.0.11:5000", peer)).unwrap());
            if inbound {
                let asks = udp(&end("198.51.100.8", peer), "198.51.100.20:5000");
                let gets = udp(&end("198.51.100.8", peer), "10.0.0.11:5000").routed();
                rig.passes("from outside", ((OUTSIDE, asks), (INSIDE, gets)));
            }
        }
        assert_eq!(shown, BTreeSet::from([(20, 5_000)]));
        let pool = |rig: &Rig| {
            let pool = rig.snapshot().pool_uses.iter().next().unwrap();
            (pool.sessions(), pool.mappings())
        };
        assert_eq!((rig.session_count(), pool(&rig)), (16, (16, 16)), "inbound {inbound}");
        assert!(rig.count(|c| &c.half_open_given_up) >= 3);
        // Another client takes the last place, and a port of its own.
        assert_ne!(
            leaves(&mut rig, &ask("10.0.0.13:5000", 1)).unwrap(),
            leaves(&mut rig, &ask("10.0.0.11:5000", 1)).unwrap()
        );
        rig.leap(units::Nanos::from_secs(8_000));
        assert_eq!((rig.session_count(), pool(&rig)), (0, (0, 0)));
    }
}

/// RFC 4787 REQ-1: one inside end has one outside end for all far ends; a second inside end never has the same.
#[test]
fn a_client_keeps_its_outside_port_for_every_far_end() {
    let mut rig = Rig::new(&eim("address-and-port-dependent"));
    for (one, two, far) in
        [("10.0.0.11", "10.0.0.12", "198.51.100.7"), ("2001:db8:10::11", "2001:db8:10::12", "2001:db8:51::7")]
    {
        let other = far.replace("::7", "::8").replace(".7", ".8");
        let mut seen = BTreeSet::new();
        for to in [end(far, 53), end(far, 54), end(&other, 53)] {
            assert_eq!(
                leaves(&mut rig, &udp(&end(one, 5_000), &to)),
                Some((if far.contains(':') { 0x20 } else { 20 }, 5_000))
            );
            seen.insert(leaves(&mut rig, &udp(&end(two, 5_000), &to)).unwrap().1);
        }
        assert_eq!(seen.len(), 1, "the second client keeps another");
        assert!(!seen.contains(&5_000));
        // RFC 5508 REQ-1: identifiers of pings likewise.
        let first = leaves(&mut rig, &ping(one, far, 77)).unwrap().1;
        let second = leaves(&mut rig, &ping(two, far, 77)).unwrap().1;
        assert_ne!(first, second);
        assert_eq!(leaves(&mut rig, &ping(one, &other, 77)).unwrap().1, first);
        assert_eq!(leaves(&mut rig, &ping(two, &other, 77)).unwrap().1, second);
        // TCP and UDP have ports of their own.
        assert_eq!(leaves(&mut rig, &tcp(&end(one, 5_000), &end(far, 80)).syn().seq(1)).unwrap().1, 5_000);
    }
}

/// RFC 4787 section 4.1: what lies between.
#[test]
fn a_client_keeps_its_outside_port_for_one_far_address() {
    let mut rig = Rig::new(&with("mapping = \"address-dependent\""));
    let talk = |client: &str, far: &str| udp(&format!("{client}:5000"), far);
    assert_eq!(leaves(&mut rig, &talk("10.0.0.11", "198.51.100.7:53")), Some((20, 5_000)));
    let (_, second) = leaves(&mut rig, &talk("10.0.0.12", "198.51.100.7:53")).unwrap();
    assert_ne!(second, 5_000);
    assert_eq!(leaves(&mut rig, &talk("10.0.0.12", "198.51.100.7:54")), Some((20, second)));
    assert_eq!(leaves(&mut rig, &talk("10.0.0.12", "198.51.100.8:53")), Some((20, 5_000)), "free towards another");
}

/// EVA-25: 10,000 packets to a live mapping from other hosts and ports, under the default filtering: none comes through.
#[test]
fn nobody_unasked_comes_through_a_mapping_by_default() {
    for keys in ["", "mapping = \"endpoint-independent\"", "mapping = \"address-dependent\""] {
        let mut rig = Rig::new(&with(keys));
        assert_eq!(leaves(&mut rig, &udp("10.0.0.11:5000", "198.51.100.7:53")), Some((20, 5_000)));
        let mut sent = 0;
        for host in 100..110 {
            for port in (1..=65_000).step_by(195) {
                rig.put(OUTSIDE, &udp(&format!("198.51.100.{host}:{port}"), "198.51.100.20:5000"));
                sent += 1;
            }
            rig.settle();
        }
        rig.put(OUTSIDE, &udp("198.51.100.7:54", "198.51.100.20:5000"));
        rig.settle();
        assert_eq!(rig.take(), [], "{keys}");
        assert_eq!(rig.dropped(FirewallDenied), sent + 1, "{keys}");
    }
}

/// RFC 4787 REQ-8, RFC 7857: who may come in under each filtering, and the answers of who did.
#[test]
fn filtering_says_who_else_may_come_in() {
    for (filtering, other_port, other_host) in
        [("endpoint-independent", true, true), ("address-dependent", true, false)]
    {
        for (client, shown, asked, stranger) in [
            ("10.0.0.11", "198.51.100.20", "198.51.100.7", "198.51.100.8"),
            ("2001:db8:10::11", "2001:db8:51::20", "2001:db8:51::7", "2001:db8:51::8"),
        ] {
            let mut rig = Rig::new(&eim(filtering));
            leaves(&mut rig, &udp(&end(client, 5_000), &end(asked, 53))).unwrap();
            for (from, passes) in [(end(asked, 54), other_port), (end(stranger, 53), other_host)] {
                let talk = Talk::udp((OUTSIDE, &from, &end(shown, 5_000)), (INSIDE, &from, &end(client, 5_000)));
                if passes {
                    rig.passes("a question from outside", talk.up(|p| p));
                    rig.passes("its answer", talk.down(|p| p));
                    rig.passes("the next", talk.up(|p| p));
                } else {
                    let ((_, question), _) = talk.up(|p| p);
                    rig.drops_all("a stranger", &[(OUTSIDE, question)], FirewallDenied);
                }
            }
            let other = udp(&end(stranger, 53), &end(shown, 5_001));
            rig.drops_all("a port that is no mapping", &[(OUTSIDE, other)], FirewallDenied);
        }
    }
}

/// A host that was asked may come in no longer than the conversation with it lives, also where a zone counts the sessions of
/// its sources.
#[test]
fn who_was_asked_may_come_in_as_long_as_the_conversation_lives() {
    for zone in ["", "[[zone]]\nname = \"dmz\"\nsessions_per_source = 100\n"] {
        let mut rig = Rig::new(&format!("{zone}{}", eim("address-dependent")));
        for far in ["198.51.100.7:53", "198.51.100.8:53"] {
            leaves(&mut rig, &udp("10.0.0.11:5000", far)).unwrap();
        }
        for _ in 0..4 {
            rig.wait(10);
            leaves(&mut rig, &udp("10.0.0.11:5000", "198.51.100.8:53")).unwrap();
        }
        assert_eq!(rig.session_count(), 1);
        let late = udp("198.51.100.7:54", "198.51.100.20:5000");
        rig.drops_all("its conversation is over", &[(OUTSIDE, late)], FirewallDenied);
        let talk = Talk::udp(
            (OUTSIDE, "198.51.100.8:54", "198.51.100.20:5000"),
            (INSIDE, "198.51.100.8:54", "10.0.0.11:5000"),
        );
        rig.passes("the other's is not", talk.up(|p| p));
    }
}

/// RFC 5382 REQ-3 and REQ-4: the same for TCP, handshake and all; and pings find the client by the identifier.
#[test]
fn connections_and_pings_come_in_as_well() {
    let mut rig = Rig::new(&eim("endpoint-independent"));
    leaves(&mut rig, &tcp("10.0.0.11:5000", "198.51.100.7:80").syn().seq(1)).unwrap();
    let talk = Talk::tcp(
        (OUTSIDE, "198.51.100.8:1234", "198.51.100.20:5000"),
        (INSIDE, "198.51.100.8:1234", "10.0.0.11:5000"),
    );
    talk.open(&mut rig);
    talk.chat(&mut rig);
    talk.close_after(&mut rig, 5);
    let (_, identifier) = leaves(&mut rig, &ping("10.0.0.11", "198.51.100.7", 9)).unwrap();
    let asks = ping("198.51.100.8", "198.51.100.20", identifier);
    rig.passes("a ping to the mapping", ((OUTSIDE, asks), (INSIDE, ping("198.51.100.8", "10.0.0.11", 9).routed())));
    let answers = pong("10.0.0.11", "198.51.100.8", 9);
    let seen = pong("198.51.100.20", "198.51.100.8", identifier).routed();
    rig.passes("its answer", ((INSIDE, answers), (OUTSIDE, seen)));
}

/// The firewall has the last word, and is asked with the address the sender wrote and the client's zone.
#[test]
fn the_firewall_is_asked_about_who_comes_in() {
    let closed =
        eim("endpoint-independent").replace("to = [\"dmz\"]\ndestination", "to = [\"appliance\"]\ndestination");
    let mut rig = Rig::new(&closed);
    leaves(&mut rig, &udp("10.0.0.11:5000", "198.51.100.7:53")).unwrap();
    let question = udp("198.51.100.8:53", "198.51.100.20:5000");
    rig.drops_all("a stranger", &[(OUTSIDE, question.clone())], FirewallDenied);
    // And again when the policy changes: an open conversation ends with the permission.
    let mut rig = Rig::new(&eim("endpoint-independent"));
    leaves(&mut rig, &udp("10.0.0.11:5000", "198.51.100.7:53")).unwrap();
    let inward = udp("198.51.100.8:53", "10.0.0.11:5000").routed();
    rig.passes("a stranger", ((OUTSIDE, question.clone()), (INSIDE, inward.clone())));
    rig.publish_more(&eim("endpoint-independent"));
    rig.passes("unchanged", ((OUTSIDE, question.clone()), (INSIDE, inward)));
    rig.publish_more(&closed);
    rig.drops_all("revoked", &[(OUTSIDE, question.clone())], FirewallDenied);
}

/// Who may begin a conversation is asked when it begins: a stricter filtering refuses new ones at once, and those there are
/// go on.
#[test]
fn a_stricter_filtering_is_for_new_conversations() {
    let mut rig = Rig::new(&eim("endpoint-independent"));
    leaves(&mut rig, &udp("10.0.0.11:5000", "198.51.100.7:53")).unwrap();
    let stranger = |host: &str| {
        let from = end(host, 53);
        Talk::udp((OUTSIDE, &from, "198.51.100.20:5000"), (INSIDE, &from, "10.0.0.11:5000"))
    };
    let known = stranger("198.51.100.8");
    rig.passes("a stranger", known.up(|p| p));
    rig.publish_more(&eim("address-and-port-dependent"));
    let ((_, question), _) = stranger("198.51.100.9").up(|p| p);
    rig.drops_all("another stranger", &[(OUTSIDE, question)], FirewallDenied);
    rig.passes("who was let in", known.up(|p| p));
    rig.passes("its answer", known.down(|p| p));
}

/// RFC 4787 REQ-9: a client that asks for another's outside end reaches it, and is seen at its own outside end.
#[test]
fn clients_reach_each_other_through_their_outside_addresses() {
    let mut rig = Rig::new(&eim("endpoint-independent"));
    for (one, two, outside, far) in [
        ("10.0.0.11", "10.0.0.12", "198.51.100.20", "198.51.100.7"),
        ("2001:db8:10::11", "2001:db8:10::12", "2001:db8:51::20", "2001:db8:51::7"),
    ] {
        leaves(&mut rig, &udp(&end(one, 5_001), &end(far, 53))).unwrap();
        leaves(&mut rig, &udp(&end(two, 5_002), &end(far, 53))).unwrap();
        let talk = Talk::udp(
            (INSIDE, &end(one, 5_001), &end(outside, 5_002)),
            (INSIDE, &end(outside, 5_001), &end(two, 5_002)),
        );
        rig.passes("a question", talk.up(|p| p));
        rig.passes("its answer", talk.down(|p| p));
        // The other host's error about it finds back (RFC 5508 REQ-7).
        let ((_, sent), (_, delivered)) = talk.up(|p| p.data(b"more"));
        rig.passes("more", ((INSIDE, sent.clone()), (INSIDE, delivered.clone())));
        let (kind, code) = if far.contains(':') { (1, 4) } else { (3, 3) };
        let error = icmp_error(two, outside, kind, code, 0, &delivered, 400);
        let heard = icmp_error(outside, one, kind, code, 0, &sent.routed(), 400).routed();
        rig.passes("port unreachable", ((INSIDE, error), (INSIDE, heard)));
    }
}

/// RFC 6888 REQ-4: one source cannot use up the pool; others go on, and so does it when it gives ports back.
#[test]
fn a_source_has_no_more_ports_than_it_may() {
    for mapping in ["endpoint-independent", "address-and-port-dependent"] {
        let mut rig = Rig::new(&with(&format!("mapping = \"{mapping}\"\nports_per_source = 3")));
        for port in 5_000..5_003 {
            leaves(&mut rig, &udp(&format!("10.0.0.11:{port}"), "198.51.100.7:53")).unwrap();
        }
        let fourth = udp("10.0.0.11:5003", "198.51.100.7:53");
        rig.drops_all("a fourth port", &[(INSIDE, fourth.clone())], NatSourceLimit);
        leaves(&mut rig, &udp("10.0.0.12:5003", "198.51.100.7:53")).expect("another source");
        let pool = rig.snapshot().pool_uses.iter().next().unwrap();
        assert_eq!((pool.sessions(), pool.mappings(), pool.limited(), pool.exhausted()), (4, 4, 1, 0));
        rig.wait(40);
        leaves(&mut rig, &fourth).expect("a minute later");
    }
}

/// RFC 6888 REQ-4 limits ports: conversations with several far ends from one port have one outside port between them, and
/// count as one.
#[test]
fn conversations_from_one_port_count_as_one() {
    for mapping in ["endpoint-independent", "address-dependent", "address-and-port-dependent"] {
        let mut rig = Rig::new(&with(&format!("mapping = \"{mapping}\"\nports_per_source = 2")));
        for far in 0..100 {
            let to = end(&format!("198.51.100.{}", 100 + far % 50), 53 + far / 50);
            assert_eq!(leaves(&mut rig, &udp("10.0.0.11:5000", &to)), Some((20, 5_000)), "{mapping}, {to}");
        }
        leaves(&mut rig, &udp("10.0.0.11:5001", "198.51.100.7:53")).unwrap();
        let third = udp("10.0.0.11:5002", "198.51.100.7:53");
        rig.drops_all("a third port", &[(INSIDE, third.clone())], NatSourceLimit);
        rig.wait(40);
        leaves(&mut rig, &third).expect("the ports were given back");
    }
}

/// STX-11: the ports of a narrow range run out; the first session that ends makes room for the next at once.
#[test]
fn the_first_port_that_comes_free_is_used_again() {
    for keys in ["mapping = \"endpoint-independent\"", ""] {
        let text = format!("{TWO_PORTS}{}", with(&format!("ports = \"2000-61999\"\n{keys}")));
        let mut rig = Rig::of(&text.replace("capacity = 4_096", "capacity = 70_000"));
        let server = "198.51.100.7:80";
        leaves(&mut rig, &ping("10.0.0.99", "198.51.100.7", 1)).unwrap();
        let ports: Vec<u16> = (2_000..62_000).collect();
        for chunk in ports.chunks(1_000) {
            for port in chunk {
                rig.put(INSIDE, &tcp(&format!("10.0.0.11:{port}"), server).syn().seq(1));
            }
            rig.settle();
            assert_eq!(rig.take().len(), chunk.len(), "{keys}");
        }
        let late = tcp("10.0.0.12:7000", server).syn().seq(1);
        rig.drops_all("one more", &[(INSIDE, late.clone())], NatPortsExhausted);
        assert_eq!(rig.snapshot().pool_uses.iter().next().unwrap().exhausted(), 1);
        // One of them is refused by its server and forgotten two seconds later.
        let gone = tcp(server, "198.51.100.20:31234").rst_ack(2).seq(0);
        rig.put(OUTSIDE, &gone);
        rig.settle();
        assert_eq!(rig.take().len(), 1, "{keys}");
        rig.wait(3);
        assert_eq!(leaves(&mut rig, &late), Some((20, 31_234)), "{keys}");
    }
}

/// STX-11 for the addresses that hide the clients of a `full-nat` service, which are counted and named like any other.
#[test]
fn the_first_port_of_a_full_nat_service_that_comes_free_is_used_again() {
    let service = "[firewall]\ndefault = \"allow\"\n[[virtual_service]]\nname = \"shop\"\naddress = \"198.51.100.10\"\n\
                   protocol = \"tcp\"\nports = [\"80\"]\nmode = \"full-nat\"\nsource_address = [\"10.0.0.200\"]\n\
                   [[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.21\"\nport = 8080\n";
    let mut rig = Rig::of(&format!("{TWO_PORTS}{service}").replace("capacity = 4_096", "capacity = 70_000"));
    let ask = |rig: &mut Rig, from: &str| {
        rig.put(OUTSIDE, &tcp(from, "198.51.100.10:80").syn().seq(1));
        rig.settle();
        rig.take().iter().map(|(_, bytes)| u16::from_be_bytes([bytes[34], bytes[35]])).next()
    };
    ask(&mut rig, "198.51.100.7:1024").unwrap();
    for ports in (1_025..=u16::MAX).collect::<Vec<_>>().chunks(1_000) {
        ports
            .iter()
            .for_each(|port| rig.put(OUTSIDE, &tcp(&end("198.51.100.7", *port), "198.51.100.10:80").syn().seq(1)));
        rig.settle();
        assert_eq!(rig.take().len(), ports.len());
    }
    assert_eq!(ask(&mut rig, "198.51.100.8:7000"), None);
    let counts = |rig: &Rig| {
        let pool = rig.snapshot().pool_uses.iter().next().expect("the service's addresses are a pool");
        (pool.name().to_owned(), pool.sessions(), pool.exhausted())
    };
    assert_eq!(counts(&rig), ("service shop".to_owned(), 64_512, 1));
    rig.put(INSIDE, &tcp("10.0.0.21:8080", "10.0.0.200:31234").rst_ack(2).seq(0));
    rig.settle();
    assert_eq!(rig.take().len(), 1);
    rig.wait(3);
    assert_eq!(ask(&mut rig, "198.51.100.8:7000"), Some(31_234));
    assert_eq!(counts(&rig).1, 64_512);
}

/// Hosts that connect from ports of one parity only, as some systems do, have the ports of the other parity too: 1,700 of
/// 2,000 are given without one refusal.
#[test]
fn clients_with_ports_of_one_parity_have_the_whole_pool() {
    for keys in ["mapping = \"endpoint-independent\"", ""] {
        let mut rig = Rig::new(&with(&format!("ports = \"2000-3999\"\n{keys}")));
        let server = "198.51.100.7:53";
        leaves(&mut rig, &udp("10.0.0.11:5001", server)).unwrap();
        let mut even = 0;
        for number in 1..1_700_u16 {
            let from = end(&format!("10.0.0.{}", 11 + number % 200), 5_001 + 2 * number);
            let shown = leaves(&mut rig, &udp(&from, server));
            let (_, port) =
                shown.unwrap_or_else(|| panic!("{keys}: {number} of 2,000 ports are used, and none is found"));
            even += u16::from(port.is_multiple_of(2));
        }
        assert!(even > 600, "{keys}: {even}");
    }
}

/// Ranges and prefixes of addresses; RFC 4787 REQ-2, paired: a client keeps its address.
#[test]
fn a_pool_of_ranges_uses_every_address_and_pairs_clients() {
    let text = with("mapping = \"endpoint-independent\"").replace(
        "address = [\"198.51.100.20\", \"2001:db8:51::20\"]",
        "address = [\"198.51.100.20/30\", \"198.51.100.40-198.51.100.42\"]",
    );
    let mut rig = Rig::new(&text);
    let mut used = BTreeSet::new();
    for host in 11..90 {
        let (address, _) = leaves(&mut rig, &udp(&format!("10.0.0.{host}:5000"), "198.51.100.7:53")).unwrap();
        for (port, far) in [(5_000, "198.51.100.8:53"), (5_001, "198.51.100.7:53"), (5_002, "198.51.100.9:9")] {
            assert_eq!(leaves(&mut rig, &udp(&format!("10.0.0.{host}:{port}"), far)).unwrap().0, address);
        }
        used.insert(address);
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [20, 21, 22, 23, 40, 41, 42]);
}

/// RFC 4787 REQ-2 pairs a client with an address; when the ports of that one are used up, the others of the pool serve.
#[test]
fn the_other_addresses_serve_when_a_clients_own_is_used_up() {
    for keys in ["mapping = \"endpoint-independent\"", ""] {
        let text = with(&format!("ports = \"2000-2999\"\n{keys}"))
            .replace("[\"198.51.100.20\", \"2001:db8:51::20\"]", "[\"198.51.100.20/30\", \"2001:db8:51::20/126\"]");
        let mut rig = Rig::new(&text);
        for (client, far) in [("10.0.0.11", "198.51.100.7:53"), ("2001:db8:10::11", "[2001:db8:51::7]:53")] {
            let (own, _) = leaves(&mut rig, &udp(&end(client, 2_000), far)).unwrap();
            for ports in (2_001..3_000).collect::<Vec<u16>>().chunks(100) {
                for &port in ports {
                    rig.put(INSIDE, &udp(&end(client, port), far));
                }
                rig.settle();
                assert!(rig.take().iter().all(|(_, bytes)| shown(bytes).0 == own), "paired, {keys}");
            }
            for port in 3_000..3_064 {
                let (other, _) = leaves(&mut rig, &udp(&end(client, port), far)).expect("the pool is not used up");
                assert_ne!(other, own, "{keys}");
            }
        }
    }
}

/// A port that was given back is used again only with an address that the rule still has.
#[test]
fn ports_given_back_on_an_address_the_rule_has_no_more_are_gone() {
    let text = |address: &str| {
        with("ports = \"5000-5003\"").replace("\"198.51.100.20\"", &format!("\"198.51.100.{address}\""))
    };
    let mut rig = Rig::new(&text("20"));
    let question = |port: u16| udp(&end("10.0.0.11", port), "198.51.100.7:53");
    (5_000..5_004).for_each(|port| assert_eq!(leaves(&mut rig, &question(port)), Some((20, port))));
    rig.publish_more(&text("21"));
    rig.wait(40);
    assert_eq!(rig.session_count(), 0);
    (5_000..5_004).for_each(|port| assert_eq!(leaves(&mut rig, &question(port)), Some((21, port))));
    rig.drops_all("a fifth", &[(INSIDE, question(5_004))], NatPortsExhausted);
}

/// RFC 4787 REQ-1 holds across policies: a client whose mapping the rule would not give any more gets another, which is its
/// own for every far end, while its old conversations go on with the old one.
#[test]
fn a_mapping_the_rule_would_not_give_again_is_replaced_by_another() {
    let text = |ports: &str| with(&format!("mapping = \"endpoint-independent\"\nports = \"{ports}\""));
    let mut rig = Rig::new(&text("5000-5007"));
    let old =
        Talk::udp((INSIDE, "10.0.0.11:5000", "198.51.100.7:53"), (OUTSIDE, "198.51.100.20:5000", "198.51.100.7:53"));
    rig.passes("before", old.up(|p| p));
    rig.publish_more(&text("5004-5007"));
    rig.passes("after", old.down(|p| p));
    let (_, other) = leaves(&mut rig, &udp("10.0.0.12:5004", "198.51.100.9:53")).unwrap();
    let mut own = BTreeSet::new();
    for far in 60..90 {
        own.insert(leaves(&mut rig, &udp("10.0.0.11:5000", &end(&format!("198.51.100.{far}"), 53))).unwrap());
    }
    assert_eq!(own.len(), 1, "one outside end for all");
    assert!(!own.contains(&(20, other)), "two clients share an outside end");
    rig.passes("the old one still", old.up(|p| p.data(b"more")));
    let pool = rig.snapshot().pool_uses.iter().next().unwrap();
    assert_eq!((pool.sessions(), pool.mappings()), (32, 3));
    rig.wait(400);
    let pool = rig.snapshot().pool_uses.iter().next().unwrap();
    assert_eq!((pool.sessions(), pool.mappings()), (0, 0), "all is given back");
}

/// Sessions behind an address that the policy takes away end with their next packet, and both ends are told: nobody answers
/// for that address any more.
#[test]
fn sessions_behind_an_address_that_is_taken_away_are_ended() {
    for keys in ["mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"", ""] {
        let text = |address: &str| with(keys).replace("\"198.51.100.20\"", &format!("\"198.51.100.{address}\""));
        let mut rig = Rig::new(&text("20"));
        let server = "198.51.100.7:80";
        let talks = [5_000, 5_001].map(|port| {
            let own = end("198.51.100.20", port);
            let talk = Talk::tcp((INSIDE, &end("10.0.0.11", port), server), (OUTSIDE, &own, server));
            talk.open(&mut rig);
            talk
        });
        rig.publish_more(&text("20\", \"198.51.100.22"));
        talks[0].chat(&mut rig);
        rig.publish_more(&text("22"));
        let resets = |talk: &Talk| {
            [
                talk.told_opener(|p| p.rst_ack(OPENER + 6).seq(ANSWERER + 6)),
                talk.told_answerer(|p| p.rst_ack(ANSWERER + 6).seq(OPENER + 6)),
            ]
        };
        let ((side, packet), _) = talks[0].up(|p| p.ack(ANSWERER + 6).seq(OPENER + 6).data(b"more"));
        rig.case("the client goes on", &[(side, packet)], &resets(&talks[0]), &[SourceAddressGone]);
        assert_eq!(rig.session_count(), 1, "{keys}");
    }
}

/// A port that a service answers on is not handed out on the same address.
#[test]
fn a_port_with_a_service_is_left_alone() {
    let service = "[[virtual_service]]\nname = \"s\"\naddress = \"198.51.100.20\"\nprotocol = \"udp\"\nports = [\"5000\"]\n\
                   [[virtual_service.backend]]\nname = \"b\"\naddress = \"10.0.0.50\"\n";
    for keys in ["mapping = \"endpoint-independent\"", ""] {
        let mut rig = Rig::new(&format!("{}{service}", with(keys)));
        let (_, port) = leaves(&mut rig, &udp("10.0.0.11:5000", "198.51.100.7:53")).unwrap();
        assert_ne!(port, 5_000, "{keys}");
    }
}

/// What one step of random traffic does.
#[derive(Clone, Debug)]
enum Step {
    Out { host: u8, port: u16, far: u8, far_port: u16 },
    In { far: u8, far_port: u16, port: u16 },
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (11..16_u8, 5_000..5_006_u16, 100..104_u8, 53..55_u16)
            .prop_map(|(host, port, far, far_port)| Step::Out { host, port, far, far_port }),
        4 => (100..104_u8, 53..55_u16, 5_000..5_016_u16).prop_map(|(far, far_port, port)| Step::In { far, far_port, port }),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..160)
}

const LAYOUTS: [Layout; 2] =
    [Layout { workers: 1, queues: 1, buffers: 4_096 }, Layout { workers: 3, queues: 1, buffers: 4_096 }];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// No two live sessions share an outside tuple towards one far end; where mappings are independent of the far end, no
    /// two clients share an outside end, and a client has one: on one worker and on three, through ports that run out,
    /// sessions that end and packets from outside.
    #[test]
    fn outside_ends_never_collide(mode in 0..3_usize, layout in 0..2_usize, steps in steps()) {
        let words = ["endpoint-independent", "address-dependent", "address-and-port-dependent"];
        let filter = if mode == 2 { 2 } else { mode };
        let keys = format!("mapping = \"{}\"\nfiltering = \"{}\"\nports = \"5000-5015\"", words[mode], words[filter]);
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{}", with(&keys)), LAYOUTS[layout]);
        for step in steps {
            let (side, packet): (Side, Packet) = match step {
                Step::Out { host, port, far, far_port } => {
                    (INSIDE, udp(&format!("10.0.0.{host}:{port}"), &format!("198.51.100.{far}:{far_port}")))
                }
                Step::In { far, far_port, port } => {
                    (OUTSIDE, udp(&format!("198.51.100.{far}:{far_port}"), &format!("198.51.100.20:{port}")))
                }
                Step::Wait => {
                    rig.wait(31);
                    continue;
                }
            };
            rig.put(side, &packet);
            rig.settle();
            rig.take();
            let sessions = rig.sessions();
            let mut towards = BTreeMap::new();
            let mut outside_of = BTreeMap::new();
            for session in &sessions {
                let inward = session.original.destination == "198.51.100.20".parse::<std::net::IpAddr>().unwrap();
                let (client, far, outside) = if inward {
                    ((session.reply.source, session.reply.source_port),
                     (session.original.source, session.original.source_port), session.original.destination_port)
                } else {
                    ((session.original.source, session.original.source_port),
                     (session.reply.source, session.reply.source_port), session.reply.destination_port)
                };
                prop_assert!(towards.insert((outside, far), client).is_none(), "one tuple, two sessions");
                if mode == 0 {
                    prop_assert_eq!(*outside_of.entry(outside).or_insert(client), client, "one outside end, two clients");
                    prop_assert_eq!(*towards.entry((0, client)).or_insert((client.0, outside)), (client.0, outside), "one client, two outside ends");
                }
            }
        }
    }
}
