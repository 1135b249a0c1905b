//! `[sessions]` and `[sessions.timeouts]`: how many are kept, and for how long.

use units::Nanos;

use crate::duration::duration;
use crate::kind::{boolean, choice, integer};
use crate::policy::{Midstream, Sessions, Timeouts};
use crate::section::Section;

/// Sessions when the file does not say: 50 MB of table once all are in use.
const CAPACITY: u32 = 262_144;

/// Most sessions of one appliance: about 10 GB of table.
const CAPACITY_MAX: u32 = 50_000_000;

/// Shortest timeout: one tick.
const TIMEOUT_MIN: Nanos = Nanos::from_millis(250);

/// Longest timeout: a session remembers when it was last seen in ticks that wrap after 4 h 33 min.
const TIMEOUT_MAX: Nanos = Nanos::from_secs(4 * 3_600 + 30 * 60);

/// Reads `[sessions]`.
pub(crate) fn sessions(file: &mut Section<'_>) -> Sessions {
    let Some(mut section) = file.table("sessions") else {
        return Sessions {
            capacity: CAPACITY as usize,
            timeouts: Timeouts::default(),
            midstream: Midstream::Strict,
            reject_unknown: false,
            keep_across_restarts: true,
        };
    };
    let capacity = section.or("capacity", integer(1..=CAPACITY_MAX), CAPACITY);
    let words = &[("strict", Midstream::Strict), ("loose", Midstream::Loose)];
    let midstream = section.or("midstream", choice(words), Midstream::Strict);
    let reject_unknown = section.or("reject_unknown", boolean, false);
    let keep_across_restarts = section.or("keep_across_restarts", boolean, true);
    let timeouts = section.table("timeouts").map_or_else(Timeouts::default, timeouts);
    section.finish();
    Sessions { capacity: capacity as usize, timeouts, midstream, reject_unknown, keep_across_restarts }
}

/// Reads `[sessions.timeouts]`.
fn timeouts(mut section: Section<'_>) -> Timeouts {
    let mut span = |key| section.optional(key, duration(TIMEOUT_MIN..=TIMEOUT_MAX)).map(|at| at.value);
    let timeouts = Timeouts {
        tcp_syn: span("tcp_syn"),
        tcp_syn_received: span("tcp_syn_received"),
        tcp_established: span("tcp_established"),
        tcp_closing: span("tcp_closing"),
        tcp_time_wait: span("tcp_time_wait"),
        tcp_closed: span("tcp_closed"),
        udp_one_way: span("udp_one_way"),
        udp_two_way: span("udp_two_way"),
        icmp: span("icmp"),
        other: span("other"),
        nat64_udp: span("nat64_udp"),
        nat64_tcp_transitory: span("nat64_tcp_transitory"),
        nat64_icmp: span("nat64_icmp"),
    };
    section.finish();
    timeouts
}
