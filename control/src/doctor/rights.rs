//! Permissions: capabilities, the TAP device, limits of the process.

use config::Policy;

use super::machine::{Capability, Machine};
use super::ports::is_pci;
use super::{Finding, State};

pub(super) fn examine(machine: &Machine, policy: Option<&Policy>, findings: &mut Vec<Finding>) {
    findings.push(capabilities(machine, policy));
    if policy.is_none_or(|policy| policy.ports.iter().any(|port| port.kernel_interface.is_some())) {
        findings.push(tap(machine));
    }
    findings.extend(policy.and_then(|policy| locked_memory(machine, policy)));
    findings.extend(open_files(machine));
}

fn capabilities(machine: &Machine, policy: Option<&Policy>) -> Finding {
    let mut needed = vec![Capability::NetAdmin, Capability::NetRaw];
    if policy.is_none_or(|policy| policy.dpdk.hugepages) {
        needed.push(Capability::SysAdmin);
    }
    let uses_vfio = policy.is_none_or(|policy| policy.ports.iter().any(|port| is_pci(&port.device)));
    if uses_vfio && machine.allows_vfio_without_iommu() {
        needed.push(Capability::SysRawIo);
    }
    let lacking: Vec<_> = needed.iter().filter(|&&capability| !machine.has_capability(capability)).collect();
    if lacking.is_empty() {
        return Finding::new("permissions", State::Ok, "this user may open devices and make interfaces");
    }
    let names: Vec<_> = lacking.iter().map(|capability| capability.name()).collect();
    Finding::new("permissions", State::Missing, format!("this user lacks {}", names.join(", ")))
        .mended_by("run as root: sudo millrace ...")
}

fn tap(machine: &Machine) -> Finding {
    if machine.has("/dev/net/tun") {
        return Finding::new("kernel interfaces", State::Ok, "/dev/net/tun is there");
    }
    if machine.can_load_tun() {
        let found = "/dev/net/tun is not there yet; it is made, and its driver loaded, when the appliance starts";
        return Finding::new("kernel interfaces", State::Note, found).mended_by("modprobe tun");
    }
    Finding::new("kernel interfaces", State::Missing, "there is no /dev/net/tun, which makes TAP interfaces")
        .mended_by("modprobe tun    (or `kernel = false` at every port)")
}

/// vfio pins all of DPDK's memory, which counts against the limit of a process without `CAP_IPC_LOCK`.
fn locked_memory(machine: &Machine, policy: &Policy) -> Option<Finding> {
    let uses_vfio = policy.ports.iter().any(|port| is_pci(&port.device));
    let limit = machine.lockable_memory()?;
    if !uses_vfio || machine.has_capability(Capability::IpcLock) || limit >= policy.dpdk.memory {
        return None;
    }
    let found = format!("this process may lock {} MiB of memory, vfio locks all of DPDK's", limit >> 20);
    Some(
        Finding::new("locked memory", State::Missing, found)
            .mended_by("ulimit -l unlimited    (systemd: LimitMEMLOCK=infinity)"),
    )
}

/// 256 callers of the API, 256 probes under way, and as many again for devices, queues, kernel interfaces and the store.
const OPEN_FILES: u64 = 1_024;

fn open_files(machine: &Machine) -> Option<Finding> {
    let limit = machine.open_files()?;
    (limit < OPEN_FILES).then(|| {
        let found =
            format!("this process may have {limit} files open; callers, probes and devices take up to {OPEN_FILES}");
        Finding::new("open files", State::Warning, found)
            .mended_by(format!("ulimit -n {OPEN_FILES}    (systemd: LimitNOFILE={OPEN_FILES})"))
    })
}
