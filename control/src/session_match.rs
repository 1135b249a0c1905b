//! The `--match` language for sessions: terms of the form `field=value`, all of which must hold.
//!
//! ```text
//! protocol=tcp service=shop source=198.51.100.0/24 port=80 state=established
//! ```
//!
//! Parsed by the command line (so that a mistake is wrong usage) and by the API; evaluated by the appliance on each
//! session's record. `source`, `destination`, `source-port` and `destination-port` speak of the opener's packets as they
//! arrive; `address` and `port` look at every address and port of both directions. `from-kernel=false` leaves out what the
//! appliance's own kernel opened, health probes above all.

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::status::SessionStatus;

/// The fields, for the sentence that names them.
const FIELDS: &str = "protocol, state, service, backend, graph, address, source, destination, port, source-port, \
                      destination-port, owner, from-kernel, tenant";

/// One `field=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    Protocol(String),
    State(String),
    Service(String),
    Backend(String),
    Graph(String),
    Address(IpNet),
    Source(IpNet),
    Destination(IpNet),
    Port(RangeInclusive<u16>),
    SourcePort(RangeInclusive<u16>),
    DestinationPort(RangeInclusive<u16>),
    Owner(u16),
    FromKernel(bool),
    Tenant(String),
}

/// Which sessions are wanted: those every term holds for. Without terms, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionMatch {
    terms: Vec<Term>,
    text: String,
}

/// Why a text is no session match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// No `=`.
    #[error("'{0}' is not of the form field=value")]
    NotATerm(String),
    /// A field that sessions do not have.
    #[error("sessions have no field '{0}'; the fields are {FIELDS}")]
    UnknownField(String),
    /// A value that cannot be.
    #[error("'{value}' is not {expected}, as {field}= needs")]
    BadValue {
        /// The field.
        field: String,
        /// What stood there.
        value: String,
        /// What should have.
        expected: &'static str,
    },
}

impl SessionMatch {
    /// Whether every session is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether this session is wanted.
    #[must_use]
    pub fn matches(&self, session: &SessionStatus) -> bool {
        self.terms.iter().all(|term| term.holds(session))
    }
}

impl Term {
    /// The term of this field and value.
    pub(crate) fn parse(field: &str, value: &str) -> Result<Self, MatchError> {
        let bad = |expected| MatchError::BadValue { field: field.to_owned(), value: value.to_owned(), expected };
        if value.is_empty() {
            return Err(bad("a value"));
        }
        let net = || parse_net(value).ok_or_else(|| bad("an address or a prefix"));
        let ports = || parse_ports(value).ok_or_else(|| bad("a port or a range of ports"));
        let word = || value.to_ascii_lowercase();
        Ok(match field {
            "protocol" => Self::Protocol(word()),
            "state" => Self::State(word()),
            "service" => Self::Service(value.to_owned()),
            "backend" => Self::Backend(value.to_owned()),
            "graph" => Self::Graph(value.to_owned()),
            "tenant" => Self::Tenant(value.to_owned()),
            "address" => Self::Address(net()?),
            "source" => Self::Source(net()?),
            "destination" => Self::Destination(net()?),
            "port" => Self::Port(ports()?),
            "source-port" | "source_port" => Self::SourcePort(ports()?),
            "destination-port" | "destination_port" => Self::DestinationPort(ports()?),
            "owner" => Self::Owner(value.parse().map_err(|_| bad("the number of a worker"))?),
            "from-kernel" | "from_kernel" => Self::FromKernel(word().parse().map_err(|_| bad("true or false"))?),
            _ => return Err(MatchError::UnknownField(field.to_owned())),
        })
    }

    fn holds(&self, session: &SessionStatus) -> bool {
        let SessionStatus { original, reply, .. } = session;
        let addresses = [original.source, original.destination, reply.source, reply.destination];
        let ports = [original.source_port, original.destination_port, reply.source_port, reply.destination_port];
        let instances = || session.tiers.iter().filter_map(|stop| stop.split_once('/'));
        match self {
            Self::Protocol(name) => *name == session.protocol,
            Self::State(name) => session.state.eq_ignore_ascii_case(name),
            Self::Service(name) => session.service.as_ref() == Some(name) || instances().any(|(tier, _)| tier == name),
            Self::Backend(name) => session.backend.as_ref() == Some(name) || instances().any(|(_, it)| it == name),
            Self::Graph(name) => session.graph.as_ref() == Some(name),
            Self::Address(net) => addresses.iter().any(|address| net.contains(address)),
            Self::Source(net) => net.contains(&original.source),
            Self::Destination(net) => net.contains(&original.destination),
            Self::Port(range) => ports.iter().any(|port| range.contains(port)),
            Self::SourcePort(range) => range.contains(&original.source_port),
            Self::DestinationPort(range) => range.contains(&original.destination_port),
            Self::Owner(worker) => *worker == session.owner,
            Self::FromKernel(wanted) => *wanted == session.from_kernel,
            Self::Tenant(name) => session.tenant.as_ref() == Some(name),
        }
    }
}

/// An address alone is a prefix of full length; host bits of a prefix are ignored.
fn parse_net(value: &str) -> Option<IpNet> {
    value.parse::<IpNet>().ok().or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `80` or `8000-8100`.
fn parse_ports(value: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

impl FromStr for SessionMatch {
    type Err = MatchError;

    fn from_str(text: &str) -> Result<Self, MatchError> {
        let terms = text
            .split_whitespace()
            .map(|term| {
                let (field, value) = term.split_once('=').ok_or_else(|| MatchError::NotATerm(term.to_owned()))?;
                Term::parse(field, value)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { terms, text: text.to_owned() })
    }
}

impl fmt::Display for SessionMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::TupleStatus;

    /// A client behind source translation that asks a balanced service.
    fn session() -> SessionStatus {
        SessionStatus {
            in_line: false,
            tenant: Some("acme".into()),
            tiers: vec!["shop.tier-1/scrub-a".into()],
            protocol: "tcp".into(),
            state: "established".into(),
            original: TupleStatus {
                source: "198.51.100.7".parse().unwrap(),
                source_port: 40_000,
                destination: "198.51.100.10".parse().unwrap(),
                destination_port: 80,
            },
            reply: TupleStatus {
                source: "10.0.0.11".parse().unwrap(),
                source_port: 8080,
                destination: "10.0.0.1".parse().unwrap(),
                destination_port: 1024,
            },
            service: Some("shop".into()),
            backend: Some("shop-a".into()),
            graph: None,
            packets: 4,
            bytes: 400,
            idle_ms: 10,
            expires_ms: 1_000,
            owner: 1,
            from_kernel: false,
        }
    }

    #[test]
    fn a_session_is_wanted_when_every_term_holds() {
        let session = session();
        for (text, wanted) in [
            ("", true),
            ("protocol=tcp", true),
            ("protocol=TCP state=Established", true),
            ("protocol=udp", false),
            ("service=shop source=198.51.100.0/24 port=80 state=established", true),
            ("service=shop source=203.0.113.0/24", false),
            ("service=sho", false),
            ("backend=shop-a", true),
            ("graph=web", false),
            ("destination=198.51.100.10", true),
            ("source-port=40000 destination_port=80", true),
            ("source-port=80", false),
            ("port=1000-1100", true),
            ("port=8079", false),
            ("owner=1", true),
            ("owner=0", false),
            ("from-kernel=false", true),
            ("from_kernel=True", false),
            ("source=::/0", false),
            ("tenant=acme", true),
            ("tenant=acm", false),
        ] {
            assert_eq!(text.parse::<SessionMatch>().unwrap().matches(&session), wanted, "{text}");
        }
    }

    #[test]
    fn source_and_destination_are_the_openers_while_address_is_anywhere() {
        let session = session();
        for (text, wanted) in [("source=10.0.0.11", false), ("address=10.0.0.11", true), ("address=10.0.0.12", false)] {
            assert_eq!(text.parse::<SessionMatch>().unwrap().matches(&session), wanted, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, sentence) in [
            ("tcp", "'tcp' is not of the form field=value"),
            ("colour=blue", "sessions have no field 'colour'"),
            ("port=80-70", "'80-70' is not a port or a range of ports, as port= needs"),
            ("port=65536", "'65536' is not a port or a range of ports"),
            ("source=10.0.0", "'10.0.0' is not an address or a prefix, as source= needs"),
            ("owner=x", "'x' is not the number of a worker"),
            ("from-kernel=1", "'1' is not true or false, as from-kernel= needs"),
            ("service=", "'' is not a value, as service= needs"),
        ] {
            let error = text.parse::<SessionMatch>().unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{text}: {error}");
        }
    }

    #[test]
    fn a_match_prints_as_it_was_written() {
        let text = "protocol=tcp  port=80";
        assert_eq!(text.parse::<SessionMatch>().unwrap().to_string(), text);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<SessionMatch>();
        }
    }
}
