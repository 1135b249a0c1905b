//! `millrace trace`: a packet's way, a line a decision.

use std::fmt::Write as _;

use crate::status::{TraceEnd, TraceStatus};

/// One packet's way.
#[must_use]
pub fn trace(trace: &TraceStatus) -> String {
    let mut text = match (trace.at, trace.worker) {
        (Some(at), Some(worker)) => format!("{at:.6}  worker {worker}, generation {}\n", trace.generation),
        _ => format!("as of generation {}; nothing was sent, nothing changed\n", trace.generation),
    };
    for step in &trace.steps {
        let _ = writeln!(text, "  {:<10} {}", step.stage, step.text);
    }
    let _ = write!(text, "  => {}", trace.sentence);
    if let Some(reason) = &trace.reason {
        let _ = write!(text, " ({reason})");
    }
    for depends in &trace.depends {
        let _ = write!(text, "\n     depends on {depends}");
    }
    text
}

/// How a trace ended.
#[must_use]
pub fn trace_end(end: &TraceEnd) -> String {
    let why = match end.why.as_str() {
        "count" => "as many as were asked for",
        "time" => "the time is over",
        _ => "the appliance ended it",
    };
    let packets = if end.packets == 1 { "1 packet".to_owned() } else { format!("{} packets", end.packets) };
    let lost = match end.lost {
        0 => String::new(),
        lost => format!("; {lost} more matched, came too fast to be told of, and were treated like all others"),
    };
    format!("{packets}: {why}{lost}")
}
