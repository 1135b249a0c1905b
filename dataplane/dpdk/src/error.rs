//! What can go wrong at the door to DPDK. Every message is one sentence (or two) that names the thing, the reason and what
//! the operator can do; DPDK's own last words are added where it had any. Nothing on the packet path returns these.

use core::fmt;
use std::io;

/// A number from `errno.h`, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// The error a DPDK call returned: negative or positive, the sign does not count.
    #[must_use]
    pub const fn new(number: i32) -> Self {
        Self(number.saturating_abs())
    }

    /// The error DPDK left for the calling thread (`rte_errno`).
    #[must_use]
    pub fn last() -> Self {
        // SAFETY: reads a thread-local integer; no arguments.
        Self::new(unsafe { dpdk_sys::millrace_errno() })
    }

    /// The number, positive.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// Why the runtime, a pool, a port or a table could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `Eal::init` was called twice; DPDK starts once in the life of a process.
    #[error(
        "DPDK is already started in this process; it cannot be started a second time, not even after it was stopped"
    )]
    AlreadyStarted,

    /// An option has a value DPDK cannot take.
    #[error("{option} = {value:?} cannot be used: {problem}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },

    /// Not enough free hugepages.
    #[error(
        "{wanted_mib} MiB of hugepages are wanted and {free_mib} MiB are free: reserve them with \
         `sysctl vm.nr_hugepages={pages}`, or set `hugepages = false` in [dpdk] to do without (virtual devices only)"
    )]
    Hugepages {
        /// Memory asked for.
        wanted_mib: u64,
        /// Memory in free hugepages of all sizes.
        free_mib: u64,
        /// Pages of the default size that must be reserved in all.
        pages: u64,
    },

    /// The runtime did not start.
    #[error("DPDK does not start: {errno}; {advice}{said}")]
    Start {
        /// The error.
        errno: Errno,
        /// What to do.
        advice: &'static str,
        /// DPDK's own words, with a separator in front, or nothing.
        said: String,
    },

    /// No lcore is left for another thread.
    #[error("no more than {most} threads can be registered with DPDK at one time")]
    LcoresUsedUp {
        /// How many there are.
        most: u32,
    },

    /// The thread is registered already, or is the one that started DPDK.
    #[error("this thread is already registered with DPDK as lcore {lcore}")]
    AlreadyRegistered {
        /// As which lcore.
        lcore: u32,
    },

    /// A pool could not be made.
    #[error(
        "a pool of {buffers} packet buffers ({mib} MiB) cannot be made: {errno}; raise `memory` or lower `buffers` in [dpdk]{said}"
    )]
    Pool {
        /// Buffers asked for.
        buffers: u32,
        /// Memory they take, roughly.
        mib: u64,
        /// The error.
        errno: Errno,
        /// DPDK's own words.
        said: String,
    },

    /// The device string is not one.
    #[error(
        "device {device:?} is neither a PCI address (0000:3b:02.1) nor a virtual device (net_af_packet0,iface=eth1): {problem}"
    )]
    DeviceSyntax {
        /// As the operator wrote it.
        device: String,
        /// What is wrong.
        problem: &'static str,
    },

    /// The device cannot be opened, for a reason we know.
    #[error("port device {device} cannot be opened: {reason}")]
    Device {
        /// The device's name.
        device: String,
        /// Why, and what to do.
        reason: String,
    },

    /// A step of opening the device failed.
    #[error("port device {device} cannot be opened: {call} failed: {errno}{said}")]
    DeviceCall {
        /// The device's name.
        device: String,
        /// The DPDK call.
        call: &'static str,
        /// The error.
        errno: Errno,
        /// DPDK's own words.
        said: String,
    },

    /// A classifier or a route table could not be built.
    #[error("{table} with {entries} entries cannot be built: {errno}; if it is memory, raise `memory` in [dpdk]{said}")]
    Table {
        /// Which table.
        table: &'static str,
        /// How many entries it should hold.
        entries: usize,
        /// The error.
        errno: Errno,
        /// DPDK's own words.
        said: String,
    },

    /// The firewall's rules would take more memory while they are compiled than may be taken.
    #[error(
        "the firewall's rules cannot be compiled: {entries} classifier entries alone, which cross each other, take more than the \
         {mib} MiB of memory that compiling may take for the moment, half of what is available and 1 GiB at most"
    )]
    BuildMemory {
        /// Classifier entries that were not to be divided further.
        entries: usize,
        /// The memory they might take.
        mib: usize,
    },

    /// More next hops or rules than the table can number.
    #[error("{table} holds at most {most} {of}, and {wanted} are wanted")]
    TooMany {
        /// Which table.
        table: &'static str,
        /// Of what.
        of: &'static str,
        /// The limit.
        most: usize,
        /// How many there are.
        wanted: usize,
    },
}

impl Error {
    /// Whether a table did not fit, and half of it might.
    pub(crate) const fn is_of_memory(&self) -> bool {
        match self {
            Self::BuildMemory { .. } => true,
            Self::Table { errno, .. } => errno.get() == libc::ENOMEM,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_of_an_errno_does_not_count() {
        assert_eq!(Errno::new(-22), Errno::new(22));
        assert_eq!(Errno::new(i32::MIN).get(), i32::MAX);
        assert!(Errno::new(libc::EINVAL).to_string().starts_with("Invalid argument"));
    }

    #[test]
    fn missing_hugepages_come_with_the_command_that_mends_it() {
        let error = Error::Hugepages { wanted_mib: 1024, free_mib: 0, pages: 512 };
        let sentence = error.to_string();
        assert!(sentence.contains("1024 MiB") && sentence.contains("sysctl vm.nr_hugepages=512"), "{sentence}");
    }
}
