//! The headers a tunnel puts in front of a packet: an outer IP header and, for GRE and GUE, what stands between the two.
//!
//! ```text
//! before             | Ethernet | IP packet |
//! after   | Ethernet | outer IP | GRE, or UDP (and GUE) | IP packet |
//! ```
//!
//! All that is the same for every packet to one backend is written once, when a worker first sends there ([`Outer::new`]);
//! what differs is patched in behind ([`Outer::write`]): lengths, the class (RFC 6040, RFC 2983: both outer fields are
//! the inner ones), the identification, the flow's entropy, and checksums. Called by workers for every packet of a tunnel.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use wire::checksum;

/// How a packet is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// Nothing between the two IP headers (RFC 2003, RFC 2473, RFC 4213).
    IpIp,
    /// Generic routing encapsulation (RFC 2784), with a key where one is agreed on (RFC 2890).
    Gre {
        /// The key both ends know the tunnel by.
        key: Option<u32>,
    },
    /// Generic UDP encapsulation (draft-ietf-intarea-gue).
    Gue {
        /// The UDP port the receiver listens on.
        port: u16,
        /// With or without a header of its own.
        variant: GueVariant,
    },
}

/// Which of its two shapes GUE has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GueVariant {
    /// Four bytes that name the protocol.
    Header,
    /// None: the inner IP version tells what it is.
    Direct,
}

/// IANA's numbers.
const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bytes of the headers.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP_HEADER: usize = 8;
const GUE_HEADER: usize = 4;

/// Bytes of the longest headers in front: IPv6, UDP, GUE.
const LONGEST: usize = IPV6 + UDP_HEADER + GUE_HEADER;

/// Hops from here to the tunnel's end (IANA's recommended default).
const HOP_LIMIT: u8 = 64;

/// IPv4's "don't fragment".
const DONT_FRAGMENT: u16 = 0x4000;

/// The largest IPv6 packet that every link carries: its sender may rely on it, whatever the tunnel (RFC 4213 section 3.2).
const IPV6_LEAST_MTU: u16 = 1_280;

impl Encapsulation {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IpIp => "ipip",
            Self::Gre { .. } => "gre",
            Self::Gue { .. } => "gue",
        }
    }

    /// The outer header's protocol number.
    const fn protocol(self, inner_v6: bool) -> u8 {
        match self {
            Self::IpIp if inner_v6 => IPV6_IN_IP,
            Self::IpIp => IPV4_IN_IP,
            Self::Gre { .. } => GRE,
            Self::Gue { .. } => UDP,
        }
    }

    /// Bytes between the two IP headers.
    #[must_use]
    pub const fn between(self) -> usize {
        match self {
            Self::IpIp => 0,
            Self::Gre { key: None } => 4,
            Self::Gre { key: Some(_) } => 8,
            Self::Gue { variant: GueVariant::Direct, .. } => UDP_HEADER,
            Self::Gue { variant: GueVariant::Header, .. } => UDP_HEADER + GUE_HEADER,
        }
    }
}

/// The headers in front of every packet through one tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    bytes: [u8; LONGEST],
    len: u8,
    encapsulation: Encapsulation,
    source: IpAddr,
    destination: IpAddr,
}

impl Outer {
    /// The headers from `source` to `destination` around packets of one family; `None` when the two are of different
    /// families.
    #[must_use]
    pub fn new(encapsulation: Encapsulation, source: IpAddr, destination: IpAddr, inner_v6: bool) -> Option<Self> {
        let protocol = encapsulation.protocol(inner_v6);
        let mut headers = ArrayVec::<u8, LONGEST>::new();
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                headers.extend([0x45, 0, 0, 0, 0, 0, 0, 0, HOP_LIMIT, protocol, 0, 0]);
                headers.extend(source.octets());
                headers.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                headers.extend([0x60, 0, 0, 0, 0, 0, protocol, HOP_LIMIT]);
                headers.extend(source.octets());
                headers.extend(destination.octets());
            }
            _ => return None,
        }
        match encapsulation {
            Encapsulation::IpIp => {}
            Encapsulation::Gre { key } => {
                headers.extend([if key.is_some() { 0x20 } else { 0 }, 0]);
                headers.extend(if inner_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
                headers.extend(key.into_iter().flat_map(u32::to_be_bytes));
            }
            Encapsulation::Gue { port, variant } => {
                headers.extend([0, 0]);
                headers.extend(port.to_be_bytes());
                headers.extend([0; 4]);
                if variant == GueVariant::Header {
                    headers.extend([0, if inner_v6 { IPV6_IN_IP } else { IPV4_IN_IP }, 0, 0]);
                }
            }
        }
        let mut bytes = [0; LONGEST];
        for (place, byte) in bytes.iter_mut().zip(&headers) {
            *place = *byte;
        }
        Some(Self { bytes, len: u8::try_from(headers.len()).ok()?, encapsulation, source, destination })
    }

    /// Bytes the headers add to a packet.
    #[must_use]
    pub const fn overhead(&self) -> u16 {
        self.len as u16
    }

    /// Where the tunnel begins.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// Where it ends.
    #[must_use]
    pub const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// Writes the ethertype and the headers into `frame`, which begins with 14 bytes for Ethernet and [`overhead`] more,
    /// the inner packet behind them and nothing behind that. `entropy` tells flows apart (GUE's source port, RFC 6438's
    /// flow label), `id` datagrams that may be fragmented (RFC 6864). False, and nothing of use written, when there is no
    /// IP packet behind the headers.
    ///
    /// [`overhead`]: Self::overhead
    #[must_use]
    pub fn write(&self, frame: &mut [u8], entropy: u32, id: u16) -> bool {
        let Some((link, packet)) = frame.split_first_chunk_mut::<ETHERNET>() else { return false };
        let Some((headers, inner)) = packet.split_at_mut_checked(usize::from(self.len)) else { return false };
        let Some(inside) = Inside::read(inner) else { return false };
        let Some(template) = self.bytes.get(..headers.len()) else { return false };
        headers.copy_from_slice(template);
        let Some(total) = inside.length.checked_add(u16::from(self.len)) else { return false };
        let [.., e0, e1] = link;
        let written = match (self.source, self.destination) {
            (IpAddr::V4(_), _) => {
                [*e0, *e1] = [0x08, 0x00];
                write_v4(headers, total, inside, id)
            }
            (IpAddr::V6(_), _) => {
                [*e0, *e1] = [0x86, 0xdd];
                write_v6(headers, total, inside, entropy)
            }
        };
        written
            && match self.encapsulation {
                Encapsulation::Gue { .. } => self.write_udp(packet, entropy),
                Encapsulation::IpIp | Encapsulation::Gre { .. } => true,
            }
    }

    /// UDP's source port, length, and checksum: none over IPv4 (RFC 768 leaves it free, and the inner packet has its own),
    /// one over all of it over IPv6 (RFC 8200 section 8.1), which mostly follows from the inner packet's.
    fn write_udp(&self, packet: &mut [u8], entropy: u32) -> bool {
        let network = if self.source.is_ipv4() { IPV4 } else { IPV6 };
        let Some(datagram) = packet.get_mut(network..) else { return false };
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        let Some([s0, s1, _, _, l0, l1, _, _]) = datagram.first_chunk_mut::<UDP_HEADER>() else { return false };
        // The dynamic ports (RFC 6335 section 6).
        [*s0, *s1] = (0xc000 | (low_half(entropy) & 0x3fff)).to_be_bytes();
        [*l0, *l1] = length.to_be_bytes();
        if let (IpAddr::V6(source), IpAddr::V6(destination)) = (self.source, self.destination) {
            let endpoints = wire::Endpoints::V6 { source, destination };
            let own = usize::from(self.len).saturating_sub(network);
            let sealed = datagram.split_at_checked(own).and_then(|(own, inner)| {
                Some(checksum::pseudo(&endpoints, UDP, length) + checksum::sum(own) + sum_of_sealed(inner)?)
            });
            let sum = sealed.map_or_else(|| checksum::transport(&endpoints, UDP, datagram), checksum::finish);
            let sum = checksum::or_ones(sum);
            let Some([.., c0, c1]) = datagram.first_chunk_mut::<UDP_HEADER>() else { return false };
            [*c0, *c1] = sum.to_be_bytes();
        }
        true
    }
}

/// What a TCP or UDP packet whose checksum is right adds to a sum over it, without reading its payload: together with the
/// pseudo header its segment comes to all ones, so alone it comes to what the pseudo header lacks. `None` for any other
/// packet, for a fragment, and for a datagram without a checksum.
fn sum_of_sealed(packet: &[u8]) -> Option<u32> {
    let (network, endpoints, protocol) = match *packet.first_chunk::<IPV4>()? {
        [0x45, _, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3]
            if f0 & 0x3f == 0 && f1 == 0 =>
        {
            let (source, destination) = ([s0, s1, s2, s3].into(), [d0, d1, d2, d3].into());
            (IPV4, wire::Endpoints::V4 { source, destination }, protocol)
        }
        [0x60..=0x6f, _, _, _, _, _, protocol, ..] => {
            let addresses = packet.get(8..IPV6)?.first_chunk::<32>()?;
            let [source, destination] = [addresses.first_chunk::<16>()?, addresses.last_chunk::<16>()?];
            let (source, destination) = ((*source).into(), (*destination).into());
            (IPV6, wire::Endpoints::V6 { source, destination }, protocol)
        }
        _ => return None,
    };
    let (header, segment) = packet.split_at_checked(network)?;
    let has_checksum = match protocol {
        TCP => segment.len() >= 20,
        UDP => segment.get(6..8)? != [0, 0],
        _ => false,
    };
    let length = u16::try_from(segment.len()).ok().filter(|_| has_checksum)?;
    let lacks = checksum::finish(checksum::pseudo(&endpoints, protocol, length));
    Some(checksum::sum(header) + u32::from(lacks))
}

fn low_half(value: u32) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or(0)
}

fn write_v4(headers: &mut [u8], total: u16, inside: Inside, id: u16) -> bool {
    let Some(header) = headers.first_chunk_mut::<IPV4>() else { return false };
    let [_, class, l0, l1, i0, i1, f0, f1, _, _, _, _, ..] = header;
    *class = inside.class;
    [*l0, *l1] = total.to_be_bytes();
    // What is never fragmented needs no identification (RFC 6864 section 4.1).
    [*i0, *i1] = if inside.dont_fragment { 0 } else { id }.to_be_bytes();
    [*f0, *f1] = if inside.dont_fragment { DONT_FRAGMENT } else { 0 }.to_be_bytes();
    let sum = checksum::plain(header);
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, ..] = header;
    [*c0, *c1] = sum.to_be_bytes();
    true
}

fn write_v6(headers: &mut [u8], total: u16, inside: Inside, entropy: u32) -> bool {
    let Some(header) = headers.first_chunk_mut::<IPV6>() else { return false };
    let Some(payload) = total.checked_sub(40) else { return false };
    let [first, second, third, fourth, l0, l1, ..] = header;
    let word = 6 << 28 | u32::from(inside.class) << 20 | entropy & 0x000f_ffff;
    [*first, *second, *third, *fourth] = word.to_be_bytes();
    [*l0, *l1] = payload.to_be_bytes();
    true
}

/// What the outer headers take over from the packet inside.
#[derive(Clone, Copy, Debug)]
struct Inside {
    class: u8,
    length: u16,
    dont_fragment: bool,
}

impl Inside {
    /// Reads the head of an IP packet that fills `packet`.
    fn read(packet: &[u8]) -> Option<Self> {
        let length = u16::try_from(packet.len()).ok()?;
        match packet.first_chunk::<8>()? {
            [0x40..=0x4f, class, _, _, _, _, flags, _] => {
                Some(Self { class: *class, length, dont_fragment: flags & 0x40 != 0 })
            }
            [first @ 0x60..=0x6f, second, ..] => Some(Self {
                class: first << 4 | second >> 4,
                length,
                // Its sender was told of the tunnel's MTU, but never of less than 1,280 (RFC 4213 section 3.2.2).
                dont_fragment: length > IPV6_LEAST_MTU,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
