//! Every packet is accounted for exactly once: received = forwarded + consumed + punted + dropped (A2), and packets sent
//! on purpose to be dropped are found under their reason, all of them.

use millrace_tests::net::{Appliance, Claims, Lab, holds_within, taps_named_as_wires};

const PROGRAMS: &[&str] = &["dnsmasq", "dig", "ping", "nc", "ss", "hping3"];

#[test]
fn the_account_closes_after_traffic_of_every_kind() {
    let Some(lab) = Lab::wired("the_account_closes_after_traffic_of_every_kind", PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    claims.hold(&appliance);
    // To nobody: a next hop that does not answer, and a destination without a route.
    lab.client.run("ping -c 2 -i 0.2 -W 1 10.0.0.99");
    lab.client.run("ping -c 2 -i 0.2 -W 1 2001:db8:10::99");
    lab.client.run("ping -c 2 -i 0.2 -W 1 192.0.2.1");
    lab.client.run("ping -c 2 -i 0.2 -W 1 2001:db8:99::1");
    assert!(holds_within(5, || appliance.account().closes()), "{:?}", appliance.account());
    let account = appliance.account();
    assert!(account.forwarded > 0 && account.consumed > 0 && account.punted > 0 && account.dropped > 0, "{account:?}");
    appliance.stop();
}

/// Sends each kind and looks for exactly that many packets under its reason.
fn each_is_found_under_its_reason(lab: &Lab, appliance: &Appliance<'_>, kinds: &[(&str, u64, &str)]) {
    for (reason, packets, attack) in kinds {
        let before = appliance.dropped(reason);
        let sent = lab.client.run(attack);
        let found = holds_within(5, || appliance.dropped(reason) >= before + packets);
        assert!(found, "{attack}: {reason}\n{}\n{}", sent.err, appliance.ask("show drops").out);
        assert_eq!(appliance.dropped(reason), before + packets, "{attack}: {reason}");
    }
}

#[test]
fn what_is_sent_to_be_dropped_is_found_under_its_reason() {
    let Some(lab) = Lab::wired("what_is_sent_to_be_dropped_is_found_under_its_reason", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &lab.edge());
    // MAL-09 and MAL-13: flags that open nothing, and sources that cannot be.
    let kinds = [
        ("tcp_flags", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q"),
        ("tcp_flags", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -F -P -U"),
        ("tcp_flags", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -F"),
        ("tcp_flags", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -R"),
        ("land", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -a 198.51.100.10"),
        ("source_own_address", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -a 10.0.0.1"),
        ("source_multicast", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -a 224.0.0.5"),
        ("source_loopback", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -a 127.0.0.1"),
        ("tcp_checksum", 20, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -b"),
        ("firewall_denied", 20, "hping3 198.51.100.10 -p 23 -c 20 -i u2000 -q -S"),
        ("no_route", 5, "ping -c 5 -i 0.2 -W 1 192.0.2.1"),
        ("no_route", 5, "ping -c 5 -i 0.2 -W 1 2001:db8:99::1"),
    ];
    each_is_found_under_its_reason(&lab, &appliance, &kinds);
    assert_eq!(appliance.sessions("service=shop"), 0, "none of it opened a session");
    appliance.stop();
}

#[test]
fn fragments_pass_whole_or_are_found_under_their_reason() {
    // Over TAP devices: a packet socket of DPDK's has the kernel put IPv4 fragments together.
    let Some(lab) = Lab::bare("fragments_pass_whole_or_are_found_under_their_reason", PROGRAMS) else { return };
    let configuration = lab.edge().replacing("[sessions]\n", "[fragments]\ntimeout = \"1s\"\n\n[sessions]\n");
    let appliance = Appliance::launch(&lab, &taps_named_as_wires(configuration));
    lab.plug_taps();
    // Pieces of 16 bytes: the first does not hold the TCP header (EVA-01), the second begins inside it, four follow and wait
    // in vain.
    let tiny = [("fragment_tiny", 40, "hping3 198.51.100.10 -p 80 -c 20 -i u2000 -q -S -f -d 64")];
    each_is_found_under_its_reason(&lab, &appliance, &tiny);
    // Where a sender gives its datagrams one number, the pieces of the later ones are copies of those of the first.
    let waited = || appliance.dropped("fragment_timeout") + appliance.dropped("fragment_duplicate");
    let given_up = holds_within(5, || appliance.dropped("fragment_timeout") > 0 && waited() == 80);
    assert!(given_up, "{}", appliance.ask("show drops").out);
    for target in ["10.0.0.11", "2001:db8:10::11"] {
        let pinged = lab.client.run(&format!("ping -c 5 -i 0.2 -w 60 -s 3000 {target}"));
        assert!(pinged.out.contains("5 received"), "{}{}", pinged.out, appliance.ask("show drops").out);
    }
    appliance.stop();
}
