//! Answers about any frame: whatever the reader accepts, a reset, an ICMP error and an echo reply about it are themselves
//! right, go back to where it came from, and are never about what must not be answered.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use wire::emit::{self, IcmpErrorKind};
use wire::{Content, Facts, Frame, TcpFlags, Transport, Verify, dissect};

const KINDS: [IcmpErrorKind; 6] = [
    IcmpErrorKind::NetUnreachable,
    IcmpErrorKind::HostUnreachable,
    IcmpErrorKind::AdminProhibited,
    IcmpErrorKind::PortUnreachable,
    IcmpErrorKind::TimeExceeded,
    IcmpErrorKind::TooBig { mtu: 1_280 },
];

/// What was written is right and goes back.
fn read_back(out: &[u8], frame: &Frame, facts: &Facts) -> Facts {
    let answer = dissect(out, Verify::All).expect("an answer is right");
    assert_eq!(answer.link.destination, frame.link.source);
    assert_eq!(answer.link.tags, frame.link.tags);
    let Content::Ip(answer) = answer.content else { panic!("an answer is IP") };
    assert_eq!(answer.endpoints.destination(), facts.endpoints.source());
    assert_eq!(usize::from(answer.end), out.len());
    answer
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = dissect(bytes, Verify::Nothing) else { return };
    let Content::Ip(facts) = frame.content else { return };
    let mut out = [0xa5; 2_048];
    if let Some(len) = emit::tcp_reset(&mut out, bytes, &frame) {
        let Transport::Tcp(segment) = facts.transport else { panic!("a reset about something else") };
        assert!(!segment.flags.contains(TcpFlags::RST), "a reset about a reset");
        let Transport::Tcp(reset) = read_back(&out[..len], &frame, &facts).transport else { panic!("not a reset") };
        assert!(reset.flags.contains(TcpFlags::RST));
    }
    let source = match facts.endpoints.is_v6() {
        false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    if facts.endpoints.source() != source {
        for kind in KINDS {
            if let Some(len) = emit::icmp_error(&mut out, kind, source, bytes, &frame) {
                assert!(!matches!(facts.transport, Transport::IcmpError { .. }), "an error about an error");
                let limit = if facts.endpoints.is_v6() { 1_280 } else { 576 };
                assert!(len - usize::from(frame.link.payload) <= limit);
                // What is quoted may be too odd to be read as a quote; lengths and checksums are right all the same.
                if let Err(fault) = dissect(&out[..len], Verify::All) {
                    assert_eq!(fault, wire::Malformed::IcmpQuote);
                }
            }
        }
    }
    let mut reply = bytes.to_vec();
    if let Ok(right) = dissect(bytes, Verify::All)
        && emit::echo_reply_in_place(&mut reply, &right)
    {
        let answer = dissect(&reply, Verify::All).expect("an echo reply is right");
        let Content::Ip(answer) = answer.content else { panic!("an echo reply is IP") };
        assert!(matches!(answer.transport, Transport::Echo { request: false, .. }));
        assert_eq!(answer.endpoints, facts.endpoints.reversed());
    }
});
