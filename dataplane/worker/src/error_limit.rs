//! How many ICMP errors about one session are passed on: a flood of them, forged or not, is no use to whoever sent the packets
//! they quote. Counted in a small table by session; two sessions that share a place share its second.

use session::Slot;
use units::Tick;
use units::limits::{ERROR_COUNTS, ERRORS_PER_SESSION};

/// Ticks of one second.
const SECOND: u64 = 4;

/// Errors counted since a tick.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    since: u64,
    passed: u32,
}

/// The counts of one worker.
#[derive(Debug)]
pub(crate) struct ErrorLimit {
    counts: Box<[Count]>,
}

impl ErrorLimit {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self { counts: vec![Count::default(); ERROR_COUNTS].into() }
    }

    /// Whether one more error about the session in `slot` passes at `now`; the families have tables of their own.
    pub(crate) fn passes(&mut self, slot: Slot, is_v6: bool, now: Tick) -> bool {
        let number = usize::try_from(slot.get()).unwrap_or(0);
        let place = (2 * number + usize::from(is_v6)) % ERROR_COUNTS;
        let Some(count) = self.counts.get_mut(place) else { return false };
        if now.get().wrapping_sub(count.since) >= SECOND {
            *count = Count { since: now.get(), passed: 0 };
        }
        count.passed = count.passed.saturating_add(1);
        count.passed <= ERRORS_PER_SESSION
    }
}
