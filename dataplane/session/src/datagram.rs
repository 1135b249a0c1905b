//! Conversations without a state of their own: UDP, echo, and protocols that are not read. All there is to know is whether
//! the other side has answered.

use crate::{Address, Direction, Session, State};

/// Follows one packet of a session that is not TCP. True when this was the first answer: the state has changed, call
/// `Table::refresh_expiry`. True for each answer of a one-shot session, whose state does not change: see [`is_over`].
#[inline]
pub const fn observe<A: Address>(session: &mut Session<A>, direction: Direction) -> bool {
    let answered = matches!(direction, Direction::Reply) && session.is_one_way();
    if answered && !session.is_one_shot() {
        session.set_state(State::TwoWay);
    }
    answered
}

/// Whether a one-shot session has fulfilled its purpose: as many answers as questions have passed, by its counters.
#[must_use]
pub const fn is_over<A: Address>(session: &Session<A>) -> bool {
    session.is_one_shot() && session.counters(Direction::Reply).0 >= session.counters(Direction::Original).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HashSecret, Kind, NewSession, Table, Tuple};
    use std::net::Ipv4Addr;
    use units::Tick;

    #[test]
    fn a_one_shot_session_is_over_when_its_questions_are_answered() {
        let tuple = Tuple {
            source: Ipv4Addr::LOCALHOST,
            destination: Ipv4Addr::BROADCAST,
            source_port: 7,
            destination_port: 7,
        };
        let mut table = Table::new(1, HashSecret::from_seed(1)).unwrap();
        let new = NewSession { one_shot: true, ..NewSession::new(Kind::Udp, tuple, tuple.reversed()) };
        let slot = table.insert(&new, Tick::new(0)).unwrap();
        let session = table.session_mut(slot);
        for (direction, answered, over) in [
            (Direction::Original, false, false),
            (Direction::Original, false, false),
            (Direction::Reply, true, false),
            (Direction::Original, false, false),
            (Direction::Reply, true, false),
            (Direction::Reply, true, true),
        ] {
            assert_eq!(observe(session, direction), answered);
            assert!(!session.count(direction, 60));
            assert_eq!(is_over(session), over);
        }
    }

    #[test]
    fn the_first_answer_and_nothing_else_changes_the_state() {
        let tuple = Tuple {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
            source_port: 7,
            destination_port: 7,
        };
        for kind in [Kind::Udp, Kind::Icmp, Kind::Other] {
            let mut table = Table::new(1, HashSecret::from_seed(1)).unwrap();
            let slot = table.insert(&NewSession::new(kind, tuple, tuple.reversed()), Tick::new(0)).unwrap();
            let session = table.session_mut(slot);
            for (direction, changes, state) in [
                (Direction::Original, false, State::OneWay),
                (Direction::Reply, true, State::TwoWay),
                (Direction::Reply, false, State::TwoWay),
                (Direction::Original, false, State::TwoWay),
            ] {
                assert_eq!((observe(session, direction), session.state()), (changes, state));
            }
        }
    }
}
