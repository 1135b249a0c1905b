//! What somebody wants to have in force, on its way to be a generation: nothing is compiled or changed yet.

use std::path::Path;
use std::time::Duration;

use config::Checked;
use jiff::Timestamp;

use crate::status::{AppliedPolicy, How, Refusal, RefusalKind, Standing};

/// A configuration, who wants it and how.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The configuration.
    pub text: String,
    /// The file it came from, as its faults name it.
    pub source: String,
    /// The user who wants it.
    pub who: String,
    /// How it is wanted.
    pub how: How,
    /// The generation whose text it is, if of an earlier one.
    pub of: Option<u64>,
    /// How soon it has to be confirmed, if at all.
    pub confirm_within: Option<Duration>,
}

impl Proposal {
    /// A configuration that `who` applies for good.
    #[must_use]
    pub fn apply(text: &str, source: &str, who: &str) -> Self {
        Self {
            text: text.to_owned(),
            source: source.to_owned(),
            who: who.to_owned(),
            how: How::Apply,
            of: None,
            confirm_within: None,
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// A [`Refusal`] with every fault.
    pub fn check(&self) -> Result<Checked, Refusal> {
        let source = &self.source;
        config::load(&self.text, Path::new(source)).map_err(|faults| {
            Refusal::new(RefusalKind::PolicyInvalid, format!("{source} is not valid; nothing was changed"))
                .with_policy_faults(&faults)
        })
    }

    /// What is written down of it as `generation`, from now on.
    #[must_use]
    pub fn record(&self, generation: u64, standing: Standing) -> AppliedPolicy {
        AppliedPolicy {
            generation,
            applied_at: Timestamp::now(),
            source: self.source.clone(),
            who: self.who.clone(),
            how: self.how,
            of: self.of,
            standing,
        }
    }
}
