//! One kernel interface: a TAP device with the port's MAC address, MTU and addresses, and the routes that lead through the
//! port.
//!
//! Made at start on a management thread; the pump moves its frames. It lives as long as its file descriptor: when the
//! last holder lets go, or the process dies in whatever way, the kernel removes it with its addresses and routes.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use config::Policy;
use ipnet::IpNet;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};
use units::PortId;
use wire::MacAddr;

use super::netlink::{Change, Netlink};

/// What an interface should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Its name, 15 bytes at most.
    pub name: String,
    /// Its MAC address: the port's.
    pub mac: MacAddr,
    /// Its MTU: the port's.
    pub mtu: u16,
    /// Its addresses, each with the prefix that is on the link.
    pub addresses: Vec<IpNet>,
    /// Prefixes that are reached through a router on the link.
    pub routes: Vec<(IpNet, IpAddr)>,
}

impl InterfaceSpec {
    /// The kernel interface that the policy wants beside a port whose MAC address is `mac`; `None` when it wants none.
    #[must_use]
    pub fn of(policy: &Policy, port: PortId, mac: MacAddr) -> Option<Self> {
        let wanted = policy.ports.get(port.index())?;
        Some(Self {
            name: wanted.kernel_interface.clone()?,
            mac,
            mtu: wanted.mtu,
            addresses: wanted.addresses.clone(),
            routes: policy
                .routes
                .iter()
                .filter(|route| route.port == port)
                .filter_map(|route| Some((route.to, route.via?)))
                .collect(),
        })
    }
}

/// Why a kernel interface could not be made or changed, and what the operator should do.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// Another interface has the name.
    #[error(
        "the kernel interface {name} exists already; another appliance runs, or `ip link del {name}` removes it, or set \
         `kernel = \"other-name\"` at the port"
    )]
    Exists {
        /// The interface.
        name: String,
    },
    /// The process may not make interfaces.
    #[error("no permission to make the kernel interface {name}; run as root or with CAP_NET_ADMIN")]
    Permission {
        /// The interface.
        name: String,
    },
    /// The kernel has no TAP driver.
    #[error(
        "cannot make the kernel interface {name}: this kernel has no /dev/net/tun; `modprobe tun`, or set `kernel = \
         false` at the port"
    )]
    NoTun {
        /// The interface.
        name: String,
    },
    /// The kernel refused a step.
    #[error("kernel interface {name}: {step}: {source}")]
    Step {
        /// The interface.
        name: String,
        /// What was tried.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A TAP interface of this process. Dropping the last holder of its device removes it.
pub struct Interface {
    spec: InterfaceSpec,
    index: u32,
    device: Arc<SyncDevice>,
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interface").field("spec", &self.spec).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Interface {
    /// Makes the interface, in the network namespace of this thread, and sets it up.
    ///
    /// # Errors
    /// [`InterfaceError`]; nothing is left behind.
    pub fn open(spec: InterfaceSpec) -> Result<Self, InterfaceError> {
        let name = spec.name.as_str();
        let mut netlink = Netlink::open().map_err(|source| failed(name, "open netlink", source))?;
        if netlink.index(name).map_err(|source| failed(name, "look up its name", source))?.is_some() {
            return Err(InterfaceError::Exists { name: name.to_owned() });
        }
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            // Set up by us once it has its MAC address: the kernel makes the link-local address of what is there then.
            .enable(false)
            .with(|options| {
                options.packet_information(false);
            })
            .build_sync()
            .map_err(|source| match source.kind() {
                io::ErrorKind::PermissionDenied => InterfaceError::Permission { name: name.to_owned() },
                io::ErrorKind::NotFound => InterfaceError::NoTun { name: name.to_owned() },
                io::ErrorKind::ResourceBusy => InterfaceError::Exists { name: name.to_owned() },
                _ => failed(name, "make it", source),
            })?;
        device.set_nonblocking(true).map_err(|source| failed(name, "make it non-blocking", source))?;
        let index = netlink
            .index(name)
            .and_then(|index| index.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|source| failed(name, "look up its index", source))?;
        let interface = Self { spec, index, device: Arc::new(device) };
        interface.configure(&mut netlink)?;
        Ok(interface)
    }

    /// What it is.
    #[must_use]
    pub fn spec(&self) -> &InterfaceSpec {
        &self.spec
    }

    /// The file descriptor frames are read from and written to.
    #[must_use]
    pub(super) fn device(&self) -> Arc<SyncDevice> {
        Arc::clone(&self.device)
    }

    /// Makes it what a new policy wants; the name is kept. What the two specifications share is not touched, so sockets
    /// bound to an address that stays keep it.
    ///
    /// # Errors
    /// [`InterfaceError`]: the first step that failed; what can still be done is done.
    pub fn update(&mut self, wanted: InterfaceSpec) -> Result<(), InterfaceError> {
        let name = self.spec.name.clone();
        let mut netlink = Netlink::open().map_err(|source| failed(&name, "open netlink", source))?;
        let mut outcome = Ok(());
        let mut step = |what: String, done: io::Result<()>| {
            if let (Err(source), Ok(())) = (done, &outcome) {
                outcome = Err(failed(&name, what, source));
            }
        };
        if (wanted.mac, wanted.mtu) != (self.spec.mac, self.spec.mtu) {
            step("set its MAC address and MTU".into(), netlink.set_link(self.index, wanted.mac, wanted.mtu));
        }
        for &(to, via) in self.spec.routes.iter().filter(|route| !wanted.routes.contains(route)) {
            // The kernel takes routes away with the address they depended on: one that is gone already is as wanted.
            let removed = netlink.route(Change::Remove, self.index, to, via);
            step(format!("remove the route to {to}"), removed.or_else(gone));
        }
        for &address in self.spec.addresses.iter().filter(|address| !wanted.addresses.contains(address)) {
            let removed = netlink.address(Change::Remove, self.index, address);
            step(format!("remove the address {address}"), removed.or_else(gone));
        }
        // All that is wanted, not only what is new: removing a first address of a prefix takes later ones of it with it.
        for &address in &wanted.addresses {
            let added = netlink.address(Change::Add, self.index, address);
            step(adding(address, &added), added);
        }
        for &(to, via) in &wanted.routes {
            step(format!("add the route to {to} via {via}"), netlink.route(Change::Add, self.index, to, via));
        }
        self.spec = InterfaceSpec { name: name.clone(), ..wanted };
        outcome
    }

    fn configure(&self, netlink: &mut Netlink) -> Result<(), InterfaceError> {
        let InterfaceSpec { name, mac, mtu, addresses, routes } = &self.spec;
        let step = |what: &str, done: io::Result<()>| done.map_err(|source| failed(name, what, source));
        prepare_sysctls(&self.spec);
        step("set its MAC address and MTU", netlink.set_link(self.index, *mac, *mtu))?;
        step("set it up", netlink.set_up(self.index))?;
        for &address in addresses {
            let added = netlink.address(Change::Add, self.index, address);
            step(&adding(address, &added), added)?;
        }
        for &(to, via) in routes {
            step(&format!("add the route to {to} via {via}"), netlink.route(Change::Add, self.index, to, via))?;
        }
        Ok(())
    }
}

/// Sets what suits an interface that is one end of a router's port. Each may be missing (a kernel without IPv6): then there
/// is nothing to set, and what needs it says so.
fn prepare_sysctls(spec: &InterfaceSpec) {
    for (path, value) in sysctls(spec) {
        if let Err(error) = fs::write(&path, value) {
            log::debug!("{path}: {error}");
        }
    }
}

fn sysctls(spec: &InterfaceSpec) -> Vec<(String, &'static str)> {
    let InterfaceSpec { name, addresses, .. } = spec;
    let mut settings = vec![
        // The data plane answers for the addresses on the wire; detection would only delay their use.
        (format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0"),
        // A router takes no configuration from other routers (RFC 4861 section 6.2.1).
        (format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0"),
        // Answers may leave by another interface of the host: loose, not strict (RFC 3704 section 2.4).
        (format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "2"),
    ];
    if addresses.iter().any(|net| net.addr().is_ipv6()) {
        // Hardened servers switch IPv6 off for interfaces to come; this one is ours and the policy gives it addresses.
        settings.push((format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0"));
    }
    settings
}

/// What failed when an address was added: the kernel has one word for all that keeps IPv6 off.
fn adding(address: IpNet, outcome: &io::Result<()>) -> String {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if address.addr().is_ipv6() && outcome.as_ref().is_err_and(refused) {
        format!(
            "add the address {address} (`sysctl -w net.ipv6.conf.default.disable_ipv6=0` where IPv6 is switched off)"
        )
    } else {
        format!("add the address {address}")
    }
}

fn failed(name: &str, step: impl Into<String>, source: io::Error) -> InterfaceError {
    InterfaceError::Step { name: name.to_owned(), step: step.into(), source }
}

/// Whether something that should be removed was not there any more.
fn gone(error: io::Error) -> io::Result<()> {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    if matches!(errno, Some(rustix::io::Errno::SRCH | rustix::io::Errno::ADDRNOTAVAIL)) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_interface_has_its_addresses_and_the_routes_that_lead_through_it() {
        let text = include_str!("../../../config/examples/edge.toml");
        let policy = config::load(text, std::path::Path::new("edge.toml")).unwrap().policy;
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        let outside = InterfaceSpec::of(&policy, PortId::new(0), mac).unwrap();
        assert_eq!((outside.name.as_str(), outside.mac, outside.mtu), ("mr-outside", mac, 1500));
        assert_eq!(outside.addresses, ["198.51.100.1/24".parse().unwrap(), "2001:db8:51::1/64".parse().unwrap()]);
        assert_eq!(outside.routes, [("203.0.113.0/24".parse().unwrap(), "198.51.100.254".parse().unwrap())]);
        assert_eq!(InterfaceSpec::of(&policy, PortId::new(1), mac).unwrap().routes, []);
        assert_eq!(InterfaceSpec::of(&policy, PortId::new(2), mac), None);
    }

    #[test]
    fn ipv6_is_switched_on_where_the_policy_gives_ipv6_addresses() {
        let spec = |addresses: &[&str]| InterfaceSpec {
            name: "mr-outside".into(),
            mac: MacAddr::ZERO,
            mtu: 1500,
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            routes: Vec::new(),
        };
        let switch = ("/proc/sys/net/ipv6/conf/mr-outside/disable_ipv6".to_owned(), "0");
        assert!(sysctls(&spec(&["198.51.100.1/24", "2001:db8:51::1/64"])).contains(&switch));
        assert!(!sysctls(&spec(&["198.51.100.1/24"])).contains(&switch));
    }

    #[test]
    fn an_ipv6_address_that_is_refused_comes_with_the_setting_that_refuses_it() {
        let (v4, v6) = ("198.51.100.1/24".parse().unwrap(), "2001:db8:51::1/64".parse().unwrap());
        let refused = || Err(io::ErrorKind::PermissionDenied.into());
        assert!(adding(v6, &refused()).contains("disable_ipv6=0"));
        assert_eq!(adding(v4, &refused()), "add the address 198.51.100.1/24");
        assert_eq!(adding(v6, &Ok(())), "add the address 2001:db8:51::1/64");
    }
}
