//! One frame's bytes to facts. Called by a worker for each packet received, before any table is looked at; total for all
//! bytes, bounded by [`limits`](units::limits), without allocation. Only what bytes alone can tell is judged here.

use zerocopy::FromBytes;

use crate::{Content, Endpoints, Frame, Malformed, arp, ethernet, ipv4, ipv6};

/// Which checksums to verify. ICMP's is verified in every case, and in none that of a fragment, which has only a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// All of them: the device did not look.
    All,
    /// Neither the IPv4 header's nor TCP's or UDP's: the device found them good.
    Nothing,
    /// As `All`, but a TCP or UDP checksum field that holds the folded, uncomplemented sum of the pseudo header is
    /// accepted and reported as [`Facts::partial_checksum`](crate::Facts::partial_checksum): that is what a sender on
    /// the same kernel leaves to a device that was never there.
    Partial,
}

/// Reads a frame, from the first byte of the Ethernet header, without frame check sequence. Of a frame above 65,535 bytes
/// only those are read, so every offset fits 16 bits.
///
/// Layers are judged from the outside in, and the first fault is the one reported. Bytes behind the IP packet's own
/// length are padding and change nothing (MAL-03). Every IP protocol passes (MAL-04): TCP, UDP, and the family's ICMP are
/// read, all others are [`Transport::Other`](crate::Transport::Other), also a family's ICMP inside the other family.
///
/// # Errors
/// Why the bytes are not a packet the appliance treats.
pub fn dissect(bytes: &[u8], verify: Verify) -> Result<Frame, Malformed> {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    let (link, payload) = ethernet::read(bytes)?;
    // Each reader returns the whole frame's facts, so that they are written where the caller wants them and nowhere else.
    match link.tags.ethertype {
        ethernet::IPV4 => ipv4::read(link, payload, verify),
        ethernet::IPV6 => ipv6::read(link, payload, verify),
        ethernet::ARP => Ok(Frame { link: link.finish(), content: Content::Arp(arp::read(payload)?) }),
        _ => Ok(Frame { link: link.finish(), content: Content::Other }),
    }
}

/// The addresses that a frame claims which [`dissect`] has refused, as far as there is an IP header to claim them. Nothing of it is
/// judged: they are for counting who sends such frames.
#[must_use]
pub fn claimed(bytes: &[u8]) -> Option<Endpoints> {
    let (link, payload) = ethernet::read(bytes).ok()?;
    match link.tags.ethertype {
        ethernet::IPV4 => {
            let (header, _) = ipv4::Ipv4Header::ref_from_prefix(payload).ok().filter(|(it, _)| it.version() == 4)?;
            Some(Endpoints::V4 { source: header.source(), destination: header.destination() })
        }
        ethernet::IPV6 => {
            let (header, _) = ipv6::Ipv6Header::ref_from_prefix(payload).ok().filter(|(it, _)| it.version() == 6)?;
            Some(Endpoints::V6 { source: header.source(), destination: header.destination() })
        }
        _ => None,
    }
}

/// A position or length inside a frame as 16 bits, which it fits because [`dissect`] reads no further.
#[expect(clippy::cast_possible_truncation, reason = "`dissect` reads at most 65,535 bytes of a frame")]
pub(crate) const fn offset(bytes: usize) -> u16 {
    debug_assert!(bytes <= u16::MAX as usize);
    bytes as u16
}

#[cfg(test)]
mod tests;
