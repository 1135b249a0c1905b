//! One worker's sessions of one address family: the slab, the index over both tuples of each, and their timers.
//!
//! Everything is allocated by [`Table::new`]; from then on nothing allocates, and a full table is an outcome. Only the
//! worker that owns the table calls it.
//!
//! A burst is looked up in three steps so that memory is asked for before it is needed: [`Table::hash`] and
//! [`Table::prefetch_bucket`] for each packet, then [`Table::prefetch_session`], then [`Table::lookup_hinted`].

use core::fmt;
use std::sync::Arc;

use units::{TenantId, Tick};

use crate::backing::{Reached, TableBacking};
use crate::expiry::{Expiry, Ring};
use crate::hash::Hasher;
use crate::index::{CAPACITY_MAX, Index};
use crate::memory::{OutOfMemory, Row};
use crate::timeouts::IdleTicks;
use crate::{Address, Direction, HashSecret, History, Kind, NewSession, Session, Timeouts, Tuple, WireTuple};

/// Where a session lies in its table, from 1. Good until the session is removed; afterwards it may name another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Slot(u32);

impl Slot {
    /// The slot with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`Table::prefetch_session`] found: the most likely session of a hash, to be proved by [`Table::lookup_hinted`].
/// A slot and a direction as the index packs them; 0, the vacant slot, when nothing was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint(u32);

impl Hint {
    /// The hint that leads to this session.
    #[must_use]
    pub const fn to(slot: Slot, direction: Direction) -> Self {
        Self(slot.0 << 1 | direction as u32)
    }

    /// Where the session lies.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> Slot {
        Slot(self.0 >> 1)
    }
}

/// Why a session was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The table holds as many as it may.
    #[error("the session table is full")]
    Full,
    /// Packets with one of these tuples already belong to a session, or both tuples are the same.
    #[error("a tuple of the session is in use")]
    TupleInUse,
}

/// Sessions whose memory is asked for at once before they end.
const DUE_AHEAD: usize = 8;

/// Numbers of vacant slots that are asked for before they are read: a burst's.
const VACANT_AHEAD: u32 = 64;

/// One worker's sessions of one address family.
///
/// Shape: 64 bytes of index for each 3.75 sessions of capacity, and 132 (IPv4) or 196 (IPv6) bytes each; memory of sessions
/// is not backed until it is used, or soon will be ([`Backing`](crate::Backing)).
#[derive(Debug)]
pub struct Table<A: Address> {
    hasher: Hasher,
    index: Index,
    /// Slot 0 is vacant for ever: whatever names no session reads it.
    sessions: Row<Session<A>>,
    expiry: Expiry,
    idle: IdleTicks,
    capacity: u32,
    occupied: u32,
    /// The first slot that was never used; those below it are occupied or vacant.
    fresh: u32,
    /// The vacant slots below `fresh`, the one that was used last at the end: known ahead, so that they can be asked for.
    vacant: Row<u32>,
    vacant_len: u32,
    /// Told now and then how far `fresh` has got.
    reached: Arc<Reached>,
}

impl<A: Address> Table<A> {
    /// An empty table with the default timeouts. A capacity above [`CAPACITY_MAX`] is cut to it; 0 holds nothing.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(capacity: usize, secret: HashSecret) -> Result<Self, OutOfMemory> {
        Self::with_hasher(capacity, Hasher::new(secret))
    }

    fn with_hasher(capacity: usize, hasher: Hasher) -> Result<Self, OutOfMemory> {
        let capacity = u32::try_from(capacity.min(CAPACITY_MAX)).unwrap_or(u32::MAX);
        Ok(Self {
            hasher,
            index: Index::new(capacity)?,
            sessions: Row::new(capacity as usize + 1)?,
            expiry: Expiry::new(),
            idle: IdleTicks::new(&Timeouts::default()),
            capacity,
            occupied: 0,
            fresh: 1,
            vacant: Row::new(capacity as usize)?,
            vacant_len: 0,
            reached: Arc::default(),
        })
    }

    /// Sets the idle limits. A session that is already there keeps its turn: a shorter limit counts from its next state
    /// change or turn of the wheel, or from [`Table::refresh_expiry`].
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.idle = IdleTicks::new(timeouts);
    }

    /// How many sessions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.occupied as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// How many sessions there may be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Bytes set aside, touched or not.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.index.bytes() + self.sessions.bytes() + self.vacant.bytes()
    }

    /// The keyed hash of what a packet of no tenant is looked up by.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, kind: Kind, tuple: &Tuple<A>) -> u64 {
        self.hash_wire(kind, (*tuple).into())
    }

    /// As [`Table::hash`], of a packet of this tenant.
    #[inline]
    #[must_use]
    pub fn hash_in(&self, tenant: TenantId, kind: Kind, tuple: &Tuple<A>) -> u64 {
        self.hasher.hash(tenant, kind, (*tuple).into())
    }

    /// As [`Table::hash`], for a tuple as it lies in a frame.
    #[inline(always)]
    #[must_use]
    pub fn hash_wire(&self, kind: Kind, tuple: WireTuple<A>) -> u64 {
        self.hasher.hash(TenantId::NONE, kind, tuple)
    }

    /// Asks for the bucket of `hash`.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Reads the bucket of `hash` and asks for the most likely session.
    #[inline(always)]
    #[must_use]
    pub fn prefetch_session(&self, hash: u64) -> Hint {
        let first = self.index.first(hash);
        let (slot, _) = Index::unpack(first);
        self.sessions.prefetch(slot.get());
        Hint(first)
    }

    /// Whether there was no session with this hash when [`Table::prefetch_session`] gave `hint` for it. False says nothing
    /// but that [`Table::lookup_hinted`] has to be asked.
    #[inline(always)]
    #[must_use]
    pub fn was_absent(&self, hint: Hint, hash: u64) -> bool {
        hint == Hint::default() && self.index.is_together(hash)
    }

    /// The session that packets of this kind and tuple belong to, and which way they run. `hash` is theirs.
    #[inline]
    #[must_use]
    pub fn lookup(&self, hash: u64, kind: Kind, tuple: &Tuple<A>) -> Option<(Slot, Direction)> {
        self.lookup_in(TenantId::NONE, hash, kind, tuple)
    }

    /// As [`Table::lookup`], of packets of this tenant; `hash` is from [`Table::hash_in`].
    #[inline]
    #[must_use]
    pub fn lookup_in(&self, tenant: TenantId, hash: u64, kind: Kind, tuple: &Tuple<A>) -> Option<(Slot, Direction)> {
        let tuple = (*tuple).into();
        self.index.find(hash, |slot, direction| self.sessions.at(slot.get()).is_of(tenant, kind, tuple, direction))
    }

    /// As [`Table::lookup`], with what [`Table::prefetch_session`] found for the same hash tried first. Sessions may have
    /// come and gone in between. Tenants are not compared: whoever asks for packets of none lets no session of one pass.
    #[inline(always)]
    #[must_use]
    pub fn lookup_hinted(&self, hint: Hint, hash: u64, kind: Kind, tuple: WireTuple<A>) -> Option<(Slot, Direction)> {
        let (slot, direction) = Index::unpack(hint.0);
        if self.sessions.at(slot.get()).matches(kind, tuple, direction) {
            Some((slot, direction))
        } else {
            self.lookup_cold(hash, kind, tuple)
        }
    }

    #[cold]
    #[inline(never)]
    fn lookup_cold(&self, hash: u64, kind: Kind, tuple: WireTuple<A>) -> Option<(Slot, Direction)> {
        self.index.find(hash, |slot, direction| self.sessions.at(slot.get()).matches(kind, tuple, direction))
    }

    /// Whether packets of this kind and tuple belong to a session.
    #[must_use]
    pub fn contains(&self, kind: Kind, tuple: &Tuple<A>) -> bool {
        self.contains_in(TenantId::NONE, kind, tuple)
    }

    /// As [`Table::contains`], of packets of this tenant.
    #[must_use]
    pub fn contains_in(&self, tenant: TenantId, kind: Kind, tuple: &Tuple<A>) -> bool {
        self.lookup_in(tenant, self.hash_in(tenant, kind, tuple), kind, tuple).is_some()
    }

    /// Adds a session.
    ///
    /// # Errors
    /// `TupleInUse` when either tuple belongs to a session or both are the same; `Full` when there is no room. Nothing
    /// has changed then.
    pub fn insert(&mut self, new: &NewSession<A>, now: Tick) -> Result<Slot, InsertError> {
        let hashes = [&new.original, &new.reply].map(|tuple| self.hash_in(new.tenant, new.kind, tuple));
        self.insert_hashed(new, hashes, now)
    }

    /// Asks for the memory of the session in `slot`.
    #[inline]
    pub fn prefetch_whole(&self, slot: Slot) {
        self.sessions.prefetch_whole(slot.get());
    }

    /// Asks for the memory of the session that will be inserted when `ahead` others have been.
    #[inline]
    pub fn prefetch_vacant(&self, ahead: u32) {
        let slot = match self.vacant_len.checked_sub(ahead.saturating_add(1)) {
            Some(place) => {
                // The numbers themselves are read from the end on: those of the next bursts.
                self.vacant.prefetch(place.saturating_sub(VACANT_AHEAD));
                *self.vacant.at(place)
            }
            None => self.fresh.saturating_add(ahead - self.vacant_len),
        };
        self.sessions.prefetch_whole(slot);
    }

    /// As [`Table::insert`], for tuples whose hashes are known: the original's and the reply's.
    ///
    /// # Errors
    /// As [`Table::insert`].
    pub fn insert_hashed(
        &mut self,
        new: &NewSession<A>,
        [original, reply]: [u64; 2],
        now: Tick,
    ) -> Result<Slot, InsertError> {
        if new.original == new.reply {
            return Err(InsertError::TupleInUse);
        }
        let Some(slot) = self.take_slot() else {
            let in_use = self.lookup_in(new.tenant, original, new.kind, &new.original).is_some()
                || self.lookup_in(new.tenant, reply, new.kind, &new.reply).is_some();
            return Err(if in_use { InsertError::TupleInUse } else { InsertError::Full });
        };
        let entered = self.enter(original, new, slot, Direction::Original).and_then(|()| {
            let entered = self.enter(reply, new, slot, Direction::Reply);
            if entered.is_err() {
                self.index.remove(original, slot, Direction::Original);
            }
            entered
        });
        if let Err(error) = entered {
            self.return_slot(slot);
            return Err(error);
        }
        self.sessions.at_mut(slot.get()).begin(new, now);
        self.occupied += 1;
        self.schedule(slot, now);
        Ok(slot)
    }

    /// Has a session that was just inserted go on where it was elsewhere.
    pub fn resume(&mut self, slot: Slot, history: &History, now: Tick) {
        if self.session(slot).is_occupied() {
            self.sessions.at_mut(slot.get()).resume(history, now);
            self.refresh_expiry(slot, now);
        }
    }

    /// Whether a conversation of this kind has not been silent for too long.
    #[must_use]
    pub fn outlives(&self, kind: Kind, history: &History, lingers: bool) -> bool {
        history.idle <= u64::from(self.idle.of(kind, history.state, lingers))
    }

    /// The session that [`Table::prefetch_session`] has found, if packets of this kind and tuple belong to it, and which way
    /// they run. `None` says nothing but that [`Table::lookup_hinted`] has to be asked; as there, tenants are not compared.
    #[inline(always)]
    #[must_use]
    pub fn hinted(&mut self, hint: Hint, kind: Kind, tuple: WireTuple<A>) -> Option<(&mut Session<A>, Direction)> {
        let (slot, direction) = Index::unpack(hint.0);
        let session = self.sessions.at_mut(slot.get());
        session.matches(kind, tuple, direction).then_some((session, direction))
    }

    /// Puts one tuple of a session into the index, if no session has it.
    #[inline]
    fn enter(&mut self, hash: u64, new: &NewSession<A>, slot: Slot, direction: Direction) -> Result<(), InsertError> {
        let tuple = match direction {
            Direction::Original => &new.original,
            Direction::Reply => &new.reply,
        };
        if self.index.insert_new(hash, slot, direction) {
            Ok(())
        } else if self.lookup_in(new.tenant, hash, new.kind, tuple).is_some() {
            Err(InsertError::TupleInUse)
        } else if self.index.insert(hash, slot, direction) {
            Ok(())
        } else {
            Err(InsertError::Full)
        }
    }

    /// Memory that the kernel has not backed yet, for a thread beside.
    pub(crate) fn backing(&self) -> TableBacking {
        TableBacking::new::<A>(self.index.stretch(), self.sessions.stretch(), Arc::clone(&self.reached))
    }

    /// Tells that thread how many slots have been in use at some time.
    #[inline]
    pub(crate) fn tell_reached(&self) {
        self.reached.tell(self.fresh);
    }

    /// The session in `slot`, a vacant one when there is none.
    #[inline]
    #[must_use]
    pub const fn session(&self, slot: Slot) -> &Session<A> {
        self.sessions.at(slot.get())
    }

    /// The session in `slot`, to change it; a vacant one when there is none.
    #[inline]
    pub const fn session_mut(&mut self, slot: Slot) -> &mut Session<A> {
        self.sessions.at_mut(slot.get())
    }

    /// Removes the session in `slot`. False when there was none.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let session = self.sessions.at(slot.get());
        if !session.is_occupied() || slot.get() == 0 || slot.get() >= self.fresh {
            return false;
        }
        for (direction, hash) in Direction::BOTH.into_iter().zip(self.hashes_of(session)) {
            let removed = self.index.remove(hash, slot, direction);
            debug_assert!(removed, "both tuples of a session are in the index");
        }
        self.expiry.remove(&mut self.sessions, slot);
        self.sessions.at_mut(slot.get()).vacate();
        self.return_slot(slot);
        self.occupied -= 1;
        true
    }

    /// Gives the session in `slot` the turn its state and last packet call for. Call it when the state has changed.
    pub fn refresh_expiry(&mut self, slot: Slot, now: Tick) {
        if self.sessions.at(slot.get()).is_occupied() {
            self.expiry.remove(&mut self.sessions, slot);
            self.schedule(slot, now);
        }
    }

    /// When the session in `slot` will have been silent for too long.
    #[must_use]
    pub fn expires(&self, slot: Slot, now: Tick) -> Tick {
        let session = self.sessions.at(slot.get());
        // A tick more than the limit: the last packet came at some moment within its tick.
        let limit = u64::from(self.idle.of(session.kind(), session.state(), session.lingers())) + 1;
        Tick::new((now.get() + limit).saturating_sub(u64::from(session.idle(now))))
    }

    /// Turns the wheel to `now` and removes what has been silent for too long, each after `on_expire` has seen it. Looks
    /// at `budget` sessions at most and goes on there at the next call. Returns how many it looked at.
    pub fn advance(&mut self, now: Tick, budget: usize, mut on_expire: impl FnMut(Slot, &Session<A>)) -> usize {
        for looked_at in 0..budget {
            let Some(slot) = self.expiry.next_turn(now) else { return looked_at };
            if looked_at % DUE_AHEAD == 0 {
                self.prefetch_due(slot);
            }
            if self.expires(slot, now) > now {
                self.refresh_expiry(slot, now);
            } else {
                on_expire(slot, self.sessions.at(slot.get()));
                self.remove(slot);
            }
        }
        budget
    }

    /// Asks for what ending the next few sessions from `first` on will touch: themselves, then their buckets. They are
    /// chained, so each is waited for once; without this, for each of its lines.
    fn prefetch_due(&self, first: Slot) {
        let mut slots = [0; DUE_AHEAD];
        let mut next = first.get();
        for slot in &mut slots {
            *slot = next;
            let session = self.sessions.at(next);
            next = session.next;
            self.sessions.prefetch_whole(next);
            if next == 0 {
                break;
            }
        }
        for slot in slots.into_iter().filter(|&slot| slot != 0) {
            for hash in self.hashes_of(self.sessions.at(slot)) {
                self.index.prefetch(hash);
            }
        }
    }

    /// The hashes of a session's tuples.
    fn hashes_of(&self, session: &Session<A>) -> [u64; 2] {
        let (tenant, kind) = (session.tenant(), session.kind());
        Direction::BOTH.map(|direction| self.hasher.hash(tenant, kind, session.wire_tuple(direction)))
    }

    /// The session that has been half open for longest, and since when: what to give up for a new one when the table is
    /// full. Half open is a TCP handshake under way, and anything else that was not answered yet.
    #[must_use]
    pub fn oldest_half_open(&self) -> Option<(Tick, Slot)> {
        let first = |ring: Ring| {
            let slot = self.expiry.first(ring)?;
            let session = self.session(slot);
            // Its state may have changed since.
            (session.ring() != Ring::Settled).then(|| (session.created(), slot))
        };
        Ring::HALF_OPEN.into_iter().filter_map(first).min()
    }

    /// One more than the last slot that ever held a session: where a walk over all of them ends.
    #[must_use]
    pub const fn slots_end(&self) -> u32 {
        self.fresh
    }

    /// The first session at or after slot `from`: begin with 0, go on with one more than the last. Looks at every slot up
    /// to it; a worker that answers between bursts uses [`Table::occupied`].
    #[must_use]
    pub fn next_occupied(&self, from: u32) -> Option<Slot> {
        self.occupied(from, u32::MAX).next().map(|(slot, _)| slot)
    }

    /// The sessions among `count` slots from slot `from` on: a piece of a walk up to [`Table::slots_end`].
    pub fn occupied(&self, from: u32, count: u32) -> impl Iterator<Item = (Slot, &Session<A>)> {
        let end = from.saturating_add(count).min(self.fresh);
        (from.max(1)..end).map(|slot| (Slot(slot), self.sessions.at(slot))).filter(|(_, session)| session.is_occupied())
    }

    fn schedule(&mut self, slot: Slot, now: Tick) {
        let ring = self.sessions.at(slot.get()).ring();
        let due = self.expires(slot, now);
        self.expiry.add(&mut self.sessions, slot, ring, due);
    }

    fn take_slot(&mut self) -> Option<Slot> {
        if let Some(last) = self.vacant_len.checked_sub(1) {
            self.vacant_len = last;
            Some(Slot(*self.vacant.at(last)))
        } else if self.fresh <= self.capacity {
            let slot = self.fresh;
            self.fresh += 1;
            Some(Slot(slot))
        } else {
            None
        }
    }

    const fn return_slot(&mut self, slot: Slot) {
        *self.vacant.at_mut(self.vacant_len) = slot.get();
        self.vacant_len += 1;
    }
}

#[cfg(test)]
mod tests;
