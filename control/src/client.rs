//! How the command line asks the running appliance: HTTP over the control socket, one call at a time, and a sentence for
//! everything that can go wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::bulletin::Told;
use crate::capture::CaptureWanted;
use crate::generation::Plan;
use crate::session_match::SessionMatch;
use crate::status::{
    Applied, Changed, Drain, Problem, Refusal, Reload, Reloaded, SessionStatus, StagedStatus, Supposed, Target,
    TraceNews, TraceStatus,
};
use crate::trace::pattern::PacketPattern;

/// How long an answer may take; putting a large policy in force may take longer than any look at the state.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
const APPLIED_WITHIN: Duration = Duration::from_secs(120);

/// A connection to the socket.
type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// Why there is no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no appliance answers at {}; start one with `millrace run --config FILE`, or name its socket with --socket PATH",
        path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is not for this user.
    #[error("no permission to open {}; run as root, or as a member of the socket's group", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is wrong with the socket.
    #[error("cannot reach the appliance at {}: {source}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is connected and silent.
    #[error("the appliance at {} did not answer within {} s", path.display(), limit.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// What answers there is not this program's API.
    #[error("what answers at {} does not speak this program's language: {what}", path.display())]
    Unintelligible {
        /// The socket.
        path: PathBuf,
        /// What was odd.
        what: String,
    },
    /// What it had to answer has no end, or not even a beginning.
    #[error("the answer of the appliance at {} broke off; ask again", path.display())]
    BrokenOff {
        /// The socket.
        path: PathBuf,
    },
    /// The appliance refused, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was answered cannot be written where it should.
    #[error("cannot write the file: {0}")]
    File(io::Error),
    /// This process has no thread or memory for a call.
    #[error("cannot make a call: {0}")]
    Here(io::Error),
}

/// The running appliance at one socket.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client of the appliance at `socket`; nothing is opened yet.
    ///
    /// # Errors
    /// [`ClientError::Here`].
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::Here)?;
        Ok(Self { path: socket.to_owned(), runtime })
    }

    /// Another client of the same appliance, for another thread.
    ///
    /// # Errors
    /// [`ClientError::Here`].
    pub fn another(&self) -> Result<Self, ClientError> {
        Self::new(&self.path)
    }

    /// The document of `show WHAT`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn show<T: DeserializeOwned>(&self, what: &str) -> Result<T, ClientError> {
        self.call(Method::GET, &format!("/api/v1/{what}"), Bytes::new(), ANSWERED_WITHIN)
    }

    /// At most `limit` sessions that match.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn sessions(&self, wanted: &SessionMatch, limit: usize) -> Result<Vec<SessionStatus>, ClientError> {
        let mut answer = Vec::new();
        self.list_sessions(wanted, limit, &mut |piece| {
            answer.extend_from_slice(piece);
            Ok(())
        })?;
        serde_json::from_slice(&answer).map_err(|error| self.odd(&error))
    }

    /// As [`Client::sessions`], as pieces of a JSON array, one session a line, each given to `take` as it comes.
    ///
    /// # Errors
    /// [`ClientError`], and what `take` says.
    pub fn list_sessions(
        &self,
        wanted: &SessionMatch,
        limit: usize,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let call = format!("/api/v1/sessions?limit={limit}&match={}", query(&wanted.to_string()));
        self.listen(&call, &mut |bytes| take(bytes).map_err(ClientError::File))
    }

    /// What applying a policy would change.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal carries every fault.
    pub fn diff(&self, text: &str, name: &str) -> Result<Plan, ClientError> {
        let call = format!("/api/v1/diff?file={}", query(name));
        self.call(Method::POST, &call, text.to_owned().into(), APPLIED_WITHIN)
    }

    /// Puts a policy in force, for good or until it is not confirmed in time.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal carries every fault.
    pub fn apply(&self, text: &str, name: &str, confirm_within: Option<Duration>) -> Result<Applied, ClientError> {
        let mut call = format!("/api/v1/apply?file={}", query(name));
        if let Some(within) = confirm_within {
            call.push_str(&format!("&confirm_within_ms={}", within.as_millis()));
        }
        self.call(Method::POST, &call, text.to_owned().into(), APPLIED_WITHIN)
    }

    /// Puts the rules of a policy on probation.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal carries every fault.
    pub fn stage(&self, text: &str, name: &str) -> Result<StagedStatus, ClientError> {
        let call = format!("/api/v1/staged?file={}", query(name));
        self.call(Method::POST, &call, text.to_owned().into(), APPLIED_WITHIN)
    }

    /// Ends that.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn unstage(&self) -> Result<StagedStatus, ClientError> {
        self.call(Method::DELETE, "/api/v1/staged", Bytes::new(), ANSWERED_WITHIN)
    }

    /// Keeps the policy that waits to be confirmed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn confirm(&self) -> Result<Applied, ClientError> {
        self.call(Method::POST, "/api/v1/confirm", Bytes::new(), ANSWERED_WITHIN)
    }

    /// Puts an earlier generation's policy in force again; without a number, the one before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rollback(&self, generation: Option<u64>) -> Result<Applied, ClientError> {
        let query = generation.map(|generation| format!("?generation={generation}")).unwrap_or_default();
        self.call(Method::POST, &format!("/api/v1/rollback{query}"), Bytes::new(), APPLIED_WITHIN)
    }

    /// Reads a file of the policy again.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal carries the faults of the file.
    pub fn reload(&self, what: &Reload) -> Result<Reloaded, ClientError> {
        let body = serde_json::to_vec(what).map_err(|error| self.odd(&error))?;
        self.call(Method::POST, "/api/v1/reload", body.into(), APPLIED_WITHIN)
    }

    /// Gives the target no new sessions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn drain(&self, target: &Target) -> Result<Changed, ClientError> {
        self.change("drain", &Drain { target: target.clone(), undo: false })
    }

    /// Gives the target new sessions again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn undrain(&self, target: &Target) -> Result<Changed, ClientError> {
        self.change("drain", &Drain { target: target.clone(), undo: true })
    }

    /// Ends the target's sessions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn flush(&self, target: &Target) -> Result<Changed, ClientError> {
        self.change("flush", target)
    }

    /// Hears what happens until the appliance stops, or what is told has nowhere to go.
    ///
    /// # Errors
    /// [`ClientError`], and what `tell` says.
    pub fn events(&self, tell: &mut dyn FnMut(Told) -> io::Result<()>) -> Result<(), ClientError> {
        let mut line = Vec::new();
        self.listen("/api/v1/events", &mut |bytes| {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    if let Some(data) = line.strip_prefix(b"data:") {
                        tell(serde_json::from_slice(data).map_err(|error| self.odd(&error))?)
                            .map_err(ClientError::File)?;
                    }
                    line.clear();
                }
            }
            Ok(())
        })
    }

    /// The ways of packets as they pass, one document a line, each given to `tell` as it comes.
    ///
    /// # Errors
    /// [`ClientError`], and what `tell` says.
    pub fn trace(
        &self,
        wanted: &PacketPattern,
        count: usize,
        span: Duration,
        tell: &mut dyn FnMut(TraceNews) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let wanted = query(&wanted.to_string());
        let call = format!("/api/v1/trace?count={count}&seconds={}&match={wanted}", span.as_secs());
        let mut line = Vec::new();
        self.listen(&call, &mut |bytes| {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    let news = serde_json::from_slice(&line).map_err(|error| self.odd(&error))?;
                    line.clear();
                    tell(news).map_err(ClientError::File)?;
                }
            }
            Ok(())
        })
    }

    /// Frames of a port, as the pieces of a pcapng file, each given to `take` as it comes.
    ///
    /// # Errors
    /// [`ClientError`], and what `take` says.
    pub fn capture(
        &self,
        wanted: &CaptureWanted,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let CaptureWanted { port, directions, drops, filter, snap, count, size, span } = wanted;
        let call = format!(
            "/api/v1/capture?port={}&direction={}&drops={}&filter={}&snap={snap}&count={count}&size={size}&seconds={}",
            query(port),
            directions.name(),
            drops.name().unwrap_or_default(),
            query(filter),
            span.as_secs()
        );
        self.listen(&call, &mut |bytes| take(bytes).map_err(ClientError::File))
    }

    /// Where packets would go.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn suppose(&self, packets: &[Supposed]) -> Result<Vec<TraceStatus>, ClientError> {
        let body = serde_json::to_vec(packets).map_err(|error| self.odd(&error))?;
        self.call(Method::POST, "/api/v1/trace/packets", body.into(), APPLIED_WITHIN)
    }

    /// An answer that goes on, piece by piece as it comes. Its beginning comes at once; it ends when the appliance ends it.
    fn listen(&self, call: &str, hear: &mut dyn FnMut(&[u8]) -> Result<(), ClientError>) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let (mut sender, connection) = self.connect().await?;
            let request = self.request(Method::GET, call, Bytes::new())?;
            let listening = async {
                let limit = ANSWERED_WITHIN;
                let begun = tokio::time::timeout(limit, sender.send_request(request)).await;
                let begun = begun.map_err(|_| ClientError::Silent { path: self.path.clone(), limit })?;
                let (head, mut body) = begun.map_err(|error| self.unanswered(&error))?.into_parts();
                if !head.status.is_success() {
                    let answer = body.collect().await.map_err(|error| self.unanswered(&error))?.to_bytes();
                    return Err(self.refusal(head.status, &answer));
                }
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(|_| ClientError::BrokenOff { path: self.path.clone() })?;
                    if let Some(bytes) = frame.data_ref() {
                        hear(bytes)?;
                    }
                }
                Ok(())
            };
            let (mut connection, mut listening) = (std::pin::pin!(connection), std::pin::pin!(listening));
            tokio::select! {
                heard = &mut listening => heard,
                // What has come before its end is still to be heard.
                _ = &mut connection => listening.await,
            }
        })
    }

    fn change(&self, what: &str, body: &impl Serialize) -> Result<Changed, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.odd(&error))?;
        self.call(Method::POST, &format!("/api/v1/{what}"), body.into(), ANSWERED_WITHIN)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        call: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let (status, answer) = self.runtime.block_on(async {
            let exchange = self.exchange(method, call, body);
            tokio::time::timeout(limit, exchange)
                .await
                .unwrap_or_else(|_| Err(ClientError::Silent { path: self.path.clone(), limit }))
        })?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| self.odd(&error));
        }
        Err(self.refusal(status, &answer))
    }

    /// What the appliance says when it does not do it.
    fn refusal(&self, status: StatusCode, answer: &[u8]) -> ClientError {
        match serde_json::from_slice::<Problem>(answer) {
            Ok(problem) => Refusal::from(problem).into(),
            Err(_) => self.odd(&format_args!("HTTP status {status}")),
        }
    }

    async fn exchange(&self, method: Method, call: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(method, call, body)?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
        };
        // The connection's own end says nothing that the answer does not.
        let (answer, _) = tokio::join!(answer, connection);
        answer.map_err(|error| self.unanswered(&error))
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Full<Bytes>>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.unreachable(error))?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.odd(&error))
    }

    fn request(&self, method: Method, call: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        Request::builder()
            .method(method)
            .uri(call)
            .header("Host", "millrace")
            .header("Connection", "close")
            .body(Full::new(body))
            .map_err(|error| self.odd(&error))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { path },
            io::ErrorKind::PermissionDenied => ClientError::Permission { path },
            _ => ClientError::Unreachable { path, source },
        }
    }

    /// A call that has no answer: who hangs up in the middle of it may well speak this program's language.
    fn unanswered(&self, error: &hyper::Error) -> ClientError {
        use std::error::Error as _;
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        let hung_up = matches!(cause, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe));
        if hung_up || error.is_incomplete_message() {
            ClientError::BrokenOff { path: self.path.clone() }
        } else {
            self.odd(error)
        }
    }

    fn odd(&self, what: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unintelligible { path: self.path.clone(), what: what.to_string() }
    }
}

/// A value of a query, percent-encoded.
fn query(value: &str) -> String {
    encoded(value, "-._~/")
}

/// A part of a URI, percent-encoded but for letters, digits and what is `kept` (RFC 3986 section 2.1).
pub(crate) fn encoded(value: &str, kept: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(query("protocol=tcp port=80-90 é&#%"), "protocol%3Dtcp%20port%3D80-90%20%C3%A9%26%23%25");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_appliance_that_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let client = Client::new(&path).unwrap();
        let error = client.show::<serde_json::Value>("ports").unwrap_err();
        assert!(error.to_string().starts_with("no appliance answers at "), "{error}");
        // Left behind by a process that died.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(client.show::<serde_json::Value>("ports").unwrap_err(), ClientError::NotRunning { .. }));
    }

    #[test]
    fn an_answer_without_an_end_is_told_as_such() {
        use std::io::{Read, Write};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 16]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[\n\r\n").unwrap();
        });
        let error = Client::new(&path).unwrap().sessions(&SessionMatch::default(), 7).unwrap_err();
        assert!(matches!(error, ClientError::BrokenOff { .. }), "{error}");
        served.join().unwrap();
    }

    #[test]
    fn who_hangs_up_before_the_answer_is_told_as_such() {
        use std::io::Read;
        // Once with what was asked unread, which resets the connection.
        for read in [16, 4_096] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("control.sock");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let served = std::thread::spawn(move || {
                for _ in 0..2 {
                    let (mut stream, _) = listener.accept().unwrap();
                    let _ = stream.read(&mut vec![0; read]).unwrap();
                }
            });
            let client = Client::new(&path).unwrap();
            let errors = [
                client.sessions(&SessionMatch::default(), 7).unwrap_err(),
                client.show::<serde_json::Value>("ports").unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, ClientError::BrokenOff { .. }), "{error}");
            }
            served.join().unwrap();
        }
    }

    #[test]
    fn what_is_not_our_api_is_named() {
        use std::io::{Read, Write};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            for answer in ["220 ready\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 16];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let client = Client::new(&path).unwrap();
        for _ in 0..2 {
            let error = client.show::<serde_json::Value>("ports").unwrap_err();
            assert!(matches!(error, ClientError::Unintelligible { .. }), "{error}");
        }
        served.join().unwrap();
    }
}
