//! The API over an appliance without devices, by plain HTTP: objects of the policy read and changed one by one, several as
//! one, by many at once; and what a stranger makes of its description.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::running::tests::Bench;

mod events;
mod objects;
mod strangers;
mod tls;

/// An answer: status, headers, document.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    document: Value,
}

impl Answered {
    /// A header of it.
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")))?;
        line.split_once(": ").map(|(_, value)| value)
    }
}

/// The appliance of `edge.toml` at a socket.
struct Served {
    folder: tempfile::TempDir,
    bench: Bench,
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bench = Bench::new();
        bench.obliging();
        let appliance = Arc::clone(&bench.appliance) as Arc<dyn Appliance>;
        let server = Server::start(&folder.path().join("control.sock"), appliance, runtime.handle()).unwrap();
        Self { folder, bench, server, runtime }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn raw(&self, request: &[u8]) -> Answered {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        // Who is refused early may not be read to the end.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, document) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_owned(), document: serde_json::from_str(document).unwrap_or(Value::Null) }
    }

    fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> Answered {
        let length = body.len();
        let head = format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}");
        self.raw(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
    }

    fn get(&self, path: &str) -> Answered {
        self.call("GET", path, "", "")
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &Value) -> Answered {
        self.call(method, path, headers, &body.to_string())
    }

    fn text(&self) -> String {
        self.bench.appliance.configuration().text.to_string()
    }
}
