//! Neighbor discovery: what is read, and what RFC 4861 discards.

use super::*;
use crate::packets::{facts, icmp, seal, seal_at, v6};

const TARGET: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56];
const STATION: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);
const SOURCE_OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 9];
const TARGET_OPTION: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 9];

fn message(kind: u8, flags: u8, target: [u8; 16], options: &[u8]) -> Vec<u8> {
    let mut frame = v6(58, &icmp(kind, 0, [flags, 0, 0, 0], &[&target[..], options].concat()));
    frame[21] = 255;
    seal(frame)
}

fn parse(frame: &[u8]) -> Option<Neighbor> {
    neighbor_message(frame, &facts(frame))
}

fn with(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    seal(frame)
}

#[test]
fn messages_are_read() {
    let target = Ipv6Addr::from(TARGET);
    let asks = |source_link| Some(Neighbor::Solicitation { target, source_link });
    assert_eq!(parse(&message(135, 0, TARGET, &SOURCE_OPTION)), asks(Some(STATION)));
    assert_eq!(parse(&message(135, 0, TARGET, &[])), asks(None));
    // An unknown option (a nonce) is skipped, and so is the other message's.
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let options = [&nonce[..], &TARGET_OPTION, &SOURCE_OPTION].concat();
    assert_eq!(parse(&message(135, 0, TARGET, &options)), asks(Some(STATION)));

    for flags in 0..8_u8 {
        let expected = Neighbor::Advertisement {
            target,
            link: Some(STATION),
            router: flags & 4 != 0,
            solicited: flags & 2 != 0,
            replaces: flags & 1 != 0,
        };
        assert_eq!(parse(&message(136, flags << 5, TARGET, &TARGET_OPTION)), Some(expected));
    }
    assert!(matches!(parse(&message(136, 0x40, TARGET, &[])), Some(Neighbor::Advertisement { link: None, .. })));
}

/// EVA-26, RFC 4861 section 7.1: what receivers discard.
#[test]
fn what_the_rfc_discards_is_discarded() {
    for (kind, option) in [(135, SOURCE_OPTION), (136, TARGET_OPTION)] {
        let good = message(kind, 0, TARGET, &option);
        assert!(parse(&good).is_some());
        for hops in [0, 1, 64, 254] {
            assert_eq!(parse(&with(good.clone(), |frame| frame[21] = hops)), None, "hop limit {hops}");
        }
        assert_eq!(parse(&with(good.clone(), |frame| frame[55] = 1)), None, "code");
        for first in [0xff, 0] {
            let odd = with(good.clone(), |frame| {
                frame[62..78].fill(0);
                frame[62] = first;
            });
            assert_eq!(parse(&odd), None, "a target that is no host");
        }
        assert_eq!(parse(&with(good.clone(), |frame| frame[79] = 0)), None, "an option of length 0");
        assert_eq!(parse(&with(good.clone(), |frame| frame[79] = 2)), None, "an option beyond the message");
        assert_eq!(parse(&with(good.clone(), |frame| frame[80] = 0x33)), None, "a group's address");
        assert_eq!(parse(&message(kind, 0, TARGET, &[option, [0; 8]].concat())), None, "a second option of length 0");
        let long = [&[option[0], 2][..], &[2; 14]].concat();
        assert_eq!(parse(&message(kind, 0, TARGET, &long)), None, "another link layer's address");
        assert_eq!(parse(&message(kind, 0, TARGET, &option[..7])), None, "a cut option");
        assert_eq!(parse(&message(kind, 0, TARGET, &option[..1])), None, "a cut option");
    }
    let mut short = v6(58, &icmp(135, 0, [0; 4], &TARGET[..15]));
    short[21] = 255;
    assert_eq!(parse(&seal(short)), None, "a cut target");
    assert_eq!(parse(&message(133, 0, TARGET, &[])), None, "another message");
}

#[test]
fn a_probe_for_a_duplicate_names_no_source() {
    let from_nowhere = |group: &str, options: &[u8]| {
        let group = group.parse::<Ipv6Addr>().unwrap().octets();
        parse(&with(message(135, 0, TARGET, options), |frame| {
            frame[22..38].fill(0);
            frame[38..54].copy_from_slice(&group);
        }))
    };
    let asks = Neighbor::Solicitation { target: TARGET.into(), source_link: None };
    assert_eq!(from_nowhere("ff02::1:ff12:3456", &[]), Some(asks));
    assert_eq!(from_nowhere("ff02::1:ff12:3456", &SOURCE_OPTION), None);
    assert_eq!(from_nowhere("ff02::1", &[]), None);
    assert_eq!(from_nowhere("2001:db8::1", &[]), None);
}

#[test]
fn a_group_solicits_nothing() {
    let to_all = |flags| {
        parse(&with(message(136, flags, TARGET, &TARGET_OPTION), |frame| {
            frame[38..54].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        }))
    };
    assert_eq!(to_all(0x40), None);
    assert!(to_all(0x20).is_some());
}

/// RFC 6980.
#[test]
fn a_fragment_header_spoils_it() {
    let wrapped = |kind: u8, header: [u8; 8]| {
        let inner = icmp(135, 0, [0; 4], &TARGET);
        let mut frame = v6(kind, &[&header[..], &inner].concat());
        frame[21] = 255;
        parse(&seal_at(frame, 62, 58))
    };
    assert_eq!(wrapped(44, [58, 0, 0, 0, 0, 0, 0, 7]), None);
    assert!(wrapped(60, [58, 0, 1, 4, 0, 0, 0, 0]).is_some());
}
