//! What ICMP errors quote: cut anywhere, lying, fragments, errors about errors.

use super::*;
use crate::Transport;
use crate::packets::{DESTINATION_V4, SOURCE_V4, SYN, facts, fault, icmp, seal, tcp, udp, v4, v4_with, v6};

/// The frame of an IPv4 time exceeded that quotes these bytes.
fn about_v4(quoted: &[u8]) -> Vec<u8> {
    seal(v4(1, &icmp(11, 0, [0; 4], quoted)))
}

fn about_v6(quoted: &[u8]) -> Vec<u8> {
    seal(v6(58, &icmp(3, 0, [0; 4], quoted)))
}

fn quote(frame: &[u8]) -> Quote {
    match facts(frame).transport {
        Transport::IcmpError { quote, .. } => quote,
        other => panic!("not an error: {other:?}"),
    }
}

const TCP_PORTS: QuotedTransport =
    QuotedTransport::Ports { source_port: 1_000, destination_port: 80, sequence: SeqNumber::new(0x1000) };
const UDP_PORTS: QuotedTransport =
    QuotedTransport::Ports { source_port: 1_000, destination_port: 53, sequence: SeqNumber::new(0) };

#[test]
fn a_quoted_packet_is_read_to_its_ports() {
    let quote_v4 = quote(&about_v4(&v4(6, &tcp(SYN, &[], &[]))[14..]));
    let endpoints = Endpoints::V4 { source: SOURCE_V4.into(), destination: DESTINATION_V4.into() };
    let expected = Quote { endpoints, network: 42, transport_offset: 62, protocol: 6, transport: TCP_PORTS };
    assert_eq!(quote_v4, expected);

    let quote_v6 = quote(&about_v6(&v6(17, &udp(b"payload"))[14..]));
    assert_eq!((quote_v6.network, quote_v6.transport_offset, quote_v6.protocol), (62, 102, 17));
    assert_eq!(quote_v6.transport, UDP_PORTS);

    let optioned = quote(&about_v4(&v4_with(17, &[1; 40], 0, &udp(b""))[14..]));
    assert_eq!((optioned.transport_offset, optioned.transport), (102, UDP_PORTS));
    let extended = quote(&about_v6(&v6(60, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(b"")].concat())[14..]));
    assert_eq!((extended.transport_offset, extended.protocol, extended.transport), (110, 17, UDP_PORTS));
}

#[test]
fn echo_and_other_protocols_are_told_apart() {
    let ping = |kind| icmp(kind, 0, [0x12, 0x34, 0, 1], &[]);
    let echo = |request| QuotedTransport::Echo { request, identifier: 0x1234 };
    assert_eq!(quote(&about_v4(&v4(1, &ping(8))[14..])).transport, echo(true));
    assert_eq!(quote(&about_v4(&v4(1, &ping(0))[14..])).transport, echo(false));
    assert_eq!(quote(&about_v6(&v6(58, &ping(128))[14..])).transport, echo(true));
    assert_eq!(quote(&about_v6(&v6(58, &ping(129))[14..])).transport, echo(false));
    assert_eq!(quote(&about_v4(&v4(1, &ping(13))[14..])).transport, QuotedTransport::Other);
    assert_eq!(quote(&about_v4(&v4(47, &[])[14..])).transport, QuotedTransport::Other);
    assert_eq!(quote(&about_v6(&v6(59, &[])[14..])).transport, QuotedTransport::Other);
}

/// MAL-11: 0 to 60 quoted bytes; 28 hold an IPv4 header and eight of transport, 48 in IPv6.
#[test]
fn a_quote_cut_before_its_ports_is_refused() {
    let (whole_v4, whole_v6) = (v4(6, &tcp(SYN, &[], &[7; 20])), v6(6, &tcp(SYN, &[], &[])));
    let mut verdicts = 0;
    for len in 0..=60 {
        let refused = |least| (len < least).then_some(Malformed::IcmpQuote);
        assert_eq!(fault(&about_v4(&whole_v4[14..14 + len])), refused(28), "{len}");
        assert_eq!(fault(&about_v6(&whole_v6[14..14 + len])), refused(48), "{len}");
        verdicts += 1;
    }
    assert_eq!(verdicts, 61);
}

/// MAL-11: lengths that lie. A total beyond what is quoted is no lie: errors cut.
#[test]
fn a_quote_that_contradicts_itself_is_refused() {
    let good = v4(6, &tcp(SYN, &[], &[]))[14..].to_vec();
    for (at, value, expected) in [
        (0, 0x4f, Some(Malformed::IcmpQuote)),
        (0, 0x44, Some(Malformed::IcmpQuote)),
        (0, 0x65, Some(Malformed::IcmpQuote)),
        (3, 19, Some(Malformed::IcmpQuote)),
        (3, 27, Some(Malformed::IcmpQuote)),
        (3, 28, None),
        (2, 255, None),
    ] {
        let mut quoted = good.clone();
        quoted[at] = value;
        assert_eq!(fault(&about_v4(&quoted)), expected, "byte {at} = {value}");
    }
    let good = v6(6, &tcp(SYN, &[], &[]))[14..].to_vec();
    for (at, value, expected) in
        [(0, 0x40, Some(Malformed::IcmpQuote)), (5, 7, Some(Malformed::IcmpQuote)), (5, 8, None), (4, 255, None)]
    {
        let mut quoted = good.clone();
        quoted[at] = value;
        assert_eq!(fault(&about_v6(&quoted)), expected, "byte {at} = {value}");
    }
}

#[test]
fn a_quoted_later_fragment_is_refused() {
    let fragment = |protocol, cut| about_v4(&v4_with(protocol, &[], cut, &tcp(SYN, &[], &[]))[14..]);
    assert_eq!(fault(&fragment(6, 0x2000)), None);
    assert_eq!(fault(&fragment(6, 9)), Some(Malformed::IcmpQuote));
    assert_eq!(fault(&fragment(47, 9)), None, "there are no ports to miss");
    let fragment = |low| about_v6(&v6(44, &[&[17, 0, 0, low, 0, 0, 0, 7][..], &udp(b"")].concat())[14..]);
    assert_eq!(fault(&fragment(1)), None);
    assert_eq!(fault(&fragment(0x41)), Some(Malformed::IcmpQuote));
}

/// EVA-22: no error is ever sent about an error.
#[test]
fn an_error_about_an_error_is_refused() {
    for kind in [3, 4, 5, 11, 12] {
        let quoted = v4(1, &icmp(kind, 0, [0; 4], &[]));
        assert_eq!(fault(&about_v4(&quoted[14..])), Some(Malformed::IcmpQuote), "{kind}");
    }
    for kind in [1, 2, 3, 4, 100, 137] {
        let quoted = v6(58, &icmp(kind, 0, [0; 4], &[]));
        assert_eq!(fault(&about_v6(&quoted[14..])), Some(Malformed::IcmpQuote), "{kind}");
    }
}

#[test]
fn a_quoted_chain_out_of_order_is_refused() {
    let quoted = v6(60, &[&[0, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &udp(b"")].concat());
    assert_eq!(fault(&about_v6(&quoted[14..])), Some(Malformed::IcmpQuote));
}
