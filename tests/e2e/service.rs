//! As a service: what the supervisor hears, what threads may still do once the appliance runs, and that it needs no more than that.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use millrace_tests::net::{Appliance, Claims, Lab, eventually};

/// What the appliance has told its supervisor, until it says `wanted`.
fn heard_until(supervisor: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let mut words = [0; 512];
        let len = supervisor
            .recv(&mut words)
            .unwrap_or_else(|error| panic!("{wanted:?} is not heard ({error}) after {heard:?}"));
        let said = String::from_utf8_lossy(&words[..len]).into_owned();
        let last = said.starts_with(wanted);
        heard.push(said);
        assert!(heard.len() < 100, "{wanted:?} is not heard: {heard:?}");
        if last {
            return heard;
        }
    }
}

/// SIGHUP is told as a reload from its beginning to its end, a watchdog hears that all is well, and the stop is told.
#[test]
fn a_supervisor_hears_of_the_start_of_reloads_and_of_the_stop() {
    let test = "a_supervisor_hears_of_the_start_of_reloads_and_of_the_stop";
    let Some(lab) = Lab::wired(test, &[]) else { return };
    let place = lab.file("notify");
    let supervisor = UnixDatagram::bind(&place).expect("the lab's directory takes a socket");
    supervisor.set_read_timeout(Some(Duration::from_secs(180))).expect("a limit above zero");
    let edge = lab.edge();
    let environment = format!("env NOTIFY_SOCKET={} WATCHDOG_USEC=6000000", place.display());
    let appliance = Appliance::launch_under(&lab, &environment, &edge);
    assert!(heard_until(&supervisor, "READY=1").iter().all(|said| !said.starts_with("STOPPING")));
    heard_until(&supervisor, "WATCHDOG=1");

    let put = |text: &str| {
        lab.put("millrace.toml", text);
        appliance.signal("HUP");
    };
    put(edge.clone().replacing("weight = 2", "weight = 3").text());
    let reloading = heard_until(&supervisor, "RELOADING=1").pop().unwrap_or_default();
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    assert!(heard_until(&supervisor, "READY=1").pop().is_some_and(|said| said.contains("packets are treated")));
    assert_eq!(appliance.show("policy")["generation"], 2);
    put("[appliance]\nnam = 1\n");
    heard_until(&supervisor, "RELOADING=1");
    let refused = heard_until(&supervisor, "READY=1").pop().unwrap_or_default();
    assert!(refused.contains("the policy before goes on"), "{refused}");
    appliance.stop();
    heard_until(&supervisor, "STOPPING=1");
}

/// A line of a thread's `/proc/.../status`.
fn line<'s>(status: &'s str, key: &str) -> &'s str {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim_start_matches(':').trim()
}

/// Threads of the packet path have no capability, management has what running takes, and that is enough: the policy changes,
/// probes pass, a stop takes everything away.
#[test]
fn once_it_runs_threads_have_given_up_what_they_do_not_need() {
    let Some(lab) = Lab::wired("once_it_runs_threads_have_given_up_what_they_do_not_need", Claims::PROGRAMS) else {
        return;
    };
    let claims = Claims::serve(&lab);
    let interfaces = lab.appliance.interfaces();
    let log = "[session_log]\nformat = \"json\"\ncollector = \"127.0.0.1:9\"\n\n[sessions]\n";
    let pinged = lab
        .edge()
        .replacing("kind = \"http\"", "kind = \"icmp\"")
        .replacing("path = \"/healthz\"\n", "")
        .replacing("[sessions]\n", log);
    let appliance = Appliance::start(&lab, &pinged);
    // Each is read once: some end when they have had nothing to do for a while.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", appliance.id())).expect("it runs").flatten();
    let tasks: Vec<_> = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok()).collect();
    let named = |name: &str| {
        let found: Vec<_> = tasks.iter().filter(|task| line(task, "Name").starts_with(name)).collect();
        assert!(!found.is_empty(), "there is a thread {name}");
        found
    };
    for name in ["worker-", "control", "kernel-pump", "journal", "session-log"] {
        for task in named(name) {
            assert_eq!(u64::from_str_radix(line(task, "CapPrm"), 16), Ok(0), "{name}");
        }
    }
    // CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK (linux/capability.h).
    let opens_devices = 1 << 12 | 1 << 13 | 1 << 14;
    let manages = 1 << 2 | opens_devices;
    for (name, kept) in [("tokio-", manages), ("millrace", manages), ("devices", opens_devices)] {
        for task in named(name) {
            let has = u64::from_str_radix(line(task, "CapEff"), 16).expect("a mask");
            assert_eq!((has & !kept, line(task, "NoNewPrivs"), line(task, "Seccomp")), (0, "1", "2"), "{name}");
        }
    }
    claims.clients_reach_the_shop();
    assert!(appliance.apply(&pinged.clone().replacing("203.0.113.0/24", "203.0.113.0/25")).success);
    eventually(5, "the kernel's routes follow", || lab.appliance.must("ip route show").contains("203.0.113.0/25"));
    assert!(appliance.ask("rollback").success);
    appliance.stop();
    assert_eq!(lab.appliance.interfaces(), interfaces);
}
