//! Generations as they follow each other, with stores that refuse and workers that take their time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::tests::{Bench, EDGE, without_shop_b};
use super::*;
use crate::admin::Appliance;
use crate::status::AppliedPolicy;
use crate::store::{Store, StoreError, Volatile};

/// A store whose writes fail when it is told.
#[derive(Clone, Debug, Default)]
struct Fickle(Arc<(Volatile, AtomicBool, AtomicBool)>);

impl Fickle {
    /// Which writes fail from now on: of intents, and of what became of them.
    fn fail(&self, intents: bool, outcomes: bool) {
        self.0.1.store(intents, Ordering::Relaxed);
        self.0.2.store(outcomes, Ordering::Relaxed);
    }

    fn refusal(fails: &AtomicBool) -> Result<(), StoreError> {
        let full = || StoreError::Failed { path: "/state".into(), what: "No space left on device".into() };
        if fails.load(Ordering::Relaxed) { Err(full()) } else { Ok(()) }
    }
}

impl Store for Fickle {
    fn generations(&self) -> Result<Vec<AppliedPolicy>, StoreError> {
        self.0.0.generations()
    }

    fn text(&self, generation: u64) -> Result<Option<String>, StoreError> {
        self.0.0.text(generation)
    }

    fn intend(&self, policy: &AppliedPolicy, text: &str) -> Result<(), StoreError> {
        Self::refusal(&self.0.1).and_then(|()| self.0.0.intend(policy, text))
    }

    fn settle(&self, generation: u64, standing: Standing) -> Result<(), StoreError> {
        Self::refusal(&self.0.2).and_then(|()| self.0.0.settle(generation, standing))
    }
}

fn commented(number: u64) -> String {
    format!("{EDGE}# {number}\n")
}

/// Number, number of the origin, how, what became of it; newest first, the one in force before all.
fn book(bench: &Bench) -> Vec<(u64, Option<u64>, How, Standing)> {
    let PolicyStatus { current, history, .. } = bench.appliance.policy();
    [current].into_iter().chain(history).map(|it| (it.generation, it.of, it.how, it.standing)).collect()
}

fn backends(bench: &Bench) -> usize {
    bench.appliance.services()[0].backends.len()
}

const COMMITTED: Standing = Standing::Committed;

/// RLD-01, and RLD-04: what is the same and what is faulty make no generation and reach no worker.
#[test]
fn the_same_text_and_a_faulty_one_change_nothing() {
    let bench = Bench::new();
    for _ in 0..100 {
        let applied = bench.apply(EDGE, "edge.toml").unwrap();
        assert_eq!((applied.generation, applied.unchanged), (1, true));
        assert_eq!(bench.apply("[appliance]\nname = 7\n", "bad.toml").unwrap_err().kind, RefusalKind::PolicyInvalid);
        let restart = bench.apply(&EDGE.replace("workers = [1]", "workers = [2]"), "cores.toml").unwrap_err();
        assert_eq!(restart.kind, RefusalKind::NeedsRestart);
        assert!(restart.message.contains("[cores]"), "{restart}");
        let elsewhere = EDGE.replacen("[appliance]\n", "[appliance]\nstate_folder = \"/srv/other\"\n", 1);
        let restart = bench.apply(&elsewhere, "elsewhere.toml").unwrap_err();
        assert!(restart.message.contains("[appliance] state_folder"), "{restart}");
        let hooked = bench.apply(&format!("{EDGE}[redirection]\nhook = \"/etc/redirect\"\n"), "hook.toml").unwrap_err();
        assert!(hooked.message.contains("[redirection]"), "{hooked}");
    }
    assert!(bench.asked.is_empty(), "control was asked for nothing");
    assert_eq!(book(&bench), [(1, None, How::Start, COMMITTED)]);
}

#[test]
fn a_rollback_goes_to_the_one_before_or_to_the_one_named() {
    let bench = Bench::new();
    bench.obliging();
    let back = |to| bench.appliance.rollback(to, "op");
    assert_eq!(back(None).unwrap_err().kind, RefusalKind::NotFound);
    bench.apply(&without_shop_b(), "less.toml").unwrap();
    bench.apply(&commented(3), "three.toml").unwrap();
    assert_eq!((back(None).unwrap().generation, backends(&bench)), (4, 1));
    assert_eq!((back(Some(1)).unwrap().generation, backends(&bench)), (5, 2));
    assert!(back(Some(1)).unwrap().unchanged);
    assert_eq!(back(Some(77)).unwrap_err().kind, RefusalKind::NotFound);
    let current = bench.appliance.policy().current;
    assert_eq!((current.source.as_str(), current.who.as_str()), ("edge.toml", "op"));
    let wanted = [(5, Some(1)), (4, Some(2)), (3, None), (2, None), (1, None)];
    assert_eq!(book(&bench).iter().map(|it| (it.0, it.1)).collect::<Vec<_>>(), wanted);
}

#[test]
fn the_last_twenty_can_be_gone_back_to() {
    let bench = Bench::new();
    bench.obliging();
    for number in 2..=30 {
        bench.apply(&commented(number), "edge.toml").unwrap();
    }
    let kept: Vec<u64> = book(&bench).iter().map(|it| it.0).collect();
    assert_eq!(kept, (11..=30).rev().collect::<Vec<_>>());
    assert_eq!(bench.appliance.rollback(Some(10), "op").unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(bench.appliance.rollback(Some(11), "op").unwrap().generation, 31);
}

/// CRS-02 and CRS-06: a disk that takes nothing refuses every change, the appliance goes on as it was, and once there is room
/// again changes are taken again.
#[test]
fn what_cannot_be_written_down_does_not_come_into_force() {
    let store = Fickle::default();
    let bench = Bench::keeping(Box::new(store.clone()));
    store.fail(true, true);
    let refused = bench.apply(&without_shop_b(), "less.toml").unwrap_err();
    assert_eq!(refused.message, "cannot read or write /state: No space left on device; nothing was changed");
    assert!(bench.asked.is_empty());

    bench.obliging();
    store.fail(false, true);
    let refused = bench.apply(&without_shop_b(), "less.toml").unwrap_err();
    assert!(refused.message.ends_with("the policy of generation 1 is in force again"), "{refused}");
    assert_eq!(backends(&bench), 2);
    let snapshot = bench.appliance.snapshot();
    assert_eq!(snapshot.generation, Generation::new(3), "sessions are judged again");

    store.fail(false, false);
    assert_eq!(bench.apply(&without_shop_b(), "less.toml").unwrap().generation, 4);
    assert_eq!(
        book(&bench),
        [
            (4, None, How::Apply, COMMITTED),
            (3, Some(1), How::Return, COMMITTED),
            (2, None, How::Apply, Standing::Withdrawn),
            (1, None, How::Start, COMMITTED),
        ]
    );
}

/// Rules on probation mean nothing beside a policy of other zones, but go on beside the one that stays.
#[test]
fn a_policy_that_does_not_come_into_force_ends_no_probation() {
    let store = Fickle::default();
    let bench = Bench::keeping(Box::new(store.clone()));
    bench.obliging();
    let source = || bench.appliance.staged().source;
    bench.appliance.stage(&Proposal::apply(&commented(1), "tried.toml", "op")).unwrap();
    let renamed = EDGE.replace("\"dmz\"", "\"hall\"");
    store.fail(true, true);
    bench.apply(&renamed, "other.toml").unwrap_err();
    assert_eq!(source().as_deref(), Some("tried.toml"));
    store.fail(false, false);
    bench.apply(&renamed, "other.toml").unwrap();
    assert_eq!(source(), None);
}

fn on_trial(text: &str, within: Duration) -> Proposal {
    Proposal { confirm_within: Some(within), ..Proposal::apply(text, "less.toml", "op") }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn what_is_confirmed_stays_and_what_is_not_goes_back() {
    let bench = Bench::new();
    bench.obliging();
    assert_eq!(bench.appliance.confirm().unwrap_err().kind, RefusalKind::Conflict);
    let applied = bench.appliance.apply(&on_trial(&without_shop_b(), LONG)).unwrap();
    assert_eq!((applied.generation, applied.confirm_within_ms), (2, Some(600_000)));
    assert_eq!((backends(&bench), book(&bench)[0].3), (1, Standing::Pending));
    assert!(bench.appliance.policy().confirm_within_ms.is_some());
    // Nothing is built on what may be taken back.
    assert_eq!(bench.apply(&commented(9), "edge.toml").unwrap_err().kind, RefusalKind::Conflict);
    assert_eq!(bench.appliance.rollback(Some(2), "op").unwrap_err().kind, RefusalKind::Conflict);
    // Health and drains go on.
    bench.appliance.drain(&crate::status::Target::Service("shop".into())).unwrap();
    assert_eq!(bench.appliance.confirm().unwrap().generation, 2);
    assert_eq!((book(&bench)[0], bench.appliance.policy().confirm_within_ms), ((2, None, How::Apply, COMMITTED), None));

    bench.appliance.apply(&on_trial(EDGE, LONG)).unwrap();
    let taken_back = bench.appliance.rollback(None, "op").unwrap();
    assert_eq!((taken_back.generation, backends(&bench)), (4, 1));
    let wanted = [(4, Some(2), How::Rollback, COMMITTED), (3, None, How::Apply, Standing::Withdrawn)];
    assert_eq!(book(&bench)[..2], wanted);
    assert_eq!(bench.apply(EDGE, "edge.toml").unwrap().generation, 5, "and on it goes");
}

#[test]
fn when_the_time_is_over_the_policy_before_comes_back_by_itself() {
    let bench = Bench::new();
    let applying = bench.spawn(|appliance| appliance.apply(&on_trial(&without_shop_b(), Duration::from_millis(1))));
    let tried = bench.publication();
    assert_eq!(tried.snapshot.generation, Generation::new(2));
    tried.done.send(()).unwrap();
    applying.join().unwrap().unwrap();
    let back = bench.publication();
    assert_eq!(back.snapshot.generation, Generation::new(3));
    let services = &back.snapshot.services;
    assert_eq!(services.by_name("shop").unwrap().members().len(), 2);
    back.done.send(()).unwrap();
    // The turn that took it back is over when the next one comes.
    drop(bench.appliance.turns.wait());
    let wanted = [(3, Some(1), How::Return, COMMITTED), (2, None, How::Apply, Standing::Withdrawn)];
    assert_eq!(book(&bench)[..2], wanted);
}

/// What took part in a trial that was taken back is not what was before it.
#[test]
fn a_rollback_after_a_trial_that_was_taken_back_goes_behind_it() {
    let bench = Bench::new();
    bench.obliging();
    bench.apply(&without_shop_b(), "less.toml").unwrap();
    bench.apply(EDGE, "edge.toml").unwrap();
    bench.appliance.apply(&on_trial(&commented(4), LONG)).unwrap();
    assert_eq!(bench.appliance.rollback(None, "op").unwrap().generation, 5);
    let back = bench.appliance.rollback(None, "op").unwrap();
    assert_eq!((back.generation, back.unchanged, backends(&bench)), (6, false, 1), "those of generation 2");
    assert_eq!(book(&bench)[0], (6, Some(2), How::Rollback, COMMITTED));
}

/// The example with a blocklist, and the file of that list.
fn with_a_list(folder: &tempfile::TempDir) -> (String, std::path::PathBuf) {
    let file = folder.path().join("list.txt");
    std::fs::write(&file, "192.0.2.0/24\n").unwrap();
    (format!("{EDGE}\n[[blocklist]]\nname = \"bad\"\nfile = \"{}\"\n", file.display()), file)
}

fn is_listed(bench: &Bench, address: &str) -> bool {
    let snapshot = bench.appliance.snapshot();
    let list = snapshot.sources.blocklists().by_name("bad");
    list.is_some_and(|list| list.prefixes().contains(address.parse().unwrap()))
}

/// SOP-16: the way back needs nothing that may be gone by then; what was in force comes back, whatever the files say today.
#[test]
fn a_trial_goes_back_without_the_files_of_its_lists() {
    let bench = Bench::new();
    bench.obliging();
    let folder = tempfile::tempdir().unwrap();
    let (listed, file) = with_a_list(&folder);
    bench.apply(&listed, "listed.toml").unwrap();
    for (trial, faulty) in [(3, "192.0.2."), (5, "")] {
        bench.appliance.apply(&on_trial(EDGE, LONG)).unwrap();
        assert!(!is_listed(&bench, "192.0.2.1"));
        if faulty.is_empty() {
            std::fs::remove_file(&file).unwrap();
        } else {
            std::fs::write(&file, faulty).unwrap();
        }
        bench.appliance.trial_is_over(trial);
        assert_eq!(book(&bench)[0].0, trial + 1);
        assert!(is_listed(&bench, "192.0.2.1"), "the list as it was");
        assert_eq!(bench.appliance.policy().confirm_within_ms, None);
    }
    assert_eq!(bench.apply(EDGE, "edge.toml").unwrap().generation, 7, "and on it goes");
}

/// CRS-02: of a disk that is full, files are often empty or cut off, too.
#[test]
fn what_was_not_written_down_is_taken_back_without_the_files_of_lists() {
    let store = Fickle::default();
    let bench = Bench::keeping(Box::new(store.clone()));
    bench.obliging();
    let folder = tempfile::tempdir().unwrap();
    let (listed, file) = with_a_list(&folder);
    bench.apply(&listed, "listed.toml").unwrap();
    std::fs::remove_file(file).unwrap();
    store.fail(false, true);
    let refused = bench.apply(&without_shop_b(), "less.toml").unwrap_err();
    assert!(refused.message.ends_with("the policy of generation 2 is in force again"), "{refused}");
    assert!(backends(&bench) == 2 && is_listed(&bench, "192.0.2.1"));
}

/// RLD-06: files and the API together; numbers are given in the order of the commits, and the last to come wins.
#[test]
fn of_a_hundred_changes_at_once_each_has_its_turn() {
    let bench = Bench::new();
    bench.obliging();
    let changes: Vec<_> = (0..100)
        .map(|number| {
            bench.spawn(move |appliance| {
                let how = if number % 2 == 0 { How::Apply } else { How::Sighup };
                let proposal = Proposal { how, ..Proposal::apply(&commented(number), &number.to_string(), "op") };
                (number, appliance.apply(&proposal).unwrap().generation)
            })
        })
        .collect();
    let mut done: Vec<(u64, u64)> = changes.into_iter().map(|change| change.join().unwrap()).collect();
    done.sort_by_key(|&(_, generation)| generation);
    assert_eq!(done.iter().map(|&(_, generation)| generation).collect::<Vec<_>>(), (2..=101).collect::<Vec<_>>());
    let (last, generation) = *done.last().unwrap();
    let current = bench.appliance.policy().current;
    assert_eq!((current.source, current.generation), (last.to_string(), generation));
    assert_eq!(*lock(&bench.appliance.state).objects.text, *commented(last));
    assert_eq!(bench.appliance.snapshot().generation.get(), generation);
}

/// CRS-01: from a store that a dying process has left, at every step of an apply.
#[test]
fn only_what_was_committed_is_found_by_the_next_start() {
    let store = Fickle::default();
    let bench = Bench::keeping(Box::new(store.clone()));
    let last = || {
        let kept = store.generations().unwrap();
        crate::store::last_committed(&kept).unwrap().generation
    };
    let applying = bench.spawn(|appliance| appliance.apply(&Proposal::apply(&without_shop_b(), "less.toml", "op")));
    let publication = bench.publication();
    assert_eq!((last(), store.generations().unwrap().len()), (1, 2), "on its way: written down, and not for good");
    publication.done.send(()).unwrap();
    applying.join().unwrap().unwrap();
    assert_eq!(last(), 2);
}

/// What `diff` says is what `apply` then does.
#[test]
fn the_plan_is_against_what_is_in_force() {
    let bench = Bench::new();
    bench.obliging();
    let plan = bench.appliance.diff(&without_shop_b(), "less.toml").unwrap();
    assert_eq!((plan.generation, plan.changes.len()), (1, 1));
    assert_eq!(plan.changes[0].name, "shop/shop-b");
    bench.apply(&without_shop_b(), "less.toml").unwrap();
    let plan = bench.appliance.diff(&without_shop_b(), "less.toml").unwrap();
    assert_eq!((plan.generation, plan.changes), (2, vec![]));
    let cores = EDGE.replace("workers = [1]", "workers = [2]");
    assert_eq!(bench.appliance.diff(&cores, Path::new("edge.toml").to_str().unwrap()).unwrap().restart, ["[cores]"]);
    assert_eq!(bench.appliance.diff("x", "x.toml").unwrap_err().kind, RefusalKind::PolicyInvalid);
}
