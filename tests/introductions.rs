//! Backends that are told of their clients: by a header before the client's first byte (PROXY protocol, version 2), which shifts
//! the connection for good, or by a TCP option in its first segments. What clients do to be taken for somebody else is in
//! `forged_introductions`.

use millrace_tests::introduced::{
    OPTION, PROXY, Seen, Told, V4, V6, came, exchange, header, one, option_of, rig, shops,
};
use millrace_tests::packet::{host, icmp_error, tcp};
use millrace_tests::shop::ALLOW;
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use stage::DropReason::TcpInvalidState;
use units::Nanos;
use wire::tcp_options::Timestamps;
use wire::{Content, TcpFlags, TcpOptions, Transport, Verify, dissect};

#[test]
fn a_backend_hears_of_its_client_first() {
    for mode in ["nat", "full-nat"] {
        for cast in [&V4, &V6] {
            let mut rig = rig(PROXY, mode);
            let (n, talk) = (cast.header, Told::announced(&mut rig, cast));
            let asked = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_001).seq(1_001).data(b"GET /"))]));
            assert_eq!(asked.numbers(), (INSIDE, 1_001 + n, 9_001, 5));
            let heard = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_006 + n).seq(9_001).window(500))]));
            assert_eq!((heard.numbers(), heard.tcp.window), ((OUTSIDE, 9_001, 1_006, 0), 500));
            let answer = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_006 + n).seq(9_001).data(b"200"))]));
            assert_eq!(answer.numbers(), (OUTSIDE, 9_001, 1_006, 3));
            // Nothing is told a second time.
            rig.leap(Nanos::from_secs(1));
            let more = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().fin(9_004).seq(1_006))]));
            assert_eq!(more.numbers(), (INSIDE, 1_006 + n, 9_004, 0));
            let end = one(&exchange(&mut rig, &[(INSIDE, talk.server().fin(1_007 + n).seq(9_004))]));
            assert_eq!(end.numbers(), (OUTSIDE, 9_004, 1_007, 0));
            let last = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_005).seq(1_007))]));
            assert_eq!(last.numbers(), (INSIDE, 1_007 + n, 9_005, 0));
            rig.wait(12);
            assert_eq!((rig.session_count(), came(&mut rig).len()), (0, 0));
        }
    }
}

/// RLD-11: what a backend was told shifts its connection in the next process, too; who was not told yet is begun anew.
#[test]
fn told_backends_outlive_the_process() {
    for (keys, mode) in [(PROXY, "nat"), (PROXY, "full-nat"), (OPTION, "nat")] {
        let text = format!("{TWO_PORTS}{ALLOW}{}", shops(keys, mode));
        for cast in [&V4, &V6] {
            let mut rig = rig(keys, mode);
            let n = if keys == PROXY { cast.header } else { 0 };
            let talk = Told::answered(&mut rig, cast);
            let (early, _) = rig.images();
            assert!(early.is_empty(), "it has not been told");
            exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_001).seq(1_001))]);
            exchange(&mut rig, &[talk.data(1_001, b"EHLO")]);
            exchange(&mut rig, &[(INSIDE, talk.server().ack(1_005 + n).seq(9_001).window(5_000))]);
            let (images, left_out) = rig.images();
            assert_eq!((images.len(), left_out), (1, 0), "{keys} {mode}");
            let (mut rig, refused) = Rig::heir(&text, Layout::default(), &images, Nanos::from_millis(300));
            assert_eq!((refused.len(), rig.session_count()), (0, 1), "{keys} {mode}: {refused:?}");
            let answer = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_005 + n).seq(9_001).data(b"250"))]));
            assert_eq!(answer.numbers(), (OUTSIDE, 9_001, 1_005, 3));
            let more = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_004).seq(1_005).data(b"QUIT"))]));
            assert_eq!((more.numbers(), more.payload()), ((INSIDE, 1_005 + n, 9_004, 4), &b"QUIT"[..]));
            // Nobody introduces himself in its place.
            let before = exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_004).seq(1_001 - 28).data(&[7; 28]))]);
            assert!(before.is_empty() || keys == OPTION, "{before:?}");
            let anew = exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(77_000))]);
            assert!(anew.iter().all(|seen| seen.side == OUTSIDE), "{anew:?}");
        }
    }
}

/// The client's first segment with data may be the one that completes the handshake, and the header may be lost: it is sent again
/// with what the client sends, and by the clock while the client waits to be spoken to.
#[test]
fn a_lost_header_is_sent_again() {
    for cast in [&V4, &V6] {
        let (mut rig, n) = (rig(PROXY, "nat"), cast.header);
        let talk = Told::syn(&mut rig, cast, &[]);
        exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000))]);
        let data = || talk.data(1_001, b"EHLO");
        for _ in 0..2 {
            let first = one(&exchange(&mut rig, &[data()]));
            assert_eq!((first.numbers().1, first.payload()), (1_001, &[&header(cast)[..], b"EHLO"].concat()[..]));
            // In the same moment nothing is told twice.
            let again = one(&exchange(&mut rig, &[data()]));
            assert_eq!((again.numbers().1, again.payload()), (1_001 + n, &b"EHLO"[..]));
            rig.leap(Nanos::from_millis(300));
        }
        let later = exchange(&mut rig, &[talk.data(1_005, b"HELP")]);
        assert_eq!(later.iter().map(|seen| seen.numbers().1).collect::<Vec<_>>(), [1_005 + n, 1_001]);
        rig.wait(1);
        let again = one(&came(&mut rig));
        assert_eq!((again.numbers().1, again.payload()), (1_001, &header(cast)[..]));
        // The data has come, the header has not: the client hears that its own is kept.
        let kept = [1, 1, 5, 10].into_iter().chain((1_001 + n).to_be_bytes()).chain((1_005 + n).to_be_bytes());
        let kept: Vec<u8> = kept.collect();
        let duplicate = talk.server().ack(1_001).seq(9_001).window(500).tcp_options(&kept);
        let heard = one(&exchange(&mut rig, &[(INSIDE, duplicate)]));
        assert_eq!((heard.numbers(), u32::from(heard.tcp.window)), ((OUTSIDE, 9_001, 1_001, 0), 500 - n));
        let edges = [1_001_u32, 1_005].map(u32::to_be_bytes).concat();
        assert!(heard.bytes[..usize::from(heard.facts.end)].ends_with(&edges));
        exchange(&mut rig, &[(INSIDE, talk.server().ack(1_005 + n).seq(9_001))]);
        rig.wait(10);
        assert!(came(&mut rig).is_empty(), "heard");
    }
}

/// Timestamps of the segment that tells are the client's (RFC 7323 section 5: others would be dropped as old).
#[test]
fn the_header_carries_the_clients_clock_and_windows_their_scale() {
    let mut rig = rig(PROXY, "nat");
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x10, 0, 0, 0, 0, 0, 1, 3, 3, 7];
    let talk = Told::syn(&mut rig, &V4, &linux);
    exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000).tcp_options(&linux))]);
    let mut stamps = [0; 40];
    let timestamps = Some(Timestamps { value: 0x1001, echo: 0x1000 });
    let len = TcpOptions { timestamps, ..TcpOptions::default() }.write(&mut stamps);
    let ack = talk.client().ack(9_001).seq(1_001).tcp_options(&stamps[..len]);
    let first = one(&exchange(&mut rig, &[(OUTSIDE, ack)]));
    assert_eq!((first.options.timestamps, first.payload()), (timestamps, &header(&V4)[..]));
    let partly = talk.server().ack(1_001).seq(9_001).window(10);
    assert_eq!(one(&exchange(&mut rig, &[(INSIDE, partly)])).tcp.window, (10 * 128 - 28) / 128);
}

/// Hostile openings: data in a SYN would come before the header; an ACK of nothing brings no header out.
#[test]
fn nothing_reaches_a_backend_before_the_header() {
    let mut rig = rig(PROXY, "nat");
    let early = tcp(V4.client, V4.shop).syn().seq(1_000).data(b"GET /");
    rig.drops_all("data in a SYN", &[(OUTSIDE, early)], TcpInvalidState);
    let talk = Told::syn(&mut rig, &V4, &[]);
    for packet in [talk.client().ack(9_001).seq(1_001), talk.client().ack(9_001).seq(1_001).data(b"GET /")] {
        assert!(exchange(&mut rig, &[(OUTSIDE, packet)]).iter().all(|seen| seen.side == OUTSIDE), "not answered yet");
    }
    exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000))]);
    let wrong = talk.client().ack(0x7000_0000).seq(1_001);
    assert!(exchange(&mut rig, &[(OUTSIDE, wrong)]).is_empty(), "acknowledges what was never sent");
    assert_eq!(one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_001).seq(1_001))])).payload(), header(&V4));
}

/// A proven client is introduced as its connection is joined to the backend.
#[test]
fn clients_proven_by_a_cookie_are_introduced_too() {
    for cast in [&V4, &V6] {
        let mut rig = rig(&format!("{PROXY}\nsyn_cookies = {{ mode = \"always\" }}"), "nat");
        let n = cast.header;
        let talk = Told::visible(cast);
        let cookie = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().syn().seq(1_000))])).tcp.sequence.get();
        let syn = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(cookie + 1).seq(1_001))]));
        assert_eq!(syn.numbers(), (INSIDE, 1_000, 0, 0));
        let seen = exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000).window(500))]);
        let (out, inside): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.side == OUTSIDE);
        assert_eq!(one(&out).numbers(), (OUTSIDE, cookie + 1, 1_001, 0));
        assert_eq!((one(&inside).numbers().1, one(&inside).payload()), (1_001, &header(cast)[..]));
        let asked = one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(cookie + 1).seq(1_001).data(b"GET"))]));
        assert_eq!(asked.numbers(), (INSIDE, 1_001 + n, 9_001, 3));
        let heard = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_004 + n).seq(9_001).data(b"200"))]));
        assert_eq!(heard.numbers(), (OUTSIDE, cookie + 1, 1_004, 3));
    }
}

/// Errors about what the client sent quote its own numbers; a session that a policy ends is reset with each end's own; a policy that
/// no longer introduces clients leaves those alone that are.
#[test]
fn errors_policies_and_resets_count_as_each_end_does() {
    let mut rig = rig(PROXY, "nat");
    let talk = Told::announced(&mut rig, &V4);
    exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_001).seq(1_001).data(&[7; 400]))]);
    let quoted = tcp(&talk.seen_at, V4.server).ack(9_001).seq(1_029).data(&[7; 400]);
    rig.put(INSIDE, &icmp_error("10.0.0.99", "198.51.100.7", 3, 4, 1_400, &quoted, 200));
    rig.settle();
    let (_, error) = rig.take().remove(0);
    let Content::Ip(facts) = dissect(&error, Verify::All).unwrap().content else { panic!("IP") };
    let Transport::IcmpError { quote, .. } = facts.transport else { panic!("{facts:?}") };
    let at = usize::from(quote.transport_offset) + 4;
    assert_eq!(error[at..at + 4], 1_001_u32.to_be_bytes());
    rig.publish_more(&format!("{ALLOW}{}", shops("", "nat")));
    let heard = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_429).seq(9_001).data(b"200"))]));
    assert_eq!(heard.numbers(), (OUTSIDE, 9_001, 1_401, 3));
    let reject = "[[firewall.rule]]\nname = \"no\"\naction = \"reject\"\nfrom = [\"wan\"]\n";
    rig.publish_more(&format!("{reject}{}", shops("", "nat")));
    let ends = exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_004).seq(1_401))]);
    let resets: Vec<_> = ends.iter().filter(|seen| seen.tcp.flags.contains(TcpFlags::RST)).map(Seen::numbers).collect();
    assert_eq!(resets, [(OUTSIDE, 9_004, 1_401, 0), (INSIDE, 1_429, 9_004, 0)]);
}

/// RFC 1191 section 4, RFC 8201: a link behind the appliance has room for a segment and the option, until the option is heard.
#[test]
fn a_smaller_link_behind_has_room_for_the_option() {
    for (cast, router, kind, code, longer) in [(&V4, "10.0.0.99", 3, 4, 8), (&V6, "2001:db8:10::99", 2, 0, 20)] {
        let mut rig = rig(OPTION, "nat");
        let talk = Told::syn(&mut rig, cast, &[]);
        exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000))]);
        exchange(&mut rig, &[talk.data(1_001, &[7; 1_400])]);
        let told = |rig: &mut Rig| {
            let quoted = tcp(&talk.seen_at, cast.server).ack(9_001).seq(1_001).data(&[7; 1_400]);
            rig.put(INSIDE, &icmp_error(router, host(cast.client), kind, code, 1_400, &quoted, 200));
            rig.settle();
            let (_, error) = rig.take().remove(0);
            let Content::Ip(facts) = dissect(&error, Verify::All).unwrap().content else { panic!("IP") };
            let at = usize::from(facts.transport_offset) + 4;
            u32::from_be_bytes(error[at..at + 4].try_into().unwrap())
        };
        assert_eq!(told(&mut rig), 1_400 - longer);
        exchange(&mut rig, &[(INSIDE, talk.server().ack(2_401).seq(9_001))]);
        assert_eq!(told(&mut rig), 1_400);
    }
}

/// The option stands in what the client sends until the backend has taken something; then the session goes on without.
#[test]
fn an_option_names_the_client_until_the_backend_speaks() {
    for mode in ["nat", "full-nat"] {
        for cast in [&V4, &V6] {
            let mut rig = rig(OPTION, mode);
            let wanted = option_of(&header(cast));
            let named = |seen: &Seen| seen.option_bytes().windows(wanted.len()).any(|bytes| bytes == wanted);
            let talk = Told::syn(&mut rig, cast, &[]);
            exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000))]);
            for data in [&b""[..], b"", b"GET /"] {
                let seen = one(&exchange(&mut rig, &[talk.data(1_001, data)]));
                assert_eq!((seen.numbers().1, seen.payload()), (1_001, data));
                assert!(named(&seen), "{seen:?}");
            }
            one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_006).seq(9_001))]));
            let later = one(&exchange(&mut rig, &[talk.data(1_006, b"more")]));
            assert_eq!((later.numbers().1, named(&later)), (1_006, false));
            let answer = one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(1_010).seq(9_001).data(b"200"))]));
            assert_eq!(answer.numbers(), (OUTSIDE, 9_001, 1_010, 3));
            one(&exchange(&mut rig, &[(OUTSIDE, talk.client().fin(9_004).seq(1_010))]));
            one(&exchange(&mut rig, &[(INSIDE, talk.server().fin(1_011).seq(9_004))]));
            one(&exchange(&mut rig, &[(OUTSIDE, talk.client().ack(9_005).seq(1_011))]));
            rig.wait(130);
            assert_eq!(rig.session_count(), 0);
        }
    }
}

/// Segments without room for the option: in fragments, too long for the link, or full of options of their own, as those of MPTCP are
/// (RFC 8684 section 3.1). The backend hears of its client first, and of what it says all the same.
#[test]
fn a_segment_without_room_for_the_option_arrives() {
    for cast in [&V4, &V6] {
        let wanted = option_of(&header(cast));
        let named = |seen: &Seen| seen.option_bytes().windows(wanted.len()).any(|bytes| bytes == wanted);
        let data = [7; 1_200];
        let full: Vec<u8> = [30, 36].into_iter().chain([0x81; 34]).collect();
        for (what, split) in [("fragments", true), ("options", false)] {
            let mut rig = rig(OPTION, "nat");
            let talk = Told::syn(&mut rig, cast, &[]);
            exchange(&mut rig, &[(INSIDE, talk.server().syn_ack(1_001).seq(9_000))]);
            let ask = || {
                let segment = talk.client().ack(9_001).seq(1_001).data(&data);
                if split { segment.pieces(600) } else { vec![segment.tcp_options(&full)] }
            };
            let put = |rig: &mut Rig| {
                for piece in ask() {
                    rig.put(OUTSIDE, &piece);
                }
                rig.settle();
            };
            put(&mut rig);
            let first = one(&came(&mut rig));
            assert_eq!(
                (first.numbers().1, first.payload().len(), named(&first)),
                (1_001, 0, true),
                "{what}: who it is"
            );
            rig.leap(Nanos::from_millis(300));
            for _ in 0..2 {
                put(&mut rig);
                let out = rig.take();
                let told = out.iter().filter_map(|(_, bytes)| {
                    let Content::Ip(facts) = dissect(bytes, Verify::All).unwrap().content else { return None };
                    let Transport::Tcp(tcp) = facts.transport else { return None };
                    Some((facts.fragment, tcp))
                });
                let told: Vec<_> = told.filter(|(fragment, _)| *fragment == wire::Fragment::No).collect();
                let alone = told.iter().filter(|(_, tcp)| tcp.payload == 0).count();
                assert_eq!((out.len(), alone), (if split { 4 } else { 2 }, 1), "{what}: itself, and who it is");
            }
            one(&exchange(&mut rig, &[(INSIDE, talk.server().ack(2_201).seq(9_001))]));
            let more = talk.data(2_201, b"more");
            assert!(!named(&one(&exchange(&mut rig, &[more]))), "{what}: heard");
        }
    }
}
