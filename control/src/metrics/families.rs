//! The documents of `show` as families of metrics. A family's name, once given, stays.

use stage::DropReason;

use super::exposition::{Family, Labels, Samples};
use crate::admin::Appliance;
use crate::session_log::Reach;
use crate::status::{
    BackendStatus, HealthStatus, Link, PortStatus, ServiceStatus, SessionLogStatus, Spread, StageStatus, WorkerStatus,
};

type Counted = Vec<(Labels, u64)>;
type Measured = Vec<(Labels, f64)>;

const fn counter(name: &'static str, help: &'static str, samples: Counted) -> Family {
    Family { name, help, samples: Samples::Counter(samples) }
}

const fn gauge(name: &'static str, help: &'static str, samples: Measured) -> Family {
    Family { name, help, samples: Samples::Gauge(samples) }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point; 52 bits are enough")]
const fn float(value: u64) -> f64 {
    value as f64
}

fn one(value: f64) -> Measured {
    vec![(Vec::new(), value)]
}

/// Every family, with the numbers of now.
#[must_use]
pub fn families(appliance: &dyn Appliance) -> Vec<Family> {
    let mut families = vec![gauge(
        "millrace_build_info",
        "The version of the program; always 1.",
        vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
    )];
    families.extend(ports(&appliance.ports()));
    families.extend(workers(&appliance.workers()));
    families.extend(drops(appliance));
    families.extend(services(&appliance.services()));
    families.extend(firewall(appliance));
    families.extend(translation(appliance));
    families.extend(session_log(&appliance.session_log()));
    families.extend(memory(appliance));
    families.extend(policy(appliance));
    families
}

fn ports(ports: &[PortStatus]) -> Vec<Family> {
    let of = |port: &PortStatus| vec![("port", port.name.clone())];
    let count = |value: fn(&PortStatus) -> u64| ports.iter().map(|port| (of(port), value(port))).collect();
    let kernel = |value: fn(&PortStatus) -> u64| {
        let beside = ports.iter().filter(|port| port.kernel_interface.is_some());
        beside.map(|port| (of(port), value(port))).collect()
    };
    let up = |port: &PortStatus| if port.link == Link::Up { 1.0 } else { 0.0 };
    vec![
        gauge(
            "millrace_port_up",
            "Whether the port has carrier.",
            ports.iter().map(|port| (of(port), up(port))).collect(),
        ),
        counter("millrace_port_receive_packets", "Frames received.", count(|port| port.rx_packets)),
        counter(
            "millrace_port_receive_bytes",
            "Bytes received, without the frame check sequence.",
            count(|port| port.rx_bytes),
        ),
        counter(
            "millrace_port_receive_missed_packets",
            "Frames the device had no room for: the workers came too late.",
            count(|port| port.rx_missed),
        ),
        counter("millrace_port_transmit_packets", "Frames sent.", count(|port| port.tx_packets)),
        counter(
            "millrace_port_transmit_bytes",
            "Bytes sent, without the frame check sequence.",
            count(|port| port.tx_bytes),
        ),
        counter(
            "millrace_port_transmit_dropped_packets",
            "Frames the device did not take in time, or could not send.",
            count(|port| port.tx_dropped),
        ),
        counter(
            "millrace_port_kernel_delivered_packets",
            "Frames the kernel took at the interface beside the port.",
            kernel(|port| port.kernel_delivered),
        ),
        counter(
            "millrace_port_kernel_refused_packets",
            "Frames the kernel did not take at the interface beside the port.",
            kernel(|port| port.kernel_refused),
        ),
        counter(
            "millrace_port_kernel_sent_packets",
            "Frames the kernel sent by the interface beside the port.",
            kernel(|port| port.kernel_sent),
        ),
        counter(
            "millrace_port_kernel_oversized_packets",
            "Frames the kernel sent that are larger than the port allows.",
            kernel(|port| port.kernel_oversized),
        ),
    ]
}

/// Bounds of the time inside, in microseconds.
const TIMES_US: [f64; 16] = [
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1_024.0,
    2_048.0,
    4_096.0,
    8_192.0,
    65_536.0,
    1_048_576.0,
];

/// Bounds of the packets in a burst.
const FILLS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// The sum of what was counted, and how much of it was up to each bound, in units of so much; the last bound is none.
fn cumulative(spread: &Spread, bounds: &[f64], unit: f64) -> (f64, Vec<(f64, u64)>) {
    let up_to = |bound: f64| spread.buckets.iter().filter(|(value, _)| *value <= bound).map(|(_, count)| count).sum();
    let mut buckets: Vec<(f64, u64)> = bounds.iter().map(|&bound| (bound * unit, up_to(bound))).collect();
    buckets.push((f64::MAX, up_to(f64::INFINITY)));
    (spread.mean * float(spread.count) * unit, buckets)
}

fn workers(workers: &[WorkerStatus]) -> Vec<Family> {
    let numbered = || workers.iter().zip(0_u32..);
    let of = |number: u32| vec![("worker", number.to_string())];
    let count = |value: fn(&WorkerStatus) -> u64| numbered().map(|(worker, n)| (of(n), value(worker))).collect();
    let measure = |value: fn(&WorkerStatus) -> f64| numbered().map(|(worker, n)| (of(n), value(worker))).collect();
    let stages = || {
        numbered().flat_map(|(worker, number)| {
            let of = move |stage: &StageStatus| vec![("worker", number.to_string()), ("stage", stage.name.clone())];
            worker.stages.iter().map(move |stage| (of(stage), stage))
        })
    };
    vec![
        counter("millrace_worker_received_packets", "Packets taken from devices.", count(|worker| worker.rx_packets)),
        counter(
            "millrace_worker_from_kernel_packets",
            "Packets taken from kernel interfaces.",
            count(|worker| worker.from_kernel),
        ),
        counter("millrace_worker_forwarded_packets", "Packets sent on.", count(|worker| worker.forwarded)),
        counter(
            "millrace_worker_consumed_packets",
            "Packets answered or used up by the appliance itself.",
            count(|worker| worker.consumed),
        ),
        counter("millrace_worker_punted_packets", "Packets given to the kernel.", count(|worker| worker.punted)),
        counter("millrace_worker_dropped_packets", "Packets dropped, for all reasons.", count(|worker| worker.dropped)),
        counter(
            "millrace_worker_originated_packets",
            "Packets the appliance itself made.",
            count(|worker| worker.originated),
        ),
        counter(
            "millrace_worker_originated_lost_packets",
            "Packets of the appliance's own that could not be sent.",
            count(|worker| worker.originated_lost),
        ),
        counter(
            "millrace_worker_handed_over_packets",
            "Packets given to the worker that owns their session.",
            count(|worker| worker.handed_over),
        ),
        counter(
            "millrace_worker_forwarded_untracked_packets",
            "Packets forwarded without a session because the table was full.",
            count(|worker| worker.forwarded_untracked),
        ),
        counter(
            "millrace_worker_encapsulated_packets",
            "Packets wrapped for a tunnel.",
            count(|worker| worker.encapsulated),
        ),
        counter(
            "millrace_worker_decapsulated_packets",
            "Packets taken out of tunnels that end here.",
            count(|worker| worker.decapsulated),
        ),
        counter(
            "millrace_worker_passed_in_line_packets",
            "Frames that passed through a pair of ports.",
            count(|worker| worker.passed_in_line),
        ),
        gauge(
            "millrace_worker_held_packets",
            "Packets waiting for a next hop to answer, and fragments waiting for the rest.",
            measure(|worker| float(worker.held)),
        ),
        counter("millrace_worker_bursts", "Bursts in which packets came.", count(|worker| worker.bursts)),
        gauge("millrace_worker_sessions", "Sessions the worker owns.", measure(|worker| float(worker.sessions))),
        counter("millrace_worker_opened_sessions", "Sessions opened.", count(|worker| worker.sessions_opened)),
        counter("millrace_worker_closed_sessions", "Sessions ended.", count(|worker| worker.sessions_closed)),
        counter(
            "millrace_worker_given_up_sessions",
            "Sessions given up half open because the table was full.",
            count(|worker| worker.half_open_given_up),
        ),
        counter(
            "millrace_worker_lost_events",
            "Events that control had no room for.",
            count(|worker| worker.events_lost),
        ),
        counter(
            "millrace_worker_suppressed_log_records",
            "Log records left out because of the limit.",
            count(|worker| worker.log_suppressed),
        ),
        counter(
            "millrace_worker_session_log_records",
            "Records of the session log that the worker has told.",
            count(|worker| worker.log_records),
        ),
        counter(
            "millrace_worker_session_log_lost_records",
            "Records of the session log that the worker had no room for.",
            count(|worker| worker.log_records_lost),
        ),
        gauge("millrace_worker_generation", "The policy in force.", measure(|worker| float(worker.generation))),
        gauge(
            "millrace_worker_heartbeat_age_seconds",
            "Time since the worker last said that it is alive.",
            measure(|worker| float(worker.heartbeat_age_ms) / 1_000.0),
        ),
        counter(
            "millrace_worker_busy_cycles",
            "Processor cycles spent on packets.",
            count(|worker| worker.busy_cycles),
        ),
        counter(
            "millrace_worker_cycles",
            "Processor cycles since the worker began.",
            count(|worker| worker.total_cycles),
        ),
        gauge(
            "millrace_worker_busy_ratio",
            "The share of its time that the worker has spent on packets since the start.",
            measure(|worker| worker.busy_percent / 100.0),
        ),
        gauge(
            "millrace_worker_cycles_per_packet",
            "Processor cycles a packet costs, on average since the start.",
            measure(|worker| worker.cycles_per_packet),
        ),
        gauge(
            "millrace_worker_stage_cycles_per_packet",
            "Processor cycles a stage costs a packet, in sampled turns.",
            stages().map(|(labels, stage)| (labels, stage.cycles_per_packet)).collect(),
        ),
        Family {
            name: "millrace_worker_time_inside_seconds",
            help: "Time that packets sent on were inside the appliance, in sampled turns.",
            samples: Samples::Histogram(
                numbered()
                    .map(|(worker, number)| {
                        let (sum, buckets) = cumulative(&worker.time_inside_us, &TIMES_US, 1e-6);
                        (of(number), sum, buckets)
                    })
                    .collect(),
            ),
        },
        Family {
            name: "millrace_worker_burst_packets",
            help: "Packets in a burst, in sampled turns.",
            samples: Samples::Histogram(
                numbered()
                    .map(|(worker, number)| {
                        let (sum, buckets) = cumulative(&worker.burst_fill, &FILLS, 1.0);
                        (of(number), sum, buckets)
                    })
                    .collect(),
            ),
        },
        counter(
            "millrace_worker_stage_sampled_packets",
            "Packets that passed a stage in sampled turns.",
            stages().map(|(labels, stage)| (labels, stage.packets)).collect(),
        ),
    ]
}

/// Packets by reason, every reason of the registry; and beside each its sentence.
fn drops(appliance: &dyn Appliance) -> Vec<Family> {
    let dropped = appliance.drops().into_iter();
    let named =
        |reason: DropReason| vec![("reason", reason.name().to_owned()), ("sentence", reason.sentence().to_owned())];
    vec![
        counter(
            "millrace_dropped_packets",
            "Packets dropped, by reason.",
            dropped.map(|(reason, packets)| (vec![("reason", reason)], packets)).collect(),
        ),
        gauge(
            "millrace_drop_reason_info",
            "What each reason of a drop means; always 1.",
            DropReason::all().map(|reason| (named(reason), 1.0)).collect(),
        ),
    ]
}

fn services(services: &[ServiceStatus]) -> Vec<Family> {
    let each = || services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend)));
    let of = |(service, backend): (&ServiceStatus, &BackendStatus)| {
        vec![("service", service.name.clone()), ("backend", backend.name.clone())]
    };
    let count = |value: fn(&BackendStatus) -> u64| each().map(|both| (of(both), value(both.1))).collect();
    let measure = |value: fn(&BackendStatus) -> f64| each().map(|both| (of(both), value(both.1))).collect();
    let service = |service: &ServiceStatus| vec![("service", service.name.clone())];
    let up = |service: &ServiceStatus| {
        service.backends.iter().filter(|backend| backend.health == HealthStatus::Up).count() as u64
    };
    let redirected = services.iter().filter_map(|service| Some((service, service.redirection.as_ref()?)));
    let handshakes = || services.iter().filter_map(|service| Some((service, service.syn_cookies.as_ref()?)));
    vec![
        gauge(
            "millrace_service_backends",
            "Backends of the virtual service.",
            services.iter().map(|it| (service(it), float(it.backends.len() as u64))).collect(),
        ),
        gauge(
            "millrace_service_backends_up",
            "Backends of the virtual service that get new sessions.",
            services.iter().map(|it| (service(it), float(up(it)))).collect(),
        ),
        gauge(
            "millrace_service_attached",
            "Whether others direct packets of the virtual service here, as the hook of [redirection] says.",
            redirected.map(|(it, state)| (service(it), if state.state == "attached" { 1.0 } else { 0.0 })).collect(),
        ),
        gauge(
            "millrace_backend_up",
            "Whether the backend gets new sessions.",
            measure(|backend| if backend.health == HealthStatus::Up { 1.0 } else { 0.0 }),
        ),
        gauge(
            "millrace_backend_failed",
            "Whether the backend's probes fail.",
            measure(|backend| if backend.health == HealthStatus::Failed { 1.0 } else { 0.0 }),
        ),
        gauge("millrace_backend_weight", "The backend's share.", measure(|backend| f64::from(backend.weight))),
        gauge("millrace_backend_sessions", "Sessions of the backend.", measure(|backend| float(backend.active))),
        counter(
            "millrace_backend_opened_sessions",
            "Sessions the backend has been given.",
            count(|backend| backend.total),
        ),
        counter(
            "millrace_backend_packets",
            "Packets of the backend's sessions, both directions.",
            count(|backend| backend.packets),
        ),
        counter(
            "millrace_backend_bytes",
            "Bytes of the backend's sessions, both directions.",
            count(|backend| backend.bytes),
        ),
        gauge(
            "millrace_backend_response_seconds",
            "Time the backend's last successful probe took.",
            each().filter_map(|both| Some((of(both), both.1.response_ms? / 1_000.0))).collect(),
        ),
        gauge(
            "millrace_service_half_open_sessions",
            "Handshakes under way, where they are counted.",
            services.iter().filter_map(|it| Some((service(it), f64::from(it.half_open?)))).collect(),
        ),
        gauge(
            "millrace_service_syn_cookies_engaged",
            "Whether the service answers SYNs with cookies now.",
            handshakes().map(|(it, cookies)| (service(it), if cookies.engaged { 1.0 } else { 0.0 })).collect(),
        ),
        counter(
            "millrace_service_syn_cookies_engagements",
            "Times cookies were turned on by pressure.",
            handshakes().map(|(it, cookies)| (service(it), cookies.engagements)).collect(),
        ),
        counter(
            "millrace_service_syn_cookies_sent",
            "SYNs answered with a cookie.",
            handshakes().map(|(it, cookies)| (service(it), cookies.sent)).collect(),
        ),
        counter(
            "millrace_service_syn_cookies_proven",
            "Cookies that were brought back.",
            handshakes().map(|(it, cookies)| (service(it), cookies.proven)).collect(),
        ),
    ]
}

fn firewall(appliance: &dyn Appliance) -> Vec<Family> {
    let firewall = appliance.firewall();
    let rules = || firewall.rules.iter().map(|rule| (vec![("rule", rule.name.clone())], rule));
    let lists = || firewall.blocklists.iter().map(|list| (vec![("blocklist", list.name.clone())], list));
    let hits = firewall
        .rules
        .iter()
        .map(|rule| (vec![("rule", rule.name.clone()), ("action", rule.action.clone())], rule.hits));
    vec![
        counter(
            "millrace_firewall_rule_hits",
            "New sessions and refused packets that the rule decided.",
            hits.collect(),
        ),
        counter(
            "millrace_firewall_rule_limited",
            "Of these, dropped because the rule's limit was used up.",
            rules().map(|(labels, rule)| (labels, rule.rate_limited)).collect(),
        ),
        counter(
            "millrace_firewall_source_limited",
            "Of these, dropped because the source's limit was used up.",
            rules().map(|(labels, rule)| (labels, rule.source_limited)).collect(),
        ),
        counter(
            "millrace_firewall_default_hits",
            "First packets that no rule matched.",
            vec![(Vec::new(), firewall.default_hits)],
        ),
        gauge(
            "millrace_blocklist_prefixes",
            "Prefixes of the blocklist.",
            lists().map(|(labels, list)| (labels, float(list.prefixes))).collect(),
        ),
        counter(
            "millrace_blocklist_hits",
            "Packets the blocklist has stopped.",
            lists().map(|(labels, list)| (labels, list.hits)).collect(),
        ),
    ]
}

fn translation(appliance: &dyn Appliance) -> Vec<Family> {
    let nat = appliance.nat();
    let pools = || {
        let of = |name: &str, kind: &str| vec![("pool", name.to_owned()), ("kind", kind.to_owned())];
        nat.pools.iter().map(move |pool| (of(&pool.name, &pool.kind), pool))
    };
    vec![
        gauge(
            "millrace_nat_pool_sessions",
            "Sessions the pool hides.",
            pools().map(|(labels, pool)| (labels, float(pool.sessions))).collect(),
        ),
        gauge(
            "millrace_nat_pool_mappings",
            "Outside addresses and ports the pool holds for clients.",
            pools().map(|(labels, pool)| (labels, float(pool.mappings))).collect(),
        ),
        counter(
            "millrace_nat_pool_exhausted",
            "New sessions refused because no port was free.",
            pools().map(|(labels, pool)| (labels, pool.exhausted)).collect(),
        ),
        counter(
            "millrace_nat_pool_limited",
            "New sessions refused because their source had as many ports as it may.",
            pools().map(|(labels, pool)| (labels, pool.limited)).collect(),
        ),
        counter(
            "millrace_nat_forward_sessions",
            "Sessions of the forward.",
            nat.forwards.iter().map(|forward| (vec![("forward", forward.name.clone())], forward.total)).collect(),
        ),
    ]
}

/// Records of sessions; whether the collector can be reached is told only where there is one.
fn session_log(log: &SessionLogStatus) -> Vec<Family> {
    let up = if log.state == Reach::Up.name() { 1.0 } else { 0.0 };
    let of = |collector: &String| (vec![("collector", collector.clone())], up);
    let count = |value: u64| vec![(Vec::new(), value)];
    vec![
        gauge(
            "millrace_session_log_up",
            "Whether the collector of the session log takes records.",
            log.collector.iter().map(of).collect(),
        ),
        gauge("millrace_session_log_waiting_records", "Records that wait to be sent.", one(float(log.waiting))),
        counter("millrace_session_log_sent_entries", "Entries sent to the collector.", count(log.sent)),
        counter(
            "millrace_session_log_unsent_entries",
            "Entries that were to be sent when the collector went away.",
            count(log.unsent),
        ),
        counter("millrace_session_log_messages", "Messages sent to the collector.", count(log.messages)),
        counter("millrace_session_log_bytes", "Bytes sent to the collector.", count(log.bytes)),
        counter("millrace_session_log_connections", "Connections made to the collector.", count(log.connections)),
    ]
}

fn memory(appliance: &dyn Appliance) -> Vec<Family> {
    let memory = appliance.memory();
    let parts = [
        ("buffers", memory.buffer_bytes),
        ("sessions", memory.session_bytes),
        ("rules", memory.rule_bytes),
        ("routes", memory.route_bytes),
        ("services", memory.service_bytes),
        ("session_log", memory.log_bytes),
    ];
    vec![
        gauge("millrace_buffers", "Packet buffers in the pool.", one(float(memory.buffers_total))),
        gauge("millrace_buffers_in_use", "Packet buffers out of the pool.", one(float(memory.buffers_in_use))),
        gauge("millrace_sessions_capacity", "Sessions there is room for.", one(float(memory.sessions_capacity))),
        gauge("millrace_sessions", "Sessions there are.", one(float(memory.sessions_in_use))),
        gauge(
            "millrace_memory_bytes",
            "Bytes set aside, by what for.",
            parts.map(|(part, bytes)| (vec![("part", part.to_owned())], float(bytes))).into(),
        ),
    ]
}

fn policy(appliance: &dyn Appliance) -> Vec<Family> {
    let policy = appliance.policy();
    let applied = policy.current.applied_at.as_millisecond().max(0).unsigned_abs();
    let pending = if policy.confirm_within_ms.is_some() { 1.0 } else { 0.0 };
    vec![
        gauge("millrace_policy_generation", "The generation in force.", one(float(policy.current.generation))),
        gauge(
            "millrace_policy_applied_timestamp_seconds",
            "When the policy came into force.",
            one(float(applied) / 1_000.0),
        ),
        gauge("millrace_policy_unconfirmed", "Whether the policy waits to be confirmed.", one(pending)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_never_fall_whatever_is_said_of_all() {
        let spread = Spread { count: 3, mean: 2.0, buckets: vec![(1.0, 2), (4.0, 5), (100.0, 1)], ..Spread::default() };
        let (_, buckets) = cumulative(&spread, &FILLS, 1.0);
        let counts: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 2, 7, 7, 7, 7, 7, 8]);
    }

    /// What `show workers` counts is among the metrics, but for the core, which is where it runs.
    #[test]
    fn everything_a_worker_counts_is_told() {
        let mut fields = serde_json::to_value(WorkerStatus::default()).unwrap();
        let mut number = 0;
        for (name, value) in fields.as_object_mut().unwrap() {
            if value.is_number() && name != "core" {
                number += 1_000;
                *value = number.into();
            }
        }
        let worker: WorkerStatus = serde_json::from_value(fields.clone()).unwrap();
        let families = workers(&[worker]);
        let values: Vec<f64> = families
            .iter()
            .flat_map(|family| match &family.samples {
                Samples::Counter(samples) => samples.iter().map(|(_, value)| float(*value)).collect(),
                Samples::Gauge(samples) => samples.iter().map(|(_, value)| *value).collect(),
                Samples::Histogram(_) => Vec::new(),
            })
            .collect();
        for (name, value) in fields.as_object().unwrap() {
            let Some(wanted) = value.as_f64().filter(|_| name != "core") else { continue };
            // Milliseconds are told as seconds, percents as ratios.
            let unit = if name.ends_with("_ms") {
                1_000.0
            } else if name.ends_with("_percent") {
                100.0
            } else {
                1.0
            };
            assert!(values.contains(&(wanted / unit)), "{name} is in no family");
        }
    }
}
