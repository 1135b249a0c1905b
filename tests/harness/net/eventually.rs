//! Waiting for what another process does: asked again and again until it is so, or until the time is up. A fact that
//! arrives sooner is seen sooner; no test waits for a fixed time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A loaded machine gets so many times the seconds that an idle one needs. What succeeds does not wait for them.
pub(super) const PATIENCE: u32 = 6;

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether `condition` becomes true within `seconds` of an idle machine's.
pub fn holds_within(seconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds) * PATIENCE;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until `condition` is true; panics with `what` when it is not within `seconds` of an idle machine's.
#[track_caller]
pub fn eventually(seconds: u64, what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(seconds, condition), "not within {PATIENCE} times {seconds} s: {what}");
}

/// Dropped, it tells the threads beside the test that it is enough: also when the test fails, which otherwise waited for them
/// without end.
#[derive(Debug)]
pub struct Enough<'t>(pub &'t AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A number that a full run and a short one choose differently: the environment's, else `usual`.
#[must_use]
pub fn number_from_environment(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}
