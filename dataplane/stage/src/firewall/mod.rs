//! The stateful firewall: rules as written, compiled rulesets, and the verdict on a session's first packet.
//!
//! [`Rule`] says what an operator means and [`Linear`] what it matches; [`expand()`] flattens rules for faster
//! classifiers, which stand behind [`Classifier`], and [`divide`] shares them out to tables; [`Ruleset`] is what workers ask,
//! [`Staged`] what they count beside it; [`shadowed`] is for `check`.

pub mod candidate;
pub mod classifier;
pub mod division;
pub mod expand;
pub mod linear;
mod normal;
pub mod rule;
pub mod ruleset;
pub mod shadow;
pub mod staged;
#[cfg(test)]
mod tests;

pub use candidate::Candidate;
pub use classifier::Classifier;
pub use division::{Reach, divide, split};
pub use expand::{Entries, Entry, ExpandError, expand};
pub use linear::Linear;
pub use rule::{Action, IcmpMatch, ProtocolMatch, Rule};
pub use ruleset::{Judgement, Limited, RuleCounts, Ruleset};
pub use shadow::{Shadowed, shadowed};
pub use staged::{Staged, StagedCounts};
