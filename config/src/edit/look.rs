//! Looking at objects where they stand in a text, whichever way they are written: `[[table]]`s or lists of inline tables. Copies
//! nothing on the way to what is asked for; changes nothing.

use std::borrow::Cow;

use toml_edit::{ArrayOfTables, Item, Table, TableLike, Value};

use super::known;
use crate::outline::{identity, numbered};

/// The tables of a list; none where it is no list of tables.
pub(super) fn tables_of(item: &Item) -> Vec<&dyn TableLike> {
    match item {
        Item::ArrayOfTables(tables) => each(tables).collect(),
        Item::Value(Value::Array(list)) => {
            let inline = list.iter().map(|value| value.as_inline_table().map(|table| table as &dyn TableLike));
            inline.collect::<Option<_>>().unwrap_or_default()
        }
        Item::None | Item::Table(_) | Item::Value(_) => Vec::new(),
    }
}

/// The same of one that is written as `[[table]]`s.
pub(super) fn each(tables: &ArrayOfTables) -> impl Iterator<Item = &dyn TableLike> {
    tables.iter().map(|table: &Table| table as &dyn TableLike)
}

/// What an object says it is called; empty where it says nothing.
pub(super) fn written_name(table: &dyn TableLike) -> Cow<'_, str> {
    identity(|key| match table.get(key)? {
        Item::Value(Value::String(word)) => Some(Cow::Borrowed(word.value().as_str())),
        Item::Value(Value::Datetime(moment)) => Some(Cow::Owned(moment.value().to_string())),
        Item::Value(Value::Array(words)) => {
            Some(Cow::Owned(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("+")))
        }
        _ => None,
    })
}

/// Where the one is among its kind that is called so, as [`numbered`] calls them.
pub(super) fn find<'d>(tables: impl IntoIterator<Item = &'d dyn TableLike>, name: &str) -> Option<usize> {
    let again = name.rsplit_once(" #").and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)));
    let mut met = 0;
    tables.into_iter().enumerate().find_map(|(at, table)| {
        let own = called(table, at);
        let is_again = again.is_some_and(|(name, number)| {
            met += u32::from(own == name);
            own == name && number > 1 && met == number
        });
        (own == name || is_again).then_some(at)
    })
}

/// What an object is called at its place: without a name, by the place.
pub(super) fn called(table: &dyn TableLike, at: usize) -> Cow<'_, str> {
    let own = written_name(table);
    if own.is_empty() { Cow::Owned((at + 1).to_string()) } else { own }
}

/// Collects the objects of `wanted` in a table of kind `kind`.
pub(super) fn walk(kind: &str, name: &str, table: &dyn TableLike, wanted: &str, met: &mut Vec<(String, toml::Table)>) {
    let rest =
        if kind.is_empty() { Some(wanted) } else { wanted.strip_prefix(kind).and_then(|it| it.strip_prefix('.')) };
    let Some(key) = rest.and_then(|rest| rest.split('.').next()) else { return };
    let below = if kind.is_empty() { key.to_owned() } else { format!("{kind}.{key}") };
    let Some(item) = table.get(key) else { return };
    let mut meet = |inner: &dyn TableLike, name: String| {
        if below == wanted {
            met.push((name, plain_table(inner)));
        } else {
            walk(&below, &name, inner, wanted, met);
        }
    };
    if known(&below) == Ok(true) {
        let tables = tables_of(item);
        let names = numbered(tables.iter().map(|&inner| written_name(inner).into_owned()));
        for (inner, own) in tables.into_iter().zip(names) {
            meet(inner, if name.is_empty() { own } else { format!("{name}/{own}") });
        }
    } else if let Some(inner) = item.as_table_like() {
        meet(inner, name.to_owned());
    }
}

/// What is written; a date, which nothing here is, as its text. Of a table without a header nothing is, once all below it is gone.
pub(super) fn plain(item: &Item) -> Option<toml::Value> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(plain_value(value)),
        Item::Table(table) => {
            let below = plain_table(table);
            let is_written = !below.is_empty() || !(table.is_implicit() || table.is_dotted());
            is_written.then_some(toml::Value::Table(below))
        }
        Item::ArrayOfTables(tables) => {
            Some(toml::Value::Array(each(tables).map(plain_table).map(toml::Value::Table).collect()))
        }
    }
}

pub(super) fn plain_table(table: &dyn TableLike) -> toml::Table {
    table.iter().filter_map(|(key, item)| Some((key.to_owned(), plain(item)?))).collect()
}

fn plain_value(value: &Value) -> toml::Value {
    match value {
        Value::String(text) => toml::Value::String(text.value().clone()),
        Value::Integer(number) => toml::Value::Integer(*number.value()),
        Value::Float(number) => toml::Value::Float(*number.value()),
        Value::Boolean(yes) => toml::Value::Boolean(*yes.value()),
        Value::Datetime(moment) => toml::Value::String(moment.value().to_string()),
        Value::Array(entries) => toml::Value::Array(entries.iter().map(plain_value).collect()),
        Value::InlineTable(inner) => {
            toml::Value::Table(inner.iter().map(|(key, value)| (key.to_owned(), plain_value(value))).collect())
        }
    }
}
