//! `[[blocklist]]`: files of source prefixes that open nothing. Here only where they are; their lines are read when the
//! policy is compiled, and again whenever the operator says so.

use crate::findings::{Finding, Findings};
use crate::kind::string;
use crate::names::Names;
use crate::path;
use crate::policy::Blocklist;
use crate::section::Section;
use crate::zones::Zones;

/// Lists of one policy: each is one more question about every first packet.
const LISTS_MAX: usize = 16;

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
        let path =
            section.required("file", path::file, "say where its lines are: file = \"/etc/millrace/blocked.txt\"");
        let from = section.list("from", |value| string(value, "a zone such as \"wan\"").map(str::to_owned));
        let from = zones.resolve(&section, &from);
        section.finish();
        Blocklist { name: name.value, file: path.map(|path| path.value).unwrap_or_default(), from }
    };
    sections.into_iter().map(read).collect()
}
