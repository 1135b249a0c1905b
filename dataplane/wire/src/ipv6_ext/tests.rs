//! Chains of extension headers: order, number, cuts, fragments.

use super::*;
use crate::Transport;
use crate::packets::{ACK, RST, SYN, facts, fault, seal_at, tcp, udp, v6};

/// A frame with extension headers of these kinds, 8 bytes each but the authentication header's 16, then `last`.
fn chain(kinds: &[u8], protocol: u8, last: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (at, &kind) in kinds.iter().enumerate() {
        let next = kinds.get(at + 1).copied().unwrap_or(protocol);
        match kind {
            AUTHENTICATION => payload.extend([next, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9]),
            FRAGMENT => payload.extend([next, 0, 0, 0, 0, 0, 0, 7]),
            ROUTING => payload.extend([next, 0, 4, 0, 0, 0, 0, 0]),
            _ => payload.extend([next, 0, 1, 4, 0, 0, 0, 0]),
        }
    }
    let at = 54 + payload.len();
    payload.extend(last);
    seal_at(v6(kinds.first().copied().unwrap_or(protocol), &payload), at, protocol)
}

/// A frame with one fragment header and `piece` behind it.
fn fragment(next: u8, units: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let [high, low] = (units << 3 | u16::from(more)).to_be_bytes();
    v6(FRAGMENT, &[&[next, 0, high, low, 0, 0, 0, 7][..], piece].concat())
}

#[test]
fn every_kind_is_walked() {
    let kinds = [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS];
    let facts = facts(&chain(&kinds, 6, &tcp(SYN, &[], &[])));
    assert_eq!(facts.protocol, 6);
    assert_eq!(usize::from(facts.transport_offset), 54 + 8 * kinds.len() + 8);
    assert!(matches!(facts.transport, Transport::Tcp(_)));
}

/// EVA-10: 1 to 20 headers, the limit exact at 16 and 17.
#[test]
fn sixteen_headers_are_walked_and_a_seventeenth_is_refused() {
    for count in 1..=20 {
        let expected = (count > 16).then_some(Malformed::Ipv6ExtensionCount);
        assert_eq!(fault(&chain(&vec![DESTINATION_OPTIONS; count], 17, &udp(b"x"))), expected, "{count}");
    }
}

/// EVA-10: order and repetition.
#[test]
fn hop_by_hop_comes_first_and_fragment_once() {
    let payload = udp(b"x");
    for (kinds, expected) in [
        (&[HOP_BY_HOP][..], None),
        (&[DESTINATION_OPTIONS, DESTINATION_OPTIONS], None),
        (&[ROUTING, ROUTING], None),
        (&[FRAGMENT, DESTINATION_OPTIONS], None),
        (&[HOP_BY_HOP, HOP_BY_HOP], Some(Malformed::Ipv6ExtensionOrder)),
        (&[DESTINATION_OPTIONS, HOP_BY_HOP], Some(Malformed::Ipv6ExtensionOrder)),
        (&[FRAGMENT, HOP_BY_HOP], Some(Malformed::Ipv6ExtensionOrder)),
        (&[FRAGMENT, FRAGMENT], Some(Malformed::Ipv6ExtensionOrder)),
        (&[FRAGMENT, DESTINATION_OPTIONS, FRAGMENT], Some(Malformed::Ipv6ExtensionOrder)),
    ] {
        assert_eq!(fault(&chain(kinds, 17, &payload)), expected, "{kinds:?}");
    }
}

/// EVA-10, RFC 5095.
#[test]
fn routing_of_type_0_is_refused() {
    for segments_left in [0, 1] {
        let mut frame = chain(&[ROUTING], 17, &udp(b"x"));
        frame[56..58].copy_from_slice(&[0, segments_left]);
        assert_eq!(fault(&frame), Some(Malformed::Ipv6RoutingType0));
    }
}

/// A packet on its way from station to station is read as its routing header: ports and checksum belong to the last one.
#[test]
fn a_routing_header_with_segments_left_hides_what_is_behind() {
    let mut frame = chain(&[HOP_BY_HOP, ROUTING], 17, &udp(b"x"));
    let arrived = facts(&frame);
    assert_eq!((arrived.protocol, arrived.extensions), (17, Extensions { hop_by_hop: true, routing: None }));
    frame[65] = 1;
    let under_way = facts(&frame);
    assert_eq!((under_way.protocol, under_way.transport), (ROUTING, Transport::Other));
    assert_eq!(under_way.extensions, Extensions { hop_by_hop: true, routing: Some(4) });
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(facts(&frame), under_way, "whatever the checksum");
    let mut twice = chain(&[ROUTING, ROUTING], 17, &udp(b"x"));
    (twice[57], twice[65]) = (1, 1);
    assert_eq!(fault(&twice), Some(Malformed::Ipv6ExtensionOrder));
}

#[test]
fn a_cut_header_is_refused() {
    for kind in [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, AUTHENTICATION] {
        let whole = chain(&[kind], 59, &[]);
        for keep in 0..whole.len() - 54 {
            let frame = v6(kind, &whole[54..54 + keep]);
            let expected = if kind == HOP_BY_HOP && keep == 0 {
                Malformed::Ipv6PayloadLength
            } else {
                Malformed::Ipv6ExtensionTruncated
            };
            assert_eq!(fault(&frame), Some(expected), "{kind} {keep}");
        }
        assert_eq!(fault(&whole), None);
    }
    let mut long = chain(&[DESTINATION_OPTIONS], 17, &udp(b"x"));
    long[55] = 255;
    assert_eq!(fault(&long), Some(Malformed::Ipv6ExtensionTruncated));
    let mut short = chain(&[AUTHENTICATION], 59, &[]);
    short[55] = 0;
    assert_eq!(fault(&short), Some(Malformed::Ipv6ExtensionTruncated));
}

#[test]
fn nothing_and_the_unreadable_are_protocols_without_ports() {
    for protocol in [NO_NEXT_HEADER, 50, 135, 139, 140, 253, 1] {
        let facts = facts(&chain(&[DESTINATION_OPTIONS], protocol, b"anything"));
        assert_eq!((facts.protocol, facts.transport), (protocol, Transport::Other));
    }
}

/// EVA-08, RFC 6946.
#[test]
fn an_atomic_fragment_is_whole() {
    let facts = facts(&chain(&[FRAGMENT], 6, &tcp(RST | ACK, &[], &[])));
    assert_eq!(facts.fragment, Fragment::No);
    let mut broken = chain(&[FRAGMENT], 6, &tcp(RST | ACK, &[], &[]));
    broken[70] ^= 1;
    assert_eq!(fault(&broken), Some(Malformed::TcpChecksum), "so its checksum is verified");
}

/// EVA-02, EVA-04, EVA-09.
#[test]
fn fragments_are_told_apart_and_judged() {
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    for (next, units, more, piece, expected) in [
        (6, 0, true, tcp(SYN, &[], &[0; 4]), Ok(Fragment::First)),
        (17, 0, true, vec![3, 232, 0, 53, 0, 99, 1, 1], Ok(Fragment::First)),
        (60, 0, true, [&options[..], &[3, 232, 0, 53, 0, 99, 1, 1]].concat(), Ok(Fragment::First)),
        (60, 9, false, vec![7], Ok(Fragment::Later)),
        (6, 3, true, vec![0; 8], Ok(Fragment::Later)),
        (6, 0, true, tcp(SYN, &[], &[])[..16].to_vec(), Err(Malformed::Ipv6HeaderChain)),
        (6, 0, true, tcp(SYN, &[1; 12], &[])[..24].to_vec(), Err(Malformed::Ipv6HeaderChain)),
        (17, 0, true, vec![], Err(Malformed::FragmentTiny)),
        (60, 0, true, options.to_vec(), Err(Malformed::Ipv6HeaderChain)),
        (60, 0, true, vec![17, 1, 1, 4, 0, 0, 0, 0], Err(Malformed::Ipv6HeaderChain)),
        (6, 1, false, vec![0; 8], Err(Malformed::FragmentTiny)),
        (6, 2, true, vec![0; 8], Err(Malformed::FragmentTiny)),
        (17, 4, false, vec![], Err(Malformed::FragmentTiny)),
        (17, 4, true, vec![0; 7], Err(Malformed::FragmentLength)),
        (17, 0x1fff, false, vec![0; 8], Err(Malformed::FragmentLength)),
        (17, 0x1fff, false, vec![0; 7], Ok(Fragment::Later)),
    ] {
        let frame = fragment(next, units, more, &piece);
        let verdict = fault(&frame).map_or_else(|| Ok(facts(&frame).fragment), Err);
        assert_eq!(verdict, expected, "next {next}, offset {units}, more {more}, {} bytes", piece.len());
    }
}
