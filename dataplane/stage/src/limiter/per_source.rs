//! One token bucket for each rule and source, in a bounded table: sources that were quiet for a second have full
//! buckets and need no entry, so what the table forgets first costs nothing.

use core::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;

use units::{Nanos, TenantId};

use super::Rate;
use crate::shared_table::{SharedTable, Updated};

/// The buckets. Keys are hashed with a secret of this table, so nobody outside chooses which entries share a place.
#[derive(Debug)]
pub struct PerSource {
    spent: SharedTable,
    secret: RandomState,
}

impl PerSource {
    /// Room for `sources` buckets, of all rules together.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        Self { spent: SharedTable::new(sources), secret: RandomState::new() }
    }

    /// Takes a token of a tenant's `source` under the rule with this number, if there is one. An IPv6 source counts by its
    /// /64, which is what one host can use at will.
    ///
    /// An update that the table gave up on counts as refused: a limit is never exceeded because workers collide.
    #[must_use]
    pub fn take(&self, rule: u64, (tenant, source): (TenantId, IpAddr), rate: Rate, now: Nanos) -> bool {
        let spent = |held: Option<u64>| rate.take(held.unwrap_or(0), now);
        matches!(self.spent.update(self.key(rule, tenant, source), now.get(), spent), Updated::Stored(_))
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.spent.bytes()
    }

    fn key(&self, rule: u64, tenant: TenantId, source: IpAddr) -> u64 {
        match source {
            IpAddr::V4(source) => self.secret.hash_one((rule, tenant, 4_u8, u64::from(source.to_bits()))),
            IpAddr::V6(source) => self.secret.hash_one((rule, tenant, 6_u8, (source.to_bits() >> 64) as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use units::PerSecond;

    use super::*;

    const NOW: Nanos = Nanos::from_secs(50);

    fn taken(sources: &PerSource, rule: u64, source: &str, now: Nanos) -> usize {
        let rate = Rate::new(PerSecond::new(20));
        (0..100).filter(|_| sources.take(rule, (TenantId::NONE, source.parse().unwrap()), rate, now)).count()
    }

    #[test]
    fn each_source_has_its_own_bucket_under_each_rule() {
        let sources = PerSource::new(1_024);
        assert_eq!(taken(&sources, 1, "198.51.100.7", NOW), 20);
        assert_eq!(taken(&sources, 1, "198.51.100.7", NOW), 0);
        assert_eq!(taken(&sources, 1, "198.51.100.8", NOW), 20);
        assert_eq!(taken(&sources, 2, "198.51.100.7", NOW), 20);
        let tenant = (TenantId::new(1), "198.51.100.7".parse().unwrap());
        assert!(sources.take(1, tenant, Rate::new(PerSecond::new(20)), NOW), "another tenant's of the same address");
        assert_eq!(taken(&sources, 1, "198.51.100.7", NOW + Nanos::from_millis(500)), 10);
    }

    #[test]
    fn ipv6_sources_count_by_their_64_bit_prefix() {
        let sources = PerSource::new(1_024);
        assert_eq!(taken(&sources, 1, "2001:db8::1", NOW), 20);
        assert_eq!(taken(&sources, 1, "2001:db8::ffff:1", NOW), 0);
        assert_eq!(taken(&sources, 1, "2001:db8:0:1::1", NOW), 20);
    }

    #[test]
    fn families_do_not_share_buckets() {
        let sources = PerSource::new(1_024);
        assert_eq!(taken(&sources, 1, "0.0.0.1", NOW), 20);
        assert_eq!(taken(&sources, 1, "::1:0:0:0:0", NOW), 20);
    }

    #[test]
    fn a_flood_of_sources_stays_within_the_table_and_each_still_gets_its_share() {
        let sources = PerSource::new(64);
        let before = sources.memory();
        let rate = Rate::new(PerSecond::new(1));
        let source = |number: u32| (TenantId::NONE, IpAddr::V4(number.into()));
        let admitted = (0..10_000).filter(|&number| sources.take(1, source(number), rate, NOW)).count();
        assert_eq!((admitted, sources.memory()), (10_000, before));
    }

    #[test]
    fn no_room_at_all_refuses() {
        assert_eq!(taken(&PerSource::new(0), 1, "198.51.100.7", NOW), 0);
    }
}
