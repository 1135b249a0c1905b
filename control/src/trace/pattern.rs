//! The `--match` language for packets: that of `show sessions --match`, as far as it speaks of what a single packet says as
//! it arrives, `ingress=PORT`, the port it came by, and `tenant=NAME`, whose VLAN it is in.
//!
//! ```text
//! protocol=tcp source=198.51.100.0/24 port=80 ingress=outside
//! ```
//!
//! Parsed by the command line and by the API; the names of ports and tenants are looked up in the tables in force.

use core::fmt;
use core::str::FromStr;

use units::PortId;
use worker::{PacketMatch, PacketTerm, Snapshot, TERMS_MAX};

use crate::session_match::{MatchError, Term};

/// The fields, for the sentence that names them.
const FIELDS: &str =
    "protocol, address, source, destination, port, source-port, destination-port, ingress, from-kernel, owner, tenant";

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Told(Term),
    Protocol(PacketTerm),
    Ingress(String),
    Tenant(String),
}

/// Which packets are wanted: those every term holds for. Without terms, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketPattern {
    conditions: Vec<Condition>,
    text: String,
}

/// Why a text is no packet pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no match at all.
    #[error(transparent)]
    NoMatch(#[from] MatchError),
    /// A field that sessions have and packets have not.
    #[error("a packet has no field '{0}'; the fields are {FIELDS}")]
    OfSessions(String),
    /// A protocol without a name here.
    #[error("'{0}' is not a protocol; write tcp, udp, icmp, icmpv6, arp, or its number")]
    Protocol(String),
    /// Too much is asked.
    #[error("there are more than {TERMS_MAX} terms")]
    TooMany,
}

fn protocol(name: &str) -> Option<PacketTerm> {
    Some(match name.to_ascii_lowercase().as_str() {
        "arp" => PacketTerm::Arp,
        "tcp" => PacketTerm::Protocol(6),
        "udp" => PacketTerm::Protocol(17),
        "icmp" => PacketTerm::Protocol(1),
        "icmpv6" => PacketTerm::Protocol(58),
        number => PacketTerm::Protocol(number.parse().ok()?),
    })
}

impl PacketPattern {
    /// The same for workers; ports and tenants are those of these tables.
    ///
    /// # Errors
    /// A sentence: no port or tenant has that name.
    pub fn resolved(&self, snapshot: &Snapshot) -> Result<PacketMatch, String> {
        let mut wanted = PacketMatch::default();
        for condition in &self.conditions {
            let term = match condition {
                Condition::Protocol(term) => *term,
                Condition::Ingress(name) => PacketTerm::Ingress(port_named(snapshot, name)?),
                Condition::Tenant(name) => {
                    let tenant = snapshot.tenants.named(name).ok_or_else(|| format!("there is no tenant {name}"))?;
                    PacketTerm::Tenant(tenant.id)
                }
                Condition::Told(term) => told(term).ok_or("this cannot be asked of a packet")?,
            };
            wanted.terms.try_push(term).map_err(|_| PatternError::TooMany.to_string())?;
        }
        Ok(wanted)
    }
}

/// The port of this name.
///
/// # Errors
/// A sentence that names those there are.
pub fn port_named(snapshot: &Snapshot, name: &str) -> Result<PortId, String> {
    let ports = (0..).map(PortId::new).zip(&snapshot.ports);
    let found = ports.clone().find(|(_, facts)| facts.name == name).map(|(port, _)| port);
    found.ok_or_else(|| {
        let names: Vec<&str> = ports.map(|(_, facts)| facts.name.as_str()).collect();
        format!("there is no port {name}; the ports are {}", names.join(", "))
    })
}

/// The same of a packet; `None` for what only sessions have.
fn told(term: &Term) -> Option<PacketTerm> {
    Some(match term {
        Term::Address(net) => PacketTerm::Address(*net),
        Term::Source(net) => PacketTerm::Source(*net),
        Term::Destination(net) => PacketTerm::Destination(*net),
        Term::Port(range) => PacketTerm::Port(*range.start(), *range.end()),
        Term::SourcePort(range) => PacketTerm::SourcePort(*range.start(), *range.end()),
        Term::DestinationPort(range) => PacketTerm::DestinationPort(*range.start(), *range.end()),
        Term::Owner(worker) => PacketTerm::Owner(units::WorkerId::new(*worker)),
        Term::FromKernel(wanted) => PacketTerm::FromKernel(*wanted),
        Term::Protocol(_) | Term::State(_) | Term::Service(_) | Term::Backend(_) | Term::Graph(_) | Term::Tenant(_) => {
            return None;
        }
    })
}

impl FromStr for PacketPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let condition = |written: &str| {
            let (field, value) = written.split_once('=').ok_or_else(|| MatchError::NotATerm(written.to_owned()))?;
            match field {
                "ingress" if !value.is_empty() => return Ok(Condition::Ingress(value.to_owned())),
                "tenant" if !value.is_empty() => return Ok(Condition::Tenant(value.to_owned())),
                "protocol" if !value.is_empty() => {
                    let term = protocol(value).ok_or_else(|| PatternError::Protocol(value.to_owned()))?;
                    return Ok(Condition::Protocol(term));
                }
                _ => {}
            }
            match Term::parse(field, value) {
                Ok(term) if told(&term).is_some() => Ok(Condition::Told(term)),
                Ok(_) | Err(MatchError::UnknownField(_)) => Err(PatternError::OfSessions(field.to_owned())),
                Err(error) => Err(error.into()),
            }
        };
        let conditions: Vec<_> = text.split_whitespace().map(condition).collect::<Result<_, _>>()?;
        if conditions.len() > TERMS_MAX {
            return Err(PatternError::TooMany);
        }
        Ok(Self { conditions, text: text.to_owned() })
    }
}

impl fmt::Display for PacketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let too_many = "port=1 ".repeat(17);
        for (text, sentence) in [
            ("tcp", "'tcp' is not of the form field=value"),
            ("state=established", "a packet has no field 'state'"),
            ("colour=blue", "a packet has no field 'colour'; the fields are protocol, address"),
            ("ingress=", "'' is not a value, as ingress= needs"),
            ("protocol=sctp", "'sctp' is not a protocol"),
            ("protocol=256", "'256' is not a protocol"),
            ("port=80-70", "'80-70' is not a port or a range of ports"),
            (too_many.as_str(), "there are more than 16 terms"),
        ] {
            let error = text.parse::<PacketPattern>().unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{text}: {error}");
        }
    }

    #[test]
    fn a_pattern_prints_as_it_was_written() {
        let text = "protocol=tcp  port=80 ingress=outside from-kernel=false owner=1 address=10.0.0.0/8 tenant=acme";
        assert_eq!(text.parse::<PacketPattern>().unwrap().to_string(), text);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<PacketPattern>();
        }
    }
}
