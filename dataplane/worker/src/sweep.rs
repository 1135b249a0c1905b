//! Walking the session table a little each turn: to copy sessions for `show sessions`, to end those of a backend that was
//! flushed or has drained, and to collect what sessions have counted for their backends. However large the table, a turn
//! sees a bounded number of slots.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;
use session::{Direction, Kind, Session, Slot, State};
use stage::balancer::Backend;
use units::limits::TIERS_MAX;
use units::{PortId, Tick, WorkerId};

use crate::act::FROM_KERNEL;
use crate::binding::BindingId;
use crate::command::Event;
use crate::family::Family;
use crate::next_hop::NextHopId;
use crate::shard::Shard;
use crate::tenants::Tenant;

/// Slots looked at in one turn.
const STRIDE: u32 = 256;

/// Slots whose counts are collected at once: a million in some two seconds of a worker with packets to treat all the time.
const COLLECTED: u32 = 32;
/// Ticks from the beginning of one such walk to that of the next at least: a second.
const COLLECTED_AGAIN: u64 = 4;

/// One end of a session and the other, as seen in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Source address.
    pub source: IpAddr,
    /// Source port, or echo identifier, or protocol number.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

impl Ends {
    /// As seen in the other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        let Self { source, source_port, destination, destination_port } = self;
        Self { source: destination, source_port: destination_port, destination: source, destination_port: source_port }
    }
}

/// A copy of one session.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// Whose addresses these are.
    pub tenant: Option<Arc<Tenant>>,
    /// The kind of protocol.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// Packets of who opened it.
    pub original: Ends,
    /// Packets of the answer.
    pub reply: Ends,
    /// The backend that serves it.
    pub backend: Option<Arc<Backend>>,
    /// The instances of tiers that its packets pass, as far as they are chosen; in order.
    pub tiers: ArrayVec<Arc<Backend>, TIERS_MAX>,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes of IP, both directions.
    pub bytes: u64,
    /// Ticks since the last packet.
    pub idle: u64,
    /// Ticks until it ends if nothing comes.
    pub expires: u64,
    /// The worker that owns it.
    pub owner: WorkerId,
    /// The port that who opened it came by.
    pub ingress: PortId,
    /// The [number](units::Generation::short) of the policy that judged it last.
    pub generation: u16,
    /// The appliance's own kernel opened it.
    pub from_kernel: bool,
    /// Its packets pass through a pair of ports.
    pub in_line: bool,
}

/// Where a walk through both tables stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cursor {
    /// Inside the IPv4 table.
    V4(u32),
    /// Inside the IPv6 table.
    V6(u32),
    /// Through.
    #[default]
    Done,
}

impl Cursor {
    /// The beginning.
    pub const START: Self = Self::V4(0);
}

/// A buffer for copies of sessions: sent with [`Command::Dump`](crate::Command), comes back when it is full or the walk is
/// over. Sent again emptied, it goes on where it stopped.
#[derive(Debug)]
pub struct Dump {
    /// The number of the request.
    pub request: u64,
    /// The copies; never more than its capacity.
    pub records: Vec<SessionRecord>,
    /// Where to go on.
    pub cursor: Cursor,
    /// The worker asked.
    pub worker: WorkerId,
}

impl Dump {
    /// A buffer for `capacity` sessions.
    #[must_use]
    pub fn new(request: u64, worker: WorkerId, capacity: usize) -> Self {
        Self { request, records: Vec::with_capacity(capacity), cursor: Cursor::START, worker }
    }

    fn is_full(&self) -> bool {
        self.records.len() == self.records.capacity()
    }
}

/// Sessions to end.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The number of the request.
    pub request: u64,
    /// The backends whose sessions end.
    pub backends: Arc<[Arc<Backend>]>,
}

/// What a worker is walking its table for.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    dump: Option<Box<Dump>>,
    flush: Option<(Flush, Cursor, u64)>,
    flush_begun: Tick,
    doomed: Cursor,
    collected: Cursor,
    /// When counts are collected again.
    collect: Tick,
}

/// Which sessions a walk ends.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// Those whose backend has drained or failed.
    Doomed,
    /// Those of flushed backends, as far as they were there when the flush began.
    Flush {
        /// When it began.
        begun: Tick,
    },
}

impl Sweeps {
    pub(crate) fn dump(&mut self, dump: Box<Dump>) -> Option<Box<Dump>> {
        self.dump.replace(dump)
    }

    pub(crate) fn flush(&mut self, flush: Flush, now: Tick) -> Option<(Flush, u64)> {
        self.flush_begun = now;
        self.flush.replace((flush, Cursor::START, 0)).map(|(flush, _, ended)| (flush, ended))
    }

    /// Silent sessions of backends that drained or failed are to be ended.
    pub(crate) const fn end_doomed(&mut self) {
        self.doomed = Cursor::START;
    }
}

/// The tuple of one direction; of NAT64's sessions, one is IPv4 in IPv6's clothes.
pub(crate) fn ends<A: Family>(session: &Session<A>, direction: Direction) -> Ends {
    let tuple = session.tuple(direction);
    Ends {
        source: tuple.source.into_ip().to_canonical(),
        source_port: tuple.source_port,
        destination: tuple.destination.into_ip().to_canonical(),
        destination_port: tuple.destination_port,
    }
}

impl<B> Shard<B> {
    /// Goes a stride further with everything there is to walk for.
    pub(crate) fn sweep(&mut self, sweeps: &mut Sweeps) {
        if let Some(mut dump) = sweeps.dump.take() {
            dump.cursor = match dump.cursor {
                Cursor::V4(from) => self.copy::<Ipv4Addr>(&mut dump, from).map_or(Cursor::V6(0), Cursor::V4),
                Cursor::V6(from) => self.copy::<Ipv6Addr>(&mut dump, from).map_or(Cursor::Done, Cursor::V6),
                Cursor::Done => Cursor::Done,
            };
            if dump.is_full() || dump.cursor == Cursor::Done {
                self.deliver(Event::Dumped(dump));
            } else {
                sweeps.dump = Some(dump);
            }
        }
        if let Some((flush, cursor, ended)) = sweeps.flush.take() {
            let begun = sweeps.flush_begun;
            let (cursor, more) = self.end_some(cursor, Walk::Flush { begun });
            let ended = ended + more;
            if cursor == Cursor::Done {
                self.deliver(Event::Flushed { flush, sessions: ended });
            } else {
                sweeps.flush = Some((flush, cursor, ended));
            }
        }
        if sweeps.doomed != Cursor::Done {
            (sweeps.doomed, _) = self.end_some(sweeps.doomed, Walk::Doomed);
        }
    }

    /// Collects what some more sessions have counted. A session that passes many packets is collected on the way.
    pub(crate) fn collect_counts(&mut self, sweeps: &mut Sweeps) {
        if sweeps.collected == Cursor::Done {
            if self.tick < sweeps.collect {
                return;
            }
            sweeps.collect = Tick::new(self.tick.get() + COLLECTED_AGAIN);
            sweeps.collected = Cursor::START;
        }
        sweeps.collected = match sweeps.collected {
            Cursor::V4(from) => self.collect_some_counts::<Ipv4Addr>(from).map_or(Cursor::V6(0), Cursor::V4),
            Cursor::V6(from) => self.collect_some_counts::<Ipv6Addr>(from).map_or(Cursor::Done, Cursor::V6),
            Cursor::Done => Cursor::Done,
        };
    }

    fn collect_some_counts<A: Family>(&mut self, from: u32) -> Option<u32> {
        let table = A::table_mut(&mut self.sessions);
        let end = table.slots_end();
        let next = from.saturating_add(COLLECTED);
        // What lies in a row comes together; one after the other, each would be waited for.
        (from..next.min(end)).for_each(|slot| table.prefetch_whole(Slot::new(slot)));
        for slot in from..next.min(end) {
            let session = table.session_mut(Slot::new(slot));
            if session.is_occupied() && session.has_counted() {
                self.bindings.collect(session);
            }
        }
        (next < end).then_some(next)
    }

    fn copy<A: Family>(&self, dump: &mut Dump, from: u32) -> Option<u32> {
        let table = A::table(&self.sessions);
        for (slot, session) in table.occupied(from, STRIDE) {
            if dump.is_full() {
                return Some(slot.get());
            }
            dump.records.push(self.record_of(slot, session));
        }
        next_stride(from, table.slots_end())
    }

    /// A copy of the session in `slot`.
    pub(crate) fn record_of<A: Family>(&self, slot: Slot, session: &Session<A>) -> SessionRecord {
        let (packets, bytes) = session.counters(Direction::Original);
        let (reply_packets, reply_bytes) = session.counters(Direction::Reply);
        SessionRecord {
            tenant: self.snapshot.tenants.tenant(session.tenant()).cloned(),
            kind: session.kind(),
            state: session.state(),
            original: ends(session, Direction::Original),
            reply: ends(session, Direction::Reply),
            backend: self.bindings.backend(BindingId::new(session.binding())).cloned(),
            tiers: self.instances_of::<A>(slot),
            packets: packets + reply_packets,
            bytes: bytes + reply_bytes,
            idle: u64::from(session.idle(self.tick)),
            expires: A::table(&self.sessions).expires(slot, self.tick).get().saturating_sub(self.tick.get()),
            owner: self.id,
            ingress: session.ingress(Direction::Original),
            generation: session.generation(),
            from_kernel: session.flags() & FROM_KERNEL != 0,
            in_line: NextHopId::new(session.next_hop(Direction::Original)).is_through(),
        }
    }

    fn end_some(&mut self, cursor: Cursor, walk: Walk) -> (Cursor, u64) {
        match cursor {
            Cursor::V4(from) => {
                let (next, ended) = self.end_stride::<Ipv4Addr>(from, walk);
                (next.map_or(Cursor::V6(0), Cursor::V4), ended)
            }
            Cursor::V6(from) => {
                let (next, ended) = self.end_stride::<Ipv6Addr>(from, walk);
                (next.map_or(Cursor::Done, Cursor::V6), ended)
            }
            Cursor::Done => (Cursor::Done, 0),
        }
    }

    fn end_stride<A: Family>(&mut self, from: u32, walk: Walk) -> (Option<u32>, u64) {
        let mut ended = 0;
        let end = A::table(&self.sessions).slots_end();
        for slot in from..from.saturating_add(STRIDE).min(end) {
            if !self.can_tell_both_ends() {
                return (Some(slot), ended);
            }
            let Some((slot, session)) = A::table(&self.sessions).occupied(slot, 1).next() else { continue };
            let ends = match walk {
                Walk::Doomed => self.is_doomed::<A>(slot),
                Walk::Flush { begun } => {
                    let binding = BindingId::new(session.binding());
                    session.created() <= begun && (self.bindings.is_flushed(binding) || self.passes_flushed::<A>(slot))
                }
            };
            if ends {
                self.end::<A>(slot);
                ended += 1;
            }
        }
        (next_stride(from, end), ended)
    }
}

/// Where the walk goes on after the stride from `from`; `None` when the table ends there.
fn next_stride(from: u32, end: u32) -> Option<u32> {
    let next = from.saturating_add(STRIDE);
    (next < end).then_some(next)
}
