//! What changes by itself and is looked at once a second: carrier of ports, how much of what is bounded is in use, whether the
//! workers turn. Says what has changed since the last look; the first look says nothing.
//!
//! Called by the journal's thread; reads counters.

use std::collections::HashMap;

use crate::admin::Appliance;
use crate::bulletin::Happening;
use crate::status::Link;

/// Percent in use from which something is nearly used up, and below which it is not any more.
const EXCEEDED: u64 = 80;
const RELIEVED: u64 = 70;

/// A worker that has not turned for this long stands still, ms.
const STANDSTILL_MS: u64 = 1_000;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub struct Watch {
    links: HashMap<String, Link>,
    alive: HashMap<usize, bool>,
    exceeded: HashMap<&'static str, bool>,
}

impl Watch {
    /// What has changed since the last look.
    pub fn look(&mut self, appliance: &dyn Appliance) -> Vec<Happening> {
        let mut happened = Vec::new();
        for port in appliance.ports() {
            if self.links.insert(port.name.clone(), port.link).is_some_and(|before| before != port.link) {
                happened.push(Happening::Port { port: port.name, link: port.link });
            }
        }
        for worker in appliance.workers() {
            let alive = worker.heartbeat_age_ms < STANDSTILL_MS;
            if self.alive.insert(worker.core, alive).is_some_and(|before| before != alive) {
                happened.push(Happening::Worker { core: worker.core as u64, alive });
            }
        }
        let memory = appliance.memory();
        happened.extend(self.level("sessions", memory.sessions_in_use, memory.sessions_capacity));
        happened.extend(self.level("buffers", memory.buffers_in_use, memory.buffers_total));
        happened
    }

    /// Between the two marks it is as it was.
    fn level(&mut self, what: &'static str, used: u64, of: u64) -> Option<Happening> {
        let percent = used.saturating_mul(100).checked_div(of)?;
        let before = self.exceeded.get(what).copied().unwrap_or_default();
        let exceeded = if before { percent >= RELIEVED } else { percent >= EXCEEDED };
        self.exceeded.insert(what, exceeded);
        (exceeded != before).then(|| Happening::Threshold { what: what.to_owned(), exceeded, percent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_when_it_is_crossed_and_not_for_every_ripple() {
        let mut watch = Watch::default();
        let mut told = Vec::new();
        for used in [0, 79, 80, 81, 79, 75, 80, 70, 69, 75, 79, 100] {
            told.extend(watch.level("sessions", used, 100).map(|it| match it {
                Happening::Threshold { exceeded, percent, .. } => (exceeded, percent),
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(told, [(true, 80), (false, 69), (true, 100)]);
        assert_eq!(watch.level("nothing", 1, 0), None);
    }
}
