//! Which services are to be directed here, which are, and what is to be done next. Pure: time is an argument.
//!
//! ```text
//!   wanted, nothing stands          -> attach           fails: again after a while, or when a change of policy comes
//!   wanted, another place stands    -> detach, attach   (detach fails: attach all the same)
//!   not wanted, something stands    -> detach           fails: again after a while
//! ```
//!
//! Whatever the hook was asked to attach is asked to be detached, whether it said that it had done it or not: one that was
//! stopped may have done half. For the same reason nothing is attached any more that a detach was tried of.
//!
//! A service is directed here, and a hook may know nothing but its address, which others may have too. So what stands at the
//! address of a detach is attached again after it; and a detach that has failed is not tried again at an address that is wanted.

use std::collections::{BTreeMap, BTreeSet};
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

    /// The address it is to have.
    fn comes(&self) -> Option<IpAddr> {
        self.wanted.as_ref().map(|place| place.address)
    }

    /// The address of what is to be detached.
    fn leaves(&self) -> Option<IpAddr> {
        self.errand().filter(|(verb, _)| *verb == Verb::Detach).map(|(_, place)| place.address)
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

    /// Exactly these are to be directed here. What has failed is due at once. Returns whom this is about: who was not
    /// wanted like that before, and who is at an address that another leaves.
    pub(super) fn want(&mut self, places: Vec<Place>, now: Instant) -> BTreeSet<String> {
        let mut before: BTreeMap<String, Place> = BTreeMap::new();
        for (service, entry) in &mut self.services {
            before.extend(entry.wanted.take().map(|place| (service.clone(), place)));
        }
        for place in places {
            let entry = self.services.entry(place.service.clone()).or_default();
            entry.attached &= entry.asked.as_ref() == Some(&place);
            entry.wanted = Some(place);
        }
        self.services.retain(|_, entry| entry.wanted.is_some() || entry.asked.is_some());
        let left: Vec<IpAddr> = self.services.values().filter_map(Entry::leaves).collect();
        let is_wanted: BTreeSet<IpAddr> = self.services.values().filter_map(Entry::comes).collect();
        let mut concerned = BTreeSet::new();
        for (service, entry) in &mut self.services {
            let joins = entry.comes().is_some_and(|address| left.contains(&address));
            if joins || entry.wanted.as_ref() != before.get(service) {
                concerned.insert(service.clone());
            }
            // What is left to be detached goes before what comes to its address.
            let yields = entry.leaves().is_some_and(|address| is_wanted.contains(&address));
            let has_errand = entry.errand().is_some();
            entry.untried = has_errand && (entry.untried || yields || concerned.contains(service));
            entry.due = has_errand.then_some(now);
        }
        concerned
    }

    /// Whatever fails is somebody's matter, as if it had not been tried: returns whom this is about.
    pub(super) fn try_all(&mut self) -> BTreeSet<String> {
        for entry in self.services.values_mut() {
            entry.untried |= entry.errand().is_some();
        }
        self.services.keys().cloned().collect()
    }

    /// When something is to be done, if something is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.services.values().filter_map(|entry| entry.due).min()
    }

    /// What is to be done now: what nobody has tried yet before what fails again and again, and what is to be detached
    /// before what is to be attached, since it may be at the same address.
    pub(super) fn next(&self, now: Instant) -> Option<Errand> {
        let due = self.services.values().filter(|entry| entry.due.is_some_and(|due| due <= now));
        let errands = due.filter_map(|entry| Some((entry, entry.errand()?)));
        let (_, (verb, place)) =
            errands.min_by_key(|(entry, (verb, _))| (!entry.untried, *verb == Verb::Attach, entry.due))?;
        Some(Errand { verb, place: place.clone(), appliance: self.appliance.clone() })
    }

    /// An errand was run.
    pub(super) fn done(&mut self, errand: &Errand, outcome: Result<(), String>, now: Instant) {
        let Errand { verb, place, .. } = errand;
        let is_shared = *verb == Verb::Detach && self.attach_again_at(place, now);
        let Some(entry) = self.services.get_mut(&place.service) else { return };
        entry.failed = outcome.err();
        match verb {
            Verb::Attach => {
                entry.asked = Some(place.clone());
                entry.attached = entry.failed.is_none();
                entry.untried = false;
            }
            // Behind a place that is wanted there is no more time for this one.
            Verb::Detach if entry.failed.is_none() || entry.wanted.is_some() || is_shared => {
                (entry.asked, entry.attached) = (None, false);
            }
            Verb::Detach => (entry.attached, entry.untried) = (false, false),
        }
        entry.due = match (entry.errand(), &entry.failed, entry.untried) {
            (None, ..) => None,
            (Some(_), Some(_), false) => Some(now + AGAIN),
            (Some(_), ..) => Some(now),
        };
        if entry.wanted.is_none() && entry.asked.is_none() {
            self.services.remove(&place.service);
        }
    }

    /// After a detach, whatever came of it: has the other services of its address attached again. Whether there are any.
    fn attach_again_at(&mut self, place: &Place, now: Instant) -> bool {
        let others = self.services.iter_mut().filter(|(service, _)| **service != place.service);
        let mut is_shared = false;
        for (_, entry) in others.filter(|(_, entry)| entry.comes() == Some(place.address)) {
            is_shared = true;
            if entry.attached {
                (entry.attached, entry.untried, entry.due) = (false, true, Some(now));
            }
        }
        is_shared
    }

    /// Whether something that is wanted of one of these was not tried yet.
    pub(super) fn has_untried(&self, services: &BTreeSet<String>) -> bool {
        self.services.iter().any(|(service, entry)| entry.untried && services.contains(service))
    }

    /// What the hook has failed to do for these.
    pub(super) fn failures(&self, services: &BTreeSet<String>) -> Vec<Failure> {
        let failed = self.services.iter().filter_map(|(service, entry)| {
            let why = entry.failed.clone().filter(|_| services.contains(service))?;
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
