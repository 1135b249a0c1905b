//! The appliance without its devices: policy text in, compiled tables, real workers over memory cards, the real control
//! thread's steward turned by hand, and stations on the links that answer ARP and neighbor discovery.
//!
//! ```text
//!   test -> put -> Wire -> Worker::turn -> Wire -> collect -> test
//!                            | ^ events, commands
//!                            v |
//!                          Steward (one pass a round)
//! ```
//!
//! One thread does it all, in rounds, until nothing moves any more ([`Rig::settle`]). When a rig is dropped it asserts the
//! standing assertions (`standing`): every packet accounted for (A2), every buffer back (A3), no session left after the
//! longest timeout (A4); each packet sent was checked as it left (A5).

mod devices;
mod neighborhood;
mod parts;
mod policy;
mod seeing;
mod standing;
mod succession;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::Policy;
use control::event::{Note, Request};
use control::steward::Steward;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use frame::{Buffer, ReceivedChecksum};
use stage::DropReason;
use stage::heavy_hitters::Counts;
use units::{Nanos, PortId};
use wire::MacAddr;
use worker::{Clock, Counter, Exchange, KernelRings, SessionRecord, Shard, Worker, WorkerCounters};

use crate::clock::ManualClock;
use crate::packet::{Macs, Packet};
use frame::memory::{MemoryBuffer, MemoryNic, MemoryPool, Wire};
use neighborhood::Neighborhood;

pub use parts::Layout;
pub use seeing::{Follower, Frames, Seen, Taken};
pub use worker::Snapshot;

/// Where packets come in and go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The cable of a port.
    Wire(PortId),
    /// The kernel interface beside a port.
    Kernel(PortId),
}

impl Side {
    /// The port.
    #[must_use]
    pub const fn port(self) -> PortId {
        match self {
            Self::Wire(port) | Self::Kernel(port) => port,
        }
    }
}

/// The cable of the first port.
pub const OUTSIDE: Side = Side::Wire(PortId::new(0));
/// The cable of the second port.
pub const INSIDE: Side = Side::Wire(PortId::new(1));
/// The kernel beside the first port.
pub const OUTSIDE_KERNEL: Side = Side::Kernel(PortId::new(0));
/// The kernel beside the second port.
pub const INSIDE_KERNEL: Side = Side::Kernel(PortId::new(1));

/// Two ports between clients and servers: the beginning of most policies here.
pub const TWO_PORTS: &str = include_str!("../../fixtures/two_ports.toml");

/// What [`TWO_PORTS`] gets for own, virtual and pool addresses on the outside port.
pub const ADDRESSES: &str = include_str!("../../fixtures/addresses.toml");

/// Rounds without movement after which nothing more is coming: the walks of a worker over its small tables take a few.
const QUIET_ROUNDS: u32 = 4;
/// Rounds after which something goes round in circles.
const ROUNDS_MAX: u32 = 200_000;

/// The rig.
#[derive(Debug)]
pub struct Rig {
    clock: ManualClock,
    pool: MemoryPool,
    workers: Vec<Worker<MemoryNic, MemoryPool, ManualClock>>,
    counters: Vec<Arc<WorkerCounters>>,
    rings: Vec<parts::Rings>,
    /// Where the workers' devices change hands.
    exchanges: Vec<Arc<Exchange<MemoryNic>>>,
    /// The cables, by port and queue.
    wires: Vec<Vec<Arc<Wire>>>,
    kernel: Vec<Option<Arc<KernelRings<MemoryBuffer>>>>,
    macs: Vec<MacAddr>,
    steward: Steward<ManualClock>,
    requests: Sender<Request>,
    notes: Receiver<Note>,
    snapshot: Arc<Snapshot>,
    policy: Policy,
    neighborhood: Neighborhood,
    longest_timeout: Nanos,
    /// What came out and was not looked at yet.
    out: Vec<(Side, Vec<u8>)>,
    tally: Tally,
    /// The trace that goes on all the time, if one does.
    watched: Option<Follower>,
}

/// What the rig itself has counted: the appliance's counters must agree.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    arrived: u64,
    from_kernel: u64,
    sent: u64,
    /// What waited to be sent by a device that went.
    lost: u64,
    to_kernel: u64,
}

impl Rig {
    /// One worker on [`TWO_PORTS`] and what `more` adds to it. All backends are up.
    #[must_use]
    pub fn new(more: &str) -> Self {
        Self::of(&format!("{TWO_PORTS}{more}"))
    }

    /// One worker on this policy.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self::laid_out(text, Layout::default())
    }

    /// Workers, queues and buffers as `layout` says, on this policy.
    #[must_use]
    pub fn laid_out(text: &str, layout: Layout) -> Self {
        let policy = policy::load(text);
        let macs = parts::macs(&policy);
        let snapshot = Arc::new(policy::first_tables(&policy, &parts::devices(&policy, &macs)));
        Self::over(policy, snapshot, layout)
    }

    /// Workers over tables that are compiled already, for those who make many rigs of one policy.
    #[must_use]
    pub fn over(policy: Policy, snapshot: Arc<Snapshot>, layout: Layout) -> Self {
        Self::settled(policy, snapshot, layout, |_| {})
    }

    /// As [`Rig::over`], after `settle` has seen the workers' shards.
    fn settled(
        policy: Policy,
        snapshot: Arc<Snapshot>,
        layout: Layout,
        settle: impl FnOnce(&mut [Shard<MemoryBuffer>]),
    ) -> Self {
        let macs = parts::macs(&policy);
        let pool = MemoryPool::new(layout.buffers, usize::from(policy.dpdk.buffer_size));
        let clock = ManualClock::default();
        let parts = parts::assemble(&policy, &snapshot, layout, &clock, &pool, settle);
        let (requests, asked) = unbounded();
        let (noting, notes) = unbounded();
        let mut steward = Steward::new(clock.clone(), parts.links(), asked, noting, &snapshot);
        steward.place(policy::placed(&policy));
        let mut rig = Self {
            clock,
            pool,
            workers: parts.workers,
            counters: parts.counters,
            rings: parts.rings,
            exchanges: parts.exchanges,
            wires: parts.wires,
            kernel: parts.kernel,
            macs,
            steward,
            requests,
            notes,
            longest_timeout: standing::longest(&snapshot.timeouts),
            snapshot,
            policy,
            neighborhood: Neighborhood::default(),
            out: Vec::new(),
            tally: Tally::default(),
            watched: None,
        };
        rig.settle();
        rig
    }

    /// The policy and tables a rig of this text starts with, for [`Rig::over`].
    #[must_use]
    pub fn tables(text: &str) -> (Policy, Arc<Snapshot>) {
        let policy = policy::load(text);
        let macs = parts::macs(&policy);
        let snapshot = Arc::new(policy::first_tables(&policy, &parts::devices(&policy, &macs)));
        (policy, snapshot)
    }

    /// The MAC of a port.
    #[must_use]
    pub fn mac(&self, side: Side) -> MacAddr {
        self.macs[side.port().index()]
    }

    /// The bytes of a packet on its way in at `side`.
    #[must_use]
    pub fn inward(&self, side: Side, packet: &Packet) -> Vec<u8> {
        packet.bytes(match side {
            Side::Wire(_) => Macs::Inward(self.mac(side)),
            Side::Kernel(_) => Macs::Outward(self.mac(side)),
        })
    }

    /// The bytes of a packet on its way out at `side`.
    #[must_use]
    pub fn outward(&self, side: Side, packet: &Packet) -> Vec<u8> {
        packet.bytes(match side {
            Side::Wire(_) => Macs::Outward(self.mac(side)),
            Side::Kernel(_) => Macs::Inward(self.mac(side)),
        })
    }

    /// Puts a packet in; nothing moves yet.
    pub fn put(&mut self, side: Side, packet: &Packet) {
        let bytes = self.inward(side, packet);
        assert!(self.put_bytes(side, &bytes), "no room for a packet at {side:?}");
    }

    /// Puts a frame in; nothing moves yet. False when there is no buffer or no place for it.
    pub fn put_bytes(&mut self, side: Side, bytes: &[u8]) -> bool {
        self.put_checked(side, bytes, ReceivedChecksum::Unchecked)
    }

    /// As [`Rig::put_bytes`], with a word of the device about the checksums.
    pub fn put_checked(&mut self, side: Side, bytes: &[u8], checksum: ReceivedChecksum) -> bool {
        let Some(buffer) = self.pool.filled(bytes, checksum) else { return false };
        self.put_buffer(side, buffer)
    }

    /// As [`Rig::put_bytes`], of a packet that goes on in a buffer the appliance cannot see.
    pub fn put_chained(&mut self, side: Side, bytes: &[u8]) -> bool {
        let Some(buffer) = self.pool.filled(bytes, ReceivedChecksum::Unchecked) else { return false };
        self.put_buffer(side, buffer.chained())
    }

    fn put_buffer(&mut self, side: Side, buffer: MemoryBuffer) -> bool {
        match side {
            Side::Wire(port) => {
                let queues = &self.wires[port.index()];
                // Devices spread packets over their queues as they like; here, in turn.
                let queue = usize::try_from(self.tally.arrived).unwrap_or(0) % queues.len();
                let arrived = queues[queue].arrive(buffer).is_ok();
                self.tally.arrived += u64::from(arrived);
                arrived
            }
            Side::Kernel(port) => {
                let rings = self.kernel[port.index()].as_ref().expect("a kernel interface beside the port");
                let room = rings.has_room_from_kernel();
                if room {
                    rings.push_from_kernel(buffer);
                    self.tally.from_kernel += 1;
                }
                room
            }
        }
    }

    /// One turn of every worker and nothing else; true when something moved. What `no_alloc` measures.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        for worker in &mut self.workers {
            let before = worker.sessions();
            busy |= worker.turn();
            busy |= worker.sessions() != before;
        }
        busy
    }

    /// One turn of one worker; the others stand still.
    pub fn turn_one(&mut self, worker: usize) {
        self.workers[worker].turn();
    }

    /// One pass of control.
    pub fn control(&mut self) -> bool {
        let busy = self.rings.iter().any(|(_, events)| !events.is_empty());
        // Stop ends the loop after a pass over everything there is.
        self.requests.send(Request::Stop).expect("the steward listens");
        self.steward.run();
        if let Some(follower) = &self.watched {
            follower.forget();
        }
        busy || self.rings.iter().any(|(inbox, _)| !inbox.is_empty())
    }

    /// Takes what came out, checks that it is right (A5), and lets the stations of the links answer what concerns them.
    pub fn collect(&mut self) -> bool {
        let mut taken = Vec::new();
        for (port, queues) in (0..).map(PortId::new).zip(&self.wires) {
            for wire in queues {
                while let Some(packet) = wire.take() {
                    taken.push((Side::Wire(port), packet.bytes().to_vec()));
                }
            }
        }
        for (port, rings) in (0..).map(PortId::new).zip(&self.kernel) {
            while let Some(packet) = rings.as_ref().and_then(|rings| rings.next_for_kernel()) {
                taken.push((Side::Kernel(port), packet.bytes().to_vec()));
            }
        }
        let busy = !taken.is_empty();
        for (side, bytes) in taken {
            match side {
                Side::Wire(_) => self.tally.sent += 1,
                Side::Kernel(_) => self.tally.to_kernel += 1,
            }
            standing::check_packet(side, &bytes);
            let heard = self.neighborhood.hears(side, &bytes);
            if let Some(answer) = heard.answer {
                let answer = answer.destination_mac(self.mac(side));
                let bytes = self.inward(side, &answer);
                self.put_bytes(side, &bytes);
            }
            if !heard.private {
                self.out.push((side, bytes));
            }
        }
        busy
    }

    /// Goes on until nothing moves any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let mut busy = self.turn();
            busy |= self.collect();
            busy |= self.control();
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet == QUIET_ROUNDS {
                return;
            }
        }
        panic!("after {ROUNDS_MAX} rounds something still moves");
    }

    /// What came out since the last look, in order for each side.
    pub fn take(&mut self) -> Vec<(Side, Vec<u8>)> {
        core::mem::take(&mut self.out)
    }

    /// Lets time pass in one leap, and everything happen that then happens.
    pub fn leap(&mut self, span: Nanos) {
        self.clock.advance(span);
        self.settle();
    }

    /// Lets time pass, and nothing happen yet.
    pub fn leap_only(&mut self, span: Nanos) {
        self.clock.advance(span);
    }

    /// Lets time pass a second at a time.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.leap(Nanos::from_secs(1));
        }
    }

    /// The time of the rig.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Packets dropped so far, by reason; reasons without any are left out.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        DropReason::all()
            .map(|reason| (reason.name(), self.counters.iter().map(|counters| counters.dropped(reason)).sum()))
            .filter(|&(_, count)| count > 0)
            .collect()
    }

    /// Packets dropped so far for one reason.
    #[must_use]
    pub fn dropped(&self, reason: impl Into<DropReason>) -> u64 {
        let reason = reason.into();
        self.counters.iter().map(|counters| counters.dropped(reason)).sum()
    }

    /// A counter, of all workers together.
    #[must_use]
    pub fn count(&self, counter: impl Fn(&WorkerCounters) -> &Counter) -> u64 {
        self.counters.iter().map(|counters| counter(counters).get()).sum()
    }

    /// What was noted of a source lately, by all workers together.
    #[must_use]
    pub fn talks(&self, source: &str) -> Counts {
        let source: IpAddr = source.parse().expect("an address");
        let mut sum = Counts::default();
        for counters in &self.counters {
            let own = counters.talkers.sources(self.now()).filter(|talker| talker.address == source);
            own.for_each(|talker| sum.add(&talker.counts));
        }
        sum
    }

    /// Sessions of all workers.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.workers.iter().map(Worker::sessions).sum()
    }

    /// Sessions of each worker.
    #[must_use]
    pub fn sessions_by_worker(&self) -> Vec<usize> {
        self.workers.iter().map(Worker::sessions).collect()
    }

    /// Begins to copy all sessions, for a reader that lets this many batches wait. Workers and control have to be turned.
    pub fn walk(&self, batches: usize) -> Receiver<Vec<SessionRecord>> {
        let (reader, records) = bounded(batches);
        self.requests.send(Request::Sessions(reader)).expect("the steward listens");
        records
    }

    /// Every session, as `show sessions` gets them.
    pub fn sessions(&mut self) -> Vec<SessionRecord> {
        let (reader, records) = unbounded();
        self.requests.send(Request::Sessions(reader)).expect("the steward listens");
        let mut all = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.turn();
            self.control();
            match records.try_recv() {
                Ok(batch) => all.extend(batch),
                Err(crossbeam::channel::TryRecvError::Empty) => {}
                Err(crossbeam::channel::TryRecvError::Disconnected) => {
                    self.settle();
                    return all;
                }
            }
        }
        panic!("the walk over the sessions does not end");
    }

    /// What control noted for the log since the last look.
    pub fn notes(&mut self) -> Vec<Note> {
        self.notes.try_iter().collect()
    }

    /// The tables in force.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Buffers somebody owns.
    #[must_use]
    pub fn buffers_in_use(&self) -> usize {
        self.pool.in_use()
    }

    /// The pool, for who wants to use it up.
    #[must_use]
    pub const fn pool(&self) -> &MemoryPool {
        &self.pool
    }

    /// From now on the device of this port sends nothing, or everything again.
    pub fn jam(&mut self, side: Side, jammed: bool) {
        for wire in &self.wires[side.port().index()] {
            wire.jam(jammed);
        }
    }

    /// From now on this station answers no ARP and no neighbor solicitation.
    pub fn silence(&mut self, address: &str) {
        self.neighborhood.silence(address.parse().expect("an address"));
    }

    /// From now on no station answers by itself, and tables see ARP and neighbor discovery like everything else.
    pub fn overhear(&mut self) {
        self.neighborhood.overhear();
    }
}
