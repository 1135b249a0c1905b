//! The control thread: it hands tables to the workers, keeps the neighbor cache, gathers copies of sessions, and passes log
//! records on. One loop over [`event`](crate::event); no policy is parsed here, no file or socket touched.
//!
//! - `attraction`: what draws packets here, and from when on.
//! - `line`: the rings to and from one worker.
//! - `capturing`: frames of a port, for whoever asks.
//! - `rounds`: what all workers do together, one at a time.
//! - `watchdog`: whether the workers move, for whoever supervises the process.
//! - `tracing`: the ways of packets, for whoever asks.
//! - `walks`: copies of all sessions, for whoever asks.

mod attraction;
mod capturing;
mod line;
mod rounds;
#[cfg(test)]
mod tests;
mod tracing;
mod walks;
mod watchdog;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use stage::balancer::Backend;
use stage::forward::{Action, Limits, Neighbors};
use units::limits::WORKERS_MAX;
use units::{Nanos, PortId};
use wire::{MacAddr, emit};
use worker::{Clock, Command, Event, Flush, ShortFrame, Snapshot};

use crate::compile::answered_addresses;
use crate::event::{Note, Publication, Request};
use attraction::Attraction;
pub use capturing::{Captured, Capturing, PIECES as CAPTURE_PIECES};
use line::Line;
pub use line::WorkerLink;
use rounds::{Flushing, Rounds};
use tracing::UnderWay;
pub use tracing::{Traced, Tracing};
use walks::Walk;
pub use watchdog::Watchdog;

/// How long the thread sleeps when nothing happens: the longest a neighbor question waits for it.
const NAP: Duration = Duration::from_micros(500);
/// How often the neighbor cache looks at the time.
const TICK: Nanos = Nanos::from_millis(100);
/// Announcements of an address when it comes into use, and the time between them (SE-19).
const ANNOUNCEMENTS: u32 = 3;
const ANNOUNCEMENT_GAP: Nanos = Nanos::from_millis(100);
/// Between the first announcements of two addresses, so that a policy with thousands of new ones leaves the worker that sends
/// them, and the links, time for other things.
const ANNOUNCEMENT_PACE: Nanos = Nanos::from_millis(1);
/// Events taken from one worker before the next has its turn.
const EVENTS_AT_ONCE: usize = 1_024;
const _: () = assert!(WORKERS_MAX <= 64, "a bit for each worker");

/// Tables not every worker has moved on to.
#[derive(Debug)]
struct Publishing {
    /// Told when they all have.
    done: Vec<Sender<()>>,
    /// The workers that have not: bit n is line n's.
    pending: u64,
}

/// An address to announce a few more times.
#[derive(Debug)]
struct Announcement {
    port: PortId,
    address: IpAddr,
    left: u32,
    due: Nanos,
}

/// The control thread's state.
#[derive(Debug)]
pub struct Steward<C> {
    clock: C,
    lines: Vec<Line>,
    requests: Receiver<Request>,
    notes: Sender<Note>,
    snapshot: Arc<Snapshot>,
    neighbors: Neighbors,
    actions: Vec<Action>,
    ticked: Nanos,
    serial: u64,
    walks: Rounds<Walk>,
    flushes: Rounds<Flushing>,
    publishing: VecDeque<Publishing>,
    attraction: Attraction,
    /// Told when what is quiet now no longer is, and every worker knows.
    opening: Vec<Sender<()>>,
    departed: Vec<Arc<Backend>>,
    announcements: Vec<Announcement>,
    watchdog: Option<Watchdog>,
    tracing: Option<UnderWay>,
    capturing: Option<capturing::UnderWay>,
}

impl<C: Clock> Steward<C> {
    /// Control of these workers, all of which have `snapshot` in force. Log records go to `notes`; when that is full they
    /// are dropped.
    pub fn new(
        clock: C,
        links: Vec<WorkerLink>,
        requests: Receiver<Request>,
        notes: Sender<Note>,
        snapshot: &Arc<Snapshot>,
    ) -> Self {
        let lines = links.into_iter().map(Line::new).collect();
        let mut steward = Self {
            clock,
            lines,
            requests,
            notes,
            neighbors: Neighbors::new(Limits::default()),
            snapshot: Arc::clone(snapshot),
            actions: Vec::new(),
            ticked: Nanos::ZERO,
            serial: 0,
            walks: Rounds::default(),
            flushes: Rounds::default(),
            publishing: VecDeque::new(),
            attraction: Attraction::of(snapshot),
            opening: Vec::new(),
            departed: Vec::new(),
            announcements: Vec::new(),
            watchdog: None,
            tracing: None,
            capturing: None,
        };
        steward.own_addresses();
        steward.begin_to_announce(&answered_addresses(snapshot));
        steward
    }

    /// Places the operator's neighbors; called once before the loop, and with every publication.
    pub fn place(&mut self, placed: Vec<(PortId, IpAddr, MacAddr)>) {
        let now = self.clock.now();
        self.neighbors.set_static(placed, now, &mut self.actions);
        self.act();
    }

    /// Has the workers watched from here on.
    pub fn watch(&mut self, watchdog: Watchdog) {
        self.watchdog = Some(watchdog);
    }

    /// The loop. Ends with [`Request::Stop`], or when management is gone.
    pub fn run(&mut self) {
        loop {
            let mut busy = false;
            for position in 0..self.lines.len() {
                busy |= self.listen(position);
            }
            self.hand_out();
            self.tick();
            let request = if busy {
                self.requests.try_recv().map_err(|_| RecvTimeoutError::Timeout)
            } else {
                self.requests.recv_timeout(NAP)
            };
            match request {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(request) => self.serve(request),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Publish(publication) => self.publish(publication),
            Request::Sessions(reader) => {
                self.serial += 1;
                if self.walks.add(self.serial, Walk::new(reader)) {
                    self.begin_walk();
                }
            }
            Request::Flush(backends, done) => {
                self.serial += 1;
                if self.flushes.add(self.serial, Flushing { backends, done, sessions: 0 }) {
                    self.begin_flush();
                }
            }
            Request::Trace(asked) => self.begin_trace(*asked),
            Request::Capture(asked) => self.begin_capture(*asked),
            Request::Unplug(port) => self.send_each(|| Command::Unplug { port }),
            Request::Plug(port) => self.send_each(|| Command::Plug { port }),
            Request::Greet(port) => self.greet(port),
            Request::Neighbors(reader) => {
                let _ = reader.send(self.neighbors.iter().collect());
            }
            Request::Stop => {}
        }
    }

    /// The first flush of the queue has its turn.
    fn begin_flush(&mut self) {
        let Some(round) = self.flushes.current() else { return };
        round.running = self.lines.len();
        for line in &mut self.lines {
            let backends = Arc::clone(&round.errand.backends);
            line.send(Command::Flush(Flush { request: round.request, backends }));
        }
    }

    /// Puts tables in force. What draws packets here and is new does so only once every worker has them (SE-23): they go out
    /// with that quiet, and again as they are.
    fn publish(&mut self, publication: Publication) {
        let Publication { snapshot, neighbors, removed, done } = publication;
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.departed.extend(removed);
        let is_policy = before.generation != self.snapshot.generation;
        if is_policy {
            self.attraction.follow(&self.snapshot);
        }
        self.opening.push(done);
        let quiet = self.attraction.quiet();
        if quiet.is_empty() {
            self.send_tables();
        } else {
            let tables = Snapshot { quiet: Arc::clone(quiet), ..Snapshot::clone(&self.snapshot) };
            self.send(&Arc::new(tables), Vec::new());
        }
        if is_policy {
            self.own_addresses();
            self.place(neighbors);
        }
    }

    /// Sends the workers the tables as they are; who waits for that is told when they have them.
    fn send_tables(&mut self) {
        let (tables, done) = (Arc::clone(&self.snapshot), std::mem::take(&mut self.opening));
        self.send(&tables, done);
    }

    fn send(&mut self, tables: &Arc<Snapshot>, done: Vec<Sender<()>>) {
        let pending = (0..self.lines.len()).fold(0, |pending, line| pending | 1 << line);
        self.publishing.push_back(Publishing { done, pending });
        for line in &mut self.lines {
            let turns = vec![0; tables.services.len()].into();
            line.send(Command::Publish { snapshot: Arc::clone(tables), turns });
        }
    }

    /// Every worker has all tables that were sent: what was quiet no longer is.
    fn open(&mut self) {
        let opened = self.attraction.open(&self.snapshot);
        self.send_tables();
        let mut addresses: Vec<IpAddr> = opened.addresses.iter().copied().collect();
        addresses.sort_unstable();
        self.begin_to_announce(&addresses);
    }

    /// Tells the neighbor cache which addresses are ours. Those that are not are not announced any more.
    fn own_addresses(&mut self) {
        self.announcements.retain(|announcement| self.attraction.is_live(&announcement.address));
        self.neighbors.set_own(self.snapshot.ours.iter().copied(), &mut self.actions);
        self.act();
    }

    /// There may be others on a port's link than there were.
    fn greet(&mut self, port: PortId) {
        self.neighbors.doubt(port, self.clock.now());
        let live = |address: &IpAddr| self.attraction.is_live(address);
        let addresses: Vec<IpAddr> = answered_addresses(&self.snapshot).into_iter().filter(live).collect();
        self.announcements.retain(|announcement| announcement.port != port);
        self.begin_to_announce_on(|link| link == port, &addresses);
    }

    /// Has addresses announced on the links they are on.
    fn begin_to_announce(&mut self, addresses: &[IpAddr]) {
        self.begin_to_announce_on(|_| true, addresses);
    }

    /// Has addresses announced on those of these ports' links that they are on.
    fn begin_to_announce_on(&mut self, wanted: impl Fn(PortId) -> bool, addresses: &[IpAddr]) {
        let mut due = self.clock.now();
        for &address in addresses {
            for (port, facts) in (0..).map(PortId::new).zip(&self.snapshot.ports) {
                if wanted(port) && facts.addresses.iter().any(|net| net.contains(&address)) {
                    self.announcements.push(Announcement { port, address, left: ANNOUNCEMENTS, due });
                    due = due + ANNOUNCEMENT_PACE;
                }
            }
        }
    }

    /// Sends a worker what waits for it, and takes its events; true when there were any.
    fn listen(&mut self, position: usize) -> bool {
        let mut busy = false;
        if let Some(line) = self.lines.get_mut(position) {
            line.retry();
        }
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.lines.get(position).and_then(Line::hear) else { break };
            busy = true;
            self.hear(position, event);
        }
        self.act();
        busy
    }

    fn hear(&mut self, position: usize, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Resolve { port, address } => self.neighbors.resolve(port, address, now, &mut self.actions),
            Event::Seen { port, address, mac, evidence } => {
                self.neighbors.seen(port, address, mac, evidence, now, &mut self.actions);
            }
            Event::Used { port, address } => self.neighbors.used(port, address, now, &mut self.actions),
            Event::Conflict { port, address, mac } => self.note(Note::Conflict { port, address, mac }),
            Event::Log { at, generation, rule, action, candidate } => {
                self.note(Note::Rule { at, generation, rule, action, candidate });
            }
            Event::SynCookies { generation, service, engaged, half_open } => {
                self.note(Note::SynCookies { generation, service, engaged, half_open });
            }
            Event::Retired { snapshot, turns } => {
                drop((snapshot, turns));
                self.retired(position);
            }
            Event::Dumped(dump) => self.dumped(position, dump),
            Event::Flushed { flush, sessions } => self.flushed(&flush, sessions),
            Event::Watching { request } => {
                self.trace_begun(request);
                self.capture_begun(request);
            }
            Event::Traced(trace) => self.traced(position, trace),
            Event::Captured(catch) => self.captured(position, catch),
            Event::Released(filter) => drop(filter),
        }
    }

    fn note(&self, note: Note) {
        // Full means management is behind; workers bound the records they make, so what is lost here is little.
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.notes.try_send(note) {}
    }

    /// A worker has moved on. It takes publications in order, so the oldest it has not moved on to is meant.
    fn retired(&mut self, position: usize) {
        let bit = 1 << position;
        if let Some(oldest) = self.publishing.iter_mut().find(|publishing| publishing.pending & bit != 0) {
            oldest.pending &= !bit;
        }
        while self.publishing.front().is_some_and(|publishing| publishing.pending == 0) {
            for done in self.publishing.pop_front().map(|finished| finished.done).unwrap_or_default() {
                let _ = done.send(());
            }
        }
        if self.publishing.is_empty() && !self.attraction.quiet().is_empty() {
            self.open();
        }
        self.departed.retain(|backend| Arc::strong_count(backend) > 1);
    }

    fn flushed(&mut self, flush: &Flush, sessions: u64) {
        let Some(round) = self.flushes.numbered(flush.request) else { return };
        round.errand.sessions += sessions;
        if let Some(finished) = self.flushes.finish_one() {
            let _ = finished.errand.done.send(finished.errand.sessions);
            self.begin_flush();
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if now.since(self.ticked) < TICK {
            return;
        }
        self.ticked = now;
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.look(now);
        }
        self.neighbors.tick(now, &mut self.actions);
        self.act();
        self.look_after_trace();
        self.look_after_capture();
        let mut announcements = std::mem::take(&mut self.announcements);
        for announcement in announcements.iter_mut().filter(|announcement| announcement.due <= now) {
            self.announce(announcement.port, announcement.address);
            announcement.left -= 1;
            announcement.due = now + ANNOUNCEMENT_GAP;
        }
        announcements.retain(|announcement| announcement.left > 0);
        self.announcements = announcements;
    }

    /// Does what the neighbor cache decided.
    fn act(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Solicit { port, address, unicast } => self.solicit(port, address, unicast),
                Action::Resolved { port, address, mac } => self.tell_all(port, address, Some(mac)),
                Action::Failed { port, address } => self.tell_all(port, address, None),
                Action::Conflict { port, address, mac } => self.note(Note::Conflict { port, address, mac }),
            }
        }
    }

    fn tell_all(&mut self, port: PortId, address: IpAddr, mac: Option<MacAddr>) {
        self.send_each(|| Command::Neighbor { port, address, mac });
    }

    /// Sends every worker a command of its own.
    fn send_each(&mut self, command: impl Fn() -> Command) {
        for line in &mut self.lines {
            line.send(command());
        }
    }

    fn solicit(&mut self, port: PortId, address: IpAddr, unicast: Option<MacAddr>) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(own) = snapshot.port(port) else { return };
        let mut bytes = [0; ShortFrame::CAPACITY];
        let source = snapshot.address_like(port, address).or_else(|| own.pair.map(|_| nameless(own.mac, address)));
        let len = match (source, address, unicast) {
            (Some(IpAddr::V4(source)), IpAddr::V4(target), None) => {
                emit::arp_request(&mut bytes, own.mac, source, target)
            }
            (Some(IpAddr::V4(source)), IpAddr::V4(target), Some(mac)) => {
                emit::arp_request_to(&mut bytes, own.mac, source, mac, target)
            }
            (Some(IpAddr::V6(source)), IpAddr::V6(target), None) => {
                emit::neighbor_solicitation(&mut bytes, own.mac, source, target)
            }
            (Some(IpAddr::V6(source)), IpAddr::V6(target), Some(mac)) => {
                emit::neighbor_solicitation_to(&mut bytes, own.mac, source, mac, target)
            }
            (Some(_) | None, ..) => None,
        };
        self.transmit(port, len.and_then(|len| bytes.get(..len)));
    }

    fn announce(&mut self, port: PortId, address: IpAddr) {
        let Some(mac) = self.snapshot.port(port).map(|facts| facts.mac) else { return };
        let mut bytes = [0; ShortFrame::CAPACITY];
        let len = match address {
            IpAddr::V4(address) => emit::gratuitous_arp(&mut bytes, mac, address),
            IpAddr::V6(address) => emit::unsolicited_advertisement(&mut bytes, mac, address),
        };
        self.transmit(port, len.and_then(|len| bytes.get(..len)));
    }

    fn transmit(&mut self, port: PortId, frame: Option<&[u8]>) {
        if let (Some(line), Some(frame)) = (self.lines.first_mut(), frame.and_then(ShortFrame::new)) {
            line.send(Command::Transmit { port, frame });
        }
    }
}

/// In whose name a paired port asks that has no address: nobody's (RFC 5227 section 1.1), or that of its station on the link.
fn nameless(mac: MacAddr, target: IpAddr) -> IpAddr {
    match target {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(mac.link_local()),
    }
}
