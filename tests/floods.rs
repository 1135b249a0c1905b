//! Floods that open nothing: what they may cost, and what they may not.

use millrace_tests::packet::{Packet, ping, tcp, udp};
use millrace_tests::{INSIDE, OUTSIDE, Rig, Talk};
use stage::DropReason::{FirewallDenied, NoSession, RuleRateLimited};
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
        let came = flood(&mut rig, 9_000, |number| shapes[(number % 3) as usize](tcp(&anyone(number), "10.0.0.11:80")));
        assert_eq!((rig.session_count(), rig.count(|c| &c.sessions_opened)), (0, 0));
        assert_eq!(rig.dropped(NoSession), 9_000);
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
    let mut lines = 0;
    for _ in 0..3 {
        flood(&mut rig, 3_000, |number| udp(&anyone(number), "10.0.0.11:53"));
        lines += rig.notes().len();
        rig.leap(Nanos::from_secs(1));
    }
    assert!((100..=150).contains(&lines), "{lines} lines in three seconds");
    assert_eq!(rig.count(|c| &c.log_suppressed), 9_000 - lines as u64);
    assert_eq!(rig.dropped(FirewallDenied), 9_000);
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
