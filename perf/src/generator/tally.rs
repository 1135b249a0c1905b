//! What a trial has seen, counted where it happened.

use super::latency::Latency;

/// Both directions of something: from the outside in, and from the inside out.
pub type Both = [u64; 2];

/// The counts of a trial. Packets are counted by the side that sent or received them, outside first.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Seconds in which packets were sent.
    pub seconds: f64,
    /// Packets offered, those the device did not take included.
    pub sent: Both,
    /// Packets the device did not take: the appliance did not empty its ring. They are lost.
    pub refused: Both,
    /// Packets that arrived.
    pub received: Both,
    /// Bytes of frames that arrived, with check sequence.
    pub received_bytes: Both,
    /// Datagrams and visits that were due and did not happen, because the generator was late.
    pub late: u64,
    /// Datagrams and visits that happened.
    pub done: u64,
    /// Visits that found nothing to do: the connection's ports still rest, or its answer is awaited.
    pub idle: u64,
    /// Stamped packets that came in another order than they were sent in.
    pub reordered: u64,
    /// Packets, of those looked at (one of [`super::trial::JUDGED`]), that no receiver would take.
    pub malformed: u64,
    /// Frames that are none of ours.
    pub strange: u64,
    /// Buffers wanted and not there.
    pub without_buffer: u64,
    /// Time under way of one stamped packet of [`super::trial::TIMED`].
    pub latency: Latency,
    /// What became of connections.
    pub connections: Counts,
}

/// What became of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// First SYN sent.
    pub opened: u64,
    /// Handshake done.
    pub established: u64,
    /// Requests answered.
    pub answered: u64,
    /// Closed by both ends.
    pub closed: u64,
    /// Reset by somebody else.
    pub reset: u64,
    /// Given up.
    pub given_up: u64,
    /// Segments sent again.
    pub repeated: u64,
    /// Segments that fit nowhere.
    pub stray: u64,
}

impl Tally {
    /// An empty one.
    ///
    /// # Errors
    /// As [`Latency::new`].
    pub fn new(hertz: f64) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            seconds: 0.0,
            sent: [0; 2],
            refused: [0; 2],
            received: [0; 2],
            received_bytes: [0; 2],
            late: 0,
            done: 0,
            idle: 0,
            reordered: 0,
            malformed: 0,
            strange: 0,
            without_buffer: 0,
            latency: Latency::new(hertz)?,
            connections: Counts::default(),
        })
    }

    /// Packets offered in both directions.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// Packets that arrived in both directions.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.received.iter().sum()
    }

    /// Packets offered that did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.offered().saturating_sub(self.arrived())
    }

    /// Packets that arrived, a second.
    #[must_use]
    pub fn packets_per_second(&self) -> f64 {
        crate::statistics::precise(self.arrived()) / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// The share of what was due that was sent in time.
    #[must_use]
    pub fn reached(&self) -> f64 {
        crate::statistics::precise(self.done) / crate::statistics::precise((self.done + self.late).max(1))
    }
}
