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

/// The status and body of an answer (RFC 9112): one with a length, or a list that comes in chunks.
fn answer(stream: &mut impl BufRead) -> Outcome<(u16, Vec<u8>)> {
    let head = line(stream)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("an answer without a status")?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let field = line(stream)?;
        let Some((name, value)) = field.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
        chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => while take_chunk(stream, &mut body)? {},
        Some(length) => take(stream, length, &mut body)?,
        None => return Err("an answer without a length".into()),
    }
    Ok((status, body))
}

/// One chunk (RFC 9112 section 7.1); false after the last, which is empty.
fn take_chunk(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Outcome<bool> {
    let size = line(stream)?;
    let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
    take(stream, size, body)?;
    line(stream)?;
    Ok(size > 0)
}

fn take(stream: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> Outcome<()> {
    let there = body.len();
    body.resize(there + length, 0);
    stream.read_exact(body.get_mut(there..).unwrap_or_default())?;
    Ok(())
}

/// A line without its end; empty at the end of the stream.
fn line(stream: &mut impl BufRead) -> Outcome<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
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

    #[test]
    fn lists_that_come_in_chunks_are_read_to_the_last() {
        let mut two = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n[\r\nA\r\n1,2,3,4,5]\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..];
        assert_eq!(answer(&mut two).unwrap(), (200, b"[1,2,3,4,5]".to_vec()));
        assert_eq!(answer(&mut two).unwrap(), (200, Vec::new()));
        for torn in ["1\r\n", "x\r\n", "ffffffffffffffff0\r\n", "", "2\r\n[", "0\r\n"] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{torn}");
            assert!(torn == "0\r\n" || answer(&mut text.as_bytes()).is_err(), "{torn}");
        }
    }
}
