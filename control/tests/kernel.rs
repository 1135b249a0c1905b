//! The kernel interface beside a port, and the isolation of taken interfaces, against the real kernel: network namespaces,
//! TAP and veth. What belongs here needs root; without it each test says that it was skipped and passes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on should stop")]

mod namespaces;

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use config::policy::Probe;
use control::health::{Prober, Report, Target};
use control::kernel::{Interface, InterfaceError, InterfaceSpec, Isolation, KernelRings, Lane, Pump};
use frame::{Buffer, BufferPool, ReceivedChecksum};
use namespaces::Namespace;
use stage::balancer::Health;

/// A buffer of plain memory that gives its place back to the pool.
#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    room: usize,
    in_use: Arc<AtomicUsize>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.in_use.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Buffer for Memory {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn prepend(&mut self, _len: usize) -> Option<&mut [u8]> {
        None
    }
    fn trim_front(&mut self, _len: usize) -> bool {
        false
    }
    fn resize(&mut self, len: usize) -> bool {
        if len > self.room {
            return false;
        }
        self.bytes.resize(len, 0);
        true
    }
    fn is_chained(&self) -> bool {
        false
    }
    fn received_checksum(&self) -> ReceivedChecksum {
        ReceivedChecksum::Unchecked
    }
}

#[derive(Clone)]
struct Pool {
    total: usize,
    in_use: Arc<AtomicUsize>,
}

impl Pool {
    fn of(total: usize) -> Self {
        Self { total, in_use: Arc::default() }
    }
}

impl BufferPool for Pool {
    type Buffer = Memory;
    fn allocate(&self) -> Option<Memory> {
        if self.in_use.fetch_add(1, Ordering::SeqCst) >= self.total {
            self.in_use.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Memory { bytes: Vec::new(), room: 2048, in_use: Arc::clone(&self.in_use) })
    }
}

fn spec(name: &str, mac: &str, addresses: &[&str]) -> InterfaceSpec {
    InterfaceSpec {
        name: name.into(),
        mac: mac.parse().unwrap(),
        mtu: 1500,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        routes: Vec::new(),
    }
}

/// Carries frames between two pairs of rings, as workers of two appliances on one wire would.
struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Wire {
    fn between(left: Arc<KernelRings<Memory>>, right: Arc<KernelRings<Memory>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut lost = 0_u64;
            while !told.load(Ordering::SeqCst) {
                for (from, to) in [(&left, &right), (&right, &left)] {
                    while let Some(frame) = from.receive() {
                        lost += u64::from(to.punt(frame).is_err());
                    }
                }
                thread::yield_now();
            }
            lost
        });
        Self { stop, thread: Some(thread) }
    }

    /// Cuts the wire. Returns how many frames found a full ring.
    fn cut(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// What ICMP probes from this thread's namespace make of these addresses, when each waits so long.
fn probed(addresses: [&str; 2], timeout: Duration) -> [Health; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let mut prober = Prober::start(move |report: Report| drop(sender.send(report))).unwrap();
        let target = |address: &str| Target {
            service: "shop".into(),
            backend: address.into(),
            address: (address.parse::<IpAddr>().unwrap(), 0).into(),
            probe: Probe::Icmp,
            introduced: false,
            interval: Duration::from_millis(10),
            timeout,
            rise: 2,
            fall: 2,
        };
        prober.watch(addresses.map(target).into());
        let mut health = [Health::Unknown; 2];
        while health.contains(&Health::Unknown) {
            let report = reports.recv().await.unwrap();
            let place = addresses.iter().position(|address| *address == report.backend).unwrap();
            health[place] = report.health;
        }
        health
    })
}

#[test]
fn two_kernels_talk_through_their_rings() {
    let (Some(left), Some(right)) = (Namespace::new("left"), Namespace::new("right")) else { return };
    let pool = Pool::of(4096);
    let start = |namespace: &Namespace, spec: InterfaceSpec| {
        let pool = pool.clone();
        namespace.run(move || {
            let interface = Interface::open(spec).unwrap();
            let rings = Arc::new(KernelRings::default());
            let lane = Lane::new(&interface, Arc::clone(&rings));
            (Pump::start(vec![lane], pool, || ()).unwrap(), interface, rings)
        })
    };
    let a = start(&left, spec("mr-test", "02:00:00:00:00:0a", &["192.0.2.1/24", "2001:db8::1/64"]));
    let b = start(&right, spec("mr-test", "02:00:00:00:00:0b", &["192.0.2.2/24", "2001:db8::2/64"]));
    let wire = Wire::between(Arc::clone(&a.2), Arc::clone(&b.2));

    // The kernels resolve each other, and addresses are usable at once: no duplicate address detection.
    left.command("ping -c 3 -i 0.05 -W 20 192.0.2.2");
    left.command("ping -6 -c 3 -i 0.05 -W 20 2001:db8::2");
    // The interface is what was asked for.
    let link = left.output("ip -o link show mr-test");
    assert!(link.contains("mtu 1500") && link.contains("02:00:00:00:00:0a") && link.contains(",UP"), "{link}");
    // Health probes go the same way, over ordinary sockets.
    assert_eq!(left.run(|| probed(["192.0.2.2", "2001:db8::2"], Duration::from_secs(20))), [Health::Up, Health::Up]);
    assert_eq!(
        left.run(|| probed(["192.0.2.3", "2001:db8::3"], Duration::from_millis(500))),
        [Health::Failed, Health::Failed]
    );
    // Full-sized segments and real checksums: a megabyte each way.
    for address in ["192.0.2.2", "2001:db8::2"] {
        let address: IpAddr = address.parse().unwrap();
        let (ready, port) = std::sync::mpsc::channel();
        let server = right.spawn(move || {
            let listener = TcpListener::bind((address, 0)).unwrap();
            ready.send(listener.local_addr().unwrap().port()).unwrap();
            namespaces::echo_once(&listener)
        });
        let port = port.recv().unwrap();
        let sent = left.run(move || namespaces::exchange(address, port, 1 << 20));
        assert_eq!(server.join().unwrap(), sent);
    }
    assert_eq!(wire.cut(), 0);
    let counted = a.2.counters();
    assert!(counted.delivered > 700 && counted.sent > 700, "{counted:?}");
    assert_eq!((counted.refused, counted.oversized), (0, 0));

    // Stopped: no buffer is held, no interface is left.
    for (pump, interface, rings) in [a, b] {
        pump.stop();
        assert_eq!(rings.waiting(), 0);
        drop(interface);
    }
    assert_eq!(pool.in_use.load(Ordering::SeqCst), 0);
    assert!(!left.output("ip -o link").contains("mr-test"));
}

#[test]
fn an_empty_pool_holds_frames_back_and_loses_none() {
    let Some(namespace) = Namespace::new("pool") else { return };
    let pool = Pool::of(1);
    let taken = pool.allocate().unwrap();
    let (pump, interface, rings) = namespace.run({
        let pool = pool.clone();
        move || {
            let interface = Interface::open(spec("mr-test", "02:00:00:00:00:0a", &["192.0.2.1/24"])).unwrap();
            let rings = Arc::new(KernelRings::new(8));
            let lane = Lane::new(&interface, Arc::clone(&rings));
            (Pump::start(vec![lane], pool, || ()).unwrap(), interface, rings)
        }
    });
    namespace.command("ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:0b dev mr-test");
    namespace.run(|| {
        let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
        for number in 0..5_u8 {
            socket.send_to(&[number], "192.0.2.2:9").unwrap();
        }
    });
    assert!(rings.is_quiet());
    drop(taken);
    let mut numbers = Vec::new();
    while numbers.len() < 5 {
        // One buffer in all: each frame must be let go before the next can come.
        match rings.receive() {
            Some(frame) if frame.bytes().get(23) == Some(&17) => numbers.push(frame.bytes()[42]),
            _ => thread::yield_now(),
        }
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    pump.stop();
    drop(interface);
}

#[test]
fn a_new_policy_changes_addresses_and_routes_in_place() {
    let Some(namespace) = Namespace::new("update") else { return };
    let route = |to: &str, via: &str| (to.parse().unwrap(), via.parse().unwrap());
    let mut first = spec("mr-test", "02:00:00:00:00:0a", &["192.0.2.1/24", "192.0.2.7/24", "2001:db8::1/64"]);
    first.routes = vec![route("203.0.113.0/24", "192.0.2.254"), route("2001:db8:1::/48", "2001:db8::fe")];
    let mut second = spec("mr-test", "02:00:00:00:00:0a", &["192.0.2.7/24", "198.51.100.1/24", "2001:db8::1/64"]);
    second.routes = vec![route("203.0.113.0/24", "198.51.100.254"), route("2001:db8:1::/48", "2001:db8::fe")];
    second.mtu = 1400;
    let interface = namespace.run(move || Interface::open(first).unwrap());
    let before = namespace.output("ip -o addr show mr-test; ip route; ip -6 route");
    for wanted in
        ["192.0.2.1/24", "192.0.2.7/24", "2001:db8::1/64", "203.0.113.0/24 via 192.0.2.254", "via 2001:db8::fe"]
    {
        assert!(before.contains(wanted), "{wanted} in {before}");
    }
    assert!(!before.contains("tentative"), "{before}");
    assert!(before.contains("fe80::ff:fe00:a/64"), "made of the port's MAC address: {before}");
    let interface = namespace.run(move || {
        let mut interface = interface;
        interface.update(second).unwrap();
        interface
    });
    let after = namespace.output("ip -o addr show mr-test; ip route; ip -6 route; ip link show mr-test");
    for wanted in ["192.0.2.7/24", "198.51.100.1/24", "2001:db8::1/64", "203.0.113.0/24 via 198.51.100.254", "mtu 1400"]
    {
        assert!(after.contains(wanted), "{wanted} in {after}");
    }
    for gone in ["192.0.2.1/24", "via 192.0.2.254"] {
        assert!(!after.contains(gone), "{gone} in {after}");
    }
    drop(interface);
    assert!(!namespace.output("ip route").contains("203.0.113.0"));
}

#[test]
fn a_name_that_is_taken_is_refused_with_the_command_that_mends_it() {
    let Some(namespace) = Namespace::new("taken") else { return };
    namespace.command("ip tuntap add mode tap name mr-test");
    let error = namespace.run(|| Interface::open(spec("mr-test", "02:00:00:00:00:0a", &[])).unwrap_err());
    assert!(matches!(error, InterfaceError::Exists { .. }));
    assert!(error.to_string().contains("`ip link del mr-test`"), "{error}");
}

#[test]
fn an_interface_removed_by_the_operator_does_not_stop_the_others() {
    let Some(namespace) = Namespace::new("removed") else { return };
    let pool = Pool::of(64);
    let (pump, interfaces, rings) = namespace.run({
        let pool = pool.clone();
        move || {
            let open =
                |name: &str, address: &str| Interface::open(spec(name, "02:00:00:00:00:0a", &[address])).unwrap();
            let interfaces = [open("mr-one", "192.0.2.1/24"), open("mr-two", "198.51.100.1/24")];
            let rings = [Arc::new(KernelRings::default()), Arc::new(KernelRings::default())];
            let lanes = interfaces.iter().zip(&rings).map(|(i, r)| Lane::new(i, Arc::clone(r))).collect();
            (Pump::start(lanes, pool, || ()).unwrap(), interfaces, rings)
        }
    });
    namespace.command("ip link del mr-one");
    namespace.command("ip neigh add 198.51.100.2 lladdr 02:00:00:00:00:0b dev mr-two");
    namespace.run(|| {
        let socket = std::net::UdpSocket::bind("198.51.100.1:0").unwrap();
        socket.send_to(&[1], "198.51.100.2:9").unwrap();
    });
    loop {
        if rings[1].receive().is_some_and(|frame| frame.bytes().get(23) == Some(&17)) {
            break;
        }
        thread::yield_now();
    }
    pump.stop();
    drop(interfaces);
    assert_eq!(pool.in_use.load(Ordering::SeqCst), 0);
}

/// The port's addresses live on the kernel interface; a client on the wire of the taken interface asks for them. What the
/// data plane would answer is not answered here, so whatever comes back is Linux treating the frames as well.
struct Taken {
    host: Namespace,
    client: Namespace,
    _interface: Interface,
}

impl Taken {
    fn new(name: &str) -> Option<Self> {
        let (host, client) = (Namespace::new(&format!("{name}-h"))?, Namespace::new(&format!("{name}-c"))?);
        host.command(&format!("ip link add mr-veth type veth peer name eth9 netns {}", client.name()));
        client.command("ip link set eth9 up");
        client.command("ip addr add 192.0.2.9/24 dev eth9");
        client.command("ip addr add 2001:db8::9/64 dev eth9 nodad");
        let mac = host.output("cat /sys/class/net/mr-veth/address");
        let mac = mac.trim();
        // Known to the client without asking, so that packets come even though nobody answers ARP.
        client.command(&format!("ip neigh add 192.0.2.1 lladdr {mac} dev eth9"));
        client.command(&format!("ip neigh add 2001:db8::1 lladdr {mac} dev eth9"));
        let spec = spec("mr-test", mac, &["192.0.2.1/24", "2001:db8::1/64"]);
        let interface = host.run(move || Interface::open(spec).unwrap());
        Some(Self { host, client, _interface: interface })
    }

    /// Packets Linux sent back on the wire while the client tried ARP, echo and TCP, over IPv4 and IPv6.
    fn answers(&self) -> u64 {
        let before = self.sent();
        for attempt in [
            "ping -c 1 -W 1 192.0.2.1",
            "ping -6 -c 1 -W 1 2001:db8::1",
            "timeout 1 bash -c '</dev/tcp/192.0.2.1/22'",
            "timeout 1 bash -c '</dev/tcp/2001:db8::1/22'",
        ] {
            self.client.attempt(attempt);
        }
        self.client.command("ip neigh del 192.0.2.1 dev eth9");
        self.client.attempt("ping -c 1 -W 1 192.0.2.1");
        self.sent() - before
    }

    fn sent(&self) -> u64 {
        self.host.output("cat /sys/class/net/mr-veth/statistics/tx_packets").trim().parse().unwrap()
    }
}

#[test]
fn linux_stays_silent_on_an_isolated_interface() {
    let Some(taken) = Taken::new("iso") else { return };
    taken.host.attempt("ethtool -K mr-veth gro on");
    let isolation = taken.host.run(|| Isolation::of("mr-veth"));
    assert_eq!(isolation.warnings(), [""; 0]);
    let gro = taken.host.attempt("ethtool -k mr-veth | grep generic-receive-offload:");
    if gro.status.success() {
        assert_eq!(String::from_utf8_lossy(&gro.stdout), "generic-receive-offload: off\n");
    }
    assert_eq!(taken.answers(), 0);
    // What was there before is back afterwards.
    let settings = "cat /proc/sys/net/ipv4/conf/mr-veth/arp_ignore /proc/sys/net/ipv4/conf/mr-veth/rp_filter \
                    /proc/sys/net/ipv6/conf/mr-veth/disable_ipv6";
    assert_eq!(taken.host.output(settings).split_whitespace().collect::<Vec<_>>(), ["8", "1", "1"]);
    taken.host.run(move || drop(isolation));
    if gro.status.success() {
        assert!(taken.host.output("ethtool -k mr-veth").contains("generic-receive-offload: on\n"));
    }
    assert_eq!(taken.host.output(settings).split_whitespace().collect::<Vec<_>>(), ["0", "0", "0"]);
}

#[test]
fn without_isolation_linux_answers_behind_the_data_planes_back() {
    let Some(taken) = Taken::new("open") else { return };
    taken.host.command("ip link set mr-veth up");
    assert!(taken.answers() > 0);
}

#[test]
fn loose_filtering_of_all_interfaces_is_warned_about() {
    let Some(taken) = Taken::new("loose") else { return };
    taken.host.command("bash -c 'echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter'");
    let isolation = taken.host.run(|| Isolation::of("mr-veth"));
    assert!(isolation.warnings().iter().any(|warning| warning.contains("net.ipv4.conf.all.rp_filter")));
}
