//! Traces and captures in a rig, and questions about packets that are only supposed.

use std::sync::Arc;

use control::event::Request;
use control::status::TraceStatus;
use control::steward::{Captured, Capturing, Traced, Tracing};
use control::trace::pattern::PacketPattern;
use control::trace::rehearsal::{Rehearsal, Scene};
use control::trace::words;
use crossbeam::channel::{Receiver, bounded, unbounded};
use stage::DropReason;
use units::Nanos;
use worker::{FrameFilter, LogRecord, PacketMatch};

use super::{Rig, Side, parts};
use crate::packet::Packet;

/// Longer than any scenario.
const FOR_EVER: Nanos = Nanos::from_secs(1_000_000);

/// Whoever follows packets; dropped, the trace ends.
#[derive(Debug)]
pub struct Follower {
    heard: Receiver<Traced>,
    _listens: Arc<()>,
}

/// What a follower has heard.
#[derive(Debug, Default)]
pub struct Seen {
    /// The ways of packets, in words.
    pub ways: Vec<TraceStatus>,
    /// Packets that found no room.
    pub lost: u64,
    /// Whether the trace is over, and whether because there were enough.
    pub end: Option<bool>,
    /// Another trace was under way.
    pub busy: bool,
}

/// Whoever takes frames; dropped, the capture ends.
#[derive(Debug)]
pub struct Frames {
    begun: bool,
    heard: Receiver<Captured>,
    _listens: Arc<()>,
}

/// One frame that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Whether it came or left.
    pub side: worker::Side,
    /// Its bytes, the first `SNAP`.
    pub bytes: Vec<u8>,
    /// How many there were.
    pub length: usize,
    /// Why it was dropped.
    pub reason: Option<DropReason>,
}

/// Bytes that are taken of a frame.
const SNAP: usize = 128;

/// Wants IPv4 packets of one protocol.
#[derive(Debug)]
struct OfProtocol(u8);

impl FrameFilter for OfProtocol {
    fn wants(&self, frame: &[u8]) -> bool {
        frame.get(23) == Some(&self.0)
    }
}

impl Follower {
    /// Hears and forgets.
    pub(super) fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
    }
}

impl Rig {
    /// What workers have told the session log since the last look, each in its order.
    pub fn told(&mut self) -> Vec<LogRecord> {
        let log = self.snapshot.session_log.as_ref().expect("a policy with [session_log]");
        (0..log.workers()).flat_map(|worker| core::iter::from_fn(move || log.next_of(worker))).collect()
    }

    /// Takes frames of a port from now on, all or those of one IPv4 protocol.
    pub fn capture(
        &mut self,
        port: Side,
        sides: &[worker::Side],
        drops: Option<Option<DropReason>>,
        protocol: Option<u8>,
    ) -> Frames {
        let (begun, begins) = bounded(1);
        let (reader, heard) = bounded(4_096);
        let listens = Arc::new(());
        let filter = |protocol| Box::new(OfProtocol(protocol)) as Box<dyn FrameFilter>;
        let each = self.workers.iter().flat_map(|_| sides);
        let asked = Capturing {
            port: port.port(),
            sides: sides.to_vec(),
            drops,
            snap: SNAP,
            filters: each.filter_map(|_| protocol.map(filter)).collect(),
            span: FOR_EVER,
            begun,
            reader,
            untold: Arc::default(),
            listener: Arc::downgrade(&listens),
        };
        self.requests.send(Request::Capture(Box::new(asked))).expect("the steward listens");
        self.control();
        self.turn();
        self.control();
        Frames { begun: begins.try_recv().expect("all workers have taken their turn"), heard, _listens: listens }
    }

    /// Whether another capture was under way.
    #[must_use]
    pub const fn capture_is_refused(&self, frames: &Frames) -> bool {
        !frames.begun
    }

    /// What was taken since the last time, and how many frames found no room.
    #[must_use]
    pub fn taken(&self, frames: &Frames) -> (Vec<Taken>, u64) {
        let (mut taken, mut lost) = (Vec::new(), 0);
        for heard in frames.heard.try_iter() {
            let Captured { side, frames: caught, bytes, lost: more } = heard;
            lost += more;
            let mut begin = 0;
            for frame in caught {
                let bytes = bytes[begin..frame.end].to_vec();
                begin = frame.end;
                taken.push(Taken { side, bytes, length: frame.length, reason: frame.reason });
            }
        }
        (taken, lost)
    }

    /// The same, every packet of it traced from now on, and so treated alone.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watched = Some(self.follow(PacketMatch::default(), usize::MAX));
        self.settle();
        self
    }

    /// Follows packets from now on.
    pub fn follow(&mut self, wanted: PacketMatch, count: usize) -> Follower {
        self.follow_for(wanted, count, FOR_EVER)
    }

    /// Follows packets for some time.
    pub fn follow_for(&mut self, wanted: PacketMatch, count: usize, span: Nanos) -> Follower {
        let (reader, heard) = unbounded();
        let listens = Arc::new(());
        let asked = Tracing { wanted, count, span, reader, listener: Arc::downgrade(&listens) };
        self.requests.send(Request::Trace(Box::new(asked))).expect("the steward listens");
        self.control();
        Follower { heard, _listens: listens }
    }

    /// Follows the packets that match these terms.
    pub fn follow_matching(&mut self, terms: &str, count: usize) -> Follower {
        let pattern: PacketPattern = terms.parse().expect("terms");
        let wanted = pattern.resolved(&self.snapshot).expect("names of this policy");
        self.follow(wanted, count)
    }

    /// What was heard since the last time.
    #[must_use]
    pub fn seen(&self, follower: &Follower) -> Seen {
        let mut seen = Seen::default();
        for heard in follower.heard.try_iter() {
            match heard {
                Traced::Busy => seen.busy = true,
                Traced::Begun => {}
                Traced::End(all) => seen.end = Some(all),
                Traced::Records(records, lost) => {
                    seen.lost += lost;
                    seen.ways.extend(records.iter().map(|record| words::told(record, &self.policy.zones, None)));
                }
            }
        }
        seen
    }

    /// Where packets would go, each after those before it.
    pub fn suppose(&mut self, packets: &[(Side, Packet)]) -> Vec<TraceStatus> {
        let (reader, neighbors) = bounded(1);
        self.requests.send(Request::Neighbors(reader)).expect("the steward listens");
        self.control();
        let neighbors = neighbors.try_recv().expect("the neighbors");
        let devices = parts::devices(&self.policy, &self.macs);
        let now = self.now();
        let scene =
            Scene { policy: &self.policy, devices: &devices, snapshot: &self.snapshot, neighbors: &neighbors, now };
        let addresses: Vec<_> =
            packets.iter().filter_map(|(_, packet)| packet.addresses()).flat_map(|(one, other)| [one, other]).collect();
        let mut rehearsal = Rehearsal::new(&scene, &addresses).expect("a rehearsal");
        let judged = packets.iter().map(|(side, packet)| {
            let record =
                rehearsal.judge(side.port(), &self.inward(*side, packet)).expect("a packet that comes to rest");
            let depends = rehearsal.depends(&self.policy, &record);
            TraceStatus { depends, ..words::told(&record, &self.policy.zones, None) }
        });
        judged.collect()
    }
}
