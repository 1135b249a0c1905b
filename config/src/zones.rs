//! Zones: declared by ports, named by rules.

use units::ZoneId;
use units::limits::ZONES_MAX;

use crate::findings::{At, Finding};
use crate::nearest::{did_you_mean, quoted};
use crate::section::Section;

/// The zone that stands for the appliance itself.
pub(crate) const APPLIANCE: &str = "appliance";

/// Zone names by their number.
#[derive(Debug)]
pub(crate) struct Zones {
    pub(crate) names: Vec<String>,
    /// Whether every port's zone could be read, so that a name that is not here is certainly wrong.
    complete: bool,
}

impl Default for Zones {
    fn default() -> Self {
        Self { names: vec![APPLIANCE.to_owned()], complete: true }
    }
}

impl Zones {
    /// The zone a port is in, numbered at its first mention.
    pub(crate) fn declare(&mut self, section: &Section<'_>, name: &At<String>) -> Option<ZoneId> {
        if name.value == APPLIANCE {
            let message = format!("{} is in the zone \"{APPLIANCE}\"", section.title);
            let advice = "that name is the appliance's own, for its addresses in rules; choose another";
            section.report(Finding::error("reserved-name", &name.spot, message).advice(advice));
            return None;
        }
        if let Some(id) = self.id(&name.value) {
            return Some(id);
        }
        if self.names.len() >= ZONES_MAX {
            let message = format!("more than {} zones", ZONES_MAX - 1);
            section.report(Finding::error("too-many", &name.spot, message).advice("put ports into fewer zones"));
            return None;
        }
        self.names.push(name.value.clone());
        self.id(&name.value)
    }

    /// Says that the zone of some port is not known.
    pub(crate) fn incomplete(&mut self) {
        self.complete = false;
    }

    /// The zones a rule names; an unknown one is a fault.
    pub(crate) fn resolve(&self, section: &Section<'_>, names: &[At<String>]) -> Vec<ZoneId> {
        let mut zones = Vec::with_capacity(names.len());
        for name in names {
            match self.id(&name.value) {
                Some(id) => zones.push(id),
                None if self.complete => {
                    let message = format!("{} names zone {}, which no port is in", section.title, quoted(&name.value));
                    let advice = did_you_mean(&name.value, self.names.iter().map(String::as_str), "the zones are");
                    section.report(Finding::error("unknown-zone", &name.spot, message).advice(advice));
                }
                None => {}
            }
        }
        zones
    }

    fn id(&self, name: &str) -> Option<ZoneId> {
        let position = self.names.iter().position(|known| known == name)?;
        u8::try_from(position).ok().map(ZoneId::new)
    }
}
