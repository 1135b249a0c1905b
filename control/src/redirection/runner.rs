//! The process that runs the hook: this program again, started before the appliance gives up what starting programs takes, with
//! the hook and its time on its command line. It runs nothing else, whatever it is asked.
//!
//! Both ends of a socket: a line of JSON for each errand and its time one way, lines of what the hook says and one of how it ended
//! the other way. The end of the appliance, however it comes, is the end of the runner, and of a hook under way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use super::Hook;
use super::errand::{Errand, run};

/// How much longer than a hook its runner may take.
const GRACE: Duration = Duration::from_secs(5);

/// Nobody can start another one: starting programs is what the appliance has given up.
const ENDED: &str = "the process that runs the hook has ended; restart the appliance";

/// What the runner answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    /// The hook has said this.
    Said(String),
    /// It has ended well.
    Done,
    /// It has not, for this reason.
    Failed(String),
}

/// The appliance's end.
#[derive(Debug)]
pub struct Runner {
    socket: BufReader<UnixStream>,
    /// What is the hook's own.
    timeout: Duration,
    /// Waited for when this is dropped; `None` where the other end is no process.
    process: Option<Child>,
}

impl Runner {
    /// Starts the process.
    ///
    /// # Errors
    /// A sentence: it cannot be started.
    pub fn start(hook: &Path, timeout: Duration) -> Result<Self, String> {
        let failed =
            |error: std::io::Error| format!("the process that runs {} cannot be started: {error}", hook.display());
        let (ours, its) = UnixStream::pair().map_err(failed)?;
        let process = Command::new("/proc/self/exe")
            .arg("run-hook")
            .arg(hook)
            .arg(format!("{}ms", timeout.as_millis()))
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self::over(ours, timeout, Some(process)))
    }

    fn over(socket: UnixStream, timeout: Duration, process: Option<Child>) -> Self {
        Self { socket: BufReader::new(socket), timeout, process }
    }

    /// The next word; an error is a sentence. A runner that does not speak in time is given up: what it says later would be
    /// taken for the answer to something else.
    fn word(&mut self) -> Result<Word, String> {
        let mut line = String::new();
        let read = self.socket.read_line(&mut line);
        let word = match read {
            Ok(0) => Err(ENDED.to_owned()),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("the process that runs the hook: {error}")),
            Err(error) => Err(format!("the process that runs the hook does not answer: {error}")),
        };
        if word.is_err() {
            let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Both);
        }
        word
    }
}

impl Hook for Runner {
    fn run(&mut self, errand: &Errand, within: Duration) -> Result<(), String> {
        let within = within.min(self.timeout);
        let mut line = serde_json::to_vec(&(errand, within)).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let socket = self.socket.get_mut();
        let asked = socket.set_read_timeout(Some(within + GRACE)).and_then(|()| socket.write_all(&line));
        asked.map_err(|_| ENDED.to_owned())?;
        loop {
            match self.word()? {
                Word::Said(line) => log::info!("service {}: hook: {line}", errand.place.service),
                Word::Done => return Ok(()),
                Word::Failed(why) => return Err(why),
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // It ends with its socket, at once.
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Both);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

/// The other end: runs `hook` for each errand that comes by `socket`, until its end.
///
/// # Errors
/// A sentence: the socket is none.
pub fn serve(socket: UnixStream, hook: &Path, timeout: Duration) -> Result<(), String> {
    let sentence = |error: std::io::Error| format!("the socket to the appliance: {error}");
    socket.set_nonblocking(true).map_err(sentence)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(sentence)?;
    runtime.block_on(attend(socket, hook, timeout)).map_err(sentence)
}

async fn attend(socket: UnixStream, hook: &Path, timeout: Duration) -> std::io::Result<()> {
    // The last errands are run while the appliance stops: what ends a whole unit or terminal is not for this process.
    let _deaf = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (orders, mut answers) = tokio::net::UnixStream::from_std(socket)?.into_split();
    let mut orders = tokio::io::BufReader::new(orders).lines();
    while let Some(line) = orders.next_line().await? {
        let (errand, within): (Errand, Duration) = serde_json::from_str(&line)?;
        let (said, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let mut say = |line| drop(said.send(Word::Said(line)));
        let mut running = std::pin::pin!(run(hook, timeout.min(within), &errand, &mut say));
        let ended = loop {
            tokio::select! {
                Some(word) = hears.recv() => tell(&mut answers, &word).await?,
                ended = &mut running => break ended,
                // Nothing is asked before the answer: the appliance has ended.
                _ = orders.next_line() => return Ok(()),
            }
        };
        while let Ok(word) = hears.try_recv() {
            tell(&mut answers, &word).await?;
        }
        tell(&mut answers, &ended.map_or_else(Word::Failed, |()| Word::Done)).await?;
    }
    Ok(())
}

async fn tell(answers: &mut tokio::net::unix::OwnedWriteHalf, word: &Word) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    answers.write_all(&line).await
}

#[cfg(test)]
pub(super) mod played {
    //! Runners whose other end is a thread of the test's.

    use super::*;

    pub(in super::super) fn beside(hook: &Path, timeout: Duration) -> Runner {
        let (ours, its) = UnixStream::pair().unwrap();
        let hook = hook.to_owned();
        std::thread::spawn(move || serve(its, &hook, timeout));
        Runner::over(ours, timeout, None)
    }

    impl Runner {
        /// The socket once more.
        pub(in super::super) fn other_hand(&self) -> UnixStream {
            self.socket.get_ref().try_clone().unwrap()
        }
    }
}
