//! What outlives a policy that leaves a service or a backend out, for a later one that has it again: backends with their
//! sessions or the operator's word that they are to be left alone, and what their services keep beside them.
//!
//! Made in management when a policy is compiled ([`Services::compile`](super::Services::compile)), from what the one before
//! had and had kept; never changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use units::limits::DRAINED_ABSENT_MAX;

use super::{Backend, Persistence, Untracked};
use crate::syn_cookie::SynGuard;

/// What a service keeps from policy to policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) persistence: Option<Arc<Persistence>>,
    /// Sessions of its backends are counted here as they shake hands: whoever asks must read the same.
    pub(super) guard: Arc<SynGuard>,
    pub(super) untracked: Arc<Untracked>,
}

/// A backend that the policy has no more.
#[derive(Clone, Debug)]
enum Departed {
    /// Whoever still has sessions of it keeps it alive.
    Left(Weak<Backend>),
    /// The operator has drained it: a policy that has it again does not put it into service. [`DRAINED_ABSENT_MAX`] of them.
    Drained(Arc<Backend>),
}

impl Departed {
    fn alive(&self) -> Option<Arc<Backend>> {
        match self {
            Self::Left(backend) => backend.upgrade(),
            Self::Drained(backend) => Some(Arc::clone(backend)),
        }
    }
}

/// What is kept of services and backends that a policy has not.
#[derive(Clone, Debug, Default)]
pub(super) struct Absent {
    backends: Vec<Departed>,
    /// Of the services of these backends, by name.
    standings: HashMap<Box<str>, Standing>,
}

impl Absent {
    /// What is kept of `backends`, which the new policy has not, in the order in which they left, and of their services: those
    /// of the policy before have `standings`, those it had not either are in `earlier`.
    pub(super) fn new(
        backends: impl Iterator<Item = Arc<Backend>>,
        standings: &HashMap<&str, &Standing>,
        earlier: Option<&Self>,
    ) -> Self {
        let backends: Vec<_> = backends.collect();
        let services: HashSet<&str> = backends.iter().map(|backend| backend.service()).collect();
        let kept = |name: &str| {
            let standing = standings.get(name).copied();
            standing.or_else(|| earlier?.standing(name)).cloned()
        };
        let drained = backends.iter().filter(|backend| backend.is_drained()).count();
        let mut too_many = drained.saturating_sub(DRAINED_ABSENT_MAX);
        let mut depart = |backend: &Arc<Backend>| {
            let is_drained = backend.is_drained();
            if is_drained && too_many == 0 {
                return Departed::Drained(Arc::clone(backend));
            }
            too_many -= usize::from(is_drained);
            Departed::Left(Arc::downgrade(backend))
        };
        Self {
            standings: services.into_iter().filter_map(|name| Some((name.into(), kept(name)?))).collect(),
            backends: backends.iter().map(&mut depart).collect(),
        }
    }

    /// Backends that somebody still uses, or that the operator has drained.
    pub(super) fn backends(&self) -> impl Iterator<Item = Arc<Backend>> {
        self.backends.iter().filter_map(Departed::alive)
    }

    /// What a service of this name has kept.
    pub(super) fn standing(&self, name: &str) -> Option<&Standing> {
        self.standings.get(name)
    }
}
