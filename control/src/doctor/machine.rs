//! Facts of the machine, as `/proc`, `/sys` and `/dev` tell them. What cannot be read is absent, never an error: the
//! judgements say what that means.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::kernel::features;
use crate::redirection::sound;

/// Capabilities (capabilities(7)) the appliance may need, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Make interfaces, set addresses.
    NetAdmin = 12,
    /// Packet and raw sockets.
    NetRaw = 13,
    /// Lock memory without a limit.
    IpcLock = 14,
    /// Devices that no IOMMU confines.
    SysRawIo = 17,
    /// Physical addresses of memory, hugetlbfs.
    SysAdmin = 21,
    /// Make device nodes.
    MakeNodes = 27,
}

impl Capability {
    /// The kernel's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysRawIo => "CAP_SYS_RAWIO",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::MakeNodes => "CAP_MKNOD",
        }
    }
}

/// Hugepages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hugepages {
    /// Bytes in a page.
    pub size: u64,
    /// Pages there are.
    pub total: u64,
    /// Pages nobody uses.
    pub free: u64,
}

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciDevice {
    /// The kernel driver that has it.
    pub driver: Option<String>,
    /// The number of its IOMMU group.
    pub iommu_group: Option<String>,
    /// Whether it is a virtual function.
    pub is_virtual_function: bool,
}

/// A Linux network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxInterface {
    /// Set up by the operator (`IFF_UP`).
    pub is_up: bool,
    /// Its MTU.
    pub mtu: u64,
    /// Receive queues.
    pub queues: usize,
    /// Whether Linux has an IP address on it, link-local IPv6 apart.
    pub has_address: bool,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder {
        /// Whether its file system takes no writes.
        read_only: bool,
        /// Bytes its file system has left, where that is known.
        free: Option<u64>,
    },
    /// Nothing yet.
    Nothing {
        /// Whether a folder can be made there.
        creatable: bool,
    },
    /// Something else than a folder.
    Other,
}

/// A machine: this one, or one that a test has made under a folder.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        Self::at(Path::new("/"))
    }

    /// The machine whose `/proc`, `/sys` and `/dev` are under this folder.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The last name of what a link leads to.
    fn link_name(&self, path: &str) -> Option<String> {
        fs::read_link(self.path(path)).ok()?.file_name()?.to_str().map(str::to_owned)
    }

    /// Whether a file or folder is there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path.trim_start_matches('/')).exists()
    }

    /// What is at this absolute path; a relative one is this process's own.
    #[must_use]
    pub fn place(&self, path: &Path) -> Place {
        let place = self.root.join(path.strip_prefix("/").unwrap_or(path));
        match fs::metadata(&place) {
            Ok(there) if there.is_dir() => {
                let system = rustix::fs::statvfs(&place).ok();
                Place::Folder {
                    read_only: system.as_ref().is_some_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY)),
                    free: system.map(|system| system.f_bavail.saturating_mul(system.f_frsize)),
                }
            }
            Ok(_) => Place::Other,
            // The nearest thing above that is there decides.
            Err(_) => {
                let above = place.ancestors().skip(1).find_map(|above| fs::metadata(above).ok());
                Place::Nothing { creatable: above.is_some_and(|above| above.is_dir()) }
            }
        }
    }

    /// Whether the program at this absolute path can be a hook; a sentence where it cannot.
    ///
    /// # Errors
    /// A sentence.
    pub fn hook(&self, path: &Path) -> Result<(), String> {
        sound(&self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    /// Files this process may have open; `None` without a limit.
    #[must_use]
    pub fn open_files(&self) -> Option<u64> {
        self.limit("Max open files")
    }

    fn limit(&self, name: &str) -> Option<u64> {
        let limits = self.text("proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// The interface of a virtual function's physical function, and whether it is up.
    #[must_use]
    pub fn physical_function(&self, address: &str) -> Option<(String, bool)> {
        let name = self.names(&format!("sys/bus/pci/devices/{address}/physfn/net")).into_iter().next()?;
        let is_up = self.interface(&name)?.is_up;
        Some((name, is_up))
    }

    /// Whether the running kernel would load its TAP driver for whoever opens the device: the driver is among its modules,
    /// and this process may make the device's node.
    #[must_use]
    pub fn can_load_tun(&self) -> bool {
        let release = self.text("proc/sys/kernel/osrelease").unwrap_or_default();
        let nodes = self.text(&format!("lib/modules/{release}/modules.devname")).unwrap_or_default();
        let has_driver = nodes.lines().any(|line| line.split_whitespace().nth(1) == Some("net/tun"));
        has_driver && self.has_capability(Capability::MakeNodes)
    }

    /// Whether this process has a capability, as the kernel counts it now.
    #[must_use]
    pub fn has_capability(&self, capability: Capability) -> bool {
        let status = self.text("proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        effective >> (capability as u8) & 1 == 1
    }

    /// Bytes this process may lock; `None` without a limit.
    #[must_use]
    pub fn lockable_memory(&self) -> Option<u64> {
        self.limit("Max locked memory")
    }

    /// Hugepages of every size the kernel has, smallest first.
    #[must_use]
    pub fn hugepages(&self) -> Vec<Hugepages> {
        let folder = "sys/kernel/mm/hugepages";
        let mut sizes: Vec<_> = self
            .names(folder)
            .iter()
            .filter_map(|name| {
                let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
                Some(Hugepages {
                    size: kilobytes.checked_mul(1024)?,
                    total: self.number(&format!("{folder}/{name}/nr_hugepages"))?,
                    free: self.number(&format!("{folder}/{name}/free_hugepages"))?,
                })
            })
            .collect();
        sizes.sort_by_key(|pages| pages.size);
        sizes
    }

    /// Whether a hugetlbfs is mounted.
    #[must_use]
    pub fn has_hugetlbfs(&self) -> bool {
        let mounts = self.text("proc/mounts").unwrap_or_default();
        mounts.lines().any(|line| line.split(' ').nth(2) == Some("hugetlbfs"))
    }

    /// Bytes of ordinary memory that this process can still have: what the machine has, or what its control groups leave of
    /// their share, if that is less.
    #[must_use]
    pub fn available_memory(&self) -> Option<u64> {
        let facts = self.text("proc/meminfo")?;
        let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        let machine = kilobytes.checked_mul(1024)?;
        Some(self.granted_memory().map_or(machine, |granted| granted.min(machine)))
    }

    /// What the control groups of this process leave it (version 2), the least of it and all above; `None` without a limit.
    fn granted_memory(&self) -> Option<u64> {
        let all = Path::new("sys/fs/cgroup");
        let groups = self.text("proc/self/cgroup")?;
        let own = all.join(groups.lines().find_map(|line| line.strip_prefix("0::/"))?);
        let left = |group: &Path| {
            let group = group.display();
            let most = self.number(&format!("{group}/memory.max"))?;
            let facts = self.text(&format!("{group}/memory.stat")).unwrap_or_default();
            // Of files that were read nobody is in need.
            let files = facts.lines().find_map(|line| line.strip_prefix("inactive_file "));
            let files = files.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
            let taken = self.number(&format!("{group}/memory.current"))?.saturating_sub(files);
            Some(most.saturating_sub(taken))
        };
        own.ancestors().take_while(|group| group.starts_with(all)).filter_map(left).min()
    }

    /// The processors that are online.
    #[must_use]
    pub fn online_cores(&self) -> Vec<usize> {
        listed(&self.text("sys/devices/system/cpu/online").unwrap_or_default())
    }

    /// The processors the scheduler keeps free of other work.
    #[must_use]
    pub fn isolated_cores(&self) -> Vec<usize> {
        listed(&self.text("sys/devices/system/cpu/isolated").unwrap_or_default())
    }

    /// The PCI device with this full address.
    #[must_use]
    pub fn pci_device(&self, address: &str) -> Option<PciDevice> {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.has(&folder).then(|| PciDevice {
            driver: self.link_name(&format!("{folder}/driver")),
            iommu_group: self.link_name(&format!("{folder}/iommu_group")),
            is_virtual_function: self.has(&format!("{folder}/physfn")),
        })
    }

    /// Whether devices are behind an IOMMU.
    #[must_use]
    pub fn has_iommu(&self) -> bool {
        !self.names("sys/kernel/iommu_groups").is_empty()
    }

    /// The PCI devices of an IOMMU group, which can only be handed out together.
    #[must_use]
    pub fn iommu_group(&self, group: &str) -> Vec<String> {
        self.names(&format!("sys/kernel/iommu_groups/{group}/devices"))
    }

    /// Whether vfio may be used without an IOMMU.
    #[must_use]
    pub fn allows_vfio_without_iommu(&self) -> bool {
        self.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode").is_some_and(|value| value == "Y")
    }

    /// The Linux interface with this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<LinuxInterface> {
        let folder = format!("sys/class/net/{name}");
        let flags = self.text(&format!("{folder}/flags"))?;
        let flags = u64::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let queues = self.names(&format!("{folder}/queues"));
        Some(LinuxInterface {
            is_up: flags & 1 == 1,
            mtu: self.number(&format!("{folder}/mtu")).unwrap_or(0),
            queues: queues.iter().filter(|queue| queue.starts_with("rx-")).count(),
            has_address: self.has_ipv4_route(name) || self.has_ipv6_address(name),
        })
    }

    /// An interface that is up and has an IPv4 address has the route of its prefix.
    fn has_ipv4_route(&self, interface: &str) -> bool {
        let routes = self.text("proc/net/route").unwrap_or_default();
        routes.lines().any(|line| line.split_whitespace().next() == Some(interface))
    }

    fn has_ipv6_address(&self, interface: &str) -> bool {
        let addresses = self.text("proc/net/if_inet6").unwrap_or_default();
        addresses.lines().any(|line| {
            let mut fields = line.split_whitespace();
            let address = fields.next().unwrap_or_default();
            fields.last() == Some(interface) && !address.starts_with("fe80")
        })
    }

    /// Whether the kernel has sockets of this family, by the name in `/proc/net/protocols`.
    #[must_use]
    pub fn has_sockets(&self, family: &str) -> bool {
        let protocols = self.text("proc/net/protocols").unwrap_or_default();
        protocols.lines().any(|line| line.split_whitespace().next() == Some(family))
    }

    /// The features of a Linux interface that merge packets on receive and are on. Asked of the kernel, so empty for a
    /// machine made of files.
    #[must_use]
    pub fn merging_features(&self, interface: &str) -> Vec<String> {
        if self.root == Path::new("/") { features::merging(interface).unwrap_or_default() } else { Vec::new() }
    }

    /// The value of a sysctl under `/proc/sys`.
    #[must_use]
    pub fn sysctl(&self, path: &str) -> Option<String> {
        self.text(&format!("proc/sys/{path}"))
    }
}

/// A list of processors as the kernel writes it: `0-3,8`.
fn listed(text: &str) -> Vec<usize> {
    text.split(',')
        .filter_map(|part| {
            let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read_as_the_kernel_writes_them() {
        assert_eq!(listed("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(listed("0"), [0]);
        assert_eq!(listed(""), [0; 0]);
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::this();
        assert!(!machine.online_cores().is_empty());
        assert!(machine.available_memory().is_some());
        assert!(machine.interface("lo").is_some_and(|lo| lo.mtu > 0));
        assert!(machine.interface("mr-nobody-has").is_none());
        assert!(machine.pci_device("ffff:ff:1f.7").is_none());
    }
}
