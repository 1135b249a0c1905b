//! The plain packet of an established session: found, checked, followed, counted, rewritten. What stands in its way
//! (another policy since, a next hop that does not answer, a backend that failed, a packet too large) is left to
//! [`act`](crate::act), which starts from the beginning: nothing has been changed then.

use frame::Buffer;
use session::{Direction, Kind, Slot, TcpOutcome, datagram, tcp_state};
use stage::balancer::Fate;
use stage::translate::{Deltas, Hop};
use units::PortId;
use wire::plain::plain_tcp;

use crate::binding::BindingId;
use crate::family::{Family, ends};
use crate::lane::Known;
use crate::next_hop::NextHopId;
use crate::shard::Shard;

/// How far a plain packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Its bytes are ready for the wire behind this port.
    Forward(PortId),
    /// Its session has taken it in, with an outcome that calls for more; nothing else is done.
    Followed(Slot, Direction, TcpOutcome),
    /// Nothing is done.
    Not,
}

impl<B: Buffer> Shard<B> {
    /// Treats a plain packet from the wire, if its session is there and nothing has changed.
    #[inline]
    pub(crate) fn pass<A: Family>(&mut self, buffer: &mut B, known: &Known<A>) -> Passed {
        let table = A::table_mut(&mut self.sessions);
        let Some((slot, direction)) = table.lookup_hinted(known.hint, known.hash, known.kind, &known.tuple) else {
            return Passed::Not;
        };
        let session = table.session_mut(slot);
        // The special next hops (the kernel, none) are not in the table.
        let Some((port, mac)) = self.next_hops.open_way(NextHopId::new(session.next_hop(direction))) else {
            return Passed::Not;
        };
        let Some(out) = self.snapshot.port(port) else { return Passed::Not };
        let binding = BindingId::new(session.binding());
        if session.generation() != self.snapshot.generation.short()
            || known.hop_limit <= 1
            || known.length > out.mtu
            || self.bindings.fate(binding) != Fate::Stays
        {
            return Passed::Not;
        }
        let tcp = known.kind == Kind::Tcp;
        let outcome = if tcp {
            let Some(segment) = plain_tcp(buffer.bytes(), A::TRANSPORT, known.length) else { return Passed::Not };
            tcp_state::observe(session, direction, &segment)
        } else if datagram::observe(session, direction) {
            TcpOutcome::PassAndRetime
        } else {
            TcpOutcome::Pass
        };
        if outcome != TcpOutcome::Pass {
            return Passed::Followed(slot, direction, outcome);
        }
        session.touch(self.tick);
        session.count(direction, u32::from(known.length));
        self.bindings.count(binding, usize::from(known.length));
        let hop = Hop { destination: mac, source: out.mac };
        let bytes = buffer.bytes_mut();
        let written = if session.is_translated() {
            let deltas = Deltas { network: session.deltas().network, transport: session.deltas().transport };
            let deltas = match direction {
                Direction::Original => deltas,
                Direction::Reply => deltas.negated(),
            };
            A::pass(bytes, tcp, hop, Some((&ends(&session.outgoing(direction)), deltas)))
        } else {
            A::pass(bytes, tcp, hop, None)
        };
        // A plain packet has the headers that are written to: it is always so.
        if written { Passed::Forward(port) } else { Passed::Not }
    }
}
