//! Rules of a whole policy on probation: which, since when, for whom; into the tables in force and out of them again. A policy
//! that comes into force meanwhile keeps them beside it, as long as its zones are the same.

use std::sync::Arc;

use config::Policy;
use jiff::Timestamp;
use stage::firewall::StagedCounts;
use worker::Snapshot;

use super::documents::action_name;
use super::{PATIENCE, Running, State, late, lock, placed};
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

impl State {
    /// A policy has come into force beside which rules on probation may mean nothing.
    pub(super) fn end_probation_beside(&mut self, policy: &Policy) {
        if let Some(staged) = self.staged.take_if(|staged| !staged.fits(policy)) {
            log::warn!("the rules of {} are no longer on probation: the zones are others", staged.source);
        }
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

    /// The policy whose rules stay on probation beside those of another, if there is one.
    pub(super) fn tried_beside(&self, policy: &Policy) -> Option<Arc<Policy>> {
        let state = lock(&self.state);
        state.staged.as_ref().filter(|staged| staged.fits(policy)).map(|staged| Arc::clone(&staged.policy))
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
