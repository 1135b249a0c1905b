//! Packets across: what comes out is a right packet by the reader's own judgement, checksums included, and what goes back is
//! what was sent.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use wire::{Content, Endpoints, Facts, Quote, QuotedTransport, Transport, Verify, checksum, dissect};

use super::*;
use crate::translate::NewEndpoints;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0x11);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0xfe);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const POOL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 64);
const ROUTER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn server6() -> Ipv6Addr {
    Nat64Prefix::WELL_KNOWN.embed(SERVER)
}

fn facts(frame: &[u8]) -> Facts {
    match dissect(frame, Verify::All).unwrap_or_else(|fault| panic!("{fault:?} {frame:02x?}")).content {
        Content::Ip(facts) => facts,
        other => panic!("{other:?}"),
    }
}

/// The transport bytes of `protocol` (as IPv6 numbers it) between two ports, without checksum.
fn segment(protocol: u8, (source, destination): (u16, u16), payload: &[u8], request: bool, v6: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    match protocol {
        6 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0, 0, 0, 9, 0, 0, 0, 7, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
        }
        17 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
            bytes.extend([0, 0]);
        }
        _ => {
            let (v4, six) = if request { (8, 128) } else { (0, 129) };
            bytes.extend([if v6 { six } else { v4 }, 0, 0, 0]);
            bytes.extend(source.to_be_bytes());
            bytes.extend([0, 5]);
        }
    }
    bytes.extend(payload);
    bytes
}

fn with_checksum(protocol: u8, ends: &Endpoints, mut segment: Vec<u8>) -> Vec<u8> {
    let (place, sum) = match protocol {
        6 => (16, checksum::transport(ends, 6, &segment)),
        17 => (6, checksum::or_ones(checksum::transport(ends, 17, &segment))),
        58 if !ends.is_v6() => (2, checksum::plain(&segment)),
        _ => (2, checksum::transport(ends, 58, &segment)),
    };
    segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn frame_v6(protocol: u8, source: Ipv6Addr, destination: Ipv6Addr, class: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0]);
    frame.extend(u16::try_from(segment.len()).unwrap().to_be_bytes());
    frame.extend([protocol, 64]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(segment);
    frame
}

fn frame_v4(
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    class: u8,
    options: &[u8],
    segment: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(20 + options.len() + segment.len()).unwrap();
    let words = 0x45 + u8::try_from(options.len() / 4).unwrap();
    let mut header = vec![words, class];
    header.extend(length.to_be_bytes());
    header.extend([0, 1, 0x40, 0, 64, protocol_to_v4(protocol), 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header.extend(options);
    let sum = checksum::plain(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00]);
    frame.extend(header);
    frame.extend(segment);
    frame
}

fn ends6(source: Ipv6Addr, destination: Ipv6Addr) -> Endpoints {
    Endpoints::V6 { source, destination }
}

fn ends4(source: Ipv4Addr, destination: Ipv4Addr) -> Endpoints {
    Endpoints::V4 { source, destination }
}

fn across_to_v4(frame: &[u8], to: &NewEndpoints<Ipv4Addr>) -> Vec<u8> {
    let facts = facts(frame);
    let mut frame = frame[..usize::from(facts.end)].to_vec();
    let cut = to_v4(&mut frame, &facts, to).expect("translates");
    frame.split_off(cut)
}

fn across_to_v6(frame: &[u8], to: &NewEndpoints<Ipv6Addr>) -> Vec<u8> {
    let facts = facts(frame);
    let mut frame = to_v6(&frame[..usize::from(facts.end)], &facts, to).expect("translates");
    frame[..12].fill(2);
    frame
}

fn alone(facts: &Facts) -> Segment {
    Segment { len: facts.end.saturating_sub(facts.transport_offset), rest: 0 }
}

fn to_v4(frame: &mut [u8], facts: &Facts, to: &NewEndpoints<Ipv4Addr>) -> Option<usize> {
    let carried = Carried::read(frame, facts)?;
    transport_to_v4(frame, facts, to, alone(facts))?;
    carried.write_v4(frame, (to.source, to.destination), facts.hop_limit.checked_sub(1)?, 77)
}

/// The packet as it came, in a frame that grows; nothing is cut.
fn to_v6(frame: &[u8], facts: &Facts, to: &NewEndpoints<Ipv6Addr>) -> Option<Vec<u8>> {
    const UNCUT: u16 = u16::MAX;
    let mut frame = frame.to_vec();
    let carried = Carried::read(&frame, facts)?;
    transport_to_v6(&mut frame, facts, to, alone(facts))?;
    let mut grown = vec![0; carried.growth(UNCUT)];
    grown.extend(frame);
    let cut = carried.write_v6(&mut grown, (to.source, to.destination), facts.hop_limit, UNCUT)?;
    Some(grown.split_off(cut))
}

fn out(port: u16, server_port: u16) -> NewEndpoints<Ipv4Addr> {
    NewEndpoints { source: POOL, destination: SERVER, source_port: port, destination_port: server_port }
}

fn back(port: u16, server_port: u16) -> NewEndpoints<Ipv6Addr> {
    NewEndpoints { source: server6(), destination: CLIENT, source_port: server_port, destination_port: port }
}

fn ports_of(transport: &Transport) -> (u16, u16) {
    match *transport {
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Transport::Udp { source_port, destination_port, .. } => (source_port, destination_port),
        Transport::Echo { identifier, .. } => (identifier, identifier),
        ref other => panic!("{other:?}"),
    }
}

proptest! {
    /// RFC 7915 sections 4 and 5: addresses, ports, class, hop limit, lengths and every checksum, there and back.
    #[test]
    fn packets_cross_and_come_back(
        protocol in prop::sample::select(&[6_u8, 17, 58]), payload in prop::collection::vec(any::<u8>(), 0..1_400),
        client_port in 1_u16.., port in 1_u16.., server_port in 1_u16.., class: u8, options in 0..3_usize,
    ) {
        let server_port = if protocol == 58 { port } else { server_port };
        let asked = segment(protocol, (client_port, server_port), &payload, true, true);
        let asked = frame_v6(protocol, CLIENT, server6(), class, &with_checksum(protocol, &ends6(CLIENT, server6()), asked));
        let crossed = across_to_v4(&asked, &out(port, server_port));
        let seen = facts(&crossed);
        prop_assert_eq!(seen.endpoints, ends4(POOL, SERVER));
        prop_assert_eq!(ports_of(&seen.transport), (port, server_port));
        prop_assert_eq!((crossed[15], seen.hop_limit, seen.protocol), (class, 63, protocol_to_v4(protocol)));
        prop_assert_eq!(seen.dont_fragment, crossed.len() - 14 > 1_260);
        prop_assert!(crossed.ends_with(&payload));

        let answer = segment(protocol, (server_port, port), &payload, false, false);
        let answer = with_checksum(protocol, &ends4(SERVER, POOL), answer);
        let answer = frame_v4(protocol, SERVER, POOL, class, &[1; 8][..options * 4], &answer);
        let to = back(client_port, if protocol == 58 { client_port } else { server_port });
        let crossed = across_to_v6(&answer, &to);
        let expected = segment(protocol, (to.source_port, to.destination_port), &payload, false, true);
        let expected = with_checksum(protocol, &ends6(server6(), CLIENT), expected);
        let expected = frame_v6(protocol, server6(), CLIENT, class, &expected);
        prop_assert_eq!(&crossed, &expected, "as if built so");
    }

    /// UDP without checksum gets one, which IPv6 demands (RFC 7915 section 4.5).
    #[test]
    fn udp_without_checksum_gets_one(payload in prop::collection::vec(any::<u8>(), 0..600), port in 1_u16.., client_port in 1_u16..) {
        let answer = segment(17, (53, port), &payload, false, false);
        let crossed = across_to_v6(&frame_v4(17, SERVER, POOL, 0, &[], &answer), &back(client_port, 53));
        let no_checksum = matches!(facts(&crossed).transport, Transport::Udp { no_checksum: true, .. });
        prop_assert!(!no_checksum && crossed[60..62] != [0, 0]);
    }

    /// Errors of both sides about packets of every kind: a right message whose quote is what its receiver sent.
    #[test]
    fn errors_cross_with_what_they_quote(
        protocol in prop::sample::select(&[6_u8, 17, 58]), payload in prop::collection::vec(any::<u8>(), 0..1_300),
        quoted in (14..650_usize).prop_map(|half| half * 2), client_port in 1_u16.., port in 1_u16.., server_port in 1_u16..,
    ) {
        const MTUS: Mtus = Mtus { v4: 1_500, v6: 1_500 };
        let server_port = if protocol == 58 { port } else { server_port };
        let asked = segment(protocol, (client_port, server_port), &payload, true, true);
        let asked = frame_v6(protocol, CLIENT, server6(), 0, &with_checksum(protocol, &ends6(CLIENT, server6()), asked));
        let sent = across_to_v4(&asked, &out(port, server_port));
        let quote = &sent[14..sent.len().min(14 + quoted)];
        let mut message = vec![11, 0, 0, 0, 0, 0, 0, 0];
        message.extend(quote);
        let sum = checksum::plain(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let error = frame_v4(1, ROUTER4, POOL, 0, &[], &message);
        let seen = facts(&error);
        let Transport::IcmpError { quote, .. } = seen.transport else { panic!("{seen:?}") };
        let grown = error_growth(&quote);
        let mut frame = vec![0; grown];
        frame.extend(&error);
        let ends = if protocol == 58 { (client_port, client_port) } else { (client_port, server_port) };
        let restored = NewEndpoints { source: CLIENT, destination: server6(), source_port: ends.0, destination_port: ends.1 };
        let router = Nat64Prefix::WELL_KNOWN.embed(ROUTER4);
        let (cut, end) = error_to_v6(&mut frame, grown, (&seen, &quote), (router, CLIENT), &restored, MTUS).unwrap();
        frame.truncate(end);
        let mut crossed = frame.split_off(cut);
        crossed[..12].fill(2);
        let seen = facts(&crossed);
        prop_assert_eq!((seen.endpoints, seen.hop_limit), (ends6(router, CLIENT), 63));
        let Transport::IcmpError { kind: 3, code: 0, quote } = seen.transport else { panic!("{seen:?}") };
        check_quote(&quote, ends6(CLIENT, server6()), ends);
        // Byte for byte what the client sent, as far as it is quoted; hop limit apart.
        let mut own = asked[14..].to_vec();
        own[7] = 63;
        let restored = &crossed[usize::from(quote.network)..];
        prop_assert_eq!(restored, &own[..restored.len()]);
        prop_assert!(crossed.len() <= 14 + 1_280);

        // The other way: the client's router cannot send the answer on.
        let answer = segment(protocol, (server_port, port), &payload, false, false);
        let answer = frame_v4(protocol, SERVER, POOL, 0, &[], &with_checksum(protocol, &ends4(SERVER, POOL), answer));
        let brought = across_to_v6(&answer, &back(client_port, if protocol == 58 { client_port } else { server_port }));
        let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x78];
        message.extend(&brought[14..brought.len().min(14 + quoted.max(48))]);
        let message = with_checksum(58, &ends6(ROUTER6, server6()), message);
        let mut frame = frame_v6(58, ROUTER6, server6(), 0, &message);
        let seen = facts(&frame);
        let Transport::IcmpError { quote, .. } = seen.transport else { panic!("{seen:?}") };
        let ends = if protocol == 58 { (port, port) } else { (server_port, port) };
        let restored = NewEndpoints { source: SERVER, destination: POOL, source_port: ends.0, destination_port: ends.1 };
        let (cut, end) = error_to_v4(&mut frame, (&seen, &quote), (POOL, SERVER), &restored, MTUS, 9).unwrap();
        frame.truncate(end);
        let mut crossed = frame.split_off(cut);
        crossed[..12].fill(2);
        let seen = facts(&crossed);
        prop_assert_eq!((seen.endpoints, seen.hop_limit), (ends4(POOL, SERVER), 63));
        let Transport::IcmpError { kind: 3, code: 4, quote } = seen.transport else { panic!("{seen:?}") };
        check_quote(&quote, ends4(SERVER, POOL), ends);
        prop_assert_eq!(&crossed[40..42], &1_380_u16.to_be_bytes());
        let transport = usize::from(quote.transport_offset);
        prop_assert_eq!(&crossed[transport..], &answer[34..34 + crossed.len() - transport]);
        prop_assert!(crossed.len() <= 14 + 576);
    }

    /// RFC 4884: what an extended error adds stays behind; a length no extended error has means nothing.
    #[test]
    fn extensions_stay_behind(words: u8, extension in prop::collection::vec(any::<u8>(), 0..40)) {
        const MTUS: Mtus = Mtus { v4: 1_500, v6: 1_500 };
        let sent = segment(17, (1_000, 53), &[7; 200], true, false);
        let sent = frame_v4(17, POOL, SERVER, 0, &[], &with_checksum(17, &ends4(POOL, SERVER), sent));
        let mut message = vec![11, 0, 0, 0, 0, words, 0, 0];
        message.extend(&sent[14..14 + 128]);
        message.extend(&extension);
        let sum = checksum::plain(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let error = frame_v4(1, ROUTER4, POOL, 0, &[], &message);
        let seen = facts(&error);
        let Transport::IcmpError { quote, .. } = seen.transport else { panic!("{seen:?}") };
        let grown = error_growth(&quote);
        let mut frame = [vec![0; grown], error].concat();
        let restored = NewEndpoints { source: CLIENT, destination: server6(), source_port: 9, destination_port: 53 };
        let router = Nat64Prefix::WELL_KNOWN.embed(ROUTER4);
        let (cut, end) = error_to_v6(&mut frame, grown, (&seen, &quote), (router, CLIENT), &restored, MTUS).unwrap();
        frame.truncate(end);
        let mut crossed = frame.split_off(cut);
        crossed[..12].fill(2);
        let Transport::IcmpError { quote, .. } = facts(&crossed).transport else { panic!("an error") };
        let quoted = crossed.len() - usize::from(quote.transport_offset);
        prop_assert_eq!(quoted, 108 + if words == 32 { 0 } else if words < 32 { extension.len() } else { extension.len().min((usize::from(words) - 32) * 4) });
    }

    /// Facts of another frame, frames that end anywhere: an answer, never a panic, never a byte beyond.
    #[test]
    fn facts_that_do_not_fit_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200), offsets in prop::array::uniform3(0..220_u16),
        protocol in prop::sample::select(&[6_u8, 17, 58, 1]), v6: bool, echo: bool,
        fragment in prop::sample::select(&[wire::Fragment::No, wire::Fragment::First, wire::Fragment::Later]),
    ) {
        let [network, transport_offset, end] = offsets;
        let endpoints = if v6 { ends6(CLIENT, server6()) } else { ends4(SERVER, POOL) };
        let transport = if echo { Transport::Echo { request: true, identifier: 1 } } else {
            Transport::Udp { source_port: 1, destination_port: 2, no_checksum: false }
        };
        let quote = Quote {
            endpoints, network: transport_offset.min(end), transport_offset: transport_offset.max(end), protocol,
            transport: if echo { QuotedTransport::Echo { request: true, identifier: 1 } } else {
                QuotedTransport::Ports { source_port: 1, destination_port: 2, sequence: wire::SeqNumber::new(1) }
            },
        };
        let facts = Facts {
            endpoints, network, transport_offset, end, protocol, hop_limit: 2, dont_fragment: true,
            fragment, extensions: wire::Extensions::default(), transport, partial_checksum: false,
        };
        const MTUS: Mtus = Mtus { v4: 1_500, v6: 1_500 };
        let _ = to_v4(&mut bytes.clone(), &facts, &out(1, 2));
        let _ = to_v6(&bytes, &facts, &back(1, 2));
        let _ = error_to_v6(&mut bytes.clone(), error_growth(&quote), (&facts, &quote), (ROUTER6, CLIENT), &back(1, 2), MTUS);
        let _ = error_to_v4(&mut bytes.clone(), (&facts, &quote), (POOL, SERVER), &out(1, 2), MTUS, 4);
    }
}

fn check_quote(quote: &Quote, endpoints: Endpoints, ends: (u16, u16)) {
    assert_eq!(quote.endpoints, endpoints);
    match quote.transport {
        QuotedTransport::Ports { source_port, destination_port, .. } => {
            assert_eq!((source_port, destination_port), ends);
        }
        QuotedTransport::Echo { identifier, .. } => assert_eq!(identifier, ends.0),
        QuotedTransport::Other => panic!("no transport"),
    }
}
