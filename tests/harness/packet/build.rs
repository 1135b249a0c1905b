//! From the description to the bytes.

use std::net::IpAddr;

use wire::MacAddr;

use super::{Content, Ip, Packet, internet_checksum, station};

/// The MACs a packet gets where a test names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macs {
    /// From a station on the link to the appliance, whose MAC this is.
    Inward(MacAddr),
    /// From the appliance, whose MAC this is, to a station on the link.
    Outward(MacAddr),
}

/// The MAC of a group (RFC 1112 section 6.4, RFC 2464 section 7).
fn group(address: IpAddr) -> Option<MacAddr> {
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some(MacAddr::BROADCAST),
        IpAddr::V4(v4) if v4.is_multicast() => {
            let [_, b, c, d] = v4.octets();
            Some(MacAddr::new([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(v6) if v6.is_multicast() => {
            let [.., a, b, c, d] = v6.octets();
            Some(MacAddr::new([0x33, 0x33, a, b, c, d]))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

impl Packet {
    /// The frame as it is met with these MACs where none are named.
    #[must_use]
    pub fn bytes(&self, macs: Macs) -> Vec<u8> {
        let (source, destination) = match (self.addresses(), macs) {
            (Some((source, destination)), Macs::Inward(own)) => {
                (station(self.via.unwrap_or(source)), group(destination).unwrap_or(own))
            }
            (Some((_, destination)), Macs::Outward(own)) => {
                (own, group(destination).unwrap_or_else(|| station(self.via.unwrap_or(destination))))
            }
            (None, _) => (MacAddr::ZERO, MacAddr::ZERO),
        };
        let mut frame = Vec::new();
        frame.extend(self.destination_mac.unwrap_or(destination).octets());
        frame.extend(self.source_mac.unwrap_or(source).octets());
        frame.extend(self.tags.iter().flatten());
        match &self.content {
            Content::Ip(ip) => {
                frame.extend(if ip.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
                frame.extend(ip.bytes());
            }
            Content::Raw { ethertype, bytes } => {
                frame.extend(ethertype.to_be_bytes());
                frame.extend(bytes);
            }
        }
        frame.extend(&self.padding);
        for (at, bytes) in &self.edits {
            frame[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        if let Some(len) = self.cut {
            frame.truncate(len);
        }
        frame
    }

    /// The IP packet alone, as an ICMP error quotes it.
    #[must_use]
    pub fn bytes_of_ip(&self) -> Vec<u8> {
        match &self.content {
            Content::Ip(ip) => ip.bytes(),
            Content::Raw { ethertype, .. } => panic!("a frame of ethertype {ethertype:#06x} is no IP packet"),
        }
    }
}

impl Ip {
    fn bytes(&self) -> Vec<u8> {
        let segment = self.segment.bytes(self.source, self.destination);
        let protocol = self.protocol.unwrap_or_else(|| self.segment.protocol(self.source.is_ipv4()));
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_len = 20 + self.options.len();
                let words = self.header_words.unwrap_or_else(|| u8::try_from(header_len / 4).expect("15 words"));
                let total = u16::try_from(header_len + segment.len()).expect("a packet");
                let mut bytes = vec![self.version.unwrap_or(4) << 4 | words, self.class];
                bytes.extend(self.total_length.unwrap_or(total).to_be_bytes());
                bytes.extend(self.id.to_be_bytes());
                bytes.extend(self.flags_offset.to_be_bytes());
                bytes.extend([self.hops, protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(&self.options);
                bytes.extend(segment);
                // The sum covers what the IHL says, as far as there are bytes, so that a lie there is the only fault.
                let covered = (usize::from(words) * 4).clamp(20, bytes.len());
                let checksum = internet_checksum(&bytes[..covered]) ^ self.checksum_off_by;
                bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut chain = Vec::new();
                for (position, (_, body)) in self.extensions.iter().enumerate() {
                    chain.push(self.extensions.get(position + 1).map_or(protocol, |(number, _)| *number));
                    chain.extend(body);
                }
                chain.extend(segment);
                let first = self.extensions.first().map_or(protocol, |(number, _)| *number);
                let mut bytes = vec![self.version.unwrap_or(6) << 4 | self.class >> 4, self.class << 4, 0, 0];
                let length = u16::try_from(chain.len()).expect("a packet");
                bytes.extend(self.total_length.unwrap_or(length).to_be_bytes());
                bytes.extend([first, self.hops]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(chain);
                bytes
            }
            _ => unreachable!("both ends are of one family"),
        }
    }
}
