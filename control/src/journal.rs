//! Writes what control notes to the log: one thread of management's, so that a slow log holds up nobody. Conflicts of
//! addresses are told once a minute each, however often they are seen; a pool of source NAT whose ports are used up once a
//! second, with the number of sessions that were refused meanwhile. At the same pace it has [`Watch`] look at what changes by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use stage::firewall::{Action, Candidate};
use stage::translate::PoolUses;
use std::time::{Duration, Instant};

use crate::event::Note;
use crate::running::Running;
use crate::watch::Watch;

/// How long a conflict is not told again.
const SILENCE: Duration = Duration::from_secs(60);
/// Conflicts remembered: beyond, they are told again earlier.
const CONFLICTS: usize = 1_024;

/// How often pools that ran out are told of.
const POOLS_LOOKED_AT: Duration = Duration::from_secs(1);

/// Writes notes until control is gone.
pub fn write(notes: &Receiver<Note>, appliance: &Arc<Running>) {
    let mut told: HashMap<IpAddr, Instant> = HashMap::new();
    let mut shortages = Shortages::default();
    let mut watch = Watch::default();
    // How things are at the start is no news, and everything else is.
    drop(watch.look(&**appliance));
    let mut look = Instant::now() + POOLS_LOOKED_AT;
    loop {
        let note = notes.recv_deadline(look);
        let snapshot = appliance.snapshot();
        if look <= Instant::now() {
            look = Instant::now() + POOLS_LOOKED_AT;
            for happening in watch.look(&**appliance) {
                appliance.bulletin().tell(happening);
            }
            for Shortage { pool, exhausted, limited } in shortages.since_last_look(&snapshot.pool_uses) {
                if exhausted > 0 {
                    log::warn!("{pool}: no free port for {exhausted} new sessions");
                }
                if limited > 0 {
                    log::warn!("{pool}: {limited} new sessions of sources that had used up their ports");
                }
            }
        }
        let note = match note {
            Ok(note) => note,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let port_name = |port| snapshot.port(port).map_or("?", |facts| facts.name.as_str());
        match note {
            Note::Rule { generation, rule, action, candidate, .. } => {
                // A rule's number means something only in the policy it was judged by.
                let known = (generation == snapshot.generation).then_some(rule).flatten();
                let name = known.and_then(|rule| snapshot.rules.name(rule)).unwrap_or("(earlier policy)");
                let tenant = snapshot.tenants.tenant(candidate.tenant);
                let tenant = tenant.map_or_else(String::new, |tenant| format!(" of tenant {}", tenant.name));
                log::info!(target: "firewall", "{} {}{tenant} {}", verb(action), describe(&candidate), name);
            }
            Note::SynCookies { generation, service, engaged, half_open } => {
                let known = (generation == snapshot.generation).then(|| snapshot.services.service(service)).flatten();
                let name = known.map_or("(earlier policy)", |service| service.spec().name.as_str());
                if engaged {
                    log::warn!("service {name}: SYN cookies on, {half_open} sessions are half open");
                } else {
                    log::info!("service {name}: SYN cookies off, {half_open} sessions are half open");
                }
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

/// What a pool has refused since the last look.
#[derive(Debug, PartialEq, Eq)]
struct Shortage {
    pool: String,
    exhausted: u64,
    limited: u64,
}

/// What the pools had refused at the last look.
#[derive(Debug, Default)]
struct Shortages {
    told: HashMap<String, (u64, u64)>,
}

impl Shortages {
    fn since_last_look(&mut self, pools: &PoolUses) -> Vec<Shortage> {
        self.told.retain(|name, _| pools.iter().any(|pool| pool.name() == name));
        let mut shortages = Vec::new();
        for pool in pools.iter().filter(|pool| pool.exhausted() + pool.limited() > 0) {
            let now = (pool.exhausted(), pool.limited());
            let before = self.told.insert(pool.name().to_owned(), now).unwrap_or_default();
            let (exhausted, limited) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            if exhausted + limited > 0 {
                shortages.push(Shortage { pool: pool.name().to_owned(), exhausted, limited });
            }
        }
        shortages
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

#[cfg(test)]
mod tests {
    use super::*;

    /// STX-11: however many sessions a pool refuses, one line a look tells how many they were.
    #[test]
    fn a_shortage_is_told_once_with_the_number_refused() {
        let pools = PoolUses::compile(&["out".to_owned(), "rest".to_owned()], None);
        let mut shortages = Shortages::default();
        assert_eq!(shortages.since_last_look(&pools), []);
        let out = pools.get(pools.number(0)).unwrap();
        (0..1_000).for_each(|_| out.ran_out());
        out.limit_reached();
        let told = Shortage { pool: "out".to_owned(), exhausted: 1_000, limited: 1 };
        assert_eq!(shortages.since_last_look(&pools), [told]);
        assert_eq!(shortages.since_last_look(&pools), []);
        out.ran_out();
        let told = Shortage { pool: "out".to_owned(), exhausted: 1, limited: 0 };
        assert_eq!(shortages.since_last_look(&pools), [told]);
    }
}
