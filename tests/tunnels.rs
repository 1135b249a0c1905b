//! Services whose backends are reached by a tunnel: what leaves is the client's packet inside another, in every mode and
//! family; what does not fit is cut, or refused with the right MTU; and errors from inside the path become errors the client knows.
//!
//! What left is read back with another parser (etherparse), so that writer and reader cannot agree on a mistake.

use std::net::IpAddr;

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use millrace_tests::packet::{Packet, end, host, icmp, icmp_error, station, tcp, udp};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS, Talk};
use stage::DropReason::{
    HopLimitExceeded, IcmpErrorUnmatched, IcmpErrorsLimited, IcmpUnwanted, NoSession, PacketTooBig, PathMtuFloor,
    TunnelTooNarrow,
};
use units::Nanos;

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";
const CLIENT: &str = "198.51.100.7";
const CLIENT6: &str = "2001:db8:51::7";
const FOUR: &str = "10.0.0.11";
const SIX: &str = "2001:db8:10::11";

/// A tunnel as a service has it: the keys, the bytes between the IP headers, whether service and backend are IPv6.
#[derive(Clone, Copy, Debug)]
struct Case {
    keys: &'static str,
    between: usize,
    inner_v6: bool,
    outer_v6: bool,
}

const KINDS: [(&str, usize); 5] = [
    ("mode = \"ipip\"", 0),
    ("mode = \"gre\"", 4),
    ("mode = \"gre\"\ngre_key = 77", 8),
    ("mode = \"gue\"", 8),
    ("mode = \"gue\"\ngue_port = 6090\ngue_variant = 0", 12),
];

/// Every mode around every family.
fn cases() -> Vec<Case> {
    let families = [(false, false), (true, true), (false, true), (true, false)];
    let all = KINDS
        .iter()
        .flat_map(|&(keys, between)| families.map(|(inner_v6, outer_v6)| Case { keys, between, inner_v6, outer_v6 }));
    all.collect()
}

impl Case {
    fn client(self) -> String {
        end(if self.inner_v6 { CLIENT6 } else { CLIENT }, 40_000)
    }

    fn asked(self) -> String {
        end(if self.inner_v6 { "2001:db8:51::10" } else { "198.51.100.10" }, 80)
    }

    fn backend(self) -> &'static str {
        if self.outer_v6 { SIX } else { FOUR }
    }

    /// The appliance's address on the inside port.
    fn source(self) -> &'static str {
        if self.outer_v6 { "2001:db8:10::1" } else { "10.0.0.1" }
    }

    /// Its address on the outside port.
    fn outside(self) -> &'static str {
        if self.inner_v6 { "2001:db8:51::1" } else { "198.51.100.1" }
    }

    fn overhead(self) -> u16 {
        (if self.outer_v6 { 40 } else { 20 }) + u16::try_from(self.between).unwrap()
    }

    fn services(self, more: &str) -> String {
        let Self { keys, .. } = self;
        let asked = self.asked();
        let one = |name: &str, protocol: &str| {
            format!(
                "[[virtual_service]]\nname = \"{name}\"\naddress = \"{}\"\nprotocol = \"{protocol}\"\nports = [\"80\"]\n{keys}\n{}\n\
                 [[virtual_service.backend]]\nname = \"a\"\naddress = \"{}\"\n",
                host(&asked),
                if protocol == "tcp" { more } else { "" },
                self.backend()
            )
        };
        format!("{ALLOW}{}{}", one("shop", "tcp"), one("dns", "udp"))
    }

    fn rig(self) -> Rig {
        Rig::new(&self.services(""))
    }

    /// Headers in front of a client's IP packet.
    fn headers(self) -> u16 {
        if self.inner_v6 { 40 } else { 20 }
    }

    /// A datagram of the client whose IP packet has this many bytes.
    fn datagram(self, bytes: u16) -> Packet {
        udp(&self.client(), &self.asked()).data(&vec![0x5a; usize::from(bytes - self.headers() - 8)]).dont_fragment_v4()
    }

    /// What the client is told of a packet.
    fn told(self, kinds: ((u8, u8), (u8, u8)), rest: u32, about: &Packet) -> Packet {
        self.told_of(kinds, rest, about, usize::MAX)
    }

    /// As `told`, when no more than so much of the packet is known.
    fn told_of(self, kinds: ((u8, u8), (u8, u8)), rest: u32, about: &Packet, known: usize) -> Packet {
        let (kind, code) = if self.inner_v6 { kinds.1 } else { kinds.0 };
        let quoted = known.min(if self.inner_v6 { 1_232 } else { 548 });
        let error = icmp_error(self.outside(), host(&self.client()), kind, code, rest, about, quoted);
        if self.inner_v6 { error } else { error.class(0xc0).atomic() }
    }

    fn told_mtu(self, mtu: u16, about: &Packet) -> Packet {
        self.told(((3, 4), (2, 0)), u32::from(mtu), about)
    }

    /// An error of a router on the way, about an outer frame that left.
    fn error(self, kind: u8, code: u8, rest: u32, outer: &[u8], quoted: usize) -> Packet {
        let router = if self.outer_v6 { "2001:db8:10::fe" } else { "10.0.0.254" };
        let ip = &outer[14..];
        icmp(router, self.source(), kind, code, rest, &ip[..ip.len().min(quoted)])
    }

    /// "This is all I carry", about an outer frame.
    fn narrow(self, mtu: u16, outer: &[u8]) -> Packet {
        let (kind, code) = if self.outer_v6 { (2, 0) } else { (3, 4) };
        self.error(kind, code, u32::from(mtu), outer, self.quoted())
    }

    /// What routers on the way quote of an outer packet.
    fn quoted(self) -> usize {
        if self.outer_v6 { 1_200 } else { 548 }
    }

    /// The packet inside a frame that left, when all around it is as it should be.
    fn unwrap(self, rig: &Rig, frame: &[u8]) -> Vec<u8> {
        assert_eq!(frame[..6], station(self.backend().parse().unwrap()).octets(), "{self:?}: to the backend");
        assert_eq!(frame[6..12], rig.mac(INSIDE).octets());
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let (payload, ends) = match sliced.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => {
                (ip.payload(), (IpAddr::from(ip.header().source()), IpAddr::from(ip.header().destination())))
            }
            NetSlice::Ipv6(ip) => {
                (ip.payload(), (IpAddr::from(ip.header().source()), IpAddr::from(ip.header().destination())))
            }
            NetSlice::Arp(_) => panic!("IP"),
        };
        assert_eq!(ends, (self.source().parse().unwrap(), self.backend().parse().unwrap()), "{self:?}");
        let number = if self.inner_v6 { IpNumber::IPV6 } else { IpNumber::IPV4 };
        let ethertype = if self.inner_v6 { [0x86, 0xdd] } else { [8, 0] };
        let bytes = payload.payload;
        match self.between {
            0 => assert_eq!(payload.ip_number, number),
            4 if self.keys.contains("gre") => {
                assert_eq!((bytes[..2].to_vec(), &bytes[2..4]), (vec![0, 0], &ethertype[..]));
            }
            8 if self.keys.contains("gre") => {
                assert_eq!(bytes[..8], [&[0x20, 0], &ethertype[..], &[0, 0, 0, 77]].concat());
            }
            _ => {
                let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("UDP") };
                let direct = self.between == 8;
                assert_eq!(udp.destination_port(), if direct { 6080 } else { 6090 });
                assert!(direct || bytes[8..12] == [0, number.0, 0, 0]);
            }
        }
        bytes[self.between..].to_vec()
    }

    /// A packet goes in and comes out inside another; the frame that left.
    fn passes(self, rig: &mut Rig, sentence: &str, packet: &Packet) -> Vec<u8> {
        rig.put(OUTSIDE, packet);
        rig.settle();
        let out = rig.take();
        let [(INSIDE, frame)] = out.as_slice() else { panic!("{sentence}, {self:?}: {out:?}, {:?}", rig.drops()) };
        assert_eq!(self.unwrap(rig, frame), packet.clone().routed().bytes_of_ip(), "{sentence}, {self:?}");
        frame.clone()
    }
}

/// Types and codes of ICMP.
type Kinds = &'static [(u8, u8)];

trait DontFragment {
    fn dont_fragment_v4(self) -> Self;
}

impl DontFragment for Packet {
    /// Where there is such a thing.
    fn dont_fragment_v4(self) -> Self {
        if self.addresses().unwrap().0.is_ipv4() { self.dont_fragment() } else { self }
    }
}

/// RFC 2003, 2473, 4213, 2784, 2890 and GUE: the client's packets, hop limit aside, are inside unchanged, whatever of the
/// conversation passes; the answers do not come by here.
#[test]
fn every_mode_wraps_both_families_in_both() {
    for case in cases() {
        let mut rig = case.rig();
        let (client, asked) = (case.client(), case.asked());
        let up = || tcp(&client, &asked);
        let syn = case.passes(&mut rig, "SYN", &up().syn().seq(1).tcp_options(&[2, 4, 5, 0xb4]));
        case.passes(&mut rig, "the ACK of an answer that went another way", &up().ack(77).seq(2));
        let one = case.passes(&mut rig, "data", &up().ack(1_000_000).seq(500_000).data(b"much later"));
        let other = case.passes(&mut rig, "more of it", &up().ack(1_000_000).seq(500_010).data(b"and more"));
        if case.keys.contains("gue") {
            let port = 14 + usize::from(case.overhead()) - case.between;
            assert_eq!(one[port..port + 2], other[port..port + 2], "one flow has one source port");
            assert_eq!(one[port..port + 2], syn[port..port + 2], "from its first packet on");
        }
        case.passes(&mut rig, "FIN", &up().fin(1_000_000).seq(500_018));
        case.passes(&mut rig, "a class and a padded frame", &udp(&client, &asked).class(0xb9).padded(&[0; 9]));
        assert_eq!((rig.active("shop"), rig.active("dns")), (vec![1], vec![1]));
        assert_eq!(rig.count(|c| &c.encapsulated), 6);
        let late = udp(&client, &asked).hops(1);
        let told = case.told(((11, 0), (3, 0)), 0, &late);
        rig.case("its last hop", &[(OUTSIDE, late)], &[(OUTSIDE, told)], &[HopLimitExceeded]);
        rig.wait(1);
    }
}

/// RFC 2003 section 5.1, RFC 2473 section 7.1: what does not fit is refused with what the tunnel leaves of the MTU.
/// RLD-11: a session goes on in the next process, by a tunnel made anew.
#[test]
fn sessions_through_tunnels_outlive_the_process() {
    for case in cases() {
        let mut rig = case.rig();
        let segment = || tcp(&case.client(), &case.asked());
        case.passes(&mut rig, "SYN", &segment().syn().seq(OPENER));
        case.passes(&mut rig, "a datagram", &case.datagram(200));
        let text = format!("{TWO_PORTS}{}", case.services(""));
        let (mut rig, refused) = rig.succeeded_by(&text, Layout::default(), Nanos::from_millis(300));
        assert_eq!((refused.len(), rig.session_count(), rig.active("shop")), (0, 2, vec![1]), "{case:?}: {refused:?}");
        case.passes(&mut rig, "ACK", &segment().ack(ANSWERER + 1).seq(OPENER + 1));
        case.passes(&mut rig, "another datagram", &case.datagram(300));
        assert_eq!(rig.session_count(), 2);
    }
}

#[test]
fn what_does_not_fit_is_told_the_tunnels_mtu() {
    for case in cases() {
        let mut rig = case.rig();
        let room = 1_500 - case.overhead();
        case.passes(&mut rig, "exactly as much", &case.datagram(room));
        let large = case.datagram(room + 1);
        let told = case.told_mtu(room, &large);
        rig.case("a byte more", &[(OUTSIDE, large)], &[(OUTSIDE, told)], &[PacketTooBig]);
    }
}

/// RFC 4459 section 3.4: what may be fragmented is cut before it is wrapped, so that the backend puts it together and not the
/// tunnel's end. So is each fragment of a datagram that is too large itself.
#[test]
fn what_may_be_fragmented_is_cut_before_it_is_wrapped() {
    for case in cases().into_iter().filter(|case| !case.inner_v6) {
        let mut rig = case.rig();
        let send = |len: usize| udp(&case.client(), &case.asked()).data(&vec![0x5a; len]);
        let cut = |packet: &Packet, room: u16| -> Vec<_> {
            let pieces = packet.clone().routed().pieces(usize::from(room - 20) / 8 * 8);
            pieces.iter().map(Packet::bytes_of_ip).collect()
        };
        let leaves = |rig: &mut Rig, packets: &[Packet]| -> Vec<_> {
            packets.iter().for_each(|packet| rig.put(OUTSIDE, packet));
            rig.settle();
            let out = rig.take();
            assert!(out.iter().all(|(side, frame)| *side == INSIDE && frame.len() <= 14 + 1_500), "{case:?}");
            out.iter().map(|(_, frame)| case.unwrap(rig, frame)).collect()
        };
        let (room, large) = (1_500 - case.overhead(), send(1_472));
        assert_eq!(
            leaves(&mut rig, core::slice::from_ref(&large)),
            cut(&large, room)[..1],
            "the first waits, {case:?}"
        );
        assert_eq!(rig.count(|c| &c.originated_lost), 1, "the other does not");
        assert_eq!(leaves(&mut rig, core::slice::from_ref(&large)), cut(&large, room), "{case:?}");
        let [first, second] = &send(2_900).id(9).pieces(1_480)[..] else { panic!("two fragments") };
        let inside = leaves(&mut rig, &[first.clone(), second.clone()]);
        assert_eq!(inside.len(), 3, "the second fits: {case:?}");
        assert_eq!((&inside[2], inside[0].len() + inside[1].len()), (&second.clone().routed().bytes_of_ip(), 1_520));
        // A router on the way has less room: once that is known, pieces are as small.
        let outer = case.passes(&mut rig, "it leaves", &case.datagram(room));
        rig.put(INSIDE, &case.narrow(1_400, &outer));
        rig.settle();
        rig.take();
        assert_eq!(leaves(&mut rig, core::slice::from_ref(&large)), cut(&large, 1_400 - case.overhead()), "{case:?}");
        assert!(rig.drops().is_empty(), "{:?}", rig.drops());
    }
}

/// A sender of IPv6 need not go below 1,280 bytes (RFC 8200 section 5), so it is not asked to (EVA-23); what then still does
/// not fit has a name of its own.
#[test]
fn a_tunnel_narrower_than_ipv6_needs_is_seen() {
    for case in cases().into_iter().filter(|case| case.inner_v6) {
        let text = format!("{TWO_PORTS}{}", case.services("")).replace("zone = \"dmz\"", "zone = \"dmz\"\nmtu = 1290");
        let mut rig = Rig::of(&text);
        let large = case.datagram(1_281);
        let told = case.told_mtu(1_280, &large);
        rig.case("it is told 1,280", &[(OUTSIDE, large)], &[(OUTSIDE, told)], &[PacketTooBig]);
        rig.drops_all("and sends that", &[(OUTSIDE, case.datagram(1_280))], TunnelTooNarrow);
        case.passes(&mut rig, "what fits", &case.datagram(1_290 - case.overhead()));
    }
}

/// A service that leaves its tunnels: the last session with a backend may be one that never took the tunnel. What the tunnel
/// held on to is let go all the same (A4).
#[test]
fn a_tunnel_is_let_go_with_the_last_session_of_its_backend() {
    for case in cases().into_iter().filter(|case| case.inner_v6 == case.outer_v6) {
        let mut rig = case.rig();
        case.passes(&mut rig, "through the tunnel", &case.datagram(200));
        rig.publish_more(&case.services("").replace(case.keys, "mode = \"nat\""));
        rig.wait(20);
        let (client, backend) = (case.client().replace("40000", "40001"), end(case.backend(), 80));
        let there = (OUTSIDE, udp(&client, &case.asked()));
        rig.passes("without it", (there, (INSIDE, udp(&client, &backend).routed())));
        rig.wait(15);
        assert_eq!(rig.session_count(), 1, "the tunnel's is over");
    }
}

/// RFC 2003 section 4, RFC 2473 section 8: a router inside the path says what it carries; the client hears of it, what
/// follows is refused here at once, and after ten minutes it is tried again.
#[test]
fn a_narrow_path_is_told_and_remembered_for_ten_minutes() {
    for case in cases() {
        let mut rig = case.rig();
        let large = case.datagram(1_500 - case.overhead());
        let outer = case.passes(&mut rig, "it leaves", &large);
        let room = 1_400 - case.overhead();
        let known = case.quoted() - usize::from(case.overhead());
        let told = case.told_of(((3, 4), (2, 0)), u32::from(room), &large.clone().routed(), known);
        rig.case("a router has no room", &[(INSIDE, case.narrow(1_400, &outer))], &[(OUTSIDE, told)], &[]);
        let told = case.told_mtu(room, &large);
        rig.case("it is known", &[(OUTSIDE, large.clone())], &[(OUTSIDE, told)], &[PacketTooBig]);
        case.passes(&mut rig, "what fits", &case.datagram(room));
        let client = case.client().replace("40000", "40001");
        let another =
            udp(&client, &case.asked()).data(&vec![1; usize::from(room + 1 - case.headers() - 8)]).dont_fragment_v4();
        let told = case.told_mtu(room, &another);
        rig.case("to others as well", &[(OUTSIDE, another)], &[(OUTSIDE, told)], &[PacketTooBig]);
        rig.publish_more(&case.services(""));
        let told = case.told_mtu(room, &large);
        rig.case("under a new policy", &[(OUTSIDE, large.clone())], &[(OUTSIDE, told)], &[PacketTooBig]);
        rig.leap(Nanos::from_secs(601));
        case.passes(&mut rig, "ten minutes later", &large);
    }
}

/// EVA-23: what no path can be is not believed, nor is what the packet would have fitted into.
#[test]
fn a_path_narrower_than_any_is_not_believed() {
    for case in cases() {
        let mut rig = case.rig();
        let large = case.datagram(1_500 - case.overhead());
        let outer = case.passes(&mut rig, "it leaves", &large);
        let mtus: &[u16] = if case.outer_v6 { &[0, 1_279, 1_500] } else { &[0, 68, 551, 1_500] };
        for &mtu in mtus {
            rig.drops_all("not this", &[(INSIDE, case.narrow(mtu, &outer))], PathMtuFloor);
        }
        let (least_outside, least_inside) =
            (if case.outer_v6 { 1_280 } else { 552 }, if case.inner_v6 { 1_280 } else { 552 });
        let least = least_outside.max(least_inside + case.overhead());
        rig.drops_all("nor what leaves too little", &[(INSIDE, case.narrow(least - 1, &outer))], PathMtuFloor);
        case.passes(&mut rig, "nothing has changed", &large);
        let known = case.quoted() - usize::from(case.overhead());
        let room = u32::from(least - case.overhead());
        let told = case.told_of(((3, 4), (2, 0)), room, &large.clone().routed(), known);
        rig.case("but this", &[(INSIDE, case.narrow(least, &outer))], &[(OUTSIDE, told)], &[]);
        // Whoever does as told gets through.
        case.passes(&mut rig, "what fits", &case.datagram(least - case.overhead()));
    }
}

/// EVA-22: an error about a tunnel changes nothing unless it quotes a packet of a session that took this very tunnel.
#[test]
fn an_error_that_quotes_no_packet_of_a_session_changes_nothing() {
    for case in cases() {
        let mut rig = case.rig();
        let large = case.datagram(1_500 - case.overhead());
        let outer = case.passes(&mut rig, "it leaves", &large);
        let inner = 14 + usize::from(case.overhead());
        let ports = inner + usize::from(case.headers());
        let spoilt = |at: usize, bytes: &[u8]| {
            let mut frame = outer.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let source = if case.outer_v6 { 14 + 8 } else { 14 + 12 };
        let len = if case.outer_v6 { 16 } else { 4 };
        let rows = [
            ("another flow inside", spoilt(ports, &[1, 1])),
            ("another service inside", spoilt(ports + 2, &[1, 1])),
            ("another client inside", spoilt(inner + if case.inner_v6 { 23 } else { 15 }, &[8])),
            ("another backend", spoilt(source + 2 * len - 1, &[99])),
        ];
        for (sentence, frame) in rows {
            rig.drops_all(sentence, &[(INSIDE, case.narrow(1_400, &frame))], IcmpErrorUnmatched);
        }
        // The client knows all of the packet inside and may guess the rest. It is not on the path.
        let elsewhere = if case.outer_v6 { "2001:db8:51::7" } else { "198.51.100.7" };
        let forged = case.narrow(1_400, &outer);
        for (sentence, side, packet) in [
            ("from the client", OUTSIDE, forged.clone().from(elsewhere)),
            ("from where the path is not, as a router of it", OUTSIDE, forged.clone()),
            ("from who cannot be on the path", INSIDE, forged.clone().from(elsewhere)),
            ("as the appliance", INSIDE, forged.from(case.source())),
        ] {
            let before = rig.drops();
            rig.put(side, &packet);
            rig.settle();
            assert!(rig.take().is_empty(), "{sentence}: {:?}", rig.drops());
            assert_ne!(rig.drops(), before, "{sentence}");
        }
        let swapped = {
            let (a, b) = (outer[source..source + len].to_vec(), outer[source + len..source + 2 * len].to_vec());
            spoilt(source, &[b, a].concat())
        };
        rig.drops_all("the other way round", &[(INSIDE, case.narrow(1_400, &swapped))], IcmpErrorUnmatched);
        let (kind, code) = if case.outer_v6 { (2, 0) } else { (3, 4) };
        let short = usize::from(case.overhead()) + 8;
        let error = case.error(kind, code, 1_400, &outer, short);
        rig.put(INSIDE, &error);
        rig.settle();
        assert!(rig.take().is_empty(), "too little of the packet inside");
        case.passes(&mut rig, "nothing has changed", &large);
    }
}

/// EVA-22: errors about one session are believed a bounded number of times a second, those about tunnels as well.
#[test]
fn errors_about_one_session_are_limited() {
    for case in cases() {
        let mut rig = case.rig();
        rig.leap(Nanos::from_secs(10));
        let packet = case.datagram(600);
        let outer = case.passes(&mut rig, "it leaves", &packet);
        let (kind, code) = if case.outer_v6 { (1, 0) } else { (3, 1) };
        let mut told = 0;
        for burst in [1, 149] {
            (0..burst).for_each(|_| rig.put(INSIDE, &case.error(kind, code, 0, &outer, 500)));
            rig.settle();
            told += rig.take().len();
        }
        assert_eq!((told, rig.dropped(IcmpErrorsLimited)), (100, 50), "{case:?}");
    }
}

/// RFC 2003 section 4.1 and 4.4: whatever keeps the tunnel from its end, to the client the host is unreachable; what
/// concerns only the two ends of the tunnel stays between them.
#[test]
fn a_tunnel_that_ends_nowhere_is_an_unreachable_host() {
    for case in cases() {
        let mut rig = case.rig();
        let packet = tcp(&case.client(), &case.asked()).syn().seq(OPENER);
        let outer = case.passes(&mut rig, "SYN", &packet);
        let told = case.told(((3, 1), (1, 3)), 0, &packet.clone().routed());
        let (fatal, others): (Kinds, Kinds) = if case.outer_v6 {
            (&[(1, 0), (1, 3), (1, 4), (3, 0)], &[(4, 1)])
        } else {
            (&[(3, 0), (3, 1), (3, 2), (3, 3), (3, 13), (11, 0)], &[(4, 0), (12, 0)])
        };
        for &(kind, code) in fatal {
            let error = case.error(kind, code, 0, &outer, 500);
            rig.case(&format!("{kind}/{code}, {case:?}"), &[(INSIDE, error)], &[(OUTSIDE, told.clone())], &[]);
        }
        for &(kind, code) in others {
            rig.drops_all("not the client's matter", &[(INSIDE, case.error(kind, code, 0, &outer, 500))], IcmpUnwanted);
        }
    }
}

/// Errors come back to the tunnel's end, whichever worker has it: the one that owns the client's session answers.
#[test]
fn errors_find_the_worker_that_owns_the_session_inside() {
    for case in cases() {
        let layout = Layout { workers: 3, queues: 3, buffers: 4_096 };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{}", case.services("")), layout);
        for port in 0..12 {
            let client = case.client().replace("40000", &format!("{}", 40_000 + port));
            let packet = udp(&client, &case.asked());
            let outer = case.passes(&mut rig, "a question", &packet);
            let told = case.told(((3, 1), (1, 3)), 0, &packet.routed());
            let (kind, code) = if case.outer_v6 { (1, 0) } else { (3, 0) };
            rig.case("its end", &[(INSIDE, case.error(kind, code, 0, &outer, 500))], &[(OUTSIDE, told)], &[]);
        }
    }
}

/// A full table: what cannot be followed is forwarded by the client's hash alone, as with `direct`.
#[test]
fn a_full_table_wraps_what_it_cannot_follow() {
    for case in cases() {
        let text = format!("{TWO_PORTS}{}", case.services("")).replace("capacity = 4_096", "capacity = 1");
        let mut rig = Rig::of(&text);
        let held = udp(&case.client(), &case.asked());
        case.passes(&mut rig, "the one there is room for", &held);
        let client = case.client().replace("40000", "40001");
        case.passes(&mut rig, "SYN", &tcp(&client, &case.asked()).syn().seq(1));
        case.passes(&mut rig, "data", &tcp(&client, &case.asked()).ack(7).seq(2).data(b"GET /"));
        assert_eq!((rig.session_count(), rig.count(|c| &c.forwarded_untracked)), (1, 2));
    }
}

/// A backend the policy no longer has keeps its tunnel until the drain timeout; a route that changes is followed.
#[test]
fn tunnels_follow_the_policy() {
    let case = cases()[0];
    let mut rig = Rig::new(&case.services("drain_timeout = \"30s\""));
    let data = || tcp(&case.client(), &case.asked()).ack(9).seq(2).data(b"on we go");
    case.passes(&mut rig, "SYN", &tcp(&case.client(), &case.asked()).syn().seq(1));
    rig.publish_more(&format!(
        "[[route]]\nto = \"10.0.0.11/32\"\nvia = \"10.0.0.200\"\n{}",
        case.services("drain_timeout = \"30s\"")
    ));
    rig.put(OUTSIDE, &data());
    rig.settle();
    let out = rig.take();
    assert_eq!(out[0].1[..6], station("10.0.0.200".parse().unwrap()).octets(), "the new router");
    rig.publish_more(&case.services("drain_timeout = \"30s\"").replace("10.0.0.11", "10.0.0.12"));
    case.passes(&mut rig, "to the backend that is gone", &data());
    rig.wait(31);
    rig.drops_all("and that was it", &[(OUTSIDE, data())], NoSession);
}

/// `tunnel_source`: the tunnel begins at that address of ours instead of the outgoing port's.
#[test]
fn a_tunnel_begins_where_the_service_says() {
    let case = cases()[0];
    let mut rig = Rig::new(&case.services("tunnel_source = [\"198.51.100.1\"]"));
    rig.put(OUTSIDE, &tcp(&case.client(), &case.asked()).syn().seq(1));
    rig.settle();
    let out = rig.take();
    assert_eq!(out[0].1[26..30], [198, 51, 100, 1]);
}

fn segment_size(size: u16) -> [u8; 4] {
    let [high, low] = size.to_be_bytes();
    [2, 4, high, low]
}

/// `mss_clamp`: a SYN announces no more than its way carries, or than the operator says; where answers pass, so do SYN-ACKs.
#[test]
fn announced_segment_sizes_are_lowered() {
    for case in cases() {
        let fits = 1_500 - case.overhead() - if case.inner_v6 { 60 } else { 40 };
        for (key, announced, left) in
            [("true", 1_460, fits), ("true", 536, 536), ("1200", 1_460, 1_200), ("false", 1_460, 1_460)]
        {
            let mut rig = Rig::new(&case.services(&format!("mss_clamp = {key}")));
            let syn = |size| tcp(&case.client(), &case.asked()).syn().seq(1).tcp_options(&segment_size(size));
            rig.put(OUTSIDE, &syn(announced));
            rig.settle();
            let out = rig.take();
            assert_eq!(case.unwrap(&rig, &out[0].1), syn(left).routed().bytes_of_ip(), "{key}, {case:?}");
        }
    }
    let nat = "[[virtual_service]]\nname = \"shop\"\naddress = \"198.51.100.10\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
               mss_clamp = true\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"10.0.0.11\"\nport = 8080\n";
    let text = format!("{TWO_PORTS}{ALLOW}{nat}").replace("zone = \"dmz\"", "zone = \"dmz\"\nmtu = 1400");
    let mut rig = Rig::of(&text);
    let client = end(CLIENT, 40_000);
    let talk = Talk::tcp((OUTSIDE, &client, "198.51.100.10:80"), (INSIDE, &client, "10.0.0.11:8080"));
    let (came, _) = talk.up(|p| p.syn().seq(OPENER).tcp_options(&segment_size(1_460)));
    let (_, leaves) = talk.up(|p| p.syn().seq(OPENER).tcp_options(&segment_size(1_360)));
    rig.passes("SYN", (came, leaves));
    let (came, _) = talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER).tcp_options(&segment_size(8_960)));
    let (_, leaves) = talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER).tcp_options(&segment_size(1_360)));
    rig.passes("SYN-ACK", (came, leaves));
}

/// The same where the appliance itself answers the SYN, with a cookie.
#[test]
fn segment_sizes_are_lowered_where_cookies_are_answered_too() {
    for (key, told) in [("true", 1_360), ("1200", 1_200), ("false", 1_460)] {
        for (address, client, backend, header) in [
            ("198.51.100.10", "198.51.100.7", "10.0.0.11", 0),
            ("2001:db8:51::10", "2001:db8:51::7", "2001:db8:10::11", 20),
        ] {
            let service = format!(
                "[[virtual_service]]\nname = \"shop\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nports = [\"80\"]\n\
                 mss_clamp = {key}\nsyn_cookies = {{ mode = \"always\" }}\n\
                 [[virtual_service.backend]]\nname = \"a\"\naddress = \"{backend}\"\nport = 8080\n"
            );
            let text = format!("{TWO_PORTS}{ALLOW}{service}").replace("zone = \"dmz\"", "zone = \"dmz\"\nmtu = 1400");
            let mut rig = Rig::of(&text);
            let syn = tcp(&end(client, 40_000), &end(address, 80)).syn().seq(OPENER).tcp_options(&segment_size(1_460));
            rig.put(OUTSIDE, &syn);
            rig.settle();
            let out = rig.take();
            let at = 14 + if header == 0 { 20 } else { 40 } + 20;
            let told = if key == "1200" { told } else { told - header };
            let [high, low] = u16::to_be_bytes(told);
            assert_eq!(out[0].1[at..at + 4], [2, 4, high, low], "{key}, {address}");
        }
    }
}
