//! What one end writes the other reads, whatever the tunnel; and what is not a packet of a tunnel is refused.

use proptest::prelude::*;
use wire::{Content, Verify, dissect};

use super::*;
use crate::tunnel::{GueVariant, Outer};

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.11");
const V6: (&str, &str) = ("2001:db8:10::1", "2001:db8:10::11");

const MODES: [Encapsulation; 5] = [
    Encapsulation::IpIp,
    Encapsulation::Gre { key: None },
    Encapsulation::Gre { key: Some(9) },
    Encapsulation::Gue { port: 6080, variant: GueVariant::Direct },
    Encapsulation::Gue { port: 6080, variant: GueVariant::Header },
];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endings(encapsulation: Encapsulation) -> Endings {
    let ending = |ends: (&str, &str)| Ending {
        name: "tunnel".into(),
        encapsulation,
        address: address(ends.1),
        from: vec![IpNet::from(address(ends.0))],
    };
    Endings::new(&[ending(V4), ending(V6)])
}

/// An IP packet without its link, and its frame through a tunnel.
fn wrapped(mode: Encapsulation, ends: (&str, &str), v6: bool, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut packet = Vec::new();
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    let builder = if v6 {
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        builder.ipv6(octets("2001:db8:51::7"), octets("2001:db8:51::10"), 63)
    } else {
        builder.ipv4([198, 51, 100, 7], [198, 51, 100, 10], 63)
    };
    builder.udp(40_000, 53).write(&mut packet, data).unwrap();
    let packet = packet.split_off(14);
    let outer = Outer::new(mode, address(ends.0), address(ends.1), v6).unwrap();
    let mut frame = vec![0; 14 + usize::from(outer.overhead())];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame.extend(&packet);
    assert!(outer.write(&mut frame, 77, 0));
    (packet, frame)
}

fn inside(endings: &Endings, frame: &[u8]) -> Option<Result<usize, DropReason>> {
    let Content::Ip(facts) = dissect(frame, Verify::Nothing).ok()?.content else { return None };
    endings.inside(frame, &facts)
}

proptest! {
    /// Encapsulation and decapsulation are each other's inverse, byte for byte.
    #[test]
    fn what_was_wrapped_is_found(
        mode in prop::sample::select(&MODES[..]),
        outer_v6: bool,
        v6: bool,
        data in prop::collection::vec(any::<u8>(), 0..1_300),
    ) {
        let (packet, frame) = wrapped(mode, if outer_v6 { V6 } else { V4 }, v6, &data);
        let at = inside(&endings(mode), &frame).unwrap().unwrap();
        prop_assert_eq!(&frame[at..], &packet[..]);
    }

    /// Whatever the bytes between the headers say, what is found lies inside the frame.
    #[test]
    fn any_bytes_are_survived(
        mode in prop::sample::select(&MODES[..]),
        at in 34usize..80,
        bytes in prop::collection::vec(any::<u8>(), 0..12),
        len in 0usize..200,
    ) {
        let (_, mut frame) = wrapped(mode, V4, false, &[0; 60]);
        for (place, byte) in frame.iter_mut().skip(at).zip(&bytes) {
            *place = *byte;
        }
        frame.truncate(len.max(14));
        if let Some(Ok(at)) = inside(&endings(mode), &frame) {
            prop_assert!(at < frame.len() && matches!(frame[at] >> 4, 4 | 6));
        }
    }

    /// RFC 6040 section 4.2, figure 4: all sixteen, and the header checksum is right.
    #[test]
    fn congestion_is_carried(inner in 0u8..4, outer in 0u8..4, v6: bool, rest in 0u8..64) {
        let (_, mut frame) = wrapped(Encapsulation::IpIp, V4, v6, b"data");
        let class = rest << 2 | inner;
        if v6 {
            frame[34] = 0x60 | class >> 4;
            frame[35] = frame[35] & 0x0f | class << 4;
        } else {
            frame[35] = class;
            frame[44..46].fill(0);
            let sum = checksum::plain(&frame[34..54]);
            frame[44..46].copy_from_slice(&sum.to_be_bytes());
        }
        let carried = carry_congestion(&mut frame, 34, outer);
        let expected = [
            [Some(0), Some(0), Some(0), None],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3); 4],
        ][usize::from(inner)][usize::from(outer)];
        prop_assert_eq!(carried, expected.is_some());
        prop_assert_eq!(super::class(&frame, 34), rest << 2 | expected.unwrap_or(inner));
        if !v6 {
            prop_assert_eq!(checksum::plain(&frame[34..54]), 0);
        }
    }
}

#[test]
fn only_listed_sources_may_send_into_a_tunnel() {
    for mode in MODES {
        let (_, frame) = wrapped(mode, ("10.0.0.2", V4.1), false, b"data");
        assert_eq!(inside(&endings(mode), &frame), Some(Err(DropReason::TunnelSource)), "{mode:?}");
        let (_, frame) = wrapped(mode, (V4.0, "10.0.0.12"), false, b"data");
        assert_eq!(inside(&endings(mode), &frame), None, "{mode:?}: it ends elsewhere");
    }
    let (_, frame) = wrapped(Encapsulation::IpIp, V4, false, b"data");
    assert_eq!(inside(&endings(MODES[1]), &frame), None, "another kind");
    let (_, frame) = wrapped(Encapsulation::Gue { port: 6081, variant: GueVariant::Direct }, V4, false, b"data");
    assert_eq!(inside(&endings(MODES[3]), &frame), None, "another port");
}

/// RFC 2784 section 2.3, RFC 2890: flags, versions, keys and protocols that are not the tunnel's.
#[test]
fn headers_that_are_not_the_tunnels_are_refused() {
    let refused = Some(Err(DropReason::TunnelHeader));
    for (mode, at, bytes) in [
        (MODES[0], 34, &[0x60][..]),
        (MODES[0], 34, &[0x55]),
        (MODES[1], 34, &[0x40]),
        (MODES[1], 34, &[0x08]),
        (MODES[1], 35, &[0x01]),
        (MODES[1], 34, &[0x80]),
        (MODES[1], 36, &[0x88, 0x64]),
        (MODES[1], 36, &[0x86, 0xdd]),
        (MODES[1], 34, &[0x20]),
        (MODES[2], 34, &[0x00]),
        (MODES[2], 41, &[0x0a]),
        (MODES[3], 42, &[0x85]),
        (MODES[3], 42, &[0x55]),
        (MODES[4], 42, &[0x20]),
        (MODES[4], 42, &[0x01]),
        (MODES[4], 43, &[0x29]),
        (MODES[4], 43, &[0x11]),
        (MODES[4], 44, &[0x80]),
    ] {
        let (_, mut frame) = wrapped(mode, V4, false, b"data");
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(inside(&endings(mode), &frame), refused, "{mode:?} {at} {bytes:x?}");
    }
}

/// A checksum and a sequence number, which nobody here writes, are understood (RFC 2784 section 2.5, RFC 2890 section 2.2).
#[test]
fn optional_parts_of_gre_are_passed_over() {
    let (packet, frame) = wrapped(MODES[1], V4, false, b"data");
    let mut gre = vec![0x90, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    gre.extend(&packet);
    let sum = checksum::plain(&gre);
    gre[4..6].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = frame[..34].to_vec();
    bytes.extend(&gre);
    let total = u16::try_from(bytes.len() - 14).unwrap();
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    assert_eq!(inside(&endings(MODES[1]), &bytes), Some(Ok(34 + 12)));
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(inside(&endings(MODES[1]), &bytes), Some(Err(DropReason::TunnelHeader)));
}
