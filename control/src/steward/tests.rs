//! Facts of the control thread. The test plays management and the workers: it reads the rings and answers.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::{TryRecvError, bounded, unbounded};
use crossbeam::queue::ArrayQueue;
use session::{Kind, State};
use units::{Generation, Tick, WorkerId};
use worker::{Caught, Cursor, Dump, Ends, PacketMatch, SessionRecord, Side};

use super::capturing::PIECES;
use super::walks::BATCH;
use super::*;
use crate::compile::{Device, PlainTables, compile};

/// Time that stands still until it is told.
#[derive(Clone, Debug, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn advance(&self, span: Nanos) {
        self.0.fetch_add(span.get(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        0
    }
}

const MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);

/// The tables of `config/examples/edge.toml` and what `more` adds.
fn tables(generation: u64, more: &str) -> Arc<Snapshot> {
    let text = format!("{}\n{more}", include_str!("../../../config/examples/edge.toml"));
    let policy = config::load(&text, Path::new("edge.toml")).unwrap().policy;
    let devices = vec![Device { mac: MAC, kernel: true }; policy.ports.len()];
    Arc::new(compile(&policy, &devices, Generation::new(generation), None, &PlainTables, 0).unwrap())
}

/// Control of some workers that the test plays.
struct Bench {
    clock: Hand,
    steward: Steward<Hand>,
    requests: Sender<Request>,
    links: Vec<WorkerLink>,
    snapshot: Arc<Snapshot>,
}

impl Bench {
    /// Control of `workers` workers with room for so many commands each, past the announcements of the start.
    fn new(workers: usize, places: usize) -> Self {
        let link = || WorkerLink { inbox: Arc::new(ArrayQueue::new(places)), events: Arc::new(ArrayQueue::new(8_192)) };
        let links: Vec<WorkerLink> = (0..workers).map(|_| link()).collect();
        let (clock, snapshot) = (Hand::default(), tables(1, ""));
        let (requests, asked) = unbounded();
        let steward = Steward::new(clock.clone(), links.clone(), asked, bounded(0).0, &snapshot);
        let mut bench = Self { clock, steward, requests, links, snapshot };
        while !bench.take_announcements().is_empty() {}
        bench
    }

    /// Control does what there is to do.
    fn pass(&mut self) {
        self.requests.send(Request::Stop).unwrap();
        self.steward.run();
    }

    fn ask(&mut self, request: Request) {
        self.requests.send(request).unwrap();
        self.pass();
    }

    fn tell(&mut self, worker: usize, event: Event) {
        self.links[worker].events.push(event).unwrap();
        self.pass();
    }

    /// The commands a worker finds.
    fn commands(&self, worker: usize) -> Vec<Command> {
        std::iter::from_fn(|| self.links[worker].inbox.pop()).collect()
    }

    /// The frames that are sent in the next second.
    fn take_announcements(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let mut frames = Vec::new();
        for _ in 0..10 {
            self.clock.advance(Nanos::from_millis(100));
            self.pass();
            for command in self.commands(0) {
                if let Command::Transmit { port, frame } = command {
                    frames.push((port, frame.bytes().to_vec()));
                }
            }
        }
        frames
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>, neighbors: Vec<(PortId, IpAddr, MacAddr)>) -> Receiver<()> {
        let (done, moved_on) = bounded(1);
        self.snapshot = Arc::clone(&snapshot);
        self.ask(Request::Publish(Publication { snapshot, neighbors, removed: Vec::new(), done }));
        moved_on
    }

    fn walk(&mut self) -> Receiver<Vec<SessionRecord>> {
        let (reader, batches) = unbounded();
        self.ask(Request::Sessions(reader));
        batches
    }

    /// The walk a worker was asked for; there is one at most.
    fn dump(&self, worker: usize) -> Option<Box<Dump>> {
        let mut dumps = self.commands(worker).into_iter().filter_map(|command| match command {
            Command::Dump(dump) => Some(dump),
            _ => None,
        });
        let dump = dumps.next();
        assert!(dumps.next().is_none(), "two walks at once");
        dump
    }

    /// The worker's answer: so many sessions, and where it goes on.
    fn dumped(&mut self, worker: usize, mut dump: Box<Dump>, sessions: u16, cursor: Cursor) {
        assert!(dump.records.capacity() >= BATCH);
        dump.records.extend((0..sessions).map(record));
        dump.cursor = cursor;
        self.tell(worker, Event::Dumped(dump));
    }
}

fn record(number: u16) -> SessionRecord {
    let ends = Ends {
        source: "192.0.2.1".parse().unwrap(),
        source_port: number,
        destination: "192.0.2.2".parse().unwrap(),
        destination_port: 80,
    };
    SessionRecord {
        tenant: None,
        kind: Kind::Tcp,
        state: State::Established,
        original: ends,
        reply: ends,
        backend: None,
        tiers: [].into_iter().collect(),
        packets: 1,
        bytes: 60,
        idle: 0,
        expires: Tick::default().get(),
        owner: WorkerId::new(0),
        ingress: PortId::new(0),
        generation: 1,
        from_kernel: false,
        in_line: false,
    }
}

fn retired(snapshot: &Arc<Snapshot>) -> Event {
    Event::Retired { snapshot: Arc::clone(snapshot), turns: Box::default() }
}

/// Batches so far, and whether the end was said.
fn heard(batches: &Receiver<Vec<SessionRecord>>) -> (usize, bool) {
    let batches: Vec<_> = batches.try_iter().collect();
    (batches.iter().map(Vec::len).sum(), batches.last().is_some_and(Vec::is_empty))
}

#[test]
fn a_publication_is_done_when_every_worker_has_moved_on_to_it() {
    // A worker that is ahead of another does not answer for it: its second retirement is the second publication's.
    let mut bench = Bench::new(2, 64);
    let snapshots = [Arc::clone(&bench.snapshot), tables(2, ""), tables(3, "")];
    let first = bench.publish(Arc::clone(&snapshots[1]), Vec::new());
    let second = bench.publish(Arc::clone(&snapshots[2]), Vec::new());
    bench.tell(0, retired(&snapshots[0]));
    bench.tell(0, retired(&snapshots[1]));
    assert_eq!((first.try_recv(), second.try_recv()), (Err(TryRecvError::Empty), Err(TryRecvError::Empty)));
    bench.tell(1, retired(&snapshots[0]));
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(()), Err(TryRecvError::Empty)));
    bench.tell(1, retired(&snapshots[1]));
    assert_eq!(second.try_recv(), Ok(()));
}

#[test]
fn whoever_walks_the_sessions_gets_all_of_them_however_many_walk() {
    // API-05.
    let mut bench = Bench::new(2, 64);
    let (first, second) = (bench.walk(), bench.walk());
    let (one, other) = (bench.dump(0).unwrap(), bench.dump(1).unwrap());
    bench.dumped(0, one, 3, Cursor::V4(256));
    let one = bench.dump(0).expect("goes on");
    bench.dumped(0, one, 2, Cursor::Done);
    assert_eq!((heard(&first), heard(&second)), ((5, false), (0, false)));
    assert!(bench.dump(0).is_none(), "the second waits for the first");
    bench.dumped(1, other, 0, Cursor::Done);
    assert_eq!(heard(&first), (0, true));
    for worker in 0..2 {
        let dump = bench.dump(worker).expect("now it is the second's turn");
        bench.dumped(worker, dump, 1, Cursor::Done);
    }
    assert_eq!(heard(&second), (2, true));
}

#[test]
fn a_reader_that_has_enough_makes_way_for_the_next() {
    let mut bench = Bench::new(1, 64);
    let (first, second) = (bench.walk(), bench.walk());
    drop(first);
    let dump = bench.dump(0).unwrap();
    bench.dumped(0, dump, 3, Cursor::V4(256));
    let dump = bench.dump(0).expect("the second's turn");
    assert_eq!(dump.cursor, Cursor::START);
    bench.dumped(0, dump, 4, Cursor::Done);
    assert_eq!(heard(&second), (4, true));
}

/// API-04: whoever reads slowly is waited for as long as nobody else has to, and then for a bounded time in all.
#[test]
fn a_slow_reader_holds_others_up_for_so_long_and_no_longer() {
    let mut bench = Bench::new(1, 64);
    let (reader, slow) = bounded(1);
    bench.ask(Request::Sessions(reader));
    let second = |bench: &mut Bench| {
        if let Some(dump) = bench.dump(0) {
            bench.dumped(0, dump, 1, Cursor::V4(256));
        }
        bench.clock.advance(Nanos::from_secs(1));
        bench.pass();
    };
    for number in 0..100 {
        second(&mut bench);
        if number % 4 == 3 {
            slow.try_recv().expect("it goes on");
        }
    }
    let next = bench.walk();
    let mut waited = 0;
    while heard(&next).0 == 0 {
        second(&mut bench);
        waited += 1;
        if waited % 4 == 3 {
            let _ = slow.try_recv();
        }
        assert!(waited <= 8, "the next one waits for its turn");
    }
    while slow.try_recv().is_ok() {}
    assert!(matches!(slow.try_recv(), Err(TryRecvError::Disconnected)));
}

#[test]
fn a_walk_that_is_cut_short_does_not_look_complete() {
    let mut bench = Bench::new(1, 64);
    let batches = bench.walk();
    let dump = bench.dump(0).unwrap();
    bench.dumped(0, dump, 3, Cursor::V4(256));
    drop(bench);
    assert_eq!(heard(&batches), (3, false));
    assert!(batches.recv().is_err());
}

#[test]
fn flushes_wait_for_each_other_and_each_gets_its_sum() {
    let mut bench = Bench::new(2, 64);
    let ended = |bench: &mut Bench, worker: usize, sessions| {
        let commands = bench.commands(worker);
        let [Command::Flush(flush)] = commands.as_slice() else { panic!("not one flush: {commands:?}") };
        bench.tell(worker, Event::Flushed { flush: flush.clone(), sessions });
    };
    let mut flush = || {
        let (done, sum) = bounded(1);
        bench.ask(Request::Flush(Arc::from([]), done));
        sum
    };
    let (first, second) = (flush(), flush());
    ended(&mut bench, 0, 3);
    assert!(bench.commands(0).is_empty(), "the second waits for the first");
    ended(&mut bench, 1, 4);
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(7), Err(TryRecvError::Empty)));
    ended(&mut bench, 0, 1);
    ended(&mut bench, 1, 1);
    assert_eq!(second.try_recv(), Ok(2));
}

#[test]
fn what_waits_for_a_worker_is_sent_although_its_events_never_end() {
    let mut bench = Bench::new(1, 1);
    let before = Arc::clone(&bench.snapshot);
    let _first = bench.publish(tables(2, ""), Vec::new());
    let _second = bench.publish(tables(3, ""), Vec::new());
    for _ in 0..8 * EVENTS_AT_ONCE {
        let used = Event::Used { port: PortId::new(0), address: before.ports[0].addresses[0].addr() };
        bench.links[0].events.push(used).unwrap();
    }
    assert!(matches!(bench.commands(0).as_slice(), [Command::Publish { .. }]));
    bench.pass();
    assert!(!bench.links[0].events.is_empty(), "one pass does not hear everything");
    assert!(matches!(bench.commands(0).as_slice(), [Command::Publish { .. }]), "the second");
}

/// Two more services and a translation whose addresses are nobody's own: on the links of both ports, in both families.
const POOLS: &str = r#"
[[source_nat]]
name = "hidden"
from = ["dmz"]
to = ["wan"]
address = ["198.51.100.77", "2001:db8:51::77"]

[[virtual_service]]
name = "web"
address = "198.51.100.80"
protocol = "tcp"
ports = ["80"]
algorithm = "maglev"
mode = "full-nat"
source_address = ["10.0.0.77"]

[[virtual_service.backend]]
name = "web-a"
address = "10.0.0.80"
port = 80

[[virtual_service]]
name = "web6"
address = "2001:db8:51::80"
protocol = "tcp"
ports = ["80"]
algorithm = "maglev"
mode = "full-nat"
source_address = ["2001:db8:10::77"]

[[virtual_service.backend]]
name = "web6-a"
address = "2001:db8:10::80"
port = 80
"#;

#[test]
fn every_address_the_appliance_answers_for_is_announced_when_it_comes_into_use() {
    // SE-19: virtual addresses and those that hide clients alike, each three times, on the port whose link it is on.
    let mut bench = Bench::new(1, 1_024);
    let before = Arc::clone(&bench.snapshot);
    let _done = bench.publish(tables(2, POOLS), Vec::new());
    bench.tell(0, retired(&before));
    let frames = bench.take_announcements();
    let new = ["198.51.100.77", "198.51.100.80", "2001:db8:51::77", "2001:db8:51::80"].map(|address| (0, address));
    let inside = ["10.0.0.77", "2001:db8:10::77"].map(|address| (1, address));
    for (port, address) in new.into_iter().chain(inside) {
        let mut bytes = [0; ShortFrame::CAPACITY];
        let len = match address.parse().unwrap() {
            IpAddr::V4(address) => emit::gratuitous_arp(&mut bytes, MAC, address),
            IpAddr::V6(address) => emit::unsolicited_advertisement(&mut bytes, MAC, address),
        };
        let announcement = (PortId::new(port), bytes[..len.unwrap()].to_vec());
        let times = frames.iter().filter(|frame| **frame == announcement).count();
        assert_eq!(times, 3, "{address} on port {port}");
    }
    assert_eq!(frames.len(), 6 * 3, "nothing that was announced before");
}

/// The addresses that are quiet in each set of tables a worker finds.
fn quiet(bench: &Bench, worker: usize) -> Vec<usize> {
    let commands = bench.commands(worker);
    let tables = commands.iter().filter_map(|command| match command {
        Command::Publish { snapshot, .. } => Some(snapshot.quiet.addresses.len()),
        _ => None,
    });
    tables.collect()
}

/// SE-23.
#[test]
fn what_is_new_is_quiet_until_every_worker_has_it() {
    let mut bench = Bench::new(2, 1_024);
    let (before, new) = (Arc::clone(&bench.snapshot), tables(2, POOLS));
    let done = bench.publish(Arc::clone(&new), Vec::new());
    assert_eq!([quiet(&bench, 0), quiet(&bench, 1)], [[6], [6]]);
    bench.tell(0, retired(&before));
    let later = bench.publish(Arc::new(Snapshot::clone(&new)), Vec::new());
    assert_eq!([quiet(&bench, 0), quiet(&bench, 1)], [[6], [6]], "the balancer's tables are renewed meanwhile");
    bench.tell(0, retired(&new));
    bench.tell(1, retired(&before));
    assert_eq!([quiet(&bench, 0), quiet(&bench, 1)], [[], []] as [[usize; 0]; 2], "not every worker has everything");
    bench.tell(1, retired(&new));
    assert_eq!([quiet(&bench, 0), quiet(&bench, 1)], [[0], [0]]);
    bench.tell(0, retired(&new));
    assert!(done.try_recv().is_err() && later.try_recv().is_err());
    bench.tell(1, retired(&new));
    assert!(done.try_recv().is_ok() && later.try_recv().is_ok(), "who waits is told when it is served and drawn here");
    let _again = bench.publish(tables(3, POOLS), Vec::new());
    assert_eq!(quiet(&bench, 0), [0], "nothing is new");
}

/// SE-19, SE-23: while some worker may have tables without an address, it is quiet, though it was served before these; what a
/// policy lets go of is so at once.
#[test]
fn what_was_let_go_and_comes_back_is_new() {
    let mut bench = Bench::new(1, 1_024);
    let (first, more) = (Arc::clone(&bench.snapshot), tables(2, POOLS));
    let _done = bench.publish(Arc::clone(&more), Vec::new());
    bench.tell(0, retired(&first));
    bench.tell(0, retired(&more));
    assert_eq!(quiet(&bench, 0), [6, 0]);
    let (less, again) = (tables(3, ""), tables(4, POOLS));
    let gone = bench.publish(Arc::clone(&less), Vec::new());
    let back = bench.publish(Arc::clone(&again), Vec::new());
    assert!(bench.take_announcements().is_empty(), "neither what is gone nor what is not back");
    bench.tell(0, retired(&more));
    assert!(gone.try_recv().is_ok(), "there is nothing new in it");
    bench.tell(0, retired(&less));
    assert!(back.try_recv().is_err());
    bench.tell(0, retired(&again));
    assert!(back.try_recv().is_ok());
    assert_eq!(bench.take_announcements().len(), 6 * 3);
}

#[test]
fn many_addresses_are_announced_one_after_the_other() {
    let mut bench = Bench::new(1, 8_192);
    let pool =
        "[[source_nat]]\nname = \"many\"\naddress = [\"198.51.100.101-198.51.100.250\", \"2001:db8:51::1:0/118\"]\n";
    let before = Arc::clone(&bench.snapshot);
    let _done = bench.publish(tables(2, pool), Vec::new());
    bench.tell(0, retired(&before));
    let mut sent = Vec::new();
    for _ in 0..20 {
        bench.clock.advance(Nanos::from_millis(100));
        bench.pass();
        sent.push(bench.commands(0).iter().filter(|command| matches!(command, Command::Transmit { .. })).count());
    }
    assert!(sent.iter().all(|&frames| frames <= 303), "three times a hundred in a tenth of a second: {sent:?}");
    assert!(sent.iter().sum::<usize>() > 3 * 1_000, "{sent:?}");
}

#[test]
fn addresses_of_a_policy_that_is_taken_back_are_announced_no_more() {
    let mut bench = Bench::new(1, 8_192);
    let pool = "[[source_nat]]\nname = \"many\"\naddress = [\"198.51.100.101-198.51.100.250\"]\n";
    let _done = bench.publish(tables(2, pool), Vec::new());
    bench.clock.advance(Nanos::from_millis(20));
    bench.pass();
    assert!(!bench.commands(0).is_empty(), "they were begun with");
    let _done = bench.publish(tables(3, ""), Vec::new());
    bench.pass();
    bench.commands(0);
    assert_eq!(bench.take_announcements(), []);
}

#[test]
fn no_station_takes_an_address_that_hides_clients() {
    // EVA-26.
    let mut bench = Bench::new(1, 1_024);
    let _done = bench.publish(tables(2, POOLS), Vec::new());
    bench.take_announcements();
    for address in ["198.51.100.77", "10.0.0.77", "2001:db8:10::77"] {
        let address = address.parse().unwrap();
        bench.tell(0, Event::Resolve { port: PortId::new(1), address });
        let commands = bench.commands(0);
        let [Command::Neighbor { mac: None, .. }] = commands.as_slice() else { panic!("{address}: {commands:?}") };
    }
}

#[test]
fn a_neighbor_that_leaves_the_policy_stays_in_use_and_is_asked_for() {
    let mut bench = Bench::new(1, 1_024);
    let (port, address) = (PortId::new(1), "10.0.0.9".parse().unwrap());
    let placed = vec![(port, address, MacAddr::new([2, 0, 0, 0, 0, 9]))];
    let _first = bench.publish(tables(2, ""), placed);
    let told = |bench: &Bench| {
        let commands = bench.commands(0).into_iter();
        let news = commands.filter_map(|command| match command {
            Command::Neighbor { mac, .. } => Some(mac.is_some()),
            Command::Transmit { .. } => None,
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    assert_eq!(told(&bench), [true]);
    let _second = bench.publish(tables(3, ""), Vec::new());
    assert_eq!(told(&bench), [] as [bool; 0], "flows to it go on");
    bench.tell(0, Event::Used { port, address });
    let commands = bench.commands(0);
    assert!(matches!(commands.as_slice(), [Command::Transmit { .. }]), "{commands:?}");
}

#[test]
fn a_capture_has_begun_when_every_worker_has_both_its_sides() {
    let mut bench = Bench::new(2, 64);
    let (begun, begins) = bounded(1);
    let (reader, _heard) = bounded(PIECES);
    let listens = Arc::new(());
    let sides = vec![Side::Received, Side::Sent];
    let (port, span, listener) = (PortId::new(0), Nanos::from_secs(1), Arc::downgrade(&listens));
    let (untold, filters) = (Arc::default(), Vec::new());
    let asked = Capturing { port, sides, drops: None, snap: 64, filters, span, begun, reader, untold, listener };
    bench.ask(Request::Capture(Box::new(asked)));
    for worker in [0, 1] {
        let requests = bench.commands(worker).into_iter().filter_map(|command| match command {
            Command::Capture(buffer) if buffer.begins => Some(buffer.order.request),
            _ => None,
        });
        let requests: Vec<u64> = requests.collect();
        assert_eq!(requests.len(), 2, "one for each side");
        for request in requests {
            assert_eq!(begins.try_recv(), Err(TryRecvError::Empty));
            bench.tell(worker, Event::Watching { request });
        }
    }
    assert_eq!(begins.try_recv(), Ok(true));
}

/// A reader that is too slow hears with the next frames how many it has missed, and when there are no next, at the end.
#[test]
fn what_a_slow_reader_of_a_capture_missed_is_told_at_the_end() {
    let mut bench = Bench::new(1, 64);
    let (begun, _begins) = bounded(1);
    let (reader, heard) = bounded(1);
    let (listens, untold) = (Arc::new(()), Arc::<AtomicU64>::default());
    let (port, span, listener) = (PortId::new(0), Nanos::from_secs(1), Arc::downgrade(&listens));
    let (sides, missed, filters) = (vec![Side::Received], Arc::clone(&untold), Vec::new());
    let asked = Capturing { port, sides, drops: None, snap: 64, filters, span, begun, reader, untold, listener };
    bench.ask(Request::Capture(Box::new(asked)));
    let captured = |bench: &mut Bench, frames: usize, lost: u64| {
        let buffer = bench.commands(0).into_iter().find_map(|command| match command {
            Command::Capture(buffer) => Some(buffer),
            _ => None,
        });
        let mut buffer = buffer.expect("a buffer is lent again");
        let frame = Caught { at: Nanos::ZERO, length: 60, end: 0, reason: None };
        buffer.frames.extend(vec![frame; frames]);
        buffer.lost = lost;
        bench.tell(0, Event::Captured(buffer));
        missed.load(Ordering::Relaxed)
    };
    assert_eq!([captured(&mut bench, 3, 0), captured(&mut bench, 5, 2)], [0, 7], "there is room for one piece");
    assert_eq!(heard.try_recv().unwrap().frames.len(), 3);
    assert_eq!(captured(&mut bench, 1, 0), 0);
    assert_eq!(heard.try_recv().unwrap().lost, 7);
    assert_eq!([captured(&mut bench, 1, 0), captured(&mut bench, 9, 1)], [0, 10]);
    bench.clock.advance(Nanos::from_secs(2));
    bench.pass();
    assert_eq!(heard.iter().map(|captured| captured.lost).sum::<u64>(), 0, "the channel closes");
    assert_eq!(missed.load(Ordering::Relaxed), 10);
}

#[test]
fn a_trace_has_begun_when_every_worker_follows() {
    let mut bench = Bench::new(2, 64);
    let (reader, heard) = unbounded();
    let listens = Arc::new(());
    let (count, span, listener) = (1, Nanos::from_secs(1), Arc::downgrade(&listens));
    bench.ask(Request::Trace(Box::new(Tracing { wanted: PacketMatch::default(), count, span, reader, listener })));
    for worker in [0, 1] {
        assert!(heard.try_recv().is_err(), "worker {worker} does not follow yet");
        let commands = bench.commands(worker);
        let first = commands.iter().find_map(|command| match command {
            Command::Trace(buffer) if buffer.begins => Some(buffer.order.request),
            _ => None,
        });
        bench.tell(worker, Event::Watching { request: first.unwrap() });
    }
    assert!(matches!(heard.try_recv(), Ok(Traced::Begun)));
}

#[test]
fn every_worker_hears_of_devices_in_order_and_however_late() {
    let mut bench = Bench::new(3, 1);
    let port = PortId::new(1);
    bench.ask(Request::Unplug(port));
    bench.ask(Request::Plug(port));
    for worker in 0..3 {
        assert!(matches!(bench.commands(worker).as_slice(), [Command::Unplug { port: of }] if *of == port));
        bench.pass();
        assert!(matches!(bench.commands(worker).as_slice(), [Command::Plug { port: of }] if *of == port));
    }
}

#[test]
fn behind_another_cable_addresses_are_announced_and_neighbors_asked() {
    // RLD-13.
    let mut bench = Bench::new(2, 1_024);
    let (port, address): (_, IpAddr) = (PortId::new(1), "10.0.0.11".parse().unwrap());
    let seen = |mac| Event::Seen {
        port,
        address,
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, mac])),
        evidence: stage::forward::Evidence::Reply { solicited: true, replaces: true },
    };
    bench.tell(0, Event::Resolve { port, address });
    bench.tell(0, seen(9));
    (0..2).for_each(|worker| drop(bench.commands(worker)));
    bench.ask(Request::Greet(port));
    let frames = bench.take_announcements();
    assert!(frames.iter().all(|(of, _)| *of == port), "{frames:02x?}");
    // Its own address of each family three times, and the neighbor once a second: all of them to everybody.
    assert_eq!(frames.len(), 2 * 3 + 1, "{frames:02x?}");
    assert!(frames.iter().all(|(_, frame)| frame[0] & 1 == 1), "{frames:02x?}");
    bench.commands(1);
    bench.tell(1, seen(10));
    for worker in 0..2 {
        let commands = bench.commands(worker);
        assert!(matches!(commands.as_slice(), [Command::Neighbor { mac: Some(_), .. }]), "{commands:?}");
    }
}
