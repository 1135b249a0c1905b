//! Whether the data plane moves: looked at by control, told to whoever supervises the process. A worker whose heartbeat
//! stands still between two looks, or a control thread that does not look, and nothing is told: the supervisor then
//! starts the appliance anew. A management that hangs harms no packet, and is no reason.

use std::fmt::{self, Debug};
use std::sync::Arc;

use units::Nanos;
use worker::WorkerCounters;

/// Looks at the workers' heartbeats now and then, and says so while all of them move.
pub struct Watchdog {
    workers: Vec<Arc<WorkerCounters>>,
    seen: Vec<u64>,
    every: Nanos,
    looked: Nanos,
    well: Box<dyn FnMut() + Send>,
}

impl Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("every", &self.every).field("looked", &self.looked).finish_non_exhaustive()
    }
}

impl Watchdog {
    /// Over these workers, for a supervisor that wants to hear that all is `well` at least every so often.
    #[must_use]
    pub fn new(workers: Vec<Arc<WorkerCounters>>, patience: Nanos, well: impl FnMut() + Send + 'static) -> Self {
        let seen = vec![0; workers.len()];
        // Two looks may be late before the supervisor's patience ends.
        let every = Nanos::new(patience.get() / 3);
        Self { workers, seen, every, looked: Nanos::ZERO, well: Box::new(well) }
    }

    /// It is `now`: looks, if it is time.
    pub(super) fn look(&mut self, now: Nanos) {
        if now.since(self.looked) < self.every {
            return;
        }
        self.looked = now;
        let mut all_move = true;
        for (worker, seen) in self.workers.iter().zip(&mut self.seen) {
            let beat = worker.heartbeat.get();
            all_move &= beat != *seen;
            *seen = beat;
        }
        if all_move {
            (self.well)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn all_is_well_while_every_worker_moves() {
        // FOV-11, as far as one appliance goes.
        let workers: Vec<_> = (0..2).map(|_| Arc::new(WorkerCounters::default())).collect();
        let told = Arc::new(AtomicU32::new(0));
        let well = Arc::clone(&told);
        let mut watchdog = Watchdog::new(workers.clone(), Nanos::from_secs(30), move || {
            well.fetch_add(1, Ordering::Relaxed);
        });
        let mut look = |second: u64, beats: [u64; 2]| {
            workers.iter().zip(beats).for_each(|(worker, beat)| worker.heartbeat.set(beat));
            watchdog.look(Nanos::from_secs(second));
            told.load(Ordering::Relaxed)
        };
        assert_eq!(look(10, [1, 1]), 1);
        assert_eq!(look(15, [2, 2]), 1, "not before it is time");
        assert_eq!(look(20, [3, 3]), 2);
        assert_eq!(look(30, [4, 3]), 2, "the second stands still");
        assert_eq!(look(40, [5, 4]), 3, "it moves again");
    }
}
