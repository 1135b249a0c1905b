//! Keeping the Linux stack silent on an interface that a port has taken over.
//!
//! `net_af_packet` and `net_af_xdp` see the frames of an ordinary interface, but Linux treats those frames as well. The
//! addresses of the port live on the kernel interface beside it, and Linux answers for any of its addresses on any
//! interface: it would answer ARP, reset TCP connections and reply to echo behind the data plane's back. So on the taken
//! interface:
//!
//! - ARP requests are ignored (`arp_ignore = 8`),
//! - IPv4 packets are refused by strict reverse path filtering (`rp_filter = 1`): every route back leads through another
//!   interface, since this one has no address,
//! - IPv6 is off (`disable_ipv6 = 1`),
//! - packets are not merged on receive (GRO, LRO): the port could not treat what is larger than its MTU.
//!
//! What was there before is restored when the [`Isolation`] is dropped. Anything that could not be done is a warning, not
//! an error: traffic flows all the same. Called by management at start and stop.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::features;
use super::netlink::Netlink;

/// The Linux interface that a DPDK device string takes over; `None` for every other kind of device.
#[must_use]
pub fn taken_interface(device: &str) -> Option<&str> {
    let (driver, arguments) = device.split_once(',')?;
    (driver.starts_with("net_af_packet") || driver.starts_with("net_af_xdp")).then_some(())?;
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

/// Whether there is a Linux interface of this name, in the network namespace of this thread. True when the kernel cannot be
/// asked: then whoever uses the interface finds out.
#[must_use]
pub fn interface_exists(name: &str) -> bool {
    Netlink::open().and_then(|netlink| netlink.index(name)).map_or(true, |index| index.is_some())
}

/// An interface the stack is kept out of, until this is dropped.
#[derive(Debug)]
pub struct Isolation {
    interface: String,
    before: Vec<(PathBuf, String)>,
    merging: Vec<String>,
    warnings: Vec<String>,
}

impl Isolation {
    /// Keeps the stack out of `interface`, which must have no IP address, and sets it up.
    #[must_use]
    pub fn of(interface: &str) -> Self {
        let mut isolation = Self::at(Path::new("/proc/sys/net"), interface);
        if let Err(error) = set_up(interface) {
            isolation.warnings.push(format!("cannot set {interface} up: {error}; `ip link set {interface} up`"));
        }
        isolation.stop_merging();
        isolation
    }

    /// What could not be done, each a sentence for the operator.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The interface has vanished: there is nothing to restore, least of all to one that takes its name.
    pub fn forget(mut self) {
        self.before.clear();
        self.merging.clear();
    }

    fn at(root: &Path, interface: &str) -> Self {
        let mut isolation =
            Self { interface: interface.to_owned(), before: Vec::new(), merging: Vec::new(), warnings: Vec::new() };
        let ipv4 = root.join("ipv4/conf").join(interface);
        isolation.set(ipv4.join("arp_ignore"), "8", "Linux may answer ARP for the port's addresses");
        isolation.set(ipv4.join("rp_filter"), "1", "Linux may answer IPv4 packets for the port's addresses");
        let ipv6 = root.join("ipv6/conf").join(interface);
        if ipv6.exists() {
            isolation.set(ipv6.join("disable_ipv6"), "1", "Linux may answer IPv6 packets for the port's addresses");
        }
        // The kernel takes the larger of this and the interface's own value, and 2 is less strict than 1.
        let everywhere = root.join("ipv4/conf/all/rp_filter");
        if fs::read_to_string(everywhere).is_ok_and(|value| value.trim() == "2") {
            isolation.warnings.push(format!(
                "net.ipv4.conf.all.rp_filter is 2, so Linux also treats packets that arrive on {interface}, beside the \
                 data plane; `sysctl -w net.ipv4.conf.all.rp_filter=0` (each interface then follows its own setting)"
            ));
        }
        isolation
    }

    fn stop_merging(&mut self) {
        let merging = match features::merging(&self.interface) {
            Ok(merging) if !merging.is_empty() => merging,
            // Nothing to switch off, or a kernel that cannot say.
            _ => return,
        };
        match features::switch(&self.interface, &merging, false) {
            Ok(()) => self.merging = merging,
            Err(error) => self.warnings.push(format!(
                "{} merges packets on receive, and those are dropped: {error}; `ethtool -K {} gro off lro off`",
                self.interface, self.interface
            )),
        }
    }

    fn set(&mut self, path: PathBuf, value: &str, otherwise: &str) {
        let done = fs::read_to_string(&path).and_then(|before| fs::write(&path, value).map(|()| before));
        match done {
            Ok(before) => self.before.push((path, before)),
            Err(error) => {
                self.warnings.push(format!("{otherwise}: cannot write {value} to {}: {error}", path.display()));
            }
        }
    }
}

impl Drop for Isolation {
    fn drop(&mut self) {
        if !self.merging.is_empty()
            && let Err(error) = features::switch(&self.interface, &self.merging, true)
        {
            log::debug!("cannot restore {} of {}: {error}", self.merging.join(", "), self.interface);
        }
        for (path, before) in self.before.drain(..).rev() {
            // An interface that is gone has nothing to restore.
            if let Err(error) = fs::write(&path, before.trim())
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("cannot restore {} to {}: {error}", path.display(), before.trim());
            }
        }
    }
}

fn set_up(interface: &str) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let index = netlink.index(interface)?.ok_or_else(|| io::Error::from(rustix::io::Errno::NODEV))?;
    netlink.set_up(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_over_linux_interfaces_take_one() {
        for (device, interface) in [
            ("net_af_packet0,iface=eth1", Some("eth1")),
            ("net_af_packet0,qpairs=2,iface=eth1,blocksz=4096", Some("eth1")),
            ("net_af_xdp3,iface=eth2,start_queue=0", Some("eth2")),
            ("net_af_packet0", None),
            ("net_tap0,iface=tap0", None),
            ("0000:3b:02.0,iface=eth1", None),
        ] {
            assert_eq!(taken_interface(device), interface, "{device}");
        }
    }

    #[test]
    fn an_interface_is_there_or_it_is_not() {
        assert!(interface_exists("lo"));
        assert!(!interface_exists("mr-nowhere0"));
    }

    #[test]
    fn what_was_there_is_restored_and_what_cannot_be_set_is_a_warning() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ipv4/conf/eth1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("arp_ignore"), "1\n").unwrap();
        let isolation = Isolation::at(root.path(), "eth1");
        assert_eq!(fs::read_to_string(folder.join("arp_ignore")).unwrap(), "8");
        // rp_filter is not there, and neither is IPv6: only the first is worth a word.
        assert_eq!(isolation.warnings().len(), 1, "{:?}", isolation.warnings());
        assert!(isolation.warnings()[0].starts_with("Linux may answer IPv4 packets"), "{:?}", isolation.warnings());
        drop(isolation);
        assert_eq!(fs::read_to_string(folder.join("arp_ignore")).unwrap(), "1");
        // What has vanished leaves another of its name alone.
        let isolation = Isolation::at(root.path(), "eth1");
        fs::write(folder.join("arp_ignore"), "2\n").unwrap();
        isolation.forget();
        assert_eq!(fs::read_to_string(folder.join("arp_ignore")).unwrap(), "2\n");
    }
}
