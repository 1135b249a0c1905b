//! When sessions end: a hierarchical timer wheel (Varghese and Lauck, SOSP 1987, scheme 7), threaded through the
//! sessions' cold halves.
//!
//! Two levels of 256 lists: one of single ticks (250 ms), one of 256 ticks (64 s); together 4 h 33 min. Packets do not
//! touch the wheel: a list's turn comes, each session on it is asked when it was last seen, and either has been silent
//! long enough or is put where it would be due. So the wheel is touched when a session opens, when its state changes, and
//! when its turn comes.
//!
//! TCP handshakes under way have a wheel of their own, so that the one nearest its end is found at once when a table is
//! full. Neither wheel knows what a session is; `table` asks and decides.

use units::Tick;

use crate::memory::Row;
use crate::{Address, Session, Slot};

const LISTS: usize = 256;
const LEVEL_BITS: u32 = 8;

/// Which wheel a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Ring {
    /// Handshakes under way.
    Embryonic = 0,
    /// Everything else.
    Settled = 1,
}

/// The list a session is on: ring, level and position, one-based so that 0 is "none".
const fn list_number(ring: Ring, level: u16, position: u16) -> u16 {
    1 + ((ring as u16) << 9 | level << 8 | position & 0xff)
}

/// The heads of one wheel's lists and which of them are not empty.
#[derive(Debug)]
struct Wheel {
    heads: [[u32; LISTS]; 2],
    occupied: [[u64; LISTS / 64]; 2],
}

impl Wheel {
    const fn new() -> Self {
        Self { heads: [[0; LISTS]; 2], occupied: [[0; LISTS / 64]; 2] }
    }

    fn head(&self, level: u16, position: u16) -> u32 {
        let level = self.heads.get(usize::from(level));
        level.and_then(|heads| heads.get(usize::from(position))).copied().unwrap_or_default()
    }

    fn set_head(&mut self, level: u16, position: u16, slot: u32) {
        let (level, position) = (usize::from(level), usize::from(position));
        if let Some(head) = self.heads.get_mut(level).and_then(|heads| heads.get_mut(position)) {
            *head = slot;
        }
        if let Some(word) = self.occupied.get_mut(level).and_then(|words| words.get_mut(position / 64)) {
            let bit = 1 << (position % 64);
            *word = if slot == 0 { *word & !bit } else { *word | bit };
        }
    }

    /// The first list of `level` at or after `from` that is not empty.
    fn first_from(&self, level: u16, from: u16) -> Option<u16> {
        let words = self.occupied.get(usize::from(level))?;
        let (word_from, bit_from) = (usize::from(from) / 64, from % 64);
        words.iter().enumerate().skip(word_from).find_map(|(index, &word)| {
            let word = if index == word_from { word & u64::MAX << bit_from } else { word };
            let position = u16::try_from(index * 64).ok()? + u16::try_from(word.trailing_zeros()).ok()?;
            (word != 0).then_some(position)
        })
    }
}

/// Both wheels of a table and how far they have turned.
#[derive(Debug)]
pub(crate) struct Expiry {
    wheels: [Wheel; 2],
    /// The first tick whose lists may not have been emptied yet.
    turn: u64,
}

impl Expiry {
    pub(crate) const fn new() -> Self {
        Self { wheels: [Wheel::new(), Wheel::new()], turn: 0 }
    }

    const fn wheel(&mut self, ring: Ring) -> &mut Wheel {
        let [embryonic, settled] = &mut self.wheels;
        match ring {
            Ring::Embryonic => embryonic,
            Ring::Settled => settled,
        }
    }

    /// Puts a session that is on no list where its turn comes at `due`, or as near before it as the wheel reaches.
    pub(crate) fn add<A: Address>(&mut self, sessions: &mut Row<Session<A>>, slot: Slot, ring: Ring, due: Tick) {
        // One round of the outer level less one list, so that none is met a round early.
        let furthest = self.turn + ((LISTS as u64 - 1) << LEVEL_BITS);
        let due = due.get().clamp(self.turn, furthest);
        let inner = due >> LEVEL_BITS == self.turn >> LEVEL_BITS;
        let (level, position) = if inner { (0, (due & 0xff) as u16) } else { (1, (due >> LEVEL_BITS & 0xff) as u16) };
        let wheel = self.wheel(ring);
        let next = wheel.head(level, position);
        wheel.set_head(level, position, slot.get());
        if next != 0 {
            sessions.at_mut(next).previous = slot.get();
        }
        let session = sessions.at_mut(slot.get());
        session.previous = 0;
        session.next = next;
        session.list = list_number(ring, level, position);
    }

    /// Takes a session off its list, if it is on one.
    pub(crate) fn remove<A: Address>(&mut self, sessions: &mut Row<Session<A>>, slot: Slot) {
        let session = sessions.at_mut(slot.get());
        let (previous, next, list) = (session.previous, session.next, session.list);
        if list == 0 {
            return;
        }
        (session.previous, session.next, session.list) = (0, 0, 0);
        if next != 0 {
            sessions.at_mut(next).previous = previous;
        }
        if previous != 0 {
            sessions.at_mut(previous).next = next;
        } else {
            let number = list - 1;
            let ring = if number >> 9 == 0 { Ring::Embryonic } else { Ring::Settled };
            self.wheel(ring).set_head(number >> 8 & 1, number & 0xff, next);
        }
    }

    /// A session whose turn has come by `now`, still on its list; the wheels turn as far as they have none. Each call
    /// looks at a bounded number of bits: at most one round of lists.
    pub(crate) fn next_turn(&mut self, now: Tick) -> Option<Slot> {
        while self.turn <= now.get() {
            let (inner, outer) = ((self.turn & 0xff) as u16, (self.turn >> LEVEL_BITS & 0xff) as u16);
            let due = self.wheels.iter().map(|wheel| wheel.head(1, outer)).find(|&head| head != 0);
            if let Some(slot) = due {
                return Some(Slot::new(slot));
            }
            let next = self.wheels.iter().filter_map(|wheel| wheel.first_from(0, inner)).min();
            let epoch = self.turn & !0xff;
            if let Some(position) = next {
                let tick = epoch + u64::from(position);
                if tick > now.get() {
                    self.turn = now.get();
                    return None;
                }
                self.turn = tick;
                return self.wheels.iter().map(|wheel| wheel.head(0, position)).find(|&head| head != 0).map(Slot::new);
            }
            if epoch + 256 > now.get() {
                self.turn = now.get();
                return None;
            }
            self.turn = epoch + 256;
            if self.is_empty() {
                self.turn = now.get();
            }
        }
        None
    }

    /// Whether no session is on any list.
    pub(crate) fn is_empty(&self) -> bool {
        self.wheels.iter().all(|wheel| wheel.occupied.iter().flatten().all(|&word| word == 0))
    }

    /// The handshake under way that is nearest its end.
    pub(crate) fn first_embryonic(&self) -> Option<Slot> {
        let [embryonic, _] = &self.wheels;
        let (inner, outer) = ((self.turn & 0xff) as u16, (self.turn >> LEVEL_BITS & 0xff) as u16);
        let near = embryonic.first_from(0, inner).map(|position| (0, position));
        let far =
            || embryonic.first_from(1, outer).or_else(|| embryonic.first_from(1, 0)).map(|position| (1, position));
        near.or_else(far).map(|(level, position)| Slot::new(embryonic.head(level, position)))
    }
}
