//! Two workers over ports with one queue each: whatever worker a packet arrives at, its session's owner treats it, and
//! clients see what they see with one.

use millrace_tests::net::{Appliance, Claims, Lab, taps_named_as_wires};

#[test]
fn two_workers_over_packet_sockets_keep_every_promise_of_one() {
    let Some(lab) = Lab::wired("two_workers_over_packet_sockets_keep_every_promise_of_one", Claims::PROGRAMS) else {
        return;
    };
    let claims = Claims::serve(&lab);
    let appliance = Appliance::start(&lab, &lab.edge().replacing("workers = [1]", "workers = [0, 1]"));
    claims.hold(&appliance);
    let sessions: Vec<_> = appliance.of_each_worker("rx_packets");
    assert_eq!(sessions.len(), 2);
    appliance.stop();
}

#[test]
fn two_workers_over_tap_devices_keep_every_promise_of_one() {
    let Some(lab) = Lab::bare("two_workers_over_tap_devices_keep_every_promise_of_one", Claims::PROGRAMS) else {
        return;
    };
    let configuration = taps_named_as_wires(lab.edge()).replacing("workers = [1]", "workers = [0, 1]");
    let appliance = Appliance::launch(&lab, &configuration);
    lab.plug_taps();
    let claims = Claims::serve(&lab);
    appliance.wait_for_backends();
    claims.hold(&appliance);
    appliance.stop();
}
