//! Ports over the kernel's interfaces: `net_af_packet` on a veth pair, and `net_tap`. Each test has a network namespace of
//! its own, made by its thread and gone with it. Without root they say so and pass.
#![allow(missing_docs, reason = "tests name themselves")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it did not expect")]

mod runtime;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use dpdk::{Mbuf, Multicast, Pool, Port, PortOptions, Queue};
use frame::{Buffer, BufferPool, Burst, Nic, ReceivedChecksum};
use runtime::{eal, pool};
use wire::MacAddr;

/// How long the kernel may take to carry a frame before a test gives up; met in microseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts the calling thread into a new network namespace; false without the right to.
fn alone(test: &str) -> bool {
    // The runtime's own threads belong to the machine's namespace.
    let _started = eal();
    // SAFETY: changes the calling thread's namespace only.
    let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    if !alone {
        eprintln!("{test} is skipped: it needs root for a network namespace");
    }
    alone
}

/// Runs `ip` with these words in the thread's namespace.
fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A veth pair `va` and `vb`, both up; the kernel says nothing of its own on them.
fn pair() {
    ip("link add va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b");
    for name in ["va", "vb"] {
        // The kernel of a fresh namespace would announce itself by IPv6.
        ip(&format!("link set {name} addrgenmode none"));
        ip(&format!("link set {name} arp off multicast off up"));
    }
}

fn open(device: &str, options: &PortOptions, pool: &Pool) -> (Port, Queue) {
    let (port, mut queues) = Port::open(&eal(), device, options, pool).unwrap();
    assert_eq!(queues.len(), 1);
    (port, queues.remove(0))
}

fn frame(pool: &Pool, bytes: &[u8]) -> Mbuf {
    let mut frame = pool.allocate().unwrap();
    assert!(frame.resize(bytes.len()));
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

fn send(queue: &mut Queue, frame: Mbuf) {
    let mut burst = Burst::new();
    burst.push(frame);
    let start = Instant::now();
    while queue.transmit(&mut burst) == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing can be sent");
    }
}

/// The next frame that arrives.
fn receive(queue: &mut Queue) -> Mbuf {
    let mut burst = Burst::new();
    let start = Instant::now();
    while queue.receive(&mut burst) == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing arrives");
    }
    assert_eq!(burst.len(), 1, "{:02x?}", burst.iter().map(|frame| frame.bytes()).collect::<Vec<_>>());
    burst.remove(0)
}

/// Waits for something the kernel does in its own time.
fn until(mut come: impl FnMut() -> bool) {
    let start = Instant::now();
    while !come() {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::yield_now();
    }
}

/// A frame of `len` bytes from `vb`'s address to `va`'s, of a type nobody minds.
fn plain(len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 0x0b, 0x88, 0xb5];
    bytes.extend((14..len).map(|at| u8::try_from(at % 251).unwrap()));
    bytes
}

#[test]
fn frames_of_every_length_cross_a_veth_pair() {
    if !alone("frames_of_every_length_cross_a_veth_pair") {
        return;
    }
    pair();
    let pool = pool("veth", 8_191);
    let options = PortOptions { queues: 4, ..PortOptions::default() };
    let (port_a, mut a) = open("net_af_packet_len0,iface=va", &options, &pool);
    let (port_b, mut b) = open("net_af_packet_len1,iface=vb", &options, &pool);
    assert_eq!(port_a.mac(), MacAddr::new([2, 0, 0, 0, 0, 0x0a]));
    assert_eq!((port_a.queues(), port_a.driver()), (1, "net_af_packet"));
    for len in [14, 60, 64, 1_500, 1_513, 1_514] {
        let bytes = plain(len);
        send(&mut b, frame(&pool, &bytes));
        let got = receive(&mut a);
        assert_eq!(got.bytes(), bytes, "{len}");
        assert_eq!(got.received_checksum(), ReceivedChecksum::Partial);
    }
    let (got, sent) = (port_a.stats(), port_b.stats());
    assert_eq!((got.rx_packets, got.rx_missed, sent.tx_packets, sent.tx_errors), (6, 0, 6, 0));
    assert_eq!((got.rx_bytes, sent.tx_bytes), (4_665, 4_665));
    // Nothing of what was sent comes back to its sender.
    assert_eq!(b.receive(&mut Burst::new()), 0);
}

#[test]
fn vlan_tags_arrive_as_they_were_sent() {
    if !alone("vlan_tags_arrive_as_they_were_sent") {
        return;
    }
    pair();
    let pool = pool("vlan", 8_191);
    let (_port, mut a) = open("net_af_packet_vlan0,iface=va", &PortOptions::default(), &pool);
    let (_other, mut b) = open("net_af_packet_vlan1,iface=vb", &PortOptions::default(), &pool);
    // A full frame with one tag, and one with two; the kernel grants four bytes beyond the MTU, not eight.
    for (len, tags) in
        [(1_514, &[0x81, 0x00, 0x60, 0x64][..]), (1_510, &[0x81, 0x00, 0x60, 0x64, 0x81, 0x00, 0x00, 0xc8])]
    {
        let mut bytes = plain(len);
        bytes.splice(12..12, tags.iter().copied());
        send(&mut b, frame(&pool, &bytes));
        assert_eq!(receive(&mut a).bytes(), bytes);
    }
}

#[test]
fn what_the_kernel_sends_through_the_interface_is_not_received() {
    if !alone("what_the_kernel_sends_through_the_interface_is_not_received") {
        return;
    }
    pair();
    ip("addr add 10.0.0.1/24 dev va");
    ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:0b dev va");
    let pool = pool("outgoing", 8_191);
    let (_port, mut a) = open("net_af_packet_out0,iface=va", &PortOptions::default(), &pool);
    let (_other, mut b) = open("net_af_packet_out1,iface=vb", &PortOptions::default(), &pool);
    let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
    socket.send_to(b"hello", "10.0.0.2:9").unwrap();
    let got = receive(&mut b);
    assert_eq!(got.bytes().len(), 14 + 20 + 8 + 5);
    assert_eq!(a.receive(&mut Burst::new()), 0);
    // The kernel left the checksum to hardware that is not there: the field holds the sum of the pseudo header.
    assert_eq!(got.received_checksum(), ReceivedChecksum::Partial);
    let field = u16::from_be_bytes(got.bytes()[40..42].try_into().unwrap());
    let pseudo: u32 = [0x0a00, 0x0001, 0x0a00, 0x0002, 17, 13].iter().sum();
    assert_eq!(u32::from(field), pseudo);
}

#[test]
fn a_lost_carrier_is_seen() {
    if !alone("a_lost_carrier_is_seen") {
        return;
    }
    pair();
    let pool = pool("carrier", 8_191);
    let (port, mut queue) = open("net_af_packet_link0,iface=va", &PortOptions::default(), &pool);
    assert!(port.link().up);
    // The kernel tells of a carrier within a second.
    ip("link set vb down");
    until(|| !port.link().up);
    ip("link set vb up");
    until(|| port.link().up);
    // An interface that is gone takes nothing, blocks nobody, and is down.
    ip("link del va");
    assert!(!port.link().up);
    let mut burst = Burst::new();
    burst.push(frame(&pool, &plain(60)));
    queue.transmit(&mut burst);
    assert_eq!(port.stats().tx_packets, 0);
}

/// RLD-13: whatever takes the name of an interface that has vanished is another, until the device is closed and opened anew.
#[test]
fn an_interface_that_comes_back_is_opened_anew_under_the_same_name() {
    if !alone("an_interface_that_comes_back_is_opened_anew_under_the_same_name") {
        return;
    }
    let pool = pool("anew", 8_191);
    let made = |address: &str| {
        ip(&format!("link add va address {address} type veth peer name vb address 02:00:00:00:00:0b"));
        for name in ["va", "vb"] {
            ip(&format!("link set {name} addrgenmode none"));
            ip(&format!("link set {name} arp off multicast off up"));
        }
    };
    made("02:00:00:00:00:0a");
    let options = PortOptions::default();
    let (mut port, mut queue) = open("net_af_packet_anew0,iface=va", &options, &pool);
    let options = PortOptions { mac: Some(port.mac()), ..options };
    for round in 0..3 {
        assert!(port.link().up && !port.is_orphaned());
        ip("link del va");
        assert!(!port.link().up && port.is_orphaned());
        made("02:00:00:00:00:77");
        assert!(!port.link().up && port.is_orphaned(), "the name is another's");
        let mut burst = Burst::new();
        burst.push(frame(&pool, &plain(60)));
        queue.transmit(&mut burst);
        drop((port, queue, burst));
        assert_eq!(pool.in_use(), 0);
        (port, queue) = open("net_af_packet_anew0,iface=va", &options, &pool);
        assert_eq!(port.mac(), MacAddr::new([2, 0, 0, 0, 0, 0x0a]), "the port keeps its address");
        assert_eq!(port.stats(), dpdk::PortStats::default());
        let far = format!("net_af_packet_far{round},iface=vb");
        let (far, mut other) = open(&far, &PortOptions::default(), &pool);
        send(&mut other, frame(&pool, &plain(60)));
        assert_eq!(receive(&mut queue).bytes(), plain(60), "addressed to the port, not to the interface");
        send(&mut queue, frame(&pool, &plain(64)));
        assert_eq!(receive(&mut other).bytes(), plain(64));
        drop((far, other));
    }
}

#[test]
fn packets_the_kernel_had_no_room_for_are_counted_as_missed() {
    if !alone("packets_the_kernel_had_no_room_for_are_counted_as_missed") {
        return;
    }
    pair();
    let pool = pool("missed", 8_191);
    let (port, mut a) = open("net_af_packet_miss0,iface=va,framecnt=8,blocksz=4096", &PortOptions::default(), &pool);
    let (_other, mut b) = open("net_af_packet_miss1,iface=vb", &PortOptions::default(), &pool);
    for _ in 0..100 {
        send(&mut b, frame(&pool, &plain(60)));
    }
    until(|| port.stats().rx_missed >= 92);
    let mut burst = Burst::new();
    assert_eq!(a.receive(&mut burst), 8);
    assert_eq!((port.stats().rx_missed, port.stats().rx_packets), (92, 8));
}

#[test]
fn groups_and_a_second_address_end_with_the_port() {
    if !alone("groups_and_a_second_address_end_with_the_port") {
        return;
    }
    pair();
    let flags = || {
        let shown = Command::new("ip").args(["-d", "link", "show", "va"]).output().unwrap();
        let text = String::from_utf8(shown.stdout).unwrap();
        (text.contains("allmulti 1"), text.contains("promiscuity 1"), text.contains("02:00:00:00:00:0a"))
    };
    let group = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
    let mac = MacAddr::new([2, 0, 0, 0, 0, 0x99]);
    let pool = pool("groups", 8_191);
    let options = PortOptions { mac: Some(mac), groups: vec![group], ..PortOptions::default() };
    let (port, queue) = open("net_af_packet_groups0,iface=va", &options, &pool);
    assert_eq!(port.mac(), mac);
    assert!(flags().0 && flags().2);
    assert_eq!(port.set_groups(&[group]).unwrap(), Multicast::All);
    drop((port, queue));
    assert_eq!(flags(), (false, false, true));
    let options = PortOptions { promiscuous: true, ..PortOptions::default() };
    let opened = open("net_af_packet_groups0,iface=va", &options, &pool);
    assert!(flags().1);
    drop(opened);
    assert_eq!(flags(), (false, false, true));
}

#[test]
fn an_interface_with_a_smaller_mtu_is_refused_with_the_command_that_mends_it() {
    if !alone("an_interface_with_a_smaller_mtu_is_refused_with_the_command_that_mends_it") {
        return;
    }
    pair();
    ip("link set va mtu 1400");
    let pool = pool("mtu", 8_191);
    let error =
        Port::open(&eal(), "net_af_packet_mtu0,iface=va", &PortOptions::default(), &pool).unwrap_err().to_string();
    assert!(error.contains("ip link set va mtu 1500"), "{error}");
    ip("link set va mtu 1500");
    let _opened = open("net_af_packet_mtu0,iface=va", &PortOptions::default(), &pool);
}

#[test]
fn an_interface_without_ethernet_is_refused() {
    if !alone("an_interface_without_ethernet_is_refused") {
        return;
    }
    ip("tuntap add tn0 mode tun");
    ip("link set tn0 up");
    let pool = pool("tun", 8_191);
    let opened = Port::open(&eal(), "net_af_packet_tun0,iface=tn0", &PortOptions::default(), &pool);
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("the interface tn0 has no Ethernet"), "{error}");
}

#[test]
fn a_tap_carries_frames_both_ways_and_vanishes_when_closed() {
    if !alone("a_tap_carries_frames_both_ways_and_vanishes_when_closed") {
        return;
    }
    let pool = pool("tap", 8_191);
    let options = PortOptions { mac: Some(MacAddr::new([2, 0, 0, 0, 0, 0x0c])), ..PortOptions::default() };
    let (port, mut queue) = open("net_tap_both0,iface=mrt0", &options, &pool);
    assert_eq!((port.driver(), port.mac()), ("net_tap", MacAddr::new([2, 0, 0, 0, 0, 0x0c])));
    ip("link set mrt0 addrgenmode none");
    ip("link set mrt0 up");
    ip("addr add 10.0.0.1/24 dev mrt0");
    ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:0d dev mrt0");
    assert!(port.link().up);
    // From the kernel: with its checksum done, because a TAP of this kind offers none.
    let socket = UdpSocket::bind("10.0.0.1:4000").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", "10.0.0.2:9").unwrap();
    let mut burst = Burst::new();
    let start = Instant::now();
    let mut got = loop {
        assert!(start.elapsed() < PATIENCE, "nothing arrives");
        queue.receive(&mut burst);
        if let Some(at) = burst.iter().position(|frame| frame.bytes().ends_with(b"hello")) {
            break burst.remove(at);
        }
    };
    assert_eq!(got.received_checksum(), ReceivedChecksum::Unchecked);
    let field = u16::from_be_bytes(got.bytes()[40..42].try_into().unwrap());
    let pseudo: u32 = [0x0a00, 0x0001, 0x0a00, 0x0002, 17, 13].iter().sum();
    assert_ne!(u32::from(field), pseudo);
    // And back to it: addresses and ports exchanged, which changes no checksum.
    let bytes = got.bytes_mut();
    for (one, other, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        for at in 0..len {
            bytes.swap(one + at, other + at);
        }
    }
    // The kernel's own address is the one it answers to.
    bytes[..6].copy_from_slice(&port.mac().octets());
    send(&mut queue, got);
    let mut answer = [0; 16];
    assert_eq!(socket.recv(&mut answer).unwrap(), 5);
    drop((port, queue, burst));
    // A program that another test starts at this moment holds a copy of the descriptor until it runs.
    let start = Instant::now();
    while Command::new("ip").args(["link", "show", "mrt0"]).output().unwrap().status.success() {
        assert!(start.elapsed() < PATIENCE, "the interface stays");
    }
    assert_eq!(pool.in_use(), 0);
}
