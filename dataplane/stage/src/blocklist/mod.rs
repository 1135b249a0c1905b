//! Blocklists: long lists of source prefixes that open nothing, asked before anything else about first packets and
//! fragments.
//!
//! Compiled by management from files, read by every worker, replaced as a whole when a file is read again; the hit counters
//! go on under the list's name.

mod prefix_set;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::net::IpAddr;
use std::sync::Arc;

use units::ZoneId;

pub use prefix_set::PrefixSet;

/// One list in force.
#[derive(Clone, Debug)]
pub struct Blocklist {
    name: String,
    /// Zones whose packets it concerns; empty for all.
    from: Box<[ZoneId]>,
    prefixes: Arc<PrefixSet>,
    hits: Arc<AtomicU64>,
}

impl Blocklist {
    /// The operator's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its prefixes.
    #[must_use]
    pub fn prefixes(&self) -> &PrefixSet {
        &self.prefixes
    }

    fn concerns(&self, from: ZoneId) -> bool {
        self.from.is_empty() || self.from.contains(&from)
    }

    /// Packets it has stopped since the list came into being.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }
}

/// The lists of one policy, in its order.
#[derive(Clone, Debug, Default)]
pub struct Blocklists(Box<[Blocklist]>);

impl Blocklists {
    /// These lists: name, zones (none for all), prefixes. Lists that `previous` has under the same name go on with its
    /// counters.
    #[must_use]
    pub fn new(lists: Vec<(String, Vec<ZoneId>, Arc<PrefixSet>)>, previous: Option<&Self>) -> Self {
        let before = |name: &str| previous.and_then(|previous| previous.by_name(name));
        let lists = lists.into_iter().map(|(name, from, prefixes)| {
            let hits = before(&name).map(|list| Arc::clone(&list.hits)).unwrap_or_default();
            Blocklist { name, from: from.into(), prefixes, hits }
        });
        Self(lists.collect())
    }

    /// The same lists, with other prefixes in the one of this name.
    #[must_use]
    pub fn with(&self, name: &str, prefixes: &Arc<PrefixSet>) -> Self {
        let renewed = self.0.iter().cloned().map(|list| {
            let prefixes = if list.name == name { Arc::clone(prefixes) } else { list.prefixes };
            Blocklist { prefixes, ..list }
        });
        Self(renewed.collect())
    }

    /// The same lists with counters of their own, which begin at nothing.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self(self.0.iter().cloned().map(|list| Blocklist { hits: Arc::default(), ..list }).collect())
    }

    /// Whether any list concerns packets from this zone.
    #[must_use]
    pub fn concern(&self, from: ZoneId) -> bool {
        self.0.iter().any(|list| list.concerns(from))
    }

    /// Whether a list stops packets of `source` that come from this zone; counted for the first that does.
    #[must_use]
    pub fn stops(&self, from: ZoneId, source: IpAddr) -> bool {
        let found = self.0.iter().find(|list| list.concerns(from) && list.prefixes.contains(source));
        if let Some(list) = found {
            list.hits.fetch_add(1, Relaxed);
        }
        found.is_some()
    }

    /// The list with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Blocklist> {
        self.0.iter().find(|list| list.name == name)
    }

    /// Every list, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Blocklist> {
        self.0.iter()
    }

    /// Bytes of all prefixes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.iter().map(|list| list.prefixes.memory()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(texts: &[(&str, &[u8], &str)], previous: Option<&Blocklists>) -> Blocklists {
        let list = |&(name, zones, prefix): &(&str, &[u8], &str)| {
            let zones = zones.iter().map(|&zone| ZoneId::new(zone)).collect();
            (name.to_owned(), zones, Arc::new(PrefixSet::new([prefix.parse().unwrap()])))
        };
        Blocklists::new(texts.iter().map(list).collect(), previous)
    }

    #[test]
    fn a_list_stops_what_comes_from_its_zones_and_counts_it() {
        let lists = lists(&[("a", &[1], "192.0.2.0/24"), ("b", &[], "192.0.2.128/25")], None);
        let stops = |zone, source: &str| lists.stops(ZoneId::new(zone), source.parse().unwrap());
        assert!(stops(1, "192.0.2.1") && !stops(2, "192.0.2.1"));
        assert!(stops(1, "192.0.2.200") && stops(2, "192.0.2.200"));
        assert!(!stops(1, "2001:db8::1"));
        assert_eq!(lists.iter().map(Blocklist::hits).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn counters_go_on_and_a_list_is_renewed_alone() {
        let first = lists(&[("a", &[], "192.0.2.0/24"), ("b", &[], "198.51.100.0/24")], None);
        assert!(first.stops(ZoneId::new(1), "192.0.2.1".parse().unwrap()));
        let second = first.with("a", &Arc::new(PrefixSet::new(["203.0.113.0/24".parse().unwrap()])));
        assert!(!second.stops(ZoneId::new(1), "192.0.2.1".parse().unwrap()));
        assert!(second.stops(ZoneId::new(1), "198.51.100.1".parse().unwrap()));
        assert!(second.stops(ZoneId::new(1), "203.0.113.1".parse().unwrap()));
        let third = lists(&[("b", &[], "192.0.2.0/24"), ("a", &[], "192.0.2.0/24")], Some(&second));
        assert_eq!(third.iter().map(Blocklist::hits).collect::<Vec<_>>(), [1, 2]);
    }
}
