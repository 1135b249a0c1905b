//! The policy: what a configuration file says, checked and resolved, every default filled in.
//!
//! Made by [`load`](crate::load), read by management when it opens ports and compiles tables; plain values, so that two
//! policies compare with `==`. Nothing here is invalid: every reference names something that exists, every number is in
//! its bounds, every list that must not be empty has an entry.

use core::ops::RangeInclusive;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use stage::anti_spoof::ZoneSources;
use stage::balancer::{BackendSpec, ServiceSpec};
use stage::extension_policy::ExtensionPolicy;
use stage::firewall::{Action, Rule};
use stage::forward::Route;
use stage::translate::nat64::Nat64Rule;
use stage::translate::{ForwardRule, SourceNatRule};
use stage::tunnel::Ending;
use units::{Nanos, PerSecond, PortId, ZoneId};
use wire::MacAddr;

use crate::device::Device;

/// Everything the operator decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Who this appliance is.
    pub appliance: Appliance,
    /// The API over TCP; `None` leaves it at the control socket.
    pub api: Option<Api>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Which CPU cores it takes.
    pub cores: Cores,
    /// What DPDK gets.
    pub dpdk: Dpdk,
    /// How sessions are kept.
    pub sessions: Sessions,
    /// How fragments are kept until their datagram is complete.
    pub fragments: Fragments,
    /// Where metrics are read.
    pub metrics: Metrics,
    /// Where records of sessions go; `None` when nobody wants any.
    pub session_log: Option<SessionLog>,
    /// What directs packets of `external` services here; `None` leaves it to others.
    pub redirection: Option<Redirection>,
    /// Zone names by [`ZoneId`]; the first is `appliance`.
    pub zones: Vec<String>,
    /// Ports by [`PortId`], at least one.
    pub ports: Vec<Port>,
    /// Pairs of ports that frames pass through; a port is in one at most.
    pub pairs: Vec<[PortId; 2]>,
    /// Tenants, whose VLANs do not overlap.
    pub tenants: Vec<Tenant>,
    /// Routes as written, without the prefixes that are on the link; see [`Policy::route_table`].
    pub routes: Vec<Route>,
    /// Neighbors that are told instead of asked for.
    pub neighbors: Vec<Neighbor>,
    /// The firewall.
    pub firewall: Firewall,
    /// Blocklists, at most 16.
    pub blocklists: Vec<Blocklist>,
    /// What is asked of those who come from each zone, by [`ZoneId`].
    pub zone_terms: Vec<ZoneTerms>,
    /// Source NAT, first match wins.
    pub source_nat: Vec<SourceNatRule>,
    /// Tunnels that end here.
    pub endings: Vec<Ending>,
    /// NAT64, whose prefixes do not overlap.
    pub nat64: Vec<Nat64Rule>,
    /// Destination NAT: forwards, which do not overlap.
    pub destination_nat: Vec<ForwardRule>,
    /// Virtual services by `ServiceId`.
    pub services: Vec<Service>,
}

/// `[appliance]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appliance {
    /// Its name.
    pub name: String,
    /// The Unix socket the command line speaks to; default [`Appliance::CONTROL_SOCKET`].
    pub control_socket: PathBuf,
    /// Where generations are kept across restarts; `None` when `state_folder = false`. Default
    /// [`Appliance::STATE_FOLDER`].
    pub state_folder: Option<PathBuf>,
}

impl Appliance {
    /// Where the command line looks when nothing else is said.
    pub const CONTROL_SOCKET: &'static str = "/run/millrace/control.sock";

    /// Where generations are kept when nothing else is said.
    pub const STATE_FOLDER: &'static str = "/var/lib/millrace";
}

/// `[api]`: the API over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file with its certificate and those that vouch for it, PEM.
    pub certificate: PathBuf,
    /// The file with the certificate's private key, PEM.
    pub key: PathBuf,
    /// The file with the certificates that sign its callers', PEM.
    pub client_ca: PathBuf,
    /// Who may do what, at least one.
    pub roles: Vec<ApiRole>,
}

/// `[[api.role]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRole {
    /// Its name, unique among roles.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The names of their certificates, each in one role: `CN=alice`, `DNS:ci.example`, `URI:...`, `email:...`.
    pub certificates: Vec<String>,
}

/// What a caller of the API may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Drain and flush backends, read files of the policy again, capture frames.
    Operator,
    /// Change the policy.
    Admin,
}

impl Role {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// `[log] format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people, with the time; the default.
    #[default]
    Text,
    /// An object a line (JSON).
    Json,
    /// Lines for the journal: their priority in front (sd-daemon(3)), the time left to it.
    Journal,
}

/// `[cores]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The core of the control thread; default 0.
    pub control: usize,
    /// One core a worker, in the order of `WorkerId`; at least one, all different.
    pub workers: Vec<usize>,
}

/// `[dpdk]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// Whether memory comes from hugetlbfs; default true.
    pub hugepages: bool,
    /// Bytes of memory DPDK takes at start; default 1 GiB.
    pub memory: u64,
    /// Packet buffers in the pool; default [`Policy::buffers_wanted`].
    pub buffers: u32,
    /// Bytes of a frame that fit in one buffer, a multiple of 64; default [`Policy::frame_bytes_wanted`].
    pub buffer_size: u16,
}

/// `[sessions]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Sessions of the whole appliance, both families together; default 262,144.
    pub capacity: usize,
    /// How long what stays silent is kept.
    pub timeouts: Timeouts,
    /// What a TCP packet that belongs to no session and does not open one may do.
    pub midstream: Midstream,
    /// Whether such a packet, when dropped, is answered with a reset (SE-37); default false.
    pub reject_unknown: bool,
    /// Whether sessions go on in the process that follows, by way of `state_folder`; default true.
    pub keep_across_restarts: bool,
}

/// `[fragments]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragments {
    /// Fragments of the whole appliance that may wait for others, each in a packet buffer; default 4,096.
    pub capacity: usize,
    /// Fragments one datagram may come in; default 64.
    pub per_datagram: usize,
    /// How long after its first fragment a datagram must be complete; default 5 s.
    pub timeout: Nanos,
}

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The TCP port they are read at beside the control socket; none where nothing is said.
    pub listen: Option<SocketAddr>,
}

/// `[redirection]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// The program that is run when an `external` service comes into force, and when it is no longer.
    pub hook: PathBuf,
    /// How long one run may take; default 10 s.
    pub timeout: Nanos,
}

impl Redirection {
    /// How long one run may take where nothing is said.
    pub const TIMEOUT: Nanos = Nanos::from_secs(10);
}

/// Whether TCP connections that were already under way are taken up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Midstream {
    /// Only a SYN opens a session. The default.
    #[default]
    Strict,
    /// Any plausible segment that the firewall allows opens one: for the hour after a restart.
    Loose,
}

/// `[sessions.timeouts]`: only what the file says; `None` leaves the session table's own default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, after the first SYN.
    pub tcp_syn: Option<Nanos>,
    /// TCP, after the SYN was answered.
    pub tcp_syn_received: Option<Nanos>,
    /// TCP, established.
    pub tcp_established: Option<Nanos>,
    /// TCP, after the first FIN.
    pub tcp_closing: Option<Nanos>,
    /// TCP, after both FINs.
    pub tcp_time_wait: Option<Nanos>,
    /// TCP, after a reset.
    pub tcp_closed: Option<Nanos>,
    /// UDP, until the first answer.
    pub udp_one_way: Option<Nanos>,
    /// UDP, after the first answer.
    pub udp_two_way: Option<Nanos>,
    /// ICMP echo.
    pub icmp: Option<Nanos>,
    /// Every other protocol.
    pub other: Option<Nanos>,
    /// UDP through NAT64.
    pub nat64_udp: Option<Nanos>,
    /// TCP through NAT64 that is not established.
    pub nat64_tcp_transitory: Option<Nanos>,
    /// Echo through NAT64.
    pub nat64_icmp: Option<Nanos>,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, unique.
    pub name: String,
    /// The DPDK device string: a PCI address or a virtual device, with its arguments.
    pub device: String,
    /// The zone it is in.
    pub zone: ZoneId,
    /// The MAC address it is given; `None` keeps the device's own.
    pub mac: Option<MacAddr>,
    /// Its addresses, each with the prefix that is on the link; host bits are kept. Only a paired port has none.
    pub addresses: Vec<IpNet>,
    /// Largest IP packet; default 1500.
    pub mtu: u16,
    /// Queue pairs; `None` takes one a worker, or as many as the device has.
    pub queues: Option<u16>,
    /// The name of its interface in the kernel, 15 bytes at most; `None` when `kernel = false`. Default `mr-` and the
    /// port's name, cut to fit.
    pub kernel_interface: Option<String>,
}

impl Port {
    /// What of its device only one process of a machine can have: a PCI address, a Linux interface. `None` for devices that
    /// every process makes for itself.
    #[must_use]
    pub fn exclusive_device(&self) -> Option<String> {
        Device::parse(&self.device).ok()?.exclusive()
    }
}

/// `[[tenant]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name, unique among tenants.
    pub name: String,
    /// The VLANs that are its own, at least one; by the outermost tag of a frame.
    pub vlans: Vec<RangeInclusive<u16>>,
}

/// `[session_log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLog {
    /// What records are written as.
    pub format: SessionLogFormat,
    /// Where they go.
    pub collector: Collector,
    /// What is told of, at least one; default all.
    pub events: SessionEvents,
    /// The observation domain of IPFIX; default 1.
    pub domain: u32,
    /// How often templates of IPFIX are repeated over UDP, and statistics sent; default 60 s.
    pub template_interval: Nanos,
    /// Bytes of an IPFIX message at most; default 1400.
    pub message_size: u16,
    /// Records each worker may be ahead of the collector, the excess is counted; default 65,536.
    pub queue: usize,
}

/// What records of sessions are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionLogFormat {
    /// Messages of RFC 7011.
    Ipfix,
    /// Lines of JSON.
    Json,
}

impl SessionLogFormat {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipfix => "ipfix",
            Self::Json => "json",
        }
    }
}

/// Where records of sessions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collector {
    /// To this address, by UDP.
    Udp(SocketAddr),
    /// To this address, by TCP.
    Tcp(SocketAddr),
    /// To a socket of this machine.
    Unix(PathBuf),
}

/// What is told of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEvents {
    /// That they open.
    pub open: bool,
    /// That they end, with what has passed.
    pub close: bool,
    /// That addresses or ports are rewritten, and no more.
    pub nat: bool,
}

/// `[[neighbor]]`: a neighbor whose MAC address is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// The port it is behind.
    pub port: PortId,
    /// Its address, on the link of that port.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
}

/// `[firewall]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// What happens when no rule matches; default deny.
    pub default: Action,
    /// Rules by `RuleId`, first match wins; address sets are already put in.
    pub rules: Vec<Rule>,
    /// All rules with those that are staged in their places, first match first; empty where none is staged.
    pub staged: Vec<Rule>,
    /// The named address sets, as written.
    pub sets: Vec<AddressSet>,
    /// Log records a worker writes in a second, the excess is counted (SE-39); default 100.
    pub log_rate: PerSecond,
}

/// `[[zone]]`: what is asked of those who come from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneTerms {
    /// Of their addresses.
    pub sources: ZoneSources,
    /// Of the IPv6 extension headers in front.
    pub extensions: ExtensionPolicy,
    /// Sessions one source may have open.
    pub sessions_per_source: Option<u32>,
}

/// `[[blocklist]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocklist {
    /// Its name, unique among blocklists.
    pub name: String,
    /// The file with its prefixes, a path from the root.
    pub file: PathBuf,
    /// Zones whose packets it concerns; empty for all.
    pub from: Vec<ZoneId>,
}

/// `[[firewall.set]]`: prefixes under one name, `@name` in the `source` and `destination` of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name, unique among sets.
    pub name: String,
    /// Its prefixes, at least one.
    pub addresses: Vec<IpNet>,
}

/// `[[virtual_service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the balancer works by.
    pub spec: ServiceSpec,
    /// How its backends are probed.
    pub health: Health,
}

/// `[virtual_service.health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What a probe is; default `tcp` for TCP services and `none` for UDP ones.
    pub kind: Probe,
    /// From one probe to the next; default 1 s.
    pub interval: Nanos,
    /// How long an answer may take, not above `interval`; default 500 ms, or `interval` when that is shorter.
    pub timeout: Nanos,
    /// Answers in a row that make a backend up; default 2.
    pub rise: u32,
    /// Misses in a row that make it failed; default 3.
    pub fall: u32,
    /// The port that is probed instead of the backend's own.
    pub port: Option<u16>,
}

/// What a health probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// There is none: the backend counts as up.
    None,
    /// A TCP connection that opens.
    Tcp,
    /// An ICMP or `ICMPv6` echo that is answered.
    Icmp,
    /// An HTTP/1.1 GET whose status is as expected.
    Http {
        /// The path asked for; default `/`.
        path: String,
        /// The `Host` header; `None` for the backend's address and port.
        host: Option<String>,
        /// The lowest status that is well; default 200.
        status_min: u16,
        /// The highest status that is well; default 399.
        status_max: u16,
    },
}

impl Probe {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tcp => "tcp",
            Self::Icmp => "icmp",
            Self::Http { .. } => "http",
        }
    }
}

impl Policy {
    /// The pair of a port: its number, and the other port.
    #[must_use]
    pub fn pair_of(&self, port: PortId) -> Option<(usize, PortId)> {
        self.pairs.iter().enumerate().find_map(|(number, &[one, other])| match port {
            _ if port == one => Some((number, other)),
            _ if port == other => Some((number, one)),
            _ => None,
        })
    }
}

impl Service {
    /// The port a probe of `backend` goes to: the one `[virtual_service.health]` says, else the backend's own, else the
    /// first of the service.
    #[must_use]
    pub fn probe_port(&self, backend: &BackendSpec) -> u16 {
        let first = || self.spec.ports.first().map_or(0, |range| range.first());
        self.health.port.or(backend.port).unwrap_or_else(first)
    }
}
