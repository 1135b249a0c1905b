//! CFG-04: what contradicts itself is refused, with both places named; and what is only doubtful is a warning.

use stage::balancer::Attract;

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

/// The SYN cookies of the full file.
const COOKIES: &str = "\n[virtual_service.syn_cookies]\nmode = \"adaptive\"\non_at = 1000\noff_at = 500\n";

/// How the full file tells backends who their clients are.
const INTRODUCED: &str = "client_address = \"proxy-v2\"\n";

#[test]
fn syn_cookies_where_they_mean_nothing() {
    assert!(FULL.contains(COOKIES));
    let code = |text: &str| {
        let fault = only(text);
        (fault.code, fault.place.map(|place| place.line))
    };
    let at = |text: &str, start: &str| Some(line_of(text, start));
    let always = full_with("mode = \"adaptive\"", "mode = \"always\"");
    assert_eq!(code(&always), ("meaningless-key", at(&always, "on_at")));
    let udp =
        full_with("address = \"198.51.100.10\"\nprotocol = \"tcp\"", "address = \"198.51.100.10\"\nprotocol = \"udp\"");
    let udp = udp.replace("half_open_limit = 2_000\n", "").replace(INTRODUCED, "");
    assert_eq!(code(&udp), ("meaningless-key", at(&udp, "[virtual_service.syn_cookies]")));
    let limit = full_with("one_shot = false", "one_shot = false\nhalf_open_limit = 5");
    assert_eq!(code(&limit), ("meaningless-key", at(&limit, "half_open_limit = 5")));
    let inverted = full_with("off_at = 500", "off_at = 1000");
    assert_eq!(code(&inverted), ("inverted-thresholds", at(&inverted, "off_at")));
    for mode in ["direct", "ipip", "gue"] {
        let text = full_with("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", &format!("mode = \"{mode}\""));
        let text = text.replace("port = 8080\n", "").replace(INTRODUCED, "");
        assert_eq!(code(&text), ("meaningless-key", at(&text, "[virtual_service.syn_cookies]")), "{mode}");
    }
    valid(&FULL.replace(COOKIES, "\n[virtual_service.syn_cookies]\n"));
    valid(&FULL.replace(COOKIES, "\n[virtual_service.syn_cookies]\nmode = \"always\"\n"));
    valid(&FULL.replace(COOKIES, "\n[virtual_service.syn_cookies]\non_at = 1\n"));
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
fn virtual_services_with_a_port_in_common() {
    let service = "\n[[virtual_service]]\nname = \"other\"\naddress = \"198.51.100.10\"\nprotocol = \"tcp\"\nports = [\"8100-8200\"]\n[[virtual_service.backend]]\nname = \"b\"\naddress = \"10.0.0.12\"\n";
    refused(&(FULL.to_owned() + service), "overlapping-services", "ports = [\"8100", "ports = [\"80\"");
    let apart = service.replace("8100-8200", "8101-8200");
    valid(&(FULL.to_owned() + &apart));
    valid(&(FULL.to_owned() + &service.replace("\"tcp\"", "\"udp\"")));
}

#[test]
fn one_service_with_a_port_twice() {
    let text = full_with("ports = [\"80\", \"8000-8100\"]", "ports = [\"80\",\n\"80-90\"]");
    refused(&text, "overlapping-services", "\"80-90\"", "ports = [\"80\",");
}

#[test]
fn every_overlap_of_services_is_found() {
    let text = full_with(
        "ports = [\"80\", \"8000-8100\"]",
        "ports = [\"1-100\", \"5\", \"50-60\", \"90-110\", \"105\", \"200\"]",
    );
    assert_eq!(codes(&text), ["overlapping-services"; 4]);
}

#[test]
fn weights_that_are_all_zero() {
    let fault = only(&full_with("weight = 1", "weight = 0"));
    assert_eq!(fault.code, "all-weights-zero");
    assert_eq!(fault.place.unwrap().line, line_of(FULL, "[[virtual_service]]"));
}

#[test]
fn a_backend_that_is_a_virtual_service() {
    let text = full_with("address = \"10.0.0.11\"\nport = 8080", "address = \"198.51.100.10\" # itself\nport = 8080");
    refused(&text, "backend-loop", "address = \"198.51.100.10\" # itself", "address = \"198.51.100.10\"");
}

#[test]
fn a_backend_that_is_this_appliance() {
    let text = full_with("address = \"10.0.0.11\"\nport = 8080", "address = \"198.51.100.1\"\nport = 8080");
    refused(&text, "own-address", "address = \"198.51.100.1\"", "addresses = [\"198.51.100.1/24");
}

#[test]
fn a_backend_nothing_leads_to() {
    let text = full_with("address = \"10.0.0.11\"\nport = 8080", "address = \"172.16.0.1\"\nport = 8080");
    let fault = only(&text);
    assert_eq!(fault.code, "unreachable-backend");
    assert!(fault.advice.contains("10.0.0.0/24, 198.51.100.0/24"), "{fault}");
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
fn a_source_nat_rule_behind_a_wider_one_is_a_warning() {
    let rule = |more: &str| format!("{FULL}\n[[source_nat]]\nname = \"late\"\naddress = [\"198.51.100.2\"]\n{more}\n");
    let fault = only(&rule("from = [\"dmz\"]\nto = [\"wan\"]\nsource = [\"10.0.0.128/25\"]"));
    assert_eq!((fault.code, fault.severity), ("rule-never-matches", Severity::Warning));
    assert_eq!(fault.other.unwrap().line, line_of(FULL, "[[source_nat]]"));
    for apart in [
        "",
        "from = [\"dmz\"]",
        "source = [\"10.0.0.0/24\"]",
        "from = [\"dmz\"]\nto = [\"wan\"]\nsource = [\"10.0.0.0/23\"]",
    ] {
        valid(&rule(apart));
        assert_eq!(codes(&rule(apart)), [""; 0], "{apart}");
    }
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
fn a_worker_on_a_core_twice_or_on_that_of_control() {
    let text = full_with("workers = [1, 2]", "workers = [\n1,\n1 ]");
    refused(&text, "duplicate-core", "1 ]", "1,");
    let fault = only(&full_with("workers = [1, 2]", "workers = [0, 2]"));
    assert_eq!((fault.code, fault.severity), ("shared-core", Severity::Warning));
}

#[test]
fn modes_and_their_keys() {
    let fault = only(&full_with("mode = \"full-nat\"", "mode = \"nat\""));
    assert_eq!(fault.code, "meaningless-key");
    let fault = only(&full_with("source_address = [\"10.0.0.1\"]", ""));
    assert_eq!(
        (fault.code, &*fault.message),
        ("missing-key", "[[virtual_service]] \"shop\" has the mode \"full-nat\" and no `source_address`")
    );
    let direct = FULL.replace("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", "mode = \"direct\"");
    let direct = direct.replace(COOKIES, "\n").replace(INTRODUCED, "");
    assert_eq!(codes(&direct), ["meaningless-key"]);
    valid(&direct.replace("\nport = 8080", ""));
    let routed = direct
        .replace("\nport = 8080", "")
        .replace("address = \"10.0.0.11\"\nweight", "address = \"203.0.113.7\"\nweight");
    assert_eq!(only(&routed).code, "backend-not-on-link");
}

#[test]
fn pool_addresses_nobody_answers_for_are_a_warning() {
    let fault = only(&full_with("address = [\"198.51.100.1\"]", "address = [\"192.0.2.77\"]"));
    assert_eq!((fault.code, fault.severity), ("address-not-owned", Severity::Warning));
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
fn a_service_no_client_may_reach_is_a_warning() {
    let faults = faults(&full_with("destination_port = [\"80\", \"8000-8100\"]", "destination_port = [\"81\"]"));
    assert_eq!(faults.len(), FULL.matches("[[virtual_service]]").count() - 1, "one is not of TCP");
    for fault in faults {
        assert_eq!((fault.code, fault.severity), ("service-not-allowed", Severity::Warning));
    }
    let allowed = full_with("default = \"deny\"", "default = \"allow\"");
    valid(&allowed.replace("destination_port = [\"80\", ", "destination_port = ["));
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
fn a_filter_wider_than_its_mapping() {
    let text = full_with("mapping = \"endpoint-independent\"", "mapping = \"address-and-port-dependent\"");
    refused(&text, "filtering-wider-than-mapping", "filtering = ", "mapping = ");
    valid(&text.replace("filtering = \"address-dependent\"\n", ""));
}

#[test]
fn two_pools_that_do_not_know_of_each_other() {
    let second = |ports: &str| {
        format!("{FULL}\n[[source_nat]]\nname = \"rest\"\nfrom = [\"dmz\"]\naddress = [\"198.51.100.0/30\"]\n{ports}")
    };
    refused(&second(""), "overlapping-pools", "address = [\"198.51.100.0/30\"", "address = [\"198.51.100.1\"]");
    let apart = full_with("ports = \"1024-65535\"", "ports = \"1024-29999\"");
    valid(&second("ports = \"30000-65535\"").replace(FULL, &apart));
    let both_plain = second("").replace(
        "mapping = \"endpoint-independent\"\nfiltering = \"address-dependent\"\nports_per_source = 1000\n",
        "",
    );
    valid(&both_plain);
}

#[test]
fn a_pool_with_mappings_that_also_hides_clients_of_a_service() {
    let text = full_with("source_address = [\"10.0.0.1\"]", "source_address = [\"10.0.0.1\",\n\"10.0.0.2\"]");
    let text = text.replace("address = [\"198.51.100.1\"]\n", "address = [\"198.51.100.1\",\n\"10.0.0.2\"] # both\n");
    let fault = only(&text);
    let own = text.lines().position(|line| line == "\"10.0.0.2\"]").unwrap() + 1;
    assert_eq!((fault.code, fault.place.unwrap().line), ("overlapping-pools", own), "{fault}");
    assert_eq!(fault.other.unwrap().line, line_of(&text, "\"10.0.0.2\"] # both"), "{fault}");
}

/// A service on the address a rule of the full file lets clients reach, with one backend.
fn tunneled(keys: &str, backend: &str) -> String {
    format!(
        "{FULL}\n[[virtual_service]]\nname = \"more\"\naddress = \"2001:db8:51::30\"\nprotocol = \"tcp\"\nports = [\"80\"]\n{keys}\n\
         [[virtual_service.backend]]\nname = \"more-a\"\n{backend}\n"
    )
}

#[test]
fn keys_of_a_tunnel_without_it() {
    let backend = "address = \"2001:db8:10::30\"";
    for mode in ["nat", "direct", "ipip", "gre", "gue"] {
        for (key, value, meant) in [
            ("tunnel_source", "[\"10.0.0.1\"]", ["ipip", "gre", "gue"].contains(&mode)),
            ("gre_key", "8", mode == "gre"),
            ("gue_port", "6081", mode == "gue"),
            ("gue_variant", "0", mode == "gue"),
        ] {
            let text = tunneled(&format!("mode = \"{mode}\"\n{key} = {value}"), backend);
            if meant {
                valid(&text);
            } else {
                assert_eq!(codes(&text), ["meaningless-key"], "{mode} {key}");
            }
        }
    }
}

#[test]
fn a_tunnel_joins_families_and_keeps_ports() {
    for mode in ["ipip", "gre", "gue"] {
        let keys = format!("mode = \"{mode}\"");
        valid(&tunneled(&keys, "address = \"10.0.0.30\""));
        valid(&tunneled(&keys, "address = \"203.0.113.30\""));
        valid(&tunneled(&keys, "address = \"10.0.0.30\"\nport = 80"));
        assert_eq!(codes(&tunneled(&keys, "address = \"10.0.0.30\"\nport = 8080")), ["meaningless-key"]);
    }
    assert_eq!(codes(&tunneled("mode = \"direct\"", "address = \"10.0.0.30\"")), ["family-mismatch"]);
}

#[test]
fn a_tunnel_that_begins_elsewhere() {
    let backend = "address = \"10.0.0.30\"";
    let begins = |source: &str| codes(&tunneled(&format!("mode = \"ipip\"\ntunnel_source = {source}"), backend));
    assert_eq!(begins("[\"10.0.0.2\"]"), ["not-own-address"]);
    assert_eq!(begins("[\"10.0.0.1\", \"198.51.100.1\"]"), ["duplicate-address"]);
}

#[test]
fn a_segment_size_without_segments() {
    let text = tunneled("mss_clamp = true", "address = \"2001:db8:10::30\"").replace(
        "\nprotocol = \"tcp\"\nports = [\"80\"]\nmss_clamp",
        "\nprotocol = \"udp\"\nports = [\"80\"]\nmss_clamp",
    );
    assert!(codes(&text).contains(&"meaningless-key"), "{:?}", codes(&text));
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

/// A UDP service that its rule lets clients reach, with two backends.
fn quic(keys: &str, backends: [&str; 2]) -> String {
    let [first, second] = backends;
    format!(
        "{FULL}\n[[virtual_service]]\nname = \"more\"\naddress = \"198.51.100.11\"\nprotocol = \"udp\"\nports = [\"443\"]\n{keys}\n\
         [[virtual_service.backend]]\nname = \"more-a\"\naddress = \"10.0.0.51\"\n{first}\n\
         [[virtual_service.backend]]\nname = \"more-b\"\naddress = \"10.0.0.52\"\n{second}\n"
    )
}

#[test]
fn connection_ids_and_what_they_name() {
    let keys = "persistence = { by = \"quic-cid\", server_id_length = 2 }";
    let (a, b) = ("server_id = \"000a\"", "server_id = \"000b\"");
    valid(&quic(keys, [a, b]));
    valid(&quic(keys, [a, ""]));
    assert_eq!(codes(&quic(keys, [a, a])), ["duplicate-server-id"]);
    assert_eq!(codes(&quic(keys, [a, "server_id = \"0b\""])), ["out-of-bounds"]);
    assert_eq!(codes(&quic("", [a, ""])), ["meaningless-key"]);
    assert_eq!(codes(&quic("persistence = { by = \"source\", timeout = \"5m\" }", [a, ""])), ["meaningless-key"]);
    assert_eq!(codes(&quic("persistence = { by = \"quic-cid\" }", ["", ""])), ["missing-key"]);
    let timed = "persistence = { by = \"quic-cid\", server_id_length = 2, timeout = \"5m\" }";
    assert_eq!(codes(&quic(timed, ["", ""])), ["unknown-key"]);
    let text = quic(keys, [a, b]).replace(
        "name = \"more\"\naddress = \"198.51.100.11\"\nprotocol = \"udp\"",
        "name = \"more\"\naddress = \"198.51.100.11\"\nprotocol = \"tcp\"",
    );
    assert!(codes(&text).contains(&"meaningless-key"), "{:?}", codes(&text));
}

#[test]
fn one_shot_where_answers_do_not_pass() {
    valid(&quic("one_shot = true", ["", ""]));
    valid(&quic("one_shot = false\nmode = \"direct\"", ["", ""]));
    for mode in ["direct", "ipip", "gre", "gue"] {
        assert_eq!(codes(&quic(&format!("one_shot = true\nmode = \"{mode}\""), ["", ""])), ["meaningless-key"]);
    }
    let tcp = quic("one_shot = true", ["", ""])
        .replace("198.51.100.11\"\nprotocol = \"udp\"", "198.51.100.11\"\nprotocol = \"tcp\"");
    assert!(codes(&tcp).contains(&"meaningless-key"), "{:?}", codes(&tcp));
}

/// The full file with one more forward.
fn with_forward(keys: &str) -> String {
    format!("{FULL}\n[[destination_nat]]\nname = \"more\"\nprotocol = \"tcp\"\n{keys}\n")
}

#[test]
fn forwards_that_take_the_same_ports() {
    let text = with_forward("address = \"198.51.100.5\"\nports = \"2209-2210\"\nto_address = \"10.0.0.12\"");
    let both = text.replace("destination_port = [\"2200-2209\"]", "destination_port = [\"2200-2210\"]");
    refused(&both, "overlapping-forwards", "ports = \"2209", "ports = \"2200");
    valid(&both.replace("2209-2210\"\nto", "2210\"\nto"));
    let service = with_forward("address = \"198.51.100.10\"\nports = 8100\nto_address = \"10.0.0.12\"");
    refused(&service, "overlapping-forwards", "ports = 8100", "ports = [\"80\"");
}

#[test]
fn forwards_that_lead_in_circles_or_nowhere() {
    let to = |server: &str| {
        with_forward(&format!("address = \"198.51.100.10\"\nports = 90\nto_address = \"{server}\""))
            .replace("destination_port = [\"80\", ", "destination_port = [\"80\", \"90\", ")
    };
    valid(&to("10.0.0.12"));
    refused(&to("10.0.0.1"), "own-address", "to_address = \"10.0.0.1\"", "addresses = [\"10.0.0.1/24\"");
    assert_eq!(codes(&to("198.51.100.10")), ["forward-loop"]);
    assert_eq!(codes(&to("192.0.2.9")), ["unreachable-server"]);
    assert_eq!(codes(&to("10.0.0.0")), ["bad-address"]);
}

#[test]
fn a_forward_that_no_rule_allows_is_a_warning() {
    let text = with_forward("address = \"198.51.100.5\"\nports = 99\nto_address = \"10.0.0.12\"");
    let fault = only(&text);
    assert_eq!((fault.code, fault.severity), ("forward-not-allowed", Severity::Warning), "{fault}");
}

/// The full file with one more NAT64 rule.
fn with_nat64(prefix: &str, address: &str, ports: &str) -> String {
    format!(
        "{FULL}\n[[nat64]]\nname = \"more\"\nprefix = \"{prefix}\"\naddress = [\"{address}\"]\nports = \"{ports}\"\n"
    )
}

#[test]
fn nat64_prefixes_that_overlap() {
    let ports = "1024-65535";
    valid(&with_nat64("2001:db8:64::/48", "198.51.100.65", ports));
    let text = with_nat64("64:ff9b::/32", "198.51.100.65", ports);
    assert_eq!(codes(&text), ["overlapping-prefixes"]);
    let text = with_nat64("64::/32", "198.51.100.65", ports);
    valid(&text);
    let text = with_nat64("64:ff9b::/64", "198.51.100.65", ports);
    refused(&text, "overlapping-prefixes", "prefix = \"64:ff9b::/64\"", "prefix = \"64:ff9b::/96\"");
    let text = with_nat64("2001:db8::/32", "198.51.100.65", ports);
    assert_eq!(codes(&text), ["overlapping-prefixes"]);
}

#[test]
fn nat64_pools_that_others_hand_out() {
    let text = with_nat64("2001:db8:64::/48", "198.51.100.64", "2000-2999");
    assert_eq!(codes(&text), ["overlapping-pools"]);
    let hidden = with_nat64("2001:db8:64::/48", "198.51.100.1", "2000-2999");
    assert_eq!(codes(&hidden), ["overlapping-pools"]);
}

/// The firewall is asked before a backend is chosen: a service is in one zone.
#[test]
fn backends_of_one_service_in_several_zones() {
    let second = "[[virtual_service.backend]]\nname = \"elsewhere\"\n";
    let with = |more: &str| {
        let backend = FULL.find("[[virtual_service.backend]]").unwrap();
        format!("{}{second}{more}\n\n{}", &FULL[..backend], &FULL[backend..])
    };
    // Both backends are named, the one of the other zone and the one it is compared with.
    let elsewhere = |text: &str, stranger: &str| {
        let fault = only(text);
        assert_eq!((fault.code, fault.severity), ("backends-in-several-zones", Severity::Error), "{fault}");
        let ends = [fault.place.unwrap().line, fault.other.unwrap().line];
        assert!(ends.contains(&line_of(text, stranger)), "{ends:?}");
        assert!(ends.contains(&(line_of(text, "name = \"shop-a\"") + 1)), "{ends:?}");
    };
    let direct = with("address = \"198.51.100.77\"");
    elsewhere(&direct, "address = \"198.51.100.77\"");
    let routed = with("address = \"203.0.113.77\"");
    elsewhere(&routed, "address = \"203.0.113.77\"");
    valid(&with("address = \"10.0.0.12\""));
}

/// The capacity for fragments is split among the workers, and each share has to hold datagrams of the size that is allowed.
#[test]
fn fewer_fragments_than_the_workers_need_are_a_warning() {
    let text = |workers: &str, capacity: &str| {
        let text = full_with("workers = [1, 2]", &format!("workers = [{workers}]"));
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

/// A service of these keys and one backend.
fn service(keys: &str, backend: &str) -> String {
    format!(
        "[[virtual_service]]\nname = \"s\"\nprotocol = \"tcp\"\nports = [\"80\"]\n{keys}\n\
         [[virtual_service.backend]]\nname = \"x\"\naddress = \"{backend}\" # x\n"
    )
}

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

/// SE-14: in line is what a service is attracted by where nothing else is said and something passes in line.
#[test]
fn how_a_service_is_attracted() {
    let attract = |text: &str| valid(text).policy.services[0].spec.attract;
    let quiet = "health = { kind = \"none\" }\n";
    let passing = PAIRED.to_owned() + &service(&format!("address = \"203.0.113.10\"\n{quiet}"), "203.0.113.11");
    assert_eq!(attract(&passing), Attract::InLine);
    let own = PAIRED.to_owned() + &service("address = \"10.0.0.10\"", "10.0.0.11");
    assert_eq!(attract(&own), Attract::OwnAddress, "on the link of a port that is in no pair");
    let unpaired = own
        .replace("[[pair]]\nports = [\"a\", \"b\"]\n", "")
        .replace("zone = \"street\"", "zone = \"street\"\naddresses = [\"192.0.2.1/24\"]");
    let unpaired = unpaired.replace("zone = \"hall\" # b", "zone = \"hall\"\naddresses = [\"192.0.3.1/24\"]");
    assert_eq!(attract(&unpaired), Attract::OwnAddress);
    let asked = unpaired.replace("address = \"10.0.0.10\"", "address = \"10.0.0.10\"\nattract = \"inline\"");
    assert_eq!(only(&asked).code, "no-pair");
    for mode in ["full-nat\"\nsource_address = [\"10.0.0.1\"] #\"", "ipip", "gre", "gue"] {
        let text = passing.replace("ports = [\"80\"]", &format!("ports = [\"80\"]\nmode = \"{mode}\""));
        assert!(codes(&text).contains(&"mode-not-in-line"), "{mode}: {:?}", faults(&text));
    }
    let cookies =
        passing.replace("[[virtual_service.backend]]", "[virtual_service.syn_cookies]\n[[virtual_service.backend]]");
    assert_eq!(only(&cookies).code, "meaningless-key");
    let probed = passing.replace(quiet, "");
    assert_eq!(only(&probed).code, "unreachable-backend");
    let itself = passing.replace("203.0.113.11", "203.0.113.10");
    assert_eq!(attract(&itself), Attract::InLine, "who has the address may be a backend");
    let second = service("attract = \"external\" # two\naddress = \"203.0.113.10\"", "10.0.0.12");
    let second = second.replace("\"s\"", "\"t\"").replace("[\"80\"]", "[\"81\"]");
    let fault = only(&(passing + &second));
    assert_eq!((fault.code, fault.severity), ("attracted-two-ways", Severity::Error));
}

#[test]
fn an_introduction_that_no_backend_can_get() {
    let with = |protocol: &str, mode: &str| {
        format!(
            "{FULL}\n[[virtual_service]]\nname = \"told\"\naddress = \"198.51.100.77\"\nprotocol = \"{protocol}\"\nports = [\"80\"]\n\
             mode = \"{mode}\"\nclient_address = \"proxy-v2\"\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.11\"\n"
        )
    };
    valid(&with("tcp", "nat").replace("proxy-v2", "tcp-option"));
    for (protocol, mode) in [("udp", "nat"), ("tcp", "direct"), ("tcp", "gre")] {
        assert_eq!(codes(&with(protocol, mode)), ["meaningless-key"], "{protocol} {mode}");
    }
}
