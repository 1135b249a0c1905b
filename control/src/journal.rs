//! Writes what control notes to the log: one thread of management's, so that a slow log holds up nobody. Conflicts of
//! addresses are told once a minute each, however often they are seen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use stage::firewall::{Action, Candidate};
use std::time::{Duration, Instant};

use crate::event::Note;
use crate::running::Running;

/// How long a conflict is not told again.
const SILENCE: Duration = Duration::from_secs(60);
/// Conflicts remembered: beyond, they are told again earlier.
const CONFLICTS: usize = 1_024;

/// Writes notes until control is gone.
pub fn write(notes: &Receiver<Note>, appliance: &Arc<Running>) {
    let mut told: HashMap<IpAddr, Instant> = HashMap::new();
    while let Ok(note) = notes.recv() {
        let snapshot = appliance.snapshot();
        let port_name = |port| snapshot.port(port).map_or("?", |facts| facts.name.as_str());
        match note {
            Note::Rule { generation, rule, action, candidate, .. } => {
                // A rule's number means something only in the policy it was judged by.
                let known = (generation == snapshot.generation).then_some(rule).flatten();
                let name = known.and_then(|rule| snapshot.rules.name(rule)).unwrap_or("(earlier policy)");
                log::info!(target: "firewall", "{} {} {}", verb(action), describe(&candidate), name);
            }
            Note::Conflict { port, address, mac } => {
                if told.len() >= CONFLICTS {
                    told.clear();
                }
                if told.get(&address).is_none_or(|at| at.elapsed() > SILENCE) {
                    told.insert(address, Instant::now());
                    log::warn!("{mac} on port {} claims {address}, an address of this appliance", port_name(port));
                }
            }
        }
    }
}

const fn verb(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Reject => "reject",
    }
}

fn describe(candidate: &Candidate) -> String {
    let (source, destination) = (candidate.endpoints.source(), candidate.endpoints.destination());
    let (from, to) = (candidate.source_port, candidate.destination_port);
    match candidate.protocol {
        6 => format!("tcp {source} port {from} -> {destination} port {to}"),
        17 => format!("udp {source} port {from} -> {destination} port {to}"),
        1 | 58 => format!("icmp {source} -> {destination} type {from} code {to}"),
        other => format!("protocol {other} {source} -> {destination}"),
    }
}
