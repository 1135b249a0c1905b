//! Connections of a service that workers let through without a session while the table was full. When there is room again they
//! go on like that for as long as an idle one may live: only what begins from then on gets sessions.
//!
//! One for each service, carried from policy to policy by its name. Written by workers while the table is full, at most once
//! a tick, and read at packets that belong to no session.

use core::sync::atomic::{AtomicU64, Ordering};

use units::{Nanos, Tick};

/// When the last packet without a session passed while there was no room for one.
#[derive(Debug, Default)]
pub struct Untracked {
    /// The tick after it; 0 when there was none.
    last: AtomicU64,
}

impl Untracked {
    /// One passes now because the table is full.
    pub fn passes(&self, now: Tick) {
        let now = now.get() + 1;
        if self.last.load(Ordering::Relaxed) < now {
            self.last.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Whether a connection may still live that began without a session, when idle ones live for `longest`.
    #[must_use]
    pub fn may_live(&self, now: Tick, longest: Nanos) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && now.get() < last + longest.get().div_ceil(Tick::NANOS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_live_as_long_as_an_idle_one() {
        let (untracked, hour) = (Untracked::default(), Nanos::from_secs(3_600));
        assert!(!untracked.may_live(Tick::new(0), hour), "none has begun");
        untracked.passes(Tick::new(0));
        assert!(untracked.may_live(Tick::new(14_400), hour) && !untracked.may_live(Tick::new(14_401), hour));
        untracked.passes(Tick::new(100));
        untracked.passes(Tick::new(99));
        assert!(untracked.may_live(Tick::new(14_500), hour) && !untracked.may_live(Tick::new(14_501), hour));
    }
}
