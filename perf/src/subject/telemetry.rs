//! DPDK's telemetry: a packet socket in a program's run-time folder that answers a path with JSON. Read between windows,
//! by the bench; the program answers from a thread of its own, in some tens of microseconds.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Outcome;

/// The longest answer DPDK gives (`MAX_OUTPUT_LEN` of `lib/telemetry`).
const ANSWER_MAX: usize = 16 * 1024;

/// A connection to one program's telemetry.
#[derive(Debug)]
pub(super) struct Telemetry {
    socket: Socket,
}

/// Where a program with this EAL file prefix has its socket.
pub(super) fn path(prefix: &str) -> PathBuf {
    Path::new("/var/run/dpdk").join(prefix).join("dpdk_telemetry.v2")
}

impl Telemetry {
    /// Connects and takes the greeting.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) fn connect(path: &Path) -> Outcome<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut telemetry = Self { socket };
        telemetry.answer()?;
        Ok(telemetry)
    }

    /// Packets a port has received and sent since its start.
    ///
    /// # Errors
    /// When the program does not answer.
    pub(super) fn packets(&mut self, port: usize) -> Outcome<(u64, u64)> {
        let call = format!("/ethdev/stats,{port}");
        self.socket.write_all(call.as_bytes())?;
        let answer: Value = serde_json::from_slice(&self.answer()?)?;
        counts(&answer).ok_or_else(|| format!("telemetry answered {call} with {answer}").into())
    }

    fn answer(&mut self) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; ANSWER_MAX];
        let length = self.socket.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn counts(answer: &Value) -> Option<(u64, u64)> {
    let stats = answer.get("/ethdev/stats")?;
    Some((stats.get("ipackets")?.as_u64()?, stats.get("opackets")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_answer() {
        let answer = r#"{"/ethdev/stats":{"ipackets":3,"opackets":216473248,"ibytes":0,"obytes":0}}"#;
        assert_eq!(counts(&serde_json::from_str(answer).unwrap()), Some((3, 216_473_248)));
        assert_eq!(counts(&serde_json::from_str(r#"{"/ethdev/stats":null}"#).unwrap()), None);
    }

    #[test]
    fn nobody_listening_is_an_error() {
        assert!(Telemetry::connect(Path::new("/var/run/dpdk/millrace-nobody/dpdk_telemetry.v2")).is_err());
    }
}
