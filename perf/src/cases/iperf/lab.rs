//! Two hosts in network namespaces, each with a cable to an interface of this machine, and iperf3 between them. Everything it
//! makes carries the process number in its name and is gone when it is dropped.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// The service as clients know it, and its server; in front of a wire clients ask the server's second address.
pub(in crate::cases) const SERVICE: &str = "198.51.100.10";
pub(in crate::cases) const DIRECT: &str = "198.51.100.11";
/// Stations: client, server, and the interfaces the subject takes.
const CLIENT_MAC: &str = "02:00:00:00:00:fe";
const SERVER_MAC: &str = "02:00:00:00:00:11";
const OUTSIDE_MAC: &str = "02:00:00:00:00:01";
const INSIDE_MAC: &str = "02:00:00:00:00:02";
/// How long iperf3's server may take to listen, and how much longer than asked a run may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The two hosts.
#[derive(Debug)]
pub(in crate::cases) struct Lab {
    pub(in crate::cases) client: String,
    pub(in crate::cases) server: String,
    /// The interfaces for the subject.
    pub(in crate::cases) interfaces: [String; 2],
}

impl Lab {
    /// Makes it.
    pub(in crate::cases) fn new() -> Outcome<Self> {
        let number = std::process::id();
        let lab = Self {
            client: format!("mrp-c{number}"),
            server: format!("mrp-s{number}"),
            interfaces: [format!("mrpo{number}"), format!("mrpi{number}")],
        };
        let [outside, inside] = &lab.interfaces;
        lab.host(&lab.client, outside, (CLIENT_MAC, OUTSIDE_MAC), &["198.51.100.20/24"])?;
        lab.host(&lab.server, inside, (SERVER_MAC, INSIDE_MAC), &["10.0.0.11/24", "198.51.100.11/24"])?;
        let tell = |host: &str, address: &str, mac: &str| {
            run(&["ip", "-n", host, "neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent"])
        };
        tell(&lab.client, SERVICE, OUTSIDE_MAC)?;
        tell(&lab.client, DIRECT, SERVER_MAC)?;
        tell(&lab.server, "10.0.0.1", INSIDE_MAC)?;
        // Answers to the client go back the way its packets came: through the router, or straight.
        lab.answer_through_router()?;
        Ok(lab)
    }

    /// Has the server send its answers through the appliance.
    pub(in crate::cases) fn answer_through_router(&self) -> Outcome<()> {
        run(&["ip", "-n", &self.server, "route", "replace", "198.51.100.20/32", "via", "10.0.0.1", "dev", "eth0"])
    }

    /// Has the server send its answers straight to the client, over a wire.
    pub(in crate::cases) fn answer_straight(&self) -> Outcome<()> {
        run(&["ip", "-n", &self.server, "route", "replace", "198.51.100.20/32", "dev", "eth0", "src", DIRECT])?;
        let neighbor = ["neigh", "replace", "198.51.100.20", "lladdr", CLIENT_MAC, "dev", "eth0", "nud", "permanent"];
        run(&[&["ip", "-n", &self.server][..], &neighbor].concat())
    }

    /// A namespace with one interface, whose other end is `cable` here. Hardware would do checksums and segmentation; a cable
    /// between namespaces does not, so senders have to.
    fn host(&self, name: &str, cable: &str, (mac, peer): (&str, &str), addresses: &[&str]) -> Outcome<()> {
        run(&["ip", "netns", "add", name])?;
        run(&[
            "ip", "link", "add", cable, "address", peer, "type", "veth", "peer", "eth0", "netns", name, "address", mac,
        ])?;
        for address in addresses {
            run(&["ip", "-n", name, "address", "add", address, "dev", "eth0"])?;
        }
        let plain = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        run(&[&["ip", "netns", "exec", name, "ethtool", "-K", "eth0"][..], &plain].concat())?;
        run(&[&["ethtool", "-K", cable][..], &plain].concat())?;
        run(&["ip", "-n", name, "link", "set", "eth0", "up"])?;
        run(&["ip", "link", "set", cable, "up"])
    }

    /// Starts a program at the client, to be ended with the guard.
    pub(in crate::cases) fn start_at_client(&self, words: &[&str]) -> Outcome<Guard> {
        let mut program = Command::new("ip");
        program.args(["netns", "exec", &self.client]).args(words);
        Ok(Guard(program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// One iperf3 run of one TCP connection to `address`, client to server: bits a second received in so many `seconds`,
    /// after the `first` ones, which do not count.
    pub(in crate::cases) fn iperf(&self, address: &str, first: u64, seconds: u64) -> Outcome<f64> {
        let mut server = Guard(
            Command::new("ip")
                .args(["netns", "exec", &self.server, "iperf3", "--server", "--one-off"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        self.await_listener()?;
        let (first, seconds) = (first.to_string(), seconds.to_string());
        let client = ["--client", address, "--time", &seconds, "--omit", &first, "--json", "--connect-timeout", "3000"];
        let told = Command::new("ip")
            .args(["netns", "exec", &self.client, "iperf3"])
            .args(client)
            .stdin(Stdio::null())
            .output()?;
        drop(server.0.wait());
        let report: serde_json::Value = serde_json::from_slice(&told.stdout)?;
        if let Some(why) = report.get("error").and_then(serde_json::Value::as_str) {
            return Err(format!("iperf3: {why}").into());
        }
        let received = report.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
        Ok(received.filter(|bits| *bits > 0.0).ok_or("iperf3 received nothing")?)
    }

    fn await_listener(&self) -> Outcome<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let told = Command::new("ip")
                .args(["netns", "exec", &self.server, "ss", "-Hltn", "sport", "=", "5201"])
                .output()?;
            if !told.stdout.is_empty() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("iperf3's server does not listen".into())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The interfaces go with the namespace of their other ends.
        for host in [&self.client, &self.server] {
            drop(run(&["ip", "netns", "delete", host]));
        }
    }
}

/// A child that is gone with its owner.
#[derive(Debug)]
pub(in crate::cases) struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(words: &[&str]) -> Outcome<()> {
    let (program, arguments) = words.split_first().ok_or("nothing to run")?;
    let told = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let told = told.map_err(|error| format!("{program} cannot be run: {error}"))?;
    if told.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&told.stderr).trim()).into())
}

/// The first program that is not there, of those the hosts need and of `more`, with the package that has it.
pub(in crate::cases) fn missing(more: &[(&str, &str)]) -> Option<String> {
    let needed = [("ip", "iproute2"), ("ss", "iproute2"), ("ethtool", "ethtool"), ("iperf3", "iperf3")];
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root, for network namespaces".to_owned());
    }
    needed.iter().chain(more).find_map(|(program, package)| {
        let there = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
        (!there).then(|| format!("{program} is not there: apt-get install {package}"))
    })
}
