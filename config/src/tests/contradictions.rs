//! CFG-04: what contradicts itself is refused, with both places named; and what is only doubtful is a warning.

mod nat;
mod service;

use super::{FULL, codes, faults, full_with, valid};
use crate::{Fault, Severity};

/// The line of the full file that begins with `start`, from 1.
fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}")) + 1
}

/// The one fault of a text.
fn only(text: &str) -> Fault {
    let mut faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

/// Asserts that the text has one error of this code, which stands on the line beginning with `at` and names the one that
/// begins with `other`.
fn refused(text: &str, code: &str, at: &str, other: &str) {
    let fault = only(text);
    assert_eq!((fault.code, fault.severity), (code, Severity::Error), "{fault}");
    assert_eq!(fault.place.unwrap().line, line_of(text, at), "{fault}");
    assert_eq!(fault.other.unwrap().line, line_of(text, other), "{fault}");
    assert!(!fault.advice.is_empty(), "{fault}");
}

#[test]
fn an_address_on_two_ports() {
    let text = full_with(
        "addresses = [\"10.0.0.1/24\", \"2001:db8:10::1/64\"]",
        "addresses = [\"10.0.0.1/24\", \"2001:db8:10::1/64\", \"198.51.100.1/32\"]",
    );
    refused(&text, "duplicate-address", "addresses = [\"10.0.0.1", "addresses = [\"198.51.100.1");
}

#[test]
fn a_network_on_two_ports() {
    let text = full_with(
        "addresses = [\"10.0.0.1/24\", \"2001:db8:10::1/64\"]",
        "addresses = [\"10.0.0.1/24\", \"2001:db8:10::1/64\", \"198.51.100.77/24\"]",
    );
    refused(&text, "overlapping-networks", "addresses = [\"10.0.0.1", "addresses = [\"198.51.100.1");
}

#[test]
fn an_own_address_as_next_hop() {
    let text = full_with("via = \"198.51.100.254\"", "via = \"198.51.100.1\"");
    refused(&text, "own-address", "via =", "addresses = [\"198.51.100.1");
}

#[test]
fn a_next_hop_or_a_backend_that_the_appliance_answers_for() {
    let text = full_with("via = \"198.51.100.254\"", "via = \"198.51.100.10\"");
    refused(&text, "own-address", "via =", "address = \"198.51.100.10\"");
    let pool = full_with("address = [\"198.51.100.1\"]", "address = [\"198.51.100.254\"]");
    refused(&pool, "own-address", "via =", "address = [\"198.51.100.254\"]");
    let pool = full_with("source_address = [\"10.0.0.1\"]", "source_address = [\"10.0.0.11\"]");
    let text = pool.replace("address = \"10.0.0.11\"\nport = 8080", "address = \"10.0.0.11\" # taken\nport = 8080");
    refused(&text, "own-address", "address = \"10.0.0.11\" # taken", "source_address");
}

#[test]
fn a_next_hop_on_no_link_or_on_that_of_another_port() {
    let text = FULL.replace("via = \"198.51.100.254\"\nport = \"outside\"", "via = \"198.51.102.254\"");
    let fault = only(&text);
    assert_eq!(fault.code, "unreachable-next-hop");
    assert!(fault.message.contains("any port") && fault.advice.contains("198.51.100.0/24"), "{fault}");
    let text = full_with("port = \"outside\"", "port = \"inside\"");
    assert!(only(&text).message.ends_with("is not on the link of that port"));
}

#[test]
fn a_link_local_next_hop_needs_its_port() {
    let route = |port| format!("{FULL}\n[[route]]\nto = \"::/0\"\nvia = \"fe80::1\"\n{port}\n");
    assert_eq!(only(&route("")).code, "missing-key");
    valid(&route("port = \"outside\""));
}

#[test]
fn two_routes_to_one_prefix() {
    let text = FULL.to_owned() + "\n[[route]]\nto = \"203.0.113.0/24\" # again\nvia = \"10.0.0.2\"\n";
    refused(&text, "duplicate-route", "to = \"203.0.113.0/24\" # again", "to = \"203.0.113.0/24\"");
    let text = FULL.to_owned() + "\n[[route]]\nto = \"10.0.0.0/24\"\nvia = \"198.51.100.2\"\n";
    refused(&text, "duplicate-route", "to = \"10.0.0.0/24\"", "addresses = [\"10.0.0.1");
}

#[test]
fn a_next_hop_of_the_other_version() {
    let text = full_with("via = \"198.51.100.254\"", "via = \"2001:db8:51::2\"");
    refused(&text, "family-mismatch", "via =", "to =");
}

#[test]
fn two_things_of_one_name() {
    for (table, again) in [
        ("port", "name = \"outside\"\ndevice = \"net_null3\"\nzone = \"x\"\naddresses = [\"192.0.2.1/24\"]"),
        ("tenant", "name = \"acme\"\nvlans = [7]"),
        ("firewall.set", "name = \"offices\"\naddresses = [\"192.0.2.0/24\"]"),
        ("firewall.rule", "name = \"web\"\naction = \"deny\"\nsource = [\"192.0.2.9\"]"),
        ("source_nat", "name = \"servers-out\"\naddress = [\"198.51.100.1\"]"),
        (
            "virtual_service",
            "name = \"shop\"\naddress = \"198.51.100.10\"\nprotocol = \"tcp\"\nports = [79]\n[[virtual_service.backend]]\nname = \"b\"\naddress = \"10.0.0.3\"",
        ),
        ("virtual_service.backend", "name = \"meet-a\"\naddress = \"10.0.0.3\""),
    ] {
        let name = again.lines().next().unwrap();
        let text = format!("{FULL}\n[[{table}]]\n{}\n", again.replacen(name, &format!("{name} # again"), 1));
        let fault =
            faults(&text).into_iter().find(|fault| fault.code == "duplicate-name").unwrap_or_else(|| panic!("{table}"));
        assert_eq!(fault.place.unwrap().line, line_of(&text, &format!("{name} # again")), "{fault}");
        assert_eq!(fault.other.unwrap().line, line_of(&text, name), "{fault}");
    }
}

#[test]
fn a_device_an_interface_or_a_mac_of_two_ports() {
    let port = |device: &str, more: &str| {
        format!(
            "{FULL}\n[[port]]\nname = \"third\"\ndevice = \"{device}\"\nzone = \"x\"\naddresses = [\"192.0.2.1/24\"]\n{more}\n"
        )
    };
    for (device, more, code) in [
        ("3b:02.0", "", "duplicate-device"),
        ("net_af_packet1,iface=eth7", "", "duplicate-device"),
        ("net_af_packet3,iface=mr-in0", "", "duplicate-device"),
        ("net_null3", "mac = \"02:00:00:00:00:01\"", "duplicate-mac"),
        ("net_null3", "kernel = \"wan0\"", "duplicate-interface"),
        ("net_null3", "kernel = \"mr-in0\"", "duplicate-interface"),
        ("net_af_packet3,iface=mr-third", "", "duplicate-interface"),
    ] {
        assert_eq!(only(&port(device, more)).code, code, "{device} {more}");
    }
    valid(&port("net_null3", ""));
}

#[test]
fn metrics_where_the_api_is() {
    let text = full_with("listen = \"192.0.2.1:8443\"", "listen = \"0.0.0.0:9464\"");
    refused(&text, "listens-twice", "listen = \"127.0.0.1:9464", "listen = \"0.0.0.0:9464");
}

#[test]
fn a_worker_on_a_core_twice_or_on_that_of_control() {
    let text = full_with("workers = [1, 2]", "workers = [\n1,\n1 ]");
    refused(&text, "duplicate-core", "1 ]", "1,");
    let fault = only(&full_with("workers = [1, 2]", "workers = [0, 2]"));
    assert_eq!((fault.code, fault.severity), ("shared-core", Severity::Warning));
}

#[test]
fn rules_that_never_match_are_a_warning_with_the_rule_that_hides_them() {
    let rule =
        "\n[[firewall.rule]]\nname = \"late\"\naction = \"deny\"\nprotocol = \"icmp\"\nicmp_type = [\"ipv6:128\"]\n";
    let text = FULL.to_owned() + rule;
    let fault = only(&text);
    assert_eq!((fault.code, fault.severity), ("rule-never-matches", Severity::Warning));
    assert_eq!(fault.message, "the rule \"late\" can never match: \"ping\" takes all of it before");
    assert_eq!(text.lines().nth(fault.other.unwrap().line).unwrap(), "name = \"ping\"");
    let rule = "\n[[firewall.rule]]\nname = \"mixed\"\naction = \"deny\"\nsource = [\"10.0.0.0/8\"]\ndestination = [\"2001:db8::/32\"]\n";
    assert!(only(&(FULL.to_owned() + rule)).message.ends_with("no packet is all it asks for"));
}

#[test]
fn protocols_and_ports_belong_together() {
    for protocol in ["\"any\"", "\"icmp\"", "47"] {
        let text = FULL.replacen("protocol = \"tcp\"", &format!("protocol = {protocol}"), 1);
        let codes = codes(&text);
        assert_eq!(codes, ["protocol-mismatch"; 2], "{protocol}");
    }
    let text = full_with("protocol = \"icmp\"", "protocol = \"tcp\"");
    assert_eq!(codes(&text), ["protocol-mismatch"]);
}

#[test]
fn a_buffer_holds_the_largest_frame_of_every_port() {
    let fault = only(&full_with("buffer_size = 2_048", "buffer_size = 1_024"));
    assert_eq!((fault.code, fault.severity), ("does-not-fit", Severity::Error));
    assert!(fault.message.starts_with("a frame of 1530 bytes"), "{}", fault.message);
    let fault = only(&full_with("mtu = 1500", "mtu = 9000"));
    assert_eq!((fault.code, &*fault.path), ("does-not-fit", "dpdk.buffer_size"));
    // Left out, it follows the ports, up to the largest MTU there can be.
    let largest = full_with("buffer_size = 2_048\n", "").replace("mtu = 1500", "mtu = 9600");
    valid(&largest.replace("memory = \"512MiB\"", "memory = \"1GiB\""));
}

#[test]
fn buffers_that_do_not_fit_or_do_not_suffice() {
    let fault = only(&full_with("buffers = 65_536", "buffers = 1_000_000"));
    assert_eq!((fault.code, fault.severity), ("does-not-fit", Severity::Error));
    assert!(fault.advice.starts_with("write memory = \"2"), "{fault}");
    let fault = only(&full_with("buffers = 65_536", "buffers = 4_096"));
    assert_eq!((fault.code, fault.severity), ("few-buffers", Severity::Warning));
}

#[test]
fn an_ipv4_port_may_have_a_small_mtu_and_an_ipv6_one_may_not() {
    let four =
        full_with("addresses = [\"198.51.100.1/24\", \"2001:db8:51::1/64\"]", "addresses = [\"198.51.100.1/24\"]");
    valid(&four.replace("mtu = 1500", "mtu = 68"));
    refused(&full_with("mtu = 1500", "mtu = 1279"), "mtu-too-small", "mtu", "addresses = [\"198");
}

#[test]
fn brackets_of_the_wrong_number_are_explained() {
    let fault = only(&FULL.replacen("[[route]]", "[route]", 1));
    assert_eq!(
        (fault.code, &*fault.advice),
        ("wrong-type", "there can be several of it: write [[route]], with double brackets")
    );
    let text = FULL.replacen("[dpdk]", "[[dpdk]]", 1);
    let fault = faults(&text).remove(0);
    assert_eq!((fault.code, &*fault.advice), ("wrong-type", "there is one of it: write [dpdk], with single brackets"));
}

#[test]
fn one_mistake_is_one_message() {
    // A port whose zone or address cannot be read makes nothing else unknown or unreachable.
    assert_eq!(codes(&full_with("zone = \"dmz\"", "zone = 7")), ["wrong-type"]);
    let text = full_with(
        "addresses = [\"10.0.0.1/24\", \"2001:db8:10::1/64\"]",
        "addresses = [\"10.0.0.1\", \"2001:db8:10::1/64\"]",
    );
    assert_eq!(codes(&text), ["bad-address"]);
    assert_eq!(codes(&full_with("memory = \"512MiB\"", "memory = 512")), ["wrong-type"]);
    assert_eq!(codes(&full_with("via = \"198.51.100.254\"", "via = \"198.51.100.300\"")), ["bad-address"]);
}

#[test]
fn an_empty_file_says_what_is_missing() {
    assert_eq!(codes(""), ["missing-key"; 3]);
    assert!(faults("").iter().all(|fault| fault.message.starts_with("the file has no [")));
}

#[test]
fn a_tunnel_that_ends_here_and_contradicts_itself() {
    let ending = |keys: &str| codes(&format!("{FULL}\n[[decapsulate]]\nname = \"more\"\n{keys}\n"));
    let four = "address = \"10.0.0.1\"\nfrom = [\"10.0.0.9\"]\n";
    assert!(ending(&format!("{four}kind = \"ipip\"")).is_empty());
    assert_eq!(ending(&format!("{four}kind = \"ipip\"\ngre_key = 1")), ["meaningless-key"]);
    assert_eq!(ending(&format!("{four}kind = \"gre\"\ngue_port = 1")), ["meaningless-key"]);
    let six = four.replace("10.0.0.9", "2001:db8::9");
    assert_eq!(ending(&format!("{six}kind = \"gue\"")), ["family-mismatch"]);
    assert_eq!(ending(&format!("{}kind = \"ipip\"", four.replace("10.0.0.1\"", "10.0.0.2\""))), ["not-own-address"]);
}

/// The capacity for fragments is split among the workers, and each share has to hold datagrams of the size that is allowed.
#[test]
fn fewer_fragments_than_the_workers_need_are_a_warning() {
    let text = |workers: &str, capacity: &str| {
        // What rings between so many workers hold needs more buffers than two do.
        let text = full_with("workers = [1, 2]", &format!("workers = [{workers}]")).replace("65_536", "131_072");
        let at = text.find("[fragments]").unwrap();
        let end = at + text[at..].find("\n\n").unwrap_or(text.len() - at);
        format!("{}[fragments]\n{capacity}{}", &text[..at], &text[end..])
    };
    let few = text("1, 2, 3, 4, 5", "capacity = 512\nper_datagram = 64");
    let found = faults(&few);
    assert_eq!(
        found.iter().map(|fault| (fault.code, fault.severity)).collect::<Vec<_>>(),
        [("few-fragments", Severity::Warning)]
    );
    assert!(found[0].advice.contains("640"), "{}", found[0]);
    valid(&text("1, 2, 3, 4", "capacity = 512\nper_datagram = 64"));
    let policy = crate::load(&text("1, 2, 3, 4, 5, 6, 7, 8, 9, 10", "per_datagram = 256"), std::path::Path::new("f"))
        .unwrap()
        .policy;
    assert_eq!(policy.fragments.capacity, 5_120, "what is not said is enough");
}

/// A tunnel that ends at an own address takes every packet to its port: nothing else is asked there.
#[test]
fn a_service_or_forward_where_a_tunnel_ends() {
    let backend = "\n[[virtual_service.backend]]\nname = \"b\"\naddress = \"10.0.0.12\"\n";
    let service = |protocol: &str, ports: &str| {
        format!(
            "{FULL}\n[[virtual_service]]\nname = \"there\"\naddress = \"10.0.0.1\"\nprotocol = \"{protocol}\"\n\
             ports = [\"{ports}\"] # there{backend}"
        )
    };
    let fault = only(&service("udp", "6000-6100"));
    assert_eq!((fault.code, fault.severity), ("overlapping-tunnel", Severity::Error), "{fault}");
    assert_eq!(fault.place.unwrap().line, line_of(&service("udp", "6000-6100"), "ports = [\"6000-6100\"]"));
    valid(&service("tcp", "6000-6100"));
    valid(&service("udp", "6081"));
    let forward = |port: u16| {
        let full =
            full_with("from = [\"198.18.0.0/15\"]\ngue_port = 6080", "from = [\"198.18.0.0/15\"]\ngue_port = 7000");
        format!(
            "{full}\n[[destination_nat]]\nname = \"there\"\naddress = \"10.0.0.1\"\nprotocol = \"udp\"\n\
             ports = \"{port}\"\nto_address = \"10.0.0.12\"\n"
        )
    };
    assert_eq!(only(&forward(7_000)).code, "overlapping-tunnel");
    valid(&forward(6_080));
}

/// Two routed ports, and two that are a pair.
const PAIRED: &str = "[appliance]\nname = \"bump\"\n[cores]\nworkers = [1]\n[dpdk]\nhugepages = false\n\
    [[port]]\nname = \"a\"\ndevice = \"net_null0\"\nzone = \"street\"\n\
    [[port]]\nname = \"b\"\ndevice = \"net_null1\"\nzone = \"hall\" # b\n\
    [[port]]\nname = \"c\"\ndevice = \"net_null2\"\nzone = \"lan\"\naddresses = [\"10.0.0.1/24\"]\n\
    [[pair]]\nports = [\"a\", \"b\"]\n[firewall]\ndefault = \"allow\"\n";

#[test]
fn a_pair_is_two_ports_and_a_port_is_in_one() {
    let policy = valid(PAIRED).policy;
    let port = units::PortId::new;
    assert_eq!(policy.pairs, [[port(0), port(1)]]);
    assert_eq!((policy.pair_of(port(1)), policy.pair_of(port(2))), (Some((0, port(0))), None));
    assert_eq!(policy.ports[0].kernel_interface, None, "nobody would be reached through it");
    let twice = format!("{PAIRED}[[pair]]\nports = [\n\"c\",\n\"a\" # again\n]\n");
    refused(&twice, "port-in-two-pairs", "\"a\" # again", "ports = [\"a\"");
    let itself = PAIRED.replace("[\"a\", \"b\"]", "[\"a\",\n\"a\"]");
    assert_eq!(codes(&itself), ["missing-key", "pair-of-one-port"], "b has no addresses then");
    let unknown = PAIRED.replace("[\"a\", \"b\"]", "[\"a\", \"b\", \"d\"]");
    assert_eq!(codes(&unknown), ["bad-pair", "unknown-port"]);
    let three = only(&PAIRED.replace("[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]"));
    assert_eq!((three.code, three.place.unwrap().line), ("bad-pair", line_of(PAIRED, "ports = [\"a\"")));
    let sizes = PAIRED.replace("zone = \"hall\" # b", "zone = \"hall\"\nmtu = 1400");
    refused(&sizes, "pair-of-two-sizes", "ports = [\"a\"", "[[port]]");
    let kernel = only(&PAIRED.replace("zone = \"hall\" # b", "zone = \"hall\"\nkernel = true"));
    assert_eq!(kernel.code, "meaningless-key");
    valid(&PAIRED.replace("zone = \"hall\" # b", "zone = \"hall\"\naddresses = [\"192.0.2.1/24\"]\nkernel = \"mgmt\""));
    valid(&format!("{PAIRED}[[neighbor]]\nport = \"a\"\naddress = \"203.0.113.7\"\nmac = \"02:00:00:00:00:07\"\n"));
}

/// SE-45: a frame belongs to one tenant, and only frames between paired ports belong to any.
#[test]
fn a_vlan_of_two_tenants_and_tenants_without_frames() {
    let two = format!(
        "{PAIRED}[[tenant]]\nname = \"acme\"\nvlans = [100, \"200-299\"]\n[[tenant]]\nname = \"burns\"\nvlans = [\"300-399\"]\n"
    );
    let policy = valid(&two).policy;
    let written: Vec<_> = policy.tenants.iter().map(|tenant| (tenant.name.as_str(), tenant.vlans.as_slice())).collect();
    assert_eq!(written, [("acme", &[100..=100, 200..=299][..]), ("burns", &[300..=399])]);
    for both in ["\"250-399\"", "299", "\"90-110\""] {
        let text = two.replace("\"300-399\"", both);
        refused(&text, "duplicate-vlan", &format!("vlans = [{both}]"), "vlans = [100");
    }
    let twice = only(&two.replace("\"200-299\"", "\"50-150\""));
    assert_eq!((twice.code, twice.message.as_str()), ("duplicate-vlan", "[[tenant]] \"acme\" has VLAN 100 twice"));
    let without = two.replace("[[pair]]\nports = [\"a\", \"b\"]\n", "");
    let addresses = |zone, net| format!("zone = \"{zone}\"\naddresses = [\"{net}.1/24\"]");
    let routed = without
        .replace("zone = \"street\"", &addresses("street", "192.0.2"))
        .replace("zone = \"hall\" # b", &addresses("hall", "198.51.100"));
    let fault = only(&routed);
    assert_eq!((fault.code, fault.place.unwrap().line), ("no-pair", line_of(&routed, "[[tenant]]")));
    let sources = only(&two.replace("vlans = [100, \"200-299\"]", "sources = [\"203.0.113.0/25\"]"));
    assert_eq!(
        (sources.code, sources.message.as_str()),
        ("not-yet-supported", "`sources` of [[tenant]] \"acme\" is not supported yet")
    );
}

#[test]
fn as_many_tenants_as_there_are_vlans_and_no_more() {
    let tenants = |count: u16| {
        let each = |vlan: u16| format!("[[tenant]]\nname = \"t{vlan}\"\nvlans = [{vlan}]\n");
        PAIRED.to_owned() + &(1..=count).map(each).collect::<String>()
    };
    assert_eq!(valid(&tenants(4_094)).policy.tenants.len(), 4_094);
    assert_eq!(codes(&tenants(4_095)), ["too-many", "out-of-bounds"]);
}

/// What waits for the collector is memory, of every worker's.
#[test]
fn a_session_log_that_waits_in_too_much_memory() {
    let text = |workers: &str| {
        // What rings between so many workers hold needs more buffers than two do.
        let text = full_with("workers = [1, 2]", &format!("workers = [{workers}]"));
        text.replace("queue = 65_536", "queue = 1_048_576").replace("65_536", "131_072")
    };
    valid(&text("1, 2, 3, 4"));
    let much = text("1, 2, 3, 4, 5");
    let fault = only(&much);
    assert_eq!((fault.code, fault.place.unwrap().line), ("does-not-fit", line_of(&much, "queue = 1_048_576")));
    assert!(fault.advice.contains("838860"), "{fault}");
}

/// What a collector is and how it is reached have to go together.
#[test]
fn a_session_log_that_cannot_reach_its_collector() {
    let json = full_with("format = \"ipfix\"", "format = \"json\"");
    let lines = ["transport = \"udp\"", "domain = 7", "template_interval = \"1m\"", "message_size = 1_400"];
    let told: Vec<_> = faults(&json).iter().map(|fault| (fault.code, fault.place.unwrap().line)).collect();
    let expected = lines.map(|line| {
        (
            if line.starts_with('t') && line.contains("udp") { "wrong-transport" } else { "meaningless-key" },
            line_of(&json, line),
        )
    });
    assert_eq!(told, expected);
    let path = full_with("collector = \"192.0.2.9:4739\"", "collector = \"/run/a.sock\"");
    let fault = only(&path);
    assert_eq!((fault.code, fault.place.unwrap().line), ("wrong-transport", line_of(&path, "collector =")));
    let bare =
        |text: &str| lines[1..].iter().fold(text.to_owned(), |text, line| text.replace(&format!("{line}\n"), ""));
    let local = bare(&json).replace("collector = \"192.0.2.9:4739\"", "collector = \"/run/a.sock\"");
    let fault = only(&local);
    assert_eq!((fault.code, fault.place.unwrap().line), ("meaningless-key", line_of(&local, "transport =")));
    assert!(valid(&local.replace("transport = \"udp\"\n", "")).policy.session_log.is_some());
    assert!(valid(&bare(&json).replace("transport = \"udp\"", "transport = \"tcp\"")).policy.session_log.is_some());
}
