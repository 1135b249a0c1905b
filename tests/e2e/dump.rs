//! API-05 with the real program: a million flows (or as many as `MILLRACE_DUMPED` says) dumped through the API while packets are forwarded.

use std::fs::File;
use std::io::{BufRead as _, BufReader};

use millrace_tests::net::{Appliance, Lab, eventually, number_from_environment, unanswered};

/// Sends `argv[2]` different datagrams out of interface `argv[1]` to the MAC `argv[3]`, as fast as it can.
const FLOWS: &str = r#"
import socket, struct, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
mac = bytes.fromhex(sys.argv[3].replace(":", ""))
def frame(number):
    source, port = 0xc6336414 + number // 50000, 10000 + number % 50000
    head = struct.pack("!BBHHHBBHI4s", 0x45, 0, 28, 1, 0, 64, 17, 0, source, socket.inet_aton("10.0.0.11"))
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xffff)
    check = 0xffff - (total + (total >> 16) & 0xffff)
    head = head[:10] + struct.pack("!H", check) + head[12:]
    return mac + b"\x02\0\0\0\x51\x20\x08\0" + head + struct.pack("!HHHH", port, 9, 8, 0)
for number in range(int(sys.argv[2])):
    try:
        out.send(frame(number))
    except OSError:
        pass
"#;

/// Bytes that the dump may add to the process, however many sessions there are.
const GROWTH_MAX: u64 = 64 << 20;

#[test]
fn a_million_flows_are_dumped_while_packets_pass() {
    let Some(lab) = Lab::wired("a_million_flows_are_dumped_while_packets_pass", &["python3", "ping"]) else { return };
    let count = number_from_environment("MILLRACE_DUMPED", 200_000);
    let rule = "name = \"flows\"\naction = \"allow\"\nfrom = [\"wan\"]\nto = [\"dmz\"]\ndestination = [\"10.0.0.11\"]";
    let configuration = lab.edge().without_probes().with_first_rule(rule).replacing(
        "capacity = 100_000",
        &format!("capacity = {}\ntimeouts = {{ udp_one_way = \"1h\" }}", count + 10_000),
    );
    let appliance = Appliance::launch(&lab, &configuration);
    let ports: serde_json::Value = serde_json::from_str(&appliance.ask("show ports --json").out).expect("JSON");
    let mac = ports[0]["mac"].as_str().expect("the MAC of the outside port").to_owned();
    let script = lab.file("flows.py");
    std::fs::write(&script, FLOWS).expect("the lab's directory takes a file");
    lab.client.must("ping -c 1 -W 20 10.0.0.11");
    eventually(30, "nothing is left of the ping", || in_use(&appliance) == 0);
    eventually(300, "every flow has its session", || {
        // What comes faster than the worker takes it is lost at the device, and sent again.
        lab.client.run_for(120, &format!("python3 {} eth0 {count} {mac}", script.display()));
        in_use(&appliance) >= count
    });
    let before = appliance.resident();
    let mut pings = lab.client.start("ping -n -i 0.02 -c 250 -w 600 10.0.0.11", &lab.file("pings"));
    let dump = lab.file("dump.json");
    let mut dumping = appliance.start_asking("show sessions --limit 10000000 --match protocol=udp --json", "dump.json");
    let mut most = before;
    eventually(120, "the dump is over", || {
        most = most.max(appliance.resident());
        !dumping.running()
    });
    let mut seen: Vec<u64> = Vec::new();
    for line in BufReader::new(File::open(&dump).expect("the dump")).lines() {
        let line = line.expect("text");
        let Some((_, original)) = line.split_once("\"original\":{\"source\":\"198.51.") else { continue };
        let (host, rest) = original.split_once('"').expect("an address");
        let (third, fourth) = host.split_once('.').expect("an address");
        let port = rest.trim_start_matches(",\"source_port\":").split(',').next().expect("a port");
        let parts = [third, fourth, port].map(|part| part.parse::<u64>().expect("a number"));
        seen.push(parts[0] << 32 | parts[1] << 16 | parts[2]);
    }
    let all = seen.len() as u64;
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((all, seen.len() as u64), (count, count), "every flow once");
    assert!(most - before < GROWTH_MAX, "the process grew by {} KiB", (most - before) >> 10);
    eventually(30, "the pings are over", || !pings.running());
    assert!(unanswered(&pings.output()).is_empty(), "{}", pings.output());
    eprintln!("{count} flows: the process grew by {} KiB", (most - before) >> 10);
    appliance.stop();
}

/// Sessions there are.
fn in_use(appliance: &Appliance<'_>) -> u64 {
    let memory: serde_json::Value = serde_json::from_str(&appliance.ask("show memory --json").out).expect("JSON");
    memory["sessions_in_use"].as_u64().expect("a number")
}
