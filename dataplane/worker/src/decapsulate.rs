//! Packets out of tunnels that end here, at the door: before anything else is asked, since whose a packet is and what rules
//! say of it depends on what is inside. What comes out goes on as if it had come by the same port.
//!
//! An outer packet that came in fragments is put together first: the one place where datagrams are, since what is inside
//! cannot be read otherwise. It has to fit into one packet buffer.
//!
//! Layers are taken off one by one, each from a source that its tunnel allows, [`TUNNEL_DEPTH_MAX`] at most (MAL-15). The
//! packet inside is read like any other, its checksums verified in software: devices look at the outer ones.

use frame::Buffer;
use stage::DropReason;
use stage::reassembly::DatagramId;
use stage::tunnel::{carry_congestion, class};
use units::limits::TUNNEL_DEPTH_MAX;
use units::{PortId, WorkerId};
use wire::{Content, Fragment, Frame, Verify, dissect};

use crate::fragments::payload;
use crate::packet::{Origin, Packet};
use crate::shard::Shard;
use crate::{steer, tunnel_error};

/// Bytes of the Ethernet header.
const ETHERNET: usize = 14;

/// Whose a packet is that was read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This worker's.
    Mine,
    /// Another worker's.
    Of(WorkerId),
    /// Nobody's: it was dropped, and is counted.
    Nobodys,
}

impl<B: Buffer> Shard<B> {
    /// Takes a packet out of the tunnels that end here, and finds who owns its session; `steer` is false for packets that
    /// are known to be this worker's, which what is inside need not be. Who has a fragment is seen when its datagram is whole.
    pub(crate) fn whose(&self, packet: &mut Packet<B>, steer: bool) -> Whose {
        let steer = match self.unwrap(packet) {
            Ok(unwrapped) => steer || unwrapped,
            Err(reason) => {
                self.counters.drop_one(reason);
                return Whose::Nobodys;
            }
        };
        if steer
            && self.workers > 1
            && let Content::Ip(facts) = &packet.frame.content
            && facts.fragment == Fragment::No
        {
            let ends = tunnel_error::ends(packet.buffer.bytes(), facts, &self.snapshot);
            let owner = steer::owner(&ends, &self.snapshot, &self.slice, self.workers);
            if owner != self.id {
                return Whose::Of(owner);
            }
        }
        Whose::Mine
    }

    /// Whether a complete datagram, the facts of which are `frame`'s, is an outer packet of a tunnel that ends here.
    pub(crate) fn is_outer(&self, datagram: DatagramId, frame: &Frame) -> bool {
        let endings = &self.snapshot.endings;
        let (Content::Ip(facts), false) = (&frame.content, endings.is_empty()) else { return false };
        let first = self.fragments.waiting.fragments(datagram).next();
        let begin = usize::from(facts.transport_offset);
        first.and_then(|first| first.buffer.bytes().get(begin..)).is_some_and(|head| endings.take_datagram(facts, head))
    }

    /// Puts a datagram that came by `port` together in the buffer of its first fragment. The other fragments have given what
    /// they carried and are consumed. `None`, and all of them dropped, when that buffer is too small.
    pub(crate) fn put_together(&mut self, datagram: DatagramId, mut frame: Frame, port: PortId) -> Option<Packet<B>> {
        let waiting = &mut self.fragments.waiting;
        let (total, ..) = waiting.measure(datagram);
        let head = waiting.next(datagram)?;
        let (begin, mut buffer) = (usize::from(head.piece.begin), head.buffer);
        let end = usize::try_from(total).ok().and_then(|total| u16::try_from(begin + total).ok());
        let end = end.filter(|&end| buffer.resize(usize::from(end)));
        let mut others = 0;
        while let Some(held) = waiting.next(datagram) {
            others += 1;
            let (piece, at) = (payload(&held), begin + usize::from(held.piece.offset));
            if let Some(place) = buffer.bytes_mut().get_mut(at..at + piece.len()) {
                place.copy_from_slice(piece);
            }
        }
        let (Some(end), Content::Ip(facts)) = (end, &mut frame.content) else {
            (0..=others).for_each(|_| self.counters.drop_one(DropReason::ChainedBuffer));
            return None;
        };
        self.counters.consumed.add(others);
        facts.end = end;
        Some(Packet { buffer, frame, port, origin: Origin::Wire, rest: None })
    }

    /// Takes a packet out of the tunnels it is in, as far as they end here; true when it was in any.
    fn unwrap(&self, packet: &mut Packet<B>) -> Result<bool, DropReason> {
        let endings = &self.snapshot.endings;
        if endings.is_empty() || packet.origin != Origin::Wire {
            return Ok(false);
        }
        for layers in 0..=TUNNEL_DEPTH_MAX {
            let Content::Ip(facts) = &packet.frame.content else { break };
            let Some(found) = endings.inside(packet.buffer.bytes(), facts) else { break };
            let at = found?;
            if layers == TUNNEL_DEPTH_MAX {
                return Err(DropReason::TunnelNesting);
            }
            let (network, end) = (usize::from(facts.network), usize::from(facts.end));
            packet.frame = take_out(&mut packet.buffer, network, end, at)?;
            packet.origin = Origin::Tunnel;
        }
        let unwrapped = packet.origin == Origin::Tunnel;
        if unwrapped {
            self.counters.decapsulated.add(1);
        }
        Ok(unwrapped)
    }
}

/// Makes the packet that begins at `at` the whole frame, behind the MACs of the one it was in, whose IP header is at
/// `network` and which ends at `end`.
fn take_out<B: Buffer>(buffer: &mut B, network: usize, end: usize, at: usize) -> Result<Frame, DropReason> {
    let outer_class = class(buffer.bytes(), network);
    if !carry_congestion(buffer.bytes_mut(), at, outer_class) {
        return Err(DropReason::TunnelCongestion);
    }
    let macs: [u8; 12] = *buffer.bytes().first_chunk().ok_or(DropReason::TunnelHeader)?;
    let front = at.checked_sub(ETHERNET).ok_or(DropReason::TunnelHeader)?;
    if !buffer.resize(end) || !buffer.trim_front(front) {
        return Err(DropReason::TunnelHeader);
    }
    let bytes = buffer.bytes_mut();
    let v6 = bytes.get(ETHERNET).is_some_and(|first| first >> 4 == 6);
    let Some((link, _)) = bytes.split_first_chunk_mut::<ETHERNET>() else { return Err(DropReason::TunnelHeader) };
    let (front, ethertype) = link.split_at_mut(macs.len());
    front.copy_from_slice(&macs);
    ethertype.copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    Ok(dissect(buffer.bytes(), Verify::All)?)
}
