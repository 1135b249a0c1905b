//! IPv6 lengths, padding, the unspecified source.

use super::*;
use crate::Endpoints;
use crate::packets::{DESTINATION_V6, SOURCE_V6, SYN, facts, fault, icmp, read, seal, seal_at, tcp, udp, v6};

#[test]
fn bytes_and_fields_agree() {
    let frame = v6(17, &udp(b"payload"));
    let (header, payload) = Ipv6Header::split(&frame[14..]).unwrap();
    assert_eq!((header.version(), header.payload_length()), (6, 15));
    assert_eq!((header.next_header(), header.hop_limit()), (17, 63));
    assert_eq!((header.source().octets(), header.destination().octets()), (SOURCE_V6, DESTINATION_V6));
    assert_eq!(payload.len(), 15);
    let written = Ipv6Header::new(15, 17, 63, SOURCE_V6.into(), DESTINATION_V6.into());
    assert_eq!(written.as_bytes(), &frame[14..54]);
}

#[test]
fn a_whole_packet_is_read() {
    let facts = facts(&seal(v6(17, &udp(b"payload"))));
    assert_eq!((facts.network, facts.transport_offset, facts.end), (14, 54, 69));
    assert_eq!((facts.protocol, facts.hop_limit, facts.dont_fragment), (17, 63, true));
    let endpoints = Endpoints::V6 { source: SOURCE_V6.into(), destination: DESTINATION_V6.into() };
    assert_eq!((facts.endpoints, facts.fragment), (endpoints, Fragment::No));
}

#[test]
fn every_cut_is_refused() {
    let frame = seal(v6(17, &udp(b"payload")));
    for len in 14..frame.len() {
        let expected = if len < 54 { Malformed::Ipv6Truncated } else { Malformed::Ipv6PayloadLength };
        assert_eq!(fault(&frame[..len]), Some(expected), "{len}");
    }
}

#[test]
fn another_version_is_refused() {
    for version in (0..16_u8).filter(|&version| version != 6) {
        let mut frame = v6(59, &[]);
        frame[14] = version << 4;
        assert_eq!(fault(&frame), Some(Malformed::Ipv6Version));
    }
}

/// MAL-10, RFC 2675: no jumbograms.
#[test]
fn a_jumbogram_is_refused() {
    let mut frame = v6(0, &[17, 0, 0xc2, 4, 0, 1, 0, 0]);
    frame[18..20].fill(0);
    assert_eq!(fault(&frame), Some(Malformed::Ipv6PayloadLength));
}

/// MAL-03.
#[test]
fn padding_changes_nothing() {
    for frame in [seal(v6(6, &tcp(SYN, &[], b"abc"))), seal(v6(17, &udp(b"payload"))), v6(59, b"xyz")] {
        let unpadded = read(&frame).unwrap();
        for padding in 0..=200 {
            assert_eq!(read(&[&frame[..], &vec![0x5a; padding]].concat()), Ok(unpadded));
        }
    }
}

/// MAL-13: `::` speaks `ICMPv6` only.
#[test]
fn only_icmp_comes_from_the_unspecified_address() {
    let group: [u8; 16] = "ff02::16".parse::<Ipv6Addr>().unwrap().octets();
    let from_nowhere = |mut frame: Vec<u8>, at| {
        frame[22..38].fill(0);
        frame[38..54].copy_from_slice(&group);
        let protocol = if at == 54 { frame[20] } else { frame[54] };
        fault(&seal_at(frame, at, protocol))
    };
    let report = icmp(143, 0, [0; 4], &[]);
    assert_eq!(from_nowhere(v6(58, &report), 54), None);
    assert_eq!(from_nowhere(v6(0, &[&[58, 0, 5, 2, 0, 0, 1, 0][..], &report].concat()), 62), None);
    assert_eq!(from_nowhere(v6(17, &udp(b"payload")), 54), Some(Malformed::SourceUnspecified));
}
