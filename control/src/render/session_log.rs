//! `millrace show session-log`.

use super::{NUMBERS, WORDS, drawn, table};
use crate::status::SessionLogStatus;

/// `millrace show session-log`: whom is told what, and how much of it has arrived where.
#[must_use]
pub fn session_log(log: &SessionLogStatus) -> String {
    let mut words = match (&log.format, &log.collector) {
        (Some(format), Some(collector)) => {
            let mut lines = table(&[("FORMAT", WORDS), ("COLLECTOR", WORDS), ("STATE", WORDS), ("EVENTS", WORDS)]);
            lines.add_row([format.clone(), collector.clone(), log.state.clone(), log.events.join(" ")]);
            drawn(&lines)
        }
        _ => "nobody is told of sessions; [session_log] of the configuration says who is".to_owned(),
    };
    if let Some(trouble) = &log.trouble {
        words.push_str(&format!("\n\nthe collector cannot be reached: {trouble}"));
    }
    let mut counters = table(&[
        ("RECORDS", NUMBERS),
        ("LOST", NUMBERS),
        ("WAITING", NUMBERS),
        ("SENT", NUMBERS),
        ("UNSENT", NUMBERS),
        ("MESSAGES", NUMBERS),
        ("BYTES", NUMBERS),
        ("CONNECTIONS", NUMBERS),
    ]);
    let counted = [log.records, log.lost, log.waiting, log.sent, log.unsent, log.messages, log.bytes, log.connections];
    counters.add_row(counted.map(|number| number.to_string()));
    format!("{words}\n\n{}", drawn(&counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_and_what_is_in_the_way_are_said() {
        let log = SessionLogStatus {
            format: Some("ipfix".into()),
            collector: Some("udp 192.0.2.9:4739".into()),
            events: vec!["open".into(), "nat".into()],
            state: "down".into(),
            trouble: Some("Connection refused".into()),
            records: 7,
            lost: 3,
            ..SessionLogStatus::default()
        };
        let shown = session_log(&log);
        for piece in ["ipfix", "udp 192.0.2.9:4739", "down", "open nat", "Connection refused", "      7     3"] {
            assert!(shown.contains(piece), "{piece}\n{shown}");
        }
        assert!(session_log(&SessionLogStatus::default()).contains("nobody is told"));
    }
}
