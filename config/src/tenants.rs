//! `[[tenant]]`: whom the VLANs of frames belong to that pass through pairs of ports. A VLAN belongs to one tenant at most.

use units::PortId;
use units::limits::{TENANTS_MAX, VLAN_MAX};

use crate::findings::{Finding, Findings, Spot};
use crate::names::Names;
use crate::nearest::quoted;
use crate::policy::Tenant;
use crate::section::Section;
use crate::vlan::vlan_range;

/// Who has a VLAN, and where that is written.
type Taken = Option<(String, Spot)>;

/// Reads every `[[tenant]]`, in their order.
pub(crate) fn tenants(file: &mut Section<'_>, pairs: &[[PortId; 2]], findings: &Findings) -> Vec<Tenant> {
    let sections = file.tables("tenant");
    if let Some(beyond) = sections.get(TENANTS_MAX) {
        let message = format!("{} tenants are more than the {TENANTS_MAX} there can be", sections.len());
        file.report(
            Finding::error("too-many", &beyond.spot, message).advice("each has a VLAN of its own; leave some out"),
        );
    }
    let mut names = Names::of("tenants", findings);
    let mut taken: Vec<Taken> = vec![None; usize::from(VLAN_MAX) + 1];
    let mut no_pair = pairs.is_empty() && !file.has("pair");
    let mut tenants = Vec::with_capacity(sections.len());
    for mut section in sections {
        let name = section.name();
        names.take(&name);
        let by_sources = section.has("sources");
        if by_sources && let Some(spot) = section.key_spot("sources") {
            let message = format!("`sources` of {} is not supported yet", section.title);
            let advice = "write vlans = [...]: a tenant is told by the VLANs of its frames";
            section.report(Finding::error("not-yet-supported", &spot, message).advice(advice));
        } else if core::mem::take(&mut no_pair) {
            let message =
                format!("{} has no frames: only those that pass through a pair of ports are a tenant's", section.title);
            let advice = "add a [[pair]], or remove the tenants: elsewhere frames with a VLAN tag are not taken";
            section.report(Finding::error("no-pair", &section.spot, message).advice(advice));
        }
        let vlans = if by_sources {
            section.list("vlans", vlan_range)
        } else {
            section.required_list("vlans", vlan_range, "say which are its own: vlans = [100, \"200-299\"]")
        };
        for range in &vlans {
            let own = |vlan: u16| taken.get(usize::from(vlan)).and_then(|place| Some((vlan, place.clone()?)));
            if let Some((vlan, (owner, before))) = range.value.clone().find_map(own) {
                let message = if owner == name.value {
                    format!("{} has VLAN {vlan} twice", section.title)
                } else {
                    format!("VLAN {vlan} belongs to {} and to {}", quoted(&owner), section.title)
                };
                let finding = Finding::error("duplicate-vlan", &range.spot, message).contradicts(&before);
                section.report(finding.advice("a frame belongs to one tenant: remove one of the two"));
            }
            for place in
                taken.iter_mut().take(usize::from(*range.value.end()) + 1).skip(usize::from(*range.value.start()))
            {
                place.get_or_insert_with(|| (name.value.clone(), range.spot.clone()));
            }
        }
        tenants.push(Tenant { name: name.value, vlans: vlans.into_iter().map(|range| range.value).collect() });
        section.finish();
    }
    tenants
}
