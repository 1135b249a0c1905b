//! Start, stop and restart leave nothing behind: no interface, no socket, no folder of DPDK's, no hugepage file, no
//! hugepage, no process; also when the appliance before was killed (CRS-07), and a second one refuses at once (CRS-08).

use std::time::{Duration, Instant};

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, eventually, number_from_environment, skipped};

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What the appliance that had this process number left on the machine: names of DPDK's carry it. Other users of DPDK may
/// come and go meanwhile.
fn left_by(process: u32) -> Vec<String> {
    let mark = format!("millrace-{process}");
    let all = ["/var/run/dpdk", "/dev/hugepages"].into_iter().flat_map(names);
    all.filter(|name| name.match_indices(&mark).any(|(at, _)| !name[at + mark.len()..].starts_with(char::is_numeric)))
        .collect()
}

fn hugepages_free() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("HugePages_Free:"))?;
    line.trim().parse().ok()
}

/// Whether there are too few hugepages for `edge.toml`; if so, it has been said.
fn lacks_hugepages(test: &str) -> bool {
    let wanted = 288;
    let mounted = std::fs::read_to_string("/proc/mounts").unwrap_or_default().contains(" hugetlbfs ");
    let lacks = hugepages_free() < Some(wanted) || !mounted;
    if lacks {
        skipped(test, &format!("needs {wanted} free hugepages of 2 MiB (scripts/hugepages.sh 576)"));
    }
    lacks
}

fn starts_and_stops(lab: &Lab, configuration: &Configuration, rounds: u64) {
    let interfaces = lab.appliance.interfaces();
    for round in 0..rounds {
        let mut appliance = Appliance::launch(lab, configuration);
        let process = appliance.id();
        assert!(!left_by(process).is_empty(), "the names are those this test looks for");
        let status = appliance.terminate();
        assert_eq!(status.and_then(|status| status.code()), Some(0), "round {round}:\n{}", appliance.output());
        drop(appliance);
        assert_eq!(left_by(process), Vec::<String>::new(), "round {round}");
        assert_eq!(lab.appliance.interfaces(), interfaces, "round {round}");
        assert!(!configuration.socket().exists(), "round {round}");
    }
}

#[test]
fn a_hundred_starts_and_stops_leave_nothing_behind() {
    let Some(lab) = Lab::wired("a_hundred_starts_and_stops_leave_nothing_behind", Claims::PROGRAMS) else { return };
    starts_and_stops(&lab, &lab.edge(), number_from_environment("MILLRACE_RESTARTS", 100));
}

#[test]
fn starts_and_stops_on_hugepages_leave_nothing_behind() {
    let test = "starts_and_stops_on_hugepages_leave_nothing_behind";
    if lacks_hugepages(test) {
        return;
    }
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let configuration = lab.edge().replacing("hugepages = false", "hugepages = true");
    starts_and_stops(&lab, &configuration, number_from_environment("MILLRACE_RESTARTS", 100).min(20));
}

/// CRS-07: killed again and again, each start sweeps up after the one before, and nothing accumulates.
fn starts_after_kills(lab: &Lab, configuration: &Configuration, rounds: u64) {
    let interfaces = lab.appliance.interfaces();
    let free = hugepages_free();
    let mut before = None;
    for round in 0..rounds {
        let mut appliance = Appliance::resume(lab, configuration);
        if let Some(before) = before.replace(appliance.id()) {
            assert_eq!(left_by(before), Vec::<String>::new(), "round {round}");
        }
        appliance.kill();
        assert!(configuration.socket().exists(), "it could clear nothing away");
        eventually(10, "the kernel takes back hugepages", || hugepages_free() >= free);
    }
    let claims = Claims::serve(lab);
    let appliance = Appliance::start(lab, configuration);
    claims.clients_reach_the_shop();
    drop(claims);
    let process = appliance.id();
    appliance.stop();
    for process in before.into_iter().chain([process]) {
        assert_eq!(left_by(process), Vec::<String>::new());
    }
    assert_eq!(lab.appliance.interfaces(), interfaces);
}

#[test]
fn an_appliance_starts_after_one_that_was_killed_and_sweeps_up() {
    let Some(lab) = Lab::wired("an_appliance_starts_after_one_that_was_killed_and_sweeps_up", Claims::PROGRAMS) else {
        return;
    };
    starts_after_kills(&lab, &lab.edge(), number_from_environment("MILLRACE_RESTARTS", 100).min(50));
}

#[test]
fn an_appliance_on_hugepages_starts_after_one_that_was_killed_and_sweeps_up() {
    let test = "an_appliance_on_hugepages_starts_after_one_that_was_killed_and_sweeps_up";
    if lacks_hugepages(test) {
        return;
    }
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let configuration = lab.edge().replacing("hugepages = false", "hugepages = true");
    starts_after_kills(&lab, &configuration, number_from_environment("MILLRACE_RESTARTS", 100).min(10));
}

#[test]
fn a_second_appliance_on_the_same_socket_refuses_at_once_and_the_first_is_unharmed() {
    let test = "a_second_appliance_on_the_same_socket_refuses_at_once_and_the_first_is_unharmed";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge());
    let asked = Instant::now();
    let second = appliance.second();
    assert!(!second.success);
    // Who waits for the first to go waits for ever.
    assert!(asked.elapsed() < Duration::from_secs(60), "it took {:?}", asked.elapsed());
    assert!(!second.err.contains("panicked"), "{}", second.err);
    // The first of what both would need: their state, their socket, their devices.
    assert!(second.err.contains("another appliance keeps its state in"), "{}", second.err);
    for (key, to, wanted) in [
        (".state\"", ".elsewhere\"", "another appliance answers at"),
        ("control.sock", "control.elsewhere", "port outside: another appliance has mr-out0"),
    ] {
        let second = appliance.second_with(&lab.edge().replacing(key, to));
        assert!(!second.success && second.err.contains(wanted), "{wanted}: {}", second.err);
    }
    claims.clients_reach_the_shop();
    appliance.stop();
}
