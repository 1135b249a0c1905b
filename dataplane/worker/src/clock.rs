//! The worker's clock: read once a turn of the loop and handed down; nothing below reads it again.

use units::Nanos;

/// Time since the appliance started, and the cycle counter behind it.
pub trait Clock: Send {
    /// The moment now.
    fn now(&self) -> Nanos;

    /// The cycle counter now; only differences mean anything.
    fn cycles(&self) -> u64;

    /// Both, of one moment. Reading the counter is what costs: an implementation that derives the time from it reads once.
    fn moment(&self) -> (Nanos, u64) {
        (self.now(), self.cycles())
    }
}
