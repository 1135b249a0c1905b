//! Sessions over their lives: TCP from the first SYN to the last ACK and everything hostile in between, datagrams, pings,
//! other protocols, the time each state lives, and what happens when the table is full.

use millrace_tests::packet::{end, host, ip, ping, pong, tcp, udp};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, INSIDE_KERNEL, OUTSIDE, OUTSIDE_KERNEL, Rig, TWO_PORTS, Talk, flood_of};
use session::State;
use stage::DropReason::{HopLimitExceeded, NoSession, PacketTooBig, SessionTableFull, TcpInvalidState, TcpOutOfWindow};
use units::{Nanos, Tick};

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

const V4: (&str, &str) = ("198.51.100.7:40000", "10.0.0.11:80");
const V6: (&str, &str) = ("[2001:db8:51::7]:40000", "[2001:db8:10::11]:80");

fn plain((client, server): (&str, &str)) -> Talk {
    Talk::tcp((OUTSIDE, client, server), (INSIDE, client, server))
}

fn both() -> [Talk; 2] {
    [plain(V4), plain(V6)]
}

/// A hundred connections, of clients and ports of their own, half of them in IPv6.
fn hundred() -> impl Iterator<Item = Talk> {
    (0..50)
        .flat_map(|number| ["198.51.100.7", "2001:db8:51::7"].map(|host| end(host, 40_000 + number)))
        .map(|client| plain((&client, if client.starts_with('[') { V6.1 } else { V4.1 })))
}

fn only_state(rig: &mut Rig) -> State {
    let sessions = rig.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions[0].state
}

/// RFC 9293 section 3.3.2, as seen from the middle.
#[test]
fn a_connection_lives_from_its_syn_to_its_last_ack() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.syn(&mut rig);
        assert_eq!(only_state(&mut rig), State::SynSent);
        talk.syn(&mut rig);
        rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
        assert_eq!(only_state(&mut rig), State::SynReceived);
        rig.passes("the same again", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
        rig.passes("ACK", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)));
        assert_eq!(only_state(&mut rig), State::Established);
        talk.chat(&mut rig);
        rig.passes("FIN", talk.up(|p| p.fin(ANSWERER + 6).seq(OPENER + 6)));
        assert_eq!(only_state(&mut rig), State::OriginalFinished);
        rig.passes("the other side goes on", talk.down(|p| p.ack(OPENER + 7).seq(ANSWERER + 6).data(b"and more")));
        rig.passes("which is acknowledged", talk.up(|p| p.ack(ANSWERER + 14).seq(OPENER + 7)));
        rig.passes("its FIN", talk.down(|p| p.fin(OPENER + 7).seq(ANSWERER + 14)));
        assert_eq!(only_state(&mut rig), State::Closing);
        rig.passes("the last ACK", talk.up(|p| p.ack(ANSWERER + 15).seq(OPENER + 7)));
        assert_eq!(only_state(&mut rig), State::TimeWait);
        rig.passes("the FIN once more", talk.down(|p| p.fin(OPENER + 7).seq(ANSWERER + 14)));
        rig.passes("and its ACK", talk.up(|p| p.ack(ANSWERER + 15).seq(OPENER + 7)));
        rig.passes("a new connection on the same ports", talk.up(|p| p.syn().seq(900_000)));
        assert_eq!(only_state(&mut rig), State::SynSent);
    }
}

/// EVA-13: legal crossing SYNs pass when both directions are allowed.
#[test]
fn two_that_open_at_once_find_each_other() {
    let mut rig = Rig::new(ALLOW);
    for (talk, number) in hundred().zip(1..) {
        talk.syn(&mut rig);
        rig.passes("the other's SYN crosses", talk.down(|p| p.syn().seq(ANSWERER)));
        rig.passes("SYN-ACK", talk.up(|p| p.syn_ack(ANSWERER + 1).seq(OPENER)));
        rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
        talk.chat(&mut rig);
        assert_eq!(rig.session_count(), number, "one session each");
    }
    assert!(rig.sessions().iter().all(|session| session.state == State::Established));
    assert_eq!((rig.session_count(), rig.drops().len()), (100, 0));
}

/// EVA-13, RFC 9293 section 3.5: the same where both are behind one port, so that their first packets come in one burst.
#[test]
fn two_that_open_at_once_in_one_burst_find_each_other() {
    let v6 = ("[2001:db8:51::7]:4500", "[2001:db8:51::8]:4500");
    for (one, other) in [("198.51.100.7:4500", "198.51.100.8:4500"), v6] {
        for (write, state) in
            [(udp as fn(&str, &str) -> _, State::TwoWay), (|a, b| tcp(a, b).syn().seq(1), State::SynCrossed)]
        {
            let mut rig = Rig::new(ALLOW);
            let (there, back) = (ping(host(one), host(other), 1), pong(host(other), host(one), 1));
            rig.passes("the ways are known", ((OUTSIDE, there.clone()), (OUTSIDE, there.routed())));
            rig.passes("both", ((OUTSIDE, back.clone()), (OUTSIDE, back.routed())));
            let (up, down) = ((OUTSIDE, write(one, other)), (OUTSIDE, write(other, one)));
            let out = [&up, &down].map(|(side, packet)| (*side, packet.clone().routed()));
            rig.case("at once", &[up, down], &out, &[]);
            let states: Vec<_> = rig.sessions().iter().map(|session| session.state).collect();
            assert!(states.len() == 2 && states.contains(&state), "one session beside the ping's: {states:?}");
        }
    }
}

/// EVA-14, RFC 5961 section 3.2: four resets that are not exact are invalid and the flow lives; the fifth closes.
#[test]
fn only_an_exact_reset_closes() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.open(&mut rig);
        let next = OPENER + 1;
        for (sentence, sequence) in
            [("at 0", 0), ("far out", 0x8000_0000), ("in the window", next + 1_000), ("one before", next - 1)]
        {
            rig.drops_all(sentence, &[talk.up(|p| p.rst().seq(sequence)).0], TcpOutOfWindow);
            assert_eq!(only_state(&mut rig), State::Established);
        }
        rig.passes("exact", talk.up(|p| p.rst().seq(next)));
        assert_eq!(only_state(&mut rig), State::Closed);
        rig.passes("what crossed it still passes", talk.down(|p| p.ack(next).seq(ANSWERER + 1).data(b"late")));
        rig.leap(Nanos::from_millis(2_500));
        rig.drops_all("and then nothing", &[talk.up(|p| p.ack(ANSWERER + 1).seq(next).data(b"x")).0], NoSession);
    }
}

/// A worker that stood still treats what came meanwhile before anything ends: it came in time, whatever came before it.
#[test]
fn nothing_ends_while_a_worker_stands_still() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.open(&mut rig);
        let other = Talk::udp((OUTSIDE, V4.0, V4.1), (INSIDE, V4.0, V4.1));
        rig.passes("another conversation", other.up(|p| p));
        rig.passes("its other side", other.down(|p| p));
        let next = OPENER + 1;
        rig.passes("a reset", talk.up(|p| p.rst().seq(next)));
        let ((_, before), _) = other.down(|p| p);
        let ((side, crossing), _) = talk.down(|p| p.ack(next).seq(ANSWERER + 1).data(b"late"));
        for _ in 0..200 {
            rig.put(side, &before);
        }
        rig.put(side, &crossing);
        rig.leap(Nanos::from_secs(20));
        assert_eq!((rig.take().len(), rig.dropped(NoSession)), (201, 0));
        rig.leap(Nanos::from_secs(20));
        assert_eq!(rig.sessions().len(), 1, "the reset one is gone");
    }
}

/// Ptacek and Newsham, 1998, section 4.1: a reset that dies on the way, or does not fit, ends nothing here either.
#[test]
fn what_cannot_reach_the_other_end_is_not_followed() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.open(&mut rig);
        for (reason, reset) in [
            (HopLimitExceeded, talk.up(|p| p.rst().seq(OPENER + 1).hops(1))),
            (HopLimitExceeded, talk.down(|p| p.rst().seq(ANSWERER + 1).hops(1).data(b"x"))),
            (PacketTooBig, talk.up(|p| p.rst().seq(OPENER + 1).data(&[7; 1_500]).uncut())),
        ] {
            let ((side, reset), _) = reset;
            let before = rig.dropped(reason);
            rig.put(side, &reset);
            rig.settle();
            let told = rig.take();
            assert_eq!((told.len(), told[0].0, rig.dropped(reason) - before), (1, side, 1), "its sender is told");
            assert_eq!(only_state(&mut rig), State::Established);
        }
        talk.chat(&mut rig);
    }
}

/// EVA-17, RFC 5961 section 4.2: a SYN on a living connection, its challenge, and the new connection.
#[test]
fn a_host_that_came_back_gets_its_connection_anew() {
    let mut rig = Rig::new(ALLOW);
    for talk in hundred() {
        talk.open(&mut rig);
        rig.passes("a SYN out of nowhere", talk.up(|p| p.syn().seq(90_000)));
        rig.passes("the challenge", talk.down(|p| p.ack(OPENER + 1).seq(ANSWERER + 1)));
        rig.passes("the reset it provokes", talk.up(|p| p.rst().seq(OPENER + 1)));
        rig.passes("SYN", talk.up(|p| p.syn().seq(91_000)));
        rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(91_001).seq(70_000)));
        rig.passes("ACK", talk.up(|p| p.ack(70_001).seq(91_001)));
    }
    assert!(rig.sessions().iter().all(|session| session.state == State::Established));
    assert_eq!((rig.session_count(), rig.drops().len()), (100, 0));
}

/// EVA-18: what was acknowledged long ago may come again.
#[test]
fn an_old_segment_passes_again_after_67_kilobytes() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.open(&mut rig);
        let data = [7; 1_340];
        for segment in 0..50 {
            let sent = segment * 1_340;
            rig.passes("data", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1 + sent).data(&data)));
            rig.passes("ACK", talk.down(|p| p.ack(OPENER + 1 + sent + 1_340).seq(ANSWERER + 1)));
        }
        rig.passes("the first once more", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1).data(&data)));
        rig.passes("and its ACK", talk.down(|p| p.ack(OPENER + 1 + 67_000).seq(ANSWERER + 1)));
    }
}

/// EVA-19: guessed data gets in only where the window is.
#[test]
fn guessed_segments_are_outside_the_window() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.open(&mut rig);
        let mut sequence = 0x1234_5678_u32;
        for _ in 0..10 {
            for _ in 0..1_000 {
                sequence = sequence.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let ((side, packet), _) = talk.up(|p| p.ack(ANSWERER + 1).seq(sequence).data(b"evil"));
                rig.put(side, &packet);
            }
            rig.settle();
        }
        let accepted = rig.take().len();
        // Two windows of 65,535 out of 2^32: 0.3 expected of 10,000, and three standard deviations more.
        assert!(accepted <= 2, "{accepted}");
        assert_eq!(rig.dropped(TcpOutOfWindow), 10_000 - accepted as u64);
        talk.chat(&mut rig);
    }
}

/// The window a SYN offers is not scaled, later ones are, when both sides offered to (RFC 7323).
#[test]
fn scaled_windows_let_through_what_they_allow_and_no_more() {
    for (scale, allowed) in [(None, 0xffff_u32), (Some(7), 0xffff << 7), (Some(20), 0xffff << 14)] {
        let talk = plain(V4);
        let mut rig = Rig::new(ALLOW);
        let options = scale.map_or(vec![], |scale| vec![1, 3, 3, scale]);
        rig.passes("SYN", talk.up(|p| p.syn().seq(OPENER).tcp_options(&options)));
        rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER).tcp_options(&options)));
        rig.passes("ACK", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)));
        rig.passes("the answerer opens its window", talk.down(|p| p.ack(OPENER + 1).seq(ANSWERER + 1)));
        let inside = OPENER + 1 + allowed - 10;
        rig.passes("inside", talk.up(|p| p.ack(ANSWERER + 1).seq(inside).data(b"0123456789")));
        // Windows are kept rounded up, so what is surely outside is far outside.
        let outside = OPENER + 1 + allowed * 2 + 0x1_0000;
        rig.drops_all("outside", &[talk.up(|p| p.ack(ANSWERER + 1).seq(outside).data(b"x")).0], TcpOutOfWindow);
    }
}

/// A refused connection: the answer's reset ends it, and nothing is left of it soon after.
#[test]
fn a_refused_connection_leaves_soon() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.syn(&mut rig);
        rig.drops_all(
            "a reset that refuses another SYN",
            &[talk.down(|p| p.rst_ack(OPENER + 7).seq(0)).0],
            TcpOutOfWindow,
        );
        rig.passes("connection refused", talk.down(|p| p.rst_ack(OPENER + 1).seq(0)));
        assert_eq!(only_state(&mut rig), State::Closed);
        talk.syn(&mut rig);
        assert_eq!(only_state(&mut rig), State::SynSent);
        rig.passes("refused again", talk.down(|p| p.rst_ack(OPENER + 1).seq(0)));
        rig.leap(Nanos::from_millis(2_250));
        assert_eq!(rig.session_count(), 0);
    }
}

/// Opens one session and brings it into the state whose idle time is measured.
type Setup = fn(&mut Rig);

/// STX-16: each state's idle time, to within a tick; none under what the RFCs ask for.
#[test]
fn every_state_lives_as_long_as_it_says() {
    let states: [(&str, u64, Setup); 11] = [
        ("SYN sent", 5, |rig| plain(V4).syn(rig)),
        ("both SYNs sent", 5, |rig| {
            plain(V4).syn(rig);
            rig.passes("SYN", plain(V4).down(|p| p.syn().seq(ANSWERER)));
        }),
        ("SYN received", 30, |rig| {
            plain(V4).syn(rig);
            rig.passes("SYN-ACK", plain(V4).down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
        }),
        ("established", 7_440, |rig| plain(V6).open(rig)),
        ("half closed", 120, |rig| {
            plain(V4).open(rig);
            rig.passes("FIN", plain(V4).up(|p| p.fin(ANSWERER + 1).seq(OPENER + 1)));
        }),
        ("time wait", 10, |rig| {
            plain(V4).open(rig);
            plain(V4).close(rig);
        }),
        ("reset", 2, |rig| {
            plain(V4).open(rig);
            rig.passes("RST", plain(V4).up(|p| p.rst().seq(OPENER + 1)));
        }),
        ("UDP without answer", 30, |rig| {
            let packet = udp("198.51.100.7:5", "10.0.0.11:5");
            rig.passes("a question", ((OUTSIDE, packet.clone()), (INSIDE, packet.routed())));
        }),
        ("UDP with answers", 120, |rig| {
            let talk = Talk::udp((OUTSIDE, V6.0, V6.1), (INSIDE, V6.0, V6.1));
            rig.passes("a question", talk.up(|p| p));
            rig.passes("an answer", talk.down(|p| p));
        }),
        ("a ping", 10, |rig| {
            let packet = ping("198.51.100.7", "10.0.0.11", 5);
            rig.passes("a ping", ((OUTSIDE, packet.clone()), (INSIDE, packet.routed())));
        }),
        ("another protocol", 60, |rig| {
            let packet = ip("198.51.100.7", "10.0.0.11", 47, b"tunnel");
            rig.passes("GRE", ((OUTSIDE, packet.clone()), (INSIDE, packet.routed())));
        }),
    ];
    for (sentence, seconds, setup) in states {
        let mut rig = Rig::new(ALLOW);
        rig.leap(Nanos::from_millis(130));
        setup(&mut rig);
        assert_eq!(rig.session_count(), 1, "{sentence}");
        rig.leap(Nanos::from_secs(seconds) - Nanos::new(Tick::NANOS));
        assert_eq!(rig.session_count(), 1, "{sentence}: gone early");
        rig.leap(Nanos::new(2 * Tick::NANOS));
        assert_eq!(rig.session_count(), 0, "{sentence}: still there");
    }
}

/// A packet of either direction keeps a session alive.
#[test]
fn traffic_keeps_a_session() {
    let mut rig = Rig::new(ALLOW);
    let talk = Talk::udp((OUTSIDE, V4.0, V4.1), (INSIDE, V4.0, V4.1));
    rig.passes("a question", talk.up(|p| p));
    for _ in 0..5 {
        rig.wait(100);
        rig.passes("an answer", talk.down(|p| p));
        rig.wait(19);
        if rig.session_count() == 0 {
            break;
        }
    }
    // The first answer came after 100 s, when the unanswered question was forgotten: it opened a session of its own.
    assert_eq!(rig.sessions()[0].original.source_port, 80);
}

/// Datagrams from either end with the ports turned round are one conversation.
#[test]
fn a_conversation_is_one_session_whoever_speaks() {
    let mut rig = Rig::new(ALLOW);
    for talk in
        [Talk::udp((OUTSIDE, V4.0, V4.1), (INSIDE, V4.0, V4.1)), Talk::udp((OUTSIDE, V6.0, V6.1), (INSIDE, V6.0, V6.1))]
    {
        for _ in 0..3 {
            rig.passes("up", talk.up(|p| p));
            rig.passes("down", talk.down(|p| p.data(b"well")));
        }
    }
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        for identifier in [1, 2] {
            let (asks, answers) = (ping(client, server, identifier), pong(server, client, identifier));
            for _ in 0..3 {
                rig.passes("ping", ((OUTSIDE, asks.clone()), (INSIDE, asks.clone().routed())));
                rig.passes("pong", ((INSIDE, answers.clone()), (OUTSIDE, answers.clone().routed())));
            }
        }
        for protocol in [47, 50, 132] {
            let (there, back) = (ip(client, server, protocol, b"one"), ip(server, client, protocol, b"two"));
            rig.passes("there", ((OUTSIDE, there.clone()), (INSIDE, there.routed())));
            rig.passes("back", ((INSIDE, back.clone()), (OUTSIDE, back.routed())));
        }
    }
    let sessions = rig.sessions();
    assert_eq!(sessions.len(), 2 + 2 * (2 + 3));
    assert!(sessions.iter().all(|session| session.state == State::TwoWay));
    let udp4 = sessions.iter().find(|session| session.original.source_port == 40_000).unwrap();
    assert_eq!((udp4.packets, udp4.bytes), (6, 3 * 38 + 3 * 32));
}

fn full(capacity: usize, more: &str) -> Rig {
    Rig::of(&format!("{TWO_PORTS}{more}").replace("capacity = 4_096", &format!("capacity = {capacity}")))
}

fn client(number: usize) -> Talk {
    let ends = if number.is_multiple_of(2) {
        (format!("198.51.100.{}:{}", 20 + number % 200, 1_000 + number), "10.0.0.11:80".to_owned())
    } else {
        (format!("[2001:db8:51::7:{number:x}]:1000"), "[2001:db8:10::11]:80".to_owned())
    };
    plain((&ends.0, &ends.1))
}

/// STX-01, SE-47: what is established goes on, what is new is refused, exactly as much as does not fit.
#[test]
fn a_full_table_refuses_only_what_is_new() {
    let mut rig = full(64, ALLOW);
    let talks: Vec<_> = (0..64).map(client).collect();
    talks.iter().for_each(|talk| talk.open(&mut rig));
    let excess: Vec<_> = (64..164).map(|number| client(number).up(|p| p.syn().seq(1)).0).collect();
    rig.drops_all("a hundred more", &excess, SessionTableFull);
    rig.drops_all("datagrams as well", &[(OUTSIDE, udp("198.51.100.7:5", "10.0.0.11:5"))], SessionTableFull);
    talks.iter().for_each(|talk| talk.chat(&mut rig));
    let own = tcp("198.51.100.1:5000", "198.51.100.7:80").syn().seq(1);
    rig.passes("the appliance's own connections find room", ((OUTSIDE_KERNEL, own.clone()), (OUTSIDE, own)));
    talks[0].close_after(&mut rig, 5);
    rig.wait(11);
    client(200).open(&mut rig);
    rig.drops_all("full again", &[client(201).up(|p| p.syn()).0], SessionTableFull);
}

/// The catalogue's last section: half-open sessions are evicted before any new one is refused, established ones never.
#[test]
fn a_full_table_gives_up_handshakes_first() {
    let mut rig = full(64, ALLOW);
    let settled: Vec<_> = (0..32).map(client).collect();
    settled.iter().for_each(|talk| talk.open(&mut rig));
    (32..64).for_each(|number| client(number).syn(&mut rig));
    assert_eq!(rig.session_count(), 64);
    let newcomers: Vec<_> = (100..132).map(client).collect();
    newcomers.iter().for_each(|talk| talk.open(&mut rig));
    assert_eq!((rig.session_count(), rig.count(|c| &c.half_open_given_up)), (64, 32));
    settled.iter().for_each(|talk| talk.chat(&mut rig));
    rig.drops_all("of those there is nothing left", &[client(33).down(|p| p.syn_ack(OPENER + 1).seq(1)).0], NoSession);
    rig.drops_all("and now it is full", &[client(150).up(|p| p.syn()).0], SessionTableFull);
}

/// FLD-03: which handshake goes: the one that has been under way for longest, of either family, whether or not it was
/// answered. A flood gives up its own, and a client who came in the midst of it completes.
#[test]
fn a_flood_gives_up_its_own_handshakes() {
    let flood = |family: usize, number: usize| match family {
        0 => tcp(&format!("203.0.113.{}:{}", 1 + number % 200, 1 + number), "10.0.0.11:80").syn(),
        1 => tcp(&format!("[2001:db8:99::{:x}]:9", 1 + number), "[2001:db8:10::11]:80").syn(),
        _ => udp(&format!("203.0.113.{}:{}", 1 + number % 200, 1 + number), "10.0.0.11:9"),
    };
    for (family, ticks) in [(0, 0), (0, 239), (1, 4), (1, 239), (2, 4), (2, 200)] {
        let mut rig = full(64, ALLOW);
        for to in ["10.0.0.11", "2001:db8:10::11"] {
            // The way is known before the flood comes.
            rig.put(OUTSIDE, &ping(if to.contains(':') { "2001:db8:51::9" } else { "198.51.100.9" }, to, 1));
            rig.settle();
        }
        rig.leap(Nanos::from_secs(11));
        rig.leap(Nanos::new(ticks * Tick::NANOS));
        (0..64).for_each(|number| rig.put(OUTSIDE, &flood(family, number)));
        rig.settle();
        rig.leap(Nanos::from_secs(1));
        rig.take();
        let given_up = rig.count(|c| &c.half_open_given_up);
        for (round, talk) in [plain(V4), plain(V6)].into_iter().enumerate() {
            let more = |rig: &mut Rig, step: usize| {
                (0..20).for_each(|number| rig.put(OUTSIDE, &flood(family, 100 + 40 * round + 20 * step + number)));
                rig.settle();
                rig.take();
            };
            talk.syn(&mut rig);
            more(&mut rig, 0);
            rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
            more(&mut rig, 1);
            rig.passes("ACK", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)));
            talk.chat(&mut rig);
        }
        assert_eq!((rig.session_count(), rig.dropped(SessionTableFull)), (64, 0), "family {family}");
        assert!(rig.count(|c| &c.half_open_given_up) > given_up + 50);
    }
}

/// FLD-03, SE-47: whatever fills the table, the appliance's own handshakes are never given up, nor is the room that is set
/// aside for them: a probe begun before the flood is answered, and one begun in the midst of it.
#[test]
fn a_full_table_never_gives_up_the_kernels_own_handshakes() {
    let probe = |number: u16| {
        let ends = (format!("10.0.0.1:{}", 5_000 + number), "10.0.0.11:80");
        let up = tcp(&ends.0, ends.1).syn().seq(1);
        let down = tcp(ends.1, &ends.0).syn_ack(2).seq(9);
        (((INSIDE_KERNEL, up.clone()), (INSIDE, up)), ((INSIDE, down.clone()), (INSIDE_KERNEL, down)))
    };
    let question = |number: usize| udp(&format!("198.51.100.7:{}", 1 + number), "10.0.0.11:5");
    for answered in [false, true] {
        let mut rig = full(64, ALLOW);
        for number in 0..64 {
            rig.passes("a question", ((OUTSIDE, question(number)), (INSIDE, question(number).routed())));
            if answered {
                let answer = udp("10.0.0.11:5", &format!("198.51.100.7:{}", 1 + number));
                rig.passes("its answer", ((INSIDE, answer.clone()), (OUTSIDE, answer.routed())));
            }
        }
        let (up, down) = probe(0);
        rig.passes("a probe", up);
        for number in 64..400 {
            rig.put(OUTSIDE, &question(number));
            rig.put(OUTSIDE, &tcp(&format!("198.51.100.8:{number}"), "10.0.0.11:80").syn());
        }
        let (again, answer) = probe(1);
        rig.put(INSIDE_KERNEL, &again.0.1);
        rig.settle();
        rig.take();
        assert_eq!(rig.session_count(), 64 + 2, "nobody else is where the kernel has its room");
        rig.passes("the probe's answer", down);
        rig.passes("the other's", answer);
        assert_eq!(rig.dropped(SessionTableFull), if answered { 2 * 336 } else { 0 });
    }
}

/// FLD-03: a flood of SYNs pushes out handshakes, never a connection.
#[test]
fn a_flood_of_syns_costs_no_connection() {
    let mut rig = full(256, ALLOW);
    let settled: Vec<_> = (0..64).map(client).collect();
    settled.iter().for_each(|talk| talk.open(&mut rig));
    for round in 0..flood_of(10_000) / 500 {
        for number in 0..500 {
            let source = format!("203.0.113.{}:{}", 1 + number % 200, 1 + (round * 500 + number) / 200);
            rig.put(OUTSIDE, &tcp(&source, "10.0.0.11:80").syn().via("198.51.100.254"));
        }
        rig.settle();
        rig.take();
    }
    assert_eq!(rig.session_count(), 256);
    settled.iter().for_each(|talk| talk.chat(&mut rig));
    assert_eq!(rig.dropped(SessionTableFull), 0);
}

/// FLD-09, and the catalogue's last section: where nothing is translated the balancer goes on without a session, by its ring
/// alone; what is followed stays where it is, and nothing is dropped.
#[test]
fn a_full_table_does_not_stop_services_that_translate_nothing() {
    let service = r#"
[[virtual_service]]
name = "direct"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
algorithm = "maglev"
mode = "direct"
[[virtual_service.backend]]
name = "a"
address = "10.0.0.21"
[[virtual_service.backend]]
name = "b"
address = "10.0.0.22"
"#;
    let mut rig = full(8, &format!("{ALLOW}{service}"));
    (0..8).map(client).for_each(|talk| talk.open(&mut rig));
    let mut chosen = std::collections::BTreeSet::new();
    for port in 1..20 {
        let up = tcp(&format!("198.51.100.7:{port}"), "198.51.100.10:80");
        let mut macs = std::collections::BTreeSet::new();
        for packet in [up.clone().syn().seq(1), up.clone().ack(5).seq(2), up.fin(5).seq(2)] {
            rig.put(OUTSIDE, &packet);
            rig.settle();
            let out = rig.take();
            assert_eq!(out.len(), 1, "forwarded without a session: {:?}", rig.drops());
            macs.insert(out[0].1[..6].to_vec());
        }
        assert_eq!(macs.len(), 1, "one flow, one backend");
        chosen.extend(macs);
    }
    assert_eq!((chosen.len(), rig.session_count()), (2, 8));
    (0..8).map(client).for_each(|talk| talk.chat(&mut rig));
    assert_eq!(rig.drops().len(), 0);
}

/// FLD-09: what began while the table was full is not cut off when there is room again; and who has more weight gets more.
#[test]
fn connections_without_a_session_go_on_when_there_is_room_again() {
    for algorithm in ["maglev", "source-hash", "least-connections", "round-robin"] {
        let service = format!(
            "[[virtual_service]]\nname = \"direct\"\naddress = \"198.51.100.10\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
             algorithm = \"{algorithm}\"\nmode = \"direct\"\n\
             [[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.21\"\nweight = 3\n\
             [[virtual_service.backend]]\nname = \"b\"\naddress = \"10.0.0.22\"\n"
        );
        let mut rig = full(8, &format!("{ALLOW}{service}"));
        let talks: Vec<Talk> = (0..8).map(client).collect();
        talks.iter().for_each(|talk| talk.open(&mut rig));
        let clients = || (1..=400_u16).map(|n| tcp(&format!("198.51.100.{}:{n}", 20 + n % 200), "198.51.100.10:80"));
        let station = |rig: &mut Rig, packet: &millrace_tests::packet::Packet| {
            rig.put(OUTSIDE, packet);
            rig.settle();
            rig.take().first().map(|(_, bytes)| bytes[..6].to_vec())
        };
        let chosen: Vec<_> = clients().map(|up| station(&mut rig, &up.syn().seq(1)).expect("forwarded")).collect();
        let first = chosen.iter().filter(|mac| mac[5] == 21).count();
        assert!(
            algorithm == "source-hash" || (260..340).contains(&first),
            "{algorithm}: weights are 3 to 1, {first} of 400"
        );
        talks[0].close(&mut rig);
        rig.wait(250);
        assert!(rig.session_count() < 8, "there is room");
        for (up, chosen) in clients().zip(&chosen) {
            assert_eq!(station(&mut rig, &up.ack(5).seq(2)).as_ref(), Some(chosen), "{algorithm}");
        }
        // Without end it does not go on like that: an hour later nobody is left who began then.
        rig.leap(Nanos::from_secs(8_000));
        let late = tcp("198.51.100.7:1", "198.51.100.10:80").ack(5).seq(2);
        rig.drops_all("a stray segment", &[(OUTSIDE, late)], NoSession);
    }
}

/// STX-10: however many end at once, a turn ends a bounded number of them.
#[test]
fn sessions_that_end_together_are_ended_over_many_turns() {
    let mut rig = Rig::new(ALLOW);
    rig.passes("the way", plain(V4).up(|p| p.syn()));
    for number in 0..2_000_u16 {
        rig.put(OUTSIDE, &udp(&format!("198.51.100.7:{}", 1_000 + number), "10.0.0.11:5"));
    }
    rig.settle();
    assert_eq!(rig.take().len(), 2_000);
    rig.wait(28);
    let before = rig.session_count();
    assert_eq!(before, 2_000);
    rig.leap_only(Nanos::from_secs(4));
    let mut turns = 0;
    let mut left = before;
    while left > 0 {
        rig.turn();
        let now = rig.session_count();
        assert!(left - now <= 64, "{} in one turn", left - now);
        left = now;
        turns += 1;
        assert!(turns < 1_000);
    }
    assert!(turns >= 2_000 / 64);
}

/// STX-12: whatever way sessions end, their places come back: the table takes as many as at first.
#[test]
fn every_place_comes_back() {
    let mut rig = full(64, ALLOW);
    for cycle in 0..30 {
        let talks: Vec<_> = (0..64).map(|number| client(number + cycle * 7)).collect();
        for (number, talk) in talks.iter().enumerate() {
            match (number + cycle) % 4 {
                0 => talk.syn(&mut rig),
                1 => talk.open(&mut rig),
                2 => {
                    talk.open(&mut rig);
                    talk.close(&mut rig);
                }
                _ => {
                    talk.open(&mut rig);
                    rig.passes("RST", talk.down(|p| p.rst().seq(ANSWERER + 1)));
                }
            }
        }
        assert_eq!(rig.session_count(), 64);
        rig.leap(Nanos::from_secs(7_450));
        assert_eq!(rig.session_count(), 0);
    }
    assert_eq!(rig.drops().len(), 0);
}

/// Flags that mean nothing where the connection stands are dropped by that name, and change nothing.
#[test]
fn flags_out_of_place_are_dropped() {
    for talk in both() {
        let mut rig = Rig::new(ALLOW);
        talk.syn(&mut rig);
        for (sentence, packet) in [
            ("data before any answer", talk.up(|p| p.ack(1).seq(OPENER + 1).data(b"x"))),
            ("FIN before any answer", talk.up(|p| p.fin(1).seq(OPENER + 1))),
            ("an answer of the opener to itself", talk.up(|p| p.syn_ack(1).seq(OPENER + 1))),
        ] {
            rig.drops_all(sentence, &[packet.0], TcpInvalidState);
        }
        assert_eq!(only_state(&mut rig), State::SynSent);
        rig.passes("the handshake goes on", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
    }
}
