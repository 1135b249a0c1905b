//! A packet in words, to the bytes of a frame that would come by a port.
//!
//! ```text
//! udp 192.0.2.1:1234 > 198.51.100.10:80 port outside
//! tcp [2001:db8::1]:1234 > [2001:db8:1::10]:443 port outside flags SYN,ACK length 100 ttl 3
//! icmp 192.0.2.1 > 198.51.100.10 port outside          an echo request
//! 47 192.0.2.1 > 198.51.100.10 port outside             any other protocol by its number
//! udp 192.0.2.1:1234 > 198.51.100.10:80 port trunk vlan 100
//! ```

use std::net::{IpAddr, SocketAddr};

use units::limits::VLAN_MAX;
use wire::vlan::CUSTOMER;
use wire::{Endpoints, MacAddr, TcpFlags, checksum};
use worker::PortFacts;

/// The longest payload that may be asked for: what a frame of any port carries.
const LENGTH_MAX: usize = 9_000;

/// The station that a described packet comes from.
const SENDER: MacAddr = MacAddr::new([0x02, 0, 0, 0, 0, 0x99]);

/// Whom a packet by this port is for: the port, or where it is one of a pair, somebody beyond.
#[must_use]
pub fn station_behind(facts: &PortFacts) -> MacAddr {
    if facts.pair.is_some() { MacAddr::new([0x02, 0, 0, 0, 0, 0x98]) } else { facts.mac }
}

/// A packet in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The port it comes by.
    pub port: String,
    /// Its VLAN; 0 for none.
    vlan: u16,
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    flags: TcpFlags,
    length: usize,
    hop_limit: u8,
}

impl Description {
    /// The description that this text is.
    ///
    /// # Errors
    /// A sentence: what is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write PROTOCOL SOURCE > DESTINATION port NAME, such as \
                            'udp 192.0.2.1:1234 > 198.51.100.10:80 port outside'";
        let mut words = text.split_whitespace();
        let mut next = || words.next().ok_or_else(|| format!("the packet is not complete; {FORM}"));
        let (protocol, source) = (next()?, next()?);
        if next()? != ">" {
            return Err(format!("a `>` stands between source and destination; {FORM}"));
        }
        let destination = next()?;
        let named =
            match protocol.to_ascii_lowercase().as_str() {
                "tcp" => Some(6),
                "udp" => Some(17),
                "icmp" | "icmpv6" | "ping" => None,
                number => Some(number.parse::<u8>().map_err(|_| {
                    format!("'{protocol}' is no protocol; write tcp, udp, icmp, or the number of another")
                })?),
            };
        let has_ports = matches!(named, Some(6 | 17));
        let (source, destination) = (end(source, has_ports)?, end(destination, has_ports)?);
        if source.0.is_ipv4() != destination.0.is_ipv4() {
            return Err("source and destination are of different IP versions".to_owned());
        }
        let protocol = named.unwrap_or(if source.0.is_ipv4() { 1 } else { 58 });
        let mut described = Self::opening(String::new(), 0, protocol, source, destination);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("'{word}' needs a value"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("'{value}' is no number, as {word} needs"));
            match word {
                "port" => value.clone_into(&mut described.port),
                "vlan" => {
                    let known = u16::try_from(number()?).ok().filter(|vlan| (1..=VLAN_MAX).contains(vlan));
                    described.vlan =
                        known.ok_or_else(|| format!("'{value}' is no VLAN; they go from 1 to {VLAN_MAX}"))?;
                }
                "flags" => described.flags = flags(value)?,
                "length" => described.length = number()?,
                "ttl" | "hops" => {
                    described.hop_limit = u8::try_from(number()?).map_err(|_| format!("'{value}' is beyond 255"))?;
                }
                _ => {
                    return Err(format!(
                        "'{word}' is not understood; after the addresses come port, vlan, flags, length, ttl"
                    ));
                }
            }
        }
        if described.port.is_empty() {
            return Err(format!("say by which port it comes; {FORM}"));
        }
        if described.length > LENGTH_MAX {
            return Err(format!("length is {LENGTH_MAX} at most"));
        }
        Ok(described)
    }

    /// The first packet of a conversation, as the one who opens it would send it.
    #[must_use]
    pub const fn opening(
        port: String,
        vlan: u16,
        protocol: u8,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
    ) -> Self {
        Self { port, vlan, protocol, source, destination, flags: TcpFlags::SYN, length: 0, hop_limit: 64 }
    }

    /// The frame, for the station at `to`.
    #[must_use]
    pub fn frame(&self, to: MacAddr) -> Vec<u8> {
        let segment = self.segment();
        let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
        let mut frame = Vec::with_capacity(58 + segment.len());
        frame.extend(to.octets());
        frame.extend(SENDER.octets());
        if self.vlan != 0 {
            frame.extend(CUSTOMER.to_be_bytes());
            frame.extend(self.vlan.to_be_bytes());
        }
        let network = frame.len() + 2;
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, 0]);
                frame.extend(length.saturating_add(20).to_be_bytes());
                frame.extend([0, 1, 0, 0, self.hop_limit, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                let sum = frame.get(network..network + 20).map_or(0, checksum::plain);
                put(&mut frame, network + 10, sum);
            }
            (source, destination) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([self.protocol, self.hop_limit]);
                for end in [source, destination] {
                    if let IpAddr::V6(end) = end {
                        frame.extend(end.octets());
                    }
                }
            }
        }
        frame.extend(segment);
        frame
    }

    /// The transport header and payload, its checksum right.
    fn segment(&self) -> Vec<u8> {
        let payload = vec![0; self.length];
        let [source, destination] = [self.source.1, self.destination.1].map(u16::to_be_bytes);
        let mut segment = Vec::new();
        let at = match self.protocol {
            6 => {
                segment.extend(source);
                segment.extend(destination);
                segment.extend([0, 0, 0, 1, 0, 0, 0, if self.flags.contains(TcpFlags::ACK) { 1 } else { 0 }]);
                segment.extend([0x50, self.flags.bits(), 0xff, 0xff, 0, 0, 0, 0]);
                Some(16)
            }
            17 => {
                let length = u16::try_from(8 + self.length).unwrap_or(u16::MAX);
                segment.extend(source);
                segment.extend(destination);
                segment.extend(length.to_be_bytes());
                segment.extend([0, 0]);
                Some(6)
            }
            1 => {
                segment.extend([8, 0, 0, 0, 0, 1, 0, 1]);
                Some(2)
            }
            58 => {
                segment.extend([128, 0, 0, 0, 0, 1, 0, 1]);
                Some(2)
            }
            _ => None,
        };
        segment.extend(payload);
        if let Some(at) = at {
            let sum = match (self.protocol, self.endpoints()) {
                (1, _) => checksum::plain(&segment),
                (protocol, endpoints) => checksum::transport(&endpoints, protocol, &segment),
            };
            let sum = if self.protocol == 17 { checksum::or_ones(sum) } else { sum };
            put(&mut segment, at, sum);
        }
        segment
    }

    fn endpoints(&self) -> Endpoints {
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Endpoints::V4 { source, destination },
            (source, destination) => {
                let v6 = |end: IpAddr| match end {
                    IpAddr::V6(v6) => v6,
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                };
                Endpoints::V6 { source: v6(source), destination: v6(destination) }
            }
        }
    }
}

fn put(bytes: &mut [u8], at: usize, word: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`, or an address alone where there are no ports.
fn end(written: &str, has_ports: bool) -> Result<(IpAddr, u16), String> {
    let alone = written.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    match (written.parse::<SocketAddr>(), alone) {
        (Ok(end), _) if has_ports => Ok((end.ip(), end.port())),
        (Err(_), Some(address)) if !has_ports => Ok((address, 0)),
        (Err(_), Some(_)) => Err(format!("'{written}' needs a port, as 192.0.2.1:80 or [2001:db8::1]:80")),
        (Ok(_), _) => Err(format!("'{written}' has a port, and the protocol has none")),
        (Err(_), None) => Err(format!("'{written}' is not an address")),
    }
}

/// `SYN,ACK` or `SYN|ACK`.
fn flags(written: &str) -> Result<TcpFlags, String> {
    let mut flags = TcpFlags::NONE;
    for name in written.split([',', '|']) {
        flags = flags
            | match name.to_ascii_uppercase().as_str() {
                "FIN" => TcpFlags::FIN,
                "SYN" => TcpFlags::SYN,
                "RST" => TcpFlags::RST,
                "PSH" => TcpFlags::PSH,
                "ACK" => TcpFlags::ACK,
                "URG" => TcpFlags::URG,
                "ECE" => TcpFlags::ECE,
                "CWR" => TcpFlags::CWR,
                _ => return Err(format!("'{name}' is no flag of TCP; write them as SYN,ACK")),
            };
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use wire::{Content, Transport, Verify, dissect};

    use super::*;

    #[test]
    fn what_is_described_is_a_packet_with_right_checksums() {
        for (text, protocol) in [
            ("udp 192.0.2.1:1234 > 198.51.100.10:80 port outside", 17),
            ("udp [2001:db8::1]:1234 > [2001:db8:1::10]:80 port outside length 33", 17),
            ("tcp 192.0.2.1:1234 > 198.51.100.10:80 port outside flags SYN|ACK ttl 3 length 101", 6),
            ("tcp [2001:db8::1]:1234 > [2001:db8:1::10]:443 port outside", 6),
            ("icmp 192.0.2.1 > 198.51.100.10 port outside", 1),
            ("icmp 2001:db8::1 > 2001:db8:1::10 port outside length 8", 58),
            ("47 192.0.2.1 > 198.51.100.10 port outside length 40", 47),
            ("tcp 192.0.2.1:1234 > 198.51.100.10:80 port outside vlan 4094", 6),
            ("icmp 2001:db8::1 > 2001:db8:1::10 port outside vlan 1 length 8", 58),
        ] {
            let described = Description::parse(text).unwrap();
            assert_eq!(described.port, "outside");
            let frame = dissect(&described.frame(MacAddr::new([2, 0, 0, 0, 0, 1])), Verify::All).unwrap();
            let Content::Ip(facts) = frame.content else { panic!("{text}") };
            assert_eq!((facts.protocol, frame.link.vlan), (protocol, described.vlan), "{text}");
            assert_eq!(facts.endpoints.source(), described.source.0);
        }
        let described = Description::parse("tcp 192.0.2.1:1 > 192.0.2.2:2 port a flags SYN,ACK ttl 3").unwrap();
        let frame = dissect(&described.frame(MacAddr::ZERO), Verify::All).unwrap();
        assert!(matches!(frame.content, Content::Ip(facts) if facts.hop_limit == 3
            && matches!(facts.transport, Transport::Tcp(tcp) if tcp.flags == TcpFlags::SYN | TcpFlags::ACK)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, sentence) in [
            ("", "the packet is not complete"),
            ("udp 192.0.2.1:1234 198.51.100.10:80 port outside", "a `>` stands between"),
            ("sctp 192.0.2.1:1 > 192.0.2.2:2 port a", "'sctp' is no protocol"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2 port a vlan 4095", "'4095' is no VLAN"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2 port a vlan 0", "'0' is no VLAN"),
            ("udp 192.0.2.1 > 192.0.2.2:2 port a", "'192.0.2.1' needs a port"),
            ("icmp 192.0.2.1:7 > 192.0.2.2 port a", "'192.0.2.1:7' has a port"),
            ("udp nobody:1 > 192.0.2.2:2 port a", "'nobody:1' is not an address"),
            ("udp 192.0.2.1:1 > [2001:db8::1]:2 port a", "source and destination are of different"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2", "say by which port it comes"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2 port", "'port' needs a value"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2 port a ttl 256", "'256' is beyond 255"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2 port a length 9001", "length is 9000 at most"),
            ("udp 192.0.2.1:1 > 192.0.2.2:2 port a colour blue", "'colour' is not understood"),
            ("tcp 192.0.2.1:1 > 192.0.2.2:2 port a flags SYN,BLUE", "'BLUE' is no flag"),
        ] {
            let error = Description::parse(text).unwrap_err();
            assert!(error.starts_with(sentence), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9:. >\\[\\]]{0,80}") {
            let _ = Description::parse(&text).map(|described| described.frame(MacAddr::ZERO));
        }
    }
}
