//! `[[pair]]`: two ports that frames pass through as if they were one wire.
//!
//! Read in two steps: which ports are meant before the ports are read, since a paired port may go without addresses; who
//! they are afterwards.

use std::collections::{HashMap, HashSet};

use units::PortId;
use units::limits::PAIRS_MAX;

use crate::findings::{At, Finding, Findings, Spot};
use crate::kind;
use crate::nearest::quoted;
use crate::ports::Ports;
use crate::section::Section;

/// What one `[[pair]]` names.
#[derive(Debug)]
pub(crate) struct PairWritten<'d> {
    section: Section<'d>,
    ports: Vec<At<String>>,
}

/// Reads the names in every `[[pair]]`.
pub(crate) fn written<'d>(file: &mut Section<'d>) -> Vec<PairWritten<'d>> {
    let sections = file.tables("pair");
    if let Some(beyond) = sections.get(PAIRS_MAX) {
        let message = format!("{} pairs are more than the {PAIRS_MAX} there can be", sections.len());
        file.report(Finding::error("too-many", &beyond.spot, message).advice("leave some out"));
    }
    let names = |mut section: Section<'d>| {
        let ports = section.required_list("ports", kind::name, "say which two: ports = [\"outside\", \"inside\"]");
        PairWritten { section, ports }
    };
    sections.into_iter().map(names).collect()
}

/// The names of all ports that are in some pair.
pub(crate) fn names(written: &[PairWritten<'_>]) -> HashSet<String> {
    written.iter().flat_map(|pair| &pair.ports).map(|name| name.value.clone()).collect()
}

/// The pairs, each port in one at most.
pub(crate) fn pairs(written: Vec<PairWritten<'_>>, ports: &Ports, findings: &Findings) -> Vec<[PortId; 2]> {
    let mut taken: HashMap<PortId, Spot> = HashMap::new();
    let mut pairs = Vec::new();
    for PairWritten { section, ports: names } in written {
        let found: Vec<_> = names.iter().filter_map(|name| Some((ports.resolve(&section, name)?, name))).collect();
        if names.len() != 2 && section.has("ports") && !names.is_empty() {
            let message = format!("{} has {} ports", section.title, names.len());
            let finding = Finding::error("bad-pair", &section.spot_of("ports"), message);
            section.report(finding.advice("write two: what comes in by the one leaves by the other"));
        }
        match *found.as_slice() {
            [(first, _), (second, again)] if first == second => {
                let message = format!("{} joins port {} with itself", section.title, quoted(&again.value));
                let advice = "write two ports: what comes in by the one leaves by the other";
                section.report(Finding::error("pair-of-one-port", &again.spot, message).advice(advice));
            }
            [(first, _), (second, later)] => {
                same_size(&section, ports, [first, second], later);
                pairs.push([first, second]);
                for (port, name) in &found {
                    if let Some(before) = taken.insert(*port, name.spot.clone()) {
                        let message = format!("port {} is in two pairs", quoted(&name.value));
                        let finding = Finding::error("port-in-two-pairs", &name.spot, message).contradicts(&before);
                        findings.report(finding.advice("a frame leaves by one port: remove one of the two"));
                    }
                }
            }
            _ => {}
        }
        section.finish();
    }
    pairs
}

/// Reports ports of one pair that carry packets of different sizes: nobody on the way could be told.
fn same_size(section: &Section<'_>, ports: &Ports, pair: [PortId; 2], later: &At<String>) {
    let [Some(first), Some(second)] = pair.map(|port| ports.ports.get(port.index())) else { return };
    if first.port.mtu != second.port.mtu {
        let message =
            format!("the ports of {} have an `mtu` of {} and of {}", section.title, first.port.mtu, second.port.mtu);
        let finding = Finding::error("pair-of-two-sizes", &later.spot, message).contradicts(&first.spot);
        section.report(finding.advice("give both the same: what comes in by the one has to fit through the other"));
    }
}
