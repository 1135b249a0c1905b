//! The `millrace` binary: arguments only.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use control::cli::Cli;
use control::command::{self, Console};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut console = Console { answers: &mut stdout(), complaints: &mut stderr() };
    command::run(cli, &mut console).into()
}
