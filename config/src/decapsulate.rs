//! `[[decapsulate]]`: tunnels that end here.

use std::net::IpAddr;

use stage::PortRange;
use stage::balancer::ServiceProtocol;
use stage::tunnel::{Encapsulation, Ending, GueVariant};

use crate::address::{host, prefix};
use crate::balancer::ServiceRead;
use crate::findings::{At, Finding, Findings, Spot};
use crate::forward::ForwardRead;
use crate::kind::{choice, integer};
use crate::links::Links;
use crate::names::Names;
use crate::port_list::port;
use crate::section::Section;
use crate::tunnel::{GUE_PORT, TunnelKind};

const KINDS: &[(&str, TunnelKind)] = &[("ipip", TunnelKind::IpIp), ("gre", TunnelKind::Gre), ("gue", TunnelKind::Gue)];

/// Reads every `[[decapsulate]]`.
pub(crate) fn endings(file: &mut Section<'_>, links: &Links, findings: &Findings) -> Vec<At<Ending>> {
    let mut names = Names::of("tunnels that end here", findings);
    let sections = file.tables("decapsulate");
    sections.into_iter().map(|section| ending(section, &mut names, links)).collect()
}

fn ending(mut section: Section<'_>, names: &mut Names<'_>, links: &Links) -> At<Ending> {
    let name = section.name();
    names.take(&name);
    let kind = section.required("kind", choice(KINDS), "say which: kind = \"ipip\", \"gre\" or \"gue\"");
    let address = section.required("address", host, "say where it ends: address = \"10.0.0.1\", one of a port's");
    let advice =
        "say who may send into it: from = [\"198.51.100.1\"]; whoever may chooses the sources of what is inside";
    let from = section.required_list("from", prefix, advice);
    let key = section.optional("gre_key", integer(0..=u32::MAX));
    let gue_port = section.or("gue_port", port, GUE_PORT);
    let kind = kind.map(|kind| kind.value);
    for (key, word, meant) in
        [("gre_key", "gre", kind == Some(TunnelKind::Gre)), ("gue_port", "gue", kind == Some(TunnelKind::Gue))]
    {
        if section.has(key) && !meant && kind.is_some() {
            let message = format!("{} has `{key}`, which its kind has no use for", section.title);
            let finding = Finding::error("meaningless-key", &section.spot_of(key), message);
            section.report(finding.advice(format!("write kind = \"{word}\", or remove it")));
        }
    }
    if let Some(address) = &address {
        if links.complete && links.own(address.value).is_none() {
            let message = format!("{} ends at {}, which is no address of a port", section.title, address.value);
            let finding = Finding::error("not-own-address", &address.spot, message);
            section.report(finding.advice("write one of the appliance's own addresses"));
        }
        let other = from.iter().find(|from| from.value.addr().is_ipv4() != address.value.is_ipv4());
        if let Some(other) = other {
            let message = format!("{} ends at {}, so nothing from {} comes", section.title, address.value, other.value);
            let finding = Finding::error("family-mismatch", &other.spot, message).contradicts(&address.spot);
            section.report(finding.advice("write sources of the version of its address"));
        }
    }
    let ending = Ending {
        name: name.value,
        encapsulation: match kind {
            Some(TunnelKind::Gre) => Encapsulation::Gre { key: key.map(|key| key.value) },
            Some(TunnelKind::Gue) => Encapsulation::Gue { port: gue_port, variant: GueVariant::Direct },
            Some(TunnelKind::IpIp) | None => Encapsulation::IpIp,
        },
        address: address.as_ref().map_or(IpAddr::from([0; 4]), |address| address.value),
        from: from.into_iter().map(|from| from.value).collect(),
    };
    let spot = section.spot.clone();
    section.finish();
    At { value: ending, spot }
}

/// Reports services and forwards that nobody can ask, because a tunnel takes every packet to their address and port.
pub(crate) fn hidden(endings: &[At<Ending>], services: &[ServiceRead], forwards: &[ForwardRead], findings: &Findings) {
    for ending in endings {
        let Encapsulation::Gue { port, .. } = ending.value.encapsulation else { continue };
        let takes = |address, protocol, ports: PortRange| {
            address == ending.value.address && protocol == ServiceProtocol::Udp && ports.contains(port)
        };
        let report = |spot: &Spot, title: &str| {
            let message =
                format!("{title} is never asked: the tunnel \"{}\" takes UDP port {port} there", ending.value.name);
            let finding = Finding::error("overlapping-tunnel", spot, message).contradicts(&ending.spot);
            findings.report(finding.advice("give one of the two another address or port"));
        };
        for read in services {
            let spec = &read.service.spec;
            for range in read.ports.iter().filter(|range| takes(spec.address, spec.protocol, range.value)) {
                report(&range.spot, &read.title);
            }
        }
        for read in forwards.iter().filter(|read| takes(read.rule.address, read.rule.protocol, read.rule.ports)) {
            report(&read.spot, &read.title);
        }
    }
}
