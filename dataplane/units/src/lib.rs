//! Words every other crate speaks in: identifiers, times, rates, sizes, and every capacity of the data plane.
//!
//! Nothing here does work; types wrap private integers so that a port is never taken for a queue, nor a tick for a
//! nanosecond. No `unsafe`, no dependency.
#![forbid(unsafe_code)]

pub mod ids;
pub mod limits;
pub mod rate;
pub mod time;

pub use ids::{BackendId, Generation, PortId, QueueId, RuleId, ServiceId, TenantId, WorkerId, ZoneId};
pub use rate::PerSecond;
pub use time::{Nanos, Tick};
