//! Tracing the real program: ways of real packets as they pass, and questions that nobody notices.

use millrace_tests::net::{Appliance, Lab, Process, Web, eventually};
use serde_json::Value;

const PROGRAMS: &[&str] = &["curl", "nginx"];

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

/// A `trace` that runs beside the test, its answer in a file.
fn follow(appliance: &Appliance<'_>, options: &str) -> Process {
    let process = appliance.start_asking(&format!("trace {options}"), "trace.out");
    eventually(5, "packets are followed", || process.output().contains("follow") || process.output().contains("begin"));
    process
}

/// An appliance with one backend that is up.
fn with_shop(lab: &Lab) -> (Web, Appliance<'_>) {
    let web = Web::start(lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080"]);
    let appliance = Appliance::launch(lab, &lab.edge());
    appliance.wait_for("shop-a", "up");
    (web, appliance)
}

#[test]
fn a_download_is_followed_from_the_client_to_its_backend_and_back() {
    let Some(lab) = Lab::wired("a_download_is_followed_from_the_client_to_its_backend_and_back", PROGRAMS) else {
        return;
    };
    let (_web, appliance) = with_shop(&lab);
    let mut trace = follow(&appliance, "--match address=198.51.100.20 --count 20 --for 30s --json");
    // As many downloads as it takes.
    eventually(20, "it ends when it has told of twenty", || {
        lab.client.must("curl -s -o /dev/null --max-time 60 http://198.51.100.10/");
        !trace.running()
    });
    let told = lines(&trace.output()).split_off(1);
    assert_eq!(told.len(), 21, "{}", trace.output());
    assert_eq!((&told[20]["kind"], &told[20]["why"]), (&Value::from("end"), &Value::from("count")));
    let opening = told.iter().find(|way| way["packet"]["flags"] == "SYN").expect("what opens it");
    let stages: Vec<&str> =
        opening["steps"].as_array().unwrap().iter().map(|step| step["stage"].as_str().unwrap()).collect();
    assert_eq!(stages[..5], ["receive", "parse", "session", "firewall", "balancer"], "{opening}");
    let of = |way: &Value, stage: &str| {
        way["steps"].as_array().unwrap().iter().find(|step| step["stage"] == stage).cloned().unwrap_or_default()
    };
    assert_eq!(of(opening, "firewall")["rule"], "clients-to-shop");
    assert_eq!(of(opening, "balancer")["backend"], "shop-a");
    let answer = told[..20].iter().find(|way| way["packet"]["source_port"] == 8080).expect("an answer");
    assert!(of(answer, "session")["text"].as_str().unwrap().contains("in the direction of the answers"), "{answer}");
    assert!(of(answer, "translate")["text"].as_str().unwrap().contains("becomes 198.51.100.10:80"), "{answer}");
    appliance.stop();
}

#[test]
fn a_trace_ends_when_whoever_asked_has_gone() {
    let Some(lab) = Lab::wired("a_trace_ends_when_whoever_asked_has_gone", PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &lab.edge());
    let mut trace = follow(&appliance, "--match port=1 --count 1000 --for 10m");
    assert!(appliance.ask("trace --count 1 --for 1s").err.contains("another trace is under way"));
    trace.kill();
    eventually(20, "another may ask", || appliance.ask("trace --count 1 --for 1s").success);
    appliance.stop();
}

#[test]
fn where_a_packet_would_go_is_told_and_nothing_is_counted() {
    let Some(lab) = Lab::wired("where_a_packet_would_go_is_told_and_nothing_is_counted", PROGRAMS) else { return };
    let (_web, appliance) = with_shop(&lab);
    let before = appliance.ask("show firewall --json").out;
    let asked = appliance.ask_about("trace --packet", "tcp 198.51.100.20:1234 > 198.51.100.10:80 port outside");
    for piece in ["rule clients-to-shop allows it", "backend shop-a at 10.0.0.11:8080", "nothing was sent"] {
        assert!(asked.out.contains(piece), "{piece} in\n{}{}", asked.out, asked.err);
    }
    let asked = appliance.ask_about("trace --packet", "tcp 198.51.100.20:1234 > 198.51.100.10:23 port outside");
    assert!(
        asked.out.contains("=> dropped: ") && asked.out.contains("(firewall_denied)"),
        "{}{}",
        asked.out,
        asked.err
    );
    let asked = appliance.ask_about("trace --packet", "tcp 198.51.100.20:1234 > 198.51.100.10:23 port outsde");
    assert!(!asked.success && asked.err.contains("the ports are outside, inside"), "{}", asked.err);
    assert_eq!(appliance.ask("show firewall --json").out, before);
    assert_eq!(appliance.sessions("address=198.51.100.20"), 0);
    appliance.stop();
}
