//! From a hash to slots: 64-byte buckets of fifteen entries and one overflow counter.
//!
//! ```text
//! entry (32 bits):    | tag: every spare bit | slot | direction |     0 is "empty": slots begin at 1, tags are not 0
//! bucket (64 bytes):  | entry 0 | ... | entry 14 | how many entries went further |
//! ```
//!
//! An entry lives in the bucket its hash names or, when that is full, in one of the following; each bucket it went past
//! counts it, so that a search that finds a zero there stops after one line. With the index sized for half load at full
//! capacity, about one entry in a thousand lives elsewhere, and one is refused only when sixteen buckets in a row are
//! full, which no capacity comes near. A hit costs two lines of memory: its bucket and its session.
//!
//! The index holds no keys: the caller compares the candidates' tuples.

use crate::arch::{Line, prefetch};
use crate::memory::{OutOfMemory, Row, Stretch};
use crate::{Direction, Slot};

/// Sessions a table can hold at most: leaves at least five bits of tag.
pub const CAPACITY_MAX: usize = (1 << 26) - 1;

/// Entries in a bucket; the sixteenth word is the overflow counter.
const ENTRIES: u32 = 15;
const ENTRY_BITS: u32 = (1 << ENTRIES) - 1;

/// Buckets an entry may live in.
const CHOICES: u32 = 16;

/// The buckets of one table.
#[derive(Debug)]
pub(crate) struct Index {
    buckets: Row<Line>,
    count: u32,
    tag_mask: u32,
}

/// Where a hash is at home and what its entries look like.
#[derive(Clone, Copy)]
struct Home {
    bucket: u32,
    tag: u32,
}

impl Index {
    /// An index for `capacity` sessions, two entries each, at half load when they are all there.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(capacity: u32) -> Result<Self, OutOfMemory> {
        let count = (u64::from(capacity) * 4).div_ceil(u64::from(ENTRIES)).max(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // Slots are 1 to `capacity`, shifted left by the direction's bit.
        let slot_bits = u32::BITS - capacity.leading_zeros();
        Ok(Self { buckets: Row::new(count as usize)?, count, tag_mask: u32::MAX << (slot_bits + 1) })
    }

    /// Bytes of memory, touched or not.
    pub(crate) const fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// Its memory, for whoever has the kernel back it.
    pub(crate) fn stretch(&self) -> Stretch {
        self.buckets.stretch()
    }

    /// Whether there is no entry, and none that went further is counted.
    #[cfg(test)]
    pub(crate) fn is_blank(&self) -> bool {
        (0..self.count).all(|bucket| self.buckets.at(bucket).0 == [0; 16])
    }

    /// How many steps beyond their own bucket all entries together lie.
    #[cfg(test)]
    pub(crate) fn overflowed(&self) -> u32 {
        (0..self.count).map(|bucket| self.buckets.at(bucket).0[15]).sum()
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> Home {
        Home { bucket: ((u64::from(low(hash)) * u64::from(self.count)) >> 32) as u32, tag: self.tag(hash) }
    }

    #[inline(always)]
    const fn tag(&self, hash: u64) -> u32 {
        let tag = (hash >> 32) as u32 & self.tag_mask;
        // The lowest tag bit stands in for a tag of zero, which is kept for "empty".
        if tag == 0 { self.tag_mask & self.tag_mask.wrapping_neg() } else { tag }
    }

    /// The bucket after `bucket`.
    #[inline]
    const fn following(&self, bucket: u32) -> u32 {
        let next = bucket + 1;
        if next == self.count { 0 } else { next }
    }

    #[inline]
    const fn read(&self, entry: u32) -> (Slot, Direction) {
        Self::unpack(entry & !self.tag_mask)
    }

    /// Asks for the home bucket of `hash`.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(core::ptr::from_ref(self.buckets.at_fraction(low(hash))).cast());
    }

    /// The first candidate in the home bucket, without its tag, for [`Index::unpack`]; 0 when there is none.
    #[inline(always)]
    pub(crate) fn first(&self, hash: u64) -> u32 {
        let line = self.buckets.at_fraction(low(hash));
        let matching = line.matching(self.tag(hash), self.tag_mask) & ENTRY_BITS;
        line.0.get(matching.trailing_zeros() as usize).map_or(0, |entry| entry & !self.tag_mask)
    }

    /// Whether no entry that is at home in the bucket of `hash` lives elsewhere.
    #[inline(always)]
    pub(crate) const fn is_together(&self, hash: u64) -> bool {
        let [.., overflowed] = self.buckets.at_fraction(low(hash)).0;
        overflowed == 0
    }

    /// Slot and direction of an entry without its tag.
    #[inline(always)]
    pub(crate) const fn unpack(entry: u32) -> (Slot, Direction) {
        (Slot::new(entry >> 1), Direction::from_bit(entry))
    }

    /// The first entry of `hash` that `is_it` recognises.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(Slot, Direction) -> bool) -> Option<(Slot, Direction)> {
        let Home { mut bucket, tag } = self.home(hash);
        for _ in 0..CHOICES {
            let line = self.buckets.at(bucket);
            let mut matching = line.matching(tag, self.tag_mask) & ENTRY_BITS;
            while matching != 0 {
                let entry = line.0.get(matching.trailing_zeros() as usize).copied().unwrap_or_default();
                let (slot, direction) = self.read(entry);
                if is_it(slot, direction) {
                    return Some((slot, direction));
                }
                matching &= matching - 1;
            }
            let [.., overflowed] = line.0;
            if overflowed == 0 {
                return None;
            }
            bucket = self.following(bucket);
        }
        None
    }

    /// Adds the entry of a tuple that is certainly new: no entry of its bucket looks like it, none went further, and there is
    /// room. False, and nothing has changed, when one of these is not so.
    #[inline]
    pub(crate) fn insert_new(&mut self, hash: u64, slot: Slot, direction: Direction) -> bool {
        let Home { bucket, tag } = self.home(hash);
        let mask = self.tag_mask;
        let line = self.buckets.at_mut(bucket);
        let alike = line.matching(tag, mask) & ENTRY_BITS;
        let free = line.matching(0, u32::MAX) & ENTRY_BITS;
        let [.., overflowed] = line.0;
        if alike != 0 || overflowed != 0 {
            return false;
        }
        let place = line.0.get_mut(free.trailing_zeros() as usize).filter(|_| free != 0);
        place.map(|place| *place = tag | slot.get() << 1 | u32::from(direction as u8)).is_some()
    }

    /// Adds an entry. False when every bucket it may live in is full; nothing has changed then.
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot, direction: Direction) -> bool {
        let home = self.home(hash);
        let entry = home.tag | slot.get() << 1 | u32::from(direction as u8);
        let mut bucket = home.bucket;
        for passed in 0..CHOICES {
            let line = self.buckets.at_mut(bucket);
            let free = line.matching(0, u32::MAX) & ENTRY_BITS;
            if let Some(place) = line.0.get_mut(free.trailing_zeros() as usize).filter(|_| free != 0) {
                *place = entry;
                self.count_passed(home.bucket, passed, 1);
                return true;
            }
            bucket = self.following(bucket);
        }
        false
    }

    /// Removes an entry. False when it was not there.
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot, direction: Direction) -> bool {
        let home = self.home(hash);
        let entry = home.tag | slot.get() << 1 | u32::from(direction as u8);
        let mut bucket = home.bucket;
        for passed in 0..CHOICES {
            let line = self.buckets.at_mut(bucket);
            let found = line.matching(entry, u32::MAX) & ENTRY_BITS;
            if let Some(place) = line.0.get_mut(found.trailing_zeros() as usize).filter(|_| found != 0) {
                *place = 0;
                self.count_passed(home.bucket, passed, 1_u32.wrapping_neg());
                return true;
            }
            bucket = self.following(bucket);
        }
        false
    }

    /// Adds `change` to the overflow counters of the first `passed` buckets from `bucket` on.
    fn count_passed(&mut self, mut bucket: u32, passed: u32, change: u32) {
        for _ in 0..passed {
            let [.., overflowed] = &mut self.buckets.at_mut(bucket).0;
            *overflowed = overflowed.wrapping_add(change);
            bucket = self.following(bucket);
        }
    }
}

/// The half of a hash that names a bucket.
#[expect(clippy::cast_possible_truncation, reason = "the other half is the tag's")]
const fn low(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// A hash at home in this bucket of `index`, with a tag that follows from `tag`.
    fn hash(index: &Index, bucket: u32, tag: u32) -> u64 {
        let low = ((u64::from(bucket) << 32).div_ceil(u64::from(index.count))).max(u64::from(bucket));
        let hash = u64::from(tag.wrapping_mul(2_654_435_761)) << 32 | low;
        assert_eq!(index.home(hash).bucket, bucket);
        hash
    }

    fn find(index: &Index, hash: u64, slot: u32) -> Option<(Slot, Direction)> {
        index.find(hash, |candidate, _| candidate == Slot::new(slot))
    }

    #[test]
    fn entries_go_further_when_their_bucket_is_full_and_all_is_undone() {
        let mut index = Index::new(1_000).unwrap();
        // The last bucket, so that the way leads around the end.
        let home = index.count - 1;
        let places = ENTRIES * CHOICES;
        for slot in 1..=places {
            assert!(index.insert(hash(&index, home, slot), Slot::new(slot), Direction::Reply), "{slot}");
        }
        assert!(!index.insert(hash(&index, home, 900), Slot::new(900), Direction::Reply), "every choice is full");
        for slot in 1..=places {
            assert_eq!(
                find(&index, hash(&index, home, slot), slot),
                Some((Slot::new(slot), Direction::Reply)),
                "{slot}"
            );
        }
        assert_eq!(find(&index, hash(&index, home, 900), 900), None);
        assert!(!index.remove(hash(&index, home, 1), Slot::new(1), Direction::Original), "the other direction");
        for slot in (1..=places).rev() {
            assert!(index.remove(hash(&index, home, slot), Slot::new(slot), Direction::Reply));
            assert!(!index.remove(hash(&index, home, slot), Slot::new(slot), Direction::Reply), "removed once");
        }
        assert_eq!(index.overflowed(), 0);
        assert!((0..index.count).all(|bucket| index.buckets.at(bucket).0 == [0; 16]));
    }

    #[test]
    fn a_search_ends_where_nothing_went_further() {
        let mut index = Index::new(1_000).unwrap();
        for slot in 1..=ENTRIES {
            index.insert(hash(&index, 3, slot), Slot::new(slot), Direction::Original);
        }
        let mut looked_at = 0;
        assert_eq!(
            index.find(hash(&index, 3, 77), |_, _| {
                looked_at += 1;
                false
            }),
            None
        );
        assert_eq!(index.overflowed(), 0);
        assert!(looked_at <= 1, "tags tell almost all apart");
        index.insert(hash(&index, 3, 16), Slot::new(16), Direction::Original);
        assert_eq!(index.overflowed(), 1);
        assert!(find(&index, hash(&index, 3, 16), 16).is_some());
    }

    #[test]
    fn a_tag_of_zero_is_told_from_an_empty_place() {
        let mut index = Index::new(100).unwrap();
        assert_eq!(index.first(0), 0);
        assert_eq!(index.find(0, |_, _| true), None);
        assert!(index.insert(0, Slot::new(1), Direction::Original));
        assert_eq!(Index::unpack(index.first(0)), (Slot::new(1), Direction::Original));
        assert!(index.remove(0, Slot::new(1), Direction::Original));
        assert_eq!(index.first(0), 0);
    }

    #[test]
    fn the_largest_table_still_has_tags() {
        let capacity = u32::try_from(CAPACITY_MAX).unwrap();
        let slot_bits = u32::BITS - capacity.leading_zeros();
        assert_eq!((u32::MAX << (slot_bits + 1)).count_ones(), 5);
    }

    proptest! {
        /// Crowded: every key at home in one of three buckets of a small index.
        #[test]
        fn agrees_with_a_map_however_crowded(steps in prop::collection::vec((0..3_u32, 1..60_u32, any::<bool>()), 1..300)) {
            let mut index = Index::new(100).unwrap();
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (bucket, slot, insert) in steps {
                if let Some(there) = model.get(&slot).copied() {
                    if !insert {
                        prop_assert!(index.remove(there, Slot::new(slot), Direction::Original));
                        model.remove(&slot);
                    }
                } else if insert {
                    let hash = hash(&index, bucket * 2, slot);
                    prop_assert!(index.insert(hash, Slot::new(slot), Direction::Original));
                    model.insert(slot, hash);
                }
                for (&slot, &hash) in &model {
                    prop_assert!(find(&index, hash, slot).is_some());
                }
            }
            for (slot, hash) in model {
                prop_assert!(index.remove(hash, Slot::new(slot), Direction::Original));
            }
            prop_assert_eq!(index.overflowed(), 0);
        }
    }
}
