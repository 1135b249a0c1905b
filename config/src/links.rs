//! What the ports' addresses make of the network around: the appliance's own addresses, and the prefixes on its links.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use ipnet::IpNet;
use stage::forward::Route;
use units::PortId;

use crate::findings::{Finding, Findings, Spot};
use crate::policy::Policy;
use crate::ports::Ports;
use crate::prefix_map::PrefixMap;

/// Own addresses and connected prefixes.
#[derive(Debug)]
pub(crate) struct Links {
    own: HashMap<IpAddr, (PortId, Spot)>,
    connected: PrefixMap<(PortId, Spot)>,
    /// Whether every address could be read, so that what is not here is certainly not on a link.
    pub(crate) complete: bool,
}

impl Links {
    /// Reports addresses given twice, and networks that lie on two ports.
    pub(crate) fn of(ports: &Ports, findings: &Findings) -> Self {
        let complete = ports.ports.iter().all(|read| read.complete);
        let mut links = Self { own: HashMap::new(), connected: PrefixMap::default(), complete };
        for (read, number) in ports.ports.iter().zip(0..) {
            for address in &read.addresses {
                links.add(PortId::new(number), address.value, &address.spot, findings);
            }
        }
        links
    }

    fn add(&mut self, port: PortId, address: IpNet, spot: &Spot, findings: &Findings) {
        match self.own.entry(address.addr()) {
            Entry::Occupied(first) => {
                let message = format!("the address {} is given twice", address.addr());
                let finding = Finding::error("duplicate-address", spot, message).contradicts(&first.get().1);
                findings.report(finding.advice("an address belongs to one port; remove one of the two"));
                return;
            }
            Entry::Vacant(place) => {
                place.insert((port, spot.clone()));
            }
        }
        match self.connected.entry(address) {
            Entry::Occupied(first) if first.get().0 != port => {
                let message = format!("the network {} is on the links of two ports", address.trunc());
                let finding = Finding::error("overlapping-networks", spot, message).contradicts(&first.get().1);
                findings
                    .report(finding.advice("each port has networks of its own; mend an address or its prefix length"));
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                place.insert((port, spot.clone()));
            }
        }
    }

    /// Where the appliance's own `address` is written, if it is one.
    pub(crate) fn own(&self, address: IpAddr) -> Option<&Spot> {
        self.own.get(&address).map(|(_, spot)| spot)
    }

    /// The port on whose link `address` is, by the longest prefix.
    pub(crate) fn port_of(&self, address: IpAddr) -> Option<PortId> {
        self.connected.containing(address).next().map(|(_, (port, _))| *port)
    }

    /// Whether `address` is on the link of this port.
    pub(crate) fn on_link_of(&self, address: IpAddr, port: PortId) -> bool {
        self.connected.containing(address).any(|(_, (on, _))| *on == port)
    }

    /// Where the connected prefix `prefix` is written, if it is one.
    pub(crate) fn connected(&self, prefix: IpNet) -> Option<&Spot> {
        self.connected.get(prefix).map(|(_, spot)| spot)
    }

    /// Where a connected prefix that overlaps `prefix` is written, if there is one.
    pub(crate) fn connected_within(&self, prefix: IpNet) -> Option<&Spot> {
        let overlaps = |net: &IpNet| net.contains(&prefix) || prefix.contains(net);
        self.connected.iter().find(|(net, _)| overlaps(net)).map(|(_, (_, spot))| spot)
    }

    /// Whether `address` is one that no station on its link can have: the network's own or its broadcast.
    pub(crate) fn is_network_or_broadcast(&self, address: IpAddr) -> bool {
        self.connected.containing(address).any(|(prefix, _)| {
            let shared = prefix.max_prefix_len() - prefix.prefix_len() > 1;
            shared && (address == prefix.network() || address.is_ipv4() && address == prefix.broadcast())
        })
    }

    /// The connected prefixes of one family, for advice.
    pub(crate) fn words(&self, v4: bool) -> String {
        let of_family = self.connected.iter().map(|(prefix, _)| prefix).filter(|prefix| prefix.addr().is_ipv4() == v4);
        let mut prefixes: Vec<_> = of_family.copied().collect();
        prefixes.sort_unstable();
        let words: Vec<_> = prefixes.iter().take(8).map(ToString::to_string).collect();
        match (words.len(), prefixes.len()) {
            (0, _) => format!("no port has an {} address", if v4 { "IPv4" } else { "IPv6" }),
            (shown, all) if shown < all => format!("on the links are {}, and {} more", words.join(", "), all - shown),
            _ => format!("on the links are {}", words.join(", ")),
        }
    }
}

impl Policy {
    /// Every route there is: the prefixes on the links of the ports, then the routes as written.
    #[must_use]
    pub fn route_table(&self) -> Vec<Route> {
        let mut table: Vec<Route> = Vec::new();
        for (port, number) in self.ports.iter().zip(0..) {
            for address in &port.addresses {
                let route = Route { to: address.trunc(), via: None, port: PortId::new(number) };
                if !table.contains(&route) {
                    table.push(route);
                }
            }
        }
        table.extend(&self.routes);
        table
    }
}
