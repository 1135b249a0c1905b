//! The UDP header (RFC 768): a view and its reading.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::packet::{Packet, Sum};
use crate::{Frame, Malformed, Transport};

/// IANA's number of UDP.
pub const PROTOCOL: u8 = 17;

/// UDP header as it lies on the wire. Shape: 8 bytes, no alignment. `length` counts header and payload.
///
/// ```text
///  0                 2                 4                 6                 8
/// +-----------------+-----------------+-----------------+-----------------+----
/// |   source port   |destination port |     length      |    checksum     | payload
/// +-----------------+-----------------+-----------------+-----------------+----
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    source_port: U16,
    destination_port: U16,
    length: U16,
    checksum: U16,
}

const _: () = assert!(size_of::<UdpHeader>() == UdpHeader::LEN);

impl UdpHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// The header, and what follows it; `length` is not looked at.
    ///
    /// # Errors
    /// `UdpTruncated` below 8 bytes.
    #[inline]
    pub fn split(segment: &[u8]) -> Result<(&Self, &[u8]), Malformed> {
        Self::ref_from_prefix(segment).map_err(|_| Malformed::UdpTruncated)
    }

    /// The source port; 0 when no answer is wanted.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.source_port.get()
    }

    /// The destination port.
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        self.destination_port.get()
    }

    /// Bytes of header and payload.
    #[must_use]
    pub const fn length(&self) -> u16 {
        self.length.get()
    }

    /// The checksum; 0 when there is none.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.checksum.get()
    }
}

/// Reads the datagram of `packet`.
///
/// The length has to be exactly what the IP packet carries (MAL-10). So 0 is refused in IPv6 as well: there it announces
/// a jumbogram (RFC 2675 section 4), and no frame here can hold one. A first fragment may carry less than its datagram.
///
/// # Errors
/// `UdpTruncated` below 8 bytes; `UdpLength`; `UdpPortZero` for destination port 0; `UdpChecksum` when it is wrong, or
/// missing in IPv6 (RFC 8200 section 8.1).
#[inline]
pub(crate) fn read(packet: &Packet<'_>) -> Result<Frame, Malformed> {
    let (header, _) = UdpHeader::split(packet.segment)?;
    let (promised, present) = (usize::from(header.length()), packet.segment.len());
    if promised < UdpHeader::LEN || if packet.is_whole() { promised != present } else { promised <= present } {
        return Err(Malformed::UdpLength);
    }
    let (source_port, destination_port) = (header.source_port(), header.destination_port());
    if destination_port == 0 {
        return Err(Malformed::UdpPortZero);
    }
    let no_checksum = header.checksum() == 0;
    let sum = match (no_checksum, packet.is_v6()) {
        (true, true) => Sum::Wrong,
        (true, false) => Sum::Right,
        (false, _) => packet.verify_sum(header.checksum()),
    };
    if sum == Sum::Wrong {
        return Err(Malformed::UdpChecksum);
    }
    Ok(packet.finish(Transport::Udp { source_port, destination_port, no_checksum }, sum == Sum::Partial))
}

#[cfg(test)]
mod tests;
