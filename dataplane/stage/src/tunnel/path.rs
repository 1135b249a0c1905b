//! What is known of the path to a tunnel's end: the largest outer packet it carries, as routers on the way have said
//! (RFC 1191, RFC 8201). One word, shared by all backends at one address and by all workers, kept from policy to policy.
//!
//! Only what makes a path narrower is believed, never below what every link carries, and not for longer than ten minutes:
//! then it is tried again (RFC 1191 section 6.3).

use core::sync::atomic::{AtomicU64, Ordering};

use units::{Nanos, Tick};

/// For how long a path counts as narrow after it was last said.
const AGE: Nanos = Nanos::from_secs(600);

/// Bits of the tick up to which an entry is in force; the MTU stands above them.
const TICK_BITS: u32 = 48;

/// The least MTU a path is believed to have: what every host takes whole (RFC 791 says 576; Linux and EVA-23 allow for
/// 552), or what every IPv6 link carries (RFC 8200 section 5).
#[must_use]
pub const fn floor(v6: bool) -> u16 {
    if v6 { 1_280 } else { 552 }
}

/// The MTU of one path, if it is narrower than the first link.
#[derive(Debug, Default)]
pub struct PathMtu(AtomicU64);

impl PathMtu {
    /// A path of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The largest outer packet that passes, in bytes, as far as is known at `now`.
    #[must_use]
    pub fn get(&self, now: Tick) -> Option<u16> {
        let word = self.0.load(Ordering::Relaxed);
        let until = word & ((1 << TICK_BITS) - 1);
        (now.get() < until).then(|| u16::try_from(word >> TICK_BITS).unwrap_or(u16::MAX))
    }

    /// Notes that a router carries no more than `mtu` bytes. A wider word changes nothing while a narrower one is in
    /// force; the caller has seen that it is not below the [`floor`].
    pub fn narrow(&self, mtu: u16, now: Tick) {
        if self.get(now).is_some_and(|known| known < mtu) {
            return;
        }
        let until = now.after(AGE).get() & ((1 << TICK_BITS) - 1);
        self.0.store(u64::from(mtu) << TICK_BITS | until, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gets_narrower_at_once_and_wider_after_ten_minutes() {
        let (path, begin) = (PathMtu::new(), Tick::new(40));
        assert_eq!(path.get(begin), None);
        path.narrow(1_400, begin);
        path.narrow(1_300, begin);
        path.narrow(1_450, begin);
        assert_eq!(path.get(begin), Some(1_300));
        let end = begin.after(AGE);
        assert_eq!(path.get(Tick::new(end.get() - 1)), Some(1_300));
        assert_eq!(path.get(end), None);
        path.narrow(1_450, end);
        assert_eq!(path.get(end), Some(1_450));
    }
}
