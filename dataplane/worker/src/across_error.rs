//! ICMP errors about packets of NAT64's sessions, from one IP version to the other with the packet they quote (RFC 7915 sections
//! 4.2, 4.3, 5.2 and 5.3). They are believed like errors of other sessions: only from where the quoted packet went, only about
//! what was sent, and so many a second ([`icmp`](crate::icmp)).

use std::net::{IpAddr, Ipv6Addr};

use frame::Buffer;
use session::{Direction, Slot};
use stage::DropReason;
use stage::translate::nat64::{self, Mtus};
use units::PortId;
use wire::emit::IcmpErrorKind;
use wire::{Facts, MacAddr, Quote, QuotedTransport};

use crate::across::{as_kept, ends_v4};
use crate::act::set_macs;
use crate::family::{Family, ends};
use crate::flow::Flow;
use crate::icmp::quotes_what_goes;
use crate::packet::{Answer, Packet, Verdict};
use crate::shard::Shard;

impl<B: Buffer> Shard<B> {
    /// Treats an IPv4 error about a packet that NAT64 has sent; `None` when it is about none. The error comes from the address
    /// that its sender has behind the prefix, so that the path shows in traceroute.
    pub(crate) fn error_from_v4(&mut self, packet: &mut Packet<B>, facts: &Facts, quote: &Quote) -> Option<Verdict> {
        if self.snapshot.nat64.is_empty() {
            return None;
        }
        let Some(Flow::V4(kind, tuple)) = Flow::against(quote) else { return None };
        let (asked, table) = (as_kept(&tuple), &self.sessions.v6);
        let (slot, direction) = table.lookup(table.hash(kind, &asked), kind, &asked)?;
        Some(self.bring_error(packet, (facts, quote), slot, direction))
    }

    fn bring_error(
        &mut self,
        packet: &mut Packet<B>,
        (facts, quote): (&Facts, &Quote),
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        const UNMATCHED: Verdict = Verdict::Drop(DropReason::IcmpErrorUnmatched);
        if self.sessions.v6.session(slot).generation() != self.snapshot.generation.short()
            && let Err(verdict) = self.judge_again::<Ipv6Addr>(slot)
        {
            return verdict;
        }
        if !quotes_what_goes(quote, direction.opposite()) {
            return UNMATCHED;
        }
        let session = self.sessions.v6.session(slot);
        if let QuotedTransport::Ports { sequence, .. } = quote.transport
            && !session.has_sent(direction.opposite(), sequence)
        {
            return UNMATCHED;
        }
        let restored = ends(&session.tuple(direction.opposite()));
        let IpAddr::V4(router) = facts.endpoints.source() else { return UNMATCHED };
        let there = self.hop_beside::<Ipv6Addr>(slot, direction.opposite());
        if !self.comes_from_beyond(packet.port, router.into(), there) {
            return UNMATCHED;
        }
        if !self.error_limit.passes(slot, true, self.tick) {
            return Verdict::Drop(DropReason::IcmpErrorsLimited);
        }
        if facts.hop_limit <= 1 {
            return Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded));
        }
        let Some(rule) = self.snapshot.nat64.behind(restored.destination.into()) else { return UNMATCHED };
        let router = rule.prefix.embed(router);
        let hop = self.hop_of::<Ipv6Addr>(slot, direction);
        let Ok((port, mac, ready)) = self.way_out(hop) else { return Verdict::Drop(DropReason::NeighborUnresolved) };
        let mtus = Mtus { v4: self.mtu(packet.port), v6: self.mtu(port) };
        // The message in one piece: whoever sends one in fragments quotes more than anybody may (RFC 1812 section 4.3.2.3).
        if packet.rest.is_some() {
            return Verdict::Drop(DropReason::IcmpUnwanted);
        }
        let grown = nat64::error_growth(quote);
        let Some(bytes) = packet.buffer.prepend(grown) else { return Verdict::Drop(DropReason::BuffersExhausted) };
        let kept = nat64::error_to_v6(bytes, grown, (facts, quote), (router, restored.source), &restored, mtus);
        let Some(kept) = kept else { return Verdict::Drop(DropReason::IcmpUnwanted) };
        self.cut_and_leave(packet, kept, port, mac);
        if ready { Verdict::Forward(port) } else { Verdict::Hold(hop) }
    }

    /// Sends an IPv6 error about a packet that NAT64 has brought, believed already, on to whoever sent that packet in IPv4. An
    /// IPv6 router has no IPv4 address: the error comes from the one that stands for the client.
    pub(crate) fn error_as_v4<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        (facts, quote): (&Facts, &Quote),
        slot: Slot,
        direction: Direction,
    ) -> Verdict {
        let restored = ends_v4(&A::table(&self.sessions).session(slot).tuple(direction.opposite()));
        let Some(restored) = restored else { return Verdict::Drop(DropReason::IcmpErrorUnmatched) };
        if facts.hop_limit <= 1 {
            return Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded));
        }
        let hop = self.hop_beside::<A>(slot, direction);
        let Ok((port, mac, ready)) = self.way_out(hop) else { return Verdict::Drop(DropReason::NeighborUnresolved) };
        if packet.rest.is_some() {
            return Verdict::Drop(DropReason::IcmpUnwanted);
        }
        let mtus = Mtus { v4: self.mtu(port), v6: self.mtu(packet.port) };
        let identification = self.dice.roll_short();
        let outer = (restored.destination, restored.source);
        let bytes = packet.buffer.bytes_mut();
        let kept = nat64::error_to_v4(bytes, (facts, quote), outer, &restored, mtus, identification);
        let Some(kept) = kept else { return Verdict::Drop(DropReason::IcmpUnwanted) };
        self.cut_and_leave(packet, kept, port, mac);
        if ready { Verdict::Forward(port) } else { Verdict::Hold(hop) }
    }

    /// Takes off what a translated message no longer has, and writes its MACs.
    fn cut_and_leave(&self, packet: &mut Packet<B>, (cut, end): (usize, usize), port: PortId, mac: MacAddr) {
        packet.buffer.resize(end);
        packet.buffer.trim_front(cut);
        let source = self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac);
        set_macs(packet.buffer.bytes_mut(), mac, source);
    }
}
