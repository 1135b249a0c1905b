//! Malformed packets at the whole pipeline (group A of the catalogue of cases): every one is dropped under the name of its
//! fault, nothing of it comes out, and what comes after is not affected.

use millrace_tests::packet::{ACK, FIN, Packet, RST, SYN, icmp, icmp_error, internet_checksum, ip, ping, tcp, udp};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, OUTSIDE, Rig, Talk};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use stage::DropReason::{self, UnknownVlan};
use wire::Malformed;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

const CLIENT: &str = "198.51.100.7:40000";
const SERVER: &str = "10.0.0.11:80";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SERVER6: &str = "[2001:db8:10::11]:80";

/// A rig that knows both servers already, so that a packet that should pass does.
fn rig() -> Rig {
    let mut rig = Rig::new(ALLOW);
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        let warm = ping(client, server, 9);
        rig.passes("the way is known", ((OUTSIDE, warm.clone()), (INSIDE, warm.routed())));
    }
    rig
}

fn there(packet: &Packet) -> ((millrace_tests::Side, Packet), (millrace_tests::Side, Packet)) {
    ((OUTSIDE, packet.clone()), (INSIDE, packet.clone().routed()))
}

/// An ordinary connection, after whatever came before.
fn ordinary_traffic_passes(rig: &mut Rig) {
    for (client, server) in [("198.51.100.8:777", SERVER), ("[2001:db8:51::8]:777", SERVER6)] {
        let talk = Talk::tcp((OUTSIDE, client, server), (INSIDE, client, server));
        talk.open(rig);
        talk.chat(rig);
    }
}

/// Frames put in as they are; every one must be dropped, and all as malformed.
fn all_malformed(rig: &mut Rig, frames: &[Vec<u8>]) {
    let malformed = |rig: &Rig| Malformed::ALL.iter().map(|&fault| rig.dropped(fault)).sum::<u64>();
    let before = malformed(rig);
    for frame in frames {
        assert!(rig.put_bytes(OUTSIDE, frame));
    }
    rig.settle();
    assert!(rig.take().is_empty(), "nothing of it comes out");
    assert_eq!(malformed(rig) - before, frames.len() as u64, "{:?}", rig.drops());
}

/// MAL-01.
#[test]
fn runts_of_every_length_are_dropped() {
    let mut rig = rig();
    for packet in [tcp(CLIENT, SERVER).syn().data(&[7; 40]), tcp(CLIENT6, SERVER6).syn().data(&[7; 40])] {
        let frames: Vec<_> = (0..64).map(|len| rig.inward(OUTSIDE, &packet.clone().cut(len))).collect();
        all_malformed(&mut rig, &frames);
    }
    assert_eq!(rig.dropped(Malformed::FrameTruncated), 28);
    ordinary_traffic_passes(&mut rig);
}

/// MAL-02: of every IHL with every total length only consistent pairs pass.
#[test]
fn header_and_total_length_must_agree() {
    let mut rig = rig();
    let mut passed = 0;
    for words in 0..16_u8 {
        let options = vec![1; usize::from(words.saturating_sub(5)) * 4];
        let right = u16::try_from(20 + options.len() + 8 + 10).unwrap();
        let header = u16::from(words) * 4;
        for total in [0, header.saturating_sub(1), right, right + 1, 65_535] {
            let packet = udp(&format!("198.51.100.7:{}", 1_000 + u16::from(words)), SERVER)
                .options(&options)
                .header_words(words)
                .total_length(total);
            if words >= 5 && total == right {
                rig.passes("consistent", there(&packet));
                passed += 1;
            } else {
                let fault = if words < 5 { Malformed::Ipv4HeaderLength } else { Malformed::Ipv4TotalLength };
                rig.drops_all(&format!("IHL {words}, total {total}"), &[(OUTSIDE, packet)], fault);
            }
        }
    }
    assert_eq!(passed, 11);
    ordinary_traffic_passes(&mut rig);
}

/// MAL-03, CVE-2020-35498: padding changes neither the flow nor the verdict.
#[test]
fn padding_is_no_part_of_a_packet() {
    let mut rig = rig();
    let before = rig.session_count();
    for padding in 0..=200 {
        for packet in [udp(CLIENT, SERVER), udp(CLIENT6, SERVER6)] {
            rig.passes("padded", there(&packet.padded(&vec![0xaa; padding])));
        }
    }
    assert_eq!(rig.session_count(), before + 2);
    let sessions = rig.sessions();
    let of_udp = sessions.iter().filter(|session| session.original.source_port == 40_000);
    assert!(of_udp.map(|session| session.bytes).eq([201 * 38, 201 * 58]), "bytes of IP, not of padding");
}

/// MAL-04, CVE-2023-1668: every protocol has a verdict, and TCP is not affected by any.
#[test]
fn every_protocol_number_has_a_verdict() {
    for protocol in 0..=255_u8 {
        let mut rig = rig();
        let packet = ip("198.51.100.7", "10.0.0.11", protocol, &[0; 20]);
        match protocol {
            1 => rig.drops_all("ICMP of zeroes", &[(OUTSIDE, packet)], Malformed::IcmpChecksum),
            6 => rig.drops_all("TCP of zeroes", &[(OUTSIDE, packet)], Malformed::TcpDataOffset),
            17 => rig.drops_all("UDP of zeroes", &[(OUTSIDE, packet)], Malformed::UdpLength),
            _ => rig.passes("forwarded by its addresses", there(&packet)),
        }
        let talk = Talk::tcp((OUTSIDE, CLIENT, SERVER), (INSIDE, CLIENT, SERVER));
        talk.open(&mut rig);
    }
}

/// MAL-05.
#[test]
fn a_wrong_header_checksum_is_dropped_whichever_bit_is_wrong() {
    let mut rig = rig();
    let packets: Vec<_> = (0..1_000)
        .map(|number| {
            (OUTSIDE, udp(&format!("198.51.100.7:{}", 1 + number), SERVER).wrong_ip_checksum(1 << (number % 16)))
        })
        .collect();
    rig.drops_all("a thousand", &packets, Malformed::Ipv4Checksum);
    ordinary_traffic_passes(&mut rig);
}

/// The checksum of a TCP segment between the usual ends, written into it as far as there is room.
fn seal(mut segment: Vec<u8>, v4: bool) -> Vec<u8> {
    if segment.len() < 18 {
        return segment;
    }
    segment[16..18].fill(0);
    let address = |end: &str| end.parse::<std::net::SocketAddr>().unwrap().ip();
    let mut summed = Vec::new();
    for end in if v4 { [CLIENT, SERVER] } else { [CLIENT6, SERVER6] } {
        match address(end) {
            std::net::IpAddr::V4(v4) => summed.extend(v4.octets()),
            std::net::IpAddr::V6(v6) => summed.extend(v6.octets()),
        }
    }
    summed.extend(u32::try_from(segment.len()).unwrap().to_be_bytes());
    summed.extend([0, 0, 0, 6]);
    summed.extend(&segment);
    let checksum = internet_checksum(&summed);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// MAL-07: of every data offset against every number of bytes only possible ones pass.
#[test]
fn the_data_offset_must_lie_in_the_segment() {
    for (client, server, v4) in [("198.51.100.7", "10.0.0.11", true), ("2001:db8:51::7", "2001:db8:10::11", false)] {
        let mut rig = rig();
        let mut cases = 0;
        for words in 0..16_u8 {
            for present in 0..=60_usize {
                let mut segment =
                    vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, words << 4, SYN, 0xff, 0xff, 0, 0, 0, 0];
                segment.resize(60, 1);
                segment.truncate(present);
                let packet = ip(client, server, 6, &seal(segment, v4));
                let sentence = format!("offset {words}, {present} bytes");
                if present < 20 {
                    rig.drops_all(&sentence, &[(OUTSIDE, packet)], Malformed::TcpTruncated);
                } else if words < 5 || usize::from(words) * 4 > present {
                    rig.drops_all(&sentence, &[(OUTSIDE, packet)], Malformed::TcpDataOffset);
                } else {
                    rig.passes(&sentence, there(&packet));
                }
                cases += 1;
            }
        }
        assert_eq!(cases, 976);
    }
}

/// MAL-08: options that lie about their length are refused; odd but right ones pass.
#[test]
fn tcp_options_end_where_they_should() {
    let mut rig = rig();
    for (sentence, options) in [
        ("length 0", vec![5, 0, 1, 1]),
        ("length 1", vec![5, 1, 1, 1]),
        ("beyond the header", vec![8, 10, 0, 0]),
        ("a window scale of 4 bytes", vec![3, 4, 7, 0]),
        ("cut off after its kind", vec![1, 1, 1, 2]),
    ] {
        let packet = tcp(CLIENT, SERVER).syn().tcp_options(&options);
        rig.drops_all(sentence, &[(OUTSIDE, packet)], Malformed::TcpOptions);
    }
    for (port, options) in [
        (1, vec![1; 40]),
        (2, vec![2, 4, 5, 0xb4, 2, 4, 2, 0x18]),
        (3, vec![3, 3, 7, 3, 3, 9, 1, 1]),
        (4, vec![3, 3, 255, 0]),
        (5, vec![0, 9, 9, 9]),
        (6, vec![254, 4, 0xf9, 0x89]),
    ] {
        rig.passes("odd but right", there(&tcp(&format!("198.51.100.7:{port}"), SERVER).syn().tcp_options(&options)));
    }
    ordinary_traffic_passes(&mut rig);
}

/// RFC 9293, in a form of the test's own: what may stand beside what.
fn legal(flags: u8) -> bool {
    matches!(flags & (SYN | FIN | RST | ACK), SYN | RST | ACK) || {
        let decisive = flags & (SYN | FIN | RST | ACK);
        decisive == SYN | ACK || decisive == RST | ACK || decisive == FIN | ACK
    }
}

/// Brings a connection into a phase of its life.
type Setup = fn(&Talk, &mut Rig);

/// MAL-09: every flag byte as the first packet, in the handshake, established and closing; illegal ones open nothing and
/// change nothing.
#[test]
fn every_flag_byte_has_a_verdict_in_every_phase() {
    let talk = Talk::tcp((OUTSIDE, CLIENT, SERVER), (INSIDE, CLIENT, SERVER));
    let phases: [(&str, Setup); 4] = [
        ("first", |_, _| {}),
        ("handshake", |talk, rig| talk.syn(rig)),
        ("established", |talk, rig| talk.open(rig)),
        ("closing", |talk, rig| {
            talk.open(rig);
            rig.passes("FIN", talk.down(|p| p.fin(OPENER + 1).seq(ANSWERER + 1)));
        }),
    ];
    let mut cases = 0;
    for (phase, setup) in phases {
        for flags in 0..=255_u8 {
            let mut rig = rig();
            setup(&talk, &mut rig);
            let before: Vec<_> = rig.sessions().iter().map(|session| (session.state, session.packets)).collect();
            let (packet, out) = talk.up(|p| p.flags(flags).seq(OPENER + 1).acknowledging(ANSWERER + 1));
            let sentence = format!("{phase}, flags {flags:#04x}");
            if legal(flags) {
                let opens = phase == "first" && flags & (SYN | ACK | RST | FIN) == SYN;
                rig.put(OUTSIDE, &packet.1);
                rig.settle();
                let came = rig.take();
                let dropped: u64 = rig.drops().values().sum();
                assert_eq!(came.len() as u64 + dropped, 1, "{sentence}: {:?}", rig.drops());
                if let [(side, bytes)] = came.as_slice() {
                    assert_eq!((*side, bytes.clone()), (out.0, rig.outward(out.0, &out.1)), "{sentence}");
                }
                let opened = rig.session_count() > before.len();
                assert_eq!(opened, opens, "{sentence}");
            } else {
                rig.drops_all(&sentence, &[packet], Malformed::TcpFlags);
                let after: Vec<_> = rig.sessions().iter().map(|session| (session.state, session.packets)).collect();
                assert_eq!(after, before, "{sentence}");
            }
            cases += 1;
        }
    }
    assert_eq!(cases, 1_024);
}

/// MAL-10.
#[test]
fn udp_lengths_that_lie_are_dropped() {
    let mut rig = rig();
    for packet in [udp(CLIENT, SERVER), udp(CLIENT6, SERVER6)] {
        for length in [0, 7, 8, 18, 19, 65_535] {
            let packet = packet.clone().udp_length(length);
            if length == 18 {
                rig.passes("right", there(&packet));
            } else {
                rig.drops_all(&format!("length {length}"), &[(OUTSIDE, packet)], Malformed::UdpLength);
            }
        }
    }
    rig.drops_all("no checksum in IPv6", &[(OUTSIDE, udp(CLIENT6, SERVER6).no_checksum())], Malformed::UdpChecksum);
    rig.drops_all("to port 0", &[(OUTSIDE, udp(CLIENT, "10.0.0.11:0"))], Malformed::UdpPortZero);
    for (packet, fault) in [
        (tcp(CLIENT, "10.0.0.11:0").syn(), Malformed::TcpPortZero),
        (tcp("198.51.100.7:0", SERVER).syn(), Malformed::TcpPortZero),
        (tcp(CLIENT, SERVER).syn().wrong_checksum(0x0100), Malformed::TcpChecksum),
        (tcp(CLIENT6, SERVER6).syn().wrong_checksum(0x8000), Malformed::TcpChecksum),
        (udp(CLIENT, SERVER).wrong_checksum(1), Malformed::UdpChecksum),
        (ping("198.51.100.7", "10.0.0.11", 1).wrong_checksum(1), Malformed::IcmpChecksum),
        (ping("2001:db8:51::7", "2001:db8:10::11", 1).wrong_checksum(1), Malformed::IcmpChecksum),
    ] {
        rig.drops_all("a wrong transport header", &[(OUTSIDE, packet)], fault);
    }
    ordinary_traffic_passes(&mut rig);
}

/// MAL-11: an ICMP error passes only when it quotes its packet up to the ports.
#[test]
fn an_icmp_error_quotes_enough_or_is_dropped() {
    for (source, destination, ports, kind, header) in [
        ("10.0.0.11", "198.51.100.7", ("198.51.100.7:5", "10.0.0.11:5"), 3_u8, 20_usize),
        ("2001:db8:10::11", "2001:db8:51::7", ("[2001:db8:51::7]:5", "[2001:db8:10::11]:5"), 1, 40),
    ] {
        let mut rig = rig();
        let sent = udp(ports.0, ports.1).data(&[7; 40]);
        rig.passes("what the error is about", there(&sent));
        let quoted = sent.routed();
        for len in 0..=60 {
            let error = icmp_error(source, destination, kind, 1, 0, &quoted, len);
            if len >= header + 8 {
                rig.passes("enough", ((INSIDE, error.clone()), (OUTSIDE, error.routed())));
            } else {
                rig.drops_all(&format!("{len} bytes quoted"), &[(INSIDE, error)], Malformed::IcmpQuote);
            }
        }
    }
    let mut rig = rig();
    let sent = udp(CLIENT, SERVER);
    rig.passes("what the error is about", there(&sent));
    for (sentence, quoted) in [
        ("inner IHL 15", sent.clone().routed().header_words(15)),
        ("inner IHL 4", sent.clone().routed().header_words(4)),
        ("inner length below its header", sent.clone().routed().total_length(19)),
        ("inner length that ends before the ports", sent.clone().routed().total_length(24)),
        ("inner version 6", sent.routed().version(6)),
    ] {
        let error = icmp_error("10.0.0.11", "198.51.100.7", 3, 3, 0, &quoted, 100);
        rig.drops_all(sentence, &[(INSIDE, error)], Malformed::IcmpQuote);
    }
    let about_an_error = icmp("10.0.0.11", "198.51.100.7", 11, 0, 0, &[0x45, 0]);
    rig.drops_all("an error about nothing", &[(INSIDE, about_an_error)], Malformed::IcmpQuote);
}

/// MAL-12: three tags are read, more are dropped unread; the ports of this policy expect none.
#[test]
fn tags_are_read_three_deep() {
    let mut rig = rig();
    let mut packet = udp(CLIENT, SERVER);
    rig.passes("no tag", there(&packet));
    for tags in 1..=8 {
        packet = packet.tagged(tags);
        let reason: DropReason = if tags <= 3 { UnknownVlan } else { Malformed::VlanTooDeep.into() };
        rig.drops_all(&format!("{tags} tags"), &[(OUTSIDE, packet.clone())], reason);
    }
    let cut: Vec<_> = (14..18).map(|len| rig.inward(OUTSIDE, &udp(CLIENT, SERVER).tagged(5).cut(len))).collect();
    all_malformed(&mut rig, &cut);
    assert_eq!(rig.dropped(Malformed::VlanTruncated), 4);
    let unknown = udp(CLIENT, SERVER).tagged(5).spoilt(16, &[0x12, 0x34]);
    rig.drops_all("an unknown ethertype behind a tag", &[(OUTSIDE, unknown)], UnknownVlan);
    ordinary_traffic_passes(&mut rig);
}

/// MAL-13: addresses no packet on a link may carry: none of 600 is forwarded.
#[test]
fn martians_are_dropped() {
    let mut rig = rig();
    let v4 = [
        ("10.0.0.11", Malformed::Land),
        ("127.0.0.1", Malformed::SourceLoopback),
        ("127.255.255.254", Malformed::SourceLoopback),
        ("224.0.0.1", Malformed::SourceMulticast),
        ("239.255.255.255", Malformed::SourceMulticast),
        ("255.255.255.255", Malformed::SourceMulticast),
        ("240.0.0.1", Malformed::SourceReserved),
        ("250.1.2.3", Malformed::SourceReserved),
        ("0.0.0.0", Malformed::SourceUnspecified),
        ("0.1.2.3", Malformed::SourceReserved),
    ];
    let v6 = [
        ("2001:db8:10::11", Malformed::Land),
        ("::1", Malformed::SourceLoopback),
        ("ff02::1", Malformed::SourceMulticast),
        ("ff0e::1", Malformed::SourceMulticast),
        ("::", Malformed::SourceUnspecified),
        ("::ffff:198.51.100.7", Malformed::SourceReserved),
        ("::198.51.100.7", Malformed::SourceReserved),
    ];
    let mut cases = 0;
    for number in 0..36_u16 {
        for (source, fault) in v4 {
            let packet = match number % 3 {
                0 => udp(&format!("{source}:{}", 1_000 + number), SERVER),
                1 => tcp(&format!("{source}:{}", 1_000 + number), SERVER).syn(),
                _ => ip(source, "10.0.0.11", 47, b"x"),
            };
            rig.drops_all(source, &[(OUTSIDE, packet)], fault);
            cases += 1;
        }
        for (source, fault) in v6 {
            let packet = match number % 2 {
                0 => udp(&format!("[{source}]:{}", 1_000 + number), SERVER6),
                _ => tcp(&format!("[{source}]:{}", 1_000 + number), SERVER6).syn(),
            };
            rig.drops_all(source, &[(OUTSIDE, packet)], fault);
            cases += 1;
        }
    }
    assert!(cases >= 600);
    for (destination, fault) in [
        ("0.0.0.0:5", Malformed::DestinationUnspecified),
        ("127.0.0.1:5", Malformed::SourceLoopback),
        ("241.0.0.1:5", Malformed::DestinationReserved),
    ] {
        rig.drops_all(destination, &[(OUTSIDE, udp(CLIENT, destination))], fault);
    }
    for (destination, fault) in [
        ("[::]:5", Malformed::DestinationUnspecified),
        ("[::1]:5", Malformed::SourceLoopback),
        ("[::ffff:10.0.0.11]:5", Malformed::DestinationReserved),
        ("[ff01::1]:5", Malformed::DestinationReserved),
    ] {
        rig.drops_all(destination, &[(OUTSIDE, udp(CLIENT6, destination))], fault);
    }
    ordinary_traffic_passes(&mut rig);
}

/// EVA-10: extension headers in order and number.
#[test]
fn extension_headers_in_order_and_bounded_pass() {
    let mut rig = rig();
    let options = [0, 1, 4, 0, 0, 0, 0];
    let many = |count: usize| (0..count).fold(udp(CLIENT6, SERVER6), |packet, _| packet.extension(60, &options));
    rig.passes("hop-by-hop first", there(&udp(CLIENT6, SERVER6).extension(0, &options)));
    rig.passes("destination options twice", there(&many(2)));
    let routing = |kind: u8| udp(CLIENT6, SERVER6).extension(43, &[0, kind, 0, 0, 0, 0, 0]);
    rig.drops_all("type 0 routing", &[(OUTSIDE, routing(0))], Malformed::Ipv6RoutingType0);
    let arrived = udp(CLIENT6, SERVER6).extension(43, &[0, 4, 0, 0, 0, 0, 0]);
    rig.passes("type 4 routing without segments left", there(&arrived));
    let late = udp(CLIENT6, SERVER6).extension(60, &options).extension(0, &options);
    rig.drops_all("hop-by-hop second", &[(OUTSIDE, late)], Malformed::Ipv6ExtensionOrder);
    let two = udp(CLIENT6, SERVER6).fragment(0, false).fragment(0, false);
    rig.drops_all("two fragment headers", &[(OUTSIDE, two)], Malformed::Ipv6ExtensionOrder);
    let mut counts = [0, 0];
    for count in 1..=20 {
        rig.put(OUTSIDE, &many(count));
        rig.settle();
        counts[usize::from(rig.take().is_empty())] += 1;
    }
    assert_eq!((counts, rig.dropped(Malformed::Ipv6ExtensionCount)), ([16, 4], 4));
    let cut = udp(CLIENT6, SERVER6).extension(60, &[200, 1, 4, 0, 0, 0, 0]);
    rig.drops_all("one that ends beyond the packet", &[(OUTSIDE, cut)], Malformed::Ipv6ExtensionTruncated);
    ordinary_traffic_passes(&mut rig);
}

/// The other IP malformations by name, source routes among them (RFC 7126 sections 4.3 and 4.4).
#[test]
fn the_other_faults_have_their_names() {
    let mut rig = rig();
    for (packet, fault) in [
        (udp(CLIENT, SERVER).version(5), Malformed::Ipv4Version),
        (udp(CLIENT6, SERVER6).version(4), Malformed::Ipv6Version),
        (udp(CLIENT6, SERVER6).total_length(19), Malformed::Ipv6PayloadLength),
        (udp(CLIENT, SERVER).options(&[131, 7, 4, 1, 2, 3, 4, 0]), Malformed::Ipv4SourceRoute),
        (udp(CLIENT, SERVER).options(&[137, 7, 4, 1, 2, 3, 4, 0]), Malformed::Ipv4SourceRoute),
        (udp(CLIENT, SERVER).options(&[7, 1, 0, 0]), Malformed::Ipv4Options),
        (udp(CLIENT, SERVER).options(&[7, 40, 4, 0]), Malformed::Ipv4Options),
        (udp(CLIENT, SERVER).source_mac(wire::MacAddr::BROADCAST), Malformed::EthernetSource),
    ] {
        rig.drops_all(fault.sentence(), &[(OUTSIDE, packet)], fault);
    }
    ordinary_traffic_passes(&mut rig);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("fixtures/regressions/malformed.txt"))),
        ..ProptestConfig::default()
    })]

    /// MAL-18 in small: frames of any bytes, and right ones with any bytes changed, end in exactly one place each.
    #[test]
    fn any_bytes_end_somewhere(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut rig = rig();
        for bytes in &frames {
            prop_assert!(rig.put_bytes(OUTSIDE, bytes));
        }
        for packet in [tcp(CLIENT, SERVER).syn().data(b"abc"), udp(CLIENT6, SERVER6), ping("198.51.100.7", "10.0.0.1", 1)] {
            let mut bytes = rig.inward(OUTSIDE, &packet);
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            prop_assert!(rig.put_bytes(OUTSIDE, &bytes));
        }
        rig.settle();
        rig.take();
        rig.assert_accounted();
    }
}
