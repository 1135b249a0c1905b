//! Two customers with the same addresses, ports and MACs behind one trunk that passes through the appliance: each has its own
//! conversations (SE-45).
//!
//! ```text
//!   acme  10.9.0.1 -- \                                        / -- 10.9.0.2  web-acme
//!         fd09::1      patch == mr-out0 [pair] mr-in0 == patch      fd09::2
//!   burns 10.9.0.1 -- / VLANs 100, 200            100, 200     \ -- 10.9.0.2  web-burns
//! ```

use std::time::Duration;

use millrace_tests::net::{Appliance, Configuration, Lab, Namespace, Process, Web, eventually};

const PORTS: &str = r#"
[appliance]
name = "trunk"
[cores]
control = 0
workers = [1]
[dpdk]
buffer_size = 16_384
hugepages = false
memory = "512MiB"
[[port]]
name = "outside"
device = "net_af_packet0,iface=mr-out0,framesz=16384,blocksz=65536"
zone = "wan"
[[port]]
name = "inside"
device = "net_af_packet1,iface=mr-in0,framesz=16384,blocksz=65536"
zone = "dmz"
[[pair]]
ports = ["outside", "inside"]
[firewall]
default = "deny"
[[firewall.rule]]
name = "ping"
action = "allow"
protocol = "icmp"
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
to = ["dmz"]
protocol = "tcp"
destination_port = ["80"]
"#;

const TENANTS: &str = "[[tenant]]\nname = \"acme\"\nvlans = [100]\n[[tenant]]\nname = \"burns\"\nvlans = [200]\n";

/// Patches access ports into a trunk, since not every kernel has VLAN interfaces: `patch.py TRUNK VLAN=PORT ...`. The kernel takes
/// the tags off that it hands over, and tells them beside (packet(7), `PACKET_AUXDATA`).
const PATCH: &str = r#"
import select, socket, struct, sys
SOL_PACKET, AUXDATA, OUTGOING, VALID = 263, 8, 4, 0x10
def port(name):
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    opened.setsockopt(SOL_PACKET, AUXDATA, 1)
    opened.bind((name, 3))
    return opened
def frame(opened):
    data, beside, _, whence = opened.recvmsg(65536, 256)
    vlan = 0
    for level, kind, value in beside:
        if (level, kind) == (SOL_PACKET, AUXDATA):
            status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", value[:20])
            vlan = tci & 0xfff if status & VALID else 0
    return (None, 0) if whence[2] == OUTGOING else (data, vlan)
trunk = port(sys.argv[1])
access = {int(vlan): port(name) for vlan, name in (word.split("=") for word in sys.argv[2:])}
vlans = {opened: vlan for vlan, opened in access.items()}
print("ready", flush=True)
while True:
    for opened in select.select([trunk, *vlans], [], [])[0]:
        data, vlan = frame(opened)
        try:
            if data and opened is trunk and vlan in access:
                access[vlan].send(data)
            elif data and opened is not trunk:
                trunk.send(data[:12] + struct.pack("!HH", 0x8100, vlans[opened]) + data[12:])
        except OSError:
            pass
"#;

/// A customer's host outside and its server inside.
struct Customer {
    name: &'static str,
    client: Namespace,
    server: Namespace,
}

/// What patches customers into the trunk on one side.
struct Patch {
    _process: Process,
    _host: Namespace,
}

/// Both customers, patched into the trunks on both sides of the appliance.
fn customers(lab: &Lab) -> ([Customer; 2], [Patch; 2]) {
    let script = lab.file("patch.py");
    std::fs::write(&script, PATCH).expect("the lab's directory takes a file");
    let sides = [("outer", "mr-out0"), ("inner", "mr-in0")].map(|(role, port)| {
        let host = lab.host(role);
        lab.appliance.wire(port, &host, "trunk");
        host
    });
    let customers = ["acme", "burns"].map(|name| {
        let [client, server] = [("client", 1), ("server", 2)].map(|(role, last)| {
            let host = lab.host(&format!("{name}-{role}"));
            host.wire("eth0", &sides[last - 1], name);
            // The same stations, too.
            host.must("ip link set eth0 down");
            host.must(&format!("ip link set eth0 address 02:00:00:00:09:0{last}"));
            host.must("ip link set eth0 up");
            host.address("eth0", &format!("10.9.0.{last}/24"));
            host.address("eth0", &format!("fd09::{last}/64"));
            host
        });
        Customer { name, client, server }
    });
    let patches = sides.map(|host| {
        let line = format!("python3 {} trunk 100=acme 200=burns", script.display());
        let process = host.start(&line, &lab.file(host.name()));
        eventually(10, "frames are patched", || process.output().contains("ready"));
        Patch { _process: process, _host: host }
    });
    (customers, patches)
}

#[test]
fn two_customers_with_the_same_addresses_and_ports() {
    let test = "two_customers_with_the_same_addresses_and_ports";
    let Some(lab) = Lab::bare(test, &["python3", "ping"]) else { return };
    let (customers, _patches) = customers(&lab);
    let policy = format!("{PORTS}{TENANTS}");
    let appliance = Appliance::launch(&lab, &Configuration::written(&policy, &lab.file("trunk.sock")));
    let _webs = customers.each_ref().map(|customer| {
        let name = format!("web-{}", customer.name);
        Web::start(&lab, &customer.server, &name, &["10.9.0.2:80", "[fd09::2]:80"])
    });
    // A port of each version: those of the first rest for a while.
    for (server, url, port) in [("10.9.0.2", "10.9.0.2", 40_000), ("fd09::2", "[fd09::2]", 40_001)] {
        for customer in &customers {
            customer.client.must(&format!("ping -c 2 -W 10 {server}"));
            customer.client.must(&format!("ping -c 2 -W 10 -s 4000 {server}"));
            let page = customer.client.must(&format!("curl -sS --fail --max-time 60 {url}/"));
            assert!(page.starts_with(&format!("web-{} ", customer.name)), "{page}");
        }
        // Both at once, from the same port to the same port.
        let mut slow = customers.each_ref().map(|customer| {
            let curl = format!("curl -sS --fail --max-time 300 --local-port {port} -o /dev/null -w %{{size_download}}");
            let log = lab.file(&format!("slow-{}-{}", customer.name, server.len()));
            customer.client.start(&format!("{curl} {url}/slow"), &log)
        });
        let under_way = |name: &str| {
            let shown = appliance.show(&format!("sessions --match tenant={name}"));
            let sessions = shown.as_array().into_iter().flatten().filter(|it| {
                let original = &it["original"];
                original["source_port"] == port && original["destination"] == server && it["state"] == "established"
            });
            sessions.filter(|it| it["tenant"] == name).count() == 1
        };
        eventually(6, "each has its own", || customers.iter().all(|customer| under_way(customer.name)));
        for download in &mut slow {
            let ended = download.ends_within(Duration::from_secs(60)).expect("curl ends");
            assert!(ended.success() && download.output() == Web::SLOW.to_string(), "{}", download.output());
        }
    }
    assert_eq!(appliance.dropped("tcp_out_of_window"), 0);
    appliance.stop();
}
