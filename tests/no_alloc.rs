//! The packet path allocates nothing and frees nothing: an allocator that counts, and turns of a worker under everything
//! that packets can make it do. A program of its own, because the allocator is.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::alloc::{GlobalAlloc, Layout as Block, System};

use millrace_tests::packet::{Packet, advertisement, arp_request, icmp_error, ip, ping, solicitation, tcp, udp};
use millrace_tests::{INSIDE, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
use units::Nanos;

/// Counts what is asked of the system's allocator while `COUNTING`.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`, which are `System`'s.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        count();
        // SAFETY: `at` came from `System` by one of the other calls, with this block.
        unsafe { System.dealloc(at, block) }
    }

    unsafe fn alloc_zeroed(&self, block: Block) -> *mut u8 {
        count();
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(block) }
    }

    unsafe fn realloc(&self, at: *mut u8, block: Block, len: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`; the caller keeps the promise about `len`.
        unsafe { System.realloc(at, block, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POLICY: &str = r#"
[firewall]
default = "deny"
log_rate = 1000
[[firewall.rule]]
name = "in"
action = "allow"
from = ["wan"]
protocol = "tcp"
destination_port = ["80"]
new_sessions_per_second = 100_000
new_sessions_per_source = 50_000
[[firewall.rule]]
name = "no"
action = "reject"
log = true
destination = ["10.0.0.66", "2001:db8:10::66"]
[[firewall.rule]]
name = "out"
action = "allow"
from = ["dmz"]
[[firewall.rule]]
name = "ping"
action = "allow"
protocol = "icmp"
[[source_nat]]
name = "hide"
from = ["dmz"]
to = ["wan"]
source = ["10.0.0.0/24"]
address = ["198.51.100.1"]
[[virtual_service]]
name = "shop"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
persistence = { by = "source", timeout = "5m" }
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service.backend]]
name = "b"
address = "10.0.0.12"
port = 8080
[[virtual_service]]
name = "full"
address = "198.51.100.20"
protocol = "tcp"
ports = ["80"]
mode = "full-nat"
source_address = ["10.0.0.1"]
algorithm = "maglev"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service]]
name = "tiered"
address = "198.51.100.40"
protocol = "tcp"
ports = ["80"]
marker_vlan = 100
[[virtual_service.tier]]
[[virtual_service.tier.backend]]
name = "a"
address = "10.0.0.41"
[[virtual_service.tier.backend]]
name = "b"
address = "10.0.0.42"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service]]
name = "wrapped"
address = "198.51.100.30"
protocol = "tcp"
ports = ["80"]
mode = "gue"
mss_clamp = true
[[virtual_service.backend]]
name = "a"
address = "10.0.0.31"
[[virtual_service.backend]]
name = "b"
address = "2001:db8:10::31"
[session_log]
format = "ipfix"
collector = "192.0.2.9:4739"
queue = 1024
"#;

/// A burst of everything: hits, misses, refusals, malformed packets, ARP, discovery, pings, errors, new neighbors.
fn burst(round: u16) -> Vec<(Side, Packet)> {
    let port = 1_000 + round % 3_000;
    let host = format!("198.51.100.{}", 20 + round % 200);
    let end = |host: &str| format!("{host}:{port}");
    let six = format!("[2001:db8:51::7:{:x}]:{port}", round % 64);
    let datagram = udp("10.0.0.99:700", "198.51.100.7:53").data(&[3; 1_000]).id(round).pieces(400);
    let torn = udp(&end(&host), "10.0.0.13:81").data(&[3; 1_000]).id(round).pieces(400);
    let about = udp(&format!("198.51.100.1:{port}"), "198.51.100.7:53").hops(3);
    let inside = tcp(&end(&host), "198.51.100.30:80").ack(9).seq(2).data(b"GET /").bytes_of_ip();
    let wrapped = udp("10.0.0.1:50000", "10.0.0.31:6080").data(&inside);
    vec![
        (OUTSIDE, tcp(&end(&host), "198.51.100.10:80").syn().seq(1)),
        (OUTSIDE, tcp(&end(&host), "198.51.100.10:80").ack(9).seq(2).data(b"GET /")),
        (OUTSIDE, tcp(&end(&host), "198.51.100.20:80").syn().seq(1)),
        (OUTSIDE, tcp(&end(&host), "198.51.100.30:80").syn().seq(1).tcp_options(&[2, 4, 5, 0xb4])),
        (OUTSIDE, tcp(&end(&host), "198.51.100.30:80").ack(9).seq(2).data(b"GET /")),
        (OUTSIDE, tcp(&end(&host), "198.51.100.40:80").syn().seq(1)),
        (INSIDE, tcp(&end(&host), "198.51.100.40:80").syn().seq(1).tagged(101)),
        (INSIDE, icmp_error("10.0.0.254", "10.0.0.1", 3, 4, 1_300, &wrapped, 100)),
        (OUTSIDE, tcp(&end(&host), "10.0.0.13:80").syn().seq(1)),
        (OUTSIDE, tcp(&six, "[2001:db8:10::11]:80").syn().seq(1)),
        (OUTSIDE, tcp(&six, "[2001:db8:10::11]:80").rst().seq(2)),
        (OUTSIDE, tcp(&end(&host), "10.0.0.66:81").syn().seq(1)),
        (OUTSIDE, udp(&six, "[2001:db8:10::66]:81")),
        (OUTSIDE, udp(&end(&host), "10.0.0.13:81")),
        (INSIDE, udp(&format!("10.0.0.{}:{port}", 20 + round % 100), "198.51.100.7:53")),
        (INSIDE, udp("10.0.0.99:500", &format!("203.0.113.{}:{port}", 1 + round % 250))),
        (INSIDE, ip("10.0.0.99", "198.51.100.7", 47, b"tunnel")),
        (INSIDE, ping("10.0.0.99", "198.51.100.7", port)),
        (OUTSIDE, icmp_error("198.51.100.99", "198.51.100.1", 11, 0, 0, &about, 100)),
        (OUTSIDE, ping(&host, "198.51.100.1", port)),
        (OUTSIDE, arp_request(&host, "198.51.100.1")),
        (OUTSIDE, solicitation("2001:db8:51::7", "2001:db8:51::1")),
        (INSIDE, advertisement("2001:db8:10::11", "2001:db8:10::1")),
        (OUTSIDE, udp(&end(&host), "10.0.0.13:81").wrong_ip_checksum(1)),
        (OUTSIDE, tcp(&end(&host), "10.0.0.13:80").syn().hops(1)),
        (OUTSIDE, tcp(&end(&host), "10.0.0.14:80").cut(50)),
        (OUTSIDE, tcp(&end(&host), &format!("10.0.0.{}:80", 100 + round % 150)).syn()),
        (OUTSIDE, ip(&host, "224.0.0.5", 89, b"hello")),
        (OUTSIDE_KERNEL, udp(&format!("198.51.100.1:{port}"), "198.51.100.7:123")),
        (INSIDE, datagram[2].clone()),
        (INSIDE, datagram[0].clone()),
        (INSIDE, datagram[0].clone()),
        (INSIDE, datagram[1].clone()),
        (OUTSIDE, torn[usize::from(round % 3)].clone()),
    ]
}

/// The turns of a worker, counted; what the rest of the rig allocates is not.
fn counted_turns(rig: &mut Rig) {
    loop {
        COUNTING.store(true, Ordering::Relaxed);
        let busy = rig.turn();
        COUNTING.store(false, Ordering::Relaxed);
        let more = rig.collect() | rig.control();
        if !busy && !more {
            return;
        }
    }
}

/// The counter itself works: without it every count would be right.
fn an_allocation_is_seen() {
    COUNTING.store(true, Ordering::Relaxed);
    drop(std::hint::black_box(Box::new(5)));
    COUNTING.store(false, Ordering::Relaxed);
    assert_eq!(CALLS.swap(0, Ordering::Relaxed), 2);
}

/// One test only: threads of others would be counted too.
#[test]
fn turns_allocate_and_free_nothing() {
    an_allocation_is_seen();
    let policy = format!("{TWO_PORTS}{POLICY}").replace("capacity = 4_096", "capacity = 900");
    let mut rig = Rig::of(&policy);
    rig.silence("10.0.0.110");
    let (mut follower, mut frames) = (None, None);
    let (mut traced, mut taken, mut told) = (0, 0, 0);
    for round in 0..6_000_u16 {
        for (side, packet) in burst(round) {
            rig.put(side, &packet);
        }
        // Time passes, so that sessions end too; now and then a lot of it.
        rig.leap_only(if round % 500 == 499 { Nanos::from_secs(200) } else { Nanos::from_millis(7) });
        // Some of the time, every packet is traced or taken.
        match round % 1_000 {
            300 => frames = Some(rig.capture(OUTSIDE, &[worker::Side::Received, worker::Side::Sent], None, Some(6))),
            500 => frames = None,
            600 => follower = Some(rig.follow_matching("", usize::MAX)),
            900 => follower = None,
            _ => {}
        }
        if let Some(frames) = &frames {
            taken += rig.taken(frames).0.len();
        }
        if let Some(follower) = &follower {
            traced += rig.seen(follower).ways.len();
        }
        if round % 700 == 699 {
            // What a publication allocates and frees is control's; the worker only exchanges one for the other.
            let _done = rig.send_policy(&policy);
        }
        counted_turns(&mut rig);
        rig.take();
        rig.notes();
        // Now and then the collector takes what there is: records find room, and find none.
        if round % 64 == 0 {
            told += rig.told().len();
        }
        let calls = CALLS.swap(0, Ordering::Relaxed);
        assert_eq!(calls, 0, "round {round}: {:?}", rig.drops());
    }
    let names: Vec<_> = rig.drops().into_keys().collect();
    for expected in [
        "firewall_denied",
        "firewall_rejected",
        "fragment_duplicate",
        "fragment_timeout",
        "hop_limit_exceeded",
        "ipv4_checksum",
        "ipv4_total_length",
        "neighbor_unresolved",
        "session_table_full",
    ] {
        assert!(names.contains(&expected), "the traffic should have met {expected}: {names:?}");
    }
    assert!(rig.count(|c| &c.sessions_closed) > 10_000);
    assert!(rig.count(|c| &c.half_open_given_up) > 100);
    assert!(taken > 10_000, "{taken} frames were taken");
    assert!(traced > 10_000, "{traced} packets were traced");
    assert!(told > 10_000, "{told} records were told");
    assert!(rig.count(|c| &c.log_records_lost) > 1_000, "the log was full, too");
    assert_eq!(rig.count(|c| &c.generation), 9, "policies came into force meanwhile");
}
