//! A generation that has to be confirmed: when nobody confirms it in time, the one before comes back, as soon as it can. It is
//! written down as pending until then, so that a restart in between does not come up with it either.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Policy;
use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use stage::anti_spoof::Sources;

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
    /// With its blocklists as they were: their files may have gone by the time it comes back.
    pub sources: Arc<Sources>,
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
    /// Begins a trial; `over` is called on a thread of its own when its time is over, and every `again` from then on as long
    /// as the trial lives.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn begin(
        generation: u64,
        before: Before,
        (within, again): (Duration, Duration),
        over: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (ended, watched) = bounded::<()>(0);
        let until = Instant::now() + within;
        std::thread::Builder::new().name("trial".into()).spawn(move || {
            let mut next = until;
            // Nothing is ever sent: the other end goes when the trial does.
            while watched.recv_deadline(next) == Err(RecvTimeoutError::Timeout) {
                over();
                next = Instant::now() + again;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_way_back_that_fails_is_tried_again_until_the_trial_ends() {
        let text = include_str!("../../../config/examples/edge.toml");
        let policy = Arc::new(config::load(text, Path::new("edge.toml")).unwrap().policy);
        let before =
            Before { generation: 1, policy, text: text.into(), source: String::new(), sources: Arc::default() };
        let (trying, tried) = bounded(0);
        let soon = Duration::from_millis(1);
        let trial = Trial::begin(2, before, (soon, soon), move || {
            let _ = trying.send(());
        })
        .unwrap();
        for _ in 0..3 {
            tried.recv().unwrap();
        }
        drop(trial);
        // Whatever was under way is the last: the thread ends, and its end of the channel goes.
        while tried.recv().is_ok() {}
    }
}
