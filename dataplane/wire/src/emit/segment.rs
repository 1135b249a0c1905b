//! TCP segments that the appliance sends in somebody's name: handshakes it answers or repeats itself.

use super::{HOP_LIMIT, put};
use crate::ethernet::{self, EthernetHeader};
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::tcp::{self, TcpHeader};
use crate::{Endpoints, MacAddr, SeqNumber, TcpFlags, checksum};

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'o> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: SeqNumber,
    /// Acknowledgment number; 0 without ACK.
    pub acknowledgment: SeqNumber,
    /// Flags.
    pub flags: TcpFlags,
    /// Window as on the wire, not scaled.
    pub window: u16,
    /// Options, whole words, at most 40 bytes.
    pub options: &'o [u8],
    /// What it carries.
    pub payload: &'o [u8],
}

/// Bytes of the frame with a segment of so many bytes of options and payload in an IP packet at `network`.
#[must_use]
pub const fn tcp_segment_len(network: usize, v6: bool, behind: usize) -> usize {
    network + if v6 { Ipv6Header::LEN } else { Ipv4Header::LEN } + TcpHeader::LEN + behind
}

/// Writes IP and TCP headers at `network`, behind a link layer that is there already. Returns where the packet ends.
pub fn tcp_segment(
    out: &mut [u8],
    network: usize,
    endpoints: &Endpoints,
    hop_limit: u8,
    segment: &Segment<'_>,
) -> Option<usize> {
    let len = u16::try_from(TcpHeader::LEN + segment.options.len() + segment.payload.len()).ok()?;
    let begin = match *endpoints {
        Endpoints::V4 { source, destination } => {
            put(out, network, &Ipv4Header::new(0, 20 + len, hop_limit, tcp::PROTOCOL, source, destination))?
        }
        Endpoints::V6 { source, destination } => {
            put(out, network, &Ipv6Header::new(len, tcp::PROTOCOL, hop_limit, source, destination))?
        }
    };
    let Segment { source_port, destination_port, sequence, acknowledgment, flags, window, options, payload } = *segment;
    let mut header = TcpHeader::new(source_port, destination_port, sequence, acknowledgment, flags);
    header.set_window(window);
    header.set_options_len(options.len())?;
    let behind = put(out, begin, &header)?;
    let options_end = behind + options.len();
    out.get_mut(behind..options_end)?.copy_from_slice(options);
    let end = options_end + payload.len();
    out.get_mut(options_end..end)?.copy_from_slice(payload);
    header.set_checksum(checksum::transport(endpoints, tcp::PROTOCOL, out.get(begin..end)?));
    put(out, begin, &header)?;
    Some(end)
}

/// Writes a whole frame, untagged, with a hop limit of the appliance's own. Returns its bytes.
pub fn tcp_segment_to(
    out: &mut [u8],
    source_mac: MacAddr,
    destination_mac: MacAddr,
    endpoints: &Endpoints,
    segment: &Segment<'_>,
) -> Option<usize> {
    let ethertype = if endpoints.is_v6() { ethernet::IPV6 } else { ethernet::IPV4 };
    let network = put(out, 0, &EthernetHeader::new(destination_mac, source_mac, ethertype))?;
    tcp_segment(out, network, endpoints, HOP_LIMIT, segment)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::{Content, Transport, Verify, dissect};

    #[test]
    fn what_is_written_reads_back_with_right_checksums() {
        let v4 = Endpoints::V4 { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) };
        let v6 = Endpoints::V6 { source: Ipv6Addr::from_bits(1 << 100), destination: Ipv6Addr::from_bits(2 << 100) };
        for endpoints in [v4, v6] {
            for (options, payload) in
                [(&[][..], &b""[..]), (&[2, 4, 5, 0xb4], b""), (&[1, 3, 3, 7, 1, 1, 4, 2], b"said")]
            {
                let segment = Segment {
                    source_port: 80,
                    destination_port: 40_000,
                    sequence: SeqNumber::new(u32::MAX),
                    acknowledgment: SeqNumber::new(7),
                    flags: TcpFlags::SYN | TcpFlags::ACK,
                    window: 1_234,
                    options,
                    payload,
                };
                let mut out = [0; 128];
                let macs = [MacAddr::new([2, 0, 0, 0, 0, 1]), MacAddr::new([2, 0, 0, 0, 0, 2])];
                let len = tcp_segment_to(&mut out, macs[0], macs[1], &endpoints, &segment).unwrap();
                assert_eq!(len, tcp_segment_len(14, endpoints.is_v6(), options.len() + payload.len()));
                let Content::Ip(facts) = dissect(&out[..len], Verify::All).unwrap().content else { panic!("IP") };
                let Transport::Tcp(tcp) = facts.transport else { panic!("TCP") };
                assert_eq!((facts.endpoints, usize::from(facts.end)), (endpoints, len));
                assert_eq!((tcp.sequence, tcp.acknowledgment), (segment.sequence, segment.acknowledgment));
                assert_eq!(
                    (tcp.flags, tcp.window, tcp.payload),
                    (segment.flags, 1_234, u16::try_from(payload.len()).unwrap())
                );
            }
        }
    }

    #[test]
    fn too_little_room_writes_nothing_of_use() {
        let endpoints = Endpoints::V4 { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) };
        let segment = Segment {
            source_port: 1,
            destination_port: 2,
            sequence: SeqNumber::new(0),
            acknowledgment: SeqNumber::new(0),
            flags: TcpFlags::SYN,
            window: 0,
            options: &[0; 4],
            payload: &[],
        };
        for len in 0..58 {
            assert_eq!(tcp_segment(&mut vec![0; len], 14, &endpoints, 64, &segment), None);
        }
        assert_eq!(tcp_segment(&mut [0; 200], 14, &endpoints, 64, &Segment { options: &[0; 44], ..segment }), None);
    }
}
