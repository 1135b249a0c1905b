//! The rules in force: a classifier that finds the rule, and beside it what each rule does, counts and limits. Built in
//! management for each policy and published whole; workers share it and change nothing but atomics. Counters and
//! buckets go on from the ruleset before, by rule name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use units::limits::BURST_MAX;
use units::{Nanos, RuleId, WorkerId};

use super::{Action, Candidate, Classifier, Rule, Staged};
use crate::DropReason;
use crate::limiter::{PerSource, Rate, TokenBucket};

/// What the firewall says of one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What to do. [`Action::Deny`] when a limit is used up.
    pub action: Action,
    /// The rule that decided; `None` for the default.
    pub rule: Option<RuleId>,
    /// The limit that turned an allowed session away.
    pub limited: Option<Limited>,
    /// Whether the operator asked for a record of it. Never for what a limit turned away: the log is not flooded.
    pub log: bool,
}

/// Which limit was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limited {
    /// The rule's `new_sessions_per_second`.
    Rule,
    /// The rule's `new_sessions_per_source`.
    Source,
}

impl Judgement {
    /// A judgement to fill a burst's slots with before it is judged: denied by default.
    pub const DENIED: Self = Self { action: Action::Deny, rule: None, limited: None, log: false };

    /// Under which reason the packet is dropped; `None` when it is allowed.
    #[must_use]
    pub const fn drop_reason(&self) -> Option<DropReason> {
        match (self.limited, self.action) {
            (Some(Limited::Rule), _) => Some(DropReason::RuleRateLimited),
            (Some(Limited::Source), _) => Some(DropReason::SourceRateLimited),
            (None, Action::Allow) => None,
            (None, Action::Deny) => Some(DropReason::FirewallDenied),
            (None, Action::Reject) => Some(DropReason::FirewallRejected),
        }
    }
}

/// A rule as `show firewall` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCounts<'a> {
    /// The rule's name.
    pub name: &'a str,
    /// What it decides.
    pub action: Action,
    /// First packets that it matched, those that a limit turned away included.
    pub hits: u64,
    /// Of these, turned away by the rule's own limit.
    pub limited_by_rule: u64,
    /// Of these, turned away by the limit of their source.
    pub limited_by_source: u64,
}

/// The rules in force. Shape: the classifier, and for each rule its name, an entry, and a cell of 128 bytes that may be
/// shared with other rulesets.
#[derive(Debug)]
pub struct Ruleset {
    rules: Box<[InForce]>,
    names: Box<[String]>,
    default: Action,
    default_hits: Arc<Hits>,
    classifier: Box<dyn Classifier>,
    sources: Option<Arc<PerSource>>,
    next_number: u64,
    staged: Option<Box<Staged>>,
}

/// One rule, reduced to what is done once it has matched: one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct InForce {
    cell: Arc<Cell>,
    rate: Option<Rate>,
    rate_per_source: Option<Rate>,
    action: Action,
    log: bool,
}

const _: () = assert!(size_of::<InForce>() == 64);

/// What workers write of a rule; outlives the policy, as long as a rule of that name is in the next one. Two cache
/// lines, so that rules do not slow each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    /// Tells this rule's sources from those of others, in this ruleset and the next ones.
    number: u64,
    hits: Hits,
    limited_by_rule: AtomicU64,
    limited_by_source: AtomicU64,
    bucket: TokenBucket,
}

const _: () = assert!(size_of::<Cell>() == 128);

/// Workers that have a count of their own.
const WITH_OWN: usize = 8;

/// How often workers have met something: each of the first few in a count that nobody else writes, without the locked
/// addition that costs as much as a fifth of all else a first packet asks of its rule; the others in one they share.
#[derive(Debug, Default)]
struct Hits {
    own: [AtomicU64; WITH_OWN],
    shared: AtomicU64,
}

impl Hits {
    fn add(&self, worker: WorkerId, count: u64) {
        match self.own.get(worker.index()) {
            Some(own) => own.store(own.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed),
            None => {
                self.shared.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    fn sum(&self) -> u64 {
        self.own.iter().chain([&self.shared]).map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Ruleset {
    /// Puts `rules` in force; `classifier` was built from the same rules in the same order. `previous` is the ruleset
    /// these replace: rules of the same name go on with its counters and buckets, also while workers still use it.
    #[must_use]
    pub fn new(rules: Vec<Rule>, default: Action, classifier: Box<dyn Classifier>, previous: Option<&Self>) -> Self {
        let before: HashMap<&str, &Arc<Cell>> =
            previous.iter().flat_map(|ruleset| ruleset.named()).map(|(name, rule)| (name, &rule.cell)).collect();
        let mut next_number = previous.map_or(0, |ruleset| ruleset.next_number);
        let (names, rules): (Vec<String>, Vec<InForce>) = rules
            .into_iter()
            .map(|rule| {
                let cell = before.get(rule.name.as_str()).copied().cloned().unwrap_or_else(|| {
                    next_number += 1;
                    Arc::new(Cell { number: next_number, ..Cell::default() })
                });
                let in_force = InForce::new(&rule, cell);
                (rule.name, in_force)
            })
            .unzip();
        let (names, rules): (Box<[String]>, Box<[InForce]>) = (names.into(), rules.into());
        let sources = rules.iter().any(|rule| rule.rate_per_source.is_some()).then(|| {
            let before = previous.and_then(|ruleset| ruleset.sources.clone());
            before.unwrap_or_else(|| Arc::new(PerSource::new(units::limits::LIMITED_SOURCES)))
        });
        let default_hits = previous.map(|ruleset| Arc::clone(&ruleset.default_hits)).unwrap_or_default();
        Self { rules, names, default, default_hits, classifier, sources, next_number, staged: None }
    }

    /// With rules on probation beside them.
    #[must_use]
    pub fn with_staged(mut self, staged: Option<Staged>) -> Self {
        self.staged = staged.map(Box::new);
        self
    }

    /// The rules on probation.
    #[must_use]
    pub fn staged(&self) -> Option<&Staged> {
        self.staged.as_deref()
    }

    fn named(&self) -> impl ExactSizeIterator<Item = (&str, &InForce)> {
        self.names.iter().map(String::as_str).zip(&self.rules)
    }

    /// Judges first packets of `worker`, each into the same place of `judgements` (the shorter slice says how many): counts
    /// hits, takes tokens, and has what is staged count what it would have done. A session that a limit turns away is
    /// denied without a word; one that its source's limit turns away costs the rule no token.
    pub fn judge(&self, worker: WorkerId, candidates: &[Candidate], now: Nanos, judgements: &mut [Judgement]) {
        self.classify(candidates, judgements, |ruleset, candidate, found, judgement| {
            *judgement = ruleset.admit(candidate, found, now);
        });
        for run in judgements.get(..candidates.len()).unwrap_or(judgements).chunk_by(|one, next| one.rule == next.rule)
        {
            self.count_hits(worker, run);
        }
        if let Some(staged) = &self.staged {
            for (candidates, judgements) in candidates.chunks(BURST_MAX).zip(judgements.chunks(BURST_MAX)) {
                staged.compare(candidates, judgements);
            }
        }
    }

    /// Judges sessions that an earlier ruleset admitted: the action only. No hit is counted, no token taken, nothing
    /// logged.
    pub fn rejudge(&self, candidates: &[Candidate], judgements: &mut [Judgement]) {
        self.classify(candidates, judgements, |ruleset, _, found, judgement| {
            let action = found.and_then(|id| ruleset.rule(id)).map_or(ruleset.default, |rule| rule.action);
            *judgement = Judgement { action, rule: found, ..Judgement::DENIED };
        });
    }

    /// Every rule in order, with its counts.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = RuleCounts<'_>> {
        self.named().map(|(name, rule)| RuleCounts {
            name,
            action: rule.action,
            hits: rule.cell.hits.sum(),
            limited_by_rule: rule.cell.limited_by_rule.load(Ordering::Relaxed),
            limited_by_source: rule.cell.limited_by_source.load(Ordering::Relaxed),
        })
    }

    /// The name of a rule.
    #[must_use]
    pub fn name(&self, rule: RuleId) -> Option<&str> {
        self.names.get(rule.index()).map(String::as_str)
    }

    /// What happens to packets that no rule matches.
    #[must_use]
    pub const fn default_action(&self) -> Action {
        self.default
    }

    /// How many first packets no rule matched.
    #[must_use]
    pub fn default_hits(&self) -> u64 {
        self.default_hits.sum()
    }

    /// Bytes of memory the rules hold: classifier, cells, and buckets of sources.
    #[must_use]
    pub fn memory(&self) -> usize {
        let names: usize = self.names.iter().map(|name| size_of::<String>() + name.len()).sum();
        size_of_val(&*self.rules)
            + names
            + size_of::<Cell>() * self.rules.len()
            + self.classifier.memory()
            + self.sources.as_ref().map_or(0, |sources| sources.memory())
            + self.staged.as_ref().map_or(0, |staged| staged.memory())
    }

    fn rule(&self, id: RuleId) -> Option<&InForce> {
        self.rules.get(id.index())
    }

    /// Finds the rule of each candidate, [`BURST_MAX`] at a time, and has `judge` fill in the judgement.
    fn classify(
        &self,
        candidates: &[Candidate],
        judgements: &mut [Judgement],
        judge: impl Fn(&Self, &Candidate, Option<RuleId>, &mut Judgement),
    ) {
        for (candidates, judgements) in candidates.chunks(BURST_MAX).zip(judgements.chunks_mut(BURST_MAX)) {
            let mut found = [None; BURST_MAX];
            self.classifier.classify(candidates, &mut found);
            for ((candidate, found), judgement) in candidates.iter().zip(found).zip(judgements) {
                judge(self, candidate, found, judgement);
            }
        }
    }

    fn admit(&self, candidate: &Candidate, found: Option<RuleId>, now: Nanos) -> Judgement {
        let Some(rule) = found.and_then(|id| self.rule(id)) else {
            return Judgement { action: self.default, ..Judgement::DENIED };
        };
        match self.over_limit(rule, candidate, now) {
            None => Judgement { action: rule.action, rule: found, limited: None, log: rule.log },
            limited => Judgement { rule: found, limited, ..Judgement::DENIED },
        }
    }

    /// The limit that turns `candidate` away. The source's comes first, so that one source alone cannot use up the
    /// rule's.
    fn over_limit(&self, rule: &InForce, candidate: &Candidate, now: Nanos) -> Option<Limited> {
        if rule.action != Action::Allow {
            return None;
        }
        if let (Some(rate), Some(sources)) = (rule.rate_per_source, &self.sources)
            && !sources.take(rule.cell.number, (candidate.tenant, candidate.endpoints.source()), rate, now)
        {
            rule.cell.limited_by_source.fetch_add(1, Ordering::Relaxed);
            return Some(Limited::Source);
        }
        if let Some(rate) = rule.rate
            && !rule.cell.bucket.take(rate, now)
        {
            rule.cell.limited_by_rule.fetch_add(1, Ordering::Relaxed);
            return Some(Limited::Rule);
        }
        None
    }

    /// Counts a run of judgements by one rule at once.
    fn count_hits(&self, worker: WorkerId, run: &[Judgement]) {
        let rule = run.first().and_then(|judgement| judgement.rule).and_then(|id| self.rule(id));
        let hits = rule.map_or(&*self.default_hits, |rule| &rule.cell.hits);
        hits.add(worker, run.len() as u64);
    }
}

impl InForce {
    fn new(rule: &Rule, cell: Arc<Cell>) -> Self {
        Self {
            action: rule.action,
            log: rule.log,
            rate: rule.new_sessions_per_second.map(Rate::new),
            rate_per_source: rule.new_sessions_per_source.map(Rate::new),
            cell,
        }
    }
}

#[cfg(test)]
mod tests;
