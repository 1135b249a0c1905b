//! Which services are to be directed here, which are, and what is to be done next. Pure: time is an argument.
//!
//! ```text
//!   wanted, nothing stands          -> attach           fails: again after a while, or when a change of policy comes
//!   wanted, another place stands    -> detach, attach   (detach fails: attach all the same)
//!   not wanted, something stands    -> detach           fails: again after a while
//! ```
//!
//! Whatever the hook was asked to attach is asked to be detached, whether it said that it had done it or not: one that was
//! stopped may have done half.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Failure;
use super::errand::{Errand, Verb};

/// How long after it has failed the hook is run again.
const AGAIN: Duration = Duration::from_secs(30);

/// What is to be directed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The service's name.
    pub service: String,
    /// Its address.
    pub address: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Ports and ranges.
    pub ports: Vec<String>,
}

/// How a service that is to be directed here stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was not tried yet.
    Attaching,
    /// It is directed here.
    Attached,
    /// It is not, for this reason.
    Failed(String),
}

/// One service.
#[derive(Debug, Default)]
struct Entry {
    wanted: Option<Place>,
    /// What the hook was asked to attach last.
    asked: Option<Place>,
    /// Whether it is wanted and done.
    attached: bool,
    failed: Option<String>,
    due: Option<Instant>,
    /// Whether something was asked for that was not tried yet.
    untried: bool,
}

impl Entry {
    /// The next errand, whenever it is due.
    fn errand(&self) -> Option<(Verb, &Place)> {
        match (&self.wanted, &self.asked) {
            (wanted, Some(asked)) if wanted.as_ref() != Some(asked) => Some((Verb::Detach, asked)),
            (Some(wanted), _) if !self.attached => Some((Verb::Attach, wanted)),
            _ => None,
        }
    }
}

/// All services.
#[derive(Debug)]
pub(super) struct Course {
    appliance: String,
    services: BTreeMap<String, Entry>,
}

impl Course {
    pub(super) fn new(appliance: &str) -> Self {
        Self { appliance: appliance.to_owned(), services: BTreeMap::new() }
    }

    /// Exactly these are to be directed here. What has failed is due at once.
    pub(super) fn want(&mut self, places: Vec<Place>, now: Instant) {
        for entry in self.services.values_mut() {
            entry.wanted = None;
        }
        for place in places {
            let entry = self.services.entry(place.service.clone()).or_default();
            entry.attached &= entry.asked.as_ref() == Some(&place);
            entry.wanted = Some(place);
        }
        self.services.retain(|_, entry| entry.wanted.is_some() || entry.asked.is_some());
        for entry in self.services.values_mut() {
            entry.untried = entry.errand().is_some();
            entry.due = entry.untried.then_some(now);
        }
    }

    /// When something is to be done, if something is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.services.values().filter_map(|entry| entry.due).min()
    }

    /// What is to be done now. First what is to be detached: it may be the address that another service gets.
    pub(super) fn next(&self, now: Instant) -> Option<Errand> {
        let due = self.services.values().filter(|entry| entry.due.is_some_and(|due| due <= now));
        let errands = due.filter_map(|entry| Some((entry.due, entry.errand()?)));
        let (_, (verb, place)) = errands.min_by_key(|(due, (verb, _))| (*verb == Verb::Attach, *due))?;
        Some(Errand { verb, place: place.clone(), appliance: self.appliance.clone() })
    }

    /// An errand was run.
    pub(super) fn done(&mut self, errand: &Errand, outcome: Result<(), String>, now: Instant) {
        let Some(entry) = self.services.get_mut(&errand.place.service) else { return };
        entry.failed = outcome.err();
        match errand.verb {
            Verb::Attach => {
                entry.asked = Some(errand.place.clone());
                entry.attached = entry.failed.is_none();
                entry.untried = false;
            }
            // Behind another place that is wanted there is no more time for this one.
            Verb::Detach if entry.failed.is_none() || entry.wanted.is_some() => {
                (entry.asked, entry.attached) = (None, false);
            }
            Verb::Detach => entry.untried = false,
        }
        entry.due = match (entry.errand(), &entry.failed, entry.untried) {
            (None, ..) => None,
            (Some(_), Some(_), false) => Some(now + AGAIN),
            (Some(_), ..) => Some(now),
        };
        if entry.wanted.is_none() && entry.asked.is_none() {
            self.services.remove(&errand.place.service);
        }
    }

    /// Whether something that is wanted was not tried yet.
    pub(super) fn has_untried(&self) -> bool {
        self.services.values().any(|entry| entry.untried)
    }

    /// What the hook has failed to do.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let failed = self.services.iter().filter_map(|(service, entry)| {
            let why = entry.failed.clone()?;
            Some(Failure { service: service.clone(), why })
        });
        failed.collect()
    }

    /// How each service that is wanted stands.
    pub(super) fn standings(&self) -> BTreeMap<String, Standing> {
        let wanted = self.services.iter().filter(|(_, entry)| entry.wanted.is_some());
        let standing = |entry: &Entry| match &entry.failed {
            _ if entry.attached => Standing::Attached,
            Some(why) => Standing::Failed(why.clone()),
            None => Standing::Attaching,
        };
        wanted.map(|(service, entry)| (service.clone(), standing(entry))).collect()
    }
}
