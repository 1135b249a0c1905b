//! A configuration as the list of its objects: each table with its name and its keys in one spelling, so that two
//! configurations can be compared object by object. Knows no key: what is written is what is listed.

use std::collections::{BTreeMap, HashMap};

use toml::{Table, Value};

/// What tells objects of one kind apart, the first that is there.
const IDENTITIES: [&str; 4] = ["name", "to", "address", "ports"];

/// One table of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The tables it stands in and its own: `firewall.rule`, `virtual_service.backend`.
    pub kind: String,
    /// Its name behind those of the objects it belongs to: `shop/shop-a`; empty where there is one of its kind.
    pub name: String,
    /// Its keys and what is written there, as TOML in one spelling. Tables below it are objects of their own.
    pub keys: BTreeMap<String, String>,
}

/// The objects of a configuration, in the order of the file within each kind. Empty for what is not TOML.
#[must_use]
pub fn outline(text: &str) -> Vec<Object> {
    let mut objects = Vec::new();
    if let Ok(table) = text.parse::<Table>() {
        walk("", "", &table, &mut objects);
    }
    objects
}

fn walk(kind: &str, name: &str, table: &Table, objects: &mut Vec<Object>) {
    let below = |key: &str| if kind.is_empty() { key.to_owned() } else { format!("{kind}.{key}") };
    let at = objects.len();
    let mut keys = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => walk(&below(key), name, inner, objects),
            Value::Array(entries) if !entries.is_empty() && entries.iter().all(Value::is_table) => {
                let tables = entries.iter().filter_map(Value::as_table);
                for (own, inner) in numbered(tables.clone().map(name_of)).into_iter().zip(tables) {
                    // Behind the name of the object the list belongs to.
                    let name = if name.is_empty() { own } else { format!("{name}/{own}") };
                    walk(&below(key), &name, inner, objects);
                }
            }
            written => {
                keys.insert(key.clone(), written.to_string());
            }
        }
    }
    if !kind.is_empty() {
        objects.insert(at, Object { kind: kind.to_owned(), name: name.to_owned(), keys });
    }
}

/// What an object is called among its kind: its `name`; without one what it is `to`, its `address`, or its `ports`.
#[must_use]
pub fn name_of(table: &Table) -> String {
    identity(|key| word(table.get(key)?))
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(word) => Some(word.clone()),
        Value::Array(words) => Some(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("+")),
        _ => None,
    }
}

/// What an object is called among its kind; `word` is the string at a key, or the strings of a list with `+` between them.
pub(crate) fn identity<W: Default>(word: impl Fn(&str) -> Option<W>) -> W {
    IDENTITIES.into_iter().find_map(word).unwrap_or_default()
}

/// What objects of one list are called: those whose name another before them has, `NAME #2`; those without one by their place,
/// from 1.
pub(crate) fn numbered(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut met: HashMap<String, u32> = HashMap::new();
    let numbered = |(name, place): (String, usize)| {
        let name = if name.is_empty() { place.to_string() } else { name };
        let times = met.entry(name.clone()).or_default();
        *times += 1;
        if *times > 1 { format!("{name} #{times}") } else { name }
    };
    names.into_iter().zip(1..).map(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_an_object_with_its_name_and_keys() {
        let text = "[cores]\nworkers = [1,\n 2]\n[[route]]\nto = \"10.0.0.0/8\"\n[[route]]\nto = \"10.0.0.0/8\"\n\
                    [[pair]]\nports = [\"a\", \"b\"]\n[[virtual_service]]\nname = \"shop\"\nhealth = { kind = \"tcp\" }\n\
                    [[virtual_service.backend]]\nname = \"a\"\nport = 80_80\n";
        let objects = outline(text);
        let listed: Vec<_> = objects.iter().map(|object| (object.kind.as_str(), object.name.as_str())).collect();
        assert_eq!(
            listed,
            [
                ("cores", ""),
                ("pair", "a+b"),
                ("route", "10.0.0.0/8"),
                ("route", "10.0.0.0/8 #2"),
                ("virtual_service", "shop"),
                ("virtual_service.backend", "shop/a"),
                ("virtual_service.health", "shop"),
            ]
        );
        assert_eq!(objects[0].keys["workers"], "[1, 2]");
        assert_eq!(objects[5].keys["port"], "8080");
        assert_eq!(objects[4].keys.len(), 1, "what stands below it is not part of it");
        assert!(outline("no toml").is_empty());
    }
}
