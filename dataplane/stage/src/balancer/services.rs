//! All virtual services of one policy, compiled: found by address and port, each with its members and the table its
//! algorithm reads.
//!
//! Built in management ([`Services::compile`]), put in force by control ([`Services::enact`]), read by workers, never
//! changed. A change of health or administration makes new tables with [`Services::rebuilt`]; everything that did not
//! change is shared. Running backends are carried from policy to policy, and those a policy left out are found again by a
//! later one for as long as they have sessions ([`absent`](super::absent)).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use units::limits::MAGLEV_TABLE;
use units::{BackendId, Nanos, ServiceId};

use super::absent::{Absent, Standing};
use super::index::Index;
use super::maglev::{Claimant, Ring};
use super::schedule::Schedule;
use super::service::{Algorithm, Mode, ServiceSpec};
use super::stable_hash::StableHash;
use super::{Backend, Health, Member, Persistence, Untracked};
use crate::Keyed;
use crate::syn_cookie::SynGuard;
use crate::translate::Pool;
use crate::tunnel::PathMtu;

/// What an algorithm reads to choose.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// Weighted round robin.
    Schedule(Arc<Schedule>),
    /// Maglev and source-hash.
    Ring(Arc<Ring>),
    /// Least-connections.
    FewestSessions,
    /// Least-load.
    LeastLoad,
}

impl Plan {
    fn new(algorithm: Algorithm, members: &[Member], weights: &[u32]) -> Self {
        match algorithm {
            Algorithm::RoundRobin => Self::Schedule(Arc::new(Schedule::new(weights))),
            Algorithm::LeastConnections => Self::FewestSessions,
            Algorithm::LeastLoad => Self::LeastLoad,
            Algorithm::Maglev | Algorithm::SourceHash => {
                let claimants: Vec<Claimant<'_>> = members
                    .iter()
                    .zip(weights)
                    .zip(0..=u16::MAX)
                    .map(|((member, &weight), position)| Claimant {
                        position,
                        identity: identity(&member.backend),
                        name: member.backend.name(),
                        weight,
                    })
                    .collect();
                Self::Ring(Arc::new(Ring::new(&claimants, MAGLEV_TABLE)))
            }
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Schedule(schedule) => schedule.memory(),
            Self::Ring(ring) => ring.memory(),
            Self::FewestSessions | Self::LeastLoad => 0,
        }
    }
}

/// Who a backend is in a ring: where it is, whatever it is called.
fn identity(backend: &Backend) -> u64 {
    StableHash::new(0).address(backend.address()).word(backend.port().map_or(u64::MAX, u64::from)).finish()
}

/// One virtual service, compiled.
#[derive(Clone, Debug)]
pub struct Service {
    id: ServiceId,
    spec: Arc<ServiceSpec>,
    members: Arc<[Member]>,
    /// The weights `plan` was made with: 0 for those that were not selectable.
    weights: Arc<[u32]>,
    plan: Plan,
    pool: Arc<Pool>,
    /// Positions of backends by what QUIC connection ids call them.
    named: Arc<HashMap<u128, usize>>,
    standing: Standing,
}

impl Service {
    /// Its number in this policy.
    #[must_use]
    pub const fn id(&self) -> ServiceId {
        self.id
    }

    /// The service as written.
    #[must_use]
    pub fn spec(&self) -> &ServiceSpec {
        &self.spec
    }

    /// Its backends, in the order they are listed.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The addresses that hide the client in `full-nat`; empty in the other modes.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The memory of sources, if the service has one.
    #[must_use]
    pub fn persistence(&self) -> Option<&Persistence> {
        self.standing.persistence.as_deref()
    }

    /// What all workers count of its handshakes; the same as long as a service of this name is in the
    /// policy, or one of its backends has sessions.
    #[must_use]
    pub const fn guard(&self) -> &Arc<SynGuard> {
        &self.standing.guard
    }

    /// Its connections that have no session; the same as long as a service of this name is in the
    /// policy, or one of its backends has sessions.
    #[must_use]
    pub fn untracked(&self) -> &Untracked {
        &self.standing.untracked
    }

    pub(super) fn named(&self) -> &HashMap<u128, usize> {
        &self.named
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    fn current_weights(members: &[Member]) -> Arc<[u32]> {
        members.iter().map(Member::effective_weight).collect()
    }

    /// Whether its plan is what [`Plan::new`] would make of these: the same backends in the same order.
    fn has_plan_of(&self, algorithm: Algorithm, members: &[Member], weights: &[u32]) -> bool {
        self.spec.algorithm == algorithm
            && *self.weights == *weights
            && self.members.iter().map(|member| member.backend.key()).eq(members.iter().map(|it| it.backend.key()))
    }

    fn replanned(&self) -> Self {
        let weights = Self::current_weights(&self.members);
        if weights == self.weights {
            return self.clone();
        }
        let plan = Plan::new(self.spec.algorithm, &self.members, &weights);
        Self { weights, plan, ..self.clone() }
    }
}

/// The virtual services of one policy.
#[derive(Clone, Debug)]
pub struct Services {
    services: Arc<[Service]>,
    index: Arc<Index>,
    places: Arc<HashMap<u64, (ServiceId, usize), Keyed>>,
    absent: Arc<Absent>,
    /// The paths of tunnels, by the address they lead to.
    paths: Arc<HashMap<IpAddr, Arc<PathMtu>>>,
}

impl Default for Services {
    fn default() -> Self {
        Self::compile(Vec::new(), None)
    }
}

impl Services {
    /// Compiles what `config` has validated. Backends that `previous` has under the same service, name, address and port
    /// go on with their condition and counters, and so do those that an earlier policy had and that still have sessions:
    /// what is taken out and put back moves no session. Nothing of `previous` is changed.
    #[must_use]
    pub fn compile(specs: Vec<ServiceSpec>, previous: Option<&Self>) -> Self {
        let running: HashMap<u64, Arc<Backend>> =
            previous.into_iter().flat_map(Self::alive).map(|backend| (backend.key(), backend)).collect();
        let mut known: HashMap<IpAddr, Arc<PathMtu>> =
            running.values().map(|backend| (backend.address(), Arc::clone(backend.path()))).collect();
        let mut paths = HashMap::new();
        let before: HashMap<&str, &Service> =
            previous.into_iter().flat_map(Self::iter).map(|service| (service.spec.name.as_str(), service)).collect();
        let earlier = previous.map(|previous| &*previous.absent);
        let index = Index::new(&specs);
        let mut numbers = 0u32..;
        let mut places = HashMap::default();
        let services: Arc<[Service]> = specs
            .into_iter()
            .zip(0u32..)
            .map(|(spec, number)| {
                let id = ServiceId::new(number);
                let members: Arc<[Member]> = spec
                    .backends
                    .iter()
                    .zip(&mut numbers)
                    .map(|(written, number)| {
                        let path = known.entry(written.address).or_default();
                        if matches!(spec.mode, Mode::Tunnel(_)) {
                            paths.insert(written.address, Arc::clone(path));
                        }
                        let fresh = Backend::new(&spec.name, &written.name, written.address, written.port, spec.probed)
                            .on_path(path);
                        Member {
                            id: BackendId::new(number),
                            backend: running.get(&fresh.key()).map_or_else(|| Arc::new(fresh), Arc::clone),
                            weight: written.weight,
                            hops: written.hops,
                            disabled: written.disabled,
                            probed: spec.probed,
                        }
                    })
                    .collect();
                places.extend(
                    members.iter().enumerate().map(|(position, member)| (member.backend.key(), (id, position))),
                );
                let weights = Service::current_weights(&members);
                let same = before.get(spec.name.as_str());
                let plan = same
                    .filter(|same| same.has_plan_of(spec.algorithm, &members, &weights))
                    .map_or_else(|| Plan::new(spec.algorithm, &members, &weights), |same| same.plan.clone());
                let pool = Arc::new(Pool::new(&spec.source_address));
                let written = spec.backends.iter().enumerate();
                let named = written.filter_map(|(position, backend)| Some((backend.server_id?, position))).collect();
                let kept = same.map(|same| &same.standing);
                let kept = kept.or_else(|| earlier?.standing(&spec.name)).cloned().unwrap_or_default();
                let persistence = spec.persistence.map(|_| kept.persistence.clone().unwrap_or_default());
                let standing = Standing { persistence, ..kept };
                let (spec, named) = (Arc::new(spec), Arc::new(named));
                Service { id, spec, members, weights, plan, pool, named, standing }
            })
            .collect();
        let gone = previous.into_iter().flat_map(Self::alive).filter(|backend| !places.contains_key(&backend.key()));
        let standings = before.iter().map(|(&name, service)| (name, &service.standing)).collect();
        let absent = Arc::new(Absent::new(gone, &standings, earlier));
        Self { services, index: Arc::new(index), places: Arc::new(places), absent, paths: Arc::new(paths) }
    }

    /// The backends of this policy, and those of earlier ones that are remembered.
    fn alive(&self) -> impl Iterator<Item = Arc<Backend>> {
        let members = self.services.iter().flat_map(Service::members).map(|member| Arc::clone(&member.backend));
        self.departed().chain(members)
    }

    /// Backends of earlier policies that this one has not and that somebody still uses, or that the operator has drained.
    pub fn departed(&self) -> impl Iterator<Item = Arc<Backend>> {
        self.absent.backends()
    }

    /// The same services with the tables that today's health and administration ask for. What did not change is shared.
    #[must_use]
    pub fn rebuilt(&self) -> Self {
        let services = self.services.iter().map(Service::replanned).collect();
        Self { services, ..self.clone() }
    }

    /// Whether [`rebuilt`](Self::rebuilt) would change any table.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.services.iter().any(|service| Service::current_weights(&service.members) != service.weights)
    }

    /// Tells the backends that this policy is now in force instead of `previous`: those it disables, and those of
    /// `previous` it no longer has, get no new sessions and lose their present ones after their service's drain timeout.
    /// Those that return after a time out of the policy keep their sessions, and get new ones when their probes have
    /// risen. Returns the backends that were removed. Called by management when it publishes, never for a policy that is
    /// not put in force.
    pub fn enact(&self, previous: Option<&Self>, now: Nanos) -> Vec<Arc<Backend>> {
        for service in self.iter() {
            for member in service.members() {
                let returns = previous.is_some_and(|previous| previous.locate(&member.backend).is_none());
                if returns && member.probed && member.backend.health() == Health::Up {
                    // Nobody has looked after it meanwhile.
                    member.backend.set_health(Health::Unknown);
                }
                if member.disabled {
                    member.backend.withdraw(now + service.spec.drain_timeout);
                } else {
                    member.backend.admit();
                }
                if !member.probed {
                    member.backend.set_health(Health::Up);
                }
            }
        }
        let mut removed = Vec::new();
        for service in previous.into_iter().flat_map(Self::iter) {
            for member in service.members().iter().filter(|member| self.locate(&member.backend).is_none()) {
                member.backend.withdraw(now + service.spec.drain_timeout);
                removed.push(Arc::clone(&member.backend));
            }
        }
        removed
    }

    /// The service that is asked at this address, protocol and port.
    #[must_use]
    pub fn find(&self, destination: IpAddr, protocol: u8, port: u16) -> Option<ServiceId> {
        self.index.find(destination, protocol, port)
    }

    /// Whether this is a virtual address.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        self.index.owns(address)
    }

    /// What is known of the path to this address, when tunnels lead there.
    #[must_use]
    pub fn path_to(&self, address: IpAddr) -> Option<&PathMtu> {
        self.paths.get(&address).map(|path| &**path)
    }

    /// Every virtual address once, in no particular order.
    pub fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.index.virtual_addresses()
    }

    /// Every address that hides clients of a `full-nat` service once, in no particular order.
    pub fn pool_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.index.pool_addresses()
    }

    /// The service that attracts in line and has this address, protocol and port as a backend; the first listed where there
    /// are several.
    #[must_use]
    pub fn of_backend_in_line(&self, address: IpAddr, protocol: u8, port: u16) -> Option<ServiceId> {
        self.index.of_backend_in_line(address, protocol, port)
    }

    /// The service with this number; `None` for a number of another policy.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index())
    }

    /// The service with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.spec.name == name)
    }

    /// Where a running backend stands in this policy: its service, and its position among the members. `None` when this
    /// policy does not have it.
    #[must_use]
    pub fn locate(&self, backend: &Backend) -> Option<(ServiceId, usize)> {
        self.places.get(&backend.key()).copied()
    }

    /// The running backend with this [key](Backend::key), of this policy.
    #[must_use]
    pub fn with_key(&self, key: u64) -> Option<(&Service, &Arc<Backend>)> {
        let (service, position) = *self.places.get(&key)?;
        let service = self.service(service)?;
        Some((service, &service.members().get(position)?.backend))
    }

    /// Every service, in the order they are listed.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// How many services there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Bytes of the tables that choices read and write.
    #[must_use]
    pub fn memory(&self) -> usize {
        let tables = |service: &Service| {
            size_of::<Service>() + service.plan.memory() + service.persistence().map_or(0, Persistence::memory)
        };
        self.services.iter().map(tables).sum()
    }
}
