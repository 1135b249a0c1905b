//! `[fragments]`: how many wait for the rest of their datagrams, and for how long.

use units::Nanos;

use crate::duration::duration;
use crate::findings::Finding;
use crate::kind::integer;
use crate::policy::Fragments;
use crate::section::Section;

/// Fragments that may wait when the file does not say, or as many as the workers need ([`least`]): 90 datagrams of 65,535
/// bytes, 9 MiB of packet buffers.
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

/// What workers need at least: the capacity is split among them, each keeps half of its share for one sender, and all
/// fragments between two addresses meet on one worker.
fn least(per_datagram: u16, workers: usize) -> u32 {
    2 * u32::from(per_datagram) * u32::try_from(workers.max(1)).unwrap_or(u32::MAX >> 16)
}

/// Reads `[fragments]`, for this number of workers.
pub(crate) fn fragments(file: &mut Section<'_>, workers: usize) -> Fragments {
    let usual = |per_datagram| CAPACITY.max(least(per_datagram, workers));
    let Some(mut section) = file.table("fragments") else {
        let capacity = usual(PER_DATAGRAM) as usize;
        return Fragments { capacity, per_datagram: PER_DATAGRAM.into(), timeout: TIMEOUT };
    };
    let written = section.optional("capacity", integer(CAPACITY_MIN..=CAPACITY_MAX));
    let per_datagram = section.or("per_datagram", integer(2..=256), PER_DATAGRAM);
    let bounds = Nanos::from_millis(100)..=Nanos::from_secs(60);
    let timeout = section.or("timeout", duration(bounds), TIMEOUT);
    let least = least(per_datagram, workers);
    if let Some(few) = written.as_ref().filter(|written| written.value < least) {
        let message = format!(
            "{} fragments shared by {workers} workers are {} each: no datagram of {per_datagram} fragments passes surely",
            few.value,
            few.value / u32::try_from(workers.max(1)).unwrap_or(1)
        );
        let finding = Finding::warning("few-fragments", &few.spot, message);
        section.report(finding.advice(format!("write {least} or more, or a smaller `per_datagram`")));
    }
    let capacity = written.map_or_else(|| usual(per_datagram), |written| written.value);
    section.finish();
    Fragments { capacity: capacity as usize, per_datagram: per_datagram.into(), timeout }
}
