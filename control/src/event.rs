//! Everything that can wake the control thread: requests of management, events of workers, and time. Two closed sets and a
//! tick; what is not here cannot happen to it.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::channel::Sender;
use stage::balancer::Backend;
use stage::firewall::{Action, Candidate};
use stage::forward::Neighbor;
use units::{Generation, Nanos, PortId, RuleId, ServiceId};
use wire::MacAddr;
use worker::{SessionRecord, Snapshot};

use crate::steward::{Capturing, Tracing};

/// What management asks of control. Answers come through the channel in the request; whoever no longer waits has dropped it.
#[derive(Debug)]
pub enum Request {
    /// Put these tables in force; the answer comes when every worker has moved on.
    Publish(Publication),
    /// Copy the sessions of all workers, batch by batch; an empty batch says that these were all. A channel that closes
    /// without one was cut short. Walks wait for each other.
    Sessions(Sender<Vec<SessionRecord>>),
    /// End the sessions of these backends; the answer is how many there were. Flushes wait for each other.
    Flush(Arc<[Arc<Backend>]>, Sender<u64>),
    /// Tell the ways of packets as they pass.
    Trace(Box<Tracing>),
    /// Copy frames of a port as they pass.
    Capture(Box<Capturing>),
    /// Have every worker give up the device of this port, and answer at its exchange.
    Unplug(PortId),
    /// Have every worker take the device for this port that lies at its exchange, and answer there.
    Plug(PortId),
    /// The port has another cable, and carrier: tell the stations there who we are, and ask who they are.
    Greet(PortId),
    /// The neighbor cache.
    Neighbors(Sender<Vec<Neighbor>>),
    /// Finish.
    Stop,
}

/// Tables to put in force, and what control itself needs to know of them.
#[derive(Debug)]
pub struct Publication {
    /// The tables.
    pub snapshot: Arc<Snapshot>,
    /// Neighbors the operator has placed.
    pub neighbors: Vec<(PortId, IpAddr, MacAddr)>,
    /// Backends the policy before had and this one has not: kept until no worker names them.
    pub removed: Vec<Arc<Backend>>,
    /// Answered when every worker has moved on.
    pub done: Sender<()>,
}

/// What control passes on for the log; written by management, so that a slow log never holds up control.
#[derive(Clone, Debug)]
pub enum Note {
    /// A rule with `log` decided.
    Rule {
        /// When, since start.
        at: Nanos,
        /// The policy.
        generation: Generation,
        /// The rule; `None` for the default.
        rule: Option<RuleId>,
        /// What was decided.
        action: Action,
        /// The packet.
        candidate: Candidate,
    },
    /// Another station claims an address of ours.
    Conflict {
        /// The port it was seen on.
        port: PortId,
        /// The address.
        address: IpAddr,
        /// The station.
        mac: MacAddr,
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
}
