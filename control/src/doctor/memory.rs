//! Memory: hugepages where the policy wants them, ordinary memory where it does not.

use config::Policy;

use super::machine::{Hugepages, Machine};
use super::{Finding, State};

const HUGEPAGE: u64 = 2 << 20;

pub(super) fn examine(machine: &Machine, policy: Option<&Policy>, findings: &mut Vec<Finding>) {
    match policy {
        Some(policy) if policy.dpdk.hugepages => {
            findings.push(enough_hugepages(machine, policy.dpdk.memory));
            findings.push(hugetlbfs(machine));
        }
        Some(policy) => findings.push(ordinary(machine, policy.dpdk.memory)),
        None => findings.push(any_hugepages(machine)),
    }
}

fn described(sizes: &[Hugepages]) -> String {
    let each: Vec<_> = sizes
        .iter()
        .map(|pages| format!("{} of {} pages of {} MiB are free", pages.free, pages.total, pages.size >> 20))
        .collect();
    each.join(", ")
}

fn free_bytes(sizes: &[Hugepages]) -> u64 {
    sizes.iter().map(|pages| pages.size.saturating_mul(pages.free)).sum()
}

fn enough_hugepages(machine: &Machine, wanted: u64) -> Finding {
    let sizes = machine.hugepages();
    if sizes.is_empty() {
        return Finding::new("hugepages", State::Missing, "this kernel has no hugepages")
            .mended_by("set `hugepages = false` under [dpdk]");
    }
    let free = free_bytes(&sizes);
    if free >= wanted {
        return Finding::new("hugepages", State::Ok, described(&sizes));
    }
    let found = format!("`memory` asks for {} MiB; {}", wanted >> 20, described(&sizes));
    let now = sizes.iter().find(|pages| pages.size == HUGEPAGE).map_or(0, |pages| pages.total);
    let pages = now + (wanted - free).div_ceil(HUGEPAGE);
    Finding::new("hugepages", State::Missing, found).mended_by(format!(
        "echo {pages} >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages    (for good: vm.nr_hugepages in \
         /etc/sysctl.d)"
    ))
}

fn hugetlbfs(machine: &Machine) -> Finding {
    if machine.has_hugetlbfs() {
        return Finding::new("hugetlbfs", State::Ok, "is mounted");
    }
    Finding::new("hugetlbfs", State::Missing, "is not mounted, so nobody can use hugepages")
        .mended_by("mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages")
}

fn ordinary(machine: &Machine, wanted: u64) -> Finding {
    let note = "; without hugepages the appliance is for trying out";
    match machine.available_memory() {
        Some(available) if available < wanted => {
            let found = format!("`memory` asks for {} MiB, {} MiB are available", wanted >> 20, available >> 20);
            Finding::new("memory", State::Missing, found).mended_by("a smaller `memory` under [dpdk]")
        }
        _ => Finding::new("memory", State::Ok, format!("{} MiB of ordinary memory{note}", wanted >> 20)),
    }
}

fn any_hugepages(machine: &Machine) -> Finding {
    let sizes = machine.hugepages();
    if free_bytes(&sizes) > 0 {
        return Finding::new("hugepages", State::Ok, described(&sizes));
    }
    Finding::new("hugepages", State::Note, "none are free; configurations with `hugepages = true` need them")
        .mended_by("echo 512 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages    (1 GiB)")
}
