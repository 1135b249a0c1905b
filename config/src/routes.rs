//! `[[route]]` and `[[neighbor]]`: the ways beyond the links, and neighbors that are told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use stage::forward::Route;
use units::PortId;
use wire::MacAddr;

use crate::address::{host, mac, prefix};
use crate::findings::{At, Finding, Findings, Spot};
use crate::kind;
use crate::links::Links;
use crate::policy::Neighbor;
use crate::ports::Ports;
use crate::prefix_map::PrefixMap;
use crate::section::Section;

/// The routes as written, and where each prefix leads.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) routes: Vec<Route>,
    /// The next hops, as they are written.
    pub(crate) next_hops: Vec<At<IpAddr>>,
    prefixes: PrefixMap<Spot>,
    /// Whether every route could be read, so that what they do not lead to is certainly not reached.
    complete: bool,
}

impl Routes {
    /// Whether `address` is on a link or behind a route; `true` when that is not certain.
    pub(crate) fn reach(&self, links: &Links, address: IpAddr) -> bool {
        let certain = self.complete && links.complete;
        !certain || links.port_of(address).is_some() || self.prefixes.containing(address).next().is_some()
    }
}

/// Reads every `[[route]]`.
pub(crate) fn routes(file: &mut Section<'_>, ports: &Ports, links: &Links) -> Routes {
    let mut read = Routes { routes: Vec::new(), next_hops: Vec::new(), prefixes: PrefixMap::default(), complete: true };
    for mut section in file.tables("route") {
        let route = route(&mut section, ports, links, &mut read);
        read.complete &= route.is_some();
        read.routes.extend(route);
        section.finish();
    }
    read
}

fn route(section: &mut Section<'_>, ports: &Ports, links: &Links, read: &mut Routes) -> Option<Route> {
    let to = section.required("to", prefix, "say which prefix, such as to = \"203.0.113.0/24\"");
    let via = section.optional("via", host);
    let port_name = section.optional("port", kind::name);
    let port = port_name.as_ref().map(|name| ports.resolve(section, name));
    if !section.has("via") && !section.has("port") {
        let missing = Finding::error("missing-key", &section.spot, "[[route]] has neither `via` nor `port`");
        section.report(
            missing.advice("say the next hop: via = \"198.51.100.254\"; or the port on whose link the prefix is"),
        );
    }
    let to = to?;
    if let Some(first) = links.connected(to.value) {
        let message = format!("the route to {} would take what is on the link of a port", to.value);
        let finding = Finding::error("duplicate-route", &to.spot, message).contradicts(first);
        section.report(finding.advice("remove it; what is on a link needs no route"));
    }
    match read.prefixes.entry(to.value) {
        Entry::Occupied(first) => {
            let message = format!("there are two routes to {}", to.value);
            let finding = Finding::error("duplicate-route", &to.spot, message).contradicts(first.get());
            section.report(finding.advice("remove one of the two"));
        }
        Entry::Vacant(place) => {
            place.insert(to.spot.clone());
        }
    }
    let Some(via) = via else {
        return Some(Route { to: to.value, via: None, port: port.flatten()? });
    };
    if via.value.is_ipv4() != to.value.addr().is_ipv4() {
        let message = format!("the next hop {} is of another IP version than {}", via.value, to.value);
        let advice = "a next hop has the version of the prefix it leads to";
        section.report(Finding::error("family-mismatch", &via.spot, message).contradicts(&to.spot).advice(advice));
        return None;
    }
    let port = match port {
        Some(port) => Some(port?),
        None => None,
    };
    let port = next_hop(section, &via, port, links)?;
    let route = Route { to: to.value, via: Some(via.value), port };
    read.next_hops.push(via);
    Some(route)
}

/// The port a next hop is reached through; a fault when it is ours, or on no link.
fn next_hop(section: &Section<'_>, via: &At<IpAddr>, port: Option<PortId>, links: &Links) -> Option<PortId> {
    if let Some(own) = links.own(via.value) {
        let message = format!("the next hop {} is an address of this appliance", via.value);
        let finding = Finding::error("own-address", &via.spot, message).contradicts(own);
        section.report(finding.advice("write the address of the router on that link"));
        return None;
    }
    if links.is_network_or_broadcast(via.value) {
        let message = format!("the next hop {} is no station: it names its whole network", via.value);
        section.report(Finding::error("bad-address", &via.spot, message).advice("write the address of the router"));
        return None;
    }
    let link_local = matches!(via.value, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match port {
        Some(port) if link_local || links.on_link_of(via.value, port) => return Some(port),
        None if link_local => {
            let message = format!("the next hop {} is link-local, and no port is said", via.value);
            let advice = "say on which link it is: port = \"NAME\"";
            section.report(Finding::error("missing-key", &via.spot, message).advice(advice));
            return None;
        }
        None => {
            if let Some(port) = links.port_of(via.value) {
                return Some(port);
            }
        }
        Some(_) => {}
    }
    if links.complete {
        let link = if port.is_some() { "on the link of that port" } else { "on the link of any port" };
        let message = format!("the next hop {} is not {link}", via.value);
        let advice = format!("write a router's address in a network of the port; {}", links.words(via.value.is_ipv4()));
        section.report(Finding::error("unreachable-next-hop", &via.spot, message).advice(advice));
    }
    None
}

/// Reads every `[[neighbor]]`.
pub(crate) fn neighbors(file: &mut Section<'_>, ports: &Ports, links: &Links, findings: &Findings) -> Vec<Neighbor> {
    let mut seen: HashMap<(PortId, IpAddr), Spot> = HashMap::new();
    let mut neighbors = Vec::new();
    for mut section in file.tables("neighbor") {
        let port = section.required("port", kind::name, "say behind which port it is: port = \"NAME\"");
        let port = port.and_then(|name| ports.resolve(&section, &name));
        let address = section.required("address", host, "say its address, such as address = \"10.0.0.11\"");
        let mac = section.required("mac", mac, "say its MAC address, such as mac = \"02:00:00:00:00:11\"");
        if let (Some(port), Some(address)) = (port, &address) {
            // Between paired ports the networks around need not be known.
            let paired = ports.ports.get(port.index()).is_some_and(|read| read.paired);
            told(&section, port, address, links, paired);
            if let Some(first) = seen.insert((port, address.value), address.spot.clone()) {
                let message = format!("the neighbor {} is told twice", address.value);
                let finding = Finding::error("duplicate-neighbor", &address.spot, message).contradicts(&first);
                findings.report(finding.advice("remove one of the two"));
            }
            let mac = mac.map_or(MacAddr::ZERO, |mac| mac.value);
            neighbors.push(Neighbor { port, address: address.value, mac });
        }
        section.finish();
    }
    neighbors
}

/// Reports a told neighbor that is this appliance itself, or not on the link of its port.
fn told(section: &Section<'_>, port: PortId, address: &At<IpAddr>, links: &Links, paired: bool) {
    if let Some(own) = links.own(address.value) {
        let message = format!("the neighbor {} is an address of this appliance", address.value);
        let finding = Finding::error("own-address", &address.spot, message).contradicts(own);
        section.report(finding.advice("write the address of the station on the link"));
        return;
    }
    let link_local = matches!(address.value, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if links.complete && !link_local && !paired && !links.on_link_of(address.value, port) {
        let message = format!("the neighbor {} is not on the link of its port", address.value);
        let advice =
            format!("only what is on the link has a MAC address there; {}", links.words(address.value.is_ipv4()));
        section.report(Finding::error("unreachable-neighbor", &address.spot, message).advice(advice));
    }
}
