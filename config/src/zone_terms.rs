//! `[[zone]]`: what is asked of those who come from a zone. A zone without such a table asks nothing.

use stage::anti_spoof::{ReversePath, ZoneSources};

use crate::findings::Findings;
use crate::kind::{boolean, choice, name};
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
