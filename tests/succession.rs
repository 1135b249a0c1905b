//! Sessions that outlive the process that opened them (RLD-11): every kind goes on in the next one as it was, rewritten alike, counted
//! on, ended by the same timeout; what the new policy has no place for does not, and nobody else's packets come to it.

use millrace_tests::packet::{Packet, end, ping, pong, tcp, udp};
use millrace_tests::shop::{ALLOW, backend, service};
use millrace_tests::talk::{ANSWERER, OPENER};
use millrace_tests::{INSIDE, INSIDE_KERNEL, Layout, OUTSIDE, Rig, TWO_PORTS, Talk};
use stage::DropReason::{FirewallDenied, NoService, NoSession, SourceAddressGone, TcpOutOfWindow};
use units::Nanos;

/// A moment.
const SOON: Nanos = Nanos::from_millis(400);

fn text(more: &str) -> String {
    format!("{TWO_PORTS}{more}")
}

/// Source NAT, with and without mappings, forwards and services of every mode but tunnels, in both families.
fn everything() -> String {
    let named = |name: &str, address: &str, mode: &str, backends: &str| {
        service(address, mode).replace("shop", name).replace("icmp", "none") + backends
    };
    let four = |port: &str| backend("a", "10.0.0.11", port);
    let six = |port: &str| backend("a", "2001:db8:10::11", port);
    [
        ALLOW,
        "[[source_nat]]\nname = \"kept\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\nsource = [\"10.0.0.64/26\", \"2001:db8:10::40/122\"]\n\
         address = [\"198.51.100.21\", \"2001:db8:51::21\"]\nmapping = \"endpoint-independent\"\n\
         filtering = \"address-dependent\"\nports_per_source = 4\n",
        "[[source_nat]]\nname = \"out\"\nfrom = [\"dmz\"]\nto = [\"wan\"]\naddress = [\"198.51.100.20\", \"2001:db8:51::20\"]\n",
        "[[destination_nat]]\nname = \"web\"\naddress = \"198.51.100.30\"\nprotocol = \"tcp\"\nports = \"8000-8009\"\n\
         to_address = \"10.0.0.13\"\nto_port = 80\n",
        "[[destination_nat]]\nname = \"web6\"\naddress = \"2001:db8:51::30\"\nprotocol = \"tcp\"\nports = \"8000-8009\"\n\
         to_address = \"2001:db8:10::13\"\nto_port = 80\n",
        &named("nat", "198.51.100.10", "", &four("port = 8080")),
        &named("nat6", "2001:db8:51::10", "", &six("port = 8080")),
        &named("full", "198.51.100.11", "mode = \"full-nat\"\nsource_address = [\"10.0.0.1\"]", &four("port = 8080")),
        &named("full6", "2001:db8:51::11", "mode = \"full-nat\"\nsource_address = [\"2001:db8:10::1\"]", &six("port = 8080")),
    ]
    .concat()
}

/// A connection of every kind in [`everything`].
fn talks() -> Vec<Talk> {
    let talk = |near: (millrace_tests::Side, &str, &str), far| Talk::tcp(near, far);
    vec![
        talk((OUTSIDE, "198.51.100.7:40000", "10.0.0.12:22"), (INSIDE, "198.51.100.7:40000", "10.0.0.12:22")),
        talk(
            (OUTSIDE, "[2001:db8:51::7]:40000", "[2001:db8:10::12]:22"),
            (INSIDE, "[2001:db8:51::7]:40000", "[2001:db8:10::12]:22"),
        ),
        talk((OUTSIDE, "198.51.100.7:40001", "198.51.100.10:80"), (INSIDE, "198.51.100.7:40001", "10.0.0.11:8080")),
        talk(
            (OUTSIDE, "[2001:db8:51::7]:40001", "[2001:db8:51::10]:80"),
            (INSIDE, "[2001:db8:51::7]:40001", "[2001:db8:10::11]:8080"),
        ),
        talk((OUTSIDE, "198.51.100.7:40002", "198.51.100.11:80"), (INSIDE, "10.0.0.1:40002", "10.0.0.11:8080")),
        talk(
            (OUTSIDE, "[2001:db8:51::7]:40002", "[2001:db8:51::11]:80"),
            (INSIDE, "[2001:db8:10::1]:40002", "[2001:db8:10::11]:8080"),
        ),
        talk((OUTSIDE, "198.51.100.7:40003", "198.51.100.30:8003"), (INSIDE, "198.51.100.7:40003", "10.0.0.13:83")),
        talk(
            (OUTSIDE, "[2001:db8:51::7]:40003", "[2001:db8:51::30]:8003"),
            (INSIDE, "[2001:db8:51::7]:40003", "[2001:db8:10::13]:83"),
        ),
        talk((INSIDE, "10.0.0.12:33000", "198.51.100.7:443"), (OUTSIDE, "198.51.100.20:33000", "198.51.100.7:443")),
        talk(
            (INSIDE, "[2001:db8:10::12]:33000", "[2001:db8:51::7]:443"),
            (OUTSIDE, "[2001:db8:51::20]:33000", "[2001:db8:51::7]:443"),
        ),
        talk((INSIDE, "10.0.0.70:33000", "198.51.100.7:443"), (OUTSIDE, "198.51.100.21:33000", "198.51.100.7:443")),
        talk(
            (INSIDE, "[2001:db8:10::46]:33000", "[2001:db8:51::7]:443"),
            (OUTSIDE, "[2001:db8:51::21]:33000", "[2001:db8:51::7]:443"),
        ),
    ]
}

/// Datagrams, with an answer each.
fn datagrams() -> Vec<Talk> {
    vec![
        Talk::udp((OUTSIDE, "198.51.100.7:5000", "10.0.0.12:53"), (INSIDE, "198.51.100.7:5000", "10.0.0.12:53")),
        Talk::udp((INSIDE, "10.0.0.12:5000", "198.51.100.8:53"), (OUTSIDE, "198.51.100.20:5000", "198.51.100.8:53")),
        Talk::udp((INSIDE, "10.0.0.70:5000", "198.51.100.8:53"), (OUTSIDE, "198.51.100.21:5000", "198.51.100.8:53")),
        Talk::udp(
            (INSIDE, "[2001:db8:10::12]:5000", "[2001:db8:51::8]:53"),
            (OUTSIDE, "[2001:db8:51::20]:5000", "[2001:db8:51::8]:53"),
        ),
    ]
}

/// The middle of a datagram conversation: an answer, and a question more.
fn converse(rig: &mut Rig, talk: &Talk) {
    rig.passes("an answer", talk.down(|p| p.data(b"answer")));
    rig.passes("a question", talk.up(|p| p.data(b"question")));
}

fn open_all(rig: &mut Rig) {
    talks().iter().for_each(|talk| talk.open(rig));
    for talk in datagrams() {
        rig.passes("the first", talk.up(|p| p.data(b"question")));
        converse(rig, &talk);
    }
}

/// Packets and bytes of all sessions, in no order.
fn counted(rig: &mut Rig) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = rig.sessions().iter().map(|session| (session.packets, session.bytes)).collect();
    all.sort_unstable();
    all
}

/// RLD-11: every kind, both families, in the middle; what they have counted, and what their pools and backends have.
#[test]
fn every_kind_of_session_goes_on_as_it_was() {
    let policy = text(&everything());
    let mut before = Rig::of(&policy);
    open_all(&mut before);
    talks().iter().for_each(|talk| talk.chat(&mut before));
    let pools = |rig: &Rig| {
        let uses = rig.snapshot().pool_uses.iter();
        uses.map(|pool| (pool.name().to_owned(), pool.sessions(), pool.mappings())).collect::<Vec<_>>()
    };
    let (count, sums, used) = (before.session_count(), counted(&mut before), pools(&before));
    let (mut rig, refused) = before.succeeded_by(&policy, Layout::default(), SOON);
    assert_eq!((rig.session_count(), refused.len()), (count, 0), "{refused:?}");
    assert_eq!((counted(&mut rig), pools(&rig)), (sums, used));
    let backends = ["nat", "nat6", "full", "full6"].map(|service| rig.active(service));
    assert_eq!(backends.concat(), [1; 4]);
    for talk in talks() {
        // The answer first: nobody has to begin anew.
        rig.passes("an answer", talk.down(|p| p.ack(OPENER + 6).seq(ANSWERER + 6).data(b"again")));
        rig.passes("the opener", talk.up(|p| p.ack(ANSWERER + 11).seq(OPENER + 6).data(b"again")));
        let beyond = talk.up(|p| p.ack(ANSWERER + 11).seq(OPENER + 2_000_000).data(b"guess")).0;
        rig.drops_all("windows are those of before", &[beyond], TcpOutOfWindow);
        talk.close_after(&mut rig, 10);
    }
    datagrams().iter().for_each(|talk| converse(&mut rig, talk));
    assert_eq!(rig.session_count(), count);
    rig.leap(Nanos::from_secs(11));
    assert_eq!(rig.session_count(), datagrams().len(), "connections that were closed are over");
}

/// Twice in a row, and handshakes in their middle.
#[test]
fn handshakes_are_finished_in_the_next_process() {
    let policy = text(&everything());
    let mut rig = Rig::of(&policy);
    let talks = talks();
    talks.iter().for_each(|talk| talk.syn(&mut rig));
    let (mut rig, refused) = rig.succeeded_by(&policy, Layout::default(), SOON);
    assert!(refused.is_empty(), "{refused:?}");
    for talk in &talks {
        rig.passes("SYN-ACK", talk.down(|p| p.syn_ack(OPENER + 1).seq(ANSWERER)));
    }
    let (mut rig, refused) = rig.succeeded_by(&policy, Layout::default(), SOON);
    assert!(refused.is_empty(), "{refused:?}");
    for talk in &talks {
        rig.passes("ACK", talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)));
        talk.chat(&mut rig);
    }
}

/// Echo and a protocol without ports, direct return, and what the kernel speaks of itself.
#[test]
fn what_has_no_ports_or_no_answers_goes_on_too() {
    let direct = |name: &str, address: &str, at: &str| {
        service(address, "mode = \"direct\"").replace("shop", name).replace("icmp", "none") + &backend("a", at, "")
    };
    let policy = text(
        &[ALLOW, &direct("four", "198.51.100.10", "10.0.0.11"), &direct("six", "2001:db8:51::10", "2001:db8:10::11")]
            .concat(),
    );
    let mut rig = Rig::of(&policy);
    let there = |packet: Packet, server: &str| ((OUTSIDE, packet.clone()), (INSIDE, packet.routed().via(server)));
    let directs = [
        ("198.51.100.7:40000", "198.51.100.10:80", "10.0.0.11"),
        ("[2001:db8:51::7]:40000", "[2001:db8:51::10]:80", "2001:db8:10::11"),
    ];
    for (client, asked, server) in directs {
        rig.passes("SYN", there(tcp(client, asked).syn().seq(1), server));
        rig.passes("ACK", there(tcp(client, asked).ack(77).seq(2), server));
    }
    let pings = [("198.51.100.7", "10.0.0.12"), ("2001:db8:51::7", "2001:db8:10::12")];
    for (client, server) in pings {
        rig.passes("ping", ((OUTSIDE, ping(client, server, 7)), (INSIDE, ping(client, server, 7).routed())));
    }
    let kernels = [("10.0.0.1:44000", "10.0.0.12:179"), ("[2001:db8:10::1]:44000", "[2001:db8:10::12]:179")];
    for (own, peer) in kernels {
        let syn = tcp(own, peer).syn().seq(OPENER);
        rig.passes("the kernel asks", ((INSIDE_KERNEL, syn.clone()), (INSIDE, syn)));
        let answer = tcp(peer, own).syn_ack(OPENER + 1).seq(ANSWERER);
        rig.passes("it is answered", ((INSIDE, answer.clone()), (INSIDE_KERNEL, answer)));
        let asked = tcp(&peer.replace("179", "50000"), &own.replace("44000", "22")).syn().seq(OPENER);
        rig.passes("the kernel is asked", ((INSIDE, asked.clone()), (INSIDE_KERNEL, asked)));
    }
    let count = rig.session_count();
    let (mut rig, refused) = rig.succeeded_by(&policy, Layout::default(), SOON);
    assert_eq!((refused.len(), rig.session_count()), (0, count - 2), "{refused:?}");
    assert!(
        rig.sessions().iter().all(|session| !session.from_kernel),
        "what the kernel began ends with its interfaces"
    );
    for (own, peer) in kernels {
        let (asker, server) = (peer.replace("179", "50000"), own.replace("44000", "22"));
        let answer = tcp(&server, &asker).syn_ack(OPENER + 1).seq(ANSWERER);
        rig.passes("the kernel answers", ((INSIDE_KERNEL, answer.clone()), (INSIDE, answer)));
        let goes_on = tcp(&asker, &server).ack(ANSWERER + 1).seq(OPENER + 1).data(b"open");
        rig.passes("who asked it goes on", ((INSIDE, goes_on.clone()), (INSIDE_KERNEL, goes_on)));
    }
    for (client, asked, server) in directs {
        rig.passes("data", there(tcp(client, asked).ack(1_000_000).seq(500_000).data(b"on"), server));
    }
    for (client, server) in pings {
        rig.passes("pong", ((INSIDE, pong(server, client, 7)), (OUTSIDE, pong(server, client, 7).routed())));
    }
    assert_eq!((rig.active("four"), rig.active("six")), (vec![1], vec![1]));
}

/// The time between counts: what would have been over by then is, the rest ends when it would have.
#[test]
fn timeouts_go_on_between_the_processes() {
    let policy = text(ALLOW);
    let mut rig = Rig::of(&policy);
    let udp = Talk::udp((OUTSIDE, "198.51.100.7:5000", "10.0.0.12:53"), (INSIDE, "198.51.100.7:5000", "10.0.0.12:53"));
    let tcp =
        Talk::tcp((OUTSIDE, "198.51.100.7:40000", "10.0.0.12:22"), (INSIDE, "198.51.100.7:40000", "10.0.0.12:22"));
    tcp.open(&mut rig);
    rig.leap(Nanos::from_secs(7_000));
    rig.passes("a question", udp.up(|p| p));
    rig.passes("an answer", udp.down(|p| p));
    rig.leap(Nanos::from_secs(50));
    let (images, left_out) = rig.images();
    assert_eq!((images.len(), left_out), (2, 0));
    let (rig, refused) = Rig::heir(&policy, Layout::default(), &images, Nanos::from_secs(75));
    assert_eq!((rig.session_count(), refused), (1, [("expired", 1)].into()), "UDP is over after 120 s");
    let (mut rig, refused) = Rig::heir(&policy, Layout::default(), &images, Nanos::from_secs(60));
    assert_eq!((rig.session_count(), refused.len()), (2, 0));
    rig.leap(Nanos::from_secs(9));
    assert_eq!(rig.session_count(), 2);
    rig.leap(Nanos::from_secs(3));
    assert_eq!(rig.session_count(), 1);
    // 2 h 4 min are 7,440 s; 7,050 + 60 + 12 were before.
    rig.leap(Nanos::from_secs(315));
    assert_eq!(rig.session_count(), 1);
    rig.leap(Nanos::from_secs(5));
    assert_eq!(rig.session_count(), 0);
    let (rig, refused) = Rig::heir(&policy, Layout::default(), &images, Nanos::from_secs(1 << 40));
    assert_eq!((rig.session_count(), refused), (0, [("expired", 2)].into()));
}

/// A backend, a pool, a forward and a rule that the next policy does not have.
#[test]
fn what_the_next_policy_has_no_place_for_does_not_go_on() {
    let mut rig = Rig::of(&text(&everything()));
    open_all(&mut rig);
    let (images, _) = rig.images();
    let all = images.len();
    let heir = |policy: String| Rig::heir(&text(&policy), Layout::default(), &images, SOON);
    let (rig, refused) = heir(everything().replace("2001:db8:10::11", "2001:db8:10::19"));
    assert_eq!((refused, rig.session_count()), ([("no_backend", 2)].into(), all - 2));
    let (rig, refused) = heir(everything().replace("\"198.51.100.21\"", "\"198.51.100.22\""));
    assert_eq!((refused, rig.session_count()), ([("no_outside_port", 2)].into(), all - 2));
    let (rig, refused) = heir(everything().replace("name = \"out\"", "name = \"elsewhere\""));
    assert_eq!((refused, rig.session_count()), ([("no_outside_port", 4)].into(), all - 4));
    let (rig, refused) = heir(everything().replace("ports_per_source = 4", "ports_per_source = 1"));
    assert_eq!((refused, rig.session_count()), ([("no_outside_port", 1)].into(), all - 1));
    let (rig, refused) = heir(everything()).0.succeeded_by(
        &text(&everything()).replace("name = \"inside\"", "name = \"within\""),
        Layout::default(),
        SOON,
    );
    assert_eq!((refused, rig.session_count()), ([("no_port", 7)].into(), all - 7), "those that came by it");
    // Taken up, and judged by its next packet as after any change of policy.
    let (mut rig, refused) = heir(everything().replace("ports = \"8000-8009\"", "ports = \"8000-8001\""));
    assert!(refused.is_empty(), "{refused:?}");
    let talks = talks();
    rig.put(OUTSIDE, &talks[6].up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)).0.1);
    rig.settle();
    assert_eq!((rig.dropped(NoService), rig.session_count()), (1, all - 1));
    rig.take();
    let denied = everything().replace("default = \"allow\"", "default = \"deny\"");
    let (mut rig, refused) = heir(denied);
    assert!(refused.is_empty(), "{refused:?}");
    let packet = talks[0].up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)).0;
    rig.drops_all("a rule that is gone", &[packet], FirewallDenied);
}

/// What is not taken up is nobody's: its packets open nothing, and its outside port serves others.
#[test]
fn a_port_that_was_not_claimed_again_is_free() {
    let policy = text(&everything());
    let mut rig = Rig::of(&policy);
    let own = |client: &str| {
        Talk::tcp((INSIDE, client, "198.51.100.7:443"), (OUTSIDE, "198.51.100.20:33000", "198.51.100.7:443"))
    };
    own("10.0.0.12:33000").open(&mut rig);
    let (images, _) = rig.images();
    let (mut rig, _) = Rig::heir(&policy, Layout::default(), &images, SOON);
    let second = Talk::tcp(
        (INSIDE, "10.0.0.13:33000", "198.51.100.7:443"),
        (OUTSIDE, "198.51.100.20:33000", "198.51.100.7:443"),
    );
    rig.put(INSIDE, &second.up(|p| p.syn().seq(OPENER)).0.1);
    rig.settle();
    let out = rig.take();
    assert_ne!(out[0].1[34..36], 33_000_u16.to_be_bytes(), "it is in use");
    own("10.0.0.12:33000").chat(&mut rig);
    let (mut rig, _) = Rig::heir(&policy, Layout::default(), &images, Nanos::from_secs(100_000));
    own("10.0.0.13:33000").open(&mut rig);
    rig.drops_all("of a session that is gone", &[(INSIDE, tcp("10.0.0.12:33000", "198.51.100.7:443"))], NoSession);
}

/// RFC 4787 REQ-1: a mapping holds for further far ends as before, and lets in whom it let in.
#[test]
fn mappings_hold_for_others_too() {
    let policy = text(&everything());
    let mut rig = Rig::of(&policy);
    let first =
        Talk::udp((INSIDE, "10.0.0.70:5000", "198.51.100.8:53"), (OUTSIDE, "198.51.100.21:5000", "198.51.100.8:53"));
    rig.passes("the first", first.up(|p| p));
    let from_outside = udp("198.51.100.8:99", "198.51.100.21:5000");
    let inside = udp("198.51.100.8:99", "10.0.0.70:5000").routed();
    rig.passes("let in", ((OUTSIDE, from_outside.clone()), (INSIDE, inside)));
    let (mut rig, refused) = rig.succeeded_by(&policy, Layout::default(), SOON);
    assert_eq!((refused.len(), rig.session_count()), (0, 2));
    // Another with the same port gets another outside port.
    rig.put(INSIDE, &udp("10.0.0.71:5000", "198.51.100.9:53"));
    rig.settle();
    assert_ne!(rig.take()[0].1[34..36], 5_000_u16.to_be_bytes());
    let further =
        Talk::udp((INSIDE, "10.0.0.70:5000", "198.51.100.9:53"), (OUTSIDE, "198.51.100.21:5000", "198.51.100.9:53"));
    rig.passes("a further far end", further.up(|p| p));
    let asks = udp("198.51.100.8:98", "198.51.100.21:5000");
    rig.passes("its far end", ((OUTSIDE, asks), (INSIDE, udp("198.51.100.8:98", "10.0.0.70:5000").routed())));
    let stranger = udp("198.51.100.77:98", "198.51.100.21:5000");
    let dropped = rig.drops().values().sum::<u64>();
    rig.put(OUTSIDE, &stranger);
    rig.settle();
    assert_eq!((rig.take().len(), rig.drops().values().sum::<u64>()), (0, dropped + 1));
}

/// NAT64, asked from inside and from outside.
#[test]
fn sessions_across_go_on() {
    let rules = format!(
        "{ALLOW}[[nat64]]\nname = \"clients\"\nprefix = \"64:ff9b::/96\"\nfrom = [\"dmz\"]\naddress = [\"198.51.100.64\"]\n\
         ports = \"10000-49999\"\nfiltering = \"endpoint-independent\"\n"
    );
    let policy = text(&rules);
    let mut rig = Rig::of(&policy);
    let (client, server6) = ("2001:db8:10::11", "64:ff9b::198.51.100.7");
    let asks = |rig: &mut Rig, (source, to): (u16, &str), seen: (u16, &str)| {
        rig.put(INSIDE, &udp(&end(client, source), to).data(b"across"));
        rig.settle();
        let out = rig.take();
        assert_eq!(out.len(), 1, "{:?}", rig.drops());
        assert_eq!(
            (out[0].0, &out[0].1[26..30], &out[0].1[34..36]),
            (OUTSIDE, &[198, 51, 100, 64][..], &seen.0.to_be_bytes()[..])
        );
        let answer = udp(seen.1, &end("198.51.100.64", seen.0)).data(b"back");
        let back = udp(to, &end(client, source)).data(b"back").routed();
        rig.passes("back", ((OUTSIDE, answer), (INSIDE, back)));
    };
    asks(&mut rig, (33_000, &end(server6, 443)), (33_000, "198.51.100.7:443"));
    let inward = udp("198.51.100.9:5", "198.51.100.64:33000").data(b"x");
    rig.passes(
        "inward",
        ((OUTSIDE, inward), (INSIDE, udp("[64:ff9b::198.51.100.9]:5", &end(client, 33_000)).data(b"x").routed())),
    );
    let (mut rig, refused) = rig.succeeded_by(&policy, Layout::default(), SOON);
    assert_eq!((refused.len(), rig.session_count()), (0, 2), "{refused:?}");
    let answer = udp("198.51.100.7:443", "198.51.100.64:33000").data(b"back");
    let back = udp(&end(server6, 443), &end(client, 33_000)).data(b"back").routed();
    rig.passes("an answer", ((OUTSIDE, answer), (INSIDE, back)));
    asks(&mut rig, (33_000, &end(server6, 443)), (33_000, "198.51.100.7:443"));
    asks(&mut rig, (33_000, "[64:ff9b::198.51.100.9]:5"), (33_000, "198.51.100.9:5"));
    assert_eq!(rig.session_count(), 2);
    let (rig, refused) = rig.succeeded_by(&text(&rules.replace("10000-49999", "40000-49999")), Layout::default(), SOON);
    assert_eq!((refused, rig.session_count()), ([("no_outside_port", 2)].into(), 0));
}

/// One worker instead of three, three instead of one, and three again: each session is where its packets come.
#[test]
fn other_workers_have_other_sessions() {
    let layout = |workers, queues| Layout { workers, queues, ..Layout::default() };
    let policy = text(&everything());
    let mut rig = Rig::laid_out(&policy, layout(3, 2));
    let clients: Vec<_> = (0..60)
        .map(|number| {
            let client = end("198.51.100.7", 40_000 + number);
            Talk::tcp((OUTSIDE, &client, "198.51.100.10:80"), (INSIDE, &client, "10.0.0.11:8080"))
        })
        .collect();
    clients.iter().for_each(|talk| talk.open(&mut rig));
    let mut hidden = Vec::new();
    for number in 0..20 {
        let client = end("10.0.0.12", 33_000 + number);
        rig.put(INSIDE, &udp(&client, "198.51.100.7:53").data(b"ask"));
        rig.settle();
        let (_, bytes) = rig.take().remove(0);
        let shown = end("198.51.100.20", u16::from_be_bytes([bytes[34], bytes[35]]));
        hidden.push(Talk::udp((INSIDE, &client, "198.51.100.7:53"), (OUTSIDE, &shown, "198.51.100.7:53")));
    }
    let (images, _) = rig.images();
    for (workers, queues) in [(3, 2), (1, 1)] {
        let (mut rig, refused) = Rig::heir(&policy, layout(workers, queues), &images, SOON);
        assert_eq!((refused.len(), rig.session_count()), (0, 80), "{workers}: {refused:?}");
        clients.iter().for_each(|talk| talk.chat(&mut rig));
        hidden.iter().for_each(|talk| converse(&mut rig, talk));
        assert!(rig.sessions_by_worker().iter().all(|&count| count > 0));
    }
    // Between two numbers of workers, ports that source NAT gave may be another worker's than their clients are.
    let (mut rig, refused) = Rig::heir(&policy, layout(2, 1), &images, SOON);
    let lost = refused.get("two_workers").copied().unwrap_or(0);
    assert!(lost < 20 && rig.session_count() == 80 - lost, "{refused:?}");
    clients.iter().for_each(|talk| talk.chat(&mut rig));
}

/// A smaller table, the same session twice, and sessions that contradict each other.
#[test]
fn what_does_not_fit_is_told() {
    let policy = text(ALLOW);
    let mut rig = Rig::of(&policy);
    for number in 0..20 {
        let client = end("198.51.100.7", 40_000 + number);
        Talk::tcp((OUTSIDE, &client, "10.0.0.12:22"), (INSIDE, &client, "10.0.0.12:22")).open(&mut rig);
    }
    let (images, _) = rig.images();
    let small = policy.replace("capacity = 4_096", "capacity = 8");
    let (rig, refused) = Rig::heir(&small, Layout::default(), &images, SOON);
    assert_eq!((refused, rig.session_count()), ([("table_full", 12)].into(), 8));
    let twice = [&images[..], &images[..]].concat();
    let (rig, refused) = Rig::heir(&policy, Layout::default(), &twice, SOON);
    assert_eq!((refused, rig.session_count()), ([("tuple_in_use", 20)].into(), 20));
    let limited = policy.clone() + "[[zone]]\nname = \"wan\"\nsessions_per_source = 5\n";
    let (rig, refused) = Rig::heir(&limited, Layout::default(), &images, SOON);
    assert_eq!((refused, rig.session_count()), ([("source_limited", 15)].into(), 5));
}

/// The outside address is gone from the port, not only from the pool.
#[test]
fn nobody_answers_for_an_address_that_is_gone() {
    let policy = everything();
    let mut rig = Rig::of(&text(&policy));
    let talk = &talks()[6];
    talk.open(&mut rig);
    let (mut rig, refused) =
        rig.succeeded_by(&text(&policy.replace("198.51.100.30", "198.51.100.31")), Layout::default(), SOON);
    assert!(refused.is_empty());
    rig.put(OUTSIDE, &talk.up(|p| p.ack(ANSWERER + 1).seq(OPENER + 1)).0.1);
    rig.settle();
    let gone = rig.dropped(NoService) + rig.dropped(SourceAddressGone);
    assert_eq!((gone, rig.session_count()), (1, 0));
    rig.take();
}
