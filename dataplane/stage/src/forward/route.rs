//! One route, and the table that finds the longest matching prefix.
//!
//! A table is built in management when a policy is compiled and read by every worker, for the first packet of a session
//! only: the session remembers its next hop. `dpdk` implements [`RouteTable`] over `rte_fib` and `rte_fib6`;
//! [`LinearRoutes`] is the plain implementation and the oracle of that one's tests. Nothing here resolves next hops.

use core::fmt::Debug;
use std::net::IpAddr;

use ipnet::IpNet;
use units::PortId;

/// Packets to `to` leave through `port`, towards `via` or, when the prefix is on the link, towards their destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The prefix.
    pub to: IpNet,
    /// The next hop; `None` for a prefix that is on the link.
    pub via: Option<IpAddr>,
    /// The port it is reached through.
    pub port: PortId,
}

impl Route {
    /// The neighbor a packet to `destination` is handed to: the next hop, or the destination itself on the link.
    #[must_use]
    pub fn next_hop(&self, destination: IpAddr) -> IpAddr {
        self.via.unwrap_or(destination)
    }
}

/// A finished routing table for both families.
pub trait RouteTable: Send + Sync + Debug {
    /// The route with the longest prefix that holds `destination`; of several with the same prefix the one listed first.
    fn lookup(&self, destination: IpAddr) -> Option<&Route>;

    /// Bytes of memory the table takes.
    fn memory(&self) -> usize;
}

/// Routes in a list, longest prefix first: a lookup reads as far as the first match.
#[derive(Clone, Debug, Default)]
pub struct LinearRoutes {
    v4: Box<[Route]>,
    v6: Box<[Route]>,
}

impl LinearRoutes {
    /// The table of these routes.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        let family = |v6: bool| {
            let mut list: Vec<Route> =
                routes.iter().filter(|route| matches!(route.to, IpNet::V6(_)) == v6).copied().collect();
            // Stable: of equal prefixes the first listed stays first.
            list.sort_by_key(|route| core::cmp::Reverse(route.to.prefix_len()));
            list.into_boxed_slice()
        };
        Self { v4: family(false), v6: family(true) }
    }
}

impl RouteTable for LinearRoutes {
    fn lookup(&self, destination: IpAddr) -> Option<&Route> {
        let routes = if destination.is_ipv6() { &self.v6 } else { &self.v4 };
        routes.iter().find(|route| route.to.contains(&destination))
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.v4) + size_of_val(&*self.v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(to: &str, via: Option<&str>, port: u16) -> Route {
        Route { to: to.parse().unwrap(), via: via.map(|via| via.parse().unwrap()), port: PortId::new(port) }
    }

    fn port_for(table: &LinearRoutes, destination: &str) -> Option<u16> {
        table.lookup(destination.parse().unwrap()).map(|route| route.port.get())
    }

    #[test]
    fn longest_prefix_wins_in_any_order_of_listing() {
        let mut routes = vec![
            route("0.0.0.0/0", Some("192.0.2.1"), 0),
            route("10.0.0.0/8", None, 1),
            route("10.1.0.0/16", None, 2),
            route("10.1.2.3/32", None, 3),
            route("::/0", Some("2001:db8::1"), 4),
            route("2001:db8:10::/64", None, 5),
        ];
        for _ in 0..routes.len() {
            routes.rotate_left(1);
            let table = LinearRoutes::new(&routes);
            assert_eq!(port_for(&table, "203.0.113.9"), Some(0));
            assert_eq!(port_for(&table, "10.255.0.1"), Some(1));
            assert_eq!(port_for(&table, "10.1.2.4"), Some(2));
            assert_eq!(port_for(&table, "10.1.2.3"), Some(3));
            assert_eq!(port_for(&table, "2001:db8:11::1"), Some(4));
            assert_eq!(port_for(&table, "2001:db8:10::1"), Some(5));
        }
    }

    #[test]
    fn no_route_is_no_answer_and_families_do_not_mix() {
        let table = LinearRoutes::new(&[route("0.0.0.0/0", None, 0)]);
        assert_eq!(port_for(&table, "2001:db8::1"), None);
        assert_eq!(LinearRoutes::default().lookup("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn of_equal_prefixes_the_first_listed_wins() {
        let table = LinearRoutes::new(&[route("10.0.0.0/8", None, 7), route("10.0.0.0/8", None, 8)]);
        assert_eq!(port_for(&table, "10.0.0.1"), Some(7));
        assert!(table.memory() > 2 * size_of::<Route>());
    }

    #[test]
    fn next_hop_is_the_gateway_or_the_destination_itself() {
        let destination = "203.0.113.9".parse().unwrap();
        assert_eq!(route("0.0.0.0/0", Some("192.0.2.1"), 0).next_hop(destination).to_string(), "192.0.2.1");
        assert_eq!(route("203.0.113.0/24", None, 0).next_hop(destination), destination);
    }

    proptest! {
        #[test]
        fn no_listed_route_that_matches_is_longer(
            prefixes in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            destination: u32,
        ) {
            let routes: Vec<Route> = prefixes
                .iter()
                .zip(0u16..)
                .map(|(&(bits, len), port)| Route {
                    to: IpNet::new(IpAddr::V4(bits.into()), len).unwrap().trunc(),
                    via: None,
                    port: PortId::new(port),
                })
                .collect();
            let destination = IpAddr::V4(destination.into());
            let best = routes.iter().filter(|route| route.to.contains(&destination)).map(|r| r.to.prefix_len()).max();
            let table = LinearRoutes::new(&routes);
            prop_assert_eq!(table.lookup(destination).map(|route| route.to.prefix_len()), best);
        }
    }
}
