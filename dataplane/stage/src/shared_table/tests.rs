//! The shared table alone, and under racing threads: nothing is mixed, lost unsaid, or held twice.

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::*;

/// The `number`th key of a table whose buckets number at most 2^24: all of them in its first bucket.
const fn key(number: u64) -> u64 {
    number << 24
}

fn holders(table: &SharedTable, key: u64) -> usize {
    let words = table.bucket(key).unwrap().ways.iter().map(|word| word.load(Ordering::Relaxed));
    words.filter(|word| word & TAG == tag(key)).count()
}

#[test]
fn what_was_put_is_got_with_its_stamp() {
    let table = SharedTable::new(100);
    assert_eq!(table.get(7), None);
    assert!(table.put(7, 70, 1) && table.put(key(9), 0, 2) && table.put(7, 71, 3));
    assert_eq!(table.read(7), Some(Held { value: 71, stamp: 3 }));
    assert_eq!(table.get(key(9)), Some(0));
}

#[test]
fn a_table_of_no_entries_holds_nothing() {
    let table = SharedTable::new(0);
    assert!(!table.put(1, 1, 1));
    assert_eq!(table.update(1, 1, |_| Some(1)), Updated::Busy);
    assert_eq!((table.get(1), table.capacity(), table.bytes()), (None, 0, 0));
}

#[test]
fn capacity_is_rounded_up_to_whole_buckets() {
    assert_eq!((SharedTable::new(1).capacity(), SharedTable::new(1).bytes()), (8, 192));
    assert_eq!(SharedTable::new(65).capacity(), 128);
}

#[test]
fn a_full_bucket_gives_up_its_stalest_and_no_other() {
    let table = SharedTable::new(WAYS);
    for number in 1..=8 {
        assert!(table.put(key(number), number, 100 - number));
    }
    assert!((1..=8).all(|number| table.get(key(number)) == Some(number)), "all eight ways are used");
    assert!(table.put(key(9), 9, 200));
    assert_eq!(table.get(key(8)), None);
    assert!((1..=7).chain([9]).all(|number| table.get(key(number)) == Some(number)));
}

#[test]
fn a_refreshed_entry_is_not_the_stalest() {
    let table = SharedTable::new(WAYS);
    for number in 1..=8 {
        table.put(key(number), number, number);
    }
    table.put(key(1), 1, 50);
    table.put(key(9), 9, 51);
    assert_eq!((table.get(key(1)), table.get(key(2))), (Some(1), None));
}

#[test]
fn an_update_sees_the_value_and_may_decline_without_a_write() {
    let table = SharedTable::new(8);
    assert_eq!(table.update(5, 1, |held| held.map(|value| value + 1)), Updated::Declined);
    assert_eq!(table.get(5), None);
    assert_eq!(table.update(5, 1, |held| Some(held.unwrap_or(10))), Updated::Stored(10));
    assert_eq!(table.update(5, 2, |held| held.map(|value| value + 1)), Updated::Stored(11));
    assert_eq!(table.update(5, 3, |_| None), Updated::Declined);
    assert_eq!(table.read(5), Some(Held { value: 11, stamp: 2 }));
}

#[test]
fn a_way_being_written_is_a_miss_and_refuses_its_key_alone() {
    let table = SharedTable::new(8);
    table.put(key(1), 1, 1);
    table.put(key(2), 2, 1);
    let Found::Ready(way, word) = table.buckets[0].find(tag(key(1))) else { panic!("key 1 is there") };
    assert!(way.claim(word, tag(key(1))));
    assert_eq!((table.get(key(1)), table.get(key(2))), (None, Some(2)));
    assert_eq!(table.update(key(1), 2, |_| Some(3)), Updated::Busy);
    assert!(table.put(key(2), 4, 2) && table.put(key(3), 3, 2));
    way.publish(tag(key(1)), word, 5, 2);
    assert_eq!(table.get(key(1)), Some(5));
}

#[test]
fn a_bucket_of_ways_being_written_takes_nothing_new() {
    let table = SharedTable::new(8);
    for (number, way) in (1..).zip(table.buckets[0].ways()) {
        assert!(way.claim(0, tag(key(number))));
    }
    assert!(!table.put(key(20), 1, 1));
}

#[test]
fn a_claim_for_a_key_that_came_meanwhile_is_given_back() {
    let table = SharedTable::new(8);
    table.put(key(1), 1, 1);
    assert!(table.buckets[0].claim_new(tag(key(1))).is_none());
    assert_eq!((holders(&table, key(1)), table.get(key(1))), (1, Some(1)));
}

#[test]
fn a_word_that_changed_between_is_noticed() {
    let table = SharedTable::new(8);
    table.put(key(1), 1, 1);
    let Found::Ready(way, word) = table.buckets[0].find(tag(key(1))) else { panic!("key 1 is there") };
    table.put(key(1), 2, 2);
    assert_eq!(way.read(word), None);
    assert!(!way.claim(word, tag(key(1))));
}

#[test]
fn versions_wrap_without_touching_the_tag() {
    let last = tag(key(3)) | (!TAG & !BUSY);
    assert_eq!(next_version(last), 0);
    assert_eq!(tag(key(3)) | next_version(tag(key(3))), tag(key(3)) | VERSION);
}

proptest! {
    #[test]
    fn whatever_is_found_is_what_was_last_put(
        puts in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..300),
        capacity in 1_usize..512,
    ) {
        let table = SharedTable::new(capacity);
        let mut model = HashMap::new();
        for (stamp, (key, value)) in (0..).zip(&puts) {
            prop_assert!(table.put(*key, *value, stamp));
            model.insert(*key, *value);
            prop_assert_eq!(table.get(*key), Some(*value));
        }
        for (key, value) in &model {
            prop_assert!(table.get(*key).is_none_or(|got| got == *value));
            prop_assert!(holders(&table, *key) <= 1);
        }
        let held = model.keys().filter(|key| table.get(**key).is_some()).count();
        prop_assert!(held <= table.capacity());
    }
}

#[test]
fn racing_updates_are_each_applied_once() {
    let table = SharedTable::new(8);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for stamp in 0..5_000 {
                    while table.update(1, stamp, |held| Some(held.unwrap_or(0) + 1)) == Updated::Busy {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(table.get(1), Some(20_000));
}

#[test]
fn racing_writers_of_one_bucket_never_mix_entries() {
    let table = SharedTable::new(8);
    let value_of = |number: u64, round: u64| number * 1_000_003 + (round << 40);
    thread::scope(|scope| {
        for writer in 0..3_u64 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..5_000 {
                    let number = 1 + (round * 7 + writer) % 24;
                    table.put(key(number), value_of(number, round), round);
                    let wanted = 1 + (round * 5 + writer) % 24;
                    if let Some(got) = table.get(key(wanted)) {
                        assert_eq!(got & 0xff_ffff_ffff, wanted * 1_000_003, "a value of another key");
                    }
                }
            });
        }
    });
    assert!((1..=24).all(|number| holders(&table, key(number)) <= 1));
}

#[test]
fn racing_insertions_of_one_key_leave_one() {
    for round in 0..200_u64 {
        let table = SharedTable::new(8);
        let barrier = Barrier::new(3);
        thread::scope(|scope| {
            for writer in 0..3_u64 {
                let (table, barrier) = (&table, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    table.put(key(1 + (round + writer) % 2), writer, round);
                    table.put(key(9), writer, round);
                });
            }
        });
        assert!([1, 2, 9].into_iter().all(|number| holders(&table, key(number)) <= 1));
    }
}
