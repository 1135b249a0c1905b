//! Why bytes are not a packet the appliance treats. Each malformation is a drop reason of its own.

macro_rules! malformations {
    ($($variant:ident $name:literal $words:literal)*) => {
        /// Why bytes are not a packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[repr(u8)]
        pub enum Malformed {
            $(#[doc = $words] #[error($words)] $variant,)*
        }

        impl Malformed {
            /// Every malformation, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name operators see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The operator's sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }
        }
    };
}

malformations! {
    FrameTruncated "frame_truncated" "Shorter than an Ethernet header."
    EthernetSource "ethernet_source" "The source MAC is a multicast or broadcast address."
    VlanTruncated "vlan_truncated" "Cut off inside a VLAN tag."
    VlanTooDeep "vlan_too_deep" "More VLAN tags than are read."
    ArpTruncated "arp_truncated" "Cut off inside an ARP packet."
    ArpUnsupported "arp_unsupported" "ARP for something else than IPv4 over Ethernet."
    ArpSender "arp_sender" "An ARP packet whose sender address no station can have."
    Ipv4Truncated "ipv4_truncated" "Cut off inside the IPv4 header."
    Ipv4Version "ipv4_version" "The version field of an IPv4 packet is not 4."
    Ipv4HeaderLength "ipv4_header_length" "The IPv4 header length is below 20 or beyond the packet."
    Ipv4TotalLength "ipv4_total_length" "The IPv4 total length is below the header's or beyond the frame, as when a sender on this machine leaves segmentation to its interface (`ethtool -K` there: `tso off gso off`)."
    Ipv4Checksum "ipv4_checksum" "The IPv4 header checksum is wrong."
    Ipv4Options "ipv4_options" "The IPv4 options are malformed."
    Ipv4SourceRoute "ipv4_source_route" "IPv4 source routing is not honoured (RFC 7126)."
    Ipv6Truncated "ipv6_truncated" "Cut off inside the IPv6 header."
    Ipv6Version "ipv6_version" "The version field of an IPv6 packet is not 6."
    Ipv6PayloadLength "ipv6_payload_length" "The IPv6 payload length is beyond the frame, as when a sender on this machine leaves segmentation to its interface (`ethtool -K` there: `tso off gso off`)."
    Ipv6ExtensionTruncated "ipv6_extension_truncated" "Cut off inside an IPv6 extension header."
    Ipv6ExtensionOrder "ipv6_extension_order" "Hop-by-hop options not first, or a header repeated that may not be."
    Ipv6ExtensionCount "ipv6_extension_count" "More IPv6 extension headers than are walked."
    Ipv6RoutingType0 "ipv6_routing_type0" "A type 0 routing header (RFC 5095)."
    Ipv6HeaderChain "ipv6_header_chain" "The first fragment does not hold the whole header chain (RFC 7112)."
    FragmentLength "fragment_length" "A fragment that ends beyond 65,535 bytes, or a middle one not a multiple of 8."
    FragmentTiny "fragment_tiny" "A fragment too small or placed to hide the transport header (RFC 1858, RFC 3128)."
    TcpTruncated "tcp_truncated" "Cut off inside the TCP header."
    TcpDataOffset "tcp_data_offset" "The TCP data offset is below 5 or beyond the packet."
    TcpOptions "tcp_options" "The TCP options are malformed."
    TcpFlags "tcp_flags" "TCP flags that exclude each other, or none at all."
    TcpChecksum "tcp_checksum" "The TCP checksum is wrong."
    TcpPortZero "tcp_port_zero" "TCP port 0."
    UdpTruncated "udp_truncated" "Cut off inside the UDP header."
    UdpLength "udp_length" "The UDP length is below 8 or contradicts the packet."
    UdpChecksum "udp_checksum" "The UDP checksum is wrong, or missing in IPv6."
    UdpPortZero "udp_port_zero" "UDP destination port 0."
    IcmpTruncated "icmp_truncated" "Cut off inside the ICMP header."
    IcmpChecksum "icmp_checksum" "The ICMP checksum is wrong."
    IcmpQuote "icmp_quote" "An ICMP error that does not quote a packet up to its ports."
    SourceUnspecified "source_unspecified" "The source is the unspecified address."
    SourceLoopback "source_loopback" "The source or destination is a loopback address."
    SourceMulticast "source_multicast" "The source is a multicast or broadcast address."
    SourceReserved "source_reserved" "The source is of class E or otherwise reserved."
    Land "land" "Source and destination are the same."
    DestinationUnspecified "destination_unspecified" "The destination is the unspecified address."
    DestinationReserved "destination_reserved" "The destination is of class E or otherwise reserved."
}

impl Malformed {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The position of this malformation's counter.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

const _: () = assert!(Malformed::COUNT < u8::MAX as usize);
