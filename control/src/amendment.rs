//! Changes of single objects of the policy, several as one: the operator's text as it is, and what it becomes. Pure; `admin`
//! reads them off the wire, `running` walks the road of every change with the text they make.
//!
//! An object is named by its kind and its name, as `diff` prints them, and has a tag that is another whenever anything of it
//! is (RFC 9110 section 8.8.3): who changes or removes one says which state of it is meant.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::{Document, EditError, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::{Applied, Refusal, RefusalKind};

/// Which states of something are meant, as `If-Match` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Tags(String);

impl Tags {
    /// The value of an `If-Match` header.
    #[must_use]
    pub fn new(written: impl Into<String>) -> Self {
        Self(written.into())
    }

    /// Whether this state is among them. Weak tags are never (RFC 9110 section 13.1.1).
    #[must_use]
    pub fn contain(&self, tag: &str) -> bool {
        self.0.split(',').map(str::trim).any(|one| one == "*" || one == tag)
    }
}

/// One object as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectStatus {
    /// Its kind: `firewall.rule`.
    pub kind: String,
    /// Its name behind those of the objects it belongs to: `shop/shop-a`; empty where there is one of its kind.
    pub name: String,
    /// The tag of this state.
    pub etag: String,
    /// Its keys and what stands below it.
    pub object: Map<String, Value>,
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Change {
    /// Adds one.
    Create {
        /// Its kind.
        kind: String,
        /// The name of the object it belongs to, for kinds below others: `shop` for a `virtual_service.backend`.
        #[serde(default)]
        within: String,
        /// Its keys and what stands below it.
        object: Map<String, Value>,
        /// It comes right before the one with this name.
        #[serde(default)]
        before: Option<String>,
        /// It comes right behind the one with this name; without either, behind all.
        #[serde(default)]
        after: Option<String>,
    },
    /// Gives one these keys and no others.
    Replace {
        /// Its kind.
        kind: String,
        /// Its name.
        #[serde(default)]
        name: String,
        /// Its keys and what stands below it.
        object: Map<String, Value>,
        /// The state that is meant; `"*"` for whichever there is.
        #[serde(default)]
        if_match: Option<Tags>,
    },
    /// Gives one these keys beside those it has; null removes one (JSON merge patch, RFC 7396).
    Merge {
        /// Its kind.
        kind: String,
        /// Its name.
        #[serde(default)]
        name: String,
        /// What is to be another.
        object: Map<String, Value>,
        /// The state that is meant; `"*"` for whichever there is.
        #[serde(default)]
        if_match: Option<Tags>,
    },
    /// Gives one another place among its kind: of rules the first that matches decides.
    Move {
        /// Its kind.
        kind: String,
        /// Its name.
        #[serde(default)]
        name: String,
        /// It comes right before the one with this name.
        #[serde(default)]
        before: Option<String>,
        /// It comes right behind the one with this name; without either, behind all.
        #[serde(default)]
        after: Option<String>,
        /// The state that is meant; `"*"` for whichever there is.
        #[serde(default)]
        if_match: Option<Tags>,
    },
    /// Removes one, and all that stands below it.
    Delete {
        /// Its kind.
        kind: String,
        /// Its name.
        #[serde(default)]
        name: String,
        /// The state that is meant; `"*"` for whichever there is.
        #[serde(default)]
        if_match: Option<Tags>,
    },
}

/// Changes that come into force together, or not at all.
#[derive(Clone, Debug)]
pub struct Amendment {
    /// The changes, each to what those before it have made.
    pub changes: Vec<Change>,
    /// The state of the whole policy that is meant; objects then need not say theirs.
    pub if_match: Option<Tags>,
    /// Who wants it.
    pub who: String,
    /// How soon it has to be confirmed, if at all.
    pub confirm_within: Option<Duration>,
}

/// What became of an amendment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amended {
    /// The generation it made.
    #[serde(flatten)]
    pub applied: Applied,
    /// The objects it left behind, one for each change; those removed are left out.
    pub objects: Vec<ObjectStatus>,
}

/// A text, as the objects it has; copies are of the same. It is taken apart when somebody first asks for one of them, and
/// stays so.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The text.
    pub text: Arc<str>,
    objects: Arc<OnceLock<Result<Document, EditError>>>,
}

impl Configuration {
    /// Of this text.
    #[must_use]
    pub fn new(text: Arc<str>) -> Self {
        Self { text, objects: Arc::default() }
    }

    /// The tag of the policy as a whole: another text has another, whatever the generations.
    #[must_use]
    pub fn etag(&self) -> String {
        tag(&self.text)
    }

    /// The objects of a kind.
    ///
    /// # Errors
    /// A [`Refusal`] when there is no such kind.
    pub fn objects(&self, kind: &str) -> Result<Vec<ObjectStatus>, Refusal> {
        let entries = self.document()?.entries(kind).map_err(refused)?;
        Ok(entries.into_iter().map(|entry| status(kind, entry.name, &entry.table)).collect())
    }

    /// One object.
    ///
    /// # Errors
    /// A [`Refusal`] when there is none.
    pub fn object(&self, kind: &str, name: &str) -> Result<ObjectStatus, Refusal> {
        let entry = self.document()?.entry(kind, name).map_err(refused)?;
        Ok(status(kind, name.to_owned(), &entry))
    }

    fn document(&self) -> Result<&Document, Refusal> {
        let document = self.objects.get_or_init(|| Document::parse(&self.text));
        document.as_ref().map_err(|error| refused(error.clone()))
    }
}

/// Changes that can be made at once.
pub const CHANGES_MAX: usize = 1_000;

impl Amendment {
    /// What it does, in a few words on one line, for the log.
    #[must_use]
    pub fn in_words(&self) -> String {
        const TOLD: usize = 16;
        let mut words: Vec<String> = self.changes.iter().take(TOLD).map(Change::in_words).collect();
        if let Some(more @ 1..) = self.changes.len().checked_sub(TOLD) {
            words.push(format!("{more} more"));
        }
        words.join(", ")
    }

    /// What becomes of a text; the names of the objects it leaves behind.
    ///
    /// # Errors
    /// A [`Refusal`] with the number of the change it is about, from 1, where there are several.
    pub fn carried_out(&self, on: &Configuration) -> Result<(String, Vec<(String, String)>), Refusal> {
        if let Some(tags) = &self.if_match
            && !tags.contain(&on.etag())
        {
            return Err(changed_meanwhile("the policy", &on.etag()));
        }
        let mut document = on.document()?.clone();
        let mut left = Vec::new();
        for (change, number) in self.changes.iter().zip(1..) {
            let done = change.carry_out(&mut document, self.if_match.is_some());
            let named = done.map_err(|refusal| match self.changes.len() {
                1 => refusal,
                _ => Refusal { message: format!("change {number}: {}", refusal.message), ..refusal },
            })?;
            left.extend(named);
        }
        Ok((document.text().map_err(refused)?, left))
    }
}

impl Change {
    fn in_words(&self) -> String {
        let (does, kind, name) = match self {
            Self::Create { kind, within, object, .. } => {
                let own = own_name(object).unwrap_or_default();
                ("create", kind, if within.is_empty() { own } else { format!("{within}/{own}") })
            }
            Self::Replace { kind, name, .. } => ("replace", kind, name.clone()),
            Self::Merge { kind, name, .. } => ("merge", kind, name.clone()),
            Self::Move { kind, name, .. } => ("move", kind, name.clone()),
            Self::Delete { kind, name, .. } => ("delete", kind, name.clone()),
        };
        format!("{does} {} {name:?}", kind.escape_debug())
    }

    /// Makes the change; the object it leaves behind. `settled`: which state is meant is said for the policy as a whole.
    fn carry_out(&self, document: &mut Document, settled: bool) -> Result<Option<(String, String)>, Refusal> {
        match self {
            Self::Create { kind, within, object, before, after } => {
                let site = site(before.as_ref(), after.as_ref())?;
                let name = document.insert(kind, within, &table(object)?, &site).map_err(refused)?;
                Ok(Some((kind.clone(), name)))
            }
            Self::Replace { kind, name, object, if_match } => {
                meant(document, kind, name, if_match.as_ref(), settled)?;
                let name = document.replace(kind, name, &table(object)?).map_err(refused)?;
                Ok(Some((kind.clone(), name)))
            }
            Self::Merge { kind, name, object, if_match } => {
                let mut merged = meant(document, kind, name, if_match.as_ref(), settled)?.object;
                merge(&mut merged, object);
                let name = document.replace(kind, name, &table(&merged)?).map_err(refused)?;
                Ok(Some((kind.clone(), name)))
            }
            Self::Move { kind, name, before, after, if_match } => {
                meant(document, kind, name, if_match.as_ref(), settled)?;
                let site = site(before.as_ref(), after.as_ref())?;
                let name = document.relocate(kind, name, &site).map_err(refused)?;
                Ok(Some((kind.clone(), name)))
            }
            Self::Delete { kind, name, if_match } => {
                meant(document, kind, name, if_match.as_ref(), settled)?;
                document.remove(kind, name).map_err(refused)?;
                Ok(None)
            }
        }
    }
}

/// The object that is to be changed, when it is in the state that is meant.
fn meant(
    document: &Document,
    kind: &str,
    name: &str,
    if_match: Option<&Tags>,
    settled: bool,
) -> Result<ObjectStatus, Refusal> {
    let there = status(kind, name.to_owned(), &document.entry(kind, name).map_err(refused)?);
    match if_match {
        Some(tags) if tags.contain(&there.etag) => Ok(there),
        Some(_) => Err(changed_meanwhile(&called(kind, name), &there.etag)),
        None if settled => Ok(there),
        None => {
            let message = format!(
                "{} exists: say which state of it is meant, with If-Match and its ETag, or * for whichever there is",
                called(kind, name)
            );
            Err(Refusal::new(RefusalKind::PreconditionRequired, message))
        }
    }
}

fn called(kind: &str, name: &str) -> String {
    if name.is_empty() { format!("[{kind}]") } else { format!("{kind} \"{name}\"") }
}

fn changed_meanwhile(what: &str, etag: &str) -> Refusal {
    let message = format!("{what} is in another state than is meant: {etag}; read it again");
    Refusal::new(RefusalKind::PreconditionFailed, message)
}

fn site(before: Option<&String>, after: Option<&String>) -> Result<Site, Refusal> {
    match (before, after) {
        (None, None) => Ok(Site::Last),
        (Some(other), None) => Ok(Site::Before(other.clone())),
        (None, Some(other)) => Ok(Site::After(other.clone())),
        (Some(_), Some(_)) => {
            Err(Refusal::new(RefusalKind::BadRequest, "it comes `before` one or `after` one, not both"))
        }
    }
}

fn status(kind: &str, name: String, table: &toml::Table) -> ObjectStatus {
    let etag = tag((kind, &name, table.to_string()));
    // TOML has nothing that JSON has not: the readers take no dates.
    let object = match serde_json::to_value(table) {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => Map::new(),
    };
    ObjectStatus { kind: kind.to_owned(), name, etag, object }
}

/// The tag of a state: another as soon as anything of it is.
fn tag(state: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn table(object: &Map<String, Value>) -> Result<toml::Table, Refusal> {
    serde_json::from_value(Value::Object(object.clone())).map_err(|error| {
        let message = format!("the object cannot be written as TOML: {error}; leave out what is null");
        Refusal::new(RefusalKind::BadRequest, message)
    })
}

/// What an object is called among its kind; a [`Refusal`] when it cannot be written down.
///
/// # Errors
/// A [`Refusal`].
pub fn own_name(object: &Map<String, Value>) -> Result<String, Refusal> {
    Ok(config::name_of(&table(object)?))
}

/// JSON merge patch (RFC 7396 section 2).
fn merge(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match (value, into.get_mut(key)) {
            (Value::Null, _) => drop(into.remove(key)),
            (Value::Object(inner), Some(Value::Object(there))) => merge(there, inner),
            (Value::Object(inner), _) => {
                let mut fresh = Map::new();
                merge(&mut fresh, inner);
                into.insert(key.clone(), Value::Object(fresh));
            }
            (value, _) => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
fn refused(error: EditError) -> Refusal {
    let kind = match &error {
        EditError::NoKind(..) | EditError::NotThere(..) => RefusalKind::NotFound,
        EditError::Exists(..) => RefusalKind::Conflict,
        EditError::Single(_) | EditError::Within(..) | EditError::NotATable(_) => RefusalKind::BadRequest,
        EditError::NotToml(_) | EditError::Tangled => RefusalKind::Failed,
    };
    Refusal::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration() -> Configuration {
        Configuration::new(Arc::from(include_str!("../../config/examples/edge.toml")))
    }

    fn changes(written: Value) -> Vec<Change> {
        serde_json::from_value(written).unwrap()
    }

    fn amend(written: Value, if_match: Option<&str>) -> Result<(Configuration, Vec<(String, String)>), Refusal> {
        let amendment = Amendment {
            changes: changes(written),
            if_match: if_match.map(Tags::new),
            who: "op".into(),
            confirm_within: None,
        };
        let (text, left) = amendment.carried_out(&configuration())?;
        Ok((Configuration::new(text.into()), left))
    }

    #[test]
    fn several_changes_build_on_each_other() {
        let (after, left) = amend(
            json!([
                {"do": "create", "kind": "firewall.rule", "object": {"name": "dns", "action": "allow", "protocol": "udp"}},
                {"do": "merge", "kind": "firewall.rule", "name": "dns", "object": {"protocol": null, "log": true}},
                {"do": "move", "kind": "firewall.rule", "name": "dns", "before": "clients-to-shop"},
                {"do": "delete", "kind": "virtual_service.backend", "name": "shop/shop-b"},
            ]),
            Some(&configuration().etag()),
        )
        .unwrap();
        assert_eq!(left, vec![("firewall.rule".to_owned(), "dns".to_owned()); 3]);
        let rules = after.objects("firewall.rule").unwrap();
        let place = |name: &str| rules.iter().position(|rule| rule.name == name).unwrap();
        assert_eq!(
            Value::Object(rules[place("dns")].object.clone()),
            json!({"name": "dns", "action": "allow", "log": true})
        );
        assert_eq!(place("dns") + 1, place("clients-to-shop"));
        assert_eq!(after.object("virtual_service.backend", "shop/shop-b").unwrap_err().kind, RefusalKind::NotFound);
    }

    #[test]
    fn who_changes_what_exists_says_which_state_is_meant() {
        let rule = configuration().object("firewall.rule", "clients-to-shop").unwrap();
        let delete =
            |tag: Value| json!([{"do": "delete", "kind": "firewall.rule", "name": "clients-to-shop", "if_match": tag}]);
        assert_eq!(amend(delete(Value::Null), None).unwrap_err().kind, RefusalKind::PreconditionRequired);
        assert_eq!(amend(delete(json!("\"old\"")), None).unwrap_err().kind, RefusalKind::PreconditionFailed);
        assert_eq!(
            amend(delete(json!(format!("W/{}", rule.etag))), None).unwrap_err().kind,
            RefusalKind::PreconditionFailed
        );
        assert_eq!(
            amend(delete(Value::Null), Some("\"of another\"")).unwrap_err().kind,
            RefusalKind::PreconditionFailed
        );
        for fits in [json!(rule.etag), json!("*"), json!(format!("\"old\", {}", rule.etag))] {
            amend(delete(fits), None).unwrap();
        }
        amend(delete(Value::Null), Some("*")).unwrap();
    }

    #[test]
    fn refusals_say_which_change_they_are_about() {
        let object = json!({"name": "x", "action": "allow"});
        let create = json!({"do": "create", "kind": "firewall.rule", "object": object});
        let twice = amend(json!([create, create]), None).unwrap_err();
        assert_eq!(
            (twice.kind, &*twice.message),
            (RefusalKind::Conflict, "change 2: there is a firewall.rule \"x\" already")
        );
        let null = json!([{"do": "create", "kind": "firewall.rule", "object": {"name": null}}]);
        assert_eq!(amend(null, None).unwrap_err().kind, RefusalKind::BadRequest);
        let both = json!([{"do": "create", "kind": "firewall.rule", "object": object, "before": "a", "after": "b"}]);
        assert_eq!(amend(both, None).unwrap_err().kind, RefusalKind::BadRequest);
        for odd in [json!([{"do": "explode", "kind": "a"}]), json!([{"do": "delete", "kind": "a", "colour": 1}])] {
            assert!(serde_json::from_value::<Vec<Change>>(odd).is_err());
        }
    }

    #[test]
    fn a_tag_is_another_when_anything_of_the_object_is() {
        let tag = |configuration: &Configuration| configuration.object("virtual_service", "shop").unwrap().etag;
        let change = |kind: &str, name: &str, object: Value| {
            amend(json!([{"do": "merge", "kind": kind, "name": name, "object": object, "if_match": "*"}]), None)
                .unwrap()
                .0
        };
        assert_ne!(tag(&change("virtual_service.backend", "shop/shop-a", json!({"weight": 7}))), tag(&configuration()));
        assert_eq!(tag(&change("firewall.rule", "clients-to-shop", json!({"log": true}))), tag(&configuration()));
    }
}
