//! ICMP errors: types, quoted length, and about what none is sent.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::packets::{FIN, SYN, facts, icmp, read, seal, seal_header, tagged, tcp, udp, v4, v4_with, v6};
use crate::{QuotedTransport, SeqNumber};

const ROUTER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));
const ROUTER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe));

fn error(kind: IcmpErrorKind, frame: &[u8]) -> Option<Vec<u8>> {
    let facts = read(frame).unwrap();
    let Content::Ip(ip) = facts.content else { panic!() };
    let source = if ip.endpoints.is_v6() { ROUTER_V6 } else { ROUTER_V4 };
    let mut out = vec![0xa5; 2_000];
    let len = icmp_error(&mut out, kind, source, frame, &facts)?;
    out.truncate(len);
    Some(out)
}

/// Types and codes of RFC 792, 1191, 1812 and RFC 4443.
#[test]
fn every_kind_has_its_type_and_code() {
    use IcmpErrorKind::*;
    for (sort, v4_fields, v6_fields) in [
        (NetUnreachable, (3, 0, 0), (1, 0, 0)),
        (HostUnreachable, (3, 1, 0), (1, 3, 0)),
        (AdminProhibited, (3, 13, 0), (1, 1, 0)),
        (PortUnreachable, (3, 3, 0), (1, 4, 0)),
        (TimeExceeded, (11, 0, 0), (3, 0, 0)),
        (TooBig { mtu: 1_400 }, (3, 4, 1_400), (2, 0, 1_400)),
    ] {
        let frames = [seal(v4(6, &tcp(SYN, &[], b"data"))), seal(v6(6, &tcp(SYN, &[], b"data")))];
        for (frame, fields) in frames.iter().zip([v4_fields, v6_fields]) {
            let out = error(sort, frame).unwrap();
            let (was, is) = (facts(frame), facts(&out));
            assert_eq!(is.endpoints.destination(), was.endpoints.source());
            assert!([ROUTER_V4, ROUTER_V6].contains(&is.endpoints.source()));
            assert_eq!((usize::from(is.end), is.hop_limit), (out.len(), 64));
            let Transport::IcmpError { kind, code, quote } = is.transport else { panic!("{is:?}") };
            let (header, quoted) = IcmpHeader::split(&out[usize::from(is.transport_offset)..]).unwrap();
            assert_eq!((kind, code, header.rest()), fields, "{sort:?}");
            assert_eq!(quoted, &frame[14..], "all of a short packet is quoted");
            assert_eq!((quote.endpoints, quote.protocol), (was.endpoints, 6));
            let ports =
                QuotedTransport::Ports { source_port: 1_000, destination_port: 80, sequence: SeqNumber::new(0x1000) };
            assert_eq!(quote.transport, ports);
        }
    }
}

#[test]
fn it_goes_back_the_way_the_packet_came() {
    let frame = tagged(&seal(v6(17, &udp(b"x"))), &[[0x81, 0, 0, 9]]);
    let out = error(IcmpErrorKind::PortUnreachable, &frame).unwrap();
    let (was, is) = (read(&frame).unwrap().link, read(&out).unwrap().link);
    assert_eq!((is.source, is.destination, is.vlan), (was.destination, was.source, 9));
}

/// RFC 1812 section 4.3.2.3: 576 bytes in all. RFC 4443 section 2.4 (c): 1,280.
#[test]
fn a_long_packet_is_quoted_as_far_as_allowed() {
    for payload in [1_000, 1_200, 1_219, 1_220, 1_221, 1_400] {
        let frame = seal(v4(17, &udp(&vec![7; payload])));
        assert_eq!(error(IcmpErrorKind::TimeExceeded, &frame).unwrap().len(), 14 + 576);
        let frame = seal(v6(17, &udp(&vec![7; payload])));
        let whole = 14 + 40 + 8 + 40 + 8 + payload;
        assert_eq!(error(IcmpErrorKind::TimeExceeded, &frame).unwrap().len(), whole.min(14 + 1_280));
    }
    let padded = [&seal(v4(17, &udp(b"x")))[..], &[0; 20]].concat();
    assert_eq!(error(IcmpErrorKind::TimeExceeded, &padded).unwrap().len(), 14 + 28 + 29, "padding is not quoted");
}

/// RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e).
#[test]
fn no_error_is_sent_about_what_forbids_it() {
    let silent = |frame: &[u8]| error(IcmpErrorKind::HostUnreachable, frame).is_none();
    let quoted_v4 = v4(17, &udp(b"x"));
    let quoted_v6 = v6(17, &udp(b"x"));
    assert!(silent(&seal(v4(1, &icmp(3, 1, [0; 4], &quoted_v4[14..])))), "an error");
    assert!(silent(&seal(v6(58, &icmp(1, 0, [0; 4], &quoted_v6[14..])))), "an error");
    assert!(silent(&seal(v4(1, &icmp(5, 1, [0; 4], &quoted_v4[14..])))), "a redirect");
    assert!(silent(&seal(v6(58, &icmp(137, 0, [0; 4], &[0; 32])))), "a redirect");
    assert!(silent(&seal(v6(58, &icmp(100, 0, [0; 4], &[])))), "an error nobody has defined");
    assert!(silent(&v4_with(17, &[], 9, &[0; 8])), "a later fragment");
    assert!(silent(&v6(44, &[17, 0, 0, 0x40, 0, 0, 0, 7, 1, 2, 3])), "a later fragment");

    let mut to_group = v4(17, &udp(b"x"));
    to_group[30] = 224;
    seal_header(&mut to_group);
    assert!(silent(&seal(to_group)), "a group");
    let mut to_all = v4(17, &udp(b"x"));
    to_all[30..34].fill(255);
    seal_header(&mut to_all);
    assert!(silent(&seal(to_all)), "broadcast");
    let mut to_group = v6(17, &udp(b"x"));
    to_group[38..40].copy_from_slice(&[0xff, 2]);
    assert!(silent(&seal(to_group)), "a group");
    let mut to_every_station = seal(v4(17, &udp(b"x")));
    to_every_station[..6].fill(0xff);
    assert!(silent(&to_every_station), "a group of stations");
    let mut from_nowhere = v4(17, &[0, 68, 0, 67, 0, 8, 0, 0]);
    from_nowhere[26..30].fill(0);
    seal_header(&mut from_nowhere);
    assert!(silent(&seal(from_nowhere)), "from nobody");
    let mut from_nowhere = v6(58, &icmp(128, 0, [0; 4], &[]));
    from_nowhere[22..38].fill(0);
    assert!(silent(&seal(from_nowhere)), "from nobody");

    assert!(!silent(&seal(v4(1, &icmp(8, 0, [0; 4], &[])))), "a ping may be answered so");
    assert!(!silent(&seal(v6(58, &icmp(128, 0, [0; 4], &[])))), "a ping may be answered so");
    assert!(!silent(&v4_with(6, &[], 0x2000, &tcp(FIN | SYN & FIN | 0x10, &[], &[0; 4]))), "so may a first fragment");
}

#[test]
fn the_other_family_and_a_short_buffer_are_refused() {
    let frame = seal(v4(17, &udp(b"x")));
    let facts = read(&frame).unwrap();
    let mut out = [0; 200];
    assert_eq!(icmp_error(&mut out, IcmpErrorKind::TimeExceeded, ROUTER_V6, &frame, &facts), None);
    let len = icmp_error(&mut out, IcmpErrorKind::TimeExceeded, ROUTER_V4, &frame, &facts).unwrap();
    for short in 0..len {
        assert_eq!(icmp_error(&mut out[..short], IcmpErrorKind::TimeExceeded, ROUTER_V4, &frame, &facts), None);
    }
    for cut in 0..frame.len() {
        assert_eq!(icmp_error(&mut out, IcmpErrorKind::TimeExceeded, ROUTER_V4, &frame[..cut], &facts), None);
    }
}
