//! The table against a plain model, and each bound by itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use units::{Nanos, TenantId, ZoneId};
use wire::Endpoints;
use wire::fragment::Piece;

use super::*;
use crate::DropReason::{self, *};

const LIMITS: Limits = Limits { per_datagram: 8, timeout: Nanos::from_secs(5) };
const NOW: Nanos = Nanos::from_secs(100);

fn key(source: u32, identification: u32) -> Key {
    let (source, destination) = (Ipv4Addr::from_bits(0x0a00_0000 + source), Ipv4Addr::new(192, 0, 2, 1));
    let endpoints = Endpoints::V4 { source, destination };
    Key { endpoints, protocol: 17, identification, zone: ZoneId::new(1), tenant: TenantId::NONE }
}

/// A fragment of `len` bytes at `offset`; the buffer is the payload.
fn held(offset: u16, len: u16, more: bool, fill: u8) -> Held<Vec<u8>> {
    let piece = Piece { identification: 0, offset, len, more, begin: 0 };
    Held { buffer: vec![fill; usize::from(len)], piece, packet: len + 20 }
}

fn same(one: &Held<Vec<u8>>, other: &Held<Vec<u8>>) -> bool {
    one.buffer == other.buffer
}

/// A table, and what it lost.
struct Bench {
    table: Waiting<Vec<u8>>,
    lost: BTreeMap<&'static str, usize>,
    now: Nanos,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        Self { table: Waiting::new(capacity), lost: BTreeMap::new(), now: NOW }
    }

    fn take(&mut self, key: Key, fragment: Held<Vec<u8>>) -> Taken {
        let lost = &mut self.lost;
        let mut count = |reason: DropReason, many| *lost.entry(reason.name()).or_insert(0) += many;
        self.table.take(key, fragment, self.now, &LIMITS, same, &mut count)
    }

    fn expire(&mut self) {
        let lost = &mut self.lost;
        let mut count = |reason: DropReason, many| *lost.entry(reason.name()).or_insert(0) += many;
        self.table.expire(self.now, &LIMITS, usize::MAX, &mut count);
    }

    fn bytes(&mut self, taken: Taken) -> Vec<u8> {
        let Taken::Complete(id) = taken else { panic!("{taken:?} is not complete") };
        let mut bytes = Vec::new();
        while let Some(fragment) = self.table.next(id) {
            bytes.extend(fragment.buffer);
        }
        bytes
    }

    fn assert_empty(&self) {
        assert_eq!((self.table.held(), self.table.known()), (0, (0, 0)));
    }
}

#[test]
fn fragments_in_any_order_make_their_datagram() {
    let pieces = [(0, 16, true), (16, 8, true), (24, 24, true), (48, 5, false)];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let mut bench = Bench::new(16);
        for (count, number) in order.into_iter().enumerate() {
            let (offset, len, more) = pieces[number];
            let taken = bench.take(key(1, 7), held(offset, len, more, u8::try_from(number).unwrap()));
            if count < 3 {
                assert_eq!(taken, Taken::Waits);
                continue;
            }
            let Taken::Complete(id) = taken else { panic!("{taken:?}") };
            assert_eq!(bench.table.measure(id), (53, 53 + 80, 44));
            assert_eq!(bench.table.fragments(id).map(|held| held.piece.offset).collect::<Vec<_>>(), [0, 16, 24, 48]);
            let expected: Vec<u8> = [vec![0; 16], vec![1; 8], vec![2; 24], vec![3; 5]].concat();
            assert_eq!(bench.bytes(taken), expected);
        }
        bench.assert_empty();
    }
}

#[test]
fn datagrams_of_other_keys_do_not_mix() {
    let mut bench = Bench::new(16);
    let first = key(1, 7);
    let others = [
        key(2, 7),
        key(1, 8),
        Key { protocol: 6, ..first },
        Key { zone: ZoneId::new(2), ..first },
        Key { tenant: TenantId::new(1), ..first },
        Key { tenant: TenantId::new(2), ..first },
        Key { endpoints: first.endpoints.reversed(), ..first },
    ];
    bench.take(first, held(0, 8, true, 1));
    for other in others {
        assert_eq!(bench.take(other, held(8, 8, false, 2)), Taken::Waits, "{other:?}");
    }
    let taken = bench.take(first, held(8, 8, false, 3));
    assert_eq!(bench.bytes(taken), [[1; 8], [3; 8]].concat());
}

/// EVA-05, RFC 8200 section 4.5.
#[test]
fn a_duplicate_changes_nothing_and_another_content_condemns() {
    let mut bench = Bench::new(16);
    bench.take(key(1, 7), held(0, 8, true, 1));
    for _ in 0..10 {
        assert_eq!(bench.take(key(1, 7), held(0, 8, true, 1)), Taken::Dropped(FragmentDuplicate));
    }
    assert_eq!(bench.table.held(), 1);
    assert_eq!(bench.take(key(1, 7), held(0, 8, true, 9)), Taken::Dropped(FragmentOverlap));
    assert_eq!((bench.table.held(), bench.lost["fragment_overlap"]), (0, 1));
}

/// EVA-03, EVA-04: start, end, inside, enclosing, a hole's both sides, several; both orders. RFC 5722: the whole
/// datagram, and what comes later.
#[test]
fn fragments_that_overlap_condemn_their_datagram() {
    type Piece = (u16, u16, bool);
    let shapes: [(&str, Piece, Piece); 9] = [
        ("start", (16, 16, true), (8, 16, true)),
        ("end", (16, 16, true), (24, 16, true)),
        ("inside", (16, 32, true), (24, 8, true)),
        ("enclosing", (24, 8, true), (16, 32, true)),
        ("same start, longer", (16, 16, true), (16, 24, true)),
        ("same end, longer", (16, 16, true), (8, 24, true)),
        ("beyond the end", (16, 8, false), (24, 8, true)),
        ("a second end", (16, 8, false), (32, 8, false)),
        ("an end that is none", (16, 8, false), (16, 8, true)),
    ];
    for (sentence, one, other) in shapes {
        for (first, second) in [(one, other), (other, one)] {
            let mut bench = Bench::new(16);
            bench.take(key(1, 7), held(0, 8, true, 0));
            let build = |(offset, len, more): (u16, u16, bool)| held(offset, len, more, 1);
            assert_eq!(bench.take(key(1, 7), build(first)), Taken::Waits, "{sentence}");
            assert_eq!(bench.take(key(1, 7), build(second)), Taken::Dropped(FragmentOverlap), "{sentence}");
            assert_eq!(bench.lost["fragment_overlap"], 2);
            assert_eq!(bench.table.held(), 0);
            for late in [held(40, 8, false, 1), held(0, 8, true, 0), held(8, 8, true, 0)] {
                assert_eq!(bench.take(key(1, 7), late), Taken::Dropped(FragmentOverlap), "{sentence}: later");
            }
            // When its time is over, the identification is anybody's again.
            bench.now = NOW + LIMITS.timeout;
            bench.take(key(1, 7), held(0, 8, true, 4));
            let taken = bench.take(key(1, 7), held(8, 8, false, 5));
            assert_eq!(bench.bytes(taken).len(), 16);
            bench.assert_empty();
        }
    }
}

#[test]
fn a_datagram_in_too_many_fragments_is_condemned() {
    let mut bench = Bench::new(64);
    for number in 0..8 {
        assert_eq!(bench.take(key(1, 7), held(number * 8, 8, true, 1)), Taken::Waits);
    }
    assert_eq!(bench.take(key(1, 7), held(64, 8, false, 1)), Taken::Dropped(FragmentsTooMany));
    assert_eq!((bench.table.held(), bench.lost["fragments_too_many"]), (0, 8));
}

#[test]
fn what_is_not_complete_in_time_is_dropped() {
    let mut bench = Bench::new(16);
    bench.take(key(1, 7), held(0, 8, true, 1));
    bench.now = NOW + Nanos::from_secs(3);
    bench.take(key(1, 8), held(0, 8, true, 1));
    bench.take(key(1, 7), held(16, 8, true, 1));
    bench.now = NOW + Nanos::from_millis(4_999);
    bench.expire();
    assert_eq!(bench.table.held(), 3);
    bench.now = NOW + Nanos::from_secs(5);
    // Even before anybody asks, time is over.
    assert_eq!(bench.take(key(1, 7), held(8, 8, false, 1)), Taken::Waits);
    assert_eq!(bench.lost["fragment_timeout"], 2);
    bench.now = NOW + Nanos::from_secs(20);
    bench.expire();
    assert_eq!(bench.lost["fragment_timeout"], 4);
    bench.assert_empty();
}

/// STX-13 in small: first fragments without end. The table never grows, and the oldest give way.
#[test]
fn a_flood_of_first_fragments_never_exceeds_the_capacity() {
    let mut bench = Bench::new(256);
    for number in 0..100_000 {
        assert_eq!(bench.take(key(number, 7), held(0, 8, true, 1)), Taken::Waits);
        assert!(bench.table.held() <= 256);
    }
    assert_eq!((bench.table.held(), bench.lost["fragments_full"]), (256, 100_000 - 256));
    let taken = bench.take(key(99_999, 7), held(8, 8, false, 2));
    assert_eq!(bench.bytes(taken).len(), 16);
    bench.now = NOW + Nanos::from_secs(20);
    bench.expire();
    bench.assert_empty();
}

/// STX-13, EVA-03: a condemned datagram holds no place, so ending it makes no room. The oldest that has fragments gives way,
/// the table allocates nothing, and what was condemned stays so.
#[test]
fn condemned_datagrams_do_not_stand_in_the_way_of_the_bound() {
    let mut bench = Bench::new(256);
    let places = bench.table.places_taken();
    for number in 0..40 {
        bench.take(key(1_000 + number, 1), held(0, 16, true, 1));
        assert_eq!(bench.take(key(1_000 + number, 1), held(8, 16, true, 2)), Taken::Dropped(FragmentOverlap));
    }
    for number in 0..2_000 {
        for offset in [0, 8] {
            assert_eq!(bench.take(key(number, 7), held(offset, 8, true, 1)), Taken::Waits);
            assert!(bench.table.held() <= 256, "datagram {number}");
        }
    }
    assert_eq!(bench.table.places_taken(), places, "nothing was allocated");
    assert_eq!((bench.table.held(), bench.lost["fragments_full"]), (256, 4_000 - 256));
    for number in 0..40 {
        assert_eq!(bench.take(key(1_000 + number, 1), held(32, 8, false, 1)), Taken::Dropped(FragmentOverlap));
    }
    // Where it is the datagrams that are too many, those nothing is kept of go first.
    for number in 0..256 {
        bench.take(key(5_000 + number, 7), held(0, 8, true, 1));
    }
    assert_eq!((bench.table.held(), bench.table.known().0), (256, 256));
    bench.now = NOW + LIMITS.timeout;
    bench.expire();
    bench.assert_empty();
}

#[test]
fn one_sender_displaces_itself_and_nobody_else() {
    let mut bench = Bench::new(256);
    bench.take(key(1, 7), held(0, 8, true, 1));
    for number in 0..10_000 {
        bench.take(key(2, number), held(0, 8, true, 1));
    }
    assert_eq!(bench.table.held(), 1 + 64, "a quarter");
    assert_eq!(bench.lost["fragments_of_source"], 10_000 - 64);
    let taken = bench.take(key(1, 7), held(8, 8, false, 2));
    assert_eq!(bench.bytes(taken).len(), 16);
    // Another tenant's sender of the same address is another one.
    let elsewhere = |number| Key { tenant: TenantId::new(1), ..key(2, number) };
    for number in 0..10_000 {
        bench.take(elsewhere(number), held(0, 8, true, 1));
    }
    assert_eq!(bench.table.held(), 64 + 64);
    for number in 10_000 - 64..10_000 {
        for key in [key(2, number), elsewhere(number)] {
            let taken = bench.take(key, held(8, 8, false, 2));
            assert_eq!(bench.bytes(taken).len(), 16, "{key:?}");
        }
    }
    for number in 0..64 {
        bench.take(key(2, number), held(0, 8, true, 1));
    }
    // IPv6: one /64 is one sender.
    let six = |source: u128, identification| Key {
        endpoints: Endpoints::V6 { source: Ipv6Addr::from_bits(source), destination: Ipv6Addr::LOCALHOST },
        protocol: 0,
        identification,
        zone: ZoneId::new(1),
        tenant: TenantId::NONE,
    };
    let net = 0x2001_0db8_u128 << 96;
    for number in 0..10_000 {
        bench.take(six(net + number, 1), held(0, 8, true, 1));
    }
    assert_eq!(bench.table.held(), 64 + 64);
    let sender = |number, address| Source::of(TenantId::new(number), IpAddr::V6(Ipv6Addr::from_bits(address)));
    assert_eq!(sender(0, net + 5), sender(0, net));
    assert_ne!(sender(1, net), sender(2, net));
}

/// What the model remembers of a datagram: its pieces, or that it is condemned.
#[derive(Debug, Default)]
struct Modelled {
    pieces: Vec<(u16, u16, bool, u8)>,
    condemned: bool,
}

/// What a plain model says of one more fragment: nothing, dropped, or the bytes of the datagram.
fn model(datagram: &mut Modelled, new: (u16, u16, bool, u8)) -> Option<Result<Vec<u8>, ()>> {
    if datagram.condemned || datagram.pieces.contains(&new) {
        return Some(Err(()));
    }
    let span = |piece: (u16, u16, bool, u8)| u32::from(piece.0)..u32::from(piece.0) + u32::from(piece.1);
    datagram.pieces.push(new);
    let mut owner = BTreeMap::new();
    for (number, piece) in datagram.pieces.iter().enumerate() {
        for byte in span(*piece) {
            if owner.insert(byte, number).is_some() {
                datagram.condemned = true;
            }
        }
    }
    let ends: Vec<u32> = datagram.pieces.iter().filter(|piece| !piece.2).map(|piece| span(*piece).end).collect();
    let furthest = datagram.pieces.iter().map(|piece| span(*piece).end).max().unwrap_or(0);
    let open_end = datagram.pieces.iter().any(|piece| piece.2 && Some(&span(*piece).end) == ends.first());
    if ends.len() > 1 || ends.first().is_some_and(|&end| end < furthest) || open_end {
        datagram.condemned = true;
    }
    if datagram.pieces.len() > LIMITS.per_datagram {
        datagram.condemned = true;
    }
    if datagram.condemned {
        return Some(Err(()));
    }
    if ends.first() == Some(&u32::try_from(owner.len()).unwrap()) {
        let bytes = owner.values().map(|&number| datagram.pieces[number].3).collect();
        *datagram = Modelled::default();
        return Some(Ok(bytes));
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Any fragments in any order: the table passes exactly the datagrams, and exactly the bytes, that the model does.
    #[test]
    fn the_table_does_what_the_model_does(
        fragments in prop::collection::vec((0..3_u32, 0..7_u16, 1..4_u16, any::<bool>(), 0..2_u8), 1..60)
    ) {
        let mut bench = Bench::new(256);
        let mut datagrams: BTreeMap<u32, Modelled> = BTreeMap::new();
        let mut dropped = 0;
        for &(number, units, len, more, fill) in &fragments {
            let new = (units * 8, len * 8, more, fill);
            let expected = model(datagrams.entry(number).or_default(), new);
            let taken = bench.take(key(1, number), held(new.0, new.1, new.2, new.3));
            match expected {
                None => prop_assert_eq!(taken, Taken::Waits),
                Some(Err(())) => {
                    prop_assert!(matches!(taken, Taken::Dropped(_)), "{:?}", taken);
                    dropped += 1;
                }
                Some(Ok(bytes)) => prop_assert_eq!(bench.bytes(taken), bytes),
            }
        }
        bench.now = NOW + Nanos::from_secs(20);
        bench.expire();
        bench.assert_empty();
        prop_assert!(dropped + bench.lost.values().sum::<usize>() <= fragments.len());
    }
}
