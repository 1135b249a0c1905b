//! An ethdev that is ours: found or made, and in the end stopped, closed and taken away again. Every call about it that is
//! not on the packet path goes through its lock, because drivers expect one caller at a time. Shared by a
//! [`Port`](crate::Port) and its queues; the last of them closes it.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::raw::c_char;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::{
    rte_eth_conf, rte_eth_dev_info, rte_eth_rss_reta_entry64, rte_eth_stats, rte_eth_xstat, rte_eth_xstat_name,
};
use wire::MacAddr;

use crate::af_packet::{BorrowedInterface, packet_sockets};
use crate::eal::Runtime;
use crate::{Device, DeviceKind, Eal, Errno, Error, Link, Multicast, Pool, PortStats, diagnose, multicast, said};

/// Names of the devices that are open, so that none is opened twice. Locked while a device comes or goes, which DPDK lets
/// only one thread do at a time.
static OPEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// `RTE_ETH_LINK_SPEED`'s word for "not known".
const SPEED_UNKNOWN: u32 = u32::MAX;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing inside can be left half done by a panic: each guard covers one call and a sum.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open device.
#[derive(Debug)]
pub(crate) struct Ethdev {
    number: u16,
    device: Device,
    control: Mutex<Control>,
    /// Fills the device's receive queues, and so must outlive it.
    _pool: Pool,
    _runtime: Arc<Runtime>,
}

/// What is behind the lock.
#[derive(Debug)]
struct Control {
    interface: Option<BorrowedInterface>,
    baseline: PortStats,
}

impl Ethdev {
    /// Finds the device that the runtime has started, or has its driver make it (`rte_dev_probe`).
    pub(crate) fn open(eal: &Eal, device: Device, pool: &Pool) -> Result<Self, Error> {
        let name = device.name().to_owned();
        let mut open = locked(&OPEN);
        if open.contains(&name) {
            return Err(Error::Device { device: name, reason: "another port has opened it already".to_owned() });
        }
        let before = packet_sockets();
        let number = Self::find_or_make(&device)?;
        let sockets = packet_sockets().into_iter().filter(|socket| !before.contains(socket)).collect();
        open.insert(name);
        drop(open);
        // From here on it is closed when something fails: an interface may vanish at any moment.
        let ethdev = Self {
            number,
            device,
            control: Mutex::new(Control { interface: None, baseline: PortStats::default() }),
            _pool: pool.clone(),
            _runtime: eal.runtime(),
        };
        if let Some(borrowed) = ethdev.device.borrowed_interface() {
            let interface = BorrowedInterface::new(borrowed, sockets);
            let failed = |errno| diagnose::after(&ethdev.device, errno, &said::since_forget());
            locked(&ethdev.control).interface = Some(interface.map_err(failed)?);
        }
        Ok(ethdev)
    }

    fn find_or_make(device: &Device) -> Result<u16, Error> {
        let failed = |errno| diagnose::after(device, errno, &said::since_forget());
        said::forget();
        if let Some(number) = number_of(device.name()) {
            return Ok(number);
        }
        // Only now: a PCI device the runtime has started is in use, by us.
        diagnose::before(device)?;
        let arguments = CString::new(device.to_string()).map_err(|_| failed(Errno::new(libc::EINVAL)))?;
        // SAFETY: a string that ends with a zero byte and that DPDK copies.
        let result = unsafe { dpdk_sys::rte_dev_probe(arguments.as_ptr()) };
        if result < 0 {
            return Err(failed(Errno::new(result)));
        }
        number_of(device.name()).ok_or_else(|| failed(Errno::new(libc::ENODEV)))
    }

    /// The name DPDK knows it by.
    pub(crate) fn name(&self) -> &str {
        self.device.name()
    }

    pub(crate) const fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// The interface borrowed from the kernel: whether there is one, and its MTU unless it has vanished.
    pub(crate) fn borrowed_mtu(&self) -> Option<u16> {
        locked(&self.control).interface.as_ref().and_then(BorrowedInterface::mtu)
    }

    /// Whether frames of an interface borrowed from the kernel are Ethernet's.
    pub(crate) fn carries_ethernet(&self) -> bool {
        locked(&self.control).interface.as_ref().is_none_or(BorrowedInterface::carries_ethernet)
    }

    /// An error with the name of the call that returned `result`.
    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::DeviceCall { device: self.name().to_owned(), call, errno, said: said::since_forget() }
    }

    fn checked(&self, call: &'static str, result: i32) -> Result<(), Error> {
        if result < 0 { Err(self.failed(call, Errno::new(result))) } else { Ok(()) }
    }

    pub(crate) fn info(&self) -> Result<rte_eth_dev_info, Error> {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port is open and `info` is a place for the answer.
        let result = unsafe { dpdk_sys::rte_eth_dev_info_get(self.number, &raw mut info) };
        self.checked("rte_eth_dev_info_get", result).map(|()| info)
    }

    pub(crate) fn configure(&self, queues: u16, conf: &rte_eth_conf) -> Result<(), Error> {
        said::forget();
        // SAFETY: the port is open and not started; DPDK copies `conf`, and the hash key it may point to.
        let result = unsafe { dpdk_sys::rte_eth_dev_configure(self.number, queues, queues, conf) };
        self.checked("rte_eth_dev_configure", result)
    }

    /// Rounds numbers of descriptors to what the device takes.
    pub(crate) fn fit_descriptors(&self, mut receive: u16, mut transmit: u16) -> Result<(u16, u16), Error> {
        // SAFETY: the port is open; both places are ours.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.number, &raw mut receive, &raw mut transmit) };
        self.checked("rte_eth_dev_adjust_nb_rx_tx_desc", result).map(|()| (receive, transmit))
    }

    pub(crate) fn set_up_queue(&self, queue: u16, receive: u16, transmit: u16, pool: &Pool) -> Result<(), Error> {
        said::forget();
        // SAFETY: reads the device's memory node by port number.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(self.number) };
        let socket = socket.cast_unsigned();
        // SAFETY: configured and not started; no settings means the driver's own; the pool outlives the device (`_pool`).
        let result = unsafe {
            dpdk_sys::rte_eth_rx_queue_setup(self.number, queue, receive, socket, core::ptr::null(), pool.as_ptr())
        };
        self.checked("rte_eth_rx_queue_setup", result)?;
        // SAFETY: as above.
        let result =
            unsafe { dpdk_sys::rte_eth_tx_queue_setup(self.number, queue, transmit, socket, core::ptr::null()) };
        self.checked("rte_eth_tx_queue_setup", result)
    }

    /// Starts the device and takes its counters' present state as zero.
    pub(crate) fn start(&self) -> Result<(), Error> {
        said::forget();
        // SAFETY: the port is configured and all its queues are set up.
        let result = unsafe { dpdk_sys::rte_eth_dev_start(self.number) };
        self.checked("rte_eth_dev_start", result)?;
        let mut control = locked(&self.control);
        control.baseline = self.counted(&mut control);
        Ok(())
    }

    /// Spreads the NIC's hash values over the queues. A NIC that has no such table, or that does not let it be written, keeps its own
    /// way: what it delivers to other workers than a packet's own is handed over.
    pub(crate) fn write_redirection(&self, mut table: Vec<rte_eth_rss_reta_entry64>, size: u16) {
        // SAFETY: the port is open; the table has `size` places in groups of 64.
        let result = unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(self.number, table.as_mut_ptr(), size) };
        if result < 0 && Errno::new(result).get() != libc::ENOTSUP {
            let refused = self.failed("rte_eth_dev_rss_reta_update", Errno::new(result));
            log::warn!("{refused}; workers hand packets over that it delivers elsewhere");
        }
    }

    pub(crate) fn mac(&self) -> Result<MacAddr, Error> {
        let mut address = dpdk_sys::rte_ether_addr::default();
        // SAFETY: the port is open and `address` is a place for the answer.
        let result = unsafe { dpdk_sys::rte_eth_macaddr_get(self.number, &raw mut address) };
        self.checked("rte_eth_macaddr_get", result).map(|()| MacAddr::new(address.addr_bytes))
    }

    /// Takes `mac` as the port's address. An interface of the kernel's keeps its own and hears the other one besides.
    pub(crate) fn set_mac(&self, mac: MacAddr) -> Result<(), Error> {
        said::forget();
        if let Some(interface) = &locked(&self.control).interface {
            let heard = interface.hear_address(mac).or_else(|_| interface.hear_everything());
            return heard.map_err(|errno| self.failed("adding a MAC address", errno));
        }
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac.octets() };
        // SAFETY: the port is open; DPDK copies the address.
        let result = unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.number, &raw mut address) };
        if Errno::new(result).get() == libc::ENOTSUP {
            // Without an address of its own to change, the device has to pass every frame (captures, rings, memory).
            return self.promiscuous();
        }
        self.checked("rte_eth_dev_default_mac_addr_set", result)
    }

    /// Keeps what this machine sends through a borrowed interface from being received. A kernel that refuses is no reason
    /// not to run.
    pub(crate) fn ignore_outgoing(&self) {
        if let Some(interface) = &locked(&self.control).interface
            && let Err(errno) = interface.ignore_outgoing()
        {
            log::warn!("port device {}: packets this machine sends through it are received too: {errno}", self.name());
        }
    }

    pub(crate) fn promiscuous(&self) -> Result<(), Error> {
        said::forget();
        if let Some(interface) = &locked(&self.control).interface {
            return interface.hear_everything().map_err(|errno| self.failed("promiscuous mode", errno));
        }
        // SAFETY: the port is open.
        let result = unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.number) };
        let unneeded = self.device.kind() == DeviceKind::Virtual && Errno::new(result).get() == libc::ENOTSUP;
        if unneeded { Ok(()) } else { self.checked("rte_eth_promiscuous_enable", result) }
    }

    pub(crate) fn listen(&self, groups: &[MacAddr]) -> Result<Multicast, Error> {
        let control = locked(&self.control);
        if let Some(interface) = &control.interface {
            let heard = interface.hear_all_multicast().map(|()| Multicast::All);
            return heard.map_err(|errno| self.failed("listening to multicast", errno));
        }
        multicast::listen(self.number, self.name(), groups, self.device.kind() == DeviceKind::Virtual)
    }

    pub(crate) fn link(&self) -> Link {
        let control = locked(&self.control);
        let mut speed = SPEED_UNKNOWN;
        // SAFETY: the port is open and `speed` is a place for the answer.
        let result = unsafe { dpdk_sys::millrace_link(self.number, &raw mut speed) };
        let up = result == 1 && control.interface.as_ref().is_none_or(BorrowedInterface::is_up);
        Link { up, mbps: (up && speed != SPEED_UNKNOWN && speed != 0).then_some(speed) }
    }

    /// Whether the interface it was borrowed from the kernel has gone from under it.
    pub(crate) fn is_orphaned(&self) -> bool {
        locked(&self.control).interface.as_ref().is_some_and(BorrowedInterface::is_orphaned)
    }

    pub(crate) fn stats(&self) -> PortStats {
        let mut control = locked(&self.control);
        self.counted(&mut control).since(&control.baseline)
    }

    /// The device's counters as they stand.
    fn counted(&self, control: &mut Control) -> PortStats {
        let mut raw = rte_eth_stats::default();
        // SAFETY: the port is open and `raw` is a place for the answer. A driver that cannot count leaves zeroes.
        let _ = unsafe { dpdk_sys::rte_eth_stats_get(self.number, &raw mut raw) };
        let mut stats = PortStats::from_raw(&raw);
        if let Some(interface) = &mut control.interface {
            stats.rx_missed = stats.rx_missed.saturating_add(interface.missed());
        }
        stats
    }

    /// Every counter the driver has, by the driver's own names.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let _one_at_a_time = locked(&self.control);
        // SAFETY: the port is open; no place and no room asks only for the number.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(self.number, core::ptr::null_mut(), 0) };
        let Ok(count) = u32::try_from(count) else { return Vec::new() };
        let mut names = vec![rte_eth_xstat_name::default(); count as usize];
        let mut values = vec![rte_eth_xstat::default(); count as usize];
        // SAFETY: `names` has `count` places.
        let named = unsafe { dpdk_sys::rte_eth_xstats_get_names(self.number, names.as_mut_ptr(), count) };
        // SAFETY: `values` has `count` places.
        let valued = unsafe { dpdk_sys::rte_eth_xstats_get(self.number, values.as_mut_ptr(), count) };
        let filled = usize::try_from(named.min(valued)).unwrap_or(0).min(names.len());
        let named = |value: &rte_eth_xstat| {
            let name = usize::try_from(value.id).ok().and_then(|id| names.get(id))?;
            Some((text(&name.name), value.value))
        };
        values.iter().take(filled).filter_map(named).collect()
    }
}

impl Drop for Ethdev {
    fn drop(&mut self) {
        // The sockets are the driver's and close with it.
        locked(&self.control).interface = None;
        let mut open = locked(&OPEN);
        // SAFETY: the port is open; no `Queue` is left that could poll it.
        let stopped = unsafe { dpdk_sys::rte_eth_dev_stop(self.number) };
        // SAFETY: as above; stopped.
        let closed = unsafe { dpdk_sys::rte_eth_dev_close(self.number) };
        let bus = match self.device.kind() {
            DeviceKind::Pci => c"pci",
            DeviceKind::Virtual => c"vdev",
        };
        if let Ok(name) = CString::new(self.name()) {
            // SAFETY: two strings that end with a zero byte. Afterwards the device can be opened anew.
            let removed = unsafe { dpdk_sys::rte_eal_hotplug_remove(bus.as_ptr(), name.as_ptr()) };
            if stopped < 0 || closed < 0 || removed < 0 {
                log::warn!("port device {} did not close cleanly ({stopped}, {closed}, {removed})", self.name());
            }
        }
        open.remove(self.name());
    }
}

/// The number of the ethdev called `name`.
fn number_of(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut number = 0;
    // SAFETY: a string that ends with a zero byte, and a place for the answer.
    let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut number) };
    (result == 0).then_some(number)
}

/// The driver's name.
pub(crate) fn driver_name(info: &rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: DPDK points at the driver's own static, zero-terminated name.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

/// A zero-terminated string in an array of DPDK's.
fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&c| c.cast_unsigned()).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
