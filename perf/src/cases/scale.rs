//! What a second worker adds.

use std::thread;

use super::Case;
use crate::Outcome;
use crate::bench::{Bench, Experiment, Settings, await_sessions};
use crate::blueprint::Blueprint;
use crate::machine;
use crate::report::{Chapter, Table};
use crate::statistics::{Figures, Window, precise};
use crate::subject::{Millrace, Mode};
use crate::traffic::{Capture, Clients, Draw, Family, Protocol, Size, Traffic};

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Scale;

/// Sessions.
const SESSIONS: u32 = 10_000;
/// Packets of two workers for one of a single one, aimed at.
const TARGET: f64 = 1.9;

impl Case for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn sentence(&self) -> &'static str {
        "Two workers beside one: packets a second of both together, for each packet of one alone."
    }

    fn method(&self) -> &'static str {
        "In line, without a generator that would take a core: each worker replays a capture from a receive queue of its own \
         (net_pcap with one rx_pcap for each worker) and sends through a queue of its own of net_null. One worker on the first \
         core with one queue, then two with two; testpmd io the same, whose ratio is what the machine gives. First as a NIC \
         delivers packets that spreads them by their source under the appliance's key: the capture of established, split by that \
         hash. Then as one does that knows nothing of sessions: each queue has the whole capture, and every worker hands half of \
         what it receives to the other over a ring, the worst spread there is; what the other cannot take at once waits at the \
         source. Where the machine has no third core, the second worker shares its core with the control thread."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let cores = two_cores(bench).ok_or("a second worker needs a second core")?;
        let alone = Shares::measured(bench, cores.split_at(1).0, Spread::BySource)?;
        let own = Shares::measured(bench, &cores, Spread::BySource)?;
        let any = Shares::measured(bench, &cores, Spread::Blind)?;
        let row = |name: &str, one: f64, two: f64, target: &str| {
            let millions = |rate: f64| format!("{:.2}", rate / 1e6);
            let ratio = format!("{:.2}", two / one.max(1.0));
            vec![name.to_owned(), millions(one), millions(two), ratio, target.to_owned()]
        };
        let target = TARGET.to_string();
        chapter.tables.push(Table {
            title: "Packets of all workers together, millions a second".to_owned(),
            columns: ["subject", "one", "two", "two for one", "target"].map(str::to_owned).into(),
            rows: vec![
                row("testpmd io, spread by source", alone.testpmd, own.testpmd, ""),
                row("millrace, spread by source", alone.millrace, own.millrace, &target),
                row("testpmd io, spread blindly", alone.testpmd, any.testpmd, ""),
                row("millrace, spread blindly", alone.millrace, any.millrace, ""),
            ],
        });
        chapter.notes.push(format!(
            "Of what two workers received, {:.1} % was dropped, {:.1} % where packets are spread blindly; it does not count.",
            own.dropped * 100.0,
            any.dropped * 100.0
        ));
        if cores.contains(&bench.settings.control_core) {
            chapter.notes.push(format!(
                "Core {} has the second worker, the control thread and the bench: the ratio is lower than with a core to spare.",
                bench.settings.control_core
            ));
        }
        Ok(())
    }
}

/// How packets come to the queues of several workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// To the owner of their session, by the hash of their source.
    BySource,
    /// To any.
    Blind,
}

/// What some workers pass on, all of them together.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Packets a second through testpmd, in the middle window.
    testpmd: f64,
    /// And through the appliance.
    millrace: f64,
    /// The share of what the appliance received that it dropped.
    dropped: f64,
}

impl Shares {
    fn measured(bench: &Bench, cores: &[usize], spread: Spread) -> Outcome<Self> {
        let bench = Bench::new(Settings { cores: cores.to_vec(), ..bench.settings.clone() }, bench.hertz);
        let experiment = experiment(&bench, cores.len(), spread)?;
        let blueprint = bench.prepared(&experiment)?;
        machine::require(&bench.settings.millrace, &bench.settings.testpmd, blueprint.memory()?)?;
        let plan = bench.baseline(&experiment, Mode::Io)?;
        let bar = bench.progress(&format!("scale, {}", experiment.label), bench.settings.rounds * 2 * bench.windows());
        let (mut base, mut ours, mut received, mut dropped) = (Vec::new(), Vec::new(), 0, 0);
        for _ in 0..bench.settings.rounds {
            base.extend(bench.testpmd_windows(&plan, &bar)?);
            let millrace = Millrace::start(&bench.settings.millrace, &blueprint, &bench.settings.folder)?;
            await_sessions(&millrace, experiment.sessions.unwrap_or(0))?;
            let mut before = millrace.read()?;
            for _ in 0..bench.windows() {
                thread::sleep(bench.settings.window);
                let after = millrace.read()?;
                let seconds = after.at.duration_since(before.at).as_secs_f64();
                ours.push(Window { seconds, packets: after.forwarded.saturating_sub(before.forwarded) });
                received += after.received.saturating_sub(before.received);
                dropped += after.dropped.saturating_sub(before.dropped);
                before = after;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let rate = |windows: &[Window]| {
            Figures::of(windows.iter().map(|window| precise(window.packets) / window.seconds)).median
        };
        Ok(Self { testpmd: rate(&base), millrace: rate(&ours), dropped: precise(dropped) / precise(received.max(1)) })
    }
}

/// The first core, and another: the user's second, else one with nothing to do, else the control core.
fn two_cores(bench: &Bench) -> Option<[usize; 2]> {
    let settings = &bench.settings;
    let first = *settings.cores.first()?;
    let others = settings.cores.iter().skip(1).copied();
    let idle = dpdk::doctor::cores_allowed().into_iter().filter(|&core| core != settings.control_core);
    let second = others.chain(idle).chain([settings.control_core]).find(|&core| core != first)?;
    Some([first, second])
}

fn experiment(bench: &Bench, workers: usize, spread: Spread) -> Outcome<Experiment> {
    let blueprint = Blueprint::example(Family::V4, Protocol::Udp)?;
    let sessions = bench.settings.sessions.first().copied().unwrap_or(SESSIONS);
    let clients = Clients::new(blueprint.target()?, sessions);
    let traffic = Traffic { clients, size: Size::Bytes(64), draw: Draw::Uniform };
    let capture = Capture::of(&traffic, &bench.settings.folder)?;
    let captures = match spread {
        Spread::BySource => capture.spread(workers)?,
        Spread::Blind => vec![capture.clone(); workers],
    };
    let queues: String = captures.iter().map(|queue| format!("rx_pcap={},", queue.path.display())).collect();
    let label = format!("{workers} worker{}", if workers == 1 { "" } else { "s" });
    Ok(Experiment {
        parameters: [("workers".to_owned(), workers.to_string())].into(),
        label,
        devices: vec![format!("net_pcap0,{queues}infinite_rx=1"), "net_null0,no-rx=1".to_owned()],
        blueprint,
        packets: capture.packets * u32::try_from(workers)?,
        longest: capture.longest,
        capacity: capture.sessions.next_power_of_two().max(1_024),
        sessions: Some(capture.sessions),
        target: None,
    })
}
