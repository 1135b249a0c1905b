//! The appliance as a wire between clients and servers of one network: nobody has it as a gateway or knows its addresses, and
//! it has none.
//!
//! ```text
//!   client 198.51.100.20 -- mr-out0 [pair] mr-in0 -- switch -- shop-a 198.51.100.80, shop-b 198.51.100.81
//!          2001:db8:51::20                                            2001:db8:51::80        2001:db8:51::81
//! ```

use millrace_tests::net::{Appliance, Configuration, Iperf, Lab, Web, eventually, in_url};

const PORTS: &str = r#"
[appliance]
name = "bump"
[cores]
control = 0
workers = [1]
[dpdk]
hugepages = false
memory = "512MiB"
buffer_size = 16_384
[[port]]
name = "outside"
device = "net_af_packet0,iface=mr-out0,framesz=16384,blocksz=65536"
zone = "wan"
[[port]]
name = "inside"
device = "net_af_packet1,iface=mr-in0,framesz=16384,blocksz=65536"
zone = "dmz"
[[pair]]
ports = ["outside", "inside"]
[firewall]
default = "deny"
[[firewall.rule]]
name = "ping"
action = "allow"
protocol = "icmp"
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
to = ["dmz"]
protocol = "tcp"
destination_port = ["80", "5201"]
[[firewall.rule]]
name = "streams"
action = "allow"
from = ["wan"]
protocol = "udp"
destination_port = ["5201"]
"#;

/// The servers of the lab, in the client's own network as well.
fn one_network(lab: &Lab) {
    for (host, last) in [(&lab.shop_a, 80), (&lab.shop_b, 81)] {
        host.address("eth0", &format!("198.51.100.{last}/24"));
        host.address("eth0", &format!("2001:db8:51::{last}/64"));
    }
}

fn mac_of(lab: &Lab, address: &str) -> String {
    let shown = lab.client.must(&format!("ip neigh show {address}"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "lladdr").skip(1);
    words.next().unwrap_or_else(|| panic!("{address} has no MAC: {shown}")).to_owned()
}

#[test]
fn a_pair_is_a_wire_that_the_firewall_watches() {
    let test = "a_pair_is_a_wire_that_the_firewall_watches";
    let Some(lab) = Lab::wired(test, &["ping", "iperf3", "ss", "nc"]) else { return };
    one_network(&lab);
    let appliance = Appliance::launch(&lab, &Configuration::written(PORTS, &lab.file("bump.sock")));
    let _web = Web::start(&lab, &lab.shop_a, "web", &["198.51.100.80:80", "[2001:db8:51::80]:80", "198.51.100.80:81"]);
    for server in ["198.51.100.80", "2001:db8:51::80"] {
        let url = in_url(server);
        let pinged = lab.client.must(&format!("ping -c 3 -W 10 {server}"));
        assert!(pinged.contains("ttl=64"), "no hop is taken: {pinged}");
        lab.client.must(&format!("ping -c 3 -W 10 -s 4000 {server}"));
        assert!(!lab.client.run(&format!("ping -c 1 -W 1 -M do -s 1473 {server}")).success);
        let page = lab.client.must(&format!("curl -sS --fail --max-time 60 {url}/"));
        assert!(page.starts_with("web "), "{page}");
        lab.client.must(&format!("curl -sS --fail --max-time 60 -o /dev/null {url}/big"));
        let shown = lab.shop_a.must("ip -brief link show eth0");
        assert!(shown.contains(&mac_of(&lab, server)), "ARP and discovery pass: {shown}");
        let _iperf = Iperf::start(&lab, &lab.shop_a, server);
        assert!(Iperf::run(&lab.client, &format!("--client {server} --bytes 4M")).received() > 0);
        Iperf::most_arrive(&lab.client, &format!("--client {server} --length 8000 --bitrate 20M"));
    }
    let before = appliance.dropped("firewall_denied");
    assert!(!lab.client.run("curl -sS --max-time 2 198.51.100.80:81/").success, "no rule allows it");
    assert!(!lab.shop_a.run("nc -w 1 198.51.100.20 80").success, "nobody inside may open");
    eventually(5, "both were refused", || appliance.dropped("firewall_denied") > before + 1);
    let ports = appliance.show("ports");
    let pairs: Vec<_> = ports.as_array().into_iter().flatten().map(|port| port["pair"].as_str()).collect();
    assert_eq!(pairs, [Some("inside"), Some("outside")]);
    assert_eq!(appliance.dropped("not_our_mac"), 0);
    appliance.stop();
}

/// What a bridge says of the spanning tree, and a broadcast, reach the other side.
#[test]
fn spanning_tree_and_broadcasts_pass() {
    let Some(lab) = Lab::wired("spanning_tree_and_broadcasts_pass", &["ping", "tcpdump"]) else { return };
    one_network(&lab);
    let appliance = Appliance::launch(&lab, &Configuration::written(PORTS, &lab.file("bump.sock")));
    lab.client.must("ip link add br0 type bridge forward_delay 200 priority 8192 stp_state 1");
    lab.client.must("ip link set eth0 master br0");
    lab.client.must("ip link set br0 up");
    lab.client.address("br0", "198.51.100.40/24");
    let heard = lab.switch.must("timeout 300 tcpdump -e -n -c 2 -i to-appliance --direction=in stp");
    let bridge = lab.client.must("ip -brief link show br0");
    let mac = bridge.split_whitespace().nth(2).expect("a bridge has a MAC");
    assert!(heard.contains("01:80:c2:00:00:00") && heard.contains(mac), "{heard}");
    let heard = lab.shop_a.start("tcpdump -l -n -i eth0 dst host 198.51.100.255", &lab.file("broadcasts.log"));
    eventually(20, "a ping of all comes out on the other side", || {
        lab.client.run("ping -b -c 1 -W 1 -I br0 198.51.100.255");
        heard.output().contains("ICMP echo request")
    });
    appliance.stop();
}

/// SE-15, SE-22: clients ask an address that nobody but the backends' network knows, and are served in line: by translation,
/// and with direct return.
#[test]
fn clients_are_served_in_line() {
    let Some(lab) = Lab::wired("clients_are_served_in_line", &["sysctl"]) else { return };
    one_network(&lab);
    let service = |number: u8, address: &str, protocol: &str, mode: &str, family: &str| {
        let backends: String = [("a", 80), ("b", 81)]
            .map(|(name, last)| {
                format!("[[virtual_service.backend]]\nname = \"{name}\"\naddress = \"{family}{last}\"\n")
            })
            .concat();
        format!(
            "[[virtual_service]]\nname = \"s{number}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
             ports = [\"80\"]\nmode = \"{mode}\"\nalgorithm = \"round-robin\"\nhealth = {{ kind = \"none\" }}\n{backends}"
        )
    };
    let services = [
        service(1, "198.51.100.90", "tcp", "nat", "198.51.100."),
        service(2, "2001:db8:51::90", "tcp", "nat", "2001:db8:51::"),
        service(3, "198.51.100.91", "tcp", "direct", "198.51.100."),
        service(4, "2001:db8:51::91", "tcp", "direct", "2001:db8:51::"),
    ]
    .concat();
    let kept = "[sessions.timeouts]\ntcp_time_wait = \"10m\"\n\n";
    let configuration = Configuration::written(&format!("{PORTS}{kept}{services}"), &lab.file("bump.sock"));
    let appliance = Appliance::launch(&lab, &configuration);
    // Somebody has the addresses, as a transparent balancer finds them: the server that stood there alone before.
    let six = "2001:db8:51::9";
    for last in [0, 1] {
        lab.resolver.address("eth0", &format!("198.51.100.9{last}/24"));
        lab.resolver.address("eth0", &format!("{six}{last}/64"));
    }
    for host in [&lab.shop_a, &lab.shop_b] {
        host.address("lo", "198.51.100.91/32");
        host.address("lo", &format!("{six}1/128"));
        host.must("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.rp_filter=0");
        host.must("sysctl -q -w net.ipv4.conf.eth0.arp_ignore=1 net.ipv4.conf.eth0.rp_filter=0");
    }
    let listen = |last: u8| {
        [
            format!("198.51.100.{last}:80"),
            format!("[2001:db8:51::{last}]:80"),
            "198.51.100.91:80".to_owned(),
            format!("[{six}1]:80"),
        ]
    };
    let _a = Web::start(&lab, &lab.shop_a, "shop-a", &listen(80).each_ref().map(String::as_str));
    let _b = Web::start(&lab, &lab.shop_b, "shop-b", &listen(81).each_ref().map(String::as_str));
    for url in ["198.51.100.90", "[2001:db8:51::90]", "198.51.100.91", "[2001:db8:51::91]"] {
        let mut servers: Vec<String> = (0..4)
            .map(|_| {
                let page = lab.client.must(&format!("curl -sS --fail --max-time 60 {url}/"));
                let (server, seen) = page.trim().split_once(' ').expect("a page names its server and its client");
                assert!(seen.starts_with("198.51.100.2") || seen.starts_with("2001:db8:51::2"), "{page}");
                server.to_owned()
            })
            .collect();
        servers.sort();
        assert_eq!(servers, ["shop-a", "shop-a", "shop-b", "shop-b"], "{url}");
        lab.client.must(&format!("curl -sS --fail --max-time 60 -o /dev/null {url}/big"));
    }
    let sessions = appliance.show("sessions --match service=s1");
    let in_line = |session: &serde_json::Value| session["in_line"] == true && session["backend"].is_string();
    assert!(sessions.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(in_line)), "{sessions}");
    appliance.stop();
}
