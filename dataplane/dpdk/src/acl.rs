//! Rule classification over `rte_acl`: expanded rules become multi-bit tries that answer a batch of packets at once, with
//! the widest vectors the processor has. Compiled in management, asked by every worker, never changed.

mod key;
mod table;

use stage::firewall::{Candidate, Classifier, Entries};
use units::RuleId;

use crate::{Eal, Error};
use key::{KeyV4, KeyV6};
use table::Table;

/// The classifier of one ruleset.
#[derive(Debug)]
pub struct Acl {
    v4: Table<KeyV4, 7>,
    v6: Table<KeyV6, 13>,
}

impl Acl {
    /// Compiles `entries` (`rte_acl_create`, `rte_acl_add_rules`, `rte_acl_build`).
    ///
    /// # Errors
    /// [`Error::Table`] when DPDK's memory does not suffice; [`Error::TooMany`] for a rule number beyond what a priority
    /// can hold.
    pub fn new(eal: &Eal, entries: &Entries) -> Result<Self, Error> {
        Ok(Self { v4: Table::new(eal, &entries.v4)?, v6: Table::new(eal, &entries.v6)? })
    }
}

impl Classifier for Acl {
    fn classify(&self, candidates: &[Candidate], matches: &mut [Option<RuleId>]) {
        self.v4.classify(candidates, matches);
        self.v6.classify(candidates, matches);
    }

    /// As DPDK's memory in use grew while it was compiled; what another thread took meanwhile counts too.
    fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }
}
