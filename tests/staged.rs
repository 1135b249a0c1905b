//! Staged rules as packets meet them: never. Every table is run twice, without and with a staged rule that would turn each of its
//! verdicts round, and must end the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_tests::packet::{Packet, ping, tcp, udp};
use millrace_tests::rules::WEB;
use millrace_tests::{INSIDE, OUTSIDE, Rig, Side};

/// Everything is denied, everything is allowed, everything is rejected.
const STAGED: [&str; 3] = ["deny", "allow", "reject"];

fn rules(staged: &str) -> String {
    let first = "[[firewall.rule]]";
    let tried = format!("{first}\nname = \"tried\"\naction = \"{staged}\"\nstaged = true\n{first}");
    if staged.is_empty() { WEB.to_owned() } else { WEB.replacen(first, &tried, 1) }
}

/// First packets of both families, plain ones in bursts and such as are read in full.
fn packets() -> Vec<(Side, Packet)> {
    let mut packets = Vec::new();
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("[2001:db8:51::7]", "[2001:db8:10::11]")] {
        for number in 0..40 {
            let client = format!("{client}:{}", 40_000 + number);
            for port in [80, 23, 443] {
                packets.push((OUTSIDE, tcp(&client, &format!("{server}:{port}")).syn()));
            }
            packets.push((OUTSIDE, udp(&client, &format!("{server}:53"))));
            packets.push((OUTSIDE, udp(&client, &format!("{server}:37"))));
        }
        let (client, server) = (client.trim_matches(['[', ']']), server.trim_matches(['[', ']']));
        packets.push((OUTSIDE, ping(client, server, 7)));
        packets.push((INSIDE, ping(server, client, 7)));
    }
    packets
}

/// What is to be seen of a run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    left: Vec<(Side, Vec<u8>)>,
    drops: BTreeMap<&'static str, u64>,
    /// First packets that each rule in force decided about, and the default.
    hits: Vec<u64>,
}

fn run(staged: &str) -> (Outcome, Rig) {
    let mut rig = Rig::new(&rules(staged));
    let mut left = Vec::new();
    for burst in packets().chunks(40) {
        burst.iter().for_each(|(side, packet)| rig.put(*side, packet));
        rig.settle();
        left.extend(rig.take());
    }
    let rules = &rig.snapshot().rules;
    let hits = rules.counts().map(|rule| rule.hits).chain([rules.default_hits()]).collect();
    let outcome = Outcome { left, drops: rig.drops(), hits };
    (outcome, rig)
}

#[test]
fn staged_rules_never_change_a_verdict() {
    let (plain, rig) = run("");
    assert!(!plain.left.is_empty() && plain.drops["firewall_denied"] > 0 && plain.drops["firewall_rejected"] > 0);
    assert!(rig.snapshot().rules.staged().is_none());
    let [web, telnet, time, ping, default] = plain.hits[..] else { panic!("{:?}", plain.hits) };
    assert!([web, telnet, time, ping, default].iter().all(|&hits| hits > 0));
    let (let_in, kept_out) = (web + ping, telnet + time + default);
    for action in STAGED {
        let (outcome, rig) = run(action);
        assert_eq!(outcome, plain, "{action}");
        let snapshot = Arc::clone(rig.snapshot());
        let tried = snapshot.rules.staged().unwrap().counts().next().unwrap();
        assert_eq!((tried.name, tried.hits), ("tried", let_in + kept_out), "every first packet");
        let wanted = if action == "allow" { (kept_out, 0) } else { (0, let_in) };
        assert_eq!((tried.would_allow, tried.would_refuse), wanted, "{action}");
    }
}
