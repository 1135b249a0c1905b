//! Policies coming into force while packets flow: none is lost, none sees half a policy, and the order of publications is
//! the order they take effect in.

use millrace_tests::packet::{tcp, udp};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS, Talk};
use stage::DropReason::{FirewallDenied, HalfOpenLimited};
use units::Nanos;

const CLIENT: &str = "198.51.100.7:40000";
const SERVER: &str = "10.0.0.11:80";

/// Allows UDP to these ports, each by a rule of its own, and TCP.
fn allowing(ports: &[u16]) -> String {
    let rule = |port: &u16| {
        format!(
            "[[firewall.rule]]\nname = \"port-{port}\"\naction = \"allow\"\nprotocol = \"udp\"\n\
             destination_port = [\"{port}\"]\n"
        )
    };
    let tcp = "[[firewall.rule]]\nname = \"tcp\"\naction = \"allow\"\nprotocol = \"tcp\"\n";
    format!("{TWO_PORTS}{tcp}{}", ports.iter().map(rule).collect::<String>())
}

/// RLD-01: the same text again changes nothing.
#[test]
fn the_same_policy_again_is_not_noticed() {
    let text = allowing(&[53]);
    let mut rig = Rig::of(&text);
    let talk = Talk::tcp((OUTSIDE, CLIENT, SERVER), (INSIDE, CLIENT, SERVER));
    talk.open(&mut rig);
    for _ in 0..100 {
        rig.publish(&text);
        talk.chat(&mut rig);
    }
    talk.close_after(&mut rig, 5);
    assert_eq!((rig.drops().len(), rig.hits("tcp").0), (0, 1));
}

/// RLD-02: rules come, go and change places under steady traffic; nothing is lost.
#[test]
fn packets_between_and_during_publications_all_arrive() {
    let texts: Vec<_> =
        [vec![53], (53..153).collect(), (53..153).rev().collect(), vec![99, 53]].map(|ports| allowing(&ports)).into();
    let mut rig = Rig::of(&texts[0]);
    let talk = Talk::udp((OUTSIDE, CLIENT, "10.0.0.11:53"), (INSIDE, CLIENT, "10.0.0.11:53"));
    rig.passes("the first", talk.up(|p| p));
    let (mut sent, mut came) = (0_u32, 0);
    for round in 0..40 {
        let done = rig.send_policy(&texts[round % texts.len()]);
        for _ in 0..8 {
            let data = sent.to_be_bytes();
            rig.put(OUTSIDE, &talk.up(|p| p.data(&data)).0.1);
            rig.put(INSIDE, &talk.down(|p| p.data(&data)).0.1);
            sent += 2;
            // Packets and the publication meet in any order.
            rig.turn();
            if round % 2 == 0 {
                rig.control();
            }
        }
        rig.settle();
        assert!(done.try_recv().is_ok(), "the publication took effect");
        came += rig.take().len();
    }
    assert_eq!((came, rig.drops().len()), (80 * 8, 0));
    assert_eq!(rig.session_count(), 1);
}

/// A burst is judged by one policy: of two ports that are never allowed together, never both pass.
#[test]
fn no_burst_sees_half_a_policy() {
    let texts = [allowing(&[1_000]), allowing(&[2_000])];
    let mut rig = Rig::of(&texts[0]);
    // The way out is known, or packets would wait together for it.
    let way = Talk::tcp((OUTSIDE, CLIENT, SERVER), (INSIDE, CLIENT, SERVER));
    way.open(&mut rig);
    let mut source = 1;
    for round in 0..100_usize {
        let _done = rig.send_policy(&texts[(round + 1) % 2]);
        for _ in 0..4 {
            for port in [1_000, 2_000, 1_000, 2_000] {
                rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{source}"), &format!("10.0.0.11:{port}")));
                source += 1;
            }
            // Control's message may come before this turn or after it, but never in its middle.
            if source % 3 == 0 {
                rig.control();
            }
            rig.turn();
            rig.collect();
            let ports: Vec<_> =
                rig.take().iter().map(|(_, bytes)| u16::from_be_bytes([bytes[36], bytes[37]])).collect();
            assert!(ports == [1_000, 1_000] || ports == [2_000, 2_000], "half of each: {ports:?}");
        }
        rig.settle();
    }
    assert_eq!(rig.dropped(FirewallDenied), 800);
}

/// RLD-06: a hundred publications before a worker looks: they take effect in their order, the last one stays.
#[test]
fn a_storm_of_publications_ends_with_the_last() {
    let mut rig = Rig::of(&allowing(&[1]));
    let waiting: Vec<_> = (2..=100).map(|port| rig.send_policy(&allowing(&[port]))).collect();
    rig.settle();
    assert!(waiting.iter().all(|done| done.try_recv().is_ok()), "each is answered");
    assert_eq!(rig.count(|c| &c.generation), 100);
    let packet = udp(CLIENT, "10.0.0.11:100");
    rig.passes("the last one", ((OUTSIDE, packet.clone()), (INSIDE, packet.routed())));
    rig.drops_all("an earlier one", &[(OUTSIDE, udp(CLIENT, "10.0.0.11:99"))], FirewallDenied);
}

/// Every worker moves on, whichever turns first, and control hears of it only when all have.
#[test]
fn a_publication_is_done_when_every_worker_has_moved_on() {
    let mut rig = Rig::laid_out(&allowing(&[1]), Layout { workers: 2, queues: 2, ..Layout::default() });
    let done = rig.send_policy(&allowing(&[2]));
    rig.control();
    assert!(done.try_recv().is_err(), "no worker has turned yet");
    rig.turn();
    rig.control();
    assert!(done.try_recv().is_ok());
    assert_eq!(rig.count(|c| &c.generation), 4, "two workers at generation 2");
}

/// RLD-09: the same table of packets before and after a publication has the same results.
#[test]
fn the_same_table_has_the_same_results_after_a_reload() {
    let text = allowing(&[53]);
    let mut rig = Rig::of(&text);
    for round in 0_u16..3 {
        let source = |port: u16| format!("198.51.100.7:{}", port + round);
        let table: [(&str, millrace_tests::packet::Packet, bool); 4] = [
            ("an allowed datagram", udp(&source(100), "10.0.0.11:53"), true),
            ("a denied one", udp(&source(200), "10.0.0.11:54"), false),
            ("an allowed SYN", tcp(&source(300), SERVER).syn(), true),
            ("a stray ACK", tcp(&source(400), SERVER), false),
        ];
        for (sentence, packet, passes) in table {
            let out: Vec<(Side, _)> = passes.then(|| (INSIDE, packet.clone().routed())).into_iter().collect();
            let drops = rig.drops().values().sum::<u64>();
            rig.put(OUTSIDE, &packet);
            rig.settle();
            rig.came(sentence, &out);
            assert_eq!(rig.drops().values().sum::<u64>() - drops, u64::from(!passes), "{sentence}");
        }
        rig.publish(&text);
    }
    assert_eq!((rig.hits("port-53").0, rig.hits("tcp").0), (3, 3));
}

/// Idle limits of a new policy hold for sessions opened after it and, from their next change, for the others.
#[test]
fn new_timeouts_hold_for_new_sessions() {
    let short = allowing(&[53]).replace("capacity = 4_096", "capacity = 4_096\ntimeouts = { udp_one_way = \"2s\" }");
    let mut rig = Rig::of(&allowing(&[53]));
    rig.publish(&short);
    let packet = udp(CLIENT, "10.0.0.11:53");
    rig.passes("a question", ((OUTSIDE, packet.clone()), (INSIDE, packet.routed())));
    rig.leap(Nanos::from_millis(2_500));
    assert_eq!(rig.session_count(), 0);
}

/// A connection lives through a policy that puts another service before its own, and drains when its own is taken out.
#[test]
fn a_connection_survives_a_new_service_beside_it() {
    let service = |name: &str, address: &str| {
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
             [[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.11\"\nport = 8080\n"
        )
    };
    let text = |services: &[String]| format!("{}{}", allowing(&[53]), services.concat());
    let (first, second) = (service("first", "198.51.100.10"), service("second", "198.51.100.11"));
    let mut rig = Rig::of(&text(std::slice::from_ref(&first)));
    let talk = Talk::tcp((OUTSIDE, CLIENT, "198.51.100.10:80"), (INSIDE, CLIENT, "10.0.0.11:8080"));
    talk.open(&mut rig);
    rig.publish(&text(&[second.clone(), first]));
    talk.chat(&mut rig);
    assert_eq!((rig.active("first"), rig.active("second")), (vec![1], vec![0]));
    rig.publish(&text(&[second]));
    talk.chat(&mut rig);
    rig.wait(31);
    rig.came(
        "the service is gone and its drain timeout over",
        &[
            talk.told_opener(|p| p.rst_ack(OPENER + 6).seq(ANSWERER + 6)),
            talk.told_answerer(|p| p.rst_ack(ANSWERER + 6).seq(OPENER + 6)),
        ],
    );
}

/// RLD-12: while control stands still for ten seconds, packets go on, new sessions open towards neighbors that are known, and
/// what was idle for too long ends as ever; what control then is told is told in its order.
#[test]
fn a_control_thread_that_stands_still_holds_up_no_packet() {
    let mut rig = Rig::of(&allowing(&[53]));
    let talk = Talk::udp((OUTSIDE, CLIENT, "10.0.0.11:53"), (INSIDE, CLIENT, "10.0.0.11:53"));
    rig.passes("the first", talk.up(|p| p));
    rig.passes("its answer", talk.down(|p| p));
    let brief = udp("198.51.100.7:1", "10.0.0.11:53");
    rig.passes("one that gets no answer", ((OUTSIDE, brief.clone()), (INSIDE, brief.routed())));
    let done = rig.send_policy(&allowing(&[53, 54]));
    let mut came = 0;
    for second in 0..40_u16 {
        rig.leap_only(Nanos::from_secs(1));
        let new = udp(&format!("198.51.100.7:{}", 100 + second), "10.0.0.11:53");
        for (side, packet) in [talk.up(|p| p).0, talk.down(|p| p).0, (OUTSIDE, new)] {
            rig.put(side, &packet);
        }
        // The workers turn, and nobody else.
        for _ in 0..4 {
            let _ = rig.turn();
        }
        rig.collect();
        came += rig.take().len();
    }
    assert_eq!((came, rig.drops().len()), (3 * 40, 0));
    assert!(done.try_recv().is_err(), "nothing was published meanwhile");
    assert!(rig.session_count() < 42, "those of half a minute ago have ended: {}", rig.session_count());
    rig.settle();
    assert!(done.try_recv().is_ok());
    let packet = udp(CLIENT, "10.0.0.11:54");
    rig.passes("what the new policy allows", ((OUTSIDE, packet.clone()), (INSIDE, packet.routed())));
}

/// RLD-10: rules come and go while garbage arrives among the traffic; the traffic passes, the garbage is counted, nothing
/// else happens.
#[test]
fn publications_amid_garbage_lose_no_packet_of_others() {
    let texts = [allowing(&[53]), allowing(&(53..153).collect::<Vec<_>>())];
    let mut rig = Rig::of(&texts[0]);
    let talk = Talk::udp((OUTSIDE, CLIENT, "10.0.0.11:53"), (INSIDE, CLIENT, "10.0.0.11:53"));
    rig.passes("the first", talk.up(|p| p));
    let whole = rig.inward(OUTSIDE, &talk.up(|p| p.data(b"garbage")).0.1);
    let (mut seed, mut came) = (1_u64, 0);
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    for round in 0..60 {
        let done = rig.send_policy(&texts[round % 2]);
        for _ in 0..4 {
            for _ in 0..6 {
                let mut bytes = whole.clone();
                // An ethertype of its own, or a header length or version that is none; and cut somewhere behind it.
                let at = [12, 13, 14][random() % 3];
                bytes[at] ^= u8::try_from(random() % 255 + 1).unwrap();
                bytes.truncate(15 + random() % bytes.len());
                rig.put_bytes(OUTSIDE, &bytes);
            }
            rig.put(OUTSIDE, &talk.up(|p| p).0.1);
            rig.put(INSIDE, &talk.down(|p| p).0.1);
            rig.turn();
            if round % 2 == 0 {
                rig.control();
            }
        }
        rig.settle();
        assert!(done.try_recv().is_ok());
        let wanted = [talk.up(|p| p).1, talk.down(|p| p).1].map(|(side, packet)| (side, rig.outward(side, &packet)));
        came += rig.take().iter().filter(|it| wanted.contains(it)).count();
    }
    assert_eq!(came, 60 * 4 * 2);
    // What says IPv4 and is none, a third, is dropped; most other ethertypes are the kernel's to judge.
    assert!(rig.drops().values().sum::<u64>() > 60 * 4 * 6 / 4, "{:?}", rig.drops());
}

/// A service that was out of the policy for a while has the protection it had: handshakes with its backends are counted where
/// it looks.
#[test]
fn a_service_that_comes_back_counts_its_handshakes() {
    let allow = "[firewall]\ndefault = \"allow\"\n";
    let service = "[[virtual_service]]\nname = \"shop\"\naddress = \"198.51.100.10\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
        half_open_limit = 2\nhealth = { kind = \"none\" }\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.11\"\n";
    let mut rig = Rig::new(&format!("{allow}{service}"));
    let talk = Talk::tcp((OUTSIDE, CLIENT, "198.51.100.10:80"), (INSIDE, CLIENT, SERVER));
    talk.open(&mut rig);
    for _ in 0..2 {
        rig.publish_more(allow);
    }
    rig.publish_more(&format!("{allow}{service}"));
    talk.chat(&mut rig);
    let syn = |port: u16| tcp(&format!("198.51.100.7:{port}"), "198.51.100.10:80").syn().seq(1);
    for port in [1, 2] {
        rig.put(OUTSIDE, &syn(port));
        rig.settle();
        assert_eq!(rig.take().len(), 1);
    }
    rig.drops_all("a third", &[(OUTSIDE, syn(3))], HalfOpenLimited);
}
