//! What draws packets here, and from when on: an address is answered for, and a service takes in what passes in line, only
//! while every worker has tables that serve it (SE-23). Pure; the control thread's.
//!
//! ```text
//!   tables 2, what is new quiet -> every worker has them -> tables 2 as they are
//!          (what tables 2 no longer have is forgotten at once)
//! ```

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use stage::PortRange;
use stage::balancer::{Attract, Service};
use worker::{Quiet, Snapshot};

use crate::compile::answered_addresses;

/// Where services in line are asked: the ports of each address and protocol.
type Asked = HashMap<(IpAddr, u8), Vec<PortRange>>;

/// What tables draw packets to.
#[derive(Debug)]
struct Drawn {
    addresses: HashSet<IpAddr>,
    in_line: Asked,
}

impl Drawn {
    fn by(snapshot: &Snapshot) -> Self {
        let mut asked = Asked::new();
        for service in in_line(snapshot) {
            asked.entry(place(service)).or_default().extend(&service.spec().ports);
        }
        Self { addresses: answered_addresses(snapshot).into_iter().collect(), in_line: asked }
    }
}

fn in_line(snapshot: &Snapshot) -> impl Iterator<Item = &Service> {
    snapshot.services.iter().filter(|service| service.spec().attract == Attract::InLine)
}

fn place(service: &Service) -> (IpAddr, u8) {
    (service.spec().address, service.spec().protocol.number())
}

/// The ports that are in both lists.
fn common(one: &[PortRange], other: &[PortRange]) -> Vec<PortRange> {
    one.iter().flat_map(|range| other.iter().filter_map(move |other| range.intersection(*other))).collect()
}

/// Whether all ports of a range are in a list, together.
fn covers(list: &[PortRange], range: PortRange) -> bool {
    let mut next = Some(range.first());
    while let Some(port) = next.filter(|&port| port <= range.last()) {
        let Some(holds) = list.iter().find(|range| range.contains(port)) else { return false };
        next = holds.last().checked_add(1);
    }
    true
}

/// What every worker serves, and what waits for that.
#[derive(Debug)]
pub(super) struct Attraction {
    live: Drawn,
    quiet: Arc<Quiet>,
}

impl Attraction {
    /// All that these tables draw: every worker has them.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { live: Drawn::by(snapshot), quiet: Arc::default() }
    }

    /// These tables are on their way to the workers, after all that were before: what is new is quiet, what is gone is not live
    /// any more. Of a service in line only the ports are quiet that are new: clients of the others notice nothing.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let wanted = Drawn::by(snapshot);
        self.live.addresses.retain(|address| wanted.addresses.contains(address));
        self.live.in_line.retain(|place, ports| {
            *ports = common(ports, wanted.in_line.get(place).map_or(&[], Vec::as_slice));
            !ports.is_empty()
        });
        let addresses = wanted.addresses.difference(&self.live.addresses).copied().collect();
        let services = in_line(snapshot).filter_map(|service| {
            let live = self.live.in_line.get(&place(service)).map_or(&[][..], Vec::as_slice);
            let is_live = service.spec().ports.iter().all(|&range| covers(live, range));
            (!is_live).then(|| (service.id(), common(&service.spec().ports, live)))
        });
        self.quiet = Arc::new(Quiet { addresses, services: services.collect() });
    }

    /// What is quiet in the tables that are on their way.
    pub(super) const fn quiet(&self) -> &Arc<Quiet> {
        &self.quiet
    }

    /// Whether an address is answered for by every worker.
    pub(super) fn is_live(&self, address: &IpAddr) -> bool {
        self.live.addresses.contains(address)
    }

    /// Every worker has these tables, the last ones followed: nothing is quiet any more. Returns what was.
    pub(super) fn open(&mut self, snapshot: &Snapshot) -> Arc<Quiet> {
        self.live = Drawn::by(snapshot);
        std::mem::take(&mut self.quiet)
    }
}
