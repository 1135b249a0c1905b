//! The admin API over its socket, asked by the command line's own client and by plain HTTP: every call, every refusal, the
//! field names that scripts rely on. The appliance is a small one of this test's own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use control::admin::socket::ControlSocket;
use control::admin::{Appliance, Feed, Server, Sessions};
use control::amendment::{Amended, Amendment, Configuration};
use control::bulletin::{Bulletin, Happening, Listener};
use control::capture::CaptureWanted;
use control::cli::Cli;
use control::client::{Client, ClientError};
use control::command::{self, Console};
use control::generation::{Plan, Proposal};
use control::session_match::SessionMatch;
use control::status::*;
use control::trace::pattern::PacketPattern;
use serde_json::Value;

/// Answers with fixed documents and remembers what it was told.
#[derive(Default)]
struct Fake {
    bulletin: Bulletin,
    told: Mutex<Vec<String>>,
}

impl Fake {
    fn told(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }
}

/// The way of a packet.
fn way() -> TraceStatus {
    TraceStatus {
        at: Some("2026-11-22T07:36:00.000001Z".parse().unwrap()),
        worker: Some(0),
        port: "outside".into(),
        zone: "wan".into(),
        generation: 3,
        packet: None,
        steps: vec![TraceStep { stage: "receive".into(), text: "by port outside".into(), ..TraceStep::default() }],
        outcome: "dropped".into(),
        reason: Some("no_route".into()),
        sentence: "dropped: no route to the destination".into(),
        depends: Vec::new(),
    }
}

impl Appliance for Fake {
    fn ports(&self) -> Vec<PortStatus> {
        vec![PortStatus {
            name: "outside".into(),
            device: "net_af_packet0,iface=mr-out0".into(),
            zone: "wan".into(),
            pair: Some("inside".into()),
            mac: "02:00:00:00:00:01".into(),
            link: Link::Up,
            rx_packets: 1,
            rx_bytes: 60,
            rx_missed: 0,
            tx_packets: 2,
            tx_bytes: 120,
            tx_dropped: 0,
            kernel_interface: Some("mr-outside".into()),
            kernel_delivered: 3,
            kernel_refused: 1,
            kernel_sent: 4,
            kernel_oversized: 0,
        }]
    }
    fn workers(&self) -> Vec<WorkerStatus> {
        let stages = vec![StageStatus { name: "firewall".into(), packets: 3, cycles_per_packet: 40.0 }];
        vec![WorkerStatus { core: 1, rx_packets: 5, forwarded: 5, stages, ..WorkerStatus::default() }]
    }
    fn sessions(&self, wanted: &SessionMatch, limit: usize) -> Result<Sessions, Refusal> {
        if limit == 13 {
            return Err(Refusal::new(RefusalKind::Busy, "worker 0 does not answer"));
        }
        let tuple = |source: &str, source_port, destination: &str, destination_port| TupleStatus {
            source: source.parse().unwrap(),
            source_port,
            destination: destination.parse().unwrap(),
            destination_port,
        };
        let session = |number: u16| SessionStatus {
            protocol: "tcp".into(),
            state: "established".into(),
            original: tuple("198.51.100.7", number, "198.51.100.10", 80),
            reply: tuple("10.0.0.11", 8080, "198.51.100.7", number),
            service: Some("shop".into()),
            backend: Some("shop-a".into()),
            graph: None,
            packets: 10,
            bytes: 1000,
            idle_ms: 5,
            expires_ms: 1_000,
            owner: 0,
            from_kernel: number.is_multiple_of(2),
            in_line: false,
            tenant: None,
            tiers: Vec::new(),
        };
        // 777 breaks off in the middle.
        let left: Vec<_> = (1000..2000).map(session).filter(|session| wanted.matches(session)).take(limit).collect();
        let mut batches = left.chunks(300).map(<[_]>::to_vec).collect::<Vec<_>>().into_iter();
        let mut count = 0;
        Ok(Box::new(move || {
            count += 1;
            if limit == 777 && count > 1 {
                return Err(Refusal::new(RefusalKind::Busy, "the workers do not answer"));
            }
            Ok(batches.next())
        }))
    }
    fn services(&self) -> Vec<ServiceStatus> {
        let backend = BackendStatus {
            name: "shop-a".into(),
            address: "10.0.0.11".parse().unwrap(),
            port: Some(8080),
            weight: 1,
            hops: 0,
            load: 3,
            health: HealthStatus::Up,
            active: 3,
            total: 9,
            packets: 90,
            bytes: 9_000,
            response_ms: Some(0.5),
            path_mtu: None,
        };
        vec![ServiceStatus {
            syn_cookies: None,
            half_open: None,
            half_open_limit: None,
            tiers: Vec::new(),
            tier_of: None,
            name: "shop".into(),
            address: "198.51.100.10".parse().unwrap(),
            protocol: "tcp".into(),
            ports: vec!["80".into()],
            attract: "inline".into(),
            redirection: None,
            algorithm: "maglev".into(),
            mode: "nat".into(),
            backends: vec![backend],
        }]
    }
    fn firewall(&self) -> FirewallStatus {
        let rule =
            RuleStatus { name: "ping".into(), action: "allow".into(), hits: 4, rate_limited: 1, source_limited: 0 };
        FirewallStatus { default: "deny".into(), default_hits: 2, rules: vec![rule], blocklists: Vec::new() }
    }
    fn neighbors(&self) -> Vec<NeighborStatus> {
        vec![NeighborStatus {
            port: "inside".into(),
            address: "10.0.0.11".parse().unwrap(),
            mac: None,
            state: "incomplete".into(),
            age_ms: 20,
        }]
    }
    fn routes(&self) -> Vec<RouteStatus> {
        vec![RouteStatus { to: "10.0.0.0/24".parse().unwrap(), via: None, port: "inside".into() }]
    }
    fn session_log(&self) -> SessionLogStatus {
        SessionLogStatus::default()
    }

    fn restart(&self) -> RestartStatus {
        RestartStatus::default()
    }

    fn nat(&self) -> NatStatus {
        let pool = PoolStatus {
            name: "servers-out".into(),
            kind: "source-nat".into(),
            addresses: vec!["198.51.100.1".into()],
            ports: "1024-65535".into(),
            mapping: "endpoint-independent".into(),
            filtering: "address-dependent".into(),
            sessions: 5,
            mappings: 3,
            exhausted: 1,
            limited: 0,
        };
        let forward = ForwardStatus {
            name: "ssh".into(),
            address: "198.51.100.1".parse().unwrap(),
            protocol: "tcp".into(),
            ports: "2222".into(),
            to_address: "10.0.0.11".parse().unwrap(),
            to_ports: "22".into(),
            total: 4,
        };
        NatStatus { pools: vec![pool], forwards: vec![forward] }
    }
    fn drops(&self) -> Drops {
        BTreeMap::from([("no_route".into(), 3), ("firewall_denied".into(), 0)])
    }
    fn top(&self) -> TopStatus {
        let talker =
            TalkerStatus { address: "192.0.2.1".into(), tenant: None, new_sessions: 5, challenges: 6, drops: 7 };
        TopStatus { seconds: 10.0, sources: vec![talker.clone()], targets: vec![talker] }
    }
    fn trace(&self, wanted: &PacketPattern, count: usize, span: Duration) -> Result<Feed<TraceNews>, Refusal> {
        self.told(format!("trace {count} for {span:?}: {wanted}"));
        if count == 13 {
            return Err(Refusal::new(RefusalKind::Busy, "another trace is under way; one at a time is followed"));
        }
        let end = TraceEnd { packets: count as u64, lost: 0, why: "count".into() };
        let packet = Box::new(way());
        let packets = std::iter::repeat_n(TraceNews::Packet(packet), count);
        let mut news = packets.chain([TraceNews::End(end)]).collect::<Vec<_>>().into_iter();
        Ok(Box::new(move |_| news.next().map(|news| vec![news])))
    }
    fn capture(&self, wanted: &CaptureWanted) -> Result<Feed<u8>, Refusal> {
        self.told(format!("capture {wanted:?}"));
        if wanted.port != "outside" {
            return Err(Refusal::new(RefusalKind::BadRequest, "there is no such port"));
        }
        let mut pieces = [b"pcap".to_vec(), b"ng".to_vec()].into_iter();
        Ok(Box::new(move |_| pieces.next()))
    }
    fn suppose(&self, packets: &[Supposed]) -> Result<Vec<TraceStatus>, Refusal> {
        Ok(packets.iter().map(|_| TraceStatus { at: None, worker: None, ..way() }).collect())
    }
    fn memory(&self) -> MemoryStatus {
        MemoryStatus {
            buffers_total: 8192,
            buffers_in_use: 512,
            sessions_capacity: 100,
            sessions_in_use: 7,
            bytes: 1,
            ..MemoryStatus::default()
        }
    }
    fn progress(&self) -> Option<ProgressStatus> {
        Some(ProgressStatus { step: "compiling rules".to_owned(), done: 1, of: 6, elapsed_ms: 1_200 })
    }

    fn policy(&self) -> PolicyStatus {
        let applied_at = "2026-01-02T03:04:05Z".parse().unwrap();
        let current = AppliedPolicy {
            generation: 2,
            applied_at,
            source: "new.toml".into(),
            who: "op".into(),
            how: How::Apply,
            of: None,
            standing: Standing::Pending,
        };
        let back = AppliedPolicy { generation: 1, how: How::Rollback, of: Some(0), ..current.clone() };
        PolicyStatus { current, confirm_within_ms: Some(42_500), history: vec![back] }
    }
    fn stage(&self, proposal: &Proposal) -> Result<StagedStatus, Refusal> {
        self.told(format!("stage {}", proposal.source));
        Ok(self.staged())
    }
    fn unstage(&self) -> Result<StagedStatus, Refusal> {
        self.told("unstage".into());
        Ok(StagedStatus::default())
    }
    fn staged(&self) -> StagedStatus {
        let rule = |name: &str, staged| StagedRuleStatus {
            name: name.into(),
            action: "deny".into(),
            staged,
            hits: 5,
            would_allow: 0,
            would_refuse: 2,
        };
        let default = Some(rule("", false));
        StagedStatus { rules: vec![rule("telnet", true)], default, ..StagedStatus::default() }
    }
    fn listen(&self) -> Listener {
        self.bulletin.listen()
    }
    fn configuration(&self) -> Configuration {
        Configuration::new("[appliance]\nname = \"edge-1\"\n".into())
    }
    fn amend(&self, amendment: &Amendment) -> Result<Amended, Refusal> {
        self.told(format!("amend {}", amendment.changes.len()));
        amendment.carried_out(&self.configuration())?;
        let applied = Applied { generation: 3, unchanged: false, confirm_within_ms: None, warnings: Vec::new() };
        Ok(Amended { applied, objects: Vec::new() })
    }
    fn diff(&self, text: &str, name: &str) -> Result<Plan, Refusal> {
        self.told(format!("diff {name} {}", text.len()));
        Ok(Plan { generation: 2, restart: vec!["[cores]".into()], changes: Vec::new() })
    }
    fn confirm(&self) -> Result<Applied, Refusal> {
        self.told("confirm".into());
        Ok(Applied { generation: 2, unchanged: true, confirm_within_ms: None, warnings: Vec::new() })
    }
    fn rollback(&self, generation: Option<u64>, who: &str) -> Result<Applied, Refusal> {
        assert!(!who.is_empty());
        self.told(format!("rollback {generation:?}"));
        match generation {
            Some(13) => Err(Refusal::new(RefusalKind::NotFound, "generation 13 is not kept")),
            _ => Ok(Applied { generation: 4, unchanged: false, confirm_within_ms: None, warnings: Vec::new() }),
        }
    }
    fn apply(&self, proposal: &Proposal) -> Result<Applied, Refusal> {
        let Proposal { text, source: name, who, confirm_within, .. } = proposal;
        assert!(!who.is_empty());
        self.told(format!("apply {name} {}", text.len()));
        match text.contains("fault") {
            true => Err(Refusal::new(RefusalKind::PolicyInvalid, "the policy has 2 faults; nothing was changed")
                .with_faults(vec!["edge.toml:1:1: error[a]: one".into(), "edge.toml:2:1: error[b]: two".into()])),
            false if text.contains("panic") => panic!("as the test asked"),
            false => Ok(Applied {
                generation: 3,
                unchanged: false,
                confirm_within_ms: confirm_within.map(|within| u64::try_from(within.as_millis()).unwrap()),
                warnings: vec!["edge.toml:3:1: warning[c]: odd".into()],
            }),
        }
    }
    fn reload(&self, what: &Reload) -> Result<Reloaded, Refusal> {
        self.told(format!("reload {what:?}"));
        Ok(Reloaded { generation: 9, prefixes: 1, bytes: 8 })
    }
    fn drain(&self, target: &Target) -> Result<Changed, Refusal> {
        self.told(format!("drain {target:?}"));
        match target {
            Target::Service(name) if name == "shop" => Ok(Changed { backends: 2, sessions: 7 }),
            _ => Err(Refusal::new(RefusalKind::NotFound, "there is no such service")),
        }
    }
    fn undrain(&self, target: &Target) -> Result<Changed, Refusal> {
        self.told(format!("undrain {target:?}"));
        Ok(Changed { backends: 1, sessions: 3 })
    }
    fn flush(&self, target: &Target) -> Result<Changed, Refusal> {
        self.told(format!("flush {target:?}"));
        Ok(Changed { backends: 1, sessions: 1 })
    }
}

/// A served socket.
struct Served {
    folder: tempfile::TempDir,
    fake: Arc<Fake>,
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let fake = Arc::new(Fake::default());
        let appliance: Arc<dyn Appliance> = Arc::clone(&fake) as _;
        let server = Server::start(&folder.path().join("control.sock"), appliance, runtime.handle()).unwrap();
        Self { folder, fake, server: Some(server), runtime }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn client(&self) -> Client {
        Client::new(&self.path()).unwrap()
    }

    /// Plain HTTP, as curl would speak it: status and document.
    fn http(&self, head: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        let len = body.len();
        write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n").unwrap();
        // A server that refuses a long body need not read all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, document) = answer.split_once("\r\n\r\n").unwrap();
        let in_chunks = head.to_lowercase().contains("transfer-encoding: chunked");
        let document = if in_chunks { joined(document) } else { document.to_owned() };
        (status, serde_json::from_str(&document).unwrap_or(Value::Null))
    }

    /// The command line: exit status, answers, complaints.
    fn millrace(&self, line: &str) -> (u8, String, String) {
        let socket = self.path();
        let arguments = ["millrace", "--socket", socket.to_str().unwrap()].into_iter().chain(line.split(' '));
        let cli = match Cli::try_parse_from(arguments) {
            Ok(cli) => cli,
            Err(error) => return (error.exit_code().try_into().unwrap(), String::new(), error.to_string()),
        };
        let (mut answers, mut complaints) = (Vec::new(), Vec::new());
        let status = command::run(cli, &mut Console { answers: &mut answers, complaints: &mut complaints });
        (status, String::from_utf8(answers).unwrap(), String::from_utf8(complaints).unwrap())
    }
}

/// A body that came in chunks (RFC 9112 section 7.1).
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let (chunk, rest) = rest.split_at(usize::from_str_radix(length, 16).unwrap());
        whole.push_str(chunk);
        body = rest.trim_start_matches("\r\n");
    }
    whole
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

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
    for text in
        [include_str!("../../config/monitoring/alerts.yml"), include_str!("../../config/monitoring/dashboard.json")]
    {
        for at in text.match_indices("millrace_").map(|(at, _)| at) {
            let name: String =
                text[at..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
            assert!(known.contains(&name), "there is no metric {name}; there are {known:?}");
            named += 1;
        }
    }
    assert!(named > 30, "{named} names");
    serde_json::from_str::<Value>(include_str!("../../config/monitoring/dashboard.json")).unwrap();
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

#[test]
fn a_policy_is_applied_or_refused_with_every_fault() {
    let served = Served::new();
    let client = served.client();
    assert_eq!(client.apply("[appliance]", "my edge.toml", None).unwrap().generation, 3);
    let Err(ClientError::Refused(refusal)) = client.apply("fault", "edge.toml", None) else {
        panic!("was not refused")
    };
    assert_eq!((refusal.kind, refusal.faults.len()), (RefusalKind::PolicyInvalid, 2));
    assert_eq!(*served.fake.told.lock().unwrap(), ["apply my edge.toml 11", "apply edge.toml 5"]);
}

#[test]
fn rules_are_staged_shown_and_unstaged() {
    let served = Served::new();
    let file = served.folder.path().join("new.toml");
    std::fs::write(&file, include_str!("../../config/examples/edge.toml")).unwrap();
    let (status, said, complaints) = served.millrace(&format!("apply --staged {}", file.display()));
    assert_eq!((status, complaints.as_str()), (0, ""));
    let row = |said: &str| said.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(row(&said), "telnet deny yes 5 0 2");
    assert_eq!(row(&served.millrace("show firewall --staged").1), "telnet deny yes 5 0 2");
    assert_eq!(served.millrace("unstage").1, "nothing is staged\n");
    assert_eq!(*served.fake.told.lock().unwrap(), [format!("stage {}", file.display()), "unstage".into()]);
}

#[test]
fn a_blocklist_is_read_again_by_name() {
    let served = Served::new();
    let (status, answers, _) = served.millrace("reload blocklist scanners");
    assert_eq!((status, answers.trim()), (0, "generation 9: 1 prefixes, 8 bytes"));
    assert_eq!(served.http("POST /api/v1/reload", br#"{"kind":"blocklist","name":"scanners"}"#).0, 200);
    assert_eq!(served.http("POST /api/v1/reload", br#"{"kind":"service","name":"shop"}"#).0, 400);
}

#[test]
fn a_policy_is_compared_confirmed_and_taken_back() {
    let served = Served::new();
    let file = served.folder.path().join("edge.toml");
    std::fs::write(&file, "# nothing").unwrap();
    let file = file.display();
    let (status, answers, _) = served.millrace(&format!("diff {file}"));
    assert_eq!(status, 0);
    assert!(answers.contains("nothing changes") && answers.contains("[cores]"), "{answers}");
    let (_, answers, _) = served.millrace(&format!("diff {file} --json"));
    assert_eq!(serde_json::from_str::<Value>(&answers).unwrap()["restart"][0], "[cores]");
    let (status, answers, _) = served.millrace(&format!("apply {file} --confirm-within 1m"));
    assert_eq!(status, 0);
    assert!(answers.contains("generation 3 is in force for 60 s; `millrace confirm` keeps it"), "{answers}");
    let said = |line: &str| served.millrace(line).1;
    assert_eq!(said("confirm"), "generation 2 is confirmed\n");
    assert_eq!(said("rollback"), "generation 4 is in force\n");
    assert_eq!(serde_json::from_str::<Value>(&said("rollback 7 --json")).unwrap()["generation"], 4);
    assert_eq!(served.millrace("rollback 13"), (1, String::new(), "generation 13 is not kept\n".to_owned()));
    let lines = said("show policy");
    assert!(lines.contains("in force, 42 s left to confirm it") && lines.contains("rollback of 0"), "{lines}");
    let told = served.fake.told.lock().unwrap();
    assert_eq!(told[3..], ["confirm", "rollback None", "rollback Some(7)", "rollback Some(13)"]);
}

#[test]
fn backends_are_drained_and_flushed_by_name() {
    let served = Served::new();
    let client = served.client();
    assert_eq!(client.drain(&Target::Service("shop".into())).unwrap(), Changed { backends: 2, sessions: 7 });
    let error = client.drain(&Target::Backend("shop/x".into())).unwrap_err();
    assert!(matches!(error, ClientError::Refused(Refusal { kind: RefusalKind::NotFound, .. })));
    client.flush(&Target::Backend("shop/shop-a".into())).unwrap();
    assert_eq!(served.http("POST /api/v1/drain", br#"{"kind":"service","name":"shop"}"#).0, 200);
    assert_eq!(served.http("POST /api/v1/drain", br#"{"kind":"service","name":"shop","undo":false}"#).0, 200);
}

#[test]
fn what_was_drained_is_put_back_through_the_same_call() {
    let served = Served::new();
    assert_eq!(served.http("POST /api/v1/drain", br#"{"kind":"service","name":"shop","undo":true}"#).0, 200);
    served.client().undrain(&Target::Backend("shop/shop-a".into())).unwrap();
    let (status, answers, _) = served.millrace("drain backend shop-b --undo");
    assert_eq!((status, answers.as_str()), (0, "1 backend is no longer drained; 3 sessions go on\n"));
    let told = served.fake.told.lock().unwrap();
    let undone = [r#"undrain Service("shop")"#, r#"undrain Backend("shop/shop-a")"#, r#"undrain Backend("shop-b")"#];
    assert_eq!(*told, undone);
}

#[test]
fn mistakes_are_refused_in_json_with_the_right_status() {
    let served = Served::new();
    let long = vec![b'#'; 65 << 20];
    let cases: [(&str, &[u8], u16); 19] = [
        ("GET /", b"", 404),
        ("GET /api/v1/everything", b"", 404),
        ("POST /api/v1/ports", b"", 405),
        ("GET /api/v1/apply", b"", 405),
        ("GET /api/v2/ports", b"", 404),
        ("GET /api/v1/sessions?limit=many", b"", 400),
        ("GET /api/v1/sessions?colour=blue", b"", 400),
        ("GET /api/v1/sessions?match=colour%3Dblue", b"", 400),
        ("GET /api/v1/sessions?limit=13", b"", 503),
        ("POST /api/v1/apply", b"x", 400),
        ("POST /api/v1/apply?file=a", b"\xff\xfe", 400),
        ("POST /api/v1/apply?file=a&confirm_within_ms=999", b"x", 400),
        ("POST /api/v1/apply?file=a&confirm_within_ms=-1", b"x", 400),
        ("POST /api/v1/diff", b"x", 400),
        ("POST /api/v1/diff?file=a", b"\xff", 400),
        ("POST /api/v1/rollback?generation=first", b"", 400),
        ("POST /api/v1/rollback?generation=13", b"", 404),
        ("POST /api/v1/drain", b"shop", 400),
        ("POST /api/v1/apply?file=a", b"fault", 422),
    ];
    for (head, body, wanted) in cases {
        let (status, document) = served.http(head, body);
        assert_eq!(status, wanted, "{head}: {document}");
        assert_eq!(document["status"], status, "{head}: {document}");
        for member in ["type", "title", "detail", "kind"] {
            assert!(document[member].is_string(), "{head}: {member} of {document}");
        }
    }
    let (status, _) = served.http("POST /api/v1/apply?file=a", &long);
    assert_eq!(status, 413);
    assert!(served.fake.told.lock().unwrap().iter().all(|told| told == "apply a 5" || told == "rollback Some(13)"));
}

#[test]
fn a_fault_in_one_answer_spares_the_next() {
    let served = Served::new();
    let (status, document) = served.http("POST /api/v1/apply?file=a", b"panic");
    assert_eq!((status, document["kind"].as_str()), (500, Some("failed")));
    assert_eq!(served.client().show::<Vec<PortStatus>>("ports").unwrap().len(), 1);
}

#[test]
fn bytes_that_are_not_http_harm_nobody() {
    let served = Served::new();
    for bytes in [&b"\0\0\0\0"[..], b"GET", b"POST /api/v1/apply?file=a HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"] {
        let mut stream = UnixStream::connect(served.path()).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert_eq!(served.client().show::<Vec<WorkerStatus>>("workers").unwrap().len(), 1);
    assert!(served.fake.told.lock().unwrap().is_empty());
}

/// FLD-13: callers that stay silent, and callers that take their time over a question, keep nobody out.
#[test]
fn slow_callers_keep_nobody_out() {
    let served = Served::new();
    let mut patient = UnixStream::connect(served.path()).unwrap();
    let ask = |stream: &mut UnixStream| {
        stream.write_all(b"GET /api/v1/top HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        // The rest of it: what has no length of its own does not come here.
        let mut rest = [0; 4_096];
        let _ = stream.read(&mut rest).unwrap();
    };
    let mut held = Vec::new();
    for number in 0..600 {
        let mut slow = UnixStream::connect(served.path()).unwrap();
        if number % 2 == 0 {
            slow.write_all(b"GET /api/v1/po").unwrap();
        }
        held.push(slow);
        if number % 50 == 0 {
            assert_eq!(served.client().show::<Vec<PortStatus>>("ports").unwrap().len(), 1);
            ask(&mut patient);
        }
    }
    assert_eq!(served.client().show::<Vec<PortStatus>>("ports").unwrap().len(), 1);
    // The first to come were the first to go.
    let mut gone = [0; 1];
    assert_eq!(held[1].read(&mut gone).unwrap_or(0), 0);
}

/// API-03: what callers send is kept whole until it is understood, so large bodies of a call come one at a time. A body that
/// nobody asks for yet has its "100 Continue" still to come.
#[test]
fn large_bodies_come_one_at_a_time() {
    const LONG: usize = 2 << 20;
    let served = Served::new();
    let call = |expected: &str| {
        let mut stream = UnixStream::connect(served.path()).unwrap();
        let head = "POST /api/v1/diff?file=x.toml HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue";
        write!(stream, "{head}\r\n{expected}\r\n\r\n").unwrap();
        stream
    };
    let is_asked = |stream: &mut UnixStream| {
        let mut said = [0; 25];
        stream.read_exact(&mut said).is_ok_and(|()| said == *b"HTTP/1.1 100 Continue\r\n\r\n")
    };
    let long = format!("Content-Length: {LONG}");
    let mut first = call(&long);
    assert!(is_asked(&mut first));
    let mut other = call(&long);
    other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!is_asked(&mut other), "it waits");
    drop(other);
    assert!(is_asked(&mut call("Transfer-Encoding: chunked")), "no more of it is read than of a small one");
    let mut next = call(&long);
    assert_eq!(served.http("GET /api/v1/ports", b"").0, 200);
    assert_eq!(served.http("POST /api/v1/diff?file=x.toml", b"# short\n").0, 200);
    // Nobody waits for what is too long anyway.
    let mut giant = call(&format!("Content-Length: {}", 100 << 20));
    let mut refusal = String::new();
    giant.read_to_string(&mut refusal).unwrap();
    assert!(refusal.starts_with("HTTP/1.1 413") && refusal.contains("longer than 64 MiB"), "{refusal}");
    first.write_all(&[b'\n'; LONG]).unwrap();
    first.read_to_end(&mut Vec::new()).unwrap();
    assert!(is_asked(&mut next), "its turn");
}

/// Both ways of printing, and the end when the appliance stops.
#[test]
fn events_are_followed_until_there_are_no_more() {
    for (line, wanted) in [("events", "port outside has no carrier\n"), ("events --json", "\"link\":\"down\"}\n")] {
        let served = Served::new();
        let fake = Arc::clone(&served.fake);
        let said = std::thread::scope(|scope| {
            let follower = scope.spawn(|| served.millrace(line));
            while fake.bulletin.listeners() == 0 {
                std::thread::yield_now();
            }
            fake.bulletin.tell(Happening::Port { port: "outside".into(), link: Link::Down });
            fake.bulletin.close();
            follower.join().unwrap()
        });
        assert_eq!((said.0, said.2.as_str()), (0, ""), "{said:?}");
        assert!(said.1.contains(wanted), "{said:?}");
    }
}

#[test]
fn stopping_removes_the_socket_and_lets_another_start() {
    for _ in 0..100 {
        let mut served = Served::new();
        let path = served.path();
        served.client().show::<Vec<PortStatus>>("ports").unwrap();
        let server = served.server.take().unwrap();
        served.runtime.block_on(server.stop(Duration::from_secs(60)));
        assert!(!path.exists());
        assert!(matches!(
            served.client().show::<Vec<PortStatus>>("ports").unwrap_err(),
            ClientError::NotRunning { .. }
        ));
    }
}

#[test]
fn no_caller_holds_up_the_stop() {
    let mut served = Served::new();
    // One that never ends its question, and one that never reads its answer, which is longer than what the kernel keeps.
    let mut slow = UnixStream::connect(served.path()).unwrap();
    slow.write_all(b"GET /api/v1/po").unwrap();
    let mut deaf = UnixStream::connect(served.path()).unwrap();
    for _ in 0..64 {
        deaf.write_all(b"GET /api/v1/sessions?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    let mut first = [0; 12];
    deaf.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let (server, path) = (served.server.take().unwrap(), served.path());
    served.runtime.block_on(server.stop(Duration::from_millis(20)));
    assert!(!path.exists());
    assert!(matches!(served.client().show::<Vec<PortStatus>>("ports").unwrap_err(), ClientError::NotRunning { .. }));
    // What is left of them ends with the runtime.
    served.runtime.shutdown_timeout(Duration::from_secs(60));
    drop((slow, deaf));
}

#[test]
fn calls_made_while_the_appliance_starts_are_answered_when_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let bound = ControlSocket::bind(&path).unwrap();
    let early = {
        let path = path.clone();
        std::thread::spawn(move || Client::new(&path).unwrap().show::<Vec<PortStatus>>("ports").unwrap().len())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _server = Server::answer(bound, Arc::new(Fake::default()), runtime.handle()).unwrap();
    assert_eq!(early.join().unwrap(), 1);
}

#[test]
fn commands_print_tables_and_json_and_exit_as_documented() {
    let served = Served::new();
    for what in "ports workers sessions services firewall neighbors routes nat drops top memory policy".split(' ') {
        let (status, answers, complaints) = served.millrace(&format!("show {what}"));
        assert_eq!((status, complaints.as_str()), (0, ""), "{what}");
        assert!(answers.lines().count() > 1, "{what}: {answers}");
        let (status, answers, _) = served.millrace(&format!("show {what} --json"));
        assert_eq!(status, 0, "{what}");
        assert!(serde_json::from_str::<Value>(&answers).is_ok(), "{what}: {answers}");
    }
    let (status, answers, _) = served.millrace("drain service shop");
    assert_eq!((status, answers.as_str()), (0, "no new sessions for 2 backends; 7 sessions to run out\n"));
    for (line, wanted) in [("drain service nobody", 1), ("drain nobody shop", 2), ("show nothing", 2)] {
        let (status, answers, complaints) = served.millrace(line);
        assert_eq!((status, answers.as_str()), (wanted, ""), "{line}");
        assert!(!complaints.is_empty(), "{line}");
    }

    let good = served.folder.path().join("good.toml");
    std::fs::write(&good, "# nothing").unwrap();
    let (status, answers, _) = served.millrace(&format!("apply {}", good.display()));
    assert_eq!((status, answers.as_str()), (0, "edge.toml:3:1: warning[c]: odd\ngeneration 3 is in force\n"));
    let bad = served.folder.path().join("bad.toml");
    std::fs::write(&bad, "fault").unwrap();
    let (status, _, complaints) = served.millrace(&format!("apply {}", bad.display()));
    assert_eq!((status, complaints.lines().count()), (1, 3), "{complaints}");
}

#[test]
fn check_and_doctor_say_every_fault_and_exit_with_1() {
    let served = Served::new();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
    let (status, answers, _) = served.millrace(&format!("check {examples}/edge.toml"));
    assert_eq!((status, answers.trim_end().ends_with("edge.toml: valid")), (0, true), "{answers}");
    let bad = served.folder.path().join("bad.toml");
    std::fs::write(&bad, "colour = 1\n[ports]\n").unwrap();
    for command in ["check", "doctor"] {
        let (status, answers, complaints) = served.millrace(&format!("{command} {}", bad.display()));
        assert_eq!((status, answers.as_str()), (1, ""), "{complaints}");
        assert!(complaints.contains("bad.toml:1:1: error[") && complaints.contains("bad.toml:2:"), "{complaints}");
    }
    // The examples' interfaces are on no machine until somebody makes them.
    let (status, answers, _) = served.millrace(&format!("doctor --json {examples}/edge.toml"));
    let findings: Value = serde_json::from_str(&answers).unwrap();
    let missing = findings.as_array().unwrap().iter().any(|finding| finding["state"] == "missing");
    assert_eq!(status, u8::from(missing));
}
