//! What of a policy decides which worker owns a session ([`steer`](crate::steer)): which addresses and ports are asked, which
//! serve, which hide others, and whose sessions source NAT and NAT64 keep together, for which the zones of routes count. Of earlier policies it is remembered as long as a
//! session may live that they gave to another worker ([`astray`](crate::astray)).
//!
//! Built when a policy is compiled, read by workers, never changed but for the tick that says how long it matters.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use stage::balancer::Services;
use stage::translate::nat64::Nat64;
use stage::translate::{DestinationNat, SourceNat};
use stage::{Keyed, PortRange};
use units::{Tick, ZoneId};

use crate::zone_map::ZoneMap;

/// Earlier policies that are remembered: those that came before are looked for no more.
const EARLIER: usize = 8;

/// Ticks that no idle session outlives: timeouts end at 4 h 30 min.
const LONGEST: u64 = 4 * (4 * 3_600 + 1_800);

/// Ports of addresses, by address and protocol: in order, none twice.
type Places = HashMap<(IpAddr, u8), Vec<PortRange>, Keyed>;

fn add(places: &mut Places, address: IpAddr, protocol: u8, ports: PortRange) {
    places.entry((address, protocol)).or_default().push(ports);
}

/// Puts the ranges of each address in order, and those that touch together.
fn arrange(places: &mut Places) {
    for ranges in places.values_mut() {
        ranges.sort_unstable();
        ranges.dedup_by(|next, before| {
            let touches = next.first() <= before.last().saturating_add(1);
            if touches && let Some(both) = PortRange::new(before.first(), before.last().max(next.last())) {
                *before = both;
            }
            touches
        });
    }
}

fn holds(places: &Places, address: IpAddr, protocol: u8, port: u16) -> bool {
    let Some(ranges) = places.get(&(address, protocol)) else { return false };
    let behind = ranges.partition_point(|range| range.first() <= port);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| range.contains(port))
}

/// Addresses with other ports in one than in the other.
fn differing<'a>(one: &'a Places, other: &'a Places) -> impl Iterator<Item = IpAddr> {
    let missing = |from: &'a Places, of: &'a Places| {
        from.iter().filter(|&(place, ranges)| of.get(place) != Some(ranges)).map(|(&(address, _), _)| address)
    };
    missing(one, other).chain(missing(other, one))
}

/// The parts that ends of conversations have in one policy.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    asked: Places,
    serving: Places,
    hiding: HashSet<IpAddr, Keyed>,
    nat: Arc<SourceNat>,
    nat64: Arc<Nat64>,
    /// Where source NAT keeps mappings, which of its rules is meant follows from these; else empty.
    zones: ZoneMap,
}

impl Roles {
    fn new(
        services: &Services,
        forwards: &DestinationNat,
        (nat, nat64): (&Arc<SourceNat>, &Arc<Nat64>),
        routes: &[(IpNet, ZoneId)],
    ) -> Self {
        let zones = if nat.keeps_mappings() { ZoneMap::new(routes) } else { ZoneMap::default() };
        let mut roles = Self { nat: Arc::clone(nat), nat64: Arc::clone(nat64), zones, ..Self::default() };
        for service in services.iter() {
            let spec = service.spec();
            let protocol = spec.protocol.number();
            spec.ports.iter().for_each(|&ports| add(&mut roles.asked, spec.address, protocol, ports));
            for backend in &spec.backends {
                match backend.port {
                    Some(port) => add(&mut roles.serving, backend.address, protocol, PortRange::single(port)),
                    None => {
                        spec.ports.iter().for_each(|&ports| add(&mut roles.serving, backend.address, protocol, ports));
                    }
                }
            }
        }
        for (rule, _) in forwards.iter() {
            add(&mut roles.asked, rule.address, rule.protocol.number(), rule.ports);
            add(&mut roles.serving, rule.to_address, rule.protocol.number(), rule.to_ports());
        }
        roles.hiding.extend(services.pool_addresses().chain(nat.addresses()).chain(nat64.addresses()));
        roles
    }

    /// Leaves the backends that `before` had and that still have sessions what they were: they drain where those are.
    fn keep_departed(&mut self, services: &Services, before: &Self) {
        let departed: HashSet<IpAddr> = services.departed().map(|backend| backend.address()).collect();
        for (&place, ranges) in before.serving.iter().filter(|((address, _), _)| departed.contains(address)) {
            self.serving.entry(place).or_default().extend(ranges);
        }
    }

    /// Whether a service or forward is asked here.
    pub(crate) fn asked(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        holds(&self.asked, address, protocol, port)
    }

    /// Whether a service's backend or a forward's server is here.
    pub(crate) fn serves(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        holds(&self.serving, address, protocol, port)
    }

    /// Whether clients leave with this address.
    pub(crate) fn hides(&self, address: IpAddr) -> bool {
        self.hiding.contains(&address)
    }

    /// The rules that keep sessions of one client together.
    pub(crate) fn nat(&self) -> &SourceNat {
        &self.nat
    }

    /// The zone an address is routed to, where source NAT keeps mappings.
    pub(crate) fn zone(&self, address: IpAddr) -> Option<ZoneId> {
        self.zones.zone(address)
    }

    /// The prefixes whose destinations are IPv4 servers.
    pub(crate) fn nat64(&self) -> &Nat64 {
        &self.nat64
    }

    /// Whether the same sessions are kept together.
    fn keeps_together_as(&self, other: &Self) -> bool {
        let hiding = |roles: &Self| roles.nat.iter().map(|(rule, _)| rule.clone()).collect::<Vec<_>>();
        let crossing = |roles: &Self| roles.nat64.iter().map(|(rule, _)| rule.clone()).collect::<Vec<_>>();
        let keep = self.nat.keeps_mappings() || other.nat.keeps_mappings();
        (!keep || hiding(self) == hiding(other) && self.zones == other.zones) && crossing(self) == crossing(other)
    }

    /// The addresses whose part is another in `other`.
    fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = IpAddr> {
        differing(&self.asked, &other.asked)
            .chain(differing(&self.serving, &other.serving))
            .chain(self.hiding.symmetric_difference(&other.hiding).copied())
    }

    fn is_as(&self, other: &Self) -> bool {
        self.changed(other).next().is_none() && self.keeps_together_as(other)
    }
}

/// What is remembered of earlier policies.
#[derive(Debug, Default)]
struct Earlier {
    /// The latest first.
    roles: Vec<Arc<Roles>>,
    /// Addresses that had another part in one of them.
    changed: HashSet<IpAddr, Keyed>,
    /// Whether any of them kept other sessions of clients together: then any two addresses may be concerned.
    anywhere: bool,
    /// The tick at which the last of them ended, or at which a session was last found by one.
    last: AtomicU64,
}

/// Whose a session is in one policy, and was in those before.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    today: Arc<Roles>,
    earlier: Arc<Earlier>,
}

impl Steering {
    /// Compiles what these say, after `previous`; of routes, the zone that each leads to.
    #[must_use]
    pub fn compile(
        services: &Services,
        forwards: &DestinationNat,
        nats: (&Arc<SourceNat>, &Arc<Nat64>),
        routes: &[(IpNet, ZoneId)],
        previous: Option<&Self>,
    ) -> Self {
        let mut today = Roles::new(services, forwards, nats, routes);
        if let Some(previous) = previous {
            today.keep_departed(services, &previous.today);
        }
        arrange(&mut today.asked);
        arrange(&mut today.serving);
        let Some(previous) = previous else { return Self { today: Arc::new(today), ..Self::default() } };
        if today.is_as(&previous.today) {
            return previous.clone();
        }
        let before = core::iter::once(&previous.today).chain(&previous.earlier.roles);
        let roles: Vec<_> = before.filter(|roles| !roles.is_as(&today)).take(EARLIER).map(Arc::clone).collect();
        let earlier = Earlier {
            changed: roles.iter().flat_map(|roles| roles.changed(&today)).collect(),
            anywhere: roles.iter().any(|roles| !roles.keeps_together_as(&today)),
            last: AtomicU64::new(0),
            roles,
        };
        Self { today: Arc::new(today), earlier: Arc::new(earlier) }
    }

    /// The parts of today.
    pub(crate) fn today(&self) -> &Roles {
        &self.today
    }

    /// The parts in the earlier policies, the latest first, as far as a session between these two may live that one of them
    /// gave to another worker.
    #[inline]
    pub(crate) fn earlier(&self, ends: [IpAddr; 2], now: Tick) -> &[Arc<Roles>] {
        let Earlier { roles, changed, anywhere, last } = &*self.earlier;
        let concerned = !roles.is_empty()
            && now.get() <= last.load(Ordering::Relaxed) + LONGEST
            && (*anywhere || ends.iter().any(|end| changed.contains(end)));
        if concerned { roles } else { &[] }
    }

    /// This takes the place of `before` in a worker now.
    pub(crate) fn succeeds(&self, before: &Self, now: Tick) {
        if !Arc::ptr_eq(&self.earlier, &before.earlier) {
            self.matters(now);
        }
    }

    /// A session was found by an earlier policy: it is remembered for longer.
    pub(crate) fn matters(&self, now: Tick) {
        self.earlier.last.fetch_max(now.get(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use stage::balancer::{Algorithm, BackendSpec, Mode, OnBackendFailure, ServiceProtocol, ServiceSpec};
    use stage::syn_cookie::CookieMode;
    use stage::translate::{ForwardRule, PoolUses, SourceNatRule};

    use units::Nanos;

    use super::*;

    const NOON: Tick = Tick::new(1_000_000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn steering(backends: &[&str], hides: &str, previous: Option<&(Services, Steering)>) -> (Services, Steering) {
        let backend = |&text: &&str| BackendSpec {
            name: text.to_owned(),
            address: address(text),
            port: Some(8_080),
            weight: 1,
            hops: 0,
            server_id: None,
            disabled: false,
        };
        let shop = ServiceSpec {
            name: "shop".to_owned(),
            address: address("198.51.100.10"),
            protocol: ServiceProtocol::Tcp,
            ports: vec![PortRange::single(81), PortRange::single(80), PortRange::new(8_000, 8_100).unwrap()],
            algorithm: Algorithm::RoundRobin,
            attract: stage::balancer::Attract::OwnAddress,
            introduction: None,
            mode: Mode::Nat,
            source_address: Vec::new(),
            tunnel_source: Vec::new(),
            mss_clamp: None,
            persistence: None,
            quic: None,
            one_shot: false,
            drain_timeout: Nanos::from_secs(30),
            on_backend_failure: OnBackendFailure::Reselect,
            syn_cookies: CookieMode::Off,
            half_open_limit: None,
            tiers: Vec::new(),
            marker_vlan: None,
            backends: backends.iter().map(backend).collect(),
            probed: false,
        };
        let forward = ForwardRule {
            name: "ssh".to_owned(),
            from: Vec::new(),
            source: Vec::new(),
            address: address("198.51.100.1"),
            protocol: ServiceProtocol::Tcp,
            ports: PortRange::new(2_200, 2_209).unwrap(),
            to_address: address("10.0.0.30"),
            to_port: 20,
        };
        let rules = vec![SourceNatRule::new("out", vec![address(hides)])];
        let nat = Arc::new(SourceNat::new(rules, &PoolUses::compile(&["out".to_owned()], None)));
        let services = Services::compile(vec![shop], previous.map(|(services, _)| services));
        let forwards = DestinationNat::new(vec![forward], None);
        let steering = Steering::compile(
            &services,
            &forwards,
            (&nat, &Arc::default()),
            &[],
            previous.map(|(_, steering)| steering),
        );
        (services, steering)
    }

    #[test]
    fn ends_have_their_parts() {
        let (_, steering) = steering(&["10.0.0.21"], "198.51.100.20", None);
        let today = steering.today();
        let asked = |text, port| today.asked(address(text), 6, port);
        let ports = [79, 80, 81, 82, 7_999, 8_000, 8_100, 8_101];
        assert_eq!(
            ports.map(|port| asked("198.51.100.10", port)),
            [false, true, true, false, false, true, true, false]
        );
        assert!(asked("198.51.100.1", 2_209) && !asked("198.51.100.1", 2_210) && !asked("198.51.100.2", 80));
        let serves = |text, port| today.serves(address(text), 6, port);
        assert!(serves("10.0.0.21", 8_080) && !serves("10.0.0.21", 80) && !serves("10.0.0.22", 8_080));
        assert!(serves("10.0.0.30", 20) && serves("10.0.0.30", 29) && !serves("10.0.0.30", 30));
        assert!(!today.serves(address("10.0.0.21"), 17, 8_080));
        assert!(today.hides(address("198.51.100.20")) && !today.hides(address("198.51.100.10")));
    }

    #[test]
    fn the_same_parts_again_are_no_change() {
        let first = steering(&["10.0.0.21"], "198.51.100.20", None);
        let second = steering(&["10.0.0.21"], "198.51.100.20", Some(&first));
        assert!(Arc::ptr_eq(&first.1.today, &second.1.today));
        assert!(second.1.earlier.roles.is_empty());
    }

    #[test]
    fn what_has_changed_is_remembered_as_long_as_a_session_may_live() {
        let first = steering(&["10.0.0.21"], "198.51.100.20", None);
        let (_, second) = steering(&["10.0.0.21"], "198.51.100.21", Some(&first));
        second.succeeds(&first.1, NOON);
        let concerned = |ends: [&str; 2], at| second.earlier(ends.map(address), Tick::new(at)).len();
        let noon = NOON.get();
        assert_eq!(concerned(["198.51.100.20", "192.0.2.1"], noon), 1);
        assert_eq!(concerned(["192.0.2.1", "198.51.100.21"], noon + LONGEST), 1);
        assert_eq!(concerned(["198.51.100.10", "192.0.2.1"], noon), 0, "its part is the same");
        assert_eq!(concerned(["198.51.100.20", "192.0.2.1"], noon + LONGEST + 1), 0);
        second.matters(Tick::new(noon + 100));
        assert_eq!(concerned(["198.51.100.20", "192.0.2.1"], noon + LONGEST + 100), 1);
    }

    #[test]
    fn a_backend_that_is_still_used_stays_what_it_was() {
        let mut known = steering(&["10.0.0.20"], "198.51.100.20", None);
        let used = Arc::clone(&known.0.iter().next().unwrap().members()[0].backend);
        for number in 21..60 {
            known = steering(&[&format!("10.0.0.{number}")], "198.51.100.20", Some(&known));
            assert!(known.1.today().serves(used.address(), 6, 8_080));
            assert!(known.1.earlier.roles.len() <= EARLIER);
        }
        drop(used);
        known = steering(&["10.0.0.99"], "198.51.100.20", Some(&known));
        assert!(!known.1.today().serves(address("10.0.0.20"), 6, 8_080), "nobody has a session with it");
    }
}
