//! Services that others direct here (`attract = "external"`): a program of the operator's tells switches and routers to
//! begin (`attach`) and to end it (`detach`), service engines 2.2, SE-20.
//!
//! ```text
//!   Running -> Redirections -> Course (which errand is next) -> Runner ~ socket ~ runner::serve -> the hook
//!             a thread of management                             |  a process of its own
//! ```
//!
//! - `course`: pure; what is wanted, what stands, what is to be done next.
//! - `runner`: the process that starts the hook. Management itself can start no program (`launch::confine`), and what could
//!   should know one program only: the hook it was started with.
//! - `errand`: one run of the hook.
//!
//! One errand at a time, so hooks need no locks among themselves. Nothing here is on a packet's way, or holds up a change
//! of policy or of health.

mod course;
mod errand;
mod runner;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::Policy;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use stage::balancer::Attract;

use crate::status::RedirectionStatus;

use course::Course;
pub use course::{Place, Standing};
pub use errand::{Errand, Verb, sound};
pub use runner::{Runner, serve};

/// The reason of an activation whose hook failed (SE-20).
pub const REDIRECT_FAILED: &str = "redirect-failed";

/// How long whoever asked for a change waits for the hooks of its services.
const OUTCOME_WITHIN: Duration = Duration::from_secs(60);

/// Runs the hook.
pub trait Hook: Send {
    /// Runs it once and waits for its end, which comes `within` this time, or within what is its own if that is less.
    ///
    /// # Errors
    /// A sentence: how it failed.
    fn run(&mut self, errand: &Errand, within: Duration) -> Result<(), String>;
}

/// What became of a redirection: told of each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The service.
    pub service: String,
    /// How it stands now; `None` when it is gone.
    pub standing: Option<Standing>,
}

impl From<&Standing> for RedirectionStatus {
    fn from(standing: &Standing) -> Self {
        let (state, why) = match standing {
            Standing::Attaching => ("attaching", None),
            Standing::Attached => ("attached", None),
            Standing::Failed(why) => ("failed", Some(why.clone())),
        };
        Self { state: state.to_owned(), reason: why.is_some().then(|| REDIRECT_FAILED.to_owned()), why }
    }
}

/// The places of services that are to be directed here.
#[must_use]
pub fn wanted(policy: &Policy) -> Vec<Place> {
    let specs = policy.services.iter().map(|service| &service.spec);
    let external = specs.filter(|spec| spec.attract == Attract::External && !spec.is_tier());
    external
        .map(|spec| Place {
            service: spec.name.clone(),
            address: spec.address,
            protocol: spec.protocol.name().to_owned(),
            ports: spec.ports.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

/// What the thread is asked.
#[derive(Debug)]
enum Order {
    /// Exactly these are to be directed here; the answer comes when each `of` them has been tried.
    Want { places: Vec<Place>, of: Asked, tried: Sender<Vec<Failure>> },
    /// None is any more, and the thread ends, so long after this was heard at the latest.
    Finish(Duration),
}

/// Which services an outcome is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Those that are wanted otherwise than before.
    Changed,
    /// All that are not as they are wanted.
    All,
}

/// A service that is not directed here, or not away, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The service.
    pub service: String,
    /// In a sentence.
    pub why: String,
}

/// What is still heard of services that a change wants directed here.
#[derive(Debug)]
pub struct Outcome(Option<Receiver<Vec<Failure>>>);

impl Outcome {
    /// There is nothing to be heard.
    pub const NONE: Self = Self(None);

    /// Waits until each of these services was tried once.
    ///
    /// # Errors
    /// A sentence: for which of them the hook has failed, and how.
    pub fn wait(self) -> Result<(), String> {
        let Some(failures) = self.0 else { return Ok(()) };
        match failures.recv_timeout(OUTCOME_WITHIN) {
            Ok(failures) if failures.is_empty() => Ok(()),
            Ok(failures) => {
                let told = failures.iter().map(|failure| format!("service {}: {}", failure.service, failure.why));
                Err(format!("{REDIRECT_FAILED}: {}", told.collect::<Vec<_>>().join("; ")))
            }
            Err(RecvTimeoutError::Timeout) => Err("some services are not directed here yet".to_owned()),
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

/// What is known of each service, by name.
type Standings = Arc<Mutex<BTreeMap<String, Standing>>>;

/// The redirections of a running appliance, and the thread that looks after them.
#[derive(Debug)]
pub struct Redirections {
    orders: Sender<Order>,
    standings: Standings,
    thread: Option<JoinHandle<()>>,
}

impl Redirections {
    /// Begins with none. `tell` hears of each change.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn begin(
        appliance: &str,
        hook: impl Hook + 'static,
        tell: impl FnMut(Turn) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, ordered) = unbounded();
        let standings = Standings::default();
        let mut keeper = Keeper {
            course: Course::new(appliance),
            hook,
            tell,
            standings: Arc::clone(&standings),
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("redirection".into()).spawn(move || keeper.run(&ordered))?;
        Ok(Self { orders, standings, thread: Some(thread) })
    }

    /// From now on exactly these are directed here: every worker serves them (SE-23). What has failed is tried at once, but
    /// the outcome is only that `of` what is asked: a change waits for no switch it has nothing to do with, nor fails with it.
    pub fn want(&self, places: Vec<Place>, of: Asked) -> Outcome {
        let (tried, outcome) = bounded(1);
        // Without the thread the answer is that there will be none.
        let _ = self.orders.send(Order::Want { places, of, tried });
        Outcome(Some(outcome))
    }

    /// How a service stands; `None` for one that is not directed here by the hook.
    #[must_use]
    pub fn standing(&self, service: &str) -> Option<Standing> {
        lock(&self.standings).get(service).cloned()
    }

    /// Directs everything away, as far as that is done within this time, which begins when the hook under way has ended.
    pub fn finish(mut self, within: Duration) {
        let _ = self.orders.send(Order::Finish(within));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the redirection thread ended by a fault");
        }
    }
}

fn lock(standings: &Standings) -> MutexGuard<'_, BTreeMap<String, Standing>> {
    // Every change of it is one assignment.
    standings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread has.
struct Keeper<H, T> {
    course: Course,
    hook: H,
    tell: T,
    standings: Standings,
    /// Who waits until nothing of these services is untried.
    waiting: Vec<(BTreeSet<String>, Sender<Vec<Failure>>)>,
}

impl<H: Hook, T: FnMut(Turn)> Keeper<H, T> {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let now = Instant::now();
            let order = match self.course.due() {
                Some(due) if due > now => orders.recv_timeout(due - now),
                Some(_) => orders.try_recv().map_err(|error| {
                    if error.is_disconnected() { RecvTimeoutError::Disconnected } else { RecvTimeoutError::Timeout }
                }),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(Order::Want { places, of, tried }) => {
                    let changed = self.course.want(places, Instant::now());
                    let asked = match of {
                        Asked::Changed => changed,
                        Asked::All => self.course.try_all(),
                    };
                    self.waiting.push((asked, tried));
                    self.publish();
                }
                Ok(Order::Finish(within)) => return self.finish(within),
                Err(RecvTimeoutError::Timeout) => self.step(Instant::now(), Duration::MAX),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.answer();
        }
    }

    /// Answers those whose services have all been tried.
    fn answer(&mut self) {
        let Self { course, waiting, .. } = self;
        waiting.retain(|(asked, tried)| {
            let waits = course.has_untried(asked);
            if !waits {
                let _ = tried.send(course.failures(asked));
            }
            waits
        });
    }

    /// One errand, if one is due.
    fn step(&mut self, now: Instant, within: Duration) {
        let Some(errand) = self.course.next(now) else { return };
        let (verb, service) = (errand.verb.name(), errand.place.service.clone());
        let done = self.hook.run(&errand, within);
        match &done {
            Ok(()) => log::info!("service {service}: the hook has done {verb}"),
            Err(why) => log::error!("service {service}: {REDIRECT_FAILED}: {why}"),
        }
        self.course.done(&errand, done, Instant::now());
        self.publish();
    }

    /// Everything away. What fails now is left as it is.
    fn finish(&mut self, within: Duration) {
        let begun = Instant::now();
        self.course.want(Vec::new(), begun);
        while self.course.next(begun).is_some() {
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() {
                log::error!("there is no time left to direct the packets of some services away");
                return;
            }
            self.step(begun, left);
        }
    }

    /// Shows how things stand, and tells what has changed.
    fn publish(&mut self) {
        let now = self.course.standings();
        let before = std::mem::replace(&mut *lock(&self.standings), now.clone());
        for (service, standing) in &now {
            if before.get(service) != Some(standing) {
                (self.tell)(Turn { service: service.clone(), standing: Some(standing.clone()) });
            }
        }
        for service in before.into_keys().filter(|service| !now.contains_key(service)) {
            (self.tell)(Turn { service, standing: None });
        }
    }
}
