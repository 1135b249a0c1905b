//! Ten thousand rules, services and routes are checked in one go, and each fault among them is found.

use core::fmt::Write;

use super::{codes, faults, valid};

const BASE: &str = include_str!("../../examples/edge.toml");

fn rules(count: usize) -> String {
    let mut text = BASE.to_owned();
    for rule in 0..count {
        write!(
            text,
            "\n[[firewall.rule]]\nname = \"rule-{rule}\"\naction = \"allow\"\nfrom = [\"wan\"]\nsource = [\"10.{}.{}.0/24\", \
             \"2001:db8:{rule:x}::/48\"]\ndestination = [\"192.0.2.{}\"]\nprotocol = \"tcp\"\ndestination_port = [\"{}\", \
             \"8000-8100\"]\n",
            rule / 256,
            rule % 256,
            rule % 250,
            1 + rule % 60_000
        )
        .unwrap();
    }
    text
}

#[test]
fn ten_thousand_rules_are_valid() {
    let checked = valid(&rules(10_000));
    assert_eq!(checked.policy.firewall.rules.len(), 10_004);
    assert_eq!(checked.warnings, []);
}

#[test]
fn among_ten_thousand_rules_the_one_that_never_matches_is_found() {
    let text = rules(10_000)
        + "\n[[firewall.rule]]\nname = \"lost\"\naction = \"deny\"\nfrom = [\"wan\"]\nsource = [\"10.0.7.9\"]\ndestination = [\"192.0.2.7\"]\nprotocol = \"tcp\"\ndestination_port = [\"8042\"]\n";
    let faults = faults(&text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].code, "rule-never-matches");
    assert!(faults[0].message.contains("\"lost\"") && faults[0].message.contains("\"rule-7\""), "{}", faults[0]);
}

#[test]
fn ten_thousand_services_and_routes_are_checked() {
    let mut text = BASE.replacen("log = true", "log = true\nprotocol = \"gre\"", 1);
    for place in 0..10_000 {
        write!(
            text,
            "\n[[route]]\nto = \"172.{}.{}.0/28\"\nvia = \"10.0.0.254\"\n[[virtual_service]]\nname = \"s{place}\"\naddress = \
             \"198.51.100.20\"\nprotocol = \"udp\"\nports = [\"{}\"]\n[[virtual_service.backend]]\nname = \"b\"\naddress = \
             \"172.{}.{}.1\"\n",
            16 + place / 256,
            place % 256,
            1 + place,
            16 + place / 256,
            place % 256,
        )
        .unwrap();
    }
    let faults = faults(&text);
    // No rule admits their clients; nothing else is wrong with them.
    assert_eq!(faults.len(), 10_000);
    assert!(faults.iter().all(|fault| fault.code == "service-not-allowed"), "{}", faults[0]);
}

#[test]
fn a_large_set_in_every_rule_does_not_fit_and_says_so() {
    let mut text = BASE.to_owned() + "\n[[firewall.set]]\nname = \"large\"\naddresses = [";
    for place in 0..10_000 {
        write!(text, "\"10.{}.{}.1\",", place / 256, place % 256).unwrap();
    }
    text.push_str("]\n");
    for rule in 0..600 {
        write!(text, "[[firewall.rule]]\nname = \"r{rule}\"\naction = \"deny\"\nsource = [\"@large\"]\n").unwrap();
    }
    let codes = codes(&text);
    assert!(codes.len() >= 200 && codes.iter().all(|&code| code == "does-not-fit"), "{codes:?}");
}
