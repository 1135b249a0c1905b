//! A configuration file in the making: an example of the project's, with what the test changes about it.

use std::path::{Path, PathBuf};

/// Where edge.toml says of `shop6` how it is balanced, and not how it is probed.
const SHOP6: &str = "algorithm = \"maglev\"\nmode = \"nat\"\n";
/// How it is probed where the machine may be loaded.
const PATIENT: &str = "health = { kind = \"tcp\", rise = 1, fall = 30 }\n";

/// The text of a configuration and where its control socket will be.
#[derive(Clone, Debug)]
pub struct Configuration {
    text: String,
    socket: PathBuf,
}

impl Configuration {
    /// A file of `config/examples` as it is written, but for the control socket and the state, which is kept beside it:
    /// several may run on one machine.
    #[must_use]
    pub fn example(file: &str, socket: &Path) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
        let text = std::fs::read_to_string(examples.join(file)).expect("the examples are part of the project");
        let configuration = Self { text, socket: socket.to_owned() };
        configuration.replacing("control_socket = \"/run/millrace/control.sock\"", &places(socket))
    }

    /// A file of the test's own, its control socket where the test wants it.
    #[must_use]
    pub fn written(text: &str, socket: &Path) -> Self {
        let appliance = format!("[appliance]\n{}", places(socket));
        Self { text: text.replacen("[appliance]", &appliance, 1), socket: socket.to_owned() }
    }

    /// With `from`, which has to be there, replaced by `to` wherever it stands.
    #[must_use]
    pub fn replacing(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "the configuration does not say {from:?}");
        self.text = self.text.replace(from, to);
        self
    }

    /// With `rule`, the lines of one `[[firewall.rule]]`, before all others.
    #[must_use]
    pub fn with_first_rule(self, rule: &str) -> Self {
        let first = "[[firewall.rule]]\nname = \"clients-to-shop\"";
        let both = format!("[[firewall.rule]]\n{rule}\n\n{first}");
        self.replacing(first, &both)
    }

    /// With more tables at its end.
    #[must_use]
    pub fn with_tables(mut self, tables: &str) -> Self {
        self.text += tables;
        self
    }

    /// With a second backend of service `shop6`, of weight 2 as `shop-b` is.
    #[must_use]
    pub fn with_second_ipv6_backend(self) -> Self {
        let first = "name = \"shop6-a\"\naddress = \"2001:db8:10::11\"\nport = 8080\n";
        let second = "\n[[virtual_service.backend]]\nname = \"shop6-b\"\naddress = \"2001:db8:10::12\"\nport = 8080\nweight = 2\n";
        self.replacing(first, &format!("{first}{second}"))
    }

    /// As patient with backends as a loaded machine needs: up with the first probe that is answered, and given up when half a
    /// minute of them was not.
    #[must_use]
    pub(super) fn patient(self) -> Self {
        let mut patient = self
            .replacing("rise = 2\nfall = 3\n", "rise = 1\nfall = 30\n")
            .replacing(SHOP6, &format!("{SHOP6}{PATIENT}"));
        // demo.toml's own.
        patient.text = patient.text.replace("rise = 1, fall = 3 }", "rise = 1, fall = 30 }");
        patient
    }

    /// Without health probes: the appliance itself then has no conversations.
    #[must_use]
    pub fn without_probes(self) -> Self {
        let (before, after) = self.text.split_once("[virtual_service.health]\n").expect("edge.toml probes its shop");
        let (_, after) = after.split_once("\n\n").expect("more follows");
        let text = format!("{before}[virtual_service.health]\nkind = \"none\"\n\n{after}");
        Self { text, ..self }.replacing(PATIENT, "health = { kind = \"none\" }\n")
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// The keys of `[appliance]` that say where an appliance with this control socket has its own.
fn places(socket: &Path) -> String {
    format!("control_socket = \"{0}\"\nstate_folder = \"{0}.state\"", socket.display())
}

/// `edge` with TAP devices in place of the packet sockets, their kernel ends named as the wires were.
#[must_use]
pub fn taps_named_as_wires(edge: Configuration) -> Configuration {
    edge.replacing("net_af_packet0,iface=mr-out0", "net_tap0,iface=mr-out0")
        .replacing("net_af_packet1,iface=mr-in0", "net_tap1,iface=mr-in0")
}
