//! Any frames into the whole pipeline, with turns and time between them: the rig's standing assertions hold.
//!
//! The input is a row of records: a byte that says what happens (a frame at one of four sides, turns, time), for a frame a
//! byte of how much of its length is wanted, and the frame.
#![no_main]

use std::sync::{Arc, LazyLock};

use config::Policy;
use libfuzzer_sys::fuzz_target;
use millrace_tests::{INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, TWO_PORTS};
use units::Nanos;
use wire::{Verify, dissect};

const POLICY: &str = include_str!("pipeline.toml");

/// Compiled once; each input has workers of its own.
static TABLES: LazyLock<(Policy, Arc<millrace_tests::rig::Snapshot>)> =
    LazyLock::new(|| Rig::tables(&format!("{TWO_PORTS}{POLICY}").replace("capacity = 4_096", SESSIONS)));

/// A table that fills, and sessions that end soon: an input is over when the last has.
const SESSIONS: &str = "capacity = 32\n\
    timeouts = { tcp_established = \"25s\", tcp_closing = \"20s\", udp_two_way = \"20s\", other = \"20s\" }";

fuzz_target!(|input: &[u8]| {
    let (policy, snapshot) = &*TABLES;
    let workers = 1 + u16::from(input.first().is_some_and(|byte| byte & 0x80 != 0));
    let layout = Layout { workers, queues: 1, buffers: 64 };
    let mut rig = Rig::over(policy.clone(), Arc::clone(snapshot), layout);
    let mut rest = input;
    while let [what, behind @ ..] = rest {
        rest = behind;
        match what & 0x0f {
            0..=9 => {
                let Some((&len, behind)) = rest.split_first() else { break };
                let (frame, behind) = behind.split_at(usize::from(len).min(behind.len()));
                rest = behind;
                let side = if what & 1 == 0 { OUTSIDE } else { INSIDE };
                // The device's MAC in front, so that not every frame ends there.
                let mut bytes = frame.to_vec();
                if let Some(mac) = bytes.get_mut(..6)
                    && what & 0x40 == 0
                {
                    mac.copy_from_slice(&rig.mac(side).octets());
                }
                rig.put_bytes(side, &bytes);
            }
            10 | 11 => {
                let Some((&len, behind)) = rest.split_first() else { break };
                let (frame, behind) = behind.split_at(usize::from(len).min(behind.len()));
                rest = behind;
                let side = if what & 1 == 0 { OUTSIDE_KERNEL } else { INSIDE_KERNEL };
                // The kernel sends what is right.
                if dissect(frame, Verify::All).is_ok() {
                    rig.put_bytes(side, frame);
                }
            }
            12 => {
                rig.turn();
            }
            13 => rig.settle(),
            14 => rig.leap(Nanos::from_millis(u64::from(*what) * 20)),
            _ => rig.leap(Nanos::from_secs(u64::from(*what) / 4)),
        }
    }
    rig.settle();
    rig.take();
    rig.assert_accounted();
});
