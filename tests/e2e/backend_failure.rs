//! A backend fails: its clients lose at most `fall` probe intervals, those of the others notice nothing (FOV-04), and it
//! is taken back when it returns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use millrace_tests::net::{Appliance, Claims, Configuration, Enough, Lab, Web, eventually};

/// One request after another, until told to stop: when each began, and whether it was answered.
fn requests(lab: &Lab, address: &str, enough: &AtomicBool) -> Vec<(Instant, bool)> {
    let mut seen = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let began = Instant::now();
        let page = lab.client.run(&format!("curl -sS --fail --max-time 60 {address}/"));
        seen.push((began, page.success));
    }
    seen
}

/// A backend is out after ten probes in ten seconds that nobody answers.
fn probed(lab: &Lab) -> Configuration {
    lab.edge_as_written()
        .replacing("timeout = \"500ms\"\nrise = 2\nfall = 3\n", "timeout = \"1s\"\nrise = 1\nfall = 10\n")
}

fn with_two_backends_each(lab: &Lab) -> Configuration {
    let every_second = "health = { kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 10 }";
    probed(lab)
        .with_second_ipv6_backend()
        .replacing("algorithm = \"maglev\"", &format!("algorithm = \"round-robin\"\n{every_second}"))
}

#[test]
fn a_crashed_backend_costs_at_most_fall_intervals_and_others_notice_nothing() {
    let test = "a_crashed_backend_costs_at_most_fall_intervals_and_others_notice_nothing";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let mut claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &with_two_backends_each(&lab));

    // Six downloads: two at shop-a by its weight, four at shop-b.
    let mut downloads: Vec<_> = (0..6).map(|number| claims.long_download("198.51.100.10", number)).collect();
    eventually(10, "the downloads are shared two to four", || {
        appliance.backend("shop-a").active == 2 && appliance.backend("shop-b").active == 4
    });

    let enough = AtomicBool::new(false);
    let (crashed, out, ipv4, ipv6) = std::thread::scope(|scope| {
        let over = Enough(&enough);
        let ipv4 = scope.spawn(|| requests(&lab, "198.51.100.10", &enough));
        let ipv6 = scope.spawn(|| requests(&lab, "[2001:db8:51::10]", &enough));
        let crashed = Instant::now();
        claims.shop_a.kill();
        claims.shop6_a.kill();
        for backend in ["shop-a", "shop6-a"] {
            appliance.wait_for(backend, "failed");
        }
        // Afterwards nobody is sent there any more.
        let out = Instant::now();
        claims.hundred_answers_from("198.51.100.10", "shop-b");
        claims.hundred_answers_from("[2001:db8:51::10]", "shop-b");
        drop(over);
        (crashed, out, ipv4.join().expect("no panic"), ipv6.join().expect("no panic"))
    });
    for (family, seen) in [("IPv4", &ipv4), ("IPv6", &ipv6)] {
        assert!(seen.iter().any(|(_, answered)| *answered));
        let late = seen.iter().filter(|(began, answered)| !answered && *began > out).count();
        let early = seen.iter().filter(|(began, answered)| !answered && *began < crashed).count();
        assert!(
            early <= 1 && late == 0,
            "{family}: requests lost before the crash {early}, after the backend was out {late}"
        );
    }

    claims.so_many_are_cut(&mut downloads, 2);

    claims.shop_a = Web::start(&lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080"]);
    appliance.wait_for("shop-a", "up");
    let before = appliance.backend("shop-a").total;
    eventually(10, "it gets its share again", || {
        claims.ten_clients_reach("198.51.100.10", "198.51.100.");
        appliance.backend("shop-a").total > before
    });
    appliance.stop();
}

#[test]
fn clients_of_a_hung_backend_are_told() {
    let Some(lab) = Lab::wired("clients_of_a_hung_backend_are_told", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &probed(&lab));
    // Stopped, it still accepts connections, in the kernel's queue; nobody answers them.
    let mut waiting: Vec<_> = (0..6).map(|number| claims.long_download("198.51.100.10", number)).collect();
    eventually(10, "the downloads are shared two to four", || {
        appliance.backend("shop-a").active == 2 && appliance.backend("shop-b").active == 4
    });
    claims.shop_a.hang();
    appliance.wait_for("shop-a", "failed");
    // Those at shop-a are reset, long before their own patience is over; the others are served.
    claims.so_many_are_cut(&mut waiting, 2);
    claims.shop_a.resume();
    appliance.wait_for("shop-a", "up");
    appliance.stop();
}

#[test]
fn connections_under_way_to_a_silent_backend_move_to_another() {
    let test = "connections_under_way_to_a_silent_backend_move_to_another";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &with_two_backends_each(&lab));
    lab.switch.must("ip link set to-shop-a down");
    std::thread::scope(|scope| {
        for address in ["198.51.100.10", "[2001:db8:51::10]"] {
            for _ in 0..6 {
                let lab = &lab;
                scope.spawn(move || {
                    let page = lab.client.run(&format!("curl -sS --fail --max-time 120 {address}/"));
                    // Refused while the backend was not yet out is allowed; a client left hanging is not.
                    assert!(page.success || !page.err.contains("timed out"), "{address}: {}", page.err);
                });
            }
        }
    });
    appliance.wait_for("shop-a", "failed");
    appliance.wait_for("shop6-a", "failed");
    claims.hundred_answers_from("198.51.100.10", "shop-b");
    claims.hundred_answers_from("[2001:db8:51::10]", "shop-b");
    lab.switch.must("ip link set to-shop-a up");
    appliance.wait_for("shop-a", "up");
    appliance.wait_for("shop6-a", "up");
    appliance.stop();
}
