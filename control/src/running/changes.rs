//! The road of every change of policy, from a proposal to a generation that is in force and written down. One change at a
//! time, in order; a fault anywhere changes nothing.
//!
//! A generation is written down as pending before its tables are published and as committed after: a process that dies in
//! between has left the generation before as the last committed one.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use config::{Checked, Policy};
use crossbeam::channel::Receiver;
use stage::balancer::Backend;
use stage::blocklist::Blocklists;
use units::Generation;
use worker::Snapshot;

use super::{PATIENCE, Running, lock, placed};
use crate::admin::Appliance;
use crate::amendment::{Amended, Amendment, Configuration};
use crate::blocklist;
use crate::bulletin::Happening;
use crate::compile::{Beside, TableMaker, compile_with, restart_needed};
use crate::generation::plan::{Plan, Side};
use crate::generation::trial::{Before, Trial};
use crate::generation::{Place, Proposal, trial};
use crate::health::targets;
use crate::log_format;
use crate::progress::{Step, Told, Under};
use crate::redirection::{Asked, Outcome, wanted};
use crate::status::{Applied, AppliedPolicy, How, PolicyStatus, Refusal, RefusalKind, Standing};

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn failed(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Failed, format!("{why}; nothing was changed"))
}

/// How long after a policy could not be put back it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

fn on_trial(trial: &Trial) -> Refusal {
    let (generation, left) = (trial.generation, trial.left().as_secs());
    let waits = if trial.left().is_zero() {
        format!("generation {generation} is about to give way to the one before")
    } else {
        format!("generation {generation} waits to be confirmed, for {left} s yet")
    };
    let message = format!(
        "{waits}: `millrace confirm` keeps it, `millrace rollback` brings back the one before; nothing was changed"
    );
    Refusal::new(RefusalKind::Conflict, message)
}

/// A text made of another, read and checked, and the kinds and names of the objects it was made for.
type Made = (Proposal, Checked, Vec<(String, String)>);

/// A policy that every worker has, and what is still heard of services that others direct here.
struct InForce {
    applied: Applied,
    redirected: Outcome,
}

impl InForce {
    /// Waits until the hook was run for each of these services; nobody's turn to change something waits for that. The policy
    /// stays in force whatever comes of it: its other services have clients already.
    fn with_all_directed_here(self, under: &Under) -> Result<Applied, Refusal> {
        under.at(Step::Redirecting);
        let Self { applied, redirected } = self;
        match redirected.wait() {
            Ok(()) => Ok(applied),
            Err(why) => {
                let message = format!("generation {} is in force, but {why}", applied.generation);
                Err(Refusal::new(RefusalKind::Failed, message))
            }
        }
    }
}

impl Running {
    /// What applying a text would change.
    pub(super) fn plan(&self, text: &str, source: &str) -> Result<Plan, Refusal> {
        let wanted = Proposal::apply(text, source, "").check()?.policy;
        let running = self.before();
        let side = Side { policy: &running.policy, text: &running.text };
        Ok(Plan::between(side, self.snapshot().generation.get(), Side { policy: &wanted, text }))
    }

    /// Puts a proposal in force, in its turn.
    pub(super) fn put_in_force(&self, proposal: &Proposal) -> Result<Applied, Refusal> {
        let turn = self.turns.draw();
        let under = self.progress.begin();
        let checked = proposal.check()?;
        turn.wait();
        self.refuse_on_trial()?;
        let changed = self.change(&turn, &under, proposal, checked)?;
        drop(turn);
        changed.with_all_directed_here(&under)
    }

    /// Puts the text in force with some of its objects changed. That is made and checked before its turn has come; then it is
    /// made anew where another text is in force, so that whatever came before is in it.
    pub(super) fn put_amended_in_force(&self, amendment: &Amendment) -> Result<Amended, Refusal> {
        let under = self.progress.begin();
        let on = self.configuration();
        let mut made = self.amended(amendment, &on)?;
        let turn = self.undisturbed_turn()?;
        let now = self.configuration();
        if !Arc::ptr_eq(&on.text, &now.text) {
            made = self.amended(amendment, &now)?;
        }
        let (proposal, checked, left) = made;
        let changed = self.change(&turn, &under, &proposal, checked)?;
        drop(turn);
        let applied = changed.with_all_directed_here(&under)?;
        let after = Configuration::new(proposal.text.into());
        // Of one that a later change of the same amendment has removed nothing is left.
        let objects = left.iter().filter_map(|(kind, name)| after.object(kind, name).ok()).collect();
        Ok(Amended { applied, objects })
    }

    /// What becomes of a text, and the names of the objects that were changed and are there yet.
    fn amended(&self, amendment: &Amendment, on: &Configuration) -> Result<Made, Refusal> {
        let (text, left) = amendment.carried_out(on)?;
        let before = self.before();
        let proposal = Proposal {
            how: How::Amend,
            of: Some(before.generation),
            confirm_within: amendment.confirm_within,
            ..Proposal::apply(&text, &before.source, &amendment.who)
        };
        let checked = proposal.check()?;
        Ok((proposal, checked, left))
    }

    /// Waits for the turn to change tables; not while a generation is on trial, which nothing may be built on.
    pub(super) fn undisturbed_turn(&self) -> Result<Place<'_>, Refusal> {
        let turn = self.turns.wait();
        self.refuse_on_trial()?;
        Ok(turn)
    }

    fn refuse_on_trial(&self) -> Result<(), Refusal> {
        lock(&self.state).trial.as_ref().map_or(Ok(()), |trial| Err(on_trial(trial)))
    }

    /// Keeps the generation that is on trial.
    pub(super) fn keep(&self) -> Result<Applied, Refusal> {
        let _turn = self.turns.wait();
        let Some(generation) = lock(&self.state).trial.as_ref().map(|trial| trial.generation) else {
            return Err(Refusal::new(RefusalKind::Conflict, "no generation waits to be confirmed"));
        };
        self.ledger.settle(generation, Standing::Committed).map_err(failed)?;
        lock(&self.state).trial = None;
        log::info!("generation {generation} is confirmed");
        Ok(Applied { generation, unchanged: true, confirm_within_ms: None, warnings: Vec::new() })
    }

    /// Brings an earlier generation's text back: the one on trial gives way, else `wanted`, else the one before.
    pub(super) fn go_back(&self, wanted: Option<u64>, who: &str) -> Result<Applied, Refusal> {
        let under = self.progress.begin();
        let turn = self.turns.wait();
        let on_trial = match &lock(&self.state).trial {
            Some(trial) if wanted.is_some_and(|wanted| wanted != trial.before.generation) => {
                return Err(on_trial(trial));
            }
            Some(trial) => Some((trial.generation, trial.before.clone())),
            None => None,
        };
        if let Some((generation, before)) = on_trial {
            let changed = self.put_back(&turn, &before, generation, (How::Rollback, who))?;
            drop(turn);
            return changed.with_all_directed_here(&under);
        }
        let not_kept = |what: &str| {
            Refusal::new(RefusalKind::NotFound, format!("{what}; `millrace show policy` lists those that are kept"))
        };
        let earlier = match wanted {
            Some(wanted) => {
                self.ledger.get(wanted).ok_or_else(|| not_kept(&format!("generation {wanted} is not kept")))?
            }
            None => {
                let in_force = Arc::clone(&lock(&self.state).objects.text);
                let before = self.ledger.before(&in_force).map_err(failed)?;
                before.ok_or_else(|| not_kept("there is no generation before the one in force"))?
            }
        };
        let text = self.ledger.text(earlier.generation).map_err(failed)?;
        let proposal = Proposal {
            text: text
                .ok_or_else(|| not_kept(&format!("the text of generation {} is not kept", earlier.generation)))?,
            source: earlier.source,
            who: who.to_owned(),
            how: How::Rollback,
            of: Some(earlier.generation),
            confirm_within: None,
        };
        let checked = proposal.check()?;
        let changed = self.change(&turn, &under, &proposal, checked)?;
        drop(turn);
        changed.with_all_directed_here(&under)
    }

    /// The time of a trial is over: unless it was confirmed or taken back meanwhile, the policy before comes back.
    fn trial_is_over(&self, generation: u64) {
        let turn = self.turns.wait();
        let before = match &lock(&self.state).trial {
            Some(trial) if trial.generation == generation => trial.before.clone(),
            Some(_) | None => return,
        };
        log::warn!("generation {generation} was not confirmed in time");
        // What then becomes of its redirections is in the log.
        if let Err(refusal) = self.put_back(&turn, &before, generation, (How::Return, "")) {
            log::error!("the policy before could not be put in force again, and will be tried again: {refusal}");
        }
    }

    /// The policy in force, as what a later one may come back to.
    fn before(&self) -> Before {
        let generation = self.ledger.policy_in_force();
        let source = self.ledger.get(generation).map(|record| record.source).unwrap_or_default();
        let state = lock(&self.state);
        let (policy, text) = (Arc::clone(&state.policy), Arc::clone(&state.objects.text));
        Before { generation, policy, text, source, sources: Arc::clone(&state.snapshot.sources) }
    }

    fn change(
        &self,
        turn: &Place<'_>,
        under: &Under,
        proposal: &Proposal,
        checked: Checked,
    ) -> Result<InForce, Refusal> {
        let before = self.before();
        let warnings = checked.warnings.iter().map(ToString::to_string).collect();
        let is_the_same = *before.text == *proposal.text;
        // Blocklists are files of their own, which the same text reads again.
        if is_the_same && checked.policy.blocklists.is_empty() {
            let generation = self.snapshot().generation.get();
            let applied = Applied { generation, unchanged: true, confirm_within_ms: None, warnings };
            return Ok(InForce { applied, redirected: self.redirect(&before.policy, Asked::All) });
        }
        let source = &proposal.source;
        let fixed = restart_needed(&before.policy, &checked.policy);
        if !fixed.is_empty() {
            let what = fixed.join(", ");
            let message = format!("{source} changes {what}, which takes a restart; nothing was changed");
            return Err(Refusal::new(RefusalKind::NeedsRestart, message));
        }
        let generation = self.ledger.next();
        let policy = Arc::new(checked.policy);
        let snapshot = self.compiled(&policy, generation, under).map_err(failed)?;
        under.at(Step::Storing);
        self.ledger.intend(proposal.record(generation, Standing::Pending), &proposal.text).map_err(failed)?;
        if let Some(within) = proposal.confirm_within {
            let this = self.this.clone();
            let over = move || {
                if let Some(running) = this.upgrade() {
                    running.trial_is_over(generation);
                }
            };
            let trial = trial::Trial::begin(generation, before.clone(), (within, AGAIN), over).map_err(|error| {
                self.ledger.settle_anyway(generation, Standing::Withdrawn);
                failed(error)
            })?;
            lock(&self.state).trial = Some(trial);
        }
        under.at(Step::Publishing);
        let moved_on = self.enact(Arc::clone(&policy), proposal.text.as_str().into(), snapshot)?;
        let in_time = moved_on.recv_timeout(PATIENCE).is_ok();
        self.tell_of(generation);
        log::info!("generation {generation} is in force, from {source}");
        let confirm_within_ms = proposal.confirm_within.map(millis);
        if !in_time {
            self.go_on_when(moved_on, generation, confirm_within_ms.is_none());
            return Err(super::late());
        }
        if confirm_within_ms.is_none()
            && let Err(why) = self.ledger.settle(generation, Standing::Committed)
        {
            self.put_back(turn, &before, generation, (How::Return, &proposal.who))?;
            let message = format!("{why}; the policy of generation {} is in force again", before.generation);
            return Err(Refusal::new(RefusalKind::Failed, message));
        }
        let applied = Applied { generation, unchanged: false, confirm_within_ms, warnings };
        let asked = if is_the_same { Asked::All } else { Asked::Changed };
        Ok(InForce { applied, redirected: self.redirect(&policy, asked) })
    }

    /// Does what follows once the workers have moved on to a generation, however long that takes: it is committed (until then a
    /// restart comes up with the one before), and its services are directed here.
    fn go_on_when(&self, moved_on: Receiver<()>, generation: u64, commits: bool) {
        let this = self.this.clone();
        let wait = move || {
            let Some(running) = moved_on.recv().ok().and_then(|()| this.upgrade()) else { return };
            if commits && let Err(why) = running.ledger.settle(generation, Standing::Committed) {
                log::error!("generation {generation} is in force and could not be written down: {why}");
            }
            let _turn = running.turns.wait();
            // Unless another policy has followed, which has said what it wants; a blocklist that was read again has not.
            if running.ledger.policy_in_force() == generation {
                let policy = Arc::clone(&lock(&running.state).policy);
                drop(running.redirect(&policy, Asked::Changed));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("late-commit".into()).spawn(wait) {
            log::error!("generation {generation} will not be written down: {error}");
        }
    }

    /// Withdraws a generation: the policy before comes into force again, as a generation of its own, whether that can be
    /// written down or not.
    fn put_back(
        &self,
        _turn: &Place<'_>,
        before: &Before,
        withdrawn: u64,
        (how, who): (How, &str),
    ) -> Result<InForce, Refusal> {
        let generation = self.ledger.next();
        let snapshot = self.compiled_as_before(before, generation).map_err(|why| {
            let message = format!("{why}; generation {withdrawn} stays in force");
            Refusal::new(RefusalKind::Failed, message)
        })?;
        let moved_on = self.enact(Arc::clone(&before.policy), Arc::clone(&before.text), snapshot)?;
        let proposal = Proposal {
            text: before.text.to_string(),
            source: before.source.clone(),
            who: who.to_owned(),
            how,
            of: Some(before.generation),
            confirm_within: None,
        };
        self.ledger.record_anyway(proposal.record(generation, Standing::Committed), &proposal.text);
        self.ledger.settle_anyway(withdrawn, Standing::Withdrawn);
        lock(&self.state).trial = None;
        self.tell_of(generation);
        log::info!("generation {generation} is in force, with the policy of generation {}", before.generation);
        if moved_on.recv_timeout(PATIENCE).is_err() {
            self.go_on_when(moved_on, generation, false);
            return Err(super::late());
        }
        let applied = Applied { generation, unchanged: false, confirm_within_ms: None, warnings: Vec::new() };
        Ok(InForce { applied, redirected: self.redirect(&before.policy, Asked::Changed) })
    }

    /// Every worker has this policy: others may direct packets of its services here, and no longer those of others (SE-20, SE-23).
    fn redirect(&self, policy: &Policy, of: Asked) -> Outcome {
        let state = lock(&self.state);
        state.redirections.as_ref().map_or(Outcome::NONE, |redirections| redirections.want(wanted(policy), of))
    }

    fn compiled(&self, policy: &Policy, generation: u64, under: &Under) -> Result<Snapshot, String> {
        let lists = blocklist::compile(&policy.blocklists, Some(self.snapshot().sources.blocklists()))?;
        let tables = Told { tables: &*self.fixed.tables, under };
        self.compiled_with(lists, policy, generation, &tables)
    }

    /// The tables of an earlier policy, as they were: its blocklists are not read again.
    fn compiled_as_before(&self, before: &Before, generation: u64) -> Result<Snapshot, String> {
        let lists = before.sources.blocklists().clone();
        self.compiled_with(lists, &before.policy, generation, &*self.fixed.tables)
    }

    /// The tables of a policy, with the rules on probation beside its own.
    fn compiled_with(
        &self,
        blocklists: Blocklists,
        policy: &Policy,
        generation: u64,
        tables: &dyn TableMaker,
    ) -> Result<Snapshot, String> {
        let (fixed, before, tried) = (&self.fixed, self.snapshot(), self.tried_beside(policy));
        let beside = Beside { blocklists, tried: tried.as_deref() };
        let number = Generation::new(generation);
        compile_with(beside, policy, &fixed.devices, number, Some(&before), tables, fixed.steer_secret)
    }

    /// Hands tables just made to the workers, with all that goes with them; the answer comes when they have moved on.
    fn enact(&self, policy: Arc<Policy>, text: Arc<str>, snapshot: Snapshot) -> Result<Receiver<()>, Refusal> {
        let removed: Vec<Arc<Backend>> =
            snapshot.services.enact(Some(&self.snapshot().services), self.fixed.clock.now());
        // Backends that were taken out or put back stand differently in the tables just made.
        let services = Arc::new(snapshot.services.rebuilt());
        let snapshot = Arc::new(Snapshot { services, ..snapshot });
        for port in &self.fixed.ports {
            port.answer_for(&snapshot);
        }
        self.renew_routes(&policy);
        log_format::set(policy.log_format);
        let neighbors = placed(&policy);
        {
            let mut state = lock(&self.state);
            if let Some(prober) = &mut state.prober {
                prober.watch(targets(&policy));
            }
            state.end_probation_beside(&policy);
            (state.policy, state.objects, state.snapshot) = (policy, Configuration::new(text), Arc::clone(&snapshot));
            self.ledger.in_force(snapshot.generation.get());
        }
        self.hand_over(snapshot, neighbors, removed)
    }

    /// Tells of a generation that has come into force.
    pub(super) fn tell_of(&self, generation: u64) {
        if let Some(AppliedPolicy { how, who, source, .. }) = self.ledger.get(generation) {
            self.bulletin.tell(Happening::Generation { generation, how, who, source });
        }
    }

    /// The generation in force, and the others.
    pub(super) fn generations(&self) -> PolicyStatus {
        let (generation, left) = {
            let state = lock(&self.state);
            (state.snapshot.generation.get(), state.trial.as_ref().map(|trial| millis(trial.left())))
        };
        let (current, history) = self.ledger.history();
        // One that comes into force at this moment may not be written down yet.
        let current = current.unwrap_or_else(|| Proposal::apply("", "", "").record(generation, Standing::Pending));
        PolicyStatus { current, confirm_within_ms: left, history }
    }
}
