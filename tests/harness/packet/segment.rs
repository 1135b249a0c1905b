//! What an IP packet carries: TCP, UDP, ICMP, or plain bytes, each with its checksum made last and spoilt on request.

use std::net::IpAddr;

use super::{Packet, internet_checksum};

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// PSH.
pub const PSH: u8 = 0x08;
/// ACK.
pub const ACK: u8 = 0x10;
/// URG.
pub const URG: u8 = 0x20;

/// A transport header with its payload.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    kind: Kind,
    checksum_off_by: u16,
    no_checksum: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Tcp(Box<Tcp>),
    Udp { source_port: u16, destination_port: u16, length: Option<u16>, data: Vec<u8> },
    Icmp { kind: u8, code: u8, rest: u32, data: Vec<u8> },
    Raw { protocol: u8, bytes: Vec<u8> },
}

#[derive(Clone, Debug)]
struct Tcp {
    source_port: u16,
    destination_port: u16,
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    offset: Option<u8>,
    reserved: u8,
    urgent: u16,
    data: Vec<u8>,
}

impl Segment {
    const fn of(kind: Kind) -> Self {
        Self { kind, checksum_off_by: 0, no_checksum: false }
    }

    pub(super) fn tcp(source_port: u16, destination_port: u16) -> Self {
        Self::of(Kind::Tcp(Box::new(Tcp {
            source_port,
            destination_port,
            sequence: 0,
            acknowledgment: 0,
            flags: ACK,
            window: 0xffff,
            options: Vec::new(),
            offset: None,
            reserved: 0,
            urgent: 0,
            data: Vec::new(),
        })))
    }

    pub(super) fn udp(source_port: u16, destination_port: u16) -> Self {
        Self::of(Kind::Udp { source_port, destination_port, length: None, data: b"a question".to_vec() })
    }

    pub(super) fn icmp(kind: u8, code: u8, rest: u32, data: &[u8]) -> Self {
        Self::of(Kind::Icmp { kind, code, rest, data: data.to_vec() })
    }

    pub(super) fn raw(protocol: u8, bytes: &[u8]) -> Self {
        Self::of(Kind::Raw { protocol, bytes: bytes.to_vec() })
    }

    pub(super) const fn spoil_checksum(&mut self, bits: u16) {
        self.checksum_off_by = bits;
    }

    pub(super) fn set_source_port(&mut self, port: u16) {
        match &mut self.kind {
            Kind::Tcp(tcp) => tcp.source_port = port,
            Kind::Udp { source_port, .. } => *source_port = port,
            other => panic!("{other:?} has no ports"),
        }
    }

    pub(super) fn set_destination_port(&mut self, port: u16) {
        match &mut self.kind {
            Kind::Tcp(tcp) => tcp.destination_port = port,
            Kind::Udp { destination_port, .. } => *destination_port = port,
            other => panic!("{other:?} has no ports"),
        }
    }

    fn tcp_mut(&mut self) -> &mut Tcp {
        match &mut self.kind {
            Kind::Tcp(tcp) => tcp,
            other => panic!("{other:?} is not TCP"),
        }
    }

    /// The protocol number in packets of this family.
    pub(super) fn protocol(&self, v4: bool) -> u8 {
        match &self.kind {
            Kind::Tcp(_) => 6,
            Kind::Udp { .. } => 17,
            Kind::Icmp { .. } if v4 => 1,
            Kind::Icmp { .. } => 58,
            Kind::Raw { protocol, .. } => *protocol,
        }
    }

    /// Where the checksum lies, and whether it covers the addresses.
    fn checksum_field(&self, v4: bool) -> Option<(usize, bool)> {
        match self.kind {
            Kind::Tcp(_) => Some((16, true)),
            Kind::Udp { .. } => Some((6, true)),
            Kind::Icmp { .. } => Some((2, !v4)),
            Kind::Raw { .. } => None,
        }
    }

    /// The bytes, checksum included.
    pub(super) fn bytes(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let v4 = source.is_ipv4();
        let mut bytes = self.without_checksum();
        let Some((field, pseudo)) = self.checksum_field(v4) else { return bytes };
        if self.no_checksum {
            return bytes;
        }
        let mut summed = Vec::new();
        if pseudo {
            for address in [source, destination] {
                match address {
                    IpAddr::V4(v4) => summed.extend(v4.octets()),
                    IpAddr::V6(v6) => summed.extend(v6.octets()),
                }
            }
            summed.extend(u32::try_from(bytes.len()).expect("a packet").to_be_bytes());
            summed.extend([0, 0, 0, self.protocol(v4)]);
        }
        summed.extend(&bytes);
        let checksum = match (internet_checksum(&summed), &self.kind) {
            (0, Kind::Udp { .. }) => 0xffff,
            (checksum, _) => checksum,
        };
        bytes[field..field + 2].copy_from_slice(&(checksum ^ self.checksum_off_by).to_be_bytes());
        bytes
    }

    fn without_checksum(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.kind {
            Kind::Tcp(tcp) => {
                bytes.extend(tcp.source_port.to_be_bytes());
                bytes.extend(tcp.destination_port.to_be_bytes());
                bytes.extend(tcp.sequence.to_be_bytes());
                bytes.extend(tcp.acknowledgment.to_be_bytes());
                let words = tcp.offset.unwrap_or_else(|| u8::try_from(5 + tcp.options.len() / 4).expect("15 words"));
                bytes.extend([words << 4 | tcp.reserved, tcp.flags]);
                bytes.extend(tcp.window.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(tcp.urgent.to_be_bytes());
                bytes.extend(&tcp.options);
                bytes.extend(&tcp.data);
            }
            Kind::Udp { source_port, destination_port, length, data } => {
                bytes.extend(source_port.to_be_bytes());
                bytes.extend(destination_port.to_be_bytes());
                let length = length.unwrap_or_else(|| u16::try_from(8 + data.len()).expect("a datagram"));
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(data);
            }
            Kind::Icmp { kind, code, rest, data } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest.to_be_bytes());
                bytes.extend(data);
            }
            Kind::Raw { bytes: raw, .. } => bytes.extend(raw),
        }
        bytes
    }
}

impl Packet {
    fn with_tcp(self, change: impl FnOnce(&mut Tcp)) -> Self {
        self.with(|ip| change(ip.segment.tcp_mut()))
    }

    /// With exactly these TCP flags.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.with_tcp(|tcp| tcp.flags = flags)
    }

    /// A SYN alone.
    #[must_use]
    pub fn syn(self) -> Self {
        self.flags(SYN)
    }

    /// A SYN that acknowledges up to `acknowledgment`.
    #[must_use]
    pub fn syn_ack(self, acknowledgment: u32) -> Self {
        self.flags(SYN | ACK).acknowledging(acknowledgment)
    }

    /// An ACK of everything before `acknowledgment`.
    #[must_use]
    pub fn ack(self, acknowledgment: u32) -> Self {
        self.flags(ACK).acknowledging(acknowledgment)
    }

    /// A FIN that acknowledges up to `acknowledgment`.
    #[must_use]
    pub fn fin(self, acknowledgment: u32) -> Self {
        self.flags(FIN | ACK).acknowledging(acknowledgment)
    }

    /// A reset without ACK.
    #[must_use]
    pub fn rst(self) -> Self {
        self.flags(RST)
    }

    /// A reset that acknowledges up to `acknowledgment`.
    #[must_use]
    pub fn rst_ack(self, acknowledgment: u32) -> Self {
        self.flags(RST | ACK).acknowledging(acknowledgment)
    }

    /// With this acknowledgment number, whatever the flags.
    #[must_use]
    pub fn acknowledging(self, acknowledgment: u32) -> Self {
        self.with_tcp(|tcp| tcp.acknowledgment = acknowledgment)
    }

    /// With this sequence number.
    #[must_use]
    pub fn seq(self, sequence: u32) -> Self {
        self.with_tcp(|tcp| tcp.sequence = sequence)
    }

    /// With this window.
    #[must_use]
    pub fn window(self, window: u16) -> Self {
        self.with_tcp(|tcp| tcp.window = window)
    }

    /// With these TCP options, padded to whole words by the caller.
    #[must_use]
    pub fn tcp_options(self, options: &[u8]) -> Self {
        self.with_tcp(|tcp| tcp.options = options.to_vec())
    }

    /// With another TCP data offset, in words.
    #[must_use]
    pub fn data_offset(self, words: u8) -> Self {
        self.with_tcp(|tcp| tcp.offset = Some(words))
    }

    /// With these reserved bits, between data offset and flags.
    #[must_use]
    pub fn tcp_reserved(self, bits: u8) -> Self {
        self.with_tcp(|tcp| tcp.reserved = bits & 0x0f)
    }

    /// With this urgent pointer, whatever the flags.
    #[must_use]
    pub fn urgent(self, pointer: u16) -> Self {
        self.with_tcp(|tcp| tcp.urgent = pointer)
    }

    /// With this second word of its header (ICMP).
    #[must_use]
    pub fn rest(self, word: u32) -> Self {
        self.with(|ip| match &mut ip.segment.kind {
            Kind::Icmp { rest, .. } => *rest = word,
            other => panic!("{other:?} is not ICMP"),
        })
    }

    /// With this payload (TCP, UDP, ICMP).
    #[must_use]
    pub fn data(self, payload: &[u8]) -> Self {
        self.with(|ip| match &mut ip.segment.kind {
            Kind::Tcp(tcp) => tcp.data = payload.to_vec(),
            Kind::Udp { data, .. } | Kind::Icmp { data, .. } => *data = payload.to_vec(),
            Kind::Raw { bytes, .. } => *bytes = payload.to_vec(),
        })
    }

    /// With another UDP length.
    #[must_use]
    pub fn udp_length(self, bytes: u16) -> Self {
        self.with(|ip| match &mut ip.segment.kind {
            Kind::Udp { length, .. } => *length = Some(bytes),
            other => panic!("{other:?} is not UDP"),
        })
    }

    /// Without transport checksum, as UDP may be over IPv4.
    #[must_use]
    pub fn no_checksum(self) -> Self {
        self.with(|ip| ip.segment.no_checksum = true)
    }
}
