//! `[[destination_nat]]`: forwards from a port of the appliance to a server behind it.

use std::collections::HashMap;
use std::net::IpAddr;

use stage::PortRange;
use stage::balancer::ServiceProtocol;
use stage::translate::ForwardRule;

use crate::address::{host, prefix};
use crate::balancer::{PROTOCOLS, ServiceRead};
use crate::findings::{At, Finding, Findings, Spot};
use crate::kind;
use crate::links::Links;
use crate::names::Names;
use crate::port_list::{port, port_range};
use crate::routes::Routes;
use crate::section::Section;
use crate::translate::pool;
use crate::zones::Zones;

/// A forward, and where its parts are written.
#[derive(Debug)]
pub(crate) struct ForwardRead {
    pub(crate) rule: ForwardRule,
    pub(crate) title: String,
    pub(crate) spot: Spot,
    pub(crate) address: Option<At<IpAddr>>,
    ports: Option<At<PortRange>>,
    to_address: Option<At<IpAddr>>,
}

/// Reads every `[[destination_nat]]`.
pub(crate) fn forwards(file: &mut Section<'_>, zones: &Zones, links: &Links, findings: &Findings) -> Vec<ForwardRead> {
    let mut names = Names::of("forwards", findings);
    let mut read = Vec::new();
    for mut section in file.tables("destination_nat") {
        let name = section.name();
        names.take(&name);
        let from = section.list("from", kind::name);
        let source = section.list("source", prefix);
        let address = section.required("address", host, "say what clients ask: address = \"198.51.100.1\"");
        let protocol = section.required("protocol", kind::choice(PROTOCOLS), "write protocol = \"tcp\" or \"udp\"");
        let ports = section.required("ports", port_range, "say which ports clients ask: ports = \"8080\"");
        let to_address = section.required("to_address", host, "say where to: to_address = \"10.0.0.11\"");
        let to_port = section.optional("to_port", port);
        if let Some(address) = &address {
            pool(&section, core::slice::from_ref(address), links);
        }
        same_version(&section, address.as_ref(), &source, to_address.as_ref());
        let range = ports.as_ref().map_or(PortRange::single(1), |ports| ports.value);
        if let Some(to_port) =
            to_port.as_ref().filter(|to| to.value.checked_add(range.last() - range.first()).is_none())
        {
            let message = format!("the ports {range} do not fit from {} on", to_port.value);
            let finding = Finding::error("bad-port", &to_port.spot, message).contradicts(&section.spot_of("ports"));
            section.report(finding.advice("the first goes to `to_port`, the others follow: write a lower one"));
        }
        let unspecified = IpAddr::from([0; 4]);
        let rule = ForwardRule {
            name: name.value,
            from: zones.resolve(&section, &from),
            source: source.iter().map(|source| source.value).collect(),
            address: address.as_ref().map_or(unspecified, |at| at.value),
            protocol: protocol.map_or(ServiceProtocol::Tcp, |protocol| protocol.value),
            ports: range,
            to_address: to_address.as_ref().map_or(unspecified, |at| at.value),
            to_port: to_port.map_or(range.first(), |at| at.value),
        };
        let (title, spot) = (section.title.clone(), section.spot.clone());
        read.push(ForwardRead { rule, title, spot, address, ports, to_address });
        section.finish();
    }
    read
}

/// Reports a server or sources of another IP version than the address that is asked.
fn same_version(
    section: &Section<'_>,
    address: Option<&At<IpAddr>>,
    source: &[At<ipnet::IpNet>],
    to_address: Option<&At<IpAddr>>,
) {
    let Some(address) = address else { return };
    if let Some(to) = to_address.filter(|to| to.value.is_ipv4() != address.value.is_ipv4()) {
        let message = format!("{} leads from {} to {}, of another IP version", section.title, address.value, to.value);
        let finding = Finding::error("family-mismatch", &to.spot, message).contradicts(&address.spot);
        section.report(finding.advice("a forward stays in one version; write a server of the same"));
    }
    if let Some(source) = source.iter().find(|it| it.value.addr().is_ipv4() != address.value.is_ipv4()) {
        let message =
            format!("{} is asked at {}, which no source in {} can", section.title, address.value, source.value);
        let finding = Finding::error("family-mismatch", &source.spot, message).contradicts(&address.spot);
        section.report(finding.advice("write sources of the same IP version, or leave them out"));
    }
}

/// What is asked at one address and protocol: the ports, where they are written, and by whom.
type Asked<'r> = (PortRange, &'r Spot, &'r str);

/// Reports ports that two forwards, or a forward and a virtual service, would both take.
pub(crate) fn overlaps(forwards: &[ForwardRead], services: &[ServiceRead], findings: &Findings) {
    let mut places: HashMap<(IpAddr, ServiceProtocol), Vec<Asked<'_>>> = HashMap::new();
    for read in services {
        let Some(address) = &read.address else { continue };
        let taken = places.entry((address.value, read.service.spec.protocol)).or_default();
        taken.extend(read.ports.iter().map(|range| (range.value, &range.spot, read.title.as_str())));
    }
    for read in forwards {
        let (Some(address), Some(ports)) = (&read.address, &read.ports) else { continue };
        let taken = places.entry((address.value, read.rule.protocol)).or_default();
        if let Some((range, spot, title)) = taken.iter().find(|(range, ..)| range.overlaps(ports.value)) {
            let place = format!("{} {}", address.value, read.rule.protocol.name());
            let message = format!("{} and {title} overlap: ports {} and {range} of {place}", read.title, ports.value);
            let finding = Finding::error("overlapping-forwards", &ports.spot, message).contradicts(spot);
            findings.report(finding.advice("a port of an address leads to one place"));
        }
        taken.push((ports.value, &ports.spot, read.title.as_str()));
    }
}

/// Reports servers that are this appliance itself, or where no route leads.
pub(crate) fn servers(
    forwards: &[ForwardRead],
    services: &[ServiceRead],
    links: &Links,
    routes: &Routes,
    findings: &Findings,
) {
    let mut asked: HashMap<IpAddr, &Spot> = HashMap::new();
    asked.extend(services.iter().filter_map(|read| read.address.as_ref()).map(|at| (at.value, &at.spot)));
    asked.extend(forwards.iter().filter_map(|read| read.address.as_ref()).map(|at| (at.value, &at.spot)));
    for read in forwards {
        let Some(to) = &read.to_address else { continue };
        let address = to.value;
        if let Some(own) = links.own(address) {
            let message = format!("{} leads to {address}, an address of this appliance", read.title);
            let finding = Finding::error("own-address", &to.spot, message).contradicts(own);
            findings.report(finding.advice("write the address of the server"));
        } else if let Some(other) = asked.get(&address) {
            let message = format!("{} leads to {address}, which a forward or virtual service answers for", read.title);
            let finding = Finding::error("forward-loop", &to.spot, message).contradicts(other);
            findings.report(finding.advice("write the server's own address"));
        } else if links.is_network_or_broadcast(address) {
            let message = format!("{} leads to {address}, which names a whole network", read.title);
            findings.report(Finding::error("bad-address", &to.spot, message).advice("write the server's address"));
        } else if !routes.reach(links, address) {
            let message = format!("no route leads to {address}, the server of {}", read.title);
            let advice = format!("add a [[route]], or mend the address; {}", links.words(address.is_ipv4()));
            findings.report(Finding::error("unreachable-server", &to.spot, message).advice(advice));
        }
    }
}
