//! One TCP connection as its client sees it: handshake, exchanges of a request and an answer, close from the client's side,
//! TIME-WAIT (RFC 9293 section 3.5 and 3.6). A connection is 16 bytes in an array, never allocated; time is an argument,
//! in milliseconds; what is to be sent comes back as segments. One exchange is in flight at a time, so nothing is buffered:
//! whatever was sent last can be made again from the numbers.
//!
//! ```text
//! Closed -- SYN --> Asking to open -- SYN+ACK, ACK --> Idle -- request --> Asked -- answer --> Idle ...
//!    ^                                                                                          | after the last
//!    +--- time passes -- TimeWait <-- FIN+ACK, ACK -- Finishing <-------------- FIN ------------+
//! ```

use arrayvec::ArrayVec;
use wire::TcpFlags;

use super::frame::Segment;

/// Milliseconds after which what was not answered is sent again.
const REPEAT_AFTER: u32 = 250;
/// How often; then the connection is given up with a reset.
const REPEATS: u8 = 4;
/// What lies between the last number of a connection and the first of the next on the same ports: a new SYN must come
/// after everything the old connection sent (RFC 6191).
const NEXT_INCARNATION: u32 = 100_000;

/// What connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Exchanges, one right after the other, before the client closes; `None`: it never closes, and asks when visited.
    pub exchanges: Option<u8>,
    /// Bytes of a request; at least a stamp's.
    pub request: u16,
    /// How long the ports rest after a close.
    pub time_wait_ms: u32,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It is not there.
    #[default]
    Closed,
    /// Its SYN is out.
    Opening,
    /// It is open, and nothing is awaited.
    Idle,
    /// A request is out.
    Asked,
    /// Its FIN is out.
    Finishing,
    /// Over; the ports rest.
    TimeWait,
}

/// One connection. Shape: 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    /// The next number to send.
    sequence: u32,
    /// The next number expected.
    acknowledgment: u32,
    /// When it came to this state, or last repeated itself, in milliseconds.
    since: u32,
    state: State,
    /// Exchanges to come.
    left: u8,
    repeats: u8,
}

const _: () = assert!(size_of::<Connection>() == 16);

/// A segment to send and the bytes of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The segment.
    pub segment: Segment,
    /// Bytes of payload.
    pub payload: u16,
}

/// What a segment or a visit has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// A SYN is to be sent.
    Opened,
    /// The handshake is done.
    Established,
    /// A request was answered.
    Answered,
    /// Both ends have closed.
    Closed,
    /// The other end, or the appliance, reset it.
    Reset,
    /// Something was sent again.
    Repeated,
    /// Repeating did not help: it was given up.
    GivenUp,
    /// A segment that does not fit.
    Stray,
}

/// What follows: up to two segments, in order, and what happened.
#[derive(Clone, Debug)]
pub struct Step {
    /// To be sent.
    pub out: ArrayVec<Outgoing, 2>,
    /// What happened.
    pub event: Event,
}

impl Step {
    fn new(event: Event) -> Self {
        Self { out: ArrayVec::new(), event }
    }
}

impl Connection {
    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    fn enter(&mut self, state: State, now: u32) {
        (self.state, self.since, self.repeats) = (state, now, 0);
    }

    /// The segment with `flags` that begins `back` numbers before the next.
    fn segment(&self, flags: TcpFlags, back: u32, payload: u16) -> Outgoing {
        let acknowledgment = if flags.contains(TcpFlags::ACK) { self.acknowledgment } else { 0 };
        let sequence = self.sequence.wrapping_sub(back);
        Outgoing { segment: Segment { sequence, acknowledgment, flags }, payload }
    }

    /// The client's turn: a closed connection opens, an idle one asks. Everything else waits for its answer.
    #[inline]
    pub fn visit(&mut self, habits: Habits, now: u32) -> Step {
        match self.state {
            State::Closed => {
                self.sequence = self.sequence.wrapping_add(NEXT_INCARNATION + 1);
                self.acknowledgment = 0;
                self.left = habits.exchanges.unwrap_or(0);
                self.enter(State::Opening, now);
                self.last(habits, Event::Opened)
            }
            State::Idle => {
                let mut step = Step::new(Event::None);
                step.out.push(self.ask(habits, now));
                step
            }
            State::Opening | State::Asked | State::Finishing | State::TimeWait => Step::new(Event::None),
        }
    }

    fn ask(&mut self, habits: Habits, now: u32) -> Outgoing {
        self.sequence = self.sequence.wrapping_add(u32::from(habits.request));
        self.enter(State::Asked, now);
        self.segment(TcpFlags::ACK | TcpFlags::PSH, u32::from(habits.request), habits.request)
    }

    fn finish(&mut self, now: u32) -> Outgoing {
        self.sequence = self.sequence.wrapping_add(1);
        self.enter(State::Finishing, now);
        self.segment(TcpFlags::FIN | TcpFlags::ACK, 1, 0)
    }

    /// What was sent last, once more.
    fn last(&self, habits: Habits, event: Event) -> Step {
        let mut step = Step::new(event);
        match self.state {
            State::Opening => step.out.push(self.segment(TcpFlags::SYN, 1, 0)),
            State::Asked => {
                let request = self.segment(TcpFlags::ACK | TcpFlags::PSH, u32::from(habits.request), habits.request);
                step.out.push(request);
            }
            State::Finishing => step.out.push(self.segment(TcpFlags::FIN | TcpFlags::ACK, 1, 0)),
            State::Closed | State::Idle | State::TimeWait => {}
        }
        step
    }

    /// A segment of the server's with `payload` bytes.
    #[inline]
    pub fn receive(&mut self, habits: Habits, now: u32, segment: &Segment, payload: u16) -> Step {
        let flags = segment.flags;
        if flags.contains(TcpFlags::RST) {
            if self.state == State::Closed || self.state == State::TimeWait {
                return Step::new(Event::Stray);
            }
            self.enter(State::Closed, now);
            return Step::new(Event::Reset);
        }
        let fits = flags.contains(TcpFlags::ACK) && segment.acknowledgment == self.sequence;
        let next = segment.sequence == self.acknowledgment;
        match self.state {
            State::Opening if fits && flags.contains(TcpFlags::SYN) => self.establish(habits, now, segment),
            State::Asked if fits && next && payload > 0 => self.take_answer(habits, now, payload),
            State::Finishing if fits && next && flags.contains(TcpFlags::FIN) => {
                self.acknowledgment = self.acknowledgment.wrapping_add(1);
                self.enter(State::TimeWait, now);
                self.acknowledge(Event::Closed)
            }
            // The handshake's second segment again, or the FIN: ours that answers it was lost.
            State::Idle | State::Asked if flags.contains(TcpFlags::SYN) => self.acknowledge(Event::Stray),
            State::TimeWait if flags.contains(TcpFlags::FIN) => self.acknowledge(Event::Stray),
            _ => Step::new(Event::Stray),
        }
    }

    fn acknowledge(&self, event: Event) -> Step {
        let mut step = Step::new(event);
        step.out.push(self.segment(TcpFlags::ACK, 0, 0));
        step
    }

    fn establish(&mut self, habits: Habits, now: u32, segment: &Segment) -> Step {
        self.acknowledgment = segment.sequence.wrapping_add(1);
        self.enter(State::Idle, now);
        let mut step = self.acknowledge(Event::Established);
        match habits.exchanges {
            Some(0) => step.out.push(self.finish(now)),
            Some(_) => step.out.push(self.ask(habits, now)),
            None => {}
        }
        step
    }

    fn take_answer(&mut self, habits: Habits, now: u32, payload: u16) -> Step {
        self.acknowledgment = self.acknowledgment.wrapping_add(u32::from(payload));
        self.enter(State::Idle, now);
        let Some(_) = habits.exchanges else { return Step::new(Event::Answered) };
        self.left = self.left.saturating_sub(1);
        let mut step = Step::new(Event::Answered);
        step.out.push(if self.left == 0 { self.finish(now) } else { self.ask(habits, now) });
        step
    }

    /// Called for every connection a few times a second: repeats what was not answered, ends TIME-WAIT.
    #[inline]
    pub fn look(&mut self, habits: Habits, now: u32) -> Step {
        let age = now.wrapping_sub(self.since);
        match self.state {
            State::Closed | State::Idle => Step::new(Event::None),
            State::TimeWait => {
                if age >= habits.time_wait_ms {
                    self.enter(State::Closed, now);
                }
                Step::new(Event::None)
            }
            State::Opening | State::Asked | State::Finishing if age < REPEAT_AFTER => Step::new(Event::None),
            State::Opening | State::Asked | State::Finishing if self.repeats < REPEATS => {
                (self.repeats, self.since) = (self.repeats + 1, now);
                self.last(habits, Event::Repeated)
            }
            State::Opening | State::Asked | State::Finishing => {
                // A reset with the number the server expects next; before the handshake there is nobody to tell.
                let mut step = Step::new(Event::GivenUp);
                if self.state != State::Opening {
                    step.out.push(self.segment(TcpFlags::RST | TcpFlags::ACK, 0, 0));
                }
                self.enter(State::Closed, now);
                step
            }
        }
    }
}

#[cfg(test)]
mod tests;
