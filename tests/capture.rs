//! Captures: frames as they came and as they left, drops with their reasons, and nothing else happens because of it.

use millrace_tests::packet::{Packet, ip, tcp, udp};
use millrace_tests::rig::Taken;
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use stage::DropReason;
use units::Nanos;
use worker::Side;

const POLICY: &str = r#"
[firewall]
default = "deny"
[[firewall.rule]]
name = "web"
action = "allow"
from = ["wan"]
protocol = "tcp"
destination_port = ["80"]
[[virtual_service]]
name = "shop"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
algorithm = "maglev"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
"#;

/// A client's SYN to the service, number so and so.
fn syn(number: u16) -> Packet {
    tcp(&format!("198.51.100.7:{}", 4_000 + number), "198.51.100.10:80").syn().seq(1)
}

/// A rig that knows its neighbors.
fn settled() -> Rig {
    let mut rig = Rig::new(POLICY);
    rig.put(OUTSIDE, &syn(999));
    rig.settle();
    rig.put(INSIDE, &tcp("10.0.0.11:8080", "198.51.100.7:4999").syn().ack(2).seq(7));
    rig.settle();
    rig.take();
    rig
}

fn bytes(taken: &[Taken]) -> Vec<Vec<u8>> {
    taken.iter().map(|taken| taken.bytes.clone()).collect()
}

#[test]
fn frames_are_taken_as_they_came_and_as_they_left() {
    let mut rig = settled();
    let outside = rig.capture(OUTSIDE, &[Side::Received, Side::Sent], None, None);
    let answer = tcp("10.0.0.11:8080", "198.51.100.7:4001").syn().ack(2).seq(9);
    rig.put(OUTSIDE, &syn(1));
    rig.settle();
    rig.put(INSIDE, &answer);
    rig.settle();
    let (taken, lost) = rig.taken(&outside);
    assert_eq!((taken.len(), lost), (2, 0), "{taken:?}");
    assert_eq!((taken[0].side, taken[1].side), (Side::Received, Side::Sent));
    assert_eq!(taken[0].bytes, rig.inward(OUTSIDE, &syn(1)));
    let left = rig.take();
    let sent = left.iter().find(|(side, _)| *side == OUTSIDE).unwrap();
    assert_eq!(taken[1].bytes, sent.1);
    drop(outside);
    rig.leap(Nanos::from_secs(1));

    // The other port sees the same conversation from the other side.
    let inside = rig.capture(INSIDE, &[Side::Received, Side::Sent], None, None);
    rig.put(OUTSIDE, &syn(2));
    rig.settle();
    let (taken, _) = rig.taken(&inside);
    assert_eq!(bytes(&taken), [rig.take().remove(0).1]);
}

#[test]
fn drops_are_taken_with_their_reasons() {
    let mut rig = settled();
    let every = [
        udp("198.51.100.7:1", "10.0.0.13:81"),
        syn(3),
        syn(4).hops(1),
        udp("198.51.100.7:1", "10.0.0.13:81").wrong_ip_checksum(1),
    ];
    for (drops, reasons) in [
        (
            Some(None),
            vec![DropReason::FirewallDenied, DropReason::HopLimitExceeded, wire::Malformed::Ipv4Checksum.into()],
        ),
        (Some(Some(DropReason::FirewallDenied)), vec![DropReason::FirewallDenied]),
    ] {
        let capture = rig.capture(OUTSIDE, &[Side::Received], drops, None);
        for packet in &every {
            rig.put(OUTSIDE, packet);
        }
        rig.settle();
        let (taken, lost) = rig.taken(&capture);
        let told: Vec<_> = taken.iter().filter_map(|taken| taken.reason).collect();
        assert_eq!((told, lost), (reasons, 0));
        assert_eq!(taken[0].bytes, rig.inward(OUTSIDE, &every[0]));
        rig.take();
        drop(capture);
        rig.leap(Nanos::from_secs(1));
    }
    // What is not asked for drops only has the reasons, too.
    let capture = rig.capture(OUTSIDE, &[Side::Received], None, None);
    for packet in &every {
        rig.put(OUTSIDE, packet);
    }
    rig.settle();
    let (taken, _) = rig.taken(&capture);
    assert_eq!(taken.iter().map(|taken| taken.reason.is_some()).collect::<Vec<_>>(), [true, false, true, true]);
}

#[test]
fn only_what_the_filter_wants_is_taken_and_only_so_much_of_it() {
    let mut rig = settled();
    let capture = rig.capture(OUTSIDE, &[Side::Received, Side::Sent], None, Some(0x11));
    rig.put(OUTSIDE, &udp("198.51.100.7:1", "10.0.0.13:81").data(&[7; 500]));
    rig.put(OUTSIDE, &syn(5));
    rig.settle();
    let (taken, _) = rig.taken(&capture);
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].bytes.len(), taken[0].length), (128, 542), "the rig keeps 128 bytes");
}

#[test]
fn a_device_that_takes_nothing_has_sent_nothing() {
    let mut rig = settled();
    let capture = rig.capture(INSIDE, &[Side::Sent], None, None);
    rig.jam(INSIDE, true);
    for number in 0..10 {
        rig.put(OUTSIDE, &syn(100 + number));
    }
    rig.settle();
    assert_eq!(rig.taken(&capture).0.len(), 0);
    rig.jam(INSIDE, false);
    rig.settle();
    let (taken, lost) = rig.taken(&capture);
    assert_eq!((taken.len(), lost), (10, 0));
    assert_eq!(bytes(&taken), rig.take().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>());
}

/// A worker that has nothing else to do gives a buffer away for a single frame, but keeps one for those that follow.
#[test]
fn an_idle_worker_keeps_room_for_what_comes_before_control() {
    let mut rig = settled();
    let capture = rig.capture(OUTSIDE, &[Side::Received], None, None);
    for number in 0..100 {
        rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{}", 1 + number), "10.0.0.13:81"));
        for _ in 0..50 {
            rig.turn();
        }
    }
    rig.settle();
    let (taken, lost) = rig.taken(&capture);
    assert_eq!((taken.len(), lost), (100, 0));
}

/// Control does not come to take the buffers: what finds no room is counted, and the packets pass.
#[test]
fn what_finds_no_room_is_counted() {
    for workers in [1, 2] {
        let layout = Layout { workers, ..Layout::default() };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), layout);
        let capture = rig.capture(OUTSIDE, &[Side::Received], None, None);
        for round in 0..200 {
            for number in 0..100 {
                rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{}", 1 + round * 100 + number), "10.0.0.13:81"));
            }
            while rig.turn() {}
        }
        assert_eq!(rig.drops()["firewall_denied"], 20_000);
        rig.settle();
        let (taken, lost) = rig.taken(&capture);
        assert_eq!(taken.len() as u64 + lost, 20_000, "each once, by {workers}");
        assert!(lost > 1_000, "{lost}");
    }
}

/// The frame of a tunnel is taken by the worker that unwraps it: the owner of what is inside never sees it.
#[test]
fn frames_of_tunnels_that_end_here_are_all_taken() {
    let ending = "[firewall]\ndefault = \"allow\"\n[[decapsulate]]\nname = \"it\"\naddress = \"198.51.100.1\"\n\
        from = [\"198.51.100.50\"]\nkind = \"gre\"\n";
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ending}"), Layout { workers: 2, ..Layout::default() });
    let capture = rig.capture(OUTSIDE, &[Side::Received], None, Some(47));
    for port in 1..=16 {
        let inside = udp(&format!("203.0.113.7:{port}"), "10.0.0.11:53").bytes_of_ip();
        rig.put(OUTSIDE, &ip("198.51.100.50", "198.51.100.1", 47, &[&[0, 0, 8, 0][..], &inside].concat()));
        rig.settle();
    }
    let _ = rig.take();
    assert!(rig.count(|c| &c.handed_over) > 0, "some of what was inside belongs to the other worker");
    let (taken, lost) = rig.taken(&capture);
    assert_eq!((taken.len(), lost), (16, 0));
}

/// Of several workers each takes what it decides about; every frame is taken once.
#[test]
fn with_two_workers_every_frame_is_taken_once() {
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{POLICY}"), Layout { workers: 2, ..Layout::default() });
    rig.put(OUTSIDE, &syn(999));
    rig.settle();
    rig.take();
    let capture = rig.capture(OUTSIDE, &[Side::Received], None, None);
    let inside = rig.capture(INSIDE, &[Side::Sent], None, None);
    assert!(rig.capture_is_refused(&inside), "one at a time");
    for number in 0..64 {
        rig.put(OUTSIDE, &syn(number));
    }
    rig.settle();
    let (taken, lost) = rig.taken(&capture);
    let mut frames = bytes(&taken);
    frames.sort();
    frames.dedup();
    assert_eq!((taken.len(), frames.len(), lost), (64, 64, 0));
    rig.take();
}
