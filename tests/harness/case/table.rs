//! The cases as they lie in files: read strictly, all faults at once, each under the name of its case.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;

use super::script::{self, Step};

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The families a case is for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    const fn all(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Both => &[Family::V4, Family::V6],
        }
    }
}

/// A case as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Lower case, with hyphens; no other case has it.
    name: String,
    /// What this is about, in one sentence.
    says: String,
    /// Where it is known from: RFC and section, CVE, paper, tool.
    source: String,
    family: Families,
    /// A file in `policies`.
    #[serde(default = "open")]
    policy: String,
    /// Stations answer nothing by themselves, and the script sees ARP and neighbor discovery.
    #[serde(default)]
    overhear: bool,
    script: String,
}

fn open() -> String {
    "open".into()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "case")]
    cases: Vec<Written>,
}

/// One case in one family, ready to be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// In one sentence.
    pub says: String,
    /// In which family.
    pub family: Family,
    /// The name of its policy.
    pub policy: String,
    /// See the file format.
    pub(super) overhear: bool,
    /// Steps, with the line of the script each begins in.
    pub(super) steps: Vec<(usize, Step)>,
}

/// Every case.
#[derive(Debug, Default)]
pub struct Table {
    /// In the order of the files, IPv4 before IPv6.
    pub cases: Vec<Case>,
    /// How many there are by name.
    pub names: usize,
}

impl Table {
    /// Reads every `*.toml` of a folder.
    ///
    /// # Errors
    /// All that is wrong, a line each: file, case, line of the script, and why.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let mut files = Vec::new();
        let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
                files.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
            }
        }
        files.sort();
        Self::read(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    /// Reads files, given by name and text.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let (mut table, mut faults, mut names) = (Self::default(), Vec::new(), HashSet::new());
        for (file, text) in files {
            match toml::from_str::<File>(text) {
                Ok(read) => {
                    for written in read.cases {
                        if !names.insert(written.name.clone()) {
                            faults.push(format!("{file}: {}: another case has this name", written.name));
                        }
                        table.add(file, &written, &mut faults);
                    }
                }
                Err(why) => faults.push(format!("{file}: {why}")),
            }
        }
        table.names = names.len();
        if faults.is_empty() { Ok(table) } else { Err(faults.join("\n")) }
    }

    fn add(&mut self, file: &str, written: &Written, faults: &mut Vec<String>) {
        let Written { name, says, source, family, policy, overhear, script } = written;
        let mut wrong = |why: &str| faults.push(format!("{file}: {name}: {why}"));
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.is_empty() || !name.chars().all(plain) {
            wrong("a name is of lower-case letters, digits and hyphens");
        }
        if !says.ends_with(['.', '?', '!']) {
            wrong("`says` is a sentence");
        }
        if source.is_empty() {
            wrong("`source` says where it is known from");
        }
        for &family in family.all() {
            // The packet builder panics at words that a packet has no use for.
            let read = catch_unwind(AssertUnwindSafe(|| script::read(script, family)));
            match read.unwrap_or_else(|panic| Err(said(panic.as_ref()))) {
                Ok(steps) => self.cases.push(Case {
                    name: name.clone(),
                    says: says.clone(),
                    family,
                    policy: policy.clone(),
                    overhear: *overhear,
                    steps,
                }),
                Err(why) => wrong(&format!("{family:?}: {why}")),
            }
        }
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
