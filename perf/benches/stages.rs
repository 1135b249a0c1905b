//! What each part of a packet's way costs by itself: parsing, session lookup and opening, classification, Maglev, rewriting,
//! checksums, the timer wheel. Bursts of 32 packets; the figures are of a whole burst.
//!
//! Each part also says how often it asks for memory in one burst, which on the packet path must be never.
//!
//! `cargo bench -p millrace-perf`; `rte_acl` needs no hugepages.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a benchmark may stop, and sets up what it indexes itself; an allocator cannot be written without unsafe code"
)]

use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net};
use millrace_perf::blueprint::Blueprint;
use millrace_perf::traffic::{Clients, Draw, Family, Frames, Order, Protocol, Size};
use session::{HashSecret, Kind, NewSession, Table, Tuple, WireTuple};
use stage::PortRange;
use stage::balancer::Services;
use stage::firewall::{Action, Candidate, Classifier, Linear, ProtocolMatch, Rule};
use stage::translate::{Covered, Deltas, Hop, Leaving, NewEndpoints, decrement_hop_limit, pass_v4, rewrite_v4};
use units::limits::CLASSIFIER_BUILD_BYTES;
use units::{TenantId, Tick, ZoneId};
use wire::plain::{Network, network, read_v4, read_v6};
use wire::{Content, Endpoints, Facts, MacAddr, Verify, checksum, dissect};

/// Counts what is asked of the system's allocator.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator as it came; the calls that are not written out end in these.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`, which are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System` by `alloc`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as for `alloc`. Zeroed pages of the kernel stay untouched.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures `part`, after saying what one call of it allocates once it has run before.
fn measure<T>(c: &mut Criterion, name: &str, mut part: impl FnMut() -> T) {
    black_box(part());
    let before = (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    black_box(part());
    let after = (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    println!("{name}: {} allocations, {} bytes", after.0 - before.0, after.1 - before.1);
    c.bench_function(name, |b| b.iter(&mut part));
}

const BURST: usize = 32;
/// Where the TTL lies; put back before each rewrite, so that it never runs out.
const TTL: usize = 22;
const STATION: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);

fn burst() -> Vec<Vec<u8>> {
    burst_of(Family::V4, Protocol::Udp)
}

fn burst_of(family: Family, protocol: Protocol) -> Vec<Vec<u8>> {
    let target = Blueprint::example(family, protocol).unwrap().target().unwrap();
    Frames::new(Clients::new(target, 10_000), Size::Bytes(64), Order::new(Draw::Uniform, 10_000, 32)).collect()
}

fn facts(frame: &[u8]) -> Facts {
    match dissect(frame, Verify::All).unwrap().content {
        Content::Ip(facts) => facts,
        Content::Arp(_) | Content::Other => unreachable!("clients send IP"),
    }
}

fn parse(c: &mut Criterion) {
    for (family, protocol, name) in [
        (Family::V4, Protocol::Udp, "UDP, IPv4"),
        (Family::V4, Protocol::Tcp, "TCP, IPv4"),
        (Family::V6, Protocol::Udp, "UDP, IPv6"),
        (Family::V6, Protocol::Tcp, "TCP, IPv6"),
    ] {
        let frames = burst_of(family, protocol);
        let is_plain = |frame: &[u8], verify| match network(frame, STATION) {
            Some(Network::V4) => read_v4(frame, verify).is_some(),
            Some(Network::V6) => read_v6(frame, verify).is_some(),
            None => false,
        };
        let taken = |verify| frames.iter().filter(|frame| is_plain(black_box(frame), verify)).count();
        assert_eq!(taken(true), BURST);
        measure(c, &format!("parse/plain {name}"), || taken(true));
        measure(c, &format!("parse/plain {name}, checksums by the device"), || taken(false));
        measure(c, &format!("parse/dissect {name}"), || {
            frames.iter().filter(|frame| dissect(black_box(frame), Verify::All).is_ok()).count()
        });
    }
    for bytes in [20, 60, 1_500] {
        let data = vec![0xa5; bytes];
        measure(c, &format!("checksum/{bytes} bytes"), || checksum::sum(black_box(&data)));
    }
}

fn tuple(client: u32) -> Tuple<Ipv4Addr> {
    Tuple {
        source: Ipv4Addr::from_bits(0xc633_6414 + client / 60_000),
        destination: Ipv4Addr::new(198, 51, 100, 10),
        source_port: u16::try_from(1_024 + client % 60_000).unwrap(),
        destination_port: 53,
    }
}

fn new_session(client: u32) -> NewSession<Ipv4Addr> {
    let original = tuple(client);
    NewSession::new(Kind::Udp, original, original.reversed())
}

fn sessions(c: &mut Criterion) {
    for (count, name) in [(10_000_u32, "10,000"), (1_000_000, "1,000,000")] {
        let mut table = Table::new(count as usize, HashSecret::from_seed(1)).unwrap();
        for client in 0..count {
            table.insert(&new_session(client), Tick::new(0)).unwrap();
        }
        let mut client = 0;
        measure(c, &format!("session/lookup of {name}"), || {
            let tuples: [_; BURST] = std::array::from_fn(|_| {
                client = (client + 7_919) % count;
                tuple(client)
            });
            let mut found = 0;
            for group in tuples.chunks(8) {
                let mut hashes = [0; 8];
                for (tuple, hash) in group.iter().zip(&mut hashes) {
                    *hash = table.hash(Kind::Udp, tuple);
                    table.prefetch_bucket(*hash);
                }
                let hints = hashes.map(|hash| table.prefetch_session(hash));
                for ((tuple, hash), hint) in group.iter().zip(hashes).zip(hints) {
                    found += usize::from(table.lookup_hinted(hint, hash, Kind::Udp, WireTuple::from(*tuple)).is_some());
                }
            }
            found
        });
    }
    let mut table = Table::new(100_000, HashSecret::from_seed(1)).unwrap();
    measure(c, "session/open and remove", || {
        for client in 0..32 {
            let slot = table.insert(&new_session(client), Tick::new(0)).unwrap();
            black_box(table.remove(slot));
        }
    });
    // STX-09: the same tuples in each tenant; the last must not take twice as long as the first.
    for (before, which) in [(0, "first"), (999, "last of 1,000")] {
        let mut table = Table::new(100_000, HashSecret::from_seed(1)).unwrap();
        let of_tenant = |tenant, client| NewSession { tenant: TenantId::new(tenant), ..new_session(client) };
        for tenant in 1..=before {
            (0..32).for_each(|client| assert!(table.insert(&of_tenant(tenant, client), Tick::new(0)).is_ok()));
        }
        measure(c, &format!("session/open and remove, the {which} tenant with the same tuples"), || {
            for client in 0..32 {
                let slot = table.insert(&of_tenant(before + 1, client), Tick::new(0)).unwrap();
                black_box(table.remove(slot));
            }
        });
    }
    c.bench_function("session/insert, 100,000 into an empty table", |b| {
        b.iter_batched(
            || Table::new(100_000, HashSecret::from_seed(1)).unwrap(),
            |mut table| {
                for client in 0..100_000 {
                    table.insert(&new_session(client), Tick::new(0)).unwrap();
                }
                table
            },
            BatchSize::LargeInput,
        );
    });
    c.bench_function("session/timer wheel, a tick with 100 of 100,000 due", |b| {
        b.iter_batched(
            || {
                let mut table = Table::new(100_000, HashSecret::from_seed(1)).unwrap();
                for client in 0..100_000 {
                    table.insert(&new_session(client), Tick::new(u64::from(client / 100))).unwrap();
                }
                table
            },
            |mut table| {
                // One-way datagrams live 30 s, a tick more by the wheel.
                black_box(table.advance(Tick::new(121), 64, |_, _| {}));
                table
            },
            BatchSize::LargeInput,
        );
    });
}

fn rules(count: u32) -> Vec<Rule> {
    let rule = |number: u32| Rule {
        name: number.to_string(),
        action: Action::Allow,
        from: vec![ZoneId::new(1)],
        to: vec![],
        source: vec![IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 + (number << 8)), 24).unwrap())],
        destination: vec![],
        protocol: ProtocolMatch::Udp,
        source_port: vec![],
        destination_port: vec![PortRange::single(u16::try_from(number % 60_000).unwrap())],
        icmp: vec![],
        log: false,
        new_sessions_per_second: None,
        new_sessions_per_source: None,
    };
    (0..count).map(rule).collect()
}

fn candidates() -> Vec<Candidate> {
    let candidate = |number: u32| Candidate {
        from: ZoneId::new(1),
        to: ZoneId::new(2),
        tenant: TenantId::NONE,
        protocol: 17,
        endpoints: Endpoints::V4 {
            source: Ipv4Addr::from_bits(0x0a00_0001 + ((number * 29) << 8)),
            destination: Ipv4Addr::new(198, 51, 100, 10),
        },
        source_port: 1_024,
        destination_port: u16::try_from(number * 29).unwrap(),
    };
    (0..32).map(candidate).collect()
}

fn classify(c: &mut Criterion) {
    let candidates = candidates();
    let mut matches = [None; BURST];
    let linear = Linear::new(&rules(1_000));
    measure(c, "classify/linear, 1,000 rules", || linear.classify(black_box(&candidates), &mut matches));
    {
        let eal = dpdk::Eal::init(&dpdk::EalOptions {
            file_prefix: format!("millrace-bench-{}", std::process::id()),
            memory_mib: 512,
            hugepages: false,
            devices: Vec::new(),
            main_core: 0,
        })
        .unwrap();
        for count in [100, 1_000, 10_000] {
            let acl =
                dpdk::Acl::new(&eal, stage::firewall::expand(&rules(count)).unwrap(), CLASSIFIER_BUILD_BYTES).unwrap();
            let name = format!("classify/rte_acl, {count} rules");
            measure(c, &name, || acl.classify(black_box(&candidates), &mut matches));
        }
    }
}

fn balance(c: &mut Criterion) {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples/bench.toml"));
    let checked = config::load(&std::fs::read_to_string(example).unwrap(), example).unwrap();
    let specs = checked.policy.services.into_iter().map(|service| service.spec).collect();
    let services = Services::compile(specs, None);
    let service = services.iter().next().unwrap();
    let mut turn = 0;
    measure(c, "balance/maglev", || {
        (0..32_u32)
            .filter_map(|client| service.pick(IpAddr::V4(Ipv4Addr::from_bits(client)), 1_024, &mut turn))
            .sum::<usize>()
    });
}

fn rewrite(c: &mut Criterion) {
    let mut frames = burst();
    let facts: Vec<Facts> = frames.iter().map(|frame| facts(frame)).collect();
    let ends = |last| NewEndpoints {
        source: Ipv4Addr::new(198, 51, 100, 20),
        destination: Ipv4Addr::new(10, 0, 0, last),
        source_port: 1_024,
        destination_port: 53,
    };
    let (old, new) = (ends(10), ends(11));
    let deltas = Deltas::between(&old, &new, Covered::AddressesAndPorts);
    let hop = Hop { destination: STATION, source: STATION };
    let NewEndpoints { source, destination, source_port, destination_port } = new;
    let wire = WireTuple::from(Tuple { source, destination, source_port, destination_port });
    let [network, transport] = [deltas.network, deltas.transport].map(u16::to_be);
    let leaving = Leaving { addresses: wire.addresses(), ports: wire.ports(), network, transport };
    measure(c, "rewrite/plain, whole", || {
        let mut done = 0;
        for frame in &mut frames {
            frame[TTL] = 64;
            done += usize::from(pass_v4(frame, false, hop, Some(leaving)));
        }
        done
    });
    measure(c, "rewrite/step by step", || {
        let mut done = 0;
        for (frame, facts) in frames.iter_mut().zip(&facts) {
            frame[TTL] = 64;
            done += usize::from(rewrite_v4(frame, facts, &new, deltas) && decrement_hop_limit(frame, facts));
            frame[..6].copy_from_slice(&hop.destination.octets());
            frame[6..12].copy_from_slice(&hop.source.octets());
        }
        done
    });
}

criterion_group!(stages, parse, sessions, classify, balance, rewrite);
criterion_main!(stages);
