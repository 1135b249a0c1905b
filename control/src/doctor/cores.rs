//! Processors: that they are there, and that nothing else runs on those that poll.

use config::Policy;

use super::machine::Machine;
use super::{Finding, State};

pub(super) fn examine(machine: &Machine, policy: Option<&Policy>, findings: &mut Vec<Finding>) {
    let online = machine.online_cores();
    let Some(policy) = policy else {
        let found =
            format!("{} processors are online; the appliance wants one for control, the rest may work", online.len());
        findings.push(Finding::new("cores", State::Ok, found));
        return;
    };
    let wanted = || policy.cores.workers.iter().chain([&policy.cores.control]);
    let absent: Vec<_> = wanted().filter(|core| !online.contains(core)).map(ToString::to_string).collect();
    if !absent.is_empty() {
        let found = format!("core {} is not online; {} are", absent.join(", "), shown(&online));
        let remedy = "name cores that are online in `workers` and `control` under [cores]";
        findings.push(Finding::new("cores", State::Missing, found).mended_by(remedy));
        return;
    }
    let workers = &policy.cores.workers;
    findings.push(Finding::new(
        "cores",
        State::Ok,
        format!("control {}, workers {}", policy.cores.control, shown(workers)),
    ));
    if workers.contains(&policy.cores.control) {
        let found =
            format!("core {} is control's and a worker's: each takes time from the other", policy.cores.control);
        findings.push(
            Finding::new("shared core", State::Warning, found).mended_by("another core for `control` or the worker"),
        );
    }
    let isolated = machine.isolated_cores();
    let busy: Vec<_> = workers.iter().copied().filter(|core| !isolated.contains(core)).collect();
    if !busy.is_empty() {
        let list = shown(&busy);
        let found = format!("other programs may run on the cores of workers ({list}): packets wait meanwhile");
        findings.push(Finding::new("isolation", State::Note, found).mended_by(format!(
            "add `isolcpus={list} nohz_full={list} rcu_nocbs={list}` to the kernel's command line and reboot"
        )));
    }
}

fn shown(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
