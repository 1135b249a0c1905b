//! The balancer as packets meet it: which backend a new session gets, what its packets look like there and back, and what
//! becomes of sessions when a backend drains, fails, or goes.

use millrace_tests::packet::{Packet, ping, station, tcp, udp};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, OUTSIDE, Rig, Talk};
use stage::DropReason::{BackendDrained, BackendFailed, NoBackend, NoService, NoSession};
use stage::balancer::Health;
use units::Nanos;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";
const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SHOP: &str = "198.51.100.10:80";
const SHOP6: &str = "[2001:db8:51::10]:80";

/// A service on the given address; `more` are its further keys.
fn service(address: &str, more: &str) -> String {
    format!(
        "[[virtual_service]]\nname = \"shop\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
         health = {{ kind = \"icmp\" }}\n{more}\n"
    )
}

fn backend(name: &str, address: &str, more: &str) -> String {
    format!("[[virtual_service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}\n")
}

/// Three backends on port 8080.
fn three(more: &str) -> String {
    [("a", "10.0.0.11"), ("b", "10.0.0.12"), ("c", "10.0.0.13")]
        .map(|(name, address)| backend(name, address, &format!("port = 8080\n{more}")))
        .concat()
}

fn shop(keys: &str, backends: &str) -> String {
    format!("{ALLOW}{}{backends}", service("198.51.100.10", keys))
}

/// A client's connection to the shop by way of this backend, nothing but the destination rewritten.
fn by_way_of(client: &str, server: &str) -> Talk {
    Talk::tcp((OUTSIDE, client, SHOP), (INSIDE, client, server))
}

/// The backend a SYN of this client goes to, read off the destination MAC.
fn choice(rig: &mut Rig, client: &str) -> String {
    rig.put(OUTSIDE, &tcp(client, SHOP).syn().seq(OPENER));
    rig.settle();
    let out = rig.take();
    let [(INSIDE, bytes)] = out.as_slice() else { panic!("one packet inside: {out:?}") };
    (11..20)
        .map(|last| format!("10.0.0.{last}"))
        .find(|address| bytes[..6] == station(address.parse().unwrap()).octets())
        .expect("the MAC of a backend")
}

/// SE-35, SE-43: the destination is rewritten there and restored back; checksums are right (A5).
#[test]
fn nat_rewrites_the_destination_and_back() {
    let six =
        service("2001:db8:51::10", "").replace("shop", "shop6") + &backend("six", "2001:db8:10::11", "port = 8080");
    let mut rig = Rig::new(&format!("{}{six}", shop("", &backend("a", "10.0.0.11", "port = 8080"))));
    for talk in [
        by_way_of(CLIENT, "10.0.0.11:8080"),
        Talk::tcp((OUTSIDE, CLIENT6, SHOP6), (INSIDE, CLIENT6, "[2001:db8:10::11]:8080")),
    ] {
        talk.open(&mut rig);
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
    }
    assert_eq!((rig.active("shop"), rig.active("shop6")), (vec![1], vec![1]));
    let options = [2, 4, 5, 0xb4, 1, 3, 3, 7];
    let options = |p: Packet| p.syn().seq(OPENER).tcp_options(&options);
    rig.passes("a SYN with options", by_way_of("198.51.100.8:9", "10.0.0.11:8080").up(options));
}

/// The backend sees an address of the appliance; its answers find back through it.
#[test]
fn full_nat_hides_the_client() {
    let six = service("2001:db8:51::10", "mode = \"full-nat\"\nsource_address = [\"2001:db8:10::1\"]");
    let six = six.replace("shop", "shop6") + &backend("six", "2001:db8:10::11", "port = 8080");
    let four = shop("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", &backend("a", "10.0.0.11", "port = 8080"));
    let mut rig = Rig::new(&format!("{four}{six}"));
    for talk in [
        Talk::tcp((OUTSIDE, CLIENT, SHOP), (INSIDE, "10.0.0.1:40000", "10.0.0.11:8080")),
        Talk::tcp((OUTSIDE, CLIENT6, SHOP6), (INSIDE, "[2001:db8:10::1]:40000", "[2001:db8:10::11]:8080")),
        // A client beside the backend: without hiding it the answer would go there directly.
        Talk::tcp((INSIDE, "10.0.0.99:41000", SHOP), (INSIDE, "10.0.0.1:41000", "10.0.0.11:8080")),
    ] {
        talk.open(&mut rig);
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
    }
}

/// Only the MACs change; the answers do not come by here.
#[test]
fn direct_changes_the_macs_only() {
    let six = service("2001:db8:51::10", "mode = \"direct\"").replace("shop", "shop6");
    let six = six + &backend("six", "2001:db8:10::11", "");
    let mut rig = Rig::new(&format!("{}{six}", shop("mode = \"direct\"", &backend("a", "10.0.0.11", ""))));
    for (client, asked, server) in [(CLIENT, SHOP, "10.0.0.11"), (CLIENT6, SHOP6, "2001:db8:10::11")] {
        let there = |packet: Packet| ((OUTSIDE, packet.clone()), (INSIDE, packet.routed().via(server)));
        let up = tcp(client, asked);
        rig.passes("SYN", there(up.clone().syn().seq(1)));
        rig.passes("the ACK of an answer that went another way", there(up.clone().ack(77).seq(2)));
        rig.passes("data, far on", there(up.clone().ack(1_000_000).seq(500_000).data(b"much later")));
        rig.passes("FIN", there(up.fin(1_000_000).seq(500_010)));
    }
}

/// A range of ports: a backend without a port of its own is asked on the port the client asked for.
#[test]
fn a_service_of_many_ports_keeps_the_port_that_was_asked_for() {
    let keys = service("198.51.100.10", "").replace("[\"80\"]", "[\"80\", \"8000-8100\"]");
    let mut rig = Rig::new(&format!("{ALLOW}{keys}{}", backend("a", "10.0.0.11", "")));
    for port in [80, 8000, 8042, 8100] {
        let (asked, server) = (format!("198.51.100.10:{port}"), format!("10.0.0.11:{port}"));
        Talk::tcp((OUTSIDE, CLIENT, &asked), (INSIDE, CLIENT, &server)).open(&mut rig);
    }
    for port in [79, 81, 7999, 8101] {
        let asked = format!("198.51.100.10:{port}");
        rig.drops_all("a port of no service", &[(OUTSIDE, tcp(CLIENT, &asked).syn())], NoService);
    }
    rig.drops_all("another protocol on its port", &[(OUTSIDE, udp(CLIENT, SHOP))], NoService);
}

#[test]
fn datagrams_are_balanced_as_connections_are() {
    let keys = service("198.51.100.53", "algorithm = \"round-robin\"").replace("tcp", "udp").replace("80", "53");
    let backends = backend("a", "10.0.0.53", "port = 53") + &backend("b", "10.0.0.54", "port = 5353");
    let mut rig = Rig::new(&format!("{ALLOW}{keys}{backends}"));
    let asked = "198.51.100.53:53";
    for (client, server) in [(CLIENT, "10.0.0.53:53"), ("198.51.100.8:1", "10.0.0.54:5353")] {
        let talk = Talk::udp((OUTSIDE, client, asked), (INSIDE, client, server));
        for _ in 0..2 {
            rig.passes("a question", talk.up(|p| p));
            rig.passes("its answer", talk.down(|p| p.data(b"an answer")));
            rig.passes("one without checksum stays without", talk.up(Packet::no_checksum));
        }
    }
    assert_eq!(rig.active("shop"), [1, 1]);
}

/// SE-66: each in turn, as often as its weight says.
#[test]
fn round_robin_takes_turns_by_weight() {
    let backends = backend("a", "10.0.0.11", "port = 8080\nweight = 2")
        + &backend("b", "10.0.0.12", "port = 8080")
        + &backend("c", "10.0.0.13", "port = 8080\nweight = 0");
    let mut rig = Rig::new(&shop("algorithm = \"round-robin\"", &backends));
    let choices: Vec<_> = (0..9).map(|n| choice(&mut rig, &format!("198.51.100.{}:5", 20 + n))).collect();
    let count = |address: &str| choices.iter().filter(|choice| *choice == address).count();
    assert_eq!(["10.0.0.11", "10.0.0.12", "10.0.0.13"].map(count), [6, 3, 0]);
    for window in choices.windows(3) {
        assert!(window.contains(&"10.0.0.12".to_owned()), "smooth: {choices:?}");
    }
}

/// SE-55, SE-56, SE-67, worked example E2.
#[test]
fn least_connections_follows_the_worked_example() {
    let mut rig = Rig::new(&shop("algorithm = \"least-connections\"", &three("")));
    let loaded: Vec<_> = [("a", 10), ("b", 5), ("c", 2)]
        .into_iter()
        .flat_map(|(name, count)| vec![rig.backend("shop", name); count])
        .collect();
    loaded.iter().for_each(|backend| backend.opened());
    assert_eq!(choice(&mut rig, "198.51.100.20:1"), "10.0.0.13");
    assert_eq!(rig.active("shop"), [10, 5, 3]);
    assert_eq!(choice(&mut rig, "198.51.100.20:2"), "10.0.0.13");
    assert_eq!(choice(&mut rig, "198.51.100.20:3"), "10.0.0.13");
    assert_eq!(rig.active("shop"), [10, 5, 5]);
    assert_eq!(choice(&mut rig, "198.51.100.20:4"), "10.0.0.12", "of equals the first listed");
    assert_eq!(rig.active("shop"), [10, 6, 5]);
    loaded.iter().for_each(|backend| backend.closed());
}

/// SE-57, SE-58, SE-63, worked example E1.
#[test]
fn least_load_weighs_sessions_by_distance() {
    for (hops, expected) in [([0, 3, 1], "10.0.0.13"), ([1, 0, 4], "10.0.0.12")] {
        let backends = [("p", "10.0.0.11"), ("q", "10.0.0.12"), ("r", "10.0.0.13")].into_iter().zip(hops);
        let backends: String = backends
            .map(|((name, address), hops)| backend(name, address, &format!("port = 8080\nhops = {hops}")))
            .collect();
        let mut rig = Rig::new(&shop("algorithm = \"least-load\"", &backends));
        let loaded: Vec<_> = [("p", 20), ("q", 4), ("r", 5)]
            .into_iter()
            .flat_map(|(name, count)| vec![rig.backend("shop", name); count])
            .collect();
        loaded.iter().for_each(|backend| backend.opened());
        assert_eq!(choice(&mut rig, CLIENT), expected);
        loaded.iter().for_each(|backend| backend.closed());
        rig.wait(10);
        assert_eq!(rig.active("shop"), [0, 0, 0], "the half-open session has gone");
        let nearest = if hops[0] == 0 { "10.0.0.11" } else { "10.0.0.12" };
        assert_eq!(choice(&mut rig, CLIENT), nearest, "without load the nearest");
    }
}

/// SE-66, FOV-02: the same flow finds the same backend, and all get their share.
#[test]
fn maglev_and_source_hash_choose_by_who_asks() {
    for (algorithm, ports_matter) in [("maglev", true), ("source-hash", false)] {
        let text = shop(&format!("algorithm = \"{algorithm}\""), &three(""));
        let (mut rig, mut again) = (Rig::new(&text), Rig::new(&text));
        let mut counts = std::collections::BTreeMap::new();
        let mut moved = 0;
        for host in 20..220 {
            let client = format!("198.51.100.{host}:1000");
            let chosen = choice(&mut rig, &client);
            assert_eq!(choice(&mut again, &client), chosen, "another appliance of the same policy");
            moved += u32::from(choice(&mut rig, &format!("198.51.100.{host}:1001")) != chosen);
            *counts.entry(chosen).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|&count| (40..=95).contains(&count)), "{counts:?}");
        assert_eq!(moved > 0, ports_matter, "{algorithm} moved {moved}");
    }
}

/// SE-79, SE-80: a source goes back to where it was, for as long as it was said.
#[test]
fn a_source_keeps_its_backend() {
    let keys = "algorithm = \"round-robin\"\npersistence = { by = \"source\", timeout = \"5m\" }";
    let mut rig = Rig::new(&shop(keys, &three("")));
    let first = choice(&mut rig, "198.51.100.20:1");
    let second = choice(&mut rig, "198.51.100.21:1");
    assert_ne!(first, second);
    for port in 2..6 {
        assert_eq!(choice(&mut rig, &format!("198.51.100.20:{port}")), first);
        assert_eq!(choice(&mut rig, &format!("198.51.100.21:{port}")), second);
    }
    // Half-open sessions end after five seconds; the memory counts from there.
    rig.wait(5 + 290);
    assert_eq!(choice(&mut rig, "198.51.100.20:9"), first);
    rig.wait(5 + 301);
    let later: Vec<_> = (0..3).map(|port| choice(&mut rig, &format!("198.51.100.2{}:1", 2 + port))).collect();
    assert_eq!(later.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "forgotten: the turns go on");
}

/// SE-80: what was remembered is worth nothing when that backend is out.
#[test]
fn a_source_whose_backend_is_out_gets_another_and_keeps_that() {
    let keys = "algorithm = \"round-robin\"\npersistence = { by = \"source\", timeout = \"5m\" }";
    let mut rig = Rig::new(&shop(keys, &three("")));
    assert_eq!(choice(&mut rig, "198.51.100.20:1"), "10.0.0.11");
    rig.health("shop", "a", Health::Failed);
    let other = choice(&mut rig, "198.51.100.20:2");
    assert_ne!(other, "10.0.0.11");
    rig.health("shop", "a", Health::Up);
    assert_eq!(choice(&mut rig, "198.51.100.20:3"), other);
}

/// SE-65: the balancer decides about new sessions only; SE-51: a backend that is added starts from nothing.
#[test]
fn a_session_stays_where_it_is_whatever_the_loads() {
    let one = backend("a", "10.0.0.11", "port = 8080");
    let mut rig = Rig::new(&shop("", &one));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    rig.publish_more(&shop("", &three("")));
    assert_eq!(rig.active("shop"), [1, 0, 0]);
    talk.chat(&mut rig);
    assert_eq!(choice(&mut rig, "198.51.100.8:1"), "10.0.0.12");
    talk.chat(&mut rig);
    talk.close_after(&mut rig, 5);
}

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

/// A backend that speaks by itself, from the port it serves on, is an ordinary packet: no session, no rewriting.
#[test]
fn what_a_backend_says_unasked_belongs_to_no_session() {
    let mut rig = Rig::new(&shop("", &three("")));
    rig.drops_all("an unasked SYN-ACK", &[(INSIDE, tcp("10.0.0.11:8080", CLIENT).syn_ack(5).seq(1))], NoSession);
    let own =
        Talk::tcp((INSIDE, "10.0.0.11:33000", "198.51.100.7:443"), (OUTSIDE, "10.0.0.11:33000", "198.51.100.7:443"));
    own.open(&mut rig);
    own.chat(&mut rig);
}

/// A connection again with the same ports, after the first was reset: it may get another backend (EVA-17's end).
#[test]
fn a_new_connection_on_old_ports_is_balanced_anew() {
    let mut rig = Rig::new(&shop("algorithm = \"round-robin\"", &three("")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    rig.passes("RST", talk.up(|p| p.rst().seq(OPENER + 1)));
    let again = by_way_of(CLIENT, "10.0.0.12:8080");
    again.open(&mut rig);
    again.chat(&mut rig);
    assert_eq!(rig.session_count(), 1);
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

/// Echo to a virtual address is the appliance's to answer, and asks no backend.
#[test]
fn a_ping_of_the_virtual_address_asks_no_backend() {
    let mut rig = Rig::new(&shop("", &three("")));
    let asks = ping("198.51.100.7", "198.51.100.10", 7);
    let answer = millrace_tests::packet::pong("198.51.100.10", "198.51.100.7", 7);
    rig.case("echo", &[(OUTSIDE, asks)], &[(OUTSIDE, answer)], &[]);
    assert_eq!(rig.active("shop"), [0, 0, 0]);
}

/// A server that asks the service it serves, and is chosen itself: a packet from itself to itself must not leave; hidden
/// behind a pool address it works.
#[test]
fn a_backend_that_asks_its_own_service_is_not_sent_its_own_packet() {
    let one = backend("a", "10.0.0.11", "port = 8080");
    let mut rig = Rig::new(&shop("", &one));
    rig.put(INSIDE, &tcp("10.0.0.11:40000", SHOP).syn().seq(OPENER));
    rig.settle();
    assert!(rig.take().is_empty(), "source and destination are the same");
    assert_eq!(rig.drops().values().sum::<u64>(), 1, "counted once: {:?}", rig.drops());
    assert_eq!((rig.session_count(), rig.active("shop")), (0, vec![0]));
    let mut rig = Rig::new(&shop("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", &one));
    let talk = Talk::tcp((INSIDE, "10.0.0.11:40000", SHOP), (INSIDE, "10.0.0.1:40000", "10.0.0.11:8080"));
    talk.open(&mut rig);
    talk.chat(&mut rig);
}

/// RFC 9000 section 17.3.1: a short header, its connection id as the servers give them out (rotation 1, two bytes of id).
fn quic_short(server: [u8; 2]) -> Vec<u8> {
    [&[0x41, 0x3f], &server[..], b"nonce and all that is protected"].concat()
}

/// A client whose address changes is found again by the connection id its server gave it; everything else goes by address.
#[test]
fn a_quic_client_stays_with_its_backend_when_its_address_changes() {
    for (address, hosts, backends, client) in [
        ("198.51.100.44", "198.51.100", ["10.0.0.11", "10.0.0.12", "10.0.0.13"], "."),
        ("2001:db8:51::44", "2001:db8:51:", ["2001:db8:10::11", "2001:db8:10::12", "2001:db8:10::13"], ":"),
    ] {
        let keys = service(address, "algorithm = \"round-robin\"\npersistence = { by = \"quic-cid\", config_rotation = 1, server_id_length = 2 }")
            .replace("tcp", "udp")
            .replace("80", "443");
        let listed: String = ["0a01", "0a02", "0a03"]
            .into_iter()
            .zip(["a", "b", "c"].into_iter().zip(backends))
            .map(|(id, (name, address))| backend(name, address, &format!("server_id = \"{id}\"")))
            .collect();
        let mut rig = Rig::new(&format!("{ALLOW}{keys}{listed}"));
        let asked = millrace_tests::packet::end(address, 443);
        let mut host = 20;
        let mut goes_to = |rig: &mut Rig, data: &[u8]| {
            host += 1;
            let source = millrace_tests::packet::end(&format!("{hosts}{client}{host}"), 4_433);
            rig.put(OUTSIDE, &udp(&source, &asked).data(data));
            rig.settle();
            let out = rig.take();
            let [(INSIDE, bytes)] = out.as_slice() else { panic!("one packet inside: {out:?}") };
            backends.into_iter().position(|each| bytes[..6] == station(each.parse().unwrap()).octets()).unwrap()
        };
        for _ in 0..3 {
            assert_eq!(goes_to(&mut rig, &quic_short([0x0a, 3])), 2, "the id names it");
        }
        assert_eq!(goes_to(&mut rig, &quic_short([0x0a, 1])), 0);
        let initial = [&[0xc1, 0, 0, 0, 1, 8, 0x3f, 0x0a, 0x03], &[0; 40][..]].concat();
        let turns: Vec<_> = (0..3).map(|_| goes_to(&mut rig, &initial)).collect();
        assert_eq!(turns, [0, 1, 2], "a long header goes by the algorithm");
        let turns: Vec<_> = (0..3).map(|_| goes_to(&mut rig, &quic_short([0x0b, 3]))).collect();
        assert_eq!(turns, [0, 1, 2], "an id that names nobody, too");
        assert_eq!(goes_to(&mut rig, b"\x41\x3f\x0a"), 0, "and what is too short for one");
        rig.drain("shop", "c");
        assert_eq!(goes_to(&mut rig, &quic_short([0x0a, 3])), 2, "a draining backend keeps its connections");
        rig.health("shop", "c", Health::Failed);
        assert_ne!(goes_to(&mut rig, &quic_short([0x0a, 3])), 2, "a failed one does not");
    }
}

/// A question of one shot leaves nothing behind once its answer has passed: as many answers as questions, however they mix.
#[test]
fn a_one_shot_session_ends_with_its_last_answer() {
    let keys = |more: &str| service("198.51.100.53", more).replace("tcp", "udp").replace("80", "53");
    let one = backend("a", "10.0.0.53", "port = 5353");
    for (mode, shown) in
        [("mode = \"nat\"", CLIENT), ("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", "10.0.0.1:40000")]
    {
        let mut rig = Rig::new(&format!("{ALLOW}{}{one}", keys(&format!("one_shot = true\n{mode}"))));
        let talk = Talk::udp((OUTSIDE, CLIENT, "198.51.100.53:53"), (INSIDE, shown, "10.0.0.53:5353"));
        for _ in 0..3 {
            rig.passes("a question", talk.up(|p| p));
            assert_eq!((rig.session_count(), rig.active("shop")), (1, vec![1]));
            rig.passes("its answer", talk.down(|p| p.data(b"an answer")));
            assert_eq!((rig.session_count(), rig.active("shop")), (0, vec![0]));
        }
        rig.passes("for the IPv4 address", talk.up(|p| p.data(b"A?")));
        rig.passes("and for the IPv6 one", talk.up(|p| p.data(b"AAAA?")));
        rig.passes("one answer", talk.down(|p| p.data(b"A")));
        assert_eq!(rig.session_count(), 1);
        rig.passes("and the other", talk.down(|p| p.data(b"AAAA")));
        assert_eq!((rig.session_count(), rig.active("shop")), (0, vec![0]));
        rig.passes("one that is lost", talk.up(|p| p));
        rig.wait(31);
        assert_eq!(rig.session_count(), 0, "ends with the time for unanswered ones");
    }
}
