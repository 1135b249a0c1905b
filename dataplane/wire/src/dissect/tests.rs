//! Whole frames: every kind, runts, protocols, martians; any bytes at all; agreement with `etherparse`.

use proptest::prelude::*;

use super::*;
use crate::packets::{
    ACK, SYN, facts, fault, icmp, read, seal, seal_at, seal_header, tagged, tcp, udp, v4, v4_with, v6,
};
use crate::{Endpoints, Facts, Fragment, Transport, emit, ndp};

const EVERY: [Verify; 3] = [Verify::All, Verify::Nothing, Verify::Partial];

/// One good packet of every kind that is read.
fn good() -> Vec<Vec<u8>> {
    let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let data = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let extended = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp(SYN, &syn, &[])].concat();
    let mut arp = vec![0xff; 64];
    let asks = emit::arp_request(&mut arp, crate::MacAddr::ZERO, [192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    arp.truncate(asks.unwrap());
    let mut solicitation = vec![0; 86];
    emit::neighbor_solicitation(
        &mut solicitation,
        crate::MacAddr::ZERO,
        "fe80::1".parse().unwrap(),
        "fe80::2".parse().unwrap(),
    );
    vec![
        seal(v4(6, &tcp(SYN, &syn, &[]))),
        seal(v4(6, &tcp(ACK, &data, b"payload"))),
        seal(v4(17, &udp(b"payload"))),
        seal(v4_with(17, &[1; 8], 0, &udp(b"payload"))),
        seal(v4(1, &icmp(8, 0, [0, 7, 0, 1], b"ping"))),
        seal(v4(1, &icmp(3, 1, [0; 4], &v4(6, &tcp(SYN, &[], &[]))[14..]))),
        v4_with(17, &[], 0x2000, &[3, 232, 0, 53, 0, 99, 1, 1]),
        v4(47, b"whatever"),
        seal(v6(6, &tcp(ACK, &data, b"payload"))),
        seal(v6(17, &udp(b"payload"))),
        seal(v6(58, &icmp(128, 0, [0, 7, 0, 1], b"ping"))),
        seal(v6(58, &icmp(1, 4, [0; 4], &v6(17, &udp(b"x"))[14..]))),
        seal_at(v6(60, &extended), 62, 6),
        v6(44, &[17, 0, 0, 1, 0, 0, 0, 7, 3, 232, 0, 53, 0, 99, 1, 1]),
        tagged(&seal(v4(6, &tcp(SYN, &syn, &[]))), &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 9]]),
        arp,
        solicitation,
    ]
}

#[test]
fn good_packets_are_read_whatever_is_verified() {
    for frame in good() {
        let read = dissect(&frame, Verify::All);
        assert!(read.is_ok(), "{read:?}: {frame:02x?}");
        for verify in EVERY {
            assert_eq!(dissect(&frame, verify), read);
        }
    }
}

/// MAL-01: frames of every length 0 to 63.
#[test]
fn runts_are_refused_by_name() {
    for frame in good() {
        for len in 0..frame.len().min(64) {
            let expected = read(&frame[..len]);
            assert!(expected.is_err(), "{len} of {frame:02x?}");
            assert_eq!(expected == Err(Malformed::FrameTruncated), len < 14);
        }
    }
    for len in 0..64 {
        let zeroes = read(&vec![0; len]);
        assert_eq!(zeroes.is_err(), len < 14, "{len}: behind that, an empty LLC frame");
    }
}

/// MAL-04 (CVE-2023-1668): IP protocols 0 to 255, then ordinary TCP.
#[test]
fn every_protocol_has_its_verdict() {
    let ordinary = [seal(v4(6, &tcp(SYN, &[], &[]))), seal(v6(6, &tcp(SYN, &[], &[])))];
    let before = ordinary.clone().map(|frame| read(&frame));
    for protocol in 0..=u8::MAX {
        // Eight zeroes: no header of TCP, UDP or ICMP, an extension header to hop-by-hop options in IPv6.
        let v4_verdict = fault(&v4(protocol, &[0; 8]));
        let v6_verdict = fault(&v6(protocol, &[0; 8]));
        let expected = match protocol {
            1 => (Some(Malformed::IcmpChecksum), None),
            6 => (Some(Malformed::TcpTruncated), Some(Malformed::TcpTruncated)),
            17 => (Some(Malformed::UdpLength), Some(Malformed::UdpLength)),
            58 => (None, Some(Malformed::IcmpChecksum)),
            43 => (None, Some(Malformed::Ipv6RoutingType0)),
            51 => (None, Some(Malformed::Ipv6ExtensionTruncated)),
            0 | 44 | 60 => (None, Some(Malformed::Ipv6ExtensionOrder)),
            _ => (None, None),
        };
        assert_eq!((v4_verdict, v6_verdict), expected, "protocol {protocol}");
        assert_eq!(ordinary.clone().map(|frame| read(&frame)), before);
    }
    let echo = facts(&v4(200, &[0; 8]));
    assert_eq!((echo.protocol, echo.transport), (200, Transport::Other));
}

/// MAL-12: what is behind a tag is read as without it, and another ethertype is left alone.
#[test]
fn tags_move_offsets_and_nothing_else() {
    let bare = seal(v4(17, &udp(b"payload")));
    let plain = facts(&bare);
    for depth in 1..=3_u16 {
        let frame = tagged(&bare, &vec![[0x81, 0, 0, 5]; depth.into()]);
        let shift = 4 * depth;
        let expected = Facts {
            network: plain.network + shift,
            transport_offset: plain.transport_offset + shift,
            end: plain.end + shift,
            ..plain
        };
        assert_eq!(facts(&frame), expected);
    }
    let mut unknown = tagged(&bare, &[[0x81, 0, 0, 5]]);
    unknown[16..18].copy_from_slice(&[0x88, 0xcc]);
    let frame = read(&unknown).unwrap();
    assert_eq!((frame.content, frame.link.ethertype, frame.link.vlan), (Content::Other, 0x88cc, 5));
}

/// MAL-13: no protocol lets a martian through.
#[test]
fn martians_are_refused_over_every_protocol() {
    let mut refused = 0;
    for (protocol, segment) in
        [(6, tcp(SYN, &[], &[])), (17, udp(b"x")), (1, icmp(8, 0, [0; 4], &[])), (47, vec![0; 9])]
    {
        for (first, last) in [(0, 0), (127, 1), (224, 1), (239, 255), (240, 1), (255, 255)] {
            let mut frame = v4(protocol, &segment);
            frame[26..30].copy_from_slice(&[first, last, last, last]);
            seal_header(&mut frame);
            refused += u32::from(read(&seal(frame)).is_err());
        }
        let mut land = v4(protocol, &segment);
        land.copy_within(26..30, 30);
        seal_header(&mut land);
        assert_eq!(fault(&seal(land)), Some(Malformed::Land));
    }
    for (protocol, segment) in
        [(6, tcp(SYN, &[], &[])), (17, udp(b"x")), (58, icmp(128, 0, [0; 4], &[])), (47, vec![0; 9])]
    {
        for source in ["::1", "ff02::1", "::ffff:192.0.2.1", "::192.0.2.1"] {
            let mut frame = v6(protocol, &segment);
            frame[22..38].copy_from_slice(&source.parse::<core::net::Ipv6Addr>().unwrap().octets());
            refused += u32::from(read(&seal(frame)).is_err());
        }
        let mut land = v6(protocol, &segment);
        land.copy_within(22..38, 38);
        assert_eq!(fault(&seal(land)), Some(Malformed::Land));
    }
    assert_eq!(refused, 40);
}

#[test]
fn a_frame_beyond_16_bits_is_read_as_far_as_they_reach() {
    let mut frame = seal(v4(17, &udp(&vec![7; 65_493])));
    let facts = facts(&frame);
    assert_eq!(facts.end, 65_535);
    frame.resize(100_000, 0);
    assert_eq!(read(&frame).map(|frame| frame.content), Ok(Content::Ip(facts)));
    let longest = v4(99, &vec![0; 65_502]);
    assert_eq!(fault(&longest), Some(Malformed::Ipv4TotalLength), "its end has no offset");
    let longest = v6(99, &vec![0; 65_482]);
    assert_eq!(fault(&longest), Some(Malformed::Ipv6PayloadLength));
}

/// Whatever is accepted keeps its promises: offsets in order and inside the frame.
fn check_promises(bytes: &[u8], frame: &Frame) {
    let Content::Ip(ip) = frame.content else { return };
    assert!(frame.link.payload == ip.network && ip.network < ip.transport_offset);
    assert!(ip.transport_offset <= ip.end && usize::from(ip.end) <= bytes.len());
    assert_eq!(ip.fragment == Fragment::Later, ip.transport == Transport::Unknown);
    match ip.transport {
        Transport::Tcp(tcp) => assert!(tcp.payload + ip.transport_offset + 20 <= ip.end),
        Transport::IcmpError { quote, .. } => {
            assert!(ip.transport_offset < quote.network && quote.network < quote.transport_offset);
            assert!(quote.transport_offset <= ip.end);
        }
        _ => {}
    }
}

/// Puts a frame through everything of this crate that takes one.
fn exercise(bytes: &[u8]) {
    for verify in EVERY {
        let Ok(frame) = dissect(bytes, verify) else { continue };
        check_promises(bytes, &frame);
        let mut out = [0; 1_600];
        if let Some(len) = emit::tcp_reset(&mut out, bytes, &frame) {
            assert!(read(&out[..len]).is_ok());
        }
        let kind = emit::IcmpErrorKind::TooBig { mtu: 1_400 };
        for source in ["203.0.113.9".parse().unwrap(), "2001:db8::99".parse().unwrap()] {
            emit::icmp_error(&mut out, kind, source, bytes, &frame);
        }
        let mut copy = bytes.to_vec();
        if emit::echo_reply_in_place(&mut copy, &frame) && verify != Verify::Nothing {
            assert!(read(&copy).is_ok());
        }
        if let Content::Ip(facts) = frame.content {
            let _ = ndp::neighbor_message(bytes, &facts);
            if crate::checksum::complete(&mut copy, &facts) && verify == Verify::Partial {
                assert!(read(&copy).is_ok());
            }
        }
    }
}

/// What an independent parser finds: addresses, protocol, ports, and where the payload lies.
type Found = (Endpoints, u8, Option<(u16, u16)>, usize, usize);

fn ours(bytes: &[u8]) -> Option<Found> {
    let Content::Ip(ip) = read(bytes).ok()?.content else { return None };
    let (ports, payload) = match ip.transport {
        Transport::Tcp(tcp) => (Some((tcp.source_port, tcp.destination_port)), ip.end - tcp.payload),
        Transport::Udp { source_port, destination_port, .. } => {
            (Some((source_port, destination_port)), ip.transport_offset + 8)
        }
        Transport::Echo { .. } | Transport::Icmp { .. } | Transport::IcmpError { .. } => {
            (None, ip.transport_offset + 8)
        }
        Transport::Other | Transport::Unknown => (None, ip.transport_offset),
    };
    Some((ip.endpoints, ip.protocol, ports, payload.into(), ip.end.into()))
}

fn theirs(bytes: &[u8]) -> Option<Found> {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let at = |inner: &[u8]| inner.as_ptr() as usize - bytes.as_ptr() as usize;
    let (endpoints, payload) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            (Endpoints::V4 { source, destination }, ip.payload().clone())
        }
        NetSlice::Ipv6(ip) => {
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            (Endpoints::V6 { source, destination }, ip.payload().clone())
        }
        NetSlice::Arp(_) => return None,
    };
    let end = at(payload.payload) + payload.payload.len();
    let (ports, begin) = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (Some((tcp.source_port(), tcp.destination_port())), at(tcp.payload())),
        Some(TransportSlice::Udp(udp)) => (Some((udp.source_port(), udp.destination_port())), at(udp.payload())),
        // Eight bytes of header, as we count; it reads ICMP inside the other family as well.
        Some(TransportSlice::Icmpv4(icmp)) if !endpoints.is_v6() => (None, at(icmp.slice()) + 8),
        Some(TransportSlice::Icmpv6(icmp)) if endpoints.is_v6() => (None, at(icmp.slice()) + 8),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) | None => (None, at(payload.payload)),
    };
    Some((endpoints, payload.ip_number.0, ports, begin, end))
}

/// Where both accept a frame as IP, they say the same of it.
fn check_agreement(bytes: &[u8]) -> bool {
    // Of a fragment and of an IPv4 authentication header etherparse reads less or more than we do.
    let Content::Ip(ip) = (match read(bytes) {
        Ok(frame) => frame.content,
        Err(_) => return false,
    }) else {
        return false;
    };
    if ip.fragment != Fragment::No || (!ip.endpoints.is_v6() && ip.protocol == 51) {
        return false;
    }
    let (Some(ours), Some(theirs)) = (ours(bytes), theirs(bytes)) else { return false };
    assert_eq!(ours, theirs, "{bytes:02x?}");
    true
}

#[test]
fn etherparse_agrees_on_good_packets() {
    let agreed = good().iter().filter(|frame| check_agreement(frame)).count();
    assert_eq!(agreed, good().len() - 3, "all but two fragments and one ARP");
}

/// A good packet with a few bytes changed, and what checksums it has made right again, so that the change gets deep.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (0..good().len(), prop::collection::vec(change, 0..4), any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
        .prop_map(|(which, changes, cut, shorten, mend)| {
            let mut frame = good().swap_remove(which);
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if shorten {
                frame.truncate(cut.index(frame.len()));
            }
            if mend && frame.len() >= 54 {
                if frame[12..14] == [8, 0] {
                    seal_header(&mut frame);
                }
                frame = seal(frame);
            }
            frame
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// MAL-18.
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
    }

    /// MAL-18, behind headers that let more of the bytes be read.
    #[test]
    fn no_bytes_behind_an_ip_header_make_it_panic(
        protocol in prop_oneof![Just(6), Just(17), Just(1), Just(58), Just(44), Just(60), any::<u8>()],
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        cut in prop_oneof![4 => Just(0), 1 => any::<u16>()],
    ) {
        exercise(&seal(v4_with(protocol, &[], cut, &bytes)));
        exercise(&v4_with(protocol, &[], cut, &bytes));
        exercise(&seal(v6(protocol, &bytes)));
        exercise(&v6(protocol, &bytes));
    }

    /// MAL-18, and agreement with `etherparse` on what both accept.
    #[test]
    fn mutated_packets_do_no_harm_and_etherparse_agrees(frame in mutated()) {
        exercise(&frame);
        check_agreement(&frame);
    }

    /// Packets that `etherparse` builds are read as they were meant.
    #[test]
    fn packets_of_etherparse_are_read_as_meant(
        source in (1_u8..224).prop_map(|first| if first == 127 { 126 } else { first }), v6 in any::<bool>(), ports in (1_u16.., 1_u16..), tcp in any::<bool>(),
        numbers in any::<(u32, u32, u16)>(), payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let ip = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = if v6 {
            let mut from = [0x20; 16];
            from[15] = source;
            ip.ipv6(from, [0x30; 16], 9)
        } else {
            ip.ipv4([source, 1, 2, 3], [198, 51, 100, 1], 9)
        };
        let mut frame = Vec::new();
        let expected = if tcp {
            ip.tcp(ports.0, ports.1, numbers.0, numbers.2).ack(numbers.1).write(&mut frame, &payload).unwrap();
            Transport::Tcp(crate::Tcp {
                source_port: ports.0,
                destination_port: ports.1,
                sequence: numbers.0.into(),
                acknowledgment: numbers.1.into(),
                window: numbers.2,
                flags: crate::TcpFlags::ACK,
                payload: u16::try_from(payload.len()).unwrap(),
                window_scale: None,
            })
        } else {
            ip.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
            Transport::Udp { source_port: ports.0, destination_port: ports.1, no_checksum: false }
        };
        let found = facts(&frame);
        prop_assert_eq!((found.transport, found.hop_limit, found.endpoints.is_v6()), (expected, 9, v6));
        prop_assert!(check_agreement(&frame));
    }
}
