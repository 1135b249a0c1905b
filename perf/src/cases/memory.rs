//! What a session takes of the machine's memory, all told, and what it costs a packet where there are ten million.

use std::fs;
use std::time::Duration;

use super::Case;
use super::point::{Point, thousands};
use crate::Outcome;
use crate::bench::{Bench, Experiment, await_sessions, or};
use crate::report::{Chapter, Table};
use crate::statistics::precise;
use crate::subject::Millrace;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

/// Sessions, where the user does not say.
const SESSIONS: u32 = 10_000_000;
/// Bytes a session that were aimed at.
const TARGET: f64 = 200.0;

impl Case for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn sentence(&self) -> &'static str {
        "Bytes of memory for each session, and what a packet costs where there are ten million."
    }

    fn method(&self) -> &'static str {
        "The appliance starts with no rule, so that the traffic is denied and the table stays empty; then the rules are applied \
         and every client gets its session. What the process has more then (resident, hugepages included, \
         /proc/PID/smaps_rollup) is divided by their number. `show memory` tells packet buffers, tables and policy. Packet buffers are there before and after. Then the cost, as \
         established, with buffers as small as the frames."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut table = Table {
            title: "Memory, bytes a session".to_owned(),
            columns: ["sessions", "process grew by", "target at most", "process in all", "show memory"]
                .map(str::to_owned)
                .to_vec(),
            rows: Vec::new(),
        };
        for sessions in or(&bench.settings.sessions, &[SESSIONS]) {
            let point = Point::plain(sessions);
            let experiment = point.experiment(bench)?;
            // All the room is used, so that what is reserved serves sessions that there are.
            let blueprint = bench.prepared(&Experiment { capacity: sessions, ..experiment.clone() })?;
            crate::machine::require(&bench.settings.millrace, &bench.settings.testpmd, blueprint.memory()?)?;
            let bar = bench.progress(&format!("{}, memory", point.label()), 1);
            let empty = blueprint.without_rules()?;
            let millrace = Millrace::start(&bench.settings.millrace, &empty, &bench.settings.folder)?;
            let before = resident(millrace.id())?;
            millrace.apply(&blueprint, |_| true)?;
            await_sessions(&millrace, sessions)?;
            std::thread::sleep(Duration::from_millis(500));
            let (after, told) = (resident(millrace.id())?, millrace.memory()?);
            drop(millrace);
            bar.finish_and_clear();
            table.rows.push(vec![
                thousands(sessions),
                format!("{:.1}", precise(after.saturating_sub(before)) / f64::from(sessions)),
                format!("{TARGET:.0}"),
                format!("{} MiB", after >> 20),
                format!("{} MiB", told.bytes >> 20),
            ]);
            match bench.compare(&experiment) {
                Ok(measured) => chapter.measurements.push(measured),
                Err(why) => chapter.failed.push(format!("{}: {why}", point.label())),
            }
        }
        chapter.tables.push(table);
        Ok(())
    }
}

/// Bytes of memory that a process has: resident pages, and hugepages, which the kernel counts apart.
fn resident(process: u32) -> Outcome<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    Ok(of_rollup(&rollup))
}

fn of_rollup(rollup: &str) -> u64 {
    let kilobytes = rollup.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counted = ["Rss", "Shared_Hugetlb", "Private_Hugetlb"].contains(&name);
        if counted { value.trim().strip_suffix(" kB")?.parse::<u64>().ok() } else { None }
    });
    kilobytes.sum::<u64>() * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_huge_pages_are_added() {
        let rollup = "561c-7fff ---p 00000000 00:00 0   [rollup]\nRss:      2048 kB\nPss:   100 kB\nAnonHugePages: 2048 kB\n\
                      Shared_Hugetlb:   0 kB\nPrivate_Hugetlb:   4096 kB\n";
        assert_eq!(of_rollup(rollup), 6_144 * 1_024);
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
    }
}
