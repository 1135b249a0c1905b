//! `[[virtual_service]]` and `[[virtual_service.backend]]`: what is balanced over what.

use std::collections::HashMap;
use std::net::IpAddr;

use stage::PortRange;
use stage::balancer::{Algorithm, Attract, BackendSpec, Mode, OnBackendFailure, QuicIds, ServiceProtocol, ServiceSpec};
use stage::introduction::Introduction;
use units::{Nanos, PortId, ServiceId};

use crate::address::host;
use crate::connection_ids;
use crate::duration::duration;
use crate::findings::{At, Finding, Findings, Spot};
use crate::health::health;
use crate::kind::{boolean, choice, integer};
use crate::links::Links;
use crate::names::Names;
use crate::policy::{Probe, Service};
use crate::port_list::{port, port_range};
use crate::section::Section;
use crate::syn_cookies::{half_open_limit, syn_cookies};
use crate::tiers;
use crate::translate::{has_family, pool};
use crate::tunnel::{self, TunnelKind};

pub(crate) const PROTOCOLS: &[(&str, ServiceProtocol)] =
    &[("tcp", ServiceProtocol::Tcp), ("udp", ServiceProtocol::Udp)];

const ATTRACTS: &[(&str, Attract)] =
    &[("inline", Attract::InLine), ("own-address", Attract::OwnAddress), ("external", Attract::External)];

pub(crate) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("round-robin", Algorithm::RoundRobin),
    ("least-connections", Algorithm::LeastConnections),
    ("least-load", Algorithm::LeastLoad),
    ("maglev", Algorithm::Maglev),
    ("source-hash", Algorithm::SourceHash),
];

/// Modes; what a tunnel needs beyond its name is read by [`tunnel`](crate::tunnel).
const MODES: &[(&str, ModeWord)] = &[
    ("nat", ModeWord::Plain(Mode::Nat)),
    ("full-nat", ModeWord::Plain(Mode::FullNat)),
    ("direct", ModeWord::Plain(Mode::Direct)),
    ("ipip", ModeWord::Tunnel(TunnelKind::IpIp)),
    ("gre", ModeWord::Tunnel(TunnelKind::Gre)),
    ("gue", ModeWord::Tunnel(TunnelKind::Gue)),
];

/// A word of `mode`.
#[derive(Clone, Copy, Debug)]
enum ModeWord {
    Plain(Mode),
    Tunnel(TunnelKind),
}

const ON_FAILURE: &[(&str, OnBackendFailure)] =
    &[("reselect", OnBackendFailure::Reselect), ("reset", OnBackendFailure::Reset)];

/// For how long removed backends keep their sessions when the file does not say.
const DRAIN_TIMEOUT: Nanos = Nanos::from_secs(30);

/// Longest drain timeout and persistence.
const DAY: Nanos = Nanos::from_secs(86_400);

/// Largest weight: what the balancers people come from take.
pub(crate) const WEIGHT_MAX: u32 = 65_535;

/// Most hops: what a hop limit can count.
pub(crate) const HOPS_MAX: u32 = 255;

/// A service, and where its parts are written.
#[derive(Debug)]
pub(crate) struct ServiceRead {
    pub(crate) service: Service,
    pub(crate) spot: Spot,
    pub(crate) title: String,
    /// Where its address is written, when it could be read.
    pub(crate) address: Option<At<IpAddr>>,
    /// Where it says how it is attracted.
    pub(crate) attract_spot: Spot,
    pub(crate) ports: Vec<At<PortRange>>,
    pub(crate) source_address: Vec<At<IpAddr>>,
    /// Where each backend that could be read has its address.
    pub(crate) backends: Vec<At<IpAddr>>,
}

/// Reads every `[[virtual_service]]`; `pairs` are the ports that frames pass through.
pub(crate) fn services(
    file: &mut Section<'_>,
    links: &Links,
    pairs: &[[PortId; 2]],
    findings: &Findings,
) -> Vec<ServiceRead> {
    let mut names = Names::of("virtual services", findings);
    let sections = file.tables("virtual_service");
    let read: Vec<_> =
        sections.into_iter().map(|section| service(section, &mut names, links, pairs, findings)).collect();
    let (mut services, tiers): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    // Tiers are services that nobody asks, behind all others.
    for (number, tiers) in tiers.into_iter().enumerate() {
        for tier in tiers {
            let id = ServiceId::new(u32::try_from(services.len()).unwrap_or(u32::MAX));
            names.take(&At { value: tier.service.spec.name.clone(), spot: tier.spot.clone() });
            if let Some(service) = services.get_mut(number) {
                service.service.spec.tiers.push(id);
            }
            services.push(tier);
        }
    }
    tiers::markers(&services, findings);
    services
}

fn service(
    mut section: Section<'_>,
    names: &mut Names<'_>,
    links: &Links,
    pairs: &[[PortId; 2]],
    findings: &Findings,
) -> (ServiceRead, Vec<ServiceRead>) {
    let name = section.name();
    names.take(&name);
    let address = section.required("address", host, "say what clients ask: address = \"198.51.100.10\"");
    let protocol = section.required("protocol", choice(PROTOCOLS), "say which: protocol = \"tcp\" or \"udp\"");
    let protocol = protocol.map_or(ServiceProtocol::Tcp, |protocol| protocol.value);
    let ports = section.required_list("ports", port_range, "say which: ports = [\"80\"] or [\"8000-8100\"]");
    let algorithm = section.or("algorithm", choice(ALGORITHMS), Algorithm::LeastConnections);
    let (mode, tunnel_source) = mode(&mut section, links);
    let answered = address.as_ref().and_then(|at| links.port_of(at.value));
    let routed = answered.is_some_and(|port| !pairs.as_flattened().contains(&port));
    let attract = attract(&mut section, mode, !pairs.is_empty(), routed);
    let mss_clamp = tunnel::mss_clamp(&mut section, protocol);
    let source_address = source_address(&mut section, mode, address.as_ref(), links);
    let (persistence, quic) = persistence(&mut section, protocol);
    let one_shot = one_shot(&mut section, protocol, mode);
    let drain_timeout = section.or("drain_timeout", duration(Nanos::ZERO..=DAY), DRAIN_TIMEOUT);
    let on_backend_failure = section.or("on_backend_failure", choice(ON_FAILURE), OnBackendFailure::Reselect);
    let syn_cookies = syn_cookies(&mut section, protocol, mode);
    let half_open_limit = half_open_limit(&mut section, protocol);
    let introduction = introduction(&mut section, protocol, mode);
    let health = health(&mut section, protocol);
    let backends = backends(&mut section, mode, quic, &ports, address.as_ref(), findings);
    let spec = ServiceSpec {
        name: name.value,
        address: address.as_ref().map_or(IpAddr::from([0; 4]), |address| address.value),
        protocol,
        ports: ports.iter().map(|range| range.value).collect(),
        attract,
        algorithm,
        mode,
        tunnel_source,
        mss_clamp,
        introduction,
        source_address: source_address.iter().map(|address| address.value).collect(),
        persistence,
        quic,
        one_shot,
        drain_timeout,
        on_backend_failure,
        syn_cookies,
        half_open_limit,
        tiers: Vec::new(),
        marker_vlan: None,
        backends: backends.iter().map(|(spec, _)| spec.clone()).collect(),
        probed: health.kind != Probe::None,
    };
    let mut read = ServiceRead {
        service: Service { spec, health },
        spot: section.spot.clone(),
        title: section.title.clone(),
        address,
        attract_spot: section.spot_of("attract"),
        ports,
        source_address,
        backends: backends.into_iter().filter_map(|(_, address)| address).collect(),
    };
    let tiers = tiers::tiers(&mut section, &mut read, findings);
    section.finish();
    (read, tiers)
}

/// Reads `mode`, and what belongs to a tunnel: its encapsulation and where it begins.
fn mode(section: &mut Section<'_>, links: &Links) -> (Mode, Vec<IpAddr>) {
    let word = section.or("mode", choice(MODES), ModeWord::Plain(Mode::Nat));
    let (mode, kind) = match word {
        ModeWord::Plain(mode) => (Some(mode), None),
        ModeWord::Tunnel(kind) => (None, Some(kind)),
    };
    let (encapsulation, source) = tunnel::keys(section, kind, links);
    (mode.unwrap_or(Mode::Tunnel(encapsulation)), source)
}

/// Reads `attract`: in line by default, where something passes in line (SE-14). A service whose address is on the link of a
/// port that nothing passes through has an address of its own.
fn attract(section: &mut Section<'_>, mode: Mode, pairs: bool, routed: bool) -> Attract {
    let default = if pairs && !routed { Attract::InLine } else { Attract::OwnAddress };
    let attract = section.or("attract", choice(ATTRACTS), default);
    if attract != Attract::InLine {
        return attract;
    }
    let refused = |code, key: &str, message: String, advice: &str| {
        section.report(Finding::error(code, &section.spot_of(key), message).advice(advice));
    };
    if !pairs {
        let message =
            format!("{} is attracted in line, and there is no [[pair]] that anything passes through", section.title);
        refused("no-pair", "attract", message, "join two ports: [[pair]] ports = [\"outside\", \"inside\"]");
    }
    if !matches!(mode, Mode::Nat | Mode::Direct) {
        let message = format!(
            "{} is attracted in line, where mode \"{}\" has no address to send from",
            section.title,
            mode.name()
        );
        let advice = "write mode = \"nat\" or \"direct\", or attract = \"own-address\"";
        refused("mode-not-in-line", "mode", message, advice);
    }
    if section.has("syn_cookies") {
        let message = format!("{} is attracted in line, where clients are not asked for SYN cookies", section.title);
        refused("meaningless-key", "syn_cookies", message, "remove it, or write attract = \"own-address\"");
    }
    if section.has("client_address") {
        let message = format!("{} is attracted in line, where packets pass as their clients count them", section.title);
        refused("meaningless-key", "client_address", message, "remove it, or write attract = \"own-address\"");
    }
    attract
}

/// The pool that hides clients: needed by `full-nat`, meaningless otherwise.
fn source_address(
    section: &mut Section<'_>,
    mode: Mode,
    address: Option<&At<IpAddr>>,
    links: &Links,
) -> Vec<At<IpAddr>> {
    let pool_addresses = section.list("source_address", host);
    let advice = "say what backends see instead of the client: source_address = [\"10.0.0.1\"]";
    if mode != Mode::FullNat && section.has("source_address") {
        let message = format!("{} has `source_address`, but its mode is \"{}\"", section.title, mode.name());
        let finding = Finding::error("meaningless-key", &section.spot_of("source_address"), message);
        section.report(finding.advice("write mode = \"full-nat\", or remove it"));
    } else if mode == Mode::FullNat && !section.has("source_address") {
        let message = format!("{} has the mode \"full-nat\" and no `source_address`", section.title);
        section.report(Finding::error("missing-key", &section.spot_of("mode"), message).advice(advice));
    } else if let (Some(first), Some(address)) = (pool_addresses.first(), address)
        && !has_family(&pool_addresses, address.value.is_ipv4())
    {
        let message = format!("{} has no `source_address` of the version of its address", section.title);
        let finding = Finding::error("family-mismatch", &first.spot, message).contradicts(&address.spot);
        section.report(finding.advice("add one"));
    }
    pool(section, &pool_addresses, links);
    pool_addresses
}

/// What a client is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    Source,
    ConnectionId,
}

/// Reads `persistence`: for how long sources keep their backends, or how connection ids name them.
fn persistence(service: &mut Section<'_>, protocol: ServiceProtocol) -> (Option<Nanos>, Option<QuicIds>) {
    let Some(mut section) = service.table("persistence") else { return (None, None) };
    let words = &[("source", KnownBy::Source), ("quic-cid", KnownBy::ConnectionId)];
    let by = section.required("by", choice(words), "say by what: by = \"source\" or \"quic-cid\"");
    let known = by.as_ref().map(|by| by.value);
    let (mut timeout, mut quic) = (None, None);
    if known == Some(KnownBy::ConnectionId) {
        quic = connection_ids::quic_ids(&mut section);
        if let Some(by) = by.filter(|_| protocol != ServiceProtocol::Udp) {
            let message = format!("{} has QUIC connection ids, but its protocol is not \"udp\"", service.title);
            let finding = Finding::error("meaningless-key", &by.spot, message);
            section.report(finding.advice("write protocol = \"udp\", or by = \"source\""));
        }
    } else {
        let advice = "say for how long: timeout = \"5m\"";
        timeout = section.required("timeout", duration(Nanos::from_secs(1)..=DAY), advice);
    }
    section.finish();
    (timeout.map(|timeout| timeout.value), quic)
}

/// Reads `one_shot`.
fn one_shot(section: &mut Section<'_>, protocol: ServiceProtocol, mode: Mode) -> bool {
    let one_shot = section.or("one_shot", boolean, false);
    if one_shot && (protocol != ServiceProtocol::Udp || mode.returns_directly()) {
        let message = format!("{} has `one_shot`, but its answers are not datagrams that pass here", section.title);
        let finding = Finding::error("meaningless-key", &section.spot_of("one_shot"), message);
        section
            .report(finding.advice("remove it: it is for protocol = \"udp\" and the modes \"nat\" and \"full-nat\""));
    }
    one_shot
}

/// Reads the backends of a service, each with the place of its address.
fn backends(
    service: &mut Section<'_>,
    mode: Mode,
    quic: Option<QuicIds>,
    ports: &[At<PortRange>],
    address: Option<&At<IpAddr>>,
    findings: &Findings,
) -> Vec<(BackendSpec, Option<At<IpAddr>>)> {
    let mut names = Names::of("backends of one service", findings);
    let mut seen: HashMap<(IpAddr, Option<u16>), Spot> = HashMap::new();
    let mut server_ids: HashMap<u128, Spot> = HashMap::new();
    let mut backends = Vec::new();
    let sections = service.tables("backend");
    if sections.is_empty() {
        let message = format!("{} has no backend", service.title);
        let advice = "describe at least one below it: [[virtual_service.backend]] with name, address and port";
        service.report(Finding::error("missing-key", &service.spot, message).advice(advice));
    }
    for section in sections {
        let (spec, at) = backend(section, &mut names, mode, quic, &mut server_ids, ports);
        if let Some(at) = &at {
            if let Some(first) = seen.insert((spec.address, spec.port), at.spot.clone()) {
                let port = spec.port.map_or_else(String::new, |port| format!(" port {port}"));
                let message = format!("two backends of the service are at {}{port}", spec.address);
                let finding = Finding::error("duplicate-backend", &at.spot, message).contradicts(&first);
                findings.report(finding.advice("remove one of the two; give one more weight if it should get more"));
            }
            let other_family = |service: &&At<IpAddr>| service.value.is_ipv4() != at.value.is_ipv4();
            if let Some(service) = address.filter(other_family).filter(|_| !matches!(mode, Mode::Tunnel(_))) {
                let message = format!("the backend {} is of another IP version than its service", at.value);
                let finding = Finding::error("family-mismatch", &at.spot, message).contradicts(&service.spot);
                let advice = "a service and its backends have one version; make a service for each, or choose a tunnel";
                findings.report(finding.advice(advice));
            }
        }
        backends.push((spec, at));
    }
    let all_zero = !backends.is_empty() && backends.iter().all(|(spec, _)| spec.weight == 0);
    if all_zero {
        let message = format!("every backend of {} has weight 0", service.title);
        let advice = "give at least one a weight of 1 or more: weight 0 gets no new sessions";
        service.report(Finding::error("all-weights-zero", &service.spot, message).advice(advice));
    } else if !backends.is_empty() && backends.iter().all(|(spec, _)| spec.disabled || spec.weight == 0) {
        let message = format!("every backend of {} is disabled or has weight 0", service.title);
        service
            .report(Finding::warning("no-backend-enabled", &service.spot, message).advice("no client will be served"));
    }
    backends
}

fn backend(
    mut section: Section<'_>,
    names: &mut Names<'_>,
    mode: Mode,
    quic: Option<QuicIds>,
    server_ids: &mut HashMap<u128, Spot>,
    ports: &[At<PortRange>],
) -> (BackendSpec, Option<At<IpAddr>>) {
    let name = section.name();
    names.take(&name);
    let address = section.required("address", host, "say where it is: address = \"10.0.0.11\"");
    let written_port = section.optional("port", port);
    if let (true, Some(port)) = (mode.returns_directly(), &written_port) {
        let same = |range: &At<PortRange>| range.value == PortRange::single(port.value);
        if !ports.is_empty() && !ports.iter().all(same) {
            let message = format!(
                "{} has the port {}, but mode \"{}\" rewrites no ports",
                section.title,
                port.value,
                mode.name()
            );
            let finding = Finding::error("meaningless-key", &port.spot, message);
            section.report(finding.advice("remove it: the backend listens on the ports of the service"));
        }
    }
    let spec = BackendSpec {
        name: name.value,
        address: address.as_ref().map_or(IpAddr::from([0; 4]), |address| address.value),
        port: written_port.map(|port| port.value),
        weight: section.or("weight", integer(0..=WEIGHT_MAX), 1),
        server_id: connection_ids::server_id(&mut section, quic, server_ids),
        hops: section.or("hops", integer(0..=HOPS_MAX), 0),
        disabled: section.or("disabled", boolean, false),
    };
    section.finish();
    (spec, address)
}

/// Whether and how the backends of a service are told of their clients.
fn introduction(section: &mut Section<'_>, protocol: ServiceProtocol, mode: Mode) -> Option<Introduction> {
    let words = &[("proxy-v2", Introduction::ProxyV2), ("tcp-option", Introduction::TcpOption)];
    let written = section.optional("client_address", choice(words))?;
    let why = match (protocol, mode.returns_directly()) {
        (ServiceProtocol::Udp, _) => "only TCP has room for it",
        (ServiceProtocol::Tcp, true) => "its backends see their clients",
        (ServiceProtocol::Tcp, false) => return Some(written.value),
    };
    let message = format!("{} has `client_address`, but {why}", section.title);
    let advice = "remove it, or write protocol = \"tcp\" and mode = \"nat\" or \"full-nat\"";
    section.report(Finding::error("meaningless-key", &written.spot, message).advice(advice));
    None
}
