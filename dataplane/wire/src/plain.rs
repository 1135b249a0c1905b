//! The common packet, read in one straight line: Ethernet without tags, addressed to one station, IPv4 without options or
//! IPv6 without extension headers, whole, TCP or UDP, checksums right.
//!
//! Called by a worker for each packet before [`dissect`](crate::dissect), which reads all others and says what is wrong
//! with bad ones. Where both accept a packet they agree on every fact. Two things are not looked at here, because no session
//! ever has them: addresses and ports that no packet may carry ([`is_ordinary`] tells, for a packet without a session), and
//! flags that mean nothing (which [`plain_tcp`] and [`plain_opening`] refuse). Nothing else that `dissect` refuses is
//! accepted here. [`Facts`](crate::Facts) are large because a packet can be strange; this is small because it is not.

use zerocopy::FromBytes;

use crate::dissect::offset;
use crate::ethernet::EthernetHeader;
use crate::facts::Endpoints;
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::tcp::TcpHeader;
use crate::udp::UdpHeader;
use crate::{MacAddr, Tcp, TcpFlags, checksum, martian, tcp, udp};

/// Where the IP header of a plain packet begins.
pub const NETWORK: usize = EthernetHeader::LEN;
/// Where the addresses of a plain IPv4 packet begin; its transport header follows them.
pub const ADDRESSES_V4: usize = TRANSPORT_V4 - 8;
/// Where the addresses of a plain IPv6 packet begin; its transport header follows them.
pub const ADDRESSES_V6: usize = TRANSPORT_V6 - 32;
/// Where the transport header of a plain IPv4 packet begins.
pub const TRANSPORT_V4: usize = NETWORK + Ipv4Header::LEN;
/// Where the transport header of a plain IPv6 packet begins.
pub const TRANSPORT_V6: usize = NETWORK + Ipv6Header::LEN;

/// Bytes of the shortest plain IPv4 packet, a datagram without data.
pub const LEAST_V4: usize = TRANSPORT_V4 + UdpHeader::LEN;
/// Bytes of the shortest plain IPv6 packet.
pub const LEAST_V6: usize = TRANSPORT_V6 + UdpHeader::LEN;

/// The bits of an IPv4 header's second word, as it is loaded, that say it is of a fragment.
const PIECE: u16 = 0x3fff_u16.to_be();
/// UDP's number as the pseudo header has it, as it is loaded.
const PSEUDO_UDP: u64 = 17_u16.to_be() as u64;

/// What a frame carries that may be plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4 without options.
    V4,
    /// IPv6.
    V6,
}

/// A plain packet: what a session is found by, in the words it lies in the frame by. `P` is both addresses, the source
/// first: eight bytes for IPv4, twice sixteen for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<P> {
    /// TCP, not UDP.
    pub tcp: bool,
    /// Both addresses.
    pub addresses: P,
    /// Both ports, the source's first.
    pub ports: u32,
}

/// What [`network`] compares of the first eight bytes: the destination, and the bit that makes the source a group.
const LINK_MASK: u64 = 0x0001_ffff_ffff_ffff;
/// Of the same bytes the bits that make destination and source groups.
const GROUP_MASK: u64 = 0x0001_0000_0000_0001;
/// The ethertype and the first byte behind it: IPv4 without options, and IPv6, as they are loaded.
const IS_V4: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
const IS_V4_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xff, 0]);
const IS_V6: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
const IS_V6_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xf0, 0]);
/// What a frame carries that is addressed to `station`; `None` when it is nothing plain.
#[inline(always)]
#[must_use]
pub fn network(bytes: &[u8], station: MacAddr) -> Option<Network> {
    let [a, b, c, d, e, f] = station.octets();
    network_where(bytes, u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), LINK_MASK)
}

/// As [`network`], of a frame from and to any one station.
#[inline(always)]
#[must_use]
pub fn network_to_any(bytes: &[u8]) -> Option<Network> {
    network_where(bytes, 0, GROUP_MASK)
}

/// What a frame carries whose first eight bytes are as `wanted` under `mask`.
#[inline(always)]
fn network_where(bytes: &[u8], wanted: u64, mask: u64) -> Option<Network> {
    // Eight bytes of the link header at once, then four: nearly every frame is told by two comparisons.
    let link = bytes.first_chunk::<16>()?;
    let front = u64::from_le_bytes(*link.first_chunk()?);
    if (front ^ wanted) & mask != 0 || bytes.len() > usize::from(u16::MAX) {
        return None;
    }
    let kind = u32::from_le_bytes(*link.last_chunk()?);
    if kind & IS_V4_MASK == IS_V4 {
        Some(Network::V4)
    } else if kind & IS_V6_MASK == IS_V6 {
        Some(Network::V6)
    } else {
        None
    }
}

/// Reads a frame that carries [`Network::V4`]; `None` when it is not plain. `verify` says that nobody has looked at its
/// checksums.
#[inline(always)]
#[must_use]
pub fn read_v4(frame: &[u8], verify: bool) -> Option<Plain<u64>> {
    let front = frame.first_chunk::<LEAST_V4>()?;
    let total = u16::from_be_bytes([front[16], front[17]]);
    let packet = frame.get(..NETWORK + usize::from(total))?;
    // Neither a fragment nor followed by any; whether it may be cut does not matter.
    if u16::from_ne_bytes([front[20], front[21]]) & PIECE != 0 {
        return None;
    }
    let addresses = u64::from_ne_bytes(*front[ADDRESSES_V4..].first_chunk()?);
    if verify {
        let [early, late] = [u64::from_ne_bytes(*front[14..].first_chunk()?), word(*front[22..].first_chunk()?)];
        if !checksum::is_all_ones(checksum::add(checksum::add(early, late), addresses)) {
            return None;
        }
    }
    let head = *front.last_chunk()?;
    let tcp = match front[NETWORK + 9] {
        udp::PROTOCOL => {
            let pseudo = read_udp(head, total.checked_sub(20)?)?;
            if verify && head[6..] != [0, 0] && !sum_is_right(pseudo, packet.get(ADDRESSES_V4..)?) {
                return None;
            }
            false
        }
        tcp::PROTOCOL => {
            let pseudo = read_tcp_header(packet.get(TRANSPORT_V4..)?)?;
            if verify && !sum_is_right(pseudo, packet.get(ADDRESSES_V4..)?) {
                return None;
            }
            true
        }
        _ => return None,
    };
    Some(Plain { tcp, addresses, ports: u32::from_ne_bytes(*head.first_chunk()?) })
}

/// As [`read_v4`], for [`Network::V6`].
#[inline(always)]
#[must_use]
pub fn read_v6(frame: &[u8], verify: bool) -> Option<Plain<[u128; 2]>> {
    let front = frame.first_chunk::<LEAST_V6>()?;
    let payload = u16::from_be_bytes([front[18], front[19]]);
    let packet = frame.get(..TRANSPORT_V6 + usize::from(payload))?;
    let head = *front.last_chunk()?;
    let (tcp, pseudo) = match front[NETWORK + 6] {
        // Only IPv4 may go without a checksum.
        udp::PROTOCOL if head[6..] != [0, 0] => (false, read_udp(head, payload)?),
        tcp::PROTOCOL => (true, read_tcp_header(packet.get(TRANSPORT_V6..)?)?),
        _ => return None,
    };
    if verify && !sum_is_right(pseudo, packet.get(ADDRESSES_V6..)?) {
        return None;
    }
    let source = u128::from_ne_bytes(*front[ADDRESSES_V6..].first_chunk()?);
    let destination = u128::from_ne_bytes(*front[ADDRESSES_V6 + 16..].first_chunk()?);
    Some(Plain { tcp, addresses: [source, destination], ports: u32::from_ne_bytes(*head.first_chunk()?) })
}

/// Reads a UDP header before so many bytes of datagram, itself among them: the sum of protocol and length, as the pseudo
/// header has them. `None` when it does not say the same.
#[inline(always)]
fn read_udp(head: [u8; 8], length: u16) -> Option<u64> {
    let said = [head[4], head[5]];
    let right = u16::from_be_bytes(said) == length && usize::from(length) >= UdpHeader::LEN;
    right.then(|| PSEUDO_UDP + u64::from(u16::from_ne_bytes(said)))
}

/// Reads the TCP header of a segment: the sum of protocol and length, as the pseudo header has them. `None` when the header
/// is not all there, or its options are not well-formed.
#[inline(always)]
fn read_tcp_header(segment: &[u8]) -> Option<u64> {
    let (header, rest) = TcpHeader::ref_from_prefix(segment).ok()?;
    let options = rest.get(..header.header_len().checked_sub(TcpHeader::LEN)?)?;
    // Segments of more than 65,535 bytes do not fit the length that brought us here.
    tcp::are_legal(options).then(|| checksum::load_words([u16::from(tcp::PROTOCOL), offset(segment.len())]))
}

/// Whether the checksum is right over `covered`, a segment with its addresses in front.
#[inline(always)]
fn sum_is_right(pseudo: u64, covered: &[u8]) -> bool {
    // Long packets are summed elsewhere: their loops would take the registers of all the rest.
    match covered.len() {
        0..SHORT => checksum::is_all_ones(checksum::load_short(pseudo, covered)),
        _ => long_sum_is_right(pseudo, covered),
    }
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(bytes))
}

/// Whether the transport checksum of a frame that is to be read by [`read_v4`] or [`read_v6`] may be the pseudo header's
/// alone, left for hardware to complete.
#[cold]
#[inline(never)]
#[must_use]
pub fn may_be_partial(frame: &[u8]) -> bool {
    let is_v4 = frame.get(NETWORK - 2) == Some(&0x08);
    let (addresses, length, protocol, transport) = if is_v4 {
        (ADDRESSES_V4, NETWORK + 2, NETWORK + 9, TRANSPORT_V4)
    } else {
        (ADDRESSES_V6, NETWORK + 4, NETWORK + 6, TRANSPORT_V6)
    };
    let length = frame.get(length..).and_then(<[u8]>::first_chunk).map(|&length| u16::from_be_bytes(length));
    let (Some(length), Some(&protocol), Some(covered)) = (length, frame.get(protocol), frame.get(addresses..transport))
    else {
        return false;
    };
    let segment = if is_v4 { length.saturating_sub(offset(Ipv4Header::LEN)) } else { length };
    let field = transport + if protocol == tcp::PROTOCOL { 16 } else { 6 };
    let pseudo = checksum::load_words([u16::from(protocol), segment]) + checksum::load(covered);
    frame.get(field..).and_then(<[u8]>::first_chunk) == Some(&checksum::fold_loaded(pseudo).to_be_bytes())
}

/// Whether packets between these ends may be: from one host to another, and ports that are there. A session has no others.
#[inline]
#[must_use]
pub fn is_ordinary(endpoints: &Endpoints, source_port: u16, destination_port: u16, tcp: bool) -> bool {
    let hosts = match *endpoints {
        Endpoints::V4 { source, destination } => {
            martian::is_host_v4(source) && martian::is_host_v4(destination) && source != destination
        }
        Endpoints::V6 { source, destination } => {
            martian::is_plain_v6(source) && martian::is_plain_v6(destination) && source != destination
        }
    };
    hosts && destination_port != 0 && (source_port != 0 || !tcp)
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

/// What the TCP header says that begins at `transport` in a plain frame, whose IP packet has `length` bytes, whatever its
/// flags: of a SYN all but its options.
#[inline(always)]
#[must_use]
pub fn plain_segment(bytes: &[u8], transport: usize, length: u16) -> Option<Tcp> {
    let (header, _) = TcpHeader::ref_from_prefix(bytes.get(transport..)?).ok()?;
    read_tcp(header, transport, length)
}

/// As [`plain_segment`], but `None` for flags that mean nothing, and for a SYN, whose options matter: see
/// [`plain_opening`].
#[inline(always)]
#[must_use]
pub fn plain_tcp(bytes: &[u8], transport: usize, length: u16) -> Option<Tcp> {
    plain_segment(bytes, transport, length).filter(|tcp| tcp.flags.is_legal() && !tcp.flags.contains(TcpFlags::SYN))
}

/// As [`plain_tcp`], for the first segment of a session: SYN and its window scale included, if its flags mean something.
#[inline]
#[must_use]
pub fn plain_opening(bytes: &[u8], transport: usize, length: u16) -> Option<Tcp> {
    let (header, rest) = TcpHeader::ref_from_prefix(bytes.get(transport..)?).ok()?;
    let tcp = read_tcp(header, transport, length).filter(|tcp| tcp.flags.is_legal())?;
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

/// Bytes from which on a packet is long for its sum.
const SHORT: usize = 72;

#[inline(never)]
fn long_sum_is_right(pseudo: u64, covered: &[u8]) -> bool {
    checksum::is_all_ones(checksum::load_whole(pseudo, covered))
}

#[cfg(test)]
mod tests;
