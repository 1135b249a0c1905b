//! The running appliance as the API sees it: counters read where workers keep them, sessions and neighbors asked of
//! control, policies compiled and published (`changes`).
//!
//! Lives on management threads. Whoever changes something waits for its turn; reading takes a lock only long enough to copy
//! a pointer. Nothing here is on the packet path.

mod capturing;
mod changes;
mod copies;
mod documents;
mod present;
mod seeing;
mod staged;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use config::Policy;
use crossbeam::channel::{Receiver, Sender, bounded};
use stage::DropReason;
use stage::balancer::{Backend, Health};
use stage::limiter::OpenSessions;
use units::{Generation, Nanos, PortId};
use wire::MacAddr;
use worker::{Clock, FrameFilter, Snapshot, WorkerCounters};

use crate::admin::{Appliance, Feed, Sessions};
use crate::amendment::{Amended, Amendment, Configuration};
use crate::blocklist;
use crate::bulletin::{Bulletin, Happening, Listener};
use crate::capture::CaptureWanted;
use crate::compile::{Device, TableMaker};
use crate::event::{Publication, Request};
use crate::generation::{Ledger, Plan, Proposal, Start, Trial, Turns};
use crate::health::{Prober, Report, targets};
use crate::kernel::Interface;
use crate::progress::Progress;
use crate::redirection::{Asked, Hook, Redirections, Turn, wanted};
use crate::session_log::{self, Tally};
use crate::session_match::SessionMatch;
use crate::status::{
    Applied, Changed, Drops, FirewallStatus, MemoryStatus, NatStatus, NeighborStatus, PolicyStatus, PortStatus,
    ProgressStatus, RedirectionStatus, Refusal, RefusalKind, Reload, Reloaded, RestartStatus, RouteStatus, RuleStatus,
    ServiceStatus, SessionLogStatus, StagedStatus, Supposed, Target, TopStatus, TraceNews, TraceStatus, WorkerStatus,
};
use crate::trace::pattern::PacketPattern;
use documents::{
    action_name, blocklist_statuses, forward_statuses, health_status, pool_statuses, port_status, service_statuses,
    session_log_status, top, worker_status,
};
pub(crate) use documents::{protocol_name, tuple_status};
use staged::OnProbation;

/// How long management waits for workers before it says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// What went through the kernel interface of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Frames the kernel took.
    pub delivered: u64,
    /// Frames the kernel did not take.
    pub refused: u64,
    /// Frames the kernel sent.
    pub sent: u64,
    /// Frames the kernel sent that fit no packet buffer.
    pub oversized: u64,
}

/// What the device of a port and the kernel interface beside it have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Whether packets can pass.
    pub up: bool,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets the device had no room for, or found damaged.
    pub rx_missed: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device did not send.
    pub tx_dropped: u64,
    /// What went through the kernel interface; nothing where there is none.
    pub kernel: KernelCounters,
}

/// An open device, as management sees it.
pub trait PortView: Send + Sync {
    /// What it has counted.
    fn counters(&self) -> DeviceCounters;

    /// The addresses the port answers for have changed: multicast groups follow.
    fn answer_for(&self, snapshot: &Snapshot);
}

/// One worker, as management sees it.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// Its core.
    pub core: usize,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
}

/// What the memory of the appliance is used for, as far as only the devices' side knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferUse {
    /// Packet buffers there are.
    pub total: u64,
    /// Packet buffers in use.
    pub in_use: u64,
    /// Bytes the buffers take.
    pub bytes: u64,
}

/// Makes a filter of frames from its text, in the syntax of pcap-filter(7), or says what is wrong with it.
pub type FilterMaker = Box<dyn Fn(&str) -> Result<Box<dyn FrameFilter>, String> + Send + Sync>;

/// What stays as long as the appliance runs.
pub struct Fixed {
    /// Requests to control.
    pub requests: Sender<Request>,
    /// The devices' MACs and kernel interfaces, by port.
    pub devices: Vec<Device>,
    /// The open devices, by port.
    pub ports: Vec<Box<dyn PortView>>,
    /// The workers.
    pub workers: Vec<WorkerView>,
    /// Makes classifiers and route tables.
    pub tables: Box<dyn TableMaker>,
    /// Time since start.
    pub clock: Box<dyn Clock + Sync>,
    /// The use of packet buffers now.
    pub buffers: Box<dyn Fn() -> BufferUse + Send + Sync>,
    /// Makes the filters of captures.
    pub filters: FilterMaker,
    /// Bytes set aside for sessions.
    pub session_bytes: u64,
    /// The secret that decides which worker owns a session.
    pub steer_secret: u64,
    /// What the process before has left.
    pub restart: RestartStatus,
}

impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixed").field("devices", &self.devices).field("workers", &self.workers).finish_non_exhaustive()
    }
}

struct State {
    policy: Arc<Policy>,
    /// What the policy was made of.
    objects: Configuration,
    snapshot: Arc<Snapshot>,
    /// A policy whose rules are on probation.
    staged: Option<OnProbation>,
    /// The policy waits to be confirmed.
    trial: Option<Trial>,
    prober: Option<Prober>,
    redirections: Option<Redirections>,
    interfaces: Vec<Interface>,
}

/// The running appliance.
pub struct Running {
    fixed: Fixed,
    /// Itself, for what has to be done later.
    this: Weak<Self>,
    ledger: Ledger,
    /// Tells whoever listens what happens.
    bulletin: Bulletin,
    /// What becomes of records of sessions.
    session_tally: Arc<Tally>,
    /// Whoever changes tables has the turn, from the first look at them to the last worker's moving on.
    turns: Turns,
    progress: Arc<Progress>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("workers", &self.fixed.workers).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked inside left a whole value behind: every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// The appliance whose workers have `snapshot`, compiled from what it started with, in force. A generation that is new
    /// is written down now.
    #[must_use]
    pub fn new(fixed: Fixed, start: Start, snapshot: Arc<Snapshot>, interfaces: Vec<Interface>) -> Arc<Self> {
        let Start { checked, text, record, ledger } = start;
        match ledger.get(record.generation) {
            Some(_) => ledger.in_force(record.generation),
            None => ledger.record_anyway(record, &text),
        }
        let (policy, objects) = (Arc::new(checked.policy), Configuration::new(text.into()));
        let state = Mutex::new(State {
            policy,
            objects,
            snapshot,
            staged: None,
            trial: None,
            prober: None,
            redirections: None,
            interfaces,
        });
        Arc::new_cyclic(|this| Self {
            fixed,
            this: this.clone(),
            ledger,
            bulletin: Bulletin::default(),
            session_tally: Arc::default(),
            turns: Turns::default(),
            progress: Arc::default(),
            state,
        })
    }

    /// Where what happens is told.
    #[must_use]
    pub const fn bulletin(&self) -> &Bulletin {
        &self.bulletin
    }

    /// The time since start.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.fixed.clock.now()
    }

    /// Where whoever sends records of sessions counts.
    #[must_use]
    pub fn session_tally(&self) -> Arc<Tally> {
        Arc::clone(&self.session_tally)
    }

    /// What is to be told of sessions; `None` when nobody wants to know.
    #[must_use]
    pub fn session_log_wanted(&self) -> Option<session_log::Wanted> {
        let state = lock(&self.state);
        let log = Arc::clone(state.snapshot.session_log.as_ref().filter(|_| state.policy.session_log.is_some())?);
        let lost = self.fixed.workers.iter().map(|view| view.counters.log_entries_lost.get()).sum();
        Some(session_log::Wanted { policy: Arc::clone(&state.policy), log, lost })
    }

    fn records_lost(&self) -> u64 {
        self.fixed.workers.iter().map(|view| view.counters.log_records_lost.get()).sum()
    }

    /// The policy in force, and its generation.
    #[must_use]
    pub fn in_force(&self) -> (Arc<Policy>, u64) {
        let state = lock(&self.state);
        (Arc::clone(&state.policy), state.snapshot.generation.get())
    }

    /// Starts probing with this prober.
    pub fn probe_with(&self, mut prober: Prober) {
        let mut state = lock(&self.state);
        prober.watch(targets(&state.policy));
        state.prober = Some(prober);
    }

    /// Has others direct packets here by this hook, from now on.
    ///
    /// # Errors
    /// The thread that looks after it cannot be started.
    pub fn redirect_with(&self, hook: impl Hook + 'static) -> std::io::Result<()> {
        let this = self.this.clone();
        let name = lock(&self.state).policy.appliance.name.clone();
        let redirections = Redirections::begin(&name, hook, move |Turn { service, standing }| {
            if let Some(running) = this.upgrade() {
                let redirection = standing.as_ref().map(RedirectionStatus::from);
                running.bulletin.tell(Happening::Redirection { service, redirection });
            }
        })?;
        // Whatever is on its way to the workers has come there then.
        let _turn = self.turns.wait();
        let mut state = lock(&self.state);
        // Nobody waits for what the start brings: it is shown, and tried again.
        drop(redirections.want(wanted(&state.policy), Asked::Changed));
        state.redirections = Some(redirections);
        Ok(())
    }

    /// Has others direct packets elsewhere, as far as that is done within this time.
    pub fn direct_away(&self, within: Duration) {
        let redirections = lock(&self.state).redirections.take();
        if let Some(redirections) = redirections {
            redirections.finish(within);
        }
    }

    /// Stops probing and gives up the kernel interfaces.
    pub fn wind_down(&self) {
        let (prober, interfaces) = {
            let mut state = lock(&self.state);
            (state.prober.take(), std::mem::take(&mut state.interfaces))
        };
        drop((prober, interfaces));
    }

    /// The tables in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.state).snapshot)
    }

    /// Takes in what probes find until there are no more of them or the appliance is gone, on the thread it is called from.
    /// When that changes who can be chosen, the balancer's tables follow: once for all that has come meanwhile, and on a thread
    /// of their own, since renewing them waits for the workers, and for whoever else changes something.
    pub fn attend_probes(this: &Weak<Self>, reports: &Receiver<Report>) {
        let (wake, woken) = bounded::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while woken.recv().is_ok()
                    && let Some(appliance) = this.upgrade()
                {
                    if let Err(refusal) = appliance.rebuild() {
                        log::error!("the balancer's tables could not be renewed: {refusal}");
                    }
                }
            });
            while let Ok(first) = reports.recv()
                && let Some(appliance) = this.upgrade()
            {
                let renew =
                    reports.try_iter().fold(appliance.take_in(&first), |renew, next| appliance.take_in(&next) || renew);
                if renew {
                    // Full: it is about to look.
                    let _ = wake.try_send(());
                }
            }
            drop(wake);
        });
    }

    /// Takes in what a probe has found; true when it changes who can be chosen.
    fn take_in(&self, report: &Report) -> bool {
        let snapshot = self.snapshot();
        let Some(service) = snapshot.services.by_name(&report.service) else { return false };
        let Some(member) = service.members().iter().find(|member| member.backend.name() == report.backend) else {
            return false;
        };
        if member.backend.address() != report.address.ip() {
            return false;
        }
        if let Ok(took) = report.outcome {
            member.backend.set_response_us(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        // Not judged yet, as after a policy that probes it in another way: what was known holds until it is.
        if report.health == Health::Unknown || !member.backend.set_health(report.health) {
            return false;
        }
        self.bulletin.tell(Happening::Backend {
            service: report.service.clone(),
            backend: report.backend.clone(),
            health: health_status(&member.backend, self.fixed.clock.now()),
        });
        match &report.outcome {
            Ok(_) => log::info!("backend {} of service {} is {}", report.backend, report.service, report.health.name()),
            Err(why) => {
                log::warn!(
                    "backend {} of service {} is {}: {why}",
                    report.backend,
                    report.service,
                    report.health.name()
                );
            }
        }
        true
    }

    /// Renews the balancer's tables when health or administration ask for others.
    fn rebuild(&self) -> Result<(), Refusal> {
        let _turn = self.turns.wait();
        let before = self.snapshot();
        if !before.services.is_outdated() {
            return Ok(());
        }
        let services = Arc::new(before.services.rebuilt());
        let snapshot = Arc::new(Snapshot { services, ..Snapshot::clone(&before) });
        let neighbors = {
            let mut state = lock(&self.state);
            state.snapshot = Arc::clone(&snapshot);
            placed(&state.policy)
        };
        // The state is not locked meanwhile: others read it.
        self.hand_over(snapshot, neighbors, Vec::new())?.recv_timeout(PATIENCE).map_err(|_| late())
    }

    /// Has control publish these tables; the answer comes when every worker has moved on.
    fn hand_over(
        &self,
        snapshot: Arc<Snapshot>,
        neighbors: Placed,
        removed: Vec<Arc<Backend>>,
    ) -> Result<Receiver<()>, Refusal> {
        let (done, moved_on) = bounded(1);
        let publication = Publication { snapshot, neighbors, removed, done };
        let gone = || Refusal::new(RefusalKind::Failed, "the control thread has ended");
        self.fixed.requests.send(Request::Publish(publication)).map_err(|_| gone())?;
        Ok(moved_on)
    }

    /// Asks control, and waits.
    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = bounded(1);
        let gone = |_| Refusal::new(RefusalKind::Failed, "the control thread has ended");
        self.fixed.requests.send(request(reply)).map_err(gone)?;
        answer.recv_timeout(PATIENCE).map_err(|_| Refusal::new(RefusalKind::Busy, "the workers do not answer"))
    }

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

/// Tables that some worker has not taken up in time.
fn late() -> Refusal {
    Refusal::new(RefusalKind::Busy, "the workers have not all moved on to the new tables yet; they will")
}

/// The neighbors the operator has placed.
type Placed = Vec<(PortId, IpAddr, MacAddr)>;

fn placed(policy: &Policy) -> Placed {
    policy.neighbors.iter().map(|neighbor| (neighbor.port, neighbor.address, neighbor.mac)).collect()
}

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
    /// Makes the kernel interfaces follow the routes of a policy.
    fn renew_routes(&self, policy: &Policy) {
        let mut state = lock(&self.state);
        for interface in &mut state.interfaces {
            let name = interface.spec().name.clone();
            let wanted =
                (0..).map(PortId::new).zip(&self.fixed.devices).take(policy.ports.len()).find_map(|(port, device)| {
                    crate::kernel::InterfaceSpec::of(policy, port, device.mac).filter(|spec| spec.name == name)
                });
            if let Some(Err(error)) = wanted.map(|wanted| interface.update(wanted)) {
                log::warn!("{error}");
            }
        }
    }
}
