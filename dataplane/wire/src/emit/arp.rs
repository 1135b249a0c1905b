//! ARP requests, replies and announcements (RFC 826, RFC 5227): 42 bytes each, untagged.

use core::net::Ipv4Addr;

use super::put;
use crate::arp::ArpPacket;
use crate::ethernet::{self, EthernetHeader};
use crate::{Arp, MacAddr};

/// Asks every station who has `target`. Returns the bytes written.
pub fn arp_request(out: &mut [u8], source_mac: MacAddr, source: Ipv4Addr, target: Ipv4Addr) -> Option<usize> {
    let arp = Arp { request: true, sender_mac: source_mac, sender: source, target_mac: MacAddr::ZERO, target };
    put_arp(out, MacAddr::BROADCAST, &arp)
}

/// Asks the one station at `target_mac` whether it still has `target` (RFC 1122 section 2.3.2.1). Returns the bytes written.
pub fn arp_request_to(
    out: &mut [u8],
    source_mac: MacAddr,
    source: Ipv4Addr,
    target_mac: MacAddr,
    target: Ipv4Addr,
) -> Option<usize> {
    let arp = Arp { request: true, sender_mac: source_mac, sender: source, target_mac: MacAddr::ZERO, target };
    put_arp(out, target_mac, &arp)
}

/// Announces to every station that `address` is at `mac` (RFC 5227 section 2.3). Returns the bytes written.
pub fn gratuitous_arp(out: &mut [u8], mac: MacAddr, address: Ipv4Addr) -> Option<usize> {
    arp_request(out, mac, address, address)
}

/// Tells the station at `target_mac`, which asked from `target`, that `source` is at `source_mac`. Returns the bytes
/// written.
pub fn arp_reply(
    out: &mut [u8],
    source_mac: MacAddr,
    source: Ipv4Addr,
    target_mac: MacAddr,
    target: Ipv4Addr,
) -> Option<usize> {
    put_arp(out, target_mac, &Arp { request: false, sender_mac: source_mac, sender: source, target_mac, target })
}

fn put_arp(out: &mut [u8], destination: MacAddr, arp: &Arp) -> Option<usize> {
    let at = put(out, 0, &EthernetHeader::new(destination, arp.sender_mac, ethernet::ARP))?;
    put(out, at, &ArpPacket::new(arp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Verify, dissect};

    const OURS: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);
    const OUR_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const THEIR_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn read(out: &[u8], written: Option<usize>) -> (MacAddr, Arp) {
        assert_eq!(written, Some(42));
        let frame = dissect(&out[..42], Verify::All).unwrap();
        assert_eq!(frame.link.source, OURS);
        let Content::Arp(arp) = frame.content else { panic!("not ARP: {frame:?}") };
        (frame.link.destination, arp)
    }

    #[test]
    fn what_is_written_reads_back() {
        let asked =
            Arp { request: true, sender_mac: OURS, sender: OUR_IP, target_mac: MacAddr::ZERO, target: THEIR_IP };
        let mut out = [0xa5; 64];
        let written = arp_request(&mut out, OURS, OUR_IP, THEIR_IP);
        assert_eq!(read(&out, written), (MacAddr::BROADCAST, asked));

        let written = arp_request_to(&mut out, OURS, OUR_IP, THEIRS, THEIR_IP);
        assert_eq!(read(&out, written), (THEIRS, asked));

        let written = arp_reply(&mut out, OURS, OUR_IP, THEIRS, THEIR_IP);
        assert_eq!(read(&out, written), (THEIRS, Arp { request: false, target_mac: THEIRS, ..asked }));

        let written = gratuitous_arp(&mut out, OURS, OUR_IP);
        assert_eq!(read(&out, written), (MacAddr::BROADCAST, Arp { target: OUR_IP, ..asked }));
    }

    #[test]
    fn a_short_buffer_is_refused() {
        for len in 0..42 {
            assert_eq!(arp_request(&mut vec![0; len], OURS, OUR_IP, THEIR_IP), None, "{len}");
        }
    }
}
