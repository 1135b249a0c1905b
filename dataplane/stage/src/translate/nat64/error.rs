//! ICMP errors from one version to the other, with the packet they quote translated as well (RFC 7915 sections 4.2, 4.3, 5.2 and
//! 5.3), so that its sender recognises it. Types, codes and pointers that have no counterpart are not sent on. The
//! message's own checksum is made anew, since almost every byte of its headers changed.

use std::net::{Ipv4Addr, Ipv6Addr};

use wire::{Endpoints, Facts, Quote, QuotedTransport, checksum};

use super::header::{Cutting, class_v6, header_v4, header_v6, write_ethernet};
use super::transport::{echo_to_v4, echo_to_v6, pseudo_delta, rewrite_echo, rewrite_ports};
use super::{ETHERNET, ICMP, ICMPV6, IPV4, IPV6, LONGER, MTU_V6_MIN, protocol_to_v4, protocol_to_v6};
use crate::translate::NewEndpoints;

/// Bytes of an ICMP header of either version.
const HEADER: usize = 8;
/// Bytes of the largest error: what every link takes (RFC 4443 section 2.4 (c)), and what every host takes (RFC 1812 section
/// 4.3.2.3).
const ERROR_V6_MAX: usize = 1_280;
const ERROR_V4_MAX: usize = 576;
/// The fewest bytes that errors with an extension quote (RFC 4884 section 3).
const EXTENDED_QUOTE_MIN: usize = 128;

/// The largest packets the two sides of the translator take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtus {
    /// On the way to the IPv4 side.
    pub v4: u16,
    /// On the way to the IPv6 side.
    pub v6: u16,
}

/// Type, code and the four bytes behind the checksum.
type Message = (u8, u8, u32);

/// An IPv4 error's type, code and rest as IPv6 has it (RFC 7915 section 4.2).
fn message_to_v6(kind: u8, code: u8, rest: u32, mtus: Mtus) -> Option<Message> {
    let pointer = |rest: u32| {
        Some(match rest >> 24 {
            0 => 0,
            1 => 1,
            2 | 3 => 4,
            8 => 7,
            9 => 6,
            12..=15 => 8,
            16..=19 => 24,
            _ => return None,
        })
    };
    Some(match (kind, code) {
        (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => (1, 0, 0),
        // Protocol unreachable: IPv6 points at the next header field.
        (3, 2) => (4, 1, 6),
        (3, 3) => (1, 4, 0),
        (3, 4) => {
            let told = rest & 0xffff;
            let (least, longer) = (u32::from(MTU_V6_MIN), u32::from(LONGER));
            // A router that tells none (RFC 1191 section 5): what every link takes.
            let told = if told == 0 { least } else { told + longer };
            let most = u32::from(mtus.v6).min(u32::from(mtus.v4) + longer);
            (2, 0, told.min(most).max(least))
        }
        (3, 9 | 10 | 13 | 15) => (1, 1, 0),
        (11, code) => (3, code, 0),
        (12, 0 | 2) => (4, 0, pointer(rest)?),
        _ => return None,
    })
}

/// An IPv6 error's type, code and rest as IPv4 has it (RFC 7915 section 5.2).
fn message_to_v4(kind: u8, code: u8, rest: u32, mtus: Mtus) -> Option<Message> {
    let pointer = |rest: u32| {
        Some(match rest {
            0 => 0,
            1 => 1,
            4 | 5 => 2,
            6 => 9,
            7 => 8,
            8..=23 => 12,
            24..=39 => 16,
            _ => return None,
        })
    };
    Some(match (kind, code) {
        (1, 0 | 2 | 3) => (3, 1, 0),
        (1, 1) => (3, 10, 0),
        (1, 4) => (3, 3, 0),
        (2, _) => {
            let longer = u32::from(LONGER);
            let most = u32::from(mtus.v4).min(u32::from(mtus.v6).saturating_sub(longer));
            (3, 4, rest.saturating_sub(longer).min(most))
        }
        (3, code) => (11, code, 0),
        (4, 0) => (12, 0, pointer(rest)? << 24),
        (4, 1) => (3, 2, 0),
        _ => return None,
    })
}

/// Where the quoted bytes end: before what an extended error adds behind them (RFC 4884), whose length is not carried over. One
/// that says it quotes less than every extended error does is none (section 4.4 to 4.6).
fn quote_end(facts: &Facts, quote: &Quote, kind: u8, words: u8, word_bytes: usize, extended: &[u8]) -> usize {
    let all = usize::from(facts.end);
    let quoted = usize::from(words) * word_bytes;
    if quoted < EXTENDED_QUOTE_MIN || !extended.contains(&kind) {
        return all;
    }
    all.min(usize::from(quote.network) + quoted)
}

/// Bytes a frame has to grow in front before [`error_to_v6`] writes into it.
#[must_use]
pub fn error_growth(quote: &Quote) -> usize {
    (ETHERNET + IPV6 + HEADER + IPV6).saturating_sub(usize::from(quote.transport_offset))
}

/// Makes an IPv4 error an IPv6 one: `outer` are its new source and destination, `restored` the quoted packet's ends as its
/// sender wrote them. The frame has grown in front by `grown` bytes since `facts` were read. Returns how many bytes at
/// the front no longer belong to it and where it ends; `None` when it has no counterpart or the frame is not as told.
#[must_use]
pub fn error_to_v6(
    frame: &mut [u8],
    grown: usize,
    (facts, quote): (&Facts, &Quote),
    outer: (Ipv6Addr, Ipv6Addr),
    restored: &NewEndpoints<Ipv6Addr>,
    mtus: Mtus,
) -> Option<(usize, usize)> {
    let new = Endpoints::V6 { source: restored.source, destination: restored.destination };
    if quote.endpoints.is_v6() {
        return None;
    }
    let at = |offset: u16| grown + usize::from(offset);
    let [kind, code, _, _, rest @ ..] = *frame.get(at(facts.transport_offset)..)?.first_chunk::<HEADER>()?;
    let (kind6, code6, rest6) = message_to_v6(kind, code, u32::from_be_bytes(rest), mtus)?;
    let end = grown + quote_end(facts, quote, kind, rest[1], 4, &[3, 11, 12]);
    let class = *frame.get(at(facts.network) + 1)?;
    let [_, inner_class, l0, l1, _, _, _, _, ttl, protocol, ..] =
        *frame.get(at(quote.network)..)?.first_chunk::<20>()?;
    let transport = at(quote.transport_offset);
    let begin = transport.checked_sub(IPV6 + HEADER + IPV6 + ETHERNET)?;
    let end = end.min(begin + ETHERNET + ERROR_V6_MAX);
    let promised = u16::from_be_bytes([l0, l1]).checked_sub(quote.transport_offset - quote.network)?;
    let segment = frame.get_mut(transport..end)?;
    let pseudo = pseudo_delta(&quote.endpoints, &new);
    match quote.transport {
        QuotedTransport::Ports { .. } => {
            rewrite_ports(segment, protocol, (restored.source_port, restored.destination_port), pseudo)?;
        }
        QuotedTransport::Echo { .. } if protocol == ICMP => {
            let covered = checksum::fold(checksum::pseudo_v6(restored.source, restored.destination, ICMPV6, promised));
            let kind = echo_to_v6(*segment.first()?)?;
            rewrite_echo(segment, kind, restored.source_port, checksum::delta(&[0], &[covered]))?;
        }
        _ => return None,
    }
    let ends = (restored.source, restored.destination);
    let inner = header_v6(inner_class, promised, ttl, protocol_to_v6(protocol), ends);
    frame.get_mut(transport - IPV6..transport)?.copy_from_slice(&inner);
    let message = begin + ETHERNET + IPV6;
    let length = u16::try_from(end - message).ok()?;
    write_message(frame.get_mut(message..end)?, (kind6, code6, rest6), |bytes| {
        checksum::finish(checksum::pseudo_v6(outer.0, outer.1, ICMPV6, length) + checksum::sum(bytes))
    })?;
    let header = header_v6(class, length, facts.hop_limit.checked_sub(1)?, ICMPV6, outer);
    frame.get_mut(message - IPV6..message)?.copy_from_slice(&header);
    write_ethernet(frame.get_mut(begin..)?, 0x86dd)?;
    Some((begin, end))
}

/// Makes an IPv6 error an IPv4 one; otherwise as [`error_to_v6`], in a frame that has not grown.
#[must_use]
pub fn error_to_v4(
    frame: &mut [u8],
    (facts, quote): (&Facts, &Quote),
    outer: (Ipv4Addr, Ipv4Addr),
    restored: &NewEndpoints<Ipv4Addr>,
    mtus: Mtus,
    identification: u16,
) -> Option<(usize, usize)> {
    let Endpoints::V6 { source, destination } = quote.endpoints else { return None };
    let new = Endpoints::V4 { source: restored.source, destination: restored.destination };
    let at = usize::from;
    let [kind, code, _, _, rest @ ..] = *frame.get(at(facts.transport_offset)..)?.first_chunk::<HEADER>()?;
    let (kind4, code4, rest4) = message_to_v4(kind, code, u32::from_be_bytes(rest), mtus)?;
    let end = quote_end(facts, quote, kind, rest[0], 8, &[1, 3]);
    let class = class_v6(frame.get(at(facts.network)..)?)?;
    let inner = frame.get(at(quote.network)..)?.first_chunk::<IPV6>()?;
    let (inner_class, hop_limit) = (class_v6(inner)?, inner[7]);
    let whole = usize::from(u16::from_be_bytes([inner[4], inner[5]])) + IPV6;
    let extensions = usize::from(quote.transport_offset - quote.network);
    let promised = u16::try_from(whole.checked_sub(extensions)? + IPV4).ok()?;
    let transport = at(quote.transport_offset);
    let begin = transport.checked_sub(IPV4 + HEADER + IPV4 + ETHERNET)?;
    let end = end.min(begin + ETHERNET + ERROR_V4_MAX);
    let segment = frame.get_mut(transport..end)?;
    let pseudo = pseudo_delta(&quote.endpoints, &new);
    match quote.transport {
        QuotedTransport::Ports { .. } => {
            rewrite_ports(segment, quote.protocol, (restored.source_port, restored.destination_port), pseudo)?;
        }
        QuotedTransport::Echo { .. } if quote.protocol == ICMPV6 => {
            let payload = promised - 20;
            let covered = checksum::fold(checksum::pseudo_v6(source, destination, ICMPV6, payload));
            let kind = echo_to_v4(*segment.first()?)?;
            rewrite_echo(segment, kind, restored.source_port, checksum::delta(&[covered], &[0]))?;
        }
        _ => return None,
    }
    let (ends, protocol) = ((restored.source, restored.destination), protocol_to_v4(quote.protocol));
    let inner = header_v4(inner_class, promised, Cutting::whole(0, true), hop_limit, protocol, ends);
    frame.get_mut(transport - IPV4..transport)?.copy_from_slice(&inner);
    let message = begin + ETHERNET + IPV4;
    let length = u16::try_from(end - message + IPV4).ok()?;
    write_message(frame.get_mut(message..end)?, (kind4, code4, rest4), checksum::plain)?;
    let ttl = facts.hop_limit.checked_sub(1)?;
    let header = header_v4(class, length, Cutting::whole(identification, false), ttl, ICMP, outer);
    frame.get_mut(message - IPV4..message)?.copy_from_slice(&header);
    write_ethernet(frame.get_mut(begin..)?, 0x0800)?;
    Some((begin, end))
}

/// Writes an ICMP header, with the checksum `sum` finds over the whole message.
fn write_message(message: &mut [u8], (kind, code, rest): Message, sum: impl Fn(&[u8]) -> u16) -> Option<()> {
    let [r0, r1, r2, r3] = rest.to_be_bytes();
    *message.first_chunk_mut::<HEADER>()? = [kind, code, 0, 0, r0, r1, r2, r3];
    let [c0, c1] = sum(message).to_be_bytes();
    message.get_mut(2..4)?.copy_from_slice(&[c0, c1]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTUS: Mtus = Mtus { v4: 1_500, v6: 1_500 };

    /// RFC 7915 section 4.2, every line.
    #[test]
    fn ipv4_errors_have_these_counterparts() {
        for code in 0..=16 {
            let wanted = match code {
                0 | 1 | 5 | 6 | 7 | 8 | 11 | 12 => Some((1, 0, 0)),
                2 => Some((4, 1, 6)),
                3 => Some((1, 4, 0)),
                4 => Some((2, 0, 1_280)),
                9 | 10 | 13 | 15 => Some((1, 1, 0)),
                _ => None,
            };
            assert_eq!(message_to_v6(3, code, 0, MTUS), wanted, "{code}");
        }
        assert_eq!(message_to_v6(11, 0, 0, MTUS), Some((3, 0, 0)));
        assert_eq!(message_to_v6(11, 1, 0, MTUS), Some((3, 1, 0)));
        for (pointer, wanted) in [(0, 0), (1, 1), (2, 4), (3, 4), (8, 7), (9, 6), (12, 8), (15, 8), (16, 24), (19, 24)]
        {
            assert_eq!(message_to_v6(12, 0, pointer << 24, MTUS), Some((4, 0, wanted)), "{pointer}");
        }
        for pointer in [4, 5, 6, 7, 10, 11, 20, 255] {
            assert_eq!(message_to_v6(12, 0, pointer << 24, MTUS), None, "{pointer}");
        }
        for kind in [4, 5, 6, 12, 13, 40] {
            assert_eq!(message_to_v6(kind, 1, 0, MTUS), None, "{kind}");
        }
    }

    /// RFC 7915 section 5.2, every line.
    #[test]
    fn ipv6_errors_have_these_counterparts() {
        for (code, wanted) in
            [(0, Some(1)), (1, Some(10)), (2, Some(1)), (3, Some(1)), (4, Some(3)), (5, None), (6, None)]
        {
            assert_eq!(message_to_v4(1, code, 0, MTUS), wanted.map(|code| (3, code, 0)), "{code}");
        }
        assert_eq!(message_to_v4(3, 0, 0, MTUS), Some((11, 0, 0)));
        assert_eq!(message_to_v4(4, 1, 6, MTUS), Some((3, 2, 0)));
        for (pointer, wanted) in [(0, 0), (1, 1), (4, 2), (5, 2), (6, 9), (7, 8), (8, 12), (23, 12), (24, 16), (39, 16)]
        {
            assert_eq!(message_to_v4(4, 0, pointer, MTUS), Some((12, 0, wanted << 24)), "{pointer}");
        }
        for pointer in [2, 3, 40, u32::MAX] {
            assert_eq!(message_to_v4(4, 0, pointer, MTUS), None, "{pointer}");
        }
        assert_eq!(message_to_v4(4, 2, 0, MTUS), None);
        assert_eq!(message_to_v4(137, 0, 0, MTUS), None);
    }

    /// The 20 bytes between the headers, and never less than what every IPv6 link takes.
    #[test]
    fn sizes_are_adjusted() {
        let to_v6 = |told, v4, v6| message_to_v6(3, 4, told, Mtus { v4, v6 }).unwrap().2;
        assert_eq!(to_v6(1_400, 1_500, 1_500), 1_420);
        assert_eq!(to_v6(1_500, 1_500, 1_500), 1_500);
        assert_eq!(to_v6(1_400, 1_300, 9_000), 1_320);
        assert_eq!(to_v6(576, 1_500, 1_500), 1_280);
        assert_eq!(to_v6(0, 1_500, 1_500), 1_280);
        let to_v4 = |told, v4, v6| message_to_v4(2, 0, told, Mtus { v4, v6 }).unwrap().2;
        assert_eq!(to_v4(1_400, 1_500, 1_500), 1_380);
        assert_eq!(to_v4(9_000, 1_500, 1_500), 1_480);
        assert_eq!(to_v4(0, 1_500, 1_500), 0);
    }
}
