//! The appliance: one worker, both cards, tables by DPDK.

use core::sync::atomic::{AtomicU64, Ordering};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use control::compile::{Device, TableMaker, compile};
use crossbeam::queue::ArrayQueue;
use dpdk::{Acl, Eal, Fib};
use frame::{Burst, Nic};
use session::HashSecret;
use stage::firewall::{Classifier, Rule, expand};
use stage::forward::{Route, RouteTable};
use units::limits::{CLASSIFIER_BUILD_BYTES, COMMAND_RING, EVENT_RING};
use units::{Generation, Nanos, PortId, WorkerId};
use wire::MacAddr;
use worker::{
    Clock, Command, Exits, Measured, Output, QueuePair, Shard, Snapshot, Worker, WorkerCounters, handover_ring,
};

use crate::card::{Card, NoPool, Road};
use crate::policy::Shape;
use crate::traffic::{Frame, Opening, openings};

/// Clients that come: as many as the table holds.
const COUNT: u32 = 1_000_000;

#[derive(Debug)]
struct DpdkTables(Eal);

impl TableMaker for DpdkTables {
    fn classifier(&self, rules: &[Rule]) -> Result<Box<dyn Classifier>, String> {
        let entries = expand(rules).map_err(|error| error.to_string())?;
        Ok(Box::new(Acl::new(&self.0, entries, CLASSIFIER_BUILD_BYTES).map_err(|error| error.to_string())?))
    }

    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String> {
        Ok(Arc::new(Fib::new(&self.0, routes).map_err(|error| error.to_string())?))
    }
}

/// A clock that is put forward by hand; cycles are the processor's.
#[derive(Clone, Debug, Default)]
struct Hands(Arc<AtomicU64>);

impl Clock for Hands {
    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        dpdk::Clock::cycles()
    }
}

pub(crate) struct Appliance {
    worker: Worker<Card, NoPool, Hands>,
    counters: Arc<WorkerCounters>,
    clock: Hands,
    road: Arc<Mutex<Road>>,
    frames: Arc<[Frame]>,
    copier: Card,
    // Control's ends of the rings: what is not read there is counted as lost, and costs the worker nothing.
    _events: Arc<ArrayQueue<worker::Event>>,
}

fn snapshot(eal: &Eal, shape: Shape, opening: Opening) -> Arc<Snapshot> {
    let begun = Instant::now();
    let text = shape.text(opening);
    let policy = config::load(&text, Path::new("bench.toml")).unwrap().policy;
    let loaded = begun.elapsed();
    let devices = [
        Device { mac: MacAddr::new([2, 0, 0, 0, 0, 1]), kernel: false },
        Device { mac: MacAddr::new([2; 6]), kernel: false },
    ];
    let snapshot = compile(&policy, &devices, Generation::new(1), None, &DpdkTables(eal.clone()), 7).unwrap();
    println!(
        "{shape}: loaded in {loaded:.1?}, compiled in {:.1?}, rules {} KiB, services {} KiB",
        begun.elapsed() - loaded,
        snapshot.rules.memory() / 1_024,
        snapshot.services.memory() / 1_024,
    );
    Arc::new(snapshot)
}

impl Appliance {
    pub(crate) fn new(eal: &Eal, shape: Shape, opening: Opening) -> Self {
        let frames: Arc<[Frame]> = openings(opening, COUNT, shape.blocks()).into();
        let road = Arc::new(Mutex::new(Road::default()));
        let clock = Hands::default();
        clock.0.store(1_000_000_000, Ordering::Relaxed);
        let counters = Arc::new(WorkerCounters::default());
        let (inbox, events) = (Arc::new(ArrayQueue::new(COMMAND_RING)), Arc::new(ArrayQueue::new(EVENT_RING)));
        let cards = [Some(Arc::clone(&frames)), None].map(|frames| Card::new(Arc::clone(&road), frames));
        let queues = (0..).map(PortId::new).zip(cards).map(|(port, card)| QueuePair::new(port, card, None)).collect();
        let outputs = vec![Output::Own(0), Output::Own(1)];
        let rings = vec![handover_ring()];
        let exits = Exits::new(NoPool, queues, outputs, Vec::new(), rings.clone());
        let shard = Shard::new(
            WorkerId::new(0),
            1,
            1_048_576,
            &HashSecret::from_seed(1),
            snapshot(eal, shape, opening),
            Arc::clone(&counters),
            Arc::clone(&events),
        )
        .unwrap();
        let worker = Worker::new(clock.clone(), shard, exits, Arc::clone(&inbox), Arc::clone(&rings[0]));
        let copier = Card::new(Arc::clone(&road), Some(Arc::clone(&frames)));
        let mut appliance = Self { worker, counters, clock, road, frames, copier, _events: events };
        // A first packet for each next hop, which is then learnt; the packet waits for it and leaves.
        appliance.road.lock().unwrap().end = 64;
        for round in 0..4 {
            appliance.worker.turn();
            if round == 1 {
                for (port, address) in [(1, "10.0.0.11"), (1, "10.0.0.12"), (0, "198.51.0.254")] {
                    let neighbor = Command::Neighbor {
                        port: PortId::new(port),
                        address: address.parse().unwrap(),
                        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 9])),
                    };
                    assert!(inbox.push(neighbor).is_ok());
                }
            }
        }
        appliance.expire_all();
        appliance
    }

    /// Every client's first packet.
    pub(crate) fn open_all(&mut self) {
        while self.has_clients(1) {
            self.worker.turn();
        }
        assert_eq!(self.worker.sessions(), COUNT as usize, "dropped {}", self.counters.dropped_total());
        self.again();
    }

    /// Time passes until every session has ended.
    pub(crate) fn expire_all(&mut self) {
        self.again();
        let end = self.road.lock().unwrap().end;
        self.road.lock().unwrap().end = 0;
        self.clock.0.fetch_add(1_000_000_000_000, Ordering::Relaxed);
        while self.worker.sessions() > 0 {
            self.worker.turn();
        }
        self.road.lock().unwrap().end = end;
    }

    /// The clients come from the first again.
    pub(crate) fn again(&self) {
        let mut road = self.road.lock().unwrap();
        (road.next, road.end) = (0, self.frames.len());
    }

    pub(crate) fn has_clients(&self, count: u64) -> bool {
        let road = self.road.lock().unwrap();
        (road.end - road.next) as u64 >= count
    }

    pub(crate) fn turn(&mut self, turns: u64) {
        for _ in 0..turns {
            self.worker.turn();
        }
    }

    /// Receives and sends without a worker between.
    pub(crate) fn only_copy(&mut self, turns: u64) {
        for _ in 0..turns {
            let mut burst = Burst::new_const();
            self.copier.receive(&mut burst);
            self.copier.receive(&mut burst);
            self.copier.transmit(&mut burst);
        }
    }

    pub(crate) fn print_stages(&self) {
        let each: Vec<_> = Measured::ALL
            .iter()
            .map(|&measured| {
                let cost = self.counters.stage(measured);
                format!("{} {}", measured.name(), cost.cycles.get() / cost.packets.get().max(1))
            })
            .collect();
        println!("  stages: {}; dropped {}", each.join(", "), self.counters.dropped_total());
    }
}
