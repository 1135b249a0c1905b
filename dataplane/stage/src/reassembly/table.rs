//! The fragments that wait for the rest of their datagrams: bounded in number, for each datagram, for each sender, and in
//! time. The oldest datagram gives way when there is no room.
//!
//! Overlapping fragments, and others that contradict each other, condemn their datagram (RFC 5722, RFC 8200): what was kept
//! of it is dropped, and so is what still comes, until its time is over. An exact duplicate is dropped and changes nothing.
//! Condemned datagrams have a list of their own: they hold no fragments, so ending one makes room for none.

use std::collections::HashMap;

use units::{Nanos, TenantId, ZoneId};
use wire::Endpoints;
use wire::fragment::Piece;

use super::order::{Link, List, NOWHERE, at};
use super::source::{Source, Sources};
use crate::DropReason;

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The addresses.
    pub endpoints: Endpoints,
    /// IPv4's protocol; 0 for IPv6, whose later fragments need not say (RFC 8200 section 4.5).
    pub protocol: u8,
    /// The identification.
    pub identification: u32,
    /// The zone they came from: nobody adds to the datagrams of another zone.
    pub zone: ZoneId,
    /// The tenant they belong to: nobody adds to the datagrams of another.
    pub tenant: TenantId,
}

/// Bounds that may change while the table is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fragments one datagram may come in.
    pub per_datagram: usize,
    /// How long after its first fragment a datagram must be complete.
    pub timeout: Nanos,
}

/// One fragment that waits.
#[derive(Debug)]
pub struct Held<B> {
    /// Its frame.
    pub buffer: B,
    /// What it carries.
    pub piece: Piece,
    /// Bytes of the IP packet.
    pub packet: u16,
}

/// A datagram that is complete: a handle to its fragments, until the last is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramId(u32);

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It waits for others.
    Waits,
    /// Its datagram is complete. Its fragments are taken with [`Waiting::next`], before the table is asked to forget.
    Complete(DatagramId),
    /// It was dropped; its datagram, if there is one, is not affected.
    Dropped(DropReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    /// Nothing of it is kept, and nothing more is taken, for this reason.
    Condemned(DropReason),
    Complete,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    born: Nanos,
    state: State,
    /// Its fragments in order of offset: the first of a chain through their places.
    first: u32,
    count: usize,
    /// Bytes that have come.
    bytes: u32,
    /// Bytes of the IP packets of its fragments, and of the largest.
    packets: u32,
    largest: u16,
    /// Where it ends, once its last fragment is there.
    end: Option<u32>,
    source: u32,
    by_age: Link,
    by_source: Link,
    next_free: u32,
}

#[derive(Debug)]
struct Place<B> {
    held: Option<Held<B>>,
    /// The next fragment of the datagram, or the next free place.
    next: u32,
}

/// The table of one worker.
#[derive(Debug)]
pub struct Waiting<B> {
    datagrams: Vec<Datagram>,
    places: Vec<Place<B>>,
    index: HashMap<Key, u32>,
    sources: Sources,
    /// Those that wait, oldest first.
    waiting: List,
    /// Those that are condemned, in the order they were.
    condemned: List,
    free_datagram: u32,
    free_place: u32,
    held: usize,
    capacity: usize,
}

/// What is told of each batch of fragments that are dropped without being asked for: why, and how many.
pub type Lost<'a> = &'a mut dyn FnMut(DropReason, usize);

fn by_age(datagram: &mut Datagram) -> &mut Link {
    &mut datagram.by_age
}

fn by_source(datagram: &mut Datagram) -> &mut Link {
    &mut datagram.by_source
}

impl<B> Waiting<B> {
    /// A table of this many fragments, of as many datagrams at most; all its memory is taken now.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            datagrams: Vec::with_capacity(capacity),
            places: Vec::with_capacity(capacity),
            // Twice as much as is ever in it: a map less than half full never grows.
            index: HashMap::with_capacity(2 * capacity),
            sources: Sources::new(capacity),
            waiting: List::EMPTY,
            condemned: List::EMPTY,
            free_datagram: NOWHERE,
            free_place: NOWHERE,
            held: 0,
            capacity,
        }
    }

    /// Fragments that wait, those of complete datagrams that were not taken yet among them.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// What one sender may have in the table: one for each datagram and one for each fragment, of which there may be as many
    /// as the capacity of both. A quarter of all: of datagrams of one fragment each a quarter, of those in many
    /// pieces nearly half. One whole datagram at least.
    fn share(&self, limits: &Limits) -> usize {
        (self.capacity / 2).max(limits.per_datagram + 1)
    }

    /// Takes a fragment in at `now`; `same` says whether two frames of the same piece carry the same bytes.
    pub fn take(
        &mut self,
        key: Key,
        fragment: Held<B>,
        now: Nanos,
        limits: &Limits,
        same: impl Fn(&Held<B>, &Held<B>) -> bool,
        lost: Lost<'_>,
    ) -> Taken {
        let known = self.index.get(&key).copied().filter(|&number| !self.is_over(number, now, limits));
        let number = match known {
            Some(number) => number,
            None => match self.begin(key, now, limits, lost) {
                Ok(number) => number,
                Err(reason) => return Taken::Dropped(reason),
            },
        };
        match self.fit(number, &fragment, limits, same) {
            Ok(before) => self.put(number, before, fragment, limits, lost),
            Err(Unfit::Duplicate) => Taken::Dropped(DropReason::FragmentDuplicate),
            Err(Unfit::Condemned(reason)) => Taken::Dropped(reason),
            Err(Unfit::Condemns(reason)) => {
                self.condemn(number, reason, lost);
                Taken::Dropped(reason)
            }
        }
    }

    /// Whether the time of a datagram is over, so that its identification may be used again.
    fn is_over(&self, number: u32, now: Nanos, limits: &Limits) -> bool {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.datagrams.get(number))
            .is_none_or(|datagram| now.since(datagram.born) >= limits.timeout)
    }

    /// A new datagram. Whatever was of this key is over.
    fn begin(&mut self, key: Key, now: Nanos, limits: &Limits, lost: Lost<'_>) -> Result<u32, DropReason> {
        if let Some(&old) = self.index.get(&key) {
            self.end(old, DropReason::FragmentTimeout, lost);
        }
        let source = Source::of(key.tenant, key.endpoints.source());
        let share = self.share(limits);
        if let Some(number) = self.sources.find(source)
            && self.sources.load(number) + 2 > share
        {
            self.give_up_of(number, lost);
        }
        if self.free_datagram == NOWHERE && self.datagrams.len() >= self.capacity {
            let oldest = self.condemned.front().or_else(|| self.waiting.front()).ok_or(DropReason::FragmentsFull)?;
            self.end(oldest, DropReason::FragmentsFull, lost);
        }
        let source = self.sources.obtain(source).ok_or(DropReason::FragmentsFull)?;
        let new = Datagram {
            key,
            born: now,
            state: State::Waits,
            first: NOWHERE,
            count: 0,
            bytes: 0,
            packets: 0,
            largest: 0,
            end: None,
            source,
            by_age: Link::LOOSE,
            by_source: Link::LOOSE,
            next_free: NOWHERE,
        };
        let number = match at(&mut self.datagrams, self.free_datagram) {
            Some(place) => {
                let number = self.free_datagram;
                self.free_datagram = place.next_free;
                *place = new;
                number
            }
            None => {
                let number = u32::try_from(self.datagrams.len()).map_err(|_| DropReason::FragmentsFull)?;
                self.datagrams.push(new);
                number
            }
        };
        self.index.insert(key, number);
        self.waiting.push(number, &mut self.datagrams, by_age);
        if let Some(list) = self.sources.datagrams(source) {
            list.push(number, &mut self.datagrams, by_source);
        }
        self.sources.add(source, 1);
        Ok(number)
    }

    /// The oldest datagram of a sender that has its share makes room for its next.
    fn give_up_of(&mut self, source: u32, lost: Lost<'_>) {
        if let Some(oldest) = self.sources.datagrams(source).and_then(|list| list.front()) {
            self.end(oldest, DropReason::FragmentsOfSource, lost);
        }
    }

    /// Where among the others a fragment belongs: behind which place.
    fn fit(
        &self,
        number: u32,
        new: &Held<B>,
        limits: &Limits,
        same: impl Fn(&Held<B>, &Held<B>) -> bool,
    ) -> Result<u32, Unfit> {
        let contradiction = Unfit::Condemns(DropReason::FragmentOverlap);
        let datagram = usize::try_from(number).ok().and_then(|number| self.datagrams.get(number));
        let Some(datagram) = datagram else { return Err(contradiction) };
        if let State::Condemned(reason) = datagram.state {
            return Err(Unfit::Condemned(reason));
        }
        let (mut before, mut at) = (NOWHERE, datagram.first);
        while let Some(place) = usize::try_from(at).ok().and_then(|at| self.places.get(at))
            && let Some(held) = &place.held
            && held.piece.offset <= new.piece.offset
        {
            let (old, piece) = (&held.piece, &new.piece);
            if (old.offset, old.len, old.more) == (piece.offset, piece.len, piece.more) {
                return Err(if same(held, new) { Unfit::Duplicate } else { contradiction });
            }
            if old.end() > u32::from(piece.offset) {
                return Err(contradiction);
            }
            (before, at) = (at, place.next);
        }
        let next = usize::try_from(at).ok().and_then(|at| self.places.get(at)).and_then(|place| place.held.as_ref());
        if next.is_some_and(|next| u32::from(next.piece.offset) < new.piece.end()) {
            return Err(contradiction);
        }
        // Nothing lies behind the end, and there is one end only.
        let beyond = match (datagram.end, new.piece.more) {
            (Some(end), true) => new.piece.end() >= end,
            (Some(_), false) => true,
            (None, true) => false,
            (None, false) => next.is_some(),
        };
        if beyond {
            return Err(contradiction);
        }
        if datagram.count >= limits.per_datagram {
            return Err(Unfit::Condemns(DropReason::FragmentsTooMany));
        }
        Ok(before)
    }

    /// Puts a fragment that fits in its place. Whatever waits has fragments, but for the datagram this one may be the first
    /// of, so that ending the oldest makes room.
    fn put(&mut self, number: u32, before: u32, new: Held<B>, limits: &Limits, lost: Lost<'_>) -> Taken {
        if self.free_place == NOWHERE && self.places.len() >= self.capacity {
            let Some(oldest) = self.waiting.front() else { return Taken::Dropped(DropReason::FragmentsFull) };
            self.end(oldest, DropReason::FragmentsFull, lost);
            if oldest == number {
                return Taken::Dropped(DropReason::FragmentsFull);
            }
        }
        let Some(datagram) = at(&mut self.datagrams, number) else {
            return Taken::Dropped(DropReason::FragmentsFull);
        };
        let source = datagram.source;
        datagram.count += 1;
        datagram.bytes += u32::from(new.piece.len);
        datagram.packets += u32::from(new.packet);
        datagram.largest = datagram.largest.max(new.packet);
        if !new.piece.more {
            datagram.end = Some(new.piece.end());
        }
        let complete = datagram.end == Some(datagram.bytes);
        let next = match at(&mut self.places, before) {
            Some(place) => place.next,
            None => datagram.first,
        };
        let place = Place { held: Some(new), next };
        let position = match at(&mut self.places, self.free_place) {
            Some(free) => {
                let position = self.free_place;
                self.free_place = free.next;
                *free = place;
                position
            }
            None => {
                let position = u32::try_from(self.places.len()).unwrap_or(NOWHERE);
                self.places.push(place);
                position
            }
        };
        match at(&mut self.places, before) {
            Some(place) => place.next = position,
            None => {
                if let Some(datagram) = at(&mut self.datagrams, number) {
                    datagram.first = position;
                }
            }
        }
        self.held += 1;
        self.sources.add(source, 1);
        if complete {
            self.detach(number);
            if let Some(datagram) = at(&mut self.datagrams, number) {
                datagram.state = State::Complete;
            }
            return Taken::Complete(DatagramId(number));
        }
        if self.sources.load(source) > self.share(limits) {
            self.give_up_of(source, lost);
        }
        Taken::Waits
    }

    /// Takes a datagram out of all lists: nobody finds it any more, and nobody's share has it.
    fn detach(&mut self, number: u32) {
        let Some(datagram) = at(&mut self.datagrams, number) else { return };
        let (key, source, load) = (datagram.key, datagram.source, datagram.count + 1);
        let list = if datagram.state == State::Waits { &mut self.waiting } else { &mut self.condemned };
        list.remove(number, &mut self.datagrams, by_age);
        self.index.remove(&key);
        if let Some(list) = self.sources.datagrams(source) {
            list.remove(number, &mut self.datagrams, by_source);
        }
        self.sources.sub(source, load);
    }

    /// Drops what is kept of a datagram; returns how many fragments that was.
    fn drop_all(&mut self, number: u32) -> usize {
        let mut dropped = 0;
        while self.next(DatagramId(number)).is_some() {
            dropped += 1;
        }
        dropped
    }

    /// Drops what is kept of a datagram, and remembers that nothing more of it is wanted.
    fn condemn(&mut self, number: u32, reason: DropReason, lost: Lost<'_>) {
        let dropped = self.drop_all(number);
        self.waiting.remove(number, &mut self.datagrams, by_age);
        self.condemned.push(number, &mut self.datagrams, by_age);
        if let Some(datagram) = at(&mut self.datagrams, number) {
            datagram.state = State::Condemned(reason);
            let source = datagram.source;
            datagram.count = 0;
            self.sources.sub(source, dropped);
        }
        if dropped > 0 {
            lost(reason, dropped);
        }
    }

    /// Forgets a datagram and drops what is kept of it.
    fn end(&mut self, number: u32, reason: DropReason, lost: Lost<'_>) {
        self.detach(number);
        let dropped = self.drop_all(number);
        self.free(number);
        if dropped > 0 {
            lost(reason, dropped);
        }
    }

    fn free(&mut self, number: u32) {
        let free = self.free_datagram;
        if let Some(datagram) = at(&mut self.datagrams, number) {
            datagram.next_free = free;
            self.free_datagram = number;
        }
    }

    /// Forgets the oldest datagrams whose time is over, at most `budget`. One that was condemned after a younger one stays
    /// behind it until that one's time is over, too: nobody notices, since whoever asks for it looks at its own time.
    pub fn expire(&mut self, now: Nanos, limits: &Limits, budget: usize, lost: Lost<'_>) {
        for _ in 0..budget {
            let oldest = [self.waiting.front(), self.condemned.front()];
            let over = oldest.into_iter().flatten().find(|&oldest| self.is_over(oldest, now, limits));
            let Some(over) = over else { return };
            self.end(over, DropReason::FragmentTimeout, lost);
        }
    }

    /// Bytes a complete datagram carries; bytes of its fragments as IP packets, and of the largest of them.
    #[must_use]
    pub fn measure(&self, id: DatagramId) -> (u32, u32, u16) {
        let datagram = usize::try_from(id.0).ok().and_then(|number| self.datagrams.get(number));
        datagram.map_or((0, 0, 0), |datagram| (datagram.bytes, datagram.packets, datagram.largest))
    }

    /// The fragments of a complete datagram in order of offset.
    pub fn fragments(&self, id: DatagramId) -> impl Iterator<Item = &Held<B>> {
        let place = |number: u32| usize::try_from(number).ok().and_then(|number| self.places.get(number));
        let first = usize::try_from(id.0).ok().and_then(|number| self.datagrams.get(number));
        let mut at = first.map_or(NOWHERE, |datagram| datagram.first);
        core::iter::from_fn(move || {
            let place = place(at)?;
            at = place.next;
            place.held.as_ref()
        })
    }

    /// Takes the next fragment of a complete datagram, in order of offset; with the last the handle ends.
    pub fn next(&mut self, id: DatagramId) -> Option<Held<B>> {
        let datagram = at(&mut self.datagrams, id.0)?;
        let position = datagram.first;
        let place = at(&mut self.places, position)?;
        let held = place.held.take()?;
        datagram.first = core::mem::replace(&mut place.next, self.free_place);
        self.free_place = position;
        self.held -= 1;
        if datagram.first == NOWHERE && datagram.state == State::Complete {
            self.free(id.0);
        }
        Some(held)
    }

    /// Fragments there is memory for, for tests.
    #[cfg(test)]
    pub(super) fn places_taken(&self) -> usize {
        self.places.capacity()
    }

    /// Datagrams and senders that are known, for tests.
    #[cfg(test)]
    pub(super) fn known(&self) -> (usize, usize) {
        (self.index.len(), self.sources.len())
    }
}

/// Why a fragment finds no place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    /// It came before.
    Duplicate,
    /// Nothing of this datagram is wanted any more.
    Condemned(DropReason),
    /// With it nothing of the datagram is wanted any more.
    Condemns(DropReason),
}
