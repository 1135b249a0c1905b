//! How long a session may be silent in each state before it is removed.
//!
//! | state | default | why |
//! |---|---|---|
//! | SYN sent | 5 s | longer than the first three retransmissions are apart (1, 2, 4 s); an unanswered SYN is nothing yet |
//! | SYN received | 30 s | covers five retransmissions of the SYN-ACK |
//! | established | 2 h 4 min | RFC 5382 REQ-5: two hours of keep-alive interval and four minutes |
//! | half-closed, closing | 120 s | one side may go on sending after the other's FIN; twice Linux's `tcp_fin_timeout` |
//! | time wait | 10 s | both FINs are acknowledged; a new SYN reopens at once anyway |
//! | closed | 2 s | a reset ended it; challenge acknowledgments and crossing segments still pass |
//! | UDP one-way | 30 s | a question without an answer |
//! | UDP two-way | 120 s | RFC 4787 REQ-5: not under two minutes |
//! | echo | 10 s | a ping waits a second or two |
//! | other | 60 s | protocols whose state is not read |
//!
//! Sessions that linger, those of NAT64, have limits of their own (RFC 6146 section 4): UDP 5 min, echo 60 s, and TCP 4 min
//! before and after it is established.

use units::{Nanos, Tick};

use crate::{Kind, State};

/// The longest timeout: a session remembers when it was last seen in 16 bits of ticks, which wrap after 4 h 33 min.
pub(crate) const TICKS_MAX: u16 = 64_800;

/// Idle limits. Each is cut to between one tick (250 ms) and 4 h 30 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, SYN without an answer (also both SYNs crossed).
    pub tcp_syn: Nanos,
    /// TCP, SYN answered, handshake not complete.
    pub tcp_syn_received: Nanos,
    /// TCP, established.
    pub tcp_established: Nanos,
    /// TCP, one side or both have sent FIN.
    pub tcp_closing: Nanos,
    /// TCP, both FINs acknowledged.
    pub tcp_time_wait: Nanos,
    /// TCP, after a reset.
    pub tcp_closed: Nanos,
    /// UDP, nothing came back yet.
    pub udp_one_way: Nanos,
    /// UDP, packets both ways.
    pub udp_two_way: Nanos,
    /// ICMP and `ICMPv6` echo.
    pub icmp: Nanos,
    /// Every other protocol.
    pub other: Nanos,
    /// Of sessions that linger.
    pub lingering: Lingering,
}

/// Idle limits of sessions that linger (RFC 6146 section 4); established TCP and other protocols have the usual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lingering {
    /// UDP (`UDP_DEFAULT`).
    pub udp: Nanos,
    /// TCP that is not established (`TCP_TRANS`).
    pub tcp_transitory: Nanos,
    /// Echo (`ICMP_DEFAULT`).
    pub icmp: Nanos,
}

impl Default for Lingering {
    fn default() -> Self {
        Self { udp: Nanos::from_secs(300), tcp_transitory: Nanos::from_secs(240), icmp: Nanos::from_secs(60) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn: Nanos::from_secs(5),
            tcp_syn_received: Nanos::from_secs(30),
            tcp_established: Nanos::from_secs(7_440),
            tcp_closing: Nanos::from_secs(120),
            tcp_time_wait: Nanos::from_secs(10),
            tcp_closed: Nanos::from_secs(2),
            udp_one_way: Nanos::from_secs(30),
            udp_two_way: Nanos::from_secs(120),
            icmp: Nanos::from_secs(10),
            other: Nanos::from_secs(60),
            lingering: Lingering::default(),
        }
    }
}

impl Timeouts {
    /// The shortest timeout that can be kept.
    pub const MIN: Nanos = Nanos::new(Tick::NANOS);
    /// The longest timeout that can be kept.
    pub const MAX: Nanos = Nanos::new(TICKS_MAX as u64 * Tick::NANOS);

    /// The idle limit of a session of this kind in this state.
    #[must_use]
    pub const fn of(&self, kind: Kind, state: State) -> Nanos {
        match (kind, state) {
            (_, State::SynSent | State::SynCrossed) => self.tcp_syn,
            (_, State::SynReceived) => self.tcp_syn_received,
            (_, State::Established) => self.tcp_established,
            (_, State::OriginalFinished | State::ReplyFinished | State::Closing) => self.tcp_closing,
            (_, State::TimeWait) => self.tcp_time_wait,
            (_, State::Closed) => self.tcp_closed,
            (Kind::Udp, State::OneWay) => self.udp_one_way,
            (Kind::Udp, State::TwoWay) => self.udp_two_way,
            (Kind::Icmp, _) => self.icmp,
            (Kind::Tcp | Kind::Other, _) => self.other,
        }
    }

    /// As [`of`](Self::of), of a session that lingers.
    #[must_use]
    pub const fn of_lingering(&self, kind: Kind, state: State) -> Nanos {
        match (kind, state) {
            (Kind::Tcp, State::Established) | (Kind::Other, _) => self.of(kind, state),
            (Kind::Tcp, _) => self.lingering.tcp_transitory,
            (Kind::Udp, _) => self.lingering.udp,
            (Kind::Icmp, _) => self.lingering.icmp,
        }
    }
}

/// Idle limits in ticks, as the wheel reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleTicks([u16; 128]);

impl IdleTicks {
    /// Compiles the limits: rounded up to whole ticks, cut to what can be kept.
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        let mut ticks = [1; 128];
        for kind in Kind::ALL {
            for state in State::ALL {
                for lingers in [false, true] {
                    let limit = if lingers { timeouts.of_lingering(kind, state) } else { timeouts.of(kind, state) };
                    let span = limit.get().div_ceil(Tick::NANOS);
                    if let Some(entry) = ticks.get_mut(Self::position(kind, state, lingers)) {
                        *entry = u16::try_from(span).unwrap_or(TICKS_MAX).clamp(1, TICKS_MAX);
                    }
                }
            }
        }
        Self(ticks)
    }

    /// Ticks a session of this kind may be silent in this state, if it lingers or not.
    pub(crate) fn of(&self, kind: Kind, state: State, lingers: bool) -> u16 {
        self.0.get(Self::position(kind, state, lingers)).copied().unwrap_or(1)
    }

    const fn position(kind: Kind, state: State, lingers: bool) -> usize {
        (lingers as usize) << 6 | (state as usize) << 2 | kind as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STX-16: what RFC 5382 REQ-5 and RFC 4787 REQ-5 ask for.
    #[test]
    fn defaults_are_not_under_what_the_rfcs_ask() {
        let timeouts = Timeouts::default();
        assert!(timeouts.tcp_established >= Nanos::from_secs(2 * 3600 + 4 * 60));
        assert!(timeouts.udp_two_way >= Nanos::from_secs(120));
    }

    #[test]
    fn ticks_round_up_and_stay_within_what_can_be_kept() {
        let timeouts = Timeouts {
            tcp_syn: Nanos::from_millis(260),
            tcp_closed: Nanos::ZERO,
            udp_two_way: Nanos::new(u64::MAX),
            ..Timeouts::default()
        };
        let ticks = IdleTicks::new(&timeouts);
        assert_eq!(ticks.of(Kind::Tcp, State::SynSent, false), 2);
        assert_eq!(ticks.of(Kind::Tcp, State::Closed, false), 1);
        assert_eq!(ticks.of(Kind::Udp, State::TwoWay, false), TICKS_MAX);
        assert_eq!(ticks.of(Kind::Tcp, State::Established, false), 29_760);
        assert_eq!(ticks.of(Kind::Icmp, State::OneWay, false), 40);
    }

    /// RFC 6146 section 4, in ticks.
    #[test]
    fn who_lingers_has_limits_of_its_own() {
        let ticks = IdleTicks::new(&Timeouts::default());
        for (kind, state, limit) in [
            (Kind::Udp, State::OneWay, 1_200),
            (Kind::Udp, State::TwoWay, 1_200),
            (Kind::Icmp, State::OneWay, 240),
            (Kind::Tcp, State::SynSent, 960),
            (Kind::Tcp, State::Established, 29_760),
            (Kind::Tcp, State::Closing, 960),
            (Kind::Tcp, State::Closed, 960),
            (Kind::Other, State::OneWay, 240),
        ] {
            assert_eq!(ticks.of(kind, state, true), limit, "{kind:?} {state:?}");
        }
    }
}
