//! What a session's first packet costs, whole: a worker over memory cards, DPDK's tables, packets of clients it has never
//! seen; and, in the same appliance, what an established session's packet costs. The figures include the card, a copy of
//! 60 bytes a packet, which is measured by itself as `card`.
//!
//! `cargo bench -p millrace-perf --bench first_packets`, with free hugepages (1 GiB). Each case prints the
//! lowest, the fifth percentile and the median of windows of 32 turns in TSC cycles a packet beside criterion's own report:
//! on a machine that does other things, too, low windows are what disturbance only raises.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a benchmark may stop, and sets up what it indexes itself"
)]

mod appliance;
mod card;
mod policy;
mod traffic;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use dpdk::{Clock, Eal, EalOptions};

use appliance::Appliance;
use policy::Shape;
use traffic::Opening;

/// Packets of one turn: a full burst of 32 is followed by another.
const TURN: u64 = 64;
/// Turns in a window.
const WINDOW: u64 = 32;

/// The cycles of each window, and what a case ends with.
#[derive(Default)]
struct Windows(Vec<u64>);

impl Windows {
    /// Has `window` treat a window's packets, as often as criterion asks for packets, and takes the time.
    fn measure(&mut self, packets: u64, hertz: u64, mut window: impl FnMut() -> u64) -> Duration {
        let windows = packets.div_ceil(TURN * WINDOW);
        let before = self.0.len();
        self.0.extend((0..windows).map(|_| window()));
        let cycles: u64 = self.0[before..].iter().sum();
        let whole = u128::from(cycles) * 1_000_000_000 / u128::from(hertz);
        let asked = whole * u128::from(packets) / u128::from(windows * TURN * WINDOW);
        Duration::from_nanos(u64::try_from(asked).unwrap())
    }

    fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let each = |cycles: u64| cycles / (TURN * WINDOW);
        let at = |percent: usize| self.0.get(self.0.len() * percent / 100).copied().map_or(0, each);
        println!("{name}: lowest {}, p5 {}, median {} cycles a packet", at(0), at(5), at(50));
    }
}

fn first_packets(c: &mut Criterion) {
    let eal = Eal::init(&EalOptions {
        file_prefix: format!("millrace-bench-{}", std::process::id()),
        memory_mib: 1_024,
        hugepages: true,
        devices: Vec::new(),
        main_core: 1,
    })
    .unwrap();
    let hertz = eal.clock().hertz();
    let mut group = c.benchmark_group("first");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let only = std::env::args().skip(1).rfind(|word| !word.starts_with('-')).unwrap_or_default();
    for shape in Shape::ALL {
        // Compiling many rules takes seconds: not for a case that was not asked for.
        let asked = |name: &str| name.contains(&only);
        let names = Opening::ALL.map(|opening| (opening, format!("{}, {shape}", opening.name())));
        let established = format!("established, {shape}");
        let card = format!("card, {shape}");
        if !names.iter().any(|(_, name)| asked(name)) && !asked(&established) && !asked(&card) {
            continue;
        }
        for (opening, name) in names {
            if !asked(&name) {
                continue;
            }
            let mut appliance = Appliance::new(&eal, shape, opening);
            appliance.open_all();
            appliance.expire_all();
            let mut windows = Windows::default();
            group.bench_function(&name, |b| {
                b.iter_custom(|packets| {
                    windows.measure(packets, hertz, || {
                        if !appliance.has_clients(TURN * WINDOW) {
                            appliance.expire_all();
                        }
                        let before = Clock::cycles();
                        appliance.turn(WINDOW);
                        Clock::cycles() - before
                    })
                });
            });
            appliance.print_stages();
            windows.print(&name);
        }
        if asked(&established) {
            let mut appliance = Appliance::new(&eal, shape, Opening::Datagram);
            appliance.open_all();
            let mut windows = Windows::default();
            group.bench_function(&established, |b| {
                b.iter_custom(|packets| {
                    windows.measure(packets, hertz, || {
                        if !appliance.has_clients(TURN * WINDOW) {
                            appliance.again();
                        }
                        let before = Clock::cycles();
                        appliance.turn(WINDOW);
                        Clock::cycles() - before
                    })
                });
            });
            windows.print(&established);
        }
        if shape == Shape::ALL[0] && asked(&card) {
            let mut appliance = Appliance::new(&eal, shape, Opening::Datagram);
            let mut windows = Windows::default();
            group.bench_function(&card, |b| {
                b.iter_custom(|packets| {
                    windows.measure(packets, hertz, || {
                        if !appliance.has_clients(TURN * WINDOW) {
                            appliance.again();
                        }
                        let before = Clock::cycles();
                        appliance.only_copy(WINDOW);
                        Clock::cycles() - before
                    })
                });
            });
            windows.print(&card);
        }
    }
    group.finish();
}

criterion_group!(benches, first_packets);
criterion_main!(benches);
