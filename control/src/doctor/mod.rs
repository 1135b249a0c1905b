//! `millrace doctor`: what this machine lacks for a configuration, in words, and the command that mends it.
//!
//! - [`machine`]: facts of `/proc`, `/sys` and `/dev`, read under any root so that tests can make their own machine.
//! - `memory`, `cores`, `rights`, `places`, `ports`: judgements, one file for each part of the configuration.
//!
//! Changes nothing and opens no device. Called by the command line.

mod cores;
pub mod machine;
mod memory;
mod places;
mod ports;
mod rights;

use comfy_table::{ContentArrangement, Table, presets};
use config::Policy;
use serde::{Deserialize, Serialize};

pub use machine::Machine;

/// How a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing; the appliance runs without it.
    Note,
    /// The appliance runs, and something will be worse than it need be.
    Warning,
    /// The appliance does not run without it.
    Missing,
}

impl State {
    /// The word of the table and of the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `hugepages`, `port outside`, ...
    pub check: String,
    /// How it stands.
    pub state: State,
    /// What was found, in words.
    pub found: String,
    /// The command or the change that mends it.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        Self { check: check.into(), state, found: found.into(), remedy: None }
    }

    fn mended_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at this machine: for a policy, or without one at what every configuration needs.
#[must_use]
pub fn examine(policy: Option<&Policy>) -> Vec<Finding> {
    examine_machine(&Machine::this(), policy)
}

/// Looks at a machine.
#[must_use]
pub fn examine_machine(machine: &Machine, policy: Option<&Policy>) -> Vec<Finding> {
    let mut findings = Vec::new();
    rights::examine(machine, policy, &mut findings);
    memory::examine(machine, policy, &mut findings);
    cores::examine(machine, policy, &mut findings);
    places::examine(machine, policy, &mut findings);
    ports::examine(machine, policy, &mut findings);
    findings
}

/// Whether nothing is missing.
#[must_use]
pub fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state != State::Missing)
}

/// The findings as a table for a terminal, each remedy on a line of its own so that it can be copied.
#[must_use]
pub fn render(findings: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["STATE", "CHECK", "FOUND"]);
    for finding in findings {
        table.add_row([finding.state.name(), &finding.check, &finding.found]);
        if let Some(remedy) = &finding.remedy {
            table.add_row(["", "", &format!("-> {remedy}")]);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
    let sum = match missing {
        0 => "nothing is missing".to_owned(),
        1 => "1 thing is missing".to_owned(),
        _ => format!("{missing} things are missing"),
    };
    format!("{}\n\n{sum}", lines.join("\n"))
}

#[cfg(test)]
mod tests;
