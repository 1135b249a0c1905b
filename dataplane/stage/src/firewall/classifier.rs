//! The one door to rule classification. Two implementations stand behind it: [`Linear`](super::Linear) here, the plain
//! search that says what is right, and the `dpdk` crate's over `rte_acl`, which answers the same faster.

use core::fmt;

use units::RuleId;

use super::Candidate;

/// Finds the first rule that matches. Built in management when a policy is compiled, never changed, asked by every
/// worker.
pub trait Classifier: Send + Sync + fmt::Debug {
    /// Writes to each place of `matches` the first rule that matches the candidate in the same place, or `None`; when
    /// the slices differ in length, the shorter one says how many are asked. At most [`units::limits::BURST_MAX`] at a
    /// time.
    ///
    /// On the packet path: no allocation, no lock, no panic.
    fn classify(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]);

    /// Bytes of memory it holds.
    fn memory(&self) -> usize;
}
