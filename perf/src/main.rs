//! `millrace-perf`: arguments in, exit status out.

use std::process::ExitCode;

use millrace_perf::cli::Cli;

fn main() -> ExitCode {
    match Cli::run(std::env::args_os()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
