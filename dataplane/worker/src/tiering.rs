//! What of a policy says which tiers of which services there are, and what is told by where a packet comes from (SE-71,
//! SE-72): the VLANs that mark, each at the ports behind which instances of its tier are, and those instances.
//!
//! Built when a policy is compiled, read by workers, never changed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use stage::Keyed;
use stage::balancer::{Service, ServiceSpec, Services};
use stage::forward::RouteTable;
use units::{PortId, ServiceId};
use wire::{Content, Facts, Frame, QuotedTransport, Transport};

use crate::local::is_discovery_message;

/// An instance of a tier.
#[derive(Clone, Copy, Debug)]
struct Instance {
    /// The tiers behind which its packets are: 1 for the first.
    passed: u8,
    port: PortId,
    address: IpAddr,
}

/// The tiers of a policy.
#[derive(Debug, Default)]
pub struct Tiering {
    /// Services with tiers, by the address they are asked at.
    asked: HashMap<IpAddr, Vec<ServiceId>, Keyed>,
    /// The instances of their tiers, by the number of the service that is asked.
    instances: Vec<Vec<Instance>>,
    markers: HashSet<(PortId, u16), Keyed>,
}

/// How many tiers a packet in this VLAN has passed, of a service whose tiers are marked by those behind `base`.
pub(crate) const fn passed_in(vlan: u16, base: u16, tiers: u8) -> u8 {
    let passed = vlan.saturating_sub(base);
    if passed <= tiers as u16 { passed.to_be_bytes()[1] } else { 0 }
}

/// How many tiers a service has.
pub(crate) fn count_of(spec: &ServiceSpec) -> u8 {
    u8::try_from(spec.tiers.len()).unwrap_or(u8::MAX)
}

impl Tiering {
    /// Compiles what these say. The instances of tiers are on the links of ports.
    #[must_use]
    pub fn compile(services: &Services, routes: &dyn RouteTable) -> Self {
        let mut tiering = Self { instances: vec![Vec::new(); services.len()], ..Self::default() };
        for service in services.iter().filter(|service| !service.spec().tiers.is_empty()) {
            let spec = service.spec();
            tiering.asked.entry(spec.address).or_default().push(service.id());
            for (&tier, passed) in spec.tiers.iter().zip(1..) {
                for member in services.service(tier).map_or(&[][..], Service::members) {
                    let address = member.backend.address();
                    let Some(port) = routes.lookup(address).map(|route| route.port) else { continue };
                    if let Some(instances) = tiering.instances.get_mut(service.id().index()) {
                        instances.push(Instance { passed, port, address });
                    }
                    if let Some(base) = spec.marker_vlan {
                        tiering.markers.insert((port, base + u16::from(passed)));
                    }
                }
            }
        }
        tiering
    }

    /// The services with tiers that are asked at this address.
    pub(crate) fn asked(&self, address: IpAddr) -> &[ServiceId] {
        self.asked.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The instances of this service's tiers on the link of a port, each with the tiers that its packets have passed.
    pub(crate) fn instances(&self, service: ServiceId, port: PortId) -> impl Iterator<Item = (u8, IpAddr)> {
        let instances = self.instances.get(service.index()).map_or(&[][..], Vec::as_slice);
        instances.iter().filter(move |it| it.port == port).map(|it| (it.passed, it.address))
    }

    /// Every instance, and the port it is behind.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PortId, IpAddr)> {
        self.instances.iter().flatten().map(|it| (it.port, it.address))
    }

    /// Whether a frame with one tag may be what an instance says: it marks packets of its own service here, and the
    /// neighbors in its VLAN may be asked for.
    pub(crate) fn admits(&self, services: &Services, port: PortId, frame: &Frame) -> bool {
        let vlan = frame.link.vlan;
        self.markers.contains(&(port, vlan))
            && match &frame.content {
                Content::Arp(_) => true,
                Content::Ip(facts) => is_discovery_message(facts) || self.marks(services, facts, vlan),
                Content::Other => false,
            }
    }

    /// Whether a packet in this VLAN is of a service that the VLAN marks: asks it, or tells of a packet that did.
    fn marks(&self, services: &Services, facts: &Facts, vlan: u16) -> bool {
        let (asked, protocol, port) = match facts.transport {
            Transport::Tcp(tcp) => (facts.endpoints.destination(), facts.protocol, tcp.destination_port),
            Transport::Udp { destination_port, .. } => {
                (facts.endpoints.destination(), facts.protocol, destination_port)
            }
            Transport::IcmpError { quote, .. } => match quote.transport {
                QuotedTransport::Ports { destination_port, .. } => {
                    (quote.endpoints.destination(), quote.protocol, destination_port)
                }
                QuotedTransport::Echo { .. } | QuotedTransport::Other => return false,
            },
            // Only the first fragment has ports; the datagram is asked about again.
            _ => {
                return facts.fragment != wire::Fragment::No && !self.asked(facts.endpoints.destination()).is_empty();
            }
        };
        let spec = services.find(asked, protocol, port).and_then(|id| services.service(id)).map(Service::spec);
        let passed = |spec: &ServiceSpec| Some(passed_in(vlan, spec.marker_vlan?, count_of(spec)));
        spec.and_then(passed).is_some_and(|passed| passed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_tell_tiers_and_nothing_beyond_them() {
        let passed = [99, 100, 101, 103, 104, 4_094].map(|vlan| passed_in(vlan, 100, 3));
        assert_eq!(passed, [0, 0, 1, 3, 0, 0]);
    }
}
