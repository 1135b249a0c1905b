//! What is read: documents, streams, metrics, sessions.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use control::client::ClientError;
use control::session_match::SessionMatch;
use serde_json::Value;

use crate::appliance::{Fake, Served, keys};

#[test]
fn documents_have_the_field_names_scripts_rely_on() {
    let served = Served::new();
    let get = |what: &str| {
        let (status, document) = served.http(&format!("GET /api/v1/{what}"), b"");
        assert_eq!(status, 200, "{what}: {document}");
        document
    };
    let has = |value: &Value, names: &str| {
        let there = keys(value);
        for name in names.split(' ') {
            assert!(there.contains(&name), "{name} in {there:?}");
        }
    };
    let ports = get("ports");
    has(&ports[0], "name device zone mac link rx_packets rx_bytes rx_missed tx_packets tx_bytes tx_dropped");
    has(&ports[0], "kernel_delivered kernel_refused kernel_sent kernel_oversized");
    let workers = get("workers");
    has(&workers[0], "core rx_packets cycles_per_packet busy_percent sessions generation heartbeat_age_ms stages");
    has(&workers[0]["stages"][0], "name packets cycles_per_packet");
    let sessions = get("sessions");
    assert_eq!(sessions.as_array().unwrap().len(), 100);
    has(&sessions[0], "protocol state original reply service backend graph packets bytes idle_ms expires_ms owner");
    has(&sessions[0], "from_kernel");
    has(&sessions[0]["original"], "source source_port destination destination_port");
    let services = get("services");
    has(&services[0], "name address protocol ports algorithm mode backends");
    has(&services[0]["backends"][0], "name address port weight hops load health active total packets bytes");
    assert_eq!(services[0]["backends"][0]["health"], "up");
    has(&get("nat")["pools"][0], "name kind addresses ports mapping filtering sessions mappings exhausted limited");
    has(&get("nat")["forwards"][0], "name address protocol ports to_address to_ports total");
    assert_eq!(get("drops")["no_route"], 3);
    assert_eq!(
        (get("top")["sources"][0]["new_sessions"].as_u64(), get("top")["targets"][0]["drops"].as_u64()),
        (Some(5), Some(7))
    );
    has(&get("memory"), "buffers_total buffers_in_use sessions_capacity sessions_in_use bytes");
    let policy = get("policy");
    has(&policy, "generation applied_at source history who how of standing confirm_within_ms");
    has(&policy["history"][0], "generation applied_at source who how of standing");
    assert_eq!((policy["how"].as_str(), policy["standing"].as_str()), (Some("apply"), Some("pending")));
    assert_eq!(policy["applied_at"], "2026-01-02T03:04:05Z");
    has(&get("firewall")["rules"][0], "name action hits");
    has(&get("neighbors")[0], "port address mac state");
    has(&get("routes")[0], "to via port");
}

#[test]
fn ways_of_packets_come_one_a_line_as_they_happen() {
    let served = Served::new();
    let (status, words, _) = served.millrace("trace --count 2 --match port=80");
    assert_eq!(status, 0);
    assert_eq!(words.matches("=> dropped: no route to the destination (no_route)").count(), 2, "{words}");
    assert!(words.ends_with("2 packets: as many as were asked for\n"), "{words}");
    assert!(served.fake.told.lock().unwrap().contains(&"trace 2 for 60s: port=80".to_owned()));
    let (_, lines, _) = served.millrace("trace --count 2 --json");
    let kinds: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["packet", "packet", "end"]);
    let (status, _, complaint) = served.millrace("trace --count 13");
    assert_eq!((status, complaint.as_str()), (1, "another trace is under way; one at a time is followed\n"));
    for wrong in ["count=0", "seconds=0", "seconds=99999", "match=state%3Dnew", "colour=blue"] {
        assert_eq!(served.http(&format!("GET /api/v1/trace?{wrong}"), b"").0, 400, "{wrong}");
    }
}

#[test]
fn frames_are_written_to_a_file_as_they_come() {
    let served = Served::new();
    let file = served.folder.path().join("a.pcapng");
    let (status, words, _) = served.millrace(&format!("capture --port outside --write {} --drops", file.display()));
    assert_eq!((status, std::fs::read(&file).unwrap()), (0, b"pcapng".to_vec()), "{words}");
    let (_, bytes, _) =
        served.millrace("capture --port outside --write - --filter udp --count 3 --for 5s --direction in");
    assert_eq!(bytes, "pcapng");
    let told = served.fake.told.lock().unwrap().join("\n");
    for piece in ["drops: Any", "filter: \"udp\"", "count: 3", "span: 5s", "directions: In"] {
        assert!(told.contains(piece), "{piece} in {told}");
    }
    let nowhere = served.folder.path().join("b.pcapng");
    let (status, _, complaint) = served.millrace(&format!("capture --port inside --write {}", nowhere.display()));
    assert!(status == 1 && complaint.ends_with("there is no such port\n") && !nowhere.exists(), "{complaint}");
    for wrong in ["port=outside&drops=luck", "port=outside&direction=up", "port=outside&seconds=0", "direction=in"] {
        assert_eq!(served.http(&format!("GET /api/v1/capture?{wrong}"), b"").0, 400, "{wrong}");
    }
}

#[test]
fn packets_that_are_only_supposed_are_judged() {
    let served = Served::new();
    let (status, words, _) = served.millrace("trace --packet any");
    assert!(status == 0 && words.starts_with("as of generation 3; nothing was sent, nothing changed\n"), "{words}");
    let (status, document) = served.http("POST /api/v1/trace/packets", br#"[{"packet": "any"}, {"colour": 3}]"#);
    assert_eq!(status, 400, "{document}");
    assert_eq!(served.millrace("trace --pcap /nowhere.pcap --port outside").0, 1);
    // It never ends, and is not waited for.
    let (status, _, complaint) = served.millrace("trace --pcap /dev/zero --port outside");
    assert!(status == 1 && complaint.contains("no capture file"), "{complaint}");
}

/// The answer to `GET /metrics` on the socket.
fn scraped(served: &Served, accept: &str) -> String {
    let mut stream = UnixStream::connect(served.path()).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

#[test]
fn metrics_are_on_the_socket_in_either_format() {
    let served = Served::new();
    let text = scraped(&served, "*/*");
    for line in [
        "millrace_port_receive_packets_total{port=\"outside\"} 1",
        "millrace_worker_received_packets_total{worker=\"0\"} 5",
        "millrace_worker_stage_cycles_per_packet{worker=\"0\",stage=\"firewall\"} 40.0",
        "millrace_dropped_packets_total{reason=\"no_route\"} 3",
        "millrace_drop_reason_info{reason=\"no_route\",sentence=\"No route to the destination.\"} 1.0",
        "millrace_backend_up{service=\"shop\",backend=\"shop-a\"} 1.0",
        "millrace_backend_response_seconds{service=\"shop\",backend=\"shop-a\"} 0.0005",
        "millrace_firewall_rule_hits_total{rule=\"ping\",action=\"allow\"} 4",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
    assert!(text.contains("text/plain; version=0.0.4"));
    let open = scraped(&served, "application/openmetrics-text; version=1.0.0");
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
}

/// One registry of reasons: each is a label of the drops' metric, and has its sentence there.
#[test]
fn every_drop_reason_has_a_metric() {
    let served = Served::new();
    let text = scraped(&served, "*/*");
    for reason in stage::DropReason::all() {
        assert!(text.contains(&format!("millrace_drop_reason_info{{reason=\"{reason}\",sentence=\"")), "{reason}");
    }
}

/// What the alert rules and the dashboard ask for is what is told.
#[test]
fn every_metric_that_alerts_and_dashboard_name_exists() {
    let families = control::metrics::families(&Fake::default());
    let mut known: Vec<String> = families.iter().map(control::metrics::exposition::Family::queried).collect();
    let bucketed: Vec<String> = known.iter().map(|name| format!("{name}_bucket")).collect();
    known.extend(bucketed);
    let mut named = 0;
    for text in [
        include_str!("../../../config/monitoring/alerts.yml"),
        include_str!("../../../config/monitoring/dashboard.json"),
    ] {
        for at in text.match_indices("millrace_").map(|(at, _)| at) {
            let name: String =
                text[at..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
            assert!(known.contains(&name), "there is no metric {name}; there are {known:?}");
            named += 1;
        }
    }
    assert!(named > 30, "{named} names");
    serde_json::from_str::<Value>(include_str!("../../../config/monitoring/dashboard.json")).unwrap();
    for family in &families {
        assert!(family.name.starts_with("millrace_") && !family.name.ends_with("_total") && family.help.ends_with('.'));
    }
}

#[test]
fn sessions_are_limited_and_matched() {
    let served = Served::new();
    let client = served.client();
    let count = |text: &str, limit| client.sessions(&text.parse().unwrap(), limit).unwrap().len();
    assert_eq!(count("", 5), 5);
    assert_eq!(count("service=shop source-port=1000-1009", 100), 10);
    assert_eq!(count("service=other", 100), 0);
    assert_eq!(count("from-kernel=false source-port=1000-1009", 100), 5);
    let refusal = client.sessions(&SessionMatch::default(), 13).unwrap_err();
    assert_eq!(refusal.to_string(), "worker 0 does not answer");
    assert_eq!(count("", 1_000), 1_000);
    // API-05: what breaks off in the middle is not taken for all there is.
    let broken = client.sessions(&SessionMatch::default(), 777).unwrap_err();
    assert!(matches!(broken, ClientError::BrokenOff { .. }), "{broken}");
    let mut lines = Vec::new();
    let mut take = |piece: &[u8]| {
        lines.extend_from_slice(piece);
        Ok(())
    };
    client.list_sessions(&"source-port=1000-1002".parse().unwrap(), 100, &mut take).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(lines.lines().count(), 5, "one session a line, and the brackets: {lines}");
}
