//! The baseline: `dpdk-testpmd`, which passes packets on untouched (`io`) or with their MAC addresses swapped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::process::Process;
use super::telemetry::{self, Telemetry};
use crate::Outcome;

/// How long it may take to start: the pcap device reads its file twice.
const START_MAX: Duration = Duration::from_secs(180);

/// Bytes DPDK keeps free before a frame (`RTE_PKTMBUF_HEADROOM`), which testpmd counts among a buffer's.
const HEADROOM: u32 = 128;

/// What testpmd does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: it does not look at it.
    Io,
    /// It swaps the MAC addresses.
    MacSwap,
}

impl Mode {
    /// The word of `--forward-mode`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::MacSwap => "macswap",
        }
    }
}

/// How testpmd is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestpmdPlan {
    /// The program.
    pub program: PathBuf,
    /// The devices, as in the appliance's configuration; packets of each go out of its partner (0 and 1, 2 and 3).
    pub devices: Vec<String>,
    /// What it does with packets.
    pub mode: Mode,
    /// The core of its main thread, which does nothing here.
    pub main_core: usize,
    /// The cores that forward.
    pub cores: Vec<usize>,
    /// Packet buffers.
    pub buffers: u32,
    /// Bytes of a frame that fit in one.
    pub frame_bytes: u16,
}

/// A running testpmd.
#[derive(Debug)]
pub struct Testpmd {
    telemetry: Telemetry,
    ports: usize,
    /// After the telemetry, so that the connection is gone before the process.
    _process: Process,
    /// And after the process, which keeps its sockets there.
    _left_behind: RuntimeDirectory,
}

/// The directory DPDK makes for a process and leaves empty.
#[derive(Debug)]
struct RuntimeDirectory(PathBuf);

impl Drop for RuntimeDirectory {
    fn drop(&mut self) {
        // Only if it is empty: what else is there is not ours to remove.
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Testpmd {
    /// Starts it and waits until packets have come out. What it says goes to a file in `folder`.
    ///
    /// # Errors
    /// When it does not start, or nothing comes out.
    pub fn start(plan: &TestpmdPlan, folder: &Path) -> Outcome<Self> {
        Self::start_until(plan, folder, |sent| sent > 0)
    }

    /// Starts it and waits until it answers; traffic comes later.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_idle(plan: &TestpmdPlan, folder: &Path) -> Outcome<Self> {
        Self::start_until(plan, folder, |_| true)
    }

    fn start_until(plan: &TestpmdPlan, folder: &Path, ready: impl Fn(u64) -> bool) -> Outcome<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("millrace-perf-{}-{number}", std::process::id());
        let said = folder.join("testpmd.txt");
        let socket = telemetry::path(&prefix);
        let left_behind = RuntimeDirectory(socket.parent().map(PathBuf::from).unwrap_or_default());
        let mut process = Process::start(&plan.program, arguments(plan, &prefix), &said)?;
        let ports = plan.devices.len();
        let telemetry = process.wait_for(START_MAX, &said, || {
            let mut telemetry = Telemetry::connect(&socket)?;
            let (_, sent) = sums(&mut telemetry, ports)?;
            if ready(sent) { Ok(telemetry) } else { Err("no packet has come out".into()) }
        })?;
        Ok(Self { telemetry, ports, _process: process, _left_behind: left_behind })
    }

    /// When it was asked, and the packets it has sent through all ports since it started.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn sent(&mut self) -> Outcome<(Instant, u64)> {
        let asked = Instant::now();
        let (_, sent) = sums(&mut self.telemetry, self.ports)?;
        // The counters were read between the question and the answer.
        Ok((asked + asked.elapsed() / 2, sent))
    }
}

fn sums(telemetry: &mut Telemetry, ports: usize) -> Outcome<(u64, u64)> {
    let (mut received, mut sent) = (0, 0);
    for port in 0..ports {
        let (rx, tx) = telemetry.packets(port)?;
        received += rx;
        sent += tx;
    }
    Ok((received, sent))
}

fn arguments(plan: &TestpmdPlan, prefix: &str) -> Vec<String> {
    // Numbered one by one, because the main thread, which sleeps, may share the core of one that forwards.
    let cores = [plan.main_core].into_iter().chain(plan.cores.iter().copied()).enumerate();
    let cores: Vec<String> = cores.map(|(number, core)| format!("{number}@{core}")).collect();
    let mut arguments = vec![format!("--lcores={}", cores.join(",")), "--in-memory".to_owned()];
    arguments.extend([format!("--file-prefix={prefix}"), "--log-level=error".to_owned()]);
    let is_pci = |device: &String| !device.starts_with("net_") && device.contains(':');
    if !plan.devices.iter().any(is_pci) {
        arguments.push("--no-pci".to_owned());
    }
    for device in &plan.devices {
        let option = if is_pci(device) { "--allow" } else { "--vdev" };
        arguments.extend([option.to_owned(), device.clone()]);
    }
    let queues = plan.devices.iter().map(|device| queues(device, plan.cores.len())).min().unwrap_or(1);
    arguments.extend([
        "--".to_owned(),
        format!("--forward-mode={}", plan.mode.word()),
        format!("--nb-cores={}", plan.cores.len()),
        format!("--rxq={queues}"),
        format!("--txq={queues}"),
        format!("--total-num-mbufs={}", plan.buffers),
        format!("--mbuf-size={}", u32::from(plan.frame_bytes) + HEADROOM),
        // Without an interval it would wait for a key and end at once.
        "--stats-period=60".to_owned(),
    ]);
    arguments
}

/// How many of the `wanted` queues a device has: a pcap device one for each file it replays, a NIC and `net_null` all; other
/// software devices are taken with one.
fn queues(device: &str, wanted: usize) -> usize {
    match device.matches("rx_pcap=").count() {
        0 if device.starts_with("net_") && !device.starts_with("net_null") => 1,
        0 => wanted,
        files => files.min(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> TestpmdPlan {
        TestpmdPlan {
            program: "dpdk-testpmd".into(),
            devices: vec!["net_pcap0,rx_pcap=a.pcap,infinite_rx=1".into(), "net_null0,no-rx=1".into()],
            mode: Mode::MacSwap,
            main_core: 0,
            cores: vec![1],
            buffers: 50_000,
            frame_bytes: 2_048,
        }
    }

    #[test]
    fn devices_and_sizes_are_said_as_testpmd_wants_them() {
        assert_eq!(
            arguments(&plan(), "p").join(" "),
            "--lcores=0@0,1@1 --in-memory --file-prefix=p --log-level=error --no-pci \
             --vdev net_pcap0,rx_pcap=a.pcap,infinite_rx=1 --vdev net_null0,no-rx=1 -- --forward-mode=macswap --nb-cores=1 \
             --rxq=1 --txq=1 --total-num-mbufs=50000 --mbuf-size=2176 --stats-period=60"
        );
        let two = TestpmdPlan { cores: vec![1, 0], ..plan() };
        assert!(arguments(&two, "p").join(" ").contains("--lcores=0@0,1@1,2@0 "));
        for (device, expected) in
            [("net_pcap0,rx_pcap=a,rx_pcap=b", 2), ("net_memif0", 1), ("net_null0", 2), ("3b:00.0", 2)]
        {
            assert_eq!(queues(device, 2), expected, "{device}");
        }
        let nics = TestpmdPlan { devices: vec!["0000:3b:02.0".into(), "0000:3b:02.1".into()], ..plan() };
        let said = arguments(&nics, "p").join(" ");
        assert!(said.contains("--allow 0000:3b:02.0 --allow 0000:3b:02.1"), "{said}");
        assert!(!said.contains("--no-pci"), "{said}");
    }
}
