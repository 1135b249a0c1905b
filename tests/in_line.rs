//! Two ports joined as one wire, and what is taken out of the traffic that passes: every frame leaves by the other port as
//! it came, the firewall judges IP packets, and services are served in line (service engines, sections 2.2 and 2.3).

use millrace_tests::joined::{ALLOW, EAST, GATEWAY, JOINED, ROUTER, WEST, beyond, inward, outward, passes};
use millrace_tests::packet::{
    Packet, arp_reply, arp_request, ethernet, host, icmp, icmp_error, ip, neighbor_advertisement, ping, pong,
    solicitation, station, tcp, udp,
};
use millrace_tests::rig::Layout;
use millrace_tests::{INSIDE, OUTSIDE, OUTSIDE_KERNEL, Rig};
use stage::DropReason::{
    self, ArpUnwanted, BackendFailed, FirewallDenied, FirewallRejected, FragmentOverlap, IcmpErrorUnmatched,
    Malformed as Bad, NeighborDiscoveryInvalid, NoSession, SourceOwnAddress, TcpOutOfWindow, TupleInUse,
};
use stage::balancer::Health;
use wire::{MacAddr, Malformed};

const WEB: &str = "[firewall]\ndefault = \"deny\"\n[[firewall.rule]]\nname = \"web\"\naction = \"allow\"\nfrom = [\"wan\"]\n\
    to = [\"dmz\"]\nprotocol = \"tcp\"\ndestination_port = [\"80\"]\n";

/// A client outside and a server inside, of each family.
const ENDS: [(&str, &str); 2] =
    [("203.0.113.7:40000", "198.51.100.80:80"), ("[2001:db8:99::7]:40000", "[2001:db8:51::80]:80")];

const LLDP: MacAddr = MacAddr::new([1, 0x80, 0xc2, 0, 0, 0x0e]);
const BRIDGES: MacAddr = MacAddr::new([1, 0x80, 0xc2, 0, 0, 0]);

fn bump(more: &str) -> Rig {
    Rig::of(&format!("{JOINED}{more}"))
}

/// SE-15: frames that are no IP packets, and what neighbors say to each other, whatever the rules say of IP.
#[test]
fn every_frame_leaves_by_the_other_port_as_it_came() {
    let mut rig = bump("[firewall]\ndefault = \"deny\"\n");
    rig.overhear();
    let (host_a, host_b) = ("198.51.100.7", "198.51.100.80");
    let (six_a, six_b) = ("2001:db8:51::7", "2001:db8:51::80");
    let mac = station(host_a.parse().unwrap());
    let groups = |packet: Packet, group: MacAddr| packet.source_mac(ROUTER).destination_mac(group);
    let odd_arp = |bytes: &[u8]| ethernet(ROUTER, MacAddr::BROADCAST, 0x0806, bytes);
    let rows: Vec<(&str, Packet)> = vec![
        ("LLDP", ethernet(ROUTER, LLDP, 0x88cc, &[2, 7, 4, 2, 0xaa, 0, 0, 0, 1, 0, 0])),
        ("spanning tree, behind an LLC header", ethernet(ROUTER, BRIDGES, 39, &[0x42, 0x42, 3, 0, 0, 0, 0, 0])),
        ("LACP", ethernet(ROUTER, MacAddr::new([1, 0x80, 0xc2, 0, 0, 2]), 0x8809, &[1; 40])),
        ("EAPOL", ethernet(ROUTER, MacAddr::new([1, 0x80, 0xc2, 0, 0, 3]), 0x888e, &[1, 1, 0, 0])),
        ("PPPoE discovery", ethernet(ROUTER, MacAddr::BROADCAST, 0x8863, &[0x11, 9, 0, 0, 0, 0])),
        ("MPLS", ethernet(ROUTER, GATEWAY, 0x8847, &[0, 1, 1, 64, 0x45, 0])),
        ("an experiment, to one station", ethernet(ROUTER, GATEWAY, 0x88b5, b"anything")),
        ("an experiment, to all", ethernet(ROUTER, MacAddr::BROADCAST, 0x88b5, b"anything")),
        ("an experiment in three tags", ethernet(ROUTER, GATEWAY, 0x88b5, b"any").tagged(1).tagged(2).tagged(4094)),
        ("an ARP request", arp_request(host_a, host_b)),
        ("an ARP reply", arp_reply(mac, host_a, GATEWAY, host_b)),
        ("gratuitous ARP", arp_request(host_a, host_a)),
        ("an ARP probe", arp_request("0.0.0.0", host_b).source_mac(ROUTER)),
        ("ARP in a tag", arp_request(host_a, host_b).tagged(100)),
        ("ARP for something else than IPv4", odd_arp(&[0, 6, 0x86, 0xdd, 6, 16, 0, 1])),
        ("ARP that is cut off", odd_arp(&[0, 1, 8])),
        ("a neighbor solicitation", solicitation(six_a, six_b)),
        ("duplicate address detection", solicitation("::", six_b).source_mac(ROUTER)),
        ("a neighbor advertisement", neighbor_advertisement(mac, six_a, six_b, 0x60).destination_mac(GATEWAY)),
        (
            "a router solicitation",
            groups(icmp("fe80::1", "ff02::2", 133, 0, 0, &[]), MacAddr::new([0x33, 0x33, 0, 0, 0, 2])),
        ),
        (
            "a router advertisement",
            groups(icmp("fe80::2", "ff02::1", 134, 0, 0x4000_0708, &[0; 8]), MacAddr::new([0x33, 0x33, 0, 0, 0, 1])),
        ),
        ("a redirect between neighbors", inward(icmp("fe80::2", six_b, 137, 0, 0, &[0; 32]))),
        (
            "a listener report",
            groups(icmp("fe80::1", "ff02::16", 143, 0, 0, &[]), MacAddr::new([0x33, 0x33, 0, 0, 0, 0x16])).hops(1),
        ),
    ];
    for side in [OUTSIDE, INSIDE] {
        for (sentence, packet) in &rows {
            passes(&mut rig, sentence, side, packet);
        }
        for len in 0..=46 {
            let runt = ethernet(ROUTER, GATEWAY, 0x88b5, &vec![0x5a; len]);
            passes(&mut rig, &format!("a frame of {} bytes", 14 + len), side, &runt);
        }
        passes(&mut rig, "a full one", side, &ethernet(ROUTER, GATEWAY, 0x88b5, &[7; 1500]));
    }
    for len in 0..14 {
        let runt = ethernet(ROUTER, GATEWAY, 0x88b5, b"").cut(len);
        rig.drops_all("no whole header", &[(OUTSIDE, runt)], Malformed::FrameTruncated);
    }
    let deep = ethernet(ROUTER, GATEWAY, 0x88b5, b"").tagged(1).tagged(2).tagged(3).tagged(4);
    rig.drops_all("MAL-12: more tags than are read hide what is judged", &[(OUTSIDE, deep)], Malformed::VlanTooDeep);
    assert_eq!(rig.session_count(), 0);
}

/// IP packets pass if a rule allows them, from the one port's zone to the other's; their bytes stay, hop limits too.
#[test]
fn the_firewall_judges_what_passes() {
    let mut rig = bump(WEB);
    for (client, server) in ENDS {
        for tags in [&[][..], &[100], &[100, 200], &[1, 2, 3]] {
            let client = client.replace("40000", &format!("{}", 40_000 + tags.len()));
            let tagged = |packet: Packet| tags.iter().fold(packet, |packet, &vlan| packet.tagged(vlan));
            let up = |what: &dyn Fn(Packet) -> Packet| tagged(inward(what(tcp(&client, server).hops(1))));
            let down = |what: &dyn Fn(Packet) -> Packet| tagged(outward(what(tcp(server, &client).hops(255))));
            passes(&mut rig, "SYN", OUTSIDE, &up(&|p| p.syn().seq(1000)));
            passes(&mut rig, "SYN-ACK", INSIDE, &down(&|p| p.syn_ack(1001).seq(5000)));
            passes(&mut rig, "ACK", OUTSIDE, &up(&|p| p.ack(5001).seq(1001)));
            for _ in 0..3 {
                passes(&mut rig, "data", OUTSIDE, &up(&|p| p.ack(5001).seq(1001).data(b"GET /")));
                passes(&mut rig, "padded data", INSIDE, &down(&|p| p.ack(1001).seq(5001).data(b"2").padded(&[7; 9])));
            }
            let blind = up(&|p| p.ack(5001).seq(900_000_000).data(b"x"));
            rig.drops_all("EVA-19: far out of the window", &[(OUTSIDE, blind)], TcpOutOfWindow);
            let other = tagged(outward(tcp(server, &client).syn().seq(1).from(&server.replace(":80", ":81"))));
            rig.drops_all("nobody inside may open", &[(INSIDE, other)], FirewallDenied);
            let datagram = tagged(inward(udp(&client, server)));
            rig.drops_all("no rule allows UDP", &[(OUTSIDE, datagram)], FirewallDenied);
            let midway = up(&|p| p.ack(1).seq(1)).from(&client.replace("4000", "4100"));
            rig.drops_all("EVA-21: from the middle of a connection", &[(OUTSIDE, midway)], NoSession);
        }
        rig.drops_all("a ping", &[(OUTSIDE, inward(ping(host(client), host(server), 7)))], FirewallDenied);
    }
    assert_eq!((rig.hits("web").0, rig.session_count()), (8, 8));
    assert!(rig.sessions().iter().all(|session| session.in_line));
}

/// Frames that pass are counted: plain packets of sessions, packets read in full, what is no IP; nothing that was dropped, answered or routed.
#[test]
fn what_passes_is_counted() {
    let mut rig = bump(WEB);
    let passed = |rig: &Rig| rig.count(|counters| &counters.passed_in_line);
    passes(&mut rig, "LLDP", OUTSIDE, &ethernet(ROUTER, LLDP, 0x88cc, &[2, 7, 4, 2, 0xaa, 0, 0, 0, 1, 0, 0]));
    passes(&mut rig, "ARP that is cut off", INSIDE, &ethernet(ROUTER, MacAddr::BROADCAST, 0x0806, &[0, 1, 8]));
    assert_eq!(passed(&rig), 2);
    for ((client, server), so_far) in ENDS.into_iter().zip([2, 10]) {
        let up = |what: &dyn Fn(Packet) -> Packet| inward(what(tcp(client, server)));
        passes(&mut rig, "SYN", OUTSIDE, &up(&|p| p.syn().seq(1000)));
        passes(&mut rig, "SYN-ACK", INSIDE, &outward(tcp(server, client).syn_ack(1001).seq(5000)));
        passes(&mut rig, "ACK", OUTSIDE, &up(&|p| p.ack(5001).seq(1001)));
        passes(&mut rig, "in a tag", OUTSIDE, &up(&|p| p.ack(5001).seq(1001)).tagged(7));
        assert_eq!(passed(&rig), so_far + 4);
        let data = up(&|p| p.ack(5001).seq(1001).data(b"GET /"));
        let blind = up(&|p| p.ack(5001).seq(900_000_000).data(b"x"));
        let burst = [&data, &data, &blind, &data, &data].map(|packet| (OUTSIDE, packet.clone()));
        rig.case("a burst", &burst, &vec![(INSIDE, data.clone()); 4], &[TcpOutOfWindow]);
        assert_eq!(passed(&rig), so_far + 8);
        let asks = udp(&at(if client.contains('[') { "2001:db8:e::7" } else { "192.0.2.7" }, 1), client);
        rig.put(EAST, &asks);
        rig.settle();
        rig.take();
        assert_eq!(passed(&rig), so_far + 8, "what is routed is no business of a pair");
    }
}

/// What is for many is judged, too; the link's own groups with it, but for discovery.
#[test]
fn multicast_and_broadcast_are_judged() {
    let all = MacAddr::BROADCAST;
    let dhcp = udp("0.0.0.0:68", "255.255.255.255:67").data(&[1; 240]).source_mac(ROUTER).destination_mac(all);
    let rows = [
        dhcp,
        udp("198.51.100.7:5353", "224.0.0.251:5353").source_mac(ROUTER),
        udp("[fe80::7]:5353", "[ff02::fb]:5353").source_mac(ROUTER),
        ip("198.51.100.7", "224.0.0.5", 89, &[2, 1, 0, 44]).hops(1).source_mac(ROUTER),
        ip("198.51.100.7", "239.1.2.3", 2, &[0x16; 8]).source_mac(ROUTER),
        udp("198.51.100.7:137", "198.51.100.255:137").source_mac(ROUTER).destination_mac(all),
    ]
    .map(|packet| Packet::clone(&packet));
    let (mut open, mut closed) = (bump(ALLOW), bump(WEB));
    for packet in rows {
        for side in [OUTSIDE, INSIDE] {
            // The rig fills in the group's MAC.
            let bytes = open.inward(side, &packet);
            open.put_bytes(side, &bytes);
            open.settle();
            assert_eq!(open.take(), [(beyond(side), bytes.clone())]);
            let before = closed.dropped(FirewallDenied);
            closed.put_bytes(side, &bytes);
            closed.settle();
            assert_eq!((closed.take().len(), closed.dropped(FirewallDenied) - before), (0, 1));
        }
    }
    // RFC 1122 section 3.3.6: nobody may hide a datagram to one host in a frame to all.
    let hidden = udp("203.0.113.7:1", "198.51.100.80:53").source_mac(ROUTER).destination_mac(all);
    closed.drops_all("one host's datagram in a frame to all", &[(OUTSIDE, hidden)], FirewallDenied);
}

/// Malformed packets do not pass, and count as anywhere.
#[test]
fn what_is_no_sound_packet_does_not_pass() {
    let mut rig = bump(ALLOW);
    let (client, server) = ENDS[0];
    for (packet, fault) in [
        (udp(client, server).wrong_ip_checksum(1), Malformed::Ipv4Checksum),
        (udp(client, server).wrong_checksum(1), Malformed::UdpChecksum),
        (udp(client, server).total_length(2_000), Malformed::Ipv4TotalLength),
        (udp(client, server).from("127.0.0.1"), Malformed::SourceLoopback),
        (udp(client, server).options(&[131, 3, 4, 0]), Malformed::Ipv4SourceRoute),
    ] {
        rig.drops_all("malformed", &[(OUTSIDE, inward(packet))], Bad(fault));
    }
    let fragment = solicitation("2001:db8:51::7", "2001:db8:51::80").fragment(0, true);
    rig.drops_all("RFC 6980: discovery in fragments", &[(OUTSIDE, fragment)], NeighborDiscoveryInvalid);
}

/// A rule that rejects tells the sender, in the name of the one it asked; the tag goes back with it.
#[test]
fn who_is_rejected_is_told_by_the_other_end() {
    let mut rig = bump("[firewall]\ndefault = \"reject\"\n");
    for (client, server) in ENDS {
        let syn = inward(tcp(client, server).syn().seq(7)).tagged(9);
        let reset = outward(tcp(server, client).rst_ack(8).seq(0).window(0).atomic()).tagged(9);
        rig.case("TCP", &[(OUTSIDE, syn)], &[(OUTSIDE, reset)], &[FirewallRejected]);
        let datagram = inward(udp(client, server));
        let (kind, code, room) = if client.contains('[') { (1, 1, 1_232) } else { (3, 13, 548) };
        let error = icmp_error(host(server), host(client), kind, code, 0, &datagram, room);
        let error = outward(if client.contains('[') { error } else { error.class(0xc0).atomic() });
        rig.case("UDP", &[(OUTSIDE, datagram)], &[(OUTSIDE, error)], &[FirewallRejected]);
    }
}

/// A policy that revokes a permission ends sessions in line as it does others.
#[test]
fn sessions_in_line_are_judged_again() {
    for (client, server) in ENDS {
        let mut rig = bump(WEB);
        passes(&mut rig, "SYN", OUTSIDE, &inward(tcp(client, server).syn().seq(1000)));
        passes(&mut rig, "SYN-ACK", INSIDE, &outward(tcp(server, client).syn_ack(1001).seq(5000)));
        let data = inward(tcp(client, server).ack(5001).seq(1001).data(b"x"));
        rig.publish(&format!("{JOINED}{WEB}[[firewall.rule]]\nname = \"ssh\"\naction = \"allow\"\nprotocol = \"tcp\"\ndestination_port = [\"22\"]\n"));
        passes(&mut rig, "still allowed", OUTSIDE, &data);
        rig.publish(&format!("{JOINED}[firewall]\ndefault = \"deny\"\n"));
        rig.drops_all("no longer", &[(OUTSIDE, data)], FirewallDenied);
        assert_eq!(rig.session_count(), 0);
    }
}

/// EVA-22: errors pass with the session they are about, from the side the packet went to.
#[test]
fn errors_pass_with_their_sessions() {
    let mut rig = bump(WEB);
    for (client, server) in ENDS {
        let six = client.contains('[');
        let (unreachable, router) = if six { (1, "2001:db8:51::1") } else { (3, "198.51.100.1") };
        let syn = inward(tcp(client, server).syn().seq(1000));
        let about = |quoted: &Packet, side| {
            let error = icmp_error(router, host(client), unreachable, 1, 0, quoted, 200);
            (side, if side == INSIDE { outward(error) } else { inward(error) })
        };
        rig.drops_all("of no session", &[about(&syn, INSIDE)], IcmpErrorUnmatched);
        passes(&mut rig, "SYN", OUTSIDE, &syn);
        let (side, error) = about(&syn, INSIDE);
        passes(&mut rig, "from beyond", side, &error);
        passes(&mut rig, "in a tag", side, &error.tagged(5));
        rig.drops_all("from the client's own side", &[about(&syn, OUTSIDE)], IcmpErrorUnmatched);
        let other = tcp(client, server).syn().seq(900_000_000);
        rig.drops_all("RFC 5927: of what was not sent", &[about(&other, INSIDE)], IcmpErrorUnmatched);
    }
    let redirect = inward(icmp("198.51.100.1", "198.51.100.80", 5, 1, 0xc633_6401, &[0x45; 28]));
    rig.put(OUTSIDE, &redirect);
    rig.settle();
    assert_eq!(rig.take().len(), 0, "EVA-24: an ICMP redirect");
}

/// Fragments wait until their datagram is whole and sound, then all leave as they came, each with its own hop limit.
#[test]
fn fragments_are_judged_whole_and_pass_as_they_came() {
    let rule = "[firewall]\ndefault = \"deny\"\n[[firewall.rule]]\nname = \"dns\"\naction = \"allow\"\nprotocol = \"udp\"\n\
                destination_port = [\"53\"]\n";
    let mut rig = bump(rule);
    for (client, server) in ENDS {
        let server = server.replace(":80", ":53");
        let pieces: Vec<Packet> = udp(client, &server).data(&[9; 3000]).pieces(1480);
        let pieces: Vec<Packet> = pieces.into_iter().zip(40..).map(|(piece, hops)| inward(piece.hops(hops))).collect();
        let put: Vec<_> = pieces.iter().cloned().rev().map(|piece| (OUTSIDE, piece)).collect();
        let out: Vec<_> = pieces.iter().cloned().map(|piece| (INSIDE, piece)).collect();
        rig.put(put[0].0, &put[0].1);
        rig.settle();
        assert_eq!(rig.take().len(), 0, "the last one alone");
        for (side, piece) in &put[1..] {
            rig.put(*side, piece);
        }
        rig.settle();
        let mut came = rig.take();
        came.sort();
        let mut wanted: Vec<_> = out.iter().map(|(side, piece)| (*side, rig.outward(*side, piece))).collect();
        wanted.sort();
        assert_eq!(came, wanted);
        let denied = udp(client, &server.replace(":53", ":54")).data(&[9; 3000]).id(77).pieces(1480);
        let denied: Vec<_> = denied.into_iter().map(|piece| (OUTSIDE, inward(piece))).collect();
        rig.drops_all("denied as a whole", &denied, FirewallDenied);
        let whole = udp(client, &server).data(&[9; 600]).id(78).pieces(304);
        let evil = udp(client, &server).data(&[6; 600]).id(78).pieces(304);
        let shifted = [
            (OUTSIDE, inward(whole[0].clone())),
            (OUTSIDE, inward(evil[0].clone())),
            (OUTSIDE, inward(whole[1].clone())),
        ];
        rig.drops_all("EVA-03: overlapping", &shifted, FragmentOverlap);
    }
}

/// What a service at this address is called.
fn name_of(address: &str) -> String {
    format!("shop-{}", address.replace("::", "-").replace([':', '.'], "-"))
}

/// A service of these backends, and what else there is to it.
fn service(address: &str, keys: &str, backends: &[&str]) -> String {
    let backends = backends
        .iter()
        .zip('a'..)
        .map(|(address, name)| format!("[[virtual_service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
    format!(
        "[[virtual_service]]\nname = \"{}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
         health = {{ kind = \"none\" }}\n{keys}\n{}",
        name_of(address),
        backends.collect::<String>()
    )
}

/// The service in line, its client, and two backends, of each family.
const SHOPS: [(&str, &str, [&str; 2]); 2] = [
    ("203.0.113.7:40000", "198.51.100.10", ["198.51.100.21", "198.51.100.22"]),
    ("[2001:db8:99::7]:40000", "2001:db8:51::10", ["2001:db8:51::21", "2001:db8:51::22"]),
];

fn at(address: &str, port: u16) -> String {
    millrace_tests::packet::end(address, port)
}

/// RLD-11: what passes in line, and what is led to a backend there, goes on in the next process.
#[test]
fn sessions_in_line_outlive_the_process() {
    for ((client, shop, [backend, other]), (asker, asked)) in SHOPS.into_iter().zip(ENDS) {
        let policy = format!("{JOINED}{ALLOW}{}", service(shop, "", &[backend]));
        let mut rig = Rig::of(&policy);
        let mac = station(backend.parse().unwrap());
        let (virtual_end, served) = (at(shop, 80), at(backend, 80));
        let up = |what: &dyn Fn(Packet) -> Packet| {
            let came = inward(what(tcp(client, &virtual_end).hops(3)));
            let left = inward(what(tcp(client, &served).hops(3))).destination_mac(mac);
            ((OUTSIDE, came), (INSIDE, left))
        };
        let down = |what: &dyn Fn(Packet) -> Packet| {
            let came = what(tcp(&served, client).hops(9)).source_mac(mac).destination_mac(ROUTER);
            let left = what(tcp(&virtual_end, client).hops(9)).source_mac(mac).destination_mac(ROUTER);
            ((INSIDE, came), (OUTSIDE, left))
        };
        rig.passes("SYN", up(&|p| p.syn().seq(1000)));
        rig.passes("SYN-ACK", down(&|p| p.syn_ack(1001).seq(5000)));
        let asker = asker.replace("40000", "40001");
        passes(&mut rig, "another's SYN", OUTSIDE, &inward(tcp(&asker, asked).syn().seq(1)));
        passes(&mut rig, "a backend's own", OUTSIDE, &inward(tcp(&asker, &served).syn().seq(1)));
        assert_eq!((rig.session_count(), rig.active(&name_of(shop))), (3, vec![2]));
        let (images, left_out) = rig.images();
        let (mut rig, refused) = Rig::heir(&policy, Layout::default(), &images, units::Nanos::from_millis(300));
        assert_eq!((left_out, refused.len(), rig.active(&name_of(shop))), (0, 0, vec![2]), "{refused:?}");
        passes(&mut rig, "its answer", INSIDE, &outward(tcp(asked, &asker).syn_ack(2).seq(7)));
        passes(&mut rig, "the backend's", INSIDE, &outward(tcp(&served, &asker).syn_ack(2).seq(7)));
        rig.passes("ACK", up(&|p| p.ack(5001).seq(1001)));
        rig.passes("data", down(&|p| p.ack(1001).seq(5001).data(b"200")));
        rig.passes("data", up(&|p| p.ack(5004).seq(1001).data(b"GET /")));
        let apart = policy.replace("\"inside\"", "\"within\"");
        let (rig, refused) = Rig::heir(&apart, Layout::default(), &images, units::Nanos::from_millis(300));
        assert_eq!((refused, rig.session_count()), ([("no_port", 3)].into(), 0), "another port");
        let elsewhere = format!("{JOINED}{ALLOW}{}", service(shop, "", &[other]));
        let (rig, refused) = Rig::heir(&elsewhere, Layout::default(), &images, units::Nanos::from_millis(300));
        assert_eq!((refused, rig.session_count()), ([("no_backend", 2)].into(), 1));
    }
}

/// SE-15, SE-18, SE-43: a service's clients are taken out of what passes and led to a backend, and its answers turned back.
/// Only addresses change, and the backend's MAC.
#[test]
fn a_service_is_served_in_line() {
    for (client, shop, [backend, _]) in SHOPS {
        let mut rig = bump(&format!("{ALLOW}{}", service(shop, "", &[backend])));
        let (asked, served) = (at(shop, 80), at(backend, 80));
        let mac = station(backend.parse().unwrap());
        for tags in [&[][..], &[30]] {
            let client = client.replace("40000", &format!("{}", 40_000 + tags.len()));
            let tagged = |packet: Packet| tags.iter().fold(packet, |packet, &vlan| packet.tagged(vlan));
            let up = |what: &dyn Fn(Packet) -> Packet| {
                let came = tagged(inward(what(tcp(&client, &asked).hops(3))));
                let left = tagged(inward(what(tcp(&client, &served).hops(3))).destination_mac(mac));
                ((OUTSIDE, came), (INSIDE, left))
            };
            let down = |what: &dyn Fn(Packet) -> Packet| {
                let came = tagged(what(tcp(&served, &client).hops(9)).source_mac(mac).destination_mac(ROUTER));
                let left = tagged(what(tcp(&asked, &client).hops(9)).source_mac(mac).destination_mac(ROUTER));
                ((INSIDE, came), (OUTSIDE, left))
            };
            rig.passes("SYN", up(&|p| p.syn().seq(1000)));
            rig.passes("SYN again", up(&|p| p.syn().seq(1000)));
            rig.passes("SYN-ACK", down(&|p| p.syn_ack(1001).seq(5000)));
            for _ in 0..3 {
                rig.passes("data", down(&|p| p.ack(1001).seq(5001).data(b"200")));
                rig.passes("data", up(&|p| p.ack(5001).seq(1001).data(b"GET /")));
            }
        }
        assert_eq!(rig.active(&name_of(shop)), [2]);
        // An error on the way to the backend is about what the client has sent.
        let six = client.contains('[');
        let (kind, router) = if six { (1, "2001:db8:51::1") } else { (3, "198.51.100.1") };
        let sent = |end: &str| tcp(client, end).syn().seq(1000).hops(3);
        let came = outward(icmp_error(router, host(client), kind, 1, 0, &sent(&served), 200));
        // Said in the service's name, as behind any translation.
        let left = outward(icmp_error(shop, host(client), kind, 1, 0, &sent(&asked), 200));
        rig.case("an error", &[(INSIDE, came)], &[(OUTSIDE, left)], &[]);
    }
}

/// SE-23: while some worker does not have a service yet, its packets pass as they came, whichever worker gets them.
#[test]
fn a_service_takes_nothing_in_before_every_worker_has_it() {
    for (client, shop, [backend, _]) in SHOPS {
        let two = Layout { workers: 2, queues: 2, ..Layout::default() };
        let mut rig = Rig::laid_out(&format!("{JOINED}{ALLOW}"), two);
        let served = rig.send_policy(&format!("{JOINED}{ALLOW}{}", service(shop, "", &[backend])));
        let from = |port: u16| client.replace("40000", &port.to_string());
        let syn = |end: &str, port| inward(tcp(&from(port), end).syn().seq(1000));
        let asked = [at(shop, 80), at(backend, 80)];
        let early: Vec<Packet> = (1..=16).flat_map(|port| asked.iter().map(move |end| syn(end, port))).collect();
        rig.control();
        rig.turn_one(0);
        rig.control();
        early.iter().for_each(|packet| rig.put(OUTSIDE, packet));
        rig.turn_one(0);
        assert!(served.try_recv().is_err(), "one worker has the new policy, one has not");
        // The other one meets its own packets, and those it is handed, from the turn on in which it moves on. Control, which
        // would end the silence, does not hear of that yet.
        for _ in 0..8 {
            rig.turn_one(1);
            rig.turn_one(0);
        }
        rig.collect();
        let mut came = rig.take();
        let mut wanted: Vec<_> = early.iter().map(|packet| (INSIDE, rig.outward(INSIDE, packet))).collect();
        came.sort();
        wanted.sort();
        assert!(came == wanted, "{shop}: as they came, {} of {}", came.len(), wanted.len());
        rig.settle();
        assert!(served.try_recv().is_ok());
        assert_eq!(rig.active(&name_of(shop)), [0], "nobody was taken in");
        let mac = station(backend.parse().unwrap());
        let left = syn(&asked[1], 17).destination_mac(mac);
        rig.case("from now on", &[(OUTSIDE, syn(&asked[0], 17))], &[(INSIDE, left)], &[]);
        assert_eq!(rig.active(&name_of(shop)), [1]);
        passes(&mut rig, "what has passed goes on as it was", OUTSIDE, &early[0]);
    }
}

/// SE-23: a service that gets a port more goes on with those it had, whichever worker its clients meet: only the new port passes
/// as it came while some worker does not have it yet.
#[test]
fn a_service_goes_on_while_it_gets_more_ports() {
    for (client, shop, [backend, _]) in SHOPS {
        let two = Layout { workers: 2, queues: 2, ..Layout::default() };
        let with = |ports: &str| {
            let service = service(shop, "", &[backend]).replace("ports = [\"80\"]", &format!("ports = [{ports}]"));
            format!("{JOINED}{ALLOW}{service}")
        };
        let mut rig = Rig::laid_out(&with("\"80-81\""), two);
        let syn = |end: &str, port: u16| inward(tcp(&client.replace("40000", &port.to_string()), end).syn().seq(1000));
        let mac = station(backend.parse().unwrap());
        let led = |asked: u16, port| syn(&at(backend, asked), port).destination_mac(mac);
        // Enough of them that both workers know the backend's MAC.
        for port in 100..116 {
            rig.case("before", &[(OUTSIDE, syn(&at(shop, 80), port))], &[(INSIDE, led(80, port))], &[]);
        }
        let served = rig.send_policy(&with("\"443\", \"81-90\", \"80\""));
        let early: Vec<Packet> =
            (1..=16).flat_map(|port| [80, 81, 82, 443].map(|asked| syn(&at(shop, asked), port))).collect();
        rig.control();
        rig.turn_one(0);
        rig.control();
        early.iter().for_each(|packet| rig.put(OUTSIDE, packet));
        rig.turn_one(0);
        assert!(served.try_recv().is_err(), "one worker has the new policy, one has not");
        for _ in 0..8 {
            rig.turn_one(1);
            rig.turn_one(0);
        }
        rig.collect();
        let mut came = rig.take();
        let known = (1..=16).flat_map(|port| [80, 81].map(|asked| led(asked, port)));
        let new = (1..=16).flat_map(|port| [82, 443].map(|asked| syn(&at(shop, asked), port)));
        let mut wanted: Vec<_> = known.chain(new).map(|packet| (INSIDE, rig.outward(INSIDE, &packet))).collect();
        came.sort();
        wanted.sort();
        assert!(came == wanted, "{shop}: {} of {}", came.len(), wanted.len());
        rig.settle();
        assert!(served.try_recv().is_ok());
        assert_eq!(rig.active(&name_of(shop)), [48]);
        rig.case("from now on", &[(OUTSIDE, syn(&at(shop, 443), 98))], &[(INSIDE, led(443, 98))], &[]);
    }
}

/// SE-17: what nobody registered is not intercepted; SE-15: a registered backend is, by its own address and port.
#[test]
fn only_what_is_registered_is_taken_in() {
    for (client, shop, [backend, _]) in SHOPS {
        let mut rig = bump(&format!("{ALLOW}{}", service(shop, "", &[backend])));
        let name = name_of(shop);
        passes(&mut rig, "another port of the service", OUTSIDE, &inward(tcp(client, &at(shop, 81)).syn().seq(1)));
        passes(&mut rig, "another protocol", OUTSIDE, &inward(udp(client, &at(shop, 80))));
        passes(&mut rig, "a ping of the service", OUTSIDE, &inward(ping(host(client), shop, 1)));
        passes(&mut rig, "and its answer", INSIDE, &outward(pong(shop, host(client), 1)));
        passes(&mut rig, "another port of a backend", OUTSIDE, &inward(tcp(client, &at(backend, 22)).syn().seq(1)));
        assert_eq!(rig.active(&name), [0]);
        passes(&mut rig, "a backend by its own address", OUTSIDE, &inward(tcp(client, &at(backend, 80)).syn().seq(1)));
        passes(&mut rig, "its answer", INSIDE, &outward(tcp(&at(backend, 80), client).syn_ack(2).seq(5)));
        assert_eq!(rig.active(&name), [1], "it counts as the backend's");
        passes(
            &mut rig,
            "who asks for a service's MAC",
            OUTSIDE,
            &arp_request("198.51.100.1", "198.51.100.10").source_mac(ROUTER).tagged(1),
        );
    }
}

/// SE-18, SE-22: with direct return only the destination's MAC changes, and answers go past the appliance, or through it.
#[test]
fn direct_return_changes_a_mac_and_nothing_else() {
    for (client, shop, [backend, _]) in SHOPS {
        let mut rig = bump(&format!("{ALLOW}{}", service(shop, "mode = \"direct\"", &[backend])));
        let mac = station(backend.parse().unwrap());
        for answers_pass in [false, true] {
            let client = client.replace("40000", if answers_pass { "40001" } else { "40002" });
            let up = |what: &dyn Fn(Packet) -> Packet| {
                let came = inward(what(tcp(&client, &at(shop, 80)).hops(1)));
                ((OUTSIDE, came.clone()), (INSIDE, came.destination_mac(mac)))
            };
            let answer = |what: &dyn Fn(Packet) -> Packet| {
                what(tcp(&at(shop, 80), &client)).source_mac(mac).destination_mac(ROUTER)
            };
            rig.passes("SYN", up(&|p| p.syn().seq(1000)));
            if answers_pass {
                passes(&mut rig, "SYN-ACK", INSIDE, &answer(&|p| p.syn_ack(1001).seq(5000)));
            }
            rig.passes("ACK", up(&|p| p.ack(5001).seq(1001)));
            rig.passes("data", up(&|p| p.ack(5001).seq(1001).data(b"GET /")));
            if answers_pass {
                passes(&mut rig, "data", INSIDE, &answer(&|p| p.ack(1006).seq(5001).data(b"200")));
            }
            rig.passes("later", up(&|p| p.ack(90_000).seq(1006).data(b"GET /")));
        }
    }
}

/// The backend's MAC comes from the backend: it is asked, or heard when it speaks of itself.
#[test]
fn a_backend_is_asked_for_or_overheard() {
    let (client, shop, [backend, _]) = SHOPS[0];
    let mut rig = bump(&format!("{ALLOW}{}", service(shop, "", &[backend])));
    rig.silence(backend);
    let syn = inward(tcp(client, &at(shop, 80)).syn().seq(1));
    rig.case("it waits for the backend", &[(OUTSIDE, syn.clone())], &[], &[]);
    rig.overhear();
    let mac = MacAddr::new([2, 9, 9, 9, 9, 9]);
    let says = arp_reply(mac, backend, GATEWAY, "198.51.100.1").tagged(12);
    let left = inward(tcp(client, &at(backend, 80)).syn().seq(1)).destination_mac(mac);
    rig.case("it speaks", &[(INSIDE, says.clone())], &[(OUTSIDE, says), (INSIDE, left)], &[]);
}

/// SE-54: in line nobody's MAC is kept, so whoever speaks next is told that the backend is gone.
#[test]
fn a_failed_backend_ends_its_sessions_with_their_next_packet() {
    let (client, shop, [backend, other]) = SHOPS[0];
    let with_address = JOINED.replace("zone = \"dmz\"\n", "zone = \"dmz\"\naddresses = [\"198.51.100.1/24\"]\n");
    let shop_text = service(shop, "algorithm = \"round-robin\"", &[backend, other]).replace("\"none\"", "\"tcp\"");
    let mut rig = Rig::of(&format!("{with_address}{ALLOW}{shop_text}"));
    let mac = station(backend.parse().unwrap());
    let up = |what: &dyn Fn(Packet) -> Packet| inward(what(tcp(client, &at(shop, 80))));
    let syn = inward(tcp(client, &at(backend, 80)).syn().seq(1000)).destination_mac(mac);
    rig.case("SYN", &[(OUTSIDE, up(&|p| p.syn().seq(1000)))], &[(INSIDE, syn)], &[]);
    let answer = |end: &str| tcp(&at(end, 80), client).syn_ack(1001).seq(5000).source_mac(mac).destination_mac(ROUTER);
    rig.case("SYN-ACK", &[(INSIDE, answer(backend))], &[(OUTSIDE, answer(shop))], &[]);
    let ack = inward(tcp(client, &at(backend, 80)).ack(5001).seq(1001)).destination_mac(mac);
    rig.case("ACK", &[(OUTSIDE, up(&|p| p.ack(5001).seq(1001)))], &[(INSIDE, ack)], &[]);
    rig.health(&name_of(shop), "a", Health::Failed);
    let told = outward(tcp(&at(shop, 80), client).rst().seq(5001).window(0).atomic());
    rig.put(OUTSIDE, &up(&|p| p.ack(5001).seq(1001).data(b"x")));
    rig.settle();
    rig.came("the client is told", &[(OUTSIDE, told)]);
    assert_eq!((rig.dropped(BackendFailed), rig.session_count()), (1, 0));
}

/// SE-14, SE-19, SE-20: on a paired port with addresses, services of its own address beside those in line, and services that
/// others direct here: only in the first case does the appliance answer for the address.
#[test]
fn own_address_and_external_stand_beside_inline() {
    let ports = JOINED
        .replace("zone = \"wan\"\n", "zone = \"wan\"\naddresses = [\"198.51.100.1/24\", \"2001:db8:51::1/64\"]\n");
    let own = service("198.51.100.2", "attract = \"own-address\"", &["192.0.2.11"]);
    let external = service("198.51.100.3", "attract = \"external\"", &["192.0.2.12"]);
    let line = service("198.51.100.10", "", &["198.51.100.21"]);
    let mut rig = Rig::of(&format!("{ports}{ALLOW}{own}{external}{line}"));
    rig.overhear();
    let asks = |target: &str| arp_request("198.51.100.7", target);
    let here = rig.mac(OUTSIDE);
    for address in ["198.51.100.1", "198.51.100.2"] {
        let answer = arp_reply(here, address, station("198.51.100.7".parse().unwrap()), "198.51.100.7");
        rig.case("ours", &[(OUTSIDE, asks(address))], &[(OUTSIDE, answer)], &[]);
    }
    for address in ["198.51.100.3", "198.51.100.10", "198.51.100.99"] {
        passes(&mut rig, "not ours to answer for", OUTSIDE, &asks(address));
    }
    passes(&mut rig, "asked on the other side, where the address is not", INSIDE, &asks("198.51.100.1"));
    let poisoned = arp_request("198.51.100.1", "198.51.100.1");
    rig.drops_all("EVA-26: somebody claims our address", &[(INSIDE, poisoned)], ArpUnwanted);
    let six = solicitation("2001:db8:51::7", "2001:db8:51::1");
    rig.put(OUTSIDE, &six);
    rig.settle();
    assert!(matches!(rig.take().as_slice(), [(OUTSIDE, _)]), "answered, not passed on");
    let spoofed = inward(udp("198.51.100.1:1", "198.51.100.80:53"));
    rig.drops_all("nobody sends from our address", &[(OUTSIDE, spoofed)], SourceOwnAddress);
}

/// The appliance's addresses are on the untagged link: in a VLAN that passes others may have them, and say so to each other;
/// nothing they say changes what the appliance knows of its own neighbors.
#[test]
fn who_has_the_appliances_address_in_a_vlan_is_left_alone() {
    let ports = JOINED
        .replace("zone = \"wan\"\n", "zone = \"wan\"\naddresses = [\"198.51.100.1/24\", \"2001:db8:51::1/64\"]\n");
    let mut rig = Rig::of(&format!("{ports}{ALLOW}"));
    rig.overhear();
    let (own, host, own6, host6) = ("198.51.100.1", "198.51.100.7", "2001:db8:51::1", "2001:db8:51::7");
    let ours = ping(host, own, 4);
    rig.case("a neighbor", &[(OUTSIDE, ours.clone())], &[(OUTSIDE, pong(own, host, 4))], &[]);
    let guest = MacAddr::new([2, 6, 6, 6, 6, 6]);
    let rows = [
        ("a question in its VLAN", arp_request(host, own).source_mac(guest)),
        ("an answer there", arp_reply(guest, own, GATEWAY, host)),
        ("a claim there", arp_request(own, own).source_mac(guest)),
        ("a solicitation there", solicitation(host6, own6).source_mac(guest)),
        ("an advertisement there", neighbor_advertisement(guest, own6, host6, 0x60).destination_mac(GATEWAY)),
        ("a packet of the router there", inward(udp(&at(own, 1), &at("198.51.100.80", 53)))),
        ("and of the other family", inward(udp(&at(own6, 1), &at("2001:db8:51::80", 53)))),
    ];
    for (sentence, packet) in rows {
        for side in [OUTSIDE, INSIDE] {
            passes(&mut rig, sentence, side, &packet.clone().tagged(20));
        }
    }
    assert!(rig.notes().is_empty(), "nobody is alarmed");
    rig.case("its neighbor is where it was", &[(OUTSIDE, ours)], &[(OUTSIDE, pong(own, host, 4))], &[]);
}

/// Who has the appliance's address in a VLAN opens sessions there like anybody else. None of them keeps the appliance from its own
/// conversations, with the same ends and ports (its probes, its routing protocols): those come first.
#[test]
fn nothing_in_a_vlan_keeps_the_appliance_from_its_own_conversations() {
    let ports = JOINED
        .replace("zone = \"wan\"\n", "zone = \"wan\"\naddresses = [\"198.51.100.1/24\", \"2001:db8:51::1/64\"]\n");
    for (own, far) in [("198.51.100.1", "198.51.100.7"), ("2001:db8:51::1", "2001:db8:51::7")] {
        let mut rig = Rig::of(&format!("{ports}{ALLOW}"));
        rig.overhear();
        for (number, opener, refused) in [(1, OUTSIDE, SourceOwnAddress), (2, INSIDE, TupleInUse)] {
            let (ours, theirs) = (at(own, 5000 + number), at(far, 179));
            let there = if opener == INSIDE { udp(&theirs, &ours) } else { udp(&ours, &theirs) };
            let there = inward(there).tagged(20);
            passes(&mut rig, "in a VLAN", opener, &there);
            let said = udp(&ours, &theirs);
            rig.passes("what the kernel says", ((OUTSIDE_KERNEL, said.clone()), (OUTSIDE, said)));
            let answer = udp(&theirs, &ours);
            rig.passes("and hears", ((OUTSIDE, answer.clone()), (OUTSIDE_KERNEL, answer)));
            rig.case("who was there before", &[(opener, there)], &[], &[refused]);
        }
        let (ours, theirs) = (at(own, 22), at(far, 40_000));
        passes(&mut rig, "in a VLAN", OUTSIDE, &inward(tcp(&theirs, &ours).syn().seq(1)).tagged(20));
        let syn = tcp(&theirs, &ours).syn().seq(7);
        rig.passes("who asks for the appliance", ((OUTSIDE, syn.clone()), (OUTSIDE_KERNEL, syn)));
    }
}

/// SE-20, SE-24: packets with the port's own MAC are routed and served there; others pass. Each packet is one or the other.
#[test]
fn what_is_for_the_port_itself_is_routed() {
    let ports = JOINED.replace("zone = \"wan\"\n", "zone = \"wan\"\naddresses = [\"198.51.100.1/24\"]\n");
    let external = service("198.51.100.3", "attract = \"external\"", &["192.0.2.12"]);
    let mut rig = Rig::of(&format!("{ports}{ALLOW}{external}"));
    let client = "198.51.100.7:40000";
    let syn = tcp(client, "198.51.100.3:80").syn().seq(1);
    let served = tcp(client, "192.0.2.12:80").syn().seq(1).routed();
    rig.case("to the port's MAC", &[(OUTSIDE, syn.clone())], &[(EAST, served)], &[]);
    let answer = tcp("192.0.2.12:80", client).syn_ack(2).seq(9);
    let back = tcp("198.51.100.3:80", client).syn_ack(2).seq(9).routed();
    rig.case("its answer", &[(EAST, answer)], &[(OUTSIDE, back)], &[]);
    rig.case("the same conversation in line", &[(OUTSIDE, inward(syn))], &[], &[TupleInUse]);
    let elsewhere = tcp("198.51.100.8:1", "198.51.100.3:80").syn().seq(1);
    passes(&mut rig, "to another MAC it passes", OUTSIDE, &inward(elsewhere));
    let ours = ping("198.51.100.9", "198.51.100.1", 4);
    rig.case("a ping of the port", &[(OUTSIDE, ours)], &[(OUTSIDE, pong("198.51.100.1", "198.51.100.9", 4))], &[]);
}

/// Routed and transparent ports live in one appliance.
#[test]
fn routed_ports_go_on_beside_a_pair() {
    let mut rig = bump(ALLOW);
    let routed = udp("192.0.2.7:1", "192.0.2.200:53");
    rig.case("routed", &[(EAST, routed.clone())], &[(WEST, routed.clone().routed())], &[]);
    let other = udp("192.0.2.8:1", "192.0.2.200:53");
    passes(&mut rig, "the same networks in line", OUTSIDE, &inward(other.clone()));
    rig.case("a conversation goes one way", &[(EAST, other)], &[], &[TupleInUse]);
    rig.case("or the other", &[(OUTSIDE, inward(routed))], &[], &[TupleInUse]);
    let foreign = udp("192.0.2.9:1", "192.0.2.200:53").destination_mac(GATEWAY);
    rig.drops_all("at a routed port another's frame is nobody's", &[(EAST, foreign)], DropReason::NotOurMac);
}

/// SE-16: for one received packet at most one leaves: 1,000 in, transmitted and dropped are 1,000.
#[test]
fn nothing_is_replicated() {
    let (client, shop, [backend, other]) = SHOPS[0];
    let mut rig = bump(&format!("{WEB}{}", service(shop, "", &[backend, other])));
    let mut left = 0;
    for number in 0..1_000_u16 {
        let from = client.replace("40000", &format!("{}", 20_000 + number));
        let packet = match number % 5 {
            0 => inward(tcp(&from, &at(shop, 80)).syn().seq(1)),
            1 => inward(udp(&from, "198.51.100.80:53")),
            2 => ethernet(ROUTER, MacAddr::BROADCAST, 0x88b5, b"all"),
            3 => inward(tcp(&from, "198.51.100.80:80").syn().seq(1)).tagged(7),
            _ => inward(tcp(&from, "198.51.100.80:80").ack(1)),
        };
        rig.put(OUTSIDE, &packet);
        rig.settle();
        left += rig.take().len();
    }
    let dropped: u64 = rig.drops().values().sum();
    assert_eq!((left as u64 + dropped, left), (1_000, 600));
    rig.assert_accounted();
}

/// Whichever worker receives a packet, the one that owns its session treats it; the frame leaves as it came.
#[test]
fn several_workers_do_what_one_does() {
    let shops: String =
        SHOPS.iter().map(|(_, shop, backends)| service(shop, "algorithm = \"source-hash\"", backends)).collect();
    let layout = Layout { workers: 3, queues: 3, buffers: 4_096 };
    let mut rig = Rig::laid_out(&format!("{JOINED}{ALLOW}{shops}"), layout);
    for ((client, server), (_, shop, backends)) in ENDS.into_iter().zip(SHOPS) {
        for number in 0..24 {
            let client = client.replace("40000", &format!("{}", 40_000 + number));
            passes(&mut rig, "SYN", OUTSIDE, &inward(tcp(&client, server).syn().seq(1000)));
            passes(&mut rig, "SYN-ACK", INSIDE, &outward(tcp(server, &client).syn_ack(1001).seq(5000)));
            passes(&mut rig, "in a tag", OUTSIDE, &inward(tcp(&client, server).ack(5001).seq(1001)).tagged(3));
            let syn = inward(tcp(&client, &at(shop, 80)).syn().seq(1000));
            rig.put(OUTSIDE, &syn);
            rig.settle();
            let out = rig.take();
            let [(INSIDE, bytes)] = out.as_slice() else { panic!("{out:?}") };
            let chosen = backends.iter().find(|backend| bytes[..6] == station(backend.parse().unwrap()).octets());
            let end = at(chosen.expect("a backend's MAC"), 80);
            let came = outward(tcp(&end, &client).syn_ack(1001).seq(5000));
            let left = outward(tcp(&at(shop, 80), &client).syn_ack(1001).seq(5000));
            rig.case("its answer", &[(INSIDE, came)], &[(OUTSIDE, left)], &[]);
        }
    }
    assert!(rig.sessions_by_worker().iter().all(|&sessions| sessions > 0), "{:?}", rig.sessions_by_worker());
}
