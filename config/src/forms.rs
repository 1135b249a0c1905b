//! The form of every table: which keys it can have, of which types, within which bounds, in which words. Read off the readers
//! themselves: they read a file with every key there is, and tell at each key what they would take. So a key that is added to
//! a reader has its form, and no list of keys stands anywhere else.
//!
//! For whoever describes the configuration to programs (the API's schemas) or finds its objects ([`crate::edit`]).

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use toml::de::{DeTable, DeValue};

use crate::findings::Findings;
use crate::kind::Wrong;

/// A file with every key there is.
const FULL: &str = include_str!("full.toml");

/// What a table can hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The tables it stands in and its own: `firewall.rule`.
    pub kind: String,
    /// Whether there can be several: `[[...]]`.
    pub several: bool,
    /// How many names say which one is meant: one for each table on the way to it of which there can be several.
    pub levels: usize,
    /// Its keys by name, those that are tables left out.
    pub keys: BTreeMap<String, Key>,
    /// The kinds of the tables right below it.
    pub tables: Vec<String>,
}

/// What may stand at a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Whether it has to be written, whatever else is.
    pub required: bool,
    /// Whether it is a list of such values, of one at least.
    pub list: bool,
    /// Whether `false`, and whether `true` may be written.
    pub booleans: (bool, bool),
    /// Whether a whole number may be written, and its bounds where they do not depend on other keys.
    pub integer: Option<Option<(i64, i64)>>,
    /// Whether a string may be written.
    pub text: bool,
    /// The strings there are, where they are a few words; empty where they are not.
    pub words: Vec<String>,
    /// What would be right, in words.
    pub advice: String,
}

/// The forms of all tables, by kind.
#[must_use]
pub fn forms() -> &'static BTreeMap<String, Form> {
    static FORMS: LazyLock<BTreeMap<String, Form>> = LazyLock::new(|| {
        let findings = Findings::listening();
        // What is read is of no interest here, and that it is right a test says.
        drop(crate::file::file(FULL, &findings));
        findings.asked.map(Asked::into_forms).unwrap_or_default()
    });
    &FORMS
}

/// What readers have asked for, as long as they are listened to.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    tables: RefCell<BTreeMap<String, Table>>,
}

#[derive(Debug, Default)]
struct Table {
    several: bool,
    /// How many of them were read.
    read: u32,
    keys: BTreeMap<String, Key>,
    /// How many of them insisted on a key.
    insisted: BTreeMap<String, u32>,
}

impl Asked {
    /// A table is being read; `header` as it stands in the file.
    pub(crate) fn table(&self, header: &str) {
        let mut tables = self.tables.borrow_mut();
        let table = tables.entry(kind(header)).or_default();
        table.several = header.starts_with("[[");
        table.read += 1;
    }

    /// A key of it is asked for.
    pub(crate) fn key<T>(&self, header: &str, key: &str, list: bool, takes: impl Fn(&DeValue<'_>) -> Result<T, Wrong>) {
        let mut tables = self.tables.borrow_mut();
        let table = tables.entry(kind(header)).or_default();
        table.keys.entry(key.to_owned()).or_insert_with(|| Key { list, ..tried(takes) });
    }

    /// A key is missed where it is not written.
    pub(crate) fn insisted(&self, header: &str, key: &str) {
        let mut tables = self.tables.borrow_mut();
        let table = tables.entry(kind(header)).or_default();
        *table.insisted.entry(key.to_owned()).or_default() += 1;
    }

    fn into_forms(self) -> BTreeMap<String, Form> {
        let tables = self.tables.into_inner();
        let kinds: Vec<String> = tables.keys().filter(|kind| !kind.is_empty()).cloned().collect();
        let several: Vec<String> =
            tables.iter().filter(|(_, table)| table.several).map(|(kind, _)| kind.clone()).collect();
        let form = |(kind, table): (String, Table)| {
            let mut keys = table.keys;
            for (name, key) in &mut keys {
                key.required = table.insisted.get(name).is_some_and(|&times| times >= table.read);
            }
            let below = |other: &&String| other.rsplit_once('.').map_or("", |(above, _)| above) == kind;
            let tables = kinds.iter().filter(below).cloned().collect();
            let on_the_way = |other: &&String| kind == **other || kind.starts_with(&format!("{other}."));
            let levels = several.iter().filter(on_the_way).count();
            (kind.clone(), Form { kind, several: table.several, levels, keys, tables })
        };
        tables.into_iter().map(form).collect()
    }
}

/// `firewall.rule` of `[[firewall.rule]]`.
fn kind(header: &str) -> String {
    header.trim_matches(['[', ']']).to_owned()
}

/// What a kind of value takes, found by offering it one of each type.
fn tried<T>(takes: impl Fn(&DeValue<'_>) -> Result<T, Wrong>) -> Key {
    const OFFERED: &str = "no = false\nyes = true\nnumber = 9223372036854775807\ntext = \"\\u0001\"\ntable = {}\n";
    let mut key = Key::default();
    let Ok(offered) = DeTable::parse(OFFERED) else { return key };
    let offer = |name: &str| offered.get_ref().get(name).map(|value| takes(value.get_ref()).err());
    // Of the right type it is where it is taken, or refused for another reason.
    let fits = |name: &str| match offer(name) {
        Some(Some(wrong)) if wrong.code == "wrong-type" => None,
        Some(wrong) => Some(wrong),
        None => None,
    };
    key.booleans = (fits("no").is_some(), fits("yes").is_some());
    key.integer = fits("number").map(|wrong| wrong.and_then(|wrong| wrong.bounds));
    if let Some(wrong) = fits("text") {
        key.text = true;
        key.words = wrong.map(|wrong| wrong.words).unwrap_or_default().into_iter().map(str::to_owned).collect();
    }
    key.advice = offer("table").flatten().map(|wrong| wrong.advice).unwrap_or_default();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'f>(kind: &str, key: &str) -> &'f Key {
        &forms()[kind].keys[key]
    }

    #[test]
    fn the_file_with_every_key_is_valid() {
        crate::load(FULL, std::path::Path::new("full.toml")).unwrap();
    }

    #[test]
    fn every_kind_of_value_tells_what_it_takes() {
        let mtu = key("port", "mtu");
        assert_eq!((mtu.integer, mtu.text, mtu.required), (Some(Some((68, 9_600))), false, false));
        let action = key("firewall.rule", "action");
        assert_eq!((&*action.words, action.required), (&["allow", "deny", "reject"].map(str::to_owned)[..], true));
        assert_eq!(action.advice, "write one of \"allow\", \"deny\", \"reject\"");
        let protocol = key("firewall.rule", "protocol");
        assert!(protocol.integer == Some(Some((0, 255))) && protocol.words.contains(&"tcp".to_owned()));
        assert_eq!(key("port", "kernel").booleans, (true, true));
        assert_eq!(key("appliance", "state_folder").booleans, (true, false));
        assert!(key("port", "kernel").text && key("port", "addresses").list);
        assert!(key("firewall.rule", "destination_port").integer.is_some(), "a bare number is a port");
        assert!(!key("virtual_service", "source_address").required, "full-nat alone insists on it");
    }

    #[test]
    fn tables_know_whether_there_can_be_several_and_what_stands_below() {
        let forms = forms();
        assert!(forms["port"].several && !forms["fragments"].several && forms["virtual_service.backend"].several);
        assert_eq!(forms["virtual_service.backend"].levels, 2);
        assert_eq!(
            (forms["virtual_service.health"].levels, forms["firewall.rule"].levels, forms["firewall"].levels),
            (1, 1, 0)
        );
        assert_eq!(forms["firewall"].tables, ["firewall.rule", "firewall.set"]);
        assert!(forms["virtual_service"].tables.contains(&"virtual_service.health".to_owned()));
        assert!(forms[""].tables.contains(&"sessions".to_owned()));
    }
}
