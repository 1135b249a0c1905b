//! `[[nat64]]`: IPv6 clients that reach IPv4 servers behind a prefix.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use stage::PortRange;
use stage::translate::Filtering;
use stage::translate::nat64::{MTU_V6_MIN, Nat64Prefix, Nat64Rule};
use toml::de::DeValue;
use units::limits::NAT64_RULES_MAX;

use crate::address::prefix;
use crate::address_range::address_range;
use crate::balancer::ServiceRead;
use crate::findings::{At, Finding, Findings, Spot};
use crate::kind::{self, Wrong, string};
use crate::links::Links;
use crate::names::Names;
use crate::nearest::quoted;
use crate::section::Section;
use crate::translate::{SourceNatRead, pool, ports, spread};
use crate::zones::Zones;

/// NAT64 rules, and where their addresses are written.
#[derive(Debug, Default)]
pub(crate) struct Nat64Read {
    pub(crate) rules: Vec<Nat64Rule>,
    pub(crate) addresses: Vec<At<IpAddr>>,
    /// The rule of each address, by its position.
    owners: Vec<usize>,
}

/// A prefix that IPv4 addresses fit behind.
fn nat64_prefix(value: &DeValue<'_>) -> Result<Nat64Prefix, Wrong> {
    let written = string(value, "a prefix such as \"64:ff9b::/96\"")?;
    let advice = "write a prefix of 32, 40, 48, 56, 64 or 96 bits, such as \"64:ff9b::/96\" (RFC 6052 section 2.2)";
    let net = match prefix(value)? {
        IpNet::V6(net) if written.contains('/') => Nat64Prefix::new(net.network(), net.prefix_len()),
        IpNet::V4(_) | IpNet::V6(_) => None,
    };
    net.ok_or_else(|| Wrong::new("bad-prefix", format!("{} has no place for IPv4 addresses", quoted(written)), advice))
}

/// Reads every `[[nat64]]`.
pub(crate) fn rules(
    file: &mut Section<'_>,
    zones: &Zones,
    links: &Links,
    workers: usize,
    findings: &Findings,
) -> Nat64Read {
    let mut names = Names::of("NAT64 rules", findings);
    let mut read = Nat64Read::default();
    let mut prefixes: Vec<At<Nat64Prefix>> = Vec::new();
    for mut section in file.tables("nat64") {
        if read.rules.len() == NAT64_RULES_MAX {
            let message = format!("there are more than {NAT64_RULES_MAX} NAT64 rules");
            let finding = Finding::error("does-not-fit", &section.spot, message);
            section.report(finding.advice("give one rule several addresses instead"));
        }
        let name = section.name();
        names.take(&name);
        let from = section.list("from", kind::name);
        let source = section.list("source", prefix);
        let wanted = "say behind what clients find IPv4: prefix = \"64:ff9b::/96\"";
        let prefix = section.required("prefix", nat64_prefix, wanted);
        let wanted = "say what servers see: address = [\"198.51.100.1\"]";
        let ranges = section.required_list("address", address_range, wanted);
        let addresses = spread(&section, &ranges, links);
        let ports = ports(&mut section, workers);
        let ports_per_source = section.optional("ports_per_source", kind::integer(1..=64_512)).map(|at| at.value);
        let filtering = section.or("filtering", kind::choice(&Filtering::WORDS), Filtering::default());
        let largest = section.or("ipv6_mtu", kind::integer(MTU_V6_MIN..=9_600), MTU_V6_MIN);
        pool(&section, &addresses, links);
        if let Some(v6) = addresses.iter().find(|at| at.value.is_ipv6()) {
            let message =
                format!("{} hides clients behind {}, which IPv4 servers cannot answer", section.title, v6.value);
            section.report(Finding::error("family-mismatch", &v6.spot, message).advice("write IPv4 addresses"));
        }
        if let Some(v4) = source.iter().find(|at| at.value.addr().is_ipv4()) {
            let message = format!("{} is for IPv6 clients, which none in {} is", section.title, v4.value);
            section.report(Finding::error("family-mismatch", &v4.spot, message).advice("write IPv6 prefixes"));
        }
        if let Some(prefix) = prefix {
            overlapping(&section, &prefix, &prefixes, links);
            prefixes.push(prefix);
        }
        let v4 = |at: &At<IpAddr>| match at.value {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        };
        let rule = Nat64Rule {
            name: name.value,
            prefix: prefixes.last().map_or(Nat64Prefix::WELL_KNOWN, |at| at.value),
            from: zones.resolve(&section, &from),
            source: source.into_iter().map(|source| source.value).collect(),
            address: addresses.iter().filter_map(v4).collect::<Vec<Ipv4Addr>>(),
            ports,
            filtering,
            ports_per_source,
            largest,
        };
        let others = read.addresses.iter().zip(&read.owners);
        let others = others.filter_map(|(at, &owner)| Some((at, read.rules.get(owner)?.ports)));
        shared(&section.title, &addresses, rule.ports, others, findings);
        read.rules.push(rule);
        read.owners.extend(addresses.iter().map(|_| read.rules.len() - 1));
        read.addresses.extend(addresses);
        section.finish();
    }
    read
}

/// Reports a prefix that another rule's overlaps, or behind which the appliance itself is.
fn overlapping(section: &Section<'_>, prefix: &At<Nat64Prefix>, before: &[At<Nat64Prefix>], links: &Links) {
    let net = |prefix: Nat64Prefix| ipnet::Ipv6Net::new_assert(prefix.network(), prefix.length());
    let mine = net(prefix.value);
    let overlaps = |other: &&At<Nat64Prefix>| {
        let other = net(other.value);
        other.contains(&mine) || mine.contains(&other)
    };
    if let Some(other) = before.iter().find(overlaps) {
        let message = format!("the prefixes {} and {} overlap", prefix.value, other.value);
        let finding = Finding::error("overlapping-prefixes", &prefix.spot, message).contradicts(&other.spot);
        section.report(finding.advice("an address belongs to one rule: write another prefix"));
    }
    if let Some(spot) = links.connected_within(IpNet::V6(mine)) {
        let message = format!("the prefix {} has a network of a port inside", prefix.value);
        let finding = Finding::error("overlapping-prefixes", &prefix.spot, message).contradicts(spot);
        section.report(finding.advice("write a prefix that nothing else uses, such as \"64:ff9b::/96\""));
    }
}

/// Reports an address that another pool hands out with common ports.
fn shared<'r>(
    title: &str,
    addresses: &[At<IpAddr>],
    ports: PortRange,
    others: impl Iterator<Item = (&'r At<IpAddr>, PortRange)>,
    findings: &Findings,
) {
    let mine: HashMap<IpAddr, &Spot> = addresses.iter().map(|at| (at.value, &at.spot)).collect();
    for (other, range) in others.filter(|(_, range)| range.overlaps(ports)) {
        let Some(spot) = mine.get(&other.value) else { continue };
        let message = format!("{title} hands out ports {ports} of {}, and another pool {range}", other.value);
        let finding = Finding::error("overlapping-pools", spot, message).contradicts(&other.spot);
        findings.report(finding.advice("give each its own addresses, or ranges of ports that do not overlap"));
        return;
    }
}

impl Nat64Read {
    /// Reports addresses that also hide IPv4 clients: neither pool would know of the other's ports.
    pub(crate) fn beside(&self, source_nat: &SourceNatRead, services: &[ServiceRead], findings: &Findings) {
        for (position, rule) in self.rules.iter().enumerate() {
            let mine = self.addresses.iter().zip(&self.owners).filter(|(_, owner)| **owner == position);
            let mine: Vec<At<IpAddr>> = mine.map(|(at, _)| at.clone()).collect();
            let hiding = source_nat.addresses.iter().zip(&source_nat.owners);
            let hiding = hiding.filter_map(|(at, &owner)| Some((at, source_nat.rules.get(owner)?.ports)));
            let clients = services.iter().flat_map(|read| &read.source_address);
            let clients = clients.map(|at| (at, stage::translate::SourceNatRule::PORTS));
            let title = format!("[[nat64]] {}", quoted(&rule.name));
            shared(&title, &mine, rule.ports, hiding.chain(clients), findings);
        }
    }
}
