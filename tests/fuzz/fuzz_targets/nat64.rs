//! Packets through NAT64, both ways, whole and in fragments: what goes in whole and right comes out as the packet that a plain
//! builder makes of it in the other version, byte for byte; of everything else the rig's standing assertions hold.
//!
//! The first byte says which packet (protocol, direction, whether it is cut), the second its class, the third how it is spoilt;
//! the rest is what it carries.
#![no_main]

use std::sync::{Arc, LazyLock};

use config::Policy;
use libfuzzer_sys::fuzz_target;
use millrace_tests::packet::{Packet, end, ip, ping, pong, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};
use wire::{Content, Verify, dissect, fragment};

const RULES: &str = r#"
[firewall]
default = "allow"
[[nat64]]
name = "clients"
prefix = "2001:db8:64::/48"
from = ["dmz"]
address = ["198.51.100.64"]
[[neighbor]]
port = "inside"
address = "2001:db8:10::11"
mac = "06:0d:00:00:00:11"
[[neighbor]]
port = "outside"
address = "198.51.100.7"
mac = "02:04:c6:33:64:07"
"#;

/// Compiled once; each input has a worker of its own. Sessions end soon: an input is over when the last has.
static TABLES: LazyLock<(Policy, Arc<millrace_tests::rig::Snapshot>)> = LazyLock::new(|| {
    let sessions = "capacity = 32\ntimeouts = { tcp_established = \"20s\", tcp_closing = \"20s\", udp_two_way = \"20s\", \
        other = \"20s\", nat64_udp = \"20s\", nat64_tcp_transitory = \"20s\", nat64_icmp = \"20s\" }";
    Rig::tables(&format!("{TWO_PORTS}{RULES}").replace("capacity = 4_096", sessions))
});

const CLIENT: &str = "2001:db8:10::11";
const POOL: &str = "198.51.100.64";
const SERVER: &str = "198.51.100.7";
const SERVER6: &str = "2001:db8:64:c633:64:700::";
const PORT: u16 = 33_000;

/// A packet of a conversation in both its looks, from the client or from the server.
fn looks(which: u8, from_client: bool, data: &[u8]) -> (Packet, Packet) {
    let segment = |packet: Packet| packet.syn().seq(1).data(data);
    let (client, seen) = (end(CLIENT, PORT), end(POOL, PORT));
    let (asked, server) = (end(SERVER6, 443), end(SERVER, 443));
    match (which, from_client) {
        (0, true) => (segment(tcp(&client, &asked)), segment(tcp(&seen, &server))),
        (0, false) => (tcp(&server, &seen).syn_ack(2).data(data), tcp(&asked, &client).syn_ack(2).data(data)),
        (1, true) => (ping(CLIENT, SERVER6, PORT).data(data), ping(POOL, SERVER, PORT).data(data)),
        (1, false) => (pong(SERVER, POOL, PORT).data(data), pong(SERVER6, CLIENT, PORT).data(data)),
        (2, false) => (udp(&server, &seen).data(data).no_checksum(), udp(&asked, &client).data(data)),
        (_, true) => (udp(&client, &asked).data(data), udp(&seen, &server).data(data)),
        (_, false) => (udp(&server, &seen).data(data), udp(&asked, &client).data(data)),
    }
}

/// What a packet carries behind its IP header, and that header's class.
fn carried(packet: &Packet) -> Vec<u8> {
    let bytes = packet.bytes_of_ip();
    bytes[if bytes[0] >> 4 == 4 { 20 } else { 40 }..].to_vec()
}

/// What came out at one side, fragments put together.
fn together(out: &[(Side, Vec<u8>)], at: Side) -> Vec<u8> {
    let mut whole = Vec::new();
    for (side, bytes) in out {
        let frame = dissect(bytes, Verify::All).expect("what leaves is right");
        let Content::Ip(facts) = frame.content else { panic!("an IP packet") };
        assert_eq!(*side, at);
        let begin = match fragment::piece(bytes, &facts) {
            Some(piece) => {
                assert_eq!(usize::from(piece.offset), whole.len());
                piece.begin
            }
            None => facts.transport_offset,
        };
        whole.extend(&bytes[usize::from(begin)..usize::from(facts.end)]);
    }
    whole
}

fuzz_target!(|input: &[u8]| {
    let [which, class, spoil, data @ ..] = input else { return };
    if data.len() > 4_000 {
        return;
    }
    let (policy, snapshot) = &*TABLES;
    let mut rig = Rig::over(policy.clone(), Arc::clone(snapshot), Layout { workers: 1, queues: 1, buffers: 64 });
    let (kind, from_client, cut) = (which & 3, which & 4 != 0, which & 0x38);
    if !from_client {
        // The client has asked before.
        let (first, _) = looks(kind, true, b"");
        rig.put(INSIDE, &first);
        rig.settle();
        assert_eq!(rig.take().len(), 1);
    }
    let (near, far) = if from_client { (INSIDE, OUTSIDE) } else { (OUTSIDE, INSIDE) };
    let (sent, expected) = looks(kind, from_client, data);
    let (sent, expected) = (sent.class(*class), expected.class(*class));
    let largest = if from_client { 1_440 } else { 1_480 };
    let pieces = match cut >> 3 {
        0 if carried(&sent).len() <= largest => vec![sent.clone()],
        by => sent.pieces((usize::from(by) * 200 + 80) / 8 * 8),
    };
    for (number, piece) in pieces.iter().enumerate() {
        let piece = match spoil {
            0 => piece.clone(),
            // Bytes of the transport, under an IP header that is right.
            1..=0x7f => {
                let mut bytes = carried(piece);
                let at = usize::from(*spoil) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= *class | 1;
                }
                let (source, destination) = piece.addresses().expect("an IP packet");
                let protocol = [6, if source.is_ipv4() { 1 } else { 58 }, 17, 17][usize::from(kind)];
                ip(&source.to_string(), &destination.to_string(), protocol, &bytes)
            }
            0x80..=0x9f => piece.clone().hops(spoil & 0x1f),
            _ if number == 0 => piece.clone().spoilt(usize::from(*spoil) % 34, &[*class]),
            _ => piece.clone(),
        };
        rig.put(near, &piece);
    }
    rig.settle();
    let out = rig.take();
    if *spoil == 0 && pieces.len() <= 16 {
        assert_eq!(together(&out, far), carried(&expected));
        for (_, bytes) in &out {
            let seen = if bytes[12] == 0x08 { bytes[15] } else { bytes[14] << 4 | bytes[15] >> 4 };
            assert_eq!(seen, *class, "traffic class");
        }
    }
    rig.assert_accounted();
});
