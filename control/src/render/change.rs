//! The generations, and what commands that change something say they did.

use super::{NUMBERS, WORDS, drawn, or_dash, table};
use crate::status::{Applied, AppliedPolicy, Changed, How, PolicyStatus, Standing};

/// `millrace show policy`: the one in force first, then those before it.
#[must_use]
pub fn policy(policy: &PolicyStatus) -> String {
    let mut table = table(&[
        ("GENERATION", NUMBERS),
        ("APPLIED AT", WORDS),
        ("HOW", WORDS),
        ("WHO", WORDS),
        ("SOURCE", WORDS),
        ("", WORDS),
    ]);
    let mut row = |applied: &AppliedPolicy, note: String| {
        let how = match applied.how {
            How::Start => "start",
            How::Apply => "apply",
            How::Sighup => "sighup",
            How::Amend => "amend",
            How::Reload => "reload",
            How::Rollback => "rollback",
            How::Return => "return",
        };
        table.add_row([
            applied.generation.to_string(),
            applied.applied_at.to_string(),
            applied.of.map_or_else(|| how.to_owned(), |of| format!("{how} of {of}")),
            or_dash(Some(&applied.who).filter(|who| !who.is_empty())),
            applied.source.clone(),
            note,
        ]);
    };
    let waits = |left: u64| format!("in force, {} s left to confirm it", left / 1_000);
    row(&policy.current, policy.confirm_within_ms.map_or_else(|| "in force".to_owned(), waits));
    for before in &policy.history {
        let note = match before.standing {
            Standing::Pending => "not committed",
            Standing::Committed => "",
            Standing::Withdrawn => "withdrawn",
        };
        row(before, note.to_owned());
    }
    drawn(&table)
}

/// What `apply` or `rollback` did, in words.
#[must_use]
pub fn applied(applied: &Applied) -> String {
    let mut text: String = applied.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    let generation = applied.generation;
    text.push_str(&match (applied.unchanged, applied.confirm_within_ms) {
        (true, _) => format!("nothing to change: generation {generation} is in force"),
        (false, None) => format!("generation {generation} is in force"),
        (false, Some(within)) => format!(
            "generation {generation} is in force for {} s; `millrace confirm` keeps it, without it the policy before comes back",
            within / 1_000
        ),
    });
    text
}

/// What `confirm` did, in words.
#[must_use]
pub fn confirmed(applied: &Applied) -> String {
    format!("generation {} is confirmed", applied.generation)
}

/// What `drain` did, in words.
#[must_use]
pub fn drained(changed: &Changed) -> String {
    let Changed { backends, sessions } = changed;
    format!("no new sessions for {}; {} to run out", counted(*backends, "backend"), counted(*sessions, "session"))
}

/// What `drain --undo` did, in words.
#[must_use]
pub fn undrained(changed: &Changed) -> String {
    let Changed { backends, sessions } = changed;
    format!("{} no longer drained; {} go on", are(*backends, "backend"), counted(*sessions, "session"))
}

/// What `flush` did, in words.
#[must_use]
pub fn flushed(changed: &Changed) -> String {
    let Changed { backends, sessions } = changed;
    format!("{} of {} ended", counted(*sessions, "session"), counted(*backends, "backend"))
}

fn are(number: u64, what: &str) -> String {
    format!("{} {}", counted(number, what), if number == 1 { "is" } else { "are" })
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agree_with_their_nouns() {
        let changed = |backends, sessions| Changed { backends, sessions };
        assert_eq!(drained(&changed(1, 0)), "no new sessions for 1 backend; 0 sessions to run out");
        assert_eq!(undrained(&changed(1, 0)), "1 backend is no longer drained; 0 sessions go on");
        assert_eq!(undrained(&changed(2, 7)), "2 backends are no longer drained; 7 sessions go on");
        assert_eq!(flushed(&changed(2, 1)), "1 session of 2 backends ended");
    }
}
