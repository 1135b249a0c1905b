//! Where a packet meets the balancer: the virtual addresses. Built when a policy is compiled, read by workers at the first
//! packet of a session, never changed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use units::ServiceId;

use super::service::{ServiceProtocol, ServiceSpec};
use crate::{Keyed, PortRange};

/// A range of ports of one address and protocol, and the service it belongs to.
#[derive(Clone, Copy, Debug)]
struct Claim {
    ports: PortRange,
    service: ServiceId,
}

/// Claims on one address, by protocol: disjoint, by first port for the search.
#[derive(Clone, Debug, Default)]
struct Claims {
    tcp: Vec<Claim>,
    udp: Vec<Claim>,
}

impl Claims {
    fn of(&self, protocol: u8) -> &[Claim] {
        match protocol {
            6 => &self.tcp,
            17 => &self.udp,
            _ => &[],
        }
    }

    fn add(&mut self, protocol: ServiceProtocol, ports: PortRange, service: ServiceId) {
        let claims = match protocol {
            ServiceProtocol::Tcp => &mut self.tcp,
            ServiceProtocol::Udp => &mut self.udp,
        };
        claims.push(Claim { ports, service });
    }

    fn sort(&mut self) {
        for claims in [&mut self.tcp, &mut self.udp] {
            claims.sort_by_key(|claim| (claim.ports.first(), claim.service));
        }
    }
}

/// The addresses of one policy's services.
#[derive(Debug, Default)]
pub(super) struct Index {
    virtuals: HashMap<IpAddr, Claims, Keyed>,
    pools: HashSet<IpAddr, Keyed>,
}

impl Index {
    pub(super) fn new(specs: &[ServiceSpec]) -> Self {
        let mut index = Self::default();
        for (spec, number) in specs.iter().zip(0u32..) {
            let service = ServiceId::new(number);
            for &ports in &spec.ports {
                index.virtuals.entry(spec.address).or_default().add(spec.protocol, ports, service);
            }
            index.pools.extend(spec.source_address.iter().copied());
        }
        index.virtuals.values_mut().for_each(Claims::sort);
        index
    }

    /// The service that is asked at this address and port: its ranges are disjoint, so the last that begins at or before
    /// the port is the only one that can hold it.
    pub(super) fn find(&self, destination: IpAddr, protocol: u8, port: u16) -> Option<ServiceId> {
        let claims = self.virtuals.get(&destination)?.of(protocol);
        let behind = claims.partition_point(|claim| claim.ports.first() <= port);
        let claim = claims.get(behind.checked_sub(1)?)?;
        claim.ports.contains(port).then_some(claim.service)
    }

    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.virtuals.contains_key(&address)
    }

    pub(super) fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.virtuals.keys().copied()
    }

    pub(super) fn pool_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.pools.iter().copied()
    }
}
