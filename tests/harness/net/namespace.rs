//! One network namespace: a host of the lab. Commands run inside it; it is deleted when dropped.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Process;
use super::eventually::PATIENCE;

/// What a command that ended left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Whether its exit status was 0.
    pub success: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A network namespace with its loopback up and IPv6 addresses usable at once.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// How long a command may take when the test does not say.
const SECONDS: u32 = 60;

impl Namespace {
    /// Whether this process may make namespaces.
    #[must_use]
    pub fn permitted() -> bool {
        // The effective capabilities, CAP_SYS_ADMIN and CAP_NET_ADMIN among them (linux/capability.h: bits 21 and 12).
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        let wanted = (1 << 21) | (1 << 12);
        bits & wanted == wanted
    }

    pub(super) fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.must("ip link set lo up");
        // `ip netns exec` mounts a /sys of the namespace, and /proc/sys/net is the namespace's by itself.
        namespace.must("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.disable_ipv6=0");
        namespace
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL"]).args(words);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// Runs a command line, split at spaces, for a minute of an idle machine's at most.
    pub fn run(&self, line: &str) -> Finished {
        self.run_for(SECONDS, line)
    }

    /// Runs a command line, split at spaces, for `seconds` of an idle machine's at most.
    pub fn run_for(&self, seconds: u32, line: &str) -> Finished {
        self.run_words(seconds, &line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command, for `seconds` of an idle machine's at most.
    pub fn run_words(&self, seconds: u32, command: &[&str]) -> Finished {
        let seconds = (seconds * PATIENCE).to_string();
        let words = [&["timeout", "--kill-after=2", &seconds], command].concat();
        let output = self.command(&words).stdin(Stdio::null()).output().expect("ip can be started");
        Finished {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command line that has to succeed; its standard output.
    #[track_caller]
    pub fn must(&self, line: &str) -> String {
        let finished = self.run(line);
        assert!(finished.success, "{} $ {line}\n{}{}", self.name, finished.out, finished.err);
        finished.out
    }

    /// Starts a command line, split at spaces, with its output in `log`.
    #[must_use]
    pub fn start(&self, line: &str, log: &Path) -> Process {
        let words: Vec<_> = line.split_whitespace().collect();
        Process::start(self.command(&words), log)
    }

    /// The names of its interfaces, `lo` left out.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        let listed: serde_json::Value = serde_json::from_str(&self.must("ip -json link show")).expect("ip prints JSON");
        let names = listed.as_array().into_iter().flatten().filter_map(|link| link.get("ifname")?.as_str());
        let mut names: Vec<_> = names.filter(|name| *name != "lo").map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// Whether somebody listens here for `tcp`, `udp` or `unix` at this address, as `ss` writes it.
    #[must_use]
    pub fn listens(&self, protocol: &str, address: &str) -> bool {
        let listening = self.must(&format!("ss --no-header --numeric --listening --{protocol}"));
        listening.split_whitespace().any(|word| word == address)
    }

    /// Gives `interface` an address and its prefix length.
    pub fn address(&self, interface: &str, address: &str) {
        self.must(&format!("ip address add {address} dev {interface}"));
    }

    /// Sends everything without a better route to `gateway`.
    pub fn gateway(&self, gateway: &str) {
        self.must(&format!("ip route add default via {gateway}"));
    }

    /// A veth pair from `interface` here to `far_interface` in `far`. What leaves through it is whole: no checksum and no
    /// segmentation is left to hardware that is not there.
    pub fn wire(&self, interface: &str, far: &Self, far_interface: &str) {
        let far_name = far.name();
        self.must(&format!("ip link add {interface} type veth peer name {far_interface} netns {far_name}"));
        self.raise(interface);
        far.raise(far_interface);
    }

    /// Takes an interface up, with nothing left to offloads.
    pub fn raise(&self, interface: &str) {
        self.run(&format!("ethtool -K {interface} tx off tso off gso off gro off"));
        self.must(&format!("ip link set {interface} up"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Echoes that `ping`, without `-q`, has had no answer to although it had answers to later ones. To be asked of one that had its time,
/// `-w`: it goes on until as many are answered as it was told to send, or an error comes. Without, it waits for the last no longer than
/// the others took.
#[must_use]
pub fn unanswered(ping: &str) -> Vec<u32> {
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
    let answered: BTreeSet<u32> = ping.lines().filter(|line| line.contains("bytes from")).filter_map(number).collect();
    (1..=answered.last().copied().unwrap_or(0)).filter(|number| !answered.contains(number)).collect()
}

/// An address as URLs have it.
#[must_use]
pub fn in_url(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Runs `ip` outside every namespace of the lab; it has to succeed.
pub(super) fn ip(line: &str) {
    let output = Command::new("ip").args(line.split_whitespace()).output().expect("ip can be started");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}
