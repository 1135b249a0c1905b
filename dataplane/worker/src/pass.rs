//! The plain packet of an established session: found, checked, followed, counted, rewritten. What stands in its way
//! (another policy since, a next hop that does not answer, a backend that failed, a packet too large) is left to
//! [`act`](crate::act), which starts from the beginning: nothing has been changed then.

use frame::Buffer;
use session::{Direction, Hint, Kind, Session, Slot, TcpOutcome, datagram, tcp_state};
use stage::translate::Leaving;
use units::PortId;
use wire::plain::{plain_segment, plain_tcp};

use crate::act::may_end_by_state;
use crate::family::Family;
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

/// What packets of a translated session leave with.
#[inline(always)]
pub(crate) fn leaving<A: Family>(session: &Session<A>, direction: Direction) -> Leaving<A::Pair> {
    let tuple = session.wire_outgoing(direction);
    let [network, transport] = session.wire_deltas(direction);
    Leaving { addresses: tuple.addresses(), ports: tuple.ports(), network, transport }
}

impl<B: Buffer> Shard<B> {
    /// Treats a plain packet from the wire, if its session is there and nothing has changed: its bytes are ready for the
    /// wire behind this port. Else `met` says how far it came; a value that holds either would be put together from parts.
    #[inline(always)]
    pub(crate) fn pass<A: Family>(&mut self, buffer: &mut B, known: &Known, met: &mut Passed) -> Option<PortId> {
        // Two ways from here on: asked again and again, what kind it is would cost more than the place both take.
        if known.kind == Kind::Tcp {
            self.pass_kind::<A, true>(buffer, known, met)
        } else {
            self.pass_kind::<A, false>(buffer, known, met)
        }
    }

    #[inline(always)]
    fn pass_kind<A: Family, const TCP: bool>(
        &mut self,
        buffer: &mut B,
        known: &Known,
        met: &mut Passed,
    ) -> Option<PortId> {
        let kind = if TCP { Kind::Tcp } else { Kind::Udp };
        let bytes = buffer.bytes_mut();
        let front = A::front(bytes)?;
        let table = A::table_mut(&mut self.sessions);
        let Some((session, direction)) = table.hinted(known.hint, kind, front.tuple) else {
            return self.pass_elsewhere::<A>(buffer, known, met);
        };
        // The special next hops (the kernel, a tunnel, none) are not in the table.
        let Some(exit) = self.next_hops.exit(session.next_hop(direction)) else {
            let slot = known.hint.slot();
            return self.pass_to_tunnel::<A>(buffer, kind, front.into(), slot, direction).port_or(met);
        };
        if session.generation() != self.generation
            || front.hop_limit <= 1
            || front.length > exit.mtu
            || !self.bindings.stays(session.binding())
        {
            return None;
        }
        let outcome = if TCP {
            let segment = plain_segment(bytes, A::TRANSPORT, front.length)?;
            let numbers = [segment.sequence, segment.acknowledgment];
            if tcp_state::observe_next(session, direction, segment.flags, numbers, segment.window, segment.payload) {
                TcpOutcome::Pass
            } else {
                observe_other::<A>(session, direction, bytes, front.length)?
            }
        } else if datagram::observe(session, direction) {
            TcpOutcome::PassAndRetime
        } else {
            TcpOutcome::Pass
        };
        if outcome != TcpOutcome::Pass {
            return self.pass_turning::<A>(buffer, known, (direction, outcome), front.length, met);
        }
        session.touch(self.tick);
        if session.count(direction, u32::from(front.length)) {
            self.bindings.collect(session);
        }
        let written = if session.is_translated() {
            A::pass(bytes, TCP, exit.hop, Some(leaving(session, direction)))
        } else {
            A::pass(bytes, TCP, exit.hop, None)
        };
        // A plain packet has the headers that are written to: it is always so.
        written.then_some(exit.port)
    }

    /// Goes on with a plain packet that its session has taken in with more than a nod. When nothing follows but another
    /// timeout, as with the packets that open and close a connection, it passes like any other.
    #[cold]
    #[inline(never)]
    fn pass_turning<A: Family>(
        &mut self,
        buffer: &mut B,
        known: &Known,
        (direction, outcome): (Direction, TcpOutcome),
        length: u16,
        met: &mut Passed,
    ) -> Option<PortId> {
        let slot = known.hint.slot();
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        if outcome != TcpOutcome::PassAndRetime || may_end_by_state(session) {
            *met = Passed::Followed(slot, direction, outcome);
            return None;
        }
        session.touch(self.tick);
        if session.count(direction, u32::from(length)) {
            self.bindings.collect(session);
        }
        self.retime::<A>(slot);
        let session = A::table(&self.sessions).session(slot);
        let leaving = session.is_translated().then(|| leaving(session, direction));
        let exit = self.next_hops.exit(session.next_hop(direction))?;
        A::pass(buffer.bytes_mut(), known.kind == Kind::Tcp, exit.hop, leaving).then_some(exit.port)
    }

    /// Whether a packet certainly had no session when its bucket was read. What opens sessions comes after that in a burst,
    /// and looks whether another packet has opened this one.
    #[inline]
    pub(crate) fn is_new(&self, known: &Known) -> bool {
        if known.is_v6 {
            self.sessions.v6.was_absent(known.hint, known.hash)
        } else {
            self.sessions.v4.was_absent(known.hint, known.hash)
        }
    }

    /// Looks for the session of a packet where it was not expected: its tag is another's too, its bucket was full, or it
    /// came meanwhile. Reads its tuple again: what is handed on by address would be put into memory for all packets.
    #[cold]
    #[inline(never)]
    fn pass_elsewhere<A: Family>(&mut self, buffer: &mut B, known: &Known, met: &mut Passed) -> Option<PortId> {
        let found = if self.is_new(known) {
            None
        } else {
            let tuple = A::front(buffer.bytes())?.tuple;
            A::table(&self.sessions).lookup_hinted(known.hint, known.hash, known.kind, tuple)
        };
        let Some((slot, direction)) = found else {
            *met = Passed::New;
            return None;
        };
        self.pass::<A>(buffer, &Known { hint: Hint::to(slot, direction), ..*known }, met)
    }
}
