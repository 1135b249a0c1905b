//! What the clients of one side do during a trial: datagrams in a given order of clients and sizes, or TCP connections
//! visited one after the other. A stream lives through many trials, as the appliance's sessions do.

use super::clients::Clients;
use super::connection::{Connection, Habits, State};
use super::pace::Pace;
use crate::traffic::Size;

/// A side of the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the clients of its services are.
    Outside,
    /// Where the servers are.
    Inside,
}

impl Side {
    /// Its place in arrays of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Outside => 0,
            Self::Inside => 1,
        }
    }
}

/// What clients do.
#[derive(Clone, Debug)]
pub enum Work {
    /// A datagram from each client of `order` in turn.
    Datagrams {
        /// Numbers of clients; a client may come more than once.
        order: Vec<u32>,
        /// The next of them.
        place: usize,
        /// Sizes of the frames.
        sizes: Size,
    },
    /// The connections of all clients, visited in turn.
    Connections {
        /// How they behave.
        habits: Habits,
        /// One for each client.
        table: Vec<Connection>,
        /// The next to visit.
        place: u32,
        /// The next to look after.
        hand: u32,
    },
}

/// A stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Where its clients are.
    pub side: Side,
    /// Datagrams, or visits, a second.
    pub rate: f64,
    /// Who they are.
    pub clients: Clients,
    /// What they do.
    pub work: Work,
    /// Paces the trial under way.
    pub(super) pace: Pace,
    /// How many connections the hand has looked after in this trial.
    pub(super) looked: u64,
}

impl Stream {
    /// Clients that send datagrams, in `order`.
    #[must_use]
    pub fn datagrams(side: Side, rate: f64, clients: Clients, order: Vec<u32>, sizes: Size) -> Self {
        Self::new(side, rate, clients, Work::Datagrams { order, place: 0, sizes })
    }

    /// Clients that open connections; all are closed at first.
    #[must_use]
    pub fn connections(side: Side, rate: f64, clients: Clients, habits: Habits) -> Self {
        let table = vec![Connection::default(); usize::try_from(clients.count).unwrap_or(0)];
        Self::new(side, rate, clients, Work::Connections { habits, table, place: 0, hand: 0 })
    }

    fn new(side: Side, rate: f64, clients: Clients, work: Work) -> Self {
        Self { side, rate, clients, work, pace: Pace::new(0.0, 1.0, 0), looked: 0 }
    }

    /// Connections that stand in `state`.
    #[must_use]
    pub fn connections_in(&self, state: State) -> usize {
        match &self.work {
            Work::Connections { table, .. } => table.iter().filter(|connection| connection.state() == state).count(),
            Work::Datagrams { .. } => 0,
        }
    }

    pub(super) fn begin(&mut self, hertz: f64, now: u64) {
        self.pace = Pace::new(self.rate, hertz, now);
        self.looked = 0;
    }
}
