//! What the rules are asked about: the first packet of a session that does not exist yet, or a session that a new
//! policy judges again. Filled in by the worker from the packet's facts and its way; read by every
//! [`Classifier`](super::Classifier).

use units::{TenantId, ZoneId};
use wire::Endpoints;

/// A packet as rules see it: addresses and ports as its sender wrote them, before any translation. Numbers are in host
/// order.
///
/// For ICMP and `ICMPv6` the ports hold the message: `source_port` its type, `destination_port` its code. For a
/// protocol without ports both are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The zone it came from; [`ZoneId::APPLIANCE`] for what the appliance itself sends.
    pub from: ZoneId,
    /// The zone it is on its way to; [`ZoneId::APPLIANCE`] for the appliance's own addresses.
    pub to: ZoneId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The transport protocol (IANA) as on the wire: 1 for `ICMPv4`, 58 for `ICMPv6`.
    pub protocol: u8,
    /// Source and destination address.
    pub endpoints: Endpoints,
    /// Source port, or ICMP type.
    pub source_port: u16,
    /// Destination port, or ICMP code.
    pub destination_port: u16,
}
