//! A generation that has to be confirmed: when nobody confirms it in time, the one before comes back. It is written down
//! as pending until then, so that a restart in between does not come up with it either.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Policy;
use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

/// A policy that was in force, to come back to.
#[derive(Clone, Debug)]
pub struct Before {
    /// Its generation.
    pub generation: u64,
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its text.
    pub text: Arc<str>,
    /// The file it came from.
    pub source: String,
}

/// A generation on trial. Dropped, it is confirmed or taken back already, and its time means nothing any more.
#[derive(Debug)]
pub struct Trial {
    /// The generation.
    pub generation: u64,
    /// What comes back without confirmation.
    pub before: Before,
    until: Instant,
    _ended: Sender<()>,
}

impl Trial {
    /// Begins a trial; `over` is called on a thread of its own when its time is over.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn begin(
        generation: u64,
        before: Before,
        within: Duration,
        over: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (ended, watched) = bounded::<()>(0);
        let until = Instant::now() + within;
        std::thread::Builder::new().name("trial".into()).spawn(move || {
            // Nothing is ever sent: the other end goes when the trial does.
            if watched.recv_deadline(until) == Err(RecvTimeoutError::Timeout) {
                over();
            }
        })?;
        Ok(Self { generation, before, until, _ended: ended })
    }

    /// The time left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
