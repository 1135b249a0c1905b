//! The world that `config/examples/edge.toml` speaks of: clients outside, the appliance, servers inside.
//!
//! ```text
//!      client                    appliance                 switch            shop-a   10.0.0.11  2001:db8:10::11
//!   198.51.100.20-29  eth0 -- mr-out0 millrace mr-in0 -- bridge -- eth0      shop-b   10.0.0.12  2001:db8:10::12
//!   2001:db8:51::20-29        198.51.100.1     10.0.0.1                      resolver 10.0.0.53, .54
//!                             2001:db8:51::1   2001:db8:10::1
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Configuration, Namespace, skipping};

/// One lab at a time.
static TURN: Mutex<()> = Mutex::new(());
/// Labs of this process so far.
static LABS: AtomicU32 = AtomicU32::new(0);

/// What names of this process's labs begin with, before its number.
const PREFIX: &str = "mre2e-";

/// The hosts and the directory of one test.
#[derive(Debug)]
pub struct Lab {
    /// Whoever asks: ten addresses of each family.
    pub client: Namespace,
    /// Where the appliance runs.
    pub appliance: Namespace,
    /// The bridge that the servers share.
    pub switch: Namespace,
    /// A server.
    pub shop_a: Namespace,
    /// Another.
    pub shop_b: Namespace,
    /// Where both name servers run.
    pub resolver: Namespace,
    name: String,
    directory: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// The lab with the appliance's wires in place (`net_af_packet`), or nothing where this machine cannot hold it, or
    /// lacks one of `programs`: then `test` has been skipped aloud.
    #[must_use]
    pub fn wired(test: &str, programs: &[&str]) -> Option<Self> {
        let lab = Self::bare(test, programs)?;
        lab.wire_inside();
        lab.wire_outside();
        Some(lab)
    }

    /// Puts the wire between the appliance and the servers' bridge in place, also after it was taken away.
    pub fn wire_inside(&self) {
        self.appliance.wire("mr-in0", &self.switch, "to-appliance");
        self.switch.must("ip link set to-appliance master lan");
    }

    /// Puts the wire between the client and the appliance in place, also after it was taken away.
    pub fn wire_outside(&self) {
        self.appliance.wire("mr-out0", &self.client, "eth0");
        self.address_client();
    }

    /// The lab without wires to the appliance, whose devices are still to come (`net_tap`); then [`Lab::plug_taps`].
    #[must_use]
    pub fn bare(test: &str, programs: &[&str]) -> Option<Self> {
        if skipping(test, programs) {
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        sweep();
        let name = format!("{PREFIX}{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&directory).expect("the temporary directory takes another");
        let host = |role: &str| Namespace::new(format!("{name}-{role}"));
        let lab = Self {
            client: host("client"),
            appliance: host("appliance"),
            switch: host("switch"),
            shop_a: host("shop-a"),
            shop_b: host("shop-b"),
            resolver: host("resolver"),
            name: name.clone(),
            directory,
            _turn: turn,
        };
        lab.switch.must("ip link add lan type bridge");
        lab.switch.must("ip link set lan up");
        lab.server(&lab.shop_a, "to-shop-a", &["10.0.0.11/24", "2001:db8:10::11/64"]);
        lab.server(&lab.shop_b, "to-shop-b", &["10.0.0.12/24", "2001:db8:10::12/64"]);
        lab.server(&lab.resolver, "to-resolver", &["10.0.0.53/24", "10.0.0.54/24", "2001:db8:10::53/64"]);
        Some(lab)
    }

    fn server(&self, host: &Namespace, port: &str, addresses: &[&str]) {
        host.wire("eth0", &self.switch, port);
        self.switch.must(&format!("ip link set {port} master lan"));
        for address in addresses {
            host.address("eth0", address);
        }
        host.gateway("10.0.0.1");
        host.gateway("2001:db8:10::1");
    }

    fn connected(&self) {
        self.switch.must("ip link set to-appliance master lan");
        self.address_client();
    }

    /// Gives the client its addresses on a wire that is in place.
    pub fn address_client(&self) {
        for number in 20..30 {
            self.client.address("eth0", &format!("198.51.100.{number}/24"));
            self.client.address("eth0", &format!("2001:db8:51::{number}/64"));
        }
        self.client.gateway("198.51.100.1");
        self.client.gateway("2001:db8:51::1");
    }

    /// Gives the kernel's ends of the appliance's two TAP devices to the client and to the switch. A TAP has one MAC
    /// address for both its ends; the far ends get their own.
    pub fn plug_taps(&self) {
        for (tap, far, interface, mac) in [
            ("mr-out0", &self.client, "eth0", "02:00:00:00:51:20"),
            ("mr-in0", &self.switch, "to-appliance", "02:00:00:00:10:02"),
        ] {
            self.appliance.must(&format!("ip link set {tap} netns {} name {interface}", far.name()));
            far.must(&format!("ip link set {interface} down"));
            far.must(&format!("ip link set {interface} address {mac}"));
            far.raise(interface);
        }
        self.connected();
    }

    /// One more host, with nothing connected.
    #[must_use]
    pub fn host(&self, role: &str) -> Namespace {
        Namespace::new(format!("{}-{role}", self.name))
    }

    /// Where the test keeps its files; it goes with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file of the test's.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Puts a file of the test's in place of the one before, whole.
    pub fn put(&self, name: &str, text: &str) {
        let new = self.file(&format!("{name}.new"));
        std::fs::write(&new, text).expect("the lab's directory takes a file");
        std::fs::rename(&new, self.file(name)).expect("within the lab's directory");
    }

    /// `config/examples/edge.toml` as it is written, but for the control socket in this lab's directory: for what its probes promise.
    #[must_use]
    pub fn edge_as_written(&self) -> Configuration {
        Configuration::example("edge.toml", &self.file("control.sock"))
    }

    /// The same, giving up a backend only after half a minute: a loaded machine may answer a probe late.
    #[must_use]
    pub fn edge(&self) -> Configuration {
        self.edge_as_written().patient()
    }

    /// `config/examples/demo.toml`, likewise: edge.toml, and services to measure through.
    #[must_use]
    pub fn demo(&self) -> Configuration {
        Configuration::example("demo.toml", &self.file("control.sock")).patient()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs are kept in {}", self.directory.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Takes away the namespaces of test processes that ended without doing so (killed, or out of time).
fn sweep() {
    let Ok(listed) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for name in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(owner).exists() {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}
