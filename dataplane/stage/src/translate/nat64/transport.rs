//! TCP, UDP and ICMP echo of one version as the other has them (RFC 7915 sections 4.2, 4.5, 5.2 and 5.5): ports, identifiers and
//! checksums, where they stand in the frame. Checksums are carried over by what changed (RFC 1624), so a packet that came
//! damaged goes on damaged; only UDP without checksum, which IPv6 does not know, gets one.

use std::net::{Ipv4Addr, Ipv6Addr};

use wire::{Endpoints, Facts, Transport, checksum};

use super::{ICMP, ICMPV6};
use crate::translate::NewEndpoints;

/// Where the checksum is in the headers of TCP, UDP and ICMP, behind the ports (or type, code and checksum).
const TCP_CHECKSUM: usize = 12;
const UDP_CHECKSUM: usize = 2;

/// What a datagram's checksum covers beyond the frame it begins in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of the whole transport, header and payload, in all fragments.
    pub len: u16,
    /// The sum of what lies in later fragments (`wire::checksum::sum`).
    pub rest: u32,
}

/// Echo request and reply of the two ICMPs.
const ECHO: [(u8, u8); 2] = [(8, 128), (0, 129)];

pub(super) fn echo_to_v6(kind: u8) -> Option<u8> {
    ECHO.iter().find(|(v4, _)| *v4 == kind).map(|(_, v6)| *v6)
}

pub(super) fn echo_to_v4(kind: u8) -> Option<u8> {
    ECHO.iter().find(|(_, v6)| *v6 == kind).map(|(v4, _)| *v4)
}

/// What addresses of one version as those of the other do to a checksum that covers them.
pub(super) fn pseudo_delta(old: &Endpoints, new: &Endpoints) -> u16 {
    checksum::combine(
        checksum::delta_address(old.source(), new.source()),
        checksum::delta_address(old.destination(), new.destination()),
    )
}

/// Makes the transport of an IPv6 packet the one of an IPv4 packet with these endpoints. `None`, and nothing of use written,
/// when it is not what NAT64 translates, or the frame is not as `facts` say.
#[must_use]
pub fn transport_to_v4(frame: &mut [u8], facts: &Facts, to: &NewEndpoints<Ipv4Addr>, segment: Segment) -> Option<()> {
    let Endpoints::V6 { source, destination } = facts.endpoints else { return None };
    let new = Endpoints::V4 { source: to.source, destination: to.destination };
    let bytes = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end))?;
    match facts.transport {
        Transport::Tcp(_) | Transport::Udp { .. } => {
            let pseudo = pseudo_delta(&facts.endpoints, &new);
            rewrite_ports(bytes, facts.protocol, (to.source_port, to.destination_port), pseudo)
        }
        Transport::Echo { .. } if facts.protocol == ICMPV6 => {
            // ICMPv4 has no pseudo header.
            let covered = checksum::fold(checksum::pseudo_v6(source, destination, ICMPV6, segment.len));
            let kind = echo_to_v4(*bytes.first()?)?;
            rewrite_echo(bytes, kind, to.source_port, checksum::delta(&[covered], &[0]))
        }
        _ => None,
    }
}

/// As [`transport_to_v4`], the other way.
#[must_use]
pub fn transport_to_v6(frame: &mut [u8], facts: &Facts, to: &NewEndpoints<Ipv6Addr>, segment: Segment) -> Option<()> {
    let new = Endpoints::V6 { source: to.source, destination: to.destination };
    if facts.endpoints.is_v6() {
        return None;
    }
    let bytes = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end))?;
    match facts.transport {
        Transport::Udp { no_checksum: true, .. } => {
            let ports = [to.source_port.to_be_bytes(), to.destination_port.to_be_bytes()];
            bytes.get_mut(..4)?.copy_from_slice(ports.as_flattened());
            let covered = checksum::pseudo_v6(to.source, to.destination, facts.protocol, segment.len);
            let sum = covered.saturating_add(checksum::sum(bytes)).saturating_add(segment.rest);
            let sum = checksum::or_ones(checksum::finish(sum));
            bytes.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
            Some(())
        }
        Transport::Tcp(_) | Transport::Udp { .. } => {
            let pseudo = pseudo_delta(&facts.endpoints, &new);
            rewrite_ports(bytes, facts.protocol, (to.source_port, to.destination_port), pseudo)
        }
        Transport::Echo { .. } if facts.protocol == ICMP => {
            let covered = checksum::fold(checksum::pseudo_v6(to.source, to.destination, ICMPV6, segment.len));
            let kind = echo_to_v6(*bytes.first()?)?;
            rewrite_echo(bytes, kind, to.source_port, checksum::delta(&[0], &[covered]))
        }
        _ => None,
    }
}

/// Gives the beginning of a transport other ports, and carries `pseudo` into its checksum as far as that is there. `None`
/// when not even the ports are.
pub(super) fn rewrite_ports(bytes: &mut [u8], protocol: u8, ports: (u16, u16), pseudo: u16) -> Option<()> {
    let place = match protocol {
        6 => TCP_CHECKSUM,
        17 => UDP_CHECKSUM,
        _ => return None,
    };
    let [s0, s1, d0, d1, rest @ ..] = bytes else { return None };
    let old = [u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])];
    [*s0, *s1] = ports.0.to_be_bytes();
    [*d0, *d1] = ports.1.to_be_bytes();
    let delta = checksum::combine(pseudo, checksum::delta(&old, &[ports.0, ports.1]));
    if let Some([c0, c1]) = rest.get_mut(place..place + 2) {
        let sum = u16::from_be_bytes([*c0, *c1]);
        let sum = if protocol == 17 { checksum::update_udp(sum, delta) } else { checksum::update(sum, delta) };
        [*c0, *c1] = sum.to_be_bytes();
    }
    Some(())
}

/// Gives the beginning of an echo another type and identifier, and carries them and `pseudo` into its checksum.
pub(super) fn rewrite_echo(bytes: &mut [u8], kind: u8, identifier: u16, pseudo: u16) -> Option<()> {
    let [old_kind, code, c0, c1, i0, i1, ..] = bytes else { return None };
    let old = [u16::from_be_bytes([*old_kind, *code]), u16::from_be_bytes([*i0, *i1])];
    *old_kind = kind;
    [*i0, *i1] = identifier.to_be_bytes();
    let new = [u16::from_be_bytes([kind, *code]), identifier];
    let delta = checksum::combine(pseudo, checksum::delta(&old, &new));
    [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    Some(())
}
