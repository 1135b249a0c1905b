//! Floods that open nothing: what they may cost, and what they may not.

use millrace_tests::packet::{Packet, ping, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, Side, Talk, flood_of};
use stage::DropReason::{FirewallDenied, HalfOpenLimited, NoSession, RuleRateLimited, SourceSessionsLimited};
use units::Nanos;
use units::limits::ORIGINATED_PER_SECOND;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

/// Puts `count` packets in, a few hundred at a time, all at one moment; returns how many came out.
fn flood(rig: &mut Rig, count: u32, packet: impl Fn(u32) -> Packet) -> usize {
    rig.take();
    let mut out = 0;
    for number in 0..count {
        rig.put(OUTSIDE, &packet(number));
        if number % 250 == 249 || number + 1 == count {
            rig.settle();
            out += rig.take().len();
        }
    }
    out
}

fn anyone(number: u32) -> String {
    format!("198.51.100.{}:{}", 20 + number % 200, 1_024 + number / 200)
}

/// FLD-05: segments of no connection leave no state, and the answers to them are as many as a second allows, however many
/// there are. Meanwhile a connection goes on.
#[test]
fn segments_of_no_connection_leave_no_state_and_few_answers() {
    for (rejected, answers) in [(false, 0), (true, ORIGINATED_PER_SECOND)] {
        let mut rig = Rig::new(ALLOW);
        if rejected {
            rig = Rig::of(&millrace_tests::TWO_PORTS.replace("[sessions]", "[sessions]\nreject_unknown = true"));
        }
        rig.leap(Nanos::from_secs(10));
        let shapes: [fn(Packet) -> Packet; 3] = [|p| p.rst().seq(7), |p| p.fin(5).seq(7), |p| p.ack(5).seq(7)];
        let count = flood_of(9_000);
        let came = flood(&mut rig, count, |number| shapes[(number % 3) as usize](tcp(&anyone(number), "10.0.0.11:80")));
        assert_eq!((rig.session_count(), rig.count(|c| &c.sessions_opened)), (0, 0));
        assert_eq!(rig.dropped(NoSession), u64::from(count));
        assert!(came <= answers as usize, "{came} answers");
    }
}

/// FLD-07: echo to the appliance is answered as often as its rule allows, and no session is needed for it.
#[test]
fn echo_is_answered_to_the_limit() {
    let rules =
        "[[firewall.rule]]\nname = \"ping\"\naction = \"allow\"\nprotocol = \"icmp\"\nnew_sessions_per_second = 500\n";
    let mut rig = Rig::new(rules);
    rig.leap(Nanos::from_secs(10));
    let mut came = 0;
    for _ in 0..4 {
        came += flood(&mut rig, 2_500, |number| ping("198.51.100.7", "198.51.100.1", u16::try_from(number).unwrap()));
        rig.leap(Nanos::from_secs(1));
    }
    assert!((1_900..=2_100).contains(&came), "{came} answers in four seconds");
    assert_eq!(rig.session_count(), 0);
    assert_eq!(rig.dropped(RuleRateLimited), 10_000 - u64::try_from(came).unwrap());
}

/// FLD-10: a flood of what is logged is logged to the limit, the rest is counted.
#[test]
fn the_log_has_its_limit_whatever_is_denied() {
    let rules = "[firewall]\nlog_rate = 50\n[[firewall.rule]]\nname = \"noise\"\naction = \"deny\"\nlog = true\n";
    let mut rig = Rig::new(rules);
    rig.leap(Nanos::from_secs(10));
    rig.notes();
    let (mut lines, count) = (0, flood_of(3_000));
    for _ in 0..3 {
        flood(&mut rig, count, |number| udp(&anyone(number), "10.0.0.11:53"));
        lines += rig.notes().len();
        rig.leap(Nanos::from_secs(1));
    }
    assert!((100..=150).contains(&lines), "{lines} lines in three seconds");
    let count = 3 * u64::from(count);
    assert_eq!(rig.count(|c| &c.log_suppressed), count - lines as u64);
    assert_eq!(rig.dropped(FirewallDenied), count);
}

/// While `new_sessions_per_source` is on and forged sources use up every place of its table, an established connection goes
/// on, and whoever was not heard of before is not refused for others' sake.
#[test]
fn forged_sources_use_up_no_honest_ones_share() {
    let rules = "[[firewall.rule]]\nname = \"in\"\naction = \"allow\"\nnew_sessions_per_source = 5\n";
    let mut rig = Rig::of(&format!("{}{rules}", millrace_tests::TWO_PORTS.replace("4_096", "512")));
    let talk =
        Talk::tcp((OUTSIDE, "198.51.100.7:40000", "10.0.0.11:80"), (INSIDE, "198.51.100.7:40000", "10.0.0.11:80"));
    talk.open(&mut rig);
    for round in 0..8_u32 {
        flood(&mut rig, 2_500, |number| {
            let source = 0x0b00_0000 + round * 2_500 + number;
            let source = std::net::Ipv4Addr::from_bits(source);
            tcp(&format!("{source}:1"), "10.0.0.11:80").syn()
        });
        talk.chat(&mut rig);
    }
    assert!(rig.session_count() <= 512);
    let other =
        Talk::tcp((OUTSIDE, "198.51.100.8:40000", "10.0.0.11:80"), (INSIDE, "198.51.100.8:40000", "10.0.0.11:80"));
    other.open(&mut rig);
    talk.chat(&mut rig);
}

/// A service has no more handshakes under way than it may: what is established goes on, others' handshakes are theirs, and
/// there is room again as soon as some have ended, one way or the other.
#[test]
fn a_service_has_its_limit_of_handshakes_under_way() {
    for (mode, port) in [("nat", 8_080), ("direct", 80)] {
        let service = |name: &str, address: &str, backend: &str| {
            let port = if mode == "nat" { "port = 8080\n" } else { "" };
            format!(
                "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
                 mode = \"{mode}\"\nhalf_open_limit = 50\nhealth = {{ kind = \"none\" }}\n\
                 [[virtual_service.backend]]\nname = \"a\"\naddress = \"{backend}\"\n{port}"
            )
        };
        let both =
            service("shop", "198.51.100.10", "10.0.0.11") + &service("shop6", "2001:db8:51::10", "2001:db8:10::11");
        let mut rig = Rig::new(&format!("{ALLOW}{both}"));
        rig.put(OUTSIDE, &ping("2001:db8:51::9", "2001:db8:10::11", 1));
        rig.leap(Nanos::from_secs(11));
        let asks = |client: &str| (OUTSIDE, tcp(client, "198.51.100.10:80").syn().seq(1_000));
        rig.put(OUTSIDE, &asks("198.51.100.7:40000").1);
        rig.settle();
        rig.put(OUTSIDE, &tcp("198.51.100.7:40000", "198.51.100.10:80").ack(5_001).seq(1_001));
        rig.settle();
        if mode == "nat" {
            let answer = tcp(&format!("10.0.0.11:{port}"), "198.51.100.7:40000").syn_ack(1_001).seq(5_000);
            rig.put(INSIDE, &answer);
            rig.settle();
            rig.put(OUTSIDE, &tcp("198.51.100.7:40000", "198.51.100.10:80").ack(5_001).seq(1_001));
            rig.settle();
        }
        rig.take();
        let settled = rig.session_count();
        let came = flood(&mut rig, 1_000, |number| tcp(&anyone(number), "198.51.100.10:80").syn());
        let refused = rig.dropped(HalfOpenLimited);
        assert!((950..=951).contains(&refused), "{mode}: {refused} refused");
        assert_eq!(came as u64, 1_000 - refused);
        let six = flood(&mut rig, 1_000, |number| {
            tcp(&format!("[2001:db8:51::{:x}]:{}", 0x100 + number % 250, 1_024 + number), "[2001:db8:51::10]:80").syn()
        });
        assert_eq!(six, 50, "{mode}: a service of its own");
        rig.wait(6);
        assert_eq!(rig.session_count(), settled, "{mode}: the handshakes are over");
        assert_eq!(flood(&mut rig, 100, |number| tcp(&anyone(2_000 + number), "198.51.100.10:80").syn()), 50);
    }
}

/// A zone whose sources may have 100 sessions each.
const CAPPED: &str = "[[zone]]\nname = \"wan\"\nsessions_per_source = 100\n";

/// FLD-06: datagrams to every port open as many sessions as one source may have; its neighbours have their own, and what one
/// has given up it may have again.
#[test]
fn datagrams_to_all_ports_open_as_many_sessions_as_a_source_may_have() {
    let mut rig = Rig::new(&format!("{ALLOW}{CAPPED}"));
    let port = |number: u32| 1 + number % 65_535;
    // Where a port comes again, its session may be there.
    let refused = |count: u32| u64::from(count - count.div_ceil(65_535) * 100);
    let count = flood_of(20_000);
    flood(&mut rig, count, |number| udp("198.51.100.7:5000", &format!("10.0.0.11:{}", port(number))));
    assert_eq!((rig.session_count(), rig.dropped(SourceSessionsLimited)), (100, refused(count)));
    // All of one /64 is one source.
    flood(&mut rig, count, |number| {
        udp(&format!("[2001:db8:51::{:x}]:5000", 0x100 + number % 250), &format!("[2001:db8:10::11]:{}", port(number)))
    });
    assert_eq!(
        (rig.session_count(), rig.dropped(SourceSessionsLimited)),
        (200, refused(count) + u64::from(count) - 100)
    );
    let other = Talk::tcp((OUTSIDE, "198.51.100.8:1", "10.0.0.11:80"), (INSIDE, "198.51.100.8:1", "10.0.0.11:80"));
    other.open(&mut rig);
    other.chat(&mut rig);
    let other = udp("[2001:db8:99::8]:1", "[2001:db8:10::11]:53").via("2001:db8:51::fe");
    rig.passes(
        "another network",
        ((OUTSIDE, other.clone()), (INSIDE, udp("[2001:db8:99::8]:1", "[2001:db8:10::11]:53").routed())),
    );
    let inside = Talk::udp((INSIDE, "10.0.0.11:7", "198.51.100.7:7"), (OUTSIDE, "10.0.0.11:7", "198.51.100.7:7"));
    rig.passes("a zone without a limit", inside.up(|p| p));
    rig.wait(31);
    let again = flood(&mut rig, 300, |number| udp("198.51.100.7:6000", &format!("10.0.0.11:{}", port(number))));
    assert_eq!(again, 100);
}

/// STX-03: a scan of all ports of a host, and of many ports of sixteen, leaves no more half-open sessions than its source may
/// have, and none once they have timed out.
#[test]
fn a_port_scan_is_bounded_and_leaves_nothing() {
    let mut rig = Rig::new(&format!("{ALLOW}{CAPPED}"));
    flood(&mut rig, 65_535, |number| tcp("198.51.100.7:5000", &format!("10.0.0.11:{}", 1 + number)).syn());
    assert_eq!(rig.session_count(), 100);
    flood(&mut rig, 16 * 1_024, |number| {
        tcp("[2001:db8:51::7]:5000", &format!("[2001:db8:10::{:x}]:{}", 0x11 + number % 16, 1 + number / 16)).syn()
    });
    assert_eq!((rig.session_count(), rig.dropped(SourceSessionsLimited)), (200, 65_535 + 16 * 1_024 - 200));
    rig.wait(6);
    assert_eq!(rig.session_count(), 0);
}

/// What a source has taken is given back also where its port is in another zone by then.
#[test]
fn a_source_whose_port_changes_its_zone_gets_back_what_it_gave_up() {
    let limit = "[[zone]]\nname = \"dmz\"\nsessions_per_source = 100\n";
    let apart = format!("{}{ALLOW}{limit}", millrace_tests::TWO_PORTS);
    let together = apart.replace(limit, "").replace("zone = \"dmz\"", "zone = \"wan\"");
    for (source, server) in [("10.0.0.11", "198.51.100.7:53"), ("[2001:db8:10::11]", "[2001:db8:51::7]:53")] {
        let mut rig = Rig::of(&apart);
        let open = |rig: &mut Rig, from: u32| {
            for number in 0..300 {
                rig.put(INSIDE, &udp(&format!("{source}:{}", from + number), server));
                rig.settle();
            }
            rig.take();
            rig.session_count()
        };
        assert_eq!(open(&mut rig, 1_000), 100);
        rig.publish(&together);
        rig.wait(40);
        assert_eq!(rig.session_count(), 0);
        rig.publish(&apart);
        assert_eq!(open(&mut rig, 2_000), 100);
    }
}

/// The limit is one for all workers together, holds across policies, and counts a session however it ends.
#[test]
fn the_limit_of_a_source_is_one_for_all_workers_and_policies() {
    let text = |limit: &str| format!("{}{ALLOW}{limit}", millrace_tests::TWO_PORTS);
    let two = Layout { workers: 2, ..Layout::default() };
    let mut rig = Rig::laid_out(&text(CAPPED), two);
    let scan = |rig: &mut Rig, from: u32| {
        flood(rig, 400, |number| udp(&format!("198.51.100.7:{}", from + number), "10.0.0.11:53"))
    };
    scan(&mut rig, 1_000);
    let by_worker = rig.sessions_by_worker();
    assert!(by_worker.iter().all(|&sessions| sessions > 10), "{by_worker:?}");
    assert_eq!(by_worker.iter().sum::<usize>(), 100);
    rig.publish(&text(""));
    scan(&mut rig, 2_000);
    assert_eq!(rig.session_count(), 500, "without a limit");
    rig.publish(&text(CAPPED));
    scan(&mut rig, 3_000);
    assert_eq!(rig.session_count(), 500, "those that were counted still are");
    rig.wait(31);
    assert_eq!(rig.session_count(), 0);
    assert_eq!(scan(&mut rig, 4_000), 100);
}

/// FLD-10: who floods is known, plain packets and others, refused and let in, and who only talks is not.
#[test]
fn who_floods_stands_out() {
    let rules = "[firewall]\ndefault = \"allow\"\n[[firewall.rule]]\nname = \"no\"\naction = \"deny\"\nprotocol = \"udp\"\ndestination_port = [\"9\"]\n";
    let mut rig = Rig::new(rules);
    let talk =
        Talk::tcp((OUTSIDE, "198.51.100.7:40000", "10.0.0.11:80"), (INSIDE, "198.51.100.7:40000", "10.0.0.11:80"));
    talk.open(&mut rig);
    for _ in 0..50 {
        talk.chat(&mut rig);
    }
    assert_eq!(rig.talks("198.51.100.7").sum(), 1, "its first packet");
    flood(&mut rig, 8_000, |number| udp(&anyone(number), "10.0.0.11:9"));
    flood(&mut rig, 4_000, |_| udp("198.51.100.8:1", "10.0.0.11:9"));
    flood(&mut rig, 2_000, |number| udp("198.51.100.9:1", &format!("10.0.0.11:{}", 1_000 + number)));
    flood(&mut rig, 2_000, |_| udp("[2001:db8:51::8]:1", "[2001:db8:10::11]:9").extension(0, &[0, 1, 4, 0, 0, 0, 0]));
    let near = |count: u64, expected: u64| count.abs_diff(expected) < expected / 4;
    let (denied, opener, six) = (rig.talks("198.51.100.8"), rig.talks("198.51.100.9"), rig.talks("2001:db8:51::"));
    assert!(near(denied.dropped, 4_000) && denied.opened == 0, "{denied:?}");
    assert!(near(opener.opened, 2_000) && opener.dropped == 0, "{opener:?}");
    assert!(near(six.dropped, 2_000), "{six:?}");
    rig.wait(20);
    assert_eq!(rig.talks("198.51.100.8").sum(), 0, "it is over");
}

/// FLD-10: who sends what is no packet is known by the addresses it claims, where it has an IP header to claim them.
#[test]
fn who_sends_malformed_packets_stands_out() {
    let mut rig = Rig::new(ALLOW);
    let kinds: [fn() -> Packet; 5] = [
        || udp("198.51.100.8:1", "10.0.0.11:9").wrong_checksum(1),
        || udp("198.51.100.8:1", "10.0.0.11:9").wrong_ip_checksum(1),
        || udp("198.51.100.8:1", "10.0.0.11:9").header_words(15),
        || tcp("[2001:db8:51::8]:1", "[2001:db8:10::11]:9").syn().data_offset(3),
        || udp("198.51.100.8:1", "10.0.0.11:9").version(5),
    ];
    for kind in kinds {
        flood(&mut rig, 1_000, |_| kind());
    }
    let near = |count: u64, expected: u64| count.abs_diff(expected) < expected / 4;
    let (four, six) = (rig.talks("198.51.100.8"), rig.talks("2001:db8:51::"));
    assert!(near(four.dropped, 3_000) && four.opened == 0, "{four:?}");
    assert!(near(six.dropped, 1_000), "{six:?}");
}

/// FLD-08: while one flow keeps a worker busy, what the kernel sends (health probes, adverts of routing protocols) leaves with
/// the next turn, not behind the flow.
#[test]
fn a_flow_at_full_rate_does_not_hold_up_the_kernel() {
    let mut rig = Rig::new(ALLOW);
    let talk = Talk::udp((OUTSIDE, "198.51.100.7:1", "10.0.0.11:9"), (INSIDE, "198.51.100.7:1", "10.0.0.11:9"));
    rig.passes("its first packet", talk.up(|p| p));
    let (flow, _) = talk.up(|p| p);
    for _ in 0..1_500 {
        rig.put(flow.0, &flow.1);
    }
    rig.put(OUTSIDE_KERNEL, &udp("198.51.100.1:179", "198.51.100.7:179"));
    rig.turn();
    rig.collect();
    let out = rig.take();
    let (kernels, flows): (Vec<_>, Vec<_>) = out.iter().partition(|(side, _): &&(Side, Vec<u8>)| *side == OUTSIDE);
    assert_eq!(kernels.len(), 1, "the kernel's packet has left");
    assert!(flows.len() < 200, "{} of the flow before it", flows.len());
    rig.settle();
    assert_eq!(rig.take().len(), 1_500 - flows.len());
}
