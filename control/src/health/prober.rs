//! The tasks that probe: one for each target. A new policy replaces them; a target that stays the same keeps its standing,
//! so that a reload makes no backend disappear.
//!
//! They have a thread that nobody else uses: what strangers have the API compute (handshakes above all) makes no answer of a
//! backend's come late (FLD-13).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stage::balancer::Health;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::probe::probe;
use super::tally::Tally;
use super::target::Target;

/// Probes under way at once: bounds the sockets of a policy with thousands of backends.
const AT_ONCE: usize = 256;

/// What the thread is called.
const THREAD: &str = "probes";

/// What a probe found, and what it made of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The virtual service.
    pub service: String,
    /// The backend, by its name in the service.
    pub backend: String,
    /// Where it was probed: a report that was under way while the policy changed names the old place.
    pub address: SocketAddr,
    /// The health with this probe taken into account.
    pub health: Health,
    /// Whether this probe changed it.
    pub changed: bool,
    /// How long the answer took, or why there was none.
    pub outcome: Result<Duration, String>,
}

type Tell = Arc<dyn Fn(Report) + Send + Sync>;

/// One target and its task.
struct Watched {
    target: Target,
    tally: Arc<Mutex<Tally>>,
    task: AbortHandle,
}

/// All tasks, and their thread. Dropping it ends them.
pub struct Prober {
    runtime: Handle,
    /// Dropped, the thread ends.
    _stay: oneshot::Sender<()>,
    tell: Tell,
    at_once: Arc<Semaphore>,
    watched: Vec<Watched>,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("targets", &self.watched.len()).finish_non_exhaustive()
    }
}

impl Prober {
    /// A prober of nothing yet. `tell` is called on its thread, after every probe, and must not block.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(tell: impl Fn(Report) + Send + Sync + 'static) -> io::Result<Self> {
        let own = Builder::new_current_thread().enable_all().build()?;
        let runtime = own.handle().clone();
        let (stay, over) = oneshot::channel();
        std::thread::Builder::new().name(THREAD.into()).spawn(move || drop(own.block_on(over)))?;
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { runtime, _stay: stay, tell: Arc::new(tell), at_once, watched: Vec::new() })
    }

    /// Probes these targets and no others. One that is as before is not disturbed; one whose times alone changed keeps
    /// its standing; every other starts as unknown, with a probe at once.
    pub fn watch(&mut self, targets: Vec<Target>) {
        // By the backend's names, which one target has: a policy may have a hundred thousand.
        let named = |target: &Target| (target.service.clone(), target.backend.clone());
        let before = std::mem::take(&mut self.watched).into_iter();
        let mut before: HashMap<_, _> = before.map(|watched| (named(&watched.target), watched)).collect();
        for target in targets {
            let known = match before.entry(named(&target)) {
                Entry::Occupied(known) if known.get().target.continues(&target) => Some(known.remove()),
                Entry::Occupied(_) | Entry::Vacant(_) => None,
            };
            self.watched.push(match known {
                Some(watched) if watched.target == target => watched,
                Some(watched) => {
                    watched.task.abort();
                    self.begin(target, watched.tally)
                }
                None => self.begin(target, Arc::default()),
            });
        }
        for watched in before.values() {
            watched.task.abort();
        }
    }

    /// The health of a backend as it stands; `None` when it is not probed. Lets a policy that was just compiled begin
    /// with what is known.
    #[must_use]
    pub fn health(&self, service: &str, backend: &str) -> Option<Health> {
        let watched = self.watched.iter().find(|w| w.target.service == service && w.target.backend == backend)?;
        Some(watched.tally.lock().unwrap_or_else(PoisonError::into_inner).health())
    }

    fn begin(&self, target: Target, tally: Arc<Mutex<Tally>>) -> Watched {
        let (tell, at_once) = (Arc::clone(&self.tell), Arc::clone(&self.at_once));
        let task = self.runtime.spawn(attend(target.clone(), Arc::clone(&tally), tell, at_once));
        Watched { target, tally, task: task.abort_handle() }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        for watched in &self.watched {
            watched.task.abort();
        }
    }
}

/// Probes one target for as long as it is watched.
async fn attend(target: Target, tally: Arc<Mutex<Tally>>, tell: Tell, at_once: Arc<Semaphore>) {
    // An interval of nothing would be a fault of the policy; tokio refuses it by a panic.
    let mut times = interval(target.interval.max(Duration::from_millis(1)));
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        // The semaphore is never closed.
        let Ok(_turn) = at_once.acquire().await else { return };
        let begun = Instant::now();
        let outcome = match timeout(target.timeout, probe(&target.probe, target.address, target.introduced)).await {
            Ok(found) => found.map(|()| begun.elapsed()),
            Err(_) => Err(format!("no answer within {:?}", target.timeout)),
        };
        let (health, changed) = {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = tally.record(outcome.is_ok(), target.rise, target.fall);
            (tally.health(), changed)
        };
        tell(Report {
            service: target.service.clone(),
            backend: target.backend.clone(),
            address: target.address,
            health,
            changed,
            outcome,
        });
    }
}

#[cfg(test)]
mod tests {
    use config::policy::Probe;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn target(backend: &str, address: SocketAddr) -> Target {
        Target {
            service: "shop".into(),
            backend: backend.into(),
            address,
            probe: Probe::Tcp,
            introduced: false,
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(10),
            rise: 2,
            fall: 3,
        }
    }

    fn prober() -> (Prober, UnboundedReceiver<Report>) {
        let (sender, reports) = unbounded_channel();
        (Prober::start(move |report| drop(sender.send(report))).unwrap(), reports)
    }

    async fn next_change(reports: &mut UnboundedReceiver<Report>) -> (String, Health) {
        loop {
            let report = reports.recv().await.unwrap();
            if report.changed {
                return (report.backend, report.health);
            }
        }
    }

    #[tokio::test]
    async fn a_backend_rises_falls_and_rises_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut prober, mut reports) = prober();
        prober.watch(vec![target("a", address)]);
        assert_eq!(prober.health("shop", "a"), Some(Health::Unknown));
        let first = reports.recv().await.unwrap();
        assert_eq!((first.health, first.changed, first.outcome.is_ok()), (Health::Unknown, false, true));
        assert_eq!(next_change(&mut reports).await, ("a".into(), Health::Up));
        drop(listener);
        assert_eq!(next_change(&mut reports).await, ("a".into(), Health::Failed));
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(next_change(&mut reports).await, ("a".into(), Health::Up));
        assert_eq!(prober.health("shop", "a"), Some(Health::Up));
    }

    #[tokio::test]
    async fn a_reload_keeps_the_standing_of_what_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut prober, mut reports) = prober();
        let (a, b) = (target("a", address), target("b", address));
        prober.watch(vec![a.clone()]);
        assert_eq!(next_change(&mut reports).await, ("a".into(), Health::Up));
        let same = prober.watched[0].task.id();

        // Another beside it: not disturbed.
        prober.watch(vec![b.clone(), a.clone()]);
        assert_eq!(prober.health("shop", "a"), Some(Health::Up));
        assert_eq!(prober.health("shop", "b"), Some(Health::Unknown));
        assert!(prober.watched.iter().any(|watched| watched.task.id() == same));

        // Other times: a new task, the old standing.
        prober.watch(vec![Target { fall: 1, ..a.clone() }]);
        assert_eq!(prober.health("shop", "a"), Some(Health::Up));
        assert_eq!(prober.health("shop", "b"), None);
        assert_ne!(prober.watched[0].task.id(), same);

        // Another thing asked: unknown.
        prober.watch(vec![Target { probe: Probe::Icmp, ..a }]);
        assert_eq!(prober.health("shop", "a"), Some(Health::Unknown));
    }

    #[tokio::test]
    async fn silence_is_a_miss_when_the_time_is_over() {
        // A listener whose queue nobody empties still completes the handshake; HTTP then waits for an answer in vain.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut prober, mut reports) = prober();
        let probe = Probe::Http { path: "/".into(), host: None, status_min: 200, status_max: 399 };
        let silent = target("a", listener.local_addr().unwrap());
        prober.watch(vec![Target { probe, timeout: Duration::from_millis(1), ..silent }]);
        let report = reports.recv().await.unwrap();
        assert_eq!(report.outcome, Err("no answer within 1ms".into()));
        assert_eq!(next_change(&mut reports).await, ("a".into(), Health::Failed));
    }

    /// FLD-13: whoever keeps the threads of the API busy keeps no probe waiting.
    #[tokio::test]
    async fn probes_go_on_while_nothing_else_does() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (found, reports) = std::sync::mpsc::channel();
        let mut prober = Prober::start(move |report| {
            let _ = found.send((report, std::thread::current().name().map(str::to_owned)));
        })
        .unwrap();
        prober.watch(vec![target("a", listener.local_addr().unwrap())]);
        // The only thread of this runtime waits, and lets nothing else run on it.
        let (report, thread) = reports.recv().unwrap();
        assert!(report.outcome.is_ok(), "{report:?}");
        assert_eq!(thread.as_deref(), Some(THREAD));
    }

    #[tokio::test]
    async fn a_dropped_prober_probes_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut prober, mut reports) = prober();
        prober.watch(vec![target("a", listener.local_addr().unwrap())]);
        reports.recv().await.unwrap();
        drop(prober);
        // The tasks held the only senders.
        while reports.recv().await.is_some() {}
    }
}
