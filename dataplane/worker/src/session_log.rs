//! What is told of sessions to whoever keeps a log of them: one record when a session opens, one when it ends. Whether anybody
//! wants them is asked where a session opens and where it ends, never at packets in between.
//!
//! ```text
//! establish, newcomer -> opened -+                    +-> exporter (control), which asks for the next
//! close, expire       -> closed -+-> ring of a worker -+
//! ```
//!
//! The rings are made by management with the tables they belong to, as large as they will ever be. A worker never waits: for a
//! record that finds no place it counts one (`log_records_lost`). What the appliance's own kernel speaks is not told: the log's own
//! way to its collector would be in it.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use session::{Direction, Kind, Session, Slot, State, Traffic};
use stage::balancer::Backend;
use units::{Nanos, PortId, Tick, WorkerId};

use crate::act::FROM_KERNEL;
use crate::binding::{BindingId, Bindings};
use crate::counters::WorkerCounters;
use crate::family::Family;
use crate::next_hop::{NextHopId, NextHops};
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::sweep::{Ends, ends};
use crate::tenants::{Tenant, Tenants};

/// What is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEvents {
    /// Sessions that open.
    pub open: bool,
    /// Sessions that end.
    pub close: bool,
    /// Sessions whose addresses or ports are rewritten: that they open, and that they end.
    pub nat: bool,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing came for too long.
    Idle,
    /// The conversation was over.
    Finished,
    /// It was ended: by the policy, an operator, or the failure of its backend.
    Forced,
    /// It was given up half open for a new one, because the table was full.
    NoRoom,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its first packet came.
    Opened,
    /// It ended.
    Closed(Ending),
}

/// One record. Shape: no larger than 160 bytes.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// What happened.
    pub turn: Turn,
    /// When, since start.
    pub at: Nanos,
    /// When the session was opened.
    pub opened: Tick,
    /// Ticks since its last packet.
    pub idle: u16,
    /// Whose addresses these are.
    pub tenant: Option<Arc<Tenant>>,
    /// The kind of protocol.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// Packets of who opened it, as they arrive.
    pub original: Ends,
    /// Packets of the answer, as they arrive.
    pub reply: Ends,
    /// What has passed from who opened it.
    pub sent: Traffic,
    /// What has passed in answer.
    pub answered: Traffic,
    /// The port that its first packet came by.
    pub ingress: PortId,
    /// The port that packets of who opened it leave by, where there is one.
    pub egress: Option<PortId>,
    /// The backend that serves it.
    pub backend: Option<Arc<Backend>>,
    /// The worker that owns it.
    pub owner: WorkerId,
}

const _: () = assert!(size_of::<LogRecord>() <= 160);

impl LogRecord {
    /// Addresses and ports that packets of who opened it leave with.
    #[must_use]
    pub const fn leaves_with(&self) -> Ends {
        self.reply.reversed()
    }

    /// Whether addresses or ports are rewritten.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.leaves_with() != self.original
    }
}

/// What is told of, and a ring for each worker to tell them by.
#[derive(Debug)]
pub struct SessionLog {
    events: LogEvents,
    rings: Box<[ArrayQueue<LogRecord>]>,
}

impl SessionLog {
    /// Empty rings with this many places each, at least one.
    #[must_use]
    pub fn new(events: LogEvents, workers: usize, places: usize) -> Self {
        Self { events, rings: (0..workers).map(|_| ArrayQueue::new(places.max(1))).collect() }
    }

    /// Whether [`SessionLog::new`] would make one like it.
    #[must_use]
    pub fn is_like(&self, events: LogEvents, workers: usize, places: usize) -> bool {
        self.events == events
            && self.rings.len() == workers
            && self.rings.iter().all(|ring| ring.capacity() == places.max(1))
    }

    /// What is told of.
    #[must_use]
    pub const fn events(&self) -> LogEvents {
        self.events
    }

    /// How many workers there is a ring for.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.rings.len()
    }

    /// Tells a record, in the ring of the worker that owns its session. False when there is no room; nothing else calls it for that
    /// worker meanwhile.
    #[must_use]
    pub fn tell(&self, record: LogRecord) -> bool {
        self.rings.get(record.owner.index()).is_some_and(|ring| ring.push(record).is_ok())
    }

    /// The next record of a worker, in the order in which it was told.
    #[must_use]
    pub fn next_of(&self, worker: usize) -> Option<LogRecord> {
        self.rings.get(worker)?.pop()
    }

    /// Records in all rings.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.rings.iter().map(ArrayQueue::len).sum()
    }

    /// Bytes of the rings.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let place = size_of::<LogRecord>() + size_of::<usize>();
        self.rings.iter().map(|ring| ring.capacity() * place).sum()
    }
}

/// What a worker writes records with: parts of its shard, so that others of them can change meanwhile.
pub(crate) struct Scribe<'s, B> {
    log: &'s SessionLog,
    tenants: &'s Tenants,
    bindings: &'s Bindings,
    next_hops: &'s NextHops<B>,
    counters: &'s WorkerCounters,
    owner: WorkerId,
    now: Nanos,
}

impl<'s, B> Scribe<'s, B> {
    /// The scribe of these tables; `None` when nobody wants to know.
    #[inline]
    pub(crate) fn of(
        snapshot: &'s Snapshot,
        (bindings, next_hops): (&'s Bindings, &'s NextHops<B>),
        counters: &'s WorkerCounters,
        owner: WorkerId,
        now: Nanos,
    ) -> Option<Self> {
        let log = snapshot.session_log.as_deref()?;
        let tenants = &*snapshot.tenants;
        Some(Self { log, tenants, bindings, next_hops, counters, owner, now })
    }

    /// Tells that a session has opened.
    #[inline(never)]
    pub(crate) fn opened<A: Family>(&self, session: &Session<A>) {
        self.tell(session, Turn::Opened);
    }

    /// Tells that a session ends; one whose conversation is over ends for that, whatever else there is. One that never had a packet
    /// was not told of when it opened either.
    #[inline(never)]
    pub(crate) fn closed<A: Family>(&self, session: &Session<A>, ending: Ending) {
        let (packets, _) = session.counters(Direction::Original);
        if packets == 0 {
            return;
        }
        let over = session.state().is_over() || session::datagram::is_over(session);
        self.tell(session, Turn::Closed(if over { Ending::Finished } else { ending }));
    }

    fn tell<A: Family>(&self, session: &Session<A>, turn: Turn) {
        let events = self.log.events;
        let wanted = if turn == Turn::Opened { events.open } else { events.close };
        let [original, reply] = Direction::BOTH.map(|direction| ends(session, direction));
        let translated = || reply.reversed() != original;
        let rewritten = events.nat && translated();
        if session.flags() & FROM_KERNEL != 0 || !(wanted || rewritten) {
            return;
        }
        let traffic = |direction| {
            let (packets, bytes) = session.counters(direction);
            Traffic { packets, bytes }
        };
        let record = LogRecord {
            turn,
            at: self.now,
            opened: session.created(),
            idle: session.idle(self.now.tick()),
            tenant: self.tenants.tenant(session.tenant()).cloned(),
            kind: session.kind(),
            state: session.state(),
            original,
            reply,
            sent: traffic(Direction::Original),
            answered: traffic(Direction::Reply),
            ingress: session.ingress(Direction::Original),
            egress: self.egress(session),
            backend: self.bindings.backend(BindingId::new(session.binding())).cloned(),
            owner: self.owner,
        };
        let counters = self.counters;
        if self.log.tell(record) {
            counters.log_records.add(1);
        } else {
            counters.log_records_lost.add(1);
            counters.log_entries_lost.add(u64::from(wanted) + u64::from(rewritten));
        }
    }

    /// The port that packets of who opened a session leave by; `None` where it stands elsewhere than in the session.
    fn egress<A: Family>(&self, session: &Session<A>) -> Option<PortId> {
        let forth = NextHopId::new(session.next_hop(Direction::Original));
        if forth.is_through() {
            return Some(session.ingress(Direction::Reply));
        }
        let [beside, _] = session.beside();
        self.next_hops.port(if forth.crosses() { NextHopId::new(beside) } else { forth })
    }
}

impl<B> Shard<B> {
    /// Tells that the session in `slot` has opened, when anybody wants to know.
    #[inline]
    pub(crate) fn tell_opened<A: Family>(&self, slot: Slot) {
        if let Some(scribe) = self.scribe() {
            scribe.opened(A::table(&self.sessions).session(slot));
        }
    }

    /// The scribe of this worker.
    #[inline]
    pub(crate) fn scribe(&self) -> Option<Scribe<'_, B>> {
        Scribe::of(&self.snapshot, (&self.bindings, &self.next_hops), &self.counters, self.id, self.now)
    }
}
