//! A child process at high priority that is stopped, politely first, when its owner lets go of it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// How long a child may take to stop: giving back gigabytes of hugepages takes a while.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A child process; dropping it stops it and waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `program` with `nice -n -20`. Standard input is closed; standard output and error go to the file `said`.
    ///
    /// # Errors
    /// When it cannot be started or the file not be written.
    pub(super) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        said: &Path,
    ) -> Outcome<Self> {
        let output = std::fs::File::create(said)?;
        let errors = output.try_clone()?;
        let child = Command::new("nice")
            .args(["-n", "-20"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let name = program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { child, name })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tries until `attempt` gives something; ends when the child does, or after `limit`.
    ///
    /// # Errors
    /// What the child said last, when it ended; what the attempt said last, after the limit.
    pub(super) fn wait_for<T>(
        &mut self,
        limit: Duration,
        said: &Path,
        mut attempt: impl FnMut() -> Outcome<T>,
    ) -> Outcome<T> {
        let begun = Instant::now();
        loop {
            let why = match attempt() {
                Ok(value) => return Ok(value),
                Err(why) => why,
            };
            if self.child.try_wait()?.is_some() {
                return Err(format!("{} ended instead of running: {}", self.name, last_words(said)).into());
            }
            if begun.elapsed() > limit {
                return Err(format!("{} is not ready after {} s: {why}", self.name, limit.as_secs()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of what a child said.
fn last_words(said: &Path) -> String {
    let text = std::fs::read_to_string(said).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.iter().rev().take(4).rev().copied().collect::<Vec<_>>().join("; ");
    if last.is_empty() { "it said nothing".to_owned() } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let mut child = Process::start(Path::new("sh"), ["-c", "echo no memory >&2; exit 1"], &said).unwrap();
        let refused = child.wait_for::<()>(Duration::from_secs(10), &said, || Err("not yet".into())).unwrap_err();
        assert_eq!(refused.to_string(), "sh ended instead of running: no memory");
    }

    #[test]
    fn a_child_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let child = Process::start(Path::new("sleep"), ["600"], &folder.path().join("said")).unwrap();
        let id = child.id();
        drop(child);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
