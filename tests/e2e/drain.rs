//! A backend is taken out on purpose: it keeps the sessions it has and gets no new ones (FOV-06), until the drain timeout
//! is over or the operator flushes it.

use std::time::{Duration, Instant};

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, Process, Web, eventually};

fn with_two_backends_each(lab: &Lab) -> Configuration {
    lab.edge().with_second_ipv6_backend().replacing("\"maglev\"", "\"least-connections\"")
}

/// Three downloads of each family, begun by `download`: at each service one at its first backend, two at its second.
fn under_way(appliance: &Appliance<'_>, download: impl Fn(&str, usize) -> Process) -> Vec<Process> {
    let addresses = ["198.51.100.10", "[2001:db8:51::10]"].into_iter().cycle();
    let downloads = addresses.zip(0..6).map(|(address, number)| download(address, number)).collect();
    // So far, whatever has ended meanwhile.
    eventually(10, "every backend has downloads", || {
        let begun = ["shop-a", "shop-b", "shop6-a", "shop6-b"].map(|backend| appliance.backend(backend).total);
        begun.iter().sum::<u64>() == 6 && begun.iter().all(|count| *count > 0)
    });
    downloads
}

fn whole(claims: &Claims<'_>) -> usize {
    (0..6).filter(|number| claims.downloaded(*number) == Web::SLOW).count()
}

fn ended(downloads: &mut [Process]) {
    eventually(30, "the downloads have ended", || downloads.iter_mut().all(|download| !download.running()));
}

#[test]
fn a_drained_backend_keeps_its_sessions_and_gets_no_new_ones() {
    let Some(lab) = Lab::wired("a_drained_backend_keeps_its_sessions_and_gets_no_new_ones", Claims::PROGRAMS) else {
        return;
    };
    let claims = Claims::serve(&lab);
    let configuration = with_two_backends_each(&lab);
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&appliance, |address, number| claims.download(address, number));
    for backend in ["shop/shop-a", "shop6/shop6-a"] {
        let drained = appliance.ask(&format!("drain backend {backend}"));
        assert!(drained.success, "{}", drained.err);
    }
    assert_eq!(appliance.health("shop-a"), "draining");
    assert_eq!(appliance.health("shop6-a"), "draining");
    claims.hundred_answers_from("198.51.100.10", "shop-b");
    claims.hundred_answers_from("[2001:db8:51::10]", "shop-b");
    ended(&mut downloads);
    assert_eq!(whole(&claims), 6, "no download was cut");
    for (backend, address) in [("shop-a", "198.51.100.10"), ("shop6-a", "[2001:db8:51::10]")] {
        let put_back = appliance.ask(&format!("drain backend {backend} --undo"));
        assert!(put_back.success, "{}", put_back.err);
        assert_eq!(appliance.health(backend), "up");
        let before = appliance.backend(backend).total;
        lab.client.must(&format!("curl -sS --fail --max-time 60 {address}/?[1-10]"));
        assert!(appliance.backend(backend).total > before, "{backend} gets new sessions again");
    }
    appliance.stop();
}

#[test]
fn sessions_end_when_the_drain_timeout_is_over() {
    let Some(lab) = Lab::wired("sessions_end_when_the_drain_timeout_is_over", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let short = "drain_timeout = \"2s\"";
    let configuration = with_two_backends_each(&lab)
        .replacing("drain_timeout = \"30s\"", short)
        .replacing("health = { kind = \"tcp\"", &format!("{short}\nhealth = {{ kind = \"tcp\""));
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&appliance, |address, number| claims.long_download(address, number));
    let asked = Instant::now();
    for backend in ["shop-a", "shop6-a"] {
        let drained = appliance.ask(&format!("drain backend {backend}"));
        assert!(drained.success, "{}", drained.err);
    }
    eventually(10, "the drained backends have no session left", || {
        appliance.backend("shop-a").active == 0 && appliance.backend("shop6-a").active == 0
    });
    assert!(asked.elapsed() >= Duration::from_secs(2), "not before the timeout");
    claims.so_many_are_cut(&mut downloads, 2);
    appliance.stop();
}

#[test]
fn a_backend_taken_out_of_the_policy_keeps_its_sessions() {
    let Some(lab) = Lab::wired("a_backend_taken_out_of_the_policy_keeps_its_sessions", Claims::PROGRAMS) else {
        return;
    };
    let claims = Claims::serve(&lab);
    let configuration = with_two_backends_each(&lab);
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&appliance, |address, number| claims.download(address, number));
    let without = configuration
        .replacing(
            "[[virtual_service.backend]]\nname = \"shop-a\"\naddress = \"10.0.0.11\"\nport = 8080\nweight = 1\n",
            "",
        )
        .replacing("[[virtual_service.backend]]\nname = \"shop6-a\"\naddress = \"2001:db8:10::11\"\nport = 8080\n", "");
    let applied = appliance.apply(&without);
    assert!(applied.success, "{}", applied.err);
    claims.hundred_answers_from("198.51.100.10", "shop-b");
    claims.hundred_answers_from("[2001:db8:51::10]", "shop-b");
    ended(&mut downloads);
    assert_eq!(whole(&claims), 6, "no download was cut");
    appliance.stop();
}

#[test]
fn a_flushed_backend_loses_its_sessions_at_once() {
    let Some(lab) = Lab::wired("a_flushed_backend_loses_its_sessions_at_once", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let configuration = with_two_backends_each(&lab);
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&appliance, |address, number| claims.long_download(address, number));
    for backend in ["shop-a", "shop6-a"] {
        let flushed = appliance.ask(&format!("flush backend {backend}"));
        assert!(flushed.success, "{}", flushed.err);
    }
    eventually(5, "their sessions are gone", || {
        appliance.backend("shop-a").active == 0 && appliance.backend("shop6-a").active == 0
    });
    claims.so_many_are_cut(&mut downloads, 2);
    appliance.stop();
}
