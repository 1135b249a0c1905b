//! Services with tiers: what a client sends passes an instance of each tier, in order, before it comes to a backend
//! (service engines, section 2.7).

use millrace_tests::fragmented::payload;
use millrace_tests::packet::{Packet, arp_reply, arp_request, end, host, icmp_error, solicitation, station, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};
use stage::DropReason::{
    FirewallDenied, HopLimitExceeded, IcmpErrorUnmatched, NoBackend, NoSession, PacketTooBig, ReversePathFailed,
    SessionTableFull, TcpOutOfWindow, TierAmbiguous, UnknownVlan,
};
use stage::balancer::Health;
use units::Nanos;

const WEB: &str = "[firewall]\ndefault = \"deny\"\n[[firewall.rule]]\nname = \"web\"\naction = \"allow\"\nfrom = [\"wan\"]\n\
    protocol = \"tcp\"\ndestination_port = [\"80\"]\n";
const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

/// A family's client, service, instances and backend.
#[derive(Clone, Copy, Debug)]
struct Family {
    client: &'static str,
    asked: &'static str,
    first: [&'static str; 2],
    second: [&'static str; 2],
    backend: &'static str,
    /// The appliance outside, inside.
    own: [&'static str; 2],
}

const FAMILIES: [Family; 2] = [
    Family {
        client: "198.51.100.7:40000",
        asked: "198.51.100.10:80",
        first: ["10.0.0.101", "10.0.0.102"],
        second: ["10.0.0.201", "10.0.0.202"],
        backend: "10.0.0.11",
        own: ["198.51.100.1", "10.0.0.1"],
    },
    Family {
        client: "[2001:db8:51::7]:40000",
        asked: "[2001:db8:51::10]:80",
        first: ["2001:db8:10::101", "2001:db8:10::102"],
        second: ["2001:db8:10::201", "2001:db8:10::202"],
        backend: "2001:db8:10::11",
        own: ["2001:db8:51::1", "2001:db8:10::1"],
    },
];

/// What tells the tiers a packet has passed.
#[derive(Clone, Copy, Debug)]
struct Telling {
    keys: &'static str,
    tags: [Option<u16>; 2],
}

const BY_MAC: Telling = Telling { keys: "", tags: [None; 2] };
const BY_VLAN: Telling = Telling { keys: "marker_vlan = 100\n", tags: [Some(101), Some(102)] };

fn tagged(packet: Packet, tag: Option<u16>) -> Packet {
    match tag {
        Some(vlan) => packet.tagged(vlan),
        None => packet,
    }
}

fn instances(addresses: &[&str]) -> String {
    let all = addresses.iter().zip('a'..);
    let all = all.map(|(address, name)| {
        format!("[[virtual_service.tier.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n")
    });
    all.collect()
}

/// A tier with these keys and instances.
fn tier(keys: &str, addresses: &[&str]) -> String {
    format!("[[virtual_service.tier]]\n{keys}\n{}", instances(addresses))
}

impl Family {
    /// The service, with these keys and tiers.
    fn service(&self, keys: &str, tiers: &str) -> String {
        let protocol = if keys.contains("protocol") { "" } else { "protocol = \"tcp\"" };
        let port = if keys.contains("mode") { "" } else { "port = 8080" };
        format!(
            "[[virtual_service]]\nname = \"shop\"\naddress = \"{}\"\n{protocol}\nports = [\"80\"]\n{keys}\n\
             health = {{ kind = \"none\" }}\n{tiers}[[virtual_service.backend]]\nname = \"x\"\naddress = \"{}\"\n{port}\n",
            host(self.asked),
            self.backend
        )
    }

    /// One instance in each of two tiers.
    fn two_tiers(&self) -> String {
        tier("", &self.first[..1]) + &tier("", &self.second[..1])
    }

    fn policy(&self, telling: Telling) -> String {
        format!("{WEB}{}", self.service(telling.keys, &self.two_tiers()))
    }

    fn served(&self) -> String {
        end(self.backend, 8080)
    }

    /// The same with another client's port.
    fn client_at(self, port: u16) -> Self {
        Self { client: Box::leak(end(host(self.client), port).into_boxed_str()), ..self }
    }

    fn up(&self, what: &dyn Fn(Packet) -> Packet) -> Packet {
        what(tcp(self.client, self.asked))
    }

    /// A packet of the client's at this instance after so many hops: as it goes there, and as it is handed back.
    fn at(instance: &str, packet: &Packet, hops: u8, tag: Option<u16>) -> (Packet, Packet) {
        let mac = station(instance.parse().unwrap());
        let there = tagged(packet.clone().hops(hops).destination_mac(mac), tag);
        (there, tagged(packet.clone().hops(hops - 1).source_mac(mac), tag))
    }

    /// Takes a packet through both tiers by way of these instances to the backend.
    fn travels(
        &self,
        rig: &mut Rig,
        sentence: &str,
        tags: [Option<u16>; 2],
        [one, two]: [&str; 2],
        what: &dyn Fn(Packet) -> Packet,
    ) {
        let packet = self.up(what);
        let (to_first, from_first) = Self::at(one, &packet, 63, tags[0]);
        let (to_second, from_second) = Self::at(two, &packet, 61, tags[1]);
        let served = what(tcp(self.client, &self.served())).hops(59);
        rig.case(&format!("{sentence} to tier 1"), &[(OUTSIDE, packet)], &[(INSIDE, to_first)], &[]);
        rig.case(&format!("{sentence} to tier 2"), &[(INSIDE, from_first)], &[(INSIDE, to_second)], &[]);
        rig.case(&format!("{sentence} to the backend"), &[(INSIDE, from_second)], &[(INSIDE, served)], &[]);
    }

    /// As [`travels`](Self::travels), by the first instance of each tier.
    fn travels_first(&self, rig: &mut Rig, sentence: &str, telling: Telling, what: &dyn Fn(Packet) -> Packet) {
        self.travels(rig, sentence, telling.tags, [self.first[0], self.second[0]], what);
    }

    fn answers(&self, rig: &mut Rig, what: &dyn Fn(Packet) -> Packet) {
        let (answer, back) = (what(tcp(&self.served(), self.client)), what(tcp(self.asked, self.client)).routed());
        rig.case("an answer", &[(INSIDE, answer)], &[(OUTSIDE, back)], &[]);
    }

    /// The handshake, by the first instance of each tier.
    fn opens(&self, rig: &mut Rig, telling: Telling) {
        self.travels_first(rig, "SYN", telling, &|p| p.syn().seq(1000));
        self.answers(rig, &|p| p.syn_ack(1001).seq(5000));
        self.travels_first(rig, "ACK", telling, &|p| p.ack(5001).seq(1001));
    }
}

fn hello(packet: Packet) -> Packet {
    packet.ack(5001).seq(1001).data(b"GET /")
}

fn laid_out(text: &str, workers: u16) -> Rig {
    let layout = Layout { workers, queues: usize::from(workers), buffers: 4_096 };
    Rig::laid_out(&format!("{TWO_PORTS}{text}"), layout)
}

/// Every family, with both tellings, on one worker and on two.
fn everywhere(mut check: impl FnMut(Family, Telling, u16)) {
    for family in FAMILIES {
        for telling in [BY_MAC, BY_VLAN] {
            for workers in [1, 2] {
                check(family, telling, workers);
            }
        }
    }
}

/// SE-68, SE-70 to SE-73: tiers 1, 2 and 3 in that order, once each, told by the MAC that hands the packet back, or by a
/// VLAN; the reply goes to the client at once.
#[test]
fn a_packet_passes_every_tier_in_order_and_once() {
    everywhere(|family, telling, workers| {
        let mut rig = laid_out(&family.policy(telling), workers);
        family.opens(&mut rig, telling);
        for _ in 0..2 {
            family.travels_first(&mut rig, "data", telling, &hello);
            family.answers(&mut rig, &|p| p.ack(1006).seq(5001).data(b"here"));
        }
        for service in ["shop.tier-1", "shop.tier-2", "shop"] {
            assert_eq!(rig.active(service), [1], "{service}, {telling:?}");
        }
        assert_eq!((rig.session_count(), rig.hits("web").0), (1, 1), "judged once, where it came in");
        let sessions = rig.sessions();
        let names: Vec<_> = sessions[0].tiers.iter().map(|it| format!("{}/{}", it.service(), it.name())).collect();
        assert_eq!(names, ["shop.tier-1/a", "shop.tier-2/a"], "as `show sessions` has it");
        assert_eq!(sessions[0].packets, 7, "counted when its ends send it, not at each tier");
        let blind = family.up(&|p| p.ack(5001).seq(900_000_000).data(b"x"));
        rig.drops_all("EVA-19: tiers see nothing from outside the window", &[(OUTSIDE, blind)], TcpOutOfWindow);
        family.travels_first(&mut rig, "FIN", telling, &|p| p.fin(5005).seq(1006));
        family.answers(&mut rig, &|p| p.fin(1007).seq(5005));
        family.travels_first(&mut rig, "the last ACK", telling, &|p| p.ack(5006).seq(1007));
        rig.wait(300);
        assert_eq!((rig.session_count(), rig.active("shop.tier-1"), rig.active("shop.tier-2")), (0, vec![0], vec![0]));
    });
}

/// RLD-11: a session goes on in the next process; its instances are chosen anew, which are those it had where nothing else is to
/// be had.
#[test]
fn sessions_with_tiers_outlive_the_process() {
    everywhere(|family, telling, workers| {
        let text = format!("{TWO_PORTS}{}", family.policy(telling));
        let mut before = laid_out(&family.policy(telling), workers);
        family.opens(&mut before, telling);
        let layout = Layout { workers, queues: usize::from(workers), buffers: 4_096 };
        let (mut rig, refused) = before.succeeded_by(&text, layout, Nanos::from_millis(300));
        assert_eq!((refused.len(), rig.session_count(), rig.active("shop")), (0, 1, vec![1]), "{refused:?}");
        family.answers(&mut rig, &|p| p.ack(1001).seq(5001).data(b"here"));
        family.travels_first(&mut rig, "data", telling, &hello);
        assert_eq!((rig.active("shop.tier-1"), rig.active("shop.tier-2")), (vec![1], vec![1]));
        // A policy that has no tiers any more, and one that has them again.
        let (mut rig, refused) =
            rig.succeeded_by(&format!("{TWO_PORTS}{WEB}{}", family.service("", "")), layout, Nanos::from_millis(300));
        assert!(refused.is_empty(), "{refused:?}");
        let packet = family.up(&hello);
        let served = hello(tcp(family.client, &family.served())).routed();
        rig.case("to the backend at once", &[(OUTSIDE, packet)], &[(INSIDE, served)], &[]);
        let (mut rig, refused) = rig.succeeded_by(&text, layout, Nanos::from_millis(300));
        assert!(refused.is_empty(), "{refused:?}");
        family.travels_first(&mut rig, "data", telling, &hello);
    });
}

/// A reset passes the tiers, too, though its session is over when the first of them hands it back.
#[test]
fn a_reset_passes_every_tier() {
    everywhere(|family, telling, workers| {
        let mut rig = laid_out(&family.policy(telling), workers);
        family.opens(&mut rig, telling);
        family.travels_first(&mut rig, "RST", telling, &|p| p.rst().seq(1001));
    });
}

/// Many clients at once, and retransmissions: each pass of a packet comes to the worker that has its session.
#[test]
fn tiers_work_with_several_workers() {
    for family in FAMILIES {
        for telling in [BY_MAC, BY_VLAN] {
            let mut rig = laid_out(&family.policy(telling), 3);
            for number in 0..12 {
                let one = family.client_at(40_000 + number);
                one.travels_first(&mut rig, "SYN", telling, &|p| p.syn().seq(1000));
                one.travels_first(&mut rig, "SYN again", telling, &|p| p.syn().seq(1000));
            }
            assert!(rig.sessions_by_worker().iter().all(|&sessions| sessions > 0));
        }
    }
}

/// Every way to a backend stands behind tiers alike: they see the client's packet, and it is rewritten or wrapped last.
#[test]
fn every_mode_has_tiers() {
    everywhere(|family, telling, workers| {
        let (first, second) = (family.first[0], family.second[0]);
        let pool = family.own[1];
        for keys in ["mode = \"direct\"".to_owned(), format!("mode = \"full-nat\"\nsource_address = [\"{pool}\"]")] {
            let keys = format!("{}{keys}", telling.keys);
            let mut rig = laid_out(&format!("{WEB}{}", family.service(&keys, &family.two_tiers())), workers);
            let packet = family.up(&|p| p.syn().seq(1000));
            let (to_first, from_first) = Family::at(first, &packet, 63, telling.tags[0]);
            let (to_second, from_second) = Family::at(second, &packet, 61, telling.tags[1]);
            rig.case("to tier 1", &[(OUTSIDE, packet)], &[(INSIDE, to_first)], &[]);
            rig.case("to tier 2", &[(INSIDE, from_first)], &[(INSIDE, to_second)], &[]);
            rig.put(INSIDE, &from_second);
            rig.settle();
            let out = rig.take();
            let [(INSIDE, bytes)] = out.as_slice() else { panic!("{keys}: {out:?}") };
            assert_eq!(bytes[..6], station(family.backend.parse().unwrap()).octets(), "{keys}");
            assert_ne!(bytes[12..14], [0x81, 0x00], "the marker is taken off before the backend");
            assert_eq!(rig.drops().len(), 0, "{keys}");
        }
        let keys = format!("{}mode = \"ipip\"", telling.keys);
        let mut rig = laid_out(&format!("{WEB}{}", family.service(&keys, &family.two_tiers())), workers);
        let packet = family.up(&|p| p.syn().seq(1000));
        let (to_first, from_first) = Family::at(first, &packet, 63, telling.tags[0]);
        let (to_second, from_second) = Family::at(second, &packet, 61, telling.tags[1]);
        for _ in 0..2 {
            rig.case("to tier 1", &[(OUTSIDE, packet.clone())], &[(INSIDE, to_first.clone())], &[]);
            rig.case("to tier 2", &[(INSIDE, from_first.clone())], &[(INSIDE, to_second.clone())], &[]);
            rig.put(INSIDE, &from_second);
            rig.settle();
            let out = rig.take();
            let [(INSIDE, bytes)] = out.as_slice() else { panic!("{out:?}") };
            let (outer, inner) = if bytes[14] >> 4 == 4 { (20, 12) } else { (40, 8) };
            let addresses = bytes[14 + outer + inner..].to_vec();
            let asked = host(family.asked).parse::<std::net::IpAddr>().unwrap();
            let asked = match asked {
                std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            assert_eq!(addresses[asked.len()..2 * asked.len()], asked, "what the client sent, inside");
        }
    });
}

/// SE-74: each tier chooses by its own loads. SE-75: a tier grows, and the new instance begins with none.
#[test]
fn tiers_choose_independently_and_grow() {
    for family in FAMILIES {
        let least = "algorithm = \"least-connections\"";
        let tiers = tier(least, &family.first) + &tier(least, &family.second[..1]);
        let mut rig = Rig::new(&format!("{WEB}{}", family.service("", &tiers)));
        let open = |rig: &mut Rig, port: u16| {
            let one = family.client_at(port);
            rig.put(OUTSIDE, &one.up(&|p| p.syn().seq(1)));
            rig.settle();
            let out = rig.take();
            let [(INSIDE, bytes)] = out.as_slice() else { panic!("{out:?}") };
            let is_there = |address: &&&str| bytes[..6] == station(address.parse().unwrap()).octets();
            let chosen = *family.first.iter().find(is_there).expect("an instance of the first tier");
            let (_, back) = Family::at(chosen, &one.up(&|p| p.syn().seq(1)), 63, None);
            rig.put(INSIDE, &back);
            rig.settle();
            assert_eq!(rig.take().len(), 1);
            chosen
        };
        let [a, b] = family.first;
        assert_eq!([1, 2, 3, 4].map(|port| open(&mut rig, port)), [a, b, a, b]);
        let loads = |rig: &Rig| [rig.active("shop.tier-1"), rig.active("shop.tier-2"), rig.active("shop")];
        assert_eq!(loads(&rig), [vec![2, 2], vec![4], vec![4]]);
        let grown = tier(least, &family.first) + &tier(least, &family.second);
        rig.publish_more(&format!("{WEB}{}", family.service("", &grown)));
        assert_eq!(rig.active("shop.tier-2"), [4, 0]);
        for port in 5..8 {
            open(&mut rig, port);
        }
        assert_eq!(rig.active("shop.tier-2"), [4, 3]);
    }
}

/// SE-71, SE-72: what comes marked, or from an instance, of a conversation that is not known here is judged where it
/// came in, and goes on behind the tier it comes from. So does an instance's own connection.
#[test]
fn a_packet_that_was_marked_elsewhere_goes_on() {
    everywhere(|family, telling, workers| {
        let mut rig = laid_out(&format!("{ALLOW}{}", family.service(telling.keys, &family.two_tiers())), workers);
        // The MAC of an instance has to be known before it can tell.
        let other = family.client_at(39_999);
        rig.put(OUTSIDE, &other.up(&|p| p.syn().seq(1)));
        rig.settle();
        assert_eq!(rig.take().len(), 1);
        for what in [|p: Packet| p.syn().seq(1000), |p: Packet| p.syn().seq(1000)] {
            let packet = family.up(&what);
            let (_, from_first) = Family::at(family.first[0], &packet, 63, telling.tags[0]);
            let (to_second, from_second) = Family::at(family.second[0], &packet, 61, telling.tags[1]);
            let served = what(tcp(family.client, &family.served())).hops(59);
            rig.case("past tier 1", &[(INSIDE, from_first)], &[(INSIDE, to_second)], &[]);
            rig.case("past tier 2", &[(INSIDE, from_second)], &[(INSIDE, served)], &[]);
        }
        assert_eq!((rig.active("shop.tier-1"), rig.active("shop.tier-2")), (vec![1], vec![1]));
        let own = Family { client: Box::leak(end(family.first[0], 5_000).into_boxed_str()), ..family };
        let packet = own.up(&|p| p.syn().seq(1));
        let (to_second, _) = Family::at(family.second[0], &packet, 63, telling.tags[1]);
        let sent = tagged(packet, telling.tags[0]);
        rig.case("an instance asks", &[(INSIDE, sent)], &[(INSIDE, to_second)], &[]);
    });
}

/// Nothing opens from the zone of the instances that no rule lets open: neither what they hand back of a session that
/// is gone, nor what somebody there marks.
#[test]
fn what_is_handed_back_of_no_session_is_judged_where_it_came_in() {
    everywhere(|family, telling, workers| {
        let mut rig = laid_out(&family.policy(telling), workers);
        let other = family.client_at(39_999);
        rig.put(OUTSIDE, &other.up(&|p| p.syn().seq(1)));
        rig.settle();
        let _ = rig.take();
        let (_, syn) = Family::at(family.first[0], &family.up(&|p| p.syn().seq(1000)), 63, telling.tags[0]);
        rig.drops_all("a SYN", &[(INSIDE, syn)], FirewallDenied);
        let (_, data) = Family::at(family.first[0], &family.up(&hello), 63, telling.tags[0]);
        rig.drops_all("the middle of a connection", &[(INSIDE, data)], NoSession);
    });
}

/// Reverse paths are not asked of what an instance hands back, and asked of all others.
#[test]
fn clients_behind_tiers_are_no_spoofed_sources() {
    everywhere(|family, telling, workers| {
        let strict = "[[zone]]\nname = \"dmz\"\nreverse_path = \"strict\"\n";
        let service = family.service(&format!("{}protocol = \"udp\"", telling.keys), &family.two_tiers());
        let mut rig = laid_out(&format!("{ALLOW}{strict}{service}"), workers);
        let asks = |client: &str| udp(client, family.asked).data(&payload(3_000));
        let other = asks(family.client_at(39_999).client);
        for piece in other.pieces(1_024) {
            rig.put(OUTSIDE, &piece);
        }
        rig.settle();
        assert_eq!(rig.take().len(), 3);
        let (_, back) = Family::at(family.first[0], &other, 63, telling.tags[0]);
        for piece in back.pieces(1_024) {
            rig.put(INSIDE, &piece);
        }
        rig.settle();
        assert_eq!((rig.take().len(), rig.drops().len()), (3, 0), "fragments of a session");
        let (_, unknown) = Family::at(family.first[0], &asks(family.client).data(b"?"), 63, telling.tags[0]);
        rig.put(INSIDE, &unknown);
        rig.settle();
        assert_eq!((rig.take().len(), rig.drops().len()), (1, 0), "a first packet");
        let spoofed = udp(family.client_at(1).client, family.asked);
        rig.drops_all("somebody else there", &[(INSIDE, spoofed)], ReversePathFailed);
    });
}

/// An instance that fails, or whose drain is over, is replaced at the next packet, and what it had still comes back to
/// the right tier. Without any instance the packet is dropped, and nobody may begin.
#[test]
fn an_instance_that_is_gone_is_replaced() {
    everywhere(|family, telling, workers| {
        let [a, b] = family.first;
        let probed = "algorithm = \"round-robin\"\nhealth = { kind = \"icmp\" }";
        let tiers = tier(probed, &family.first) + &tier("", &family.second[..1]);
        let mut rig = laid_out(&format!("{WEB}{}", family.service(telling.keys, &tiers)), workers);
        family.opens(&mut rig, telling);
        let packet = family.up(&hello);
        let (to_a, from_a) = Family::at(a, &packet, 63, telling.tags[0]);
        rig.case("on its way when", &[(OUTSIDE, packet)], &[(INSIDE, to_a)], &[]);
        rig.health("shop.tier-1", "a", Health::Failed);
        family.travels(&mut rig, "by the other", telling.tags, [b, family.second[0]], &hello);
        let (to_second, _) = Family::at(family.second[0], &family.up(&hello), 61, telling.tags[1]);
        rig.case("the instance has failed", &[(INSIDE, from_a)], &[(INSIDE, to_second)], &[]);
        assert_eq!(rig.active("shop.tier-1"), [0, 1]);
        rig.health("shop.tier-1", "a", Health::Up);
        rig.drain("shop.tier-1", "b");
        family.travels(&mut rig, "while it drains", telling.tags, [b, family.second[0]], &hello);
        rig.wait(31);
        family.travels(&mut rig, "when it has drained", telling.tags, [a, family.second[0]], &hello);
        rig.health("shop.tier-1", "a", Health::Failed);
        rig.drops_all("by none", &[(OUTSIDE, family.up(&hello))], NoBackend);
        let other = family.client_at(1).up(&|p| p.syn().seq(1));
        rig.drops_all("nor anybody else", &[(OUTSIDE, other)], NoBackend);
        assert_eq!((rig.session_count(), rig.active("shop")), (1, vec![1]), "nobody waits for a tier in vain");
        rig.health("shop.tier-1", "a", Health::Up);
        family.travels(&mut rig, "when it is back", telling.tags, [a, family.second[0]], &hello);
    });
}

/// The last tier before the backends is as needed as the first.
#[test]
fn a_later_tier_without_an_instance_lets_nobody_begin() {
    for family in FAMILIES {
        let tiers = tier("", &family.first[..1]) + &tier("health = { kind = \"icmp\" }", &family.second[..1]);
        let mut rig = Rig::new(&format!("{WEB}{}", family.service("", &tiers)));
        rig.health("shop.tier-2", "a", Health::Failed);
        rig.drops_all("no instance", &[(OUTSIDE, family.up(&|p| p.syn().seq(1)))], NoBackend);
        assert_eq!((rig.session_count(), rig.active("shop.tier-1")), (0, vec![0]));
    }
}

/// A flush ends the sessions of an instance, as it does those of a backend.
#[test]
fn an_instance_is_flushed() {
    everywhere(|family, telling, workers| {
        let mut rig = laid_out(&family.policy(telling), workers);
        family.opens(&mut rig, telling);
        assert_eq!(rig.flush("shop.tier-2", "a"), 1);
        assert_eq!((rig.take().len(), rig.session_count()), (2, 0), "both ends are told");
        assert_eq!(["shop.tier-1", "shop.tier-2", "shop"].map(|service| rig.active(service)), [[0], [0], [0]]);
    });
}

/// SE-72: a marker counts at the ports of its tier's instances, for its service, in one tag of its own kind. The
/// appliance answers its neighbors there in the tag they asked in.
#[test]
fn a_marking_vlan_is_for_its_service_alone() {
    for family in FAMILIES {
        let mut rig = laid_out(&family.policy(BY_VLAN), 1);
        family.opens(&mut rig, BY_VLAN);
        rig.overhear();
        let instance = family.first[0];
        let mac = station(instance.parse().unwrap());
        if family.backend.contains(':') {
            rig.put(INSIDE, &solicitation(instance, family.own[1]).tagged(101));
            rig.settle();
            let out = rig.take();
            let [(INSIDE, bytes)] = out.as_slice() else { panic!("{out:?}") };
            assert_eq!((&bytes[..6], &bytes[12..18]), (&mac.octets()[..], &[0x81, 0, 0, 101, 0x86, 0xdd][..]));
            assert_eq!(bytes[58], 136, "an advertisement");
        } else {
            let ask = arp_request(instance, family.own[1]).tagged(101);
            let answer = arp_reply(rig.mac(INSIDE), family.own[1], mac, instance).tagged(101);
            rig.case("ARP in a marking VLAN", &[(INSIDE, ask)], &[(INSIDE, answer)], &[]);
        }
        let syn = || family.client_at(1).up(&|p| p.syn().seq(1));
        let data = || family.up(&hello);
        let rows: Vec<(&str, Side, Packet)> = vec![
            ("forged outside, of a session", OUTSIDE, data().tagged(102)),
            ("forged outside, first", OUTSIDE, syn().tagged(101)),
            ("another VLAN", INSIDE, data().tagged(103)),
            ("the one before the first tier", INSIDE, data().tagged(100)),
            ("a priority without a VLAN", INSIDE, data().tagged(0)),
            ("something else", INSIDE, udp(&end(instance, 1), &end(host(family.client), 53)).tagged(101)),
            (
                "another port of the service's address",
                INSIDE,
                tcp(family.client, &end(host(family.asked), 81)).tagged(101),
            ),
            ("two tags", INSIDE, data().tagged(101).tagged(101)),
            ("a provider's tag", INSIDE, data().tagged_as(0x88a8, 101)),
            ("neighbors outside", OUTSIDE, arp_request("198.51.100.7", "198.51.100.1").tagged(101)),
            (
                "fragments of something else",
                INSIDE,
                udp(family.client, &end(family.backend, 80)).data(&[7; 8]).fragment(8, true).tagged(101),
            ),
        ];
        for (sentence, side, packet) in rows {
            rig.drops_all(sentence, &[(side, packet)], UnknownVlan);
        }
        let forged = syn().tagged(102);
        rig.drops_all("no rule lets the zone of the instances open", &[(INSIDE, forged)], FirewallDenied);
    }
}

/// The MAC of an instance tells at its own port only.
#[test]
fn the_mac_of_an_instance_tells_nothing_outside() {
    for family in FAMILIES {
        for workers in [1, 2] {
            let mut rig = laid_out(&family.policy(BY_MAC), workers);
            family.opens(&mut rig, BY_MAC);
            let packet = family.up(&hello);
            let forged = packet.clone().source_mac(station(family.second[0].parse().unwrap()));
            let (to_first, _) = Family::at(family.first[0], &packet, 63, None);
            rig.case("a client calls itself an instance", &[(OUTSIDE, forged)], &[(INSIDE, to_first)], &[]);
            let syn = family.client_at(1).up(&|p| p.syn().seq(1));
            let forged = syn.clone().source_mac(station(family.second[0].parse().unwrap()));
            let (to_first, _) = Family::at(family.first[0], &syn, 63, None);
            rig.case("and begins", &[(OUTSIDE, forged)], &[(INSIDE, to_first)], &[]);
        }
    }
}

/// What cannot be told from a client's begins again, and does not go round for ever: its sender is told.
#[test]
fn nothing_goes_round_for_ever() {
    everywhere(|family, telling, workers| {
        let mut rig = laid_out(&family.policy(telling), workers);
        family.opens(&mut rig, telling);
        let outside = family.own[0];
        let mut hops = 64;
        let mut side = OUTSIDE;
        while hops > 1 {
            let packet = family.up(&hello).hops(hops);
            let (there, _) = Family::at(family.first[0], &packet, hops - 1, telling.tags[0]);
            // It comes back from a station that is no instance, and without a marker.
            rig.case("again", &[(side, packet)], &[(INSIDE, there)], &[]);
            (hops, side) = (hops - 2, INSIDE);
        }
        for passed in [0, 1, 2] {
            let packet = family.up(&hello).hops(1);
            let told = |about: &Packet| {
                let (kind, quoted) = if family.backend.contains(':') { (3, 1_232) } else { (11, 548) };
                icmp_error(outside, host(family.client), kind, 0, 0, about, quoted).told()
            };
            let (side, packet) = match passed {
                0 => (OUTSIDE, packet),
                _ => {
                    let instance = [family.first[0], family.second[0]][passed - 1];
                    (INSIDE, Family::at(instance, &packet, 2, telling.tags[passed - 1]).1)
                }
            };
            let about = family.up(&hello).hops(1);
            rig.case("the end", &[(side, packet)], &[(OUTSIDE, told(&about))], &[HopLimitExceeded]);
        }
    });
}

/// One machine in two tiers is told apart by markers alone; without them nothing passes it unseen.
#[test]
fn one_machine_in_two_tiers_needs_markers() {
    for family in FAMILIES {
        let one = station(family.first[0].parse().unwrap());
        let neighbors: String = [family.first[0], family.second[0]]
            .map(|address| format!("[[neighbor]]\nport = \"inside\"\naddress = \"{address}\"\nmac = \"{one}\"\n"))
            .concat();
        for telling in [BY_MAC, BY_VLAN] {
            let mut rig = Rig::new(&format!("{}{neighbors}", family.policy(telling)));
            let packet = family.up(&|p| p.syn().seq(1));
            let (to_first, from_first) = Family::at(family.first[0], &packet, 63, telling.tags[0]);
            rig.case("to tier 1", &[(OUTSIDE, packet.clone())], &[(INSIDE, to_first)], &[]);
            let again = packet.hops(61).destination_mac(one);
            rig.case("to tier 2", &[(INSIDE, from_first.clone())], &[(INSIDE, tagged(again, telling.tags[1]))], &[]);
            if telling.keys.is_empty() {
                rig.drops_all("which of the two?", &[(INSIDE, from_first)], TierAmbiguous);
            }
        }
    }
}

/// A policy is the policy of old sessions, too: they pass the tiers there are, whatever there was when they began.
#[test]
fn sessions_pass_the_tiers_of_today() {
    everywhere(|family, telling, workers| {
        let both = family.policy(telling);
        let none = format!("{WEB}{}", family.service("", ""));
        let marked = |keys: &str, tiers: &str| format!("{WEB}{}", family.service(keys, tiers));
        let mut rig = laid_out(&both, workers);
        family.opens(&mut rig, telling);
        let (_, on_its_way) = Family::at(family.first[0], &family.up(&hello), 63, telling.tags[0]);
        rig.publish_more(&none);
        let served = hello(tcp(family.client, &family.served()));
        rig.case("no tiers", &[(OUTSIDE, family.up(&hello))], &[(INSIDE, served.clone().routed())], &[]);
        assert_eq!(rig.active("shop"), [1]);
        if telling.keys.is_empty() {
            let arrives = [(INSIDE, served.hops(61))];
            rig.case("what an instance still had", &[(INSIDE, on_its_way)], &arrives, &[]);
        } else {
            rig.drops_all("nothing marks any more", &[(INSIDE, on_its_way)], UnknownVlan);
        }
        rig.publish_more(&both);
        family.travels_first(&mut rig, "two tiers again", telling, &hello);
        assert_eq!((rig.active("shop.tier-1"), rig.active("shop.tier-2")), (vec![1], vec![1]));
        // The second is gone, the first has another instance.
        rig.publish_more(&marked(telling.keys, &tier("", &family.first[1..])));
        let packet = family.up(&hello);
        let (there, back) = Family::at(family.first[1], &packet, 63, telling.tags[0]);
        rig.case("to the new instance", &[(OUTSIDE, packet)], &[(INSIDE, there)], &[]);
        let arrives = hello(tcp(family.client, &family.served())).hops(61);
        rig.case("and to the backend", &[(INSIDE, back)], &[(INSIDE, arrives)], &[]);
        rig.publish_more(&both);
        family.travels_first(&mut rig, "as it was", telling, &hello);
        family.answers(&mut rig, &|p| p.ack(1006).seq(5001));
        rig.publish_more(&format!("{}{}", WEB.replace("\"80\"", "\"81\""), &both[WEB.len()..]));
        let (_, back) = Family::at(family.first[0], &family.up(&hello), 63, telling.tags[0]);
        rig.drops_all("forbidden since, also behind a tier", &[(INSIDE, back)], FirewallDenied);
        assert_eq!(["shop.tier-1", "shop.tier-2", "shop"].map(|service| rig.active(service)), [[0], [0], [0]]);
    });
}

/// A policy takes the tiers away and tells the backend of its clients instead: what a session held of its tiers is given back, and
/// nothing of others, such as the outside port of a client behind source NAT.
#[test]
fn sessions_leave_their_tiers_for_an_introduction() {
    let hidden = "[[source_nat]]\nname = \"out\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\naddress = [\"198.51.100.20\"]\n\
        mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"\n";
    for family in FAMILIES {
        for mode in ["".to_owned(), format!("mode = \"full-nat\"\nsource_address = [\"{}\"]\n", family.own[1])] {
            let tiered = family.service(&mode, &tier("", &family.first[..1]));
            let mut rig = Rig::new(&format!("{ALLOW}{hidden}{tiered}"));
            let instance = rig.backend("shop.tier-1", "a");
            // As many outside ports as sessions with tiers.
            for number in 1..4 {
                let asks = udp(&end("10.0.0.12", 5_000 + number), "198.51.100.7:53");
                rig.put(INSIDE, &asks);
                rig.settle();
                assert_eq!(rig.take().len(), 1);
            }
            for number in 1..4 {
                let one = family.client_at(number);
                let (there, back) = Family::at(family.first[0], &one.up(&|p| p.syn().seq(1000)), 63, None);
                rig.case("to tier 1", &[(OUTSIDE, one.up(&|p| p.syn().seq(1000)))], &[(INSIDE, there)], &[]);
                rig.put(INSIDE, &back);
                rig.settle();
                let (_, seen) = rig.take().remove(0);
                let ports = if family.backend.contains(':') { 54 } else { 34 };
                let port = u16::from_be_bytes([seen[ports], seen[ports + 1]]);
                let seen_at = if mode.is_empty() { one.client.to_owned() } else { end(family.own[1], port) };
                let served = end(family.backend, if mode.is_empty() { 8080 } else { 80 });
                rig.put(INSIDE, &tcp(&served, &seen_at).syn_ack(1001).seq(5000));
                rig.settle();
                let (there, back) = Family::at(family.first[0], &one.up(&|p| p.ack(5001).seq(1001)), 63, None);
                let _ = rig.take();
                rig.case("ACK", &[(OUTSIDE, one.up(&|p| p.ack(5001).seq(1001)))], &[(INSIDE, there)], &[]);
                rig.put(INSIDE, &back);
                rig.settle();
                assert_eq!(rig.take().len(), 1);
            }
            assert_eq!(instance.active(), 3);
            let introduced = family.service(&format!("{mode}client_address = \"proxy-v2\"\n"), "");
            rig.publish_more(&format!("{ALLOW}{hidden}{introduced}"));
            for number in 1..4 {
                rig.put(OUTSIDE, &family.client_at(number).up(&hello));
                rig.settle();
                assert_eq!(rig.take().len(), 1, "it goes on");
                rig.put(OUTSIDE, &family.client_at(number).up(&|p| p.rst().seq(1006)));
                rig.settle();
                let _ = rig.take();
            }
            assert_eq!(instance.active(), 0, "{mode}");
            rig.wait(5);
            assert_eq!((rig.session_count(), rig.active("shop")), (3, vec![0]), "{mode}");
            for number in 1..4 {
                let asks = udp("198.51.100.8:53", &end("198.51.100.20", 5_000 + number));
                let gets = udp("198.51.100.8:53", &end("10.0.0.12", 5_000 + number)).routed();
                rig.case("a mapping stands", &[(OUTSIDE, asks)], &[(INSIDE, gets)], &[]);
            }
        }
    }
}

/// An instance that handed back the first packet of a session, which was unknown here by then, has it like any other: it is
/// counted, named, and replaced when it fails.
#[test]
fn an_instance_that_was_met_first_is_replaced_too() {
    for family in FAMILIES {
        let [a, b] = family.first;
        let probed = "algorithm = \"round-robin\"\nhealth = { kind = \"icmp\" }";
        let service = family.service("protocol = \"udp\"", &tier(probed, &family.first));
        let mut rig = Rig::new(&format!("{ALLOW}{service}"));
        // The MAC of an instance has to be known before it can tell.
        rig.put(OUTSIDE, &udp(family.client_at(39_999).client, family.asked));
        rig.settle();
        let _ = rig.take();
        let before = rig.active("shop.tier-1");
        let asks = udp(family.client, family.asked).data(b"?");
        let (_, back) = Family::at(a, &asks, 63, None);
        rig.put(INSIDE, &back);
        rig.settle();
        assert_eq!(rig.take().len(), 1, "to the backend");
        let (to_a, _) = Family::at(a, &asks, 63, None);
        rig.case("by the one that had it", &[(OUTSIDE, asks.clone())], &[(INSIDE, to_a)], &[]);
        let counted: Vec<_> = rig.active("shop.tier-1").into_iter().zip(before).map(|(now, then)| now - then).collect();
        assert_eq!(counted, [1, 0]);
        rig.health("shop.tier-1", "a", Health::Failed);
        let (to_b, _) = Family::at(b, &asks, 63, None);
        rig.case("by the other", &[(OUTSIDE, asks)], &[(INSIDE, to_b)], &[]);
    }
}

/// A table that is full is no way past the tiers, where backends answer directly and clients are forwarded by their hash.
#[test]
fn a_full_table_is_no_way_past_the_tiers() {
    for family in FAMILIES {
        let small = TWO_PORTS.replace("capacity = 4_096", "capacity = 2");
        let service = family.service("mode = \"direct\"", &family.two_tiers());
        let mut rig = Rig::of(&format!("{small}{ALLOW}{service}"));
        for number in 1..3 {
            family.client_at(number).travels_to_first(&mut rig);
            let answer = tcp(family.asked, family.client_at(number).client).syn_ack(2).seq(9);
            rig.put(INSIDE, &answer);
            rig.put(OUTSIDE, &family.client_at(number).up(&|p| p.ack(10).seq(2)));
            rig.settle();
            let _ = rig.take();
        }
        let other = family.client_at(9).up(&|p| p.syn().seq(1));
        rig.drops_all("a third", &[(OUTSIDE, other)], SessionTableFull);
    }
}

impl Family {
    /// A SYN of this client goes to the first instance.
    fn travels_to_first(&self, rig: &mut Rig) {
        let packet = self.up(&|p| p.syn().seq(1));
        let (there, _) = Self::at(self.first[0], &packet, 63, None);
        rig.case("SYN", &[(OUTSIDE, packet)], &[(INSIDE, there)], &[]);
    }
}

/// What an instance says about a packet it was to hand back reaches the client, and nothing that anybody else says
/// about it. What is said about answers reaches the backend, past the tiers.
#[test]
fn errors_about_tiered_packets_find_their_sender() {
    everywhere(|family, telling, workers| {
        let v6 = family.backend.contains(':');
        let mut rig = laid_out(&family.policy(telling), workers);
        family.opens(&mut rig, telling);
        let (kind, code, rest) = if v6 { (2, 0, 1_280) } else { (3, 4, 1_280) };
        let about = |packet: &Packet| packet.clone().hops(61).uncut();
        let data = family.up(&hello);
        for (instance, tag) in [(family.first[0], None), (family.second[0], None), (family.first[0], telling.tags[0])] {
            let error = icmp_error(instance, host(family.client), kind, code, rest, &about(&data), 64);
            let passed = (OUTSIDE, error.clone().routed());
            rig.case("an instance's link is too small", &[(INSIDE, tagged(error, tag))], &[passed], &[]);
        }
        let by = |source: &str, about: &Packet| icmp_error(source, host(family.client), kind, code, rest, about, 64);
        let blind = about(&family.up(&|p| p.ack(5001).seq(900_000_000)));
        let rows = [
            ("RFC 5927: about nothing that was sent", INSIDE, by(family.first[0], &blind)),
            ("from no instance", INSIDE, by(family.backend, &about(&data))),
            (
                "from an instance's MAC outside",
                OUTSIDE,
                by(family.first[0], &about(&data)).source_mac(station(family.first[0].parse().unwrap())),
            ),
            (
                "in the appliance's name",
                INSIDE,
                by(family.own[1], &about(&data)).source_mac(station(family.first[0].parse().unwrap())),
            ),
        ];
        for (sentence, side, error) in rows {
            rig.drops_all(sentence, &[(side, error)], IcmpErrorUnmatched);
        }
        let answer = |from: &str| tcp(from, family.client).ack(1001).seq(5001).data(b"here").hops(60).uncut();
        let to = |target: &str, about: &Packet| icmp_error(host(family.client), target, kind, code, rest, about, 64);
        let error = to(host(family.asked), &answer(family.asked));
        let told = to(family.backend, &answer(&family.served())).routed();
        rig.case("about an answer", &[(OUTSIDE, error)], &[(INSIDE, told)], &[]);
    });
}

/// A packet that does not fit a link behind a tier: its sender is told, not the instance.
#[test]
fn what_does_not_fit_behind_a_tier_is_told_to_the_client() {
    everywhere(|family, telling, workers| {
        let keys = format!("{}mode = \"ipip\"", telling.keys);
        let mut rig = laid_out(&format!("{ALLOW}{}", family.service(&keys, &family.two_tiers())), workers);
        family.travels_to_first_as(&mut rig, telling);
        let v6 = family.backend.contains(':');
        let full = family.up(&|p| p.ack(1).seq(2).data(&vec![7; if v6 { 1_440 } else { 1_460 }]).uncut());
        let (there, back) = Family::at(family.first[0], &full, 63, telling.tags[0]);
        rig.case("to tier 1", &[(OUTSIDE, full.clone())], &[(INSIDE, there)], &[]);
        let (there, back_again) = Family::at(family.second[0], &full, 61, telling.tags[1]);
        rig.case("to tier 2", &[(INSIDE, back)], &[(INSIDE, there)], &[]);
        let (kind, code, room, quoted) = if v6 { (2, 0, 1_460, 1_232) } else { (3, 4, 1_480, 548) };
        let error = icmp_error(family.own[0], host(family.client), kind, code, room, &full.hops(60), quoted).told();
        // Where the client is has to be found out first.
        rig.drops_all("into the tunnel", &[(INSIDE, back_again.clone())], PacketTooBig);
        rig.case("and once more", &[(INSIDE, back_again)], &[(OUTSIDE, error)], &[PacketTooBig]);
    });
}

impl Family {
    /// A SYN of this client passes both tiers.
    fn travels_to_first_as(&self, rig: &mut Rig, telling: Telling) {
        let packet = self.up(&|p| p.syn().seq(1));
        let (there, back) = Self::at(self.first[0], &packet, 63, telling.tags[0]);
        rig.case("SYN", &[(OUTSIDE, packet.clone())], &[(INSIDE, there)], &[]);
        let (there, back_again) = Self::at(self.second[0], &packet, 61, telling.tags[1]);
        rig.case("SYN again", &[(INSIDE, back)], &[(INSIDE, there)], &[]);
        rig.put(INSIDE, &back_again);
        rig.settle();
        assert_eq!(rig.take().len(), 1);
    }
}

/// Datagrams in fragments are handed on as they came, all by one instance, and complete at every step.
#[test]
fn fragments_pass_every_tier() {
    everywhere(|family, telling, workers| {
        let service = family.service(&format!("{}protocol = \"udp\"", telling.keys), &family.two_tiers());
        let mut rig = laid_out(&format!("{ALLOW}{service}"), workers);
        let datagram = udp(family.client, family.asked).data(&payload(4_000)).id(77);
        let pieces = |packet: &Packet| packet.pieces(1_440);
        let sent = |side: Side, packet: &Packet| pieces(packet).into_iter().map(|it| (side, it)).collect::<Vec<_>>();
        let (to_first, from_first) = Family::at(family.first[0], &datagram, 63, telling.tags[0]);
        let (to_second, from_second) = Family::at(family.second[0], &datagram, 61, telling.tags[1]);
        for round in ["while neighbors are asked", "at once"] {
            let rounds = [(OUTSIDE, &datagram, &to_first), (INSIDE, &from_first, &to_second)];
            for (side, came, goes) in rounds {
                rig.case(round, &sent(side, came), &sent(INSIDE, goes), &[]);
            }
            for piece in pieces(&from_second).iter().rev() {
                rig.put(INSIDE, piece);
            }
            rig.settle();
            let out = rig.take();
            assert_eq!(out.len(), 3, "{round}");
            assert!(out.iter().all(|(_, bytes)| bytes[12..14] != [0x81, 0x00]), "no marker for the backend");
            let (_, whole) = millrace_tests::fragmented::together(&out);
            let served = udp(family.client, &family.served()).data(&payload(4_000));
            assert_eq!(whole, millrace_tests::fragmented::segment(&served), "{round}");
        }
        assert_eq!(rig.drops().len(), 0);
        assert_eq!(rig.session_count(), 1);
    });
}
