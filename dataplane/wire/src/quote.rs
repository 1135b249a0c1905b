//! The packet an ICMP error quotes: read as far as its ports, because those tie the error to a session. It is the far
//! end's memory of a packet, so its checksums are not verified, its addresses not judged, and it may promise more bytes
//! than are quoted; but nothing that is read may contradict itself (MAL-11).

use crate::dissect::offset;
use crate::icmpv4::IcmpHeader;
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::{Endpoints, Fragment, Malformed, Quote, QuotedTransport, SeqNumber, icmpv4, icmpv6, ipv6_ext, tcp, udp};
use zerocopy::FromBytes;

/// Bytes of the transport header an error has to quote (RFC 792); `ICMPv6` errors quote more.
const QUOTED: usize = 8;

/// Reads the packet of either family that a tunnel carries inside another, from `at` of `frame` to its end, as far as it is
/// there.
///
/// # Errors
/// As for the packet an ICMP error quotes (`IcmpQuote`): when the header is cut off or lies, or when less than 8 bytes of
/// TCP, UDP or ICMP follow.
#[cold]
pub fn read_inside(frame: &[u8], at: usize) -> Result<Quote, Malformed> {
    let frame = frame.get(..usize::from(u16::MAX)).unwrap_or(frame);
    let packet = frame.get(at..).ok_or(Malformed::IcmpQuote)?;
    match packet.first().map(|first| first >> 4) {
        Some(4) => read_v4(packet, at),
        Some(6) => read_v6(packet, at),
        Some(_) | None => Err(Malformed::IcmpQuote),
    }
}

/// Reads a quoted IPv4 packet that begins at `at` of the frame.
///
/// # Errors
/// `IcmpQuote` when the header is cut off or lies, when less than 8 bytes of TCP, UDP or ICMP follow, when it is a
/// later fragment of one of those, or itself an ICMP error or redirect (RFC 1122 section 3.2.2).
#[cold]
pub(crate) fn read_v4(quoted: &[u8], at: usize) -> Result<Quote, Malformed> {
    let (header, _) = Ipv4Header::ref_from_prefix(quoted).map_err(|_| Malformed::IcmpQuote)?;
    let header_len = header.header_len();
    let promised = usize::from(header.total_length());
    if header.version() != 4 || header_len < Ipv4Header::LEN || header_len > quoted.len() || promised < header_len {
        return Err(Malformed::IcmpQuote);
    }
    let segment = quoted.get(header_len..).unwrap_or_default();
    let readable = header.fragment_offset() == 0 && promised - header_len >= QUOTED;
    Ok(Quote {
        endpoints: Endpoints::V4 { source: header.source(), destination: header.destination() },
        network: offset(at),
        transport_offset: offset(at + header_len),
        protocol: header.protocol(),
        transport: read_transport(header.protocol(), segment, readable, icmpv4::PROTOCOL)?,
    })
}

/// Reads a quoted IPv6 packet that begins at `at` of the frame.
///
/// # Errors
/// As [`read_v4`]; also when the extension headers are cut off or out of order.
#[cold]
pub(crate) fn read_v6(quoted: &[u8], at: usize) -> Result<Quote, Malformed> {
    let (header, rest) = Ipv6Header::ref_from_prefix(quoted).map_err(|_| Malformed::IcmpQuote)?;
    if header.version() != 6 {
        return Err(Malformed::IcmpQuote);
    }
    let chain = ipv6_ext::walk(header.next_header(), rest).map_err(|_| Malformed::IcmpQuote)?;
    let segment = rest.get(chain.len..).unwrap_or_default();
    let readable = chain.fragment() != Fragment::Later && usize::from(header.payload_length()) >= chain.len + QUOTED;
    Ok(Quote {
        endpoints: Endpoints::V6 { source: header.source(), destination: header.destination() },
        network: offset(at),
        transport_offset: offset(at + Ipv6Header::LEN + chain.len),
        protocol: chain.read_as(),
        transport: read_transport(chain.read_as(), segment, readable, icmpv6::PROTOCOL)?,
    })
}

/// Reads the first eight bytes of the quoted transport header; `readable` says that by its own lengths the packet has
/// them, `icmp` is the family's ICMP.
fn read_transport(protocol: u8, segment: &[u8], readable: bool, icmp: u8) -> Result<QuotedTransport, Malformed> {
    if !(protocol == tcp::PROTOCOL || protocol == udp::PROTOCOL || protocol == icmp) {
        return Ok(QuotedTransport::Other);
    }
    let quoted: &[u8; QUOTED] = segment.first_chunk().filter(|_| readable).ok_or(Malformed::IcmpQuote)?;
    if protocol == icmp {
        let (header, _) = IcmpHeader::split(quoted).map_err(|_| Malformed::IcmpQuote)?;
        return read_icmp(*header, icmp);
    }
    let &[a, b, c, d, e, f, g, h] = quoted;
    Ok(QuotedTransport::Ports {
        source_port: u16::from_be_bytes([a, b]),
        destination_port: u16::from_be_bytes([c, d]),
        sequence: SeqNumber::new(if protocol == tcp::PROTOCOL { u32::from_be_bytes([e, f, g, h]) } else { 0 }),
    })
}

fn read_icmp(header: IcmpHeader, icmp: u8) -> Result<QuotedTransport, Malformed> {
    let kind = header.kind();
    let (request, reply, about_an_error) = if icmp == icmpv4::PROTOCOL {
        (icmpv4::ECHO_REQUEST, icmpv4::ECHO_REPLY, icmpv4::is_error(kind) || kind == icmpv4::REDIRECT)
    } else {
        (icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY, kind < icmpv6::ECHO_REQUEST || kind == icmpv6::REDIRECT)
    };
    if about_an_error {
        Err(Malformed::IcmpQuote)
    } else if kind == request || kind == reply {
        Ok(QuotedTransport::Echo { request: kind == request, identifier: header.identifier() })
    } else {
        Ok(QuotedTransport::Other)
    }
}

#[cfg(test)]
mod tests;
