//! One burst through the stages: bytes to facts, steering, lookup, act, open, and out. Work goes stage by stage over the
//! whole burst, so that the table reads of all its packets are under way before the first is used.

use arrayvec::ArrayVec;
use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};
use session::{Hint, Kind, Tuple};
use stage::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use units::limits::{BURST_MAX, ORIGINATED_PER_SECOND};
use units::{PortId, WorkerId};
use wire::{Content, Fragment, Frame, MacAddr, Malformed, Plain, Transport, Verify, checksum, dissect, plain};

use crate::act::Acted;
use crate::counters::{Measured, WorkerCounters};
use crate::exits::Exits;
use crate::family::Family;
use crate::flow::Flow;
use crate::lane::{self, GROUP, Known, Lane, Others, Task};
use crate::local::{self, Audience};
use crate::originate;
use crate::packet::{Answer, Handover, Origin, Packet, Verdict};
use crate::pass::Passed;
use crate::shard::Shard;
use crate::steer;

/// Where a burst came from.
#[derive(Clone, Copy, Debug)]
struct Door {
    port: PortId,
    origin: Origin,
    /// Whether its packets may belong to other workers.
    steer: bool,
    /// The port's own MAC.
    station: MacAddr,
}

/// Marks the end of a measured stretch: which, how many packets, the counters to put it in.
pub(crate) type Lap<'a> = &'a mut dyn FnMut(Measured, usize, &WorkerCounters);

impl<B: Buffer> Shard<B> {
    /// Treats a burst that came by `port`. `steer` is false for packets another worker has handed over.
    pub(crate) fn treat<N, P>(
        &mut self,
        exits: &mut Exits<N, P>,
        burst: &mut Burst<B>,
        port: PortId,
        origin: Origin,
        steer: bool,
        lap: Lap<'_>,
    ) where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let door = Door {
            port,
            origin,
            steer: steer && self.workers > 1,
            station: self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac),
        };
        let mut buffers: ArrayVec<Option<B>, BURST_MAX> = burst.drain(..).map(Some).collect();
        let mut lanes = ArrayVec::<Lane, BURST_MAX>::new_const();
        let mut others = Others::new();
        // A group is read while the memory the groups before it asked for is on its way.
        for step in 0..buffers.len().div_ceil(GROUP) + 2 {
            if let Some(group) = buffers.chunks_mut(GROUP).nth(step) {
                self.read_group(group, &mut lanes, &mut others, door);
                lap(Measured::Parse, group.len(), &self.counters);
            }
            if let Some(step) = step.checked_sub(1)
                && let Some(lanes) = lanes.chunks_mut(GROUP).nth(step)
            {
                self.match_group(lanes);
                lap(Measured::Lookup, lanes.len(), &self.counters);
            }
            if let Some(step) = step.checked_sub(2)
                && let (Some(group), Some(lanes)) =
                    (buffers.chunks_mut(GROUP).nth(step), lanes.chunks_mut(GROUP).nth(step))
            {
                self.act_group(group, lanes, &mut others, door);
                lap(Measured::Act, group.len(), &self.counters);
            }
        }
        if !others.misses.is_empty() {
            self.open_all(&mut others.packets, &others.misses, &mut others.verdicts);
            lap(Measured::Open, others.misses.len(), &self.counters);
        }
        self.send_all(exits, &mut buffers, &lanes, &mut others, door);
        lap(Measured::Transmit, buffers.len(), &self.counters);
    }

    /// Bytes to keys; what is not plain is read in full.
    #[inline]
    fn read_group(
        &mut self,
        group: &mut [Option<B>],
        lanes: &mut ArrayVec<Lane, BURST_MAX>,
        others: &mut Others<B>,
        door: Door,
    ) {
        for place in group {
            match place.as_ref().and_then(|buffer| read_plain(buffer, door)) {
                Some(Plain::V4(header, ports)) => {
                    let key = lane::key(header.source(), header.destination(), ports);
                    let (length, hop_limit) = (header.total_length(), header.ttl());
                    if let Some(owner) = self.owner_elsewhere(&key, door) {
                        lanes.push(Lane::HandOver(owner));
                        continue;
                    }
                    let (kind, tuple) = key;
                    let hash = self.sessions.v4.hash(kind, &tuple);
                    self.sessions.v4.prefetch_bucket(hash);
                    lanes.push(Lane::V4(Known { kind, hop_limit, length, tuple, hash, hint: Hint::default() }));
                }
                Some(Plain::V6(header, ports)) => {
                    let key = lane::key(header.source(), header.destination(), ports);
                    let (length, hop_limit) = (header.length(), header.hop_limit());
                    if let Some(owner) = self.owner_elsewhere(&key, door) {
                        lanes.push(Lane::HandOver(owner));
                        continue;
                    }
                    let (kind, tuple) = key;
                    let hash = self.sessions.v6.hash(kind, &tuple);
                    self.sessions.v6.prefetch_bucket(hash);
                    lanes.push(Lane::V6(Known { kind, hop_limit, length, tuple, hash, hint: Hint::default() }));
                }
                None => {
                    let lane = match place.take() {
                        Some(buffer) => self.read_other(buffer, place, others, door),
                        None => Lane::Gone,
                    };
                    lanes.push(lane);
                }
            }
        }
    }

    /// The worker that owns a plain packet's session, if that is another.
    #[inline(always)]
    fn owner_elsewhere<A: Family>(&self, key: &(Kind, Tuple<A>), door: Door) -> Option<WorkerId> {
        if !door.steer {
            return None;
        }
        let owner = steer::owner(&lane::ends_of(key), &self.snapshot, &self.slice, self.workers);
        (owner != self.id).then_some(owner)
    }

    /// Reads any packet. One that is another worker's goes back to its place.
    #[cold]
    #[inline(never)]
    fn read_other(&self, mut buffer: B, place: &mut Option<B>, others: &mut Others<B>, door: Door) -> Lane {
        let frame = match self.parse(&mut buffer, door) {
            Ok(frame) => frame,
            Err(reason) => {
                self.counters.drop_one(reason);
                return Lane::Gone;
            }
        };
        if door.steer
            && let Content::Ip(facts) = &frame.content
        {
            let owner = steer::owner(&steer::Ends::of(facts), &self.snapshot, &self.slice, self.workers);
            if owner != self.id {
                *place = Some(buffer);
                return Lane::HandOver(owner);
            }
        }
        let mut packet = Packet { buffer, frame, port: door.port, origin: door.origin };
        let mut verdict = Verdict::Consumed;
        let task = self.sort(&mut packet, &mut verdict);
        if let Task::Find(flow, hash) = &task {
            match flow {
                Flow::V4(..) => self.sessions.v4.prefetch_bucket(*hash),
                Flow::V6(..) => self.sessions.v6.prefetch_bucket(*hash),
            }
        }
        Lane::Other(others.push(packet, task, verdict))
    }

    /// Reads the buckets and asks for the sessions.
    #[inline]
    fn match_group(&self, lanes: &mut [Lane]) {
        for lane in lanes {
            match lane {
                Lane::V4(known) => known.hint = self.sessions.v4.prefetch_session(known.hash),
                Lane::V6(known) => known.hint = self.sessions.v6.prefetch_session(known.hash),
                Lane::Forward(_) | Lane::Other(_) | Lane::HandOver(_) | Lane::Gone => {}
            }
        }
    }

    /// Treats the packets of sessions.
    #[inline]
    fn act_group(&mut self, group: &mut [Option<B>], lanes: &mut [Lane], others: &mut Others<B>, door: Door) {
        for (place, lane) in group.iter_mut().zip(lanes) {
            let passed = match (&*lane, place.as_mut()) {
                (Lane::V4(known), Some(buffer)) => self.pass(buffer, known),
                (Lane::V6(known), Some(buffer)) => self.pass(buffer, known),
                (Lane::Other(other), _) => {
                    self.act_other(others, *other);
                    continue;
                }
                _ => continue,
            };
            // Written where it is decided: joined with the other outcomes, it would be put together in memory first.
            if let Passed::Forward(port) = passed {
                *lane = Lane::Forward(port);
                continue;
            }
            if let Some(buffer) = place.take() {
                *lane = self.read_again(buffer, lane, passed, others, door);
            }
        }
    }

    /// Reads a plain packet in full, because more is to be done with it than usual, and does it.
    #[cold]
    #[inline(never)]
    fn read_again(&mut self, buffer: B, lane: &Lane, passed: Passed, others: &mut Others<B>, door: Door) -> Lane {
        let frame = match dissect(buffer.bytes(), Verify::Nothing) {
            Ok(frame) => frame,
            Err(fault) => {
                self.counters.drop_one(fault.into());
                return Lane::Gone;
            }
        };
        let mut packet = Packet { buffer, frame, port: door.port, origin: door.origin };
        let Passed::Followed(slot, direction, outcome) = passed else {
            let mut verdict = Verdict::Consumed;
            let task = self.sort(&mut packet, &mut verdict);
            let other = others.push(packet, task, verdict);
            self.act_other(others, other);
            return Lane::Other(other);
        };
        let acted = match lane {
            Lane::V6(_) => self.follow::<Ipv6Addr>(&mut packet, slot, direction, outcome),
            _ => self.follow::<Ipv4Addr>(&mut packet, slot, direction, outcome),
        };
        let other = others.push(packet, Task::Done, Verdict::Consumed);
        others.decide(
            other,
            match acted {
                Acted::Verdict(verdict) => Some(verdict),
                Acted::Anew => None,
            },
        );
        Lane::Other(other)
    }

    /// Treats a packet that was read in full, if it belongs to a session.
    #[cold]
    #[inline(never)]
    fn act_other(&mut self, others: &mut Others<B>, other: usize) {
        let (Some(Some(packet)), Some(task)) = (others.packets.get_mut(other), others.tasks.get(other)) else { return };
        let verdict = match *task {
            Task::Done => return,
            Task::Error => Some(self.error(packet)),
            Task::Find(Flow::V4(kind, tuple), hash) => self.find_and_act::<Ipv4Addr>(packet, kind, &tuple, hash),
            Task::Find(Flow::V6(kind, tuple), hash) => self.find_and_act::<Ipv6Addr>(packet, kind, &tuple, hash),
        };
        others.decide(other, verdict);
    }

    /// Lets all out, in the order they came.
    #[inline]
    fn send_all<N, P>(
        &mut self,
        exits: &mut Exits<N, P>,
        buffers: &mut [Option<B>],
        lanes: &[Lane],
        others: &mut Others<B>,
        door: Door,
    ) where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let mut forwarded = 0;
        for (place, lane) in buffers.iter_mut().zip(lanes) {
            match (lane, place.take()) {
                (&Lane::Forward(port), Some(buffer)) => match exits.send(port, buffer) {
                    Ok(()) => forwarded += 1,
                    Err(_) => self.counters.drop_one(DropReason::TransmitFull),
                },
                (&Lane::Other(other), _) => {
                    if let Some((packet, verdict)) = others.take(other) {
                        self.finish(exits, packet, verdict);
                    }
                }
                (&Lane::HandOver(owner), Some(buffer)) => {
                    exits.hand_over(&self.counters, owner, Handover { buffer, port: door.port, origin: door.origin });
                }
                _ => {}
            }
        }
        self.counters.forwarded.add(forwarded);
    }

    /// Bytes to facts.
    fn parse(&self, buffer: &mut B, door: Door) -> Result<Frame, DropReason> {
        if buffer.is_chained() {
            return Err(DropReason::ChainedBuffer);
        }
        let verify = match buffer.received_checksum() {
            _ if door.origin == Origin::Kernel => Verify::Nothing,
            ReceivedChecksum::Good => Verify::Nothing,
            ReceivedChecksum::Unchecked => Verify::All,
            ReceivedChecksum::Partial => Verify::Partial,
            ReceivedChecksum::BadIp => return Err(Malformed::Ipv4Checksum.into()),
            // Which transport it was, only the packet tells: checked again in software.
            ReceivedChecksum::BadTransport => Verify::All,
        };
        let frame = dissect(buffer.bytes(), verify)?;
        if let Content::Ip(facts) = &frame.content
            && facts.partial_checksum
        {
            checksum::complete(buffer.bytes_mut(), facts);
        }
        let destination = frame.link.destination;
        if door.origin == Origin::Wire && destination != door.station && !destination.is_multicast() {
            return Err(DropReason::NotOurMac);
        }
        if frame.link.tags > 0 {
            return Err(DropReason::UnknownVlan);
        }
        Ok(frame)
    }

    /// Treats what needs no session, and finds the key of what does.
    fn sort(&self, packet: &mut Packet<B>, verdict: &mut Verdict) -> Task {
        let decided = match packet.frame.content {
            Content::Arp(arp) => local::arp(&self.snapshot, packet, &arp, &mut |event| self.tell(event)),
            Content::Other => self.other(packet),
            Content::Ip(facts) => {
                let destination = facts.endpoints.destination();
                match local::audience(&self.snapshot, destination) {
                    _ if packet.origin == Origin::Kernel && destination_is_group(packet) => {
                        Verdict::Forward(packet.port)
                    }
                    Audience::Link | Audience::One if is_discovery(&facts) && packet.origin == Origin::Wire => {
                        local::discovery(&self.snapshot, packet, &facts, &mut |event| self.tell(event))
                    }
                    Audience::Link => self.punt_or(packet.port, DropReason::MulticastUnwanted),
                    Audience::Many => Verdict::Drop(DropReason::MulticastUnwanted),
                    Audience::One => return self.unicast(packet, verdict),
                }
            }
        };
        *verdict = decided;
        Task::Done
    }

    fn unicast(&self, packet: &Packet<B>, verdict: &mut Verdict) -> Task {
        let Content::Ip(facts) = &packet.frame.content else { return Task::Done };
        if packet.origin == Origin::Wire && packet.frame.link.destination.is_multicast() {
            // Unicast inside a link-layer broadcast is never forwarded (RFC 1122 section 3.3.6).
            *verdict = Verdict::Drop(DropReason::MulticastUnwanted);
            return Task::Done;
        }
        if facts.fragment != Fragment::No {
            *verdict = match packet.origin {
                Origin::Wire => Verdict::Drop(DropReason::Fragment),
                Origin::Kernel => Verdict::Forward(packet.port),
            };
            return Task::Done;
        }
        match (Flow::of(facts), facts.transport) {
            (Some(flow), _) => {
                let hash = match &flow {
                    Flow::V4(kind, tuple) => self.sessions.v4.hash(*kind, tuple),
                    Flow::V6(kind, tuple) => self.sessions.v6.hash(*kind, tuple),
                };
                return Task::Find(flow, hash);
            }
            (None, Transport::IcmpError { .. }) if packet.origin == Origin::Wire => return Task::Error,
            (None, _) => {}
        }
        *verdict = match packet.origin {
            Origin::Wire => Verdict::Drop(DropReason::IcmpUnwanted),
            Origin::Kernel => Verdict::Forward(packet.port),
        };
        Task::Done
    }

    /// Frames that are neither IP nor ARP: the kernel may know what to do with those addressed to this station or to the
    /// stations of this link (IEEE 802.1Q table 8-1).
    fn other(&self, packet: &Packet<B>) -> Verdict {
        const LINK_GROUP: [u8; 5] = [0x01, 0x80, 0xc2, 0x00, 0x00];
        match packet.origin {
            Origin::Kernel => Verdict::Forward(packet.port),
            Origin::Wire => {
                let destination = packet.frame.link.destination;
                if !destination.is_multicast() || destination.octets().starts_with(&LINK_GROUP) {
                    self.punt_or(packet.port, DropReason::UnknownEthertype)
                } else {
                    Verdict::Drop(DropReason::UnknownEthertype)
                }
            }
        }
    }

    fn punt_or(&self, port: PortId, reason: DropReason) -> Verdict {
        if self.snapshot.port(port).is_some_and(|facts| facts.kernel) {
            Verdict::Punt(port)
        } else {
            Verdict::Drop(reason)
        }
    }

    fn error(&mut self, packet: &mut Packet<B>) -> Verdict {
        if let Content::Ip(facts) = packet.frame.content
            && let Transport::IcmpError { quote, .. } = facts.transport
        {
            return self.icmp_error(packet, &facts, &quote);
        }
        Verdict::Drop(DropReason::IcmpUnwanted)
    }

    /// Treats a packet whose session exists; `None` for a first packet.
    fn find_and_act<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        kind: Kind,
        tuple: &Tuple<A>,
        hash: u64,
    ) -> Option<Verdict> {
        if let Some((slot, direction)) = A::table(&self.sessions).lookup(hash, kind, tuple)
            && let Acted::Verdict(verdict) = self.act::<A>(packet, slot, direction)
        {
            return Some(verdict);
        }
        match (packet.origin, packet.frame.content) {
            (Origin::Kernel, Content::Ip(facts)) => Some(self.open_for_kernel(packet, &facts)),
            (Origin::Kernel, _) => Some(Verdict::Forward(packet.port)),
            (Origin::Wire, _) => None,
        }
    }

    /// Lets a packet out as was decided.
    pub(crate) fn finish<N, P>(&mut self, exits: &mut Exits<N, P>, packet: Packet<B>, verdict: Verdict)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        match verdict {
            Verdict::Forward(port) => exits.forward(&self.counters, port, packet.buffer),
            Verdict::Punt(port) => exits.punt(&self.counters, port, packet.buffer),
            Verdict::Answered(port) => {
                self.counters.consumed.add(1);
                exits.originate(&self.counters, port, packet.buffer);
            }
            Verdict::Consumed => self.counters.consumed.add(1),
            Verdict::Drop(reason) => self.counters.drop_one(reason),
            Verdict::Hold(hop) => {
                if let Err((_, reason)) = self.next_hops.hold(hop, packet.buffer, self.tick) {
                    self.counters.drop_one(reason);
                }
            }
            Verdict::Refuse(reason, answer) => {
                self.counters.drop_one(reason);
                self.answer(exits, &packet, answer);
            }
        }
    }

    #[cold]
    fn answer<N, P>(&mut self, exits: &mut Exits<N, P>, packet: &Packet<B>, answer: Answer)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        // What the kernel sends is not answered: it would have to be told through its own interface.
        if packet.origin == Origin::Kernel || !self.answers.take(self.now, ORIGINATED_PER_SECOND) {
            return;
        }
        if let Some(buffer) = originate::answer(exits.pool(), &self.snapshot, packet, answer) {
            exits.originate(&self.counters, packet.port, buffer);
        }
    }

    /// Takes in what control found out about a neighbor, and lets go what waited for it.
    pub(crate) fn neighbor<N, P>(
        &mut self,
        exits: &mut Exits<N, P>,
        port: PortId,
        address: IpAddr,
        mac: Option<MacAddr>,
    ) where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let Some(hop) = self.next_hops.learn(port, address, mac, self.tick) else { return };
        while let Some(mut buffer) = self.next_hops.released(hop) {
            match mac {
                Some(mac) => {
                    if let Some(destination) = buffer.bytes_mut().first_chunk_mut::<6>() {
                        *destination = mac.octets();
                    }
                    exits.forward(&self.counters, port, buffer);
                }
                None => self.counters.drop_one(DropReason::NeighborUnresolved),
            }
        }
    }
}

/// Reads a plain packet from the wire; `None` when it is anything else.
#[inline(always)]
fn read_plain<B: Buffer>(buffer: &B, door: Door) -> Option<Plain<'_>> {
    if door.origin != Origin::Wire || buffer.is_chained() {
        return None;
    }
    let verify = match buffer.received_checksum() {
        ReceivedChecksum::Good => Verify::Nothing,
        ReceivedChecksum::Unchecked => Verify::All,
        ReceivedChecksum::Partial => Verify::Partial,
        ReceivedChecksum::BadIp | ReceivedChecksum::BadTransport => return None,
    };
    plain(buffer.bytes(), door.station, verify)
}

fn is_discovery(facts: &wire::Facts) -> bool {
    matches!(facts.transport, Transport::Icmp { kind, .. } if facts.protocol == 58 && local::is_discovery(kind))
}

fn destination_is_group<B>(packet: &Packet<B>) -> bool {
    packet.frame.link.destination.is_multicast()
}
