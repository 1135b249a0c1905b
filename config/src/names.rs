//! Names that must be unique among their kind.

use std::collections::HashMap;

use crate::findings::{At, Finding, Findings, Spot};

/// The names of one kind of thing that were seen so far, and where.
#[derive(Debug)]
pub(crate) struct Names<'d> {
    findings: &'d Findings,
    /// The thing in the plural: `ports`.
    things: &'static str,
    seen: HashMap<String, Spot>,
}

impl<'d> Names<'d> {
    pub(crate) fn of(things: &'static str, findings: &'d Findings) -> Self {
        Self { findings, things, seen: HashMap::new() }
    }

    /// Takes note of a name; the second of its kind is a fault. An empty name was reported before.
    pub(crate) fn take(&mut self, name: &At<String>) {
        if name.value.is_empty() {
            return;
        }
        if let Some(first) = self.seen.get(&name.value) {
            let message = format!("two {} are named \"{}\"", self.things, name.value);
            let finding = Finding::error("duplicate-name", &name.spot, message).contradicts(first);
            self.findings.report(finding.advice("give this one another name"));
        } else {
            self.seen.insert(name.value.clone(), name.spot.clone());
        }
    }
}
