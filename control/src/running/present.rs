//! What would become of a packet whose session exists. Its first packet has decided everything, until the policy changes: then
//! its next one is judged again, as the opener's first would be today, and that is what is told.
//!
//! Called by [`seeing`](super::seeing), in management.

use stage::DropReason;
use stage::balancer::{Fate, Mode};
use units::{Nanos, PortId};
use wire::{Content, TcpFlags, Transport, Verify, dissect};
use worker::{PortFacts, SessionRecord, Snapshot, TraceRecord};

use crate::status::{TraceStatus, TraceStep};
use crate::trace::description::{Description, station_behind};
use crate::trace::words;

/// A session that a packet belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) zones: &'a [String],
    pub(super) session: &'a SessionRecord,
    /// The packet is one of its answers.
    pub(super) answers: bool,
    pub(super) now: Nanos,
}

/// The number of a session's protocol.
pub(super) fn protocol_of(record: &SessionRecord) -> u8 {
    match (record.kind, record.original.source.is_ipv6()) {
        (session::Kind::Tcp, _) => 6,
        (session::Kind::Udp, _) => 17,
        (session::Kind::Icmp, false) => 1,
        (session::Kind::Icmp, true) => 58,
        (session::Kind::Other, _) => u8::try_from(record.original.source_port).unwrap_or(u8::MAX),
    }
}

/// Whether a packet opens another session in the place of one that is over.
pub(super) fn begins_anew(bytes: &[u8], session: &SessionRecord) -> bool {
    let Ok(Content::Ip(facts)) = dissect(bytes, Verify::Nothing).map(|frame| frame.content) else { return false };
    let Transport::Tcp(tcp) = facts.transport else { return false };
    session.state.is_over() && tcp.flags.contains(TcpFlags::SYN) && !tcp.flags.contains(TcpFlags::ACK)
}

impl Present<'_> {
    /// The frame that would open the session today in this VLAN, where a policy has come into force since it was judged.
    pub(super) fn opener(&self, vlan: u16) -> Option<Vec<u8>> {
        let session = self.session;
        if session.from_kernel || session.generation == self.snapshot.generation.short() {
            return None;
        }
        let facts = self.snapshot.port(session.ingress)?;
        let (source, destination) = (session.original.source, session.original.destination);
        let ports = (session.original.source_port, session.original.destination_port);
        let (source, destination) = ((source, ports.0), (destination, ports.1));
        let opening = Description::opening(facts.name.clone(), vlan, protocol_of(session), source, destination);
        Some(opening.frame(station_behind(facts)))
    }

    /// What would become of this packet; `today` is what would become of the session's first.
    pub(super) fn told(&self, port: PortId, bytes: &[u8], today: Option<&TraceRecord>) -> TraceStatus {
        let refused = today.filter(|record| match &record.decision {
            Some(decision) => decision.judgement.drop_reason().is_some(),
            None => matches!(record.fate, worker::Fate::Dropped(_)),
        });
        let mut steps = self.arrival(port, bytes);
        let (outcome, reason, sentence) = if self.comes_another_way(port, bytes) {
            let reason = DropReason::TupleInUse;
            ("dropped".to_owned(), Some(reason.name().to_owned()), reason.sentence().to_owned())
        } else if let Some(refused) = refused {
            let judged = words::told(refused, self.zones, None);
            steps.extend(judged.steps.into_iter().filter(|step| !["receive", "parse"].contains(&step.stage.as_str())));
            let sentence =
                format!("its session is of an earlier policy, is judged again and ends: {}", judged.sentence);
            (judged.outcome, judged.reason, sentence)
        } else {
            steps.extend(self.onward());
            ("forwarded".to_owned(), None, "it would go on as a packet of its session".to_owned())
        };
        let forwarded = reason.is_none();
        TraceStatus {
            at: None,
            worker: None,
            port: self.name(port),
            zone: self.zone(port),
            generation: self.snapshot.generation.get(),
            packet: dissect(bytes, Verify::Nothing).ok().map(|read| words::packet(&read, bytes.len())),
            steps,
            outcome,
            reason,
            sentence,
            depends: if forwarded { self.depends(today.is_some()) } else { Vec::new() },
        }
    }

    fn name(&self, port: PortId) -> String {
        self.snapshot.port(port).map_or_else(String::new, |facts: &PortFacts| facts.name.clone())
    }

    fn zone(&self, port: PortId) -> String {
        self.zones.get(self.snapshot.zone(port).index()).cloned().unwrap_or_default()
    }

    /// A conversation is either routed or passes in line.
    fn comes_another_way(&self, port: PortId, bytes: &[u8]) -> bool {
        let for_port = |facts: &PortFacts| {
            facts.pair.is_none() || dissect(bytes, Verify::Nothing).is_ok_and(|it| it.link.destination == facts.mac)
        };
        !self.session.from_kernel && self.snapshot.port(port).is_some_and(|it| for_port(it) == self.session.in_line)
    }

    /// As far as the session.
    fn arrival(&self, port: PortId, bytes: &[u8]) -> Vec<TraceStep> {
        let from = format!("by port {}, zone {}", self.name(port), self.zone(port));
        let mut steps = vec![words::step("receive", from)];
        let read = dissect(bytes, Verify::Nothing).ok();
        let line = read.map(|read| words::line(&words::packet(&read, bytes.len())));
        steps.extend(line.map(|line| words::step("parse", line)));
        let direction = if self.answers { "the direction of the answers" } else { "the opener's direction" };
        let state = self.session.state.name().to_owned();
        let today = self.session.from_kernel || self.session.generation == self.snapshot.generation.short();
        let decided = if today { "all was decided at its first packet" } else { "a policy came into force since" };
        let text = format!("found: {state}, in {direction}; {decided}");
        steps.push(TraceStep { state: Some(state), ..words::step("session", text) });
        steps
    }

    /// From the session on.
    fn onward(&self) -> Vec<TraceStep> {
        let (session, snapshot) = (self.session, self.snapshot);
        let mut steps = Vec::new();
        if let Some(backend) = &session.backend {
            let text = format!("virtual service {}: backend {}; its session has it", backend.service(), backend.name());
            let step = words::step("balancer", text);
            let (service, backend) = (Some(backend.service().to_owned()), Some(backend.name().to_owned()));
            steps.push(TraceStep { service, backend, ..step });
        }
        // What leaves is the other direction's tuple, turned round.
        let (came, other) =
            if self.answers { (session.reply, session.original) } else { (session.original, session.reply) };
        let (source, target) = (other.destination, other.source);
        if (source, target) != (came.source, came.destination) || other.source_port != came.destination_port {
            let text =
                format!("leaves as {source} port {} > {target} port {}", other.destination_port, other.source_port);
            steps.push(words::step("translate", text));
        }
        if let Some(route) = snapshot.routes.lookup(target).filter(|_| self.is_routed()) {
            let (next_hop, port) = (route.next_hop(target), self.name(route.port));
            let step = words::step("route", format!("to {target} via {next_hop}, by port {port}"));
            steps.push(TraceStep { next_hop: Some(next_hop), port: Some(port), ..step });
        }
        steps
    }

    /// Whether packets of this direction go where their address leads: not through a pair, a tier, a tunnel, or NAT64.
    fn is_routed(&self) -> bool {
        let session = self.session;
        let service = session.backend.as_ref().and_then(|backend| self.snapshot.services.by_name(backend.service()));
        let wrapped = service.is_some_and(|service| matches!(service.spec().mode, Mode::Tunnel(_)));
        let across = [session.original.source, session.reply.source].map(|it| it.to_canonical().is_ipv4());
        let [one, other] = across;
        !session.in_line && one == other && (self.answers || session.tiers.is_empty() && !wrapped)
    }

    fn depends(&self, judged_again: bool) -> Vec<String> {
        let mut depends = vec![
            "whether its sequence numbers, flags, size and hop limit fit the session".to_owned(),
            "whether the session is still there when the packet comes".to_owned(),
        ];
        if judged_again {
            depends.push(
                "its session is of an earlier policy and is judged again: the rules of today allow it".to_owned(),
            );
        }
        if self.session.backend.as_ref().is_some_and(|backend| backend.fate(self.now) != Fate::Stays) {
            depends.push("its backend has failed or drained: the session ends, or goes to another".to_owned());
        }
        depends
    }
}
