//! Real clients through every mode without a tunnel, in both families, with a smaller link behind the appliance: pages, 20 MB
//! each way, names over UDP and TCP, iperf3 with TCP and with datagrams of 8,900 bytes, pings of 4,000, traces, and the
//! path's MTU. `tunnels.rs` has the modes with tunnels, `nat64.rs` what crosses families.

use millrace_tests::net::{Appliance, Configuration, Iperf, Lab, Resolver, Web, in_url, unanswered};

const PROGRAMS: &[&str] = &["curl", "dig", "dnsmasq", "iperf3", "ping", "ss", "sysctl", "tracepath", "traceroute"];

/// A service's address, and its only backend's, on `shop-a`.
const SERVICES: [(&str, &str); 2] = [("198.51.100.10", "10.0.0.11"), ("2001:db8:51::10", "2001:db8:10::11")];

/// What Linux allows as the smallest MTU with IPv6: the link behind the appliance.
const SMALL: u16 = 1_280;

const EDGE: &str = r#"
[appliance]
name = "edge"
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
addresses = ["198.51.100.1/24", "2001:db8:51::1/64"]
[[port]]
name = "inside"
device = "net_af_packet1,iface=mr-in0,framesz=16384,blocksz=65536"
mtu = 1280
zone = "dmz"
addresses = ["10.0.0.1/24", "2001:db8:10::1/64"]
[firewall]
default = "allow"
"#;

/// The services in this mode; `keys` says what the mode needs, for each family.
fn services(keys: [&str; 2]) -> String {
    let services = SERVICES.iter().zip(keys).enumerate().flat_map(|(number, ((address, backend), keys))| {
        [("tcp", r#""53", "80", "5201""#), ("udp", r#""53", "5201-5240""#)].map(|(protocol, ports)| {
            format!(
                "[[virtual_service]]\nname = \"{protocol}-{number}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
                 ports = [{ports}]\n{keys}\nhealth = {{ kind = \"none\" }}\n\
                 [[virtual_service.backend]]\nname = \"shop-a\"\naddress = \"{backend}\"\n"
            )
        })
    });
    EDGE.to_owned() + &services.collect::<String>()
}

/// Gives the server the services' own addresses, and a way to the client that does not lead through the appliance.
fn answer_directly(lab: &Lab) {
    let server = &lab.shop_a;
    server.wire("eth1", &lab.client, "eth1");
    for (host, interface, addresses) in [
        (server, "eth1", ["192.0.2.2/30", "2001:db8:99::2/64"]),
        (server, "lo", ["198.51.100.10/32", "2001:db8:51::10/128"]),
        (&lab.client, "eth1", ["192.0.2.1/30", "2001:db8:99::1/64"]),
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

/// What every client does. `direct`: servers have the services' addresses, and answer past the appliance.
fn speak(test: &str, keys: [&str; 2], direct: bool) {
    let Some(lab) = Lab::wired(test, PROGRAMS) else { return };
    if direct {
        answer_directly(&lab);
    }
    let (client, server) = (&lab.client, &lab.shop_a);
    let appliance = Appliance::launch(&lab, &Configuration::written(&services(keys), &lab.file("edge.sock")));
    let at = SERVICES.map(|(address, backend)| if direct { address } else { backend });
    let listen = at.map(|address| format!("{}:80", in_url(address)));
    let _web = Web::start(&lab, server, "shop-a", &listen.each_ref().map(String::as_str));
    let _names = [0, 1].map(|number| Resolver::start(&lab, server, &format!("names-{number}"), at[number]));
    let _iperf = at.map(|address| Iperf::start(&lab, server, address));
    for (number, (address, _)) in SERVICES.iter().enumerate() {
        let page = client.must(&format!("curl -sS --fail --max-time 60 {}/", in_url(address)));
        assert!(page.starts_with("shop-a "), "{address}: {page}");
        let large = format!("curl -sS --fail --max-time 60 -o /dev/null -w %{{size_download}} {}/big", in_url(address));
        assert_eq!(client.must(&large), "20000000", "{address}");
        for transport in ["+notcp", "+tcp"] {
            let asked = client.must(&format!("dig {transport} +time=10 +tries=3 +short @{address} whoami.example TXT"));
            assert_eq!(asked.trim(), format!("\"names-{number}\""), "{address} {transport}");
        }
        // The client fills packets of its own MTU: until it has heard of the smaller one, none of them gets through.
        let upload = format!("--client {address}");
        for way in ["", "--reverse"] {
            assert!(Iperf::run(client, &format!("{upload} --bytes 4M {way}")).received() > 0, "{address} {way}");
        }
        let route = client.must(&format!("ip route get {address}"));
        assert!(route.contains(&format!(" mtu {SMALL} ")), "{address}: {route}");
        for way in ["", "--reverse"] {
            Iperf::most_arrive(client, &format!("{upload} --length 8900 --bitrate 10M {way}"));
        }
        let pinged = client.must(&format!("ping -n -c 4 -i 0.3 -w 60 -s 4000 {address}"));
        assert!(unanswered(&pinged).len() <= 1, "{pinged}");
        // One hop behind the appliance, where the service's own port answers.
        let traced = client.must(&format!("traceroute -T -p 80 -n -q 1 -w 20 {address}"));
        let hops: Vec<_> = traced.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        let router = if address.contains(':') { "2001:db8:51::1" } else { "198.51.100.1" };
        assert_eq!(hops, [router, address], "{traced}");
        // Every probe asks another port; the server's "port unreachable" ends the trace.
        let traced = client.run(&format!("tracepath -n -p 5202 -m 4 {address}"));
        assert!(traced.out.contains(&format!("pmtu {SMALL}")), "{address}: {}", traced.out);
        assert!(traced.out.contains("reached"), "{address}: {}", traced.out);
    }
    assert!(appliance.dropped("packet_too_big") >= 2, "each service's first large packet");
    for reason in ["tcp_invalid_state", "tcp_out_of_window", "icmp_error_unmatched"] {
        assert_eq!(appliance.dropped(reason), 0, "{reason}");
    }
    appliance.stop();
}

#[test]
fn nat_serves_every_kind_of_client() {
    speak("nat_serves_every_kind_of_client", ["mode = \"nat\""; 2], false);
}

#[test]
fn full_nat_serves_every_kind_of_client() {
    let keys = ["10.0.0.1", "2001:db8:10::1"].map(|pool| format!("mode = \"full-nat\"\nsource_address = [\"{pool}\"]"));
    speak("full_nat_serves_every_kind_of_client", keys.each_ref().map(String::as_str), false);
}

#[test]
fn direct_return_serves_every_kind_of_client() {
    speak("direct_return_serves_every_kind_of_client", ["mode = \"direct\""; 2], true);
}
