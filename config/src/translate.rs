//! `[[source_nat]]`: sessions that leave with another source.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use stage::PortRange;
use stage::translate::{Filtering, Mapping, PortSlice, SourceNatRule};
use units::limits::{NAT_ADDRESSES_MAX, NAT_PORT_MIN};
use units::{WorkerId, ZoneId};

use crate::address::prefix;
use crate::address_range::{AddressRange, address_range};
use crate::balancer::ServiceRead;
use crate::findings::{At, Finding, Findings, Spot};
use crate::kind::{self, Wrong};
use crate::links::Links;
use crate::names::Names;
use crate::port_list::port_range;
use crate::section::Section;
use crate::zones::Zones;

/// Source NAT rules, and where their addresses are written.
#[derive(Debug, Default)]
pub(crate) struct SourceNatRead {
    pub(crate) rules: Vec<SourceNatRule>,
    pub(crate) addresses: Vec<At<IpAddr>>,
    /// The rule of each address, by its position.
    pub(crate) owners: Vec<usize>,
}

/// Comparisons after which no further rule is asked whether it can match: two thousand rules, each with each.
const COMPARISONS_MAX: usize = 2_000_000;

/// Reads every `[[source_nat]]`.
pub(crate) fn source_nat(
    file: &mut Section<'_>,
    zones: &Zones,
    links: &Links,
    workers: usize,
    findings: &Findings,
) -> SourceNatRead {
    let mut names = Names::of("source NAT rules", findings);
    let mut read = SourceNatRead::default();
    let mut spots: Vec<Spot> = Vec::new();
    for mut section in file.tables("source_nat") {
        let name = section.name();
        names.take(&name);
        let from = section.list("from", kind::name);
        let to = section.list("to", kind::name);
        let source = section.list("source", prefix);
        let wanted = "say what they leave with: address = [\"198.51.100.1\"]";
        let ranges = section.required_list("address", address_range, wanted);
        let address = spread(&section, &ranges, links);
        let ports = ports(&mut section, workers);
        let mapping = section.or("mapping", kind::choice(&Mapping::WORDS), Mapping::default());
        let filtering = filtering(&mut section, mapping);
        let ports_per_source = section.optional("ports_per_source", kind::integer(1..=64_512)).map(|at| at.value);
        for v4 in [true, false] {
            let sources = source.iter().find(|source| source.value.addr().is_ipv4() == v4);
            if let Some(sources) = sources.filter(|_| !address.is_empty() && !has_family(&address, v4)) {
                let message =
                    format!("{} has the source {}, but no address of its version", section.title, sources.value);
                let advice = "add an address of that version, or leave the source out";
                section.report(Finding::error("family-mismatch", &sources.spot, message).advice(advice));
            }
        }
        pool(&section, &address, links);
        let rule = SourceNatRule {
            name: name.value,
            from: zones.resolve(&section, &from),
            to: zones.resolve(&section, &to),
            source: source.into_iter().map(|source| source.value).collect(),
            address: address.iter().map(|address| address.value).collect(),
            ports,
            mapping,
            filtering,
            ports_per_source,
        };
        shared_addresses(&section, &rule, &address, &read);
        if read.rules.len() * read.rules.len() <= COMPARISONS_MAX {
            never_matches(&section, &rule, &read.rules, &spots);
        }
        read.rules.push(rule);
        read.owners.extend(address.iter().map(|_| read.rules.len() - 1));
        read.addresses.extend(address);
        spots.push(section.spot.clone());
        section.finish();
    }
    read
}

/// The addresses of all ranges. A network's own address and its broadcast are left out of a range; written alone, they are
/// reported by [`pool`].
pub(crate) fn spread(section: &Section<'_>, ranges: &[At<AddressRange>], links: &Links) -> Vec<At<IpAddr>> {
    let mut addresses = Vec::new();
    for range in ranges {
        let count = range.value.len();
        if count > NAT_ADDRESSES_MAX as u128 - addresses.len() as u128 {
            let message = format!("{} has more than {NAT_ADDRESSES_MAX} addresses", section.title);
            let finding = Finding::error("does-not-fit", &range.spot, message);
            section.report(finding.advice("a pool address has 64,512 ports for every far end; write fewer"));
            break;
        }
        let all = range.value.iter().filter(|&address| count == 1 || !links.is_network_or_broadcast(address));
        addresses.extend(all.map(|value| At { value, spot: range.spot.clone() }));
    }
    addresses
}

/// The ports of a rule: enough that each worker has some.
pub(crate) fn ports(section: &mut Section<'_>, workers: usize) -> PortRange {
    let range = |value: &toml::de::DeValue<'_>| {
        let range = port_range(value)?;
        if range.first() < NAT_PORT_MIN {
            let advice = "write a range of ports from 1024 to 65535, such as \"1024-65535\"";
            return Err(Wrong::new("bad-port", format!("\"{range}\" begins below {NAT_PORT_MIN}"), advice));
        }
        Ok(range)
    };
    let Some(ports) = section.optional("ports", range) else { return SourceNatRule::PORTS };
    let workers = workers.max(1);
    let slices = (0..).map(WorkerId::new).take(workers).map(|worker| PortSlice::new(worker, workers));
    if slices.into_iter().any(|slice| slice.within(ports.value).is_empty()) {
        let message = format!("the ports {} are too few to share out among {workers} workers", ports.value);
        let advice = "each worker hands out ports of its own, in pairs that go round: write a wider range";
        section.report(Finding::error("too-few-ports", &ports.spot, message).advice(advice));
    }
    ports.value
}

/// The filtering of a rule, which can only be judged by mappings that hold for as many far ends.
fn filtering(section: &mut Section<'_>, mapping: Mapping) -> Filtering {
    let Some(filtering) = section.optional("filtering", kind::choice(&Filtering::WORDS)) else {
        return Filtering::default();
    };
    let possible = match mapping {
        Mapping::EndpointIndependent => true,
        Mapping::AddressDependent => filtering.value != Filtering::EndpointIndependent,
        Mapping::AddressAndPortDependent => filtering.value == Filtering::AddressAndPortDependent,
    };
    if !possible {
        let (filter, map) = (filtering.value.name(), mapping.name());
        let message = format!("{} filters \"{filter}\" and maps only \"{map}\"", section.title);
        let finding = Finding::error("filtering-wider-than-mapping", &filtering.spot, message);
        section
            .report(finding.contradicts(&section.spot_of("mapping")).advice(format!("write mapping = \"{filter}\"")));
    }
    filtering.value
}

/// Reports an address that two rules hand out with common ports while one of them keeps mappings: they would not know of
/// each other's.
fn shared_addresses(section: &Section<'_>, rule: &SourceNatRule, address: &[At<IpAddr>], read: &SourceNatRead) {
    if !rule.keeps_mappings() && !read.rules.iter().any(SourceNatRule::keeps_mappings) {
        return;
    }
    let mine: HashMap<IpAddr, &Spot> = address.iter().map(|at| (at.value, &at.spot)).collect();
    for (other, &owner) in read.addresses.iter().zip(&read.owners) {
        let (Some(spot), Some(before)) = (mine.get(&other.value), read.rules.get(owner)) else { continue };
        if (rule.keeps_mappings() || before.keeps_mappings()) && rule.ports.overlaps(before.ports) {
            let message = format!(
                "{} and \"{}\" both hand out ports of {}, and one of them keeps mappings",
                section.title, before.name, other.value
            );
            let finding = Finding::error("overlapping-pools", spot, message).contradicts(&other.spot);
            section.report(finding.advice("give each its own addresses, or ranges of ports that do not overlap"));
            return;
        }
    }
}

impl SourceNatRead {
    /// Reports addresses that hide clients of a `full-nat` service and are also of a rule that keeps mappings.
    pub(crate) fn beside_services(&self, services: &[ServiceRead], findings: &Findings) {
        let mut mapped: HashMap<IpAddr, &Spot> = HashMap::new();
        for (address, &owner) in self.addresses.iter().zip(&self.owners) {
            if self.rules.get(owner).is_some_and(SourceNatRule::keeps_mappings) {
                mapped.insert(address.value, &address.spot);
            }
        }
        for read in services {
            for address in &read.source_address {
                let Some(spot) = mapped.get(&address.value) else { continue };
                let message =
                    format!("{} hides clients behind {}, which a source NAT rule hands out", read.title, address.value);
                let finding = Finding::error("overlapping-pools", &address.spot, message).contradicts(spot);
                findings.report(finding.advice("that rule keeps mappings: give each its own addresses"));
            }
        }
    }
}

/// Reports a rule when an earlier one takes all it would match.
fn never_matches(section: &Section<'_>, rule: &SourceNatRule, earlier: &[SourceNatRule], spots: &[Spot]) {
    let zones = |wide: &[ZoneId], narrow: &[ZoneId]| {
        wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|zone| wide.contains(zone))
    };
    let sources = |wide: &[IpNet], narrow: &[IpNet]| {
        let inside = |source| wide.iter().any(|prefix| prefix.contains(source));
        wide.is_empty() || !narrow.is_empty() && narrow.iter().all(inside)
    };
    let hides = |before: &SourceNatRule| {
        // Each session uses an address of its own version, so a rule without one leaves it to the next.
        let versions =
            rule.address.iter().all(|address| before.address.iter().any(|a| a.is_ipv4() == address.is_ipv4()));
        let all = zones(&before.from, &rule.from) && zones(&before.to, &rule.to);
        versions && !rule.address.is_empty() && all && sources(&before.source, &rule.source)
    };
    if let Some((before, spot)) = earlier.iter().zip(spots).find(|(before, _)| hides(before)) {
        let message = format!("{} can never match: \"{}\" takes all of it before", section.title, before.name);
        let finding = Finding::warning("rule-never-matches", &section.spot, message).contradicts(spot);
        section.report(finding.advice("move it before that one, narrow that one, or remove it"));
    }
}

/// Whether one of the addresses is IPv4, or IPv6.
pub(crate) fn has_family(addresses: &[At<IpAddr>], v4: bool) -> bool {
    addresses.iter().any(|address| address.value.is_ipv4() == v4)
}

/// Reports pool addresses that are given twice, or that answers only find when other routers know the way.
pub(crate) fn pool(section: &Section<'_>, addresses: &[At<IpAddr>], links: &Links) {
    let mut seen: HashMap<IpAddr, &Spot> = HashMap::new();
    for address in addresses {
        if let Some(first) = seen.insert(address.value, &address.spot) {
            let message = format!("the address {} is given twice", address.value);
            let finding = Finding::error("duplicate-address", &address.spot, message).contradicts(first);
            section.report(finding.advice("remove one of the two"));
        } else if links.is_network_or_broadcast(address.value) {
            let message = format!("the address {} is no station's: it names its whole network", address.value);
            let finding = Finding::error("bad-address", &address.spot, message);
            section.report(finding.advice("write another address of that network"));
        } else if links.complete && links.own(address.value).is_none() && links.port_of(address.value).is_none() {
            let message = format!("the address {} is on no port and on no link", address.value);
            let advice = "answers come back only if the routers around send it here; else use an address of a port";
            section.report(Finding::warning("address-not-owned", &address.spot, message).advice(advice));
        }
    }
}
