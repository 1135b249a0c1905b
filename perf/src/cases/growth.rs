//! Comparisons whose point is that nothing grows: the first of several experiments is the measure of the others.

use crate::Outcome;
use crate::bench::{Bench, Experiment};
use crate::report::{Chapter, Measurement, Table};

/// What was aimed at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// How much more than the first the others may cost, as a share.
    pub(super) most: f64,
}

/// Measures the experiments in turn and sets the others against the first.
pub(super) fn measure(bench: &Bench, chapter: &mut Chapter, experiments: &[Experiment], growth: Growth) -> Outcome<()> {
    let measured = bench.compare_all(experiments)?;
    chapter.tables.extend(against_the_first(&measured, growth));
    chapter.measurements.extend(measured);
    Ok(())
}

fn against_the_first(measured: &[Measurement], growth: Growth) -> Option<Table> {
    let (first, others) = measured.split_first()?;
    let more = |mine: f64, first: f64| format!("{:+.1} %", (mine / first - 1.0) * 100.0);
    let row = |other: &Measurement| {
        vec![
            other.label.clone(),
            more(other.millrace.median, first.millrace.median),
            more(other.millrace.p5, first.millrace.p5),
            format!("{:.1} %", first.testpmd.spread().max(other.testpmd.spread()) * 100.0),
            format!("{:+.0} %", growth.most * 100.0),
        ]
    };
    (!others.is_empty()).then(|| Table {
        title: format!("Cycles a packet, all told, against {}", first.label),
        columns: ["", "median", "p5", "testpmd's spread", "target at most"].map(str::to_owned).to_vec(),
        rows: others.iter().map(row).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Window;

    #[test]
    fn the_others_are_told_by_how_much_more_they_cost() {
        let measured = |packets| {
            let window = |packets| [Window { seconds: 1.0, packets }];
            Measurement::of(&window(10_000), &window(packets), 1.0e6, 1)
        };
        let all = [measured(1_000), measured(800), measured(1_000)];
        let table = against_the_first(&all, Growth { most: 0.03 }).unwrap();
        assert_eq!(table.rows[0][1], "+25.0 %");
        assert_eq!(table.rows[1][1..], ["+0.0 %", "+0.0 %", "0.0 %", "+3 %"]);
        assert!(against_the_first(&all[..1], Growth { most: 0.03 }).is_none());
    }
}
