//! Any packets in any order, with whatever else happens between them: nothing panics, every packet is accounted for once,
//! every buffer comes back, every session ends (the rig's standing assertions, A1 to A5).

use millrace_tests::packet::{
    Macs, Packet, advertisement, arp_reply, arp_request, end, host, icmp_error, ip, ping, pong, solicitation, station,
    tcp, udp,
};
use millrace_tests::{INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, TWO_PORTS};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use stage::balancer::Health;
use units::Nanos;
use wire::MacAddr;

const POLICY: &str = r#"
[firewall]
default = "allow"
log_rate = 3
[[firewall.rule]]
name = "no"
action = "reject"
log = true
destination_port = ["23"]
protocol = "tcp"
[[firewall.rule]]
name = "few"
action = "allow"
protocol = "udp"
new_sessions_per_second = 20
new_sessions_per_source = 5
[[source_nat]]
name = "hide"
from = ["dmz"]
to = ["wan"]
address = ["198.51.100.1", "2001:db8:51::1"]
[[virtual_service]]
name = "shop"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
drain_timeout = "2s"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
port = 8080
[[virtual_service.backend]]
name = "b"
address = "10.0.0.12"
port = 8080
[[virtual_service]]
name = "dns"
address = "2001:db8:51::53"
protocol = "udp"
ports = ["53"]
mode = "full-nat"
source_address = ["2001:db8:10::1"]
algorithm = "maglev"
health = { kind = "icmp" }
[[virtual_service.backend]]
name = "a"
address = "2001:db8:10::11"
port = 5353
[[virtual_service]]
name = "direct"
address = "198.51.100.20"
protocol = "udp"
ports = ["1-65535"]
mode = "direct"
health = { kind = "icmp" }
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
"#;

/// What a policy may change to and back.
const OTHER: &str =
    "[firewall]\ndefault = \"deny\"\n[[firewall.rule]]\nname = \"few\"\naction = \"allow\"\nfrom = [\"wan\"]\n";

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Packet(Side, Packet),
    Mutated(Side, Packet, Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>),
    Bytes(Side, Vec<u8>),
    Turn,
    Settle,
    Time(u64),
    Publish(bool),
    Health(&'static str, &'static str, Health),
    Drain,
    Flush,
    Jam(Side, bool),
    Silence(&'static str),
}

const OUTER: [&str; 6] =
    ["198.51.100.7", "198.51.100.8", "203.0.113.9", "198.51.100.1", "198.51.100.10", "198.51.100.20"];
const INNER: [&str; 5] = ["10.0.0.11", "10.0.0.12", "10.0.0.66", "10.0.0.1", "192.0.2.1"];
const OUTER6: [&str; 4] = ["2001:db8:51::7", "2001:db8:99::8", "2001:db8:51::1", "2001:db8:51::53"];
const INNER6: [&str; 4] = ["2001:db8:10::11", "2001:db8:10::66", "2001:db8:10::1", "2001:db8:77::1"];

fn hosts() -> impl Strategy<Value = (&'static str, &'static str)> {
    let all = |a: &'static [&'static str]| prop::sample::select(a.to_vec());
    prop_oneof![
        3 => (all(&OUTER[..3]), all(&INNER)),
        3 => (all(&INNER[..3]), all(&OUTER)),
        3 => (all(&OUTER[..3]), all(&OUTER)),
        2 => (all(&OUTER6[..2]), all(&INNER6)),
        2 => (all(&INNER6[..2]), all(&OUTER6)),
        2 => (all(&OUTER6[..2]), all(&OUTER6)),
        1 => (all(&OUTER), all(&OUTER)),
    ]
}

fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![Just(80_u16), Just(8080), Just(53), Just(5353), Just(23), 2_000..2_004_u16, 1..=u16::MAX]
}

fn sequences() -> impl Strategy<Value = u32> {
    prop_oneof![1_000..1_010_u32, 5_000..5_010_u32, Just(0), any::<u32>()]
}

fn packets() -> impl Strategy<Value = Packet> {
    let data = prop::collection::vec(any::<u8>(), 0..100);
    let flags = prop_oneof![4 => Just(0x02_u8), 4 => Just(0x12), 6 => Just(0x10), 2 => Just(0x11), 2 => Just(0x04), 1 => Just(0x14), 1 => any::<u8>()];
    let transport = (hosts(), ports(), ports(), flags, sequences(), sequences(), data);
    let base = (0..8_u8, transport).prop_map(|(kind, ((from, to), source, destination, flags, seq, ack, data))| {
        let (from_end, to_end) = (end(from, source), end(to, destination));
        match kind {
            0..=2 => tcp(&from_end, &to_end).flags(flags).seq(seq).acknowledging(ack).data(&data),
            3 | 4 => udp(&from_end, &to_end).data(&data),
            5 => ping(from, to, source),
            6 => pong(from, to, source),
            _ => ip(from, to, 47, &data),
        }
    });
    let base = (base, 0..100_u8).prop_map(|(packet, hops)| if hops < 4 { packet.hops(hops) } else { packet });
    let base = base.boxed();
    let about = (base.clone(), hosts(), 0..3_u8, 20..200_usize);
    let errors = about.prop_map(|(about, (from, to), kind, quoted)| {
        let v4 = about.addresses().is_some_and(|(source, _)| source.is_ipv4());
        let (from, to) = match (v4, from.contains(':')) {
            (true, true) => ("10.0.0.11", "198.51.100.7"),
            (false, false) => ("2001:db8:10::11", "2001:db8:51::7"),
            _ => (from, to),
        };
        let (kind, code) = if v4 { [(3, 3), (3, 4), (11, 0)] } else { [(1, 4), (2, 0), (3, 0)] }[usize::from(kind)];
        icmp_error(from, to, kind, code, 1_280, &about, quoted)
    });
    let arp = (prop::sample::select(OUTER[..2].to_vec()), prop::sample::select(OUTER.to_vec()));
    let neighbors = (arp, 0..4_u8).prop_map(|((from, to), kind)| match kind {
        0 => arp_request(from, to),
        1 => arp_reply(station(from.parse().unwrap()), from, MacAddr::new([2, 0xff, 0, 0, 0, 1]), "198.51.100.1"),
        2 => solicitation("2001:db8:51::7", "2001:db8:51::53"),
        _ => advertisement("2001:db8:51::7", "2001:db8:51::1"),
    });
    prop_oneof![10 => base, 2 => errors, 1 => neighbors]
}

/// Packets of connections that could be real ones: a few ends, and every phase, in any order.
fn conversations() -> impl Strategy<Value = (Side, Packet)> {
    let server = prop_oneof![Just("10.0.0.11"), Just("10.0.0.12")];
    (0..5_u8, server, 2_000..2_006_u16, 0..9_u8).prop_map(|(kind, server, port, phase)| {
        let (near, far) = match kind {
            0 => (
                (OUTSIDE, end("198.51.100.7", port), end(server, 99)),
                (INSIDE, end("198.51.100.7", port), end(server, 99)),
            ),
            1 => (
                (OUTSIDE, end("198.51.100.7", port), end("198.51.100.10", 80)),
                (INSIDE, end("198.51.100.7", port), end(server, 8080)),
            ),
            2 => (
                (INSIDE, end(server, port), end("198.51.100.8", 443)),
                (OUTSIDE, end("198.51.100.1", port), end("198.51.100.8", 443)),
            ),
            3 => (
                (OUTSIDE, end("2001:db8:51::7", port), end("2001:db8:10::11", 99)),
                (INSIDE, end("2001:db8:51::7", port), end("2001:db8:10::11", 99)),
            ),
            _ => (
                (OUTSIDE, end("2001:db8:51::7", port), end("2001:db8:51::53", 53)),
                (INSIDE, end("2001:db8:10::1", port), end("2001:db8:10::11", 5353)),
            ),
        };
        if kind == 4 {
            return if phase < 5 { (near.0, udp(&near.1, &near.2)) } else { (far.0, udp(&far.2, &far.1)) };
        }
        let (up, down) = (tcp(&near.1, &near.2), tcp(&far.2, &far.1));
        match phase {
            0 => (near.0, up.syn().seq(1_000)),
            1 => (far.0, down.syn_ack(1_001).seq(5_000)),
            2 => (near.0, up.ack(5_001).seq(1_001)),
            3 => (near.0, up.ack(5_001).seq(1_001).data(b"up")),
            4 => (far.0, down.ack(1_003).seq(5_001).data(b"down")),
            5 => (near.0, up.fin(5_001).seq(1_003)),
            6 => (far.0, down.fin(1_004).seq(5_005)),
            7 => (near.0, up.rst().seq(1_001)),
            _ => {
                let about = tcp(&far.1, &far.2).ack(5_001).seq(1_001).hops(1);
                let kind = if far.1.contains('[') { 1 } else { 3 };
                (far.0, icmp_error(host(&far.2), host(&far.1), kind, 0, 0, &about, 300))
            }
        }
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(OUTSIDE), Just(INSIDE)];
    let kernel = prop_oneof![Just(OUTSIDE_KERNEL), Just(INSIDE_KERNEL)];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let healths = prop_oneof![Just(Health::Up), Just(Health::Failed)];
    prop_oneof![
        40 => (side.clone(), packets()).prop_map(|(side, packet)| Step::Packet(side, packet)),
        60 => conversations().prop_map(|(side, packet)| Step::Packet(side, packet)),
        5 => (kernel, packets()).prop_map(|(side, packet)| Step::Packet(side, packet)),
        15 => (side.clone(), packets(), changes, any::<Option<prop::sample::Index>>())
            .prop_map(|(side, packet, changes, cut)| Step::Mutated(side, packet, changes, cut)),
        3 => (side.clone(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(side, bytes)| Step::Bytes(side, bytes)),
        10 => Just(Step::Turn),
        10 => Just(Step::Settle),
        6 => (0..20_000_u64).prop_map(Step::Time),
        1 => any::<bool>().prop_map(Step::Publish),
        2 => (prop::sample::select(vec![("shop", "a"), ("shop", "b"), ("dns", "a"), ("direct", "a")]), healths)
            .prop_map(|((service, backend), health)| Step::Health(service, backend, health)),
        1 => Just(Step::Drain),
        1 => Just(Step::Flush),
        2 => (side, any::<bool>()).prop_map(|(side, jammed)| Step::Jam(side, jammed)),
        1 => prop::sample::select(vec!["10.0.0.66", "198.51.100.8", "2001:db8:10::66"]).prop_map(Step::Silence),
    ]
}

/// What the kernel sends is right: only packets with right sums and sane addresses come from there.
fn sane_for_kernel(side: Side, bytes: &[u8]) -> bool {
    matches!(side, Side::Wire(_)) || wire::dissect(bytes, wire::Verify::All).is_ok()
}

fn run(layout: Layout, steps: &[Step]) {
    let whole = format!("{TWO_PORTS}{POLICY}");
    let whole = whole.replace("capacity = 4_096", "capacity = 12");
    let other = format!("{TWO_PORTS}{OTHER}").replace("capacity = 4_096", "capacity = 12");
    let mut rig = Rig::laid_out(&whole, layout);
    let mut has_services = true;
    for step in steps {
        match step {
            Step::Packet(side, packet) => {
                let bytes = rig.inward(*side, packet);
                if sane_for_kernel(*side, &bytes) {
                    rig.put_bytes(*side, &bytes);
                }
            }
            Step::Mutated(side, packet, changes, cut) => {
                let mut bytes = packet.bytes(Macs::Inward(rig.mac(*side)));
                for (at, value) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *value;
                }
                if let Some(cut) = cut {
                    bytes.truncate(cut.index(bytes.len() + 1));
                }
                rig.put_bytes(*side, &bytes);
            }
            Step::Bytes(side, bytes) => {
                rig.put_bytes(*side, bytes);
            }
            Step::Turn => {
                rig.turn();
            }
            Step::Settle => rig.settle(),
            Step::Time(millis) => rig.leap(Nanos::from_millis(*millis)),
            Step::Publish(services) => {
                has_services = *services;
                rig.publish(if has_services { &whole } else { &other });
            }
            Step::Health(service, backend, health) if has_services => rig.health(service, backend, *health),
            Step::Drain if has_services => rig.drain("shop", "a"),
            Step::Flush if has_services => {
                rig.flush("shop", "b");
            }
            Step::Health(..) | Step::Drain | Step::Flush => {}
            Step::Jam(side, jammed) => rig.jam(*side, *jammed),
            Step::Silence(address) => rig.silence(address),
        }
    }
    rig.jam(OUTSIDE, false);
    rig.jam(INSIDE, false);
    rig.settle();
    rig.take();
    rig.assert_accounted();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("fixtures/regressions/pipeline_accounting.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_packet_is_accounted_for_whatever_happens(steps in prop::collection::vec(steps(), 1..160)) {
        run(Layout { buffers: 256, ..Layout::default() }, &steps);
    }

    #[test]
    fn also_with_two_workers(steps in prop::collection::vec(steps(), 1..160)) {
        run(Layout { workers: 2, queues: 1, buffers: 48 }, &steps);
    }
}
