//! How many sessions each source has open, against the limit of the zone it comes from. Shared by all workers, without
//! locks: a source's sessions are spread over them.
//!
//! One word a source, eight words a bucket, one cache line: a tag of the source and its count. A count is exact as long as
//! it is not 0, and nothing else takes its word meanwhile, so a flood of other sources makes nobody's limit wrong. A source
//! that finds its bucket full of others is not counted; the table has twice as many words as there can be sessions, so that
//! only happens when nearly every session has a source of its own, which no limit for one source is against.

use core::hash::BuildHasher;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::net::IpAddr;
use std::sync::Arc;

use units::{PortId, TenantId, ZoneId};

use crate::Keyed;

/// Words of a bucket: one cache line.
const WAYS: usize = 8;

/// Words for each session there can be.
const WORDS_PER_SESSION: usize = 2;

/// Attempts before a word is given up: others have changed it as often meanwhile.
const TRIES: usize = 64;

/// The bits of a word that count.
const COUNT: u64 = (1 << 24) - 1;

/// The largest limit.
pub const OPEN_SESSIONS_MAX: u32 = 1_000_000;

const _: () = assert!((OPEN_SESSIONS_MAX as u64) < COUNT);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// Whose sessions are counted together: those of an address of a tenant, from a zone. An IPv6 address counts by its /64, which
/// is what one host can use at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The zone it is in.
    pub zone: ZoneId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its address.
    pub address: IpAddr,
}

/// What became of a session that was to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts, until it is given back.
    Counted,
    /// It does not count: there is no room for its source.
    Uncounted,
    /// Its source has as many as it may.
    Refused,
}

/// The counts of all sources.
#[derive(Debug)]
pub struct OpenSessions {
    buckets: Box<[Bucket]>,
    secret: Keyed,
}

impl OpenSessions {
    /// Counts for the sources of at most `sessions` sessions.
    #[must_use]
    pub fn new(sessions: usize) -> Self {
        let buckets = (sessions.max(1) * WORDS_PER_SESSION).div_ceil(WAYS).next_power_of_two();
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect(), secret: Keyed::default() }
    }

    /// Counts one more session of `source`, if it has fewer than `limit`.
    pub fn take(&self, source: Source, limit: u32) -> Taken {
        let Some((bucket, tag)) = self.place(source) else { return Taken::Uncounted };
        for _ in 0..TRIES {
            let (mut open, mut own, mut free) = (0, None, None);
            for word in &bucket.0 {
                let held = word.load(Relaxed);
                if held & COUNT == 0 {
                    free = free.or(Some((word, held)));
                } else if held & !COUNT == tag {
                    // In two words when two workers counted its first session at once.
                    open += held & COUNT;
                    own = own.or(Some((word, held)));
                }
            }
            if open >= u64::from(limit) {
                return Taken::Refused;
            }
            let Some((word, held)) = own.or(free) else { return Taken::Uncounted };
            if word.compare_exchange_weak(held, tag | ((held & COUNT) + 1), Relaxed, Relaxed).is_ok() {
                return Taken::Counted;
            }
        }
        Taken::Refused
    }

    /// A session that was counted has ended.
    pub fn give_back(&self, source: Source) {
        let Some((bucket, tag)) = self.place(source) else { return };
        for _ in 0..TRIES {
            let counted = bucket.0.iter().map(|word| (word, word.load(Relaxed)));
            let Some((word, held)) = counted.into_iter().find(|(_, held)| held & !COUNT == tag && held & COUNT > 0)
            else {
                return;
            };
            if word.compare_exchange_weak(held, held - 1, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The bucket of a source, and its tag.
    fn place(&self, Source { zone, tenant, address }: Source) -> Option<(&Bucket, u64)> {
        let hash = match address {
            IpAddr::V4(address) => self.secret.hash_one((tenant, zone, 4_u8, u64::from(address.to_bits()))),
            IpAddr::V6(address) => self.secret.hash_one((tenant, zone, 6_u8, (address.to_bits() >> 64) as u64)),
        };
        let mask = self.buckets.len() - 1;
        let bucket = self.buckets.get(usize::try_from(hash & COUNT).unwrap_or(0) & mask)?;
        Some((bucket, hash & !COUNT))
    }
}

/// The limits of one policy, and the counts, which outlive it.
#[derive(Clone, Debug, Default)]
pub struct SourceLimits {
    /// By zone; zones beyond have none.
    zones: Box<[Option<u32>]>,
    /// By port: the zone it was in when counting began. Its sources count under that whatever zone it is in later, or what
    /// a session has taken could not be given back.
    counted: Box<[ZoneId]>,
    open: Option<Arc<OpenSessions>>,
}

impl SourceLimits {
    /// Each zone's limit, by number, and the zone of each port. Counts go on from `previous`; without, they are made as soon
    /// as a zone has a limit, for `sessions` sessions.
    #[must_use]
    pub fn new(zones: Vec<Option<u32>>, ports: Vec<ZoneId>, sessions: usize, previous: Option<&Self>) -> Self {
        let before = previous.and_then(|previous| Some((Arc::clone(previous.open.as_ref()?), &previous.counted)));
        let wanted = zones.iter().any(Option::is_some);
        let (open, counted) = match before {
            Some((open, counted)) => (Some(open), counted.clone()),
            None => (wanted.then(|| Arc::new(OpenSessions::new(sessions))), ports.into()),
        };
        Self { zones: zones.into(), counted, open }
    }

    /// The zone that sources which come by this port count under.
    #[must_use]
    pub fn counted(&self, port: PortId) -> ZoneId {
        self.counted.get(port.index()).copied().unwrap_or(ZoneId::APPLIANCE)
    }

    /// The limit of a zone, with the counts.
    #[must_use]
    pub fn limit(&self, zone: ZoneId) -> Option<(&OpenSessions, u32)> {
        let limit = *self.zones.get(zone.index())?;
        self.open.as_deref().zip(limit)
    }

    /// The counts, if there have ever been limits.
    #[must_use]
    pub fn open(&self) -> Option<&OpenSessions> {
        self.open.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const ZONE: ZoneId = ZoneId::new(1);

    fn from(address: &str) -> Source {
        Source { zone: ZONE, tenant: TenantId::NONE, address: address.parse().unwrap() }
    }

    fn counted(open: &OpenSessions, source: &str, limit: u32) -> usize {
        (0..100).filter(|_| open.take(from(source), limit) == Taken::Counted).count()
    }

    #[test]
    fn each_source_has_its_own_count_in_each_zone_and_with_each_tenant() {
        let open = OpenSessions::new(1_000);
        assert_eq!(counted(&open, "198.51.100.7", 20), 20);
        assert_eq!(open.take(from("198.51.100.7"), 20), Taken::Refused);
        assert_eq!(counted(&open, "198.51.100.8", 20), 20);
        let source = from("198.51.100.7");
        assert_eq!(open.take(Source { zone: ZoneId::new(2), ..source }, 1), Taken::Counted);
        assert_eq!(open.take(Source { tenant: TenantId::new(1), ..source }, 1), Taken::Counted);
        assert_eq!(open.take(Source { tenant: TenantId::new(2), ..source }, 1), Taken::Counted);
        assert_eq!(open.take(Source { tenant: TenantId::new(2), ..source }, 1), Taken::Refused);
        assert_eq!(counted(&open, "2001:db8::1", 20), 20);
        assert_eq!(open.take(from("2001:db8::ffff:1"), 20), Taken::Refused, "one /64 is one source");
        assert_eq!(counted(&open, "2001:db8:0:1::1", 20), 20);
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let open = OpenSessions::new(1_000);
        assert_eq!(counted(&open, "198.51.100.7", 20), 20);
        (0..5).for_each(|_| open.give_back(from("198.51.100.7")));
        assert_eq!(counted(&open, "198.51.100.7", 20), 5);
        assert_eq!(counted(&open, "198.51.100.7", 30), 10, "a limit that was raised");
        assert_eq!(counted(&open, "198.51.100.7", 7), 0, "and lowered");
        (0..200).for_each(|_| open.give_back(from("198.51.100.7")));
        assert_eq!(counted(&open, "198.51.100.7", 20), 20, "never below nothing");
    }

    /// A flood of sources takes no word that counts for somebody, and leaves no trace when it is over.
    #[test]
    fn a_flood_of_sources_changes_nobody_elses_count() {
        let open = OpenSessions::new(64);
        let before = open.memory();
        assert_eq!(counted(&open, "198.51.100.7", 20), 20);
        let address = |number: u32| IpAddr::V4((0x0a00_0000 + number).into());
        let flood = (0..10_000).map(|number| Source { address: address(number), ..from("10.0.0.0") });
        let flood: Vec<Source> = flood.collect();
        let taken: Vec<Taken> = flood.iter().map(|&source| open.take(source, 5)).collect();
        assert!(taken.contains(&Taken::Uncounted) && !taken.contains(&Taken::Refused));
        assert_eq!(open.take(from("198.51.100.7"), 20), Taken::Refused);
        for (source, _) in flood.iter().zip(&taken).filter(|(_, taken)| **taken == Taken::Counted) {
            open.give_back(*source);
        }
        (0..20).for_each(|_| open.give_back(from("198.51.100.7")));
        assert!(open.buckets.iter().flat_map(|bucket| &bucket.0).all(|word| word.load(Relaxed) & COUNT == 0));
        assert_eq!(open.memory(), before);
    }

    #[test]
    fn workers_together_open_as_many_as_one_would() {
        let open = OpenSessions::new(1_000);
        for _ in 0..20 {
            let total: usize = thread::scope(|scope| {
                let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| counted(&open, "198.51.100.7", 50))).collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).sum()
            });
            assert!((50..54).contains(&total), "{total}");
            (0..total).for_each(|_| open.give_back(from("198.51.100.7")));
        }
        assert_eq!(counted(&open, "198.51.100.7", 50), 50, "all were given back");
    }

    #[test]
    fn counts_outlive_the_policy_that_had_limits() {
        let none = SourceLimits::new(vec![None, None], vec![ZONE], 10, None);
        assert!(none.limit(ZONE).is_none() && none.open().is_none());
        let some = SourceLimits::new(vec![None, Some(1)], vec![ZONE], 10, Some(&none));
        let (open, limit) = some.limit(ZONE).unwrap();
        assert_eq!(open.take(from("198.51.100.7"), limit), Taken::Counted);
        let again = SourceLimits::new(
            vec![None, Some(1)],
            vec![],
            10,
            Some(&SourceLimits::new(vec![], vec![], 10, Some(&some))),
        );
        let (open, limit) = again.limit(ZONE).unwrap();
        assert_eq!(open.take(from("198.51.100.7"), limit), Taken::Refused);
        assert_eq!(again.counted(PortId::new(0)), ZONE, "as when counting began");
    }
}
