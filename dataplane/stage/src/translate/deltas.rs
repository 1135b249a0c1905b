//! What a translation adds to the checksums of a packet (RFC 1624), computed once for a session and applied to each of its
//! packets: 4 bytes in the session's hot half instead of sums over both addresses each time.

use std::net::IpAddr;

use wire::checksum;

use super::NewEndpoints;

/// Which checksum a session's packets carry, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Covered {
    /// Addresses and ports, through the pseudo header: TCP and UDP.
    AddressesAndPorts,
    /// The identifier alone: `ICMPv4` echo.
    Identifier,
    /// Addresses and identifier: `ICMPv6` echo.
    AddressesAndIdentifier,
    /// Addresses alone: a protocol with a pseudo header of which nothing but the addresses changes (DCCP, UDP-Lite), or
    /// without checksum.
    Addresses,
}

impl Covered {
    /// What the checksum of a session of this IP protocol covers.
    #[must_use]
    pub const fn by(protocol: u8) -> Self {
        match protocol {
            6 | 17 => Self::AddressesAndPorts,
            1 => Self::Identifier,
            58 => Self::AddressesAndIdentifier,
            _ => Self::Addresses,
        }
    }
}

/// Two ones' complement differences, for the original direction; the reply's are their [`negated`](Self::negated).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deltas {
    /// For the IPv4 header checksum; IPv6 has none.
    pub network: u16,
    /// For the transport checksum.
    pub transport: u16,
}

impl Deltas {
    /// Nothing changes.
    pub const NONE: Self = Self { network: 0xffff, transport: 0xffff };

    /// The deltas of packets that come with `old` endpoints and leave with `new` ones.
    #[must_use]
    pub fn between<A: Copy + Into<IpAddr>>(old: &NewEndpoints<A>, new: &NewEndpoints<A>, covered: Covered) -> Self {
        let network = checksum::combine(
            checksum::delta_address(old.source.into(), new.source.into()),
            checksum::delta_address(old.destination.into(), new.destination.into()),
        );
        let transport = match covered {
            Covered::AddressesAndPorts => checksum::combine(
                network,
                checksum::delta(&[old.source_port, old.destination_port], &[new.source_port, new.destination_port]),
            ),
            Covered::Identifier => checksum::delta(&[old.source_port], &[new.source_port]),
            Covered::AddressesAndIdentifier => {
                checksum::combine(network, checksum::delta(&[old.source_port], &[new.source_port]))
            }
            Covered::Addresses => network,
        };
        Self { network, transport }
    }

    /// The deltas of the other direction.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self { network: checksum::negate(self.network), transport: checksum::negate(self.transport) }
    }
}
