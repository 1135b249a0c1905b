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
use units::Nanos;
use wire::{Content, Facts, Fragment, Frame, Transport, Verify, dissect};

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
use crate::trace::{Came, Decision, Departure, Fate, Leads, Met, ServiceAsked, Trace, TraceOrder, TraceRecord};

/// Buffers that control may lend for one trace.
const LENT: usize = 2;

/// What a worker is watched for.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    trace: Option<Tracing>,
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
        self.trace.is_some()
    }

    /// Whether somebody wants to know what becomes of this packet.
    fn wants(&self, bytes: &[u8], arrival: &Arrival, worker: units::WorkerId) -> bool {
        let Some(trace) = &self.trace else { return false };
        let frame = dissect(bytes, Verify::Nothing).ok();
        trace.order.wanted.wants(frame.as_ref(), arrival.port, arrival.origin, worker)
    }
}

impl Tracing {
    /// Puts a record where there is room.
    fn note(&mut self, record: TraceRecord) {
        let Some(buffer) = self.buffers.first_mut().filter(|buffer| buffer.records.len() < buffer.records.capacity())
        else {
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
        if !(over || full || at_leisure && something) {
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
        for buffer in packets.drain(..) {
            let wanted = self.watch.wants(buffer.bytes(), &arrival, self.shard.id);
            if wanted && !run.is_empty() {
                self.treat_by(self.processor, &mut run, arrival);
            }
            run.push(buffer);
            if wanted {
                self.treat_alone(&mut run, arrival);
            }
        }
        if !run.is_empty() {
            self.treat_by(self.processor, &mut run, arrival);
        }
    }

    /// Treats one packet and writes down what becomes of it.
    fn treat_alone(&mut self, alone: &mut Burst<N::Buffer>, arrival: Arrival) {
        let Some(buffer) = alone.first() else { return };
        let bytes = buffer.bytes();
        let (length, read) = (bytes.len(), dissect(bytes, Verify::Nothing));
        let facts = read.as_ref().ok().and_then(facts_of);
        let flow = facts.and_then(flow_of);
        let before = flow.and_then(|flow| self.shard.meet(&flow));
        let asked = facts.and_then(|facts| self.shard.service_asked(bytes, facts));
        self.exits.flush_to_workers(&self.shard.counters);
        let tally = Tally::of(&self.shard);
        self.shard.noted = Noted { on: true, decision: None };
        self.exits.note_departures();
        self.treat_by(self.processor, alone, arrival);
        // What is handed over is counted when it goes.
        self.exits.flush_to_workers(&self.shard.counters);
        let mut departures = self.exits.departures();
        let decision = core::mem::take(&mut self.shard.noted).decision;
        let after_all = Tally::of(&self.shard);
        let fate = tally.fate(&after_all, facts.is_some_and(|facts| facts.fragment != Fragment::No));
        if fate == Fate::HandedOver {
            return;
        }
        for departure in &mut departures {
            let target = departure.frame.as_ref().and_then(facts_of).map(|facts| facts.endpoints.destination());
            departure.next_hop =
                target.and_then(|target| self.shard.snapshot.routes.lookup(target).map(|route| route.next_hop(target)));
        }
        let left_as = || departures.first().and_then(|departure| flow_of(facts_of(departure.frame.as_ref()?)?));
        let after = flow
            .and_then(|flow| self.shard.meet(&flow))
            .or_else(|| left_as().and_then(|flow| self.shard.meet(&flow.reversed())).map(Met::turned));
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
            decapsulated: after_all.decapsulated > tally.decapsulated,
            fate,
            originated: after_all.originated - tally.originated,
            departures,
        });
        self.deliver_records(false);
    }

    /// Delivers what has been found out: full buffers at once, others when the worker has a moment.
    pub(crate) fn deliver_records(&mut self, at_leisure: bool) {
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
        let request = buffer.order.request;
        let under_way = self.watch.trace.as_ref().is_some_and(|trace| trace.order.request == request);
        if buffer.begins && !under_way {
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
    /// The session of a flow.
    fn meet(&self, flow: &Flow) -> Option<Met> {
        match flow {
            Flow::V4(kind, tuple) => self.meet_in::<Ipv4Addr>(*kind, tuple),
            Flow::V6(kind, tuple) => self.meet_in::<Ipv6Addr>(*kind, tuple),
        }
    }

    fn meet_in<A: Family>(&self, kind: session::Kind, tuple: &Tuple<A>) -> Option<Met> {
        let table = A::table(&self.sessions);
        let (slot, direction) = table.lookup(table.hash(kind, tuple), kind, tuple)?;
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
