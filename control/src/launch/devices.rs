//! The devices of the policy: opened, configured, and seen by management through [`PortView`].

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
use worker::{Clock, KernelRings, Snapshot};

use super::Refused;
use crate::compile::{Device, answered_addresses};
use crate::kernel::Isolation;
use crate::kernel::isolate::{interface_exists, taken_interface};
use crate::running::{DeviceCounters, KernelCounters, PortView};

/// All nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);

/// The open devices and what keeps them to ourselves.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) pool: Pool,
    pub(super) ports: Vec<Port>,
    pub(super) queues: Vec<Vec<Queue>>,
    pub(super) isolations: Vec<Isolation>,
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
    let (mut ports, mut queues, mut isolations) = (Vec::new(), Vec::new(), Vec::new());
    for (port, number) in policy.ports.iter().zip((0..).map(PortId::new)) {
        // A device whose interface is missing is refused below, in one sentence.
        if let Some(interface) = taken_interface(&port.device).filter(|interface| interface_exists(interface)) {
            let isolation = Isolation::of(interface);
            for warning in isolation.warnings() {
                log::warn!("port {}: {warning}", port.name);
            }
            isolations.push(isolation);
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
        ports.push(open);
        queues.push(pairs);
    }
    Ok(Ports { pool, ports, queues, isolations })
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
fn groups(addresses: impl Iterator<Item = IpAddr>) -> Vec<MacAddr> {
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
pub(super) fn views(ports: Vec<Port>, rings: &[(PortId, Arc<KernelRings<Mbuf>>)]) -> Vec<Box<dyn PortView>> {
    let view = |(number, port)| -> Box<dyn PortView> {
        let kernel = rings.iter().find(|(of, _)| *of == number).map(|(_, rings)| Arc::clone(rings));
        Box::new(View { port, kernel })
    };
    (0..).map(PortId::new).zip(ports).map(view).collect()
}

/// A port as management sees it.
#[derive(Debug)]
struct View {
    port: Port,
    kernel: Option<Arc<KernelRings<Mbuf>>>,
}

impl PortView for View {
    fn counters(&self) -> DeviceCounters {
        let stats = self.port.stats();
        let kernel = self.kernel.as_ref().map(|rings| rings.counters()).map(|counted| KernelCounters {
            delivered: counted.delivered,
            refused: counted.refused,
            sent: counted.sent,
            oversized: counted.oversized,
        });
        DeviceCounters {
            up: self.port.link().up,
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            rx_missed: stats.rx_missed + stats.rx_errors,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_dropped: stats.tx_errors,
            kernel: kernel.unwrap_or_default(),
        }
    }

    fn answer_for(&self, snapshot: &Snapshot) {
        if let Err(error) = self.port.set_groups(&groups(answered_addresses(snapshot).into_iter())) {
            log::warn!("{error}");
        }
    }
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
