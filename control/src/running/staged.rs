//! Rules of a whole policy on probation: which, since when, for whom; into the tables in force and out of them again. A policy
//! that comes into force meanwhile keeps them beside it, as long as its zones are the same.

use std::sync::Arc;

use config::Policy;
use jiff::Timestamp;
use stage::firewall::StagedCounts;
use worker::Snapshot;

use super::documents::action_name;
use super::{PATIENCE, Running, late, lock, placed};
use crate::compile::rules;
use crate::generation::Proposal;
use crate::status::{Refusal, RefusalKind, StagedRuleStatus, StagedStatus};

/// A policy whose rules are on probation.
#[derive(Clone, Debug)]
pub(super) struct OnProbation {
    policy: Arc<Policy>,
    source: String,
    who: String,
    since: Timestamp,
}

impl OnProbation {
    /// Whether its rules speak of the zones that another policy has.
    fn fits(&self, policy: &Policy) -> bool {
        self.policy.zones == policy.zones
    }
}

impl Running {
    /// Puts the rules of a policy on probation.
    pub(super) fn put_on_probation(&self, proposal: &Proposal) -> Result<StagedStatus, Refusal> {
        let checked = proposal.check()?;
        let staged = OnProbation {
            policy: Arc::new(checked.policy),
            source: proposal.source.clone(),
            who: proposal.who.clone(),
            since: Timestamp::now(),
        };
        self.change_probation(Some(staged))?;
        log::info!("the rules of {} are on probation", proposal.source);
        Ok(self.probation())
    }

    /// Ends the probation of a policy's rules.
    pub(super) fn end_probation(&self) -> Result<StagedStatus, Refusal> {
        self.change_probation(None)?;
        Ok(self.probation())
    }

    fn change_probation(&self, staged: Option<OnProbation>) -> Result<(), Refusal> {
        let _turn = self.turns.wait();
        let (before, policy) = {
            let state = lock(&self.state);
            (Arc::clone(&state.snapshot), Arc::clone(&state.policy))
        };
        if let Some(other) = staged.as_ref().filter(|staged| !staged.fits(&policy)) {
            let message = format!(
                "{} has other zones ({}) than the policy in force ({}), so its rules mean nothing beside it",
                other.source,
                other.policy.zones.join(", "),
                policy.zones.join(", ")
            );
            return Err(Refusal::new(RefusalKind::Conflict, message));
        }
        let tried = staged.as_ref().map(|staged| &*staged.policy);
        let rules = rules(&policy, tried, Some(&before.rules), &*self.fixed.tables)
            .map_err(|why| Refusal::new(RefusalKind::Failed, format!("{why}; nothing was changed")))?;
        // The same generation: no session is judged again for what has no effect.
        let snapshot = Arc::new(Snapshot { rules: Arc::new(rules), ..Snapshot::clone(&before) });
        {
            let mut state = lock(&self.state);
            (state.staged, state.snapshot) = (staged, Arc::clone(&snapshot));
        }
        self.hand_over(snapshot, placed(&policy), Vec::new())?.recv_timeout(PATIENCE).map_err(|_| late())
    }

    /// Tables that are to come into force, with the rules on probation beside theirs.
    pub(super) fn with_probation(&self, policy: &Policy, snapshot: Snapshot) -> Result<Snapshot, String> {
        let Some(staged) = lock(&self.state).staged.clone() else { return Ok(snapshot) };
        if !staged.fits(policy) {
            log::warn!("the rules of {} are no longer on probation: the zones are others", staged.source);
            lock(&self.state).staged = None;
            return Ok(snapshot);
        }
        let rules = rules(policy, Some(&staged.policy), Some(&self.snapshot().rules), &*self.fixed.tables)?;
        Ok(Snapshot { rules: Arc::new(rules), ..snapshot })
    }

    /// What is on probation, and what it would have done.
    pub(super) fn probation(&self) -> StagedStatus {
        let (snapshot, staged) = {
            let state = lock(&self.state);
            (Arc::clone(&state.snapshot), state.staged.clone())
        };
        let (source, who, since) = match staged {
            Some(OnProbation { source, who, since, .. }) => (Some(source), Some(who), Some(since)),
            None => (None, None, None),
        };
        let counted = |counts: StagedCounts<'_>| StagedRuleStatus {
            name: counts.name.to_owned(),
            action: action_name(counts.action).to_owned(),
            staged: counts.staged,
            hits: counts.hits,
            would_allow: counts.would_allow,
            would_refuse: counts.would_refuse,
        };
        let tried = snapshot.rules.staged();
        StagedStatus {
            source,
            who,
            since,
            rules: tried.map(|staged| staged.counts().map(counted).collect()).unwrap_or_default(),
            default: tried.map(|staged| counted(staged.default_counts())),
        }
    }
}
