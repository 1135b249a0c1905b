//! How a record of the log is written: for people, for programs, or for the journal. The policy in force says which; until there
//! is one, for people.
//!
//! Called by whoever logs, on any thread.

use std::sync::atomic::{AtomicU8, Ordering};

use config::policy::LogFormat;
use jiff::Timestamp;
use log::{Level, Record};
use serde_json::json;

static FORMAT: AtomicU8 = AtomicU8::new(TEXT);
const TEXT: u8 = 0;
const JSON: u8 = 1;
const JOURNAL: u8 = 2;

/// Writes records like this from now on.
pub fn set(format: LogFormat) {
    let number = match format {
        LogFormat::Text => TEXT,
        LogFormat::Json => JSON,
        LogFormat::Journal => JOURNAL,
    };
    FORMAT.store(number, Ordering::Relaxed);
}

/// A record as its line; a message of several lines stays one record.
#[must_use]
pub fn line(record: &Record<'_>, now: Timestamp) -> String {
    match FORMAT.load(Ordering::Relaxed) {
        JSON => json(record, now),
        JOURNAL => journal(record),
        _ => format!("{now:.3} {:<5} {}: {}", record.level(), record.target(), record.args()),
    }
}

fn json(record: &Record<'_>, now: Timestamp) -> String {
    json!({
        "time": format!("{now:.3}"),
        "level": record.level().as_str().to_lowercase(),
        "target": record.target(),
        "message": record.args().to_string(),
    })
    .to_string()
}

fn journal(record: &Record<'_>) -> String {
    // sd-daemon(3): the numbers of syslog(3).
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let text = format!("{}: {}", record.target(), record.args());
    text.lines().map(|line| format!("<{priority}>{line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_reader() {
        let now: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        let args = format_args!("two\nlines \"quoted\"");
        let record = Record::builder().level(Level::Warn).target("dpdk").args(args).build();
        assert_eq!(line(&record, now), "2026-01-02T03:04:05.678Z WARN  dpdk: two\nlines \"quoted\"");
        let read: serde_json::Value = serde_json::from_str(&json(&record, now)).unwrap();
        assert_eq!(read["time"], "2026-01-02T03:04:05.678Z");
        assert_eq!((&read["level"], &read["target"]), (&"warn".into(), &"dpdk".into()));
        assert_eq!(read["message"], "two\nlines \"quoted\"");
        assert_eq!(journal(&record), "<4>dpdk: two\n<4>lines \"quoted\"");
    }
}
