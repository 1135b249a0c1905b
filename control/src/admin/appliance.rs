//! What the API asks of the running appliance. The daemon implements it; tests have a small one of their own.
//!
//! Called on management threads that may block; several calls may run at once. An implementation reads counters, or asks
//! the control thread and waits for its answer; it answers within a second even when a worker hangs.

use std::time::Duration;

use crate::amendment::{Amended, Amendment, Configuration};
use crate::bulletin::Listener;
use crate::capture::CaptureWanted;
use crate::generation::{Plan, Proposal};
use crate::session_match::SessionMatch;
use crate::status::{
    Applied, Changed, Drops, FirewallStatus, MemoryStatus, NatStatus, NeighborStatus, PolicyStatus, PortStatus,
    ProgressStatus, Refusal, Reload, Reloaded, RestartStatus, RouteStatus, ServiceStatus, SessionLogStatus,
    SessionStatus, StagedStatus, Supposed, Target, TopStatus, TraceNews, TraceStatus, WorkerStatus,
};
use crate::trace::pattern::PacketPattern;

/// What is told piece by piece, as it happens: asked again and again, each time with how long to wait at most. Nothing when
/// nothing has happened, `None` at the end. Dropping it ends what is told of.
pub type Feed<T> = Box<dyn FnMut(Duration) -> Option<Vec<T>> + Send>;

/// Sessions, some at a time, as they are copied: asked again and again, nothing at the end. A refusal says that they could not be
/// copied to the end. Dropping it ends the copying.
pub type Sessions = Box<dyn FnMut() -> Result<Option<Vec<SessionStatus>>, Refusal> + Send>;

/// The running appliance, as the API sees it.
pub trait Appliance: Send + Sync + 'static {
    /// The ports, in the order of the configuration.
    fn ports(&self) -> Vec<PortStatus>;

    /// The workers, in the order of the configuration.
    fn workers(&self) -> Vec<WorkerStatus>;

    /// At most `limit` sessions that match, in no order.
    ///
    /// # Errors
    /// A [`Refusal`] when the workers do not answer in time.
    fn sessions(&self, wanted: &SessionMatch, limit: usize) -> Result<Sessions, Refusal>;

    /// The virtual services, in the order of the configuration.
    fn services(&self) -> Vec<ServiceStatus>;

    /// The firewall's rules and how often each decided.
    fn firewall(&self) -> FirewallStatus;

    /// The neighbors.
    fn neighbors(&self) -> Vec<NeighborStatus>;

    /// The routes, connected ones included.
    fn routes(&self) -> Vec<RouteStatus>;

    /// Packets dropped, by reason, every reason included.
    fn drops(&self) -> Drops;

    /// Who opens most sessions and has most packets dropped, lately.
    fn top(&self) -> TopStatus;

    /// The ways of the next `count` packets that match, for this time at most.
    ///
    /// # Errors
    /// A [`Refusal`] when another trace is under way, or a name is not known.
    fn trace(&self, wanted: &PacketPattern, count: usize, span: Duration) -> Result<Feed<TraceNews>, Refusal>;

    /// Frames of a port as a pcapng file, while they pass.
    ///
    /// # Errors
    /// A [`Refusal`] when another capture is under way, or the port or filter is none.
    fn capture(&self, wanted: &CaptureWanted) -> Result<Feed<u8>, Refusal>;

    /// Where these packets would go, each after those before it. Nothing is sent and nothing changed.
    ///
    /// # Errors
    /// A [`Refusal`] when one is no packet, or the workers do not answer.
    fn suppose(&self, packets: &[Supposed]) -> Result<Vec<TraceStatus>, Refusal>;

    /// Address translation.
    fn nat(&self) -> NatStatus;

    /// What is told of sessions, to whom, and how much of it was sent.
    fn session_log(&self) -> SessionLogStatus;

    /// What the process before has left to this one.
    fn restart(&self) -> RestartStatus;

    /// Memory in use.
    fn memory(&self) -> MemoryStatus;

    /// The policy in force and those before it.
    fn policy(&self) -> PolicyStatus;

    /// How far the change of policy is that is under way; `None` without one.
    fn progress(&self) -> Option<ProgressStatus>;

    /// Puts the rules of a policy on probation: counted beside those in force, never obeyed.
    ///
    /// # Errors
    /// A [`Refusal`] with every fault, or when its zones are others.
    fn stage(&self, proposal: &Proposal) -> Result<StagedStatus, Refusal>;

    /// Ends that.
    ///
    /// # Errors
    /// A [`Refusal`] when the workers do not take it up in time.
    fn unstage(&self) -> Result<StagedStatus, Refusal>;

    /// What is on probation, and what it would have done.
    fn staged(&self) -> StagedStatus;

    /// Hears what happens from now on.
    fn listen(&self) -> Listener;

    /// The text in force.
    fn configuration(&self) -> Configuration;

    /// Changes single objects of the policy, all of it or nothing.
    ///
    /// # Errors
    /// A [`Refusal`] with every fault; nothing was changed.
    fn amend(&self, amendment: &Amendment) -> Result<Amended, Refusal>;

    /// What applying a text would change. `text` is TOML; `name` is the file as the operator names it.
    ///
    /// # Errors
    /// A [`Refusal`] with every fault.
    fn diff(&self, text: &str, name: &str) -> Result<Plan, Refusal>;

    /// Puts a policy in force, all of it or nothing. The text in force already changes nothing.
    ///
    /// # Errors
    /// A [`Refusal`] with every fault; nothing was changed.
    fn apply(&self, proposal: &Proposal) -> Result<Applied, Refusal>;

    /// Keeps the policy that waits to be confirmed.
    ///
    /// # Errors
    /// A [`Refusal`] when none does, or when it cannot be written down.
    fn confirm(&self) -> Result<Applied, Refusal>;

    /// Puts the text of an earlier generation in force again: this one, or the one before. A policy that waits to be
    /// confirmed gives way to the one before it.
    ///
    /// # Errors
    /// A [`Refusal`] when it is not kept, or as [`apply`](Self::apply).
    fn rollback(&self, generation: Option<u64>, who: &str) -> Result<Applied, Refusal>;

    /// Reads a file of the policy again and puts it in force; nothing else changes.
    ///
    /// # Errors
    /// A [`Refusal`] when nothing has that name, or the file has faults; nothing was changed.
    fn reload(&self, what: &Reload) -> Result<Reloaded, Refusal>;

    /// Gives the target's backends no new sessions; those they have run out, or end with the drain timeout. Lasts until it
    /// is undone, whatever policies come into force.
    ///
    /// # Errors
    /// A [`Refusal`] when nothing has that name.
    fn drain(&self, target: &Target) -> Result<Changed, Refusal>;

    /// Undoes [`drain`](Self::drain): the target's backends get new sessions again, as far as policy and probes allow.
    ///
    /// # Errors
    /// A [`Refusal`] when nothing has that name.
    fn undrain(&self, target: &Target) -> Result<Changed, Refusal>;

    /// Ends every session of the target's backends.
    ///
    /// # Errors
    /// A [`Refusal`] when nothing has that name.
    fn flush(&self, target: &Target) -> Result<Changed, Refusal>;
}
