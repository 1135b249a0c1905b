//! Sums against a sum word by word, the examples of RFC 1071 and RFC 1624, and checksums left partial.

use proptest::prelude::*;

use super::*;
use crate::packets::{ACK, facts, naive, read, seal, tcp, udp, v4, v4_with, v6};
use crate::{Content, Verify, dissect};

/// RFC 1071 section 3.
#[test]
fn the_example_of_the_rfc_comes_out() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes), 0xddf2);
    assert_eq!(plain(&bytes), 0x220d);
}

/// RFC 1624 section 4: where the older equation yields 0xffff.
#[test]
fn the_example_of_the_update_comes_out() {
    assert_eq!(update(0xdd2f, delta(&[0x5555], &[0x3285])), 0x0000);
    assert_eq!(update_udp(0xdd2f, delta(&[0x5555], &[0x3285])), 0xffff);
    assert_eq!(update_udp(0, delta(&[0x5555], &[0x3285])), 0, "none stays none");
}

#[test]
fn nothing_sums_to_nothing() {
    assert_eq!(sum(&[]), 0);
    assert_eq!(plain(&[0; 40]), 0xffff);
    assert_eq!(plain(&[0xff; 65_535]), naive(&[0xff; 65_535]));
}

#[test]
fn a_partial_checksum_is_accepted_and_completed() {
    for (protocol, segment) in [(6, tcp(ACK, &[], b"odd")), (17, udp(b"odd"))] {
        for frame in [v4(protocol, &segment), v6(protocol, &segment)] {
            let right = seal(frame.clone());
            let whole = facts(&right);
            let field = usize::from(whole.transport_offset) + if protocol == 6 { 16 } else { 6 };
            let mut partial = frame;
            let length = u16::try_from(segment.len()).unwrap();
            let pseudo = fold(pseudo(&whole.endpoints, protocol, length)).to_be_bytes();
            partial[field..field + 2].copy_from_slice(&pseudo);

            assert!(read(&partial).is_err());
            let Content::Ip(found) = dissect(&partial, Verify::Partial).unwrap().content else { panic!() };
            assert_eq!(found, Facts { partial_checksum: true, ..whole });
            assert_eq!(dissect(&right, Verify::Partial), read(&right), "a full one is not called partial");

            let mut padded = [&partial[..], &[0x5a; 9]].concat();
            assert!(complete(&mut padded, &found));
            assert_eq!(padded[..right.len()], right);
            assert_eq!(padded[right.len()..], [0x5a; 9]);
        }
    }
}

#[test]
fn what_has_no_checksum_to_complete_stays_as_it_is() {
    for frame in [v4(17, &udp(b"x")), v4(47, &[0; 20]), v4_with(6, &[], 0x2000, &tcp(ACK, &[], &[0; 4]))] {
        let mut same = frame.clone();
        assert!(!complete(&mut same, &facts(&frame)));
        assert_eq!(same, frame);
    }
}

#[test]
fn facts_of_another_frame_do_no_harm() {
    let facts = facts(&seal(v6(6, &tcp(ACK, &[], b"data"))));
    for len in 0..60 {
        assert!(!complete(&mut vec![0; len], &facts));
    }
}

proptest! {
    #[test]
    fn the_sum_is_that_of_word_by_word(bytes in prop::collection::vec(any::<u8>(), 0..300), skip in 0_usize..9) {
        let bytes = &bytes[skip.min(bytes.len())..];
        prop_assert_eq!(plain(bytes), naive(bytes));
    }

    #[test]
    fn sums_add_up(even in prop::collection::vec(any::<[u8; 2]>(), 0..50), rest in prop::collection::vec(any::<u8>(), 0..50)) {
        let whole = [even.concat(), rest.clone()].concat();
        prop_assert_eq!(finish(sum(&even.concat()) + sum(&rest)), plain(&whole));
    }

    /// Whatever changes: the update equals the full sum, and the negated delta takes it back.
    #[test]
    fn an_update_is_a_full_sum(
        words in prop::collection::vec(any::<u16>(), 1..40),
        new in prop::collection::vec(prop_oneof![any::<u16>(), Just(0), Just(0xffff)], 1..12),
    ) {
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let count = new.len().min(words.len());
        // The protocol number of a pseudo header: no sum over a real packet is over zeroes only.
        let fixed = 0x0006;
        let mut before = words.clone();
        before.push(fixed);
        let mut after = before.clone();
        after[..count].copy_from_slice(&new[..count]);
        let (old_sum, new_sum) = (plain(&bytes(&before)), plain(&bytes(&after)));
        let delta = delta(&before[..count], &after[..count]);
        prop_assert_eq!(update(old_sum, delta), new_sum);
        prop_assert_eq!(update(new_sum, negate(delta)), old_sum);
        let halves = count / 2;
        let parts = combine(
            super::delta(&before[..halves], &after[..halves]),
            super::delta(&before[halves..count], &after[halves..count]),
        );
        prop_assert_eq!(update(old_sum, parts), new_sum);
    }

    #[test]
    fn deltas_of_addresses_are_those_of_their_words(old in any::<[u16; 8]>(), new in any::<[u16; 8]>()) {
        let (a, b) = (Ipv6Addr::from(old), Ipv6Addr::from(new));
        prop_assert_eq!(delta_address(a.into(), b.into()), delta(&old, &new));
        let v4 = |words: [u16; 8]| Ipv4Addr::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]));
        prop_assert_eq!(delta_address(v4(old).into(), v4(new).into()), delta(&old[..2], &new[..2]));
    }
}
