//! A port as management sees it, whatever device is in it: a device over an interface that vanishes goes, another may come, and
//! what they have counted is one sum. Read by management, changed by `replug`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk::{Mbuf, Port, PortStats};
use worker::{KernelRings, Snapshot};

use super::devices::groups;
use crate::compile::answered_addresses;
use crate::running::{DeviceCounters, KernelCounters, PortView};

/// A port as management sees it.
#[derive(Debug)]
pub(super) struct View {
    place: Mutex<Place>,
    kernel: Option<Arc<KernelRings<Mbuf>>>,
}

/// The place of a port's device.
#[derive(Debug)]
struct Place {
    device: Option<Port>,
    /// What the devices before it have counted.
    before: PortStats,
}

impl Place {
    fn stats(&self) -> PortStats {
        self.before + self.device.as_ref().map(Port::stats).unwrap_or_default()
    }
}

impl View {
    /// A port with this device, and with the rings of its kernel interface if it has one.
    pub(super) fn new(device: Port, kernel: Option<Arc<KernelRings<Mbuf>>>) -> Self {
        Self { place: Mutex::new(Place { device: Some(device), before: PortStats::default() }), kernel }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Whoever panicked inside left a whole value behind: every change is one assignment.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the interface under its device has vanished.
    pub(super) fn is_orphaned(&self) -> bool {
        self.place().device.as_ref().is_some_and(Port::is_orphaned)
    }

    /// Whether packets can pass.
    pub(super) fn is_up(&self) -> bool {
        self.place().device.as_ref().is_some_and(|device| device.link().up)
    }

    /// Takes the device out, when no worker uses it any more; `lost` packets waited to be sent through it.
    pub(super) fn unplug(&self, lost: u64) -> Option<Port> {
        let mut place = self.place();
        let waited = PortStats { tx_errors: lost, ..PortStats::default() };
        place.before = place.stats() + waited;
        place.device.take()
    }

    /// Puts a device in.
    pub(super) fn plug(&self, device: Port) {
        self.place().device = Some(device);
    }
}

impl PortView for Arc<View> {
    fn counters(&self) -> DeviceCounters {
        let (stats, up) = {
            let place = self.place();
            (place.stats(), place.device.as_ref().is_some_and(|device| device.link().up))
        };
        let kernel = self.kernel.as_ref().map(|rings| rings.counters()).map(|counted| KernelCounters {
            delivered: counted.delivered,
            refused: counted.refused,
            sent: counted.sent,
            oversized: counted.oversized,
        });
        DeviceCounters {
            up,
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            rx_missed: stats.rx_missed + stats.rx_errors,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_dropped: stats.tx_errors,
            kernel: kernel.unwrap_or_default(),
        }
    }

    fn answer_for(&self, snapshot: &Snapshot) {
        let place = self.place();
        // A device over an interface takes in every group, so that one that comes later needs none.
        let Some(device) = &place.device else { return };
        if let Err(error) = device.set_groups(&groups(answered_addresses(snapshot).into_iter())) {
            log::warn!("{error}");
        }
    }
}
