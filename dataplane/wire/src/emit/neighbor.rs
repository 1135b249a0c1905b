//! Neighbor solicitations and advertisements (RFC 4861): 86 bytes each, untagged, hop limit 255.

use core::net::Ipv6Addr;

use super::put;
use crate::checksum;
use crate::ethernet::{self, EthernetHeader};
use crate::ipv6::Ipv6Header;
use crate::ndp::{HOP_LIMIT, LinkOption, NeighborMessage, OVERRIDE, ROUTER, SOLICITED};
use crate::{Endpoints, MacAddr, icmpv6, solicited_node};

/// Every node of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Bytes of a message with one link-layer address.
const MESSAGE: u16 = 32;

const _: () = assert!(MESSAGE as usize == size_of::<NeighborMessage>() + size_of::<LinkOption>());

/// Asks whoever listens on the solicited-node group of `target` for its link-layer address. Returns the bytes written.
pub fn neighbor_solicitation(out: &mut [u8], source_mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Option<usize> {
    let group = solicited_node(target);
    let way = Way { source_mac, source, destination_mac: MacAddr::ipv6_multicast(group), destination: group };
    way.put(out, NeighborMessage::solicitation(target), LinkOption::source(source_mac))
}

/// Asks the one station at `target_mac` whether it still has `target` (RFC 4861 section 7.3.3). Returns the bytes written.
pub fn neighbor_solicitation_to(
    out: &mut [u8],
    source_mac: MacAddr,
    source: Ipv6Addr,
    target_mac: MacAddr,
    target: Ipv6Addr,
) -> Option<usize> {
    let way = Way { source_mac, source, destination_mac: target_mac, destination: target };
    way.put(out, NeighborMessage::solicitation(target), LinkOption::source(source_mac))
}

/// Tells `destination`, which asked, that `target` is at `source_mac`, a router's. To `::`, which asks in duplicate address
/// detection, the answer goes to all nodes and is not marked solicited (RFC 4861 section 7.2.4). Returns the bytes written.
pub fn neighbor_advertisement(
    out: &mut [u8],
    source_mac: MacAddr,
    target: Ipv6Addr,
    destination_mac: MacAddr,
    destination: Ipv6Addr,
    solicited: bool,
) -> Option<usize> {
    if destination.is_unspecified() {
        return unsolicited_advertisement(out, source_mac, target);
    }
    let way = Way { source_mac, source: target, destination_mac, destination };
    let flags = ROUTER | OVERRIDE | if solicited { SOLICITED } else { 0 };
    way.put(out, NeighborMessage::advertisement(target, flags), LinkOption::target(source_mac))
}

/// Announces to all nodes that `address` is at `mac` (RFC 4861 section 7.2.6). Returns the bytes written.
pub fn unsolicited_advertisement(out: &mut [u8], mac: MacAddr, address: Ipv6Addr) -> Option<usize> {
    neighbor_advertisement(out, mac, address, MacAddr::ipv6_multicast(ALL_NODES), ALL_NODES, false)
}

/// From where to where.
struct Way {
    source_mac: MacAddr,
    source: Ipv6Addr,
    destination_mac: MacAddr,
    destination: Ipv6Addr,
}

impl Way {
    fn put(&self, out: &mut [u8], message: NeighborMessage, option: LinkOption) -> Option<usize> {
        let network = put(out, 0, &EthernetHeader::new(self.destination_mac, self.source_mac, ethernet::IPV6))?;
        let ip = Ipv6Header::new(MESSAGE, icmpv6::PROTOCOL, HOP_LIMIT, self.source, self.destination);
        let begin = put(out, network, &ip)?;
        let options = put(out, begin, &message)?;
        let end = put(out, options, &option)?;
        let endpoints = Endpoints::V6 { source: self.source, destination: self.destination };
        let mut message = message;
        message.icmp.set_checksum(checksum::transport(&endpoints, icmpv6::PROTOCOL, out.get(begin..end)?));
        put(out, begin, &message)?;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ndp::{Neighbor, neighbor_message};
    use crate::{Content, Verify, dissect};

    const OURS: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn read(out: &[u8], written: Option<usize>) -> (MacAddr, Ipv6Addr, Ipv6Addr, Neighbor) {
        assert_eq!(written, Some(86));
        let frame = dissect(&out[..86], Verify::All).unwrap();
        let Content::Ip(facts) = frame.content else { panic!("not IP: {frame:?}") };
        let Endpoints::V6 { source, destination } = facts.endpoints else { panic!("not IPv6: {frame:?}") };
        (frame.link.destination, source, destination, neighbor_message(out, &facts).unwrap())
    }

    #[test]
    fn what_is_written_reads_back() {
        let (us, them) = (ip("2001:db8::1"), ip("2001:db8::12:3456"));
        let mut out = [0xa5; 128];
        let asks = Neighbor::Solicitation { target: them, source_link: Some(OURS) };
        let written = neighbor_solicitation(&mut out, OURS, us, them);
        let group = MacAddr::new([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(read(&out, written), (group, us, ip("ff02::1:ff12:3456"), asks));

        let written = neighbor_solicitation_to(&mut out, OURS, us, THEIRS, them);
        assert_eq!(read(&out, written), (THEIRS, us, them, asks));

        let tells = |solicited| Neighbor::Advertisement {
            target: us,
            link: Some(OURS),
            router: true,
            solicited,
            replaces: true,
        };
        let written = neighbor_advertisement(&mut out, OURS, us, THEIRS, them, true);
        assert_eq!(read(&out, written), (THEIRS, us, them, tells(true)));

        let everyone = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
        let written = unsolicited_advertisement(&mut out, OURS, us);
        assert_eq!(read(&out, written), (everyone, us, ALL_NODES, tells(false)));

        let written = neighbor_advertisement(&mut out, OURS, us, THEIRS, Ipv6Addr::UNSPECIFIED, true);
        assert_eq!(read(&out, written), (everyone, us, ALL_NODES, tells(false)));
    }

    #[test]
    fn a_short_buffer_is_refused() {
        for len in 0..86 {
            assert_eq!(unsolicited_advertisement(&mut vec![0; len], OURS, ip("fe80::1")), None, "{len}");
        }
    }
}
