//! ICMP errors from the path into a tunnel: they quote a packet that the appliance wrapped, so they come to the appliance
//! and not to the packet's sender. Each is tied to the session of the packet inside, remembered where it tells of a narrow
//! path, and told on to the sender as an error about the packet it knows (RFC 2003 section 4, RFC 2473 section 8).
//!
//! An error that quotes too little of the packet inside cannot be tied to a session and changes nothing: anybody could
//! have sent it. Nor does one that does not come from where the tunnel goes: senders know what they sent, and may guess how
//! it was wrapped.

use frame::Buffer;
use session::{Direction, Kind, Slot, Table, Tuple};
use stage::DropReason;
use stage::tunnel::floor;
use std::net::{Ipv4Addr, Ipv6Addr};
use units::limits::ORIGINATED_PER_SECOND;
use wire::emit::{self, IcmpErrorKind};
use wire::{Content, Extensions, Facts, Fragment, Frame, Quote, QuotedTransport, Transport, read_inside};

use crate::act::set_macs;
use crate::binding::BindingId;
use crate::family::Family;
use crate::flow::Flow;
use crate::next_hop::NextHopId;
use crate::packet::{Packet, Verdict};
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::steer::Ends;

/// IANA's numbers of what tunnels are made of.
const IPV4_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

/// GRE's flag for a key (RFC 2890).
const KEY_PRESENT: u8 = 0x20;

/// The longest error made here: an `ICMPv6` one fills the minimum MTU.
const LONGEST: usize = 14 + 8 + 1_280;

/// What an error from inside a tunnel means to the sender.
enum Meaning {
    /// The path carries outer packets of this many bytes at most.
    Narrow(u16),
    /// The tunnel does not get through.
    Unreachable,
}

/// The ends that decide which worker owns a packet: for an error from inside a tunnel those of the packet wrapped in it.
#[cold]
pub(crate) fn ends(frame: &[u8], facts: &Facts, snapshot: &Snapshot) -> Ends {
    if let Transport::IcmpError { quote, .. } = &facts.transport
        && let Some(inside) = inside(frame, facts, quote, snapshot)
    {
        let (source_port, destination_port) = match inside.transport {
            QuotedTransport::Ports { source_port, destination_port, .. } => (source_port, destination_port),
            QuotedTransport::Echo { identifier, .. } => (identifier, identifier),
            QuotedTransport::Other => (0, 0),
        };
        return Ends::new(inside.endpoints.reversed(), inside.protocol, destination_port, source_port);
    }
    Ends::of(facts)
}

/// The packet inside a quoted packet to one of the tunnels' ends, as far as it is quoted.
fn inside(frame: &[u8], facts: &Facts, quote: &Quote, snapshot: &Snapshot) -> Option<Quote> {
    snapshot.services.path_to(quote.endpoints.destination())?;
    let frame = frame.get(..usize::from(facts.end))?;
    let behind = usize::from(quote.transport_offset);
    let between = match quote.protocol {
        IPV4_IN_IP | IPV6_IN_IP => 0,
        GRE => {
            if frame.get(behind)? & KEY_PRESENT == 0 {
                4
            } else {
                8
            }
        }
        // Behind UDP the first bits tell whether GUE has a header of its own.
        UDP => {
            if frame.get(behind + 8)? >> 6 == 0 {
                12
            } else {
                8
            }
        }
        _ => return None,
    };
    read_inside(frame, behind + between).ok()
}

/// What the error means; `None` for those that concern nobody but the tunnel's own two ends (RFC 2003 sections 4.2 to 4.5).
fn meaning(frame: &[u8], facts: &Facts, kind: u8, code: u8) -> Option<Meaning> {
    let rest =
        frame.get(usize::from(facts.transport_offset) + 4..)?.first_chunk().map(|rest| u32::from_be_bytes(*rest))?;
    let narrow = |mtu: u32| Meaning::Narrow(u16::try_from(mtu).unwrap_or(u16::MAX));
    match (facts.endpoints.is_v6(), kind, code) {
        (false, 3, 4) => Some(narrow(rest & 0xffff)),
        (true, 2, _) => Some(narrow(rest)),
        (false, 3 | 11, _) | (true, 1 | 3, _) => Some(Meaning::Unreachable),
        _ => None,
    }
}

/// Bytes of the quoted outer packet, by its own length field.
fn length(frame: &[u8], quote: &Quote) -> Option<u16> {
    let header = frame.get(usize::from(quote.network)..)?.first_chunk::<8>()?;
    let [_, _, t0, t1, p0, p1, ..] = *header;
    Some(if quote.endpoints.is_v6() {
        u16::from_be_bytes([p0, p1]).saturating_add(40)
    } else {
        u16::from_be_bytes([t0, t1])
    })
}

fn find<A: Family>(table: &Table<A>, kind: Kind, tuple: &Tuple<A>) -> Option<(Slot, Direction)> {
    table.lookup(table.hash(kind, tuple), kind, tuple)
}

impl<B: Buffer> Shard<B> {
    /// Treats an error about a packet that was wrapped here; `None` when it is about another.
    #[cold]
    pub(crate) fn tunnel_error(&mut self, packet: &mut Packet<B>, facts: &Facts, quote: &Quote) -> Option<Verdict> {
        let inside = inside(packet.buffer.bytes(), facts, quote, &self.snapshot)?;
        let found = match Flow::against(&inside) {
            Some(Flow::V4(kind, tuple)) => find::<Ipv4Addr>(&self.sessions.v4, kind, &tuple)
                .and_then(|(slot, way)| self.tell_sender::<Ipv4Addr>(packet, facts, quote, &inside, slot, way)),
            Some(Flow::V6(kind, tuple)) => find::<Ipv6Addr>(&self.sessions.v6, kind, &tuple)
                .and_then(|(slot, way)| self.tell_sender::<Ipv6Addr>(packet, facts, quote, &inside, slot, way)),
            None => None,
        };
        Some(found.unwrap_or(Verdict::Drop(DropReason::IcmpErrorUnmatched)))
    }

    /// Turns the error into one about the packet inside and sends it to that packet's sender; `None` when the session is
    /// not of the tunnel the error came from.
    fn tell_sender<A: Family>(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        quote: &Quote,
        inside: &Quote,
        slot: Slot,
        direction: Direction,
    ) -> Option<Verdict> {
        let session = A::table(&self.sessions).session(slot);
        let sequence = match inside.transport {
            QuotedTransport::Ports { sequence, .. } => sequence,
            QuotedTransport::Echo { .. } | QuotedTransport::Other => return None,
        };
        if direction != Direction::Reply
            || self.hop_of::<A>(slot, Direction::Original) != NextHopId::TUNNEL
            || !session.has_sent(Direction::Original, sequence)
        {
            return None;
        }
        let back = NextHopId::new(session.next_hop(Direction::Reply));
        let binding = BindingId::new(session.binding());
        let tunnel = *self.tunnels.of(binding)?;
        if tunnel.outer.source() != quote.endpoints.source()
            || tunnel.outer.destination() != quote.endpoints.destination()
            || !self.comes_from_beyond(packet.port, facts.endpoints.source(), tunnel.hop)
        {
            return None;
        }
        let inside_v6 = inside.endpoints.is_v6();
        if !self.error_limit.passes(slot, inside_v6, self.tick) {
            return Some(Verdict::Drop(DropReason::IcmpErrorsLimited));
        }
        let Transport::IcmpError { kind, code, .. } = facts.transport else { return None };
        let v6 = facts.endpoints.is_v6();
        let kind = match meaning(packet.buffer.bytes(), facts, kind, code) {
            None => return Some(Verdict::Drop(DropReason::IcmpUnwanted)),
            Some(Meaning::Unreachable) => IcmpErrorKind::HostUnreachable,
            Some(Meaning::Narrow(mtu)) => {
                let sent = length(packet.buffer.bytes(), quote)?;
                // A path on which the sender's least packets do not fit would be one on which nothing helps.
                let least = floor(v6).max(floor(inside_v6).saturating_add(tunnel.outer.overhead()));
                if mtu < least || mtu >= sent {
                    return Some(Verdict::Drop(DropReason::PathMtuFloor));
                }
                let path = self.bindings.backend(binding)?.path();
                path.narrow(mtu, self.tick);
                let room = tunnel.room(path.get(self.tick));
                IcmpErrorKind::TooBig { mtu: room.max(floor(inside_v6)) }
            }
        };
        Some(self.say(packet, facts, inside, kind, back))
    }

    /// Makes the packet an error about the one inside, for that one's sender over `back`.
    fn say(
        &mut self,
        packet: &mut Packet<B>,
        facts: &Facts,
        inside: &Quote,
        kind: IcmpErrorKind,
        back: NextHopId,
    ) -> Verdict {
        let back = match back {
            NextHopId::NONE => match self.hop_to(inside.endpoints.source()) {
                Ok(hop) => hop,
                Err(reason) => return Verdict::Drop(reason),
            },
            known => known,
        };
        // Nothing else may ever have been sent to the sender from here: its backends answer it themselves.
        let (port, mac, ready) = match self.way_over(back) {
            Ok(way) => way,
            Err(reason) => return Verdict::Drop(reason),
        };
        let Some(out) = self.snapshot.port(port) else { return Verdict::Drop(DropReason::NoRoute) };
        if !self.answers.take(self.now, ORIGINATED_PER_SECOND) {
            return Verdict::Consumed;
        }
        let about = Facts {
            endpoints: inside.endpoints,
            network: inside.network,
            transport_offset: inside.transport_offset,
            end: facts.end,
            protocol: inside.protocol,
            hop_limit: facts.hop_limit,
            dont_fragment: true,
            fragment: Fragment::No,
            extensions: Extensions::default(),
            transport: Transport::Other,
            partial_checksum: false,
        };
        let about = Frame { link: packet.frame.link, content: Content::Ip(about) };
        let mut error = [0; LONGEST];
        let written = self
            .snapshot
            .address_like(port, inside.endpoints.source())
            .and_then(|source| emit::icmp_error(&mut error, kind, source, packet.buffer.bytes(), &about))
            .and_then(|written| error.get_mut(..written));
        let Some(written) = written else { return Verdict::Consumed };
        // The ethertype is that of the sender's family, which the tunnel's need not be.
        let ethertype = if inside.endpoints.is_v6() { [0x86, 0xdd] } else { [0x08, 0x00] };
        let link = usize::from(packet.frame.link.payload);
        if let Some(place) = link.checked_sub(2).and_then(|at| written.get_mut(at..link)) {
            place.copy_from_slice(&ethertype);
        }
        set_macs(written, mac, out.mac);
        self.leave_rest(packet);
        if !packet.buffer.resize(written.len()) {
            return Verdict::Drop(DropReason::BuffersExhausted);
        }
        packet.buffer.bytes_mut().copy_from_slice(written);
        if ready { Verdict::Answered(port) } else { Verdict::Hold(back) }
    }
}
