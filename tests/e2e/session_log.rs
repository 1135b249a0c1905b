//! The session log with real collectors: nfcapd and tshark read the IPFIX messages of sessions that curl opens, netcat takes lines of
//! JSON; collectors end in the middle and come back, and no packet waits for them.

use std::path::Path;
use std::time::Duration;

use millrace_tests::net::{Appliance, Configuration, Lab, Process, Web, eventually};
use serde_json::Value;

/// `edge.toml` whose sessions end soon, with a session log.
fn logged(lab: &Lab, log: &str) -> Configuration {
    let short = "[sessions.timeouts]\ntcp_time_wait = \"1s\"\nudp_one_way = \"1s\"\n";
    let begin = "[[port]]\nname = \"outside\"";
    lab.edge().without_probes().replacing(begin, &format!("{short}\n[session_log]\n{log}\n\n{begin}"))
}

fn status(appliance: &Appliance<'_>) -> Value {
    serde_json::from_str(&appliance.ask("show session-log --json").out).expect("JSON")
}

/// What `show session-log` counts under this name.
fn count(appliance: &Appliance<'_>, name: &str) -> u64 {
    status(appliance)[name].as_u64().unwrap_or_else(|| panic!("no {name}: {}", status(appliance)))
}

fn becomes(appliance: &Appliance<'_>, state: &str) {
    eventually(45, &format!("the collector is {state}"), || status(appliance)["state"] == state);
}

/// Waits until every session is over and told of, and what was told is counted: it no longer grows.
fn all_told(appliance: &Appliance<'_>) {
    let mut before = None;
    eventually(20, "all sessions are over and told of", || {
        let of = |what: &str| -> Value { serde_json::from_str(&appliance.ask(what).out).expect("JSON") };
        let sessions = of("show sessions --match from-kernel=false --json");
        let shown = status(appliance);
        let of = |name: &str| shown[name].as_u64().unwrap_or(0);
        let told = of("sent") + of("unsent");
        let stands_still = before.replace(told) == Some(told) && told >= of("records") && of("waiting") == 0;
        sessions.as_array().is_some_and(Vec::is_empty) && stands_still
    });
}

/// Clients visit the shop, in both versions, and a server the world behind source NAT.
fn visits(lab: &Lab) {
    for _ in 0..3 {
        lab.client.must("curl -sS --max-time 60 http://198.51.100.10/");
        lab.client.must("curl -sS --max-time 60 http://[2001:db8:51::10]/");
        lab.shop_a.must("curl -sS --max-time 60 http://198.51.100.29/");
    }
}

fn servers(lab: &Lab) -> [Web; 3] {
    [
        Web::start(lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080", "[2001:db8:10::11]:8080"]),
        Web::start(lab, &lab.shop_b, "shop-b", &["10.0.0.12:8080", "[2001:db8:10::12]:8080"]),
        Web::start(lab, &lab.client, "world", &["198.51.100.29:80"]),
    ]
}

/// An nfcapd beside the appliance, its files in a folder of the lab's.
fn nfcapd(lab: &Lab, name: &str) -> Process {
    let folder = lab.file(name);
    std::fs::create_dir_all(&folder).expect("the lab's directory takes another");
    let line = format!("nfcapd -w {} -b 127.0.0.1 -p 4739 -t 3600", folder.display());
    let collector = lab.appliance.start(&line, &lab.file(&format!("{name}.log")));
    listens(lab, "udp", "127.0.0.1:4739");
    collector
}

fn listens(lab: &Lab, how: &str, address: &str) {
    eventually(10, "the collector listens", || lab.appliance.listens(how, address));
}

/// Ends a collector and says what it has understood, a session a line.
fn flows(lab: &Lab, mut collector: Process, name: &str) -> Vec<String> {
    eventually(10, "it has read everything", || {
        let sockets = lab.appliance.must("ss --no-header --numeric --listening --udp");
        let mut its = sockets.lines().filter(|line| line.contains("127.0.0.1:4739"));
        its.all(|line| line.split_whitespace().nth(1) == Some("0"))
    });
    collector.signal("TERM");
    collector.ends_within(Duration::from_secs(10)).expect("nfcapd ends");
    let folder = lab.file(name);
    let line =
        format!("nfdump -q -6 -R {} -o fmt:%pr|%sap|%dap|%pkt|%byt|%opkt|%obyt|%evt|%nsa|%nda|%nevt", folder.display());
    lab.appliance.must(&line).lines().map(|line| line.replace(' ', "")).collect()
}

/// The lines that name all of these.
fn with<'f>(flows: &'f [String], names: &[&str]) -> Vec<&'f String> {
    flows.iter().filter(|flow| names.iter().all(|name| flow.contains(name))).collect()
}

#[test]
fn nfcapd_and_tshark_understand_what_is_sent() {
    let programs = ["nfcapd", "nfdump", "tshark", "tcpdump", "ss", "curl"];
    let Some(lab) = Lab::wired("nfcapd_and_tshark_understand_what_is_sent", &programs) else { return };
    let _servers = servers(&lab);
    let first = nfcapd(&lab, "first");
    let seen = lab.file("ipfix.pcap");
    let tcpdump = format!("tcpdump --immediate-mode -i lo -U -w {} udp port 4739", seen.display());
    let mut sniffer = lab.appliance.start(&tcpdump, &lab.file("tcpdump.log"));
    eventually(10, "tcpdump listens", || sniffer.output().contains("listening on"));
    let log = "format = \"ipfix\"\ncollector = \"127.0.0.1:4739\"\ndomain = 77\ntemplate_interval = \"1s\"";
    let appliance = Appliance::launch(&lab, &logged(&lab, log));
    visits(&lab);
    all_told(&appliance);
    let shown = status(&appliance);
    // Nine connections: open, close, and two about translation, since each is rewritten.
    assert_eq!(
        (shown["state"].as_str(), shown["lost"].as_u64(), shown["unsent"].as_u64()),
        (Some("up"), Some(0), Some(0))
    );
    assert!(shown["sent"].as_u64() >= Some(36) && shown["records"].as_u64() >= Some(18), "{shown}");
    let understood = flows(&lab, first, "first");
    for (client, service) in [("198.51.100.2", "198.51.100.10:80"), ("2001:db8:51::2", "2001:db8:51::10.80")] {
        let told = with(&understood, &["TCP", client, service]);
        assert!(told.len() >= 6, "{service}:\n{}", understood.join("\n"));
        // Packets and bytes of both directions, where a session has ended.
        let counts = |flow: &&&String| {
            flow.split('|').skip(3).take(4).all(|count| count.parse::<u64>().is_ok_and(|count| count > 3))
        };
        assert_eq!(told.iter().filter(counts).count(), 3, "{service}:\n{}", understood.join("\n"));
    }
    assert!(
        !with(&understood, &["10.0.0.11", "198.51.100.29:80", "|198.51.100.1|"]).is_empty(),
        "{}",
        understood.join("\n")
    );
    tshark_agrees(
        &lab,
        &mut sniffer,
        &seen,
        ["sent", "messages"].map(|count| shown[count].as_u64().expect("a count")).into(),
    );

    // Nobody listens: that is told, and packets pass as ever.
    eventually(30, "the collector is missed", || {
        lab.client.must("curl -sS --max-time 60 http://198.51.100.10/");
        status(&appliance)["state"] == "down"
    });
    assert!(
        appliance.output().contains("the collector udp 127.0.0.1:4739 cannot be reached"),
        "{}",
        appliance.output()
    );
    let second = nfcapd(&lab, "second");
    eventually(30, "the collector is found again", || {
        lab.client.must("curl -sS --max-time 60 http://198.51.100.10/");
        status(&appliance)["state"] == "up"
    });
    lab.client.must("curl -sS --max-time 60 --local-port 33333 http://198.51.100.10/");
    all_told(&appliance);
    let understood = flows(&lab, second, "second");
    assert!(!with(&understood, &[":33333", "198.51.100.10:80"]).is_empty(), "{}", understood.join("\n"));
    assert_eq!(count(&appliance, "lost"), 0);
    appliance.stop();
}

/// Every message as Wireshark takes it apart: none is malformed, none out of sequence, and all that was sent is there.
fn tshark_agrees(lab: &Lab, sniffer: &mut Process, seen: &Path, (sent, messages): (u64, u64)) {
    eventually(10, "tcpdump has written everything", || {
        lab.appliance.run(&format!("tcpdump -nn -r {}", seen.display())).out.lines().count() as u64 >= messages
    });
    sniffer.signal("INT");
    sniffer.ends_within(Duration::from_secs(10)).expect("tcpdump ends");
    let read = format!("tshark -r {} -d udp.port==4739,cflow", seen.display());
    let faults = lab
        .appliance
        .must(&format!("{read} -Y _ws.malformed||cflow.unexpected_sequence_number||cflow.no_template_found"));
    assert_eq!(faults, "", "what tshark finds wrong");
    let values = |field: &str| -> Vec<String> {
        let out = lab.appliance.must(&format!("{read} -T fields -E occurrence=a -E aggregator=, -e {field}"));
        out.split([',', '\n']).filter(|value| !value.is_empty()).map(str::to_owned).collect()
    };
    let events = values("cflow.nat_event").len() + values("cflow.firewall_event").len();
    assert!(events as u64 >= sent, "{events} of {sent}");
    assert!(values("cflow.od_id").iter().all(|domain| domain == "77"));
    assert!(values("cflow.if_name").iter().any(|name| name == "outside"));
    let hidden = values("cflow.post_natsource_ipv4_address");
    assert!(hidden.iter().any(|address| address == "198.51.100.1"), "{hidden:?}");
    let backends = values("cflow.post_nat_destination_ipv6_address");
    assert!(backends.iter().any(|address| address.starts_with("2001:db8:10::1")), "{backends:?}");
}

/// The lines netcat has written.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn lines_of_json_reach_a_socket_that_comes_and_goes() {
    let Some(lab) = Lab::wired("lines_of_json_reach_a_socket_that_comes_and_goes", &["nc", "ss", "curl"]) else {
        return;
    };
    let _servers = servers(&lab);
    let local = lab.file("log.sock");
    let places = [
        ("127.0.0.1:5170".to_owned(), "nc -d -l 127.0.0.1 5170".to_owned(), ("tcp", "127.0.0.1:5170".to_owned())),
        (local.display().to_string(), format!("nc -d -lU {}", local.display()), ("unix", local.display().to_string())),
    ];
    for (number, (place, netcat, (how, listening))) in places.iter().enumerate() {
        let start = |name: &str| {
            let _ = std::fs::remove_file(&local);
            let file = lab.file(&format!("{number}-{name}"));
            let collector = lab.appliance.start(netcat, &file);
            listens(&lab, how, listening);
            (collector, file)
        };
        let (mut first, before) = start("first");
        let appliance = Appliance::launch(&lab, &logged(&lab, &format!("format = \"json\"\ncollector = \"{place}\"")));
        becomes(&appliance, "up");
        visits(&lab);
        all_told(&appliance);
        let sent = usize::try_from(count(&appliance, "sent")).expect("few");
        eventually(10, "all lines are there", || lines(&before).len() == sent);
        let told = lines(&before);
        let closed = |line: &&Value| line["event"] == "close" && line["service"] == "shop";
        let shop: Vec<_> = told.iter().filter(closed).collect();
        assert_eq!(shop.len(), 3, "{told:?}");
        for line in shop {
            assert_eq!(
                (&line["appliance"], &line["protocol"], &line["reason"]),
                (&"edge-1".into(), &"tcp".into(), &"finished".into())
            );
            assert_eq!(
                (&line["original"]["destination"], &line["ingress"]),
                (&"198.51.100.10".into(), &"outside".into())
            );
            assert!(line["reply_bytes"].as_u64() > Some(100) && line["backend"].as_str().is_some(), "{line}");
        }
        // The collector is gone in the middle, and comes back: what was told meanwhile has waited.
        first.kill();
        becomes(&appliance, "down");
        visits(&lab);
        assert_eq!(lines(&before).len(), sent);
        let (_second, after) = start("second");
        becomes(&appliance, "up");
        all_told(&appliance);
        eventually(10, "what has waited is there", || {
            lines(&after).iter().filter(|line| line["event"] == "open").count() >= 9
        });
        let shown = status(&appliance);
        assert_eq!(
            (shown["lost"].as_u64(), shown["unsent"].as_u64(), shown["connections"].as_u64()),
            (Some(0), Some(0), Some(2))
        );
        let events = appliance.output();
        assert!(events.contains("takes records again"), "{events}");
        appliance.stop();
    }
}
