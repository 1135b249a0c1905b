//! What the first packet of a session costs: rule search, choice of a backend, a new entry for both directions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Case;
use super::point::{Point, counted, thousands};
use crate::Outcome;
use crate::bench::{Bench, Experiment, await_sessions, or};
use crate::blueprint::Blueprint;
use crate::report::{Axis, Chapter, Line, Measurement, Plot, Table};
use crate::statistics::{Figures, Window};
use crate::subject::{Millrace, Mode, Reading};
use crate::traffic::Clients;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Connections;

/// Sessions in a filling, where the user does not say.
const SESSIONS: u32 = 1_000_000;
/// Numbers of rules, where the user does not say.
const RULES: [u32; 3] = [1, 1_000, 10_000];
/// Fillings in a round; the first of them is the one after the start.
const FILLINGS: usize = 6;
/// Windows that a filling is cut into. The first and the last are left out: the policy comes into force within the one,
/// and the last sessions open within the other.
const PARTS: u64 = 10;
/// How long the sessions of a filling may take to end.
const EMPTY_MAX: Duration = Duration::from_secs(60);

/// Net cycles a first packet that were aimed at.
fn target(rules: u32) -> Option<f64> {
    match rules {
        1_000 => Some(350.0),
        10_000 => Some(550.0),
        _ => None,
    }
}

impl Case for Connections {
    fn name(&self) -> &'static str {
        "connections"
    }

    fn sentence(&self) -> &'static str {
        "New sessions: the first packet of each, with few rules and with many."
    }

    fn method(&self) -> &'static str {
        "As established, UDP over IPv4, but watched while the table fills. The appliance starts with no rule and denies all; \
         then the rules are applied to the running appliance, and for one pass of the capture every packet is the first of its \
         session. Counters are read every few milliseconds; the first and last tenth of the pass are left out. Then the rules \
         are taken away, the sessions end with their next packet, and it begins again. A filling in which a packet is dropped for another reason, or \
         a session stays missing, is no result. The rules share the clients out by address and range of source ports."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut first = Table {
            title: "The first filling after the start, when the kernel still finds the memory, and the later ones"
                .to_owned(),
            columns: ["cycles a new session", "first", "later", "million a second"].map(str::to_owned).to_vec(),
            rows: Vec::new(),
        };
        let mut line = Line { name: "new sessions".to_owned(), points: Vec::new() };
        for sessions in or(&bench.settings.sessions, &[SESSIONS]) {
            for rules in or(&bench.settings.rules, &RULES) {
                let label = format!("{} new, {}", thousands(sessions), counted(rules, "rule"));
                match measure(bench, sessions, rules, &label) {
                    Ok((measured, cold)) => {
                        let rate = format!("{:.2}", measured.mpps);
                        let cycles = |cycles: f64| format!("{cycles:.0}");
                        let row = [label, cycles(cold.median), cycles(measured.millrace.median), rate];
                        first.rows.push(row.to_vec());
                        line.points.push((f64::from(rules), measured.net.median));
                        chapter.measurements.push(measured);
                    }
                    Err(why) => chapter.failed.push(format!("{label}: {why}")),
                }
            }
        }
        if line.points.len() > 1 {
            chapter.plots.push(Plot {
                title: "Net cycles a new session by the number of rules".to_owned(),
                x: Axis { title: "rules".to_owned(), logarithmic: true },
                y: Axis { title: "cycles above testpmd io".to_owned(), logarithmic: false },
                lines: vec![line],
            });
        }
        chapter.tables.push(first);
        Ok(())
    }
}

/// The comparison, and the figures of the first fillings after each start.
fn measure(bench: &Bench, sessions: u32, rules: u32, label: &str) -> Outcome<(Measurement, Figures)> {
    let point = Point::plain(sessions);
    let mut blueprint = point.blueprint(bench)?;
    let clients = Clients::new(blueprint.target()?, sessions);
    blueprint.set_rules(rules, &clients)?;
    let experiment = point.experiment_with(bench, blueprint, clients)?;
    let full = bench.prepared(&experiment)?;
    crate::machine::require(&bench.settings.millrace, &bench.settings.testpmd, full.memory()?)?;
    let plan = bench.baseline(&experiment, Mode::Io)?;
    let bar = bench.progress(label, bench.settings.rounds * (bench.windows() + FILLINGS));
    let (mut base, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.settings.rounds {
        base.extend(bench.testpmd_windows(&plan, &bar)?);
        let empty = full.without_rules()?;
        let millrace = Millrace::start(&bench.settings.millrace, &empty, &bench.settings.folder)?;
        for filling in 0..FILLINGS {
            let windows = fill(&millrace, &full, &experiment, filling == 0)?;
            if filling == 0 {
                cold.extend(windows);
            } else {
                warm.extend(windows);
            }
            clear(&millrace, &empty)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mut parameters = point.parameters();
    parameters.insert("rules".to_owned(), rules.to_string());
    let measured = Measurement::of(&base, &warm, bench.hertz, bench.settings.cores.len());
    let measured = Measurement { label: label.to_owned(), parameters, target: target(rules), ..measured };
    Ok((measured, Figures::of_windows(&cold, bench.hertz)))
}

/// Applies the rules and watches the table fill: windows of new sessions. In the `first` filling of all, the worker has still
/// to be told the backends' MAC addresses, and packets beyond those it holds meanwhile may be lost; their sessions are there.
pub(super) fn fill(
    millrace: &Millrace,
    full: &Blueprint,
    experiment: &Experiment,
    first: bool,
) -> Outcome<Vec<Window>> {
    let wanted = u64::from(experiment.sessions.unwrap_or_default());
    let before = millrace.read()?;
    let denied_before = millrace.drops()?;
    let mut readings = vec![before.clone()];
    millrace.apply(full, |reading| {
        readings.push(reading.clone());
        reading.sessions >= wanted
    })?;
    let denied = millrace.drops()?;
    let others = |drops: &BTreeMap<String, u64>| -> u64 {
        let expected = |reason: &str| reason == "firewall_denied" || (first && reason == "neighbor_queue_full");
        drops.iter().filter(|(reason, _)| !expected(reason)).map(|(_, packets)| packets).sum()
    };
    if others(&denied) != others(&denied_before) {
        return Err(format!("packets were dropped while sessions opened: {denied:?}").into());
    }
    let windows = parts(&readings, wanted);
    if windows.is_empty() {
        return Err("the table filled between two looks at it; take more sessions".into());
    }
    Ok(windows)
}

/// Windows between looks at least a part of the filling apart, without its first and last part.
fn parts(readings: &[Reading], wanted: u64) -> Vec<Window> {
    let Some(first) = readings.first() else { return Vec::new() };
    let opened = |reading: &Reading| reading.opened - first.opened;
    let part = (wanted / PARTS).max(1);
    let inner = readings.iter().filter(|reading| (part..=wanted - part).contains(&opened(reading)));
    let mut windows = Vec::new();
    let mut begin: Option<&Reading> = None;
    for reading in inner {
        let Some(from) = begin else {
            begin = Some(reading);
            continue;
        };
        if opened(reading) - opened(from) >= part {
            let seconds = reading.at.duration_since(from.at).as_secs_f64();
            windows.push(Window { seconds, packets: opened(reading) - opened(from) });
            begin = Some(reading);
        }
    }
    windows
}

/// Takes the rules away and waits until no session is left.
pub(super) fn clear(millrace: &Millrace, empty: &Blueprint) -> Outcome<()> {
    let begun = Instant::now();
    let mut left = 0;
    millrace.apply(empty, |reading| {
        left = reading.sessions;
        left == 0 || begun.elapsed() > EMPTY_MAX
    })?;
    if left > 0 {
        return Err(format!("{left} sessions did not end when their rules were taken away").into());
    }
    await_sessions(millrace, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_is_cut_into_windows_without_its_ends() {
        let begin = Instant::now();
        let reading = |opened: u64| Reading {
            at: begin + Duration::from_micros(opened),
            received: 0,
            forwarded: 0,
            dropped: 0,
            bursts: 0,
            sessions: 0,
            opened: 77 + opened,
            generation: 1,
            stages: Vec::new(),
            by_worker: Vec::new(),
        };
        let readings: Vec<Reading> = (0..=100).map(|percent| reading(percent * 10)).collect();
        let windows = parts(&readings, 1_000);
        assert_eq!(windows.len(), 8);
        assert!(windows.iter().all(|window| window.packets == 100 && (window.seconds - 1e-4).abs() < 1e-9));
        assert_eq!(parts(&[reading(0), reading(1_000)], 1_000), []);
        assert_eq!(parts(&[], 1_000), []);
    }
}
