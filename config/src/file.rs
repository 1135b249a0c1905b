//! The file as written: its tables, each read by the module of its name, in the order in which they refer to each other.

use std::net::SocketAddr;

use stage::tunnel::Ending;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use units::PortId;

use crate::api;
use crate::appliance::{self, DpdkRead};
use crate::balancer::{self, ServiceRead};
use crate::blocklist;
use crate::decapsulate;
use crate::findings::{At, Finding, Findings, Spot};
use crate::firewall::{self, FirewallRead};
use crate::forward::{self, ForwardRead};
use crate::fragments;
use crate::links::Links;
use crate::log;
use crate::metrics;
use crate::nat64::{self, Nat64Read};
use crate::pairs;
use crate::policy::{
    Api, Appliance, Blocklist, Cores, Fragments, LogFormat, Neighbor, Redirection, SessionLog, Sessions, Tenant,
    ZoneTerms,
};
use crate::ports::{self, Ports};
use crate::redirection;
use crate::routes::{self, Routes};
use crate::section::Section;
use crate::session_log;
use crate::sessions;
use crate::tenants;
use crate::translate::{self, SourceNatRead};
use crate::zone_terms;

/// Tables that the design has and this version does not serve.
const NOT_YET: [(&str, &str); 4] = [
    ("replication", "[replication]"),
    ("shared_address", "[[shared_address]]"),
    ("function", "[[function]]"),
    ("graph", "[[graph]]"),
];

/// Largest text in which syntax is tried again after the first error; beyond, the first is enough.
const RECOVER_BYTES_MAX: usize = 1 << 20;

/// What is said with every fault of syntax.
const NOT_TOML: &str = "the file has to be TOML, see toml.io";

/// Every section, read.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) appliance: Appliance,
    pub(crate) api: Option<At<Api>>,
    pub(crate) log_format: LogFormat,
    pub(crate) cores: Cores,
    pub(crate) dpdk: DpdkRead,
    pub(crate) sessions: Sessions,
    pub(crate) fragments: Fragments,
    pub(crate) metrics: Option<At<SocketAddr>>,
    pub(crate) session_log: Option<SessionLog>,
    pub(crate) redirection: Option<Redirection>,
    pub(crate) ports: Ports,
    pub(crate) pairs: Vec<[PortId; 2]>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) links: Links,
    pub(crate) routes: Routes,
    pub(crate) neighbors: Vec<Neighbor>,
    pub(crate) firewall: FirewallRead,
    pub(crate) blocklists: Vec<Blocklist>,
    pub(crate) zone_terms: Vec<ZoneTerms>,
    pub(crate) source_nat: SourceNatRead,
    pub(crate) nat64: Nat64Read,
    pub(crate) endings: Vec<At<Ending>>,
    pub(crate) forwards: Vec<ForwardRead>,
    pub(crate) services: Vec<ServiceRead>,
}

/// Reads a text; `None` when it is not TOML, which `findings` then says.
pub(crate) fn file(text: &str, findings: &Findings) -> Option<File> {
    let table = parse(text, findings)?;
    let mut root = Section::root(&table, findings);
    for (key, header) in NOT_YET {
        if let Some(spot) = root.key_spot(key) {
            let message = format!("{header} is not supported yet");
            let advice = "remove it: this version has one appliance with firewall, balancer and address translation";
            findings.report(Finding::error("not-yet-supported", &spot, message).advice(advice));
        }
    }
    let appliance = appliance::appliance(&mut root);
    let api = api::api(&mut root, findings);
    let log_format = log::format(&mut root);
    let cores = appliance::cores(&mut root);
    let dpdk = appliance::dpdk(&mut root);
    let sessions = sessions::sessions(&mut root);
    let fragments = fragments::fragments(&mut root, cores.workers.len());
    let metrics = metrics::metrics(&mut root);
    let session_log = session_log::session_log(&mut root, cores.workers.len());
    let redirection = redirection::redirection(&mut root);
    let pairs = pairs::written(&mut root);
    let ports = ports::ports(&mut root, &pairs::names(&pairs), findings);
    let pairs = pairs::pairs(pairs, &ports, findings);
    let tenants = tenants::tenants(&mut root, &pairs, findings);
    let links = Links::of(&ports, findings);
    let routes = routes::routes(&mut root, &ports, &links);
    let neighbors = routes::neighbors(&mut root, &ports, &links, findings);
    let firewall = firewall::firewall(&mut root, &ports.zones, findings);
    let blocklists = blocklist::blocklists(&mut root, &ports.zones, findings);
    let zone_terms = zone_terms::zone_terms(&mut root, &ports.zones, findings);
    let source_nat = translate::source_nat(&mut root, &ports.zones, &links, cores.workers.len(), findings);
    let endings = decapsulate::endings(&mut root, &links, findings);
    let nat64 = nat64::rules(&mut root, &ports.zones, &links, cores.workers.len(), findings);
    let forwards = forward::forwards(&mut root, &ports.zones, &links, findings);
    let services = balancer::services(&mut root, &links, &pairs, findings);
    root.finish();
    Some(File {
        appliance,
        api,
        log_format,
        cores,
        dpdk,
        sessions,
        fragments,
        metrics,
        session_log,
        redirection,
        ports,
        pairs,
        tenants,
        links,
        routes,
        neighbors,
        firewall,
        blocklists,
        zone_terms,
        source_nat,
        nat64,
        endings,
        forwards,
        services,
    })
}

/// The text as TOML, or every syntax error in it.
pub(crate) fn parse<'t>(text: &'t str, findings: &Findings) -> Option<DeTable<'t>> {
    let first = match DeTable::parse(text) {
        Ok(table) => {
            let before = findings.errors();
            table.get_ref().values().for_each(|value| numbers(value, findings));
            return (findings.errors() == before).then(|| table.into_inner());
        }
        Err(error) => error,
    };
    let errors = if text.len() <= RECOVER_BYTES_MAX { DeTable::parse_recoverable(text).1 } else { vec![first] };
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let spot = Spot { path: String::new(), offset: span.start };
        let written = text.get(span).filter(|written| !written.is_empty() && !written.contains('\n'));
        let message = match written {
            Some(written) => format!("{}, at {}", error.message(), crate::nearest::quoted(written)),
            None => error.message().to_owned(),
        };
        findings.report(Finding::error("bad-toml", &spot, message).advice(NOT_TOML));
    }
    None
}

/// Reports numbers that are none: the parser leaves them as they are written.
fn numbers(value: &Spanned<DeValue<'_>>, findings: &Findings) {
    let well = match value.get_ref() {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).is_ok(),
        DeValue::Float(float) => float.as_str().parse::<f64>().is_ok(),
        DeValue::Array(entries) => return entries.iter().for_each(|entry| numbers(entry, findings)),
        DeValue::Table(table) => return table.values().for_each(|value| numbers(value, findings)),
        DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
    };
    if !well {
        let spot = Spot { path: String::new(), offset: value.span().start };
        findings.report(Finding::error("bad-toml", &spot, "this is not a number of 64 bits").advice(NOT_TOML));
    }
}
