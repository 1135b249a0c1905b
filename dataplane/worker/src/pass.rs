//! The plain packet of an established session: found, checked, followed, counted, rewritten. What stands in its way
//! (another policy since, a next hop that does not answer, a backend that failed, a packet too large) is left to
//! [`act`](crate::act), which starts from the beginning: nothing has been changed then.

use frame::Buffer;
use session::{Direction, Kind, Session, Slot, TcpOutcome, datagram, tcp_state};
use stage::balancer::Fate;
use stage::translate::Deltas;
use units::PortId;
use wire::plain::plain_tcp;

use crate::binding::BindingId;
use crate::family::{Family, ends};
use crate::lane::Known;
use crate::shard::Shard;

/// How far a plain packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Its bytes are ready for the wire behind this port.
    Forward(PortId),
    /// Its session has taken it in, with an outcome that calls for more; nothing else is done.
    Followed(Slot, Direction, TcpOutcome),
    /// Something stands in its way; nothing is done.
    Not,
    /// It has no session; nothing is done.
    New,
}

impl Passed {
    /// The port, or how far it came written to `met`.
    fn port_or(self, met: &mut Self) -> Option<PortId> {
        if let Self::Forward(port) = self {
            return Some(port);
        }
        *met = self;
        None
    }
}

/// Follows any segment but the commonest. Reads it again: what is handed on by address would be put into memory for all.
#[inline(never)]
fn observe_other<A: Family>(
    session: &mut Session<A>,
    direction: Direction,
    bytes: &[u8],
    length: u16,
) -> Option<TcpOutcome> {
    Some(tcp_state::observe(session, direction, &plain_tcp(bytes, A::TRANSPORT, length)?))
}

impl<B: Buffer> Shard<B> {
    /// Treats a plain packet from the wire, if its session is there and nothing has changed: its bytes are ready for the
    /// wire behind this port. Else `met` says how far it came; a value that holds either would be put together from parts.
    #[inline(always)]
    pub(crate) fn pass<A: Family>(&mut self, buffer: &mut B, known: &Known, met: &mut Passed) -> Option<PortId> {
        let bytes = buffer.bytes_mut();
        let head = A::head(bytes)?;
        let table = A::table_mut(&mut self.sessions);
        let Some((slot, direction)) = table.lookup_hinted(known.hint, known.hash, known.kind, &head.tuple) else {
            *met = Passed::New;
            return None;
        };
        let session = table.session_mut(slot);
        // The special next hops (the kernel, a tunnel, none) are not in the table.
        let Some(exit) = self.next_hops.exit(session.next_hop(direction)) else {
            return self.pass_to_tunnel::<A>(buffer, known.kind, head, slot, direction).port_or(met);
        };
        let tally = self.bindings.tally(BindingId::new(session.binding()))?;
        if session.generation() != self.generation
            || head.hop_limit <= 1
            || head.length > exit.mtu
            || tally.fate() != Fate::Stays
        {
            return None;
        }
        let tcp = known.kind == Kind::Tcp;
        let outcome = if tcp {
            let segment = plain_tcp(bytes, A::TRANSPORT, head.length)?;
            let numbers = [segment.sequence, segment.acknowledgment];
            if tcp_state::observe_next(session, direction, segment.flags, numbers, segment.window, segment.payload) {
                TcpOutcome::Pass
            } else {
                observe_other::<A>(session, direction, bytes, head.length)?
            }
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
        session.count(direction, u32::from(head.length));
        tally.count(usize::from(head.length));
        let written = if session.is_translated() {
            let deltas = Deltas { network: session.deltas().network, transport: session.deltas().transport };
            let deltas = deltas.negated_if(direction == Direction::Reply);
            A::pass(bytes, tcp, exit.hop, Some((&ends(&session.outgoing(direction)), deltas)))
        } else {
            A::pass(bytes, tcp, exit.hop, None)
        };
        // A plain packet has the headers that are written to: it is always so.
        written.then_some(exit.port)
    }
}
