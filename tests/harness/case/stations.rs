//! The stations of the cases: a name, an address in either family, and the MACs of the appliance's ports.

use std::net::IpAddr;

use wire::MacAddr;

use super::Family;
use crate::packet::station;

/// Name, IPv4 address, IPv6 address. The appliance is `fixtures/two_ports.toml`.
const STATIONS: &[(&str, &str, &str)] = &[
    // On the link outside, in the zone `wan`.
    ("client", "198.51.100.7", "2001:db8:51::7"),
    ("other", "198.51.100.8", "2001:db8:51::8"),
    ("peer", "198.51.100.50", "2001:db8:51::50"),
    ("gateway", "198.51.100.254", "2001:db8:51::fe"),
    // Behind the gateway.
    ("far", "203.0.113.9", "2001:db8:99::9"),
    ("router", "203.0.113.1", "2001:db8:99::1"),
    // Nowhere: no route leads there.
    ("stranger", "192.0.2.1", "2001:db8:7777::1"),
    // On the link inside, in the zone `dmz`.
    ("server", "10.0.0.11", "2001:db8:10::11"),
    ("neighbor", "10.0.0.12", "2001:db8:10::12"),
    // The appliance's own: its ports, and what the policy `edge` adds.
    ("own", "198.51.100.1", "2001:db8:51::1"),
    ("inner-own", "10.0.0.1", "2001:db8:10::1"),
    ("service", "198.51.100.10", "2001:db8:51::10"),
    ("pool", "198.51.100.20", "2001:db8:51::20"),
    ("forward", "198.51.100.30", "2001:db8:51::30"),
];

/// What the rig gives its ports.
const PORTS: &[(&str, [u8; 6])] = &[("own-mac", [2, 0xff, 0, 0, 0, 1]), ("inner-mac", [2, 0xff, 0, 0, 0, 2])];

/// The address of a station, or the address written out.
pub(super) fn address(word: &str, family: Family) -> Result<IpAddr, String> {
    let known = STATIONS.iter().find(|(name, ..)| *name == word);
    let text = known.map_or(word, |(_, v4, v6)| if family == Family::V4 { v4 } else { v6 });
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("`{word}` is neither a station nor an address"))
}

/// A station with a port, as ends are written: `client:40000`, `203.0.113.9:5`, `[2001:db8::1]:80`.
pub(super) fn end(word: &str, family: Family) -> Result<String, String> {
    let (host, port) = word.rsplit_once(':').ok_or_else(|| format!("`{word}` needs a port, as in `client:40000`"))?;
    let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    Ok(crate::packet::end(&address(host, family)?.to_string(), port))
}

/// A MAC: of a port, of a station, `broadcast`, or written out.
pub(super) fn mac(word: &str, family: Family) -> Result<MacAddr, String> {
    if let Some((_, octets)) = PORTS.iter().find(|(name, _)| *name == word) {
        return Ok(MacAddr::new(*octets));
    }
    if word == "broadcast" {
        return Ok(MacAddr::BROADCAST);
    }
    let octets: Vec<u8> = word.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    if word.contains(':') {
        let octets = octets.try_into().map_err(|_| format!("`{word}` is no MAC"))?;
        return Ok(MacAddr::new(octets));
    }
    address(word, family).map(station).map_err(|_| format!("`{word}` is neither a MAC nor a station"))
}
