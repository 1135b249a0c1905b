//! Token buckets for new sessions: one for a rule, one for each source of a rule. Shared by all workers, without locks.

pub mod per_source;
pub mod token_bucket;

pub use per_source::PerSource;
pub use token_bucket::{Rate, TokenBucket};
