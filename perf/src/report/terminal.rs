//! A report as text: a table for each case, as wide as it needs.

use core::fmt::Write;

use comfy_table::{CellAlignment, Table as Drawn, presets};

use super::{Chapter, Measurement, Report, Table};

/// The whole report.
#[must_use]
pub fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = String::new();
    let virtual_machine = if machine.is_virtual { ", virtual" } else { "" };
    let _ = writeln!(text, "millrace {}, {}", report.millrace, report.begun);
    let _ = writeln!(
        text,
        "{}{virtual_machine}, {} cores, TSC {:.3} GHz, Linux {}, {}, hugepages {}, load {:.2}",
        machine.processor,
        machine.cores,
        machine.hertz / 1e9,
        machine.kernel,
        machine.dpdk,
        machine.hugepages,
        machine.load
    );
    for each in &report.chapters {
        chapter(&mut text, each);
    }
    text
}

/// One case.
fn chapter(text: &mut String, chapter: &Chapter) {
    let _ = writeln!(text, "\n{}: {}", chapter.case, chapter.sentence);
    if !chapter.measurements.is_empty() {
        let _ = writeln!(text, "{}", drawn(&compared(&chapter.measurements)));
        if let Some(stages) = stages(&chapter.measurements) {
            let _ = writeln!(text, "{}", drawn(&stages));
        }
    }
    for table in &chapter.tables {
        let _ = writeln!(text, "{}\n{}", table.title, drawn(table));
    }
    for note in &chapter.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    for failure in &chapter.failed {
        let _ = writeln!(text, "  FAILED: {failure}");
    }
}

/// The columns of a comparison, in cycles a packet unless they say otherwise.
pub(super) fn compared(measurements: &[Measurement]) -> Table {
    let columns = [
        "cycles a packet",
        "testpmd io",
        "p5",
        "macswap",
        "millrace",
        "p5",
        "net",
        "p5",
        "target",
        "Mpps",
        "ratio",
        "spread",
    ];
    let row = |each: &Measurement| {
        let target = each.target.map_or_else(|| "-".to_owned(), |target| format!("{target:.0}"));
        vec![
            each.label.clone(),
            format!("{:.1}", each.testpmd.median),
            format!("{:.1}", each.testpmd.p5),
            if each.macswap.count > 0 { format!("{:.1}", each.macswap.median) } else { "-".to_owned() },
            format!("{:.1}", each.millrace.median),
            format!("{:.1}", each.millrace.p5),
            format!("{:.1}", each.net.median),
            format!("{:.1}", each.net.p5),
            target,
            format!("{:.2}", each.mpps),
            format!("{:.2}", each.ratio),
            format!("{:.0} %", each.testpmd.spread() * 100.0),
        ]
    };
    let rows = measurements.iter().map(row).collect();
    Table { title: String::new(), columns: columns.map(str::to_owned).to_vec(), rows }
}

/// Cycles by stage, and how full bursts were; nothing where stages were not looked at.
pub(super) fn stages(measurements: &[Measurement]) -> Option<Table> {
    let mut names: Vec<&str> = Vec::new();
    for stage in measurements.iter().flat_map(|each| &each.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    if names.is_empty() {
        return None;
    }
    let row = |each: &Measurement| {
        let cycles = names.iter().map(|name| {
            let stage = each.stages.iter().find(|stage| stage.name == *name);
            stage.map_or_else(|| "-".to_owned(), |stage| format!("{:.1}", stage.cycles))
        });
        [each.label.clone()].into_iter().chain(cycles).chain([format!("{:.1}", each.burst_fill)]).collect()
    };
    let rows = measurements.iter().map(row).collect();
    let columns =
        ["cycles a packet in"].iter().chain(&names).chain(&["packets a burst"]).map(|&name| name.to_owned()).collect();
    Some(Table { title: String::new(), columns, rows })
}

fn drawn(table: &Table) -> Drawn {
    let mut drawn = Drawn::new();
    drawn.load_preset(presets::NOTHING).set_header(&table.columns).add_rows(&table.rows);
    for column in drawn.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    drawn
}
