//! What control tells a worker, and what a worker tells control: two closed sets of messages over bounded rings.
//!
//! Everything a worker would have to allocate or free for a message arrives in the command and leaves in an event.

use std::net::IpAddr;
use std::sync::Arc;

use stage::firewall::{Action, Candidate};
use stage::forward::Evidence;
use units::{Generation, Nanos, PortId, RuleId, ServiceId};
use wire::MacAddr;

use crate::capture::{Catch, FrameFilter};
use crate::snapshot::Snapshot;
use crate::sweep::{Dump, Flush};
use crate::trace::Trace;

/// A short frame control wants sent: solicitations and announcements, 90 bytes at most.
#[derive(Clone, Copy, Debug)]
pub struct ShortFrame {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl ShortFrame {
    /// Room for the longest of them.
    pub const CAPACITY: usize = 96;

    /// A frame of these bytes; `None` when they are too many.
    #[must_use]
    pub fn new(frame: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::CAPACITY];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(Self { bytes, len: u8::try_from(frame.len()).ok()? })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// From control to a worker.
#[derive(Debug)]
pub enum Command {
    /// These tables are in force from the next burst on. `turns` are the round-robin positions, one a service.
    Publish {
        /// The tables.
        snapshot: Arc<Snapshot>,
        /// Room for the positions.
        turns: Box<[u32]>,
    },
    /// The neighbor at `address` behind `port` answers at this MAC, or at none.
    Neighbor {
        /// The port.
        port: PortId,
        /// The address asked for.
        address: IpAddr,
        /// Its MAC; `None` when it did not answer.
        mac: Option<MacAddr>,
    },
    /// Send this frame.
    Transmit {
        /// Through this port.
        port: PortId,
        /// The frame.
        frame: ShortFrame,
    },
    /// Give up the device of this port, at the [`Exchange`](crate::Exchange).
    Unplug {
        /// The port.
        port: PortId,
    },
    /// Take the device for this port that lies at the [`Exchange`](crate::Exchange); where none does, send through another
    /// worker's again.
    Plug {
        /// The port.
        port: PortId,
    },
    /// Copy sessions into this buffer and send it back.
    Dump(Box<Dump>),
    /// End sessions.
    Flush(Flush),
    /// Write down the ways of packets in this buffer and send it back.
    Trace(Box<Trace>),
    /// Nobody wants to know any more.
    EndTrace {
        /// The number of the request.
        request: u64,
    },
    /// Copy frames into this buffer and send it back.
    Capture(Box<Catch>),
    /// Nobody wants frames any more.
    EndCapture {
        /// The number of the request.
        request: u64,
    },
}

/// From a worker to control.
#[derive(Debug)]
pub enum Event {
    /// A packet needs this next hop.
    Resolve {
        /// The port it is behind.
        port: PortId,
        /// Its address.
        address: IpAddr,
    },
    /// A neighbor was seen.
    Seen {
        /// The port it is behind.
        port: PortId,
        /// Its address.
        address: IpAddr,
        /// Its MAC; an advertisement may leave it out.
        mac: Option<MacAddr>,
        /// What showed it.
        evidence: Evidence,
    },
    /// A neighbor has been sent to lately.
    Used {
        /// The port it is behind.
        port: PortId,
        /// Its address.
        address: IpAddr,
    },
    /// A station claims an address of ours (RFC 5227 section 2.4, RFC 4862 section 5.4.4).
    Conflict {
        /// The port it was seen on.
        port: PortId,
        /// The address.
        address: IpAddr,
        /// Who claims it.
        mac: MacAddr,
    },
    /// This worker has moved on from these tables.
    Retired {
        /// The tables before.
        snapshot: Arc<Snapshot>,
        /// Their round-robin positions.
        turns: Box<[u32]>,
    },
    /// A rule with `log` decided about a session's first packet.
    Log {
        /// When.
        at: Nanos,
        /// The policy it was judged by.
        generation: Generation,
        /// The rule; `None` for the default.
        rule: Option<RuleId>,
        /// What was decided.
        action: Action,
        /// The packet.
        candidate: Candidate,
    },
    /// A service asks its clients for SYN cookies from now on, or no longer.
    SynCookies {
        /// The policy its number belongs to.
        generation: Generation,
        /// The service.
        service: ServiceId,
        /// Whether it asks for them.
        engaged: bool,
        /// Its sessions half open at that moment.
        half_open: u32,
    },
    /// The buffer of [`Command::Dump`], filled.
    Dumped(Box<Dump>),
    /// A trace or a capture has begun here: no packet that comes from now on is missed.
    Watching {
        /// The number of the request.
        request: u64,
    },
    /// A buffer of [`Command::Trace`], with what was found out.
    Traced(Box<Trace>),
    /// A buffer of [`Command::Capture`], with what was copied.
    Captured(Box<Catch>),
    /// The filter of a capture that is over, for control to free.
    Released(Box<dyn FrameFilter>),
    /// A flush is over.
    Flushed {
        /// What was asked.
        flush: Flush,
        /// Sessions ended.
        sessions: u64,
    },
}
