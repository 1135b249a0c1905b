//! NAT64 (RFC 6146): IPv6 clients that ask for IPv4 servers. Which packets a rule takes, and the rewriting of packets from
//! one version to the other (RFC 7915) with IPv4 addresses embedded in IPv6 ones (RFC 6052).
//!
//! - `prefix`: addresses into addresses, and which of them may be asked for.
//! - `transport`: ports, identifiers and checksums of TCP, UDP and echo.
//! - `header`: IP headers, those of fragments too.
//! - `error`: ICMP errors, with the packet they quote.
//! - `rules`: the operator's rules, compiled.
//!
//! Headers are written in front of what stays where it is: the transport's bytes are never moved. IPv6 headers are longer,
//! so a frame must have grown in front before one is written; what is too long afterwards is cut from the front by the
//! caller. Pure functions of bytes and facts, called by workers.

pub mod error;
pub mod header;
pub mod prefix;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod transport;

pub use error::{Mtus, error_growth, error_to_v4, error_to_v6};
pub use header::Carried;
pub use prefix::Nat64Prefix;
pub use rules::{Nat64, Nat64Rule};
pub use transport::{Segment, transport_to_v4, transport_to_v6};

/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
const IPV4: usize = 20;
/// Bytes of an IPv6 header without extensions.
const IPV6: usize = 40;
/// Bytes of IPv6's fragment header.
const FRAGMENT: usize = 8;
/// IANA's numbers of the two ICMPs.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The smallest MTU of IPv6 (RFC 8200 section 5).
pub const MTU_V6_MIN: u16 = 1_280;
/// What an IPv6 header is longer by than an IPv4 header without options.
pub const LONGER: u16 = 20;

/// The number of a transport on the other side.
const fn protocol_to_v6(protocol: u8) -> u8 {
    if protocol == ICMP { ICMPV6 } else { protocol }
}

const fn protocol_to_v4(protocol: u8) -> u8 {
    if protocol == ICMPV6 { ICMP } else { protocol }
}
