//! `config/examples/edge.toml` over packet sockets (`net_af_packet`): what it promises, with real clients and servers,
//! and how the appliance speaks to clients it refuses.

use millrace_tests::net::{Appliance, Claims, Lab};

#[test]
fn edge_toml_does_what_it_says() {
    let Some(lab) = Lab::wired("edge_toml_does_what_it_says", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    claims.hold(&appliance);
    appliance.stop();
}

#[test]
fn ipv6_connections_are_spread_by_weight() {
    let Some(lab) = Lab::wired("ipv6_connections_are_spread_by_weight", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let configuration = lab.edge().with_second_ipv6_backend().replacing("\"maglev\"", "\"least-connections\"");
    let appliance = Appliance::start(&lab, &configuration);
    claims.spread_by_weight(&appliance, "[2001:db8:51::10]", ["shop6-a", "shop6-b"]);
    appliance.stop();
}

#[test]
fn a_rejected_client_is_told_at_once() {
    let Some(lab) = Lab::wired("a_rejected_client_is_told_at_once", Claims::PROGRAMS) else { return };
    let configuration = lab
        .edge()
        .with_first_rule("name = \"no-ssh\"\naction = \"reject\"\nprotocol = \"tcp\"\ndestination_port = [\"22\"]")
        .with_first_rule("name = \"no-mdns\"\naction = \"reject\"\nprotocol = \"udp\"\ndestination_port = [\"5353\"]");
    let appliance = Appliance::launch(&lab, &configuration);
    for target in ["198.51.100.10", "2001:db8:51::10", "10.0.0.11", "2001:db8:10::11"] {
        let knock = lab.client.run(&format!("nc -z -v -w 60 {target} 22"));
        assert!(knock.err.contains("refused"), "{target}: {}", knock.err);
        // ICMP administratively prohibited: the kernel tells dig, which need not wait for its timeout.
        let query = lab.client.run(&format!("dig +time=60 +tries=1 -p 5353 @{target} shop.example"));
        assert!(!query.success && !query.out.contains("timed out"), "{target}: {}{}", query.out, query.err);
    }
    assert!(appliance.rule_hits("no-ssh") >= 4);
    assert!(appliance.rule_hits("no-mdns") >= 4);
    assert!(appliance.dropped("firewall_rejected") >= 8);
    appliance.stop();
}

#[test]
fn a_hop_limit_that_runs_out_is_reported_by_the_appliance() {
    let Some(lab) = Lab::wired("a_hop_limit_that_runs_out_is_reported_by_the_appliance", Claims::PROGRAMS) else {
        return;
    };
    let appliance = Appliance::launch(&lab, &lab.edge());
    for (target, reporter) in [("10.0.0.11", "198.51.100.1"), ("2001:db8:10::11", "2001:db8:51::1")] {
        let answer = lab.client.run(&format!("ping -c 1 -W 20 -t 1 {target}"));
        assert!(answer.out.contains(&format!("From {reporter}")), "{}", answer.out);
        assert!(answer.out.contains("exceeded"), "{}", answer.out);
    }
    assert_eq!(appliance.dropped("hop_limit_exceeded"), 2);
    appliance.stop();
}

#[test]
fn icmp_errors_find_the_session_they_quote() {
    let Some(lab) = Lab::wired("icmp_errors_find_the_session_they_quote", Claims::PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &lab.edge());
    // Nobody serves names on the client; its kernel says so, through source NAT and over IPv6 without.
    for world in ["198.51.100.20", "2001:db8:51::20"] {
        let query = lab.shop_a.run(&format!("dig +time=60 +tries=1 @{world} shop.example"));
        assert!(query.out.contains("refused") || query.err.contains("refused"), "{}{}", query.out, query.err);
    }
    appliance.stop();
}
