//! `[firewall]`, `[[firewall.set]]` and `[[firewall.rule]]`: what may pass.

use core::cell::Cell;
use std::collections::HashMap;

use ipnet::IpNet;
use stage::firewall::{Action, ProtocolMatch, Rule};
use toml::de::DeValue;
use units::PerSecond;
use units::limits::CLASSIFIER_ENTRIES_MAX;

use crate::address::{parse_prefix, prefix};
use crate::findings::{At, Finding, Findings, Spot};
use crate::icmp::icmp_type;
use crate::kind::{self, Wrong, boolean, choice, integer, string};
use crate::names::Names;
use crate::nearest::{did_you_mean, quoted};
use crate::policy::{AddressSet, Firewall};
use crate::port_list::port_range;
use crate::section::Section;
use crate::zones::Zones;

const ACTIONS: &[(&str, Action)] = &[("allow", Action::Allow), ("deny", Action::Deny), ("reject", Action::Reject)];

/// Protocols by name. Others are written as their number.
const PROTOCOLS: &[(&str, ProtocolMatch)] = &[
    ("any", ProtocolMatch::Any),
    ("tcp", ProtocolMatch::Tcp),
    ("udp", ProtocolMatch::Udp),
    ("icmp", ProtocolMatch::Icmp),
    ("gre", ProtocolMatch::Number(47)),
    ("esp", ProtocolMatch::Number(50)),
    ("ah", ProtocolMatch::Number(51)),
    ("ospf", ProtocolMatch::Number(89)),
    ("vrrp", ProtocolMatch::Number(112)),
    ("sctp", ProtocolMatch::Number(132)),
];

/// Log records a worker writes in a second when the file does not say (SE-39).
const LOG_RATE: u32 = 100;

/// Most events in a second anything can be limited to: one every ten nanoseconds.
const RATE_MAX: u32 = 100_000_000;

/// The firewall, and where its rules are written.
#[derive(Debug)]
pub(crate) struct FirewallRead {
    pub(crate) firewall: Firewall,
    pub(crate) rules: Vec<Spot>,
    /// Whether every rule was read without a fault, so that it is worth asking which can match.
    pub(crate) complete: bool,
}

/// Named sets, and how many prefixes rules may still take from them: a large set in every rule would fill the memory
/// long before the classifier is asked whether it fits.
#[derive(Debug)]
struct Sets {
    prefixes: HashMap<String, Vec<IpNet>>,
    room: Cell<usize>,
}

/// Reads `[firewall]` with its sets and rules.
pub(crate) fn firewall(file: &mut Section<'_>, zones: &Zones, findings: &Findings) -> FirewallRead {
    let before = findings.errors();
    let mut firewall = Firewall {
        default: Action::Deny,
        rules: Vec::new(),
        staged: Vec::new(),
        sets: Vec::new(),
        log_rate: PerSecond::new(LOG_RATE),
    };
    let mut spots = Vec::new();
    if let Some(mut section) = file.table("firewall") {
        firewall.default = section.or("default", choice(ACTIONS), Action::Deny);
        firewall.log_rate = section.or("log_rate", rate, firewall.log_rate);
        let mut names = Names::of("address sets", findings);
        firewall.sets = section.tables("set").into_iter().map(|section| set(section, &mut names)).collect();
        let prefixes = firewall.sets.iter().map(|set| (set.name.clone(), set.addresses.clone())).collect();
        let sets = Sets { prefixes, room: Cell::new(CLASSIFIER_ENTRIES_MAX) };
        let mut names = Names::of("firewall rules", findings);
        let mut rules = Vec::new();
        for section in section.tables("rule") {
            let spot = section.spot.clone();
            let (rule, staged) = rule(section, &mut names, zones, &sets);
            if !staged {
                spots.push(spot);
            }
            rules.push((rule, staged));
        }
        if rules.iter().any(|(_, staged)| *staged) {
            firewall.staged = rules.iter().map(|(rule, _)| rule.clone()).collect();
        }
        firewall.rules = rules.into_iter().filter(|(_, staged)| !staged).map(|(rule, _)| rule).collect();
        section.finish();
    }
    FirewallRead { firewall, rules: spots, complete: findings.errors() == before }
}

fn set(mut section: Section<'_>, names: &mut Names<'_>) -> AddressSet {
    let name = section.name();
    names.take(&name);
    let addresses = section.required_list("addresses", prefix, "name its addresses: addresses = [\"10.0.0.0/24\"]");
    section.finish();
    AddressSet { name: name.value, addresses: addresses.into_iter().map(|address| address.value).collect() }
}

/// A rule, and whether it is staged.
fn rule(mut section: Section<'_>, names: &mut Names<'_>, zones: &Zones, sets: &Sets) -> (Rule, bool) {
    let name = section.name();
    names.take(&name);
    let action =
        section.required("action", choice(ACTIONS), "say what it does: action = \"allow\", \"deny\" or \"reject\"");
    let action = action.map_or(Action::Deny, |action| action.value);
    let from = section.list("from", kind::name);
    let to = section.list("to", kind::name);
    let source = section.list("source", addresses);
    let destination = section.list("destination", addresses);
    let protocol = section.or("protocol", protocol, ProtocolMatch::Any);
    let source_port = section.list("source_port", port_range);
    let destination_port = section.list("destination_port", port_range);
    let icmp = section.list("icmp_type", icmp_type);
    let rule = Rule {
        name: name.value,
        action,
        from: zones.resolve(&section, &from),
        to: zones.resolve(&section, &to),
        source: resolve(&section, source, sets),
        destination: resolve(&section, destination, sets),
        protocol,
        source_port: source_port.into_iter().map(|range| range.value).collect(),
        destination_port: destination_port.into_iter().map(|range| range.value).collect(),
        icmp: icmp.into_iter().flat_map(|types| types.value).collect(),
        log: section.or("log", boolean, false),
        new_sessions_per_second: section.optional("new_sessions_per_second", rate).map(|at| at.value),
        new_sessions_per_source: section.optional("new_sessions_per_source", rate).map(|at| at.value),
    };
    let staged = section.or("staged", boolean, false);
    contradictions(&section, &rule);
    section.finish();
    (rule, staged)
}

/// Reports keys that mean nothing beside the rule's protocol or action.
fn contradictions(section: &Section<'_>, rule: &Rule) {
    if !matches!(rule.protocol, ProtocolMatch::Tcp | ProtocolMatch::Udp) {
        for key in ["source_port", "destination_port"].into_iter().filter(|key| section.has(key)) {
            let message = format!("{} has `{key}`, but its protocol is not TCP or UDP", section.title);
            let advice = "write protocol = \"tcp\" or \"udp\", and a second rule for the other";
            section.report(Finding::error("protocol-mismatch", &section.spot_of(key), message).advice(advice));
        }
    }
    if rule.protocol != ProtocolMatch::Icmp && section.has("icmp_type") {
        let message = format!("{} has `icmp_type`, but its protocol is not ICMP", section.title);
        let finding = Finding::error("protocol-mismatch", &section.spot_of("icmp_type"), message);
        section.report(finding.advice("write protocol = \"icmp\", which is ICMPv4 and ICMPv6"));
    }
    if rule.action != Action::Allow {
        for key in ["new_sessions_per_second", "new_sessions_per_source"].into_iter().filter(|key| section.has(key)) {
            let message = format!("{} has `{key}`, but allows no session", section.title);
            let advice = "limit the rule that allows them, or remove the key";
            section.report(Finding::warning("limit-without-allow", &section.spot_of(key), message).advice(advice));
        }
    }
}

/// A prefix, or the name of a set.
enum Addresses {
    Prefix(IpNet),
    Set(String),
}

fn addresses(value: &DeValue<'_>) -> Result<Addresses, Wrong> {
    let written = string(value, "an address, a prefix or a set such as \"10.0.0.0/24\" or \"@offices\"")?;
    match written.strip_prefix('@') {
        Some(name) if kind::is_name(name) => Ok(Addresses::Set(name.to_owned())),
        Some(_) => {
            Err(Wrong::new("bad-name", format!("{} is not the name of a set", quoted(written)), "write \"@NAME\""))
        }
        None => parse_prefix(written).map(Addresses::Prefix),
    }
}

/// The prefixes a rule names, sets put in; an unknown set is a fault.
fn resolve(section: &Section<'_>, named: Vec<At<Addresses>>, sets: &Sets) -> Vec<IpNet> {
    let mut prefixes = Vec::with_capacity(named.len());
    for At { value, spot } in named {
        match value {
            Addresses::Prefix(prefix) => prefixes.push(prefix),
            Addresses::Set(name) => match sets.prefixes.get(&name) {
                Some(set) => match sets.room.get().checked_sub(set.len()) {
                    Some(room) => {
                        sets.room.set(room);
                        prefixes.extend(set);
                    }
                    None => {
                        let message =
                            format!("with the address set {} the rules take too many prefixes", quoted(&name));
                        let advice =
                            format!("{CLASSIFIER_ENTRIES_MAX} fit; name the set in fewer rules, or make it smaller");
                        section.report(Finding::error("does-not-fit", &spot, message).advice(advice));
                    }
                },
                None => {
                    let message =
                        format!("{} names the address set {}, which there is not", section.title, quoted(&name));
                    let advice = did_you_mean(&name, sets.prefixes.keys().map(String::as_str), "the sets are");
                    let advice = if sets.prefixes.is_empty() {
                        "describe it: [[firewall.set]] with name and addresses"
                    } else {
                        &advice
                    };
                    section.report(Finding::error("unknown-set", &spot, message).advice(advice));
                }
            },
        }
    }
    prefixes
}

/// A protocol by name or number.
fn protocol(value: &DeValue<'_>) -> Result<ProtocolMatch, Wrong> {
    if value.is_integer() {
        return Ok(match integer(0..=u8::MAX)(value)? {
            6 => ProtocolMatch::Tcp,
            17 => ProtocolMatch::Udp,
            number => ProtocolMatch::Number(number),
        });
    }
    choice(PROTOCOLS)(value)
}

/// Events in a second, at least one.
fn rate(value: &DeValue<'_>) -> Result<PerSecond, Wrong> {
    integer(1..=RATE_MAX)(value).map(PerSecond::new)
}
