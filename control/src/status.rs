//! The documents of the API: one type for each answer of `show` and of the commands that change something. Field names
//! are read by scripts and never renamed; a new field may be added.
//!
//! Filled by the appliance, sent by `admin`, read by `client`, drawn by `render`. Plain values, no behaviour.

mod change;
mod problem;
mod trace;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use change::{Applied, AppliedPolicy, Changed, Drain, How, PolicyStatus, Standing, Target};
pub use problem::{PolicyFault, Problem, Refusal, RefusalKind};
pub use trace::{PacketStatus, Supposed, TraceEnd, TraceNews, TraceStatus, TraceStep};

/// Whether a port has carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// The device reports a link.
    Up,
    /// It reports none.
    Down,
}

/// One port: an element of `show ports`. Counters are the device's own, since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortStatus {
    /// The operator's name.
    pub name: String,
    /// The DPDK device string, as configured.
    pub device: String,
    /// The name of its zone.
    pub zone: String,
    /// The port that frames leave by which pass through this one: the other of its pair.
    #[serde(default)]
    pub pair: Option<String>,
    /// Its MAC address, as `02:00:00:00:00:01`.
    pub mac: String,
    /// Carrier.
    pub link: Link,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without the frame check sequence.
    pub rx_bytes: u64,
    /// Frames the device had no room for: the workers came too late.
    pub rx_missed: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent, without the frame check sequence.
    pub tx_bytes: u64,
    /// Frames the device did not take in time, or could not send.
    pub tx_dropped: u64,
    /// The kernel interface beside the port, when it has one.
    #[serde(default)]
    pub kernel_interface: Option<String>,
    /// Frames the kernel took there. Over all ports, `kernel_delivered` + `kernel_refused` are what the workers have
    /// `punted`, but for what is on its way.
    #[serde(default)]
    pub kernel_delivered: u64,
    /// Frames the kernel did not take: the interface was set down, or the frame was larger than one packet buffer.
    #[serde(default)]
    pub kernel_refused: u64,
    /// Frames the kernel sent there. Over all ports, these are what the workers have taken `from_kernel`.
    #[serde(default)]
    pub kernel_sent: u64,
    /// Frames the kernel sent there that are larger than the port's MTU allows; they were dropped.
    #[serde(default)]
    pub kernel_oversized: u64,
}

/// One worker: an element of `show workers`.
///
/// `rx_packets` = `forwarded` + `consumed` + `punted` + `dropped`, summed over all workers, once the rings between them
/// are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStatus {
    /// The processor it is pinned to.
    pub core: usize,
    /// Packets it received from ports and from kernel interfaces.
    pub rx_packets: u64,
    /// Of those, sent on.
    #[serde(default)]
    pub forwarded: u64,
    /// Of those, answered or used up by the appliance itself (ARP, echo).
    #[serde(default)]
    pub consumed: u64,
    /// Of those, handed to the kernel.
    #[serde(default)]
    pub punted: u64,
    /// Of those, dropped; `show drops` says why.
    #[serde(default)]
    pub dropped: u64,
    /// Packets taken from kernel interfaces.
    #[serde(default)]
    pub from_kernel: u64,
    /// Packets waiting for a next hop to answer.
    #[serde(default)]
    pub held: u64,
    /// Bursts in which packets came: `rx_packets` of them fill `bursts`.
    #[serde(default)]
    pub bursts: u64,
    /// Packets the appliance itself made.
    #[serde(default)]
    pub originated: u64,
    /// Packets given to the worker that owns their session.
    #[serde(default)]
    pub handed_over: u64,
    /// Log records left out because of the limit.
    #[serde(default)]
    pub log_suppressed: u64,
    /// Records of the session log it has told.
    #[serde(default)]
    pub log_records: u64,
    /// Records of the session log it had no room for.
    #[serde(default)]
    pub log_records_lost: u64,
    /// Packets of the appliance's own that could not be sent.
    #[serde(default)]
    pub originated_lost: u64,
    /// Packets of `direct` services forwarded without a session because the table was full.
    #[serde(default)]
    pub forwarded_untracked: u64,
    /// Packets wrapped for a tunnel to a backend.
    pub encapsulated: u64,
    /// Packets taken out of tunnels that end here.
    pub decapsulated: u64,
    /// Frames that passed through a pair of ports.
    #[serde(default)]
    pub passed_in_line: u64,
    /// Sessions given up half open for new ones because the table was full.
    #[serde(default)]
    pub half_open_given_up: u64,
    /// Processor cycles a packet costs, averaged over the busy time since the last look.
    pub cycles_per_packet: f64,
    /// Processor cycles it has spent on packets since the start, and in all.
    #[serde(default)]
    pub busy_cycles: u64,
    /// Processor cycles since its loop began.
    #[serde(default)]
    pub total_cycles: u64,
    /// The share of its polls that found something to do, in percent.
    pub busy_percent: f64,
    /// Sessions it owns.
    pub sessions: u64,
    /// Sessions opened since the start.
    #[serde(default)]
    pub sessions_opened: u64,
    /// Sessions ended since the start.
    #[serde(default)]
    pub sessions_closed: u64,
    /// The policy generation it has in force.
    pub generation: u64,
    /// Milliseconds since it last said that it is alive.
    pub heartbeat_age_ms: u64,
    /// Events it could not tell control because the ring was full.
    #[serde(default)]
    pub events_lost: u64,
    /// The stages of its pipeline, in order.
    pub stages: Vec<StageStatus>,
    /// Packets in a burst, of one turn in sixteen since the start.
    #[serde(default)]
    pub burst_fill: Spread,
    /// Microseconds that packets sent on were inside: from the moment their turn took them from the device to when it had given
    /// them to the next. Waiting in the device, for another worker or for a next hop is not in it. Of one turn in sixteen.
    #[serde(default)]
    pub time_inside_us: Spread,
}

/// How values are spread: what share of them is at most how large. Each is known to a quarter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Values there were.
    pub count: u64,
    /// Their average.
    pub mean: f64,
    /// Half of them are at most this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p999: f64,
    /// All of them.
    pub max: f64,
    /// The values as they were counted: at most so large, and so many.
    pub buckets: Vec<(f64, u64)>,
}

/// One stage of a worker's pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageStatus {
    /// The stage's name.
    pub name: String,
    /// Packets that passed through it.
    pub packets: u64,
    /// Processor cycles it spends on each.
    pub cycles_per_packet: f64,
}

/// The addresses and ports of one direction of a session. For ICMP echo both ports are the identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TupleStatus {
    /// Source address.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

/// One session: an element of `show sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStatus {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the protocol's number.
    pub protocol: String,
    /// The state, in lower case.
    pub state: String,
    /// As the opener's packets arrive.
    pub original: TupleStatus,
    /// As the answers arrive.
    pub reply: TupleStatus,
    /// The virtual service that balances it.
    pub service: Option<String>,
    /// The backend it was given.
    pub backend: Option<String>,
    /// The instances of tiers its client's packets pass before, in order, each as `service/backend`; those that are chosen.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// The service graph it passes through.
    pub graph: Option<String>,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes, both directions.
    pub bytes: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Milliseconds until it ends if nothing more comes.
    pub expires_ms: u64,
    /// The worker that owns it, by its place in `[cores] workers`.
    pub owner: u16,
    /// Whether the appliance's own kernel opened it: health probes, routing protocols, whatever runs on the machine.
    #[serde(default)]
    pub from_kernel: bool,
    /// Whether its packets pass through a pair of ports.
    #[serde(default)]
    pub in_line: bool,
    /// The tenant whose addresses these are.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// Whether a backend gets new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Probed, and neither risen nor fallen yet.
    Unknown,
    /// It gets new sessions.
    Up,
    /// Its probes fail.
    Failed,
    /// It lets its sessions run out: the operator drains it, or the configuration disables it.
    Draining,
    /// The same, and its drain timeout has passed. `drain --undo` puts back what the operator has drained.
    Disabled,
}

/// One backend of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendStatus {
    /// The operator's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port; null where it keeps the port the client asked for.
    pub port: Option<u16>,
    /// Its share among the others.
    pub weight: u32,
    /// Physical connections between this appliance and it.
    pub hops: u32,
    /// What `least-load` compares: `active` x (`hops` + 1).
    pub load: u64,
    /// Whether it gets new sessions.
    pub health: HealthStatus,
    /// Sessions now.
    pub active: u64,
    /// Sessions since it was added.
    pub total: u64,
    /// Packets of its sessions, both directions.
    pub packets: u64,
    /// Bytes of its sessions, both directions.
    pub bytes: u64,
    /// Milliseconds its last successful probe took.
    #[serde(default)]
    pub response_ms: Option<f64>,
    /// The largest packet that a router on the way of its tunnel said it carries, in bytes.
    #[serde(default)]
    pub path_mtu: Option<u16>,
}

/// One virtual service: an element of `show services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// The operator's name.
    pub name: String,
    /// The address clients ask.
    pub address: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Ports and ranges, as in the configuration: `["80", "8000-8100"]`.
    pub ports: Vec<String>,
    /// How its clients' packets come here: `inline`, `own-address` or `external`.
    #[serde(default)]
    pub attract: String,
    /// Whether others direct them here, as the hook of `[redirection]` says; null where it has nothing to do with it.
    #[serde(default)]
    pub redirection: Option<RedirectionStatus>,
    /// How a backend is chosen.
    pub algorithm: String,
    /// How it is reached.
    pub mode: String,
    /// What is known of its handshakes; null where it never asks for SYN cookies.
    #[serde(default)]
    pub syn_cookies: Option<SynCookieStatus>,
    /// Sessions half open now; null where they are not counted.
    #[serde(default)]
    pub half_open: Option<u32>,
    /// How many may be.
    #[serde(default)]
    pub half_open_limit: Option<u32>,
    /// The tiers its clients' packets pass before a backend, by the names they are listed under.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// The service whose tier it is; null for those that clients ask.
    #[serde(default)]
    pub tier_of: Option<String>,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// How a service stands that others direct here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedirectionStatus {
    /// `attaching`, `attached` or `failed`.
    pub state: String,
    /// `redirect-failed` where the hook has failed; null otherwise.
    pub reason: Option<String>,
    /// How it failed, in a sentence; null otherwise.
    pub why: Option<String>,
}

/// The handshakes of one virtual service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SynCookieStatus {
    /// `adaptive` or `always`.
    pub mode: String,
    /// Whether SYNs are answered with cookies now.
    pub engaged: bool,
    /// Sessions half open now; counted with `adaptive`.
    pub half_open: u32,
    /// Times cookies were turned on by pressure.
    pub engagements: u64,
    /// SYNs answered with a cookie.
    pub sent: u64,
    /// Cookies that were brought back: connections that became sessions.
    pub proven: u64,
}

/// One firewall rule of `show firewall`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleStatus {
    /// The operator's name.
    pub name: String,
    /// `allow`, `deny` or `reject`.
    pub action: String,
    /// Sessions and refused packets it decided.
    pub hits: u64,
    /// Of those, dropped because the rule's rate was used up.
    pub rate_limited: u64,
    /// Of those, dropped because the source's rate was used up.
    pub source_limited: u64,
}

/// `show firewall`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirewallStatus {
    /// What happens where no rule matches.
    pub default: String,
    /// How often that was.
    pub default_hits: u64,
    /// The rules, first match first.
    pub rules: Vec<RuleStatus>,
    /// The blocklists, which are asked before the rules.
    #[serde(default)]
    pub blocklists: Vec<BlocklistStatus>,
}

/// `show firewall --staged`: rules on probation among those that would stay, and what each would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagedStatus {
    /// The file of the policy whose rules they are; null where they are those the policy in force has staged, or none.
    pub source: Option<String>,
    /// Who put them there.
    pub who: Option<String>,
    /// Since when (RFC 3339, UTC).
    pub since: Option<Timestamp>,
    /// The rules, first match first; none where nothing is staged.
    pub rules: Vec<StagedRuleStatus>,
    /// What would have happened where no rule matched.
    pub default: Option<StagedRuleStatus>,
}

/// One rule of `show firewall --staged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagedRuleStatus {
    /// The operator's name; empty for the default.
    pub name: String,
    /// `allow`, `deny` or `reject`.
    pub action: String,
    /// Whether it is staged; else it is in force as well.
    pub staged: bool,
    /// First packets it would have decided about.
    pub hits: u64,
    /// Of these, those it would have let in and the rules in force did not.
    pub would_allow: u64,
    /// Of these, those it would have kept out and the rules in force let in.
    pub would_refuse: u64,
}

/// One blocklist of `show firewall`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlocklistStatus {
    /// The operator's name.
    pub name: String,
    /// The file it was read from.
    pub file: String,
    /// Prefixes in force.
    pub prefixes: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Packets it has stopped.
    pub hits: u64,
}

/// `show top`: who opens most sessions and has most packets dropped, lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopStatus {
    /// The time all of it was counted in, up to now.
    pub seconds: f64,
    /// Who sends most of it, most first.
    pub sources: Vec<TalkerStatus>,
    /// Whom it is sent to, most first.
    pub targets: Vec<TalkerStatus>,
}

/// One address of `show top`. Where there is much, the numbers are estimates: about one packet in sixteen is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TalkerStatus {
    /// The address; an IPv6 source is a /64.
    pub address: String,
    /// The tenant whose address it is.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Sessions opened.
    pub new_sessions: u64,
    /// SYNs answered with a cookie.
    pub challenges: u64,
    /// Packets dropped.
    pub drops: u64,
}

impl TalkerStatus {
    /// The address, with the tenant that has it.
    #[must_use]
    pub fn whose(&self) -> String {
        self.tenant.as_ref().map_or_else(|| self.address.clone(), |tenant| format!("{} ({tenant})", self.address))
    }
}

/// What is read again: the body of `POST reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
pub enum Reload {
    /// The file of a blocklist.
    Blocklist(String),
}

/// The answer of `reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The generation that put it in force; nothing else of the policy has changed.
    pub generation: u64,
    /// Prefixes in force.
    pub prefixes: u64,
    /// Bytes they take.
    pub bytes: u64,
}

/// One neighbor: an element of `show neighbors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NeighborStatus {
    /// The port it is reached through.
    pub port: String,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, once known.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale`, `probe`, `failed` or `static`.
    pub state: String,
    /// Milliseconds since it was last confirmed.
    pub age_ms: u64,
}

/// One route: an element of `show routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteStatus {
    /// The prefix.
    #[schemars(with = "String")]
    pub to: IpNet,
    /// The next hop; null for a prefix on the link.
    pub via: Option<IpAddr>,
    /// The port it leads out of.
    pub port: String,
}

/// One pool of source NAT or NAT64: an element of `show nat`'s `pools`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolStatus {
    /// The rule's name.
    pub name: String,
    /// What kind of rule: `source-nat`, `nat64`, or `full-nat` for the addresses of a service.
    pub kind: String,
    /// Its addresses, neighbors as ranges: `["198.51.100.8-198.51.100.15"]`.
    pub addresses: Vec<String>,
    /// The ports of each address: `1024-65535`.
    pub ports: String,
    /// For which far ends a client keeps its outside address and port.
    pub mapping: String,
    /// Which far ends may open conversations with it.
    pub filtering: String,
    /// Sessions hidden now.
    pub sessions: u64,
    /// Outside addresses and ports held for clients now; 0 where each session has its own.
    pub mappings: u64,
    /// New sessions refused because no port was free.
    pub exhausted: u64,
    /// New sessions refused because their source had as many ports as it may.
    pub limited: u64,
}

/// One forward of destination NAT: an element of `show nat`'s `forwards`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForwardStatus {
    /// The rule's name.
    pub name: String,
    /// The address that is asked.
    pub address: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The ports that are asked: `8000-8010`.
    pub ports: String,
    /// The server.
    pub to_address: IpAddr,
    /// Its ports, in the same order.
    pub to_ports: String,
    /// Sessions since it was added.
    pub total: u64,
}

/// `show nat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NatStatus {
    /// The pools, in the order of the configuration.
    pub pools: Vec<PoolStatus>,
    /// The forwards, in the order of the configuration.
    #[serde(default)]
    pub forwards: Vec<ForwardStatus>,
}

/// `show session-log`.
///
/// The workers' records tell one entry each, or two where a session is translated and both are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionLogStatus {
    /// What records are written as, `ipfix` or `json`; null when nobody is told anything.
    pub format: Option<String>,
    /// Where they go: `udp 192.0.2.9:4739`.
    pub collector: Option<String>,
    /// What is told of: `open`, `close`, `nat`.
    pub events: Vec<String>,
    /// `off`, `connecting`, `up` or `down`.
    pub state: String,
    /// Why the collector cannot be reached.
    pub trouble: Option<String>,
    /// Records of the workers, since start.
    pub records: u64,
    /// Records the workers had no room for.
    pub lost: u64,
    /// Records that wait to be sent.
    pub waiting: u64,
    /// Entries sent.
    pub sent: u64,
    /// Messages they were in, those that describe them included; or pieces of lines.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Entries that were to be sent when the collector went away.
    pub unsent: u64,
    /// Connections made.
    pub connections: u64,
}

/// `show restart`: what the process before has left to this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartStatus {
    /// The generation in force when it ended; null when it has left nothing.
    pub generation: Option<u64>,
    /// Sessions it has written down.
    pub written: u64,
    /// Sessions it could not write down: connections that it was still beginning in somebody's name.
    pub left_out: u64,
    /// Sessions that go on here.
    pub taken_up: u64,
    /// Those that do not, by reason.
    pub not_taken_up: BTreeMap<String, u64>,
    /// How long no packet was treated, from the last worker's end to the first one's beginning, in milliseconds.
    pub outage_ms: Option<u64>,
    /// Why nothing of what was left could be used.
    pub trouble: Option<String>,
}

impl RestartStatus {
    /// In a sentence; `None` when nothing was left.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let outage = self.outage_ms?;
        let reasons: Vec<_> = self.not_taken_up.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let refused = if reasons.is_empty() { String::new() } else { format!(" (not: {})", reasons.join(", ")) };
        let (taken_up, written) = (self.taken_up, self.written);
        Some(format!("{taken_up} of {written} sessions go on{refused}; no packet was treated for {outage} ms"))
    }
}

/// `show drops`: every reason of the registry with the packets dropped for it, 0 included.
pub type Drops = BTreeMap<String, u64>;

/// How far a change of policy has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressStatus {
    /// What is being done, in words.
    pub step: String,
    /// Steps that are done.
    pub done: u64,
    /// Steps there are.
    pub of: u64,
    /// Since the change began.
    pub elapsed_ms: u64,
}

/// `show memory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStatus {
    /// Packet buffers in the pool.
    pub buffers_total: u64,
    /// Of those, out of the pool.
    pub buffers_in_use: u64,
    /// Sessions there is room for.
    pub sessions_capacity: u64,
    /// Sessions there are.
    pub sessions_in_use: u64,
    /// Bytes of the packet buffers, the session tables and the compiled policy.
    pub bytes: u64,
    /// Of these, the packet buffers.
    pub buffer_bytes: u64,
    /// Of these, the session tables, touched or not.
    pub session_bytes: u64,
    /// Of these, the firewall's rules: the classifier, counters, what is remembered of sources, and blocklists.
    pub rule_bytes: u64,
    /// Of these, the routes.
    pub route_bytes: u64,
    /// Of these, the services: their rings and schedules, and who was where.
    pub service_bytes: u64,
    /// Of these, records of the session log.
    #[serde(default)]
    pub log_bytes: u64,
}
