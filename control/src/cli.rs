//! The command line: what may be typed, and nothing of what it does. Read once by `main`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::capture::{Directions, Drops, LASTS, SNAP_MAX};
use crate::session_match::SessionMatch;
use crate::status::Target;
use crate::trace::pattern::PacketPattern;

/// Where the running appliance is asked when nothing says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/millrace/control.sock";

/// Sessions shown when `--limit` is not given.
pub const SESSIONS_SHOWN: usize = 100;

/// How soon a policy may have to be confirmed.
pub const CONFIRM_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// `--confirm-within`.
fn confirm_within(written: &str) -> Result<Duration, String> {
    let span = config::parse_duration(written).map(|span| Duration::from_nanos(span.get()));
    span.filter(|span| CONFIRM_WITHIN.contains(span)).ok_or_else(|| "write 1s to 24h, such as 60s or 5m".to_owned())
}

/// How long a trace may last.
pub const TRACED_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);

/// `capture --for`.
fn captured_within(written: &str) -> Result<Duration, String> {
    let span = config::parse_duration(written).map(|span| Duration::from_nanos(span.get()));
    span.filter(|span| LASTS.contains(span)).ok_or_else(|| "write 1s to 24h, such as 30s or 5m".to_owned())
}

/// `capture --size`.
fn captured_size(written: &str) -> Result<u64, String> {
    let bytes = config::parse_size(written).filter(|bytes| *bytes >= 1_024);
    bytes.ok_or_else(|| "write 1KiB or more, such as 100MiB".to_owned())
}

/// `top --every`.
fn looked_every(written: &str) -> Result<Duration, String> {
    let span = config::parse_duration(written).map(|span| Duration::from_nanos(span.get()));
    let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    span.filter(|span| bounds.contains(span)).ok_or_else(|| "write 100ms to 60s, such as 1s".to_owned())
}

/// The time of a hook.
fn hook_timeout(written: &str) -> Result<Duration, String> {
    let span = config::parse_duration(written).map(|span| Duration::from_nanos(span.get()));
    span.ok_or_else(|| "write a duration such as 10s".to_owned())
}

/// Packets one trace may tell of.
pub const TRACED_MAX: u64 = 100_000;

/// `--for`.
fn traced_within(written: &str) -> Result<Duration, String> {
    let span = config::parse_duration(written).map(|span| Duration::from_nanos(span.get()));
    span.filter(|span| TRACED_WITHIN.contains(span)).ok_or_else(|| "write 1s to 1h, such as 30s or 5m".to_owned())
}

/// A packet-processing appliance: stateful firewall and L4 load balancer in userspace, on DPDK.
///
/// Exit status: 0 done, 1 refused or failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// The control socket of the running appliance [default: /run/millrace/control.sock]
    #[arg(long, global = true, value_name = "PATH", env = "MILLRACE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the appliance in the foreground until SIGTERM or SIGINT
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Come up with the last generation that was in force for good, if there is one, instead of the file
        ///
        /// The file then says where generations are kept, and is what SIGHUP applies.
        #[arg(long)]
        resume: bool,
    },
    /// Say every fault of a configuration at once; start nothing
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Say what this machine lacks for a configuration, and the command that mends it
    Doctor {
        /// The configuration file; without it, only what every configuration needs
        file: Option<PathBuf>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Say what applying a configuration would change in the running appliance; change nothing
    Diff {
        /// The configuration file
        file: PathBuf,
        /// Print JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Put a configuration in force in the running appliance: all of it or nothing
    Apply {
        /// The configuration file
        file: PathBuf,
        /// Go back to the policy before unless `millrace confirm` comes within this time, such as 60s or 5m
        #[arg(long, value_name = "TIME", value_parser = confirm_within)]
        confirm_within: Option<Duration>,
        /// Put nothing in force: count what its firewall rules would do, beside those in force
        #[arg(long, conflicts_with = "confirm_within")]
        staged: bool,
        /// Print JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// End what `apply --staged` began
    Unstage {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Keep a configuration that was applied with --confirm-within
    Confirm {
        /// Print JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Put an earlier generation in force again, or take back one that waits to be confirmed
    Rollback {
        /// Its number, as `millrace show policy` lists it; without it, the one before
        generation: Option<u64>,
        /// Print JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Give backends no new sessions; those they have run out until the service's drain timeout
    ///
    /// It lasts until `drain --undo`, or a restart: applying a configuration does not end it.
    Drain {
        /// Whom it concerns.
        #[command(flatten)]
        concerned: Concerned,
        /// Put them back: they get new sessions again, as far as the configuration and their probes allow
        #[arg(long)]
        undo: bool,
    },
    /// End the sessions of backends at once
    Flush(Concerned),
    /// Watch rates in the terminal: workers, ports, backends, drops, sources
    ///
    /// q ends it, p pauses it, s sorts the backends.
    Top {
        /// From one look to the next
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = looked_every)]
        every: Duration,
    },
    /// Tell what happens to packets and why: the next that match, or one that is only described
    Trace(Traced),
    /// Write frames that come by a port and leave through it to a file, with the reasons of drops
    Capture(Captured),
    /// Read a file of the policy again and put it in force; nothing else changes
    Reload {
        /// What is read again
        #[command(subcommand)]
        what: ReloadKind,
    },
    /// Run the hook of `[redirection]` for the appliance at standard input
    #[command(hide = true)]
    RunHook {
        /// The program
        hook: PathBuf,
        /// How long one run may take
        #[arg(value_parser = hook_timeout)]
        timeout: Duration,
    },
    /// Print what completes this command line in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write this command line's manual pages, one a command
    Manual {
        /// The folder they go to
        folder: PathBuf,
    },
    /// Tell what happens to the running appliance as it happens: generations, backends, ports, workers, what is nearly used up
    Events {
        /// Print JSON, one event a line
        #[arg(long)]
        json: bool,
    },
    /// Show the state of the running appliance
    Show {
        /// What to show.
        #[command(subcommand)]
        what: Show,
        /// Print JSON instead of a table
        #[arg(long, global = true)]
        json: bool,
    },
}

/// What `trace` follows.
#[derive(Debug, Args)]
pub struct Traced {
    /// Only packets that match as they arrive, e.g. 'protocol=tcp source=198.51.100.0/24 port=80 ingress=outside'
    #[arg(long = "match", value_name = "TERMS", default_value = "", hide_default_value = true)]
    pub wanted: PacketPattern,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=TRACED_MAX))]
    pub count: u64,
    /// For this long at most
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = traced_within)]
    pub span: Duration,
    /// Where a packet would go, instead: 'udp 192.0.2.1:1234 > 198.51.100.10:80 port outside'
    ///
    /// It is judged by the tables in force and not sent; no counter, limit or session is touched. Behind the port may come
    /// `vlan 100`, `flags SYN,ACK`, `length 100` and `ttl 3`.
    #[arg(long, value_name = "PACKET", conflicts_with_all = ["wanted", "pcap"])]
    pub packet: Option<String>,
    /// Where the packets of a capture file would go, instead; each is judged after those before it
    #[arg(long, value_name = "FILE", requires = "port", conflicts_with = "wanted")]
    pub pcap: Option<PathBuf>,
    /// The port that the packets of the file come by
    #[arg(long, value_name = "NAME", requires = "pcap")]
    pub port: Option<String>,
    /// Print JSON instead of words, one document a line
    #[arg(long)]
    pub json: bool,
}

/// What `capture` writes.
#[derive(Debug, Args)]
pub struct Captured {
    /// The port whose frames are captured
    #[arg(long, value_name = "NAME")]
    pub port: String,
    /// Where to, as pcapng; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub write: PathBuf,
    /// Which way the frames go: in, out or both
    #[arg(long, value_name = "WAY", default_value = "both")]
    pub direction: Directions,
    /// Only frames that are dropped, each with its reason as a comment: for any reason, or for this one
    #[arg(long, value_name = "REASON", num_args = 0..=1, default_missing_value = "any")]
    pub drops: Option<Drops>,
    /// Only frames that this filter lets through, e.g. 'host 192.0.2.1 and tcp port 80'; see pcap-filter(7)
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// At most this many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// For this long at most
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = captured_within)]
    pub span: Duration,
    /// At most this large a file
    #[arg(long, value_name = "SIZE", default_value = "96MiB", value_parser = captured_size)]
    pub size: u64,
    /// Bytes of each frame
    #[arg(long, value_name = "BYTES", default_value_t = SNAP_MAX)]
    pub snap: usize,
}

/// Whom `drain` and `flush` concern.
#[derive(Debug, Args)]
pub struct Concerned {
    /// All backends of a service, or one backend
    pub kind: ConcernedKind,
    /// Its name; a backend as SERVICE/BACKEND, or by its name alone where only one service has it
    pub name: String,
    /// Print JSON instead of words
    #[arg(long)]
    pub json: bool,
}

/// The kinds of things that can be drained and flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConcernedKind {
    /// A virtual service.
    Service,
    /// One backend.
    Backend,
}

impl Concerned {
    /// The same for the API.
    #[must_use]
    pub fn target(&self) -> Target {
        match self.kind {
            ConcernedKind::Service => Target::Service(self.name.clone()),
            ConcernedKind::Backend => Target::Backend(self.name.clone()),
        }
    }
}

/// What `reload` reads again.
#[derive(Clone, Debug, Subcommand)]
pub enum ReloadKind {
    /// The prefixes of a blocklist, from its file
    Blocklist {
        /// Its name
        name: String,
        /// Print JSON instead of words
        #[arg(long)]
        json: bool,
    },
}

/// What `show` shows.
#[derive(Clone, Debug, Subcommand)]
pub enum Show {
    /// Ports: link and counters
    Ports,
    /// Workers: load, cycles per packet, policy in force
    Workers,
    /// Sessions: both directions, state, service and backend
    Sessions {
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = SESSIONS_SHOWN)]
        limit: usize,
        /// Only those that match, e.g. 'protocol=tcp service=shop source=198.51.100.0/24 from-kernel=false'
        #[arg(long = "match", value_name = "TERMS", default_value = "", hide_default_value = true)]
        wanted: SessionMatch,
    },
    /// Virtual services and their backends
    Services,
    /// Firewall rules and how often each decided
    Firewall {
        /// Rules on probation instead, and what each would have done
        #[arg(long)]
        staged: bool,
    },
    /// Neighbors: addresses, MACs, state
    Neighbors,
    /// Routes
    Routes,
    /// Address translation: pools and how far they are used
    Nat,
    /// What is told of sessions, to whom, and how much of it was sent
    SessionLog,
    /// Sessions that the process before has left, and how long the change took
    Restart,
    /// Packets that did not come out, by reason
    Drops {
        /// Every reason there is, with its sentence, whether it occurred or not
        #[arg(long)]
        explain: bool,
    },
    /// Who opens most sessions and has most packets dropped, lately
    Top,
    /// Packet buffers, sessions, bytes
    Memory,
    /// The policy in force and those before it
    Policy,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_design_is_understood() {
        for line in [
            "millrace run --config edge.toml",
            "millrace check edge.toml",
            "millrace doctor",
            "millrace doctor edge.toml --json",
            "millrace run --config edge.toml --resume",
            "millrace diff edge.toml",
            "millrace diff edge.toml --json",
            "millrace apply edge.toml",
            "millrace apply edge.toml --confirm-within 60s --json",
            "millrace confirm",
            "millrace rollback",
            "millrace rollback 12 --json",
            "millrace drain service shop",
            "millrace drain backend shop/shop-a --undo",
            "millrace drain --undo service shop --json",
            "millrace flush backend shop/shop-a --json",
            "millrace reload blocklist scanners",
            "millrace reload blocklist scanners --json",
            "millrace events",
            "millrace events --json",
            "millrace show ports",
            "millrace show ports --json",
            "millrace show --json workers",
            "millrace show sessions --limit 5 --match protocol=tcp --json",
            "millrace show services",
            "millrace show firewall",
            "millrace show firewall --staged --json",
            "millrace apply edge.toml --staged --json",
            "millrace unstage",
            "millrace show neighbors",
            "millrace show routes",
            "millrace show nat",
            "millrace show session-log --json",
            "millrace show restart --json",
            "millrace show drops",
            "millrace show drops --explain",
            "millrace show top --json",
            "millrace trace --match protocol=tcp --count 5 --for 30s --json",
            "millrace top",
            "millrace top --every 500ms",
            "millrace trace --packet x",
            "millrace capture --port outside --write a.pcapng",
            "millrace capture --port outside --write - --drops --count 5 --for 10s --snap 128 --direction in",
            "millrace capture --port outside --write a.pcapng --drops no_route --size 10MiB --filter udp",
            "millrace trace --pcap a.pcap --port outside",
            "millrace show memory",
            "millrace show policy",
            "millrace --socket /tmp/a.sock show ports",
            "millrace show ports --socket /tmp/a.sock",
            "millrace completions zsh",
            "millrace manual /usr/share/man/man1",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn the_help_of_drain_says_how_to_put_a_backend_back() {
        let help = parse("millrace drain --help").unwrap_err().to_string();
        assert!(help.contains("--undo") && help.contains("Put them back"), "{help}");
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in [
            "millrace run",
            "millrace check",
            "millrace show",
            "millrace show everything",
            "millrace drain shop",
            "millrace reload",
            "millrace reload blocklist",
            "millrace flush service shop --undo",
            "millrace show sessions --match colour=blue",
            "millrace show sessions --limit -1",
            "millrace apply edge.toml --confirm-within 60",
            "millrace apply edge.toml --confirm-within 0s",
            "millrace apply edge.toml --confirm-within 25h",
            "millrace trace --match state=established",
            "millrace top --every 0s",
            "millrace trace --count 0",
            "millrace capture --port outside",
            "millrace capture --write a.pcapng",
            "millrace capture --port outside --write a.pcapng --drops bad_luck",
            "millrace capture --port outside --write a.pcapng --direction up",
            "millrace capture --port outside --write a.pcapng --for 25h",
            "millrace trace --for 2h",
            "millrace trace --pcap a.pcap",
            "millrace trace --packet x --pcap a.pcap --port outside",
            "millrace trace --packet x --match port=80",
            "millrace confirm edge.toml",
            "millrace apply edge.toml --staged --confirm-within 60s",
            "millrace rollback last",
            "millrace rollback -1",
            "millrace completions cmd",
            "millrace manual",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
        }
    }
}
