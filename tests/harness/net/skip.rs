//! What this machine cannot run is skipped aloud: one line on standard error past the test runner's capture, and one in
//! the file that `MILLRACE_SKIPS` names, from where `scripts/test.sh` counts.

use std::io::Write;

use super::{Namespace, binary};

/// Says that `test` is skipped and why.
pub fn skipped(test: &str, reason: &str) {
    // The runner captures `eprintln!`, not the stream itself.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os("MILLRACE_SKIPS") {
        let line = format!("{test}: {reason}\n");
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Ok(mut file) = opened {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// Whether this machine lacks what an end-to-end test and each of `programs` needs; if so, it has been said.
#[must_use]
pub fn skipping(test: &str, programs: &[&str]) -> bool {
    let Err(reason) = able(programs) else { return false };
    skipped(test, &reason);
    true
}

fn able(programs: &[&str]) -> Result<(), String> {
    if !Namespace::permitted() {
        return Err("needs root, for network namespaces".to_owned());
    }
    let always = ["ip", "setpriv", "timeout", "ethtool", "curl", "nginx"];
    if let Some(missing) = always.iter().chain(programs).find(|program| !installed(program)) {
        return Err(format!("{missing} is not installed (scripts/setup.sh installs it)"));
    }
    binary().map(|_| ())
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(administrators).any(|folder| folder.join(program).is_file())
}
