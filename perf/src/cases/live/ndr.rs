//! The highest rate without loss, and with a little.

use super::{Line, Subject, datagrams, found, search, share};
use crate::Outcome;
use crate::bench::Bench;
use crate::cases::Case;
use crate::report::{Chapter, Table};
use crate::traffic::Size;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Ndr;

/// The loss of the partial-drop rate (RFC 9004 section 6 speaks of loss ratios; this one is FD.io CSIT's).
const PARTIAL: f64 = 0.005;
/// The highest rate tried, requests a second.
const MOST: f64 = 12e6;

impl Case for Ndr {
    fn name(&self) -> &'static str {
        "ndr"
    }

    fn sentence(&self) -> &'static str {
        "The no-drop rate and the rate at which half a percent is lost, in both directions."
    }

    fn method(&self) -> &'static str {
        "Clients outside send datagrams of 64 bytes to a balanced service (nat), servers inside answer each; the generator is \
         both, the subject a process of its own between two memif devices. MLRsearch over the request rate: trials a \
         twentieth of --seconds long, bounds within 2 %, a load is judged by three of five trials. Packets are counted in both directions. \
         A figure with > is the generator's limit, not the subject's."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut line = Line::new(bench)?;
        let mut rows = Vec::new();
        let mut results = Vec::new();
        for subject in Subject::BOTH {
            let bar = bench.progress(&format!("ndr, {}", subject.name()), 1);
            let bounds = line.with(subject, 65_536, |generator| {
                let mut offer = datagrams(bench, 10_000, Size::Bytes(64));
                offer.warm_up(generator, 100_000.0, bench.settings.run / 5)?;
                offer.search(generator, &search(bench, MOST, vec![0.0, PARTIAL]))
            })?;
            bar.finish_and_clear();
            results.push(bounds);
        }
        for (goal, name) in ["no drop", "0.5 % lost"].into_iter().enumerate() {
            let mut row = vec![name.to_owned()];
            let of = |subject: usize| results.get(subject).and_then(|bounds| bounds.get(goal));
            if let (Some(base), Some(ours)) = (of(0), of(1)) {
                row.extend([found(base, 2.0), found(ours, 2.0), share(base, ours)]);
            }
            rows.push(row);
        }
        chapter.tables.push(Table {
            title: "Packets through the subject, millions a second".to_owned(),
            columns: ["goal", "testpmd io", "millrace", "of testpmd"].map(str::to_owned).into(),
            rows,
        });
        Ok(())
    }
}
