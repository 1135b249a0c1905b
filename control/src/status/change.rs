//! What is asked of an appliance that changes it, what became of that, and why it was refused; the generations that came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What brought a policy into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `millrace rollback`.
    Rollback,
    /// A policy that was not confirmed in time, or could not be written down: the one before it came back.
    Return,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The earlier generation whose text it has, after `reload`, `rollback` and `return`.
    #[serde(default)]
    pub of: Option<u64>,
    /// What became of it.
    #[serde(default)]
    pub standing: Standing,
}

/// `show policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Backends concerned.
    pub backends: u64,
    /// Sessions concerned: still running when drained or put back, ended when flushed.
    pub sessions: u64,
}

/// What a refusal is about: decides the HTTP status and lets scripts tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request itself makes no sense (400).
    BadRequest,
    /// Nothing has that name (404).
    NotFound,
    /// The policy does not validate, or does not fit (422).
    PolicyInvalid,
    /// The policy changes what only a restart can change (409).
    NeedsRestart,
    /// What is asked does not fit what is in force: a policy waits to be confirmed, or none does (409).
    Conflict,
    /// Another change is under way, or the appliance is starting or stopping (503).
    Busy,
    /// The appliance could not do it (500).
    Failed,
}

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What it is about.
    pub kind: RefusalKind,
    /// One sentence.
    pub message: String,
    /// Every fault of a policy, as `check` prints it.
    #[serde(default)]
    pub faults: Vec<String>,
}

impl Refusal {
    /// A refusal of one sentence.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), faults: Vec::new() }
    }

    /// With every fault of the policy.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<String>) -> Self {
        self.faults = faults;
        self
    }
}

/// The body of a `drain`: `{"kind": "service" or "backend", "name": "...", "undo": true or false}`; `undo` may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Whom it concerns.
    #[serde(flatten)]
    pub target: Target,
    /// Put back what was drained, instead.
    #[serde(default)]
    pub undo: bool,
}

/// Whom `drain` and `flush` concern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
pub enum Target {
    /// Every backend of the service with this name.
    Service(String),
    /// The backend with this name: `service/backend`, or the backend's name alone where only one service has it.
    Backend(String),
}
