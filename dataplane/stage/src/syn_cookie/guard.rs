//! When a service asks for cookies: what all workers count of its handshakes, and the thresholds the operator set.
//!
//! Pressure is the handshakes under way: sessions that are half open, and cookies sent lately that nobody has brought back,
//! so that a flood that goes on keeps the cookies on although it fills nothing any more. Everything is atomic and counted
//! without order; a few handshakes more or less at a threshold do not matter.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use units::Nanos;

use super::CookieKey;

/// Whether a service asks clients to prove their handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieMode {
    /// Never: every SYN opens a session and goes to a backend.
    #[default]
    Off,
    /// From `on_at` handshakes under way until there are only `off_at`.
    Adaptive {
        /// Handshakes under way that turn cookies on; at least 1.
        on_at: u32,
        /// Handshakes under way that turn them off again; below `on_at`.
        off_at: u32,
    },
    /// For every connection.
    Always,
}

impl CookieMode {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Adaptive { .. } => "adaptive",
            Self::Always => "always",
        }
    }
}

/// Cookies count as handshakes under way for this and the window before: 2^32 ns each, 4.3 s, together what an unanswered
/// handshake lives.
const WINDOW_BITS: u32 = 32;

/// For how long after the last cookie ACKs are looked at for one: as long as a cookie holds at most.
const HELD: Nanos = Nanos::new(2 << 36);

/// When timestamps are offered again after a backend answered without. That costs one client whose own system drops what
/// comes without the timestamps it was promised, so not often.
const TIMESTAMPS_AGAIN: Nanos = Nanos::from_secs(600);

/// What became of a look at the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// Whether this SYN has to be proven.
    pub proof: bool,
    /// Whether cookies were turned on by it.
    pub turned: bool,
}

/// What has been counted of a service's handshakes since it came into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynCounts {
    /// Whether cookies are on.
    pub engaged: bool,
    /// Sessions half open now.
    pub half_open: u32,
    /// Times cookies were turned on.
    pub engagements: u64,
    /// SYNs answered with a cookie.
    pub sent: u64,
    /// Cookies brought back by who got them.
    pub proven: u64,
}

/// One service's handshakes, shared by all workers and carried from policy to policy.
#[derive(Debug, Default)]
pub struct SynGuard {
    key: CookieKey,
    half_open: AtomicU32,
    engaged: AtomicBool,
    /// The window that cookies are counted in now, and the cookies of it and of the one before, by its lowest bit.
    window: AtomicU64,
    unproven: [AtomicU32; 2],
    last_cookie: AtomicU64,
    engagements: AtomicU64,
    sent: AtomicU64,
    proven: AtomicU64,
    /// When a backend answered last without timestamps, 0 for never.
    without_timestamps: AtomicU64,
}

fn less(count: &AtomicU32) {
    let _ = count.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
}

impl SynGuard {
    /// The key of its cookies.
    #[must_use]
    pub const fn key(&self) -> &CookieKey {
        &self.key
    }

    /// A SYN has come: whether it has to be proven.
    pub fn press(&self, mode: CookieMode, now: Nanos) -> Pressed {
        let CookieMode::Adaptive { on_at, .. } = mode else {
            return Pressed { proof: mode == CookieMode::Always, turned: false };
        };
        if self.engaged.load(Relaxed) {
            return Pressed { proof: true, turned: false };
        }
        if self.pressure(now) < on_at || self.engaged.swap(true, Relaxed) {
            return Pressed { proof: self.engaged.load(Relaxed), turned: false };
        }
        self.engagements.fetch_add(1, Relaxed);
        Pressed { proof: true, turned: true }
    }

    /// Time has passed: turns cookies off where the pressure is gone; true when it did.
    pub fn relax(&self, mode: CookieMode, now: Nanos) -> bool {
        let stays = match mode {
            CookieMode::Adaptive { off_at, .. } => self.pressure(now) > off_at,
            CookieMode::Off | CookieMode::Always => false,
        };
        self.engaged.load(Relaxed) && !stays && self.engaged.swap(false, Relaxed)
    }

    /// Whether an ACK of no session may bring a cookie back, whatever the mode is by now: who was answered believes to be
    /// connected, and waits for a window that only its proof brings.
    #[must_use]
    pub fn expects(&self, now: Nanos) -> bool {
        let last = Nanos::new(self.last_cookie.load(Relaxed));
        last > Nanos::ZERO && now.since(last) <= HELD
    }

    /// A cookie was sent.
    pub fn asked(&self, now: Nanos) {
        self.turn_window(now);
        let [even, odd] = &self.unproven;
        let count = if (now.get() >> WINDOW_BITS) & 1 == 0 { even } else { odd };
        count.fetch_add(1, Relaxed);
        self.sent.fetch_add(1, Relaxed);
        // Written seldom: every worker reads it.
        if now.since(Nanos::new(self.last_cookie.load(Relaxed))) >= Nanos::from_millis(100) {
            self.last_cookie.store(now.get(), Relaxed);
        }
    }

    /// A cookie was brought back.
    pub fn answered(&self) {
        let [even, odd] = &self.unproven;
        less(if even.load(Relaxed) > odd.load(Relaxed) { even } else { odd });
        self.proven.fetch_add(1, Relaxed);
    }

    /// A session began its handshake.
    pub fn opened(&self) {
        self.half_open.fetch_add(1, Relaxed);
    }

    /// A session's handshake is over, one way or the other.
    pub fn settled(&self) {
        less(&self.half_open);
    }

    /// A backend has answered a SYN that offered timestamps with none: clients are offered what backends take, since whoever
    /// was promised timestamps may drop what comes without (RFC 7323 section 3.2).
    pub fn missed_timestamps(&self, now: Nanos) {
        self.without_timestamps.store(now.get(), Relaxed);
    }

    /// Whether clients may be offered timestamps. Nothing is learnt while they are not, so one client tries again now and
    /// then.
    #[must_use]
    pub fn offers_timestamps(&self, now: Nanos) -> bool {
        let missed = Nanos::new(self.without_timestamps.load(Relaxed));
        missed == Nanos::ZERO || now.since(missed) >= TIMESTAMPS_AGAIN
    }

    /// What has been counted.
    #[must_use]
    pub fn counts(&self) -> SynCounts {
        SynCounts {
            engaged: self.engaged.load(Relaxed),
            half_open: self.half_open.load(Relaxed),
            engagements: self.engagements.load(Relaxed),
            sent: self.sent.load(Relaxed),
            proven: self.proven.load(Relaxed),
        }
    }

    /// Handshakes under way.
    fn pressure(&self, now: Nanos) -> u32 {
        self.turn_window(now);
        let [even, odd] = &self.unproven;
        let unproven = even.load(Relaxed).saturating_add(odd.load(Relaxed));
        self.half_open.load(Relaxed).saturating_add(unproven)
    }

    /// Forgets cookies of windows that are over.
    fn turn_window(&self, now: Nanos) {
        let current = now.get() >> WINDOW_BITS;
        let before = self.window.load(Relaxed);
        if before == current || self.window.compare_exchange(before, current, Relaxed, Relaxed).is_err() {
            return;
        }
        let [even, odd] = &self.unproven;
        let [this, other] = if current & 1 == 0 { [even, odd] } else { [odd, even] };
        this.store(0, Relaxed);
        if current != before + 1 {
            other.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTIVE: CookieMode = CookieMode::Adaptive { on_at: 100, off_at: 50 };

    fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(seconds)
    }

    /// FLD-02: on once and off once, with a gap between the thresholds.
    #[test]
    fn cookies_turn_on_and_off_with_the_handshakes_under_way() {
        let guard = SynGuard::default();
        for _ in 0..100 {
            assert_eq!(guard.press(ADAPTIVE, at(100)), Pressed { proof: false, turned: false });
            guard.opened();
        }
        assert_eq!(guard.press(ADAPTIVE, at(100)), Pressed { proof: true, turned: true });
        assert_eq!(guard.press(ADAPTIVE, at(100)), Pressed { proof: true, turned: false });
        for left in (51..100).rev() {
            guard.settled();
            assert!(!guard.relax(ADAPTIVE, at(101)), "{left} left");
        }
        guard.settled();
        assert!(guard.relax(ADAPTIVE, at(101)) && !guard.relax(ADAPTIVE, at(101)));
        assert_eq!(guard.press(ADAPTIVE, at(101)), Pressed { proof: false, turned: false });
        assert_eq!(guard.counts().engagements, 1);
    }

    /// While a flood goes on, cookies nobody brings back keep them on, although nothing is half open.
    #[test]
    fn a_flood_that_goes_on_keeps_cookies_on() {
        let guard = SynGuard::default();
        (0..100).for_each(|_| guard.opened());
        assert!(guard.press(ADAPTIVE, at(100)).turned);
        (0..100).for_each(|_| guard.settled());
        for second in 100..200 {
            (0..100).for_each(|_| guard.asked(at(second)));
            assert!(!guard.relax(ADAPTIVE, at(second)), "second {second}");
        }
        assert!(guard.relax(ADAPTIVE, at(210)));
    }

    #[test]
    fn cookies_that_come_back_are_no_pressure() {
        let guard = SynGuard::default();
        (0..100).for_each(|_| guard.opened());
        assert!(guard.press(ADAPTIVE, at(100)).turned);
        (0..100).for_each(|_| guard.settled());
        for _ in 0..1_000 {
            guard.asked(at(101));
            guard.answered();
        }
        assert!(guard.relax(ADAPTIVE, at(101)));
        assert_eq!((guard.counts().sent, guard.counts().proven), (1_000, 1_000));
    }

    #[test]
    fn cookies_are_looked_for_as_long_as_one_may_be_under_way() {
        let guard = SynGuard::default();
        assert!(!guard.expects(at(1)));
        guard.asked(at(100));
        assert!(guard.expects(at(100)) && guard.expects(at(230)) && !guard.expects(at(300)));
    }

    #[test]
    fn a_mode_that_is_not_adaptive_turns_the_switch_off() {
        let guard = SynGuard::default();
        (0..100).for_each(|_| guard.opened());
        assert!(guard.press(ADAPTIVE, at(100)).turned);
        assert!(guard.relax(CookieMode::Off, at(100)));
        assert!(!guard.press(CookieMode::Off, at(100)).proof && guard.press(CookieMode::Always, at(100)).proof);
    }

    #[test]
    fn clients_are_offered_what_backends_take() {
        let guard = SynGuard::default();
        assert!(guard.offers_timestamps(at(100)));
        guard.missed_timestamps(at(100));
        assert!(!guard.offers_timestamps(at(100)) && !guard.offers_timestamps(at(699)));
        assert!(guard.offers_timestamps(at(700)));
        guard.missed_timestamps(at(701));
        assert!(!guard.offers_timestamps(at(702)));
    }
}
