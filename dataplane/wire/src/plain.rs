//! The common packet, read in one straight line: Ethernet without tags, addressed to one station, IPv4 without options or
//! IPv6 without extension headers, whole, TCP or UDP, from and to ordinary hosts, checksums right.
//!
//! Called by a worker for each packet before [`dissect`](crate::dissect), which reads all others and says what is wrong
//! with bad ones. Where both accept a packet they agree on every fact; nothing that `dissect` refuses is accepted here.
//! [`Facts`](crate::Facts) are large because a packet can be strange; this is small because it is not.

use zerocopy::FromBytes;

use crate::dissect::{Verify, offset};
use crate::ethernet::EthernetHeader;
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

/// What `plain` compares of the first eight bytes: the destination, and the bit that makes the source a group.
const LINK_MASK: u64 = 0x0001_ffff_ffff_ffff;
/// The ethertype and the first byte behind it: IPv4 without options, and IPv6, as they are loaded.
const IS_V4: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
const IS_V4_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xff, 0]);
const IS_V6: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
const IS_V6_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xf0, 0]);
/// Where the addresses of an IPv4 packet begin; its transport header follows them.
const ADDRESSES_V4: usize = TRANSPORT_V4 - 8;
/// Where the addresses of an IPv6 packet begin; its transport header follows them.
const ADDRESSES_V6: usize = TRANSPORT_V6 - 32;

/// Reads a frame that is addressed to `station`; `None` when it is not plain.
#[inline(always)]
#[must_use]
pub fn plain(bytes: &[u8], station: MacAddr, verify: Verify) -> Option<Plain<'_>> {
    // Eight bytes of the link header at once, then four: nearly every frame is told by two comparisons.
    let link = bytes.first_chunk::<16>()?;
    let [a, b, c, d, e, f] = station.octets();
    let wanted = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let front = u64::from_le_bytes(*link.first_chunk()?);
    if (front ^ wanted) & LINK_MASK != 0 || bytes.len() > usize::from(u16::MAX) {
        return None;
    }
    let kind = u32::from_le_bytes(*link.last_chunk()?);
    if kind & IS_V4_MASK == IS_V4 {
        read_v4(bytes, verify)
    } else if kind & IS_V6_MASK == IS_V6 {
        read_v6(bytes, verify)
    } else {
        None
    }
}

/// Reads a frame whose version and header length are IPv4's without options.
#[inline(always)]
fn read_v4(frame: &[u8], verify: Verify) -> Option<Plain<'_>> {
    let (header, _) = Ipv4Header::ref_from_prefix(frame.get(NETWORK..)?).ok()?;
    let covered = frame.get(ADDRESSES_V4..NETWORK + usize::from(header.total_length()))?;
    let (source, destination) = (header.source(), header.destination());
    let is_plain = header.is_whole()
        && martian::is_host_v4(source)
        && martian::is_host_v4(destination)
        && source != destination
        && (verify == Verify::Nothing || header.sum_is_right());
    if !is_plain {
        return None;
    }
    Some(Plain::V4(header, read_transport::<8>(header.protocol(), covered, verify)?))
}

/// Reads a frame whose version is IPv6's.
#[inline(always)]
fn read_v6(frame: &[u8], verify: Verify) -> Option<Plain<'_>> {
    let (header, _) = Ipv6Header::ref_from_prefix(frame.get(NETWORK..)?).ok()?;
    let covered = frame.get(ADDRESSES_V6..TRANSPORT_V6 + usize::from(header.payload_length()))?;
    let (source, destination) = (header.source(), header.destination());
    let is_plain = martian::is_plain_v6(source) && martian::is_plain_v6(destination) && header.has_two_ends();
    if !is_plain {
        return None;
    }
    Some(Plain::V6(header, read_transport::<32>(header.next_header(), covered, verify)?))
}

/// Reads the transport header behind the addresses, which `covered` begins with: what the checksum covers lies in one piece.
#[inline(always)]
fn read_transport<const ADDRESSES: usize>(protocol: u8, covered: &[u8], verify: Verify) -> Option<Ports> {
    const { assert!(ADDRESSES == 8 || ADDRESSES == 32) };
    let segment = covered.get(ADDRESSES..)?;
    // Both in one word: who puts them together again has it as it was.
    let [s0, s1, d0, d1] = u32::from_ne_bytes(*segment.first_chunk()?).to_ne_bytes();
    let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let ports = Ports { source, destination, tcp: protocol == tcp::PROTOCOL };
    let field = match protocol {
        udp::PROTOCOL => {
            let (header, _) = UdpHeader::ref_from_prefix(segment).ok()?;
            if usize::from(header.length()) != segment.len() || destination == 0 {
                return None;
            }
            match header.checksum() {
                // Only IPv4 may go without.
                0 => return (ADDRESSES == 8).then_some(ports),
                field => field,
            }
        }
        tcp::PROTOCOL => {
            let (header, rest) = TcpHeader::ref_from_prefix(segment).ok()?;
            let options = rest.get(..header.header_len().checked_sub(TcpHeader::LEN)?)?;
            if source == 0 || destination == 0 || !header.flags().is_legal() || !tcp::are_legal(options) {
                return None;
            }
            header.checksum()
        }
        _ => return None,
    };
    (verify == Verify::Nothing || sum_is_right(protocol, covered, ADDRESSES, verify, field)).then_some(ports)
}

/// The header and both ports, source first, of a frame that [`plain`] has found to be IPv4; `None` only for others.
#[inline(always)]
#[must_use]
pub fn plain_v4(bytes: &[u8]) -> Option<(&Ipv4Header, [u16; 2])> {
    let (header, rest) = Ipv4Header::ref_from_prefix(bytes.get(NETWORK..)?).ok()?;
    Some((header, ports(rest)?))
}

/// As [`plain_v4`], for IPv6.
#[inline(always)]
#[must_use]
pub fn plain_v6(bytes: &[u8]) -> Option<(&Ipv6Header, [u16; 2])> {
    let (header, rest) = Ipv6Header::ref_from_prefix(bytes.get(NETWORK..)?).ok()?;
    Some((header, ports(rest)?))
}

#[inline(always)]
fn ports(segment: &[u8]) -> Option<[u16; 2]> {
    let &[s0, s1, d0, d1] = segment.first_chunk()?;
    Some([u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])])
}

/// What the TCP header says that begins at `transport` in a plain frame, whose IP packet has `length` bytes. `None` for a
/// SYN, whose options matter: see [`plain_opening`].
#[inline(always)]
#[must_use]
pub fn plain_tcp(bytes: &[u8], transport: usize, length: u16) -> Option<Tcp> {
    let (header, _) = TcpHeader::ref_from_prefix(bytes.get(transport..)?).ok()?;
    if header.flags().contains(TcpFlags::SYN) {
        return None;
    }
    read_tcp(header, transport, length)
}

/// As [`plain_tcp`], for the first segment of a session: SYN and its window scale included.
#[inline]
#[must_use]
pub fn plain_opening(bytes: &[u8], transport: usize, length: u16) -> Option<Tcp> {
    let (header, rest) = TcpHeader::ref_from_prefix(bytes.get(transport..)?).ok()?;
    let tcp = read_tcp(header, transport, length)?;
    if !tcp.flags.contains(TcpFlags::SYN) {
        return Some(tcp);
    }
    let options = rest.get(..header.header_len().checked_sub(TcpHeader::LEN)?)?;
    Some(Tcp { window_scale: tcp::window_scale(options), ..tcp })
}

#[inline(always)]
fn read_tcp(header: &TcpHeader, transport: usize, length: u16) -> Option<Tcp> {
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

/// Whether the checksum over addresses, of which `covered` has so many bytes, and segment is right. One that may be the
/// pseudo header's alone is for `dissect`.
#[inline(always)]
fn sum_is_right(protocol: u8, covered: &[u8], addresses: usize, verify: Verify, field: u16) -> bool {
    let pseudo = checksum::load_words([u16::from(protocol), offset(covered.len().saturating_sub(addresses))]);
    if verify == Verify::Partial && is_partial(pseudo, covered.get(..addresses).unwrap_or_default(), field) {
        return false;
    }
    // Long packets are summed elsewhere: their loops would take the registers of all the rest.
    match covered.len() {
        0..SHORT => checksum::is_all_ones(checksum::load_short(pseudo, covered)),
        _ => long_sum_is_right(pseudo, covered),
    }
}

/// Bytes from which on a packet is long for its sum.
const SHORT: usize = 72;

#[inline(never)]
fn long_sum_is_right(pseudo: u64, covered: &[u8]) -> bool {
    checksum::is_all_ones(checksum::load_whole(pseudo, covered))
}

/// Whether a checksum is the folded pseudo header's.
#[inline(never)]
fn is_partial(pseudo: u64, addresses: &[u8], field: u16) -> bool {
    field == checksum::fold_loaded(pseudo + checksum::load(addresses))
}

#[cfg(test)]
mod tests;
