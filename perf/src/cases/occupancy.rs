//! Whether a packet costs more when the session table is nearly full (STX-02).

use super::Case;
use super::growth::{self, Growth};
use super::point::{Point, thousands};
use crate::Outcome;
use crate::bench::Bench;
use crate::report::Chapter;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Occupancy;

/// Room for sessions in the table that is crowded.
const CAPACITY: u32 = 1_048_576;
/// Nine tenths of it.
const CROWD: u32 = CAPACITY / 10 * 9;

impl Case for Occupancy {
    fn name(&self) -> &'static str {
        "occupancy"
    }

    fn sentence(&self) -> &'static str {
        "Established traffic in a session table that is 10 and 90 % full."
    }

    fn method(&self) -> &'static str {
        "As established, UDP over IPv4. First the same sessions in a table of nine times the room and in one they fill to 90 %: \
         only the crowd differs. Then the crowded table's size with a ninth of the sessions, which are fewer lines of memory \
         as well. The target is 85 % of the rate, 18 % more cycles."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let experiment = |sessions: u32, capacity: u32, fill: &str| {
            let point = Point::plain(sessions);
            let mut experiment = point.experiment(bench)?;
            experiment.capacity = capacity;
            experiment.target = None;
            experiment.label = format!("{}, {fill} of {}", point.label(), thousands(capacity));
            experiment.parameters.insert("capacity".to_owned(), capacity.to_string());
            Outcome::Ok(experiment)
        };
        let experiments = [
            experiment(CROWD, CAPACITY * 9, "10 %")?,
            experiment(CROWD, CAPACITY, "90 %")?,
            experiment(CROWD / 9, CAPACITY, "10 %")?,
        ];
        growth::measure(bench, chapter, &experiments, Growth { most: 1.0 / 0.85 - 1.0 })
    }
}
