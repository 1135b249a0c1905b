//! `millrace show restart`.

use super::{NUMBERS, WORDS, drawn, table};
use crate::status::RestartStatus;

/// `millrace show restart`: what has become of the sessions of the process before.
#[must_use]
pub fn restart(restart: &RestartStatus) -> String {
    if let Some(trouble) = &restart.trouble {
        return format!("what the process before has left could not be used: {trouble}");
    }
    let Some(outage) = restart.outage_ms else {
        return "the process before has left nothing".to_owned();
    };
    let mut counts = table(&[("WRITTEN", NUMBERS), ("LEFT OUT", NUMBERS), ("TAKEN UP", NUMBERS), ("OUTAGE", NUMBERS)]);
    let [written, left_out, taken_up] =
        [restart.written, restart.left_out, restart.taken_up].map(|number| number.to_string());
    counts.add_row([written, left_out, taken_up, format!("{outage} ms")]);
    if restart.not_taken_up.is_empty() {
        return drawn(&counts);
    }
    let mut reasons = table(&[("NOT TAKEN UP", WORDS), ("SESSIONS", NUMBERS)]);
    for (reason, count) in &restart.not_taken_up {
        reasons.add_row([reason.clone(), count.to_string()]);
    }
    format!("{}\n\n{}", drawn(&counts), drawn(&reasons))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_on_and_what_did_not_is_said() {
        let status = RestartStatus {
            generation: Some(7),
            written: 1_200,
            left_out: 3,
            taken_up: 1_195,
            not_taken_up: [("expired".to_owned(), 4), ("no_backend".to_owned(), 1)].into(),
            outage_ms: Some(812),
            trouble: None,
        };
        let shown = restart(&status);
        for piece in ["1200", "1195", "812 ms", "no_backend", "expired"] {
            assert!(shown.contains(piece), "{piece}\n{shown}");
        }
        assert_eq!(
            status.summary().unwrap(),
            "1195 of 1200 sessions go on (not: 4 expired, 1 no_backend); no packet was treated for 812 ms"
        );
        let nothing = RestartStatus::default();
        assert!(restart(&nothing).contains("left nothing") && nothing.summary().is_none());
        let trouble = RestartStatus { trouble: Some("it is damaged".into()), ..nothing };
        assert!(restart(&trouble).contains("could not be used: it is damaged"));
    }
}
