//! Of source NAT, forwards and NAT64.

use super::super::{FULL, codes, full_with, valid};
use super::{line_of, only, refused};
use crate::Severity;

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
fn pool_addresses_nobody_answers_for_are_a_warning() {
    let fault = only(&full_with("address = [\"198.51.100.1\"]", "address = [\"192.0.2.77\"]"));
    assert_eq!((fault.code, fault.severity), ("address-not-owned", Severity::Warning));
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
