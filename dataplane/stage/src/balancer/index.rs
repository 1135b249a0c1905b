//! Where a packet meets the balancer: virtual addresses, and in line the backends themselves. Built when a policy is
//! compiled, read by workers at the first packet of a session, never changed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use units::ServiceId;

use super::service::{Attract, ServiceProtocol, ServiceSpec};
use crate::{Keyed, PortRange};

/// A range of ports of one address and protocol, and the service it belongs to.
#[derive(Clone, Copy, Debug)]
struct Claim {
    ports: PortRange,
    service: ServiceId,
}

/// Claims on one address, by protocol: disjoint for virtual addresses, by first port for the search.
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
    /// Backends of services that attract in line, which are taken in under their own addresses too.
    in_line: HashMap<IpAddr, Claims, Keyed>,
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
            for backend in spec.backends.iter().filter(|_| spec.attract == Attract::InLine) {
                let claims = index.in_line.entry(backend.address).or_default();
                match backend.port {
                    Some(port) => claims.add(spec.protocol, PortRange::single(port), service),
                    None => spec.ports.iter().for_each(|&ports| claims.add(spec.protocol, ports, service)),
                }
            }
            index.pools.extend(spec.source_address.iter().copied());
        }
        index.virtuals.values_mut().chain(index.in_line.values_mut()).for_each(Claims::sort);
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

    /// The first service that attracts in line and has a backend at this address and port; one backend may serve several.
    pub(super) fn of_backend_in_line(&self, address: IpAddr, protocol: u8, port: u16) -> Option<ServiceId> {
        let claims = self.in_line.get(&address)?.of(protocol).iter();
        claims.filter(|claim| claim.ports.contains(port)).map(|claim| claim.service).min()
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
