//! The neighbor cache: a pure machine that is told what is needed and what is seen, and says what to do. Control owns it
//! and is its only caller; workers know only the outcome ([`Action::Resolved`], [`Action::Failed`]). Packets that wait are
//! the workers'; frames are written by `wire::emit`.
//!
//! What is known is forgotten in silence: to forget is not to have failed, and workers go on with the last address they
//! were told. When one of them says that it has sent there, the neighbor is asked for again.
//!
//! Invariants: nothing unsolicited creates an entry, and nothing at all changes one of our own addresses (EVA-26) or a
//! static entry; what is known is never pushed out by what is only asked for (FLD-11).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use units::{Nanos, PortId};
use wire::MacAddr;

use super::neighbor::{Action, Evidence, Limits, Neighbor, State};
use crate::balancer::stable_hash::{StableHash, below};

/// Between the questions about two neighbors of a port whose stations may all be others.
const DOUBT_PACE: Nanos = Nanos::from_millis(1);

/// A neighbor is an address on a port.
type Key = (PortId, IpAddr);

/// What is kept of one neighbor.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    mac: Option<MacAddr>,
    /// Questions asked in the present state.
    asked: u32,
    /// When the present state has to be looked at again.
    due: Nanos,
    confirmed: Nanos,
    used: Nanos,
    /// Its place among those that wait for an answer, oldest first.
    queued: u64,
}

/// The cache of all ports. Memory is bounded by [`Limits`].
#[derive(Debug)]
pub struct Neighbors {
    limits: Limits,
    own: HashSet<IpAddr>,
    entries: HashMap<Key, Entry>,
    /// Incomplete and failed neighbors by age: the first makes room.
    unresolved: BTreeMap<u64, Key>,
    resolved: usize,
    serial: u64,
    /// The second that `fresh` counts.
    second: u64,
    /// New neighbors asked for in that second.
    fresh: u32,
}

impl Neighbors {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            own: HashSet::new(),
            entries: HashMap::new(),
            unresolved: BTreeMap::new(),
            resolved: 0,
            serial: 0,
            second: 0,
            fresh: 0,
        }
    }

    /// Says which addresses are ours, virtual and pool addresses included. No neighbor is there any more: packets that wait
    /// for one need not wait longer.
    pub fn set_own(&mut self, addresses: impl IntoIterator<Item = IpAddr>, actions: &mut Vec<Action>) {
        self.own = addresses.into_iter().collect();
        let mine: Vec<Key> = self.entries.keys().filter(|(_, address)| self.own.contains(address)).copied().collect();
        for key in mine {
            self.remove(key);
            actions.push(Action::Failed { port: key.0, address: key.1 });
        }
    }

    /// Says which neighbors the operator has placed; earlier ones not among them are forgotten.
    pub fn set_static(
        &mut self,
        placed: impl IntoIterator<Item = (PortId, IpAddr, MacAddr)>,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) {
        let mut before: HashSet<Key> =
            self.entries.iter().filter(|(_, entry)| entry.state == State::Static).map(|(&key, _)| key).collect();
        for (port, address, mac) in placed {
            let key = (port, address);
            before.remove(&key);
            let known = self.entries.get(&key).map(|entry| (entry.state, entry.mac));
            if known == Some((State::Static, Some(mac))) {
                continue;
            }
            self.remove(key);
            self.insert(key, State::Static, Some(mac), now, now);
            actions.push(Action::Resolved { port, address, mac });
        }
        for key in before {
            self.remove(key);
        }
    }

    /// A packet needs this neighbor and the worker does not know it.
    pub fn resolve(&mut self, port: PortId, address: IpAddr, now: Nanos, actions: &mut Vec<Action>) {
        let key = (port, address);
        match self.entries.get(&key).map(|entry| (entry.state, entry.mac, entry.due)) {
            Some((state, Some(mac), _)) if state.is_resolved() => {
                actions.push(Action::Resolved { port, address, mac });
                self.used(port, address, now, actions);
            }
            Some((State::Incomplete, ..)) => {}
            Some((State::Failed, _, due)) if now < due => actions.push(Action::Failed { port, address }),
            _ if self.may_ask(address, now) => {
                self.remove(key);
                self.ask(key, now, actions);
            }
            _ => {
                self.remove(key);
                actions.push(Action::Failed { port, address });
            }
        }
    }

    /// Packets were sent to this neighbor since the last time; one that is stale is asked whether it is still there, and so
    /// is one that was forgotten here and not by the worker.
    pub fn used(&mut self, port: PortId, address: IpAddr, now: Nanos, actions: &mut Vec<Action>) {
        let retransmit = self.limits.retransmit;
        let Some(entry) = self.entries.get_mut(&(port, address)) else {
            if self.may_ask(address, now) {
                self.ask((port, address), now, actions);
            }
            return;
        };
        entry.used = now;
        if entry.state == State::Stale {
            entry.state = State::Probe;
            entry.asked = 1;
            entry.due = now + retransmit;
            actions.push(Action::Solicit { port, address, unicast: entry.mac });
        }
    }

    /// A neighbor was seen on `port`. `mac` is the link-layer address the message names; an advertisement may leave it out.
    /// Messages that RFC 4861 section 7.1 or RFC 826 tells receivers to ignore do not come here.
    pub fn seen(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: Option<MacAddr>,
        evidence: Evidence,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) {
        let mac = mac.filter(|&mac| !mac.is_multicast() && mac != MacAddr::ZERO);
        if self.own.contains(&address) {
            if let Some(mac) = mac {
                actions.push(Action::Conflict { port, address, mac });
            }
            return;
        }
        let key = (port, address);
        let Some(entry) = self.entries.get(&key).copied() else { return };
        let known = entry.mac;
        let differs = mac.is_some() && mac != known;
        // RFC 4861 appendix C; requests and gratuitous announcements are unsolicited and may replace.
        let (solicited, replaces) = match evidence {
            Evidence::Reply { solicited, replaces } => (solicited, replaces),
            Evidence::Request | Evidence::Gratuitous => (false, true),
        };
        let next = match entry.state {
            State::Static => return,
            State::Incomplete | State::Failed => match mac {
                None => return,
                // A failed neighbor was not asked just now, so its word is only a hint.
                Some(_) if solicited && entry.state == State::Incomplete => State::Reachable,
                Some(_) => State::Stale,
            },
            State::Reachable | State::Stale | State::Probe => {
                if differs && !replaces {
                    if entry.state != State::Reachable {
                        return;
                    }
                    // Somebody disagrees: keep the address, but look after it.
                    self.change(key, State::Stale, known, entry.confirmed, now);
                    return;
                }
                if solicited {
                    State::Reachable
                } else if differs {
                    State::Stale
                } else {
                    return;
                }
            }
        };
        let Some(mac) = mac.or(known) else { return };
        if !entry.state.is_resolved() {
            self.make_room();
        }
        let confirmed = if next == State::Reachable { now } else { entry.confirmed };
        self.change(key, next, Some(mac), confirmed, now);
        if !entry.state.is_resolved() || known != Some(mac) {
            actions.push(Action::Resolved { port, address, mac });
        }
    }

    /// The stations behind `port` may be others than before: its cable was. Each neighbor there is asked for anew, of everybody,
    /// one after the other; until it answers, or nobody does, it stays where it was. That others did not answer is forgotten.
    pub fn doubt(&mut self, port: PortId, now: Nanos) {
        let mut due = now;
        let mut failed = Vec::new();
        for (&key, entry) in self.entries.iter_mut().filter(|((of, _), _)| *of == port) {
            match entry.state {
                State::Static => continue,
                State::Failed => failed.push(key),
                State::Incomplete => entry.asked = 0,
                State::Reachable | State::Stale | State::Probe => {
                    entry.state = State::Probe;
                    entry.asked = self.limits.attempts;
                }
            }
            entry.due = due;
            due = due + DOUBT_PACE;
        }
        failed.into_iter().for_each(|key| self.remove(key));
    }

    /// Time has passed: questions are repeated, silence is noticed. Call it every quarter of a second or so; each call looks
    /// at every neighbor once.
    pub fn tick(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let due: Vec<Key> = self.entries.iter().filter(|(_, entry)| entry.due <= now).map(|(&key, _)| key).collect();
        for key in due {
            self.pass(key, now, actions);
        }
    }

    /// Every neighbor, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Neighbor> {
        self.entries.iter().map(|(&(port, address), entry)| Neighbor {
            port,
            address,
            state: entry.state,
            mac: entry.mac,
            confirmed: entry.confirmed,
            used: entry.used,
        })
    }

    /// How many neighbors there are, in whatever state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One neighbor whose time has come.
    fn pass(&mut self, key: Key, now: Nanos, actions: &mut Vec<Action>) {
        let (port, address) = key;
        let limits = self.limits;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let in_all = match entry.state {
            State::Incomplete => limits.attempts,
            // First the neighbor alone, then everybody: it may have moved to another station (RFC 7048).
            State::Probe => limits.attempts.saturating_mul(2),
            State::Reachable => {
                entry.state = State::Stale;
                entry.due = entry.used.max(now) + limits.forget;
                return;
            }
            State::Stale => {
                if now.since(entry.used) < limits.forget {
                    entry.due = entry.used + limits.forget;
                    return;
                }
                return self.remove(key);
            }
            State::Failed => return self.remove(key),
            State::Static => {
                entry.due = Nanos::new(u64::MAX);
                return;
            }
        };
        if entry.asked < in_all {
            let unicast = entry.mac.filter(|_| entry.asked < limits.attempts);
            entry.asked += 1;
            entry.due = now + limits.retransmit;
            actions.push(Action::Solicit { port, address, unicast });
        } else {
            actions.push(Action::Failed { port, address });
            let used = entry.used;
            self.remove(key);
            self.drop_oldest_unresolved(actions);
            self.insert(key, State::Failed, None, now, used);
        }
    }

    /// Begins to ask for a neighbor that is not in the cache.
    fn ask(&mut self, key: Key, now: Nanos, actions: &mut Vec<Action>) {
        let (port, address) = key;
        self.drop_oldest_unresolved(actions);
        self.insert(key, State::Incomplete, None, now, now);
        actions.push(Action::Solicit { port, address, unicast: None });
    }

    /// Whether this can be a neighbor at all, and this second's share of new ones is not used up; counts it against that.
    fn may_ask(&mut self, address: IpAddr, now: Nanos) -> bool {
        if self.own.contains(&address) || !is_a_station(address) {
            return false;
        }
        let second = now.as_millis() / 1_000;
        if second != self.second {
            self.second = second;
            self.fresh = 0;
        }
        self.fresh = self.fresh.saturating_add(1);
        self.fresh <= self.limits.new_per_second
    }

    /// Makes room for one more unresolved neighbor. The oldest has failed, not only been forgotten: packets may wait for it,
    /// and asking again at once would push out the next.
    fn drop_oldest_unresolved(&mut self, actions: &mut Vec<Action>) {
        if self.unresolved.len() < self.limits.unresolved_max {
            return;
        }
        if let Some(key) = self.unresolved.first_entry().map(|oldest| *oldest.get()) {
            self.remove(key);
            actions.push(Action::Failed { port: key.0, address: key.1 });
        }
    }

    /// Makes room for one more resolved neighbor: the one not used for longest is forgotten.
    fn make_room(&mut self) {
        if self.resolved < self.limits.resolved_max {
            return;
        }
        let dynamic =
            self.entries.iter().filter(|(_, entry)| entry.state.is_resolved() && entry.state != State::Static);
        if let Some((&key, _)) = dynamic.min_by_key(|(key, entry)| (entry.used, **key)) {
            self.remove(key);
        }
    }

    fn change(&mut self, key: Key, state: State, mac: Option<MacAddr>, confirmed: Nanos, now: Nanos) {
        let used = self.entries.get(&key).map_or(now, |entry| entry.used);
        self.remove(key);
        self.insert(key, state, mac, now, used);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.confirmed = confirmed;
        }
    }

    fn insert(&mut self, key: Key, state: State, mac: Option<MacAddr>, now: Nanos, used: Nanos) {
        self.serial += 1;
        let queued = self.serial;
        let due = match state {
            State::Incomplete | State::Probe => now + self.limits.retransmit,
            State::Reachable => now + self.reachable_time(key),
            State::Stale => used + self.limits.forget,
            State::Failed => now + self.limits.failed_hold,
            State::Static => Nanos::new(u64::MAX),
        };
        if !state.is_resolved() {
            self.unresolved.insert(queued, key);
        } else if state != State::Static {
            self.resolved += 1;
        }
        self.entries.insert(key, Entry { state, mac, asked: 1, due, confirmed: now, used, queued });
    }

    fn remove(&mut self, key: Key) {
        let Some(entry) = self.entries.remove(&key) else { return };
        if !entry.state.is_resolved() {
            self.unresolved.remove(&entry.queued);
        } else if entry.state != State::Static {
            self.resolved -= 1;
        }
    }

    /// Half to one and a half times the mean (RFC 4861 section 6.3.4), so that neighbors are not all asked at once.
    fn reachable_time(&self, (port, address): Key) -> Nanos {
        let hash = StableHash::new(u64::from(port.get())).address(address).word(self.serial).finish();
        let mean = self.limits.reachable.get();
        let spread = below(hash, usize::try_from(mean).unwrap_or(usize::MAX));
        Nanos::new((mean / 2).saturating_add(spread as u64))
    }
}

/// Whether an address can be a single neighbor's.
fn is_a_station(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_broadcast() && !v4.is_multicast() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_loopback(),
    }
}
