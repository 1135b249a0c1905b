//! CFG-03: for each key what is just within its bounds is taken, and what is just outside, or of another type, is
//! refused on its own line.

use super::{FULL, faults};
use crate::Severity;

/// A key of a table, values it takes and values it does not. Bounds that depend on other keys are those of the full file.
struct Row(&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const LONG: &str = "\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg\"";
const TOO_LONG: &str = "\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg\"";
const SOCKET: &str =
    "\"/aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhhiiiiiiiiiijjjjjjjjjjkkkkkk\"";
const SOCKET_TOO_LONG: &str =
    "\"/aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhhiiiiiiiiiijjjjjjjjjjkkkkkkk\"";

const NAMES: (&[&str], &[&str]) =
    (&["\"a\"", LONG], &["\"\"", TOO_LONG, "\"-a\"", "\"a b\"", "1", "true", "[\"a\"]", "{}"]);
const FLAGS: (&[&str], &[&str]) = (&["true", "false"], &["\"true\"", "1", "[true]"]);
const RATES: (&[&str], &[&str]) = (&["1", "100_000_000"], &["-1", "0", "100_000_001", "\"1\"", "1.0", "[1]"]);
const TIMEOUTS: (&[&str], &[&str]) =
    (&["\"250ms\"", "\"4h30m\""], &["\"249ms\"", "\"4h30m1ms\"", "\"0s\"", "30", "\"30\"", "\"\"", "true"]);
const HOSTS: (&[&str], &[&str]) = (
    &["\"10.0.0.77\""],
    &["\"\"", "\"10.0.0\"", "\"10.0.0.7/24\"", "\"224.0.0.1\"", "\"0.0.0.0\"", "\"::\"", "7", "[]"],
);
const MACS: (&[&str], &[&str]) = (
    &["\"02:00:00:00:00:99\"", "\"FE:ff:ff:ff:ff:ff\""],
    &["\"00:00:00:00:00:00\"", "\"01:00:00:00:00:00\"", "\"ff:ff:ff:ff:ff:ff\"", "\"02:00\"", "2", "\"\""],
);
const FILES: (&[&str], &[&str]) = (&["\"/a\""], &["\"\"", "\"a.pem\"", "\"/a/\"", "\"/\"", "1", "[\"/a\"]"]);
const PORTS: (&[&str], &[&str]) = (&["1", "65535"], &["-1", "0", "65536", "\"80\"", "80.0", "[80]"]);
const PORT_LISTS: (&[&str], &[&str]) = (
    &["[\"1\"]", "[\"65535\"]", "[\"1-65535\"]", "[80, \"81\"]"],
    &["[]", "[\"0\"]", "[\"65536\"]", "[\"2-1\"]", "[\"http\"]", "\"80\"", "80", "[80.5]", "[0]"],
);
const ZONES: (&[&str], &[&str]) =
    (&["[\"wan\"]", "[\"appliance\", \"dmz\"]"], &["[]", "[\"wam\"]", "\"wan\"", "[1]", "[\"\"]"]);
const PREFIXES: (&[&str], &[&str]) = (
    &["[\"0.0.0.0/0\"]", "[\"10.0.0.0/8\", \"::/0\"]", "[\"10.0.0.1/32\"]", "[\"2001:db8::/128\"]"],
    &["[]", "[\"10.0.0.1/8\"]", "[\"10.0.0.0/33\"]", "[\"::/129\"]", "[\"any\"]", "\"10.0.0.0/8\"", "[10]"],
);

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let row = |table, key, (taken, refused): (&'static [_], &'static [_])| Row(table, key, taken, refused);
    vec![
        row("[appliance]", "name", NAMES),
        Row("[appliance]", "control_socket", &["\"/a\"", SOCKET], &["\"\"", "\"run/a\"", "\"/a/\"", "\"/\"", SOCKET_TOO_LONG, "1"]),
        Row("[appliance]", "state_folder", &["\"/a\"", "\"/a/b/\"", "false"], &["\"\"", "\"var/lib\"", "\"/\"", "\"//\"", "\"/a\\u0000\"", "true", "1", "[\"/a\"]"]),
        Row("[api]", "listen", &["\"192.0.2.1:1\"", "\"[2001:db8::1]:65535\"", "\"0.0.0.0:8443\""],
            &["\"\"", "\"192.0.2.1\"", "\"192.0.2.1:0\"", "\"192.0.2.1:65536\"", "\"2001:db8::1:8443:x\"", "\"224.0.0.1:1\"", "\"host:1\"", "8443"]),
        row("[api]", "certificate", FILES),
        row("[api]", "key", FILES),
        row("[api]", "client_ca", FILES),
        row("[[api.role]]", "name", NAMES),
        Row("[[api.role]]", "role", &["\"viewer\"", "\"operator\"", "\"admin\""], &["\"\"", "\"root\"", "1", "[\"viewer\"]"]),
        Row("[[api.role]]", "certificates", &["[\"CN=x\"]", "[\"CN=a b\", \"DNS:*\"]"],
            &["[]", "[\"\"]", "[\"CN=\"]", "[\"alice\"]", "[\"cn=alice\"]", "[\"CN=a\", \"CN=a\"]", "\"CN=x\"", "[1]", "[\"CN=a\\u0000\"]"]),
        Row("[log]", "format", &["\"text\"", "\"json\"", "\"journal\""], &["\"\"", "\"JSON\"", "\"syslog\"", "true", "[\"json\"]"]),
        Row("[cores]", "control", &["0", "1023"], &["-1", "1024", "\"0\"", "0.0", "[0]"]),
        Row("[cores]", "workers", &["[0]", "[1023]", "[3, 4, 5]"], &["[]", "[-1]", "[1024]", "[1, 1]", "1", "[\"1\"]"]),
        row("[dpdk]", "hugepages", FLAGS),
        Row("[dpdk]", "memory", &["\"217MiB\"", "\"1TiB\"", "\"300MB\""], &["\"216MiB\"", "\"63MiB\"", "\"1025GiB\"", "512", "\"512\"", "\"\""]),
        Row("[dpdk]", "buffers", &["1_024", "100_000"], &["1_023", "0", "-1", "33_554_433", "\"1024\"", "1e5"]),
        Row("[dpdk]", "buffer_size", &["1_530", "4_096"], &["1_529", "127", "0", "-1", "16_385", "\"2048\"", "2048.0"]),
        Row("[sessions]", "capacity", &["1", "50_000_000"], &["-1", "0", "50_000_001", "\"1\"", "1.0"]),
        Row("[sessions]", "midstream", &["\"strict\"", "\"loose\""], &["\"\"", "\"Strict\"", "\"lose\"", "true"]),
        row("[sessions]", "reject_unknown", FLAGS),
        row("[sessions]", "keep_across_restarts", FLAGS),
        row("[sessions.timeouts]", "tcp_syn", TIMEOUTS),
        row("[sessions.timeouts]", "tcp_syn_received", TIMEOUTS),
        row("[sessions.timeouts]", "tcp_established", TIMEOUTS),
        row("[sessions.timeouts]", "tcp_closing", TIMEOUTS),
        row("[sessions.timeouts]", "tcp_time_wait", TIMEOUTS),
        row("[sessions.timeouts]", "tcp_closed", TIMEOUTS),
        row("[sessions.timeouts]", "udp_one_way", TIMEOUTS),
        row("[sessions.timeouts]", "udp_two_way", TIMEOUTS),
        row("[sessions.timeouts]", "icmp", TIMEOUTS),
        row("[sessions.timeouts]", "other", TIMEOUTS),
        row("[sessions.timeouts]", "nat64_udp", TIMEOUTS),
        row("[sessions.timeouts]", "nat64_tcp_transitory", TIMEOUTS),
        row("[sessions.timeouts]", "nat64_icmp", TIMEOUTS),
        Row("[session_log]", "format", &["\"ipfix\""], &["\"\"", "\"IPFIX\"", "\"netflow\"", "9", "[\"ipfix\"]"]),
        Row("[session_log]", "collector", &["\"192.0.2.9:1\"", "\"[2001:db8::9]:65535\""],
            &["\"\"", "\"192.0.2.9\"", "\"192.0.2.9:0\"", "\"192.0.2.9:65536\"", "\"0.0.0.0:4739\"", "\"224.0.0.1:4739\"", "\"host:4739\"",
              "\"run/a\"", "\"/a/\"", "\"/run/a.sock\"", "4739", "[\"192.0.2.9:1\"]"]),
        Row("[session_log]", "transport", &["\"udp\"", "\"tcp\""], &["\"\"", "\"UDP\"", "\"sctp\"", "17", "[\"udp\"]"]),
        Row("[session_log]", "events", &["[\"nat\"]", "[\"open\", \"close\"]"], &["[]", "[\"opened\"]", "\"nat\"", "[1]"]),
        Row("[session_log]", "domain", &["0", "4_294_967_295"], &["-1", "4_294_967_296", "\"1\"", "1.0"]),
        Row("[session_log]", "template_interval", &["\"1s\"", "\"24h\""], &["\"999ms\"", "\"25h\"", "60", "\"60\"", "true"]),
        Row("[session_log]", "message_size", &["512", "8_900"], &["-1", "0", "511", "8_901", "\"1400\"", "1400.0"]),
        Row("[session_log]", "queue", &["1_024", "1_048_576"], &["-1", "0", "1_023", "1_048_577", "\"1024\"", "1e5"]),
        Row("[fragments]", "capacity", &["512", "100_000"], &["-1", "0", "511", "1_048_577", "\"512\"", "512.0", "[512]"]),
        Row("[fragments]", "per_datagram", &["2", "256"], &["-1", "0", "1", "257", "\"2\"", "2.0"]),
        Row("[fragments]", "timeout", &["\"100ms\"", "\"60s\""], &["\"99ms\"", "\"61s\"", "\"0s\"", "5", "\"5\"", "true"]),
        Row("[metrics]", "listen", &["\"127.0.0.1:1\"", "\"[::1]:65535\"", "\"0.0.0.0:80\""],
            &["\"\"", "\"127.0.0.1\"", "\"127.0.0.1:0\"", "\"localhost:80\"", "\"127.0.0.1:65536\"", "\"224.0.0.1:80\"", "9464", "true"]),
        Row("[redirection]", "hook", &["\"/a\"", "\"/etc/millrace/re direct\""], &["\"\"", "\"redirect\"", "\"./redirect\"", "\"/etc/\"", "\"/a\\u0000\"", "1", "[\"/a\"]"]),
        Row("[redirection]", "timeout", &["\"100ms\"", "\"60s\"", "\"1m\""], &["\"99ms\"", "\"61s\"", "\"0s\"", "10", "\"10\"", "true"]),
        row("[[port]]", "name", NAMES),
        Row("[[port]]", "device", &["\"3b:02.0\"", "\"net_null7\""], &["\"\"", "\"eth0\"", "\"net_tap\"", "\"net_af_xdp0\"", "1"]),
        Row("[[port]]", "zone", &["\"a\"", LONG], &["\"\"", TOO_LONG, "\"appliance\"", "1", "[\"wan\"]"]),
        row("[[port]]", "mac", MACS),
        Row("[[port]]", "addresses", &["[\"198.51.100.1/31\"]", "[\"2001:db8::1/1\"]", "[\"198.51.100.1/32\"]"],
            &["[]", "[\"198.51.100.1\"]", "[\"198.51.100.1/33\"]", "[\"198.51.100.1/0\"]", "[\"198.51.100.0/24\"]",
              "[\"198.51.100.255/24\"]", "\"198.51.100.1/24\"", "[1]", "[\"198.51.100.1/24\", \"198.51.100.1/25\"]"]),
        Row("[[port]]", "mtu", &["1280", "2018"], &["-1", "0", "67", "1279", "9601", "\"1500\"", "1500.0"]),
        Row("[[port]]", "queues", &["1", "64"], &["-1", "0", "65", "\"1\"", "[1]"]),
        Row("[[port]]", "kernel", &["true", "false", "\"a\"", "\"aaaaabbbbbccccc\""], &["\"\"", "\"aaaaabbbbbcccccd\"", "\"a/b\"", "\"..\"", "1"]),
        Row("[[pair]]", "ports", &["[\"hall\", \"uplink\"]", "[\"outside\", \"inside\"]"],
            &["[]", "[\"hall\"]", "[\"hall\", \"hall\"]", "[\"uplink\", \"hal\"]", "[\"uplink\", \"hall\", \"inside\"]", "\"hall\"", "[1, 2]"]),
        row("[[tenant]]", "name", NAMES),
        Row("[[tenant]]", "vlans", &["[1]", "[4094]", "[\"1-4094\"]", "[7, \"8\", \"9-10\"]"],
            &["[]", "[0]", "[4095]", "[-1]", "[\"0-5\"]", "[\"5-4095\"]", "[\"9-8\"]", "[\"any\"]", "[1, 1]", "[\"1-5\", 3]", "100", "\"100\"", "[1.0]", "[true]"]),
        Row("[[route]]", "to", &["\"0.0.0.0/0\"", "\"203.0.113.1\"", "\"203.0.113.1/32\""], &["\"\"", "\"203.0.113.1/24\"", "\"0.0.0.0/33\"", "\"any\"", "1", "[]"]),
        Row("[[route]]", "via", &["\"198.51.100.2\"", "\"198.51.100.254\""],
            &["\"198.51.100.0\"", "\"198.51.100.1\"", "\"198.51.100.255\"", "\"198.51.101.1\"", "\"10.0.0.2\"", "\"2001:db8:51::2\"", "\"\"", "1"]),
        Row("[[route]]", "port", &["\"outside\""], &["\"outsid\"", "\"\"", "0"]),
        Row("[[neighbor]]", "port", &["\"inside\""], &["\"insid\"", "\"\"", "1"]),
        row("[[neighbor]]", "address", HOSTS),
        row("[[neighbor]]", "mac", MACS),
        Row("[firewall]", "default", &["\"allow\"", "\"deny\"", "\"reject\""], &["\"\"", "\"drop\"", "true", "[\"deny\"]"]),
        row("[firewall]", "log_rate", RATES),
        row("[[firewall.set]]", "name", NAMES),
        row("[[firewall.set]]", "addresses", PREFIXES),
        row("[[firewall.rule]]", "name", NAMES),
        Row("[[firewall.rule]]", "action", &["\"allow\"", "\"deny\"", "\"reject\""], &["\"\"", "\"Allow\"", "\"accept\"", "1"]),
        row("[[firewall.rule]]", "from", ZONES),
        row("[[firewall.rule]]", "to", ZONES),
        row("[[firewall.rule]]", "source", PREFIXES),
        row("[[firewall.rule]]", "source", (&["[\"@offices\"]"], &["[\"@\"]", "[\"@office\"]", "\"@offices\""])),
        row("[[firewall.rule]]", "destination", PREFIXES),
        Row("[[firewall.rule]]", "protocol", &["\"tcp\"", "\"udp\"", "6", "0x11"], &["\"\"", "\"TCP\"", "-1", "256", "true", "[\"tcp\"]"]),
        row("[[firewall.rule]]", "source_port", PORT_LISTS),
        row("[[firewall.rule]]", "destination_port", PORT_LISTS),
        row("[[firewall.rule]]", "log", FLAGS),
        row("[[firewall.rule]]", "staged", FLAGS),
        row("[[firewall.rule]]", "new_sessions_per_second", RATES),
        row("[[firewall.rule]]", "new_sessions_per_source", RATES),
        Row("[[firewall.rule]]", "icmp_type", &["[\"ipv4:0\"]", "[\"ipv6:255/255\"]", "[\"redirect\"]"],
            &["[]", "[8]", "[\"ipv4:256\"]", "[\"ipv4:-1\"]", "[\"ipv4:1/256\"]", "[\"echo\"]", "\"redirect\""]),
        row("[[source_nat]]", "name", NAMES),
        row("[[source_nat]]", "from", ZONES),
        row("[[source_nat]]", "to", ZONES),
        Row("[[source_nat]]", "source", &["[\"0.0.0.0/0\"]", "[\"10.0.0.1\"]"], &["[]", "[\"::/0\"]", "[\"10.0.0.1/8\"]", "\"10.0.0.0/8\"", "[1]"]),
        Row("[[source_nat]]", "address", &["[\"198.51.100.1\"]", "[\"198.51.100.7\", \"2001:db8:51::7\"]"],
            &["[]", "[\"198.51.100.0\"]", "[\"198.51.100.1/24\"]", "[\"198.51.100.7\", \"198.51.100.7\"]", "\"198.51.100.1\"", "[1]"]),
        Row("[[source_nat]]", "address",
            &["[\"198.51.100.8/29\"]", "[\"198.51.100.8-198.51.100.15\", \"198.51.100.20\"]", "[\"198.18.0.0/20\"]", "[\"198.51.100.1/32\"]"],
            &["[\"198.18.0.0/19\"]", "[\"198.51.100.9-198.51.100.8\"]", "[\"198.51.100.8-\"]", "[\"198.51.100.8/29\", \"198.51.100.9\"]", "[\"2001:db8::/64\"]"]),
        Row("[[source_nat]]", "ports", &["\"1024-65535\"", "\"2000-2003\""], &["\"1023-65535\"", "\"2000\"", "\"2000-2001\"", "\"3000-2000\"", "\"\"", "[\"2000-3000\"]"]),
        Row("[[source_nat]]", "mapping", &["\"endpoint-independent\"", "\"address-dependent\""], &["\"\"", "\"symmetric\"", "1"]),
        Row("[[source_nat]]", "filtering", &["\"endpoint-independent\"", "\"address-dependent\"", "\"address-and-port-dependent\""], &["\"\"", "\"none\"", "true"]),
        Row("[[source_nat]]", "ports_per_source", &["1", "64_512"], &["-1", "0", "64_513", "\"9\"", "1.0"]),
        row("[[decapsulate]]", "name", NAMES),
        Row("[[decapsulate]]", "kind", &["\"ipip\"", "\"gre\"", "\"gue\""], &["\"\"", "\"vxlan\"", "1"]),
        row("[[decapsulate]]", "address", (&["\"10.0.0.1\""], &["\"10.0.0.2\"", "\"\"", "\"10.0.0.1/24\"", "7"])),
        Row("[[decapsulate]]", "from", &["[\"0.0.0.0/0\"]", "[\"192.0.2.1\", \"192.0.2.2\"]"], &["[]", "[\"::/0\"]", "[\"192.0.2.1/24\"]", "\"192.0.2.1\"", "[1]"]),
        Row("[[decapsulate]]", "gre_key", &["0", "4_294_967_295"], &["-1", "4_294_967_296", "\"7\""]),
        row("[[decapsulate]]", "gue_port", PORTS),
        row("[[nat64]]", "name", NAMES),
        Row("[[nat64]]", "prefix", &["\"64:ff9b::/96\"", "\"2001:db9::/32\"", "\"2001:db8:64::/48\"", "\"2001:db8:64:ff00::/64\""],
            &["\"\"", "\"64:ff9b::/95\"", "\"64:ff9b::1/96\"", "\"64:ff9b::\"", "\"10.0.0.0/32\"", "\"2001:db8:0:0:100::/96\"",
              "\"2001:db8:10::/64\"", "[\"64:ff9b::/96\"]", "96"]),
        row("[[nat64]]", "from", ZONES),
        Row("[[nat64]]", "source", &["[\"::/0\"]", "[\"2001:db8::1\"]"], &["[]", "[\"10.0.0.0/8\"]", "[\"2001:db8::1/64\"]", "\"::/0\"", "[1]"]),
        Row("[[nat64]]", "address", &["[\"198.51.100.64/28\"]", "[\"198.51.100.64-198.51.100.70\", \"198.51.100.80\"]"],
            &["[]", "[\"2001:db8::1\"]", "[\"198.51.100.0\"]", "[\"198.51.100.1\"]", "[\"10.0.0.1\"]", "\"198.51.100.64\"", "[1]"]),
        Row("[[nat64]]", "ports", &["\"1024-65535\"", "\"2000-2003\""], &["\"1023-65535\"", "\"2000\"", "\"3000-2000\"", "\"\""]),
        Row("[[nat64]]", "filtering", &["\"endpoint-independent\"", "\"address-dependent\"", "\"address-and-port-dependent\""], &["\"\"", "\"none\"", "true"]),
        Row("[[nat64]]", "ports_per_source", &["1", "64_512"], &["-1", "0", "64_513", "\"9\""]),
        Row("[[nat64]]", "ipv6_mtu", &["1280", "9_600"], &["1279", "9_601", "\"1280\"", "1280.0"]),
        row("[[destination_nat]]", "name", NAMES),
        row("[[destination_nat]]", "from", ZONES),
        Row("[[destination_nat]]", "source", &["[\"0.0.0.0/0\"]", "[\"10.0.0.1\"]"], &["[]", "[\"::/0\"]", "[\"10.0.0.1/8\"]", "\"10.0.0.0/8\"", "[1]"]),
        row("[[destination_nat]]", "address", HOSTS),
        Row("[[destination_nat]]", "protocol", &["\"tcp\"", "\"udp\""], &["\"\"", "\"icmp\"", "6", "[\"tcp\"]"]),
        Row("[[destination_nat]]", "ports", &["1", "65535", "\"65535\"", "\"1-65514\""], &["0", "65536", "\"2-1\"", "\"http\"", "[\"80\"]", "80.5"]),
        row("[[destination_nat]]", "to_address", HOSTS),
        row("[[destination_nat]]", "to_address", (&["\"203.0.113.9\""], &["\"192.0.2.1\"", "\"2001:db8:10::9\"", "\"10.0.0.1\"", "\"10.0.0.255\"", "\"198.51.100.10\""])),
        Row("[[destination_nat]]", "to_port", &["1", "65526"], &["0", "65527", "65536", "\"22\"", "[22]"]),
        row("[[virtual_service]]", "name", NAMES),
        row("[[virtual_service]]", "address", HOSTS),
        Row("[[virtual_service]]", "protocol", &["\"tcp\"", "\"udp\""], &["\"\"", "\"icmp\"", "6", "[\"tcp\"]"]),
        row("[[virtual_service]]", "ports", PORT_LISTS),
        Row("[[virtual_service]]", "attract", &["\"own-address\"", "\"external\""], &["\"\"", "\"in-line\"", "\"arp\"", "true", "[\"inline\"]"]),
        Row("[[virtual_service]]", "algorithm", &["\"round-robin\"", "\"least-connections\"", "\"least-load\"", "\"maglev\"", "\"source-hash\""],
            &["\"\"", "\"roundrobin\"", "\"random\"", "1"]),
        Row("[[virtual_service]]", "mode", &["\"full-nat\"", "\"nat\"", "\"direct\"", "\"ipip\"", "\"gre\"", "\"gue\""], &["\"\"", "\"dsr\"", "\"tunnel\"", "1"]),
        Row("[[virtual_service]]", "source_address", &["[\"10.0.0.1\"]", "[\"10.0.0.8\", \"10.0.0.9\"]"],
            &["[]", "[\"10.0.0.0\"]", "[\"2001:db8:10::1\"]", "[\"10.0.0.8\", \"10.0.0.8\"]", "\"10.0.0.1\"", "[1]"]),
        Row("[[virtual_service]]", "tunnel_source", &["[\"10.0.0.1\"]", "[\"198.51.100.1\", \"2001:db8:51::1\"]"],
            &["[]", "[\"10.0.0.2\"]", "[\"10.0.0.1\", \"198.51.100.1\"]", "\"10.0.0.1\"", "[1]"]),
        Row("[[virtual_service]]", "gre_key", &["0", "4_294_967_295", "0xff"], &["-1", "4_294_967_296", "\"7\"", "7.0"]),
        row("[[virtual_service]]", "gue_port", PORTS),
        Row("[[virtual_service]]", "gue_variant", &["0", "1"], &["-1", "2", "\"0\"", "true"]),
        Row("[[virtual_service]]", "client_address", &["\"proxy-v2\"", "\"tcp-option\""], &["\"\"", "\"proxy\"", "true", "2"]),
        Row("[[virtual_service]]", "mss_clamp", &["true", "false", "536", "9_560"], &["535", "9_561", "-1", "\"1360\"", "1360.0", "[1360]"]),
        Row("[[virtual_service]]", "half_open_limit", &["1", "50_000_000"], &["0", "-1", "50_000_001", "\"1\"", "1.0"]),
        Row("[[virtual_service]]", "drain_timeout", &["\"0s\"", "\"1d\""], &["\"1d1ns\"", "30", "\"\"", "true"]),
        Row("[[virtual_service]]", "on_backend_failure", &["\"reselect\"", "\"reset\""], &["\"\"", "\"rst\"", "1"]),
        Row("[virtual_service.persistence]", "by", &["\"source\""], &["\"\"", "\"cookie\"", "1"]),
        Row("[virtual_service.persistence]", "timeout", &["\"1s\"", "\"1d\""], &["\"999ms\"", "\"1d1s\"", "300", "\"\""]),
        row("[[blocklist]]", "name", NAMES),
        Row("[[blocklist]]", "file", &["\"/a\""], &["\"\"", "\"a.txt\"", "\"/a/\"", "\"/\"", "1", "[\"/a\"]"]),
        row("[[blocklist]]", "from", ZONES),
        Row("[[zone]]", "name", &["\"dmz\"", "\"appliance\""], &["\"\"", "\"wam\"", "1", "[\"wan\"]"]),
        Row("[[zone]]", "reverse_path", &["\"off\"", "\"loose\"", "\"strict\""], &["\"\"", "\"on\"", "true"]),
        row("[[zone]]", "bogons", FLAGS),
        row("[[zone]]", "hop_by_hop", FLAGS),
        Row("[[zone]]", "sessions_per_source", &["1", "1_000_000"], &["0", "-1", "1_000_001", "\"1\"", "1.0"]),
        Row("[[zone]]", "routing_headers", &["[1]", "[2, 4, 255]"], &["[]", "[0]", "[256]", "[-1]", "4", "[\"4\"]", "true"]),
        Row("[virtual_service.syn_cookies]", "mode", &["\"off\"", "\"adaptive\"", "\"always\""], &["\"\"", "\"on\"", "true", "1"]),
        Row("[virtual_service.syn_cookies]", "on_at", &["501", "50_000_000"], &["-1", "0", "50_000_001", "\"1000\"", "1.0"]),
        Row("[virtual_service.syn_cookies]", "off_at", &["0", "999"], &["-1", "1_000", "50_000_001", "\"500\"", "1.0"]),
        Row("[virtual_service.persistence]", "config_rotation", &["0", "6"], &["-1", "7", "\"0\""]),
        Row("[virtual_service.persistence]", "server_id_length", &["1", "15"], &["-1", "0", "16", "\"2\""]),
        row("[[virtual_service]]", "one_shot", FLAGS),
        Row("[[virtual_service.backend]]", "server_id", &["\"ffff\"", "\"0001\""], &["\"\"", "\"0\"", "\"0g0b\"", "\"+a0b\"", "\"0a0b0c\"", "10"]),
        Row("[virtual_service.health]", "kind", &["\"http\"", "\"tcp\"", "\"icmp\"", "\"none\""], &["\"\"", "\"https\"", "1"]),
        Row("[virtual_service.health]", "path", &["\"/\"", "\"/a?b=c\""], &["\"\"", "\"a\"", "\"/a b\"", "\"/\\n\"", "\"/ä\"", "1"]),
        Row("[virtual_service.health]", "host", &["\"a\"", "\"a.example:80\""], &["\"\"", "\"a b\"", "\"a/b\"", "\"a\\r\\nX: y\"", "1"]),
        Row("[virtual_service.health]", "expect", &["100", "599", "\"200\"", "\"100-599\""], &["99", "600", "\"299-200\"", "\"99\"", "\"2xx\"", "true"]),
        Row("[virtual_service.health]", "interval", &["\"500ms\"", "\"1h\""], &["\"9ms\"", "\"1h1ms\"", "1", "\"\""]),
        Row("[virtual_service.health]", "timeout", &["\"10ms\"", "\"1s\""], &["\"9ms\"", "\"1001ms\"", "\"1h1s\"", "1", "\"\""]),
        Row("[virtual_service.health]", "rise", &["1", "100"], &["-1", "0", "101", "\"2\"", "1.0"]),
        Row("[virtual_service.health]", "fall", &["1", "100"], &["-1", "0", "101", "\"3\"", "1.0"]),
        row("[virtual_service.health]", "port", PORTS),
        Row("[virtual_service.tier.health]", "kind", &["\"http\"", "\"tcp\"", "\"icmp\"", "\"none\""], &["\"\"", "\"https\"", "1"]),
        Row("[virtual_service.tier.health]", "path", &["\"/\"", "\"/a?b=c\""], &["\"\"", "\"a\"", "\"/a b\"", "\"/\\n\"", "\"/ä\"", "1"]),
        Row("[virtual_service.tier.health]", "host", &["\"a\"", "\"a.example:80\""], &["\"\"", "\"a b\"", "\"a/b\"", "\"a\\r\\nX: y\"", "1"]),
        Row("[virtual_service.tier.health]", "expect", &["100", "599", "\"200\"", "\"100-599\""], &["99", "600", "\"299-200\"", "\"99\"", "\"2xx\"", "true"]),
        Row("[virtual_service.tier.health]", "interval", &["\"500ms\"", "\"1h\""], &["\"9ms\"", "\"1h1ms\"", "1", "\"\""]),
        Row("[virtual_service.tier.health]", "timeout", &["\"10ms\"", "\"1s\""], &["\"9ms\"", "\"1001ms\"", "\"1h1s\"", "1", "\"\""]),
        Row("[virtual_service.tier.health]", "rise", &["1", "100"], &["-1", "0", "101", "\"2\"", "1.0"]),
        Row("[virtual_service.tier.health]", "fall", &["1", "100"], &["-1", "0", "101", "\"3\"", "1.0"]),
        row("[virtual_service.tier.health]", "port", PORTS),
        Row("[[virtual_service]]", "marker_vlan", &["1", "4_093"], &["-1", "0", "4_094", "4_095", "\"100\"", "1.0"]),
        Row("[[virtual_service.tier]]", "algorithm", &["\"maglev\"", "\"least-load\""], &["\"\"", "\"random\"", "1"]),
        row("[[virtual_service.tier.backend]]", "name", NAMES),
        row("[[virtual_service.tier.backend]]", "address", (&["\"2001:db8:10::77\""], &["\"\"", "\"10.0.0\"", "\"2001:db8:99::9\"", "\"2001:db8:10::1\"", "\"10.0.0.9\"", "7"])),
        Row("[[virtual_service.tier.backend]]", "weight", &["1", "65_535"], &["-1", "65_536", "\"1\"", "1.0"]),
        Row("[[virtual_service.tier.backend]]", "hops", &["0", "255"], &["-1", "256", "\"1\"", "0.5"]),
        row("[[virtual_service.tier.backend]]", "disabled", FLAGS),
        row("[[virtual_service.backend]]", "name", NAMES),
        row("[[virtual_service.backend]]", "address", HOSTS),
        row("[[virtual_service.backend]]", "address", (&["\"203.0.113.9\""], &["\"192.0.2.1\"", "\"2001:db8:10::9\"", "\"10.0.0.1\"", "\"10.0.0.255\""])),
        row("[[virtual_service.backend]]", "port", PORTS),
        Row("[[virtual_service.backend]]", "weight", &["1", "65_535"], &["-1", "65_536", "\"1\"", "1.0"]),
        Row("[[virtual_service.backend]]", "hops", &["0", "255"], &["-1", "256", "\"1\"", "0.5"]),
        row("[[virtual_service.backend]]", "disabled", FLAGS),
    ]
}

/// The full file with another value for the first such key of the first such table, and the line it is on.
fn with(table: &str, key: &str, value: &str) -> (String, usize) {
    let mut header = "";
    let mut changed = None;
    let mut lines: Vec<String> = Vec::new();
    for (line, number) in FULL.lines().zip(1..) {
        if line.starts_with('[') {
            header = line;
        }
        if changed.is_none() && header == table && line.starts_with(&format!("{key} = ")) {
            changed = Some(number);
            lines.push(format!("{key} = {value}"));
        } else {
            lines.push(line.to_owned());
        }
    }
    (lines.join("\n"), changed.unwrap_or_else(|| panic!("{table} {key}")))
}

#[test]
fn every_key_keeps_its_bounds() {
    let mut tried = 0;
    for Row(table, key, taken, refused) in rows() {
        let on_line = |value: &str| {
            let (text, line) = with(table, key, value);
            let errors = faults(&text).into_iter().filter(|fault| fault.severity == Severity::Error);
            errors.filter(|fault| fault.place.is_some_and(|place| place.line == line)).collect::<Vec<_>>()
        };
        for value in taken {
            assert_eq!(on_line(value), [], "{table} {key} = {value}");
        }
        for value in refused {
            assert!(!on_line(value).is_empty(), "{table} {key} = {value} is taken");
        }
        tried += taken.len() + refused.len();
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn every_key_has_its_bounds_here() {
    let rows = rows();
    let mut header = "";
    for line in FULL.lines() {
        if line.starts_with('[') {
            header = line;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(rows.iter().any(|row| row.0 == header && row.1 == key), "{header} {key}");
        }
    }
}
