//! The same promises over TAP devices (`net_tap`): the kernel's end of each is given to the client and to the servers'
//! switch.

use millrace_tests::net::{Appliance, Claims, Lab, taps_named_as_wires};

#[test]
fn edge_toml_over_tap_devices_does_what_it_says() {
    let Some(lab) = Lab::bare("edge_toml_over_tap_devices_does_what_it_says", Claims::PROGRAMS) else { return };
    let appliance = Appliance::launch(&lab, &taps_named_as_wires(lab.edge()));
    lab.plug_taps();
    let claims = Claims::serve(&lab);
    appliance.wait_for_backends();
    claims.hold(&appliance);
    appliance.stop();
}
