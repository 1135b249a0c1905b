//! What a backend is told of its client where it cannot see the client itself, or wants it from the connection: by a header in
//! front of everything the client says (PROXY protocol, version 2), or by an option of a TCP header (number 254, as DPVS and the
//! `toa` kernel module have it). Pure functions of bytes; when they are sent is the worker's matter.

use std::net::IpAddr;

use wire::tcp::TcpHeader;
use wire::tcp_options::{add_in_place, blank};
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

    /// Bytes that what the client sends first grows by.
    #[must_use]
    pub const fn longer(self, v6: bool) -> u16 {
        match (self, v6) {
            (Self::ProxyV2, _) => 0,
            (Self::TcpOption, false) => 8,
            (Self::TcpOption, true) => 20,
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
/// Bytes of the longest option.
pub const OPTION_MAX: usize = OPTION_V6;

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

/// Writes the option that names a client by its address and port. Returns its bytes.
#[must_use]
pub fn option(out: &mut [u8; OPTION_MAX], (client, port): (IpAddr, u16)) -> usize {
    let len = if client.is_ipv6() { OPTION_V6 } else { OPTION_V4 };
    let [kind, size, p0, p1, address @ ..] = out;
    (*kind, *size) = (OPTION, u8::try_from(len).unwrap_or(0));
    [*p0, *p1] = port.to_be_bytes();
    match client {
        IpAddr::V4(v4) => address.first_chunk_mut::<4>().into_iter().for_each(|place| *place = v4.octets()),
        IpAddr::V6(v6) => *address = v6.octets(),
    }
    len
}

/// Takes out of the segment that `facts` describe whatever names a client: only the appliance does that.
pub fn erase_options(frame: &mut [u8], facts: &Facts) {
    let segment = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end));
    let Some(segment) = segment else { return };
    let Ok((header, _, _)) = TcpHeader::split(segment) else { return };
    let len = header.header_len();
    let Some(header) = segment.get_mut(..len) else { return };
    // Options stand where they like: the whole header is summed before and after.
    let before = checksum::fold(checksum::sum(header));
    blank(header.get_mut(TcpHeader::LEN..).unwrap_or_default(), OPTION);
    let after = checksum::fold(checksum::sum(header));
    let _ = amend(header, &[before], &[after]);
}

/// Adds the option to the segment that `facts` describe, in a frame that has grown in front by as many bytes since: before all others,
/// since receivers believe the first, and none behind the end of the list. False when the header has no room for it or is not
/// there; the grown bytes are then the caller's to take off again.
#[must_use]
pub fn insert_option(frame: &mut [u8], facts: &Facts, option: &[u8]) -> bool {
    let len = option.len();
    if header_len(frame, facts, len).is_none_or(|header_len| header_len + len > TCP_HEADER_MAX) {
        return false;
    }
    insert(frame, facts, TcpHeader::LEN, option)
        .and_then(|()| {
            let header = frame.get_mut(usize::from(facts.transport_offset)..)?;
            let before = word(header, DATA_OFFSET)?;
            let words = u16::try_from(len / 4).ok()?;
            let after = before.wrapping_add(words << 12);
            header.get_mut(DATA_OFFSET..DATA_OFFSET + 2)?.copy_from_slice(&after.to_be_bytes());
            amend(header, &[before], &[after])
        })
        .is_some()
}

/// Puts a header in front of what the segment carries that `facts` describe, in a frame that has grown in front by as many bytes since:
/// it begins that much earlier. False when it is not there.
#[must_use]
pub fn insert_header(frame: &mut [u8], facts: &Facts, header: &[u8]) -> bool {
    let Some(at) = header_len(frame, facts, header.len()) else { return false };
    insert(frame, facts, at, header)
        .and_then(|()| {
            let segment = frame.get_mut(usize::from(facts.transport_offset)..)?;
            let before = [word(segment, SEQUENCE)?, word(segment, SEQUENCE + 2)?];
            add_in_place(segment, SEQUENCE, u32::try_from(header.len()).ok()?.wrapping_neg());
            let after = [word(segment, SEQUENCE)?, word(segment, SEQUENCE + 2)?];
            amend(segment, &before, &after)
        })
        .is_some()
}

/// Bytes of the TCP header in a frame that has grown in front by `grown`.
fn header_len(frame: &[u8], facts: &Facts, grown: usize) -> Option<usize> {
    let segment = frame.get(grown + usize::from(facts.transport_offset)..grown + usize::from(facts.end))?;
    TcpHeader::split(segment).ok().map(|(header, _, _)| header.header_len())
}

/// Puts whole words into a segment, `at` bytes behind its beginning, in a frame that has grown in front by as much.
fn insert(frame: &mut [u8], facts: &Facts, at: usize, bytes: &[u8]) -> Option<()> {
    let (network, transport, len) = (usize::from(facts.network), usize::from(facts.transport_offset), bytes.len());
    let begin = transport + at;
    if frame.len() < len + begin {
        return None;
    }
    frame.copy_within(len..len + begin, 0);
    frame.get_mut(begin..begin + len)?.copy_from_slice(bytes);
    grow_packet(frame, network, len, facts.endpoints.is_v6())?;
    // The pseudo header has the length of the segment.
    let added = checksum::fold(checksum::sum(bytes));
    amend(frame.get_mut(transport..)?, &[0, 0], &[added, u16::try_from(len).ok()?])
}

/// Changes the checksum of a segment in which these words have become those (RFC 1624).
fn amend(segment: &mut [u8], before: &[u16], after: &[u16]) -> Option<()> {
    let sum = checksum::update(word(segment, CHECKSUM)?, checksum::delta(before, after));
    segment.get_mut(CHECKSUM..CHECKSUM + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Bytes of the longest TCP header.
const TCP_HEADER_MAX: usize = 60;
/// Where numbers lie in a TCP header.
const SEQUENCE: usize = 4;
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

    /// A segment of a client's with these options, the client's end, and its frame.
    fn segments(options: &[u8]) -> [(IpAddr, Vec<u8>); 2] {
        let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::from_bits(0x2001 << 112 | 1));
        [
            (Endpoints::V4 { source: v4, destination: Ipv4Addr::new(10, 0, 0, 1) }, IpAddr::V4(v4)),
            (Endpoints::V6 { source: v6, destination: Ipv6Addr::from_bits(5 << 112) }, IpAddr::V6(v6)),
        ]
        .map(|(endpoints, client)| {
            let segment = Segment {
                source_port: 40_000,
                destination_port: 80,
                sequence: SeqNumber::new(7),
                acknowledgment: SeqNumber::new(9),
                flags: TcpFlags::ACK,
                window: 5,
                options,
                payload: b"GET",
            };
            let mut frame = vec![0; 200];
            let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
            let len = tcp_segment_to(&mut frame, mac, mac, &endpoints, &segment).unwrap();
            frame.truncate(len);
            (client, frame)
        })
    }

    fn read(frame: &[u8]) -> (Facts, wire::Tcp) {
        let Content::Ip(facts) = dissect(frame, Verify::All).unwrap().content else { panic!("IP") };
        let Transport::Tcp(tcp) = facts.transport else { panic!("TCP") };
        (facts, tcp)
    }

    #[test]
    fn an_option_is_added_before_all_others_where_there_is_room() {
        for options in [0, 12, 20, 28, 36, 40] {
            for (client, frame) in segments(&[1; 40][..options]) {
                let mut bytes = [0; OPTION_MAX];
                let len = option(&mut bytes, (client, 40_000));
                assert_eq!(
                    (len, bytes[..4].to_vec()),
                    (
                        usize::from(Introduction::TcpOption.longer(client.is_ipv6())),
                        vec![254, u8::try_from(len).unwrap(), 0x9c, 0x40]
                    )
                );
                match client {
                    IpAddr::V4(v4) => assert_eq!(bytes[4..len], v4.octets()),
                    IpAddr::V6(v6) => assert_eq!(bytes[4..len], v6.octets()),
                }
                let (facts, _) = read(&frame);
                let mut frame = [vec![0; len], frame].concat();
                let fits = options + len <= 40;
                assert_eq!(insert_option(&mut frame, &facts, &bytes[..len]), fits, "{options}");
                if fits {
                    let (facts, tcp) = read(&frame);
                    assert_eq!((tcp.sequence.get(), tcp.payload, usize::from(facts.end)), (7, 3, frame.len()));
                    let at = usize::from(facts.transport_offset) + 20;
                    assert_eq!(frame[at..at + len], bytes[..len]);
                    assert!(frame.ends_with(b"GET"));
                }
            }
        }
    }

    #[test]
    fn a_header_goes_in_front_of_what_is_said_and_begins_earlier() {
        for options in [0, 12, 40] {
            for (client, frame) in segments(&[1; 40][..options]) {
                let len = usize::from(Introduction::ProxyV2.ahead(client.is_ipv6()));
                let header: Vec<u8> = (0..u8::try_from(len).unwrap()).collect();
                let (facts, _) = read(&frame);
                let mut frame = [vec![0; len], frame].concat();
                assert!(insert_header(&mut frame, &facts, &header));
                let (_, tcp) = read(&frame);
                assert_eq!(
                    (tcp.sequence.add(u32::try_from(len).unwrap()).get(), usize::from(tcp.payload)),
                    (7, 3 + len)
                );
                assert!(frame.ends_with(&[&header[..], b"GET"].concat()));
            }
        }
    }

    #[test]
    fn what_a_client_calls_itself_is_erased() {
        // At odd places, and twice.
        let options = [1, 254, 8, 1, 2, 10, 0, 0, 1, 254, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0];
        for (_, mut frame) in segments(&options) {
            let (facts, _) = read(&frame);
            erase_options(&mut frame, &facts);
            let (facts, _) = read(&frame);
            let at = usize::from(facts.transport_offset) + 20;
            assert_eq!(frame[at..at + 13], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 10]);
        }
    }
}
