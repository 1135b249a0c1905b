//! Tenants, told by the VLANs of their frames on a pair of ports: the same addresses in each, and nothing of one tenant's
//! conversations, fragments, errors and limits is another's (SE-45, STX-09).

use std::net::Ipv4Addr;

use millrace_tests::joined::{self, ALLOW, EAST, GATEWAY, JOINED, ROUTER, WEST, beyond, passes};
use millrace_tests::packet::{Packet, arp_request, host, icmp_error, ping, pong, station, tcp, udp};
use millrace_tests::rig::Layout;
use millrace_tests::{INSIDE, OUTSIDE, Rig, Side};
use session::{HashSecret, Kind, NewSession, Table, Tuple};
use stage::DropReason::{
    FirewallDenied, FragmentOverlap, IcmpErrorUnmatched, NoSession, SourceRateLimited, SourceSessionsLimited,
    TcpOutOfWindow, UnknownVlan,
};
use units::limits::KERNEL_SESSIONS;
use units::{Nanos, TenantId, Tick};
use worker::{SessionRecord, Turn};

/// Two tenants; nobody has VLAN 7.
const TWO: &str =
    "[[tenant]]\nname = \"acme\"\nvlans = [100, \"110-119\"]\n[[tenant]]\nname = \"burns\"\nvlans = [200]\n";
const ACME: u16 = 100;
const BURNS: u16 = 200;
const NOBODY: u16 = 7;

/// A client outside and a server inside, of each family: of every tenant.
const ENDS: [(&str, &str); 2] = [("10.0.0.7:40000", "10.0.0.80:80"), ("[fd00::7]:40000", "[fd00::80]:80")];

fn trunk(more: &str) -> Rig {
    Rig::of(&format!("{JOINED}{ALLOW}{more}"))
}

fn inward(packet: Packet, vlan: u16) -> Packet {
    joined::inward(packet).tagged(vlan)
}

fn outward(packet: Packet, vlan: u16) -> Packet {
    joined::outward(packet).tagged(vlan)
}

/// Packets in at this side, in one go, and out at the other.
fn all_pass(rig: &mut Rig, sentence: &str, side: Side, packets: &[Packet]) {
    let put = |side| packets.iter().map(|packet| (side, packet.clone())).collect::<Vec<_>>();
    rig.case(sentence, &put(side), &put(beyond(side)), &[]);
}

/// The connection from `client` to `server` in this VLAN, with sequence numbers from these on.
fn connects(rig: &mut Rig, (client, server): (&str, &str), vlan: u16, (client_from, server_from): (u32, u32)) {
    passes(rig, "SYN", OUTSIDE, &inward(tcp(client, server).syn().seq(client_from), vlan));
    passes(rig, "SYN-ACK", INSIDE, &outward(tcp(server, client).syn_ack(client_from + 1).seq(server_from), vlan));
    passes(rig, "ACK", OUTSIDE, &inward(tcp(client, server).ack(server_from + 1).seq(client_from + 1), vlan));
}

fn name(session: &SessionRecord) -> Option<&str> {
    session.tenant.as_ref().map(|tenant| tenant.name.as_str())
}

/// The names of the tenants of all sessions, in order.
fn tenants(rig: &mut Rig) -> Vec<Option<String>> {
    let mut names: Vec<_> = rig.sessions().iter().map(|session| name(session).map(str::to_owned)).collect();
    names.sort();
    names
}

/// STX-09: the same tuples in a thousand tenants are a thousand sessions, each in its own state.
#[test]
fn a_thousand_tenants_with_the_same_tuples() {
    const TENANTS: u16 = 1_000;
    let each: String =
        (1..=TENANTS).map(|vlan| format!("[[tenant]]\nname = \"t{vlan:04}\"\nvlans = [{vlan}]\n")).collect();
    let mut rig = trunk(&each);
    for (client, server) in ENDS {
        // Each has numbers of its own, far from those of the others.
        let from = |vlan: u16| u32::from(vlan) * 4_000_000;
        let of_all = |packet: &dyn Fn(u16) -> Packet| (1..=TENANTS).map(packet).collect::<Vec<_>>();
        let up = |vlan| tcp(client, server).seq(from(vlan) + 1).ack(from(vlan) + 9_001);
        let syns = of_all(&|vlan| inward(tcp(client, server).syn().seq(from(vlan)), vlan));
        all_pass(&mut rig, "SYN", OUTSIDE, &syns);
        let answers =
            of_all(&|vlan| outward(tcp(server, client).syn_ack(from(vlan) + 1).seq(from(vlan) + 9_000), vlan));
        all_pass(&mut rig, "SYN-ACK", INSIDE, &answers);
        all_pass(&mut rig, "ACK", OUTSIDE, &of_all(&|vlan| inward(up(vlan), vlan)));
        // Every third is reset; the others' data pass, with nobody's numbers but their own.
        let reset = |vlan: &u16| vlan.is_multiple_of(3);
        let resets: Vec<_> = (1..=TENANTS)
            .filter(reset)
            .map(|vlan| inward(tcp(client, server).rst().seq(from(vlan) + 1), vlan))
            .collect();
        all_pass(&mut rig, "RST", OUTSIDE, &resets);
        let alive: Vec<u16> = (1..=TENANTS).filter(|vlan| !reset(vlan)).collect();
        let data: Vec<_> = alive.iter().map(|&vlan| inward(up(vlan).data(b"GET /"), vlan)).collect();
        all_pass(&mut rig, "data", OUTSIDE, &data);
        let late = |vlan: &u16| (OUTSIDE, inward(up(*vlan).data(b"x").seq(from(*vlan) + 2_000_001), *vlan));
        let blind: Vec<_> = alive.iter().map(late).collect();
        rig.drops_all("EVA-19: another tenant's numbers", &blind, TcpOutOfWindow);
    }
    let sessions = rig.sessions();
    assert_eq!(sessions.len(), 2 * usize::from(TENANTS));
    for vlan in 1..=TENANTS {
        let own: Vec<_> =
            sessions.iter().filter(|session| name(session) == Some(format!("t{vlan:04}").as_str())).collect();
        let closed = own.iter().filter(|session| session.state.is_over()).count();
        assert_eq!((own.len(), closed), (2, if vlan.is_multiple_of(3) { 2 } else { 0 }), "{vlan}");
    }
}

/// Frames without a VLAN, and in VLANs that nobody has, are of one space of addresses, as without tenants; by the outermost
/// tag, whatever is inside.
#[test]
fn the_outermost_vlan_tells_the_tenant() {
    let mut rig = trunk(TWO);
    for ((client, server), before) in ENDS.into_iter().zip([0, 3]) {
        let up = || tcp(client, server).seq(1001).ack(5001);
        connects(&mut rig, (client, server), ACME, (1000, 5000));
        passes(&mut rig, "another VLAN of the tenant", OUTSIDE, &inward(up().data(b"a"), 115));
        passes(&mut rig, "others' VLANs inside", OUTSIDE, &inward(up().data(b"a").tagged(BURNS).tagged(NOBODY), ACME));
        let provider = up().data(b"a").source_mac(ROUTER).destination_mac(GATEWAY).tagged_as(0x88a8, ACME);
        passes(&mut rig, "a provider's tag", OUTSIDE, &provider);
        assert_eq!(rig.session_count(), before + 1);
        let others = [inward(up(), BURNS), inward(up().tagged(ACME), NOBODY), inward(up(), 0), inward(up(), 4095)];
        for packet in others {
            rig.drops_all("of another's connection", &[(OUTSIDE, packet)], NoSession);
        }
        let plain = up().source_mac(ROUTER).destination_mac(GATEWAY);
        rig.drops_all("without a VLAN", &[(OUTSIDE, plain.clone())], NoSession);
        connects(&mut rig, (client, server), NOBODY, (1000, 5000));
        passes(&mut rig, "nobody's, without a VLAN", OUTSIDE, &plain);
        passes(&mut rig, "nobody's, with a priority", OUTSIDE, &inward(up(), 0));
        connects(&mut rig, (client, server), BURNS, (70_000_000, 90_000_000));
        assert_eq!(rig.session_count(), before + 3);
    }
    let names = [None, None, Some("acme"), Some("acme"), Some("burns"), Some("burns")];
    assert_eq!(tenants(&mut rig), names.map(|name| name.map(str::to_owned)));
}

/// A client whose connection with [`ENDS`]'s server looks in the index like that of the first tenant's client of the same
/// address and port: under the secret that rigs have, in tables of this size.
const ALIKE: &str = "10.55.201.183:1026";

/// Whether a packet of nobody's finds the first tenant's session where it looks first. True where the processor has AES, which
/// hashes are made with.
fn is_alike() -> bool {
    let mut table = Table::new(8_192 + KERNEL_SESSIONS, HashSecret::from_seed(0x5eed)).unwrap();
    let (source, destination) = (Ipv4Addr::new(10, 55, 201, 183), Ipv4Addr::new(10, 0, 0, 80));
    let tuple = Tuple { source, destination, source_port: 1026, destination_port: 80 };
    let tenants = NewSession { tenant: TenantId::new(1), ..NewSession::new(Kind::Tcp, tuple, tuple.reversed()) };
    let slot = table.insert(&tenants, Tick::new(0)).unwrap();
    let hash = table.hash(Kind::Tcp, &tuple);
    let found = table.lookup_hinted(table.prefetch_session(hash), hash, Kind::Tcp, tuple.into());
    found.is_some_and(|(found, _)| found == slot) && table.lookup(hash, Kind::Tcp, &tuple).is_none()
}

/// A plain packet, which is looked up by its tuple alone, never passes as one of a tenant's session.
#[test]
fn a_plain_packet_that_looks_like_a_tenants_is_its_own() {
    #[cfg(target_arch = "x86_64")]
    assert!(is_alike() || !std::arch::is_x86_feature_detected!("aes"), "another client has to be found");
    let (_, server) = ENDS[0];
    let untagged = |packet: Packet, side| match side {
        OUTSIDE => (OUTSIDE, packet.source_mac(ROUTER).destination_mac(GATEWAY)),
        other => (other, packet.source_mac(GATEWAY).destination_mac(ROUTER)),
    };
    let plain = |rig: &mut Rig| {
        let up = |what: &dyn Fn(Packet) -> Packet| untagged(what(tcp(ALIKE, server)), OUTSIDE);
        for (side, packet) in [
            up(&|p| p.syn().seq(70_000_000)),
            untagged(tcp(server, ALIKE).syn_ack(70_000_001).seq(90_000_000), INSIDE),
            up(&|p| p.ack(90_000_001).seq(70_000_001)),
            up(&|p| p.ack(90_000_001).seq(70_000_001).data(b"GET /")),
        ] {
            passes(rig, "nobody's", side, &packet);
        }
        let (_, acmes) = up(&|p| p.ack(5001).seq(1001).data(b"x"));
        rig.drops_all("a tenant's numbers, without its VLAN", &[(OUTSIDE, acmes)], TcpOutOfWindow);
    };
    for tenant_first in [true, false] {
        let mut rig = trunk(TWO);
        if tenant_first {
            connects(&mut rig, (ALIKE, server), ACME, (1000, 5000));
            plain(&mut rig);
        } else {
            plain(&mut rig);
            connects(&mut rig, (ALIKE, server), ACME, (1000, 5000));
        }
        let data = inward(tcp(ALIKE, server).ack(5001).seq(1001).data(b"x"), ACME);
        passes(&mut rig, "the tenant's goes on", OUTSIDE, &data);
        assert_eq!(tenants(&mut rig), [None, Some("acme".to_owned())]);
    }
    // The routed plain path looks at the same table.
    let routes =
        "[[route]]\nto = \"10.0.0.80\"\nvia = \"192.0.2.130\"\n[[route]]\nto = \"10.55.0.0/16\"\nvia = \"192.0.2.2\"\n";
    let mut rig = trunk(&format!("{TWO}{routes}"));
    connects(&mut rig, (ALIKE, server), ACME, (1000, 5000));
    let syn = tcp(ALIKE, server).syn().seq(70_000_000);
    let left = syn.clone().routed().via("192.0.2.130");
    rig.case("routed", &[(EAST, syn)], &[(WEST, left)], &[]);
    assert_eq!(tenants(&mut rig), [None, Some("acme".to_owned())]);
}

/// What is for the appliance's own station is nobody's, and frames with a tag are not taken there.
#[test]
fn nothing_that_is_routed_has_a_tenant() {
    let ports = JOINED.replace("zone = \"wan\"\n", "zone = \"wan\"\naddresses = [\"198.51.100.1/24\"]\n");
    let mut rig = Rig::of(&format!("{ports}{ALLOW}{TWO}"));
    let here = rig.mac(OUTSIDE);
    let tagged = ping("198.51.100.9", "198.51.100.1", 4).destination_mac(here).tagged(ACME);
    rig.drops_all("a tag, to the port itself", &[(OUTSIDE, tagged)], UnknownVlan);
    let elsewhere = udp("192.0.2.7:1", "192.0.2.200:53");
    rig.drops_all("a tag at a routed port", &[(EAST, elsewhere.clone().tagged(ACME))], UnknownVlan);
    let same = udp("192.0.2.7:1", "192.0.2.200:53").source_mac(ROUTER).destination_mac(GATEWAY);
    passes(&mut rig, "a tenant's conversation", OUTSIDE, &same.clone().tagged(ACME));
    rig.case("the same addresses are routed", &[(EAST, elsewhere.clone())], &[(WEST, elsewhere.routed())], &[]);
    passes(&mut rig, "and pass in line with another tenant", OUTSIDE, &same.tagged(BURNS));
    assert_eq!(tenants(&mut rig), [None, Some("acme".to_owned()), Some("burns".to_owned())]);
    rig.overhear();
    let asks = arp_request("198.51.100.7", "198.51.100.1").tagged(ACME);
    passes(&mut rig, "in a tenant's VLAN others may have the appliance's address", OUTSIDE, &asks);
}

/// RFC 791, RFC 8200: fragments belong together by addresses and identification, of one tenant.
#[test]
fn fragments_of_two_tenants_with_the_same_identification() {
    let mut rig = trunk(TWO);
    for (client, server) in ENDS {
        let pieces = |fill: u8, vlan| -> Vec<Packet> {
            let pieces = udp(client, server).data(&[fill; 3000]).id(77).pieces(1480);
            pieces.into_iter().map(|piece| inward(piece, vlan)).collect()
        };
        let (acmes, burnss, nobodys) = (pieces(1, ACME), pieces(2, BURNS), pieces(3, NOBODY));
        for mixed in [&acmes[1], &burnss[0], &nobodys[1], &burnss[1], &nobodys[0], &acmes[0]] {
            rig.case("not whole yet", &[(OUTSIDE, mixed.clone())], &[], &[]);
        }
        for whole in [&nobodys, &acmes, &burnss] {
            let out: Vec<_> = whole.iter().map(|piece| (INSIDE, piece.clone())).collect();
            rig.case("the last of one tenant's", &[(OUTSIDE, whole[2].clone())], &out, &[]);
        }
        let evil = &pieces(6, BURNS)[0];
        let put = [(OUTSIDE, acmes[0].clone()), (OUTSIDE, burnss[0].clone()), (OUTSIDE, evil.clone())];
        rig.case("EVA-03: one tenant's contradict each other", &put, &[], &[FragmentOverlap; 2]);
        let rest: Vec<_> = acmes[1..].iter().map(|piece| (OUTSIDE, piece.clone())).collect();
        let out: Vec<_> = acmes.iter().map(|piece| (INSIDE, piece.clone())).collect();
        rig.case("the other's go on", &rest, &out, &[]);
        // RFC 5722: nothing more of that datagram.
        rig.leap(Nanos::from_secs(61));
    }
    assert_eq!(rig.session_count(), 0, "all are over");
}

/// EVA-22: an error is about a session of its tenant, and believed in its VLANs only.
#[test]
fn errors_are_about_sessions_of_their_tenant() {
    let mut rig = trunk(TWO);
    for (client, server) in ENDS {
        let (unreachable, router) = if client.contains('[') { (1, "fd00::1") } else { (3, "10.0.0.1") };
        let syn = || tcp(client, server).syn().seq(1000);
        passes(&mut rig, "SYN", OUTSIDE, &inward(syn(), ACME));
        let error = |vlan| outward(icmp_error(router, host(client), unreachable, 1, 0, &syn(), 200), vlan);
        for vlan in [BURNS, NOBODY] {
            rig.drops_all("in another's VLAN", &[(INSIDE, error(vlan))], IcmpErrorUnmatched);
        }
        let plain = icmp_error(router, host(client), unreachable, 1, 0, &syn(), 200);
        let plain = plain.source_mac(GATEWAY).destination_mac(ROUTER);
        rig.drops_all("without a VLAN", &[(INSIDE, plain)], IcmpErrorUnmatched);
        passes(&mut rig, "in its own", INSIDE, &error(ACME));
        passes(&mut rig, "in another of its own", INSIDE, &error(117));
        // Both have the connection, with other numbers (RFC 5927 section 4.1).
        passes(&mut rig, "SYN of another", OUTSIDE, &inward(tcp(client, server).syn().seq(900_000_000), BURNS));
        rig.drops_all("what this tenant did not send", &[(INSIDE, error(BURNS))], IcmpErrorUnmatched);
        passes(&mut rig, "still in its own", INSIDE, &error(ACME));
    }
}

/// Echo, and protocols without ports, have one conversation between two addresses: of each tenant.
#[test]
fn conversations_without_ports_are_told_apart() {
    let mut rig = trunk(TWO);
    for (client, server) in ENDS {
        let (client, server) = (host(client), host(server));
        for vlan in [ACME, BURNS] {
            passes(&mut rig, "a ping", OUTSIDE, &inward(ping(client, server, 9), vlan));
            passes(&mut rig, "GRE", OUTSIDE, &inward(millrace_tests::packet::ip(client, server, 47, &[7; 40]), vlan));
        }
        passes(&mut rig, "its answer", INSIDE, &outward(pong(server, client, 9), BURNS));
        rig.drops_all("nobody has asked there", &[(INSIDE, outward(pong(server, client, 9), NOBODY))], NoSession);
    }
    let states: Vec<_> =
        rig.sessions().iter().filter(|it| it.packets == 2).map(|it| name(it).map(str::to_owned)).collect();
    assert_eq!(states, vec![Some("burns".to_owned()); 2], "only the one that was answered");
}

/// What a source may open and have open is counted for each tenant (`new_sessions_per_source`, `sessions_per_source`).
#[test]
fn limits_of_sources_are_each_tenants_own() {
    let zone = "[[zone]]\nname = \"wan\"\nsessions_per_source = 2\n";
    let rule = "[firewall]\ndefault = \"deny\"\n[[firewall.rule]]\nname = \"all\"\naction = \"allow\"\nnew_sessions_per_source = 3\n";
    for (limit, allowed, reason) in
        [(format!("{ALLOW}{zone}"), 2, SourceSessionsLimited), (rule.to_owned(), 3, SourceRateLimited)]
    {
        let mut rig = Rig::of(&format!("{JOINED}{TWO}{limit}"));
        for (client, server) in ENDS {
            let opens = |port: u16, vlan| inward(udp(&client.replace("40000", &port.to_string()), server), vlan);
            for vlan in [ACME, BURNS, NOBODY] {
                for port in 1..=allowed {
                    passes(&mut rig, "within the limit", OUTSIDE, &opens(port, vlan));
                }
                rig.drops_all("beyond it", &[(OUTSIDE, opens(99, vlan))], reason);
            }
            rig.drops_all("by another VLAN of its own", &[(OUTSIDE, opens(98, 110))], reason);
        }
        assert_eq!(rig.session_count(), 2 * 3 * usize::from(allowed));
        // What ends is given back to whom it was taken from.
        rig.leap(Nanos::from_secs(600));
        assert_eq!(rig.session_count(), 0);
        let (client, server) = ENDS[0];
        passes(&mut rig, "there is room again", OUTSIDE, &inward(udp(client, server), ACME));
    }
}

fn served(mode: &str, address: &str, backend: &str) -> String {
    format!(
        "[[virtual_service]]\nname = \"shop-{}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n{mode}\n\
         health = {{ kind = \"none\" }}\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"{backend}\"\n",
        if address.contains(':') { "six" } else { "four" }
    )
}

/// SE-15: what a service takes in of a tenant's traffic is the tenant's session, and goes on in its VLAN.
#[test]
fn a_service_in_line_serves_each_tenant() {
    let shops = [("10.0.0.7:40000", "10.0.0.10", "10.0.0.21"), ("[fd00::7]:40000", "fd00::10", "fd00::21")];
    for (client, shop, backend) in shops {
        let mut rig = trunk(&format!("{TWO}{}", served("", shop, backend)));
        let at = |host: &str| millrace_tests::packet::end(host, 80);
        let mac = station(backend.parse().unwrap());
        for (vlan, from) in [(ACME, 1000), (BURNS, 70_000_000), (NOBODY, 140_000_000)] {
            let up = |what: &dyn Fn(Packet) -> Packet| {
                let came = inward(what(tcp(client, &at(shop)).seq(from)), vlan);
                (
                    (OUTSIDE, came),
                    (INSIDE, inward(what(tcp(client, &at(backend)).seq(from)), vlan).destination_mac(mac)),
                )
            };
            rig.passes("SYN", up(&|p| p.syn()));
            let answer = |end: &str| {
                tcp(&at(end), client).syn_ack(from + 1).seq(5000).source_mac(mac).destination_mac(ROUTER).tagged(vlan)
            };
            rig.passes("SYN-ACK", ((INSIDE, answer(backend)), (OUTSIDE, answer(shop))));
            rig.passes("ACK", up(&|p| p.seq(from + 1).ack(5001)));
        }
        let service = if shop.contains(':') { "shop-six" } else { "shop-four" };
        assert_eq!(rig.active(service), [3]);
        assert_eq!(tenants(&mut rig), [None, Some("acme".to_owned()), Some("burns".to_owned())]);
        assert_eq!(rig.flush(service, "a"), 3, "a backend's sessions end, whoever has them");
    }
}

/// A VLAN that changes hands: what its frames had opened is the other tenant's no more than any stranger's. Sessions stay with
/// the tenant that opened them, and end as silent ones do; names keep their sessions, whatever else changes.
#[test]
fn a_vlan_moves_from_one_tenant_to_another() {
    let with = |tenants: &str| format!("{JOINED}{ALLOW}{tenants}");
    let written = |all: &[(&str, &str)]| -> String {
        all.iter().map(|(name, vlans)| format!("[[tenant]]\nname = \"{name}\"\nvlans = [{vlans}]\n")).collect()
    };
    for (client, server) in ENDS {
        let mut rig = Rig::of(&with(&written(&[("acme", "100"), ("burns", "200")])));
        for vlan in [ACME, BURNS, NOBODY] {
            connects(&mut rig, (client, server), vlan, (10_000_000 * u32::from(vlan), 5000));
        }
        let data = |vlan: u16, of: u16| {
            inward(tcp(client, server).seq(10_000_000 * u32::from(of) + 1).ack(5001).data(b"x"), vlan)
        };
        rig.publish(&with(&written(&[("cyberdyne", "300"), ("burns", "200"), ("acme", "100, 101")])));
        for vlan in [ACME, BURNS, NOBODY] {
            passes(&mut rig, "in another order, beside another", OUTSIDE, &data(vlan, vlan));
        }
        passes(&mut rig, "in a VLAN that came", OUTSIDE, &data(101, ACME));
        rig.publish(&with(&written(&[("burns", "100, 200"), ("acme", "7")])));
        rig.drops_all("the VLAN's new tenant has another connection", &[(OUTSIDE, data(ACME, ACME))], TcpOutOfWindow);
        rig.drops_all("so has who got nobody's VLAN", &[(OUTSIDE, data(NOBODY, NOBODY))], TcpOutOfWindow);
        passes(&mut rig, "the tenant has, wherever it is", OUTSIDE, &data(NOBODY, ACME));
        passes(&mut rig, "and the other has its own", OUTSIDE, &data(ACME, BURNS));
        rig.publish(&with(""));
        rig.drops_all("without tenants, it is nobody's", &[(OUTSIDE, data(ACME, ACME))], TcpOutOfWindow);
        passes(&mut rig, "nobody's goes on", OUTSIDE, &data(NOBODY, NOBODY));
        rig.publish(&with(&written(&[("dharma", "100"), ("acme", "101")])));
        rig.drops_all("a new one never meets what others left", &[(OUTSIDE, data(ACME, ACME))], NoSession);
        passes(&mut rig, "who comes back finds its own", OUTSIDE, &data(101, ACME));
        assert_eq!(
            tenants(&mut rig),
            [None, Some("acme".to_owned()), Some("burns".to_owned())],
            "also those without a VLAN"
        );
        rig.leap(Nanos::from_secs(3 * 3_600));
        assert_eq!(rig.session_count(), 0, "they end as silent ones do");
    }
}

/// A policy that revokes a permission ends every tenant's sessions.
#[test]
fn sessions_of_tenants_are_judged_again() {
    let mut rig = trunk(TWO);
    for ends in ENDS {
        for vlan in [ACME, BURNS] {
            connects(&mut rig, ends, vlan, (1000, 5000));
        }
    }
    rig.publish(&format!("{JOINED}[firewall]\ndefault = \"deny\"\n{TWO}"));
    for (client, server) in ENDS {
        for vlan in [ACME, BURNS] {
            let data = inward(tcp(client, server).seq(1001).ack(5001).data(b"x"), vlan);
            rig.drops_all("no longer", &[(OUTSIDE, data)], FirewallDenied);
        }
    }
    assert_eq!(rig.session_count(), 0);
}

/// Whichever worker receives a packet, its tenant's session is found, with the one worker that owns all of these tuples.
#[test]
fn several_workers_do_what_one_does() {
    let layout = Layout { workers: 3, queues: 3, buffers: 4_096 };
    let mut rig = Rig::laid_out(&format!("{JOINED}{ALLOW}{TWO}"), layout);
    for (client, server) in ENDS {
        for number in 0..12 {
            let client = client.replace("40000", &format!("{}", 40_000 + number));
            for (vlan, from) in [(ACME, 1000), (BURNS, 70_000_000), (NOBODY, 140_000_000)] {
                connects(&mut rig, (&client, server), vlan, (from, 5000));
            }
            let pieces = |vlan| -> Vec<Packet> {
                let pieces = udp(&client, server).data(&[1; 2000]).id(number).pieces(1480);
                pieces.into_iter().map(|piece| inward(piece, vlan)).collect()
            };
            let (acmes, burnss) = (pieces(ACME), pieces(BURNS));
            rig.case("not whole", &[(OUTSIDE, acmes[0].clone()), (OUTSIDE, burnss[1].clone())], &[], &[]);
            let out: Vec<_> = acmes.iter().map(|piece| (INSIDE, piece.clone())).collect();
            rig.case("whole", &[(OUTSIDE, acmes[1].clone())], &out, &[]);
            let out: Vec<_> = burnss.iter().map(|piece| (INSIDE, piece.clone())).collect();
            rig.case("whole", &[(OUTSIDE, burnss[0].clone())], &out, &[]);
        }
    }
    assert_eq!(rig.session_count(), 2 * 12 * 5);
    assert!(rig.sessions_by_worker().iter().all(|&sessions| sessions > 0), "{:?}", rig.sessions_by_worker());
}

/// Who is told of sessions hears whose they are.
#[test]
fn logs_and_traces_name_the_tenant() {
    let log = "[session_log]\nformat = \"json\"\ncollector = \"/run/log.sock\"\n";
    let mut rig = trunk(&format!("{TWO}{log}"));
    let (client, server) = ENDS[0];
    let follower = rig.follow_matching("tenant=acme", 100);
    for vlan in [ACME, BURNS, NOBODY] {
        connects(&mut rig, (client, server), vlan, (1000 * u32::from(vlan), 5000));
    }
    rig.settle();
    let ways = rig.seen(&follower).ways;
    assert_eq!(ways.len(), 3, "one tenant's packets");
    let parsed =
        |way: &control::status::TraceStatus| way.steps.iter().find(|step| step.stage == "parse").unwrap().text.clone();
    assert!(ways.iter().all(|way| parsed(way).ends_with(", VLAN 100 of tenant acme")), "{}", parsed(&ways[0]));
    assert!(ways[1].steps.iter().any(|step| step.text.starts_with("found: ")), "{ways:#?}");
    let mut told: Vec<_> = rig.told();
    told.retain(|record| record.turn == Turn::Opened);
    let names: Vec<_> = told.iter().map(|record| record.tenant.as_ref().map(|tenant| tenant.name.as_str())).collect();
    assert_eq!(names, [Some("acme"), Some("burns"), None]);
    drop(follower);
}
