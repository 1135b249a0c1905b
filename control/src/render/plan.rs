//! `millrace diff`: what would change, an object a paragraph, as people read a difference.

use crate::generation::Plan;
use crate::generation::plan::{Change, KeyChange, What};

/// Characters of a value that are shown: address sets can be as long as the file. `--json` has all of it.
const VALUE_MAX: usize = 100;

/// `millrace diff`.
#[must_use]
pub fn plan(plan: &Plan) -> String {
    let mut text: String = plan.changes.iter().map(changed).collect();
    let count = |what| plan.changes.iter().filter(|change| change.what == what).count();
    let (added, removed, other) = (count(What::Added), count(What::Removed), count(What::Changed));
    let generation = plan.generation;
    text.push_str(&match plan.changes.len() {
        0 => format!("nothing changes: it means what generation {generation}, in force, means"),
        _ => format!("{added} added, {removed} removed, {other} changed against generation {generation}, in force"),
    });
    if !plan.restart.is_empty() {
        text.push_str(&format!("\nit would be refused: {} can only change with a restart", plan.restart.join(", ")));
    }
    text
}

fn changed(change: &Change) -> String {
    let sign = match change.what {
        What::Added => '+',
        What::Removed => '-',
        What::Changed => '~',
    };
    let name = if change.name.is_empty() { String::new() } else { format!(" \"{}\"", change.name) };
    let place = change.place.map_or_else(String::new, |(from, to)| format!(", from place {from} to {to}"));
    let keys: String = change.keys.iter().map(key).collect();
    format!("{sign} {}{name}{place}\n{keys}", change.kind)
}

fn key(change: &KeyChange) -> String {
    let key = &change.key;
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("    {key} = {} -> {}\n", short(before), short(after)),
        (Some(only), None) => format!("  - {key} = {}\n", short(only)),
        (None, Some(only)) => format!("  + {key} = {}\n", short(only)),
        (None, None) => String::new(),
    }
}

fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_MAX) {
        Some((cut, _)) => format!("{}...", value.get(..cut).unwrap_or_default()),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_as_a_difference() {
        let key = |key: &str, before: Option<&str>, after: Option<&str>| KeyChange {
            key: key.into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let change = |kind: &str, name: &str, what, keys, place| {
            let (kind, name) = (kind.to_owned(), name.to_owned());
            Change { kind, name, what, keys, place }
        };
        let long = format!("[{}]", "1, ".repeat(100));
        let plan = Plan {
            generation: 7,
            restart: vec!["[cores]".into(), "[dpdk]".into()],
            changes: vec![
                change("route", "10.0.0.0/8", What::Removed, vec![key("via", Some("\"10.1.0.1\""), None)], None),
                change("cores", "", What::Changed, vec![key("workers", Some("[1]"), Some(&long))], None),
                change("firewall.rule", "ping", What::Changed, vec![key("log", None, Some("true"))], Some((3, 1))),
            ],
        };
        let cut = &long[..100];
        let wanted = format!(
            "- route \"10.0.0.0/8\"\n  - via = \"10.1.0.1\"\n~ cores\n    workers = [1] -> {cut}...\n\
             ~ firewall.rule \"ping\", from place 3 to 1\n  + log = true\n\
             0 added, 1 removed, 2 changed against generation 7, in force\n\
             it would be refused: [cores], [dpdk] can only change with a restart"
        );
        assert_eq!(super::plan(&plan), wanted);
        let nothing = Plan { generation: 7, ..Plan::default() };
        assert_eq!(super::plan(&nothing), "nothing changes: it means what generation 7, in force, means");
    }
}
