//! What hides in fragments (group B of the catalogue of cases): overlaps, tiny ones, lies about lengths, floods. Nothing of an
//! unsound datagram comes out.

use millrace_tests::fragmented::{FRAGMENTS, at, knowing, payload, rig, routed, segment};
use millrace_tests::packet::{host, icmp, ip, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, flood_of};
use stage::DropReason::{
    FragmentDuplicate, FragmentOverlap, FragmentTimeout, FragmentsFull, FragmentsOfSource, FragmentsTooMany,
    NeighborDiscoveryInvalid,
};
use units::Nanos;
use wire::Malformed;

const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SERVER: &str = "10.0.0.11:53";
const SERVER6: &str = "[2001:db8:10::11]:53";
const BOTH: [(&str, &str); 2] = [(CLIENT, SERVER), (CLIENT6, SERVER6)];

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
    let mut rig = knowing(FRAGMENTS, Layout { buffers: 2_048, ..Layout::default() });
    let idle = rig.buffers_in_use();
    let mut flood = 0_u64;
    for round in 0..flood_of(12_800) / 64 {
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
