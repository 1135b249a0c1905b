//! TCP resets: the answer to a segment that is not wanted, and the end of a connection told to one of its ends.

use super::{HOP_LIMIT, put, put_link_answer};
use crate::ethernet::{self, EthernetHeader};
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use crate::tcp::{self, TcpHeader};
use crate::{Content, Endpoints, Fragment, Frame, MacAddr, SeqNumber, TcpFlags, Transport, checksum};

/// A reset to be sent to one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The station it leaves from.
    pub source_mac: MacAddr,
    /// The next hop.
    pub destination_mac: MacAddr,
    /// The connection's addresses, as this end must see them.
    pub endpoints: Endpoints,
    /// The other end's port.
    pub source_port: u16,
    /// The port of the end that is told.
    pub destination_port: u16,
    /// Exactly the next sequence number this end expects: others are challenged (RFC 5961 section 3).
    pub sequence: SeqNumber,
    /// What this end has sent and the other end received, if that is known.
    pub acknowledgment: Option<SeqNumber>,
}

/// Resets whoever sent the segment in `frame`, with the numbers RFC 9293 section 3.10.7.1 prescribes: with ACK, the
/// sequence it acknowledges; without, sequence 0 and an acknowledgment of all it sent. Returns the bytes written; `None`
/// also for anything but a whole TCP segment between single stations, and for a reset.
pub fn tcp_reset(out: &mut [u8], frame: &[u8], facts: &Frame) -> Option<usize> {
    let Content::Ip(ip) = facts.content else { return None };
    let Transport::Tcp(segment) = ip.transport else { return None };
    if segment.flags.contains(TcpFlags::RST) || ip.fragment != Fragment::No || is_group(&ip.endpoints) {
        return None;
    }
    let (sequence, acknowledgment) = if segment.flags.contains(TcpFlags::ACK) {
        (segment.acknowledgment, None)
    } else {
        let controls = [TcpFlags::SYN, TcpFlags::FIN].into_iter().filter(|&flag| segment.flags.contains(flag));
        let len = controls.fold(u32::from(segment.payload), |len, _| len + 1);
        (SeqNumber::new(0), Some(segment.sequence.add(len)))
    };
    let network = put_link_answer(out, frame, facts)?;
    put_reset(
        out,
        network,
        &ip.endpoints.reversed(),
        (segment.destination_port, segment.source_port),
        sequence,
        acknowledgment,
    )
}

/// Writes `reset`, untagged. Returns the bytes written.
pub fn tcp_reset_to(out: &mut [u8], reset: &Reset) -> Option<usize> {
    let ethertype = if reset.endpoints.is_v6() { ethernet::IPV6 } else { ethernet::IPV4 };
    let network = put(out, 0, &EthernetHeader::new(reset.destination_mac, reset.source_mac, ethertype))?;
    let ports = (reset.source_port, reset.destination_port);
    put_reset(out, network, &reset.endpoints, ports, reset.sequence, reset.acknowledgment)
}

/// Writes IP and TCP headers at `network`; `ports` are source and destination.
fn put_reset(
    out: &mut [u8],
    network: usize,
    endpoints: &Endpoints,
    ports: (u16, u16),
    sequence: SeqNumber,
    acknowledgment: Option<SeqNumber>,
) -> Option<usize> {
    const LEN: u16 = 20;
    const _: () = assert!(LEN as usize == TcpHeader::LEN);
    let begin = match *endpoints {
        Endpoints::V4 { source, destination } => {
            put(out, network, &Ipv4Header::new(0, 20 + LEN, HOP_LIMIT, tcp::PROTOCOL, source, destination))?
        }
        Endpoints::V6 { source, destination } => {
            put(out, network, &Ipv6Header::new(LEN, tcp::PROTOCOL, HOP_LIMIT, source, destination))?
        }
    };
    let flags = if acknowledgment.is_some() { TcpFlags::RST | TcpFlags::ACK } else { TcpFlags::RST };
    let mut header = TcpHeader::new(ports.0, ports.1, sequence, acknowledgment.unwrap_or_default(), flags);
    let end = put(out, begin, &header)?;
    header.set_checksum(checksum::transport(endpoints, tcp::PROTOCOL, out.get(begin..end)?));
    put(out, begin, &header)
}

/// Whether this was sent to more than one host.
fn is_group(endpoints: &Endpoints) -> bool {
    match endpoints {
        Endpoints::V4 { destination, .. } => destination.is_multicast() || destination.is_broadcast(),
        Endpoints::V6 { destination, .. } => destination.is_multicast(),
    }
}

#[cfg(test)]
mod tests;
