//! IPv4 addresses inside IPv6 addresses (RFC 6052 section 2.2).
//!
//! ```text
//! prefix /32   | prefix 4 bytes | v4 4 bytes              | 0 | suffix 7     |
//! prefix /64   | prefix 8 bytes                           | 0 | v4 4 | 0 3   |
//! prefix /96   | prefix 12 bytes                                  | v4 4      |
//! ```
//! Byte 8 (bits 64 to 71) is always zero; the address goes round it.

use core::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A prefix that IPv4 addresses are embedded behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat64Prefix {
    network: Ipv6Addr,
    length: u8,
}

/// The lengths a prefix may have.
pub const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The byte that stays zero.
const ZERO: usize = 8;

/// IPv4 addresses that mean something within one site or machine only, so that the well-known prefix, which means the same
/// everywhere, may not stand before them (RFC 6052 section 3.1, RFC 6890): network and prefix length. Those for documentation
/// (RFC 5737) are left: RFC 6052 itself writes them so, and nobody has them.
const NOT_GLOBAL: [([u8; 4], u32); 9] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
];

impl Nat64Prefix {
    /// The well-known prefix.
    pub const WELL_KNOWN: Self = Self { network: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), length: 96 };

    /// The prefix of this length that `network` begins with; `None` when the length is not one of [`LENGTHS`], bits behind
    /// the prefix are set, or byte 8 is not zero.
    #[must_use]
    pub fn new(network: Ipv6Addr, length: u8) -> Option<Self> {
        let behind = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let fits = LENGTHS.contains(&length) && network.to_bits() & behind == 0 && network.octets()[ZERO] == 0;
        fits.then_some(Self { network, length })
    }

    /// The prefix's first address.
    #[must_use]
    pub const fn network(&self) -> Ipv6Addr {
        self.network
    }

    /// How many bits it has.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The bytes the four of an IPv4 address are at.
    fn places(self) -> impl Iterator<Item = usize> {
        (usize::from(self.length / 8)..).filter(|&place| place != ZERO).take(4)
    }

    /// The IPv6 address of an IPv4 one.
    #[must_use]
    pub fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.network.octets();
        for (place, octet) in self.places().zip(address.octets()) {
            if let Some(byte) = octets.get_mut(place) {
                *byte = octet;
            }
        }
        octets.into()
    }

    /// The IPv4 address inside an IPv6 one; `None` when it is not behind this prefix, or has anything in the bits that are
    /// zero: then answers would come from another address than was asked.
    #[must_use]
    pub fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        let mut inside = [0; 4];
        for (byte, place) in inside.iter_mut().zip(self.places()) {
            *byte = *octets.get(place)?;
        }
        let inside = Ipv4Addr::from(inside);
        (self.embed(inside) == address).then_some(inside)
    }

    /// Whether a server behind this prefix can have this address: one that a station elsewhere can have, and a global one
    /// where the prefix is the well-known one.
    #[must_use]
    pub fn reaches(self, server: Ipv4Addr) -> bool {
        let [first, ..] = server.octets();
        let is_host = first != 0 && first < 224 && !server.is_loopback() && !server.is_link_local();
        let is_inside = |&(network, length): &([u8; 4], u32)| {
            (server.to_bits() ^ u32::from_be_bytes(network)).leading_zeros() >= length
        };
        is_host && !(self == Self::WELL_KNOWN && NOT_GLOBAL.iter().any(is_inside))
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(written: &str) -> Option<Nat64Prefix> {
        let (network, length) = written.split_once('/')?;
        Nat64Prefix::new(network.parse().unwrap(), length.parse().unwrap())
    }

    /// RFC 6052 section 2.4, table 2 and table 3, address for address.
    #[test]
    fn the_examples_of_rfc_6052() {
        for (network, embedded) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let (prefix, address) = (prefix(network).unwrap(), Ipv4Addr::new(192, 0, 2, 33));
            assert_eq!(prefix.embed(address), embedded.parse::<Ipv6Addr>().unwrap(), "{network}");
            assert_eq!(prefix.extract(embedded.parse().unwrap()), Some(address), "{network}");
            assert_eq!(prefix.to_string(), network);
        }
        assert_eq!(prefix("64:ff9b::/96"), Some(Nat64Prefix::WELL_KNOWN));
    }

    /// RFC 6052 section 3.1.
    #[test]
    fn the_well_known_prefix_leads_to_global_addresses_only() {
        let own = prefix("64:ff9b:1::/96").unwrap();
        for (address, well_known, other) in [
            ("8.8.8.8", true, true),
            ("192.0.2.33", true, true),
            ("198.51.100.7", true, true),
            ("203.0.113.7", true, true),
            ("100.63.255.255", true, true),
            ("172.32.0.1", true, true),
            ("10.1.2.3", false, true),
            ("100.64.0.1", false, true),
            ("172.16.0.1", false, true),
            ("172.31.255.255", false, true),
            ("192.0.0.8", false, true),
            ("192.168.1.1", false, true),
            ("198.18.0.1", false, true),
            ("198.19.255.255", false, true),
            ("0.0.0.0", false, false),
            ("127.0.0.1", false, false),
            ("169.254.1.1", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(
                (Nat64Prefix::WELL_KNOWN.reaches(address), own.reaches(address)),
                (well_known, other),
                "{address}"
            );
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for bad in ["2001:db8::/33", "2001:db8::/128", "2001:db8::1/96", "2001:db8::/0", "2001:db8:0:0:100::/96"] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_embedded_comes_out_and_nothing_else_does(length in prop::sample::select(&LENGTHS), address: u32, flip in 0..128_u32) {
            let network = Ipv6Addr::from_bits(0x2001_0db8 << 96);
            let prefix = Nat64Prefix::new(network, length).unwrap();
            let address = Ipv4Addr::from_bits(address);
            let embedded = prefix.embed(address);
            prop_assert_eq!(prefix.extract(embedded), Some(address));
            let other = Ipv6Addr::from_bits(embedded.to_bits() ^ 1 << flip);
            prop_assert_ne!(prefix.extract(other), Some(address));
        }
    }
}
