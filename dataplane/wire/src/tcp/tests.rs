//! TCP data offsets, options, flags, ports, checksum.

use super::*;
use crate::packets::{ACK, SYN, facts, fault, seal, tcp, v4, v6};
use crate::{Transport, Verify};

fn segment(frame: &[u8]) -> Tcp {
    match facts(frame).transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("not TCP: {other:?}"),
    }
}

fn both(segment: &[u8]) -> [Vec<u8>; 2] {
    [seal(v4(6, segment)), seal(v6(6, segment))]
}

#[test]
fn bytes_and_fields_agree() {
    for frame in both(&tcp(SYN | ACK, &[2, 4, 5, 0xb4, 1, 3, 3, 7], b"payload")) {
        let expected = Tcp {
            source_port: 1_000,
            destination_port: 80,
            sequence: SeqNumber::new(0x1000),
            acknowledgment: SeqNumber::new(0x2000),
            window: 0x4000,
            flags: TcpFlags::SYN | TcpFlags::ACK,
            payload: 7,
            window_scale: Some(7),
        };
        assert_eq!(segment(&frame), expected);
    }
    let mut header = TcpHeader::new(1_000, 80, SeqNumber::new(0x1000), SeqNumber::new(0x2000), TcpFlags::SYN);
    assert_eq!(header.as_bytes()[..14], tcp(SYN, &[], &[])[..14]);
    header.set_checksum(0xabcd);
    assert_eq!((header.checksum(), header.window(), header.header_len()), (0xabcd, 0, 20));
}

/// MAL-07: data offset 0 to 15 against 0 to 60 bytes, 976 verdicts.
#[test]
fn impossible_data_offsets_are_refused() {
    let mut verdicts = 0;
    for doff in 0..16_u8 {
        for present in 0..=60_usize {
            let mut bytes = tcp(ACK, &[], &[1; 40]);
            bytes[12] = doff << 4;
            bytes.truncate(present);
            let expected = if present < 20 {
                Some(Malformed::TcpTruncated)
            } else if doff < 5 || usize::from(doff) * 4 > present {
                Some(Malformed::TcpDataOffset)
            } else {
                None
            };
            for frame in both(&bytes) {
                assert_eq!(fault(&frame), expected, "data offset {doff}, {present} bytes");
                if expected.is_none() {
                    assert_eq!(usize::from(segment(&frame).payload), present - usize::from(doff) * 4);
                }
            }
            verdicts += 1;
        }
    }
    assert_eq!(verdicts, 976);
}

/// MAL-08.
#[test]
fn options_are_walked_within_their_bounds() {
    const BAD: Option<Malformed> = Some(Malformed::TcpOptions);
    for (options, expected, scale) in [
        (&[1; 40][..], None, None),
        (&[0, 0, 0, 0], None, None),
        (&[0, 3, 3, 9], None, None),
        (&[3, 3, 14, 0], None, Some(14)),
        (&[3, 3, 15, 0], None, Some(14)),
        (&[3, 3, 255, 0], None, Some(14)),
        (&[3, 3, 2, 3, 3, 5, 0, 0], None, Some(5)),
        (&[2, 4, 5, 0xb4, 2, 4, 5, 0xb4], None, None),
        (&[4, 2, 1, 1], None, None),
        (&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2], None, None),
        (&[254, 4, 0xde, 0xad], None, None),
        (&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], None, Some(7)),
        (&[253, 0, 0, 0], BAD, None),
        (&[253, 1, 0, 0], BAD, None),
        (&[253, 5, 0, 0], BAD, None),
        (&[1, 1, 1, 253], BAD, None),
        (&[2, 3, 5, 0], BAD, None),
        (&[3, 4, 7, 0], BAD, None),
        (&[4, 3, 0, 0], BAD, None),
        (&[8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], BAD, None),
        (&[5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], BAD, None),
        (&[5, 2, 0, 0], BAD, None),
    ] {
        for frame in both(&tcp(SYN, options, &[])) {
            assert_eq!(fault(&frame), expected, "{options:?}");
            if expected.is_none() {
                assert_eq!(segment(&frame).window_scale, scale, "{options:?}");
            }
        }
    }
}

#[test]
fn a_window_scale_counts_with_syn_only() {
    let frame = seal(v4(6, &tcp(ACK, &[3, 3, 7, 0], &[])));
    assert_eq!(segment(&frame).window_scale, None);
}

/// The common options take a short way; it must lead to the same place.
#[test]
fn timestamps_are_read_the_same_both_ways() {
    let usual = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(walk_options(&usual), Ok(None));
    assert_eq!(segment(&seal(v4(6, &tcp(SYN, &usual, &[])))).window_scale, None);
}

/// MAL-09: which flags a packet may carry at all; the sets themselves are tested in `flags`.
#[test]
fn illegal_flags_are_refused() {
    for bits in 0..=u8::MAX {
        let expected = (!TcpFlags::new(bits).is_legal()).then_some(Malformed::TcpFlags);
        for frame in both(&tcp(bits, &[], &[])) {
            assert_eq!(fault(&frame), expected, "{bits:#04x}");
        }
    }
}

#[test]
fn port_zero_is_refused() {
    for at in [0, 2] {
        let mut bytes = tcp(SYN, &[], &[]);
        bytes[at..at + 2].fill(0);
        for frame in both(&bytes) {
            assert_eq!(fault(&frame), Some(Malformed::TcpPortZero));
        }
    }
}

#[test]
fn a_wrong_checksum_is_refused_unless_the_device_looked() {
    for mut frame in both(&tcp(ACK, &[], b"odd")) {
        let last = frame.len() - 1;
        frame[last] ^= 0x10;
        assert_eq!(fault(&frame), Some(Malformed::TcpChecksum));
        assert_eq!(crate::dissect(&frame, Verify::Partial).err(), Some(Malformed::TcpChecksum));
        assert!(crate::dissect(&frame, Verify::Nothing).is_ok());
    }
}
