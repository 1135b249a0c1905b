//! What each command does, and its exit status: 0 done, 1 refused or failed (2, wrong usage, is the command line's own).

mod progress_bar;

use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;
use serde::Serialize;
use serde::de::DeserializeOwned;
use units::limits::CLASSIFIER_BUILD_BYTES;

use crate::bulletin::Told;
use crate::capture::CaptureWanted;
use crate::cli::{Captured, Cli, Command, Concerned, DEFAULT_SOCKET, ReloadKind, Show, Traced};
use crate::client::Client;
use crate::status::{Applied, Changed, Reload, Supposed, Target, TraceNews};
use crate::trace::rehearsal::PACKETS_MAX;
use crate::{client::ClientError, compile, doctor, redirection, render};

/// Why a command failed: what is printed on standard error, one or several lines.
#[derive(Debug)]
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Where a command writes: answers and complaints apart.
pub struct Console<'a> {
    /// Standard output.
    pub answers: &'a mut dyn Write,
    /// Standard error.
    pub complaints: &'a mut dyn Write,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console<'_> {
    /// A reader that went away (`| head`) is no failure.
    fn print(&mut self, text: &str) {
        let _ = self.tell(text);
    }

    /// The same of an answer that goes on, which ends when nobody reads it.
    fn tell(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.answers, "{text}")
    }

    fn complain(&mut self, text: &str) {
        let _ = writeln!(self.complaints, "{text}");
    }
}

/// Does what was typed and returns the exit status.
#[must_use]
pub fn run(cli: Cli, console: &mut Console<'_>) -> u8 {
    let socket = cli.socket;
    let done = match cli.command {
        Command::Run { config, resume } => start(&config, resume),
        Command::Check { file } => check(&file, console),
        Command::Doctor { file, json } => examine(file.as_deref(), json, console),
        Command::Diff { file, json } => diff(socket, &file, json, console),
        Command::Apply { file, staged: true, json, .. } => stage(socket, &file, json, console),
        Command::Unstage { json } => unstage(socket, json, console),
        Command::Apply { file, confirm_within, json, .. } => apply(socket, &file, confirm_within, json, console),
        Command::Confirm { json } => generation(socket, json, Client::confirm, render::confirmed, console),
        Command::Rollback { generation: to, json } => {
            generation(socket, json, |client| client.rollback(to), render::applied, console)
        }
        Command::Drain { concerned, undo: false } => {
            change(socket, &concerned, Client::drain, render::drained, console)
        }
        Command::Drain { concerned, undo: true } => {
            change(socket, &concerned, Client::undrain, render::undrained, console)
        }
        Command::Flush(concerned) => change(socket, &concerned, Client::flush, render::flushed, console),
        Command::Capture(captured) => capture(socket, captured, console),
        Command::Top { every } => client(socket).and_then(|client| Ok(crate::top::show(&client, every)?)),
        Command::Trace(traced) => trace(socket, traced, console),
        Command::Reload { what: ReloadKind::Blocklist { name, json } } => reload(socket, name, json, console),
        Command::RunHook { hook, timeout } => run_hook(&hook, timeout),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "millrace", &mut console.answers);
            Ok(())
        }
        Command::Manual { folder } => manual(&folder),
        Command::Events { json } => events(socket, json, console),
        Command::Show { what, json } => show(socket, what, json, console),
    };
    match done {
        Ok(()) => 0,
        Err(Failure(words)) => {
            if !words.is_empty() {
                console.complain(&words);
            }
            1
        }
    }
}

#[cfg(feature = "dpdk")]
fn start(config: &Path, resume: bool) -> Result<(), Failure> {
    Ok(crate::launch::run(config, resume)?)
}

#[cfg(not(feature = "dpdk"))]
fn start(_config: &Path, _resume: bool) -> Result<(), Failure> {
    Err(Failure("this build has no data plane; build with `--features dpdk`".to_owned()))
}

/// The process of [`redirection::Runner`].
fn run_hook(hook: &Path, timeout: Duration) -> Result<(), Failure> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(redirection::serve(UnixStream::from(socket), hook, timeout)?)
}

fn manual(folder: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|error| Failure(format!("{}: the manual pages cannot be written: {error}", folder.display())))
}

/// Rules from which on `check` tells what compiling them takes.
const MANY_RULES: usize = 1_000;

/// Every fault of a configuration at once.
fn check(file: &Path, console: &mut Console<'_>) -> Result<(), Failure> {
    let checked = config::load(&config::read(file)?, file)?;
    for warning in &checked.warnings {
        console.complain(&warning.to_string());
    }
    let snapshot = compile::rehearse(&checked.policy)?;
    // It may be another machine's.
    if let Some(Err(why)) = checked.policy.redirection.as_ref().map(|wanted| redirection::sound(&wanted.hook)) {
        console.complain(&format!("the hook of [redirection] cannot be run here: {why}"));
    }
    for list in snapshot.sources.blocklists().iter() {
        let (prefixes, kib) = (list.prefixes().prefixes(), list.prefixes().memory().div_ceil(1_024));
        console.print(&format!("blocklist {}: {prefixes} prefixes, {kib} KiB", list.name()));
    }
    let rules = &checked.policy.firewall.rules;
    if rules.len() >= MANY_RULES {
        let mib = CLASSIFIER_BUILD_BYTES >> 20;
        console.print(&format!("rules: {}, compiled with up to {mib} MiB of memory for the moment", rules.len()));
    }
    console.print(&format!("{}: valid", file.display()));
    Ok(())
}

/// The answer lists what is missing; the exit status is 1 when something is.
fn examine(file: Option<&Path>, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let policy = match file {
        Some(file) => Some(config::load(&config::read(file)?, file)?.policy),
        None => None,
    };
    let findings = doctor::examine(policy.as_ref());
    console.print(&if json { pretty(&findings) } else { doctor::render(&findings) });
    if doctor::is_well(&findings) { Ok(()) } else { Err(Failure(String::new())) }
}

fn diff(socket: Option<PathBuf>, file: &Path, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let text = config::read(file)?;
    let client = client_of(socket, &text, file)?;
    let plan = client.diff(&text, &file.display().to_string()).map_err(explained)?;
    console.print(&if json { pretty(&plan) } else { render::plan(&plan) });
    Ok(())
}

fn apply(
    socket: Option<PathBuf>,
    file: &Path,
    confirm_within: Option<Duration>,
    json: bool,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let text = config::read(file)?;
    let client = client_of(socket, &text, file)?;
    let apply = || client.apply(&text, &file.display().to_string(), confirm_within);
    let applied = progress_bar::watched(&client, apply).map_err(explained)?;
    console.print(&if json { pretty(&applied) } else { render::applied(&applied) });
    Ok(())
}

fn stage(socket: Option<PathBuf>, file: &Path, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let text = config::read(file)?;
    let client = client_of(socket, &text, file)?;
    let staged = client.stage(&text, &file.display().to_string()).map_err(explained)?;
    console.print(&if json { pretty(&staged) } else { render::staged(&staged) });
    Ok(())
}

fn unstage(socket: Option<PathBuf>, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let staged = client(socket)?.unstage().map_err(explained)?;
    console.print(&if json { pretty(&staged) } else { render::staged(&staged) });
    Ok(())
}

/// Without `--socket`, the appliance asked is the one the file describes.
fn client_of(socket: Option<PathBuf>, text: &str, file: &Path) -> Result<Client, Failure> {
    let socket = match socket {
        Some(socket) => socket,
        None => config::load(text, file)?.policy.appliance.control_socket,
    };
    Ok(Client::new(&socket)?)
}

/// `confirm` and `rollback`.
fn generation(
    socket: Option<PathBuf>,
    json: bool,
    call: impl Fn(&Client) -> Result<Applied, ClientError>,
    words: impl Fn(&Applied) -> String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let applied = call(&client(socket)?).map_err(explained)?;
    console.print(&if json { pretty(&applied) } else { words(&applied) });
    Ok(())
}

fn reload(socket: Option<PathBuf>, name: String, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let reloaded = client(socket)?.reload(&Reload::Blocklist(name)).map_err(explained)?;
    console.print(&if json { pretty(&reloaded) } else { render::reloaded(&reloaded) });
    Ok(())
}

fn change(
    socket: Option<PathBuf>,
    concerned: &Concerned,
    call: impl Fn(&Client, &Target) -> Result<Changed, ClientError>,
    words: impl Fn(&Changed) -> String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let changed = call(&client(socket)?, &concerned.target()).map_err(explained)?;
    console.print(&if concerned.json { pretty(&changed) } else { words(&changed) });
    Ok(())
}

/// Until the appliance stops.
fn events(socket: Option<PathBuf>, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut tell = |told: Told| {
        console.tell(&if json { serde_json::to_string(&told).unwrap_or_default() } else { render::event(&told) })
    };
    read_to_the_end(client(socket)?.events(&mut tell))
}

/// An answer that goes on has ended; that its reader went away is no failure.
fn read_to_the_end(ended: Result<(), ClientError>) -> Result<(), Failure> {
    match ended {
        Err(ClientError::File(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => ended.map_err(explained),
    }
}

/// Follows packets as they pass, or asks about some that are only supposed.
fn trace(socket: Option<PathBuf>, traced: Traced, console: &mut Console<'_>) -> Result<(), Failure> {
    let Traced { wanted, count, span, packet, pcap, port, json } = traced;
    let client = client(socket)?;
    let supposed = match (packet, pcap) {
        (Some(packet), _) => vec![Supposed { packet: Some(packet), ..Supposed::default() }],
        (None, Some(file)) => supposed(&file, port.as_deref(), count)?,
        (None, None) => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let mut tell = |news| match news {
                news if json => console.tell(&serde_json::to_string(&news).unwrap_or_default()),
                TraceNews::Begin => {
                    console.complain("following packets; ^C ends it");
                    Ok(())
                }
                TraceNews::Packet(packet) => console.tell(&render::trace(&packet)),
                TraceNews::End(end) => console.tell(&render::trace_end(&end)),
            };
            return read_to_the_end(client.trace(&wanted, count, span, &mut tell));
        }
    };
    for judged in client.suppose(&supposed).map_err(explained)? {
        console.print(&if json { serde_json::to_string(&judged).unwrap_or_default() } else { render::trace(&judged) });
    }
    Ok(())
}

/// Writes frames to a file as they come.
fn capture(socket: Option<PathBuf>, captured: Captured, console: &mut Console<'_>) -> Result<(), Failure> {
    let Captured { port, write, direction, drops, filter, count, span, size, snap } = captured;
    let wanted = CaptureWanted {
        port,
        directions: direction,
        drops: drops.unwrap_or_default(),
        filter,
        snap,
        count: count.unwrap_or(u64::MAX),
        size,
        span,
    };
    let client = client(socket)?;
    if write.as_os_str() == "-" {
        let answers = &mut *console.answers;
        let mut take = |bytes: &[u8]| answers.write_all(bytes).and_then(|()| answers.flush());
        return read_to_the_end(client.capture(&wanted, &mut take));
    }
    // Made only when there is something to write: a refusal leaves what was there.
    let (mut file, mut written) = (None, 0);
    let mut take = |bytes: &[u8]| {
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(std::fs::File::create(&write)?),
        };
        written += bytes.len() as u64;
        file.write_all(bytes)
    };
    console.complain("capturing; ^C ends it");
    client.capture(&wanted, &mut take).map_err(explained)?;
    console.print(&format!("{}: {written} bytes", write.display()));
    Ok(())
}

/// The first frames of a capture file, as if they came by this port.
fn supposed(file: &Path, port: Option<&str>, count: u64) -> Result<Vec<Supposed>, Failure> {
    let most = usize::try_from(count).unwrap_or(usize::MAX).min(PACKETS_MAX);
    let named = |why: &dyn Display| Failure(format!("{}: {why}", file.display()));
    // Captures may be larger than memory.
    let reach = u64::try_from(crate::trace::file::reach(most)).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(reach).read_to_end(&mut bytes));
    read.map_err(|error| named(&error))?;
    let frames = crate::trace::file::frames(&bytes, most).map_err(|why| named(&why))?;
    let digits = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(frames
        .iter()
        .map(|frame| Supposed { frame: Some(digits(frame)), port: port.map(str::to_owned), packet: None })
        .collect())
}

fn show(socket: Option<PathBuf>, what: Show, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let client = client(socket)?;
    match what {
        Show::Ports => document(&client, "ports", json, |it: &Vec<_>| render::ports(it), console),
        Show::Workers => document(&client, "workers", json, |it: &Vec<_>| render::workers(it), console),
        Show::Sessions { limit, wanted } => {
            if json {
                // As it comes: there may be millions.
                let answers = &mut *console.answers;
                let mut take = |bytes: &[u8]| answers.write_all(bytes);
                return read_to_the_end(client.list_sessions(&wanted, limit, &mut take));
            }
            let sessions = client.sessions(&wanted, limit).map_err(explained)?;
            console.print(&render::sessions(&sessions));
            Ok(())
        }
        Show::Services => document(&client, "services", json, |it: &Vec<_>| render::services(it), console),
        Show::Firewall { staged: true } => document(&client, "staged", json, render::staged, console),
        Show::Firewall { staged: false } => document(&client, "firewall", json, render::firewall, console),
        Show::Neighbors => document(&client, "neighbors", json, |it: &Vec<_>| render::neighbors(it), console),
        Show::Routes => document(&client, "routes", json, |it: &Vec<_>| render::routes(it), console),
        Show::Nat => document(&client, "nat", json, render::nat, console),
        Show::SessionLog => document(&client, "session-log", json, render::session_log, console),
        Show::Restart => document(&client, "restart", json, render::restart, console),
        Show::Drops { explain } => {
            document(&client, "drops", json, if explain { render::reasons } else { render::drops }, console)
        }
        Show::Top => document(&client, "top", json, render::top, console),
        Show::Memory => document(&client, "memory", json, render::memory, console),
        Show::Policy => document(&client, "policy", json, render::policy, console),
    }
}

fn document<T: DeserializeOwned + Serialize>(
    client: &Client,
    what: &str,
    json: bool,
    words: impl Fn(&T) -> String,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let document: T = client.show(what).map_err(explained)?;
    console.print(&if json { pretty(&document) } else { words(&document) });
    Ok(())
}

fn client(socket: Option<PathBuf>) -> Result<Client, Failure> {
    Ok(Client::new(&socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)))?)
}

/// A refusal with every fault under its sentence.
fn explained(error: ClientError) -> Failure {
    let faults = match &error {
        ClientError::Refused(refusal) => refusal.faults.join("\n"),
        _ => String::new(),
    };
    if faults.is_empty() { error.into() } else { Failure(format!("{faults}\n{error}")) }
}

fn pretty(document: &impl Serialize) -> String {
    // Plain structs with string keys always have a JSON form.
    serde_json::to_string_pretty(document).unwrap_or_default()
}
