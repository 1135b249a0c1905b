//! Where packets say they come from: blocklists, the reverse path, addresses nobody has.

use std::path::PathBuf;

use millrace_tests::packet::{Packet, end, ping, tcp, udp};
use millrace_tests::{INSIDE, OUTSIDE, Rig, Talk};
use stage::DropReason::{Blocklisted, BogonSource, ReversePathFailed};

const ALLOW: &str = "[firewall]\ndefault = \"allow\"\n";

/// A blocklist in a file of its own, removed with it.
struct List(PathBuf);

impl List {
    fn new(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-{}-{test}.txt", std::process::id()));
        std::fs::write(&path, text).expect("the temporary directory takes a file");
        Self(path)
    }

    fn policy(&self, more: &str) -> String {
        format!("{ALLOW}[[blocklist]]\nname = \"bad\"\nfile = \"{}\"\n{more}\n", self.0.display())
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn hits(rig: &Rig) -> u64 {
    rig.snapshot().sources.blocklists().by_name("bad").expect("the list").hits()
}

/// Before anything else: services, the appliance itself, what is forwarded, what opens nothing; in both families.
#[test]
fn a_blocked_source_opens_nothing() {
    let list = List::new("opens", "203.0.113.0/24\n2001:db8:99::/48 # all of it\n198.51.100.66\n");
    let mut rig = Rig::new(&list.policy(""));
    let packets = [
        (OUTSIDE, tcp("203.0.113.9:1", "10.0.0.11:80").syn()),
        (OUTSIDE, tcp("203.0.113.9:1", "10.0.0.11:80").ack(5).seq(5)),
        (OUTSIDE, udp("[2001:db8:99::9]:1", "[2001:db8:10::11]:53")),
        (OUTSIDE, ping("198.51.100.66", "198.51.100.1", 1)),
        (OUTSIDE, udp("198.51.100.66:1", "198.51.100.1:53")),
    ];
    rig.drops_all("blocked", &packets, Blocklisted);
    assert_eq!((hits(&rig), rig.session_count()), (5, 0));
    let other = Talk::udp((OUTSIDE, "198.51.100.67:1", "10.0.0.11:53"), (INSIDE, "198.51.100.67:1", "10.0.0.11:53"));
    rig.passes("its neighbor", other.up(|p| p));
}

/// A list of one zone does not concern the others.
#[test]
fn a_list_may_concern_one_zone() {
    let list = List::new("zone", "203.0.113.0/24\n10.0.0.66\n");
    let mut rig = Rig::new(&list.policy("from = [\"wan\"]"));
    rig.drops_all("outside", &[(OUTSIDE, udp("203.0.113.9:1", "10.0.0.11:53"))], Blocklisted);
    let inside = Talk::udp((INSIDE, "10.0.0.66:1", "198.51.100.7:53"), (OUTSIDE, "10.0.0.66:1", "198.51.100.7:53"));
    rig.passes("inside", inside.up(|p| p));
}

/// The answers of a blocked host to those who asked it belong to sessions: a list stops who opens.
#[test]
fn a_blocked_host_still_answers_who_asks_it() {
    let list = List::new("answers", "203.0.113.0/24\n");
    let mut rig = Rig::new(&list.policy(""));
    let talk = Talk::udp((INSIDE, "10.0.0.11:1", "203.0.113.9:53"), (OUTSIDE, "10.0.0.11:1", "203.0.113.9:53"));
    let (asked, passed) = talk.up(|p| p);
    rig.passes("asks", (asked, (passed.0, passed.1.via("198.51.100.254"))));
    let (answered, passed) = talk.down(|p| p);
    rig.passes("is answered", ((answered.0, answered.1.via("198.51.100.254")), passed));
}

/// Across IP versions too: what a server says to a client of NAT64 is asked for, whoever it is.
#[test]
fn who_is_asked_through_nat64_answers() {
    let list = List::new("across", "198.51.100.7\n");
    let nat64 = "[[nat64]]\nname = \"out\"\nprefix = \"64:ff9b:1::/96\"\nfrom = [\"dmz\"]\naddress = [\"198.51.100.64\"]\n\
                 ports = \"10000-49999\"\nfiltering = \"endpoint-independent\"\n\
                 [[zone]]\nname = \"wan\"\nbogons = true\nreverse_path = \"strict\"\n\
                 [[route]]\nto = \"192.168.0.0/16\"\nvia = \"198.51.100.254\"\n";
    let mut rig = Rig::new(&list.policy(nat64));
    for (server, via, reason) in
        [("198.51.100.7", "198.51.100.7", Blocklisted), ("192.168.9.9", "198.51.100.254", BogonSource)]
    {
        let server6 = format!("64:ff9b:1::{server}");
        let ask = |write: fn(&str, &str) -> Packet| write(&end("2001:db8:10::11", 20_000), &end(&server6, 53));
        let answer = |write: fn(&str, &str) -> Packet| write(&end(server, 53), "198.51.100.64:20000").via(via);
        let other = |write: fn(&str, &str) -> Packet| write(&end(server, 54), "198.51.100.64:20000").via(via);
        for packet in [ask(udp), ask(tcp).syn().seq(1)] {
            rig.put(INSIDE, &packet);
            rig.settle();
            assert_eq!(rig.take().len(), 1, "{:?}", rig.drops());
        }
        for packet in [answer(udp), answer(tcp).syn_ack(2).seq(1)] {
            rig.put(OUTSIDE, &packet);
            rig.settle();
            let out = rig.take();
            assert!(out.len() == 1 && out[0].0 == INSIDE, "{server}: {:?}", rig.drops());
        }
        let opens = [(OUTSIDE, other(udp)), (OUTSIDE, other(tcp).syn().seq(1))];
        rig.drops_all("opens nothing itself", &opens, reason);
    }
    assert_eq!(hits(&rig), 2);
}

/// A list read again ends the sessions of whoever is on it now, with their next packet, and nothing else.
#[test]
fn a_list_that_has_grown_ends_what_was_established() {
    let list = List::new("grows", "# nobody yet\n");
    let mut rig = Rig::new(&list.policy(""));
    let talks = ["198.51.100.7", "198.51.100.8"].map(|client| {
        let client = format!("{client}:40000");
        Talk::tcp((OUTSIDE, &client, "10.0.0.11:80"), (INSIDE, &client, "10.0.0.11:80"))
    });
    talks.iter().for_each(|talk| talk.open(&mut rig));
    std::fs::write(&list.0, "198.51.100.7\n").unwrap();
    rig.publish_more(&list.policy(""));
    let [blocked, other] = &talks;
    other.chat(&mut rig);
    let (data, _) = blocked.up(|p| p.ack(5_001).seq(1_001).data(b"hello"));
    let reset = blocked.told_answerer(|p| p.rst_ack(5_001).seq(1_001));
    rig.case("blocked now: its server is told", std::slice::from_ref(&data), &[reset], &[Blocklisted]);
    assert_eq!((rig.session_count(), hits(&rig)), (1, 1));
    rig.drops_all("and again", &[data], Blocklisted);
    other.chat(&mut rig);
}

/// The server's next packet ends it as well; a conversation without connections ends in silence.
#[test]
fn what_a_server_says_to_a_listed_client_ends_it_too() {
    let list = List::new("server", "# nobody yet\n");
    let mut rig = Rig::new(&list.policy(""));
    let both = [("198.51.100.7:40000", "10.0.0.11:53"), ("[2001:db8:51::7]:40000", "[2001:db8:10::11]:53")];
    let talks = both.map(|(client, server)| Talk::udp((OUTSIDE, client, server), (INSIDE, client, server)));
    talks.iter().for_each(|talk| rig.passes("asks", talk.up(|p| p)));
    std::fs::write(&list.0, "198.51.100.7\n2001:db8:51::/64\n").unwrap();
    rig.publish_more(&list.policy(""));
    let answers = talks.map(|talk| talk.down(|p| p).0);
    rig.drops_all("the answers", &answers, Blocklisted);
    assert_eq!(rig.session_count(), 0);
}

/// Fragments of whoever may open nothing do not wait for the rest of their datagram.
#[test]
fn fragments_of_refused_sources_are_not_waited_for() {
    let list = List::new("fragments", "203.0.113.0/24\n2001:db8:99::/48\n");
    let mut rig = Rig::new(&list.policy("[[zone]]\nname = \"wan\"\nreverse_path = \"strict\""));
    let pieces = |source: &str, server: &str| -> Vec<_> {
        udp(source, server).data(&[7; 1_000]).pieces(504).into_iter().map(|piece| (OUTSIDE, piece)).collect()
    };
    rig.drops_all("listed", &pieces("203.0.113.9:1", "10.0.0.11:53"), Blocklisted);
    rig.drops_all("listed", &pieces("[2001:db8:99::9]:1", "[2001:db8:10::11]:53"), Blocklisted);
    rig.drops_all("spoofed", &pieces("10.0.0.12:1", "10.0.0.11:53"), ReversePathFailed);
    rig.drops_all("spoofed", &pieces("[2001:db8:10::12]:1", "[2001:db8:10::11]:53"), ReversePathFailed);
    assert_eq!(rig.buffers_in_use(), 0);
}

/// A policy that trusts a zone's reverse paths less does not end what is established: its windows hold it.
#[test]
fn reverse_paths_are_asked_of_first_packets_only() {
    let mut rig = Rig::new(ALLOW);
    let odd = Talk::udp((OUTSIDE, "10.0.0.12:1", "10.0.0.11:53"), (INSIDE, "10.0.0.12:1", "10.0.0.11:53"));
    rig.passes("before", odd.up(|p| p));
    rig.publish_more(&format!("{ALLOW}[[zone]]\nname = \"wan\"\nreverse_path = \"strict\"\n"));
    rig.passes("after", odd.up(|p| p));
    let new = (OUTSIDE, udp("10.0.0.12:2", "10.0.0.11:53"));
    rig.drops_all("a new one", &[new], ReversePathFailed);
}

/// The reverse path, strict outside and loose inside (RFC 3704).
#[test]
fn sources_come_the_way_that_leads_back_to_them() {
    let zones =
        "[[zone]]\nname = \"wan\"\nreverse_path = \"strict\"\n[[zone]]\nname = \"dmz\"\nreverse_path = \"loose\"\n";
    let mut rig = Rig::new(&format!("{ALLOW}{zones}"));
    let spoofed = [
        (OUTSIDE, udp("10.0.0.12:1", "10.0.0.11:53")),
        (OUTSIDE, udp("[2001:db8:10::12]:1", "[2001:db8:10::11]:53")),
        (OUTSIDE, udp("192.0.2.1:1", "10.0.0.11:53")),
        (OUTSIDE, tcp("10.0.0.12:1", "10.0.0.11:80").syn()),
        (OUTSIDE, ping("10.0.0.12", "198.51.100.1", 1)),
        (INSIDE, udp("192.0.2.1:1", "198.51.100.7:53")),
    ];
    rig.drops_all("spoofed", &spoofed, ReversePathFailed);
    let routed = Talk::udp((OUTSIDE, "203.0.113.9:1", "10.0.0.11:53"), (INSIDE, "203.0.113.9:1", "10.0.0.11:53"));
    rig.passes("by way of a router", routed.up(|p| p));
    let six = Talk::udp(
        (OUTSIDE, "[2001:db8:99::9]:1", "[2001:db8:10::11]:53"),
        (INSIDE, "[2001:db8:99::9]:1", "[2001:db8:10::11]:53"),
    );
    rig.passes("by way of a router", six.up(|p| p));
    let loose = Talk::udp((INSIDE, "203.0.113.9:1", "198.51.100.7:53"), (OUTSIDE, "203.0.113.9:1", "198.51.100.7:53"));
    rig.passes("loose: there is some way back", loose.up(|p| p));
}

/// Without the table nothing is asked, as before.
#[test]
fn a_zone_without_a_table_expects_nothing() {
    let mut rig = Rig::new(ALLOW);
    let odd = Talk::udp((OUTSIDE, "10.0.0.12:1", "10.0.0.11:53"), (INSIDE, "10.0.0.12:1", "10.0.0.11:53"));
    rig.passes("from inside, says it", odd.up(|p| p));
}

/// Addresses of nobody on the Internet, but those of the link itself.
#[test]
fn bogons_are_refused_where_the_zone_says_so() {
    let mut rig = Rig::new(&format!("{ALLOW}[[zone]]\nname = \"wan\"\nbogons = true\n"));
    let bogons = ["10.9.9.9:1", "192.168.0.1:1", "100.64.0.1:1", "203.0.113.9:1"];
    let mut packets: Vec<_> = bogons.map(|source| (OUTSIDE, udp(source, "10.0.0.11:53"))).to_vec();
    packets.push((OUTSIDE, udp("[2001:db8:99::9]:1", "[2001:db8:10::11]:53")));
    packets.push((OUTSIDE, udp("[fd00::9]:1", "[2001:db8:10::11]:53")));
    rig.drops_all("bogons", &packets, BogonSource);
    let near = Talk::udp((OUTSIDE, "198.51.100.7:1", "10.0.0.11:53"), (INSIDE, "198.51.100.7:1", "10.0.0.11:53"));
    rig.passes("a station of the link", near.up(|p| p));
    let real = Talk::udp((OUTSIDE, "8.8.8.8:1", "10.0.0.11:53"), (INSIDE, "8.8.8.8:1", "10.0.0.11:53"));
    rig.passes("somebody on the Internet", real.up(|p| p));
}
