//! Destination NAT (port forwarding) as packets meet it: who reaches the server, who does not, and what changes under open
//! connections.

use millrace_tests::packet::{end, host, icmp_error, ping, tcp, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, OUTSIDE_KERNEL, Rig, TWO_PORTS, Talk};
use stage::DropReason::{ClientIsBackend, FirewallDenied, NoService};

const FORWARDS: &str = r#"
[[firewall.rule]]
name = "in"
action = "allow"
to = ["dmz"]
destination = ["198.51.100.1", "198.51.100.30", "2001:db8:51::30"]
[[firewall.rule]]
name = "out"
action = "allow"
from = ["dmz"]
to = ["wan"]
[[destination_nat]]
name = "web"
address = "198.51.100.30"
protocol = "tcp"
ports = "8000-8009"
to_address = "10.0.0.11"
to_port = 80
[[destination_nat]]
name = "web6"
address = "2001:db8:51::30"
protocol = "tcp"
ports = "8000-8009"
to_address = "2001:db8:10::11"
to_port = 80
[[destination_nat]]
name = "own"
from = ["wan"]
source = ["198.51.100.0/25"]
address = "198.51.100.1"
protocol = "udp"
ports = "53"
to_address = "10.0.0.53"
[[source_nat]]
name = "hide"
from = ["dmz"]
to = ["wan"]
address = ["198.51.100.40", "2001:db8:51::40"]
"#;

#[test]
fn clients_reach_the_server_behind_a_forward() {
    let mut rig = Rig::new(FORWARDS);
    for (client, asked, server) in [
        ("198.51.100.7:40000", "198.51.100.30:8000", "10.0.0.11:80"),
        ("198.51.100.7:40000", "198.51.100.30:8009", "10.0.0.11:89"),
        ("[2001:db8:51::7]:40000", "[2001:db8:51::30]:8005", "[2001:db8:10::11]:85"),
    ] {
        let talk = Talk::tcp((OUTSIDE, client, asked), (INSIDE, client, server));
        talk.open(&mut rig);
        talk.chat(&mut rig);
        // Errors about it: from the server's host in the name that was asked, from the client to the server.
        let ((_, sent), (_, delivered)) = talk.up(|p| p.ack(5_001).seq(1_001).data(b"more"));
        let (kind, code) = if client.contains('[') { (1, 3) } else { (3, 1) };
        let error = icmp_error(host(server), host(client), kind, code, 0, &delivered, 100);
        let heard = icmp_error(host(asked), host(client), kind, code, 0, &sent.routed(), 100).routed();
        rig.passes("from the server", ((INSIDE, error), (OUTSIDE, heard)));
        talk.close_after(&mut rig, 5);
    }
    let outside = tcp("198.51.100.7:40000", "198.51.100.30:8010").syn().seq(1);
    rig.drops_all("a port beside the range", &[(OUTSIDE, outside)], FirewallDenied);
    let totals: Vec<_> =
        rig.snapshot().destination_nat.iter().map(|(rule, total)| (rule.name.clone(), total)).collect();
    assert_eq!(totals, [("web".into(), 2), ("web6".into(), 1), ("own".into(), 0)]);
}

/// On an address of the appliance's own only the port that is forwarded leaves the kernel, and only for those it is for.
#[test]
fn a_forward_on_an_own_address_is_for_its_zones_and_sources() {
    let open = FORWARDS.replace("to = [\"dmz\"]\ndestination", "to = [\"dmz\", \"appliance\"]\ndestination");
    let mut rig = Rig::new(&open);
    let talk =
        Talk::udp((OUTSIDE, "198.51.100.7:40000", "198.51.100.1:53"), (INSIDE, "198.51.100.7:40000", "10.0.0.53:53"));
    rig.passes("a question", talk.up(|p| p));
    rig.passes("its answer", talk.down(|p| p));
    for (sentence, side, packet) in [
        ("another port", OUTSIDE, udp("198.51.100.7:40000", "198.51.100.1:54")),
        ("another source", OUTSIDE, udp("198.51.100.200:40000", "198.51.100.1:53")),
    ] {
        rig.passes(sentence, ((side, packet.clone()), (OUTSIDE_KERNEL, packet)));
    }
    let asks = (OUTSIDE, ping("198.51.100.7", "198.51.100.30", 7));
    rig.put(asks.0, &asks.1);
    rig.settle();
    assert_eq!(rig.take().len(), 1, "an address with forwards answers pings");
}

/// The firewall is asked about the address the client wrote, in the zone of the server; a revoked rule, and a forward
/// that leads elsewhere now, end what is open.
#[test]
fn rules_and_forwards_that_change_end_sessions() {
    let talk = Talk::tcp(
        (OUTSIDE, "198.51.100.7:40000", "198.51.100.30:8000"),
        (INSIDE, "198.51.100.7:40000", "10.0.0.11:80"),
    );
    let mut rig = Rig::new(FORWARDS);
    talk.open(&mut rig);
    rig.publish_more(&format!("{FORWARDS}\n# the same"));
    talk.chat(&mut rig);
    rig.publish_more(&FORWARDS.replace("\"198.51.100.30\", ", ""));
    let ((_, packet), _) = talk.up(|p| p.ack(5_001).seq(1_006).data(b"hello"));
    rig.drops_all("denied", &[(OUTSIDE, packet)], FirewallDenied);
    rig.take();
    assert_eq!(rig.session_count(), 0);

    for (changed, sentence) in [
        (FORWARDS.replace("to_address = \"10.0.0.11\"", "to_address = \"10.0.0.12\""), "another server"),
        (FORWARDS.replace("to_port = 80", "to_port = 8080"), "another port"),
        (FORWARDS.replace("name = \"web\"", "name = \"web\"\nfrom = [\"dmz\"]"), "another zone"),
        (FORWARDS.replace("ports = \"8000-8009\"", "ports = \"8001-8009\""), "no longer"),
    ] {
        let mut rig = Rig::new(FORWARDS);
        talk.open(&mut rig);
        rig.publish_more(&changed);
        let ((_, packet), _) = talk.up(|p| p.ack(5_001).seq(1_001).data(b"hello"));
        rig.put(OUTSIDE, &packet);
        rig.settle();
        // Both ends are told.
        assert_eq!(rig.take().len(), 2, "{sentence}");
        assert_eq!((rig.dropped(NoService), rig.session_count()), (1, 0), "{sentence}");
    }
}

/// RFC 4787 REQ-9 and what operators call NAT reflection: clients beside the server reach it at the outside address, and
/// the server sees the address that hides them, so that it answers through the appliance.
#[test]
fn a_client_inside_reaches_the_server_at_its_outside_address() {
    let mut rig = Rig::new(FORWARDS);
    for (client, asked, shown, server) in [
        ("10.0.0.12:40000", "198.51.100.30:8000", "198.51.100.40:40000", "10.0.0.11:80"),
        ("[2001:db8:10::12]:40000", "[2001:db8:51::30]:8000", "[2001:db8:51::40]:40000", "[2001:db8:10::11]:80"),
        // The server itself.
        ("10.0.0.11:40001", "198.51.100.30:8000", "198.51.100.40:40001", "10.0.0.11:80"),
    ] {
        let talk = Talk::tcp((INSIDE, client, asked), (INSIDE, shown, server));
        talk.open(&mut rig);
        talk.chat(&mut rig);
        talk.close_after(&mut rig, 5);
    }
    // Without source NAT the server cannot be brought to itself.
    let (bare, _) = FORWARDS.split_once("[[source_nat]]").unwrap();
    let mut rig = Rig::new(bare);
    let itself = tcp("10.0.0.11:40001", "198.51.100.30:8000").syn().seq(1);
    rig.drops_all("the server itself", &[(INSIDE, itself)], ClientIsBackend);
}

/// What a server begins itself is no forward's business: it leaves behind source NAT.
#[test]
fn a_server_goes_out_as_others_do() {
    let mut rig = Rig::new(FORWARDS);
    let talk = Talk::tcp(
        (INSIDE, "10.0.0.11:40000", "198.51.100.7:443"),
        (OUTSIDE, "198.51.100.40:40000", "198.51.100.7:443"),
    );
    talk.open(&mut rig);
    talk.chat(&mut rig);
    let from_port = tcp("10.0.0.11:80", "198.51.100.7:443").syn().seq(1);
    rig.put(INSIDE, &from_port);
    rig.settle();
    assert_eq!(rig.take().len(), 1);
}

/// Whatever worker a packet reaches, both directions of a forward meet at one, hidden clients and errors included.
#[test]
fn several_workers_agree_on_the_owner() {
    for queues in [1, 3] {
        let layout = Layout { workers: 3, queues, buffers: 4_096 };
        let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{FORWARDS}"), layout);
        for port in 40_000..40_024 {
            let client = format!("198.51.100.7:{port}");
            let asked = format!("198.51.100.30:{}", 8_000 + port % 10);
            let server = format!("10.0.0.11:{}", 80 + port % 10);
            let talk = Talk::tcp((OUTSIDE, &client, &asked), (INSIDE, &client, &server));
            talk.open(&mut rig);
            talk.chat(&mut rig);
            let client = end("10.0.0.12", port);
            rig.put(INSIDE, &tcp(&client, &asked).syn().seq(1_000));
            rig.settle();
            let out = rig.take();
            let shown = u16::from_be_bytes([out[0].1[34], out[0].1[35]]);
            let hidden = Talk::tcp((INSIDE, &client, &asked), (INSIDE, &end("198.51.100.40", shown), &server));
            rig.passes("SYN-ACK", hidden.down(|p| p.syn_ack(1_001).seq(5_000)));
            rig.passes("ACK", hidden.up(|p| p.ack(5_001).seq(1_001)));
            hidden.chat(&mut rig);
        }
        assert_eq!(rig.session_count(), 48);
    }
}
