//! A backend fails: its clients lose at most `fall` probe intervals, those of the others notice nothing (FOV-04), and it
//! is taken back when it returns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, Web, eventually};

/// `fall` = 3 probes, one a second, the last of which may take its timeout of half a second; and room for a machine that
/// is busy with other things.
const FALL: Duration = Duration::from_millis(3_500 + 1_500);

/// One request after another, until told to stop: when each began, and whether it was answered.
fn requests(lab: &Lab, address: &str, enough: &AtomicBool) -> Vec<(Instant, bool)> {
    let mut seen = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let began = Instant::now();
        let page = lab.client.run(&format!("curl -sS --fail --max-time 20 {address}/"));
        seen.push((began, page.success));
    }
    seen
}

fn with_two_backends_each(lab: &Lab) -> Configuration {
    let every_second = "health = { kind = \"tcp\", interval = \"1s\", timeout = \"500ms\", rise = 2, fall = 3 }";
    lab.edge()
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
    let mut downloads: Vec<_> = (0..6).map(|number| claims.download("198.51.100.10", number)).collect();
    eventually(5, "the downloads are shared two to four", || {
        appliance.backend("shop-a").active == 2 && appliance.backend("shop-b").active == 4
    });

    let enough = AtomicBool::new(false);
    let (crashed, ipv4, ipv6) = std::thread::scope(|scope| {
        let ipv4 = scope.spawn(|| requests(&lab, "198.51.100.10", &enough));
        let ipv6 = scope.spawn(|| requests(&lab, "[2001:db8:51::10]", &enough));
        let crashed = Instant::now();
        claims.shop_a.kill();
        claims.shop6_a.kill();
        for backend in ["shop-a", "shop6-a"] {
            eventually(10, "the backend is out", || appliance.health(backend) == "failed");
        }
        // Afterwards nobody is sent there any more.
        claims.hundred_answers_from("198.51.100.10", "shop-b");
        claims.hundred_answers_from("[2001:db8:51::10]", "shop-b");
        enough.store(true, Ordering::Relaxed);
        (crashed, ipv4.join().expect("no panic"), ipv6.join().expect("no panic"))
    });
    for (family, seen) in [("IPv4", &ipv4), ("IPv6", &ipv6)] {
        assert!(seen.iter().any(|(_, answered)| *answered));
        let late = seen.iter().filter(|(began, answered)| !answered && *began > crashed + FALL).count();
        let early = seen.iter().filter(|(began, answered)| !answered && *began < crashed).count();
        assert_eq!((early, late), (0, 0), "{family}: requests lost before the crash and after the backend was out");
    }

    eventually(20, "the downloads have ended", || downloads.iter_mut().all(|download| !download.running()));
    let whole = (0..6).filter(|number| claims.downloaded(*number) == Web::SLOW).count();
    assert_eq!(whole, 4, "the downloads from shop-b are whole");

    claims.shop_a = Web::start(&lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080"]);
    eventually(10, "the backend is taken back", || appliance.health("shop-a") == "up");
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
    let appliance = Appliance::start(&lab, &lab.edge());
    // Stopped, it still accepts connections, in the kernel's queue; nobody answers them.
    claims.shop_a.hang();
    let asked = Instant::now();
    let mut waiting: Vec<_> = (0..6).map(|number| claims.download("198.51.100.10", number)).collect();
    eventually(10, "the backend is out", || appliance.health("shop-a") == "failed");
    // Those at shop-a are reset, long before their own patience of a minute is over; the others are served.
    eventually(20, "every client has an end", || waiting.iter_mut().all(|client| !client.running()));
    assert!(asked.elapsed() < Duration::from_secs(25));
    let whole = (0..6).filter(|number| claims.downloaded(*number) == Web::SLOW).count();
    assert_eq!(whole, 4, "the downloads from shop-b are whole");
    claims.shop_a.resume();
    eventually(10, "the backend is taken back", || appliance.health("shop-a") == "up");
    appliance.stop();
}

#[test]
fn connections_under_way_to_a_silent_backend_move_to_another() {
    let test = "connections_under_way_to_a_silent_backend_move_to_another";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &with_two_backends_each(&lab));
    lab.switch.must("ip link set to-shop-a down");
    let cut = Instant::now();
    std::thread::scope(|scope| {
        for address in ["198.51.100.10", "[2001:db8:51::10]"] {
            for _ in 0..6 {
                let lab = &lab;
                scope.spawn(move || {
                    let began = Instant::now();
                    let page = lab.client.run(&format!("curl -sS --fail --max-time 30 {address}/"));
                    // Refused while the backend was not yet out is allowed; a client left hanging is not.
                    assert!(page.success || began.elapsed() < FALL, "{address}: {}", page.err);
                });
            }
        }
    });
    assert!(cut.elapsed() < Duration::from_secs(30));
    eventually(10, "the backends are out", || {
        appliance.health("shop-a") == "failed" && appliance.health("shop6-a") == "failed"
    });
    claims.hundred_answers_from("198.51.100.10", "shop-b");
    claims.hundred_answers_from("[2001:db8:51::10]", "shop-b");
    lab.switch.must("ip link set to-shop-a up");
    eventually(15, "the backends are taken back", || {
        appliance.health("shop-a") == "up" && appliance.health("shop6-a") == "up"
    });
    appliance.stop();
}
