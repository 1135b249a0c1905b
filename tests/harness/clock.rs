//! A clock that goes where the test puts it. Shared by all workers and control of one rig.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use units::Nanos;
use worker::Clock;

/// The moment a rig starts at: late enough that nothing is confused by the beginning of time.
pub(crate) const START: Nanos = Nanos::from_secs(100);

/// The clock; clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
    cycles: Arc<AtomicU64>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { now: Arc::new(AtomicU64::new(START.get())), cycles: Arc::new(AtomicU64::new(0)) }
    }
}

impl ManualClock {
    /// Moves on.
    pub fn advance(&self, span: Nanos) {
        self.now.fetch_add(span.get(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        Nanos::new(self.now.load(Ordering::Relaxed))
    }

    fn cycles(&self) -> u64 {
        self.cycles.fetch_add(1, Ordering::Relaxed)
    }
}
