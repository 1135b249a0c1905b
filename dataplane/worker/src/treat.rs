//! What a burst needs beyond passing plain packets on: packets read in full, sorted, looked up and opened, packets for
//! other workers and the kernel, answers. Called by [`burst`](crate::burst) from the first such packet of a burst on, in
//! order, since what one packet does to its session the next one finds.

use arrayvec::ArrayVec;
use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};
use session::{Kind, Tuple};
use stage::DropReason;
use stage::heavy_hitters::Outcome;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use units::PortId;
use units::limits::{BURST_MAX, ORIGINATED_PER_SECOND};
use wire::{Content, Fragment, Frame, MacAddr, Malformed, Transport, Verify, checksum, dissect};

use crate::act::{Acted, set_macs};
use crate::burst::{Door, Lanes};
use crate::clock::Clock;
use crate::counters::Measured;
use crate::decapsulate::Whose;
use crate::exits::Exits;
use crate::family::Family;
use crate::flow::Flow;
use crate::fragments::Gathered;
use crate::in_line;
use crate::lane::{Known, Lane, Others, Places, Task};
use crate::local::{self, Audience};
use crate::newcomer::Crowd;
use crate::originate;
use crate::packet::{Answer, Asked, Label, Origin, Packet, Verdict};
use crate::pass::Passed;
use crate::shard::Shard;
use crate::stopwatch::Stopwatch;

impl<B: Buffer> Shard<B> {
    /// Goes on with a burst in which a packet was met that needs more than passing: the one at `from`, which came as far
    /// as `met` says.
    #[inline(never)]
    pub(crate) fn treat_rest<N, P, C>(
        &mut self,
        exits: &mut Exits<N, P>,
        burst: &mut Burst<B>,
        lanes: &mut Lanes,
        (from, met): (usize, Passed),
        door: Door,
        watch: &mut Stopwatch<'_, C>,
    ) where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
        C: Clock,
    {
        let mut buffers: ArrayVec<Option<B>, BURST_MAX> = burst.drain(..).map(Some).collect();
        let mut others = Others::new();
        if let (Some(rest), Some(lanes)) = (buffers.get_mut(from..), lanes.get_mut(from..)) {
            self.read_rest(rest, lanes, &mut others, door);
            watch.lap(Measured::Parse, 0, &self.counters);
            self.act_rest(rest, lanes, met, &mut others, door);
            watch.lap(Measured::Act, rest.len(), &self.counters);
            let newcomers = core::mem::take(&mut others.newcomers);
            let count = newcomers.iter().map(|places| places.len()).sum();
            if count > 0 {
                self.welcome_all(rest, lanes, &newcomers, &mut others, door);
                watch.lap(Measured::Open, count, &self.counters);
            }
        }
        if self.workers > 1 {
            self.send_astray(&mut others, door);
        }
        if !others.misses.is_empty() {
            let count = others.misses.len();
            self.open_all(&mut others);
            watch.lap(Measured::Open, count, &self.counters);
        }
        self.send_all(exits, &mut buffers, lanes, &mut others, door);
    }

    /// Reads in full what is not plain, and asks for its buckets.
    fn read_rest(&mut self, rest: &mut [Option<B>], lanes: &mut [Lane], others: &mut Others<B>, door: Door) {
        for (place, lane) in rest.iter_mut().zip(lanes) {
            if matches!(lane, Lane::Odd)
                && let Some(buffer) = place.take()
            {
                *lane = self.read_other(buffer, place, others, door);
            }
        }
    }

    /// Reads any packet. One that is another worker's goes back to its place.
    #[cold]
    #[inline(never)]
    fn read_other(&mut self, mut buffer: B, place: &mut Option<B>, others: &mut Others<B>, door: Door) -> Lane {
        let frame = match self.parse(&mut buffer, door) {
            Ok(frame) => frame,
            Err(DropReason::Malformed(fault)) if door.pair.is_some() && in_line::is_no_matter(fault) => {
                self.counters.passed_in_line.add(1);
                *place = Some(buffer);
                return door.pair.map_or(Lane::Gone, |pair| Lane::Forward(pair.other));
            }
            Err(reason) => {
                self.counters.drop_one(reason);
                self.note_unread(buffer.bytes(), reason, door);
                return Lane::Gone;
            }
        };
        let origin = in_line::origin_of(&frame, door);
        let mut packet = Packet { buffer, frame, port: door.port, origin, rest: None };
        // A tunnel is left with whole packets only; what comes out of it may be a fragment.
        if !is_fragment(&packet) {
            match self.whose(&mut packet, door.steer) {
                Whose::Mine => {}
                Whose::Of(owner) => {
                    *place = Some(packet.buffer);
                    return Lane::HandOver(owner, packet.origin, Asked::NOBODY);
                }
                Whose::Nobodys => return Lane::Gone,
            }
        }
        match self.collect(packet, place, others, door) {
            Ok(packet) => self.place_other(packet, others),
            Err(lane) => lane,
        }
    }

    /// Keeps a fragment until its datagram is complete; the packet that goes on is the datagram, or what is no fragment.
    fn collect(
        &mut self,
        packet: Packet<B>,
        place: &mut Option<B>,
        others: &mut Others<B>,
        door: Door,
    ) -> Result<Packet<B>, Lane> {
        let Content::Ip(facts) = packet.frame.content else { return Ok(packet) };
        let collects = match packet.origin {
            Origin::InLine => !local::is_discovery_message(&facts),
            Origin::Wire | Origin::Tunnel | Origin::Kernel | Origin::Tier(_) => self.collects(&packet.frame, &facts),
        };
        if facts.fragment == Fragment::No || !collects {
            return Ok(packet);
        }
        // Who may open nothing is not waited for either.
        if let Some(reason) = self.refuses_source(&packet) {
            self.counters.drop_one(reason);
            self.note(Outcome::Dropped, self.snapshot.tenant_of(&packet), &facts.endpoints);
            return Err(Lane::Gone);
        }
        let unwrapped = packet.origin == Origin::Tunnel && door.origin != Origin::Tunnel;
        let (origin, steer) = (packet.origin, door.steer || unwrapped);
        match self.gather(packet, &facts, steer) {
            Gathered::Gone => Err(Lane::Gone),
            Gathered::Elsewhere(buffer, collector) => {
                *place = Some(buffer);
                Err(Lane::HandOver(collector, origin, Asked::NOBODY))
            }
            Gathered::Whole(packet, Some(owner)) if door.asked == Asked::NOBODY => {
                Err(Lane::Other(others.push(packet, Task::Done, Verdict::HandOver(owner, Asked::NOBODY))))
            }
            Gathered::Whole(packet, _) => Ok(packet),
            Gathered::Outer(mut packet) => match self.whose(&mut packet, true) {
                // It may be a fragment itself; taken out of a tunnel, it is not put together again.
                Whose::Mine => self.collect(packet, place, others, door),
                Whose::Of(owner) => {
                    let origin = packet.origin;
                    *place = Some(packet.buffer);
                    Err(Lane::HandOver(owner, origin, Asked::NOBODY))
                }
                Whose::Nobodys => Err(Lane::Gone),
            },
        }
    }

    /// Gives a packet that was read in full its place, and asks for the bucket of its session.
    fn place_other(&self, mut packet: Packet<B>, others: &mut Others<B>) -> Lane {
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

    /// Treats the packets of sessions.
    fn act_rest(
        &mut self,
        rest: &mut [Option<B>],
        lanes: &mut [Lane],
        met: Passed,
        others: &mut Others<B>,
        door: Door,
    ) {
        let mut met = Some(met);
        for ((place, lane), position) in rest.iter_mut().zip(lanes).zip(0..) {
            let met = met.take();
            let passed = match (&*lane, place.as_mut()) {
                (Lane::Known(known), Some(_)) if met.is_none() && self.is_new(known) => Passed::New,
                (Lane::Known(known), Some(buffer)) => met.unwrap_or_else(|| self.pass_one(buffer, known, door)),
                (Lane::Other(other), _) => {
                    self.act_other(others, *other);
                    continue;
                }
                _ => continue,
            };
            if let Passed::Forward(port) = passed {
                self.counters.passed_in_line.add(u64::from(door.pair.is_some()));
                *lane = Lane::Forward(port);
                continue;
            }
            if let (Passed::New, Lane::Known(known), None) = (passed, &*lane, door.pair) {
                if self.workers > 1
                    && let Some(buffer) = place.as_ref()
                    && let Some((worker, asked)) = self.plain_goes_on(buffer, known, door)
                {
                    *lane = Lane::HandOver(worker, door.origin, asked);
                    continue;
                }
                let [v4, v6] = &mut others.newcomers;
                if known.is_v6 { v6 } else { v4 }.push(position);
                continue;
            }
            if let Some(buffer) = place.take() {
                *lane = self.read_again(buffer, place, lane, passed, others, door);
            }
        }
    }

    /// Opens the sessions of plain packets that have none, IPv4's and IPv6's; what is not common among them is read in
    /// full.
    #[inline(never)]
    fn welcome_all(
        &mut self,
        rest: &mut [Option<B>],
        lanes: &mut [Lane],
        [v4, v6]: &[Places; 2],
        others: &mut Others<B>,
        door: Door,
    ) {
        let mut crowd = Crowd { buffers: rest, lanes, others, port: door.port };
        let unusual = [self.welcome::<Ipv4Addr>(&mut crowd, v4), self.welcome::<Ipv6Addr>(&mut crowd, v6)];
        for &position in unusual.iter().flatten() {
            if let (Some(place), Some(lane)) = (crowd.buffers.get_mut(position), crowd.lanes.get_mut(position))
                && let Some(buffer) = place.take()
            {
                *lane = self.read_again(buffer, place, lane, Passed::New, crowd.others, door);
            }
        }
    }

    /// Treats one plain packet, if its session is there and nothing has changed.
    #[inline(never)]
    fn pass_one(&mut self, buffer: &mut B, known: &Known, door: Door) -> Passed {
        let mut met = Passed::Not;
        let port = match (known.is_v6, door.pair) {
            (true, None) => self.pass::<Ipv6Addr>(buffer, known, &mut met),
            (false, None) => self.pass::<Ipv4Addr>(buffer, known, &mut met),
            (true, Some(pair)) => self.pass_through::<Ipv6Addr>(buffer, known, pair, &mut met),
            (false, Some(pair)) => self.pass_through::<Ipv4Addr>(buffer, known, pair, &mut met),
        };
        port.map_or(met, Passed::Forward)
    }

    /// Reads a plain packet in full, because more is to be done with it than usual, and does it.
    #[cold]
    #[inline(never)]
    fn read_again(
        &mut self,
        buffer: B,
        place: &mut Option<B>,
        lane: &Lane,
        passed: Passed,
        others: &mut Others<B>,
        door: Door,
    ) -> Lane {
        let frame = match dissect(buffer.bytes(), Verify::Nothing) {
            Ok(frame) => frame,
            Err(fault) => {
                self.counters.drop_one(fault.into());
                return Lane::Gone;
            }
        };
        // What is plain at a paired port passes through, and elsewhere it is the appliance's own.
        let mut packet = Packet { buffer, frame, port: door.port, origin: door.origin, rest: None };
        let Passed::Followed(slot, direction, outcome) = passed else {
            match self.whose(&mut packet, false) {
                Whose::Mine => {}
                Whose::Of(owner) => {
                    *place = Some(packet.buffer);
                    return Lane::HandOver(owner, packet.origin, Asked::NOBODY);
                }
                Whose::Nobodys => return Lane::Gone,
            }
            let mut packet = match self.collect(packet, place, others, door) {
                Ok(packet) => packet,
                Err(lane) => return lane,
            };
            let mut verdict = Verdict::Consumed;
            let task = self.sort(&mut packet, &mut verdict);
            let other = others.push(packet, task, verdict);
            self.act_other(others, other);
            return Lane::Other(other);
        };
        let acted = match lane {
            Lane::Known(Known { is_v6: true, .. }) => self.follow::<Ipv6Addr>(&mut packet, slot, direction, outcome),
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
    pub(crate) fn act_other(&mut self, others: &mut Others<B>, other: usize) {
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
                    Err(_) => self.counters.drop_one(exits.refusal(port)),
                },
                (&Lane::Other(other), _) => {
                    if let Some((packet, verdict)) = others.take(other) {
                        self.finish(exits, packet, verdict);
                    }
                }
                (&Lane::HandOver(owner, origin, asked), Some(buffer)) => {
                    let label = Label { port: door.port, origin, asked, generation: self.generation };
                    exits.hand_over(&self.counters, owner, label, buffer);
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
        if frame.link.tags > 0
            && in_line::origin_of(&frame, door) != Origin::InLine
            && !self.is_marked(buffer, &frame, door)
        {
            return Err(DropReason::UnknownVlan);
        }
        Ok(frame)
    }

    /// Treats what needs no session, and finds the key of what does.
    fn sort(&self, packet: &mut Packet<B>, verdict: &mut Verdict) -> Task {
        if packet.origin == Origin::InLine {
            return self.sort_in_line(packet, verdict);
        }
        if packet.frame.link.tags > 0
            && let Some(decided) = self.sort_marked(packet)
        {
            *verdict = decided;
            return Task::Done;
        }
        let decided = match packet.frame.content {
            Content::Arp(arp) => local::arp(&self.snapshot, packet, &arp, &mut |event| self.tell(event)),
            Content::Other => self.other(packet),
            Content::Ip(facts) => {
                let destination = facts.endpoints.destination();
                match local::audience(&self.snapshot, destination) {
                    _ if packet.origin == Origin::Kernel && destination_is_group(packet) => {
                        Verdict::Forward(packet.port)
                    }
                    Audience::Link | Audience::One
                        if local::is_discovery_message(&facts) && packet.origin != Origin::Kernel =>
                    {
                        match packet.origin {
                            // Nobody in a tunnel is on this link, whatever the hop limit inside says.
                            Origin::Tunnel => Verdict::Drop(DropReason::NeighborDiscoveryInvalid),
                            _ => local::discovery(&self.snapshot, packet, &facts, &mut |event| self.tell(event)),
                        }
                    }
                    Audience::Link if packet.origin == Origin::Tunnel => Verdict::Drop(DropReason::MulticastUnwanted),
                    Audience::Link => self.punt_or(packet.port, DropReason::MulticastUnwanted),
                    Audience::Many => Verdict::Drop(DropReason::MulticastUnwanted),
                    Audience::One => return self.unicast(packet, verdict),
                }
            }
        };
        *verdict = decided;
        Task::Done
    }

    /// What becomes of an IP packet by its session.
    pub(crate) fn unicast(&self, packet: &Packet<B>, verdict: &mut Verdict) -> Task {
        let Content::Ip(facts) = &packet.frame.content else { return Task::Done };
        if !matches!(packet.origin, Origin::Kernel | Origin::InLine) && destination_is_group(packet) {
            // Unicast inside a link-layer broadcast is never forwarded (RFC 1122 section 3.3.6).
            *verdict = Verdict::Drop(DropReason::MulticastUnwanted);
            return Task::Done;
        }
        if packet.origin != Origin::Kernel
            && let Some(reason) = self.snapshot.refuses_extensions(packet.port, facts.extensions)
        {
            *verdict = Verdict::Drop(reason);
            return Task::Done;
        }
        match (Flow::of(facts), facts.transport) {
            (Some(flow), _) => {
                let tenant = self.snapshot.tenant_of(packet);
                let hash = match &flow {
                    Flow::V4(kind, tuple) => self.sessions.v4.hash_in(tenant, *kind, tuple),
                    Flow::V6(kind, tuple) => self.sessions.v6.hash_in(tenant, *kind, tuple),
                };
                return Task::Find(flow, hash);
            }
            (None, Transport::IcmpError { .. }) if packet.origin != Origin::Kernel => return Task::Error,
            (None, _) => {}
        }
        *verdict = match packet.origin {
            Origin::Wire | Origin::Tunnel | Origin::InLine | Origin::Tier(_) => Verdict::Drop(DropReason::IcmpUnwanted),
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
            Origin::Wire | Origin::Tunnel | Origin::InLine | Origin::Tier(_) => {
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
        let tenant = self.snapshot.tenant_of(packet);
        if let Some((slot, direction)) = A::table(&self.sessions).lookup_in(tenant, hash, kind, tuple)
            && let Acted::Verdict(verdict) = self.act::<A>(packet, slot, direction)
        {
            return Some(verdict);
        }
        if matches!(packet.origin, Origin::Wire | Origin::Tunnel)
            && let Some(verdict) = self.bring_across(packet)
        {
            return Some(verdict);
        }
        match (packet.origin, packet.frame.content) {
            (Origin::Kernel, Content::Ip(facts)) => Some(self.open_for_kernel(packet, &facts)),
            (Origin::Kernel, _) => Some(Verdict::Forward(packet.port)),
            (Origin::Wire | Origin::Tunnel | Origin::InLine | Origin::Tier(_), _) => None,
        }
    }

    /// Lets a packet out as was decided.
    pub(crate) fn finish<N, P>(&mut self, exits: &mut Exits<N, P>, mut packet: Packet<B>, verdict: Verdict)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        if let (Verdict::Drop(_) | Verdict::Refuse(..), Content::Ip(facts)) = (verdict, &packet.frame.content)
            && packet.origin != Origin::Kernel
        {
            self.note(Outcome::Dropped, self.snapshot.tenant_of(&packet), &facts.endpoints);
        }
        if packet.rest.is_some() {
            return self.depart(exits, packet, verdict);
        }
        if packet.origin == Origin::InLine && matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_)) {
            self.counters.passed_in_line.add(1);
        }
        match verdict {
            Verdict::Forward(port) => match self.cut_for(&mut packet, port) {
                Some(cut) => self.forward_cut(exits, port, packet.buffer, &cut),
                None => exits.forward(&self.counters, port, packet.buffer),
            },
            Verdict::Cut(binding, backend) => self.cut_into_tunnel(exits, packet, (binding, backend)),
            Verdict::Punt(port) => exits.punt(&self.counters, port, packet.buffer),
            Verdict::Answered(port) => {
                self.counters.consumed.add(1);
                self.send_answer(exits, port, packet);
            }
            Verdict::HandOver(owner, asked) => {
                let Packet { buffer, port, origin, .. } = packet;
                let label = Label { port, origin, asked, generation: self.generation };
                exits.hand_over(&self.counters, owner, label, buffer);
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
        let Some((port, macs)) = self.way_to_sender(packet) else { return self.counters.originated_lost.add(1) };
        if let Some(mut buffer) = originate::answer(exits.pool(), &self.snapshot, packet, port, answer) {
            if let Some([destination, source]) = macs {
                set_macs(buffer.bytes_mut(), destination, source);
            }
            exits.originate(&self.counters, port, buffer);
        }
    }

    /// The port behind which a packet's sender is told something, and the MACs where they are not those the packet came with:
    /// out of a tunnel or from an instance of a tier, where the sender is not the station it came from. `None` while that way is not known.
    fn way_to_sender(&mut self, packet: &Packet<B>) -> Option<(PortId, Option<[MacAddr; 2]>)> {
        if !matches!(packet.origin, Origin::Tunnel | Origin::Tier(_)) {
            return Some((packet.port, None));
        }
        let Content::Ip(facts) = packet.frame.content else { return None };
        let hop = self.hop_to(facts.endpoints.source()).ok()?;
        let (port, mac, _) = self.way_over(hop).ok().filter(|&(.., ready)| ready)?;
        Some((port, Some([mac, self.snapshot.port(port)?.mac])))
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
                    self.forward_held(exits, port, buffer);
                }
                None => self.counters.drop_one(DropReason::NeighborUnresolved),
            }
        }
    }
}

fn is_fragment<B>(packet: &Packet<B>) -> bool {
    matches!(packet.frame.content, Content::Ip(facts) if facts.fragment != Fragment::No)
}

fn destination_is_group<B>(packet: &Packet<B>) -> bool {
    packet.frame.link.destination.is_multicast()
}
