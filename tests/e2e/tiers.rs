//! A service behind two tiers: what clients send passes both before it comes to a server. Once two Linux hosts that
//! forward, told apart by their MACs; once one machine in both tiers, told apart by VLANs, that sends every frame back
//! where it came from.
//!
//! ```text
//!   client -- 198.51.100.1 appliance 10.0.0.1 -- switch -- tier-1 10.0.0.101, tier-2 10.0.0.201, shop-a 10.0.0.11
//! ```

use millrace_tests::net::{Appliance, Configuration, Iperf, Lab, Namespace, Web};

const PORTS: &str = r#"
[appliance]
name = "tiers"
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
default = "deny"
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
protocol = "tcp"
destination_port = ["80", "5201"]
"#;

/// The services: name, address, where curl finds it, what their hosts' addresses begin with.
const SERVICES: [(&str, &str, &str, &str); 2] = [
    ("shop", "198.51.100.10", "198.51.100.10", "10.0.0."),
    ("shop6", "2001:db8:51::10", "[2001:db8:51::10]", "2001:db8:10::"),
];

/// Both services, their tiers' instances at these addresses, marked from this VLAN on if at all.
fn services(marker: impl Fn(usize) -> String, instances: [u16; 2], health: &str) -> String {
    let of = |(number, (name, address, _, network)): (usize, (&str, &str, &str, &str))| {
        let tier = |last: u16| {
            format!(
                "[[virtual_service.tier]]\nhealth = {{ {health} }}\n\
                 [[virtual_service.tier.backend]]\nname = \"a\"\naddress = \"{network}{last}\"\n"
            )
        };
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\", \"5201\"]\n\
             {}health = {{ kind = \"none\" }}\n{}{}[[virtual_service.backend]]\nname = \"x\"\naddress = \"{network}11\"\n",
            marker(number),
            tier(instances[0]),
            tier(instances[1])
        )
    };
    SERVICES.into_iter().enumerate().map(of).collect()
}

/// A host of a tier, on the servers' network.
fn tier(lab: &Lab, role: &str, last: u16) -> Namespace {
    let host = lab.host(role);
    let port = format!("to-{role}");
    host.wire("eth0", &lab.switch, &port);
    lab.switch.must(&format!("ip link set {port} master lan"));
    host.address("eth0", &format!("10.0.0.{last}/24"));
    host.address("eth0", &format!("2001:db8:10::{last}/64"));
    host.gateway("10.0.0.1");
    host.gateway("2001:db8:10::1");
    host
}

/// One that forwards what it gets to where it came from.
fn forwarding(lab: &Lab, role: &str, last: u16) -> Namespace {
    let host = tier(lab, role, last);
    host.must("sysctl -q -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0");
    host.must("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host
}

/// Packets that an instance got, as `show services` has it.
fn packets(appliance: &Appliance, service: &str) -> u64 {
    let shown = appliance.show("services");
    let found = shown.as_array().into_iter().flatten().find(|it| it["name"] == service);
    found.and_then(|it| it["backends"][0]["packets"].as_u64()).unwrap_or_else(|| panic!("{shown}"))
}

/// Clients get pages, small and large, and streams.
fn served(lab: &Lab, (_, address, url, _): (&str, &str, &str, &str)) {
    let page = lab.client.must(&format!("curl -sS --fail --max-time 60 {url}/"));
    let (server, seen) = page.trim().split_once(' ').expect("a page names its server and its client");
    assert!(server == "shop-a" && (seen.starts_with("198.51.100.2") || seen.starts_with("2001:db8:51::2")), "{page}");
    lab.client.must(&format!("curl -sS --fail --max-time 60 -o /dev/null {url}/big"));
    assert!(Iperf::run(&lab.client, &format!("--client {address} --bytes 4M")).received() > 0, "{address}");
}

/// SE-68, SE-70, SE-73 with real hosts and clients.
#[test]
fn clients_pass_both_tiers() {
    let Some(lab) = Lab::wired("clients_pass_both_tiers", &["iperf3", "sysctl", "ss", "traceroute"]) else { return };
    let (first, second) = (forwarding(&lab, "tier-1", 101), forwarding(&lab, "tier-2", 201));
    let services = services(|_| String::new(), [101, 201], "kind = \"icmp\", rise = 1, fall = 30");
    let configuration = Configuration::written(&format!("{PORTS}{services}"), &lab.file("tiers.sock"));
    let appliance = Appliance::start(&lab, &configuration);
    let _web = Web::start(&lab, &lab.shop_a, "shop-a", &["10.0.0.11:80", "[2001:db8:10::11]:80"]);
    let _iperf = Iperf::start(&lab, &lab.shop_a, "*");
    for (service, forwarding) in SERVICES.into_iter().zip(["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]) {
        let (name, address, url, network) = service;
        served(&lab, service);
        let counted = ["tier-1", "tier-2"].map(|tier| packets(&appliance, &format!("{name}.{tier}")));
        assert!(counted.iter().all(|&count| count > 1_000), "{counted:?}");
        let way = lab.client.must(&format!("traceroute -n -T -p 80 -q 1 -w 20 -m 8 {address}"));
        let hosts = [101, 201].map(|last| way.find(&format!("{network}{last} ")));
        assert!(hosts[0].is_some() && hosts[0] < hosts[1], "both tell who they are, in order: {way}");
        for host in [&first, &second] {
            host.must(&format!("sysctl -q -w {forwarding}=0"));
            assert!(!lab.client.run(&format!("curl -sS --max-time 3 {url}/")).success, "nothing goes past a tier");
            host.must(&format!("sysctl -q -w {forwarding}=1"));
            // Without forwarding a host forgets who told it the way.
            host.run("ip -6 route replace default via 2001:db8:10::1");
            lab.client.must(&format!("curl -sS --fail --max-time 60 {url}/"));
        }
    }
    appliance.stop();
}

/// SE-72: one machine in both tiers, told by the VLANs its frames come back in.
#[test]
fn clients_pass_one_machine_twice_by_its_vlans() {
    let test = "clients_pass_one_machine_twice_by_its_vlans";
    let Some(lab) = Lab::wired(test, &["iperf3", "ss", "nft"]) else { return };
    let machine = tier(&lab, "machine", 101);
    let services = services(|number| format!("marker_vlan = {}\n", 100 * (number + 1)), [101, 101], "kind = \"none\"");
    let configuration = Configuration::written(&format!("{PORTS}{services}"), &lab.file("tiers.sock"));
    let appliance = Appliance::start(&lab, &configuration);
    let mac = |host: &Namespace, interface: &str| {
        let shown = host.must(&format!("ip -brief link show {interface}"));
        shown.split_whitespace().nth(2).expect("an interface has a MAC").to_owned()
    };
    let (own, ours) = (mac(&machine, "eth0"), appliance.show("ports")[1]["mac"].as_str().map(str::to_owned));
    let back = format!("ether saddr set {own} ether daddr set {} counter fwd to eth0", ours.expect("a port has a MAC"));
    let rules: String = [101, 102, 201, 202].map(|vlan| format!("vlan id {vlan} {back}\n")).concat();
    let file = lab.file("back.nft");
    let chain = format!("chain back {{ type filter hook ingress device eth0 priority 0\n{rules}}}");
    std::fs::write(&file, format!("table netdev tier {{\n{chain}\n}}\n")).expect("the lab's directory takes a file");
    machine.must(&format!("nft -f {}", file.display()));
    let _web = Web::start(&lab, &lab.shop_a, "shop-a", &["10.0.0.11:80", "[2001:db8:10::11]:80"]);
    let _iperf = Iperf::start(&lab, &lab.shop_a, "*");
    for service in SERVICES {
        served(&lab, service);
    }
    let counted = machine.must("nft list ruleset");
    let counts: Vec<u64> = counted
        .split("counter packets ")
        .skip(1)
        .map(|rest| rest.split(' ').next().and_then(|count| count.parse().ok()).expect("a count"))
        .collect();
    assert!(counts.len() == 4 && counts.iter().all(|&count| count > 1_000), "{counted}");
    // But for what was lost between the two times, and sent again.
    let alike = |first: u64, second: u64| first.abs_diff(second) < first / 10;
    assert!(alike(counts[0], counts[1]) && alike(counts[2], counts[3]), "the same twice: {counts:?}");
    machine.must("nft flush ruleset");
    for (_, _, url, _) in SERVICES {
        assert!(!lab.client.run(&format!("curl -sS --max-time 3 {url}/")).success, "nothing goes past a tier");
    }
    appliance.stop();
}
