//! An IP packet whose outer headers are read: what the reader of the transport header is given, and turns into the whole
//! frame's facts. The facts are put together once, at the end, straight from the headers; nothing is copied on the way.

use crate::dissect::{Verify, offset};
use crate::ethernet::EthernetHeader;
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::vlan::Tags;
use crate::{Content, Endpoints, Extensions, Facts, Fragment, Frame, Link, Transport, checksum};

/// The header of either family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network<'a> {
    V4(&'a Ipv4Header),
    V6(&'a Ipv6Header),
}

/// The link layer of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkLayer<'a> {
    pub(crate) header: &'a EthernetHeader,
    pub(crate) tags: Tags,
}

/// A packet read up to its transport header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) link: LinkLayer<'a>,
    pub(crate) network: Network<'a>,
    /// Behind all extension headers.
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
    pub(crate) extensions: Extensions,
    /// The transport header and what follows, to the packet's own end.
    pub(crate) segment: &'a [u8],
    /// Where `segment` begins in the frame.
    pub(crate) segment_at: usize,
    pub(crate) verify: Verify,
}

/// What the checksum of a TCP or UDP segment turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Right, or not to be verified.
    Right,
    /// The pseudo header's sum only.
    Partial,
    /// Wrong.
    Wrong,
}

impl LinkLayer<'_> {
    /// The facts.
    #[inline]
    pub(crate) const fn finish(&self) -> Link {
        Link {
            destination: self.header.destination(),
            source: self.header.source(),
            tags: self.tags.count,
            vlan: self.tags.vlan,
            ethertype: self.tags.ethertype,
            payload: self.tags.payload,
        }
    }
}

impl Packet<'_> {
    /// Whether this is IPv6.
    #[inline]
    pub(crate) const fn is_v6(&self) -> bool {
        matches!(self.network, Network::V6(_))
    }

    /// Whether the whole segment is here.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.fragment == Fragment::No
    }

    /// The facts, with what the transport's reader found; `partial_checksum` says that the checksum is only the pseudo
    /// header's sum.
    #[inline]
    pub(crate) fn finish(&self, transport: Transport, partial_checksum: bool) -> Frame {
        let (endpoints, hop_limit, dont_fragment) = match self.network {
            Network::V4(header) => (
                Endpoints::V4 { source: header.source(), destination: header.destination() },
                header.ttl(),
                header.dont_fragment(),
            ),
            Network::V6(header) => {
                (Endpoints::V6 { source: header.source(), destination: header.destination() }, header.hop_limit(), true)
            }
        };
        let facts = Facts {
            endpoints,
            network: self.link.tags.payload,
            transport_offset: offset(self.segment_at),
            end: offset(self.segment_at + self.segment.len()),
            protocol: self.protocol,
            hop_limit,
            dont_fragment,
            fragment: self.fragment,
            extensions: self.extensions,
            transport,
            partial_checksum,
        };
        Frame { link: self.link.finish(), content: Content::Ip(facts) }
    }

    /// Verifies the segment's checksum, whose field holds `field`, as far as that is wanted and can be done.
    #[inline]
    pub(crate) fn verify_sum(&self, field: u16) -> Sum {
        if self.verify == Verify::Nothing || !self.is_whole() {
            return Sum::Right;
        }
        let pseudo = self.pseudo();
        // A complete checksum that happens to equal the pseudo sum is taken for partial: completing it writes it again.
        if self.verify == Verify::Partial && field == checksum::fold_loaded(pseudo) {
            return Sum::Partial;
        }
        if checksum::fold_loaded(pseudo + checksum::load(self.segment)) == 0xffff { Sum::Right } else { Sum::Wrong }
    }

    /// Whether the sum over the segment under its pseudo header comes out right.
    #[inline]
    pub(crate) fn sum_is_right(&self) -> bool {
        checksum::fold_loaded(self.pseudo() + checksum::load(self.segment)) == 0xffff
    }

    /// The sum of the pseudo header as [`checksum::load`] would return it.
    #[inline]
    fn pseudo(&self) -> u64 {
        let addresses = match self.network {
            Network::V4(header) => header.load_addresses(),
            Network::V6(header) => header.load_addresses(),
        };
        addresses + checksum::load_words([u16::from(self.protocol), offset(self.segment.len())])
    }
}
