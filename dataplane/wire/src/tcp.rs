//! The TCP header (RFC 9293 section 3.1): a view, its reading, and a bounded walk of its options. What the flags mean to a
//! session is decided in `session`.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::dissect::offset;
use crate::packet::{Packet, Sum};
use crate::{Frame, Malformed, SeqNumber, Tcp, TcpFlags, Transport};

/// IANA's number of TCP.
pub const PROTOCOL: u8 = 6;

/// The largest window scale that means anything (RFC 7323 section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;

/// TCP header without options as it lies on the wire. Shape: 20 bytes, no alignment.
///
/// ```text
///  0                 2                 4                                   8
/// +-----------------+-----------------+-----------------------------------+
/// |   source port   |destination port |          sequence number          |
/// +-----------------+-----------------+----+----+--------+----------------+
/// |       acknowledgment number       |doff|rsvd| flags  |     window     |
/// +-----------------+-----------------+----+----+--------+----------------+
/// |     checksum    |      urgent     | options up to 4 x data offset
/// +-----------------+-----------------+----
///  16                18                20
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    source_port: U16,
    destination_port: U16,
    sequence: U32,
    acknowledgment: U32,
    data_offset: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
}

const _: () = assert!(size_of::<TcpHeader>() == TcpHeader::LEN);

impl TcpHeader {
    /// Bytes of the header without options.
    pub const LEN: usize = 20;

    /// A header without options, window, urgent pointer and checksum.
    #[must_use]
    pub const fn new(
        source_port: u16,
        destination_port: u16,
        sequence: SeqNumber,
        acknowledgment: SeqNumber,
        flags: TcpFlags,
    ) -> Self {
        Self {
            source_port: U16::new(source_port),
            destination_port: U16::new(destination_port),
            sequence: U32::new(sequence.get()),
            acknowledgment: U32::new(acknowledgment.get()),
            data_offset: 0x50,
            flags: flags.bits(),
            window: U16::ZERO,
            checksum: U16::ZERO,
            urgent: U16::ZERO,
        }
    }

    /// The header, its options, and the payload.
    ///
    /// # Errors
    /// `TcpTruncated` below 20 bytes; `TcpDataOffset` when the data offset is below 5 or beyond the segment (MAL-07).
    #[inline]
    pub fn split(segment: &[u8]) -> Result<(&Self, &[u8], &[u8]), Malformed> {
        let (header, rest) = Self::ref_from_prefix(segment).map_err(|_| Malformed::TcpTruncated)?;
        let options_len = header.header_len().checked_sub(Self::LEN).ok_or(Malformed::TcpDataOffset)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Malformed::TcpDataOffset)?;
        Ok((header, options, payload))
    }

    /// Bytes of header and options, as the data offset says.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.data_offset >> 4) as usize * 4
    }

    /// The source port.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.source_port.get()
    }

    /// The destination port.
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        self.destination_port.get()
    }

    /// The sequence number of the first byte, or of SYN.
    #[must_use]
    pub const fn sequence(&self) -> SeqNumber {
        SeqNumber::new(self.sequence.get())
    }

    /// The next sequence number expected of the other end, with ACK.
    #[must_use]
    pub const fn acknowledgment(&self) -> SeqNumber {
        SeqNumber::new(self.acknowledgment.get())
    }

    /// The control bits.
    #[must_use]
    pub const fn flags(&self) -> TcpFlags {
        TcpFlags::new(self.flags)
    }

    /// The window, not scaled.
    #[must_use]
    pub const fn window(&self) -> u16 {
        self.window.get()
    }

    /// The checksum.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Writes the window, not scaled.
    pub const fn set_window(&mut self, window: u16) {
        self.window = U16::new(window);
    }

    /// Writes how many bytes of options follow; `None`, and nothing written, when they are not whole words or too many.
    pub fn set_options_len(&mut self, bytes: usize) -> Option<()> {
        let words =
            u8::try_from((Self::LEN + bytes) / 4).ok().filter(|&words| bytes.is_multiple_of(4) && words <= 15)?;
        self.data_offset = words << 4;
        Some(())
    }

    /// Writes the checksum.
    pub const fn set_checksum(&mut self, checksum: u16) {
        self.checksum = U16::new(checksum);
    }
}

/// Reads the segment of `packet`.
///
/// # Errors
/// What [`TcpHeader::split`] finds; `TcpPortZero`; `TcpFlags` (see [`TcpFlags::is_legal`]); `TcpOptions`; `TcpChecksum`.
#[inline]
pub(crate) fn read(packet: &Packet<'_>) -> Result<Frame, Malformed> {
    let (header, options, payload) = TcpHeader::split(packet.segment)?;
    let (source_port, destination_port) = (header.source_port(), header.destination_port());
    if source_port == 0 || destination_port == 0 {
        return Err(Malformed::TcpPortZero);
    }
    let flags = header.flags();
    if !flags.is_legal() {
        return Err(Malformed::TcpFlags);
    }
    let window_scale = match options {
        [] | [1, 1, 8, 10, _, _, _, _, _, _, _, _] => None,
        _ => walk_options(options)?.filter(|_| flags.contains(TcpFlags::SYN)),
    };
    let sum = packet.verify_sum(header.checksum());
    if sum == Sum::Wrong {
        return Err(Malformed::TcpChecksum);
    }
    let tcp = Tcp {
        source_port,
        destination_port,
        sequence: header.sequence(),
        acknowledgment: header.acknowledgment(),
        window: header.window(),
        flags,
        payload: offset(payload.len()),
        window_scale,
    };
    Ok(packet.finish(Transport::Tcp(tcp), sum == Sum::Partial))
}

/// The window scale among well-formed options.
#[inline]
pub(crate) fn window_scale(options: &[u8]) -> Option<u8> {
    if options.is_empty() { None } else { walk_options(options).ok().flatten() }
}

/// Whether the options of a segment are well-formed.
#[inline]
pub(crate) fn are_legal(options: &[u8]) -> bool {
    matches!(options, [] | [1, 1, 8, 10, _, _, _, _, _, _, _, _]) || walk_options(options).is_ok()
}

/// Walks the options, at most 40 bytes and so 40 steps (MAL-08), and returns the window scale, at most 14. Of a repeated
/// option the last counts, as Linux and the BSDs read it.
///
/// # Errors
/// `TcpOptions` when a length is below 2, beyond the header, or not the option's own for those whose length is fixed.
fn walk_options(mut options: &[u8]) -> Result<Option<u8>, Malformed> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    const WINDOW_SCALE: u8 = 3;
    const SACK_PERMITTED: u8 = 4;
    const SACK: u8 = 5;
    const TIMESTAMPS: u8 = 8;
    let mut window_scale = None;
    while let [kind, rest @ ..] = options {
        if *kind == END {
            break;
        }
        if *kind == NO_OPERATION {
            options = rest;
            continue;
        }
        let len = usize::from(*rest.first().ok_or(Malformed::TcpOptions)?);
        let right = match *kind {
            SEGMENT_SIZE => len == 4,
            WINDOW_SCALE => len == 3,
            SACK_PERMITTED => len == 2,
            SACK => len >= 10 && len % 8 == 2,
            TIMESTAMPS => len == 10,
            _ => len >= 2,
        };
        let (option, behind) = options.split_at_checked(len).filter(|_| right).ok_or(Malformed::TcpOptions)?;
        if let [WINDOW_SCALE, _, scale] = *option {
            window_scale = Some(scale.min(WINDOW_SCALE_MAX));
        }
        options = behind;
    }
    Ok(window_scale)
}

#[cfg(test)]
mod tests;
