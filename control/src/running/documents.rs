//! Counters, tables and copies of sessions as the documents of the API. Plain translations: nothing is asked, locked or
//! waited for here.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hdrhistogram::Histogram as Quantiles;
use session::Kind;
use stage::balancer::{Admin, Backend, Health, Services};
use stage::blocklist::Blocklists;
use stage::firewall::Action;
use stage::heavy_hitters::{Counts, HeavyHitters, Talker};
use stage::syn_cookie::{CookieMode, SynCounts};
use stage::translate::{Filtering, Mapping, SourceNatRule};
use units::{Nanos, TenantId};
use worker::{Ends, Histogram, Measured, SessionRecord, Snapshot, Tenants};

use super::{DeviceCounters, WorkerView};
use crate::session_log::{self, Tally};
use crate::status::{
    BackendStatus, BlocklistStatus, ForwardStatus, HealthStatus, Link, PoolStatus, PortStatus, ServiceStatus,
    SessionLogStatus, SessionStatus, Spread, StageStatus, SynCookieStatus, TalkerStatus, TopStatus, TupleStatus,
    WorkerStatus,
};

pub(super) const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Reject => "reject",
    }
}

fn millis(ticks: u64) -> u64 {
    ticks.saturating_mul(units::Tick::NANOS) / 1_000_000
}

/// The protocol of a session whose packets arrive like this.
pub(crate) fn protocol_name(kind: Kind, original: &Ends) -> String {
    match (kind, original.source.is_ipv6()) {
        (Kind::Tcp, _) => "tcp".to_owned(),
        (Kind::Udp, _) => "udp".to_owned(),
        (Kind::Icmp, false) => "icmp".to_owned(),
        (Kind::Icmp, true) => "icmpv6".to_owned(),
        (Kind::Other, _) => original.source_port.to_string(),
    }
}

/// One direction of a session.
pub(crate) fn tuple_status(kind: Kind, ends: &Ends) -> TupleStatus {
    let ports = kind != Kind::Other;
    TupleStatus {
        source: ends.source,
        source_port: if ports { ends.source_port } else { 0 },
        destination: ends.destination,
        destination_port: if ports { ends.destination_port } else { 0 },
    }
}

pub(super) fn session_status(record: &SessionRecord) -> SessionStatus {
    SessionStatus {
        protocol: protocol_name(record.kind, &record.original),
        state: record.state.name().to_owned(),
        original: tuple_status(record.kind, &record.original),
        reply: tuple_status(record.kind, &record.reply),
        service: record.backend.as_ref().map(|backend| backend.service().to_owned()),
        backend: record.backend.as_ref().map(|backend| backend.name().to_owned()),
        tiers: record.tiers.iter().map(|instance| format!("{}/{}", instance.service(), instance.name())).collect(),
        graph: None,
        packets: record.packets,
        bytes: record.bytes,
        idle_ms: millis(record.idle),
        expires_ms: millis(record.expires),
        owner: record.owner.get(),
        from_kernel: record.from_kernel,
        in_line: record.in_line,
        tenant: record.tenant.as_ref().map(|tenant| tenant.name.clone()),
    }
}

pub(super) fn health_status(backend: &Backend, now: Nanos) -> HealthStatus {
    match (backend.admin(now), backend.health()) {
        (Admin::Draining, _) => HealthStatus::Draining,
        (Admin::Disabled, _) => HealthStatus::Disabled,
        (Admin::Enabled, Health::Up) => HealthStatus::Up,
        (Admin::Enabled, Health::Failed) => HealthStatus::Failed,
        (Admin::Enabled, Health::Unknown) => HealthStatus::Unknown,
    }
}

/// Addresses shown of each kind.
const TOP_SHOWN: usize = 20;

/// What all workers have counted of addresses, put together.
pub(super) fn top(workers: &[WorkerView], tenants: &Tenants, now: Nanos) -> TopStatus {
    let each = || workers.iter().map(|view| &view.counters.talkers);
    TopStatus {
        seconds: Duration::from_nanos(HeavyHitters::span(now).get()).as_secs_f64(),
        sources: talkers(each().flat_map(|talkers| talkers.sources(now)), tenants, |source| match source {
            IpAddr::V4(source) => source.to_string(),
            IpAddr::V6(source) => format!("{source}/64"),
        }),
        targets: talkers(each().flat_map(|talkers| talkers.targets(now)), tenants, |target| target.to_string()),
    }
}

fn talkers(
    talkers: impl Iterator<Item = Talker>,
    tenants: &Tenants,
    shown: impl Fn(IpAddr) -> String,
) -> Vec<TalkerStatus> {
    let mut sums = HashMap::<(IpAddr, TenantId), Counts>::new();
    for talker in talkers {
        sums.entry((talker.address, talker.tenant)).or_default().add(&talker.counts);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(whose, counts)| (Reverse(counts.sum()), *whose));
    let status = |((address, tenant), counts): ((IpAddr, TenantId), Counts)| TalkerStatus {
        address: shown(address),
        tenant: tenants.tenant(tenant).map(|tenant| tenant.name.clone()),
        new_sessions: counts.opened,
        challenges: counts.challenged,
        drops: counts.dropped,
    };
    sums.into_iter().take(TOP_SHOWN).map(status).collect()
}

/// The lists in force, with the files the policy names.
pub(super) fn blocklist_statuses(lists: &Blocklists, files: &[config::policy::Blocklist]) -> Vec<BlocklistStatus> {
    let both = lists.iter().zip(files);
    both.map(|(list, written)| BlocklistStatus {
        name: list.name().to_owned(),
        file: written.file.display().to_string(),
        prefixes: list.prefixes().prefixes() as u64,
        bytes: list.prefixes().memory() as u64,
        hits: list.hits(),
    })
    .collect()
}

fn syn_cookies(service: &stage::balancer::Service) -> Option<SynCookieStatus> {
    let mode = service.spec().syn_cookies;
    let SynCounts { engaged, half_open, engagements, sent, proven } = service.guard().counts();
    (mode != CookieMode::Off).then(|| SynCookieStatus {
        mode: mode.name().to_owned(),
        engaged: engaged || mode == CookieMode::Always,
        half_open,
        engagements,
        sent,
        proven,
    })
}

/// The names of these services.
fn names(services: &Services, named: &[units::ServiceId]) -> Vec<String> {
    named.iter().filter_map(|&id| services.service(id)).map(|service| service.spec().name.clone()).collect()
}

/// The name of the service whose tier this one is.
fn tier_of(services: &Services, tier: units::ServiceId) -> Option<String> {
    let whole = services.iter().find(|service| service.spec().tiers.contains(&tier))?;
    Some(whole.spec().name.clone())
}

pub(super) fn service_statuses(services: &Services, now: Nanos) -> Vec<ServiceStatus> {
    let backends = |service: &stage::balancer::Service| {
        let written = &service.spec().backends;
        let both = service.members().iter().zip(written);
        both.map(|(member, spec)| {
            let backend = &member.backend;
            let (packets, bytes) = backend.traffic();
            let response_us = backend.response_us();
            BackendStatus {
                name: backend.name().to_owned(),
                address: backend.address(),
                port: backend.port(),
                weight: spec.weight,
                hops: spec.hops,
                load: backend.active().saturating_mul(u64::from(spec.hops) + 1),
                health: health_status(backend, now),
                active: backend.active(),
                total: backend.total(),
                packets,
                bytes,
                response_ms: (response_us > 0).then(|| f64::from(response_us) / 1_000.0),
                path_mtu: backend.path().get(now.tick()),
            }
        })
        .collect()
    };
    services
        .iter()
        .map(|service| {
            let spec = service.spec();
            ServiceStatus {
                name: spec.name.clone(),
                address: spec.address,
                protocol: spec.protocol.name().to_owned(),
                ports: spec.ports.iter().map(ToString::to_string).collect(),
                attract: spec.attract.name().to_owned(),
                redirection: None,
                algorithm: spec.algorithm.name().to_owned(),
                mode: spec.mode.name().to_owned(),
                syn_cookies: syn_cookies(service),
                half_open: service.spec().counts_handshakes().then(|| service.guard().counts().half_open),
                half_open_limit: service.spec().half_open_limit,
                tiers: names(services, &spec.tiers),
                tier_of: if spec.is_tier() { tier_of(services, service.id()) } else { None },
                backends: backends(service),
            }
        })
        .collect()
}

/// The pools of source NAT, NAT64 and `full-nat` services with their use.
pub(super) fn pool_statuses(snapshot: &Snapshot) -> Vec<PoolStatus> {
    let pools = snapshot.source_nat.iter().filter_map(|(rule, number)| Some((rule, snapshot.pool_uses.get(number)?)));
    let hiding = pools.map(|(rule, used)| PoolStatus {
        name: rule.name.clone(),
        kind: "source-nat".to_owned(),
        addresses: ranges(&rule.address),
        ports: rule.ports.to_string(),
        mapping: rule.mapping.name().to_owned(),
        filtering: rule.filtering.name().to_owned(),
        sessions: used.sessions(),
        mappings: used.mappings(),
        exhausted: used.exhausted(),
        limited: used.limited(),
    });
    let rules = snapshot.nat64.iter().filter_map(|(rule, number)| Some((rule, snapshot.pool_uses.get(number)?)));
    let across = rules.map(|(rule, used)| PoolStatus {
        name: rule.name.clone(),
        kind: "nat64".to_owned(),
        addresses: ranges(&rule.address.iter().copied().map(IpAddr::V4).collect::<Vec<_>>()),
        ports: rule.ports.to_string(),
        mapping: Mapping::EndpointIndependent.name().to_owned(),
        filtering: rule.filtering.name().to_owned(),
        sessions: used.sessions(),
        mappings: used.mappings(),
        exhausted: used.exhausted(),
        limited: used.limited(),
    });
    let services = snapshot.services.iter().filter_map(|service| Some((service, snapshot.pool_of(service.id())?)));
    let full_nat = services.filter_map(|(service, number)| {
        let used = snapshot.pool_uses.get(number)?;
        Some(PoolStatus {
            name: service.spec().name.clone(),
            kind: "full-nat".to_owned(),
            addresses: ranges(&service.spec().source_address),
            ports: SourceNatRule::PORTS.to_string(),
            mapping: Mapping::default().name().to_owned(),
            filtering: Filtering::default().name().to_owned(),
            sessions: used.sessions(),
            mappings: used.mappings(),
            exhausted: used.exhausted(),
            limited: used.limited(),
        })
    });
    hiding.chain(across).chain(full_nat).collect()
}

/// The forwards of destination NAT with their counts.
pub(super) fn forward_statuses(snapshot: &Snapshot) -> Vec<ForwardStatus> {
    let forwards = snapshot.destination_nat.iter();
    forwards
        .map(|(rule, total)| ForwardStatus {
            name: rule.name.clone(),
            address: rule.address,
            protocol: rule.protocol.name().to_owned(),
            ports: rule.ports.to_string(),
            to_address: rule.to_address,
            to_ports: rule.to_ports().to_string(),
            total,
        })
        .collect()
}

/// Addresses in the order written, those that follow each other as one range.
fn ranges(addresses: &[IpAddr]) -> Vec<String> {
    let follows = |last: IpAddr, next: IpAddr| match (last, next) {
        (IpAddr::V4(last), IpAddr::V4(next)) => last.to_bits().checked_add(1) == Some(next.to_bits()),
        (IpAddr::V6(last), IpAddr::V6(next)) => last.to_bits().checked_add(1) == Some(next.to_bits()),
        _ => false,
    };
    let runs = addresses.chunk_by(|&last, &next| follows(last, next));
    runs.filter_map(|run| match run {
        [] => None,
        [one] => Some(one.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    })
    .collect()
}

/// A port, with what its device and its kernel interface have counted.
pub(super) fn port_status(
    port: &config::policy::Port,
    zone: String,
    pair: Option<String>,
    mac: String,
    counters: &DeviceCounters,
) -> PortStatus {
    let DeviceCounters { kernel, .. } = counters;
    PortStatus {
        name: port.name.clone(),
        device: port.device.clone(),
        zone,
        pair,
        mac,
        link: if counters.up { Link::Up } else { Link::Down },
        rx_packets: counters.rx_packets,
        rx_bytes: counters.rx_bytes,
        rx_missed: counters.rx_missed,
        tx_packets: counters.tx_packets,
        tx_bytes: counters.tx_bytes,
        tx_dropped: counters.tx_dropped,
        kernel_interface: port.kernel_interface.clone(),
        kernel_delivered: kernel.delivered,
        kernel_refused: kernel.refused,
        kernel_sent: kernel.sent,
        kernel_oversized: kernel.oversized,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people; 52 bits of counts are enough")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 10.0).round() / 10.0 }
}

/// What a worker has counted of values, in units of so many.
#[expect(clippy::cast_precision_loss, reason = "shares for people; 52 bits of counts are enough")]
fn spread(counted: &Histogram, unit: f64) -> Spread {
    // Three digits are more than the buckets know; it grows with what is recorded.
    let Ok(mut quantiles) = Quantiles::<u64>::new(3) else { return Spread::default() };
    // A worker counts on meanwhile: what is read once agrees with itself.
    let counts: Vec<(u64, u64)> = counted.counts().collect();
    for &(value, count) in &counts {
        if quantiles.record_n(value, count).is_err() {
            return Spread::default();
        }
    }
    if quantiles.is_empty() {
        return Spread::default();
    }
    let at = |quantile| quantiles.value_at_quantile(quantile) as f64 / unit;
    let count = quantiles.len();
    let mean = counted.sum() as f64 / count as f64 / unit;
    let max = quantiles.max() as f64 / unit;
    let buckets = counts.into_iter().map(|(value, count)| (value as f64 / unit, count)).collect();
    Spread { count, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max, buckets }
}

/// What is told of sessions and to whom, and what has been sent.
pub(super) fn session_log_status(settings: Option<&config::policy::SessionLog>, tally: &Tally) -> SessionLogStatus {
    let (sent, messages, bytes) = tally.sent();
    let events = settings.map_or([("open", false); 3], |settings| {
        let events = settings.events;
        [("open", events.open), ("close", events.close), ("nat", events.nat)]
    });
    SessionLogStatus {
        format: settings.map(|settings| settings.format.name().to_owned()),
        collector: settings.map(|settings| session_log::place(&settings.collector)),
        events: events.into_iter().filter(|(_, told)| *told).map(|(event, _)| event.to_owned()).collect(),
        state: tally.reach().name().to_owned(),
        trouble: tally.trouble(),
        sent,
        messages,
        bytes,
        unsent: tally.unsent(),
        connections: tally.connections(),
        ..SessionLogStatus::default()
    }
}

pub(super) fn worker_status(view: &WorkerView, now: Nanos) -> WorkerStatus {
    let counters = &view.counters;
    let stages: Vec<StageStatus> = Measured::ALL
        .iter()
        .map(|&measured| {
            let cost = counters.stage(measured);
            let (packets, cycles) = (cost.packets.get(), cost.cycles.get());
            StageStatus { name: measured.name().to_owned(), packets, cycles_per_packet: ratio(cycles, packets) }
        })
        .collect();
    let received = counters.received.get();
    WorkerStatus {
        core: view.core,
        rx_packets: received,
        from_kernel: counters.from_kernel.get(),
        forwarded: counters.forwarded.get(),
        consumed: counters.consumed.get(),
        punted: counters.punted.get(),
        dropped: counters.dropped_total(),
        held: counters.held.get(),
        bursts: counters.bursts.get(),
        originated: counters.originated.get(),
        handed_over: counters.handed_over.get(),
        cycles_per_packet: ratio(counters.busy_cycles.get(), received + counters.from_kernel.get()),
        busy_percent: ratio(counters.busy_cycles.get().saturating_mul(100), counters.total_cycles.get()),
        busy_cycles: counters.busy_cycles.get(),
        total_cycles: counters.total_cycles.get(),
        sessions: counters.sessions.get(),
        sessions_opened: counters.sessions_opened.get(),
        sessions_closed: counters.sessions_closed.get(),
        generation: counters.generation.get(),
        heartbeat_age_ms: now.since(Nanos::new(counters.heartbeat.get())).as_millis(),
        events_lost: counters.events_lost.get(),
        log_suppressed: counters.log_suppressed.get(),
        log_records: counters.log_records.get(),
        log_records_lost: counters.log_records_lost.get(),
        originated_lost: counters.originated_lost.get(),
        forwarded_untracked: counters.forwarded_untracked.get(),
        encapsulated: counters.encapsulated.get(),
        decapsulated: counters.decapsulated.get(),
        passed_in_line: counters.passed_in_line.get(),
        half_open_given_up: counters.half_open_given_up.get(),
        stages,
        burst_fill: spread(&counters.burst_fill, 1.0),
        time_inside_us: spread(&counters.time_inside, 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn shares_are_told_in_the_unit_that_is_asked_for() {
        let counted = Histogram::default();
        assert_eq!(spread(&counted, 1.0), Spread::default());
        counted.add(2_000, 90);
        counted.add(16_000, 9);
        counted.add(1_000_000, 1);
        let told = spread(&counted, 1_000.0);
        assert_eq!((told.count, told.mean), (100, 13.24));
        for (value, true_value) in
            [(told.p50, 2.0), (told.p90, 2.0), (told.p99, 16.0), (told.p999, 1_000.0), (told.max, 1_000.0)]
        {
            assert!(value >= true_value && value <= true_value * 1.26, "{told:?}");
        }
    }

    #[test]
    fn what_is_told_while_a_worker_counts_agrees_with_itself() {
        let (counted, stop) = (Histogram::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    (1..60).for_each(|value| counted.add(value, 1));
                }
            });
            let agrees = (0..20_000).map(|_| spread(&counted, 1.0)).all(|told| {
                let sum: u64 = told.buckets.iter().map(|(_, count)| count).sum();
                sum == told.count
            });
            stop.store(true, Ordering::Relaxed);
            assert!(agrees);
        });
    }

    #[test]
    fn addresses_that_follow_each_other_are_one_range() {
        let addresses = ["198.51.100.8", "198.51.100.9", "198.51.100.10", "198.51.100.20", "::1", "::2"];
        let shown = ranges(&addresses.map(|address| address.parse().unwrap()));
        assert_eq!(shown, ["198.51.100.8-198.51.100.10", "198.51.100.20", "::1-::2"]);
        assert!(ranges(&[]).is_empty());
    }
}
