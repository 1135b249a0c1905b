//! First packets: whose they are and what the firewall says. Misses of a burst are judged together; each then opens its
//! session ([`establish`](crate::establish)) in the order they came.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use frame::Buffer;
use session::{Pickup, tcp_state};
use stage::DropReason;
use stage::firewall::{Action, Candidate, Judgement};
use stage::translate::MappingId;
use units::limits::BURST_MAX;
use units::{ServiceId, TenantId, ZoneId};
use wire::emit::IcmpErrorKind;
use wire::{Content, Facts, Malformed, TcpFlags, Transport};

use crate::challenge::Proof;
use crate::command::Event;
use crate::flow::Flow;
use crate::lane::{Others, Task};
use crate::local::is_ours;
use crate::packet::{Answer, Origin, Packet, Verdict};
use crate::shard::Shard;

/// Where the first packet of a session is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A virtual service.
    Service(ServiceId),
    /// A server behind destination NAT, by the position of its forward.
    Forward(usize),
    /// A client behind source NAT, through its mapping.
    Mapped(MappingId),
    /// An IPv4 server, through the NAT64 rule at this position.
    Across(usize),
    /// Another client of NAT64, asked for by its outside end: the rule of who asks, and the mapping.
    Hairpin(usize, MappingId),
    /// A client of NAT64, through its mapping, from the IPv4 side.
    Inward(MappingId),
    /// A backend of a service attracted in line, asked by its own address; by its place among the members.
    Backend(ServiceId, usize),
    /// The other port of the pair it came by.
    Through,
    /// The appliance itself.
    Here,
    /// Somewhere behind a port.
    Beyond,
}

/// A first packet before the firewall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant {
    pub(crate) bound: Bound,
    pub(crate) candidate: Candidate,
    /// The SYN cookie it brings back.
    pub(crate) proof: Option<Proof>,
}

impl<B: Buffer> Shard<B> {
    /// The zone a packet to `destination` is on its way to, as rules see it.
    pub(crate) fn zone_of(&self, destination: IpAddr, protocol: u8, port: u16) -> ZoneId {
        if let Some(service) = self.snapshot.services.find(destination, protocol, port) {
            return self.snapshot.service_zone(service);
        }
        if is_ours(&self.snapshot, destination) {
            return ZoneId::APPLIANCE;
        }
        self.snapshot.routes.lookup(destination).map_or(ZoneId::APPLIANCE, |route| self.snapshot.zone(route.port))
    }

    /// Decides about the first packets among those read in full. A further packet of a flow waits for what becomes of the
    /// first: the rules judge and count it only when that has opened no session.
    pub(crate) fn open_all(&mut self, others: &mut Others<B>) {
        let (mut first, mut waiting) = (ArrayVec::<usize, BURST_MAX>::new(), ArrayVec::<usize, BURST_MAX>::new());
        let mut hashes = ArrayVec::<u64, BURST_MAX>::new();
        for miss in core::mem::take(&mut others.misses) {
            match others.tasks.get(miss) {
                Some(Task::Find(_, hash)) if hashes.contains(hash) => waiting.push(miss),
                Some(Task::Find(_, hash)) => {
                    hashes.push(*hash);
                    first.push(miss);
                }
                Some(Task::Done | Task::Error) | None => first.push(miss),
            }
        }
        self.open_some(&mut others.packets, &first, &mut others.verdicts);
        for place in waiting {
            self.act_other(others, place);
        }
        let refused = core::mem::take(&mut others.misses);
        self.open_some(&mut others.packets, &refused, &mut others.verdicts);
    }

    /// Has the firewall judge first packets together, and opens the sessions of those it allows. Verdicts are put where the
    /// packets' own are.
    fn open_some(&mut self, packets: &mut [Option<Packet<B>>], misses: &[usize], verdicts: &mut [Verdict]) {
        if misses.is_empty() {
            return;
        }
        let mut applicants = ArrayVec::<(usize, Applicant), BURST_MAX>::new();
        let mut candidates = ArrayVec::<Candidate, BURST_MAX>::new();
        for &position in misses {
            let Some(Some(packet)) = packets.get_mut(position) else { continue };
            let applied = if packet.origin == Origin::InLine { self.apply_in_line(packet) } else { self.apply(packet) };
            let verdict = match applied.map(|applicant| (self.challenge(packet, &applicant), applicant)) {
                Ok((None, applicant)) => {
                    candidates.push(applicant.candidate);
                    applicants.push((position, applicant));
                    continue;
                }
                Ok((Some(verdict), _)) | Err(verdict) => verdict,
            };
            if let Some(place) = verdicts.get_mut(position) {
                *place = verdict;
            }
        }
        let mut judgements = [Judgement::DENIED; BURST_MAX];
        if let Some(judgements) = judgements.get_mut(..candidates.len()) {
            self.snapshot.rules.judge(self.id, &candidates, self.now, judgements);
        }
        if self.noted.on
            && let (Some((_, applicant)), [judgement, ..]) = (applicants.first(), &judgements)
        {
            self.note_decision(applicant.bound, &applicant.candidate, judgement, false);
        }
        for ((position, applicant), judgement) in applicants.iter().zip(&judgements) {
            if let (Some(Some(packet)), Some(place)) = (packets.get_mut(*position), verdicts.get_mut(*position)) {
                *place = self.admit(packet, applicant, judgement);
            }
        }
    }

    /// What a packet without a session asks for, or why it may not ask.
    fn apply(&mut self, packet: &Packet<B>) -> Result<Applicant, Verdict> {
        let Content::Ip(facts) = &packet.frame.content else {
            return Err(Verdict::Drop(DropReason::UnknownEthertype));
        };
        let (source, destination) = (facts.endpoints.source(), facts.endpoints.destination());
        if let Some(reason) = self.refuses_source(packet) {
            return Err(Verdict::Drop(reason));
        }
        let (source_port, destination_port) = ports_of(facts)?;
        // Nobody has an address behind the prefix of NAT64 (RFC 6146 section 3.5).
        let claims_ours = is_ours(&self.snapshot, source) || self.snapshot.nat64.behind(source).is_some();
        if packet.origin != Origin::Kernel && claims_ours {
            return Err(Verdict::Drop(DropReason::SourceOwnAddress));
        }
        if matches!(source, IpAddr::V4(v4) if self.snapshot.is_broadcast(v4)) {
            return Err(Verdict::Drop(Malformed::SourceMulticast.into()));
        }
        let service = self.snapshot.services.find(destination, facts.protocol, destination_port);
        let bound = match service {
            Some(service) => Bound::Service(service),
            None if is_ours(&self.snapshot, destination) => {
                self.bound_inside(packet.port, facts).unwrap_or(Bound::Here)
            }
            None => match destination {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => Bound::Here,
                IpAddr::V4(v4) if v4.is_link_local() => return Err(Verdict::Drop(DropReason::LinkLocalDestination)),
                IpAddr::V4(_) | IpAddr::V6(_) => self.bound_across(packet.port, facts)?.unwrap_or(Bound::Beyond),
            },
        };
        if packet.origin != Origin::Kernel && is_link_local(source) && bound != Bound::Here {
            return Err(Verdict::Drop(DropReason::LinkLocalSource));
        }
        let mut proof = None;
        if let Transport::Tcp(tcp) = facts.transport
            && tcp_state::open(&tcp, Pickup::Strict).is_none()
        {
            proof = self.proof(packet, facts, &tcp, bound);
        }
        if let Transport::Tcp(tcp) = facts.transport
            && tcp_state::open(&tcp, self.pickup(bound)).is_none()
            && proof.is_none()
            && !self.passes_without_session(bound, tcp.flags)
        {
            return Err(self.unknown());
        }
        let to = match bound {
            Bound::Service(service) => self.snapshot.service_zone(service),
            Bound::Forward(forward) => self.zone_of_server(forward),
            Bound::Mapped(mapping) | Bound::Inward(mapping) | Bound::Hairpin(_, mapping) => {
                self.zone_of_client(mapping)
            }
            Bound::Here | Bound::Backend(..) | Bound::Through => ZoneId::APPLIANCE,
            Bound::Across(_) => self.zone_behind_route(self.across_or(destination))?,
            Bound::Beyond => self.zone_behind_route(destination)?,
        };
        let candidate = Candidate {
            from: self.snapshot.zone(packet.port),
            to,
            tenant: TenantId::NONE,
            protocol: facts.protocol,
            endpoints: facts.endpoints,
            source_port,
            destination_port,
        };
        Ok(Applicant { bound, candidate, proof })
    }

    /// The zone that packets to this address are routed to.
    fn zone_behind_route(&self, destination: IpAddr) -> Result<ZoneId, Verdict> {
        let route = self.snapshot.routes.lookup(destination).ok_or(refusal(DropReason::NoRoute))?;
        Ok(self.snapshot.zone(route.port))
    }

    /// What becomes of a TCP segment that belongs to no session and opens none.
    pub(crate) fn unknown(&self) -> Verdict {
        if self.snapshot.reject_unknown {
            Verdict::Refuse(DropReason::NoSession, Answer::Reset)
        } else {
            Verdict::Drop(DropReason::NoSession)
        }
    }

    /// Segments that open nothing and pass all the same, once the firewall has allowed them: of connections the kernel
    /// knows (it judges them itself), and of directly returned ones that began when there was no room to follow them.
    fn passes_without_session(&self, bound: Bound, flags: TcpFlags) -> bool {
        match bound {
            Bound::Here => flags.contains(TcpFlags::ACK) && !flags.intersects(TcpFlags::SYN | TcpFlags::RST),
            Bound::Service(service) => self.can_go_untracked(service) && self.has_untracked(service),
            Bound::Forward(_)
            | Bound::Mapped(_)
            | Bound::Across(_)
            | Bound::Hairpin(..)
            | Bound::Inward(_)
            | Bound::Backend(..)
            | Bound::Through
            | Bound::Beyond => false,
        }
    }

    /// Whether connections of this service may have no session: there is no room for one, or was not when they began.
    fn has_untracked(&self, service: ServiceId) -> bool {
        let longest = self.snapshot.timeouts.tcp_established;
        let service = self.snapshot.services.service(service);
        self.is_full() || service.is_some_and(|service| service.untracked().may_live(self.tick, longest))
    }

    fn can_go_untracked(&self, service: ServiceId) -> bool {
        self.snapshot.services.service(service).is_some_and(|service| service.spec().can_go_untracked())
    }

    /// Opens the session of a judged packet, or refuses it.
    fn admit(&mut self, packet: &mut Packet<B>, applicant: &Applicant, judgement: &Judgement) -> Verdict {
        if judgement.log {
            self.log(&applicant.candidate, judgement);
        }
        if let Some(reason) = judgement.drop_reason() {
            return match judgement.action {
                Action::Reject => Verdict::Refuse(reason, Answer::Reject),
                Action::Allow | Action::Deny => Verdict::Drop(reason),
            };
        }
        if let Some(proof) = &applicant.proof {
            return self.open_proven(packet, applicant, proof, judgement.rule);
        }
        if let Err(reason) = self.come_back(packet, applicant.bound) {
            return Verdict::Drop(reason);
        }
        let Content::Ip(facts) = packet.frame.content else { return Verdict::Drop(DropReason::UnknownEthertype) };
        let opened = match Flow::of(&facts) {
            Some(Flow::V4(kind, tuple)) if let Bound::Inward(mapping) = applicant.bound => {
                self.open_inward(packet, &facts, (kind, &tuple), mapping, judgement.rule)
            }
            Some(Flow::V4(kind, tuple)) => self.open(packet, &facts, kind, tuple, applicant, judgement.rule),
            Some(Flow::V6(kind, tuple)) => self.open(packet, &facts, kind, tuple, applicant, judgement.rule),
            None => Err(DropReason::NoSession),
        };
        opened.unwrap_or_else(refusal)
    }

    pub(crate) fn log(&mut self, candidate: &Candidate, judgement: &Judgement) {
        if self.log_allowance.take(self.now, self.snapshot.log_rate.get()) {
            self.tell(Event::Log {
                at: self.now,
                generation: self.snapshot.generation,
                rule: judgement.rule,
                action: judgement.action,
                candidate: *candidate,
            });
        } else {
            self.counters.log_suppressed.add(1);
        }
    }
}

/// The ports of a first packet as the firewall reads them, or why there can be none.
pub(crate) fn ports_of(facts: &Facts) -> Result<(u16, u16), Verdict> {
    match facts.transport {
        Transport::Tcp(tcp) => Ok((tcp.source_port, tcp.destination_port)),
        Transport::Udp { source_port, destination_port, .. } => Ok((source_port, destination_port)),
        // An ICMP message's type and code stand in the place of ports.
        Transport::Echo { request, .. } => match (request, facts.endpoints.is_v6()) {
            (true, false) => Ok((8, 0)),
            (true, true) => Ok((128, 0)),
            (false, _) => Err(Verdict::Drop(DropReason::NoSession)),
        },
        Transport::Icmp { .. } | Transport::IcmpError { .. } | Transport::Unknown => {
            Err(Verdict::Drop(DropReason::IcmpUnwanted))
        }
        Transport::Other => Ok((0, 0)),
    }
}

/// What becomes of an allowed packet whose session cannot be opened.
pub(crate) const fn refusal(reason: DropReason) -> Verdict {
    match reason {
        DropReason::NoRoute => Verdict::Refuse(reason, Answer::Icmp(IcmpErrorKind::NetUnreachable)),
        _ => Verdict::Drop(reason),
    }
}

/// Whether an address means something on its link only (RFC 3927, RFC 4291 section 2.5.6).
const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
