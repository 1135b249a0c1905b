//! What is asked of an appliance that changes it, and what became of that; the generations that came of it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What brought a policy into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// The file named at the start.
    #[default]
    Start,
    /// `millrace apply`, or the API.
    Apply,
    /// SIGHUP: the file named at the start, read again.
    Sighup,
    /// A file of the policy was read again.
    Reload,
    /// Objects of the one before were changed one by one, through the API.
    Amend,
    /// `millrace rollback`.
    Rollback,
    /// A policy that was not confirmed in time, or could not be written down: the one before it came back.
    Return,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is coming into force, or waits to be confirmed; a restart does not come up with it.
    Pending,
    /// It was in force, for good until the next.
    #[default]
    Committed,
    /// It was taken back.
    Withdrawn,
}

/// One policy that is or was in force: a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedPolicy {
    /// Its number.
    pub generation: u64,
    /// When it was put in force (RFC 3339, UTC).
    pub applied_at: Timestamp,
    /// The file it came from.
    pub source: String,
    /// The user who did it.
    #[serde(default)]
    pub who: String,
    /// What brought it into force.
    #[serde(default)]
    pub how: How,
    /// The earlier generation whose text it has, after `reload`, `rollback` and `return`; after `amend` the one whose objects
    /// were changed.
    #[serde(default)]
    pub of: Option<u64>,
    /// What became of it.
    #[serde(default)]
    pub standing: Standing,
}

/// `show policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// The policy in force.
    #[serde(flatten)]
    pub current: AppliedPolicy,
    /// Milliseconds until it is taken back unless it is confirmed; null where nothing waits for that.
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
    /// The others that are kept, newest first.
    pub history: Vec<AppliedPolicy>,
}

/// What `apply`, `rollback` or `confirm` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The generation in force.
    pub generation: u64,
    /// Whether it was in force before: the text is the same.
    #[serde(default)]
    pub unchanged: bool,
    /// Milliseconds within which it has to be confirmed.
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
    /// What is odd about the policy, one finding a string.
    pub warnings: Vec<String>,
}

/// What `drain`, `drain --undo` or `flush` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Backends concerned.
    pub backends: u64,
    /// Sessions concerned: still running when drained or put back, ended when flushed.
    pub sessions: u64,
}

/// The body of a `drain`: `{"kind": "service" or "backend", "name": "...", "undo": true or false}`; `undo` may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// Whom it concerns.
    #[serde(flatten)]
    pub target: Target,
    /// Put back what was drained, instead.
    #[serde(default)]
    pub undo: bool,
}

/// Whom `drain` and `flush` concern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
pub enum Target {
    /// Every backend of the service with this name.
    Service(String),
    /// The backend with this name: `service/backend`, or the backend's name alone where only one service has it.
    Backend(String),
}
