//! Policies coming into force in a rig, and what an operator or a health probe does to backends, in the steps the daemon
//! takes (`control`'s launch and `running`).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use config::Policy;
use control::compile::{Device, PlainTables, compile, drain_end};
use control::event::{Publication, Request};
use crossbeam::channel::{Receiver, bounded};
use stage::balancer::{Backend, Health};
use units::{Generation, Nanos, PortId};
use wire::MacAddr;
use worker::Snapshot;

use super::{Rig, parts, standing};

/// Decides which worker owns what; the same in every rig, so that a failure repeats.
const STEER_SECRET: u64 = 0x7374_6565_7269_6e67;

pub(super) fn load(text: &str) -> Policy {
    match config::load(text, Path::new("rig.toml")) {
        Ok(checked) => checked.policy,
        Err(faults) => panic!("the rig's policy is not valid:\n{faults}"),
    }
}

pub(super) fn placed(policy: &Policy) -> Vec<(PortId, IpAddr, MacAddr)> {
    policy.neighbors.iter().map(|neighbor| (neighbor.port, neighbor.address, neighbor.mac)).collect()
}

/// The first tables, with every backend up.
pub(super) fn first_tables(policy: &Policy, devices: &[Device]) -> Snapshot {
    let snapshot = compile(policy, devices, Generation::new(1), None, &PlainTables, STEER_SECRET)
        .unwrap_or_else(|why| panic!("the rig's policy does not compile: {why}"));
    snapshot.services.enact(None, Nanos::ZERO);
    all_up(&snapshot);
    let services = Arc::new(snapshot.services.rebuilt());
    Snapshot { services, ..snapshot }
}

fn all_up(snapshot: &Snapshot) {
    for service in snapshot.services.iter() {
        for member in service.members() {
            if member.backend.health() == Health::Unknown {
                member.backend.set_health(Health::Up);
            }
        }
    }
}

impl Rig {
    /// Puts another policy in force and waits until every worker has moved on.
    pub fn publish(&mut self, text: &str) {
        let done = self.send_policy(text);
        self.settle();
        assert!(done.try_recv().is_ok(), "not every worker has moved on to the new policy");
    }

    /// As [`Rig::publish`], of [`TWO_PORTS`](super::TWO_PORTS) and `more`.
    pub fn publish_more(&mut self, more: &str) {
        self.publish(&format!("{}{more}", super::TWO_PORTS));
    }

    /// Hands another policy to control and does not wait; the receiver hears when every worker has moved on.
    pub fn send_policy(&mut self, text: &str) -> Receiver<()> {
        let policy = load(text);
        let devices = parts::devices(&policy, &self.macs);
        let before = Arc::clone(&self.snapshot);
        let next = before.generation.next();
        let snapshot = compile(&policy, &devices, next, Some(&before), &PlainTables, STEER_SECRET)
            .unwrap_or_else(|why| panic!("the rig's policy does not compile: {why}"));
        let removed = snapshot.services.enact(Some(&before.services), self.now());
        all_up(&snapshot);
        let services = Arc::new(snapshot.services.rebuilt());
        let snapshot = Arc::new(Snapshot { services, ..snapshot });
        self.longest_timeout = self.longest_timeout.max(standing::longest(&snapshot.timeouts));
        self.policy = policy;
        self.hand_over(snapshot, removed)
    }

    fn hand_over(&mut self, snapshot: Arc<Snapshot>, removed: Vec<Arc<Backend>>) -> Receiver<()> {
        let (done, moved_on) = bounded(1);
        self.snapshot = Arc::clone(&snapshot);
        let neighbors = placed(&self.policy);
        let publication = Publication { snapshot, neighbors, removed, done };
        self.requests.send(Request::Publish(publication)).expect("the steward listens");
        moved_on
    }

    /// A backend of a service in force.
    #[must_use]
    pub fn backend(&self, service: &str, backend: &str) -> Arc<Backend> {
        let members = self.snapshot.services.by_name(service).expect("a service of this name").members();
        let found = members.iter().find(|member| member.backend.name() == backend);
        Arc::clone(&found.expect("a backend of this name").backend)
    }

    /// Sessions in progress of each backend of a service (SE-48).
    #[must_use]
    pub fn active(&self, service: &str) -> Vec<u64> {
        let members = self.snapshot.services.by_name(service).expect("a service of this name").members();
        members.iter().map(|member| member.backend.active()).collect()
    }

    /// The probes of a backend have found this.
    pub fn health(&mut self, service: &str, backend: &str, health: Health) {
        if self.backend(service, backend).set_health(health) {
            self.renew();
        }
    }

    /// The operator drains a backend.
    pub fn drain(&mut self, service: &str, backend: &str) {
        let end = drain_end(&self.snapshot, service, self.now());
        self.backend(service, backend).drain(end);
        self.renew();
    }

    /// The operator flushes a backend. Returns how many sessions ended.
    pub fn flush(&mut self, service: &str, backend: &str) -> u64 {
        let (done, ended) = bounded(1);
        let backends = Arc::from([self.backend(service, backend)]);
        self.requests.send(Request::Flush(backends, done)).expect("the steward listens");
        loop {
            self.turn();
            self.control();
            if let Ok(sessions) = ended.try_recv() {
                self.settle();
                return sessions;
            }
        }
    }

    /// The tables of the balancer follow what has changed.
    fn renew(&mut self) {
        if self.snapshot.services.is_outdated() {
            let services = Arc::new(self.snapshot.services.rebuilt());
            let snapshot = Arc::new(Snapshot { services, ..Snapshot::clone(&self.snapshot) });
            let _ = self.hand_over(snapshot, Vec::new());
        }
        self.settle();
    }

    /// How often a rule was hit, and of that turned away by its own limit and by that of a source.
    #[must_use]
    pub fn hits(&self, rule: &str) -> (u64, u64, u64) {
        let counts = self.snapshot.rules.counts().find(|counts| counts.name == rule);
        let counts = counts.unwrap_or_else(|| panic!("there is no rule {rule}"));
        (counts.hits, counts.limited_by_rule, counts.limited_by_source)
    }
}
