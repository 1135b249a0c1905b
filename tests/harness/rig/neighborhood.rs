//! The stations on the links: every address answers ARP and neighbor discovery at its own MAC, unless a test silences it.
//! That conversation is kept out of the tables, except in a rig that overhears it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Side;
use crate::packet::{Packet, advertisement, arp_reply, station};

/// What the stations make of a frame.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// It is talk between neighbors, which tables do not see.
    pub(super) private: bool,
    /// What a station says to it.
    pub(super) answer: Option<Packet>,
}

/// The stations.
#[derive(Debug, Default)]
pub(super) struct Neighborhood {
    silent: HashSet<IpAddr>,
    overheard: bool,
}

enum Talk {
    Question { asker: IpAddr, target: IpAddr },
    Statement,
}

fn talk(bytes: &[u8]) -> Option<Talk> {
    match bytes.get(12..14)? {
        [0x08, 0x06] => {
            let v4 = |at: usize| {
                bytes.get(at..at + 4).and_then(|octets| <[u8; 4]>::try_from(octets).ok()).map(Ipv4Addr::from)
            };
            let (asker, target) = (v4(28)?, v4(38)?);
            Some(if bytes.get(21) == Some(&1) && asker != target {
                Talk::Question { asker: asker.into(), target: target.into() }
            } else {
                Talk::Statement
            })
        }
        [0x86, 0xdd] if bytes.get(20) == Some(&58) => {
            let v6 = |at: usize| {
                bytes.get(at..at + 16).and_then(|octets| <[u8; 16]>::try_from(octets).ok()).map(Ipv6Addr::from)
            };
            match bytes.get(54)? {
                135 => Some(Talk::Question { asker: v6(22)?.into(), target: v6(62)?.into() }),
                136 => Some(Talk::Statement),
                _ => None,
            }
        }
        _ => None,
    }
}

impl Neighborhood {
    pub(super) fn silence(&mut self, address: IpAddr) {
        self.silent.insert(address);
    }

    pub(super) const fn overhear(&mut self) {
        self.overheard = true;
    }

    pub(super) fn hears(&self, side: Side, bytes: &[u8]) -> Heard {
        let Some(talk) = talk(bytes).filter(|_| !self.overheard) else { return Heard::default() };
        let answer = match (side, talk) {
            (Side::Wire(_), Talk::Question { asker, target }) if !self.silent.contains(&target) => {
                let (asker_text, target_text) = (asker.to_string(), target.to_string());
                let asker_mac = wire::MacAddr::new(bytes[6..12].try_into().expect("six bytes"));
                Some(if target.is_ipv4() {
                    arp_reply(station(target), &target_text, asker_mac, &asker_text)
                } else {
                    advertisement(&target_text, &asker_text)
                })
            }
            (Side::Wire(_), Talk::Question { .. } | Talk::Statement) | (Side::Kernel(_), _) => None,
        };
        Heard { private: true, answer }
    }
}
