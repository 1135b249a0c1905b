//! A report as one page of HTML that needs nothing else: no script, no network, colours by the reader's preference.

use core::fmt::Write;

use super::svg::{drawn, escaped};
use super::terminal::{compared, stages};
use super::{Chapter, Report, Table};

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = String::new();
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>millrace-perf {}</title>\n<style>\n{STYLE}</style></head>\n\
         <body><h1>Millrace {}: what a packet costs</h1>\n",
        report.begun,
        escaped(&report.millrace)
    );
    let hertz = format!("{:.3} GHz", machine.hertz / 1e9);
    let rows = [
        ("Begun", report.begun.to_string()),
        ("Command", report.command.clone()),
        ("Processor", machine.processor.clone()),
        ("Cores", format!("{} online, isolated: {:?}", machine.cores, machine.isolated)),
        ("Virtual machine", if machine.is_virtual { "yes" } else { "no" }.to_owned()),
        ("Time stamp counter", hertz),
        ("Kernel", machine.kernel.clone()),
        ("DPDK", machine.dpdk.clone()),
        ("Hugepages", machine.hugepages.clone()),
        ("Load before the run", format!("{:.2}", machine.load)),
    ];
    page.push_str("<table class=\"facts\">");
    for (name, value) in rows {
        let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    page.push_str("</table>\n<p>Figures are cycles of the time stamp counter for each packet: the middle window, and the \
                   fastest twentieth (p5). Net is what the appliance costs above dpdk-testpmd in io mode on the same \
                   devices, measured in turn in the same run. Spread is testpmd's own, from its fastest twentieth to its \
                   slowest: differences below it mean nothing.</p>\n");
    for each in &report.chapters {
        chapter(&mut page, each);
    }
    page.push_str("</body></html>\n");
    page
}

fn chapter(page: &mut String, chapter: &Chapter) {
    let _ = writeln!(page, "<section><h2>{}</h2>\n<p>{}</p>", escaped(&chapter.case), escaped(&chapter.sentence));
    let _ = writeln!(page, "<p class=\"method\">{}</p>", escaped(&chapter.method));
    if !chapter.measurements.is_empty() {
        table(page, &compared(&chapter.measurements));
        if let Some(stages) = stages(&chapter.measurements) {
            table(page, &stages);
        }
    }
    for plot in &chapter.plots {
        let _ = writeln!(page, "<h3>{}</h3>\n<figure>{}</figure>", escaped(&plot.title), drawn(plot));
    }
    for each in &chapter.tables {
        let _ = writeln!(page, "<h3>{}</h3>", escaped(&each.title));
        table(page, each);
    }
    for note in &chapter.notes {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escaped(note));
    }
    for failure in &chapter.failed {
        let _ = writeln!(page, "<p class=\"failed\">Failed: {}</p>", escaped(failure));
    }
    page.push_str("</section>\n");
}

fn table(page: &mut String, table: &Table) {
    page.push_str("<div class=\"wide\"><table><tr>");
    for column in &table.columns {
        let _ = write!(page, "<th>{}</th>", escaped(column));
    }
    page.push_str("</tr>\n");
    for row in &table.rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escaped(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}
