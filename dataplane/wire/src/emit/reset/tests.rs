//! Resets: numbers, way back, what is never answered.

use super::*;
use crate::packets::{ACK, FIN, OUR_MAC, RST, SYN, facts, read, seal, tagged, tcp, v4, v4_with, v6};
use crate::{Tcp, Verify, dissect};

fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0xa5; 200];
    let len = tcp_reset(&mut out, frame, &read(frame).unwrap())?;
    out.truncate(len);
    Some(out)
}

fn segment(frame: &[u8]) -> Tcp {
    match facts(frame).transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("not TCP: {other:?}"),
    }
}

/// RFC 9293 section 3.10.7.1: the numbers.
#[test]
fn the_reset_carries_the_numbers_its_receiver_believes() {
    for (flags, payload, sequence, acknowledgment) in [
        (SYN, &b""[..], 0, Some(0x1001)),
        (SYN, b"fast", 0, Some(0x1005)),
        (SYN | ACK, b"", 0x2000, None),
        (ACK, b"data", 0x2000, None),
        (FIN | ACK, b"data", 0x2000, None),
    ] {
        for frame in [seal(v4(6, &tcp(flags, &[], payload))), seal(v6(6, &tcp(flags, &[], payload)))] {
            let reset = answer(&frame).unwrap();
            let (was, is) = (facts(&frame), facts(&reset));
            assert_eq!(is.endpoints, was.endpoints.reversed());
            assert_eq!((is.hop_limit, is.end), (64, was.transport_offset + 20));
            assert_eq!(usize::from(is.end), reset.len());
            let tcp = segment(&reset);
            assert_eq!((tcp.source_port, tcp.destination_port), (80, 1_000));
            let expected = if acknowledgment.is_some() { TcpFlags::RST | TcpFlags::ACK } else { TcpFlags::RST };
            assert_eq!((tcp.flags, tcp.sequence.get()), (expected, sequence));
            assert_eq!(tcp.acknowledgment.get(), acknowledgment.unwrap_or(0));
        }
    }
}

#[test]
fn it_goes_back_the_way_the_segment_came() {
    let frame = tagged(&seal(v4(6, &tcp(SYN, &[], &[]))), &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 9]]);
    let reset = answer(&frame).unwrap();
    let (was, is) = (read(&frame).unwrap().link, read(&reset).unwrap().link);
    assert_eq!((is.source, is.destination), (was.destination, was.source));
    assert_eq!((is.tags, is.vlan, is.payload), (2, 7, 22));
    assert_eq!(reset[12..22], frame[12..22]);
}

#[test]
fn no_reset_answers_what_asks_for_none() {
    let syn = seal(v4(6, &tcp(SYN, &[], &[])));
    assert_eq!(answer(&seal(v4(6, &tcp(RST, &[], &[])))), None);
    assert_eq!(answer(&seal(v6(6, &tcp(RST | ACK, &[], &[])))), None);
    assert_eq!(answer(&v4_with(6, &[], 0x2000, &tcp(SYN, &[], &[0; 4]))), None);
    assert_eq!(answer(&v4(99, &tcp(SYN, &[], &[]))), None);
    let mut broadcast = syn.clone();
    broadcast[..6].fill(0xff);
    assert_eq!(answer(&broadcast), None);
    let mut group = v4(6, &tcp(SYN, &[], &[]));
    group[30] = 224;
    crate::packets::seal_header(&mut group);
    assert_eq!(answer(&seal(group)), None);
    let mut group = v6(6, &tcp(SYN, &[], &[]));
    group[38..40].copy_from_slice(&[0xff, 0x0e]);
    assert_eq!(answer(&seal(group)), None);
}

#[test]
fn both_ends_can_be_told() {
    let (ours, theirs) = (MacAddr::new(OUR_MAC), MacAddr::new([2, 0, 0, 0, 0, 7]));
    for frame in [v4(6, &tcp(ACK, &[], &[])), v6(6, &tcp(ACK, &[], &[]))] {
        for acknowledgment in [None, Some(SeqNumber::new(0))] {
            let reset = Reset {
                source_mac: ours,
                destination_mac: theirs,
                endpoints: facts(&seal(frame.clone())).endpoints,
                source_port: 443,
                destination_port: 50_000,
                sequence: SeqNumber::new(7),
                acknowledgment,
            };
            let mut out = [0xa5; 100];
            let len = tcp_reset_to(&mut out, &reset).unwrap();
            let read = dissect(&out[..len], Verify::All).unwrap();
            assert_eq!((read.link.source, read.link.destination, read.link.tags), (ours, theirs, 0));
            let tcp = segment(&out[..len]);
            assert_eq!((tcp.source_port, tcp.destination_port, tcp.sequence), (443, 50_000, SeqNumber::new(7)));
            assert_eq!(tcp.flags.contains(TcpFlags::ACK), acknowledgment.is_some());
            for short in 0..len {
                assert_eq!(tcp_reset_to(&mut out[..short], &reset), None);
            }
        }
    }
}
