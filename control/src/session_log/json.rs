//! Entries as lines of JSON, one object each. Fields that `show sessions` has are called as there; names, once given, stay.

use jiff::Timestamp;
use serde::Serialize;
use worker::{Ending, Turn};

use super::Message;
use super::entry::{About, Entry, idle};
use crate::running::{protocol_name, tuple_status};
use crate::status::TupleStatus;

/// Bytes of lines that are sent as one.
const CHUNK: usize = 32 << 10;

/// One line. What a session has counted, and why it ended, is told when it ends.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    at: Timestamp,
    appliance: &'a str,
    protocol: String,
    state: &'static str,
    original: TupleStatus,
    reply: TupleStatus,
    service: Option<&'a str>,
    backend: Option<&'a str>,
    ingress: Option<&'a str>,
    egress: Option<&'a str>,
    owner: u16,
    tenant: Option<&'a str>,
    opened_at: Timestamp,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

#[derive(Serialize)]
struct Ended {
    reason: &'static str,
    idle_ms: u64,
    packets: u64,
    bytes: u64,
    original_packets: u64,
    original_bytes: u64,
    reply_packets: u64,
    reply_bytes: u64,
}

/// Lines that were not sent yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    entries: u64,
}

/// What ports and appliance are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) appliance: &'a str,
    pub(super) ports: &'a [config::policy::Port],
}

const fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::Idle => "idle",
        Ending::Finished => "finished",
        Ending::Forced => "forced",
        Ending::NoRoom => "no_room",
    }
}

fn moment(millis: u64) -> Timestamp {
    i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or_default()
}

impl Lines {
    /// Adds an entry; when there are enough of them they are sent.
    pub(super) fn enter(&mut self, entry: &Entry<'_>, names: Names<'_>, send: &mut impl FnMut(Message)) {
        let record = entry.record;
        let port = |port: units::PortId| names.ports.get(port.index()).map(|port| port.name.as_str());
        let ended = match record.turn {
            Turn::Closed(ending) if matches!(entry.about, About::Close | About::NatDelete) => Some(Ended {
                reason: reason(ending),
                idle_ms: idle(record).as_millis(),
                packets: record.sent.packets + record.answered.packets,
                bytes: record.sent.bytes + record.answered.bytes,
                original_packets: record.sent.packets,
                original_bytes: record.sent.bytes,
                reply_packets: record.answered.packets,
                reply_bytes: record.answered.bytes,
            }),
            Turn::Closed(_) | Turn::Opened => None,
        };
        let line = Line {
            event: entry.about.name(),
            at: moment(entry.at),
            appliance: names.appliance,
            protocol: protocol_name(record.kind, &record.original),
            state: record.state.name(),
            original: tuple_status(record.kind, &record.original),
            reply: tuple_status(record.kind, &record.reply),
            service: record.backend.as_ref().map(|backend| backend.service()),
            backend: record.backend.as_ref().map(|backend| backend.name()),
            ingress: port(record.ingress),
            egress: record.egress.and_then(port),
            owner: record.owner.get(),
            tenant: record.tenant.as_ref().map(|tenant| tenant.name.as_str()),
            opened_at: moment(entry.opened),
            ended,
        };
        // Plain values always have a form, and memory takes them.
        if serde_json::to_writer(&mut self.bytes, &line).is_ok() {
            self.bytes.push(b'\n');
            self.entries += 1;
        }
        if self.bytes.len() >= CHUNK {
            self.finish(send);
        }
    }

    /// Sends what there is.
    pub(super) fn finish(&mut self, send: &mut impl FnMut(Message)) {
        if self.entries > 0 {
            let Self { bytes, entries } = core::mem::take(self);
            send(Message { bytes, entries });
        }
    }
}
