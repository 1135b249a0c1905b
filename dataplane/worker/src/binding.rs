//! The backends that have sessions on this worker, and what their sessions count.
//!
//! A session names its binding in 16 bits. A packet of a session that exists touches nothing here, so its cost does not
//! depend on how many backends there are: it is counted in its session, what sessions have counted is collected when they
//! are full, when they end and by a walk each second ([`sweep`](crate::sweep)), and the sums go to the backend's shared
//! counters a few bindings a turn. Only while some backend fails or drains is every packet's binding asked for its fate.
//! A binding outlives the policy that made it: it holds the backend itself, so sessions of a removed backend drain in
//! good order.

use std::collections::HashMap;
use std::sync::Arc;

use arrayvec::ArrayVec;
use session::{Address, Session, Traffic};
use stage::Keyed;
use stage::balancer::{Backend, Fate};
use stage::syn_cookie::SynGuard;
use units::limits::{BINDINGS_MAX, BURST_MAX};
use units::{Nanos, Tick};

/// Bindings looked after in one turn. Where there are more, a round over all of them begins once a tick at most: each
/// reads memory that nobody read for long.
const REFRESHED_AT_ONCE: usize = 16;

/// The number of a binding, as a session keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BindingId(u16);

impl BindingId {
    /// No backend: the session was not balanced, or there were more backends in use than bindings.
    pub(crate) const NONE: Self = Self(0);

    /// The id with this number.
    #[must_use]
    pub(crate) const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub(crate) const fn get(self) -> u16 {
        self.0
    }
}

#[derive(Debug, Default)]
struct Binding {
    backend: Option<Arc<Backend>>,
    flushed: bool,
    sessions: u32,
    /// Of these, opened in this burst.
    untold: u32,
    /// Where handshakes of its sessions are counted.
    guard: Option<Arc<SynGuard>>,
}

/// What is known of a binding beside its backend.
#[derive(Clone, Copy, Debug)]
struct Tally {
    /// What its sessions have counted since the backend was last told.
    traffic: Traffic,
    /// What becomes of its sessions.
    fate: Fate,
}

impl Tally {
    const NONE: Self = Self { traffic: Traffic { packets: 0, bytes: 0 }, fate: Fate::Stays };
}

/// The bindings of one worker.
#[derive(Debug)]
pub(crate) struct Bindings {
    entries: Vec<Binding>,
    /// By the same numbers. What sessions without a backend count here is never read.
    tallies: Vec<Tally>,
    by_backend: HashMap<u64, u16, Keyed>,
    free: Vec<u16>,
    /// Bindings whose sessions do not stay.
    leaving: usize,
    hand: usize,
    /// The first tick in which a round over many bindings may begin.
    round: Tick,
    /// The binding that was opened last of the backends whose places in memory are alike: a guess, proved by its entry.
    guesses: [u16; GUESSES],
    /// Bindings opened in this burst whose backends have not been told.
    untold: ArrayVec<u16, BURST_MAX>,
}

/// Bindings that are found without the index.
const GUESSES: usize = 64;

/// A backend is the same as long as it is the same allocation: policies carry it over by name, address and port.
fn identity(backend: &Arc<Backend>) -> u64 {
    Arc::as_ptr(backend).addr() as u64
}

impl Bindings {
    /// An empty table for as many backends as a policy may bring into use, its memory taken at once.
    #[must_use]
    pub(crate) fn new() -> Self {
        let mut entries = Vec::with_capacity(BINDINGS_MAX);
        entries.push(Binding::default());
        let mut tallies = Vec::with_capacity(BINDINGS_MAX);
        tallies.push(Tally::NONE);
        Self {
            entries,
            tallies,
            // Twice as much as is ever in it, so that it never grows.
            by_backend: HashMap::with_capacity_and_hasher(2 * BINDINGS_MAX, Keyed::default()),
            free: Vec::with_capacity(BINDINGS_MAX),
            leaving: 0,
            hand: 0,
            round: Tick::new(0),
            guesses: [0; GUESSES],
            untold: ArrayVec::new_const(),
        }
    }

    /// A new session of `backend`. The backend's count rises by one (SE-67).
    pub(crate) fn open(&mut self, backend: &Arc<Backend>) -> BindingId {
        let opened = self.open_in_burst(backend);
        self.tell_opened();
        opened
    }

    /// As [`open`](Self::open), but the backend's count rises only with [`tell_opened`](Self::tell_opened): for choices that
    /// do not depend on it.
    #[inline]
    pub(crate) fn open_in_burst(&mut self, backend: &Arc<Backend>) -> BindingId {
        let number = self.number_of(backend);
        if let Some(entry) = self.entries.get_mut(usize::from(number))
            && number != 0
        {
            entry.sessions += 1;
            if entry.untold == 0 && self.untold.try_push(number).is_err() {
                backend.opened();
            } else {
                entry.untold += 1;
            }
        }
        BindingId(number)
    }

    /// Tells the backends what was opened in this burst, each once: their shared counts are written with locked
    /// instructions.
    pub(crate) fn tell_opened(&mut self) {
        for number in self.untold.drain(..) {
            if let Some(entry) = self.entries.get_mut(usize::from(number)) {
                let count = core::mem::take(&mut entry.untold);
                if let Some(backend) = &entry.backend {
                    backend.opened_together(u64::from(count));
                }
            }
        }
    }

    #[inline]
    fn number_of(&mut self, backend: &Arc<Backend>) -> u16 {
        // Backends are allocated by themselves, on lines of their own.
        let place = usize::try_from(identity(backend) >> 7).unwrap_or(0) % GUESSES;
        let guess = self.guesses.get(place).copied().unwrap_or(0);
        let known = self.entries.get(usize::from(guess)).and_then(|entry| entry.backend.as_ref());
        if known.is_some_and(|known| Arc::ptr_eq(known, backend)) {
            return guess;
        }
        let number = match self.by_backend.get(&identity(backend)) {
            Some(&number) => number,
            None => self.bind(backend),
        };
        if let Some(guess) = self.guesses.get_mut(place) {
            *guess = number;
        }
        number
    }

    fn bind(&mut self, backend: &Arc<Backend>) -> u16 {
        let entry = Binding { backend: Some(Arc::clone(backend)), ..Binding::default() };
        let number = if let Some(number) = self.free.pop() {
            if let Some(slot) = self.entries.get_mut(usize::from(number)) {
                *slot = entry;
            }
            if let Some(tally) = self.tallies.get_mut(usize::from(number)) {
                *tally = Tally::NONE;
            }
            number
        } else if self.entries.len() < BINDINGS_MAX
            && let Ok(number) = u16::try_from(self.entries.len())
        {
            self.entries.push(entry);
            self.tallies.push(Tally::NONE);
            number
        } else {
            return 0;
        };
        self.by_backend.insert(identity(backend), number);
        number
    }

    /// A session of this binding begins its handshake; false when it cannot be counted.
    pub(crate) fn begin_handshake(&mut self, id: BindingId, guard: &Arc<SynGuard>) -> bool {
        let Some(entry) = self.entries.get_mut(usize::from(id.0)).filter(|_| id != BindingId::NONE) else {
            return false;
        };
        if entry.guard.is_none() {
            entry.guard = Some(Arc::clone(guard));
        }
        if let Some(guard) = &entry.guard {
            guard.opened();
        }
        true
    }

    /// A handshake that was counted is over.
    pub(crate) fn end_handshake(&self, id: BindingId) {
        if let Some(guard) = self.entries.get(usize::from(id.0)).and_then(|entry| entry.guard.as_ref()) {
            guard.settled();
        }
    }

    /// A session of this binding ended: the backend's count falls by one (SE-48).
    pub(crate) fn close(&mut self, id: BindingId) {
        if id == BindingId::NONE {
            return;
        }
        let Some(entry) = self.entries.get_mut(usize::from(id.0)) else { return };
        entry.sessions = entry.sessions.saturating_sub(1);
        if let Some(backend) = &entry.backend {
            backend.closed();
        }
    }

    /// Counts what passed of this binding.
    pub(crate) fn count(&mut self, id: BindingId, traffic: Traffic) {
        if let Some(tally) = self.tallies.get_mut(usize::from(id.0)) {
            tally.traffic.add(traffic);
        }
    }

    /// Collects what a session has counted.
    #[cold]
    #[inline(never)]
    pub(crate) fn collect<A: Address>(&mut self, session: &mut Session<A>) {
        self.count(BindingId::new(session.binding()), session.harvest());
    }

    /// Whether the sessions of this binding go on.
    #[inline(always)]
    #[must_use]
    pub(crate) fn stays(&self, number: u16) -> bool {
        self.leaving == 0 || self.fate(BindingId::new(number)) == Fate::Stays
    }

    /// The backend of a binding.
    #[must_use]
    pub(crate) fn backend(&self, id: BindingId) -> Option<&Arc<Backend>> {
        self.entries.get(usize::from(id.0)).and_then(|entry| entry.backend.as_ref())
    }

    /// How many sessions a binding has.
    #[must_use]
    pub(crate) fn sessions(&self, id: BindingId) -> u32 {
        self.entries.get(usize::from(id.0)).map_or(0, |entry| entry.sessions)
    }

    /// Marks the bindings of these backends, and no others, as flushed.
    pub(crate) fn mark_flushed(&mut self, backends: &[Arc<Backend>]) {
        for entry in &mut self.entries {
            entry.flushed = false;
        }
        for backend in backends {
            if let Some(&number) = self.by_backend.get(&identity(backend))
                && let Some(entry) = self.entries.get_mut(usize::from(number))
            {
                entry.flushed = true;
            }
        }
    }

    /// Whether this binding is marked as flushed.
    pub(crate) fn is_flushed(&self, id: BindingId) -> bool {
        self.entries.get(usize::from(id.0)).is_some_and(|entry| entry.flushed)
    }

    /// What becomes of the sessions of this binding.
    #[must_use]
    #[inline(never)]
    pub(crate) fn fate(&self, id: BindingId) -> Fate {
        self.tallies.get(usize::from(id.0)).map_or(Fate::Stays, |tally| tally.fate)
    }

    /// Hands the sums of a few bindings to their backends, asks what has become of these, and frees bindings without
    /// sessions. Called every turn; true when a backend has drained or failed meanwhile, and its silent sessions are to be
    /// told.
    pub(crate) fn refresh(&mut self, now: Nanos) -> bool {
        let mut ended = false;
        // Each at most once a call: their shared counters are written with locked instructions.
        for _ in 0..REFRESHED_AT_ONCE.min(self.entries.len()) {
            self.hand += 1;
            if self.hand >= self.entries.len() {
                if self.entries.len() > REFRESHED_AT_ONCE {
                    if now.tick() < self.round {
                        self.hand -= 1;
                        return ended;
                    }
                    self.round = Tick::new(now.tick().get() + 1);
                }
                self.hand = 1;
            }
            let (Some(entry), Some(tally)) = (self.entries.get_mut(self.hand), self.tallies.get_mut(self.hand)) else {
                return ended;
            };
            let Some(backend) = &entry.backend else { continue };
            if tally.traffic.packets != 0 {
                let Traffic { packets, bytes } = core::mem::take(&mut tally.traffic);
                backend.count(packets, bytes);
            }
            let fate = if entry.sessions == 0 { Fate::Stays } else { backend.fate(now) };
            ended |= fate != Fate::Stays && tally.fate != fate;
            self.leaving -= usize::from(tally.fate != Fate::Stays);
            self.leaving += usize::from(fate != Fate::Stays);
            tally.fate = fate;
            if entry.sessions == 0 {
                self.by_backend.remove(&identity(backend));
                *entry = Binding::default();
                self.free.push(u16::try_from(self.hand).unwrap_or(0));
            }
        }
        ended
    }
}

impl Default for Bindings {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn backend(name: &str) -> Arc<Backend> {
        Arc::new(Backend::new("shop", name, Ipv4Addr::new(10, 0, 0, 11).into(), Some(8080), false))
    }

    #[test]
    fn traffic_reaches_the_backend_and_an_empty_binding_is_freed() {
        let (a, mut bindings) = (backend("a"), Bindings::new());
        let first = bindings.open(&a);
        assert_eq!(bindings.open(&a), first);
        bindings.count(first, Traffic { packets: 1, bytes: 100 });
        assert_eq!((a.active(), a.traffic()), (2, (0, 0)));
        bindings.refresh(Nanos::ZERO);
        assert_eq!(a.traffic(), (1, 100));
        bindings.close(first);
        bindings.close(first);
        bindings.refresh(Nanos::ZERO);
        assert_eq!(a.active(), 0);
        assert!(bindings.backend(first).is_none());
        assert_eq!(bindings.open(&backend("b")), first, "the freed number serves again");
    }

    #[test]
    fn a_drained_backend_is_reported_once() {
        let (a, mut bindings) = (backend("a"), Bindings::new());
        let binding = bindings.open(&a);
        a.drain(Nanos::from_secs(30));
        assert!(!bindings.refresh(Nanos::from_secs(29)));
        assert!(bindings.stays(binding.get()));
        assert!(bindings.refresh(Nanos::from_secs(30)));
        assert!(!bindings.refresh(Nanos::from_secs(31)));
        assert!(!bindings.stays(binding.get()));
        assert_eq!(bindings.fate(binding), Fate::Drained);
        let other = bindings.open(&backend("b"));
        assert!(bindings.stays(other.get()), "the fate of one is not that of others");
        bindings.close(binding);
        bindings.refresh(Nanos::from_secs(32));
        assert_eq!(bindings.leaving, 0, "an empty binding asks nobody to look");
    }

    #[test]
    fn many_bindings_are_looked_after_once_a_tick() {
        let mut bindings = Bindings::new();
        let all: Vec<_> = (0..1_000).map(|number| backend(&number.to_string())).collect();
        let opened: Vec<_> = all.iter().map(|backend| bindings.open(backend)).collect();
        let rounds = |bindings: &mut Bindings, now| {
            opened.iter().for_each(|&id| bindings.count(id, Traffic { packets: 1, bytes: 1 }));
            for _ in 0..1_000 {
                bindings.refresh(now);
            }
            all.iter().map(|backend| backend.traffic().0).sum::<u64>()
        };
        assert_eq!(rounds(&mut bindings, Nanos::from_secs(1)), 1_000);
        assert_eq!(rounds(&mut bindings, Nanos::from_secs(1)), 1_000, "this tick's round is over");
        assert_eq!(rounds(&mut bindings, Nanos::from_secs(2)), 3_000);
    }

    #[test]
    fn more_backends_than_bindings_go_uncounted() {
        let mut bindings = Bindings::new();
        let all: Vec<_> = (0..BINDINGS_MAX).map(|number| backend(&number.to_string())).collect();
        let uncounted = all.iter().filter(|backend| bindings.open(backend) == BindingId::NONE).count();
        assert_eq!(uncounted, 1, "number 0 means none");
        assert_eq!(all.last().unwrap().active(), 0);
    }
}
