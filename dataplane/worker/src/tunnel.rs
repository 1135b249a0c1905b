//! Packets into tunnels: those of services whose backends are reached by one. A session of such a service names
//! [`NextHopId::TUNNEL`] instead of a next hop; its binding tells the tunnel, whose headers and next hop are ready here.
//!
//! A tunnel is made when the first packet to a backend takes it, and again after each new policy; packets only read it. It
//! keeps its next hop alive for as long as the backend has sessions on this worker. What is known of the path stands with
//! the backend, where all workers see it. Errors from inside the path are in [`tunnel_error`](crate::tunnel_error).

use std::sync::Arc;

use frame::Buffer;
use session::{Direction, Kind, Slot, TcpOutcome, datagram, tcp_state};
use stage::DropReason;
use stage::balancer::{Backend, Fate, Mode, SegmentClamp, ServiceSpec};
use stage::translate::{clamp_segment_size, decrement_hop_limit};
use stage::tunnel::{Encapsulation, Outer, floor};
use units::limits::BINDINGS_MAX;
use units::{Generation, PortId};
use wire::emit::IcmpErrorKind;
use wire::plain::plain_tcp;
use wire::{Endpoints, Facts, MacAddr, TcpFlags, Transport};

use crate::act::set_macs;
use crate::binding::BindingId;
use crate::command::Event;
use crate::family::Family;
use crate::fragments::Follow;
use crate::lane::Head;
use crate::next_hop::{Exit, NextHopId, Way};
use crate::packet::{Answer, Packet, Verdict};
use crate::pass::Passed;
use crate::shard::Shard;
use crate::steer;

/// Bytes of the Ethernet header in front of what leaves.
const ETHERNET: u16 = 14;

/// A tunnel, ready for packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    /// Where it is found again; that of a packet without a session is not kept.
    binding: Option<BindingId>,
    /// The backend it leads to.
    backend: u64,
    /// The policy it was made by.
    generation: Generation,
    pub(crate) hop: NextHopId,
    /// The MTU of the port its packets leave by.
    mtu: u16,
    pub(crate) outer: Outer,
}

impl Tunnel {
    /// The largest packet that fits inside, when the path beyond the first link is known to carry `path` bytes.
    pub(crate) fn room(&self, path: Option<u16>) -> u16 {
        path.map_or(self.mtu, |path| path.min(self.mtu)).saturating_sub(self.outer.overhead())
    }
}

/// The tunnels of one worker, by binding.
#[derive(Debug)]
pub(crate) struct Tunnels {
    entries: Vec<Option<Tunnel>>,
}

impl Tunnels {
    /// An empty table, its memory taken at once.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { entries: Vec::with_capacity(BINDINGS_MAX) }
    }

    /// The tunnel of this binding, if it was made for this backend by this policy.
    #[inline]
    pub(crate) fn get(&self, id: BindingId, backend: u64, generation: Generation) -> Option<&Tunnel> {
        let tunnel = self.entries.get(usize::from(id.get()))?.as_ref()?;
        (tunnel.generation == generation && tunnel.backend == backend).then_some(tunnel)
    }

    /// The tunnel of this binding, whatever policy it was made by.
    pub(crate) fn of(&self, id: BindingId) -> Option<&Tunnel> {
        self.entries.get(usize::from(id.get()))?.as_ref()
    }

    /// Puts a tunnel in the place of this binding and returns what was there.
    fn put(&mut self, id: BindingId, tunnel: Tunnel) -> Option<Tunnel> {
        let place = usize::from(id.get());
        if place >= self.entries.len() && place < BINDINGS_MAX {
            self.entries.resize(place + 1, None);
        }
        self.entries.get_mut(place).and_then(|entry| entry.replace(tunnel))
    }

    /// Takes the tunnel of this binding out, if there is one.
    fn take(&mut self, id: BindingId) -> Option<Tunnel> {
        self.entries.get_mut(usize::from(id.get()))?.take()
    }
}

impl<B> Shard<B> {
    /// A session of this binding has ended: with the last one the tunnel lets go of its next hop. That one need not have taken
    /// the tunnel: a new policy may reach the backend in another way.
    pub(crate) fn leave_tunnel(&mut self, binding: BindingId) {
        if self.bindings.sessions(binding) == 0
            && let Some(tunnel) = self.tunnels.take(binding)
        {
            self.next_hops.release(tunnel.hop);
        }
    }
}

impl<B: Buffer> Shard<B> {
    /// Sends a packet of the session in `slot` to its backend's tunnel.
    pub(crate) fn send_to_tunnel<A: Family>(&mut self, packet: &mut Packet<B>, facts: &Facts, slot: Slot) -> Verdict {
        if facts.hop_limit <= 1 {
            return Verdict::Refuse(DropReason::HopLimitExceeded, Answer::Icmp(IcmpErrorKind::TimeExceeded));
        }
        let binding = BindingId::new(A::table(&self.sessions).session(slot).binding());
        let Some(backend) = self.bindings.backend(binding) else { return Verdict::Drop(DropReason::NoBackend) };
        let (path, clamp) = (backend.path().get(self.tick), self.clamp_of(facts, backend));
        let tunnel = match self.tunnels.get(binding, backend.key(), self.snapshot.generation) {
            Some(tunnel) => *tunnel,
            None => match self.make_tunnel(binding) {
                Ok(tunnel) => tunnel,
                Err(DropReason::NoRoute) => {
                    return Verdict::Refuse(DropReason::NoRoute, Answer::Icmp(IcmpErrorKind::NetUnreachable));
                }
                Err(reason) => return Verdict::Drop(reason),
            },
        };
        self.encapsulate(packet, facts, &tunnel, path, clamp)
    }

    /// Sends a plain packet of an established session to its backend's tunnel, if nothing stands in its way; otherwise
    /// nothing is done ([`pass`](crate::pass)).
    #[inline(never)]
    pub(crate) fn pass_to_tunnel<A: Family>(
        &mut self,
        buffer: &mut B,
        kind: Kind,
        head: Head<A>,
        slot: Slot,
        direction: Direction,
    ) -> Passed {
        let session = A::table_mut(&mut self.sessions).session_mut(slot);
        let binding = BindingId::new(session.binding());
        let Some(backend) = self.bindings.backend(binding) else { return Passed::Not };
        let Some(tunnel) = self.tunnels.get(binding, backend.key(), self.snapshot.generation) else {
            return Passed::Not;
        };
        if session.next_hop(direction) != NextHopId::TUNNEL.get()
            || session.generation() != self.snapshot.generation.short()
            || head.hop_limit <= 1
            || head.length > tunnel.room(backend.path().get(self.tick))
            || self.bindings.fate(binding) != Fate::Stays
        {
            return Passed::Not;
        }
        let Some(&Exit { port, hop, mtu, .. }) = self.next_hops.exit(tunnel.hop.get()) else { return Passed::Not };
        if mtu == 0 {
            return Passed::Not;
        }
        let overhead = usize::from(tunnel.outer.overhead());
        // Room is made before the session takes the packet in, because only then it can still go another way.
        if buffer.prepend(overhead).is_none() {
            return Passed::Not;
        }
        let tcp = kind == Kind::Tcp;
        let inner = buffer.bytes().get(overhead..).unwrap_or_default();
        let outcome = if tcp {
            let Some(segment) = plain_tcp(inner, A::TRANSPORT, head.length) else {
                buffer.trim_front(overhead);
                return Passed::Not;
            };
            tcp_state::observe(session, direction, &segment)
        } else if datagram::observe(session, direction) {
            TcpOutcome::PassAndRetime
        } else {
            TcpOutcome::Pass
        };
        if outcome != TcpOutcome::Pass {
            buffer.trim_front(overhead);
            return Passed::Followed(slot, direction, outcome);
        }
        session.touch(self.tick);
        if session.count(direction, u32::from(head.length)) {
            self.bindings.collect(session);
        }
        let end = usize::from(ETHERNET) + overhead + usize::from(head.length);
        let ends = A::endpoints(&head.tuple);
        let (source_port, destination_port) = (head.tuple.source_port, head.tuple.destination_port);
        let entropy = entropy(&ends, source_port, destination_port, self.snapshot.steer_secret);
        // Behind the packet there may be padding, which is not wrapped.
        let written = buffer.resize(end)
            && buffer.bytes_mut().get_mut(overhead..).is_some_and(|inner| A::pass(inner, tcp, hop, None))
            && tunnel.outer.write(buffer.bytes_mut(), entropy, self.dice.roll_short());
        set_macs(buffer.bytes_mut(), hop.destination, hop.source);
        self.counters.encapsulated.add(1);
        // A plain packet has the headers that are read and written here: it is always so.
        if written { Passed::Forward(port) } else { Passed::Not }
    }

    /// Makes the tunnel of a binding as the policy of today has it.
    #[cold]
    fn make_tunnel(&mut self, binding: BindingId) -> Result<Tunnel, DropReason> {
        let snapshot = Arc::clone(&self.snapshot);
        let backend = &*Arc::clone(self.bindings.backend(binding).ok_or(DropReason::NoBackend)?);
        let located = snapshot.services.locate(backend).and_then(|(service, _)| snapshot.services.service(service));
        let tunnel = match located.map(|service| (service.spec(), service.spec().mode)) {
            Some((spec, Mode::Tunnel(encapsulation))) => {
                Tunnel { binding: Some(binding), ..self.tunnel_to(spec, encapsulation, backend)? }
            }
            // Gone from the policy, or reached in another way now: its sessions run out as they began.
            Some(_) | None => {
                let before = self.tunnels.of(binding).copied();
                let before = before.filter(|tunnel| tunnel.backend == backend.key()).ok_or(DropReason::NoBackend)?;
                let (hop, mtu) = self.first_link(backend)?;
                Tunnel { generation: snapshot.generation, hop, mtu, ..before }
            }
        };
        self.next_hops.retain(tunnel.hop);
        if let Some(before) = self.tunnels.put(binding, tunnel) {
            self.next_hops.release(before.hop);
        }
        Ok(tunnel)
    }

    /// The next hop on the way to a backend, and the MTU of the port it is behind.
    fn first_link(&mut self, backend: &Backend) -> Result<(NextHopId, u16), DropReason> {
        let hop = self.hop_to(backend.address())?;
        let port = self.next_hops.port(hop).ok_or(DropReason::NoRoute)?;
        Ok((hop, self.snapshot.port(port).ok_or(DropReason::NoRoute)?.mtu))
    }

    /// The tunnel of this service to this backend.
    pub(crate) fn tunnel_to(
        &mut self,
        spec: &ServiceSpec,
        encapsulation: Encapsulation,
        backend: &Backend,
    ) -> Result<Tunnel, DropReason> {
        let (hop, mtu) = self.first_link(backend)?;
        let destination = backend.address();
        let chosen = spec.tunnel_source.iter().copied().find(|source| source.is_ipv4() == destination.is_ipv4());
        let port = self.next_hops.port(hop).ok_or(DropReason::NoRoute)?;
        let source = chosen.or_else(|| self.snapshot.address_like(port, destination)).ok_or(DropReason::NoRoute)?;
        let inner_v6 = spec.address.is_ipv6();
        let outer = Outer::new(encapsulation, source, destination, inner_v6).ok_or(DropReason::NoRoute)?;
        Ok(Tunnel { binding: None, backend: backend.key(), generation: self.snapshot.generation, hop, mtu, outer })
    }

    /// Wraps a packet and sends it to the tunnel's next hop. The inner hop limit falls by one, as at any router (RFC 2003
    /// section 3.1). What does not fit is cut first where that is allowed (RFC 4459 section 3.4), and else refused with the MTU
    /// that the tunnel leaves (RFC 2003 section 5.1, RFC 2473 section 7).
    pub(crate) fn encapsulate(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        tunnel: &Tunnel,
        path: Option<u16>,
        clamp: Option<SegmentClamp>,
    ) -> Verdict {
        let Some(way) = self.next_hops.way(tunnel.hop, self.tick) else {
            return Verdict::Refuse(DropReason::NoRoute, Answer::Icmp(IcmpErrorKind::NetUnreachable));
        };
        let (port, mac) = match way {
            Way::Open(port, mac) => (port, mac),
            Way::Closed(_) => {
                let unreachable = Answer::Icmp(IcmpErrorKind::HostUnreachable);
                return Verdict::Refuse(DropReason::NeighborUnresolved, unreachable);
            }
            Way::Wait { ask } => {
                if let Some((port, address)) = ask {
                    self.tell(Event::Resolve { port, address });
                }
                let Some(port) = self.next_hops.port(tunnel.hop) else { return Verdict::Drop(DropReason::NoRoute) };
                (port, MacAddr::ZERO)
            }
        };
        let room = tunnel.room(path);
        // What may be cut is looked at fragment by fragment.
        let cuts = tunnel.binding.filter(|_| !facts.dont_fragment);
        let own = facts.end.saturating_sub(facts.network);
        let length = if cuts.is_some() { own } else { packet.largest(facts) };
        if length > room && cuts.is_none() {
            return refuse_large(length, room, facts.endpoints.is_v6());
        }
        if let Some(clamp) = clamp {
            let carried = self.snapshot.port(packet.port).map_or(room, |port| port.mtu.min(room));
            clamp_segment_size(packet.buffer.bytes_mut(), facts, segment(clamp, carried, facts));
        }
        if let Some(rest) = &mut packet.rest {
            rest.follow = Follow::IntoTunnel(*tunnel, path);
        }
        if let Some(binding) = cuts.filter(|_| length > room) {
            return Verdict::Cut(binding, tunnel.backend);
        }
        let buffer = &mut packet.buffer;
        let _ = decrement_hop_limit(buffer.bytes_mut(), facts);
        // Padding goes, and so do tags: what is wrapped begins 14 bytes into the frame and ends with it.
        let tags = facts.network.saturating_sub(ETHERNET);
        if !buffer.resize(usize::from(facts.end)) || !buffer.trim_front(usize::from(tags)) {
            return Verdict::Drop(DropReason::BuffersExhausted);
        }
        let id = self.dice.roll_short();
        let (source_port, destination_port) = match facts.transport {
            Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
            Transport::Udp { source_port, destination_port, .. } => (source_port, destination_port),
            _ => (0, 0),
        };
        let entropy = entropy(&facts.endpoints, source_port, destination_port, self.snapshot.steer_secret);
        let Some(bytes) = packet.buffer.prepend(usize::from(tunnel.outer.overhead())) else {
            return Verdict::Drop(DropReason::BuffersExhausted);
        };
        if !tunnel.outer.write(bytes, entropy, id) {
            return Verdict::Drop(DropReason::UnknownEthertype);
        }
        set_macs(bytes, mac, self.snapshot.port(port).map_or(MacAddr::ZERO, |facts| facts.mac));
        self.counters.encapsulated.add(1);
        if matches!(way, Way::Open(..)) { Verdict::Forward(port) } else { Verdict::Hold(tunnel.hop) }
    }

    /// Lowers the segment size that a SYN or SYN-ACK of a balanced session announces, if its service says so.
    pub(crate) fn clamp_segments<A: Family>(
        &self,
        packet: &mut Packet<B>,
        facts: &Facts,
        slot: Slot,
        leaves_by: PortId,
    ) {
        if !is_syn(facts) {
            return;
        }
        let binding = BindingId::new(A::table(&self.sessions).session(slot).binding());
        let Some(backend) = self.bindings.backend(binding) else { return };
        let Some(clamp) = self.clamp_of(facts, backend) else { return };
        let mtu = |port| self.snapshot.port(port).map_or(u16::MAX, |facts| facts.mtu);
        let carried = mtu(packet.port).min(mtu(leaves_by));
        clamp_segment_size(packet.buffer.bytes_mut(), facts, segment(clamp, carried, facts));
    }

    /// What the service of a SYN's backend says of its segment size; nothing for other segments.
    pub(crate) fn clamp_of(&self, facts: &Facts, backend: &Backend) -> Option<SegmentClamp> {
        if !is_syn(facts) {
            return None;
        }
        let (service, _) = self.snapshot.services.locate(backend)?;
        self.snapshot.services.service(service)?.spec().mss_clamp
    }
}

fn is_syn(facts: &Facts) -> bool {
    matches!(facts.transport, Transport::Tcp(tcp) if tcp.flags.contains(TcpFlags::SYN))
}

/// The segment size that fits into packets of `carried` bytes, or the one that was said.
const fn segment(clamp: SegmentClamp, carried: u16, facts: &Facts) -> u16 {
    match clamp {
        SegmentClamp::To(size) => size,
        SegmentClamp::ToPath => carried.saturating_sub(if facts.endpoints.is_v6() { 60 } else { 40 }),
    }
}

/// A packet that is too large for a tunnel: its sender is told how much there is room for, but never less than it must be
/// able to send.
fn refuse_large(length: u16, room: u16, v6: bool) -> Verdict {
    let least = floor(v6);
    if length <= least {
        return Verdict::Drop(DropReason::TunnelTooNarrow);
    }
    Verdict::Refuse(DropReason::PacketTooBig, Answer::Icmp(IcmpErrorKind::TooBig { mtu: room.max(least) }))
}

/// What tells this packet's flow from others, for the routers that spread flows over paths.
fn entropy(endpoints: &Endpoints, source_port: u16, destination_port: u16, secret: u64) -> u32 {
    let client = steer::fold(secret, endpoints.source(), source_port);
    let asked = steer::fold(secret, endpoints.destination(), destination_port);
    u32::try_from(steer::mix(client ^ asked.rotate_left(32)) >> 32).unwrap_or(0)
}
