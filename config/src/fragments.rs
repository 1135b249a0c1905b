//! `[fragments]`: how many wait for the rest of their datagrams, and for how long.

use units::Nanos;

use crate::duration::duration;
use crate::kind::integer;
use crate::policy::Fragments;
use crate::section::Section;

/// Fragments that may wait when the file does not say: 90 datagrams of 65,535 bytes, 9 MiB of packet buffers.
const CAPACITY: u32 = 4_096;

/// The least capacity: one datagram of 65,535 bytes over links of 1,280, twice, for each of four senders.
const CAPACITY_MIN: u32 = 512;

/// Most fragments that may wait: 2 GiB of packet buffers.
const CAPACITY_MAX: u32 = 1 << 20;

/// Fragments of one datagram when the file does not say: 65,535 bytes over links of 1,280 are 53.
const PER_DATAGRAM: u16 = 64;

/// How long a datagram is waited for when the file does not say. Fragments come within milliseconds of each other, and what
/// was lost does not come; the 15 s of RFC 791 and 60 s of RFC 8200 are the receiver's.
const TIMEOUT: Nanos = Nanos::from_secs(5);

/// Reads `[fragments]`.
pub(crate) fn fragments(file: &mut Section<'_>) -> Fragments {
    let usual = Fragments { capacity: CAPACITY as usize, per_datagram: PER_DATAGRAM.into(), timeout: TIMEOUT };
    let Some(mut section) = file.table("fragments") else { return usual };
    let capacity = section.or("capacity", integer(CAPACITY_MIN..=CAPACITY_MAX), CAPACITY);
    let per_datagram = section.or("per_datagram", integer(2..=256), PER_DATAGRAM);
    let bounds = Nanos::from_millis(100)..=Nanos::from_secs(60);
    let timeout = section.or("timeout", duration(bounds), TIMEOUT);
    section.finish();
    Fragments { capacity: capacity as usize, per_datagram: per_datagram.into(), timeout }
}
