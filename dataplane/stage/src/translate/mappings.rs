//! The mappings of one worker: which outside address and port an inside one has, for whom it holds, and who may answer it
//! (RFC 4787, RFC 5382 section 7, RFC 5508 section 3.1). Kept for the rules that ask for more than a session of their own
//! for each far end: [`Mapping`] or [`Filtering`] other than the default, or a limit of ports for each source.
//!
//! A mapping lives as long as one of its sessions, so sessions' timeouts are its timeouts. Ports of ICMP echo are
//! identifiers. Ports are split among workers, so mappings of two workers never meet. All memory is taken at start and
//! touched as it is needed; a full table is an outcome. Nothing here reads a clock.

use core::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use crate::Keyed;

use super::bounded::{Bounded, Number};
use super::{Filtering, Mapping};

/// An inside address and port, as far as one mapping holds for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The pool, by its number in `PoolUses`.
    pub pool: u16,
    /// The protocol, in the caller's numbering.
    pub protocol: u8,
    /// The client's address.
    pub address: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The far address and port it holds for; `None` for all.
    pub far: Option<(IpAddr, Option<u16>)>,
    /// The mapping's own number when it was [set aside](Mappings::set_aside), otherwise 0.
    pub aside: u32,
}

/// An outside address and port, as far as it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The protocol, in the caller's numbering.
    pub protocol: u8,
    /// The pool address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The far address and port it is taken for; `None` for all.
    pub far: Option<(IpAddr, Option<u16>)>,
}

/// What a mapping serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The inside end.
    pub inside: Inside,
    /// The outside end.
    pub outside: Outside,
    /// Who may open a conversation with it.
    pub filtering: Filtering,
}

/// Why a mapping was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMapping {
    /// The worker keeps as many as it may.
    Full,
    /// The source has as many ports as it may.
    SourceLimit,
}

/// The number of a mapping, as its sessions keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappingId(Number);

impl MappingId {
    /// The mapping with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number: from 1, below 2^31.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    mapped: Mapped,
    sessions: u32,
    limited: bool,
}

/// An outside port that one client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    pool: u16,
    protocol: u8,
    client: IpAddr,
    outside: (IpAddr, u16),
}

impl Port {
    const fn of(mapped: &Mapped) -> Self {
        let Mapped { inside, outside, .. } = mapped;
        let (pool, client) = (inside.pool, inside.address);
        Self { pool, protocol: outside.protocol, client, outside: (outside.address, outside.port) }
    }
}

/// The mappings of one worker.
#[derive(Debug)]
pub struct Mappings {
    by_inside: Bounded<Inside, Kept>,
    by_outside: Bounded<Outside, MappingId>,
    /// Sessions of a mapping with one far address, where those addresses may open others.
    permits: Bounded<(MappingId, IpAddr), u32>,
    /// Ports in use by one source of one pool, where they are limited.
    sources: Bounded<(u16, IpAddr), u32>,
    /// The mappings that share one of those ports, for different far ends.
    shared: Bounded<Port, u32>,
    /// Strangers choose ports and addresses.
    keyed: Keyed,
}

impl Mapping {
    /// The part of a far end that mappings of this kind hold for.
    #[must_use]
    pub const fn far(self, address: IpAddr, port: u16) -> Option<(IpAddr, Option<u16>)> {
        match self {
            Self::EndpointIndependent => None,
            Self::AddressDependent => Some((address, None)),
            Self::AddressAndPortDependent => Some((address, Some(port))),
        }
    }
}

impl Mappings {
    /// No mappings yet, and room for `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            by_inside: Bounded::new(capacity),
            by_outside: Bounded::new(capacity),
            permits: Bounded::new(capacity),
            sources: Bounded::new(capacity),
            shared: Bounded::new(capacity),
            keyed: Keyed::default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.by_inside.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.by_inside.is_empty()
    }

    /// Bytes set aside, touched or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.by_inside.bytes()
            + self.by_outside.bytes()
            + self.permits.bytes()
            + self.sources.bytes()
            + self.shared.bytes()
    }

    fn hash_end(&self, seed: u8, address: IpAddr, words: u64, far: Option<(IpAddr, Option<u16>)>) -> u64 {
        let mut hasher = self.keyed.build_hasher();
        hasher.write_u8(seed);
        let mut end = |address: IpAddr, words: u64| {
            match address {
                IpAddr::V4(v4) => hasher.write_u64(u64::from(v4.to_bits())),
                IpAddr::V6(v6) => hasher.write(&v6.octets()),
            }
            hasher.write_u64(words);
        };
        end(address, words);
        if let Some((far, port)) = far {
            end(far, port.map_or(u64::MAX, u64::from));
        }
        hasher.finish()
    }

    /// The same whether it is set aside or not.
    fn hash_inside(&self, key: &Inside) -> u64 {
        let words = u64::from(key.pool) << 32 | u64::from(key.protocol) << 16 | u64::from(key.port);
        self.hash_end(1, key.address, words, key.far)
    }

    fn hash_outside(&self, key: &Outside) -> u64 {
        self.hash_end(2, key.address, u64::from(key.protocol) << 16 | u64::from(key.port), key.far)
    }

    fn hash_permit(&self, &(mapping, far): &(MappingId, IpAddr)) -> u64 {
        self.hash_end(3, far, u64::from(mapping.0), None)
    }

    fn hash_source(&self, &(pool, address): &(u16, IpAddr)) -> u64 {
        self.hash_end(4, address, u64::from(pool), None)
    }

    fn hash_port(&self, key: &Port) -> u64 {
        let words = u64::from(key.pool) << 32 | u64::from(key.protocol) << 16 | u64::from(key.outside.1);
        self.hash_end(5, key.client, words, Some((key.outside.0, None)))
    }

    /// The mapping of an inside end.
    #[must_use]
    pub fn find(&self, inside: &Inside) -> Option<MappingId> {
        self.by_inside.find(self.hash_inside(inside), inside).map(MappingId)
    }

    /// Whether an outside end is taken.
    #[must_use]
    pub fn is_taken(&self, outside: &Outside) -> bool {
        self.by_outside.find(self.hash_outside(outside), outside).is_some()
    }

    /// What a mapping serves.
    #[must_use]
    pub fn get(&self, id: MappingId) -> Option<&Mapped> {
        self.by_inside.get(id.0).map(|(_, kept)| &kept.mapped)
    }

    /// Sets a mapping aside that would not be given any more: its sessions keep it to their end, and its outside end stays
    /// taken; the inside end gets another one.
    pub fn set_aside(&mut self, id: MappingId) {
        let Some(kept) = self.by_inside.get_mut(id.0) else { return };
        kept.mapped.inside.aside = id.0;
        let inside = kept.mapped.inside;
        self.by_inside.rename(id.0, inside);
    }

    /// Ports a source of a pool has in use, where they are limited.
    #[must_use]
    pub fn ports_of(&self, pool: u16, source: IpAddr) -> u32 {
        let key = (pool, source);
        let found = self.sources.find(self.hash_source(&key), &key).and_then(|number| self.sources.get(number));
        found.map_or(0, |(_, &ports)| ports)
    }

    /// Makes a mapping without sessions: the caller [`retain`](Self::retain)s it for one. Neither end may be there yet.
    /// `limit` is how many the source may have.
    ///
    /// # Errors
    /// When there is no room, or the source has as many as it may; nothing has changed then.
    pub fn open(&mut self, mapped: Mapped, limit: Option<u32>) -> Result<MappingId, NoMapping> {
        // Each of the maps has room for as many entries as there may be sessions; an entry of any needs one.
        if self.by_inside.is_full() || self.by_outside.is_full() || self.permits.is_full() {
            return Err(NoMapping::Full);
        }
        if let Some(limit) = limit {
            self.charge(&mapped, limit)?;
        }
        let kept = Kept { mapped, sessions: 0, limited: limit.is_some() };
        let id = self.by_inside.insert(self.hash_inside(&mapped.inside), mapped.inside, kept).map(MappingId);
        let id = id.ok_or(NoMapping::Full)?;
        let _ = self.by_outside.insert(self.hash_outside(&mapped.outside), mapped.outside, id);
        Ok(id)
    }

    /// Counts one more port of a source, unless it has that port for another far end.
    fn charge(&mut self, mapped: &Mapped, limit: u32) -> Result<(), NoMapping> {
        let port = Port::of(mapped);
        let port_hash = self.hash_port(&port);
        if let Some(number) = self.shared.find(port_hash, &port)
            && let Some(mappings) = self.shared.get_mut(number)
        {
            *mappings += 1;
            return Ok(());
        }
        if self.shared.is_full() {
            return Err(NoMapping::Full);
        }
        let key = (mapped.inside.pool, mapped.inside.address);
        let hash = self.hash_source(&key);
        match self.sources.find(hash, &key) {
            Some(number) => {
                let ports = self.sources.get_mut(number).ok_or(NoMapping::Full)?;
                if *ports >= limit {
                    return Err(NoMapping::SourceLimit);
                }
                *ports += 1;
            }
            None if limit == 0 => return Err(NoMapping::SourceLimit),
            None => {
                self.sources.insert(hash, key, 1).ok_or(NoMapping::Full)?;
            }
        }
        let _ = self.shared.insert(port_hash, port, 1);
        Ok(())
    }

    /// Takes back what [`charge`](Self::charge) counted.
    fn discharge(&mut self, mapped: &Mapped) {
        let port = Port::of(mapped);
        let hash = self.hash_port(&port);
        if !self.shared.find(hash, &port).is_some_and(|number| count_down(&mut self.shared, hash, number)) {
            return;
        }
        let key = (mapped.inside.pool, mapped.inside.address);
        let hash = self.hash_source(&key);
        if let Some(number) = self.sources.find(hash, &key) {
            count_down(&mut self.sources, hash, number);
        }
    }

    /// One more session of a mapping, with this far address.
    pub fn retain(&mut self, id: MappingId, far: IpAddr) {
        let Some(kept) = self.by_inside.get_mut(id.0) else { return };
        kept.sessions += 1;
        if kept.mapped.filtering != Filtering::AddressDependent || kept.mapped.inside.far.is_some() {
            return;
        }
        let key = (id, far);
        let hash = self.hash_permit(&key);
        match self.permits.find(hash, &key).and_then(|number| self.permits.get_mut(number)) {
            Some(sessions) => *sessions += 1,
            None => {
                // No room: that address has to wait until it is asked again.
                let _ = self.permits.insert(hash, key, 1);
            }
        }
    }

    /// One session less. When it was the last, the mapping ends, and what it served is returned.
    pub fn release(&mut self, id: MappingId, far: IpAddr) -> Option<Mapped> {
        let key = (id, far);
        let hash = self.hash_permit(&key);
        if let Some(number) = self.permits.find(hash, &key) {
            count_down(&mut self.permits, hash, number);
        }
        let kept = self.by_inside.get_mut(id.0)?;
        kept.sessions = kept.sessions.saturating_sub(1);
        self.abandon(id)
    }

    /// Ends a mapping that has no session, and returns what it served.
    fn abandon(&mut self, id: MappingId) -> Option<Mapped> {
        let (_, &Kept { mapped, sessions, limited }) = self.by_inside.get(id.0)?;
        if sessions > 0 {
            return None;
        }
        self.by_inside.remove(self.hash_inside(&mapped.inside), id.0);
        let hash = self.hash_outside(&mapped.outside);
        if let Some(number) = self.by_outside.find(hash, &mapped.outside) {
            self.by_outside.remove(hash, number);
        }
        if limited {
            self.discharge(&mapped);
        }
        Some(mapped)
    }

    /// The mapping that a packet from `far` to this outside end may open a conversation with.
    #[must_use]
    pub fn admits(&self, protocol: u8, address: IpAddr, port: u16, far: IpAddr) -> Option<MappingId> {
        if self.is_empty() {
            return None;
        }
        let find = |far| {
            let outside = Outside { protocol, address, port, far };
            let number = self.by_outside.find(self.hash_outside(&outside), &outside)?;
            self.by_outside.get(number).map(|(_, &id)| id)
        };
        let id = find(None).or_else(|| find(Some((far, None))))?;
        let mapped = self.get(id)?;
        let admitted = match mapped.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => {
                let permit = (id, far);
                mapped.inside.far.is_some() || self.permits.find(self.hash_permit(&permit), &permit).is_some()
            }
            Filtering::AddressAndPortDependent => false,
        };
        admitted.then_some(id)
    }

    /// The mapping whose outside end this is for every far end, whoever may open a conversation with it.
    #[must_use]
    pub fn behind(&self, protocol: u8, address: IpAddr, port: u16) -> Option<MappingId> {
        let outside = Outside { protocol, address, port, far: None };
        let number = self.by_outside.find(self.hash_outside(&outside), &outside)?;
        self.by_outside.get(number).map(|(_, &id)| id)
    }
}

/// Counts an entry down; at nothing it is removed. True then.
fn count_down<K: Copy + Eq>(counts: &mut Bounded<K, u32>, hash: u64, number: Number) -> bool {
    let Some(count) = counts.get_mut(number) else { return false };
    *count = count.saturating_sub(1);
    *count == 0 && counts.remove(hash, number)
}

#[cfg(test)]
mod tests;
