//! Metrics of the real program, read as Prometheus reads them and judged by its own tool.

use millrace_tests::net::{Appliance, Lab, eventually, skipping};

/// Where the alert rules and the dashboard are.
const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/monitoring");

fn shell(line: &str) -> (bool, String) {
    let output = std::process::Command::new("sh").args(["-c", line]).output().expect("a shell");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn what_is_scraped_is_accepted_by_promtool() {
    let Some(lab) = Lab::wired("what_is_scraped_is_accepted_by_promtool", &["promtool", "curl", "ping", "nc"]) else {
        return;
    };
    let listen = "[metrics]\nlisten = \"127.0.0.1:9464\"\n\n[sessions]\n";
    let configuration = lab.edge().replacing("[sessions]\n", listen);
    let appliance = Appliance::launch(&lab, &configuration);
    lab.client.run("ping -c 3 -i 0.2 -W 10 198.51.100.1");
    let scraped = lab.appliance.must("curl -s --max-time 60 http://127.0.0.1:9464/metrics");
    let by_socket =
        format!("curl -s --max-time 60 --unix-socket {} http://millrace/metrics", configuration.socket().display());
    let same = lab.appliance.must(&by_socket);
    let names =
        |text: &str| text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&scraped), names(&same), "the port and the socket tell the same");
    std::fs::write(lab.file("metrics"), &scraped).expect("the lab's directory takes a file");
    let (accepted, said) = shell(&format!("promtool check metrics < {}", lab.file("metrics").display()));
    assert!(accepted && said.is_empty(), "promtool says:\n{said}");
    let open = lab
        .appliance
        .must("curl -s --max-time 60 -H Accept:application/openmetrics-text http://127.0.0.1:9464/metrics");
    assert!(open.ends_with("# EOF\n"));
    let number = |name: &str| {
        let line = scraped.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    assert!(number("millrace_port_receive_packets_total{port=\"outside\"}") >= 3.0);
    assert!(number("millrace_sessions_capacity") > 1.0);
    // The port answers nothing else, and whoever is silent keeps nobody out.
    let refused =
        lab.appliance.must("curl -s -o /dev/null -w %{http_code} --max-time 60 http://127.0.0.1:9464/api/v1/ports");
    assert_eq!(refused, "404");
    let _silent: Vec<_> =
        (0..8).map(|n| lab.appliance.start("nc -d 127.0.0.1 9464", &lab.file(&format!("silent-{n}")))).collect();
    eventually(15, "others still read", || {
        lab.appliance.run("curl -s -o /dev/null --max-time 2 http://127.0.0.1:9464/metrics").success
    });
    appliance.stop();
}

#[test]
fn the_alert_rules_are_rules() {
    if skipping("the_alert_rules_are_rules", &["promtool"]) {
        return;
    }
    let (accepted, said) = shell(&format!("promtool check rules {MONITORING}/alerts.yml"));
    assert!(accepted && said.contains("SUCCESS: 14 rules found"), "promtool says:\n{said}");
}

/// Who is always asked for a cookie is under no flood, and who tries a policy for a minute is reminded in time.
#[test]
fn alerts_fire_when_they_should() {
    if skipping("alerts_fire_when_they_should", &["promtool"]) {
        return;
    }
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/monitoring/alerts_test.yml");
    let text = std::fs::read_to_string(fixture).expect("the project has it");
    let folder = tempfile::tempdir().expect("the temporary directory takes another");
    let file = folder.path().join("alerts_test.yml");
    std::fs::write(&file, text.replace("ALERTS", &format!("{MONITORING}/alerts.yml"))).expect("a file");
    let (passed, said) = shell(&format!("promtool test rules {}", file.display()));
    assert!(passed, "promtool says:\n{said}");
}
