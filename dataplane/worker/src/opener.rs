//! A spliced session is its opener's: of the one SYN it began with. What is kept beside it (a cookie, numbers that are counted further,
//! the word on who the client is) means nothing for another connection in its place, which a backend that has forgotten the
//! first would begin at any SYN. So that none does:
//!
//! * The only SYN that reaches the backend is the opener's, without data where the client is to be introduced. One that begins anew is
//!   a new session where the old one is over or was never answered; else the client is asked whether it means it, in the
//!   backend's name (RFC 5961 section 4.2), and says so by a reset with the number it is told.
//! * No byte reaches the backend with a number before the client's first (RFC 9293 section 3.10.7.4): there stands the
//!   header that introduces it.
//!
//! Called by [`join`](crate::join) for each packet of such a session, before anything follows from it, and by `act` for sessions that
//! began under a policy which did not introduce its clients.

use frame::Buffer;
use session::{Direction, Kind, Slot, State, TcpOutcome};
use stage::DropReason;
use stage::syn_cookie::Offer;
use wire::emit::{self, Segment};
use wire::{Content, SeqNumber, Tcp, TcpFlags};

use crate::act::{Acted, set_macs};
use crate::binding::BindingId;
use crate::family::Family;
use crate::next_hop::NextHopId;
use crate::packet::{Packet, Verdict};
use crate::shard::Shard;
use crate::splice::{Phase, Splice};

impl<B: Buffer> Shard<B> {
    /// Decides about a packet of a spliced session that must not get to the other end; `None` for all others.
    pub(crate) fn keep_to_opener<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        tcp: &Tcp,
        slot: Slot,
        direction: Direction,
        splice: &Splice,
    ) -> Option<Acted> {
        const REFUSED: Option<Acted> = Some(Acted::Verdict(Verdict::Drop(DropReason::TcpInvalidState)));
        let state = A::table(&self.sessions).session(slot).state();
        let (begins, answers) = (tcp.flags.contains(TcpFlags::SYN), tcp.flags.contains(TcpFlags::ACK));
        match direction {
            Direction::Original if !begins => {
                splice.precedes(tcp).then_some(Acted::Verdict(Verdict::Drop(DropReason::TcpOutOfWindow)))
            }
            Direction::Original if answers => REFUSED,
            // A new session is found for it.
            _ if begins && !answers && state.is_over() => None,
            Direction::Original if tcp.payload > 0 && splice.introducing.is_some() => REFUSED,
            Direction::Original => {
                let again = splice.phase == Phase::Through && tcp.sequence == splice.opener;
                match state {
                    State::SynSent | State::SynReceived if again => None,
                    State::SynSent => Some(self.follow::<A>(packet, slot, direction, TcpOutcome::Reopen)),
                    _ => Some(Acted::Verdict(self.ask_whether_it_means_it::<A>(packet, tcp, slot))),
                }
            }
            Direction::Reply if begins && !answers => REFUSED,
            Direction::Reply => None,
        }
    }

    /// Answers a client's SYN on a living connection as its backend would. The numbers are old ones, as in a keep-alive (RFC 9293
    /// section 3.8.4): a client that did not send the SYN learns nothing new of window or data, and says where it is.
    fn ask_whether_it_means_it<A: Family>(&mut self, packet: &mut Packet<B>, tcp: &Tcp, slot: Slot) -> Verdict {
        let Content::Ip(facts) = packet.frame.content else { return Verdict::Drop(DropReason::TcpInvalidState) };
        let session = A::table(&self.sessions).session(slot);
        let [said, heard] = [Direction::Reply, Direction::Original].map(|way| session.acknowledged(way));
        let said = SeqNumber::new(said.get().wrapping_sub(1));
        let link = packet.frame.link;
        let segment = Segment {
            source_port: tcp.destination_port,
            destination_port: tcp.source_port,
            sequence: self.as_received::<A>(slot, Direction::Reply, said),
            acknowledgment: self.as_acknowledged::<A>(slot, Direction::Reply, heard),
            flags: TcpFlags::ACK,
            window: 1,
            options: &[],
            payload: &[],
        };
        if link.source.is_multicast()
            || !self.become_segment(packet, &facts.endpoints.reversed(), emit::HOP_LIMIT, &segment)
        {
            return Verdict::Drop(DropReason::TcpInvalidState);
        }
        set_macs(packet.buffer.bytes_mut(), link.source, link.destination);
        self.answered(packet, facts.endpoints.source())
    }
}

impl<B> Shard<B> {
    /// Keeps a connection that was opened without the introduction its service has now to what it is; false where it had not begun, and
    /// can do so again.
    pub(crate) fn goes_on_as_it_began<A: Family>(&mut self, slot: Slot) -> bool {
        let session = A::table(&self.sessions).session(slot);
        let asked = session.tuple(Direction::Original);
        let hop = NextHopId::new(session.next_hop(Direction::Original));
        let state = session.state();
        let served = session.kind() == Kind::Tcp
            && hop != NextHopId::SPLICED
            && hop != NextHopId::TIERED
            && !hop.is_through()
            && !session.is_one_sided()
            && !state.is_over()
            && self.bindings.backend(BindingId::new(session.binding())).is_some();
        if !served {
            return true;
        }
        let services = &self.snapshot.services;
        let service = services
            .find(asked.destination.into_ip(), wire::tcp::PROTOCOL, asked.destination_port)
            .and_then(|id| services.service(id))
            .filter(|service| service.spec().introduction.is_some());
        let Some(service) = service.map(|service| service.id()) else { return true };
        if state.is_embryonic() {
            return false;
        }
        let offer = Offer { segment_size: 0, window_scale: None, sack_permitted: false };
        let mut splice = Splice::new(service, SeqNumber::new(0), SeqNumber::new(0), offer);
        splice.phase = Phase::Through;
        A::table_mut(&mut self.sessions).session_mut(slot).forget_challenge();
        self.attach_splice::<A>(slot, splice).is_some()
    }
}
