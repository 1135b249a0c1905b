//! DPDK device strings: what they name, so that two ports do not take one device, and what cannot be one.

/// What a device string names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device<'w> {
    /// The device: a PCI address, or a driver and a number.
    name: &'w str,
    /// Its arguments, `key=value` between commas.
    arguments: &'w str,
}

impl<'w> Device<'w> {
    /// # Errors
    /// Why it is not a device string, and what to write.
    pub(crate) fn parse(written: &'w str) -> Result<Self, (String, String)> {
        let example =
            "write a PCI address such as \"0000:3b:02.0\" or a virtual device such as \"net_af_packet0,iface=eth1\"";
        let (name, arguments) = written.split_once(',').unwrap_or((written, ""));
        if name.is_empty() || written.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            return Err(("is not a DPDK device".into(), example.into()));
        }
        if pci(name).is_some() || name.contains(':') || is_bus_name(name) {
            return Ok(Self { name, arguments });
        }
        let driver = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        if driver.starts_with("net_") || driver == "virtio_user" {
            if driver.len() == name.len() {
                let advice = format!("number it: \"{}\"", written.replacen(name, &format!("{name}0"), 1));
                return Err(("names a driver without a number".into(), advice));
            }
            if matches!(driver, "net_af_packet" | "net_af_xdp") && !arguments.contains("iface=") {
                let advice = format!("say which Linux interface it takes: \"{written},iface=eth1\"");
                return Err(("does not say its interface".into(), advice));
            }
            return Ok(Self { name, arguments });
        }
        let advice = if is_interface_name(name) && arguments.is_empty() {
            format!(
                "for the Linux interface {name} write \"net_af_packet0,iface={name}\"; or write the PCI address of a NIC"
            )
        } else {
            example.to_owned()
        };
        Err(("is not a DPDK device".into(), advice))
    }

    /// The device in one spelling: PCI addresses with their domain, in lower case.
    pub(crate) fn identity(&self) -> String {
        match pci(self.name) {
            Some(address) => address,
            None => self.name.to_owned(),
        }
    }

    /// What of it only one process can have: the interface it takes, else the address on a bus.
    pub(crate) fn exclusive(&self) -> Option<String> {
        let on_a_bus = pci(self.name).is_some() || self.name.contains(':') || is_bus_name(self.name);
        self.interface().map(str::to_owned).or_else(|| on_a_bus.then(|| self.identity()))
    }

    /// The Linux interface it takes, when it takes one.
    pub(crate) fn interface(&self) -> Option<&'w str> {
        self.arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
    }
}

/// Whether the kernel would take this as an interface's name: 1 to 15 bytes, and nothing a path or an alias needs.
pub(crate) fn is_interface_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_graphic() && !"/:%@\"'\\".contains(letter);
    (1..=15).contains(&name.len()) && name != "." && name != ".." && name.chars().all(allowed)
}

/// The full PCI address, in lower case, when `name` is one: `3b:02.0` or `0000:3b:02.0`.
fn pci(name: &str) -> Option<String> {
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (slot, function) = name.rsplit_once('.')?;
    let mut parts = slot.rsplit(':');
    let (device, bus, domain) = (parts.next()?, parts.next()?, parts.next());
    let domain_fits = domain.is_none_or(|domain| hex(domain, 4) || hex(domain, 8));
    let shaped = hex(device, 2) && hex(bus, 2) && hex(function, 1) && domain_fits && parts.next().is_none();
    shaped.then(|| format!("{}:{bus}:{device}.{function}", domain.unwrap_or("0000")).to_ascii_lowercase())
}

/// Devices of the `VMBus` are named by a UUID.
fn is_bus_name(name: &str) -> bool {
    name.len() == 36 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_as_dpdk_users_write_them() {
        for good in [
            "0000:3b:02.0",
            "3b:02.1",
            "0000:3b:02.0,representor=0",
            "net_af_packet0,iface=mr-out0",
            "net_af_xdp12,iface=eth1,start_queue=0",
            "net_tap0",
            "net_memif0,role=server",
            "net_pcap0,rx_pcap=a.pcap,tx_pcap=b.pcap",
            "net_ring0",
            "net_null0,no-rx=1",
            "net_virtio_user0,path=/dev/vhost-net",
            "virtio_user0,path=/dev/vhost-net",
            "auxiliary:mlx5_core.sf.4",
            "7fb1e4b1-f2d4-4e0f-b1c5-2ad5f9d1a5c3",
        ] {
            assert!(Device::parse(good).is_ok(), "{good}");
        }
        for (bad, advice) in [
            ("", "PCI address"),
            ("eth0", "\"net_af_packet0,iface=eth0\""),
            ("net_tap", "\"net_tap0\""),
            ("net_null,no-rx=1", "\"net_null0,no-rx=1\""),
            ("net_af_packet0", "\"net_af_packet0,iface=eth1\""),
            ("net_tap0, iface=a", "PCI address"),
        ] {
            let (_, says) = Device::parse(bad).unwrap_err();
            assert!(says.contains(advice), "{bad}: {says}");
        }
    }

    #[test]
    fn one_pci_address_has_one_identity() {
        let identity = |written| Device::parse(written).unwrap().identity();
        assert_eq!(identity("3B:02.0"), identity("0000:3b:02.0,a=b"));
        assert_ne!(identity("3b:02.0"), identity("3b:02.1"));
        assert_eq!(Device::parse("net_af_packet0,qpairs=1,iface=eth9").unwrap().interface(), Some("eth9"));
        let exclusive = |device| Device::parse(device).unwrap().exclusive();
        assert_eq!(exclusive("3B:02.1,a=b"), exclusive("0000:3b:02.1"));
        assert_eq!(exclusive("net_af_xdp3,iface=eth9").as_deref(), Some("eth9"));
        assert_eq!((exclusive("net_null0"), exclusive("net_ring0")), (None, None));
    }
}
