//! What the pipeline needs to know of a packet, read once by [`dissect`](crate::dissect) and handed from stage to stage.
//! Offsets are bytes from the start of the frame; numbers are in host order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{MacAddr, SeqNumber, TcpFlags};

/// One frame, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The link layer.
    pub link: Link,
    /// What it carries.
    pub content: Content,
}

/// Facts of the Ethernet header and its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC.
    pub destination: MacAddr,
    /// Source MAC.
    pub source: MacAddr,
    /// How many VLAN tags there are.
    pub tags: u8,
    /// The VLAN id of the outermost tag, 0 when there is none.
    pub vlan: u16,
    /// The ethertype behind the tags.
    pub ethertype: u16,
    /// Where the ethertype's payload begins.
    pub payload: u16,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// An IP packet.
    Ip(Facts),
    /// Another ethertype.
    Other,
}

/// An ARP packet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request (true) or reply.
    pub request: bool,
    /// Sender hardware address.
    pub sender_mac: MacAddr,
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: MacAddr,
    /// Target protocol address.
    pub target: Ipv4Addr,
}

/// Both addresses of a packet, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoints {
    /// IPv4.
    V4 {
        /// Source address.
        source: Ipv4Addr,
        /// Destination address.
        destination: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// Source address.
        source: Ipv6Addr,
        /// Destination address.
        destination: Ipv6Addr,
    },
}

impl Endpoints {
    /// The source address.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        match *self {
            Self::V4 { source, .. } => IpAddr::V4(source),
            Self::V6 { source, .. } => IpAddr::V6(source),
        }
    }

    /// The destination address.
    #[must_use]
    pub const fn destination(&self) -> IpAddr {
        match *self {
            Self::V4 { destination, .. } => IpAddr::V4(destination),
            Self::V6 { destination, .. } => IpAddr::V6(destination),
        }
    }

    /// Source and destination exchanged.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::V4 { source, destination } => Self::V4 { source: destination, destination: source },
            Self::V6 { source, destination } => Self::V6 { source: destination, destination: source },
        }
    }

    /// Whether this is IPv6.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        matches!(self, Self::V6 { .. })
    }
}

/// Facts of one IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The addresses.
    pub endpoints: Endpoints,
    /// Where the IP header begins.
    pub network: u16,
    /// Where the transport header begins (behind IPv4 options and IPv6 extension headers).
    pub transport_offset: u16,
    /// Where the IP packet ends by its own length field; the frame may be longer (padding).
    pub end: u16,
    /// The transport protocol (IANA), behind all extension headers.
    pub protocol: u8,
    /// TTL or hop limit as received.
    pub hop_limit: u8,
    /// Whether IPv4's "don't fragment" is set; true for IPv6.
    pub dont_fragment: bool,
    /// Whether and which fragment this is.
    pub fragment: Fragment,
    /// The IPv6 extension headers that a zone may refuse.
    pub extensions: Extensions,
    /// The transport header.
    pub transport: Transport,
    /// The transport checksum was only the folded pseudo header (see `frame::ReceivedChecksum::Partial`): whoever sends
    /// the packet on completes it first, with [`complete_checksum`](crate::checksum::complete).
    pub partial_checksum: bool,
}

/// IPv6 extension headers that ask something of the routers on the way. None of IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Hop-by-hop options, which every router may look at (RFC 8200 section 4.3).
    pub hop_by_hop: bool,
    /// The type of a routing header with segments left: the destination is only the next station of several, and what the
    /// packet carries is read by the last. Its protocol is 43 here and its transport `Other`.
    pub routing: Option<u8>,
}

/// Whether a packet is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Whole (an IPv6 atomic fragment counts as whole, RFC 6946).
    No,
    /// The first fragment: it has the transport header.
    First,
    /// A later fragment: it has none.
    Later,
}

/// The transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// The checksum field is zero (IPv4 only): it stays so when addresses are rewritten.
        no_checksum: bool,
    },
    /// ICMP or `ICMPv6` echo.
    Echo {
        /// Request (true) or reply.
        request: bool,
        /// The identifier, which tells one ping from another.
        identifier: u16,
    },
    /// An ICMP or `ICMPv6` error that quotes a packet.
    IcmpError {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The packet it quotes.
        quote: Quote,
    },
    /// Any other ICMP or `ICMPv6` message.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A protocol without ports, as far as the appliance reads.
    Other,
    /// A later fragment: the transport header is elsewhere.
    Unknown,
}

/// Facts of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: SeqNumber,
    /// Acknowledgment number; meaningful with ACK.
    pub acknowledgment: SeqNumber,
    /// Window as on the wire, not scaled.
    pub window: u16,
    /// Flags.
    pub flags: TcpFlags,
    /// Bytes of payload (SYN and FIN not counted).
    pub payload: u16,
    /// Window scale offered; read from SYN segments only, clamped to 14 (RFC 7323 section 2.3).
    pub window_scale: Option<u8>,
}

/// The packet an ICMP error quotes, as its sender wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The addresses.
    pub endpoints: Endpoints,
    /// Where the quoted IP header begins in the frame.
    pub network: u16,
    /// Where the quoted transport header begins in the frame.
    pub transport_offset: u16,
    /// The transport protocol.
    pub protocol: u8,
    /// What its first eight bytes tell.
    pub transport: QuotedTransport,
}

/// What an ICMP error quotes of the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotedTransport {
    /// TCP or UDP ports, and for TCP the sequence number.
    Ports {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// TCP sequence number; 0 for UDP.
        sequence: SeqNumber,
    },
    /// ICMP echo, request (true) or reply, and its identifier.
    Echo {
        /// Request (true) or reply.
        request: bool,
        /// The identifier.
        identifier: u16,
    },
    /// A protocol without ports.
    Other,
}
