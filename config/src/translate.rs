//! `[[source_nat]]`: sessions that leave with another source.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use stage::translate::SourceNatRule;
use units::ZoneId;

use crate::address::{host, prefix};
use crate::findings::{At, Finding, Findings, Spot};
use crate::kind;
use crate::links::Links;
use crate::names::Names;
use crate::section::Section;
use crate::zones::Zones;

/// Source NAT rules, and where their addresses are written.
#[derive(Debug, Default)]
pub(crate) struct SourceNatRead {
    pub(crate) rules: Vec<SourceNatRule>,
    pub(crate) addresses: Vec<At<IpAddr>>,
}

/// Comparisons after which no further rule is asked whether it can match: two thousand rules, each with each.
const COMPARISONS_MAX: usize = 2_000_000;

/// Reads every `[[source_nat]]`.
pub(crate) fn source_nat(file: &mut Section<'_>, zones: &Zones, links: &Links, findings: &Findings) -> SourceNatRead {
    let mut names = Names::of("source NAT rules", findings);
    let mut read = SourceNatRead::default();
    let mut spots: Vec<Spot> = Vec::new();
    for mut section in file.tables("source_nat") {
        let name = section.name();
        names.take(&name);
        let from = section.list("from", kind::name);
        let to = section.list("to", kind::name);
        let source = section.list("source", prefix);
        let address = section.required_list("address", host, "say what they leave with: address = [\"198.51.100.1\"]");
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
        };
        if read.rules.len() * read.rules.len() <= COMPARISONS_MAX {
            never_matches(&section, &rule, &read.rules, &spots);
        }
        read.rules.push(rule);
        read.addresses.extend(address);
        spots.push(section.spot.clone());
        section.finish();
    }
    read
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
