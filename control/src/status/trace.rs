//! The documents of `trace`: one packet's way in words, each decision with what it rests on.

use std::net::IpAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a trace tells, one document a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TraceNews {
    /// The workers have been told: packets are followed from now on.
    Begin,
    /// A packet that was wanted.
    Packet(Box<TraceStatus>),
    /// The trace is over; nothing follows.
    End(TraceEnd),
}

/// The end of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceEnd {
    /// Packets told of.
    pub packets: u64,
    /// Packets that were wanted and could not be written down in time. Their treatment was not affected.
    pub lost: u64,
    /// `count`: as many as were wanted. `time`: the time was over. `stopped`: the appliance stopped.
    pub why: String,
}

/// One packet's way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceStatus {
    /// When it came (RFC 3339, UTC); null for a packet that was only asked about.
    pub at: Option<Timestamp>,
    /// The worker that decided; null for a packet that was only asked about.
    pub worker: Option<u16>,
    /// The port it came by.
    pub port: String,
    /// That port's zone.
    pub zone: String,
    /// The policy that was in force.
    pub generation: u64,
    /// What it says of itself; null for bytes that are no packet.
    pub packet: Option<PacketStatus>,
    /// What was decided, in order.
    pub steps: Vec<TraceStep>,
    /// `forwarded`, `punted`, `consumed`, `dropped`, `waits_for_neighbor` or `waits_for_fragments`.
    pub outcome: String,
    /// The reason of a drop, as in `show drops`.
    pub reason: Option<String>,
    /// The outcome in a sentence.
    pub sentence: String,
    /// What the answer would depend on, of a packet that was only asked about: state that was not asked or changed.
    #[serde(default)]
    pub depends: Vec<String>,
}

/// What a packet says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PacketStatus {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or the protocol's number.
    pub protocol: String,
    /// Source address; null for what is neither IP nor ARP.
    pub source: Option<IpAddr>,
    /// Source port, or the identifier of an echo.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Bytes of the frame.
    pub length: usize,
    /// TTL or hop limit.
    pub hop_limit: Option<u8>,
    /// The flags of TCP, as `SYN|ACK`.
    pub flags: Option<String>,
}

/// One decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceStep {
    /// `receive`, `parse`, `tunnel`, `session`, `firewall`, `balancer`, `translate`, `route` or `exit`.
    pub stage: String,
    /// The decision in words.
    pub text: String,
    /// The firewall's rule; absent for its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `allow`, `deny` or `reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The state of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The virtual service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The port it left through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// The MAC it left for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// A packet that is only asked about: an element of the body of `POST trace/packets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supposed {
    /// The packet in words: `udp 192.0.2.1:1234 > 198.51.100.10:80 port outside`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// The frame in hexadecimal digits, from the Ethernet header on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// The port that such a frame comes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}
