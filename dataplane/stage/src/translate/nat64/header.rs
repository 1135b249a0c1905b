//! IP headers of one version as those of the other (RFC 7915 sections 4.1 and 5.1), whole packets and fragments alike. What a
//! packet says of itself is read first; then, once the frame has room, it is said again in the other version's words.
//!
//! Options and extension headers stay behind (RFC 7915 sections 4.1 and 5.1). An IPv6 packet of 1,280 bytes or less becomes an
//! IPv4 packet that routers may cut, a larger one an IPv4 packet that they may not.

use std::net::{Ipv4Addr, Ipv6Addr};

use wire::{Endpoints, Facts, Fragment, fragment};

use super::{ETHERNET, FRAGMENT, IPV4, IPV6, LONGER, MTU_V6_MIN, protocol_to_v4, protocol_to_v6};

/// IANA's number of IPv6's fragment header.
const NEXT_FRAGMENT: u8 = 44;

/// What a packet's IP header says, addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Where the payload begins in the frame.
    begin: usize,
    /// Where it ends.
    end: usize,
    class: u8,
    protocol: u8,
    /// The piece of its datagram, if it is a fragment: offset in bytes, and whether others follow.
    piece: Option<(u16, bool)>,
    /// IPv4's identification, or a fragment's.
    identification: u32,
    may_be_cut: bool,
}

impl Carried {
    /// Reads the header of the packet in `frame`, whose facts these are; for the first fragment of a datagram they say so.
    /// `None` when the frame is not as told, or has extension headers between a fragment's header and its transport.
    #[must_use]
    pub fn read(frame: &[u8], facts: &Facts) -> Option<Self> {
        let network = usize::from(facts.network);
        let (class, identification) = match facts.endpoints {
            Endpoints::V6 { .. } => (class_v6(frame.get(network..)?)?, 0),
            Endpoints::V4 { .. } => {
                let [_, class, _, _, i0, i1] = *frame.get(network..)?.first_chunk()?;
                (class, u32::from(u16::from_be_bytes([i0, i1])))
            }
        };
        let whole = Self {
            begin: usize::from(facts.transport_offset),
            end: usize::from(facts.end),
            class,
            protocol: facts.protocol,
            piece: None,
            identification,
            may_be_cut: !facts.dont_fragment,
        };
        if facts.fragment == Fragment::No {
            return Some(whole);
        }
        let piece = fragment::piece(frame, facts)?;
        let begin = usize::from(piece.begin);
        let transport_is_elsewhere = facts.fragment == Fragment::First && begin != whole.begin;
        (!transport_is_elsewhere).then_some(Self {
            begin,
            piece: Some((piece.offset, piece.more)),
            identification: piece.identification,
            may_be_cut: true,
            ..whole
        })
    }

    /// Bytes behind the header.
    fn payload(&self) -> usize {
        self.end.saturating_sub(self.begin)
    }

    /// Bytes of the IPv4 packet it becomes.
    #[must_use]
    pub fn length_v4(&self) -> u16 {
        u16::try_from(self.payload() + IPV4).unwrap_or(u16::MAX)
    }

    /// Whether routers may cut the IPv4 packet it becomes (RFC 7915 section 5.1): one of a datagram that came in fragments,
    /// and one whose sender may know of no smaller size.
    #[must_use]
    pub fn may_be_cut_as_v4(&self) -> bool {
        self.piece.is_some() || self.length_v4() <= MTU_V6_MIN - LONGER
    }

    /// Bytes of the IPv6 packet it becomes, without fragment header.
    #[must_use]
    pub fn length_v6(&self) -> u16 {
        u16::try_from(self.payload() + IPV6).unwrap_or(u16::MAX)
    }

    /// Whether its sender lets routers cut it, or has cut it itself.
    #[must_use]
    pub const fn may_be_cut(&self) -> bool {
        self.may_be_cut
    }

    /// Whether it becomes an IPv6 packet with a fragment header, where those larger than `limit` are cut.
    fn is_fragment_as_v6(&self, limit: u16) -> bool {
        self.piece.is_some() || self.may_be_cut && self.length_v6() > limit
    }

    /// Where the transport begins in the frame of the IPv6 packet it becomes.
    #[must_use]
    pub fn transport_v6(&self, limit: u16) -> usize {
        ETHERNET + IPV6 + if self.is_fragment_as_v6(limit) { FRAGMENT } else { 0 }
    }

    /// Where the transport begins in the frame of the IPv4 packet it becomes.
    #[must_use]
    pub const fn transport_v4() -> usize {
        ETHERNET + IPV4
    }

    /// Bytes the frame has to grow in front before [`write_v6`](Self::write_v6).
    #[must_use]
    pub fn growth(&self, limit: u16) -> usize {
        self.transport_v6(limit).saturating_sub(self.begin)
    }

    /// Makes the frame an IPv4 packet between these ends. `identification` tells its fragments from others'; a packet that is
    /// not to be cut has none (RFC 7915 section 5.1). Returns how many bytes at the front no longer belong to the frame; MAC
    /// addresses are the caller's. `None` when the frame is not as told.
    #[must_use]
    pub fn write_v4(
        &self,
        frame: &mut [u8],
        (source, destination): (Ipv4Addr, Ipv4Addr),
        ttl: u8,
        identification: u16,
    ) -> Option<usize> {
        let mut cutting = Cutting { identification, dont_fragment: false, offset: 0, more: false };
        match self.piece {
            Some((offset, more)) => (cutting.offset, cutting.more) = (offset, more),
            None if self.may_be_cut_as_v4() => {}
            None => (cutting.identification, cutting.dont_fragment) = (0, true),
        }
        let length = u16::try_from(self.payload() + IPV4).ok()?;
        let protocol = protocol_to_v4(self.protocol);
        let header = header_v4(self.class, length, cutting, ttl, protocol, (source, destination));
        let cut = self.begin.checked_sub(IPV4 + ETHERNET)?;
        frame.get_mut(self.begin - IPV4..self.begin)?.copy_from_slice(&header);
        write_ethernet(frame.get_mut(cut..)?, 0x0800)?;
        Some(cut)
    }

    /// Makes the frame, which has grown in front by [`growth`](Self::growth) bytes since it was read, an IPv6 packet between
    /// these ends; otherwise as [`write_v4`](Self::write_v4). It has a fragment header where IPv4's was a fragment, and where
    /// it is larger than `limit` and is to be cut (RFC 7915 section 4.1).
    #[must_use]
    pub fn write_v6(
        &self,
        frame: &mut [u8],
        (source, destination): (Ipv6Addr, Ipv6Addr),
        hop_limit: u8,
        limit: u16,
    ) -> Option<usize> {
        let begin = self.begin + self.growth(limit);
        let protocol = protocol_to_v6(self.protocol);
        let cut = begin.checked_sub(self.transport_v6(limit))?;
        let network = cut + ETHERNET;
        let length = u16::try_from(self.payload() + (begin - network - IPV6)).ok()?;
        let fragment = self.is_fragment_as_v6(limit);
        let next = if fragment { NEXT_FRAGMENT } else { protocol };
        let header = header_v6(self.class, length, hop_limit, next, (source, destination));
        frame.get_mut(network..network + IPV6)?.copy_from_slice(&header);
        if fragment {
            let (offset, more) = self.piece.unwrap_or((0, false));
            let [o0, o1] = (offset & !7 | u16::from(more)).to_be_bytes();
            let [i0, i1, i2, i3] = self.identification.to_be_bytes();
            frame.get_mut(begin - FRAGMENT..begin)?.copy_from_slice(&[protocol, 0, o0, o1, i0, i1, i2, i3]);
        }
        write_ethernet(frame.get_mut(cut..)?, 0x86dd)?;
        Some(cut)
    }
}

/// What an IPv4 header says of fragments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    pub(super) identification: u16,
    pub(super) dont_fragment: bool,
    /// In bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
}

impl Cutting {
    /// A whole packet with this identification.
    pub(super) const fn whole(identification: u16, dont_fragment: bool) -> Self {
        Self { identification, dont_fragment, offset: 0, more: false }
    }
}

/// Writes an Ethernet header without addresses; the caller knows the MACs.
pub(super) fn write_ethernet(header: &mut [u8], ethertype: u16) -> Option<()> {
    let [.., high, low] = header.first_chunk_mut::<ETHERNET>()?;
    [*high, *low] = ethertype.to_be_bytes();
    Some(())
}

/// The bytes of an IPv4 header, its checksum among them.
pub(super) fn header_v4(
    class: u8,
    length: u16,
    cutting: Cutting,
    ttl: u8,
    protocol: u8,
    (source, destination): (Ipv4Addr, Ipv4Addr),
) -> [u8; IPV4] {
    let [l0, l1] = length.to_be_bytes();
    let [i0, i1] = cutting.identification.to_be_bytes();
    let flags = if cutting.dont_fragment { 0x4000 } else { 0 } | if cutting.more { 0x2000 } else { 0 };
    let [f0, f1] = (flags | (cutting.offset / 8)).to_be_bytes();
    let [s0, s1, s2, s3] = source.octets();
    let [d0, d1, d2, d3] = destination.octets();
    let mut header = [0x45, class, l0, l1, i0, i1, f0, f1, ttl, protocol, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3];
    let [c0, c1] = wire::checksum::plain(&header).to_be_bytes();
    (header[10], header[11]) = (c0, c1);
    header
}

/// The bytes of an IPv6 header with flow label 0 (RFC 7915 section 4.1).
pub(super) fn header_v6(
    class: u8,
    length: u16,
    hop_limit: u8,
    next: u8,
    (source, destination): (Ipv6Addr, Ipv6Addr),
) -> [u8; IPV6] {
    let mut header = [0; IPV6];
    let (front, addresses) = header.split_at_mut(8);
    let [l0, l1] = length.to_be_bytes();
    front.copy_from_slice(&[0x60 | class >> 4, class << 4, 0, 0, l0, l1, next, hop_limit]);
    let (from, to) = addresses.split_at_mut(16);
    from.copy_from_slice(&source.octets());
    to.copy_from_slice(&destination.octets());
    header
}

/// The traffic class of an IPv6 header.
pub(super) fn class_v6(header: &[u8]) -> Option<u8> {
    let [first, second, ..] = header else { return None };
    Some(first << 4 | second >> 4)
}
