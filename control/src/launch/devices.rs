//! The devices of the policy: opened, configured, and seen by management as [`View`]s.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use config::Policy;
use dpdk::{Eal, Mbuf, Pool, PoolOptions, Port, PortOptions, Queue, Side};
use stage::balancer::Mode;
use stage::forward::{LinearRoutes, RouteTable};
use units::{Nanos, PortId};
use wire::{MacAddr, solicited_node};
use worker::{Clock, KernelRings};

use super::Refused;
use super::replug::Borrowed;
use super::view::View;
use crate::compile::Device;
use crate::kernel::Isolation;
use crate::kernel::isolate::{interface_exists, taken_interface};

/// All nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);

/// The open devices, and those of them that the kernel's interfaces are under.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) pool: Pool,
    pub(super) ports: Vec<Port>,
    pub(super) queues: Vec<Vec<Queue>>,
    pub(super) borrowed: Vec<Borrowed>,
}

/// DPDK's clock as workers know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TscClock(pub(super) dpdk::Clock);

impl Clock for TscClock {
    fn now(&self) -> Nanos {
        self.0.now()
    }

    fn cycles(&self) -> u64 {
        dpdk::Clock::cycles()
    }

    fn moment(&self) -> (Nanos, u64) {
        let cycles = dpdk::Clock::cycles();
        (self.0.at(cycles), cycles)
    }
}

/// Opens every port of the policy with a queue for each worker, or as many as the device has.
pub(super) fn open(eal: &Eal, policy: &Policy) -> Result<Ports, Refused> {
    let options = PoolOptions {
        name: "frames".to_owned(),
        buffers: policy.dpdk.buffers,
        frame_bytes: policy.dpdk.buffer_size,
        socket: None,
    };
    let pool = Pool::new(eal, &options)?;
    let workers = u16::try_from(policy.cores.workers.len()).unwrap_or(u16::MAX);
    let routes = LinearRoutes::new(&policy.route_table());
    let (mut ports, mut queues, mut borrowed) = (Vec::new(), Vec::new(), Vec::new());
    for (port, number) in policy.ports.iter().zip((0..).map(PortId::new)) {
        // A device whose interface is missing is refused below, in one sentence.
        let interface = taken_interface(&port.device).filter(|interface| interface_exists(interface));
        let isolation = interface.map(Isolation::of);
        for warning in isolation.iter().flat_map(Isolation::warnings) {
            log::warn!("port {}: {warning}", port.name);
        }
        // Until the tables are compiled; from then on the groups follow them.
        let own = port.addresses.iter().map(ipnet::IpNet::addr);
        let options = PortOptions {
            queues: port.queues.unwrap_or(workers).min(workers),
            mtu: port.mtu,
            mac: port.mac,
            groups: groups(own),
            side: side_of(policy, &routes, number),
            // What passes through is for other stations.
            promiscuous: policy.pair_of(number).is_some(),
            ..PortOptions::default()
        };
        let (open, pairs) =
            Port::open(eal, &port.device, &options, &pool).map_err(|error| format!("port {}: {error}", port.name))?;
        borrowed.extend(interface.zip(isolation).map(|(interface, isolation)| Borrowed {
            number,
            name: port.name.clone(),
            device: port.device.clone(),
            interface: interface.to_owned(),
            options: PortOptions { mac: Some(open.mac()), queues: open.queues(), ..options },
            isolation,
        }));
        ports.push(open);
        queues.push(pairs);
    }
    Ok(Ports { pool, ports, queues, borrowed })
}

/// What a port's packets are best spread by. Where services rewrite the other end, only the client's is the same in both
/// directions: the source of what comes in, the destination of what the backends behind this port answer.
fn side_of(policy: &Policy, routes: &LinearRoutes, port: PortId) -> Side {
    let mut rewritten = policy.services.iter().filter(|service| service.spec.mode == Mode::Nat).peekable();
    if rewritten.peek().is_none() {
        return Side::Both;
    }
    let is_behind = |address| routes.lookup(address).is_some_and(|route| route.port == port);
    let answers = rewritten.flat_map(|service| &service.spec.backends).any(|backend| is_behind(backend.address));
    if answers { Side::Destination } else { Side::Source }
}

/// The multicast groups that neighbor discovery for these addresses uses.
pub(super) fn groups(addresses: impl Iterator<Item = IpAddr>) -> Vec<MacAddr> {
    let v6 = addresses.filter_map(|address| match address {
        IpAddr::V6(v6) => Some(MacAddr::ipv6_multicast(solicited_node(v6))),
        IpAddr::V4(_) => None,
    });
    let mut groups: Vec<MacAddr> = v6.chain([ALL_NODES]).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// What the compiler needs of the devices.
pub(super) fn facts(policy: &Policy, ports: &[Port]) -> Vec<Device> {
    let both = policy.ports.iter().zip(ports);
    both.map(|(port, open)| Device { mac: open.mac(), kernel: port.kernel_interface.is_some() }).collect()
}

/// A random word from the system's generator.
pub(super) fn random_word() -> u64 {
    // The standard library seeds every state from the system's generator.
    RandomState::new().build_hasher().finish()
}

/// The ports as management sees them, each with the rings of its kernel interface.
pub(super) fn views(ports: Vec<Port>, rings: &[(PortId, Arc<KernelRings<Mbuf>>)]) -> Vec<Arc<View>> {
    let view = |(number, port)| {
        let kernel = rings.iter().find(|(of, _)| *of == number).map(|(_, rings)| Arc::clone(rings));
        Arc::new(View::new(port, kernel))
    };
    (0..).map(PortId::new).zip(ports).map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_the_ipv6_addresses_and_all_nodes_each_once() {
        // Two addresses of the same last 24 bits share their group (RFC 4291 section 2.7.1).
        let addresses = ["10.0.0.1", "2001:db8::1:1", "2001:db8:1::1:1", "2001:db8::abcd"];
        let groups = groups(addresses.into_iter().map(|address| address.parse().unwrap()));
        let shown: Vec<String> = groups.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["33:33:00:00:00:01", "33:33:ff:00:ab:cd", "33:33:ff:01:00:01"]);
    }
}
