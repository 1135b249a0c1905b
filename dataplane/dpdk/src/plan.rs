//! What is asked of a device when it is configured: how many queues, which offloads, which MTU. A pure function of what the
//! device says it can and what the port wants, so that it is tested without devices.

use dpdk_sys::rte_eth_dev_info;

use crate::queue::Touch;
use crate::{Device, DeviceKind, Error, Pool, PortOptions, rss};

/// Ethernet header and two VLAN tags: what a frame has besides its MTU. The check sequence never reaches memory.
const FRAME_EXTRA: u16 = 14 + 2 * 4;
/// Ethernet header and check sequence, as DPDK counts a frame when a driver names no MTU.
const DPDK_EXTRA: u32 = 14 + 4;
/// Bytes of an `af_packet` ring's frame that the kernel keeps for itself (`TPACKET2_HDRLEN`, aligned, less the Ethernet header).
const RING_FRAME_EXTRA: u32 = 66;
/// An `af_packet` ring's frame when the operator names no `framesz`.
const RING_FRAME: u32 = 2_048;
/// The largest MTU of Ethernet without jumbo frames.
const MTU_USUAL: u16 = 1_500;
/// Receive descriptors of `net_tap`, which takes a buffer for each and uses one.
const TAP_DESCRIPTORS: u16 = 32;

/// What a device will be configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) queues: u16,
    pub(crate) mtu: u16,
    pub(crate) receive_offloads: u64,
    pub(crate) hash_functions: u64,
    pub(crate) receive_descriptors: u16,
    pub(crate) transmit_descriptors: u16,
    pub(crate) touch: Touch,
}

impl Plan {
    /// The plan for a device that describes itself with `info` and is driven by `driver`.
    pub(crate) fn new(
        device: &Device,
        driver: &str,
        info: &rte_eth_dev_info,
        options: &PortOptions,
        buffer_bytes: u16,
    ) -> Result<Self, Error> {
        let refused = |reason| Error::Device { device: device.name().to_owned(), reason };
        if options.queues == 0 {
            return Err(refused("a port needs at least one queue".to_owned()));
        }
        let needed = options.mtu.checked_add(FRAME_EXTRA).ok_or_else(|| refused(too_large(options.mtu, MTU_MAX)))?;
        if needed > buffer_bytes {
            return Err(refused(format!(
                "an MTU of {} needs packet buffers of {needed} bytes, and the pool's hold {buffer_bytes}",
                options.mtu
            )));
        }
        let mtu = mtu(device, info, options.mtu).map_err(refused)?;
        let is_pci = device.kind() == DeviceKind::Pci;
        let hash_functions = if is_pci { rss::functions(info, options.side) } else { 0 };
        let offered = info.max_rx_queues.min(info.max_tx_queues).max(1);
        // A NIC that cannot hash sends everything to its first queue.
        let usable = if is_pci && hash_functions == 0 { 1 } else { offered };
        let queues = options.queues.min(usable);
        Ok(Self {
            queues,
            mtu,
            receive_offloads: if is_pci { info.rx_offload_capa & dpdk_sys::MILLRACE_RX_OFFLOAD_CHECKSUM } else { 0 },
            hash_functions: if queues > 1 { hash_functions } else { 0 },
            receive_descriptors: if device.is_driven_by("tap") { TAP_DESCRIPTORS } else { options.descriptors },
            transmit_descriptors: options.descriptors,
            touch: touch(device, driver),
        })
    }
}

/// The largest MTU a frame's length can be told for.
const MTU_MAX: u16 = u16::MAX - FRAME_EXTRA;

fn too_large(mtu: u16, most: u16) -> String {
    format!("an MTU of {mtu} is more than its driver takes; {most} is the most")
}

/// The MTU to configure, which for some virtual devices is not the port's but the most their driver accepts.
fn mtu(device: &Device, info: &rte_eth_dev_info, wanted: u16) -> Result<u16, String> {
    if device.is_driven_by("af_packet") {
        // The driver says 1518 bytes whatever its ring holds; what counts is the ring's frame size.
        let frame = device.argument("framesz").and_then(|text| text.parse().ok()).unwrap_or(RING_FRAME);
        let room = frame.saturating_sub(RING_FRAME_EXTRA);
        let needed = u32::from(wanted) + u32::from(FRAME_EXTRA);
        if needed > room {
            return Err(format!(
                "an MTU of {wanted} does not fit its ring of {frame}-byte frames; add framesz={} (and a blocksz that is \
                 a multiple of it) to the device",
                (needed + RING_FRAME_EXTRA).next_power_of_two()
            ));
        }
        return Ok(wanted.min(MTU_USUAL));
    }
    let by_frame = u16::try_from(info.max_rx_pktlen.saturating_sub(DPDK_EXTRA)).unwrap_or(u16::MAX);
    let most = if by_frame == 0 { info.max_mtu } else { info.max_mtu.min(by_frame) };
    if wanted > most {
        return Err(too_large(wanted, most));
    }
    if wanted < info.min_mtu {
        return Err(format!("an MTU of {wanted} is less than its driver takes; {} is the least", info.min_mtu));
    }
    Ok(wanted)
}

/// What every packet of this device needs when it arrives.
fn touch(device: &Device, driver: &str) -> Touch {
    let reads_an_interface = device.is_driven_by("pcap")
        && ["iface", "rx_iface", "rx_iface_in"].iter().any(|key| device.argument(key).is_some());
    if device.borrowed_interface().is_some() || reads_an_interface {
        return Touch::MarkPartial;
    }
    // Virtual functions of the 82576 and its kin strip tags whatever they are told.
    if driver == "net_e1000_igb_vf" { Touch::RestoreVlan } else { Touch::Nothing }
}

impl Plan {
    /// The smallest pool from which this device can fill its queues, with none left for anything else.
    pub(crate) fn buffers_needed(&self, pool: &Pool) -> Result<(), String> {
        let needed = u32::from(self.queues) * u32::from(self.receive_descriptors);
        if needed <= pool.total() {
            return Ok(());
        }
        Err(format!("its receive queues alone take {needed} packet buffers, and the pool has {}", pool.total()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> PortOptions {
        PortOptions { queues: 4, ..PortOptions::default() }
    }

    fn nic() -> rte_eth_dev_info {
        rte_eth_dev_info {
            max_rx_queues: 16,
            max_tx_queues: 8,
            max_rx_pktlen: 9_728,
            min_mtu: 68,
            max_mtu: 9_702,
            rx_offload_capa: u64::MAX,
            flow_type_rss_offloads: u64::MAX,
            ..rte_eth_dev_info::default()
        }
    }

    fn plan(device: &str, info: &rte_eth_dev_info, options: &PortOptions) -> Result<Plan, String> {
        Plan::new(&Device::parse(device).unwrap(), "", info, options, 2_048).map_err(|error| error.to_string())
    }

    #[test]
    fn a_nic_gets_the_queues_wanted_and_checks_checksums() {
        let plan = plan("0000:3b:02.1", &nic(), &options()).unwrap();
        assert_eq!((plan.queues, plan.mtu), (4, 1_500));
        assert_eq!(plan.receive_offloads, dpdk_sys::MILLRACE_RX_OFFLOAD_CHECKSUM);
        assert_eq!(plan.hash_functions, dpdk_sys::MILLRACE_RSS_IP_TCP_UDP);
        assert_eq!(plan.touch, Touch::Nothing);
    }

    #[test]
    fn the_smaller_of_wanted_and_offered_queues_counts() {
        let many = PortOptions { queues: 64, ..options() };
        assert_eq!(plan("0000:3b:02.1", &nic(), &many).unwrap().queues, 8);
        let deaf = rte_eth_dev_info { flow_type_rss_offloads: 0, ..nic() };
        assert_eq!(plan("0000:3b:02.1", &deaf, &many).unwrap().queues, 1);
        let none = PortOptions { queues: 0, ..options() };
        assert!(plan("0000:3b:02.1", &nic(), &none).is_err());
    }

    #[test]
    fn software_devices_leave_checksums_to_the_pipeline() {
        let af_packet = rte_eth_dev_info { max_rx_queues: 1, max_tx_queues: 1, max_rx_pktlen: 1_518, ..nic() };
        let plan = plan("net_af_packet0,iface=eth1", &af_packet, &options()).unwrap();
        assert_eq!((plan.queues, plan.receive_offloads, plan.touch), (1, 0, Touch::MarkPartial));
    }

    #[test]
    fn frames_that_fit_no_buffer_are_refused_at_once() {
        let jumbo = PortOptions { mtu: 9_000, ..options() };
        let error = plan("0000:3b:02.1", &nic(), &jumbo).unwrap_err();
        assert!(error.contains("packet buffers of 9022 bytes"), "{error}");
        let huge = PortOptions { mtu: u16::MAX, ..options() };
        assert!(plan("0000:3b:02.1", &nic(), &huge).unwrap_err().contains("65513"));
    }

    #[test]
    fn the_ring_of_af_packet_bounds_the_mtu() {
        let options = PortOptions { mtu: 1_990, ..options() };
        let error = plan("net_af_packet0,iface=eth1", &nic(), &options).unwrap_err();
        assert!(error.contains("framesz=4096"), "{error}");
        let plan = plan("net_af_packet0,iface=eth1,framesz=4096", &nic(), &options).unwrap();
        assert_eq!(plan.mtu, 1_500);
    }

    #[test]
    fn a_driver_that_takes_less_says_how_much() {
        let tap = rte_eth_dev_info { max_rx_pktlen: 1_522, max_mtu: u16::MAX, ..nic() };
        let options = PortOptions { mtu: 1_600, ..options() };
        assert!(plan("net_tap0", &tap, &options).unwrap_err().contains("1504 is the most"));
    }
}
