//! From a checked policy to the tables in force. Runs in management, off every packet's way; what it makes is immutable.
//!
//! The classifier and the route table come from a [`TableMaker`]: DPDK's in the daemon, the plain ones in tests.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use config::Policy;
use config::policy::Midstream;
use ipnet::IpNet;
use session::{Lingering, Timeouts};
use stage::anti_spoof::Sources;
use stage::balancer::{Algorithm, Attract, Mode, Services};
use stage::blocklist::Blocklists;
use stage::firewall::{Classifier, Linear, Rule, Ruleset, Staged};
use stage::forward::{LinearRoutes, Route, RouteTable};
use stage::limiter::SourceLimits;
use stage::reassembly::Limits;
use stage::translate::nat64::Nat64;
use stage::translate::{DestinationNat, PoolUses, SourceNat};
use stage::tunnel::Endings;
use units::limits::CLASSIFIER_BUILD_BYTES;
use units::{Generation, Nanos, PortId, ZoneId};
use wire::MacAddr;
use worker::{Behind, FragmentBounds, LogEvents, Pair, PortFacts, SessionLog, Snapshot, Steering, Tenants, Tiering};

use crate::blocklist;

/// Makes the tables that have more than one implementation.
pub trait TableMaker: Send + Sync + Debug {
    /// A classifier over these rules.
    ///
    /// # Errors
    /// A sentence: the rules are too many or do not fit in memory.
    fn classifier(&self, rules: &[Rule]) -> Result<Box<dyn Classifier>, String>;

    /// A route table with these routes.
    ///
    /// # Errors
    /// A sentence: the routes do not fit in memory.
    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String>;
}

/// The plain tables: no DPDK, and searches that grow with the policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainTables;

impl TableMaker for PlainTables {
    fn classifier(&self, rules: &[Rule]) -> Result<Box<dyn Classifier>, String> {
        Ok(Box::new(Linear::new(rules)))
    }

    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String> {
        Ok(Arc::new(LinearRoutes::new(routes)))
    }
}

/// Bytes of ordinary memory that building a classifier may take for the moment: never more than half of what is available, so
/// that no policy, whatever its rules, has the kernel end the appliance; at least what a small one takes.
#[must_use]
pub fn memory_for_rules(available: Option<u64>) -> usize {
    let half = available.map_or(CLASSIFIER_BUILD_BYTES, |bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX));
    half.clamp(SMALL_BUILD_BYTES, CLASSIFIER_BUILD_BYTES)
}

/// Bytes that building a classifier for some hundred rules takes.
const SMALL_BUILD_BYTES: usize = 32 << 20;

/// What only the running devices know of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The MAC in use.
    pub mac: MacAddr,
    /// Whether a kernel interface stands beside the port.
    pub kernel: bool,
}

fn timeouts(policy: &Policy) -> Timeouts {
    let (written, usual) = (&policy.sessions.timeouts, Timeouts::default());
    Timeouts {
        tcp_syn: written.tcp_syn.unwrap_or(usual.tcp_syn),
        tcp_syn_received: written.tcp_syn_received.unwrap_or(usual.tcp_syn_received),
        tcp_established: written.tcp_established.unwrap_or(usual.tcp_established),
        tcp_closing: written.tcp_closing.unwrap_or(usual.tcp_closing),
        tcp_time_wait: written.tcp_time_wait.unwrap_or(usual.tcp_time_wait),
        tcp_closed: written.tcp_closed.unwrap_or(usual.tcp_closed),
        udp_one_way: written.udp_one_way.unwrap_or(usual.udp_one_way),
        udp_two_way: written.udp_two_way.unwrap_or(usual.udp_two_way),
        icmp: written.icmp.unwrap_or(usual.icmp),
        other: written.other.unwrap_or(usual.other),
        lingering: Lingering {
            udp: written.nat64_udp.unwrap_or(usual.lingering.udp),
            tcp_transitory: written.nat64_tcp_transitory.unwrap_or(usual.lingering.tcp_transitory),
            icmp: written.nat64_icmp.unwrap_or(usual.lingering.icmp),
        },
    }
}

fn broadcasts(policy: &Policy) -> Vec<Ipv4Addr> {
    let nets = policy.ports.iter().flat_map(|port| &port.addresses);
    nets.filter_map(|net| match net {
        // RFC 3021: a /31 has no broadcast address.
        IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
        IpNet::V4(_) | IpNet::V6(_) => None,
    })
    .collect()
}

/// What goes into the tables of a policy and does not stand in its text.
#[derive(Clone, Debug)]
pub struct Beside<'a> {
    /// Its blocklists, as they were read.
    pub blocklists: Blocklists,
    /// A policy with the same zones whose rules are on probation.
    pub tried: Option<&'a Policy>,
}

/// Compiles `policy` as `generation`, with what the files of its blocklists say now. Counters, limits in use, backends and
/// tenants go on from `previous` under their names.
///
/// # Errors
/// A sentence: some table does not fit, or some file has faults.
pub fn compile(
    policy: &Policy,
    devices: &[Device],
    generation: Generation,
    previous: Option<&Snapshot>,
    tables: &dyn TableMaker,
    steer_secret: u64,
) -> Result<Snapshot, String> {
    let blocklists = blocklist::compile(&policy.blocklists, previous.map(|snapshot| snapshot.sources.blocklists()))?;
    compile_with(Beside { blocklists, tried: None }, policy, devices, generation, previous, tables, steer_secret)
}

/// As [`compile`], with what is beside it: no file is opened.
///
/// # Errors
/// A sentence: some table does not fit.
pub fn compile_with(
    beside: Beside<'_>,
    policy: &Policy,
    devices: &[Device],
    generation: Generation,
    previous: Option<&Snapshot>,
    tables: &dyn TableMaker,
    steer_secret: u64,
) -> Result<Snapshot, String> {
    let mut ports: Vec<PortFacts> = policy
        .ports
        .iter()
        .zip(devices)
        .map(|(port, device)| PortFacts {
            name: port.name.clone(),
            zone: port.zone,
            mac: device.mac,
            mtu: port.mtu,
            addresses: port.addresses.clone(),
            kernel: device.kernel,
            pair: None,
        })
        .collect();
    for ([one, other], number) in policy.pairs.iter().zip(0..) {
        for (port, other) in [(one, other), (other, one)] {
            if let Some(facts) = ports.get_mut(port.index()) {
                facts.pair = Some(Pair { number, other: *other });
            }
        }
    }
    let tenants = policy.tenants.iter().map(|tenant| (tenant.name.as_str(), tenant.vlans.as_slice()));
    let tenants =
        Tenants::compile(tenants, previous.map(|snapshot| &*snapshot.tenants)).map_err(|error| error.to_string())?;
    let own: HashMap<_, _> = policy
        .ports
        .iter()
        .zip(0..)
        .flat_map(|(port, number)| port.addresses.iter().map(move |net| (net.addr(), PortId::new(number))))
        .collect();
    let written = policy.route_table();
    let routes = tables.routes(&written)?;
    let rules = rules(policy, beside.tried, previous.map(|snapshot| &*snapshot.rules), tables)?;
    let specs = policy.services.iter().map(|service| service.spec.clone()).collect();
    let services = Services::compile(specs, previous.map(|snapshot| &*snapshot.services));
    let port_to = |address| routes.lookup(address).and_then(|route| ports.get(route.port.index()));
    let hiding = policy.source_nat.iter().map(|rule| format!("source NAT {}", rule.name));
    let crossing = policy.nat64.iter().map(|rule| format!("NAT64 {}", rule.name));
    let full_nat = |service: &config::policy::Service| service.spec.mode == Mode::FullNat;
    let services_hiding = policy.services.iter().filter(|service| full_nat(service));
    let services_hiding = services_hiding.map(|service| format!("service {}", service.spec.name));
    let pools: Vec<String> = hiding.chain(crossing).chain(services_hiding).collect();
    let pool_uses = PoolUses::compile(&pools, previous.map(|snapshot| &*snapshot.pool_uses));
    let source_nat = SourceNat::new(policy.source_nat.clone(), &pool_uses);
    let nat64 = Nat64::new(policy.nat64.clone(), &pool_uses, policy.source_nat.len());
    let mut numbers = (policy.source_nat.len() + policy.nat64.len()..).map(|position| pool_uses.number(position));
    let tiering = Tiering::compile(&services, &*routes);
    let behind = policy
        .services
        .iter()
        .map(|service| {
            let backends = || service.spec.backends.iter().filter_map(|backend| port_to(backend.address));
            Behind {
                zone: backends().next().map_or(ZoneId::APPLIANCE, |port| port.zone),
                mtu: backends().map(|port| port.mtu).min().unwrap_or(u16::MAX),
                pool: if full_nat(service) { numbers.next() } else { None },
            }
        })
        .collect();
    let before = previous.map(|snapshot| &*snapshot.destination_nat);
    let destination_nat = DestinationNat::new(policy.destination_nat.clone(), before);
    let (source_nat, nat64) = (Arc::new(source_nat), Arc::new(nat64));
    let before = previous.map(|snapshot| &snapshot.steering);
    let zone_of = |route: &Route| ports.get(route.port.index()).map(|port| (route.to, port.zone));
    let led: Vec<_> = written.iter().filter_map(zone_of).collect();
    let steering = Steering::compile(&services, &destination_nat, (&source_nat, &nat64), &led, before);
    let hiding = services.pool_addresses().chain(source_nat.addresses()).chain(nat64.addresses());
    let attracted = |attract| services.iter().map(|service| service.spec()).filter(move |spec| spec.attract == attract);
    let virtuals = |attract| attracted(attract).map(|spec| spec.address);
    let asked = virtuals(Attract::OwnAddress).chain(virtuals(Attract::External)).chain(destination_nat.addresses());
    let ours = own.keys().copied().chain(asked).chain(hiding).collect();
    let unanswered = virtuals(Attract::External).filter(|address| !own.contains_key(address)).collect();
    let watched = attracted(Attract::InLine).flat_map(|spec| spec.backends.iter().map(|backend| backend.address));
    let watched = watched.collect();
    let expected = policy.zone_terms.iter().map(|terms| terms.sources).collect();
    let sources = Sources::new(beside.blocklists, expected);
    Ok(Snapshot {
        generation,
        sources: Arc::new(sources),
        source_limits: SourceLimits::new(
            policy.zone_terms.iter().map(|terms| terms.sessions_per_source).collect(),
            ports.iter().map(|port| port.zone).collect(),
            policy.sessions.capacity,
            previous.map(|snapshot| &snapshot.source_limits),
        ),
        extensions: policy.zone_terms.iter().map(|terms| terms.extensions).collect(),
        own,
        ours: Arc::new(ours),
        unanswered: Arc::new(unanswered),
        watched: Arc::new(watched),
        quiet: Arc::default(),
        tiering: Arc::new(tiering),
        tenants: Arc::new(tenants),
        broadcast: broadcasts(policy),
        rules: Arc::new(rules),
        services: Arc::new(services),
        behind,
        endings: Arc::new(Endings::new(&policy.endings)),
        source_nat,
        destination_nat: Arc::new(destination_nat),
        nat64,
        steering,
        pool_uses: Arc::new(pool_uses),
        timeouts: timeouts(policy),
        fragments: FragmentBounds {
            capacity: policy.fragments.capacity,
            limits: Limits { per_datagram: policy.fragments.per_datagram, timeout: policy.fragments.timeout },
        },
        midstream: match policy.sessions.midstream {
            Midstream::Strict => worker::Midstream::Strict,
            Midstream::Loose => worker::Midstream::Loose,
        },
        reject_unknown: policy.sessions.reject_unknown,
        log_rate: policy.firewall.log_rate,
        session_log: policy.session_log.as_ref().map(|log| {
            session_log(log, policy.cores.workers.len(), previous.and_then(|previous| previous.session_log.as_ref()))
        }),
        steer_secret,
        routes,
        ports,
    })
}

/// The rings of the session log: those there are, where others would be like them, so that what waits in them goes on its way.
fn session_log(
    written: &config::policy::SessionLog,
    workers: usize,
    before: Option<&Arc<SessionLog>>,
) -> Arc<SessionLog> {
    let config::policy::SessionEvents { open, close, nat } = written.events;
    let events = LogEvents { open, close, nat };
    match before.filter(|before| before.is_like(events, workers, written.queue)) {
        Some(before) => Arc::clone(before),
        None => Arc::new(SessionLog::new(events, workers, written.queue)),
    }
}

/// Every address the appliance answers ARP and neighbor solicitations for: those of its ports, the virtual ones it attracts
/// by them, those with forwards, and those that hide clients (source NAT, NAT64 and `full-nat`). In order, each once.
#[must_use]
pub fn answered_addresses(snapshot: &Snapshot) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = snapshot.ours.difference(&snapshot.unanswered).copied().collect();
    addresses.sort_unstable();
    addresses
}

/// Compiles a policy with the plain tables, so that what cannot be compiled is told before anything is started. The tables
/// tell how large they are, rings apart; nothing ever runs on them.
///
/// # Errors
/// As [`compile`].
pub fn rehearse(policy: &Policy) -> Result<Snapshot, String> {
    stage::firewall::expand(&policy.firewall.rules).map_err(|error| error.to_string())?;
    let devices: Vec<Device> = policy
        .ports
        .iter()
        .map(|port| Device { mac: port.mac.unwrap_or(MacAddr::ZERO), kernel: port.kernel_interface.is_some() })
        .collect();
    // A ring can always be made, and thousands of them take their time.
    let mut policy = policy.clone();
    policy.session_log = None;
    for service in &mut policy.services {
        service.spec.algorithm = Algorithm::LeastConnections;
    }
    compile(&policy, &devices, Generation::new(1), None, &PlainTables, 0)
}

/// The rules of a policy. On probation beside them are those of `tried`, a policy with the same zones; without one those the
/// policy itself has staged. Counters and limits in use go on from `previous` under their names.
///
/// # Errors
/// A sentence: the rules do not fit.
pub fn rules(
    policy: &Policy,
    tried: Option<&Policy>,
    previous: Option<&Ruleset>,
    tables: &dyn TableMaker,
) -> Result<Ruleset, String> {
    let firewall = &policy.firewall;
    let classifier = tables.classifier(&firewall.rules)?;
    let ruleset = Ruleset::new(firewall.rules.clone(), firewall.default, classifier, previous);
    let (tried, default) = match tried {
        Some(tried) => (&tried.firewall.rules, tried.firewall.default),
        None if firewall.staged.is_empty() => return Ok(ruleset),
        None => (&firewall.staged, firewall.default),
    };
    let in_force: HashMap<&str, &Rule> = firewall.rules.iter().map(|rule| (rule.name.as_str(), rule)).collect();
    let staged = |rule: &Rule| in_force.get(rule.name.as_str()) != Some(&rule);
    let before = previous.and_then(Ruleset::staged);
    let staged = Staged::new(tried.clone(), staged, default, tables.classifier(tried)?, before);
    Ok(ruleset.with_staged(Some(staged)))
}

/// What separates two policies that only a restart can bring about, each as a sentence's object; empty when nothing does.
#[must_use]
pub fn restart_needed(running: &Policy, wanted: &Policy) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if running.appliance.control_socket != wanted.appliance.control_socket {
        reasons.push("[appliance] control_socket");
    }
    if running.appliance.state_folder != wanted.appliance.state_folder {
        reasons.push("[appliance] state_folder");
    }
    if running.api != wanted.api {
        reasons.push("[api]");
    }
    if running.metrics != wanted.metrics {
        reasons.push("[metrics] listen");
    }
    if running.redirection != wanted.redirection {
        reasons.push("[redirection]");
    }
    if running.cores != wanted.cores {
        reasons.push("[cores]");
    }
    if running.dpdk != wanted.dpdk {
        reasons.push("[dpdk]");
    }
    if running.sessions.capacity != wanted.sessions.capacity {
        reasons.push("[sessions] capacity");
    }
    if running.fragments.capacity != wanted.fragments.capacity {
        reasons.push("[fragments] capacity");
    }
    let devices = |policy: &Policy| -> Vec<_> {
        policy
            .ports
            .iter()
            .map(|port| {
                let hardware = (port.name.clone(), port.device.clone(), port.mac, port.mtu, port.queues);
                (hardware, port.addresses.clone(), port.kernel_interface.clone())
            })
            .collect()
    };
    if devices(running) != devices(wanted) {
        reasons.push("[[port]] (names, devices, MACs, MTUs, queues, addresses, kernel interfaces)");
    }
    if running.pairs != wanted.pairs {
        reasons.push("[[pair]]");
    }
    reasons
}

/// The moment a drain of `service` ends, if it begins now.
#[must_use]
pub fn drain_end(snapshot: &Snapshot, service: &str, now: Nanos) -> Nanos {
    snapshot.services.by_name(service).map_or(now, |service| now + service.spec().drain_timeout)
}
