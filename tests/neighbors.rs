//! Neighbors: ARP and neighbor discovery both ways, packets that wait for a next hop, addresses announced, and claims to
//! addresses of ours that change nothing.

use std::net::IpAddr;

use control::event::Note;
use millrace_tests::packet::{
    Packet, advertisement, arp_reply, arp_request, end, host, icmp_error, neighbor_advertisement, solicitation,
    station, udp,
};
use millrace_tests::rig::Layout;
use millrace_tests::{ADDRESSES, INSIDE, INSIDE_KERNEL, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
use stage::DropReason::{ArpUnwanted, NeighborDiscoveryInvalid, NeighborQueueFull, NeighborUnresolved};
use units::Nanos;
use wire::MacAddr;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

fn mac_of(address: &str) -> MacAddr {
    station(address.parse().unwrap())
}

/// A rig whose stations answer nothing by themselves, its announcements heard.
fn overheard(text: &str) -> Rig {
    let mut rig = Rig::new(text);
    // Until every announcement has been made.
    for _ in 0..5 {
        rig.leap(Nanos::from_millis(100));
    }
    rig.overhear();
    rig.take();
    rig
}

/// RFC 826, RFC 1027: every address of the appliance on this link is answered for, and no other.
#[test]
fn arp_is_answered_for_every_address_of_the_appliance_on_that_link() {
    let mut rig = overheard(ADDRESSES);
    for address in ["198.51.100.1", "198.51.100.10", "198.51.100.20"] {
        let answer = arp_reply(rig.mac(OUTSIDE), address, mac_of("198.51.100.7"), "198.51.100.7");
        rig.case(address, &[(OUTSIDE, arp_request("198.51.100.7", address))], &[(OUTSIDE, answer)], &[]);
    }
    let padded = arp_request("198.51.100.7", "198.51.100.1").padded(&[0; 18]);
    let answer = arp_reply(rig.mac(OUTSIDE), "198.51.100.1", mac_of("198.51.100.7"), "198.51.100.7");
    rig.case("padded to 60 bytes", &[(OUTSIDE, padded)], &[(OUTSIDE, answer)], &[]);
    for address in ["198.51.100.2", "10.0.0.1", "10.0.0.11", "203.0.113.1"] {
        rig.drops_all(address, &[(OUTSIDE, arp_request("198.51.100.7", address))], ArpUnwanted);
    }
    rig.drops_all(
        "a virtual address of another link",
        &[(INSIDE, arp_request("10.0.0.99", "198.51.100.10"))],
        ArpUnwanted,
    );
    let probe = arp_request("0.0.0.0", "198.51.100.1");
    let answer = arp_reply(rig.mac(OUTSIDE), "198.51.100.1", mac_of("0.0.0.0"), "0.0.0.0");
    rig.case("who probes for it learns that it is taken (RFC 5227)", &[(OUTSIDE, probe)], &[(OUTSIDE, answer)], &[]);
    assert!(rig.notes().is_empty());
}

/// RFC 4861 section 7.2.4.
#[test]
fn solicitations_are_answered_for_every_address_of_the_appliance_on_that_link() {
    let mut rig = overheard(ADDRESSES);
    let outside = rig.mac(OUTSIDE);
    for address in ["2001:db8:51::1", "2001:db8:51::10"] {
        let answer = neighbor_advertisement(outside, address, "2001:db8:51::7", 0xe0);
        rig.case(address, &[(OUTSIDE, solicitation("2001:db8:51::7", address))], &[(OUTSIDE, answer)], &[]);
    }
    let unicast = solicitation("2001:db8:51::7", "2001:db8:51::1").to("2001:db8:51::1");
    let answer = neighbor_advertisement(outside, "2001:db8:51::1", "2001:db8:51::7", 0xe0);
    rig.case("asked of it alone", &[(OUTSIDE, unicast)], &[(OUTSIDE, answer)], &[]);
    let answer = neighbor_advertisement(outside, "2001:db8:51::1", "ff02::1", 0xa0);
    let duplicate = solicitation("::", "2001:db8:51::1").source_mac(mac_of("2001:db8:51::66"));
    rig.case("who wants it for himself is told before all", &[(OUTSIDE, duplicate)], &[(OUTSIDE, answer)], &[]);
    let far = solicitation("2001:db8:51::7", "2001:db8:51::1").hops(254);
    rig.drops_all("EVA-26: from beyond the link", &[(OUTSIDE, far)], NeighborDiscoveryInvalid);
    for kind in [133_u8, 134, 137] {
        let message = millrace_tests::packet::icmp("fe80::7", "ff02::1", kind, 0, 0, &[0; 32]).hops(255);
        rig.drops_all("router messages and redirects", &[(OUTSIDE, message)], stage::DropReason::IcmpUnwanted);
    }
    let other = solicitation("2001:db8:51::7", "2001:db8:51::2");
    rig.case("for somebody else: the kernel may care", &[(OUTSIDE, other.clone())], &[(OUTSIDE_KERNEL, other)], &[]);
}

/// What ARP and neighbor discovery ask, byte for byte.
fn question(rig: &Rig, side: Side, source: &str, target: &str) -> (Side, Packet) {
    let packet = if target.contains(':') {
        let asks = solicitation(source, target).source_mac(rig.mac(side));
        // The option holds the appliance's MAC, not that of a station: written over, and summed anew.
        let mut data = target.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
        data.extend([1, 1]);
        data.extend(rig.mac(side).octets());
        asks.data(&data)
    } else {
        let mut asks = arp_request(source, target).source_mac(rig.mac(side));
        asks = asks.spoilt(22, &rig.mac(side).octets());
        asks
    };
    (side, packet)
}

/// RFC 4861 section 7.2.2, RFC 1122 section 2.3.2.2: packets wait while their next hop is asked for, and leave in order.
#[test]
fn packets_wait_for_their_next_hop_and_leave_in_order() {
    for (client, server, own) in
        [("198.51.100.7:1", "10.0.0.11:1", "10.0.0.1"), ("[2001:db8:51::7]:1", "[2001:db8:10::11]:1", "2001:db8:10::1")]
    {
        let mut rig = overheard(ALLOW);
        let target = host(server);
        let packet = |data: u8| udp(client, server).data(&[data]);
        let asks = question(&rig, INSIDE, own, target);
        rig.case("the first packet asks", &[(OUTSIDE, packet(0))], &[asks], &[]);
        let waiting: Vec<_> = (1..16).map(|data| (OUTSIDE, packet(data))).collect();
        rig.case("more wait and do not ask again", &waiting, &[], &[]);
        rig.drops_all("the seventeenth does not fit", &[(OUTSIDE, packet(16))], NeighborQueueFull);
        assert_eq!(rig.count(|c| &c.held), 16);
        let answer = if target.contains(':') {
            advertisement(target, own)
        } else {
            arp_reply(mac_of(target), target, rig.mac(INSIDE), own)
        };
        let mut out: Vec<_> = (0..16).map(|data| (INSIDE, packet(data).routed())).collect();
        out.push((INSIDE_KERNEL, answer.clone()));
        rig.case("the answer lets all go, in order; the kernel hears it too", &[(INSIDE, answer)], &out, &[]);
        rig.case("and the next goes at once", &[(OUTSIDE, packet(17))], &[(INSIDE, packet(17).routed())], &[]);
        assert_eq!(rig.count(|c| &c.held), 0);
    }
}

#[test]
fn what_waits_for_a_silent_next_hop_is_given_up_and_counted() {
    for (client, server, own, router, kind, code) in [
        ("198.51.100.7:1", "10.0.0.66:1", "10.0.0.1", "198.51.100.1", 3, 1),
        ("[2001:db8:51::7]:1", "[2001:db8:10::66]:1", "2001:db8:10::1", "2001:db8:51::1", 1, 3),
    ] {
        let mut rig = overheard(ALLOW);
        // The way back is known, so that refusals can be told without asking.
        let target = host(server);
        let sender = host(client);
        let packet = udp(client, server);
        let asks = question(&rig, INSIDE, own, target);
        rig.case("asked once", &[(OUTSIDE, packet.clone())], core::slice::from_ref(&asks), &[]);
        for _ in 0..2 {
            rig.leap(Nanos::from_millis(1_100));
            rig.came("and again a second later", core::slice::from_ref(&asks));
        }
        rig.leap(Nanos::from_millis(1_100));
        assert_eq!((rig.count(|c| &c.held), rig.dropped(NeighborUnresolved)), (0, 1), "three questions and no answer");
        rig.came("nobody is told of what waited", &[]);
        let mut told = icmp_error(router, sender, kind, code, 0, &packet, 500);
        if kind == 3 {
            told = told.class(0xc0);
        }
        rig.case(
            "for a while the next ones are refused at once",
            &[(OUTSIDE, packet.clone())],
            &[(OUTSIDE, told.atomic())],
            &[NeighborUnresolved],
        );
        rig.leap(Nanos::from_millis(1_100));
        rig.case("then it is asked for again", &[(OUTSIDE, packet)], &[asks], &[]);
    }
}

/// SE-19, RFC 5227 section 2.3: addresses are announced when they come into use, three times.
#[test]
fn every_address_is_announced_on_its_link_at_the_start_and_when_it_is_new() {
    let mut rig = overheard(ALLOW);
    rig.publish_more(ADDRESSES);
    let mut came = Vec::new();
    for _ in 0..5 {
        rig.leap(Nanos::from_millis(100));
        came.extend(rig.take());
    }
    let outside = rig.mac(OUTSIDE);
    let mut expected = Vec::new();
    for address in ["198.51.100.10", "198.51.100.20"] {
        let arp = arp_request(address, address).source_mac(outside).spoilt(22, &outside.octets());
        expected.push(rig.outward(OUTSIDE, &arp));
    }
    let advertised = neighbor_advertisement(outside, "2001:db8:51::10", "ff02::1", 0xa0);
    expected.push(rig.outward(OUTSIDE, &advertised));
    assert_eq!(came.len(), 9, "three addresses, three times");
    for packet in &expected {
        assert_eq!(came.iter().filter(|(side, bytes)| *side == OUTSIDE && bytes == packet).count(), 3);
    }
}

/// EVA-26: whoever claims an address of ours changes nothing, and the operator hears of it.
#[test]
fn a_claim_to_an_address_of_ours_changes_nothing_and_is_told() {
    let mut rig = overheard(ADDRESSES);
    let thief = MacAddr::new([2, 0x66, 0, 0, 0, 1]);
    let announces = |address: &str| arp_request(address, address).source_mac(thief).spoilt(22, &thief.octets());
    for address in ["198.51.100.1", "198.51.100.10", "198.51.100.20"] {
        rig.drops_all("a gratuitous request", &[(OUTSIDE, announces(address))], ArpUnwanted);
        let reply = arp_reply(thief, address, rig.mac(OUTSIDE), "198.51.100.1");
        rig.drops_all("a reply", &[(OUTSIDE, reply)], ArpUnwanted);
    }
    for address in ["2001:db8:51::1", "2001:db8:51::10"] {
        let claims = neighbor_advertisement(thief, address, "ff02::1", 0x20);
        rig.drops_all("an advertisement", &[(OUTSIDE, claims)], NeighborDiscoveryInvalid);
    }
    let notes = rig.notes();
    assert_eq!(notes.len(), 8);
    for note in &notes {
        let Note::Conflict { port, mac, .. } = note else { panic!("a conflict: {note:?}") };
        assert_eq!((*port, *mac), (OUTSIDE.port(), thief));
    }
    let answer = arp_reply(rig.mac(OUTSIDE), "198.51.100.1", mac_of("198.51.100.7"), "198.51.100.7");
    rig.case(
        "the address is still ours",
        &[(OUTSIDE, arp_request("198.51.100.7", "198.51.100.1"))],
        &[(OUTSIDE, answer)],
        &[],
    );
}

/// Gratuitous ARP never makes a neighbor, and may move one that is known (RFC 826; a failover of the other side).
#[test]
fn a_known_neighbor_may_move_and_an_unknown_one_is_not_made() {
    let mut rig = Rig::new(ALLOW);
    let packet = udp("198.51.100.7:1", "10.0.0.11:1");
    rig.passes("the neighbor is known", ((OUTSIDE, packet.clone()), (INSIDE, packet.clone().routed())));
    let new = MacAddr::new([2, 0x77, 0, 0, 0, 1]);
    let moves = |address: &str| arp_request(address, address).source_mac(new).spoilt(22, &new.octets());
    rig.put(INSIDE, &moves("10.0.0.11"));
    rig.put(INSIDE, &moves("10.0.0.12"));
    rig.settle();
    rig.take();
    let moved = packet.clone().routed().destination_mac(new);
    rig.passes("it has moved", ((OUTSIDE, packet.clone()), (INSIDE, moved)));
    let other = packet.to("10.0.0.12:1");
    rig.passes("the other is asked for as ever", ((OUTSIDE, other.clone()), (INSIDE, other.routed())));
}

/// What the operator placed is known before the first packet: a flood right after the start asks nobody and loses nothing.
#[test]
fn placed_neighbors_are_open_before_the_first_packet() {
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        let mac = mac_of(server);
        let mut rig =
            Rig::new(&format!("{ALLOW}[[neighbor]]\nport = \"inside\"\naddress = \"{server}\"\nmac = \"{mac}\"\n"));
        rig.silence(server);
        for port in 1..=100 {
            rig.put(OUTSIDE, &udp(&end(client, port), &end(server, 9)));
        }
        while rig.turn() {}
        rig.collect();
        let passed =
            (1..=100).map(|port| (INSIDE, udp(&end(client, port), &end(server, 9)).hops(63))).collect::<Vec<_>>();
        rig.came("a hundred first packets", &passed);
    }
}

/// SE-19, SE-23: virtual addresses and those that hide clients are neither answered for nor announced until every worker serves
/// them. From the moment the policy lets go of them they are not any more.
#[test]
fn an_address_is_silent_until_every_worker_serves_it() {
    let questions =
        ["198.51.100.10", "198.51.100.20", "2001:db8:51::10"].map(|address| match address.parse().unwrap() {
            IpAddr::V4(_) => arp_request("198.51.100.7", address),
            IpAddr::V6(_) => solicitation("2001:db8:51::7", address),
        });
    let two = Layout { workers: 2, queues: 2, ..Layout::default() };
    let mut rig = Rig::laid_out(TWO_PORTS, two);
    for _ in 0..5 {
        rig.leap(Nanos::from_millis(100));
    }
    rig.overhear();
    rig.take();
    let frames = |rig: &mut Rig| {
        rig.collect();
        rig.take().into_iter().filter(|(side, _)| *side == OUTSIDE).count()
    };
    let served = rig.send_policy(&format!("{TWO_PORTS}{ADDRESSES}"));
    rig.control();
    for _ in 0..5 {
        // Each question twice, one for each queue: the other worker's waits.
        questions.iter().for_each(|question| rig.put(OUTSIDE, question));
        questions.iter().for_each(|question| rig.put(OUTSIDE, question));
        rig.turn_one(0);
        rig.leap_only(Nanos::from_millis(100));
        rig.control();
    }
    assert_eq!(rig.snapshot().generation.get(), 2);
    assert_eq!((frames(&mut rig), served.try_recv().is_err()), (0, true), "one worker has it, one has not");
    rig.turn_one(1);
    assert_eq!(frames(&mut rig), 0, "it does not know that the other has it");
    rig.settle();
    assert!(served.try_recv().is_ok());
    rig.take();
    questions.iter().for_each(|question| rig.put(OUTSIDE, question));
    rig.settle();
    assert_eq!(frames(&mut rig), 3, "answers");
    rig.leap(Nanos::from_millis(100));
    assert_eq!(frames(&mut rig), 3, "announcements, the first of three");
    rig.publish(TWO_PORTS);
    questions.iter().for_each(|question| rig.put(OUTSIDE, question));
    for _ in 0..5 {
        rig.leap(Nanos::from_millis(100));
    }
    assert_eq!(frames(&mut rig), 0, "no longer ours");
}
