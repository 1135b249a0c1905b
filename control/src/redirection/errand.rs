//! One run of the hook: `HOOK attach SERVICE APPLIANCE` or `HOOK detach SERVICE APPLIANCE`, in a process group of its own,
//! which is killed when its time is over. What it says goes to the log, as far as that is short.
//!
//! Runs in the process of `runner`.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use super::course::Place;

/// Lines of one run that are passed on, and bytes of each.
const LINES_MAX: usize = 20;
const LINE_BYTES_MAX: usize = 400;

/// How long after the end of a hook what it has said is still waited for: what it leaves running may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How often a hook is tried that somebody is writing to at this moment, and how long after each other.
const TRIES: u32 = 10;
const NEXT_TRY: Duration = Duration::from_millis(20);

/// What supervisors of this process pass in its environment and is for nobody else.
const PRIVATE: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// What the hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Have the service's packets directed here.
    Attach,
    /// Do not any more.
    Detach,
}

impl Verb {
    /// The word on the hook's command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Detach => "detach",
        }
    }
}

/// What the hook is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Which of the two.
    pub verb: Verb,
    /// The service, and where it is asked.
    pub place: Place,
    /// The appliance's name.
    pub appliance: String,
}

/// Whether a file can be a hook: one that may be run, and that nobody can change or replace but root and whoever runs it.
///
/// # Errors
/// A sentence.
pub fn sound(hook: &Path) -> Result<(), String> {
    let shown = hook.display();
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let facts = std::fs::metadata(hook).map_err(failed)?;
    if !facts.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if facts.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} is not executable: chmod 755 {shown}"));
    }
    ours_alone(hook, &facts)?;
    // As it is written, and where links lead.
    let file = hook.canonicalize().map_err(failed)?;
    for folder in hook.ancestors().skip(1).chain(file.ancestors().skip(1)).filter(|folder| folder.has_root()) {
        ours_alone(folder, &std::fs::metadata(folder).map_err(failed)?)?;
    }
    Ok(())
}

/// Whether only root and this process's user can write here. In a folder whose sticky bit is set nobody replaces another's files.
fn ours_alone(path: &Path, facts: &Metadata) -> Result<(), String> {
    const STICKY: u32 = 0o1000;
    let (shown, mode) = (path.display(), facts.permissions().mode());
    if ![0, geteuid().as_raw()].contains(&facts.uid()) {
        return Err(format!(
            "{shown} belongs to user {}, who could change what is run: chown root {shown}",
            facts.uid()
        ));
    }
    let is_shared = facts.is_dir() && mode & STICKY != 0;
    if is_shared || mode & 0o022 == 0 {
        return Ok(());
    }
    let (who, mend) = if mode & 0o002 == 0 { ("its group", "g-w") } else { ("everybody", "go-w") };
    Err(format!("{shown} can be changed by {who}: chmod {mend} {shown}"))
}

/// Runs the hook and waits for its end. What it says goes to `say`, a line at a time.
pub(super) async fn run(
    hook: &Path,
    timeout: Duration,
    errand: &Errand,
    say: &mut (dyn FnMut(String) + Send),
) -> Result<(), String> {
    sound(hook)?;
    let typed = format!("{} {} {} {}", hook.display(), errand.verb.name(), errand.place.service, errand.appliance);
    let failed = |error: std::io::Error| format!("{typed} could not be run: {error}");
    let (hears, speaks) = std::io::pipe().map_err(failed)?;
    let mut hears = Receiver::from_owned_fd(hears.into()).map_err(failed)?;
    let mut child = spawned(command(hook, errand, speaks).map_err(failed)?).await.map_err(failed)?;
    // Whatever ends this run ends what it has started.
    let group = Group::of(&child);
    let mut lines = Lines::default();
    let mut bytes = [0; 4_096];
    let mut time = std::pin::pin!(tokio::time::sleep(timeout));
    let mut speaking = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(failed)?,
            read = hears.read(&mut bytes), if speaking => {
                speaking = heard(read, &bytes, &mut lines, say);
            }
            () = &mut time => {
                drop(group);
                let _ = child.wait().await;
                return Err(format!("{typed} was stopped: it took longer than {timeout:?}"));
            }
        }
    };
    group.leave();
    let last_words = async {
        while speaking {
            speaking = heard(hears.read(&mut bytes).await, &bytes, &mut lines, say);
        }
    };
    // All of them: what is left running may go on to speak, too.
    let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    lines.end(say);
    if status.success() { Ok(()) } else { Err(format!("{typed} {}{}", ended(status), lines.last_words())) }
}

fn command(hook: &Path, errand: &Errand, speaks: std::io::PipeWriter) -> std::io::Result<Command> {
    let place = &errand.place;
    let mut command = Command::new(hook);
    command
        .args([errand.verb.name(), &place.service, &errand.appliance])
        .env("MILLRACE_ADDRESS", place.address.to_string())
        .env("MILLRACE_PROTOCOL", &place.protocol)
        .env("MILLRACE_PORTS", place.ports.join(","))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(speaks.try_clone()?)
        .stderr(speaks);
    for private in PRIVATE {
        command.env_remove(private);
    }
    Ok(command)
}

/// Starts the hook. A file that is open for writing cannot be run: whoever puts another in its place is nearly done with it.
async fn spawned(mut command: Command) -> std::io::Result<Child> {
    for _ in 1..TRIES {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => tokio::time::sleep(NEXT_TRY).await,
            ended => return ended,
        }
    }
    command.spawn()
}

fn heard(read: std::io::Result<usize>, bytes: &[u8], lines: &mut Lines, say: &mut (dyn FnMut(String) + Send)) -> bool {
    match read.ok().and_then(|count| bytes.get(..count)) {
        Some(said) if !said.is_empty() => {
            lines.take(said, say);
            true
        }
        Some(_) | None => false,
    }
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exited with status {code}"),
        None => format!("ended by {status}"),
    }
}

/// The process group of a hook: killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// What is left of it goes on by itself.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a hook says, cut into lines, of which only so many are passed on.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    passed: usize,
    last: String,
}

impl Lines {
    fn take(&mut self, said: &[u8], say: &mut dyn FnMut(String)) {
        for &byte in said {
            if byte == b'\n' {
                self.end(say);
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            }
        }
    }

    /// The line is at its end.
    fn end(&mut self, say: &mut dyn FnMut(String)) {
        let line = std::mem::take(&mut self.line);
        let text: String = String::from_utf8_lossy(&line).trim_end().chars().flat_map(shown).collect();
        if text.is_empty() {
            return;
        }
        self.passed += 1;
        if self.passed <= LINES_MAX {
            say(text.clone());
        }
        self.last = text;
    }

    /// The last line, behind why it failed.
    fn last_words(&self) -> String {
        if self.last.is_empty() { String::new() } else { format!(": {}", self.last) }
    }
}

/// A character as it can stand in a log.
fn shown(letter: char) -> impl Iterator<Item = char> {
    let escaped = letter.is_control() && letter != '\t';
    letter.escape_default().filter(move |_| escaped).chain(core::iter::once(letter).filter(move |_| !escaped))
}
