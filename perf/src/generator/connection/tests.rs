//! A client and a server talk over a network that loses and repeats segments, under the eyes of the appliance's own tracker,
//! which must find fault with none of them.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use session::tcp_state::observe;
use session::{Direction, HashSecret, Kind, NewSession, Pickup, Slot, Table, TcpOutcome, Tuple};
use units::Tick;
use wire::{SeqNumber, Tcp};

use super::*;
use crate::generator::server;

const HABITS: Habits = Habits { exchanges: Some(3), request: 100, time_wait_ms: 1_000 };

/// The appliance in the middle: its table with one place.
struct Middle {
    table: Table<Ipv4Addr>,
    slot: Option<Slot>,
}

impl Middle {
    fn new() -> Self {
        Self { table: Table::new(1, HashSecret::from_seed(1)).unwrap(), slot: None }
    }

    fn open(&mut self, tcp: &Tcp) {
        if let Some(slot) = self.slot.take() {
            self.table.remove(slot);
        }
        let tuple = Tuple {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(198, 51, 100, 1),
            source_port: 40_000,
            destination_port: 80,
        };
        let opening = session::open(tcp, Pickup::Strict);
        assert!(opening.is_some(), "{tcp:?} opens nothing");
        let new = NewSession { tcp: opening, ..NewSession::new(Kind::Tcp, tuple, tuple.reversed()) };
        self.slot = Some(self.table.insert(&new, Tick::new(0)).unwrap());
    }

    /// Judges a segment; `lossy` forgives what a reset after a loss looks like.
    fn pass(&mut self, direction: Direction, out: &Outgoing) {
        let Outgoing { segment, payload } = *out;
        let tcp = Tcp {
            source_port: 40_000,
            destination_port: 80,
            sequence: SeqNumber::new(segment.sequence),
            acknowledgment: SeqNumber::new(segment.acknowledgment),
            window: 64_240,
            flags: segment.flags,
            payload,
            window_scale: None,
        };
        let Some(slot) = self.slot else { return self.open(&tcp) };
        match observe(self.table.session_mut(slot), direction, &tcp) {
            TcpOutcome::Pass | TcpOutcome::PassAndRetime => {}
            TcpOutcome::Reopen => self.open(&tcp),
            TcpOutcome::Drop(fault) => panic!("{fault:?}: {tcp:?} in {:?}", self.table.session(slot).state()),
        }
    }

    fn state(&self) -> session::State {
        self.table.session(self.slot.unwrap()).state()
    }
}

/// Both ends and the middle. `fate` says of each segment how often it arrives at the middle, and beyond it.
fn talk(connection: &mut Connection, middle: &mut Middle, habits: Habits, now: &mut u32, mut fate: impl FnMut() -> u8) {
    let mut events = Vec::new();
    let mut step = connection.visit(habits, *now);
    for _ in 0..100 {
        let mut ways: std::collections::VecDeque<Outgoing> = step.out.iter().copied().collect();
        events.push(step.event);
        while let Some(out) = ways.pop_front() {
            for _ in 0..fate() {
                middle.pass(Direction::Original, &out);
                for _ in 0..fate() {
                    let Some(reply) = server::answer(&out.segment, out.payload, 700) else { continue };
                    for _ in 0..fate() {
                        middle.pass(Direction::Reply, &reply);
                        for _ in 0..fate() {
                            let step = connection.receive(habits, *now, &reply.segment, reply.payload);
                            events.push(step.event);
                            ways.extend(step.out);
                        }
                    }
                }
            }
        }
        if matches!(connection.state(), State::TimeWait | State::Closed) {
            break;
        }
        *now += REPEAT_AFTER;
        step = connection.look(habits, *now);
    }
    if !events.contains(&Event::GivenUp) {
        let count = |wanted: &[Event]| events.iter().filter(|event| wanted.contains(event)).count();
        assert_eq!(connection.state(), State::TimeWait, "{events:?}");
        assert_eq!((count(&[Event::Established]), count(&[Event::Closed])), (1, 1), "{events:?}");
        assert_eq!(count(&[Event::Answered]), 3, "{events:?}");
    }
}

#[test]
fn a_connection_opens_asks_and_closes_again_and_again_on_the_same_ports() {
    // Numbers that wrap on the way.
    let mut connection = Connection { sequence: u32::MAX - 250_000, ..Connection::default() };
    let mut middle = Middle::new();
    let mut now = 5;
    for _ in 0..5 {
        talk(&mut connection, &mut middle, HABITS, &mut now, || 1);
        assert_eq!(middle.state(), session::State::TimeWait);
        assert_eq!(connection.look(HABITS, now + 999).event, Event::None);
        assert_eq!(connection.state(), State::TimeWait);
        connection.look(HABITS, now + 1_000);
        assert_eq!(connection.state(), State::Closed);
    }
}

#[test]
fn a_connection_that_never_closes_asks_when_it_is_visited() {
    let habits = Habits { exchanges: None, ..HABITS };
    let mut connection = Connection::default();
    let syn = connection.visit(habits, 0).out[0];
    let answer = server::answer(&syn.segment, 0, 700).unwrap();
    assert_eq!(connection.receive(habits, 0, &answer.segment, 0).out.len(), 1);
    for _ in 0..3 {
        assert_eq!(connection.state(), State::Idle);
        let request = connection.visit(habits, 0).out[0];
        assert_eq!(connection.state(), State::Asked);
        assert!(connection.visit(habits, 0).out.is_empty());
        let answer = server::answer(&request.segment, request.payload, 700).unwrap();
        let step = connection.receive(habits, 0, &answer.segment, 700);
        assert_eq!((step.event, step.out.len()), (Event::Answered, 0));
    }
}

#[test]
fn what_is_never_answered_is_given_up_and_a_reset_ends_it_at_once() {
    let mut connection = Connection::default();
    connection.visit(HABITS, 0);
    for repeat in 1..=u32::from(REPEATS) {
        assert_eq!(connection.look(HABITS, repeat * REPEAT_AFTER - 1).event, Event::None);
        assert_eq!(connection.look(HABITS, repeat * REPEAT_AFTER).event, Event::Repeated);
    }
    let step = connection.look(HABITS, 10_000);
    assert_eq!((step.event, step.out.len(), connection.state()), (Event::GivenUp, 0, State::Closed));
    connection.visit(HABITS, 10_000);
    let reset = Segment { sequence: 0, acknowledgment: 0, flags: TcpFlags::RST | TcpFlags::ACK };
    assert_eq!(connection.receive(HABITS, 0, &reset, 0).event, Event::Reset);
    assert_eq!(connection.state(), State::Closed);
}

proptest! {
    /// Every segment may be lost before the middle, behind it, or come twice; the tracker finds none of them at fault.
    #[test]
    fn the_tracker_finds_no_fault_whatever_the_network_does(
        first in any::<u32>(),
        fates in proptest::collection::vec(prop_oneof![1 => Just(0_u8), 8 => Just(1), 1 => Just(2)], 4_000),
    ) {
        let mut connection = Connection { sequence: first, ..Connection::default() };
        let mut middle = Middle::new();
        let mut now = 0;
        let mut fates = fates.into_iter();
        talk(&mut connection, &mut middle, HABITS, &mut now, || fates.next().unwrap_or(1));
    }
}
