//! What the appliance counts at one moment, and what has changed between two.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};
use crate::status::{
    Drops, HealthStatus, Link, MemoryStatus, PolicyStatus, PortStatus, ServiceStatus, TalkerStatus, TopStatus,
    WorkerStatus,
};

/// Everything that is asked at once.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was asked.
    pub at: Instant,
    /// `show ports`.
    pub ports: Vec<PortStatus>,
    /// `show workers`.
    pub workers: Vec<WorkerStatus>,
    /// `show services`.
    pub services: Vec<ServiceStatus>,
    /// `show drops`.
    pub drops: Drops,
    /// `show top`.
    pub top: TopStatus,
    /// `show memory`.
    pub memory: MemoryStatus,
    /// `show policy`.
    pub policy: PolicyStatus,
}

impl Sample {
    /// Asks for all of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(client: &Client) -> Result<Self, ClientError> {
        Ok(Self {
            at: Instant::now(),
            ports: client.show("ports")?,
            workers: client.show("workers")?,
            services: client.show("services")?,
            drops: client.show("drops")?,
            top: client.show("top")?,
            memory: client.show("memory")?,
            policy: client.show("policy")?,
        })
    }
}

/// A port between two samples; packets and bits a second.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRates {
    /// Its name.
    pub name: String,
    /// Carrier.
    pub up: bool,
    /// Packets and bits received.
    pub received: [f64; 2],
    /// Packets and bits sent.
    pub sent: [f64; 2],
    /// Packets missed, and not sent.
    pub lost: [f64; 2],
}

/// A worker between two samples.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRates {
    /// Its core.
    pub core: usize,
    /// The share of its time spent on packets, from 0 to 1.
    pub busy: f64,
    /// Packets a second.
    pub packets: f64,
    /// Cycles a packet.
    pub cycles: f64,
    /// Packets a burst.
    pub fill: f64,
    /// Dropped packets a second.
    pub drops: f64,
    /// New sessions a second.
    pub opened: f64,
    /// Sessions now.
    pub sessions: u64,
}

/// A backend between two samples.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRates {
    /// Its service and its name.
    pub name: String,
    /// Whether it gets new sessions.
    pub health: HealthStatus,
    /// Sessions now.
    pub active: u64,
    /// New sessions a second.
    pub opened: f64,
    /// Packets and bits a second.
    pub traffic: [f64; 2],
}

/// What has changed from one sample to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// The ports, in the order of the configuration.
    pub ports: Vec<PortRates>,
    /// The workers.
    pub workers: Vec<WorkerRates>,
    /// The backends, in the order of the configuration.
    pub backends: Vec<BackendRates>,
    /// Reasons of drops with packets a second, most first.
    pub drops: Vec<(String, f64)>,
    /// Who does most lately.
    pub sources: Vec<TalkerStatus>,
    /// Sessions and how many there may be.
    pub sessions: [u64; 2],
    /// Packet buffers in use and in all.
    pub buffers: [u64; 2],
    /// The generation in force.
    pub generation: u64,
}

#[expect(clippy::cast_precision_loss, reason = "rates for people; 52 bits of counts are enough")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// How much more a second. What has begun anew counts from nothing.
fn rate(before: u64, now: u64, seconds: f64) -> f64 {
    let more = if now >= before { now - before } else { now };
    if seconds > 0.0 { float(more) / seconds } else { 0.0 }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Rates {
    /// What has changed.
    #[must_use]
    pub fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64();
        let drops: BTreeMap<_, _> = before.drops.iter().collect();
        let mut dropped: Vec<(String, f64)> = now
            .drops
            .iter()
            .map(|(reason, packets)| {
                (reason.clone(), rate(drops.get(reason).copied().copied().unwrap_or(0), *packets, seconds))
            })
            .filter(|(_, rate)| *rate > 0.0)
            .collect();
        dropped.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let ports = now.ports.iter().map(|port| {
            let was = before.ports.iter().find(|was| was.name == port.name);
            port_rates(was.unwrap_or(port), port, seconds)
        });
        let workers = now.workers.iter().map(|worker| {
            let was = before.workers.iter().find(|was| was.core == worker.core);
            worker_rates(was.unwrap_or(worker), worker, seconds)
        });
        Self {
            ports: ports.collect(),
            workers: workers.collect(),
            backends: backend_rates(&before.services, &now.services, seconds),
            drops: dropped,
            sources: now.top.sources.clone(),
            sessions: [now.memory.sessions_in_use, now.memory.sessions_capacity],
            buffers: [now.memory.buffers_in_use, now.memory.buffers_total],
            generation: now.policy.current.generation,
        }
    }
}

fn port_rates(before: &PortStatus, now: &PortStatus, seconds: f64) -> PortRates {
    PortRates {
        name: now.name.clone(),
        up: now.link == Link::Up,
        received: [
            rate(before.rx_packets, now.rx_packets, seconds),
            8.0 * rate(before.rx_bytes, now.rx_bytes, seconds),
        ],
        sent: [rate(before.tx_packets, now.tx_packets, seconds), 8.0 * rate(before.tx_bytes, now.tx_bytes, seconds)],
        lost: [rate(before.rx_missed, now.rx_missed, seconds), rate(before.tx_dropped, now.tx_dropped, seconds)],
    }
}

fn worker_rates(before: &WorkerStatus, now: &WorkerStatus, seconds: f64) -> WorkerRates {
    let more = |value: fn(&WorkerStatus) -> u64| rate(value(before), value(now), 1.0);
    let packets = more(|worker| worker.rx_packets + worker.from_kernel);
    let busy = more(|worker| worker.busy_cycles);
    WorkerRates {
        core: now.core,
        busy: share(busy, more(|worker| worker.total_cycles)).min(1.0),
        packets: packets / seconds,
        cycles: share(busy, packets),
        fill: share(packets, more(|worker| worker.bursts)),
        drops: more(|worker| worker.dropped) / seconds,
        opened: more(|worker| worker.sessions_opened) / seconds,
        sessions: now.sessions,
    }
}

fn backend_rates(before: &[ServiceStatus], now: &[ServiceStatus], seconds: f64) -> Vec<BackendRates> {
    let mut known = BTreeMap::new();
    for service in before {
        for backend in &service.backends {
            known.insert((service.name.as_str(), backend.name.as_str()), backend);
        }
    }
    let each = now.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend)));
    each.map(|(service, backend)| {
        let was = known.get(&(service.name.as_str(), backend.name.as_str())).copied().unwrap_or(backend);
        BackendRates {
            name: format!("{}/{}", service.name, backend.name),
            health: backend.health,
            active: backend.active,
            opened: rate(was.total, backend.total, seconds),
            traffic: [rate(was.packets, backend.packets, seconds), 8.0 * rate(was.bytes, backend.bytes, seconds)],
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_anew_counts_from_nothing() {
        assert_eq!([rate(10, 30, 2.0), rate(30, 10, 2.0), rate(5, 5, 0.0)], [10.0, 5.0, 0.0]);
    }

    #[test]
    fn a_worker_is_as_busy_as_it_was_between_two_looks() {
        let at = |busy_cycles, rx_packets| WorkerStatus {
            busy_cycles,
            total_cycles: 10_000 + 2 * busy_cycles,
            rx_packets,
            bursts: rx_packets / 8,
            ..WorkerStatus::default()
        };
        let rates = worker_rates(&at(1_000, 80), &at(3_000, 160), 2.0);
        assert_eq!((rates.busy, rates.packets, rates.cycles, rates.fill), (0.5, 40.0, 25.0, 8.0));
    }
}
