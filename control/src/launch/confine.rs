//! What the process gives up as soon as it has what it needs: capabilities (capabilities(7)), and system calls (seccomp(2)).
//!
//! - No thread and no program started by one can gain privileges, from the first line of `run` on.
//! - Once devices and kernel interfaces are open, the main thread keeps what running takes, and with it every thread of management.
//! - Workers, control, the kernel pump and the journal open nothing, the session log opens plain sockets: they keep nothing.
//! - The thread of devices (`replug`) keeps what opening one over an interface takes, for when that comes back.
//! - Management, which speaks to the outside, cannot start programs, mount, trace, load modules or set clocks. Workers
//!   have no such filter: on older kernels it makes a thread's processor wary of its own speculation, and slow.
//!
//! DPDK's own threads (interrupts) are older than all this and stay as they were; a unit bounds them.

use std::collections::BTreeMap;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Addresses and routes of kernel interfaces, and their end; probes by ICMP; memory that vfio pins when tables grow; files
/// that others own, read.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Sockets for raw packets; interfaces set up and settings of theirs; rings locked in memory.
const KEPT_FOR_DEVICES: CapabilitySet =
    CapabilitySet::NET_RAW.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::IPC_LOCK);

/// What nobody in the process calls once it runs.
const REFUSED: [i64; 37] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
];

/// From here on no thread of the process can gain privileges.
pub(super) fn gain_nothing() {
    if let Err(error) = set_no_new_privs(true) {
        log::warn!("the kernel does not let this process forgo privileges: {error}");
    }
}

/// This thread, and those it starts from here on, keep what running takes. Where memory has to be found by its physical
/// address, that includes the right to learn it.
pub(super) fn keep_what_running_takes(physical_addresses: bool) {
    keep(if physical_addresses { KEPT.union(CapabilitySet::SYS_ADMIN) } else { KEPT });
}

/// This thread keeps what it takes to open a device over an interface of the kernel's.
pub(super) fn keep_what_devices_take() {
    keep(KEPT_FOR_DEVICES);
}

/// This thread keeps no capability.
pub(super) fn keep_nothing() {
    keep(CapabilitySet::empty());
}

fn keep(kept: CapabilitySet) {
    let done = rustix::thread::capabilities(None).and_then(|now| {
        let permitted = now.permitted & kept;
        let sets = CapabilitySets { effective: now.effective & kept, permitted, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets)
    });
    if let Err(error) = done {
        log::warn!("a thread could not give up its capabilities: {error}");
    }
}

/// This thread, and those it starts from here on, are refused (`EPERM`) what an appliance has no business with.
pub(super) fn refuse_strange_calls() {
    if let Err(why) = filter().and_then(|filter| seccompiler::apply_filter(&filter).map_err(|error| error.to_string()))
    {
        log::warn!("system calls could not be restricted: {why}");
    }
}

fn filter() -> Result<BpfProgram, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let refused: BTreeMap<_, _> = REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    let refusal = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    SeccompFilter::new(refused, SeccompAction::Allow, refusal, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread that has done this may still do.
    fn after<T: Send + 'static>(restriction: fn(), attempt: fn() -> T) -> T {
        let thread = std::thread::spawn(move || {
            gain_nothing();
            restriction();
            attempt()
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_thread_without_capabilities_has_none_and_its_children_neither() {
        let (own, child) = after(keep_nothing, || {
            let sets = || rustix::thread::capabilities(None).unwrap();
            (sets(), std::thread::spawn(sets).join().unwrap())
        });
        for sets in [own, child] {
            assert_eq!((sets.effective, sets.permitted), (CapabilitySet::empty(), CapabilitySet::empty()));
        }
        let kept = after(|| keep_what_running_takes(false), || rustix::thread::capabilities(None).unwrap());
        assert!(KEPT.contains(kept.effective), "{kept:?}");
        let kept = after(keep_what_devices_take, || rustix::thread::capabilities(None).unwrap());
        assert!(KEPT_FOR_DEVICES.contains(kept.effective | kept.permitted), "{kept:?}");
    }

    #[test]
    fn a_filtered_thread_starts_no_program_and_goes_on() {
        let (started, read) = after(refuse_strange_calls, || {
            (std::process::Command::new("true").status(), std::fs::read("/proc/self/stat"))
        });
        assert_eq!(started.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert!(read.is_ok());
        assert!(std::process::Command::new("true").status().is_ok(), "other threads are not concerned");
    }
}
