//! Facts about this machine that `millrace doctor` turns into advice and that errors are explained with: hugepages, PCI
//! devices and their drivers, VFIO and the IOMMU, what the process may do. Only reads; works before and without `Eal::init`.
//!
//! Functions that take a `root` look below it, so that tests can lay out a machine of their own.

use std::fs::{self, OpenOptions};
use std::io;
use std::mem;
use std::path::Path;

use crate::Errno;
use crate::af_packet::try_socket;

/// Hugepages of one size, all memory nodes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hugepages {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages reserved.
    pub total: u64,
    /// Pages nobody uses yet.
    pub free: u64,
}

/// A PCI device as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciDevice {
    /// The kernel driver that holds it.
    pub driver: Option<String>,
    /// Its IOMMU group; `None` when the IOMMU is off.
    pub iommu_group: Option<u32>,
    /// Whether it is a network controller (class 02).
    pub is_network: bool,
    /// Its memory node, where the machine has more than one.
    pub socket: Option<u16>,
    /// The physical function it is a virtual function of.
    pub physical_function: Option<String>,
}

/// What is there of VFIO, through which DPDK drives PCI devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vfio {
    /// The driver `vfio-pci` is loaded.
    pub loaded: bool,
    /// `/dev/vfio/vfio` exists.
    pub container: bool,
    /// The machine has an IOMMU and it is on.
    pub iommu: bool,
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Raw packet sockets (`net_af_packet`).
    pub packet_sockets: Result<(), Errno>,
    /// `AF_XDP` sockets (`net_af_xdp`).
    pub xdp_sockets: Result<(), Errno>,
    /// `/dev/net/tun` (`net_tap`, and the kernel interface beside each port).
    pub tun: Result<(), Errno>,
    /// Bytes of memory that may be locked; `None` for no limit.
    pub locked_memory: Option<u64>,
}

/// A small file's text without white space around it.
fn word(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    word(path)?.parse().ok()
}

/// The last part of what a symbolic link points to.
fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// Hugepages by size, smallest first; empty when the kernel has none.
#[must_use]
pub fn hugepages(root: &Path) -> Vec<Hugepages> {
    let Ok(entries) = fs::read_dir(root.join("sys/kernel/mm/hugepages")) else { return Vec::new() };
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let total = number(&entry.path().join("nr_hugepages"))?;
        let free = number(&entry.path().join("free_hugepages"))?;
        Some(Hugepages { page_bytes: kib.checked_mul(1_024)?, total, free })
    };
    let mut sizes: Vec<Hugepages> = entries.flatten().filter_map(read).collect();
    sizes.sort_by_key(|size| size.page_bytes);
    sizes
}

/// Bytes of the hugepages that `vm.nr_hugepages` counts.
#[must_use]
pub fn default_hugepage_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The PCI device at a full address, `None` when there is none.
#[must_use]
pub fn pci_device(root: &Path, address: &str) -> Option<PciDevice> {
    let home = root.join("sys/bus/pci/devices").join(address);
    let class = word(&home.join("class"))?;
    Some(PciDevice {
        driver: link_name(&home.join("driver")),
        iommu_group: link_name(&home.join("iommu_group")).and_then(|name| name.parse().ok()),
        is_network: class.strip_prefix("0x").unwrap_or(&class).starts_with("02"),
        // -1 says that the machine has one node only.
        socket: word(&home.join("numa_node")).and_then(|text| text.parse().ok()),
        physical_function: link_name(&home.join("physfn")),
    })
}

/// Every network controller on the PCI bus: address and facts, in order of address.
#[must_use]
pub fn network_devices(root: &Path) -> Vec<(String, PciDevice)> {
    let Ok(entries) = fs::read_dir(root.join("sys/bus/pci/devices")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<(String, PciDevice)> = names
        .filter_map(|name| pci_device(root, &name).map(|device| (name, device)))
        .filter(|(_, device)| device.is_network)
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// VFIO and the IOMMU.
#[must_use]
pub fn vfio(root: &Path) -> Vfio {
    let has_entries = |path: &str| fs::read_dir(root.join(path)).is_ok_and(|mut entries| entries.next().is_some());
    Vfio {
        loaded: root.join("sys/bus/pci/drivers/vfio-pci").exists(),
        container: root.join("dev/vfio/vfio").exists(),
        iommu: has_entries("sys/class/iommu") || has_entries("sys/kernel/iommu_groups"),
    }
}

/// What this process may do, found out by trying; everything opened is closed again.
#[must_use]
pub fn permissions() -> Permissions {
    let socket = |family| try_socket(family, libc::SOCK_RAW).map(drop);
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    Permissions {
        packet_sockets: socket(libc::AF_PACKET),
        xdp_sockets: socket(libc::AF_XDP),
        tun: tun.map(drop).map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EIO))),
        locked_memory: locked_memory(),
    }
}

/// The limit on locked memory (`RLIMIT_MEMLOCK`), `None` for no limit.
fn locked_memory() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a place for the answer.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The cores the calling thread may run on, in order; empty when the kernel does not say.
#[must_use]
pub fn cores_allowed() -> Vec<usize> {
    // SAFETY: a set of bits, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` has the size told and is a place for the answer; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        log::debug!("sched_getaffinity: {}", io::Error::last_os_error());
        return Vec::new();
    }
    let most = libc::CPU_SETSIZE.cast_unsigned() as usize;
    // SAFETY: `core` is below the number of bits in the set.
    (0..most).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A machine with one VF on vfio-pci, a disk, and 2 MiB pages; gone when dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("millrace-doctor-{name}-{}", std::process::id()));
            let machine = Self(root);
            for (path, text) in [
                ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
                ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "128\n"),
                ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "1\n"),
                ("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "1\n"),
                ("proc/meminfo", "MemTotal: 1 kB\nHugepagesize:       2048 kB\n"),
                ("sys/bus/pci/devices/0000:3b:02.1/class", "0x020000\n"),
                ("sys/bus/pci/devices/0000:3b:02.1/numa_node", "1\n"),
                ("sys/bus/pci/devices/0000:00:1f.2/class", "0x010601\n"),
                ("sys/bus/pci/devices/0000:00:1f.2/numa_node", "-1\n"),
                ("sys/bus/pci/drivers/vfio-pci/bind", ""),
                ("sys/kernel/iommu_groups/42/type", "DMA\n"),
            ] {
                let path = machine.0.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let home = machine.0.join("sys/bus/pci/devices/0000:3b:02.1");
            symlink("../../../bus/pci/drivers/vfio-pci", home.join("driver")).unwrap();
            symlink("../../../kernel/iommu_groups/42", home.join("iommu_group")).unwrap();
            symlink("../0000:3b:00.0", home.join("physfn")).unwrap();
            machine
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn hugepages_are_counted_by_size() {
        let machine = Machine::new("hugepages");
        let sizes = hugepages(&machine.0);
        assert_eq!(sizes.first(), Some(&Hugepages { page_bytes: 2 << 20, total: 512, free: 128 }));
        assert_eq!(sizes.get(1).map(|size| size.page_bytes), Some(1 << 30));
        assert_eq!(default_hugepage_bytes(&machine.0), Some(2 << 20));
    }

    #[test]
    fn a_virtual_function_on_vfio_is_recognised() {
        let machine = Machine::new("vf");
        let found = network_devices(&machine.0);
        let [(address, device)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(address, "0000:3b:02.1");
        let expected = PciDevice {
            driver: Some("vfio-pci".to_owned()),
            iommu_group: Some(42),
            is_network: true,
            socket: Some(1),
            physical_function: Some("0000:3b:00.0".to_owned()),
        };
        assert_eq!(*device, expected);
        assert!(!pci_device(&machine.0, "0000:00:1f.2").unwrap().is_network);
        assert_eq!(pci_device(&machine.0, "0000:00:1f.2").unwrap().socket, None);
        assert_eq!(vfio(&machine.0), Vfio { loaded: true, container: false, iommu: true });
    }

    #[test]
    fn a_bare_machine_has_nothing_and_nothing_fails() {
        let nowhere = Path::new("/no/such/root");
        assert!(hugepages(nowhere).is_empty() && network_devices(nowhere).is_empty());
        assert_eq!(vfio(nowhere), Vfio { loaded: false, container: false, iommu: false });
        assert_eq!(pci_device(nowhere, "0000:00:00.0"), None);
    }

    #[test]
    fn this_thread_may_run_somewhere() {
        assert!(!cores_allowed().is_empty());
    }
}
