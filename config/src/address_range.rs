//! Several addresses in one word: `"198.51.100.8"`, `"198.51.100.8/29"`, `"198.51.100.8-198.51.100.15"`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use toml::de::DeValue;

use crate::address::{host, prefix};
use crate::kind::{Wrong, string};
use crate::nearest::quoted;

/// Addresses from the first to the last, both included and of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl AddressRange {
    /// How many addresses there are; `u128::MAX` stands for all of IPv6.
    pub(crate) fn len(self) -> u128 {
        (bits(self.last) - bits(self.first)).saturating_add(1)
    }

    /// The addresses, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = IpAddr> {
        (bits(self.first)..=bits(self.last)).map(move |bits| match self.first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        })
    }
}

/// One address, a prefix, or the first and the last address with a dash between them.
pub(crate) fn address_range(value: &DeValue<'_>) -> Result<AddressRange, Wrong> {
    let wanted = "an address, a prefix or a range such as \"198.51.100.8-198.51.100.15\"";
    let written = string(value, wanted)?;
    let one = |text: &str| host(&DeValue::String(text.into()));
    if let Some((first, last)) = written.split_once('-') {
        let (first, last) = (one(first)?, one(last)?);
        if first.is_ipv4() != last.is_ipv4() {
            let advice = "write two addresses of one version";
            return Err(Wrong::new("bad-address", format!("{} mixes IPv4 and IPv6", quoted(written)), advice));
        }
        if first > last {
            let advice = format!("write the lower address first: \"{last}-{first}\"");
            return Err(Wrong::new("bad-address", format!("{} runs backwards", quoted(written)), advice));
        }
        return Ok(AddressRange { first, last });
    }
    if !written.contains('/') {
        return one(written).map(|address| AddressRange { first: address, last: address });
    }
    let net: IpNet = prefix(value)?;
    // What no station can have is not in the middle of a prefix that begins and ends with addresses of stations.
    let (first, last) = (net.network(), net.broadcast());
    one(&first.to_string())?;
    one(&last.to_string())?;
    Ok(AddressRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Result<AddressRange, Wrong> {
        address_range(&DeValue::String(written.into()))
    }

    #[test]
    fn addresses_prefixes_and_ranges() {
        for (written, first, last, len) in [
            ("198.51.100.8", "198.51.100.8", "198.51.100.8", 1),
            ("198.51.100.8/29", "198.51.100.8", "198.51.100.15", 8),
            ("198.51.100.8-198.51.101.7", "198.51.100.8", "198.51.101.7", 256),
            ("2001:db8::/126", "2001:db8::", "2001:db8::3", 4),
            ("2001:db8::8-2001:db8::9", "2001:db8::8", "2001:db8::9", 2),
        ] {
            let range = read(written).unwrap();
            assert_eq!((range.len(), range.iter().count()), (len, usize::try_from(len).unwrap()), "{written}");
            assert_eq!(range.iter().next(), Some(first.parse().unwrap()));
            assert_eq!(range.iter().last(), Some(last.parse().unwrap()));
        }
        assert!(read("2001:db8::/1").is_err() && read("8000::/1").is_err());
    }

    #[test]
    fn what_is_no_range_of_stations_is_refused() {
        for (written, says) in [
            ("198.51.100.15-198.51.100.8", "runs backwards"),
            ("198.51.100.8-2001:db8::1", "mixes"),
            ("198.51.100.8-", "is not an IP address"),
            ("198.51.100.8/28", "bits set"),
            ("0.0.0.0/0", "this network"),
            ("224.0.0.0/4", "multicast"),
            ("any", "is not an IP address"),
        ] {
            let wrong = read(written).unwrap_err();
            assert!(wrong.predicate.contains(says), "{written}: {}", wrong.predicate);
        }
        assert_eq!(read("::3-::2").unwrap_err().advice, "write the lower address first: \"::2-::3\"");
    }
}
