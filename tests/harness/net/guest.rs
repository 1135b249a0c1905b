//! A machine with SR-IOV NICs: a QEMU guest that sees this machine's files (copy on write), with an IOMMU and a NIC for each
//! wire, an Intel 82576, whose virtual functions DPDK drives. What runs on this machine runs there, at the same path.
//!
//! Called by end-to-end tests on their own thread; `tests/guest` is the other half. Orders go to the guest's `obey.sh`, the
//! NICs' wires are TAP devices in a namespace of the lab's, and cables are pulled through QEMU's own socket. The processor
//! is emulated: nothing here is fast.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Finished, Lab, Namespace, Process, holds_within, skipped};

/// How long an answer may take, the boot's included; the guest itself ends an order after two minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the last line of an answer begins with.
const STATUS: &str = "guest: status ";

/// A NIC of the guest's.
#[derive(Clone, Copy, Debug)]
pub struct Nic {
    /// The TAP device that is its wire; its cable is called so, too.
    pub wire: &'static str,
    /// The MAC address of its physical function.
    pub mac: &'static str,
}

/// A running guest. Dropped, it is killed.
#[derive(Debug)]
pub struct Guest {
    machine: Process,
    console: PathBuf,
    orders: Mutex<BufReader<UnixStream>>,
    monitor: Mutex<BufReader<UnixStream>>,
}

/// A script of `tests/guest`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(name)
}

/// Where the kernel and the first files of guests are, made if need be.
fn boot_files() -> Result<PathBuf, String> {
    let devices = Command::new("qemu-system-x86_64").args(["-device", "help"]).output();
    if !devices.is_ok_and(|devices| String::from_utf8_lossy(&devices.stdout).contains("name \"igb\"")) {
        return Err("needs QEMU 8 or newer for x86 (scripts/setup.sh --guest installs it)".to_owned());
    }
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = test.ancestors().nth(3).unwrap_or(Path::new("target")).join("guest");
    let made = Command::new(script("prepare.sh")).arg(&folder).output().map_err(|error| error.to_string())?;
    if made.status.success() { Ok(folder) } else { Err(String::from_utf8_lossy(&made.stderr).trim().to_owned()) }
}

impl Guest {
    /// Boots a guest whose NICs' wires are in `host`, or says aloud why `test` is skipped.
    #[must_use]
    pub fn boot(test: &str, lab: &Lab, host: &Namespace, nics: &[Nic]) -> Option<Self> {
        let files = match boot_files() {
            Ok(files) => files,
            Err(why) => {
                skipped(test, &why);
                return None;
            }
        };
        let wires: Vec<_> = nics.iter().map(|nic| format!("{}={}", nic.wire, nic.mac)).collect();
        let boot = script("boot.sh");
        let (boot, files, folder) = (boot.display(), files.display(), lab.directory().display());
        let mut machine = host.start(&format!("{boot} {files} {folder} {}", wires.join(" ")), &lab.file("qemu.log"));
        let monitor = Mutex::new(call(&mut machine, &lab.file("monitor")));
        let orders = Mutex::new(call(&mut machine, &lab.file("orders")));
        let guest = Self { machine, console: lab.file("console.log"), orders, monitor };
        guest.monitor(&json!({ "execute": "qmp_capabilities" }));
        assert!(guest.answer().success, "the guest boots");
        Some(guest)
    }

    /// Has the guest run a line of shell.
    pub fn run(&self, line: &str) -> Finished {
        {
            let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(orders.get_mut(), "{line}").expect("the guest listens");
        }
        self.answer()
    }

    /// Has the guest run a line of shell that has to succeed; what it printed.
    pub fn must(&self, line: &str) -> String {
        let finished = self.run(line);
        assert!(finished.success, "guest $ {line}\n{}", finished.out);
        finished.out
    }

    /// What `millrace` in the guest shows, at its usual socket.
    pub fn show(&self, millrace: &Path, what: &str) -> Value {
        let shown = self.must(&format!("{} show {what} --json", millrace.display()));
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("--json prints JSON ({error}): {shown}"))
    }

    /// Pulls the cable out of a NIC, or puts it back.
    pub fn cable(&self, nic: &Nic, plugged: bool) {
        self.monitor(&json!({ "execute": "set_link", "arguments": { "name": nic.wire, "up": plugged } }));
    }

    /// The lines of an answer, up to its status.
    fn answer(&self) -> Finished {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        loop {
            let mut line = String::new();
            let read = orders.read_line(&mut line);
            assert!(matches!(read, Ok(1..)), "the guest is silent ({read:?}) after {out:?}:\n{}", self.last_words());
            if let Some(status) = line.strip_prefix(STATUS) {
                return Finished { success: status.trim() == "0", out, err: String::new() };
            }
            out.push_str(&line);
        }
    }

    /// Has QEMU do something, and waits until it has.
    fn monitor(&self, order: &Value) {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(monitor.get_mut(), "{order}").expect("QEMU listens");
        loop {
            let mut line = String::new();
            monitor.read_line(&mut line).expect("QEMU answers");
            let said: Value = serde_json::from_str(&line).expect("QEMU speaks JSON");
            assert!(said.get("error").is_none(), "{order}: {said}");
            // Greetings and events come in between.
            if said.get("return").is_some() {
                return;
            }
        }
    }

    fn last_words(&self) -> String {
        let console = std::fs::read_to_string(&self.console).unwrap_or_default();
        format!("{}\n{console}", self.machine.output())
    }
}

/// Connects to a socket of the machine's as soon as it is there.
fn call(machine: &mut Process, socket: &Path) -> BufReader<UnixStream> {
    let mut stream = None;
    holds_within(20, || {
        stream = UnixStream::connect(socket).ok();
        stream.is_some() || !machine.running()
    });
    let stream = stream.unwrap_or_else(|| panic!("QEMU does not answer at {}: {}", socket.display(), machine.output()));
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit above zero");
    BufReader::new(stream)
}
