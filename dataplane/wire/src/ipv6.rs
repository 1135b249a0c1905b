//! The IPv6 header (RFC 8200): a view, the check of its lengths, and the reading of a packet behind it. Extension headers
//! are walked in `ipv6_ext`.

use core::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::dissect::Verify;
use crate::packet::{LinkLayer, Network, Packet};
use crate::{Extensions, Fragment, Frame, Malformed, checksum, icmpv6, ipv6_ext, martian, tcp, transport, udp};

/// IPv6 header as it lies on the wire. Shape: 40 bytes, no alignment. `payload_length` counts extension headers and
/// payload, not this header.
///
/// ```text
///  0                                   4                6        7        8
/// +----+--------+----------------------+----------------+--------+--------+
/// | 6  | class  |      flow label      | payload length |  next  |hop lim.|
/// +----+--------+----------------------+----------------+--------+--------+
/// |                source (16)                destination (16)            |
/// +-----------------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    version_class_flow: U32,
    payload_length: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

const _: () = assert!(size_of::<Ipv6Header>() == Ipv6Header::LEN);

impl Ipv6Header {
    /// Bytes of the header.
    pub const LEN: usize = 40;

    /// A header of traffic class and flow label 0.
    #[must_use]
    pub const fn new(
        payload_length: u16,
        next_header: u8,
        hop_limit: u8,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Self {
        Self {
            version_class_flow: U32::new(6 << 28),
            payload_length: U16::new(payload_length),
            next_header,
            hop_limit,
            source: source.octets(),
            destination: destination.octets(),
        }
    }

    /// The header, and its payload (extension headers included) without what pads the frame.
    ///
    /// # Errors
    /// `Ipv6Truncated` below 40 bytes; `Ipv6Version`; `Ipv6PayloadLength` when the payload length is beyond the bytes, or
    /// 0 in front of hop-by-hop options, which announces a jumbogram (RFC 2675): no frame here can hold one.
    #[inline]
    pub fn split(bytes: &[u8]) -> Result<(&Self, &[u8]), Malformed> {
        let (header, rest) = Self::ref_from_prefix(bytes).map_err(|_| Malformed::Ipv6Truncated)?;
        if header.version() != 6 {
            return Err(Malformed::Ipv6Version);
        }
        let len = usize::from(header.payload_length.get());
        if len == 0 && header.next_header == ipv6_ext::HOP_BY_HOP {
            return Err(Malformed::Ipv6PayloadLength);
        }
        let payload = rest.get(..len).ok_or(Malformed::Ipv6PayloadLength)?;
        Ok((header, payload))
    }

    /// The version field.
    #[must_use]
    pub const fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// Bytes behind this header.
    #[must_use]
    pub const fn payload_length(&self) -> u16 {
        self.payload_length.get()
    }

    /// Bytes of header and payload, as far as 16 bits reach.
    #[must_use]
    pub const fn length(&self) -> u16 {
        self.payload_length.get().saturating_add(40)
    }

    /// What follows: an extension header or the transport protocol.
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.next_header
    }

    /// The hop limit.
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// The source address.
    #[must_use]
    pub const fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.source))
    }

    /// The destination address.
    #[must_use]
    pub const fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.destination))
    }

    /// The sum of both addresses, as [`checksum::load`] returns it.
    #[inline]
    pub(crate) fn load_addresses(&self) -> u64 {
        checksum::load_array(&self.source) + checksum::load_array(&self.destination)
    }

    /// Exchanges source and destination; every checksum over both stays right.
    pub const fn swap_addresses(&mut self) {
        core::mem::swap(&mut self.source, &mut self.destination);
    }

    /// Writes the hop limit, which no checksum covers.
    pub const fn set_hop_limit(&mut self, hop_limit: u8) {
        self.hop_limit = hop_limit;
    }
}

/// Reads the IPv6 packet at the start of `bytes`, which follow `link`.
///
/// # Errors
/// What [`Ipv6Header::split`], the extension headers, the fragment rules, the addresses and the transport's reader find,
/// in that order.
#[inline]
pub(crate) fn read(link: LinkLayer<'_>, bytes: &[u8], verify: Verify) -> Result<Frame, Malformed> {
    let (header, payload) = Ipv6Header::split(bytes)?;
    let (protocol, skipped, fragment, extensions) = match header.next_header {
        protocol @ (tcp::PROTOCOL | udp::PROTOCOL | icmpv6::PROTOCOL) => {
            (protocol, 0, Fragment::No, Extensions::default())
        }
        first => {
            let chain = ipv6_ext::walk(first, payload)?;
            (chain.read_as(), chain.len, chain.judge_fragment(payload)?, chain.extensions)
        }
    };
    martian::check_v6(header.source(), header.destination(), protocol == icmpv6::PROTOCOL)?;
    let segment = payload.get(skipped..).ok_or(Malformed::Ipv6ExtensionTruncated)?;
    let segment_at = usize::from(link.tags.payload) + Ipv6Header::LEN + skipped;
    let network = Network::V6(header);
    transport::read(&Packet { link, network, protocol, fragment, extensions, segment, segment_at, verify })
}

#[cfg(test)]
mod tests;
