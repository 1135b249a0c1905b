//! The tables in force: everything a worker reads, compiled by management into one immutable set and swapped as one.
//!
//! A worker holds an `Arc` of the set, takes a new one between two bursts and sends the old one back to control, so that
//! no packet sees two policies and no worker ever frees a table.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use session::{Pickup, Timeouts};
use stage::anti_spoof::Sources;
use stage::balancer::Services;
use stage::extension_policy::ExtensionPolicy;
use stage::firewall::Ruleset;
use stage::forward::RouteTable;
use stage::limiter::SourceLimits;
use stage::translate::nat64::Nat64;
use stage::translate::{DestinationNat, PoolUses, SourceNat};
use stage::tunnel::Endings;
use stage::{AddressSet, DropReason, Keyed, PortRange};
use units::{Generation, PerSecond, PortId, ServiceId, ZoneId};
use wire::{Extensions, MacAddr};

use crate::packet::Origin;
use crate::session_log::SessionLog;
use crate::steering::Steering;
use crate::tenants::Tenants;
use crate::tiering::Tiering;

/// What a worker knows of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// The operator's name for it.
    pub name: String,
    /// Its zone.
    pub zone: ZoneId,
    /// Its MAC.
    pub mac: MacAddr,
    /// Largest IP packet it sends, bytes.
    pub mtu: u16,
    /// Its own addresses, with their prefixes.
    pub addresses: Vec<IpNet>,
    /// Whether a kernel interface stands beside it.
    pub kernel: bool,
    /// The pair it belongs to.
    pub pair: Option<Pair>,
}

/// Two ports that frames pass through, as one of them sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its number, below [`PAIRS_MAX`](units::limits::PAIRS_MAX): what sessions call it.
    pub number: u16,
    /// The port that frames leave by.
    pub other: PortId,
}

/// What becomes of TCP packets of unknown sessions that do not open one (EVA-21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Midstream {
    /// They are dropped.
    #[default]
    Strict,
    /// They open a session whose windows are learnt.
    Loose,
}

impl Midstream {
    /// The same for the session table.
    #[must_use]
    pub const fn pickup(self) -> Pickup {
        match self {
            Self::Strict => Pickup::Strict,
            Self::Loose => Pickup::Loose,
        }
    }
}

/// What fragments may take of the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentBounds {
    /// Fragments that may wait for others, on all workers together; read when a worker is made.
    pub capacity: usize,
    /// Bounds for each datagram.
    pub limits: stage::reassembly::Limits,
}

/// What tables serve and do not draw packets to yet, since some worker may still have tables that do not serve it (SE-23).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quiet {
    /// Addresses that are not answered for.
    pub addresses: HashSet<IpAddr, Keyed>,
    /// Services whose packets pass in line as they came, but for those to these ports, which every worker takes in.
    pub services: HashMap<ServiceId, Vec<PortRange>>,
}

impl Quiet {
    /// Whether there is nothing of the kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.services.is_empty()
    }

    /// Whether packets of a service in line, to this port of its own, are taken in already.
    pub(crate) fn takes_in(&self, service: ServiceId, port: u16) -> bool {
        self.services.get(&service).is_none_or(|ports| ports.iter().any(|range| range.contains(port)))
    }

    /// Whether packets to backends of a service in line are: those of a new one's are not.
    pub(crate) fn takes_in_backends(&self, service: ServiceId) -> bool {
        self.services.get(&service).is_none_or(|ports| !ports.is_empty())
    }
}

/// What a service's first packets need to know of its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The zone they are in.
    pub zone: ZoneId,
    /// The least MTU of the ports they are behind.
    pub mtu: u16,
    /// The pool that hides clients from them (`full-nat`), by its number in [`PoolUses`].
    pub pool: Option<u16>,
}

/// One compiled policy.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number. Two sets with the same number differ only in the state of backends, and in what is quiet.
    pub generation: Generation,
    /// The ports, by [`PortId`].
    pub ports: Vec<PortFacts>,
    /// The appliance's own addresses.
    pub own: HashMap<IpAddr, PortId>,
    /// Every address that belongs to the appliance in any way: its own, virtual ones that are not another station's, those
    /// that hide others.
    pub ours: Arc<AddressSet>,
    /// Of these, the ones that others direct here: the appliance does not answer for them.
    pub unanswered: Arc<HashSet<IpAddr, Keyed>>,
    /// What nobody is drawn to yet.
    pub quiet: Arc<Quiet>,
    /// Backends of services that are attracted in line: what they say of themselves on a paired port is told to control.
    pub watched: Arc<HashSet<IpAddr, Keyed>>,
    /// The tiers of services, and what tells those a packet has passed.
    pub tiering: Arc<Tiering>,
    /// Whom the VLANs of frames belong to that pass in line.
    pub tenants: Arc<Tenants>,
    /// Broadcast addresses of the connected prefixes.
    pub broadcast: Vec<Ipv4Addr>,
    /// The routes, connected prefixes included.
    pub routes: Arc<dyn RouteTable>,
    /// What is asked about sources of first packets and fragments, before anything else.
    pub sources: Arc<Sources>,
    /// Which IPv6 extension headers each zone lets in, by [`ZoneId`].
    pub extensions: Vec<ExtensionPolicy>,
    /// How many sessions a source of each zone may have.
    pub source_limits: SourceLimits,
    /// The firewall.
    pub rules: Arc<Ruleset>,
    /// The virtual services.
    pub services: Arc<Services>,
    /// What is behind each service, by [`ServiceId`].
    pub behind: Vec<Behind>,
    /// The tunnels that end here.
    pub endings: Arc<Endings>,
    /// Source NAT.
    pub source_nat: Arc<SourceNat>,
    /// Destination NAT.
    pub destination_nat: Arc<DestinationNat>,
    /// NAT64.
    pub nat64: Arc<Nat64>,
    /// What of all this decides whose a session is.
    pub steering: Steering,
    /// What the pools of source NAT and NAT64 are used for.
    pub pool_uses: Arc<PoolUses>,
    /// How long idle sessions live.
    pub timeouts: Timeouts,
    /// What fragments may take.
    pub fragments: FragmentBounds,
    /// TCP from the middle of a connection.
    pub midstream: Midstream,
    /// Answer TCP packets of no session with RST instead of silence (SE-37).
    pub reject_unknown: bool,
    /// Log records a worker may make in a second (SE-39).
    pub log_rate: PerSecond,
    /// Who is told of sessions that open and end; `None` when nobody wants to know.
    pub session_log: Option<Arc<SessionLog>>,
    /// A per-boot secret that decides which worker owns a session.
    pub steer_secret: u64,
}

impl Snapshot {
    /// The facts of a port.
    #[must_use]
    pub fn port(&self, port: PortId) -> Option<&PortFacts> {
        self.ports.get(port.index())
    }

    /// The zone of a port; the appliance's own when there is no such port.
    #[must_use]
    pub fn zone(&self, port: PortId) -> ZoneId {
        self.port(port).map_or(ZoneId::APPLIANCE, |facts| facts.zone)
    }

    /// Why a packet of `source` that came by `port` may open nothing; `None` when it may. What came out of a tunnel need not
    /// have come by the port that leads back.
    #[must_use]
    pub(crate) fn refuses_source(&self, port: PortId, source: IpAddr, origin: Origin) -> Option<DropReason> {
        let facts = self.port(port)?;
        if origin == Origin::Kernel || !self.sources.asks(facts.zone) {
            return None;
        }
        let astray =
            || origin == Origin::Wire && !self.sources.came_the_way_back(source, (port, facts.zone), &*self.routes);
        let unwelcome = self.sources.unwelcome(source, facts.zone, &facts.addresses);
        unwelcome.or_else(|| astray().then_some(DropReason::ReversePathFailed))
    }

    /// Why a packet with these extension headers may not come in by `port`; `None` when it may.
    #[must_use]
    pub fn refuses_extensions(&self, port: PortId, extensions: Extensions) -> Option<DropReason> {
        if extensions == Extensions::default() {
            return None;
        }
        self.extensions.get(self.zone(port).index()).copied().unwrap_or_default().refuses(extensions)
    }

    /// Why a session of `source` that came by `port` under an earlier policy may not go on; `None` when it may. The way it
    /// came is not asked again: routes change, and its windows hold it.
    #[must_use]
    pub fn disowns_source(&self, port: PortId, source: IpAddr) -> Option<DropReason> {
        let facts = self.port(port)?;
        self.sources.unwelcome(source, facts.zone, &facts.addresses)
    }

    /// The pair a port belongs to.
    #[must_use]
    pub fn pair(&self, port: PortId) -> Option<Pair> {
        self.port(port)?.pair
    }

    /// The zone behind a virtual service.
    #[must_use]
    pub fn service_zone(&self, service: ServiceId) -> ZoneId {
        self.behind.get(service.index()).map_or(ZoneId::APPLIANCE, |behind| behind.zone)
    }

    /// The least MTU on the way to a service's backends.
    #[must_use]
    pub fn mtu_behind(&self, service: ServiceId) -> u16 {
        self.behind.get(service.index()).map_or(u16::MAX, |behind| behind.mtu)
    }

    /// The pool that hides the clients of a `full-nat` service.
    #[must_use]
    pub fn pool_of(&self, service: ServiceId) -> Option<u16> {
        self.behind.get(service.index())?.pool
    }

    /// An own address of `port` in the family of `like`: the source of what the appliance originates there. IPv6 prefers
    /// an address of the same scope.
    #[must_use]
    pub fn address_like(&self, port: PortId, like: IpAddr) -> Option<IpAddr> {
        let addresses = &self.port(port)?.addresses;
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == like.is_ipv4();
        addresses
            .iter()
            .filter(same_family)
            .find(|net| net.contains(&like))
            .or_else(|| addresses.iter().find(same_family))
            .map(IpNet::addr)
    }

    /// Whether `address` is the broadcast address of a connected network.
    #[must_use]
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        // All of them end in two ones at least: networks of two addresses have none (RFC 3021).
        address.to_bits() & 3 == 3 && (address == Ipv4Addr::BROADCAST || self.broadcast.contains(&address))
    }
}
