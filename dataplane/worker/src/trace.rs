//! What a trace is made of: what control orders, the buffers it lends, and the record of one packet's way. Filled by
//! [`watch`](crate::watch) on a worker; put into words by management, which finds the names of things in the tables the
//! record carries.

use core::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use ipnet::IpNet;
use session::Direction;
use stage::DropReason;
use stage::firewall::{Candidate, Judgement};
use units::{Nanos, PortId, RuleId, ServiceId, TenantId, WorkerId};
use wire::{Content, Endpoints, Facts, Frame, Malformed, QuotedTransport, Transport};

use crate::open::Bound;
use crate::packet::Origin;
use crate::snapshot::Snapshot;
use crate::sweep::SessionRecord;

/// Terms of one [`PacketMatch`].
pub const TERMS_MAX: usize = 16;

/// Frames that leave because of one packet and are described; pieces of a large one may be more.
pub const DEPARTURES_MAX: usize = 4;

/// One condition on a packet as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketTerm {
    /// The transport protocol (IANA).
    Protocol(u8),
    /// ARP.
    Arp,
    /// Either address is in here, or either of the packet that an ICMP error quotes.
    Address(IpNet),
    /// The source address is in here.
    Source(IpNet),
    /// The destination address is in here.
    Destination(IpNet),
    /// Either port is from the first to the last, or either of the packet that an ICMP error quotes.
    Port(u16, u16),
    /// The source port is.
    SourcePort(u16, u16),
    /// The destination port is.
    DestinationPort(u16, u16),
    /// It came by this port, or by the kernel interface beside it.
    Ingress(PortId),
    /// Whether the appliance's own kernel sent it.
    FromKernel(bool),
    /// The worker that decides about it.
    Owner(WorkerId),
    /// The tenant it belongs to.
    Tenant(TenantId),
}

/// Which packets are wanted: those every term holds for. Without terms, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketMatch {
    /// The terms.
    pub terms: ArrayVec<PacketTerm, TERMS_MAX>,
}

impl PacketMatch {
    /// Whether a packet of this tenant is wanted that came this way; `frame` is `None` for bytes that are no packet.
    pub(crate) fn wants(
        &self,
        frame: Option<&Frame>,
        port: PortId,
        origin: Origin,
        worker: WorkerId,
        tenant: TenantId,
    ) -> bool {
        self.terms.iter().all(|term| match *term {
            PacketTerm::Tenant(wanted) => wanted == tenant,
            PacketTerm::Ingress(ingress) => ingress == port,
            PacketTerm::FromKernel(from_kernel) => (origin == Origin::Kernel) == from_kernel,
            PacketTerm::Owner(owner) => owner == worker,
            PacketTerm::Arp => matches!(frame.map(|frame| frame.content), Some(Content::Arp(_))),
            term => match frame.map(|frame| &frame.content) {
                Some(Content::Ip(facts)) => term.holds(facts),
                Some(Content::Arp(arp)) => match term {
                    PacketTerm::Address(net) => {
                        [arp.sender, arp.target].iter().any(|end| net.contains(&IpAddr::V4(*end)))
                    }
                    PacketTerm::Source(net) => net.contains(&IpAddr::V4(arp.sender)),
                    PacketTerm::Destination(net) => net.contains(&IpAddr::V4(arp.target)),
                    _ => false,
                },
                Some(Content::Other) | None => false,
            },
        })
    }
}

impl PacketTerm {
    fn holds(self, facts: &Facts) -> bool {
        let within = |port: u16, first, last| (first..=last).contains(&port);
        let ends = |endpoints: &Endpoints, net: IpNet| {
            net.contains(&endpoints.source()) || net.contains(&endpoints.destination())
        };
        let quote = if let Transport::IcmpError { quote, .. } = facts.transport { Some(quote) } else { None };
        let (source_port, destination_port) = ports_of(facts);
        match self {
            Self::Protocol(protocol) => facts.protocol == protocol,
            Self::Address(net) => ends(&facts.endpoints, net) || quote.is_some_and(|quote| ends(&quote.endpoints, net)),
            Self::Source(net) => net.contains(&facts.endpoints.source()),
            Self::Destination(net) => net.contains(&facts.endpoints.destination()),
            Self::Port(first, last) => {
                let quoted = quote.and_then(|quote| match quote.transport {
                    QuotedTransport::Ports { source_port, destination_port, .. } => {
                        Some([source_port, destination_port])
                    }
                    QuotedTransport::Echo { .. } | QuotedTransport::Other => None,
                });
                let own = [source_port, destination_port].into_iter().flatten();
                own.chain(quoted.into_iter().flatten()).any(|port| within(port, first, last))
            }
            Self::SourcePort(first, last) => source_port.is_some_and(|port| within(port, first, last)),
            Self::DestinationPort(first, last) => destination_port.is_some_and(|port| within(port, first, last)),
            Self::Arp | Self::Ingress(_) | Self::FromKernel(_) | Self::Owner(_) | Self::Tenant(_) => false,
        }
    }
}

/// The ports of a packet; an echo's identifier stands for both, as in sessions.
const fn ports_of(facts: &Facts) -> (Option<u16>, Option<u16>) {
    match facts.transport {
        Transport::Tcp(tcp) => (Some(tcp.source_port), Some(tcp.destination_port)),
        Transport::Udp { source_port, destination_port, .. } => (Some(source_port), Some(destination_port)),
        Transport::Echo { identifier, .. } => (Some(identifier), Some(identifier)),
        Transport::IcmpError { .. } | Transport::Icmp { .. } | Transport::Other | Transport::Unknown => (None, None),
    }
}

/// What control wants traced.
#[derive(Clone, Debug)]
pub struct TraceOrder {
    /// The number of the request.
    pub request: u64,
    /// Which packets.
    pub wanted: PacketMatch,
    /// How many at most.
    pub count: usize,
    /// Until when.
    pub until: Nanos,
}

/// A buffer for the records of one trace: sent with [`Command::Trace`](crate::Command), comes back when it is full or the
/// worker has a moment. Sent again emptied, it serves again.
#[derive(Debug)]
pub struct Trace {
    /// What is wanted.
    pub order: TraceOrder,
    /// Whether the trace begins with this buffer; the others follow while it lasts.
    pub begins: bool,
    /// The records; never more than its capacity.
    pub records: Vec<TraceRecord>,
    /// Packets that were wanted and found no room, since the buffer before.
    pub lost: u64,
    /// The worker has seen as many as were wanted, or the time is over: no other buffer will come.
    pub over: bool,
}

impl Trace {
    /// A buffer for `capacity` packets.
    #[must_use]
    pub fn new(order: TraceOrder, begins: bool, capacity: usize) -> Self {
        Self { order, begins, records: Vec::with_capacity(capacity), lost: 0, over: false }
    }
}

/// How a packet came to the worker that decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// By the device of its port.
    ByWire,
    /// By the device of its port, to another worker, which handed it over.
    HandedOver,
    /// Out of a tunnel, from the worker that took it out.
    OutOfTunnel,
    /// From the appliance's own kernel.
    FromKernel,
}

/// What the packets of a session lead to, where that is not simply a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// A next hop.
    NextHop,
    /// The appliance's own kernel.
    Kernel,
    /// A tunnel to the backend.
    Tunnel,
    /// A connection that began with a SYN cookie, or whose backend is told of its client: sequence numbers are shifted.
    Spliced,
    /// The other IP version (NAT64).
    Across,
    /// The other port of a pair.
    Through,
    /// The tiers of its service, and then the backend.
    Tiers,
}

/// A session as a packet met it.
#[derive(Clone, Debug)]
pub struct Met {
    /// A copy of it.
    pub session: SessionRecord,
    /// The direction of the packet.
    pub direction: Direction,
    /// The rule that admitted it; `None` for the default, or where no rule was asked.
    pub rule: Option<RuleId>,
    /// Whether the policy in force has judged it; else the rule is of an earlier one.
    pub judged: bool,
    /// Whether addresses or ports are rewritten.
    pub translated: bool,
    /// Where its packets of this direction go.
    pub leads: Leads,
}

/// What the firewall was asked and said.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Where the packet was bound for.
    pub bound: Bound,
    /// What the rules were asked.
    pub candidate: Candidate,
    /// What they said.
    pub judgement: Judgement,
    /// The session existed: a policy that came into force since judged it again.
    pub again: bool,
}

/// The virtual service a packet asks, as its backend would be found without the algorithm.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAsked {
    /// The service.
    pub service: ServiceId,
    /// The [key](stage::balancer::Backend::key) of the backend its source had last.
    pub remembered: Option<u64>,
    /// That of the backend its QUIC connection id names.
    pub named: Option<u64>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was sent on.
    Forwarded,
    /// It waits for a next hop to answer ARP or neighbor solicitation.
    WaitsForNeighbor,
    /// It is a fragment and waits for the rest of its datagram.
    WaitsForFragments,
    /// It was given to the kernel.
    Punted,
    /// It ended here with its purpose fulfilled.
    Consumed,
    /// It was given to the worker that has its session: that one tells the rest.
    HandedOver,
    /// It was dropped.
    Dropped(DropReason),
}

/// A frame that left because of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Through which port.
    pub port: PortId,
    /// What it says; `None` where it cannot be read again.
    pub frame: Option<Frame>,
    /// Its bytes.
    pub length: usize,
    /// The next hop on the way to its destination.
    pub next_hop: Option<IpAddr>,
}

/// One packet's way.
#[derive(Clone, Debug)]
pub struct TraceRecord {
    /// When, since start.
    pub at: Nanos,
    /// The worker that decided.
    pub worker: WorkerId,
    /// The port it came by.
    pub port: PortId,
    /// How it came.
    pub came: Came,
    /// The tables it was judged by.
    pub snapshot: Arc<Snapshot>,
    /// Its bytes.
    pub length: usize,
    /// What they say, or why they are no packet.
    pub read: Result<Frame, Malformed>,
    /// The session it found.
    pub before: Option<Met>,
    /// What the firewall said, if it was asked.
    pub decision: Option<Decision>,
    /// The service it asks.
    pub asked: Option<ServiceAsked>,
    /// The session afterwards: as before, or the one it opened.
    pub after: Option<Met>,
    /// Whether it came out of a tunnel that ends here.
    pub decapsulated: bool,
    /// What became of it.
    pub fate: Fate,
    /// Whether the appliance made frames of its own because of it: an answer, the later pieces of a large packet.
    pub originated: u64,
    /// What left because of it.
    pub departures: ArrayVec<Departure, DEPARTURES_MAX>,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarded => "forwarded",
            Self::WaitsForNeighbor => "waits_for_neighbor",
            Self::WaitsForFragments => "waits_for_fragments",
            Self::Punted => "punted",
            Self::Consumed => "consumed",
            Self::HandedOver => "handed_over",
            Self::Dropped(_) => "dropped",
        })
    }
}
