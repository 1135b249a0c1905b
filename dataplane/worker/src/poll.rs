//! One worker's loop: what came from the wire, from other workers and from the kernel, what control asked, what time
//! brings; then everything leaves. A turn never waits and does a bounded amount of work.
//!
//! ```text
//! commands -> receive -> parse -> steer -> lookup -+- hit --> act --+-> transmit
//!                         |                        +- miss -> open -+
//!                         +- ARP, discovery, errors, multicast: local, icmp
//! ```

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use frame::{Buffer, BufferPool, Burst, Nic};
use stage::DropReason;
use units::limits::{BURST, BURST_MAX, HANDOVERS};
use units::{Nanos, Tick};
use wire::emit;

use crate::clock::Clock;
use crate::command::{Command, Event};
use crate::counters::Measured;
use crate::exits::Exits;
use crate::originate;
use crate::packet::{Arrival, Asked, Handover, Label, Origin};
use crate::ports::QueuePair;
use crate::processor::Processor;
use crate::shard::Shard;
use crate::stopwatch::Stopwatch;
use crate::sweep::Sweeps;
use crate::watch::Watch;
use crate::write_down::Block;

/// Ticks a running worker never lets pass between two turns: it was not given its processor, or the machine slept.
const PAUSE: u64 = 2;

/// Turns that find packets after such a pause before sessions may end again: more than the rings of a port hold.
const CATCHING_UP: u64 = 256;

/// Overdue packets let go in one turn.
const OVERDUE: usize = 16;
/// Ticks from one report of the next hops in use to the next: a second.
const USED_ROUND: u64 = 4;
/// Bytes of a reset over IPv6.
const RESET_FRAME: usize = 14 + 40 + 20;

/// A turn in this many is measured stretch by stretch.
const SAMPLED: u64 = 16;

/// Of the turns that find packets, one in this many looks after the tables as well. Idle turns all do.
const KEEPS_HOUSE: u64 = 16;

/// How long a worker leaves packets in its queues while the ring to another worker is full. Longer than
/// others need for what is in it; then that worker cannot keep up, and only its packets are to suffer.
const PATIENCE: u64 = 100_000;

/// Bursts taken from the ring in one turn while it is more than half full.
const HANDED_BURSTS: usize = 4;

/// The ring packets reach a worker by when another received them.
pub type HandoverRing<B> = Arc<ArrayQueue<Handover<B>>>;

/// An empty ring for handed-over packets.
#[must_use]
pub fn handover_ring<B>() -> HandoverRing<B> {
    Arc::new(ArrayQueue::new(HANDOVERS))
}

/// One worker: its queues, its shard, its rings.
#[derive(Debug)]
pub struct Worker<N: Nic, P, C> {
    clock: C,
    pub(crate) shard: Shard<N::Buffer>,
    pub(crate) exits: Exits<N, P>,
    inbox: Arc<ArrayQueue<Command>>,
    handed: HandoverRing<N::Buffer>,
    sweeps: Sweeps,
    used_cursor: usize,
    used_round: Tick,
    turns: u64,
    /// The turn from which on sessions end although packets keep coming; in the past but after a pause.
    caught_up: u64,
    sampled: bool,
    pub(crate) processor: Processor,
    pub(crate) watch: Watch,
    /// Since when a ring to another worker has been full, if one is.
    pressed: Option<Nanos>,
}

impl<N, P, C> Worker<N, P, C>
where
    N: Nic,
    P: BufferPool<Buffer = N::Buffer>,
    C: Clock,
{
    /// A worker with these parts; `handed` is its own ring among those its `exits` know of the others.
    pub fn new(
        clock: C,
        shard: Shard<N::Buffer>,
        exits: Exits<N, P>,
        inbox: Arc<ArrayQueue<Command>>,
        handed: HandoverRing<N::Buffer>,
    ) -> Self {
        Self {
            clock,
            shard,
            exits,
            inbox,
            handed,
            sweeps: Sweeps::default(),
            used_cursor: 0,
            used_round: Tick::new(0),
            turns: 0,
            caught_up: 0,
            sampled: false,
            processor: Processor::this(),
            watch: Watch::default(),
            pressed: None,
        }
    }

    /// Turns until `stop`. What is in the rings by then is treated; what waits for next hops is dropped.
    pub fn run(&mut self, stop: &AtomicBool) {
        let (_, begin) = self.clock.moment();
        let (mut last, mut busy) = (begin, false);
        while !stop.load(Ordering::Relaxed) {
            // The counter is read once a turn: where one turn ends the next begins.
            let (now, cycles) = self.clock.moment();
            if busy {
                self.shard.counters.busy_cycles.add(cycles.wrapping_sub(last));
            } else {
                core::hint::spin_loop();
            }
            self.shard.counters.total_cycles.set(cycles.wrapping_sub(begin));
            last = cycles;
            busy = self.turn_at(now);
        }
        self.turn();
    }

    /// One turn of the loop; true when there were packets.
    pub fn turn(&mut self) -> bool {
        let now = self.clock.now();
        self.turn_at(now)
    }

    fn turn_at(&mut self, now: Nanos) -> bool {
        self.turns += 1;
        if now.tick().get() >= self.shard.tick.get() + PAUSE {
            self.caught_up = self.turns + CATCHING_UP;
        }
        self.shard.now = now;
        self.shard.tick = now.tick();
        self.sampled = self.turns.is_multiple_of(SAMPLED);
        self.commands();
        if self.watch.is_on() {
            self.tell_taps();
        }
        let sent = if self.sampled { self.shard.counters.forwarded.get() } else { 0 };
        let mut busy = self.receive_all();
        busy |= self.receive_handed();
        busy |= self.receive_from_kernel();
        // What came while the worker stood still came in time: no session ends before it was looked at.
        if !busy || self.turns >= self.caught_up {
            self.caught_up = self.turns;
            self.shard.expire(now.tick());
        }
        self.move_on();
        if !busy || self.turns.is_multiple_of(KEEPS_HOUSE) {
            self.keep_house(now);
        }
        let before = if self.sampled { self.clock.cycles() } else { 0 };
        self.exits.flush(&self.shard.counters);
        if self.watch.is_on() {
            self.deliver_findings(false);
        }
        if self.sampled && busy {
            // The packets themselves were counted when they were put into the batch.
            self.measure(Measured::Transmit, 0, before);
            self.measure_time(now, sent);
        }
        busy
    }

    fn receive_all(&mut self) -> bool {
        let mut busy = false;
        for position in 0..self.exits.queues.len() {
            if self.shard.workers > 1 && self.is_pressed() {
                break;
            }
            let before = if self.sampled { self.clock.cycles() } else { 0 };
            let mut burst = Burst::new_const();
            let Some(queue) = self.exits.queues.get_mut(position) else { break };
            let port = queue.port();
            let mut received = queue.receive(&mut burst);
            if received == 0 {
                continue;
            }
            // Where there is more, two bursts are treated as one: what the first and last packets of a burst ask memory for
            // has less time to come than what those between ask for.
            if received == BURST {
                received += queue.receive(&mut burst);
            }
            busy = true;
            self.shard.counters.received.add(received as u64);
            if self.sampled {
                self.measure(Measured::Receive, received, before);
            }
            self.treat(&mut burst, Arrival::first(port, Origin::Wire));
        }
        busy
    }

    /// Whether packets stay in the queues for now, because a worker has more than it can take: each works off its own ring
    /// first. Devices lose what they cannot hold; a ring would lose it although somebody had time for it.
    fn is_pressed(&mut self) -> bool {
        if self.exits.has_room_between_workers() {
            self.pressed = None;
            return false;
        }
        let since = *self.pressed.get_or_insert(self.shard.now);
        self.shard.now.get().saturating_sub(since.get()) < PATIENCE
    }

    /// Packets other workers received, of sessions that are this worker's.
    fn receive_handed(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..HANDED_BURSTS {
            busy |= self.receive_handed_burst();
            if self.handed.len() < self.handed.capacity() / 2 {
                break;
            }
        }
        busy
    }

    fn receive_handed_burst(&mut self) -> bool {
        if self.handed.is_empty() {
            return false;
        }
        let mut taken = 0;
        let mut burst = Burst::new_const();
        let mut alike: Option<Arrival> = None;
        while taken < BURST_MAX
            && let Some(Handover { label: Label { port, origin, asked, generation }, buffers }) = self.handed.pop()
        {
            // Another processor has written them last: all of them are on their way here while the first are treated.
            buffers.iter().for_each(Buffer::prefetch);
            taken += buffers.len();
            let stale = generation != self.shard.generation;
            let arrival = Arrival { port, origin, steer: false, asked, stale };
            if let Some(before) = alike
                && (before != arrival || burst.remaining_capacity() < buffers.len())
            {
                self.treat_handed(&mut burst, before);
            }
            alike = Some(arrival);
            burst.extend(buffers);
        }
        if let Some(arrival) = alike {
            self.treat_handed(&mut burst, arrival);
        }
        taken > 0
    }

    fn treat_handed(&mut self, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        let (count, before) = (burst.len(), self.shard.gone_on);
        self.treat(burst, arrival);
        let sought = arrival.asked != Asked::NOBODY && arrival.asked != Asked::ALL;
        if sought && self.shard.gone_on.wrapping_sub(before) < count as u64 {
            self.shard.snapshot.steering.matters(self.shard.tick);
        }
    }

    fn receive_from_kernel(&mut self) -> bool {
        let mut busy = false;
        for position in 0..self.exits.kernel.len() {
            let mut burst = Burst::new_const();
            let Some(side) = self.exits.kernel.get(position).filter(|side| side.reads) else { continue };
            let port = side.port;
            while burst.len() < BURST
                && let Some(buffer) = side.rings.receive()
            {
                burst.push(buffer);
            }
            if !burst.is_empty() {
                busy = true;
                self.shard.counters.from_kernel.add(burst.len() as u64);
                self.treat(&mut burst, Arrival::first(port, Origin::Kernel));
            }
        }
        busy
    }

    fn treat(&mut self, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        self.shard.counters.bursts.add(1);
        if self.sampled {
            self.shard.counters.burst_fill.add(burst.len() as u64, 1);
        }
        if self.watch.is_on() {
            return self.treat_watched(burst, arrival);
        }
        self.treat_by(self.processor, burst, arrival);
    }

    /// As [`Worker::treat`], in whatever instructions the caller is compiled to.
    #[inline(always)]
    pub(crate) fn treat_here(&mut self, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        let mut watch = Stopwatch::start(&self.clock, self.sampled);
        self.shard.treat(&mut self.exits, burst, arrival, &mut watch);
    }

    /// How long the packets that this turn sent on were inside.
    fn measure_time(&self, since: Nanos, sent: u64) {
        let counters = &self.shard.counters;
        let packets = counters.forwarded.get().wrapping_sub(sent);
        if packets > 0 {
            counters.time_inside.add(self.clock.now().since(since).get(), packets);
        }
    }

    fn measure(&self, measured: Measured, packets: usize, since: u64) {
        let cost = self.shard.counters.stage(measured);
        cost.packets.add(packets as u64);
        cost.cycles.add(self.clock.cycles().wrapping_sub(since));
    }

    /// What control asked for, a bounded number a turn.
    fn commands(&mut self) {
        for _ in 0..BURST {
            // To look whether there is one is cheap; to try to take one is not.
            if self.inbox.is_empty() || !self.shard.can_deliver() {
                return;
            }
            let Some(command) = self.inbox.pop() else { return };
            match command {
                Command::Publish { snapshot, turns } => self.shard.publish(snapshot, turns),
                Command::Neighbor { port, address, mac } => {
                    self.shard.neighbor(&mut self.exits, port, address, mac);
                }
                Command::Transmit { port, frame } => match originate::copy(self.exits.pool(), frame.bytes()) {
                    Some(buffer) => self.exits.originate(&self.shard.counters, port, buffer),
                    None => self.shard.counters.originated_lost.add(1),
                },
                Command::Unplug { port } => self.exits.unplug(port),
                Command::Plug { port } => self.exits.plug(port),
                Command::Dump(dump) => {
                    if let Some(unfinished) = self.sweeps.dump(dump) {
                        self.shard.deliver(Event::Dumped(unfinished));
                    }
                }
                Command::Flush(flush) => {
                    self.shard.bindings.mark_flushed(&flush.backends);
                    if let Some((flush, sessions)) = self.sweeps.flush(flush, self.shard.tick) {
                        self.shard.deliver(Event::Flushed { flush, sessions });
                    }
                }
                Command::Trace(buffer) => self.trace(buffer),
                Command::EndTrace { request } => self.stop_trace(request),
                Command::Capture(buffer) => self.capture(buffer),
                Command::EndCapture { request } => self.stop_capture(request),
            }
        }
    }

    /// What must keep step with the packets, beside expiry: walks, resets. A little each turn.
    fn move_on(&mut self) {
        self.shard.sweep(&mut self.sweeps);
        self.shard.send_made(&mut self.exits);
        self.tell_ends();
    }

    /// What may wait for a few bursts: bindings, next hops, gauges.
    fn keep_house(&mut self, now: Nanos) {
        self.shard.forget_fragments();
        if self.shard.bindings.refresh(now) {
            self.sweeps.end_doomed();
        }
        self.shard.collect_counts(&mut self.sweeps);
        self.shard.watch_handshakes();
        if self.watch.is_on() {
            self.deliver_findings(true);
        }
        self.report_used(now.tick());
        for _ in 0..OVERDUE {
            let Some(overdue) = self.shard.next_hops.overdue(now.tick()) else { break };
            drop(overdue);
            self.shard.counters.drop_one(DropReason::NeighborUnresolved);
        }
        self.shard.sessions.tell_reached();
        let counters = &self.shard.counters;
        counters.sessions.set(self.shard.sessions.len() as u64);
        counters.held.set((self.shard.next_hops.held() + self.shard.fragments.waiting.held()) as u64);
        counters.heartbeat.set(now.get());
    }

    /// Sends the resets of sessions that were ended.
    fn tell_ends(&mut self) {
        while let Some((port, reset)) = self.shard.resets.pop() {
            let made = self.exits.pool().allocate().and_then(|mut buffer| {
                let written = buffer.resize(RESET_FRAME).then(|| emit::tcp_reset_to(buffer.bytes_mut(), &reset))??;
                buffer.resize(written).then_some(buffer)
            });
            match made {
                Some(buffer) => self.exits.originate(&self.shard.counters, port, buffer),
                None => self.shard.counters.originated_lost.add(1),
            }
        }
    }

    /// Tells control once a second which next hops were sent to: one round over all of them, a few a turn.
    fn report_used(&mut self, now: Tick) {
        if self.used_cursor == 0 {
            if now < self.used_round {
                return;
            }
            self.used_round = Tick::new(now.get() + USED_ROUND);
        }
        if let Some((port, address)) = self.shard.next_hops.next_used(&mut self.used_cursor) {
            self.shard.tell(Event::Used { port, address });
        }
    }

    /// Hands out all sessions as images, block by block, until `take` says that it takes no more. For a worker that turns no more.
    pub fn write_down(&self, take: impl FnMut(Block) -> bool) {
        self.shard.write_down(take);
    }

    /// Sessions in the table.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shard.sessions.len()
    }

    /// Next hops that are held: without sessions, those the operator named and no other. Looks at all of them; not for the
    /// packet path.
    #[must_use]
    pub fn next_hops_in_use(&self) -> usize {
        self.shard.next_hops.in_use()
    }

    /// The queue pairs, for a harness that looks at what was sent.
    pub fn queues(&mut self) -> &mut [QueuePair<N>] {
        &mut self.exits.queues
    }
}
