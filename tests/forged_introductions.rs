//! Clients that would be taken for somebody else by a backend that is told of its clients: whatever they send, the first thing
//! that an application reads of a connection is the appliance's word, and so is the only option that names a client.

use millrace_tests::introduced::{
    ANSWERER, Application, Cast, OPENER, OPTION, PROXY, Seen, Told, V4, V6, came, exchange, forged, header, one,
    option_of, rig, shops, workers,
};
use millrace_tests::packet::{Packet, icmp_error, tcp};
use millrace_tests::shop::ALLOW;
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use stage::DropReason::{NoSession, TcpInvalidState, TcpOutOfWindow};
use wire::tcp_options::Timestamps;
use wire::{Content, TcpFlags, TcpOptions, Transport, Verify, dissect};

/// The client's first number and the first after the header, as the backend counts.
const FIRST: u32 = OPENER + 1;

/// Every version and number of workers.
fn everywhere() -> impl Iterator<Item = (&'static Cast, u16)> {
    [&V4, &V6].into_iter().flat_map(|cast| [1, 2].map(|workers| (cast, workers)))
}

fn inside(seen: &[Seen]) -> Vec<Seen> {
    seen.iter().filter(|seen| seen.side == INSIDE).cloned().collect()
}

/// A header of the client's own, and something to ask for.
fn lie(cast: &Cast) -> Vec<u8> {
    [&forged(cast)[..], b"GET /admin"].concat()
}

/// RFC 9293 section 3.10.7.4: what lies before the window is old. A client has nothing to say before its first byte, and never gets
/// into the place of the header: not before it is sent, nor while it is under way, nor when it has been heard.
#[test]
fn nothing_before_the_clients_first_byte_reaches_a_backend() {
    for (cast, number) in everywhere() {
        let n = cast.header;
        for step in 0..3 {
            let mut rig = workers(number, PROXY, "nat");
            let talk = [Told::answered, Told::announced, Told::heard][step](&mut rig, cast);
            let before = [FIRST - n, FIRST - n + 1, FIRST - 1].map(|number| talk.data(number, &lie(cast)));
            rig.drops_all("numbers before the first byte", &before, TcpOutOfWindow);
            let fin = (OUTSIDE, talk.client().fin(ANSWERER + 1).seq(FIRST - n).data(&lie(cast)));
            rig.drops_all("and with FIN", &[fin], TcpOutOfWindow);
            let urgent = talk.client().flags(0x30).acknowledging(ANSWERER + 1).seq(FIRST - 9).urgent(5).data(b"12345");
            rig.drops_all("and urgent", &[(OUTSIDE, urgent)], TcpOutOfWindow);
        }
    }
}

/// The same while the header is lost again and again: the application reads the appliance's word first.
#[test]
fn an_application_reads_the_header_first_whatever_is_lost() {
    for (cast, number) in everywhere() {
        let mut rig = workers(number, PROXY, "nat");
        let talk = Told::answered(&mut rig, cast);
        let mut application = Application::listening(OPENER);
        // All of this is lost on its way to the backend, and not repeated in the same moment.
        exchange(&mut rig, &[talk.data(FIRST, b"GET /")]);
        // In tiny segments, from everywhere around the place of the header.
        let lie = lie(cast);
        for from in (FIRST - cast.header - 2..FIRST + 5).rev() {
            let at = usize::try_from(from + cast.header - (FIRST - 2)).unwrap() % lie.len();
            application.hears(&exchange(&mut rig, &[talk.data(from, &lie[at..=at])]));
        }
        rig.wait(2);
        application.hears(&came(&mut rig));
        assert!(application.read().starts_with(&header(cast)), "{:x?}", application.read());
        assert!(application.read().len() > header(cast).len(), "and then what the client says");
    }
}

/// On the wire to the backend nothing of the client's goes ahead of the header, whatever it begins with: what has room carries the
/// header in front of it, and in the place of everything else the header goes alone.
#[test]
fn the_header_is_first_on_the_wire() {
    for (cast, number) in everywhere() {
        let n = cast.header;
        let room = 1_500 - if n == 28 { 40 } else { 60 };
        let plain = |talk: &Told<'_>, from: u32, data: &[u8]| talk.data(from, data).1;
        let asks = b"GET /".as_slice();
        for (what, carried, packet) in [
            (
                "an acknowledgment",
                Some(0),
                (|talk, _| talk.client().ack(ANSWERER + 1).seq(FIRST)) as fn(&Told<'_>, usize) -> Packet,
            ),
            ("data", Some(5), |talk, _| talk.data(FIRST, b"GET /").1),
            ("an end", Some(1), |talk, _| talk.client().fin(ANSWERER + 1).seq(FIRST)),
            ("as much as there is room for", None, |talk, room| talk.data(FIRST, &vec![7; room]).1),
            ("urgent data", None, |talk, _| {
                talk.client().flags(0x30).acknowledging(ANSWERER + 1).urgent(1).seq(FIRST).data(b"!")
            }),
            ("a later segment", None, |talk, _| talk.data(FIRST + 5, b"HTTP").1),
            ("a probe of a window", None, |talk, _| talk.client().ack(ANSWERER + 1).seq(FIRST - 1)),
        ] {
            let mut rig = workers(number, PROXY, "nat");
            let talk = Told::answered(&mut rig, cast);
            let first = one(&exchange(&mut rig, &[(OUTSIDE, packet(&talk, room))]));
            assert_eq!((first.side, first.tcp.sequence.get()), (INSIDE, FIRST), "{what}");
            assert!(first.payload().starts_with(&header(cast)), "{what}: {first:?}");
            let fin = u32::from(first.tcp.flags.contains(TcpFlags::FIN));
            assert_eq!(u32::from(first.tcp.payload) + fin, n + carried.unwrap_or(0), "{what}");
            assert!(!first.tcp.flags.contains(TcpFlags::URG), "{what}");
        }
        // In one burst, and the later one first.
        let mut rig = workers(number, PROXY, "nat");
        let talk = Told::answered(&mut rig, cast);
        let burst = [(OUTSIDE, plain(&talk, FIRST + 5, b"HTTP")), (OUTSIDE, plain(&talk, FIRST, asks))];
        let seen = exchange(&mut rig, &burst);
        assert_eq!(seen[0].payload(), header(cast), "{seen:#?}");
        let mut application = Application::listening(OPENER);
        application.hears(&seen);
        assert_eq!(application.read(), [&header(cast)[..], asks].concat());
    }
}

/// RFC 9293 section 3.8.4: a keep-alive is one number before the next, and what a client with nothing to say sends must be answered.
#[test]
fn probes_pass_when_the_header_is_heard() {
    for cast in [&V4, &V6] {
        let mut rig = rig(PROXY, "nat");
        let talk = Told::heard(&mut rig, cast);
        let probe = talk.client().ack(ANSWERER + 1).seq(FIRST - 1);
        let seen = one(&exchange(&mut rig, &[(OUTSIDE, probe.clone())]));
        assert_eq!(seen.numbers(), (INSIDE, FIRST - 1 + cast.header, ANSWERER + 1, 0));
        let seen = one(&exchange(&mut rig, &[(OUTSIDE, probe.data(b"x"))]));
        assert_eq!(seen.numbers(), (INSIDE, FIRST - 1 + cast.header, ANSWERER + 1, 1));
        let answer = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + cast.header).seq(ANSWERER + 1))]));
        assert_eq!(answer.numbers(), (OUTSIDE, ANSWERER + 1, FIRST, 0));
    }
}

/// RFC 5961 section 4.2, in the backend's name: a client that begins anew is asked whether it means it. No SYN but the first reaches a
/// backend, so that none has another connection than the one it was told of, whatever it has forgotten.
#[test]
fn a_connection_that_begins_anew_is_a_new_session() {
    for (cast, number) in everywhere() {
        let n = cast.header;
        let mut rig = workers(number, PROXY, "nat");
        let talk = Told::heard(&mut rig, cast);
        // A hole, and a reset that only the backend can tell to be exact: it forgets the connection, and the appliance does not.
        let reset = (OUTSIDE, talk.client().rst().seq(FIRST + 1));
        exchange(&mut rig, &[talk.data(FIRST, b"a"), talk.data(FIRST + 2, b"b"), reset]);
        for (what, begin) in [
            ("another number", talk.client().syn().seq(500_000)),
            ("the same number", talk.client().syn().seq(OPENER)),
            ("with data", talk.client().syn().seq(500_000).data(&lie(cast))),
        ] {
            let asked = exchange(&mut rig, &[(OUTSIDE, begin)]);
            assert!(inside(&asked).is_empty(), "{what}: {asked:#?}");
        }
        let crossed = (OUTSIDE, talk.client().syn_ack(ANSWERER + 1).seq(500_000));
        assert!(inside(&exchange(&mut rig, &[crossed])).is_empty(), "both at once");
        // What would be the rest of it, had the backend answered.
        let answer = (INSIDE, talk.server().syn_ack(500_001).seq(77_000));
        exchange(&mut rig, &[answer]);
        for packet in
            [talk.client().ack(77_001).seq(500_001 - n), talk.client().ack(77_001).seq(500_001 - n).data(&lie(cast))]
        {
            assert!(inside(&exchange(&mut rig, &[(OUTSIDE, packet)])).is_empty());
        }
        // One that means it says so with the number it is told, and begins again, introduced.
        let asked = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(500_000))]));
        assert_eq!((asked.side, asked.tcp.flags), (OUTSIDE, TcpFlags::ACK));
        let reset = talk.client().rst().seq(asked.tcp.acknowledgment.get());
        one(&exchange(&mut rig, &[(OUTSIDE, reset)]));
        let syn = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(500_000))]));
        assert_eq!(syn.numbers(), (INSIDE, 500_000, 0, 0));
        exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(500_001).seq(77_000))]);
        let first = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(77_001).seq(500_001).data(b"GET"))]));
        assert_eq!((first.tcp.sequence.get(), first.payload()), (500_001, &[&header(cast)[..], b"GET"].concat()[..]));
    }
}

/// A backend that remembers its connections in cookies takes an acknowledgment of its first number for a new one: only the
/// appliance's own segments carry the number it would have to have.
#[test]
fn a_backends_own_cookie_opens_nothing_to_the_client() {
    for cast in [&V4, &V6] {
        let mut rig = rig(PROXY, "nat");
        let talk = Told::heard(&mut rig, cast);
        let seen = exchange(&mut rig, &[talk.data(FIRST, b"a"), talk.data(FIRST - cast.header, &lie(cast))]);
        assert!(inside(&seen).iter().all(|seen| seen.tcp.sequence.get() != FIRST), "{seen:#?}");
    }
}

/// A stream longer than half of all sequence numbers is not taken for one that lies before its beginning.
#[test]
fn long_streams_go_on_past_their_beginning() {
    let mut rig = rig(PROXY, "nat");
    let linux = [2, 4, 5, 0xb4, 1, 3, 3, 14];
    let talk = Told::syn(&mut rig, &V4, &linux);
    exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER).tcp_options(&linux))]);
    exchange(&mut rig, &[talk.data(FIRST, b"")]);
    exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + 28).seq(ANSWERER + 1).window(65_535))]);
    let (mut said, step) = (0_u32, 100_000_000_u32);
    for _ in 0..60 {
        let seen = one(&exchange(&mut rig, &[talk.data(FIRST.wrapping_add(said), b"data")]));
        assert_eq!(seen.tcp.sequence.get(), FIRST.wrapping_add(28).wrapping_add(said));
        // The model says the rest at once: its last byte is enough for the appliance.
        let last = one(&exchange(&mut rig, &[talk.data(FIRST.wrapping_add(said).wrapping_add(step - 4), b"data")]));
        said = said.wrapping_add(step);
        assert_eq!(last.tcp.sequence.get(), FIRST.wrapping_add(24).wrapping_add(said));
        let all = FIRST.wrapping_add(28).wrapping_add(said);
        one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(all).seq(ANSWERER + 1).window(65_535))]));
    }
}

/// A connection under way has had its introduction, or cannot have it any more: `loose` takes it up for services that do not
/// introduce their clients.
#[test]
fn nothing_is_taken_up_in_its_middle() {
    for (cast, keys) in [(&V4, PROXY), (&V6, PROXY), (&V4, OPTION), (&V6, OPTION)] {
        let text = format!("{TWO_PORTS}{ALLOW}{}", shops(keys, "nat"));
        let loose = text.replace("capacity = 4_096", "capacity = 4_096\nmidstream = \"loose\"");
        assert_ne!(text, loose);
        let mut rig = Rig::laid_out(&loose, Layout::default());
        let talk = Told::visible(cast);
        rig.drops_all("under way", &[talk.data(FIRST, &lie(cast)), talk.data(FIRST, b"")], NoSession);
        Told::syn(&mut rig, cast, &[]);
    }
}

/// RFC 7413: data in a SYN would come before the introduction, in the first one and in every repetition.
#[test]
fn a_repeated_syn_brings_no_data() {
    for (cast, number) in everywhere() {
        for keys in [PROXY, OPTION] {
            let mut rig = workers(number, keys, "nat");
            let talk = Told::visible(cast);
            let early = || (OUTSIDE, talk.client().syn().seq(OPENER).data(&lie(cast)));
            rig.drops_all("at first", &[early()], TcpInvalidState);
            Told::syn(&mut rig, cast, &[]);
            rig.drops_all("again", &[early()], TcpInvalidState);
            let again = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(OPENER))]));
            assert_eq!(again.numbers(), (INSIDE, OPENER, 0, 0), "a lost one may come again");
            exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER))]);
            rig.drops_all("answered", &[early()], TcpInvalidState);
            let other = (OUTSIDE, talk.client().syn().seq(OPENER + 9).data(&lie(cast)));
            assert!(inside(&exchange(&mut rig, &[other])).is_empty());
        }
    }
}

/// RFC 9293 section 3.10.7.4, RFC 5961 section 3.2: a reset has the number its receiver expects, before the header is sent, while it
/// is under way, and after.
#[test]
fn a_clients_reset_has_the_number_its_backend_expects() {
    for cast in [&V4, &V6] {
        let n = cast.header;
        for (step, expected) in [(0, FIRST), (1, FIRST), (2, FIRST + n)] {
            let mut rig = rig(PROXY, "nat");
            let talk = [Told::answered, Told::announced, Told::heard][step](&mut rig, cast);
            let reset = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().rst().seq(FIRST))]));
            assert_eq!((reset.side, reset.tcp.sequence.get()), (INSIDE, expected), "{step}");
            rig.wait(11);
            assert_eq!((rig.session_count(), came(&mut rig).len()), (0, 0), "{step}: nothing is said to it any more");
        }
        // It reset while the acknowledgment of the header was under way: that one it resets with the right number.
        let mut rig = rig(PROXY, "nat");
        let talk = Told::announced(&mut rig, cast);
        exchange(&mut rig, &[(OUTSIDE, talk.client().rst().seq(FIRST))]);
        let late = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + n).seq(ANSWERER + 1))]));
        let reset = talk.client().rst().seq(late.tcp.acknowledgment.get());
        assert_eq!(one(&exchange(&mut rig, &[(OUTSIDE, reset)])).tcp.sequence.get(), FIRST + n);
    }
}

/// RFC 9293 section 3.5.1, figure 10: a backend that remembers an older connection is reset with the number it said.
#[test]
fn an_older_connection_of_the_backend_is_cleared_away() {
    for cast in [&V4, &V6] {
        for older in [500, FIRST + 5, 0x9000_0000] {
            let mut rig = rig(PROXY, "nat");
            let talk = Told::syn(&mut rig, cast, &[]);
            let asked = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(older).seq(123))]));
            assert_eq!(asked.numbers(), (OUTSIDE, 123, older, 0));
            let reset = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().rst().seq(older))]));
            assert_eq!((reset.side, reset.tcp.sequence.get()), (INSIDE, older));
            one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(OPENER))]));
            exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER))]);
            let first = one(&exchange(&mut rig, &[talk.data(FIRST, b"")]));
            assert_eq!((first.tcp.sequence.get(), first.payload()), (FIRST, &header(cast)[..]), "and it is told");
        }
    }
}

/// A SYN with another number before the backend has answered: its connection is the one that is introduced.
#[test]
fn another_attempt_is_introduced_from_its_own_beginning() {
    for (cast, number) in everywhere() {
        for opener in [5_000, 90_000] {
            let mut rig = workers(number, PROXY, "nat");
            let talk = Told::visible(cast);
            one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(9_000))]));
            let syn = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(opener))]));
            assert_eq!(syn.numbers(), (INSIDE, opener, 0, 0));
            let answer = one(&exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(opener + 1).seq(ANSWERER))]));
            assert_eq!(answer.numbers(), (OUTSIDE, ANSWERER, opener + 1, 0));
            let mut application = Application::listening(opener);
            application.hears(&exchange(&mut rig, &[talk.data(opener + 1, b"")]));
            application.hears(&exchange(&mut rig, &[talk.data(opener + 1, b"GET /")]));
            assert_eq!(application.read(), [&header(cast)[..], b"GET /"].concat());
        }
    }
}

/// RFC 6298 section 5.5: what is not acknowledged is sent again, ever less often, for as long as the connection is there: a client that
/// waits to be spoken to has nothing else that would end the silence.
#[test]
fn a_header_is_repeated_until_it_is_heard() {
    for (cast, keys) in [
        (&V4, PROXY.to_owned()),
        (&V6, PROXY.to_owned()),
        (&V4, format!("{PROXY}\nsyn_cookies = {{ mode = \"always\" }}")),
    ] {
        let mut rig = rig(&keys, "nat");
        let proven = keys.contains("syn_cookies");
        let talk = if proven { joined(&mut rig, cast).0 } else { Told::announced(&mut rig, cast) };
        let mut repeated = Vec::new();
        for second in 1..=400_u32 {
            rig.wait(1);
            for seen in came(&mut rig) {
                assert_eq!((seen.tcp.sequence.get(), seen.payload()), (FIRST, &header(cast)[..]));
                repeated.push(second);
            }
        }
        let gaps: Vec<u32> = repeated.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(repeated[0] <= 2 && gaps.is_sorted() && gaps.len() >= 6, "{repeated:?}");
        assert!(gaps.iter().all(|gap| *gap <= 64) && repeated.last() > Some(&300), "{repeated:?}");
        exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + cast.header).seq(ANSWERER + 1))]);
        rig.wait(130);
        assert!(came(&mut rig).is_empty(), "heard");
    }
}

/// A window of zero is the backend's word: nothing of it is given to the client, and the header is repeated into it.
#[test]
fn a_closed_window_keeps_the_header_first() {
    for cast in [&V4, &V6] {
        let n = cast.header;
        let mut rig = rig(PROXY, "nat");
        let talk = Told::syn(&mut rig, cast, &[]);
        let answer = talk.server().syn_ack(FIRST).seq(ANSWERER).window(0);
        assert_eq!(one(&exchange(&mut rig, &[(INSIDE, answer)])).tcp.window, 0);
        // Nothing of this is taken by the backend.
        exchange(&mut rig, &[talk.data(FIRST, b"")]);
        let shut = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST).seq(ANSWERER + 1).window(0))]));
        assert_eq!((shut.numbers(), shut.tcp.window), ((OUTSIDE, ANSWERER + 1, FIRST, 0), 0));
        let mut application = Application::listening(OPENER);
        application.hears(&exchange(&mut rig, &[talk.data(FIRST, b"x")]));
        rig.wait(2);
        application.hears(&came(&mut rig));
        assert!(application.read().starts_with(&header(cast)));
        let window = u16::try_from(n).unwrap() + 10;
        let open = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST).seq(ANSWERER + 1).window(window))]));
        assert_eq!((open.numbers(), open.tcp.window), ((OUTSIDE, ANSWERER + 1, FIRST, 0), 10));
    }
}

fn quoted_number(rig: &mut Rig, cast: &Cast, about: &Packet) -> u32 {
    let (router, kind, code) = if cast.header == 28 { ("10.0.0.99", 3, 13) } else { ("2001:db8:10::99", 1, 1) };
    rig.put(INSIDE, &icmp_error(router, millrace_tests::packet::host(cast.client), kind, code, 0, about, 200));
    rig.settle();
    let out = rig.take();
    let [(OUTSIDE, error)] = out.as_slice() else { panic!("one error: {out:?}") };
    let Content::Ip(facts) = dissect(error, Verify::All).unwrap().content else { panic!("IP") };
    let Transport::IcmpError { quote, .. } = facts.transport else { panic!("{facts:?}") };
    let at = usize::from(quote.transport_offset) + 4;
    u32::from_be_bytes(error[at..at + 4].try_into().unwrap())
}

/// RFC 5927 section 4.1: an error is believed by whoever finds a number of its own in it.
#[test]
fn errors_quote_the_clients_own_numbers() {
    for cast in [&V4, &V6] {
        let n = cast.header;
        let mut rig = rig(PROXY, "nat");
        let talk = Told::syn(&mut rig, cast, &[]);
        let sent = || tcp(&talk.seen_at, cast.server);
        assert_eq!(quoted_number(&mut rig, cast, &sent().syn().seq(OPENER)), OPENER, "its SYN");
        exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER))]);
        exchange(&mut rig, &[talk.data(FIRST, b"GET /")]);
        let about = [
            sent().syn().seq(OPENER),
            sent().ack(ANSWERER + 1).seq(FIRST),
            sent().ack(ANSWERER + 1).seq(FIRST + n + 2),
        ];
        let numbers: Vec<u32> = about.iter().map(|about| quoted_number(&mut rig, cast, about)).collect();
        assert_eq!(numbers, [OPENER, FIRST, FIRST + 2], "its SYN, the header in front of its data, its data");
    }
}

/// A connection that was opened without its client's introduction goes on under a policy that asks for it; what begins in its place
/// is introduced, and what had not begun yet begins again.
#[test]
fn a_new_policy_introduces_whoever_begins_under_it() {
    for (cast, keys) in [(&V4, PROXY), (&V6, PROXY), (&V4, OPTION), (&V6, OPTION)] {
        let mut rig = rig("", "nat");
        let talk = Told::answered(&mut rig, cast);
        exchange(&mut rig, &[talk.data(FIRST, b"GET /")]);
        rig.publish_more(&format!("{ALLOW}{}", shops(keys, "nat")));
        let more = one(&exchange(&mut rig, &[talk.data(FIRST + 5, b"more")]));
        assert_eq!((more.numbers(), more.payload()), ((INSIDE, FIRST + 5, ANSWERER + 1, 4), &b"more"[..]));
        let asked = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(500_000))]));
        assert_eq!(asked.numbers(), (OUTSIDE, ANSWERER, FIRST, 0), "asked whether it means it");
        let answer = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + 9).seq(ANSWERER + 1).data(b"200"))]));
        assert_eq!(answer.numbers(), (OUTSIDE, ANSWERER + 1, FIRST + 9, 3));

        let mut rig = millrace_tests::introduced::rig("", "nat");
        let talk = Told::answered(&mut rig, cast);
        rig.publish_more(&format!("{ALLOW}{}", shops(keys, "nat")));
        let seen = exchange(&mut rig, &[talk.data(FIRST, &lie(cast))]);
        assert!(seen.iter().all(|seen| seen.tcp.payload == 0 && seen.tcp.flags.contains(TcpFlags::RST)), "{seen:#?}");
    }
}

/// The options of a segment that are called 254.
fn names(seen: &Seen) -> Vec<Vec<u8>> {
    let (bytes, mut found) = (seen.option_bytes(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            0 => break,
            1 => at += 1,
            kind => {
                let len = usize::from(bytes[at + 1]);
                if kind == 254 {
                    found.push(bytes[at..at + len].to_vec());
                }
                at += len;
            }
        }
    }
    found
}

/// Options with which a client would be somebody else, or nobody.
fn pretences(cast: &Cast) -> Vec<Vec<u8>> {
    let own = option_of(&forged(cast));
    let other = option_of(&forged(if cast.header == 28 { &V6 } else { &V4 }));
    let filled = [own.clone(), vec![1; 40 - own.len()]].concat();
    vec![
        own.clone(),
        other,
        filled,
        vec![1; 40],
        vec![0, 1, 1, 1],
        [&own[..], &[0, 0, 0, 0]].concat(),
        [&[254, 2, 254, 3, 0, 254, 4, 9, 9, 1, 1, 1][..]].concat(),
    ]
}

/// What receivers of the option believe is the first one they find before the end of the list (RFC 9293 section 3.2): there is one,
/// before everything the client says, in each segment until the backend has taken one.
#[test]
fn the_only_option_that_names_a_client_is_the_appliances() {
    for (cast, number) in everywhere() {
        for mode in ["nat", "full-nat"] {
            for options in pretences(cast) {
                let mut rig = workers(number, OPTION, mode);
                let wanted = option_of(&header(cast));
                let talk = Told::syn(&mut rig, cast, &[]);
                let syn = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(OPENER).tcp_options(&options))]));
                assert_eq!((syn.numbers(), names(&syn)), ((INSIDE, OPENER, 0, 0), vec![]), "{options:?}");
                exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER))]);
                for data in [&b""[..], b"GET /"] {
                    let packet = talk.client().ack(ANSWERER + 1).seq(FIRST).tcp_options(&options).data(data);
                    let seen = one(&exchange(&mut rig, &[(OUTSIDE, packet)]));
                    assert_eq!(names(&seen), [&wanted[..]], "{options:?}");
                    assert!(seen.option_bytes().starts_with(&wanted), "{seen:?}");
                    let room = options.len() + wanted.len() <= 40;
                    assert_eq!(seen.payload(), if room { data } else { b"" }, "the client says it again");
                }
                // The first SYN of a connection as well.
                let packet = tcp(cast.client, cast.shop).from(if cast.header == 28 {
                    "198.51.100.8:40000"
                } else {
                    "[2001:db8:51::8]:40000"
                });
                let syn = one(&exchange(&mut rig, &[(OUTSIDE, packet.syn().seq(OPENER).tcp_options(&options))]));
                assert_eq!(names(&syn), Vec::<Vec<u8>>::new());
                // And when the backend has spoken, for as long as the connection lives.
                exchange(&mut rig, &[talk.data(FIRST, b"GET /")]);
                exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + 5).seq(ANSWERER + 1).data(b"200"))]);
                let packet = talk.client().ack(ANSWERER + 4).seq(FIRST + 5).tcp_options(&options).data(b"more");
                let seen = one(&exchange(&mut rig, &[(OUTSIDE, packet)]));
                assert_eq!((names(&seen), seen.payload()), (vec![], &b"more"[..]), "{options:?}");
                let again = exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(500_000).tcp_options(&options))]);
                assert!(inside(&again).is_empty(), "nothing begins anew in its place");
            }
        }
    }
}

/// What the backend says before it has taken a segment with the option changes nothing: it may refuse one that came, and remember an
/// older connection.
#[test]
fn an_option_stays_until_a_segment_with_it_was_taken() {
    for cast in [&V4, &V6] {
        let mut rig = rig(OPTION, "nat");
        let wanted = option_of(&header(cast));
        let talk = Told::syn(&mut rig, cast, &[]);
        exchange(&mut rig, &[(INSIDE, talk.server().ack(4_711).seq(123))]);
        exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER))]);
        for _ in 0..2 {
            // It says what it expects, and has taken nothing.
            exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST).seq(ANSWERER + 1))]);
            assert_eq!(names(&one(&exchange(&mut rig, &[talk.data(FIRST, b"GET /")]))), [&wanted[..]]);
        }
        exchange(&mut rig, &[(INSIDE, talk.server().ack(FIRST + 5).seq(ANSWERER + 1))]);
        assert_eq!(names(&one(&exchange(&mut rig, &[talk.data(FIRST + 5, b"more")]))), Vec::<Vec<u8>>::new());
        // A backend that has forgotten all of it may take the first segment for a beginning.
        assert_eq!(names(&one(&exchange(&mut rig, &[talk.data(FIRST, b"GET /")]))), [&wanted[..]]);
    }
}

/// A client is told of segments so much smaller that the option always has room on the link; one that sends larger ones is heard
/// without its data first.
#[test]
fn there_is_room_for_the_option_on_the_link() {
    for cast in [&V4, &V6] {
        let mut rig = rig(OPTION, "nat");
        let (wanted, most) = (option_of(&header(cast)), if cast.header == 28 { 1_460_u16 } else { 1_440 });
        let talk = Told::syn(&mut rig, cast, &[]);
        let [high, low] = most.to_be_bytes();
        let answer = talk.server().syn_ack(FIRST).seq(ANSWERER).tcp_options(&[2, 4, high, low]);
        let told = one(&exchange(&mut rig, &[(INSIDE, answer)])).options.segment_size.unwrap();
        assert_eq!(usize::from(told), usize::from(most) - wanted.len());
        let large = one(&exchange(&mut rig, &[talk.data(FIRST, &vec![7; usize::from(most)])]));
        assert_eq!((names(&large), large.payload()), (vec![wanted.clone()], &b""[..]));
        let fits = one(&exchange(&mut rig, &[talk.data(FIRST, &vec![7; usize::from(told)])]));
        assert_eq!((names(&fits), fits.tcp.payload), (vec![wanted], told));
    }
}

/// A client that proves itself with a cookie, its SYN at the backend, and the backend's answer; what came out of that.
fn joined<'c>(rig: &mut Rig, cast: &'c Cast) -> (Told<'c>, u32, Vec<Seen>) {
    let talk = Told::visible(cast);
    let cookie = one(&exchange(rig, &[(OUTSIDE, talk.client().syn().seq(OPENER))]));
    let told = cookie.tcp.sequence.get();
    let syn = one(&exchange(rig, &[(OUTSIDE, talk.client().ack(told + 1).seq(FIRST))]));
    assert_eq!(syn.numbers(), (INSIDE, OPENER, 0, 0));
    let seen = exchange(rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER).window(5_000))]);
    (talk, told, seen)
}

fn proven(keys: &str) -> String {
    format!("{keys}\nsyn_cookies = {{ mode = \"always\" }}")
}

/// The segment that completes the handshake in a proven client's name introduces it, by either way, and again when the backend asks
/// again.
#[test]
fn proven_clients_are_introduced_by_the_segment_that_completes_the_handshake() {
    for (cast, number) in everywhere() {
        let mut rig = workers(number, &proven(OPTION), "nat");
        let wanted = option_of(&header(cast));
        let (talk, cookie, seen) = joined(&mut rig, cast);
        let completes = one(&inside(&seen));
        assert_eq!((completes.numbers(), names(&completes)), ((INSIDE, FIRST, ANSWERER + 1, 0), vec![wanted.clone()]));
        let again = exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(FIRST).seq(ANSWERER).window(5_000))]);
        assert_eq!(names(&one(&inside(&again))), [&wanted[..]]);
        let liar = talk.client().ack(cookie + 1).seq(FIRST).tcp_options(&option_of(&forged(cast))).data(b"GET /");
        assert_eq!(names(&one(&exchange(&mut rig, &[(OUTSIDE, liar)]))), [&wanted[..]]);

        let mut rig = workers(number, &proven(PROXY), "nat");
        let (talk, cookie, seen) = joined(&mut rig, cast);
        assert_eq!(one(&inside(&seen)).payload(), header(cast));
        let stamped = TcpOptions { timestamps: Some(Timestamps { value: 1, echo: 1 }), ..TcpOptions::default() };
        let mut options = [0; 40];
        let len = stamped.write(&mut options);
        for from in [FIRST - cast.header, FIRST - 1] {
            let early = talk.client().ack(cookie + 1).seq(from).tcp_options(&options[..len]).data(&lie(cast));
            rig.drops_all("before the first byte", &[(OUTSIDE, early)], TcpOutOfWindow);
        }
        // Whoever begins again is asked by the appliance, in the numbers of the cookie.
        let asked = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(500_000))]));
        assert_eq!(asked.numbers(), (OUTSIDE, cookie, FIRST, 0));
    }
}

/// RFC 9293 section 3.10.7.4: a header that is lost as the two are joined leaves its place to nobody who does not wait for a window.
#[test]
fn a_proven_client_that_does_not_wait_is_introduced_first() {
    for cast in [&V4, &V6] {
        let mut rig = rig(&proven(PROXY), "nat");
        let (talk, cookie, _lost) = joined(&mut rig, cast);
        let said = |from: u32, data: &[u8]| (OUTSIDE, talk.client().ack(cookie + 1).seq(from).data(data));
        let burst = [said(FIRST - cast.header, &lie(cast)), said(FIRST, b"GET /"), said(FIRST + 5, b"now")];
        let mut application = Application::listening(OPENER);
        application.hears(&exchange(&mut rig, &burst));
        rig.wait(1);
        application.hears(&exchange(&mut rig, &[said(FIRST, b"GET /"), said(FIRST + 5, b"now")]));
        assert_eq!(application.read(), [&header(cast)[..], b"GET /now"].concat());
    }
}
