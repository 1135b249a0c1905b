//! When sessions end: a hierarchical timer wheel (Varghese and Lauck, SOSP 1987, scheme 7), threaded through the
//! sessions' cold halves.
//!
//! Two levels of 256 lists: one of single ticks (250 ms), one of 256 ticks (64 s); together 4 h 33 min. Packets do not
//! touch the wheel: a list's turn comes, each session on it is asked when it was last seen, and either has been silent
//! long enough or is put where it would be due. So the wheel is touched when a session opens, when its state changes, and
//! when its turn comes.
//!
//! Conversations that are half open have wheels of their own, one for each way to be so, and what is put on a list comes
//! behind what is there: sessions of one wheel have the same patience, so the first of its first list is the one that has
//! been half open for longest. So a full table finds at once what to give up, and a flood gives up itself. No wheel
//! knows what a session is; `table` asks and decides.

use units::Tick;

use crate::memory::Row;
use crate::{Address, Session, Slot};

const LISTS: usize = 256;
const LEVEL_BITS: u32 = 8;

/// Which wheel a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Ring {
    /// TCP: a SYN without an answer.
    Asked = 0,
    /// TCP: an answered SYN, the handshake is not complete.
    Answered = 1,
    /// Not TCP: no answer yet.
    OneWay = 2,
    /// Any of these whose silence is borne longer.
    Lingering = 3,
    /// Everything else.
    Settled = 4,
}

impl Ring {
    /// Those of what is half open.
    pub(crate) const HALF_OPEN: [Self; 4] = [Self::Asked, Self::Answered, Self::OneWay, Self::Lingering];

    const fn from_bits(bits: u16) -> Self {
        match bits {
            0 => Self::Asked,
            1 => Self::Answered,
            2 => Self::OneWay,
            3 => Self::Lingering,
            _ => Self::Settled,
        }
    }
}

/// The list a session is on: ring, level and position, one-based so that 0 is "none".
const fn list_number(ring: Ring, level: u16, position: u16) -> u16 {
    1 + ((ring as u16) << 9 | level << 8 | position & 0xff)
}

/// The ends of one wheel's lists and which of them are not empty.
#[derive(Debug)]
struct Wheel {
    heads: [[u32; LISTS]; 2],
    tails: [[u32; LISTS]; 2],
    occupied: [[u64; LISTS / 64]; 2],
}

impl Wheel {
    const fn new() -> Self {
        Self { heads: [[0; LISTS]; 2], tails: [[0; LISTS]; 2], occupied: [[0; LISTS / 64]; 2] }
    }

    fn head(&self, level: u16, position: u16) -> u32 {
        Self::end(&self.heads, level, position)
    }

    fn tail(&self, level: u16, position: u16) -> u32 {
        Self::end(&self.tails, level, position)
    }

    fn end(ends: &[[u32; LISTS]; 2], level: u16, position: u16) -> u32 {
        let level = ends.get(usize::from(level));
        level.and_then(|ends| ends.get(usize::from(position))).copied().unwrap_or_default()
    }

    fn set_tail(&mut self, level: u16, position: u16, slot: u32) {
        let level = self.tails.get_mut(usize::from(level));
        if let Some(tail) = level.and_then(|tails| tails.get_mut(usize::from(position))) {
            *tail = slot;
        }
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

/// The wheels of a table and how far they have turned.
#[derive(Debug)]
pub(crate) struct Expiry {
    wheels: [Wheel; 5],
    /// The first tick whose lists may not have been emptied yet.
    turn: u64,
}

impl Expiry {
    pub(crate) const fn new() -> Self {
        Self { wheels: [const { Wheel::new() }; 5], turn: 0 }
    }

    const fn wheel(&mut self, ring: Ring) -> &mut Wheel {
        let [asked, answered, one_way, lingering, settled] = &mut self.wheels;
        match ring {
            Ring::Asked => asked,
            Ring::Answered => answered,
            Ring::OneWay => one_way,
            Ring::Lingering => lingering,
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
        let previous = wheel.tail(level, position);
        wheel.set_tail(level, position, slot.get());
        if previous == 0 {
            wheel.set_head(level, position, slot.get());
        } else {
            sessions.at_mut(previous).next = slot.get();
        }
        let session = sessions.at_mut(slot.get());
        session.previous = previous;
        session.next = 0;
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
        let number = list - 1;
        let (level, position) = (number >> 8 & 1, number & 0xff);
        let wheel = self.wheel(Ring::from_bits(number >> 9));
        if next != 0 {
            sessions.at_mut(next).previous = previous;
        } else {
            wheel.set_tail(level, position, previous);
        }
        if previous != 0 {
            sessions.at_mut(previous).next = next;
        } else {
            wheel.set_head(level, position, next);
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

    /// The session of this ring whose turn comes first.
    pub(crate) fn first(&self, ring: Ring) -> Option<Slot> {
        let wheel = self.wheels.get(ring as usize)?;
        let (inner, outer) = ((self.turn & 0xff) as u16, (self.turn >> LEVEL_BITS & 0xff) as u16);
        // What is still on the outer level and due in this round was there before what stands on the inner one.
        let left = wheel.head(1, outer);
        if left != 0 {
            return Some(Slot::new(left));
        }
        let near = wheel.first_from(0, inner).map(|position| (0, position));
        let far = || wheel.first_from(1, outer).or_else(|| wheel.first_from(1, 0)).map(|position| (1, position));
        near.or_else(far).map(|(level, position)| Slot::new(wheel.head(level, position)))
    }
}
