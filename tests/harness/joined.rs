//! A transparent pair between routers, and two routed ports beside it: what tests of packets in line begin with.

use units::PortId;
use wire::MacAddr;

use crate::packet::Packet;
use crate::{INSIDE, OUTSIDE, Rig, Side};

/// Two ports without addresses, joined, and two routed ones beside them.
pub const JOINED: &str = r#"
[appliance]
name = "bump"
[cores]
control = 0
workers = [1]
[dpdk]
hugepages = false
memory = "512MiB"
[sessions]
capacity = 8_192
[[port]]
name = "outside"
device = "net_ring0"
zone = "wan"
[[port]]
name = "inside"
device = "net_ring1"
zone = "dmz"
[[port]]
name = "east"
device = "net_ring2"
zone = "lan"
addresses = ["192.0.2.1/25", "2001:db8:e::1/64"]
[[port]]
name = "west"
device = "net_ring3"
zone = "lan"
addresses = ["192.0.2.129/25", "2001:db8:f::1/64"]
[[pair]]
ports = ["outside", "inside"]
"#;

/// Everything is allowed.
pub const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

/// The routed ports.
pub const EAST: Side = Side::Wire(PortId::new(2));
/// The other of them.
pub const WEST: Side = Side::Wire(PortId::new(3));

/// The station of a router outside, which no address of these tests has.
pub const ROUTER: MacAddr = MacAddr::new([2, 0xaa, 0, 0, 0, 1]);
/// That of a gateway inside.
pub const GATEWAY: MacAddr = MacAddr::new([2, 0xbb, 0, 0, 0, 2]);

/// On its way in, from the router outside to the gateway inside.
#[must_use]
pub fn inward(packet: Packet) -> Packet {
    packet.source_mac(ROUTER).destination_mac(GATEWAY)
}

/// On its way out.
#[must_use]
pub fn outward(packet: Packet) -> Packet {
    packet.source_mac(GATEWAY).destination_mac(ROUTER)
}

/// The other side of the pair.
#[must_use]
pub fn beyond(side: Side) -> Side {
    if side == OUTSIDE { INSIDE } else { OUTSIDE }
}

/// One packet in at this side, the same bytes out at the other.
pub fn passes(rig: &mut Rig, sentence: &str, side: Side, packet: &Packet) {
    rig.case(sentence, &[(side, packet.clone())], &[(beyond(side), packet.clone())], &[]);
}
