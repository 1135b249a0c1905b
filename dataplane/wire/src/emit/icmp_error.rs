//! ICMP and `ICMPv6` errors about a packet, with as much of it as their RFCs allow, and the rules for packets about which
//! none is ever sent.

use core::net::IpAddr;

use super::{HOP_LIMIT, put, put_link_answer};
use crate::icmpv4::{self, IcmpHeader};
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::{Content, Endpoints, Facts, Fragment, Frame, Transport, checksum, icmpv6, martian};

/// Which error. The codes per family are those of RFC 792, RFC 1812 section 5.2.7.1 and RFC 4443 section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// No route.
    NetUnreachable,
    /// The next hop does not answer.
    HostUnreachable,
    /// A rule forbids it.
    AdminProhibited,
    /// Nothing listens there.
    PortUnreachable,
    /// The hop limit ran out.
    TimeExceeded,
    /// Larger than the next link carries.
    TooBig {
        /// The largest packet that link carries.
        mtu: u16,
    },
}

impl IcmpErrorKind {
    /// Type, code, and the four bytes behind the checksum.
    const fn fields_v4(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (icmpv4::UNREACHABLE, 0, 0),
            Self::HostUnreachable => (icmpv4::UNREACHABLE, 1, 0),
            Self::AdminProhibited => (icmpv4::UNREACHABLE, 13, 0),
            Self::PortUnreachable => (icmpv4::UNREACHABLE, 3, 0),
            Self::TimeExceeded => (icmpv4::TIME_EXCEEDED, 0, 0),
            // RFC 1191 section 4: the MTU in the low half.
            Self::TooBig { mtu } => (icmpv4::UNREACHABLE, 4, mtu as u32),
        }
    }

    const fn fields_v6(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (icmpv6::UNREACHABLE, 0, 0),
            Self::HostUnreachable => (icmpv6::UNREACHABLE, 3, 0),
            Self::AdminProhibited => (icmpv6::UNREACHABLE, 1, 0),
            Self::PortUnreachable => (icmpv6::UNREACHABLE, 4, 0),
            Self::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0, 0),
            Self::TooBig { mtu } => (icmpv6::PACKET_TOO_BIG, 0, mtu as u32),
        }
    }
}

/// Tells the sender of `frame` what became of it, in the name of `source`, quoting the packet as it is in `frame` up to
/// 576 bytes in all (RFC 1812 section 4.3.2.3) or IPv6's least MTU of 1,280 (RFC 4443 section 2.4 (c)). Returns the bytes
/// written.
///
/// `None` also when no error may be sent (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)): about an ICMP error or
/// redirect, a packet to a group (of addresses or of stations), a fragment other than the first, a sender that is no
/// single host; and when `source` is of the other family.
pub fn icmp_error(out: &mut [u8], kind: IcmpErrorKind, source: IpAddr, frame: &[u8], facts: &Frame) -> Option<usize> {
    let Content::Ip(ip) = facts.content else { return None };
    if ip.fragment == Fragment::Later || is_about_an_error(&ip) {
        return None;
    }
    let packet = frame.get(usize::from(ip.network)..usize::from(ip.end))?;
    let network = put_link_answer(out, frame, facts)?;
    match (ip.endpoints, source) {
        (Endpoints::V4 { source: sender, destination }, IpAddr::V4(source)) => {
            if !martian::is_host_v4(sender) || !martian::is_host_v4(destination) {
                return None;
            }
            let (kind, code, rest) = kind.fields_v4();
            let begin = network + Ipv4Header::LEN;
            let end = put_message(out, begin, IcmpHeader::new(kind, code, rest), packet, 576 - Ipv4Header::LEN)?;
            set_checksum(out, begin, end, checksum::plain)?;
            // Network control precedence, as RFC 1812 section 4.3.2.5 asks.
            let total = u16::try_from(end - network).ok()?;
            put(out, network, &Ipv4Header::new(0xc0, total, HOP_LIMIT, icmpv4::PROTOCOL, source, sender))?;
            Some(end)
        }
        (Endpoints::V6 { source: sender, destination }, IpAddr::V6(source)) => {
            if sender.is_unspecified() || sender.is_multicast() || destination.is_multicast() {
                return None;
            }
            let (kind, code, rest) = kind.fields_v6();
            let begin = network + Ipv6Header::LEN;
            let end = put_message(out, begin, IcmpHeader::new(kind, code, rest), packet, 1_280 - Ipv6Header::LEN)?;
            let endpoints = Endpoints::V6 { source, destination: sender };
            set_checksum(out, begin, end, |message| checksum::transport(&endpoints, icmpv6::PROTOCOL, message))?;
            let len = u16::try_from(end - begin).ok()?;
            put(out, network, &Ipv6Header::new(len, icmpv6::PROTOCOL, HOP_LIMIT, source, sender))?;
            Some(end)
        }
        _ => None,
    }
}

/// Whether the packet is itself an error or a redirect; of `ICMPv6` also a type below 128 that nobody has defined.
fn is_about_an_error(ip: &Facts) -> bool {
    match (ip.transport, ip.endpoints.is_v6()) {
        (Transport::IcmpError { .. }, _) => true,
        (Transport::Icmp { kind, .. }, false) => kind == icmpv4::REDIRECT,
        (Transport::Icmp { kind, .. }, true) => kind < icmpv6::ECHO_REQUEST || kind == icmpv6::REDIRECT,
        _ => false,
    }
}

/// Writes `header` at `at` and as much of `packet` behind it as `room` bytes for both allow; returns where that ends.
fn put_message(out: &mut [u8], at: usize, header: IcmpHeader, packet: &[u8], room: usize) -> Option<usize> {
    let at = put(out, at, &header)?;
    let quoted = packet.get(..room - IcmpHeader::LEN).unwrap_or(packet);
    let end = at + quoted.len();
    out.get_mut(at..end)?.copy_from_slice(quoted);
    Some(end)
}

/// Writes the checksum of the message from `begin` to `end`, whose field is still zero.
fn set_checksum(out: &mut [u8], begin: usize, end: usize, sum: impl Fn(&[u8]) -> u16) -> Option<()> {
    let message = out.get_mut(begin..end)?;
    let checksum = sum(message);
    message.get_mut(2..4)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests;
