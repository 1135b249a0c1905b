//! Tunnels that end here: what is inside goes on as if it had come by itself, judged by the same rules; and what should not
//! come out of a tunnel does not.

use millrace_tests::packet::{
    Packet, end, host, icmp_error, ip, neighbor_advertisement, ping, pong, solicitation, station, tcp, udp,
};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use stage::DropReason::{
    ChainedBuffer, FirewallDenied, FragmentOverlap, FragmentTimeout, HopLimitExceeded, Malformed as Bad,
    MulticastUnwanted, NeighborDiscoveryInvalid, SourceOwnAddress, TunnelCongestion, TunnelHeader, TunnelNesting,
    TunnelSource,
};
use wire::{MacAddr, Malformed};

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";
const CLIENT: &str = "203.0.113.7:40000";
const CLIENT6: &str = "[2001:db8:99::7]:40000";
const SERVER: &str = "10.0.0.11:80";
const SERVER6: &str = "[2001:db8:10::11]:80";
/// Who sends into the tunnels.
const PEER: &str = "198.51.100.50";
const PEER6: &str = "2001:db8:51::50";

/// How the packet is wrapped, and the keys of the tunnel.
#[derive(Clone, Copy, Debug)]
enum Wrap {
    IpIp,
    Gre,
    GreKey,
    Gue,
    GueHeader,
}

const WRAPS: [(Wrap, &str); 5] = [
    (Wrap::IpIp, "kind = \"ipip\""),
    (Wrap::Gre, "kind = \"gre\""),
    (Wrap::GreKey, "kind = \"gre\"\ngre_key = 77"),
    (Wrap::Gue, "kind = \"gue\""),
    (Wrap::GueHeader, "kind = \"gue\"\ngue_port = 6090"),
];

/// Tunnels of this kind that end at both addresses of the outside port.
fn endings(keys: &str) -> String {
    let one = |name: &str, address: &str, from: &str| {
        format!("[[decapsulate]]\nname = \"{name}\"\naddress = \"{address}\"\nfrom = [\"{from}\"]\n{keys}\n")
    };
    one("four", "198.51.100.1", PEER) + &one("six", "2001:db8:51::1", PEER6)
}

/// `inside`, wrapped by the peer.
fn wrapped(wrap: Wrap, outer_v6: bool, inside: &Packet) -> Packet {
    from(if outer_v6 { PEER6 } else { PEER }, wrap, inside)
}

fn from(peer: &str, wrap: Wrap, inside: &Packet) -> Packet {
    let v6 = inside.addresses().unwrap().0.is_ipv6();
    let here = if peer.contains(':') { "2001:db8:51::1" } else { "198.51.100.1" };
    let packet = inside.bytes_of_ip();
    let (protocol, ethertype) = if v6 { (41, [0x86, 0xdd]) } else { (4, [8, 0]) };
    let gre = |flags: &[u8], key: &[u8]| ip(peer, here, 47, &[flags, &ethertype, key, &packet].concat());
    let gue = |port, header: &[u8]| udp(&end(peer, 51_000), &end(here, port)).data(&[header, &packet].concat());
    match wrap {
        Wrap::IpIp => ip(peer, here, protocol, &packet),
        Wrap::Gre => gre(&[0, 0], &[]),
        Wrap::GreKey => gre(&[0x20, 0], &[0, 0, 0, 77]),
        Wrap::Gue => gue(6080, &[]),
        Wrap::GueHeader => gue(6090, &[0, protocol, 0, 0]),
    }
}

fn both() -> [(&'static str, &'static str); 2] {
    [(CLIENT, SERVER), (CLIENT6, SERVER6)]
}

/// Every kind, both families inside and outside. Only one direction of a connection comes this way.
#[test]
fn what_is_inside_goes_on() {
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        for outer_v6 in [false, true] {
            for (client, server) in both() {
                let client = client.replace("40000", if outer_v6 { "40006" } else { "40004" });
                let mut passes = |sentence: &str, packet: Packet| {
                    let came = wrapped(wrap, outer_v6, &packet);
                    rig.passes(&format!("{sentence}, {wrap:?}"), ((OUTSIDE, came), (INSIDE, packet.routed())));
                };
                let up = || tcp(&client, server);
                passes("SYN", up().syn().seq(1).tcp_options(&[2, 4, 5, 0xb4]));
                passes("the ACK of an answer that went another way", up().ack(77).seq(2));
                passes("data, far on", up().ack(1_000_000).seq(500_000).data(b"much later"));
                passes("FIN", up().fin(1_000_000).seq(500_010));
                passes("a datagram", udp(&client, server).class(0xb8));
            }
        }
        assert_eq!(rig.count(|c| &c.decapsulated), 20);
        let padded = udp(CLIENT, SERVER);
        let came = wrapped(wrap, false, &padded).padded(&[0; 7]);
        rig.passes("padding is not inside", ((OUTSIDE, came), (INSIDE, padded.routed())));
    }
}

/// What is inside is judged by the zone it came from, and is balanced, translated and answered like anything else.
#[test]
fn what_is_inside_is_judged() {
    let rules = "[firewall]\ndefault = \"deny\"\n[[firewall.rule]]\nname = \"web\"\naction = \"allow\"\nfrom = [\"wan\"]\n\
                 protocol = \"tcp\"\ndestination_port = [\"80\"]\n[[firewall.rule]]\nname = \"ping\"\naction = \"allow\"\n\
                 protocol = \"icmp\"\n";
    let shop = "[[virtual_service]]\nname = \"shop\"\naddress = \"198.51.100.10\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
                [[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.12\"\nport = 8080\n";
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{rules}{shop}{}", endings(keys)));
        let mut row = |sentence: &str, packet: &Packet, out: &[(_, Packet)], drops: &[_]| {
            rig.case(sentence, &[(OUTSIDE, wrapped(wrap, false, packet))], out, drops);
        };
        row("no rule allows it", &udp(CLIENT, SERVER), &[], &[FirewallDenied]);
        let syn = tcp(CLIENT, "198.51.100.10:80").syn().seq(1);
        let balanced = tcp(CLIENT, "10.0.0.12:8080").syn().seq(1).routed();
        row("a virtual service", &syn, &[(INSIDE, balanced)], &[]);
        let asks = ping("203.0.113.7", "198.51.100.1", 7);
        let answers = pong("198.51.100.1", "203.0.113.7", 7).via("198.51.100.254");
        row("a ping of the appliance", &asks, &[(OUTSIDE, answers)], &[]);
        assert_eq!(rig.hits("web").0, 1);
    }
}

/// Whoever may send into a tunnel chooses the sources of what is inside: only the listed may, only what the tunnel has.
#[test]
fn a_tunnel_takes_only_its_own() {
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        let inside = udp(CLIENT, SERVER);
        for peer in ["198.51.100.51", "203.0.113.50", "2001:db8:51::51"] {
            rig.drops_all("somebody else", &[(OUTSIDE, from(peer, wrap, &inside))], TunnelSource);
        }
        let wrong = match wrap {
            Wrap::IpIp => ip(PEER, "198.51.100.1", 4, &udp(CLIENT6, SERVER6).bytes_of_ip()),
            Wrap::Gre => wrapped(Wrap::GreKey, false, &inside),
            Wrap::GreKey => wrapped(Wrap::Gre, false, &inside),
            Wrap::Gue => udp("198.51.100.50:1", "198.51.100.1:6080").data(b"\x80 is of a version to come"),
            Wrap::GueHeader => udp("198.51.100.50:1", "198.51.100.1:6090").data(&[0x20, 4, 0, 0, 0x45, 0]),
        };
        rig.drops_all("not the tunnel's header", &[(OUTSIDE, wrong)], TunnelHeader);
        let outer = wrapped(wrap, false, &inside).fragment(24, false);
        let before = rig.dropped(FragmentTimeout);
        rig.case("a fragment of it waits for the others", &[(OUTSIDE, outer)], &[], &[]);
        rig.leap(units::Nanos::from_secs(6));
        assert_eq!(rig.dropped(FragmentTimeout), before + 1);
    }
}

/// What is inside is a packet like any other: malformed ones, and those nobody can have sent, are named as ever (MAL-13).
#[test]
fn what_is_inside_has_to_be_a_packet() {
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        for (sentence, inside, reason) in [
            ("from loopback", udp(CLIENT, SERVER).from("127.0.0.1"), Bad(Malformed::SourceLoopback)),
            ("from a group", udp(CLIENT, SERVER).from("224.0.0.9"), Bad(Malformed::SourceMulticast)),
            ("from itself", tcp(SERVER, SERVER).syn(), Bad(Malformed::Land)),
            ("from the appliance", udp(CLIENT, SERVER).from("10.0.0.1"), SourceOwnAddress),
            ("a wrong header checksum", udp(CLIENT, SERVER).wrong_ip_checksum(1), Bad(Malformed::Ipv4Checksum)),
            ("a wrong checksum", udp(CLIENT, SERVER).wrong_checksum(1), Bad(Malformed::UdpChecksum)),
            ("longer than what carries it", udp(CLIENT, SERVER).total_length(900), Bad(Malformed::Ipv4TotalLength)),
        ] {
            let sentence = format!("{sentence}, {wrap:?}");
            rig.drops_all(&sentence, &[(OUTSIDE, wrapped(wrap, false, &inside))], reason);
        }
        let piece = udp(CLIENT, SERVER).data(&[0; 16]).fragment(24, false);
        rig.case("a fragment waits for the others", &[(OUTSIDE, wrapped(wrap, false, &piece))], &[], &[]);
        assert_eq!(rig.session_count(), 0);
    }
}

/// EVA-26: what comes out of a tunnel may have come from anywhere, so it is no station of the link: no neighbor is believed
/// through it, however well its message is made (RFC 4861 section 6.1.1: the hop limit proves that no router was passed),
/// none is answered, and what is for the stations of the link is not given to the kernel.
#[test]
fn nobody_in_a_tunnel_is_a_neighbor() {
    let thief = MacAddr::new([2, 6, 6, 6, 6, 6]);
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        let data = || udp(SERVER6, CLIENT6);
        let out = data().routed().via("2001:db8:51::fe");
        rig.passes("the next hop is known", ((INSIDE, data()), (OUTSIDE, out.clone())));
        let own = "2001:db8:51::1";
        for (sentence, inside) in [
            ("a solicited answer", neighbor_advertisement(thief, "2001:db8:51::fe", own, 0x60)),
            ("an unsolicited one", neighbor_advertisement(thief, "2001:db8:51::fe", "ff02::1", 0x20)),
            ("a question that names its MAC", solicitation("2001:db8:51::fe", own).to(own)),
            ("a question in the target's group", solicitation("2001:db8:51::fe", own)),
        ] {
            for outer_v6 in [false, true] {
                let came = wrapped(wrap, outer_v6, &inside);
                rig.drops_all(&format!("{sentence}, {wrap:?}"), &[(OUTSIDE, came)], NeighborDiscoveryInvalid);
                rig.passes("nothing has changed", ((INSIDE, data()), (OUTSIDE, out.clone())));
            }
        }
        for (sentence, inside) in [
            ("OSPF", ip("198.51.100.66", "224.0.0.5", 89, &[2; 44])),
            ("VRRP", ip("198.51.100.66", "224.0.0.18", 112, &[0x21; 20])),
            ("RIPng", udp("[fe80::66]:521", "[ff02::9]:521")),
        ] {
            let came = wrapped(wrap, false, &inside);
            rig.drops_all(&format!("{sentence}, {wrap:?}"), &[(OUTSIDE, came)], MulticastUnwanted);
        }
    }
}

/// MAL-15: tunnels in tunnels, one to sixteen deep: four are taken off, not one more; and what has no hop left ends here.
#[test]
fn tunnels_in_tunnels_are_taken_off_to_a_depth() {
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        for depth in 1..=16 {
            let inside = udp(CLIENT, SERVER);
            let mut packet = inside.clone();
            for layer in 0..depth {
                packet = wrapped(wrap, layer % 2 == 1, &packet);
            }
            let sentence = format!("{depth} deep, {wrap:?}");
            if depth <= 4 {
                rig.case(&sentence, &[(OUTSIDE, packet)], &[(INSIDE, inside.routed())], &[]);
            } else {
                rig.drops_all(&sentence, &[(OUTSIDE, packet)], TunnelNesting);
            }
        }
        let last = udp(CLIENT, SERVER).hops(1);
        let told = icmp_error("198.51.100.1", host(CLIENT), 11, 0, 0, &last, 548).class(0xc0).atomic();
        let told = told.via("198.51.100.254");
        let data = udp(SERVER, CLIENT);
        rig.passes("the way back is known", ((INSIDE, data.clone()), (OUTSIDE, data.routed().via("198.51.100.254"))));
        rig.case("its last hop", &[(OUTSIDE, wrapped(wrap, false, &last))], &[(OUTSIDE, told)], &[HopLimitExceeded]);
        let none = udp(CLIENT, SERVER).hops(0);
        rig.put(OUTSIDE, &wrapped(wrap, false, &none));
        rig.settle();
        assert!(rig.take().iter().all(|(side, _)| *side == OUTSIDE), "no hop at all");
    }
}

/// What the appliance itself answers goes over the route to the sender inside, who is not behind the tunnel's other end and
/// need not be behind the same port: pings, errors, resets and SYN cookies.
#[test]
fn answers_take_the_route_and_not_the_tunnel() {
    let reject =
        "[[firewall.rule]]\nname = \"no\"\naction = \"reject\"\nprotocol = \"tcp\"\ndestination_port = [\"9\"]\n";
    let shop = |name: &str, address: &str, backend: &str| {
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
             syn_cookies = {{ mode = \"always\" }}\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"{backend}\"\n"
        )
    };
    let ends = |name: &str, address: &str, from: &str, keys: &str| {
        format!("[[decapsulate]]\nname = \"{name}\"\naddress = \"{address}\"\nfrom = [\"{from}\"]\n{keys}\n")
    };
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!(
            "{ALLOW}{reject}{}{}{}{}",
            shop("shop", "198.51.100.10", "10.0.0.12"),
            shop("shop6", "2001:db8:51::10", "2001:db8:10::12"),
            ends("four", "10.0.0.1", "10.0.0.50", keys),
            ends("six", "2001:db8:10::1", "2001:db8:10::50", keys),
        ));
        rig.leap(units::Nanos::from_secs(10));
        for (client, own, server, service, outer_v6) in [
            ("198.51.100.7:40000", "198.51.100.1", SERVER, "198.51.100.10:80", true),
            ("[2001:db8:51::7]:40000", "2001:db8:51::1", SERVER6, "[2001:db8:51::10]:80", false),
        ] {
            let peer = if outer_v6 { "2001:db8:10::50" } else { "10.0.0.50" };
            let here = if outer_v6 { "2001:db8:10::1" } else { "10.0.0.1" };
            let mut answer = |sentence: &str, inside: Packet| {
                rig.put(INSIDE, &from(peer, wrap, &inside).to(here));
                rig.settle();
                let out = rig.take();
                let [(side, bytes)] = out.as_slice() else { panic!("{sentence}, {wrap:?}: {out:?} {:?}", rig.drops()) };
                assert_eq!(*side, OUTSIDE, "{sentence}, {wrap:?}");
                assert_eq!(bytes[..6], station(host(client).parse().unwrap()).octets(), "{sentence}, {wrap:?}");
                assert_eq!(bytes[6..12], rig.mac(OUTSIDE).octets(), "{sentence}, {wrap:?}");
            };
            answer("a ping, for which the way has to be found", ping(host(client), own, 7));
            answer("a ping", ping(host(client), own, 7));
            answer("its last hop", udp(client, server).hops(1));
            answer("a rule that rejects", tcp(client, &server.replace(":80", ":9")).syn().seq(1));
            answer("a service that asks for proof", tcp(client, service).syn().seq(1));
        }
    }
}

/// RFC 6040 section 4.2: congestion on the way through the tunnel is told to the ends, or the packet is dropped.
#[test]
fn congestion_in_the_tunnel_reaches_the_ends() {
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        for outer_v6 in [false, true] {
            for (client, server) in both() {
                let capable = udp(client, server).class(0x02);
                let came = wrapped(wrap, outer_v6, &capable).class(0x03);
                rig.passes("marked", ((OUTSIDE, came), (INSIDE, udp(client, server).class(0x03).routed())));
                let came = wrapped(wrap, outer_v6, &udp(client, server)).class(0x03);
                rig.drops_all("cannot be marked", &[(OUTSIDE, came)], TunnelCongestion);
            }
        }
    }
}

/// RFC 2003 section 5.1, RFC 2473 section 7: outer packets that came in fragments are put together, in whatever order.
#[test]
fn outer_packets_in_fragments_are_put_together() {
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        for outer_v6 in [false, true] {
            for (client, server) in both() {
                let inside = udp(client, server).data(&[7; 1_400]);
                for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                    let pieces = wrapped(wrap, outer_v6, &inside).pieces(512);
                    let came: Vec<_> = order.iter().map(|&at: &usize| (OUTSIDE, pieces[at].clone())).collect();
                    let sentence = format!("{wrap:?}, IPv6 outside: {outer_v6}");
                    rig.case(&sentence, &came, &[(INSIDE, inside.clone().routed())], &[]);
                }
            }
        }
        assert_eq!((rig.count(|c| &c.decapsulated), rig.count(|c| &c.consumed)), (12, 24));
        // What is inside may be a fragment itself.
        let inner = udp(CLIENT, SERVER).data(&[9; 1_400]).pieces(704);
        let outer = |at: usize, id| wrapped(wrap, false, &inner[at]).id(id).pieces(512);
        let came: Vec<_> = outer(1, 1).into_iter().chain(outer(0, 2)).map(|packet| (OUTSIDE, packet)).collect();
        let out: Vec<_> = inner.iter().map(|packet| (INSIDE, packet.clone().routed())).collect();
        rig.case("a fragment in fragments", &came, &out, &[]);
    }
}

/// What is put together is no more than a packet: too much of it, from somebody else, or damaged, it goes nowhere.
#[test]
fn outer_packets_in_fragments_are_judged_like_whole_ones() {
    let at = |packets: Vec<Packet>| packets.into_iter().map(|packet| (OUTSIDE, packet)).collect::<Vec<_>>();
    for (wrap, keys) in WRAPS {
        let mut rig = Rig::new(&format!("{ALLOW}{}", endings(keys)));
        let inside = udp(CLIENT, SERVER).data(&[7; 1_000]);
        let stranger = at(from("198.51.100.51", wrap, &inside).pieces(600));
        rig.case("from somebody else", &stranger, &[], &[TunnelSource]);
        let large = at(wrapped(wrap, false, &udp(CLIENT, SERVER).data(&[7; 4_000])).pieces(1_400));
        rig.drops_all("more than a buffer holds", &large, ChainedBuffer);
        let overlap = wrapped(wrap, false, &inside).pieces(600)[0].clone();
        let evil = ip(PEER, "198.51.100.1", 4, &[0; 24]).fragment(592, true);
        let evil = if matches!(wrap, Wrap::IpIp) { evil } else { overlap.clone().fragment(592, true) };
        rig.drops_all("overlapping", &[(OUTSIDE, overlap), (OUTSIDE, evil)], FragmentOverlap);
        if matches!(wrap, Wrap::Gue | Wrap::GueHeader) {
            let damaged = at(wrapped(wrap, true, &inside).wrong_checksum(1).pieces(600));
            rig.drops_all("damaged", &damaged, Bad(Malformed::UdpChecksum));
        }
        assert_eq!(rig.session_count(), 0);
        let last = udp(CLIENT, SERVER).data(&[7; 1_000]).hops(1);
        let told = icmp_error("198.51.100.1", host(CLIENT), 11, 0, 0, &last, 548).class(0xc0).atomic();
        let told = told.via("198.51.100.254");
        let data = udp(SERVER, CLIENT);
        rig.passes("the way back is known", ((INSIDE, data.clone()), (OUTSIDE, data.routed().via("198.51.100.254"))));
        let came = at(wrapped(wrap, false, &last).id(9).pieces(600));
        rig.case("its last hop", &came, &[(OUTSIDE, told)], &[HopLimitExceeded]);
    }
}

/// Whichever worker receives the outer packet, the one that owns the session inside treats it.
#[test]
fn what_is_inside_finds_the_worker_that_owns_it() {
    for (wrap, keys) in WRAPS {
        let layout = Layout { workers: 3, queues: 3, buffers: 4_096 };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}{}", endings(keys)), layout);
        for port in 0..24 {
            for (client, server) in both() {
                let client = client.replace("40000", &format!("{}", 40_000 + port));
                let syn = tcp(&client, server).syn().seq(1);
                let there = (OUTSIDE, wrapped(wrap, port % 2 == 0, &syn));
                rig.case("SYN", &[there], &[(INSIDE, syn.routed())], &[]);
                let data = tcp(&client, server).ack(9).seq(2).data(b"GET /");
                let there = (OUTSIDE, wrapped(wrap, port % 2 == 1, &data));
                rig.case("data", &[there], &[(INSIDE, data.clone().routed())], &[]);
                let more = tcp(&client, server).ack(9).seq(7).data(&[7; 900]);
                let pieces = wrapped(wrap, port % 2 == 0, &more).pieces(512);
                let came: Vec<_> = pieces.into_iter().rev().map(|piece| (OUTSIDE, piece)).collect();
                rig.case("data in fragments", &came, &[(INSIDE, more.routed())], &[]);
                let answer = tcp(server, &client).ack(7).seq(9).data(b"found");
                let router = if client.contains('[') { "2001:db8:51::fe" } else { "198.51.100.254" };
                rig.case("an answer", &[(INSIDE, answer.clone())], &[(OUTSIDE, answer.routed().via(router))], &[]);
            }
        }
        assert!(rig.sessions_by_worker().iter().all(|&sessions| sessions > 0), "{:?}", rig.sessions_by_worker());
    }
}

/// Without tunnels that end here nothing changes: such packets are the kernel's, if a rule lets them reach it.
#[test]
fn packets_of_no_tunnel_are_the_kernels() {
    let mut rig = Rig::new(&format!("{ALLOW}{}", endings("kind = \"gue\"")));
    let other = wrapped(Wrap::IpIp, false, &udp(CLIENT, SERVER));
    rig.put(OUTSIDE, &other);
    rig.settle();
    let out = rig.take();
    let [(side, bytes)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(*side, millrace_tests::OUTSIDE_KERNEL);
    assert_eq!(bytes[6..12], station(PEER.parse().unwrap()).octets());
}
