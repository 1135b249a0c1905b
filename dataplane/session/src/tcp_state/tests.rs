//! TCP tracking against tables of segments, one behaviour a test. `endpoints` holds the property: whatever two correct
//! endpoints send through a network that loses, repeats and reorders, nothing is dropped.

mod endpoints;

use std::net::Ipv4Addr;

use proptest::prelude::*;
use units::Tick;
use wire::{SeqNumber, Tcp, TcpFlags};

use super::TcpOutcome::{Drop, Pass, PassAndRetime, Reopen};
use super::*;
use crate::Direction::{Original, Reply};
use crate::{HashSecret, Kind, NewSession, Slot, Table, Tuple};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const RST: TcpFlags = TcpFlags::RST;
const INVALID_STATE: TcpOutcome = Drop(TcpFault::InvalidState);
const OUT_OF_WINDOW: TcpOutcome = Drop(TcpFault::OutOfWindow);

/// The opener's and the answerer's initial sequence numbers; the opener's wraps early.
const O: u32 = u32::MAX - 50;
const R: u32 = 7_000_000;

const fn segment(flags: TcpFlags, sequence: u32, acknowledgment: u32, payload: u16) -> Tcp {
    Tcp {
        source_port: 40_000,
        destination_port: 80,
        sequence: SeqNumber::new(sequence),
        acknowledgment: SeqNumber::new(acknowledgment),
        window: 64_240,
        flags,
        payload,
        window_scale: None,
    }
}

fn syn(sequence: u32) -> Tcp {
    Tcp { window_scale: Some(7), ..segment(SYN, sequence, 0, 0) }
}

fn syn_ack(sequence: u32, acknowledgment: u32) -> Tcp {
    Tcp { window_scale: Some(7), ..segment(SYN | ACK, sequence, acknowledgment, 0) }
}

const fn ack(sequence: u32, acknowledgment: u32) -> Tcp {
    segment(ACK, sequence, acknowledgment, 0)
}

const fn data(sequence: u32, acknowledgment: u32, payload: u16) -> Tcp {
    segment(ACK, sequence, acknowledgment, payload)
}

fn fin(sequence: u32, acknowledgment: u32) -> Tcp {
    segment(TcpFlags::FIN | ACK, sequence, acknowledgment, 0)
}

const fn rst(sequence: u32) -> Tcp {
    segment(RST, sequence, 0, 0)
}

const fn at(base: u32, offset: i64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sequence numbers are taken modulo 2^32"
    )]
    let wrapped = (base as i64 + offset) as u32;
    wrapped
}

/// One session under test, in a table of its own.
struct Connection {
    table: Table<Ipv4Addr>,
    slot: Slot,
}

impl Connection {
    fn with(tcp: Option<TcpOpening>, one_sided: bool) -> Self {
        let tuple = Tuple {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(198, 51, 100, 1),
            source_port: 40_000,
            destination_port: 80,
        };
        let mut table = Table::new(1, HashSecret::from_seed(1)).unwrap();
        let new = NewSession { tcp, one_sided, ..NewSession::new(Kind::Tcp, tuple, tuple.reversed()) };
        let slot = table.insert(&new, Tick::new(0)).unwrap();
        Self { table, slot }
    }

    fn opened_by(tcp: &Tcp) -> Self {
        Self::with(Some(open(tcp, Pickup::Strict).unwrap()), false)
    }

    /// Both sides have offered a scale of 7 and sent nothing yet.
    fn established() -> Self {
        let mut connection = Self::opened_by(&syn(O));
        connection.play(&[
            ("answer", Reply, syn_ack(R, at(O, 1)), PassAndRetime, State::SynReceived),
            ("last step", Original, ack(at(O, 1), at(R, 1)), PassAndRetime, State::Established),
        ]);
        connection
    }

    fn state(&self) -> State {
        self.table.session(self.slot).state()
    }

    fn observe(&mut self, direction: Direction, tcp: &Tcp) -> TcpOutcome {
        observe(self.table.session_mut(self.slot), direction, tcp)
    }

    fn play(&mut self, steps: &[(&str, Direction, Tcp, TcpOutcome, State)]) {
        for (sentence, direction, tcp, outcome, state) in steps {
            let before = self.table.session(self.slot).clone();
            let got = self.observe(*direction, tcp);
            assert_eq!((got, self.state()), (*outcome, *state), "{sentence}: {tcp:?}");
            if matches!(got, Drop(_)) {
                let after = self.table.session(self.slot);
                assert_eq!(
                    format!("{before:?}"),
                    format!("{after:?}"),
                    "{sentence}: a dropped segment changes nothing"
                );
            }
        }
    }
}

#[test]
fn an_ordinary_connection_opens_talks_and_closes() {
    use State::{Closing, Established, OriginalFinished, SynReceived, SynSent, TimeWait};
    let mut connection = Connection::opened_by(&syn(O));
    assert_eq!(connection.state(), SynSent);
    connection.play(&[
        ("SYN again", Original, syn(O), Pass, SynSent),
        ("answer", Reply, syn_ack(R, at(O, 1)), PassAndRetime, SynReceived),
        ("answer again", Reply, syn_ack(R, at(O, 1)), Pass, SynReceived),
        ("SYN again", Original, syn(O), Pass, SynReceived),
        ("last step with data", Original, data(at(O, 1), at(R, 1), 100), PassAndRetime, Established),
        ("answer again, the last step was lost behind us", Reply, syn_ack(R, at(O, 1)), Pass, Established),
        ("acknowledged", Reply, ack(at(R, 1), at(O, 101)), Pass, Established),
        ("data back", Reply, data(at(R, 1), at(O, 101), 1_400), Pass, Established),
        ("FIN", Original, fin(at(O, 101), at(R, 1_401)), PassAndRetime, OriginalFinished),
        ("FIN again", Original, fin(at(O, 101), at(R, 1_401)), Pass, OriginalFinished),
        ("more data the other way", Reply, data(at(R, 1_401), at(O, 102), 1_400), Pass, OriginalFinished),
        ("acknowledged", Original, ack(at(O, 102), at(R, 2_801)), Pass, OriginalFinished),
        ("FIN with data", Reply, segment(TcpFlags::FIN | ACK, at(R, 2_801), at(O, 102), 10), PassAndRetime, Closing),
        ("last acknowledgment", Original, ack(at(O, 102), at(R, 2_812)), PassAndRetime, TimeWait),
        ("FIN again, that was lost", Reply, fin(at(R, 2_811), at(O, 102)), Pass, TimeWait),
        ("and acknowledged again", Original, ack(at(O, 102), at(R, 2_812)), Pass, TimeWait),
        ("the port is used again", Original, syn(at(O, 900_000)), Reopen, TimeWait),
    ]);
}

#[test]
fn both_may_close_at_once() {
    use State::{Closing, OriginalFinished, TimeWait};
    let mut connection = Connection::established();
    connection.play(&[
        ("FIN", Original, fin(at(O, 1), at(R, 1)), PassAndRetime, OriginalFinished),
        ("FIN that crossed it", Reply, fin(at(R, 1), at(O, 1)), PassAndRetime, Closing),
        ("one acknowledged", Original, ack(at(O, 2), at(R, 2)), Pass, Closing),
        ("both acknowledged", Reply, ack(at(R, 2), at(O, 2)), PassAndRetime, TimeWait),
    ]);
}

#[test]
fn the_answering_side_may_close_first() {
    use State::{Closing, ReplyFinished, TimeWait};
    let mut connection = Connection::established();
    connection.play(&[
        ("FIN", Reply, fin(at(R, 1), at(O, 1)), PassAndRetime, ReplyFinished),
        ("data goes on", Original, data(at(O, 1), at(R, 2), 1_000), Pass, ReplyFinished),
        ("FIN", Original, fin(at(O, 1_001), at(R, 2)), PassAndRetime, Closing),
        ("all acknowledged", Reply, ack(at(R, 2), at(O, 1_002)), PassAndRetime, TimeWait),
    ]);
}

/// EVA-13, RFC 9293 section 3.5 figure 8.
#[test]
fn simultaneous_open_passes() {
    use State::{Established, SynCrossed, SynReceived};
    for reply_first in [false, true] {
        let mut connection = Connection::opened_by(&syn(O));
        connection.play(&[
            ("SYNs cross", Reply, syn(R), PassAndRetime, SynCrossed),
            ("again", Reply, syn(R), Pass, SynCrossed),
        ]);
        let (mine, other) = (syn_ack(O, at(R, 1)), syn_ack(R, at(O, 1)));
        if reply_first {
            connection.play(&[
                ("one answers", Reply, other, PassAndRetime, SynReceived),
                ("the other answers", Original, mine, PassAndRetime, Established),
            ]);
        } else {
            connection.play(&[
                ("one answers", Original, mine, Pass, SynCrossed),
                ("the other answers", Reply, other, PassAndRetime, Established),
            ]);
        }
        connection.play(&[
            ("data", Original, data(at(O, 1), at(R, 1), 500), Pass, Established),
            ("data", Reply, data(at(R, 1), at(O, 501), 500), Pass, Established),
            ("far out", Reply, data(at(R, 900_000_000), at(O, 501), 500), OUT_OF_WINDOW, Established),
        ]);
    }
}

#[test]
fn a_refused_connection_is_closed_and_may_be_tried_again() {
    use State::{Closed, SynSent};
    let mut connection = Connection::opened_by(&syn(O));
    connection.play(&[
        ("a reset that acknowledges nothing", Reply, rst(0), OUT_OF_WINDOW, SynSent),
        ("one that acknowledges something else", Reply, segment(RST | ACK, 0, at(O, 2), 0), OUT_OF_WINDOW, SynSent),
        ("the refusal", Reply, segment(RST | ACK, 0, at(O, 1), 0), PassAndRetime, Closed),
        ("next attempt", Original, syn(at(O, 64_000)), Reopen, Closed),
    ]);
}

/// EVA-14, RFC 5961 section 3.2: four called invalid, the flow lives; the fifth closes.
#[test]
fn only_an_exact_reset_closes() {
    for (direction, next, base) in [(Original, at(O, 101), O), (Reply, at(R, 301), R)] {
        let mut connection = Connection::established();
        connection.play(&[
            ("data", Original, data(at(O, 1), at(R, 1), 100), Pass, State::Established),
            ("data", Reply, data(at(R, 1), at(O, 101), 300), Pass, State::Established),
            ("acknowledged", Original, ack(at(O, 101), at(R, 301)), Pass, State::Established),
            ("zero", direction, rst(if base == R { 0 } else { 0x4000_0000 }), OUT_OF_WINDOW, State::Established),
            ("far out", direction, rst(at(next, 2_000_000_000)), OUT_OF_WINDOW, State::Established),
            ("in window", direction, rst(at(next, 1_000)), OUT_OF_WINDOW, State::Established),
            ("exact less one", direction, rst(at(next, -1)), OUT_OF_WINDOW, State::Established),
            ("exact", direction, rst(next), PassAndRetime, State::Closed),
            ("one more of a train", direction, rst(next), Pass, State::Closed),
        ]);
    }
}

#[test]
fn a_reset_with_data_under_way_counts_at_either_end_of_it() {
    use State::{Closed, Established};
    let under_way = [("data", Original, data(at(O, 1), at(R, 1), 1_000), Pass, Established)];
    for exact in [at(O, 1), at(O, 1_001)] {
        let mut connection = Connection::established();
        connection.play(&under_way);
        connection.play(&[
            ("after the data or instead of it", Original, rst(exact), PassAndRetime, Closed),
            ("the receiver had not got all and challenges", Reply, ack(at(R, 1), at(O, 1)), Pass, Closed),
            ("and is answered", Original, rst(at(O, 1)), Pass, Closed),
        ]);
    }
    let mut connection = Connection::established();
    connection.play(&under_way);
    connection.play(&[("between the two the receiver judges", Original, rst(at(O, 500)), Pass, Established)]);
}

#[test]
fn a_reset_behind_its_own_fin_counts() {
    let mut connection = Connection::established();
    connection.play(&[
        ("FIN", Original, fin(at(O, 1), at(R, 1)), PassAndRetime, State::OriginalFinished),
        ("acknowledged", Reply, ack(at(R, 1), at(O, 2)), Pass, State::OriginalFinished),
        ("data for a reader that is gone", Reply, data(at(R, 1), at(O, 2), 10), Pass, State::OriginalFinished),
        ("reset with the number of the FIN", Original, rst(at(O, 1)), PassAndRetime, State::Closed),
    ]);
}

/// EVA-17, RFC 5961 section 4.2, RFC 9293 section 3.5.1: the opener has restarted, the peer still remembers.
#[test]
fn a_syn_on_a_living_connection_is_challenged_reset_and_reopens() {
    use State::{Closed, Established};
    let mut connection = Connection::established();
    connection.play(&[
        ("data", Original, data(at(O, 1), at(R, 1), 100), Pass, Established),
        ("acknowledged", Reply, ack(at(R, 1), at(O, 101)), Pass, Established),
        ("new SYN", Original, syn(123_456), Pass, Established),
        ("challenge", Reply, ack(at(R, 1), at(O, 101)), Pass, Established),
        ("its answer", Original, rst(at(O, 101)), PassAndRetime, Closed),
        ("SYN again", Original, syn(123_456), Reopen, Closed),
    ]);
}

/// The same when the SYN finds no session any more but the peer still remembers an older connection.
#[test]
fn a_half_open_peer_is_heard_and_reset() {
    use State::{Closed, SynSent};
    let mut connection = Connection::opened_by(&syn(O));
    connection.play(&[
        ("the peer's challenge", Reply, ack(900, 800), Pass, SynSent),
        ("an answer to an older SYN", Reply, syn_ack(901, 700), Pass, SynSent),
        ("reset", Original, rst(800), Pass, SynSent),
        ("SYN again", Original, syn(O), Pass, SynSent),
        ("answer", Reply, syn_ack(R, at(O, 1)), PassAndRetime, State::SynReceived),
        ("given up", Original, rst(at(O, 1)), PassAndRetime, Closed),
    ]);
}

#[test]
fn a_peer_that_forgot_the_connection_answers_the_syn() {
    use State::{Established, SynReceived};
    let mut connection = Connection::established();
    connection.play(&[
        ("new SYN", Original, syn(123_456), Pass, Established),
        (
            "a reset that refuses it passes and closes nothing",
            Reply,
            segment(RST | ACK, 0, 123_457, 0),
            Pass,
            Established,
        ),
        ("answer", Reply, syn_ack(77, 123_457), PassAndRetime, SynReceived),
        ("last step", Original, ack(123_457, 78), PassAndRetime, Established),
        ("data", Reply, data(78, 123_457, 1_000), Pass, Established),
        ("nothing bounds it", Original, data(at(O, 1), at(R, 1), 1_000), Pass, Established),
    ]);
}

#[test]
fn a_handshake_that_comes_again_late_is_no_new_connection() {
    let mut connection = Connection::established();
    connection.play(&[
        ("data", Original, data(at(O, 1), at(R, 1), 100), Pass, State::Established),
        ("the SYN again", Original, syn(O), Pass, State::Established),
        ("its answer again", Reply, syn_ack(R, at(O, 1)), Pass, State::Established),
        ("far out", Reply, data(at(R, 900_000_000), at(O, 101), 500), OUT_OF_WINDOW, State::Established),
    ]);
}

#[test]
fn a_server_with_syn_cookies_may_answer_twice_with_different_numbers() {
    use State::{Established, SynReceived};
    for (sentence, taken) in [("the later", R + 5_000), ("the earlier", R)] {
        let mut connection = Connection::opened_by(&syn(O));
        connection.play(&[
            ("answer", Reply, syn_ack(R, at(O, 1)), PassAndRetime, SynReceived),
            ("another", Reply, segment(SYN | ACK, R + 5_000, at(O, 1), 0), Pass, SynReceived),
        ]);
        let outcome = connection.observe(Original, &ack(at(O, 1), taken + 1));
        assert!(!matches!(outcome, Drop(_)), "{sentence}");
        assert!(!matches!(connection.observe(Reply, &data(taken + 1, at(O, 1), 1_400)), Drop(_)), "{sentence}");
        assert_eq!(connection.state(), Established, "{sentence}");
    }
}

#[test]
fn a_wrong_last_step_completes_nothing_and_is_reset() {
    use State::{Closed, SynReceived};
    let mut connection = Connection::opened_by(&syn(O));
    connection.play(&[
        ("answer", Reply, syn_ack(R, at(O, 1)), PassAndRetime, SynReceived),
        ("not what was sent", Original, ack(at(O, 1), at(R, 4_000)), Pass, SynReceived),
        ("the server's reset", Reply, rst(at(R, 4_000)), PassAndRetime, Closed),
    ]);
}

#[test]
fn fast_open_carries_data_both_ways_in_the_handshake() {
    use State::{Established, SynReceived};
    let mut connection = Connection::opened_by(&Tcp { payload: 200, ..syn(O) });
    connection.play(&[
        ("answer", Reply, syn_ack(R, at(O, 201)), PassAndRetime, SynReceived),
        ("data before the last step", Reply, data(at(R, 1), at(O, 201), 1_000), PassAndRetime, Established),
        ("last step", Original, ack(at(O, 201), at(R, 1_001)), Pass, Established),
    ]);
    let mut connection = Connection::opened_by(&Tcp { payload: 200, ..syn(O) });
    connection.play(&[
        ("only the SYN is acknowledged", Reply, syn_ack(R, at(O, 1)), PassAndRetime, SynReceived),
        ("the data again", Original, data(at(O, 1), at(R, 1), 200), PassAndRetime, Established),
    ]);
}

/// EVA-18.
#[test]
fn an_acknowledged_segment_again_after_67_kilobytes_passes() {
    let mut connection = Connection::opened_by(&segment(SYN, O, 0, 0));
    connection.observe(Reply, &segment(SYN | ACK, R, at(O, 1), 0));
    connection.observe(Original, &ack(at(O, 1), at(R, 1)));
    let first = data(at(O, 1), at(R, 1), 1_000);
    for step in 0..68 {
        assert_eq!(connection.observe(Original, &data(at(O, 1 + step * 1_000), at(R, 1), 1_000)), Pass);
        assert_eq!(connection.observe(Reply, &ack(at(R, 1), at(O, 1_001 + step * 1_000))), Pass);
    }
    assert_eq!(connection.observe(Original, &first), Pass);
}

#[test]
fn keepalives_and_window_probes_pass() {
    use State::Established;
    let mut connection = Connection::established();
    let closed = |sequence, acknowledgment| Tcp { window: 0, ..ack(sequence, acknowledgment) };
    connection.play(&[
        ("data", Original, data(at(O, 1), at(R, 1), 60_000), Pass, Established),
        ("window closed", Reply, closed(at(R, 1), at(O, 60_001)), Pass, Established),
        ("probe behind", Original, ack(at(O, 60_000), at(R, 1)), Pass, Established),
        ("probe with one byte more", Original, data(at(O, 60_001), at(R, 1), 1), Pass, Established),
        ("not taken", Reply, closed(at(R, 1), at(O, 60_001)), Pass, Established),
        ("taken", Reply, closed(at(R, 1), at(O, 60_002)), Pass, Established),
        ("keepalive", Original, ack(at(O, 60_001), at(R, 1)), Pass, Established),
        ("keepalive with a byte", Original, data(at(O, 60_001), at(R, 1), 1), Pass, Established),
        ("keepalive the other way", Reply, ack(at(R, 0), at(O, 60_002)), Pass, Established),
        ("answered", Original, ack(at(O, 60_002), at(R, 1)), Pass, Established),
        ("window opened", Reply, ack(at(R, 1), at(O, 60_002)), Pass, Established),
    ]);
}

/// RFC 7323 section 2.2: both SYNs must offer it, and the windows in SYNs themselves are not scaled.
#[test]
fn windows_are_scaled_only_when_both_offered_it() {
    for (offer, answer, far_passes) in [(Some(7), Some(7), true), (Some(7), None, false), (None, None, false)] {
        let mut connection = Connection::opened_by(&Tcp { window_scale: offer, ..syn(O) });
        connection.observe(Reply, &Tcp { window_scale: answer, ..syn_ack(R, at(O, 1)) });
        connection.observe(Original, &ack(at(O, 1), at(R, 1)));
        connection.observe(Reply, &ack(at(R, 1), at(O, 1)));
        let far = connection.observe(Original, &data(at(O, 1_000_000), at(R, 1), 1_000));
        assert_eq!(far == Pass, far_passes, "{offer:?} {answer:?}");
        let too_far = connection.observe(Original, &data(at(O, 60_000_000), at(R, 1), 1_000));
        assert_eq!(too_far, OUT_OF_WINDOW);
    }
}

#[test]
fn the_largest_scale_allows_a_gigabyte_under_way() {
    let mut connection = Connection::opened_by(&Tcp { window_scale: Some(14), ..syn(O) });
    connection.observe(Reply, &Tcp { window_scale: Some(14), ..syn_ack(R, at(O, 1)) });
    connection.observe(Original, &Tcp { window: u16::MAX, ..ack(at(O, 1), at(R, 1)) });
    connection.observe(Reply, &Tcp { window: u16::MAX, ..ack(at(R, 1), at(O, 1)) });
    let mut sent = 1;
    while sent < (65_535 << 14) - 65_000 {
        assert_eq!(connection.observe(Original, &data(at(O, sent), at(R, 1), 65_000)), Pass, "{sent}");
        sent += 65_000;
    }
    for acknowledged in [1, 1_000_000, sent / 2, sent] {
        assert_eq!(connection.observe(Reply, &ack(at(R, 1), at(O, acknowledged))), Pass, "{acknowledged}");
    }
    assert_eq!(connection.observe(Reply, &ack(at(R, 1), at(O, sent + 1))), OUT_OF_WINDOW);
    assert_eq!(connection.observe(Original, &rst(at(O, sent))), PassAndRetime);
}

/// EVA-19: only in-window segments of a blind sender pass. The window here is 64 kB; with what is kept behind it, about
/// 200 kB of 4 GiB pass, so of 10,000 not one is expected and three would be a fault.
#[test]
fn blind_data_is_dropped() {
    let mut connection = Connection::opened_by(&segment(SYN, O, 0, 0));
    connection.observe(Reply, &segment(SYN | ACK, R, at(O, 1), 0));
    connection.observe(Original, &ack(at(O, 1), at(R, 1)));
    let mut number: u32 = 1;
    let passed = (0..10_000)
        .filter(|_| {
            number = number.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            connection.observe(Original, &data(number ^ number >> 15, at(R, 1), 1_000)) == Pass
        })
        .count();
    assert!(passed <= 2, "{passed}");
    assert_eq!(connection.observe(Original, &data(at(O, 1), at(R, 1), 1_000)), Pass);
}

#[test]
fn acknowledgments_of_what_was_never_sent_are_dropped() {
    let mut connection = Connection::established();
    connection.play(&[
        ("unsent", Reply, ack(at(R, 1), at(O, 2)), OUT_OF_WINDOW, State::Established),
        ("far behind", Reply, ack(at(R, 1), at(O, -30_000_000)), OUT_OF_WINDOW, State::Established),
        ("sent", Reply, ack(at(R, 1), at(O, 1)), Pass, State::Established),
    ]);
}

/// EVA-21.
#[test]
fn midstream_opens_only_when_loose_and_then_nothing_binds() {
    let tcp = data(500_000, 9_000, 1_000);
    assert_eq!(open(&tcp, Pickup::Strict), None);
    let mut connection = Connection::with(open(&tcp, Pickup::Loose), false);
    use State::{Established, OriginalFinished};
    connection.play(&[
        ("the other side acknowledges", Reply, ack(9_000, 501_000), Pass, Established),
        (
            "data that was under way before we were there is acknowledged",
            Original,
            ack(501_000, 80_000),
            Pass,
            Established,
        ),
        ("any window", Reply, data(4_000_000, 501_000, 1_000), Pass, Established),
        ("a reset elsewhere passes and closes nothing", Reply, rst(12), Pass, Established),
        ("FIN", Original, fin(501_000, 4_001_000), PassAndRetime, OriginalFinished),
        ("reset at what was acknowledged", Original, rst(501_001), PassAndRetime, State::Closed),
    ]);
    for flags in [SYN | ACK, RST, RST | ACK, TcpFlags::FIN | ACK] {
        assert_eq!(open(&segment(flags, 1, 2, 0), Pickup::Loose), None, "{flags}");
    }
}

/// Direct return: the backend answers its client past the appliance.
#[test]
fn a_one_sided_connection_is_followed_by_what_is_seen() {
    use State::{Closed, Established, OriginalFinished};
    let mut connection = Connection::with(open(&syn(O), Pickup::Strict), true);
    connection.play(&[
        ("SYN again", Original, syn(O), Pass, State::SynSent),
        ("last step", Original, ack(at(O, 1), at(R, 1)), PassAndRetime, Established),
        ("request", Original, data(at(O, 1), at(R, 1), 300), Pass, Established),
        ("acknowledges what never passed here", Original, ack(at(O, 301), at(R, 500_000_000)), Pass, Established),
        ("FIN", Original, fin(at(O, 301), at(R, 500_000_000)), PassAndRetime, OriginalFinished),
        ("acknowledges the other FIN", Original, ack(at(O, 302), at(R, 500_000_001)), Pass, OriginalFinished),
        ("reset", Original, rst(at(O, 302)), PassAndRetime, Closed),
        ("the port is used again", Original, syn(5), Reopen, Closed),
    ]);
    let mut upload = Connection::with(open(&syn(O), Pickup::Strict), true);
    upload.observe(Original, &ack(at(O, 1), at(R, 1)));
    for step in 0..60_000 {
        assert_eq!(upload.observe(Original, &data(at(O, 1 + step * 60_000), at(R, 1), 60_000)), Pass);
    }
}

/// MAL-09, the session's part: every set of flags where it finds a connection. Null, xmas, SYN+FIN and SYN+RST open
/// nothing and pass nowhere.
#[test]
fn every_flag_byte_has_its_verdict_everywhere() {
    let in_handshake = || {
        let mut connection = Connection::opened_by(&syn(O));
        connection.observe(Reply, &syn_ack(R, at(O, 1)));
        connection
    };
    let closing = || {
        let mut connection = Connection::established();
        connection.observe(Reply, &fin(at(R, 1), at(O, 1)));
        connection
    };
    for bits in 0..=u8::MAX {
        let flags = TcpFlags::new(bits);
        let [fin, syn, rst, ack] = [0, 1, 2, 4].map(|bit| bits >> bit & 1 == 1);
        assert_eq!(open(&segment(flags, 1, 1, 0), Pickup::Strict).is_some(), syn && !ack && !rst && !fin, "{flags}");
        for (place, mut connection) in
            [("handshake", in_handshake()), ("established", Connection::established()), ("closing", closing())]
        {
            let acknowledgment = if place == "closing" { at(R, 2) } else { at(R, 1) };
            let before = connection.state();
            let outcome = connection.observe(Original, &segment(flags, at(O, 1), acknowledgment, 0));
            let expected = match (flags.is_legal(), place) {
                (false, _) => INVALID_STATE,
                _ if syn => Pass,
                _ if rst => PassAndRetime,
                (_, "handshake") => PassAndRetime,
                _ if fin => PassAndRetime,
                _ => Pass,
            };
            assert_eq!(outcome, expected, "{flags} in {place}");
            assert!(outcome != Pass || connection.state() == before);
        }
    }
}

#[test]
fn nothing_a_peer_sends_before_the_answer_opens_the_way_back() {
    let mut connection = Connection::opened_by(&syn(O));
    connection.play(&[
        ("the opener cannot acknowledge yet", Original, ack(at(O, 1), 55), INVALID_STATE, State::SynSent),
        ("nor answer itself", Original, syn_ack(O, 55), INVALID_STATE, State::SynSent),
    ]);
}

proptest! {
    /// Any segments in any order: no panic, and a state that was left never comes back by a dropped segment.
    #[test]
    fn arbitrary_segments_never_panic(
        segments in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>(), prop::option::of(0_u8..=14)), 1..60),
        near in any::<bool>(),
        one_sided in any::<bool>(),
    ) {
        let mut connection = Connection::with(open(&syn(O), Pickup::Strict), one_sided);
        for (reply, flags, sequence, acknowledgment, window, payload, window_scale) in segments {
            let (sequence, acknowledgment) = if near { (at(if reply { R } else { O }, i64::from(sequence & 7)), at(if reply { O } else { R }, i64::from(acknowledgment & 7))) } else { (sequence, acknowledgment) };
            let tcp = Tcp { window, window_scale, ..segment(TcpFlags::new(flags), sequence, acknowledgment, payload) };
            let before = connection.state();
            let outcome = connection.observe(if reply { Reply } else { Original }, &tcp);
            let unchanged = connection.state() == before;
            prop_assert_eq!(unchanged, outcome != PassAndRetime);
        }
    }
}
