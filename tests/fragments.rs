//! Fragments at the whole pipeline (group B of the catalogue of cases): datagrams are judged, balanced and translated whole,
//! leave in the fragments they came in, and nothing of an unsound one comes out.

use std::collections::{BTreeMap, HashSet};

use millrace_tests::packet::{Packet, end, host, icmp, ip, ping, pong, tcp, udp};
use millrace_tests::{INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
use stage::DropReason::{
    FirewallDenied, FragmentDuplicate, FragmentOverlap, FragmentTimeout, FragmentsFull, FragmentsOfSource,
    FragmentsTooMany, HopLimitExceeded, NeighborDiscoveryInvalid, PacketTooBig,
};
use units::Nanos;
use wire::Malformed;

const POLICY: &str = r#"
[fragments]
capacity = 512
per_datagram = 16

[[firewall.rule]]
name = "questions"
action = "allow"
from = ["wan"]
protocol = "udp"
destination_port = ["53"]
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
protocol = "tcp"
destination_port = ["80"]
[[firewall.rule]]
name = "ping"
action = "allow"
protocol = "icmp"
[[firewall.rule]]
name = "out"
action = "allow"
from = ["dmz"]
[[source_nat]]
name = "hide"
from = ["dmz"]
to = ["wan"]
source = ["10.0.0.0/24", "2001:db8:10::/64"]
address = ["198.51.100.1", "2001:db8:51::1"]
[[virtual_service]]
name = "dns"
address = "198.51.100.10"
protocol = "udp"
ports = ["53"]
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 5353
[[virtual_service]]
name = "dns6"
address = "2001:db8:51::10"
protocol = "udp"
ports = ["53"]
[[virtual_service.backend]]
name = "a6"
address = "2001:db8:10::11"
port = 5353
"#;

const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SERVER: &str = "10.0.0.11:53";
const SERVER6: &str = "[2001:db8:10::11]:53";
const BOTH: [(&str, &str); 2] = [(CLIENT, SERVER), (CLIENT6, SERVER6)];

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 13 % 251).expect("below 251")).collect()
}

/// A rig that knows every station's MAC, so that what should pass does at once.
fn rig_of(text: &str, layout: Layout) -> Rig {
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{text}"), layout);
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        rig.put(OUTSIDE, &ping(client, server, 9));
        rig.settle();
        rig.put(INSIDE, &pong(server, client, 9));
        rig.settle();
        assert_eq!(rig.take().len(), 2);
    }
    rig
}

fn rig() -> Rig {
    rig_of(POLICY, Layout::default())
}

fn at(side: Side, packets: &[Packet]) -> Vec<(Side, Packet)> {
    packets.iter().map(|packet| (side, packet.clone())).collect()
}

fn routed(side: Side, packets: &[Packet]) -> Vec<(Side, Packet)> {
    packets.iter().map(|packet| (side, packet.clone().routed())).collect()
}

/// The IP identification of a frame, its fragment offset in bytes, and what it carries.
fn parts(frame: &[u8]) -> (u32, usize, Vec<u8>) {
    if frame[12] == 0x08 {
        let header = usize::from(frame[14] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let offset = usize::from(u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff) * 8;
        (u32::from(u16::from_be_bytes([frame[18], frame[19]])), offset, frame[14 + header..14 + total].to_vec())
    } else {
        let id = u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]]);
        let offset = usize::from(u16::from_be_bytes([frame[56], frame[57]]) & 0xfff8);
        (id, offset, frame[62..].to_vec())
    }
}

/// Puts what came out together again; all of it must be of one datagram.
fn together(came: &[(Side, Vec<u8>)]) -> (u32, Vec<u8>) {
    let mut pieces: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut ids = HashSet::new();
    for (_, frame) in came {
        let (id, offset, bytes) = parts(frame);
        ids.insert(id);
        assert!(pieces.insert(offset, bytes).is_none(), "one piece at {offset}");
    }
    assert_eq!(ids.len(), 1, "one identification: {ids:?}");
    let mut whole = Vec::new();
    for (offset, bytes) in pieces {
        assert_eq!(offset, whole.len(), "no hole");
        whole.extend(bytes);
    }
    (ids.into_iter().next().expect("one"), whole)
}

/// What a packet carries, checksum and all.
fn segment(packet: &Packet) -> Vec<u8> {
    let bytes = packet.bytes_of_ip();
    bytes[if bytes[0] >> 4 == 4 { 20 } else { 40 }..].to_vec()
}

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

/// A device that puts fragments together brings pings longer than its link; the answers leave in pieces that fit.
#[test]
fn a_long_ping_put_together_on_the_way_is_answered_in_pieces() {
    let wide = TWO_PORTS.replace("device = \"net_ring1\"\n", "device = \"net_ring1\"\nmtu = 9600\n");
    let mut rig = Rig::of(&format!("{wide}{POLICY}"));
    let (client, service, data) = ("198.51.100.7", "198.51.100.10", payload(4_000));
    rig.put(OUTSIDE, &icmp(client, service, 8, 0, 0x1234_0001, &data));
    rig.settle();
    let came = rig.take();
    let sizes: Vec<_> = came.iter().map(|(side, frame)| (*side, frame.len())).collect();
    assert_eq!(sizes, [(OUTSIDE, 1_514), (OUTSIDE, 1_514), (OUTSIDE, 1_082)]);
    assert_eq!(together(&came).1, segment(&icmp(service, client, 0, 0, 0x1234_0001, &data)));
}

/// For the appliance itself: the kernel gets what was judged, fragment by fragment, and what it sends in fragments opens a
/// session like anything else it sends.
#[test]
fn the_kernel_gets_and_sends_fragments() {
    let mut rig = rig_of(
        &POLICY.replace(
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

/// EVA-03: every shape of overlap, both families, both orders. RFC 5722: nothing of the datagram, nor what comes later.
#[test]
fn overlapping_fragments_condemn_their_datagram() {
    type Piece = (u16, usize);
    let shapes: [(&str, Piece, Piece); 6] = [
        ("start", (16, 16), (8, 16)),
        ("end", (16, 16), (24, 16)),
        ("inside", (16, 32), (24, 8)),
        ("enclosing", (24, 8), (16, 32)),
        ("beside a hole", (32, 16), (40, 16)),
        ("over several holes", (16, 8), (8, 64)),
    ];
    let mut rig = rig();
    for ((client, server), id) in BOTH.into_iter().zip(7_000..) {
        let first = &udp(client, server).id(id).data(&payload(1_000)).pieces(8)[0];
        let piece = |(offset, len): Piece, more| {
            let (source, destination) =
                (client.parse::<std::net::SocketAddr>(), server.parse::<std::net::SocketAddr>());
            let (source, destination) = (source.unwrap().ip().to_string(), destination.unwrap().ip().to_string());
            ip(&source, &destination, 17, &payload(len)).id(id).fragment(offset, more)
        };
        for (sentence, one, other) in shapes {
            for (one, other) in [(one, other), (other, one)] {
                let packets = [first.clone(), piece(one, true), piece(other, true)];
                let later = [piece((8, 8), true), piece((80, 928), false)];
                let packets: Vec<_> = packets.into_iter().chain(later).map(|packet| (OUTSIDE, packet)).collect();
                rig.drops_all(sentence, &packets, FragmentOverlap);
                rig.leap(Nanos::from_secs(6));
            }
        }
    }
    assert_eq!(rig.drops().len(), 1, "{:?}", rig.drops());
}

/// EVA-01, EVA-02, EVA-04: what hides a header or lies about lengths is dropped at once, alone or with a harmless first.
#[test]
fn fragments_that_hide_something_are_dropped() {
    let mut rig = rig();
    for (client, server, fault) in [
        ("198.51.100.7", "10.0.0.11", Malformed::FragmentTiny),
        ("2001:db8:51::7", "2001:db8:10::11", Malformed::Ipv6HeaderChain),
    ] {
        for len in [8, 16] {
            let tiny = ip(client, server, 6, &vec![0; len]).fragment(0, true);
            rig.drops_all("a tiny first", &[(OUTSIDE, tiny)], fault);
        }
        let odd = ip(client, server, 6, &[0; 12]).fragment(0, true);
        rig.drops_all("and not even whole", &[(OUTSIDE, odd)], Malformed::FragmentLength);
        let beyond = ip(client, server, 17, &[0; 64]).fragment(65_528, false);
        rig.drops_all("beyond 65,535 bytes", &[(OUTSIDE, beyond)], Malformed::FragmentLength);
    }
    for (client, server) in [(CLIENT, "10.0.0.11:80"), (CLIENT6, "[2001:db8:10::11]:80")] {
        let harmless = |id| tcp(client, server).syn().data(&payload(100)).id(id).pieces(40).remove(0);
        let evil = |id| ip(host(client), host(server), 6, &[0; 16]).id(id).fragment(8, false);
        for number in 0..50 {
            let [alone, before, after] = [0, 1_000, 2_000].map(|base| evil(base + number));
            let firsts = [1_000, 2_000].map(|base| harmless(base + number));
            let dropped = rig.dropped(Malformed::FragmentTiny);
            for packet in [&alone, &before, &firsts[0], &firsts[1], &after] {
                rig.put(OUTSIDE, packet);
            }
            rig.settle();
            assert_eq!(rig.dropped(Malformed::FragmentTiny), dropped + 3, "RFC 3128: 300 in all, in both families");
            assert!(rig.take().is_empty());
        }
    }
    rig.leap(Nanos::from_secs(6));
    assert_eq!(rig.dropped(FragmentTimeout), 200, "the harmless ones");
}

/// EVA-05: a thousand datagrams, one fragment of each ten times.
#[test]
fn duplicates_neither_complete_nor_spoil_a_datagram() {
    let mut rig = rig();
    for number in 0..500 {
        for (client, server) in BOTH {
            let pieces = udp(client, server).data(&payload(48)).id(number).pieces(24);
            let mut packets = vec![pieces[1].clone(); 10];
            packets.extend([pieces[0].clone(), pieces[2].clone()]);
            rig.case("completes", &at(OUTSIDE, &packets), &routed(INSIDE, &pieces), &[FragmentDuplicate; 9]);
        }
    }
    let sessions = rig.sessions();
    let asked = sessions.iter().filter(|session| session.original.source_port == 40_000);
    assert!(asked.map(|session| session.packets).eq([500; 2]));
}

/// EVA-08, RFC 6946: an atomic fragment passes alone, beside a queued datagram with its identification.
#[test]
fn an_atomic_fragment_is_handled_alone() {
    let mut rig = rig();
    for number in 0..100 {
        let pieces = udp(CLIENT6, SERVER6).data(&payload(48)).id(number).pieces(24);
        rig.case("two of three wait", &at(OUTSIDE, &pieces[..2]), &[], &[]);
        let atomic = udp(CLIENT6, SERVER6).id(number).fragment(0, false);
        rig.passes("the atomic one", ((OUTSIDE, atomic.clone()), (INSIDE, atomic.routed())));
        rig.case("the third", &at(OUTSIDE, &pieces[2..]), &routed(INSIDE, &pieces), &[]);
    }
}

/// EVA-09, RFC 7112: the transport header is not in the first fragment.
#[test]
fn a_header_chain_beyond_the_first_fragment_is_dropped() {
    let mut rig = rig();
    let chain = [17, 1, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let first = ip("2001:db8:51::7", "2001:db8:10::11", 60, &chain).fragment(0, true);
    rig.drops_all("options alone", &[(OUTSIDE, first)], Malformed::Ipv6HeaderChain);
    let last = ip("2001:db8:51::7", "2001:db8:10::11", 60, &segment(&udp(CLIENT6, SERVER6))).fragment(16, false);
    rig.case("and the rest waits in vain", &[(OUTSIDE, last)], &[], &[]);
    rig.leap(Nanos::from_secs(6));
    assert_eq!(rig.dropped(FragmentTimeout), 1);
}

/// The sum over all fragments decides, and lengths that contradict each other.
#[test]
fn an_unsound_datagram_is_dropped_whole() {
    let mut rig = rig();
    for (client, server) in BOTH {
        let datagram = udp(client, server).data(&payload(3_000));
        let wrong = datagram.clone().wrong_checksum(0x0400).pieces(1_440);
        rig.drops_all("a wrong checksum", &at(OUTSIDE, &wrong), Malformed::UdpChecksum);
        let short = datagram.clone().udp_length(3_007).id(1).pieces(1_440);
        rig.drops_all("a length that is not its own", &at(OUTSIDE, &short), Malformed::UdpLength);
        let web = server.replace(":53", ":80");
        let tcp = tcp(client, &web).syn().data(&payload(3_000)).wrong_checksum(1).id(2).pieces(1_440);
        rig.drops_all("TCP", &at(OUTSIDE, &tcp), Malformed::TcpChecksum);
    }
    let ping = icmp("198.51.100.7", "10.0.0.11", 8, 0, 1, &payload(3_000)).wrong_checksum(1).pieces(1_440);
    rig.drops_all("ICMP", &at(OUTSIDE, &ping), Malformed::IcmpChecksum);
    let none = udp(CLIENT, SERVER).data(&payload(3_000)).no_checksum().id(3).pieces(1_440);
    rig.case("no checksum, in IPv4", &at(OUTSIDE, &none), &routed(INSIDE, &none), &[]);
    // EVA-04: 60 bytes of header and 65,488 of payload are more than a packet.
    let far = ip("198.51.100.7", "10.0.0.11", 17, &[0; 1_000]).id(4);
    let last = far.clone().fragment(64_480, false);
    rig.case("an end near 65,535", &[(OUTSIDE, last)], &[], &[]);
    let many = udp(CLIENT, SERVER).data(&payload(1_000)).id(5).pieces(56);
    rig.case("17 fragments", &at(OUTSIDE, &many[..17]), &[], &[FragmentsTooMany; 17]);
    rig.leap(Nanos::from_secs(6));
    assert_eq!(rig.dropped(FragmentTimeout), 1);
}

/// RFC 6980: neighbor discovery in fragments is ignored.
#[test]
fn neighbor_discovery_in_fragments_is_ignored() {
    let mut rig = rig();
    let mut data = "2001:db8:51::1".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    data.extend([1, 1, 2, 0, 0, 0, 0, 9]);
    let question = icmp("2001:db8:51::7", "2001:db8:51::1", 135, 0, 0, &data).hops(255).pieces(24);
    rig.drops_all("the first", &at(OUTSIDE, &question[..1]), NeighborDiscoveryInvalid);
    rig.case("the rest", &at(OUTSIDE, &question[1..]), &[], &[]);
    rig.leap(Nanos::from_secs(6));
}

/// STX-13: first fragments without tails. The table keeps its bound, the oldest give way, one sender displaces only itself,
/// and whole packets and whole datagrams of others pass all the while.
#[test]
fn a_flood_of_first_fragments_costs_nobody_else() {
    let mut rig = rig_of(POLICY, Layout { buffers: 2_048, ..Layout::default() });
    let idle = rig.buffers_in_use();
    let mut flood = 0_u64;
    for round in 0..200_u32 {
        for number in 0..64 {
            let source = format!("203.0.{}.{}:5", round % 200, 1 + number);
            rig.put(OUTSIDE, &udp(&source, SERVER).data(&payload(200)).pieces(64)[0]);
            flood += 1;
        }
        let pieces = udp(CLIENT, SERVER).data(&payload(3_000)).id(u16::try_from(round).unwrap()).pieces(1_440);
        for piece in &pieces {
            rig.put(OUTSIDE, piece);
        }
        rig.put(OUTSIDE, &udp(CLIENT, SERVER));
        rig.settle();
        assert_eq!(rig.take().len(), 4, "round {round}");
        assert!(rig.buffers_in_use() <= idle + 512);
    }
    // The last datagram that passed has left three places.
    assert_eq!(rig.count(|counters| &counters.held), 509);
    assert_eq!(rig.dropped(FragmentsFull), flood - 509);
    for number in 0..1_000 {
        rig.put(OUTSIDE, &udp("203.0.113.9:5", SERVER).data(&payload(200)).id(number).pieces(64)[0]);
        if number % 64 == 0 {
            rig.settle();
        }
    }
    rig.settle();
    assert_eq!(rig.dropped(FragmentsOfSource), 1_000 - 128, "in single pieces a quarter is one sender's");
    rig.leap(Nanos::from_secs(6));
    for _ in 0..10 {
        rig.settle();
    }
    assert_eq!(rig.count(|counters| &counters.held), 0);
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
        let mut rig = rig_of(POLICY, layout);
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

/// A smaller link inside.
const NARROW: (&str, &str) = ("device = \"net_ring1\"\n", "device = \"net_ring1\"\nmtu = 1280\n");

fn narrow() -> Rig {
    let text = format!("{TWO_PORTS}{POLICY}").replace(NARROW.0, NARROW.1);
    let mut rig = Rig::of(&text);
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        rig.put(OUTSIDE, &ping(client, server, 9));
        rig.settle();
        rig.put(INSIDE, &pong(server, client, 9));
        rig.settle();
    }
    rig.take();
    rig
}

/// RFC 791, RFC 1191, RFC 8201: what is larger than the next link is cut where it may be, and else its sender is told.
#[test]
fn what_is_too_large_for_the_next_link_is_cut_or_refused() {
    let mut rig = narrow();
    let large = udp(CLIENT, SERVER).data(&payload(1_400));
    rig.put(OUTSIDE, &large);
    rig.settle();
    let came = rig.take();
    assert_eq!(came.len(), 2);
    assert!(came.iter().all(|(side, frame)| *side == INSIDE && frame.len() <= 14 + 1_280));
    let (id, whole) = together(&came);
    assert_eq!((id, whole), (0x4d52, segment(&large)), "the sender's own identification");
    // Balanced, so translated: an identification of the appliance's.
    rig.put(OUTSIDE, &udp(CLIENT, "198.51.100.10:53").data(&payload(1_400)));
    rig.settle();
    let (id, whole) = together(&rig.take());
    assert_eq!(whole, segment(&udp(CLIENT, "10.0.0.11:5353").data(&payload(1_400))));
    assert_ne!(id, 0x4d52);
    // Fragments larger than the link are cut again.
    let pieces = udp(CLIENT, SERVER).data(&payload(4_000)).pieces(1_440);
    for piece in &pieces {
        rig.put(OUTSIDE, piece);
    }
    rig.settle();
    let came = rig.take();
    assert_eq!(came.len(), 5, "1,440 are 1,256 and 184, twice; 1,128 fit");
    assert_eq!(together(&came).1, segment(&udp(CLIENT, SERVER).data(&payload(4_000))));
    assert!(rig.drops().is_empty(), "{:?}", rig.drops());

    rig.put(OUTSIDE, &large.dont_fragment());
    rig.settle();
    let told = rig.take();
    assert_eq!((told.len(), told[0].0), (1, OUTSIDE));
    assert_eq!(&told[0].1[34..36], [3, 4], "fragmentation needed");
    assert_eq!(&told[0].1[40..42], 1_280_u16.to_be_bytes());
    rig.put(OUTSIDE, &udp(CLIENT6, SERVER6).data(&payload(1_400)));
    rig.settle();
    let told = rig.take();
    assert_eq!((told.len(), told[0].1[54], &told[0].1[58..62]), (1, 2, &1_280_u32.to_be_bytes()[..]));
    assert_eq!(rig.dropped(PacketTooBig), 2);
    for piece in udp(CLIENT6, SERVER6).data(&payload(4_000)).pieces(1_440) {
        rig.put(OUTSIDE, &piece);
    }
    rig.settle();
    let told = rig.take();
    assert_eq!((told.len(), told[0].1[54], &told[0].1[58..62]), (1, 2, &1_280_u32.to_be_bytes()[..]));
    assert_eq!(rig.dropped(PacketTooBig), 5);
}

/// A packet that waits for its next hop is cut when it leaves.
#[test]
fn what_waited_for_its_next_hop_is_cut_too() {
    let text = format!("{TWO_PORTS}{POLICY}").replace(NARROW.0, NARROW.1);
    let mut rig = Rig::of(&text);
    let large = udp(CLIENT, SERVER).data(&payload(1_400));
    rig.put(OUTSIDE, &large);
    for piece in udp(CLIENT, SERVER).data(&payload(2_000)).id(9).pieces(1_440) {
        rig.put(OUTSIDE, &piece);
    }
    rig.settle();
    let came = rig.take();
    assert_eq!(came.len(), 5);
    assert_eq!(together(&came[..2]).1, segment(&large));
    assert_eq!(together(&came[2..]).1, segment(&udp(CLIENT, SERVER).data(&payload(2_000))));
}

/// RFC 791: a fragment that says "don't fragment" among others that do not is not cut and does not leave larger than the link,
/// whether its datagram waits for the next hop or not.
#[test]
fn a_fragment_that_may_not_be_cut_never_leaves_too_large() {
    let text = format!("{TWO_PORTS}{POLICY}").replace(NARROW.0, NARROW.1);
    let mut rig = Rig::of(&text);
    for sentence in ["its next hop has to be found", "and is known"] {
        let dropped = rig.dropped(PacketTooBig);
        for (number, piece) in udp(CLIENT, SERVER).data(&payload(3_000)).pieces(1_440).into_iter().enumerate() {
            rig.put(OUTSIDE, &if number == 1 { piece.dont_fragment() } else { piece });
        }
        rig.settle();
        let came = rig.take();
        assert!(came.iter().all(|(side, frame)| *side == INSIDE && frame.len() <= 14 + 1_280), "{sentence}");
        assert_eq!((came.len(), rig.dropped(PacketTooBig)), (3, dropped + 1), "{sentence}");
    }
}

/// MAL-17: packets of all sizes through the firewall, the balancer and source NAT, between links of 9,600 bytes and of 1,500.
#[test]
fn jumbo_packets_pass_or_their_sender_is_told() {
    let wide = ("device = \"net_ring0\"\n", "device = \"net_ring0\"\nmtu = 9600\n");
    for inside in [9_600_u16, 1_500] {
        let narrow = format!("device = \"net_ring1\"\nmtu = {inside}\n");
        let text = format!("{TWO_PORTS}{POLICY}").replace(wide.0, wide.1).replace("device = \"net_ring1\"\n", &narrow);
        let mut rig = Rig::laid_out(&text, Layout { buffers: 256, ..Layout::default() });
        for size in [1_500_u16, 1_501, 8_986, 9_000, 9_202, 9_216] {
            for (client, server, shown, headers) in [
                (CLIENT, SERVER, SERVER, 28),
                (CLIENT, "198.51.100.10:53", "10.0.0.11:5353", 28),
                (CLIENT6, SERVER6, SERVER6, 48),
                (CLIENT6, "[2001:db8:51::10]:53", "[2001:db8:10::11]:5353", 48),
            ] {
                let data = payload(usize::from(size) - headers);
                let sent = udp(client, server).data(&data).uncut();
                rig.put(OUTSIDE, &sent);
                rig.settle();
                let came = rig.take();
                let [(side, frame)] = came.as_slice() else { panic!("{size} bytes: {came:?}") };
                if size <= inside {
                    let there = udp(client, shown).data(&data).uncut().routed();
                    assert_eq!((*side, frame), (INSIDE, &rig.outward(INSIDE, &there)), "{size} bytes");
                    continue;
                }
                let mtu = if headers == 28 {
                    u32::from(u16::from_be_bytes([frame[40], frame[41]]))
                } else {
                    u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])
                };
                assert_eq!((*side, mtu), (OUTSIDE, u32::from(inside)), "{size} bytes");
                if headers == 28 {
                    rig.put(OUTSIDE, &udp(client, server).data(&data));
                    rig.settle();
                    let came = rig.take();
                    assert_eq!(came.len(), usize::from(size - 20).div_ceil(1_480), "{size} bytes, cut");
                    assert_eq!(together(&came).1, segment(&udp(client, shown).data(&data)));
                }
            }
        }
        rig.put(INSIDE, &udp("10.0.0.11:3000", "198.51.100.7:53").data(&payload(usize::from(inside) - 28)));
        rig.settle();
        let came = rig.take();
        let hidden = udp("198.51.100.1:3000", "198.51.100.7:53").data(&payload(usize::from(inside) - 28)).routed();
        assert_eq!(came, [(OUTSIDE, rig.outward(OUTSIDE, &hidden))]);
    }
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
    let mut rig = rig_of(&text, Layout::default());
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
