//! One connection to the appliance's control socket that stays open: a question and its answer take well below a
//! millisecond, so that counters can be read while a table fills.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::Outcome;

/// How long an answer may take: a policy of 100,000 rules compiles for a while.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// The connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the control socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(super) fn open(socket: &Path) -> Outcome<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn get<T: DeserializeOwned>(&mut self, call: &str) -> Outcome<T> {
        self.call("GET", call, "")
    }

    /// Sends a document and takes the answer.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn post<T: DeserializeOwned>(&mut self, call: &str, body: &str) -> Outcome<T> {
        self.call("POST", call, body)
    }

    /// Reads the metrics, as a scrape does, and drops them.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn metrics(&mut self) -> Outcome<()> {
        self.ask("GET", "/metrics", "").map(drop)
    }

    fn call<T: DeserializeOwned>(&mut self, method: &str, call: &str, body: &str) -> Outcome<T> {
        Ok(serde_json::from_slice(&self.ask(method, &format!("/api/v1/{call}"), body)?)?)
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Outcome<Vec<u8>> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: millrace\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let (status, answer) = answer(&mut self.stream)?;
        if status != 200 {
            return Err(format!("{path} was refused: {}", String::from_utf8_lossy(&answer)).into());
        }
        Ok(answer)
    }
}

/// The status and body of an answer with a length (RFC 9112); hyper gives every JSON body one.
fn answer(stream: &mut impl BufRead) -> Outcome<(u16, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("an answer without a status")?;
    let mut length = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let field = line.trim();
        if field.is_empty() {
            break;
        }
        if let Some((name, value)) = field.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let mut body = vec![0; length.ok_or("an answer without a length")?];
    stream.read_exact(&mut body)?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_length() {
        let mut two = &b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 2\r\n\r\n[]HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..];
        assert_eq!(answer(&mut two).unwrap(), (200, b"[]".to_vec()));
        assert_eq!(answer(&mut two).unwrap(), (404, Vec::new()));
        assert!(answer(&mut two).is_err());
    }
}
