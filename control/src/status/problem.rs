//! Why a call was refused: in one sentence, of a policy with every fault, and as problem details on the wire (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a refusal is about: decides the HTTP status and lets scripts tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request itself makes no sense (400).
    BadRequest,
    /// The caller's role does not allow it (403).
    Forbidden,
    /// Nothing has that name (404).
    NotFound,
    /// There is such a call, with another method (405).
    MethodNotAllowed,
    /// The body is longer than any that makes sense (413).
    TooLarge,
    /// The object is not any more what the caller believes it to be (412).
    PreconditionFailed,
    /// What exists is changed only by who says which state of it is meant: `If-Match` (428).
    PreconditionRequired,
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What it is about.
    pub kind: RefusalKind,
    /// One sentence.
    pub message: String,
    /// Every fault of a policy, as `check` prints it.
    pub faults: Vec<String>,
    /// The same, taken apart.
    pub errors: Vec<PolicyFault>,
}

impl Refusal {
    /// A refusal of one sentence.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), faults: Vec::new(), errors: Vec::new() }
    }

    /// With every fault of the policy.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<String>) -> Self {
        self.faults = faults;
        self
    }

    /// With every fault of the policy, in words and taken apart.
    #[must_use]
    pub fn with_policy_faults(mut self, faults: &config::Faults) -> Self {
        self.faults = faults.as_slice().iter().map(ToString::to_string).collect();
        self.errors = faults.as_slice().iter().map(PolicyFault::from).collect();
        self
    }
}

/// One thing that is wrong in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyFault {
    /// What kind of fault it is: `unknown-key`, `duplicate-name`, ... Never renamed.
    pub code: String,
    /// `error`, or `warning`, which alone refuses nothing.
    pub severity: String,
    /// What is wrong.
    pub detail: String,
    /// What would be right; empty when that says it all.
    pub advice: String,
    /// The key: `firewall.rule[3].source[0]`; empty when it concerns the file as a whole.
    pub path: String,
    /// Where in the text, from 1; null when it concerns the file as a whole.
    pub line: Option<u64>,
    /// The column, in characters, from 1.
    pub column: Option<u64>,
}

impl From<&config::Fault> for PolicyFault {
    fn from(fault: &config::Fault) -> Self {
        Self {
            code: fault.code.to_owned(),
            severity: fault.severity.to_string(),
            detail: fault.message.clone(),
            advice: fault.advice.clone(),
            path: fault.path.clone(),
            line: fault.place.map(|place| place.line as u64),
            column: fault.place.map(|place| place.column as u64),
        }
    }
}

/// A refusal on the wire: problem details (RFC 9457), as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:millrace:` and the kind.
    #[serde(rename = "type")]
    pub urn: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// One sentence: what is wrong here, and what to do.
    pub detail: String,
    /// What it is about, for programs.
    pub kind: RefusalKind,
    /// Every fault of a policy, as `check` prints it.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The same, taken apart.
    #[serde(default)]
    pub errors: Vec<PolicyFault>,
}

impl RefusalKind {
    /// The HTTP status, the word of the problem's type and its title.
    #[must_use]
    pub const fn meaning(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "The request makes no sense"),
            Self::Forbidden => (403, "forbidden", "The role does not allow it"),
            Self::NotFound => (404, "not-found", "Nothing has that name"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The call has another method"),
            Self::NeedsRestart => (409, "needs-restart", "Only a restart can change that"),
            Self::Conflict => (409, "conflict", "It does not fit what is in force"),
            Self::PreconditionFailed => (412, "precondition-failed", "It has changed meanwhile"),
            Self::TooLarge => (413, "too-large", "The body is too long"),
            Self::PolicyInvalid => (422, "policy-invalid", "The policy is not valid"),
            Self::PreconditionRequired => (428, "precondition-required", "Say which state is meant"),
            Self::Failed => (500, "failed", "The appliance could not do it"),
            Self::Busy => (503, "busy", "Ask again in a moment"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, word, title) = refusal.kind.meaning();
        Self {
            urn: format!("urn:millrace:{word}"),
            title: title.to_owned(),
            status,
            detail: refusal.message,
            kind: refusal.kind,
            faults: refusal.faults,
            errors: refusal.errors,
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let Problem { kind, detail, faults, errors, .. } = problem;
        Self { kind, message: detail, faults, errors }
    }
}
