//! Rules that several tests of the pipeline are about, as an operator writes them.

/// Clients outside reach web servers inside, and may ping everybody; who asks for telnet or the time is told that it is refused.
pub const WEB: &str = r#"
[firewall]
default = "deny"
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
to = ["dmz"]
protocol = "tcp"
destination_port = ["80"]
[[firewall.rule]]
name = "telnet"
action = "reject"
protocol = "tcp"
destination_port = ["23"]
[[firewall.rule]]
name = "time"
action = "reject"
protocol = "udp"
destination_port = ["37"]
[[firewall.rule]]
name = "ping"
action = "allow"
protocol = "icmp"
icmp_type = ["echo-request"]
"#;

/// Hosts inside reach IPv4 behind the well-known prefix. At the end of a policy it takes more keys.
pub const NAT64: &str = r#"
[[nat64]]
name = "clients"
prefix = "64:ff9b::/96"
from = ["dmz"]
address = ["198.51.100.64"]
"#;
