//! Millrace under measurement: its configuration made from an example, the running process, its counters.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figures::precise;
use crate::{Outcome, testpmd};

/// How long it may take to start: reading a capture of ten million packets is slow.
const START_MAX: Duration = Duration::from_secs(120);

/// One line of TOML with the value of `key` replaced.
fn with_value(line: &str, key: &str, value: &str) -> Option<String> {
    let (name, _) = line.split_once('=')?;
    (name.trim() == key).then(|| format!("{key} = {value}"))
}

/// The example with other values of some keys, wherever they appear, and other texts.
#[must_use]
pub fn configuration(example: &str, values: &[(&str, String)], texts: &[(&str, &str)]) -> String {
    let mut result = String::with_capacity(example.len());
    for line in example.lines() {
        let changed = values.iter().find_map(|(key, value)| with_value(line, key, value));
        let mut line = changed.unwrap_or_else(|| line.to_owned());
        for (old, new) in texts {
            line = line.replace(old, new);
        }
        result.push_str(&line);
        result.push('\n');
    }
    result
}

/// A running appliance.
#[derive(Debug)]
pub struct Running {
    child: Child,
    socket: PathBuf,
}

/// A worker's counters at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When it was read.
    pub at: Instant,
    /// Packets received.
    pub received: u64,
    /// Packets forwarded.
    pub forwarded: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Sessions there are.
    pub sessions: u64,
    /// Name, packets and cycles of each stage, over the sampled bursts.
    pub stages: Vec<(String, u64, f64)>,
}

impl Running {
    /// Starts `binary` with `configuration` and waits until it answers at `socket`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binary: &Path, configuration: &Path, socket: &Path) -> Outcome<Self> {
        let child = Command::new("nice")
            .args(["-n", "-20"])
            .arg(binary)
            .args(["run", "--config"])
            .arg(configuration)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", binary.display()))?;
        let mut running = Self { child, socket: socket.to_owned() };
        let begun = Instant::now();
        while running.read().is_err() {
            if running.child.try_wait()?.is_some() {
                return Err("millrace ended instead of running; its reason is above".into());
            }
            if begun.elapsed() > START_MAX {
                running.stop()?;
                return Err("millrace did not answer in time".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(running)
    }

    /// Reads the counters of its first worker.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn read(&self) -> Outcome<Reading> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /api/v1/workers HTTP/1.1\r\nHost: millrace\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let at = Instant::now();
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
        let workers: Value = serde_json::from_str(body)?;
        let worker = workers.get(0).or_else(|| workers.get("workers")?.get(0)).ok_or("an answer without workers")?;
        let count = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default();
        let stages = worker.get("stages").and_then(Value::as_array).map(|stages| {
            let stage = |stage: &Value| {
                let packets = count(stage, "packets");
                let each = stage.get("cycles_per_packet").and_then(Value::as_f64).unwrap_or_default();
                let name = stage.get("name").and_then(Value::as_str).unwrap_or_default();
                (name.to_owned(), packets, each * precise(packets))
            };
            stages.iter().map(stage).collect()
        });
        Ok(Reading {
            at,
            received: count(worker, "rx_packets"),
            forwarded: count(worker, "forwarded"),
            dropped: count(worker, "dropped"),
            sessions: count(worker, "sessions"),
            stages: stages.unwrap_or_default(),
        })
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn stop(self) -> Outcome<()> {
        testpmd::terminate(self.child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_keys_change() {
        let example = "[dpdk]\nmemory = \"6GiB\" # much\nname = \"a\"\n";
        let made = configuration(example, &[("memory", "\"1GiB\"".into())], &[("\"a\"", "\"b\"")]);
        assert_eq!(made, "[dpdk]\nmemory = \"1GiB\"\nname = \"b\"\n");
    }
}
