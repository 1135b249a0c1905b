//! Whether an established packet costs more when there are more rules.

use super::Case;
use super::growth::{self, Growth};
use super::point::{Point, counted};
use crate::Outcome;
use crate::bench::{Bench, or};
use crate::report::Chapter;
use crate::traffic::Clients;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Rules;

/// Sessions, where the user does not say.
const SESSIONS: u32 = 100_000;
/// Numbers of rules that are compared, where the user does not say.
const RULES: [u32; 2] = [1, 100_000];

impl Case for Rules {
    fn name(&self) -> &'static str {
        "rules"
    }

    fn sentence(&self) -> &'static str {
        "The same established traffic under few rules and under many: it must cost the same."
    }

    fn method(&self) -> &'static str {
        "As established, UDP over IPv4. The rules share the clients out by address and range of source ports, so that each \
         admits as many sessions as any other."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        for sessions in or(&bench.settings.sessions, &[SESSIONS]) {
            let point = Point::plain(sessions);
            let mut experiments = Vec::new();
            for count in or(&bench.settings.rules, &RULES) {
                let mut blueprint = point.blueprint(bench)?;
                let clients = Clients::new(blueprint.target()?, sessions);
                blueprint.set_rules(count, &clients)?;
                let mut experiment = point.experiment_with(bench, blueprint, clients)?;
                experiment.label = format!("{}, {}", point.label(), counted(count, "rule"));
                experiment.parameters.insert("rules".to_owned(), count.to_string());
                experiments.push(experiment);
            }
            growth::measure(bench, chapter, &experiments, Growth { most: 0.03 })?;
        }
        Ok(())
    }
}
