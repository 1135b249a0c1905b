//! Pings answered in place.

use super::*;
use crate::packets::{facts, icmp, read, seal, seal_header, tagged, udp, v4, v4_with, v6};

#[test]
fn a_ping_becomes_its_answer() {
    for (frame, tags) in [
        (seal(v4(1, &icmp(8, 0, [0x12, 0x34, 0, 1], b"data"))), 0),
        (seal(v4(1, &icmp(8, 0, [0; 4], &[0; 7]))), 0),
        (seal(v4_with(1, &[1; 12], 0, &icmp(8, 0, [0x12, 0x34, 0, 1], b"data"))), 0),
        (seal(v6(58, &icmp(128, 0, [0x12, 0x34, 0, 1], b"data"))), 0),
        (tagged(&seal(v6(58, &icmp(128, 0, [0xff; 4], &[0xff; 9]))), &[[0x81, 0, 0, 9]]), 1),
    ] {
        let was = read(&frame).unwrap();
        let mut answer = frame.clone();
        assert!(echo_reply_in_place(&mut answer, &was));
        let is = read(&answer).unwrap();
        assert_eq!((is.link.source, is.link.destination, is.link.tags), (was.link.destination, was.link.source, tags));
        let Content::Ip(asked) = was.content else { panic!() };
        let Transport::Echo { identifier, .. } = asked.transport else { panic!() };
        let expected = crate::Facts {
            endpoints: asked.endpoints.reversed(),
            hop_limit: 64,
            transport: Transport::Echo { request: false, identifier },
            ..asked
        };
        assert_eq!(facts(&answer), expected);
        let data = usize::from(asked.transport_offset) + 4;
        assert_eq!(answer[data..], frame[data..], "identifier, sequence and data stay");
    }
}

#[test]
fn what_is_no_ping_to_one_host_stays_as_it_is() {
    let reply = seal(v4(1, &icmp(0, 0, [0; 4], &[])));
    let other = seal(v6(17, &udp(b"x")));
    let first = v4_with(1, &[], 0x2000, &icmp(8, 0, [0; 4], &[]));
    let mut to_all = v4(1, &icmp(8, 0, [0; 4], &[]));
    to_all[30..34].fill(255);
    seal_header(&mut to_all);
    let mut to_group = v6(58, &icmp(128, 0, [0; 4], &[]));
    to_group[38..40].copy_from_slice(&[0xff, 2]);
    let mut to_every_station = seal(v4(1, &icmp(8, 0, [0; 4], &[])));
    to_every_station[..6].fill(0xff);
    for frame in [reply, other, first, seal(to_all), seal(to_group), to_every_station] {
        let mut same = frame.clone();
        assert!(!echo_reply_in_place(&mut same, &read(&frame).unwrap()));
        assert_eq!(same, frame);
    }
    let frame = seal(v4(1, &icmp(8, 0, [0; 4], &[])));
    let facts = read(&frame).unwrap();
    for len in 0..frame.len() {
        assert!(!echo_reply_in_place(&mut frame[..len].to_vec(), &facts));
    }
}
