//! What is said between neighbors and to the appliance itself: ARP, neighbor discovery, multicast of the link.
//!
//! Questions for own and virtual addresses are answered here, from the policy alone. Answers to our questions go to
//! control, which keeps the neighbor cache, and to the kernel, which may have asked them. Whoever claims an address of
//! ours changes nothing (EVA-26).

use std::net::{IpAddr, Ipv6Addr};

use frame::Buffer;
use stage::DropReason;
use stage::forward::Evidence;
use units::PortId;
use wire::emit;
use wire::ndp::{Neighbor, neighbor_message};
use wire::{Arp, Facts, MacAddr, Transport};

use crate::command::Event;
use crate::packet::{Origin, Packet, Verdict};
use crate::snapshot::Snapshot;

/// Bytes of an ARP frame, and of the longest neighbor advertisement.
const ARP_FRAME: usize = 42;
const ADVERTISEMENT_FRAME: usize = 86;

/// Whether the appliance answers for `address` on `port`: an own address of the port, or a virtual or translated address
/// inside one of its connected prefixes.
#[must_use]
pub(crate) fn answers_for(snapshot: &Snapshot, port: PortId, address: IpAddr) -> bool {
    if let Some(&owner) = snapshot.own.get(&address) {
        return owner == port;
    }
    let connected =
        || snapshot.port(port).is_some_and(|facts| facts.addresses.iter().any(|net| net.contains(&address)));
    let answered = !snapshot.unanswered.contains(&address) && !snapshot.quiet.addresses.contains(&address);
    is_ours(snapshot, address) && answered && connected()
}

/// Whether `address` belongs to the appliance in any way.
#[must_use]
pub(crate) fn is_ours(snapshot: &Snapshot, address: IpAddr) -> bool {
    snapshot.ours.contains(&address)
}

/// Punts to the kernel where one stands beside the port; otherwise the packet has done what it could.
fn to_kernel(snapshot: &Snapshot, port: PortId) -> Verdict {
    if snapshot.port(port).is_some_and(|facts| facts.kernel) { Verdict::Punt(port) } else { Verdict::Consumed }
}

/// An ARP packet from the wire or from the kernel (RFC 826, RFC 5227).
pub(crate) fn arp<B: Buffer>(
    snapshot: &Snapshot,
    packet: &mut Packet<B>,
    arp: &Arp,
    tell: &mut dyn FnMut(Event),
) -> Verdict {
    let port = packet.port;
    if packet.origin == Origin::Kernel {
        return Verdict::Forward(port);
    }
    let sender = IpAddr::V4(arp.sender);
    let Some(facts) = snapshot.port(port) else { return Verdict::Drop(DropReason::ArpUnwanted) };
    if arp.sender_mac.is_multicast() || arp.sender_mac == MacAddr::ZERO {
        return Verdict::Drop(DropReason::ArpUnwanted);
    }
    if !arp.sender.is_unspecified() && is_ours(snapshot, sender) {
        if arp.sender_mac != facts.mac {
            tell(Event::Conflict { port, address: sender, mac: arp.sender_mac });
        }
        return Verdict::Drop(DropReason::ArpUnwanted);
    }
    let on_link = facts.addresses.iter().any(|net| net.contains(&sender)) || snapshot.watched.contains(&sender);
    let learn = |evidence| Event::Seen { port, address: sender, mac: Some(arp.sender_mac), evidence };
    if arp.request && arp.sender == arp.target {
        if on_link {
            tell(learn(Evidence::Gratuitous));
        }
        return to_kernel(snapshot, port);
    }
    if arp.request {
        if !answers_for(snapshot, port, IpAddr::V4(arp.target)) {
            return Verdict::Drop(DropReason::ArpUnwanted);
        }
        if on_link {
            tell(learn(Evidence::Request));
        }
        if !packet.buffer.resize(ARP_FRAME) {
            return Verdict::Drop(DropReason::BuffersExhausted);
        }
        return match emit::arp_reply(packet.buffer.bytes_mut(), facts.mac, arp.target, arp.sender_mac, arp.sender) {
            Some(_) => Verdict::Answered(port),
            None => Verdict::Drop(DropReason::ArpUnwanted),
        };
    }
    if !on_link {
        return Verdict::Drop(DropReason::ArpUnwanted);
    }
    // A paired port without an address asks in nobody's name.
    let named = snapshot.own.get(&IpAddr::V4(arp.target)) == Some(&port);
    let to_us = arp.target_mac == facts.mac && (named || arp.target.is_unspecified() && facts.pair.is_some());
    tell(learn(if to_us { Evidence::Reply { solicited: true, replaces: true } } else { Evidence::Gratuitous }));
    to_kernel(snapshot, port)
}

/// Whether an `ICMPv6` type is spoken between neighbors only: router and neighbor discovery, redirect (RFC 4861).
#[must_use]
const fn is_discovery(kind: u8) -> bool {
    matches!(kind, 133..=137)
}

/// Whether a packet is of neighbor discovery.
#[must_use]
pub(crate) fn is_discovery_message(facts: &Facts) -> bool {
    matches!(facts.transport, Transport::Icmp { kind, .. } if facts.protocol == 58 && is_discovery(kind))
}

/// A discovery message from the wire. Routers of this link are configured, not discovered: router messages and redirects
/// are refused.
pub(crate) fn discovery<B: Buffer>(
    snapshot: &Snapshot,
    packet: &mut Packet<B>,
    facts: &Facts,
    tell: &mut dyn FnMut(Event),
) -> Verdict {
    if let Transport::Icmp { kind: 133 | 134 | 137, .. } = facts.transport {
        return Verdict::Drop(DropReason::IcmpUnwanted);
    }
    let Some(message) = neighbor_message(packet.buffer.bytes(), facts) else {
        return Verdict::Drop(DropReason::NeighborDiscoveryInvalid);
    };
    let port = packet.port;
    let Some(own) = snapshot.port(port) else { return Verdict::Drop(DropReason::NeighborDiscoveryInvalid) };
    let source = facts.endpoints.source();
    match message {
        Neighbor::Solicitation { target, source_link } => {
            if is_ours(snapshot, source) {
                tell(Event::Conflict { port, address: source, mac: packet.frame.link.source });
                return Verdict::Drop(DropReason::NeighborDiscoveryInvalid);
            }
            if !answers_for(snapshot, port, IpAddr::V6(target)) {
                return to_kernel(snapshot, port);
            }
            let unspecified = source.is_unspecified();
            if let Some(mac) = source_link
                && !unspecified
            {
                tell(Event::Seen { port, address: source, mac: Some(mac), evidence: Evidence::Request });
            }
            let (destination_mac, destination) = match source {
                IpAddr::V6(asker) if !unspecified => (source_link.unwrap_or(packet.frame.link.source), asker),
                // Whoever asks without an address hears the answer as one of all nodes (RFC 4861 section 7.2.4).
                IpAddr::V4(_) | IpAddr::V6(_) => (MacAddr::ipv6_multicast(ALL_NODES), ALL_NODES),
            };
            if !packet.buffer.resize(ADVERTISEMENT_FRAME) {
                return Verdict::Drop(DropReason::BuffersExhausted);
            }
            let written = emit::neighbor_advertisement(
                packet.buffer.bytes_mut(),
                own.mac,
                target,
                destination_mac,
                destination,
                !unspecified,
            );
            match written {
                Some(len) if packet.buffer.resize(len) => Verdict::Answered(port),
                Some(_) | None => Verdict::Drop(DropReason::NeighborDiscoveryInvalid),
            }
        }
        Neighbor::Advertisement { target, link, solicited, replaces, .. } => {
            let address = IpAddr::V6(target);
            if is_ours(snapshot, address) {
                let mac = link.unwrap_or(packet.frame.link.source);
                if mac != own.mac {
                    tell(Event::Conflict { port, address, mac });
                }
                return Verdict::Drop(DropReason::NeighborDiscoveryInvalid);
            }
            let evidence = Evidence::Reply { solicited, replaces };
            tell(Event::Seen { port, address, mac: link, evidence });
            to_kernel(snapshot, port)
        }
    }
}

/// All nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a packet to many stations is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// One station.
    One,
    /// The stations of this link: routing protocols, discovery.
    Link,
    /// More than this link, or everyone.
    Many,
}

/// Who a destination address means.
#[must_use]
pub(crate) fn audience(snapshot: &Snapshot, destination: IpAddr) -> Audience {
    match destination {
        IpAddr::V4(v4) if v4.is_multicast() => {
            if v4.octets().starts_with(&[224, 0, 0]) {
                Audience::Link
            } else {
                Audience::Many
            }
        }
        IpAddr::V4(v4) if snapshot.is_broadcast(v4) => Audience::Many,
        IpAddr::V6(v6) if v6.is_multicast() => {
            // Scope 2 is the link (RFC 4291 section 2.7).
            if v6.octets().get(1).is_some_and(|byte| byte & 0x0f == 2) { Audience::Link } else { Audience::Many }
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Audience::One,
    }
}
