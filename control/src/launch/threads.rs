//! The threads of the data plane and control: which queues, rings and tables each gets, where it is pinned, how it ends; and
//! the one that has memory ready before sessions need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use config::Policy;
use core_affinity::CoreId;
use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::queue::ArrayQueue;
use dpdk::{Eal, Lcore, Mbuf, Pool, Queue};
use session::{Backing, HashSecret};
use units::limits::{COMMAND_RING, EVENT_RING, HANDOVER_RING};
use units::{PortId, WorkerId};
use worker::{
    Block, Clock, Exchange, Exits, KernelRings, KernelSide, Output, QueuePair, Shard, Snapshot, Worker, WorkerCounters,
    handover_ring,
};

use super::devices::TscClock;
use super::supervisor::Supervisor;
use super::{Refused, confine};
use crate::event::{Note, Request};
use crate::running::WorkerView;
use crate::status::RestartStatus;
use crate::steward::{Steward, Watchdog, WorkerLink};
use crate::succession::Estate;

/// How often it is looked whether sessions have come near the end of what is backed: at ten million new ones a second, 16 MiB are
/// left for 12 ms.
const BACKING_EVERY: Duration = Duration::from_millis(5);

/// The running workers. Dropping it stops them and waits for them, so that nobody polls a device that is being closed.
#[derive(Debug)]
pub(super) struct Team {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    views: Vec<WorkerView>,
    links: Vec<WorkerLink>,
    exchanges: Vec<Arc<Exchange<Queue>>>,
    session_bytes: u64,
    /// What workers that have stopped leave; nobody listens any more once it is taken.
    left: Option<Receiver<Block>>,
}

/// Blocks of sessions that wait to be written down.
const BLOCKS: usize = 16;

/// What one worker is made of before its thread starts.
struct Share {
    queues: Vec<QueuePair<Queue>>,
    outputs: Vec<Output<Mbuf>>,
}

/// Deals the queues out: queue `q` of a port goes to worker `q`; a worker beyond the last queue of a port sends through
/// the ring of queue 0's owner, or another's, in turn.
fn deal(ports: Vec<Vec<Queue>>, workers: usize) -> Vec<Share> {
    let mut shares: Vec<Share> = (0..workers).map(|_| Share { queues: Vec::new(), outputs: Vec::new() }).collect();
    for (port, queues) in (0..).map(PortId::new).zip(ports) {
        let count = queues.len().max(1);
        let rings: Vec<_> =
            (0..count).map(|_| (workers > count).then(|| Arc::new(ArrayQueue::<Mbuf>::new(HANDOVER_RING)))).collect();
        let mut queues = queues.into_iter();
        for (number, share) in shares.iter_mut().enumerate() {
            if let Some(queue) = queues.next() {
                share.outputs.push(Output::Own(share.queues.len()));
                share.queues.push(QueuePair::new(port, queue, rings.get(number).cloned().flatten()));
            } else if let Some(Some(ring)) = rings.get(number % count) {
                share.outputs.push(Output::Ring(Arc::clone(ring)));
            }
        }
    }
    shares
}

impl Team {
    /// Starts a worker on every worker core of the policy, with the sessions that the process before has left.
    pub(super) fn start(
        eal: &Eal,
        policy: &Policy,
        clock: TscClock,
        pool: &Pool,
        ports: Vec<Vec<Queue>>,
        kernel: &[(PortId, Arc<KernelRings<Mbuf>>)],
        snapshot: &Arc<Snapshot>,
    ) -> Result<(Self, RestartStatus), Refused> {
        let cores = &policy.cores.workers;
        let secret = HashSecret::random();
        let peers: Vec<_> = cores.iter().map(|_| handover_ring()).collect();
        let capacity = policy.sessions.capacity.div_ceil(cores.len().max(1));
        let (leaving, left) = bounded(BLOCKS);
        let mut team = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            views: Vec::new(),
            links: Vec::new(),
            exchanges: Vec::new(),
            session_bytes: 0,
            left: Some(left),
        };
        let (mut shards, mut backings) = (Vec::new(), Vec::new());
        for (number, &core) in (0..).zip(cores) {
            let counters = Arc::new(WorkerCounters::default());
            let inbox = Arc::new(ArrayQueue::new(COMMAND_RING));
            let events = Arc::new(ArrayQueue::new(EVENT_RING));
            let mut shard = Shard::new(
                WorkerId::new(number),
                cores.len(),
                capacity,
                &secret,
                Arc::clone(snapshot),
                Arc::clone(&counters),
                Arc::clone(&events),
            )?;
            shard.place(policy.neighbors.iter().map(|at| (at.port, at.address, at.mac)));
            team.session_bytes += shard.session_bytes() as u64;
            backings.push(shard.session_backing());
            team.views.push(WorkerView { core, counters });
            team.links.push(WorkerLink { inbox, events });
            shards.push(shard);
        }
        let restart = Estate::of(policy).take_up(&mut shards, snapshot, clock.now());
        for (((number, &core), share), shard) in (0..).zip(cores).zip(deal(ports, cores.len())).zip(shards) {
            let id = WorkerId::new(number);
            // Each kernel interface is read by one worker; which one does not matter.
            let kernel = kernel
                .iter()
                .map(|(port, rings)| KernelSide {
                    port: *port,
                    rings: Arc::clone(rings),
                    reads: port.index() % cores.len() == id.index(),
                })
                .collect();
            let exchange = Arc::new(Exchange::default());
            let exits = Exits::new(pool.clone(), share.queues, share.outputs, kernel, peers.clone())
                .exchanging(Arc::clone(&exchange));
            let (Some(handed), Some(link)) = (peers.get(id.index()), team.links.get(id.index())) else { continue };
            let worker = Worker::new(clock, shard, exits, Arc::clone(&link.inbox), Arc::clone(handed));
            let (eal, stop, leaving) = (eal.clone(), Arc::clone(&team.stop), leaving.clone());
            let thread = Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || attend(worker, &eal, core, &stop, &leaving));
            team.exchanges.push(exchange);
            team.threads.push(thread?);
        }
        let (stop, core) = (Arc::clone(&team.stop), policy.cores.control);
        let back = move || back_ahead(backings, core, &stop);
        team.threads.push(Builder::new().name("table-memory".into()).spawn(back)?);
        Ok((team, restart))
    }

    /// Stops the workers, hands what they leave to `heir` as it comes, and waits for them.
    pub(super) fn leave(mut self, heir: impl FnOnce(&mut dyn Iterator<Item = Block>)) {
        self.stop.store(true, Ordering::Release);
        if let Some(left) = self.left.take() {
            // It ends when the last worker has left all it has, or when the heir takes no more.
            heir(&mut left.into_iter());
        }
    }

    /// How many workers there are.
    pub(super) fn len(&self) -> usize {
        self.views.len()
    }

    /// The workers as management sees them.
    pub(super) fn views(&self) -> Vec<WorkerView> {
        self.views.clone()
    }

    /// Where devices of the workers change hands, by worker.
    pub(super) fn exchanges(&self) -> Vec<Arc<Exchange<Queue>>> {
        self.exchanges.clone()
    }

    /// Bytes set aside for sessions.
    pub(super) const fn session_bytes(&self) -> u64 {
        self.session_bytes
    }

    /// Starts the control thread of these workers, for this policy and its tables.
    pub(super) fn control(
        &self,
        clock: TscClock,
        asked: Asked,
        notes: Sender<Note>,
        policy: &Policy,
        snapshot: &Arc<Snapshot>,
        supervisor: &Supervisor,
    ) -> Result<Control, Refused> {
        let Asked { stop, requests } = asked;
        let mut steward = Steward::new(clock, self.links.clone(), requests, notes, snapshot);
        if let Some((patience, well)) = supervisor.watchdog() {
            let workers = self.views.iter().map(|view| Arc::clone(&view.counters)).collect();
            steward.watch(Watchdog::new(workers, patience, well));
        }
        let placed = policy.neighbors.iter().map(|at| (at.port, at.address, at.mac)).collect();
        let core = policy.cores.control;
        let thread = Builder::new().name("control".into()).spawn(move || {
            pin(core);
            confine::keep_nothing();
            steward.place(placed);
            steward.run();
        })?;
        Ok(Control { stop, thread: Some(thread) })
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // No worker waits for somebody to take what it leaves.
        self.left = None;
        for thread in self.threads.drain(..) {
            super::join(thread, "worker");
        }
    }
}

/// Both ends of what management asks control: the thread listens at one, the other tells it to finish.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) stop: Sender<Request>,
    pub(super) requests: Receiver<Request>,
}

/// The running control thread. Dropping it ends the thread and waits for it: it holds tables that live in DPDK's memory.
#[derive(Debug)]
pub(super) struct Control {
    stop: Sender<Request>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.stop.send(Request::Stop);
        if let Some(thread) = self.thread.take() {
            super::join(thread, "control");
        }
    }
}

/// A worker's thread from beginning to end.
fn attend(
    mut worker: Worker<Queue, Pool, TscClock>,
    eal: &Eal,
    core: usize,
    stop: &AtomicBool,
    leaving: &Sender<Block>,
) {
    pin(core);
    let registered = Lcore::register(eal);
    match &registered {
        Ok(lcore) => log::debug!("the worker on core {core} is lcore {}", lcore.id()),
        // It works without a registration, only without a cache of buffers of its own.
        Err(error) => log::warn!("the worker on core {core}: {error}"),
    }
    confine::keep_nothing();
    worker.run(stop);
    worker.write_down(|block| leaving.send(block).is_ok());
    drop(worker);
    drop(registered);
}

/// Has the kernel back memory before sessions need it, until the workers stop.
fn back_ahead(mut backings: Vec<Backing>, core: usize, stop: &AtomicBool) {
    pin(core);
    confine::keep_nothing();
    while !stop.load(Ordering::Relaxed) {
        let mut enough = true;
        for backing in &mut backings {
            enough &= !backing.advance();
        }
        if enough {
            std::thread::sleep(BACKING_EVERY);
        }
    }
}

/// Keeps the calling thread on this core.
pub(super) fn pin(core: usize) {
    if !core_affinity::set_for_current(CoreId { id: core }) {
        log::warn!("a thread could not be pinned to core {core}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that goes on until it is told to stop, and counts itself.
    fn polling(stop: &Arc<AtomicBool>, running: &Arc<()>) -> JoinHandle<()> {
        let (stop, running) = (Arc::clone(stop), Arc::clone(running));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            drop(running);
        })
    }

    #[test]
    fn a_start_that_fails_leaves_no_worker_behind() {
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
        let fails = || -> Result<(), Refused> {
            let _team = Team {
                stop: Arc::clone(&stop),
                threads: vec![polling(&stop, &running), polling(&stop, &running)],
                views: Vec::new(),
                links: Vec::new(),
                exchanges: Vec::new(),
                session_bytes: 0,
                left: None,
            };
            Err("the next stage failed".into())
        };
        fails().unwrap_err();
        assert_eq!(Arc::strong_count(&running), 1);
    }

    #[test]
    fn control_ends_although_others_can_still_ask_it() {
        let (stop, requests) = crossbeam::channel::unbounded();
        let management = stop.clone();
        let thread = std::thread::spawn(move || while !matches!(requests.recv(), Ok(Request::Stop)) {});
        drop(Control { stop, thread: Some(thread) });
        assert!(management.send(Request::Stop).is_err(), "nobody listens any more");
    }
}
