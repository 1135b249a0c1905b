//! What it takes to compile rules of several shapes, and to look them up: tables, seconds, ordinary memory for the moment, memory for
//! good, cycles for each look-up of a packet that some rule is for (the fastest of many rounds of 4,096 packets, in bursts of 32).
//!
//! `cargo bench -p dpdk --bench rules -- 1000 10000 100000`, or other numbers of rules. It needs no hugepages.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may stop, and sets up what it indexes itself"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers are drawn, and figures rounded"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use dpdk::{Acl, Clock, Eal, EalOptions};
use ipnet::IpNet;
use stage::PortRange;
use stage::firewall::{Candidate, Classifier, Entries, Entry};
use units::limits::CLASSIFIER_BUILD_BYTES;
use units::{RuleId, TenantId, ZoneId};
use wire::Endpoints;

/// A way to write rules: its name, and the rule of a number.
type Shape = (&'static str, fn(&mut Draw, number: u32) -> Entry);

const SHAPES: [Shape; 6] = [
    ("networks to a server's port", |draw, number| Entry {
        source: draw.network(24),
        destination: draw.server(number % 250),
        destination_port: PortRange::single(draw.number() as u16),
        ..draw.any(number, Some(6))
    }),
    ("source and port, no destination", |draw, number| Entry {
        source: draw.network(32),
        destination_port: PortRange::single(draw.number() as u16),
        ..draw.any(number, Some(6))
    }),
    ("destination alone", |draw, number| Entry { destination: draw.network(32), ..draw.any(number, Some(6)) }),
    ("prefixes within prefixes", |draw, number| {
        let [source, destination] = [(); 2].map(|()| 8 + (draw.number() % 25) as u8);
        let first = (draw.number() % 60_000) as u16;
        Entry {
            source: draw.network(source),
            destination: draw.network(destination),
            destination_port: PortRange::new(first, first + (draw.number() % 100) as u16).unwrap(),
            ..draw.any(number, Some(if number.is_multiple_of(2) { 6 } else { 17 }))
        }
    }),
    ("300 servers for all, else sources", |draw, number| match number {
        0..300 => Entry {
            destination: draw.server(number),
            destination_port: PortRange::single(443),
            ..draw.any(number, Some(6))
        },
        _ => Entry { source: draw.network(32), ..draw.any(number, None) },
    }),
    ("ports that overlap, no address", |draw, number| {
        let [source_port, destination_port] = [(); 2].map(|()| {
            let first = (draw.number() % 60_000) as u16;
            PortRange::new(first, first + (draw.number() % 5_000) as u16).unwrap()
        });
        Entry { source_port, destination_port, ..draw.any(number, Some(6)) }
    }),
];

/// Numbers that look random, the same each time.
struct Draw {
    state: u64,
    v6: bool,
}

impl Draw {
    fn number(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as u32
    }

    /// A network of 10.0.0.0/8 of this length, or one of an IPv6 /32, as far behind it.
    fn network(&mut self, length: u8) -> IpNet {
        let bits = self.number();
        let net = if self.v6 {
            let host = (0x2001_0db8_u128 << 96) | (u128::from(bits) << 72) | u128::from(bits);
            IpNet::new(Ipv6Addr::from_bits(host).into(), if length == 32 { 128 } else { 24 + length }).unwrap()
        } else {
            IpNet::new(Ipv4Addr::from_bits(0x0a00_0000 | (bits >> 8)).into(), length).unwrap()
        };
        net.trunc()
    }

    fn server(&self, number: u32) -> IpNet {
        IpNet::from(if self.v6 {
            IpAddr::from(Ipv6Addr::from_bits((0x2001_0db9_u128 << 96) + u128::from(number)))
        } else {
            IpAddr::from(Ipv4Addr::from_bits(0xc0a8_0000 + number))
        })
    }

    fn any(&self, number: u32, protocol: Option<u8>) -> Entry {
        let every = if self.v6 { "::/0" } else { "0.0.0.0/0" }.parse().unwrap();
        Entry {
            rule: RuleId::new(number),
            from: Some(ZoneId::new(1)),
            to: None,
            protocol,
            source: every,
            destination: every,
            source_port: PortRange::ANY,
            destination_port: PortRange::ANY,
        }
    }

    /// A packet that this entry is for.
    fn packet(&mut self, entry: &Entry) -> Candidate {
        let [source, destination] = [entry.source, entry.destination].map(|net| {
            let bits = (0..4).fold(0_u128, |bits, _| (bits << 32) | u128::from(self.number()));
            match net {
                IpNet::V4(net) => u128::from(net.network().to_bits() | (bits as u32 & net.hostmask().to_bits())),
                IpNet::V6(net) => net.network().to_bits() | (bits & net.hostmask().to_bits()),
            }
        });
        let endpoints = if self.v6 {
            Endpoints::V6 { source: Ipv6Addr::from_bits(source), destination: Ipv6Addr::from_bits(destination) }
        } else {
            let [source, destination] = [source, destination].map(|bits| Ipv4Addr::from_bits(bits as u32));
            Endpoints::V4 { source, destination }
        };
        Candidate {
            from: ZoneId::new(1),
            to: ZoneId::new(2),
            tenant: TenantId::NONE,
            protocol: entry.protocol.unwrap_or(17),
            endpoints,
            source_port: entry.source_port.last(),
            destination_port: entry.destination_port.last(),
        }
    }
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let eal = Eal::init(&EalOptions {
        file_prefix: format!("millrace-rules-{}", std::process::id()),
        memory_mib: 3_072,
        hugepages: false,
        devices: Vec::new(),
        main_core: dpdk::doctor::cores_allowed()[0],
    })
    .unwrap();
    println!("| shape | IP | rules | tables | seconds | MiB meanwhile | MiB for good | cycles |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, shape) in SHAPES {
        for v6 in [false, true] {
            for &count in &numbers {
                println!("| {name} | IPv{} | {count} | {} |", if v6 { 6 } else { 4 }, figures(&eal, shape, v6, count));
            }
        }
    }
}

/// The rest of a row.
fn figures(eal: &Eal, shape: fn(&mut Draw, u32) -> Entry, v6: bool, count: u32) -> String {
    let mut draw = Draw { state: 88_172_645_463_325_252, v6 };
    let entries: Vec<Entry> = (0..count).map(|number| shape(&mut draw, number)).collect();
    let packets: Vec<Candidate> = (0..4_096)
        .map(|_| {
            let which = draw.number() as usize % entries.len();
            draw.packet(&entries[which])
        })
        .collect();
    let entries = if v6 { Entries { v4: Vec::new(), v6: entries } } else { Entries { v4: entries, v6: Vec::new() } };
    let begun = Instant::now();
    let acl = match Acl::new(eal, entries, CLASSIFIER_BUILD_BYTES) {
        Ok(acl) => acl,
        Err(error) => return error.to_string(),
    };
    let (seconds, for_good) = (begun.elapsed().as_secs_f64(), acl.memory() as f64 / f64::from(1 << 20));
    let cycles = cycles(&acl, &packets);
    format!("{} | {seconds:.2} | {} | {for_good:.1} | {cycles}", acl.tables(), acl.taken() >> 20)
}

/// Cycles for each packet, in the fastest round.
fn cycles(acl: &Acl, packets: &[Candidate]) -> u64 {
    let round = || {
        let begun = Clock::cycles();
        for burst in packets.chunks(32) {
            let mut matches = [None; 32];
            acl.classify(black_box(burst), &mut matches);
            black_box(matches);
        }
        (Clock::cycles() - begun) / packets.len() as u64
    };
    (0..40).map(|_| round()).min().unwrap_or(0)
}
