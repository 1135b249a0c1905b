//! Sources that are refused, with real clients: a blocklist that is read again while it is in use, and forged addresses.

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, eventually};
use serde_json::Value;

fn with_list(edge: Configuration, file: &str) -> Configuration {
    let list = format!("[[blocklist]]\nname = \"scanners\"\nfile = \"{file}\"\nfrom = [\"wan\"]\n\n");
    let zone = "[[zone]]\nname = \"wan\"\nreverse_path = \"strict\"\n\n";
    edge.replacing("[firewall]\n", &format!("{list}{zone}[firewall]\n"))
}

fn list(appliance: &Appliance<'_>) -> Value {
    appliance.show("firewall")["blocklists"][0].clone()
}

/// The list grows under a download: the download ends, the listed clients reach nothing, the others do not notice; and back.
#[test]
fn a_listed_client_is_cut_off_and_let_in_again() {
    let Some(lab) = Lab::wired("a_listed_client_is_cut_off_and_let_in_again", Claims::PROGRAMS) else { return };
    let file = lab.file("scanners.txt");
    let reload = |appliance: &Appliance<'_>, text: &str| {
        std::fs::write(&file, text).expect("the lab's directory takes a file");
        appliance.ask("reload blocklist scanners")
    };
    std::fs::write(&file, "# nobody yet\n").expect("the lab's directory takes a file");
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &with_list(lab.edge(), &file.display().to_string()));
    claims.clients_reach_the_shop();
    // Who is to be refused need not be waited for as long.
    let asks = |seconds: u8, client: &str, shop: &str| {
        lab.client.run(&format!("curl -sS --fail --max-time {seconds} --interface {client} {shop}/")).success
    };
    let (reaches, is_kept_out) =
        (|client: &str, shop: &str| asks(60, client, shop), |client: &str, shop: &str| !asks(3, client, shop));
    let slow = format!(
        "curl -sS --max-time 60 --interface 198.51.100.20 -o {} 198.51.100.10/slow",
        lab.file("download-1").display()
    );
    let _cut = lab.client.start(&slow, &lab.file("cut.log"));
    eventually(5, "the download has begun", || claims.downloaded(1) > 0);

    let blocked = reload(&appliance, "198.51.100.20\n2001:db8:51::20\n203.0.113.0/24\n");
    assert!(blocked.success && blocked.out.contains("3 prefixes"), "{}{}", blocked.out, blocked.err);
    eventually(5, "its session has ended", || {
        let sessions = appliance.show("sessions --match source=198.51.100.20");
        sessions.as_array().is_some_and(|all| all.iter().all(|session| session["state"] != "established"))
    });
    for (listed, other, shop) in [
        ("198.51.100.20", "198.51.100.21", "198.51.100.10"),
        ("2001:db8:51::20", "2001:db8:51::21", "[2001:db8:51::10]"),
    ] {
        assert!(is_kept_out(listed, shop), "{listed} is on the list");
        assert!(!lab.client.run(&format!("ping -c 1 -W 1 -I {listed} {}", shop.trim_matches(['[', ']']))).success);
        assert!(reaches(other, shop), "{other} is not");
    }
    let hits = list(&appliance)["hits"].as_u64();
    assert!(hits >= Some(5) && appliance.dropped("blocklisted") >= 5, "{hits:?}");

    let faulty = reload(&appliance, "198.51.100.21\n198.51.100.22/24\n");
    assert!(!faulty.success && faulty.err.contains("scanners.txt:2:"), "{}", faulty.err);
    assert!(faulty.err.contains("write 198.51.100.0/24"), "{}", faulty.err);
    std::fs::remove_file(&file).expect("it was there");
    assert!(!appliance.ask("reload blocklist scanners").success, "no file is no empty list");
    assert!(is_kept_out("198.51.100.20", "198.51.100.10") && reaches("198.51.100.21", "198.51.100.10"));
    assert_eq!(list(&appliance)["prefixes"], 3);

    assert!(reload(&appliance, "").success);
    claims.clients_reach_the_shop();
    appliance.stop();
}

/// Forged addresses of the inside, from outside: none comes through, and the flood of them opens nothing.
#[test]
fn addresses_of_the_inside_do_not_come_from_outside() {
    let programs = [Claims::PROGRAMS, &["hping3"]].concat();
    let Some(lab) = Lab::wired("addresses_of_the_inside_do_not_come_from_outside", &programs) else { return };
    let file = lab.file("scanners.txt");
    std::fs::write(&file, "").expect("the lab's directory takes a file");
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &with_list(lab.edge(), &file.display().to_string()));
    lab.client.run_for(10, "hping3 -q -n -S -p 80 -c 50 -i u1000 -a 10.0.0.12 198.51.100.10");
    eventually(5, "each was dropped", || appliance.dropped("reverse_path_failed") >= 50);
    claims.clients_reach_the_shop();
    appliance.stop();
}
