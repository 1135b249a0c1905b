//! UDP lengths, checksum, ports.

use super::*;
use crate::Verify;
use crate::packets::{facts, fault, seal, udp, v4, v6};

fn both(segment: &[u8]) -> [Vec<u8>; 2] {
    [seal(v4(17, segment)), seal(v6(17, segment))]
}

#[test]
fn bytes_and_fields_agree() {
    let bytes = udp(b"payload");
    let (header, payload) = UdpHeader::split(&bytes).unwrap();
    assert_eq!((header.source_port(), header.destination_port(), header.length()), (1_000, 53, 15));
    assert_eq!((header.checksum(), payload), (0, &b"payload"[..]));
    for frame in both(&bytes) {
        let expected = Transport::Udp { source_port: 1_000, destination_port: 53, no_checksum: false };
        assert_eq!(facts(&frame).transport, expected);
    }
}

/// MAL-10: lengths that lie, IPv6's 0 (a jumbogram's, RFC 2675) among them.
#[test]
fn a_length_that_lies_is_refused() {
    for payload in [&b""[..], b"payload"] {
        let right = u16::try_from(8 + payload.len()).unwrap();
        for length in [0, 7, 8, right, right + 1, 65_535] {
            let mut bytes = udp(payload);
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            let expected = (length != right).then_some(Malformed::UdpLength);
            for frame in both(&bytes) {
                assert_eq!(fault(&frame), expected, "{length} of {right}");
            }
        }
    }
}

#[test]
fn every_cut_is_refused() {
    for len in 0..8 {
        for frame in both(&udp(b"")[..len]) {
            assert_eq!(fault(&frame), Some(Malformed::UdpTruncated));
        }
    }
}

#[test]
fn a_missing_checksum_is_for_ipv4_only() {
    let expected = Transport::Udp { source_port: 1_000, destination_port: 53, no_checksum: true };
    assert_eq!(facts(&v4(17, &udp(b"payload"))).transport, expected);
    let frame = v6(17, &udp(b"payload"));
    for verify in [Verify::All, Verify::Nothing, Verify::Partial] {
        assert_eq!(crate::dissect(&frame, verify).err(), Some(Malformed::UdpChecksum));
    }
}

#[test]
fn a_wrong_checksum_is_refused_unless_the_device_looked() {
    for mut frame in both(&udp(b"odd")) {
        let last = frame.len() - 1;
        frame[last] ^= 0x10;
        assert_eq!(fault(&frame), Some(Malformed::UdpChecksum));
        assert!(crate::dissect(&frame, Verify::Nothing).is_ok());
    }
}

#[test]
fn destination_port_zero_is_refused_and_source_port_zero_wants_no_answer() {
    let mut bytes = udp(b"x");
    bytes[..2].fill(0);
    both(&bytes).iter().for_each(|frame| assert_eq!(fault(frame), None));
    bytes[2..4].fill(0);
    both(&bytes).iter().for_each(|frame| assert_eq!(fault(frame), Some(Malformed::UdpPortZero)));
}
