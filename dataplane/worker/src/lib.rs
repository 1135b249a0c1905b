//! One worker: it polls queues, finds sessions, opens new ones, and sends packets on. Generic over `frame::Nic`, so that the
//! same code runs on DPDK's queues and on the plain memory of the tests.
//!
//! Everything reachable from [`Worker::turn`] is the packet path: no allocation, no lock, no system call, no log line, no
//! clock read but the one at the beginning of a turn. What a worker says goes through bounded rings to control.
#![deny(unsafe_code)]

mod across;
mod across_error;
mod act;
mod astray;
mod beside;
mod binding;
mod burst;
mod capture;
mod challenge;
mod clock;
mod command;
mod counters;
mod decapsulate;
mod depart;
mod dice;
mod end;
mod error_limit;
mod establish;
mod exchange;
mod exits;
mod family;
mod flow;
mod fragments;
mod hide;
mod histogram;
mod icmp;
mod identification;
mod image;
mod in_line;
mod inbound;
mod introduce;
mod join;
mod journey;
mod kernel_rings;
mod lane;
mod local;
mod made;
mod nat64;
mod newcomer;
mod next_hop;
mod open;
mod opener;
mod originate;
mod packet;
mod pair;
mod pass;
mod poll;
mod ports;
mod processor;
mod session_log;
mod shard;
mod snapshot;
mod source_sessions;
mod splice;
mod splice_image;
mod steer;
mod steering;
mod stopwatch;
mod sweep;
mod tag;
mod take_up;
mod talkers;
mod tenants;
mod tiering;
mod tiers;
mod trace;
mod treat;
mod tunnel;
mod tunnel_error;
mod watch;
mod write_down;
mod zone_map;

pub use capture::{CaptureOrder, Catch, Caught, FrameFilter, Side};
pub use clock::Clock;
pub use command::{Command, Event, ShortFrame};
pub use counters::{Counter, Measured, StageCost, WorkerCounters};
pub use exchange::{Exchange, Exchanged};
pub use exits::{Exits, KernelSide};
pub use histogram::Histogram;
pub use image::{Course, Lease, SessionImage, VERSION as IMAGE_VERSION};
pub use kernel_rings::KernelRings;
pub use open::Bound;
pub use packet::Handover;
pub use poll::{HandoverRing, Worker, handover_ring};
pub use ports::{Output, QueuePair};
pub use session_log::{Ending, LogEvents, LogRecord, SessionLog, Turn};
pub use shard::Shard;
pub use snapshot::{Behind, FragmentBounds, Midstream, Pair, PortFacts, Quiet, Snapshot};
pub use splice_image::SpliceImage;
pub use steering::Steering;
pub use sweep::{Cursor, Dump, Ends, Flush, SessionRecord};
pub use take_up::{NotTakenUp, Places};
pub use tenants::{NoNumber, Tenant, Tenants};
pub use tiering::Tiering;
pub use trace::{
    Came, DEPARTURES_MAX, Decision, Departure, Fate, Leads, Met, PacketMatch, PacketTerm, ServiceAsked, TERMS_MAX,
    Trace, TraceOrder, TraceRecord,
};
pub use write_down::Block;
