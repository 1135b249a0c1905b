//! Metrics for Prometheus and whatever else reads `OpenMetrics`: what `show` shows, as families of numbers with names that
//! never change. Labels name what the operator has configured (ports, workers, services, backends, rules, pools) and the
//! reasons of drops, never a session or a client.
//!
//! - [`families`]: the documents of `show` as families.
//! - [`exposition`]: families as text, in either format.
//!
//! Runs in management, for each scrape anew: counters are read where workers keep them, and nothing is kept.

pub mod exposition;
pub mod families;

pub use exposition::{Format, text};
pub use families::families;
