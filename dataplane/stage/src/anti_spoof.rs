//! Sources that lie: what a zone expects of the source addresses that come from it, beside the blocklists.
//!
//! Written by management, asked by workers about first packets and fragments, before anything else; addresses alone also
//! about sessions that an earlier policy admitted.

use std::net::IpAddr;

use ipnet::IpNet;
use units::{PortId, ZoneId};

use crate::DropReason;
use crate::blocklist::{Blocklists, PrefixSet};
use crate::forward::RouteTable;

/// Whether a source must be reachable where it comes from (RFC 3704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// It is not asked.
    #[default]
    Off,
    /// There is a route to it, anywhere.
    Loose,
    /// The route to it leads through the port the packet came by.
    Strict,
}

/// What a zone expects of the sources that come from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneSources {
    /// The reverse path.
    pub reverse_path: ReversePath,
    /// Whether addresses that nobody on the public Internet has are refused.
    pub bogons: bool,
}

/// Every question about a source, compiled.
#[derive(Debug)]
pub struct Sources {
    blocklists: Blocklists,
    /// By zone; zones beyond expect nothing.
    zones: Box<[ZoneSources]>,
    bogons: PrefixSet,
}

impl Default for Sources {
    fn default() -> Self {
        Self::new(Blocklists::default(), Vec::new())
    }
}

impl Sources {
    /// These lists, and what each zone expects, by number.
    #[must_use]
    pub fn new(blocklists: Blocklists, zones: Vec<ZoneSources>) -> Self {
        Self { blocklists, zones: zones.into(), bogons: PrefixSet::new(bogons()) }
    }

    /// The same with other lists.
    #[must_use]
    pub fn with(&self, blocklists: Blocklists) -> Self {
        Self::new(blocklists, self.zones.to_vec())
    }

    /// The blocklists.
    #[must_use]
    pub const fn blocklists(&self) -> &Blocklists {
        &self.blocklists
    }

    /// Whether anything is asked about sources from this zone.
    #[must_use]
    pub fn asks(&self, zone: ZoneId) -> bool {
        self.blocklists.concern(zone) || self.expected(zone) != ZoneSources::default()
    }

    /// Why nobody with this address is welcome from this zone, whichever way the packet came; `None` when he is. `links` are
    /// the networks of the port, whose stations are no bogons there.
    #[must_use]
    pub fn unwelcome(&self, source: IpAddr, zone: ZoneId, links: &[IpNet]) -> Option<DropReason> {
        if self.blocklists.stops(zone, source) {
            return Some(DropReason::Blocklisted);
        }
        let bogon = self.expected(zone).bogons
            && self.bogons.contains(source)
            && !is_link_local(source)
            && !links.iter().any(|net| net.contains(&source));
        bogon.then_some(DropReason::BogonSource)
    }

    /// Whether a packet of `source` that came by this port of this zone came the way that leads back.
    #[must_use]
    pub fn came_the_way_back(&self, source: IpAddr, (port, zone): (PortId, ZoneId), routes: &dyn RouteTable) -> bool {
        match self.expected(zone).reverse_path {
            ReversePath::Off => true,
            _ if is_link_local(source) => true,
            ReversePath::Loose => routes.lookup(source).is_some(),
            ReversePath::Strict => routes.lookup(source).is_some_and(|back| back.port == port),
        }
    }

    fn expected(&self, zone: ZoneId) -> ZoneSources {
        self.zones.get(zone.index()).copied().unwrap_or_default()
    }
}

/// Link-local addresses are on every link (RFC 4291 section 2.5.6): no list and no route tells which.
fn is_link_local(source: IpAddr) -> bool {
    matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Prefixes that are not routed on the public Internet: IANA's special-purpose registries (RFC 6890), as far as they are
/// not globally reachable, and all of IPv6 that is not global unicast.
fn bogons() -> impl Iterator<Item = IpNet> {
    const BOGONS: [&str; 28] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/8",
        "100::/8",
        "200::/7",
        "400::/6",
        "800::/5",
        "1000::/4",
        "2001:2::/48",
        "2001:10::/28",
        "2001:db8::/32",
        "3fff::/20",
        "4000::/2",
        "8000::/2",
        "c000::/3",
        "e000::/4",
        "f000::/4",
    ];
    BOGONS.iter().filter_map(|net| net.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::forward::{LinearRoutes, Route};

    const LEFT: (PortId, ZoneId) = (PortId::new(0), ZoneId::new(1));
    const RIGHT: (PortId, ZoneId) = (PortId::new(1), ZoneId::new(2));

    fn routes() -> LinearRoutes {
        let route = |to: &str, port| Route { to: to.parse().unwrap(), via: None, port: PortId::new(port) };
        LinearRoutes::new(&[route("198.51.100.0/24", 0), route("10.0.0.0/8", 1), route("2001:db8:10::/64", 1)])
    }

    fn refused(sources: &Sources, source: &str, came: (PortId, ZoneId)) -> Option<DropReason> {
        let links: Vec<IpNet> = vec!["198.51.100.0/24".parse().unwrap()];
        let source = source.parse().unwrap();
        let astray = !sources.came_the_way_back(source, came, &routes());
        sources.unwelcome(source, came.1, &links).or(astray.then_some(DropReason::ReversePathFailed))
    }

    fn of(expected: ZoneSources) -> Sources {
        Sources::new(Blocklists::default(), vec![ZoneSources::default(), expected, ZoneSources::default()])
    }

    #[test]
    fn the_reverse_path_is_strict_loose_or_not_asked() {
        let strict = of(ZoneSources { reverse_path: ReversePath::Strict, bogons: false });
        let loose = of(ZoneSources { reverse_path: ReversePath::Loose, bogons: false });
        for (source, strictly, loosely) in [
            ("198.51.100.7", None, None),
            ("10.0.0.7", Some(DropReason::ReversePathFailed), None),
            ("2001:db8:10::7", Some(DropReason::ReversePathFailed), None),
            ("192.0.2.7", Some(DropReason::ReversePathFailed), Some(DropReason::ReversePathFailed)),
            ("fe80::7", None, None),
        ] {
            assert_eq!(refused(&strict, source, LEFT), strictly, "{source}");
            assert_eq!(refused(&loose, source, LEFT), loosely, "{source}");
            assert_eq!(refused(&strict, source, RIGHT), None, "{source}: another zone");
        }
    }

    #[test]
    fn bogons_are_refused_but_for_the_stations_of_the_link() {
        assert_eq!(bogons().count(), 28);
        let sources = of(ZoneSources { reverse_path: ReversePath::Off, bogons: true });
        for bogon in
            ["10.1.2.3", "192.168.1.1", "100.127.0.1", "203.0.113.1", "::1", "fc00::1", "2001:db8::1", "64:ff9b::1"]
        {
            assert_eq!(refused(&sources, bogon, LEFT), Some(DropReason::BogonSource), "{bogon}");
        }
        for real in ["198.51.100.7", "fe80::7", "8.8.8.8", "100.128.0.1", "2600::1", "2a00:1450::1", "2001:4860::8888"]
        {
            assert_eq!(refused(&sources, real, LEFT), None, "{real}");
        }
    }

    #[test]
    fn only_zones_that_expect_something_are_asked() {
        let list = |from: Vec<ZoneId>| {
            let prefixes = Arc::new(PrefixSet::new(["192.0.2.0/24".parse().unwrap()]));
            Blocklists::new(vec![("a".to_owned(), from, prefixes)], None)
        };
        let strict = of(ZoneSources { reverse_path: ReversePath::Strict, bogons: false });
        assert!(strict.asks(LEFT.1) && !strict.asks(RIGHT.1) && !Sources::default().asks(LEFT.1));
        let listed = Sources::default().with(list(vec![RIGHT.1]));
        assert!(!listed.asks(LEFT.1) && listed.asks(RIGHT.1));
        assert!(Sources::default().with(list(Vec::new())).asks(LEFT.1));
    }

    #[test]
    fn a_blocklist_comes_first() {
        let list = PrefixSet::new(["10.0.0.0/8".parse().unwrap()]);
        let lists = Blocklists::new(vec![("a".to_owned(), Vec::new(), Arc::new(list))], None);
        let sources = of(ZoneSources { reverse_path: ReversePath::Strict, bogons: true }).with(lists);
        assert_eq!(refused(&sources, "10.0.0.7", LEFT), Some(DropReason::Blocklisted));
        assert_eq!(refused(&sources, "192.0.2.7", LEFT), Some(DropReason::BogonSource));
    }
}
