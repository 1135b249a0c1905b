//! Two workers give the same results as one: the same random traffic on one worker, on two over single-queue ports, and on
//! two with a queue each that packets reach at random, gives the same packets out and the same sessions.

use std::collections::BTreeMap;

use millrace_tests::packet::{Packet, end, icmp_error, ip, ping, pong, tcp, udp};
use millrace_tests::talk::Passage;
use millrace_tests::{INSIDE, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS, Talk};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use session::State;

const POLICY: &str = r#"
[firewall]
default = "allow"
[[source_nat]]
name = "out"
from = ["dmz"]
to = ["wan"]
source = ["10.0.0.0/24"]
address = ["198.51.100.1"]
[[virtual_service]]
name = "nat"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
algorithm = "source-hash"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.21"
port = 8080
[[virtual_service.backend]]
name = "b"
address = "10.0.0.22"
port = 8080
[[virtual_service]]
name = "direct"
address = "198.51.100.20"
protocol = "tcp"
ports = ["80"]
algorithm = "source-hash"
mode = "direct"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.31"
[[virtual_service]]
name = "six"
address = "2001:db8:51::10"
protocol = "tcp"
ports = ["80"]
algorithm = "source-hash"
[[virtual_service.backend]]
name = "a"
address = "2001:db8:10::21"
port = 8080
"#;

const LAYOUTS: [Layout; 3] = [
    Layout { workers: 1, queues: 1, buffers: 4_096 },
    Layout { workers: 2, queues: 1, buffers: 4_096 },
    Layout { workers: 3, queues: 3, buffers: 4_096 },
];

/// One packet of the random traffic: few ends, so that conversations arise.
fn packets() -> impl Strategy<Value = (Side, Packet)> {
    let host = 1..6_u8;
    let port = prop_oneof![Just(80_u16), Just(8080), 2_000..2_004_u16];
    let flags = prop_oneof![Just(0x02_u8), Just(0x12), Just(0x10), Just(0x11), Just(0x14), Just(0x18)];
    (0..14_u8, host.clone(), host, port.clone(), port, flags, 0..3_u32).prop_map(
        |(kind, client, server, source, destination, flags, step)| {
            let outer = format!("198.51.100.{}", 100 + client);
            let inner = format!("10.0.0.{}", 20 + server);
            let (outer6, inner6) = (format!("2001:db8:51::{client:x}00"), format!("2001:db8:10::{}", 20 + server));
            let number = |p: Packet| {
                p.flags(flags).seq(1_000 + step * 3).acknowledging(if flags & 0x10 == 0 { 0 } else { 1_001 })
            };
            match kind {
                0 => (OUTSIDE, number(tcp(&end(&outer, source), "198.51.100.10:80"))),
                1 => (OUTSIDE, number(tcp(&end(&outer, source), "198.51.100.20:80"))),
                2 => (OUTSIDE, number(tcp(&end(&outer6, source), "[2001:db8:51::10]:80"))),
                3 => (INSIDE, number(tcp(&end(&inner, 8080), &end(&outer, source)))),
                4 => (INSIDE, number(tcp(&end(&inner6, 8080), &end(&outer6, source)))),
                5 => (OUTSIDE, number(tcp(&end(&outer, source), &end(&inner, destination)))),
                6 => (OUTSIDE, udp(&end(&outer6, source), &end(&inner6, destination))),
                7 => (INSIDE, udp(&end(&inner6, destination), &end(&outer6, source))),
                8 => (OUTSIDE, ping(&outer6, &inner6, source)),
                9 => (INSIDE, pong(&inner6, &outer6, source)),
                10 => (OUTSIDE, ip(&outer, &inner, 47, b"tunnel")),
                11 => (OUTSIDE, ping(&outer, "198.51.100.1", source)),
                12 => (OUTSIDE, tcp(&end(&outer, source), "198.51.100.1:22").syn().seq(1)),
                _ => {
                    let about = udp(&end(&outer6, source), &end(&inner6, destination)).hops(63);
                    (INSIDE, icmp_error(&inner6, &outer6, 1, 4, 0, &about, 500))
                }
            }
        },
    )
}

/// What is left of a run: packets out by side in any order, drops, sessions.
type Outcome = (Vec<(Side, Vec<u8>)>, BTreeMap<&'static str, u64>, Vec<String>);

fn outcome(layout: Layout, traffic: &[(Side, Packet)]) -> Outcome {
    // Ports handed out to hidden sources come from the share of the worker that owns the session, so those may differ; see
    // below.
    let (translation, services) = (POLICY.find("[[source_nat]]").unwrap(), POLICY.find("[[virtual_service]]").unwrap());
    let policy = format!("{TWO_PORTS}{}{}", &POLICY[..translation], &POLICY[services..]);
    let mut rig = Rig::laid_out(&policy, layout);
    let mut out = Vec::new();
    for (side, packet) in traffic {
        rig.put(*side, packet);
        rig.settle();
        // One after the other: workers have no order between them.
        out.extend(rig.take());
    }
    let mut sessions: Vec<_> = rig
        .sessions()
        .iter()
        .map(|s| format!("{:?} {} {:?} {:?} {} {}", s.kind, s.state, s.original, s.reply, s.packets, s.bytes))
        .collect();
    sessions.sort();
    let drops = rig.drops();
    (out, drops, sessions)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("fixtures/regressions/steering.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_number_of_workers_gives_the_results_of_one(traffic in prop::collection::vec(packets(), 1..60)) {
        let one = outcome(LAYOUTS[0], &traffic);
        for layout in &LAYOUTS[1..] {
            let more = outcome(*layout, &traffic);
            prop_assert_eq!(&more, &one, "{:?}", layout);
        }
    }
}

/// Sessions are spread over the workers, and each is owned by one.
#[test]
fn both_workers_own_sessions() {
    for layout in &LAYOUTS[1..] {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), *layout);
        for host in 0..60 {
            for port in 1..5 {
                rig.put(OUTSIDE, &tcp(&format!("198.51.100.{}:{port}", 100 + host), "198.51.100.10:80").syn());
            }
            rig.settle();
        }
        let owned = rig.sessions_by_worker();
        let fair = 240 / usize::from(layout.workers);
        assert!(owned.iter().all(|&sessions| sessions > fair / 2 && sessions < fair * 2), "{owned:?}");
        assert!(rig.count(|c| &c.handed_over) > 60);
        assert_eq!(rig.take().len(), 240);
    }
}

/// A hidden source gets a port of its own worker's share: its answers go to that worker, whoever receives them.
#[test]
fn answers_to_a_hidden_source_find_its_worker() {
    for layout in LAYOUTS {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), layout);
        for port in 0..64 {
            let (source, server) = (format!("10.0.0.99:{}", 30_000 + port), "198.51.100.7:443");
            rig.put(INSIDE, &tcp(&source, server).syn().seq(1_000));
            rig.settle();
            let out = rig.take();
            let shown = format!("198.51.100.1:{}", u16::from_be_bytes([out[0].1[34], out[0].1[35]]));
            let talk = Talk::tcp((INSIDE, &source, server), (OUTSIDE, &shown, server));
            rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(1_001).seq(5_000)));
            rig.passes("ACK", talk.up(|p| p.ack(5_001).seq(1_001)));
            talk.chat(&mut rig);
        }
        assert!(rig.sessions().iter().all(|session| session.state == State::Established));
    }
}

/// The kernel's own connections work with any number of workers.
#[test]
fn the_kernels_connections_find_their_worker() {
    for layout in LAYOUTS {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), layout);
        for port in 0..32 {
            let own = format!("198.51.100.1:{}", 40_000 + port);
            let syn = tcp(&own, "198.51.100.7:80").syn().seq(1);
            rig.passes("SYN", ((OUTSIDE_KERNEL, syn.clone()), (OUTSIDE, syn)));
            let answer = tcp("198.51.100.7:80", &own).syn_ack(2).seq(9);
            rig.passes("SYN-ACK", ((OUTSIDE, answer.clone()), (OUTSIDE_KERNEL, answer)));
        }
    }
}

/// What one worker hands to another faster than that takes it waits in the device, not in a ring that is full.
#[test]
fn nothing_is_lost_between_workers() {
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), Layout { workers: 2, queues: 1, buffers: 8_192 });
    let handed = |rig: &Rig| rig.count(|c| &c.handed_over);
    let other = (1..100_u16).map(|port| tcp(&format!("198.51.100.100:{port}"), "198.51.100.10:80").syn()).find(|syn| {
        let before = handed(&rig);
        rig.put(OUTSIDE, syn);
        rig.settle();
        handed(&rig) > before
    });
    let syn = other.expect("one in two is another worker's");
    rig.take();
    for _ in 0..6_000 {
        rig.put(OUTSIDE, &syn);
    }
    rig.settle();
    assert_eq!((rig.take().len(), rig.drops().len()), (6_000, 0));
}

/// A policy without the parts that tests of changes add and take away.
const OPEN: &str = "[firewall]\ndefault = \"allow\"\n";

/// A service at port 80 of `address`, its backends at port 8080 of theirs.
fn service(name: &str, protocol: &str, address: &str, backends: &[&str]) -> String {
    let backends = backends
        .iter()
        .map(|backend| format!("[[virtual_service.backend]]\naddress = \"{backend}\"\nname = \"b\"\nport = 8080\n"));
    format!(
        "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nports = [\"80\"]\n\
         algorithm = \"source-hash\"\n{}",
        backends.collect::<String>()
    )
}

/// The source NAT of what servers begin.
fn hiding(keys: &str) -> String {
    format!(
        "[[source_nat]]\nname = \"out\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\naddress = [\"198.51.100.20\", \
         \"2001:db8:51::20\"]\n{keys}\n"
    )
}

/// Conversations that a change must not touch, and the policies before and after it.
struct Change {
    sentence: &'static str,
    before: String,
    after: String,
    talks: Vec<Talk>,
}

fn clients<'a>(address: &'a str) -> impl Iterator<Item = String> + 'a {
    (40_000..40_024).map(move |port| end(address, port))
}

fn changes() -> Vec<Change> {
    let (client, client6) = ("198.51.100.7", "2001:db8:51::7");
    let to_service = |address: &str, backend: &str, asked: &str| {
        clients(address)
            .map(|from| Talk::tcp((OUTSIDE, &from, &end(asked, 80)), (INSIDE, &from, &end(backend, 8080))))
            .collect::<Vec<_>>()
    };
    let plain = |address: &str, server: &str| {
        let server = end(server, 8080);
        clients(address).map(|from| Talk::tcp((OUTSIDE, &from, &server), (INSIDE, &from, &server))).collect::<Vec<_>>()
    };
    let shop = |backends: &[&str]| service("shop", "tcp", "198.51.100.10", backends);
    let shop6 = |backends: &[&str]| service("six", "tcp", "2001:db8:51::10", backends);
    let mapping = hiding("mapping = \"endpoint-independent\"");
    let outward: Vec<Talk> = (40_000..40_200)
        .map(|port| {
            let (from, shown) = (end("10.0.0.50", port), end("198.51.100.20", port));
            Talk::tcp((INSIDE, &from, "198.51.100.7:443"), (OUTSIDE, &shown, "198.51.100.7:443"))
        })
        .filter(|talk| {
            // A client keeps its port where that is its worker's.
            let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{OPEN}{mapping}"), MANY);
            let ((side, syn), (_, kept)) = talk.up(|p| p.syn().seq(1));
            rig.put(side, &syn);
            rig.settle();
            rig.take() == [(OUTSIDE, rig.outward(OUTSIDE, &kept))]
        })
        .collect();
    vec![
        Change {
            sentence: "a backend is taken out (it drains)",
            before: format!("{OPEN}{}{}", shop(&["10.0.0.21"]), shop6(&["2001:db8:10::21"])),
            after: format!("{OPEN}{}{}", shop(&["10.0.0.22"]), shop6(&["2001:db8:10::22"])),
            talks: [
                to_service(client, "10.0.0.21", "198.51.100.10"),
                to_service(client6, "2001:db8:10::21", "2001:db8:51::10"),
            ]
            .concat(),
        },
        Change {
            sentence: "a service is taken out (its backends drain)",
            before: format!("{OPEN}{}{}", shop(&["10.0.0.21"]), shop6(&["2001:db8:10::21"])),
            after: OPEN.to_owned(),
            talks: [
                to_service(client, "10.0.0.21", "198.51.100.10"),
                to_service(client6, "2001:db8:10::21", "2001:db8:51::10"),
            ]
            .concat(),
        },
        Change {
            sentence: "a server that clients reach directly becomes a backend",
            before: OPEN.to_owned(),
            after: format!("{OPEN}{}{}", shop(&["10.0.0.21"]), shop6(&["2001:db8:10::21"])),
            talks: [plain(client, "10.0.0.21"), plain(client6, "2001:db8:10::21")].concat(),
        },
        Change {
            sentence: "a server that clients reach directly becomes a forward's",
            before: OPEN.to_owned(),
            after: format!(
                "{OPEN}[[destination_nat]]\nname = \"web\"\naddress = \"198.51.100.1\"\nprotocol = \"tcp\"\n\
                 ports = \"8080\"\nto_address = \"10.0.0.21\"\n"
            ),
            talks: plain(client, "10.0.0.21"),
        },
        Change {
            sentence: "source NAT counts the ports of clients from now on",
            before: format!("{OPEN}{mapping}"),
            after: format!("{OPEN}{}", hiding("ports_per_source = 100")),
            talks: outward,
        },
    ]
}

const MANY: Layout = Layout { workers: 3, queues: 3, buffers: 4_096 };

/// RLD-09, SE-52: who owns a session follows from the policy, and a new policy may say otherwise: conversations go on all the same,
/// on the worker that has them, through as many policies as may come.
#[test]
fn conversations_go_on_through_a_policy_that_gives_them_to_another_worker() {
    for Change { sentence, before, after, talks } in changes() {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{before}"), MANY);
        for talk in &talks {
            talk.open(&mut rig);
        }
        for round in 0..3 {
            rig.publish_more(&after);
            for talk in &talks {
                talk.chat(&mut rig);
            }
            assert_eq!(rig.drops().len(), 0, "{sentence}, round {round}");
        }
        assert_eq!(rig.session_count(), talks.len(), "{sentence}: none was opened twice");
    }
}

/// The same while the policy comes into force, on one worker after the other.
#[test]
fn conversations_go_on_while_a_policy_comes_into_force() {
    for Change { sentence, before, after, talks } in changes() {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{before}"), MANY);
        for talk in &talks {
            talk.open(&mut rig);
        }
        let done = rig.send_policy(&format!("{TWO_PORTS}{after}"));
        let mut wanted = 0;
        for talk in &talks {
            let said: [Passage; 2] = [talk.up(|p| p.ack(5_001).seq(1_001)), talk.down(|p| p.ack(1_001).seq(5_001))];
            for ((side, packet), _) in said {
                rig.put(side, &packet);
                wanted += 1;
            }
            rig.turn();
            if wanted == 10 {
                rig.control();
            }
        }
        rig.settle();
        assert!(done.try_recv().is_ok());
        assert_eq!((rig.take().len(), rig.drops().len()), (wanted, 0), "{sentence}");
    }
}

/// A route that leads to another zone, which source NAT is not for, gives clients that kept their port to other workers; what they
/// had begun goes on where it is.
#[test]
fn conversations_go_on_when_a_route_leads_to_another_zone() {
    let mapping = hiding("mapping = \"endpoint-independent\"");
    let moved = "[[route]]\nto = \"203.0.113.9/32\"\nvia = \"10.0.0.254\"\n";
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{OPEN}{mapping}"), MANY);
    let talks: Vec<(String, String)> = (40_000..40_048)
        .map(|port| {
            let from = end("10.0.0.50", port);
            rig.put(INSIDE, &udp(&from, "203.0.113.9:53"));
            rig.settle();
            let out = rig.take();
            (from, end("198.51.100.20", u16::from_be_bytes([out[0].1[34], out[0].1[35]])))
        })
        .collect();
    for round in 0..3 {
        rig.publish_more(&format!("{OPEN}{mapping}{moved}"));
        for (from, shown) in &talks {
            let asked = udp(shown, "203.0.113.9:53").via("10.0.0.254").routed();
            rig.case("goes on", &[(INSIDE, udp(from, "203.0.113.9:53"))], &[(INSIDE, asked)], &[]);
            let answer = udp("203.0.113.9:53", shown).via("10.0.0.254");
            let heard = udp("203.0.113.9:53", from).routed();
            rig.case("is answered", &[(INSIDE, answer)], &[(INSIDE, heard)], &[]);
        }
        assert_eq!(rig.session_count(), talks.len(), "round {round}: none was opened twice");
    }
}

/// New conversations of what has changed are opened once, by the worker the policy in force gives them to.
#[test]
fn new_conversations_are_opened_once_after_a_change() {
    for Change { sentence, before, after, .. } in changes() {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{before}"), MANY);
        // Backends are what they were until a policy finds nobody using them.
        rig.publish_more(&after);
        rig.publish_more(&after);
        let mut fresh = Rig::laid_out(&format!("{TWO_PORTS}{after}"), MANY);
        for from in clients("198.51.100.7") {
            for rig in [&mut rig, &mut fresh] {
                rig.put(OUTSIDE, &tcp(&from, "198.51.100.10:80").syn().seq(1));
                rig.put(OUTSIDE, &tcp(&from, "10.0.0.21:8080").syn().seq(1));
                rig.put(OUTSIDE, &udp(&from, "10.0.0.21:8080"));
                rig.settle();
                rig.take();
            }
        }
        assert_eq!(rig.sessions_by_worker(), fresh.sessions_by_worker(), "{sentence}");
    }
}

/// Fragments and ICMP errors find the conversation as well; an answer of a backend that was taken out never opens another.
#[test]
fn fragments_and_errors_find_the_worker_that_had_the_session() {
    let text = |backend: &str| format!("{OPEN}{}{}", hiding(""), service("dns", "udp", "198.51.100.10", &[backend]));
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{}", text("10.0.0.21")), MANY);
    let talks: Vec<Talk> = clients("198.51.100.7")
        .map(|from| Talk::udp((OUTSIDE, &from, "198.51.100.10:80"), (INSIDE, &from, "10.0.0.21:8080")))
        .collect();
    for talk in &talks {
        rig.passes("a question", talk.up(|p| p));
    }
    rig.publish_more(&text("10.0.0.22"));
    rig.publish_more(&text("10.0.0.23"));
    for talk in &talks {
        rig.passes("its late answer", talk.down(|p| p));
        let ((_, asked), (_, delivered)) = talk.up(|p| p.data(b"more"));
        rig.passes("another question", ((OUTSIDE, asked.clone()), (INSIDE, delivered.clone())));
        let error = icmp_error("10.0.0.21", "198.51.100.7", 3, 3, 0, &delivered, 400);
        let heard = icmp_error("198.51.100.10", "198.51.100.7", 3, 3, 0, &asked.routed(), 400).routed();
        rig.passes("port unreachable", ((INSIDE, error), (OUTSIDE, heard)));
        let ((_, long), _) = talk.down(|p| p.data(&[7; 1_600]));
        for fragment in long.pieces(800) {
            rig.put(INSIDE, &fragment);
        }
        rig.settle();
        assert_eq!(rig.take().len(), 3, "a long answer");
    }
    assert_eq!(rig.drops().len(), 0);
    assert_eq!(rig.session_count(), talks.len());
}
