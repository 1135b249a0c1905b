//! Measures stretches of a packet's way, in one turn of many: which stretch, how many packets, how many cycles. In the
//! other turns it is one test a stretch.

use crate::clock::Clock;
use crate::counters::{Measured, WorkerCounters};

/// Measures stretches of a sampled burst.
#[derive(Debug)]
pub(crate) struct Stopwatch<'a, C> {
    clock: &'a C,
    sampled: bool,
    last: u64,
}

impl<'a, C: Clock> Stopwatch<'a, C> {
    /// Begins now, if this turn is `sampled`.
    #[inline(always)]
    pub(crate) fn start(clock: &'a C, sampled: bool) -> Self {
        Self { clock, sampled, last: if sampled { clock.cycles() } else { 0 } }
    }

    /// The stretch since the last mark took `packets` through `measured`.
    #[inline(always)]
    pub(crate) fn lap(&mut self, measured: Measured, packets: usize, counters: &WorkerCounters) {
        if self.sampled {
            self.write_down(measured, packets, counters);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_down(&mut self, measured: Measured, packets: usize, counters: &WorkerCounters) {
        let now = self.clock.cycles();
        let cost = counters.stage(measured);
        cost.packets.add(packets as u64);
        cost.cycles.add(now.wrapping_sub(self.last));
        self.last = now;
    }
}
