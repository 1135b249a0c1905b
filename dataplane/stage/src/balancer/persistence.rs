//! Persistence by source: a client that was here before goes back to its backend for as long as the service says, whichever
//! port it comes from (SE-79); when that backend cannot take it, it is forgotten for another (SE-80).
//!
//! Read and written by workers at the beginning and the end of a session; carried from policy to policy. Memory is
//! bounded: beyond [`PERSISTENT_SOURCES`] clients of a service, those not heard of for longest are forgotten first. The table is
//! keyed with a per-boot secret, so that nobody can choose addresses that push out others.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use units::Nanos;
use units::limits::PERSISTENT_SOURCES;

use super::Backend;
use crate::shared_table::SharedTable;

/// Which backend each source had last, for one service.
#[derive(Debug)]
pub struct Persistence {
    table: SharedTable,
    secret: RandomState,
}

impl Default for Persistence {
    fn default() -> Self {
        Self::new(PERSISTENT_SOURCES)
    }
}

impl Persistence {
    /// An empty memory for about this many sources.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        Self { table: SharedTable::new(sources), secret: RandomState::new() }
    }

    /// The [key](Backend::key) of the backend this source had last, unless that was longer than `timeout` ago.
    #[must_use]
    pub fn recall(&self, source: IpAddr, timeout: Nanos, now: Nanos) -> Option<u64> {
        let held = self.table.read(self.secret.hash_one(source))?;
        (now.since(Nanos::new(held.stamp)) <= timeout).then_some(held.value)
    }

    /// Notes that this source has this backend as of now. When several workers write to the same place at once one of
    /// them may not get through; the source is then remembered as before.
    pub fn note(&self, source: IpAddr, backend: &Backend, now: Nanos) {
        self.table.put(self.secret.hash_one(source), backend.key(), now.get());
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.table.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Nanos = Nanos::from_secs(300);

    fn backend(name: &str) -> Backend {
        Backend::new("shop", name, "10.0.0.11".parse().unwrap(), Some(80), false)
    }

    #[test]
    fn a_source_is_remembered_for_the_timeout_after_it_was_last_noted() {
        let (memory, source) = (Persistence::new(64), "192.0.2.50".parse().unwrap());
        assert_eq!(memory.recall(source, TIMEOUT, Nanos::ZERO), None);
        memory.note(source, &backend("a"), Nanos::from_secs(10));
        memory.note(source, &backend("a"), Nanos::from_secs(200));
        assert_eq!(memory.recall(source, TIMEOUT, Nanos::from_secs(500)), Some(backend("a").key()), "SE-79");
        assert_eq!(memory.recall(source, TIMEOUT, Nanos::from_secs(501)), None);
        memory.note(source, &backend("b"), Nanos::from_secs(502));
        assert_eq!(memory.recall(source, TIMEOUT, Nanos::from_secs(503)), Some(backend("b").key()), "SE-80");
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_memory() {
        let memory = Persistence::new(1_024);
        let bytes = memory.memory();
        for source in 0..100_000u32 {
            memory.note(IpAddr::V4(source.into()), &backend("a"), Nanos::new(u64::from(source)));
        }
        assert_eq!(memory.memory(), bytes);
    }
}
