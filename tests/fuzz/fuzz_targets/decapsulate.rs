//! Any bytes in tunnels that end here: the rig's standing assertions hold, and whatever leaves is a packet that is right.
//!
//! The first byte says how the rest is wrapped, the second how often; the rest is what is inside, or begins between the
//! headers.
#![no_main]

use std::sync::{Arc, LazyLock};

use config::Policy;
use libfuzzer_sys::fuzz_target;
use millrace_tests::packet::{Packet, ip, udp};
use millrace_tests::{Layout, OUTSIDE, Rig, TWO_PORTS};

const POLICY: &str = r#"
sessions.timeouts = { tcp_established = "25s", tcp_closing = "20s", udp_two_way = "20s", other = "20s" }
"#;

const ENDINGS: &str = r#"
[firewall]
default = "allow"
[[decapsulate]]
name = "ipip"
kind = "ipip"
address = "198.51.100.1"
from = ["0.0.0.0/0"]
[[decapsulate]]
name = "gre"
kind = "gre"
address = "198.51.100.1"
from = ["0.0.0.0/0"]
[[decapsulate]]
name = "gre-key"
kind = "gre"
gre_key = 1
address = "198.51.100.1"
from = ["0.0.0.0/0"]
[[decapsulate]]
name = "gue"
kind = "gue"
address = "198.51.100.1"
from = ["0.0.0.0/0"]
"#;

/// Compiled once; each input has a worker of its own.
static TABLES: LazyLock<(Policy, Arc<millrace_tests::rig::Snapshot>)> = LazyLock::new(|| {
    let timeouts = POLICY.trim().replace("sessions.", "");
    Rig::tables(&format!("{TWO_PORTS}{ENDINGS}").replace("capacity = 4_096", &format!("capacity = 32\n{timeouts}")))
});

const PEER: &str = "198.51.100.50";
const HERE: &str = "198.51.100.1";

fn wrap(how: u8, inside: &[u8]) -> Packet {
    let behind = |front: &[u8]| [front, inside].concat();
    match how & 0x0f {
        0 | 1 => ip(PEER, HERE, 4, inside),
        2 | 3 => ip(PEER, HERE, 41, inside),
        4 => ip(PEER, HERE, 47, inside),
        5 => ip(PEER, HERE, 47, &behind(&[0, 0, 8, 0])),
        6 => ip(PEER, HERE, 47, &behind(&[0, 0, 0x86, 0xdd])),
        7 => ip(PEER, HERE, 47, &behind(&[0x20, 0, 8, 0, 0, 0, 0, 1])),
        8 | 9 => udp("198.51.100.50:50000", "198.51.100.1:6080").data(&behind(&[0, 4, 0, 0])),
        10 => udp("198.51.100.50:50000", "198.51.100.1:6080").data(&behind(&[0, 41, 0, 0])),
        _ => udp("198.51.100.50:50000", "198.51.100.1:6080").data(inside),
    }
}

fuzz_target!(|input: &[u8]| {
    let [how, depth, inside @ ..] = input else { return };
    if inside.len() > 1_200 {
        return;
    }
    let (policy, snapshot) = &*TABLES;
    let mut rig = Rig::over(policy.clone(), Arc::clone(snapshot), Layout { workers: 1, queues: 1, buffers: 64 });
    let mut packet = wrap(*how, inside);
    for _ in 0..depth & 7 {
        packet = wrap(how >> 4, &packet.bytes_of_ip());
    }
    rig.put(OUTSIDE, &packet);
    rig.settle();
    rig.take();
    rig.assert_accounted();
});
