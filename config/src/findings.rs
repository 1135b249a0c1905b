//! What is collected while a text is read: findings at byte offsets, made into [`Fault`]s with lines and columns once
//! at the end.
//!
//! Shared by every reader of a section through `&Findings`; nothing here decides what is right.

use core::cell::{Cell, RefCell};
use std::path::Path;

use crate::error::{Fault, Severity};
use crate::forms::Asked;
use crate::lines::Lines;

/// Findings that are kept in full; beyond, they are counted. Bounds what a broken file can cost.
const FINDINGS_MAX: usize = 10_000;

/// Where something stands: its TOML path and the offset of its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) path: String,
    pub(crate) offset: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) spot: Spot,
}

/// One fault before lines are counted.
#[derive(Debug)]
pub(crate) struct Finding {
    code: &'static str,
    severity: Severity,
    spot: Option<Spot>,
    message: String,
    advice: String,
    other: Option<usize>,
}

impl Finding {
    pub(crate) fn error(code: &'static str, spot: &Spot, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, Some(spot.clone()), message.into())
    }

    pub(crate) fn warning(code: &'static str, spot: &Spot, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, Some(spot.clone()), message.into())
    }

    /// An error of the file as a whole.
    pub(crate) fn whole(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, None, message.into())
    }

    fn new(code: &'static str, severity: Severity, spot: Option<Spot>, message: String) -> Self {
        Self { code, severity, spot, message, advice: String::new(), other: None }
    }

    /// With a word on what would be right.
    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// With the other place it contradicts.
    pub(crate) fn contradicts(mut self, other: &Spot) -> Self {
        self.other = Some(other.offset);
        self
    }

    fn into_fault(self, lines: &Lines<'_>, file: &str) -> Fault {
        Fault {
            code: self.code,
            severity: self.severity,
            file: file.to_owned(),
            place: self.spot.as_ref().map(|spot| lines.place(spot.offset)),
            path: self.spot.map_or_else(String::new, |spot| spot.path),
            message: self.message,
            advice: self.advice,
            other: self.other.map(|offset| lines.place(offset)),
        }
    }
}

/// All findings of one text.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: RefCell<Vec<Finding>>,
    errors: Cell<usize>,
    left_out: Cell<usize>,
    /// Listens to what the readers ask for, where that is of interest.
    pub(crate) asked: Option<Asked>,
}

impl Findings {
    /// Findings that listen to what the readers ask for.
    pub(crate) fn listening() -> Self {
        Self { asked: Some(Asked::default()), ..Self::default() }
    }

    pub(crate) fn report(&self, finding: Finding) {
        if finding.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() < FINDINGS_MAX {
            kept.push(finding);
        } else {
            self.left_out.set(self.left_out.get() + 1);
        }
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// The faults in the order of the file; those of the whole file come first.
    pub(crate) fn into_faults(self, text: &str, file: &Path) -> Vec<Fault> {
        let lines = Lines::new(text);
        let file = file.display().to_string();
        let mut kept = self.kept.into_inner();
        kept.sort_by_key(|finding| finding.spot.as_ref().map(|spot| spot.offset));
        let mut faults: Vec<_> = kept.into_iter().map(|finding| finding.into_fault(&lines, &file)).collect();
        if self.left_out.get() > 0 {
            let message = format!("{} further faults are not shown", self.left_out.get());
            let last = Finding::whole("too-many-faults", message).advice("mend those above first");
            faults.push(last.into_fault(&lines, &file));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_the_order_of_the_file() {
        let findings = Findings::default();
        let spot = |offset| Spot { path: "a".into(), offset };
        findings.report(Finding::warning("second", &spot(3), "b"));
        findings.report(Finding::error("first", &spot(1), "a").contradicts(&spot(3)));
        assert_eq!(findings.errors(), 1);
        let faults = findings.into_faults("a\n\nb", Path::new("f.toml"));
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["f.toml:1:2: error[first]: a (see f.toml:3:1) (a)", "f.toml:3:1: warning[second]: b (a)"]);
    }

    #[test]
    fn beyond_the_limit_findings_are_counted() {
        let findings = Findings::default();
        for _ in 0..FINDINGS_MAX + 5 {
            findings.report(Finding::whole("x", "y"));
        }
        let faults = findings.into_faults("", Path::new("f"));
        assert_eq!(faults.len(), FINDINGS_MAX + 1);
        assert!(faults.last().unwrap().message.starts_with("5 further"));
    }
}
