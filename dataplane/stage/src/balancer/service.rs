//! A virtual service and its backends as an operator means them, validated by `config`.

use std::net::IpAddr;

use units::{Nanos, ServiceId};

use super::quic::QuicIds;
use crate::PortRange;
use crate::introduction::Introduction;
use crate::syn_cookie::CookieMode;
use crate::tunnel::Encapsulation;

/// How a backend is chosen for a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Each in turn, by weight.
    RoundRobin,
    /// Fewest active sessions for its weight (SE-55, SE-56).
    LeastConnections,
    /// Smallest active sessions x (hops + 1) (SE-57, SE-63).
    LeastLoad,
    /// Consistent hash of the client's address and port (Eisenbud et al., NSDI 2016, section 3.4).
    Maglev,
    /// Consistent hash of the client's address alone.
    SourceHash,
}

impl Algorithm {
    /// Whether each choice depends on the sessions that earlier ones opened (SE-67).
    #[must_use]
    pub const fn counts_sessions(self) -> bool {
        matches!(self, Self::LeastConnections | Self::LeastLoad)
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::LeastLoad => "least-load",
            Self::Maglev => "maglev",
            Self::SourceHash => "source-hash",
        }
    }
}

/// How a packet is taken to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Destination address and port are rewritten; replies pass the appliance.
    Nat,
    /// Source and destination are rewritten; the backend sees a pool address.
    FullNat,
    /// Only the MAC addresses change; the backend owns the service's address and answers the client itself.
    Direct,
    /// The packet is wrapped in another to the backend, which owns the service's address and answers the client itself.
    Tunnel(Encapsulation),
}

impl Mode {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "full-nat",
            Self::Direct => "direct",
            Self::Tunnel(encapsulation) => encapsulation.name(),
        }
    }

    /// Whether backends answer clients themselves: they own the service's address, ports are not rewritten, and the
    /// appliance sees one direction only.
    #[must_use]
    pub const fn returns_directly(self) -> bool {
        matches!(self, Self::Direct | Self::Tunnel(_))
    }
}

/// How clients' packets come to a service (SE-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attract {
    /// They are taken out of what passes through a pair of ports (SE-15). Whoever has the address keeps it.
    InLine,
    /// The appliance answers for the address (SE-19).
    OwnAddress,
    /// Others direct them to a port's own MAC address: switches, routers (SE-20).
    External,
}

impl Attract {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InLine => "inline",
            Self::OwnAddress => "own-address",
            Self::External => "external",
        }
    }
}

/// The largest segment that ends of a TCP connection may agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentClamp {
    /// What the links and the tunnel carry.
    ToPath,
    /// This many bytes, whatever they carry.
    To(u16),
}

/// What happens to the sessions of a backend that failed (SE-54).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnBackendFailure {
    /// UDP sessions and TCP ones not yet established move to another backend; established TCP is reset.
    Reselect,
    /// Every session is reset (TCP) or dropped (UDP).
    Reset,
}

/// The protocol of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl ServiceProtocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One backend as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// The operator's name for it, unique in its service.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// Its port; `None` keeps the port the client asked for (services with a range of ports, `direct`).
    pub port: Option<u16>,
    /// Its share among the others; 0 gets no new sessions.
    pub weight: u32,
    /// Physical connections between this appliance and it (SE-58).
    pub hops: u32,
    /// What QUIC connection ids call it.
    pub server_id: Option<u128>,
    /// Taken out of service by the operator: it keeps its sessions until the drain timeout.
    pub disabled: bool,
}

/// One virtual service as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The operator's name for it, unique in the policy.
    pub name: String,
    /// The address clients ask.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: ServiceProtocol,
    /// The ports clients ask; none overlaps another service's on the same address and protocol.
    pub ports: Vec<PortRange>,
    /// How its clients' packets come here; the same for all services of one address.
    pub attract: Attract,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// How it is reached.
    pub mode: Mode,
    /// Pool addresses that hide the client (`full-nat` only).
    pub source_address: Vec<IpAddr>,
    /// Where tunnels begin, one address of ours a family at most; a family without one begins at the outgoing port's.
    pub tunnel_source: Vec<IpAddr>,
    /// Whether and to what the segment size that TCP ends announce is lowered.
    pub mss_clamp: Option<SegmentClamp>,
    /// Whether and how backends are told of their clients; TCP, and not with direct return.
    pub introduction: Option<Introduction>,
    /// For how long after its last session a source address keeps its backend.
    pub persistence: Option<Nanos>,
    /// How QUIC connection ids name backends, if they do.
    pub quic: Option<QuicIds>,
    /// Whether a session ends when its questions are answered (UDP).
    pub one_shot: bool,
    /// For how long a removed or disabled backend keeps its sessions.
    pub drain_timeout: Nanos,
    /// What happens to the sessions of a failed backend.
    pub on_backend_failure: OnBackendFailure,
    /// Whether clients have to prove their handshake; TCP, and not with `direct`.
    pub syn_cookies: CookieMode,
    /// Handshakes that may be under way at a time; those of clients that have proven theirs are not among them. TCP.
    pub half_open_limit: Option<u32>,
    /// What packets of clients pass before they come to a backend, in order: each tier is a service of the same policy that
    /// nobody asks, with its instances as backends.
    pub tiers: Vec<ServiceId>,
    /// The VLAN of the first tier less one, where VLANs tell what tiers a packet has passed.
    pub marker_vlan: Option<u16>,
    /// The backends, at least one.
    pub backends: Vec<BackendSpec>,
    /// Whether backends are probed; without probes every backend counts as up from the start, with them it is out until
    /// it has risen.
    pub probed: bool,
}

impl ServiceSpec {
    /// Whether it is a tier of another service: nobody asks it.
    #[must_use]
    pub const fn is_tier(&self) -> bool {
        self.ports.is_empty()
    }

    /// Whether its clients' packets may go to a backend that follows from the client alone, without a session: where the backend
    /// answers by itself, and nothing stands before it.
    #[must_use]
    pub const fn can_go_untracked(&self) -> bool {
        self.mode.returns_directly() && self.tiers.is_empty()
    }

    /// Whether the handshakes under way are counted.
    #[must_use]
    pub const fn counts_handshakes(&self) -> bool {
        matches!(self.syn_cookies, CookieMode::Adaptive { .. }) || self.half_open_limit.is_some()
    }
}
