//! What a collector makes of it: a reader of IPFIX written from RFC 7011 alone, lines of JSON, and collectors on loopback that come,
//! go, refuse, and take nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use session::{Kind, State, Traffic};
use stage::balancer::Backend;
use units::{Nanos, PortId, TenantId, Tick, WorkerId};
use worker::{Ending, Ends, LogEvents, LogRecord, SessionLog, Tenant, Turn};

use super::Message;
use super::entry::{Calendar, entries};
use super::exporter::{Exporter, Wanted};
use super::ipfix::{Messages, Statistics};
use super::tally::{Reach, Tally};

const ALL: LogEvents = LogEvents { open: true, close: true, nat: true };

fn ends(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Ends {
    let address = |written: &str| written.parse::<IpAddr>().unwrap();
    Ends { source: address(source), source_port, destination: address(destination), destination_port }
}

/// A session between two ends, which leaves with others.
fn record(turn: Turn, original: Ends, leaves: Ends) -> LogRecord {
    LogRecord {
        turn,
        at: Nanos::from_millis(9_500),
        opened: Tick::new(4),
        idle: 6,
        tenant: None,
        kind: Kind::Tcp,
        state: State::Established,
        original,
        reply: leaves.reversed(),
        sent: Traffic { packets: 3, bytes: 300 },
        answered: Traffic { packets: 2, bytes: 2_000 },
        ingress: PortId::new(0),
        egress: Some(PortId::new(1)),
        backend: None,
        owner: WorkerId::new(0),
    }
}

fn acme() -> Arc<Tenant> {
    Arc::new(Tenant { id: TenantId::new(1), name: "acme".to_owned() })
}

fn plain() -> LogRecord {
    let ends = ends("192.0.2.1", 40_000, "198.51.100.7", 443);
    record(Turn::Closed(Ending::Finished), ends, ends)
}

/// A data record as it was read: values by enterprise (0 for none) and element.
type Read = BTreeMap<(u64, u16), Vec<u8>>;

/// A collector of one observation domain, by RFC 7011.
#[derive(Default)]
struct Reader {
    /// Fields of each template: enterprise, element, length.
    templates: HashMap<u16, Vec<(u64, u16, u16)>>,
    /// Data records so far.
    records: u32,
    sizes: Vec<usize>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The first `count` bytes.
fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn word(bytes: &mut &[u8]) -> u16 {
    u16::try_from(number(take(bytes, 2))).unwrap()
}

impl Reader {
    /// Reads one message; its data records, each with its template.
    fn read(&mut self, message: &[u8]) -> Vec<(u16, Read)> {
        self.sizes.push(message.len());
        let mut rest = message;
        assert_eq!(word(&mut rest), 10, "the version");
        assert_eq!(usize::from(word(&mut rest)), message.len(), "the length");
        let _export_time = take(&mut rest, 4);
        assert_eq!(number(take(&mut rest, 4)), u64::from(self.records), "data records before this message");
        assert_eq!(number(take(&mut rest, 4)), 7, "the domain");
        let mut read = Vec::new();
        while !rest.is_empty() {
            let set = word(&mut rest);
            let length = usize::from(word(&mut rest));
            assert!(length > 4, "a set is not empty");
            let mut body = take(&mut rest, length - 4);
            while !body.is_empty() {
                match set {
                    2 | 3 => self.learn(&mut body, set == 3),
                    id => {
                        read.push((id, self.data(id, &mut body)));
                        self.records = self.records.wrapping_add(1);
                    }
                }
            }
        }
        read
    }

    fn learn(&mut self, body: &mut &[u8], options: bool) {
        let (id, count) = (word(body), word(body));
        assert!(id >= 256 && count > 0);
        if options {
            let scopes = word(body);
            assert!(scopes > 0 && scopes <= count);
        }
        let fields = (0..count).map(|_| {
            let (element, length) = (word(body), word(body));
            let enterprise = if element & 0x8000 == 0 { 0 } else { number(take(body, 4)) };
            (enterprise, element & 0x7fff, length)
        });
        let fields = fields.collect();
        self.templates.insert(id, fields);
    }

    fn data(&self, id: u16, body: &mut &[u8]) -> Read {
        let fields = self.templates.get(&id).unwrap_or_else(|| panic!("template {id} was not described"));
        let mut read = Read::new();
        for &(enterprise, element, length) in fields {
            let length = if length == u16::MAX { usize::from(take(body, 1)[0]) } else { usize::from(length) };
            assert!(read.insert((enterprise, element), take(body, length).to_vec()).is_none(), "an element once");
        }
        read
    }
}

/// What `records` are as messages of at most so many bytes, templates first.
fn messages(records: &[LogRecord], size_max: usize) -> Vec<Message> {
    let mut sent = Vec::new();
    let mut send = |message| sent.push(message);
    let mut messages = Messages::new(7, size_max);
    messages.describe(1_000, &mut send);
    let ports = [(PortId::new(0), "outside"), (PortId::new(1), "inside")];
    messages.introduce(ports.into_iter(), &Statistics { at: 1_000, messages: 5, sent: 6, not_sent: 7 }, &mut send);
    for record in records {
        for entry in entries(record, ALL, Calendar::at(Nanos::ZERO)) {
            messages.enter(&entry, &mut send);
        }
    }
    messages.finish(2_000, &mut send);
    sent
}

fn read_all(messages: &[Message]) -> Vec<(u16, Read)> {
    let mut reader = Reader::default();
    messages.iter().flat_map(|message| reader.read(&message.bytes)).collect()
}

/// The records behind the two names and the statistics.
fn told(records: &[LogRecord]) -> Vec<(u16, Read)> {
    read_all(&messages(records, 1_400)).split_off(3)
}

#[test]
fn a_collector_learns_what_the_ports_are_called_and_what_it_has_missed() {
    let read = read_all(&messages(&[], 1_400));
    assert_eq!(read[0].1[&(0, 82)], b"outside");
    assert_eq!((number(&read[1].1[&(0, 10)]), &read[1].1[&(0, 82)][..]), (2, &b"inside"[..]));
    let statistics = &read[2].1;
    assert_eq!([149, 41, 42, 167].map(|element| number(&statistics[&(0, element)])), [7, 5, 6, 7]);
}

/// RFC 5103 section 6.1: what came in answer has the numbers of the reverse elements' enterprise.
#[test]
fn a_session_that_ended_is_told_with_both_directions() {
    let (_, read) = &told(&[plain()])[0];
    let value = |element: u16| number(&read[&(0, element)]);
    assert_eq!((&read[&(0, 8)][..], &read[&(0, 12)][..]), (&[192, 0, 2, 1][..], &[198, 51, 100, 7][..]));
    assert_eq!([7, 11, 4, 86, 85, 136, 233, 10, 14].map(value), [40_000, 443, 6, 3, 300, 3, 2, 1, 2]);
    assert_eq!([86, 85].map(|element| number(&read[&(29_305, element)])), [2, 2_000]);
    assert_eq!(value(323) - value(152), 8_500, "it was opened at a second and ended at nine and a half");
    assert_eq!(value(323) - value(153), 1_500, "its last packet came a second and a half before");
}

/// IANA, `flowEndMilliseconds`: no flow ends before it began, whatever a session has said.
#[test]
fn a_session_ends_no_earlier_than_it_began() {
    let (_, read) = &told(&[LogRecord { idle: u16::MAX, ..plain() }])[0];
    assert_eq!(read[&(0, 153)], read[&(0, 152)]);
}

/// Without a tenant its name is empty; with one, sessions and translations have it.
#[test]
fn whose_a_session_is_is_told_by_name() {
    let client = ends("192.0.2.1", 40_000, "198.51.100.7", 443);
    let server = ends("192.0.2.1", 40_000, "10.0.0.11", 443);
    let names = |tenant: Option<Arc<Tenant>>| {
        let record = LogRecord { tenant, ..record(Turn::Opened, client, server) };
        told(&[record]).into_iter().map(|(_, read)| read[&(0, 236)].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(Some(acme())), [b"acme"; 2]);
    assert_eq!(names(None), [b""; 2]);
}

#[test]
fn each_reason_of_an_end_has_its_number() {
    for (ending, reason) in [(Ending::Idle, 1), (Ending::Finished, 3), (Ending::Forced, 4), (Ending::NoRoom, 5)] {
        let (_, read) = &told(&[LogRecord { turn: Turn::Closed(ending), ..plain() }])[0];
        assert_eq!(number(&read[&(0, 136)]), reason, "{ending:?}");
    }
}

/// RFC 8158: what is rewritten, before and after, of every pair of versions; NAT64 as its IPv6 side sees it, whoever asked.
#[test]
fn translations_are_told_as_their_versions_are() {
    let bytes = |written: &str| match written.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (client, server) = ("2001:db8:10::11", "64:ff9b::c633:6407");
    let six = ends(client, 33_000, server, 443);
    let four = ends("198.51.100.64", 12_000, "198.51.100.7", 443);
    let hidden = (ends("10.0.0.7", 5_000, "198.51.100.7", 53), ends("198.51.100.1", 1_024, "198.51.100.7", 53));
    let shop = (ends("2001:db8:51::7", 9, "2001:db8:51::10", 80), ends("2001:db8:51::7", 9, "2001:db8:10::11", 8_080));
    // Elements of source and destination, before and after; ports after; and natEvent at the beginning.
    let rows = [
        (
            (hidden.0, hidden.1),
            [(8, "10.0.0.7"), (225, "198.51.100.1"), (12, "198.51.100.7"), (226, "198.51.100.7")],
            [1_024, 53],
            4,
        ),
        ((six, four), [(27, client), (225, "198.51.100.64"), (28, server), (226, "198.51.100.7")], [12_000, 443], 6),
        (
            (four.reversed(), six.reversed()),
            [(27, client), (225, "198.51.100.64"), (28, server), (226, "198.51.100.7")],
            [12_000, 443],
            6,
        ),
        (
            (shop.0, shop.1),
            [(27, "2001:db8:51::7"), (281, "2001:db8:51::7"), (28, "2001:db8:51::10"), (282, "2001:db8:10::11")],
            [9, 8_080],
            1,
        ),
    ];
    for ((original, leaves), addresses, ports, event) in rows {
        let opened = record(Turn::Opened, original, leaves);
        let closed = LogRecord { turn: Turn::Closed(Ending::Idle), ..opened.clone() };
        let told = told(&[opened, closed]);
        assert_eq!(told.len(), 4, "open, create, close, delete");
        for (position, event) in [(1, event), (3, event + 1)] {
            let (_, read) = &told[position];
            for (element, address) in addresses {
                assert_eq!(read[&(0, element)], bytes(address), "{element} of {original:?}");
            }
            assert_eq!([227, 228].map(|element| number(&read[&(0, element)])), ports, "{original:?}");
            assert_eq!((number(&read[&(0, 230)]), number(&read[&(0, 4)])), (event, 6), "{original:?}");
        }
    }
}

#[test]
fn echoes_and_strange_protocols_have_their_numbers() {
    let echo = ends("192.0.2.1", 77, "198.51.100.7", 77);
    let six = ends("2001:db8::1", 77, "2001:db8::2", 77);
    let gre = ends("192.0.2.1", 47, "198.51.100.7", 47);
    for (kind, ends, protocol, port) in
        [(Kind::Icmp, echo, 1, 77), (Kind::Icmp, six, 58, 77), (Kind::Other, gre, 47, 0), (Kind::Udp, echo, 17, 77)]
    {
        let (_, read) = &told(&[LogRecord { kind, ..record(Turn::Opened, ends, ends) }])[0];
        assert_eq!([4, 7, 11].map(|element| number(&read[&(0, element)])), [protocol, port, port], "{kind:?}");
    }
}

fn any_ends() -> impl Strategy<Value = (Ends, Ends)> {
    let pair = || (any::<u32>(), any::<u128>(), any::<u16>());
    let versions = prop_oneof![Just((false, false)), Just((true, true)), Just((true, false)), Just((false, true))];
    (pair(), pair(), pair(), pair(), versions, any::<bool>()).prop_map(|(a, b, c, d, (before, after), same)| {
        let end = |v6: bool, (four, six, port): (u32, u128, u16)| -> (IpAddr, u16) {
            (if v6 { IpAddr::V6(six.into()) } else { IpAddr::V4(four.into()) }, port)
        };
        let join = |(source, source_port), (destination, destination_port)| Ends {
            source,
            source_port,
            destination,
            destination_port,
        };
        let original = join(end(before, a), end(before, b));
        (original, if same { original } else { join(end(after, c), end(after, d)) })
    })
}

fn any_record() -> impl Strategy<Value = LogRecord> {
    let turn = prop_oneof![Just(Turn::Opened), Just(Turn::Closed(Ending::Idle)), Just(Turn::Closed(Ending::NoRoom))];
    let kind = prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::Icmp), Just(Kind::Other)];
    let counters = (any::<u64>(), any::<u64>(), any::<u64>());
    (turn, kind, any_ends(), counters, any::<u16>(), any::<bool>()).prop_map(
        |(turn, kind, (original, leaves), (packets, bytes, at), port, answered)| LogRecord {
            kind,
            at: Nanos::new(at),
            opened: Tick::new(at ^ packets),
            idle: port,
            sent: Traffic { packets, bytes },
            ingress: PortId::new(port),
            egress: answered.then(|| PortId::new(port)),
            tenant: answered.then(acme),
            ..record(turn, original, leaves)
        },
    )
}

proptest! {
    /// Whatever happened: no message is too large, every record is read back in order, and none is counted twice or not at all.
    #[test]
    fn any_records_are_read_back_from_messages_that_fit(
        records in prop::collection::vec(any_record(), 0..60),
        size_max in 512_usize..1_500,
    ) {
        let sent = messages(&records, size_max);
        let mut reader = Reader::default();
        let read: Vec<_> = sent.iter().flat_map(|message| reader.read(&message.bytes)).collect();
        prop_assert!(reader.sizes.iter().all(|&size| size <= size_max), "{:?}", reader.sizes);
        let calendar = Calendar::at(Nanos::ZERO);
        let wanted: Vec<_> = records.iter().flat_map(|record| entries(record, ALL, calendar)).collect();
        prop_assert_eq!(read.len(), wanted.len() + 3);
        prop_assert_eq!(sent.iter().map(|message| message.entries).sum::<u64>(), wanted.len() as u64);
        for ((_, read), entry) in read.iter().skip(3).zip(&wanted) {
            let moment = number(&read[&(0, 323)]);
            prop_assert!(moment.abs_diff(entry.at) <= 1_000, "{moment} {}", entry.at);
        }
        // Messages are not smaller than they have to be: the next one's first record did not fit.
        prop_assert!(sent.iter().rev().skip(1).all(|message| message.bytes.len() + 140 > size_max));
    }
}

/// An exporter, what it is told to do, and the workers' rings.
struct Scene {
    exporter: Exporter,
    tally: Arc<Tally>,
    policy: Arc<config::Policy>,
    log: Arc<SessionLog>,
    now: Instant,
}

fn policy(lines: &str) -> Arc<config::Policy> {
    let edge = include_str!("../../../config/examples/edge.toml");
    let text = format!("{edge}\n[session_log]\n{lines}\n");
    Arc::new(config::load(&text, Path::new("edge.toml")).unwrap().policy)
}

impl Scene {
    fn new(lines: &str) -> Self {
        Self::with_places(lines, 1_024)
    }

    /// With room for so many records.
    fn with_places(lines: &str, places: usize) -> Self {
        let tally = Arc::new(Tally::default());
        let log = Arc::new(SessionLog::new(ALL, 1, places));
        let exporter = Exporter::new(Arc::clone(&tally));
        Self { exporter, tally, policy: policy(lines), log, now: Instant::now() }
    }

    fn wanted(&self) -> Wanted {
        Wanted { policy: Arc::clone(&self.policy), log: Arc::clone(&self.log), lost: 0 }
    }

    fn turn(&mut self) -> bool {
        self.exporter.turn(Some(self.wanted()), Nanos::from_secs(10), self.now)
    }

    fn end(&mut self, within: Duration) -> u64 {
        self.exporter.end(Some(&self.wanted()), Nanos::from_secs(10), within)
    }

    /// Turns until it is so: the kernel does its part by itself, and soon.
    fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            self.turn();
            if so(self) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("never: {what}; {:?} {:?}", self.tally.reach(), self.tally.trouble());
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn tell(&self, count: usize) -> usize {
        (0..count).filter(|_| self.log.tell(plain())).count()
    }

    fn reaches(&mut self, reach: Reach) {
        self.until("the collector is as it should be", |scene| scene.tally.reach() == reach);
    }
}

/// A ring with so many records, for a collector behind a Unix socket that reads all it can, and says how many lines that were.
fn read_at_once(records: usize) -> (Scene, tempfile::TempDir, JoinHandle<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let reading = std::thread::spawn(move || BufReader::new(listener.accept().unwrap().0).lines().count());
    let scene = Scene::with_places(&format!("format = \"json\"\ncollector = \"{}\"", path.display()), records);
    assert_eq!(scene.tell(records), records);
    (scene, folder, reading)
}

fn ipfix_over_udp(to: SocketAddr) -> String {
    format!("format = \"ipfix\"\ncollector = \"{to}\"\ndomain = 7")
}

#[test]
fn datagrams_are_one_conversation_whose_templates_are_repeated() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector.set_nonblocking(true).unwrap();
    let mut scene = Scene::new(&ipfix_over_udp(collector.local_addr().unwrap()));
    let mut reader = Reader::default();
    let mut told = 0;
    let mut described = 0;
    for round in 0..5 {
        scene.tell(100);
        scene.turn();
        scene.later(40);
        let mut buffer = [0; 2_000];
        while let Ok(length) = collector.recv(&mut buffer) {
            let set = number(&buffer[16..18]);
            described += u32::from(set == 2);
            told += reader.read(&buffer[..length]).iter().filter(|(id, _)| *id == 258).count();
        }
        assert_eq!(told, (round + 1) * 100);
    }
    assert_eq!(described, 3, "every minute, looked at each forty seconds");
    let (sent, messages, _) = scene.tally.sent();
    assert_eq!((sent, messages), (500, reader.sizes.len() as u64));
    assert_eq!(scene.tally.reach(), Reach::Up);
}

#[test]
fn a_machine_where_nobody_listens_is_told_of_and_taken_up_again() {
    // Where nobody else comes by a port before it is bound again.
    let port = UdpSocket::bind("127.77.0.1:0").unwrap().local_addr().unwrap();
    let mut scene = Scene::new(&ipfix_over_udp(port));
    scene.turn();
    scene.until("it is refused", |scene| {
        scene.tell(1);
        scene.tally.reach() == Reach::Down
    });
    assert!(scene.tally.trouble().unwrap().contains("refused"), "{:?}", scene.tally.trouble());
    let collector = UdpSocket::bind(port).unwrap();
    collector.set_nonblocking(true).unwrap();
    scene.until("it is heard again", |scene| {
        scene.tell(1);
        collector.recv(&mut [0; 2_000]).is_ok()
    });
    scene.later(4);
    scene.tell(1);
    scene.reaches(Reach::Up);
    let mut described = false;
    scene.until("templates come again", |_| {
        let mut buffer = [0; 2_000];
        described |= collector.recv(&mut buffer).is_ok_and(|_| number(&buffer[16..18]) == 2);
        described
    });
}

#[test]
fn a_connection_that_breaks_is_made_anew_and_begins_from_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut scene = Scene::new(&format!("format = \"ipfix\"\ntransport = \"tcp\"\ncollector = \"{to}\"\ndomain = 7"));
    for round in 1..=3 {
        scene.reaches(Reach::Up);
        let (mut stream, _) = listener.accept().unwrap();
        scene.tell(50);
        scene.turn();
        let mut reader = Reader::default();
        let mut told = 0;
        while told < 50 {
            let mut header = [0; 16];
            stream.read_exact(&mut header).unwrap();
            let mut message = header.to_vec();
            message.resize(usize::try_from(number(&header[2..4])).unwrap(), 0);
            stream.read_exact(&mut message[16..]).unwrap();
            told += reader.read(&message).iter().filter(|(id, _)| *id == 258).count();
        }
        assert_eq!(scene.tally.sent().0, round * 50);
        drop(stream);
        scene.reaches(Reach::Down);
        assert_eq!(scene.tell(10), 10, "what is told meanwhile waits");
        scene.turn();
        assert_eq!(scene.log.waiting(), 10);
        while scene.log.next_of(0).is_some() {}
        scene.later(31);
    }
    assert_eq!((scene.tally.connections(), scene.tally.unsent()), (3, 0));
}

#[test]
fn a_collector_that_is_not_there_yet_costs_nothing_but_room() {
    // Where nobody else comes by a port before it is bound again.
    let to = TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap();
    let mut scene = Scene::new(&format!("format = \"json\"\ncollector = \"{to}\""));
    assert_eq!(scene.tell(2_000), 1_024, "a bounded number waits");
    scene.reaches(Reach::Down);
    for _ in 0..60 {
        scene.later(1);
        scene.turn();
    }
    assert_eq!((scene.log.waiting(), scene.tally.connections(), scene.tally.unsent()), (1_024, 0, 0));
    let listener = TcpListener::bind(to).unwrap();
    scene.later(31);
    scene.reaches(Reach::Up);
    let (stream, _) = listener.accept().unwrap();
    scene.until("all is sent", |scene| scene.tally.sent().0 == 1_024);
    let lines: Vec<String> = BufReader::new(stream).lines().take(1_024).map(Result::unwrap).collect();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert_eq!(scene.tally.unsent(), 0);
}

#[test]
fn a_collector_that_takes_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The kernel holds little for it: far less than is told.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 64 << 10).unwrap();
    let to = listener.local_addr().unwrap();
    let mut scene = Scene::new(&format!("format = \"json\"\ncollector = \"{to}\""));
    scene.reaches(Reach::Up);
    let (stream, _) = listener.accept().unwrap();
    let mut taken = 0;
    for _ in 0..100 {
        taken += scene.tell(1_024);
        scene.turn();
    }
    assert!(taken < 100 * 1_024 && scene.log.waiting() == 1_024, "the kernel holds {taken}, then the ring is full");
    assert_eq!(scene.tally.unsent(), 0);
    // What its kernel still finds room for meanwhile makes it a little later.
    while scene.tally.reach() != Reach::Down {
        scene.later(11);
        taken += scene.tell(1_024);
        scene.turn();
    }
    assert!(scene.tally.trouble().unwrap().contains("takes nothing"));
    // It comes to itself: nothing is missing, nothing is twice.
    let reading = std::thread::spawn(move || {
        let mut lines = BufReader::new(stream).lines();
        let mut count = 0;
        while count < taken && lines.next().is_some_and(|line| line.is_ok()) {
            count += 1;
        }
        count
    });
    scene.until("all is sent", |scene| scene.log.waiting() == 0 && scene.tally.sent().0 == taken as u64);
    assert_eq!(reading.join().unwrap(), taken);
    assert_eq!(scene.tally.reach(), Reach::Up);
}

/// More than the kernel holds, for a collector that reads at once: whenever something is left, there is a socket to wait for.
#[test]
fn a_collector_that_keeps_up_is_never_napped_for() {
    let (mut scene, _folder, reading) = read_at_once(50_000);
    while scene.tally.sent().0 < 50_000 {
        let busy = scene.turn();
        let over = scene.tally.sent().0 == 50_000;
        assert!(busy || over || scene.exporter.wait(Duration::from_secs(60)), "{:?}", scene.tally);
    }
    assert!(!scene.exporter.wait(Duration::from_secs(60)), "there is nothing to wait for");
    drop(scene);
    assert_eq!(reading.join().unwrap(), 50_000);
}

#[test]
fn what_is_left_at_the_end_goes_out() {
    let (mut scene, _folder, reading) = read_at_once(20_000);
    assert_eq!(scene.end(Duration::from_secs(60)), 0);
    assert_eq!((scene.tally.sent().0, scene.tally.unsent()), (20_000, 0));
    assert_eq!(reading.join().unwrap(), 20_000);
    // A collector that takes nothing is left behind, and what it has not taken is counted.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut scene = Scene::with_places(&format!("format = \"json\"\ncollector = \"{}\"", path.display()), 20_000);
    scene.tell(20_000);
    let left = scene.end(Duration::ZERO);
    let (sent, _, _) = scene.tally.sent();
    assert!(sent < 20_000 && left == scene.tally.unsent(), "{sent} {left}");
    assert_eq!(sent + left, 20_000);
}

/// A proxy before a collector that is gone accepts whoever comes, and hangs up.
#[test]
fn who_accepts_and_hangs_up_is_asked_ever_less_often() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut scene = Scene::new(&format!("format = \"json\"\ncollector = \"{to}\""));
    let mut connections = 0;
    let begin = scene.now;
    while scene.now < begin + Duration::from_secs(120) {
        scene.reaches(Reach::Up);
        drop(listener.accept().unwrap());
        connections += 1;
        scene.reaches(Reach::Down);
        while scene.tally.connections() == connections {
            scene.later(1);
            scene.turn();
        }
    }
    assert!(connections <= 8, "{connections} connections in two minutes");
    // One that lasts is believed again.
    let (stream, _) = listener.accept().unwrap();
    scene.later(10);
    scene.turn();
    drop(stream);
    scene.reaches(Reach::Down);
    scene.later(1);
    scene.turn();
    scene.until("it is connected", |scene| scene.tally.connections() == connections + 2);
}

/// What opened comes before what ended, whatever ring it was told in.
#[test]
fn an_earlier_ring_is_emptied_before_the_one_that_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.sock");
    let mut scene = Scene::new(&format!("format = \"json\"\ncollector = \"{}\"", path.display()));
    let ends = ends("192.0.2.1", 40_000, "198.51.100.7", 443);
    for _ in 0..300 {
        assert!(scene.log.tell(record(Turn::Opened, ends, ends)));
    }
    scene.reaches(Reach::Down);
    scene.log = Arc::new(SessionLog::new(ALL, 1, 1_024));
    scene.tell(300);
    let listener = UnixListener::bind(&path).unwrap();
    scene.later(1);
    scene.reaches(Reach::Up);
    let (stream, _) = listener.accept().unwrap();
    let read = std::thread::spawn(move || BufReader::new(stream).lines().take(600).map(Result::unwrap).collect());
    scene.until("all is sent", |scene| scene.tally.sent().0 == 600);
    let lines: Vec<String> = read.join().unwrap();
    let turned = lines.iter().position(|line| line.contains("\"close\"")).unwrap();
    assert_eq!(turned, 300);
    assert!(lines[300..].iter().all(|line| line.contains("\"close\"")));
}

/// Each set of rings takes as much memory as the one in force.
#[test]
fn of_rings_that_wait_for_a_collector_one_set_is_kept() {
    let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut scene = Scene::new(&format!("format = \"json\"\ncollector = \"{to}\""));
    let mut weak = Vec::new();
    for _ in 0..4 {
        scene.tell(100);
        scene.turn();
        weak.push(Arc::downgrade(&scene.log));
        scene.log = Arc::new(SessionLog::new(ALL, 1, 1_024));
        scene.turn();
    }
    let alive: Vec<bool> = weak.iter().map(|log| log.strong_count() > 0).collect();
    assert_eq!((alive, scene.tally.unsent()), (vec![false, false, false, true], 300));
}

#[test]
fn a_new_policy_loses_nothing_that_still_has_a_collector() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = collector.local_addr().unwrap();
    let mut scene = Scene::new(&ipfix_over_udp(to));
    scene.turn();
    scene.tell(10);
    // Other events: other rings, while a worker still has the old ones.
    let old = Arc::clone(&scene.log);
    scene.policy = policy(&format!("{}\nevents = [\"close\"]", ipfix_over_udp(to)));
    scene.log = Arc::new(SessionLog::new(LogEvents { close: true, ..LogEvents::default() }, 1, 1_024));
    scene.turn();
    scene.tell(10);
    assert!(old.tell(plain()));
    scene.turn();
    assert_eq!((scene.tally.sent().0, old.waiting()), (21, 0));
    // No collector any more: what is told is lost, and counted.
    scene.tell(5);
    let now = scene.now;
    scene.exporter.turn(None, Nanos::from_secs(11), now);
    assert_eq!((scene.tally.unsent(), scene.tally.reach()), (5, Reach::Off));
}

#[test]
fn a_line_has_the_words_of_show_sessions() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut scene = Scene::new(&format!("format = \"json\"\ncollector = \"{}\"", listener.local_addr().unwrap()));
    let backend = Arc::new(Backend::new("shop", "a", "10.0.0.11".parse().unwrap(), Some(8_080), false));
    let original = ends("192.0.2.1", 40_000, "198.51.100.10", 80);
    let leaves = ends("192.0.2.1", 40_000, "10.0.0.11", 8_080);
    let record = record(Turn::Opened, original, leaves);
    let opened = LogRecord { backend: Some(backend), tenant: Some(acme()), egress: None, ..record };
    let closed = LogRecord { turn: Turn::Closed(Ending::Idle), egress: Some(PortId::new(1)), ..opened.clone() };
    assert!(scene.log.tell(opened) && scene.log.tell(closed));
    scene.until("all is sent", |scene| scene.tally.sent().0 == 4);
    let (stream, _): (TcpStream, _) = listener.accept().unwrap();
    let lines: Vec<serde_json::Value> =
        BufReader::new(stream).lines().take(4).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("event"), ["open", "nat_create", "close", "nat_delete"]);
    assert_eq!(of("service"), ["shop"; 4]);
    assert_eq!(of("backend"), ["a"; 4]);
    assert_eq!(of("tenant"), ["acme"; 4]);
    assert_eq!(of("protocol"), ["tcp"; 4]);
    assert_eq!(of("ingress"), ["outside"; 4]);
    let [open, _, close, _] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&open["egress"], &open["packets"], &close["egress"]), (&().into(), &().into(), &"inside".into()));
    assert_eq!(close["idle_ms"], 1_500);
    assert_eq!((&close["packets"], &close["bytes"], &close["reply_bytes"]), (&5.into(), &2_300.into(), &2_000.into()));
    assert_eq!(close["reason"], "idle");
    assert_eq!(close["reply"]["source"], "10.0.0.11");
    assert_eq!(of("opened_at"), vec![open["opened_at"].clone(); 4], "one session, one beginning");
}
