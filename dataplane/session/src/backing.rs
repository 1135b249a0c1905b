//! Memory of tables that the kernel has not backed yet, for a thread beside the workers. A first touch has the kernel clear a
//! page, a large one for milliseconds on some machines: more than a receive ring holds. So somebody else touches the
//! memory of sessions that are still to come. Nothing of a table is read or written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::Stretch;
use crate::{Address, Session};

/// Bytes that the kernel is asked to back at once: a large page.
const AT_ONCE: usize = 2 << 20;

/// Bytes of sessions to come that are backed before they open.
const AHEAD: usize = 16 << 20;

/// How far a table has got with its sessions, as their owner tells it.
#[derive(Debug, Default)]
pub(crate) struct Reached(AtomicUsize);

impl Reached {
    /// The owner has used so many slots at some time.
    pub(crate) fn tell(&self, slots: u32) {
        self.0.store(slots as usize, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Memory of one table.
#[derive(Debug)]
pub(crate) struct TableBacking {
    index: Stretch,
    sessions: Stretch,
    session: usize,
    reached: Arc<Reached>,
    /// Bytes of both that are backed.
    backed: [usize; 2],
}

impl TableBacking {
    pub(crate) const fn new<A: Address>(index: Stretch, sessions: Stretch, reached: Arc<Reached>) -> Self {
        Self { index, sessions, session: size_of::<Session<A>>(), reached, backed: [0; 2] }
    }

    fn advance(&mut self) -> bool {
        let [index, sessions] = &mut self.backed;
        let wanted = (self.reached.get() * self.session).saturating_add(AHEAD);
        // Every part of the index is needed by the first thousand sessions.
        if *index < self.index.bytes() {
            self.index.back(*index..*index + AT_ONCE);
            *index += AT_ONCE;
        } else if *sessions < wanted.min(self.sessions.bytes()) {
            self.sessions.back(*sessions..*sessions + AT_ONCE);
            *sessions += AT_ONCE;
        } else {
            return false;
        }
        true
    }
}

/// Memory of one worker's sessions. It stays mapped for as long as this lives.
#[derive(Debug)]
pub struct Backing {
    v4: TableBacking,
    v6: TableBacking,
}

impl Backing {
    pub(crate) const fn new(v4: TableBacking, v6: TableBacking) -> Self {
        Self { v4, v6 }
    }

    /// Has the kernel back a large page that is needed next, which takes milliseconds at worst; false when there is enough for
    /// now: the whole index, and 16 MiB of sessions of each family beyond those there have been.
    pub fn advance(&mut self) -> bool {
        self.v4.advance() || self.v6.advance()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use units::Tick;

    use super::*;
    use crate::{HashSecret, Kind, NewSession, Sessions, Tuple};

    fn number(n: u32) -> NewSession<Ipv4Addr> {
        let (source, destination) = (Ipv4Addr::from(0x0a00_0000 + n), Ipv4Addr::LOCALHOST);
        let tuple = Tuple { source, destination, source_port: 1, destination_port: 2 };
        NewSession::new(Kind::Udp, tuple, tuple.reversed())
    }

    #[test]
    fn memory_is_backed_ahead_of_sessions_and_no_further() {
        let mut sessions = Sessions::new(1_000_000, &HashSecret::random()).unwrap();
        let mut backing = sessions.backing();
        let pages = |bytes: usize| bytes.div_ceil(AT_ONCE);
        let steps = |backing: &mut Backing| core::iter::from_fn(|| backing.advance().then_some(())).count();
        let all = [&backing.v4, &backing.v6].map(|table| pages(table.index.bytes()) + pages(AHEAD));
        assert_eq!(steps(&mut backing), all.iter().sum::<usize>(), "both indexes, and what is ahead");
        let a_page_of_them = AT_ONCE / size_of::<Session<Ipv4Addr>>();
        for n in 0..u32::try_from(2 * a_page_of_them).unwrap() {
            sessions.insert_v4(&number(n), Tick::new(1)).unwrap();
        }
        assert_eq!(steps(&mut backing), 0, "nothing has been told");
        sessions.tell_reached();
        // Slot 0 is never used: the last one lies on a page more, for IPv6, too.
        assert_eq!(steps(&mut backing), 2 + 1 + 1);
        drop(sessions);
        backing.advance();
    }
}
