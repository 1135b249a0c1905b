//! A backend is taken out on purpose: it keeps the sessions it has and gets no new ones (FOV-06), until the drain timeout
//! is over or the operator flushes it.

use std::time::{Duration, Instant};

use millrace_tests::net::{Appliance, Claims, Lab, Process, Web, eventually};

/// Three downloads of each family: at each service one at its first backend, two at its second.
fn under_way(claims: &Claims<'_>, appliance: &Appliance<'_>) -> Vec<Process> {
    let addresses = ["198.51.100.10", "[2001:db8:51::10]"].into_iter().cycle();
    let downloads = addresses.zip(0..6).map(|(address, number)| claims.download(address, number)).collect();
    eventually(5, "the downloads are shared one to two", || {
        appliance.backend("shop-a").active == 1
            && appliance.backend("shop-b").active == 2
            && appliance.backend("shop6-a").active == 1
            && appliance.backend("shop6-b").active == 2
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
    let configuration = lab.edge().with_second_ipv6_backend().replacing("\"maglev\"", "\"least-connections\"");
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&claims, &appliance);
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
        lab.client.must(&format!("curl -sS --fail --max-time 20 {address}/?[1-10]"));
        assert!(appliance.backend(backend).total > before, "{backend} gets new sessions again");
    }
    appliance.stop();
}

#[test]
fn sessions_end_when_the_drain_timeout_is_over() {
    let Some(lab) = Lab::wired("sessions_end_when_the_drain_timeout_is_over", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let configuration = lab
        .edge()
        .with_second_ipv6_backend()
        .replacing("\"maglev\"", "\"least-connections\"\ndrain_timeout = \"2s\"")
        .replacing("drain_timeout = \"30s\"", "drain_timeout = \"2s\"");
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&claims, &appliance);
    let asked = Instant::now();
    for backend in ["shop-a", "shop6-a"] {
        let drained = appliance.ask(&format!("drain backend {backend}"));
        assert!(drained.success, "{}", drained.err);
    }
    eventually(6, "the drained backends have no session left", || {
        appliance.backend("shop-a").active == 0 && appliance.backend("shop6-a").active == 0
    });
    assert!(asked.elapsed() >= Duration::from_secs(2), "not before the timeout");
    ended(&mut downloads);
    assert_eq!(whole(&claims), 4, "the downloads from the other backends are whole");
    appliance.stop();
}

#[test]
fn a_backend_taken_out_of_the_policy_keeps_its_sessions() {
    let Some(lab) = Lab::wired("a_backend_taken_out_of_the_policy_keeps_its_sessions", Claims::PROGRAMS) else {
        return;
    };
    let claims = Claims::serve(&lab);
    let configuration = lab.edge().with_second_ipv6_backend().replacing("\"maglev\"", "\"least-connections\"");
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&claims, &appliance);
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
    let configuration = lab.edge().with_second_ipv6_backend().replacing("\"maglev\"", "\"least-connections\"");
    let appliance = Appliance::start(&lab, &configuration);
    let mut downloads = under_way(&claims, &appliance);
    for backend in ["shop-a", "shop6-a"] {
        let flushed = appliance.ask(&format!("flush backend {backend}"));
        assert!(flushed.success, "{}", flushed.err);
    }
    eventually(3, "their sessions are gone", || {
        appliance.backend("shop-a").active == 0 && appliance.backend("shop6-a").active == 0
    });
    ended(&mut downloads);
    assert_eq!(whole(&claims), 4, "the downloads from the other backends are whole");
    appliance.stop();
}
