//! Which multicast frames a port lets through. Neighbor discovery needs the solicited-node groups of every own address,
//! and devices differ in how they can be told: some take a list, some only "all", some do not filter.

use dpdk_sys::rte_ether_addr;
use wire::MacAddr;

use crate::{Errno, Error, said};

/// How a port was brought to deliver multicast frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Multicast {
    /// The groups asked for, by list.
    Listed,
    /// Every group.
    All,
    /// Every frame, because the device has nothing less.
    Promiscuous,
    /// The device has no filter at all (virtual devices).
    Unfiltered,
}

/// Asks ethdev `port` for these groups: as a list; where there is no list or it is full, all groups; else every frame.
///
/// The list comes first because it is what works on virtual functions whose host ignores their wish for more.
pub(crate) fn listen(port: u16, device: &str, groups: &[MacAddr], is_virtual: bool) -> Result<Multicast, Error> {
    said::forget();
    let mut list: Vec<rte_ether_addr> =
        groups.iter().map(|group| rte_ether_addr { addr_bytes: group.octets() }).collect();
    let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
    // SAFETY: `list` holds `count` addresses, which DPDK copies; a port number that is not open is refused.
    let listed = unsafe { dpdk_sys::rte_eth_dev_set_mc_addr_list(port, list.as_mut_ptr(), count) };
    if listed == 0 {
        return Ok(Multicast::Listed);
    }
    // SAFETY: takes a port by number and refuses one that is not open.
    if unsafe { dpdk_sys::rte_eth_allmulticast_enable(port) } == 0 {
        return Ok(Multicast::All);
    }
    // SAFETY: as above.
    let promiscuous = unsafe { dpdk_sys::rte_eth_promiscuous_enable(port) };
    match Errno::new(promiscuous).get() {
        0 => Ok(Multicast::Promiscuous),
        libc::ENOTSUP if is_virtual => Ok(Multicast::Unfiltered),
        _ => Err(Error::DeviceCall {
            device: device.to_owned(),
            call: "listening to multicast",
            errno: Errno::new(promiscuous),
            said: said::since_forget(),
        }),
    }
}
