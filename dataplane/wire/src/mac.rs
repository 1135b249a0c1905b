//! The 48-bit station address of Ethernet, and the multicast addresses IP maps onto it. A plain value: parsed by
//! `config`, read by [`dissect`](crate::dissect), written by [`emit`](crate::emit).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A MAC address (IEEE 802, EUI-48). Shape: 6 bytes in wire order, no alignment.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr([u8; 6]);

const _: () = assert!(size_of::<MacAddr>() == 6);

impl MacAddr {
    /// Every station of the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeroes: no station; what an ARP request holds in place of the address it asks for.
    pub const ZERO: Self = Self([0; 6]);

    /// The address with these octets, the first on the wire first.
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The octets, the first on the wire first.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether this names a group of stations; broadcast is one.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this names every station.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        matches!(self.0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }

    /// The address a station with this MAC has on its link (RFC 4291 appendix A).
    #[must_use]
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let [[o, p], [q, r], [s, t], [u, v]] = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]];
        Ipv6Addr::from_bits(u128::from_be_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0, o, p, q, r, s, t, u, v]))
    }

    /// The group that carries IPv4 multicast to `group`: its low 23 bits behind 01:00:5e (RFC 1112 section 6.4).
    #[must_use]
    pub const fn ipv4_multicast(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group that carries IPv6 multicast to `group`: its low 32 bits behind 33:33 (RFC 2464 section 7).
    #[must_use]
    pub const fn ipv6_multicast(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

/// The group that whoever owns `address` listens to for neighbor solicitations: its low 24 bits behind `ff02::1:ff00:0/104`
/// (RFC 4291 section 2.7.1).
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hexadecimal digits with colons (or hyphens) between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is six pairs of hexadecimal digits, such as 02:00:5e:10:00:01")]
pub struct MacAddrSyntax;

impl FromStr for MacAddr {
    type Err = MacAddrSyntax;

    /// Reads `xx:xx:xx:xx:xx:xx` or `xx-xx-xx-xx-xx-xx`, in either case.
    fn from_str(text: &str) -> Result<Self, MacAddrSyntax> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut pairs = text.split(separator);
        for octet in &mut octets {
            let pair = pairs.next().ok_or(MacAddrSyntax)?;
            // `from_str_radix` would take a sign as well.
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacAddrSyntax);
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| MacAddrSyntax)?;
        }
        if pairs.next().is_some() { Err(MacAddrSyntax) } else { Ok(Self(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        let mac = MacAddr::new([0x02, 0, 0x5e, 0x10, 0, 0xab]);
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ab");
        assert_eq!("02:00:5E:10:00:aB".parse(), Ok(mac));
        assert_eq!("02-00-5e-10-00-ab".parse(), Ok(mac));
        for wrong in
            ["", "02:00:5e:10:00", "02:00:5e:10:00:ab:cd", "2:0:5e:10:0:ab", "02:00:5e:10:00:+b", "02:00-5e:10:00:ab"]
        {
            assert_eq!(wrong.parse::<MacAddr>(), Err(MacAddrSyntax), "{wrong}");
        }
    }

    #[test]
    fn a_station_has_an_address_on_its_link() {
        let mac = MacAddr::new([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn groups_are_told_from_stations() {
        assert!(MacAddr::BROADCAST.is_broadcast() && MacAddr::BROADCAST.is_multicast());
        assert!(!MacAddr::ZERO.is_multicast());
        assert!(MacAddr::new([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
    }

    #[test]
    fn groups_of_ip_map_to_groups_of_the_link() {
        assert_eq!(MacAddr::ipv4_multicast(Ipv4Addr::new(239, 129, 2, 3)).octets(), [0x01, 0, 0x5e, 1, 2, 3]);
        let target: Ipv6Addr = "2001:db8::12:3456:789a".parse().unwrap();
        assert_eq!(solicited_node(target), "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
        assert_eq!(MacAddr::ipv6_multicast(solicited_node(target)).octets(), [0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]);
    }
}
