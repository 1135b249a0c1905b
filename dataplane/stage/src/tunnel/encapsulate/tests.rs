//! Every mode around both families, byte for byte, with the bytes read back by another parser (etherparse) and by ours.

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use wire::{Content, Verify, dissect};

use super::*;

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.11");
const V6: (&str, &str) = ("2001:db8:10::1", "2001:db8:10::11");

const MODES: [Encapsulation; 5] = [
    Encapsulation::IpIp,
    Encapsulation::Gre { key: None },
    Encapsulation::Gre { key: Some(0xdead_beef) },
    Encapsulation::Gue { port: 6080, variant: GueVariant::Direct },
    Encapsulation::Gue { port: 6080, variant: GueVariant::Header },
];

/// A UDP packet inside, without its link.
fn inside(v6: bool, class: u8, dont_fragment: bool, data: &[u8]) -> Vec<u8> {
    let builder = if v6 {
        etherparse::PacketBuilder::ip(etherparse::IpHeaders::Ipv6(
            etherparse::Ipv6Header {
                traffic_class: class,
                hop_limit: 63,
                source: "2001:db8:51::7".parse::<std::net::Ipv6Addr>().unwrap().octets(),
                destination: "2001:db8:51::10".parse::<std::net::Ipv6Addr>().unwrap().octets(),
                ..etherparse::Ipv6Header::default()
            },
            etherparse::Ipv6Extensions::default(),
        ))
    } else {
        etherparse::PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
            etherparse::Ipv4Header {
                dscp: etherparse::IpDscp::try_new(class >> 2).unwrap(),
                ecn: etherparse::IpEcn::try_new(class & 3).unwrap(),
                time_to_live: 63,
                dont_fragment,
                source: [198, 51, 100, 7],
                destination: [198, 51, 100, 10],
                ..etherparse::Ipv4Header::default()
            },
            etherparse::Ipv4Extensions::default(),
        ))
    };
    let mut bytes = Vec::new();
    builder.udp(40_000, 53).write(&mut bytes, data).unwrap();
    bytes
}

fn wrapped(mode: Encapsulation, ends: (&str, &str), v6: bool, packet: &[u8], entropy: u32, id: u16) -> Vec<u8> {
    let outer = Outer::new(mode, ends.0.parse().unwrap(), ends.1.parse().unwrap(), v6).unwrap();
    let mut frame = vec![0xa5; 14 + usize::from(outer.overhead())];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame.extend(packet);
    assert!(outer.write(&mut frame, entropy, id));
    frame
}

/// What another parser finds between the outer IP header and the packet inside.
fn shim<'f>(mode: Encapsulation, v6: bool, sliced: &SlicedPacket<'f>) -> &'f [u8] {
    let payload = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => ip.payload(),
        NetSlice::Ipv6(ip) => ip.payload(),
        NetSlice::Arp(_) => panic!("IP"),
    };
    let inner = if v6 { IpNumber::IPV6 } else { IpNumber::IPV4 };
    match mode {
        Encapsulation::IpIp => {
            assert_eq!(payload.ip_number, inner);
            payload.payload
        }
        Encapsulation::Gre { key } => {
            assert_eq!(payload.ip_number, IpNumber::GRE);
            let ethertype = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            assert_eq!(payload.payload[..2], if key.is_some() { [0x20, 0] } else { [0, 0] });
            assert_eq!(payload.payload[2..4], ethertype);
            match key {
                Some(key) => {
                    assert_eq!(payload.payload[4..8], key.to_be_bytes());
                    &payload.payload[8..]
                }
                None => &payload.payload[4..],
            }
        }
        Encapsulation::Gue { port, variant } => {
            let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("UDP") };
            assert_eq!((udp.destination_port(), usize::from(udp.length())), (port, payload.payload.len()));
            assert!(udp.source_port() >= 0xc000);
            match variant {
                GueVariant::Direct => udp.payload(),
                GueVariant::Header => {
                    assert_eq!(udp.payload()[..4], [0, inner.0, 0, 0]);
                    &udp.payload()[4..]
                }
            }
        }
    }
}

proptest! {
    /// All modes, both families inside and outside: what was put in is what an independent parser takes out, lengths and
    /// checksums are right, and the class is the inner one (RFC 6040 section 4.1).
    #[test]
    fn what_goes_in_comes_out(
        mode in prop::sample::select(&MODES[..]),
        outer_v6: bool,
        v6: bool,
        class: u8,
        dont_fragment: bool,
        data in prop::collection::vec(any::<u8>(), 0..1_400),
        entropy: u32,
        id: u16,
    ) {
        let packet = inside(v6, class, dont_fragment, &data);
        let frame = wrapped(mode, if outer_v6 { V6 } else { V4 }, v6, &packet, entropy, id);
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        prop_assert_eq!(shim(mode, v6, &sliced), &packet[..]);
        let never = if v6 { packet.len() > 1_280 } else { dont_fragment };
        match sliced.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                prop_assert_eq!((header.dcp().value() << 2) | header.ecn().value(), class);
                prop_assert_eq!((header.ttl(), header.dont_fragment()), (64, never));
                prop_assert_eq!(header.identification(), if never { 0 } else { id });
                prop_assert_eq!(header.source_addr().to_string(), V4.0);
                prop_assert_eq!(header.destination_addr().to_string(), V4.1);
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                prop_assert_eq!((header.traffic_class(), header.hop_limit()), (class, 64));
                prop_assert_eq!(header.flow_label().value(), entropy & 0x000f_ffff);
                prop_assert_eq!(header.source_addr().to_string(), V6.0);
                prop_assert_eq!(header.destination_addr().to_string(), V6.1);
                if let Some(TransportSlice::Udp(udp)) = &sliced.transport {
                    let header = udp.to_header();
                    let ip = ip.header();
                    let sum = header.calc_checksum_ipv6_raw(ip.source(), ip.destination(), udp.payload()).unwrap();
                    prop_assert_eq!(header.checksum, if sum == 0 { 0xffff } else { sum });
                }
            }
            NetSlice::Arp(_) => prop_assert!(false),
        }
        let ours = dissect(&frame, Verify::All);
        prop_assert!(matches!(&ours, Ok(frame) if matches!(frame.content, Content::Ip(_))), "{:?}", ours);
    }

    /// The outer checksum follows from the inner one only where there is one over all of the packet; it is right everywhere.
    #[test]
    fn the_outer_checksum_is_right_whatever_is_inside(
        mode in prop::sample::select(&MODES[3..]),
        v6: bool,
        what in 0..5_u8,
        data in prop::collection::vec(any::<u8>(), 0..1_400),
    ) {
        let mut packet = inside(v6, 0, false, &data);
        let transport = if v6 { 40 } else { 20 };
        match what {
            // No checksum; a fragment; another protocol; a segment too short for TCP.
            0 => packet[transport + 6..transport + 8].fill(0),
            1 if !v6 => packet[6] = 0x20,
            2 => packet[if v6 { 6 } else { 9 }] = 47,
            3 => (packet[if v6 { 6 } else { 9 }], packet[transport]) = (6, 1),
            _ => {}
        }
        if what == 3 {
            packet.truncate(transport + data.len().min(19));
        }
        let frame = wrapped(mode, V6, v6, &packet, 7, 7);
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
            return Err(TestCaseError::fail("UDP over IPv6"));
        };
        let header = udp.to_header();
        let ip = ip.header();
        let sum = header.calc_checksum_ipv6_raw(ip.source(), ip.destination(), udp.payload()).unwrap();
        prop_assert_eq!(header.checksum, if sum == 0 { 0xffff } else { sum });
    }

    /// What is not an IP packet is not wrapped.
    #[test]
    fn other_bytes_are_refused(first in (0u8..16).prop_filter("neither 4 nor 6", |v| ![4, 6].contains(v)), len in 0usize..60) {
        let outer = Outer::new(Encapsulation::IpIp, V4.0.parse().unwrap(), V4.1.parse().unwrap(), false).unwrap();
        let mut frame = vec![first << 4; 14 + 20 + len];
        prop_assert!(!outer.write(&mut frame, 0, 0));
    }
}

#[test]
fn the_overhead_is_what_an_operator_reckons_with() {
    let overhead = |mode, ends: (&str, &str)| {
        Outer::new(mode, ends.0.parse().unwrap(), ends.1.parse().unwrap(), false).unwrap().overhead()
    };
    assert_eq!(MODES.map(|mode| overhead(mode, V4)), [20, 24, 28, 28, 32]);
    assert_eq!(MODES.map(|mode| overhead(mode, V6)), [40, 44, 48, 48, 52]);
    assert_eq!(Outer::new(MODES[0], V4.0.parse().unwrap(), V6.1.parse().unwrap(), false), None);
}
