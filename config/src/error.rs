//! Faults: what is wrong in a configuration, where, and what would be right.
//!
//! `load` collects them all; the command line prints them, one a line, and the API sends the same text. The code of a
//! fault is for scripts and never renamed.

use core::fmt;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted; the operator most likely meant something else.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in the file, as an editor counts: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault it is: `unknown-key`, `duplicate-name`, ... Never renamed.
    pub code: &'static str,
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// The file it is in, as the operator named it.
    pub file: String,
    /// Where in the file; `None` when it concerns the file as a whole.
    pub place: Option<Place>,
    /// The TOML path: `firewall.rule[3].source[0]`; empty when there is none.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right; empty when the message says it all.
    pub advice: String,
    /// The other place that it contradicts.
    pub other: Option<Place>,
}

impl fmt::Display for Fault {
    /// `file:line:column: error[code]: what is wrong; what would be right (path)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {}[{}]: {}", self.severity, self.code, self.message)?;
        if let Some(other) = self.other {
            write!(f, " (see {}:{}:{})", self.file, other.line, other.column)?;
        }
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        if !self.path.is_empty() {
            write!(f, " ({})", self.path)?;
        }
        Ok(())
    }
}

/// Why a configuration is refused: every fault of it, warnings too, in the order of the file; at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self(faults)
    }

    /// The faults, in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    /// One fault a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
