//! Pools, buffers, ports and queues over devices that need neither hardware nor root: `net_ring`, `net_null`, `net_pcap`.
#![allow(missing_docs, reason = "tests name themselves")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it did not expect")]

mod runtime;

use std::fs;
use std::path::PathBuf;
use std::thread;

use dpdk::{Clock, Eal, EalOptions, Error, Lcore, Mbuf, Pool, PoolOptions, Port, PortOptions, Queue, Rss};
use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};
use runtime::{eal, pool};

fn open(device: &str, pool: &Pool) -> (Port, Vec<Queue>) {
    Port::open(&eal(), device, &PortOptions::default(), pool).unwrap()
}

/// A frame of `len` bytes that begins with `number`.
fn frame(pool: &Pool, number: u32, len: usize) -> Mbuf {
    let mut frame = pool.allocate().unwrap();
    assert!(frame.resize(len));
    frame.bytes_mut()[..4].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &Mbuf) -> u32 {
    u32::from_be_bytes(frame.bytes()[..4].try_into().unwrap())
}

#[test]
fn a_ring_gives_back_what_was_sent_in_order() {
    let pool = pool("order", 2_047);
    let (port, mut queues) = open("net_ring_order0", &pool);
    let queue = &mut queues[0];
    let mut burst = Burst::new();
    for at in 0..40 {
        burst.push(frame(&pool, at, 60 + at as usize));
    }
    assert_eq!(queue.transmit(&mut burst), 40);
    assert!(burst.is_empty());
    // A burst takes 32 at once, and appends.
    assert_eq!((queue.receive(&mut burst), queue.receive(&mut burst)), (32, 8));
    let got: Vec<(u32, usize)> = burst.iter().map(|frame| (number(frame), frame.bytes().len())).collect();
    assert_eq!(got, (0..40).map(|at| (at, 60 + at as usize)).collect::<Vec<_>>());
    assert!(burst.iter().all(|frame| !frame.is_chained() && frame.received_checksum() == ReceivedChecksum::Unchecked));
    let stats = port.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (40, 40));
    assert_eq!((port.driver(), port.rss()), ("net_ring", Rss::None));
    assert!(port.link().up);
}

#[test]
fn a_full_device_leaves_the_rest_in_the_burst_in_order() {
    let pool = pool("full", 4_095);
    let (_port, mut queues) = open("net_ring_full0", &pool);
    let queue = &mut queues[0];
    let (mut next, mut sent) = (0, 0);
    let rest = loop {
        let mut burst = Burst::new();
        for _ in 0..64 {
            burst.push(frame(&pool, next, 60));
            next += 1;
        }
        sent += u32::try_from(queue.transmit(&mut burst)).unwrap();
        if !burst.is_empty() {
            break burst;
        }
    };
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), (sent..next).collect::<Vec<_>>());
}

#[test]
fn every_buffer_comes_home() {
    let pool = pool("home", 511);
    assert_eq!((pool.total(), pool.in_use()), (511, 0));
    let mut frames: Vec<Mbuf> = (0..300).map(|at| frame(&pool, at, 64)).collect();
    assert_eq!(pool.in_use(), 300);
    frames.truncate(100);
    assert_eq!(pool.in_use(), 100);
    // Handed to another thread, registered with DPDK or not, they come home as well.
    let eal = eal();
    thread::spawn(move || {
        let lcore = Lcore::register(&eal).unwrap();
        drop(frames.split_off(50));
        drop(lcore);
        drop(frames);
    })
    .join()
    .unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_empty_pool_says_so_and_recovers() {
    let pool = pool("empty", 63);
    let frames: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!(frames.len(), 63);
    assert!(pool.allocate().is_none());
    drop(frames);
    assert_eq!(pool.in_use(), 0);
    assert!(pool.allocate().is_some());
}

#[test]
fn a_pool_that_does_not_fit_is_refused_by_sentence() {
    let options = PoolOptions { name: "huge".to_owned(), buffers: 4_000_000, frame_bytes: 2_048, socket: None };
    let error = Pool::new(&eal(), &options).unwrap_err().to_string();
    assert!(error.contains("4000000 packet buffers") && error.contains("raise `memory`"), "{error}");
    for options in [
        PoolOptions { name: String::new(), ..options.clone() },
        PoolOptions { name: "x".repeat(21), ..options.clone() },
        PoolOptions { buffers: 0, ..options.clone() },
        PoolOptions { frame_bytes: 63, ..options.clone() },
        PoolOptions { frame_bytes: u16::MAX, ..options },
    ] {
        assert!(matches!(Pool::new(&eal(), &options), Err(Error::Option { .. })), "{options:?}");
    }
}

#[test]
fn buffers_outlive_their_pool() {
    let pool = pool("outlived", 63);
    let mut left = frame(&pool, 7, 64);
    drop(pool);
    assert_eq!(number(&left), 7);
    left.bytes_mut().fill(0xa5);
}

#[test]
fn a_frame_grows_and_shrinks_within_its_buffer_only() {
    let pool = pool("grow", 63);
    let mut frame = frame(&pool, 1, 100);
    frame.bytes_mut().fill(0xa5);
    // Grown bytes are zero, even where older bytes lay.
    assert!(frame.resize(50) && frame.resize(60));
    assert_eq!(frame.bytes()[49..], [0xa5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(!frame.resize(2_049) && !frame.resize(usize::MAX) && frame.bytes().len() == 60);
    assert!(frame.resize(2_048) && frame.resize(60));
    // The headroom is 128 bytes.
    assert!(frame.prepend(129).is_none() && frame.prepend(usize::MAX).is_none());
    let grown = frame.prepend(128).unwrap();
    assert_eq!((grown.len(), grown[128]), (188, 0xa5));
    assert!(frame.prepend(1).is_none());
    assert!(frame.trim_front(128));
    assert_eq!((frame.bytes().len(), frame.bytes()[0]), (60, 0xa5));
    assert!(!frame.trim_front(61) && frame.trim_front(60));
    assert!(frame.bytes().is_empty() && frame.resize(0));
}

#[test]
fn a_used_buffer_comes_back_fresh() {
    let pool = pool("fresh", 1);
    let mut used = pool.allocate().unwrap();
    assert!(used.resize(1_000));
    used.bytes_mut().fill(0xff);
    assert!(used.trim_front(500));
    drop(used);
    let mut fresh = pool.allocate().unwrap();
    assert!(fresh.bytes().is_empty() && fresh.prepend(128).is_some());
}

#[test]
fn the_null_device_takes_everything_and_gives_empty_frames() {
    let pool = pool("null", 2_047);
    let (port, mut queues) = open("net_null0,size=128", &pool);
    let queue = &mut queues[0];
    let mut burst = Burst::new();
    assert_eq!(queue.receive(&mut burst), 32);
    assert!(burst.iter().all(|frame| frame.bytes().len() == 128));
    assert_eq!((queue.transmit(&mut burst), burst.len()), (32, 0));
    assert_eq!(queue.transmit(&mut burst), 0);
    assert_eq!((port.stats().rx_packets, port.stats().tx_packets), (32, 32));
    drop((port, queues));
    assert_eq!(pool.in_use(), 0);
}

/// A capture with `count` frames of `len` bytes, in the classic format of libpcap.
fn capture(name: &str, count: u32, len: u32) -> PathBuf {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    for number in 0..count {
        bytes.extend(words(&[0, 0, len, len]));
        bytes.extend(number.to_be_bytes());
        bytes.extend((4..len).map(|_| 0xee));
    }
    let path = std::env::temp_dir().join(format!("millrace-{name}-{}.pcap", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_capture_is_played_once_or_for_ever() {
    let path = capture("played", 5, 60);
    let pool = pool("pcap", 4_095);
    let (_once, mut queues) = open(&format!("net_pcap_once0,rx_pcap={}", path.display()), &pool);
    let mut burst = Burst::new();
    while queues[0].receive(&mut burst) > 0 {}
    assert_eq!(burst.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let (_ever, mut queues) = open(&format!("net_pcap_ever0,rx_pcap={},infinite_rx=1", path.display()), &pool);
    burst.clear();
    assert_eq!(queues[0].receive(&mut burst), 32);
    assert_eq!(burst.iter().take(7).map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 0, 1]);
    fs::remove_file(path).unwrap();
}

#[test]
fn a_frame_larger_than_a_buffer_comes_as_a_chain_and_goes_as_one() {
    let path = capture("large", 1, 5_000);
    let pool = pool("chain", 4_095);
    let (port, mut queues) = open(&format!("net_pcap_large0,rx_pcap={}", path.display()), &pool);
    let before = pool.in_use();
    let mut burst = Burst::new();
    assert_eq!(queues[0].receive(&mut burst), 1);
    assert!(burst[0].is_chained() && burst[0].bytes().len() == 2_048 && !burst[0].resize(60));
    assert_eq!(pool.in_use(), before + 3);
    burst.clear();
    assert_eq!(pool.in_use(), before);
    drop((port, queues));
    fs::remove_file(path).unwrap();
}

#[test]
fn a_device_is_open_once_and_can_be_opened_again_when_closed() {
    let pool = pool("again", 2_047);
    let (port, queues) = open("net_ring_again0", &pool);
    let error = Port::open(&eal(), "net_ring_again0", &PortOptions::default(), &pool).unwrap_err().to_string();
    assert!(error.contains("another port has opened it already"), "{error}");
    drop(queues);
    assert!(port.link().up);
    drop(port);
    for _ in 0..20 {
        let (port, mut queues) = open("net_ring_again0", &pool);
        let mut burst = Burst::new();
        burst.push(frame(&pool, 1, 60));
        assert_eq!(queues[0].transmit(&mut burst), 1);
        assert_eq!(port.stats().tx_packets, 1);
    }
}

#[test]
fn a_queue_keeps_its_device_open_and_every_number_is_there_once() {
    let pool = pool("queues", 8_191);
    let options = PortOptions { queues: 3, ..PortOptions::default() };
    let (port, mut queues) = Port::open(&eal(), "net_null_queues0", &options, &pool).unwrap();
    assert_eq!(queues.iter().map(|queue| queue.id().get()).collect::<Vec<_>>(), (0..port.queues()).collect::<Vec<_>>());
    drop(port);
    let mut burst = Burst::new();
    assert!(queues.iter_mut().all(|queue| queue.receive(&mut burst) == 32 && burst.drain(..).count() == 32));
}

#[test]
fn what_cannot_be_opened_is_told_by_sentence() {
    let pool = pool("errors", 63);
    let sentence = |device: &str| Port::open(&eal(), device, &PortOptions::default(), &pool).unwrap_err().to_string();
    for (device, words) in [
        ("eth0", "neither a PCI address"),
        ("net_nonsense0", "no driver of this name"),
        ("net_af_packet0", "iface=NAME"),
        ("net_af_packet0,iface=no-such-if", "no interface \"no-such-if\""),
        ("net_tap0,iface=a-name-that-is-too-long", "1 to 15 characters"),
        ("net_pcap0,rx_pcap=/no/such.pcap", "/no/such.pcap"),
        ("net_null0,nonsense=1", "are its arguments right?"),
        ("ffff:00:1f.7", "no PCI device at this address"),
    ] {
        let sentence = sentence(device);
        assert!(sentence.contains(words) || sentence.contains("run as root"), "{device}: {sentence}");
        assert!(!sentence.contains('\n'), "{device}: {sentence}");
    }
    // A pool too small for the queues is told with both numbers.
    let error = sentence("net_ring_small0");
    assert!(error.contains("1024 packet buffers, and the pool has 63"), "{error}");
}

#[test]
fn threads_register_once_and_give_their_place_back() {
    let eal = eal();
    let thread = move || {
        let first = Lcore::register(&eal).unwrap();
        let id = first.id();
        assert_eq!(Lcore::register(&eal).unwrap_err(), Error::AlreadyRegistered { lcore: id });
        drop(first);
        Lcore::register(&eal).unwrap().id()
    };
    // More often than there are places.
    for _ in 0..200 {
        thread::spawn(thread.clone()).join().unwrap();
    }
}

#[test]
fn the_runtime_starts_once() {
    let _running = eal();
    let options = EalOptions {
        file_prefix: "millrace-twice".to_owned(),
        memory_mib: 64,
        hugepages: false,
        devices: Vec::new(),
        main_core: dpdk::doctor::cores_allowed()[0],
    };
    assert_eq!(Eal::init(&options).unwrap_err(), Error::AlreadyStarted);
    assert!(Eal::version().starts_with("DPDK "));
}

#[test]
fn the_clock_keeps_pace_with_the_system_s() {
    use std::time::{Duration, Instant};

    let clock = eal().clock();
    let (before, from, after) = (Instant::now(), clock.now(), Instant::now());
    while after.elapsed() < Duration::from_millis(20) {}
    let (earlier, until, later) = (Instant::now(), clock.now(), Instant::now());
    // The span lies between the longest and the shortest it can have been, however long this thread was kept waiting.
    let (least, most) = (earlier - after, later - before);
    let span = Duration::from(until.since(from));
    assert!(span >= least.mul_f64(0.99) && span <= most.mul_f64(1.01), "{least:?} {span:?} {most:?}");
    assert!(clock.hertz() > 100_000_000 && Clock::cycles() <= Clock::cycles());
}
