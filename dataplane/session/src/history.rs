//! What a conversation has come to, apart from any table: taken from a session where it ends without being over, and given to a new
//! one in another table, of this process or another's. Plain values; how they are written down is the worker's.
//!
//! Times are spans, not moments, since clocks of two processes have nothing in common.

use units::Tick;

use crate::entry::Challenge;
use crate::stream::Stream;
use crate::{Address, Direction, Kind, Session, State, Traffic};

/// What is known of one direction of a TCP connection; of other conversations all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamHistory {
    /// The highest acknowledgment the other side has sent.
    pub acknowledged: u32,
    /// Sequence numbers sent and not acknowledged, below 2^27.
    pub flight: u32,
    /// The largest window offered, as a power of two; 31 for a stream without bounds.
    pub window: u8,
}

/// What a conversation has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Where it stands.
    pub state: State,
    /// Both directions.
    pub streams: [StreamHistory; 2],
    /// The scales of the windows each direction announces, 15 where its SYN had none.
    pub scales: [u8; 2],
    /// The direction of a SYN that was let through on the living connection, and its number.
    pub challenge: Option<(Direction, u32)>,
    /// What has passed of each direction.
    pub traffic: [Traffic; 2],
    /// Ticks since the last packet.
    pub idle: u64,
    /// Ticks since it was opened.
    pub age: u64,
}

impl History {
    /// The same, so many ticks without a packet later.
    #[must_use]
    pub const fn after(self, ticks: u64) -> Self {
        Self { idle: self.idle.saturating_add(ticks), age: self.age.saturating_add(ticks), ..self }
    }

    /// Whether a conversation of this kind can have come to this.
    #[must_use]
    pub const fn is_of(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Tcp) != matches!(self.state, State::OneWay | State::TwoWay)
    }
}

impl<A: Address> Session<A> {
    /// What this conversation has come to.
    #[must_use]
    pub fn history(&self, now: Tick) -> History {
        let traffic = Direction::BOTH.map(|direction| {
            let (packets, bytes) = self.counters(direction);
            Traffic { packets, bytes }
        });
        History {
            state: self.state(),
            streams: Direction::BOTH.map(|direction| self.stream(direction).history()),
            scales: Direction::BOTH.map(|direction| self.scale(direction)),
            challenge: self.challenge().map(|challenge| (challenge.direction, challenge.sequence.get())),
            traffic,
            idle: u64::from(self.idle(now)),
            age: now.get().saturating_sub(self.created().get()),
        }
    }

    /// Gives this history to a session that was just inserted. What its clock cannot tell, before its beginning, is its
    /// beginning; a silence longer than it can remember is the longest it can.
    pub(crate) fn resume(&mut self, history: &History, now: Tick) {
        self.set_state(history.state);
        for direction in Direction::BOTH {
            *self.stream_mut(direction) = Stream::resuming(*direction.of(&history.streams));
            self.set_scale(direction, *direction.of(&history.scales));
        }
        self.set_challenge(
            history
                .challenge
                .map(|(direction, sequence)| Challenge { direction, sequence: wire::SeqNumber::new(sequence) }),
        );
        self.set_past(history, now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::{HashSecret, NewSession, Table, Timeouts, Tuple};

    fn streams() -> impl Strategy<Value = StreamHistory> {
        (any::<u32>(), 0_u32..1 << 27, 0_u8..32).prop_map(|(acknowledged, flight, window)| StreamHistory {
            acknowledged,
            flight,
            window,
        })
    }

    fn histories() -> impl Strategy<Value = History> {
        let traffic = (any::<u64>(), any::<u64>()).prop_map(|(packets, bytes)| Traffic { packets, bytes });
        let challenge = prop::option::of(
            (any::<bool>(), any::<u32>())
                .prop_map(|(reply, sequence)| (if reply { Direction::Reply } else { Direction::Original }, sequence)),
        );
        (
            prop::sample::select(&State::ALL[..9]),
            [streams(), streams()],
            [0_u8..16, 0_u8..16],
            challenge,
            [traffic.clone(), traffic],
            0_u64..1_000,
            0_u64..1_000,
        )
            .prop_map(|(state, streams, scales, challenge, traffic, idle, more)| History {
                state,
                streams,
                scales,
                challenge,
                traffic,
                idle,
                age: idle + more,
            })
    }

    fn table() -> Table<Ipv4Addr> {
        Table::new(4, HashSecret::from_seed(1)).unwrap()
    }

    fn new() -> NewSession<Ipv4Addr> {
        let (source, destination) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let tuple = Tuple { source, destination, source_port: 1, destination_port: 2 };
        NewSession::new(Kind::Tcp, tuple, tuple.reversed())
    }

    proptest! {
        /// A history is the same before and after, whatever the two clocks say, and is over when its time is.
        #[test]
        fn a_session_goes_on_where_it_was(history in histories(), now in 3_000_u64..5_000, elapsed in 0_u64..500) {
            let (mut table, now) = (table(), Tick::new(now));
            let history = history.after(elapsed);
            let slot = table.insert(&new(), now).unwrap();
            table.resume(slot, &history, now);
            prop_assert_eq!(table.session(slot).history(now), history);
            let limit = {
                let mut fresh = self::table();
                let slot = fresh.insert(&new(), now).unwrap();
                fresh.resume(slot, &History { idle: 0, ..history }, now);
                fresh.expires(slot, now).get() - now.get()
            };
            prop_assert_eq!(table.outlives(Kind::Tcp, &history, false), history.idle < limit);
            let mut ended = Vec::new();
            let end = Tick::new(now.get() + limit.saturating_sub(history.idle));
            while table.advance(Tick::new(end.get() - 1), 9, |slot, _| ended.push(slot)) > 0 {}
            if history.idle < limit {
                prop_assert!(ended.is_empty(), "it ended early");
            }
            while table.advance(end.max(now), 9, |slot, _| ended.push(slot)) > 0 {}
            prop_assert_eq!(ended.len(), 1);
        }
    }

    /// A clock that has just begun: what was before reads as its beginning, and silence is remembered all the same.
    #[test]
    fn a_young_clock_remembers_an_old_silence() {
        let (mut table, now) = (table(), Tick::new(3));
        table.set_timeouts(&Timeouts::default());
        let slot = table.insert(&new(), now).unwrap();
        let history = table.session(slot).history(now);
        let old = History { state: State::Established, idle: 20_000, age: 40_000, ..history };
        table.resume(slot, &old, now);
        assert_eq!((table.session(slot).idle(now), table.session(slot).created()), (20_000, Tick::new(0)));
        assert!(table.outlives(Kind::Tcp, &old, false));
        assert!(!table.outlives(Kind::Tcp, &old.after(1 << 20), false));
    }

    #[test]
    fn only_tcp_has_states_of_tcp() {
        let history = table().session(crate::Slot::new(0)).history(Tick::new(0));
        for state in State::ALL {
            let history = History { state, ..history };
            assert_ne!(history.is_of(Kind::Tcp), history.is_of(Kind::Udp));
        }
    }
}
