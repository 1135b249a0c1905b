//! The packets of many clients of one UDP service: one 64-byte frame (80 with IPv6) from each, in random order, the same
//! order for the same number of clients. Addresses and MACs fit `config/examples/bench.toml`.

use std::net::{Ipv4Addr, Ipv6Addr};

use wire::checksum;
use wire::ethernet;

/// Source ports used on each client address.
const PORTS: u32 = 60_000;
/// The first of them.
const FIRST_PORT: u32 = 1_024;
/// The service.
const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 10);
const SERVICE_PORT: u16 = 53;
/// The first client.
const CLIENT: u32 = Ipv4Addr::new(198, 51, 100, 20).to_bits();
const CLIENT_V6: u128 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x14).to_bits();
/// What makes the smallest IPv4 frame: 64 bytes with the frame check sequence, which captures leave out.
const PAYLOAD: [u8; 18] = [0; 18];

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe];

/// An iterator over the frames.
#[derive(Clone, Debug)]
pub struct Clients {
    order: std::vec::IntoIter<u32>,
    v6: bool,
}

impl Clients {
    /// One packet from each of `count` clients.
    #[must_use]
    pub fn new(count: u32, v6: bool) -> Self {
        let mut order: Vec<u32> = (0..count).collect();
        shuffle(&mut order);
        Self { order: order.into_iter(), v6 }
    }
}

impl Iterator for Clients {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let client = self.order.next()?;
        let port = u16::try_from(FIRST_PORT + client % PORTS).unwrap_or(u16::MAX);
        Some(if self.v6 { frame_v6(client / PORTS, port) } else { frame_v4(client / PORTS, port) })
    }
}

/// Fisher and Yates, with xorshift for dice: every run measures the same order.
fn shuffle(order: &mut [u32]) {
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..order.len()).rev() {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let pick = dice % (last as u64 + 1);
        order.swap(last, usize::try_from(pick).unwrap_or(0));
    }
}

fn datagram(port: u16, pseudo: impl Fn(u16) -> u32) -> Vec<u8> {
    let length = u16::try_from(8 + PAYLOAD.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(8 + PAYLOAD.len());
    for word in [port, SERVICE_PORT, length, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(PAYLOAD);
    let sum = checksum::or_ones(checksum::finish(pseudo(length) + checksum::sum(&bytes)));
    if let Some(field) = bytes.get_mut(6..8) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn frame_v4(host: u32, port: u16) -> Vec<u8> {
    let source = Ipv4Addr::from_bits(CLIENT + host);
    let udp = datagram(port, |length| checksum::pseudo_v4(source, SERVICE, 17, length));
    let mut header = vec![0x45, 0];
    header.extend(u16::try_from(20 + udp.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend(source.octets().into_iter().chain(SERVICE.octets()));
    let sum = checksum::plain(&header);
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    [&MACS[..], &ethernet::IPV4.to_be_bytes(), &header, &udp].concat()
}

fn frame_v6(host: u32, port: u16) -> Vec<u8> {
    let source = Ipv6Addr::from_bits(CLIENT_V6 + u128::from(host));
    let udp = datagram(port, |length| checksum::pseudo_v6(source, SERVICE_V6, 17, length));
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(udp.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend([17, 64]);
    header.extend(source.octets().into_iter().chain(SERVICE_V6.octets()));
    [&MACS[..], &ethernet::IPV6.to_be_bytes(), &header, &udp].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use wire::{Content, Verify, dissect};

    use super::*;

    #[test]
    fn every_client_sends_one_good_packet_of_its_own() {
        for v6 in [false, true] {
            let mut seen = HashSet::new();
            for frame in Clients::new(70_000, v6) {
                assert_eq!(frame.len(), if v6 { 80 } else { 60 });
                let Content::Ip(facts) = dissect(&frame, Verify::All).unwrap().content else { unreachable!() };
                assert_eq!(facts.endpoints.is_v6(), v6);
                let wire::Transport::Udp { source_port, .. } = facts.transport else { unreachable!() };
                seen.insert((facts.endpoints.source(), source_port));
            }
            assert_eq!(seen.len(), 70_000);
        }
    }

    #[test]
    fn the_order_is_random_and_always_the_same() {
        let frames: Vec<_> = Clients::new(100, false).collect();
        assert_eq!(frames, Clients::new(100, false).collect::<Vec<_>>());
        assert!(!frames.is_sorted());
    }
}
