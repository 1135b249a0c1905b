//! What the exporter counts, read by `show` and metrics at any time.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether a collector can be reached, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Reach {
    /// Nobody is to be told anything.
    #[default]
    Off = 0,
    /// It is being connected to for the first time.
    Connecting = 1,
    /// It takes records.
    Up = 2,
    /// It cannot be reached, or refuses.
    Down = 3,
}

impl Reach {
    /// The word of `show session-log`: never renamed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    const fn of(number: u8) -> Self {
        match number {
            1 => Self::Connecting,
            2 => Self::Up,
            3 => Self::Down,
            _ => Self::Off,
        }
    }
}

/// The sums since start.
#[derive(Debug, Default)]
pub struct Tally {
    reach: AtomicU8,
    /// Entries given to the network.
    sent: AtomicU64,
    /// Messages they were in, or pieces of lines.
    messages: AtomicU64,
    /// Bytes of these.
    bytes: AtomicU64,
    /// Entries that were taken from the workers and could not be sent.
    unsent: AtomicU64,
    /// Connections made.
    connections: AtomicU64,
    /// Why the collector cannot be reached.
    trouble: Mutex<Option<String>>,
}

impl Tally {
    /// Whether the collector can be reached.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::of(self.reach.load(Ordering::Relaxed))
    }

    /// Why not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Entries given to the network, the messages they were in, and the bytes of these.
    #[must_use]
    pub fn sent(&self) -> (u64, u64, u64) {
        let [sent, messages, bytes] =
            [&self.sent, &self.messages, &self.bytes].map(|counter| counter.load(Ordering::Relaxed));
        (sent, messages, bytes)
    }

    /// Entries that were taken from the workers and could not be sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Connections made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn set_reach(&self, reach: Reach, trouble: Option<String>) {
        self.reach.store(reach as u8, Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(super) fn count_sent(&self, entries: u64, bytes: usize) {
        self.sent.fetch_add(entries, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_unsent(&self, entries: u64) {
        self.unsent.fetch_add(entries, Ordering::Relaxed);
    }

    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }
}
