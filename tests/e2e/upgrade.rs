//! RLD-11: the binary is replaced while conversations are under way. Downloads through the balancer and through source NAT, an idle
//! connection and datagrams, over IPv4 and IPv6, go on in the next process, and what was lost meanwhile is said (RFC 6201).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, Namespace, Process, Resolver, Web, eventually};

/// Bytes of each download, and how many a second: it lasts longer than beginning twenty, stopping and starting on a loaded machine.
const BYTES: usize = 240_000;
const RATE: usize = 8_000;

/// What downloads are made of: nothing in it repeats, so that nothing can stand in another's place.
fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BYTES / 8).flat_map(next).collect()
}

/// `edge.toml` with source NAT for both families, and rules for what this test sends.
fn configuration(lab: &Lab) -> Configuration {
    lab.edge()
        .without_probes()
        .with_first_rule("name = \"idle\"\naction = \"allow\"\nfrom = [\"wan\"]\nto = [\"dmz\"]\ndestination_port = [\"2222\"]\nprotocol = \"tcp\"")
        .with_tables(
            "\n[[source_nat]]\nname = \"servers-out6\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\nsource = [\"2001:db8:10::/64\"]\n\
             address = [\"2001:db8:51::100\"]\n\n[sessions.timeouts]\nicmp = \"10m\"\n",
        )
}

/// A download by way of `address`, slowly.
fn download(lab: &Lab, from: &Namespace, address: &str, number: usize) -> Process {
    let page = lab.file(&format!("page-{number}"));
    let line = format!("curl -sS --fail --max-time 600 --limit-rate {RATE} -o {} {address}/page", page.display());
    from.start(&line, &lab.file(&format!("curl-{number}.log")))
}

/// Replies that came and questions asked, of a ping that has ended.
fn answered(output: &str) -> (u32, u32) {
    let line = output.lines().find(|line| line.contains("packets transmitted")).expect("ping sums up");
    let numbers: Vec<u32> = line.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect();
    (numbers[1], numbers[0])
}

#[test]
fn conversations_outlive_the_process() {
    let Some(lab) = Lab::wired("conversations_outlive_the_process", Claims::PROGRAMS) else { return };
    let configuration = configuration(&lab);
    let shops = [
        Web::start(&lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080", "[2001:db8:10::11]:8080"]),
        Web::start(&lab, &lab.shop_b, "shop-b", &["10.0.0.12:8080"]),
        Web::start(&lab, &lab.client, "world", &["198.51.100.29:80", "[2001:db8:51::29]:80"]),
    ];
    let content = content();
    for name in ["shop-a", "shop-b", "world"] {
        std::fs::write(lab.file(name).join("pages/page"), &content).expect("the lab's directory takes a file");
    }
    let mut appliance = Appliance::launch(&lab, &configuration);
    let nothing = appliance.ask("show restart");
    assert!(nothing.out.contains("left nothing"), "{}", nothing.out);

    let ways = [
        (&lab.client, "198.51.100.10"),
        (&lab.client, "[2001:db8:51::10]"),
        (&lab.shop_b, "198.51.100.29"),
        (&lab.shop_b, "[2001:db8:51::29]"),
    ];
    let mut downloads: Vec<_> =
        (0..20).map(|number| download(&lab, ways[number % 4].0, ways[number % 4].1, number)).collect();
    // A connection on which nothing is said until the new process runs, as an idle ssh.
    let (said, script) = (lab.file("said"), lab.file("idle.sh"));
    let listener = lab.shop_a.start("nc -d -l 2222", &lab.file("heard"));
    eventually(5, "the listener listens", || lab.shop_a.must("ss -Hltn").contains(":2222"));
    lab.client.must(&format!("mkfifo {}", said.display()));
    std::fs::write(&script, format!("exec nc 10.0.0.11 2222 < {}", said.display())).expect("the lab takes a file");
    // Held open at this end, too, so that the connection stays.
    let mut said = OpenOptions::new().read(true).write(true).open(&said).expect("a pipe can be opened");
    let _idle = lab.client.start(&format!("sh {}", script.display()), &lab.file("idle.log"));
    // Datagrams both ways through source NAT, always from one port.
    let _names = Resolver::start(&lab, &lab.client, "names", "198.51.100.28");
    let asks = || {
        let answer =
            lab.shop_a.must("dig -b 10.0.0.11#7070 +time=60 +tries=1 +short @198.51.100.28 whoami.example TXT");
        assert_eq!(answer.trim(), "\"names\"");
    };
    asks();
    let sessions = |appliance: &Appliance<'_>, wanted: &str| {
        let shown = appliance.ask_about("show sessions --json --limit 1000 --match", wanted).out;
        serde_json::from_str::<Vec<serde_json::Value>>(&shown).expect("JSON")
    };
    eventually(10, "every conversation is under way", || {
        sessions(&appliance, "protocol=tcp state=established").len() == 21
    });
    let asked = sessions(&appliance, "protocol=udp").remove(0);
    let pings = [("10.0.0.11", "ping-4"), ("2001:db8:10::11", "ping-6")]
        .map(|(target, name)| lab.client.start(&format!("ping -i 0.01 -w 6 {target}"), &lab.file(name)));
    eventually(5, "pings are answered", || pings.iter().all(|ping| ping.output().lines().count() > 20));

    let before = appliance.terminate();
    assert_eq!(before.and_then(|status| status.code()), Some(0), "{}", appliance.output());
    let left = lab.file("control.sock.state").join("sessions");
    let mode = std::fs::metadata(&left).expect("sessions are left").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let appliance = Appliance::launch(&lab, &configuration);
    assert!(!left.exists(), "what was taken up is gone");
    let restart: serde_json::Value = serde_json::from_str(&appliance.ask("show restart --json").out).expect("JSON");
    assert_eq!(restart["trouble"], serde_json::Value::Null, "{restart}");
    assert!(restart["written"].as_u64() >= Some(22) && restart["written"] == restart["taken_up"], "{restart}");

    said.write_all(b"good morning\n").expect("a pipe takes a line");
    eventually(10, "the idle connection speaks", || listener.output() == "good morning\n");
    asks();
    let again = sessions(&appliance, "protocol=udp");
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0]["reply"], asked["reply"], "the same outside port");
    let packets = [&asked, &again[0]].map(|session| session["packets"].as_u64());
    assert_eq!(packets, [Some(2), Some(4)], "counted on");
    let mut whole = 0;
    for (number, download) in downloads.iter_mut().enumerate() {
        let status = download.ends_within(Duration::from_secs(60));
        let page = std::fs::read(lab.file(&format!("page-{number}"))).unwrap_or_default();
        whole += usize::from(status.is_some_and(|status| status.success()) && page == content);
    }
    assert_eq!(whole, downloads.len(), "flows kept: {whole} of {}", downloads.len());
    let [four, six] = pings.map(|mut ping| {
        ping.ends_within(Duration::from_secs(20));
        answered(&ping.output())
    });
    println!(
        "RLD-11: flows kept {whole}/{}; outage {} ms by the appliance; pings lost/offered {}/{} (IPv4), {}/{} (IPv6), 10 ms apart",
        downloads.len(),
        restart["outage_ms"],
        four.1 - four.0,
        four.1,
        six.1 - six.0,
        six.1
    );
    assert!(four.0 > 0 && six.0 > 0);
    appliance.stop();
    drop(shops);
}

/// A damaged file, and one that is not wanted, keep nobody from starting, and never come back.
#[test]
fn what_cannot_be_used_is_told_and_the_start_goes_on() {
    let Some(lab) = Lab::wired("what_cannot_be_used_is_told_and_the_start_goes_on", Claims::PROGRAMS) else { return };
    let configuration = configuration(&lab);
    let world = Web::start(&lab, &lab.client, "world", &["198.51.100.29:80"]);
    let left = lab.file("control.sock.state").join("sessions");
    let browse = || assert_eq!(lab.shop_a.must("curl -sS --max-time 60 198.51.100.29/").trim(), "world 198.51.100.1");
    let mut appliance = Appliance::launch(&lab, &configuration);
    browse();
    appliance.terminate();
    let mut bytes = std::fs::read(&left).expect("sessions are left");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&left, &bytes).expect("it can be written to");
    let mut appliance = Appliance::launch(&lab, &configuration);
    let shown = appliance.ask("show restart").out;
    assert!(shown.contains("could not be used: it is damaged"), "{shown}");
    assert!(!left.exists());
    browse();
    appliance.terminate();
    assert!(left.exists());
    let off = configuration.clone().replacing("capacity = 100_000", "keep_across_restarts = false\ncapacity = 100_000");
    let mut appliance = Appliance::launch(&lab, &off);
    assert!(!left.exists() && appliance.ask("show restart").out.contains("left nothing"));
    browse();
    appliance.terminate();
    assert!(!left.exists(), "nothing is left where it is not wanted");
    // A kill leaves nothing.
    let mut appliance = Appliance::launch(&lab, &configuration);
    browse();
    appliance.kill();
    assert!(!left.exists());
    let appliance = Appliance::resume(&lab, &configuration);
    browse();
    appliance.stop();
    drop(world);
}
