//! A port: one device, opened, configured and started, with all its queues. Opened by the control thread before workers run
//! (or when a policy adds a port); the handle stays with control for counters and link state, each queue goes to a worker.

use std::sync::Arc;

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};
use wire::MacAddr;

use crate::ethdev::{Ethdev, driver_name};
use crate::plan::Plan;
use crate::{Device, Eal, Error, Link, Multicast, Pool, PortStats, Queue, Rss, Side, rss};

/// What a port wants of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOptions {
    /// Queue pairs wanted, one for each worker; the device may have fewer, see [`Port::queues`].
    pub queues: u16,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// The port's MAC address, `None` for the device's own.
    pub mac: Option<MacAddr>,
    /// Descriptors of each receive and transmit queue; rounded to what the device takes.
    pub descriptors: u16,
    /// What packets are spread over the queues by, where the device can choose.
    pub side: Side,
    /// Whether frames to other MAC addresses are received too.
    pub promiscuous: bool,
    /// Multicast groups to listen to from the start: the solicited-node groups of the port's addresses and
    /// 33:33:00:00:00:01. An empty list leaves the device's filter as it is.
    pub groups: Vec<MacAddr>,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            queues: 1,
            mtu: 1_500,
            mac: None,
            descriptors: 1_024,
            side: Side::Both,
            promiscuous: false,
            groups: Vec::new(),
        }
    }
}

/// An open, running port. Clones are the same port; any thread may ask any of them.
#[derive(Clone, Debug)]
pub struct Port {
    ethdev: Arc<Ethdev>,
    driver: Arc<str>,
    mac: MacAddr,
    queues: u16,
    rss: Rss,
    checks_checksums: bool,
}

impl Port {
    /// Opens `device`, as the operator wrote it, configures and starts it, and returns it with all its queues.
    ///
    /// Buffers for received packets come from `pool`. The device closes when the port, its clones and its queues are gone.
    ///
    /// # Errors
    /// A sentence for the operator: [`Error::DeviceSyntax`], [`Error::Device`] where the reason is known, else
    /// [`Error::DeviceCall`].
    pub fn open(eal: &Eal, device: &str, options: &PortOptions, pool: &Pool) -> Result<(Self, Vec<Queue>), Error> {
        let ethdev = Ethdev::open(eal, Device::parse(device)?, pool)?;
        let info = ethdev.info()?;
        let driver = driver_name(&info);
        let refused = |reason| Error::Device { device: ethdev.name().to_owned(), reason };
        let plan = Plan::new(ethdev.device(), &driver, &info, options, pool.frame_bytes())?;
        check_interface(&ethdev, options.mtu)?;
        ethdev.ignore_outgoing();
        let rss = configure(&ethdev, &info, &plan)?;
        let (receive, transmit) = ethdev.fit_descriptors(plan.receive_descriptors, plan.transmit_descriptors)?;
        let plan = Plan { receive_descriptors: receive, transmit_descriptors: transmit, ..plan };
        plan.buffers_needed(pool).map_err(refused)?;
        for queue in 0..plan.queues {
            ethdev.set_up_queue(queue, receive, transmit, pool)?;
        }
        if let Some(mac) = options.mac {
            ethdev.set_mac(mac)?;
        }
        ethdev.start()?;
        if rss != Rss::None
            && let Some(table) = rss::even_table(&info, plan.queues)
        {
            ethdev.write_redirection(table, info.reta_size);
        }
        if options.promiscuous {
            ethdev.promiscuous().map_err(|error| {
                refused(format!(
                    "it does not take frames for other stations ({error}); for a virtual function its host allows that \
                     with `ip link set INTERFACE vf N trust on spoofchk off`"
                ))
            })?;
        }
        if !options.groups.is_empty() {
            ethdev.listen(&options.groups)?;
        }
        let mac = options.mac.map_or_else(|| ethdev.mac(), Ok)?;
        let ethdev = Arc::new(ethdev);
        let number = ethdev.number();
        let queues = (0..plan.queues).map(|queue| Queue::new(Arc::clone(&ethdev), number, queue, plan.touch)).collect();
        let port = Self {
            ethdev,
            driver: driver.into(),
            mac,
            queues: plan.queues,
            rss,
            checks_checksums: plan.receive_offloads == dpdk_sys::MILLRACE_RX_OFFLOAD_CHECKSUM,
        };
        Ok((port, queues))
    }

    /// The device as the operator wrote it.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.ethdev.device()
    }

    /// The driver's name, such as `net_iavf`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The address frames to the port carry.
    #[must_use]
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// How many queue pairs it has: as many as wanted, or fewer when the device has no more.
    #[must_use]
    pub const fn queues(&self) -> u16 {
        self.queues
    }

    /// How packets find their queue.
    #[must_use]
    pub const fn rss(&self) -> Rss {
        self.rss
    }

    /// Whether the device verifies the checksums of received packets (IPv4 header, TCP and UDP).
    #[must_use]
    pub const fn checks_checksums(&self) -> bool {
        self.checks_checksums
    }

    /// Whether packets can pass. Asks the driver and, for an interface borrowed from the kernel, the kernel.
    #[must_use]
    pub fn link(&self) -> Link {
        self.ethdev.link()
    }

    /// Whether the interface that was borrowed from the kernel has gone from under it (`net_af_packet`): then nothing comes or goes
    /// by it any more, also when there is another interface of that name. To be opened anew it has to be closed first.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.ethdev.is_orphaned()
    }

    /// What the port has counted since it was opened.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        self.ethdev.stats()
    }

    /// Every counter its driver has, by the driver's own names (`rte_eth_xstats_get`); for people, not for scripts.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        self.ethdev.counters()
    }

    /// Listens to these multicast groups instead of the ones before, as precisely as the device can.
    ///
    /// # Errors
    /// [`Error::DeviceCall`] when the device can do neither list, nor all groups, nor promiscuous mode.
    pub fn set_groups(&self, groups: &[MacAddr]) -> Result<Multicast, Error> {
        self.ethdev.listen(groups)
    }
}

/// An interface without Ethernet, or one the kernel will not send whole packets through, is a mistake better told at once.
fn check_interface(ethdev: &Ethdev, wanted: u16) -> Result<(), Error> {
    let (Some(interface), Some(mtu)) = (ethdev.device().borrowed_interface(), ethdev.borrowed_mtu()) else {
        return Ok(());
    };
    let reason = if !ethdev.carries_ethernet() {
        format!("the interface {interface} has no Ethernet: `ip link show {interface}` tells what it has")
    } else if mtu < wanted {
        format!(
            "the interface {interface} has an MTU of {mtu} and the port wants {wanted}: \
             `ip link set {interface} mtu {wanted}`, or lower the port's `mtu`"
        )
    } else {
        return Ok(());
    };
    Err(Error::Device { device: ethdev.name().to_owned(), reason })
}

/// Configures the device with the best way of spreading packets it accepts.
fn configure(ethdev: &Ethdev, info: &rte_eth_dev_info, plan: &Plan) -> Result<Rss, Error> {
    let mut conf = rte_eth_conf::default();
    conf.rxmode.mtu = u32::from(plan.mtu);
    conf.rxmode.offloads = plan.receive_offloads;
    if plan.hash_functions == 0 {
        return ethdev.configure(plan.queues, &conf).map(|()| Rss::None);
    }
    conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = plan.hash_functions;
    if let Some((key, length)) = rss::symmetric_key(info) {
        conf.rx_adv_conf.rss_conf.rss_key = key;
        conf.rx_adv_conf.rss_conf.rss_key_len = length;
        if ethdev.configure(plan.queues, &conf).is_ok() {
            return Ok(rss::spread(plan.hash_functions));
        }
        conf.rx_adv_conf.rss_conf.rss_key = core::ptr::null_mut();
        conf.rx_adv_conf.rss_conf.rss_key_len = 0;
    }
    ethdev.configure(plan.queues, &conf).map(|()| Rss::Asymmetric)
}
