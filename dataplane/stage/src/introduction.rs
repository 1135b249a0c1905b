//! What a backend is told of its client where it cannot see the client itself, or wants it from the connection: by a header in
//! front of everything the client says (PROXY protocol, version 2), or by an option of a TCP header (number 254, as DPVS and the
//! `toa` kernel module have it). Pure functions of bytes; when they are sent is the worker's matter.

use std::net::IpAddr;

use wire::tcp::TcpHeader;
use wire::{Endpoints, Facts, checksum};

/// How a backend is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Introduction {
    /// A header before the client's first byte.
    ProxyV2,
    /// An option in the segments that complete the handshake.
    TcpOption,
}

impl Introduction {
    /// Bytes the backend gets before the client's own.
    #[must_use]
    pub const fn ahead(self, v6: bool) -> u16 {
        match (self, v6) {
            (Self::ProxyV2, false) => 28,
            (Self::ProxyV2, true) => 52,
            (Self::TcpOption, _) => 0,
        }
    }
}

/// Bytes of the longest header.
pub const HEADER_MAX: usize = 52;

/// What every header begins with (PROXY protocol, section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, on behalf of a client; TCP over IPv4 and over IPv6.
const PROXY: u8 = 0x21;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

/// The header of a connection that the appliance opens for itself, such as a health probe.
pub const PROXY_LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// The number of the option (experimental, RFC 4727 section 5), as receivers of client addresses expect it.
const OPTION: u8 = 254;
/// Bytes of the option with either address, whole words.
const OPTION_V4: usize = 8;
const OPTION_V6: usize = 20;

/// Writes the header of a client's connection: `asked` are its own address and the service's, `ports` likewise. Returns its
/// bytes.
#[must_use]
pub fn proxy_header(out: &mut [u8; HEADER_MAX], asked: &Endpoints, ports: [u16; 2]) -> usize {
    let mut end = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(place) = out.get_mut(end..end + bytes.len()) {
            place.copy_from_slice(bytes);
            end += bytes.len();
        }
    };
    put(&SIGNATURE);
    match asked {
        Endpoints::V4 { source, destination } => {
            put(&[PROXY, TCP_V4, 0, 12]);
            put(&source.octets());
            put(&destination.octets());
        }
        Endpoints::V6 { source, destination } => {
            put(&[PROXY, TCP_V6, 0, 36]);
            put(&source.octets());
            put(&destination.octets());
        }
    }
    put(&ports.map(u16::to_be_bytes).concat());
    end
}

/// Bytes a segment grows by with the option of a client with this address.
#[must_use]
pub const fn option_len(client: IpAddr) -> usize {
    if client.is_ipv6() { OPTION_V6 } else { OPTION_V4 }
}

/// Adds the option to the segment that `facts` describe, in a frame that has grown in front by [`option_len`] bytes since. False
/// when the header has no room for it or is not there; the grown bytes are then the caller's to take off again.
#[must_use]
pub fn insert_option(frame: &mut [u8], facts: &Facts, (client, port): (IpAddr, u16)) -> bool {
    let len = option_len(client);
    let (network, transport) = (usize::from(facts.network), usize::from(facts.transport_offset));
    let segment = frame.get_mut(len + transport..len + usize::from(facts.end));
    let Some(Ok((header, _, _))) = segment.map(|segment| TcpHeader::split(segment)) else { return false };
    let (header_len, sum) = (header.header_len(), header.checksum());
    if header_len + len > TCP_HEADER_MAX {
        return false;
    }
    let behind = transport + header_len;
    frame.copy_within(len..len + behind, 0);
    let mut option = [0; OPTION_V6];
    let [kind, size, p0, p1, address @ ..] = &mut option;
    (*kind, *size) = (OPTION, u8::try_from(len).unwrap_or(0));
    [*p0, *p1] = port.to_be_bytes();
    match client {
        IpAddr::V4(v4) => address.first_chunk_mut::<4>().into_iter().for_each(|place| *place = v4.octets()),
        IpAddr::V6(v6) => address.copy_from_slice(&v6.octets()),
    }
    let Some(option) = option.get(..len) else { return false };
    let added = checksum::fold(checksum::sum(option));
    let Some(place) = frame.get_mut(behind..behind + len) else { return false };
    place.copy_from_slice(option);
    grow_packet(frame, network, len, facts.endpoints.is_v6())
        .and_then(|()| {
            let header = frame.get_mut(transport..behind)?;
            let before = word(header, DATA_OFFSET)?;
            let words = u16::try_from(len / 4).ok()?;
            let after = before.wrapping_add(words << 12);
            header.get_mut(DATA_OFFSET..DATA_OFFSET + 2)?.copy_from_slice(&after.to_be_bytes());
            // The pseudo header has the length of the segment.
            let delta = checksum::delta(&[before, 0, 0], &[after, added, u16::try_from(len).ok()?]);
            header.get_mut(CHECKSUM..CHECKSUM + 2)?.copy_from_slice(&checksum::update(sum, delta).to_be_bytes());
            Some(())
        })
        .is_some()
}

/// Bytes of the longest TCP header.
const TCP_HEADER_MAX: usize = 60;
/// Where numbers lie in a TCP header.
const DATA_OFFSET: usize = 12;
const CHECKSUM: usize = 16;

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Adds to the length that an IP header tells.
fn grow_packet(frame: &mut [u8], network: usize, len: usize, v6: bool) -> Option<()> {
    let packet = frame.get_mut(network..)?;
    let at = if v6 { 4 } else { 2 };
    let before = word(packet, at)?;
    let after = before.checked_add(u16::try_from(len).ok()?)?;
    packet.get_mut(at..at + 2)?.copy_from_slice(&after.to_be_bytes());
    if !v6 {
        let sum = checksum::update(word(packet, 10)?, checksum::delta(&[before], &[after]));
        packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use wire::emit::{Segment, tcp_segment_to};
    use wire::{Content, MacAddr, SeqNumber, TcpFlags, Transport, Verify, dissect};

    use super::*;

    /// The PROXY protocol's own layout, section 2.2, byte for byte.
    #[test]
    fn headers_are_as_the_protocol_has_them() {
        let mut out = [0; HEADER_MAX];
        let asked = Endpoints::V4 { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(198, 51, 100, 10) };
        let len = proxy_header(&mut out, &asked, [40_000, 80]);
        assert_eq!(len, usize::from(Introduction::ProxyV2.ahead(false)));
        assert_eq!(out[..12], [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
        assert_eq!(out[12..len], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 10, 0x9c, 0x40, 0, 80]);
        let [client, service] = [Ipv6Addr::from_bits(0x2001 << 112 | 1), Ipv6Addr::from_bits(0x2001 << 112 | 2)];
        let len = proxy_header(&mut out, &Endpoints::V6 { source: client, destination: service }, [1, 2]);
        assert_eq!(len, usize::from(Introduction::ProxyV2.ahead(true)));
        assert_eq!(out[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(
            (&out[16..32], &out[32..48], &out[48..52]),
            (&client.octets()[..], &service.octets()[..], &[0, 1, 0, 2][..])
        );
        assert_eq!(PROXY_LOCAL[..12], SIGNATURE);
        assert_eq!(PROXY_LOCAL[12..], [0x20, 0, 0, 0]);
    }

    #[test]
    fn an_option_is_added_to_any_header_with_room() {
        let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::from_bits(0x2001 << 112 | 1));
        for (endpoints, client) in [
            (Endpoints::V4 { source: v4, destination: Ipv4Addr::new(10, 0, 0, 1) }, IpAddr::V4(v4)),
            (Endpoints::V6 { source: v6, destination: Ipv6Addr::from_bits(5 << 112) }, IpAddr::V6(v6)),
        ] {
            for options in [0, 12, 20, 28, 36, 40] {
                let segment = Segment {
                    source_port: 40_000,
                    destination_port: 80,
                    sequence: SeqNumber::new(7),
                    acknowledgment: SeqNumber::new(9),
                    flags: TcpFlags::ACK,
                    window: 5,
                    options: &[1; 40][..options],
                    payload: b"GET",
                };
                let mut frame = vec![0; 200];
                let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
                let len = tcp_segment_to(&mut frame, mac, mac, &endpoints, &segment).unwrap();
                frame.truncate(len);
                let Content::Ip(facts) = dissect(&frame, Verify::All).unwrap().content else { panic!("IP") };
                let grown = option_len(client);
                let mut frame = [vec![0; grown], frame].concat();
                let fits = options + grown <= 40;
                assert_eq!(insert_option(&mut frame, &facts, (client, 40_000)), fits, "{options}");
                if !fits {
                    continue;
                }
                let Content::Ip(facts) = dissect(&frame, Verify::All).unwrap().content else { panic!("IP") };
                let Transport::Tcp(tcp) = facts.transport else { panic!("TCP") };
                assert_eq!((tcp.sequence.get(), tcp.payload, usize::from(facts.end)), (7, 3, frame.len()));
                let at = usize::from(facts.transport_offset) + 20 + options;
                assert_eq!(frame[at..at + 4], [254, u8::try_from(grown).unwrap(), 0x9c, 0x40]);
                match client {
                    IpAddr::V4(v4) => assert_eq!(frame[at + 4..at + grown], v4.octets()),
                    IpAddr::V6(v6) => assert_eq!(frame[at + 4..at + grown], v6.octets()),
                }
                assert!(frame.ends_with(b"GET"));
            }
        }
    }
}
