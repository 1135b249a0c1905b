//! A packet's place in its burst, and what is known of it so far. Nearly every packet is plain and its session is there:
//! that needs two words a packet, and those are what the stages hand on; addresses and ports stay where they are, in the
//! frame. Whatever is not so is read in full, becomes a [`Packet`], and goes its own way beside.

use arrayvec::ArrayVec;
use session::{Hint, Kind, Tuple, WireTuple};
use units::limits::BURST_MAX;
use units::{PortId, WorkerId};

use crate::family::Family;
use crate::flow::Flow;
use crate::packet::{Asked, Origin, Packet, Verdict};
use crate::steer::Ends;

/// Packets that go through a stage before the next stage begins. More prefetches at once than this are partly lost.
pub(crate) const GROUP: usize = 8;

/// Packets between a stage and the next: far enough apart that what one asks for has come from memory when the other needs
/// it, a hundred nanoseconds later.
pub(crate) const LAG: usize = 2 * GROUP;

/// A plain packet on its way to its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) hash: u64,
    pub(crate) hint: Hint,
    pub(crate) kind: Kind,
    pub(crate) is_v6: bool,
}

const _: () = assert!(size_of::<Known>() == 16);

/// What a plain packet's headers say that its session needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<A> {
    pub(crate) tuple: Tuple<A>,
    /// Bytes of the IP packet.
    pub(crate) length: u16,
    pub(crate) hop_limit: u8,
}

/// As [`Head`], as it lies in the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front<A: Family> {
    pub(crate) tuple: WireTuple<A>,
    /// Bytes of the IP packet.
    pub(crate) length: u16,
    pub(crate) hop_limit: u8,
}

impl<A: Family> From<Front<A>> for Head<A> {
    fn from(Front { tuple, length, hop_limit }: Front<A>) -> Self {
        Self { tuple: tuple.into(), length, hop_limit }
    }
}

/// The ends of a plain packet, which decide what worker owns its session.
pub(crate) fn ends_of<A: Family>(kind: Kind, tuple: &Tuple<A>) -> Ends {
    let protocol = if kind == Kind::Tcp { 6 } else { 17 };
    Ends::new(A::endpoints(tuple), protocol, tuple.source_port, tuple.destination_port)
}

/// A packet's place in its burst.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane {
    /// Plain, its session is looked for.
    Known(Known),
    /// Not plain: to be read in full.
    Odd,
    /// Treated, ready for the wire behind this port.
    Forward(PortId),
    /// Read in full: its place among the [`Others`].
    Other(usize),
    /// For another worker; these were asked.
    HandOver(WorkerId, Origin, Asked),
    /// Dropped already.
    Gone,
}

const _: () = assert!(size_of::<Lane>() == 16);

/// What the lookup stage does with a packet that was read in full.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Decided already.
    Done,
    /// Look for its session.
    Find(Flow, u64),
    /// An ICMP error: look for the session it is about.
    Error,
}

/// Places in a burst.
pub(crate) type Places = ArrayVec<usize, BURST_MAX>;

/// The packets of a burst that were read in full: each with what is to be done and what was decided.
#[derive(Debug)]
pub(crate) struct Others<B> {
    /// The packets, taken out as they leave.
    pub(crate) packets: ArrayVec<Option<Packet<B>>, BURST_MAX>,
    /// What the lookup stage does with each.
    pub(crate) tasks: ArrayVec<Task, BURST_MAX>,
    /// What becomes of each.
    pub(crate) verdicts: ArrayVec<Verdict, BURST_MAX>,
    /// Those without a session, in the order they came.
    pub(crate) misses: ArrayVec<usize, BURST_MAX>,
    /// The places in the burst of plain packets without a session, IPv4 and IPv6.
    pub(crate) newcomers: [Places; 2],
}

impl<B> Others<B> {
    /// None yet.
    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            packets: ArrayVec::new_const(),
            tasks: ArrayVec::new_const(),
            verdicts: ArrayVec::new_const(),
            misses: ArrayVec::new_const(),
            newcomers: [const { ArrayVec::new_const() }; 2],
        }
    }

    /// Takes one in; returns its place.
    pub(crate) fn push(&mut self, packet: Packet<B>, task: Task, verdict: Verdict) -> usize {
        let place = self.packets.len();
        self.packets.push(Some(packet));
        self.tasks.push(task);
        self.verdicts.push(verdict);
        place
    }

    /// Writes down what becomes of one; `None` is that it has no session.
    pub(crate) fn decide(&mut self, place: usize, verdict: Option<Verdict>) {
        match (verdict, self.verdicts.get_mut(place)) {
            (Some(verdict), Some(entry)) => *entry = verdict,
            (None, Some(_)) => self.misses.push(place),
            (_, None) => {}
        }
    }

    /// Takes one out, with what becomes of it.
    pub(crate) fn take(&mut self, place: usize) -> Option<(Packet<B>, Verdict)> {
        let packet = self.packets.get_mut(place)?.take()?;
        Some((packet, *self.verdicts.get(place)?))
    }
}
