//! The common packet, read in one straight line: Ethernet without tags, addressed to one station, IPv4 without options or
//! IPv6 without extension headers, whole, TCP (no SYN) or UDP, from and to ordinary hosts, checksums right.
//!
//! Called by a worker for each packet before [`dissect`](crate::dissect), which reads all others and says what is wrong
//! with bad ones. Where both accept a packet they agree on every fact; nothing that `dissect` refuses is accepted here.
//! [`Facts`](crate::Facts) are large because a packet can be strange; this is small because it is not.

use zerocopy::FromBytes;

use crate::dissect::{Verify, offset};
use crate::ethernet::{self, EthernetHeader};
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::tcp::TcpHeader;
use crate::udp::UdpHeader;
use crate::{MacAddr, Tcp, TcpFlags, checksum, martian, tcp, udp};

/// Where the IP header of a plain packet begins.
pub const NETWORK: usize = EthernetHeader::LEN;
/// Where the transport header of a plain IPv4 packet begins.
pub const TRANSPORT_V4: usize = NETWORK + Ipv4Header::LEN;
/// Where the transport header of a plain IPv6 packet begins.
pub const TRANSPORT_V6: usize = NETWORK + Ipv6Header::LEN;

/// A plain packet: its IP header where it lies in the frame, and its ports. A view, so that a worker copies each word from
/// the frame to where it wants it once.
#[derive(Clone, Copy, Debug)]
pub enum Plain<'a> {
    /// IPv4.
    V4(&'a Ipv4Header, Ports),
    /// IPv6.
    V6(&'a Ipv6Header, Ports),
}

/// The ports of a plain packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Whether they are TCP's; UDP's otherwise.
    pub tcp: bool,
}

/// Reads a frame that is addressed to `station`; `None` when it is not plain.
#[inline(always)]
#[must_use]
pub fn plain(bytes: &[u8], station: MacAddr, verify: Verify) -> Option<Plain<'_>> {
    let (link, packet) = EthernetHeader::ref_from_prefix(bytes).ok()?;
    if link.destination() != station || link.source().is_multicast() || bytes.len() > usize::from(u16::MAX) {
        return None;
    }
    match link.ethertype() {
        ethernet::IPV4 => read_v4(packet, verify),
        ethernet::IPV6 => read_v6(packet, verify),
        _ => None,
    }
}

#[inline(always)]
fn read_v4(bytes: &[u8], verify: Verify) -> Option<Plain<'_>> {
    let (header, _) = Ipv4Header::ref_from_prefix(bytes).ok()?;
    let segment = bytes.get(Ipv4Header::LEN..usize::from(header.total_length()))?;
    let (source, destination) = (header.source(), header.destination());
    let is_plain = header.is_plain()
        && martian::is_host_v4(source)
        && martian::is_host_v4(destination)
        && source != destination
        && (verify == Verify::Nothing || header.sum_is_right());
    if !is_plain {
        return None;
    }
    let ports = read_transport(header.protocol(), segment, header.load_addresses(), verify, false)?;
    Some(Plain::V4(header, ports))
}

#[inline(always)]
fn read_v6(bytes: &[u8], verify: Verify) -> Option<Plain<'_>> {
    let (header, rest) = Ipv6Header::ref_from_prefix(bytes).ok()?;
    let segment = rest.get(..usize::from(header.payload_length()))?;
    let (source, destination) = (header.source(), header.destination());
    let is_plain = header.version() == 6
        && martian::is_plain_v6(source)
        && martian::is_plain_v6(destination)
        && source != destination;
    if !is_plain {
        return None;
    }
    let ports = read_transport(header.next_header(), segment, header.load_addresses(), verify, true)?;
    Some(Plain::V6(header, ports))
}

#[inline(always)]
fn read_transport(protocol: u8, segment: &[u8], addresses: u64, verify: Verify, is_v6: bool) -> Option<Ports> {
    match protocol {
        udp::PROTOCOL => {
            let (header, _) = UdpHeader::ref_from_prefix(segment).ok()?;
            let (source, destination, field) = (header.source_port(), header.destination_port(), header.checksum());
            let is_plain = usize::from(header.length()) == segment.len()
                && destination != 0
                && if field == 0 { !is_v6 } else { sum_is_right(protocol, segment, addresses, verify, field) };
            is_plain.then_some(Ports { source, destination, tcp: false })
        }
        tcp::PROTOCOL => {
            let (header, rest) = TcpHeader::ref_from_prefix(segment).ok()?;
            let (source, destination, flags) = (header.source_port(), header.destination_port(), header.flags());
            let options = rest.get(..header.header_len().checked_sub(TcpHeader::LEN)?)?;
            let is_plain = source != 0
                && destination != 0
                && flags.is_legal()
                && !flags.contains(TcpFlags::SYN)
                && tcp::are_legal(options)
                && sum_is_right(protocol, segment, addresses, verify, header.checksum());
            is_plain.then_some(Ports { source, destination, tcp: true })
        }
        _ => None,
    }
}

/// What the TCP header says that begins at `transport` in a plain frame, whose IP packet has `length` bytes.
#[inline]
#[must_use]
pub fn plain_tcp(bytes: &[u8], transport: usize, length: u16) -> Option<Tcp> {
    let (header, _) = TcpHeader::ref_from_prefix(bytes.get(transport..)?).ok()?;
    let headers = offset(transport - NETWORK + header.header_len());
    Some(Tcp {
        source_port: header.source_port(),
        destination_port: header.destination_port(),
        sequence: header.sequence(),
        acknowledgment: header.acknowledgment(),
        window: header.window(),
        flags: header.flags(),
        payload: length.checked_sub(headers)?,
        window_scale: None,
    })
}

/// Whether the checksum is right, or not to be verified. One that may be the pseudo header's alone is for `dissect`.
#[inline(never)]
fn sum_is_right(protocol: u8, segment: &[u8], addresses: u64, verify: Verify, field: u16) -> bool {
    if verify == Verify::Nothing {
        return true;
    }
    let pseudo = addresses + checksum::load_words([u16::from(protocol), offset(segment.len())]);
    if verify == Verify::Partial && field == checksum::fold_loaded(pseudo) {
        return false;
    }
    checksum::fold_loaded(pseudo + checksum::load(segment)) == 0xffff
}

#[cfg(test)]
mod tests;
