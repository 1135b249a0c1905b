//! DPDK's tables: rules over `rte_acl`, routes over `rte_fib`.

use std::sync::Arc;

use dpdk::{Acl, Eal, Fib};
use stage::firewall::{Classifier, Rule, expand};
use stage::forward::{Route, RouteTable};

use crate::compile::TableMaker;

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
        Ok(Box::new(Acl::new(&self.eal, &entries).map_err(|error| error.to_string())?))
    }

    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String> {
        Ok(Arc::new(Fib::new(&self.eal, routes).map_err(|error| error.to_string())?))
    }
}
