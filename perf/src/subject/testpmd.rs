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
        let mut process = Process::start(&plan.program, arguments(plan, &prefix), &said)?;
        let socket = telemetry::path(&prefix);
        let ports = plan.devices.len();
        let telemetry = process.wait_for(START_MAX, &said, || {
            let mut telemetry = Telemetry::connect(&socket)?;
            let (_, sent) = sums(&mut telemetry, ports)?;
            if ready(sent) { Ok(telemetry) } else { Err("no packet has come out".into()) }
        })?;
        Ok(Self { telemetry, ports, _process: process })
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
    let cores: Vec<String> = [plan.main_core].iter().chain(&plan.cores).map(ToString::to_string).collect();
    let mut arguments =
        vec!["-l".to_owned(), cores.join(","), format!("--main-lcore={}", plan.main_core), "--in-memory".to_owned()];
    arguments.extend([format!("--file-prefix={prefix}"), "--log-level=error".to_owned()]);
    let is_pci = |device: &String| !device.starts_with("net_") && device.contains(':');
    if !plan.devices.iter().any(is_pci) {
        arguments.push("--no-pci".to_owned());
    }
    for device in &plan.devices {
        let option = if is_pci(device) { "--allow" } else { "--vdev" };
        arguments.extend([option.to_owned(), device.clone()]);
    }
    arguments.extend([
        "--".to_owned(),
        format!("--forward-mode={}", plan.mode.word()),
        format!("--nb-cores={}", plan.cores.len()),
        format!("--total-num-mbufs={}", plan.buffers),
        format!("--mbuf-size={}", u32::from(plan.frame_bytes) + HEADROOM),
        // Without an interval it would wait for a key and end at once.
        "--stats-period=60".to_owned(),
    ]);
    arguments
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
            "-l 0,1 --main-lcore=0 --in-memory --file-prefix=p --log-level=error --no-pci \
             --vdev net_pcap0,rx_pcap=a.pcap,infinite_rx=1 --vdev net_null0,no-rx=1 -- --forward-mode=macswap --nb-cores=1 \
             --total-num-mbufs=50000 --mbuf-size=2176 --stats-period=60"
        );
        let nics = TestpmdPlan { devices: vec!["0000:3b:02.0".into(), "0000:3b:02.1".into()], ..plan() };
        let said = arguments(&nics, "p").join(" ");
        assert!(said.contains("--allow 0000:3b:02.0 --allow 0000:3b:02.1"), "{said}");
        assert!(!said.contains("--no-pci"), "{said}");
    }
}
