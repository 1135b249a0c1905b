//! ICMP errors about packets of a translated session (RFC 5508 section 4.2, RFC 792, RFC 4443): the packet they quote is
//! put back to what its sender wrote, so that the sender recognises it. Quoted headers are changed in place; every changed
//! word is carried into the checksums around it (RFC 1624), so an error that came damaged goes on damaged, not mended.
//!
//! Called by workers for errors that [`Quote`] ties to a session. Pure functions of bytes and facts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::{Facts, Quote, QuotedTransport, checksum};

use super::NewEndpoints;

/// Where an error about a quoted packet comes from and goes to after translation. `quoted` are the endpoints of the quoted
/// packet as it is quoted, `restored` as its sender wrote them.
///
/// The error goes to the sender. Its source stays, so that the path shows in traceroute, unless the quoted packet's
/// destination was translated: then the error comes from behind that translation, and shows the address the sender
/// had asked instead of one it should not see (RFC 5508 REQ-5).
#[must_use]
pub fn outer_addresses<A: Copy + PartialEq>(
    error_source: A,
    quoted: &NewEndpoints<A>,
    restored: &NewEndpoints<A>,
) -> (A, A) {
    let hidden = quoted.destination != restored.destination;
    (if hidden { restored.destination } else { error_source }, restored.source)
}

/// Translates an ICMP error: `outer` are its new source and destination, `restored` what the quoted packet's endpoints
/// become. False when the frame is not as `facts` and `quote` say; it is then not to be sent.
#[must_use]
pub fn rewrite_error_v4(
    frame: &mut [u8],
    facts: &Facts,
    quote: &Quote,
    outer: (Ipv4Addr, Ipv4Addr),
    restored: &NewEndpoints<Ipv4Addr>,
) -> bool {
    let Some(mut error) = Error::split(frame, facts, quote) else { return false };
    let Some(inner) = error.inner_network().and_then(<[u8]>::first_chunk_mut::<20>) else { return false };
    let [.., c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = inner;
    let before = [Ipv4Addr::new(*s0, *s1, *s2, *s3), Ipv4Addr::new(*d0, *d1, *d2, *d3)];
    let addresses = checksum::combine(
        checksum::delta_address(IpAddr::V4(before[0]), IpAddr::V4(restored.source)),
        checksum::delta_address(IpAddr::V4(before[1]), IpAddr::V4(restored.destination)),
    );
    [*s0, *s1, *s2, *s3] = restored.source.octets();
    [*d0, *d1, *d2, *d3] = restored.destination.octets();
    let old_sum = u16::from_be_bytes([*c0, *c1]);
    let new_sum = checksum::update(old_sum, addresses);
    [*c0, *c1] = new_sum.to_be_bytes();
    error.changed(addresses);
    error.changed(checksum::delta(&[old_sum], &[new_sum]));
    // ICMPv4 has no pseudo header: an echo's checksum does not cover the addresses.
    let pseudo = if quote.protocol == 1 { UNCHANGED } else { addresses };
    let Some(delta) = error.rewrite_inner_transport(quote, restored.source_port, restored.destination_port, pseudo)
    else {
        return false;
    };
    let Some(header) = frame.get_mut(usize::from(facts.network)..).and_then(<[u8]>::first_chunk_mut::<20>) else {
        return false;
    };
    let [.., c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let outer_delta = checksum::combine(
        checksum::delta_address(IpAddr::V4(Ipv4Addr::new(*s0, *s1, *s2, *s3)), IpAddr::V4(outer.0)),
        checksum::delta_address(IpAddr::V4(Ipv4Addr::new(*d0, *d1, *d2, *d3)), IpAddr::V4(outer.1)),
    );
    [*s0, *s1, *s2, *s3] = outer.0.octets();
    [*d0, *d1, *d2, *d3] = outer.1.octets();
    [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), outer_delta).to_be_bytes();
    update_icmp(frame, facts, delta)
}

/// As [`rewrite_error_v4`], for `ICMPv6`.
#[must_use]
pub fn rewrite_error_v6(
    frame: &mut [u8],
    facts: &Facts,
    quote: &Quote,
    outer: (Ipv6Addr, Ipv6Addr),
    restored: &NewEndpoints<Ipv6Addr>,
) -> bool {
    let Some(mut error) = Error::split(frame, facts, quote) else { return false };
    let Some(inner) = error.inner_network().and_then(<[u8]>::first_chunk_mut::<40>) else { return false };
    let addresses = put_v6(inner, restored.source, restored.destination);
    error.changed(addresses);
    let Some(delta) = error.rewrite_inner_transport(quote, restored.source_port, restored.destination_port, addresses)
    else {
        return false;
    };
    let Some(header) = frame.get_mut(usize::from(facts.network)..).and_then(<[u8]>::first_chunk_mut::<40>) else {
        return false;
    };
    let outer_delta = put_v6(header, outer.0, outer.1);
    update_icmp(frame, facts, checksum::combine(delta, outer_delta))
}

/// Writes both addresses of an IPv6 header; returns what that adds to a sum over them.
fn put_v6(header: &mut [u8; 40], source: Ipv6Addr, destination: Ipv6Addr) -> u16 {
    let (_, addresses) = header.split_at_mut(8);
    let before = checksum::sum(addresses);
    for (place, octet) in addresses.iter_mut().zip(source.octets().into_iter().chain(destination.octets())) {
        *place = octet;
    }
    let after = checksum::sum(addresses);
    checksum::delta(&[checksum::fold(before)], &[checksum::fold(after)])
}

/// Carries what changed in an ICMP message into its own checksum.
fn update_icmp(frame: &mut [u8], facts: &Facts, delta: u16) -> bool {
    let Some([_, _, c0, c1]) = frame.get_mut(usize::from(facts.transport_offset)..).and_then(<[u8]>::first_chunk_mut)
    else {
        return false;
    };
    [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    true
}

/// The delta of no change.
const UNCHANGED: u16 = 0xffff;

/// The quoted packet inside an error, as far as it is quoted, and the sum of what has been changed in it.
struct Error<'a> {
    /// From the quoted IP header to the end of the message.
    quoted: &'a mut [u8],
    /// Where the quoted transport header begins in `quoted`.
    transport: usize,
    delta: u16,
}

impl<'a> Error<'a> {
    fn split(frame: &'a mut [u8], facts: &Facts, quote: &Quote) -> Option<Self> {
        let quoted = frame.get_mut(usize::from(quote.network)..usize::from(facts.end))?;
        let transport = usize::from(quote.transport_offset.checked_sub(quote.network)?);
        // Changed words must lie on even offsets of the message for their deltas to add up; headers of IP always do.
        let even = quote.network.wrapping_sub(facts.transport_offset).is_multiple_of(2) && transport.is_multiple_of(2);
        even.then_some(Self { quoted, transport, delta: UNCHANGED })
    }

    fn inner_network(&mut self) -> Option<&mut [u8]> {
        self.quoted.get_mut(..self.transport)
    }

    fn changed(&mut self, delta: u16) {
        self.delta = checksum::combine(self.delta, delta);
    }

    /// Puts back ports or identifier, and the transport checksum if both its bytes are quoted. Returns the sum of all changes.
    fn rewrite_inner_transport(
        mut self,
        quote: &Quote,
        source_port: u16,
        destination_port: u16,
        pseudo: u16,
    ) -> Option<u16> {
        let (place, new, checksum_at) = match quote.transport {
            QuotedTransport::Ports { .. } => {
                let ports = (u32::from(source_port) << 16) | u32::from(destination_port);
                (0, ports, if quote.protocol == 17 { 6 } else { 16 })
            }
            // Type and code, checksum, identifier, sequence: the identifier alone is put back.
            QuotedTransport::Echo { .. } => (4, u32::from(source_port) << 16, 2),
            QuotedTransport::Other => return Some(self.delta),
        };
        let echo = matches!(quote.transport, QuotedTransport::Echo { .. });
        let bytes = self.quoted.get_mut(self.transport..)?;
        let [a, b, c, d] = bytes.get_mut(place..)?.first_chunk_mut()?;
        let old = [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])];
        let [na, nb, nc, nd] = new.to_be_bytes();
        let [x, y] = if echo { [*c, *d] } else { [nc, nd] };
        [*a, *b, *c, *d] = [na, nb, x, y];
        let ports = checksum::delta(&old, &[u16::from_be_bytes([na, nb]), u16::from_be_bytes([x, y])]);
        let mut delta = checksum::combine(self.delta, ports);
        if let Some([c0, c1]) = bytes.get_mut(checksum_at..).and_then(<[u8]>::first_chunk_mut) {
            let before = u16::from_be_bytes([*c0, *c1]);
            let change = checksum::combine(pseudo, ports);
            let after = if quote.protocol == 17 {
                checksum::update_udp(before, change)
            } else {
                checksum::update(before, change)
            };
            [*c0, *c1] = after.to_be_bytes();
            delta = checksum::combine(delta, checksum::delta(&[before], &[after]));
        }
        self.delta = delta;
        Some(delta)
    }
}
