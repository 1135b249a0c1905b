//! SYN cookies as packets meet them: what a SYN is answered with, how a proven client and its backend are joined, and what
//! becomes of those that lie, vanish or refuse.

use millrace_tests::packet::{Packet, icmp_error, tcp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS, flood_of};
use proptest::prelude::*;
use stage::DropReason::{AwaitsBackend, FirewallDenied, NoSession, SourceRateLimited};
use stage::balancer::Health;
use units::Nanos;
use wire::tcp_options::Timestamps;
use wire::{Content, Facts, Tcp, TcpFlags, TcpOptions, Transport, Verify, dissect};

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";
const SHOP: &str = "198.51.100.10:80";
const SHOP6: &str = "[2001:db8:51::10]:80";
const SERVER: &str = "10.0.0.11:8080";
const SERVER6: &str = "[2001:db8:10::11]:8080";
const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:51::7]:40000";

/// What Linux offers: segment size 1460, selective acknowledgments, timestamps, window scale 7.
const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x10, 0, 0, 0, 0, 0, 1, 3, 3, 7];

fn shops(keys: &str, cookies: &str) -> String {
    let service = |name: &str, address: &str, server: &str| {
        format!(
            "[[virtual_service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
             health = {{ kind = \"none\" }}\nsyn_cookies = {{ {cookies} }}\n{keys}\n[[virtual_service.backend]]\n\
             name = \"a\"\naddress = \"{server}\"\nport = 8080\n"
        )
    };
    service("shop", "198.51.100.10", "10.0.0.11") + &service("shop6", "2001:db8:51::10", "2001:db8:10::11")
}

fn always() -> Rig {
    Rig::new(&format!("{ALLOW}{}", shops("", "mode = \"always\"")))
}

/// A TCP packet that came out, read with every checksum verified.
#[derive(Clone, Debug)]
struct Seen {
    side: Side,
    facts: Facts,
    tcp: Tcp,
    options: TcpOptions,
    bytes: Vec<u8>,
}

fn read((side, bytes): (Side, Vec<u8>)) -> Seen {
    let Content::Ip(facts) = dissect(&bytes, Verify::All).expect("a packet").content else { panic!("IP") };
    let Transport::Tcp(tcp) = facts.transport else { panic!("TCP") };
    Seen { side, facts, tcp, options: TcpOptions::of(&bytes, &facts), bytes }
}

/// Puts packets in and reads what comes out, the outside first.
fn exchange(rig: &mut Rig, packets: &[(Side, Packet)]) -> Vec<Seen> {
    rig.take();
    for (side, packet) in packets {
        rig.put(*side, packet);
    }
    rig.settle();
    let mut seen: Vec<Seen> = rig.take().into_iter().map(read).collect();
    seen.sort_by_key(|seen| seen.side);
    seen
}

fn one(seen: Vec<Seen>) -> Seen {
    let [seen] = <[Seen; 1]>::try_from(seen).unwrap_or_else(|seen| panic!("one packet: {seen:#?}"));
    seen
}

fn two(seen: Vec<Seen>) -> [Seen; 2] {
    <[Seen; 2]>::try_from(seen).unwrap_or_else(|seen| panic!("two packets: {seen:#?}"))
}

/// Options of timestamps only, as segments after the handshake carry them.
fn stamps(value: u32, echo: u32) -> Vec<u8> {
    let mut out = [0; 40];
    let timestamps = Some(Timestamps { value, echo });
    let len = TcpOptions { timestamps, ..TcpOptions::default() }.write(&mut out);
    out[..len].to_vec()
}

/// A client and its server, in the numbers each of them knows.
struct Pair {
    client: String,
    asked: String,
    server: String,
    opener: u32,
    cookie: u32,
    answerer: u32,
    /// The clock the client was told.
    told: u32,
}

impl Pair {
    fn new(v6: bool, port: u16) -> Self {
        let (client, asked, server) = if v6 { (CLIENT6, SHOP6, SERVER6) } else { (CLIENT, SHOP, SERVER) };
        let client = client.replace("40000", &port.to_string());
        let (asked, server) = (asked.to_owned(), server.to_owned());
        Self { client, asked, server, opener: 1_000, cookie: 0, answerer: 0xffff_ff00, told: 0 }
    }

    fn up(&self) -> Packet {
        tcp(&self.client, &self.asked)
    }

    fn down(&self) -> Packet {
        tcp(&self.server, &self.client)
    }

    /// The client's SYN, answered with a cookie.
    fn ask(&mut self, rig: &mut Rig, options: &[u8]) -> Seen {
        let syn = (OUTSIDE, self.up().syn().seq(self.opener).tcp_options(options));
        let answer = one(exchange(rig, &[syn]));
        assert_eq!((answer.side, answer.tcp.flags), (OUTSIDE, TcpFlags::SYN | TcpFlags::ACK));
        assert_eq!(answer.tcp.acknowledgment.get(), self.opener.wrapping_add(1));
        self.cookie = answer.tcp.sequence.get();
        self.told = answer.options.timestamps.map_or(0, |timestamps| timestamps.value);
        answer
    }

    /// Its ACK, which becomes a SYN at the backend.
    fn prove(&self, rig: &mut Rig, options: &[u8]) -> Seen {
        let ack = self.up().ack(self.cookie.wrapping_add(1)).seq(self.opener.wrapping_add(1)).window(502);
        let syn = one(exchange(rig, &[(OUTSIDE, ack.tcp_options(options))]));
        assert_eq!((syn.side, syn.tcp.flags, syn.tcp.sequence.get()), (INSIDE, TcpFlags::SYN, self.opener));
        syn
    }

    /// The backend's answer: what the client and the backend get.
    fn answer(&self, rig: &mut Rig, options: &[u8]) -> [Seen; 2] {
        let answer = self.down().syn_ack(self.opener.wrapping_add(1)).seq(self.answerer).window(65_160);
        let [client, server] = two(exchange(rig, &[(INSIDE, answer.tcp_options(options))]));
        assert_eq!((client.side, server.side), (OUTSIDE, INSIDE));
        assert_eq!((client.tcp.flags, server.tcp.flags), (TcpFlags::ACK, TcpFlags::ACK));
        assert_eq!(client.tcp.sequence.get(), self.cookie.wrapping_add(1));
        assert_eq!(client.tcp.acknowledgment.get(), self.opener.wrapping_add(1));
        assert_eq!(server.tcp.sequence.get(), self.opener.wrapping_add(1));
        assert_eq!(server.tcp.acknowledgment.get(), self.answerer.wrapping_add(1));
        [client, server]
    }

    fn open(&mut self, rig: &mut Rig) {
        self.ask(rig, &[]);
        self.prove(rig, &[]);
        self.answer(rig, &[]);
    }

    /// The client says `said` bytes at `from`, having heard `heard`.
    fn say(&self, from: u32, heard: u32, said: &[u8]) -> Packet {
        let (sequence, heard) = (self.opener.wrapping_add(1 + from), self.cookie.wrapping_add(1 + heard));
        self.up().ack(heard).seq(sequence).data(said)
    }

    /// The server says `said` bytes at `from`, having heard `heard`.
    fn reply(&self, from: u32, heard: u32, said: &[u8]) -> Packet {
        let (sequence, heard) = (self.answerer.wrapping_add(1 + from), self.opener.wrapping_add(1 + heard));
        self.down().ack(heard).seq(sequence).data(said)
    }
}

/// RLD-11: both halves go on in the next process in their own numbers, clocks and scales; one that is still waiting for its backend ends.
#[test]
fn joined_halves_outlive_the_process() {
    let text = format!("{TWO_PORTS}{ALLOW}{}", shops("", "mode = \"always\""));
    for v6 in [false, true] {
        let mut rig = Rig::of(&text);
        let mut pair = Pair::new(v6, 41_000);
        pair.ask(&mut rig, &LINUX);
        let clock = stamps(0x1001, pair.told);
        pair.prove(&mut rig, &clock);
        let scale_nine = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x70, 0, 0, 0, 0x10, 1, 1, 3, 3, 9];
        pair.answer(&mut rig, &scale_nine);
        let says =
            |from: u32, echo: u32, said: &[u8]| (OUTSIDE, pair.say(from, 0, said).tcp_options(&stamps(0x1002, echo)));
        let replies = |heard: u32, said: &[u8]| {
            (INSIDE, pair.reply(0, heard, said).window(100).tcp_options(&stamps(0x7001, 0x1002)))
        };
        let before =
            [one(exchange(&mut rig, &[says(0, pair.told, b"GET /")])), one(exchange(&mut rig, &[replies(5, b"200")]))];
        let mut waiting = Pair::new(v6, 41_001);
        waiting.ask(&mut rig, &[]);
        waiting.prove(&mut rig, &[]);
        let (images, left_out) = rig.images();
        assert_eq!((images.len(), left_out), (1, 1));
        let (mut rig, refused) = Rig::heir(&text, Layout::default(), &images, Nanos::from_millis(300));
        assert_eq!((refused.len(), rig.session_count()), (0, 1), "{refused:?}");
        let after =
            [one(exchange(&mut rig, &[replies(5, b"200")])), one(exchange(&mut rig, &[says(0, pair.told, b"GET /")]))];
        for (before, after) in before.iter().rev().zip(&after) {
            assert_eq!((before.side, &before.bytes[14..]), (after.side, &after.bytes[14..]), "the same as before");
        }
        let syn = (INSIDE, pair.down().syn_ack(pair.opener + 1).seq(pair.answerer).tcp_options(&scale_nine));
        let told = exchange(&mut rig, &[syn]);
        assert!(told.iter().all(|seen| seen.tcp.flags == TcpFlags::ACK), "its acknowledgment was lost: {told:?}");
        let forged = (OUTSIDE, pair.say(0, 1_000_000, b"blind"));
        assert!(exchange(&mut rig, &[forged]).is_empty());
        // Its service is another one now.
        let elsewhere = text.replace("10.0.0.11", "10.0.0.12").replace("2001:db8:10::11", "2001:db8:10::12");
        let (rig, refused) = rig.succeeded_by(&elsewhere, Layout::default(), Nanos::from_millis(300));
        assert_eq!((refused, rig.session_count()), ([("no_backend", 1)].into(), 0));
    }
}

/// FLD-01: nothing is kept of a SYN, and no backend hears of it, however many come.
#[test]
fn a_syn_is_answered_and_forgotten() {
    let mut rig = always();
    for round in 0..flood_of(10_000) / 250 {
        for number in 0..250 {
            let client = format!("203.{}.{}.{}:{}", round / 250, round % 250, 1 + number, 1_024 + number);
            rig.put(OUTSIDE, &tcp(&client, SHOP).syn().seq(round * number));
        }
        rig.settle();
        let out: Vec<Seen> = rig.take().into_iter().map(read).collect();
        assert_eq!(out.len(), 250);
        assert!(out.iter().all(|seen| seen.side == OUTSIDE && seen.tcp.flags == TcpFlags::SYN | TcpFlags::ACK));
    }
    assert_eq!((rig.session_count(), rig.count(|c| &c.sessions_opened)), (0, 0));
    // Every honest client gets through all the same.
    for port in 0..100 {
        let mut pair = Pair::new(port % 2 == 1, 20_000 + port);
        pair.open(&mut rig);
    }
    assert_eq!(rig.session_count(), 100);
}

/// What a client offers is answered in kind and told to the backend (RFC 7323, RFC 2018).
#[test]
fn options_are_kept() {
    let mut rig = always();
    for v6 in [false, true] {
        let mut pair = Pair::new(v6, 40_000);
        let answer = pair.ask(&mut rig, &LINUX);
        assert_eq!(answer.tcp.window, 0, "nothing to say before the backend has answered");
        let size = if v6 { 1_440 } else { 1_460 };
        assert_eq!((answer.options.segment_size, answer.options.window_scale), (Some(size), Some(7)));
        assert!(answer.options.sack_permitted);
        assert_eq!(answer.options.timestamps.map(|timestamps| timestamps.echo), Some(0x1000));

        let syn = pair.prove(&mut rig, &stamps(0x1010, pair.told));
        assert_eq!((syn.options.segment_size, syn.options.window_scale), (Some(1_460), Some(7)));
        assert!(syn.options.sack_permitted);
        assert_eq!(syn.options.timestamps, Some(Timestamps { value: 0x1010, echo: 0 }));
        assert_eq!(syn.tcp.window, 64_256);

        // The backend scales by 2 where the client was told 7.
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0x77, 0, 0, 0x10, 0x10, 1, 3, 3, 2];
        let [client, server] = pair.answer(&mut rig, &options);
        assert_eq!(client.tcp.window, 65_160 >> 7);
        assert_eq!(client.options.timestamps, Some(Timestamps { value: pair.told, echo: 0x1010 }));
        assert_eq!(server.tcp.window, 502);
        assert_eq!(server.options.timestamps, Some(Timestamps { value: 0x1010, echo: 0x77 }));

        // Timestamps, windows, and the edges of what the client has got out of order.
        let said = pair.reply(0, 0, b"hello").window(1_000).tcp_options(&stamps(0x80, 0x1010));
        let heard = one(exchange(&mut rig, &[(INSIDE, said)]));
        assert_eq!((heard.tcp.sequence.get(), heard.tcp.window), (pair.cookie.wrapping_add(1), 31));
        assert_eq!(heard.options.timestamps, Some(Timestamps { value: pair.told + 9, echo: 0x1010 }));
        let mut options = stamps(0x1020, pair.told + 9);
        options.extend([1, 1, 5, 10]);
        options.extend(pair.cookie.wrapping_add(11).to_be_bytes());
        options.extend(pair.cookie.wrapping_add(21).to_be_bytes());
        let heard = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"").tcp_options(&options))]));
        assert_eq!(heard.tcp.acknowledgment.get(), pair.answerer.wrapping_add(1));
        assert_eq!(heard.options.timestamps, Some(Timestamps { value: 0x1020, echo: 0x80 }));
        let edges = [11, 21].map(|edge: u32| pair.answerer.wrapping_add(edge).to_be_bytes()).concat();
        let end = usize::from(heard.facts.end);
        assert_eq!(heard.bytes[end - 8..end], edges);
    }
}

/// A client that offers nothing gets nothing, and a backend that takes less is told no more than it knows.
#[test]
fn options_nobody_offered_are_not_used() {
    let mut rig = always();
    let mut pair = Pair::new(false, 40_000);
    let answer = pair.ask(&mut rig, &[]);
    let none = TcpOptions { segment_size: Some(1_460), ..TcpOptions::default() };
    assert_eq!(answer.options, none);
    assert_eq!(pair.prove(&mut rig, &[]).options, TcpOptions { segment_size: Some(536), ..none });
    let [client, server] = pair.answer(&mut rig, &[2, 4, 5, 0xb4]);
    assert_eq!((client.options, server.options), (TcpOptions::default(), TcpOptions::default()));
    assert_eq!((client.tcp.window, server.tcp.window), (65_160, 502));

    // A backend without scales and timestamps: the client's windows are put in bytes, and later clients are not offered
    // timestamps they would miss (RFC 7323 section 3.2).
    let mut pair = Pair::new(false, 40_001);
    pair.ask(&mut rig, &LINUX);
    pair.prove(&mut rig, &stamps(0x1010, pair.told));
    let [client, server] = pair.answer(&mut rig, &[2, 4, 5, 0xb4]);
    assert_eq!((client.tcp.window, server.tcp.window), (65_160 >> 7, 64_256));
    let mut pair = Pair::new(false, 40_002);
    assert_eq!(pair.ask(&mut rig, &LINUX).options.timestamps, None);
    // Not for ever: it may have been one old backend of many, or the last day of it.
    rig.leap(Nanos::from_secs(600));
    let mut pair = Pair::new(false, 40_003);
    assert!(pair.ask(&mut rig, &LINUX).options.timestamps.is_some());
    pair.prove(&mut rig, &stamps(0x1010, pair.told));
    pair.answer(&mut rig, &LINUX);
    let mut pair = Pair::new(false, 40_004);
    assert!(pair.ask(&mut rig, &LINUX).options.timestamps.is_some());
}

/// Both directions of a whole life, in both families, with full-nat as well.
#[test]
fn a_connection_lives_and_ends_in_the_numbers_of_each_end() {
    for keys in ["", "mode = \"full-nat\""] {
        let mut text = shops(keys, "mode = \"always\"");
        if !keys.is_empty() {
            for address in ["10.0.0.1", "2001:db8:10::1"] {
                text = text.replacen("full-nat\"\n[", &format!("full-nat\"\nsource_address = [\"{address}\"]\n["), 1);
            }
        }
        let mut rig = Rig::new(&format!("{ALLOW}{text}"));
        for v6 in [false, true] {
            let mut pair = Pair::new(v6, 40_000);
            pair.ask(&mut rig, &[]);
            let syn = pair.prove(&mut rig, &[]);
            // The backend answers whoever it sees.
            let shown = if keys.is_empty() { pair.client.clone() } else { hidden(v6, syn.tcp.source_port) };
            let client = core::mem::replace(&mut pair.client, shown);
            pair.answer(&mut rig, &[]);
            let down = |pair: &Pair, packet: Packet| (INSIDE, packet.seq(pair.answerer.wrapping_add(1)));
            let seen = one(exchange(&mut rig, &[down(&pair, pair.down().ack(1_001).data(b"hello"))]));
            assert_eq!((seen.side, seen.tcp.sequence.get()), (OUTSIDE, pair.cookie.wrapping_add(1)));
            let back = core::mem::replace(&mut pair.client, client);
            let seen = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 5, b"hi"))]));
            assert_eq!((seen.side, seen.tcp.acknowledgment.get()), (INSIDE, pair.answerer.wrapping_add(6)));
            let fin = pair.up().fin(pair.cookie.wrapping_add(6)).seq(1_003);
            assert_eq!(one(exchange(&mut rig, &[(OUTSIDE, fin)])).side, INSIDE);
            pair.client = back;
            let fin = pair.down().fin(1_004).seq(pair.answerer.wrapping_add(6));
            let seen = one(exchange(&mut rig, &[(INSIDE, fin)]));
            assert_eq!(seen.tcp.sequence.get(), pair.cookie.wrapping_add(6));
            assert!(rig.sessions().iter().any(|record| record.state.name() == "closing"), "{:?}", rig.sessions());
        }
    }
}

fn hidden(v6: bool, port: u16) -> String {
    if v6 { format!("[2001:db8:10::1]:{port}") } else { format!("10.0.0.1:{port}") }
}

/// A segment in fragments becomes one segment of the appliance's own: nothing of it follows, to the source it may have forged
/// or to the backend.
#[test]
fn a_segment_in_fragments_is_answered_with_one() {
    for v6 in [false, true] {
        let mut rig = always();
        let mut pair = Pair::new(v6, 40_000);
        let pieces = |packet: Packet| {
            let pieces = packet.pieces(1_024);
            assert_eq!(pieces.len(), 3);
            pieces.into_iter().map(|piece| (OUTSIDE, piece)).collect::<Vec<_>>()
        };
        let syn = pair.up().syn().seq(1_000).tcp_options(&LINUX).data(&[0x5a; 3_000]);
        let answer = one(exchange(&mut rig, &pieces(syn)));
        assert_eq!((answer.side, answer.tcp.flags), (OUTSIDE, TcpFlags::SYN | TcpFlags::ACK));
        pair.cookie = answer.tcp.sequence.get();
        let proof = pair.say(0, 0, &[0x5a; 3_000]);
        let syn = one(exchange(&mut rig, &pieces(proof)));
        assert_eq!((syn.side, syn.tcp.flags, syn.tcp.payload), (INSIDE, TcpFlags::SYN, 0));
        let answer = pair.down().syn_ack(1_001).seq(pair.answerer).window(65_160).data(&[0x5a; 3_000]);
        let said = answer.pieces(1_024).into_iter().map(|piece| (INSIDE, piece)).collect::<Vec<_>>();
        let [client, server] = two(exchange(&mut rig, &said));
        assert_eq!((client.tcp.payload, server.tcp.payload), (0, 0));
        let seen = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"hello"))]));
        assert_eq!((seen.side, seen.tcp.payload), (INSIDE, 5));
    }
}

/// FLD-05: what no cookie was sent for opens nothing, and nobody hears a word.
#[test]
fn acknowledgments_nobody_earned_open_nothing() {
    let mut rig = always();
    let mut pair = Pair::new(false, 40_000);
    pair.ask(&mut rig, &LINUX);
    let cookie = pair.cookie;
    let wrong: Vec<(Side, Packet)> = [1, 2, 0x100, 0x1_0000, 0x100_0000, 0x8000_0000]
        .into_iter()
        .map(|off: u32| (OUTSIDE, pair.up().ack(cookie.wrapping_add(1).wrapping_add(off)).seq(1_001)))
        .chain([
            (OUTSIDE, pair.up().ack(cookie.wrapping_add(1)).seq(1_002)),
            (OUTSIDE, tcp("198.51.100.8:40000", SHOP).ack(cookie.wrapping_add(1)).seq(1_001)),
            (OUTSIDE, pair.up().fin(cookie.wrapping_add(1)).seq(1_001)),
            (OUTSIDE, pair.up().rst_ack(cookie.wrapping_add(1)).seq(1_001)),
        ])
        .collect();
    rig.drops_all("cookies that are not", &wrong, NoSession);
    assert_eq!(rig.session_count(), 0);
    // A cookie is good for its period and the next, not for ever, also while others are looked for.
    for _ in 0..2 {
        rig.leap(Nanos::from_secs(70));
        Pair::new(false, 40_001).ask(&mut rig, &LINUX);
    }
    let late = (OUTSIDE, pair.up().ack(cookie.wrapping_add(1)).seq(1_001));
    rig.drops_all("a cookie of long ago", &[late], NoSession);
    let mut other = Pair::new(false, 40_001);
    other.ask(&mut rig, &LINUX);
    other.prove(&mut rig, &[]);
}

/// A policy that turns cookies off strands nobody: who was answered with one by the policy before gets its backend.
#[test]
fn cookies_turned_off_strand_no_handshake() {
    for v6 in [false, true] {
        let mut rig = always();
        let mut pair = Pair::new(v6, 40_000);
        pair.ask(&mut rig, &LINUX);
        rig.publish_more(&format!("{ALLOW}{}", shops("", "mode = \"off\"")));
        pair.prove(&mut rig, &stamps(0x1010, pair.told));
        pair.answer(&mut rig, &LINUX);
        let seen = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"hello"))]));
        assert_eq!((seen.side, seen.tcp.payload), (INSIDE, 5));
        // A new one goes to the backend at once.
        let syn = one(exchange(&mut rig, &[(OUTSIDE, Pair::new(v6, 40_001).up().syn().seq(1))]));
        assert_eq!((syn.side, syn.tcp.flags), (INSIDE, TcpFlags::SYN));
        // And a forged proof opens nothing, now as then.
        let forged = Pair::new(v6, 40_002).up().ack(77).seq(2);
        rig.drops_all("nobody's cookie", &[(OUTSIDE, forged)], NoSession);
    }
}

/// What the client says before its backend has answered is said again by itself: a probe of the closed window, an ACK
/// that came twice, a FIN.
#[test]
fn a_client_that_is_ahead_of_its_backend_waits() {
    let mut rig = always();
    let mut pair = Pair::new(false, 40_000);
    pair.ask(&mut rig, &[]);
    let twice = (OUTSIDE, pair.say(0, 0, b""));
    rig.put(twice.0, &twice.1);
    let syn = one(exchange(&mut rig, &[twice]));
    assert_eq!(syn.tcp.flags, TcpFlags::SYN);
    assert_eq!(rig.dropped(AwaitsBackend), 1);
    let early = [(OUTSIDE, pair.say(0, 0, b"h")), (OUTSIDE, pair.up().fin(pair.cookie.wrapping_add(1)).seq(1_001))];
    rig.drops_all("data and FIN", &early, AwaitsBackend);
    pair.answer(&mut rig, &[]);
    let seen = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"hello"))]));
    assert_eq!((seen.side, seen.tcp.payload), (INSIDE, 5));
}

/// The first packet that proves the client may carry data (its ACK was lost): the data come again, the proof counts.
#[test]
fn data_prove_as_well_as_an_acknowledgment() {
    let mut rig = always();
    let mut pair = Pair::new(true, 40_000);
    pair.ask(&mut rig, &LINUX);
    let syn = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"hello"))]));
    assert_eq!((syn.side, syn.tcp.flags, syn.tcp.payload, syn.tcp.sequence.get()), (INSIDE, TcpFlags::SYN, 0, 1_000));
    pair.answer(&mut rig, &[]);
}

/// A lost acknowledgment or window: the backend answers again and both are told again.
#[test]
fn a_backend_that_answers_again_is_acknowledged_again() {
    let mut rig = always();
    let mut pair = Pair::new(false, 40_000);
    pair.open(&mut rig);
    pair.answer(&mut rig, &[]);
    let seen = one(exchange(&mut rig, &[(INSIDE, pair.reply(0, 0, b"220 hello"))]));
    assert_eq!(seen.tcp.sequence.get(), pair.cookie.wrapping_add(1));
}

/// A backend that refuses: the client hears it in the numbers it knows.
#[test]
fn a_refusal_reaches_the_client() {
    let mut rig = always();
    for v6 in [false, true] {
        let mut pair = Pair::new(v6, 40_000);
        pair.ask(&mut rig, &[]);
        pair.prove(&mut rig, &[]);
        let refusal = pair.down().rst_ack(1_001).seq(0);
        let told = one(exchange(&mut rig, &[(INSIDE, refusal)]));
        assert_eq!((told.side, told.tcp.flags), (OUTSIDE, TcpFlags::RST | TcpFlags::ACK));
        assert_eq!(told.tcp.sequence.get(), pair.cookie.wrapping_add(1));
        // The same client may try again at once.
        pair.opener = 77_000;
        pair.open(&mut rig);
    }
}

/// A backend that says nothing is asked twice more, and then the client is told, and the backend too.
#[test]
fn a_silent_backend_is_asked_again_and_given_up() {
    let mut rig = always();
    for v6 in [false, true] {
        let mut pair = Pair::new(v6, 40_000);
        pair.ask(&mut rig, &LINUX);
        let first = pair.prove(&mut rig, &stamps(0x1010, pair.told));
        rig.wait(1);
        let again = one(rig.take().into_iter().map(read).collect());
        assert_eq!((again.side, again.tcp, again.options), (INSIDE, first.tcp, first.options));
        rig.wait(1);
        assert!(rig.take().is_empty());
        rig.wait(1);
        assert_eq!(one(rig.take().into_iter().map(read).collect()).tcp.flags, TcpFlags::SYN);
        rig.wait(2);
        let mut told: Vec<Seen> = rig.take().into_iter().map(read).collect();
        told.sort_by_key(|seen| seen.side);
        let [client, server] = two(told);
        assert!(client.tcp.flags.contains(TcpFlags::RST) && server.tcp.flags.contains(TcpFlags::RST));
        assert_eq!(client.tcp.sequence.get(), pair.cookie.wrapping_add(1));
        assert_eq!(server.tcp.sequence.get(), 1_001);
        assert_eq!(rig.session_count(), 0);
    }
}

/// A client that gives up takes its SYN back from the backend.
#[test]
fn a_client_that_resets_while_waiting_resets_its_backend() {
    let mut rig = always();
    let mut pair = Pair::new(false, 40_000);
    pair.ask(&mut rig, &[]);
    pair.prove(&mut rig, &[]);
    let told = one(exchange(&mut rig, &[(OUTSIDE, pair.up().rst().seq(1_001))]));
    assert_eq!((told.side, told.tcp.flags), (INSIDE, TcpFlags::RST));
}

/// A backend that remembers an older connection challenges the SYN; that connection is reset, and the SYN comes again.
#[test]
fn an_older_connection_at_the_backend_is_cleared_away() {
    let mut rig = always();
    let mut pair = Pair::new(false, 40_000);
    pair.ask(&mut rig, &[]);
    pair.prove(&mut rig, &[]);
    let challenge = pair.down().ack(555_555).seq(9_999);
    let reset = one(exchange(&mut rig, &[(INSIDE, challenge)]));
    assert_eq!((reset.side, reset.tcp.flags, reset.tcp.sequence.get()), (INSIDE, TcpFlags::RST, 555_555));
    rig.wait(1);
    assert_eq!(one(rig.take().into_iter().map(read).collect()).tcp.flags, TcpFlags::SYN);
    pair.answer(&mut rig, &[]);
}

/// When nobody can serve it, a proven client is told at once.
#[test]
fn a_proven_client_that_cannot_be_served_is_reset() {
    let text = shops("", "mode = \"always\"").replace("kind = \"none\"", "kind = \"icmp\"");
    let mut rig = Rig::new(&format!("{ALLOW}{text}"));
    let mut pair = Pair::new(false, 40_000);
    pair.ask(&mut rig, &[]);
    rig.health("shop", "a", Health::Failed);
    let told = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b""))]));
    assert_eq!((told.side, told.tcp.flags), (OUTSIDE, TcpFlags::RST));
    assert_eq!(told.tcp.sequence.get(), pair.cookie.wrapping_add(1));
    assert_eq!(rig.session_count(), 0);
}

/// The firewall is asked before a SYN is answered, and its limits count who has proven itself only: forged sources cannot
/// use up anybody's share.
#[test]
fn the_firewall_has_its_word_and_counts_the_proven() {
    let rules = "[[firewall.rule]]\nname = \"friends\"\naction = \"allow\"\nsource = [\"198.51.100.0/24\"]\n\
                 new_sessions_per_source = 2\n";
    let mut rig = Rig::new(&format!("{rules}{}", shops("", "mode = \"always\"")));
    rig.drops_all("a stranger", &[(OUTSIDE, tcp("203.0.113.9:1", SHOP).syn())], FirewallDenied);
    for port in 0..50 {
        // Somebody sends SYNs in the client's name.
        Pair::new(false, 30_000 + port).ask(&mut rig, &[]);
    }
    assert_eq!(rig.hits("friends"), (0, 0, 0));
    for port in 0..2 {
        Pair::new(false, 40_000 + port).open(&mut rig);
    }
    let mut third = Pair::new(false, 40_002);
    third.ask(&mut rig, &[]);
    rig.drops_all("the third of a second", &[(OUTSIDE, third.say(0, 0, b""))], SourceRateLimited);
    assert_eq!(rig.hits("friends"), (3, 0, 1));
}

/// FLD-02: on once above the threshold, off once below, and no more than the threshold half open.
#[test]
fn cookies_come_and_go_with_the_flood() {
    let cookies = "mode = \"adaptive\", on_at = 100, off_at = 50";
    let mut rig = Rig::new(&format!("{ALLOW}{}", shops("", cookies)));
    let counts = |rig: &Rig| rig.snapshot().services.by_name("shop").unwrap().guard().counts();
    for number in 0..1_000_u32 {
        rig.put(OUTSIDE, &tcp(&format!("198.51.100.{}:{}", 20 + number % 200, 1_024 + number), SHOP).syn());
        if number % 250 == 249 {
            rig.settle();
        }
    }
    rig.settle();
    assert!(rig.session_count() <= 200, "{}", rig.session_count());
    assert_eq!((counts(&rig).engaged, counts(&rig).engagements), (true, 1));
    assert!(counts(&rig).sent >= 800);
    rig.take();
    // A client that opens now proves itself, and is served.
    let mut pair = Pair::new(false, 40_000);
    pair.open(&mut rig);
    rig.wait(30);
    let after = counts(&rig);
    assert_eq!((after.engaged, after.engagements, after.half_open), (false, 1, 0));
    let seen = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"hello"))]));
    assert_eq!(seen.side, INSIDE);
    // In quiet times a SYN goes to its backend.
    let syn = one(exchange(&mut rig, &[(OUTSIDE, tcp("198.51.100.9:5", SHOP).syn())]));
    assert_eq!((syn.side, syn.tcp.flags), (INSIDE, TcpFlags::SYN));
}

/// A policy change judges such connections again like any other, and finds their ways anew.
#[test]
fn a_new_policy_keeps_or_ends_them() {
    let text = format!("{ALLOW}{}", shops("", "mode = \"always\""));
    let mut rig = Rig::new(&text);
    let mut pair = Pair::new(false, 40_000);
    pair.open(&mut rig);
    rig.publish_more(&text);
    let seen = one(exchange(&mut rig, &[(OUTSIDE, pair.say(0, 0, b"hello"))]));
    assert_eq!((seen.side, seen.tcp.acknowledgment.get()), (INSIDE, pair.answerer.wrapping_add(1)));
    // Cookies are gone from the policy, the connection is not.
    rig.publish_more(&text.replace("always", "off"));
    let seen = one(exchange(&mut rig, &[(INSIDE, pair.reply(0, 5, b"hello"))]));
    assert_eq!((seen.side, seen.tcp.sequence.get()), (OUTSIDE, pair.cookie.wrapping_add(1)));
    rig.publish_more(&text.replace("\"allow\"", "\"deny\""));
    rig.drops_all("and now it is denied", &[(OUTSIDE, pair.say(5, 5, b"again"))], FirewallDenied);
}

/// A backend that goes away resets both ends in the numbers each knows (SE-54).
#[test]
fn a_failed_backend_ends_both_halves() {
    let text = shops("", "mode = \"always\"").replace("kind = \"none\"", "kind = \"icmp\"");
    let mut rig = Rig::new(&format!("{ALLOW}{text}"));
    for v6 in [false, true] {
        let mut pair = Pair::new(v6, 40_000);
        pair.open(&mut rig);
        rig.take();
        rig.health(if v6 { "shop6" } else { "shop" }, "a", Health::Failed);
        let mut told: Vec<Seen> = rig.take().into_iter().map(read).collect();
        told.sort_by_key(|seen| seen.side);
        let [client, server] = two(told);
        assert_eq!(client.tcp.sequence.get(), pair.cookie.wrapping_add(1));
        assert_eq!(server.tcp.sequence.get(), 1_001);
        assert!(client.tcp.flags.contains(TcpFlags::RST) && server.tcp.flags.contains(TcpFlags::RST));
    }
}

/// RFC 5927: an error about what the backend sent quotes the client's count and reaches the backend in its own.
#[test]
fn an_icmp_error_crosses_with_the_numbers_of_its_receiver() {
    let mut rig = always();
    for v6 in [false, true] {
        let mut pair = Pair::new(v6, 40_000);
        pair.open(&mut rig);
        let sent = one(exchange(&mut rig, &[(INSIDE, pair.reply(0, 0, b"a large segment"))]));
        let quoted =
            tcp(&pair.asked, &pair.client).ack(1_001).seq(pair.cookie.wrapping_add(1)).data(b"a large segment");
        let (router, kind, code) = if v6 { ("2001:db8:51::99", 2, 0) } else { ("198.51.100.99", 3, 4) };
        let asked = pair.asked.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned();
        rig.put(OUTSIDE, &icmp_error(router, &asked, kind, code, 1_400, &quoted, 64));
        rig.settle();
        let out = rig.take();
        let [(INSIDE, bytes)] = out.as_slice() else { panic!("one packet inside: {out:?}") };
        let Content::Ip(facts) = dissect(bytes, Verify::All).unwrap().content else { panic!("IP") };
        let Transport::IcmpError { quote, .. } = facts.transport else { panic!("an error") };
        let at = usize::from(quote.transport_offset) + 4;
        assert_eq!(bytes[at..at + 4], pair.answerer.wrapping_add(1).to_be_bytes());
        assert_eq!(sent.tcp.sequence.get(), pair.cookie.wrapping_add(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A model conversation: whatever is said, in whatever order and size, each end receives every segment whole and in
    /// its own count.
    #[test]
    fn each_end_hears_what_the_other_says(
        v6: bool, opener: u32, answerer: u32, steps in prop::collection::vec((any::<bool>(), 0_usize..1_200), 1..30),
    ) {
        let mut rig = always();
        let mut pair = Pair { opener, answerer, ..Pair::new(v6, 40_000) };
        pair.ask(&mut rig, &LINUX);
        pair.prove(&mut rig, &stamps(7, pair.told));
        pair.answer(&mut rig, &[2, 4, 5, 0xb4, 1, 3, 3, 9]);
        let (mut said, mut heard) = (0_u32, 0_u32);
        for (up, len) in steps {
            let data: Vec<u8> = (0..len).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
            let more = u32::try_from(len).unwrap();
            let (side, packet) = if up { (OUTSIDE, pair.say(said, heard, &data)) } else { (INSIDE, pair.reply(heard, said, &data)) };
            let seen = one(exchange(&mut rig, &[(side, packet)]));
            prop_assert_eq!(usize::from(seen.tcp.payload), len);
            prop_assert_eq!(&seen.bytes[usize::from(seen.facts.end) - len..usize::from(seen.facts.end)], &data[..]);
            let (sequence, acknowledgment) = if up {
                (opener.wrapping_add(1 + said), answerer.wrapping_add(1 + heard))
            } else {
                (pair.cookie.wrapping_add(1 + heard), opener.wrapping_add(1 + said))
            };
            prop_assert_eq!((seen.tcp.sequence.get(), seen.tcp.acknowledgment.get()), (sequence, acknowledgment));
            if up { said = said.wrapping_add(more) } else { heard = heard.wrapping_add(more) }
        }
    }
}
