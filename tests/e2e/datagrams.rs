//! Large datagrams and small links, with real clients over packet sockets: pings of 4,000 bytes and UDP of 8,900 arrive,
//! and whoever asks for the path's MTU is told the right one, through source NAT too.
//!
//! `net_af_packet` gets IPv4 datagrams put together by the kernel, larger than any link: its ring's frames and the packet
//! buffers have to be as large. IPv6 comes in fragments.

use millrace_tests::net::{Appliance, Configuration, Iperf, Lab, eventually, unanswered};

const PROGRAMS: &[&str] = &["ping", "tracepath", "traceroute", "iperf3", "dig", "dnsmasq", "ss"];

/// edge.toml with everything allowed, room for datagrams of 9,000 bytes, and a smaller link on each side.
fn small_links(lab: &Lab) -> Configuration {
    lab.edge()
        .with_first_rule("name = \"all\"\naction = \"allow\"")
        .without_probes()
        .replacing("iface=mr-out0\"", "iface=mr-out0,framesz=16384,blocksz=65536\"\nmtu = 1400")
        .replacing("iface=mr-in0\"", "iface=mr-in0,framesz=16384,blocksz=65536\"\nmtu = 1280")
        .replacing("[dpdk]\n", "[dpdk]\nbuffer_size = 16_384\n")
}

#[test]
fn long_pings_are_answered() {
    let Some(lab) = Lab::wired("long_pings_are_answered", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &small_links(&lab));
    for (host, target) in [
        (&lab.client, "10.0.0.11"),
        (&lab.client, "2001:db8:10::11"),
        (&lab.shop_a, "198.51.100.20"),
        (&lab.shop_a, "2001:db8:51::20"),
        (&lab.client, "198.51.100.1"),
        (&lab.client, "2001:db8:51::1"),
        (&lab.client, "198.51.100.10"),
        (&lab.client, "2001:db8:51::10"),
    ] {
        // The first may be lost to finding out the MTU or a neighbor, and being told of an MTU ends a ping with -w.
        host.run(&format!("ping -n -c 2 -i 0.3 -W 10 -s 4000 {target}"));
        let line = format!("ping -n -c 3 -i 0.3 -w 60 -s 4000 {target}");
        let pinged = host.run(&line);
        assert!(pinged.success && unanswered(&pinged.out).is_empty(), "{line}: {}", pinged.out);
    }
    appliance.stop();
}

#[test]
fn the_path_and_its_mtu_are_reported() {
    let Some(lab) = Lab::wired("the_path_and_its_mtu_are_reported", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &small_links(&lab));
    for (host, target, hop, mtu) in [
        (&lab.client, "10.0.0.11", "198.51.100.1", 1_280),
        (&lab.client, "2001:db8:10::11", "2001:db8:51::1", 1_280),
        // Through source NAT, and without in IPv6.
        (&lab.shop_a, "198.51.100.20", "10.0.0.1", 1_400),
        (&lab.shop_a, "2001:db8:51::20", "2001:db8:10::1", 1_400),
    ] {
        let traced = host.run(&format!("traceroute -n -q 1 -w 20 {target}"));
        let hops: Vec<_> = traced.out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [hop, target], "{}", traced.out);
        let traced = host.run(&format!("tracepath -n {target}"));
        assert!(traced.out.contains(&format!("pmtu {mtu}")), "{target}: {}", traced.out);
        assert!(traced.out.contains("reached"), "{target}: {}", traced.out);
    }
    assert!(appliance.dropped("packet_too_big") >= 4);
    appliance.stop();
}

#[test]
fn udp_of_8900_bytes_arrives() {
    let Some(lab) = Lab::wired("udp_of_8900_bytes_arrives", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &small_links(&lab));
    let _iperf = Iperf::start(&lab, &lab.shop_a, "*");
    for target in ["10.0.0.11", "2001:db8:10::11"] {
        // Linux gives an IPv6 program that is told of a smaller path an error for its next datagram, and iperf3 stops there, without
        // a report and with exit status 0: a ping finds the path out first.
        let _ = lab.client.run(&format!("ping -n -c 2 -i 0.3 -W 10 -s 4000 {target}"));
        Iperf::most_arrive(&lab.client, &format!("--length 8900 --bitrate 10M --client {target}"));
    }
    appliance.stop();
}

#[test]
fn large_answers_over_udp_arrive_whole() {
    let Some(lab) = Lab::wired("large_answers_over_udp_arrive_whole", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &small_links(&lab));
    let text = "m".repeat(250);
    let records: String = (0..12).map(|number| format!(" --txt-record=big.example,{number}{text}")).collect();
    let line = format!(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= \
         --edns-packet-max=4096 --log-facility=-{records}"
    );
    let server = lab.resolver.start(&line, &lab.file("big.log"));
    eventually(5, "dnsmasq listens", || lab.resolver.must("ss -lnu").contains(":53"));
    for target in ["10.0.0.53", "2001:db8:10::53"] {
        eventually(10, "the large answer comes by UDP", || {
            let asked =
                lab.client.run(&format!("dig +bufsize=4096 +ignore +time=10 +tries=1 big.example TXT @{target}"));
            let whole = asked.out.matches(&text).count() == 12;
            whole && !asked.out.contains("Truncated") && asked.out.contains("(UDP)")
        });
    }
    drop(server);
    appliance.stop();
}
