//! A worker that is watched: packets that somebody wants to know about are treated alone, one after the other in the order
//! they came, and what is known before and after says what was decided. Their treatment is that of all others; those
//! beside them in a burst go on in bursts.
//!
//! Whether anybody watches is asked once a burst. Nothing is allocated: what is found out goes into buffers that control
//! lends, and what finds no room is counted.

use arrayvec::ArrayVec;
use frame::{Buffer, BufferPool, Burst, Nic};
use session::{Direction, Tuple};
use stage::DropReason;
use stage::firewall::{Candidate, Judgement};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use units::{Nanos, TenantId, WorkerId};
use wire::{Content, Facts, Fragment, Frame, Transport, Verify, dissect};

use crate::capture::{Catch, Side, Tap};
use crate::clock::Clock;
use crate::command::Event;
use crate::counters::WorkerCounters;
use crate::family::Family;
use crate::flow::Flow;
use crate::next_hop::NextHopId;
use crate::open::Bound;
use crate::packet::{Arrival, Asked, Origin};
use crate::poll::Worker;
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::trace::{Came, Decision, Departure, Fate, Leads, Met, ServiceAsked, Trace, TraceOrder, TraceRecord};

/// Buffers that control may lend for one trace.
const LENT: usize = 2;

/// What a worker is watched for.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Whether there is any of the following, here or at a queue.
    on: bool,
    trace: Option<Tracing>,
    /// The received side of a capture.
    capture: Option<Tap>,
}

/// A trace under way.
#[derive(Debug)]
struct Tracing {
    order: TraceOrder,
    /// Packets still wanted.
    left: usize,
    lost: u64,
    buffers: ArrayVec<Box<Trace>, LENT>,
}

/// What is written down of the decisions about one packet; asked for only while it is treated alone.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) on: bool,
    decision: Option<Decision>,
}

impl Watch {
    /// Whether anybody watches.
    #[inline(always)]
    pub(crate) const fn is_on(&self) -> bool {
        self.on
    }

    /// Whether somebody wants to know what becomes of this packet, and it can be written down. One that is sure to `stay` with this worker
    /// and finds no room is counted, and needs no treatment of its own.
    fn traces(
        &mut self,
        bytes: &[u8],
        arrival: &Arrival,
        (worker, snapshot): (WorkerId, &Snapshot),
        stays: bool,
    ) -> bool {
        let Some(trace) = &mut self.trace else { return false };
        let frame = dissect(bytes, Verify::Nothing).ok();
        let tenant = frame.as_ref().map_or(TenantId::NONE, |frame| tenant_of(frame, arrival, snapshot));
        if !trace.order.wanted.wants(frame.as_ref(), arrival.port, arrival.origin, worker, tenant) {
            return false;
        }
        let lost = stays && !trace.has_room();
        trace.lost += u64::from(lost);
        !lost
    }

    /// Whether this packet came by a port whose frames are wanted, is wanted, and can be taken; counted as [`Watch::traces`] does, but
    /// where only drops are wanted: what becomes of it says whether it is.
    fn captures(&mut self, bytes: &[u8], arrival: &Arrival, stays: bool) -> bool {
        let from_wire = matches!(arrival.origin, Origin::Wire | Origin::InLine | Origin::Tier(_));
        let tap = self.capture.as_mut().filter(|tap| from_wire && tap.order.port == arrival.port && tap.wants(bytes));
        tap.is_some_and(|tap| !(stays && tap.order.drops.is_none() && tap.misses(bytes)))
    }
}

/// What somebody wants to know of one packet.
#[derive(Clone, Copy)]
struct Wanted {
    trace: bool,
    capture: bool,
}

impl Tracing {
    fn has_room(&self) -> bool {
        self.buffers.first().is_some_and(|buffer| buffer.records.len() < buffer.records.capacity())
    }

    /// Puts a record where there is room.
    fn note(&mut self, record: TraceRecord) {
        let room = self.has_room();
        let Some(buffer) = self.buffers.first_mut().filter(|_| room) else {
            self.lost += 1;
            return;
        };
        buffer.records.push(record);
        self.left = self.left.saturating_sub(1);
    }

    /// The first buffer, as far as it is to be delivered now.
    fn ready(&mut self, now: Nanos, at_leisure: bool) -> Option<Box<Trace>> {
        let over = self.left == 0 || self.order.until <= now;
        let first = self.buffers.first()?;
        let full = first.records.len() == first.records.capacity();
        let something = !first.records.is_empty() || self.lost > 0;
        // The last buffer stays while the others are on their way: what comes meanwhile finds room.
        if !(over || full || at_leisure && something && self.buffers.is_full()) {
            return None;
        }
        let mut buffer = self.buffers.pop_at(0)?;
        buffer.lost = core::mem::take(&mut self.lost);
        buffer.over = over;
        Some(buffer)
    }
}

/// What a worker has counted, for the difference that one packet makes.
struct Tally {
    forwarded: u64,
    punted: u64,
    originated: u64,
    handed_over: u64,
    decapsulated: u64,
    waits_for_neighbor: usize,
    dropped: [u64; DropReason::COUNT],
}

impl Tally {
    fn of<B: Buffer>(shard: &Shard<B>) -> Self {
        let counters: &WorkerCounters = &shard.counters;
        let mut dropped = [0; DropReason::COUNT];
        for (reason, count) in DropReason::all().zip(&mut dropped) {
            *count = counters.dropped(reason);
        }
        Self {
            forwarded: counters.forwarded.get(),
            punted: counters.punted.get(),
            originated: counters.originated.get(),
            handed_over: counters.handed_over.get(),
            decapsulated: counters.decapsulated.get(),
            waits_for_neighbor: shard.next_hops.held(),
            dropped,
        }
    }

    /// What became of the packet that made the difference between this and `after`.
    fn fate(&self, after: &Self, is_fragment: bool) -> Fate {
        let dropped = DropReason::all().zip(self.dropped.iter().zip(&after.dropped));
        let mut dropped = dropped.filter(|(_, (before, after))| after > before).map(|(reason, _)| reason);
        // A fragment that is kept may push out the datagrams of others.
        let own = dropped.find(|reason| {
            !(is_fragment && matches!(reason, DropReason::FragmentsFull | DropReason::FragmentsOfSource))
        });
        match own {
            _ if after.handed_over > self.handed_over => Fate::HandedOver,
            Some(reason) if after.forwarded == self.forwarded => Fate::Dropped(reason),
            _ if after.waits_for_neighbor > self.waits_for_neighbor => Fate::WaitsForNeighbor,
            _ if after.forwarded > self.forwarded => Fate::Forwarded,
            _ if after.punted > self.punted => Fate::Punted,
            _ if is_fragment => Fate::WaitsForFragments,
            _ => Fate::Consumed,
        }
    }
}

impl<N, P, C> Worker<N, P, C>
where
    N: Nic,
    P: BufferPool<Buffer = N::Buffer>,
    C: Clock,
{
    /// Treats a burst some of whose packets somebody may want to know about.
    #[cold]
    #[inline(never)]
    pub(crate) fn treat_watched(&mut self, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        let mut run = Burst::new_const();
        let mut packets = core::mem::take(burst);
        let stays = self.shard.workers == 1 || !arrival.steer && arrival.asked == Asked::NOBODY;
        for buffer in packets.drain(..) {
            let here = (self.shard.id, &*self.shard.snapshot);
            let trace = self.watch.traces(buffer.bytes(), &arrival, here, stays);
            let capture = self.watch.captures(buffer.bytes(), &arrival, stays);
            let alone = trace || capture;
            if alone && !run.is_empty() {
                self.treat_by(self.processor, &mut run, arrival);
            }
            run.push(buffer);
            if alone {
                self.treat_alone(&mut run, arrival, Wanted { trace, capture });
            }
        }
        if !run.is_empty() {
            self.treat_by(self.processor, &mut run, arrival);
        }
    }

    /// Treats one packet and writes down what becomes of it.
    fn treat_alone(&mut self, alone: &mut Burst<N::Buffer>, arrival: Arrival, wanted: Wanted) {
        let Some(buffer) = alone.first() else { return };
        let bytes = buffer.bytes();
        let taken = self.watch.capture.as_mut().filter(|_| wanted.capture).map(|tap| tap.take(bytes));
        let (length, read) = (bytes.len(), dissect(bytes, Verify::Nothing));
        let facts = read.as_ref().ok().and_then(facts_of);
        // What only a trace tells is found out for nothing else.
        let traced = facts.filter(|_| wanted.trace);
        let flow = traced.and_then(flow_of);
        let tenant = read.as_ref().map_or(TenantId::NONE, |frame| tenant_of(frame, &arrival, &self.shard.snapshot));
        let before = flow.and_then(|flow| self.shard.meet(tenant, &flow));
        let asked = traced.and_then(|facts| self.shard.service_asked(bytes, facts));
        self.exits.flush_to_workers(&self.shard.counters);
        let tally = Tally::of(&self.shard);
        if wanted.trace {
            self.shard.noted = Noted { on: true, decision: None };
            self.exits.note_departures();
        }
        self.treat_by(self.processor, alone, arrival);
        // What is handed over is counted when it goes.
        self.exits.flush_to_workers(&self.shard.counters);
        let mut departures = if wanted.trace { self.exits.departures() } else { ArrayVec::new() };
        let decision = core::mem::take(&mut self.shard.noted).decision;
        let after_all = Tally::of(&self.shard);
        let fate = tally.fate(&after_all, facts.is_some_and(|facts| facts.fragment != Fragment::No));
        // The worker that it was given to takes it and tells the rest, but of what came in a tunnel it sees the inside alone.
        let unwrapped = after_all.decapsulated > tally.decapsulated;
        let goes_on = fate == Fate::HandedOver && !unwrapped;
        if let (Some(tap), Some(taken)) = (&mut self.watch.capture, taken) {
            tap.judge(taken, fate, goes_on);
        }
        if goes_on || !wanted.trace {
            return;
        }
        for departure in &mut departures {
            let target = departure.frame.as_ref().and_then(facts_of).map(|facts| facts.endpoints.destination());
            departure.next_hop =
                target.and_then(|target| self.shard.snapshot.routes.lookup(target).map(|route| route.next_hop(target)));
        }
        let left_as = || departures.first().and_then(|departure| flow_of(facts_of(departure.frame.as_ref()?)?));
        let after = flow
            .and_then(|flow| self.shard.meet(tenant, &flow))
            .or_else(|| left_as().and_then(|flow| self.shard.meet(tenant, &flow.reversed())).map(Met::turned));
        let Some(trace) = &mut self.watch.trace else { return };
        trace.note(TraceRecord {
            at: self.shard.now,
            worker: self.shard.id,
            port: arrival.port,
            came: came(&arrival),
            snapshot: Arc::clone(&self.shard.snapshot),
            length,
            read,
            before,
            decision,
            asked,
            after,
            decapsulated: unwrapped,
            fate,
            originated: after_all.originated - tally.originated,
            departures,
        });
        self.deliver_records(false);
    }

    /// Delivers what has been found out: full buffers at once, others when the worker has a moment.
    #[cold]
    #[inline(never)]
    pub(crate) fn deliver_findings(&mut self, at_leisure: bool) {
        self.deliver_records(at_leisure);
        let now = self.shard.now;
        let ready = self.watch.capture.as_mut().and_then(|tap| tap.ready(now, at_leisure));
        if let Some(buffer) = ready {
            let over = buffer.over;
            self.shard.deliver(Event::Captured(buffer));
            if over {
                give_back(&mut self.shard, self.watch.capture.take());
            }
        }
        for (_, place) in self.exits.taps() {
            let Some(buffer) = place.as_mut().and_then(|tap| tap.ready(now, at_leisure)) else { continue };
            let ended = if buffer.over { place.take() } else { None };
            self.shard.deliver(Event::Captured(buffer));
            give_back(&mut self.shard, ended);
        }
        self.watch.on = self.is_watched();
    }

    /// The time of what is taken in this turn.
    pub(crate) fn tell_taps(&mut self) {
        let now = self.shard.now;
        let sent = self.exits.taps().filter_map(|(_, tap)| tap.as_mut());
        for tap in self.watch.capture.iter_mut().chain(sent) {
            tap.turn(now);
        }
    }

    fn is_watched(&mut self) -> bool {
        let tapped = self.exits.taps().any(|(_, tap)| tap.is_some());
        self.watch.trace.is_some() || self.watch.capture.is_some() || tapped
    }

    /// Takes a buffer for a capture; the first of another capture ends the one before on its side.
    pub(crate) fn capture(&mut self, buffer: Box<Catch>) {
        let (order, begins) = (buffer.order, buffer.begins);
        let place = match order.side {
            Side::Received => Some(&mut self.watch.capture),
            Side::Sent => self.exits.taps().find(|(port, _)| *port == order.port).map(|(_, tap)| tap),
        };
        let mut refused = None;
        let mut before = None;
        match place {
            Some(Some(tap)) if tap.order.request == order.request => refused = tap.lend(buffer),
            Some(place) if begins => before = place.replace(Tap::new(buffer)),
            // Sent by other workers, or over meanwhile.
            Some(_) | None => refused = Some(buffer),
        }
        give_back(&mut self.shard, before);
        if let Some(mut buffer) = refused {
            buffer.over = true;
            self.shard.deliver(Event::Captured(buffer));
        }
        self.watch.on = self.is_watched();
        if begins {
            self.shard.deliver(Event::Watching { request: order.request });
        }
    }

    /// Ends the capture with this number.
    pub(crate) fn stop_capture(&mut self, request: u64) {
        let sent = self.exits.taps().map(|(_, tap)| tap);
        for place in [&mut self.watch.capture].into_iter().chain(sent) {
            if place.as_ref().is_some_and(|tap| tap.order.request == request) {
                give_back(&mut self.shard, place.take());
            }
        }
        self.watch.on = self.is_watched();
    }

    fn deliver_records(&mut self, at_leisure: bool) {
        let Some(trace) = &mut self.watch.trace else { return };
        if let Some(buffer) = trace.ready(self.shard.now, at_leisure) {
            let over = buffer.over;
            self.shard.deliver(Event::Traced(buffer));
            if over {
                self.end_trace();
            }
        }
    }

    /// Takes a buffer for a trace; the first of another trace ends the one before.
    pub(crate) fn trace(&mut self, buffer: Box<Trace>) {
        let (request, begins) = (buffer.order.request, buffer.begins);
        let under_way = self.watch.trace.as_ref().is_some_and(|trace| trace.order.request == request);
        if begins && !under_way {
            self.end_trace();
            let order = buffer.order.clone();
            self.watch.trace = Some(Tracing { left: order.count, order, lost: 0, buffers: ArrayVec::new() });
        }
        let refused = match &mut self.watch.trace {
            Some(trace) if trace.order.request == request => {
                trace.buffers.try_push(buffer).err().map(|full| full.element())
            }
            Some(_) | None => Some(buffer),
        };
        if let Some(mut buffer) = refused {
            buffer.over = true;
            self.shard.deliver(Event::Traced(buffer));
        }
        self.watch.on = self.is_watched();
        if begins {
            self.shard.deliver(Event::Watching { request });
        }
    }

    /// Ends the trace with this number.
    pub(crate) fn stop_trace(&mut self, request: u64) {
        if self.watch.trace.as_ref().is_some_and(|trace| trace.order.request == request) {
            self.end_trace();
        }
    }

    /// Gives the buffers of a trace back.
    fn end_trace(&mut self) {
        if let Some(trace) = self.watch.trace.take() {
            for mut buffer in trace.buffers {
                buffer.over = true;
                self.shard.deliver(Event::Traced(buffer));
            }
        }
        self.watch.on = self.is_watched();
    }
}

/// Gives back what control has lent for one side of a capture.
fn give_back<B>(shard: &mut Shard<B>, tap: Option<Tap>) {
    let Some((buffers, filter)) = tap.map(Tap::end) else { return };
    for buffer in buffers {
        shard.deliver(Event::Captured(buffer));
    }
    if let Some(filter) = filter {
        shard.deliver(Event::Released(filter));
    }
}

impl Tap {
    /// Keeps the frame that was taken last or gives it up, now that it is known what became of it, and whether another worker takes it.
    fn judge(&mut self, taken: bool, fate: Fate, goes_on: bool) {
        let reason = if let Fate::Dropped(reason) = fate { Some(reason) } else { None };
        let wanted = match self.order.drops {
            _ if goes_on => false,
            None => true,
            Some(wanted) => reason.is_some_and(|reason| wanted.is_none_or(|wanted| wanted == reason)),
        };
        match reason {
            _ if !wanted => self.untake(taken),
            Some(reason) if taken => self.explain(reason),
            _ => {}
        }
    }
}

impl<B> Shard<B> {
    /// Writes down what the firewall said, where somebody wants to know.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_decision(&mut self, bound: Bound, candidate: &Candidate, judgement: &Judgement, again: bool) {
        self.noted.decision = Some(Decision { bound, candidate: *candidate, judgement: *judgement, again });
    }
}

impl<B: Buffer> Shard<B> {
    /// The session of a tenant's flow.
    fn meet(&self, tenant: TenantId, flow: &Flow) -> Option<Met> {
        match flow {
            Flow::V4(kind, tuple) => self.meet_in::<Ipv4Addr>(tenant, *kind, tuple),
            Flow::V6(kind, tuple) => self.meet_in::<Ipv6Addr>(tenant, *kind, tuple),
        }
    }

    fn meet_in<A: Family>(&self, tenant: TenantId, kind: session::Kind, tuple: &Tuple<A>) -> Option<Met> {
        let table = A::table(&self.sessions);
        let (slot, direction) = table.lookup_in(tenant, table.hash_in(tenant, kind, tuple), kind, tuple)?;
        let session = table.session(slot);
        let leads = match NextHopId::new(session.next_hop(direction)) {
            NextHopId::KERNEL => Leads::Kernel,
            NextHopId::TUNNEL => Leads::Tunnel,
            NextHopId::SPLICED => Leads::Spliced,
            NextHopId::ACROSS => Leads::Across,
            NextHopId::TIERED => Leads::Tiers,
            hop if hop.is_through() => Leads::Through,
            _ => Leads::NextHop,
        };
        Some(Met {
            session: self.record_of::<A>(slot, session),
            direction,
            rule: session.rule(),
            judged: session.generation() == self.generation,
            translated: session.is_translated(),
            leads,
        })
    }

    /// The service a packet asks, and who is known to have served it before.
    fn service_asked(&self, bytes: &[u8], facts: &Facts) -> Option<ServiceAsked> {
        let port = match facts.transport {
            Transport::Tcp(tcp) => tcp.destination_port,
            Transport::Udp { destination_port, .. } => destination_port,
            _ => return None,
        };
        let service = self.snapshot.services.find(facts.endpoints.destination(), facts.protocol, port)?;
        let found = self.snapshot.services.service(service)?;
        let memory = found.persistence().zip(found.spec().persistence);
        let remembered =
            memory.and_then(|(memory, timeout)| memory.recall(facts.endpoints.source(), timeout, self.now));
        let begin = usize::from(facts.transport_offset) + wire::udp::UdpHeader::LEN;
        let datagram = bytes.get(begin..usize::from(facts.end)).filter(|_| found.spec().quic.is_some());
        let named = datagram.and_then(|datagram| found.named_by(datagram, self.now));
        let key = |position: usize| found.members().get(position).map(|member| member.backend.key());
        Some(ServiceAsked { service, remembered, named: named.and_then(key) })
    }
}

impl Met {
    /// The same, as met by a packet of the other direction.
    const fn turned(mut self) -> Self {
        self.direction = match self.direction {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        };
        self
    }
}

/// The tenant of a frame that came this way.
fn tenant_of(frame: &Frame, arrival: &Arrival, snapshot: &Snapshot) -> TenantId {
    match arrival.origin {
        Origin::Wire | Origin::InLine => snapshot.tenant_at(arrival.port, frame),
        Origin::Tunnel | Origin::Kernel | Origin::Tier(_) => TenantId::NONE,
    }
}

const fn facts_of(frame: &Frame) -> Option<&Facts> {
    match &frame.content {
        Content::Ip(facts) => Some(facts),
        Content::Arp(_) | Content::Other => None,
    }
}

/// The flow a packet belongs to, of an ICMP error that of the packet it is about.
fn flow_of(facts: &Facts) -> Option<Flow> {
    match &facts.transport {
        Transport::IcmpError { quote, .. } => Flow::against(quote),
        _ => Flow::of(facts),
    }
}

fn came(arrival: &Arrival) -> Came {
    match arrival.origin {
        Origin::Kernel => Came::FromKernel,
        Origin::Tunnel => Came::OutOfTunnel,
        Origin::Wire | Origin::InLine | Origin::Tier(_) if !arrival.steer || arrival.asked != Asked::NOBODY => {
            Came::HandedOver
        }
        Origin::Wire | Origin::InLine | Origin::Tier(_) => Came::ByWire,
    }
}

/// What left, as it is written down.
pub(crate) fn departure(port: units::PortId, bytes: &[u8]) -> Departure {
    Departure { port, frame: dissect(bytes, Verify::Nothing).ok(), length: bytes.len(), next_hop: None }
}
