//! Whether an established packet costs more when there are more virtual services.

use super::Case;
use super::growth::{self, Growth};
use super::point::{Point, counted};
use crate::Outcome;
use crate::bench::{Bench, or};
use crate::report::Chapter;
use crate::traffic::Clients;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Services;

/// Sessions, where the user does not say.
const SESSIONS: u32 = 100_000;
/// Numbers of services that are compared.
const SERVICES: [u16; 2] = [1, 10_000];

impl Case for Services {
    fn name(&self) -> &'static str {
        "services"
    }

    fn sentence(&self) -> &'static str {
        "The same established traffic to one virtual service and to many: it must cost the same."
    }

    fn method(&self) -> &'static str {
        "As established, UDP over IPv4, with services that follow each other by port and two backends for each. The clients \
         are spread over all services, so that all of their counters are in use."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        for sessions in or(&bench.settings.sessions, &[SESSIONS]) {
            let point = Point::plain(sessions);
            let mut experiments = Vec::new();
            for count in SERVICES {
                let mut blueprint = point.blueprint(bench)?;
                blueprint.set_services(count)?;
                let clients = Clients { services: count, ..Clients::new(blueprint.target()?, sessions) };
                let mut experiment = point.experiment_with(bench, blueprint, clients)?;
                experiment.label = format!("{}, {}", point.label(), counted(count.into(), "service"));
                experiment.parameters.insert("services".to_owned(), count.to_string());
                experiments.push(experiment);
            }
            growth::measure(bench, chapter, &experiments, Growth { most: 0.03 })?;
        }
        Ok(())
    }
}
