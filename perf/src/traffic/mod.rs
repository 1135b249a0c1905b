//! Traffic: who sends (`clients`), what a frame looks like (`frame`, `size`), in which order they come (`draw`), and the
//! capture it is kept in (`pcap`, `capture`). Everything is the same for the same parameters, run after run.

mod capture;
mod clients;
mod draw;
mod frame;
mod pcap;
mod size;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use capture::{Capture, Traffic};
pub use clients::{CLIENT_PORTS, Clients};
pub use draw::{Draw, Order};
pub use frame::Frames;
pub use pcap::{Reader, write};
pub use size::{FCS, Size};

/// The address family of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "4" | "v4" | "ipv4" => Ok(Self::V4),
            "6" | "v6" | "ipv6" => Ok(Self::V6),
            _ => Err("write ipv4 or ipv6".to_owned()),
        }
    }
}

/// The transport protocol of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP: data segments of connections already under way.
    Tcp,
}

impl Protocol {
    /// The protocol's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Bytes of its header, without options.
    pub(crate) const fn header_bytes(self) -> usize {
        match self {
            Self::Udp => 8,
            Self::Tcp => 20,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "udp" => Ok(Self::Udp),
            "tcp" => Ok(Self::Tcp),
            _ => Err("write udp or tcp".to_owned()),
        }
    }
}
