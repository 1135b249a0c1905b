//! Policies as large as a provider's: five-tuple rules of many shapes, of which each client needs another one, and services.

use core::fmt::{self, Write};
use std::net::Ipv4Addr;

use crate::traffic::{CLIENT_BITS, CLIENTS, Dice, Opening};

/// How large a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rules: u32,
    pub(crate) services: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules, {} services", self.rules, self.services)
    }
}

impl Shape {
    pub(crate) const ALL: [Self; 4] =
        [Self::new(1, 1), Self::new(1_000, 1), Self::new(10_000, 1), Self::new(100_000, 10_000)];

    const fn new(rules: u32, services: u32) -> Self {
        Self { rules, services }
    }

    /// Source blocks that have a rule of their own: every second rule.
    pub(crate) const fn blocks(self) -> u32 {
        if self.rules < 2 { 1 } else { self.rules / 2 }
    }

    /// The whole configuration.
    pub(crate) fn text(self, opening: Opening) -> String {
        let mut text = String::from(HEAD);
        let mut dice = Dice::new();
        let block_bits = CLIENT_BITS - self.blocks().next_power_of_two().trailing_zeros();
        for number in 0..self.rules {
            if self.rules > 1 && number % 2 == 1 {
                unmatched(&mut text, number, &mut dice);
            } else {
                matched(&mut text, number, block_bits, opening);
            }
        }
        for number in 0..self.services {
            service(&mut text, number);
        }
        text
    }
}

/// A rule that one block's clients need.
fn matched(text: &mut String, number: u32, block_bits: u32, opening: Opening) {
    let protocol = match opening {
        Opening::Datagram => "udp",
        Opening::Syn => "tcp",
    };
    let block = number / 2;
    // The clients sit in the first quarter of their block.
    let prefix = Ipv4Addr::from_bits(CLIENTS | block << block_bits);
    let length = 32 - block_bits + block % 3;
    let rest = match block / 3 % 6 {
        0 => "destination = [\"198.51.100.10\"]\ndestination_port = [\"53\"]",
        1 => "destination = [\"198.51.100.0/24\"]\ndestination_port = [\"50-60\"]",
        2 => "from = [\"wan\"]\ndestination = [\"198.51.96.0/20\"]\nsource_port = [\"1024-65535\"]",
        3 => "from = [\"wan\"]\nto = [\"dmz\"]\ndestination_port = [\"1-1023\"]",
        4 => "destination = [\"198.51.100.8/29\"]",
        _ => "to = [\"dmz\"]\nsource_port = [\"1024-65535\"]\ndestination_port = [\"53\"]",
    };
    let also = if rest.contains("port") { format!("\nprotocol = \"{protocol}\"") } else { String::new() };
    writeln!(
        text,
        "[[firewall.rule]]\nname = \"r{number}\"\naction = \"allow\"\nsource = [\"{prefix}/{length}\"]\n{rest}{also}\n"
    )
    .unwrap();
}

/// A rule of something else.
fn unmatched(text: &mut String, number: u32, dice: &mut Dice) {
    let action = if number % 4 == 1 { "deny" } else { "allow" };
    // Twelve zeroes at the end: a prefix of every length from 20 on.
    let network = |first: u32, bits: u32, dice: &mut Dice| Ipv4Addr::from_bits(first | dice.below(1 << bits) << 12);
    let source = network(10 << 24, 12, dice);
    let destination = network(172 << 24 | 16 << 16, 8, dice);
    let port = 1 + dice.below(30_000);
    let wide = port + dice.below(5_000);
    let rest = match number / 2 % 8 {
        0 => format!(
            "protocol = \"tcp\"\nsource = [\"{source}\"]\ndestination = [\"{destination}\"]\ndestination_port = [\"{port}\"]"
        ),
        1 => format!("protocol = \"udp\"\nsource = [\"{source}/24\"]\ndestination_port = [\"{port}-{wide}\"]"),
        2 => format!("protocol = \"tcp\"\ndestination = [\"{destination}/28\"]\ndestination_port = [\"{port}\"]"),
        3 => format!("source = [\"{source}/20\"]\ndestination = [\"{destination}/24\"]"),
        4 => format!(
            "protocol = \"udp\"\nsource = [\"{source}\"]\nsource_port = [\"1024-65535\"]\ndestination_port = [\"53\"]"
        ),
        5 => format!("protocol = \"tcp\"\ndestination = [\"{destination}\"]\ndestination_port = [\"443\"]"),
        6 => format!("protocol = \"icmp\"\nsource = [\"{source}/28\"]"),
        _ => format!(
            "from = [\"dmz\"]\nprotocol = \"tcp\"\ndestination = [\"{destination}\"]\nsource_port = [\"{port}\"]"
        ),
    };
    writeln!(text, "[[firewall.rule]]\nname = \"r{number}\"\naction = \"{action}\"\n{rest}\n").unwrap();
}

fn service(text: &mut String, number: u32) {
    for protocol in ["udp", "tcp"] {
        // The first is the one the clients ask.
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 100, 10).to_bits() + number);
        writeln!(
            text,
            "[[virtual_service]]\nname = \"{protocol}{number}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n\
             ports = [\"53\"]\nalgorithm = \"{}\"\nmode = \"nat\"\nhealth = {{ kind = \"none\" }}\n",
            if number < 100 { "maglev" } else { "round-robin" }
        )
        .unwrap();
        for last in [11, 12] {
            writeln!(text, "[[virtual_service.backend]]\nname = \"{last}\"\naddress = \"10.0.0.{last}\"\nport = 53\n")
                .unwrap();
        }
    }
}

const HEAD: &str = r#"
[appliance]
name = "bench"
control_socket = "/tmp/millrace-first-packets.sock"

[cores]
control = 0
workers = [1]

[sessions]
capacity = 1_048_576

[[port]]
name = "in"
device = "net_null0"
zone = "wan"
mac = "02:00:00:00:00:01"
addresses = ["198.51.0.1/16"]

[[port]]
name = "out"
device = "net_null1"
zone = "dmz"
addresses = ["10.0.0.1/24"]

[[route]]
to = "0.0.0.0/0"
via = "198.51.0.254"

[firewall]
default = "deny"
"#;
