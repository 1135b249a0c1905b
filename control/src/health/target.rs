//! What is probed, as the policy has it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::Policy;
use config::policy::Probe;
use stage::introduction::Introduction;

/// One backend and how it is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The virtual service.
    pub service: String,
    /// The backend, by its name in the service.
    pub backend: String,
    /// Where the probes go; ICMP has no use for the port.
    pub address: SocketAddr,
    /// What a probe is; never [`Probe::None`].
    pub probe: Probe,
    /// Whether the backend expects the PROXY protocol's header before anything is said.
    pub introduced: bool,
    /// From one probe to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Answers in a row that make the backend up.
    pub rise: u32,
    /// Misses in a row that make it failed.
    pub fall: u32,
}

impl Target {
    /// Whether what was found of `other` holds of this one too: the same backend, asked the same thing.
    pub(super) fn continues(&self, other: &Self) -> bool {
        (&self.service, &self.backend, self.address, &self.probe, self.introduced)
            == (&other.service, &other.backend, other.address, &other.probe, other.introduced)
    }
}

/// Every backend that the policy wants probed. Disabled backends are probed too, so that their health is known when they
/// come back.
#[must_use]
pub fn targets(policy: &Policy) -> Vec<Target> {
    policy
        .services
        .iter()
        .filter(|service| service.health.kind != Probe::None)
        .flat_map(|service| {
            service.spec.backends.iter().map(|backend| Target {
                service: service.spec.name.clone(),
                backend: backend.name.clone(),
                address: (backend.address, service.probe_port(backend)).into(),
                probe: service.health.kind.clone(),
                introduced: service.spec.introduction == Some(Introduction::ProxyV2),
                interval: service.health.interval.into(),
                timeout: service.health.timeout.into(),
                rise: service.health.rise,
                fall: service.health.fall,
            })
        })
        .collect()
}

/// The `Host` header of a probe that names none: the address, and the port where it is not 80.
pub(super) fn host_of(address: SocketAddr) -> String {
    match (address.ip(), address.port()) {
        (IpAddr::V4(ip), 80) => ip.to_string(),
        (IpAddr::V6(ip), 80) => format!("[{ip}]"),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_of_a_probed_service_is_a_target() {
        let text = include_str!("../../../config/examples/edge.toml");
        let policy = config::load(text, std::path::Path::new("edge.toml")).unwrap().policy;
        let targets = targets(&policy);
        let places: Vec<_> =
            targets.iter().map(|t| (t.backend.as_str(), t.address.to_string(), t.probe.name())).collect();
        let place = |backend, address: &str, probe| (backend, address.to_owned(), probe);
        assert_eq!(
            places,
            [
                place("shop-a", "10.0.0.11:8080", "http"),
                place("shop-b", "10.0.0.12:8080", "http"),
                // Without a table of its own: a TCP service is probed by connecting, a UDP one not at all.
                place("shop6-a", "[2001:db8:10::11]:8080", "tcp"),
            ]
        );
        assert_eq!((targets[0].interval, targets[0].timeout), (Duration::from_secs(1), Duration::from_millis(500)));
        assert_eq!((targets[0].rise, targets[0].fall), (2, 3));
    }

    #[test]
    fn the_host_header_leaves_out_port_80() {
        for (address, host) in [
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(host_of(address.parse().unwrap()), host);
        }
    }
}
