//! The documents of the API as tables for a terminal. One function for each; numbers to the right, `-` for what there is
//! not. Called by the command line only.

use std::collections::HashMap;

mod change;
mod event;
mod nat;
mod plan;
mod restart;
mod session_log;
mod staged;
mod trace;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use stage::DropReason;

use crate::status::{
    BlocklistStatus, Drops, FirewallStatus, Link, MemoryStatus, NeighborStatus, PortStatus, Reloaded, RouteStatus,
    ServiceStatus, SessionStatus, Spread, TalkerStatus, TopStatus, TupleStatus, WorkerStatus,
};

pub use change::{applied, confirmed, drained, flushed, policy, undrained};
pub use event::event;
pub use nat::nat;
pub use plan::plan;
pub use restart::restart;
pub use session_log::session_log;
pub use staged::staged;
pub use trace::{trace, trace_end};

/// Columns, each a heading and whether what stands under it are numbers.
type Columns<'a> = &'a [(&'a str, bool)];

const WORDS: bool = false;
const NUMBERS: bool = true;

fn table(columns: Columns<'_>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for (column, (_, numbers)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table's lines, without the blanks that fill the last column.
fn drawn(table: &Table) -> String {
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text.truncate(text.trim_end().len());
    text
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `millrace show ports`. REFUSED and OVERSIZED are of the kernel interface: what the kernel did not take, and what it sent
/// that fits no buffer.
#[must_use]
pub fn ports(ports: &[PortStatus]) -> String {
    let mut table = table(&[
        ("PORT", WORDS),
        ("ZONE", WORDS),
        ("PAIR", WORDS),
        ("LINK", WORDS),
        ("MAC", WORDS),
        ("RX PACKETS", NUMBERS),
        ("RX BYTES", NUMBERS),
        ("RX MISSED", NUMBERS),
        ("TX PACKETS", NUMBERS),
        ("TX BYTES", NUMBERS),
        ("TX DROPPED", NUMBERS),
        ("KERNEL", WORDS),
        ("REFUSED", NUMBERS),
        ("OVERSIZED", NUMBERS),
        ("DEVICE", WORDS),
    ]);
    for port in ports {
        let link = match port.link {
            Link::Up => "up",
            Link::Down => "down",
        };
        table.add_row([
            port.name.clone(),
            port.zone.clone(),
            or_dash(port.pair.as_ref()),
            link.to_owned(),
            port.mac.clone(),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.rx_missed.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
            port.tx_dropped.to_string(),
            or_dash(port.kernel_interface.as_ref()),
            or_dash(port.kernel_interface.as_ref().map(|_| port.kernel_refused)),
            or_dash(port.kernel_interface.as_ref().map(|_| port.kernel_oversized)),
            port.device.clone(),
        ]);
    }
    drawn(&table)
}

/// `millrace show workers`: the workers, and under them the stages where they are measured.
#[must_use]
pub fn workers(workers: &[WorkerStatus]) -> String {
    let mut table = table(&[
        ("CORE", NUMBERS),
        ("RX PACKETS", NUMBERS),
        ("FORWARDED", NUMBERS),
        ("CONSUMED", NUMBERS),
        ("PUNTED", NUMBERS),
        ("DROPPED", NUMBERS),
        ("CYCLES/PACKET", NUMBERS),
        ("BUSY %", NUMBERS),
        ("SESSIONS", NUMBERS),
        ("GENERATION", NUMBERS),
        ("HEARTBEAT", NUMBERS),
        ("BURST", NUMBERS),
        ("INSIDE P50", NUMBERS),
        ("P99", NUMBERS),
    ]);
    let microseconds = |value: f64, spread: &Spread| {
        if spread.count > 0 { format!("{value:.1} us") } else { "-".to_owned() }
    };
    for worker in workers {
        let inside = &worker.time_inside_us;
        table.add_row([
            worker.core.to_string(),
            worker.rx_packets.to_string(),
            worker.forwarded.to_string(),
            worker.consumed.to_string(),
            worker.punted.to_string(),
            worker.dropped.to_string(),
            format!("{:.0}", worker.cycles_per_packet),
            format!("{:.1}", worker.busy_percent),
            worker.sessions.to_string(),
            worker.generation.to_string(),
            format!("{} ms", worker.heartbeat_age_ms),
            format!("{:.1}", worker.burst_fill.mean),
            microseconds(inside.p50, inside),
            microseconds(inside.p99, inside),
        ]);
    }
    let stages = stages(workers);
    if stages.is_empty() { drawn(&table) } else { format!("{}\n\n{stages}", drawn(&table)) }
}

fn stages(workers: &[WorkerStatus]) -> String {
    let mut table = table(&[("CORE", NUMBERS), ("STAGE", WORDS), ("PACKETS", NUMBERS), ("CYCLES/PACKET", NUMBERS)]);
    let measured = workers.iter().flat_map(|worker| worker.stages.iter().map(move |stage| (worker.core, stage)));
    for (core, stage) in measured {
        table.add_row([
            core.to_string(),
            stage.name.clone(),
            stage.packets.to_string(),
            format!("{:.0}", stage.cycles_per_packet),
        ]);
    }
    if table.is_empty() { String::new() } else { drawn(&table) }
}

/// `millrace show sessions`.
#[must_use]
pub fn sessions(sessions: &[SessionStatus]) -> String {
    if sessions.is_empty() {
        return "no sessions".to_owned();
    }
    let mut heads = vec![
        ("PROTOCOL", WORDS),
        ("STATE", WORDS),
        ("ORIGINAL", WORDS),
        ("REPLY", WORDS),
        ("BACKEND", WORDS),
        ("PACKETS", NUMBERS),
        ("BYTES", NUMBERS),
        ("IDLE", NUMBERS),
        ("EXPIRES", NUMBERS),
        ("OWNER", NUMBERS),
    ];
    let tenants = sessions.iter().any(|session| session.tenant.is_some());
    if tenants {
        heads.push(("TENANT", WORDS));
    }
    let mut table = table(&heads);
    for session in sessions {
        let backend = match (&session.service, &session.backend) {
            (Some(service), Some(backend)) => {
                let way = session.tiers.iter().fold(String::new(), |way, tier| way + tier + " > ");
                format!("{way}{service}/{backend}")
            }
            (service, backend) => or_dash(service.as_ref().or(backend.as_ref())),
        };
        let mut row = vec![
            session.protocol.clone(),
            session.state.clone(),
            tuple(&session.original),
            tuple(&session.reply),
            backend,
            session.packets.to_string(),
            session.bytes.to_string(),
            seconds(session.idle_ms),
            seconds(session.expires_ms),
            session.owner.to_string(),
        ];
        if tenants {
            row.push(or_dash(session.tenant.as_ref()));
        }
        table.add_row(row);
    }
    drawn(&table)
}

fn tuple(tuple: &TupleStatus) -> String {
    let source = std::net::SocketAddr::new(tuple.source, tuple.source_port);
    let destination = std::net::SocketAddr::new(tuple.destination, tuple.destination_port);
    format!("{source} > {destination}")
}

/// Milliseconds as seconds with one place.
fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1_000, millis % 1_000 / 100)
}

/// `millrace show services`: a line for each service, and under it one for each backend.
#[must_use]
pub fn services(services: &[ServiceStatus]) -> String {
    let mut table = table(&[
        ("SERVICE", WORDS),
        ("BACKEND", WORDS),
        ("ADDRESS", WORDS),
        ("HOW", WORDS),
        ("HEALTH", WORDS),
        ("WEIGHT", NUMBERS),
        ("HOPS", NUMBERS),
        ("LOAD", NUMBERS),
        ("ACTIVE", NUMBERS),
        ("TOTAL", NUMBERS),
        ("PACKETS", NUMBERS),
        ("BYTES", NUMBERS),
        ("RESPONSE", NUMBERS),
    ]);
    for service in services {
        let place = match &service.tier_of {
            Some(whole) => format!("tier of {whole}"),
            None => format!("{} {} {}", service.address, service.protocol, service.ports.join(",")),
        };
        let how = match service.attract.as_str() {
            _ if service.tier_of.is_some() => service.algorithm.clone(),
            "own-address" | "" => format!("{}, {}", service.algorithm, service.mode),
            attract => format!("{}, {}, {attract}", service.algorithm, service.mode),
        };
        let how = match service.tiers.len() {
            0 => how,
            1 => format!("{how}, behind a tier"),
            count => format!("{how}, behind {count} tiers"),
        };
        let cookies = service.syn_cookies.as_ref().map_or_else(String::new, |cookies| {
            let state = if cookies.engaged { "on" } else { "off" };
            format!("; SYN cookies {state}, {} of {} proven", cookies.proven, cookies.sent)
        });
        let half_open = match (service.half_open, service.half_open_limit) {
            (Some(now), Some(limit)) => format!("; {now} of {limit} half open"),
            _ => String::new(),
        };
        let redirection = service.redirection.as_ref().map_or_else(String::new, |redirection| {
            let reason = redirection.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("; {}{reason}", redirection.state)
        });
        table.add_row([service.name.clone(), String::new(), place, how + &redirection + &cookies + &half_open]);
        for backend in &service.backends {
            let place = match backend.port {
                Some(port) => std::net::SocketAddr::new(backend.address, port).to_string(),
                None => backend.address.to_string(),
            };
            table.add_row([
                String::new(),
                backend.name.clone(),
                place,
                String::new(),
                format!("{:?}", backend.health).to_ascii_lowercase(),
                backend.weight.to_string(),
                backend.hops.to_string(),
                backend.load.to_string(),
                backend.active.to_string(),
                backend.total.to_string(),
                backend.packets.to_string(),
                backend.bytes.to_string(),
                or_dash(backend.response_ms.map(|millis| format!("{millis:.1} ms"))),
            ]);
        }
    }
    drawn(&table)
}

/// `millrace show firewall`.
#[must_use]
pub fn firewall(firewall: &FirewallStatus) -> String {
    let mut table = table(&[
        ("RULE", WORDS),
        ("ACTION", WORDS),
        ("HITS", NUMBERS),
        ("RATE LIMITED", NUMBERS),
        ("SOURCE LIMITED", NUMBERS),
    ]);
    for rule in &firewall.rules {
        table.add_row([
            rule.name.clone(),
            rule.action.clone(),
            rule.hits.to_string(),
            rule.rate_limited.to_string(),
            rule.source_limited.to_string(),
        ]);
    }
    table.add_row(["(default)".to_owned(), firewall.default.clone(), firewall.default_hits.to_string()]);
    if firewall.blocklists.is_empty() {
        return drawn(&table);
    }
    format!("{}\n\n{}", drawn(&table), blocklists(&firewall.blocklists))
}

fn blocklists(lists: &[BlocklistStatus]) -> String {
    let mut table = self::table(&[
        ("BLOCKLIST", WORDS),
        ("PREFIXES", NUMBERS),
        ("BYTES", NUMBERS),
        ("HITS", NUMBERS),
        ("FILE", WORDS),
    ]);
    for list in lists {
        table.add_row([
            list.name.clone(),
            list.prefixes.to_string(),
            list.bytes.to_string(),
            list.hits.to_string(),
            list.file.clone(),
        ]);
    }
    drawn(&table)
}

/// What `reload` has done.
#[must_use]
pub fn reloaded(reloaded: &Reloaded) -> String {
    let Reloaded { generation, prefixes, bytes } = reloaded;
    format!("generation {generation}: {prefixes} prefixes, {bytes} bytes")
}

/// `millrace show neighbors`.
#[must_use]
pub fn neighbors(neighbors: &[NeighborStatus]) -> String {
    let mut table = table(&[("ADDRESS", WORDS), ("MAC", WORDS), ("PORT", WORDS), ("STATE", WORDS), ("AGE", NUMBERS)]);
    for neighbor in neighbors {
        table.add_row([
            neighbor.address.to_string(),
            or_dash(neighbor.mac.as_ref()),
            neighbor.port.clone(),
            neighbor.state.clone(),
            seconds(neighbor.age_ms),
        ]);
    }
    drawn(&table)
}

/// `millrace show routes`.
#[must_use]
pub fn routes(routes: &[RouteStatus]) -> String {
    let mut table = table(&[("TO", WORDS), ("VIA", WORDS), ("PORT", WORDS)]);
    for route in routes {
        let via = route.via.map_or_else(|| "(on the link)".to_owned(), |via| via.to_string());
        table.add_row([route.to.to_string(), via, route.port.clone()]);
    }
    drawn(&table)
}

/// `millrace show top`: sources, then targets.
#[must_use]
pub fn top(top: &TopStatus) -> String {
    let of = |heading, talkers: &[TalkerStatus]| {
        let mut table =
            table(&[(heading, WORDS), ("NEW SESSIONS", NUMBERS), ("CHALLENGES", NUMBERS), ("DROPS", NUMBERS)]);
        for talker in talkers {
            table.add_row([
                talker.whose(),
                talker.new_sessions.to_string(),
                talker.challenges.to_string(),
                talker.drops.to_string(),
            ]);
        }
        drawn(&table)
    };
    if top.sources.is_empty() && top.targets.is_empty() {
        return format!("nobody opened a session and no packet was dropped in the last {:.1} s", top.seconds);
    }
    let (sources, targets) = (of("SOURCE", &top.sources), of("TARGET", &top.targets));
    format!("in the last {:.1} s\n\n{sources}\n\n{targets}", top.seconds)
}

/// `millrace show drops`: the reasons that occurred, most packets first, each with its sentence.
#[must_use]
pub fn drops(drops: &Drops) -> String {
    let sentences: HashMap<_, _> = DropReason::all().map(|reason| (reason.name(), reason.sentence())).collect();
    let mut occurred: Vec<_> = drops.iter().filter(|(_, packets)| **packets > 0).collect();
    if occurred.is_empty() {
        return "no packet was dropped".to_owned();
    }
    occurred.sort_by_key(|(reason, packets)| (std::cmp::Reverse(**packets), *reason));
    let mut table = table(&[("PACKETS", NUMBERS), ("REASON", WORDS), ("", WORDS)]);
    for (reason, packets) in occurred {
        let sentence = sentences.get(reason.as_str()).copied().unwrap_or_default();
        table.add_row([packets.to_string(), reason.clone(), sentence.to_owned()]);
    }
    drawn(&table)
}

/// `millrace show drops --explain`: every reason in the order of the registry, with its sentence.
#[must_use]
pub fn reasons(drops: &Drops) -> String {
    let mut table = table(&[("PACKETS", NUMBERS), ("REASON", WORDS), ("", WORDS)]);
    for reason in DropReason::all() {
        let packets = drops.get(reason.name()).copied().unwrap_or(0);
        table.add_row([packets.to_string(), reason.name().to_owned(), reason.sentence().to_owned()]);
    }
    drawn(&table)
}

/// `millrace show memory`.
#[must_use]
pub fn memory(memory: &MemoryStatus) -> String {
    let mut table = table(&[("", WORDS), ("IN USE", NUMBERS), ("OF", NUMBERS), ("%", NUMBERS)]);
    let mut row = |name: &str, used: u64, total: u64| {
        let percent = used.saturating_mul(1_000).checked_div(total);
        let percent = percent.map(|tenths| format!("{}.{}", tenths / 10, tenths % 10));
        table.add_row([name.to_owned(), used.to_string(), total.to_string(), or_dash(percent)]);
    };
    row("packet buffers", memory.buffers_in_use, memory.buffers_total);
    row("sessions", memory.sessions_in_use, memory.sessions_capacity);
    for (name, bytes) in [
        ("bytes", memory.bytes),
        ("  of packet buffers", memory.buffer_bytes),
        ("  of sessions", memory.session_bytes),
        ("  of firewall rules", memory.rule_bytes),
        ("  of routes", memory.route_bytes),
        ("  of services", memory.service_bytes),
        ("  of the session log", memory.log_bytes),
    ] {
        table.add_row([name.to_owned(), bytes.to_string()]);
    }
    drawn(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{BackendStatus, HealthStatus};

    #[test]
    fn numbers_stand_to_the_right_and_nothing_trails() {
        let status = |core, rx_packets| WorkerStatus { core, rx_packets, ..WorkerStatus::default() };
        let text = workers(&[status(1, 7), status(12, 1_000_000)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("CORE  RX PACKETS  FORWARDED"), "{text}");
        assert!(lines[1].starts_with("   1           7          0"), "{text}");
        assert!(lines[2].starts_with("  12     1000000          0"), "{text}");
        assert!(lines.iter().all(|line| !line.ends_with(' ')), "{text}");
    }

    #[test]
    fn what_the_kernel_refused_is_shown_where_there_is_a_kernel_interface() {
        let port = |kernel: Option<&str>| PortStatus {
            name: "outside".into(),
            device: "net_ring0".into(),
            zone: "wan".into(),
            pair: None,
            mac: "02:00:00:00:00:01".into(),
            link: Link::Up,
            rx_packets: 1,
            rx_bytes: 2,
            rx_missed: 3,
            tx_packets: 4,
            tx_bytes: 5,
            tx_dropped: 6,
            kernel_interface: kernel.map(str::to_owned),
            kernel_delivered: 7,
            kernel_refused: 81,
            kernel_sent: 9,
            kernel_oversized: 92,
        };
        let text = ports(&[port(Some("mr-outside")), port(None)]);
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines[0].ends_with(&["KERNEL", "REFUSED", "OVERSIZED", "DEVICE"]), "{text}");
        assert!(lines[1].ends_with(&["mr-outside", "81", "92", "net_ring0"]), "{text}");
        assert!(lines[2].ends_with(&["-", "-", "-", "net_ring0"]), "{text}");
    }

    #[test]
    fn sources_and_targets_are_listed_with_what_they_did() {
        assert!(top(&TopStatus { seconds: 9.0, ..TopStatus::default() }).starts_with("nobody"));
        let talker = |address: &str, drops| TalkerStatus {
            address: address.into(),
            tenant: None,
            new_sessions: 1,
            challenges: 20,
            drops,
        };
        let both = TopStatus {
            seconds: 9.04,
            sources: vec![talker("192.0.2.1", 300), talker("2001:db8::/64", 0)],
            targets: vec![talker("198.51.100.10", 4)],
        };
        let text = top(&both);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "in the last 9.0 s");
        assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>(), ["192.0.2.1", "1", "20", "300"]);
        assert!(lines[4].starts_with("2001:db8::/64 ") && lines[6].starts_with("TARGET"), "{text}");
    }

    /// One registry of reasons: each is explained.
    #[test]
    fn every_reason_is_explained_whether_it_occurred_or_not() {
        let text = reasons(&Drops::from([("no_route".into(), 3)]));
        assert_eq!(text.lines().count(), 1 + DropReason::COUNT);
        for reason in DropReason::all() {
            let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(reason.name()));
            assert!(line.is_some_and(|line| line.ends_with(reason.sentence())), "{reason}");
        }
        assert!(text.lines().any(|line| line.trim_start().starts_with("3  no_route")), "{text}");
    }

    #[test]
    fn drops_are_listed_with_their_sentences_most_first() {
        let mut all: Drops = DropReason::all().map(|reason| (reason.name().to_owned(), 0)).collect();
        assert_eq!(drops(&all), "no packet was dropped");
        all.insert("no_route".into(), 3);
        all.insert("firewall_denied".into(), 30);
        let text = drops(&all);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("     30  firewall_denied  A firewall rule"), "{text}");
        assert!(lines[2].starts_with("      3  no_route         No route to the destination."), "{text}");
    }

    #[test]
    fn a_service_and_its_backends_stand_under_each_other() {
        let backend = |name: &str, port, health| BackendStatus {
            name: name.into(),
            address: "10.0.0.11".parse().unwrap(),
            port,
            weight: 2,
            hops: 0,
            load: 5,
            health,
            active: 5,
            total: 9,
            packets: 90,
            bytes: 9_000,
            response_ms: None,
            path_mtu: None,
        };
        let text = services(&[ServiceStatus {
            syn_cookies: None,
            half_open: None,
            half_open_limit: None,
            tiers: Vec::new(),
            tier_of: None,
            name: "shop".into(),
            address: "198.51.100.10".parse().unwrap(),
            protocol: "tcp".into(),
            ports: vec!["80".into(), "8000-8100".into()],
            attract: "own-address".into(),
            redirection: None,
            algorithm: "maglev".into(),
            mode: "nat".into(),
            backends: vec![
                backend("shop-a", Some(8080), HealthStatus::Up),
                backend("shop-b", None, HealthStatus::Draining),
            ],
        }]);
        for piece in ["198.51.100.10 tcp 80,8000-8100", "maglev, nat", "10.0.0.11:8080", "draining"] {
            assert!(text.contains(piece), "{piece} in\n{text}");
        }
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn memory_without_capacity_divides_by_nothing() {
        assert!(memory(&MemoryStatus::default()).contains("packet buffers"));
    }
}
