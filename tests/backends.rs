//! What becomes of sessions when a backend drains, fails, flaps, or goes, and what is counted of each.

use millrace_tests::packet::tcp;
use millrace_tests::shop::{ALLOW, CLIENT, SHOP, backend, by_way_of, choice, service, shop, three};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, OUTSIDE, Rig, Talk};
use stage::DropReason::{BackendDrained, BackendFailed, NoBackend, NoSession};
use stage::balancer::Health;
use units::Nanos;

/// SE-53, FOV-08: no backend, no session; and a service comes back as soon as one is up.
#[test]
fn without_a_backend_the_packet_is_dropped_by_that_name() {
    let mut rig = Rig::new(&shop("", &three("")));
    for name in ["a", "b", "c"] {
        rig.health("shop", name, Health::Failed);
    }
    let syn = tcp(CLIENT, SHOP).syn().seq(OPENER);
    rig.drops_all("every backend failed", &[(OUTSIDE, syn.clone())], NoBackend);
    assert_eq!(rig.session_count(), 0);
    rig.health("shop", "b", Health::Up);
    by_way_of(CLIENT, "10.0.0.12:8080").open(&mut rig);
}

/// SE-52, FOV-06: a draining backend keeps its sessions and gets no new ones, until the drain timeout.
#[test]
fn a_draining_backend_keeps_its_sessions_until_the_timeout() {
    let mut rig = Rig::new(&shop("drain_timeout = \"30s\"", &three("")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    rig.drain("shop", "a");
    for port in 0..4 {
        assert_ne!(choice(&mut rig, &format!("198.51.100.20:{}", 1000 + port)), "10.0.0.11");
    }
    talk.chat(&mut rig);
    rig.wait(29);
    talk.chat(&mut rig);
    rig.wait(2);
    rig.came(
        "both ends are told, in the numbers that follow what each was last sent, acknowledged or not",
        &[
            talk.told_opener(|p| p.rst_ack(OPENER + 6).seq(ANSWERER + 6)),
            talk.told_answerer(|p| p.rst_ack(ANSWERER + 6).seq(OPENER + 6)),
        ],
    );
    assert_eq!(rig.active("shop")[0], 0);
    rig.drops_all("and that was it", &[talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)).0], NoSession);
}

/// A backend the policy no longer has drains like one the operator took out.
#[test]
fn a_removed_backend_drains() {
    let mut rig = Rig::new(&shop("drain_timeout = \"30s\"", &three("")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    let left = backend("b", "10.0.0.12", "port = 8080");
    let gone = rig.backend("shop", "a");
    rig.publish_more(&shop("drain_timeout = \"30s\"", &left));
    talk.chat(&mut rig);
    assert_eq!(choice(&mut rig, "198.51.100.20:1"), "10.0.0.12");
    assert_eq!(gone.active(), 1);
    rig.wait(29);
    talk.chat(&mut rig);
    rig.wait(2);
    assert_eq!(rig.take().len(), 2, "a reset for each end");
    assert_eq!(gone.active(), 0);
}

/// SE-54: an established connection of a failed backend is reset at both ends; others notice nothing (FOV-04).
#[test]
fn a_failed_backend_takes_its_own_connections_with_it_and_no_others() {
    let mut rig = Rig::new(&shop("", &three("")));
    let talks = ["11", "12", "13"].map(|last| {
        let talk = by_way_of(&format!("198.51.100.{last}:40000"), &format!("10.0.0.{last}:8080"));
        talk.open(&mut rig);
        talk
    });
    rig.health("shop", "b", Health::Failed);
    rig.came(
        "a reset for both ends of its connection",
        &[
            talks[1].told_opener(|p| p.rst_ack(OPENER + 1).seq(ANSWERER + 1)),
            talks[1].told_answerer(|p| p.rst_ack(ANSWERER + 1).seq(OPENER + 1)),
        ],
    );
    talks[0].chat(&mut rig);
    talks[2].chat(&mut rig);
    assert_eq!(rig.active("shop"), [1, 0, 1]);
    assert_ne!(choice(&mut rig, "198.51.100.20:1"), "10.0.0.12");
}

/// SE-54: what is not established moves to another backend with its next packet.
#[test]
fn a_handshake_with_a_failed_backend_begins_anew_elsewhere() {
    let mut rig = Rig::new(&shop("", &three("")));
    by_way_of(CLIENT, "10.0.0.11:8080").syn(&mut rig);
    rig.health("shop", "a", Health::Failed);
    by_way_of(CLIENT, "10.0.0.12:8080").open(&mut rig);
    assert_eq!(rig.active("shop"), [0, 1, 0]);
}

#[test]
fn datagrams_of_a_failed_backend_go_to_another() {
    let keys = service("198.51.100.53", "").replace("tcp", "udp").replace("80", "53");
    let backends = backend("a", "10.0.0.53", "port = 53") + &backend("b", "10.0.0.54", "port = 53");
    for (more, goes_on) in [("", true), ("on_backend_failure = \"reset\"\n", false)] {
        let mut rig = Rig::new(&format!("{ALLOW}{keys}{more}{backends}"));
        let asked = "198.51.100.53:53";
        let before = Talk::udp((OUTSIDE, CLIENT, asked), (INSIDE, CLIENT, "10.0.0.53:53"));
        rig.passes("a question", before.up(|p| p));
        rig.health("shop", "a", Health::Failed);
        let after = Talk::udp((OUTSIDE, CLIENT, asked), (INSIDE, CLIENT, "10.0.0.54:53"));
        if goes_on {
            rig.drops_all("what the failed one still says", &[before.down(|p| p).0], BackendFailed);
        }
        rig.passes("the next question", after.up(|p| p));
        rig.passes("and its answer", after.down(|p| p));
        assert_eq!(rig.active("shop"), [0, 1]);
    }
}

/// SE-54: `reset` also for handshakes.
#[test]
fn where_it_is_asked_for_even_handshakes_are_reset() {
    let mut rig = Rig::new(&shop("on_backend_failure = \"reset\"", &three("")));
    by_way_of(CLIENT, "10.0.0.11:8080").syn(&mut rig);
    rig.health("shop", "a", Health::Failed);
    rig.take();
    assert_eq!((rig.active("shop"), rig.session_count()), (vec![0, 0, 0], 0));
}

/// The operator's flush ends what there is, and tells both ends.
#[test]
fn a_flush_ends_the_sessions_of_a_backend_at_once() {
    let mut rig = Rig::new(&shop("", &three("")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    let other = by_way_of("198.51.100.8:40000", "10.0.0.12:8080");
    talk.open(&mut rig);
    other.open(&mut rig);
    assert_eq!(rig.flush("shop", "a"), 1);
    assert_eq!(rig.take().len(), 2, "a reset for each end");
    rig.drops_all("its next packet", &[talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)).0], NoSession);
    other.chat(&mut rig);
    assert_eq!(rig.active("shop"), [0, 1, 0]);
}

/// SE-48: opened and closed sessions are counted exactly, whatever way a session ends.
#[test]
fn sessions_in_progress_are_counted_up_and_down() {
    let mut rig = Rig::new(&shop("algorithm = \"round-robin\"", &three("")));
    let talks: Vec<_> = (0..9_u8)
        .map(|n| by_way_of(&format!("198.51.100.{}:7", 20 + n), &format!("10.0.0.{}:8080", 11 + n % 3)))
        .collect();
    talks.iter().for_each(|talk| talk.open(&mut rig));
    assert_eq!(rig.active("shop"), [3, 3, 3]);
    talks[0].close(&mut rig);
    rig.wait(11);
    assert_eq!(rig.active("shop"), [2, 3, 3], "finished, and its time of waiting over");
    rig.passes("a reset of the client", talks[1].up(|p| p.rst().seq(OPENER + 1)));
    rig.wait(3);
    assert_eq!(rig.active("shop"), [2, 2, 3], "reset");
    rig.leap(Nanos::from_secs(7_500));
    assert_eq!(rig.active("shop"), [0, 0, 0], "silent for too long");
    let totals = ["a", "b", "c"].map(|name| rig.backend("shop", name).total());
    assert_eq!(totals, [3, 3, 3]);
}

/// Traffic of a backend is counted in packets and in bytes of IP.
#[test]
fn traffic_of_a_backend_is_counted() {
    let mut rig = Rig::new(&shop("", &backend("a", "10.0.0.11", "port = 8080")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    talk.chat(&mut rig);
    // What sessions have counted is collected once a second.
    rig.wait(2);
    assert_eq!(rig.backend("shop", "a").traffic(), (5, 3 * 40 + 2 * 45));
    let session = &rig.sessions()[0];
    assert_eq!((session.packets, session.bytes), (5, 3 * 40 + 2 * 45));
    assert_eq!(session.backend.as_ref().map(|backend| backend.name().to_owned()), Some("a".to_owned()));
}

/// SE-52: a backend the operator has disabled is not chosen, until it is enabled again.
#[test]
fn a_disabled_backend_is_not_chosen() {
    let backends =
        backend("a", "10.0.0.11", "port = 8080\ndisabled = true") + &backend("b", "10.0.0.12", "port = 8080");
    let mut rig = Rig::new(&shop("algorithm = \"round-robin\"", &backends));
    for port in 1..5 {
        assert_eq!(choice(&mut rig, &format!("198.51.100.20:{port}")), "10.0.0.12");
    }
    rig.publish_more(&shop("algorithm = \"round-robin\"", &backends.replace("disabled = true", "")));
    let both: std::collections::BTreeSet<_> =
        (5..9).map(|port| choice(&mut rig, &format!("198.51.100.20:{port}"))).collect();
    assert_eq!(both.len(), 2);
}

/// `backend_drained` is for what still comes between the end and the walk that ends its sessions.
#[test]
fn drained_sessions_end_with_the_time_even_if_their_packets_come_first() {
    let mut rig = Rig::new(&shop("drain_timeout = \"1s\"", &three("")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    rig.drain("shop", "a");
    let ((side, packet), _) = talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1).data(b"late"));
    rig.put(side, &packet);
    rig.leap(Nanos::from_millis(1_250));
    let passed = rig.take();
    assert!(rig.dropped(BackendDrained) + rig.dropped(NoSession) <= 1);
    assert!((2..=3).contains(&passed.len()), "the packet or not, then a reset for each end: {passed:?}");
    assert_eq!(rig.active("shop"), [0, 0, 0]);
}

/// SE-52: a backend is out until its probes have risen.
#[test]
fn a_backend_is_out_until_its_probes_have_risen() {
    let mut rig = Rig::new(&shop("", &three("")));
    rig.health("shop", "a", Health::Unknown);
    assert_eq!(choice(&mut rig, CLIENT), "10.0.0.12");
    rig.health("shop", "a", Health::Up);
    assert_eq!(choice(&mut rig, "198.51.100.8:1"), "10.0.0.11");
}

/// FOV-07: a backend that fails and rises a hundred times loses its own connections; nobody else's is moved or missed, and
/// whoever comes meanwhile finds one that is there.
#[test]
fn a_flapping_backend_costs_the_others_nothing() {
    let mut rig = Rig::new(&shop("algorithm = \"maglev\"", &three("")));
    let servers: Vec<_> = (0..60)
        .map(|number| {
            let client = format!("198.51.100.{}:40000", 20 + number);
            let server = choice(&mut rig, &client);
            (client, server)
        })
        .collect();
    let talks: Vec<_> = servers
        .iter()
        .map(|(client, server)| (by_way_of(client, &format!("{server}:8080")), server == "10.0.0.12"))
        .collect();
    talks.iter().for_each(|(talk, _)| talk.open(&mut rig));
    assert!(talks.iter().any(|(_, flaps)| *flaps) && talks.iter().any(|(_, flaps)| !flaps));
    for flap in 0..100 {
        rig.health("shop", "b", Health::Failed);
        rig.take();
        assert_ne!(choice(&mut rig, &format!("203.0.113.{}:{}", 1 + flap, 1_000 + flap)), "10.0.0.12");
        rig.health("shop", "b", Health::Up);
        for (talk, _) in talks.iter().filter(|(_, flaps)| !flaps) {
            talk.chat(&mut rig);
        }
    }
    let back: Vec<_> =
        servers.iter().map(|(client, _)| choice(&mut rig, &client.replace(":40000", ":40001"))).collect();
    assert!(back.iter().any(|server| server == "10.0.0.12"), "it is chosen again when it is up");
}
