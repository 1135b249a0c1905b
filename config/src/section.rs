//! One table of the file, read key by key.
//!
//! The keys a reader asks for are the keys the table may have: [`Section::finish`] reports every other, with the nearest
//! known one. So no key is ever passed over in silence, and the list of keys stands in one place, where they are read.
//! What is missing or wrong is reported here; the reader gets a placeholder and goes on, to find the other faults.

use toml::de::{DeArray, DeTable, DeValue};

use crate::findings::{At, Finding, Findings, Spot};
use crate::kind::{self, Wrong, type_words};
use crate::nearest::{nearest, quoted};

/// A table and what was asked of it.
#[derive(Debug)]
pub(crate) struct Section<'d> {
    table: &'d DeTable<'d>,
    findings: &'d Findings,
    /// As it stands in the file: `[[port]]`; empty for the file itself.
    header: String,
    /// As messages name it: `[[port]] "outside"`.
    pub(crate) title: String,
    pub(crate) spot: Spot,
    known: Vec<&'static str>,
}

impl<'d> Section<'d> {
    /// The file itself.
    pub(crate) fn root(table: &'d DeTable<'d>, findings: &'d Findings) -> Self {
        let spot = Spot { path: String::new(), offset: 0 };
        if let Some(asked) = &findings.asked {
            asked.table("");
        }
        Self { table, findings, header: String::new(), title: "the file".into(), spot, known: Vec::new() }
    }

    /// A table below this one.
    fn below(&self, table: &'d DeTable<'d>, header: String, spot: Spot) -> Self {
        let name = table.get("name").and_then(|name| name.get_ref().as_str());
        let title = name.map_or_else(|| header.clone(), |name| format!("{header} {}", quoted(name)));
        if let Some(asked) = &self.findings.asked {
            asked.table(&header);
        }
        Self { table, findings: self.findings, header, title, spot, known: Vec::new() }
    }

    pub(crate) fn report(&self, finding: Finding) {
        self.findings.report(finding);
    }

    /// Errors of the whole file so far: to tell whether what was just read is complete.
    pub(crate) fn errors(&self) -> usize {
        self.findings.errors()
    }

    /// Whether the table has this key, known or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the value of `key` stands, or the table when it has none.
    pub(crate) fn spot_of(&self, key: &str) -> Spot {
        match self.table.get(key) {
            Some(value) => Spot { path: join(&self.spot.path, key), offset: value.span().start },
            None => self.spot.clone(),
        }
    }

    /// The value of `key`, when there is one and it is of this kind.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        self.known.push(key);
        if let Some(asked) = &self.findings.asked {
            asked.key(&self.header, key, false, &kind);
        }
        let value = self.table.get(key)?;
        let spot = self.spot_of(key);
        match kind(value.get_ref()) {
            Ok(value) => Some(At { value, spot }),
            Err(wrong) => {
                self.wrong(&format!("`{key}`"), &spot, wrong);
                None
            }
        }
    }

    /// The value of `key`, or `default` when it is not written.
    pub(crate) fn or<T>(
        &mut self,
        key: &'static str,
        kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
        default: T,
    ) -> T {
        self.optional(key, kind).map_or(default, |at| at.value)
    }

    /// The value of `key`; its absence is a fault, and `advice` an example of what would be right.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
        advice: &str,
    ) -> Option<At<T>> {
        if let Some(asked) = &self.findings.asked {
            asked.insisted(&self.header, key);
        }
        if !self.has(key) {
            self.missing(key, advice);
        }
        self.optional(key, kind)
    }

    /// The entries of the list at `key` that are of this kind; none when it is not written. A list may not be empty.
    pub(crate) fn list<T>(&mut self, key: &'static str, kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>) -> Vec<At<T>> {
        self.known.push(key);
        if let Some(asked) = &self.findings.asked {
            asked.key(&self.header, key, true, &kind);
        }
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let spot = self.spot_of(key);
        let DeValue::Array(entries) = value.get_ref() else {
            // A lone entry is the slip people make; say how it is written right.
            let advice = match value.get_ref() {
                DeValue::String(lone) => format!("write a list: [{}]", quoted(lone)),
                DeValue::Integer(lone) => format!("write a list: [{lone}]"),
                _ => "write a list: [...]".to_owned(),
            };
            self.wrong(&format!("`{key}`"), &spot, Wrong::new("wrong-type", "is not a list", advice));
            return Vec::new();
        };
        if entries.is_empty() {
            let advice = "leave the key out if it should not apply, or write at least one entry";
            self.wrong(&format!("`{key}`"), &spot, Wrong::new("empty-list", "is an empty list", advice));
        }
        self.entries(key, entries, &spot, kind)
    }

    /// As [`Section::list`]; its absence is a fault.
    pub(crate) fn required_list<T>(
        &mut self,
        key: &'static str,
        kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
        advice: &str,
    ) -> Vec<At<T>> {
        if let Some(asked) = &self.findings.asked {
            asked.insisted(&self.header, key);
        }
        if !self.has(key) {
            self.missing(key, advice);
        }
        self.list(key, kind)
    }

    fn entries<T>(
        &self,
        key: &str,
        entries: &DeArray<'_>,
        list: &Spot,
        kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Vec<At<T>> {
        let mut read = Vec::with_capacity(entries.len());
        for (position, entry) in entries.iter().enumerate() {
            let spot = Spot { path: format!("{}[{position}]", list.path), offset: entry.span().start };
            match kind(entry.get_ref()) {
                Ok(value) => read.push(At { value, spot }),
                // What was written is quoted at the beginning of the predicate; without it there is no subject.
                Err(wrong) if wrong.predicate.starts_with('"') => self.wrong(&format!("in `{key}`,"), &spot, wrong),
                Err(wrong) => self.wrong(&format!("an entry of `{key}`"), &spot, wrong),
            }
        }
        read
    }

    /// The unique name of this section; a missing or impossible one is a fault.
    pub(crate) fn name(&mut self) -> At<String> {
        let name = self.required("name", kind::name, "give it one, such as name = \"a\"");
        name.unwrap_or_else(|| At { value: String::new(), spot: self.spot.clone() })
    }

    /// The table at `key`, written `[key]` or inline.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Section<'d>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        let spot = self.spot_of(key);
        let header = format!("[{}]", self.child(key));
        if let DeValue::Table(table) = value.get_ref() {
            return Some(self.below(table, header, spot));
        }
        let advice = match value.get_ref() {
            DeValue::Array(_) => format!("there is one of it: write {header}, with single brackets"),
            _ => format!("write a table: {header} and its keys below it"),
        };
        self.wrong(
            &format!("`{key}`"),
            &spot,
            Wrong::new("wrong-type", format!("is {}", type_words(value.get_ref())), advice),
        );
        None
    }

    /// The tables at `key`, written `[[key]]`, in their order; none when there are none.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<Section<'d>> {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let list = self.spot_of(key);
        let header = format!("[[{}]]", self.child(key));
        let advice = format!("there can be several of it: write {header}, with double brackets");
        let DeValue::Array(entries) = value.get_ref() else {
            let predicate = format!("is {}", type_words(value.get_ref()));
            self.wrong(&format!("`{key}`"), &list, Wrong::new("wrong-type", predicate, advice));
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(entries.len());
        for (position, entry) in entries.iter().enumerate() {
            let spot = Spot { path: format!("{}[{position}]", list.path), offset: entry.span().start };
            match entry.get_ref() {
                DeValue::Table(table) => sections.push(self.below(table, header.clone(), spot)),
                other => {
                    let predicate = format!("is {}", type_words(other));
                    self.wrong(
                        &format!("an entry of `{key}`"),
                        &spot,
                        Wrong::new("wrong-type", predicate, advice.clone()),
                    );
                }
            }
        }
        sections
    }

    /// Where the key `key` of this table itself stands, if it has one: for tables that are refused as a whole.
    pub(crate) fn key_spot(&mut self, key: &'static str) -> Option<Spot> {
        self.known.push(key);
        let (written, _) = self.table.get_key_value(key)?;
        Some(Spot { path: join(&self.spot.path, key), offset: written.span().start })
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        #[cfg(test)]
        crate::tests::asked::remember(&self.header, &self.known);
        for (key, _) in self.table {
            let written = key.get_ref().as_ref();
            if self.known.contains(&written) {
                continue;
            }
            let spot = Spot { path: join(&self.spot.path, written), offset: key.span().start };
            let shown = quoted(written);
            let shown = shown.trim_matches('"');
            let unused = self.known.iter().copied().filter(|known| !self.table.contains_key(*known));
            let advice = match nearest(written, unused).or_else(|| nearest(written, self.known.iter().copied())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it can have: {}", self.known.join(", ")),
            };
            self.report(
                Finding::error("unknown-key", &spot, format!("`{shown}` is not a key of {}", self.title))
                    .advice(advice),
            );
        }
    }

    fn missing(&self, key: &str, advice: &str) {
        let message = format!("{} has no `{key}`", self.title);
        self.report(Finding::error("missing-key", &self.spot, message).advice(advice));
    }

    fn wrong(&self, subject: &str, spot: &Spot, wrong: Wrong) {
        let message = format!("{subject} {}", wrong.predicate);
        self.report(Finding::error(wrong.code, spot, message).advice(wrong.advice));
    }

    /// The path of a table below this one, without positions: `firewall.rule`.
    fn child(&self, key: &str) -> String {
        join(self.header.trim_matches(['[', ']']), key)
    }
}

/// The TOML path of `key` below `path`.
fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if bare { key.to_owned() } else { quoted(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
