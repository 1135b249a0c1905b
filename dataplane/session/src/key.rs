//! What a packet is looked up by: its tenant, its protocol kind and the tuple of addresses and ports as they are on the wire.
//!
//! A tuple is not put into a canonical order: a session has two, the original's and the reply's, and with address
//! translation they are not each other's mirror. Which one matched tells the direction.

use core::fmt::Debug;
use core::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use units::TenantId;

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

    /// The kind with this number; `None` when no kind has it.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0..=3 => Some(Self::from_bits(number as u16)),
            _ => None,
        }
    }

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

/// A tuple as it lies in a frame, in the words it is loaded by: both addresses one behind the other, then both ports. So it
/// is compared, hashed and copied, and nothing is taken apart. Shape: 12 bytes for IPv4, 36 for IPv6.
#[derive(Clone, Copy, Debug, Eq)]
#[repr(C, packed(4))]
pub struct WireTuple<A: Address> {
    addresses: A::Pair,
    ports: u32,
}

const _: () = assert!(size_of::<WireTuple<Ipv4Addr>>() == 12);
const _: () = assert!(size_of::<WireTuple<Ipv6Addr>>() == 36);

impl<A: Address> WireTuple<A> {
    /// The tuple of these addresses and ports, as they were loaded from a frame.
    #[inline(always)]
    #[must_use]
    pub const fn new(addresses: A::Pair, ports: u32) -> Self {
        Self { addresses, ports }
    }

    /// Both addresses, as they lie in a frame.
    #[inline(always)]
    #[must_use]
    pub const fn addresses(self) -> A::Pair {
        self.addresses
    }

    /// Both ports, as they lie in a frame.
    #[inline(always)]
    #[must_use]
    pub const fn ports(self) -> u32 {
        self.ports
    }

    /// The tuple of an answer where nothing is translated.
    #[inline(always)]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { addresses: A::reversed(self.addresses), ports: self.ports.rotate_left(16) }
    }
}

impl<A: Address> PartialEq for WireTuple<A> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.ports == other.ports && A::are_same(self.addresses, other.addresses)
    }
}

impl<A: Address> From<Tuple<A>> for WireTuple<A> {
    fn from(tuple: Tuple<A>) -> Self {
        let [[s0, s1], [d0, d1]] = [tuple.source_port.to_be_bytes(), tuple.destination_port.to_be_bytes()];
        Self { addresses: A::pair(tuple.source, tuple.destination), ports: u32::from_ne_bytes([s0, s1, d0, d1]) }
    }
}

impl<A: Address> From<WireTuple<A>> for Tuple<A> {
    fn from(wire: WireTuple<A>) -> Self {
        let [s0, s1, d0, d1] = wire.ports.to_ne_bytes();
        let [source, destination] = A::split(wire.addresses);
        Self {
            source,
            destination,
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
        }
    }
}

/// An address family: [`Ipv4Addr`] or [`Ipv6Addr`], nothing else.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Into<IpAddr> + Send + Sync + sealed::Sealed + 'static {
    /// The unspecified address, all zero.
    const UNSPECIFIED: Self;

    /// A source and a destination, one behind the other as in a frame, in the words they are loaded by.
    type Pair: Copy + Eq + Debug + Send + Sync;

    /// A tuple, its kind and its tenant as blocks of 16 bytes, one to one: what is hashed.
    type Blocks: AsRef<[u128]>;

    /// Two addresses as they lie in a frame.
    fn pair(source: Self, destination: Self) -> Self::Pair;

    /// Source and destination.
    fn split(pair: Self::Pair) -> [Self; 2];

    /// Each in the other's place.
    fn reversed(pair: Self::Pair) -> Self::Pair;

    /// Whether both are the same, by words in registers: arrays are compared in memory, where what was just read from a frame
    /// would have to be written first, in smaller pieces than it is then waited for.
    fn are_same(pair: Self::Pair, other: Self::Pair) -> bool;

    /// The blocks of a tuple.
    fn blocks(tenant: TenantId, kind: Kind, tuple: WireTuple<Self>) -> Self::Blocks;
}

impl Address for Ipv4Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    type Pair = u64;
    type Blocks = [u128; 1];

    #[inline]
    fn pair(source: Self, destination: Self) -> u64 {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (source.octets(), destination.octets());
        u64::from_ne_bytes([s0, s1, s2, s3, d0, d1, d2, d3])
    }

    #[inline]
    fn split(pair: u64) -> [Self; 2] {
        let [s0, s1, s2, s3, d0, d1, d2, d3] = pair.to_ne_bytes();
        [Self::new(s0, s1, s2, s3), Self::new(d0, d1, d2, d3)]
    }

    #[inline(always)]
    fn reversed(pair: u64) -> u64 {
        pair.rotate_left(32)
    }

    #[inline(always)]
    fn are_same(pair: u64, other: u64) -> bool {
        pair == other
    }

    #[inline(always)]
    fn blocks(tenant: TenantId, kind: Kind, tuple: WireTuple<Self>) -> Self::Blocks {
        [block(tuple.addresses, u64::from(tuple.ports) | u64::from(space(tenant, kind)) << 32)]
    }
}

impl Address for Ipv6Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    type Pair = [u128; 2];
    type Blocks = [u128; 3];

    #[inline]
    fn pair(source: Self, destination: Self) -> [u128; 2] {
        [source, destination].map(|address| u128::from_ne_bytes(address.octets()))
    }

    #[inline]
    fn split(pair: [u128; 2]) -> [Self; 2] {
        pair.map(|address| Self::from(address.to_ne_bytes()))
    }

    #[inline(always)]
    fn reversed([source, destination]: [u128; 2]) -> [u128; 2] {
        [destination, source]
    }

    #[inline(always)]
    fn are_same([source, destination]: [u128; 2], other: [u128; 2]) -> bool {
        let [other_source, other_destination] = other;
        (source ^ other_source) | (destination ^ other_destination) == 0
    }

    #[inline(always)]
    fn blocks(tenant: TenantId, kind: Kind, tuple: WireTuple<Self>) -> Self::Blocks {
        let [source, destination] = tuple.addresses;
        [source, destination, block(u64::from(tuple.ports), u64::from(space(tenant, kind)))]
    }
}

/// Whose addresses and ports of what protocol a tuple speaks of. Nobody's is the kind alone.
#[inline(always)]
const fn space(tenant: TenantId, kind: Kind) -> u32 {
    (tenant.get() as u32) << 16 | kind as u32
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

    #[test]
    fn tuples_are_the_same_only_when_every_bit_is() {
        let v6 = Tuple {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::UNSPECIFIED,
            source_port: 1,
            destination_port: 2,
        };
        let wire = WireTuple::from(v6);
        assert_eq!(wire, WireTuple::from(v6));
        let [source, destination] = wire.addresses();
        for bit in 0..128 {
            assert_ne!(wire, WireTuple::new([source ^ 1 << bit, destination], wire.ports()), "{bit}");
            assert_ne!(wire, WireTuple::new([source, destination ^ 1 << bit], wire.ports()), "{bit}");
            assert_ne!(wire, WireTuple::new([source, destination], wire.ports() ^ 1 << (bit % 32)), "{bit}");
        }
        let wire = WireTuple::from(TUPLE);
        for bit in 0..64 {
            assert_ne!(wire, WireTuple::new(wire.addresses() ^ 1 << bit, wire.ports()), "{bit}");
        }
    }

    proptest! {
        /// Two keys give the same blocks only when they are equal, so that only the hash itself can collide.
        #[test]
        fn blocks_are_one_to_one(
            a: (u32, u32, u16, u16, bool, u16), b: (u32, u32, u16, u16, bool, u16), swap in 0..6,
        ) {
            let key = |k: (u32, u32, u16, u16, bool, u16)| {
                let kind = if k.4 { Kind::Tcp } else { Kind::Udp };
                let tuple =
                    Tuple { source: Ipv4Addr::from(k.0), destination: Ipv4Addr::from(k.1), source_port: k.2, destination_port: k.3 };
                (TenantId::new(k.5), kind, tuple)
            };
            let b = match swap {
                0 => (a.1, a.0, a.2, a.3, a.4, a.5),
                1 => (a.0, a.1, a.3, a.2, a.4, a.5),
                2 => (a.0, a.1, a.2, a.3, !a.4, a.5),
                3 => a,
                4 => (a.0, a.1, a.2, a.3, a.4, b.5),
                _ => b,
            };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(a == b, Ipv4Addr::blocks(a.0, a.1, a.2.into()) == Ipv4Addr::blocks(b.0, b.1, b.2.into()));
            let v6 = |tuple: Tuple<Ipv4Addr>| {
                let [source, destination] = [tuple.source, tuple.destination].map(|address| address.to_ipv6_mapped());
                let Tuple { source_port, destination_port, .. } = tuple;
                WireTuple::from(Tuple { source, destination, source_port, destination_port })
            };
            let blocks = |(tenant, kind, tuple)| Ipv6Addr::blocks(tenant, kind, v6(tuple));
            prop_assert_eq!(a == b, blocks(a) == blocks(b));
        }

        #[test]
        fn a_tuple_lies_as_in_a_frame(source: u128, destination: u128, source_port: u16, destination_port: u16) {
            let v6 = Tuple { source: Ipv6Addr::from(source), destination: Ipv6Addr::from(destination), source_port, destination_port };
            let wire = WireTuple::from(v6);
            let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
            let addresses = wire.addresses().map(u128::to_ne_bytes).concat();
            prop_assert_eq!(addresses, [v6.source.octets(), v6.destination.octets()].concat());
            prop_assert_eq!(wire.ports().to_ne_bytes().to_vec(), ports.clone());
            prop_assert_eq!((Tuple::from(wire), Tuple::from(wire.reversed())), (v6, v6.reversed()));
            #[expect(clippy::cast_possible_truncation, reason = "any address will do")]
            let [a, b] = [source as u32, destination as u32].map(Ipv4Addr::from);
            let v4 = Tuple { source: a, destination: b, source_port, destination_port };
            let wire = WireTuple::from(v4);
            prop_assert_eq!(wire.addresses().to_ne_bytes().to_vec(), [a.octets(), b.octets()].concat());
            prop_assert_eq!(wire.ports().to_ne_bytes().to_vec(), ports);
            prop_assert_eq!((Tuple::from(wire), Tuple::from(wire.reversed())), (v4, v4.reversed()));
        }
    }
}
