//! `[[virtual_service.tier]]`: what a service's packets pass before they come to a backend, and `marker_vlan`, by which
//! they are told apart. Each tier becomes a service of its own that nobody asks: the same instances, choices, probes
//! and drains.

use std::collections::HashMap;
use std::net::IpAddr;

use stage::balancer::{Algorithm, Attract, BackendSpec, Mode, OnBackendFailure, ServiceProtocol, ServiceSpec};
use stage::syn_cookie::CookieMode;
use units::limits::{INSTANCES_MAX, TIERS_MAX, VLAN_MAX};

use crate::address::host;
use crate::balancer::{ALGORITHMS, HOPS_MAX, ServiceRead, WEIGHT_MAX};
use crate::findings::{At, Finding, Findings, Spot};
use crate::health::health;
use crate::kind::{boolean, choice, integer};
use crate::names::Names;
use crate::policy::{Probe, Service};
use crate::section::Section;

/// Reads the tiers of a service, and its marker into `parent`.
pub(crate) fn tiers(section: &mut Section<'_>, parent: &mut ServiceRead, findings: &Findings) -> Vec<ServiceRead> {
    let sections = section.tables("tier");
    let base = section.optional("marker_vlan", integer(1..=VLAN_MAX));
    if let Some(base) = &base {
        let refused = |code, message, advice: &str| {
            section.report(Finding::error(code, &base.spot, message).advice(advice));
        };
        if sections.is_empty() {
            let message = format!("{} has `marker_vlan`, and no tier to mark", section.title);
            refused("meaningless-key", message, "remove it, or describe tiers: [[virtual_service.tier]]");
        } else if usize::from(VLAN_MAX - base.value) < sections.len() {
            let message = format!("the tiers of {} would be marked by VLANs beyond {VLAN_MAX}", section.title);
            refused("out-of-bounds", message, "tier k is marked by VLAN marker_vlan + k: write a smaller number");
        }
    }
    if !sections.is_empty() {
        fits(section, parent, sections.len());
    }
    parent.service.spec.marker_vlan = base.map(|base| base.value);
    let mut seen: HashMap<IpAddr, Spot> = HashMap::new();
    let mut tiers = Vec::new();
    for (tier, number) in sections.into_iter().zip(1..) {
        let read = tier_of(tier, parent, number, findings);
        if parent.service.spec.marker_vlan.is_none() {
            for instance in &read.backends {
                if let Some(first) = seen.get(&instance.value) {
                    let message =
                        format!("{} is in two tiers, and nothing would tell which of them it was", instance.value);
                    let finding = Finding::error("tiers-alike", &instance.spot, message).contradicts(first);
                    findings.report(finding.advice("mark them by VLANs: marker_vlan = 100, or write another instance"));
                }
            }
            seen.extend(read.backends.iter().map(|instance| (instance.value, instance.spot.clone())));
        }
        tiers.push(read);
    }
    tiers
}

/// Reports what a service with tiers cannot have.
fn fits(section: &Section<'_>, parent: &ServiceRead, count: usize) {
    let spec = &parent.service.spec;
    let refused = |code, key: &str, message: String, advice: &str| {
        section.report(Finding::error(code, &section.spot_of(key), message).advice(advice));
    };
    if count > TIERS_MAX {
        let message = format!("{} has {count} tiers before its backends, and there can be {TIERS_MAX}", section.title);
        refused("too-many", "tier", message, "leave some out");
    }
    if spec.attract == Attract::InLine {
        let message = format!("{} has tiers and is attracted in line", section.title);
        let advice = "write attract = \"own-address\": instances of tiers send to the appliance's own MAC address";
        refused("attract-with-tiers", "attract", message, advice);
    }
    let proving = spec.syn_cookies != CookieMode::Off;
    for (key, has) in [("syn_cookies", proving), ("client_address", spec.introduction.is_some())] {
        if has {
            let message = format!(
                "{} has tiers and `{key}`, for which the appliance would speak to backends itself, past the tiers",
                section.title
            );
            refused("meaningless-key", key, message, "remove one of the two");
        }
    }
}

fn tier_of(mut section: Section<'_>, parent: &ServiceRead, number: u32, findings: &Findings) -> ServiceRead {
    let of = &parent.service.spec;
    let algorithm = section.or("algorithm", choice(ALGORITHMS), Algorithm::LeastConnections);
    // A probe has no port to go to unless one is said.
    let health = health(&mut section, ServiceProtocol::Udp);
    if matches!(health.kind, Probe::Tcp | Probe::Http { .. }) && health.port.is_none() {
        let message = format!("{} is probed at no port", section.title);
        let finding = Finding::error("missing-key", &section.spot_of("health"), message);
        section.report(finding.advice("say which: health = { kind = \"tcp\", port = 22 }, or kind = \"icmp\""));
    }
    let instances = instances(&mut section, parent.address.as_ref(), findings);
    let spec = ServiceSpec {
        name: format!("{}.tier-{number}", of.name),
        address: of.address,
        protocol: of.protocol,
        ports: Vec::new(),
        attract: of.attract,
        algorithm,
        mode: Mode::Direct,
        tunnel_source: Vec::new(),
        mss_clamp: None,
        introduction: None,
        source_address: Vec::new(),
        persistence: None,
        quic: None,
        one_shot: false,
        drain_timeout: of.drain_timeout,
        on_backend_failure: OnBackendFailure::Reselect,
        syn_cookies: CookieMode::Off,
        half_open_limit: None,
        tiers: Vec::new(),
        marker_vlan: None,
        backends: instances.iter().map(|(spec, _)| spec.clone()).collect(),
        probed: health.kind != Probe::None,
    };
    let read = ServiceRead {
        service: Service { spec, health },
        spot: section.spot.clone(),
        title: section.title.clone(),
        address: None,
        attract_spot: parent.attract_spot.clone(),
        ports: Vec::new(),
        source_address: Vec::new(),
        backends: instances.into_iter().filter_map(|(_, address)| address).collect(),
    };
    section.finish();
    read
}

/// Reads the instances of a tier, each with the place of its address.
fn instances(
    tier: &mut Section<'_>,
    address: Option<&At<IpAddr>>,
    findings: &Findings,
) -> Vec<(BackendSpec, Option<At<IpAddr>>)> {
    let mut names = Names::of("instances of one tier", findings);
    let mut seen: HashMap<IpAddr, Spot> = HashMap::new();
    let sections = tier.tables("backend");
    if sections.is_empty() {
        let message = format!("{} has no instance", tier.title);
        let advice = "describe at least one below it: [[virtual_service.tier.backend]] with name and address";
        tier.report(Finding::error("missing-key", &tier.spot, message).advice(advice));
    } else if sections.len() > INSTANCES_MAX {
        let message = format!("{} has {} instances, and there can be {INSTANCES_MAX}", tier.title, sections.len());
        tier.report(Finding::error("too-many", &tier.spot, message).advice("leave some out"));
    }
    let mut instances = Vec::new();
    for section in sections {
        let (spec, at) = instance(section, address, &mut names);
        if let Some(at) = &at
            && let Some(first) = seen.insert(at.value, at.spot.clone())
        {
            let message = format!("two instances of the tier are at {}", at.value);
            let finding = Finding::error("duplicate-backend", &at.spot, message).contradicts(&first);
            findings.report(finding.advice("remove one of the two; give one more weight if it should get more"));
        }
        instances.push((spec, at));
    }
    if !instances.is_empty() && instances.iter().all(|(spec, _)| spec.weight == 0) {
        let message = format!("every instance of {} has weight 0", tier.title);
        let advice = "give at least one a weight of 1 or more: weight 0 gets no new sessions";
        tier.report(Finding::error("all-weights-zero", &tier.spot, message).advice(advice));
    } else if !instances.is_empty() && instances.iter().all(|(spec, _)| spec.disabled || spec.weight == 0) {
        let message = format!("every instance of {} is disabled or has weight 0", tier.title);
        tier.report(Finding::warning("no-backend-enabled", &tier.spot, message).advice("no client will be served"));
    }
    instances
}

fn instance(
    mut section: Section<'_>,
    address: Option<&At<IpAddr>>,
    names: &mut Names<'_>,
) -> (BackendSpec, Option<At<IpAddr>>) {
    let name = section.name();
    names.take(&name);
    let at = section.required("address", host, "say where it is: address = \"10.0.0.11\"");
    let other = |service: &&At<IpAddr>| at.as_ref().is_some_and(|at| at.value.is_ipv4() != service.value.is_ipv4());
    if let (Some(at), Some(service)) = (&at, address.filter(other)) {
        let message = format!("the instance {} is of another IP version than its service", at.value);
        let finding = Finding::error("family-mismatch", &at.spot, message).contradicts(&service.spot);
        section.report(finding.advice("tiers see the client's packet: write an address of the service's version"));
    }
    let spec = BackendSpec {
        name: name.value,
        address: at.as_ref().map_or(IpAddr::from([0; 4]), |at| at.value),
        port: None,
        weight: section.or("weight", integer(0..=WEIGHT_MAX), 1),
        hops: section.or("hops", integer(0..=HOPS_MAX), 0),
        server_id: None,
        disabled: section.or("disabled", boolean, false),
    };
    section.finish();
    (spec, at)
}

/// Reports services whose tiers are marked by the same VLANs.
pub(crate) fn markers(services: &[ServiceRead], findings: &Findings) {
    let mut taken: HashMap<u16, &ServiceRead> = HashMap::new();
    for read in services {
        let spec = &read.service.spec;
        let Some(base) = spec.marker_vlan else { continue };
        for vlan in (base.saturating_add(1)..).take(spec.tiers.len()) {
            if let Some(first) = taken.insert(vlan, read) {
                let message = format!("VLAN {vlan} marks tiers of {} and of {}", read.title, first.title);
                let finding = Finding::error("overlapping-markers", &read.spot, message).contradicts(&first.spot);
                findings.report(finding.advice("tier k is marked by VLAN marker_vlan + k: move one of the two"));
                break;
            }
        }
    }
}
