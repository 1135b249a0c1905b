//! The IPv4 header (RFC 791): a view, the check of its lengths, checksum and options, and the rules for fragments. What
//! follows the header is read by the file of its protocol.

use core::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::dissect::Verify;
use crate::packet::{LinkLayer, Network, Packet};
use crate::{Extensions, Fragment, Frame, Malformed, checksum, martian, transport, udp};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// IPv4 header without options as it lies on the wire. Shape: 20 bytes, no alignment. `total_length` counts header,
/// options and payload.
///
/// ```text
///  0        1        2                 4                 6
/// +----+----+--------+-----------------+-----------------+---+--------------+
/// | 4  |IHL | DSCP/E |  total length   | identification  |flg|fragment offs.|
/// +----+----+--------+-----------------+-----------------+---+--------------+
/// |   TTL   |protocol| header checksum |     source (4)  | destination (4)  |
/// +---------+--------+-----------------+-----------------+------------------+
///  8        9        10                12                16                 20
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    version_ihl: u8,
    traffic_class: u8,
    total_length: U16,
    identification: U16,
    flags_offset: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    source: [u8; 4],
    destination: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4Header>() == Ipv4Header::LEN);

impl Ipv4Header {
    /// Bytes of the header without options.
    pub const LEN: usize = 20;

    /// A header without options, not to be fragmented, identification 0 (RFC 6864 section 4.1), with its checksum.
    /// `total_length` counts the header.
    #[must_use]
    pub fn new(
        traffic_class: u8,
        total_length: u16,
        ttl: u8,
        protocol: u8,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> Self {
        let mut header = Self {
            version_ihl: 0x45,
            traffic_class,
            total_length: U16::new(total_length),
            identification: U16::ZERO,
            flags_offset: U16::new(DONT_FRAGMENT),
            ttl,
            protocol,
            checksum: U16::ZERO,
            source: source.octets(),
            destination: destination.octets(),
        };
        header.checksum = U16::new(checksum::plain(header.as_bytes()));
        header
    }

    /// The header, and the whole packet (header, options, payload) without what pads the frame.
    ///
    /// # Errors
    /// `Ipv4Truncated` below 20 bytes; `Ipv4Version`; `Ipv4HeaderLength` when the IHL is below 5 or its bytes are not
    /// there; `Ipv4TotalLength` when the total length is below the header's or beyond the bytes.
    #[inline]
    pub fn split(bytes: &[u8]) -> Result<(&Self, &[u8]), Malformed> {
        let (header, _) = Self::ref_from_prefix(bytes).map_err(|_| Malformed::Ipv4Truncated)?;
        if header.version_ihl >> 4 != 4 {
            return Err(Malformed::Ipv4Version);
        }
        let header_len = header.header_len();
        if header_len < Self::LEN || header_len > bytes.len() {
            return Err(Malformed::Ipv4HeaderLength);
        }
        let total = usize::from(header.total_length.get());
        match bytes.get(..total) {
            Some(packet) if total >= header_len => Ok((header, packet)),
            _ => Err(Malformed::Ipv4TotalLength),
        }
    }

    /// Bytes of header and options, as the IHL says.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.version_ihl & 0x0f) as usize * 4
    }

    /// The version field.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Bytes of header, options and payload.
    #[must_use]
    pub const fn total_length(&self) -> u16 {
        self.total_length.get()
    }

    /// Whether routers may not fragment this.
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// Whether further fragments follow this one.
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.flags_offset.get() & MORE_FRAGMENTS != 0
    }

    /// What all fragments of a datagram share.
    #[must_use]
    pub const fn identification(&self) -> u16 {
        self.identification.get()
    }

    /// Writes the identification and updates the header checksum.
    pub fn set_identification(&mut self, identification: u16) {
        let delta = checksum::delta(&[self.identification.get()], &[identification]);
        self.identification = U16::new(identification);
        self.checksum = U16::new(checksum::update(self.checksum.get(), delta));
    }

    /// Where in the datagram's payload this fragment's lies, in units of 8 bytes.
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        self.flags_offset.get() & FRAGMENT_OFFSET
    }

    /// Time to live.
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.ttl
    }

    /// The transport protocol.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The header checksum.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The source address.
    #[must_use]
    pub const fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::from_be_bytes(self.source))
    }

    /// The destination address.
    #[must_use]
    pub const fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::from_be_bytes(self.destination))
    }

    /// The folded sum of header and options: all ones when the checksum is right.
    #[inline]
    fn sum(&self, options: &[u8]) -> u16 {
        let fixed: &[u8; Self::LEN] = zerocopy::transmute_ref!(self);
        let total = checksum::load_array(fixed);
        checksum::fold_loaded(if options.is_empty() { total } else { total + checksum::load(options) })
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

    /// Writes the time to live and updates the header checksum.
    pub fn set_ttl(&mut self, ttl: u8) {
        let [old, new] = [self.ttl, ttl].map(|ttl| u16::from_be_bytes([ttl, self.protocol]));
        self.ttl = ttl;
        self.checksum = U16::new(checksum::update(self.checksum.get(), checksum::delta(&[old], &[new])));
    }
}

/// Reads the IPv4 packet at the start of `bytes`, which follow `link`.
///
/// # Errors
/// What [`Ipv4Header::split`], the options, the addresses, the fragment rules and the transport's reader find, in that
/// order; `Ipv4Checksum` before the options when it is to be verified.
#[inline]
pub(crate) fn read(link: LinkLayer<'_>, bytes: &[u8], verify: Verify) -> Result<Frame, Malformed> {
    let (header, packet) = Ipv4Header::split(bytes)?;
    let header_len = header.header_len();
    let (headers, segment) = packet.split_at_checked(header_len).ok_or(Malformed::Ipv4HeaderLength)?;
    let options = headers.get(Ipv4Header::LEN..).unwrap_or_default();
    if verify != Verify::Nothing && header.sum(options) != 0xffff {
        return Err(Malformed::Ipv4Checksum);
    }
    if !options.is_empty() {
        check_options(options)?;
    }
    let (source, destination) = (header.source(), header.destination());
    match martian::check_v4(source, destination) {
        Err(Malformed::SourceUnspecified) if asks_for_an_address(header, segment) => {
            martian::odd_destination_v4(destination)?;
        }
        verdict => verdict?,
    }
    let fragment = if header.flags_offset.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) == 0 {
        Fragment::No
    } else {
        judge_fragment(header, segment)?
    };
    let segment_at = usize::from(link.tags.payload) + header_len;
    let network = Network::V4(header);
    let (protocol, extensions) = (header.protocol, Extensions::default());
    transport::read(&Packet { link, network, protocol, fragment, extensions, segment, segment_at, verify })
}

/// A DHCP client that has no address yet: the one sender at 0.0.0.0 (RFC 2131 section 4.1).
fn asks_for_an_address(header: &Ipv4Header, segment: &[u8]) -> bool {
    let whole = header.flags_offset.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) == 0;
    whole && header.protocol == udp::PROTOCOL && segment.starts_with(&[0, 68, 0, 67])
}

/// Walks the options, at most 40 bytes. Their meaning is left to whom they concern, but for source routes.
#[cold]
fn check_options(mut options: &[u8]) -> Result<(), Malformed> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        options = match *kind {
            END => return Ok(()),
            NO_OPERATION => rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Malformed::Ipv4SourceRoute),
            _ => {
                let len = usize::from(*rest.first().ok_or(Malformed::Ipv4Options)?);
                if len < 2 {
                    return Err(Malformed::Ipv4Options);
                }
                options.get(len..).ok_or(Malformed::Ipv4Options)?
            }
        };
    }
    Ok(())
}

/// Which fragment this is, or why it is none that a whole datagram is cut into.
#[cold]
fn judge_fragment(header: &Ipv4Header, segment: &[u8]) -> Result<Fragment, Malformed> {
    let (units, more) = (usize::from(header.fragment_offset()), header.more_fragments());
    // The datagram put together has a total length of its own (EVA-04).
    if units * 8 + usize::from(header.total_length.get()) > usize::from(u16::MAX) {
        return Err(Malformed::FragmentLength);
    }
    transport::judge_fragment(header.protocol, segment, units, more)?;
    if units > 0 {
        Ok(Fragment::Later)
    } else if transport::holds_header(header.protocol, segment) {
        Ok(Fragment::First)
    } else {
        Err(Malformed::FragmentTiny)
    }
}

#[cfg(test)]
mod tests;
