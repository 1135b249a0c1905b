//! Which backend a new session gets: the algorithms, who was here before (persistence), and what QUIC says of it.

use millrace_tests::packet::{station, udp};
use millrace_tests::shop::{ALLOW, CLIENT, backend, by_way_of, choice, service, shop, three};
use millrace_tests::{INSIDE, OUTSIDE, Rig};
use stage::balancer::Health;

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
