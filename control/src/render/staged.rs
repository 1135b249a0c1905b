//! `millrace show firewall --staged`: rules on probation among those that would stay.

use super::{NUMBERS, WORDS, drawn, table};
use crate::status::{StagedRuleStatus, StagedStatus};

/// What is on probation, and what it would have done.
#[must_use]
pub fn staged(staged: &StagedStatus) -> String {
    let Some(default) = &staged.default else { return "nothing is staged".to_owned() };
    let mut table = table(&[
        ("RULE", WORDS),
        ("ACTION", WORDS),
        ("STAGED", WORDS),
        ("HITS", NUMBERS),
        ("WOULD ALLOW", NUMBERS),
        ("WOULD REFUSE", NUMBERS),
    ]);
    let mut row = |name: &str, staged: &str, rule: &StagedRuleStatus| {
        table.add_row([
            name.to_owned(),
            rule.action.clone(),
            staged.to_owned(),
            rule.hits.to_string(),
            rule.would_allow.to_string(),
            rule.would_refuse.to_string(),
        ]);
    };
    for rule in &staged.rules {
        row(&rule.name, if rule.staged { "yes" } else { "no" }, rule);
    }
    row("(default)", "", default);
    match (&staged.source, &staged.who, staged.since) {
        (Some(source), Some(who), Some(since)) => {
            format!("the rules of {source}, by {who}, since {since}\n{}", drawn(&table))
        }
        _ => drawn(&table),
    }
}
