//! A real nginx behind the PROXY protocol hears who its clients are, through both modes that rewrite addresses.

use millrace_tests::net::{Appliance, Lab, Web, eventually};

const PROGRAMS: &[&str] = &["curl", "ss"];

#[test]
fn nginx_hears_of_its_clients_by_the_proxy_protocol() {
    let Some(lab) = Lab::wired("nginx_hears_of_its_clients_by_the_proxy_protocol", PROGRAMS) else { return };
    for (number, (mode, hidden)) in [("nat", false), ("full-nat", true)].into_iter().enumerate() {
        let service = |name: &str, address: &str, server: &str, pool: &str| {
            let pool = if hidden { format!("source_address = [\"{pool}\"]\n") } else { String::new() };
            format!(
                "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"81\"]\n\
                 mode = \"{mode}\"\n{pool}client_address = \"proxy-v2\"\n[virtual_service.health]\nkind = \"http\"\n\
                 path = \"/healthz\"\nrise = 1\nfall = 30\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"{server}\"\nport = 8081\n\n"
            )
        };
        let services = service("told", "198.51.100.11", "10.0.0.12", "10.0.0.1")
            + &service("told6", "2001:db8:51::11", "2001:db8:10::12", "2001:db8:10::1")
            + "[[source_nat]]\nname = \"servers-out\"";
        let configuration = lab
            .edge()
            .without_probes()
            .with_first_rule("name = \"all\"\naction = \"allow\"")
            .replacing("[[source_nat]]\nname = \"servers-out\"", &services);
        let appliance = Appliance::launch(&lab, &configuration);
        let name = format!("told{number}");
        let _web = Web::introduced(&lab, &lab.shop_b, &name, &["10.0.0.12:8081", "[2001:db8:10::12]:8081"]);
        for (url, client, asked, pool) in [
            ("http://198.51.100.11:81", "198.51.100.23", "198.51.100.11", "10.0.0.1"),
            ("http://[2001:db8:51::11]:81", "2001:db8:51::23", "2001:db8:51::11", "2001:db8:10::1"),
        ] {
            let curl = |path: &str, more: &str| {
                format!(
                    "curl -sS --globoff --max-time 60 --interface {client} --local-port 20000-20099 {more} {url}{path}"
                )
            };
            // The probes have to get through first: they are introduced as nobody's.
            eventually(20, "the backend is up", || lab.client.run(&curl("/", "")).success);
            let page = lab.client.must(&curl("/", ""));
            let words: Vec<_> = page.split_whitespace().collect();
            let seen_from = if hidden { pool } else { client };
            assert_eq!([words[0], words[1], words[3], words[4]], [&name, client, asked, seen_from], "{page}");
            assert!(words[2].starts_with("200"), "the client's own port: {page}");
            let size = lab.client.must(&curl("/big", "-o /dev/null -w %{size_download}"));
            assert_eq!(size.trim(), "20000000");
        }
        appliance.stop();
    }
}
