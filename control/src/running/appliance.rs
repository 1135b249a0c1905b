//! What the API asks of the running appliance, call by call.

use std::sync::Arc;
use std::time::Duration;

use stage::DropReason;
use stage::balancer::Backend;
use stage::limiter::OpenSessions;
use units::{Generation, PortId};
use worker::Snapshot;

use super::documents::{
    action_name, blocklist_statuses, forward_statuses, pool_statuses, port_status, service_statuses,
    session_log_status, top, worker_status,
};
use super::{PATIENCE, Running, late, lock, placed};
use crate::admin::{Appliance, Feed, Sessions};
use crate::amendment::{Amended, Amendment, Configuration};
use crate::blocklist;
use crate::bulletin::Listener;
use crate::capture::CaptureWanted;
use crate::event::Request;
use crate::generation::{Plan, Proposal};
use crate::session_match::SessionMatch;
use crate::status::{
    Applied, Changed, Drops, FirewallStatus, MemoryStatus, NatStatus, NeighborStatus, PolicyStatus, PortStatus,
    ProgressStatus, RedirectionStatus, Refusal, RefusalKind, Reload, Reloaded, RestartStatus, RouteStatus, RuleStatus,
    ServiceStatus, SessionLogStatus, StagedStatus, Supposed, Target, TopStatus, TraceNews, TraceStatus, WorkerStatus,
};
use crate::trace::pattern::PacketPattern;

impl Appliance for Running {
    fn ports(&self) -> Vec<PortStatus> {
        let policy = Arc::clone(&lock(&self.state).policy);
        let fixed = self.fixed.devices.iter().zip(&self.fixed.ports);
        policy
            .ports
            .iter()
            .zip((0..).map(PortId::new))
            .zip(fixed)
            .map(|((port, number), (device, view))| {
                let zone = policy.zones.get(port.zone.index()).cloned().unwrap_or_default();
                let other = policy.pair_of(number).and_then(|(_, other)| policy.ports.get(other.index()));
                let pair = other.map(|other| other.name.clone());
                port_status(port, zone, pair, device.mac.to_string(), &view.counters())
            })
            .collect()
    }

    fn workers(&self) -> Vec<WorkerStatus> {
        let now = self.fixed.clock.now();
        self.fixed.workers.iter().map(|view| worker_status(view, now)).collect()
    }

    fn sessions(&self, wanted: &SessionMatch, limit: usize) -> Result<Sessions, Refusal> {
        self.copied(wanted, limit)
    }

    fn services(&self) -> Vec<ServiceStatus> {
        let mut services = service_statuses(&self.snapshot().services, self.fixed.clock.now());
        let state = lock(&self.state);
        for service in &mut services {
            let standing = state.redirections.as_ref().and_then(|all| all.standing(&service.name));
            service.redirection = standing.as_ref().map(RedirectionStatus::from);
        }
        services
    }

    fn firewall(&self) -> FirewallStatus {
        let (snapshot, files) = {
            let state = lock(&self.state);
            (Arc::clone(&state.snapshot), state.policy.blocklists.clone())
        };
        FirewallStatus {
            blocklists: blocklist_statuses(snapshot.sources.blocklists(), &files),
            default: action_name(snapshot.rules.default_action()).to_owned(),
            default_hits: snapshot.rules.default_hits(),
            rules: snapshot
                .rules
                .counts()
                .map(|rule| RuleStatus {
                    name: rule.name.to_owned(),
                    action: action_name(rule.action).to_owned(),
                    hits: rule.hits,
                    rate_limited: rule.limited_by_rule,
                    source_limited: rule.limited_by_source,
                })
                .collect(),
        }
    }

    fn neighbors(&self) -> Vec<NeighborStatus> {
        let (snapshot, now) = (self.snapshot(), self.fixed.clock.now());
        let mut neighbors = self.ask(Request::Neighbors).unwrap_or_default();
        neighbors.sort_by_key(|neighbor| (neighbor.port, neighbor.address));
        neighbors
            .iter()
            .map(|neighbor| NeighborStatus {
                port: snapshot.port(neighbor.port).map(|facts| facts.name.clone()).unwrap_or_default(),
                address: neighbor.address,
                mac: neighbor.mac.map(|mac| mac.to_string()),
                state: neighbor.state.name().to_owned(),
                age_ms: now.since(neighbor.confirmed).as_millis(),
            })
            .collect()
    }

    fn routes(&self) -> Vec<RouteStatus> {
        let policy = Arc::clone(&lock(&self.state).policy);
        policy
            .route_table()
            .iter()
            .map(|route| RouteStatus {
                to: route.to,
                via: route.via,
                port: policy.ports.get(route.port.index()).map(|port| port.name.clone()).unwrap_or_default(),
            })
            .collect()
    }

    fn nat(&self) -> NatStatus {
        let snapshot = self.snapshot();
        NatStatus { pools: pool_statuses(&snapshot), forwards: forward_statuses(&snapshot) }
    }

    fn session_log(&self) -> SessionLogStatus {
        let (policy, log) = {
            let state = lock(&self.state);
            (Arc::clone(&state.policy), state.snapshot.session_log.clone())
        };
        let records = self.fixed.workers.iter().map(|view| view.counters.log_records.get()).sum();
        SessionLogStatus {
            records,
            lost: self.records_lost(),
            waiting: log.map_or(0, |log| log.waiting() as u64),
            ..session_log_status(policy.session_log.as_ref(), &self.session_tally)
        }
    }

    fn restart(&self) -> RestartStatus {
        self.fixed.restart.clone()
    }

    fn drops(&self) -> Drops {
        let workers = &self.fixed.workers;
        let sum = |reason| workers.iter().map(|view| view.counters.dropped(reason)).sum();
        DropReason::all().map(|reason| (reason.name().to_owned(), sum(reason))).collect()
    }

    fn top(&self) -> TopStatus {
        top(&self.fixed.workers, &self.snapshot().tenants, self.fixed.clock.now())
    }

    fn trace(&self, wanted: &PacketPattern, count: usize, span: Duration) -> Result<Feed<TraceNews>, Refusal> {
        self.follow(wanted, count, span)
    }

    fn capture(&self, wanted: &CaptureWanted) -> Result<Feed<u8>, Refusal> {
        self.take_frames(wanted)
    }

    fn suppose(&self, packets: &[Supposed]) -> Result<Vec<TraceStatus>, Refusal> {
        self.rehearse(packets)
    }

    fn memory(&self) -> MemoryStatus {
        let buffers = (self.fixed.buffers)();
        let (snapshot, capacity) = {
            let state = lock(&self.state);
            (Arc::clone(&state.snapshot), state.policy.sessions.capacity as u64)
        };
        let rule_bytes = (snapshot.rules.memory()
            + snapshot.sources.blocklists().memory()
            + snapshot.source_limits.open().map_or(0, OpenSessions::memory)) as u64;
        let route_bytes = snapshot.routes.memory() as u64;
        let service_bytes = snapshot.services.memory() as u64;
        let log_bytes = snapshot.session_log.as_ref().map_or(0, |log| log.bytes()) as u64;
        let tables = rule_bytes + route_bytes + service_bytes + log_bytes;
        MemoryStatus {
            buffers_total: buffers.total,
            buffers_in_use: buffers.in_use,
            sessions_capacity: capacity,
            sessions_in_use: self.fixed.workers.iter().map(|view| view.counters.sessions.get()).sum(),
            bytes: buffers.bytes + self.fixed.session_bytes + tables,
            buffer_bytes: buffers.bytes,
            session_bytes: self.fixed.session_bytes,
            rule_bytes,
            route_bytes,
            service_bytes,
            log_bytes,
        }
    }

    fn policy(&self) -> PolicyStatus {
        self.generations()
    }

    fn progress(&self) -> Option<ProgressStatus> {
        self.progress.status()
    }

    fn stage(&self, proposal: &Proposal) -> Result<StagedStatus, Refusal> {
        self.put_on_probation(proposal)
    }

    fn unstage(&self) -> Result<StagedStatus, Refusal> {
        self.end_probation()
    }

    fn staged(&self) -> StagedStatus {
        self.probation()
    }

    fn listen(&self) -> Listener {
        self.bulletin.listen()
    }

    fn configuration(&self) -> Configuration {
        lock(&self.state).objects.clone()
    }

    fn amend(&self, amendment: &Amendment) -> Result<Amended, Refusal> {
        self.put_amended_in_force(amendment)
    }

    fn diff(&self, text: &str, name: &str) -> Result<Plan, Refusal> {
        self.plan(text, name)
    }

    fn apply(&self, proposal: &Proposal) -> Result<Applied, Refusal> {
        self.put_in_force(proposal)
    }

    fn confirm(&self) -> Result<Applied, Refusal> {
        self.keep()
    }

    fn rollback(&self, generation: Option<u64>, who: &str) -> Result<Applied, Refusal> {
        self.go_back(generation, who)
    }

    fn reload(&self, what: &Reload) -> Result<Reloaded, Refusal> {
        let Reload::Blocklist(name) = what;
        let _turn = self.undisturbed_turn()?;
        let (before, policy) = {
            let state = lock(&self.state);
            (Arc::clone(&state.snapshot), Arc::clone(&state.policy))
        };
        let Some(list) = policy.blocklists.iter().find(|list| list.name == *name) else {
            let advice = "`millrace show firewall` lists them";
            return Err(Refusal::new(RefusalKind::NotFound, format!("there is no blocklist {name}; {advice}")));
        };
        let prefixes = blocklist::read(&list.file).map_err(|why| {
            let lines = why.lines().map(str::to_owned).collect();
            Refusal::new(RefusalKind::PolicyInvalid, format!("blocklist {name} is as it was")).with_faults(lines)
        })?;
        let lists = before.sources.blocklists().with(name, &prefixes);
        // Another generation, so that sessions of whoever is on the list now are judged again.
        let generation = Generation::new(self.ledger.next());
        let sources = Arc::new(before.sources.with(lists));
        let snapshot = Arc::new(Snapshot { generation, sources, ..Snapshot::clone(&before) });
        lock(&self.state).snapshot = Arc::clone(&snapshot);
        self.ledger.reread(generation.get(), format!("blocklist {name}, read again"));
        self.hand_over(snapshot, placed(&policy), Vec::new())?.recv_timeout(PATIENCE).map_err(|_| late())?;
        let (count, bytes) = (prefixes.prefixes() as u64, prefixes.memory() as u64);
        self.tell_of(generation.get());
        log::info!("generation {generation} is in force: blocklist {name} has {count} prefixes");
        Ok(Reloaded { generation: generation.get(), prefixes: count, bytes })
    }

    fn drain(&self, target: &Target) -> Result<Changed, Refusal> {
        let snapshot = self.snapshot();
        let backends = Self::target(&snapshot, target)?;
        let now = self.fixed.clock.now();
        for backend in &backends {
            backend.drain(crate::compile::drain_end(&snapshot, backend.service(), now));
        }
        let sessions = backends.iter().map(|backend| backend.active()).sum();
        self.rebuild()?;
        Ok(Changed { backends: backends.len() as u64, sessions })
    }

    fn undrain(&self, target: &Target) -> Result<Changed, Refusal> {
        let backends = Self::target(&self.snapshot(), target)?;
        for backend in &backends {
            backend.undrain();
        }
        let sessions = backends.iter().map(|backend| backend.active()).sum();
        self.rebuild()?;
        Ok(Changed { backends: backends.len() as u64, sessions })
    }

    fn flush(&self, target: &Target) -> Result<Changed, Refusal> {
        let backends = Self::target(&self.snapshot(), target)?;
        self.flush_backends(backends)
    }
}

impl Running {
    fn target(snapshot: &Snapshot, target: &Target) -> Result<Vec<Arc<Backend>>, Refusal> {
        let named: Vec<Arc<Backend>> = snapshot
            .services
            .iter()
            .flat_map(|service| service.members().iter().map(move |member| (service, member)))
            .filter(|(service, member)| match target {
                Target::Service(name) => service.spec().name == *name,
                Target::Backend(name) => match name.split_once('/') {
                    Some((of, backend)) => service.spec().name == of && member.backend.name() == backend,
                    None => member.backend.name() == name,
                },
            })
            .map(|(_, member)| Arc::clone(&member.backend))
            .collect();
        if named.is_empty() {
            let (kind, name) = match target {
                Target::Service(name) => ("service", name),
                Target::Backend(name) => ("backend", name),
            };
            let advice = "`millrace show services` lists them";
            return Err(Refusal::new(RefusalKind::NotFound, format!("there is no {kind} {name}; {advice}")));
        }
        Ok(named)
    }

    fn flush_backends(&self, backends: Vec<Arc<Backend>>) -> Result<Changed, Refusal> {
        let count = backends.len() as u64;
        let sessions = self.ask(|reply| Request::Flush(backends.into(), reply))?;
        Ok(Changed { backends: count, sessions })
    }
}
