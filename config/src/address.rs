//! Addresses, prefixes and MAC addresses as operators write them, and which of them one station can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use toml::de::DeValue;
use wire::MacAddr;

use crate::kind::{Wrong, string};
use crate::nearest::quoted;

/// The address of one station: `"10.0.0.1"`, `"2001:db8::1"`.
pub(crate) fn host(value: &DeValue<'_>) -> Result<IpAddr, Wrong> {
    let written = string(value, "an IP address such as \"10.0.0.1\" or \"2001:db8::1\"")?;
    let Ok(address) = written.parse::<IpAddr>() else {
        let advice = match written.parse::<IpNet>() {
            Ok(net) => format!("write the one address, without a prefix length: \"{}\"", net.addr()),
            Err(_) => "write one such as \"10.0.0.1\" or \"2001:db8::1\"".to_owned(),
        };
        return Err(Wrong::new("bad-address", format!("{} is not an IP address", quoted(written)), advice));
    };
    one_station(address).map_err(|why| refused(written, why))?;
    Ok(address)
}

/// An address of the appliance with the prefix on the link: `"198.51.100.1/24"`. Host bits are kept.
pub(crate) fn on_link(value: &DeValue<'_>) -> Result<IpNet, Wrong> {
    let written = string(value, "an address with its prefix length such as \"10.0.0.1/24\" or \"2001:db8::1/64\"")?;
    let Ok(net) = written.parse::<IpNet>() else {
        return Err(match written.parse::<IpAddr>() {
            Ok(address) => {
                let length = if address.is_ipv4() { 24 } else { 64 };
                let advice = format!("write how much of it is the network on the link, such as \"{address}/{length}\"");
                Wrong::new("bad-address", format!("{} has no prefix length", quoted(written)), advice)
            }
            Err(_) => {
                let advice = "write one such as \"10.0.0.1/24\" or \"2001:db8::1/64\"";
                Wrong::new("bad-address", format!("{} is not an address with a prefix length", quoted(written)), advice)
            }
        });
    };
    one_station(net.addr()).map_err(|why| refused(written, why))?;
    if net.prefix_len() == 0 {
        let advice = "write the prefix that is on the link; what is reached through a router is a [[route]]";
        return Err(Wrong::new(
            "bad-address",
            format!("{} puts the whole Internet on the link", quoted(written)),
            advice,
        ));
    }
    let shared = net.max_prefix_len() - net.prefix_len() > 1;
    if shared && net.addr() == net.network() {
        let first = successor(net.addr());
        let advice = format!("write an address in it, such as \"{first}/{}\"", net.prefix_len());
        return Err(Wrong::new("bad-address", format!("{} is the network itself", quoted(written)), advice));
    }
    if shared && net.addr().is_ipv4() && net.addr() == net.broadcast() {
        let advice = "write another address of the network";
        return Err(Wrong::new(
            "bad-address",
            format!("{} is the broadcast address of its network", quoted(written)),
            advice,
        ));
    }
    Ok(net)
}

/// A set of addresses: `"10.0.0.0/8"`, or one address. Host bits must be zero.
pub(crate) fn prefix(value: &DeValue<'_>) -> Result<IpNet, Wrong> {
    let written = string(value, "an address or prefix such as \"10.0.0.0/24\" or \"2001:db8::/32\"")?;
    parse_prefix(written)
}

/// As [`prefix`], of a string.
pub(crate) fn parse_prefix(written: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = written.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let Ok(net) = written.parse::<IpNet>() else {
        let advice = match written {
            "any" | "all" | "*" => "leave the key out to match every address",
            _ => "write one such as \"10.0.0.0/24\", \"2001:db8::/32\" or \"10.0.0.1\"",
        };
        return Err(Wrong::new("bad-prefix", format!("{} is not an address or prefix", quoted(written)), advice));
    };
    if net.addr() != net.network() {
        let advice = format!("write \"{}\" for the network, or \"{}\" for the one address", net.trunc(), net.addr());
        return Err(Wrong::new("bad-prefix", format!("{} has bits set behind its prefix", quoted(written)), advice));
    }
    Ok(net)
}

/// A MAC address of one station: `"02:00:00:00:00:01"`.
pub(crate) fn mac(value: &DeValue<'_>) -> Result<MacAddr, Wrong> {
    let written = string(value, "a MAC address such as \"02:00:00:00:00:01\"")?;
    let Ok(mac) = written.parse::<MacAddr>() else {
        let advice = "write six pairs of hexadecimal digits, such as \"02:00:00:00:00:01\"";
        return Err(Wrong::new("bad-mac", format!("{} is not a MAC address", quoted(written)), advice));
    };
    if mac == MacAddr::ZERO || mac.is_multicast() {
        let advice = "write the address of one station: not all zero, the second digit even";
        return Err(Wrong::new("bad-mac", format!("{} is no station's MAC address", quoted(written)), advice));
    }
    Ok(mac)
}

fn refused(written: &str, why: &str) -> Wrong {
    Wrong::new("bad-address", format!("{} is {why}", quoted(written)), "write the address of one station")
}

/// Why no station of a network can have this address.
fn one_station(address: IpAddr) -> Result<(), &'static str> {
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Err("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Err("in 0.0.0.0/8, \"this network\""),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Err("in 240.0.0.0/4, which is reserved"),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Err("the unspecified address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err("an IPv4 address in IPv6 spelling"),
        _ if address.is_multicast() => Err("a multicast address"),
        _ if address.is_loopback() => Err("a loopback address"),
        _ => Ok(()),
    }
}

/// The address one higher.
fn successor(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().wrapping_add(1))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits().wrapping_add(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(written: &str) -> DeValue<'_> {
        DeValue::String(written.into())
    }

    #[test]
    fn hosts_are_addresses_one_station_can_have() {
        assert_eq!(host(&value("2001:db8::1")).unwrap().to_string(), "2001:db8::1");
        for (written, says) in [
            ("10.0.0.1/24", "is not an IP address"),
            ("10.0.0.256", "is not an IP address"),
            ("010.0.0.1", "is not an IP address"),
            ("fe80::1%eth0", "is not an IP address"),
            ("0.0.0.0", "this network"),
            ("0.1.2.3", "this network"),
            ("255.255.255.255", "broadcast"),
            ("250.0.0.1", "reserved"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::", "unspecified"),
            ("::ffff:10.0.0.1", "IPv4 address in IPv6"),
        ] {
            let wrong = host(&value(written)).unwrap_err();
            assert!(wrong.predicate.contains(says), "{written}: {}", wrong.predicate);
        }
        assert!(host(&value("10.0.0.1/24")).unwrap_err().advice.ends_with("\"10.0.0.1\""));
    }

    #[test]
    fn addresses_on_a_link_keep_their_host_bits() {
        assert_eq!(on_link(&value("10.0.0.1/24")).unwrap().to_string(), "10.0.0.1/24");
        for point_to_point in ["10.0.0.0/31", "10.0.0.1/31", "10.0.0.0/32", "2001:db8::/127", "2001:db8::/128"] {
            assert!(on_link(&value(point_to_point)).is_ok(), "{point_to_point}");
        }
        for (written, advice) in [
            ("10.0.0.1", "such as \"10.0.0.1/24\""),
            ("2001:db8::1", "such as \"2001:db8::1/64\""),
            ("10.0.0.0/24", "such as \"10.0.0.1/24\""),
            ("2001:db8::/64", "such as \"2001:db8::1/64\""),
            ("10.0.0.255/24", "another address"),
            ("10.0.0.1/33", "such as \"10.0.0.1/24\""),
            ("10.0.0.1/0", "[[route]]"),
            ("eth0", "such as \"10.0.0.1/24\""),
        ] {
            let wrong = on_link(&value(written)).unwrap_err();
            assert!(wrong.advice.contains(advice), "{written}: {}", wrong.advice);
        }
    }

    #[test]
    fn prefixes_have_no_host_bits() {
        assert_eq!(prefix(&value("10.0.0.1")).unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(prefix(&value("::/0")).unwrap().to_string(), "::/0");
        let wrong = prefix(&value("10.0.0.5/24")).unwrap_err();
        assert_eq!(wrong.advice, "write \"10.0.0.0/24\" for the network, or \"10.0.0.5\" for the one address");
        assert!(prefix(&value("any")).unwrap_err().advice.contains("leave the key out"));
    }

    #[test]
    fn macs_are_of_one_station() {
        assert!(mac(&value("02:00:00:00:00:01")).is_ok());
        for bad in ["", "02:00:00:00:00", "02-0", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
            assert_eq!(mac(&value(bad)).unwrap_err().code, "bad-mac", "{bad}");
        }
    }
}
