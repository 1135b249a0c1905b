//! A service whose backends are told of their clients, as both ends and an application behind it see it: segments in the order
//! they have on the wire, and what a receiver makes of them that believes whatever comes first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::{Content, Facts, Tcp, TcpFlags, TcpOptions, Transport, Verify, dissect};

use crate::packet::{Packet, end, host, tcp};
use crate::shop::ALLOW;
use crate::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};

/// Client, service, backend and pool address of one IP version.
#[derive(Debug)]
pub struct Cast {
    /// Who asks.
    pub client: &'static str,
    /// The service.
    pub shop: &'static str,
    /// Its backend.
    pub server: &'static str,
    /// What hides the client in `full-nat`.
    pub pool: &'static str,
    /// Bytes of the header that introduces the client.
    pub header: u32,
}

/// IPv4.
pub const V4: Cast = Cast {
    client: "198.51.100.7:40000",
    shop: "198.51.100.10:80",
    server: "10.0.0.11:8080",
    pool: "10.0.0.1",
    header: 28,
};
/// IPv6.
pub const V6: Cast = Cast {
    client: "[2001:db8:51::7]:40000",
    shop: "[2001:db8:51::10]:80",
    server: "[2001:db8:10::11]:8080",
    pool: "2001:db8:10::1",
    header: 52,
};

/// Introduced by the PROXY protocol.
pub const PROXY: &str = "client_address = \"proxy-v2\"";
/// Introduced by a TCP option.
pub const OPTION: &str = "client_address = \"tcp-option\"";

/// The client's first number, and the backend's.
pub const OPENER: u32 = 1_000;
/// The backend's first number.
pub const ANSWERER: u32 = 9_000;

/// The services of both versions, with these keys.
#[must_use]
pub fn shops(keys: &str, mode: &str) -> String {
    let service = |name: &str, cast: &Cast| {
        let pool = if mode == "full-nat" { format!("source_address = [\"{}\"]\n", cast.pool) } else { String::new() };
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{}\"\nprotocol = \"tcp\"\nports = [\"80\"]\nmode = \"{mode}\"\n\
             {pool}health = {{ kind = \"none\" }}\n{keys}\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"{}\"\nport = 8080\n",
            host(cast.shop),
            host(cast.server),
        )
    };
    service("shop", &V4) + &service("shop6", &V6)
}

/// One worker with these services, everything allowed.
#[must_use]
pub fn rig(keys: &str, mode: &str) -> Rig {
    workers(1, keys, mode)
}

/// As many workers with these services.
#[must_use]
pub fn workers(workers: u16, keys: &str, mode: &str) -> Rig {
    Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}{}", shops(keys, mode)), Layout { workers, ..Layout::default() })
}

/// A TCP packet that came out, read with every checksum verified.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where.
    pub side: Side,
    /// What is known of it.
    pub facts: Facts,
    /// Its segment.
    pub tcp: Tcp,
    /// The segment's options.
    pub options: TcpOptions,
    /// The frame.
    pub bytes: Vec<u8>,
}

impl Seen {
    fn read((side, bytes): (Side, Vec<u8>)) -> Self {
        let Content::Ip(facts) = dissect(&bytes, Verify::All).expect("a packet").content else { panic!("IP") };
        let Transport::Tcp(tcp) = facts.transport else { panic!("TCP: {facts:?}") };
        Self { side, facts, tcp, options: TcpOptions::of(&bytes, &facts), bytes }
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.facts.end - self.tcp.payload)..usize::from(self.facts.end)]
    }

    /// The bytes of its header's options.
    #[must_use]
    pub fn option_bytes(&self) -> &[u8] {
        let begin = usize::from(self.facts.transport_offset) + 20;
        &self.bytes[begin..usize::from(self.facts.end - self.tcp.payload)]
    }

    /// Where it came out, its sequence and acknowledgment numbers, and the bytes it carries.
    #[must_use]
    pub fn numbers(&self) -> (Side, u32, u32, u16) {
        (self.side, self.tcp.sequence.get(), self.tcp.acknowledgment.get(), self.tcp.payload)
    }
}

/// Puts packets in and reads what comes out, the outside first, each side in the order of its wire.
pub fn exchange(rig: &mut Rig, packets: &[(Side, Packet)]) -> Vec<Seen> {
    for (side, packet) in packets {
        rig.put(*side, packet);
    }
    rig.settle();
    came(rig)
}

/// What came out since the last look, likewise.
pub fn came(rig: &mut Rig) -> Vec<Seen> {
    let mut seen: Vec<Seen> = rig.take().into_iter().map(Seen::read).collect();
    seen.sort_by_key(|seen| seen.side);
    seen
}

/// The only one.
pub fn one(seen: &[Seen]) -> Seen {
    assert_eq!(seen.len(), 1, "{seen:#?}");
    seen[0].clone()
}

/// The header of a cast's client.
#[must_use]
pub fn header(cast: &Cast) -> Vec<u8> {
    introduction(cast, cast.client)
}

/// A header that claims to be of another client.
#[must_use]
pub fn forged(cast: &Cast) -> Vec<u8> {
    introduction(cast, if cast.header == 28 { "10.66.66.66:1" } else { "[2001:db8:66::66]:1" })
}

fn introduction(cast: &Cast, client: &str) -> Vec<u8> {
    let part = |end: &str| {
        let (_, port) = end.rsplit_once(':').unwrap();
        (host(end).parse::<IpAddr>().unwrap(), port.parse::<u16>().unwrap())
    };
    let ((client, client_port), (shop, shop_port)) = (part(client), part(cast.shop));
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    bytes.extend(if client.is_ipv4() { [0x11, 0, 12] } else { [0x21, 0, 36] });
    for address in [client, shop] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend(client_port.to_be_bytes());
    bytes.extend(shop_port.to_be_bytes());
    bytes
}

/// The option that names a client with the address and port that a header has.
#[must_use]
pub fn option_of(header: &[u8]) -> Vec<u8> {
    let v4 = header.len() == 28;
    let address = &header[16..if v4 { 20 } else { 32 }];
    let port = &header[header.len() - 4..header.len() - 2];
    [&[254, u8::try_from(address.len() + 4).unwrap()], port, address].concat()
}

/// A conversation with a service, as both its ends write it.
#[derive(Debug)]
pub struct Told<'c> {
    /// Who takes part.
    pub cast: &'c Cast,
    /// Where the backend sees the client.
    pub seen_at: String,
}

impl<'c> Told<'c> {
    /// A conversation whose backend sees the client's own address.
    #[must_use]
    pub fn visible(cast: &'c Cast) -> Self {
        Self { cast, seen_at: cast.client.to_owned() }
    }

    /// Opens a connection with a SYN, which must arrive.
    pub fn syn(rig: &mut Rig, cast: &'c Cast, options: &[u8]) -> Self {
        let syn = tcp(cast.client, cast.shop).syn().seq(OPENER).tcp_options(options);
        let syn = one(&exchange(rig, &[(OUTSIDE, syn)]));
        assert_eq!(syn.numbers(), (INSIDE, OPENER, 0, 0));
        Self { cast, seen_at: end(&syn.facts.endpoints.source().to_string(), syn.tcp.source_port) }
    }

    /// As far as the backend's answer.
    pub fn answered(rig: &mut Rig, cast: &'c Cast) -> Self {
        let talk = Self::syn(rig, cast, &[]);
        let answer = talk.server().syn_ack(OPENER + 1).seq(ANSWERER).window(5_000);
        assert_eq!(one(&exchange(rig, &[(INSIDE, answer)])).numbers(), (OUTSIDE, ANSWERER, OPENER + 1, 0));
        talk
    }

    /// As far as the header, which the backend has got and not acknowledged.
    pub fn announced(rig: &mut Rig, cast: &'c Cast) -> Self {
        let talk = Self::answered(rig, cast);
        let first = one(&exchange(rig, &[(OUTSIDE, talk.client().ack(ANSWERER + 1).seq(OPENER + 1))]));
        assert_eq!(first.numbers(), (INSIDE, OPENER + 1, ANSWERER + 1, u16::try_from(cast.header).unwrap()));
        assert_eq!(first.payload(), header(cast));
        talk
    }

    /// As far as the backend's acknowledgment of the header.
    pub fn heard(rig: &mut Rig, cast: &'c Cast) -> Self {
        let talk = Self::announced(rig, cast);
        let heard = talk.server().ack(OPENER + 1 + cast.header).seq(ANSWERER + 1).window(5_000);
        assert_eq!(one(&exchange(rig, &[(INSIDE, heard)])).numbers(), (OUTSIDE, ANSWERER + 1, OPENER + 1, 0));
        talk
    }

    /// A packet of the client's.
    #[must_use]
    pub fn client(&self) -> Packet {
        tcp(self.cast.client, self.cast.shop)
    }

    /// A packet of the backend's.
    #[must_use]
    pub fn server(&self) -> Packet {
        tcp(self.cast.server, &self.seen_at)
    }

    /// Data of the client's at this sequence number, all else acknowledged.
    #[must_use]
    pub fn data(&self, sequence: u32, data: &[u8]) -> (Side, Packet) {
        (OUTSIDE, self.client().ack(ANSWERER + 1).seq(sequence).data(data))
    }
}

/// What an application behind a backend's TCP reads: of each byte of the stream what came first counts, as receivers are free to
/// have it (RFC 9293 section 3.10.7.4), and no window is too small for it.
#[derive(Debug)]
pub struct Application {
    next: u32,
    waiting: BTreeMap<u32, u8>,
    read: Vec<u8>,
}

impl Application {
    /// One whose connection begins with this number of its client's.
    #[must_use]
    pub const fn listening(opener: u32) -> Self {
        Self { next: opener.wrapping_add(1), waiting: BTreeMap::new(), read: Vec::new() }
    }

    /// Takes in what came out inside, in that order.
    pub fn hears(&mut self, seen: &[Seen]) {
        for seen in seen.iter().filter(|seen| seen.side == INSIDE && !seen.tcp.flags.contains(TcpFlags::SYN)) {
            for (number, byte) in (seen.tcp.sequence.get()..).zip(seen.payload()) {
                self.waiting.entry(number).or_insert(*byte);
            }
        }
        while let Some(byte) = self.waiting.remove(&self.next) {
            self.read.push(byte);
            self.next = self.next.wrapping_add(1);
        }
    }

    /// Everything it has read.
    #[must_use]
    pub fn read(&self) -> &[u8] {
        &self.read
    }
}
