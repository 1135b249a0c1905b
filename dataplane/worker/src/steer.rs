//! Which worker owns a packet's session, computed from the packet and the policy alone, so that every worker finds the
//! same answer whichever of them received it (design, section 2, sharding). Ends of conversations are hashed as NICs hash
//! them ([`wire::toeplitz`]): one that spreads packets by the client's side, or by both ends where neither is rewritten,
//! delivers them to their owner.
//!
//! The client's side decides where it is visible in both directions: a virtual service's or a forward's client on the way
//! in, the receiver of what a backend sends on the way out. Where source NAT hides the client, the port it was given tells,
//! since the ports are split by worker. Everything else hashes both ends, in an order that does not depend on direction.

use std::net::IpAddr;

use stage::translate::{PortSlice, Together};
use units::WorkerId;
use wire::{Endpoints, Facts, QuotedTransport, Transport, toeplitz};

use crate::snapshot::Snapshot;
use crate::steering::Roles;

/// The ends of a conversation as one packet shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Ends {
    /// The ends of the session this packet belongs to: its own, or for an ICMP error those of the packet it quotes,
    /// turned round, since an error travels against the packet it is about.
    #[must_use]
    pub(crate) fn of(facts: &Facts) -> Self {
        let (endpoints, protocol, (source_port, destination_port)) = match facts.transport {
            Transport::Tcp(tcp) => (facts.endpoints, facts.protocol, (tcp.source_port, tcp.destination_port)),
            Transport::Udp { source_port, destination_port, .. } => {
                (facts.endpoints, facts.protocol, (source_port, destination_port))
            }
            Transport::Echo { identifier, .. } => (facts.endpoints, facts.protocol, (identifier, identifier)),
            Transport::IcmpError { quote, .. } => {
                let ports = match quote.transport {
                    QuotedTransport::Ports { source_port, destination_port, .. } => (destination_port, source_port),
                    QuotedTransport::Echo { identifier, .. } => (identifier, identifier),
                    QuotedTransport::Other => (0, 0),
                };
                (quote.endpoints.reversed(), quote.protocol, ports)
            }
            Transport::Icmp { .. } | Transport::Other | Transport::Unknown => (facts.endpoints, facts.protocol, (0, 0)),
        };
        Self::new(endpoints, protocol, source_port, destination_port)
    }

    /// Both addresses.
    #[must_use]
    pub(crate) const fn addresses(&self) -> [IpAddr; 2] {
        [self.source, self.destination]
    }

    /// These addresses and ports.
    #[must_use]
    pub(crate) const fn new(endpoints: Endpoints, protocol: u8, source_port: u16, destination_port: u16) -> Self {
        Self {
            source: endpoints.source(),
            destination: endpoints.destination(),
            protocol,
            source_port,
            destination_port,
        }
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

pub(crate) fn fold(secret: u64, address: IpAddr, port: u16) -> u64 {
    let words = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let [low, high] = halves(words);
    let factor = high ^ secret.rotate_left(32) ^ (u64::from(port) << 17) | 1;
    let [low, high] = halves(u128::from(low ^ secret) * u128::from(factor));
    mix(low ^ high)
}

fn halves(word: u128) -> [u64; 2] {
    [word & u128::from(u64::MAX), word >> 64].map(|half| u64::try_from(half).unwrap_or(0))
}

pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^ (value >> 29)
}

fn choose(hash: u16, workers: usize) -> WorkerId {
    WorkerId::new(u16::try_from(toeplitz::part(hash, workers)).unwrap_or(0))
}

/// As [`choose`], for what no NIC spreads in a way that would help.
fn choose_keyed(hash: u64, workers: usize) -> WorkerId {
    // Multiply-shift instead of a division; workers are few.
    let scaled = (u128::from(hash) * workers as u128) >> 64;
    WorkerId::new(u16::try_from(scaled).unwrap_or(0))
}

/// The worker that collects the fragments between two addresses: later ones have no ports to find their session by.
#[must_use]
pub(crate) fn collector(endpoints: &Endpoints, snapshot: &Snapshot, workers: usize) -> WorkerId {
    let secret = snapshot.steer_secret;
    let (source, destination) = (endpoints.source(), endpoints.destination());
    choose_keyed(mix(fold(secret, source, 0) ^ fold(secret.rotate_left(17), destination, 0)), workers)
}

/// The worker that owns the session of these ends, among `workers`; `slice` is any worker's share of the ports.
#[must_use]
pub(crate) fn owner(ends: &Ends, snapshot: &Snapshot, slice: &PortSlice, workers: usize) -> WorkerId {
    if workers <= 1 {
        return WorkerId::new(0);
    }
    owner_by(snapshot.steering.today(), ends, snapshot, slice, workers)
}

/// As [`owner`], if addresses and ports had these parts.
#[must_use]
pub(crate) fn owner_by(roles: &Roles, ends: &Ends, snapshot: &Snapshot, slice: &PortSlice, workers: usize) -> WorkerId {
    let Ends { source, destination, protocol, source_port, destination_port } = *ends;
    let by_source = || choose(toeplitz::end(source, source_port), workers);
    let by_destination = || choose(toeplitz::end(destination, destination_port), workers);
    let by_client = |position, client, port| {
        // Counted clients stay together with all their ports.
        let counted = roles.nat64().rule(position).is_some_and(|rule| rule.ports_per_source.is_some());
        choose(toeplitz::end(client, if counted { 0 } else { port }), workers)
    };

    if roles.asked(destination, protocol, destination_port) {
        return by_source();
    }
    if roles.asked(source, protocol, source_port) {
        return by_destination();
    }
    if !matches!(protocol, TCP | UDP | ICMP | ICMPV6) {
        // Without ports nothing would tell the answers behind a pool address: one worker has each such protocol.
        return choose_keyed(mix(snapshot.steer_secret ^ u64::from(protocol)), workers);
    }
    if let IpAddr::V6(asked) = destination
        && !roles.nat64().is_empty()
        && let Some((position, server)) = roles.nat64().find(asked)
    {
        // Who asks for another client's outside end meets it where that has its mapping.
        if roles.nat64().owns(server.into())
            && let Some(worker) = slice.owner(destination_port)
        {
            return worker;
        }
        return by_client(position, source, source_port);
    }
    if roles.hides(destination)
        && let Some(worker) = slice.owner(destination_port)
    {
        return worker;
    }
    // Of a client that no rule is for, whose packets are only routed: the answers come from behind the prefix.
    if let IpAddr::V6(answers) = source
        && !roles.nat64().is_empty()
        && let Some((position, _)) = roles.nat64().find(answers)
    {
        return by_client(position, destination, destination_port);
    }
    if roles.hides(source)
        && let Some(worker) = slice.owner(source_port)
    {
        return worker;
    }
    match (roles.serves(source, protocol, source_port), roles.serves(destination, protocol, destination_port)) {
        (true, false) => by_destination(),
        (false, true) => by_source(),
        (true, true) | (false, false) => {
            if roles.nat().keeps_mappings()
                && let Some(owner) = of_hidden_client(roles, ends, workers)
            {
                return owner;
            }
            choose(toeplitz::end(source, source_port) ^ toeplitz::end(destination, destination_port), workers)
        }
    }
}

/// The owner of what a client says whose sessions share a mapping or are counted, and of what is said to such a client
/// without translation: for both the client's side decides. Which side that is follows from the routes of the same policy, so
/// that both directions find the same.
fn of_hidden_client(roles: &Roles, ends: &Ends, workers: usize) -> Option<WorkerId> {
    let (near, far) = (roles.zone(ends.source)?, roles.zone(ends.destination)?);
    let nat = roles.nat();
    let by = |together, address, port| match together {
        Together::Endpoint => choose(toeplitz::end(address, port), workers),
        Together::Address => choose(toeplitz::end(address, 0), workers),
    };
    if let Some(together) = nat.together(near, far, ends.source) {
        return Some(by(together, ends.source, ends.source_port));
    }
    let together = nat.together(far, near, ends.destination)?;
    Some(by(together, ends.destination, ends.destination_port))
}
