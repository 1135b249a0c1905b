//! Plain packets that pass through a pair of ports: found, checked, followed, counted, and out by the other port as they
//! came. Those of services attracted in line are turned on the way: addresses and ports, and towards a backend its MAC
//! address. Hop limits and all other MACs stay.
//!
//! A session that passes in line names its pair instead of a next hop ([`NextHopId::through`]); where it leads to a
//! backend, its lease is the next hop that tells the backend's MAC ([`leads_to`]). Routed packets meet none of this: their
//! bursts come by other ports, and a pair is no next hop in the table. A tenant's session names its pair by another next hop
//! ([`NextHopId::through_for`]): its packets have a tag and are not plain. What stands in a packet's way is left to
//! [`in_line`](crate::in_line) and [`act`](crate::act); nothing has been changed then.

use frame::Buffer;
use session::{Direction, Kind, Session, TcpOutcome, datagram, tcp_state};
use units::PortId;
use wire::MacAddr;
use wire::plain::plain_tcp;

use crate::binding::BindingId;
use crate::family::Family;
use crate::lane::Known;
use crate::next_hop::NextHopId;
use crate::pass::{Passed, leaving};
use crate::shard::Shard;
use crate::snapshot::Pair;

/// The lease of a session in line whose packets go to this next hop.
pub(crate) fn lease_of(hop: NextHopId) -> u32 {
    u32::from(hop.get()) + 1
}

/// The next hop whose MAC packets of this direction get, of a session in line: the backend's. Answers keep the MACs they
/// came with.
#[inline]
pub(crate) fn leads_to<A: Family>(session: &Session<A>, direction: Direction) -> Option<NextHopId> {
    // The lease is not on the line that every packet reads; sessions without a backend need not look.
    if direction == Direction::Reply || session.binding() == BindingId::NONE.get() {
        return None;
    }
    session.lease().checked_sub(1).and_then(|number| u16::try_from(number).ok()).map(NextHopId::new)
}

/// Writes the station a frame is for.
pub(crate) fn set_station(bytes: &mut [u8], station: MacAddr) {
    if let Some(destination) = bytes.first_chunk_mut::<6>() {
        *destination = station.octets();
    }
}

impl<B: Buffer> Shard<B> {
    /// As [`pass`](Shard::pass), of a packet that came by a port of `pair` and is for another station.
    #[inline]
    pub(crate) fn pass_through<A: Family>(
        &mut self,
        buffer: &mut B,
        known: &Known,
        pair: Pair,
        met: &mut Passed,
    ) -> Option<PortId> {
        let bytes = buffer.bytes_mut();
        let front = A::front(bytes)?;
        let table = A::table_mut(&mut self.sessions);
        let Some((slot, direction)) = table.lookup_hinted(known.hint, known.hash, known.kind, front.tuple) else {
            *met = Passed::New;
            return None;
        };
        let session = table.session_mut(slot);
        if session.next_hop(direction) != NextHopId::through(pair).get()
            || session.generation() != self.generation
            || !self.bindings.stays(session.binding())
        {
            return None;
        }
        let station = match leads_to(session, direction) {
            Some(hop) => {
                let exit = self.next_hops.exit(hop.get())?;
                if exit.mtu == 0 {
                    return None;
                }
                Some(exit.hop.destination)
            }
            None => None,
        };
        let tcp = known.kind == Kind::Tcp;
        let outcome = if tcp {
            tcp_state::observe(session, direction, &plain_tcp(bytes, A::TRANSPORT, front.length)?)
        } else if datagram::observe(session, direction) {
            TcpOutcome::PassAndRetime
        } else {
            TcpOutcome::Pass
        };
        if outcome != TcpOutcome::Pass {
            *met = Passed::Followed(slot, direction, outcome);
            return None;
        }
        session.touch(self.tick);
        if session.count(direction, u32::from(front.length)) {
            self.bindings.collect(session);
        }
        // A plain packet has the headers that are written to: it is always so.
        if session.is_translated() && !A::turn(bytes, tcp, leaving(session, direction)) {
            return None;
        }
        if let Some(station) = station {
            set_station(bytes, station);
        }
        Some(pair.other)
    }
}
