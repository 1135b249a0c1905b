//! Conversations without a state of their own: UDP, echo, and protocols that are not read. All there is to know is whether
//! the other side has answered.

use crate::{Address, Direction, Session, State};

/// Follows one packet of a session that is not TCP. True when this was the first answer: the state has changed, call
/// `Table::refresh_expiry`.
#[inline]
pub const fn observe<A: Address>(session: &mut Session<A>, direction: Direction) -> bool {
    let answered = matches!(direction, Direction::Reply) && matches!(session.state(), State::OneWay);
    if answered {
        session.set_state(State::TwoWay);
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HashSecret, Kind, NewSession, Table, Tuple};
    use std::net::Ipv4Addr;
    use units::Tick;

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
