//! A small appliance that answers with fixed documents, and what serves it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use control::admin::{Appliance, Feed, Server, Sessions};
use control::amendment::{Amended, Amendment, Configuration};
use control::bulletin::{Bulletin, Listener};
use control::capture::CaptureWanted;
use control::cli::Cli;
use control::client::Client;
use control::command::{self, Console};
use control::generation::{Plan, Proposal};
use control::session_match::SessionMatch;
use control::status::*;
use control::trace::pattern::PacketPattern;
use serde_json::Value;

/// Answers with fixed documents and remembers what it was told.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) bulletin: Bulletin,
    pub(crate) told: Mutex<Vec<String>>,
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
pub(crate) struct Served {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) fake: Arc<Fake>,
    pub(crate) server: Option<Server>,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Served {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let fake = Arc::new(Fake::default());
        let appliance: Arc<dyn Appliance> = Arc::clone(&fake) as _;
        let server = Server::start(&folder.path().join("control.sock"), appliance, runtime.handle()).unwrap();
        Self { folder, fake, server: Some(server), runtime }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.path()).unwrap()
    }

    /// Plain HTTP, as curl would speak it: status and document.
    pub(crate) fn http(&self, head: &str, body: &[u8]) -> (u16, Value) {
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
    pub(crate) fn millrace(&self, line: &str) -> (u8, String, String) {
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

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
