//! TCP as seen from the middle: which segments belong to a connection, and where it stands (RFC 9293 section 3.3.2).
//!
//! Called by a worker for every TCP packet of a session, before it is forwarded. A segment is judged by the streams of
//! both directions (`stream`): its sequence numbers by what its receiver allowed, its acknowledgment by what its receiver
//! sent. Wherever a strict rule could drop what a correct endpoint sends, the segment passes and the endpoint judges; a
//! segment that passes without fitting changes nothing here.
//!
//! ```text
//!         SYN            SYN+ACK                ACK                FIN              FIN          both acknowledged
//! (none) -----> SynSent --------> SynReceived -----> Established -----> *Finished -----> Closing -----> TimeWait
//!                  |                   ^                  ^
//!                  | SYN               | ACK of the       | ACK of both
//!                  +-----> SynCrossed -+ opener's SYN ----+
//!
//! every state -- exact RST --> Closed;      TimeWait, Closed -- SYN --> reopened as a new session
//! ```
//!
//! * RST closes only when its sequence number is exactly what its receiver expects: the last acknowledged, or the end of
//!   what was sent when more is on its way (RFC 5961 section 3.2). Between the two it passes, and the receiver judges;
//!   elsewhere it is dropped.
//! * SYN on a living connection passes and is remembered (RFC 5961 section 4.2): the peer answers with a challenge
//!   acknowledgment, whose answer, an exact RST, closes; or the peer has forgotten the connection and answers the SYN.
//! * A connection picked up in its middle, or of which one direction is never seen, has streams without bounds.

use wire::{SeqNumber, Tcp, TcpFlags};

use crate::entry::{Challenge, SCALE_ABSENT};
use crate::stream::{Place, Stream};
use crate::{Address, Direction, Session, State};

/// What follows from a segment of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOutcome {
    /// It passes.
    Pass,
    /// It passes and the state has changed: call `Table::refresh_expiry`.
    PassAndRetime,
    /// It does not belong: count and drop it. The session is unchanged.
    Drop(TcpFault),
    /// A new connection on the tuple of one that is over: remove the session and treat this packet as a first one.
    Reopen,
}

/// Why a segment does not belong to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpFault {
    /// Its sequence or acknowledgment number lies outside what the connection allows.
    OutOfWindow,
    /// Its flags have no meaning where the connection stands.
    InvalidState,
}

/// Whether a connection may be joined in its middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pickup {
    /// Only a SYN opens a session.
    #[default]
    Strict,
    /// A segment of a connection already under way opens one too, followed without window checks (EVA-21).
    Loose,
}

/// What a first segment tells of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOpening {
    sequence: SeqNumber,
    len: u32,
    window: u16,
    scale: u8,
    /// The acknowledgment of a connection joined in its middle.
    midstream: Option<SeqNumber>,
}

impl TcpOpening {
    /// What a segment with SYN tells.
    fn read(tcp: &Tcp) -> Self {
        Self {
            sequence: tcp.sequence,
            len: sequence_len(tcp),
            window: tcp.window,
            scale: tcp.window_scale.map_or(SCALE_ABSENT, |scale| scale.min(14)),
            midstream: None,
        }
    }
}

/// Reads a segment of no session: what it opens, or `None` when it opens nothing.
///
/// SYN alone opens (PSH, URG, ECE and CWR beside it are of no concern). With [`Pickup::Loose`], so does a segment with
/// ACK and without SYN, RST and FIN.
#[must_use]
pub fn open(tcp: &Tcp, pickup: Pickup) -> Option<TcpOpening> {
    const DECISIVE: TcpFlags = TcpFlags::new(0x17);
    let flags = tcp.flags & DECISIVE;
    let opening = TcpOpening::read(tcp);
    if flags == TcpFlags::SYN {
        Some(opening)
    } else if flags == TcpFlags::ACK && pickup == Pickup::Loose {
        Some(TcpOpening { midstream: Some(tcp.acknowledgment), ..opening })
    } else {
        None
    }
}

/// Sequence numbers a segment occupies: payload, SYN and FIN.
fn sequence_len(tcp: &Tcp) -> u32 {
    u32::from(tcp.payload) + u32::from(tcp.flags.contains(TcpFlags::SYN)) + u32::from(tcp.flags.contains(TcpFlags::FIN))
}

/// Follows one segment of `session` in `direction`.
///
/// The flags are legal ones (`wire::TcpFlags::is_legal`); others are dropped here as well.
#[inline]
pub fn observe<A: Address>(session: &mut Session<A>, direction: Direction, tcp: &Tcp) -> TcpOutcome {
    const SPECIAL: TcpFlags = TcpFlags::new(0x07);
    let plain = tcp.flags.contains(TcpFlags::ACK) && !tcp.flags.intersects(SPECIAL);
    if plain && session.state() == State::Established {
        return match session.accept(direction, tcp) {
            Ok(()) => TcpOutcome::Pass,
            Err(fault) => TcpOutcome::Drop(fault),
        };
    }
    session.follow(direction, tcp)
}

/// Follows the commonest segment: of an established connection, with ACK and without SYN, RST and FIN, next in order as far
/// as seen here, within everything allowed, acknowledging what was sent, and offering no larger window than before. False,
/// and the session unchanged, for any other: it goes to [`observe`], which would have done the same with these. No branch
/// but one, and numbers instead of a segment, which would be put together in memory.
#[inline(always)]
#[must_use]
pub fn observe_next<A: Address>(
    session: &mut Session<A>,
    direction: Direction,
    flags: TcpFlags,
    [sequence, acknowledgment]: [SeqNumber; 2],
    window: u16,
    payload: u16,
) -> bool {
    const DECISIVE: u8 = 0x17;
    let plain = flags.bits() & DECISIVE == TcpFlags::ACK.bits();
    let established = session.state() as u8 == State::Established as u8;
    // Scales are settled here, and a larger one than is legal only makes the window larger than any.
    let window = u32::from(window) << session.scale(direction);
    let sent = session.stream(direction).next_to(sequence, u32::from(payload));
    let acknowledged = session.stream(direction.opposite()).acknowledged_to(acknowledgment, window);
    let fits = plain & established & sent.1 & acknowledged.1;
    if fits {
        *session.stream_mut(direction) = sent.0;
        *session.stream_mut(direction.opposite()) = acknowledged.0;
    }
    fits
}

impl<A: Address> Session<A> {
    /// Sets up what a first segment told.
    pub(crate) fn begin_tcp(&mut self, opening: Option<&TcpOpening>) {
        let Some(opening) = opening else {
            self.set_state(State::Established);
            self.unbind(SeqNumber::default(), 0, SeqNumber::default());
            return;
        };
        if let Some(acknowledgment) = opening.midstream {
            self.set_state(State::Established);
            self.unbind(opening.sequence, opening.len, acknowledgment);
        } else {
            self.set_state(State::SynSent);
            if self.is_one_sided() {
                self.unbind(opening.sequence, opening.len, SeqNumber::default());
            } else {
                self.start(Direction::Original, opening);
            }
        }
    }

    /// A connection without bounds: of the original's stream `sequence` and `len` are known, of the reply's where it is.
    fn unbind(&mut self, sequence: SeqNumber, len: u32, reply: SeqNumber) {
        *self.stream_mut(Direction::Original) = Stream::unbounded(sequence, len);
        *self.stream_mut(Direction::Reply) = Stream::unbounded(reply, 0);
        self.set_scale(Direction::Original, 0);
        self.set_scale(Direction::Reply, 0);
    }

    /// The stream of `direction` starts with this SYN, which also offers the other stream its first window.
    fn start(&mut self, direction: Direction, tcp: &TcpOpening) {
        self.stream_mut(direction).restart(tcp.sequence, tcp.len);
        self.stream_mut(direction.opposite()).offered(u32::from(tcp.window));
        self.set_scale(direction, tcp.scale);
    }

    /// Window scaling is in force only when both SYNs offered it (RFC 7323 section 2.2).
    fn settle_scales(&mut self) {
        if Direction::BOTH.iter().any(|&direction| self.scale(direction) == SCALE_ABSENT) {
            self.set_scale(Direction::Original, 0);
            self.set_scale(Direction::Reply, 0);
        }
    }

    /// Judges a segment with ACK and without SYN or RST by both streams, and remembers what it tells.
    #[inline]
    fn accept(&mut self, direction: Direction, tcp: &Tcp) -> Result<(), TcpFault> {
        let len = sequence_len(tcp);
        if self.stream(direction).place_segment(tcp.sequence, len) != Place::Inside
            || self.stream(direction.opposite()).place_acknowledgment(tcp.acknowledgment) != Place::Inside
        {
            return Err(TcpFault::OutOfWindow);
        }
        self.remember(direction, tcp, len);
        Ok(())
    }

    #[inline]
    fn remember(&mut self, direction: Direction, tcp: &Tcp, len: u32) {
        let window = u32::from(tcp.window) << self.scale(direction).min(14);
        self.stream_mut(direction).sent(tcp.sequence.add(len));
        let other = self.stream_mut(direction.opposite());
        other.acknowledge(tcp.acknowledgment);
        other.offered(window);
    }

    /// Everything but a plain segment of an established connection.
    fn follow(&mut self, direction: Direction, tcp: &Tcp) -> TcpOutcome {
        let flags = tcp.flags;
        if !flags.is_legal() {
            return TcpOutcome::Drop(TcpFault::InvalidState);
        }
        let before = self.state();
        let followed = if flags.contains(TcpFlags::RST) {
            self.reset(direction, tcp)
        } else if flags.contains(TcpFlags::SYN) {
            if before.is_over() && !flags.contains(TcpFlags::ACK) {
                return TcpOutcome::Reopen;
            }
            self.synchronize(direction, tcp)
        } else {
            self.segment(direction, tcp)
        };
        match followed {
            Ok(()) if self.state() == before => TcpOutcome::Pass,
            Ok(()) => TcpOutcome::PassAndRetime,
            Err(fault) => TcpOutcome::Drop(fault),
        }
    }

    /// A segment with RST.
    fn reset(&mut self, direction: Direction, tcp: &Tcp) -> Result<(), TcpFault> {
        if self.refuses_opening(direction, tcp) {
            self.set_state(State::Closed);
            return Ok(());
        }
        let stream = *self.stream(direction);
        match self.state() {
            // The answering side's stream is not known yet, and its refusal was judged above.
            State::SynSent if direction == Direction::Reply => Err(TcpFault::OutOfWindow),
            // The opener resets what it did not expect, the challenge of a peer that still remembers an older
            // connection, and will send its SYN again.
            State::SynSent if tcp.sequence != stream.end() => Ok(()),
            // Reset already: a train of resets, one for each segment that was under way.
            State::Closed if stream.place_segment(tcp.sequence, 0) == Place::Inside => Ok(()),
            _ => self.reset_exactly(direction, tcp),
        }
    }

    /// RFC 5961 section 3.2, as far as the middle can know what the receiver expects.
    fn reset_exactly(&mut self, direction: Direction, tcp: &Tcp) -> Result<(), TcpFault> {
        let (stream, sequence) = (*self.stream(direction), tcp.sequence);
        let expected = [stream.acknowledged(), stream.end()];
        // Some stacks reset after their own FIN with the sequence number of that FIN.
        let behind_fin = self.has_finished(direction) && expected.contains(&sequence.add(1));
        if expected.contains(&sequence) || behind_fin {
            self.set_state(State::Closed);
            return Ok(());
        }
        let under_way =
            sequence.before(stream.end()) && (stream.is_strained() || sequence.after(stream.acknowledged()));
        if under_way || stream.is_unbounded() || self.refuses_challenge(direction, tcp) {
            Ok(())
        } else {
            Err(TcpFault::OutOfWindow)
        }
    }

    /// Whether this reset refuses the SYN that opened the connection: it acknowledges it exactly; its own sequence
    /// number is zero and says nothing (RFC 9293 section 3.10.7.1).
    fn refuses_opening(&self, direction: Direction, tcp: &Tcp) -> bool {
        let syn = self.stream(direction.opposite());
        let open = match self.state() {
            State::SynSent => direction == Direction::Reply && syn.is_started_by(tcp.acknowledgment),
            State::SynCrossed => syn.is_started_by(tcp.acknowledgment),
            State::SynReceived => tcp.sequence.get() == 0 && tcp.acknowledgment == syn.end(),
            _ => false,
        };
        open && tcp.flags.contains(TcpFlags::ACK)
    }

    /// Whether this reset refuses a SYN that was let through: the peer has forgotten the connection. It passes, so that
    /// the sender of the SYN learns of it; as both could be forged together, it closes nothing.
    fn refuses_challenge(&self, direction: Direction, tcp: &Tcp) -> bool {
        tcp.flags.contains(TcpFlags::ACK) && tcp.sequence.get() == 0 && self.answers_challenge(direction, tcp)
    }

    /// Whether this segment acknowledges a SYN that was let through on a living connection.
    fn answers_challenge(&self, direction: Direction, tcp: &Tcp) -> bool {
        self.challenge().is_some_and(|syn| syn.direction != direction && tcp.acknowledgment == syn.sequence.add(1))
    }

    /// A segment with SYN, and on a connection that is over also with ACK.
    fn synchronize(&mut self, direction: Direction, tcp: &Tcp) -> Result<(), TcpFault> {
        if tcp.flags.contains(TcpFlags::ACK) {
            return self.answer(direction, tcp);
        }
        let opening = TcpOpening::read(tcp);
        let known = self.stream(direction).acknowledged();
        match (self.state(), direction) {
            // Sent again.
            (State::SynSent, Direction::Original) if tcp.sequence == known => {}
            // Another attempt from the same port.
            (State::SynSent, Direction::Original) => self.begin_tcp(Some(&opening)),
            (State::SynSent, Direction::Reply) if !self.is_one_sided() => {
                self.start(direction, &opening);
                self.settle_scales();
                self.set_state(State::SynCrossed);
            }
            // Sent again, acknowledged here or not.
            (State::SynCrossed | State::SynReceived, _) if tcp.sequence == known || tcp.sequence.add(1) == known => {}
            _ => self.set_challenge(Some(Challenge { direction, sequence: tcp.sequence })),
        }
        Ok(())
    }

    /// A segment with SYN and ACK.
    fn answer(&mut self, direction: Direction, tcp: &Tcp) -> Result<(), TcpFault> {
        if self.answers_challenge(direction, tcp) && !self.repeats_handshake(direction, tcp) {
            self.begin_again(direction, tcp);
            return Ok(());
        }
        let syn = *self.stream(direction.opposite());
        match (self.state(), direction) {
            // One that acknowledges something else answers a SYN from before; the opener will reset it (RFC 9293
            // section 3.5.1, figure 9), so it has to get there.
            (State::SynSent, Direction::Reply) if syn.is_started_by(tcp.acknowledgment) => {
                self.start(direction, &TcpOpening::read(tcp));
                self.settle_scales();
                self.stream_mut(Direction::Original).acknowledge(tcp.acknowledgment);
                self.set_state(State::SynReceived);
                Ok(())
            }
            (State::SynSent, Direction::Original) => Err(TcpFault::InvalidState),
            // Answered twice with different numbers, as servers do that keep no state before the last step (SYN
            // cookies). Which answer the opener takes is not known: the wider scale holds.
            (State::SynReceived, Direction::Reply)
                if tcp.sequence != self.stream(direction).acknowledged()
                    && tcp.sequence.add(1) != self.stream(direction).acknowledged()
                    && syn.place_acknowledgment(tcp.acknowledgment) == Place::Inside =>
            {
                let scales = Direction::BOTH.map(|direction| self.scale(direction));
                self.start(direction, &TcpOpening::read(tcp));
                self.settle_scales();
                for direction in Direction::BOTH {
                    self.set_scale(direction, self.scale(direction).max(*direction.of(&scales)));
                }
                Ok(())
            }
            // Both sides have sent a SYN (RFC 9293 section 3.5, figure 8): the opener's comes once more, with ACK.
            (State::SynReceived, Direction::Original)
                if tcp.sequence.add(1) != self.stream(direction).acknowledged() =>
            {
                Ok(())
            }
            (State::SynCrossed, _) | (State::SynReceived, Direction::Original) => {
                self.accept(direction, tcp)?;
                self.complete_handshake(direction);
                Ok(())
            }
            // The last step of the handshake was lost behind us, or this is not of this connection at all: its receiver
            // acknowledges or challenges it (RFC 5961 section 4.2), and nothing changes here.
            _ => Ok(()),
        }
    }

    /// Whether a SYN and ACK, and the SYN it answers, are this connection's own, late: both lie where it already was.
    fn repeats_handshake(&self, direction: Direction, tcp: &Tcp) -> bool {
        let (syn, answer) = (self.stream(direction.opposite()), self.stream(direction));
        syn.place_acknowledgment(tcp.acknowledgment) == Place::Inside
            && answer.place_segment(tcp.sequence, 1) == Place::Inside
            && !answer.is_unbounded()
    }

    /// The peer has forgotten the connection and answers a SYN that was let through: a new one begins in its place. It
    /// is followed without bounds, so that a forged SYN and answer cannot shut out the true connection.
    fn begin_again(&mut self, direction: Direction, tcp: &Tcp) {
        let (mine, other) = (Stream::unbounded(tcp.sequence, 1), Stream::unbounded(tcp.acknowledgment, 0));
        *self.stream_mut(direction) = mine;
        *self.stream_mut(direction.opposite()) = other;
        self.set_challenge(None);
        self.set_state(match direction {
            Direction::Original => State::SynCrossed,
            Direction::Reply => State::SynReceived,
        });
    }

    /// After a segment with ACK was accepted during the handshake: is it complete?
    fn complete_handshake(&mut self, direction: Direction) {
        let reply_acknowledged = self.stream(Direction::Reply).flight() == 0;
        match (self.state(), direction) {
            (State::SynCrossed, Direction::Reply) if reply_acknowledged => self.set_state(State::Established),
            (State::SynCrossed, Direction::Reply) => self.set_state(State::SynReceived),
            (State::SynReceived, _) => self.set_state(State::Established),
            _ => {}
        }
    }

    /// A segment with ACK and without SYN or RST: the last step of a handshake, data, FIN.
    fn segment(&mut self, direction: Direction, tcp: &Tcp) -> Result<(), TcpFault> {
        match (self.state(), direction) {
            (State::SynSent, Direction::Original) if self.is_one_sided() => {
                self.accept(direction, tcp)?;
                self.set_state(State::Established);
            }
            (State::SynSent, Direction::Original) => return Err(TcpFault::InvalidState),
            // The peer still remembers an older connection and challenges the SYN; the opener will reset it (RFC 9293
            // section 3.5.1, figure 10).
            (State::SynSent, Direction::Reply) => return Ok(()),
            (State::SynReceived, Direction::Original)
                if !self.stream(Direction::Reply).is_started_by(tcp.acknowledgment) =>
            {
                self.acknowledge_other_answer(tcp)?;
            }
            (State::SynCrossed | State::SynReceived, _) => {
                self.accept(direction, tcp)?;
                self.complete_handshake(direction);
            }
            _ => self.accept(direction, tcp)?,
        }
        if tcp.flags.contains(TcpFlags::FIN) {
            self.finish(direction);
        }
        if self.state() == State::Closing && Direction::BOTH.iter().all(|&each| self.stream(each).flight() == 0) {
            self.set_state(State::TimeWait);
        }
        Ok(())
    }

    /// The opener acknowledges another answer than the last one seen here. It may be right (the answering side used SYN
    /// cookies and an earlier answer won), so its word is taken for where the answering side's stream is; that the
    /// handshake is complete is believed when the answering side goes on there. If it is wrong, that side resets it with
    /// exactly this number.
    fn acknowledge_other_answer(&mut self, tcp: &Tcp) -> Result<(), TcpFault> {
        let len = sequence_len(tcp);
        if self.stream(Direction::Original).place_segment(tcp.sequence, len) != Place::Inside {
            return Err(TcpFault::OutOfWindow);
        }
        self.stream_mut(Direction::Reply).restart(tcp.acknowledgment, 0);
        self.remember(Direction::Original, tcp, len);
        Ok(())
    }

    const fn finish(&mut self, direction: Direction) {
        let next = match (self.state(), direction) {
            (State::OriginalFinished, Direction::Reply) | (State::ReplyFinished, Direction::Original) => State::Closing,
            (State::SynCrossed | State::SynReceived | State::Established, Direction::Original) => {
                State::OriginalFinished
            }
            (State::SynCrossed | State::SynReceived | State::Established, Direction::Reply) => State::ReplyFinished,
            (state, _) => state,
        };
        self.set_state(next);
    }

    const fn has_finished(&self, direction: Direction) -> bool {
        match self.state() {
            State::OriginalFinished => matches!(direction, Direction::Original),
            State::ReplyFinished => matches!(direction, Direction::Reply),
            State::Closing | State::TimeWait | State::Closed => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
