//! Machines made of files, and what the doctor says of each.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;

const ROOT: &str = "CapEff:\t000001ffffffffff";
const NOBODY: &str = "CapEff:\t0000000000000000";

/// What the kernel allows a container or a unit is all there is to it, wherever above the limit stands.
#[test]
fn memory_is_what_control_groups_leave_of_it() {
    let files = Files::server();
    let available = || Machine::at(files.0.path()).available_memory().unwrap();
    let group = |path: &str, most: &str, taken: u64| {
        files.write(&format!("sys/fs/cgroup/{path}/memory.max"), most);
        files.write(&format!("sys/fs/cgroup/{path}/memory.current"), &format!("{taken}\n"));
    };
    let machine = 4_000_000 << 10;
    assert_eq!(available(), machine);
    files.write("proc/self/cgroup", "1:name=systemd:/x\n0::/system.slice/millrace.service\n");
    group("system.slice/millrace.service", "max\n", 1 << 20);
    assert_eq!(available(), machine, "without a limit");
    group("system.slice", "536870912\n", 100 << 20);
    assert_eq!(available(), 412 << 20);
    files.write("sys/fs/cgroup/system.slice/memory.stat", "anon 5\ninactive_file 52428800\nactive_file 7\n");
    assert_eq!(available(), 462 << 20, "what was read from files is given back");
    group("system.slice/millrace.service", "1048576\n", 2 << 20);
    assert_eq!(available(), 0);
    files.write("proc/self/cgroup", "0::/\n");
    assert_eq!(available(), machine, "a container without limits");
    group("", "1048576\n", 0);
    assert_eq!(available(), 1 << 20);
}

/// A machine under construction.
struct Files(tempfile::TempDir);

impl Files {
    /// A server as it should be: two hugepages of 1 GiB, vfio, two virtual functions, four cores of which two are isolated.
    fn server() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("proc/self/status", ROOT);
        files.write("proc/self/limits", "Max locked memory         8388608              8388608              bytes");
        files.write("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n");
        files.write("proc/mounts", "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n");
        files.write("proc/net/protocols", "protocol  size\nPACKET   1600\nXDP 1000\n");
        files.write("proc/net/route", "Iface\tDestination\n");
        files.write("proc/sys/net/ipv4/conf/all/rp_filter", "0\n");
        files.write("dev/net/tun", "");
        files.write("sys/devices/system/cpu/online", "0-3\n");
        files.write("sys/devices/system/cpu/isolated", "2-3\n");
        files.hugepages(1024, 1024);
        files.write("sys/module/vfio_pci/refcnt", "0");
        files.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
        for (address, group) in [("0000:3b:02.0", "40"), ("0000:3b:02.1", "41")] {
            files.pci(address, Some("vfio-pci"), group);
        }
        files
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(Path::new(target), path).unwrap();
    }

    fn hugepages(&self, total: u64, free: u64) {
        self.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", &total.to_string());
        self.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", &free.to_string());
    }

    fn pci(&self, address: &str, driver: Option<&str>, group: &str) {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{folder}/vendor"), "0x8086");
        self.write(&format!("{folder}/physfn"), "");
        match driver {
            Some(driver) => self.link(&format!("{folder}/driver"), &format!("../../../drivers/{driver}")),
            None => drop(fs::remove_file(self.0.path().join(format!("{folder}/driver")))),
        }
        self.link(&format!("{folder}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"));
        self.write(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"), "");
    }

    fn interface(&self, name: &str, flags: &str, mtu: u16) {
        self.write(&format!("sys/class/net/{name}/flags"), flags);
        self.write(&format!("sys/class/net/{name}/mtu"), &mtu.to_string());
        self.write(&format!("sys/class/net/{name}/queues/rx-0/rps_cpus"), "0");
    }

    fn examine(&self, policy: Option<&Policy>) -> Vec<Finding> {
        examine_machine(&Machine::at(self.0.path()), policy)
    }

    /// The one finding of this check that is neither ok nor another's.
    fn finds(&self, policy: &Policy, check: &str, state: State) -> Finding {
        let findings = self.examine(Some(policy));
        let found: Vec<_> = findings.iter().filter(|f| f.check == check && f.state == state).collect();
        assert_eq!(found.len(), 1, "{check} {state:?} in\n{}", render(&findings));
        found[0].clone()
    }
}

fn policy(text: &str) -> Policy {
    match config::load(text, Path::new("test.toml")) {
        Ok(checked) => checked.policy,
        Err(faults) => panic!("{faults}"),
    }
}

/// A server's configuration: two virtual functions, hugepages, two workers.
fn on_pci() -> Policy {
    policy(
        r#"
        [appliance]
        name = "edge"
        [cores]
        control = 0
        workers = [2, 3]
        [dpdk]
        memory = "1GiB"
        [[port]]
        name = "outside"
        device = "0000:3b:02.0"
        zone = "wan"
        addresses = ["198.51.100.1/24"]
        [[port]]
        name = "inside"
        device = "3b:02.1"
        zone = "dmz"
        addresses = ["10.0.0.1/24"]
        "#,
    )
}

/// A trial's configuration: Linux interfaces, no hugepages, one worker.
fn on_linux() -> Policy {
    policy(
        r#"
        [appliance]
        name = "edge"
        [cores]
        workers = [1]
        [dpdk]
        hugepages = false
        memory = "512MiB"
        [[port]]
        name = "outside"
        device = "net_af_packet0,iface=mr-out0"
        zone = "wan"
        addresses = ["198.51.100.1/24"]
        "#,
    )
}

#[test]
fn a_server_that_has_everything_is_well() {
    let findings = Files::server().examine(Some(&on_pci()));
    assert!(findings.iter().all(|finding| finding.state == State::Ok), "{}", render(&findings));
    assert!(is_well(&findings));
    assert!(render(&findings).ends_with("nothing is missing"));
}

#[test]
fn too_few_hugepages_name_the_number_that_is_enough() {
    // CFG-05.
    let files = Files::server();
    files.hugepages(100, 60);
    let finding = files.finds(&on_pci(), "hugepages", State::Missing);
    assert_eq!(finding.found, "`memory` asks for 1024 MiB; 60 of 100 pages of 2 MiB are free");
    // 60 are free, 452 more are needed: 552 in all.
    assert!(finding.remedy.unwrap().starts_with("echo 552 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"));
    assert!(!is_well(&files.examine(Some(&on_pci()))));
}

#[test]
fn hugetlbfs_must_be_mounted() {
    let files = Files::server();
    files.write("proc/mounts", "proc /proc proc rw 0 0\n");
    files.finds(&on_pci(), "hugetlbfs", State::Missing);
}

#[test]
fn the_driver_of_a_device_is_named_with_the_commands_that_change_it() {
    let files = Files::server();
    files.pci("0000:3b:02.1", Some("iavf"), "41");
    let finding = files.finds(&on_pci(), "port inside", State::Missing);
    assert_eq!(finding.found, "virtual function 0000:3b:02.1 is with the kernel's driver iavf, not with vfio-pci");
    let remedy = finding.remedy.unwrap();
    for command in [
        "echo vfio-pci >/sys/bus/pci/devices/0000:3b:02.1/driver_override",
        "echo 0000:3b:02.1 >/sys/bus/pci/devices/0000:3b:02.1/driver/unbind",
        "echo 0000:3b:02.1 >/sys/bus/pci/drivers_probe",
    ] {
        assert!(remedy.contains(command), "{remedy}");
    }
    files.pci("0000:3b:02.1", None, "41");
    assert!(!files.finds(&on_pci(), "port inside", State::Missing).remedy.unwrap().contains("unbind"));
}

#[test]
fn a_device_of_a_driver_dpdk_works_beside_needs_no_vfio() {
    let files = Files::server();
    for (address, group) in [("0000:3b:02.0", "40"), ("0000:3b:02.1", "41")] {
        files.pci(address, Some("mlx5_core"), group);
    }
    files.remove("sys/module/vfio_pci");
    assert!(is_well(&files.examine(Some(&on_pci()))));
}

#[test]
fn a_device_that_is_not_there_is_missing() {
    // CFG-05: no such port.
    let files = Files::server();
    files.remove("sys/bus/pci/devices/0000:3b:02.0");
    let finding = files.finds(&on_pci(), "port outside", State::Missing);
    assert_eq!(finding.found, "there is no PCI device 0000:3b:02.0");
}

#[test]
fn a_group_that_the_kernel_still_uses_is_named() {
    let files = Files::server();
    files.pci("0000:3b:00.0", Some("ice"), "40");
    files.pci("0000:3a:00.0", Some("pcieport"), "40");
    let finding = files.finds(&on_pci(), "port outside", State::Missing);
    assert_eq!(finding.found, "0000:3b:02.0 shares its IOMMU group with 0000:3b:00.0, which the kernel uses");
}

#[test]
fn vfio_and_iommu_are_told_apart() {
    let files = Files::server();
    files.remove("sys/module/vfio_pci");
    assert_eq!(files.finds(&on_pci(), "vfio", State::Missing).remedy.unwrap(), "modprobe vfio-pci");
    let files = Files::server();
    files.remove("sys/kernel/iommu_groups");
    assert!(files.finds(&on_pci(), "vfio", State::Missing).found.starts_with("there is no IOMMU"));
    files.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    files.finds(&on_pci(), "vfio", State::Warning);
}

#[test]
fn a_user_without_rights_is_told_which() {
    // CFG-05: not root.
    let files = Files::server();
    files.write("proc/self/status", NOBODY);
    let finding = files.finds(&on_pci(), "permissions", State::Missing);
    assert_eq!(finding.found, "this user lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN");
    // drivers/vfio/group.c: whoever opens a device that no IOMMU confines.
    files.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    let finding = files.finds(&on_pci(), "permissions", State::Missing);
    assert_eq!(finding.found, "this user lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_SYS_RAWIO");
    assert!(!files.finds(&on_linux(), "permissions", State::Missing).found.contains("RAWIO"));
    let locked = files.finds(&on_pci(), "locked memory", State::Missing);
    assert!(locked.found.starts_with("this process may lock 8 MiB"), "{}", locked.found);
}

#[test]
fn more_workers_than_processors_are_refused() {
    // CFG-05.
    let files = Files::server();
    files.write("sys/devices/system/cpu/online", "0-2\n");
    assert_eq!(files.finds(&on_pci(), "cores", State::Missing).found, "core 3 is not online; 0,1,2 are");
}

#[test]
fn cores_that_are_not_isolated_are_a_note() {
    let files = Files::server();
    files.write("sys/devices/system/cpu/isolated", "\n");
    let finding = files.finds(&on_pci(), "isolation", State::Note);
    assert!(finding.remedy.unwrap().contains("isolcpus=2,3"));
    assert!(is_well(&files.examine(Some(&on_pci()))));
}

#[test]
fn a_linux_interface_is_looked_at_before_it_is_taken() {
    let files = Files::server();
    let finding = files.finds(&on_linux(), "port outside", State::Missing);
    assert_eq!(finding.found, "there is no interface mr-out0");
    files.interface("mr-out0", "0x1003", 1500);
    files.finds(&on_linux(), "port outside", State::Ok);
    files.interface("mr-out0", "0x1002", 1500);
    files.finds(&on_linux(), "port outside", State::Note);
    assert!(is_well(&files.examine(Some(&on_linux()))));
}

#[test]
fn what_would_make_linux_answer_too_is_warned_about() {
    let files = Files::server();
    files.interface("mr-out0", "0x1003", 1400);
    files.write("proc/net/if_inet6", "fe800000000000000000000000000001 05 40 20 80 mr-out0\n");
    assert!(files.finds(&on_linux(), "port outside", State::Warning).found.starts_with("the MTU of mr-out0 is 1400"));
    files.interface("mr-out0", "0x1003", 1500);
    files.write("proc/net/if_inet6", "20010db8000000000000000000000001 05 40 00 80 mr-out0\n");
    let finding = files.finds(&on_linux(), "port outside", State::Warning);
    assert_eq!(finding.remedy.unwrap(), "ip addr flush dev mr-out0");
    files.remove("proc/net/if_inet6");
    files.write("proc/sys/net/ipv4/conf/all/rp_filter", "2\n");
    let finding = files.finds(&on_linux(), "port outside", State::Warning);
    assert_eq!(finding.remedy.unwrap(), "sysctl -w net.ipv4.conf.all.rp_filter=0");
}

#[test]
fn a_kernel_without_tap_or_packet_sockets_is_found_out() {
    let files = Files::server();
    files.interface("mr-out0", "0x1003", 1500);
    files.remove("dev/net/tun");
    files.finds(&on_linux(), "kernel interfaces", State::Missing);
    files.write("proc/net/protocols", "TCP 1\n");
    files.finds(&on_linux(), "port outside", State::Missing);
}

#[test]
fn a_tap_driver_that_is_only_not_loaded_yet_is_a_note() {
    let files = Files::server();
    files.remove("dev/net/tun");
    files.write("proc/sys/kernel/osrelease", "6.1.0-1-amd64\n");
    files.write("lib/modules/6.1.0-1-amd64/modules.devname", "# nodes\ntun net/tun c10:200\n");
    files.finds(&on_linux(), "kernel interfaces", State::Note);
    files.write("proc/self/status", NOBODY);
    files.finds(&on_linux(), "kernel interfaces", State::Missing);
}

#[test]
fn too_little_memory_without_hugepages_is_found_out() {
    let files = Files::server();
    files.write("proc/meminfo", "MemAvailable: 1000 kB\n");
    files.finds(&on_linux(), "memory", State::Missing);
}

#[test]
fn fewer_queues_than_workers_are_a_note_with_the_device_string_that_has_more() {
    let files = Files::server();
    files.interface("mr-out0", "0x1003", 1500);
    files.write("sys/class/net/mr-out0/queues/rx-1/rps_cpus", "0");
    let mut two = on_linux();
    two.cores.workers = vec![2, 3];
    let finding = files.finds(&two, "port outside", State::Note);
    assert_eq!(finding.found, "1 queue for 2 workers: packets are handed from worker to worker");
    assert!(finding.remedy.unwrap().contains("`,qpairs=2`"));
}

#[test]
fn without_a_configuration_only_what_all_need_is_judged() {
    let files = Files::server();
    files.hugepages(0, 0);
    files.remove("sys/module/vfio_pci");
    let findings = files.examine(None);
    assert!(is_well(&findings), "{}", render(&findings));
    let states: Vec<_> = findings.iter().map(|finding| (finding.check.as_str(), finding.state)).collect();
    assert!(states.contains(&("hugepages", State::Note)) && states.contains(&("vfio", State::Note)), "{states:?}");
}

#[test]
fn this_machine_is_examined_without_a_fault() {
    let findings = examine(Some(&on_linux()));
    assert!(findings.len() >= 4, "{}", render(&findings));
}

#[test]
fn folders_are_there_or_can_be_made_or_are_missing() {
    let (files, policy) = (Files::server(), on_pci());
    let state = |files: &Files, state| files.finds(&policy, "state folder", state);
    assert_eq!(state(&files, State::Ok).found, "/var/lib/millrace is made when the appliance starts");
    files.write("var/lib/millrace/generations.redb", "");
    assert_eq!(state(&files, State::Ok).found, "/var/lib/millrace is there");
    files.remove("var/lib/millrace");
    files.write("var/lib/millrace", "a file");
    assert!(state(&files, State::Missing).remedy.unwrap().contains("state_folder"));
    files.write("run", "a file");
    let socket = files.finds(&policy, "control socket", State::Missing);
    assert!(socket.found.starts_with("/run/millrace is not a folder"), "{socket:?}");
    let mut volatile = on_pci();
    volatile.appliance.state_folder = None;
    files.finds(&volatile, "state folder", State::Note);
}

#[test]
fn a_hook_that_cannot_be_run_is_missing() {
    let (files, mut policy) = (Files::server(), on_pci());
    policy.redirection = Some(config::policy::Redirection {
        hook: "/etc/redirect".into(),
        timeout: config::policy::Redirection::TIMEOUT,
    });
    assert!(files.finds(&policy, "hook", State::Missing).found.contains("No such file"));
    files.write("etc/redirect", "#!/bin/sh\n");
    let hook = files.0.path().join("etc/redirect");
    for (mode, state) in [(0o644, State::Missing), (0o777, State::Missing), (0o755, State::Ok)] {
        fs::set_permissions(&hook, fs::Permissions::from_mode(mode)).unwrap();
        files.finds(&policy, "hook", state);
    }
}

#[test]
fn few_files_and_a_physical_function_that_is_down_are_told() {
    let (files, policy) = (Files::server(), on_pci());
    files.write("proc/self/limits", "Max open files            512                  4096                 files");
    assert!(files.finds(&policy, "open files", State::Warning).remedy.unwrap().contains("LimitNOFILE"));
    files.write("proc/self/limits", "Max open files            unlimited            unlimited            files");
    files.interface("eth2", "0x1002", 1_500);
    files.remove("sys/bus/pci/devices/0000:3b:02.0/physfn");
    files.write("sys/bus/pci/devices/0000:3b:02.0/physfn/net/eth2/mtu", "1500");
    let found = files.finds(&policy, "port outside", State::Warning);
    assert_eq!(found.remedy.unwrap(), "ip link set eth2 up");
    files.interface("eth2", "0x1003", 1_500);
    assert!(is_well(&files.examine(Some(&policy))));
}
