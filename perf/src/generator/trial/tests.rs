//! Whole trials over memory: through a wire, through one that loses, and through one that is never emptied.

use std::net::Ipv4Addr;

use super::*;
use crate::generator::clients::{Clients, Families};
use crate::generator::connection::{Habits, State};
use crate::generator::memory::{Device, Pool};

const HERTZ: f64 = 1e9;
/// What one turn takes by the test's clock.
const TURN: u64 = 5_000;

fn clients(count: u32, families: Families) -> Clients {
    Clients {
        count,
        families,
        first_v4: Ipv4Addr::new(20, 0, 0, 1),
        first_v6: "2001:db8:c::1".parse().unwrap(),
        service_v4: Ipv4Addr::new(198, 51, 100, 10),
        service_v6: "2001:db8:1::a".parse().unwrap(),
        service_port: 80,
    }
}

fn trial(number: u16) -> Trial {
    Trial { number, seconds: 0.05, hertz: HERTZ, answered: true, responses: Size::Imix }
}

/// Wires whose two devices are joined, with `room` frames on each way.
fn joined(room: Option<usize>) -> (Wires<Device, Pool>, [Device; 2]) {
    let outside = Device { room, ..Device::default() };
    let inside = Device { to_us: outside.from_us.clone(), from_us: outside.to_us.clone(), room };
    let mac = |last| MacAddr::new([2, 0, 0, 0, 0, last]);
    let wires = Wires::new(Pool, (outside.clone(), mac(0xfe), mac(1)), (inside.clone(), mac(0x11), mac(2)));
    (wires, [outside, inside])
}

/// A clock that moves on by a turn at each look, and counts the turns.
fn clock() -> impl FnMut() -> u64 {
    let mut now = 1_000_000;
    move || {
        now += TURN;
        now
    }
}

#[test]
fn every_datagram_and_every_answer_is_counted_once() {
    let (mut wires, _) = joined(None);
    let clients = clients(1_000, Families::Both);
    let order = (0..1_000).rev().collect();
    let mut streams = [Stream::datagrams(Side::Outside, 1e6, clients, order, Size::Imix)];
    for number in 1..3 {
        let tally = wires.run(&mut streams, &trial(number), clock()).unwrap();
        assert!((49_900..=50_000).contains(&tally.sent[0]), "{tally:?}");
        assert_eq!(tally.sent, [tally.done; 2], "{tally:?}");
        assert_eq!([tally.received[1], tally.received[0]], tally.sent);
        assert_eq!((tally.lost(), tally.late, tally.refused, tally.reordered), (0, 0, [0; 2], 0));
        assert_eq!((tally.malformed, tally.strange, tally.without_buffer), (0, 0, 0));
        assert!(tally.latency.packets() >= 12_000, "{tally:?}");
        // Answers are seen in the turn after the one they were sent in.
        assert!(tally.latency.max_us() <= 2.0 * 5.1, "{tally:?}");
    }
}

#[test]
fn connections_open_ask_and_close_and_their_ports_are_used_again_after_a_rest() {
    let (mut wires, _) = joined(None);
    let habits = Habits { exchanges: Some(2), request: 64, time_wait_ms: 5 };
    let mut streams = [Stream::connections(Side::Outside, 1e5, clients(2_000, Families::Both), habits)];
    let tally = wires.run(&mut streams, &trial(1), clock()).unwrap();
    let counts = tally.connections;
    assert!(counts.opened > 2_000, "{tally:?}");
    assert_eq!((counts.established, counts.closed, counts.answered), (counts.opened, counts.opened, counts.opened * 2));
    assert_eq!((counts.reset, counts.given_up, counts.repeated, counts.stray), (0, 0, 0, 0));
    // SYN, ACK, two requests, FIN, ACK; SYN+ACK, two answers, FIN+ACK.
    assert_eq!(tally.sent, [counts.opened * 6, counts.opened * 4]);
    assert_eq!((tally.lost(), tally.malformed, tally.strange), (0, 0, 0));
    assert_eq!(streams[0].connections_in(State::TimeWait) + streams[0].connections_in(State::Closed), 2_000);
}

#[test]
fn what_the_device_does_not_take_is_lost_and_said_so() {
    let (mut wires, [outside, _]) = joined(Some(10));
    // Nothing comes back from a device that nobody empties.
    let dead = Device { room: Some(100), ..Device::default() };
    wires.ends[1].nic = dead;
    let order = (0..10).collect();
    let mut streams = [Stream::datagrams(Side::Outside, 1e5, clients(10, Families::V4), order, Size::Bytes(64))];
    let tally = wires.run(&mut streams, &trial(1), clock()).unwrap();
    assert_eq!((tally.refused[0], tally.arrived()), (tally.sent[0] - 10, 0));
    assert_eq!(tally.lost(), tally.sent[0]);
    assert_eq!(outside.from_us.lock().unwrap().len(), 10);
}

#[test]
fn packets_of_an_earlier_trial_and_of_others_do_not_count() {
    let (mut wires, [outside, _]) = joined(None);
    let order: Vec<u32> = (0..10).collect();
    let mut streams = [Stream::datagrams(Side::Outside, 1e5, clients(10, Families::V4), order, Size::Bytes(64))];
    wires.run(&mut streams, &trial(1), clock()).unwrap();
    // One frame of trial 1 and one that is nobody's arrive while trial 2 runs.
    let mut old = Pool.allocate().unwrap();
    let packet = wires.client_packet(Side::Outside, &streams[0].clients, 0);
    assert!(Packet { payload: 18, ..packet }.write(&mut old, Some(&Stamp::new(1, 0, 0))));
    let mut noise = Pool.allocate().unwrap();
    assert!(noise.resize(60));
    let late = [old, noise];
    let mut turns = 0;
    let mut now = 1_000_000;
    let tally = wires
        .run(&mut streams, &trial(2), || {
            turns += 1;
            if turns == 100 {
                outside.from_us.lock().unwrap().extend(late.clone());
            }
            now += TURN;
            now
        })
        .unwrap();
    assert_eq!((tally.lost(), tally.strange, tally.reordered), (0, 1, 0));
    assert_eq!([tally.received[1], tally.received[0]], tally.sent);
}
