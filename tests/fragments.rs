//! Fragments at the whole pipeline: datagrams are judged, balanced and translated whole, and leave in the fragments they came
//! in. What hides in fragments is in `fragment_attacks`, what is cut on its way out in `cutting`.

use std::collections::HashSet;

use millrace_tests::fragmented::{FRAGMENTS, at, knowing, payload, rig, routed, segment, together};
use millrace_tests::packet::{Packet, end, icmp, tcp, udp};
use millrace_tests::{INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, OUTSIDE_KERNEL};
use stage::DropReason::{FirewallDenied, HopLimitExceeded};

const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SERVER: &str = "10.0.0.11:53";
const SERVER6: &str = "[2001:db8:10::11]:53";
const BOTH: [(&str, &str); 2] = [(CLIENT, SERVER), (CLIENT6, SERVER6)];

#[test]
fn a_datagram_passes_as_it_came_in_whatever_order() {
    let mut rig = rig();
    for (client, server) in BOTH {
        let datagram = udp(client, server).data(&payload(4_000));
        let pieces = datagram.pieces(1_440);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let came: Vec<_> = order.iter().map(|&number| (OUTSIDE, pieces[number].clone())).collect();
            rig.case("in fragments", &came, &routed(INSIDE, &pieces), &[]);
        }
        let answer = udp(server, client).data(&payload(3_000)).pieces(1_024);
        rig.put(INSIDE, &answer[0]);
        rig.settle();
        rig.put(INSIDE, &answer[1]);
        rig.settle();
        assert!(rig.take().is_empty(), "until the last has come");
        assert_eq!(rig.count(|counters| &counters.held), 2);
        let shown = "the answer of the session; nothing is translated towards who asked";
        rig.case(shown, &at(INSIDE, &answer[2..]), &routed(OUTSIDE, &answer), &[]);
    }
    let sessions = rig.sessions();
    let asked: Vec<_> = sessions.iter().filter(|session| session.original.source_port == 40_000).collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|session| session.packets == 4), "datagrams, not fragments: {asked:?}");
    assert!(asked.iter().any(|session| session.bytes == 3 * (4_008 + 3 * 20) + 3_008 + 3 * 20), "{asked:?}");
}

/// The firewall judges by the ports of the first fragment; the others never pass alone.
#[test]
fn the_firewall_judges_the_whole_datagram() {
    let mut rig = rig();
    for (client, server) in [(CLIENT, "10.0.0.11:54"), (CLIENT6, "[2001:db8:10::11]:54")] {
        let pieces = udp(client, server).data(&payload(4_000)).pieces(1_440);
        rig.case("denied", &at(OUTSIDE, &pieces), &[], &[FirewallDenied; 3]);
    }
    for (client, server) in BOTH {
        let pieces = udp(client, server).data(&payload(4_000)).hops(1).pieces(1_440);
        for piece in &pieces {
            rig.put(OUTSIDE, piece);
        }
        rig.settle();
        assert_eq!(rig.take().len(), 1, "its sender is told once");
    }
    assert_eq!(rig.dropped(HopLimitExceeded), 6);
}

/// A TCP segment in fragments is followed with all its payload.
#[test]
fn tcp_in_fragments_is_followed_with_all_its_payload() {
    let mut rig = rig();
    for (client, server) in [(CLIENT, "10.0.0.11:80"), (CLIENT6, "[2001:db8:10::11]:80")] {
        let there = |packet: Packet| ((OUTSIDE, packet.clone()), (INSIDE, packet.routed()));
        let back = |packet: Packet| ((INSIDE, packet.clone()), (OUTSIDE, packet.routed()));
        rig.passes("SYN", there(tcp(client, server).syn().seq(1_000)));
        rig.passes("SYN-ACK", back(tcp(server, client).syn_ack(1_001).seq(5_000)));
        rig.passes("ACK", there(tcp(client, server).ack(5_001).seq(1_001)));
        let request = tcp(client, server).ack(5_001).seq(1_001).data(&payload(3_000));
        let pieces = request.pieces(1_440);
        rig.case("3,000 bytes", &at(OUTSIDE, &pieces), &routed(INSIDE, &pieces), &[]);
        rig.passes("acknowledged", back(tcp(server, client).ack(4_001).seq(5_001)));
        rig.passes("what follows them", there(tcp(client, server).ack(5_001).seq(4_001).data(b"more")));
    }
}

/// Two clients with one identification behind one address: their datagrams leave with identifications of their own (RFC
/// 6864), the transport checksum right, and answers in fragments come back.
#[test]
fn hidden_datagrams_get_identifications_of_their_own() {
    let mut rig = rig();
    for (one, two, shown, server) in [
        ("10.0.0.11:3000", "10.0.0.12:2000", "198.51.100.1", "198.51.100.7:53"),
        ("[2001:db8:10::11]:3000", "[2001:db8:10::12]:2000", "2001:db8:51::1", "[2001:db8:51::7]:53"),
    ] {
        let mut ids = HashSet::new();
        for (client, port) in [(one, 3_000), (two, 2_000), (one, 3_000)] {
            for piece in udp(client, server).data(&payload(4_000)).pieces(1_440) {
                rig.put(INSIDE, &piece);
            }
            rig.settle();
            let (id, whole) = together(&rig.take());
            assert_eq!(whole, segment(&udp(&end(shown, port), server).data(&payload(4_000))), "{client}");
            assert!(ids.insert(id), "{id} twice");
        }
        let answer = udp(server, &end(shown, 2_000)).data(&payload(3_000)).pieces(1_440);
        for piece in answer {
            rig.put(OUTSIDE, &piece);
        }
        rig.settle();
        let (_, whole) = together(&rig.take());
        assert_eq!(whole, segment(&udp(server, two).data(&payload(3_000))));
    }
}

#[test]
fn a_service_is_balanced_in_fragments_both_ways() {
    let mut rig = rig();
    for (client, service, backend) in
        [(CLIENT, "198.51.100.10:53", "10.0.0.11:5353"), (CLIENT6, "[2001:db8:51::10]:53", "[2001:db8:10::11]:5353")]
    {
        for piece in udp(client, service).data(&payload(9_000)).pieces(1_440) {
            rig.put(OUTSIDE, &piece);
        }
        rig.settle();
        let (_, whole) = together(&rig.take());
        assert_eq!(whole, segment(&udp(client, backend).data(&payload(9_000))));
        for piece in udp(backend, client).data(&payload(4_096)).pieces(1_440).iter().rev() {
            rig.put(INSIDE, piece);
        }
        rig.settle();
        let (_, whole) = together(&rig.take());
        assert_eq!(whole, segment(&udp(service, client).data(&payload(4_096))));
    }
}

/// Pings of 4,000 bytes: through the appliance, through source NAT, to a virtual address, to the kernel's own.
#[test]
fn long_pings_are_answered() {
    let data = payload(4_000);
    let echo = |kind: u8, source: &str, destination: &str| icmp(source, destination, kind, 0, 0x1234_0001, &data);
    let mut rig = rig();
    for (request, reply, client, server, shown, service) in [
        (8, 0, "198.51.100.7", "10.0.0.11", "198.51.100.1", "198.51.100.10"),
        (128, 129, "2001:db8:51::7", "2001:db8:10::11", "2001:db8:51::1", "2001:db8:51::10"),
    ] {
        let there = echo(request, client, server).pieces(1_440);
        rig.case("there", &at(OUTSIDE, &there), &routed(INSIDE, &there), &[]);
        let back = echo(reply, server, client).pieces(1_440);
        rig.case("and back", &at(INSIDE, &back), &routed(OUTSIDE, &back), &[]);
        let other = |source| icmp(source, client, request, 0, 0x5678_0001, &data);
        for piece in other(server).pieces(1_440) {
            rig.put(INSIDE, &piece);
        }
        rig.settle();
        let came = rig.take();
        assert!(together(&came).1 == segment(&other(shown)), "hidden");
        assert!(
            came.iter()
                .all(|(side, frame)| *side == OUTSIDE && frame[14..54] != rig.inward(INSIDE, &other(server))[14..54])
        );
        for piece in echo(request, client, service).pieces(1_440) {
            rig.put(OUTSIDE, &piece);
        }
        rig.settle();
        let came = rig.take();
        assert!(came.iter().all(|(side, _)| *side == OUTSIDE), "answered by the appliance");
        let (_, whole) = together(&came);
        assert_eq!(whole, segment(&echo(reply, service, client)));
    }
}

/// For the appliance itself: the kernel gets what was judged, fragment by fragment, and what it sends in fragments opens a
/// session like anything else it sends.
#[test]
fn the_kernel_gets_and_sends_fragments() {
    let mut rig = knowing(
        &FRAGMENTS.replace(
            "[[firewall.rule]]\nname = \"web\"",
            "to = [\"appliance\", \"dmz\"]\n[[firewall.rule]]\nname = \"web\"",
        ),
        Layout::default(),
    );
    for (client, own) in [(CLIENT, "198.51.100.1:53"), (CLIENT6, "[2001:db8:51::1]:53")] {
        let question = udp(client, own).data(&payload(4_000)).pieces(1_440);
        rig.case("for the kernel", &at(OUTSIDE, &question), &at(OUTSIDE_KERNEL, &question), &[]);
        let answer = udp(own, client).data(&payload(4_000)).pieces(1_440);
        rig.case("of the kernel", &at(OUTSIDE_KERNEL, &answer), &at(OUTSIDE, &answer), &[]);
        let denied = udp(client, &own.replace(":53", ":54")).data(&payload(4_000)).pieces(1_440);
        rig.case("denied", &at(OUTSIDE, &denied), &[], &[FirewallDenied; 3]);
    }
    let asks = udp("10.0.0.1:3000", "10.0.0.11:53").data(&payload(2_000)).pieces(1_440);
    rig.case("the kernel asks", &at(INSIDE_KERNEL, &asks), &at(INSIDE, &asks), &[]);
    let answer = udp("10.0.0.11:53", "10.0.0.1:3000").data(&payload(2_000)).pieces(1_440);
    rig.case("and hears the answer", &at(INSIDE, &answer), &at(INSIDE_KERNEL, &answer), &[]);
}

/// Two workers over one queue each: fragments reach any of them, in any order, and the sessions are where they belong.
#[test]
fn two_workers_do_what_one_does() {
    let mut outcomes = Vec::new();
    for layout in [
        Layout::default(),
        Layout { workers: 2, queues: 1, ..Layout::default() },
        Layout { workers: 2, queues: 2, ..Layout::default() },
    ] {
        let mut rig = knowing(FRAGMENTS, layout);
        let mut outcome = Vec::new();
        for number in 0..40_u16 {
            for (client, server, shown) in [
                (format!("198.51.100.7:{}", 1_000 + number), "198.51.100.10:53", "10.0.0.11:5353"),
                (format!("[2001:db8:51::7]:{}", 1_000 + number), "[2001:db8:51::10]:53", "[2001:db8:10::11]:5353"),
            ] {
                for piece in udp(&client, server).data(&payload(4_000)).id(number).pieces(1_440) {
                    rig.put(OUTSIDE, &piece);
                }
                rig.settle();
                let (_, whole) = together(&rig.take());
                assert_eq!(whole, segment(&udp(&client, shown).data(&payload(4_000))));
                rig.passes(
                    "whole, of the same session",
                    ((OUTSIDE, udp(&client, server)), (INSIDE, udp(&client, shown).routed())),
                );
                outcome.push(whole);
            }
        }
        let sessions = rig.sessions();
        let asked = sessions.iter().filter(|session| session.original.destination_port == 53);
        assert!(asked.clone().count() == 80 && asked.clone().all(|session| session.packets == 2));
        outcomes.push(outcome);
    }
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
}

/// A service behind a tunnel: each fragment is wrapped as it came, all for the backend of the first.
#[test]
fn fragments_go_into_tunnels_one_by_one() {
    let service = |name: &str, address: &str, backend: &str| {
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"udp\"\nports = [\"99\"]\nmode = \"ipip\"\n\
             [[virtual_service.backend]]\nname = \"{name}\"\naddress = \"{backend}\"\n"
        )
    };
    let text = "[firewall]\ndefault = \"allow\"\n".to_owned()
        + &service("wrapped", "198.51.100.30", "10.0.0.11")
        + &service("wrapped6", "2001:db8:51::30", "2001:db8:10::11");
    let mut rig = knowing(&text, Layout::default());
    for (client, asked, outer) in [(CLIENT, "198.51.100.30:99", 20), (CLIENT6, "[2001:db8:51::30]:99", 40)] {
        let pieces = udp(client, asked).data(&payload(4_000)).pieces(1_400);
        for piece in pieces.iter().rev() {
            rig.put(OUTSIDE, piece);
        }
        rig.settle();
        let came = rig.take();
        let inner: Vec<_> = came.iter().map(|(_, frame)| frame[14 + outer..].to_vec()).collect();
        let expected: Vec<_> = pieces.iter().map(|piece| piece.clone().routed().bytes_of_ip()).collect();
        assert_eq!(inner, expected);
        assert!(came.iter().all(|(side, frame)| *side == INSIDE && frame[..12] == came[0].1[..12]));
    }
}
