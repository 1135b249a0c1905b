//! What a packet is looked up by: its protocol kind and the tuple of addresses and ports as they are on the wire.
//!
//! A tuple is not put into a canonical order: a session has two, the original's and the reply's, and with address
//! translation they are not each other's mirror. Which one matched tells the direction.

use core::fmt::Debug;
use core::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What of a packet's protocol decides how its session is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// TCP.
    Tcp = 0,
    /// UDP.
    Udp = 1,
    /// ICMP or `ICMPv6` echo: both ports of the tuple are the identifier, in both directions.
    Icmp = 2,
    /// Any other protocol: both ports of the tuple are the protocol number.
    Other = 3,
}

impl Kind {
    /// Every kind, in numeric order.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Other];

    /// The kind with these two low bits.
    pub(crate) const fn from_bits(bits: u16) -> Self {
        match bits & 3 {
            0 => Self::Tcp,
            1 => Self::Udp,
            2 => Self::Icmp,
            _ => Self::Other,
        }
    }
}

/// Addresses and ports of a packet, as on the wire. Shape: 12 bytes for IPv4, 36 for IPv6, ports in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port, echo identifier or protocol number.
    pub source_port: u16,
    /// Destination port, echo identifier or protocol number.
    pub destination_port: u16,
}

const _: () = assert!(size_of::<Tuple<Ipv4Addr>>() == 12);
const _: () = assert!(size_of::<Tuple<Ipv6Addr>>() == 36);

impl<A: Copy> Tuple<A> {
    /// The tuple of an answer where nothing is translated.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::net::Ipv4Addr {}
    impl Sealed for std::net::Ipv6Addr {}
}

/// An address family: [`Ipv4Addr`] or [`Ipv6Addr`], nothing else.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Into<IpAddr> + Send + Sync + sealed::Sealed + 'static {
    /// The unspecified address, all zero.
    const UNSPECIFIED: Self;

    /// A tuple and its kind as blocks of 16 bytes, one to one: what is hashed.
    type Blocks: AsRef<[u128]>;

    /// The blocks of a tuple.
    fn blocks(kind: Kind, tuple: &Tuple<Self>) -> Self::Blocks;
}

impl Address for Ipv4Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    type Blocks = [u128; 1];

    #[inline]
    fn blocks(kind: Kind, tuple: &Tuple<Self>) -> Self::Blocks {
        let [source, destination] =
            [tuple.source, tuple.destination].map(|address| u64::from(u32::from_ne_bytes(address.octets())));
        let addresses = destination << 32 | source;
        [block(addresses, ports(tuple) | (kind as u64) << 32)]
    }
}

impl Address for Ipv6Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    type Blocks = [u128; 3];

    #[inline]
    fn blocks(kind: Kind, tuple: &Tuple<Self>) -> Self::Blocks {
        let [source, destination] =
            [tuple.source, tuple.destination].map(|address| u128::from_ne_bytes(address.octets()));
        [source, destination, block(ports(tuple), kind as u64)]
    }
}

/// Both ports as one word of the wire, so that those of a frame are not taken apart and put together again.
const fn ports<A>(tuple: &Tuple<A>) -> u64 {
    let [[s0, s1], [d0, d1]] = [tuple.source_port.to_be_bytes(), tuple.destination_port.to_be_bytes()];
    u32::from_ne_bytes([s0, s1, d0, d1]) as u64
}

const fn block(low: u64, high: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TUPLE: Tuple<Ipv4Addr> = Tuple {
        source: Ipv4Addr::new(192, 0, 2, 1),
        destination: Ipv4Addr::new(198, 51, 100, 2),
        source_port: 40_000,
        destination_port: 80,
    };

    #[test]
    fn reversing_twice_changes_nothing() {
        assert_ne!(TUPLE.reversed(), TUPLE);
        assert_eq!(TUPLE.reversed().reversed(), TUPLE);
    }

    #[test]
    fn kinds_survive_their_two_bits() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_bits(kind as u16), kind);
            assert_eq!(Kind::from_bits(kind as u16 | 0xfffc), kind);
        }
    }

    proptest! {
        /// Two keys give the same blocks only when they are equal, so that only the hash itself can collide.
        #[test]
        fn blocks_are_one_to_one(a: (u32, u32, u16, u16, bool), b: (u32, u32, u16, u16, bool), swap in 0..5) {
            let key = |k: (u32, u32, u16, u16, bool)| {
                let kind = if k.4 { Kind::Tcp } else { Kind::Udp };
                (kind, Tuple { source: Ipv4Addr::from(k.0), destination: Ipv4Addr::from(k.1), source_port: k.2, destination_port: k.3 })
            };
            let b = match swap {
                0 => (a.1, a.0, a.2, a.3, a.4),
                1 => (a.0, a.1, a.3, a.2, a.4),
                2 => (a.0, a.1, a.2, a.3, !a.4),
                3 => a,
                _ => b,
            };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(a == b, Ipv4Addr::blocks(a.0, &a.1) == Ipv4Addr::blocks(b.0, &b.1));
        }
    }
}
