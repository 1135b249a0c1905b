//! From facts to the key a session is found by.

use std::net::{Ipv4Addr, Ipv6Addr};

use session::{Kind, Tuple};
use wire::{Endpoints, Facts, Quote, QuotedTransport, Transport};

/// The key of the session a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// IPv4.
    V4(Kind, Tuple<Ipv4Addr>),
    /// IPv6.
    V6(Kind, Tuple<Ipv6Addr>),
}

fn flow(endpoints: Endpoints, kind: Kind, source_port: u16, destination_port: u16) -> Flow {
    match endpoints {
        Endpoints::V4 { source, destination } => {
            Flow::V4(kind, Tuple { source, destination, source_port, destination_port })
        }
        Endpoints::V6 { source, destination } => {
            Flow::V6(kind, Tuple { source, destination, source_port, destination_port })
        }
    }
}

impl Flow {
    /// The flow of a packet; `None` for what belongs to no session of its own: ICMP other than echo, later fragments.
    #[must_use]
    pub(crate) fn of(facts: &Facts) -> Option<Self> {
        let (kind, source_port, destination_port) = match facts.transport {
            Transport::Tcp(tcp) => (Kind::Tcp, tcp.source_port, tcp.destination_port),
            Transport::Udp { source_port, destination_port, .. } => (Kind::Udp, source_port, destination_port),
            Transport::Echo { identifier, .. } => (Kind::Icmp, identifier, identifier),
            Transport::Other => (Kind::Other, u16::from(facts.protocol), u16::from(facts.protocol)),
            Transport::IcmpError { .. } | Transport::Icmp { .. } | Transport::Unknown => return None,
        };
        Some(flow(facts.endpoints, kind, source_port, destination_port))
    }

    /// The flow of the answers.
    #[must_use]
    pub(crate) const fn reversed(&self) -> Self {
        match self {
            Self::V4(kind, tuple) => Self::V4(*kind, tuple.reversed()),
            Self::V6(kind, tuple) => Self::V6(*kind, tuple.reversed()),
        }
    }

    /// The flow an ICMP error travels with: the quoted packet's, turned round.
    #[must_use]
    pub(crate) fn against(quote: &Quote) -> Option<Self> {
        let (kind, source_port, destination_port) = match (quote.transport, quote.protocol) {
            (QuotedTransport::Ports { source_port, destination_port, .. }, 6) => {
                (Kind::Tcp, source_port, destination_port)
            }
            (QuotedTransport::Ports { source_port, destination_port, .. }, 17) => {
                (Kind::Udp, source_port, destination_port)
            }
            (QuotedTransport::Ports { .. }, _) => return None,
            (QuotedTransport::Echo { identifier, .. }, _) => (Kind::Icmp, identifier, identifier),
            (QuotedTransport::Other, protocol) => (Kind::Other, u16::from(protocol), u16::from(protocol)),
        };
        Some(flow(quote.endpoints.reversed(), kind, destination_port, source_port))
    }
}
