//! Facts of rewriting: every checksum is what a full computation over the new packet gives, the other direction takes the
//! change back byte for byte, and nothing beside addresses, ports and checksums changes.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use wire::{Endpoints, Facts, Fragment, Quote, QuotedTransport, SeqNumber, Tcp, TcpFlags, Transport, checksum};

use super::*;

type Ends4 = NewEndpoints<Ipv4Addr>;
type Ends6 = NewEndpoints<Ipv6Addr>;

/// What is carried, and how its checksum is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    UdpWithoutChecksum,
    Echo,
    Dccp,
    UdpLite,
    Other,
}

const KINDS: [Kind; 7] =
    [Kind::Tcp, Kind::Udp, Kind::UdpWithoutChecksum, Kind::Echo, Kind::Dccp, Kind::UdpLite, Kind::Other];

impl Kind {
    fn protocol(self, v6: bool) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp | Self::UdpWithoutChecksum => 17,
            Self::Echo => {
                if v6 {
                    58
                } else {
                    1
                }
            }
            Self::Dccp => 33,
            Self::UdpLite => 136,
            Self::Other => 47,
        }
    }

    fn field(self) -> Option<usize> {
        match self {
            Self::Tcp => Some(16),
            Self::Udp | Self::Dccp | Self::UdpLite => Some(6),
            Self::Echo => Some(2),
            Self::UdpWithoutChecksum | Self::Other => None,
        }
    }

    fn covered(self, v6: bool) -> Covered {
        assert_eq!(Covered::by(self.protocol(v6)), self.covered_by_rfc(v6));
        Covered::by(self.protocol(v6))
    }

    fn covered_by_rfc(self, v6: bool) -> Covered {
        match self {
            Self::Tcp | Self::Udp | Self::UdpWithoutChecksum => Covered::AddressesAndPorts,
            Self::Echo if v6 => Covered::AddressesAndIdentifier,
            Self::Echo => Covered::Identifier,
            Self::Dccp | Self::UdpLite | Self::Other => Covered::Addresses,
        }
    }

    /// A whole transport segment with a right checksum under `pseudo`.
    fn segment(self, ports: (u16, u16), payload: &[u8], endpoints: &Endpoints) -> Vec<u8> {
        let mut bytes = match self {
            Self::Echo => vec![if endpoints.is_v6() { 128 } else { 8 }, 0, 0, 0],
            _ => [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat(),
        };
        if self == Self::Echo {
            bytes.extend(ports.0.to_be_bytes());
        }
        let header = if self == Self::Tcp { 20 } else { 8 };
        let fill = header - bytes.len();
        bytes.extend((0..fill).map(|n| u8::try_from(n).unwrap() ^ 0xa5));
        if self == Self::Tcp {
            // No options; ACK alone.
            (bytes[12], bytes[13]) = (0x50, 0x10);
        }
        bytes.extend(payload);
        if matches!(self, Self::Udp | Self::UdpWithoutChecksum) {
            bytes[4..6].copy_from_slice(&u16::try_from(header + payload.len()).unwrap().to_be_bytes());
            bytes[6..8].fill(0);
        }
        if let Some(field) = self.field() {
            bytes[field..field + 2].fill(0);
            let sum = self.full_sum(&bytes, endpoints);
            bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    fn full_sum(self, bytes: &[u8], endpoints: &Endpoints) -> u16 {
        let sum = if self == Self::Echo && !endpoints.is_v6() {
            checksum::plain(bytes)
        } else {
            checksum::transport(endpoints, self.protocol(endpoints.is_v6()), bytes)
        };
        if matches!(self, Self::Udp | Self::UdpLite) { checksum::or_ones(sum) } else { sum }
    }

    fn transport(self, ports: (u16, u16), payload: usize) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp(Tcp {
                source_port: ports.0,
                destination_port: ports.1,
                sequence: SeqNumber::new(0),
                acknowledgment: SeqNumber::new(0),
                window: 0,
                flags: TcpFlags::ACK,
                payload: u16::try_from(payload).unwrap(),
                window_scale: None,
            }),
            Self::Udp | Self::UdpWithoutChecksum => Transport::Udp {
                source_port: ports.0,
                destination_port: ports.1,
                no_checksum: self == Self::UdpWithoutChecksum,
            },
            Self::Echo => Transport::Echo { request: true, identifier: ports.0 },
            Self::Dccp | Self::UdpLite | Self::Other => Transport::Other,
        }
    }
}

/// Where things are: link header, options or extension bytes between IP header and transport, padding behind.
#[derive(Clone, Copy, Debug)]
struct Shape {
    link: usize,
    between: usize,
    padding: usize,
}

fn packet(kind: Kind, endpoints: Endpoints, ports: (u16, u16), payload: &[u8], shape: Shape) -> (Vec<u8>, Facts) {
    let segment = kind.segment(ports, payload, &endpoints);
    let mut frame = vec![0xee; shape.link];
    let network = frame.len();
    frame.extend(ip_header(kind.protocol(endpoints.is_v6()), &endpoints, segment.len(), shape.between));
    let transport_offset = frame.len();
    frame.extend(&segment);
    let end = frame.len();
    frame.extend(vec![0xdd; shape.padding]);
    let short = |offset: usize| u16::try_from(offset).unwrap();
    let facts = Facts {
        endpoints,
        network: short(network),
        transport_offset: short(transport_offset),
        end: short(end),
        protocol: kind.protocol(endpoints.is_v6()),
        hop_limit: 64,
        dont_fragment: true,
        fragment: Fragment::No,
        extensions: wire::Extensions::default(),
        transport: kind.transport(ports, payload.len()),
        partial_checksum: false,
    };
    (frame, facts)
}

fn ip_header(protocol: u8, endpoints: &Endpoints, segment: usize, between: usize) -> Vec<u8> {
    let mut header;
    match endpoints {
        Endpoints::V4 { source, destination } => {
            let total = u16::try_from(20 + between + segment).unwrap().to_be_bytes();
            let length = u8::try_from(0x45 + between / 4).unwrap();
            header = vec![length, 0, total[0], total[1], 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header.extend(vec![1; between]);
            let sum = checksum::plain(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Endpoints::V6 { source, destination } => {
            let length = u16::try_from(between + segment).unwrap().to_be_bytes();
            header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header.extend(vec![0; between]);
        }
    }
    header
}

fn ends4(source: u32, destination: u32, ports: (u16, u16)) -> Ends4 {
    NewEndpoints {
        source: source.into(),
        destination: destination.into(),
        source_port: ports.0,
        destination_port: ports.1,
    }
}

fn ends6(source: u128, destination: u128, ports: (u16, u16)) -> Ends6 {
    NewEndpoints {
        source: source.into(),
        destination: destination.into(),
        source_port: ports.0,
        destination_port: ports.1,
    }
}

fn v4(ends: &Ends4) -> Endpoints {
    Endpoints::V4 { source: ends.source, destination: ends.destination }
}

fn v6(ends: &Ends6) -> Endpoints {
    Endpoints::V6 { source: ends.source, destination: ends.destination }
}

/// Both directions, any addresses of one family, as one interface for the properties below.
trait Family: Copy {
    fn endpoints(&self) -> Endpoints;
    fn ports(&self) -> (u16, u16);
    fn deltas(&self, to: &Self, covered: Covered) -> Deltas;
    fn rewrite(&self, frame: &mut [u8], facts: &Facts, deltas: Deltas) -> bool;
    fn rewrite_error(&self, frame: &mut [u8], facts: &Facts, quote: &Quote, outer: &Self) -> bool;
}

macro_rules! family {
    ($ends:ty, $endpoints:ident, $rewrite:ident, $error:ident) => {
        impl Family for $ends {
            fn endpoints(&self) -> Endpoints {
                $endpoints(self)
            }
            fn ports(&self) -> (u16, u16) {
                (self.source_port, self.destination_port)
            }
            fn deltas(&self, to: &Self, covered: Covered) -> Deltas {
                Deltas::between(self, to, covered)
            }
            fn rewrite(&self, frame: &mut [u8], facts: &Facts, deltas: Deltas) -> bool {
                $rewrite(frame, facts, self, deltas)
            }
            fn rewrite_error(&self, frame: &mut [u8], facts: &Facts, quote: &Quote, outer: &Self) -> bool {
                $error(frame, facts, quote, (outer.source, outer.destination), self)
            }
        }
    };
}
family!(Ends4, v4, rewrite_v4, rewrite_error_v4);
family!(Ends6, v6, rewrite_v6, rewrite_error_v6);

/// Rewriting `old` into `new` gives the packet that would have been built with `new`, and the negated deltas give the
/// first one back.
fn rewriting_equals_building<F: Family>(kind: Kind, old: F, new: F, payload: &[u8], shape: Shape) {
    let (before, facts) = packet(kind, old.endpoints(), old.ports(), payload, shape);
    // Ports of protocols without, and the second port of an echo, are not the rewriter's.
    let ports = if matches!(kind, Kind::Dccp | Kind::UdpLite | Kind::Other) { old.ports() } else { new.ports() };
    let (expected, facts_after) = packet(kind, new.endpoints(), ports, payload, shape);
    let deltas = old.deltas(&new, kind.covered(old.endpoints().is_v6()));
    let mut frame = before.clone();
    assert!(new.rewrite(&mut frame, &facts, deltas));
    assert_eq!(frame, expected, "{kind:?}");
    assert!(old.rewrite(&mut frame, &facts_after, deltas.negated()));
    assert_eq!(frame, before, "{kind:?}, taken back");
}

/// An ICMP error that quotes `quoted_bytes` of the packet with `quoted` endpoints.
fn error<F: Family>(kind: Kind, outer: F, quoted: F, quoted_bytes: usize, shape: Shape) -> (Vec<u8>, Facts, Quote) {
    let endpoints = outer.endpoints();
    let no_link = Shape { link: 0, between: 0, padding: 0 };
    let (original, inner) = packet(kind, quoted.endpoints(), quoted.ports(), b"payload of the packet", no_link);
    let transport = usize::from(inner.transport_offset);
    // Half a checksum cannot be kept right without the other half, so no such quote equals one that was built.
    let quoted_bytes = if kind == Kind::Tcp && quoted_bytes == transport + 17 { transport + 16 } else { quoted_bytes };
    let quoted_bytes = quoted_bytes.clamp(transport + 8, original.len());
    let (protocol, first) = if endpoints.is_v6() { (58, 1) } else { (1, 3) };
    let mut message = vec![first, 1, 0, 0, 0, 0, 0, 0];
    message.extend(&original[..quoted_bytes]);
    let sum =
        if endpoints.is_v6() { checksum::transport(&endpoints, protocol, &message) } else { checksum::plain(&message) };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0xee; shape.link];
    frame.extend(ip_header(protocol, &endpoints, message.len(), shape.between));
    let transport_offset = frame.len();
    frame.extend(&message);
    let end = frame.len();
    frame.extend(vec![0xdd; shape.padding]);
    let short = |offset: usize| u16::try_from(offset).unwrap();
    let quote = Quote {
        endpoints: quoted.endpoints(),
        network: short(transport_offset + 8),
        transport_offset: short(transport_offset + 8) + inner.transport_offset,
        protocol: inner.protocol,
        transport: match inner.transport {
            Transport::Echo { request, identifier } => QuotedTransport::Echo { request, identifier },
            Transport::Other => QuotedTransport::Other,
            _ => QuotedTransport::Ports {
                source_port: quoted.ports().0,
                destination_port: quoted.ports().1,
                sequence: SeqNumber::new(0),
            },
        },
    };
    let facts = Facts {
        endpoints,
        network: short(shape.link),
        transport_offset: short(transport_offset),
        end: short(end),
        protocol,
        hop_limit: 64,
        dont_fragment: true,
        fragment: Fragment::No,
        extensions: wire::Extensions::default(),
        transport: Transport::IcmpError { kind: first, code: 1, quote },
        partial_checksum: false,
    };
    (frame, facts, quote)
}

/// Translating an error gives the error that would have been built about the packet as its sender wrote it.
fn translating_errors_equals_building<F: Family>(kind: Kind, from: (F, F), to: (F, F), bytes: usize, shape: Shape) {
    let (mut frame, facts, quote) = error(kind, from.0, from.1, bytes, shape);
    let (expected, facts_after, quote_after) = error(kind, to.0, to.1, bytes, shape);
    let before = frame.clone();
    assert!(to.1.rewrite_error(&mut frame, &facts, &quote, &to.0));
    assert_eq!(frame, expected, "{kind:?} quoted to {bytes}");
    assert!(from.1.rewrite_error(&mut frame, &facts_after, &quote_after, &from.0));
    assert_eq!(frame, before, "{kind:?}, taken back");
}

fn shape() -> impl Strategy<Value = Shape> {
    (prop::sample::select(&[14usize, 18, 22][..]), 0usize..=5, 0usize..20).prop_map(|(link, words, padding)| Shape {
        link,
        between: words * 8,
        padding,
    })
}

proptest! {
    #[test]
    fn rewritten_v4_packets_are_as_if_built_so(
        kind in prop::sample::select(&KINDS[..]),
        old: (u32, u32, (u16, u16)),
        new: (u32, u32, (u16, u16)),
        payload in prop::collection::vec(any::<u8>(), 0..70),
        shape in shape(),
    ) {
        rewriting_equals_building(kind, ends4(old.0, old.1, old.2), ends4(new.0, new.1, new.2), &payload, shape);
    }

    #[test]
    fn rewritten_v6_packets_are_as_if_built_so(
        kind in prop::sample::select(&KINDS[..]),
        old: (u128, u128, (u16, u16)),
        new: (u128, u128, (u16, u16)),
        payload in prop::collection::vec(any::<u8>(), 0..70),
        shape in shape(),
    ) {
        rewriting_equals_building(kind, ends6(old.0, old.1, old.2), ends6(new.0, new.1, new.2), &payload, shape);
    }

    #[test]
    fn translated_v4_errors_are_as_if_built_so(
        kind in prop::sample::select(&[Kind::Tcp, Kind::Udp, Kind::UdpWithoutChecksum, Kind::Echo][..]),
        from: [u32; 4], to: [u32; 4], ports: (u16, u16), new_ports: (u16, u16),
        bytes in 0usize..120,
        shape in shape(),
    ) {
        let from = (ends4(from[0], from[1], (0, 0)), ends4(from[2], from[3], ports));
        let to = (ends4(to[0], to[1], (0, 0)), ends4(to[2], to[3], new_ports));
        translating_errors_equals_building(kind, from, to, bytes, shape);
    }

    #[test]
    fn translated_v6_errors_are_as_if_built_so(
        kind in prop::sample::select(&[Kind::Tcp, Kind::Udp, Kind::Echo][..]),
        from: [u128; 4], to: [u128; 4], ports: (u16, u16), new_ports: (u16, u16),
        bytes in 0usize..140,
        shape in shape(),
    ) {
        let from = (ends6(from[0], from[1], (0, 0)), ends6(from[2], from[3], ports));
        let to = (ends6(to[0], to[1], (0, 0)), ends6(to[2], to[3], new_ports));
        translating_errors_equals_building(kind, from, to, bytes, shape);
    }

    #[test]
    fn facts_of_another_frame_never_panic(
        mut frame in prop::collection::vec(any::<u8>(), 0..80),
        kind in prop::sample::select(&KINDS[..]),
        offsets: (u16, u16, u16, u16, u16),
        small: bool,
    ) {
        let narrow = |offset: u16| if small { offset % 100 } else { offset };
        let ends = ends4(1, 2, (3, 4));
        let (_, mut facts) = packet(kind, v4(&ends), (3, 4), b"", Shape { link: 14, between: 0, padding: 0 });
        (facts.network, facts.transport_offset, facts.end) =
            (narrow(offsets.0), narrow(offsets.1), narrow(offsets.2));
        let quote = Quote {
            endpoints: facts.endpoints,
            network: narrow(offsets.3),
            transport_offset: narrow(offsets.4),
            protocol: 17,
            transport: QuotedTransport::Echo { request: true, identifier: 1 },
        };
        let length = frame.len();
        let _ = rewrite_v4(&mut frame, &facts, &ends, Deltas::NONE);
        let _ = decrement_hop_limit(&mut frame, &facts);
        let _ = rewrite_error_v4(&mut frame, &facts, &quote, (ends.source, ends.destination), &ends);
        let six = ends6(1, 2, (3, 4));
        facts.endpoints = v6(&six);
        let _ = rewrite_v6(&mut frame, &facts, &six, Deltas::NONE);
        let _ = decrement_hop_limit(&mut frame, &facts);
        let _ = rewrite_error_v6(&mut frame, &facts, &quote, (six.source, six.destination), &six);
        prop_assert_eq!(frame.len(), length);
    }
}

const PLAIN: Shape = Shape { link: 14, between: 0, padding: 0 };

#[test]
fn hop_limit_goes_down_by_one_with_a_right_checksum() {
    for ttl in 1..=255u8 {
        let ends = ends4(0xc000_0201, 0x0a00_0001, (1, 2));
        let (mut frame, facts) = packet(Kind::Udp, v4(&ends), (1, 2), b"x", Shape { between: 8, ..PLAIN });
        frame[14 + 8] = ttl;
        frame[14 + 10..14 + 12].fill(0);
        let sum = checksum::plain(&frame[14..14 + 28]);
        frame[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
        assert!(decrement_hop_limit(&mut frame, &facts));
        assert_eq!((frame[14 + 8], checksum::plain(&frame[14..14 + 28])), (ttl - 1, 0));
    }
    let ends = ends6(1, 2, (1, 2));
    let (mut frame, facts) = packet(Kind::Udp, v6(&ends), (1, 2), b"x", PLAIN);
    let before = frame.clone();
    assert!(decrement_hop_limit(&mut frame, &facts));
    assert_eq!((frame[14 + 7], &frame[..21], &frame[22..]), (63, &before[..21], &before[22..]));
}

#[test]
fn nothing_left_to_take_is_refused() {
    let ends = ends4(1, 2, (1, 2));
    let (mut frame, facts) = packet(Kind::Udp, v4(&ends), (1, 2), b"", PLAIN);
    frame[14 + 8] = 0;
    assert!(!decrement_hop_limit(&mut frame, &facts));
}

#[test]
fn udp_checksum_that_comes_out_as_zero_is_written_as_ones() {
    // RFC 768; the destination port is chosen so that the sum over the new packet is 0xffff.
    let (old, mut new) = (ends4(1, 2, (7, 9)), ends4(0x0a00_0001, 0x0a00_0002, (7, 0)));
    let (built, _) = packet(Kind::Udp, v4(&new), new.ports(), b"", PLAIN);
    new.destination_port = u16::from_be_bytes([built[14 + 26], built[14 + 27]]);
    rewriting_equals_building(Kind::Udp, old, new, b"", PLAIN);
    let (built, _) = packet(Kind::Udp, v4(&new), new.ports(), b"", PLAIN);
    assert_eq!(built[14 + 26..14 + 28], [0xff, 0xff]);
}

#[test]
fn udp_without_checksum_stays_without() {
    let (old, new) = (ends4(1, 2, (7, 9)), ends4(3, 4, (5, 6)));
    let (mut frame, facts) = packet(Kind::UdpWithoutChecksum, v4(&old), old.ports(), b"abc", PLAIN);
    assert!(new.rewrite(&mut frame, &facts, old.deltas(&new, Covered::AddressesAndPorts)));
    assert_eq!(frame[14 + 26..14 + 28], [0, 0]);
}

#[test]
fn no_change_is_no_change() {
    let ends = ends4(0xffff_ffff, 0, (0, 0xffff));
    for covered in
        [Covered::AddressesAndPorts, Covered::Identifier, Covered::AddressesAndIdentifier, Covered::Addresses]
    {
        let deltas = Deltas::between(&ends, &ends, covered);
        assert_eq!((deltas, deltas.negated()), (Deltas::NONE, Deltas::NONE), "{covered:?}");
    }
}

#[test]
fn a_damaged_error_goes_on_damaged() {
    let (outer, quoted) = (ends4(9, 1, (0, 0)), ends4(1, 2, (7, 80)));
    let (mut frame, facts, quote) = error(Kind::Tcp, outer, quoted, 28, PLAIN);
    let last = frame.len() - 1;
    frame[last] ^= 0x10;
    assert!(ends4(5, 2, (6, 80)).rewrite_error(&mut frame, &facts, &quote, &ends4(9, 5, (0, 0))));
    assert_ne!(checksum::plain(&frame[34..]), 0);
}

/// Reads a frame whose link header was left blank.
fn dissected(frame: &mut [u8], v6: bool) -> Facts {
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    match wire::dissect(frame, wire::Verify::All).unwrap().content {
        wire::Content::Ip(facts) => facts,
        other => unreachable!("{other:?}"),
    }
}

/// The parser finds every packet and error good before and after, at the places these tests were built with.
fn survives_the_parser<F: Family>(old: F, new: F) {
    let v6 = old.endpoints().is_v6();
    let shape = Shape { padding: 9, ..PLAIN };
    for kind in KINDS.into_iter().filter(|&kind| !(v6 && kind == Kind::UdpWithoutChecksum)) {
        let (mut frame, built) = packet(kind, old.endpoints(), old.ports(), b"payload", shape);
        let read = dissected(&mut frame, v6);
        assert_eq!(
            (read.network, read.transport_offset, read.end, read.protocol),
            (built.network, built.transport_offset, built.end, built.protocol)
        );
        assert!(new.rewrite(&mut frame, &read, old.deltas(&new, Covered::by(read.protocol))));
        assert!(decrement_hop_limit(&mut frame, &read));
        let after = dissected(&mut frame, v6);
        assert_eq!((after.endpoints, after.hop_limit), (new.endpoints(), 63), "{kind:?}");

        if matches!(kind, Kind::Dccp | Kind::UdpLite | Kind::Other) {
            continue;
        }
        let (mut frame, _, built) = error(kind, old, old, 200, shape);
        let read = dissected(&mut frame, v6);
        let Transport::IcmpError { quote, .. } = read.transport else { unreachable!("{read:?}") };
        let places = |quote: &Quote| (quote.endpoints, quote.network, quote.transport_offset, quote.protocol);
        assert_eq!(places(&quote), places(&built), "{kind:?}");
        assert!(new.rewrite_error(&mut frame, &read, &quote, &new));
        let after = dissected(&mut frame, v6);
        let Transport::IcmpError { quote, .. } = after.transport else { unreachable!("{after:?}") };
        assert_eq!((after.endpoints, quote.endpoints), (new.endpoints(), new.endpoints()), "{kind:?}");
    }
}

#[test]
fn parser_and_rewriter_agree_on_every_packet() {
    survives_the_parser(ends4(0xc000_0207, 0xc633_640a, (40_000, 80)), ends4(0x0a00_0001, 0x0a00_000b, (1_025, 8_080)));
    let prefix = 0x2001_0db8_u128 << 96;
    survives_the_parser(ends6(prefix + 7, prefix + 10, (40_000, 80)), ends6(prefix + 1, prefix + 11, (1_025, 8_080)));
}

#[test]
fn half_a_quoted_checksum_is_left_alone() {
    let (outer, quoted) = (ends4(9, 1, (0, 0)), ends4(1, 2, (7, 80)));
    let (mut frame, mut facts, quote) = error(Kind::Tcp, outer, quoted, 20 + 18, PLAIN);
    // One byte less is quoted: the error's own lengths and checksum follow.
    let half = frame[frame.len() - 2];
    frame.pop();
    facts.end -= 1;
    frame[36..38].fill(0);
    let sum = checksum::plain(&frame[34..]);
    frame[36..38].copy_from_slice(&sum.to_be_bytes());
    assert!(ends4(5, 2, (6, 80)).rewrite_error(&mut frame, &facts, &quote, &ends4(9, 5, (0, 0))));
    assert_eq!((checksum::plain(&frame[34..]), frame.last()), (0, Some(&half)));
}

#[test]
fn errors_are_not_rewritten_without_their_quote() {
    let ends = ends4(1, 2, (7, 80));
    let (mut frame, facts, _) = error(Kind::Tcp, ends, ends, 28, PLAIN);
    assert!(!ends.rewrite(&mut frame, &facts, Deltas::NONE));
}

#[test]
fn errors_show_the_path_but_not_what_translation_hides() {
    let (client, service, pool, server, router) = (1, 2, 3, 4, 99u32);
    let ends = |source: u32, destination: u32| ends4(source, destination, (0, 0));
    let outer = |from: u32, quoted: Ends4, restored: Ends4| {
        let (source, destination) = outer_addresses(Ipv4Addr::from(from), &quoted, &restored);
        (u32::from(source), u32::from(destination))
    };
    // Source NAT, a router outside about a packet on its way out: as it is. A host inside about a reply: the pool address.
    assert_eq!(outer(router, ends(pool, server), ends(client, server)), (router, client));
    assert_eq!(outer(router, ends(server, client), ends(server, pool)), (pool, server), "RFC 5508 REQ-5");
    // Balancer: the backend, or a router before it, speaks as the service; a router outside as itself.
    assert_eq!(outer(server, ends(client, server), ends(client, service)), (service, client));
    assert_eq!(outer(router, ends(client, server), ends(client, service)), (service, client));
    assert_eq!(outer(router, ends(service, client), ends(server, client)), (router, server));
    // Full NAT hides each side from the other.
    assert_eq!(outer(router, ends(pool, server), ends(client, service)), (service, client));
    assert_eq!(outer(router, ends(service, client), ends(server, pool)), (pool, server));
}
