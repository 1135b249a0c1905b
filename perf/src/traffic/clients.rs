//! The clients: who they are by number, and whom they ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::blueprint::Target;

/// Source ports that each client address uses.
pub const CLIENT_PORTS: Range<u16> = 1_024..61_024;

/// Clients of the services of a target. Each is a session of its own: client `n` has address `n / 60,000` and source port
/// `n % 60,000`, counted from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Whom they ask.
    pub target: Target,
    /// How many there are.
    pub count: u32,
    /// Services they ask, by ports that follow each other from the target's.
    pub services: u16,
}

/// A client's end of its session, and the port it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Its address.
    pub source: IpAddr,
    /// Its port.
    pub source_port: u16,
    /// The service's.
    pub destination_port: u16,
}

impl Clients {
    /// So many clients of one service.
    #[must_use]
    pub const fn new(target: Target, count: u32) -> Self {
        Self { target, count, services: 1 }
    }

    /// Addresses they have together.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        self.count.div_ceil(per_host()).max(1)
    }

    /// The address of a host.
    #[must_use]
    pub fn address(&self, host: u32) -> IpAddr {
        match self.target.client {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(host))),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().wrapping_add(u128::from(host)))),
        }
    }

    /// The ends of a client's session.
    #[must_use]
    pub fn ends(&self, client: u32) -> Ends {
        let port = u16::try_from(client % per_host()).unwrap_or_default();
        let service = u16::try_from(client % u32::from(self.services.max(1))).unwrap_or_default();
        Ends {
            source: self.address(client / per_host()),
            source_port: CLIENT_PORTS.start + port,
            destination_port: self.target.port.wrapping_add(service),
        }
    }
}

fn per_host() -> u32 {
    u32::from(CLIENT_PORTS.end - CLIENT_PORTS.start)
}
