//! Who the clients are: numbers turned into addresses and ports, and back, without a table. Every client has a source
//! address and a port of its own, so each is one session of the appliance.
//!
//! ```text
//! number  | host (address - first)          | low 15 bits: port - 0x8000 |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::Endpoints;

/// Bits of a client's number that choose its port.
const PORT_BITS: u32 = 15;
/// Clients use the ports from here on; services lie below.
const PORT_FIRST: u16 = 1 << PORT_BITS;

/// Whether a port is one that clients use. What arrives for another is for a server.
#[inline]
#[must_use]
pub const fn is_client_port(port: u16) -> bool {
    port >= PORT_FIRST
}

/// Which families clients are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Even numbers IPv4, odd ones IPv6.
    Both,
}

/// Some clients of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// How many.
    pub count: u32,
    /// Of which families.
    pub families: Families,
    /// The first IPv4 client; the others follow it.
    pub first_v4: Ipv4Addr,
    /// The first IPv6 client.
    pub first_v6: Ipv6Addr,
    /// What they ask.
    pub service_v4: Ipv4Addr,
    /// What they ask over IPv6.
    pub service_v6: Ipv6Addr,
    /// And at which port.
    pub service_port: u16,
}

impl Clients {
    /// The addresses and the source port of client `number`.
    #[inline]
    #[must_use]
    pub fn tuple(&self, number: u32) -> (Endpoints, u16) {
        let host = number >> PORT_BITS;
        #[expect(clippy::cast_possible_truncation, reason = "masked to 15 bits")]
        let port = PORT_FIRST | (number as u16 & (PORT_FIRST - 1));
        let is_v6 = match self.families {
            Families::V4 => false,
            Families::V6 => true,
            Families::Both => number & 1 == 1,
        };
        let endpoints = if is_v6 {
            let source = Ipv6Addr::from_bits(self.first_v6.to_bits().wrapping_add(u128::from(host)));
            Endpoints::V6 { source, destination: self.service_v6 }
        } else {
            let source = Ipv4Addr::from_bits(self.first_v4.to_bits().wrapping_add(host));
            Endpoints::V4 { source, destination: self.service_v4 }
        };
        (endpoints, port)
    }

    /// The number of the client with this address and port.
    #[inline]
    #[must_use]
    pub fn number(&self, address: IpAddr, port: u16) -> Option<u32> {
        let host = match address {
            IpAddr::V4(address) => u128::from(address.to_bits().wrapping_sub(self.first_v4.to_bits())),
            IpAddr::V6(address) => address.to_bits().wrapping_sub(self.first_v6.to_bits()),
        };
        let host = u32::try_from(host).ok().filter(|host| host >> (32 - PORT_BITS) == 0)?;
        let number = (host << PORT_BITS) | u32::from(port.checked_sub(PORT_FIRST)?);
        let is_v6 = match self.families {
            Families::V4 => false,
            Families::V6 => true,
            Families::Both => number & 1 == 1,
        };
        (number < self.count && address.is_ipv6() == is_v6).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(families: Families) -> Clients {
        Clients {
            count: 100_000,
            families,
            first_v4: [20, 0, 255, 254].into(),
            first_v6: "2001:db8:c::ffff".parse().unwrap(),
            service_v4: [198, 51, 100, 10].into(),
            service_v6: "2001:db8:1::a".parse().unwrap(),
            service_port: 80,
        }
    }

    #[test]
    fn every_client_is_found_by_its_address_and_port_and_by_no_other() {
        for families in [Families::V4, Families::V6, Families::Both] {
            let clients = clients(families);
            let mut seen = std::collections::HashSet::new();
            for number in 0..clients.count {
                let (endpoints, port) = clients.tuple(number);
                assert!(is_client_port(port) && seen.insert((endpoints.source(), port)));
                assert_eq!(clients.number(endpoints.source(), port), Some(number));
            }
            let (endpoints, port) = clients.tuple(clients.count);
            assert_eq!(clients.number(endpoints.source(), port), None);
            assert_eq!(clients.number(Ipv4Addr::new(20, 0, 255, 253).into(), 40_000), None);
            assert_eq!(clients.number(clients.first_v4.into(), 80), None);
        }
    }
}
