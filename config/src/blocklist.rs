//! `[[blocklist]]`: files of source prefixes that open nothing. Here only where they are; their lines are read when the
//! policy is compiled, and again whenever the operator says so.

use std::path::PathBuf;

use toml::de::DeValue;

use crate::findings::{Finding, Findings};
use crate::kind::{Wrong, string};
use crate::names::Names;
use crate::nearest::quoted;
use crate::policy::Blocklist;
use crate::section::Section;
use crate::zones::Zones;

/// Lists of one policy: each is one more question about every first packet.
const LISTS_MAX: usize = 16;

/// Longest path.
const PATH_BYTES_MAX: usize = 4_095;

/// Reads every `[[blocklist]]`.
pub(crate) fn blocklists(file: &mut Section<'_>, zones: &Zones, findings: &Findings) -> Vec<Blocklist> {
    let mut names = Names::of("blocklists", findings);
    let sections = file.tables("blocklist");
    if let Some(one_more) = sections.get(LISTS_MAX) {
        let message = format!("more than {LISTS_MAX} blocklists");
        let finding = Finding::error("too-many", &one_more.spot, message);
        findings.report(finding.advice("put their lines into fewer files"));
    }
    let read = |mut section: Section<'_>| {
        let name = section.name();
        names.take(&name);
        let path = section.required("file", path, "say where its lines are: file = \"/etc/millrace/blocked.txt\"");
        let from = section.list("from", |value| string(value, "a zone such as \"wan\"").map(str::to_owned));
        let from = zones.resolve(&section, &from);
        section.finish();
        Blocklist { name: name.value, file: path.map(|path| path.value).unwrap_or_default(), from }
    };
    sections.into_iter().map(read).collect()
}

/// A file, from the root: the appliance that reads it again may run elsewhere than who wrote the policy.
fn path(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let example = "write a path from the root such as \"/etc/millrace/blocked.txt\"";
    let written = string(value, "a path such as \"/etc/millrace/blocked.txt\"")?;
    if written.len() > PATH_BYTES_MAX || written.contains('\0') {
        return Err(Wrong::new("bad-path", "is longer than a path can be", example));
    }
    if !written.starts_with('/') || written.ends_with('/') {
        return Err(Wrong::new(
            "bad-path",
            format!("{} is not the path of a file from the root", quoted(written)),
            example,
        ));
    }
    Ok(PathBuf::from(written))
}
