//! One rule, as an operator means it: every list that is empty matches everything. Validated by `config`, compiled by
//! [`Ruleset`](super::Ruleset); first match wins.

use ipnet::IpNet;
use units::{PerSecond, ZoneId};

use crate::PortRange;

/// What happens to the first packet of a session, and so to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The session is opened.
    Allow,
    /// The packet is dropped without a word.
    Deny,
    /// The packet is dropped and its sender told: TCP RST, or ICMP administratively prohibited.
    Reject,
}

/// The protocols a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolMatch {
    /// Every protocol.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// `ICMPv4` in IPv4 and `ICMPv6` in IPv6.
    Icmp,
    /// An IP protocol by its number.
    Number(u8),
}

/// An ICMP type, and a code when only that one is meant. Types differ between families, so each names its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IcmpMatch {
    /// Whether this is an `ICMPv6` type.
    pub v6: bool,
    /// The type (IANA).
    pub kind: u8,
    /// The code, or every code.
    pub code: Option<u8>,
}

/// One rule of the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The operator's name for it, unique in the policy.
    pub name: String,
    /// What it decides.
    pub action: Action,
    /// Zones the packet comes from.
    pub from: Vec<ZoneId>,
    /// Zones the packet goes to; [`ZoneId::APPLIANCE`] for the appliance's own addresses.
    pub to: Vec<ZoneId>,
    /// Source prefixes, address sets already put in.
    pub source: Vec<IpNet>,
    /// Destination prefixes as the sender wrote them: for a virtual service, its own address.
    pub destination: Vec<IpNet>,
    /// The protocols.
    pub protocol: ProtocolMatch,
    /// Source ports; only with TCP and UDP.
    pub source_port: Vec<PortRange>,
    /// Destination ports; only with TCP and UDP.
    pub destination_port: Vec<PortRange>,
    /// ICMP types; only with ICMP.
    pub icmp: Vec<IcmpMatch>,
    /// Whether each new session that matches is logged.
    pub log: bool,
    /// New sessions in a second, for the rule as a whole.
    pub new_sessions_per_second: Option<PerSecond>,
    /// New sessions in a second, for one source address.
    pub new_sessions_per_source: Option<PerSecond>,
}
