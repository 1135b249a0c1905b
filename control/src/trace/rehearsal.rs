//! "Where would this go?": a worker of plain memory over tables of its own, compiled from the policy in force, that judges
//! packets by the very code that treats all others. Nothing it does is seen by anybody: rules, limits, blocklists, pools and
//! backends have counters of their own here, and what it sends goes nowhere.
//!
//! From the running appliance it takes what decides and is not in the policy: the health of backends and whether they are
//! drained, who had which backend before, and the neighbors that are known. What it cannot take (limits used up, places in
//! the round robin, sessions of others) is told with the answer.
//!
//! Runs in management, on a thread that may block; what it takes is given back with it.

use std::net::IpAddr;
use std::sync::Arc;

use config::Policy;
use crossbeam::queue::ArrayQueue;
use frame::ReceivedChecksum;
use frame::memory::{MemoryNic, MemoryPool, Wire};
use session::HashSecret;
use stage::balancer::{Algorithm, Service};
use stage::forward::Neighbor;
use stage::syn_cookie::CookieMode;
use units::{Nanos, PortId, WorkerId};
use worker::{
    Bound, Clock, Command, Event, Exits, KernelRings, KernelSide, Output, PacketMatch, QueuePair, Shard, Snapshot,
    Trace, TraceOrder, TraceRecord, Worker, WorkerCounters, handover_ring,
};

use crate::compile::{Device, PlainTables, compile};

/// Packets judged by one rehearsal at most.
pub const PACKETS_MAX: usize = 1_000;

/// Sessions there is room for: what the packets of one rehearsal may open, and as many again.
const SESSIONS: usize = 2 * PACKETS_MAX;

/// Packet buffers, most of them for the pieces of large packets.
const BUFFERS: usize = 256;

/// Turns after which a worker of one packet has long come to rest.
const TURNS: usize = 64;

/// Of more services than this, those that no packet asks have no tables: nothing would read them.
const SERVICES_WHOLE: usize = 64;

/// Time that stands still.
#[derive(Clone, Copy, Debug)]
struct Moment(Nanos);

impl Clock for Moment {
    fn now(&self) -> Nanos {
        self.0
    }

    fn cycles(&self) -> u64 {
        0
    }
}

/// What a rehearsal takes from the running appliance.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// The devices it is on.
    pub devices: &'a [Device],
    /// The tables in force.
    pub snapshot: &'a Snapshot,
    /// The neighbors that are known.
    pub neighbors: &'a [Neighbor],
    /// The time since start.
    pub now: Nanos,
}

/// A worker that judges and does nothing.
#[derive(Debug)]
pub struct Rehearsal {
    worker: Worker<MemoryNic, MemoryPool, Moment>,
    pool: MemoryPool,
    wires: Vec<Arc<Wire>>,
    inbox: Arc<ArrayQueue<Command>>,
    events: Arc<ArrayQueue<Event>>,
    order: TraceOrder,
    begun: bool,
    snapshot: Arc<Snapshot>,
}

/// Tables like those in force, with counters of their own. Services that are not `asked` may be without theirs.
fn apart(scene: &Scene<'_>, asked: &[IpAddr]) -> Result<Snapshot, String> {
    let mut policy = scene.policy.clone();
    // Read once already: the prefixes in force are used.
    policy.blocklists.clear();
    policy.sessions.capacity = SESSIONS;
    policy.fragments.capacity = BUFFERS / 2;
    policy.session_log = None;
    let many = policy.services.len() > SERVICES_WHOLE;
    for service in policy.services.iter_mut().filter(|service| many && !asked.contains(&service.spec.address)) {
        service.spec.persistence = None;
        service.spec.algorithm = Algorithm::RoundRobin;
    }
    let live = scene.snapshot;
    let compiled = compile(&policy, scene.devices, live.generation, None, &PlainTables, live.steer_secret)?;
    compiled.services.enact(None, scene.now);
    for (service, running) in compiled.services.iter().zip(live.services.iter()) {
        take_state(service, running, asked, scene.now);
    }
    let sources = Arc::new(live.sources.with(live.sources.blocklists().apart()));
    let services = Arc::new(compiled.services.rebuilt());
    Ok(Snapshot { services, sources, ..compiled })
}

/// What is known of a service's backends, and of who had which.
fn take_state(service: &Service, running: &Service, sources: &[IpAddr], now: Nanos) {
    for (member, live) in service.members().iter().zip(running.members()) {
        member.backend.set_health(live.backend.health());
        if !live.backend.is_enabled() {
            member.backend.drain(now);
        }
    }
    let Some((memory, timeout)) = running.persistence().zip(running.spec().persistence) else { return };
    for &source in sources {
        let had = memory.recall(source, timeout, now);
        let member = service.members().iter().find(|member| Some(member.backend.key()) == had);
        if let Some(member) = member {
            service.remember(source, &member.backend, now);
        }
    }
}

impl Rehearsal {
    /// A worker for packets whose sources and destinations are among `addresses`.
    ///
    /// # Errors
    /// A sentence: there is no memory for it.
    pub fn new(scene: &Scene<'_>, addresses: &[IpAddr]) -> Result<Self, String> {
        let snapshot = Arc::new(apart(scene, addresses)?);
        let pool = MemoryPool::new(BUFFERS, usize::from(scene.policy.dpdk.buffer_size));
        let wires: Vec<Arc<Wire>> = snapshot.ports.iter().map(|_| Wire::new(BUFFERS)).collect();
        let queues = (0..).map(PortId::new).zip(&wires);
        let queues: Vec<_> =
            queues.map(|(port, wire)| QueuePair::new(port, MemoryNic::new(Arc::clone(wire)), None)).collect();
        let outputs = (0..queues.len()).map(Output::Own).collect();
        let kernel = (0..).map(PortId::new).zip(&snapshot.ports).filter(|(_, facts)| facts.kernel);
        let kernel = kernel
            .map(|(port, _)| KernelSide { port, rings: Arc::new(KernelRings::default()), reads: false })
            .collect();
        let (inbox, events) = (Arc::new(ArrayQueue::new(16)), Arc::new(ArrayQueue::new(4_096)));
        let shard = Shard::new(
            WorkerId::new(0),
            1,
            SESSIONS,
            &HashSecret::random(),
            Arc::clone(&snapshot),
            Arc::new(WorkerCounters::default()),
            Arc::clone(&events),
        );
        let mut shard = shard.map_err(|error| error.to_string())?;
        let told = scene.policy.neighbors.iter().map(|at| (at.port, at.address, at.mac));
        let known = scene.neighbors.iter().filter_map(|at| Some((at.port, at.address, at.mac?)));
        shard.place(known.chain(told));
        let own = handover_ring();
        let exits = Exits::new(pool.clone(), queues, outputs, kernel, vec![Arc::clone(&own)]);
        let worker = Worker::new(Moment(scene.now), shard, exits, Arc::clone(&inbox), own);
        let order =
            TraceOrder { request: 1, wanted: PacketMatch::default(), count: usize::MAX, until: Nanos::new(u64::MAX) };
        Ok(Self { worker, pool, wires, inbox, events, order, begun: false, snapshot })
    }

    /// What would become of a frame that comes by a port. Each sees what those before it would have opened.
    ///
    /// # Errors
    /// A sentence: it fits no packet buffer, or there is no such port.
    pub fn judge(&mut self, port: PortId, frame: &[u8]) -> Result<TraceRecord, String> {
        let buffer = self.pool.filled(frame, ReceivedChecksum::Unchecked);
        let buffer = buffer.ok_or_else(|| format!("a frame of {} bytes fits no packet buffer", frame.len()))?;
        let wire = self.wires.get(port.index()).ok_or("there is no such port")?;
        wire.arrive(buffer).map_err(|_| "the packet finds no room")?;
        let lent = Trace::new(self.order.clone(), !self.begun, 1);
        self.begun = true;
        let _ = self.inbox.push(Command::Trace(Box::new(lent)));
        let mut told = None;
        for _ in 0..TURNS {
            self.worker.turn();
            for wire in &self.wires {
                while wire.take().is_some() {}
            }
            while let Some(event) = self.events.pop() {
                if let Event::Traced(mut trace) = event {
                    told = told.or_else(|| trace.records.pop());
                }
            }
            if told.is_some() {
                break;
            }
        }
        told.ok_or_else(|| "the packet did not come to rest".to_owned())
    }

    /// What the answer about a packet would depend on.
    #[must_use]
    pub fn depends(&self, policy: &Policy, record: &TraceRecord) -> Vec<String> {
        let mut depends = Vec::new();
        let allowed = record.decision.as_ref().filter(|decision| decision.judgement.drop_reason().is_none());
        let Some(decision) = allowed else { return depends };
        let rule = decision.judgement.rule.and_then(|rule| policy.firewall.rules.get(rule.index()));
        if let Some(rule) = rule
            && (rule.new_sessions_per_second.is_some() || rule.new_sessions_per_source.is_some())
        {
            depends.push(format!("rule {} limits new sessions; whether this one is within was not asked", rule.name));
        }
        if self.snapshot.source_limits.open().is_some() {
            depends.push("how many sessions its source has already, where the zone limits them".to_owned());
        }
        depends.push("whether there is room for another session".to_owned());
        if let Bound::Service(service) = decision.bound
            && let Some(service) = self.snapshot.services.service(service)
        {
            let spec = service.spec();
            match spec.algorithm {
                Algorithm::RoundRobin => depends.push("whose turn it is among the backends: any of them".to_owned()),
                Algorithm::LeastConnections | Algorithm::LeastLoad => {
                    depends.push("which backend has least to do at that moment: any of them".to_owned());
                }
                Algorithm::Maglev | Algorithm::SourceHash => {}
            }
            if matches!(spec.syn_cookies, CookieMode::Adaptive { .. }) {
                depends.push("whether the service asks for SYN cookies at that moment".to_owned());
            }
        }
        let hidden = record.after.as_ref().is_some_and(|met| {
            met.session.original.source != met.session.reply.destination
                || met.session.original.source_port != met.session.reply.destination_port
        });
        if hidden {
            depends.push("which outside port is free: the one shown is an example".to_owned());
        }
        depends
    }
}
