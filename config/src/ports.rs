//! `[[port]]`: devices, their zones and addresses. A port that is in a pair (`pairs`) may have no address.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use toml::de::DeValue;
use units::limits::{PORTS_MAX, WORKERS_MAX};
use units::{PortId, ZoneId};

use crate::address::{mac, on_link};
use crate::device::{Device, is_interface_name};
use crate::findings::{At, Finding, Findings, Spot};
use crate::kind::{self, Wrong, integer, string};
use crate::names::Names;
use crate::nearest::quoted;
use crate::policy::Port;
use crate::section::Section;
use crate::zones::Zones;

/// Smallest packet every IPv6 link carries (RFC 8200 section 5), and every IPv4 one (RFC 791 section 3.2).
const IPV6_MTU_MIN: u16 = 1_280;
const IPV4_MTU_MIN: u16 = 68;

/// The largest a NIC's jumbo frames carry, with room for its headers.
const MTU_MAX: u16 = 9_600;

/// Longest name of a Linux interface.
const INTERFACE_BYTES_MAX: usize = 15;

/// The ports, in their order, and what other sections refer to.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) ports: Vec<PortRead>,
    pub(crate) zones: Zones,
}

/// One port, and where it is written.
#[derive(Debug)]
pub(crate) struct PortRead {
    pub(crate) port: Port,
    pub(crate) spot: Spot,
    pub(crate) addresses: Vec<At<IpNet>>,
    pub(crate) queues_spot: Spot,
    /// Whether it is in a pair.
    pub(crate) paired: bool,
    /// Whether each address could be read, so that what is not on this port's links is certain.
    pub(crate) complete: bool,
}

impl Ports {
    /// The port of this name; an unknown one is a fault.
    pub(crate) fn resolve(&self, section: &Section<'_>, name: &At<String>) -> Option<PortId> {
        let found = self.ports.iter().zip(0..).find(|(read, _)| read.port.name == name.value);
        if found.is_none() {
            let known = self.ports.iter().map(|read| read.port.name.as_str());
            let advice = crate::nearest::did_you_mean(&name.value, known, "the ports are");
            let message = format!("{} names port {}, which there is not", section.title, quoted(&name.value));
            section.report(Finding::error("unknown-port", &name.spot, message).advice(advice));
        }
        found.map(|(_, id)| PortId::new(id))
    }
}

/// Reads every `[[port]]`; those of these names are in pairs.
pub(crate) fn ports(file: &mut Section<'_>, paired: &HashSet<String>, findings: &Findings) -> Ports {
    let sections = file.tables("port");
    if sections.is_empty() && !file.has("port") {
        let missing = Finding::error("missing-key", &file.spot, "the file has no [[port]]");
        file.report(missing.advice("describe at least one: [[port]] with name, device, zone and addresses"));
    }
    if let Some(beyond) = sections.get(PORTS_MAX) {
        let message = format!("{} ports are more than the {PORTS_MAX} there can be", sections.len());
        file.report(Finding::error("too-many", &beyond.spot, message).advice("leave some out"));
    }
    let mut names = Names::of("ports", findings);
    let mut zones = Zones::default();
    let mut ports: Vec<_> = sections.into_iter().map(|section| port(section, paired, &mut names, &mut zones)).collect();
    kernel_interfaces(&mut ports, findings);
    taken_twice(&ports, findings);
    Ports { ports, zones }
}

fn port(mut section: Section<'_>, paired: &HashSet<String>, names: &mut Names<'_>, zones: &mut Zones) -> PortRead {
    let name = section.name();
    names.take(&name);
    let paired = paired.contains(&name.value);
    let device =
        section.required("device", device, "say which: device = \"0000:3b:02.0\" or \"net_af_packet0,iface=eth1\"");
    let zone = section.required("zone", kind::name, "say which it is in, such as zone = \"wan\"");
    let zone = zone.and_then(|zone| zones.declare(&section, &zone));
    if zone.is_none() {
        zones.incomplete();
    }
    let errors_before = section.errors();
    let addresses = if paired {
        section.list("addresses", on_link)
    } else {
        section.required_list("addresses", on_link, "give it at least one, such as addresses = [\"10.0.0.1/24\"]")
    };
    let complete = section.errors() == errors_before;
    let mtu = section.or("mtu", integer(IPV4_MTU_MIN..=MTU_MAX), 1_500);
    let six = addresses.iter().find(|address| address.value.addr().is_ipv6());
    if let Some(six) = six.filter(|_| mtu < IPV6_MTU_MIN) {
        let message = format!("{} has an IPv6 address and an `mtu` of {mtu}", section.title);
        let finding = Finding::error("mtu-too-small", &section.spot_of("mtu"), message).contradicts(&six.spot);
        section.report(finding.advice("IPv6 needs an mtu of at least 1280 (RFC 8200 section 5)"));
    }
    let mac = section.optional("mac", mac).map(|at| at.value);
    let queues = section.optional("queues", integer(1..=u16::try_from(WORKERS_MAX).unwrap_or(u16::MAX)));
    let unused = paired && !section.has("addresses");
    // The default is chosen once all written names are known: see `kernel_interfaces`.
    let kernel_interface = match section.or("kernel", kernel, if unused { Kernel::None } else { Kernel::Default }) {
        Kernel::Default => Some(String::new()),
        Kernel::None => None,
        Kernel::Named(name) => Some(name),
    };
    if unused && kernel_interface.is_some() {
        let message =
            format!("{} is in a pair and has no addresses: its kernel interface would have no use", section.title);
        let finding = Finding::error("meaningless-key", &section.spot_of("kernel"), message);
        section.report(finding.advice("remove `kernel`, or give the port `addresses` of the appliance's own"));
    }
    let read = PortRead {
        port: Port {
            name: name.value,
            device: device.map_or_else(String::new, |device| device.value),
            zone: zone.unwrap_or(ZoneId::APPLIANCE),
            mac,
            addresses: addresses.iter().map(|address| address.value).collect(),
            mtu,
            queues: queues.map(|queues| queues.value),
            kernel_interface,
        },
        spot: section.spot.clone(),
        addresses,
        queues_spot: section.spot_of("queues"),
        paired,
        complete,
    };
    section.finish();
    read
}

/// What `kernel` says.
enum Kernel {
    Default,
    None,
    Named(String),
}

fn kernel(value: &DeValue<'_>) -> Result<Kernel, Wrong> {
    if let Some(wanted) = value.as_bool() {
        return Ok(if wanted { Kernel::Default } else { Kernel::None });
    }
    let name = string(value, "false, or the name of the kernel interface such as \"wan0\"")?;
    if is_interface_name(name) {
        return Ok(Kernel::Named(name.to_owned()));
    }
    let advice = "an interface has 1 to 15 letters, digits, '-', '_' or '.'";
    Err(Wrong::new("bad-name", format!("{} cannot name a Linux interface", quoted(name)), advice))
}

fn device(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = string(value, "a DPDK device such as \"0000:3b:02.0\" or \"net_af_packet0,iface=eth1\"")?;
    match Device::parse(written) {
        Ok(_) => Ok(written.to_owned()),
        Err((why, advice)) => Err(Wrong::new("bad-device", format!("{} {why}", quoted(written)), advice)),
    }
}

/// Gives each port without a written one its default kernel interface, and reports names that are taken.
fn kernel_interfaces(ports: &mut [PortRead], findings: &Findings) {
    // By interface: where it is taken, and by which port when it is for its kernel interface.
    let mut taken: HashMap<String, (Spot, Option<String>)> = HashMap::new();
    for read in ports.iter() {
        if let Some(interface) = Device::parse(&read.port.device).ok().and_then(|device| device.interface()) {
            taken.insert(interface.to_owned(), (read.spot.clone(), None));
        }
    }
    for read in ports {
        let Some(interface) = &mut read.port.kernel_interface else { continue };
        if interface.is_empty() {
            let cut = read.port.name.get(..INTERFACE_BYTES_MAX - 3).unwrap_or(&read.port.name);
            *interface = format!("mr-{cut}");
        }
        let own = (read.spot.clone(), Some(read.port.name.clone()));
        // Two ports of one name were reported as that.
        if let Some((first, _)) = taken.insert(interface.clone(), own.clone()).filter(|(_, port)| *port != own.1) {
            let message =
                format!("the kernel interface of port \"{}\" would be {interface}, which is taken", read.port.name);
            let finding = Finding::error("duplicate-interface", &read.spot, message).contradicts(&first);
            findings.report(finding.advice("give it another: kernel = \"NAME\", or kernel = false for none"));
        }
    }
}

/// Reports devices, Linux interfaces and MAC addresses that two ports take.
fn taken_twice(ports: &[PortRead], findings: &Findings) {
    let mut devices: HashMap<String, &Spot> = HashMap::new();
    let mut interfaces: HashMap<&str, &Spot> = HashMap::new();
    let mut macs = HashMap::new();
    for read in ports {
        let duplicate = |code, message: String, first: &Spot| {
            let finding = Finding::error(code, &read.spot, message).contradicts(first);
            findings.report(finding.advice("each port has its own"));
        };
        if let Ok(device) = Device::parse(&read.port.device) {
            if let Some(first) = devices.insert(device.identity(), &read.spot) {
                duplicate("duplicate-device", format!("two ports take the device {}", device.identity()), first);
            }
            if let Some((interface, first)) =
                device.interface().and_then(|name| Some((name, interfaces.insert(name, &read.spot)?)))
            {
                duplicate("duplicate-device", format!("two ports take the Linux interface {interface}"), first);
            }
        }
        if let Some((mac, first)) = read.port.mac.and_then(|mac| Some((mac, macs.insert(mac, &read.spot)?))) {
            duplicate("duplicate-mac", format!("two ports have the MAC address {mac}"), first);
        }
    }
}
