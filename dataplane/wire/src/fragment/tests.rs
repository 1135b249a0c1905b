//! Pieces read, datagrams judged once they are whole, packets cut and put together again.

use super::*;
use crate::packets::{facts, naive, udp, v4_with, v6};
use crate::{Verify, dissect};

/// The IPv6 fragment of `piece`, `units` times 8 bytes into the datagram.
fn cut_v6(units: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let [high, low] = (units << 3 | u16::from(more)).to_be_bytes();
    v6(44, &[&[17, 0, high, low, 0xaa, 0xbb, 0xcc, 0xdd][..], piece].concat())
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

/// A datagram of `len` bytes of payload with a right checksum under both families' addresses here.
fn datagram(len: usize, v6_addresses: bool) -> Vec<u8> {
    let whole = udp(&payload(len));
    let frame = if v6_addresses { v6(17, &whole) } else { v4_with(17, &[], 0, &whole) };
    let at = frame.len() - whole.len();
    crate::packets::seal_at(frame, at, 17).split_off(at)
}

#[test]
fn the_piece_of_a_fragment_is_where_its_header_says() {
    let segment = datagram(100, false);
    let first = v4_with(17, &[1, 1, 1, 1], 0x2000, &segment[..48]);
    let expected = Piece { identification: 0x1234, offset: 0, len: 48, more: true, begin: 38 };
    assert_eq!(piece(&first, &facts(&first)), Some(expected));
    let last = v4_with(17, &[], 6, &segment[48..]);
    let expected = Piece { identification: 0x1234, offset: 48, len: 60, more: false, begin: 34 };
    assert_eq!(piece(&last, &facts(&last)), Some(expected));
    assert_eq!(expected.end(), 108);

    let first = cut_v6(0, true, &segment[..48]);
    let expected = Piece { identification: 0xaabb_ccdd, offset: 0, len: 48, more: true, begin: 62 };
    assert_eq!(piece(&first, &facts(&first)), Some(expected));
    let last = cut_v6(6, false, &segment[48..]);
    let expected = Piece { identification: 0xaabb_ccdd, offset: 48, len: 60, more: false, begin: 62 };
    assert_eq!(piece(&last, &facts(&last)), Some(expected));

    let whole = v4_with(17, &[], 0, &segment);
    assert_eq!(piece(&whole, &facts(&whole)), None);
}

#[test]
fn another_identification_is_written_with_the_checksum_right() {
    let segment = datagram(100, false);
    let mut first = v4_with(17, &[1, 1, 1, 1], 0x2000, &segment[..48]);
    let read = facts(&first);
    assert!(set_identification(&mut first, &read, 0x7_beef));
    assert_eq!(piece(&first, &facts(&first)).unwrap().identification, 0xbeef);
    assert_eq!(naive(&first[14..38]), 0);
    let mut first = cut_v6(0, true, &segment[..48]);
    let read = facts(&first);
    assert!(set_identification(&mut first, &read, 0x0102_0304));
    assert_eq!(piece(&first, &facts(&first)).unwrap().identification, 0x0102_0304);
    assert!(!set_identification(&mut v6(17, &segment), &facts(&crate::packets::seal_at(v6(17, &segment), 54, 17)), 1));
}

#[test]
fn a_whole_datagram_is_judged_by_all_its_pieces() {
    for v6_addresses in [false, true] {
        let segment = datagram(101, v6_addresses);
        let first =
            if v6_addresses { cut_v6(0, true, &segment[..48]) } else { v4_with(17, &[], 0x2000, &segment[..48]) };
        let read = facts(&first);
        let total = u32::try_from(segment.len()).unwrap();
        let others = [&segment[48..64], &segment[64..]];
        let whole_facts = whole(&first, &read, total, others.into_iter(), true).unwrap();
        assert_eq!(whole_facts, Facts { fragment: Fragment::No, ..read });
        let mut spoilt = segment.clone();
        spoilt[100] ^= 0x10;
        let others = || [&spoilt[48..]].into_iter();
        assert_eq!(whole(&first, &read, total, others(), true), Err(Malformed::UdpChecksum));
        assert!(whole(&first, &read, total, others(), false).is_ok(), "from the kernel, which knows");
        assert_eq!(whole(&first, &read, total - 1, [&segment[48..108]].into_iter(), true), Err(Malformed::UdpLength));
        assert_eq!(whole(&first, &read, 65_536, others(), true), Err(Malformed::FragmentLength));
    }
}

/// RFC 791 section 3.1: security (130) is in every fragment, record route (7) in the first alone.
#[test]
fn a_packet_is_cut_to_the_mtu_and_its_pieces_make_the_packet_again() {
    let options = [130, 4, 1, 2, 7, 7, 4, 0, 0, 0, 0, 1];
    let segment = datagram(3_000, false);
    for (options, mtu) in [(&[][..], 1_280), (&options[..], 1_280), (&[][..], 576), (&[][..], 68), (&options[..], 68)] {
        let frame = v4_with(17, options, 0, &segment);
        let cut = Cut::new(&frame, 14, mtu).unwrap();
        let mut pieces = Vec::new();
        for number in 1..cut.count() {
            let mut out = vec![0xa5; cut.longest()];
            let len = cut.write(&frame, number, &mut out).unwrap();
            out.truncate(len);
            pieces.push(out);
        }
        assert_eq!(cut.write(&frame, cut.count(), &mut vec![0; 2_000]), None);
        let mut head = frame.clone();
        let len = cut.shorten(&mut head).unwrap();
        head.truncate(len);
        pieces.insert(0, head);
        let mut together: Vec<u8> = Vec::new();
        for (number, bytes) in pieces.iter().enumerate() {
            let read = facts(bytes);
            assert!(read.end - read.network <= mtu, "{mtu}");
            let found = piece(bytes, &read).unwrap();
            assert_eq!(usize::from(found.offset), together.len());
            assert_eq!((found.more, found.identification), (number + 1 < pieces.len(), 0x1234));
            together.extend(&bytes[usize::from(found.begin)..]);
            let written = &bytes[34..usize::from(found.begin)];
            if number == 0 {
                assert_eq!(written, options);
            } else {
                assert_eq!(written, if options.is_empty() { &[][..] } else { &[130, 4, 1, 2] });
            }
        }
        assert_eq!(together, segment, "MTU {mtu}");
    }
}

#[test]
fn a_fragment_is_cut_again_and_keeps_its_place() {
    let segment = payload(2_000);
    let frame = v4_with(17, &[], 0x2000 | 100, &segment);
    let cut = Cut::new(&frame, 14, 1_280).unwrap();
    assert_eq!(cut.count(), 2);
    let mut last = vec![0; cut.longest()];
    let len = cut.write(&frame, 1, &mut last).unwrap();
    let last = piece(&last[..len], &facts(&last[..len])).unwrap();
    assert_eq!((last.offset, last.more, last.end()), (800 + 1_256, true, 800 + 2_000));
}

/// RFC 7915 section 4.1: what was an IPv4 packet, or a fragment of one, in IPv6 fragments of 1,280 bytes.
#[test]
fn a_packet_that_was_ipv4_is_cut_behind_its_fragment_header() {
    let segment = payload(1_480);
    for (units, more) in [(0, false), (0, true), (185, true), (185, false)] {
        let frame = cut_v6(units, more, &segment);
        let cut = Cut::new_v6(&frame, 14, 1_280).unwrap();
        assert_eq!(cut.count(), 2);
        let mut last = vec![0xa5; cut.longest()];
        let len = cut.write(&frame, 1, &mut last).unwrap();
        last.truncate(len);
        let mut head = frame.clone();
        let len = cut.shorten(&mut head).unwrap();
        head.truncate(len);
        let [first, second] = [&head, &last].map(|bytes| piece(bytes, &facts(bytes)).unwrap());
        assert_eq!((first.offset, first.len, first.more, head.len()), (units * 8, 1_232, true, 14 + 1_280));
        assert_eq!((second.offset, second.len, second.more), (units * 8 + 1_232, 248, more));
        assert_eq!([first.identification, second.identification], [0xaabb_ccdd; 2]);
        assert_eq!([&head[62..], &last[62..]].concat(), segment);
    }
    assert_eq!(Cut::new_v6(&cut_v6(0, true, &segment), 14, 1_528), None, "it fits");
    assert_eq!(Cut::new_v6(&v6(17, &segment), 14, 1_280), None, "nothing says how");
    assert_eq!(Cut::new_v6(&v4_with(17, &[], 0, &segment), 14, 1_280), None);
    assert_eq!(Cut::new_v6(&cut_v6(0, true, &segment)[..100], 14, 1_280), None);
}

#[test]
fn what_fits_or_may_not_be_cut_is_not() {
    let segment = datagram(1_400, false);
    assert_eq!(Cut::new(&v4_with(17, &[], 0, &segment), 14, 1_428), None);
    assert!(Cut::new(&v4_with(17, &[], 0, &segment), 14, 1_427).is_some());
    assert_eq!(Cut::new(&v4_with(17, &[], 0x4000, &segment), 14, 1_280), None);
    assert_eq!(Cut::new(&v6(17, &segment), 14, 1_280), None);
    assert_eq!(Cut::new(&v4_with(17, &[], 0, &segment), 14, 27), None);
}

#[test]
fn a_fragment_follows_the_first_of_its_datagram() {
    let segment = datagram(200, false);
    let first = v4_with(17, &[], 0x2000, &segment[..48]);
    let mut moved = first.clone();
    moved[0..12].copy_from_slice(&[9; 12]);
    moved[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    moved[22] = 5;
    let example = Example::of(&moved, &facts(&first)).unwrap();
    assert!(example.is_translated(&facts(&first)));
    assert!(!Example::of(&first, &facts(&first)).unwrap().is_translated(&facts(&first)));
    let mut last = v4_with(17, &[1, 1, 1, 1], 6, &segment[48..]);
    assert!(example.apply(&mut last, 14));
    assert_eq!(naive(&last[14..38]), 0);
    assert_eq!((&last[..12], &last[26..34]), (&[9; 12][..], &[10, 0, 0, 1, 10, 0, 0, 2][..]));
    assert_eq!(last[22], 5);
    assert!(!example.apply(&mut cut_v6(6, false, &segment[48..]), 14), "of the other family");

    let first = cut_v6(0, true, &segment[..48]);
    let mut moved = first.clone();
    moved[22] = 0xfd;
    moved[21] = 7;
    let example = Example::of(&moved, &facts(&first)).unwrap();
    assert!(example.is_translated(&facts(&first)));
    let mut last = cut_v6(6, false, &segment[48..]);
    assert!(example.apply(&mut last, 14));
    assert_eq!(last[..54], moved[..18].iter().chain(&last[18..21]).chain(&moved[21..54]).copied().collect::<Vec<_>>());
    assert!(dissect(&last, Verify::All).is_ok());
}
