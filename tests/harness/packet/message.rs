//! Control messages: ICMP and its errors, ARP, neighbor discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::MacAddr;

use super::segment::Segment;
use super::{Content, Packet, address, station};

/// An ICMP or `ICMPv6` message; `rest` is the second word of its header.
#[must_use]
pub fn icmp(source: &str, destination: &str, kind: u8, code: u8, rest: u32, data: &[u8]) -> Packet {
    Packet::ip(address(source), address(destination), Segment::icmp(kind, code, rest, data))
}

/// An echo reply of this identifier, to the ping of [`ping`](super::ping).
#[must_use]
pub fn pong(source: &str, destination: &str, identifier: u16) -> Packet {
    let kind = if address(source).is_ipv4() { 0 } else { 129 };
    icmp(source, destination, kind, 0, u32::from(identifier) << 16 | 1, b"are you there?")
}

/// An ICMP error about `about`, which it quotes from the IP header on, at most `quoted` bytes.
#[must_use]
pub fn icmp_error(
    source: &str,
    destination: &str,
    kind: u8,
    code: u8,
    rest: u32,
    about: &Packet,
    quoted: usize,
) -> Packet {
    let bytes = about.clone().bytes_of_ip();
    icmp(source, destination, kind, code, rest, &bytes[..bytes.len().min(quoted)])
}

fn arp(request: bool, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr), destination: MacAddr) -> Packet {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, if request { 1 } else { 2 }];
    bytes.extend(sender.0.octets());
    bytes.extend(sender.1.octets());
    bytes.extend(target.0.octets());
    bytes.extend(target.1.octets());
    Packet {
        source_mac: Some(sender.0),
        destination_mac: Some(destination),
        ..Packet::of(Content::Raw { ethertype: 0x0806, bytes })
    }
}

fn v4(text: &str) -> Ipv4Addr {
    match address(text) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => panic!("{v6} is not IPv4"),
    }
}

fn v6(text: &str) -> Ipv6Addr {
    match address(text) {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(v4) => panic!("{v4} is not IPv6"),
    }
}

/// The station of `sender` asks everybody who has `target`.
#[must_use]
pub fn arp_request(sender: &str, target: &str) -> Packet {
    let sender = v4(sender);
    arp(true, (station(sender.into()), sender), (MacAddr::ZERO, v4(target)), MacAddr::BROADCAST)
}

/// The station at `mac` tells `target` at `target_mac` that it has `sender`.
#[must_use]
pub fn arp_reply(mac: MacAddr, sender: &str, target_mac: MacAddr, target: &str) -> Packet {
    arp(false, (mac, v4(sender)), (target_mac, v4(target)), target_mac)
}

/// The station of `source` asks who has `target`, in the target's group.
#[must_use]
pub fn solicitation(source: &str, target: &str) -> Packet {
    let (asker, target) = (v6(source), v6(target));
    let group = wire::solicited_node(target);
    let mac = station(asker.into());
    let mut data = target.octets().to_vec();
    if !asker.is_unspecified() {
        data.extend([1, 1]);
        data.extend(mac.octets());
    }
    icmp(source, &group.to_string(), 135, 0, 0, &data).hops(255).source_mac(mac)
}

/// The station at `mac` tells `destination` that it has `target`; `flags` are router, solicited, override from the top.
#[must_use]
pub fn neighbor_advertisement(mac: MacAddr, target: &str, destination: &str, flags: u8) -> Packet {
    let mut data = v6(target).octets().to_vec();
    data.extend([2, 1]);
    data.extend(mac.octets());
    icmp(target, destination, 136, 0, u32::from(flags) << 24, &data).hops(255).source_mac(mac)
}

/// The station of `target` answers the solicitation of `destination`.
#[must_use]
pub fn advertisement(target: &str, destination: &str) -> Packet {
    neighbor_advertisement(station(address(target)), target, destination, 0x60)
}
