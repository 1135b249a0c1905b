//! Headers as views over borrowed bytes, one protocol a file; [`dissect`] reads a whole frame into facts, [`emit`] writes
//! the few packets the appliance originates. Pure functions of bytes: no `unsafe`, no state, and no input may panic.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
mod dissect;
pub mod emit;
pub mod ethernet;
mod facts;
mod flags;
pub mod fragment;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_ext;
mod mac;
mod malformed;
mod martian;
pub mod ndp;
mod packet;
#[cfg(test)]
mod packets;
pub mod plain;
mod quote;
mod seq;
pub mod tcp;
pub mod tcp_options;
pub mod toeplitz;
mod transport;
pub mod udp;
pub mod vlan;

pub use dissect::{Verify, claimed, dissect};
pub use facts::{
    Arp, Content, Endpoints, Extensions, Facts, Fragment, Frame, Link, Quote, QuotedTransport, Tcp, Transport,
};
pub use flags::TcpFlags;
pub use mac::{MacAddr, MacAddrSyntax, solicited_node};
pub use malformed::Malformed;
pub use plain::Plain;
pub use quote::read_inside;
pub use seq::SeqNumber;
pub use tcp_options::TcpOptions;
