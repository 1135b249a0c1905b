//! What separates two policies, object by object: a pure comparison of their texts, printed by `millrace diff` before
//! anything is tried. Objects are told apart by kind and name, so that what moved within the file is not taken for
//! something else; order counts only where the first match wins.

use std::collections::HashMap;

use config::{Object, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::restart_needed;

/// Kinds of objects of which the first that matches decides.
const IN_ORDER: [&str; 2] = ["firewall.rule", "source_nat"];

/// What applying a configuration would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The generation in force it was compared with.
    pub generation: u64,
    /// What of it only a restart can bring about; then it would be refused.
    pub restart: Vec<String>,
    /// Every object that would come, go, or be another.
    pub changes: Vec<Change>,
}

/// What would become of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Its table: `firewall.rule`.
    pub kind: String,
    /// Its name; empty where there is one of its kind.
    pub name: String,
    /// What would become of it.
    pub what: What,
    /// The keys that would come, go or have another value; all of them for an object that comes or goes.
    pub keys: Vec<KeyChange>,
    /// Its place among its kind, from 1, where order counts: before and after, if the change is about that.
    pub place: Option<(usize, usize)>,
}

/// The kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It would be new.
    Added,
    /// It would be gone.
    Removed,
    /// It would have other keys, or another place.
    Changed,
}

/// A key of an object, as TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// What is written there now; null where it is not.
    pub before: Option<String>,
    /// What would be written there; null where it would not.
    pub after: Option<String>,
}

/// A configuration and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it says.
    pub policy: &'a Policy,
    /// How it is written.
    pub text: &'a str,
}

impl Plan {
    /// What separates `wanted` from `running`, which is `generation`.
    #[must_use]
    pub fn between(running: Side<'_>, generation: u64, wanted: Side<'_>) -> Self {
        let restart = restart_needed(running.policy, wanted.policy).into_iter().map(str::to_owned).collect();
        // Written otherwise and meaning the same is no change.
        let same = running.policy == wanted.policy;
        let changes =
            if same { Vec::new() } else { changes(&config::outline(running.text), &config::outline(wanted.text)) };
        Self { generation, restart, changes }
    }
}

type Identity<'o> = (&'o str, &'o str);

fn identity(object: &Object) -> Identity<'_> {
    (&object.kind, &object.name)
}

fn changes(before: &[Object], after: &[Object]) -> Vec<Change> {
    let old: HashMap<Identity<'_>, &Object> = before.iter().map(|object| (identity(object), object)).collect();
    let new: HashMap<Identity<'_>, &Object> = after.iter().map(|object| (identity(object), object)).collect();
    let mut places = HashMap::new();
    for kind in IN_ORDER {
        moved(kind, before, after, &mut places);
    }
    let gone = before.iter().filter(|object| !new.contains_key(&identity(object)));
    let mut changes: Vec<Change> = gone.map(|object| change(object, What::Removed, keys(Some(object), None))).collect();
    for object in after {
        match old.get(&identity(object)) {
            None => changes.push(change(object, What::Added, keys(None, Some(object)))),
            Some(was) => {
                let (keys, place) = (keys(Some(was), Some(object)), places.get(&identity(object)).copied());
                if !keys.is_empty() || place.is_some() {
                    changes.push(Change { place, ..change(object, What::Changed, keys) });
                }
            }
        }
    }
    changes
}

fn change(object: &Object, what: What, keys: Vec<KeyChange>) -> Change {
    Change { kind: object.kind.clone(), name: object.name.clone(), what, keys, place: None }
}

fn keys(before: Option<&Object>, after: Option<&Object>) -> Vec<KeyChange> {
    let of = |object: Option<&Object>, key: &String| object.and_then(|object| object.keys.get(key)).cloned();
    let mut all: Vec<&String> = [before, after].into_iter().flatten().flat_map(|object| object.keys.keys()).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .map(|key| KeyChange { key: key.clone(), before: of(before, key), after: of(after, key) })
        .filter(|key| key.before != key.after)
        .collect()
}

/// Finds the objects of a kind that have to move so that the others can stay: all that are not in the longest run that is
/// in order before and after. What comes or goes moves nothing.
fn moved<'o>(
    kind: &str,
    before: &'o [Object],
    after: &'o [Object],
    places: &mut HashMap<Identity<'o>, (usize, usize)>,
) {
    let of_kind = |objects: &'o [Object]| objects.iter().filter(move |object| object.kind == kind).map(identity);
    let old: HashMap<Identity<'_>, usize> = of_kind(before).zip(1..).collect();
    let both: Vec<(Identity<'_>, usize, usize)> =
        of_kind(after).zip(1..).filter_map(|(object, new)| Some((object, *old.get(&object)?, new))).collect();
    let stays = longest_rise(&both.iter().map(|(_, old, _)| *old).collect::<Vec<_>>());
    for ((object, old, new), stays) in both.into_iter().zip(stays) {
        if !stays {
            places.insert(object, (old, new));
        }
    }
}

/// Which of these, all different, belong to a longest subsequence that only rises.
fn longest_rise(values: &[usize]) -> Vec<bool> {
    // Of each length found so far, the position whose value is the lowest to end it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(values.len());
    let value = |position: usize| values.get(position).copied().unwrap_or_default();
    for position in 0..values.len() {
        let length = ends.partition_point(|&end| value(end) < value(position));
        before.push(length.checked_sub(1).and_then(|shorter| ends.get(shorter).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = position,
            None => ends.push(position),
        }
    }
    let mut belongs = vec![false; values.len()];
    let mut at = ends.last().copied();
    while let Some(position) = at {
        if let Some(belongs) = belongs.get_mut(position) {
            *belongs = true;
        }
        at = before.get(position).copied().flatten();
    }
    belongs
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const EDGE: &str = include_str!("../../../config/examples/edge.toml");

    fn plan(before: &str, after: &str) -> Plan {
        let [old, new] = [before, after].map(|text| config::load(text, Path::new("edge.toml")).unwrap().policy);
        Plan::between(Side { policy: &old, text: before }, 7, Side { policy: &new, text: after })
    }

    fn edge_with(from: &str, to: &str) -> String {
        assert!(EDGE.contains(from), "{from}");
        EDGE.replacen(from, to, 1)
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        assert_eq!(plan(EDGE, EDGE), Plan { generation: 7, ..Plan::default() });
        let rewritten = edge_with("capacity = 100_000", "# as before\ncapacity = 100000");
        assert_eq!(plan(EDGE, &rewritten).changes, []);
    }

    #[test]
    fn each_change_names_its_object_and_its_keys() {
        let ping = "[[firewall.rule]]\nname = \"ping\"";
        let more = format!("[[firewall.rule]]\nname = \"new\"\naction = \"deny\"\nprotocol = \"gre\"\n\n{ping}");
        let wanted = edge_with(ping, &more).replace("weight = 2", "weight = 3").replace("\"servers-out\"", "\"out\"");
        let plan = plan(EDGE, &wanted);
        assert_eq!(plan.restart, [""; 0]);
        let listed: Vec<_> =
            plan.changes.iter().map(|change| (change.kind.as_str(), change.name.as_str(), change.what)).collect();
        assert_eq!(
            listed,
            [
                ("source_nat", "servers-out", What::Removed),
                ("firewall.rule", "new", What::Added),
                ("source_nat", "out", What::Added),
                ("virtual_service.backend", "shop/shop-b", What::Changed),
            ]
        );
        let weight = KeyChange { key: "weight".into(), before: Some("2".into()), after: Some("3".into()) };
        assert_eq!(plan.changes[3].keys, [weight]);
        assert!(plan.changes.iter().all(|change| change.place.is_none()), "nothing moved");
        assert_eq!(plan.changes[1].keys.len(), 3);
    }

    #[test]
    fn a_rule_that_moves_is_named_and_those_it_passes_are_not() {
        let rule = |name: &str| format!("[[firewall.rule]]\nname = \"{name}\"\naction = \"allow\"\n");
        let base = EDGE.split("[[firewall.rule]]").next().unwrap();
        let text = |names: &[&str]| format!("{base}{}", names.iter().map(|name| rule(name)).collect::<String>());
        let plan = plan(&text(&["a", "b", "c", "d"]), &text(&["d", "a", "b", "c"]));
        let [moved] = &plan.changes[..] else { panic!("{plan:?}") };
        assert_eq!((moved.name.as_str(), moved.what, moved.place), ("d", What::Changed, Some((4, 1))));
        assert_eq!(moved.keys, []);
    }

    #[test]
    fn what_takes_a_restart_is_said_with_the_rest() {
        let plan = plan(EDGE, &edge_with("workers = [1]", "workers = [1, 2]").replace("100_000", "200_000"));
        assert_eq!(plan.restart, ["[cores]", "[dpdk]", "[sessions] capacity"]);
        assert_eq!(plan.changes.len(), 2);
    }
}
