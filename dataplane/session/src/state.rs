//! Where a conversation stands. One enum for all kinds, so that timeouts and tables are plain arrays over it.
//!
//! Who changes it: `tcp_state` for TCP, `datagram` for everything else. Four bits in the session.

use core::fmt;

/// Where a conversation stands, as seen from the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: the opener's SYN was seen, no answer yet.
    SynSent = 1,
    /// TCP: both sides sent a SYN and neither acknowledged the other's (simultaneous open).
    SynCrossed = 2,
    /// TCP: the SYN was answered, the handshake is not complete.
    SynReceived = 3,
    /// TCP: both directions are open.
    Established = 4,
    /// TCP: the opener sent FIN, the other side may still send.
    OriginalFinished = 5,
    /// TCP: the answering side sent FIN, the opener may still send.
    ReplyFinished = 6,
    /// TCP: both sides sent FIN, not both are acknowledged.
    Closing = 7,
    /// TCP: both FINs are acknowledged; stragglers may still come.
    TimeWait = 8,
    /// TCP: a reset ended it; what crossed it may still come.
    Closed = 9,
    /// Not TCP: no answer seen yet.
    OneWay = 10,
    /// Not TCP: packets were seen both ways.
    TwoWay = 11,
}

impl State {
    /// Every state, in numeric order.
    pub const ALL: [Self; 11] = [
        Self::SynSent,
        Self::SynCrossed,
        Self::SynReceived,
        Self::Established,
        Self::OriginalFinished,
        Self::ReplyFinished,
        Self::Closing,
        Self::TimeWait,
        Self::Closed,
        Self::OneWay,
        Self::TwoWay,
    ];

    /// The state with these four low bits; what no state has reads as [`State::OneWay`], the shortest-lived reading.
    pub(crate) const fn from_bits(bits: u16) -> Self {
        match bits & 15 {
            1 => Self::SynSent,
            2 => Self::SynCrossed,
            3 => Self::SynReceived,
            4 => Self::Established,
            5 => Self::OriginalFinished,
            6 => Self::ReplyFinished,
            7 => Self::Closing,
            8 => Self::TimeWait,
            9 => Self::Closed,
            11 => Self::TwoWay,
            _ => Self::OneWay,
        }
    }

    /// The state with this number; `None` when no state has it.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1..=11 => Some(Self::from_bits(number as u16)),
            _ => None,
        }
    }

    /// The name in `show sessions`: never renamed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynCrossed => "syn_crossed",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::OriginalFinished => "original_finished",
            Self::ReplyFinished => "reply_finished",
            Self::Closing => "closing",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
            Self::OneWay => "one_way",
            Self::TwoWay => "two_way",
        }
    }

    /// Whether a TCP handshake is still under way.
    #[must_use]
    pub const fn is_embryonic(self) -> bool {
        matches!(self, Self::SynSent | Self::SynCrossed | Self::SynReceived)
    }

    /// Whether the conversation is over and the session only waits for stragglers.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_their_four_bits_and_have_their_own_names() {
        for state in State::ALL {
            assert_eq!(State::from_bits(state as u16), state);
        }
        let mut names: Vec<_> = State::ALL.iter().map(|state| state.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), State::ALL.len());
    }
}
