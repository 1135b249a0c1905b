//! What one worker owns besides its queues: its sessions, its next hops, its bindings, and the tables in force. The way of
//! a packet through them is in [`act`](crate::act) (sessions that exist), [`open`](crate::open) (first packets) and
//! [`icmp`](crate::icmp) (errors); this file keeps them together and ends sessions.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use session::{Backing, Direction, HashSecret, OutOfMemory, Session, Sessions, Slot, Traffic};
use stage::firewall::{Candidate, Judgement};
use stage::heavy_hitters::Sampler;
use stage::reassembly::Waiting;
use stage::translate::{Mappings, PortSlice};
use units::limits::KERNEL_SESSIONS;
use units::{Nanos, PortId, TenantId, Tick, WorkerId};
use wire::MacAddr;

use crate::act::{FROM_KERNEL, HALF_OPEN};
use crate::beside::Beside;
use crate::binding::{BindingId, Bindings};
use crate::command::Event;
use crate::counters::WorkerCounters;
use crate::dice::Dice;
use crate::end::Resets;
use crate::error_limit::ErrorLimit;
use crate::family::Family;
use crate::fragments::Fragments;
use crate::hide::{Freed, Leased};
use crate::identification::Identifications;
use crate::journey::Journey;
use crate::next_hop::{NextHopId, NextHops};
use crate::originate::Allowance;
use crate::pair;
use crate::session_log::{Ending, Scribe};
use crate::snapshot::Snapshot;
use crate::source_sessions::counted_at;
use crate::splice::Splices;
use crate::tunnel::Tunnels;
use crate::watch::Noted;

/// Places of the event ring that only what must be delivered may take.
const RESERVED: usize = 1_024;
/// Events kept back while the ring is full.
const OWED: usize = 16;

/// Sessions looked at for expiry in one turn.
const EXPIRED_AT_ONCE: usize = 64;

/// Everything one worker decides with.
#[derive(Debug)]
pub struct Shard<B> {
    pub(crate) id: WorkerId,
    pub(crate) workers: usize,
    /// Packets sent on because their session was not here, after another worker had been asked or with another policy.
    pub(crate) gone_on: u64,
    pub(crate) slice: PortSlice,
    pub(crate) snapshot: Arc<Snapshot>,
    /// What sessions remember of the policy in force: `snapshot.generation.short()`.
    pub(crate) generation: u16,
    pub(crate) turns: Box<[u32]>,
    pub(crate) sessions: Sessions,
    pub(crate) mappings: Mappings,
    pub(crate) freed: Freed,
    pub(crate) next_hops: NextHops<B>,
    pub(crate) fragments: Fragments<B>,
    pub(crate) bindings: Bindings,
    pub(crate) tunnels: Tunnels,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) events: Arc<ArrayQueue<Event>>,
    owed: ArrayVec<Event, OWED>,
    pub(crate) resets: Resets,
    pub(crate) splices: Splices,
    pub(crate) journeys: Beside<Journey>,
    /// When it was last asked whether floods are over.
    pub(crate) relaxed: Tick,
    /// Sessions there may be, those of the kernel not counted.
    pub(crate) capacity: usize,
    /// Sessions the kernel has opened.
    pub(crate) kernel_sessions: usize,
    pub(crate) now: Nanos,
    pub(crate) tick: Tick,
    /// The first tick whose sessions may not all have been looked at for expiry.
    unexpired: Tick,
    pub(crate) answers: Allowance,
    pub(crate) error_limit: ErrorLimit,
    pub(crate) log_allowance: Allowance,
    pub(crate) sampler: Sampler,
    /// Random numbers for ports and identifications.
    pub(crate) dice: Dice,
    /// What is written down of a packet that is treated alone.
    pub(crate) noted: Noted,
}

/// What a session holds on to: given up when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    binding: BindingId,
    /// What it has counted and nobody has collected.
    traffic: Traffic,
    hops: [NextHopId; 2],
    client: IpAddr,
    from_kernel: bool,
    leased: Leased,
    half_open: bool,
    /// Its tenant and the port it came by, if its source's count has it.
    counted_at: Option<(TenantId, PortId)>,
    splice: Option<u32>,
    journey: Option<u32>,
}

impl Held {
    /// What this session holds on to.
    pub(crate) fn of<A: Family>(session: &Session<A>) -> Self {
        let forth = NextHopId::new(session.next_hop(Direction::Original));
        let spliced = forth == NextHopId::SPLICED;
        let hops = match pair::leads_to(session, Direction::Original) {
            Some(station) if forth.is_through() => [station, forth],
            _ if forth.crosses() => session.beside().map(NextHopId::new),
            _ => [forth, NextHopId::new(session.next_hop(Direction::Reply))],
        };
        Self {
            binding: BindingId::new(session.binding()),
            traffic: session.counted(),
            hops,
            client: session.tuple(Direction::Original).source.into_ip(),
            from_kernel: session.flags() & FROM_KERNEL != 0,
            leased: if forth.is_through() { Leased::of(session).with_lease(0) } else { Leased::of(session) },
            half_open: session.flags() & HALF_OPEN != 0,
            counted_at: counted_at(session),
            splice: spliced.then(|| session.lease()),
            journey: (forth == NextHopId::TIERED).then(|| session.lease()),
        }
    }
}

impl<B> Shard<B> {
    /// A worker's shard with an empty session table of `capacity` sessions.
    ///
    /// # Errors
    /// When there is no memory for the table.
    pub fn new(
        id: WorkerId,
        workers: usize,
        capacity: usize,
        secret: &HashSecret,
        snapshot: Arc<Snapshot>,
        counters: Arc<WorkerCounters>,
        events: Arc<ArrayQueue<Event>>,
    ) -> Result<Self, OutOfMemory> {
        let turns = vec![0; snapshot.services.len()].into();
        let mut dice = Dice::new(secret.seed(), id);
        let mut sessions = Sessions::new(capacity + KERNEL_SESSIONS, secret)?;
        sessions.set_timeouts(&snapshot.timeouts);
        let mut next_hops = NextHops::new();
        next_hops.set_ports(&snapshot.ports);
        let fragments = Fragments {
            waiting: Waiting::new(snapshot.fragments.capacity.div_ceil(workers.max(1))),
            identifications: Identifications::new(id.index(), workers, &mut dice),
        };
        Ok(Self {
            id,
            workers,
            gone_on: 0,
            slice: PortSlice::new(id, workers),
            generation: snapshot.generation.short(),
            snapshot,
            turns,
            sessions,
            mappings: Mappings::new(capacity + KERNEL_SESSIONS),
            freed: Freed::default(),
            next_hops,
            fragments,
            bindings: Bindings::new(),
            tunnels: Tunnels::new(),
            counters,
            events,
            owed: ArrayVec::new(),
            resets: Resets::new(),
            splices: Splices::new(capacity),
            journeys: Beside::new(capacity),
            relaxed: Tick::new(0),
            capacity,
            kernel_sessions: 0,
            now: Nanos::ZERO,
            tick: Tick::new(0),
            unexpired: Tick::new(0),
            answers: Allowance::new(),
            error_limit: ErrorLimit::new(),
            log_allowance: Allowance::new(),
            sampler: Sampler::new(dice.roll()),
            dice,
            noted: Noted::default(),
        })
    }

    /// Takes in the next hops the operator named, before the first packet: a flood right after the start finds them open. Those of
    /// instances are asked for.
    pub fn place(&mut self, neighbors: impl IntoIterator<Item = (PortId, IpAddr, MacAddr)>) {
        for (port, address, mac) in neighbors {
            self.next_hops.place(port, address, mac);
        }
        self.look_for_instances();
    }

    /// Bytes set aside for sessions, for what is kept beside some of them, and for the mappings of source NAT.
    #[must_use]
    pub fn session_bytes(&self) -> usize {
        self.sessions.bytes() + self.splices.bytes() + self.journeys.bytes() + self.mappings.bytes()
    }

    /// Memory of its sessions that the kernel has not backed yet, for a thread beside.
    #[must_use]
    pub fn session_backing(&self) -> Backing {
        self.sessions.backing()
    }

    /// Tells control, or counts that it could not be told. Leaves room for what has to be delivered.
    pub(crate) fn tell(&self, event: Event) {
        let room = self.events.len() + RESERVED < self.events.capacity();
        if !room || self.events.push(event).is_err() {
            self.counters.events_lost.add(1);
        }
    }

    /// Tells control what must not be lost: what control waits for, and what only control may free. Kept back while the
    /// ring is full.
    pub(crate) fn deliver(&mut self, event: Event) {
        if let Err(event) = self.events.push(event)
            && self.owed.try_push(event).is_err()
        {
            // Unreachable while commands are only taken when `can_deliver` says so.
            self.counters.events_lost.add(1);
        }
    }

    /// Delivers what was kept back; true when there is room for whatever the next command brings.
    pub(crate) fn can_deliver(&mut self) -> bool {
        while let Some(event) = self.owed.pop_at(0) {
            if let Err(event) = self.events.push(event) {
                self.owed.insert(0, event);
                break;
            }
        }
        self.owed.len() + 4 <= OWED
    }

    /// Puts new tables in force from the next burst on; the old ones go back to control.
    pub(crate) fn publish(&mut self, snapshot: Arc<Snapshot>, turns: Box<[u32]>) {
        let same_policy = snapshot.generation == self.snapshot.generation;
        let old_snapshot = core::mem::replace(&mut self.snapshot, snapshot);
        let mut old_turns = core::mem::replace(&mut self.turns, turns);
        if same_policy {
            // Only the state of backends changed: the round robin goes on where it was.
            core::mem::swap(&mut self.turns, &mut old_turns);
        }
        self.snapshot.steering.succeeds(&old_snapshot.steering, self.tick);
        self.sessions.set_timeouts(&self.snapshot.timeouts);
        self.generation = self.snapshot.generation.short();
        self.counters.generation.set(self.snapshot.generation.get());
        self.deliver(Event::Retired { snapshot: old_snapshot, turns: old_turns });
        if !same_policy {
            self.look_for_instances();
        }
    }

    /// Asks the firewall about one packet of a session admitted by an earlier policy.
    pub(crate) fn rejudged(&self, candidate: &Candidate) -> Judgement {
        let mut judgement = [Judgement::DENIED];
        self.snapshot.rules.rejudge(core::slice::from_ref(candidate), &mut judgement);
        let [judgement] = judgement;
        judgement
    }

    /// Ends a session and everything it held on to.
    pub(crate) fn close<A: Family>(&mut self, slot: Slot) {
        self.close_for::<A>(slot, Ending::Forced);
    }

    /// As [`close`](Self::close), for this reason.
    pub(crate) fn close_for<A: Family>(&mut self, slot: Slot, ending: Ending) {
        if let Some(scribe) = self.scribe() {
            scribe.closed(A::table(&self.sessions).session(slot), ending);
        }
        let held = Held::of(A::table(&self.sessions).session(slot));
        A::table_mut(&mut self.sessions).remove(slot);
        self.let_go(&held);
    }

    /// Ends sessions that have been silent too long, a bounded number a turn (STX-10).
    #[inline]
    pub(crate) fn expire(&mut self, now: Tick) {
        // No session ends within the tick of its last packet, so a tick that is done stays done.
        if now < self.unexpired {
            return;
        }
        self.expire_some(now);
    }

    #[inline(never)]
    fn expire_some(&mut self, now: Tick) {
        let mut held = ArrayVec::<Held, EXPIRED_AT_ONCE>::new();
        let mut others = ArrayVec::<Held, EXPIRED_AT_ONCE>::new();
        let scribe = Scribe::of(&self.snapshot, (&self.bindings, &self.next_hops), &self.counters, self.id, self.now);
        let scribe = scribe.as_ref();
        let looked_at = self.sessions.advance(
            now,
            EXPIRED_AT_ONCE,
            |_, session| {
                tell_expired(scribe, session);
                held.push(Held::of(session));
            },
            |_, session| {
                tell_expired(scribe, session);
                others.push(Held::of(session));
            },
        );
        if looked_at < EXPIRED_AT_ONCE {
            self.unexpired = Tick::new(now.get() + 1);
        }
        for held in held.iter().chain(&others) {
            self.let_go(held);
        }
    }

    /// What a session that was removed held on to.
    pub(crate) fn let_go(&mut self, held: &Held) {
        if let Some(backend) = self.bindings.backend(held.binding)
            && let Some((service, _)) = self.snapshot.services.locate(backend)
            && let Some(service) = self.snapshot.services.service(service)
        {
            service.remember(held.client, backend, self.now);
        }
        self.kernel_sessions -= usize::from(held.from_kernel);
        if held.half_open {
            self.bindings.end_handshake(held.binding);
        }
        if let Some(counted_at) = held.counted_at {
            self.give_back_to_source(counted_at, held.client);
        }
        self.bindings.count(held.binding, held.traffic);
        self.bindings.close(held.binding);
        self.leave_tunnel(held.binding);
        let spliced = held.splice.map(|entry| self.splices.release(entry));
        let (mut hops, mut leased) =
            spliced.map_or((held.hops, held.leased), |(hops, lease)| (hops, held.leased.with_lease(lease)));
        if let Some(number) = held.journey {
            let (last, lease) = self.end_journey(number);
            let [_, back] = hops;
            (hops, leased) = ([last, back], leased.with_lease(lease));
        }
        for hop in hops {
            self.next_hops.release(hop);
        }
        self.give_back(&leased);
        self.counters.sessions_closed.add(1);
    }
}

/// Tells that a session has been silent for too long, when anybody wants to know.
#[inline]
fn tell_expired<A: Family, B>(scribe: Option<&Scribe<'_, B>>, session: &Session<A>) {
    if let Some(scribe) = scribe {
        scribe.closed(session, Ending::Idle);
    }
}
