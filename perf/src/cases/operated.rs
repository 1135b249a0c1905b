//! What a busy control plane costs packets: policies that follow each other, and every document read, over and over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::Case;
use super::point::{Point, counted};
use crate::Outcome;
use crate::bench::{Bench, Experiment, await_sessions, or};
use crate::machine;
use crate::report::{Chapter, Table};
use crate::statistics::{Figures, Window};
use crate::subject::{Millrace, Worked};
use crate::traffic::Clients;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Operated;

/// Sessions, where the user does not say.
const SESSIONS: u32 = 10_000;
/// Rules of each policy, where the user does not say.
const RULES: u32 = 10_000;
/// More cycles a packet than with an idle control plane, at most.
const TARGET: f64 = 0.03;

impl Case for Operated {
    fn name(&self) -> &'static str {
        "apply"
    }

    fn sentence(&self) -> &'static str {
        "Established traffic while policies are applied and everything is read, beside the same with an idle control plane."
    }

    fn method(&self) -> &'static str {
        "As established, UDP over IPv4. Two policies of 10,000 rules each allow the same traffic and share it out differently; \
         they are applied in turn, one as soon as the other is in force, while a second caller reads every document of the API and the metrics ten \
         times a second. In each round the appliance is watched idle, then operated, in the same process. A round in which a packet is \
         dropped is no result. The policies are compiled on the control core, which is not the worker's."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut table = Table {
            title: "Cycles a packet, with an idle control plane and with a busy one".to_owned(),
            columns: ["traffic", "idle", "operated", "cost", "idle p5", "operated p5", "policies", "documents"]
                .map(str::to_owned)
                .to_vec(),
            rows: Vec::new(),
        };
        for sessions in or(&bench.settings.sessions, &[SESSIONS]) {
            for rules in or(&bench.settings.rules, &[RULES]) {
                let label = format!("{} sessions, two policies of {}", sessions, counted(rules, "rule"));
                match measure(bench, sessions, rules, &label) {
                    Ok((idle, operated, worked)) => {
                        let cost = operated.median / idle.median - 1.0;
                        if cost > TARGET {
                            chapter.notes.push(format!(
                                "{label}: {:.1} % more cycles, {:.0} % were aimed at.",
                                cost * 100.0,
                                TARGET * 100.0
                            ));
                        }
                        let cycles = |cycles: f64| format!("{cycles:.1}");
                        let cost = format!("{:+.1} %", cost * 100.0);
                        let figures =
                            [cycles(idle.median), cycles(operated.median), cost, cycles(idle.p5), cycles(operated.p5)];
                        let work = [worked.policies.to_string(), worked.documents.to_string()];
                        table.rows.push([label].into_iter().chain(figures).chain(work).collect());
                    }
                    Err(why) => chapter.failed.push(format!("{label}: {why}")),
                }
            }
        }
        chapter.tables.push(table);
        Ok(())
    }
}

/// Cycles a packet idle and operated, and what was done meanwhile.
fn measure(bench: &Bench, sessions: u32, rules: u32, label: &str) -> Outcome<(Figures, Figures, Worked)> {
    let (experiment, policies) = prepared(bench, sessions, rules)?;
    let first = bench.prepared(&experiment)?;
    machine::require(&bench.settings.millrace, &bench.settings.testpmd, first.memory()?)?;
    let bar = bench.progress(label, bench.settings.rounds * 2 * bench.windows());
    let (mut idle, mut operated, mut worked) = (Vec::<Window>::new(), Vec::<Window>::new(), Worked::default());
    for _ in 0..bench.settings.rounds {
        let millrace = Millrace::start(&bench.settings.millrace, &first, &bench.settings.folder)?;
        await_sessions(&millrace, experiment.sessions.unwrap_or(0))?;
        idle.extend(bench.observe(&millrace, &bar)?.0);
        let (operator, enough) = (millrace.operator(), AtomicBool::new(false));
        let (windows, did) = thread::scope(|scope| {
            let working = scope.spawn(|| operator.work(&policies, &enough).map_err(|why| why.to_string()));
            let watched = bench.observe(&millrace, &bar);
            enough.store(true, Ordering::Relaxed);
            let worked = working.join().map_err(|_| "the operator's thread ended by a fault")??;
            Outcome::Ok((watched?.0, worked))
        })?;
        if did.policies == 0 {
            return Err("no policy came into force while it was watched; watch longer (--seconds)".into());
        }
        operated.extend(windows);
        worked.policies += did.policies;
        worked.documents += did.documents;
    }
    bar.finish_and_clear();
    Ok((Figures::of_windows(&idle, bench.hertz), Figures::of_windows(&operated, bench.hertz), worked))
}

/// The experiment under the first policy, and the texts of both.
fn prepared(bench: &Bench, sessions: u32, rules: u32) -> Outcome<(Experiment, Vec<String>)> {
    let point = Point::plain(sessions);
    let mut experiments = Vec::new();
    let mut texts = Vec::new();
    // One rule more is another share of the clients for nearly every rule.
    for count in [rules + 1, rules] {
        let mut blueprint = point.blueprint(bench)?;
        let clients = Clients::new(blueprint.target()?, sessions);
        blueprint.set_rules(count, &clients)?;
        let experiment = point.experiment_with(bench, blueprint, clients)?;
        texts.push(bench.prepared(&experiment)?.text()?);
        experiments.push(experiment);
    }
    let first = experiments.pop().ok_or("there are two policies")?;
    Ok((first, texts))
}
