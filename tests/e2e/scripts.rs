//! The scripts that prepare a machine, on one whose /sys is a folder of plain files: what they look at, what they refuse, and what
//! they would have written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use millrace_tests::net::{Namespace, skipped};
use tempfile::TempDir;

/// A machine's /sys.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("the temporary directory takes another"));
        for folder in ["class/net", "bus/pci/devices", "bus/pci/drivers/vfio-pci", "bus/pci/drivers/virtio-pci"] {
            fs::create_dir_all(machine.0.path().join(folder)).expect("a folder");
        }
        for file in ["bus/pci/drivers_probe", "bus/pci/drivers/virtio-pci/unbind"] {
            machine.write(file, "");
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        fs::write(path, text).expect("it is written");
    }

    /// A link that is right once the folder is /sys.
    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        symlink(Path::new("/sys").join(target), path).expect("a link");
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).expect("it is there")
    }

    /// Runs one of the scripts there, with the loopback up: whether it succeeded, and what it said.
    fn run(&self, line: &str) -> (bool, String) {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let there = format!(
            "mount --bind {} /sys && ip link set lo up && {}/scripts/{line}",
            self.0.path().display(),
            project.display()
        );
        let done = Command::new("unshare").args(["--mount", "--net", "bash", "-c", &there]).output().expect("unshare");
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    }
}

/// The interface of a virtio NIC stands a step further from its PCI device than others: nobody cuts the connection they came in by.
#[test]
fn a_nic_that_is_in_use_is_not_taken_away() {
    let test = "a_nic_that_is_in_use_is_not_taken_away";
    if !Namespace::permitted() {
        return skipped(test, "needs root");
    }
    let machine = Machine::new();
    let (nic, mode) = ("devices/pci0000:00/0000:00:03.0", "module/vfio/parameters/enable_unsafe_noiommu_mode");
    machine.write(&format!("{nic}/class"), "0x020000\n");
    machine.write(&format!("{nic}/driver_override"), "");
    machine.link(&format!("{nic}/driver"), "bus/pci/drivers/virtio-pci");
    machine.link("bus/pci/devices/0000:00:03.0", nic);
    machine.link(&format!("{nic}/virtio2/net/lo/device"), &format!("{nic}/virtio2"));
    machine.link("class/net/lo", &format!("{nic}/virtio2/net/lo"));
    machine.write(mode, "N\n");
    let (_, said) = machine.run("bind_nic.sh --status");
    assert_eq!(said, "0000:00:03.0  driver virtio-pci  iommu group none  interface lo\n");
    let (done, said) = machine.run("bind_nic.sh 00:03.0");
    assert!(!done && said.contains("has no IOMMU group"), "{said}");
    // In a virtual machine vfio can do without: devices have no group before they are bound.
    machine.write(mode, "Y\n");
    let (done, said) = machine.run("bind_nic.sh 00:03.0");
    assert!(!done && said.contains("lo on 0000:00:03.0 is in use"), "{said}");
    assert_eq!(machine.text("bus/pci/drivers/virtio-pci/unbind"), "", "it was left where it is");
}

/// PCI addresses are hexadecimal: the first line is VF 0 whatever their order.
#[test]
fn virtual_functions_are_listed_by_their_numbers() {
    let test = "virtual_functions_are_listed_by_their_numbers";
    if !Namespace::permitted() {
        return skipped(test, "needs root");
    }
    let machine = Machine::new();
    let device = "class/net/eth9/device";
    machine.write(&format!("{device}/sriov_totalvfs"), "300\n");
    machine.write(&format!("{device}/sriov_numvfs"), "3\n");
    let addresses = ["0000:3b:02.0", "0000:3b:09.7", "0000:3b:0a.0"];
    for (number, address) in addresses.iter().enumerate() {
        machine.link(&format!("{device}/virtfn{number}"), &format!("bus/pci/devices/{address}"));
        machine.write(&format!("bus/pci/devices/{address}/class"), "0x020000\n");
    }
    let (_, said) = machine.run("create_vfs.sh eth9 --status");
    assert_eq!(said, format!("eth9: 3 of 300 virtual functions\n{}\n", addresses.join("\n")));
    let (done, said) = machine.run("create_vfs.sh eth9 257 --mac-prefix 02:00:00:00:02");
    assert!(!done && said.contains("256 virtual functions"), "{said}");
}
