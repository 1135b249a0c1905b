//! ICMP errors about packets of translated sessions: source NAT, a service, and NAT64 from either side. One whose quote is as the
//! packet left reaches whoever sent that packet, with the quote put back; of everything else the rig's standing assertions hold.
//!
//! The first byte says which session and IP version, the next three type, code and how many bytes are quoted, four are the rest
//! of the message's header, and pairs behind them change bytes of the quote.
#![no_main]

use std::sync::{Arc, LazyLock};

use config::Policy;
use libfuzzer_sys::fuzz_target;
use millrace_tests::packet::{Packet, end, icmp, ping, tcp, udp};
use millrace_tests::rules::NAT64;
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};
use wire::{Content, Facts, Transport, Verify, dissect};

const RULES: &str = r#"
[firewall]
default = "allow"
[[source_nat]]
name = "out"
from = ["dmz"]
to = ["wan"]
address = ["198.51.100.20", "2001:db8:51::20"]
[[virtual_service]]
name = "dns"
address = "198.51.100.10"
protocol = "udp"
ports = ["53"]
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 5353
[[virtual_service]]
name = "dns6"
address = "2001:db8:51::10"
protocol = "udp"
ports = ["53"]
[[virtual_service.backend]]
name = "a6"
address = "2001:db8:10::11"
port = 5353
"#;

/// Compiled once; each input has a worker of its own. Sessions end soon: an input is over when the last has.
static TABLES: LazyLock<(Policy, Arc<millrace_tests::rig::Snapshot>)> = LazyLock::new(|| {
    let sessions = "capacity = 32\ntimeouts = { tcp_established = \"20s\", tcp_closing = \"20s\", udp_two_way = \"20s\", \
        other = \"20s\", nat64_udp = \"20s\", nat64_tcp_transitory = \"20s\", nat64_icmp = \"20s\" }";
    Rig::tables(&format!("{TWO_PORTS}{RULES}{NAT64}").replace("capacity = 4_096", sessions))
});

/// The first packet of a session, from which side, and who beyond the appliance would complain about it.
fn first(which: u8) -> (Side, Packet, &'static str) {
    let data = [7; 300];
    let write = |from: &str, to: &str| match which >> 4 & 3 {
        0 => tcp(&end(from, 4_000), &end(to, 53)).syn().seq(1_000),
        1 => ping(from, to, 4_000).data(&data),
        _ => udp(&end(from, 4_000), &end(to, 53)).data(&data),
    };
    let (outside, outside6) = ("198.51.100.99", "2001:db8:51::99");
    match which & 7 {
        0 => (INSIDE, write("10.0.0.12", "198.51.100.7"), outside),
        1 => (INSIDE, write("2001:db8:10::12", "2001:db8:51::7"), outside6),
        2 => (OUTSIDE, udp("198.51.100.7:4000", "198.51.100.10:53").data(&data), "10.0.0.99"),
        3 => (OUTSIDE, udp("[2001:db8:51::7]:4000", "[2001:db8:51::10]:53").data(&data), "2001:db8:10::99"),
        _ => (INSIDE, write("2001:db8:10::12", "64:ff9b::198.51.100.7"), outside),
    }
}

fuzz_target!(|input: &[u8]| {
    let [which, kind, code, quoted, r0, r1, r2, r3, changes @ ..] = input else { return };
    let (policy, snapshot) = &*TABLES;
    let mut rig = Rig::over(policy.clone(), Arc::clone(snapshot), Layout { workers: 1, queues: 1, buffers: 64 });
    let (near, packet, router) = first(*which);
    rig.put(near, &packet);
    rig.settle();
    let out = rig.take();
    assert_eq!(out.len(), 1, "{:?}", rig.drops());
    let (mut far, mut left, mut router) = (out[0].0, out[0].1.clone(), router);
    if *which & 0x0c == 0x0c {
        // The other way round: what comes back through NAT64 meets somebody on the client's side.
        let answer = match which >> 4 & 3 {
            0 => tcp("198.51.100.7:53", "198.51.100.64:4000").syn_ack(1_001).seq(9),
            1 => millrace_tests::packet::pong("198.51.100.7", "198.51.100.64", 4_000).data(&[9; 200]),
            _ => udp("198.51.100.7:53", "198.51.100.64:4000").data(&[9; 200]),
        };
        rig.put(OUTSIDE, &answer);
        rig.settle();
        let out = rig.take();
        assert_eq!(out.len(), 1, "{:?}", rig.drops());
        (far, left, router) = (out[0].0, out[0].1.clone(), "2001:db8:10::99");
    }
    let Ok(frame) = dissect(&left, Verify::All) else { panic!("what leaves is right") };
    let Content::Ip(facts) = frame.content else { panic!("an IP packet") };
    let mut quote = left[14..usize::from(facts.end)].to_vec();
    quote.truncate(usize::from(*quoted) * 2 + 48);
    for pair in changes.chunks_exact(2).take(16) {
        let at = usize::from(pair[0]) % quote.len();
        quote[at] ^= pair[1];
    }
    let rest = u32::from_be_bytes([*r0, *r1, *r2, *r3]);
    let to = facts.endpoints.source().to_string();
    rig.put(far, &icmp(router, &to, *kind, *code, rest, &quote));
    rig.settle();
    let out = rig.take();
    let is_v6 = facts.endpoints.is_v6();
    let unreachable = if is_v6 { (1, 4) } else { (3, 3) };
    if changes.len() < 2 && (*kind, *code) == unreachable && rest == 0 {
        assert_eq!(out.len(), 1, "{:?}", rig.drops());
        let (_, bytes) = &out[0];
        let Ok(frame) = dissect(bytes, Verify::All) else { panic!("what leaves is right") };
        let Content::Ip(Facts { transport: Transport::IcmpError { quote, .. }, .. }) = frame.content else {
            panic!("an error")
        };
        let sender = dissect(&rig.inward(near, &packet), Verify::Nothing).map(|frame| frame.content);
        if let Ok(Content::Ip(sent)) = sender
            && which & 0x0c != 0x0c
        {
            assert_eq!(quote.endpoints, sent.endpoints, "as its sender wrote it");
        }
    }
    rig.assert_accounted();
});

