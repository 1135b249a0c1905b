//! Neighbor solicitations and advertisements (RFC 4861): the message as a view, and its reading with every check that
//! section 7.1 asks of receivers. What a message does to the neighbor cache is decided in `stage::forward`.

use core::net::Ipv6Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::icmpv4::IcmpHeader;
use crate::ipv6::Ipv6Header;
use crate::{Endpoints, Facts, Fragment, MacAddr, Transport, icmpv6, ipv6_ext, solicited_node};

/// The hop limit no router lets through: a message with it comes from this link (RFC 4861 section 7.1).
pub const HOP_LIMIT: u8 = 255;

/// The sender of an advertisement is a router.
pub(crate) const ROUTER: u32 = 1 << 31;
/// The advertisement answers a solicitation.
pub(crate) const SOLICITED: u32 = 1 << 30;
/// The advertisement replaces a link-layer address already known.
pub(crate) const OVERRIDE: u32 = 1 << 29;

const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

/// A neighbor discovery message, as far as the appliance takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbor {
    /// Who has `target`?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The asker's link-layer address; absent in duplicate address detection, and optional when asked directly.
        source_link: Option<MacAddr>,
    },
    /// `target` is at `link`.
    Advertisement {
        /// The address spoken of.
        target: Ipv6Addr,
        /// Its link-layer address; may be left out of the answer to a question asked directly.
        link: Option<MacAddr>,
        /// The sender is a router.
        router: bool,
        /// This answers a solicitation.
        solicited: bool,
        /// A link-layer address already known is to be replaced (the override flag).
        replaces: bool,
    },
}

/// The fixed part of both messages. Shape: 24 bytes, no alignment; in an advertisement the header's `rest` holds the flags.
///
/// ```text
///  0        1        2                 4     8            24
/// +--------+--------+-----------------+-----+------------+---------
/// |  type  |code = 0|    checksum     |flags| target (16)| options
/// +--------+--------+-----------------+-----+------------+---------
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct NeighborMessage {
    pub(crate) icmp: IcmpHeader,
    target: [u8; 16],
}

const _: () = assert!(size_of::<NeighborMessage>() == 24);

/// The option that holds a link-layer address of Ethernet (RFC 2464 section 6). Shape: 8 bytes, no alignment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct LinkOption {
    kind: u8,
    /// In units of 8 bytes.
    len: u8,
    station: MacAddr,
}

const _: () = assert!(size_of::<LinkOption>() == 8);

impl NeighborMessage {
    /// A solicitation, without checksum.
    pub(crate) const fn solicitation(target: Ipv6Addr) -> Self {
        Self { icmp: IcmpHeader::new(icmpv6::NEIGHBOR_SOLICITATION, 0, 0), target: target.octets() }
    }

    /// An advertisement with these flags, without checksum.
    pub(crate) const fn advertisement(target: Ipv6Addr, flags: u32) -> Self {
        Self { icmp: IcmpHeader::new(icmpv6::NEIGHBOR_ADVERTISEMENT, 0, flags), target: target.octets() }
    }
}

impl LinkOption {
    /// The address of who solicits.
    pub(crate) const fn source(station: MacAddr) -> Self {
        Self { kind: SOURCE_LINK, len: 1, station }
    }

    /// The address of what is advertised.
    pub(crate) const fn target(station: MacAddr) -> Self {
        Self { kind: TARGET_LINK, len: 1, station }
    }
}

/// Reads the solicitation or advertisement in frame `bytes`, which `facts` describe. `None` for anything else, and for what
/// RFC 4861 sections 7.1.1 and 7.1.2 tell receivers to discard: a hop limit other than 255 (it crossed a router, EVA-26), a
/// code other than 0, a message cut off, an option of length 0 or beyond the message, a target that is no host; a
/// solicitation from `::` that is not sent to the target's solicited-node group or names a source; a solicited
/// advertisement sent to a group. Also a link-layer address that is not one of a single Ethernet station, and a message that
/// came with a fragment header (RFC 6980 section 5). The checksum was verified by [`dissect`](crate::dissect).
#[must_use]
pub fn neighbor_message(bytes: &[u8], facts: &Facts) -> Option<Neighbor> {
    let Transport::Icmp { kind, code: 0 } = facts.transport else { return None };
    let Endpoints::V6 { source, destination } = facts.endpoints else { return None };
    if facts.hop_limit != HOP_LIMIT || facts.fragment != Fragment::No || came_cut(bytes, facts) {
        return None;
    }
    let message = bytes.get(usize::from(facts.transport_offset)..usize::from(facts.end))?;
    let (message, options) = NeighborMessage::ref_from_prefix(message).ok()?;
    let target = Ipv6Addr::from_bits(u128::from_be_bytes(message.target));
    if target.is_multicast() || target.is_unspecified() || target.is_loopback() {
        return None;
    }
    match kind {
        icmpv6::NEIGHBOR_SOLICITATION => {
            let source_link = link_address(options, SOURCE_LINK)?;
            let nobody = source.is_unspecified();
            if nobody && (destination != solicited_node(target) || source_link.is_some()) {
                return None;
            }
            Some(Neighbor::Solicitation { target, source_link })
        }
        icmpv6::NEIGHBOR_ADVERTISEMENT => {
            let link = link_address(options, TARGET_LINK)?;
            let flags = message.icmp.rest();
            let solicited = flags & SOLICITED != 0;
            if solicited && destination.is_multicast() {
                return None;
            }
            let (router, replaces) = (flags & ROUTER != 0, flags & OVERRIDE != 0);
            Some(Neighbor::Advertisement { target, link, router, solicited, replaces })
        }
        _ => None,
    }
}

/// Whether a fragment header is among the extension headers, as in an atomic fragment.
fn came_cut(bytes: &[u8], facts: &Facts) -> bool {
    let (begin, end) = (usize::from(facts.network), usize::from(facts.end));
    let Some(Ok((header, payload))) = bytes.get(begin..end).map(Ipv6Header::split) else { return true };
    header.next_header() != icmpv6::PROTOCOL
        && ipv6_ext::walk(header.next_header(), payload).map_or(true, |chain| chain.cut.is_some())
}

/// Walks all options, each at least 8 bytes, and returns the link-layer address of the given kind, the last if repeated.
/// The outer `None` says that the options are invalid.
#[expect(clippy::option_option, reason = "outside: whether the message is valid; inside: whether it names an address")]
fn link_address(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(units) * 8).filter(|_| units > 0)?;
        if kind == wanted {
            let option = LinkOption::ref_from_bytes(option).ok()?;
            if option.station.is_multicast() {
                return None;
            }
            found = Some(option.station);
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}

#[cfg(test)]
mod tests;
