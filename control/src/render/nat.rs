//! `millrace show nat`.

use super::{NUMBERS, WORDS, drawn, or_dash, table};
use crate::status::NatStatus;

/// `millrace show nat`: the pools, and under them the forwards.
#[must_use]
pub fn nat(nat: &NatStatus) -> String {
    let tables: Vec<String> = [pools(nat), forwards(nat)].into_iter().flatten().collect();
    if tables.is_empty() { "no address is translated".to_owned() } else { tables.join("\n\n") }
}

fn forwards(nat: &NatStatus) -> Option<String> {
    let mut table =
        table(&[("FORWARD", WORDS), ("PROTOCOL", WORDS), ("ASKED", WORDS), ("SERVER", WORDS), ("SESSIONS", NUMBERS)]);
    for forward in &nat.forwards {
        table.add_row([
            forward.name.clone(),
            forward.protocol.clone(),
            format!("{} port {}", forward.address, forward.ports),
            format!("{} port {}", forward.to_address, forward.to_ports),
            forward.total.to_string(),
        ]);
    }
    (!table.is_empty()).then(|| drawn(&table))
}

/// The pools. A `-` under MAPPINGS: each session has a port of its own.
fn pools(nat: &NatStatus) -> Option<String> {
    let mut table = table(&[
        ("POOL", WORDS),
        ("KIND", WORDS),
        ("ADDRESSES", WORDS),
        ("PORTS", WORDS),
        ("MAPPING", WORDS),
        ("FILTERING", WORDS),
        ("SESSIONS", NUMBERS),
        ("MAPPINGS", NUMBERS),
        ("EXHAUSTED", NUMBERS),
        ("LIMITED", NUMBERS),
    ]);
    for pool in &nat.pools {
        table.add_row([
            pool.name.clone(),
            pool.kind.clone(),
            pool.addresses.join(" "),
            pool.ports.clone(),
            pool.mapping.clone(),
            pool.filtering.clone(),
            pool.sessions.to_string(),
            or_dash((pool.mappings > 0).then_some(pool.mappings)),
            pool.exhausted.to_string(),
            pool.limited.to_string(),
        ]);
    }
    (!table.is_empty()).then(|| drawn(&table))
}
