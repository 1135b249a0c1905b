//! Packets that are only supposed, of sessions there are: the test plays the workers that have them.

use session::{Kind, State};
use worker::{Ends, SessionRecord};

use super::*;
use crate::status::{Supposed, TraceStatus};

const PACKET: &str = "tcp 198.51.100.7:40000 > 198.51.100.10:80 port outside flags ACK";

/// A client's session with the shop.
fn session(bench: &Bench) -> SessionRecord {
    let client = "198.51.100.7".parse().unwrap();
    let ends = |source: &str, source_port, destination, destination_port| Ends {
        source: source.parse().unwrap(),
        source_port,
        destination,
        destination_port,
    };
    SessionRecord {
        tenant: None,
        kind: Kind::Tcp,
        state: State::Established,
        original: ends("198.51.100.7", 40_000, "198.51.100.10".parse().unwrap(), 80),
        reply: ends("10.0.0.11", 8_080, client, 40_000),
        backend: Some(bench.backend("shop", "shop-a")),
        tiers: [].into_iter().collect(),
        packets: 1,
        bytes: 60,
        idle: 0,
        expires: 100,
        owner: units::WorkerId::new(0),
        ingress: PortId::new(0),
        generation: 1,
        from_kernel: false,
        in_line: false,
    }
}

fn supposed(bench: &Bench, record: SessionRecord) -> TraceStatus {
    all_supposed(bench, &[PACKET], vec![vec![record]]).remove(0)
}

/// What is told of these packets, where workers copy these batches of sessions.
fn all_supposed(bench: &Bench, packets: &[&str], batches: Vec<Vec<SessionRecord>>) -> Vec<TraceStatus> {
    let supposed = |packet: &&str| Supposed { packet: Some((*packet).to_owned()), frame: None, port: None };
    let packets: Vec<_> = packets.iter().map(supposed).collect();
    let asked = bench.spawn(move |appliance| appliance.suppose(&packets).unwrap());
    let Request::Neighbors(reply) = bench.asked.recv().unwrap() else { panic!("not asked for neighbors") };
    reply.send(Vec::new()).unwrap();
    let Request::Sessions(reader) = bench.asked.recv().unwrap() else { panic!("not asked for sessions") };
    assert!(reader.capacity().is_some_and(|room| room < 10), "copies of all sessions wait for whoever asks");
    for batch in batches.into_iter().chain([Vec::new()]) {
        reader.send(batch).unwrap();
    }
    asked.join().unwrap()
}

/// However many sessions and packets there are, each packet finds its own, whichever end sends it.
#[test]
fn each_packet_finds_its_session() {
    let bench = Bench::new();
    let client = |number: u16| 40_000 + number;
    let numbered = |number: u16| {
        let mut record = session(&bench);
        (record.original.source_port, record.reply.destination_port) = (client(number), client(number));
        record
    };
    let batches = (0..20).map(|batch| (0..100).map(|number| numbered(batch * 100 + number)).collect()).collect();
    let packets: Vec<String> = (0..50)
        .flat_map(|number| {
            let (port, none) = (client(number * 41), client(3_000 + number));
            [
                format!("tcp 198.51.100.7:{port} > 198.51.100.10:80 port outside flags ACK"),
                format!("tcp 10.0.0.11:8080 > 198.51.100.7:{port} port inside flags ACK"),
                format!("tcp 198.51.100.7:{none} > 198.51.100.10:80 port outside flags ACK"),
                format!("udp 198.51.100.7:{port} > 198.51.100.10:80 port outside"),
            ]
        })
        .collect();
    let packets: Vec<&str> = packets.iter().map(String::as_str).collect();
    let told = all_supposed(&bench, &packets, batches);
    let outcomes: Vec<&str> = told.iter().map(|told| told.outcome.as_str()).collect();
    for (number, outcomes) in outcomes.chunks(4).enumerate() {
        let found = if number * 41 < 2_000 { "forwarded" } else { "dropped" };
        assert_eq!(outcomes, [found, found, "dropped", "dropped"], "{number}");
    }
}

/// A policy that comes into force, every worker moved on.
fn applied(bench: &Bench, text: String) {
    let applying = bench.spawn(move |appliance| appliance.apply(&Proposal::apply(&text, "new.toml", "op")));
    bench.publication().done.send(()).unwrap();
    applying.join().unwrap().unwrap();
}

/// Whether a revocation holds is what this is asked for: what the policy before has allowed counts for nothing.
#[test]
fn a_session_of_an_earlier_policy_is_judged_by_that_of_today() {
    let bench = Bench::new();
    let told = supposed(&bench, session(&bench));
    assert_eq!((told.outcome.as_str(), told.depends.len()), ("forwarded", 2));
    let weight = EDGE.replace("weight = 2", "weight = 3");
    applied(&bench, weight);
    let told = supposed(&bench, session(&bench));
    assert_eq!(told.outcome, "forwarded");
    assert!(told.depends.iter().any(|depends| depends.contains("the rules of today allow it")), "{told:#?}");
    let deny =
        "[[firewall.rule]]\nname = \"no\"\naction = \"deny\"\nsource = [\"198.51.100.7\"]\n\n[[firewall.rule]]\n";
    applied(&bench, EDGE.replacen("[[firewall.rule]]\n", deny, 1));
    let told = supposed(&bench, session(&bench));
    assert_eq!((told.outcome.as_str(), told.reason.as_deref()), ("dropped", Some("firewall_denied")), "{told:#?}");
    assert!(told.sentence.contains("judged again"), "{}", told.sentence);
    let record = SessionRecord { generation: bench.appliance.snapshot().generation.short(), ..session(&bench) };
    assert_eq!(supposed(&bench, record).outcome, "forwarded", "judged already");
}

/// What cannot be as it is shown is not shown: sessions in line that are asked for by a routed port, backends that are gone.
#[test]
fn a_packet_that_its_session_does_not_take_is_told_of() {
    let bench = Bench::new();
    let told = supposed(&bench, SessionRecord { in_line: true, ..session(&bench) });
    assert_eq!((told.outcome.as_str(), told.reason.as_deref()), ("dropped", Some("tuple_in_use")));
    bench.backend("shop", "shop-a").set_health(Health::Failed);
    let told = supposed(&bench, session(&bench));
    assert!(told.depends.iter().any(|depends| depends.contains("failed or drained")), "{told:#?}");
}
