//! Tunnels that end here: which packets they take, and where in such a packet the one inside begins.
//!
//! ```text
//! before  | Ethernet | outer IP | GRE, or UDP (and GUE) | IP packet |
//! after                                      | Ethernet | IP packet |
//! ```
//!
//! Only packets from the sources a tunnel names are taken: whoever may send into a tunnel chooses the source of what comes
//! out of it. One layer at a time; how many there may be is the worker's to say. Called by workers for packets to the
//! appliance's own addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use wire::{Facts, Fragment, checksum};

use super::Encapsulation;
use crate::DropReason;

/// IANA's numbers.
const IPV4_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

/// Bytes of the UDP header.
const UDP_HEADER: usize = 8;

/// GRE's first sixteen bits (RFC 2784, RFC 2890).
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;

/// A tunnel that ends here, as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The operator's name for it.
    pub name: String,
    /// How packets in it are wrapped. GUE is understood in both its variants.
    pub encapsulation: Encapsulation,
    /// The own address it ends at.
    pub address: IpAddr,
    /// Who may send into it, at least one.
    pub from: Vec<IpNet>,
}

/// The tunnels of one policy that end here.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    by_address: HashMap<IpAddr, Vec<Ending>>,
}

impl Endings {
    /// These tunnels.
    #[must_use]
    pub fn new(endings: &[Ending]) -> Self {
        let mut by_address: HashMap<_, Vec<_>> = HashMap::new();
        for ending in endings {
            by_address.entry(ending.address).or_default().push(ending.clone());
        }
        Self { by_address }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Whether a datagram is for a tunnel that ends here: its facts, and what its first fragment carries. It has to be put
    /// together before anybody can look inside.
    #[must_use]
    pub fn take_datagram(&self, facts: &Facts, payload: &[u8]) -> bool {
        let endings = self.by_address.get(&facts.endpoints.destination());
        endings.into_iter().flatten().any(|ending| takes(ending.encapsulation, facts.protocol, payload))
    }

    /// Where in `frame` the packet inside begins; `None` when the packet is for no tunnel that ends here, or a fragment.
    ///
    /// # Errors
    /// `TunnelSource` when nobody expects it from there, `TunnelHeader` when what stands between the IP headers is not what
    /// the tunnel has.
    #[must_use]
    pub fn inside(&self, frame: &[u8], facts: &Facts) -> Option<Result<usize, DropReason>> {
        let endings = self.by_address.get(&facts.endpoints.destination())?;
        if facts.fragment != Fragment::No {
            return None;
        }
        let payload = frame.get(usize::from(facts.transport_offset)..usize::from(facts.end))?;
        let source = facts.endpoints.source();
        let mut found = None;
        for ending in endings.iter().filter(|ending| takes(ending.encapsulation, facts.protocol, payload)) {
            let inside = if ending.from.iter().any(|net| net.contains(&source)) {
                between(ending.encapsulation, facts.protocol, payload)
            } else {
                Err(DropReason::TunnelSource)
            };
            // Of several at one address the one that takes the packet counts; otherwise any says what is wrong.
            match inside {
                Ok(len) => return Some(Ok(usize::from(facts.transport_offset) + len)),
                Err(reason) if found.is_none() || reason == DropReason::TunnelHeader => found = Some(Err(reason)),
                Err(_) => {}
            }
        }
        found
    }
}

/// Whether a packet of this protocol is for a tunnel of this kind.
fn takes(encapsulation: Encapsulation, protocol: u8, payload: &[u8]) -> bool {
    match (encapsulation, protocol) {
        (Encapsulation::IpIp, IPV4_IN_IP | IPV6_IN_IP) | (Encapsulation::Gre { .. }, GRE) => true,
        (Encapsulation::Gue { port, .. }, UDP) => {
            matches!(payload, [_, _, p0, p1, ..] if u16::from_be_bytes([*p0, *p1]) == port)
        }
        _ => false,
    }
}

/// Bytes between the outer header and the packet inside.
fn between(encapsulation: Encapsulation, protocol: u8, payload: &[u8]) -> Result<usize, DropReason> {
    let (len, version) = match encapsulation {
        Encapsulation::IpIp => (0, if protocol == IPV6_IN_IP { 6 } else { 4 }),
        Encapsulation::Gre { key } => gre(key, payload)?,
        Encapsulation::Gue { .. } => gue(payload)?,
    };
    // What is announced has to be what is there.
    match payload.get(len) {
        Some(first) if first >> 4 == version => Ok(len),
        Some(_) | None => Err(DropReason::TunnelHeader),
    }
}

/// The length of a GRE header and the IP version it announces. A checksum is verified, a sequence number passed over, and
/// whatever else RFC 2784 says to discard is discarded (section 2.3: reserved bits; routing, a version other than 0).
fn gre(key: Option<u32>, payload: &[u8]) -> Result<(usize, u8), DropReason> {
    let [f0, f1, e0, e1] = *payload.first_chunk().ok_or(DropReason::TunnelHeader)?;
    let flags = u16::from_be_bytes([f0, f1]);
    if flags & !(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE) != 0 {
        return Err(DropReason::TunnelHeader);
    }
    let mut len = 4;
    if flags & GRE_CHECKSUM != 0 {
        if checksum::plain(payload) != 0 {
            return Err(DropReason::TunnelHeader);
        }
        len += 4;
    }
    let mut said = None;
    if flags & GRE_KEY != 0 {
        let word = payload.get(len..).and_then(<[u8]>::first_chunk).ok_or(DropReason::TunnelHeader)?;
        said = Some(u32::from_be_bytes(*word));
        len += 4;
    }
    if flags & GRE_SEQUENCE != 0 {
        len += 4;
    }
    if said != key {
        return Err(DropReason::TunnelHeader);
    }
    match [e0, e1] {
        [0x08, 0x00] => Ok((len, 4)),
        [0x86, 0xdd] => Ok((len, 6)),
        _ => Err(DropReason::TunnelHeader),
    }
}

/// The length of UDP and GUE headers and the IP version they announce. Optional fields of variant 0 may change what is
/// inside, so a packet with any is refused.
fn gue(payload: &[u8]) -> Result<(usize, u8), DropReason> {
    let behind = payload.get(UDP_HEADER..).ok_or(DropReason::TunnelHeader)?;
    match behind {
        [0, IPV4_IN_IP, 0, 0, ..] => Ok((UDP_HEADER + 4, 4)),
        [0, IPV6_IN_IP, 0, 0, ..] => Ok((UDP_HEADER + 4, 6)),
        [first @ 0x40..=0x6f, ..] if matches!(first >> 4, 4 | 6) => Ok((UDP_HEADER, first >> 4)),
        _ => Err(DropReason::TunnelHeader),
    }
}

/// Carries congestion that the outer header tells of into the packet that begins `frame`'s IP header at `at` (RFC 6040
/// section 4.2). False when the packet inside cannot tell of it and has to be dropped.
#[must_use]
pub fn carry_congestion(frame: &mut [u8], at: usize, outer_class: u8) -> bool {
    const CE: u8 = 3;
    const ECT_1: u8 = 1;
    let Some(header) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<20>) else { return true };
    let v4 = header.first().is_some_and(|first| first >> 4 == 4);
    let [first, second, _, _, _, _, _, _, _, _, c0, c1, ..] = header;
    let inner = if v4 { *second & 3 } else { *second >> 4 & 3 };
    let combined = match (inner, outer_class & 3) {
        (0, CE) => return false,
        (0, _) | (CE, _) => inner,
        (_, CE) => CE,
        (2, ECT_1) => ECT_1,
        (_, _) => inner,
    };
    if combined == inner {
        return true;
    }
    if v4 {
        let old = u16::from_be_bytes([*first, *second]);
        *second = *second & !3 | combined;
        let delta = checksum::delta(&[old], &[u16::from_be_bytes([*first, *second])]);
        [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    } else {
        *second = *second & !0x30 | combined << 4;
    }
    true
}

/// The class of the IP packet that begins at `at`.
#[must_use]
pub fn class(frame: &[u8], at: usize) -> u8 {
    match frame.get(at..).and_then(<[u8]>::first_chunk::<2>) {
        Some([0x40..=0x4f, class]) => *class,
        Some([first @ 0x60..=0x6f, second]) => first << 4 | second >> 4,
        Some(_) | None => 0,
    }
}

#[cfg(test)]
mod tests;
