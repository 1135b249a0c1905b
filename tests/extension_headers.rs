//! IPv6 extension headers that ask something of the routers on the way (EVA-10): what is refused, and what a zone lets in.

use millrace_tests::packet::{Packet, udp};
use millrace_tests::{INSIDE, OUTSIDE, Rig, Side, Talk};
use stage::DropReason::{FirewallDenied, HopByHopRefused, RoutingHeaderRefused};
use wire::Malformed;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";
const CLIENT: &str = "[2001:db8:51::7]:40000";
const SERVER: &str = "[2001:db8:10::11]:53";

/// On its way to one more station after the one it names as destination.
fn routed_on(kind: u8) -> Packet {
    let mut header = vec![2, kind, 1, 0, 0, 0, 0];
    header.extend("2001:db8:10::12".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    udp(CLIENT, SERVER).extension(43, &header)
}

fn options() -> Packet {
    udp(CLIENT, SERVER).extension(0, &[0, 1, 4, 0, 0, 0, 0])
}

fn passage(packet: &Packet) -> ((Side, Packet), (Side, Packet)) {
    ((OUTSIDE, packet.clone()), (INSIDE, packet.clone().routed()))
}

/// RFC 9288 section 3.4.2: whoever names further stations is refused, of whatever type, also in a session that exists; type 0
/// is no packet at all (RFC 5095).
#[test]
fn routing_headers_with_segments_left_are_refused() {
    let mut rig = Rig::new(ALLOW);
    let packets: Vec<_> = (1..=255).map(|kind| (OUTSIDE, routed_on(kind))).collect();
    rig.drops_all("new", &packets, RoutingHeaderRefused);
    rig.drops_all("type 0", &[(OUTSIDE, routed_on(0))], Malformed::Ipv6RoutingType0);
    assert_eq!(rig.session_count(), 0);
    let talk = Talk::udp((OUTSIDE, CLIENT, SERVER), (INSIDE, CLIENT, SERVER));
    rig.passes("plain", talk.up(|p| p));
    rig.drops_all("of the session", &[(OUTSIDE, routed_on(4))], RoutingHeaderRefused);
    let twice = routed_on(4).extension(43, &[0, 4, 1, 0, 0, 0, 0]);
    rig.drops_all("two of them", &[(OUTSIDE, twice)], Malformed::Ipv6ExtensionOrder);
}

/// A zone lets types in by name. What they carry is not the destination's: rules see protocol 43, and no ports.
#[test]
fn a_zone_lets_types_of_routing_headers_in() {
    let zone = "[[zone]]\nname = \"wan\"\nrouting_headers = [4]\n";
    let mut rig = Rig::new(&format!("{ALLOW}{zone}"));
    rig.passes("segment routing", passage(&routed_on(4)));
    rig.drops_all("another type", &[(OUTSIDE, routed_on(3))], RoutingHeaderRefused);
    let back = udp(SERVER, CLIENT).extension(43, &[0, 4, 1, 0, 0, 0, 0]);
    rig.drops_all("from a zone that lets none in", &[(INSIDE, back)], RoutingHeaderRefused);

    let rule = |protocol: &str| {
        format!("{zone}[[firewall.rule]]\nname = \"in\"\naction = \"allow\"\nfrom = [\"wan\"]\nprotocol = {protocol}\n")
    };
    let mut rig = Rig::new(&rule("\"udp\""));
    rig.drops_all("no UDP yet", &[(OUTSIDE, routed_on(4))], FirewallDenied);
    let mut rig = Rig::new(&rule("43"));
    rig.passes("by its own number", passage(&routed_on(4)));
    rig.drops_all("and nothing else", &[(OUTSIDE, udp(CLIENT, SERVER))], FirewallDenied);
}

/// In fragments as well: the datagram is judged whole.
#[test]
fn fragments_do_not_hide_a_routing_header() {
    let cut = |kind| -> Vec<_> {
        let whole = routed_on(kind).data(&[7; 1_000]);
        whole.pieces(504).into_iter().map(|piece| (OUTSIDE, piece)).collect()
    };
    let mut rig = Rig::new(ALLOW);
    rig.drops_all("refused", &cut(4), RoutingHeaderRefused);
    let mut rig = Rig::new(&format!("{ALLOW}[[zone]]\nname = \"wan\"\nrouting_headers = [4]\n"));
    let pieces = cut(4);
    let passed: Vec<_> = pieces.iter().map(|(_, piece)| (INSIDE, piece.clone().routed())).collect();
    rig.case("let in", &pieces, &passed, &[]);
}

/// Hop-by-hop options pass unless the zone refuses them, first packets and later ones.
#[test]
fn a_zone_may_refuse_hop_by_hop_options() {
    let mut rig = Rig::new(ALLOW);
    rig.passes("they pass", passage(&options()));
    let mut rig = Rig::new(&format!("{ALLOW}[[zone]]\nname = \"wan\"\nhop_by_hop = false\n"));
    rig.drops_all("new", &[(OUTSIDE, options())], HopByHopRefused);
    let talk = Talk::udp((OUTSIDE, CLIENT, SERVER), (INSIDE, CLIENT, SERVER));
    rig.passes("without", talk.up(|p| p));
    rig.drops_all("of the session", &[(OUTSIDE, options())], HopByHopRefused);
    rig.passes("without", talk.up(|p| p));
    let inside = udp(SERVER, "[2001:db8:51::8]:1").extension(0, &[0, 1, 4, 0, 0, 0, 0]);
    rig.passes("another zone", ((INSIDE, inside.clone()), (OUTSIDE, inside.routed())));
}
