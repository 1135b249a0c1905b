//! One burst through the stages: keys, sessions, rewriting, and out. Work goes stage by stage in groups, so that the table
//! reads of a group are under way while others are worked on.
//!
//! Nearly every burst is plain packets of established sessions: those stay in the burst from the device they came by to
//! the one they leave through. From the first packet on for which that is not so, [`treat`](crate::treat) goes on.

use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};
use session::{Hint, Kind, WireTuple};
use std::net::{Ipv4Addr, Ipv6Addr};
use units::PortId;
use units::limits::BURST_MAX;
use wire::MacAddr;
use wire::plain::{self, Network};

use crate::clock::Clock;
use crate::counters::Measured;
use crate::exits::Exits;
use crate::family::Family;
use crate::lane::{GROUP, Known, LAG, Lane};
use crate::packet::{Arrival, Asked, Label, Origin};
use crate::pass::Passed;
use crate::shard::Shard;
use crate::snapshot::Pair;
use crate::stopwatch::Stopwatch;

/// The lanes of a burst, in the order of its packets; those behind the last are of no meaning.
pub(crate) type Lanes = [Lane; BURST_MAX];

/// Where a burst came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) port: PortId,
    pub(crate) origin: Origin,
    /// Whether its packets may belong to other workers.
    pub(crate) steer: bool,
    /// Who was asked for the sessions of its packets before.
    pub(crate) asked: Asked,
    /// Whether another policy is in force where it was handed over.
    pub(crate) stale: bool,
    /// The port's own MAC.
    pub(crate) station: MacAddr,
    /// The pair the port belongs to: what is plain here is for other stations and passes through.
    pub(crate) pair: Option<Pair>,
}

/// Where packets go that need no more, as far as it matters: whether they leave through more than one port, and whether
/// some are for other workers.
#[derive(Clone, Copy, Debug)]
struct Ports {
    /// The bits all their numbers have, and those any has.
    all: u16,
    any: u16,
    /// Whether any is handed over.
    handed: bool,
}

impl Ports {
    const NONE: Self = Self { all: u16::MAX, any: 0, handed: false };

    #[inline(always)]
    const fn add(&mut self, port: PortId) {
        self.all &= port.get();
        self.any |= port.get();
    }

    /// The one port.
    const fn only(self) -> Option<PortId> {
        if self.all == self.any { Some(PortId::new(self.all)) } else { None }
    }
}

impl<B: Buffer> Shard<B> {
    /// Treats a burst.
    #[inline(always)]
    pub(crate) fn treat<N, P, C>(
        &mut self,
        exits: &mut Exits<N, P>,
        burst: &mut Burst<B>,
        arrival: Arrival,
        watch: &mut Stopwatch<'_, C>,
    ) where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
        C: Clock,
    {
        let Arrival { port, origin, steer, asked, stale } = arrival;
        let facts = self.snapshot.port(port);
        let from_wire = matches!(origin, Origin::Wire | Origin::InLine);
        let pair = facts.and_then(|facts| facts.pair).filter(|_| from_wire);
        let door = Door {
            port,
            origin: if pair.is_some() { Origin::InLine } else { origin },
            steer: steer && self.workers > 1,
            asked,
            stale,
            station: facts.map_or(MacAddr::ZERO, |facts| facts.mac),
            pair,
        };
        let count = burst.len();
        let mut lanes = [Lane::Odd; BURST_MAX];
        let mut ports = Ports::NONE;
        let mut met = Passed::Not;
        let odd = match door.pair {
            None => self.pass_all::<false, C>(burst, &mut lanes, &mut ports, &mut met, door, watch),
            Some(_) => {
                let odd = self.pass_all_through(burst, &mut lanes, &mut ports, &mut met, door, watch);
                self.counters.passed_in_line.add(odd.unwrap_or(count) as u64);
                odd
            }
        };
        match (odd, ports.only()) {
            (None, Some(port)) => {
                if ports.handed {
                    self.part(exits, burst, &lanes, door);
                }
                exits.forward_all(&self.counters, port, burst);
            }
            _ => self.treat_rest(exits, burst, &mut lanes, (odd.unwrap_or(count), met), door, watch),
        }
        watch.lap(Measured::Transmit, count, &self.counters);
    }

    /// As [`pass_all`](Self::pass_all), of a burst that came by a paired port.
    #[inline(never)]
    fn pass_all_through<C: Clock>(
        &mut self,
        burst: &mut [B],
        lanes: &mut Lanes,
        ports: &mut Ports,
        met: &mut Passed,
        door: Door,
        watch: &mut Stopwatch<'_, C>,
    ) -> Option<usize> {
        self.pass_all::<true, C>(burst, lanes, ports, met, door, watch)
    }

    /// Takes the packets of a burst through the stages, a group after the other, up to the first that needs more. Returns
    /// its place; `met` says how far it came. `THROUGH` says that they came by a paired port.
    #[inline(always)]
    fn pass_all<const THROUGH: bool, C: Clock>(
        &mut self,
        burst: &mut [B],
        lanes: &mut Lanes,
        ports: &mut Ports,
        met: &mut Passed,
        door: Door,
        watch: &mut Stopwatch<'_, C>,
    ) -> Option<usize> {
        let mut odd = None;
        let mut read = 0;
        // A group is read while the memory the groups before it asked for is on its way.
        while read < burst.len() + 2 * LAG {
            if let Some((group, lanes)) = group_at(burst, lanes, read) {
                self.read_group::<THROUGH>(group, lanes, door);
                watch.lap(Measured::Parse, group.len(), &self.counters);
            }
            if let Some((group, lanes)) = read.checked_sub(LAG).and_then(|at| group_at(burst, lanes, at)) {
                self.match_group(lanes);
                watch.lap(Measured::Lookup, group.len(), &self.counters);
            }
            if let Some(at) = read.checked_sub(2 * LAG)
                && odd.is_none()
                && let Some((group, lanes)) = group_at(burst, lanes, at)
            {
                let end = at + group.len();
                odd = self.pass_group::<THROUGH>(group, lanes, ports, met, door).map(|left| end - left);
                watch.lap(Measured::Act, end - at, &self.counters);
            }
            read += GROUP;
        }
        odd
    }

    /// Bytes to keys.
    #[inline(always)]
    fn read_group<const THROUGH: bool>(&self, group: &[B], lanes: &mut [Lane], door: Door) {
        if door.origin != if THROUGH { Origin::InLine } else { Origin::Wire } {
            return;
        }
        for (buffer, lane) in group.iter().zip(lanes) {
            self.read_plain::<THROUGH>(buffer, lane, door);
        }
    }

    /// Reads a plain packet from the wire. The lane of any other stays as it was, odd.
    #[inline(always)]
    fn read_plain<const THROUGH: bool>(&self, buffer: &B, lane: &mut Lane, door: Door) {
        if buffer.is_chained() {
            return;
        }
        let bytes = buffer.bytes();
        let verify = match buffer.received_checksum() {
            ReceivedChecksum::Unchecked => true,
            ReceivedChecksum::Good => false,
            ReceivedChecksum::Partial if !plain::may_be_partial(bytes) => true,
            ReceivedChecksum::Partial | ReceivedChecksum::BadIp | ReceivedChecksum::BadTransport => return,
        };
        // At a paired port, what is for the appliance itself is read in full.
        let network = if THROUGH {
            plain::network_to_any(bytes).filter(|_| !bytes.starts_with(&door.station.octets()))
        } else {
            plain::network(bytes, door.station)
        };
        match network {
            None => {}
            Some(Network::V4) => {
                let Some(plain) = plain::read_v4(bytes, verify) else { return };
                self.know::<Ipv4Addr>(lane, plain.tcp, WireTuple::new(plain.addresses, plain.ports), false);
            }
            Some(Network::V6) => {
                let Some(plain) = plain::read_v6(bytes, verify) else { return };
                self.know::<Ipv6Addr>(lane, plain.tcp, WireTuple::new(plain.addresses, plain.ports), true);
            }
        }
    }

    /// A plain packet with this key, its bucket asked for. Whose it is, is asked only where its session is not here: what a
    /// device delivers to the right worker costs nothing more than with one.
    #[inline(always)]
    fn know<A: Family>(&self, lane: &mut Lane, tcp: bool, tuple: WireTuple<A>, is_v6: bool) {
        let kind = if tcp { Kind::Tcp } else { Kind::Udp };
        let table = A::table(&self.sessions);
        let hash = table.hash_wire(kind, tuple);
        table.prefetch_bucket(hash);
        *lane = Lane::Known(Known { hash, hint: Hint::default(), kind, is_v6 });
    }

    /// Reads the buckets and asks for the sessions.
    #[inline(always)]
    fn match_group(&self, lanes: &mut [Lane]) {
        for lane in lanes {
            if let Lane::Known(known) = lane {
                known.hint = if known.is_v6 {
                    self.sessions.v6.prefetch_session(known.hash)
                } else {
                    self.sessions.v4.prefetch_session(known.hash)
                };
            }
        }
    }

    /// Treats the packets of a group, up to the first that needs more. Returns how many are left from that one on.
    #[inline(always)]
    fn pass_group<const THROUGH: bool>(
        &mut self,
        group: &mut [B],
        lanes: &mut [Lane],
        ports: &mut Ports,
        met: &mut Passed,
        door: Door,
    ) -> Option<usize> {
        let mut left = group.len();
        for (buffer, lane) in group.iter_mut().zip(lanes) {
            let Lane::Known(known) = lane else { return Some(left) };
            let passed = match (known.is_v6, door.pair) {
                (true, Some(pair)) if THROUGH => self.pass_through::<Ipv6Addr>(buffer, known, pair, met),
                (false, Some(pair)) if THROUGH => self.pass_through::<Ipv4Addr>(buffer, known, pair, met),
                (true, _) => self.pass::<Ipv6Addr>(buffer, known, met),
                (false, _) => self.pass::<Ipv4Addr>(buffer, known, met),
            };
            let Some(port) = passed else {
                if !THROUGH && self.is_anothers(buffer, lane, met, door) {
                    ports.handed = true;
                    left -= 1;
                    continue;
                }
                return Some(left);
            };
            *lane = Lane::Forward(port);
            ports.add(port);
            left -= 1;
        }
        None
    }

    /// Whether a plain packet that did not pass is another worker's, and the packets behind it may go on as if it had not
    /// been there: its lane says where it goes then.
    #[cold]
    #[inline(never)]
    fn is_anothers(&mut self, buffer: &B, lane: &mut Lane, met: &mut Passed, door: Door) -> bool {
        let (Lane::Known(known), Passed::New, true) = (&*lane, *met, door.steer) else { return false };
        let Some((worker, asked)) = self.plain_goes_on(buffer, known, door) else { return false };
        *lane = Lane::HandOver(worker, door.origin, asked);
        *met = Passed::Not;
        true
    }

    /// Takes those packets out of a burst that are for other workers.
    #[cold]
    #[inline(never)]
    fn part<N, P>(&self, exits: &mut Exits<N, P>, burst: &mut Burst<B>, lanes: &Lanes, door: Door)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let mut own = Burst::new_const();
        for (buffer, lane) in burst.drain(..).zip(lanes) {
            match *lane {
                Lane::HandOver(owner, origin, asked) => {
                    let label = Label { port: door.port, origin, asked, generation: self.generation };
                    exits.hand_over(&self.counters, owner, label, buffer);
                }
                _ => own.push(buffer),
            }
        }
        *burst = own;
    }
}

/// The group that begins at `at`, with its lanes.
#[inline(always)]
fn group_at<'a, B>(burst: &'a mut [B], lanes: &'a mut Lanes, at: usize) -> Option<(&'a mut [B], &'a mut [Lane])> {
    let group = burst.get_mut(at..)?.chunks_mut(GROUP).next()?;
    let lanes = lanes.get_mut(at..)?.get_mut(..group.len())?;
    Some((group, lanes))
}
