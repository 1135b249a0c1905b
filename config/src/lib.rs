//! TOML to a typed, validated policy: every fault at once, each with file, line, column, what is wrong and what would be
//! right. Pure functions of text, and [`read()`] to get it; called by management and by `millrace check`, never by a
//! worker.
//!
//! ```text
//! path -> read -> text -> file (toml, tables) -> ports, firewall, balancer, ... -> validate -> Policy
//!                                  \________________ findings ________________/
//! ```
//!
//! `section` reads a table key by key and reports what is missing, wrong or unknown; `kind` and its neighbours say what
//! a value may be. Nothing here touches the machine: whether a core, a device or a hugepage exists is for `doctor`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

mod address;
mod address_range;
mod api;
mod appliance;
mod balancer;
mod blocklist;
mod connection_ids;
mod decapsulate;
mod device;
mod duration;
mod edit;
mod error;
mod file;
mod findings;
mod firewall;
mod forms;
mod forward;
mod fragments;
mod health;
mod icmp;
mod kind;
mod lines;
mod links;
mod listen;
mod log;
mod memory;
mod metrics;
mod names;
mod nat64;
mod nearest;
mod outline;
mod pairs;
mod path;
pub mod policy;
mod port_list;
mod ports;
mod prefix_map;
mod read;
mod redirection;
mod routes;
mod section;
mod session_log;
mod sessions;
mod size;
mod syn_cookies;
mod tenants;
mod tiers;
mod translate;
mod tunnel;
mod validate;
mod vlan;
mod zone_terms;
mod zones;

#[cfg(test)]
mod tests;

pub use duration::parse_duration;
pub use edit::{Document, EditError, Entry, Site};
pub use error::{Fault, Faults, Place, Severity};
pub use forms::{Form, Key, forms};
pub use outline::{Object, name_of, outline};
pub use policy::Policy;
pub use read::{NotOpened, read, settled};
pub use size::parse as parse_size;

use findings::Findings;

/// A configuration that is valid, and what its operator should look at nevertheless.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The policy.
    pub policy: Policy,
    /// Faults that do not refuse it, in the order of the file.
    pub warnings: Vec<Fault>,
}

/// The policy that `text` describes; `file` is the name that faults carry.
///
/// # Errors
/// Every fault of the text at once, warnings too. Syntax comes first: what is not TOML is not looked into further.
pub fn load(text: &str, file: &Path) -> Result<Checked, Faults> {
    let findings = Findings::default();
    let policy = match read::unsuited(text) {
        Some(finding) => {
            findings.report(finding);
            None
        }
        None => file::file(text, &findings).map(|read| validate::validate(read, &findings)),
    };
    let refused = findings.errors() > 0;
    let faults = findings.into_faults(text, file);
    match policy {
        Some(policy) if !refused => Ok(Checked { policy, warnings: faults }),
        _ => Err(Faults::new(faults)),
    }
}

/// Where a configuration has generations kept (`Some(None)`: nowhere), however faulty the rest of it is; `None` when it does
/// not say so intelligibly. For a start that takes the last generation instead of the file.
#[must_use]
pub fn state_folder(text: &str) -> Option<Option<PathBuf>> {
    let findings = Findings::default();
    let table = file::parse(text, &findings)?;
    appliance::state_folder(&mut section::Section::root(&table, &findings))
}
