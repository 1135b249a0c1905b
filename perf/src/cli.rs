//! The command line: what can be asked, and what it becomes. `main` only calls [`Cli::run`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;

use crate::bench::{Bench, Settings};
use crate::blueprint::Blueprint;
use crate::machine::{self, Machine};
use crate::report::{Report, VERSION, page, text};
use crate::traffic::{self, Clients, Draw, Family, Protocol, Size, Traffic};
use crate::{Outcome, cases};

/// Measures what the appliance costs a packet, beside dpdk-testpmd on the same devices.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures cases and prints what they cost.
    Run(Box<Run>),
    /// Names the cases.
    List,
    /// Writes a capture, as cases replay them.
    Traffic(Box<Written>),
    /// Says what this machine lacks for a run, and what mends it.
    Doctor(Box<Programs>),
    /// Draws a report from a JSON file of an earlier run.
    Show {
        /// What `run --json` has written.
        file: PathBuf,
        /// Write a page of HTML here.
        #[arg(long)]
        html: Option<PathBuf>,
    },
}

/// The programs under measurement.
#[derive(Clone, Debug, Args)]
pub struct Programs {
    /// The appliance's program, a release build.
    #[arg(long, default_value_os_t = beside("millrace"), value_name = "FILE")]
    millrace: PathBuf,
    /// The baseline's program.
    #[arg(long, default_value = "dpdk-testpmd", value_name = "FILE")]
    testpmd: PathBuf,
}

/// What traffic consists of.
#[derive(Clone, Debug, Args)]
pub struct Kinds {
    /// Address families: ipv4, ipv6.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    family: Vec<Family>,
    /// Transport protocols: udp, tcp.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    protocol: Vec<Protocol>,
    /// Frame sizes with the check sequence, 64 to 1518, or imix.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    size: Vec<Size>,
    /// Who sends next: uniform, zipf.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    draw: Vec<Draw>,
}

/// `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Cases; all when none is named (`millrace-perf list`).
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// The appliance's configuration, instead of the bench's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A capture to replay, instead of generated traffic.
    #[arg(long, value_name = "FILE.pcap")]
    replay: Option<PathBuf>,
    /// Numbers of sessions.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    sessions: Vec<u32>,
    /// Numbers of firewall rules.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    rules: Vec<u32>,
    #[command(flatten)]
    kinds: Kinds,
    /// Times each subject runs, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Seconds each runs in a round.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Milliseconds of a window.
    #[arg(long, default_value_t = 100, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=10_000))]
    window: u64,
    /// The core that does the work, or several.
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "LIST")]
    core: Vec<usize>,
    /// The core of everything else.
    #[arg(long, default_value_t = 0)]
    control_core: usize,
    /// Ports wired to each other, for the cases with a generator, instead of memif: the generator's outside and inside, the
    /// subject's outside and inside. A device with arguments holds commas, so each is an argument of its own.
    #[arg(long, num_args = 4, value_names = ["OUTSIDE", "INSIDE", "SUBJECT_OUTSIDE", "SUBJECT_INSIDE"])]
    wired: Vec<String>,
    #[command(flatten)]
    programs: Programs,
    /// Where captures and configurations are made; captures stay for the next run.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("millrace-perf"), value_name = "FOLDER")]
    folder: PathBuf,
    /// Write the report as JSON here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one page of HTML here.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// `traffic`.
#[derive(Clone, Debug, Args)]
pub struct Written {
    /// How many clients; each is a session of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    clients: u32,
    /// The configuration whose first service they ask, instead of the bench's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    kinds: Kinds,
    /// The file to write.
    output: PathBuf,
}

/// A program in the folder of this one: both are built into the same.
fn beside(name: &str) -> PathBuf {
    let folder = std::env::current_exe().ok().and_then(|program| program.parent().map(PathBuf::from));
    folder.unwrap_or_default().join(name)
}

fn seconds(written: &str) -> Result<f64, String> {
    let seconds = written.parse().ok().filter(|seconds| (0.1..=3_600.0).contains(seconds));
    seconds.ok_or_else(|| "write 0.1 to 3600 seconds".to_owned())
}

impl Run {
    fn settings(&self) -> Settings {
        let Self { kinds, programs, .. } = self;
        Settings {
            millrace: programs.millrace.clone(),
            testpmd: programs.testpmd.clone(),
            config: self.config.clone(),
            replay: self.replay.clone(),
            folder: self.folder.clone(),
            cores: self.core.clone(),
            control_core: self.control_core,
            rounds: self.rounds.into(),
            run: Duration::from_secs_f64(self.seconds),
            window: Duration::from_millis(self.window),
            sessions: self.sessions.clone(),
            sizes: kinds.size.clone(),
            families: kinds.family.clone(),
            protocols: kinds.protocol.clone(),
            draws: kinds.draw.clone(),
            rules: self.rules.clone(),
            wired: <[String; 4]>::try_from(self.wired.clone()).ok(),
        }
    }

    /// Measures; true when every case came to its end.
    fn measure(&self) -> Outcome<bool> {
        let cases = cases::named(&self.cases)?;
        machine::require(&self.programs.millrace, &self.programs.testpmd, 0)?;
        std::fs::create_dir_all(&self.folder)?;
        let _favored = machine::favor_this_session();
        let begun = Timestamp::now();
        let machine = Machine::this();
        let bench = Bench::new(self.settings(), machine.hertz);
        let chapters = cases.into_iter().map(|case| cases::chapter(case, &bench)).collect();
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let report = Report {
            version: VERSION,
            begun,
            command: format!("millrace-perf {}", arguments.join(" ")),
            millrace: env!("CARGO_PKG_VERSION").to_owned(),
            machine,
            chapters,
        };
        if let Some(file) = &self.json {
            std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
        }
        draw(&report, self.html.as_ref())?;
        Ok(report.passed())
    }
}

fn draw(report: &Report, html: Option<&PathBuf>) -> Outcome<()> {
    print!("{}", text(report));
    if let Some(file) = html {
        std::fs::write(file, page(report))?;
    }
    Ok(())
}

impl Written {
    fn write(&self) -> Outcome<()> {
        let first = |family: Option<&Family>| family.copied().unwrap_or(Family::V4);
        let blueprint = match &self.config {
            Some(file) => Blueprint::read(file)?,
            None => Blueprint::example(
                first(self.kinds.family.first()),
                self.kinds.protocol.first().copied().unwrap_or(Protocol::Udp),
            )?,
        };
        let traffic = Traffic {
            clients: Clients::new(blueprint.target()?, self.clients),
            size: self.kinds.size.first().copied().unwrap_or(Size::Bytes(64)),
            draw: self.kinds.draw.first().copied().unwrap_or(Draw::Uniform),
        };
        Ok(traffic::write(&self.output, traffic.frames())?)
    }
}

impl Cli {
    /// Does what these arguments ask for; true when all went well.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Outcome<bool> {
        match Self::parse_from(arguments).command {
            Command::Run(run) => return run.measure(),
            Command::List => {
                for case in cases::ALL {
                    println!("{:<14} {}\n{:15}{}\n", case.name(), case.sentence(), "", case.method());
                }
            }
            Command::Traffic(written) => written.write()?,
            Command::Doctor(programs) => {
                let lacks = machine::lacks(&programs.millrace, &programs.testpmd, 1 << 30);
                for lack in &lacks {
                    println!("{lack}");
                }
                return Ok(lacks.is_empty());
            }
            Command::Show { file, html } => {
                let report: Report = serde_json::from_str(&std::fs::read_to_string(file)?)?;
                draw(&report, html.as_ref())?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn settings(line: &str) -> Settings {
        let arguments = ["millrace-perf", "run"].into_iter().chain(line.split_whitespace());
        let Command::Run(run) = Cli::try_parse_from(arguments).unwrap().command else { unreachable!() };
        run.settings()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_read_with_commas_and_nothing_means_the_cases_own() {
        let settings =
            settings("established --sessions 1000,10000 --size 64,imix --family ipv6 --protocol tcp,udp --core 2,3");
        assert_eq!(settings.sessions, [1_000, 10_000]);
        assert_eq!(settings.sizes, [Size::Bytes(64), Size::Imix]);
        assert_eq!((settings.families, settings.protocols), (vec![Family::V6], vec![Protocol::Tcp, Protocol::Udp]));
        assert_eq!((settings.cores, settings.draws), (vec![2, 3], vec![]));
    }

    #[test]
    fn time_is_bounded() {
        assert_eq!(settings("--seconds 0.5 --window 50").run, Duration::from_millis(500));
        for wrong in ["--seconds 0", "--seconds nan", "--rounds 0", "--window 5", "--size 63", "--family 5"] {
            let arguments = ["millrace-perf", "run"].into_iter().chain(wrong.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{wrong}");
        }
    }
}
