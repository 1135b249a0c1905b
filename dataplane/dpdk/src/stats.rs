//! What a port counts and whether its link is up, as management reads it. Never on the packet path.

use core::ops::Add;

use dpdk_sys::rte_eth_stats;

/// A port's totals since it was opened, as its driver counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets handed to workers.
    pub rx_packets: u64,
    /// Their bytes, without the frame check sequence.
    pub rx_bytes: u64,
    /// Packets that arrived and were lost before a worker could take them: full queues, no free buffer.
    pub rx_missed: u64,
    /// Packets the device refused as broken.
    pub rx_errors: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets the device took and could not send.
    pub tx_errors: u64,
}

impl PortStats {
    /// From DPDK's structure.
    pub(crate) fn from_raw(raw: &rte_eth_stats) -> Self {
        Self {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            rx_missed: raw.imissed.saturating_add(raw.rx_nombuf),
            rx_errors: raw.ierrors,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            tx_errors: raw.oerrors,
        }
    }

    /// What has been added since `earlier`. Some devices keep their counters across restarts, so a port remembers where
    /// it began; a counter that was set back in between counts from zero.
    pub(crate) fn since(self, earlier: &Self) -> Self {
        let added = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            rx_packets: added(self.rx_packets, earlier.rx_packets),
            rx_bytes: added(self.rx_bytes, earlier.rx_bytes),
            rx_missed: added(self.rx_missed, earlier.rx_missed),
            rx_errors: added(self.rx_errors, earlier.rx_errors),
            tx_packets: added(self.tx_packets, earlier.tx_packets),
            tx_bytes: added(self.tx_bytes, earlier.tx_bytes),
            tx_errors: added(self.tx_errors, earlier.tx_errors),
        }
    }
}

/// What two devices have counted, one after the other in the same place.
impl Add for PortStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_add(other.rx_packets),
            rx_bytes: self.rx_bytes.saturating_add(other.rx_bytes),
            rx_missed: self.rx_missed.saturating_add(other.rx_missed),
            rx_errors: self.rx_errors.saturating_add(other.rx_errors),
            tx_packets: self.tx_packets.saturating_add(other.tx_packets),
            tx_bytes: self.tx_bytes.saturating_add(other.tx_bytes),
            tx_errors: self.tx_errors.saturating_add(other.tx_errors),
        }
    }
}

/// A port's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether packets can pass.
    pub up: bool,
    /// Speed in Mbit/s, where the device knows it.
    pub mbps: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_count_from_the_opening() {
        let before = PortStats { rx_packets: 10, tx_bytes: 100, ..PortStats::default() };
        let now = PortStats { rx_packets: 15, tx_bytes: 40, ..PortStats::default() };
        let passed = now.since(&before);
        assert_eq!((passed.rx_packets, passed.tx_bytes), (5, 40));
    }

    #[test]
    fn packets_without_a_buffer_are_missed_ones() {
        let raw = rte_eth_stats { imissed: 3, rx_nombuf: 4, ..rte_eth_stats::default() };
        assert_eq!(PortStats::from_raw(&raw).rx_missed, 7);
    }
}
