//! What a worker has written down of a packet, in words: each stage's decision in the order of the packet's way, with the
//! names that the tables it was judged by have for things.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use session::Direction;
use stage::balancer::{Algorithm, Mode};
use stage::firewall::{Action, Limited};
use units::{PortId, ServiceId, ZoneId};
use wire::{Content, Facts, Fragment, Frame, Transport};
use worker::{Bound, Came, Decision, Departure, Ends, Fate, Leads, Met, Snapshot, TraceRecord};

use crate::status::{PacketStatus, TraceStatus, TraceStep};

/// The way of one packet. `zones` are the names of the zones by number, `at` is when it came.
#[must_use]
pub fn told(record: &TraceRecord, zones: &[String], at: Option<Timestamp>) -> TraceStatus {
    let teller = Teller { record, snapshot: &record.snapshot, zones };
    let (reason, sentence) = teller.outcome();
    TraceStatus {
        at,
        worker: at.map(|_| record.worker.get()),
        port: teller.port(record.port),
        zone: teller.zone(record.snapshot.zone(record.port)),
        generation: record.snapshot.generation.get(),
        packet: record.read.as_ref().ok().map(|frame| packet(frame, record.length)),
        steps: teller.steps(),
        outcome: record.fate.to_string(),
        reason,
        sentence,
        depends: Vec::new(),
    }
}

/// What a frame says of itself.
#[must_use]
pub fn packet(frame: &Frame, length: usize) -> PacketStatus {
    let bare = |protocol: String, source, destination| PacketStatus {
        protocol,
        source,
        source_port: None,
        destination,
        destination_port: None,
        length,
        hop_limit: None,
        flags: None,
    };
    match &frame.content {
        Content::Other => bare(format!("{:#06x}", frame.link.ethertype), None, None),
        Content::Arp(arp) => bare("arp".to_owned(), Some(arp.sender.into()), Some(arp.target.into())),
        Content::Ip(facts) => {
            let ends = [Some(facts.endpoints.source()), Some(facts.endpoints.destination())];
            let (source_port, destination_port) = match facts.transport {
                Transport::Tcp(tcp) => (Some(tcp.source_port), Some(tcp.destination_port)),
                Transport::Udp { source_port, destination_port, .. } => (Some(source_port), Some(destination_port)),
                Transport::Echo { identifier, .. } => (Some(identifier), Some(identifier)),
                _ => (None, None),
            };
            let flags = if let Transport::Tcp(tcp) = facts.transport { Some(tcp.flags.to_string()) } else { None };
            PacketStatus {
                source_port,
                destination_port,
                hop_limit: Some(facts.hop_limit),
                flags,
                ..bare(protocol_name(facts.protocol), ends[0], ends[1])
            }
        }
    }
}

/// The name of a transport protocol, else its number.
#[must_use]
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        number => number.to_string(),
    }
}

/// An address with its port, as it is written.
fn end(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    }
}

/// A packet's line: `tcp 192.0.2.1:1234 > 198.51.100.10:80, SYN, 60 bytes, TTL 64`.
#[must_use]
pub fn line(packet: &PacketStatus) -> String {
    let mut text = packet.protocol.clone();
    if let (Some(source), Some(destination)) = (packet.source, packet.destination) {
        let _ = write!(text, " {} > {}", end(source, packet.source_port), end(destination, packet.destination_port));
    }
    if let Some(flags) = &packet.flags {
        let _ = write!(text, ", {flags}");
    }
    let _ = write!(text, ", {} bytes", packet.length);
    if let Some(hops) = packet.hop_limit {
        let _ = write!(text, ", TTL {hops}");
    }
    text
}

fn facts_of(frame: &Frame) -> Option<&Facts> {
    match &frame.content {
        Content::Ip(facts) => Some(facts),
        Content::Arp(_) | Content::Other => None,
    }
}

/// Where a packet is addressed to, as far as rewriting may change it.
fn ends_of(facts: &Facts) -> Ends {
    let (source_port, destination_port) = match facts.transport {
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Transport::Udp { source_port, destination_port, .. } => (source_port, destination_port),
        Transport::Echo { identifier, .. } => (identifier, identifier),
        _ => (0, 0),
    };
    Ends { source: facts.endpoints.source(), source_port, destination: facts.endpoints.destination(), destination_port }
}

/// Tells one record.
struct Teller<'a> {
    record: &'a TraceRecord,
    snapshot: &'a Snapshot,
    zones: &'a [String],
}

impl Teller<'_> {
    fn port(&self, port: PortId) -> String {
        self.snapshot.port(port).map_or_else(|| format!("port {port}"), |facts| facts.name.clone())
    }

    fn zone(&self, zone: ZoneId) -> String {
        self.zones.get(zone.index()).cloned().unwrap_or_else(|| format!("zone {zone}"))
    }

    fn service(&self, service: ServiceId) -> String {
        self.snapshot.services.service(service).map_or_else(String::new, |service| service.spec().name.clone())
    }

    fn steps(&self) -> Vec<TraceStep> {
        let mut steps = vec![self.receive(), self.parse()];
        if self.record.decapsulated {
            steps.push(step("tunnel", "it came in a tunnel that ends here and was taken out of it"));
        }
        steps.extend(self.session());
        steps.extend(self.firewall());
        steps.extend(self.balancer());
        steps.extend(self.translate());
        for departure in &self.record.departures {
            steps.extend(self.route(departure));
            steps.push(self.exit(departure));
        }
        steps
    }

    fn receive(&self) -> TraceStep {
        let (port, zone) = (self.port(self.record.port), self.zone(self.snapshot.zone(self.record.port)));
        let text = match self.record.came {
            Came::ByWire => format!("by port {port}, zone {zone}"),
            Came::HandedOver => format!("by port {port}, zone {zone}; another worker received it and handed it over"),
            Came::OutOfTunnel => {
                format!("by port {port}, zone {zone}; out of a tunnel, from the worker that unpacked it")
            }
            Came::FromKernel => format!("from the appliance's own kernel, to leave by port {port}"),
        };
        TraceStep { port: Some(port), ..step("receive", text) }
    }

    fn parse(&self) -> TraceStep {
        match &self.record.read {
            Err(fault) => step("parse", format!("no packet: {}", lower(fault.sentence()))),
            Ok(frame) => {
                let mut text = line(&packet(frame, self.record.length));
                match facts_of(frame) {
                    Some(Facts { fragment: Fragment::First, .. }) => text += ", the first fragment of a datagram",
                    Some(Facts { fragment: Fragment::Later, .. }) => text += ", a later fragment of a datagram",
                    Some(Facts { transport: Transport::IcmpError { kind, code, .. }, .. }) => {
                        let _ = write!(text, ", an error (type {kind}, code {code}) about a packet of its receiver");
                    }
                    _ => {}
                }
                if frame.link.tags > 0 {
                    let _ = write!(text, ", VLAN {}", frame.link.vlan);
                }
                if let Some(tenant) = self.tenant(frame) {
                    let _ = write!(text, " of tenant {tenant}");
                }
                step("parse", text)
            }
        }
    }

    /// The tenant that a packet belongs to.
    fn tenant(&self, frame: &Frame) -> Option<&str> {
        let by_wire = matches!(self.record.came, Came::ByWire | Came::HandedOver);
        let tenant = self.snapshot.tenant_at(self.record.port, frame);
        self.snapshot.tenants.tenant(tenant).filter(|_| by_wire).map(|tenant| tenant.name.as_str())
    }

    fn session(&self) -> Option<TraceStep> {
        let TraceRecord { before, after, fate, .. } = self.record;
        let facts = self.record.read.as_ref().ok().and_then(facts_of)?;
        if facts.fragment != Fragment::No && before.is_none() && after.is_none() {
            return None;
        }
        let step = match (before, after) {
            (Some(met), _) => {
                let mut text = format!("found: {}", self.met(met));
                if after.is_none() {
                    text += "; it has ended with this packet";
                }
                TraceStep { state: Some(met.session.state.name().to_owned()), ..step("session", text) }
            }
            (None, Some(met)) => {
                let text = format!("none; this packet opened one: {}", self.met(met));
                TraceStep { state: Some(met.session.state.name().to_owned()), ..step("session", text) }
            }
            (None, None) if matches!(fate, Fate::Dropped(_)) => step("session", "none, and none was opened"),
            (None, None) => step("session", "none, and none is needed"),
        };
        Some(step)
    }

    fn met(&self, met: &Met) -> String {
        let session = &met.session;
        let mut text = session.state.name().to_owned();
        match met.direction {
            Direction::Original => text += ", in the opener's direction",
            Direction::Reply => text += ", in the direction of the answers",
        }
        if session.from_kernel {
            text += ", opened by the appliance's own kernel";
        }
        if let Some(rule) = met.rule.filter(|_| met.judged).and_then(|rule| self.snapshot.rules.name(rule)) {
            let _ = write!(text, ", admitted by rule {rule}");
        }
        match met.leads {
            Leads::NextHop => {}
            Leads::Kernel => text += ", leads to the appliance's own kernel",
            Leads::Tunnel => text += ", leads into a tunnel to its backend",
            Leads::Spliced => text += ", its sequence numbers are shifted",
            Leads::Across => text += ", leads to the other IP version (NAT64)",
            Leads::Through => text += ", passes through a pair of ports",
            Leads::Tiers => text += ", passes the tiers of its service before its backend",
        }
        text
    }

    fn firewall(&self) -> Option<TraceStep> {
        let Decision { candidate, judgement, again, .. } = self.record.decision.as_ref()?;
        let rule = judgement.rule.and_then(|rule| self.snapshot.rules.name(rule)).map(str::to_owned);
        let said = rule.as_ref().map_or_else(|| "the default".to_owned(), |rule| format!("rule {rule}"));
        let word = match (judgement.limited, judgement.action) {
            (Some(Limited::Rule), _) => "would allow it, and its new sessions of this second are used up",
            (Some(Limited::Source), _) => "would allow it, and its source has used up its new sessions of this second",
            (None, Action::Allow) => "allows it",
            (None, Action::Deny) => "denies it",
            (None, Action::Reject) => "rejects it",
        };
        let (from, to) = (self.zone(candidate.from), self.zone(candidate.to));
        let again = if *again { "; its session is of an earlier policy and was judged again" } else { "" };
        let action = match judgement.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Reject => "reject",
        };
        let text = format!("from zone {from} to zone {to}: {said} {word}{again}");
        Some(TraceStep { rule, action: Some(action.to_owned()), ..step("firewall", text) })
    }

    fn balancer(&self) -> Option<TraceStep> {
        let met = self.record.after.as_ref().or(self.record.before.as_ref());
        let backend = met.and_then(|met| met.session.backend.as_ref());
        let Some(backend) = backend else {
            let Bound::Service(service) = self.record.decision.as_ref()?.bound else { return None };
            let name = self.service(service);
            let text = format!("virtual service {name}: no backend was given");
            return Some(TraceStep { service: Some(name), ..step("balancer", text) });
        };
        let name = backend.service().to_owned();
        let address = end(backend.address(), backend.port());
        let why = if self.record.before.is_some() {
            "its session has it".to_owned()
        } else {
            self.why(backend.service(), backend.key())
        };
        let text = format!("virtual service {name}: backend {} at {address}; {why}", backend.name());
        let step = step("balancer", text);
        Some(TraceStep { service: Some(name), backend: Some(backend.name().to_owned()), ..step })
    }

    /// Why a new session got this backend.
    fn why(&self, service: &str, backend: u64) -> String {
        if let Some(asked) = &self.record.asked {
            if asked.named == Some(backend) {
                return "its QUIC connection id names it".to_owned();
            }
            if asked.remembered == Some(backend) {
                return "its source had it before (persistence)".to_owned();
            }
        }
        let spec = self.snapshot.services.by_name(service).map(|service| service.spec());
        let why = match spec.map(|spec| spec.algorithm) {
            None => return "no longer in the policy".to_owned(),
            Some(Algorithm::RoundRobin) => "the next in turn (round-robin)",
            Some(Algorithm::LeastConnections) => "the one with fewest sessions for its weight (least-connections)",
            Some(Algorithm::LeastLoad) => "the one with least load (least-load)",
            Some(Algorithm::Maglev) => "by the hash of the client's address and port (maglev)",
            Some(Algorithm::SourceHash) => "by the hash of the client's address (source-hash)",
        };
        let gone = self.record.asked.as_ref().is_some_and(|asked| asked.remembered.is_some());
        if gone { format!("{why}; the one its source had takes no new sessions") } else { why.to_owned() }
    }

    fn translate(&self) -> Option<TraceStep> {
        let facts = facts_of(self.record.read.as_ref().ok()?)?;
        let left = self.record.departures.first().and_then(|departure| facts_of(departure.frame.as_ref()?));
        let (came, left_as) = match (self.record.fate, left) {
            (Fate::Forwarded, Some(left)) => (ends_of(facts), ends_of(left)),
            (Fate::WaitsForNeighbor, _) => (ends_of(facts), self.outgoing()?),
            _ => return None,
        };
        if let Some(left) = left.filter(|_| self.is_wrapped()) {
            let mode = self.tunnel().unwrap_or("a tunnel");
            let text = format!("wrapped ({mode}): {} > {}", left.endpoints.source(), left.endpoints.destination());
            return Some(step("tunnel", text));
        }
        if came == left_as {
            return None;
        }
        let has_ports = came.source_port != 0 || came.destination_port != 0;
        let port = |port| has_ports.then_some(port);
        let mut changes = Vec::new();
        let source = [end(came.source, port(came.source_port)), end(left_as.source, port(left_as.source_port))];
        let target = [
            end(came.destination, port(came.destination_port)),
            end(left_as.destination, port(left_as.destination_port)),
        ];
        for (what, [before, after]) in [("source", source), ("destination", target)] {
            if before != after {
                changes.push(format!("{what} {before} becomes {after}"));
            }
        }
        Some(step("translate", changes.join(", ")))
    }

    /// What the session makes of the packet's ends; `None` where it changes nothing.
    fn outgoing(&self) -> Option<Ends> {
        let met = self.record.after.as_ref().filter(|met| met.translated && met.leads == Leads::NextHop)?;
        let other = match met.direction {
            Direction::Original => met.session.reply,
            Direction::Reply => met.session.original,
        };
        Some(Ends {
            source: other.destination,
            source_port: other.destination_port,
            destination: other.source,
            destination_port: other.source_port,
        })
    }

    /// Whether the packet left inside another.
    fn is_wrapped(&self) -> bool {
        self.record.after.as_ref().is_some_and(|met| met.leads == Leads::Tunnel && met.direction == Direction::Original)
    }

    fn tunnel(&self) -> Option<&'static str> {
        let backend = self.record.after.as_ref()?.session.backend.as_ref()?;
        match self.snapshot.services.by_name(backend.service())?.spec().mode {
            mode @ Mode::Tunnel(_) => Some(mode.name()),
            Mode::Nat | Mode::FullNat | Mode::Direct => None,
        }
    }

    fn route(&self, departure: &Departure) -> Option<TraceStep> {
        let frame = departure.frame.as_ref()?;
        let target = facts_of(frame)?.endpoints.destination();
        let through = self.record.after.as_ref().is_some_and(|met| met.leads == Leads::Through);
        if through {
            return Some(step("route", "out through the other port of the pair"));
        }
        let (next_hop, mac) = (departure.next_hop?, frame.link.destination.to_string());
        let text = if next_hop == target {
            format!("{target} is on the link, at {mac}")
        } else {
            format!("to {target} via {next_hop}, at {mac}")
        };
        Some(TraceStep { next_hop: Some(next_hop), mac: Some(mac), ..step("route", text) })
    }

    fn exit(&self, departure: &Departure) -> TraceStep {
        let port = self.port(departure.port);
        let mut text = match self.record.fate {
            Fate::Forwarded => format!("left by port {port}"),
            _ => format!("answered by port {port}"),
        };
        if let Some(frame) = &departure.frame {
            let _ = write!(text, ": {}", line(&packet(frame, departure.length)));
        }
        TraceStep { port: Some(port), ..step("exit", text) }
    }

    fn outcome(&self) -> (Option<String>, String) {
        let sentence = match self.record.fate {
            Fate::Dropped(reason) => {
                return (Some(reason.name().to_owned()), format!("dropped: {}", lower(reason.sentence())));
            }
            Fate::Forwarded => match self.record.departures.first() {
                Some(departure) => format!("forwarded through port {}", self.port(departure.port)),
                None => "forwarded".to_owned(),
            },
            Fate::Punted => {
                format!("given to the kernel, through the interface beside port {}", self.port(self.record.port))
            }
            Fate::Consumed if self.record.departures.is_empty() => "taken in by the appliance itself".to_owned(),
            Fate::Consumed => "answered by the appliance itself".to_owned(),
            Fate::WaitsForNeighbor => "it waits for its next hop to answer ARP or neighbor solicitation".to_owned(),
            Fate::WaitsForFragments => "it waits for the other fragments of its datagram".to_owned(),
            Fate::HandedOver => "given to another worker".to_owned(),
        };
        (None, sentence)
    }
}

/// A step of a stage.
pub(crate) fn step(stage: &str, text: impl Into<String>) -> TraceStep {
    TraceStep { stage: stage.to_owned(), text: text.into(), ..TraceStep::default() }
}

/// A sentence within another: without its full stop, its first letter small where that begins an ordinary word.
fn lower(sentence: &str) -> String {
    let sentence = sentence.strip_suffix('.').unwrap_or(sentence);
    let mut letters = sentence.chars();
    match (letters.next(), letters.next()) {
        (Some(first), second) if second.is_none_or(|second| !second.is_uppercase()) => {
            first.to_lowercase().chain(sentence.chars().skip(1)).collect()
        }
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_within_others_keep_their_names() {
        assert_eq!(lower("No route to the destination."), "no route to the destination");
        assert_eq!(lower("TCP port 0."), "TCP port 0");
        assert_eq!(lower("A packet."), "a packet");
        assert_eq!(lower(""), "");
    }

    /// One registry of reasons: each has words for a trace.
    #[test]
    fn every_drop_reason_has_words() {
        for reason in stage::DropReason::all() {
            let words = lower(reason.sentence());
            assert!(words.len() > 6 && !words.ends_with('.'), "{reason}: {words}");
        }
    }
}
