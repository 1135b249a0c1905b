//! What only shows when all sections are read: overlaps, ways that lead nowhere, rules without effect, what does not fit.
//!
//! Takes the sections as [`file`](crate::file) read them and makes the policy; sections that had faults take part as far
//! as they could be read, so that one mistake does not hide another or cause a second message.

use std::collections::HashMap;
use std::net::IpAddr;

use stage::PortRange;
use stage::balancer::{Attract, Mode, ServiceProtocol};
use stage::firewall::{Action, ProtocolMatch, Rule, expand, shadowed};

use crate::balancer::ServiceRead;
use crate::decapsulate;
use crate::file::File;
use crate::findings::{At, Finding, Findings, Spot};
use crate::firewall::FirewallRead;
use crate::forward::{self, ForwardRead};
use crate::links::Links;
use crate::listen;
use crate::policy::{Dpdk, Metrics, Policy};
use crate::ports::PortRead;
use crate::prefix_map::PrefixMap;
use crate::routes::Routes;
use crate::size::words;
use units::{PortId, ZoneId};

/// The policy of a file. It is of use only when `findings` has no error afterwards.
pub(crate) fn validate(file: File, findings: &Findings) -> Policy {
    listen::apart(file.api.as_ref(), file.metrics.as_ref(), findings);
    overlapping_services(&file.services, findings);
    attracted_two_ways(&file.services, findings);
    file.source_nat.beside_services(&file.services, findings);
    file.nat64.beside(&file.source_nat, &file.services, findings);
    forward::overlaps(&file.forwards, &file.services, findings);
    forward::servers(&file.forwards, &file.services, &file.links, &file.routes, findings);
    decapsulate::hidden(&file.endings, &file.services, &file.forwards, findings);
    let taken = Taken::of(&file);
    next_hops(&file.routes, &taken, findings);
    backends(&file.services, &file.links, &file.routes, &taken, findings);
    zones_of_services(&file, findings);
    queues(&file.ports.ports, file.cores.workers.len(), findings);
    if file.firewall.complete {
        rules(&file.firewall, findings);
        if findings.errors() == 0 {
            closed_services(&file.services, &file.firewall, findings);
            closed_forwards(&file.forwards, &file.firewall, findings);
        }
    }
    let dpdk = Dpdk { hugepages: file.dpdk.hugepages, memory: file.dpdk.memory, buffers: 0, buffer_size: 0 };
    let mut policy = Policy {
        appliance: file.appliance,
        api: file.api.map(|api| api.value),
        log_format: file.log_format,
        cores: file.cores,
        dpdk,
        sessions: file.sessions,
        fragments: file.fragments,
        metrics: Metrics { listen: file.metrics.map(|listen| listen.value) },
        session_log: file.session_log,
        redirection: file.redirection,
        zones: file.ports.zones.names,
        ports: file.ports.ports.into_iter().map(|read| read.port).collect(),
        pairs: file.pairs,
        tenants: file.tenants,
        routes: file.routes.routes,
        neighbors: file.neighbors,
        firewall: file.firewall.firewall,
        blocklists: file.blocklists,
        zone_terms: file.zone_terms,
        source_nat: file.source_nat.rules,
        nat64: file.nat64.rules,
        endings: file.endings.into_iter().map(|read| read.value).collect(),
        destination_nat: file.forwards.into_iter().map(|read| read.rule).collect(),
        services: file.services.into_iter().map(|read| read.service).collect(),
    };
    let wanted = policy.buffers_wanted();
    policy.dpdk.buffers = file.dpdk.buffers.as_ref().map_or(wanted, |buffers| buffers.value);
    if let Some(few) = file.dpdk.buffers.filter(|buffers| buffers.value < wanted) {
        let message = format!("{} packet buffers are fewer than queues and rings can hold", few.value);
        let finding = Finding::warning("few-buffers", &few.spot, message);
        findings.report(
            finding.advice(format!("when they run out packets are lost; leave `buffers` out, or write {wanted}")),
        );
    }
    policy.dpdk.buffer_size = buffer_size(&policy, file.dpdk.buffer_size, findings);
    let needed = policy.memory_needed();
    if file.dpdk.complete && needed > policy.dpdk.memory {
        let buffers = policy.dpdk.buffers;
        let message = format!("{buffers} packet buffers do not fit into {} of memory", words(policy.dpdk.memory));
        let advice =
            format!("write memory = \"{}\" or more, or fewer buffers", words(needed.next_multiple_of(64 << 20)));
        findings.report(Finding::error("does-not-fit", &file.dpdk.memory_spot, message).advice(advice));
    }
    policy
}

/// The size of a packet buffer: as written, when the largest frame of every port fits it.
fn buffer_size(policy: &Policy, written: Option<At<u16>>, findings: &Findings) -> u16 {
    let Some(written) = written else { return policy.frame_bytes_wanted() };
    let needed = policy.frame_bytes_needed();
    if written.value < needed {
        let message = format!("a frame of {needed} bytes does not fit into packet buffers of {}", written.value);
        let advice = format!("write {needed} or more, or a smaller `mtu` on every port that has a larger one");
        findings.report(Finding::error("does-not-fit", &written.spot, message).advice(advice));
    }
    written.value.next_multiple_of(64)
}

/// Reports ports that two services, or one twice, balance on the same address and protocol.
fn overlapping_services(services: &[ServiceRead], findings: &Findings) {
    type Served<'s> = (PortRange, &'s Spot, &'s ServiceRead);
    let mut places: HashMap<(IpAddr, ServiceProtocol), Vec<Served<'_>>> = HashMap::new();
    for read in services {
        let Some(address) = &read.address else { continue };
        let taken = places.entry((address.value, read.service.spec.protocol)).or_default();
        taken.extend(read.ports.iter().map(|range| (range.value, &range.spot, read)));
    }
    for ((address, protocol), mut taken) in places {
        taken.sort_by_key(|(range, spot, _)| (*range, spot.offset));
        let mut widest: Option<Served<'_>> = None;
        for next in taken {
            let Some(before) = widest.filter(|before| before.0.overlaps(next.0)) else {
                widest = Some(next);
                continue;
            };
            // The later one in the file is the one to mend.
            let (first, second) = if before.1.offset < next.1.offset { (before, next) } else { (next, before) };
            let message = if core::ptr::eq(first.2, second.2) {
                format!("the ports {} and {} of {} overlap", first.0, second.0, second.2.title)
            } else {
                let place = format!("{address} {}", protocol.name());
                format!(
                    "{} and {} overlap: ports {} and {} of {place}",
                    second.2.title, first.2.title, second.0, first.0
                )
            };
            let finding = Finding::error("overlapping-services", second.1, message).contradicts(first.1);
            findings.report(finding.advice("a port of an address belongs to one service"));
            if next.0.last() > before.0.last() {
                widest = Some(next);
            }
        }
    }
}

/// Reports services of one address that are attracted in different ways: the appliance answers for an address or it does not.
fn attracted_two_ways(services: &[ServiceRead], findings: &Findings) {
    let mut first: HashMap<IpAddr, &ServiceRead> = HashMap::new();
    for read in services {
        let Some(address) = &read.address else { continue };
        let before = *first.entry(address.value).or_insert(read);
        let (attract, other) = (read.service.spec.attract, before.service.spec.attract);
        if attract != other {
            let message = format!(
                "{} is attracted \"{}\" and {} \"{}\", at one address",
                read.title,
                attract.name(),
                before.title,
                other.name()
            );
            let finding = Finding::error("attracted-two-ways", &read.attract_spot, message);
            findings.report(finding.contradicts(&before.attract_spot).advice("write the same `attract` for both"));
        }
    }
}

/// Addresses that the appliance answers for though no port has them, and where they are written.
struct Taken<'f> {
    services: HashMap<IpAddr, &'f Spot>,
    pools: HashMap<IpAddr, &'f Spot>,
}

impl<'f> Taken<'f> {
    fn of(file: &'f File) -> Self {
        let services = file.services.iter().filter_map(|read| read.address.as_ref());
        let pools = file.source_nat.addresses.iter().chain(file.services.iter().flat_map(|read| &read.source_address));
        let pools = pools.chain(&file.nat64.addresses);
        let pools = pools.chain(file.forwards.iter().filter_map(|read| read.address.as_ref()));
        Self {
            services: services.map(|at| (at.value, &at.spot)).collect(),
            pools: pools.map(|at| (at.value, &at.spot)).collect(),
        }
    }
}

/// Reports next hops that are addresses the appliance answers for itself.
fn next_hops(routes: &Routes, taken: &Taken<'_>, findings: &Findings) {
    for via in &routes.next_hops {
        let (what, other) = match (taken.services.get(&via.value), taken.pools.get(&via.value)) {
            (Some(service), _) => ("the address of a virtual service", service),
            (None, Some(pool)) => ("an address that hides other sources or has forwards", pool),
            (None, None) => continue,
        };
        let message = format!("the next hop {} is {what}, so it is this appliance itself", via.value);
        let finding = Finding::error("own-address", &via.spot, message).contradicts(other);
        findings.report(finding.advice("write the address of the router on that link"));
    }
}

/// Reports backends that are this appliance itself, one of its services, or where no route leads.
fn backends(services: &[ServiceRead], links: &Links, routes: &Routes, taken: &Taken<'_>, findings: &Findings) {
    for read in services {
        if let Some(address) = read.address.as_ref().filter(|at| links.is_network_or_broadcast(at.value)) {
            let message = format!("{} has the address {}, which names a whole network", read.title, address.value);
            findings
                .report(Finding::error("bad-address", &address.spot, message).advice("write another address of it"));
        }
        let in_line = read.service.spec.attract == Attract::InLine;
        for backend in &read.backends {
            let address = backend.value;
            // In line the station that has the service's address may well be one of its backends.
            let itself = in_line && address == read.service.spec.address;
            if let Some(own) = links.own(address) {
                let message = format!("the backend {address} is an address of this appliance");
                let finding = Finding::error("own-address", &backend.spot, message).contradicts(own);
                findings.report(finding.advice("write the address of the server"));
            } else if let Some(service) = taken.services.get(&address).filter(|_| !itself) {
                let message =
                    format!("the backend {address} is the address of a virtual service: traffic would go in circles");
                let finding = Finding::error("backend-loop", &backend.spot, message).contradicts(service);
                findings.report(finding.advice("write the server's own address"));
            } else if let Some(pool) = taken.pools.get(&address) {
                let message =
                    format!("the backend {address} is also an address that hides other sources or has forwards");
                let finding = Finding::error("own-address", &backend.spot, message).contradicts(pool);
                findings.report(
                    finding.advice("an address belongs to the server or to this appliance; mend one of the two"),
                );
            } else if links.is_network_or_broadcast(address) {
                let message = format!("the backend {address} is no station: it names its whole network");
                findings
                    .report(Finding::error("bad-address", &backend.spot, message).advice("write the server's address"));
            } else if !routes.reach(links, address) && in_line {
                if read.service.spec.probed {
                    let message =
                        format!("the backend {address} is probed, and no address of the appliance leads there");
                    let advice = "write health = { kind = \"none\" }, or give the paired port on its side `addresses`";
                    findings.report(Finding::error("unreachable-backend", &backend.spot, message).advice(advice));
                }
            } else if !routes.reach(links, address) {
                let message = format!("no route leads to the backend {address}");
                let advice = format!("add a [[route]], or mend the address; {}", links.words(address.is_ipv4()));
                findings.report(Finding::error("unreachable-backend", &backend.spot, message).advice(advice));
            } else if read.service.spec.mode == Mode::Direct
                && !in_line
                && links.complete
                && links.port_of(address).is_none()
            {
                let (message, advice) = if read.service.spec.is_tier() {
                    let message = format!(
                        "the instance {address} is behind a router, and packets that it hands back would not be told from others"
                    );
                    (message, format!("move it; {}", links.words(address.is_ipv4())))
                } else {
                    let message = format!(
                        "the backend {address} is behind a router, and mode \"direct\" reaches only what is on a link"
                    );
                    (message, format!("write mode = \"nat\", or move it; {}", links.words(address.is_ipv4())))
                };
                findings.report(Finding::error("backend-not-on-link", &backend.spot, message).advice(advice));
            }
        }
    }
}

/// Reports services whose backends are in several zones: rules are asked before a backend is chosen, with one zone.
fn zones_of_services(file: &File, findings: &Findings) {
    let mut ways: PrefixMap<PortId> = PrefixMap::default();
    for route in &file.routes.routes {
        ways.entry(route.to).or_insert(route.port);
    }
    let zone = |address: IpAddr| {
        let routed = || ways.containing(address).next().map(|(_, &port)| port);
        let port = file.links.port_of(address).or_else(routed)?;
        file.ports.ports.get(port.index()).map(|read| read.port.zone)
    };
    for read in file.services.iter().filter(|read| !read.service.spec.is_tier()) {
        // Of another version than the service they can only be in a tunnel; elsewhere that is told already.
        let tunneled = matches!(read.service.spec.mode, Mode::Tunnel(_));
        let version = |backend: &&At<IpAddr>| {
            tunneled || read.address.as_ref().is_none_or(|at| at.value.is_ipv4() == backend.value.is_ipv4())
        };
        let mut zones =
            read.backends.iter().filter(version).filter_map(|backend| Some((backend, zone(backend.value)?)));
        let Some((first, zone)) = zones.next() else { continue };
        let Some((other, elsewhere)) = zones.find(|&(_, other)| other != zone) else { continue };
        let name = |zone: ZoneId| file.ports.zones.names.get(zone.index()).map_or("?", String::as_str);
        let message = format!(
            "{} has backends in zone \"{}\" and in zone \"{}\", and rules know a service by one zone",
            read.title,
            name(zone),
            name(elsewhere)
        );
        let finding = Finding::error("backends-in-several-zones", &other.spot, message).contradicts(&first.spot);
        findings.report(finding.advice("make a service for each zone, or put both ports into one zone"));
    }
}

/// Reports ports with more queues than there are workers to poll them.
fn queues(ports: &[PortRead], workers: usize, findings: &Findings) {
    for read in ports {
        let Some(queues) = read.port.queues.filter(|&queues| workers > 0 && usize::from(queues) > workers) else {
            continue;
        };
        let message = format!("port \"{}\" has {queues} queues and there are {workers} workers", read.port.name);
        let advice = "leave `queues` out to have one a worker";
        findings.report(Finding::warning("more-queues-than-workers", &read.queues_spot, message).advice(advice));
    }
}

/// Reports rules that can never match, and more of them than the classifier takes.
fn rules(read: &FirewallRead, findings: &Findings) {
    let rules = &read.firewall.rules;
    for shadow in shadowed(rules) {
        let (Some(rule), Some(spot)) = (rules.get(shadow.rule.index()), read.rules.get(shadow.rule.index())) else {
            continue;
        };
        let earlier = shadow.by.and_then(|by| Some((rules.get(by.index())?, read.rules.get(by.index())?)));
        let finding = match earlier {
            Some((by, at)) => {
                let message =
                    format!("the rule \"{}\" can never match: \"{}\" takes all of it before", rule.name, by.name);
                let advice =
                    if rule.action == by.action { "remove it" } else { "move it before that one, or narrow that one" };
                Finding::warning("rule-never-matches", spot, message).contradicts(at).advice(advice)
            }
            None => {
                let message = format!("the rule \"{}\" can never match: no packet is all it asks for", rule.name);
                let advice = "make its source, destination and ICMP types of one IP version";
                Finding::warning("rule-never-matches", spot, message).advice(advice)
            }
        };
        findings.report(finding);
    }
    if let Err(error) = expand(rules) {
        let spot = rules.iter().position(|rule| rule.name == error.rule).and_then(|place| read.rules.get(place));
        if let Some(spot) = spot {
            let advice = "split it, or name fewer sources, destinations, ports or zones in it";
            findings.report(Finding::error("does-not-fit", spot, error.to_string()).advice(advice));
        }
    }
}

/// Reports services that no rule lets a client reach.
fn closed_services(services: &[ServiceRead], firewall: &FirewallRead, findings: &Findings) {
    if firewall.firewall.default == Action::Allow {
        return;
    }
    let mut anywhere: Vec<&Rule> = Vec::new();
    let mut by_destination: PrefixMap<Vec<&Rule>> = PrefixMap::default();
    for rule in firewall.firewall.rules.iter().filter(|rule| rule.action == Action::Allow) {
        if rule.destination.is_empty() {
            anywhere.push(rule);
        }
        for &destination in &rule.destination {
            by_destination.entry(destination).or_default().push(rule);
        }
    }
    for read in services.iter().filter(|read| !read.service.spec.is_tier()) {
        let spec = &read.service.spec;
        let there = by_destination.containing(spec.address).flat_map(|(_, rules)| rules.iter());
        if !anywhere.iter().chain(there).any(|rule| may_open(rule, spec.protocol, &spec.ports)) {
            let message = format!("no firewall rule lets a client reach {}", read.title);
            let range = spec.ports.first().map_or_else(String::new, ToString::to_string);
            let advice = format!(
                "add a [[firewall.rule]] with action = \"allow\", destination = [\"{}\"], protocol = \"{}\", destination_port = [\"{range}\"]",
                spec.address,
                spec.protocol.name()
            );
            findings.report(Finding::warning("service-not-allowed", &read.spot, message).advice(advice));
        }
    }
}

/// Reports forwards that no rule lets a client use.
fn closed_forwards(forwards: &[ForwardRead], firewall: &FirewallRead, findings: &Findings) {
    if firewall.firewall.default == Action::Allow {
        return;
    }
    for read in forwards {
        let rule = &read.rule;
        let allows = |it: &Rule| {
            it.action == Action::Allow
                && (it.destination.is_empty() || it.destination.iter().any(|prefix| prefix.contains(&rule.address)))
                && may_open(it, rule.protocol, &[rule.ports])
        };
        if !firewall.firewall.rules.iter().any(allows) {
            let message = format!("no firewall rule lets a client use {}", read.title);
            let advice = format!(
                "add a [[firewall.rule]] with action = \"allow\", destination = [\"{}\"], protocol = \"{}\", destination_port = [\"{}\"]",
                rule.address,
                rule.protocol.name(),
                rule.ports
            );
            findings.report(Finding::warning("forward-not-allowed", &read.spot, message).advice(advice));
        }
    }
}

/// Whether protocol and ports of an allowing rule admit some client of these ports.
fn may_open(rule: &Rule, asked: ServiceProtocol, ports: &[PortRange]) -> bool {
    let protocol = match rule.protocol {
        ProtocolMatch::Any => true,
        ProtocolMatch::Tcp => asked == ServiceProtocol::Tcp,
        ProtocolMatch::Udp => asked == ServiceProtocol::Udp,
        ProtocolMatch::Icmp | ProtocolMatch::Number(_) => false,
    };
    let overlaps = |range: &PortRange| ports.iter().any(|served| served.overlaps(*range));
    protocol && (rule.destination_port.is_empty() || rule.destination_port.iter().any(overlaps))
}
