//! Why a device cannot be opened, in words: what can be seen before its driver is asked, and what its driver's error most
//! likely means. Reads `/sys` and tries sockets; changes nothing.

use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::af_packet::{interface_index, try_socket};
use crate::{Device, DeviceKind, Errno, Error, doctor};

/// The root of the file system, where facts are looked up.
const ROOT: &str = "/";

/// Refuses a device whose trouble can be seen beforehand.
pub(crate) fn before(device: &Device) -> Result<(), Error> {
    let trouble = match device.kind() {
        DeviceKind::Pci => pci_trouble(Path::new(ROOT), device.name()),
        DeviceKind::Virtual => virtual_trouble(device),
    };
    match trouble {
        Some(reason) => Err(Error::Device { device: device.name().to_owned(), reason }),
        None => Ok(()),
    }
}

/// Explains the error `errno` of starting a device.
pub(crate) fn after(device: &Device, errno: Errno, said: &str) -> Error {
    // SAFETY: reads a number of the process; no arguments.
    let is_root = unsafe { libc::geteuid() } == 0;
    let is_pci = device.kind() == DeviceKind::Pci;
    let reason = match errno.get() {
        libc::EACCES => "permission denied; run as root, or give the program the capabilities `millrace doctor` names",
        // Drivers return a bare -1 for anything at all, which reads as EPERM; only a user can lack a permission.
        libc::EPERM if !is_root => "permission denied, perhaps; run as root",
        libc::EPERM => "its driver refuses it; are its arguments right?",
        libc::EBUSY => "it is in use by another program",
        libc::EEXIST => "a device of this name exists already",
        libc::ENODEV | libc::ENOTSUP if is_pci => {
            "no DPDK driver for this kind of device is installed: see `lspci -nn`"
        }
        libc::ENODEV | libc::ENOENT | libc::EFAULT if !is_pci => {
            "no driver of this name is installed (`apt-cache search librte-net-` lists those there are)"
        }
        _ => {
            let (device, said) = (device.name().to_owned(), said.to_owned());
            return Error::DeviceCall { device, call: "rte_dev_probe", errno, said };
        }
    };
    Error::Device { device: device.name().to_owned(), reason: format!("{reason}{said}") }
}

/// What is wrong with a PCI device, if anything is.
fn pci_trouble(root: &Path, address: &str) -> Option<String> {
    let Some(device) = doctor::pci_device(root, address) else {
        return Some("there is no PCI device at this address: `lspci` lists them".to_owned());
    };
    if !device.is_network {
        return Some("it is not a network device".to_owned());
    }
    let bind = format!("dpdk-devbind.py --bind=vfio-pci {address}");
    match device.driver.as_deref() {
        // Drivers of this kind leave the device with the kernel and work through it.
        Some("mlx5_core" | "mlx4_core") => None,
        Some("vfio-pci") => {
            let group = device.iommu_group?;
            let door = root.join(format!("dev/vfio/{group}"));
            let opened = OpenOptions::new().read(true).write(true).open(&door);
            match opened.map_err(|error| error.raw_os_error()) {
                Err(Some(libc::EACCES | libc::EPERM)) => Some(format!(
                    "no permission to open /dev/vfio/{group}; run as root, or give its owner the right to it"
                )),
                Err(Some(libc::EBUSY)) => Some("another program is using it".to_owned()),
                _ => None,
            }
        }
        Some("uio_pci_generic" | "igb_uio") => None,
        Some(driver) => Some(format!("it belongs to the kernel's driver {driver}; give it to DPDK with `{bind}`")),
        None => Some(format!("no driver holds it; give it to DPDK with `{bind}`")),
    }
}

/// What is wrong with a virtual device, if it can be seen.
fn virtual_trouble(device: &Device) -> Option<String> {
    if device.is_driven_by("af_packet") {
        return interface_trouble(device).or_else(|| socket_trouble(libc::AF_PACKET, "raw packets"));
    }
    if device.is_driven_by("af_xdp") {
        return interface_trouble(device).or_else(|| socket_trouble(libc::AF_XDP, "AF_XDP"));
    }
    if device.is_driven_by("tap") {
        return tap_trouble(device);
    }
    if device.is_driven_by("pcap") {
        let path = device.argument("rx_pcap")?;
        return fs::metadata(path).err().map(|error| format!("the capture {path:?} cannot be read: {error}"));
    }
    None
}

/// The interface a device borrows must be named and be there.
fn interface_trouble(device: &Device) -> Option<String> {
    let Some(name) = device.argument("iface") else {
        return Some("it names no interface; write it with `,iface=NAME`".to_owned());
    };
    match interface_index(name) {
        Some(_) => None,
        None => Some(format!("there is no interface {name:?}: `ip link` lists them")),
    }
}

/// Sockets of this family must be allowed.
fn socket_trouble(family: i32, what: &str) -> Option<String> {
    let errno = try_socket(family, libc::SOCK_RAW).err()?;
    Some(match errno.get() {
        libc::EPERM | libc::EACCES => format!("no permission for {what}; run as root, or give the program CAP_NET_RAW"),
        libc::EAFNOSUPPORT => format!("this kernel has no sockets for {what}"),
        _ => format!("a socket for {what} cannot be opened: {errno}"),
    })
}

fn tap_trouble(device: &Device) -> Option<String> {
    let door = Path::new("/dev/net/tun");
    if let Err(error) = OpenOptions::new().read(true).write(true).open(door) {
        return Some(match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV) => "the kernel has no /dev/net/tun: `modprobe tun`".to_owned(),
            Some(libc::EACCES | libc::EPERM) => "no permission to open /dev/net/tun; run as root".to_owned(),
            _ => format!("/dev/net/tun cannot be opened: {error}"),
        });
    }
    let name = device.argument("iface")?;
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Some(format!("{name:?} is no name for an interface; 1 to 15 characters are"));
    }
    let is_there = interface_index(name).is_some();
    // A persistent TAP that waits for a program has this file; every other interface is in the way.
    let is_tap = Path::new("/sys/class/net").join(name).join("tun_flags").exists();
    (is_there && !is_tap).then(|| format!("an interface {name} exists already; choose another `iface`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(device: &str) -> String {
        before(&Device::parse(device).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_can_be_seen_beforehand_is_told_with_its_remedy() {
        assert!(sentence("net_af_packet0").contains("iface=NAME"));
        assert!(sentence("net_af_packet0,iface=no-such-if").contains("no interface \"no-such-if\""));
        assert!(
            sentence("net_tap0,iface=lo").contains("exists already") || sentence("net_tap0,iface=lo").contains("tun")
        );
        assert!(sentence("net_pcap0,rx_pcap=/no/such.pcap").contains("/no/such.pcap"));
        assert!(sentence("ffff:00:1f.7").contains("no PCI device"));
        assert!(before(&Device::parse("net_null0").unwrap()).is_ok());
    }

    #[test]
    fn errors_of_drivers_get_a_remedy() {
        let device = Device::parse("net_nonsense0").unwrap();
        let error = after(&device, Errno::new(-libc::EFAULT), "").to_string();
        assert!(error.contains("no driver of this name"), "{error}");
        let error = after(&device, Errno::new(-libc::EIO), "; DPDK says: x").to_string();
        assert!(error.contains("rte_dev_probe") && error.ends_with("DPDK says: x"), "{error}");
    }
}
