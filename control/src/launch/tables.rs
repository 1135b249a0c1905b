//! DPDK's tables: rules over `rte_acl`, routes over `rte_fib`.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use config::policy::Cores;
use dpdk::{Acl, Eal, Fib};
use rustix::thread::{CpuSet, sched_setaffinity};
use stage::firewall::{Classifier, Rule, expand};
use stage::forward::{Route, RouteTable};
use units::limits::CLASSIFIER_TABLE_ENTRIES;

use crate::compile::{TableMaker, memory_for_rules};
use crate::doctor::Machine;

/// Tables of rules that first packets are looked up in without anybody noticing.
const TABLES_FEW: usize = 16;

/// Does `work`, which is making the first tables, on every core the policy has: no worker needs its own yet.
pub(super) fn on_every_core<T: Send>(cores: &Cores, work: impl FnOnce() -> T + Send) -> T {
    let mut every = CpuSet::new();
    cores.workers.iter().chain([&cores.control]).for_each(|&core| every.set(core));
    let on_every_core = || {
        // Where that is refused it takes longer, on the control core alone.
        let _ = sched_setaffinity(None, &every);
        work()
    };
    thread::scope(|scope| scope.spawn(on_every_core).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

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
        if tables > TABLES_FEW {
            log::warn!(
                "{tables} tables of rules: a first packet is looked up in all whose rules may concern it. Rules that name addresses \
                 concern fewer, and wide ranges of ports make the most"
            );
        }
        Ok(Box::new(acl))
    }

    fn routes(&self, routes: &[Route]) -> Result<Arc<dyn RouteTable>, String> {
        Ok(Arc::new(Fib::new(&self.eal, routes).map_err(|error| error.to_string())?))
    }
}
