//! Ten thousand requests and a minute of iperf3 through the balancer lose none, and afterwards no session is left.

use millrace_tests::net::{Appliance, Claims, Iperf, Lab, eventually, number_from_environment};

/// Requests of each family.
const REQUESTS: usize = 10_000;

#[test]
fn ten_thousand_requests_lose_none_and_no_session_stays() {
    let Some(lab) = Lab::wired("ten_thousand_requests_lose_none_and_no_session_stays", Claims::PROGRAMS) else {
        return;
    };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    for address in ["198.51.100.10", "[2001:db8:51::10]"] {
        // One curl, thirty-two requests at a time, a connection for each: the servers close after every answer.
        let line = format!(
            "curl -sS --no-progress-meter --parallel --parallel-immediate --parallel-max 32 --max-time 200 -o /dev/null \
             -w %{{http_code}}\\n {address}/?[1-{REQUESTS}]"
        );
        let all = lab.client.run_for(240, &line);
        let answered = all.out.lines().filter(|code| *code == "200").count();
        assert_eq!(answered, REQUESTS, "{address}: {}", all.err.lines().take(10).collect::<Vec<_>>().join("\n"));
    }
    eventually(60, "no session of a client is left", || appliance.sessions("from-kernel=false") == 0);
    // What is left are the appliance's own probes; without them, nothing is.
    let applied = appliance.apply(&lab.edge().without_probes());
    assert!(applied.success, "{}", applied.err);
    eventually(60, "no session is left", || appliance.sessions("") == 0 && appliance.memory("sessions_in_use") == 0);
    drop(claims);
    appliance.stop();
}

#[test]
fn a_minute_of_iperf3_through_the_balancer_never_stalls() {
    let Some(lab) = Lab::wired("a_minute_of_iperf3_through_the_balancer_never_stalls", &["dnsmasq", "iperf3", "ss"])
    else {
        return;
    };
    let claims = Claims::serve(&lab);
    // What comes late of a probe's connection, which ends with it, would be counted too.
    let appliance = Appliance::start(&lab, &lab.demo().without_probes());
    // The service has two backends, and the client's address chooses one.
    let servers = [&lab.shop_a, &lab.shop_b].map(|host| Iperf::start(&lab, host, "*"));
    let seconds = number_from_environment("MILLRACE_IPERF_SECONDS", 60);
    for (address, seconds) in [("198.51.100.10", seconds), ("2001:db8:51::10", seconds.div_ceil(6))] {
        let run = Iperf::run(&lab.client, &format!("--client {address} --port 8000 --time {seconds}"));
        assert!(run.seconds().len() as u64 >= seconds / 2, "{run:?}");
        // The machine may pause for a second; what stalls stays so.
        let stalled = run.seconds().windows(3).any(|seconds| seconds.iter().all(|bytes| *bytes == 0));
        assert!(!stalled, "three seconds without a byte: {:?}", run.seconds());
    }
    for reason in ["tcp_out_of_window", "tcp_invalid_state", "no_session", "session_table_full"] {
        assert_eq!(appliance.dropped(reason), 0, "{reason}");
    }
    drop((claims, servers));
    appliance.stop();
}

#[test]
fn demo_toml_is_edge_toml_and_more() {
    let example = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples").join(name);
        std::fs::read_to_string(path).expect("the examples are part of the project")
    };
    let edge = example("edge.toml");
    let body = edge.split_once("[appliance]").expect("edge.toml has an appliance").1;
    assert!(example("demo.toml").contains(body));
}
