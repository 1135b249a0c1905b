//! What draws packets here, and from when on: an address is answered for, and a service takes in what passes in line, only
//! while every worker has tables that serve it (SE-23). Pure; the control thread's.
//!
//! ```text
//!   tables 2, what is new quiet -> every worker has them -> tables 2 as they are
//!          (what tables 2 no longer have is forgotten at once)
//! ```

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use stage::PortRange;
use stage::balancer::{Attract, Service};
use worker::{Quiet, Snapshot};

use crate::compile::answered_addresses;

/// Where a service is asked.
type Asked = (IpAddr, u8, Vec<PortRange>);

/// What tables draw packets to.
#[derive(Debug)]
struct Drawn {
    addresses: HashSet<IpAddr>,
    in_line: HashSet<Asked>,
}

impl Drawn {
    fn by(snapshot: &Snapshot) -> Self {
        Self {
            addresses: answered_addresses(snapshot).into_iter().collect(),
            in_line: in_line(snapshot).map(asked).collect(),
        }
    }
}

fn in_line(snapshot: &Snapshot) -> impl Iterator<Item = &Service> {
    snapshot.services.iter().filter(|service| service.spec().attract == Attract::InLine)
}

fn asked(service: &Service) -> Asked {
    let spec = service.spec();
    (spec.address, spec.protocol.number(), spec.ports.clone())
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
    /// any more.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let wanted = Drawn::by(snapshot);
        self.live.addresses.retain(|address| wanted.addresses.contains(address));
        self.live.in_line.retain(|asked| wanted.in_line.contains(asked));
        let addresses = wanted.addresses.difference(&self.live.addresses).copied().collect();
        let new = in_line(snapshot).filter(|service| !self.live.in_line.contains(&asked(service)));
        self.quiet = Arc::new(Quiet { addresses, services: new.map(Service::id).collect() });
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
