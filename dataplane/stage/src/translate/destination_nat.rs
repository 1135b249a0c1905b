//! Destination NAT (port forwarding): what is asked of an address and port of the appliance goes to a server behind it.
//!
//! Compiled in management, read by workers at the first packet of a session, never changed but for the counts.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use units::ZoneId;

use crate::PortRange;
use crate::balancer::ServiceProtocol;

/// One forward: ports of one address, each to a port of one server, in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRule {
    /// The operator's name for it, unique among forwards.
    pub name: String,
    /// Zones it is for; empty for all.
    pub from: Vec<ZoneId>,
    /// Sources it is for; empty for all.
    pub source: Vec<IpNet>,
    /// The address that is asked.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: ServiceProtocol,
    /// The ports that are asked.
    pub ports: PortRange,
    /// The server, of the same IP version.
    pub to_address: IpAddr,
    /// The server's port for the first of `ports`; the others follow. The last is not above 65,535.
    pub to_port: u16,
}

impl ForwardRule {
    /// The server's port for a port that is asked.
    #[must_use]
    pub const fn port_for(&self, asked: u16) -> u16 {
        self.to_port.saturating_add(asked.saturating_sub(self.ports.first()))
    }

    /// The server's ports.
    #[must_use]
    pub fn to_ports(&self) -> PortRange {
        PortRange::new(self.to_port, self.port_for(self.ports.last())).unwrap_or(PortRange::single(self.to_port))
    }

    /// Whether it is for clients of this zone and address.
    #[must_use]
    pub fn is_for(&self, from: ZoneId, source: IpAddr) -> bool {
        (self.from.is_empty() || self.from.contains(&from))
            && (self.source.is_empty() || self.source.iter().any(|prefix| prefix.contains(&source)))
    }
}

/// Ranges of ports of one address and protocol, by their first port; they do not overlap.
type Ranges = HashMap<(IpAddr, u8), Vec<(PortRange, usize)>>;

fn insert(ranges: &mut Ranges, address: IpAddr, protocol: u8, ports: PortRange, position: usize) {
    let there = ranges.entry((address, protocol)).or_default();
    let place = there.partition_point(|(range, _)| range.first() <= ports.first());
    there.insert(place, (ports, position));
}

/// The forwards of one policy.
#[derive(Clone, Debug, Default)]
pub struct DestinationNat {
    forwards: Box<[(ForwardRule, Arc<AtomicU64>)]>,
    asked: Ranges,
    addresses: HashSet<IpAddr>,
}

impl DestinationNat {
    /// Compiles these forwards. Those `previous` has under the same name go on counting.
    #[must_use]
    pub fn new(rules: Vec<ForwardRule>, previous: Option<&Self>) -> Self {
        let mut asked = Ranges::new();
        for (position, rule) in rules.iter().enumerate() {
            insert(&mut asked, rule.address, rule.protocol.number(), rule.ports, position);
        }
        let addresses = rules.iter().map(|rule| rule.address).collect();
        let count = |name: &str| {
            let same = previous.and_then(|it| it.forwards.iter().find(|(rule, _)| rule.name == name));
            same.map_or_else(Arc::default, |(_, opened)| Arc::clone(opened))
        };
        let forwards = rules.into_iter().map(|rule| (count(&rule.name), rule)).map(|(count, rule)| (rule, count));
        Self { forwards: forwards.collect(), asked, addresses }
    }

    /// The forward of this address, protocol and port, whoever asks.
    #[must_use]
    pub fn find(&self, address: IpAddr, protocol: u8, port: u16) -> Option<usize> {
        let ranges = self.asked.get(&(address, protocol))?;
        let after = ranges.partition_point(|(range, _)| range.first() <= port);
        let (range, position) = ranges.get(after.checked_sub(1)?)?;
        range.contains(port).then_some(*position)
    }

    /// Whether an address has forwards.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Every address that has forwards once, in no particular order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    /// The forward at this position.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<&ForwardRule> {
        self.forwards.get(position).map(|(rule, _)| rule)
    }

    /// A session of the forward at this position has begun.
    pub fn opened(&self, position: usize) {
        if let Some((_, opened)) = self.forwards.get(position) {
            opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The forwards in the order written, each with the number of its sessions so far.
    pub fn iter(&self) -> impl Iterator<Item = (&ForwardRule, u64)> {
        self.forwards.iter().map(|(rule, opened)| (rule, opened.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(name: &str, address: &str, ports: (u16, u16), to: &str, to_port: u16) -> ForwardRule {
        ForwardRule {
            name: name.to_owned(),
            from: Vec::new(),
            source: Vec::new(),
            address: address.parse().unwrap(),
            protocol: ServiceProtocol::Tcp,
            ports: PortRange::new(ports.0, ports.1).unwrap(),
            to_address: to.parse().unwrap(),
            to_port,
        }
    }

    fn nat() -> DestinationNat {
        DestinationNat::new(
            vec![
                forward("range", "198.51.100.1", (9_000, 9_009), "10.0.0.11", 80),
                forward("one", "198.51.100.1", (22, 22), "10.0.0.12", 22),
                forward("six", "2001:db8::1", (443, 443), "2001:db8:10::11", 8_443),
            ],
            None,
        )
    }

    fn found(nat: &DestinationNat, address: &str, protocol: u8, port: u16) -> Option<usize> {
        nat.find(address.parse().unwrap(), protocol, port)
    }

    #[test]
    fn ports_are_found_by_their_ranges() {
        let nat = nat();
        for (port, wanted) in
            [(8_999, None), (9_000, Some(0)), (9_009, Some(0)), (9_010, None), (22, Some(1)), (21, None)]
        {
            assert_eq!(found(&nat, "198.51.100.1", 6, port), wanted, "{port}");
        }
        assert_eq!(found(&nat, "198.51.100.1", 17, 22), None);
        assert_eq!(found(&nat, "198.51.100.2", 6, 22), None);
        assert_eq!(found(&nat, "2001:db8::1", 6, 443), Some(2));
    }

    #[test]
    fn a_range_goes_port_by_port() {
        let nat = nat();
        let rule = nat.rule(0).unwrap();
        assert_eq!((rule.port_for(9_000), rule.port_for(9_009)), (80, 89));
        assert_eq!(rule.to_ports(), PortRange::new(80, 89).unwrap());
    }

    #[test]
    fn zones_and_sources_are_restricted() {
        let rule = ForwardRule {
            from: vec![ZoneId::new(1)],
            source: vec!["203.0.113.0/24".parse().unwrap()],
            ..forward("r", "198.51.100.1", (22, 22), "10.0.0.12", 22)
        };
        assert!(rule.is_for(ZoneId::new(1), "203.0.113.9".parse().unwrap()));
        assert!(!rule.is_for(ZoneId::new(2), "203.0.113.9".parse().unwrap()));
        assert!(!rule.is_for(ZoneId::new(1), "203.0.114.9".parse().unwrap()));
    }

    #[test]
    fn counts_go_on_under_their_name() {
        let first = nat();
        first.opened(1);
        let second =
            DestinationNat::new(vec![forward("one", "198.51.100.1", (2_222, 2_222), "10.0.0.12", 22)], Some(&first));
        assert_eq!(second.iter().map(|(_, opened)| opened).collect::<Vec<_>>(), [1]);
        assert!(second.owns("198.51.100.1".parse().unwrap()) && !second.owns("10.0.0.12".parse().unwrap()));
    }
}
