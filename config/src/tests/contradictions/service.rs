//! Of virtual services and their backends.

use stage::balancer::Attract;

use super::super::{FULL, codes, faults, full_with, valid};
use super::{PAIRED, line_of, only, refused};
use crate::Severity;

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
fn a_service_no_client_may_reach_is_a_warning() {
    let faults = faults(&full_with("destination_port = [\"80\", \"8000-8100\"]", "destination_port = [\"81\"]"));
    assert_eq!(faults.len(), FULL.matches("[[virtual_service]]").count() - 1, "one is not of TCP");
    for fault in faults {
        assert_eq!((fault.code, fault.severity), ("service-not-allowed", Severity::Warning));
    }
    let allowed = full_with("default = \"deny\"", "default = \"allow\"");
    valid(&allowed.replace("destination_port = [\"80\", ", "destination_port = ["));
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

/// A service of these keys and one backend.
fn service(keys: &str, backend: &str) -> String {
    format!(
        "[[virtual_service]]\nname = \"s\"\nprotocol = \"tcp\"\nports = [\"80\"]\n{keys}\n\
         [[virtual_service.backend]]\nname = \"x\"\naddress = \"{backend}\" # x\n"
    )
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
    for how in ["proxy-v2", "tcp-option"] {
        let key = format!("client_address = \"{how}\"");
        let told = passing.replace(quiet, &format!("{quiet}{key}\n"));
        let fault = only(&told);
        assert_eq!((fault.code, fault.severity), ("meaningless-key", Severity::Error));
        assert_eq!(fault.place.as_ref().unwrap().line, line_of(&told, &key));
        let own = told.replace(quiet, &format!("{quiet}attract = \"own-address\"\n"));
        assert!(!codes(&own).contains(&"meaningless-key"), "{:?}", faults(&own));
    }
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

/// The full file with one more service, whose tiers have these instances, each a list of its own.
fn with_tiers(keys: &str, tiers: &[&[&str]]) -> String {
    let instance = |(number, address): (usize, &&str)| {
        format!("[[virtual_service.tier.backend]]\nname = \"i{number}\"\naddress = \"{address}\" # here\n")
    };
    let tier = |instances: &&[&str]| {
        "[[virtual_service.tier]]\n".to_owned() + &instances.iter().enumerate().map(instance).collect::<String>()
    };
    let tiers: String = tiers.iter().map(tier).collect();
    format!(
        "{FULL}\n[[virtual_service]]\nname = \"web\"\naddress = \"198.51.100.33\"\nprotocol = \"tcp\"\nports = [\"8088\"]\n{keys}\n\
         {tiers}[[virtual_service.backend]]\nname = \"b\"\naddress = \"10.0.0.60\"\n"
    )
}

/// SE-68, SE-72: tiers are services that nobody asks, and something has to tell them apart.
#[test]
fn tiers_and_what_marks_them() {
    let policy = valid(&with_tiers("marker_vlan = 200", &[&["10.0.0.61"], &["10.0.0.62", "10.0.0.63"]])).policy;
    let web = policy.services.iter().find(|service| service.spec.name == "web").unwrap();
    let tiers: Vec<_> = web.spec.tiers.iter().map(|id| &policy.services[id.index()].spec).collect();
    let names: Vec<_> = tiers.iter().map(|spec| (spec.name.as_str(), spec.backends.len(), spec.is_tier())).collect();
    assert_eq!(
        (names.as_slice(), web.spec.marker_vlan),
        (&[("web.tier-1", 1, true), ("web.tier-2", 2, true)][..], Some(200))
    );
    let two: &[&[&str]] = &[&["10.0.0.61"], &["10.0.0.62"]];
    let alike: &[&[&str]] = &[&["10.0.0.61"], &["10.0.0.61"]];
    let refusals: [(&str, &[&[&str]], &str); 12] = [
        ("marker_vlan = 200", &[], "meaningless-key"),
        ("marker_vlan = 4094", &[&["10.0.0.61"]], "out-of-bounds"),
        ("marker_vlan = 99", two, "overlapping-markers"),
        ("", alike, "tiers-alike"),
        ("", &[&["10.0.0.61", "10.0.0.61"]], "duplicate-backend"),
        ("marker_vlan = 200", &[&["10.0.0.61", "10.0.0.61"]], "duplicate-backend"),
        ("", &[&["2001:db8:10::61"]], "family-mismatch"),
        ("", &[&["198.51.100.33"]], "backend-loop"),
        ("", &[&[]], "missing-key"),
        ("", &[&["203.0.113.61"]], "backend-not-on-link"),
        ("client_address = \"proxy-v2\"", two, "meaningless-key"),
        ("syn_cookies = {}", two, "meaningless-key"),
    ];
    for (keys, tiers, code) in refusals {
        assert_eq!(only(&with_tiers(keys, tiers)).code, code, "{keys} {tiers:?}");
    }
    valid(&with_tiers("marker_vlan = 200", alike));
    let many: Vec<String> = (61..69).map(|last| format!("10.0.0.{last}")).collect();
    let many: Vec<[&str; 1]> = many.iter().map(|address| [address.as_str()]).collect();
    let many: Vec<&[&str]> = many.iter().map(|tier| &tier[..]).collect();
    assert_eq!(only(&with_tiers("", &many)).code, "too-many");
    let crowd: Vec<String> = (60..125).map(|last| format!("10.0.0.{last}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(only(&with_tiers("", &[&crowd])).code, "too-many");
    let probed = with_tiers("", two).replacen(
        "[[virtual_service.tier]]\n[[",
        "[[virtual_service.tier]]\nhealth = { kind = \"tcp\" }\n[[",
        1,
    );
    assert_eq!(only(&probed).code, "missing-key");
    let named_so = with_tiers("", two).replace("name = \"mail\"", "name = \"web.tier-1\"");
    assert_eq!(only(&named_so).code, "duplicate-name");
    let in_line = PAIRED.to_owned() + &with_tiers("attract = \"inline\"", two)[FULL.len()..];
    assert_eq!(only(&in_line).code, "attract-with-tiers");
}
