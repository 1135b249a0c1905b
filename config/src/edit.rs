//! Changes to single objects of a configuration, in the operator's own text: what is not changed stays as it was written, with
//! its comments and in its order. Objects are named as [`outline`](crate::outline()) names them.
//!
//! Knows from [`forms`] which tables there can be and of which there can be several; whether a value is right is for
//! [`load`](crate::load) to say, of the whole text. Called by management, for the API.

mod look;

use core::fmt;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::forms::forms;
use crate::nearest::did_you_mean;
use crate::outline::name_of;
use look::{called, each, find, plain, plain_table, tables_of, walk, written_name};

/// What a change of one object is refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The text is not TOML.
    NotToml(String),
    /// There is no such table; the advice names those there are.
    NoKind(String, String),
    /// There is no object of this kind with this name.
    NotThere(String, String),
    /// There is one already.
    Exists(String, String),
    /// An object of the kind has no place among others: there is one of it.
    Single(String),
    /// An object of the kind belongs to another, which has to be named; or to none, and one was.
    Within(String, bool),
    /// Something else than a table stands where the object should.
    NotATable(String),
    /// Tables of several kinds stand between each other in a way that cannot be kept.
    Tangled,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |name: &String| if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        match self {
            Self::NotToml(why) => write!(f, "the configuration is not TOML: {why}"),
            Self::NoKind(kind, advice) => write!(f, "there is no kind of object \"{kind}\"; {advice}"),
            Self::NotThere(kind, name) => write!(f, "there is no {kind}{}", named(name)),
            Self::Exists(kind, name) => write!(f, "there is a {kind}{} already", named(name)),
            Self::Single(kind) => write!(f, "there is one [{kind}]: it has no place among others"),
            Self::Within(kind, true) => {
                write!(
                    f,
                    "a {kind} belongs to another object: say to which, `within` (each name on the way, and a slash between)"
                )
            }
            Self::Within(kind, false) => write!(f, "a {kind} belongs to no other object: leave `within` out"),
            Self::NotATable(kind) => write!(f, "what is written at {kind} is no table"),
            Self::Tangled => f.write_str(
                "the tables of the configuration stand in an order in which this cannot be written; apply a text",
            ),
        }
    }
}

impl std::error::Error for EditError {}

/// One object: its name, and everything below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name behind those of the objects it belongs to; empty where there is one of its kind.
    pub name: String,
    /// Its keys and the tables below it.
    pub table: toml::Table,
}

/// Where an object stands among its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Site {
    /// Behind all others.
    #[default]
    Last,
    /// Right before the one with this name.
    Before(String),
    /// Right behind the one with this name.
    After(String),
}

/// A configuration whose objects can be changed one by one. After a change was refused it is of no use any more.
#[derive(Clone, Debug)]
pub struct Document(DocumentMut);

/// One table on the way to an object.
struct Step<'n> {
    /// The kind so far.
    kind: &'n str,
    /// The key in the table above.
    key: &'n str,
    /// Which of several.
    name: Option<&'n str>,
}

impl Document {
    /// The objects of a text.
    ///
    /// # Errors
    /// [`EditError::NotToml`].
    pub fn parse(text: &str) -> Result<Self, EditError> {
        text.parse().map(Self).map_err(|error: toml_edit::TomlError| EditError::NotToml(error.message().to_owned()))
    }

    /// The text, changed no further than what has changed.
    ///
    /// # Errors
    /// [`EditError::Tangled`] when it would say something else than this does.
    pub fn text(&self) -> Result<String, EditError> {
        let text = self.0.to_string();
        let again = Self::parse(&text).map_err(|_| EditError::Tangled)?;
        if plain_table(again.0.as_table()) == plain_table(self.0.as_table()) {
            Ok(text)
        } else {
            Err(EditError::Tangled)
        }
    }

    /// All objects of a kind, in their order.
    ///
    /// # Errors
    /// [`EditError::NoKind`].
    pub fn entries(&self, kind: &str) -> Result<Vec<Entry>, EditError> {
        known(kind)?;
        let mut met = Vec::new();
        walk("", "", self.0.as_table(), kind, &mut met);
        Ok(met.into_iter().map(|(name, table)| Entry { name, table }).collect())
    }

    /// One object.
    ///
    /// # Errors
    /// [`EditError::NoKind`], [`EditError::NotThere`].
    pub fn entry(&self, kind: &str, name: &str) -> Result<toml::Table, EditError> {
        self.reach(kind, name).map(plain_table)
    }

    /// One object, where it stands.
    fn reach(&self, kind: &str, name: &str) -> Result<&dyn TableLike, EditError> {
        known(kind)?;
        let not_there = || EditError::NotThere(kind.to_owned(), name.to_owned());
        if levels(kind) == 0 && !name.is_empty() {
            return Err(not_there());
        }
        let mut table: &dyn TableLike = self.0.as_table();
        for step in steps(kind, name) {
            let item = table.get(step.key).ok_or_else(not_there)?;
            let next = match step.name {
                Some(name) => {
                    let tables = tables_of(item);
                    find(tables.iter().copied(), name).and_then(|at| tables.get(at).copied())
                }
                None => item.as_table_like(),
            };
            table = next.ok_or_else(not_there)?;
        }
        Ok(table)
    }

    /// Adds an object; `within` names the one it belongs to, where its kind stands below another. Returns its name.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn insert(&mut self, kind: &str, within: &str, wanted: &toml::Table, site: &Site) -> Result<String, EditError> {
        let several = known(kind)?;
        let belongs_to = levels(kind) - usize::from(several);
        let named = if within.is_empty() { 0 } else { within.split('/').count() };
        if named != belongs_to {
            return Err(EditError::Within(kind.to_owned(), belongs_to > 0));
        }
        let own = name_of(wanted);
        let joined = |own: &str| if within.is_empty() { own.to_owned() } else { format!("{within}/{own}") };
        let name = if several { joined(&own) } else { within.to_owned() };
        if (!several || !own.is_empty()) && self.reach(kind, &name).is_ok() {
            return Err(EditError::Exists(kind.to_owned(), name));
        }
        let steps = steps(kind, &name);
        let Some((last, above)) = steps.split_last() else { return Err(no_kind(kind)) };
        if !several {
            if *site != Site::Last {
                return Err(EditError::Single(kind.to_owned()));
            }
            self.descend(above, true)?.insert(last.key, Item::Table(fresh(wanted)));
            return Ok(name);
        }
        let parent = self.descend(above, true)?;
        let item = parent.entry(last.key).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let tables = tables_mut(item).ok_or_else(|| EditError::NotATable(kind.to_owned()))?;
        let at = position(tables, kind, site)?;
        tables.insert(at, fresh(wanted));
        stand(tables, at);
        Ok(if own.is_empty() { joined(&(at + 1).to_string()) } else { name })
    }

    /// Gives an object these keys and tables and no others. What it has already stays as it is written. Returns its name,
    /// which is another when that is what was changed.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn replace(&mut self, kind: &str, name: &str, wanted: &toml::Table) -> Result<String, EditError> {
        let (own, renamed) = (name_of(wanted), written_name(self.reach(kind, name)?) != name_of(wanted));
        let table = self.descend(&steps(kind, name), false)?;
        merge(table, wanted);
        if !known(kind)? || !renamed {
            return Ok(name.to_owned());
        }
        Ok(outer(kind, name).map_or_else(|| own.clone(), |outer| format!("{outer}/{own}")))
    }

    /// Removes an object and everything below it.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn remove(&mut self, kind: &str, name: &str) -> Result<(), EditError> {
        self.reach(kind, name)?;
        self.take(kind, name).map(drop)
    }

    /// Gives an object another place among its kind. Returns its name, which is another where it is called by its place.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn relocate(&mut self, kind: &str, name: &str, site: &Site) -> Result<String, EditError> {
        if !known(kind)? {
            return Err(EditError::Single(kind.to_owned()));
        }
        self.reach(kind, name)?;
        let not_there = || EditError::NotThere(kind.to_owned(), name.to_owned());
        let steps = steps(kind, name);
        let Some((last, above)) = steps.split_last() else { return Err(no_kind(kind)) };
        let parent = self.descend(above, false)?;
        let tables = parent.get_mut(last.key).and_then(tables_mut).ok_or_else(not_there)?;
        let from = find(each(tables), last.name.unwrap_or_default()).ok_or_else(not_there)?;
        let to = position(tables, kind, site)?;
        // Its own place goes with it.
        let to = if from < to { to - 1 } else { to };
        if from == to {
            return Ok(name.to_owned());
        }
        let mut table = tables.remove(from);
        adrift(&mut table);
        let by_place = written_name(&table).is_empty().then(|| called(&table, to).into_owned());
        tables.insert(to, table);
        stand(tables, to);
        let Some(own) = by_place else { return Ok(name.to_owned()) };
        Ok(outer(kind, name).map_or_else(|| own.clone(), |outer| format!("{outer}/{own}")))
    }

    /// Takes an object out.
    fn take(&mut self, kind: &str, name: &str) -> Result<Table, EditError> {
        let not_there = || EditError::NotThere(kind.to_owned(), name.to_owned());
        let steps = steps(kind, name);
        let Some((last, above)) = steps.split_last() else { return Err(no_kind(kind)) };
        let parent = self.descend(above, false)?;
        let Some(own) = last.name else {
            return parent.remove(last.key).and_then(|item| item.into_table().ok()).ok_or_else(not_there);
        };
        let tables = parent.get_mut(last.key).and_then(tables_mut).ok_or_else(not_there)?;
        let at = find(each(tables), own).ok_or_else(not_there)?;
        let taken = tables.remove(at);
        if tables.is_empty() {
            parent.remove(last.key);
        }
        Ok(taken)
    }

    /// The table at the end of these steps; single ones that are not there are `made`.
    fn descend(&mut self, steps: &[Step<'_>], made: bool) -> Result<&mut Table, EditError> {
        let mut table = self.0.as_table_mut();
        for step in steps {
            let not_there = || EditError::NotThere(step.kind.to_owned(), step.name.unwrap_or_default().to_owned());
            table = match step.name {
                Some(name) => {
                    let tables = table.get_mut(step.key).and_then(tables_mut).ok_or_else(not_there)?;
                    let at = find(each(tables), name).ok_or_else(not_there)?;
                    tables.get_mut(at).ok_or_else(not_there)?
                }
                None => {
                    if made && !table.contains_key(step.key) {
                        table.insert(step.key, Item::Table(fresh(&toml::Table::new())));
                    }
                    let item = table.get_mut(step.key).ok_or_else(not_there)?;
                    table_mut(item).ok_or_else(|| EditError::NotATable(step.kind.to_owned()))?
                }
            };
        }
        Ok(table)
    }
}

/// Whether there can be several of a kind.
fn known(kind: &str) -> Result<bool, EditError> {
    forms().get(kind).filter(|_| !kind.is_empty()).map(|form| form.several).ok_or_else(|| no_kind(kind))
}

fn no_kind(kind: &str) -> EditError {
    let kinds = forms().keys().map(String::as_str).filter(|kind| !kind.is_empty());
    EditError::NoKind(kind.to_owned(), did_you_mean(kind, kinds, "the kinds are"))
}

/// How many names say which object of a kind is meant.
fn levels(kind: &str) -> usize {
    forms().get(kind).map_or(0, |form| form.levels)
}

/// The name of the object that one of a kind of which there can be several belongs to.
fn outer<'n>(kind: &str, name: &'n str) -> Option<&'n str> {
    let end = name.match_indices('/').nth(levels(kind).checked_sub(2)?)?.0;
    name.get(..end)
}

/// The way to an object. Names of the objects it belongs to have no slash in them; its own may (`10.0.0.0/8`).
fn steps<'n>(kind: &'n str, name: &'n str) -> Vec<Step<'n>> {
    let ends = kind.match_indices('.').map(|(dot, _)| dot).chain([kind.len()]);
    let kinds: Vec<&str> = ends.filter_map(|end| kind.get(..end)).collect();
    let mut names = name.splitn(levels(kind).max(1), '/');
    let step = |kind: &'n str| {
        let key = kind.rsplit_once('.').map_or(kind, |(_, key)| key);
        let name = (known(kind) == Ok(true)).then(|| names.next().unwrap_or_default());
        Step { kind, key, name }
    };
    kinds.into_iter().map(step).collect()
}

fn position(tables: &ArrayOfTables, kind: &str, site: &Site) -> Result<usize, EditError> {
    let at = |name: &String| find(each(tables), name).ok_or_else(|| EditError::NotThere(kind.to_owned(), name.clone()));
    match site {
        Site::Last => Ok(tables.len()),
        Site::Before(other) => at(other),
        Site::After(other) => at(other).map(|at| at + 1),
    }
}

/// The table, written in its own lines from now on.
fn table_mut(item: &mut Item) -> Option<&mut Table> {
    if item.is_inline_table() {
        *item = Item::Table(std::mem::take(item).into_table().ok()?);
    }
    item.as_table_mut()
}

/// The tables, each written in its own lines from now on.
fn tables_mut(item: &mut Item) -> Option<&mut ArrayOfTables> {
    if item.as_array().is_some_and(Array::is_empty) {
        *item = Item::ArrayOfTables(ArrayOfTables::new());
    } else if item.is_array() {
        match std::mem::take(item).into_array_of_tables() {
            Ok(tables) => *item = Item::ArrayOfTables(tables),
            Err(other) => {
                *item = other;
                return None;
            }
        }
    }
    item.as_array_of_tables_mut()
}

/// Lets a table and those below it be written where they stand in the document, instead of where they stood in the file.
fn adrift(table: &mut Table) {
    table.set_position(None);
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(below) => adrift(below),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(adrift),
            Item::None | Item::Value(_) => {}
        }
    }
}

/// Has a table that stands nowhere written behind the one before it and all below that, or where the one after it stands. It
/// would be written behind what comes before it in the document, which may stand anywhere in the file.
fn stand(tables: &mut ArrayOfTables, at: usize) {
    let place = match at.checked_sub(1) {
        Some(before) => tables.get(before).and_then(lowest),
        None => tables.iter().find_map(Table::position),
    };
    if let Some(table) = tables.get_mut(at) {
        table.set_position(place);
    }
}

/// Where the last of a table and those below it stands in the file.
fn lowest(table: &Table) -> Option<isize> {
    let below = table.iter().filter_map(|(_, item)| match item {
        Item::Table(below) => lowest(below),
        Item::ArrayOfTables(tables) => tables.iter().filter_map(lowest).max(),
        Item::None | Item::Value(_) => None,
    });
    below.max().max(table.position())
}

/// Gives a table these keys and no others; what is right already is not touched.
fn merge(table: &mut Table, wanted: &toml::Table) {
    let gone: Vec<String> =
        table.iter().map(|(key, _)| key.to_owned()).filter(|key| !wanted.contains_key(key)).collect();
    for key in gone {
        table.remove(&key);
    }
    for (key, value) in wanted {
        if table.get(key).and_then(plain).as_ref() == Some(value) {
            continue;
        }
        match value {
            toml::Value::Table(inner) => match table.get_mut(key).and_then(table_mut) {
                Some(there) => merge(there, inner),
                None => drop(table.insert(key, Item::Table(fresh(inner)))),
            },
            toml::Value::Array(entries) if is_tables(entries) => {
                let inner = entries.iter().filter_map(toml::Value::as_table);
                match table.get_mut(key).and_then(tables_mut) {
                    Some(there) => merge_tables(there, inner),
                    None => drop(table.insert(key, Item::ArrayOfTables(inner.map(fresh).collect()))),
                }
            }
            toml::Value::Array(none) if none.is_empty() && table.contains_array_of_tables(key) => {
                table.remove(key);
            }
            other => match table.get_mut(key).and_then(Item::as_value_mut) {
                Some(there) => {
                    let around = there.decor().clone();
                    *there = written(other);
                    *there.decor_mut() = around;
                }
                None => drop(table.insert(key, Item::Value(written(other)))),
            },
        }
    }
}

/// The same of several tables, told apart by their names.
fn merge_tables<'w>(tables: &mut ArrayOfTables, wanted: impl Iterator<Item = &'w toml::Table>) {
    let mut there: Vec<Option<Table>> = std::mem::take(tables).into_iter().map(Some).collect();
    let (mut last, mut in_order, mut added) = (0, true, Vec::new());
    for wanted in wanted {
        let name = name_of(wanted);
        let at = there.iter().position(|table| table.as_ref().is_some_and(|table| written_name(table) == name));
        match at.and_then(|at| there.get_mut(at).and_then(Option::take)) {
            Some(mut table) => {
                in_order &= at >= Some(last);
                last = at.unwrap_or(last);
                merge(&mut table, wanted);
                tables.push(table);
            }
            None => {
                added.push(tables.len());
                tables.push(fresh(wanted));
            }
        }
    }
    if in_order {
        added.into_iter().for_each(|at| stand(tables, at));
    } else {
        tables.iter_mut().for_each(adrift);
    }
}

/// Whether a list is one of tables.
fn is_tables(entries: &[toml::Value]) -> bool {
    !entries.is_empty() && entries.iter().all(toml::Value::is_table)
}

/// A new table, a blank line before it.
fn fresh(wanted: &toml::Table) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    let (first, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|(key, _)| *key == "name");
    for (key, value) in first.into_iter().chain(others) {
        let item = match value {
            toml::Value::Table(inner) => Item::Table(fresh(inner)),
            toml::Value::Array(entries) if is_tables(entries) => {
                Item::ArrayOfTables(entries.iter().filter_map(toml::Value::as_table).map(fresh).collect())
            }
            other => Item::Value(written(other)),
        };
        table.insert(key, item);
    }
    table
}

/// A value as it is written.
fn written(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(yes) => (*yes).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(entries) => Value::Array(entries.iter().map(written).collect::<Array>()),
        toml::Value::Table(inner) => {
            Value::InlineTable(inner.iter().map(|(key, value)| (key.as_str(), written(value))).collect::<InlineTable>())
        }
    }
}

#[cfg(test)]
mod tests;
