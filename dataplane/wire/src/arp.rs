//! ARP for IPv4 over Ethernet (RFC 826): the packet as a view, and its reading. Who answers and who believes what is
//! decided elsewhere; here only what no station can truthfully send is refused (RFC 1812 section 3.3.2).

use core::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Arp, MacAddr, Malformed, ethernet, martian};

const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// ARP packet as it lies on the wire. Shape: 28 bytes, no alignment.
///
/// ```text
///  0        2        4    5    6      8
/// +--------+--------+----+----+------+-----------+---------+-----------+---------+
/// |hardware|protocol|hlen|plen|  op  |sender MAC |sender IP|target MAC |target IP|
/// +--------+--------+----+----+------+-----------+---------+-----------+---------+
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ArpPacket {
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: MacAddr,
    sender: [u8; 4],
    target_mac: MacAddr,
    target: [u8; 4],
}

const _: () = assert!(size_of::<ArpPacket>() == 28);

impl ArpPacket {
    /// The packet that says `arp`.
    #[must_use]
    pub const fn new(arp: &Arp) -> Self {
        Self {
            hardware: U16::new(ETHERNET),
            protocol: U16::new(ethernet::IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(if arp.request { REQUEST } else { REPLY }),
            sender_mac: arp.sender_mac,
            sender: arp.sender.octets(),
            target_mac: arp.target_mac,
            target: arp.target.octets(),
        }
    }
}

/// Reads an ARP packet from the payload of a frame.
///
/// # Errors
/// `ArpTruncated` below 28 bytes; `ArpUnsupported` for other hardware, protocols and operations than request and reply;
/// `ArpSender` when a group or loopback, or in a reply nobody, claims to send.
pub(crate) fn read(payload: &[u8]) -> Result<Arp, Malformed> {
    let (packet, _) = ArpPacket::ref_from_prefix(payload).map_err(|_| Malformed::ArpTruncated)?;
    let operation = packet.operation.get();
    let ethernet = packet.hardware.get() == ETHERNET && packet.hardware_len == 6;
    let ipv4 = packet.protocol.get() == ethernet::IPV4 && packet.protocol_len == 4;
    if !(ethernet && ipv4 && matches!(operation, REQUEST | REPLY)) {
        return Err(Malformed::ArpUnsupported);
    }
    let arp = Arp {
        request: operation == REQUEST,
        sender_mac: packet.sender_mac,
        sender: Ipv4Addr::from_bits(u32::from_be_bytes(packet.sender)),
        target_mac: packet.target_mac,
        target: Ipv4Addr::from_bits(u32::from_be_bytes(packet.target)),
    };
    // A request from 0.0.0.0 is a probe for a duplicate address (RFC 5227 section 2.1.1).
    let nobody = arp.request && arp.sender.is_unspecified();
    if arp.sender_mac.is_multicast() || !(nobody || martian::is_host_v4(arp.sender)) {
        return Err(Malformed::ArpSender);
    }
    Ok(arp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKS: [u8; 28] = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2];

    #[test]
    fn bytes_and_fields_agree() {
        let arp = read(&ASKS).unwrap();
        let expected = Arp {
            request: true,
            sender_mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: MacAddr::ZERO,
            target: Ipv4Addr::new(192, 0, 2, 2),
        };
        assert_eq!(arp, expected);
        assert_eq!(ArpPacket::new(&arp).as_bytes(), ASKS);
        let answers = Arp { request: false, ..arp };
        assert_eq!(read(ArpPacket::new(&answers).as_bytes()), Ok(answers));
    }

    #[test]
    fn every_cut_is_refused() {
        for len in 0..28 {
            assert_eq!(read(&ASKS[..len]), Err(Malformed::ArpTruncated));
        }
    }

    #[test]
    fn other_hardware_protocols_and_operations_are_unsupported() {
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 0), (7, 3), (7, 8), (6, 1)] {
            let mut packet = ASKS;
            packet[at] = value;
            assert_eq!(read(&packet), Err(Malformed::ArpUnsupported), "byte {at} = {value}");
        }
    }

    #[test]
    fn no_group_and_no_loopback_sends() {
        for (at, value) in [(8, 0x03), (14, 224), (14, 127), (14, 240), (14, 0)] {
            let mut packet = ASKS;
            packet[at] = value;
            assert_eq!(read(&packet), Err(Malformed::ArpSender), "byte {at} = {value}");
        }
    }

    #[test]
    fn nobody_may_ask_but_not_answer() {
        let mut packet = ASKS;
        packet[14..18].fill(0);
        assert!(read(&packet).is_ok());
        packet[7] = 2;
        assert_eq!(read(&packet), Err(Malformed::ArpSender));
    }
}
