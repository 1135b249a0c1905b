//! A map that takes all its room when it is made and never more: for what a worker remembers between packets. Memory is
//! touched only as entries come, so a large map that is not used costs address space alone.
//!
//! The caller brings the hashes, keyed with a secret where strangers choose the keys. Nothing here allocates after
//! [`Bounded::new`]; a full map is an outcome.

/// The number of an entry, from 1: good until the entry is removed, afterwards it may name another.
pub type Number = u32;

#[derive(Clone, Copy, Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    /// The next entry with the same head or, of a removed one, the next free one; 0 for none.
    next: Number,
    live: bool,
}

/// At most a fixed number of entries, found by key or by number.
#[derive(Debug)]
pub struct Bounded<K, V> {
    /// The first entry of each chain; as many as there are entries, or up to twice.
    heads: Box<[Number]>,
    entries: Vec<Entry<K, V>>,
    capacity: usize,
    free: Number,
    len: usize,
}

impl<K: Copy + Eq, V: Copy> Bounded<K, V> {
    /// An empty map of at most `capacity` entries (and at most 2^30).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(1 << 30);
        // Zeroed by the kernel page by page, as they are touched.
        let heads = vec![0; capacity.next_power_of_two()].into();
        Self { heads, entries: Vec::with_capacity(capacity), capacity, free: 0, len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another entry would be refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Bytes set aside, touched or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.heads.len() * size_of::<Number>() + self.capacity * size_of::<Entry<K, V>>()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash, cut to a power of two")]
    fn head(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    fn entry(&self, number: Number) -> Option<&Entry<K, V>> {
        self.entries.get((number as usize).checked_sub(1)?)
    }

    fn entry_mut(&mut self, number: Number) -> Option<&mut Entry<K, V>> {
        self.entries.get_mut((number as usize).checked_sub(1)?)
    }

    /// The entry with this key, whose hash is `hash`.
    #[must_use]
    pub fn find(&self, hash: u64, key: &K) -> Option<Number> {
        let mut number = self.heads.get(self.head(hash)).copied()?;
        while let Some(entry) = self.entry(number) {
            if entry.key == *key {
                return Some(number);
            }
            number = entry.next;
        }
        None
    }

    /// The key and value of an entry.
    #[must_use]
    pub fn get(&self, number: Number) -> Option<(&K, &V)> {
        self.entry(number).filter(|entry| entry.live).map(|entry| (&entry.key, &entry.value))
    }

    /// The value of an entry, to be changed.
    pub fn get_mut(&mut self, number: Number) -> Option<&mut V> {
        self.entry_mut(number).filter(|entry| entry.live).map(|entry| &mut entry.value)
    }

    /// Gives an entry another key with the same hash: it is no longer found by the old one.
    pub fn rename(&mut self, number: Number, key: K) {
        if let Some(entry) = self.entry_mut(number).filter(|entry| entry.live) {
            entry.key = key;
        }
    }

    /// Adds an entry that is not there yet; `None`, and nothing changed, when the map is full.
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<Number> {
        let head = self.head(hash);
        let next = self.heads.get(head).copied()?;
        let entry = Entry { key, value, next, live: true };
        let number = if let Some(place) = self.entry_mut(self.free) {
            let after = place.next;
            *place = entry;
            core::mem::replace(&mut self.free, after)
        } else if self.entries.len() < self.capacity {
            self.entries.push(entry);
            Number::try_from(self.entries.len()).ok()?
        } else {
            return None;
        };
        *self.heads.get_mut(head)? = number;
        self.len += 1;
        Some(number)
    }

    /// Removes an entry, whose key's hash is `hash`. False when it was not there.
    pub fn remove(&mut self, hash: u64, number: Number) -> bool {
        let head = self.head(hash);
        let Some(next) = self.entry(number).filter(|entry| entry.live).map(|entry| entry.next) else { return false };
        let mut at = self.heads.get(head).copied().unwrap_or(0);
        if at == number {
            if let Some(first) = self.heads.get_mut(head) {
                *first = next;
            }
        } else {
            loop {
                let Some(entry) = self.entry_mut(at) else { return false };
                if entry.next == number {
                    entry.next = next;
                    break;
                }
                at = entry.next;
            }
        }
        let free = self.free;
        if let Some(entry) = self.entry_mut(number) {
            entry.live = false;
            entry.next = free;
        }
        self.free = number;
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_full_map_refuses_and_takes_again_what_was_given_back() {
        let mut map = Bounded::new(2);
        let first = map.insert(7, "a", 1).unwrap();
        assert!(map.insert(7, "b", 2).is_some() && map.is_full());
        assert_eq!(map.insert(7, "c", 3), None);
        assert!(map.remove(7, first) && !map.remove(7, first));
        assert_eq!(map.get(first), None);
        assert!(map.insert(9, "c", 3).is_some());
        assert_eq!((map.find(7, &"b").is_some(), map.find(7, &"a")), (true, None));
        let mut none = Bounded::<u8, u8>::new(0);
        assert_eq!((none.insert(1, 1, 1), none.find(1, &1)), (None, None));
    }

    proptest! {
        /// Against the standard map, with hashes so poor that chains are long.
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec((0..40_u16, any::<bool>()), 1..500)) {
            let mut map = Bounded::new(16);
            let mut model: HashMap<u16, u32> = HashMap::new();
            for (step, (key, insert)) in (0_u32..).zip(steps) {
                let hash = u64::from(key % 5);
                match (insert, map.find(hash, &key)) {
                    (true, None) => {
                        let inserted = map.insert(hash, key, step);
                        prop_assert_eq!(inserted.is_some(), model.len() < 16);
                        if inserted.is_some() {
                            model.insert(key, step);
                        }
                    }
                    (false, Some(number)) => {
                        prop_assert!(map.remove(hash, number));
                        model.remove(&key);
                    }
                    (true, Some(_)) | (false, None) => {}
                }
                prop_assert_eq!(map.len(), model.len());
                for key in 0..40_u16 {
                    let found = map.find(u64::from(key % 5), &key).and_then(|number| map.get(number));
                    prop_assert_eq!(found.map(|(_, &value)| value), model.get(&key).copied());
                }
            }
        }
    }
}
