//! Connections that began with a SYN cookie, or whose backend is told of its client: what is kept of each beside its session, and
//! which of them are looked after.
//!
//! Such a session names the special next hop [`NextHopId::SPLICED`] in both directions, and its entry here in its lease.
//! So packets of all other sessions pay nothing for it: the plain path leaves special next hops to
//! [`join`](crate::join).

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use session::Slot;
use stage::introduction::Introduction;
use stage::syn_cookie::Offer;
use stage::translate::{Lead, Progress, Shift};
use units::{ServiceId, Tick};
use wire::tcp_options::Timestamps;
use wire::{SeqNumber, Tcp, TcpFlags, TcpOptions};

use crate::beside::Beside;
use crate::made::Made;
use crate::next_hop::NextHopId;

/// Segments made in one turn: what a burst from backends can call for, and as many repeated SYNs.
pub(crate) const MADE: usize = 128;

/// Ticks between two looks at a waiting connection: one second.
const LOOK: u64 = 4;

/// The looks at which the SYN is sent again, and the one at which the client is told.
const REPEATED: [u32; 2] = [1, 3];
const GIVEN_UP: u32 = 4;

/// Looks between two repetitions of a header, at most.
const SELDOM: u32 = 64;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client has proven itself; its backend was sent a SYN and has not answered.
    Waiting,
    /// Both halves are up: the backend began with this number.
    Joined(SeqNumber),
    /// There are no halves: the two shake hands with each other.
    Through,
}

/// How far the backend of a connection has been told of its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introducing {
    pub(crate) how: Introduction,
    /// When it was told: by a header last, by an option first.
    pub(crate) told: Option<Tick>,
    /// What the segment that tells it says besides, in the backend's count.
    pub(crate) acknowledgment: SeqNumber,
    pub(crate) window: u16,
    pub(crate) timestamps: Option<Timestamps>,
}

impl Introducing {
    /// Not told yet.
    pub(crate) const fn new(how: Introduction) -> Self {
        let acknowledgment = SeqNumber::new(0);
        Self { how, told: None, acknowledgment, window: 0, timestamps: None }
    }
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splice {
    pub(crate) phase: Phase,
    /// The next hops of both directions, held on to for the session.
    pub(crate) hops: [NextHopId; 2],
    /// What the session has leased of a pool, likewise.
    pub(crate) lease: u32,
    pub(crate) service: ServiceId,
    /// The sequence number of the client's SYN.
    pub(crate) opener: SeqNumber,
    /// The cookie: what the client takes for the backend's first number.
    pub(crate) cookie: SeqNumber,
    pub(crate) offer: Offer,
    /// The client's clock and the one it was told, where it sends timestamps.
    pub(crate) clocks: Option<[u32; 2]>,
    /// The client's window, as it sent it.
    pub(crate) window: u16,
    pub(crate) shift: Shift,
    pub(crate) introducing: Option<Introducing>,
    /// Where the client's numbers begin that may be its own: at its first byte, and in a long stream far behind what the backend
    /// has acknowledged.
    pub(crate) floor: SeqNumber,
    serial: u32,
    looks: u32,
    /// It is among those that are looked after.
    queued: bool,
}

impl Splice {
    /// A connection whose client has just proven itself.
    pub(crate) fn new(service: ServiceId, opener: SeqNumber, cookie: SeqNumber, offer: Offer) -> Self {
        Self {
            phase: Phase::Waiting,
            hops: [NextHopId::NONE; 2],
            lease: 0,
            service,
            opener,
            cookie,
            offer,
            clocks: None,
            window: 0,
            shift: Shift::default(),
            introducing: None,
            floor: opener.add(1),
            serial: 0,
            looks: 0,
            queued: false,
        }
    }

    /// Whether a client's segment lies before its first byte, where only the header has a place. A reset says nothing, and a
    /// keep-alive nothing new: it is empty, or one byte that the backend has taken (RFC 9293 section 3.8.4).
    pub(crate) fn precedes(&self, tcp: &Tcp) -> bool {
        let Some(lead) = self.shift.lead.filter(|lead| lead.len > 0) else { return false };
        let probes = tcp.sequence.add(1) == lead.first
            && tcp.payload <= u16::from(lead.is_heard())
            && !tcp.flags.contains(TcpFlags::FIN);
        tcp.sequence.before(self.floor) && !tcp.flags.contains(TcpFlags::RST) && !probes
    }

    /// The floor once the backend has acknowledged so much: no window reaches further back (RFC 7323 section 2.3), and what lies before
    /// half of all numbers must not be taken for what lies behind them.
    pub(crate) fn floor_at(&self, acknowledgment: SeqNumber, lead: &Lead) -> SeqNumber {
        const WINDOW_MAX: u32 = 1 << 30;
        let reached = acknowledgment.add((u32::from(lead.len) + WINDOW_MAX).wrapping_neg());
        if reached.after(self.floor) { reached } else { self.floor }
    }

    /// The client's clock as its backend reads it.
    pub(crate) fn as_backend_reads(&self, clock: Option<Timestamps>) -> Option<Timestamps> {
        clock.map(|Timestamps { value, echo }| Timestamps { value, echo: echo.wrapping_sub(self.shift.timestamp) })
    }

    /// What is pressed is another thing from now on.
    pub(crate) const fn look_anew(&mut self) {
        self.looks = 0;
    }

    /// What is due at a look: a SYN is given up soon; a header is repeated ever less often, as long as the connection lives
    /// (RFC 6298 section 5.5).
    fn due(&self) -> Due {
        let doubled = self.looks.wrapping_add(1);
        match (self.phase, self.looks) {
            (Phase::Waiting, GIVEN_UP) => Due::GiveUp,
            (Phase::Waiting, looks) if REPEATED.contains(&looks) => Due::Repeat,
            (Phase::Waiting, _) => Due::Nothing,
            _ if doubled.is_multiple_of(SELDOM) || doubled.is_power_of_two() && doubled < SELDOM => Due::Repeat,
            _ => Due::Nothing,
        }
    }

    /// Whether something is sent for it again and again until the backend answers.
    fn is_pressed(&self) -> bool {
        let unheard = self.shift.lead.is_some_and(|lead| lead.len > 0 && matches!(lead.progress, Progress::Told(_)));
        self.phase == Phase::Waiting || unheard
    }

    /// The options of the SYN in the client's name.
    pub(crate) fn syn_options(&self) -> TcpOptions {
        TcpOptions {
            segment_size: Some(self.offer.segment_size),
            window_scale: self.offer.window_scale,
            sack_permitted: self.offer.sack_permitted,
            timestamps: self.clocks.map(|[value, _]| Timestamps { value, echo: 0 }),
        }
    }

    /// The window of that SYN, which is not scaled.
    pub(crate) fn syn_window(&self) -> u16 {
        let bytes = u32::from(self.window) << self.offer.window_scale.unwrap_or(0).min(14);
        u16::try_from(bytes).unwrap_or(u16::MAX)
    }
}

/// A session that waits for its backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) slot: Slot,
    pub(crate) v6: bool,
    pub(crate) entry: u32,
    serial: u32,
    due: Tick,
}

/// What is due for a waiting connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// The SYN is sent again.
    Repeat,
    /// The backend has not answered for too long.
    GiveUp,
}

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Splices {
    kept: Beside<Splice>,
    serial: u32,
    waiting: VecDeque<Waiting>,
    /// Of those that wait: as many as there are connections, since each waits once. One that is gone has its place until it
    /// would be due, or somebody needs it.
    places: usize,
    pub(crate) made: ArrayVec<Made, MADE>,
}

impl Splices {
    /// Room for as many as there are sessions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            kept: Beside::new(capacity),
            serial: 0,
            waiting: VecDeque::with_capacity(capacity),
            places: capacity,
            made: ArrayVec::new(),
        }
    }

    /// Bytes set aside for all of them.
    pub(crate) const fn bytes(&self) -> usize {
        self.kept.bytes() + self.places * size_of::<Waiting>()
    }

    /// Whether `more` segments can be made in this turn.
    pub(crate) const fn has_room(&self, more: usize) -> bool {
        self.made.len() + more <= MADE
    }

    /// Keeps a connection; `None` when there is no room.
    pub(crate) fn take(&mut self, splice: Splice) -> Option<u32> {
        self.serial = self.serial.wrapping_add(1);
        self.kept.keep(Splice { serial: self.serial, ..splice })
    }

    /// Forgets a connection; returns the next hops it held on to, and the session's lease.
    pub(crate) fn release(&mut self, number: u32) -> ([NextHopId; 2], u32) {
        let splice = self.kept.give_back(number);
        splice.map_or(([NextHopId::NONE; 2], 0), |splice| (splice.hops, splice.lease))
    }

    /// A connection.
    pub(crate) fn get(&self, number: u32) -> Option<&Splice> {
        self.kept.get(number)
    }

    /// A connection, to change.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Splice> {
        self.kept.get_mut(number)
    }

    /// Looks after a connection until its backend answers.
    pub(crate) fn wait(&mut self, slot: Slot, v6: bool, entry: u32, now: Tick) {
        // Of connections that were given up for new ones the oldest went first.
        if self.waiting.len() == self.places && self.waiting.front().is_some_and(|oldest| !self.is_kept(oldest)) {
            self.waiting.pop_front();
        }
        let room = self.waiting.len() < self.places;
        let Some(splice) = self.get_mut(entry).filter(|splice| room && !splice.queued) else { return };
        splice.queued = true;
        let serial = splice.serial;
        self.waiting.push_back(Waiting { slot, v6, entry, serial, due: Tick::new(now.get() + LOOK) });
    }

    /// Whether there is still the connection that began to wait.
    fn is_kept(&self, waiting: &Waiting) -> bool {
        self.get(waiting.entry).is_some_and(|splice| splice.serial == waiting.serial)
    }

    /// Whether a connection has no backend yet.
    pub(crate) fn waits(&self, waiting: &Waiting) -> bool {
        self.get(waiting.entry).is_some_and(|splice| splice.serial == waiting.serial && splice.phase == Phase::Waiting)
    }

    /// The next connection whose time has come, and what is due; `None` when none is due. All wait equally long from look
    /// to look, so they stand in order.
    pub(crate) fn next_due(&mut self, now: Tick) -> Option<(Waiting, Due)> {
        let waiting = *self.waiting.front().filter(|waiting| waiting.due <= now)?;
        self.waiting.pop_front();
        let splice = self.get_mut(waiting.entry).filter(|splice| splice.serial == waiting.serial);
        let Some(splice) = splice else { return Some((waiting, Due::Nothing)) };
        let pressed = splice.is_pressed();
        splice.looks = splice.looks.wrapping_add(1);
        let due = if pressed { splice.due() } else { Due::Nothing };
        splice.queued = pressed && due != Due::GiveUp;
        if splice.queued {
            self.waiting.push_back(Waiting { due: Tick::new(now.get() + LOOK), ..waiting });
        }
        Some((waiting, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splice(sequence: u32) -> Splice {
        let offer = Offer { segment_size: 1_460, window_scale: None, sack_permitted: false };
        Splice::new(ServiceId::new(0), SeqNumber::new(sequence), SeqNumber::new(0), offer)
    }

    #[test]
    fn a_waiting_connection_is_repeated_twice_and_then_given_up() {
        let mut splices = Splices::new(3);
        let entry = splices.take(splice(1)).unwrap();
        splices.wait(Slot::new(1), false, entry, Tick::new(0));
        let mut dues = Vec::new();
        for tick in 0..40 {
            while let Some((_, due)) = splices.next_due(Tick::new(tick)) {
                dues.push((tick, due));
            }
        }
        assert_eq!(dues, [(4, Due::Repeat), (8, Due::Nothing), (12, Due::Repeat), (16, Due::GiveUp)]);
    }

    /// In a full table connections that wait are given up for new ones, many in the time of one look.
    #[test]
    fn who_comes_in_the_place_of_another_is_looked_after() {
        let mut splices = Splices::new(2);
        let mut newest = [0; 2];
        for number in 0..10 {
            if number >= 2 {
                splices.release(newest[0]);
            }
            let entry = splices.take(splice(number)).unwrap();
            newest = [newest[1], entry];
            splices.wait(Slot::new(entry), false, entry, Tick::new(0));
        }
        let looked_after = core::iter::from_fn(|| splices.next_due(Tick::new(LOOK)));
        let repeated = looked_after.filter(|(_, due)| *due == Due::Repeat).map(|(waiting, _)| waiting.entry);
        assert_eq!(repeated.collect::<Vec<_>>(), newest);
    }

    /// RFC 6298 section 5.5; and a connection that waits twice over is looked after once.
    #[test]
    fn a_header_is_repeated_ever_less_often_until_it_is_heard() {
        let mut splices = Splices::new(3);
        let lead = Lead { progress: Progress::Told(0), ..Lead::of(SeqNumber::new(1), Introduction::ProxyV2, false) };
        let shift = Shift { lead: Some(lead), ..Shift::default() };
        let entry = splices.take(Splice { phase: Phase::Through, shift, ..splice(1) }).unwrap();
        for _ in 0..2 {
            splices.wait(Slot::new(1), false, entry, Tick::new(0));
        }
        let mut repeated = Vec::new();
        for tick in 0..1_300 {
            while let Some((_, due)) = splices.next_due(Tick::new(tick)) {
                assert_ne!(due, Due::GiveUp);
                repeated.extend((due == Due::Repeat).then_some(tick / LOOK));
            }
        }
        assert_eq!(repeated, [1, 3, 7, 15, 31, 63, 127, 191, 255, 319]);
        splices.get_mut(entry).unwrap().shift.lead = Some(Lead { progress: Progress::Heard, ..lead });
        assert_eq!(splices.next_due(Tick::new(2_000)).map(|(_, due)| due), Some(Due::Nothing));
        assert!(splices.next_due(Tick::new(4_000)).is_none());
    }

    /// The numbers of a stream that is longer than half of all: its floor follows, a window behind what is acknowledged.
    #[test]
    fn the_floor_stays_at_the_first_byte_until_no_window_reaches_back_to_it() {
        let lead =
            Lead { progress: Progress::Heard, ..Lead::of(SeqNumber::new(u32::MAX), Introduction::ProxyV2, false) };
        let mut splice = splice(u32::MAX);
        let eighth = 1_u32 << 29;
        for (acknowledged, floor) in [(0, 0), (2, 0), (3, 1), (5, 3), (7, 5), (1, 7), (3, 1)] {
            splice.floor = splice.floor_at(SeqNumber::new(acknowledged * eighth + 28), &lead);
            assert_eq!(splice.floor.get(), floor * eighth, "{acknowledged}");
        }
    }

    /// However many there are, each is looked after.
    #[test]
    fn every_connection_that_waits_is_looked_after() {
        const MANY: u32 = 100_000;
        let mut splices = Splices::new(MANY as usize);
        for number in 0..MANY {
            let entry = splices.take(splice(number)).unwrap();
            splices.wait(Slot::new(number), false, entry, Tick::new(0));
        }
        let looked_after = core::iter::from_fn(|| splices.next_due(Tick::new(LOOK))).count();
        assert_eq!(looked_after, MANY as usize);
    }

    #[test]
    fn an_entry_that_was_used_again_is_not_taken_for_the_one_before() {
        let mut splices = Splices::new(1);
        let entry = splices.take(splice(1)).unwrap();
        splices.wait(Slot::new(1), false, entry, Tick::new(0));
        splices.release(entry);
        splices.take(splice(2)).unwrap();
        assert_eq!(splices.next_due(Tick::new(4)).map(|(_, due)| due), Some(Due::Nothing));
        assert!(splices.next_due(Tick::new(100)).is_none());
    }
}
