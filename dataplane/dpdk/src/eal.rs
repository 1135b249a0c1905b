//! The runtime (DPDK's environment abstraction layer): started once in the life of a process by the thread that stays its
//! main thread, shut down when the last handle that needs it is dropped. Memory comes from anonymous hugepages or, without
//! them, from ordinary pages; either way no file is ever made for it, so none can be left behind.

use std::ffi::{CStr, CString};
use std::os::raw::c_char;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, mem, ptr};

use crate::clock::Sighting;
use crate::{Clock, Device, DeviceKind, Errno, Error, doctor, said};

/// A process starts DPDK once; what a failed start leaves behind makes a second one fail as well.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Names of the files the runtime may leave in its directory, by their beginnings.
const RUNTIME_FILES: [&str; 5] = ["config", "fbarray_", "hugepage_", "mp_socket", "dpdk_telemetry"];

/// Characters of a file prefix: it becomes a directory's name.
const PREFIX_MAX: usize = 64;

/// How the runtime is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalOptions {
    /// Tells this process from other DPDK processes of the machine; letters, digits, `-`, `_` and `.`.
    pub file_prefix: String,
    /// Memory for buffers and tables, reserved at start, in MiB.
    pub memory_mib: u32,
    /// Whether the memory comes from hugepages. PCI devices need them; virtual ones do not.
    pub hugepages: bool,
    /// Every device that will be opened, as the operator writes them. PCI devices must be named here because the runtime
    /// touches no other one; virtual devices are only checked for their syntax and made by `Port::open`.
    pub devices: Vec<String>,
    /// The core of the calling thread, which stays DPDK's main thread.
    pub main_core: usize,
}

/// A handle to the running runtime. Clones are the same runtime.
#[derive(Clone, Debug)]
pub struct Eal {
    runtime: Arc<Runtime>,
    // Swept with the last handle, even when a buffer that never came home keeps the runtime alive.
    _directory: Arc<RuntimeDirectory>,
}

/// The directory DPDK made for this process, swept when dropped. Memory is not kept in files, so nobody misses it.
#[derive(Debug)]
struct RuntimeDirectory(Option<PathBuf>);

/// The started runtime; its end is the end of DPDK in this process.
#[derive(Debug)]
pub(crate) struct Runtime {
    clock: Clock,
    hugepages: bool,
}

impl Eal {
    /// Starts DPDK (`rte_eal_init`) and pins the calling thread to `main_core`.
    ///
    /// Threads started afterwards inherit that pinning unless they set their own; nothing is restored for them.
    ///
    /// # Errors
    /// A sentence for the operator: [`Error::AlreadyStarted`], [`Error::Option`], [`Error::DeviceSyntax`],
    /// [`Error::Hugepages`] or [`Error::Start`].
    pub fn init(options: &EalOptions) -> Result<Self, Error> {
        let arguments = arguments(options)?;
        check_core(options.main_core)?;
        if options.hugepages {
            check_hugepages(options.memory_mib)?;
        }
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyStarted);
        }
        let started = Sighting::now();
        said::listen();
        said::forget();
        let result = start(&arguments);
        let directory = RuntimeDirectory(runtime_directory());
        if let Some(directory) = &directory.0 {
            sweep_after_the_dead(directory, Path::new("/proc"));
        }
        result?;
        let runtime = Runtime { clock: Clock::measured_since(started), hugepages: options.hugepages };
        Ok(Self { runtime: Arc::new(runtime), _directory: Arc::new(directory) })
    }

    /// The clock that all threads share, zero at the end of [`Eal::init`].
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.runtime.clock
    }

    /// The version of the DPDK that is loaded, such as `DPDK 22.11.11`.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: returns a pointer to a static string.
        let version = unsafe { dpdk_sys::millrace_version() };
        // SAFETY: the string is static and ends with a zero byte.
        unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
    }

    /// Whether memory comes from hugepages.
    #[must_use]
    pub fn has_hugepages(&self) -> bool {
        self.runtime.hugepages
    }

    /// Whether memory that is taken later has to be found by its physical address, which only a privileged thread learns: where
    /// hugepages serve devices without an IOMMU.
    #[must_use]
    pub fn finds_memory_by_physical_address(&self) -> bool {
        // SAFETY: reads what the runtime settled on when it started.
        self.runtime.hugepages && unsafe { dpdk_sys::rte_eal_iova_mode() } == dpdk_sys::RTE_IOVA_PA
    }

    /// What keeps the runtime alive, for everything that lives inside it.
    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: `Eal::init` succeeded once; every pool, device, table and thread registration holds an `Arc` of this
        // runtime and is gone, so no pointer into DPDK's memory is left.
        let result = unsafe { dpdk_sys::rte_eal_cleanup() };
        if result < 0 {
            log::warn!("DPDK did not shut down cleanly: {}", Errno::new(result));
        }
    }
}

impl Drop for RuntimeDirectory {
    fn drop(&mut self) {
        if let Some(directory) = &self.0 {
            sweep(directory);
        }
    }
}

/// Calls `rte_eal_init`. The strings stay allocated for ever: DPDK keeps pointers to them.
fn start(arguments: &[CString]) -> Result<(), Error> {
    let mut pointers: Vec<*mut c_char> = arguments.iter().map(|word| word.clone().into_raw()).collect();
    pointers.push(ptr::null_mut());
    let count = i32::try_from(arguments.len()).unwrap_or(i32::MAX);
    let vector = mem::ManuallyDrop::new(pointers).as_mut_ptr();
    // SAFETY: `vector` holds `count` strings and a null pointer behind them, all leaked on purpose, and DPDK may reorder
    // them. The one-time flag makes this the only call.
    let result = unsafe { dpdk_sys::rte_eal_init(count, vector) };
    if result >= 0 {
        return Ok(());
    }
    let errno = Errno::last();
    if errno.get() == libc::EALREADY {
        return Err(Error::AlreadyStarted);
    }
    Err(Error::Start { errno, advice: advice(errno), said: said::since_forget() })
}

/// What an error of `rte_eal_init` most likely means.
fn advice(errno: Errno) -> &'static str {
    match errno.get() {
        libc::EACCES | libc::EPERM => {
            "run it as root, or give the program the capabilities that `millrace doctor` names"
        }
        libc::ENOMEM => "lower `memory` in [dpdk] or reserve more hugepages (`sysctl vm.nr_hugepages=N`)",
        libc::EAGAIN => "VFIO cannot be used: load it with `modprobe vfio-pci` and see `millrace doctor`",
        libc::ENODEV => "a bus or memory zone cannot be set up: see `millrace doctor`",
        libc::ENOTSUP => "the processor lacks an instruction this DPDK was built for, or a device failed to start",
        _ => "see `millrace doctor`",
    }
}

/// The words of the command line DPDK is started with.
fn arguments(options: &EalOptions) -> Result<Vec<CString>, Error> {
    check_prefix(&options.file_prefix)?;
    let wrong = |option, value: String, problem: &str| Error::Option { option, value, problem: problem.to_owned() };
    if options.memory_mib < 16 {
        return Err(wrong("memory", format!("{} MiB", options.memory_mib), "at least 16 MiB are needed"));
    }
    let mut words = vec![
        "millrace".to_owned(),
        // Lcore 0 on the main core; workers register themselves as the lcores after it.
        format!("--lcores=0@{}", options.main_core),
        format!("--file-prefix={}", options.file_prefix),
        "--no-telemetry".to_owned(),
        "-m".to_owned(),
        options.memory_mib.to_string(),
    ];
    if options.hugepages {
        words.push("--in-memory".to_owned());
    } else {
        // What `--in-memory` says besides the kind of pages, which it insists on.
        words.extend(["--no-huge", "--no-shconf"].map(str::to_owned));
    }
    let devices = options.devices.iter().map(|text| Device::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let pci: Vec<&Device> = devices.iter().filter(|device| device.kind() == DeviceKind::Pci).collect();
    if let (Some(device), false) = (pci.first(), options.hugepages) {
        return Err(wrong("hugepages", "false".to_owned(), &format!("the PCI device {device} needs hugepages")));
    }
    if pci.is_empty() {
        words.push("--no-pci".to_owned());
    }
    for device in pci {
        words.push("-a".to_owned());
        words.push(device.to_string());
    }
    let string = |word| CString::new(word).map_err(|_| wrong("devices", "?".to_owned(), "a zero byte"));
    words.into_iter().map(string).collect()
}

fn check_prefix(prefix: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if prefix.is_empty() || prefix.len() > PREFIX_MAX || prefix.starts_with('.') || !prefix.chars().all(fits) {
        return Err(Error::Option {
            option: "file prefix",
            value: prefix.to_owned(),
            problem: format!("it must be 1 to {PREFIX_MAX} letters, digits, `-`, `_` or `.`, and not begin with `.`"),
        });
    }
    Ok(())
}

/// Whether the process may run on `core` at all.
fn check_core(core: usize) -> Result<(), Error> {
    let allowed = doctor::cores_allowed();
    if allowed.is_empty() || allowed.contains(&core) {
        return Ok(());
    }
    let list: Vec<String> = allowed.iter().map(usize::to_string).collect();
    Err(Error::Option {
        option: "main core",
        value: core.to_string(),
        problem: format!("this process may run on the cores {}", list.join(", ")),
    })
}

/// Whether enough hugepages are free, so that the usual mistake gets the usual sentence.
fn check_hugepages(memory_mib: u32) -> Result<(), Error> {
    let pages = doctor::hugepages(Path::new("/"));
    let free: u64 = pages.iter().map(|size| size.free * size.page_bytes).sum();
    let wanted = u64::from(memory_mib) << 20;
    if free >= wanted {
        return Ok(());
    }
    let page = doctor::default_hugepage_bytes(Path::new("/")).unwrap_or(2 << 20);
    // The setting counts all pages of the default size, the ones in use as well.
    let reserved = pages.iter().find(|size| size.page_bytes == page).map_or(0, |size| size.total);
    let pages = reserved + (wanted - free).div_ceil(page);
    Err(Error::Hugepages { wanted_mib: u64::from(memory_mib), free_mib: free >> 20, pages })
}

/// The directory DPDK made for this process.
fn runtime_directory() -> Option<PathBuf> {
    // SAFETY: returns a pointer to a static buffer.
    let directory = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    if directory.is_null() {
        return None;
    }
    // SAFETY: the buffer is static and ends with a zero byte; `rte_eal_init` has returned and no longer writes it.
    let directory = unsafe { CStr::from_ptr(directory) };
    directory.to_str().ok().filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// Removes what DPDK left in its directory, and the directory. Anything unknown stays, and so does the directory then.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| RUNTIME_FILES.iter().any(|start| name.starts_with(start)));
        if is_ours {
            drop(fs::remove_file(entry.path()));
        }
    }
    drop(fs::remove_dir(directory));
}

/// Removes the directories of processes that were killed: those beside `directory` with the same name up to a process
/// number that no process has any more (CRS-07).
fn sweep_after_the_dead(directory: &Path, processes: &Path) {
    let Some((name, _)) = directory.file_name().and_then(|name| name.to_str()?.rsplit_once('-')) else { return };
    let beside = directory.parent().and_then(|parent| fs::read_dir(parent).ok());
    for entry in beside.into_iter().flatten().flatten() {
        let other = entry.file_name();
        let Some((other, process)) = other.to_str().and_then(|other| other.rsplit_once('-')) else { continue };
        let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        if other == name && is_number && entry.path() != directory && !processes.join(process).exists() {
            sweep(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_swept_by_the_next() {
        let root = std::env::temp_dir().join(format!("millrace-dead-{}", std::process::id()));
        let (runtime, processes) = (root.join("dpdk"), root.join("proc"));
        for directory in ["millrace-1", "millrace-2", "millrace-3", "other-2", "millrace-x"] {
            fs::create_dir_all(runtime.join(directory)).unwrap();
            fs::write(runtime.join(directory).join("config"), "x").unwrap();
        }
        fs::create_dir_all(processes.join("3")).unwrap();
        sweep_after_the_dead(&runtime.join("millrace-1"), &processes);
        let mut left: Vec<_> = fs::read_dir(&runtime).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["millrace-1", "millrace-3", "millrace-x", "other-2"]);
        fs::remove_dir_all(root).unwrap();
    }

    fn options() -> EalOptions {
        EalOptions {
            file_prefix: "millrace-test".to_owned(),
            memory_mib: 64,
            hugepages: false,
            devices: vec!["net_ring0".to_owned()],
            main_core: 0,
        }
    }

    fn words(options: &EalOptions) -> Vec<String> {
        arguments(options).unwrap().iter().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn without_pci_devices_the_bus_is_left_alone() {
        let words = words(&options());
        assert!(words.contains(&"--no-pci".to_owned()) && words.contains(&"--no-huge".to_owned()));
        assert!(words.contains(&"--no-shconf".to_owned()) && words.contains(&"--lcores=0@0".to_owned()));
    }

    #[test]
    fn only_the_named_pci_devices_are_touched() {
        let devices = vec!["net_null0".to_owned(), "3b:02.1,arg=1".to_owned()];
        let words = words(&EalOptions { hugepages: true, devices, ..options() });
        assert!(words.windows(2).any(|pair| pair == ["-a", "0000:3b:02.1,arg=1"]));
        assert!(!words.contains(&"--no-pci".to_owned()) && !words.contains(&"--no-huge".to_owned()));
        assert!(words.contains(&"--in-memory".to_owned()));
    }

    #[test]
    fn options_that_cannot_work_are_refused_before_dpdk_sees_them() {
        for options in [
            EalOptions { file_prefix: "../x".to_owned(), ..options() },
            EalOptions { file_prefix: String::new(), ..options() },
            EalOptions { memory_mib: 1, ..options() },
            EalOptions { devices: vec!["eth0".to_owned()], ..options() },
            EalOptions { devices: vec!["0000:3b:02.1".to_owned()], ..options() },
        ] {
            assert!(arguments(&options).is_err(), "{options:?}");
        }
        assert!(check_core(1_000_000).unwrap_err().to_string().contains("may run on the cores"));
    }

    #[test]
    fn sweeping_leaves_strangers_files_alone() {
        let directory = std::env::temp_dir().join(format!("millrace-sweep-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["fbarray_memseg-2048k-0-0", "mp_socket", "diary"] {
            fs::write(directory.join(name), "x").unwrap();
        }
        sweep(&directory);
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["diary"]);
        fs::remove_file(directory.join("diary")).unwrap();
        sweep(&directory);
        assert!(!directory.exists());
    }
}
