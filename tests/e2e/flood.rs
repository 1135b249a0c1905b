//! SYN floods against a virtual service, with real clients beside them: `hping3` with forged sources, and `curl`.

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, eventually};
use serde_json::Value;

/// SYNs a second of the flood: what a test may ask of any machine. `MILLRACE_FLOOD_GAP_US` sets the gap between two.
const GAP_US: u64 = 100;

/// The shop and its IPv6 sister with these cookies.
fn with_cookies(edge: Configuration, cookies: &str) -> Configuration {
    edge.replacing("drain_timeout = \"30s\"", &format!("drain_timeout = \"30s\"\nsyn_cookies = {{ {cookies} }}"))
        .replacing("algorithm = \"maglev\"", &format!("algorithm = \"maglev\"\nsyn_cookies = {{ {cookies} }}"))
}

fn cookies(appliance: &Appliance<'_>, service: &str) -> Value {
    let services = appliance.show("services");
    let found = services.as_array().and_then(|all| all.iter().find(|it| it["name"] == service).cloned());
    found.map_or(Value::Null, |service| service["syn_cookies"].clone())
}

/// Every claim of edge.toml about the shop holds when each of its connections begins with a cookie: real stacks at both
/// ends, timestamps and selective acknowledgments, megabytes, both families.
#[test]
fn every_connection_may_begin_with_a_cookie() {
    let Some(lab) = Lab::wired("every_connection_may_begin_with_a_cookie", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &with_cookies(lab.edge(), "mode = \"always\""));
    claims.clients_reach_the_shop();
    claims.a_large_page_arrives_whole();
    claims.connections_are_spread_by_weight(&appliance);
    for service in ["shop", "shop6"] {
        let counts = cookies(&appliance, service);
        assert!(counts["proven"].as_u64() >= Some(11) && counts["engaged"] == true, "{service}: {counts}");
    }
    // A backend that nobody listens on refuses: the client hears it, and need not wait.
    drop(claims);
    let refused = lab.client.run("curl -sS --max-time 60 198.51.100.10/");
    assert!(!refused.success && !refused.err.contains("timed out"), "{}", refused.err);
    for reason in ["tcp_out_of_window", "tcp_invalid_state"] {
        assert_eq!(appliance.dropped(reason), 0, "{reason}");
    }
    appliance.stop();
}

/// FLD-01, FLD-02: cookies come with the flood and go after it; meanwhile new clients are served, and what was established
/// goes on.
#[test]
fn clients_of_a_flooded_service_are_served() {
    let programs = [Claims::PROGRAMS, &["hping3"]].concat();
    let Some(lab) = Lab::wired("clients_of_a_flooded_service_are_served", &programs) else { return };
    let claims = Claims::serve(&lab);
    let edge = with_cookies(lab.edge(), "mode = \"adaptive\", on_at = 500, off_at = 250");
    let appliance = Appliance::start(&lab, &edge);
    let mut established = [claims.long_download("198.51.100.10", 0)];
    eventually(5, "the download has begun", || claims.downloaded(0) > 0);

    let gap = millrace_tests::net::number_from_environment("MILLRACE_FLOOD_GAP_US", GAP_US);
    let line = format!("hping3 -q -n -S -p 80 --rand-source -i u{gap} 198.51.100.10");
    let mut flood = lab.client.start(&line, &lab.file("hping3.log"));
    eventually(10, "cookies are on", || cookies(&appliance, "shop")["engaged"] == true);
    for _ in 0..5 {
        claims.ten_clients_reach("198.51.100.10", "198.51.100.");
    }
    let during = cookies(&appliance, "shop");
    assert!(during["proven"].as_u64() >= Some(50), "{during}");
    assert!(during["half_open"].as_u64() <= Some(1_000), "{during}");
    claims.so_many_are_cut(&mut established, 0);
    flood.kill();

    eventually(30, "cookies are off again", || cookies(&appliance, "shop")["engaged"] == false);
    // More than once, if the flood's own program had no processor for a while.
    assert!(cookies(&appliance, "shop")["engagements"].as_u64() >= Some(1));
    claims.ten_clients_reach("198.51.100.10", "198.51.100.");
    claims.so_many_are_cut(&mut established, 0);
    appliance.stop();
}
