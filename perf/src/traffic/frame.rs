//! Frames as clients send them, each with true lengths and checksums. TCP frames are data segments in the middle of a
//! connection: `ACK` and `PSH`, the same bytes at every replay, so that a window check has something to judge.

use std::net::IpAddr;

use wire::{checksum, ethernet};

use super::clients::Ends;
use super::{Clients, FCS, Order, Protocol, Size};

/// The MAC address of whoever stands for all clients.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// Sequence number of every data segment, and what it acknowledges.
const SEQUENCE: u32 = 0x1000_0000;
const ACKNOWLEDGED: u32 = 0x2000_0000;
/// Flags ACK and PSH.
const ACK_PSH: u8 = 0x18;
/// The largest window without scaling.
const WINDOW: u16 = u16::MAX;

/// The frames of a capture, in order.
#[derive(Clone, Debug)]
pub struct Frames {
    clients: Clients,
    size: Size,
    order: Order,
    place: u64,
}

impl Frames {
    /// Frames of these clients in this order.
    #[must_use]
    pub const fn new(clients: Clients, size: Size, order: Order) -> Self {
        Self { clients, size, order, place: 0 }
    }

    /// Clears `frame` and writes the next one there, without its check sequence; false when there are no more.
    pub fn next_into(&mut self, frame: &mut Vec<u8>) -> bool {
        let Some(client) = self.order.next() else { return false };
        write(&self.clients, self.clients.ends(client), self.size.of(self.place), frame);
        self.place += 1;
        true
    }

    /// Bytes of the longest frame, without the check sequence.
    #[must_use]
    pub fn longest(&self) -> u16 {
        let headers = 14 + ip_bytes(&self.clients) + self.clients.target.protocol.header_bytes();
        (self.size.largest() - FCS).max(u16::try_from(headers).unwrap_or(u16::MAX))
    }
}

impl Iterator for Frames {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        self.next_into(&mut frame).then_some(frame)
    }
}

fn ip_bytes(clients: &Clients) -> usize {
    if clients.target.address.is_ipv4() { 20 } else { 40 }
}

/// Writes one frame of `size` bytes, counted with the check sequence; the smallest there can be when that is less than
/// the headers.
fn write(clients: &Clients, ends: Ends, size: u16, frame: &mut Vec<u8>) {
    let target = &clients.target;
    let headers = 14 + ip_bytes(clients) + target.protocol.header_bytes();
    let payload = usize::from(size - FCS).saturating_sub(headers);
    let length = u16::try_from(target.protocol.header_bytes() + payload).unwrap_or(u16::MAX);
    frame.clear();
    frame.extend(target.station.octets());
    frame.extend(CLIENT_MAC);
    let pseudo = match (ends.source, target.address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend(ethernet::IPV4.to_be_bytes());
            frame.extend([0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            // Identification 0, not to be fragmented, 64 hops, the checksum below.
            frame.extend([0, 0, 0x40, 0, 64, target.protocol.number(), 0, 0]);
            frame.extend(source.octets().into_iter().chain(destination.octets()));
            let sum = checksum::plain(frame.get(14..).unwrap_or_default());
            put(frame, 24, sum);
            checksum::pseudo_v4(source, destination, target.protocol.number(), length)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend(ethernet::IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([target.protocol.number(), 64]);
            frame.extend(source.octets().into_iter().chain(destination.octets()));
            checksum::pseudo_v6(source, destination, target.protocol.number(), length)
        }
        // A target's client has the family of its service.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return,
    };
    let begin = frame.len();
    frame.extend(ends.source_port.to_be_bytes());
    frame.extend(ends.destination_port.to_be_bytes());
    let field = match target.protocol {
        Protocol::Udp => {
            frame.extend(length.to_be_bytes());
            frame.extend([0, 0]);
            begin + 6
        }
        Protocol::Tcp => {
            frame.extend(SEQUENCE.to_be_bytes());
            frame.extend(ACKNOWLEDGED.to_be_bytes());
            frame.extend([5 << 4, ACK_PSH]);
            frame.extend(WINDOW.to_be_bytes());
            frame.extend([0, 0, 0, 0]);
            begin + 16
        }
    };
    frame.resize(frame.len() + payload, 0);
    let sum = checksum::finish(pseudo + checksum::sum(frame.get(begin..).unwrap_or_default()));
    put(frame, field, if target.protocol == Protocol::Udp { checksum::or_ones(sum) } else { sum });
}

fn put(frame: &mut [u8], at: usize, word: u16) {
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use wire::plain::{Network, network, read_v4, read_v6};
    use wire::{Content, MacAddr, Tcp, Transport, Verify, dissect};

    use super::*;
    use crate::blueprint::Blueprint;
    use crate::traffic::{Draw, Family};

    fn clients(family: Family, protocol: Protocol, count: u32) -> Clients {
        Clients::new(Blueprint::example(family, protocol).unwrap().target().unwrap(), count)
    }

    fn frames(family: Family, protocol: Protocol, size: Size, count: u32) -> Frames {
        Frames::new(clients(family, protocol, count), size, Order::new(Draw::Uniform, count, count))
    }

    const KINDS: [(Family, Protocol); 4] = [
        (Family::V4, Protocol::Udp),
        (Family::V4, Protocol::Tcp),
        (Family::V6, Protocol::Udp),
        (Family::V6, Protocol::Tcp),
    ];

    #[test]
    fn every_client_sends_one_good_packet_of_its_own() {
        for (family, protocol) in KINDS {
            let mut seen = HashSet::new();
            for frame in frames(family, protocol, Size::Bytes(64), 70_000) {
                let Content::Ip(facts) = dissect(&frame, Verify::All).unwrap().content else { unreachable!() };
                assert_eq!(Family::of(facts.endpoints.source()), family);
                let (Transport::Udp { source_port, .. } | Transport::Tcp(Tcp { source_port, .. })) = facts.transport
                else {
                    unreachable!("{family} {protocol}")
                };
                seen.insert((facts.endpoints.source(), source_port));
            }
            assert_eq!(seen.len(), 70_000);
        }
    }

    #[test]
    fn an_independent_parser_finds_the_same_lengths_and_checksums() {
        for (family, protocol) in KINDS {
            for size in ["64", "128", "594", "1518"] {
                let size: Size = size.parse().unwrap();
                for frame in frames(family, protocol, size, 20) {
                    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                    let (net, transport) = (packet.net.unwrap(), packet.transport.unwrap());
                    if let NetSlice::Ipv4(ip) = &net {
                        let header = ip.header().to_header();
                        assert_eq!(header.header_checksum, header.calc_header_checksum());
                        assert_eq!(usize::from(header.total_len) + 14, frame.len());
                    }
                    match (&transport, &net) {
                        (TransportSlice::Udp(udp), NetSlice::Ipv4(ip)) => {
                            let header = udp.to_header();
                            let sum = header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap();
                            assert_eq!(header.checksum, sum);
                        }
                        (TransportSlice::Udp(udp), NetSlice::Ipv6(ip)) => {
                            let header = udp.to_header();
                            let sum = header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap();
                            assert_eq!(header.checksum, sum);
                        }
                        (TransportSlice::Tcp(tcp), NetSlice::Ipv4(ip)) => {
                            let sum = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
                            assert_eq!(tcp.checksum(), sum);
                            assert!(tcp.ack() && tcp.psh() && !tcp.syn());
                        }
                        (TransportSlice::Tcp(tcp), NetSlice::Ipv6(ip)) => {
                            let sum = tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap();
                            assert_eq!(tcp.checksum(), sum);
                        }
                        other => unreachable!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn frames_are_as_long_as_asked_or_as_short_as_can_be() {
        let length = |family, protocol, size: &str| {
            let mut frames = frames(family, protocol, size.parse().unwrap(), 1);
            let longest = frames.longest();
            let frame = frames.next().unwrap();
            assert_eq!(usize::from(longest), frame.len());
            frame.len() + usize::from(FCS)
        };
        assert_eq!(length(Family::V4, Protocol::Udp, "64"), 64);
        assert_eq!(length(Family::V4, Protocol::Tcp, "64"), 64);
        assert_eq!(length(Family::V6, Protocol::Udp, "64"), 66);
        assert_eq!(length(Family::V6, Protocol::Tcp, "64"), 78);
        assert_eq!(length(Family::V6, Protocol::Tcp, "1518"), 1_518);
    }

    #[test]
    fn every_frame_is_one_that_the_short_way_takes() {
        let station = MacAddr::new([2, 0, 0, 0, 0, 1]);
        for (family, protocol) in KINDS {
            for frame in frames(family, protocol, Size::Imix, 24) {
                let taken = match network(&frame, station).unwrap() {
                    Network::V4 => read_v4(&frame, true).is_some(),
                    Network::V6 => read_v6(&frame, true).is_some(),
                };
                assert!(taken, "{family} {protocol}");
            }
        }
    }
}
