//! Putting an appliance together from memory cards: who polls which queue and sends through which, as `control`'s launch
//! deals real queues.

use std::sync::Arc;

use config::Policy;
use control::compile::Device;
use control::steward::WorkerLink;
use crossbeam::queue::ArrayQueue;
use session::HashSecret;
use units::limits::{COMMAND_RING, EVENT_RING, HANDOVER_RING};
use units::{PortId, WorkerId};
use wire::MacAddr;
use worker::{
    Command, Event, Exchange, Exits, KernelRings, KernelSide, Output, QueuePair, Shard, Snapshot, Worker,
    WorkerCounters, handover_ring,
};

use crate::clock::ManualClock;
use frame::memory::{MemoryBuffer, MemoryNic, MemoryPool, Wire};

/// How many of what a rig is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Workers.
    pub workers: u16,
    /// Queues of each port.
    pub queues: usize,
    /// Packet buffers, and places on each cable.
    pub buffers: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self { workers: 1, queues: 1, buffers: 2_048 }
    }
}

/// The rings to and from control of one worker.
pub(super) type Rings = (Arc<ArrayQueue<Command>>, Arc<ArrayQueue<Event>>);

/// The workers and everything that leads to them.
pub(super) struct Parts {
    pub(super) workers: Vec<Worker<MemoryNic, MemoryPool, ManualClock>>,
    pub(super) counters: Vec<Arc<WorkerCounters>>,
    pub(super) rings: Vec<Rings>,
    pub(super) exchanges: Vec<Arc<Exchange<MemoryNic>>>,
    pub(super) wires: Vec<Vec<Arc<Wire>>>,
    pub(super) kernel: Vec<Option<Arc<KernelRings<MemoryBuffer>>>>,
}

impl Parts {
    pub(super) fn links(&self) -> Vec<WorkerLink> {
        self.rings
            .iter()
            .map(|(inbox, events)| WorkerLink { inbox: Arc::clone(inbox), events: Arc::clone(events) })
            .collect()
    }
}

/// A MAC for every port.
pub(super) fn macs(policy: &Policy) -> Vec<MacAddr> {
    (1..)
        .zip(&policy.ports)
        .map(|(number, port)| port.mac.unwrap_or(MacAddr::new([2, 0xff, 0, 0, 0, number])))
        .collect()
}

/// What the devices would say of themselves.
pub(super) fn devices(policy: &Policy, macs: &[MacAddr]) -> Vec<Device> {
    let ports = policy.ports.iter().zip(macs);
    ports.map(|(port, &mac)| Device { mac, kernel: port.kernel_interface.is_some() }).collect()
}

pub(super) fn assemble(
    policy: &Policy,
    snapshot: &Arc<Snapshot>,
    layout: Layout,
    clock: &ManualClock,
    pool: &MemoryPool,
    settle: impl FnOnce(&mut [Shard<MemoryBuffer>]),
) -> Parts {
    let workers = usize::from(layout.workers);
    let wires: Vec<Vec<_>> =
        policy.ports.iter().map(|_| (0..layout.queues).map(|_| Wire::new(layout.buffers)).collect()).collect();
    let kernel: Vec<_> =
        snapshot.ports.iter().map(|port| port.kernel.then(|| Arc::new(KernelRings::default()))).collect();
    let shared: Vec<Vec<_>> = policy
        .ports
        .iter()
        .map(|_| (0..layout.queues).map(|_| Arc::new(ArrayQueue::new(HANDOVER_RING))).collect())
        .collect();
    let peers: Vec<_> = (0..workers).map(|_| handover_ring()).collect();
    let secret = HashSecret::from_seed(0x5eed);
    let (workers_of, counters, rings, exchanges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut parts = Parts { workers: workers_of, counters, rings, exchanges, wires, kernel };
    let mut shards = Vec::new();
    for id in (0..layout.workers).map(WorkerId::new) {
        let counters = Arc::new(WorkerCounters::default());
        let (inbox, events) = (Arc::new(ArrayQueue::new(COMMAND_RING)), Arc::new(ArrayQueue::new(EVENT_RING)));
        let capacity = policy.sessions.capacity.div_ceil(workers);
        let shard = Shard::new(
            id,
            workers,
            capacity,
            &secret,
            Arc::clone(snapshot),
            Arc::clone(&counters),
            Arc::clone(&events),
        );
        let mut shard = shard.expect("memory for the sessions");
        shard.place(policy.neighbors.iter().map(|at| (at.port, at.address, at.mac)));
        shards.push(shard);
        parts.counters.push(counters);
        parts.rings.push((inbox, events));
    }
    settle(&mut shards);
    for (id, shard) in (0..).map(WorkerId::new).zip(shards) {
        let (mut queues, mut outputs) = (Vec::new(), Vec::new());
        for (port, (wires, rings)) in (0..).map(PortId::new).zip(parts.wires.iter().zip(&shared)) {
            if let Some((wire, ring)) = wires.get(id.index()).zip(rings.get(id.index())) {
                outputs.push(Output::Own(queues.len()));
                queues.push(QueuePair::new(port, MemoryNic::new(Arc::clone(wire)), Some(Arc::clone(ring))));
            } else {
                outputs.push(Output::Ring(Arc::clone(&rings[id.index() % rings.len()])));
            }
        }
        let kernel = (0..)
            .map(PortId::new)
            .zip(&parts.kernel)
            .filter_map(|(port, rings)| {
                let reads = port.index() % workers == id.index();
                Some(KernelSide { port, rings: Arc::clone(rings.as_ref()?), reads })
            })
            .collect();
        let exchange = Arc::new(Exchange::default());
        let exits = Exits::new(pool.clone(), queues, outputs, kernel, peers.clone()).exchanging(Arc::clone(&exchange));
        let (inbox, handed) = (Arc::clone(&parts.rings[id.index()].0), Arc::clone(&peers[id.index()]));
        parts.workers.push(Worker::new(clock.clone(), shard, exits, inbox, handed));
        parts.exchanges.push(exchange);
    }
    parts
}
