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
    let asked = bench.spawn(|appliance| {
        let packet = Supposed { packet: Some(PACKET.to_owned()), frame: None, port: None };
        appliance.suppose(&[packet]).unwrap().remove(0)
    });
    let Request::Neighbors(reply) = bench.asked.recv().unwrap() else { panic!("not asked for neighbors") };
    reply.send(Vec::new()).unwrap();
    let Request::Sessions(reader) = bench.asked.recv().unwrap() else { panic!("not asked for sessions") };
    reader.send(vec![record]).unwrap();
    reader.send(Vec::new()).unwrap();
    asked.join().unwrap()
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
