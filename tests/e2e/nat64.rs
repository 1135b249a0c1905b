//! NAT64 with real programs: a host that has nothing but IPv6 uses servers that have nothing but IPv4, by addresses behind the
//! well-known prefix. Pages, names, pings, traces, and datagrams larger than any link.

use millrace_tests::net::{Appliance, Configuration, Iperf, Lab, Resolver, Web, unanswered};

const PROGRAMS: &[&str] = &["curl", "dig", "dnsmasq", "iperf3", "ping", "ss", "tracepath", "traceroute"];

/// edge.toml with NAT64 for the hosts of the inside, and room for datagrams of 9,000 bytes.
fn six_to_four(lab: &Lab, outside_mtu: u16) -> Configuration {
    let rule = "name = \"six-to-four\"\naction = \"allow\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\ndestination = [\"64:ff9b::/96\"]";
    let nat64 = "[[nat64]]\nname = \"six\"\nprefix = \"64:ff9b::/96\"\nfrom = [\"dmz\"]\naddress = [\"198.51.100.64\"]\n\n\
                 [[source_nat]]\nname = \"servers-out\"";
    lab.edge()
        .without_probes()
        .with_first_rule(rule)
        .replacing("[[source_nat]]\nname = \"servers-out\"", nat64)
        .replacing("iface=mr-out0\"", &format!("iface=mr-out0,framesz=16384,blocksz=65536\"\nmtu = {outside_mtu}"))
        .replacing("iface=mr-in0\"", "iface=mr-in0,framesz=16384,blocksz=65536\"")
        .replacing("[dpdk]\n", "[dpdk]\nbuffer_size = 16_384\n")
}

/// Takes IPv4 from the one and IPv6 from the other.
fn part(lab: &Lab) {
    lab.shop_a.must("ip -4 address flush dev eth0");
    lab.client.must("ip -6 address flush dev eth0 scope global");
}

#[test]
fn a_host_without_ipv4_uses_servers_without_ipv6() {
    let Some(lab) = Lab::wired("a_host_without_ipv4_uses_servers_without_ipv6", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &six_to_four(&lab, 1_500));
    part(&lab);
    let _world = Web::start(&lab, &lab.client, "world", &["198.51.100.29:80"]);
    let _names = Resolver::start(&lab, &lab.client, "names", "198.51.100.28");
    let page = lab.shop_a.must("curl -sS --globoff --max-time 60 http://[64:ff9b::198.51.100.29]/");
    assert_eq!(page.trim(), "world 198.51.100.64");
    let large = lab
        .shop_a
        .must("curl -sS --globoff --max-time 120 -o /dev/null -w %{size_download} http://[64:ff9b::198.51.100.29]/big");
    assert_eq!(large.trim(), "20000000");
    for transport in ["+notcp", "+tcp"] {
        let line = format!("dig {transport} +time=10 +tries=3 +short @64:ff9b::198.51.100.28 whoami.example TXT");
        assert_eq!(lab.shop_a.must(&line).trim(), "\"names\"", "{transport}");
    }
    for size in [56, 1_400, 4_000] {
        let line = format!("ping -6 -n -c 4 -i 0.3 -w 60 -s {size} 64:ff9b::198.51.100.20");
        let pinged = lab.shop_a.run(&line);
        assert!(pinged.success && unanswered(&pinged.out).len() <= 1, "{line}: {}", pinged.out);
    }
    // The far kernel's "port unreachable" ends the trace: an error, translated with what it quotes.
    let way = lab.shop_a.must("traceroute -6 -n -w 20 -q 1 64:ff9b::198.51.100.20");
    let hops: Vec<_> = way.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, ["2001:db8:10::1", "64:ff9b::c633:6414"], "{way}");
    let closed = lab.shop_a.run("curl -sS --globoff --max-time 60 http://[64:ff9b::198.51.100.20]:81/");
    assert!(closed.err.contains("refused") || closed.err.contains("connect"), "{}", closed.err);
    let shown = appliance.ask("show nat --json");
    let nat: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    let pool = nat["pools"].as_array().and_then(|pools| pools.iter().find(|pool| pool["kind"] == "nat64"));
    let pool = pool.unwrap_or_else(|| panic!("{nat}"));
    assert_eq!((pool["name"].as_str(), pool["exhausted"].as_u64()), (Some("six"), Some(0)), "{nat}");
    assert!(pool["sessions"].as_u64() > Some(0), "{nat}");
    let shown = appliance.ask("show sessions --json --match address=198.51.100.64");
    assert!(shown.out.contains("64:ff9b::"), "both sides of one session: {}", shown.out);
    appliance.stop();
}

#[test]
fn iperf3_runs_through_nat64() {
    let Some(lab) = Lab::wired("iperf3_runs_through_nat64", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &six_to_four(&lab, 1_500));
    part(&lab);
    let _iperf = Iperf::start(&lab, &lab.client, "*");
    // Both ways: who sends is the host without IPv4, or the server.
    for back in ["", "--reverse"] {
        let options = format!("{back} --bitrate 10M --client 64:ff9b::198.51.100.20");
        let run = Iperf::run(&lab.shop_a, &format!("--bytes 1M {options}"));
        assert!(run.received() > 100_000, "{options}: {run:?}");
        Iperf::most_arrive(&lab.shop_a, &format!("--length 8900 {options}"));
    }
    appliance.stop();
}

/// RFC 7915 sections 4.2 and 5.2: whoever asks for the path's MTU is told it in its own version's terms.
#[test]
fn the_path_behind_nat64_is_reported() {
    let Some(lab) = Lab::wired("the_path_behind_nat64_is_reported", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &six_to_four(&lab, 1_400));
    part(&lab);
    let traced = lab.shop_a.run("tracepath -6 -n 64:ff9b::198.51.100.20");
    assert!(traced.out.contains("pmtu 1420") && traced.out.contains("reached"), "{}", traced.out);
    let _world = Web::start(&lab, &lab.client, "world", &["198.51.100.29:80"]);
    let large = lab
        .shop_a
        .must("curl -sS --globoff --max-time 120 -o /dev/null -w %{size_download} http://[64:ff9b::198.51.100.29]/big");
    assert_eq!(large.trim(), "20000000", "segments larger than the other side takes are sent smaller");
    appliance.stop();
}
