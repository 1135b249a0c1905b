//! The words of neighbor resolution, the same for ARP (RFC 826) and neighbor discovery (RFC 4861): what a neighbor's state
//! can be, what is seen of it on the link, and what is to be done about it. The machine itself is
//! [`Neighbors`](super::Neighbors).

use std::net::IpAddr;

use units::{Nanos, PortId};
use wire::MacAddr;

/// The state of one neighbor (RFC 4861 section 7.3.2, without its DELAY: what is in use is probed at once).
///
/// ```text
///              answer               time             in use
///  Incomplete ---------> Reachable -------> Stale ------------> Probe
///      |                     ^                |                  |  |
///      | silence             +---- answer ----|------------------+  | silence
///      v                                      | not used            v
///    Failed ----> forgotten <-----------------+                  Failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Asked for, and not answered yet.
    Incomplete,
    /// Its address is known, and it answered lately.
    Reachable,
    /// Its address is known, but nothing was heard of it lately.
    Stale,
    /// Its address is known, and it is being asked whether it is still there.
    Probe,
    /// It did not answer.
    Failed,
    /// The operator said where it is.
    Static,
}

impl State {
    /// The word of `show neighbors`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probe => "probe",
            Self::Failed => "failed",
            Self::Static => "static",
        }
    }

    /// Whether its link-layer address can be used.
    #[must_use]
    pub const fn is_resolved(self) -> bool {
        matches!(self, Self::Reachable | Self::Stale | Self::Probe | Self::Static)
    }
}

/// What was seen of a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// An ARP reply to this station, or a neighbor advertisement.
    Reply {
        /// It answers a question (the solicited flag; ARP replies to this station always do).
        solicited: bool,
        /// It may replace another link-layer address (the override flag; ARP replies always may).
        replaces: bool,
    },
    /// It asked for one of our addresses: ARP request, or neighbor solicitation with a source link-layer address.
    Request,
    /// It spoke of itself to everybody: gratuitous ARP, or an unsolicited advertisement to all nodes.
    Gratuitous,
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask for `address` on `port`.
    Solicit {
        /// The port.
        port: PortId,
        /// The address asked for.
        address: IpAddr,
        /// Ask this station only; `None` asks everybody (ARP) or the solicited-node group (ND).
        unicast: Option<MacAddr>,
    },
    /// Packets to `address` go to `mac` from now on: release those that wait.
    Resolved {
        /// The port.
        port: PortId,
        /// The neighbor.
        address: IpAddr,
        /// Its link-layer address.
        mac: MacAddr,
    },
    /// `address` does not answer, or cannot be asked for: drop the packets that wait, and ask again for the next.
    Failed {
        /// The port.
        port: PortId,
        /// The neighbor.
        address: IpAddr,
    },
    /// Another station claims one of our addresses. Nothing was changed; the operator should know.
    Conflict {
        /// The port.
        port: PortId,
        /// Our address.
        address: IpAddr,
        /// The station that claims it.
        mac: MacAddr,
    },
}

/// The sizes and times of a neighbor cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Neighbors known at one time, static ones not counted.
    pub resolved_max: usize,
    /// Neighbors asked for, or failed, at one time: the oldest makes room for a new one.
    pub unresolved_max: usize,
    /// New neighbors asked for in a second; those beyond fail at once.
    pub new_per_second: u32,
    /// Questions asked of everybody, and before that of a known neighbor alone (`MAX_MULTICAST_SOLICIT`).
    pub attempts: u32,
    /// Between two questions (`RETRANS_TIMER`).
    pub retransmit: Nanos,
    /// For how long an answer counts, give or take half at random (`REACHABLE_TIME`).
    pub reachable: Nanos,
    /// For how long a neighbor that did not answer is not asked for again.
    pub failed_hold: Nanos,
    /// For how long a neighbor that is not used is remembered.
    pub forget: Nanos,
}

impl Default for Limits {
    /// RFC 4861 section 10 where it has a word; room for two full /20 links and as many questions as a link answers in a
    /// blink.
    fn default() -> Self {
        Self {
            resolved_max: 8_192,
            unresolved_max: 1_024,
            new_per_second: 2_000,
            attempts: 3,
            retransmit: Nanos::from_secs(1),
            reachable: Nanos::from_secs(30),
            failed_hold: Nanos::from_secs(1),
            forget: Nanos::from_secs(600),
        }
    }
}

/// One neighbor, as `show neighbors` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// The port it is behind.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// Its state.
    pub state: State,
    /// Its link-layer address, as far as known.
    pub mac: Option<MacAddr>,
    /// When it was last confirmed, or first asked for.
    pub confirmed: Nanos,
    /// When packets were last sent to it.
    pub used: Nanos,
}
