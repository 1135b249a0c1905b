//! `millrace-perf`: arguments only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millrace_perf::clients::Clients;
use millrace_perf::established::{self, Plan};
use millrace_perf::pcap;

/// Measures what a packet costs.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a capture of one 64-byte UDP packet from each of many clients, in random order, for examples/bench.toml.
    Clients {
        /// How many clients.
        #[arg(long, default_value_t = 10_000)]
        count: u32,
        /// IPv6 instead of IPv4 (frames of 80 bytes).
        #[arg(long)]
        v6: bool,
        /// The file to write.
        output: PathBuf,
    },
    /// Measures established sessions: testpmd and Millrace in turn on the same devices.
    Established(Plan),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Clients { count, v6, output } => pcap::write(&output, Clients::new(count, v6)).map_err(Into::into),
        Command::Established(plan) => established::run(&plan),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
