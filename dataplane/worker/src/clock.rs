//! The worker's clock: read once a turn of the loop and handed down; nothing below reads it again.

use units::Nanos;

/// Time since the appliance started, and the cycle counter behind it.
pub trait Clock: Send {
    /// The moment now.
    fn now(&self) -> Nanos;

    /// The cycle counter now; only differences mean anything.
    fn cycles(&self) -> u64;
}
