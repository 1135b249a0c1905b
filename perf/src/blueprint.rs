//! The configuration of the appliance under measurement: an example file, with what a case varies put in its place. Edited
//! as TOML and checked as the appliance checks it, so that a measurement never starts with a file that would be refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use config::Policy;
use stage::balancer::ServiceProtocol;
use toml::{Table, Value};
use wire::MacAddr;

use crate::Outcome;
use crate::traffic::{CLIENT_PORTS, Clients, Family, Protocol};

/// What the bench measures with when no other file is named: `config/examples/bench.toml`.
const EXAMPLE: &str = include_str!("../../config/examples/bench.toml");

/// The example's addresses and what stands for them in IPv6.
const IN_V6: [(&str, &str); 5] = [
    ("198.51.100.1/24", "2001:db8:1::1/64"),
    ("10.0.0.1/24", "2001:db8:2::1/64"),
    ("198.51.100.10", "2001:db8:1::a"),
    ("10.0.0.11", "2001:db8:2::11"),
    ("10.0.0.12", "2001:db8:2::12"),
];

/// Smallest MTU of a port, and of one with IPv6 addresses (RFC 8200 section 5).
const MTU_MIN: u16 = 68;
const MTU_MIN_V6: u16 = 1_280;
/// The Ethernet header, and what else of the link the appliance counts in: three tags and a check sequence.
const ETHERNET_BYTES: u16 = 14;
const TAG_BYTES: u16 = 16;

/// The first port of [`Blueprint::set_services`].
const SERVICES_FIRST: u16 = 10_000;

/// A configuration in the making.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    table: Table,
    /// Where it came from, for messages.
    source: PathBuf,
}

/// Where traffic has to go to be balanced by the blueprint's first service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The MAC address of the first port.
    pub station: MacAddr,
    /// The service.
    pub address: IpAddr,
    /// Its first port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The first client there may be: in the first port's network, clear of its own addresses.
    pub client: IpAddr,
}

impl Blueprint {
    /// The example, for this family and protocol.
    ///
    /// # Errors
    /// Never, as the tests show.
    pub fn example(family: Family, protocol: Protocol) -> Outcome<Self> {
        let mut text = EXAMPLE.to_owned();
        if family == Family::V6 {
            for (four, six) in IN_V6 {
                text = text.replace(&format!("\"{four}\""), &format!("\"{six}\""));
            }
        }
        text = text.replace("protocol = \"udp\"", &format!("protocol = \"{}\"", protocol.word()));
        let mut blueprint = Self::parse(&text, Path::new("bench.toml"))?;
        // The bench measures the path without a kernel interface beside it.
        for port in blueprint.tables("port")? {
            port.insert("kernel".into(), false.into());
        }
        Ok(blueprint)
    }

    /// A file of the user's: what it says of rules, services and timeouts stays.
    ///
    /// # Errors
    /// When it cannot be read or is no TOML.
    pub fn read(file: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Self::parse(&text, file)
    }

    /// The user's file, or the example for UDP over IPv4.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(file: Option<&Path>) -> Outcome<Self> {
        file.map_or_else(|| Self::example(Family::V4, Protocol::Udp), Self::read)
    }

    /// From its text; `source` names it in what is said of it. What is measured leaves no state behind.
    ///
    /// # Errors
    /// When it is no TOML.
    pub fn parse(text: &str, source: &Path) -> Outcome<Self> {
        let table = text.parse().map_err(|error| format!("{}: {error}", source.display()))?;
        let mut blueprint = Self { table, source: source.to_owned() };
        blueprint.set("appliance", "state_folder", false)?;
        Ok(blueprint)
    }

    /// Sets a key of a section that there is once, such as `[dpdk] memory`.
    ///
    /// # Errors
    /// When the section is something else.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) -> Outcome<&mut Self> {
        let entry = self.table.entry(section).or_insert_with(|| Table::new().into());
        let section = entry.as_table_mut().ok_or_else(|| format!("{section} is not a section"))?;
        section.insert(key.to_owned(), value.into());
        Ok(self)
    }

    /// Gives the ports these devices, in order.
    ///
    /// # Errors
    /// When there are fewer ports.
    pub fn set_devices(&mut self, devices: &[String]) -> Outcome<&mut Self> {
        let mut ports = self.tables("port")?;
        for (position, device) in devices.iter().enumerate() {
            let port = ports.get_mut(position).ok_or("fewer [[port]] than devices")?;
            port.insert("device".into(), device.clone().into());
        }
        Ok(self)
    }

    /// Takes as many packet buffers, and as much memory as they and DPDK's own structures need.
    ///
    /// # Errors
    /// When the blueprint is refused with them.
    pub fn set_buffers(&mut self, buffers: u32) -> Outcome<&mut Self> {
        self.set("dpdk", "buffers", i64::from(buffers))?.set("dpdk", "memory", "1TiB")?;
        // A pcap device that replays without end keeps a ring of pointers besides.
        let bytes = self.policy()?.memory_needed() + u64::from(buffers.next_power_of_two()) * 8;
        self.set("dpdk", "memory", format!("{}MiB", ((bytes + bytes / 32) >> 20) + 64))
    }

    /// Bytes of memory that DPDK takes.
    ///
    /// # Errors
    /// When the blueprint is refused.
    pub fn memory(&self) -> Outcome<u64> {
        Ok(self.policy()?.dpdk.memory)
    }

    /// Takes packet buffers that hold frames of these bytes and no larger ones, and gives every port an MTU to match.
    ///
    /// # Errors
    /// When there is no port.
    pub fn set_longest_frame(&mut self, bytes: u16) -> Outcome<&mut Self> {
        let mut least = MTU_MIN;
        for port in self.tables("port")? {
            let addresses = port.get("addresses").and_then(Value::as_array);
            let is_v6 = |value: &Value| value.as_str().is_some_and(|address| address.contains(':'));
            least = if addresses.is_some_and(|all| all.iter().any(is_v6)) { MTU_MIN_V6 } else { least };
        }
        let mtu = bytes.saturating_sub(ETHERNET_BYTES).max(least);
        for port in self.tables("port")? {
            port.insert("mtu".into(), i64::from(mtu).into());
        }
        // Room for the tags that every buffer has room for, and never less than the smallest buffer.
        let room = (mtu + ETHERNET_BYTES + TAG_BYTES).next_multiple_of(64).max(128);
        self.set("dpdk", "buffer_size", i64::from(room))
    }

    /// Replaces the rules by `count` that allow the same traffic: every client matches exactly one of them, and all are
    /// matched by about as many. They tell clients apart by address and range of source ports.
    ///
    /// # Errors
    /// When the first service or rule is missing.
    pub fn set_rules(&mut self, count: u32, clients: &Clients) -> Outcome<&mut Self> {
        let Target { address, protocol, port, .. } = clients.target;
        let hosts = clients.hosts().min(count);
        let mut rules = Vec::new();
        for number in 0..count {
            let host = number % hosts;
            // The first host takes what does not divide.
            let (turn, shares) = (number / hosts, count / hosts + u32::from(host < count % hosts));
            let edge = |share: u32| {
                u64::from(CLIENT_PORTS.start) + u64::from(share) * CLIENT_PORTS.len() as u64 / u64::from(shares)
            };
            let mut rule = Table::new();
            rule.insert("name".into(), format!("clients-{number}").into());
            rule.insert("action".into(), "allow".into());
            rule.insert("from".into(), strings(["wan".to_owned()]));
            if count > 1 {
                let sources = if hosts < clients.hosts() && host == hosts - 1 {
                    (host..clients.hosts()).map(|host| clients.address(host).to_string()).collect()
                } else {
                    vec![clients.address(host).to_string()]
                };
                rule.insert("source".into(), strings(sources));
                rule.insert("source_port".into(), strings([format!("{}-{}", edge(turn), edge(turn + 1) - 1)]));
            }
            rule.insert("destination".into(), strings([address.to_string()]));
            rule.insert("protocol".into(), protocol.word().into());
            rule.insert("destination_port".into(), strings([port.to_string()]));
            rules.push(Value::Table(rule));
        }
        let firewall = self.table.get_mut("firewall").and_then(Value::as_table_mut).ok_or("there is no [firewall]")?;
        firewall.insert("rule".into(), Value::Array(rules));
        Ok(self)
    }

    /// Takes every rule away, so that the default decides.
    ///
    /// # Errors
    /// When there is no `[firewall]`.
    pub fn without_rules(&self) -> Outcome<Self> {
        let mut without = self.clone();
        let firewall =
            without.table.get_mut("firewall").and_then(Value::as_table_mut).ok_or("there is no [firewall]")?;
        firewall.remove("rule");
        Ok(without)
    }

    /// Has `count` services like the first, on ports that follow each other, and one rule that allows them all. They take
    /// backends in turn: a Maglev table for each of thousands would fill gigabytes that established packets never read.
    ///
    /// # Errors
    /// When there is no service, or not as many ports.
    pub fn set_services(&mut self, count: u16) -> Outcome<&mut Self> {
        let services = self.table.get_mut("virtual_service").and_then(Value::as_array_mut);
        let services = services.ok_or("there is no [[virtual_service]]")?;
        services.truncate(1);
        let first = services.first().and_then(Value::as_table).ok_or("there is no [[virtual_service]]")?.clone();
        let last = SERVICES_FIRST.checked_add(count - 1).ok_or("there are not as many ports")?;
        *services = (SERVICES_FIRST..=last)
            .map(|port| {
                let mut service = first.clone();
                service.insert("name".into(), format!("service-{port}").into());
                service.insert("ports".into(), strings([port.to_string()]));
                service.insert("algorithm".into(), "round-robin".into());
                Value::Table(service)
            })
            .collect();
        let rules =
            self.table.get_mut("firewall").and_then(|firewall| firewall.get_mut("rule")).and_then(Value::as_array_mut);
        let rules = rules.ok_or("there is no [[firewall.rule]]")?;
        rules.truncate(1);
        let rule = rules.first_mut().and_then(Value::as_table_mut).ok_or("there is no [[firewall.rule]]")?;
        rule.insert("destination_port".into(), strings([format!("{SERVICES_FIRST}-{last}")]));
        Ok(self)
    }

    /// Where traffic for its first service goes.
    ///
    /// # Errors
    /// Its faults; or when it has no service, or its first port no fixed MAC address.
    pub fn target(&self) -> Outcome<Target> {
        let policy = self.policy()?;
        let what = |missing: &str| format!("{}: {missing}", self.source.display());
        let port = policy.ports.first().ok_or_else(|| what("there is no [[port]]"))?;
        let station = port.mac.ok_or_else(|| what("the first [[port]] needs a `mac`: traffic is addressed to it"))?;
        let service =
            policy.services.first().ok_or_else(|| what("there is no [[virtual_service]] that takes the traffic"))?;
        let spec = &service.spec;
        let first = spec.ports.first().ok_or_else(|| what("the first service has no port"))?;
        let protocol = match spec.protocol {
            ServiceProtocol::Tcp => Protocol::Tcp,
            ServiceProtocol::Udp => Protocol::Udp,
        };
        let network = port
            .addresses
            .iter()
            .find(|network| network.addr().is_ipv4() == spec.address.is_ipv4())
            .ok_or_else(|| what("the first [[port]] has no address of the service's family"))?;
        let client = match network.network() {
            IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() + 20)),
            IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() + 20)),
        };
        Ok(Target { station, address: spec.address, port: first.first(), protocol, client })
    }

    /// Where the appliance will answer.
    ///
    /// # Errors
    /// When the blueprint has no control socket.
    pub fn control_socket(&self) -> Outcome<PathBuf> {
        let appliance = self.table.get("appliance").and_then(|section| section.get("control_socket"));
        Ok(appliance.and_then(Value::as_str).ok_or("[appliance] has no control_socket")?.into())
    }

    /// The configuration as the appliance reads it.
    ///
    /// # Errors
    /// Never; TOML tables can be written.
    pub fn text(&self) -> Outcome<String> {
        Ok(toml::to_string(&self.table)?)
    }

    /// The configuration as the appliance understands it.
    ///
    /// # Errors
    /// Its faults.
    pub fn policy(&self) -> Outcome<Policy> {
        Ok(config::load(&self.text()?, &self.source)?.policy)
    }

    fn tables(&mut self, name: &str) -> Outcome<Vec<&mut Table>> {
        let array = self.table.get_mut(name).and_then(Value::as_array_mut);
        let array = array.ok_or_else(|| format!("{}: there is no [[{name}]]", self.source.display()))?;
        Ok(array.iter_mut().filter_map(Value::as_table_mut).collect())
    }
}

fn strings(texts: impl IntoIterator<Item = String>) -> Value {
    Value::Array(texts.into_iter().map(Value::String).collect())
}
