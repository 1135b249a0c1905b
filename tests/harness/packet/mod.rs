//! Packets that read aloud: `tcp("198.51.100.7:40000", "198.51.100.10:80").syn().seq(1000)`.
//!
//! A [`Packet`] is right in every length and checksum unless a test spoils one by name. It is written byte by byte with
//! sums of its own (`sum`), so that nothing of the code under test takes part. MACs that a test leaves out are filled in
//! by the rig, for where the packet is met. Not here: what the appliance makes of it.

mod build;
mod message;
mod segment;
mod show;
mod sum;

use std::net::{IpAddr, SocketAddr};

use wire::MacAddr;

pub use build::Macs;
pub use message::{
    advertisement, arp_reply, arp_request, icmp, icmp_error, neighbor_advertisement, pong, solicitation,
};
pub use segment::{ACK, FIN, PSH, RST, SYN, URG};
pub use show::show;
pub use sum::internet_checksum;

use segment::Segment;

/// The hop limit of packets as they set out.
pub const HOPS: u8 = 64;

/// One frame, described.
#[derive(Clone, Debug)]
pub struct Packet {
    source_mac: Option<MacAddr>,
    destination_mac: Option<MacAddr>,
    via: Option<IpAddr>,
    tags: Vec<[u8; 4]>,
    content: Content,
    padding: Vec<u8>,
    cut: Option<usize>,
    edits: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Content {
    Ip(Box<Ip>),
    Raw { ethertype: u16, bytes: Vec<u8> },
}

/// The IP header and what it carries.
#[derive(Clone, Debug)]
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    class: u8,
    id: u16,
    flags_offset: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    segment: Segment,
    /// Spoilt fields.
    version: Option<u8>,
    header_words: Option<u8>,
    total_length: Option<u16>,
    checksum_off_by: u16,
    protocol: Option<u8>,
}

/// The address of a station's network card: each address in these tests has one of its own.
#[must_use]
pub fn station(address: IpAddr) -> MacAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            MacAddr::new([0x02, 0x04, a, b, c, d])
        }
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            let network = v6.octets()[4] ^ v6.octets()[5];
            MacAddr::new([0x06, network, a, b, c, d])
        }
    }
}

/// An address with a port, as written.
fn ends(source: &str, destination: &str) -> (SocketAddr, SocketAddr) {
    let parse = |text: &str| text.parse().unwrap_or_else(|error| panic!("{text:?} is no address with a port: {error}"));
    (parse(source), parse(destination))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text:?} is no address: {error}"))
}

/// This host with this port, as ends are written: `198.51.100.7:80`, `[2001:db8::1]:80`.
#[must_use]
pub fn end(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host of an end, without its port.
#[must_use]
pub fn host(end: &str) -> &str {
    end.rsplit_once(':').map_or(end, |(host, _)| host.trim_matches(['[', ']']))
}

/// A TCP segment: an ACK without payload unless more is said. Ends as `"198.51.100.7:40000"` or `"[2001:db8::1]:80"`.
#[must_use]
pub fn tcp(source: &str, destination: &str) -> Packet {
    let (source, destination) = ends(source, destination);
    Packet::ip(source.ip(), destination.ip(), Segment::tcp(source.port(), destination.port()))
}

/// A UDP datagram.
#[must_use]
pub fn udp(source: &str, destination: &str) -> Packet {
    let (source, destination) = ends(source, destination);
    Packet::ip(source.ip(), destination.ip(), Segment::udp(source.port(), destination.port()))
}

/// An echo request of this identifier, either family.
#[must_use]
pub fn ping(source: &str, destination: &str, identifier: u16) -> Packet {
    let kind = if address(source).is_ipv4() { 8 } else { 128 };
    icmp(source, destination, kind, 0, u32::from(identifier) << 16 | 1, b"are you there?")
}

/// A packet of any protocol.
#[must_use]
pub fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Packet {
    Packet::ip(address(source), address(destination), Segment::raw(protocol, payload))
}

/// A frame of any ethertype.
#[must_use]
pub fn ethernet(source: MacAddr, destination: MacAddr, ethertype: u16, payload: &[u8]) -> Packet {
    Packet {
        source_mac: Some(source),
        destination_mac: Some(destination),
        ..Packet::of(Content::Raw { ethertype, bytes: payload.to_vec() })
    }
}

impl Packet {
    fn of(content: Content) -> Self {
        Self {
            source_mac: None,
            destination_mac: None,
            via: None,
            tags: Vec::new(),
            content,
            padding: Vec::new(),
            cut: None,
            edits: Vec::new(),
        }
    }

    fn ip(source: IpAddr, destination: IpAddr, segment: Segment) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{source} and {destination} are of two families");
        Self::of(Content::Ip(Box::new(Ip {
            source,
            destination,
            hops: HOPS,
            class: 0,
            id: 0x4d52,
            flags_offset: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            segment,
            version: None,
            header_words: None,
            total_length: None,
            checksum_off_by: 0,
            protocol: None,
        })))
    }

    fn header(&mut self) -> &mut Ip {
        match &mut self.content {
            Content::Ip(ip) => ip,
            Content::Raw { ethertype, .. } => panic!("a frame of ethertype {ethertype:#06x} has no IP header"),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        change(self.header());
        self
    }

    /// The IP addresses; `None` for other frames.
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.content {
            Content::Ip(ip) => Some((ip.source, ip.destination)),
            Content::Raw { .. } => None,
        }
    }

    // The link.

    /// From this station.
    #[must_use]
    pub fn source_mac(mut self, mac: MacAddr) -> Self {
        self.source_mac = Some(mac);
        self
    }

    /// To this station.
    #[must_use]
    pub fn destination_mac(mut self, mac: MacAddr) -> Self {
        self.destination_mac = Some(mac);
        self
    }

    /// By way of the router at this address: it is the station on the link.
    #[must_use]
    pub fn via(mut self, router: &str) -> Self {
        self.via = Some(address(router));
        self
    }

    /// With an 802.1Q tag, outside those already there.
    #[must_use]
    pub fn tagged(mut self, vlan: u16) -> Self {
        let [high, low] = vlan.to_be_bytes();
        self.tags.insert(0, [0x81, 0x00, high, low]);
        self
    }

    /// With a tag of any kind (802.1ad: 0x88a8), outside those already there.
    #[must_use]
    pub fn tagged_as(mut self, kind: u16, vlan: u16) -> Self {
        let ([k0, k1], [high, low]) = (kind.to_be_bytes(), vlan.to_be_bytes());
        self.tags.insert(0, [k0, k1, high, low]);
        self
    }

    /// With these bytes behind the packet, as short frames are padded.
    #[must_use]
    pub fn padded(mut self, bytes: &[u8]) -> Self {
        self.padding = bytes.to_vec();
        self
    }

    /// Only the first `len` bytes of the frame.
    #[must_use]
    pub const fn cut(mut self, len: usize) -> Self {
        self.cut = Some(len);
        self
    }

    /// These bytes written over the frame at `at`, after every checksum was made.
    #[must_use]
    pub fn spoilt(mut self, at: usize, bytes: &[u8]) -> Self {
        self.edits.push((at, bytes.to_vec()));
        self
    }

    // IP.

    /// From another address (and port, when one is written).
    #[must_use]
    pub fn from(self, source: &str) -> Self {
        self.with(|ip| match source.parse::<SocketAddr>() {
            Ok(end) => {
                ip.source = end.ip();
                ip.segment.set_source_port(end.port());
            }
            Err(_) => ip.source = address(source),
        })
    }

    /// To another address (and port, when one is written).
    #[must_use]
    pub fn to(self, destination: &str) -> Self {
        self.with(|ip| match destination.parse::<SocketAddr>() {
            Ok(end) => {
                ip.destination = end.ip();
                ip.segment.set_destination_port(end.port());
            }
            Err(_) => ip.destination = address(destination),
        })
    }

    /// With this TTL or hop limit.
    #[must_use]
    pub fn hops(self, hops: u8) -> Self {
        self.with(|ip| ip.hops = hops)
    }

    /// As the next router sees it: one hop less.
    #[must_use]
    pub fn routed(self) -> Self {
        self.with(|ip| ip.hops -= 1)
    }

    /// As the appliance itself writes IPv4: identification 0, never fragmented (RFC 6864).
    #[must_use]
    pub fn atomic(self) -> Self {
        self.with(|ip| {
            if ip.source.is_ipv4() {
                ip.id = 0;
                ip.flags_offset = 0x4000;
            }
        })
    }

    /// As the appliance writes its own ICMP errors: of IPv4, with the precedence of internetwork control (RFC 1812 section
    /// 4.3.2.5), and never fragmented.
    #[must_use]
    pub fn told(self) -> Self {
        let v4 = self.addresses().is_some_and(|(source, _)| source.is_ipv4());
        if v4 { self.class(0xc0).atomic() } else { self }
    }

    /// With this type of service or traffic class.
    #[must_use]
    pub fn class(self, class: u8) -> Self {
        self.with(|ip| ip.class = class)
    }

    /// With this IPv4 identification, or that of the IPv6 fragment header put in later.
    #[must_use]
    pub fn id(self, id: u16) -> Self {
        self.with(|ip| ip.id = id)
    }

    /// With IPv4's "don't fragment".
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        self.with(|ip| ip.flags_offset |= 0x4000)
    }

    /// With the reserved bit of IPv4's flags (RFC 3514).
    #[must_use]
    pub fn reserved_flag(self) -> Self {
        self.with(|ip| ip.flags_offset |= 0x8000)
    }

    /// With "don't fragment" where there is such a bit: nothing of IPv6 is ever cut by a router.
    #[must_use]
    pub fn uncut(self) -> Self {
        self.with(|ip| ip.flags_offset |= if ip.source.is_ipv4() { 0x4000 } else { 0 })
    }

    /// A fragment, `offset` bytes into the datagram (a multiple of 8), with more to come or not. For IPv6 a fragment header
    /// is put in behind the extension headers so far.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.with(|ip| {
            if ip.source.is_ipv4() {
                ip.flags_offset = (offset / 8) | if more { 0x2000 } else { 0 };
            } else {
                let word = (offset | u16::from(more)).to_be_bytes();
                let id = ip.id.to_be_bytes();
                ip.extensions.push((44, vec![0, word[0], word[1], 0, 0, id[0], id[1]]));
            }
        })
    }

    /// The packet in fragments of at most `len` bytes of what it carries (a multiple of 8), each with the headers in front.
    #[must_use]
    pub fn pieces(&self, len: usize) -> Vec<Self> {
        let Content::Ip(ip) = &self.content else { panic!("only IP packets come in fragments") };
        let segment = ip.segment.bytes(ip.source, ip.destination);
        let protocol = ip.segment.protocol(ip.source.is_ipv4());
        let count = segment.len().div_ceil(len);
        let piece = |(number, bytes): (usize, &[u8])| {
            let mut piece = self.clone();
            piece.header().segment = Segment::raw(protocol, bytes);
            piece.fragment(u16::try_from(number * len).expect("a datagram"), number + 1 < count)
        };
        segment.chunks(len).enumerate().map(piece).collect()
    }

    /// With these IPv4 options, padded to whole words by the caller.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        self.with(|ip| ip.options = options.to_vec())
    }

    /// With an IPv6 extension header of this number behind those so far. `body` is what follows the next-header byte, its
    /// length byte included.
    #[must_use]
    pub fn extension(self, number: u8, body: &[u8]) -> Self {
        self.with(|ip| ip.extensions.push((number, body.to_vec())))
    }

    /// With another number in the version field.
    #[must_use]
    pub fn version(self, version: u8) -> Self {
        self.with(|ip| ip.version = Some(version))
    }

    /// With another IHL.
    #[must_use]
    pub fn header_words(self, words: u8) -> Self {
        self.with(|ip| ip.header_words = Some(words))
    }

    /// With another IPv4 total length or IPv6 payload length.
    #[must_use]
    pub fn total_length(self, bytes: u16) -> Self {
        self.with(|ip| ip.total_length = Some(bytes))
    }

    /// With another protocol number or next header.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.with(|ip| ip.protocol = Some(number))
    }

    /// With an IPv4 header checksum that is wrong by these bits.
    #[must_use]
    pub fn wrong_ip_checksum(self, bits: u16) -> Self {
        self.with(|ip| ip.checksum_off_by = bits)
    }

    /// With a transport checksum that is wrong by these bits.
    #[must_use]
    pub fn wrong_checksum(self, bits: u16) -> Self {
        self.with(|ip| ip.segment.spoil_checksum(bits))
    }
}
