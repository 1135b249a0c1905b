//! On virtual functions of an SR-IOV NIC, behind vfio and an IOMMU, prepared by the project's own scripts: `edge.toml` and
//! `demo.toml` as on any other device, the cable pulled and put back, and the clock of the machine set (CRS-10).
//!
//! What a virtual function is not: promiscuous. Its NIC hands it frames for its one MAC address, for everybody, and for the
//! multicast groups it has listed; IPv6 works only as far as neighbor discovery's groups are listed.

use std::path::Path;

use millrace_tests::net::{Claims, Guest, Iperf, Lab, Nic, Web, binary, eventually};
use serde_json::Value;

/// The wires have the names of edge.toml's interfaces: the lab plugs them in like those of TAP devices.
const OUTSIDE: Nic = Nic { wire: "mr-out0", mac: "02:00:00:00:01:ff" };
const INSIDE: Nic = Nic { wire: "mr-in0", mac: "02:00:00:00:02:ff" };

/// Makes a virtual function of the NIC whose physical function has this MAC address, gives it to DPDK, and says where it is.
fn virtual_function(guest: &Guest, nic: &Nic) -> String {
    let prefix = nic.mac.strip_suffix(":ff").expect("so written above");
    let physical = guest.must(&format!("ip -oneline link | grep {} | cut --delimiter=' ' --fields=2", nic.mac));
    let physical = physical.trim().trim_end_matches(':');
    let made = guest.must(&format!("scripts/create_vfs.sh {physical} 1 --mac-prefix {prefix}"));
    let address = made.trim().to_owned();
    let bound = guest.must(&format!("scripts/bind_nic.sh {address}"));
    assert!(bound.contains("driver vfio-pci"), "{bound}");
    address
}

/// The elements of a list with what they have under `field`.
fn each<'shown>(list: &'shown Value, field: &str) -> Vec<&'shown Value> {
    list.as_array().into_iter().flatten().map(|element| &element[field]).collect()
}

/// Whether the link of the port with this name is up.
fn is_up(guest: &Guest, millrace: &Path, port: &str) -> bool {
    let ports = guest.show(millrace, "ports");
    let named = each(&ports, "name").into_iter().zip(each(&ports, "link")).find(|(name, _)| *name == port);
    named.expect("the port is configured").1 == "up"
}

/// Whether every backend is up.
fn all_backends_up(guest: &Guest, millrace: &Path) -> bool {
    each(&guest.show(millrace, "services"), "backends")
        .into_iter()
        .all(|backends| each(backends, "health").into_iter().all(|health| health == "up"))
}

/// Three megabytes of iperf3 each way through a service of demo.toml's, paced: an emulated NIC loses what comes all at once.
fn iperf3_passes(lab: &Lab) {
    let _servers = [&lab.shop_a, &lab.shop_b].map(|host| Iperf::start(lab, host, "*"));
    for address in ["198.51.100.10", "2001:db8:51::10"] {
        for way in ["", "--reverse"] {
            let run =
                Iperf::run(&lab.client, &format!("--client {address} --port 8000 --bytes 3M --bitrate 20M {way}"));
            assert!(run.received() > 1_000_000, "{address} {way}: {run:?}");
        }
    }
}

#[test]
fn firewall_and_balancer_work_on_virtual_functions() {
    let test = "firewall_and_balancer_work_on_virtual_functions";
    let programs: Vec<_> = Claims::PROGRAMS.iter().copied().chain(["iperf3"]).collect();
    let Some(lab) = Lab::bare(test, &programs) else { return };
    let Some(guest) = Guest::boot(test, &lab, &lab.appliance, &[OUTSIDE, INSIDE]) else { return };
    let millrace = binary().expect("skipped where it is not built");
    lab.plug_taps();
    let claims = Claims::serve(&lab);

    guest.must("modprobe igb");
    guest.must("scripts/hugepages.sh 640");
    let (outside, inside) = (virtual_function(&guest, &OUTSIDE), virtual_function(&guest, &INSIDE));
    // The socket and the state are in the guest's own memory, as everything that it writes.
    let configuration = lab
        .demo()
        .replacing("net_af_packet0,iface=mr-out0", &outside)
        .replacing("net_af_packet1,iface=mr-in0", &inside)
        .replacing("hugepages = false", "hugepages = true")
        .replacing(&lab.file("control.sock").display().to_string(), "/run/millrace/control.sock");
    let file = lab.file("guest.toml");
    std::fs::write(&file, configuration.text()).expect("the lab's directory takes a file");
    let (program, file) = (millrace.display(), file.display());
    let found = guest.run(&format!("{program} doctor {file}")).out;
    assert!(found.contains("nothing is missing"), "{found}");
    guest.must(&format!("setsid {program} run --config {file} >/run/log 2>&1 & echo $! >/run/pid"));
    eventually(60, "it answers", || guest.run(&format!("{program} show policy")).success);
    let up = |port: &str| is_up(&guest, &millrace, port);
    eventually(20, "both links are up", || up("outside") && up("inside"));
    eventually(20, "every backend is up", || all_backends_up(&guest, &millrace));

    claims.clients_reach_the_shop();
    claims.names_are_resolved();
    claims.everything_that_may_be_pinged_answers();
    claims.servers_reach_the_world();
    iperf3_passes(&lab);

    let mut downloads =
        [("198.51.100.10", 0), ("[2001:db8:51::10]", 1)].map(|(address, number)| claims.download(address, number));
    eventually(10, "the downloads have begun", || claims.downloaded(0) > 0 && claims.downloaded(1) > 0);
    guest.cable(&OUTSIDE, false);
    eventually(10, "the link is down", || !up("outside"));
    assert!(up("inside"), "the other cable was left alone");
    guest.cable(&OUTSIDE, true);
    eventually(10, "the link is up again", || up("outside"));
    // CRS-10: the wall clock goes a day back, and two on: nothing ends by it.
    for step in ["-1 day", "+2 days"] {
        guest.must(&format!("date --set '{step}'"));
    }
    eventually(60, "the downloads have ended", || downloads.iter_mut().all(|download| !download.running()));
    assert_eq!([claims.downloaded(0), claims.downloaded(1)], [Web::SLOW; 2], "none was cut");
    claims.clients_reach_the_shop();

    guest.must("kill -TERM $(cat /run/pid)");
    eventually(20, "it has ended", || !guest.run("kill -0 $(cat /run/pid)").success);
    let log = guest.must("cat /run/log");
    assert!(log.contains("is stopping") && !log.contains("panicked"), "{log}");
}
