//! Network namespaces for tests: made, entered by threads, deleted when dropped. Nothing here touches the interfaces of the
//! machine itself.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace of this test.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace, its loopback up; `None`, and a word why, where that is not permitted.
    pub(crate) fn new(label: &str) -> Option<Self> {
        let name = format!("mrt-{}-{label}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: making a network namespace needs root and iproute2");
            return None;
        }
        let namespace = Self { name };
        namespace.command("ip link set lo up");
        Some(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts a thread inside.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        thread::spawn(move || {
            let namespace = File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }

    /// Does something inside and returns what came of it.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }

    /// Runs a shell line inside; it must succeed.
    pub(crate) fn command(&self, line: &str) {
        self.output(line);
    }

    /// What a shell line inside prints; it must succeed.
    pub(crate) fn output(&self, line: &str) -> String {
        let output = self.attempt(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell line inside, whatever comes of it.
    pub(crate) fn attempt(&self, line: &str) -> Output {
        Command::new("ip").args(["netns", "exec", &self.name, "bash", "-c", line]).output().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Accepts one connection and sends back what it says. Returns how many bytes that was.
pub(crate) fn echo_once(listener: &TcpListener) -> usize {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
    bytes.len()
}

/// Sends `len` bytes and expects them back. Returns how many came.
pub(crate) fn exchange(address: IpAddr, port: u16, len: usize) -> usize {
    let bytes: Vec<u8> = (0_u32..).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).take(len).collect();
    let mut stream = TcpStream::connect((address, port)).unwrap();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    back.len()
}
