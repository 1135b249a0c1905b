//! The chain of IPv6 extension headers (RFC 8200 section 4, RFC 7045): walked to the transport protocol, at most
//! [`IPV6_EXTENSIONS_MAX`] headers, eight bytes read of each. Options inside hop-by-hop and destination headers concern
//! the stations that process them and are not read here.

use units::limits::IPV6_EXTENSIONS_MAX;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Extensions, Fragment, Malformed, transport};

/// Hop-by-hop options: only directly behind the IPv6 header.
pub const HOP_BY_HOP: u8 = 0;
/// A routing header.
pub const ROUTING: u8 = 43;
/// A fragment header.
pub const FRAGMENT: u8 = 44;
/// The IPsec authentication header (RFC 4302); what it covers stays readable.
pub const AUTHENTICATION: u8 = 51;
/// Nothing follows (RFC 8200 section 4.7); read as a protocol without ports.
pub const NO_NEXT_HEADER: u8 = 59;
/// Destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// The first eight bytes, which all extension headers but the fragment header share. Shape: 8 bytes, no alignment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ExtensionHeader {
    next_header: u8,
    /// In units of 8 bytes without the first; the authentication header's in units of 4 without the first two.
    len: u8,
    /// The routing header's type; others begin their content here.
    kind: u8,
    /// The routing header's stations still to be visited.
    segments_left: u8,
    content: [u8; 4],
}

const _: () = assert!(size_of::<ExtensionHeader>() == 8);

/// The fragment header (RFC 8200 section 4.5). Shape: 8 bytes, no alignment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FragmentHeader {
    next_header: u8,
    reserved: u8,
    /// Offset in units of 8 bytes (13 bits), two reserved bits, more-fragments.
    offset_more: U16,
    identification: [u8; 4],
}

const _: () = assert!(size_of::<FragmentHeader>() == 8);

/// What the fragment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where in the fragmentable part this piece lies, in units of 8 bytes.
    pub(crate) units: usize,
    /// Further pieces follow.
    pub(crate) more: bool,
    /// Where the piece begins in the payload of the IPv6 header.
    pub(crate) start: usize,
}

/// A chain walked to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The transport protocol; in a later fragment what the fragment header names, which may be an extension header.
    pub(crate) protocol: u8,
    /// Bytes of all extension headers.
    pub(crate) len: usize,
    /// The fragment header, if there is one.
    pub(crate) cut: Option<Cut>,
    /// What routers on the way are asked.
    pub(crate) extensions: Extensions,
}

/// Walks the chain that begins with header `first` at the start of `payload`.
///
/// # Errors
/// `Ipv6ExtensionTruncated` when a header is cut off, `Ipv6HeaderChain` when that is so in a first fragment;
/// `Ipv6ExtensionOrder` for hop-by-hop options that are not first, for a second fragment header, and for a second routing
/// header with segments left (others may repeat, RFC 8200 section 4.1); `Ipv6RoutingType0`; `Ipv6ExtensionCount` beyond [`IPV6_EXTENSIONS_MAX`] (EVA-10).
#[cold]
pub(crate) fn walk(first: u8, payload: &[u8]) -> Result<Chain, Malformed> {
    let mut chain = Chain { protocol: first, len: 0, cut: None, extensions: Extensions::default() };
    for count in 0..=IPV6_EXTENSIONS_MAX {
        let kind = chain.protocol;
        if !is_extension(kind) {
            return Ok(chain);
        }
        if count == IPV6_EXTENSIONS_MAX {
            break;
        }
        let rest = payload.get(chain.len..).unwrap_or_default();
        if kind == FRAGMENT {
            chain.take_fragment(rest)?;
            if chain.cut.is_some_and(|cut| cut.units > 0) {
                return Ok(chain);
            }
        } else {
            if kind == HOP_BY_HOP && count > 0 {
                return Err(Malformed::Ipv6ExtensionOrder);
            }
            chain.take(kind, rest)?;
        }
    }
    Err(Malformed::Ipv6ExtensionCount)
}

/// Mobility, host identity and shim6 are extension headers too (RFC 7045 section 4), but end a chain in practice; they are
/// left as protocols of their own, which a firewall rule can name.
const fn is_extension(kind: u8) -> bool {
    matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

impl Chain {
    fn take(&mut self, kind: u8, rest: &[u8]) -> Result<(), Malformed> {
        let cut_off = self.cut_off();
        let (header, _) = ExtensionHeader::ref_from_prefix(rest).map_err(|_| cut_off)?;
        match kind {
            ROUTING if header.kind == 0 => return Err(Malformed::Ipv6RoutingType0),
            ROUTING if header.segments_left > 0 && self.extensions.routing.replace(header.kind).is_some() => {
                return Err(Malformed::Ipv6ExtensionOrder);
            }
            HOP_BY_HOP => self.extensions.hop_by_hop = true,
            _ => {}
        }
        let units = usize::from(header.len);
        let len = if kind == AUTHENTICATION { (units + 2) * 4 } else { (units + 1) * 8 };
        // Twelve bytes of an authentication header are fixed (RFC 4302 section 2).
        if len > rest.len() || (kind == AUTHENTICATION && len < 12) {
            return Err(cut_off);
        }
        self.protocol = header.next_header;
        self.len += len;
        Ok(())
    }

    fn take_fragment(&mut self, rest: &[u8]) -> Result<(), Malformed> {
        let cut_off = self.cut_off();
        let (header, _) = FragmentHeader::ref_from_prefix(rest).map_err(|_| cut_off)?;
        if self.cut.is_some() {
            return Err(Malformed::Ipv6ExtensionOrder);
        }
        self.protocol = header.next_header;
        self.len += size_of::<FragmentHeader>();
        let word = header.offset_more.get();
        self.cut = Some(Cut { units: usize::from(word >> 3), more: word & 1 != 0, start: self.len });
        Ok(())
    }

    fn cut_off(&self) -> Malformed {
        if self.cut.is_some_and(|cut| cut.more) {
            Malformed::Ipv6HeaderChain
        } else {
            Malformed::Ipv6ExtensionTruncated
        }
    }

    /// The protocol the packet is read as: on its way from station to station of a routing header, that header's, since
    /// neither the ports nor the checksum behind it belong to the destination it has now (RFC 8200 section 8.1).
    pub(crate) const fn read_as(&self) -> u8 {
        if self.extensions.routing.is_some() { ROUTING } else { self.protocol }
    }

    /// Which fragment the fragment header says this is; an atomic one counts as whole (RFC 6946, EVA-08).
    pub(crate) const fn fragment(&self) -> Fragment {
        match self.cut {
            Some(Cut { units: 1.., .. }) => Fragment::Later,
            Some(Cut { more: true, .. }) => Fragment::First,
            _ => Fragment::No,
        }
    }

    /// Which fragment `payload`, whose chain this is, makes the packet.
    ///
    /// # Errors
    /// `FragmentLength`, `FragmentTiny`; `Ipv6HeaderChain` when a first fragment lacks the transport header (EVA-09).
    pub(crate) fn judge_fragment(&self, payload: &[u8]) -> Result<Fragment, Malformed> {
        let fragment = self.fragment();
        let Some(Cut { units, more, start }) = self.cut.filter(|_| fragment != Fragment::No) else {
            return Ok(fragment);
        };
        let piece = payload.get(start..).unwrap_or_default();
        // The datagram put together has a payload length of its own, without the fragment header.
        if start - size_of::<FragmentHeader>() + units * 8 + piece.len() > usize::from(u16::MAX) {
            return Err(Malformed::FragmentLength);
        }
        transport::judge_fragment(self.protocol, piece, units, more)?;
        let segment = payload.get(self.len..).unwrap_or_default();
        if fragment == Fragment::First && !transport::holds_header(self.protocol, segment) {
            return Err(Malformed::Ipv6HeaderChain);
        }
        Ok(fragment)
    }
}

#[cfg(test)]
mod tests;
