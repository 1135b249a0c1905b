//! How long packets are in the appliance, by load.

use std::time::Duration;

use super::{Line, Subject, datagrams, found, millions, packets, search};
use crate::Outcome;
use crate::bench::Bench;
use crate::cases::Case;
use crate::generator::Tally;
use crate::report::{self, Axis, Chapter, Plot, Table};
use crate::statistics::Figures;
use crate::traffic::Size;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Latency;

/// Loads, in percent of the appliance's rate.
const LOADS: [u32; 4] = [10, 50, 80, 95];
/// The loss at which the rate is found.
const PARTIAL: f64 = 0.005;
const MOST: f64 = 12e6;
/// Trials at each load; figures are the middle ones of their percentiles.
const TRIALS: u32 = 9;

/// What one subject showed at one load.
struct Shown {
    subject: Subject,
    load: u32,
    tallies: Vec<Tally>,
}

impl Shown {
    /// The middle of the trials' times at this percentile.
    fn percentile(&self, percent: f64) -> f64 {
        Figures::of(self.tallies.iter().map(|tally| tally.latency.percentile_us(percent))).median
    }

    fn row(&self, rate: f64) -> Vec<String> {
        let (offered, lost) = self.tallies.iter().map(packets).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let longest = self.tallies.iter().map(|tally| tally.latency.max_us()).fold(0.0, f64::max);
        let time = |micros: f64| format!("{micros:.1}");
        vec![
            format!("{} % = {}", self.load, millions(rate * 2.0)),
            self.subject.name().to_owned(),
            time(self.percentile(50.0)),
            time(self.percentile(90.0)),
            time(self.percentile(99.0)),
            time(self.percentile(99.9)),
            time(longest),
            format!("{lost} of {offered}"),
        ]
    }

    /// The distribution over all trials, the share of slower packets against the time.
    fn line(&self) -> Option<report::Line> {
        let mut tallies = self.tallies.iter();
        let mut all = tallies.next()?.latency.clone();
        tallies.for_each(|tally| all.add(&tally.latency));
        let points = all.curve().into_iter().filter(|point| point.0 < 100.0);
        let points = points.map(|(percent, micros)| (100.0 / (100.0 - percent), micros)).collect();
        Some(report::Line { name: format!("{} {} %", self.subject.name(), self.load), points })
    }
}

impl Case for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn sentence(&self) -> &'static str {
        "The time from sender to receiver through the appliance at 10, 50, 80 and 95 % of its rate, beside testpmd at the same rates."
    }

    fn method(&self) -> &'static str {
        "As ndr. The rate is the appliance's at half a percent lost, found first. Every packet carries the counter's value at \
         which it was made; one of eight is timed when the receiver, the same thread on the other device, takes it. So a figure \
         holds both devices' rings and the generator's own turn, which testpmd io shows alone. Nine trials of a tenth of \
         --seconds at each load; a percentile is the middle of the nine, the maximum the largest."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut line = Line::new(bench)?;
        let length = (bench.settings.run / 10).max(Duration::from_millis(50));
        let bar = bench.progress("latency", 2);
        let at = |subject: Subject, rate: f64, generator: &mut _| -> Outcome<Vec<Shown>> {
            let mut offer = datagrams(bench, 10_000, Size::Bytes(64));
            offer.warm_up(generator, 100_000.0, bench.settings.run / 5)?;
            LOADS
                .into_iter()
                .map(|load| {
                    let rate = rate * f64::from(load) / 100.0;
                    let tallies = (0..TRIALS).map(|_| offer.run(generator, rate, length)).collect::<Outcome<_>>()?;
                    Ok(Shown { subject, load, tallies })
                })
                .collect()
        };
        let (bounds, ours) = line.with(Subject::Millrace, 65_536, |generator| {
            let mut offer = datagrams(bench, 10_000, Size::Bytes(64));
            offer.warm_up(generator, 100_000.0, bench.settings.run / 5)?;
            let found = offer.search(generator, &search(bench, MOST, vec![PARTIAL]))?;
            let bounds = found.first().copied().filter(|bounds| bounds.offered > 0.0).ok_or("no rate was found")?;
            Ok((bounds, at(Subject::Millrace, bounds.offered, generator)?))
        })?;
        bar.inc(1);
        let base = line.with(Subject::Testpmd, 65_536, |generator| at(Subject::Testpmd, bounds.offered, generator))?;
        bar.finish_and_clear();
        let shown: Vec<Shown> = base.into_iter().zip(ours).flat_map(|(base, ours)| [base, ours]).collect();
        chapter.notes.push(format!("100 % is {} million packets a second, both directions.", found(&bounds, 2.0)));
        chapter.tables.push(Table {
            title: "Microseconds from sender to receiver".to_owned(),
            columns: ["load, Mpps", "subject", "p50", "p90", "p99", "p99.9", "max", "lost"].map(str::to_owned).into(),
            rows: shown.iter().map(|one| one.row(bounds.offered * f64::from(one.load) / 100.0)).collect(),
        });
        chapter.plots.push(Plot {
            title: "Time under way by the share of slower packets (10 is the slowest tenth, 100 the slowest hundredth)"
                .to_owned(),
            x: Axis { title: "one packet in".to_owned(), logarithmic: true },
            y: Axis { title: "microseconds".to_owned(), logarithmic: true },
            lines: shown.iter().filter_map(Shown::line).collect(),
        });
        Ok(())
    }
}
