//! The balancer as packets meet it: what the packets of each mode look like there and back. Which backend a session gets is in
//! `algorithms`, what becomes of it when that one goes in `backends`.

use millrace_tests::packet::{Packet, ping, tcp, udp};
use millrace_tests::shop::{ALLOW, CLIENT, CLIENT6, SHOP, SHOP6, backend, by_way_of, service, shop, three};
use millrace_tests::talk::OPENER;
use millrace_tests::{INSIDE, OUTSIDE, Rig, Talk};
use stage::DropReason::{NoService, NoSession};

/// SE-35, SE-43: the destination is rewritten there and restored back; checksums are right (A5).
#[test]
fn nat_rewrites_the_destination_and_back() {
    let six =
        service("2001:db8:51::10", "").replace("shop", "shop6") + &backend("six", "2001:db8:10::11", "port = 8080");
    let mut rig = Rig::new(&format!("{}{six}", shop("", &backend("a", "10.0.0.11", "port = 8080"))));
    for talk in [
        by_way_of(CLIENT, "10.0.0.11:8080"),
        Talk::tcp((OUTSIDE, CLIENT6, SHOP6), (INSIDE, CLIENT6, "[2001:db8:10::11]:8080")),
    ] {
        talk.open(&mut rig);
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
    }
    assert_eq!((rig.active("shop"), rig.active("shop6")), (vec![1], vec![1]));
    let options = [2, 4, 5, 0xb4, 1, 3, 3, 7];
    let options = |p: Packet| p.syn().seq(OPENER).tcp_options(&options);
    rig.passes("a SYN with options", by_way_of("198.51.100.8:9", "10.0.0.11:8080").up(options));
}

/// The backend sees an address of the appliance; its answers find back through it.
#[test]
fn full_nat_hides_the_client() {
    let six = service("2001:db8:51::10", "mode = \"full-nat\"\nsource_address = [\"2001:db8:10::1\"]");
    let six = six.replace("shop", "shop6") + &backend("six", "2001:db8:10::11", "port = 8080");
    let four = shop("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", &backend("a", "10.0.0.11", "port = 8080"));
    let mut rig = Rig::new(&format!("{four}{six}"));
    for talk in [
        Talk::tcp((OUTSIDE, CLIENT, SHOP), (INSIDE, "10.0.0.1:40000", "10.0.0.11:8080")),
        Talk::tcp((OUTSIDE, CLIENT6, SHOP6), (INSIDE, "[2001:db8:10::1]:40000", "[2001:db8:10::11]:8080")),
        // A client beside the backend: without hiding it the answer would go there directly.
        Talk::tcp((INSIDE, "10.0.0.99:41000", SHOP), (INSIDE, "10.0.0.1:41000", "10.0.0.11:8080")),
    ] {
        talk.open(&mut rig);
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
    }
}

/// Only the MACs change; the answers do not come by here.
#[test]
fn direct_changes_the_macs_only() {
    let six = service("2001:db8:51::10", "mode = \"direct\"").replace("shop", "shop6");
    let six = six + &backend("six", "2001:db8:10::11", "");
    let mut rig = Rig::new(&format!("{}{six}", shop("mode = \"direct\"", &backend("a", "10.0.0.11", ""))));
    for (client, asked, server) in [(CLIENT, SHOP, "10.0.0.11"), (CLIENT6, SHOP6, "2001:db8:10::11")] {
        let there = |packet: Packet| ((OUTSIDE, packet.clone()), (INSIDE, packet.routed().via(server)));
        let up = tcp(client, asked);
        rig.passes("SYN", there(up.clone().syn().seq(1)));
        rig.passes("the ACK of an answer that went another way", there(up.clone().ack(77).seq(2)));
        rig.passes("data, far on", there(up.clone().ack(1_000_000).seq(500_000).data(b"much later")));
        rig.passes("FIN", there(up.fin(1_000_000).seq(500_010)));
    }
}

/// A range of ports: a backend without a port of its own is asked on the port the client asked for.
#[test]
fn a_service_of_many_ports_keeps_the_port_that_was_asked_for() {
    let keys = service("198.51.100.10", "").replace("[\"80\"]", "[\"80\", \"8000-8100\"]");
    let mut rig = Rig::new(&format!("{ALLOW}{keys}{}", backend("a", "10.0.0.11", "")));
    for port in [80, 8000, 8042, 8100] {
        let (asked, server) = (format!("198.51.100.10:{port}"), format!("10.0.0.11:{port}"));
        Talk::tcp((OUTSIDE, CLIENT, &asked), (INSIDE, CLIENT, &server)).open(&mut rig);
    }
    for port in [79, 81, 7999, 8101] {
        let asked = format!("198.51.100.10:{port}");
        rig.drops_all("a port of no service", &[(OUTSIDE, tcp(CLIENT, &asked).syn())], NoService);
    }
    rig.drops_all("another protocol on its port", &[(OUTSIDE, udp(CLIENT, SHOP))], NoService);
}

#[test]
fn datagrams_are_balanced_as_connections_are() {
    let keys = service("198.51.100.53", "algorithm = \"round-robin\"").replace("tcp", "udp").replace("80", "53");
    let backends = backend("a", "10.0.0.53", "port = 53") + &backend("b", "10.0.0.54", "port = 5353");
    let mut rig = Rig::new(&format!("{ALLOW}{keys}{backends}"));
    let asked = "198.51.100.53:53";
    for (client, server) in [(CLIENT, "10.0.0.53:53"), ("198.51.100.8:1", "10.0.0.54:5353")] {
        let talk = Talk::udp((OUTSIDE, client, asked), (INSIDE, client, server));
        for _ in 0..2 {
            rig.passes("a question", talk.up(|p| p));
            rig.passes("its answer", talk.down(|p| p.data(b"an answer")));
            rig.passes("one without checksum stays without", talk.up(Packet::no_checksum));
        }
    }
    assert_eq!(rig.active("shop"), [1, 1]);
}

/// A backend that speaks by itself, from the port it serves on, is an ordinary packet: no session, no rewriting.
#[test]
fn what_a_backend_says_unasked_belongs_to_no_session() {
    let mut rig = Rig::new(&shop("", &three("")));
    rig.drops_all("an unasked SYN-ACK", &[(INSIDE, tcp("10.0.0.11:8080", CLIENT).syn_ack(5).seq(1))], NoSession);
    let own =
        Talk::tcp((INSIDE, "10.0.0.11:33000", "198.51.100.7:443"), (OUTSIDE, "10.0.0.11:33000", "198.51.100.7:443"));
    own.open(&mut rig);
    own.chat(&mut rig);
}

/// A connection again with the same ports, after the first was reset: it may get another backend (EVA-17's end).
#[test]
fn a_new_connection_on_old_ports_is_balanced_anew() {
    let mut rig = Rig::new(&shop("algorithm = \"round-robin\"", &three("")));
    let talk = by_way_of(CLIENT, "10.0.0.11:8080");
    talk.open(&mut rig);
    rig.passes("RST", talk.up(|p| p.rst().seq(OPENER + 1)));
    let again = by_way_of(CLIENT, "10.0.0.12:8080");
    again.open(&mut rig);
    again.chat(&mut rig);
    assert_eq!(rig.session_count(), 1);
}

/// Echo to a virtual address is the appliance's to answer, and asks no backend.
#[test]
fn a_ping_of_the_virtual_address_asks_no_backend() {
    let mut rig = Rig::new(&shop("", &three("")));
    let asks = ping("198.51.100.7", "198.51.100.10", 7);
    let answer = millrace_tests::packet::pong("198.51.100.10", "198.51.100.7", 7);
    rig.case("echo", &[(OUTSIDE, asks)], &[(OUTSIDE, answer)], &[]);
    assert_eq!(rig.active("shop"), [0, 0, 0]);
}

/// A server that asks the service it serves, and is chosen itself: a packet from itself to itself must not leave; hidden
/// behind a pool address it works.
#[test]
fn a_backend_that_asks_its_own_service_is_not_sent_its_own_packet() {
    let one = backend("a", "10.0.0.11", "port = 8080");
    let mut rig = Rig::new(&shop("", &one));
    rig.put(INSIDE, &tcp("10.0.0.11:40000", SHOP).syn().seq(OPENER));
    rig.settle();
    assert!(rig.take().is_empty(), "source and destination are the same");
    assert_eq!(rig.drops().values().sum::<u64>(), 1, "counted once: {:?}", rig.drops());
    assert_eq!((rig.session_count(), rig.active("shop")), (0, vec![0]));
    let mut rig = Rig::new(&shop("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", &one));
    let talk = Talk::tcp((INSIDE, "10.0.0.11:40000", SHOP), (INSIDE, "10.0.0.1:40000", "10.0.0.11:8080"));
    talk.open(&mut rig);
    talk.chat(&mut rig);
}

/// A question of one shot leaves nothing behind once its answer has passed: as many answers as questions, however they mix.
#[test]
fn a_one_shot_session_ends_with_its_last_answer() {
    let keys = |more: &str| service("198.51.100.53", more).replace("tcp", "udp").replace("80", "53");
    let one = backend("a", "10.0.0.53", "port = 5353");
    for (mode, shown) in
        [("mode = \"nat\"", CLIENT), ("mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", "10.0.0.1:40000")]
    {
        let mut rig = Rig::new(&format!("{ALLOW}{}{one}", keys(&format!("one_shot = true\n{mode}"))));
        let talk = Talk::udp((OUTSIDE, CLIENT, "198.51.100.53:53"), (INSIDE, shown, "10.0.0.53:5353"));
        for _ in 0..3 {
            rig.passes("a question", talk.up(|p| p));
            assert_eq!((rig.session_count(), rig.active("shop")), (1, vec![1]));
            rig.passes("its answer", talk.down(|p| p.data(b"an answer")));
            assert_eq!((rig.session_count(), rig.active("shop")), (0, vec![0]));
        }
        rig.passes("for the IPv4 address", talk.up(|p| p.data(b"A?")));
        rig.passes("and for the IPv6 one", talk.up(|p| p.data(b"AAAA?")));
        rig.passes("one answer", talk.down(|p| p.data(b"A")));
        assert_eq!(rig.session_count(), 1);
        rig.passes("and the other", talk.down(|p| p.data(b"AAAA")));
        assert_eq!((rig.session_count(), rig.active("shop")), (0, vec![0]));
        rig.passes("one that is lost", talk.up(|p| p));
        rig.wait(31);
        assert_eq!(rig.session_count(), 0, "ends with the time for unanswered ones");
    }
}
