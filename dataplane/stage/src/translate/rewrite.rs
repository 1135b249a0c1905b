//! Rewriting the addresses and ports of a packet in place, its checksums along with them (RFC 1624), and the hop limit.
//!
//! Called by workers for every packet of a translated session. A packet whose transport checksum is only the folded
//! pseudo header ([`Facts::partial_checksum`]) is completed before it comes here. What ICMP errors quote is rewritten by
//! [`icmp_error`](super::icmp_error). All offsets come from [`Facts`] of the same frame; should they not fit it, nothing
//! is written past it and the answer is false.

use std::net::{Ipv4Addr, Ipv6Addr};

use wire::{Facts, Transport, checksum};

use super::Deltas;

/// Both ends of a packet: what it leaves with, or what it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NewEndpoints<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port; the identifier of an ICMP echo; of no meaning for other protocols.
    pub source_port: u16,
    /// Destination port; not read for ICMP echo and other protocols.
    pub destination_port: u16,
}

impl<A: Copy> NewEndpoints<A> {
    /// The same, seen from the other side.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// DCCP and UDP-Lite: their checksums cover the pseudo header too, and lie where UDP's does (RFC 4340, RFC 3828).
const DCCP: u8 = 33;
const UDP_LITE: u8 = 136;

/// Gives an IPv4 packet other endpoints. False when the frame is not as `facts` say.
#[must_use]
pub fn rewrite_v4(frame: &mut [u8], facts: &Facts, to: &NewEndpoints<Ipv4Addr>, deltas: Deltas) -> bool {
    let Some(header) = frame.get_mut(usize::from(facts.network)..).and_then(<[u8]>::first_chunk_mut::<20>) else {
        return false;
    };
    let [.., checksum_high, checksum_low, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let sum = checksum::update(u16::from_be_bytes([*checksum_high, *checksum_low]), deltas.network);
    [*checksum_high, *checksum_low] = sum.to_be_bytes();
    [*s0, *s1, *s2, *s3] = to.source.octets();
    [*d0, *d1, *d2, *d3] = to.destination.octets();
    rewrite_transport(frame, facts, to.source_port, to.destination_port, deltas.transport)
}

/// Gives an IPv6 packet other endpoints. False when the frame is not as `facts` say.
#[must_use]
pub fn rewrite_v6(frame: &mut [u8], facts: &Facts, to: &NewEndpoints<Ipv6Addr>, deltas: Deltas) -> bool {
    let Some(header) = frame.get_mut(usize::from(facts.network)..).and_then(<[u8]>::first_chunk_mut::<40>) else {
        return false;
    };
    let (_, addresses) = header.split_at_mut(8);
    let (source, destination) = addresses.split_at_mut(16);
    source.copy_from_slice(&to.source.octets());
    destination.copy_from_slice(&to.destination.octets());
    rewrite_transport(frame, facts, to.source_port, to.destination_port, deltas.transport)
}

fn rewrite_transport(frame: &mut [u8], facts: &Facts, source_port: u16, destination_port: u16, delta: u16) -> bool {
    let Some(bytes) = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end)) else {
        return false;
    };
    match facts.transport {
        Transport::Tcp(_) => {
            let Some([s0, s1, d0, d1, .., c0, c1, _, _]) = bytes.first_chunk_mut::<20>() else { return false };
            [*s0, *s1] = source_port.to_be_bytes();
            [*d0, *d1] = destination_port.to_be_bytes();
            [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
        }
        Transport::Udp { .. } => {
            let Some([s0, s1, d0, d1, _, _, c0, c1]) = bytes.first_chunk_mut() else { return false };
            [*s0, *s1] = source_port.to_be_bytes();
            [*d0, *d1] = destination_port.to_be_bytes();
            [*c0, *c1] = checksum::update_udp(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
        }
        Transport::Echo { .. } => {
            let Some([_, _, c0, c1, i0, i1, _, _]) = bytes.first_chunk_mut() else { return false };
            [*i0, *i1] = source_port.to_be_bytes();
            [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
        }
        Transport::Icmp { .. } if facts.endpoints.is_v6() => {
            let Some([_, _, c0, c1]) = bytes.first_chunk_mut() else { return false };
            [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
        }
        Transport::Other if matches!(facts.protocol, DCCP | UDP_LITE) => {
            // Not dissected, so it may be cut short: what is not there cannot be kept right.
            if let Some([.., c0, c1]) = bytes.first_chunk_mut::<8>() {
                let sum = checksum::update(u16::from_be_bytes([*c0, *c1]), delta);
                let sum = if facts.protocol == UDP_LITE { checksum::or_ones(sum) } else { sum };
                [*c0, *c1] = sum.to_be_bytes();
            }
        }
        // Errors need their quote rewritten as well.
        Transport::IcmpError { .. } => return false,
        Transport::Icmp { .. } | Transport::Other | Transport::Unknown => {}
    }
    true
}

/// Takes one from TTL or hop limit, IPv4's header checksum along with it (RFC 1624). The caller has seen that it is more
/// than one. False when the frame is not as `facts` say, or nothing is left to take.
#[must_use]
pub fn decrement_hop_limit(frame: &mut [u8], facts: &Facts) -> bool {
    let Some(header) = frame.get_mut(usize::from(facts.network)..).and_then(<[u8]>::first_chunk_mut::<20>) else {
        return false;
    };
    let [_, _, _, _, _, _, _, hop_limit, ttl, protocol, c0, c1, ..] = header;
    if facts.endpoints.is_v6() {
        let Some(less) = hop_limit.checked_sub(1) else { return false };
        *hop_limit = less;
    } else {
        let Some(less) = ttl.checked_sub(1) else { return false };
        let before = u16::from_be_bytes([*ttl, *protocol]);
        *ttl = less;
        let delta = checksum::delta(&[before], &[u16::from_be_bytes([less, *protocol])]);
        [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    }
    true
}
