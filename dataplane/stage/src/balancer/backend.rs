//! One backend as it runs: who it is, how it is, and what it carries. It is shared by every policy that names it (an `Arc`
//! carried over from policy to policy) and by the sessions bound to it, so it outlives its removal from a policy.
//!
//! Health and administration are written by control, counters by workers; all of it is atomic and none of it is locked.
//! What a policy says of a backend (weight, hops) is in [`Member`](super::Member), not here: a policy that is compiled
//! but never put in force must change nothing.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::net::IpAddr;
use std::sync::Arc;

use units::Nanos;

use super::stable_hash::StableHash;
use crate::tunnel::PathMtu;

/// What the probes of a backend have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Health {
    /// Probed, and not yet risen for the first time.
    Unknown = 0,
    /// Alive, or not probed at all.
    Up = 1,
    /// It stopped answering.
    Failed = 2,
}

impl Health {
    /// The word of `show services`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Failed => "failed",
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Up,
            2 => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// Whether a backend is in service (SE-52).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admin {
    /// In service.
    Enabled,
    /// Gets no new sessions; keeps those it has until its drain timeout.
    Draining,
    /// Out of service; its sessions have ended.
    Disabled,
}

impl Admin {
    /// The word of `show services`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// What becomes of a session that is bound to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It goes on.
    Stays,
    /// The backend was taken out and the drain timeout has passed.
    Drained,
    /// The backend failed: [`OnBackendFailure`](super::OnBackendFailure) decides.
    Failed,
}

/// No end in sight: the value of a drain deadline while there is none.
const NEVER: u64 = u64::MAX;

/// What workers write, on a cache line away from what they only read.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counters {
    opened: AtomicU64,
    closed: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// One backend of one service: identity, condition and counters.
#[derive(Debug)]
pub struct Backend {
    service: Box<str>,
    name: Box<str>,
    address: IpAddr,
    port: Option<u16>,
    key: u64,
    path: Arc<PathMtu>,
    health: AtomicU8,
    response_us: AtomicU32,
    /// When its sessions end because the operator drains it (nanoseconds, `NEVER` when not).
    operator_end: AtomicU64,
    /// When its sessions end because the policy in force leaves it out or disables it.
    policy_end: AtomicU64,
    counters: Counters,
}

impl Backend {
    /// A backend without sessions (SE-51): unknown until its probes rise when it is `probed`, else up.
    #[must_use]
    pub fn new(service: &str, name: &str, address: IpAddr, port: Option<u16>, probed: bool) -> Self {
        let key = StableHash::new(1)
            .text(service)
            .text(name)
            .address(address)
            .word(port.map_or(u64::MAX, u64::from))
            .finish();
        let health = if probed { Health::Unknown } else { Health::Up };
        Self {
            service: service.into(),
            name: name.into(),
            address,
            port,
            key,
            path: Arc::new(PathMtu::new()),
            health: AtomicU8::new(health as u8),
            response_us: AtomicU32::new(0),
            operator_end: AtomicU64::new(NEVER),
            policy_end: AtomicU64::new(NEVER),
            counters: Counters::default(),
        }
    }

    /// The same backend on a path it shares with others at its address.
    #[must_use]
    pub(super) fn on_path(self, path: &Arc<PathMtu>) -> Self {
        Self { path: Arc::clone(path), ..self }
    }

    /// What is known of the path a tunnel to it takes.
    #[must_use]
    pub const fn path(&self) -> &Arc<PathMtu> {
        &self.path
    }

    /// The name of its service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The operator's name for it, unique in its service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Its port; `None` keeps the port the client asked for.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port of a session whose client asked for `asked`.
    #[must_use]
    pub fn port_for(&self, asked: u16) -> u16 {
        self.port.unwrap_or(asked)
    }

    /// A hash of service, name, address and port: the same on every appliance and in every policy.
    #[must_use]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// What its probes have found.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::from_number(self.health.load(Ordering::Relaxed))
    }

    /// Records what its probes have found; true when that is news. Rings follow with
    /// [`Services::rebuilt`](super::Services::rebuilt).
    pub fn set_health(&self, health: Health) -> bool {
        self.health.swap(health as u8, Ordering::Relaxed) != health as u8
    }

    /// The response time of the last probe answered, in microseconds; 0 before the first.
    #[must_use]
    pub fn response_us(&self) -> u32 {
        self.response_us.load(Ordering::Relaxed)
    }

    /// Records the response time of a probe, in microseconds.
    pub fn set_response_us(&self, micros: u32) {
        self.response_us.store(micros, Ordering::Relaxed);
    }

    /// The operator drains it: no new sessions, and the present ones end at `until`. A later policy does not undo this;
    /// calling again moves the end (a flush is a drain that ends now).
    pub fn drain(&self, until: Nanos) {
        self.operator_end.store(until.get(), Ordering::Relaxed);
    }

    /// The operator puts it back.
    pub fn undrain(&self) {
        self.operator_end.store(NEVER, Ordering::Relaxed);
    }

    /// The policy in force leaves it out, or disables it: its sessions end at `until`, or earlier when that was said
    /// before.
    pub(super) fn withdraw(&self, until: Nanos) {
        self.policy_end.fetch_min(until.get(), Ordering::Relaxed);
    }

    /// The policy in force wants it in service.
    pub(super) fn admit(&self) {
        self.policy_end.store(NEVER, Ordering::Relaxed);
    }

    /// Whether the operator has taken it out.
    pub(super) fn is_drained(&self) -> bool {
        self.operator_end.load(Ordering::Relaxed) != NEVER
    }

    /// Whether neither the operator nor the policy in force has taken it out.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.sessions_end() == NEVER
    }

    /// Whether it is in service at `now`.
    #[must_use]
    pub fn admin(&self, now: Nanos) -> Admin {
        match self.sessions_end() {
            NEVER => Admin::Enabled,
            end if now.get() < end => Admin::Draining,
            _ => Admin::Disabled,
        }
    }

    /// What becomes at `now` of the sessions it has. Two loads: cheap enough for every packet.
    #[must_use]
    pub fn fate(&self, now: Nanos) -> Fate {
        if now.get() >= self.sessions_end() {
            Fate::Drained
        } else if self.health() == Health::Failed {
            Fate::Failed
        } else {
            Fate::Stays
        }
    }

    fn sessions_end(&self) -> u64 {
        self.operator_end.load(Ordering::Relaxed).min(self.policy_end.load(Ordering::Relaxed))
    }

    /// A session was directed to it (SE-48, SE-67). Call it right after the choice, so that the next choice, of whichever
    /// worker, sees it.
    pub fn opened(&self) {
        self.opened_together(1);
    }

    /// As [`opened`](Self::opened), for several sessions of a burst whose choices did not depend on how many there were.
    pub fn opened_together(&self, sessions: u64) {
        self.counters.opened.fetch_add(sessions, Ordering::Relaxed);
    }

    /// A session it had has closed, expired or moved on. Exactly once for each [`opened`](Self::opened).
    pub fn closed(&self) {
        self.counters.closed.fetch_add(1, Ordering::Release);
    }

    /// Sessions in progress: openings less closings, never below zero (SE-50).
    #[must_use]
    pub fn active(&self) -> u64 {
        // Closings first: a session that opens and closes between the two loads is then seen as open, not as less than none.
        let closed = self.counters.closed.load(Ordering::Acquire);
        self.counters.opened.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Sessions ever directed to it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counters.opened.load(Ordering::Relaxed)
    }

    /// Adds a worker's batch of traffic, both directions together.
    pub fn count(&self, packets: u64, bytes: u64) {
        self.counters.packets.fetch_add(packets, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Packets and bytes of its sessions, as far as workers have handed them in.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.counters.packets.load(Ordering::Relaxed), self.counters.bytes.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(probed: bool) -> Backend {
        Backend::new("shop", "shop-a", "10.0.0.11".parse().unwrap(), Some(8080), probed)
    }

    #[test]
    fn counts_never_go_below_zero() {
        let backend = backend(false);
        backend.closed();
        assert_eq!(backend.active(), 0, "SE-50");
        backend.opened();
        backend.opened();
        assert_eq!((backend.active(), backend.total()), (1, 2));
    }

    #[test]
    fn a_probed_backend_is_unknown_until_it_rises() {
        assert_eq!((backend(true).health(), backend(false).health()), (Health::Unknown, Health::Up));
        let probed = backend(true);
        assert!(probed.set_health(Health::Up) && !probed.set_health(Health::Up));
        assert_eq!(probed.health(), Health::Up);
    }

    #[test]
    fn draining_keeps_sessions_until_its_end_and_not_longer() {
        let backend = backend(false);
        let end = Nanos::from_secs(30);
        backend.drain(end);
        assert_eq!((backend.admin(Nanos::ZERO), backend.fate(Nanos::ZERO)), (Admin::Draining, Fate::Stays));
        assert_eq!((backend.admin(end), backend.fate(end)), (Admin::Disabled, Fate::Drained));
        backend.undrain();
        assert_eq!((backend.admin(end), backend.fate(end)), (Admin::Enabled, Fate::Stays));
    }

    #[test]
    fn what_the_operator_drains_stays_so_when_a_policy_admits_it() {
        let backend = backend(false);
        backend.drain(Nanos::from_secs(30));
        backend.admit();
        assert!(!backend.is_enabled());
        backend.undrain();
        backend.withdraw(Nanos::from_secs(60));
        backend.withdraw(Nanos::from_secs(90));
        assert_eq!(backend.fate(Nanos::from_secs(60)), Fate::Drained, "the first promise holds");
        backend.admit();
        assert!(backend.is_enabled());
    }

    #[test]
    fn a_failed_backend_hands_its_sessions_to_the_failure_rule() {
        let backend = backend(true);
        backend.set_health(Health::Failed);
        assert_eq!(backend.fate(Nanos::ZERO), Fate::Failed);
        backend.set_health(Health::Up);
        assert_eq!(backend.fate(Nanos::ZERO), Fate::Stays);
    }

    #[test]
    fn openings_of_racing_workers_are_all_counted() {
        let backend = backend(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        backend.opened();
                        backend.count(2, 120);
                        backend.closed();
                    }
                });
            }
        });
        assert_eq!((backend.active(), backend.total(), backend.traffic()), (0, 4_000, (8_000, 480_000)));
    }
}
