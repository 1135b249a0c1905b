//! The log: on standard error, where journald or a terminal takes it, in the format the policy says (`log_format`).
//! `MILLRACE_LOG` sets what is told (`warn`, `info`, `debug`, or a target and a level); `info` without it.

use std::io::Write;

use jiff::Timestamp;

/// Starts it; a second start changes nothing.
pub(super) fn start() {
    let environment = env_logger::Env::new().filter_or("MILLRACE_LOG", "info");
    let _ = env_logger::Builder::from_env(environment)
        .format(|out, record| writeln!(out, "{}", crate::log_format::line(record, Timestamp::now())))
        .try_init();
}
