//! The running appliance as the API sees it (`appliance`): counters read where workers keep them, sessions and neighbors asked of
//! control, policies compiled and published (`changes`), backends as probes find them (`probing`).
//!
//! Lives on management threads. Whoever changes something waits for its turn; reading takes a lock only long enough to copy
//! a pointer. Nothing here is on the packet path.

mod appliance;
mod capturing;
mod changes;
mod copies;
mod documents;
mod present;
mod probing;
mod seeing;
mod staged;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use config::Policy;
use crossbeam::channel::{Receiver, Sender, bounded};
use stage::balancer::Backend;
use units::{Nanos, PortId};
use wire::MacAddr;
use worker::{Clock, FrameFilter, Snapshot, WorkerCounters};

use crate::amendment::Configuration;
use crate::bulletin::{Bulletin, Happening};
use crate::compile::{Device, TableMaker};
use crate::event::{Publication, Request};
use crate::generation::{Ledger, Start, Trial, Turns};
use crate::health::Prober;
use crate::kernel::Interface;
use crate::progress::Progress;
use crate::redirection::{Asked, Hook, Redirections, Turn, wanted};
use crate::session_log::{self, Tally};
use crate::status::{RedirectionStatus, Refusal, RefusalKind, RestartStatus};
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
