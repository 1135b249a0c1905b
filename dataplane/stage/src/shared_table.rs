//! A bounded table of 64-bit words that all workers read and write at once: limiter cells by rule and source, the
//! backend a source had last. It never grows and never waits: a bucket of eight ways is all a key can be in, and a new
//! key takes an empty way or that of the stalest stamp. So an entry may go before the table is full, when its bucket
//! is.
//!
//! What races may do, exactly. Each way has a word of tag, version and busy mark; every write claims the way by setting
//! the mark, and publishes by clearing it with the next version.
//! - A value that is read was put under that key (up to a false match of tags, 2^-40 for each of eight ways), never
//!   mixed from two writes: the version is read before and after.
//! - An update is applied once to the value its closure saw, or not at all and says so ([`Updated::Busy`]). It tries
//!   `TRIES` times; in practice only a worker stopped in the middle of a write to that key makes it fail: a reader
//!   then misses that key until the worker goes on.
//! - A key is never in two ways: who claims a way for a new key looks at the others again, and gives back if the key
//!   came meanwhile.
//!
//! Keys are hashes. Whoever takes them from packets hashes with a secret, or an attacker chooses which entries go.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

/// Ways of a bucket: their words fill one cache line.
const WAYS: usize = 8;

/// Attempts before an update gives up and a read misses: more than workers can collide in a burst, a few microseconds.
const TRIES: usize = 64;

/// Entries beyond which a capacity is cut: 6 GiB.
const CAPACITY_MAX: usize = 1 << 28;

/// Set in a word while its way is being written.
const BUSY: u64 = 1;
/// One version in a word.
const VERSION: u64 = 1 << 1;
/// The bits of a word that hold the tag: the upper 40 of the key; 0 for an empty way.
const TAG: u64 = u64::MAX << 24;

/// The table. Shape: 192 bytes for eight entries, all of them allocated at the start.
#[derive(Debug)]
pub struct SharedTable {
    buckets: Box<[Bucket]>,
}

/// Words first: a miss reads one line, a hit two; stamps are read only to choose who goes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    ways: [AtomicU64; WAYS],
    values: [AtomicU64; WAYS],
    stamps: [AtomicU64; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 3 * 64);

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// This value is now in the table.
    Stored(u64),
    /// The closure declined; nothing was written.
    Declined,
    /// Nothing was written: others wrote to the same place all the time, or the table has no room at all.
    Busy,
}

/// A value as read, and the stamp it was last written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The value.
    pub value: u64,
    /// The stamp.
    pub stamp: u64,
}

/// One way of a bucket, borrowed.
#[derive(Clone, Copy)]
struct Way<'a> {
    word: &'a AtomicU64,
    value: &'a AtomicU64,
    stamp: &'a AtomicU64,
}

/// Where a key is.
enum Found<'a> {
    /// In this way, whose word was this.
    Ready(Way<'a>, u64),
    /// In a way that is being written.
    Busy,
    /// Nowhere.
    Absent,
}

impl SharedTable {
    /// A table of at least `capacity` entries (the next power of two of buckets; at most 2^28), or of none at all for
    /// 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let buckets = match capacity.min(CAPACITY_MAX) {
            0 => 0,
            capacity => capacity.div_ceil(WAYS).next_power_of_two(),
        };
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect() }
    }

    /// How many entries fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<u64> {
        self.read(key).map(|held| held.value)
    }

    /// The value of `key`, and the stamp it was written with.
    #[must_use]
    pub fn read(&self, key: u64) -> Option<Held> {
        let bucket = self.bucket(key)?;
        for _ in 0..TRIES {
            match bucket.find(tag(key)) {
                Found::Ready(way, word) => {
                    if let Some(held) = way.read(word) {
                        return Some(held);
                    }
                }
                Found::Busy => spin_loop(),
                Found::Absent => return None,
            }
        }
        None
    }

    /// Puts `value` under `key` with `stamp`, whatever was there; false when nothing was written ([`Updated::Busy`]).
    ///
    /// Stamps order entries by age, larger ones are younger; a moment or a tick does.
    pub fn put(&self, key: u64, value: u64, stamp: u64) -> bool {
        matches!(self.update(key, stamp, |_| Some(value)), Updated::Stored(_))
    }

    /// Replaces the value of `key`, given to `change`, by what `change` returns, and its stamp by `stamp`. `None`
    /// leaves everything as it is, without a write. `change` may be asked several times, and only its last answer
    /// counts.
    pub fn update(&self, key: u64, stamp: u64, mut change: impl FnMut(Option<u64>) -> Option<u64>) -> Updated {
        let Some(bucket) = self.bucket(key) else { return Updated::Busy };
        for _ in 0..TRIES {
            match bucket.find(tag(key)) {
                Found::Ready(way, word) => {
                    let Some(held) = way.read(word) else { continue };
                    let Some(value) = change(Some(held.value)) else { return Updated::Declined };
                    if way.claim(word, tag(key)) {
                        way.publish(tag(key), word, value, stamp);
                        return Updated::Stored(value);
                    }
                }
                Found::Busy => spin_loop(),
                Found::Absent => {
                    let Some(value) = change(None) else { return Updated::Declined };
                    if let Some((way, word)) = bucket.claim_new(tag(key)) {
                        way.publish(tag(key), word, value, stamp);
                        return Updated::Stored(value);
                    }
                }
            }
        }
        Updated::Busy
    }

    fn bucket(&self, key: u64) -> Option<&Bucket> {
        let mask = u64::try_from(self.buckets.len().checked_sub(1)?).ok()?;
        self.buckets.get(usize::try_from(key & mask).ok()?)
    }
}

/// What a word remembers of a key: the bits that do not choose the bucket, never 0.
const fn tag(key: u64) -> u64 {
    match key & TAG {
        0 => VERSION << 23,
        tag => tag,
    }
}

const _: () = assert!(VERSION << 23 & TAG != 0);

/// The version after that of `word`, without tag and mark.
const fn next_version(word: u64) -> u64 {
    word.wrapping_add(VERSION) & !TAG & !BUSY
}

impl Bucket {
    fn ways(&self) -> impl Iterator<Item = Way<'_>> {
        let places = self.ways.iter().zip(&self.values).zip(&self.stamps);
        places.map(|((word, value), stamp)| Way { word, value, stamp })
    }

    fn find(&self, tag: u64) -> Found<'_> {
        for way in self.ways() {
            let word = way.word.load(Ordering::Acquire);
            if word & TAG == tag {
                return if word & BUSY == 0 { Found::Ready(way, word) } else { Found::Busy };
            }
        }
        Found::Absent
    }

    /// Claims an empty way, else the stalest, for a key that is in none; with the word it had. `None` when another was
    /// faster or the key appeared: look again.
    fn claim_new(&self, tag: u64) -> Option<(Way<'_>, u64)> {
        let free = self.ways().map(|way| (way, way.word.load(Ordering::Acquire))).filter(|(_, word)| word & BUSY == 0);
        // Empty ways count as staler than any stamp.
        let (way, word) =
            free.min_by_key(
                |(way, word)| {
                    if word & TAG == 0 { (false, 0) } else { (true, way.stamp.load(Ordering::Relaxed)) }
                },
            )?;
        if !way.claim(word, tag) {
            return None;
        }
        // Of two workers that claim ways for one key, at least one sees the other here: both claims come before both
        // looks in the one order of sequentially consistent operations.
        if self.ways.iter().filter(|other| other.load(Ordering::SeqCst) & TAG == tag).count() > 1 {
            way.word.store(next_version(word), Ordering::Release);
            return None;
        }
        Some((way, word))
    }
}

impl Way<'_> {
    /// The value and stamp under `word`, or `None` if it changed meanwhile.
    fn read(self, word: u64) -> Option<Held> {
        // A value from a later write brings that write's busy mark with it (release and acquire on the value), so the
        // word no longer compares equal.
        let held = Held { value: self.value.load(Ordering::Acquire), stamp: self.stamp.load(Ordering::Acquire) };
        (self.word.load(Ordering::Relaxed) == word).then_some(held)
    }

    /// Takes the way for writing under `tag`, if its word is still `word`.
    fn claim(self, word: u64, tag: u64) -> bool {
        let busy = tag | (word & !TAG) | BUSY;
        self.word.compare_exchange(word, busy, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Writes a claimed way whose word was `word`, and lets it go.
    fn publish(self, tag: u64, word: u64, value: u64, stamp: u64) {
        self.value.store(value, Ordering::Release);
        self.stamp.store(stamp, Ordering::Release);
        self.word.store(tag | next_version(word), Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
