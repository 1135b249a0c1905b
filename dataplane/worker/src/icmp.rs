//! ICMP errors: each is tied to the session whose packet it quotes, and crosses the translation of that session in the
//! opposite sense, outside and inside. An error about a packet of no session is dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use frame::Buffer;
use session::{Direction, Kind, Slot, Table, Traffic, Tuple};
use stage::DropReason;
use stage::translate::{NewEndpoints, Toward, outer_addresses, rewrite_error_v4, rewrite_error_v6};
use units::{PortId, TenantId};
use wire::emit::IcmpErrorKind;
use wire::{Facts, Quote, QuotedTransport, Transport, icmpv4, icmpv6};

use crate::binding::BindingId;
use crate::family::{Family, ends};
use crate::flow::Flow;
use crate::local::is_ours;
use crate::next_hop::NextHopId;
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::shard::Shard;

/// A family whose ICMP errors can be translated.
pub(crate) trait ErrorFamily: Family {
    /// Rewrites an error; see `stage::translate::icmp_error`.
    fn rewrite_error(
        frame: &mut [u8],
        facts: &Facts,
        quote: &Quote,
        outer: (Self, Self),
        restored: &NewEndpoints<Self>,
    ) -> bool;
}

impl ErrorFamily for Ipv4Addr {
    fn rewrite_error(
        frame: &mut [u8],
        facts: &Facts,
        quote: &Quote,
        outer: (Self, Self),
        restored: &NewEndpoints<Self>,
    ) -> bool {
        rewrite_error_v4(frame, facts, quote, outer, restored)
    }
}

impl ErrorFamily for Ipv6Addr {
    fn rewrite_error(
        frame: &mut [u8],
        facts: &Facts,
        quote: &Quote,
        outer: (Self, Self),
        restored: &NewEndpoints<Self>,
    ) -> bool {
        rewrite_error_v6(frame, facts, quote, outer, restored)
    }
}

/// Path MTUs below these are not believed (EVA-23): the least that IPv4 hosts in use are known to have, as other systems
/// take it, and the least there is in IPv6 (RFC 8200 section 5, RFC 8201 section 4).
const MTU_FLOOR_V4: u32 = 552;
const MTU_FLOOR_V6: u32 = 1_280;

/// Whether the error says that a packet was too large for a link that is smaller than links are. An IPv4 router that names no
/// MTU (RFC 1191 section 5) is not believed either.
fn claims_a_tiny_link(frame: &[u8], facts: &Facts) -> bool {
    let Transport::IcmpError { kind, code, .. } = facts.transport else { return false };
    let field = frame.get(usize::from(facts.transport_offset) + 4..).and_then(<[u8]>::first_chunk::<4>);
    let Some(&[a, b, c, d]) = field else { return true };
    if facts.endpoints.is_v6() {
        kind == icmpv6::PACKET_TOO_BIG && u32::from_be_bytes([a, b, c, d]) < MTU_FLOOR_V6
    } else {
        kind == icmpv4::UNREACHABLE
            && code == icmpv4::FRAGMENTATION_NEEDED
            && u32::from_be_bytes([0, 0, c, d]) < MTU_FLOOR_V4
    }
}

/// Nobody sends it, and nobody acts on it (RFC 6633).
fn is_source_quench(facts: &Facts) -> bool {
    !facts.endpoints.is_v6() && matches!(facts.transport, Transport::IcmpError { kind: icmpv4::SOURCE_QUENCH, .. })
}

fn find<A: Family>(table: &Table<A>, tenant: TenantId, kind: Kind, tuple: &Tuple<A>) -> Option<(Slot, Direction)> {
    table.lookup_in(tenant, table.hash_in(tenant, kind, tuple), kind, tuple)
}

impl<B: Buffer> Shard<B> {
    /// Treats an ICMP error from the wire.
    pub(crate) fn icmp_error(&mut self, packet: &mut Packet<B>, facts: &Facts, quote: &Quote) -> Verdict {
        if is_source_quench(facts) {
            return Verdict::Drop(DropReason::IcmpUnwanted);
        }
        // An error goes to whoever sent the packet it quotes, and to nobody else.
        if facts.endpoints.destination() != quote.endpoints.source() {
            return Verdict::Drop(DropReason::IcmpErrorUnmatched);
        }
        let tenant = self.snapshot.tenant_of(packet);
        // Tunnels, tiers and NAT64 are for what is routed: a tenant speaks of other packets by the same addresses.
        if tenant == TenantId::NONE
            && let Some(verdict) = self.tunnel_error(packet, facts, quote)
        {
            return verdict;
        }
        if claims_a_tiny_link(packet.buffer.bytes(), facts) {
            return Verdict::Drop(DropReason::IcmpMtuFloor);
        }
        if tenant == TenantId::NONE
            && let Some(verdict) = self.error_from_tier(packet, facts, quote)
        {
            return verdict;
        }
        if packet.frame.link.tags > 0 && packet.origin == Origin::Wire {
            return Verdict::Drop(DropReason::IcmpErrorUnmatched);
        }
        // What the quoted packet's answer would look like here is what the error travels with.
        let found = match Flow::against(quote) {
            Some(Flow::V4(kind, tuple)) if !facts.endpoints.is_v6() => find(&self.sessions.v4, tenant, kind, &tuple)
                .map(|(slot, way)| self.cross::<Ipv4Addr>(packet, facts, quote, slot, way)),
            Some(Flow::V6(kind, tuple)) if facts.endpoints.is_v6() => find(&self.sessions.v6, tenant, kind, &tuple)
                .map(|(slot, way)| self.cross::<Ipv6Addr>(packet, facts, quote, slot, way)),
            Some(_) | None => None,
        };
        let found = match found {
            None if tenant == TenantId::NONE => self.error_from_v4(packet, facts, quote),
            found => found,
        };
        found.unwrap_or(Verdict::Drop(DropReason::IcmpErrorUnmatched))
    }

    /// Whether an error that came by `port` from `source` can be about a packet that was sent on over `way`: only where the
    /// packet went is there somebody it met (RFC 5927 section 4.2 in spirit). Zones are compared, not ports, since the way
    /// back need not be the way there; and nobody there has an address that is ours or another zone's.
    pub(crate) fn comes_from_beyond(&self, port: PortId, source: IpAddr, way: NextHopId) -> bool {
        let arrived = self.snapshot.zone(port);
        let went = self.next_hops.port(way).map(|port| self.snapshot.zone(port));
        let lives = self.snapshot.routes.lookup(source).map(|route| self.snapshot.zone(route.port));
        went.is_none_or(|zone| zone == arrived)
            && lives.is_none_or(|zone| zone == arrived)
            && !is_ours(&self.snapshot, source)
    }

    fn cross<A: ErrorFamily>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        quote: &Quote,
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        let session = A::table(&self.sessions).session(slot);
        if session.generation() != self.snapshot.generation.short()
            && let Err(verdict) = self.judge_again::<A>(slot)
        {
            return verdict;
        }
        let session = A::table(&self.sessions).session(slot);
        let shift = self.shift_of::<A>(slot);
        let toward = if direction == Direction::Original { Toward::Backend } else { Toward::Client };
        if !quotes_what_goes(quote, direction.opposite()) {
            return Verdict::Drop(DropReason::IcmpErrorUnmatched);
        }
        if let QuotedTransport::Ports { sequence, .. } = quote.transport {
            let by_client = shift.filter(|_| toward == Toward::Backend);
            let sequence = by_client.map_or(sequence, |shift| shift.as_backend_counts(sequence));
            if !session.has_sent(direction.opposite(), sequence) {
                return Verdict::Drop(DropReason::IcmpErrorUnmatched);
            }
        }
        let quoted_way = self.hop_of::<A>(slot, direction.opposite());
        let beyond = if packet.origin == Origin::InLine || quoted_way.is_through() {
            self.is_of_the_same_way(packet, session) && self.comes_back::<A>(packet.port, slot, direction)
        } else {
            self.comes_from_beyond(packet.port, facts.endpoints.source(), quoted_way)
        };
        if !beyond {
            return Verdict::Drop(DropReason::IcmpErrorUnmatched);
        }
        if !self.error_limit.passes(slot, facts.endpoints.is_v6(), self.tick) {
            return Verdict::Drop(DropReason::IcmpErrorsLimited);
        }
        let session = A::table(&self.sessions).session(slot);
        let hop = self.hop_of::<A>(slot, direction);
        let quoted = ends(&session.tuple(direction).reversed());
        let restored = ends(&session.tuple(direction.opposite()));
        let translated = session.is_translated();
        let binding = BindingId::new(session.binding());
        match hop {
            NextHopId::KERNEL => return Verdict::Punt(packet.port),
            NextHopId::NONE => return Verdict::Drop(DropReason::IcmpErrorUnmatched),
            NextHopId::ACROSS => return self.error_as_v4::<A>(packet, (facts, quote), slot, direction),
            _ => {}
        }
        if hop.is_through() {
            return self.error_through::<A>(packet, facts, quote, slot, direction);
        }
        if facts.hop_limit <= 1 {
            return Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded));
        }
        let (port, mac, ready) = match self.way_over(hop) {
            Ok(way) => way,
            Err(reason) => return Verdict::Drop(reason),
        };
        if let Some(verdict) = self.too_big(packet, facts, port) {
            return verdict;
        }
        let len = u64::from(packet.len(facts));
        let bytes = packet.buffer.bytes_mut();
        if translated {
            let Some(source) = A::from_ip(facts.endpoints.source()) else {
                return Verdict::Drop(DropReason::IcmpErrorUnmatched);
            };
            let outer = outer_addresses(source, &quoted, &restored);
            if !A::rewrite_error(bytes, facts, quote, outer, &restored) {
                return Verdict::Drop(DropReason::IcmpErrorUnmatched);
            }
        }
        if let Some(shift) = shift
            && !shift.apply_to_quote(bytes, facts, quote, toward)
        {
            return Verdict::Drop(DropReason::IcmpErrorUnmatched);
        }
        self.bindings.count(binding, Traffic { packets: 1, bytes: len });
        self.leave(bytes, facts, port, mac);
        if ready { Verdict::Forward(port) } else { Verdict::Hold(hop) }
    }
}

/// Whether what an error quotes can have been sent in this direction: of a ping only the question goes in the opener's, and only the
/// answer in the other (EVA-22).
pub(crate) fn quotes_what_goes(quote: &Quote, direction: Direction) -> bool {
    match quote.transport {
        QuotedTransport::Echo { request, .. } => request == (direction == Direction::Original),
        QuotedTransport::Ports { .. } | QuotedTransport::Other => true,
    }
}
