//! A ping turned into its answer where it lies.

use zerocopy::FromBytes;

use super::HOP_LIMIT;
use crate::ethernet::EthernetHeader;
use crate::icmpv4::{self, IcmpHeader};
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::{Content, Endpoints, Fragment, Frame, Transport, icmpv6, martian};

/// Turns the echo request in `frame` into its reply: addresses and MACs exchanged, type and hop limit set, checksums
/// updated; the data stays (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2). False, and nothing changed, when it is not a
/// whole echo request from one host and station to one other.
pub fn echo_reply_in_place(frame: &mut [u8], facts: &Frame) -> bool {
    let Content::Ip(ip) = facts.content else { return false };
    let Transport::Echo { request: true, .. } = ip.transport else { return false };
    let hosts = match ip.endpoints {
        Endpoints::V4 { source, destination } => martian::is_host_v4(source) && martian::is_host_v4(destination),
        Endpoints::V6 { source, destination } => !source.is_unspecified() && !destination.is_multicast(),
    };
    let stations = !facts.link.source.is_multicast() && !facts.link.destination.is_multicast();
    if !hosts || !stations || ip.fragment != Fragment::No {
        return false;
    }
    let Some((link, packet)) = frame.split_at_mut_checked(usize::from(ip.network)) else { return false };
    let behind = usize::from(ip.transport_offset).saturating_sub(usize::from(ip.network));
    let Some((network, message)) = packet.split_at_mut_checked(behind) else { return false };
    let Ok((link, _)) = EthernetHeader::mut_from_prefix(link) else { return false };
    let Ok((icmp, _)) = IcmpHeader::mut_from_prefix(message) else { return false };
    if ip.endpoints.is_v6() {
        let Ok((header, _)) = Ipv6Header::mut_from_prefix(network) else { return false };
        header.swap_addresses();
        header.set_hop_limit(HOP_LIMIT);
        icmp.set_kind(icmpv6::ECHO_REPLY);
    } else {
        let Ok((header, _)) = Ipv4Header::mut_from_prefix(network) else { return false };
        header.swap_addresses();
        header.set_ttl(HOP_LIMIT);
        icmp.set_kind(icmpv4::ECHO_REPLY);
    }
    link.set_destination(facts.link.source);
    link.set_source(facts.link.destination);
    true
}

#[cfg(test)]
mod tests;
