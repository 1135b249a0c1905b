//! A case is played in a rig of its own, step by step; afterwards ordinary connections of others pass as ever, and the rig's
//! standing assertions hold (A2 to A5). That nothing panics is A1. A reload in between must make no difference (RLD-09).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use control::event::Note;
use units::Nanos;

use super::script::Step;
use super::table::{Case, said};
use crate::packet::end;
use crate::rig::{INSIDE, OUTSIDE, Rig};
use crate::talk::Talk;

/// Plays a case in a rig that nothing has happened in yet.
///
/// # Errors
/// The line of the script and what was different there.
pub fn run(case: &Case, rig: impl FnOnce() -> Rig) -> Result<(), String> {
    let line = Cell::new(None);
    told(&line, || {
        let mut rig = rig();
        play(case, &mut rig, &line);
        line.set(None);
        if !case.overhear {
            others_are_not_affected(&mut rig);
        }
        // What must hold after every scenario is asserted here.
        drop(rig);
    })
}

/// Plays a case, has all its sessions expire, calls `reload`, and plays it again: it has to end the same way, and to be counted
/// under the same reasons.
///
/// # Errors
/// As [`run`].
pub fn run_again_after(case: &Case, rig: impl FnOnce() -> Rig, reload: impl FnOnce(&mut Rig)) -> Result<(), String> {
    let line = Cell::new(None);
    told(&line, || {
        let mut rig = rig();
        play(case, &mut rig, &line);
        line.set(None);
        let first = rig.drops();
        for _ in 0..LIFETIME_MINUTES {
            rig.leap(Nanos::from_secs(60));
        }
        // What still waited when time went on is not the case's.
        rig.take();
        rig.notes();
        let before = rig.drops();
        reload(&mut rig);
        play(case, &mut rig, &line);
        line.set(None);
        let again: BTreeMap<_, _> = rig
            .drops()
            .into_iter()
            .map(|(reason, count)| (reason, count - before.get(reason).copied().unwrap_or(0)))
            .filter(|&(_, count)| count > 0)
            .collect();
        assert_eq!(again, first, "drops after the reload, and before");
    })
}

/// Minutes after which no session of the cases' policies is left.
const LIFETIME_MINUTES: usize = 130;

fn told(line: &Cell<Option<usize>>, played: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(played)).map_err(|panic| {
        let at = line.get().map_or_else(|| "afterwards".to_owned(), |line| format!("line {line}"));
        format!("{at}: {}", said(panic.as_ref()))
    })
}

fn play(case: &Case, rig: &mut Rig, line: &Cell<Option<usize>>) {
    if case.overhear {
        // Until every announcement has been made.
        rig.wait(3);
        rig.overhear();
        rig.take();
        rig.notes();
    }
    let mut talk = None;
    for (at, step) in &case.steps {
        line.set(Some(*at));
        match step {
            Step::Exchange(exchange) => {
                rig.after(&case.says, &exchange.out, &exchange.drops, |rig| {
                    if let Some(wait) = exchange.wait {
                        rig.leap(wait);
                    }
                    for (side, packet) in &exchange.packets {
                        rig.put(*side, packet);
                    }
                });
            }
            Step::Connect(opens) => {
                opens.open(rig);
                talk = Some(opens.clone());
            }
            Step::Alive => talk.as_ref().expect("`alive` comes behind `connect`").chat(rig),
            Step::Sessions(count) => assert_eq!(rig.session_count(), *count, "sessions: {:?}", rig.sessions()),
            Step::Alarms(count) => {
                let notes = rig.notes();
                let alarms = notes.iter().filter(|note| matches!(note, Note::Conflict { .. })).count();
                assert_eq!(alarms, *count, "claims to addresses of ours: {notes:?}");
            }
        }
    }
}

/// A connection of somebody who has nothing to do with it.
fn others_are_not_affected(rig: &mut Rig) {
    for (client, server) in [("198.51.100.77", "10.0.0.77"), ("2001:db8:51::77", "2001:db8:10::77")] {
        let (client, server) = (end(client, 777), end(server, 80));
        let talk = Talk::tcp((OUTSIDE, &client, &server), (INSIDE, &client, &server));
        talk.open(rig);
        talk.chat(rig);
    }
}
