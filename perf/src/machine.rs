//! The machine a measurement ran on, and what it lacks for one: each lack a sentence with the command that mends it.

use std::path::Path;
use std::process::{Command, Stdio};

use control::doctor::Machine as Facts;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::statistics;

/// What a reader must know of the machine to compare figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as `/proc/cpuinfo` names it.
    pub processor: String,
    /// Processors online.
    pub cores: usize,
    /// Processors the scheduler keeps free of other work.
    pub isolated: Vec<usize>,
    /// Whether it runs in a virtual machine.
    pub is_virtual: bool,
    /// Cycles of the time stamp counter in a second.
    pub hertz: f64,
    /// The kernel's release.
    pub kernel: String,
    /// DPDK's version, as testpmd links it.
    pub dpdk: String,
    /// Hugepages by size, as `4096 x 2 MiB, 4000 free`.
    pub hugepages: String,
    /// Programs that wanted a processor over the last minute.
    pub load: f64,
}

impl Machine {
    /// This machine, now.
    #[must_use]
    pub fn this() -> Self {
        let facts = Facts::this();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let word = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let load = word("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
        Self {
            processor: processor(&cpuinfo),
            cores: facts.online_cores().len(),
            isolated: facts.isolated_cores(),
            is_virtual: cpuinfo.contains(" hypervisor"),
            hertz: statistics::hertz(),
            kernel: word("/proc/sys/kernel/osrelease"),
            dpdk: dpdk::Eal::version(),
            hugepages: hugepages(&facts),
            load,
        }
    }
}

/// Model name, family and model: the name alone says little in a virtual machine.
fn processor(cpuinfo: &str) -> String {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        (name, ..) => name.unwrap_or("unknown").to_owned(),
    }
}

fn hugepages(facts: &Facts) -> String {
    let said: Vec<String> = facts
        .hugepages()
        .into_iter()
        .filter(|pages| pages.total > 0)
        .map(|pages| format!("{} x {} MiB, {} free", pages.total, pages.size >> 20, pages.free))
        .collect();
    if said.is_empty() { "none".to_owned() } else { said.join("; ") }
}

/// Where the kernel keeps the weight of this session's programs (sched(7)).
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The weight this session had before; given back when dropped, or compilers started later in the same terminal would have
/// the machine to themselves.
#[derive(Debug)]
pub struct Favored {
    nice: Option<String>,
}

/// The niceness of everything that is measured or measures.
const NICE: i32 = -20;

/// Gives this session's programs their weight against those of other sessions. Where the kernel shares the processors out
/// by session first (autogroup), priorities count inside one only: without this, a compiler in another terminal takes half
/// of a worker's core, whatever `nice` says. Does nothing where there are no autogroups. And gives this process the subjects'
/// own priority, or the appliance's control thread, which shares a core with the generator where cores are few, would keep
/// the generator from sending.
#[must_use]
pub fn favor_this_session() -> Favored {
    // It reads `/autogroup-66 nice 0`.
    let told = std::fs::read_to_string(AUTOGROUP).unwrap_or_default();
    let _ = rustix::process::nice(NICE);
    let nice = told.trim().rsplit_once(' ').map(|(_, nice)| nice.to_owned());
    if nice.is_some() {
        let _ = std::fs::write(AUTOGROUP, "-20");
    }
    Favored { nice }
}

impl Drop for Favored {
    fn drop(&mut self) {
        if let Some(nice) = &self.nice {
            let _ = std::fs::write(AUTOGROUP, nice);
        }
    }
}

/// What stands in the way of a run with these programs and this much hugepage memory; empty when nothing does.
#[must_use]
pub fn lacks(millrace: &Path, testpmd: &Path, memory: u64) -> Vec<String> {
    let facts = Facts::this();
    let mut lacks = Vec::new();
    if !rustix::process::geteuid().is_root() {
        lacks.push("devices, hugepages and priorities need root: run it with sudo".to_owned());
    }
    if !answers(testpmd) {
        lacks.push(format!(
            "{} is the baseline and does not start: apt-get install dpdk-dev, or name it with --testpmd",
            testpmd.display()
        ));
    }
    if !millrace.exists() {
        lacks.push(format!(
            "{} is not there: cargo build --release -p control --features dpdk, or name it with --millrace",
            millrace.display()
        ));
    }
    let free: u64 = facts.hugepages().iter().map(|pages| pages.size * pages.free).sum();
    if free < memory {
        lacks.push(format!(
            "{} MiB of free hugepages, and {} MiB are needed: scripts/hugepages.sh {}",
            free >> 20,
            memory >> 20,
            (memory >> 20) + (used(&facts) >> 20)
        ));
    }
    lacks
}

/// Bytes of hugepages that somebody has.
fn used(facts: &Facts) -> u64 {
    facts.hugepages().iter().map(|pages| pages.size * pages.total.saturating_sub(pages.free)).sum()
}

/// Whether testpmd is there: it prints its version and ends.
fn answers(testpmd: &Path) -> bool {
    let mut asked = Command::new(testpmd);
    asked.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Refuses a run that cannot be.
///
/// # Errors
/// Everything that is missing, a line each.
pub fn require(millrace: &Path, testpmd: &Path, memory: u64) -> Outcome<()> {
    let lacks = lacks(millrace, testpmd, memory);
    if lacks.is_empty() { Ok(()) } else { Err(lacks.join("\n").into()) }
}
