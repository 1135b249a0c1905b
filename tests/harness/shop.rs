//! A shop with backends: the policies that tests of the balancer are about, and who is chosen in them.

use crate::packet::{station, tcp};
use crate::rig::{INSIDE, OUTSIDE, Rig};
use crate::talk::{OPENER, Talk};

/// Everything may pass.
pub const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";
/// Who asks.
pub const CLIENT: &str = "198.51.100.7:40000";
/// Who asks in IPv6.
pub const CLIENT6: &str = "[2001:db8:51::7]:40000";
/// What is asked for.
pub const SHOP: &str = "198.51.100.10:80";
/// What is asked for in IPv6.
pub const SHOP6: &str = "[2001:db8:51::10]:80";

/// A service on the given address; `more` are its further keys.
#[must_use]
pub fn service(address: &str, more: &str) -> String {
    format!(
        "[[virtual_service]]\nname = \"shop\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
         health = {{ kind = \"icmp\" }}\n{more}\n"
    )
}

/// A backend of the service before it; `more` are its further keys.
#[must_use]
pub fn backend(name: &str, address: &str, more: &str) -> String {
    format!("[[virtual_service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}\n")
}

/// Three backends on port 8080.
#[must_use]
pub fn three(more: &str) -> String {
    [("a", "10.0.0.11"), ("b", "10.0.0.12"), ("c", "10.0.0.13")]
        .map(|(name, address)| backend(name, address, &format!("port = 8080\n{more}")))
        .concat()
}

/// A policy of this service and these backends, where everything may pass.
#[must_use]
pub fn shop(keys: &str, backends: &str) -> String {
    format!("{ALLOW}{}{backends}", service("198.51.100.10", keys))
}

/// A client's connection to the shop by way of this backend, nothing but the destination rewritten.
#[must_use]
pub fn by_way_of(client: &str, server: &str) -> Talk {
    Talk::tcp((OUTSIDE, client, SHOP), (INSIDE, client, server))
}

/// The backend a SYN of this client goes to, read off the destination MAC.
pub fn choice(rig: &mut Rig, client: &str) -> String {
    rig.put(OUTSIDE, &tcp(client, SHOP).syn().seq(OPENER));
    rig.settle();
    let out = rig.take();
    let [(INSIDE, bytes)] = out.as_slice() else { panic!("one packet inside: {out:?}") };
    (11..20)
        .map(|last| format!("10.0.0.{last}"))
        .find(|address| bytes[..6] == station(address.parse().unwrap()).octets())
        .expect("the MAC of a backend")
}
