//! ICMP (RFC 792): the header as a view, `ICMPv6`'s shape as well, and the reading of a message. The packet an error
//! quotes is read in `quote`.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::packet::Packet;
use crate::{Frame, Malformed, Transport, checksum, quote};

/// IANA's number of ICMP.
pub const PROTOCOL: u8 = 1;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Source quench (deprecated, RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// The code of an unreachable that means: too large for a link, and not to be fragmented.
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Redirect.
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// The eight bytes every message of ICMP and `ICMPv6` begins with. Shape: 8 bytes, no alignment. What `rest` means is the
/// type's matter: identifier and sequence, an MTU, a pointer, nothing.
///
/// ```text
///  0        1        2                 4                                   8
/// +--------+--------+-----------------+-----------------------------------+----
/// |  type  |  code  |    checksum     |               rest                | message
/// +--------+--------+-----------------+-----------------------------------+----
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: U16,
    rest: U32,
}

const _: () = assert!(size_of::<IcmpHeader>() == IcmpHeader::LEN);

impl IcmpHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// A header without checksum.
    #[must_use]
    pub const fn new(kind: u8, code: u8, rest: u32) -> Self {
        Self { kind, code, checksum: U16::ZERO, rest: U32::new(rest) }
    }

    /// The header, and the message behind it.
    ///
    /// # Errors
    /// `IcmpTruncated` below 8 bytes; no message of either protocol is shorter.
    #[inline]
    pub fn split(message: &[u8]) -> Result<(&Self, &[u8]), Malformed> {
        Self::ref_from_prefix(message).map_err(|_| Malformed::IcmpTruncated)
    }

    /// The type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }

    /// The checksum.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The four bytes whose meaning depends on the type.
    #[must_use]
    pub const fn rest(&self) -> u32 {
        self.rest.get()
    }

    /// The identifier of an echo message.
    #[must_use]
    pub const fn identifier(&self) -> u16 {
        (self.rest.get() >> 16) as u16
    }

    /// Writes the type and updates the checksum. What comes out as 0 is written as 0xffff, which verifies wherever 0 does,
    /// and also over a message that is otherwise all zeroes, as a reply may be.
    pub fn set_kind(&mut self, kind: u8) {
        let [old, new] = [self.kind, kind].map(|kind| u16::from_be_bytes([kind, self.code]));
        self.kind = kind;
        let checksum = checksum::update(self.checksum.get(), checksum::delta(&[old], &[new]));
        self.checksum = U16::new(checksum::or_ones(checksum));
    }

    /// Writes the checksum.
    pub const fn set_checksum(&mut self, checksum: u16) {
        self.checksum = U16::new(checksum);
    }
}

/// Whether this type quotes a packet that met an error. Redirect quotes one too, but reports no error.
pub(crate) const fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// Reads the message of `packet`. Its checksum is always verified: devices do not look at ICMP's.
///
/// # Errors
/// `IcmpTruncated`, `IcmpChecksum`, `IcmpQuote`.
pub(crate) fn read(packet: &Packet<'_>) -> Result<Frame, Malformed> {
    let (header, rest) = IcmpHeader::split(packet.segment)?;
    if packet.is_whole() && checksum::plain(packet.segment) != 0 {
        return Err(Malformed::IcmpChecksum);
    }
    let (kind, code) = (header.kind, header.code);
    let transport = match kind {
        ECHO_REQUEST | ECHO_REPLY => Transport::Echo { request: kind == ECHO_REQUEST, identifier: header.identifier() },
        _ if is_error(kind) => {
            Transport::IcmpError { kind, code, quote: quote::read_v4(rest, packet.segment_at + IcmpHeader::LEN)? }
        }
        _ => Transport::Icmp { kind, code },
    };
    Ok(packet.finish(transport, false))
}

#[cfg(test)]
mod tests;
