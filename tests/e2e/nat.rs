//! Address translation with real clients: a pool of source NAT with mappings, from servers to the world and
//! back, and forwards from the world to servers.

use millrace_tests::net::{Appliance, Configuration, Lab, Resolver, Web, eventually};

const PROGRAMS: &[&str] = &["curl", "dig", "dnsmasq", "ping", "ss", "traceroute"];

/// `edge.toml` with a pool that keeps mappings, which outlive their connections by a while.
fn mapped(lab: &Lab) -> Configuration {
    let slow = "[sessions.timeouts]\ntcp_time_wait = \"10m\"\n\n[[port]]\nname = \"outside\"";
    let edge = lab.edge().without_probes().replacing("[[port]]\nname = \"outside\"", slow);
    edge.replacing(
        "address = [\"198.51.100.1\"]",
        "address = [\"198.51.100.100-198.51.100.103\"]\nports = \"20000-29999\"\n\
         mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"",
    )
}

#[test]
fn servers_browse_through_a_pool_with_mappings() {
    let Some(lab) = Lab::wired("servers_browse_through_a_pool_with_mappings", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &mapped(&lab));
    let world = Web::start(&lab, &lab.client, "world", &["198.51.100.29:80"]);
    let names = Resolver::start(&lab, &lab.client, "names", "198.51.100.28");
    for server in [&lab.shop_a, &lab.shop_b] {
        let mut seen = Vec::new();
        for _ in 0..5 {
            let page = server.must("curl -sS --max-time 60 http://198.51.100.29/");
            seen.push(page.trim().rsplit_once(' ').expect("a page names the client").1.to_owned());
        }
        assert!(seen.iter().all(|address| *address == seen[0]), "RFC 4787 REQ-2, paired: {seen:?}");
        assert!(seen[0].starts_with("198.51.100.10"), "{seen:?}");
        server.must("ping -c 3 -W 10 198.51.100.20");
        server.must("ping -c 3 -W 10 -s 1400 198.51.100.20");
        let answer = server.must("dig +time=10 +tries=3 +short @198.51.100.28 whoami.example TXT");
        assert_eq!(answer.trim(), "\"names\"");
        let way = server.must("traceroute -n -w 20 -q 1 198.51.100.20");
        let hops: Vec<_> = way.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, ["10.0.0.1", "198.51.100.20"], "{way}");
    }
    let queries = names.queries();
    assert!(queries.iter().all(|line| line.contains("from 198.51.100.10")), "{queries:?}");
    drop(world);
    let shown = appliance.ask("show nat --json");
    let nat: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    let pool = &nat["pools"][0];
    assert_eq!((pool["name"].as_str(), pool["exhausted"].as_u64()), (Some("servers-out"), Some(0)), "{nat}");
    assert!(pool["mappings"].as_u64() > Some(0) && pool["sessions"].as_u64() >= pool["mappings"].as_u64(), "{nat}");
    appliance.stop();
}

/// RFC 4787 REQ-1 and REQ-8 with sockets: a server inside is known outside by one port, at which a stranger reaches it.
#[test]
fn a_stranger_reaches_a_server_at_its_outside_port() {
    let Some(lab) = Lab::wired("a_stranger_reaches_a_server_at_its_outside_port", PROGRAMS) else { return };
    let configuration = mapped(&lab).with_first_rule(
        "name = \"to-mappings\"\naction = \"allow\"\nfrom = [\"wan\", \"dmz\"]\nto = [\"dmz\"]\ndestination = [\"198.51.100.100/30\"]",
    );
    let appliance = Appliance::launch(&lab, &configuration);
    let inside = Web::start(&lab, &lab.shop_a, "inside", &["10.0.0.11:20080"]);
    let world = Web::start(&lab, &lab.client, "world", &["198.51.100.29:80"]);
    // The mapping: a request from the port on which the server listens itself.
    let page =
        lab.shop_b.must("curl -sS --ignore-content-length --max-time 60 --local-port 20443 http://198.51.100.29/");
    let pool_address = page.trim().rsplit_once(' ').expect("a page names the client").1.to_owned();
    let listening = Web::start(&lab, &lab.shop_b, "shop-b", &["10.0.0.12:20443"]);
    eventually(30, "a stranger reaches the mapping", || {
        let answer = lab.client.run(&format!("curl -sS --max-time 2 http://{pool_address}:20443/"));
        answer.out.trim() == "shop-b 198.51.100.20"
    });
    // RFC 4787 REQ-9: the neighbor inside reaches it there too, and is seen at its own outside address.
    let page = lab.shop_a.must(&format!("curl -sS --max-time 60 http://{pool_address}:20443/"));
    let (server, seen) = page.trim().split_once(' ').expect("a page names server and client");
    assert!(server == "shop-b" && seen.starts_with("198.51.100.10"), "{page}");
    drop((inside, world, listening));
    appliance.stop();
}

/// A forward from outside, from beside the server, and from the server itself, in both IP versions.
#[test]
fn a_forward_is_reached_from_outside_and_inside() {
    let Some(lab) = Lab::wired("a_forward_is_reached_from_outside_and_inside", PROGRAMS) else { return };
    let rules = "name = \"to-forwards\"\naction = \"allow\"\nto = [\"dmz\"]\nprotocol = \"tcp\"\n\
                 destination = [\"198.51.100.1\", \"2001:db8:51::30\"]";
    let forwards = "[[destination_nat]]\nname = \"web\"\naddress = \"198.51.100.1\"\nprotocol = \"tcp\"\nports = \"9000-9009\"\n\
                    to_address = \"10.0.0.12\"\nto_port = 8080\n\n\
                    [[destination_nat]]\nname = \"web6\"\naddress = \"2001:db8:51::30\"\nprotocol = \"tcp\"\nports = 9000\n\
                    to_address = \"2001:db8:10::12\"\nto_port = 8080\n\n\
                    [[source_nat]]\nname = \"servers-out6\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\naddress = [\"2001:db8:51::100\"]\n\n\
                    [[source_nat]]\nname = \"servers-out\"";
    let configuration = lab
        .edge()
        .without_probes()
        .with_first_rule(rules)
        .replacing("[[source_nat]]\nname = \"servers-out\"", forwards)
        .replacing("address = [\"198.51.100.1\"]", "address = [\"198.51.100.100\"]");
    let appliance = Appliance::launch(&lab, &configuration);
    let _server =
        Web::start(&lab, &lab.shop_b, "server", &["10.0.0.12:8080", "10.0.0.12:8085", "[2001:db8:10::12]:8080"]);
    for (asked, outside, hidden) in [
        ("198.51.100.1:9000", "198.51.100.20", "198.51.100.100"),
        ("198.51.100.1:9005", "198.51.100.20", "198.51.100.100"),
        ("[2001:db8:51::30]:9000", "2001:db8:51::", "2001:db8:51::100"),
    ] {
        let page = lab.client.must(&format!("curl -sS --max-time 60 http://{asked}/"));
        assert!(page.starts_with(&format!("server {outside}")), "{page}");
        for host in [&lab.shop_a, &lab.shop_b] {
            let page = host.must(&format!("curl -sS --max-time 60 http://{asked}/"));
            assert_eq!(page.trim(), format!("server {hidden}"), "from inside");
        }
    }
    let closed = lab.client.run("curl -sS --max-time 2 http://198.51.100.1:9010/");
    assert!(!closed.success, "{}", closed.out);
    let shown = appliance.ask("show nat --json");
    let nat: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    assert_eq!(
        (nat["forwards"][0]["total"].as_u64(), nat["forwards"][1]["total"].as_u64()),
        (Some(6), Some(3)),
        "{nat}"
    );
    appliance.stop();
}
