//! Captures of the real program, read by the programs that people read captures with.

use std::path::Path;
use std::time::Duration;

use millrace_tests::net::{Appliance, Lab, Web, eventually};

const PROGRAMS: &[&str] = &["curl", "nginx", "tcpdump", "ping", "hping3"];

/// What `tcpdump` reads in a file, a line a packet.
fn read(lab: &Lab, file: &str, options: &str) -> Vec<String> {
    let text = lab.client.must(&format!("tcpdump -nn -r {} {options}", lab.file(file).display()));
    text.lines().map(str::to_owned).collect()
}

/// Whether the file has its head: no frame that comes from now on is missed.
fn begun(file: &Path) -> bool {
    file.metadata().is_ok_and(|file| file.len() > 0)
}

#[test]
fn a_conversation_is_in_the_file_as_it_came_and_as_it_left() {
    let Some(lab) = Lab::wired("a_conversation_is_in_the_file_as_it_came_and_as_it_left", PROGRAMS) else { return };
    let _web = Web::start(&lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080"]);
    let appliance = Appliance::launch(&lab, &lab.edge());
    appliance.wait_for("shop-a", "up");
    let file = lab.file("a.pcapng");
    let line = format!("capture --port outside --write {} --for 10m --count 6 --filter tcp", file.display());
    let mut capture = appliance.start_asking(&line, "capture.out");
    eventually(5, "it captures", || begun(&file));
    lab.client.must("curl -s -o /dev/null --max-time 60 http://198.51.100.10/");
    capture
        .ends_within(Duration::from_secs(15))
        .expect("it ends when it has six frames, and a connection has at least eight");
    assert!(capture.output().contains("a.pcapng: "), "{}", capture.output());
    let lines = read(&lab, "a.pcapng", "");
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("> 198.51.100.10.80: Flags [S]")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("198.51.100.10.80 > ") && line.contains("Flags [S.]")), "{lines:#?}");
    let ping = lab.client.run("ping -c 3 -i 0.2 -w 60 198.51.100.10");
    assert!(ping.out.contains("3 received"), "{}", ping.out);
    let refused = appliance.ask_about("capture --port outside --write /nowhere/a --filter", "bad luck");
    assert!(!refused.success && refused.err.contains("`bad luck` is no filter"), "{}", refused.err);
    appliance.stop();
}

#[test]
fn drops_are_in_the_file_with_their_reasons() {
    let programs = [PROGRAMS, &["tshark"]].concat();
    let Some(lab) = Lab::wired("drops_are_in_the_file_with_their_reasons", &programs) else { return };
    let appliance = Appliance::launch(&lab, &lab.edge());
    let file = lab.file("d.pcapng");
    let line = format!("capture --port outside --write {} --for 10m --count 20 --drops", file.display());
    let mut capture = appliance.start_asking(&line, "capture.out");
    eventually(5, "it captures", || begun(&file));
    lab.client.run("hping3 198.51.100.10 -p 23 -c 20 -i u2000 -q -S");
    capture.ends_within(Duration::from_secs(15)).expect("it ends when it has twenty frames");
    let fields = "-T fields -e frame.comment -e frame.interface_name -e frame.p2p_dir -e tcp.dstport";
    let told = lab.client.must(&format!("tshark -r {} {fields}", file.display()));
    let reasons: Vec<&str> = told.lines().filter(|line| line.contains("dropped: firewall_denied: ")).collect();
    assert_eq!((told.lines().count(), reasons.len()), (20, 20), "{told}");
    assert!(reasons.iter().all(|line| line.contains("outside") && line.ends_with("\t23")), "{told}");
    assert_eq!(appliance.dropped("firewall_denied"), 20, "each was counted once");
    appliance.stop();
}
