//! DPDK's tables: rules over `rte_acl`, routes over `rte_fib`.

use std::sync::Arc;

use dpdk::{Acl, Eal, Fib};
use stage::firewall::{Classifier, Rule, expand};
use stage::forward::{Route, RouteTable};
use units::limits::CLASSIFIER_TABLE_ENTRIES;

use crate::compile::{TableMaker, memory_for_rules};
use crate::doctor::Machine;

/// Makes tables in DPDK's memory.
#[derive(Clone, Debug)]
pub(super) struct DpdkTables {
    eal: Eal,
}

impl DpdkTables {
    pub(super) fn new(eal: &Eal) -> Self {
        Self { eal: eal.clone() }
    }
}

impl TableMaker for DpdkTables {
    fn classifier(&self, rules: &[Rule]) -> Result<Box<dyn Classifier>, String> {
        let entries = expand(rules).map_err(|error| error.to_string())?;
        let count = entries.v4.len() + entries.v6.len();
        let allowance = memory_for_rules(Machine::this().available_memory());
        let acl = Acl::new(&self.eal, entries, allowance).map_err(|error| error.to_string())?;
        let (tables, mib) = (acl.tables(), acl.taken() >> 20);
        if count > CLASSIFIER_TABLE_ENTRIES || tables > 2 {
            log::info!("{} rules are {count} entries in {tables} tables, and took {mib} MiB to compile", rules.len());
        }
        Ok(Box::new(acl))
    }

    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String> {
        Ok(Arc::new(Fib::new(&self.eal, routes).map_err(|error| error.to_string())?))
    }
}
