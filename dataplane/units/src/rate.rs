//! Rates as operators write them.

/// Events in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PerSecond(u32);

impl PerSecond {
    /// This many events in a second.
    #[must_use]
    pub const fn new(events: u32) -> Self {
        Self(events)
    }

    /// Events in a second.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}
