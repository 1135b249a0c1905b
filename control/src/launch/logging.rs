//! The log: one line a record on standard error, where journald or a terminal takes it. `MILLRACE_LOG` sets what is told
//! (`warn`, `info`, `debug`, or a target and a level); `info` without it.

use std::io::Write;

/// Starts it; a second start changes nothing.
pub(super) fn start() {
    let environment = env_logger::Env::new().filter_or("MILLRACE_LOG", "info");
    let _ = env_logger::Builder::from_env(environment)
        .format(|line, record| {
            writeln!(line, "{} {:<5} {}: {}", line.timestamp_millis(), record.level(), record.target(), record.args())
        })
        .try_init();
}
