//! What happens to packets, asked of the workers while it happens, or of a rehearsal that nobody notices.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use jiff::{SignedDuration, Timestamp};
use units::{Nanos, PortId, TenantId};
use wire::{Content, Facts, MacAddr, Transport, Verify, dissect};
use worker::{Ends, SessionRecord, Snapshot};

use super::copies::{BATCHES, OTHERS_READ, TURN_WITHIN};
use super::present::{Present, begins_anew, protocol_of};
use super::{PATIENCE, Running, lock};
use crate::admin::Feed;
use crate::event::Request;
use crate::status::{Refusal, RefusalKind, Supposed, TraceEnd, TraceNews, TraceStatus};
use crate::steward::{Traced, Tracing};
use crate::trace::description::{Description, station_behind};
use crate::trace::pattern::{PacketPattern, port_named};
use crate::trace::rehearsal::{Rehearsal, Scene};
use crate::trace::words;

/// A frame and the port it comes by.
struct Frame {
    port: PortId,
    bytes: Vec<u8>,
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::BadRequest, why)
}

impl Running {
    /// The ways of packets as they pass.
    pub(super) fn follow(
        &self,
        wanted: &PacketPattern,
        count: usize,
        span: Duration,
    ) -> Result<Feed<TraceNews>, Refusal> {
        let wanted = wanted.resolved(&self.snapshot()).map_err(bad)?;
        // A reader that cannot keep up makes control wait for nobody: what waits here is bounded by `count`.
        let (reader, heard) = unbounded();
        let listener = Arc::new(());
        let span = Nanos::new(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let asked = Tracing { wanted, count, span, reader, listener: Arc::downgrade(&listener) };
        let gone = |_| Refusal::new(RefusalKind::Failed, "the control thread has ended");
        self.fixed.requests.send(Request::Trace(Box::new(asked))).map_err(gone)?;
        let zones = lock(&self.state).policy.zones.clone();
        let start = self.started_at();
        let mut told = Told { heard, zones, start, end: TraceEnd { packets: 0, lost: 0, why: "stopped".to_owned() } };
        let first = told.next(PATIENCE)?;
        let (mut first, mut over) = (Some(first), false);
        Ok(Box::new(move |patience| {
            let _listens = &listener;
            if over {
                return None;
            }
            let news = first.take().unwrap_or_else(|| told.next(patience).unwrap_or_default());
            over = matches!(news.last(), Some(TraceNews::End(_)));
            Some(news)
        }))
    }

    /// The moment that the appliance's time is counted from.
    pub(super) fn started_at(&self) -> Timestamp {
        let now = i64::try_from(self.fixed.clock.now().get()).unwrap_or(i64::MAX);
        Timestamp::now().checked_sub(SignedDuration::from_nanos(now)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Where packets would go.
    pub(super) fn rehearse(&self, packets: &[Supposed]) -> Result<Vec<TraceStatus>, Refusal> {
        let (policy, snapshot) = {
            let state = lock(&self.state);
            (Arc::clone(&state.policy), Arc::clone(&state.snapshot))
        };
        let frames: Vec<Frame> = packets.iter().map(|packet| frame(&snapshot, packet)).collect::<Result<_, _>>()?;
        let neighbors = self.ask(Request::Neighbors)?;
        let sessions = self.sessions_of(&snapshot, &frames)?;
        let addresses = addresses(&frames);
        let now = self.fixed.clock.now();
        let scene =
            Scene { policy: &policy, devices: &self.fixed.devices, snapshot: &snapshot, neighbors: &neighbors, now };
        let failed = |why| Refusal::new(RefusalKind::Failed, why);
        let mut rehearsal = Rehearsal::new(&scene, &addresses).map_err(failed)?;
        let judged = frames.iter().zip(sessions).map(|(frame, session)| {
            if let Some((session, answers)) = session.filter(|(session, _)| !begins_anew(&frame.bytes, session)) {
                let present = Present { snapshot: &snapshot, zones: &policy.zones, session: &session, answers, now };
                let opener = present
                    .opener(vlan(&frame.bytes))
                    .map(|opener| rehearsal.judge(session.ingress, &opener))
                    .transpose();
                return Ok(present.told(frame.port, &frame.bytes, opener.map_err(bad)?.as_ref()));
            }
            let record = rehearsal.judge(frame.port, &frame.bytes).map_err(bad)?;
            let depends = rehearsal.depends(&policy, &record);
            Ok(TraceStatus { depends, ..words::told(&record, &policy.zones, None) })
        });
        judged.collect()
    }

    /// The session each frame belongs to, and whether it is one of its answers.
    fn sessions_of(
        &self,
        snapshot: &Snapshot,
        frames: &[Frame],
    ) -> Result<Vec<Option<(SessionRecord, bool)>>, Refusal> {
        let mut asked: HashMap<Key, Vec<usize>> = HashMap::new();
        for (place, key) in frames.iter().map(|frame| key(snapshot, frame)).enumerate() {
            key.into_iter().for_each(|key| asked.entry(key).or_default().push(place));
        }
        let mut found = vec![None; frames.len()];
        if asked.is_empty() {
            return Ok(found);
        }
        let (reader, batches) = bounded(BATCHES);
        let gone = |_| Refusal::new(RefusalKind::Failed, "the control thread has ended");
        self.fixed.requests.send(Request::Sessions(reader)).map_err(gone)?;
        loop {
            let records =
                batches.recv_timeout(TURN_WITHIN).map_err(|_| Refusal::new(RefusalKind::Busy, OTHERS_READ))?;
            if records.is_empty() {
                return Ok(found);
            }
            for record in records {
                let protocol = protocol_of(&record);
                let tenant = record.tenant.as_ref().map_or(TenantId::NONE, |tenant| tenant.id);
                // Where both are the same, packets are those of the opener.
                for (ends, answers) in [(record.reply, true), (record.original, false)] {
                    for &place in asked.get(&Key { tenant, protocol, ends }).into_iter().flatten() {
                        if let Some(found) = found.get_mut(place) {
                            *found = Some((record.clone(), answers));
                        }
                    }
                }
            }
        }
    }
}

/// Puts what control tells into words.
struct Told {
    heard: Receiver<Traced>,
    zones: Vec<String>,
    start: Timestamp,
    end: TraceEnd,
}

impl Told {
    /// What is new within this time; the end comes last.
    fn next(&mut self, patience: Duration) -> Result<Vec<TraceNews>, Refusal> {
        let mut news = Vec::new();
        let mut heard = self.heard.recv_timeout(patience);
        loop {
            match heard {
                Ok(Traced::Busy) => {
                    let why = "another trace is under way; one at a time is followed";
                    return Err(Refusal::new(RefusalKind::Busy, why));
                }
                Ok(Traced::Begun) => news.push(TraceNews::Begin),
                Ok(Traced::Records(records, lost)) => {
                    self.end.lost += lost;
                    for record in records {
                        let since = i64::try_from(record.at.get()).unwrap_or(i64::MAX);
                        let at = self.start.checked_add(SignedDuration::from_nanos(since)).unwrap_or(self.start);
                        news.push(TraceNews::Packet(Box::new(words::told(&record, &self.zones, Some(at)))));
                        self.end.packets += 1;
                    }
                }
                Ok(Traced::End(all)) => {
                    if all { "count" } else { "time" }.clone_into(&mut self.end.why);
                    news.push(TraceNews::End(self.end.clone()));
                    return Ok(news);
                }
                Err(RecvTimeoutError::Timeout) => return Ok(news),
                Err(RecvTimeoutError::Disconnected) => {
                    news.push(TraceNews::End(self.end.clone()));
                    return Ok(news);
                }
            }
            heard = self.heard.try_recv().map_err(|error| match error {
                crossbeam::channel::TryRecvError::Empty => RecvTimeoutError::Timeout,
                crossbeam::channel::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
    }
}

/// The frame that is supposed, as its port would get it.
fn frame(snapshot: &Snapshot, supposed: &Supposed) -> Result<Frame, Refusal> {
    match (&supposed.packet, &supposed.frame, &supposed.port) {
        (Some(text), None, None) => {
            let described = Description::parse(text).map_err(bad)?;
            let port = port_named(snapshot, &described.port).map_err(bad)?;
            let to = snapshot.port(port).map_or(MacAddr::ZERO, station_behind);
            Ok(Frame { port, bytes: described.frame(to) })
        }
        (None, Some(digits), Some(name)) => {
            let port = port_named(snapshot, name).map_err(bad)?;
            let bytes = hexadecimal(digits).ok_or_else(|| bad("frame is not in hexadecimal digits, two a byte"))?;
            Ok(Frame { port, bytes })
        }
        _ => Err(bad("each packet is {\"packet\": \"...\"} or {\"frame\": \"...\", \"port\": \"...\"}")),
    }
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

fn facts(bytes: &[u8]) -> Option<Facts> {
    match dissect(bytes, Verify::Nothing).ok()?.content {
        Content::Ip(facts) => Some(facts),
        Content::Arp(_) | Content::Other => None,
    }
}

/// The outermost VLAN of a frame; 0 for one without.
fn vlan(bytes: &[u8]) -> u16 {
    dissect(bytes, Verify::Nothing).map_or(0, |frame| frame.link.vlan)
}

/// The addresses of all frames, each once.
fn addresses(frames: &[Frame]) -> Vec<IpAddr> {
    let facts = frames.iter().filter_map(|frame| facts(&frame.bytes));
    let mut addresses: Vec<IpAddr> =
        facts.flat_map(|facts| [facts.endpoints.source(), facts.endpoints.destination()]).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// What the session of a frame is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    protocol: u8,
    ends: Ends,
}

fn key(snapshot: &Snapshot, frame: &Frame) -> Option<Key> {
    let read = dissect(&frame.bytes, Verify::Nothing).ok()?;
    let Content::Ip(facts) = read.content else { return None };
    let (source_port, destination_port) = match facts.transport {
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Transport::Udp { source_port, destination_port, .. } => (source_port, destination_port),
        Transport::Echo { identifier, .. } => (identifier, identifier),
        _ => return None,
    };
    let (source, destination) = (facts.endpoints.source(), facts.endpoints.destination());
    let ends = Ends { source, source_port, destination, destination_port };
    Some(Key { tenant: snapshot.tenant_at(frame.port, &read), protocol: facts.protocol, ends })
}
