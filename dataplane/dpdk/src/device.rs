//! A device as operators write it: a PCI address or a virtual device's name, each with optional arguments after commas.
//! Read here and nowhere else; whether it exists is [`Port::open`](crate::Port::open)'s business.

use core::fmt;

use crate::Error;

/// Where a device lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// On the PCI bus: a NIC or an SR-IOV virtual function.
    Pci,
    /// Made by a driver in software.
    Virtual,
}

/// A device string, taken apart. `Display` gives it back as DPDK takes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    kind: DeviceKind,
    name: String,
    arguments: String,
}

/// Bytes of a device name that DPDK keeps, with the end mark (`RTE_ETH_NAME_MAX_LEN`).
const NAME_MAX: usize = 63;

impl Device {
    /// Reads `0000:3b:02.1`, `3b:02.1,arg=value` or `net_af_packet0,iface=eth1`.
    ///
    /// A PCI address without its domain gets `0000:` in front, as DPDK names it.
    ///
    /// # Errors
    /// [`Error::DeviceSyntax`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |problem| Error::DeviceSyntax { device: text.to_owned(), problem };
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it holds white space or control characters"));
        }
        let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
        if name.len() > NAME_MAX {
            return Err(wrong("its name is longer than 63 characters"));
        }
        let arguments = arguments.to_owned();
        if let Some(address) = pci_address(name) {
            return Ok(Self { kind: DeviceKind::Pci, name: address, arguments });
        }
        if name.is_empty() {
            return Err(wrong("it is empty"));
        }
        let is_virtual = ["net_", "eth_", "virtio_user"].iter().any(|prefix| name.starts_with(prefix));
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_virtual || !is_plain {
            return Err(wrong("virtual devices are called net_<driver><number>"));
        }
        Ok(Self { kind: DeviceKind::Virtual, name: name.to_owned(), arguments })
    }

    /// Where it lives.
    #[must_use]
    pub const fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// The name DPDK knows it by: the full PCI address, or the virtual device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of an argument: `argument("iface")` of `net_af_packet0,iface=eth1` is `eth1`.
    #[must_use]
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// Whether it is a virtual device of this driver: `is_driven_by("af_packet")`. What follows the driver's name is free
    /// (`net_af_packet0`, `net_af_packet_outside`) unless it could belong to a longer one's.
    #[must_use]
    pub fn is_driven_by(&self, driver: &str) -> bool {
        let rest = ["net_", "eth_"].iter().find_map(|prefix| self.name.strip_prefix(prefix)?.strip_prefix(driver));
        self.kind == DeviceKind::Virtual
            && rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    }

    /// The kernel's interface whose packets this device takes, where there is one: `net_af_packet` and `net_af_xdp`.
    #[must_use]
    pub fn borrowed_interface(&self) -> Option<&str> {
        if self.is_driven_by("af_packet") || self.is_driven_by("af_xdp") { self.argument("iface") } else { None }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.arguments.is_empty() { Ok(()) } else { write!(f, ",{}", self.arguments) }
    }
}

/// The address in full, `dddd:bb:dd.f` in lower case, when `name` is one.
fn pci_address(name: &str) -> Option<String> {
    let (rest, function) = name.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.split_once(':').unwrap_or(("0000", rest));
    let hex =
        |text: &str, most: usize| !text.is_empty() && text.len() <= most && text.chars().all(|c| c.is_ascii_hexdigit());
    let function_fits = matches!(function.as_bytes(), [b'0'..=b'7']);
    if hex(domain, 8) && hex(bus, 2) && hex(device, 2) && function_fits {
        Some(format!("{domain:0>4}:{bus:0>2}:{device:0>2}.{function}").to_ascii_lowercase())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_strings_are_read() {
        let table = [
            ("0000:3b:02.1", DeviceKind::Pci, "0000:3b:02.1"),
            ("3B:02.1", DeviceKind::Pci, "0000:3b:02.1"),
            ("0000:3b:02.1,max_burst=1", DeviceKind::Pci, "0000:3b:02.1"),
            ("10000:00:02.0", DeviceKind::Pci, "10000:00:02.0"),
            ("net_af_packet0,iface=mr-out0", DeviceKind::Virtual, "net_af_packet0"),
            ("net_pcap0,rx_pcap=a.pcap,tx_pcap=b.pcap", DeviceKind::Virtual, "net_pcap0"),
            ("net_ring0", DeviceKind::Virtual, "net_ring0"),
        ];
        for (text, kind, name) in table {
            let device = Device::parse(text).unwrap();
            assert_eq!((device.kind(), device.name()), (kind, name), "{text}");
        }
    }

    #[test]
    fn what_is_no_device_is_refused_by_sentence() {
        for text in [
            "",
            "eth0",
            "0000:3b:02.8",
            "0000:3b.1",
            "net_af packet0",
            "net_af_packet0\n",
            ",iface=x",
            "net_tap/..",
            "zz:00.0",
        ] {
            let error = Device::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("device ") && error.contains("net_af_packet0,iface=eth1"), "{text}: {error}");
        }
        assert!(Device::parse(&"net_".repeat(20)).is_err());
    }

    #[test]
    fn drivers_are_told_apart_by_more_than_a_prefix() {
        let device = Device::parse("net_af_packet0,iface=mr-out0,qpairs=2").unwrap();
        assert!(device.is_driven_by("af_packet"));
        assert!(!device.is_driven_by("af_p") && !device.is_driven_by("af_xdp"));
        assert_eq!(device.borrowed_interface(), Some("mr-out0"));
        assert_eq!(device.argument("qpairs"), Some("2"));
        assert_eq!(device.to_string(), "net_af_packet0,iface=mr-out0,qpairs=2");
        assert!(Device::parse("net_af_packet_outside").unwrap().is_driven_by("af_packet"));
        let tap = Device::parse("net_tap0,iface=mr0").unwrap();
        assert_eq!(tap.borrowed_interface(), None);
    }
}
