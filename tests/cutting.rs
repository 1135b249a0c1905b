//! Packets larger than the next link: IPv4 is cut where it may be, everybody else is told (RFC 791, RFC 1191, RFC 8201).

use millrace_tests::fragmented::{FRAGMENTS, payload, segment, together};
use millrace_tests::packet::{icmp, ping, pong, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};
use stage::DropReason::PacketTooBig;

const CLIENT: &str = "198.51.100.7:40000";
const CLIENT6: &str = "[2001:db8:51::7]:40000";
const SERVER: &str = "10.0.0.11:53";
const SERVER6: &str = "[2001:db8:10::11]:53";

/// A smaller link inside.
const NARROW: (&str, &str) = ("device = \"net_ring1\"\n", "device = \"net_ring1\"\nmtu = 1280\n");

fn narrow() -> Rig {
    let text = format!("{TWO_PORTS}{FRAGMENTS}").replace(NARROW.0, NARROW.1);
    let mut rig = Rig::of(&text);
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        rig.put(OUTSIDE, &ping(client, server, 9));
        rig.settle();
        rig.put(INSIDE, &pong(server, client, 9));
        rig.settle();
    }
    rig.take();
    rig
}

/// RFC 791, RFC 1191, RFC 8201: what is larger than the next link is cut where it may be, and else its sender is told.
#[test]
fn what_is_too_large_for_the_next_link_is_cut_or_refused() {
    let mut rig = narrow();
    let large = udp(CLIENT, SERVER).data(&payload(1_400));
    rig.put(OUTSIDE, &large);
    rig.settle();
    let came = rig.take();
    assert_eq!(came.len(), 2);
    assert!(came.iter().all(|(side, frame)| *side == INSIDE && frame.len() <= 14 + 1_280));
    let (id, whole) = together(&came);
    assert_eq!((id, whole), (0x4d52, segment(&large)), "the sender's own identification");
    // Balanced, so translated: an identification of the appliance's.
    rig.put(OUTSIDE, &udp(CLIENT, "198.51.100.10:53").data(&payload(1_400)));
    rig.settle();
    let (id, whole) = together(&rig.take());
    assert_eq!(whole, segment(&udp(CLIENT, "10.0.0.11:5353").data(&payload(1_400))));
    assert_ne!(id, 0x4d52);
    // Fragments larger than the link are cut again.
    let pieces = udp(CLIENT, SERVER).data(&payload(4_000)).pieces(1_440);
    for piece in &pieces {
        rig.put(OUTSIDE, piece);
    }
    rig.settle();
    let came = rig.take();
    assert_eq!(came.len(), 5, "1,440 are 1,256 and 184, twice; 1,128 fit");
    assert_eq!(together(&came).1, segment(&udp(CLIENT, SERVER).data(&payload(4_000))));
    assert!(rig.drops().is_empty(), "{:?}", rig.drops());

    rig.put(OUTSIDE, &large.dont_fragment());
    rig.settle();
    let told = rig.take();
    assert_eq!((told.len(), told[0].0), (1, OUTSIDE));
    assert_eq!(&told[0].1[34..36], [3, 4], "fragmentation needed");
    assert_eq!(&told[0].1[40..42], 1_280_u16.to_be_bytes());
    rig.put(OUTSIDE, &udp(CLIENT6, SERVER6).data(&payload(1_400)));
    rig.settle();
    let told = rig.take();
    assert_eq!((told.len(), told[0].1[54], &told[0].1[58..62]), (1, 2, &1_280_u32.to_be_bytes()[..]));
    assert_eq!(rig.dropped(PacketTooBig), 2);
    for piece in udp(CLIENT6, SERVER6).data(&payload(4_000)).pieces(1_440) {
        rig.put(OUTSIDE, &piece);
    }
    rig.settle();
    let told = rig.take();
    assert_eq!((told.len(), told[0].1[54], &told[0].1[58..62]), (1, 2, &1_280_u32.to_be_bytes()[..]));
    assert_eq!(rig.dropped(PacketTooBig), 5);
}

/// A packet that waits for its next hop is cut when it leaves.
#[test]
fn what_waited_for_its_next_hop_is_cut_too() {
    let text = format!("{TWO_PORTS}{FRAGMENTS}").replace(NARROW.0, NARROW.1);
    let mut rig = Rig::of(&text);
    let large = udp(CLIENT, SERVER).data(&payload(1_400));
    rig.put(OUTSIDE, &large);
    for piece in udp(CLIENT, SERVER).data(&payload(2_000)).id(9).pieces(1_440) {
        rig.put(OUTSIDE, &piece);
    }
    rig.settle();
    let came = rig.take();
    assert_eq!(came.len(), 5);
    assert_eq!(together(&came[..2]).1, segment(&large));
    assert_eq!(together(&came[2..]).1, segment(&udp(CLIENT, SERVER).data(&payload(2_000))));
}

/// RFC 791: a fragment that says "don't fragment" among others that do not is not cut and does not leave larger than the link,
/// whether its datagram waits for the next hop or not.
#[test]
fn a_fragment_that_may_not_be_cut_never_leaves_too_large() {
    let text = format!("{TWO_PORTS}{FRAGMENTS}").replace(NARROW.0, NARROW.1);
    let mut rig = Rig::of(&text);
    for sentence in ["its next hop has to be found", "and is known"] {
        let dropped = rig.dropped(PacketTooBig);
        for (number, piece) in udp(CLIENT, SERVER).data(&payload(3_000)).pieces(1_440).into_iter().enumerate() {
            rig.put(OUTSIDE, &if number == 1 { piece.dont_fragment() } else { piece });
        }
        rig.settle();
        let came = rig.take();
        assert!(came.iter().all(|(side, frame)| *side == INSIDE && frame.len() <= 14 + 1_280), "{sentence}");
        assert_eq!((came.len(), rig.dropped(PacketTooBig)), (3, dropped + 1), "{sentence}");
    }
}

/// A device that puts fragments together brings pings longer than its link; the answers leave in pieces that fit.
#[test]
fn a_long_ping_put_together_on_the_way_is_answered_in_pieces() {
    let wide = TWO_PORTS.replace("device = \"net_ring1\"\n", "device = \"net_ring1\"\nmtu = 9600\n");
    let mut rig = Rig::of(&format!("{wide}{FRAGMENTS}"));
    let (client, service, data) = ("198.51.100.7", "198.51.100.10", payload(4_000));
    rig.put(OUTSIDE, &icmp(client, service, 8, 0, 0x1234_0001, &data));
    rig.settle();
    let came = rig.take();
    let sizes: Vec<_> = came.iter().map(|(side, frame)| (*side, frame.len())).collect();
    assert_eq!(sizes, [(OUTSIDE, 1_514), (OUTSIDE, 1_514), (OUTSIDE, 1_082)]);
    assert_eq!(together(&came).1, segment(&icmp(service, client, 0, 0, 0x1234_0001, &data)));
}

/// Who sends larger pieces than our own link's MTU gets all of its IPv6 ping back, in the pieces it sent: the link carried them.
#[test]
fn a_long_ping_in_pieces_larger_than_our_own_is_answered_whole() {
    let mut rig = narrow();
    let (server, own, data) = ("2001:db8:10::11", "2001:db8:10::1", payload(4_000));
    for piece in icmp(server, own, 128, 0, 0x1234_0001, &data).pieces(1_440) {
        rig.put(INSIDE, &piece);
    }
    rig.settle();
    let came = rig.take();
    assert!(came.len() == 3 && came.iter().all(|(side, _)| *side == INSIDE), "{:?}", rig.drops());
    assert_eq!(together(&came).1, segment(&icmp(own, server, 129, 0, 0x1234_0001, &data)));
}

/// A packet of `size` bytes from one side to another whose link carries `room`: it passes and looks there as it is shown, or
/// its sender is told, and what may be cut is.
fn passes_or_is_told(rig: &mut Rig, [near, far]: [Side; 2], [size, room]: [u16; 2], sent: [&str; 2], shown: [&str; 2]) {
    let v6 = sent[0].starts_with('[');
    let data = payload(usize::from(size) - if v6 { 48 } else { 28 });
    let write = |[source, destination]: [&str; 2]| udp(source, destination).data(&data);
    rig.put(near, &write(sent).uncut());
    rig.settle();
    let came = rig.take();
    let [(side, frame)] = came.as_slice() else { panic!("{size} bytes: {came:?}") };
    if size <= room {
        assert_eq!((*side, frame), (far, &rig.outward(far, &write(shown).uncut().routed())), "{size} bytes");
        return;
    }
    let mtu = if v6 {
        u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])
    } else {
        u32::from(u16::from_be_bytes([frame[40], frame[41]]))
    };
    assert_eq!((*side, mtu), (near, u32::from(room)), "{size} bytes");
    if !v6 {
        rig.put(near, &write(sent));
        rig.settle();
        let came = rig.take();
        assert_eq!(came.len(), usize::from(size - 20).div_ceil(1_480), "{size} bytes, cut");
        assert_eq!(together(&came).1, segment(&write(shown)));
    }
}

/// MAL-17: packets of all sizes through the firewall, the balancer and source NAT, in both families, between links of 9,600
/// bytes and of 1,500.
#[test]
fn jumbo_packets_pass_or_their_sender_is_told() {
    for [outside, inside] in [[9_600, 9_600], [9_600, 1_500], [1_500, 9_600]] {
        let sized = |text: &str, device: &str, mtu: u16| text.replace(device, &format!("{device}mtu = {mtu}\n"));
        let text = sized(&format!("{TWO_PORTS}{FRAGMENTS}"), "device = \"net_ring0\"\n", outside);
        let text = sized(&text, "device = \"net_ring1\"\n", inside);
        let mut rig = Rig::laid_out(&text, Layout { buffers: 256, ..Layout::default() });
        // The largest frames that a link of 9,600 bytes brings, with and without Ethernet's header counted.
        for size in [1_500_u16, 1_501, 8_986, 9_000, 9_202, 9_216] {
            if outside == 9_600 {
                for (sent, shown) in [
                    ([CLIENT, SERVER], [CLIENT, SERVER]),
                    ([CLIENT, "198.51.100.10:53"], [CLIENT, "10.0.0.11:5353"]),
                    ([CLIENT6, SERVER6], [CLIENT6, SERVER6]),
                    ([CLIENT6, "[2001:db8:51::10]:53"], [CLIENT6, "[2001:db8:10::11]:5353"]),
                ] {
                    passes_or_is_told(&mut rig, [OUTSIDE, INSIDE], [size, inside], sent, shown);
                }
            }
            if inside == 9_600 {
                for (hidden, shown, asked) in [
                    ("10.0.0.11:3000", "198.51.100.1:3000", "198.51.100.7:53"),
                    ("[2001:db8:10::11]:3000", "[2001:db8:51::1]:3000", "[2001:db8:51::7]:53"),
                ] {
                    passes_or_is_told(&mut rig, [INSIDE, OUTSIDE], [size, outside], [hidden, asked], [shown, asked]);
                }
            }
        }
    }
}
