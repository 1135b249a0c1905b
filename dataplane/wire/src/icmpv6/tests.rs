//! `ICMPv6` messages told apart, cut and broken.

use super::*;
use crate::packets::{facts, fault, icmp, seal, tcp, v6};

#[test]
fn messages_are_told_apart() {
    let read = |kind, code| facts(&seal(v6(58, &icmp(kind, code, [0x12, 0x34, 0, 1], b"ping")))).transport;
    assert_eq!(read(128, 0), Transport::Echo { request: true, identifier: 0x1234 });
    assert_eq!(read(129, 0), Transport::Echo { request: false, identifier: 0x1234 });
    for kind in [5, 100, 130, 133, 134, 135, 136, 137, 143] {
        assert_eq!(read(kind, 1), Transport::Icmp { kind, code: 1 });
    }
    let quoted = &v6(6, &tcp(2, &[], &[]))[14..];
    for kind in [1, 2, 3, 4] {
        let error = facts(&seal(v6(58, &icmp(kind, 1, [0; 4], quoted)))).transport;
        assert!(matches!(error, Transport::IcmpError { kind: k, code: 1, .. } if k == kind), "{error:?}");
    }
}

#[test]
fn a_cut_or_broken_message_is_refused() {
    for len in 0..8 {
        assert_eq!(fault(&seal(v6(58, &icmp(128, 0, [0; 4], &[])[..len]))), Some(Malformed::IcmpTruncated));
    }
    let good = seal(v6(58, &icmp(128, 0, [0; 4], b"odd")));
    // The sum covers the addresses as well (RFC 4443 section 2.3).
    for at in [30, 45, 57, 64] {
        let mut frame = good.clone();
        frame[at] ^= 1;
        assert_eq!(crate::dissect(&frame, crate::Verify::Nothing).err(), Some(Malformed::IcmpChecksum), "{at}");
    }
}
