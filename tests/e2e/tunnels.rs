//! Two appliances with a network between them: one balances into tunnels, the other ends them and forwards what was inside
//! to a server that has the services' addresses and answers its clients by a way of its own.
//!
//! ```text
//!   client eth0 -- edge (198.51.100.1 | 10.0.0.1) -- switch -- far (10.0.0.77 | 10.1.0.1) -- eth0 server (loopback: the
//!     |  eth1                                                                                  | eth1     addresses)
//!     +------------------------------------ answers, directly --------------------------------+
//! ```

use millrace_tests::net::{Appliance, Configuration, Iperf, Lab, Namespace, Web, in_url};

/// A service's address, the end of its tunnels, and the bytes of the outer IP header.
const SERVICES: [(&str, &str, u16); 4] = [
    ("198.51.100.10", "10.0.0.77", 20),
    ("2001:db8:51::10", "2001:db8:10::77", 40),
    ("198.51.100.11", "2001:db8:10::77", 40),
    ("2001:db8:51::11", "10.0.0.77", 20),
];

const EDGE: &str = r#"
[appliance]
name = "edge"
[cores]
control = 0
workers = [1]
[dpdk]
hugepages = false
memory = "512MiB"
[[port]]
name = "outside"
device = "net_af_packet0,iface=mr-out0"
zone = "wan"
addresses = ["198.51.100.1/24", "2001:db8:51::1/64"]
[[port]]
name = "inside"
device = "net_af_packet1,iface=mr-in0"
zone = "dmz"
addresses = ["10.0.0.1/24", "2001:db8:10::1/64"]
[firewall]
default = "allow"
"#;

const FAR: &str = r#"
[appliance]
name = "far"
[cores]
control = 1
workers = [0]
[dpdk]
hugepages = false
memory = "512MiB"
[[port]]
name = "lan"
device = "net_af_packet0,iface=mr-lan0"
zone = "lan"
addresses = ["10.0.0.77/24", "2001:db8:10::77/64"]
[[port]]
name = "back"
device = "net_af_packet1,iface=mr-back0"
zone = "servers"
addresses = ["10.1.0.1/24", "2001:db8:11::1/64"]
[[route]]
to = "198.51.100.10/31"
via = "10.1.0.11"
[[route]]
to = "2001:db8:51::10/127"
via = "2001:db8:11::11"
[[route]]
to = "198.51.100.0/24"
via = "10.0.0.1"
[[route]]
to = "2001:db8:51::/64"
via = "2001:db8:10::1"
[firewall]
default = "deny"
[[firewall.rule]]
name = "from-the-edge"
action = "allow"
from = ["lan"]
to = ["servers"]
destination = ["198.51.100.10/31", "2001:db8:51::10/127"]
"#;

fn edge(keys: &str) -> String {
    let services = SERVICES.iter().enumerate().flat_map(|(number, (address, end, _))| {
        ["tcp", "udp"].map(|protocol| {
            let ports = if protocol == "tcp" { "\"80\", \"5201\"" } else { "\"5201\"" };
            format!(
                "[[virtual_service]]\nname = \"{protocol}-{number}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
                 ports = [{ports}]\n{keys}\nhealth = {{ kind = \"none\" }}\n\
                 [[virtual_service.backend]]\nname = \"far\"\naddress = \"{end}\"\n"
            )
        })
    });
    EDGE.to_owned() + &services.collect::<String>()
}

fn far(keys: &str) -> String {
    let endings =
        [("four", "10.0.0.77", "10.0.0.1"), ("six", "2001:db8:10::77", "2001:db8:10::1")].map(|(name, end, from)| {
            format!("[[decapsulate]]\nname = \"{name}\"\naddress = \"{end}\"\nfrom = [\"{from}\"]\n{keys}\n")
        });
    FAR.to_owned() + &endings.concat()
}

/// The way from the far appliance to the server, and the server's own to the client.
fn connect(lab: &Lab, far: &Namespace, server: &Namespace) {
    far.wire("mr-lan0", &lab.switch, "to-far");
    lab.switch.must("ip link set to-far master lan");
    far.wire("mr-back0", server, "eth0");
    server.wire("eth1", &lab.client, "eth1");
    for (host, interface, addresses) in [
        (server, "eth0", &["10.1.0.11/24", "2001:db8:11::11/64"][..]),
        (server, "eth1", &["192.0.2.2/30", "2001:db8:99::2/64"]),
        (server, "lo", &["198.51.100.10/32", "198.51.100.11/32", "2001:db8:51::10/128", "2001:db8:51::11/128"]),
        (&lab.client, "eth1", &["192.0.2.1/30", "2001:db8:99::1/64"]),
    ] {
        host.must(&format!("ip link set {interface} up"));
        for address in addresses {
            host.address(interface, address);
        }
        // What comes one way is answered another.
        for scope in ["all", interface] {
            host.must(&format!("sysctl -q -w net.ipv4.conf.{scope}.rp_filter=0"));
        }
    }
    server.must("ip route add 198.51.100.0/24 via 192.0.2.1");
    server.must("ip route add 2001:db8:51::/64 via 2001:db8:99::1");
}

/// Clients and servers speak through tunnels of this mode; `between` are the bytes between the IP headers.
fn speak_through(test: &str, mode: &str, ending: &str, between: u16) {
    let Some(lab) = Lab::wired(test, &["iperf3", "sysctl", "ss"]) else { return };
    let (host, server) = (lab.host("far"), lab.host("server"));
    connect(&lab, &host, &server);
    let near = Appliance::launch(&lab, &Configuration::written(&edge(mode), &lab.file("edge.sock")));
    let end = Appliance::launch_on(&lab, &host, "far", &Configuration::written(&far(ending), &lab.file("far.sock")));
    let listen = SERVICES.map(|(address, ..)| format!("{}:80", in_url(address)));
    let _web = Web::start(&lab, &server, "far-web", &listen.each_ref().map(String::as_str));
    // Each bound to its address: over UDP it would answer from that of the way to the client.
    let _iperf = SERVICES.map(|(address, ..)| Iperf::start(&lab, &server, address));
    for (address, _, outer) in SERVICES {
        let page = lab.client.must(&format!("curl -sS --fail --max-time 60 {}/", in_url(address)));
        assert!(page.starts_with("far-web "), "{address}: {page}");
        lab.client.must(&format!("curl -sS --fail --max-time 60 -o /dev/null {}/big", in_url(address)));
        // The client fills packets of its own MTU: until it has heard of the tunnel's, none of them gets through.
        let upload = format!("--client {address}");
        assert!(Iperf::run(&lab.client, &format!("{upload} --bytes 4M")).received() > 0, "{mode}, {address}");
        let route = lab.client.must(&format!("ip route get {address}"));
        assert!(route.contains(&format!(" mtu {} ", 1_500 - outer - between)), "{mode}, {address}: {route}");
        Iperf::most_arrive(&lab.client, &format!("{upload} --length 1300 --bitrate 10M"));
        // Datagrams in fragments, which fill the client's MTU and not the tunnel's: over IPv4 they are cut once more.
        Iperf::most_arrive(&lab.client, &format!("{upload} --length 4000 --bitrate 5M"));
    }
    assert!(near.dropped("packet_too_big") >= 4, "each service's first large packet");
    let counted = |appliance: &Appliance<'_>, what: &str| {
        appliance
            .show("workers")
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|worker| worker[what].as_u64())
            .sum::<u64>()
    };
    let (wrapped, unwrapped) = (counted(&near, "encapsulated"), counted(&end, "decapsulated"));
    assert!(wrapped > 1_000 && unwrapped > 1_000, "{wrapped} wrapped, {unwrapped} unwrapped");
    for reason in ["tunnel_source", "tunnel_header", "tunnel_nesting", "tcp_invalid_state", "tcp_out_of_window"] {
        assert_eq!((near.dropped(reason), end.dropped(reason)), (0, 0), "{reason}");
    }
    // The answers went past both.
    let sent = |appliance: &Appliance<'_>, port: &str| {
        let ports = appliance.show("ports");
        let port = ports.as_array().into_iter().flatten().find(|it| it["name"] == port).cloned().unwrap_or_default();
        port["tx_bytes"].as_u64().unwrap_or(0)
    };
    assert!(sent(&near, "outside") < 1_000_000, "the pages took another way");
    near.stop();
    end.stop();
}

#[test]
fn ip_in_ip_carries_clients_to_a_second_appliance() {
    let test = "ip_in_ip_carries_clients_to_a_second_appliance";
    speak_through(test, "mode = \"ipip\"", "kind = \"ipip\"", 0);
}

#[test]
fn gre_carries_clients_to_a_second_appliance() {
    let test = "gre_carries_clients_to_a_second_appliance";
    speak_through(test, "mode = \"gre\"\ngre_key = 4711", "kind = \"gre\"\ngre_key = 4711", 8);
}

#[test]
fn gue_carries_clients_to_a_second_appliance() {
    let test = "gue_carries_clients_to_a_second_appliance";
    speak_through(test, "mode = \"gue\"", "kind = \"gue\"", 8);
}
