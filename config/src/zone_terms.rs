//! `[[zone]]`: what is asked of those who come from a zone. A zone without such a table asks nothing.

use stage::anti_spoof::{ReversePath, ZoneSources};
use stage::extension_policy::ExtensionPolicy;
use stage::limiter::open_sessions::OPEN_SESSIONS_MAX;
use toml::de::DeValue;

use crate::findings::Findings;
use crate::kind::{Wrong, boolean, choice, integer, name};
use crate::names::Names;
use crate::policy::ZoneTerms;
use crate::section::Section;
use crate::zones::Zones;

const REVERSE_PATHS: &[(&str, ReversePath)] =
    &[("off", ReversePath::Off), ("loose", ReversePath::Loose), ("strict", ReversePath::Strict)];

/// Reads every `[[zone]]`; the answer is by zone.
pub(crate) fn zone_terms(file: &mut Section<'_>, zones: &Zones, findings: &Findings) -> Vec<ZoneTerms> {
    let mut names = Names::of("zones", findings);
    let mut terms = vec![ZoneTerms::default(); zones.names.len()];
    for mut section in file.tables("zone") {
        let written = section.required("name", name, "say which: name = \"wan\"");
        let read = ZoneTerms {
            sources: ZoneSources {
                reverse_path: section.or("reverse_path", choice(REVERSE_PATHS), ReversePath::Off),
                bogons: section.or("bogons", boolean, false),
            },
            extensions: extensions(&mut section),
            sessions_per_source: section
                .optional("sessions_per_source", integer(1..=OPEN_SESSIONS_MAX))
                .map(|at| at.value),
        };
        if let Some(written) = written {
            names.take(&written);
            let known = zones.resolve(&section, std::slice::from_ref(&written));
            if let Some(place) = known.first().and_then(|zone| terms.get_mut(zone.index())) {
                *place = read;
            }
        }
        section.finish();
    }
    terms
}

fn extensions(section: &mut Section<'_>) -> ExtensionPolicy {
    let hop_by_hop = section.or("hop_by_hop", boolean, true);
    let types: Vec<u8> = section.list("routing_headers", routing_type).into_iter().map(|at| at.value).collect();
    ExtensionPolicy::new(hop_by_hop, &types)
}

/// A type of routing header that may be let in.
fn routing_type(value: &DeValue<'_>) -> Result<u8, Wrong> {
    match integer(0..=u8::MAX)(value)? {
        0 => Err(Wrong::new(
            "bad-routing-type",
            "0 is a type that nobody may pass on (RFC 5095)",
            "name types from 1 on, such as 4 (segment routing)",
        )),
        kind => Ok(kind),
    }
}
