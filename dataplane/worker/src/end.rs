//! Sessions that end before their time: their backend failed, drained or was flushed, or a new policy forbids them. Both
//! ends of a TCP connection are told by a reset with the numbers they expect (SE-54); the resets wait in a short list that
//! the worker empties each turn, and whoever walks the table waits for room in it.

use arrayvec::ArrayVec;
use session::{Direction, Kind, Slot};
use stage::DropReason;
use stage::balancer::{Fate, OnBackendFailure};
use units::PortId;
use wire::MacAddr;
use wire::emit::Reset;
use wire::{Facts, TcpFlags, Transport};

use crate::across;
use crate::act::Acted;
use crate::binding::BindingId;
use crate::family::Family;
use crate::next_hop::{NextHopId, Way};
use crate::packet::Verdict;
use crate::shard::Shard;

/// Resets waiting to be sent: those of one stride of a walk.
pub(crate) const RESETS: usize = 128;

/// Resets that wait, each with the port it leaves by.
pub(crate) type Resets = ArrayVec<(PortId, Reset), RESETS>;

impl<B> Shard<B> {
    /// Whether both ends of one more session could be told.
    pub(crate) const fn can_tell_both_ends(&self) -> bool {
        self.resets.len() + 2 <= RESETS
    }

    /// Ends a session; both ends of a TCP connection are told where they can be reached at once.
    pub(crate) fn end<A: Family>(&mut self, slot: Slot) {
        for direction in [Direction::Original, Direction::Reply] {
            self.tell_end::<A>(slot, direction);
        }
        self.close::<A>(slot);
    }

    /// Ends a session whose client is no longer welcome: its server is told where it can be reached at once, the client
    /// hears nothing.
    pub(crate) fn disown<A: Family>(&mut self, slot: Slot) {
        self.tell_end::<A>(slot, Direction::Original);
        self.close::<A>(slot);
    }

    /// Puts a reset in the name of the sender of `direction` on the list.
    fn tell_end<A: Family>(&mut self, slot: Slot, direction: Direction) {
        let session = A::table(&self.sessions).session(slot);
        // Numbers are not known where only one direction passes; a connection that is over has nobody to tell.
        if session.kind() != Kind::Tcp || session.is_one_sided() || session.state().is_over() {
            return;
        }
        let tuple = session.outgoing(direction);
        let (sequence, acknowledgment) = session.reset_numbers(direction);
        let sequence = self.as_received::<A>(slot, direction, sequence);
        let acknowledgment = self.as_acknowledged::<A>(slot, direction, acknowledgment);
        let (endpoints, mut hop) = (across::as_sent(A::endpoints(&tuple)), self.hop_of::<A>(slot, direction));
        if hop == NextHopId::ACROSS {
            hop = self.hop_beside::<A>(slot, direction);
        }
        let Some(Way::Open(port, destination_mac)) = self.next_hops.way(hop, self.tick) else { return };
        let reset = Reset {
            source_mac: self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac),
            destination_mac,
            endpoints,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
            sequence,
            acknowledgment: Some(acknowledgment),
        };
        // A full list means nobody is told: the ends find out by themselves.
        let _ = self.resets.try_push((port, reset));
    }

    /// A packet of a session whose backend drained or failed (SE-54).
    #[cold]
    pub(crate) fn bereaved<A: Family>(
        &mut self,
        facts: &Facts,
        slot: Slot,
        direction: Direction,
        binding: BindingId,
        fate: Fate,
    ) -> Acted {
        if fate == Fate::Failed && self.reselects(binding) {
            let opening = match facts.transport {
                Transport::Tcp(tcp) => tcp.flags.contains(TcpFlags::SYN) && !tcp.flags.contains(TcpFlags::ACK),
                _ => true,
            };
            let session = A::table(&self.sessions).session(slot);
            if direction == Direction::Original && opening {
                self.close::<A>(slot);
                return Acted::Anew;
            }
            if session.kind() != Kind::Tcp {
                // What a failed backend still says is not passed on; its client's next packet finds another one.
                return Acted::Verdict(Verdict::Drop(DropReason::BackendFailed));
            }
        }
        self.end::<A>(slot);
        Acted::Verdict(Verdict::Drop(match fate {
            Fate::Drained => DropReason::BackendDrained,
            Fate::Failed | Fate::Stays => DropReason::BackendFailed,
        }))
    }

    /// Whether sessions of a failed backend may move to another one.
    fn reselects(&self, binding: BindingId) -> bool {
        let services = &self.snapshot.services;
        self.bindings
            .backend(binding)
            .and_then(|backend| services.locate(backend))
            .and_then(|(service, _)| services.service(service))
            .is_some_and(|service| service.spec().on_backend_failure == OnBackendFailure::Reselect)
    }

    /// Whether a walk over the table ends this session because of its backend. What may move to another backend waits
    /// for its client's next packet.
    pub(crate) fn is_doomed<A: Family>(&self, slot: Slot) -> bool {
        let session = A::table(&self.sessions).session(slot);
        let binding = BindingId::new(session.binding());
        // In line it is the next packet that can be answered.
        if NextHopId::new(session.next_hop(Direction::Original)).is_through() {
            return false;
        }
        match self.bindings.fate(binding) {
            Fate::Stays => false,
            Fate::Drained => true,
            Fate::Failed => {
                let settled = session.kind() == Kind::Tcp && !session.state().is_embryonic();
                settled || !self.reselects(binding)
            }
        }
    }
}
