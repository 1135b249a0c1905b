//! The short way and the long way agree: what is plain, `dissect` reads to the same facts.

use proptest::prelude::*;

use super::*;
use crate::packets::{ACK, FIN, OUR_MAC, RST, SYN, seal, seal_header, tagged, tcp, udp, v4, v4_with, v6};
use crate::{Content, Endpoints, Fragment, Transport, Verify, dissect};

const EVERY: [Verify; 3] = [Verify::All, Verify::Nothing, Verify::Partial];
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
const SELECTIVE: [u8; 12] = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// The network and transport of a plain packet: whether it is IPv6, and TCP.
fn read(bytes: &[u8], verify: Verify) -> Option<(Network, bool)> {
    let network = network(bytes, MacAddr::new(OUR_MAC))?;
    if verify == Verify::Partial && may_be_partial(bytes) {
        return None;
    }
    let verify = verify != Verify::Nothing;
    let tcp = match network {
        Network::V4 => read_v4(bytes, verify)?.tcp,
        Network::V6 => read_v6(bytes, verify)?.tcp,
    };
    Some((network, tcp))
}

/// Both addresses and both ports, as they lie in the frame.
fn words(bytes: &[u8], network: Network) -> Vec<u8> {
    let (addresses, ports) = match network {
        Network::V4 => {
            let plain = read_v4(bytes, false).unwrap();
            (plain.addresses.to_ne_bytes().to_vec(), plain.ports)
        }
        Network::V6 => {
            let plain = read_v6(bytes, false).unwrap();
            (plain.addresses.map(u128::to_ne_bytes).concat(), plain.ports)
        }
    };
    [addresses, ports.to_ne_bytes().to_vec()].concat()
}

fn plain_frames() -> Vec<Vec<u8>> {
    let segments = [
        (17, udp(b"")),
        (17, udp(b"odd")),
        (17, udp(&[7; 100])),
        (6, tcp(ACK, &[], b"")),
        (6, tcp(ACK | FIN, &TIMESTAMPS, b"payload")),
        (6, tcp(ACK, &SELECTIVE, b"payload")),
        (6, tcp(RST, &[], b"")),
        (6, tcp(SYN, &[2, 4, 5, 180, 1, 3, 3, 20], b"")),
        (6, tcp(SYN | ACK, &[1, 3, 3, 7], b"early")),
    ];
    let both = segments.iter().flat_map(|(protocol, segment)| [v4(*protocol, segment), v6(*protocol, segment)]);
    both.map(seal).collect()
}

/// Whether the long way says the same.
fn check(bytes: &[u8], verify: Verify) -> bool {
    let Some((network, tcp)) = read(bytes, verify) else { return false };
    let (from, at) = match network {
        Network::V4 => (ADDRESSES_V4, TRANSPORT_V4),
        Network::V6 => (ADDRESSES_V6, TRANSPORT_V6),
    };
    assert_eq!(words(bytes, network), bytes[from..at + 4]);
    let (endpoints, [source, destination], length, hop_limit) = match network {
        Network::V4 => {
            let (header, ports) = plain_v4(bytes).unwrap();
            let endpoints = Endpoints::V4 { source: header.source(), destination: header.destination() };
            (endpoints, ports, header.total_length(), header.ttl())
        }
        Network::V6 => {
            let (header, ports) = plain_v6(bytes).unwrap();
            let endpoints = Endpoints::V6 { source: header.source(), destination: header.destination() };
            (endpoints, ports, 40 + header.payload_length(), header.hop_limit())
        }
    };
    let ordinary = is_ordinary(&endpoints, source, destination, tcp);
    let legal = !tcp || plain_segment(bytes, at, length).unwrap().flags.is_legal();
    let frame = match dissect(bytes, verify) {
        Ok(frame) => frame,
        Err(fault) => {
            assert!(!ordinary || !legal, "{fault:?} is neither in addresses and ports nor in flags: {bytes:02x?}");
            assert!(legal || plain_opening(bytes, at, length).is_none() && plain_tcp(bytes, at, length).is_none());
            return false;
        }
    };
    assert!(legal);
    assert_eq!(frame.link.destination, MacAddr::new(OUR_MAC));
    assert_eq!((frame.link.tags, usize::from(frame.link.payload)), (0, NETWORK));
    let Content::Ip(facts) = frame.content else { panic!("not IP: {frame:?}") };
    assert_eq!(facts.endpoints, endpoints);
    assert_eq!((usize::from(facts.network), usize::from(facts.transport_offset)), (NETWORK, at));
    assert_eq!((facts.end - facts.network, facts.hop_limit), (length, hop_limit));
    assert_eq!((facts.fragment, facts.partial_checksum), (Fragment::No, false));
    match facts.transport {
        Transport::Udp { source_port, destination_port, .. } => {
            assert_eq!((facts.protocol, tcp), (17, false));
            assert_eq!([source_port, destination_port], [source, destination]);
        }
        Transport::Tcp(read) => {
            assert_eq!((facts.protocol, tcp), (6, true));
            assert_eq!([read.source_port, read.destination_port], [source, destination]);
            let tcp = read;
            assert_eq!(plain_opening(bytes, at, length), Some(tcp));
            assert_eq!(plain_tcp(bytes, at, length), Some(tcp).filter(|tcp| !tcp.flags.contains(TcpFlags::SYN)));
        }
        other => panic!("a transport that is not plain: {other:?}"),
    }
    true
}

#[test]
fn the_common_packet_is_plain() {
    for frame in plain_frames() {
        for verify in EVERY {
            assert!(check(&frame, verify), "{verify:?} {frame:02x?}");
            // Padded to the shortest frame, or further.
            assert!(check(&[&frame[..], &[0xa5; 30]].concat(), verify));
        }
    }
}

#[test]
fn nothing_else_is() {
    let good = seal(v4(17, &udp(b"payload")));
    let no_checksum_v6 = v6(17, &udp(b"payload"));
    let mut others = good.clone();
    others[0] = 0xff;
    let mut wrong = good.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for (frame, what) in [
        (seal(v4_with(17, &[1; 4], 0, &udp(b"payload"))), "options"),
        (seal(v4_with(17, &[], 0x2000, &udp(b"payload"))), "a fragment"),
        (v4(47, b"whatever"), "another protocol"),
        (tagged(&good, &[[0x81, 0, 0, 9]]), "a tag"),
        (no_checksum_v6, "IPv6 without checksum"),
        (others, "another station's"),
        (wrong, "a wrong checksum"),
        (good[..good.len() - 1].to_vec(), "cut short"),
    ] {
        assert!(read(&frame, Verify::All).is_none(), "{what}");
    }
    assert!(read(&v4(17, &udp(b"payload")), Verify::All).is_some(), "IPv4 may go without checksum");
}

#[test]
fn a_checksum_left_to_hardware_is_not_plain() {
    // The uncomplemented sum of the pseudo header stands in the field.
    let mut frame = v4(17, &udp(b"payload"));
    let sum = crate::checksum::pseudo_v4([192, 0, 2, 1].into(), [198, 51, 100, 2].into(), 17, 15);
    frame[40..42].copy_from_slice(&crate::checksum::fold(sum).to_be_bytes());
    assert!(read(&frame, Verify::Partial).is_none());
}

proptest! {
    /// MAL-01 to MAL-13: whatever is done to a packet, what is taken for plain is what the long way reads.
    #[test]
    fn what_is_plain_is_read_the_same(
        pick in 0..18_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        mend in any::<bool>(),
    ) {
        let mut frame = plain_frames().swap_remove(pick);
        for (at, value) in changes {
            // Mostly headers.
            let at = at.index(frame.len().min(80));
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        if mend && frame.len() > 54 {
            if frame[14] >> 4 == 4 && frame[14] & 15 >= 5 && 14 + usize::from(frame[14] & 15) * 4 < frame.len() {
                seal_header(&mut frame);
                frame = seal(frame);
            } else if frame[14] >> 4 == 6 {
                frame = seal(frame);
            }
        }
        for verify in EVERY {
            check(&frame, verify);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let frame = [&OUR_MAC[..], &bytes].concat();
        for verify in EVERY {
            check(&frame, verify);
        }
    }
}
