//! What the session log costs first packets: the same table filled with the log off and on, in turn, in one process.

use std::net::UdpSocket;

use super::Case;
use super::connections::{clear, fill};
use super::point::{Point, thousands};
use crate::Outcome;
use crate::bench::{Bench, or};
use crate::report::{Chapter, Table};
use crate::statistics::Figures;
use crate::subject::Millrace;
use crate::traffic::Clients;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Logged;

/// Sessions in a filling, where the user does not say.
const SESSIONS: u32 = 1_000_000;
/// Fillings of each kind in a round, the first of all left out: then the kernel still finds the memory.
const FILLINGS: usize = 3;

impl Case for Logged {
    fn name(&self) -> &'static str {
        "logged"
    }

    fn sentence(&self) -> &'static str {
        "New sessions while each is told to a collector of IPFIX, beside the same without a session log."
    }

    fn method(&self) -> &'static str {
        "As connections, with one rule; every second filling under a policy with [session_log], whose collector is a UDP socket of the \
         bench's that reads nothing. The queues are as large as they can be, and the exporter runs on the control core: what it does \
         not send in time is lost and counted, which costs the worker as much as what is sent. Only openings are watched."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut table = Table {
            title: "Cycles a new session, without a session log and with one".to_owned(),
            columns: ["new sessions", "without", "with", "ratio", "without p5", "with p5", "ratio p5"]
                .map(str::to_owned)
                .to_vec(),
            rows: Vec::new(),
        };
        for sessions in or(&bench.settings.sessions, &[SESSIONS]) {
            let label = thousands(sessions);
            match measure(bench, sessions, &label) {
                Ok((without, with)) => {
                    let cycles = |cycles: f64| format!("{cycles:.0}");
                    let ratio = |with: f64, without: f64| format!("{:.3}", with / without);
                    let median = [cycles(without.median), cycles(with.median), ratio(with.median, without.median)];
                    let p5 = [cycles(without.p5), cycles(with.p5), ratio(with.p5, without.p5)];
                    table.rows.push([label].into_iter().chain(median).chain(p5).collect());
                }
                Err(why) => chapter.failed.push(format!("{label} new sessions: {why}")),
            }
        }
        chapter.tables.push(table);
        Ok(())
    }
}

/// Cycles a new session without the log and with it.
fn measure(bench: &Bench, sessions: u32, label: &str) -> Outcome<(Figures, Figures)> {
    let collector = UdpSocket::bind("127.0.0.1:0")?;
    let point = Point::plain(sessions);
    let mut blueprint = point.blueprint(bench)?;
    let clients = Clients::new(blueprint.target()?, sessions);
    blueprint.set_rules(1, &clients)?;
    let experiment = point.experiment_with(bench, blueprint, clients)?;
    let silent = bench.prepared(&experiment)?;
    let mut telling = silent.clone();
    telling
        .set("session_log", "format", "ipfix")?
        .set("session_log", "collector", collector.local_addr()?.to_string())?
        .set("session_log", "queue", 1_048_576_i64)?;
    crate::machine::require(&bench.settings.millrace, &bench.settings.testpmd, silent.memory()?)?;
    let bar = bench.progress(label, bench.settings.rounds * 2 * FILLINGS);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..bench.settings.rounds {
        let empty = silent.without_rules()?;
        let millrace = Millrace::start(&bench.settings.millrace, &empty, &bench.settings.folder)?;
        fill(&millrace, &silent, &experiment, true)?;
        clear(&millrace, &empty)?;
        for _ in 0..FILLINGS {
            for (policy, windows) in [(&silent, &mut without), (&telling, &mut with)] {
                windows.extend(fill(&millrace, policy, &experiment, false)?);
                clear(&millrace, &empty)?;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok((Figures::of_windows(&without, bench.hertz), Figures::of_windows(&with, bench.hertz)))
}
