//! Packets that leave in more than one frame: the fragments of a datagram, which follow the first of them, and IPv4 packets
//! that are cut because the next link, or their tunnel, is smaller (RFC 791, RFC 1812 section 4.2.2.7, RFC 4459 section 3.4).
//! Called when a verdict is carried out.

use arrayvec::ArrayVec;
use frame::{Buffer, BufferPool, Nic};
use stage::DropReason;
use units::PortId;
use units::limits::CUT_MAX;
use wire::fragment::{Cut, Example, set_identification};
use wire::{Content, Facts, Fragment, Frame, Verify, dissect};

use crate::binding::BindingId;
use crate::exits::Exits;
use crate::fragments::Follow;
use crate::packet::{Origin, Packet, Verdict};
use crate::shard::Shard;
use crate::tag::{TAG, retag, tag_of};

/// Where the IP header of a packet begins that has waited for its next hop, behind its marker if it has one.
const NETWORK: usize = wire::plain::NETWORK;

impl<B: Buffer> Shard<B> {
    /// Carries out the verdict on the first fragment of a datagram, and lets the others follow: rewritten as it was, with
    /// one fresh identification where an address was (RFC 6864 section 5.3).
    #[cold]
    pub(crate) fn depart<N, P>(&mut self, exits: &mut Exits<N, P>, mut packet: Packet<B>, verdict: Verdict)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let (Some(rest), Content::Ip(facts)) = (packet.rest.take(), packet.frame.content) else {
            return self.finish(exits, packet, verdict);
        };
        let (port, origin) = (packet.port, packet.origin);
        let follows = origin != Origin::Kernel
            && matches!(rest.follow, Follow::AsTheFirst)
            && matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_) | Verdict::Answered(_));
        let example = if follows { Example::of(packet.buffer.bytes(), &facts) } else { None };
        // Passed on as it came, so are the others.
        let changed = |example: &Example| {
            origin != Origin::InLine || !example.is_to(packet.frame.link.destination) || example.is_translated(&facts)
        };
        let example = example.filter(changed);
        let fresh = example.filter(|example| example.is_translated(&facts));
        let fresh = fresh.map(|example| self.fragments.identifications.next(&example, facts.endpoints.is_v6()));
        if let Some(fresh) = fresh {
            let first = Facts { fragment: Fragment::First, ..facts };
            let _ = set_identification(packet.buffer.bytes_mut(), &first, fresh);
            // Should it be cut, its pieces keep this number.
            packet.frame.content = Content::Ip(first);
        }
        let macs = packet.buffer.bytes().first_chunk::<12>().copied();
        let marker = tag_of(packet.buffer.bytes());
        // The sender of a refused datagram is told once.
        self.finish(exits, packet, verdict);
        let verdict = match verdict {
            Verdict::Refuse(reason, _) => Verdict::Drop(reason),
            verdict => verdict,
        };
        while let Some(held) = self.fragments.waiting.next(rest.datagram) {
            let mut buffer = held.buffer;
            let Ok(mut frame) = dissect(buffer.bytes(), Verify::Nothing) else {
                self.counters.drop_one(DropReason::FragmentOverlap);
                continue;
            };
            let mut verdict = verdict;
            if origin != Origin::InLine && !retag(&mut buffer, &mut frame, marker) {
                verdict = Verdict::Drop(DropReason::BuffersExhausted);
            }
            if let (Some(example), Content::Ip(facts)) = (&example, &frame.content) {
                let bytes = buffer.bytes_mut();
                let written = example.apply(bytes, usize::from(facts.network))
                    && fresh.is_none_or(|fresh| set_identification(bytes, facts, fresh));
                if !written {
                    verdict = Verdict::Drop(DropReason::FragmentOverlap);
                } else if let Some(too_big) = self.too_big_alone(facts, verdict) {
                    verdict = too_big;
                }
            }
            let mut packet = Packet { buffer, frame, port, origin, rest: None };
            if let Content::Ip(facts) = &frame.content {
                match &rest.follow {
                    Follow::AsTheFirst => {}
                    Follow::IntoTunnel(tunnel, path) => {
                        verdict = self.encapsulate(&mut packet, facts, tunnel, *path, None);
                    }
                    Follow::Across(_) if !matches!(verdict, Verdict::Forward(_) | Verdict::Hold(_)) => {}
                    Follow::Across(crossing) => {
                        if !macs.is_some_and(|macs| crossing.lead(&mut packet, facts, macs)) {
                            verdict = Verdict::Drop(DropReason::Nat64Unsupported);
                        }
                    }
                }
            }
            self.finish(exits, packet, verdict);
        }
    }

    /// The packet has become another, which says all that is to be said: the other fragments of what it was are done with.
    pub(crate) fn leave_rest(&mut self, packet: &mut Packet<B>) {
        let Some(rest) = packet.rest.take() else { return };
        while self.fragments.waiting.next(rest.datagram).is_some() {
            self.counters.consumed.add(1);
        }
    }

    /// A fragment that says of itself that it may not be cut, among others that do not. Answers go back over the link that
    /// carried the question in pieces of this size.
    fn too_big_alone(&self, facts: &Facts, verdict: Verdict) -> Option<Verdict> {
        let port = match verdict {
            Verdict::Forward(port) => port,
            Verdict::Hold(hop) => self.next_hops.port(hop)?,
            _ => return None,
        };
        let mtu = self.snapshot.port(port)?.mtu;
        let too_big = facts.dont_fragment && facts.end.saturating_sub(facts.network) > mtu;
        too_big.then_some(Verdict::Drop(DropReason::PacketTooBig))
    }

    /// How a packet that leaves through `port` has to be cut, if it has to be. One that was translated gets a fresh
    /// identification first, since its pieces are what others' must not be mixed with.
    pub(crate) fn cut_for(&mut self, packet: &mut Packet<B>, port: PortId) -> Option<Cut> {
        if packet.origin == Origin::Kernel {
            return None;
        }
        let Content::Ip(facts) = packet.frame.content else { return None };
        let mtu = self.snapshot.port(port)?.mtu;
        if facts.endpoints.is_v6() {
            return self.cut_across(packet.buffer.bytes(), usize::from(facts.network), mtu);
        }
        let cut = Cut::new(packet.buffer.bytes(), usize::from(facts.network), mtu)?;
        if facts.fragment == Fragment::No
            && let Some(example) = Example::of(packet.buffer.bytes(), &facts)
            && example.is_translated(&facts)
        {
            let fresh = self.fragments.identifications.next(&example, false);
            let _ = set_identification(packet.buffer.bytes_mut(), &facts, fresh);
        }
        Some(cut)
    }

    /// Sends a packet in pieces. The first is the packet itself; the others are the appliance's own frames.
    #[cold]
    pub(crate) fn forward_cut<N, P>(&self, exits: &mut Exits<N, P>, port: PortId, mut buffer: B, cut: &Cut)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        match cut_up(exits.pool(), &mut buffer, cut) {
            Ok(others) => {
                exits.forward(&self.counters, port, buffer);
                for other in others {
                    exits.originate(&self.counters, port, other);
                }
            }
            Err(reason) => self.counters.drop_one(reason),
        }
    }

    /// Cuts a packet that is too large for its tunnel and wraps each piece: the backend puts them together, not the tunnel's
    /// end (RFC 4459 section 3.4). While the next hop is asked for the first piece waits, and the others are lost.
    #[cold]
    pub(crate) fn cut_into_tunnel<N, P>(
        &mut self,
        exits: &mut Exits<N, P>,
        mut packet: Packet<B>,
        (binding, backend): (BindingId, u64),
    ) where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let (Content::Ip(facts), Some(&tunnel)) =
            (packet.frame.content, self.tunnels.get(binding, backend, self.snapshot.generation))
        else {
            return self.counters.drop_one(DropReason::NoBackend);
        };
        let path = self.bindings.backend(binding).and_then(|backend| backend.path().get(self.tick));
        let cut = Cut::new(packet.buffer.bytes(), usize::from(facts.network), tunnel.room(path));
        let cut = cut.ok_or(DropReason::TunnelTooNarrow);
        let others = match cut.and_then(|cut| cut_up(exits.pool(), &mut packet.buffer, &cut)) {
            Ok(others) => others,
            Err(reason) => return self.counters.drop_one(reason),
        };
        let Packet { buffer, frame, port, origin, .. } = packet;
        for (number, buffer) in core::iter::once(buffer).chain(others).enumerate() {
            let end = u16::try_from(buffer.bytes().len()).unwrap_or(facts.end);
            // The flow is that of the whole, so that all pieces take one path.
            let facts = Facts { end, fragment: Fragment::First, ..facts };
            let frame = Frame { content: Content::Ip(facts), ..frame };
            let mut piece = Packet { buffer, frame, port, origin, rest: None };
            match self.encapsulate(&mut piece, &facts, &tunnel, path, None) {
                verdict if number == 0 => self.finish(exits, piece, verdict),
                Verdict::Forward(port) => exits.originate(&self.counters, port, piece.buffer),
                _ => self.counters.originated_lost.add(1),
            }
        }
    }

    /// Sends an answer, in pieces where it does not fit whole: it is as long as what it answers, and that may have come in
    /// pieces, put together by the device.
    #[cold]
    pub(crate) fn send_answer<N, P>(&mut self, exits: &mut Exits<N, P>, port: PortId, mut packet: Packet<B>)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let others = match self.cut_for(&mut packet, port) {
            Some(cut) => cut_up(exits.pool(), &mut packet.buffer, &cut),
            None => Ok(ArrayVec::new()),
        };
        match others {
            Ok(others) => {
                for buffer in core::iter::once(packet.buffer).chain(others) {
                    exits.originate(&self.counters, port, buffer);
                }
            }
            Err(_) => self.counters.originated_lost.add(1),
        }
    }

    /// Sends on a packet that has waited for its next hop, in pieces if it has to be cut.
    pub(crate) fn forward_held<N, P>(&self, exits: &mut Exits<N, P>, port: PortId, buffer: B)
    where
        N: Nic<Buffer = B>,
        P: BufferPool<Buffer = B>,
    {
        let mtu = self.snapshot.port(port).map_or(u16::MAX, |facts| facts.mtu);
        let network = if tag_of(buffer.bytes()).is_some() { NETWORK + TAG } else { NETWORK };
        let cut = Cut::new(buffer.bytes(), network, mtu);
        match cut.or_else(|| self.cut_across(buffer.bytes(), network, mtu)) {
            Some(cut) => self.forward_cut(exits, port, buffer, &cut),
            None => exits.forward(&self.counters, port, buffer),
        }
    }
}

/// Shortens a packet to its first piece and makes the others.
///
/// # Errors
/// `PacketTooBig` when there would be too many, `BuffersExhausted` when there is no buffer for one.
fn cut_up<B, P>(pool: &P, buffer: &mut B, cut: &Cut) -> Result<ArrayVec<B, CUT_MAX>, DropReason>
where
    B: Buffer,
    P: BufferPool<Buffer = B>,
{
    if cut.count() > CUT_MAX {
        return Err(DropReason::PacketTooBig);
    }
    let mut others = ArrayVec::new();
    for number in 1..cut.count() {
        let mut other = pool.allocate().ok_or(DropReason::BuffersExhausted)?;
        let room = other.resize(cut.longest());
        let len = room.then(|| cut.write(buffer.bytes(), number, other.bytes_mut())).flatten();
        if !len.is_some_and(|len| other.resize(len)) {
            return Err(DropReason::BuffersExhausted);
        }
        others.push(other);
    }
    let shortened = cut.shorten(buffer.bytes_mut());
    if shortened.is_some_and(|len| buffer.resize(len)) { Ok(others) } else { Err(DropReason::PacketTooBig) }
}
