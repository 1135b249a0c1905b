//! Per-worker counters: written by one worker, read by management at any time without locks.
//!
//! Each cell is an atomic so that reading is defined, but a worker adds with a plain load and store: it is the only
//! writer. Totals only grow while the process lives.

use core::sync::atomic::{AtomicU64, Ordering};

use stage::DropReason;
use stage::heavy_hitters::HeavyHitters;

use crate::histogram::Histogram;

/// One counter with one writer.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker calls this.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Replaces the value (gauges); only the owning worker calls this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stretch of a packet's way whose cost is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Taking packets from the device.
    Receive,
    /// Bytes to facts, and what is answered at the link.
    Parse,
    /// Finding sessions.
    Lookup,
    /// Packets of sessions: state, rewrite, next hop.
    Act,
    /// First packets: firewall, balancer, new sessions.
    Open,
    /// Giving packets to devices.
    Transmit,
}

impl Measured {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Receive, Self::Parse, Self::Lookup, Self::Act, Self::Open, Self::Transmit];

    /// The name in `show workers`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Lookup => "lookup",
            Self::Act => "act",
            Self::Open => "open",
            Self::Transmit => "transmit",
        }
    }
}

/// Packets and cycles of one measured stretch, over the sampled bursts.
#[derive(Debug, Default)]
pub struct StageCost {
    /// Packets that passed in sampled bursts.
    pub packets: Counter,
    /// TSC cycles they took.
    pub cycles: Counter,
}

/// What one worker counts.
///
/// `received + from_kernel = forwarded + consumed + punted + sum of drops + held`, whenever no packet is inside a burst
/// or a ring; over all workers together, since packets change hands.
///
/// On cache lines of its own, in pairs as processors fetch them: no two workers write to one.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Packets taken from devices.
    pub received: Counter,
    /// Packets taken from kernel interfaces.
    pub from_kernel: Counter,
    /// Packets sent on (including those of the kernel's that went to the wire).
    pub forwarded: Counter,
    /// Packets that ended here with their purpose fulfilled: ARP, neighbor discovery, echo requests answered.
    pub consumed: Counter,
    /// Packets given to the kernel.
    pub punted: Counter,
    /// Packets the appliance itself made: ARP, ICMP errors, resets, echo replies, the later pieces of packets it cut.
    pub originated: Counter,
    /// Packets of its own the appliance could not send.
    pub originated_lost: Counter,
    /// Packets waiting for a next hop to answer, and fragments waiting for the rest of their datagram.
    pub held: Counter,
    /// Packets given to the worker that owns their session.
    pub handed_over: Counter,
    /// Sessions in the table.
    pub sessions: Counter,
    /// Sessions opened since start.
    pub sessions_opened: Counter,
    /// Sessions ended since start.
    pub sessions_closed: Counter,
    /// Packets of `direct` services forwarded without a session because the table was full.
    pub forwarded_untracked: Counter,
    /// Packets wrapped for a tunnel.
    pub encapsulated: Counter,
    /// Packets taken out of tunnels that end here.
    pub decapsulated: Counter,
    /// Frames that passed through a pair of ports.
    pub passed_in_line: Counter,
    /// Sessions given up half open, because the table was full.
    pub half_open_given_up: Counter,
    /// Events control had no room for.
    pub events_lost: Counter,
    /// Log records left out because of the limit.
    pub log_suppressed: Counter,
    /// Records of the session log that were told.
    pub log_records: Counter,
    /// Records of the session log there was no room for.
    pub log_records_lost: Counter,
    /// Entries these would have been: one that a session opened or ended, one that it was rewritten.
    pub log_entries_lost: Counter,
    /// The policy in force here.
    pub generation: Counter,
    /// Nanoseconds since start at the last turn of the loop.
    pub heartbeat: Counter,
    /// Turns of the loop that found packets, and TSC cycles spent in them.
    pub busy_cycles: Counter,
    /// TSC cycles since the loop began.
    pub total_cycles: Counter,
    /// Bursts that held at least one packet.
    pub bursts: Counter,
    /// Packets in a burst, of sampled turns.
    pub burst_fill: Histogram,
    /// Nanoseconds from the beginning of a turn, when its packets were taken from their devices, to its end, when those sent
    /// on had been given to theirs; of sampled turns, for each packet that was sent on.
    pub time_inside: Histogram,
    /// Who opens sessions, and whose packets are dropped.
    pub talkers: HeavyHitters,
    stages: [StageCost; Measured::ALL.len()],
    drops: [Counter; DropReason::COUNT],
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            from_kernel: Counter::default(),
            forwarded: Counter::default(),
            consumed: Counter::default(),
            punted: Counter::default(),
            originated: Counter::default(),
            originated_lost: Counter::default(),
            held: Counter::default(),
            handed_over: Counter::default(),
            sessions: Counter::default(),
            sessions_opened: Counter::default(),
            sessions_closed: Counter::default(),
            forwarded_untracked: Counter::default(),
            encapsulated: Counter::default(),
            decapsulated: Counter::default(),
            passed_in_line: Counter::default(),
            half_open_given_up: Counter::default(),
            events_lost: Counter::default(),
            log_suppressed: Counter::default(),
            log_records: Counter::default(),
            log_records_lost: Counter::default(),
            log_entries_lost: Counter::default(),
            generation: Counter::default(),
            heartbeat: Counter::default(),
            busy_cycles: Counter::default(),
            total_cycles: Counter::default(),
            bursts: Counter::default(),
            burst_fill: Histogram::default(),
            time_inside: Histogram::default(),
            talkers: HeavyHitters::default(),
            stages: Default::default(),
            drops: core::array::from_fn(|_| Counter::default()),
        }
    }
}

impl WorkerCounters {
    /// Counts one dropped packet.
    pub fn drop_one(&self, reason: DropReason) {
        if let Some(counter) = self.drops.get(reason.index()) {
            counter.add(1);
        }
    }

    /// Packets dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index()).map_or(0, Counter::get)
    }

    /// Packets dropped for all reasons together.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// The cost of one stretch of the way.
    #[must_use]
    pub fn stage(&self, measured: Measured) -> &StageCost {
        let [receive, parse, lookup, act, open, transmit] = &self.stages;
        match measured {
            Measured::Receive => receive,
            Measured::Parse => parse,
            Measured::Lookup => lookup,
            Measured::Act => act,
            Measured::Open => open,
            Measured::Transmit => transmit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_is_counted_under_its_own_reason() {
        let counters = WorkerCounters::default();
        for reason in DropReason::all() {
            counters.drop_one(reason);
            assert_eq!(counters.dropped(reason), 1, "{reason}");
        }
        assert_eq!(counters.dropped_total(), DropReason::COUNT as u64);
    }
}
