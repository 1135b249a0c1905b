//! Limits that sessions are opened under: token buckets for new ones, one for a rule and one for each source of a rule; how
//! many a source of a zone may have open. Shared by all workers, without locks.

pub mod open_sessions;
pub mod per_source;
pub mod token_bucket;

pub use open_sessions::{OpenSessions, SourceLimits};
pub use per_source::PerSource;
pub use token_bucket::{Rate, TokenBucket};
