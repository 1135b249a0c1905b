//! Fragments of either family: where the piece of one lies in its datagram, the identification that ties the pieces of one
//! datagram together, and what a datagram says once all its pieces are there (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! Called by workers with frames that [`dissect`](crate::dissect) has read. Pure functions of bytes; who collects pieces,
//! for how long and which of them are refused is `stage::reassembly`'s.

use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::{Facts, Fragment, Malformed, Transport, checksum, ipv6_ext};
use zerocopy::FromBytes;

mod cut;
mod example;

pub use cut::Cut;
pub use example::Example;

/// Bytes of IPv6's fragment header.
const FRAGMENT_HEADER: usize = 8;

/// The piece of a datagram that one fragment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What all fragments of a datagram share; 16 bits in IPv4.
    pub identification: u32,
    /// Where the piece lies in what was cut, bytes; a multiple of 8.
    pub offset: u16,
    /// Bytes of the piece, at least one.
    pub len: u16,
    /// Whether others follow.
    pub more: bool,
    /// Where the piece begins in the frame.
    pub begin: u16,
}

impl Piece {
    /// Where the piece ends in what was cut. A 32-bit sum of two 16-bit numbers.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.offset as u32 + self.len as u32
    }
}

/// Reads the piece of a fragment whose facts these are; `None` when the packet is whole, or the frame not as its facts say.
#[must_use]
pub fn piece(frame: &[u8], facts: &Facts) -> Option<Piece> {
    if facts.fragment == Fragment::No {
        return None;
    }
    let network = usize::from(facts.network);
    let packet = frame.get(network..usize::from(facts.end))?;
    let (identification, units, more, begin) = if facts.endpoints.is_v6() {
        let (header, payload) = Ipv6Header::ref_from_prefix(packet).ok()?;
        let cut = ipv6_ext::walk(header.next_header(), payload).ok()?.cut?;
        let [a, b, c, d] = payload.get(cut.start.checked_sub(4)?..)?.first_chunk()?;
        (u32::from_be_bytes([*a, *b, *c, *d]), cut.units, cut.more, Ipv6Header::LEN + cut.start)
    } else {
        let (header, _) = Ipv4Header::ref_from_prefix(packet).ok()?;
        let units = usize::from(header.fragment_offset());
        (u32::from(header.identification()), units, header.more_fragments(), header.header_len())
    };
    Some(Piece {
        identification,
        offset: u16::try_from(units * 8).ok()?,
        len: u16::try_from(packet.len().checked_sub(begin)?).ok()?,
        more,
        begin: u16::try_from(network + begin).ok()?,
    })
}

/// Gives a packet another identification: a fragment of either family, or a whole IPv4 packet (its header checksum along
/// with it, RFC 1624). False, and nothing changed, when there is no such field.
pub fn set_identification(frame: &mut [u8], facts: &Facts, identification: u32) -> bool {
    let network = usize::from(facts.network);
    if facts.endpoints.is_v6() {
        let Some(place) = piece(frame, facts).and_then(|piece| usize::from(piece.begin).checked_sub(4)) else {
            return false;
        };
        let Some(field) = frame.get_mut(place..).and_then(<[u8]>::first_chunk_mut::<4>) else { return false };
        *field = identification.to_be_bytes();
        return true;
    }
    let Some(Ok((header, _))) = frame.get_mut(network..).map(Ipv4Header::mut_from_prefix) else { return false };
    let [.., high, low] = identification.to_be_bytes();
    header.set_identification(u16::from_be_bytes([high, low]));
    true
}

/// What a datagram says once it is whole: the facts of its first fragment, whose frame is `head`, as those of a packet with
/// all of the `total` bytes that were cut. They keep pointing into the first fragment's frame; `others` are the other pieces
/// in order, so that the checksum over all of them can be verified, which no device does.
///
/// # Errors
/// `FragmentLength` when header and pieces together are longer than a packet can be (EVA-04); `UdpLength`; the transport's
/// checksum when `verify` is set and it is wrong.
pub fn whole<'a>(
    head: &[u8],
    facts: &Facts,
    total: u32,
    others: impl Iterator<Item = &'a [u8]>,
    verify: bool,
) -> Result<Facts, Malformed> {
    let piece = piece(head, facts).ok_or(Malformed::FragmentLength)?;
    let behind_network = usize::from(piece.begin) - usize::from(facts.network);
    // Of IPv6, the length counts what follows the fixed header, and the fragment header is no part of the datagram.
    let headers =
        if facts.endpoints.is_v6() { behind_network - Ipv6Header::LEN - FRAGMENT_HEADER } else { behind_network };
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let skipped = usize::from(facts.transport_offset) - usize::from(piece.begin);
    let (Ok(_), Some(len)) = (u16::try_from(headers.saturating_add(total)), total.checked_sub(skipped)) else {
        return Err(Malformed::FragmentLength);
    };
    let len = u16::try_from(len).map_err(|_| Malformed::FragmentLength)?;
    let segment =
        head.get(usize::from(facts.transport_offset)..usize::from(facts.end)).ok_or(Malformed::FragmentLength)?;
    let mut whole = Facts { fragment: Fragment::No, ..*facts };
    let pseudo = checksum::pseudo(&facts.endpoints, facts.protocol, len);
    let (start, wrong) = match &mut whole.transport {
        Transport::Tcp(tcp) => {
            let header = u16::try_from(segment.len()).unwrap_or(u16::MAX).saturating_sub(tcp.payload);
            tcp.payload = len.saturating_sub(header);
            (pseudo, Malformed::TcpChecksum)
        }
        Transport::Udp { no_checksum, .. } => {
            let promised = segment.get(4..6).and_then(<[u8]>::first_chunk::<2>).map(|field| u16::from_be_bytes(*field));
            if promised != Some(len) {
                return Err(Malformed::UdpLength);
            }
            if *no_checksum {
                return Ok(whole);
            }
            (pseudo, Malformed::UdpChecksum)
        }
        Transport::Echo { .. } | Transport::Icmp { .. } | Transport::IcmpError { .. } => {
            (if facts.endpoints.is_v6() { pseudo } else { 0 }, Malformed::IcmpChecksum)
        }
        Transport::Other | Transport::Unknown => return Ok(whole),
    };
    // All pieces but the last are of even length, so their sums add up.
    let sum = others.fold(start + checksum::sum(segment), |sum, piece| sum.saturating_add(checksum::sum(piece)));
    if verify && checksum::fold(sum) != 0xffff { Err(wrong) } else { Ok(whole) }
}

#[cfg(test)]
mod tests;
