//! Address translation with real clients: a pool of source NAT with mappings, from servers to the world and back.

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
            let page = server.must("curl -sS --max-time 10 http://198.51.100.29/");
            seen.push(page.trim().rsplit_once(' ').expect("a page names the client").1.to_owned());
        }
        assert!(seen.iter().all(|address| *address == seen[0]), "RFC 4787 REQ-2, paired: {seen:?}");
        assert!(seen[0].starts_with("198.51.100.10"), "{seen:?}");
        server.must("ping -c 3 -W 3 198.51.100.20");
        server.must("ping -c 3 -W 3 -s 1400 198.51.100.20");
        let answer = server.must("dig +time=3 +tries=2 +short @198.51.100.28 whoami.example TXT");
        assert_eq!(answer.trim(), "\"names\"");
        let way = server.must("traceroute -n -w 2 -q 1 198.51.100.20");
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
    let page = lab.shop_b.must("curl -sS --max-time 10 --local-port 20443 http://198.51.100.29/");
    let pool_address = page.trim().rsplit_once(' ').expect("a page names the client").1.to_owned();
    let listening = Web::start(&lab, &lab.shop_b, "shop-b", &["10.0.0.12:20443"]);
    eventually(30, "a stranger reaches the mapping", || {
        let answer = lab.client.run(&format!("curl -sS --max-time 2 http://{pool_address}:20443/"));
        answer.out.trim() == "shop-b 198.51.100.20"
    });
    // RFC 4787 REQ-9: the neighbor inside reaches it there too, and is seen at its own outside address.
    let page = lab.shop_a.must(&format!("curl -sS --max-time 10 http://{pool_address}:20443/"));
    let (server, seen) = page.trim().split_once(' ').expect("a page names server and client");
    assert!(server == "shop-b" && seen.starts_with("198.51.100.10"), "{page}");
    drop((inside, world, listening));
    appliance.stop();
}
