//! Ports: that the device is there, that DPDK can have it, and that it has queues for all workers.

use config::Policy;
use config::policy::Port;

use super::machine::{Machine, PciDevice};
use super::{Finding, State};
use crate::kernel::isolate::taken_interface;

/// Kernel drivers that DPDK works beside: the device stays with them.
const SHARED_DRIVERS: [&str; 4] = ["mlx4_core", "mlx5_core", "mana", "mvpp2"];

/// Kernel drivers through which DPDK takes a device over.
const PASSING_DRIVERS: [&str; 3] = ["vfio-pci", "igb_uio", "uio_pci_generic"];

/// The device string without its arguments.
fn device_name(device: &str) -> &str {
    device.split(',').next().unwrap_or_default()
}

/// The value of an argument of a device string.
fn argument<'a>(device: &'a str, key: &str) -> Option<&'a str> {
    device.split(',').skip(1).find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
}

/// The full address when the device is a PCI one: `0000:3b:02.1`, or without its domain.
fn pci_address(device: &str) -> Option<String> {
    let name = device_name(device);
    let parts: Vec<_> = name.split([':', '.']).collect();
    let numbers = parts.iter().all(|part| !part.is_empty() && part.chars().all(|digit| digit.is_ascii_hexdigit()));
    match (numbers, parts.len(), name.matches(':').count()) {
        (true, 4, 2) => Some(name.to_ascii_lowercase()),
        (true, 3, 1) => Some(format!("0000:{}", name.to_ascii_lowercase())),
        _ => None,
    }
}

/// Whether a device string names a PCI device.
pub(super) fn is_pci(device: &str) -> bool {
    pci_address(device).is_some()
}

pub(super) fn examine(machine: &Machine, policy: Option<&Policy>, findings: &mut Vec<Finding>) {
    let Some(policy) = policy else {
        findings.push(vfio(machine, State::Note));
        return;
    };
    if policy.ports.iter().any(|port| pci_address(&port.device).is_some_and(|pci| wants_vfio(machine, &pci))) {
        findings.push(vfio(machine, State::Missing));
    }
    for port in &policy.ports {
        let check = format!("port {}", port.name);
        if let Some(address) = pci_address(&port.device) {
            findings.push(pci(machine, &check, &address));
            findings.extend(physical_function(machine, &check, &address));
        } else if let Some(interface) = taken_interface(&port.device) {
            taken(machine, &check, port, interface, findings);
        } else {
            findings.push(virtual_device(machine, &check, port));
        }
        findings.extend(pair(machine, &check, port, policy));
        findings.extend(queues(machine, &check, port, policy.cores.workers.len()));
        findings.extend(kernel_interface(machine, &check, port));
    }
}

fn wants_vfio(machine: &Machine, address: &str) -> bool {
    let driver = machine.pci_device(address).and_then(|device| device.driver);
    driver.is_none_or(|driver| !SHARED_DRIVERS.contains(&driver.as_str()))
}

fn vfio(machine: &Machine, without: State) -> Finding {
    if !machine.has("/sys/module/vfio_pci") {
        return Finding::new("vfio", without, "vfio-pci is not loaded; PCI devices are handed to DPDK through it")
            .mended_by("modprobe vfio-pci");
    }
    if !machine.has_iommu() {
        if machine.allows_vfio_without_iommu() {
            return Finding::new(
                "vfio",
                State::Warning,
                "vfio works without an IOMMU: devices can write to all memory",
            )
            .mended_by("add `intel_iommu=on` or `amd_iommu=on` to the kernel's command line and reboot");
        }
        return Finding::new("vfio", without, "there is no IOMMU, so vfio hands out nothing").mended_by(
            "add `intel_iommu=on iommu=pt` (AMD: `amd_iommu=on iommu=pt`) to the kernel's command line, switch VT-d on \
             in the firmware, reboot; in a virtual machine without one: \
             echo Y >/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        );
    }
    Finding::new("vfio", State::Ok, "vfio-pci is loaded and the IOMMU is on")
}

fn pci(machine: &Machine, check: &str, address: &str) -> Finding {
    let Some(device) = machine.pci_device(address) else {
        return Finding::new(check, State::Missing, format!("there is no PCI device {address}")).mended_by(
            "lspci -D | grep -i ethernet    lists them; virtual functions are made by \
             `echo 4 >/sys/class/net/INTERFACE/device/sriov_numvfs`",
        );
    };
    let kind = if device.is_virtual_function { "virtual function" } else { "device" };
    match device.driver.as_deref() {
        Some(driver) if SHARED_DRIVERS.contains(&driver) => {
            Finding::new(check, State::Ok, format!("{kind} {address} is with {driver}, which DPDK works beside"))
        }
        Some(driver) if PASSING_DRIVERS.contains(&driver) => grouped(machine, check, address, &device),
        driver => {
            let found = match driver {
                Some(driver) => format!("{kind} {address} is with the kernel's driver {driver}, not with vfio-pci"),
                None => format!("{kind} {address} is with no driver; DPDK reaches it through vfio-pci"),
            };
            let release = driver.map_or_else(String::new, |_| {
                format!("; echo {address} >/sys/bus/pci/devices/{address}/driver/unbind")
            });
            Finding::new(check, State::Missing, found).mended_by(format!(
                "modprobe vfio-pci; echo vfio-pci >/sys/bus/pci/devices/{address}/driver_override{release}; echo \
                 {address} >/sys/bus/pci/drivers_probe"
            ))
        }
    }
}

/// A virtual function has no link while its physical function is down.
fn physical_function(machine: &Machine, check: &str, address: &str) -> Option<Finding> {
    let (interface, is_up) = machine.physical_function(address)?;
    (!is_up).then(|| {
        let found = format!("{interface}, whose virtual function {address} is, is down: the port has no link");
        Finding::new(check, State::Warning, found).mended_by(format!("ip link set {interface} up"))
    })
}

/// A device can only be handed out when everything else in its IOMMU group is too (bridges, which have no driver or
/// pcieport, stay).
fn grouped(machine: &Machine, check: &str, address: &str, device: &PciDevice) -> Finding {
    let others = device.iommu_group.as_deref().map(|group| machine.iommu_group(group)).unwrap_or_default();
    let held: Vec<_> = others
        .iter()
        .filter(|other| *other != address)
        .filter(|other| {
            let driver = machine.pci_device(other).and_then(|device| device.driver);
            driver.is_some_and(|driver| driver != "pcieport" && !PASSING_DRIVERS.contains(&driver.as_str()))
        })
        .cloned()
        .collect();
    let driver = device.driver.as_deref().unwrap_or_default();
    if held.is_empty() {
        return Finding::new(check, State::Ok, format!("{address} is with {driver}"));
    }
    let found = format!("{address} shares its IOMMU group with {}, which the kernel uses", held.join(", "));
    Finding::new(check, State::Missing, found)
        .mended_by("bind those to vfio-pci too, or use a virtual function or another slot")
}

/// A port over an ordinary Linux interface.
fn taken(machine: &Machine, check: &str, port: &Port, interface: &str, findings: &mut Vec<Finding>) {
    let is_xdp = port.device.starts_with("net_af_xdp");
    let (family, module) = if is_xdp { ("XDP", "CONFIG_XDP_SOCKETS") } else { ("PACKET", "CONFIG_PACKET") };
    if !machine.has_sockets(family) {
        let found = format!("this kernel has no {} sockets ({module})", if is_xdp { "AF_XDP" } else { "AF_PACKET" });
        findings.push(Finding::new(check, State::Missing, found).mended_by("another kind of `device`"));
    }
    let Some(there) = machine.interface(interface) else {
        findings.push(
            Finding::new(check, State::Missing, format!("there is no interface {interface}"))
                .mended_by(format!("ip link    lists them; put the right one in `iface=` of port {}", port.name)),
        );
        return;
    };
    findings.push(if there.is_up {
        Finding::new(check, State::Ok, format!("{interface} is there and up"))
    } else {
        Finding::new(check, State::Note, format!("{interface} is down; the appliance sets it up when it starts"))
            .mended_by(format!("ip link set {interface} up"))
    });
    if there.has_address {
        let found = format!("Linux has an IP address on {interface} and will treat its packets beside the data plane");
        findings.push(Finding::new(check, State::Warning, found).mended_by(format!("ip addr flush dev {interface}")));
    }
    if machine.sysctl("net/ipv4/conf/all/rp_filter").as_deref() == Some("2") {
        let found = format!("net.ipv4.conf.all.rp_filter is 2: Linux also treats packets that arrive on {interface}");
        findings.push(Finding::new(check, State::Warning, found).mended_by("sysctl -w net.ipv4.conf.all.rp_filter=0"));
    }
    let merging = machine.merging_features(interface);
    if !merging.is_empty() {
        let list = merging.join(", ");
        let found =
            format!("{interface} merges packets on receive ({list}); the appliance switches it off when it starts");
        findings
            .push(Finding::new(check, State::Note, found).mended_by(format!("ethtool -K {interface} gro off lro off")));
    }
    if there.mtu < u64::from(port.mtu) {
        let found = format!("the MTU of {interface} is {}, that of the port {}", there.mtu, port.mtu);
        findings.push(
            Finding::new(check, State::Warning, found).mended_by(format!("ip link set {interface} mtu {}", port.mtu)),
        );
    }
}

fn virtual_device(machine: &Machine, check: &str, port: &Port) -> Finding {
    let name = device_name(&port.device);
    if name.starts_with("net_tap") && !machine.has("/dev/net/tun") {
        return Finding::new(check, State::Missing, "there is no /dev/net/tun, which net_tap needs")
            .mended_by("modprobe tun");
    }
    if (name.starts_with("net_af_packet") || name.starts_with("net_af_xdp"))
        && argument(&port.device, "iface").is_none()
    {
        return Finding::new(check, State::Missing, format!("{name} does not say which interface it takes"))
            .mended_by(format!("device = \"{name},iface=INTERFACE\""));
    }
    if let Some(file) = argument(&port.device, "rx_pcap").filter(|file| !std::path::Path::new(file).exists()) {
        return Finding::new(check, State::Missing, format!("there is no file {file} to read packets from"))
            .mended_by(format!("a file that is there in `rx_pcap=` of port {}", port.name));
    }
    Finding::new(check, State::Ok, format!("{name} is made by DPDK when the appliance starts"))
}

/// A paired port receives and sends for other stations, which the switch in a NIC keeps a virtual function from.
fn pair(machine: &Machine, check: &str, port: &Port, policy: &Policy) -> Option<Finding> {
    let paired = policy.pairs.as_flattened().iter().any(|id| policy.ports.get(id.index()) == Some(port));
    let address = pci_address(&port.device).filter(|_| paired)?;
    let device = machine.pci_device(&address).filter(|device| device.is_virtual_function)?;
    let driver = device.driver.unwrap_or_default();
    let found = format!(
        "virtual function {address} ({driver}) is in a pair: its NIC must let it receive and send for other stations, and \
         pass VLAN tags"
    );
    Some(
        Finding::new(check, State::Note, found).mended_by(
            "ip link set INTERFACE vf N trust on spoofchk off vlan 0    INTERFACE is the physical function's",
        ),
    )
}

/// With fewer queues than workers, packets are handed from worker to worker: right, and slower.
fn queues(machine: &Machine, check: &str, port: &Port, workers: usize) -> Option<Finding> {
    if workers < 2 {
        return None;
    }
    let (has, remedy) = if let Some(interface) = taken_interface(&port.device) {
        let key = if port.device.starts_with("net_af_xdp") { "queue_count" } else { "qpairs" };
        let asked = argument(&port.device, key).and_then(|value| value.parse().ok()).unwrap_or(1);
        let there = machine.interface(interface)?.queues;
        (asked, format!("add `,{key}={}` to the device of port {}", workers.min(there.max(1)), port.name))
    } else if is_pci(&port.device) {
        (usize::from(port.queues?), format!("`queues = {workers}` at port {}, or leave it out", port.name))
    } else {
        return None;
    };
    (has < workers).then(|| {
        let queues = if has == 1 { "queue" } else { "queues" };
        let found = format!("{has} {queues} for {workers} workers: packets are handed from worker to worker");
        Finding::new(check, State::Note, found).mended_by(remedy)
    })
}

fn kernel_interface(machine: &Machine, check: &str, port: &Port) -> Option<Finding> {
    let name = port.kernel_interface.as_deref()?;
    machine.interface(name)?;
    let found =
        format!("the kernel interface {name} exists already: this appliance runs, or another program has the name");
    Some(Finding::new(check, State::Note, found).mended_by(format!("ip -d link show {name}")))
}
