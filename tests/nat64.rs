//! NAT64 as packets meet it (RFC 6146, RFC 7915): IPv6 clients and IPv4 servers, both directions of every protocol, errors and
//! sizes, and who is not let in.

use millrace_tests::packet::{Packet, end, icmp_error, ip, ping, pong, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS, Talk};
use stage::DropReason::{
    FirewallDenied, HopLimitExceeded, IcmpErrorUnmatched, Nat64Unsupported, NatSourceLimit, NextHopsFull, NoService,
    PacketTooBig, SourceOwnAddress, TcpOutOfWindow,
};
use units::limits::NEXT_HOPS_MAX;
use wire::fragment::piece;
use wire::{Content, Facts, Malformed, Verify, dissect};

const RULES: &str = r#"
[[firewall.rule]]
name = "across"
action = "allow"
from = ["dmz"]
to = ["wan"]
destination = ["64:ff9b::/96"]
[[nat64]]
name = "clients"
prefix = "64:ff9b::/96"
from = ["dmz"]
address = ["198.51.100.64"]
ports = "10000-49999"
"#;

const CLIENT: &str = "2001:db8:10::11";
const POOL: &str = "198.51.100.64";
const SERVER: &str = "198.51.100.7";
const SERVER6: &str = "64:ff9b::198.51.100.7";
const ROUTER: &str = "198.51.100.99";
const ROUTER6: &str = "64:ff9b::198.51.100.99";

/// One packet in, one out; an IPv4 packet's identification is the translator's own choice.
fn crosses(rig: &mut Rig, sentence: &str, (side, packet): (Side, Packet), (far, expected): (Side, Packet)) {
    rig.put(side, &packet);
    rig.settle();
    let out = rig.take();
    assert_eq!(out.len(), 1, "{sentence}: {:?}", rig.drops());
    let (came, bytes) = &out[0];
    let expected = match bytes[12] {
        0x08 => expected.id(u16::from_be_bytes([bytes[18], bytes[19]])),
        _ => expected,
    };
    assert_eq!((*came, bytes), (far, &rig.outward(far, &expected)), "{sentence}");
}

/// A conversation of a client with a server, in both looks.
struct Across(fn(&str, &str) -> Packet, u16, u16);

impl Across {
    fn asks(&self, rig: &mut Rig, what: impl Fn(Packet) -> Packet) {
        let Self(write, port, shown) = *self;
        let inside = what(write(&end(CLIENT, port), &end(SERVER6, 443)));
        let outside = what(write(&end(POOL, shown), &end(SERVER, 443))).routed();
        crosses(rig, "from the client", (INSIDE, inside), (OUTSIDE, outside));
    }

    fn answers(&self, rig: &mut Rig, what: impl Fn(Packet) -> Packet) {
        let Self(write, port, shown) = *self;
        let outside = what(write(&end(SERVER, 443), &end(POOL, shown)));
        let inside = what(write(&end(SERVER6, 443), &end(CLIENT, port))).routed();
        crosses(rig, "from the server", (OUTSIDE, outside), (INSIDE, inside));
    }
}

#[test]
fn connections_and_datagrams_cross() {
    let mut rig = Rig::new(RULES);
    let web = Across(tcp, 33_000, 33_000);
    web.asks(&mut rig, |p| p.syn().seq(1_000));
    web.answers(&mut rig, |p| p.syn_ack(1_001).seq(5_000));
    web.asks(&mut rig, |p| p.ack(5_001).seq(1_001));
    web.asks(&mut rig, |p| p.ack(5_001).seq(1_001).data(b"GET /"));
    web.answers(&mut rig, |p| p.ack(1_006).seq(5_001).data(&[7; 900]));
    web.asks(&mut rig, |p| p.fin(5_901).seq(1_006));
    web.answers(&mut rig, |p| p.fin(1_007).seq(5_901));
    let quic = Across(udp, 33_000, 33_000);
    for _ in 0..3 {
        quic.asks(&mut rig, |p| p.data(b"a question").class(0xb8));
        quic.answers(&mut rig, |p| p.data(b"an answer").class(0xb8));
    }
    // RFC 7915 section 4.5: IPv6 has no UDP without checksum.
    let plain = udp(&end(SERVER, 443), &end(POOL, 33_000)).data(b"bare");
    let whole = udp(&end(SERVER6, 443), &end(CLIENT, 33_000)).data(b"bare").routed();
    crosses(&mut rig, "without checksum", (OUTSIDE, plain.no_checksum()), (INSIDE, whole));
}

/// RFC 6146 section 3.5.1: a client's port is the same for all servers, another client's is another, parity kept.
#[test]
fn a_client_is_seen_at_one_port() {
    let mut rig = Rig::new(RULES);
    let mut shown = |client: &str, server: &str| {
        rig.put(INSIDE, &udp(&end(client, 33_000), &end(&format!("64:ff9b::{server}"), 53)));
        rig.settle();
        let out = rig.take();
        u16::from_be_bytes([out[0].1[34], out[0].1[35]])
    };
    assert_eq!((shown(CLIENT, SERVER), shown(CLIENT, "198.51.100.8")), (33_000, 33_000));
    let other = shown("2001:db8:10::12", SERVER);
    assert!(other != 33_000 && other % 2 == 0 && (10_000..50_000).contains(&other));
    assert_eq!(shown("2001:db8:10::12", "198.51.100.8"), other);
    assert_eq!(rig.snapshot().pool_uses.iter().map(|pool| (pool.sessions(), pool.mappings())).next(), Some((4, 2)));
}

#[test]
fn pings_cross() {
    let mut rig = Rig::new(RULES);
    crosses(
        &mut rig,
        "a ping",
        (INSIDE, ping(CLIENT, SERVER6, 20_000)),
        (OUTSIDE, ping(POOL, SERVER, 20_000).routed()),
    );
    crosses(
        &mut rig,
        "its answer",
        (OUTSIDE, pong(SERVER, POOL, 20_000)),
        (INSIDE, pong(SERVER6, CLIENT, 20_000).routed()),
    );
    rig.drops_all("nobody waits for", &[(OUTSIDE, pong(SERVER, POOL, 20_001))], stage::DropReason::NoSession);
    // EVA-22: the question was sent, never an answer.
    let about = |quote: &Packet| icmp_error(ROUTER, POOL, 3, 1, 0, quote, 548);
    rig.drops_all("about an answer", &[(OUTSIDE, about(&pong(POOL, SERVER, 20_000)))], IcmpErrorUnmatched);
    rig.put(OUTSIDE, &about(&ping(POOL, SERVER, 20_000).routed()));
    rig.settle();
    assert_eq!(rig.take().len(), 1, "about the question");
}

/// RFC 7915 sections 4.2 to 4.5 and 5.2 to 5.4: errors of either side, with what they quote.
#[test]
fn errors_cross_with_their_quotes() {
    let mut rig = Rig::new(RULES);
    let talk = Across(udp, 33_000, 33_000);
    talk.asks(&mut rig, |p| p.data(&[7; 600]));
    talk.answers(&mut rig, |p| p.data(&[9; 700]));
    let there = udp(&end(POOL, 33_000), &end(SERVER, 443)).data(&[7; 600]).hops(60);
    let here = udp(&end(CLIENT, 33_000), &end(SERVER6, 443)).data(&[7; 600]).hops(60);
    for ((kind, code, rest), (kind6, code6, rest6)) in [
        ((11, 0, 0), (3, 0, 0)),
        ((3, 3, 0), (1, 4, 0)),
        ((3, 1, 0), (1, 0, 0)),
        ((3, 13, 0), (1, 1, 0)),
        ((3, 4, 1_400), (2, 0, 1_420)),
        ((3, 4, 576), (2, 0, 1_280)),
    ] {
        let error = icmp_error(ROUTER, POOL, kind, code, rest, &there, 548);
        let heard = icmp_error(ROUTER6, CLIENT, kind6, code6, rest6, &here, 568).routed();
        crosses(&mut rig, "a router's", (OUTSIDE, error), (INSIDE, heard));
    }
    let unwanted = icmp_error(ROUTER, POOL, 3, 14, 0, &there, 548);
    rig.drops_all("without a counterpart", &[(OUTSIDE, unwanted)], stage::DropReason::IcmpUnwanted);
    let about_another = icmp_error(ROUTER, POOL, 3, 3, 0, &there.clone().to(&end(SERVER, 444)), 100);
    rig.drops_all("about what was not sent", &[(OUTSIDE, about_another)], IcmpErrorUnmatched);
    // The client's host refuses an answer: the server hears it of the pool's address.
    let delivered = udp(&end(SERVER6, 443), &end(CLIENT, 33_000)).data(&[9; 400]).hops(60);
    let sent = udp(&end(SERVER, 443), &end(POOL, 33_000)).data(&[9; 400]).hops(60).id(0).dont_fragment();
    let error = icmp_error(CLIENT, SERVER6, 1, 4, 0, &delivered, 1_000);
    let heard = icmp_error(POOL, SERVER, 3, 3, 0, &sent, 1_000).routed();
    crosses(&mut rig, "the client's", (INSIDE, error), (OUTSIDE, heard));
}

/// What is too large for the other side: the sender hears which size fits there.
#[test]
fn sizes_are_told_in_the_senders_terms() {
    let mut rig = Rig::new(RULES);
    Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
    // 1,500 bytes of IPv4 are 1,520 of IPv6, 20 more than the inside takes.
    let large = udp(&end(SERVER, 443), &end(POOL, 33_000)).data(&[9; 1_472]).dont_fragment();
    rig.put(OUTSIDE, &large);
    rig.settle();
    let out = rig.take();
    assert_eq!((rig.dropped(PacketTooBig), out.len()), (1, 1));
    let (side, bytes) = &out[0];
    assert_eq!((*side, &bytes[34..36], u16::from_be_bytes([bytes[40], bytes[41]])), (OUTSIDE, &[3, 4][..], 1_480));
    Across(udp, 33_000, 33_000).answers(&mut rig, |p| p.data(&[9; 1_452]).dont_fragment());
}

/// RFC 7915 changes no segment size, and none has to be changed: an end announces what its own link carries behind headers of its own
/// version, and those are what packets have there. So the 20 bytes that the headers differ in are in the numbers already.
#[test]
fn segments_of_the_announced_sizes_fit_on_both_sides() {
    for (mtu, announced) in [(1_500, 1_440_u16), (9_000, 8_940), (1_280, 1_220)] {
        let inside = format!("name = \"inside\"\nmtu = {mtu}\n");
        let mut rig = Rig::of(&format!("{}{RULES}", TWO_PORTS.replace("name = \"inside\"\n", &inside)));
        let web = Across(tcp, 33_000, 33_000);
        let size = |size: u16| [[2, 4], size.to_be_bytes()].concat();
        web.asks(&mut rig, |p| p.syn().seq(1_000).tcp_options(&size(announced)));
        web.answers(&mut rig, |p| p.syn_ack(1_001).seq(5_000).tcp_options(&size(1_460)).dont_fragment());
        let full = vec![7; usize::from(announced.min(1_460))];
        web.answers(&mut rig, |p| p.ack(1_001).seq(5_001).data(&full).dont_fragment());
        // What leaves as IPv4 may not be cut if it was longer than the least that IPv6 carries.
        let said = 5_001 + u32::from(announced.min(1_460));
        let sent = tcp(&end(CLIENT, 33_000), &end(SERVER6, 443)).ack(said).seq(1_001).data(&full);
        let shown = tcp(&end(POOL, 33_000), &end(SERVER, 443)).ack(said).seq(1_001).data(&full).routed();
        let shown = if mtu > 1_280 { shown.dont_fragment() } else { shown };
        crosses(&mut rig, "a full segment", (INSIDE, sent), (OUTSIDE, shown));
    }
}

#[test]
fn hop_limits_run_out_on_both_sides() {
    let mut rig = Rig::new(RULES);
    let talk = Across(udp, 33_000, 33_000);
    talk.asks(&mut rig, |p| p);
    rig.put(INSIDE, &udp(&end(CLIENT, 33_000), &end(SERVER6, 443)).hops(1));
    rig.put(OUTSIDE, &udp(&end(SERVER, 443), &end(POOL, 33_000)).hops(1));
    rig.settle();
    let out = rig.take();
    assert_eq!((out.len(), rig.dropped(HopLimitExceeded)), (2, 2));
    let told: Vec<_> = out.iter().map(|(side, bytes)| (*side, bytes[12])).collect();
    assert!(told.contains(&(INSIDE, 0x86)) && told.contains(&(OUTSIDE, 0x08)), "{told:?}");
}

/// Nobody comes in who was not asked; what NAT64 cannot carry, or must not, is dropped by name and its sender told (RFC 6146
/// section 3.5, RFC 6052 section 3.1).
#[test]
fn what_must_not_cross_does_not() {
    let mut rig = Rig::new(RULES);
    let web = Across(tcp, 33_000, 33_000);
    web.asks(&mut rig, |p| p.syn().seq(1_000));
    web.answers(&mut rig, |p| p.syn_ack(1_001).seq(5_000));
    let stranger = tcp("198.51.100.8:443", &end(POOL, 33_000)).syn().seq(1);
    rig.drops_all("a stranger", &[(OUTSIDE, stranger)], FirewallDenied);
    let reset = tcp(&end(SERVER, 443), &end(POOL, 33_000)).rst().seq(0x7000_0000);
    rig.drops_all("EVA-16: a guessed reset", &[(OUTSIDE, reset)], TcpOutOfWindow);
    let forged = tcp(&end(SERVER6, 443), &end(CLIENT, 33_000)).ack(1_001).seq(5_001);
    for side in [INSIDE, OUTSIDE] {
        rig.drops_all("an answer that is IPv6 already", &[(side, forged.clone())], SourceOwnAddress);
    }
    rig.drops_all("a pool address nobody is at", &[(INSIDE, to("64:ff9b::198.51.100.64"))], NoService);
    for server in [
        "198.51.100.1",
        "10.0.0.11",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "0.0.0.1",
        "255.255.255.255",
    ] {
        refused(&mut rig, &to(&format!("64:ff9b::{server}")), (1, 0));
    }
    refused(&mut rig, &ip(CLIENT, SERVER6, 47, b"tunnel"), (1, 4));
}

fn to(server: &str) -> Packet {
    udp(&end(CLIENT, 1_000), &end(server, 53))
}

/// A packet of the client's is dropped, and it hears an ICMPv6 error of this type and code.
fn refused(rig: &mut Rig, packet: &Packet, error: (u8, u8)) {
    let before = rig.dropped(Nat64Unsupported);
    rig.put(INSIDE, packet);
    rig.settle();
    let out = rig.take();
    assert_eq!((out.len(), rig.dropped(Nat64Unsupported)), (1, before + 1), "{packet:?}");
    assert_eq!((out[0].0, out[0].1[54], out[0].1[55]), (INSIDE, error.0, error.1), "{packet:?}");
}

/// RFC 6052 section 2.2: a prefix of each length, one of which leads to private addresses, too.
#[test]
fn prefixes_of_every_length_lead_across() {
    for (prefix, server6) in [
        ("2001:db9::/32", "2001:db9:c633:6407::"),
        ("2001:db9:100::/40", "2001:db9:1c6:3364:7::"),
        ("2001:db9:122::/48", "2001:db9:122:c633:64:700::"),
        ("2001:db9:122:300::/56", "2001:db9:122:3c6:33:6407::"),
        ("2001:db9:122:344::/64", "2001:db9:122:344:c6:3364:700::"),
        ("64:ff9b:1::/96", "64:ff9b:1::198.51.100.7"),
    ] {
        let rules = RULES.replace("64:ff9b::/96", prefix);
        let mut rig = Rig::new(&rules);
        let asked = udp(&end(CLIENT, 33_000), &end(server6, 53));
        let seen = udp(&end(POOL, 33_000), &end(SERVER, 53));
        crosses(&mut rig, prefix, (INSIDE, asked.clone()), (OUTSIDE, seen.clone().routed()));
        let answer = udp(&end(SERVER, 53), &end(POOL, 33_000)).data(b"x");
        let heard = udp(&end(server6, 53), &end(CLIENT, 33_000)).data(b"x").routed();
        crosses(&mut rig, prefix, (OUTSIDE, answer), (INSIDE, heard));
    }
}

/// The facts of a frame that came out.
fn facts(bytes: &[u8]) -> Facts {
    match dissect(bytes, Verify::All) {
        Ok(frame) => match frame.content {
            Content::Ip(facts) => facts,
            other => panic!("{other:?}"),
        },
        Err(fault) => panic!("{fault:?}"),
    }
}

/// Puts the fragments that came out at one side together: what they carry, how many there were, and the longest packet.
fn together(out: &[(Side, Vec<u8>)], at: Side) -> (Vec<u8>, usize, u16) {
    let (mut carried, mut longest) = (Vec::new(), 0);
    for (position, (side, bytes)) in out.iter().enumerate() {
        let facts = facts(bytes);
        let piece = piece(bytes, &facts).expect("a fragment");
        assert_eq!((*side, usize::from(piece.offset), piece.more), (at, carried.len(), position + 1 < out.len()));
        carried.extend(&bytes[usize::from(piece.begin)..usize::from(facts.end)]);
        longest = longest.max(facts.end - facts.network);
    }
    (carried, out.len(), longest)
}

/// What a whole packet carries behind its IP header.
fn segment_of(packet: &Packet) -> Vec<u8> {
    let bytes = packet.bytes_of_ip();
    let header = if bytes[0] >> 4 == 4 { 20 } else { 40 };
    bytes[header..].to_vec()
}

fn put_all(rig: &mut Rig, side: Side, pieces: &[Packet]) -> Vec<(Side, Vec<u8>)> {
    for piece in pieces {
        rig.put(side, piece);
    }
    rig.settle();
    rig.take()
}

/// RFC 7915 sections 4.1 and 5.1.1: fragments stay fragments, with right checksums behind the other version's headers; those of
/// IPv4 are cut to what every IPv6 path carries. UDP without checksum gets the one of the whole datagram (RFC 6146 section 3.4).
#[test]
fn datagrams_in_fragments_cross() {
    for workers in [1, 3] {
        let layout = Layout { workers, queues: usize::from(workers), buffers: 4_096 };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{RULES}"), layout);
        let data: Vec<u8> = (0..8_900_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        rig.put(INSIDE, &udp(&end(CLIENT, 33_000), &end(SERVER6, 443)));
        rig.settle();
        let shown = {
            let out = rig.take();
            u16::from_be_bytes([out[0].1[34], out[0].1[35]])
        };
        let asked = udp(&end(CLIENT, 33_000), &end(SERVER6, 443)).data(&data);
        let out = put_all(&mut rig, INSIDE, &asked.pieces(1_448));
        let (carried, count, longest) = together(&out, OUTSIDE);
        assert_eq!(carried, segment_of(&udp(&end(POOL, shown), &end(SERVER, 443)).data(&data)));
        assert_eq!((count, longest), (7, 1_468));
        let identifications: Vec<_> = out.iter().map(|(_, bytes)| [bytes[18], bytes[19]]).collect();
        assert!(identifications.iter().all(|id| *id == identifications[0]), "{identifications:?}");
        assert!(out.iter().all(|(_, bytes)| bytes[20] & 0x40 == 0 && bytes[22] == 63), "may be cut, one hop less");

        let answer = udp(&end(SERVER, 443), &end(POOL, shown)).data(&data).id(0x5aa5);
        let expected = segment_of(&udp(&end(SERVER6, 443), &end(CLIENT, 33_000)).data(&data));
        for answer in [answer.clone(), answer.no_checksum()] {
            let out = put_all(&mut rig, OUTSIDE, &answer.pieces(1_480));
            let (carried, count, longest) = together(&out, INSIDE);
            assert_eq!((carried == expected, count, longest), (true, 13, 1_280));
            assert!(out.iter().all(|(_, bytes)| bytes[58..62] == [0, 0, 0x5a, 0xa5] && bytes[21] == 63));
        }
        // A ping of 4,000 bytes.
        let asked = ping(CLIENT, SERVER6, 20_000).data(&data[..4_000]);
        let out = put_all(&mut rig, INSIDE, &asked.pieces(1_448));
        let (carried, ..) = together(&out, OUTSIDE);
        let id = u16::from_be_bytes([carried[4], carried[5]]);
        assert_eq!(carried, segment_of(&ping(POOL, SERVER, id).data(&data[..4_000])));
        let answer = pong(SERVER, POOL, id).data(&data[..4_000]);
        let out = put_all(&mut rig, OUTSIDE, &answer.pieces(1_480));
        let (carried, ..) = together(&out, INSIDE);
        assert_eq!(carried, segment_of(&pong(SERVER6, CLIENT, 20_000).data(&data[..4_000])));
    }
}

/// RFC 7915 section 4: what may be cut is cut to 1,280 bytes, also while it waits for the client's link; the rest goes whole.
#[test]
fn large_ipv4_packets_that_may_be_cut_become_fragments() {
    let mut rig = Rig::new(RULES);
    Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
    let large = |data: usize| udp(&end(SERVER, 443), &end(POOL, 33_000)).data(&vec![9; data]);
    let heard = |data: usize| udp(&end(SERVER6, 443), &end(CLIENT, 33_000)).data(&vec![9; data]);
    for _ in 0..2 {
        // The first waits for the client's address to be found out.
        let out = put_all(&mut rig, OUTSIDE, &[large(1_372)]);
        let (carried, count, longest) = together(&out, INSIDE);
        assert_eq!((carried, count, longest), (segment_of(&heard(1_372)), 2, 1_280));
    }
    crosses(&mut rig, "1,280 bytes fit", (OUTSIDE, large(1_232)), (INSIDE, heard(1_232).routed()));
    crosses(&mut rig, "not to be cut", (OUTSIDE, large(1_372).dont_fragment()), (INSIDE, heard(1_372).routed()));
    let wide = RULES.replace("ports = ", "ipv6_mtu = 1_500\nports = ");
    rig.publish_more(&wide);
    crosses(&mut rig, "the operator knows better", (OUTSIDE, large(1_372)), (INSIDE, heard(1_372).routed()));
}

/// RFC 7915 section 5.1: an IPv6 packet of 1,280 bytes may be cut as IPv4, a larger one may not.
#[test]
fn what_becomes_of_ipv6_packets_near_the_least_mtu() {
    let mut rig = Rig::new(RULES);
    for (data, may_be_cut) in [(1_232, true), (1_233, false), (1_452, false)] {
        rig.put(INSIDE, &udp(&end(CLIENT, 33_000), &end(SERVER6, 443)).data(&vec![7; data]));
        rig.settle();
        let out = rig.take();
        let facts = facts(&out[0].1);
        assert_eq!((facts.dont_fragment, out[0].1[18..20] == [0, 0]), (!may_be_cut, !may_be_cut), "{data}");
    }
}

/// RFC 4787 section 5 for whom RFC 6146 section 3.5.1 lets in: those the rule's filtering names and the firewall allows, asked by
/// their IPv4 addresses.
#[test]
fn filtering_says_who_comes_in() {
    let inward =
        "[[firewall.rule]]\nname = \"in\"\naction = \"allow\"\nto = [\"dmz\"]\ndestination = [\"198.51.100.64\"]\n";
    for (filtering, same_host, stranger) in [
        ("endpoint-independent", true, true),
        ("address-dependent", true, false),
        ("address-and-port-dependent", false, false),
    ] {
        let mut rig = Rig::new(&format!("{inward}{RULES}filtering = \"{filtering}\"\n"));
        Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
        for (from, comes) in [("198.51.100.7", same_host), ("198.51.100.8", stranger)] {
            let question = udp(&end(from, 9_999), &end(POOL, 33_000)).data(b"hello");
            let six = format!("64:ff9b::{from}");
            if !comes {
                rig.drops_all(filtering, &[(OUTSIDE, question)], FirewallDenied);
                continue;
            }
            let heard = udp(&end(&six, 9_999), &end(CLIENT, 33_000)).data(b"hello").routed();
            for _ in 0..2 {
                crosses(&mut rig, filtering, (OUTSIDE, question.clone()), (INSIDE, heard.clone()));
            }
            let answer = udp(&end(CLIENT, 33_000), &end(&six, 9_999)).data(b"yes");
            let seen = udp(&end(POOL, 33_000), &end(from, 9_999)).data(b"yes").routed();
            crosses(&mut rig, "its answer", (INSIDE, answer), (OUTSIDE, seen));
        }
        let shown = rig.sessions();
        let inbound: Vec<_> = shown.iter().filter(|it| it.original.source_port == 9_999).collect();
        assert_eq!(inbound.len(), usize::from(same_host) + usize::from(stranger));
        for session in inbound {
            assert_eq!(session.original.destination.to_string(), POOL);
            assert_eq!(session.reply.source.to_string(), CLIENT);
        }
        let (pool, sessions) = (rig.snapshot().pool_uses.iter().next().unwrap().sessions(), rig.session_count() as u64);
        assert_eq!(pool, sessions);
        // Judged again by the same addresses.
        rig.publish_more(&format!("{RULES}filtering = \"{filtering}\"\n"));
        if same_host {
            let question = udp("198.51.100.7:9999", &end(POOL, 33_000));
            rig.drops_all("no longer allowed", &[(OUTSIDE, question)], FirewallDenied);
        }
    }
}

/// TCP from the IPv4 side, and its end.
#[test]
fn a_server_opens_a_connection() {
    let inward =
        "[[firewall.rule]]\nname = \"in\"\naction = \"allow\"\nto = [\"dmz\"]\ndestination = [\"198.51.100.64\"]\n";
    let mut rig = Rig::new(&format!("{inward}{RULES}filtering = \"endpoint-independent\"\n"));
    Across(tcp, 33_000, 33_000).asks(&mut rig, |p| p.syn().seq(1));
    let (there, here) = ("198.51.100.9:5000", "[64:ff9b::198.51.100.9]:5000");
    let mut inward = |what: &dyn Fn(Packet) -> Packet| {
        let (sent, heard) = (what(tcp(there, &end(POOL, 33_000))), what(tcp(here, &end(CLIENT, 33_000))).routed());
        crosses(&mut rig, "in", (OUTSIDE, sent), (INSIDE, heard));
    };
    inward(&|p| p.syn().seq(100));
    let outward = |rig: &mut Rig, what: &dyn Fn(Packet) -> Packet| {
        let (sent, seen) = (what(tcp(&end(CLIENT, 33_000), here)), what(tcp(&end(POOL, 33_000), there)).routed());
        crosses(rig, "out", (INSIDE, sent), (OUTSIDE, seen));
    };
    outward(&mut rig, &|p| p.syn_ack(101).seq(900));
    let (sent, heard) = (tcp(there, &end(POOL, 33_000)), tcp(here, &end(CLIENT, 33_000)).routed());
    let says = |p: Packet| p.ack(901).seq(101).data(b"hello");
    crosses(&mut rig, "in", (OUTSIDE, says(sent)), (INSIDE, says(heard)));
    outward(&mut rig, &|p| p.fin(106).seq(901));
}

/// RFC 6146 section 3.8, RFC 4787 REQ-9: a client reaches another by its outside end, and is seen at its own.
#[test]
fn clients_reach_each_other_by_their_outside_ends() {
    for workers in [1, 3] {
        let layout = Layout { workers, queues: usize::from(workers), buffers: 4_096 };
        let more = "[[firewall.rule]]\nname = \"beside\"\naction = \"allow\"\nfrom = [\"dmz\"]\nto = [\"dmz\"]\n";
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{more}{RULES}filtering = \"endpoint-independent\"\n"), layout);
        let server = "2001:db8:10::12";
        rig.put(INSIDE, &udp(&end(server, 5_000), &end(SERVER6, 53)));
        rig.settle();
        let shown = {
            let out = rig.take();
            u16::from_be_bytes([out[0].1[34], out[0].1[35]])
        };
        let outside = end("64:ff9b::198.51.100.64", shown);
        rig.put(INSIDE, &udp(&end(CLIENT, 6_000), &outside).data(b"hello"));
        rig.settle();
        let out = rig.take();
        assert_eq!(out.len(), 1, "{:?}", rig.drops());
        let facts = facts(&out[0].1);
        assert_eq!(facts.endpoints.source().to_string(), "64:ff9b::c633:6440");
        assert_eq!(facts.endpoints.destination().to_string(), server);
        let seen_at = u16::from_be_bytes([out[0].1[54], out[0].1[55]]);
        let answer = udp(&end(server, 5_000), &end("64:ff9b::198.51.100.64", seen_at)).data(b"yes");
        let heard = udp(&outside, &end(CLIENT, 6_000)).data(b"yes").routed();
        crosses(&mut rig, "the answer", (INSIDE, answer), (INSIDE, heard));
        assert_eq!(rig.session_count(), 2);
    }
}

/// RFC 6146 section 4: UDP lives five minutes, a ping one.
#[test]
fn silence_is_borne_as_rfc_6146_has_it() {
    let mut rig = Rig::new(RULES);
    Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
    crosses(
        &mut rig,
        "a ping",
        (INSIDE, ping(CLIENT, SERVER6, 20_000)),
        (OUTSIDE, ping(POOL, SERVER, 20_000).routed()),
    );
    rig.wait(59);
    assert_eq!(rig.session_count(), 2);
    rig.wait(3);
    assert_eq!(rig.session_count(), 1);
    rig.wait(237);
    Across(udp, 33_000, 33_000).answers(&mut rig, |p| p);
    rig.wait(302);
    assert_eq!((rig.session_count(), rig.snapshot().pool_uses.iter().map(|pool| pool.mappings()).sum::<u64>()), (0, 0));
}

/// `show sessions` has both sides, each in its own version.
#[test]
fn sessions_show_both_sides() {
    let mut rig = Rig::new(RULES);
    Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
    let shown = rig.sessions();
    let ends = |ends: &worker::Ends| {
        format!("{} {} > {} {}", ends.source, ends.source_port, ends.destination, ends.destination_port)
    };
    assert_eq!(ends(&shown[0].original), "2001:db8:10::11 33000 > 64:ff9b::c633:6407 443");
    assert_eq!(ends(&shown[0].reply), "198.51.100.7 443 > 198.51.100.64 33000");
}

/// A client has no more ports than it may; and all is given back at the end (A4).
#[test]
fn a_client_has_no_more_ports_than_it_may() {
    let mut rig = Rig::new(&format!("{RULES}ports_per_source = 2\n"));
    for port in [20_000, 20_002] {
        Across(udp, port, port).asks(&mut rig, |p| p);
    }
    let third = udp(&end(CLIENT, 20_004), &end(SERVER6, 443));
    rig.drops_all("a third", &[(INSIDE, third)], NatSourceLimit);
    rig.wait(302);
    Across(udp, 20_004, 20_004).asks(&mut rig, |p| p);
}

/// RFC 4291 section 2.5.5.2, RFC 6890: what NAT64 writes into its sessions for their IPv4 side is nobody's on a wire, so no
/// packet finds a session by it: plain or not, by whatever port, on whatever worker.
#[test]
fn nobody_speaks_for_the_ipv4_side_in_ipv6() {
    for workers in [1, 3] {
        let layout = Layout { workers, queues: usize::from(workers), buffers: 4_096 };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{RULES}"), layout);
        let client = tcp(&end(CLIENT, 33_000), &end(SERVER6, 443));
        // The client's station is known on every worker.
        for port in 20_000..20_024 {
            rig.put(INSIDE, &udp(&end(CLIENT, port), &end(SERVER6, 443)));
            rig.settle();
            let out = rig.take();
            Across(udp, port, u16::from_be_bytes([out[0].1[34], out[0].1[35]])).answers(&mut rig, |p| p);
        }
        rig.wait(302);
        rig.put(INSIDE, &udp(&end(CLIENT, 33_000), &end(SERVER6, 443)));
        rig.put(INSIDE, &client.clone().syn().seq(1_000));
        rig.settle();
        let shown: Vec<_> = rig.take().iter().map(|(_, out)| u16::from_be_bytes([out[34], out[35]])).collect();
        let (server, pool) = ("::ffff:198.51.100.7", "::ffff:198.51.100.64");
        for shown in shown {
            let (from, to) = (end(server, 443), end(pool, shown));
            let forged = [
                udp(&from, &to),
                udp(&to, &from),
                tcp(&from, &to).syn_ack(1_001).seq(5_000),
                tcp(&from, &to).rst_ack(1_001).seq(0),
                tcp(&to, &from).rst().seq(1_001),
            ];
            for packet in forged {
                for side in [INSIDE, OUTSIDE] {
                    rig.drops_all("::ffff", &[(side, packet.clone())], Malformed::SourceReserved);
                }
            }
        }
        let states: Vec<_> = rig.sessions().iter().map(|session| format!("{:?}", session.state)).collect();
        assert_eq!(states.len(), 2);
        assert!(states.iter().all(|state| state == "OneWay" || state == "SynSent"), "{states:?}");
    }
}

/// FLD-11: a scan of neighbors that do not answer takes no next hop that a conversation across has, on either side.
#[test]
fn a_flood_of_neighbors_does_not_take_the_way_of_a_conversation() {
    let roomy = TWO_PORTS.replace("capacity = 4_096", "capacity = 70_000");
    let rules = format!("{roomy}\n[firewall]\ndefault = \"allow\"\n{RULES}");
    let mut rig = Rig::of(&rules);
    let talk = Across(udp, 33_000, 33_000);
    talk.asks(&mut rig, |p| p);
    talk.answers(&mut rig, |p| p);
    // Nothing waits for an answer any more.
    rig.wait(2);
    // Each that finds no place looks through 64 for one that nobody holds.
    let mut scanned = 0;
    while scanned < NEXT_HOPS_MAX + 2_000 {
        for _ in 0..512 {
            let target = format!("2001:db8:10::{:x}:{:x}", 1 + (scanned >> 16), scanned & 0xffff);
            rig.put_bytes(OUTSIDE, &rig.inward(OUTSIDE, &udp("[2001:db8:51::99]:7", &end(&target, 53))));
            scanned += 1;
        }
        while rig.turn() {}
    }
    assert!(rig.dropped(NextHopsFull) > 0, "{:?}", rig.drops());
    rig.settle();
    rig.take();
    talk.asks(&mut rig, |p| p);
    talk.answers(&mut rig, |p| p);
}

/// A rule of NAT64 that is not for a client does not concern it: its packets are judged by where they go, and so are the answers,
/// whichever worker has them.
#[test]
fn who_no_rule_is_for_is_routed() {
    let beyond = "[[route]]\nto = \"64:ff9b::/96\"\nvia = \"2001:db8:10::64\"\n";
    let rules = RULES.replace("from = [\"dmz\"]\naddress", "source = [\"2001:db8:10::11/128\"]\naddress");
    let other = "2001:db8:10::12";
    for workers in [1, 3] {
        let layout = Layout { workers, queues: usize::from(workers), buffers: 4_096 };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{rules}{beyond}"), layout);
        let asked = udp(&end(other, 5_000), &end(SERVER6, 53));
        rig.drops_all("no rule allows dmz to dmz", &[(INSIDE, asked)], FirewallDenied);
        let inner = "[[firewall.rule]]\nname = \"beside\"\naction = \"allow\"\nfrom = [\"dmz\"]\nto = [\"dmz\"]\n";
        rig.publish_more(&format!("{inner}{rules}{beyond}"));
        for port in 5_000..5_024 {
            let talk = Talk::udp(
                (INSIDE, &end(other, port), &end(SERVER6, 53)),
                (INSIDE, &end(other, port), &end(SERVER6, 53)),
            );
            let (asked, passed) = talk.up(|p| p);
            rig.passes("asks", (asked, (passed.0, passed.1.via("2001:db8:10::64"))));
            let (answered, passed) = talk.down(|p| p);
            rig.passes("is answered", ((answered.0, answered.1.via("2001:db8:10::64")), passed));
        }
        rig.publish_more(&format!("{inner}{rules}{beyond}# the same\n"));
        let (asked, passed) =
            Talk::udp((INSIDE, &end(other, 5_000), &end(SERVER6, 53)), (INSIDE, &end(other, 5_000), &end(SERVER6, 53)))
                .up(|p| p);
        rig.passes("judged again", (asked, (passed.0, passed.1.via("2001:db8:10::64"))));
    }
}

/// After a change of rules a packet goes round other workers only where its session is not.
#[test]
fn answers_go_to_their_worker_at_once_after_a_change() {
    let layout = Layout { workers: 3, queues: 1, buffers: 4_096 };
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{RULES}"), layout);
    let talks: Vec<_> = (20_000..20_024)
        .map(|port| {
            rig.put(INSIDE, &udp(&end(CLIENT, port), &end(SERVER6, 443)));
            rig.settle();
            let out = rig.take();
            Across(udp, port, u16::from_be_bytes([out[0].1[34], out[0].1[35]]))
        })
        .collect();
    let handed = |rig: &mut Rig| {
        let before = rig.count(|c| &c.handed_over);
        for talk in &talks {
            talk.answers(rig, |p| p.data(b"x"));
            talk.asks(rig, |p| p.data(b"y"));
        }
        rig.count(|c| &c.handed_over) - before
    };
    let at_first = handed(&mut rig);
    rig.publish_more(&RULES.replace("\"clients\"", "\"others\""));
    handed(&mut rig);
    assert!(handed(&mut rig) <= at_first, "each packet is handed over once at most");
}

/// A policy without the rule ends what it had opened.
#[test]
fn a_rule_that_is_gone_lets_nothing_through() {
    let mut rig = Rig::new(RULES);
    Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
    rig.publish_more(&format!("{RULES}# the same\n"));
    Across(udp, 33_000, 33_000).asks(&mut rig, |p| p);
    Across(udp, 33_000, 33_000).answers(&mut rig, |p| p);
    let (rule, _) = RULES.split_once("[[nat64]]").unwrap();
    rig.publish_more(rule);
    rig.put(INSIDE, &udp(&end(CLIENT, 33_000), &end(SERVER6, 443)));
    rig.put(OUTSIDE, &udp(&end(SERVER, 443), &end(POOL, 33_000)));
    rig.settle();
    assert!(rig.take().iter().all(|(_, bytes)| bytes[12] != 0x08 || bytes[23] == 1), "nothing crosses");
}

/// Whatever worker a packet reaches, both versions of a conversation meet at one.
#[test]
fn several_workers_agree_on_the_owner() {
    let layout = Layout { workers: 3, queues: 3, buffers: 4_096 };
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{RULES}"), layout);
    for port in 20_000..20_024 {
        rig.put(INSIDE, &udp(&end(CLIENT, port), &end(SERVER6, 443)));
        rig.settle();
        let out = rig.take();
        let shown = u16::from_be_bytes([out[0].1[34], out[0].1[35]]);
        let talk = Across(udp, port, shown);
        talk.answers(&mut rig, |p| p.data(b"x"));
        talk.asks(&mut rig, |p| p.data(b"y"));
        let there = udp(&end(POOL, shown), &end(SERVER, 443)).data(b"y").hops(60);
        let here = udp(&end(CLIENT, port), &end(SERVER6, 443)).data(b"y").hops(60);
        let error = icmp_error(ROUTER, POOL, 3, 3, 0, &there, 548);
        let heard = icmp_error(ROUTER6, CLIENT, 1, 4, 0, &here, 568).routed();
        crosses(&mut rig, "an error", (OUTSIDE, error), (INSIDE, heard));
    }
    assert_eq!(rig.session_count(), 24);
}
