//! ICMP messages told apart, cut and broken.

use super::*;
use crate::packets::{facts, fault, icmp, naive, seal, tcp, v4, v6};

#[test]
fn bytes_and_fields_agree() {
    let bytes = icmp(8, 0, [0x12, 0x34, 0, 1], b"ping");
    let (header, message) = IcmpHeader::split(&bytes).unwrap();
    assert_eq!((header.kind(), header.code(), header.checksum()), (8, 0, 0));
    assert_eq!((header.identifier(), header.rest(), message), (0x1234, 0x1234_0001, &b"ping"[..]));
    assert_eq!(IcmpHeader::new(8, 0, 0x1234_0001).as_bytes(), &bytes[..8]);
}

#[test]
fn a_changed_type_keeps_the_checksum_right() {
    for rest in [0, 1, 0xffff_ffff, 0x1234_0001] {
        let mut header = IcmpHeader::new(8, 0, rest);
        header.set_checksum(naive(header.as_bytes()));
        header.set_kind(0);
        assert_eq!((header.kind(), naive(header.as_bytes())), (0, 0));
    }
}

#[test]
fn messages_are_told_apart() {
    let read = |kind, code| facts(&seal(v4(1, &icmp(kind, code, [0x12, 0x34, 0, 1], b"ping")))).transport;
    assert_eq!(read(8, 0), Transport::Echo { request: true, identifier: 0x1234 });
    assert_eq!(read(0, 0), Transport::Echo { request: false, identifier: 0x1234 });
    for kind in [5, 9, 13, 42] {
        assert_eq!(read(kind, 1), Transport::Icmp { kind, code: 1 });
    }
    let quoted = &v4(6, &tcp(2, &[], &[]))[14..];
    for kind in [3, 4, 11, 12] {
        let error = facts(&seal(v4(1, &icmp(kind, 1, [0; 4], quoted)))).transport;
        assert!(matches!(error, Transport::IcmpError { kind: k, code: 1, .. } if k == kind), "{error:?}");
    }
}

#[test]
fn a_cut_or_broken_message_is_refused() {
    for len in 0..8 {
        assert_eq!(fault(&seal(v4(1, &icmp(8, 0, [0; 4], &[])[..len]))), Some(Malformed::IcmpTruncated));
    }
    let mut frame = seal(v4(1, &icmp(8, 0, [0; 4], b"odd")));
    frame[44] ^= 1;
    for verify in [crate::Verify::All, crate::Verify::Nothing, crate::Verify::Partial] {
        assert_eq!(crate::dissect(&frame, verify).err(), Some(Malformed::IcmpChecksum));
    }
}

#[test]
fn icmp_of_the_other_family_is_not_read() {
    assert_eq!(facts(&v4(58, &[0; 3])).transport, Transport::Other);
    assert_eq!(facts(&v6(1, &[0; 3])).transport, Transport::Other);
}
