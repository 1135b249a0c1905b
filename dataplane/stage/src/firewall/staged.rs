//! Rules on probation: judged beside those in force, at the same first packets, counted and never obeyed. What an operator
//! sees of them is how often each would have decided, and how often otherwise than was decided.
//!
//! Part of a [`Ruleset`](super::Ruleset), which asks it where anything is staged. Shared by the workers; they change nothing
//! but counters, which go on from the same rules staged before.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use units::RuleId;
use units::limits::BURST_MAX;

use super::{Action, Candidate, Classifier, Judgement, Limited, Rule};

/// A whole set of rules as it would be: the staged ones in their places among those that stay.
#[derive(Debug)]
pub struct Staged {
    rules: Box<[Tried]>,
    default: Action,
    default_tally: Arc<Tally>,
    classifier: Box<dyn Classifier>,
}

#[derive(Debug)]
struct Tried {
    name: String,
    action: Action,
    /// Of all that is written in it.
    hash: u64,
    /// Whether it is one of those that are new or otherwise than in force.
    staged: bool,
    tally: Arc<Tally>,
}

/// What would have been, two cache lines for themselves.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Tally {
    hits: AtomicU64,
    would_allow: AtomicU64,
    would_refuse: AtomicU64,
}

/// What a rule would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedCounts<'a> {
    /// The rule's name.
    pub name: &'a str,
    /// What it would decide.
    pub action: Action,
    /// Whether it is staged; else it is in force as well, and stands here for what would be left to it.
    pub staged: bool,
    /// First packets it would have decided about.
    pub hits: u64,
    /// Of these, those it would have let in and the rules in force did not.
    pub would_allow: u64,
    /// Of these, those it would have kept out and the rules in force let in.
    pub would_refuse: u64,
}

impl Staged {
    /// Rules as they would be, first match wins; `staged` tells of each whether it is on probation. `classifier` was built of
    /// the same rules in the same order. What `previous` has counted of rules that say the same goes on.
    #[must_use]
    pub fn new(
        rules: Vec<Rule>,
        staged: impl Fn(&Rule) -> bool,
        default: Action,
        classifier: Box<dyn Classifier>,
        previous: Option<&Self>,
    ) -> Self {
        let before: HashMap<u64, &Arc<Tally>> =
            previous.iter().flat_map(|it| &it.rules).map(|rule| (rule.hash, &rule.tally)).collect();
        let tried = |rule: Rule| {
            let hash = hash(&rule);
            let tally = before.get(&hash).map(|&tally| Arc::clone(tally)).unwrap_or_default();
            Tried { staged: staged(&rule), tally, hash, action: rule.action, name: rule.name }
        };
        let as_before = previous.filter(|it| it.default == default);
        let default_tally = as_before.map(|it| Arc::clone(&it.default_tally)).unwrap_or_default();
        Self { rules: rules.into_iter().map(tried).collect(), default, default_tally, classifier }
    }

    /// Counts what would have become of these candidates, about whom `judgements` was decided. At most [`BURST_MAX`].
    pub(super) fn compare(&self, candidates: &[Candidate], judgements: &[Judgement]) {
        let mut found = [None; BURST_MAX];
        self.classifier.classify(candidates, &mut found);
        for ((_, judgement), found) in candidates.iter().zip(judgements).zip(found) {
            let rule = found.and_then(|id: RuleId| self.rules.get(id.index()));
            let (action, tally) = rule.map_or((self.default, &self.default_tally), |rule| (rule.action, &rule.tally));
            tally.hits.fetch_add(1, Ordering::Relaxed);
            // A limit turns away for the moment what its rule lets in.
            let lets_in =
                judgement.action == Action::Allow || matches!(judgement.limited, Some(Limited::Rule | Limited::Source));
            match (action == Action::Allow, lets_in) {
                (true, false) => drop(tally.would_allow.fetch_add(1, Ordering::Relaxed)),
                (false, true) => drop(tally.would_refuse.fetch_add(1, Ordering::Relaxed)),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// Every rule in order, with what it would have done.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = StagedCounts<'_>> {
        self.rules.iter().map(|rule| rule.tally.counts(&rule.name, rule.action, rule.staged))
    }

    /// What would have happened where no rule matched.
    #[must_use]
    pub fn default_counts(&self) -> StagedCounts<'_> {
        self.default_tally.counts("", self.default, false)
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names: usize = self.rules.iter().map(|rule| rule.name.len()).sum();
        size_of_val(&*self.rules) + names + size_of::<Tally>() * self.rules.len() + self.classifier.memory()
    }
}

fn hash(rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    hasher.finish()
}

impl Tally {
    fn counts<'a>(&self, name: &'a str, action: Action, staged: bool) -> StagedCounts<'a> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (hits, would_allow, would_refuse) = (read(&self.hits), read(&self.would_allow), read(&self.would_refuse));
        StagedCounts { name, action, staged, hits, would_allow, would_refuse }
    }
}
