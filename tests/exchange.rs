//! Devices that go and come back under traffic (RLD-13): sessions live on, what cannot be sent has a reason, no buffer stays
//! behind; with workers that have a queue of the port and workers that send through another's, and while somebody looks on.

use millrace_tests::packet::{Packet, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use stage::DropReason::{PortVanished, TransmitFull};
use units::Nanos;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

/// One worker; two that share a queue; three with a queue each.
const LAYOUTS: [Layout; 3] = [
    Layout { workers: 1, queues: 1, buffers: 2_048 },
    Layout { workers: 2, queues: 1, buffers: 2_048 },
    Layout { workers: 3, queues: 3, buffers: 2_048 },
];

/// A client's packet and its answer, of either family.
fn conversation(number: u16) -> (Packet, Packet) {
    let (client, server) = match number % 2 {
        0 => (format!("198.51.100.7:{}", 4_000 + number), "10.0.0.11:9"),
        _ => (format!("[2001:db8:51::7]:{}", 4_000 + number), "[2001:db8:10::11]:9"),
    };
    (udp(&client, server), udp(server, &client))
}

/// Sends twenty packets each way; each comes out.
fn all_pass(rig: &mut Rig) {
    for number in 0..20 {
        let (there, back) = conversation(number);
        rig.passes("there", ((OUTSIDE, there.clone()), (INSIDE, there.routed())));
        rig.passes("and back", ((INSIDE, back.clone()), (OUTSIDE, back.routed())));
    }
}

/// Sends twenty packets by a port whose other one has no device.
fn none_passes(rig: &mut Rig, from: Side) {
    let packets = (0..20).map(conversation);
    let packets: Vec<_> = packets.map(|(there, back)| (from, if from == OUTSIDE { there } else { back })).collect();
    rig.drops_all("nothing leaves by a port without a device", &packets, PortVanished);
}

#[test]
fn sessions_outlive_their_device() {
    for layout in LAYOUTS {
        for watched in [false, true] {
            let rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}"), layout);
            let mut rig = if watched { rig.watched() } else { rig };
            all_pass(&mut rig);
            let opened = rig.count(|counters| &counters.sessions_opened);
            for (gone, other) in [(INSIDE, OUTSIDE), (OUTSIDE, INSIDE)] {
                assert_eq!(rig.unplug(gone), 0);
                none_passes(&mut rig, other);
                assert_eq!(rig.plug(gone), 0);
                all_pass(&mut rig);
            }
            assert_eq!(rig.count(|counters| &counters.sessions_opened), opened, "{layout:?}");
        }
    }
}

#[test]
fn both_devices_may_go_and_come_in_any_order() {
    for layout in LAYOUTS {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}"), layout);
        all_pass(&mut rig);
        for [first, second, third, fourth] in [
            [OUTSIDE, INSIDE, OUTSIDE, INSIDE],
            [OUTSIDE, INSIDE, INSIDE, OUTSIDE],
            [INSIDE, OUTSIDE, OUTSIDE, INSIDE],
            [INSIDE, OUTSIDE, INSIDE, OUTSIDE],
        ] {
            rig.unplug(first);
            rig.unplug(second);
            rig.plug(third);
            rig.plug(fourth);
            all_pass(&mut rig);
        }
    }
}

#[test]
fn what_waits_for_a_device_goes_with_it_and_its_buffers_come_back() {
    for layout in LAYOUTS {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}"), layout);
        all_pass(&mut rig);
        rig.jam(INSIDE, true);
        for number in 0..200 {
            rig.put(OUTSIDE, &conversation(number % 20).0);
        }
        rig.settle();
        let full = rig.dropped(TransmitFull);
        assert_eq!(rig.buffers_in_use() as u64, 200 - full, "{layout:?}");
        assert_eq!(rig.unplug(INSIDE), 200 - full);
        assert_eq!((rig.buffers_in_use(), rig.take().len()), (0, 0));
        rig.jam(INSIDE, false);
        assert_eq!(rig.plug(INSIDE), 0, "nothing old is sent");
        assert_eq!(rig.take().len(), 0);
        all_pass(&mut rig);
    }
}

#[test]
fn a_worker_that_has_not_heard_yet_sends_nothing_old() {
    // The owner of the queue has given it up; the other still puts packets on the ring between them.
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}"), LAYOUTS[1]);
    all_pass(&mut rig);
    assert_eq!(rig.unplug_one(0, INSIDE), 0);
    for number in 0..20 {
        rig.put(OUTSIDE, &conversation(number).0);
    }
    rig.settle();
    let late = 20 - rig.dropped(PortVanished);
    assert!(late > 0 && late < 20, "each of them owns some of the sessions: {late}");
    assert_eq!(rig.unplug_one(1, INSIDE), 0);
    none_passes(&mut rig, OUTSIDE);
    assert_eq!(rig.plug(INSIDE), late);
    assert_eq!(rig.take().len(), 0);
    all_pass(&mut rig);
}

#[test]
fn a_device_without_a_place_goes_back() {
    for layout in LAYOUTS {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}"), layout);
        assert_eq!(rig.offer(INSIDE), (layout.queues, 0));
        all_pass(&mut rig);
        rig.unplug(INSIDE);
        rig.unplug(INSIDE);
        rig.plug(INSIDE);
        all_pass(&mut rig);
    }
}

#[test]
fn a_capture_outlasts_the_device() {
    let mut rig = Rig::new(ALLOW);
    all_pass(&mut rig);
    let capture = rig.capture(INSIDE, &[worker::Side::Received, worker::Side::Sent], None, None);
    rig.unplug(INSIDE);
    none_passes(&mut rig, OUTSIDE);
    assert_eq!(rig.taken(&capture).0.len(), 0, "what did not leave was not sent");
    rig.plug(INSIDE);
    all_pass(&mut rig);
    assert_eq!(rig.taken(&capture).0.len(), 40);
    // One that ends, and one that begins, while there is no device.
    rig.unplug(INSIDE);
    drop(capture);
    rig.leap(Nanos::from_secs(1));
    let capture = rig.capture(INSIDE, &[worker::Side::Sent], None, None);
    rig.plug(INSIDE);
    all_pass(&mut rig);
    assert_eq!(rig.taken(&capture).0.len(), 20);
}

/// What may happen, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Unplug(Side),
    Plug(Side),
    Send(u16),
    Answer(u16),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(OUTSIDE), Just(INSIDE)];
    prop_oneof![
        side.clone().prop_map(Step::Unplug),
        side.prop_map(Step::Plug),
        (0..40_u16).prop_map(Step::Send),
        (0..40_u16).prop_map(Step::Answer),
        (0..400_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("fixtures/regressions/exchange.txt"))),
        ..ProptestConfig::default()
    })]

    /// A2 and A3 hold whenever devices come and go; a rig asserts both at its end.
    #[test]
    fn every_packet_is_accounted_for(layout in 0..LAYOUTS.len(), steps in prop::collection::vec(step(), 1..60)) {
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{ALLOW}"), LAYOUTS[layout]);
        let mut plugged = [true; 2];
        for step in steps {
            match step {
                Step::Unplug(side) => {
                    rig.unplug(side);
                    plugged[side.port().index()] = false;
                }
                Step::Plug(side) if plugged[side.port().index()] => {}
                Step::Plug(side) => {
                    rig.plug(side);
                    plugged[side.port().index()] = true;
                }
                Step::Send(number) if plugged[0] => rig.put(OUTSIDE, &conversation(number).0),
                Step::Answer(number) if plugged[1] => rig.put(INSIDE, &conversation(number).1),
                Step::Send(_) | Step::Answer(_) => {}
                Step::Pass(millis) => rig.leap(Nanos::from_millis(millis)),
            }
        }
        for side in [OUTSIDE, INSIDE] {
            if !plugged[side.port().index()] {
                rig.plug(side);
            }
        }
        rig.settle();
        rig.take();
        let connection = tcp("198.51.100.9:77", "10.0.0.12:80").syn().seq(1);
        rig.passes("at the end", ((OUTSIDE, connection.clone()), (INSIDE, connection.routed())));
    }
}
