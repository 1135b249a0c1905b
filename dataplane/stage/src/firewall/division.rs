//! How the entries of one family are shared out to several tables of a classifier. A table's memory grows with the ways in
//! which its entries cross each other, and what compiling it takes grows faster still: many entries, or entries that cross
//! much, are less work in several tables than in one. Which table an entry is in does not matter for the answer, the lowest
//! rule of all tables' answers; so entries go together whose addresses lie near each other, and a packet needs to be looked
//! up only in tables that have its addresses.
//!
//! Pure; called in management when a policy is compiled, by classifiers over tables.

use core::ops::RangeInclusive;
use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use units::limits::{CLASSIFIER_DIVIDED_MIN, CLASSIFIER_PART_ENTRIES, CLASSIFIER_TABLE_ENTRIES};

use super::Entry;

/// One end of an entry.
type End = fn(&Entry) -> IpNet;

const ENDS: [End; 2] = [|entry| entry.source, |entry| entry.destination];

/// Shares `entries` out to tables: up to [`CLASSIFIER_TABLE_ENTRIES`] go in one, as they are; more in parts of up to
/// [`CLASSIFIER_PART_ENTRIES`], neighbours together. No table is empty.
#[must_use]
pub fn divide(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    divide_by(entries, CLASSIFIER_TABLE_ENTRIES, CLASSIFIER_PART_ENTRIES)
}

fn divide_by(mut entries: Vec<Entry>, most: usize, part: usize) -> Vec<Vec<Entry>> {
    if entries.len() <= most {
        return if entries.is_empty() { Vec::new() } else { vec![entries] };
    }
    let end = leading_end(&entries);
    sort_by(&mut entries, end);
    // Those for every address are in the way of all others: a table with one of them is asked about every packet.
    let named = entries.split_off(entries.partition_point(|entry| end(entry).prefix_len() == 0));
    let mut tables = Vec::new();
    for group in [entries, named] {
        let size = group.len().div_ceil(group.len().div_ceil(part).max(1)).max(1);
        tables.extend(group.chunks(size).map(<[Entry]>::to_vec));
    }
    tables
}

/// Two tables in the place of one that was too much: wide prefixes apart from narrow ones, which lie within them and make
/// them cross; where there is no such difference, one half of the addresses apart from the other. `None` below
/// [`CLASSIFIER_DIVIDED_MIN`] entries.
#[must_use]
pub fn split(mut entries: Vec<Entry>) -> Option<[Vec<Entry>; 2]> {
    if entries.len() < CLASSIFIER_DIVIDED_MIN {
        return None;
    }
    let lengths = |end: End| {
        let lengths = || entries.iter().map(|entry| end(entry).prefix_len());
        lengths().min().unwrap_or(0)..=lengths().max().unwrap_or(0)
    };
    let spread = |lengths: &RangeInclusive<u8>| lengths.end() - lengths.start();
    let ends = ENDS.map(|end| (end, lengths(end)));
    let widest = ends.iter().max_by_key(|(_, lengths)| spread(lengths)).filter(|(_, lengths)| spread(lengths) > 0);
    if let Some((end, lengths)) = widest {
        let middle = lengths.start() + spread(lengths) / 2;
        let (wide, narrow) = entries.into_iter().partition(|entry| end(entry).prefix_len() <= middle);
        return Some([wide, narrow]);
    }
    let end = leading_end(&entries);
    sort_by(&mut entries, end);
    let upper = entries.split_off(entries.len() / 2);
    Some([entries, upper])
}

/// The end in which entries differ most.
fn leading_end(entries: &[Entry]) -> End {
    let [source, destination] = ENDS;
    let different = |end: End| entries.iter().map(end).collect::<HashSet<_>>().len();
    if different(source) > different(destination) { source } else { destination }
}

fn sort_by(entries: &mut [Entry], end: End) {
    entries.sort_by_key(|entry| (end(entry).prefix_len() > 0, end(entry)));
}

/// The addresses that some entries are about: whatever lies outside matches none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    source: RangeInclusive<u128>,
    destination: RangeInclusive<u128>,
}

impl Reach {
    /// What `entries` of one family reach.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let [source, destination] = ENDS.map(|end| {
            let first = entries.iter().map(|entry| number(end(entry).network())).min();
            let last = entries.iter().map(|entry| number(end(entry).broadcast())).max();
            first.unwrap_or(u128::MAX)..=last.unwrap_or(0)
        });
        Self { source, destination }
    }

    /// Whether a packet from `source` to `destination`, both as numbers, can match any of them.
    #[must_use]
    pub fn has(&self, source: u128, destination: u128) -> bool {
        self.source.contains(&source) && self.destination.contains(&destination)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use units::RuleId;

    use super::*;
    use crate::PortRange;

    fn entry(rule: u32, source: &str, destination: &str) -> Entry {
        Entry {
            rule: RuleId::new(rule),
            from: None,
            to: None,
            protocol: None,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: PortRange::ANY,
            destination_port: PortRange::ANY,
        }
    }

    fn hosts(count: u32) -> Vec<Entry> {
        // Not in order, as nobody writes them.
        (0..count)
            .map(|rule| {
                let host = rule * 7_919 % count;
                entry(rule, "0.0.0.0/0", &format!("10.0.{}.{}/32", host / 256, host % 256))
            })
            .collect()
    }

    fn rules(tables: &[Vec<Entry>]) -> Vec<u32> {
        let mut rules: Vec<u32> = tables.iter().flatten().map(|entry| entry.rule.get()).collect();
        rules.sort_unstable();
        rules
    }

    #[test]
    fn as_many_as_one_table_takes_stay_as_they_are() {
        let entries = hosts(100);
        assert_eq!(divide_by(entries.clone(), 100, 60), [entries]);
        assert_eq!(divide(Vec::new()), Vec::<Vec<Entry>>::new());
    }

    #[test]
    fn one_more_makes_two_tables_of_neighbours() {
        let tables = divide_by(hosts(101), 100, 60);
        assert_eq!(tables.iter().map(Vec::len).collect::<Vec<_>>(), [51, 50]);
        assert_eq!(rules(&tables), (0..101).collect::<Vec<_>>());
        let reaches: Vec<Reach> = tables.iter().map(|table| Reach::of(table)).collect();
        let host = |last: u32| u128::from(0x0a00_0000 + last);
        for last in 0..101 {
            let having: Vec<bool> = reaches.iter().map(|reach| reach.has(1, host(last))).collect();
            assert_eq!(having, [last <= 50, last > 50], "{last}");
        }
    }

    #[test]
    fn entries_for_every_address_have_tables_of_their_own() {
        let mut entries = hosts(150);
        entries.extend((0..30).map(|rule| entry(150 + rule, "192.0.2.0/24", "0.0.0.0/0")));
        let tables = divide_by(entries, 100, 80);
        assert_eq!(tables.iter().map(Vec::len).collect::<Vec<_>>(), [30, 75, 75]);
        assert!(Reach::of(&tables[0]).has(0xc000_0201, u128::from(u32::MAX)));
        assert!(!Reach::of(&tables[0]).has(0x0a00_0000, u128::from(u32::MAX)));
        assert_eq!(rules(&tables), (0..180).collect::<Vec<_>>());
    }

    #[test]
    fn wide_prefixes_part_from_narrow_ones_first_where_they_differ_most() {
        let mut entries: Vec<Entry> = (0..60).map(|rule| entry(rule, "0.0.0.0/0", "10.0.0.0/28")).collect();
        entries.extend((60..200).map(|rule| entry(rule, &format!("10.9.0.{rule}/32"), "10.0.0.0/30")));
        let [wide, narrow] = split(entries).unwrap();
        assert_eq!((wide.len(), narrow.len()), (60, 140));
        let [lower, upper] = split(narrow).unwrap();
        assert!(lower.iter().map(|entry| entry.source).max() < upper.iter().map(|entry| entry.source).min());
        assert_eq!((lower.len(), upper.len()), (70, 70));
    }

    #[test]
    fn what_is_divided_again_and_again_comes_to_an_end() {
        // Nothing tells these apart.
        let mut waiting = vec![(0..1_000).map(|rule| entry(rule, "::/0", "2001:db8::/64")).collect::<Vec<_>>()];
        let mut whole = Vec::new();
        while let Some(entries) = waiting.pop() {
            match split(entries.clone()) {
                Some(halves) => {
                    assert!(halves.iter().all(|half| !half.is_empty() && half.len() < entries.len()));
                    waiting.extend(halves);
                }
                None => whole.push(entries),
            }
        }
        assert_eq!(rules(&whole), (0..1_000).collect::<Vec<_>>());
    }
}
