//! What every case works with: the settings of the run, and the comparison that most of them are: testpmd and the appliance
//! in turn on the same devices, round after round, in short windows.

use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Outcome;
use crate::blueprint::Blueprint;
use crate::generator::running::Generator;
use crate::machine;
use crate::report::{Measurement, StageCost};
use crate::statistics::{Figures, Window, precise};
use crate::subject::{Millrace, Mode, Reading, Testpmd, TestpmdPlan};
use crate::traffic::{Draw, Family, Protocol, Size};

/// How long sessions may take to open before the windows begin.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// What passes before the first window counts: caches fill, the scheduler settles.
const SETTLE: Duration = Duration::from_millis(300);

/// Buffers beside those a replayed capture is kept in: queues, bursts, caches.
pub const BUFFERS_SPARE: u32 = 40_000;

/// Packets from which on buffers are only as large as the frames: with the usual 2,048 bytes ten million would take 24 GiB.
const MANY_PACKETS: u32 = 2_000_000;

/// What the user asked for. Empty lists mean that each case takes its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The appliance's program.
    pub millrace: PathBuf,
    /// The baseline's.
    pub testpmd: PathBuf,
    /// The configuration to measure, instead of the example.
    pub config: Option<PathBuf>,
    /// A capture to replay, instead of generated traffic.
    pub replay: Option<PathBuf>,
    /// Where captures and configurations are made.
    pub folder: PathBuf,
    /// The cores that do the work; most cases take the first.
    pub cores: Vec<usize>,
    /// The core of everything else.
    pub control_core: usize,
    /// How often each subject runs, in turn.
    pub rounds: usize,
    /// How long each runs in a round.
    pub run: Duration,
    /// How long a window is.
    pub window: Duration,
    /// Numbers of sessions.
    pub sessions: Vec<u32>,
    /// Frame sizes.
    pub sizes: Vec<Size>,
    /// Address families.
    pub families: Vec<Family>,
    /// Transport protocols.
    pub protocols: Vec<Protocol>,
    /// How clients are drawn.
    pub draws: Vec<Draw>,
    /// Numbers of rules.
    pub rules: Vec<u32>,
    /// Devices of the generator and the subject, outside and inside each, instead of memif between them.
    pub wired: Option<[String; 4]>,
}

/// The asked values, or the case's own.
pub fn or<T: Clone>(asked: &[T], own: &[T]) -> Vec<T> {
    if asked.is_empty() { own.to_vec() } else { asked.to_vec() }
}

/// One comparison to make.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// What is varied, in words.
    pub label: String,
    /// The same by name.
    pub parameters: BTreeMap<String, String>,
    /// Device strings, for both subjects alike; one for each port.
    pub devices: Vec<String>,
    /// The appliance's configuration. Devices, cores, memory and buffers are put in by [`Bench::prepared`].
    pub blueprint: Blueprint,
    /// Packets of captures that devices keep in buffers.
    pub packets: u32,
    /// Bytes of the longest frame, without the check sequence.
    pub longest: u16,
    /// Room for sessions.
    pub capacity: u32,
    /// Sessions that must be there before the windows begin; `None` to begin at once.
    pub sessions: Option<u32>,
    /// Net cycles aimed at.
    pub target: Option<f64>,
}

/// A run of the bench.
#[derive(Debug)]
pub struct Bench {
    /// What the user asked for.
    pub settings: Settings,
    /// Cycles of the time stamp counter in a second.
    pub hertz: f64,
    /// The generator, once a case has asked for it.
    generator: OnceCell<RefCell<Generator>>,
}

impl Bench {
    /// A run with these settings on a machine whose counter makes `hertz` cycles a second.
    #[must_use]
    pub const fn new(settings: Settings, hertz: f64) -> Self {
        Self { settings, hertz, generator: OnceCell::new() }
    }

    /// The generator, on the control core: started at the first call, since DPDK starts once in the life of a process.
    ///
    /// # Errors
    /// When it does not start, or somebody has it.
    pub fn generator(&self) -> Outcome<RefMut<'_, Generator>> {
        let generator = match self.generator.get() {
            Some(generator) => generator,
            None => {
                let devices =
                    self.settings.wired.as_ref().map(|[outside, inside, ..]| vec![outside.clone(), inside.clone()]);
                let started = Generator::start(self.settings.control_core, devices.unwrap_or_default())?;
                self.generator.get_or_init(|| RefCell::new(started))
            }
        };
        Ok(generator.try_borrow_mut()?)
    }

    /// A bar of `steps` for the user to watch, on standard error; it draws nothing where that is no terminal.
    #[must_use]
    pub fn progress(&self, label: &str, steps: usize) -> ProgressBar {
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{msg:52} {wide_bar} {pos}/{len} {eta:>4}") {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar
    }

    /// Windows in one subject's turn.
    #[must_use]
    pub fn windows(&self) -> usize {
        let windows = self.settings.run.as_secs_f64() / self.settings.window.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundreds at most")]
        let windows = windows.round() as usize;
        windows.max(1)
    }

    /// Packet buffers an experiment needs.
    #[must_use]
    pub fn buffers(experiment: &Experiment) -> u32 {
        experiment.packets.saturating_add(BUFFERS_SPARE)
    }

    /// The blueprint with the bench's devices, cores, memory and room for sessions.
    ///
    /// # Errors
    /// When the blueprint cannot take them, or is refused with them.
    pub fn prepared(&self, experiment: &Experiment) -> Outcome<Blueprint> {
        let mut blueprint = experiment.blueprint.clone();
        let cores: Vec<toml::Value> = self
            .settings
            .cores
            .iter()
            .map(|&core| i64::try_from(core).map(toml::Value::from))
            .collect::<Result<_, _>>()?;
        let socket = self.settings.folder.join("millrace.sock").display().to_string();
        blueprint
            .set("appliance", "control_socket", socket)?
            .set("cores", "control", i64::try_from(self.settings.control_core)?)?
            .set("cores", "workers", cores)?
            .set("dpdk", "hugepages", true)?
            .set("sessions", "capacity", i64::from(experiment.capacity))?
            .set_devices(&experiment.devices)?;
        if experiment.packets > MANY_PACKETS {
            blueprint.set_longest_frame(experiment.longest)?;
        }
        blueprint.set_buffers(Self::buffers(experiment))?;
        Ok(blueprint)
    }

    /// How testpmd is run on an experiment's devices.
    ///
    /// # Errors
    /// When the blueprint is refused.
    pub fn baseline(&self, experiment: &Experiment, mode: Mode) -> Outcome<TestpmdPlan> {
        Ok(TestpmdPlan {
            program: self.settings.testpmd.clone(),
            devices: experiment.devices.clone(),
            mode,
            main_core: self.settings.control_core,
            cores: self.settings.cores.clone(),
            buffers: Self::buffers(experiment),
            frame_bytes: self.prepared(experiment)?.policy()?.dpdk.buffer_size,
        })
    }

    /// Measures an experiment: testpmd in `io` and in `macswap`, then the appliance, and again, as often as there are rounds.
    ///
    /// # Errors
    /// When a subject does not start, sessions are missing, or packets were dropped.
    pub fn compare(&self, experiment: &Experiment) -> Outcome<Measurement> {
        let mut turns = Turns::new(self, experiment)?;
        for _ in 0..self.settings.rounds {
            turns.take(self)?;
        }
        Ok(turns.measurement(self))
    }

    /// Measures several experiments in turn, so that what disturbs the machine meanwhile disturbs them alike.
    ///
    /// # Errors
    /// As [`Self::compare`], with the label of the experiment that failed.
    pub fn compare_all(&self, experiments: &[Experiment]) -> Outcome<Vec<Measurement>> {
        let named = |label: &str, why: Box<dyn std::error::Error>| format!("{label}: {why}");
        let mut all = Vec::new();
        for experiment in experiments {
            all.push(Turns::new(self, experiment).map_err(|why| named(&experiment.label, why))?);
        }
        for _ in 0..self.settings.rounds {
            for turns in &mut all {
                turns.take(self).map_err(|why| named(&turns.experiment.label, why))?;
            }
        }
        Ok(all.into_iter().map(|turns| turns.measurement(self)).collect())
    }

    /// One turn of testpmd.
    ///
    /// # Errors
    /// When it does not run.
    pub fn testpmd_windows(&self, plan: &TestpmdPlan, bar: &ProgressBar) -> Outcome<Vec<Window>> {
        let mut testpmd = Testpmd::start(plan, &self.settings.folder)?;
        thread::sleep(SETTLE);
        let mut before = testpmd.sent()?;
        let mut windows = Vec::new();
        for _ in 0..self.windows() {
            thread::sleep(self.settings.window);
            let after = testpmd.sent()?;
            let seconds = after.0.duration_since(before.0).as_secs_f64();
            windows.push(Window { seconds, packets: after.1.saturating_sub(before.1) });
            before = after;
            bar.inc(1);
        }
        Ok(windows)
    }

    /// One turn of the appliance: its windows, and the counters before the first and after the last.
    ///
    /// # Errors
    /// When it does not run, sessions are missing, or a packet was dropped in a window.
    pub fn millrace_windows(
        &self,
        blueprint: &Blueprint,
        sessions: Option<u32>,
        bar: &ProgressBar,
    ) -> Outcome<(Vec<Window>, Span)> {
        let millrace = Millrace::start(&self.settings.millrace, blueprint, &self.settings.folder)?;
        await_sessions(&millrace, sessions.unwrap_or(0))?;
        thread::sleep(SETTLE);
        self.observe(&millrace, bar)
    }

    /// Watches a running appliance for one turn.
    ///
    /// # Errors
    /// When it does not answer, or a packet was dropped.
    pub fn observe(&self, millrace: &Millrace, bar: &ProgressBar) -> Outcome<(Vec<Window>, Span)> {
        let first = millrace.read()?;
        let mut before = first.clone();
        let mut windows = Vec::new();
        for _ in 0..self.windows() {
            thread::sleep(self.settings.window);
            let after = millrace.read()?;
            windows.push(Window {
                seconds: after.at.duration_since(before.at).as_secs_f64(),
                packets: after.forwarded.saturating_sub(before.forwarded),
            });
            before = after;
            bar.inc(1);
        }
        let dropped = before.dropped - first.dropped;
        if dropped > 0 {
            return Err(format!("{dropped} packets were dropped while measuring: {:?}", millrace.drops()?).into());
        }
        if before.sessions < first.sessions {
            return Err(format!("{} sessions ended while measuring", first.sessions - before.sessions).into());
        }
        Ok((windows, Span { first, last: before }))
    }
}

/// An experiment on its way: what its turns have given so far.
struct Turns<'a> {
    experiment: &'a Experiment,
    blueprint: Blueprint,
    io: TestpmdPlan,
    macswap: TestpmdPlan,
    bar: ProgressBar,
    base: Vec<Window>,
    swapped: Vec<Window>,
    total: Vec<Window>,
    spans: Vec<Span>,
}

impl<'a> Turns<'a> {
    fn new(bench: &Bench, experiment: &'a Experiment) -> Outcome<Self> {
        let blueprint = bench.prepared(experiment)?;
        machine::require(&bench.settings.millrace, &bench.settings.testpmd, blueprint.memory()?)?;
        let [io, macswap] = [bench.baseline(experiment, Mode::Io)?, bench.baseline(experiment, Mode::MacSwap)?];
        let bar = bench.progress(&experiment.label, bench.settings.rounds * 3 * bench.windows());
        let (base, swapped, total, spans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { experiment, blueprint, io, macswap, bar, base, swapped, total, spans })
    }

    /// A turn of testpmd in each mode, then one of the appliance.
    fn take(&mut self, bench: &Bench) -> Outcome<()> {
        self.base.extend(bench.testpmd_windows(&self.io, &self.bar)?);
        self.swapped.extend(bench.testpmd_windows(&self.macswap, &self.bar)?);
        let (windows, span) = bench.millrace_windows(&self.blueprint, self.experiment.sessions, &self.bar)?;
        self.total.extend(windows);
        self.spans.push(span);
        Ok(())
    }

    fn measurement(self, bench: &Bench) -> Measurement {
        self.bar.finish_and_clear();
        let Experiment { label, parameters, target, .. } = self.experiment;
        let measured = Measurement::of(&self.base, &self.total, bench.hertz, bench.settings.cores.len());
        Measurement {
            label: label.clone(),
            parameters: parameters.clone(),
            macswap: Figures::of_windows(&self.swapped, bench.hertz),
            stages: stage_costs(&self.spans),
            burst_fill: burst_fill(&self.spans),
            target: *target,
            ..measured
        }
    }
}

/// Waits until the appliance has so many sessions.
///
/// # Errors
/// When they do not come: with their number, and what was dropped instead.
pub fn await_sessions(millrace: &Millrace, wanted: u32) -> Outcome<()> {
    let begun = Instant::now();
    loop {
        let sessions = millrace.read()?.sessions;
        if sessions >= u64::from(wanted) {
            return Ok(());
        }
        if begun.elapsed() > OPEN_MAX {
            let drops = millrace.drops()?;
            return Err(format!("{sessions} of {wanted} sessions were opened; dropped: {drops:?}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Counters at both ends of a turn.
#[derive(Clone, Debug)]
pub struct Span {
    /// Before the first window.
    pub first: Reading,
    /// After the last.
    pub last: Reading,
}

/// Cycles a packet of all traffic in each stage, over all turns. A stage that few packets pass weighs little, as it should:
/// the sum is what a packet costs.
fn stage_costs(spans: &[Span]) -> Vec<StageCost> {
    let Some(names) = spans.first().map(|span| &span.last.stages) else { return Vec::new() };
    // Every packet of a measured burst passes the parser.
    let sum = |name: &str| {
        let each = spans.iter().filter_map(|Span { first, last }| {
            let first = first.stages.iter().find(|stage| stage.name == name)?;
            let last = last.stages.iter().find(|stage| stage.name == name)?;
            Some((precise(last.packets - first.packets), last.cycles - first.cycles))
        });
        each.fold((0.0, 0.0), |(packets, cycles), (p, c)| (packets + p, cycles + c))
    };
    let (packets, _) = sum("parse");
    let cost = |name: &String| StageCost { name: name.clone(), cycles: sum(name).1 / packets.max(1.0) };
    names.iter().map(|stage| cost(&stage.name)).collect()
}

fn burst_fill(spans: &[Span]) -> f64 {
    let sum = |count: fn(&Reading) -> u64| -> f64 {
        spans.iter().map(|Span { first, last }| precise(count(last) - count(first))).sum()
    };
    sum(|reading| reading.received) / sum(|reading| reading.bursts).max(1.0)
}
