//! `ICMPv6` (RFC 4443): types and the reading of a message. The header has ICMP's shape and lives in `icmpv4`; neighbor
//! discovery is read in [`ndp`](crate::ndp), the packet an error quotes in `quote`.

use crate::icmpv4::IcmpHeader;
use crate::packet::Packet;
use crate::{Frame, Malformed, Transport, quote};

/// IANA's number of `ICMPv6`.
pub const PROTOCOL: u8 = 58;

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Neighbor solicitation (RFC 4861 section 4.3).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Neighbor advertisement (RFC 4861 section 4.4).
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861 section 4.5).
pub const REDIRECT: u8 = 137;

/// Whether this is one of the errors that quote a packet. Types 5 to 127 are errors nobody has defined yet.
pub(crate) const fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | PACKET_TOO_BIG | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// Reads the message of `packet`. Its checksum is always verified: devices do not look at `ICMPv6`'s.
///
/// # Errors
/// `IcmpTruncated`, `IcmpChecksum`, `IcmpQuote`.
pub(crate) fn read(packet: &Packet<'_>) -> Result<Frame, Malformed> {
    let (header, rest) = IcmpHeader::split(packet.segment)?;
    if packet.is_whole() && !packet.sum_is_right() {
        return Err(Malformed::IcmpChecksum);
    }
    let (kind, code) = (header.kind(), header.code());
    let transport = match kind {
        ECHO_REQUEST | ECHO_REPLY => Transport::Echo { request: kind == ECHO_REQUEST, identifier: header.identifier() },
        _ if is_error(kind) => {
            Transport::IcmpError { kind, code, quote: quote::read_v6(rest, packet.segment_at + IcmpHeader::LEN)? }
        }
        _ => Transport::Icmp { kind, code },
    };
    Ok(packet.finish(transport, false))
}

#[cfg(test)]
mod tests;
