//! Who sends fragments, and how much of the table each has: one sender gives up its own oldest datagram before it takes the
//! place of others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use units::TenantId;

use super::order::{List, NOWHERE, at};

/// A sender as it is counted: an IPv4 address of a tenant, or the /64 of an IPv6 one, which is what one host can use at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    tenant: TenantId,
    address: IpAddr,
}

impl Source {
    /// The sender that has this address with this tenant.
    #[must_use]
    pub fn of(tenant: TenantId, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        };
        Self { tenant, address }
    }
}

/// One sender's part of the table.
#[derive(Clone, Copy, Debug)]
struct Share {
    source: Source,
    /// Its datagrams, oldest first.
    datagrams: List,
    /// Its datagrams and fragments together.
    load: usize,
    /// The next free place, while this one is free.
    next_free: u32,
}

/// All senders with something in the table.
#[derive(Debug)]
pub(super) struct Sources {
    shares: Vec<Share>,
    index: HashMap<Source, u32>,
    free: u32,
    capacity: usize,
}

impl Sources {
    /// Room for this many, all its memory taken.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shares: Vec::with_capacity(capacity),
            // Twice as much as is ever in it: a map less than half full never grows.
            index: HashMap::with_capacity(2 * capacity),
            free: NOWHERE,
            capacity,
        }
    }

    /// The number of a sender who has something in the table.
    pub(super) fn find(&self, source: Source) -> Option<u32> {
        self.index.get(&source).copied()
    }

    /// The number of a sender, who is new if need be; `None` when there is no room.
    pub(super) fn obtain(&mut self, source: Source) -> Option<u32> {
        if let Some(number) = self.find(source) {
            return Some(number);
        }
        let new = Share { source, datagrams: List::EMPTY, load: 0, next_free: NOWHERE };
        let number = if let Some(place) = at(&mut self.shares, self.free) {
            let number = self.free;
            self.free = place.next_free;
            *place = new;
            number
        } else if self.shares.len() < self.capacity {
            let number = u32::try_from(self.shares.len()).ok()?;
            self.shares.push(new);
            number
        } else {
            return None;
        };
        self.index.insert(source, number);
        Some(number)
    }

    /// The datagrams of a sender.
    pub(super) fn datagrams(&mut self, number: u32) -> Option<&mut List> {
        at(&mut self.shares, number).map(|share| &mut share.datagrams)
    }

    /// How much a sender has in the table.
    pub(super) fn load(&self, number: u32) -> usize {
        usize::try_from(number).ok().and_then(|number| self.shares.get(number)).map_or(0, |share| share.load)
    }

    /// The sender has this much more.
    pub(super) fn add(&mut self, number: u32, load: usize) {
        if let Some(share) = at(&mut self.shares, number) {
            share.load += load;
        }
    }

    /// The sender has this much less; one with nothing is forgotten.
    pub(super) fn sub(&mut self, number: u32, load: usize) {
        let Some(share) = at(&mut self.shares, number) else { return };
        share.load = share.load.saturating_sub(load);
        if share.load == 0 && share.datagrams.is_empty() {
            let source = share.source;
            share.next_free = self.free;
            self.free = number;
            self.index.remove(&source);
        }
    }

    /// How many senders there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}
