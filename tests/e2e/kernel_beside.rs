//! The kernel beside the appliance: a server of the kernel's is reached through a port where a rule lets clients to the
//! appliance itself, and the kernel's own clients reach the wire.

use millrace_tests::net::{Appliance, Claims, Lab, Web, unanswered};

const RULE: &str = "name = \"kernel-web\"
action = \"allow\"
from = [\"wan\"]
to = [\"appliance\"]
protocol = \"tcp\"
destination_port = [\"8081\"]";

#[test]
fn a_server_of_the_kernels_is_reached_through_a_port() {
    let Some(lab) = Lab::wired("a_server_of_the_kernels_is_reached_through_a_port", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge().with_first_rule(RULE));
    let listen = ["198.51.100.1:8081", "[2001:db8:51::1]:8081", "198.51.100.1:8082", "[2001:db8:51::1]:8082"];
    let beside = Web::start(&lab, &lab.appliance, "beside", &listen);
    for (own, client) in [("198.51.100.1", "198.51.100.23"), ("[2001:db8:51::1]", "2001:db8:51::23")] {
        for _ in 0..20 {
            let page = lab.client.must(&format!("curl -sS --max-time 60 --interface {client} {own}:8081/"));
            assert_eq!(page.trim(), format!("beside {client}"));
        }
        let received = lab.file("received");
        lab.client.must(&format!("curl -sS --max-time 60 -o {} {own}:8081/big", received.display()));
        assert_eq!(std::fs::read(&received).expect("curl wrote it").len(), 20_000_000);
        let denied = lab.client.run(&format!("curl -sS --max-time 2 {own}:8082/"));
        assert!(!denied.success, "port 8082 has no rule: {}", denied.out);
    }
    // The data plane goes on beside it.
    claims.clients_reach_the_shop();
    drop(beside);
    appliance.stop();
}

#[test]
fn clients_of_the_kernels_reach_the_wire() {
    let Some(lab) = Lab::wired("clients_of_the_kernels_reach_the_wire", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    for server in ["10.0.0.11", "10.0.0.12", "[2001:db8:10::11]", "[2001:db8:10::12]"] {
        assert_eq!(lab.appliance.must(&format!("curl -sS --max-time 60 {server}:8080/healthz")), "ok\n");
    }
    for neighbour in ["10.0.0.11", "2001:db8:10::11", "198.51.100.20", "2001:db8:51::20"] {
        let answer = lab.appliance.run(&format!("ping -n -c 3 -i 0.2 -w 60 {neighbour}"));
        assert!(answer.success && unanswered(&answer.out).is_empty(), "{}", answer.out);
    }
    drop(claims);
    appliance.stop();
}

#[test]
fn kernel_interfaces_carry_the_ports_addresses_and_go_with_the_appliance() {
    let test = "kernel_interfaces_carry_the_ports_addresses_and_go_with_the_appliance";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let before = lab.appliance.interfaces();
    let appliance = Appliance::launch(&lab, &lab.edge());
    for (interface, addresses) in
        [("mr-outside", ["198.51.100.1/24", "2001:db8:51::1/64"]), ("mr-inside", ["10.0.0.1/24", "2001:db8:10::1/64"])]
    {
        let shown = lab.appliance.must(&format!("ip address show dev {interface}"));
        for address in addresses {
            assert!(shown.contains(address), "{shown}");
        }
    }
    appliance.stop();
    assert_eq!(lab.appliance.interfaces(), before);
}

/// Whoever came in over the host's own routes goes on, also where the policy has a route to the same prefix.
#[test]
fn the_hosts_own_routes_stay_while_the_appliance_runs_and_after() {
    let test = "the_hosts_own_routes_stay_while_the_appliance_runs_and_after";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let own = [
        ("-4", "default via 192.0.2.254 dev mgmt metric 1024"),
        ("-4", "203.0.113.0/24 via 192.0.2.254 dev mgmt"),
        ("-6", "default via 2001:db8:99::254 dev mgmt metric 1024"),
        ("-6", "2001:db8:cafe::/48 via 2001:db8:99::254 dev mgmt metric 1024"),
    ];
    for words in [
        "link add mgmt type veth peer name far",
        "link set far up",
        "link set mgmt up",
        "address add 192.0.2.1/24 dev mgmt",
    ] {
        lab.appliance.must(&format!("ip {words}"));
    }
    lab.appliance.must("ip address add 2001:db8:99::1/64 dev mgmt nodad");
    for (family, route) in own {
        lab.appliance.must(&format!("ip {family} route add {route}"));
    }
    let stand = |when: &str| {
        for (family, route) in own {
            let words: Vec<&str> = route.split(' ').collect();
            let shown = lab.appliance.must(&format!("ip {family} route show {}", words[0]));
            assert!(shown.contains("dev mgmt"), "{when}: {route}: {shown}");
        }
    };
    stand("before");
    let routes =
        [("0.0.0.0/0", "198.51.100.20"), ("::/0", "2001:db8:51::20"), ("2001:db8:cafe::/48", "2001:db8:51::20")];
    let routes = routes.map(|(to, via)| format!("[[route]]\nto = \"{to}\"\nvia = \"{via}\"\n\n")).concat();
    let edge = lab.edge().replacing("[firewall]\n", &format!("{routes}[firewall]\n"));
    let appliance = Appliance::launch(&lab, &edge);
    stand("while it runs");
    let ours = lab.appliance.must("ip -6 route show default");
    assert!(ours.contains("dev mr-outside"), "the appliance's route stands behind it: {ours}");
    let applied = appliance.apply(&edge.replacing("[firewall]\n", "# another text\n[firewall]\n"));
    assert!(applied.success, "{}", applied.err);
    stand("after a change");
    appliance.stop();
    stand("after it");
}
