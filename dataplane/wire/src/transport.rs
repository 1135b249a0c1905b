//! From an IP packet's protocol number to the reader of its transport header, for both families, and the rules by which
//! fragments may not hide that header. The headers themselves are in `tcp`, `udp`, `icmpv4` and `icmpv6`.

use crate::packet::Packet;
use crate::{Fragment, Frame, Malformed, Transport, icmpv4, icmpv6, tcp, udp};

/// Reads the transport header of `packet`, and so completes the facts of the frame.
///
/// # Errors
/// What the protocol's reader finds.
#[inline]
pub(crate) fn read(packet: &Packet<'_>) -> Result<Frame, Malformed> {
    if packet.fragment == Fragment::Later {
        return Ok(packet.finish(Transport::Unknown, false));
    }
    match packet.protocol {
        tcp::PROTOCOL => tcp::read(packet),
        udp::PROTOCOL => udp::read(packet),
        icmpv4::PROTOCOL if !packet.is_v6() => icmpv4::read(packet),
        icmpv6::PROTOCOL if packet.is_v6() => icmpv6::read(packet),
        _ => Ok(packet.finish(Transport::Other, false)),
    }
}

/// Whether `segment`, of a first fragment, holds the whole transport header.
pub(crate) fn holds_header(protocol: u8, segment: &[u8]) -> bool {
    match protocol {
        tcp::PROTOCOL => {
            // A data offset below 5 is for the reader to refuse.
            let header = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
            segment.len() >= header.max(tcp::TcpHeader::LEN)
        }
        udp::PROTOCOL | icmpv4::PROTOCOL | icmpv6::PROTOCOL => segment.len() >= 8,
        _ => true,
    }
}

/// Judges a fragment whose payload is `piece`, `units` times 8 bytes into the datagram's.
///
/// # Errors
/// `FragmentLength` for a middle one that is not a multiple of 8. `FragmentTiny` for one without payload, and for a TCP one
/// at offset 1 or 2: it would overwrite the header a first fragment has to hold (RFC 1858, RFC 3128; EVA-02).
pub(crate) fn judge_fragment(protocol: u8, piece: &[u8], units: usize, more: bool) -> Result<(), Malformed> {
    if more && !piece.len().is_multiple_of(8) {
        return Err(Malformed::FragmentLength);
    }
    if piece.is_empty() || (protocol == tcp::PROTOCOL && matches!(units, 1 | 2)) {
        return Err(Malformed::FragmentTiny);
    }
    Ok(())
}
