//! What the pools of source addresses are used for: counted by workers, shown by management, carried from policy to
//! policy by name.
//!
//! A session names its pool by number. A number stays with its pool as long as any session of it lives, also when a
//! policy no longer has the pool, so that a late end is never counted elsewhere.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Pools of one appliance, those of departed policies included: sessions name them in 16 bits.
pub const POOLS_MAX: usize = 65_536;

/// The counters of one pool.
#[derive(Debug, Default)]
pub struct PoolUse {
    name: String,
    sessions: AtomicU64,
    mappings: AtomicU64,
    exhausted: AtomicU64,
    limited: AtomicU64,
}

impl PoolUse {
    /// The rule of source NAT it belongs to, or `service NAME` for the addresses of a `full-nat` service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sessions it hides now.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Mappings it has now; none where mappings are not kept apart from sessions.
    #[must_use]
    pub fn mappings(&self) -> u64 {
        self.mappings.load(Ordering::Relaxed)
    }

    /// New sessions refused because no port was free.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// New sessions refused because their source had as many ports as it may.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// A session of the pool has begun.
    pub fn opened(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A session of the pool has ended.
    pub fn closed(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// A mapping has begun.
    pub fn mapped(&self) {
        self.mappings.fetch_add(1, Ordering::Relaxed);
    }

    /// A mapping has ended.
    pub fn unmapped(&self) {
        self.mappings.fetch_sub(1, Ordering::Relaxed);
    }

    /// No port was free.
    pub fn ran_out(&self) {
        self.exhausted.fetch_add(1, Ordering::Relaxed);
    }

    /// The source had as many ports as it may.
    pub fn limit_reached(&self) {
        self.limited.fetch_add(1, Ordering::Relaxed);
    }
}

/// The pools of a policy and those that still have sessions of earlier ones, by number.
#[derive(Clone, Debug, Default)]
pub struct PoolUses {
    by_number: Box<[Option<Arc<PoolUse>>]>,
    /// The numbers of the policy's own pools, in the order they were named.
    numbers: Box<[u16]>,
}

impl PoolUses {
    /// The pools with these names. Those `previous` has under the same name go on with their numbers and counters.
    #[must_use]
    pub fn compile(names: &[String], previous: Option<&Self>) -> Self {
        let mut by_number: Vec<Option<Arc<PoolUse>>> = previous.map(|it| it.by_number.to_vec()).unwrap_or_default();
        // What the policy before still had may get sessions until the last worker has moved on.
        let current: HashSet<u16> = previous.into_iter().flat_map(|it| it.numbers.iter().copied()).collect();
        let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
        for (pool, _) in by_number.iter_mut().zip(0..=u16::MAX).filter(|(_, number)| !current.contains(number)) {
            if pool.as_ref().is_some_and(|pool| pool.sessions() == 0 && !wanted.contains(&*pool.name)) {
                *pool = None;
            }
        }
        let known: HashMap<String, usize> = by_number
            .iter()
            .enumerate()
            .filter_map(|(place, pool)| Some((pool.as_ref()?.name.clone(), place)))
            .collect();
        let mut vacant = 0;
        let numbers = names
            .iter()
            .take(POOLS_MAX / 2)
            .map(|name| {
                let place = known.get(name).copied().unwrap_or_else(|| {
                    while by_number.get(vacant).is_some_and(Option::is_some) {
                        vacant += 1;
                    }
                    vacant
                });
                if place == by_number.len() {
                    by_number.push(None);
                }
                if let Some(pool @ None) = by_number.get_mut(place) {
                    *pool = Some(Arc::new(PoolUse { name: name.clone(), ..PoolUse::default() }));
                }
                u16::try_from(place).unwrap_or(u16::MAX)
            })
            .collect();
        Self { by_number: by_number.into(), numbers }
    }

    /// The number of the pool named at this position.
    #[must_use]
    pub fn number(&self, position: usize) -> u16 {
        self.numbers.get(position).copied().unwrap_or(u16::MAX)
    }

    /// The pool with this number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<&PoolUse> {
        self.by_number.get(usize::from(number)).and_then(Option::as_deref)
    }

    /// The policy's own pools, in the order they were named.
    pub fn iter(&self) -> impl Iterator<Item = &PoolUse> {
        self.numbers.iter().filter_map(|&number| self.get(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(names: &[&str], previous: Option<&PoolUses>) -> PoolUses {
        PoolUses::compile(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), previous)
    }

    #[test]
    fn a_pool_keeps_its_number_as_long_as_it_has_sessions() {
        let first = compiled(&["a", "b"], None);
        first.get(first.number(1)).unwrap().opened();
        let second = compiled(&["c"], Some(&first));
        assert_ne!(second.number(0), first.number(1), "b still has a session");
        second.get(first.number(1)).unwrap().closed();
        let third = compiled(&["c", "b", "d"], Some(&second));
        assert_eq!((third.number(0), third.number(1)), (second.number(0), first.number(1)));
        assert_eq!(third.number(2), first.number(0), "a is long gone");
        assert_eq!(third.iter().map(PoolUse::name).collect::<Vec<_>>(), ["c", "b", "d"]);
        assert_eq!(third.get(third.number(1)).unwrap().sessions(), 0);
    }

    #[test]
    fn counters_go_on_under_their_name() {
        let first = compiled(&["a"], None);
        first.get(0).unwrap().ran_out();
        let second = compiled(&["b", "a"], Some(&first));
        assert_eq!(second.iter().map(PoolUse::exhausted).collect::<Vec<_>>(), [0, 1]);
    }
}
