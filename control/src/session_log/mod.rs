//! Records of sessions on their way to a collector, as IPFIX messages or as lines of JSON.
//!
//! ```text
//! ring of a worker -> entry -> ipfix | json -> collector
//! ```
//!
//! - `entry`: what one record tells: that a session opened, that it ended, how it is rewritten.
//! - `element` and `ipfix`: the same in the words and messages of RFC 7011.
//! - `json`: the same as lines.
//! - `collector`: the socket, which never waits.
//! - `exporter`: the thread that empties the rings as fast as the collector takes it. When it takes nothing the rings fill, and the
//!   workers count what finds no place: nothing else holds records.
//! - `tally`: what of it is counted, for `show` and metrics.

mod collector;
mod element;
mod entry;
mod exporter;
mod ipfix;
mod json;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use exporter::place;
pub use exporter::{Exporter, Wanted, write};
pub use tally::{Reach, Tally};

/// What is sent as one: a message of IPFIX, or some lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    bytes: Vec<u8>,
    /// How many entries it tells.
    entries: u64,
}
