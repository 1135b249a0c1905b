//! Network life: routes, echo, hop limits, packets too big, the kernel beside each port, and what is for everybody or for
//! somebody else. ARP and neighbor discovery are in `neighbors`.

use frame::ReceivedChecksum;
use millrace_tests::packet::{arp_request, ethernet, icmp_error, ip, ping, pong, station, tcp, udp};
use millrace_tests::{ADDRESSES, INSIDE, OUTSIDE, OUTSIDE_KERNEL, Rig, TWO_PORTS};
use stage::DropReason::{
    ChainedBuffer, HopLimitExceeded, KernelFull, LinkLocalDestination, LinkLocalSource, MulticastUnwanted,
    NoKernelInterface, NoRoute, NoService, NotOurMac, PacketTooBig, SourceOwnAddress, TransmitFull, UnknownEthertype,
    UnknownVlan,
};
use units::Nanos;
use wire::{MacAddr, Malformed};

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

fn mac_of(address: &str) -> MacAddr {
    station(address.parse().unwrap())
}

#[test]
fn pings_of_own_and_virtual_addresses_are_answered_here() {
    let mut rig = Rig::new(ADDRESSES);
    for (client, address) in [
        ("198.51.100.7", "198.51.100.1"),
        ("198.51.100.7", "198.51.100.10"),
        ("198.51.100.7", "198.51.100.20"),
        ("198.51.100.7", "10.0.0.1"),
        ("2001:db8:51::7", "2001:db8:51::1"),
        ("2001:db8:51::7", "2001:db8:51::10"),
    ] {
        for identifier in [0, 1, 0xffff] {
            rig.case(
                address,
                &[(OUTSIDE, ping(client, address, identifier).hops(1))],
                &[(OUTSIDE, pong(address, client, identifier))],
                &[],
            );
        }
    }
    let from_afar = ping("203.0.113.9", "198.51.100.1", 5).via("198.51.100.254");
    let back = pong("198.51.100.1", "203.0.113.9", 5).via("198.51.100.254");
    rig.case("from behind a router", &[(OUTSIDE, from_afar)], &[(OUTSIDE, back)], &[]);
    let mut rig = Rig::new("[firewall]\ndefault = \"deny\"\n");
    let asks = ping("198.51.100.7", "198.51.100.1", 5);
    rig.drops_all("unless the firewall says no", &[(OUTSIDE, asks)], stage::DropReason::FirewallDenied);
}

/// RFC 1812 section 5.3.1, RFC 4443 section 3.3.
#[test]
fn a_packet_whose_hops_run_out_is_told_so() {
    let mut rig = Rig::new(ALLOW);
    for hops in [0, 1] {
        let packet = udp("198.51.100.7:1", "10.0.0.11:1").hops(hops);
        let told = icmp_error("198.51.100.1", "198.51.100.7", 11, 0, 0, &packet, 548).class(0xc0).atomic();
        rig.case("IPv4", &[(OUTSIDE, packet)], &[(OUTSIDE, told)], &[HopLimitExceeded]);
        let packet = udp("[2001:db8:51::7]:1", "[2001:db8:10::11]:1").hops(hops);
        let told = icmp_error("2001:db8:51::1", "2001:db8:51::7", 3, 0, 0, &packet, 1_232);
        rig.case("IPv6", &[(OUTSIDE, packet)], &[(OUTSIDE, told)], &[HopLimitExceeded]);
    }
    let packet = udp("198.51.100.7:1", "10.0.0.11:1").hops(2);
    rig.passes("two are enough", ((OUTSIDE, packet.clone()), (INSIDE, packet.hops(1))));
}

#[test]
fn what_no_route_leads_to_is_refused() {
    let mut rig = Rig::new(ALLOW);
    let packet = udp("198.51.100.7:1", "192.0.2.1:1");
    let told = icmp_error("198.51.100.1", "198.51.100.7", 3, 0, 0, &packet, 548).class(0xc0).atomic();
    rig.case("IPv4", &[(OUTSIDE, packet)], &[(OUTSIDE, told)], &[NoRoute]);
    let packet = udp("[2001:db8:51::7]:1", "[2001:db8:77::1]:1");
    let told = icmp_error("2001:db8:51::1", "2001:db8:51::7", 1, 0, 0, &packet, 1_232);
    rig.case("IPv6", &[(OUTSIDE, packet)], &[(OUTSIDE, told)], &[NoRoute]);
    let error = icmp_error("198.51.100.7", "192.0.2.1", 3, 3, 0, &udp("192.0.2.1:1", "198.51.100.7:1"), 28);
    rig.drops_all("an error is never told of", &[(OUTSIDE, error)], stage::DropReason::IcmpErrorUnmatched);
}

/// RFC 1191, RFC 8201: the sender learns the MTU of the link that is too narrow.
#[test]
fn a_packet_too_big_for_the_link_is_told_its_mtu() {
    let text = format!("{TWO_PORTS}{ALLOW}").replace("zone = \"dmz\"", "zone = \"dmz\"\nmtu = 1400");
    let mut rig = Rig::of(&text);
    let fits = udp("198.51.100.7:1", "10.0.0.11:1").data(&[7; 1_400 - 28]).dont_fragment();
    rig.passes("exactly as much", ((OUTSIDE, fits.clone()), (INSIDE, fits.routed())));
    let packet = udp("198.51.100.7:1", "10.0.0.11:1").data(&[7; 1_401 - 28]).dont_fragment();
    let told = icmp_error("198.51.100.1", "198.51.100.7", 3, 4, 1_400, &packet, 548).class(0xc0).atomic();
    rig.case("a byte more", &[(OUTSIDE, packet)], &[(OUTSIDE, told)], &[PacketTooBig]);
    let packet = udp("[2001:db8:51::7]:1", "[2001:db8:10::11]:1").data(&[7; 1_401 - 48]);
    let told = icmp_error("2001:db8:51::1", "2001:db8:51::7", 2, 0, 1_400, &packet, 1_232);
    rig.case("IPv6", &[(OUTSIDE, packet)], &[(OUTSIDE, told)], &[PacketTooBig]);
    let padded = udp("198.51.100.7:1", "10.0.0.11:1").padded(&[0; 1_500]);
    rig.passes("padding does not count (MAL-03)", ((OUTSIDE, padded.clone()), (INSIDE, padded.routed())));
}

#[test]
fn the_longest_prefix_shows_the_way() {
    let routes = r#"
        [[route]]
        to = "0.0.0.0/0"
        via = "198.51.100.250"
        [[route]]
        to = "203.0.113.128/25"
        via = "10.0.0.250"
        [[route]]
        to = "203.0.113.129/32"
        via = "198.51.100.251"
        [[route]]
        to = "::/0"
        via = "2001:db8:51::fa"
        [[route]]
        to = "2001:db8:99:8000::/49"
        via = "2001:db8:10::fa"
    "#;
    let mut rig = Rig::new(&format!("{routes}{ALLOW}"));
    for (target, side, via) in [
        ("192.0.2.1", OUTSIDE, "198.51.100.250"),
        ("203.0.113.1", OUTSIDE, "198.51.100.254"),
        ("203.0.113.128", INSIDE, "10.0.0.250"),
        ("203.0.113.129", OUTSIDE, "198.51.100.251"),
        ("10.0.0.77", INSIDE, "10.0.0.77"),
        ("198.51.100.77", OUTSIDE, "198.51.100.77"),
    ] {
        let packet = udp("10.0.0.11:1", &format!("{target}:1"));
        rig.passes(target, ((INSIDE, packet.clone()), (side, packet.routed().via(via))));
    }
    for (target, side, via) in [
        ("2001:db8:77::1", OUTSIDE, "2001:db8:51::fa"),
        ("2001:db8:99::1", OUTSIDE, "2001:db8:51::fe"),
        ("2001:db8:99:8000::1", INSIDE, "2001:db8:10::fa"),
        ("2001:db8:10::77", INSIDE, "2001:db8:10::77"),
    ] {
        let packet = udp("[2001:db8:10::11]:1", &format!("[{target}]:1"));
        rig.passes(target, ((INSIDE, packet.clone()), (side, packet.routed().via(via))));
    }
}

/// A session follows its route: a new policy may send it another way.
#[test]
fn a_session_follows_the_routes_of_the_policy_in_force() {
    let route = |via: &str| format!("[[route]]\nto = \"192.0.2.0/24\"\nvia = \"{via}\"\n{ALLOW}");
    let mut rig = Rig::new(&route("198.51.100.250"));
    let packet = udp("10.0.0.11:1", "192.0.2.1:1");
    let routed = packet.clone().routed();
    rig.passes("one way", ((INSIDE, packet.clone()), (OUTSIDE, routed.clone().via("198.51.100.250"))));
    rig.publish_more(&route("198.51.100.251"));
    rig.passes("another", ((INSIDE, packet.clone()), (OUTSIDE, routed.clone().via("198.51.100.251"))));
    rig.publish_more(ALLOW);
    let told = icmp_error("10.0.0.1", "10.0.0.11", 3, 0, 0, &packet, 548).class(0xc0).atomic();
    rig.case("none", &[(INSIDE, packet.clone())], &[(INSIDE, told)], &[NoRoute]);
    rig.publish_more(&route("10.0.0.250"));
    rig.passes("back in", ((INSIDE, packet), (INSIDE, routed.via("10.0.0.250"))));
}

/// What is for the appliance and not for the data plane reaches the kernel as it came.
#[test]
fn the_kernel_gets_what_is_its_own_and_its_packets_reach_the_wire() {
    let mut rig = Rig::new(ALLOW);
    for (client, own) in [("198.51.100.7:5", "198.51.100.1:22"), ("[2001:db8:51::7]:5", "[2001:db8:51::1]:22")] {
        let syn = tcp(client, own).syn().seq(1).hops(1).padded(&[0; 6]);
        rig.passes("a SYN", ((OUTSIDE, syn.clone()), (OUTSIDE_KERNEL, syn)));
        let answer = tcp(own, client).syn_ack(2).seq(9);
        rig.passes("the kernel's answer", ((OUTSIDE_KERNEL, answer.clone()), (OUTSIDE, answer)));
        let data = tcp(client, own).ack(10).seq(2).data(b"SSH-2.0");
        rig.passes("data", ((OUTSIDE, data.clone()), (OUTSIDE_KERNEL, data)));
        let question = udp(own, client);
        rig.passes("its own question", ((OUTSIDE_KERNEL, question.clone()), (OUTSIDE, question)));
        let answer = udp(client, own);
        rig.passes("and the answer to it", ((OUTSIDE, answer.clone()), (OUTSIDE_KERNEL, answer)));
    }
    let asks = ping("198.51.100.1", "198.51.100.7", 3);
    rig.passes("its ping", ((OUTSIDE_KERNEL, asks.clone()), (OUTSIDE, asks)));
    let answers = pong("198.51.100.7", "198.51.100.1", 3);
    rig.passes("and the answer", ((OUTSIDE, answers.clone()), (OUTSIDE_KERNEL, answers)));
    let reset = tcp("198.51.100.1:9", "198.51.100.7:9").rst().seq(1);
    rig.passes("what opens nothing leaves too", ((OUTSIDE_KERNEL, reset.clone()), (OUTSIDE, reset)));
    let fragments = udp("198.51.100.1:9", "198.51.100.7:9").data(&[7; 1_000]).pieces(512);
    let [sent, seen] = [OUTSIDE_KERNEL, OUTSIDE].map(|side| fragments.iter().map(move |piece| (side, piece.clone())));
    rig.case("its fragments too", &sent.collect::<Vec<_>>(), &seen.collect::<Vec<_>>(), &[]);
    let arp = arp_request("198.51.100.1", "198.51.100.7").source_mac(rig.mac(OUTSIDE));
    rig.overhear();
    rig.passes("its ARP too", ((OUTSIDE_KERNEL, arp.clone()), (OUTSIDE, arp)));
}

/// An ICMP error about what the kernel sent is the kernel's.
#[test]
fn errors_about_the_kernels_packets_reach_the_kernel() {
    let mut rig = Rig::new(ALLOW);
    let question = udp("198.51.100.1:7", "198.51.100.7:53");
    rig.passes("its question", ((OUTSIDE_KERNEL, question.clone()), (OUTSIDE, question.clone())));
    let error = icmp_error("198.51.100.7", "198.51.100.1", 3, 3, 0, &question, 500);
    rig.passes("port unreachable", ((OUTSIDE, error.clone()), (OUTSIDE_KERNEL, error)));
}

/// A port whose `kernel = false` has nobody behind it.
#[test]
fn without_a_kernel_interface_what_is_for_the_kernel_is_dropped() {
    let text = format!("{TWO_PORTS}{ALLOW}").replace("zone = \"wan\"", "zone = \"wan\"\nkernel = false");
    let mut rig = Rig::of(&text);
    rig.drops_all("a SYN", &[(OUTSIDE, tcp("198.51.100.7:5", "198.51.100.1:22").syn())], NoKernelInterface);
    rig.drops_all("OSPF", &[(OUTSIDE, ip("198.51.100.7", "224.0.0.5", 89, b"hello"))], MulticastUnwanted);
    let lldp = ethernet(mac_of("198.51.100.7"), MacAddr::new([1, 0x80, 0xc2, 0, 0, 0x0e]), 0x88cc, &[0; 46]);
    rig.drops_all("LLDP", &[(OUTSIDE, lldp)], UnknownEthertype);
    let asks = ping("198.51.100.7", "198.51.100.1", 1);
    rig.passes(
        "a ping is answered all the same",
        ((OUTSIDE, asks), (OUTSIDE, pong("198.51.100.1", "198.51.100.7", 1))),
    );
}

#[test]
fn a_kernel_that_takes_nothing_loses_what_does_not_fit() {
    let mut rig = Rig::new(ALLOW);
    for packet in 0..1_030_u16 {
        rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{}", 1 + packet), "198.51.100.1:9"));
    }
    // Turns alone: nothing is taken from the ring meanwhile.
    while rig.turn() {}
    assert_eq!(rig.dropped(KernelFull), 1_030 - 1_024);
    rig.settle();
    assert_eq!(rig.take().len(), 1_024);
}

#[test]
fn a_device_that_sends_nothing_loses_what_does_not_fit_and_recovers() {
    let mut rig = Rig::new(ALLOW);
    let packet = |n: u16| udp(&format!("198.51.100.7:{n}"), "10.0.0.11:9");
    rig.passes("at first", ((OUTSIDE, packet(1)), (INSIDE, packet(1).routed())));
    rig.jam(INSIDE, true);
    for n in 0..200 {
        rig.put(OUTSIDE, &packet(n + 2));
    }
    rig.settle();
    assert!(rig.take().is_empty());
    assert_eq!(rig.dropped(TransmitFull), 200 - 64, "what waits is a batch, the rest is counted (STX-14)");
    rig.jam(INSIDE, false);
    rig.settle();
    assert_eq!(rig.take().len(), 64);
    rig.passes("and as before", ((OUTSIDE, packet(1)), (INSIDE, packet(1).routed())));
}

/// RFC 1812 section 5.3.4, RFC 4291 section 2.7: groups of the link are the kernel's, wider ones nobody's.
#[test]
fn what_is_for_many_is_for_the_kernel_or_for_nobody() {
    let mut rig = Rig::new(ALLOW);
    for (source, group) in [("198.51.100.7", "224.0.0.5"), ("198.51.100.7", "224.0.0.251"), ("fe80::7", "ff02::5")] {
        let hello = ip(source, group, 89, b"hello").hops(1);
        rig.passes(group, ((OUTSIDE, hello.clone()), (OUTSIDE_KERNEL, hello)));
    }
    for (source, group) in [
        ("198.51.100.7", "239.1.2.3"),
        ("198.51.100.7", "232.0.0.1"),
        ("198.51.100.7", "255.255.255.255"),
        ("198.51.100.7", "198.51.100.255"),
        ("2001:db8:51::7", "ff05::2"),
        ("2001:db8:51::7", "ff0e::1"),
    ] {
        rig.drops_all(group, &[(OUTSIDE, ip(source, group, 17, &[0, 1, 0, 1, 0, 8, 0, 0]))], group_reason(source));
    }
    let directed = udp("198.51.100.7:1", "10.0.0.255:1");
    rig.drops_all("a broadcast of another link (RFC 2644)", &[(OUTSIDE, directed)], MulticastUnwanted);
    let unicast = udp("198.51.100.7:1", "10.0.0.11:1");
    for mac in [MacAddr::BROADCAST, MacAddr::new([1, 0, 0x5e, 0, 0, 1])] {
        let packet = unicast.clone().destination_mac(mac);
        rig.drops_all("one host's packet sent to many (RFC 1122 3.3.6)", &[(OUTSIDE, packet)], MulticastUnwanted);
    }
    let dhcp = udp("0.0.0.0:68", "255.255.255.255:67");
    rig.drops_all("DHCP", &[(OUTSIDE, dhcp)], MulticastUnwanted);
    let report = ip("198.51.100.1", "224.0.0.22", 2, b"membership");
    rig.passes("the kernel's own groups leave", ((OUTSIDE_KERNEL, report.clone()), (OUTSIDE, report)));
}

/// Datagrams without checksum are malformed in IPv6 and an ordinary sight in IPv4.
fn group_reason(source: &str) -> stage::DropReason {
    if source.contains(':') { Malformed::UdpChecksum.into() } else { MulticastUnwanted }
}

#[test]
fn frames_for_other_stations_and_of_unknown_kinds_are_left_alone() {
    let mut rig = Rig::new(ALLOW);
    let packet = udp("198.51.100.7:1", "10.0.0.11:1");
    let other = packet.clone().destination_mac(MacAddr::new([2, 0, 0, 0, 0, 9]));
    rig.drops_all("another station's", &[(OUTSIDE, other)], NotOurMac);
    rig.drops_all("tagged", &[(OUTSIDE, packet.clone().tagged(5))], UnknownVlan);
    rig.drops_all("tagged twice", &[(OUTSIDE, packet.clone().tagged(5).tagged(6))], UnknownVlan);
    let from = mac_of("198.51.100.7");
    for (sentence, mac) in [
        ("LLDP", MacAddr::new([1, 0x80, 0xc2, 0, 0, 0x0e])),
        ("spanning tree", MacAddr::new([1, 0x80, 0xc2, 0, 0, 0])),
        ("something for this station", rig.mac(OUTSIDE)),
    ] {
        let frame = ethernet(from, mac, 0x88cc, &[1; 46]);
        rig.passes(sentence, ((OUTSIDE, frame.clone()), (OUTSIDE_KERNEL, frame)));
    }
    let frame = ethernet(from, MacAddr::BROADCAST, 0x9000, &[1; 46]);
    rig.drops_all("something for everybody", &[(OUTSIDE, frame)], UnknownEthertype);
    let bytes = rig.inward(OUTSIDE, &packet);
    assert!(rig.put_chained(OUTSIDE, &bytes));
    rig.settle();
    assert_eq!(rig.dropped(ChainedBuffer), 1);
}

#[test]
fn what_the_device_says_of_checksums_is_used_and_not_trusted_with_more() {
    let mut rig = Rig::new(ALLOW);
    let packet = udp("198.51.100.7:1", "10.0.0.11:1");
    let (right, wrong) = (rig.inward(OUTSIDE, &packet), rig.inward(OUTSIDE, &packet.clone().wrong_checksum(4)));
    rig.put_checked(OUTSIDE, &right, ReceivedChecksum::Good);
    rig.settle();
    rig.came("good", &[(INSIDE, packet.clone().routed())]);
    rig.put_checked(OUTSIDE, &right, ReceivedChecksum::BadIp);
    rig.settle();
    assert_eq!(rig.dropped(Malformed::Ipv4Checksum), 1);
    rig.put_checked(OUTSIDE, &wrong, ReceivedChecksum::BadTransport);
    rig.settle();
    assert_eq!(rig.dropped(Malformed::UdpChecksum), 1);
    rig.put_checked(OUTSIDE, &right, ReceivedChecksum::BadTransport);
    rig.settle();
    rig.came("the device was wrong", &[(INSIDE, packet.clone().routed())]);
    rig.put_checked(OUTSIDE, &wrong, ReceivedChecksum::Unchecked);
    rig.settle();
    assert_eq!(rig.dropped(Malformed::UdpChecksum), 2);
}

/// A virtual device hands over packets whose checksum is only the pseudo header's: it is completed here.
#[test]
fn an_unfinished_checksum_of_a_virtual_device_is_completed() {
    let mut rig = Rig::new(ALLOW);
    for (from, to) in [("198.51.100.7:1", "10.0.0.11:1"), ("[2001:db8:51::7]:1", "[2001:db8:10::11]:1")] {
        for whole in [udp(from, to).data(b"unfinished"), tcp(from, to).syn().seq(5)] {
            let bytes = rig.inward(OUTSIDE, &whole);
            let partial = partial_checksum(&bytes);
            rig.put_checked(OUTSIDE, &partial, ReceivedChecksum::Partial);
            rig.settle();
            rig.came("completed", &[(INSIDE, whole.clone().routed())]);
            let mut neither = partial;
            let last = neither.len() - 1;
            let field = if whole.addresses().unwrap().0.is_ipv4() { 34 } else { 54 }
                + if neither[last] == b'd' { 6 } else { 16 };
            neither[field] ^= 0x40;
            let before = rig.drops().values().sum::<u64>();
            rig.put_checked(OUTSIDE, &neither, ReceivedChecksum::Partial);
            rig.settle();
            assert_eq!(rig.drops().values().sum::<u64>(), before + 1, "neither whole nor unfinished: wrong");
        }
    }
}

/// The frame with its transport checksum replaced by the folded sum of the pseudo header.
fn partial_checksum(bytes: &[u8]) -> Vec<u8> {
    let v4 = bytes[12..14] == [0x08, 0x00];
    let (addresses, protocol, at) = if v4 { (26..34, bytes[23], 34) } else { (22..54, bytes[20], 54) };
    let mut pseudo = bytes[addresses].to_vec();
    pseudo.extend(u32::try_from(bytes.len() - at).unwrap().to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    let field = at + if protocol == 6 { 16 } else { 6 };
    let mut partial = bytes.to_vec();
    let sum = !millrace_tests::packet::internet_checksum(&pseudo);
    partial[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    partial
}

#[test]
fn nobody_may_speak_in_the_appliances_name() {
    let mut rig = Rig::new(ADDRESSES);
    for source in ["198.51.100.1:5", "198.51.100.10:80", "198.51.100.20:5", "10.0.0.1:5"] {
        rig.drops_all(source, &[(OUTSIDE, udp(source, "10.0.0.11:1"))], SourceOwnAddress);
    }
    rig.drops_all("IPv6", &[(OUTSIDE, udp("[2001:db8:51::1]:5", "[2001:db8:10::11]:1"))], SourceOwnAddress);
}

/// RFC 3927 section 7, RFC 4291 section 2.5.6: addresses of one link do not leave it; RFC 1122 section 3.2.1.3: nobody is a
/// broadcast address.
#[test]
fn addresses_of_one_link_and_of_everybody_on_it_send_nothing_across() {
    let default_route = "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.51.100.254\"\n";
    let mut rig = Rig::new(&format!("{ALLOW}{default_route}"));
    for (source, server) in [("169.254.7.7:5", "10.0.0.11:80"), ("[fe80::7]:5", "[2001:db8:10::11]:80")] {
        let packets = [(OUTSIDE, udp(source, server)), (OUTSIDE, tcp(source, server).syn())];
        rig.drops_all(source, &packets, LinkLocalSource);
    }
    let secrets = [tcp("10.0.0.11:5", "169.254.169.254:80").syn(), udp("10.0.0.11:5", "169.254.169.254:53")];
    rig.drops_all("to another link's", &secrets.map(|packet| (INSIDE, packet)), LinkLocalDestination);
    for source in ["198.51.100.255:5", "10.0.0.255:5"] {
        let packets = [(OUTSIDE, udp(source, "10.0.0.11:80")), (OUTSIDE, tcp(source, "10.0.0.11:80").syn())];
        rig.drops_all(source, &packets, Malformed::SourceMulticast);
    }
    assert_eq!(rig.session_count(), 0);
}

#[test]
fn a_virtual_address_has_nothing_but_its_services() {
    let mut rig = Rig::new(ADDRESSES);
    for packet in [
        tcp("198.51.100.7:5", "198.51.100.10:81").syn(),
        udp("198.51.100.7:5", "198.51.100.10:80"),
        ip("198.51.100.7", "198.51.100.10", 47, b"tunnel"),
        tcp("[2001:db8:51::7]:5", "[2001:db8:51::10]:22").syn(),
        udp("198.51.100.7:5", "198.51.100.20:2000"),
    ] {
        rig.drops_all("no service", &[(OUTSIDE, packet)], NoService);
    }
}

/// RFC 4443 section 2.4 (f): answers of the appliance itself are limited; what they answer is counted all the same.
#[test]
fn answers_are_limited_and_drops_are_not() {
    let mut rig = Rig::new(ALLOW);
    for _ in 0..3 {
        for port in 1..1_001 {
            rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{port}"), "192.0.2.1:1"));
        }
        rig.settle();
    }
    assert_eq!((rig.take().len(), rig.dropped(NoRoute)), (1_000, 3_000));
    rig.leap(Nanos::from_secs(1));
    rig.put(OUTSIDE, &udp("198.51.100.7:5", "192.0.2.1:1"));
    rig.settle();
    assert_eq!(rig.take().len(), 1);
}
