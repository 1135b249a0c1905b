//! Facts of the running appliance as management sees it. The test plays control: it answers what is asked, or does not.

mod redirected;
mod seeing;
mod staged;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::unbounded;
use stage::balancer::{Fate, Health};
use units::{Generation, Nanos};

use super::*;
use crate::admin::Appliance;
use crate::compile::{PlainTables, compile};
use crate::generation::Proposal;
use crate::health::Report;
use crate::session_match::SessionMatch;
use crate::status::{Applied, Changed, Reload, StagedStatus, Target};
use crate::store::{Store, Volatile};

pub(super) const EDGE: &str = include_str!("../../../config/examples/edge.toml");

/// Time that stands still until it is told.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        0
    }
}

/// A port that has counted something.
struct Counted(u64);

impl PortView for Counted {
    fn counters(&self) -> DeviceCounters {
        let kernel = KernelCounters { delivered: 10, refused: 2 + self.0, sent: 30, oversized: 4 + self.0 };
        DeviceCounters { up: true, rx_packets: 100 + self.0, kernel, ..DeviceCounters::default() }
    }

    fn answer_for(&self, _snapshot: &Snapshot) {}
}

pub(crate) struct Bench {
    clock: Hand,
    pub(crate) appliance: Arc<Running>,
    pub(crate) asked: Receiver<Request>,
}

impl Bench {
    /// The appliance of `config/examples/edge.toml`, every backend up.
    pub(crate) fn new() -> Self {
        Self::keeping(Box::new(Volatile::default()))
    }

    /// The same, its generations kept in this store.
    pub(super) fn keeping(store: Box<dyn Store>) -> Self {
        let checked = config::load(EDGE, Path::new("edge.toml")).unwrap();
        let policy = checked.policy.clone();
        let start = Start::anew(checked, EDGE.to_owned(), "edge.toml", Ledger::open(store).unwrap());
        let device = Device { mac: MacAddr::new([2, 0, 0, 0, 0, 1]), kernel: true };
        let devices = vec![device; policy.ports.len()];
        let snapshot = compile(&policy, &devices, start.generation(), None, &PlainTables, 0).unwrap();
        snapshot.services.enact(None, Nanos::ZERO);
        for member in snapshot.services.iter().flat_map(stage::balancer::Service::members) {
            member.backend.set_health(Health::Up);
        }
        let services = Arc::new(snapshot.services.rebuilt());
        let snapshot = Arc::new(Snapshot { services, ..snapshot });
        let (requests, asked) = unbounded();
        let clock = Hand::default();
        let fixed = Fixed {
            requests,
            devices,
            ports: (0..2).map(|number| Box::new(Counted(number)) as Box<dyn PortView>).collect(),
            workers: Vec::new(),
            tables: Box::new(PlainTables),
            clock: Box::new(clock.clone()),
            buffers: Box::new(BufferUse::default),
            filters: Box::new(|_| Err("there is no filter here".to_owned())),
            session_bytes: 0,
            steer_secret: 0,
            restart: RestartStatus::default(),
        };
        let appliance = Running::new(fixed, start, snapshot, Vec::new());
        Self { clock, appliance, asked }
    }

    /// Applies a text for good.
    pub(super) fn apply(&self, text: &str, source: &str) -> Result<Applied, Refusal> {
        self.appliance.apply(&Proposal::apply(text, source, "op"))
    }

    /// Control that puts everything in force at once and has neither sessions nor neighbors, until the test's end.
    pub(crate) fn obliging(&self) {
        let asked = self.asked.clone();
        std::thread::spawn(move || {
            while let Ok(request) = asked.recv() {
                let _ = match request {
                    Request::Publish(publication) => publication.done.send(()).is_ok(),
                    Request::Sessions(reader) => reader.send(Vec::new()).is_ok(),
                    Request::Neighbors(reply) => reply.send(Vec::new()).is_ok(),
                    Request::Flush(_, reply) => reply.send(0).is_ok(),
                    // No packet comes: it ends as soon as it has begun.
                    Request::Capture(capture) => capture.begun.send(true).is_ok(),
                    Request::Trace(_) | Request::Unplug(_) | Request::Plug(_) | Request::Greet(_) => false,
                    Request::Stop => return,
                };
            }
        });
    }

    /// The turn of whoever changes tables: until it is dropped, nobody else comes to it.
    pub(crate) fn turn(&self) -> crate::generation::Place<'_> {
        self.appliance.turns.wait()
    }

    /// A probe finds that one has failed.
    pub(crate) fn fail_a_backend(&self) {
        let failed = report(Health::Failed, Err("connection refused".into()));
        self.finds([failed]).join().expect("nobody else attends to it");
    }

    fn backend(&self, service: &str, name: &str) -> Arc<Backend> {
        let snapshot = self.appliance.snapshot();
        let members = snapshot.services.by_name(service).unwrap().members();
        Arc::clone(&members.iter().find(|member| member.backend.name() == name).unwrap().backend)
    }

    /// Does something that waits for control, on a thread of its own.
    pub(super) fn spawn<T: Send + 'static>(&self, work: impl FnOnce(&Running) -> T + Send + 'static) -> JoinHandle<T> {
        let appliance = Arc::clone(&self.appliance);
        std::thread::spawn(move || work(&appliance))
    }

    /// Probes find this, and end; the appliance attends to it on a thread of its own.
    fn finds(&self, reports: impl IntoIterator<Item = Report>) -> JoinHandle<()> {
        let (finding, found) = unbounded();
        reports.into_iter().for_each(|report| finding.send(report).unwrap());
        let appliance = Arc::downgrade(&self.appliance);
        std::thread::spawn(move || Running::attend_probes(&appliance, &found))
    }

    pub(super) fn publication(&self) -> Publication {
        match self.asked.recv().unwrap() {
            Request::Publish(publication) => publication,
            other => panic!("{other:?}"),
        }
    }
}

fn report(health: Health, outcome: Result<Duration, String>) -> Report {
    let address = "10.0.0.11:8080".parse().unwrap();
    Report { service: "shop".into(), backend: "shop-a".into(), address, health, changed: false, outcome }
}

/// The example without its second backend.
pub(super) fn without_shop_b() -> String {
    let table = "[[virtual_service.backend]]\nname = \"shop-b\"\naddress = \"10.0.0.12\"\nport = 8080\nweight = 2\n";
    assert!(EDGE.contains(table));
    EDGE.replace(table, "")
}

#[test]
fn a_probe_that_has_not_judged_yet_changes_nothing() {
    // A policy that probes in another way starts new tallies: what was known holds until they have judged.
    let bench = Bench::new();
    bench.finds([report(Health::Unknown, Ok(Duration::from_micros(700)))]).join().unwrap();
    let backend = bench.backend("shop", "shop-a");
    assert_eq!((backend.health(), backend.response_us()), (Health::Up, 700));
    assert!(bench.asked.is_empty(), "no new tables");
    let found = bench.finds([report(Health::Failed, Err("refused".into()))]);
    bench.publication().done.send(()).unwrap();
    found.join().unwrap();
    assert_eq!(bench.backend("shop", "shop-a").health(), Health::Failed);
}

/// However many backends come and go while the tables cannot be renewed, one thread waits, and renews them once.
#[test]
fn what_probes_have_found_meanwhile_is_put_in_force_at_once() {
    let bench = Bench::new();
    let second = Report {
        backend: "shop-b".into(),
        address: "10.0.0.12:8080".parse().unwrap(),
        ..report(Health::Failed, Err("refused".into()))
    };
    let found = bench.finds([report(Health::Failed, Err("refused".into())), second]);
    bench.publication().done.send(()).unwrap();
    found.join().unwrap();
    assert!(bench.asked.is_empty(), "no second publication");
    let failed = ["shop-a", "shop-b"].map(|name| bench.backend("shop", name).health());
    assert_eq!(failed, [Health::Failed; 2]);
}

#[test]
fn backends_fail_while_somebody_else_has_the_turn() {
    let bench = Bench::new();
    bench.obliging();
    let turn = bench.appliance.turns.wait();
    let second = Report {
        backend: "shop-b".into(),
        address: "10.0.0.12:8080".parse().unwrap(),
        ..report(Health::Failed, Err("refused".into()))
    };
    let (finding, found) = unbounded();
    let appliance = Arc::downgrade(&bench.appliance);
    let attending = std::thread::spawn(move || Running::attend_probes(&appliance, &found));
    for (report, name) in [(report(Health::Failed, Err("refused".into())), "shop-a"), (second, "shop-b")] {
        finding.send(report).unwrap();
        // The turn is held: were it waited for, this would never come.
        while bench.backend("shop", name).health() != Health::Failed {
            std::thread::yield_now();
        }
    }
    drop((turn, finding));
    attending.join().unwrap();
    assert!(!bench.appliance.snapshot().services.is_outdated(), "the tables follow when the turn has come");
}

#[test]
fn the_state_is_read_while_a_publication_is_waited_for() {
    // A7: the workers take their time, and every `show` answers all the same.
    let bench = Bench::new();
    let found = bench.finds([report(Health::Failed, Err("refused".into()))]);
    let publication = bench.publication();
    assert_eq!(bench.appliance.services()[0].backends[0].health, crate::status::HealthStatus::Failed);
    assert_eq!(bench.appliance.policy().current.generation, 1);
    publication.done.send(()).expect("management still waits: the state was not locked until it gave up");
    found.join().unwrap();
}

#[test]
fn what_the_operator_drains_is_put_back_by_the_operator_alone() {
    let bench = Bench::new();
    bench.obliging();
    let (one, all) = (Target::Backend("shop/shop-a".into()), Target::Service("shop".into()));
    let health = || bench.appliance.services()[0].backends.iter().map(|it| it.health).collect::<Vec<_>>();
    use crate::status::HealthStatus::{Disabled, Draining, Up};
    assert_eq!(bench.appliance.drain(&one).unwrap().backends, 1);
    assert_eq!(health(), [Draining, Up]);
    bench.clock.0.store(Nanos::from_secs(31).get(), Ordering::Relaxed);
    assert_eq!(health(), [Disabled, Up]);
    bench.apply(EDGE, "edge.toml").unwrap();
    assert_eq!(health(), [Disabled, Up], "an applied policy does not undo it");
    assert_eq!(bench.appliance.undrain(&one).unwrap(), Changed { backends: 1, sessions: 0 });
    assert_eq!(health(), [Up, Up]);
    let snapshot = bench.appliance.snapshot();
    assert!(snapshot.services.by_name("shop").unwrap().members()[0].selectable());
    assert!(!snapshot.services.is_outdated(), "the tables in force follow");

    bench.appliance.drain(&all).unwrap();
    assert_eq!(health(), [Draining, Draining]);
    assert_eq!(bench.appliance.undrain(&all).unwrap().backends, 2);
    assert_eq!(health(), [Up, Up]);
    let nobody = bench.appliance.undrain(&Target::Backend("shop-x".into())).unwrap_err();
    assert_eq!(nobody.kind, RefusalKind::NotFound);
}

#[test]
fn what_the_operator_drains_stays_drained_through_policies_that_do_not_have_it() {
    let bench = Bench::new();
    bench.obliging();
    bench.appliance.drain(&Target::Backend("shop/shop-b".into())).unwrap();
    for text in [&without_shop_b(), &EDGE.replace("shop-b", "shop-x"), EDGE] {
        bench.apply(text, "edge.toml").unwrap();
    }
    let drained = bench.backend("shop", "shop-b");
    assert_eq!(drained.admin(Nanos::ZERO), stage::balancer::Admin::Draining);
    drop(drained);
    bench.appliance.undrain(&Target::Backend("shop/shop-b".into())).unwrap();
    assert_eq!(bench.backend("shop", "shop-b").admin(Nanos::ZERO), stage::balancer::Admin::Enabled);
}

#[test]
fn a_rollback_gives_a_backend_its_sessions_back() {
    let bench = Bench::new();
    bench.obliging();
    let user = bench.backend("shop", "shop-b");
    user.opened();
    bench.apply(&without_shop_b(), "less.toml").unwrap();
    assert_eq!(bench.appliance.services()[0].backends.len(), 1);
    assert_eq!(user.fate(Nanos::from_secs(30)), Fate::Drained);
    bench.apply(EDGE, "edge.toml").unwrap();
    assert!(Arc::ptr_eq(&bench.backend("shop", "shop-b"), &user));
    assert_eq!((user.active(), user.fate(Nanos::from_secs(30))), (1, Fate::Stays));
    let sources: Vec<String> = bench.appliance.policy().history.into_iter().map(|before| before.source).collect();
    assert_eq!(sources, ["less.toml", "edge.toml"], "those before it, newest first");
}

#[test]
fn sessions_that_were_not_copied_to_the_end_are_not_taken_for_all() {
    // API-05.
    let bench = Bench::new();
    for complete in [true, false] {
        let shown = bench.spawn(|appliance| {
            let mut sessions = appliance.sessions(&SessionMatch::default(), 10)?;
            sessions()
        });
        let Request::Sessions(reader) = bench.asked.recv().unwrap() else { panic!("not asked for sessions") };
        if complete {
            reader.send(Vec::new()).unwrap();
        }
        drop(reader);
        assert_eq!(
            shown.join().unwrap().map_err(|refusal| refusal.kind),
            if complete { Ok(None) } else { Err(RefusalKind::Busy) }
        );
    }
}

#[test]
fn what_went_to_the_kernel_and_what_it_refused_is_shown_with_its_port() {
    let ports = Bench::new().appliance.ports();
    let kernel = |number: usize| {
        let port = &ports[number];
        [port.kernel_delivered, port.kernel_refused, port.kernel_sent, port.kernel_oversized]
    };
    assert_eq!((kernel(0), kernel(1)), ([10, 2, 30, 4], [10, 3, 30, 5]));
    assert_eq!((ports[1].rx_packets, ports[1].kernel_interface.as_deref()), (101, Some("mr-inside")));
}

/// A blocklist is read again alone; a faulty file changes nothing.
#[test]
fn a_blocklist_is_read_again_alone() {
    let bench = Bench::new();
    bench.obliging();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.txt");
    let text = format!("{EDGE}\n[[blocklist]]\nname = \"bad\"\nfile = \"{}\"\n", file.display());
    let refusal = bench.apply(&text, "edge.toml").unwrap_err();
    assert!(refusal.message.contains("list.txt"), "a list that is not there: {refusal}");
    std::fs::write(&file, "192.0.2.0/24\n").unwrap();
    assert_eq!(bench.apply(&text, "edge.toml").unwrap().generation, 2);

    std::fs::write(&file, "192.0.2.0/24\n203.0.113.0/24\n").unwrap();
    let again = Reload::Blocklist("bad".into());
    let reloaded = bench.appliance.reload(&again).unwrap();
    assert_eq!((reloaded.generation, reloaded.prefixes), (3, 2));
    let blocked = |address: &str| {
        let snapshot = bench.appliance.snapshot();
        snapshot.sources.blocklists().by_name("bad").unwrap().prefixes().contains(address.parse().unwrap())
    };
    assert!(blocked("203.0.113.7") && !blocked("198.51.100.7"));
    assert_eq!(bench.appliance.policy().current.source, "blocklist bad, read again");
    assert_eq!(bench.appliance.firewall().blocklists[0].prefixes, 2);

    std::fs::write(&file, "198.51.100.0/24\nnonsense\n").unwrap();
    let refusal = bench.appliance.reload(&again).unwrap_err();
    assert_eq!((refusal.kind, refusal.faults.len()), (RefusalKind::PolicyInvalid, 1));
    assert!(refusal.faults[0].contains("list.txt:2:"), "{refusal:?}");
    assert!(blocked("203.0.113.7") && !blocked("198.51.100.7"));
    assert_eq!(bench.appliance.policy().current.generation, 3);
    let unknown = bench.appliance.reload(&Reload::Blocklist("good".into())).unwrap_err();
    assert_eq!(unknown.kind, RefusalKind::NotFound);
}
