//! What `edge.toml` promises, claim by claim: the same whatever the ports are made of and however many workers there are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Appliance, Lab, Namespace, Process, Resolver, Web, eventually, holds_within, unanswered};

/// The servers of edge.toml, up, and what clients can see of them.
#[derive(Debug)]
pub struct Claims<'lab> {
    lab: &'lab Lab,
    /// The server behind `shop-a`.
    pub shop_a: Web,
    /// The server behind `shop-b`.
    pub shop_b: Web,
    /// The server behind `shop6-a`.
    pub shop6_a: Web,
    /// A server of the world's, on the client.
    pub world: Web,
    /// Both resolvers.
    pub resolvers: [Resolver; 2],
}

impl<'lab> Claims<'lab> {
    /// Programs the claims need besides what every lab does.
    pub const PROGRAMS: &'static [&'static str] = &["dnsmasq", "dig", "ping", "nc", "ss"];

    /// Starts every server.
    #[must_use]
    pub fn serve(lab: &'lab Lab) -> Self {
        Self {
            lab,
            shop_a: Web::start(lab, &lab.shop_a, "shop-a", &["10.0.0.11:8080"]),
            shop_b: Web::start(lab, &lab.shop_b, "shop-b", &["10.0.0.12:8080", "[2001:db8:10::12]:8080"]),
            shop6_a: Web::start(lab, &lab.shop_a, "shop6-a", &["[2001:db8:10::11]:8080"]),
            world: Web::start(lab, &lab.client, "world", &["198.51.100.29:80", "[2001:db8:51::29]:80"]),
            resolvers: [
                Resolver::start(lab, &lab.resolver, "resolver-a", "10.0.0.53"),
                Resolver::start(lab, &lab.resolver, "resolver-b", "10.0.0.54"),
            ],
        }
    }

    /// Every claim.
    pub fn hold(&self, appliance: &Appliance<'_>) {
        // First: nobody's connections of before are still counted.
        self.connections_are_spread_by_weight(appliance);
        self.clients_reach_the_shop();
        self.a_large_page_arrives_whole();
        self.names_are_resolved();
        self.what_no_rule_allows_is_denied(appliance);
        self.everything_that_may_be_pinged_answers();
        self.servers_reach_the_world();
    }

    /// Requests from ten addresses of each family are all answered, by servers that see those addresses.
    pub fn clients_reach_the_shop(&self) {
        self.ten_clients_reach("198.51.100.10", "198.51.100.");
        self.ten_clients_reach("[2001:db8:51::10]", "2001:db8:51::");
    }

    /// Requests from ten addresses to one address of the shop's.
    pub fn ten_clients_reach(&self, address: &str, from: &str) {
        for number in 20..30 {
            let client = format!("{from}{number}");
            let page = request(&self.lab.client, &format!("--interface {client} {address}/"));
            let (server, seen) = page.trim().split_once(' ').expect("a page names server and client");
            assert!(server.starts_with("shop"), "{page}");
            assert_eq!(seen, client, "the server sees the client itself");
        }
    }

    /// A hundred requests, every one answered by `server`.
    pub fn hundred_answers_from(&self, address: &str, server: &str) {
        // One curl for all: the pages are named [1-100], and the server closes each connection after its answer.
        let pages = request(&self.lab.client, &format!("{address}/?[1-100]"));
        assert_eq!(pages.lines().count(), 100, "{pages}");
        assert!(pages.lines().all(|page| page.split(' ').next() == Some(server)), "{pages}");
    }

    /// A hundred requests, a connection for each, every one answered.
    pub fn hundred_requests_are_answered(&self, address: &str) {
        let pages = request(&self.lab.client, &format!("{address}/?[1-100]"));
        assert_eq!(pages.lines().filter(|page| page.starts_with("shop")).count(), 100, "{pages}");
    }

    /// Twenty megabytes come through unchanged.
    pub fn a_large_page_arrives_whole(&self) {
        for address in ["198.51.100.10", "[2001:db8:51::10]"] {
            let page = self.lab.file("received");
            request(&self.lab.client, &format!("-o {} {address}/big", page.display()));
            let bytes = std::fs::read(&page).expect("curl wrote it");
            assert_eq!(bytes.len(), 20_000_000, "{address}");
            assert!(bytes.iter().all(|byte| *byte == b'm'), "{address}");
        }
    }

    /// Connections to the shop are.
    pub fn connections_are_spread_by_weight(&self, appliance: &Appliance<'_>) {
        self.spread_by_weight(appliance, "198.51.100.10", ["shop-a", "shop-b"]);
    }

    /// Thirty connections at once are shared one to two, as the weights of these backends say. Workers that choose at the same
    /// moment do not see each other's choice, so each but one may be a session apart.
    #[track_caller]
    pub fn spread_by_weight(&self, appliance: &Appliance<'_>, address: &str, backends: [&str; 2]) {
        // What was closed before still counts until its session is gone.
        eventually(30, "earlier connections are gone", || {
            backends.iter().all(|name| appliance.backend(name).active == 0)
        });
        let apart = appliance.of_each_worker("rx_packets").len() as u64 - 1;
        let downloads: Vec<_> = (0..30).map(|number| self.long_download(address, number)).collect();
        let mut seen = [0; 2];
        let shared = holds_within(10, || {
            seen = backends.map(|name| appliance.backend(name).active);
            seen[0] + seen[1] == 30 && seen[0].abs_diff(10) <= apart
        });
        assert!(shared, "thirty connections, one to two by weight, but {seen:?}");
        drop(downloads);
    }

    /// A download that lasts eight seconds, from a virtual service at `address`: for who waits for its end.
    #[must_use]
    pub fn download(&self, address: &str, number: usize) -> Process {
        self.fetch(address, "slow", number)
    }

    /// A download that lasts longer than any test looks at it: for who cuts it.
    #[must_use]
    pub fn long_download(&self, address: &str, number: usize) -> Process {
        self.fetch(address, "slower", number)
    }

    fn fetch(&self, address: &str, page: &str, number: usize) -> Process {
        let name = format!("download-{number}");
        let line = format!("curl -sSN --max-time 600 -o {} {address}/{page}", self.lab.file(&name).display());
        self.lab.client.start(&line, &self.lab.file(&format!("{name}.log")))
    }

    /// Asserts that of these long downloads as many are cut, and that the others go on.
    #[track_caller]
    pub fn so_many_are_cut(&self, downloads: &mut [Process], wanted: usize) {
        let mut cut = 0_usize;
        let soon = holds_within(10, || {
            cut = downloads.iter_mut().map(|download| usize::from(!download.running())).sum();
            cut == wanted
        });
        assert!(soon, "{cut} downloads were cut instead of {wanted}");
        let left: Vec<usize> = (0..downloads.len()).filter(|number| downloads[*number].running()).collect();
        let before: Vec<usize> = left.iter().map(|number| self.downloaded(*number)).collect();
        eventually(5, "the other downloads go on", || {
            left.iter().zip(&before).all(|(number, before)| self.downloaded(*number) > *before)
        });
        assert_eq!(left.len(), downloads.len() - wanted, "no more than those were cut");
    }

    /// Bytes of the download with that number.
    #[must_use]
    pub fn downloaded(&self, number: usize) -> usize {
        std::fs::read(self.lab.file(&format!("download-{number}"))).map_or(0, |bytes| bytes.len())
    }

    /// A client resolves names, and the resolver sees the appliance instead of it.
    pub fn names_are_resolved(&self) {
        for (kind, answer) in [("A", "198.51.100.10"), ("AAAA", "2001:db8:51::10")] {
            let asked =
                self.lab.client.must(&format!("dig +short +time=5 +tries=3 @198.51.100.53 shop.example {kind}"));
            assert_eq!(asked.trim(), answer);
        }
        // The same client meets the same resolver (persistence by source).
        let mut answers = BTreeMap::new();
        for _ in 0..5 {
            let who = self.lab.client.must("dig +short +time=5 +tries=3 @198.51.100.53 whoami.example TXT");
            *answers.entry(who).or_insert(0) += 1;
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        let queries: Vec<_> = self.resolvers.iter().flat_map(Resolver::queries).collect();
        assert!(!queries.is_empty());
        assert!(queries.iter().all(|line| line.ends_with("from 10.0.0.1")), "{queries:?}");
    }

    /// Neither another port of the shop's address nor a server itself is reached, and the drops say why.
    pub fn what_no_rule_allows_is_denied(&self, appliance: &Appliance<'_>) {
        let before = appliance.dropped("firewall_denied");
        let targets = ["198.51.100.10 22", "2001:db8:51::10 22", "10.0.0.11 8080", "2001:db8:10::11 8080"];
        let knock = |target| self.lab.client.start(&format!("nc -z -w 2 {target}"), &self.lab.file("nc.log"));
        for (mut knock, target) in targets.map(|target| (knock(target), target)) {
            let status = knock.ends_within(Duration::from_secs(10)).expect("nc gives up after two seconds");
            assert!(!status.success(), "{target} answered");
        }
        eventually(5, "each was counted", || appliance.dropped("firewall_denied") >= before + 4);
    }

    /// The appliance, its virtual services and the servers answer pings, in both families.
    pub fn everything_that_may_be_pinged_answers(&self) {
        let targets =
            ["198.51.100.1", "198.51.100.10", "10.0.0.11", "2001:db8:51::1", "2001:db8:51::10", "2001:db8:10::11"];
        for target in targets {
            let answer = self.lab.client.run(&format!("ping -n -c 3 -i 0.2 -w 60 {target}"));
            assert!(answer.success && unanswered(&answer.out).is_empty(), "{}", answer.out);
        }
        self.lab.client.must("ping -c 2 -i 0.2 -W 10 -s 1400 10.0.0.11");
        self.lab.client.must("ping -c 2 -i 0.2 -W 10 -s 1400 2001:db8:10::11");
    }

    /// Servers go out: over IPv4 behind the appliance's address, over IPv6 as themselves.
    pub fn servers_reach_the_world(&self) {
        assert_eq!(request(&self.lab.shop_a, "198.51.100.29/").trim(), "world 198.51.100.1");
        assert_eq!(request(&self.lab.shop_b, "198.51.100.29/").trim(), "world 198.51.100.1");
        assert_eq!(request(&self.lab.shop_a, "[2001:db8:51::29]/").trim(), "world 2001:db8:10::11");
        self.lab.shop_a.must("ping -c 2 -i 0.2 -W 10 198.51.100.20");
        self.lab.shop_b.must("ping -c 2 -i 0.2 -W 10 198.51.100.20");
        self.lab.shop_a.must("ping -c 2 -i 0.2 -W 10 2001:db8:51::20");
    }
}

/// One request that has to succeed; the page.
#[track_caller]
fn request(from: &Namespace, line: &str) -> String {
    from.must(&format!("curl -sS --fail --max-time 60 {line}"))
}
