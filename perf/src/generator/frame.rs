//! Frames of the generator, written from a description and read back into one: Ethernet without tags, IPv4 without options
//! or IPv6 without extension headers, UDP or TCP, and a stamp at the beginning of the payload; the rest of it is zero.
//! Both run for every packet, so they neither allocate nor look at more than the headers; checksums are right, those of
//! received packets are judged elsewhere, by sample.

use frame::Buffer;
use wire::ethernet::{self, EthernetHeader};
use wire::ipv4::Ipv4Header;
use wire::ipv6::Ipv6Header;
use wire::{Endpoints, MacAddr, TcpFlags, checksum, tcp, udp};
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::stamp::Stamp;

/// The least bytes of a frame, without the check sequence.
pub const FRAME_MIN: usize = 60;

/// The window every segment offers. No exchange comes near it.
const WINDOW: u16 = 64_240;

const HOP_LIMIT: u8 = 64;

/// A packet of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The station it comes from.
    pub source_mac: MacAddr,
    /// The station it goes to.
    pub destination_mac: MacAddr,
    /// Its addresses.
    pub endpoints: Endpoints,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What a segment says besides; `None` for a datagram.
    pub tcp: Option<Segment>,
    /// Bytes of payload, the stamp's included.
    pub payload: u16,
}

/// The numbers and flags of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number of its first byte.
    pub sequence: u32,
    /// The next number its sender expects.
    pub acknowledgment: u32,
    /// Its flags.
    pub flags: TcpFlags,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Tcp {
    source_port: U16,
    destination_port: U16,
    sequence: U32,
    acknowledgment: U32,
    data_offset: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Udp {
    source_port: U16,
    destination_port: U16,
    length: U16,
    checksum: U16,
}

impl Packet {
    /// The answer's addresses, ports and stations: this packet's turned round.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            endpoints: self.endpoints.reversed(),
            source_port: self.destination_port,
            destination_port: self.source_port,
            tcp: self.tcp,
            payload: self.payload,
        }
    }

    /// Bytes of the headers of such a packet.
    #[must_use]
    pub const fn headers(is_v6: bool, is_tcp: bool) -> usize {
        let network = if is_v6 { Ipv6Header::LEN } else { Ipv4Header::LEN };
        let transport = if is_tcp { size_of::<Tcp>() } else { size_of::<Udp>() };
        EthernetHeader::LEN + network + transport
    }

    /// Writes the frame into `buffer`, whatever was in it; false when it has no room.
    #[inline]
    pub fn write<B: Buffer>(&self, buffer: &mut B, stamp: Option<&Stamp>) -> bool {
        let len = Self::headers(self.endpoints.is_v6(), self.tcp.is_some()) + usize::from(self.payload);
        // Growing from nothing fills with zeroes.
        buffer.resize(0) && buffer.resize(len.max(FRAME_MIN)) && self.put(buffer.bytes_mut(), stamp).is_some()
    }

    /// Writes headers and stamp into bytes that are zero.
    #[inline]
    fn put(&self, out: &mut [u8], stamp: Option<&Stamp>) -> Option<()> {
        let is_v6 = self.endpoints.is_v6();
        let ethertype = if is_v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        let rest = put(out, &EthernetHeader::new(self.destination_mac, self.source_mac, ethertype))?;
        let (protocol, header) =
            if self.tcp.is_some() { (tcp::PROTOCOL, size_of::<Tcp>()) } else { (udp::PROTOCOL, size_of::<Udp>()) };
        let length = u16::try_from(header).ok()?.checked_add(self.payload)?;
        let rest = match self.endpoints {
            Endpoints::V4 { source, destination } => {
                let total = length.checked_add(20)?;
                put(rest, &Ipv4Header::new(0, total, HOP_LIMIT, protocol, source, destination))?
            }
            Endpoints::V6 { source, destination } => {
                put(rest, &Ipv6Header::new(length, protocol, HOP_LIMIT, source, destination))?
            }
        };
        // Beyond the stamp the payload is zero and adds nothing to the sum.
        let mut sum = Sum::of_addresses(&self.endpoints).add(u32::from(protocol) + u32::from(length));
        if let Some(stamp) = stamp {
            put(rest.get_mut(header..)?, stamp)?;
            sum = stamp.words().into_iter().fold(sum, Sum::add);
        }
        let sum = sum.add(pair(self.source_port, self.destination_port));
        let (source_port, destination_port) = (U16::new(self.source_port), U16::new(self.destination_port));
        if let Some(segment) = self.tcp {
            const DATA_OFFSET: u8 = 0x50;
            let offset_and_flags = u16::from_be_bytes([DATA_OFFSET, segment.flags.bits()]);
            let sum = sum.add(segment.sequence).add(segment.acknowledgment).add(pair(offset_and_flags, WINDOW));
            let header = Tcp {
                source_port,
                destination_port,
                sequence: U32::new(segment.sequence),
                acknowledgment: U32::new(segment.acknowledgment),
                data_offset: DATA_OFFSET,
                flags: segment.flags.bits(),
                window: U16::new(WINDOW),
                checksum: U16::new(!sum.folded()),
                urgent: U16::ZERO,
            };
            put(rest, &header)?;
        } else {
            let sum = !sum.add(u32::from(length)).folded();
            let checksum = U16::new(checksum::or_ones(sum));
            put(rest, &Udp { source_port, destination_port, length: U16::new(length), checksum })?;
        }
        Some(())
    }

    /// Reads a frame that may be one of ours: the packet and its payload. `None` for everything else.
    #[inline]
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (link, packet) = EthernetHeader::ref_from_prefix(bytes).ok()?;
        let (endpoints, protocol, segment) = match link.ethertype() {
            ethernet::IPV4 => {
                let (header, packet) = Ipv4Header::split(packet).ok()?;
                let endpoints = Endpoints::V4 { source: header.source(), destination: header.destination() };
                (endpoints, header.protocol(), packet.get(header.header_len()..)?)
            }
            ethernet::IPV6 => {
                let (header, payload) = Ipv6Header::split(packet).ok()?;
                let endpoints = Endpoints::V6 { source: header.source(), destination: header.destination() };
                (endpoints, header.next_header(), payload)
            }
            _ => return None,
        };
        let (source_port, destination_port, tcp, payload) = match protocol {
            udp::PROTOCOL => {
                let (header, payload) = Udp::ref_from_prefix(segment).ok()?;
                (header.source_port, header.destination_port, None, payload)
            }
            tcp::PROTOCOL => {
                let (header, _) = Tcp::ref_from_prefix(segment).ok()?;
                let payload = segment.get(usize::from(header.data_offset >> 4) * 4..)?;
                let tcp = Segment {
                    sequence: header.sequence.get(),
                    acknowledgment: header.acknowledgment.get(),
                    flags: TcpFlags::new(header.flags),
                };
                (header.source_port, header.destination_port, Some(tcp), payload)
            }
            _ => return None,
        };
        let packet = Self {
            source_mac: link.source(),
            destination_mac: link.destination(),
            endpoints,
            source_port: source_port.get(),
            destination_port: destination_port.get(),
            tcp,
            payload: u16::try_from(payload.len()).ok()?,
        };
        Some((packet, payload))
    }
}

/// A sum of 16-bit words (RFC 1071) made from the fields, without reading them back from memory: a word of 32 bits is the sum
/// of its halves once it is folded. Room for far more words than a header has.
#[derive(Clone, Copy)]
struct Sum(u64);

impl Sum {
    #[inline]
    fn of_addresses(endpoints: &Endpoints) -> Self {
        match *endpoints {
            Endpoints::V4 { source, destination } => Self(0).add(source.to_bits()).add(destination.to_bits()),
            Endpoints::V6 { source, destination } => {
                let words = |address: std::net::Ipv6Addr| {
                    let bits = address.to_bits();
                    [bits >> 96, bits >> 64, bits >> 32, bits].map(|word| word & 0xffff_ffff)
                };
                let words = words(source).into_iter().chain(words(destination));
                words.fold(Self(0), |sum, word| sum.add(u32::try_from(word).unwrap_or(0)))
            }
        }
    }

    #[inline]
    fn add(self, word: u32) -> Self {
        Self(self.0 + u64::from(word))
    }

    #[inline]
    fn folded(self) -> u16 {
        let halves = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let words = (halves >> 32) + ((halves >> 16) & 0xffff) + (halves & 0xffff);
        checksum::fold(u32::try_from(words).unwrap_or(0))
    }
}

/// Two 16-bit words as one of 32.
#[inline]
fn pair(high: u16, low: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

/// Writes a header at the beginning of `out` and returns what lies behind it.
#[inline]
fn put<'a, T: IntoBytes + Immutable>(out: &'a mut [u8], header: &T) -> Option<&'a mut [u8]> {
    let (place, rest) = out.split_at_mut_checked(size_of::<T>())?;
    place.copy_from_slice(header.as_bytes());
    Some(rest)
}

#[cfg(test)]
mod tests {
    use wire::{Content, Transport, Verify, dissect};

    use super::*;
    use crate::generator::memory::Frame;

    fn endpoints(v6: bool) -> Endpoints {
        if v6 {
            let source = "2001:db8:c::1".parse().unwrap();
            Endpoints::V6 { source, destination: "2001:db8:1::a".parse().unwrap() }
        } else {
            Endpoints::V4 { source: [20, 0, 0, 1].into(), destination: [198, 51, 100, 10].into() }
        }
    }

    #[test]
    fn what_is_written_is_a_good_packet_and_reads_back() {
        let segment = Segment { sequence: u32::MAX, acknowledgment: 7, flags: TcpFlags::ACK | TcpFlags::PSH };
        let stamp = Stamp::new(3, 0xffff_0000, u64::MAX - 5);
        for v6 in [false, true] {
            for tcp in [None, Some(segment)] {
                for (payload, stamp) in [(0, None), (16, Some(&stamp)), (1_301, Some(&stamp))] {
                    let packet = Packet {
                        source_mac: MacAddr::new([2, 0, 0, 0, 0, 0xfe]),
                        destination_mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
                        endpoints: endpoints(v6),
                        source_port: 0x8001,
                        destination_port: 80,
                        tcp,
                        payload,
                    };
                    let mut buffer = Frame::filled(0xa5);
                    assert!(packet.write(&mut buffer, stamp));
                    let Content::Ip(facts) = dissect(buffer.bytes(), Verify::All).unwrap().content else { panic!() };
                    assert_eq!(matches!(facts.transport, Transport::Tcp(_)), tcp.is_some());
                    let (read, rest) = Packet::read(buffer.bytes()).unwrap();
                    assert_eq!(read, packet);
                    assert_eq!(Stamp::read(rest).is_some(), stamp.is_some());
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_and_what_is_no_packet_is_refused() {
        let mut buffer = Frame::filled(0);
        let packet = Packet {
            source_mac: MacAddr::default(),
            destination_mac: MacAddr::default(),
            endpoints: endpoints(false),
            source_port: 1,
            destination_port: 2,
            tcp: None,
            payload: 40_000,
        };
        assert!(!packet.write(&mut buffer, None));
        for len in 0..60 {
            assert_eq!(Packet::read(&vec![0x45; len]), None);
        }
    }
}
