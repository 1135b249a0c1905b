//! Any bytes as sessions that another process has left: there is an image or none, an image is written as it was read, and whatever images
//! say, the appliance that takes them up stands: packets of theirs pass or are dropped, and at the end nothing is left.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millrace_tests::packet::{end, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use stage::balancer::key_of_name;
use units::Nanos;
use worker::{Lease, SessionImage};

/// Few sessions that end soon, and every kind of pool and backend.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let bounds = "capacity = 32\n\
        timeouts = { tcp_established = \"25s\", tcp_closing = \"20s\", udp_two_way = \"20s\", other = \"20s\" }";
    format!("{TWO_PORTS}{}", include_str!("pipeline.toml")).replace("capacity = 4_096", bounds)
});

/// Keys of the policy's names: of ports, of pools, of backends.
static KEYS: LazyLock<[Vec<u64>; 3]> = LazyLock::new(|| {
    let (_, snapshot) = Rig::tables(&POLICY);
    let ports = snapshot.ports.iter().map(|port| key_of_name(&port.name));
    let pools = snapshot.pool_uses.iter().map(|pool| key_of_name(pool.name()));
    let members = snapshot.services.iter().flat_map(|service| service.members());
    [ports.collect(), pools.collect(), members.map(|member| member.backend.key()).collect()]
});

/// A key that means something, for most that mean nothing.
fn known(keys: &[u64], key: u64) -> u64 {
    let place = usize::try_from(key % (keys.len() as u64 + 1)).unwrap_or(0);
    keys.get(place).copied().unwrap_or(key)
}

fuzz_target!(|bytes: &[u8]| {
    let [ports, pools, backends] = &*KEYS;
    let (mut rest, mut images) = (bytes, Vec::new());
    while let Some((mut image, behind)) = SessionImage::decode(rest) {
        let mut again = Vec::new();
        image.encode(&mut again);
        assert_eq!(again, rest[..rest.len() - behind.len()]);
        rest = behind;
        image.ports = image.ports.map(|key| known(ports, key));
        image.backend = image.backend.map(|key| known(backends, key));
        if let Lease::Port { pool } | Lease::Mapping { pool, .. } = &mut image.lease {
            *pool = known(pools, *pool);
        }
        image.history.idle %= 64;
        images.push(image);
    }
    if images.is_empty() {
        return;
    }
    let workers = 1 + u16::from(bytes.len() % 2 == 1);
    let (mut rig, _) = Rig::heir(&POLICY, Layout { workers, queues: 1, buffers: 64 }, &images, Nanos::ZERO);
    for image in &images {
        for ends in [image.original, image.reply] {
            let (from, to) = (ends.source.to_string(), ends.destination.to_string());
            let (from, to) = (end(&from, ends.source_port), end(&to, ends.destination_port));
            for side in [OUTSIDE, INSIDE] {
                for packet in [tcp(&from, &to).ack(1).seq(1), udp(&from, &to)] {
                    let bytes = rig.inward(side, &packet);
                    rig.put_bytes(side, &bytes);
                }
            }
            rig.settle();
        }
    }
});
